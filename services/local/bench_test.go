package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/metrics"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// durable is the database of a cluster that waits for the disk, as in production.
func durable(b *testing.B) *pgxpool.Pool {
	b.Helper()
	cluster := testkit.Cluster(b)
	tier := postgres.Tier{Database: "bench", Role: "bench", Password: "bench"}
	if err := postgres.CreateTier(b.Context(), cluster.AdminURL("postgres"), tier); err != nil {
		b.Fatal(err)
	}
	if err := postgres.Migrate(b.Context(), cluster.URL(tier), Migrations()...); err != nil {
		b.Fatal(err)
	}
	pool, err := postgres.Open(b.Context(), cluster.URL(tier))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return pool
}

// BenchmarkSync holds full-list syncs of 100,000 entries, with apply, from the first byte over gRPC to the answer, against
// the bare work in the same database: COPY into an unlogged table, ANALYZE, set-wise DELETE and INSERT.
//   - x-bare: against a table like entries, so the rows that are left behind are the same;
//   - x-narrow: against a table of nothing but list, address and name, keyed by the address.
func BenchmarkSync(b *testing.B) {
	const size = 100_000
	for _, share := range []int{1, 100} {
		b.Run(fmt.Sprintf("change=%d%%", share), func(b *testing.B) {
			w := setupOn(b, durable(b))
			moved := size * share / 100
			sources := []request{replace("crm", people(0, size)).applied(), replace("crm", people(moved, size)).applied()}
			contents := [][]bareRow{w.bareRows(0, size), w.bareRows(moved, size)}
			bare := []bareTable{w.wide(b), w.narrow(b)}
			w.sync(sources[0])
			for _, table := range bare {
				w.bareSync(table, contents[0])
			}
			var ours time.Duration
			theirs := make([]time.Duration, len(bare))
			rounds := 0
			for b.Loop() {
				rounds++
				next := rounds % 2
				w.settle()
				ours += timed(func() { w.sync(sources[next].confirming(int32(moved))) })
				for i, table := range bare {
					w.settle()
					theirs[i] += timed(func() { w.bareSync(table, contents[next]) })
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(ours.Milliseconds())/float64(rounds), "ms/sync")
			b.ReportMetric(ours.Seconds()/theirs[0].Seconds(), "x-bare")
			b.ReportMetric(ours.Seconds()/theirs[1].Seconds(), "x-narrow")
		})
	}
}

// BenchmarkMemory is the largest memory of the process, client and server, while it syncs 1,000,000 entries to an empty
// list and then again with nothing changed.
func BenchmarkMemory(b *testing.B) {
	const size = 1_000_000
	w := setupOn(b, durable(b))
	for round := 0; b.Loop(); round++ {
		list := w.createList(fmt.Sprint("list-", round))
		peak := watchMemory(b.Context())
		for _, want := range []string{fmt.Sprint("add ", size), fmt.Sprint("unchanged ", size)} {
			sync, err := w.streamPeople(list, size)
			w.must(err)
			w.expect(sync, localv1.Sync_APPLIED, want)
		}
		b.ReportMetric(float64(peak())/(1<<20), "MB-peak")
	}
}

// streamPeople uploads so many rows without ever holding them.
func (w *world) streamPeople(list string, n int) (*localv1.Sync, error) {
	stream, err := replace("crm", "").to(list).applied().start(w.t.Context(), w.syncs)
	if err != nil {
		return nil, err
	}
	const rows = 10_000
	for from := 0; from < n && err == nil; from += rows {
		err = sendChunk(stream, []byte(people(from, rows)[map[bool]int{true: 0, false: len("email,name\n")}[from == 0]:]))
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return stream.CloseAndRecv()
}

func watchMemory(ctx context.Context) (peak func() uint64) {
	ctx, cancel := context.WithCancel(ctx)
	highest := make(chan uint64)
	go func() {
		most := uint64(0)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			most = max(most, memory())
			select {
			case <-ctx.Done():
				highest <- most
				return
			case <-tick.C:
			}
		}
	}()
	return func() uint64 {
		cancel()
		return <-highest
	}
}

// memory is what the process has of the system at the moment.
func memory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

func timed(do func()) time.Duration {
	start := time.Now()
	do()
	return time.Since(start)
}

// settle does what autovacuum and the checkpointer would do some time between two syncs.
func (w *world) settle() {
	w.t.Helper()
	for _, statement := range []string{"VACUUM ANALYZE entries", "VACUUM ANALYZE sync_rows", "VACUUM ANALYZE sync_changes", "VACUUM ANALYZE bare_wide", "VACUUM ANALYZE bare_narrow"} {
		_, err := w.pool.Exec(w.t.Context(), statement)
		w.must(err)
	}
}

type bareRow struct {
	line          int
	token         []byte
	address, name string
}

func (w *world) bareRows(from, n int) []bareRow {
	rows := make([]bareRow, n)
	for i := range rows {
		address := person(from + i)
		token := w.key.Token(address)
		rows[i] = bareRow{i, slices.Clone(token[:]), address, fmt.Sprintf("Person %d", from+i)}
	}
	return rows
}

// bareTable is how to sync without any service.
type bareTable struct {
	staging        string
	columns        []string
	row            func(bareRow) []any
	remove, insert string
}

func (w *world) wide(b *testing.B) bareTable {
	b.Helper()
	w.exec(`CREATE TABLE bare_wide (LIKE entries INCLUDING ALL)`)
	w.exec(`CREATE UNLOGGED TABLE staging_wide (line integer, token bytea, address text, display_name text)`)
	return bareTable{
		staging: "staging_wide",
		columns: []string{"line", "token", "address", "display_name"},
		row:     func(r bareRow) []any { return []any{r.line, r.token, r.address, r.name} },
		remove:  `DELETE FROM bare_wide b WHERE list_no = 1 AND NOT EXISTS (SELECT FROM staging_wide s WHERE s.token = b.token)`,
		insert: `INSERT INTO bare_wide (list_no, token, version, create_time, update_time, state, address, display_name, sources)
			SELECT 1, token, 1, now(), now(), 1, address, display_name, '{crm}' FROM staging_wide s
			WHERE NOT EXISTS (SELECT FROM bare_wide b WHERE b.list_no = 1 AND b.token = s.token) ORDER BY token`,
	}
}

func (w *world) narrow(b *testing.B) bareTable {
	b.Helper()
	w.exec(`CREATE TABLE bare_narrow (list_no bigint NOT NULL, address text COLLATE "C" NOT NULL, display_name text NOT NULL, PRIMARY KEY (list_no, address))`)
	w.exec(`CREATE UNLOGGED TABLE staging_narrow (address text COLLATE "C", display_name text)`)
	return bareTable{
		staging: "staging_narrow",
		columns: []string{"address", "display_name"},
		row:     func(r bareRow) []any { return []any{r.address, r.name} },
		remove:  `DELETE FROM bare_narrow b WHERE list_no = 1 AND NOT EXISTS (SELECT FROM staging_narrow s WHERE s.address = b.address)`,
		insert: `INSERT INTO bare_narrow SELECT 1, address, display_name FROM staging_narrow s
			WHERE NOT EXISTS (SELECT FROM bare_narrow b WHERE b.list_no = 1 AND b.address = s.address) ORDER BY address`,
	}
}

func (w *world) exec(sql string) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), sql)
	w.must(err)
}

func (w *world) bareSync(t bareTable, rows []bareRow) {
	w.t.Helper()
	ctx := w.t.Context()
	w.exec("TRUNCATE " + t.staging)
	_, err := w.pool.CopyFrom(ctx, pgx.Identifier{t.staging}, t.columns,
		pgx.CopyFromSlice(len(rows), func(i int) ([]any, error) { return t.row(rows[i]), nil }))
	w.must(err)
	_, err = postgres.InTx(ctx, w.pool, func(tx pgx.Tx) (struct{}, error) {
		for _, statement := range []string{"ANALYZE " + t.staging, t.remove, t.insert} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	w.must(err)
}

// BenchmarkEntries holds single changes over gRPC, by 8 clients on lists of their own, against bare transactions of an
// insert and an outbox row on 8 connections.
func BenchmarkEntries(b *testing.B) {
	const clients = 8
	w := setupOn(b, durable(b))
	w.exec("CREATE TABLE bare_wide (LIKE entries INCLUDING ALL)")
	lists := make([]string, clients)
	for i := range lists {
		lists[i] = w.createList(fmt.Sprint("list-", i))
	}
	const changes = 250
	var ours, bare time.Duration
	for round := 0; b.Loop(); round++ {
		ours += timed(func() {
			w.parallel(clients, changes, func(client, i int) error {
				_, err := w.lists.CreateEntry(b.Context(), &localv1.CreateEntryRequest{
					Parent: lists[client], Entry: &localv1.Entry{Address: person(round*changes + i)},
				})
				return err
			})
		})
		bare += timed(func() {
			w.parallel(clients, changes, func(client, i int) error { return w.bareChange(client, round*changes+i) })
		})
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(b.N*clients*changes)/ours.Seconds(), "changes/s")
	b.ReportMetric(bare.Seconds()/ours.Seconds(), "of-bare")
}

func (w *world) parallel(clients, times int, do func(client, i int) error) {
	w.t.Helper()
	done := make(chan error, clients)
	for client := range clients {
		go func() {
			var err error
			for i := 0; i < times && err == nil; i++ {
				err = do(client, i)
			}
			done <- err
		}()
	}
	for range clients {
		w.must(<-done)
	}
}

func (w *world) bareChange(client, i int) error {
	token := w.key.Token(person(i))
	_, err := postgres.InTx(w.t.Context(), w.pool, func(tx pgx.Tx) (struct{}, error) {
		if _, err := tx.Exec(w.t.Context(), `INSERT INTO bare_wide (list_no, token, version, create_time, update_time, state, address, display_name, sources)
			VALUES ($1, $2, 1, now(), now(), 1, $3, '', '{manual}')`, client, token[:], person(i)); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, bus.Append(w.t.Context(), tx, bus.Event{
			Subject: "bare.x", Data: &eventv1.ListChanged{Added: [][]byte{token[:]}},
		})
	})
	return err
}
