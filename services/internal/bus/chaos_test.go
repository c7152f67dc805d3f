package bus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// seed is new for each run; set BUS_SEED to repeat one.
func seed(t *testing.T) uint64 {
	t.Helper()
	n := rand.Uint64()
	if text := os.Getenv("BUS_SEED"); text != "" {
		var err error
		if n, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("BUS_SEED=%d", n)
	return n
}

// writers change lists and notes at random until stop is called, and count what they committed.
type writers struct {
	w       *world
	written atomic.Int64
	wg      sync.WaitGroup
	done    atomic.Bool
}

func (w *world) startWriters(count int, seed uint64) *writers {
	ws := &writers{w: w}
	for i := range count {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		ws.wg.Go(func() {
			for n := 0; !ws.done.Load(); n++ {
				ws.write(random, fmt.Sprintf("w%d-%d-", i, n))
			}
		})
	}
	w.t.Cleanup(ws.stop)
	return ws
}

func (ws *writers) stop() {
	ws.done.Store(true)
	ws.wg.Wait()
}

// waitFor waits until so many more changes are committed.
func (ws *writers) waitFor(more int64) {
	ws.w.t.Helper()
	goal := ws.written.Load() + more
	testkit.Eventually(ws.w.t, agreement, func() (bool, string) {
		n := ws.written.Load()
		return n >= goal, fmt.Sprintf("%d of %d changes", n, goal)
	})
}

// write does not care whether it succeeds: what the owner's tables hold afterwards is the truth.
func (ws *writers) write(random *rand.Rand, prefix string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := postgres.InTx(ctx, ws.w.owner, func(tx pgx.Tx) (struct{}, error) {
		return struct{}{}, ws.writeIn(ctx, tx, random, prefix)
	})
	if err == nil {
		ws.written.Add(1)
		ws.w.wake()
	}
}

func (ws *writers) writeIn(ctx context.Context, tx pgx.Tx, random *rand.Rand, prefix string) error {
	list := fmt.Sprint("l", random.IntN(5))
	switch n := random.IntN(20); {
	case n < 5:
		return noteIn(ctx, tx, fmt.Sprint("n", random.IntN(4)), prefix)
	case n == 5:
		return anewIn(ctx, tx, list, numbered(prefix, 0, 3))
	case n < 9:
		return partsIn(ctx, tx, list, prefix, 2+random.IntN(3))
	default:
		return churnIn(ctx, tx, list, numbered(prefix, 0, random.IntN(6)), random.IntN(6))
	}
}

// anewIn begins a new epoch for a list.
func anewIn(ctx context.Context, tx pgx.Tx, list string, items []string) error {
	_, err := tx.Exec(ctx, "UPDATE lists SET epoch = epoch + 1, number = 0 WHERE aggregate = $1", "lists/"+list)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "DELETE FROM items WHERE aggregate = $1", "lists/"+list); err != nil {
		return err
	}
	return changeIn(ctx, tx, list, items, nil)
}

func partsIn(ctx context.Context, tx pgx.Tx, list, prefix string, parts int) error {
	v, err := nextVersion(ctx, tx, "lists", "lists/"+list)
	if err != nil {
		return err
	}
	var events []bus.Event
	for part := range parts {
		items := numbered(prefix, part*10, 10)
		if err := addItems(ctx, tx, "lists/"+list, items); err != nil {
			return err
		}
		e := listEvent(list, v, items, nil)
		e.Part, e.Parts = part+1, parts
		events = append(events, e)
	}
	return bus.Append(ctx, tx, events...)
}

// churnIn adds items and removes some that are there.
func churnIn(ctx context.Context, tx pgx.Tx, list string, added []string, remove int) error {
	// The lock comes first: what is read before it may be gone.
	if _, err := tx.Exec(ctx, "SELECT FROM lists WHERE aggregate = $1 FOR UPDATE", "lists/"+list); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, "SELECT item FROM items WHERE aggregate = $1 LIMIT $2", "lists/"+list, remove)
	if err != nil {
		return err
	}
	removed, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	return changeIn(ctx, tx, list, added, removed)
}

// Whatever happens between them, owner and copy agree in the end, and the copy never applies
// anything twice or out of order: it would fail, and be seen in the dead letters.
func TestOwnerAndCopyAgreeAfterAnyTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.killed = true
	s := seed(t)
	random := rand.New(rand.NewPCG(s, 1000))
	w.startResponder()
	stopPublisher := w.startPublisher()
	stopConsumer := w.startConsumer(comparing)
	w.startConsumer(comparing)
	writers := w.startWriters(3, s)
	troubles := []func(){
		w.loseSomething(random), w.repeatSomething(random),
		func() { w.cut(w.owner) }, func() { w.cut(w.copy) },
		func() { w.nats.Stop(); w.nats.Start(t) },
		func() { w.nats.Stop(); w.nats.Wipe(t); w.nats.Start(t) },
		func() { stopPublisher(); stopPublisher = w.startPublisher() },
		func() { stopConsumer(); stopConsumer = w.startConsumer(comparing) },
	}
	for range 30 {
		writers.waitFor(int64(random.IntN(40)))
		troubles[random.IntN(len(troubles))]()
	}
	writers.waitFor(20)
	writers.stop()
	w.agree()
	if n := w.metric("dead_letters_total"); n != 0 {
		t.Errorf("%v dead letters", n)
	}
	t.Logf("%d changes; applied %v, duplicates %v, old %v, parked %v, snapshots %v, replays %v", writers.written.Load(),
		w.metric("applied_total"), w.metric("ignored_total", "duplicate"), w.metric("ignored_total", "old"),
		w.metric("parked_total"), w.metric("snapshots_total"), w.metric("replays_total"))
}

// loseSomething deletes one of the last messages.
func (w *world) loseSomething(random *rand.Rand) func() {
	return func() {
		js := w.js()
		stream, err := js.Stream(context.Background(), bus.Stream(bus.Local, "main"))
		if err != nil {
			return // being made anew
		}
		if last := stream.CachedInfo().State.LastSeq; last > 20 {
			_ = stream.SecureDeleteMsg(context.Background(), last-uint64(random.IntN(20)))
		}
	}
}

// repeatSomething publishes one of the messages again, so that it comes late and a second time.
func (w *world) repeatSomething(random *rand.Rand) func() {
	return func() {
		js := w.js()
		stream, err := js.Stream(context.Background(), bus.Stream(bus.Local, "main"))
		if err != nil {
			return
		}
		for range 5 {
			if last := stream.CachedInfo().State.LastSeq; last > 0 {
				msg, err := stream.GetMsg(context.Background(), 1+random.Uint64N(last))
				if err == nil {
					w.republish(msg)
				}
			}
		}
	}
}

// An Apply that fails now and then is tried again and does no harm.
func TestOwnerAndCopyAgreeWhenApplyFailsAtRandom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := seed(t)
	var calls atomic.Uint64
	w.setFailing(func(bus.Event) error {
		if n := calls.Add(1); n%7 == 0 {
			return errors.New("now and then")
		} else if n%31 == 0 {
			panic("sometimes")
		}
		return nil
	})
	w.startAll()
	writers := w.startWriters(3, s)
	writers.waitFor(300)
	writers.stop()
	w.agree()
}
