package bus_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// durable is the configuration of the copy's durable.
func (w *world) durable() jetstream.ConsumerConfig {
	w.t.Helper()
	consumer, err := w.js().Consumer(context.Background(), bus.Stream(bus.Local, "main"), bus.Durable(bus.International, "main"))
	if err != nil {
		w.t.Fatal(err)
	}
	return consumer.CachedInfo().Config
}

// untouched fails the test when the copies were healed by snapshots rather than by events.
func (w *world) untouched() {
	w.t.Helper()
	if n := w.metric("snapshots_total"); n != 0 {
		w.t.Errorf("%v snapshots, though the outbox had everything", n)
	}
}

func TestChangesGoOnWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll(patient)
	w.change("paris", []string{"before"}, nil)
	w.agree()
	w.nats.Stop()
	w.change("paris", []string{"during"}, nil)
	w.note("n", "during")
	w.nats.Start(t)
	w.agree()
	w.change("paris", []string{"after"}, nil)
	w.agree()
	w.untouched()
}

func TestServicesStartBeforeNATS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nats.Stop()
	w.startAll()
	w.change("paris", []string{"a"}, nil)
	w.nats.Start(t)
	w.agree()
}

func TestNATSComesBackWithNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll(patient)
	w.tenChanges()
	w.agree()
	w.nats.Stop()
	w.nats.Wipe(t)
	w.change("paris", []string{"during"}, nil)
	w.nats.Start(t)
	w.agree()
	w.change("paris", []string{"after"}, nil)
	w.agree()
	w.untouched()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := len(w.messages("list.>"))
		return n == 12, fmt.Sprintf("%d messages in the new stream, want all 12", n)
	})
}

func TestNATSComesBackWithNothingWhileNobodySpeaks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	w.tenChanges()
	w.nats.Stop()
	w.nats.Wipe(t)
	w.nats.Start(t)
	w.startConsumer()
	w.agree()
}

func TestNATSComesBackInAnOlderState(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll(patient)
	w.tenChanges()
	w.agree()
	w.nats.Stop()
	rewind := w.nats.Backup(t)
	w.nats.Start(t)
	w.change("paris", []string{"lost by NATS, applied"}, nil)
	w.agree()
	w.nats.Stop()
	rewind()
	w.change("paris", []string{"during"}, nil)
	w.nats.Start(t)
	w.agree()
	w.untouched()
	if n := w.metric("replays_total", "rewound"); n != 1 {
		t.Errorf("%v replays for a rewound stream, want 1", n)
	}
}

// The consumer is behind when the stream loses what it has not read.
func TestNATSForgetsWhatWasNotConsumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	stop := w.startConsumer(patient)
	w.tenChanges()
	w.agree()
	stop()
	w.nats.Stop()
	rewind := w.nats.Backup(t)
	w.nats.Start(t)
	for i := range 20 {
		w.change("paris", []string{fmt.Sprint("lost", i)}, nil)
	}
	w.published()
	w.nats.Stop()
	rewind()
	w.nats.Start(t)
	w.startConsumer(patient) // by events, not by comparison
	w.agree()
	w.untouched()
}

func TestStreamIsDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll(patient)
	w.tenChanges()
	w.agree()
	if err := w.js().DeleteStream(context.Background(), bus.Stream(bus.Local, "main")); err != nil {
		t.Fatal(err)
	}
	w.change("paris", []string{"after"}, nil)
	w.agree()
	w.untouched()
}

func TestDurableIsDeletedWhileRunning(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll(patient)
	w.tenChanges()
	w.agree()
	if err := w.js().DeleteConsumer(context.Background(), bus.Stream(bus.Local, "main"), bus.Durable(bus.International, "main")); err != nil {
		t.Fatal(err)
	}
	w.change("paris", []string{"after"}, nil)
	w.agree()
	w.untouched()
}

// A durable that is ahead of its stream would skip what comes next.
func TestDurableIsAheadOfTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stopPublisher := w.startPublisher()
	w.startResponder()
	stopConsumer := w.startConsumer(patient)
	w.tenChanges()
	w.agree()
	w.nats.Stop()
	messages := filepath.Join(w.nats.Dir(), "jetstream", "$G", "streams", bus.Stream(bus.Local, "main"), "msgs")
	older := filepath.Join(t.TempDir(), "msgs")
	if err := os.CopyFS(older, os.DirFS(messages)); err != nil {
		t.Fatal(err)
	}
	w.nats.Start(t)
	w.tenChangesTo("lyon")
	w.agree()
	stopPublisher()
	stopConsumer()
	w.nats.Stop()
	if err := os.RemoveAll(messages); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(messages, os.DirFS(older)); err != nil {
		t.Fatal(err)
	}
	w.nats.Start(t)
	w.startConsumer(patient)
	w.startPublisher()
	w.change("paris", []string{"after"}, nil)
	w.agree()
	w.untouched()
}

func TestPostgresConnectionsAreCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	for i := range 20 {
		w.change("paris", numbered(fmt.Sprint("c", i), 0, 2), nil)
		w.note("n", fmt.Sprint(i))
		if i%4 == 3 {
			w.cut(w.owner)
			w.cut(w.copy)
		}
	}
	w.agree()
	if n := w.metric("dead_letters_total"); n != 0 {
		t.Errorf("%v dead letters for an outage of Postgres", n)
	}
}

// cut ends all sessions of a database but the one that asks.
func (w *world) cut(pool *pgxpool.Pool) {
	w.t.Helper()
	scan[int](w.t, pool, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
}

func TestPostgresIsKilledAndSlow(t *testing.T) {
	t.Parallel()
	w, cluster := newWorldOnCluster(t)
	w.startAll()
	for i := range 30 {
		w.change("paris", numbered(fmt.Sprint("c", i), 0, 2), nil)
		if i%10 != 9 {
			continue
		}
		if err := cluster.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, pool := range []*pgxpool.Pool{w.owner, w.copy} {
			pool.Reset()
		}
	}
	w.agree()
	if n := w.metric("dead_letters_total"); n != 0 {
		t.Errorf("%v dead letters for an outage of Postgres", n)
	}
}

func TestReplicasShareTheWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	stopLeader := w.startPublisher()
	w.startResponder()
	w.startResponder()
	w.startConsumer()
	stopOne := w.startConsumer()
	for i := range 100 {
		w.change(fmt.Sprint("l", i%7), numbered(fmt.Sprint("c", i), 0, 2), nil)
		if i == 50 {
			stopLeader()
			stopOne()
		}
	}
	w.agree()
}

func TestStopsWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stops := []func(){w.startPublisher(), w.startResponder(), w.startConsumer()}
	w.change("paris", []string{"a"}, nil)
	w.agree()
	w.nats.Stop()
	w.change("paris", []string{"b"}, nil)
	w.allStop(stops)
}

func (w *world) allStop(stops []func()) {
	w.t.Helper()
	stopped := make(chan struct{})
	go func() {
		for _, stop := range stops {
			stop()
		}
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(agreement):
		w.t.Fatal("something does not stop")
	}
}

func TestStopsWhilePostgresIsAway(t *testing.T) {
	t.Parallel()
	w, cluster := newWorldOnCluster(t)
	stops := []func(){w.startPublisher(), w.startResponder(), w.startConsumer()}
	w.change("paris", []string{"a"}, nil)
	w.agree()
	if err := cluster.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.allStop(stops)
	if err := cluster.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.startAll()
	w.change("paris", []string{"b"}, nil)
	w.agree()
}
