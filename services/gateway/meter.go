package gateway

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type meter struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	bytes    *prometheus.CounterVec
	inFlight prometheus.Gauge
}

func newMeter(registerer prometheus.Registerer) (*meter, error) {
	m := &meter{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chapterhouse_http_requests_total",
			Help: "Requests answered, by method, route and status.",
		}, []string{"method", "route", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "chapterhouse_http_duration_seconds",
			Help:    "Time from a request's headers to the end of its answer, by method and route.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"method", "route"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "chapterhouse_http_bytes_total",
			Help: "Bytes of bodies, by direction (in, out) and route.",
		}, []string{"direction", "route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "chapterhouse_http_in_flight",
			Help: "Requests that are being answered.",
		}),
	}
	if registerer == nil {
		return m, nil
	}
	return m, errors.Join(
		registerer.Register(m.requests), registerer.Register(m.duration),
		registerer.Register(m.bytes), registerer.Register(m.inFlight),
	)
}

// begin counts a request in, and returns what counts it out.
func (m *meter) begin() func(method string, e *exchange, answer *response, took time.Duration) {
	m.inFlight.Inc()
	return func(method string, e *exchange, answer *response, took time.Duration) {
		method = knownMethod(method)
		m.inFlight.Dec()
		m.requests.WithLabelValues(method, e.route, strconv.Itoa(answer.code())).Inc()
		m.duration.WithLabelValues(method, e.route).Observe(took.Seconds())
		m.bytes.WithLabelValues("in", e.route).Add(float64(e.body.read.Load()))
		m.bytes.WithLabelValues("out", e.route).Add(float64(answer.bytes))
	}
}

// knownMethod keeps what a caller makes up from becoming a time series, or text in the log.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
