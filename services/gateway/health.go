package gateway

import (
	"context"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

const (
	healthPath  = "/healthz"
	readyPath   = "/readyz"
	metricsPath = "/metrics"
	probeLimit  = 2 * time.Second
)

func (g *gateway) health(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", mediaJSON)
	writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

// readiness asks every service at once.
func (g *gateway) readiness(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), probeLimit)
	defer cancel()
	states := make([]string, len(g.tiers))
	var asked sync.WaitGroup
	for i, tier := range g.tiers {
		asked.Go(func() { states[i] = stateOf(ctx, tier.conn) })
	}
	asked.Wait()
	answer := struct {
		Ready    bool              `json:"ready"`
		Services map[string]string `json:"services"`
	}{true, map[string]string{}}
	for i, tier := range g.tiers {
		answer.Services[tier.name] = states[i]
		answer.Ready = answer.Ready && states[i] == healthv1.HealthCheckResponse_SERVING.String()
	}
	w.Header().Set("Content-Type", mediaJSON)
	code := http.StatusOK
	if !answer.Ready {
		code = http.StatusServiceUnavailable
	}
	writeJSON(w, code, answer)
}

// stateOf is what a service says of itself, or the gRPC code of why it says nothing.
func stateOf(ctx context.Context, conn grpc.ClientConnInterface) string {
	answer, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return status.Code(err).String()
	}
	return answer.GetStatus().String()
}
