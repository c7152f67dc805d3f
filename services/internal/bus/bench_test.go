package bus_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// manyNotes writes states of many notes, which a service would write one by one.
func (w *world) manyNotes(count, notes int) {
	w.t.Helper()
	const batch = 500
	for first := 0; first < count; first += batch {
		w.inOwner(func(ctx context.Context, tx pgx.Tx) error {
			var events []bus.Event
			for n := first; n < min(first+batch, count); n++ {
				events = append(events, bus.Event{
					Subject: fmt.Sprintf("note.n%d.changed", n%notes), Aggregate: fmt.Sprintf("notes/n%d", n%notes),
					Version: bus.Version{Epoch: 1, Number: int64(n/notes + 1)}, Data: wrapperspb.String(strconv.Itoa(n)),
				})
			}
			return bus.Append(ctx, tx, events...)
		})
	}
	w.exec(w.owner, `INSERT INTO notes SELECT 'notes/n' || n, 1, $2, '' FROM generate_series(0, $1 - 1) AS n
		ON CONFLICT (aggregate) DO UPDATE SET number = excluded.number`, notes, count/notes)
}

func rate(b *testing.B, name string, count int, since time.Time) {
	b.ReportMetric(float64(count)/time.Since(since).Seconds(), name)
}

// BenchmarkThroughput measures state events of 1,000 aggregates, on servers that sync: through the
// outbox to JetStream, from JetStream into the copy, and both at once.
func BenchmarkThroughput(b *testing.B) {
	const count, notes = 10_000, 1000
	for b.Loop() {
		w, _ := newWorldOnCluster(b)
		w.startResponder()
		w.manyNotes(count, notes)
		start := time.Now()
		w.startPublisher()
		w.published()
		rate(b, "published/s", count, start)
		start = time.Now()
		w.startConsumer()
		w.applied(count)
		rate(b, "applied/s", count, start)
		start = time.Now()
		w.manyNotes(2*count, notes) // the first half are versions that the copy has, under new ids
		w.applied(2 * count)
		rate(b, "both/s", 2*count, start)
	}
}

func (w *world) applied(count int) {
	w.t.Helper()
	testkit.Eventually(w.t, 5*time.Minute, func() (bool, string) {
		n := int(w.metric("applied_total"))
		return n >= count, fmt.Sprintf("%d of %d applied", n, count)
	})
}

// BenchmarkLatency measures the time from the owner's commit to the copy's at 200 events/s.
func BenchmarkLatency(b *testing.B) {
	const perSecond, count = 200, 2000
	for b.Loop() {
		w, _ := newWorldOnCluster(b)
		w.startResponder()
		w.startPublisher()
		var mu sync.Mutex
		var waiting []int
		committed, seen := make([]time.Time, count), make([]time.Time, count)
		w.startConsumer(func(cfg *bus.ConsumerConfig) {
			apply := cfg.Topics[1].Apply
			cfg.Topics[1].Apply = func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
				err := apply(ctx, tx, parts)
				n, _ := strconv.Atoi(parts[0].Data.(*wrapperspb.StringValue).GetValue())
				mu.Lock()
				waiting = append(waiting, n)
				mu.Unlock()
				return err
			}
			cfg.AfterCommit = func() { // a neighbour's event may count a little too early
				mu.Lock()
				for _, n := range waiting {
					seen[n] = time.Now()
				}
				waiting = waiting[:0]
				mu.Unlock()
			}
		})
		tick := time.NewTicker(time.Second / perSecond)
		for n := range count {
			<-tick.C
			w.note(fmt.Sprint("n", n%100), strconv.Itoa(n))
			mu.Lock()
			committed[n] = time.Now()
			mu.Unlock()
		}
		w.applied(count)
		var latencies []time.Duration
		for n := range count {
			latencies = append(latencies, seen[n].Sub(committed[n]))
		}
		slices.Sort(latencies)
		for name, at := range map[string]int{"p50-ms": count / 2, "p99-ms": count * 99 / 100, "max-ms": count - 1} {
			b.ReportMetric(float64(latencies[at].Microseconds())/1000, name)
		}
	}
}

// BenchmarkMillion measures a change of a million tokens (34 MB in 50 parts), as one version of many
// events and as a snapshot. Apply and Replace do no more than take the data.
func BenchmarkMillion(b *testing.B) {
	const parts, partBytes = 50, 20_000 * 34
	part := wrapperspb.Bytes(make([]byte, partBytes))
	for b.Loop() {
		w, _ := newWorldOnCluster(b)
		w.startPublisher()
		version := bus.Version{Epoch: 1, Number: 1}
		owner := listOwner()
		owner.Snapshot = func(_ context.Context, _ pgx.Tx, _ string, send func(proto.Message) error) (bus.Version, bool, error) {
			for range parts {
				if err := send(part); err != nil {
					return bus.Version{}, false, err
				}
			}
			return bus.Version{Epoch: 1, Number: 10}, true, nil
		}
		r := bus.NewResponder(bus.ResponderConfig{
			Pool: w.owner, NATS: w.nats.Connect(b, bus.Local, "main"), Tier: bus.Local, Site: "main", Log: w.log,
		}, owner)
		w.start("responder", r.Run)
		done := make(chan int, 2)
		w.startConsumer(func(cfg *bus.ConsumerConfig) {
			cfg.GapWait = time.Second // which counts in snapshot-s
			cfg.Topics = []bus.Topic{{
				Kind: "list", Delta: true,
				Apply: func(_ context.Context, _ pgx.Tx, parts []bus.Event) error {
					done <- len(parts)
					return nil
				},
				Replace: func(_ context.Context, _ pgx.Tx, _ string, s *bus.Snapshot) error {
					n := 0
					for _, err := range s.Parts() {
						if err != nil {
							return err
						}
						n++
					}
					done <- n
					return nil
				},
			}}
		})
		var events []bus.Event
		for k := range parts {
			events = append(events, bus.Event{
				Subject: "list.paris.members.changed", Aggregate: "lists/paris", Version: version, Part: k + 1, Parts: parts, Data: part,
			})
		}
		start := time.Now()
		w.inOwner(func(ctx context.Context, tx pgx.Tx) error { return bus.Append(ctx, tx, events...) })
		b.ReportMetric(time.Since(start).Seconds(), "append-s")
		if n := <-done; n != parts {
			b.Fatalf("%d parts", n)
		}
		b.ReportMetric(time.Since(start).Seconds(), "parts-s")
		start = time.Now()
		w.inOwner(func(ctx context.Context, tx pgx.Tx) error {
			return bus.Append(ctx, tx, bus.Event{
				Subject: "list.paris.members.changed", Aggregate: "lists/paris", Version: bus.Version{Epoch: 1, Number: 9}, Data: part,
			})
		})
		if n := <-done; n != parts {
			b.Fatalf("%d parts", n)
		}
		b.ReportMetric(time.Since(start).Seconds(), "snapshot-s")
	}
}
