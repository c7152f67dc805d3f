package bus

import (
	"context"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// PublisherConfig says whose outbox goes where.
type PublisherConfig struct {
	Pool *pgxpool.Pool
	NATS *nats.Conn
	// Tier and Site own the outbox and the stream.
	Tier, Site string
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// OnRestored gives every aggregate the version {epoch, 1}: the stream holds events that this
	// database does not know, so it was restored from a backup and would give out versions a second
	// time. It runs before anything is published and may run again when its transaction fails.
	OnRestored func(ctx context.Context, tx pgx.Tx, epoch int64) error
}

// Publisher brings the outbox to JetStream. Replicas may run at once: one of them works.
type Publisher struct{ wake chan struct{} }

// NewPublisher returns a publisher; Run does the work.
func NewPublisher(cfg PublisherConfig) *Publisher { return &Publisher{wake: make(chan struct{}, 1)} }

// Wake says that there is something in the outbox. It never blocks; without it a new event is
// noticed within 100 ms.
func (p *Publisher) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends and then returns nil. Outages of Postgres and NATS are waited out.
func (p *Publisher) Run(ctx context.Context) error { return errTodo }
