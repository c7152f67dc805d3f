package platformtest

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"google.golang.org/grpc/codes"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// TestOutages takes a part away and finds that the others go on, and that the figures agree when it is back.
func TestOutages(t *testing.T) {
	t.Parallel()
	t.Run("WithoutNATSNoWriteFails", withoutNATS)
	t.Run("WithoutInternationalListsAreKept", withoutInternational)
	t.Run("WithoutLocalMembersAreKept", withoutLocal)
	t.Run("WithoutRegionalChaptersGoOn", withoutRegional)
	t.Run("WhoPausesInTheMiddleOfAnUploadDelaysNobody", pausedUpload)
	t.Run("WithoutOutagesChangesAreVisibleWithinASecond", visible)
	t.Run("TermsEndByThemselvesOneAfterTheOther", termsEnd)
}

func withoutNATS(t *testing.T) {
	h, tr := twoChapters(t)
	h.nats.Stop()
	h.enter(t, tr, "cleo", "cleo@example.org")
	h.subscribe(t, tr, onParis, "cleo@example.org", "ada@home.example")
	h.sync(t, tr, onBerlin, uploaded{source: "crm", replace: true, addresses: numbered("crm", 30)})
	h.resign(t, tr, "ada")
	_, err := h.charters.CreateCharter(h.admin(bounded(t, patience), t, paris), &internationalv1.CreateCharterRequest{
		Charter: &internationalv1.Charter{Chapter: "chapters/" + paris},
	})
	must(t, err)
	h.nats.Start(t)
	h.settle(t, tr, patience)
}

func withoutInternational(t *testing.T) {
	h, tr := twoChapters(t)
	h.stop(bus.International)
	h.subscribe(t, tr, onParis, "cleo@example.org")
	sync := h.sync(t, tr, onParis, uploaded{source: "crm", addresses: numbered("crm", 30)})
	if !sync.GetStandingUnavailable() || sync.GetStandingBefore() != nil || sync.GetStandingAfter() != nil {
		t.Errorf("a sync without international says of the standing %v, %v, %v", sync.GetStandingUnavailable(), sync.GetStandingBefore(), sync.GetStandingAfter())
	}
	h.start(bus.International)
	h.settle(t, tr, patience)
}

func withoutLocal(t *testing.T) {
	h, tr := twoChapters(t)
	h.stop(bus.Local)
	h.enter(t, tr, "cleo", "stranger@example.org")
	h.resign(t, tr, "ada")
	want := tr.standings(h.clock.Now())
	for _, chapter := range []string{paris, berlin} {
		if difference := want[chapter].difference(h.standing(bounded(t, patience), t, chapter)); difference != "" {
			t.Errorf("the register's side needs no local service: %s", difference)
		}
	}
	// A chapter that is not known here may be there all the same.
	_, err := h.charters.CreateCharter(h.admin(bounded(t, patience), t, "vienna"), &internationalv1.CreateCharterRequest{
		Charter: &internationalv1.Charter{Chapter: "chapters/vienna"},
	})
	wantUnavailable(t, err)
	h.start(bus.Local)
	h.settle(t, tr, patience)
}

func withoutRegional(t *testing.T) {
	h, tr := twoChapters(t)
	h.stop(bus.Regional)
	h.found(t, "vienna") // in a region that is known here
	tr.knows("vienna")
	h.subscribe(t, tr, "chapters/vienna/lists/members", "ada@example.org")
	h.agree(t, tr, patience)
	_, err := h.chapters.CreateChapter(h.staff(bounded(t, patience), t), &localv1.CreateChapterRequest{
		ChapterId: "lima", Chapter: &localv1.Chapter{DisplayName: "Lima", Region: "regions/peru"},
	})
	wantUnavailable(t, err)
	h.start(bus.Regional)
	h.settle(t, tr, patience)
}

func wantUnavailable(t *testing.T, err error) {
	t.Helper()
	if !rpc.Is(err, errorv1.Reason_REASON_TIER_UNAVAILABLE) {
		t.Errorf("%v, want %s: whether it exists is not known", err, codes.Unavailable)
	}
}

// pausedUpload pauses in the middle of a large upload for CHAPTERHOUSE_PAUSE, 3 s, after CHAPTERHOUSE_PAUSE_ROWS, 25,000;
// meanwhile changes of the same list and of others pass, and nobody holds a transaction.
func pausedUpload(t *testing.T) {
	h, tr := twoChapters(t)
	pause, rows := duration(t, "CHAPTERHOUSE_PAUSE", 3*time.Second), pausedRows(t)
	people := numbered("many", 2*rows)
	body, source := io.Pipe()
	r := get(http.NewRequestWithContext(bounded(t, pause+3*time.Minute), http.MethodPost,
		h.federation.rest+"/v1/"+onBerlin+"/syncs?mode=MERGE&source=crm&apply=true", body))(t)
	r.Header.Set("Content-Type", "text/csv")
	r.Header.Set("Authorization", "Bearer "+h.token(t, "chapter_admin", "chapters/"+berlin))
	type result struct {
		response *http.Response
		err      error
	}
	answered := make(chan result, 1)
	go func() {
		response, err := (&http.Client{}).Do(r)
		answered <- result{response, err}
	}()
	write := func(text string) {
		_, err := io.WriteString(source, text)
		must(t, err)
	}
	write("email\n" + strings.Join(people[:rows], "\n") + "\n")

	database := h.pool(bus.Local)
	begin, took := time.Now(), []time.Duration{}
	for changes := 1; time.Since(begin) < pause; changes++ {
		quick := fmt.Sprintf("quick%d@example.org", changes)
		h.subscribe(t, tr, onParis, quick)
		took = append(took, h.total(t, paris, 2+changes, soon))
		h.subscribe(t, tr, onBerlin, quick)
		took = append(took, h.total(t, berlin, 2+changes, soon))
		if n := idleTransactions(t, database); n != 0 {
			t.Errorf("%d transactions are open while the network is waited for", n)
		}
		<-time.After(20 * time.Millisecond)
	}
	wantAsPromised(t, took)
	write(strings.Join(people[rows:], "\n") + "\n")
	must(t, source.Close())
	got := <-answered
	must(t, got.err)
	defer func() { _ = got.response.Body.Close() }()
	if text := get(io.ReadAll(got.response.Body))(t); got.response.StatusCode != http.StatusOK {
		t.Fatalf("the upload: %d %s", got.response.StatusCode, text)
	}
	tr.lists[onBerlin].apply(uploaded{source: "crm", addresses: people})
	h.settle(t, tr, time.Minute)
}

// wantAsPromised wants changes to have been visible in time. Half of them count: the rest leave room for what else this
// machine does.
func wantAsPromised(t *testing.T, took []time.Duration) {
	t.Helper()
	slices.Sort(took)
	median, slowest := took[len(took)/2], took[len(took)-1]
	t.Logf("%d changes were visible after %v at the median and %v at most", len(took), median, slowest)
	if median > promised {
		t.Errorf("that is more than %v", promised)
	}
}

func pausedRows(t *testing.T) int {
	t.Helper()
	if text := os.Getenv("CHAPTERHOUSE_PAUSE_ROWS"); text != "" {
		return get(strconv.Atoi(text))(t)
	}
	return 25_000
}

// idleTransactions counts the connections that hold a transaction and have waited for something else for a while.
func idleTransactions(t *testing.T, database *pgxpool.Pool) (count int) {
	t.Helper()
	must(t, database.QueryRow(t.Context(), `SELECT count(*) FROM pg_stat_activity
		WHERE datname = current_database() AND state LIKE 'idle in transaction%'
		AND state_change < clock_timestamp() - interval '500 milliseconds'`).Scan(&count))
	return count
}

// visible syncs one list over and over, so that its chapter rises over the line and falls below it.
func visible(t *testing.T) {
	h, tr := twoChapters(t)
	ctx := bounded(t, time.Minute)
	var took []time.Duration
	for round := range 20 {
		people := []string{"ada@example.org", "bob@example.org"} // of three, two are members
		if round%2 == 1 {
			people = numbered("stranger", 5)
		}
		h.sync(t, tr, onParis, uploaded{source: "crm", replace: true, addresses: people})
		want, begin := tr.standings(h.clock.Now())[paris], time.Now()
		eventually(t, soon, func() string { return want.difference(h.standing(ctx, t, paris)) })
		took = append(took, time.Since(begin))
		if want.verdict.eligible != (round%2 == 0) {
			t.Fatalf("round %d is %v: the test shows nothing", round, want)
		}
	}
	wantAsPromised(t, took)
}

// termsEnd moves the clock over one end after the other: the job that ends terms has to run again each time.
func termsEnd(t *testing.T) {
	h, tr := twoChapters(t)
	for i, name := range []string{"cleo", "dora"} {
		h.enter(t, tr, name, name+"@example.org")
		h.subscribe(t, tr, onParis, name+"@example.org")
		h.clock.Advance(time.Duration(i+1) * 30 * 24 * time.Hour)
	}
	h.agree(t, tr, patience)
	for range 3 {
		h.clock.Advance(150 * 24 * time.Hour) // ada and bob first, then cleo, then dora
		h.settle(t, tr, patience)
	}
	for id, member := range tr.members {
		if member.stateAt(h.clock.Now()) != internationalv1.Member_LAPSED {
			t.Errorf("%s has a term still: the test shows nothing", id)
		}
	}
}
