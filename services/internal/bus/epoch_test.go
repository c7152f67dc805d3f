package bus_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// makeAnew gives a list a new epoch and other items.
func (w *world) makeAnew(list string, epoch int64, items []string) {
	w.t.Helper()
	w.inOwner(func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE lists SET epoch = $2, number = 0 WHERE aggregate = $1", "lists/"+list, epoch); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM items WHERE aggregate = $1", "lists/"+list); err != nil {
			return err
		}
		return changeIn(ctx, tx, list, items, nil)
	})
}

func TestListMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	w.tenChanges()
	w.agree()
	w.makeAnew("paris", firstEpoch+1, numbered("new", 0, 4))
	w.change("paris", []string{"more"}, []string{"new000001"})
	w.agree()
	if n := w.metric("snapshots_total", "replaced"); n != 1 {
		t.Errorf("%v snapshots, want 1", n)
	}
}

// The owner is asked at once: nothing that could close the gap is on its way.
func TestNewEpochDoesNotWaitForTheGap(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	w.startConsumer(patient)
	w.change("paris", []string{"a"}, nil)
	w.agree()
	w.makeAnew("paris", firstEpoch+1, numbered("new", 0, 4))
	w.agree()
}

func TestAggregateThatTheOwnerLacksIsRemoved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	w.startConsumer(comparing)
	w.tenChanges()
	w.note("n", "one")
	w.agree()
	for _, table := range []string{"items", "lists", "notes"} {
		w.exec(w.owner, "DELETE FROM "+table)
	}
	w.agree()
	for _, table := range []string{"items", "notes", "positions"} {
		if n := scan[int](t, w.copy, "SELECT count(*) FROM "+table); n != 0 {
			t.Errorf("%d rows are left in %s", n, table)
		}
	}
	w.makeAnew("paris", 0, nil)
	w.tenChanges()
	w.agree()
}

// backup copies the tables of a database and returns a function that sets them back, as a restored
// backup does. Nobody may be using the database.
func (w *world) backup(pool *pgxpool.Pool) (restore func()) {
	w.t.Helper()
	tables := strings.Split(scan[string](w.t, pool, "SELECT string_agg(tablename, ' ') FROM pg_tables WHERE schemaname = 'public' AND tablename NOT LIKE 'goose%'"), " ")
	w.exec(pool, "CREATE SCHEMA backup")
	for _, table := range tables {
		w.exec(pool, fmt.Sprintf("CREATE TABLE backup.%s AS TABLE public.%s", table, table))
	}
	sequence := scan[int64](w.t, pool, "SELECT last_value FROM outbox_id_seq")
	return func() {
		w.t.Helper()
		for _, table := range tables {
			override := ""
			if table == "outbox" {
				override = " OVERRIDING SYSTEM VALUE"
			}
			w.exec(pool, "TRUNCATE public."+table)
			w.exec(pool, fmt.Sprintf("INSERT INTO public.%s%s TABLE backup.%s", table, override, table))
		}
		w.exec(pool, "SELECT setval('outbox_id_seq', $1)", sequence)
	}
}

func TestOwnerIsRestoredFromABackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stop := w.startPublisher()
	w.startResponder()
	w.startConsumer()
	w.tenChanges()
	w.note("n", "before")
	w.agree()
	stop()
	restore := w.backup(w.owner)
	stop = w.startPublisher()
	w.tenChangesTo("lost")
	w.change("paris", []string{"lost"}, numbered("c0-", 0, 1))
	w.note("n", "lost")
	w.note("lost", "lost")
	w.agree()
	stop()
	restore()
	// The same versions once more, with other contents, before anybody notices.
	w.change("paris", []string{"second life"}, nil)
	w.note("n", "second life")
	w.startPublisher()
	w.agree()
	w.change("paris", []string{"after"}, nil)
	w.note("n", "after")
	w.agree()
	if n := w.metric("replays_total", "restored"); n != 1 {
		t.Errorf("restored %v times, want 1", n)
	}
	epoch := scan[int64](t, w.owner, "SELECT epoch FROM lists WHERE aggregate = 'lists/paris'")
	if epoch < time.Now().Add(-time.Hour).UnixMicro() {
		t.Errorf("the epoch is still %d", epoch)
	}
}

func TestOwnerThatWasNotRestoredKeepsItsEpoch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startResponder()
	w.startConsumer()
	for i := range 5 {
		stop := w.startPublisher()
		w.change("paris", []string{fmt.Sprint(i)}, nil)
		if i != 3 { // also stop in the middle
			w.published()
		}
		stop()
		if i == 2 {
			w.nats.Stop()
			w.nats.Wipe(t)
			w.nats.Start(t)
		}
		// A crash may take back that the events were marked as published.
		w.exec(w.owner, "UPDATE outbox SET publish_time = NULL WHERE id = (SELECT max(id) FROM outbox)")
		w.exec(w.owner, "UPDATE stream_state SET last_seq = 1")
	}
	w.startPublisher()
	w.agree()
	if n := w.metric("replays_total", "restored"); n != 0 {
		t.Errorf("restored %v times", n)
	}
}

func TestCopyIsRestoredFromABackup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	stop := w.startConsumer()
	w.tenChanges()
	w.agree()
	stop()
	restore := w.backup(w.copy)
	stop = w.startConsumer()
	w.change("paris", []string{"later"}, numbered("c0-", 0, 1))
	w.tenChangesTo("lyon")
	w.note("n", "later")
	w.agree()
	stop()
	restore()
	w.startConsumer()
	w.agree()
}

func TestPublisherTellsARestoreFromAnotherDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startAll()
	w.change("paris", []string{"a"}, nil)
	w.agree()
	epochs := scan[int64](t, w.owner, "SELECT epoch FROM stream_state")
	if epochs != 0 {
		t.Errorf("the first start began epoch %d", epochs)
	}
	// A new database with an old stream, as after a restore from before the first event.
	other := newWorldOn(t, testkit.Pool(t, testSchema()...), w.copy)
	other.nats = w.nats
	called := make(chan int64, 1)
	p := bus.NewPublisher(bus.PublisherConfig{
		Pool: other.owner, NATS: w.nats.Connect(t, bus.Local, "main"), Tier: bus.Local, Site: "main", Log: w.log,
		OnRestored: func(_ context.Context, _ pgx.Tx, epoch int64) error {
			called <- epoch
			return nil
		},
	})
	other.start("publisher", p.Run)
	select {
	case <-called:
	case <-time.After(agreement):
		t.Error("nobody noticed")
	}
}
