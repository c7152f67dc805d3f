package bus

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	publishRows  = 500
	publishBytes = 8 << 20
	// atomicRows is from where one atomic batch is quicker than single messages: JetStream stages it
	// in files of its own, which costs as much as syncing some 30 messages.
	atomicRows = 32
)

// outboxRow is an event to be published.
type outboxRow struct {
	row int64
	envelope
}

// publishBatch sends the oldest unpublished events in order without waiting for each
// confirmation, and then records which ones were confirmed.
func (p *publishing) publishBatch(ctx context.Context) (more bool, err error) {
	rows, err := p.unpublished(ctx)
	if err != nil || len(rows) == 0 {
		return false, err
	}
	var confirmed confirmation
	if p.atomic && len(rows) >= atomicRows {
		confirmed = p.sendTogether(ctx, rows)
	}
	if len(confirmed.rows) == 0 { // one event, or some that JetStream knows, or another difficulty
		confirmed = p.sendEach(ctx, rows)
	}
	if err := p.mark(ctx, confirmed); err != nil {
		return false, err
	}
	if confirmed.rewound {
		p.verified = false
	}
	// Anything above the first row means that there may be more than fits into a batch.
	return len(rows) > 1 && confirmed.err == nil, confirmed.err
}

// unpublished reads at most publishRows events and about publishBytes bytes.
func (p *publishing) unpublished(ctx context.Context) ([]outboxRow, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	rows, err := p.db.Query(ctx, `
SELECT id, event_id, subject, aggregate, epoch, number, part, parts, type, data, traceparent, create_time
FROM (SELECT *, sum(octet_length(data)) OVER (ORDER BY id) - octet_length(data) AS before
      FROM outbox WHERE publish_time IS NULL ORDER BY id LIMIT $1) AS oldest
WHERE before < $2 ORDER BY id`, publishRows, publishBytes)
	if err != nil {
		return nil, databaseError{fmt.Errorf("read the outbox: %w", err)}
	}
	source := sourceOf(p.cfg.Tier, p.cfg.Site)
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (outboxRow, error) {
		r := outboxRow{envelope: envelope{source: source}}
		var typ string
		err := row.Scan(&r.row, &r.id, &r.subject, &r.aggregate, &r.version.Epoch, &r.version.Number,
			&r.part, &r.parts, &typ, &r.data, &r.traceparent, &r.time)
		r.typ = protoreflect.FullName(typ)
		return r, err
	})
	if err != nil {
		return nil, databaseError{fmt.Errorf("read the outbox: %w", err)}
	}
	return found, nil
}

// confirmation is what JetStream said to a batch.
type confirmation struct {
	rows    []int64
	lastSeq uint64 // of the last message that was stored rather than recognised
	lastID  string
	rewound bool // a sequence number came a second time
	err     error
}

// sendEach publishes the rows in order, without waiting for one before the next.
func (p *publishing) sendEach(ctx context.Context, rows []outboxRow) (c confirmation) {
	futures := make([]jetstream.PubAckFuture, 0, len(rows))
	for _, row := range rows {
		future, err := p.js.PublishMsgAsync(row.message(p.cfg.Tier, p.cfg.Site))
		if err != nil {
			c.err = err // what follows waits, to keep the order
			break
		}
		futures = append(futures, future)
	}
	for i, future := range futures {
		select {
		case ack := <-future.Ok():
			c.add(rows[i], ack, p.known.lastSeq)
		case err := <-future.Err():
			c.err = errors.Join(c.err, fmt.Errorf("event %s: %w", rows[i].id, err))
			p.metrics.failed.Inc()
		case <-ctx.Done():
			c.err = ctx.Err()
			return c
		}
	}
	return c
}

func (c *confirmation) add(row outboxRow, ack *jetstream.PubAck, known uint64) {
	c.rows = append(c.rows, row.row)
	if ack.Duplicate {
		return
	}
	if ack.Sequence <= known {
		c.rewound = true
	}
	if ack.Sequence > c.lastSeq {
		c.lastSeq, c.lastID = ack.Sequence, row.id.String()
	}
}

// mark records what is published, also when the process is about to end.
func (p *publishing) mark(ctx context.Context, c confirmation) error {
	if len(c.rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sessionTimeout)
	defer cancel()
	batch := &pgx.Batch{}
	batch.Queue("UPDATE outbox SET publish_time = now() WHERE id = ANY($1)", c.rows)
	if c.lastSeq > 0 && !c.rewound {
		batch.Queue("UPDATE stream_state SET last_seq = $2, last_event_id = $3 WHERE stream = $1",
			Stream(p.cfg.Tier, p.cfg.Site), int64(c.lastSeq), c.lastID)
	}
	if err := p.db.SendBatch(ctx, batch).Close(); err != nil {
		return databaseError{fmt.Errorf("mark as published: %w", err)}
	}
	if c.lastSeq > 0 && !c.rewound {
		p.known.lastSeq, p.known.lastEventID = c.lastSeq, c.lastID
	}
	p.metrics.published.Add(float64(len(c.rows)))
	return nil
}
