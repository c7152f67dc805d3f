package bus

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/propagation"
	"google.golang.org/protobuf/proto"
)

// Append writes events to the outbox, in order, with one statement. The caller holds the lock of
// every aggregate involved and took it before its first write, so that the outbox has each
// aggregate's events in the order of their commits. The trace of ctx goes with the events.
func Append(ctx context.Context, tx pgx.Tx, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	var rows outboxRows
	trace := traceparent(ctx)
	for _, event := range events {
		if err := rows.add(event, trace); err != nil {
			return fmt.Errorf("append to the outbox: %w", err)
		}
	}
	if _, err := tx.Exec(ctx, insertOutbox, rows.arguments()...); err != nil {
		return fmt.Errorf("append to the outbox: %w", err)
	}
	return nil
}

const insertOutbox = `
INSERT INTO outbox (event_id, subject, aggregate, epoch, number, part, parts, type, data, traceparent)
SELECT event_id, subject, aggregate, epoch, number, part, parts, type, data, traceparent
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::int[], $8::text[], $9::bytea[], $10::text[])
     WITH ORDINALITY AS event (event_id, subject, aggregate, epoch, number, part, parts, type, data, traceparent, ord)
ORDER BY ord`

// outboxRows are the columns of insertOutbox.
type outboxRows struct {
	ids                                  []uuid.UUID
	subjects, aggregates, types, parents []string
	epochs, numbers                      []int64
	part, parts                          []int
	data                                 [][]byte
}

func (r *outboxRows) add(given Event, trace string) error {
	event := given.normal()
	if err := event.check(given.Kind); err != nil {
		return err
	}
	if event.Data == nil {
		return fmt.Errorf("%s of %s: %w", event.Subject, event.Aggregate, errNoData)
	}
	data, err := proto.MarshalOptions{}.MarshalAppend([]byte{}, event.Data)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", event.Subject, event.Aggregate, err)
	}
	if len(data) > maxData {
		return fmt.Errorf("%s of %s: %d bytes, a part holds at most %d", event.Subject, event.Aggregate, len(data), maxData)
	}
	// Ids in the order of time keep the indexes of outbox and inbox compact.
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	r.ids = append(r.ids, id)
	r.subjects, r.aggregates = append(r.subjects, event.Subject), append(r.aggregates, event.Aggregate)
	r.epochs, r.numbers = append(r.epochs, event.Version.Epoch), append(r.numbers, event.Version.Number)
	r.part, r.parts = append(r.part, event.Part), append(r.parts, event.Parts)
	r.types = append(r.types, string(event.Data.ProtoReflect().Descriptor().FullName()))
	r.data, r.parents = append(r.data, data), append(r.parents, trace)
	return nil
}

func (r *outboxRows) arguments() []any {
	return []any{r.ids, r.subjects, r.aggregates, r.epochs, r.numbers, r.part, r.parts, r.types, r.data, r.parents}
}

// traceparent is the W3C trace context of ctx, empty without a trace.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// withTrace returns ctx as a child of the trace.
func withTrace(ctx context.Context, traceparent string) context.Context {
	if traceparent == "" {
		return ctx
	}
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": traceparent})
}
