package bus

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// ResponderConfig says who answers.
type ResponderConfig struct {
	Pool       *pgxpool.Pool
	NATS       *nats.Conn
	Tier, Site string
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Responder answers the snapshot and version requests of those who keep copies. Replicas share
// the requests.
type Responder struct{}

// NewResponder returns a responder for the given kinds; Run does the work.
func NewResponder(cfg ResponderConfig, owners ...Owner) *Responder { return &Responder{} }

// Run answers until ctx ends and then returns nil.
func (r *Responder) Run(ctx context.Context) error { return errTodo }
