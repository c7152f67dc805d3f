package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	defaultWorkers   = 4
	defaultGapWait   = 2 * time.Second
	defaultCompare   = 10 * time.Minute
	defaultRetryWait = 100 * time.Millisecond

	// stopGrace is how long an Apply that runs may go on after the end of Run's context.
	stopGrace = 5 * time.Second
	inboxKept = "30 days"
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
	// RetryWait is the pause after the first failed Apply, doubled after each further one; 100 ms
	// when 0.
	RetryWait time.Duration
}

func (cfg ConsumerConfig) withDefaults() ConsumerConfig {
	orDefault(&cfg.Workers, defaultWorkers)
	orDefault(&cfg.GapWait, defaultGapWait)
	orDefault(&cfg.CompareEvery, defaultCompare)
	orDefault(&cfg.RetryWait, defaultRetryWait)
	if cfg.AfterCommit == nil {
		cfg.AfterCommit = func() {}
	}
	return cfg
}

func orDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// Consumer keeps copies of another site's aggregates. Replicas may run at once and share the work.
type Consumer struct {
	cfg     ConsumerConfig
	topics  map[string]Topic
	log     *slog.Logger
	metrics consumerMetrics
	js      jetstream.JetStream

	queue    *scheduler
	compare  chan struct{} // a comparison is asked for
	heal     chan struct{} // an aggregate may be due for a snapshot
	caughtUp atomic.Bool   // the stream is read to its end
	ackWait  atomic.Int64  // of the durable

	nobodyUntil atomic.Int64 // Unix nanoseconds; nobody answers for the owner until then
}

// NewConsumer returns a consumer; Run does the work.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	cfg = cfg.withDefaults()
	source := cfg.FromTier + "/" + cfg.FromSite
	c := &Consumer{
		cfg:     cfg,
		topics:  make(map[string]Topic, len(cfg.Topics)+1),
		log:     logOrDefault(cfg.Log).With("component", "consumer", "source", source),
		metrics: newConsumerMetrics(cfg.Registerer, cfg.Tier, cfg.Site, source),
		queue:   newScheduler(cfg.Workers),
		compare: make(chan struct{}, 1),
		heal:    make(chan struct{}, 1),
	}
	c.ackWait.Store(int64(ackWait))
	for _, topic := range slices.Concat(cfg.Topics, []Topic{c.ownTopic()}) {
		if err := c.addTopic(topic); err != nil {
			return nil, fmt.Errorf("consumer of %s: %w", source, err)
		}
	}
	js, err := jetstream.New(cfg.NATS, jetstream.WithDefaultTimeout(natsTimeout))
	if err != nil {
		return nil, fmt.Errorf("consumer of %s: %w", source, err)
	}
	c.js = js
	return c, nil
}

func (c *Consumer) addTopic(topic Topic) error {
	_, twice := c.topics[topic.Kind]
	switch {
	case twice:
		return fmt.Errorf("two topics of kind %q", topic.Kind)
	case !validSubject(topic.Kind+".x") || strings.Contains(topic.Kind, "."):
		return fmt.Errorf("kind %q is not an element of a subject", topic.Kind)
	case topic.Apply == nil:
		return fmt.Errorf("kind %s: Apply is missing", topic.Kind)
	case topic.Delta && topic.Replace == nil:
		return fmt.Errorf("kind %s: Delta needs Replace", topic.Kind)
	case topic.Passing && (topic.Delta || topic.Replace != nil):
		return fmt.Errorf("kind %s: Passing keeps no copy that differs or is replaced", topic.Kind)
	}
	c.topics[topic.Kind] = topic
	return nil
}

// ownTopic compares with an owner that says it was restored from a backup.
func (c *Consumer) ownTopic() Topic {
	return Topic{Kind: kindBus, Apply: func(context.Context, pgx.Tx, []Event) error {
		c.Compare()
		return nil
	}}
}

// Compare asks for a comparison with the owner's versions now. It does not wait.
func (c *Consumer) Compare() { signal(c.compare) }

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Run consumes until ctx ends and then returns nil; it can run once. Outages of Postgres and NATS
// are waited out.
func (c *Consumer) Run(ctx context.Context) error {
	work, stop := lingering(ctx, stopGrace)
	defer stop()
	var workers, helpers sync.WaitGroup
	for range c.cfg.Workers {
		workers.Go(func() { c.work(work) })
	}
	for _, helper := range []func(context.Context){c.fetch, c.keepAlive, c.healing, c.comparing, c.pruning} {
		helpers.Go(func() { helper(ctx) })
	}
	<-ctx.Done()
	for _, waiting := range c.queue.close() {
		waiting.giveBack()
	}
	workers.Wait()
	helpers.Wait()
	return nil
}

// lingering returns a context that ends a while after ctx.
func lingering(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		pause(longer, grace)
		cancel()
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// work applies what the queue hands out until it is closed.
func (c *Consumer) work(ctx context.Context) {
	for {
		jobs := c.queue.take()
		if jobs == nil {
			return
		}
		c.process(ctx, jobs)
		c.queue.done(jobs)
	}
}

// pruning removes what only protects against very late deliveries.
func (c *Consumer) pruning(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.prune(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("cannot prune", "error", err)
		}
		pause(ctx, pruneTick)
	}
}

func (c *Consumer) prune(ctx context.Context) error {
	_, inbox := c.cfg.Pool.Exec(ctx, "DELETE FROM inbox WHERE receive_time < now() - $1::interval", inboxKept)
	_, parts := c.cfg.Pool.Exec(ctx, "DELETE FROM snapshot_parts WHERE receive_time < now() - interval '1 hour'")
	return errors.Join(inbox, parts)
}
