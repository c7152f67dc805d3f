package bus

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// process settles jobs of one key, in order: together in one transaction when that works, else one
// by one, so that a bad event stops nobody else.
func (c *Consumer) process(ctx context.Context, jobs []*job) {
	good := make([]*job, 0, len(jobs))
	for _, j := range jobs {
		if err := c.open(j); err != nil {
			c.bury(ctx, j, err)
			continue
		}
		good = append(good, j)
	}
	if len(good) > 1 && !slices.ContainsFunc(good, func(j *job) bool { return j.topic.Alone }) && c.applyTogether(ctx, good) == nil {
		return
	}
	for _, j := range good {
		c.applyAlone(ctx, j)
	}
}

// open reads the headers.
func (c *Consumer) open(j *job) (err error) {
	j.envelope, err = decode(j.msg.Subject(), j.msg.Headers(), j.msg.Data(), c.cfg.FromTier, c.cfg.FromSite)
	if err != nil {
		return err
	}
	j.event = j.envelope.event()
	topic, known := c.topics[j.event.Kind]
	if !known {
		return fmt.Errorf("no topic of kind %q", j.event.Kind)
	}
	j.topic = topic
	return nil
}

func (c *Consumer) applyAlone(ctx context.Context, j *job) {
	err := c.untilDone(ctx, func() error { return c.applyTogether(ctx, []*job{j}) })
	if err == nil {
		return
	}
	if ctx.Err() != nil {
		j.giveBack()
		return
	}
	c.bury(ctx, j, err)
}

// applyTogether decides on the jobs and does what is to be done in one transaction, and then
// acknowledges them.
func (c *Consumer) applyTogether(ctx context.Context, jobs []*job) error {
	done, err := postgres.InTx(ctx, c.cfg.Pool, func(tx pgx.Tx) (*outcome, error) {
		done := &outcome{parked: map[string]string{}}
		err := c.applyIn(ctx, tx, jobs, done)
		return done, lostConnection(tx, err)
	})
	if err != nil {
		return err
	}
	for _, j := range jobs {
		j.ack()
	}
	c.report(done)
	for aggregate, kind := range done.parked {
		c.drain(ctx, c.topics[kind], aggregate)
	}
	return nil
}

// outcome is what a committed transaction did.
type outcome struct {
	applied    []*job
	duplicates int
	old        int
	staged     int
	askNow     bool              // the owner is to be asked for a snapshot
	askLater   bool              // likewise, when the gap stays
	parked     map[string]string // aggregates (and their kinds) that moved and have parked versions
}

func (c *Consumer) report(done *outcome) {
	for _, j := range done.applied {
		c.metrics.applied.WithLabelValues(j.event.Kind).Inc()
		c.metrics.latency.Observe(time.Since(j.event.Time).Seconds())
	}
	c.metrics.ignored.WithLabelValues("duplicate").Add(float64(done.duplicates))
	c.metrics.ignored.WithLabelValues("old").Add(float64(done.old))
	c.metrics.parked.Add(float64(done.staged))
	if len(done.applied) > 0 {
		c.cfg.AfterCommit()
	}
	if done.askNow {
		signal(c.heal)
	}
	if done.askLater {
		time.AfterFunc(c.cfg.GapWait, func() { signal(c.heal) })
	}
}

func (c *Consumer) applyIn(ctx context.Context, tx pgx.Tx, jobs []*job, done *outcome) error {
	fresh, positions, err := c.admit(ctx, tx, jobs)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if !fresh[j.event.ID] {
			done.duplicates++
			continue
		}
		fresh[j.event.ID] = false // the same event twice in one batch
		if err := c.decide(ctx, tx, j, positions[j.event.Aggregate], done); err != nil {
			return err
		}
	}
	return c.savePositions(ctx, tx, positions)
}

// admit records the events in the inbox and locks the positions of their aggregates, in one round
// trip. It returns which events were not in the inbox before.
func (c *Consumer) admit(ctx context.Context, tx pgx.Tx, jobs []*job) (map[uuid.UUID]bool, map[string]*position, error) {
	ids := make([]uuid.UUID, 0, len(jobs))
	kinds := map[string]string{}
	for _, j := range jobs {
		ids = append(ids, j.event.ID)
		if !j.passes() {
			kinds[j.event.Aggregate] = j.event.Kind
		}
	}
	names := make([]string, 0, len(kinds))
	for name := range kinds {
		names = append(names, name)
	}
	batch := &pgx.Batch{}
	batch.Queue(`
INSERT INTO inbox (event_id) SELECT DISTINCT id FROM unnest($1::uuid[]) AS id ORDER BY id
ON CONFLICT DO NOTHING RETURNING event_id`, ids)
	batch.Queue(selectPositions, c.cfg.FromTier, c.cfg.FromSite, names)
	results := tx.SendBatch(ctx, batch)
	fresh, positions, err := readAdmission(results)
	if closeErr := results.Close(); err == nil && closeErr != nil {
		err = closeErr
	}
	if err != nil {
		return nil, nil, fmt.Errorf("record in the inbox: %w", err)
	}
	if len(positions) < len(kinds) {
		positions, err = c.lockPositions(ctx, tx, kinds)
	}
	return fresh, positions, err
}

func readAdmission(results pgx.BatchResults) (map[uuid.UUID]bool, map[string]*position, error) {
	rows, err := results.Query()
	if err != nil {
		return nil, nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, nil, err
	}
	fresh := make(map[uuid.UUID]bool, len(ids))
	for _, id := range ids {
		fresh[id] = true
	}
	if rows, err = results.Query(); err != nil {
		return nil, nil, err
	}
	positions, err := collectPositions(rows)
	return fresh, positions, err
}

// passes says whether the event moves no copy: a notice, or one of a topic that keeps none. It has no position.
func (j *job) passes() bool { return j.event.Aggregate == "" || j.topic.Passing }

// decide applies, parks or ignores one event.
func (c *Consumer) decide(ctx context.Context, tx pgx.Tx, j *job, held *position, done *outcome) error {
	if j.passes() {
		return c.applyOne(ctx, tx, j, done)
	}
	v := judge(j.topic.Delta, held.version, j.event.Version)
	switch {
	case v == ignore:
		done.old++
		return nil
	case v == apply && j.event.Parts == 1:
		if err := c.applyOne(ctx, tx, j, done); err != nil {
			return err
		}
		held.moveTo(j.event.Version)
	default:
		if err := c.park(ctx, tx, j, v); err != nil {
			return err
		}
		held.setParked(true)
		done.staged++
		done.askNow, done.askLater = done.askNow || v == replace, done.askLater || v != replace
	}
	if held.parked {
		done.parked[held.aggregate] = j.event.Kind
	}
	return nil
}

func (c *Consumer) applyOne(ctx context.Context, tx pgx.Tx, j *job, done *outcome) error {
	data, err := decodeData(j.envelope.typ, j.envelope.data)
	if err != nil {
		return permanentError{err}
	}
	event := j.event
	event.Data = data
	if err := c.callApply(ctx, tx, j.topic, j.envelope.traceparent, []Event{event}); err != nil {
		return err
	}
	done.applied = append(done.applied, j)
	return nil
}

// callApply runs the topic's Apply as a child of the trace that caused the event.
func (c *Consumer) callApply(ctx context.Context, tx pgx.Tx, topic Topic, parent string, parts []Event) (err error) {
	ctx, span := otel.Tracer("chapterhouse/bus").Start(withTrace(ctx, parent), "apply "+topic.Kind,
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			attribute.String("messaging.system", "nats"),
			attribute.String("messaging.destination.name", eventPrefix(c.cfg.FromTier, c.cfg.FromSite)+parts[0].Subject),
			attribute.String("messaging.message.id", parts[0].ID.String()),
		))
	defer func() {
		if err != nil {
			span.SetStatus(codes.Error, "apply failed")
		}
		span.End()
	}()
	return guarded(func() error { return topic.Apply(ctx, tx, slices.Clip(parts)) })
}
