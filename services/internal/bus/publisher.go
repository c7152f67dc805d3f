package bus

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	publishTick  = 100 * time.Millisecond // the outbox is read when nobody calls Wake
	verifyTick   = 5 * time.Second        // the stream is looked at when nothing else gives cause
	leaderTick   = time.Second            // a replica asks whether it may lead
	pruneTick    = time.Hour
	publishPause = 500 * time.Millisecond // after a failure
	// sessionTimeout ends a leadership whose session has gone silent.
	sessionTimeout = 30 * time.Second
	natsTimeout    = 5 * time.Second
	outboxKept     = "7 days"
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
type Publisher struct {
	cfg     PublisherConfig
	log     *slog.Logger
	metrics publisherMetrics
	wake    chan struct{}
}

// NewPublisher returns a publisher; Run does the work.
func NewPublisher(cfg PublisherConfig) *Publisher {
	return &Publisher{
		cfg:     cfg,
		log:     logOrDefault(cfg.Log).With("component", "publisher", "stream", Stream(cfg.Tier, cfg.Site)),
		metrics: newPublisherMetrics(cfg.Registerer, cfg.Tier, cfg.Site),
		wake:    make(chan struct{}, 1),
	}
}

// Wake says that there is something in the outbox. It never blocks; without it a new event is
// noticed within 100 ms.
func (p *Publisher) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run publishes until ctx ends and then returns nil. Outages of Postgres and NATS are waited out.
func (p *Publisher) Run(ctx context.Context) error {
	js, err := jetstream.New(p.cfg.NATS,
		jetstream.WithDefaultTimeout(natsTimeout), jetstream.WithPublishAsyncTimeout(natsTimeout))
	if err != nil {
		return fmt.Errorf("publisher: %w", err)
	}
	for ctx.Err() == nil {
		if err := p.lead(ctx, js); err != nil && ctx.Err() == nil {
			p.log.Warn("publishing was interrupted", "error", err)
		}
		pause(ctx, leaderTick)
	}
	return nil
}

// lead publishes while this process holds the leader's lock. The lock belongs to the session that
// also reads the outbox: when the session dies, so does the leadership.
func (p *Publisher) lead(ctx context.Context, js jetstream.JetStream) error {
	conn, err := p.cfg.Pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to the outbox: %w", err)
	}
	leading, err := tryLock(ctx, conn, lockKey("publisher", Stream(p.cfg.Tier, p.cfg.Site)))
	if err != nil || !leading {
		conn.Release()
		return err
	}
	session := conn.Hijack()
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), natsTimeout)
		defer cancel()
		_ = session.Close(closing) // gives the lock back
	}()
	// A mark that a crash of Postgres takes back means that an event is published once more.
	if _, err := session.Exec(ctx, "SET synchronous_commit = off"); err != nil {
		return fmt.Errorf("prepare the session: %w", err)
	}
	return (&publishing{Publisher: p, db: session, js: js}).run(ctx)
}

func tryLock(ctx context.Context, conn *pgxpool.Conn, key int64) (got bool, err error) {
	if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&got); err != nil {
		return false, fmt.Errorf("ask for the leader's lock: %w", err)
	}
	return got, nil
}

func lockKey(parts ...string) int64 {
	h := fnv.New64a()
	for _, part := range parts {
		_, _ = fmt.Fprintf(h, "bus/%s\x00", part)
	}
	return int64(h.Sum64())
}

// publishing is the work of a leader.
type publishing struct {
	*Publisher
	db *pgx.Conn
	js jetstream.JetStream

	verified   bool
	verifiedAt time.Time
	atomic     bool // the stream takes batches
	counted    time.Time
	pruned     time.Time
	known      streamState
}

// run returns when the session with Postgres is of no use any more. What goes wrong with NATS is
// tried again.
func (p *publishing) run(ctx context.Context) error {
	connected := p.cfg.NATS.StatusChanged(nats.CONNECTED)
	defer p.cfg.NATS.RemoveStatusListener(connected)
	tick := time.NewTicker(publishTick)
	defer tick.Stop()
	p.log.Info("leading")
	for {
		more, err := p.step(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case p.db.IsClosed() || isDatabase(err):
			return err
		case err != nil:
			p.verified = false
			p.log.Warn("cannot publish now", "error", err)
			pause(ctx, publishPause)
		case more:
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-connected:
			p.verified = false // it may be another server, or have lost its files
		case <-p.wake:
		case <-tick.C:
		}
	}
}

// step does what is due and reports whether the outbox may hold more.
func (p *publishing) step(ctx context.Context) (more bool, err error) {
	if !p.cfg.NATS.IsConnected() {
		p.verified = false
		return false, p.maintain(ctx)
	}
	if !p.verified || time.Since(p.verifiedAt) > verifyTick {
		if err := p.verify(ctx); err != nil {
			return false, err
		}
		p.verified, p.verifiedAt = true, now()
	}
	if err := p.maintain(ctx); err != nil {
		return false, err
	}
	return p.publishBatch(ctx)
}

// maintain refreshes the gauge and removes what is no longer needed for a replay.
func (p *publishing) maintain(ctx context.Context) error {
	if time.Since(p.counted) < verifyTick {
		return nil
	}
	p.counted = now()
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	var unpublished float64
	err := p.db.QueryRow(ctx, "SELECT count(*) FROM outbox WHERE publish_time IS NULL").Scan(&unpublished)
	if err != nil {
		return databaseError{fmt.Errorf("count the outbox: %w", err)}
	}
	p.metrics.unpublished.Set(unpublished)
	if time.Since(p.pruned) < pruneTick {
		return nil
	}
	p.pruned = now()
	return p.prune(ctx)
}

func (p *publishing) prune(ctx context.Context) error {
	_, err := p.db.Exec(ctx, "DELETE FROM outbox WHERE publish_time < now() - $1::interval", outboxKept)
	if err != nil {
		return databaseError{fmt.Errorf("prune the outbox: %w", err)}
	}
	return nil
}

// databaseError marks what ends a session.
type databaseError struct{ error }

func (e databaseError) Unwrap() error { return e.error }

func isDatabase(err error) bool {
	_, found := errors.AsType[databaseError](err)
	return found
}
