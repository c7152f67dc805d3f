package international

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// BenchmarkMembershipChange measures membership changes from the gRPC call to the updated standing, with 8 clients, and in
// turn with them, in the same database, transactions that do no more than insert a row and an outbox row. The ratio is
// what counts; the changes a second depend on the machine.
func BenchmarkMembershipChange(b *testing.B) {
	const clients, perClient = 8, 100
	w := setupOn(b, durablePool(b))
	names := make([]string, clients*perClient)
	for i := range names {
		w.member(fmt.Sprintf("m%d", i), fmt.Sprintf("m%d@example.org", i))
		names[i] = fmt.Sprintf("members/m%d", i)
		if i%20 == 0 {
			w.chapter(fmt.Sprintf("c%d", i/20))
		}
		w.must(w.list(fmt.Sprintf("c%d", i/20), "members", []string{fmt.Sprintf("m%d@example.org", i)}, nil))
	}
	w.exec("ANALYZE") // as autovacuum does within a minute
	bare := newBareTable(b, w.pool)

	var ours, theirs time.Duration
	changes, ends := 0, false
	for b.Loop() {
		ends = !ends
		start := time.Now()
		w.eachClient(clients, func(client int) {
			for i := range perClient {
				w.flip(names[client*perClient+i], ends)
			}
		})
		ours += time.Since(start)
		start = time.Now()
		w.eachClient(clients, func(client int) {
			for i := range perClient {
				bare.insert(b, client*perClient+i)
			}
		})
		theirs += time.Since(start)
		changes += clients * perClient
	}
	b.ReportMetric(float64(changes)/ours.Seconds(), "changes/s")
	b.ReportMetric(float64(changes)/theirs.Seconds(), "bare/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
	w.audit()
}

// BenchmarkChangeByListLength measures one membership change on a list of 1,000 and on one of 1,000,000 entries, in turn.
func BenchmarkChangeByListLength(b *testing.B) {
	const short, long, rounds = 1_000, 1_000_000, 50
	w := setupOn(b, durablePool(b))
	for chapter, length := range map[string]int{"short": short, "long": long} {
		w.chapter(chapter)
		w.member(chapter, chapter+"@example.org")
		w.must(w.list(chapter, "members", []string{chapter + "@example.org"}, nil))
		w.fill(chapter, length-1)
	}
	var onShort, onLong time.Duration
	n := 0
	for b.Loop() {
		for range rounds {
			ends := n%2 == 0
			onShort += w.timeFlip("members/short", ends)
			onLong += w.timeFlip("members/long", ends)
			n++
		}
	}
	b.ReportMetric(float64(onShort.Microseconds())/float64(n), "µs/short")
	b.ReportMetric(float64(onLong.Microseconds())/float64(n), "µs/long")
	b.ReportMetric(onLong.Seconds()/onShort.Seconds(), "ratio")
}

// BenchmarkLapses measures the night on which 100,000 terms end.
func BenchmarkLapses(b *testing.B) {
	const members = 100_000
	w := setupOn(b, durablePool(b))
	w.crowd(members)
	for b.Loop() {
		w.clock.Advance(366 * 24 * time.Hour)
		start := time.Now()
		n, err := w.service.lapse(context.Background())
		w.must(err)
		b.ReportMetric(float64(n)/time.Since(start).Seconds(), "lapses/s")
		b.StopTimer()
		w.exec(`UPDATE members SET own_state = 'ACTIVE', term_end = term_end + interval '366 days'`)
		w.exec(`UPDATE standings SET membership_international = membership_total, eligible = true`)
		w.exec(`UPDATE terms SET state = 'RUNNING', end_time = end_time + interval '366 days'`)
		b.StartTimer()
	}
}

// BenchmarkPolicy measures what a draft that moves the line costs to try out on 20,000 chapters, half of them chartered, and
// to bring into force; and one that moves nobody over it.
func BenchmarkPolicy(b *testing.B) {
	w := setupOn(b, durablePool(b))
	w.exec(`INSERT INTO chapters (id, site_no, region, display_name, country_code, city)
		SELECT 'c' || i, 1, 'r' || i % 300, 'c', '', '' FROM generate_series(1, 20000) i`)
	w.exec(`INSERT INTO standings (chapter_no, policy_revision, epoch, update_time, membership_total, membership_international, eligible)
		SELECT chapter_no, 1, 1, $1::timestamptz, 250, 100 + chapter_no % 100, chapter_no % 100 >= 50 FROM chapters`, w.clock.Now())
	w.exec(`INSERT INTO charters (chapter_no, chapter_id, state, apply_time, epoch, version, create_time, update_time)
		SELECT chapter_no, id, CASE WHEN eligible THEN 'CHARTERED' ELSE 'AT_RISK' END, update_time, 1, 1, update_time, update_time
		FROM chapters JOIN standings USING (chapter_no)`)
	w.exec("ANALYZE")
	var simulating, crossing, quiet time.Duration
	n := 0
	for b.Loop() {
		percent := []int32{70, 60}[n%2]
		start := time.Now()
		_, err := w.charter.SimulateCharterPolicy(context.Background(), &internationalv1.SimulateCharterPolicyRequest{CharterPolicy: threshold(percent), PageSize: 1000})
		w.must(err)
		simulating += time.Since(start)
		start = time.Now()
		w.revise(threshold(percent))
		crossing += time.Since(start)
		start = time.Now()
		w.revise(&internationalv1.CharterPolicy{GraceDays: int32(100 + n), Note: "more"})
		quiet += time.Since(start)
		n++
	}
	b.ReportMetric(simulating.Seconds()/float64(n), "s/simulation")
	b.ReportMetric(crossing.Seconds()/float64(n), "s/crossing")
	b.ReportMetric(quiet.Seconds()/float64(n), "s/quiet")
}

// durablePool is a database whose commits wait for the disk, as in production; the tests' own does not wait.
func durablePool(b *testing.B) *pgxpool.Pool {
	b.Helper()
	cluster := testkit.Cluster(b)
	tier := postgres.Tier{Database: "international", Role: "international", Password: "benchmark"}
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

func (w *world) eachClient(clients int, run func(client int)) {
	var all sync.WaitGroup
	for client := range clients {
		all.Go(func() { run(client) })
	}
	all.Wait()
}

// flip ends a membership, or begins it again.
func (w *world) flip(name string, ends bool) {
	var err error
	if ends {
		_, err = w.members.ResignMember(context.Background(), &internationalv1.ResignMemberRequest{Name: name})
	} else {
		_, err = w.members.RenewMember(context.Background(), &internationalv1.RenewMemberRequest{
			Name: name, TermEndTime: timestamppb.New(w.clock.Now().AddDate(1, 0, 0)),
		})
	}
	if err != nil {
		w.t.Error(err)
	}
}

func (w *world) timeFlip(name string, ends bool) time.Duration {
	start := time.Now()
	w.flip(name, ends)
	return time.Since(start)
}

// fill adds strangers to a chapter's members list, in parts of one version.
func (w *world) fill(chapter string, strangers int) {
	w.t.Helper()
	const part = 20_000
	var events []bus.Event
	version := bus.Version{Epoch: 1, Number: w.epoch.Add(1)}
	for from := 0; from < strangers; from += part {
		change := &eventv1.ListChanged{List: "chapters/" + chapter + "/lists/members", Kind: eventv1.ListKind_LIST_KIND_MEMBERSHIP}
		for i := from; i < min(from+part, strangers); i++ {
			change.Added = append(change.Added, w.token(fmt.Sprintf("%s-%d@example.net", chapter, i)))
		}
		events = append(events, bus.Event{Data: change, Version: version})
	}
	w.inTx(func(tx pgx.Tx) error {
		return w.service.listTopic(w.service.sites[0].no).Apply(context.Background(), tx, events)
	})
	w.exec("ANALYZE list_tokens")
}

// crowd enters members and puts them on the lists of a thousand chapters.
func (w *world) crowd(members int) {
	w.t.Helper()
	const chapters = 1000
	for c := range chapters {
		w.chapter(fmt.Sprintf("c%d", c))
	}
	w.exec(`INSERT INTO members (id, display_name, own_state, term_start, term_end, version, create_time, update_time)
		SELECT 'm' || i, 'm', 'ACTIVE', $2::timestamptz, $2::timestamptz + interval '1 year', 1, $2::timestamptz, $2::timestamptz FROM generate_series(1, $1::int) i`, members, w.clock.Now())
	w.exec(`INSERT INTO terms (member_no, start_time, end_time, state) SELECT member_no, term_start, term_end, 'RUNNING' FROM members`)
	w.exec(`INSERT INTO addresses (id, member_no, address, verify_time, create_time)
		SELECT 'a' || id, member_no, id || '@example.org', create_time, create_time FROM members`)
	w.exec(`INSERT INTO address_tokens (token, site_no, member_no, address_no)
		SELECT '\x0101'::bytea || sha256(address::bytea), $1, member_no, address_no FROM addresses`, w.service.sites[0].no)
	w.exec(`INSERT INTO lists (chapter_no, id, basis, epoch, version) SELECT chapter_no, 'members', 1, 1, 1 FROM chapters`)
	w.exec(`INSERT INTO list_tokens (list_no, token)
		SELECT (SELECT min(list_no) FROM lists) + member_no % $1::int, token FROM address_tokens`, chapters)
	w.exec(`UPDATE standings s SET membership_total = n.n, membership_international = n.n, eligible = true
		FROM (SELECT l.chapter_no, count(*)::int AS n FROM list_tokens JOIN lists l USING (list_no) GROUP BY 1) n WHERE n.chapter_no = s.chapter_no`)
	w.exec("ANALYZE")
	w.audit()
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	_, err := w.pool.Exec(context.Background(), sql, args...)
	w.must(err)
}

// bareTable is what the changes are compared with.
type bareTable struct {
	pool *pgxpool.Pool
	next atomic.Int64
}

func newBareTable(b *testing.B, pool *pgxpool.Pool) *bareTable {
	b.Helper()
	if _, err := pool.Exec(b.Context(), "CREATE TABLE bare (n bigint PRIMARY KEY, state text NOT NULL)"); err != nil {
		b.Fatal(err)
	}
	return &bareTable{pool: pool}
}

func (t *bareTable) insert(b *testing.B, i int) {
	n := t.next.Add(1)
	_, err := postgres.InTx(context.Background(), t.pool, func(tx pgx.Tx) (struct{}, error) {
		if _, err := tx.Exec(context.Background(), "INSERT INTO bare VALUES ($1, 'ACTIVE')", n); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, bus.Append(context.Background(), tx, bus.Event{
			Subject: fmt.Sprintf("standing.c%d.changed", i), Aggregate: fmt.Sprintf("chapters/c%d/standing", i),
			Version: bus.Version{Epoch: 1, Number: n}, Data: &eventv1.StandingChanged{Chapter: fmt.Sprintf("chapters/c%d", i)},
		})
	})
	if err != nil {
		b.Error(err)
	}
}
