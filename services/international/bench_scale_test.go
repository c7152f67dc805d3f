package international

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// yearEnd is when the terms of every fifth member of a federation end.
var yearEnd = time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)

// BenchmarkScale loads a federation of CHAPTERHOUSE_SCALE members (a million in `make bench-scale`) and a small one of a
// thousand, on a cluster whose commits wait for the disk, with the publisher at work on a real JetStream, and measures
// what must not depend on their number or must be done in a set time.
func BenchmarkScale(b *testing.B) {
	members, err := strconv.Atoi(os.Getenv("CHAPTERHOUSE_SCALE"))
	if err != nil {
		b.Skip("set CHAPTERHOUSE_SCALE to a number of members, or run `make bench-scale`")
	}
	small, large := scaleWorld(b), scaleWorld(b)
	small.populate(b, 1000)
	start := time.Now()
	large.populate(b, members)
	loaded := time.Since(start)
	for b.Loop() {
		compareChanges(b, small, large, members)
		start := time.Now()
		large.audit()
		b.ReportMetric(time.Since(start).Seconds(), "audit-s")
		large.measureSimulation(b)
		large.measureYearEnd(b, members)
		large.audit()
	}
	b.ReportMetric(loaded.Seconds(), "load-s") // Loop forgets what was reported before
}

// scaleWorld is a service with a database and a JetStream of its own, that publishes all it writes.
func scaleWorld(b *testing.B) *world {
	b.Helper()
	w := setupOn(b, durablePool(b))
	w.service.publisher = bus.NewPublisher(bus.PublisherConfig{
		Pool: w.pool, NATS: testkit.NATS(b).Connect(b, bus.International, bus.MainSite), Tier: bus.International, Site: bus.MainSite,
		Log: slog.New(slog.DiscardHandler),
	})
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.service.publisher.Run(ctx) }()
	b.Cleanup(func() {
		stop()
		w.must(<-done)
	})
	return w
}

// populate writes members and a fiftieth as many chapters, of which the smallest have a tenth of the mean and the
// largest a hundred times as much. A member has one address, on the members list and the mailing list of the home chapter
// and on the mailing list of another; strangers make it five entries a member. Between all and half of a chapter's people
// are members. Every second chapter that is eligible has a charter.
func (w *world) populate(b *testing.B, members int) {
	b.Helper()
	chapters := members / 50
	site := w.service.sites[0].no
	for _, sql := range []string{
		`ALTER TABLE list_tokens DROP CONSTRAINT list_tokens_pkey`,
		`DROP INDEX list_tokens_token`,
		fmt.Sprintf(`INSERT INTO members (id, display_name, own_state, term_start, term_end, version, create_time, update_time)
			SELECT 'm' || i, 'Member ' || i, 'ACTIVE', '2026-01-01Z', CASE WHEN i %% 5 = 0 THEN '2027-01-01Z'::timestamptz ELSE '2029-01-01Z' END,
			       1, '2026-01-01Z', '2026-01-01Z' FROM generate_series(1, %d) i`, members),
		`INSERT INTO terms (member_no, start_time, end_time, state) SELECT member_no, term_start, term_end, 'RUNNING' FROM members`,
		`INSERT INTO addresses (id, member_no, address, verify_time, create_time)
			SELECT 'a' || id, member_no, id || '@example.org', create_time, create_time FROM members`,
		fmt.Sprintf(`INSERT INTO address_tokens (token, site_no, member_no, address_no)
			SELECT '\x0101'::bytea || sha256(address::bytea), %d, member_no, address_no FROM addresses`, site),
		fmt.Sprintf(`INSERT INTO chapters (id, site_no, region, display_name, country_code, city)
			SELECT 'c' || i, %d, 'world', 'Chapter ' || i, 'DE', '' FROM generate_series(1, %d) i`, site, chapters),
		`INSERT INTO lists (chapter_no, id, basis, epoch, version) SELECT chapter_no, 'members', 1, 1, 1 FROM chapters`,
		`INSERT INTO lists (chapter_no, id, basis, epoch, version) SELECT chapter_no, 'announce', 2, 1, 1 FROM chapters`,
		fmt.Sprintf(`CREATE TEMP TABLE homes AS
			SELECT token, 1 + floor(%[1]d * (member_no - 0.5) / %[2]d * (member_no - 0.5) / %[2]d)::bigint AS home,
			       1 + member_no * 7919 %% %[1]d AS other
			FROM address_tokens`, chapters, members),
		`CREATE TEMP TABLE crowds AS
			SELECT home, count(*) AS members, (count(*) * (home % 40) / 40.0)::int AS strangers FROM homes GROUP BY home`,
		`INSERT INTO list_tokens (list_no, token)
			SELECT list_no, token FROM (
			    SELECT l.list_no, h.token FROM homes h JOIN lists l ON l.chapter_no = h.home
			    UNION
			    SELECT l.list_no, h.token FROM homes h JOIN lists l ON l.chapter_no = h.other AND l.basis = 2
			    UNION ALL
			    SELECT l.list_no, '\x0101'::bytea || sha256((home || '/' || i)::bytea)
			    FROM crowds JOIN lists l ON l.chapter_no = home CROSS JOIN LATERAL generate_series(1, strangers * 2) i
			) entries ORDER BY 1, 2`,
		`ALTER TABLE list_tokens ADD PRIMARY KEY (list_no, token)`,
		`CREATE INDEX list_tokens_token ON list_tokens (token)`,
		`ANALYZE`,
		`INSERT INTO standings (chapter_no, policy_revision, epoch, update_time, membership_total, membership_international, mailing_total, mailing_international)
			SELECT c.chapter_no, 1, (SELECT epoch FROM epochs), '2026-01-01Z', coalesce(a.total, 0), coalesce(a.international, 0), coalesce(b.total, 0), coalesce(b.international, 0)
			FROM chapters c
			LEFT JOIN (SELECT chapter_no, count(*) AS total, count(t.token) AS international
			           FROM list_tokens lt JOIN lists l USING (list_no) LEFT JOIN address_tokens t USING (token) WHERE basis = 1 GROUP BY 1) a USING (chapter_no)
			LEFT JOIN (SELECT chapter_no, count(*) AS total, count(t.token) AS international
			           FROM list_tokens lt JOIN lists l USING (list_no) LEFT JOIN address_tokens t USING (token) WHERE basis = 2 GROUP BY 1) b USING (chapter_no)`,
		`UPDATE standings SET eligible = membership_total > 0 AND 100 * membership_international >= 60 * membership_total
			OR mailing_total > 0 AND 100 * mailing_international >= 60 * mailing_total`,
		`INSERT INTO charters (chapter_no, chapter_id, state, apply_time, epoch, version, create_time, update_time)
			SELECT chapter_no, id, 'CHARTERED', '2026-01-01Z', (SELECT epoch FROM epochs), 1, '2026-01-01Z', '2026-01-01Z'
			FROM standings JOIN chapters USING (chapter_no) WHERE eligible AND chapter_no % 2 = 0`,
		`VACUUM ANALYZE`, // as autovacuum does within minutes
	} {
		w.exec(sql)
	}
	var entries int
	w.must(w.pool.QueryRow(b.Context(), "SELECT count(*) FROM list_tokens").Scan(&entries))
	var size string
	w.must(w.pool.QueryRow(b.Context(), `SELECT string_agg(relname || ' ' || pg_size_pretty(pg_total_relation_size(oid)), ', ' ORDER BY pg_total_relation_size(oid) DESC)
		FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND reltuples >= 1000`).Scan(&size))
	b.Logf("%d members, %d chapters, %d entries: %s", members, chapters, entries, size)
	w.audit()
}

// compareChanges times membership changes in both federations, in turn.
func compareChanges(b *testing.B, small, large *world, members int) {
	const warmUp, rounds = 100, 1000
	random := rand.New(rand.NewPCG(1, 2))
	var onSmall, onLarge []time.Duration
	for i := range warmUp + rounds {
		few, many := staying(random, 1000), staying(random, members)
		for _, ends := range []bool{true, false} {
			s, l := small.timeFlip(few, ends), large.timeFlip(many, ends)
			if i >= warmUp {
				onSmall, onLarge = append(onSmall, s), append(onLarge, l)
			}
		}
	}
	b.ReportMetric(float64(percentile(onSmall, 50).Microseconds()), "µs/small")
	b.ReportMetric(float64(percentile(onLarge, 50).Microseconds()), "µs/large")
	b.ReportMetric(sum(onLarge).Seconds()/sum(onSmall).Seconds(), "change-ratio")
}

// measureSimulation tries out a policy that asks for more.
func (w *world) measureSimulation(b *testing.B) {
	b.Helper()
	start := time.Now()
	answer, err := w.charter.SimulateCharterPolicy(b.Context(), &internationalv1.SimulateCharterPolicyRequest{
		CharterPolicy: &internationalv1.CharterPolicy{ThresholdPercent: 70}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"threshold_percent"}},
	})
	w.must(err)
	b.ReportMetric(time.Since(start).Seconds(), "simulate-s")
	if answer.GetTotal().GetLosing() == 0 {
		b.Error("a higher threshold loses nobody")
	}
}

// measureYearEnd lapses a fifth of all members, while others read standings and members, change memberships and lists.
func (w *world) measureYearEnd(b *testing.B, members int) {
	var reads, writes latencies
	ctx, stop := context.WithCancel(context.Background())
	var beside sync.WaitGroup
	for client := range 4 {
		random := rand.New(rand.NewPCG(uint64(client), 3))
		pace := rate.NewLimiter(25, 1)
		beside.Go(func() {
			for pace.Wait(ctx) == nil {
				reads.time(func() {
					_, err := w.stands.GetStanding(context.Background(), &internationalv1.GetStandingRequest{
						Name: fmt.Sprintf("chapters/c%d/standing", 1+random.IntN(members/50)),
					}, grpc.WaitForReady(true))
					if err != nil {
						b.Error(err)
					}
				})
				name := fmt.Sprintf("members/m%d", 5*(4*random.IntN(members/20)+client)+1) // one that only this client changes
				for _, ends := range []bool{true, false} {
					writes.time(func() { w.flip(name, ends) })
				}
			}
		})
	}
	w.clock.Set(yearEnd.Add(time.Second))
	start := time.Now()
	lapsed, err := w.service.lapse(context.Background())
	took := time.Since(start)
	stop()
	beside.Wait()
	w.must(err)
	if lapsed < members/5 {
		b.Errorf("%d of %d lapsed", lapsed, members/5)
	}
	b.ReportMetric(took.Seconds(), "lapse-s")
	b.ReportMetric(float64(len(reads.took)+len(writes.took))/took.Seconds(), "calls/s")
	b.ReportMetric(float64(percentile(reads.took, 99).Milliseconds()), "read-p99-ms")
	b.ReportMetric(float64(percentile(writes.took, 99).Milliseconds()), "write-p99-ms")
}

// staying names a member whose term does not end with the year.
func staying(random *rand.Rand, members int) string {
	return fmt.Sprintf("members/m%d", 5*random.IntN(members/5)+1)
}

// latencies are what calls of several clients took.
type latencies struct {
	mu   sync.Mutex
	took []time.Duration
}

func (l *latencies) time(call func()) {
	start := time.Now()
	call()
	took := time.Since(start)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, took)
}

func percentile(took []time.Duration, percent int) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	return sorted[(len(sorted)-1)*percent/100]
}

func sum(took []time.Duration) (total time.Duration) {
	for _, one := range took {
		total += one
	}
	return total
}
