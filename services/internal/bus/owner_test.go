package bus_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// firstEpoch is the epoch of aggregates that were never made anew.
const firstEpoch = 1_000

// snapshotPart is small, so that ordinary snapshots have several parts.
const snapshotPart = 50

// nextVersion locks and counts an aggregate.
func nextVersion(ctx context.Context, tx pgx.Tx, table, aggregate string) (v bus.Version, err error) {
	insert := "INSERT INTO " + table + " VALUES ($1, $2, 1"
	if table == "notes" {
		insert += ", ''"
	}
	err = tx.QueryRow(ctx, insert+") ON CONFLICT (aggregate) DO UPDATE SET number = "+table+".number + 1 RETURNING epoch, number",
		aggregate, firstEpoch).Scan(&v.Epoch, &v.Number)
	return v, err
}

func listEvent(list string, v bus.Version, added, removed []string) bus.Event {
	return bus.Event{
		Subject: "list." + list + ".members.changed", Aggregate: "lists/" + list, Version: v, Data: listData(added, removed),
	}
}

// changeIn changes a list in a transaction of the owner.
func changeIn(ctx context.Context, tx pgx.Tx, list string, added, removed []string) error {
	v, err := nextVersion(ctx, tx, "lists", "lists/"+list)
	if err != nil {
		return err
	}
	if err := addItems(ctx, tx, "lists/"+list, added); err != nil {
		return err
	}
	if err := removeItems(ctx, tx, "lists/"+list, removed); err != nil {
		return err
	}
	return bus.Append(ctx, tx, listEvent(list, v, added, removed))
}

// change adds items to a list and removes others.
func (w *world) change(list string, added, removed []string) {
	w.t.Helper()
	w.inOwner(func(ctx context.Context, tx pgx.Tx) error { return changeIn(ctx, tx, list, added, removed) })
}

// changeInParts adds items in one version of several events.
func (w *world) changeInParts(list string, parts ...[]string) {
	w.t.Helper()
	w.inOwner(func(ctx context.Context, tx pgx.Tx) error {
		v, err := nextVersion(ctx, tx, "lists", "lists/"+list)
		if err != nil {
			return err
		}
		var events []bus.Event
		for i, items := range parts {
			if err := addItems(ctx, tx, "lists/"+list, items); err != nil {
				return err
			}
			e := listEvent(list, v, items, nil)
			e.Part, e.Parts = i+1, len(parts)
			events = append(events, e)
		}
		return bus.Append(ctx, tx, events...)
	})
}

func noteIn(ctx context.Context, tx pgx.Tx, note, value string) error {
	v, err := nextVersion(ctx, tx, "notes", "notes/"+note)
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, "UPDATE notes SET value = $2 WHERE aggregate = $1", "notes/"+note, value); err != nil {
		return err
	}
	return bus.Append(ctx, tx, bus.Event{
		Subject: "note." + note + ".changed", Aggregate: "notes/" + note, Version: v, Data: wrapperspb.String(value),
	})
}

// note sets a note.
func (w *world) note(note, value string) {
	w.t.Helper()
	w.inOwner(func(ctx context.Context, tx pgx.Tx) error { return noteIn(ctx, tx, note, value) })
}

// notice says something once.
func (w *world) notice(text string) {
	w.t.Helper()
	w.inOwner(func(ctx context.Context, tx pgx.Tx) error {
		return bus.Append(ctx, tx, bus.Event{Subject: "note.x.happened", Data: wrapperspb.String(text)})
	})
}

func (w *world) inOwner(f func(context.Context, pgx.Tx) error) {
	w.t.Helper()
	ctx := context.Background()
	_, err := postgres.InTx(ctx, w.owner, func(tx pgx.Tx) (struct{}, error) { return struct{}{}, f(ctx, tx) })
	if err != nil {
		w.t.Fatal(err)
	}
	w.wake()
}

func beginEpoch(ctx context.Context, tx pgx.Tx, epoch int64) error {
	for _, table := range []string{"lists", "notes"} {
		if _, err := tx.Exec(ctx, "UPDATE "+table+" SET epoch = $1, number = 1", epoch); err != nil {
			return err
		}
	}
	return nil
}

func listOwner() bus.Owner {
	return bus.Owner{Kind: "list", Versions: versionsOf("lists"), Snapshot: sendList}
}

func noteOwner() bus.Owner {
	return bus.Owner{Kind: "note", Versions: versionsOf("notes"), Snapshot: sendNote}
}

func versionsOf(table string) func(context.Context, pgx.Tx, string, int) ([]bus.AggregateVersion, error) {
	return func(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
		rows, err := tx.Query(ctx, "SELECT aggregate, epoch, number FROM "+table+" WHERE aggregate > $1 ORDER BY aggregate LIMIT $2", after, limit)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v bus.AggregateVersion, err error) {
			return v, row.Scan(&v.Aggregate, &v.Version.Epoch, &v.Version.Number)
		})
	}
}

func versionOf(ctx context.Context, tx pgx.Tx, table, aggregate string) (v bus.Version, found bool, err error) {
	rows, err := tx.Query(ctx, "SELECT epoch, number FROM "+table+" WHERE aggregate = $1", aggregate)
	if err != nil {
		return v, false, err
	}
	_, err = pgx.ForEachRow(rows, []any{&v.Epoch, &v.Number}, func() error {
		found = true
		return nil
	})
	return v, found, err
}

// sendList reads the version first and the items in small pages, so that a change in between would
// show if this were not one repeatable read.
func sendList(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	v, found, err := versionOf(ctx, tx, "lists", aggregate)
	if err != nil || !found {
		return v, false, err
	}
	for after := ""; ; {
		rows, err := tx.Query(ctx, "SELECT item FROM items WHERE aggregate = $1 AND item > $2 ORDER BY item LIMIT $3", aggregate, after, snapshotPart)
		if err != nil {
			return v, false, err
		}
		items, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil || len(items) == 0 {
			return v, true, err
		}
		if err := send(stringList(items)); err != nil {
			return v, false, err
		}
		after = items[len(items)-1]
	}
}

func sendNote(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	v, found, err := versionOf(ctx, tx, "notes", aggregate)
	if err != nil || !found {
		return v, false, err
	}
	var value string
	if err := tx.QueryRow(ctx, "SELECT value FROM notes WHERE aggregate = $1", aggregate).Scan(&value); err != nil {
		return v, false, err
	}
	return v, true, send(wrapperspb.String(value))
}

// numbered returns count items from the first number.
func numbered(prefix string, first, count int) []string {
	items := make([]string, count)
	for i := range items {
		items[i] = fmt.Sprintf("%s%06d", prefix, first+i)
	}
	return items
}
