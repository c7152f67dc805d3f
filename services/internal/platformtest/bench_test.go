package platformtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// BenchmarkStandingLatency measures the time from an acknowledged write to the standing that shows it, at 200 changes a
// second over 40 chapters, between separate processes. What is visible is asked of international's database every
// 2 ms, which is the resolution.
func BenchmarkStandingLatency(b *testing.B) {
	const chapters, perSecond = 40, 200
	d := deploy(b)
	ids := make([]string, chapters)
	for i := range ids {
		ids[i] = fmt.Sprintf("chapter-%d", i)
	}
	d.found(b, ids...)
	watch := d.watchTotals(b)
	var waits []time.Duration
	for round := 0; b.Loop(); round++ {
		waits = append(waits, d.paced(b, watch, ids, round, perSecond)...)
	}
	slices.Sort(waits)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "ms-p99")
}

// paced adds entries for ten seconds, so many a second, and returns how long each took to be visible after its answer.
func (d *deployment) paced(b *testing.B, watch *totals, ids []string, round, perSecond int) []time.Duration {
	const seconds = 10
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	waits := make([]time.Duration, perSecond*seconds)
	var all sync.WaitGroup
	tokens := make([]string, len(ids))
	for i, id := range ids {
		tokens[i] = d.token(b, authz.ChapterAdmin, "chapters/"+id)
	}
	for i := range waits {
		<-tick.C
		all.Go(func() {
			chapter := i % len(ids)
			_, err := d.lists.CreateEntry(withToken(context.Background(), tokens[chapter]), &localv1.CreateEntryRequest{
				Parent: "chapters/" + ids[chapter] + "/lists/members",
				Entry:  &localv1.Entry{Address: fmt.Sprintf("round-%d-%d@example.org", round, i)},
			})
			answered := time.Now()
			if err != nil {
				b.Error(err)
				return
			}
			// Writers of one chapter come 200 ms apart, so the total says whose entry is counted.
			waits[i] = max(0, watch.await(ids[chapter], round*perSecond*seconds/len(ids)+i/len(ids)+1).Sub(answered))
		})
	}
	all.Wait()
	return waits
}

// totals watches what the standings show, and tells those who wait for a total when it was first seen. It costs little:
// what it takes would be missing to those whom it watches.
type totals struct {
	mu      sync.Mutex
	shown   map[string]shownTotal // by chapter
	waiting map[string][]waiter
}

type shownTotal struct {
	total int
	since time.Time
}

type waiter struct {
	total int
	seen  chan time.Time
}

// watchTick is the resolution.
const watchTick = 2 * time.Millisecond

func (d *deployment) watchTotals(b *testing.B) *totals {
	b.Helper()
	pool := get(postgres.Open(b.Context(), d.cluster.URL(d.tiers[bus.International])))(b)
	b.Cleanup(pool.Close)
	w := &totals{shown: map[string]shownTotal{}, waiting: map[string][]waiter{}}
	go func() {
		tick := time.NewTicker(watchTick)
		defer tick.Stop()
		var since time.Time
		for range tick.C {
			if w.look(b.Context(), pool, &since) != nil {
				return // the benchmark is over
			}
		}
	}()
	return w
}

// look reads the standings that moved since it last looked.
func (w *totals) look(ctx context.Context, pool *pgxpool.Pool, since *time.Time) error {
	rows, err := pool.Query(ctx, `SELECT c.id, s.membership_total, s.update_time FROM standings s JOIN chapters c USING (chapter_no)
		WHERE s.update_time >= $1`, since.Add(-time.Second))
	if err != nil {
		return err
	}
	var id string
	var total int
	var updated time.Time
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = pgx.ForEachRow(rows, []any{&id, &total, &updated}, func() error {
		if updated.After(*since) {
			*since = updated
		}
		if w.shown[id].total != total {
			w.shown[id] = shownTotal{total, time.Now()}
			w.tell(id)
		}
		return nil
	})
	return err
}

func (w *totals) tell(chapter string) {
	shown := w.shown[chapter]
	w.waiting[chapter] = slices.DeleteFunc(w.waiting[chapter], func(one waiter) bool {
		if one.total <= shown.total {
			one.seen <- shown.since
			return true
		}
		return false
	})
}

// await returns when the total, or a higher one, was first seen.
func (w *totals) await(chapter string, total int) time.Time {
	one := waiter{total, make(chan time.Time, 1)}
	w.mu.Lock()
	w.waiting[chapter] = append(w.waiting[chapter], one)
	w.tell(chapter)
	w.mu.Unlock()
	return <-one.seen
}

// BenchmarkSyncREST measures a full-list sync of 100,000 entries over REST, planned and applied in one request, against
// the bare work in the same database: COPY into an unlogged table, ANALYZE, set-wise DELETE and INSERT.
func BenchmarkSyncREST(b *testing.B) {
	const size = 100_000
	for _, share := range []int{1, 100} {
		b.Run(fmt.Sprintf("change=%d%%", share), func(b *testing.B) {
			d := deploy(b)
			d.found(b, "paris")
			bare := d.newBareList(b)
			moved := size * share / 100
			contents := [][]byte{csvOf(0, size), csvOf(moved, size)}
			rows := [][][]any{bareRows(0, size), bareRows(moved, size)}
			d.syncREST(b, contents[0], 0)
			bare.sync(b, rows[0])
			var ours, theirs time.Duration
			rounds := 0
			for b.Loop() {
				rounds++
				next := rounds % 2
				bare.settle(b)
				start := time.Now()
				d.syncREST(b, contents[next], moved)
				ours += time.Since(start)
				bare.settle(b)
				start = time.Now()
				bare.sync(b, rows[next])
				theirs += time.Since(start)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(ours.Milliseconds())/float64(rounds), "ms/sync")
			b.ReportMetric(float64(theirs.Milliseconds())/float64(rounds), "ms/bare")
			b.ReportMetric(ours.Seconds()/theirs.Seconds(), "x-bare")
		})
	}
}

// BenchmarkSyncMemory is the largest memory that the local service's process ever had, after a sync of 1,000,000 entries.
func BenchmarkSyncMemory(b *testing.B) {
	const size = 1_000_000
	d := deploy(b)
	d.found(b, "paris")
	for b.Loop() {
		d.syncREST(b, csvOf(0, size), size)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(peakMB(b, d.processes[bus.Local].pid()), "MB-peak")
}

// syncREST replaces the members list of paris, as its cron job would.
func (d *deployment) syncREST(b *testing.B, source []byte, removals int) {
	b.Helper()
	url := fmt.Sprintf("%s/v1/chapters/paris/lists/members/syncs?mode=REPLACE&source=crm&apply=true&confirmRemovals=%d", d.rest, removals)
	r := get(http.NewRequestWithContext(b.Context(), http.MethodPost, url, bytes.NewReader(source)))(b)
	r.Header.Set("Content-Type", "text/csv")
	r.Header.Set("Authorization", "Bearer "+d.token(b, authz.ChapterAdmin, "chapters/paris"))
	response := get((&http.Client{Timeout: 10 * time.Minute}).Do(r))(b)
	defer func() { _ = response.Body.Close() }()
	if text := get(io.ReadAll(response.Body))(b); response.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s", response.Status, text)
	}
}

// personAt spreads neighbours over the alphabet, as people are.
func personAt(i int) string {
	return fmt.Sprintf("%08x.%d@example.org", rand.New(rand.NewPCG(uint64(i), 1)).Uint32(), i)
}

func csvOf(from, n int) []byte {
	var text bytes.Buffer
	text.WriteString("email,name\n")
	for i := from; i < from+n; i++ {
		fmt.Fprintf(&text, "%s,Person %d\n", personAt(i), i)
	}
	return text.Bytes()
}

// bareList is a list without any service.
type bareList struct{ pool *pgxpool.Pool }

func (d *deployment) newBareList(b *testing.B) *bareList {
	b.Helper()
	pool := get(postgres.Open(b.Context(), d.cluster.URL(d.tiers[bus.Local])))(b)
	b.Cleanup(pool.Close)
	l := &bareList{pool}
	l.exec(b, `CREATE TABLE bare (LIKE entries INCLUDING ALL)`)
	l.exec(b, `CREATE UNLOGGED TABLE bare_staging (token bytea, address text, display_name text)`)
	return l
}

func (l *bareList) exec(b *testing.B, sql string) {
	b.Helper()
	_, err := l.pool.Exec(b.Context(), sql)
	must(b, err)
}

// settle lets neither side pay for what the other left behind.
func (l *bareList) settle(b *testing.B) {
	b.Helper()
	for _, table := range []string{"entries", "sync_rows", "sync_changes", "bare"} {
		l.exec(b, "VACUUM ANALYZE "+table)
	}
}

// bareRows are parsed, canonical and hashed already.
func bareRows(from, n int) [][]any {
	rows := make([][]any, n)
	for i := range rows {
		address := personAt(from + i)
		token := sha256.Sum256([]byte(address))
		rows[i] = []any{append([]byte{1, 1}, token[:]...), address, fmt.Sprintf("Person %d", from+i)}
	}
	return rows
}

func (l *bareList) sync(b *testing.B, rows [][]any) {
	b.Helper()
	ctx := b.Context()
	l.exec(b, "TRUNCATE bare_staging")
	_, err := l.pool.CopyFrom(ctx, pgx.Identifier{"bare_staging"}, []string{"token", "address", "display_name"}, pgx.CopyFromRows(rows))
	must(b, err)
	l.exec(b, "ANALYZE bare_staging")
	_, err = postgres.InTx(ctx, l.pool, func(tx pgx.Tx) (struct{}, error) {
		if _, err := tx.Exec(ctx, `DELETE FROM bare WHERE list_no = 1 AND NOT EXISTS (SELECT FROM bare_staging s WHERE s.token = bare.token)`); err != nil {
			return struct{}{}, err
		}
		_, err := tx.Exec(ctx, `
			INSERT INTO bare (list_no, token, version, create_time, update_time, state, address, display_name, sources)
			SELECT 1, token, 1, now(), now(), 1, address, display_name, '{crm}' FROM bare_staging s
			WHERE NOT EXISTS (SELECT FROM bare b WHERE b.list_no = 1 AND b.token = s.token) ORDER BY token`)
		return struct{}{}, err
	})
	must(b, err)
}

// peakMB is the high-water mark of a process's memory, as Linux keeps it.
func peakMB(b *testing.B, pid int) float64 {
	b.Helper()
	status := string(get(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)))(b))
	_, rest, _ := strings.Cut(status, "VmHWM:")
	kilobytes := get(strconv.Atoi(strings.Fields(rest)[0]))(b)
	return float64(kilobytes) / 1024
}
