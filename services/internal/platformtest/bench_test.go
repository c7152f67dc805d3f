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
	"google.golang.org/protobuf/encoding/protojson"

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

// BenchmarkSyncREST measures full-list syncs over REST, planned in one request and applied in another, against the bare
// work in the same database: COPY into an unlogged table, ANALYZE, set-wise DELETE and INSERT.
func BenchmarkSyncREST(b *testing.B) {
	for _, size := range []int{1_000, 100_000, 1_000_000} {
		for _, share := range []int{1, 100} {
			b.Run(fmt.Sprintf("rows=%d/change=%d%%", size, share), func(b *testing.B) { benchmarkSync(b, size, size*share/100) })
		}
	}
}

func benchmarkSync(b *testing.B, size, moved int) {
	d := deploy(b)
	d.found(b, "paris")
	bare := d.newBareList(b)
	contents := [][]byte{csvOf(0, size), csvOf(moved, size)}
	rows := [][][]any{bareRows(0, size), bareRows(moved, size)}
	d.planAndApply(b, contents[0])
	bare.sync(b, rows[0])
	var plan, apply, theirs time.Duration
	rounds := 0
	for b.Loop() {
		rounds++
		next := rounds % 2
		bare.settle(b)
		planned, applied := d.planAndApply(b, contents[next])
		plan, apply = plan+planned, apply+applied
		bare.settle(b)
		start := time.Now()
		bare.sync(b, rows[next])
		theirs += time.Since(start)
	}
	each := func(total time.Duration) float64 { return total.Seconds() * 1000 / float64(rounds) }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(each(plan), "ms/plan")
	b.ReportMetric(each(apply), "ms/apply")
	b.ReportMetric(each(theirs), "ms/bare")
	b.ReportMetric((plan+apply).Seconds()/theirs.Seconds(), "x-bare")
}

// BenchmarkSyncLikeOthers does what others were measured at on two such cores: listmonk 35 s for a CSV import of 100,000
// rows and 33 s for the same again, Mailman 3 422 s for a full-list sync of 10,000 addresses and 13 s with 1 % changed.
func BenchmarkSyncLikeOthers(b *testing.B) {
	for _, c := range []struct {
		name        string
		size        int
		first, then float64 // what the other needs, in seconds
		moved       int
		who         string
	}{
		{"rows=100000", 100_000, 35, 33, 0, "listmonk"},
		{"rows=10000", 10_000, 422, 13, 100, "mailman"},
	} {
		b.Run(c.name, func(b *testing.B) {
			var first, then time.Duration
			rounds := 0
			for b.Loop() {
				rounds++
				d := deploy(b)
				d.found(b, "paris")
				start := time.Now()
				d.syncREST(b, csvOf(0, c.size), 0)
				first += time.Since(start)
				start = time.Now()
				d.syncREST(b, csvOf(c.moved, c.size), c.moved)
				then += time.Since(start)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(first.Seconds()*1000/float64(rounds), "ms/first")
			b.ReportMetric(then.Seconds()*1000/float64(rounds), "ms/then")
			b.ReportMetric(c.first*float64(rounds)/first.Seconds(), c.who+"/first")
			b.ReportMetric(c.then*float64(rounds)/then.Seconds(), c.who+"/then")
		})
	}
}

// BenchmarkSyncMemory is the largest memory that the local service's process ever had, after syncs of so many entries.
func BenchmarkSyncMemory(b *testing.B) {
	for _, size := range []int{100_000, 1_000_000, 3_000_000} {
		b.Run(fmt.Sprint("rows=", size), func(b *testing.B) {
			d := deploy(b)
			d.found(b, "paris")
			for b.Loop() {
				d.syncREST(b, csvOf(0, size), size)
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(peakMB(b, d.processes[bus.Local].pid()), "MB-peak")
		})
	}
}

// syncREST replaces the members list of paris, as its cron job would.
func (d *deployment) syncREST(b *testing.B, source []byte, removals int) {
	b.Helper()
	d.post(b, fmt.Sprintf("/v1/chapters/paris/lists/members/syncs?mode=REPLACE&source=crm&apply=true&confirmRemovals=%d", removals), "text/csv", source)
}

// planAndApply does the same as a careful admin would, and returns what each took.
func (d *deployment) planAndApply(b *testing.B, source []byte) (plan, apply time.Duration) {
	b.Helper()
	start := time.Now()
	sync := &localv1.Sync{}
	must(b, protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(
		d.post(b, "/v1/chapters/paris/lists/members/syncs?mode=REPLACE&source=crm", "text/csv", source), sync))
	planned := time.Now()
	d.post(b, "/v1/"+sync.GetName()+":apply", "application/json", fmt.Appendf(nil, `{"confirmRemovals": %d}`, sync.GetCounts().GetRemove()))
	return planned.Sub(start), time.Since(planned)
}

func (d *deployment) post(b *testing.B, path, mediaType string, body []byte) []byte {
	b.Helper()
	r := get(http.NewRequestWithContext(b.Context(), http.MethodPost, d.rest+path, bytes.NewReader(body)))(b)
	r.Header.Set("Content-Type", mediaType)
	r.Header.Set("Authorization", "Bearer "+d.token(b, authz.ChapterAdmin, "chapters/paris"))
	response := get((&http.Client{Timeout: 10 * time.Minute}).Do(r))(b)
	defer func() { _ = response.Body.Close() }()
	text := get(io.ReadAll(response.Body))(b)
	if response.StatusCode != http.StatusOK {
		b.Fatalf("%s: %s", response.Status, text)
	}
	return text
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
