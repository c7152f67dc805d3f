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
