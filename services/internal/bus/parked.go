package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// park sets an event aside and wants its version: at once when only a snapshot helps, else when
// what is missing has not come by itself.
func (c *Consumer) park(ctx context.Context, tx pgx.Tx, j *job, v verdict) error {
	e := j.event
	batch := &pgx.Batch{}
	batch.Queue(`
INSERT INTO parked (tier, site, aggregate, epoch, number, part, parts, subject, headers, data)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING`,
		c.cfg.FromTier, c.cfg.FromSite, e.Aggregate, e.Version.Epoch, e.Version.Number, e.Part, e.Parts,
		j.msg.Subject(), j.msg.Headers(), nonNil(j.msg.Data()))
	due := c.cfg.GapWait
	if v == replace {
		due = 0
	}
	// The parts of the next version may take longer than a gap: each gives the others more time.
	c.queueWant(batch, e.Kind, e.Aggregate, e.Version, due, v == apply)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("park: %w", err)
	}
	return nil
}

func nonNil(data []byte) []byte {
	if data == nil {
		return []byte{}
	}
	return data
}

// drain applies the parked versions whose turn it is, each in a transaction of its own. What fails
// for good goes to the dead letters and is replaced by a snapshot.
func (c *Consumer) drain(ctx context.Context, topic Topic, aggregate string) {
	for more := true; more && ctx.Err() == nil; {
		err := c.untilDone(ctx, func() (err error) {
			more, err = c.drainStep(ctx, topic, aggregate)
			return err
		})
		if ctx.Err() != nil || err == nil {
			continue
		}
		failed, found := errors.AsType[*versionError](err)
		if !found || c.buryParked(ctx, topic, aggregate, failed.version, err) != nil {
			c.log.Error("cannot go on with what is parked", "aggregate", aggregate, "error", err, stackOf(err))
			return
		}
	}
}

// versionError is the failure of one parked version.
type versionError struct {
	version Version
	err     error
}

func (e *versionError) Error() string { return fmt.Sprintf("version %s: %v", e.version, e.err) }
func (e *versionError) Unwrap() error { return e.err }

// drainStep applies one parked version and reports whether there may be another.
func (c *Consumer) drainStep(ctx context.Context, topic Topic, aggregate string) (more bool, err error) {
	var applied []Event
	more, err = postgres.InTx(ctx, c.cfg.Pool, func(tx pgx.Tx) (bool, error) {
		applied = nil
		held, err := c.lockExisting(ctx, tx, []string{aggregate})
		if err == nil && held[aggregate] != nil {
			applied, err = c.drainIn(ctx, tx, topic, held[aggregate])
		}
		return len(applied) > 0, lostConnection(tx, err)
	})
	if err == nil && more {
		c.metrics.applied.WithLabelValues(topic.Kind).Add(float64(len(applied)))
		c.metrics.latency.Observe(now().Sub(applied[0].Time).Seconds())
		c.cfg.AfterCommit()
	}
	return more, err
}

func (c *Consumer) drainIn(ctx context.Context, tx pgx.Tx, topic Topic, held *position) ([]Event, error) {
	if !held.parked {
		return nil, c.satisfy(ctx, tx, held)
	}
	complete, left, err := c.parkedVersions(ctx, tx, held)
	if err != nil {
		return nil, err
	}
	for _, version := range complete {
		if judge(topic.Delta, held.version, version) != apply {
			continue
		}
		return c.applyParked(ctx, tx, topic, held, version)
	}
	held.setParked(left)
	if err := c.savePosition(ctx, tx, held); err != nil {
		return nil, err
	}
	return nil, c.satisfy(ctx, tx, held)
}

// parkedVersions forgets what is older than the copy and returns the versions that have all their
// parts, oldest first, and whether anything is parked at all.
func (c *Consumer) parkedVersions(ctx context.Context, tx pgx.Tx, held *position) (complete []Version, left bool, err error) {
	if err := c.unpark(ctx, tx, held.aggregate, held.version); err != nil {
		return nil, false, err
	}
	rows, err := tx.Query(ctx, `
SELECT epoch, number, count(*) = max(parts) FROM parked WHERE tier = $1 AND site = $2 AND aggregate = $3
GROUP BY epoch, number ORDER BY epoch, number`, c.cfg.FromTier, c.cfg.FromSite, held.aggregate)
	if err != nil {
		return nil, false, fmt.Errorf("look at what is parked: %w", err)
	}
	var v Version
	var whole bool
	_, err = pgx.ForEachRow(rows, []any{&v.Epoch, &v.Number, &whole}, func() error {
		left = true
		if whole {
			complete = append(complete, v)
		}
		return nil
	})
	if err != nil {
		return nil, false, fmt.Errorf("look at what is parked: %w", err)
	}
	return complete, left, nil
}

// unpark forgets the versions up to v.
func (c *Consumer) unpark(ctx context.Context, tx pgx.Tx, aggregate string, v Version) error {
	_, err := tx.Exec(ctx, `
DELETE FROM parked WHERE tier = $1 AND site = $2 AND aggregate = $3 AND (epoch, number) <= ($4, $5)`,
		c.cfg.FromTier, c.cfg.FromSite, aggregate, v.Epoch, v.Number)
	if err != nil {
		return fmt.Errorf("forget what is parked: %w", err)
	}
	return nil
}

func (c *Consumer) applyParked(ctx context.Context, tx pgx.Tx, topic Topic, held *position, version Version) ([]Event, error) {
	messages, err := c.readParked(ctx, tx, held.aggregate, version)
	if err != nil {
		return nil, err
	}
	parts, parent, err := c.openParked(messages)
	if err != nil {
		return nil, &versionError{version, permanentError{err}}
	}
	if err := c.callApply(ctx, tx, topic, parent, parts); err != nil {
		return nil, &versionError{version, err}
	}
	held.moveTo(version)
	if err := c.unpark(ctx, tx, held.aggregate, version); err != nil {
		return nil, err
	}
	return parts, c.savePosition(ctx, tx, held)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// readParked returns the parts of a version as they were delivered.
func (c *Consumer) readParked(ctx context.Context, db querier, aggregate string, version Version) ([]*nats.Msg, error) {
	rows, err := db.Query(ctx, `
SELECT subject, headers, data FROM parked
WHERE tier = $1 AND site = $2 AND aggregate = $3 AND epoch = $4 AND number = $5 ORDER BY part`,
		c.cfg.FromTier, c.cfg.FromSite, aggregate, version.Epoch, version.Number)
	if err != nil {
		return nil, fmt.Errorf("read what is parked: %w", err)
	}
	messages, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*nats.Msg, error) {
		msg := &nats.Msg{}
		return msg, row.Scan(&msg.Subject, &msg.Header, &msg.Data)
	})
	if err != nil {
		return nil, fmt.Errorf("read what is parked: %w", err)
	}
	return messages, nil
}

func (c *Consumer) openParked(messages []*nats.Msg) (parts []Event, parent string, err error) {
	for _, msg := range messages {
		e, err := decode(msg.Subject, msg.Header, msg.Data, c.cfg.FromTier, c.cfg.FromSite)
		if err != nil {
			return nil, "", err
		}
		event := e.event()
		if event.Data, err = decodeData(e.typ, e.data); err != nil {
			return nil, "", err
		}
		parts, parent = append(parts, event), e.traceparent
	}
	return parts, parent, nil
}
