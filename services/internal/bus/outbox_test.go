package bus_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	pool := testkit.Pool(t, testSchema()...)
	good := bus.Event{
		Subject: "note.n.changed", Aggregate: "notes/n", Version: bus.Version{Epoch: 1, Number: 1}, Data: &emptypb.Empty{},
	}
	for name, change := range map[string]func(*bus.Event){
		"no data":                   func(e *bus.Event) { e.Data = nil },
		"no subject":                func(e *bus.Event) { e.Subject = "" },
		"a subject of one element":  func(e *bus.Event) { e.Subject = "note" },
		"an empty element":          func(e *bus.Event) { e.Subject = "note..changed" },
		"a wildcard":                func(e *bus.Event) { e.Subject = "note.*.changed" },
		"a space":                   func(e *bus.Event) { e.Subject = "note.a b.changed" },
		"another kind":              func(e *bus.Event) { e.Kind = "list" },
		"no epoch":                  func(e *bus.Event) { e.Version.Epoch = 0 },
		"no number":                 func(e *bus.Event) { e.Version.Number = 0 },
		"part 0 of 2":               func(e *bus.Event) { e.Parts = 2 },
		"part 3 of 2":               func(e *bus.Event) { e.Part, e.Parts = 3, 2 },
		"a notice with a version":   func(e *bus.Event) { e.Aggregate = "" },
		"more than fits":            func(e *bus.Event) { e.Data = wrapperspb.Bytes(make([]byte, 1<<20)) },
		"text that is not UTF-8":    func(e *bus.Event) { e.Data = wrapperspb.String("\xff") },
		"a control character in it": func(e *bus.Event) { e.Subject = "note.a\r\nb.changed" },
	} {
		t.Run(name, func(t *testing.T) {
			event := good
			change(&event)
			err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return bus.Append(t.Context(), tx, good, event) })
			if err == nil {
				t.Error("it was appended")
			}
		})
	}
	if n := scan[int](t, pool, "SELECT count(*) FROM outbox"); n != 0 {
		t.Errorf("%d rows in the outbox", n)
	}
}

func TestAppendKeepsTheOrder(t *testing.T) {
	t.Parallel()
	pool := testkit.Pool(t, testSchema()...)
	var events []bus.Event
	for i := range 500 {
		events = append(events, bus.Event{Subject: fmt.Sprintf("note.n%d.happened", i), Data: &emptypb.Empty{}})
	}
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error { return bus.Append(t.Context(), tx, events...) })
	if err != nil {
		t.Fatal(err)
	}
	got := scan[[]string](t, pool, "SELECT array_agg(subject ORDER BY id) FROM outbox")
	for i, subject := range got {
		if subject != events[i].Subject {
			t.Fatalf("row %d is %s, want %s", i, subject, events[i].Subject)
		}
	}
	if err := bus.Append(t.Context(), nil); err != nil {
		t.Errorf("appending nothing: %v", err)
	}
}

func TestTraceGoesFromAppendToApply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	seen := make(chan trace.SpanContext, 2)
	w.startConsumer(func(cfg *bus.ConsumerConfig) {
		cfg.Topics[1].Apply = func(ctx context.Context, _ pgx.Tx, _ []bus.Event) error {
			seen <- trace.SpanContextFromContext(ctx)
			return nil
		}
	})
	parent := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5, 6}, TraceFlags: trace.FlagsSampled,
	})
	w.inOwner(func(ctx context.Context, tx pgx.Tx) error {
		ctx = trace.ContextWithSpanContext(ctx, parent)
		return bus.Append(ctx, tx, bus.Event{Subject: "note.x.happened", Data: &emptypb.Empty{}})
	})
	if got := <-seen; got.TraceID() != parent.TraceID() || !got.IsSampled() {
		t.Errorf("applied in trace %s, want %s", got.TraceID(), parent.TraceID())
	}
}

func TestOldRowsArePruned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.startPublisher()
	w.note("old", "x")
	w.note("young", "x")
	w.published()
	stop()
	w.exec(w.owner, "UPDATE outbox SET publish_time = now() - interval '7 days 1 minute' WHERE aggregate = 'notes/old'")
	w.note("waiting", "x")
	w.exec(w.owner, "UPDATE outbox SET create_time = now() - interval '8 days' WHERE aggregate = 'notes/waiting'")
	w.exec(w.copy, "INSERT INTO inbox VALUES (gen_random_uuid(), now() - interval '31 days'), (gen_random_uuid(), now() - interval '29 days')")
	w.exec(w.copy, "INSERT INTO snapshot_parts VALUES (gen_random_uuid(), 1, 'x', '', now() - interval '2 hours')")
	w.startResponder()
	w.startPublisher()
	w.startConsumer()
	w.agree()
	testkit.Eventually(t, agreement, func() (bool, string) {
		left := scan[[]string](t, w.owner, "SELECT array_agg(aggregate ORDER BY id) FROM outbox")
		return strings.Join(left, " ") == "notes/young notes/waiting", fmt.Sprint(left)
	})
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := scan[int](t, w.copy, "SELECT count(*) FROM inbox WHERE receive_time < now() - interval '1 day'")
		return n == 1, fmt.Sprintf("%d old rows in the inbox", n)
	})
}

func TestUnpublishedGauge(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.note("a", "x")
	w.note("b", "x")
	w.nats.Stop()
	w.startPublisher()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := w.metric("outbox_unpublished")
		return n == 2, fmt.Sprintf("%v unpublished", n)
	})
}

func TestConsumerRefusesWrongTopics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	apply := func(context.Context, pgx.Tx, []bus.Event) error { return nil }
	for name, topics := range map[string][]bus.Topic{
		"two of a kind":         {{Kind: "a", Apply: apply}, {Kind: "a", Apply: apply}},
		"no Apply":              {{Kind: "a"}},
		"Delta without Replace": {{Kind: "a", Delta: true, Apply: apply}},
		"a kind with a dot":     {{Kind: "a.b", Apply: apply}},
		"no kind":               {{Apply: apply}},
		"the bus's own kind":    {{Kind: "bus", Apply: apply}},
	} {
		_, err := bus.NewConsumer(bus.ConsumerConfig{
			Pool: w.copy, NATS: w.nats.Connect(t, bus.International, "main"), FromTier: bus.Local, FromSite: "main", Topics: topics,
		})
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
