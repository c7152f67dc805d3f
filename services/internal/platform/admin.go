package platform

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/chapterhouse/chapterhouse/services/gateway"
)

// Admin is where a service that runs alone shows its metrics and its health.
type Admin struct {
	Listener net.Listener
	Metrics  prometheus.Gatherer
}

// serve answers /metrics, /healthz and /readyz until ctx ends.
func (a Admin) serve(ctx context.Context, ready func(context.Context) error) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.Metrics, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if ready(ctx) != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	return gateway.Serve(ctx, a.Listener, mux, gateway.Config{DrainTimeout: time.Second}, nil)
}
