package bus

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
)

// ConsumerConfig says who consumes what from whom.
type ConsumerConfig struct {
	Pool *pgxpool.Pool
	NATS *nats.Conn
	// Tier and Site are the consumer's own.
	Tier, Site string
	// FromTier and FromSite own the stream.
	FromTier, FromSite string
	Topics             []Topic
	// Workers apply at once; 4 when 0. Each takes one connection of the pool.
	Workers    int
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// AfterCommit is called after each transaction that applied something; typically the own
	// publisher's Wake. It must not block.
	AfterCommit func()

	// GapWait is how long a missing version may be on its way before the owner is asked for a
	// snapshot; 2 s when 0.
	GapWait time.Duration
	// CompareEvery is the time between two comparisons of all versions with the owner's; 10
	// minutes when 0. The first comparison happens at the start.
	CompareEvery time.Duration
	// AckWait is how long JetStream waits for a consumer that died; 10 s when 0.
	AckWait time.Duration
	// RetryWait is the pause after the first failed Apply, doubled after each further one; 100 ms
	// when 0.
	RetryWait time.Duration
}

// Consumer keeps copies of another site's aggregates. Replicas may run at once and share the work.
type Consumer struct{}

// NewConsumer returns a consumer; Run does the work.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) { return &Consumer{}, nil }

// Run consumes until ctx ends and then returns nil. Outages of Postgres and NATS are waited out.
func (c *Consumer) Run(ctx context.Context) error { return errTodo }

// Compare asks for a comparison with the owner's versions now. It does not wait.
func (c *Consumer) Compare() {}
