package local

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestLargeChangesTravelInParts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 40_000)).applied())
	w.sync(replace("crm", people(30_000, 20_001)).applied().confirming(30_000))
	parts := map[int64]int{}
	for _, event := range w.outbox() {
		if event.Aggregate == members {
			parts[event.Version.Number] = event.Parts
		}
	}
	// 40,000 come; then 30,000 go and 10,001 come.
	if want := map[int64]int{1: 1, 2: 2, 3: 3}; !maps.Equal(parts, want) {
		t.Errorf("the versions have %v parts, want %v", parts, want)
	}
	w.agrees(members)
}

func TestCopyOfTheListsFollows(t *testing.T) {
	t.Parallel()
	w := setup(t)
	name := w.createList("announce")
	w.sync(replace("crm", people(0, 25_000)).to(name).applied())
	copied := w.follow() // it begins with a part of the history behind it
	w.add(name, "ada@example.org")
	w.unsubscribe(w.entry(name, person(3)))
	w.sync(replace("crm", people(24_000, 22_000)).to(name).applied().confirming(23_999))
	w.sync(replace("crm", people(0, 30)).applied())
	copied.agrees(members)
	copied.agrees(name)

	_, err := w.lists.DeleteList(t.Context(), &localv1.DeleteListRequest{Name: name})
	w.must(err)
	copied.holds(name, 0)
	w.createList("announce")
	w.add(name, "bob@example.org")
	copied.agrees(name)
}

func TestRestoredDatabaseTellsOfEverythingAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.sync(replace("crm", people(0, 30)).applied())
	copied := w.follow()
	copied.agrees(members)
	// What was written since the backup is lost: nobody hears of these ten in the usual way.
	_, err := w.pool.Exec(t.Context(), "DELETE FROM entries WHERE token IN (SELECT token FROM entries LIMIT 10)")
	w.must(err)
	_, err = w.pool.Exec(t.Context(), "UPDATE lists SET subscribed = 20")
	w.must(err)
	_, err = postgres.InTx(t.Context(), w.pool, func(tx pgx.Tx) (struct{}, error) {
		return struct{}{}, w.service.beginEpoch(t.Context(), tx, noon.UnixMicro()+1)
	})
	w.must(err)
	w.service.publisher.Wake()
	copied.holds(members, 20)
	if list := w.list(members); !strings.HasPrefix(list.GetEtag(), fmt.Sprint(noon.UnixMicro()+1)) {
		t.Errorf("the list is at %s", list.GetEtag())
	}
}

func TestOwnerListsNamesInTheirOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, id := range []string{"golang-paris-2", "golang-paris2", "golang"} {
		w.chapter(id)
	}
	w.createList("a-list")
	var got []string
	w.inTx(func(tx pgx.Tx) {
		for after := ""; ; {
			rows, err := listVersions(t.Context(), tx, after, 2)
			w.must(err)
			if len(rows) == 0 {
				return
			}
			for _, row := range rows {
				if row.Aggregate <= after {
					t.Errorf("%s comes after %s", row.Aggregate, after)
				}
				after = row.Aggregate
				got = append(got, after)
			}
		}
	})
	if len(got) != 5 {
		t.Errorf("listed %v", got)
	}
	w.inTx(func(tx pgx.Tx) {
		for _, aggregate := range []string{"chapters/nowhere/lists/members", "chapters/golang/lists/nothing"} {
			_, found, err := listSnapshot(t.Context(), tx, aggregate, func(proto.Message) error { return nil })
			if found || err != nil {
				t.Errorf("%s: found %t, %v", aggregate, found, err)
			}
		}
	})
}

func (w *world) inTx(fn func(tx pgx.Tx)) {
	w.t.Helper()
	_, err := postgres.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) (struct{}, error) {
		fn(tx)
		return struct{}{}, nil
	})
	w.must(err)
}

// follower is another tier that keeps a copy of the lists' tokens, as the international service does.
type follower struct {
	*world

	pool *pgxpool.Pool
}

func (w *world) follow() *follower {
	w.t.Helper()
	f := &follower{world: w, pool: testkit.Pool(w.t, postgres.Migration{Name: "bus", Files: bus.Migrations})}
	_, err := f.pool.Exec(w.t.Context(), "CREATE TABLE copied (list text, token bytea, PRIMARY KEY (list, token))")
	w.must(err)
	consumer, err := bus.NewConsumer(bus.ConsumerConfig{
		Pool: f.pool, NATS: w.connect(bus.International), Tier: bus.International, Site: bus.MainSite,
		FromTier: bus.Local, FromSite: bus.MainSite, Log: slog.New(slog.DiscardHandler),
		Topics: []bus.Topic{
			{Kind: "list", Delta: true, Apply: f.apply, Replace: f.replace},
			{Kind: "chapter", Apply: func(context.Context, pgx.Tx, []bus.Event) error { return nil }},
		},
	})
	w.must(err)
	w.background(consumer.Run)
	return f
}

func (f *follower) apply(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
	for _, part := range parts {
		change, ok := part.Data.(*eventv1.ListChanged)
		if !ok {
			return fmt.Errorf("%s holds a %T", part.Subject, part.Data)
		}
		if change.GetDeleted() {
			return f.forget(ctx, tx, change.GetList())
		}
		tag, err := tx.Exec(ctx, "DELETE FROM copied WHERE list = $1 AND token = ANY ($2)", change.GetList(), change.GetRemoved())
		if err != nil || int(tag.RowsAffected()) != len(change.GetRemoved()) {
			return fmt.Errorf("removed %d of %d: %w", tag.RowsAffected(), len(change.GetRemoved()), err)
		}
		if err := f.insert(ctx, tx, change.GetList(), change.GetAdded()); err != nil {
			return err
		}
	}
	return nil
}

func (f *follower) replace(ctx context.Context, tx pgx.Tx, aggregate string, snapshot *bus.Snapshot) error {
	if err := f.forget(ctx, tx, aggregate); err != nil {
		return err
	}
	for part, err := range snapshot.Parts() {
		if err != nil {
			return err
		}
		if tokens, ok := part.(*eventv1.ListSnapshot); ok {
			if err := f.insert(ctx, tx, aggregate, tokens.GetTokens()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *follower) insert(ctx context.Context, tx pgx.Tx, list string, tokens [][]byte) error {
	_, err := tx.Exec(ctx, "INSERT INTO copied SELECT $1, unnest($2::bytea[])", list, tokens)
	return err
}

func (f *follower) forget(ctx context.Context, tx pgx.Tx, list string) error {
	_, err := tx.Exec(ctx, "DELETE FROM copied WHERE list = $1", list)
	return err
}

// holds waits until the copy of a list has so many tokens.
func (f *follower) holds(list string, want int) {
	f.t.Helper()
	testkit.Eventually(f.t, patience, func() (bool, string) {
		var got int
		err := f.pool.QueryRow(f.t.Context(), "SELECT count(*) FROM copied WHERE list = $1", list).Scan(&got)
		return got == want, fmt.Sprintf("the copy of %s has %d tokens, want %d (%v)", list, got, want, err)
	})
}

// agrees waits until the copy is the list.
func (f *follower) agrees(list string) {
	f.t.Helper()
	wanted := map[string]bool{}
	for address, entry := range f.entries(list) {
		if entry.GetState() == localv1.Entry_SUBSCRIBED {
			token := f.key.Token(address)
			wanted[string(token[:])] = true
		}
	}
	f.holds(list, len(wanted))
	rows, err := f.pool.Query(f.t.Context(), "SELECT token FROM copied WHERE list = $1", list)
	f.must(err)
	tokens, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	f.must(err)
	for _, token := range tokens {
		if !wanted[string(token)] {
			f.t.Fatalf("the copy of %s has a token that is not on the list", list)
		}
	}
}
