package regional_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// line is a world with regions/europe, regions/france below it, and the tiers on both sides of the regional one.
type line struct {
	*world

	local, international *tier
	// europe is the client of the coordinator of Europe and all below it.
	europe regionalv1.CaseServiceClient
	heard  *heard
}

func setupLine(t *testing.T) *line {
	t.Helper()
	w := setup(t)
	w.region("europe", "regions/world")
	w.region("france", "regions/europe")
	l := &line{world: w, local: w.tier(bus.Local), international: w.tier(bus.International)}
	l.europe = l.cases(authz.Coordinator, "regions/europe")
	l.heard = l.listen()
	return l
}

func (l *line) cases(role authz.Role, scope string) regionalv1.CaseServiceClient {
	l.t.Helper()
	principal := authz.Principal{Subject: string(role) + ":" + scope, Grants: []authz.Grant{{Role: role, Scope: scope}}}
	conn, err := rpc.Dial(l.address, rpc.MintedToken(l.signer, principal, l.clock))
	l.must(err)
	l.t.Cleanup(func() { _ = conn.Close() })
	return regionalv1.NewCaseServiceClient(conn)
}

// heard is what a local site hears of cases.
type heard struct {
	mu    sync.Mutex
	cases map[string]*eventv1.CaseChanged
}

func (l *line) listen() *heard {
	l.t.Helper()
	h := &heard{cases: map[string]*eventv1.CaseChanged{}}
	consumer, err := bus.NewConsumer(bus.ConsumerConfig{
		Pool: testkit.Pool(l.t, postgres.Migration{Name: "bus", Files: bus.Migrations}), NATS: l.connect(bus.Local),
		Tier: bus.Local, Site: bus.MainSite, FromTier: bus.Regional, FromSite: bus.MainSite, CompareEvery: time.Second, Log: quiet,
		Topics: []bus.Topic{{Kind: "region", Apply: ignore}, {Kind: "case", Apply: func(_ context.Context, _ pgx.Tx, parts []bus.Event) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			for _, part := range parts {
				if c, ok := part.Data.(*eventv1.CaseChanged); ok {
					h.cases[c.GetCase()] = c
				}
			}
			return nil
		}}},
	})
	l.must(err)
	l.background(consumer.Run)
	return h
}

func ignore(context.Context, pgx.Tx, []bus.Event) error { return nil }

// awaitHeard waits until a site has heard of a case what is wanted; see story.
func (l *line) awaitHeard(name, want string) {
	l.t.Helper()
	testkit.Eventually(l.t, patience, func() (bool, string) {
		l.heard.mu.Lock()
		defer l.heard.mu.Unlock()
		got := story(l.heard.cases[name])
		return got == want, fmt.Sprintf("heard of %s: %q, want %q", name, got, want)
	})
}

// story says what became of a case: "STATE with whom it lies, state there, raisers: answers".
func story(c *eventv1.CaseChanged) string {
	var answers []string
	for _, answer := range c.GetAnswers() {
		answers = append(answers, strings.TrimPrefix(answer.GetBy(), "regions/")+" "+answer.GetBody())
	}
	return fmt.Sprintf("%s %s %s %d: %s", c.GetState(), c.GetLiesWith(), c.GetLiesState(), c.GetRaiserCount(), strings.Join(answers, ", "))
}

// concern is one that a chapter raised; change makes its next version.
type concern struct {
	event   *eventv1.ConcernChanged
	version int64
}

func (l *line) concern(chapter, region, subject string, change ...func(*eventv1.ConcernChanged)) *concern {
	c := &concern{event: &eventv1.ConcernChanged{
		Concern: "chapters/" + chapter + "/concerns/" + uuid.NewString(), Region: "regions/" + region, Subject: subject, Body: subject + ".",
		CreateTime: timestamppb.New(l.clock.Now()), UpdateTime: timestamppb.New(l.clock.Now()),
	}}
	for _, one := range change {
		one(c.event)
	}
	return c
}

func shared(c *eventv1.ConcernChanged) { c.Shared = true }

func (c *concern) id() string { return c.event.GetConcern()[len(c.event.GetConcern())-36:] }

func (c *concern) in(region string) string { return "regions/" + region + "/concerns/" + c.id() }

// tell sends the concern as it stands, in a new version.
func (l *line) tell(c *concern) {
	l.t.Helper()
	c.version++
	chapter := strings.Split(c.event.GetConcern(), "/")[1]
	l.local.send("concern."+chapter+"."+c.id()+".changed", c.event.GetConcern(), c.version, c.event)
}

// raise lets a chapter raise a concern, and waits until it is a case.
func (l *line) raise(chapter, region, subject string, change ...func(*eventv1.ConcernChanged)) *concern {
	l.t.Helper()
	c := l.concern(chapter, region, subject, change...)
	l.tell(c)
	l.await(c.in(region), func(*regionalv1.Case) bool { return true })
	return c
}

// await waits until a case is as wanted.
func (l *line) await(name string, want func(*regionalv1.Case) bool) (got *regionalv1.Case) {
	l.t.Helper()
	testkit.Eventually(l.t, patience, func() (bool, string) {
		var err error
		got, err = l.europe.GetCase(l.t.Context(), &regionalv1.GetCaseRequest{Name: name})
		return err == nil && want(got), fmt.Sprint(got, err)
	})
	return got
}

func (l *line) answer(name, body string) *regionalv1.Case {
	l.t.Helper()
	got, err := l.europe.AnswerCase(l.t.Context(), &regionalv1.AnswerCaseRequest{Name: name, Body: body})
	l.must(err)
	return got
}

func (l *line) escalate(name, summary string) *regionalv1.Case {
	l.t.Helper()
	got, err := l.europe.EscalateCase(l.t.Context(), &regionalv1.EscalateCaseRequest{Name: name, Summary: summary})
	l.must(err)
	return got
}

func (l *line) merge(name, into string) *regionalv1.Case {
	l.t.Helper()
	got, err := l.europe.MergeCase(l.t.Context(), &regionalv1.MergeCaseRequest{Name: name, Into: into})
	l.must(err)
	return got
}

// escalation is what the international body says of a concern.
func (c *concern) escalation(state, region string, answers ...string) *eventv1.EscalationChanged {
	e := &eventv1.EscalationChanged{Concern: "concerns/" + c.id(), Case: c.in(region), State: state}
	for i, body := range answers {
		e.Answers = append(e.Answers, &eventv1.ConcernAnswer{
			Id: uuid.NewSHA1(uuid.MustParse(c.id()), []byte(body)).String(), By: "international", Body: body,
			CreateTime: timestamppb.New(time.Date(2026, 7, 1, 0, i, 0, 0, time.UTC)),
		})
	}
	return e
}

func (l *line) decide(number int64, e *eventv1.EscalationChanged) {
	l.t.Helper()
	l.international.send("escalation."+strings.TrimPrefix(e.GetConcern(), "concerns/")+".changed", e.GetConcern(), number, e)
}

func TestConcernIsAnswered(t *testing.T) {
	l := setupLine(t)
	c := l.raise("golang-paris", "france", "No rooms")
	got := l.await(c.in("france"), func(*regionalv1.Case) bool { return true })
	due := l.clock.Now().Add(14 * 24 * time.Hour)
	if got.GetState() != regionalv1.Case_OPEN || got.GetConcern() != c.event.GetConcern() || got.GetBody() != "No rooms." ||
		got.GetLiesWith() != "regions/france" || !got.GetDueTime().AsTime().Equal(due) || got.GetRaiserCount() != 1 {
		t.Errorf("the case is %v", got)
	}
	l.awaitHeard(c.in("france"), "OPEN regions/france OPEN 1: ")
	if l.heard.cases[c.in("france")].GetBody() != "" {
		t.Error("what is not shared is told to every site")
	}
	l.clock.Advance(time.Hour)
	got = l.answer(c.in("france"), "Ask the library.")
	if got.GetState() != regionalv1.Case_ANSWERED || len(got.GetAnswers()) != 1 || got.GetAnswers()[0].GetBy() != "regions/france" ||
		!got.GetFirstAnswerTime().AsTime().Equal(l.clock.Now()) || got.GetDueTime() != nil {
		t.Errorf("the answered case is %v", got)
	}
	l.awaitHeard(c.in("france"), "ANSWERED regions/france ANSWERED 1: france Ask the library.")
}

func TestConcernGoesUpAndAnswersComeDown(t *testing.T) {
	l := setupLine(t)
	c := l.raise("golang-paris", "france", "No rooms")
	l.answer(c.in("france"), "We ask.")
	l.clock.Advance(time.Hour)
	got := l.escalate(c.in("france"), "Paris has no rooms.")
	if got.GetState() != regionalv1.Case_ESCALATED || got.GetEscalatedTo() != c.in("europe") || got.GetLiesWith() != "regions/europe" {
		t.Errorf("the escalated case is %v", got)
	}
	above := l.await(c.in("europe"), func(*regionalv1.Case) bool { return true })
	if above.GetFromRegion() != "regions/france" || above.GetSummary() != "Paris has no rooms." || above.GetConcern() != "" ||
		above.GetRaiserCount() != 1 || !above.GetDueTime().AsTime().Equal(l.clock.Now().Add(14*24*time.Hour)) {
		t.Errorf("the case above is %v", above)
	}
	l.awaitHeard(c.in("france"), "ESCALATED regions/europe OPEN 1: france We ask.")

	got = l.escalate(c.in("europe"), "France has no rooms.")
	if got.GetEscalatedTo() != "concerns/"+c.id() || got.GetLiesWith() != "international" || got.GetSummary() != "France has no rooms." {
		t.Errorf("the case escalated to the international body is %v", got)
	}
	l.decide(1, c.escalation("OPEN", "europe"))
	l.clock.Advance(time.Hour)
	l.decide(2, c.escalation("HANDED_TO_VENDOR", "europe", "The vendor has some."))
	l.awaitHeard(c.in("europe"), "ESCALATED vendor HANDED_TO_VENDOR 1: international The vendor has some.")
	l.awaitHeard(c.in("france"), "ESCALATED vendor HANDED_TO_VENDOR 1: france We ask., international The vendor has some.")
	// The region may add something, and what is said again is said once.
	l.answer(c.in("europe"), "And we pay.")
	l.decide(3, c.escalation("CLOSED", "europe", "The vendor has some."))
	l.awaitHeard(c.in("france"), "ESCALATED international CLOSED 1: france We ask., europe And we pay., international The vendor has some.")
}

func TestMergedConcernsGetTheSameAnswers(t *testing.T) {
	l := setupLine(t)
	paris, lyon, nice := l.raise("golang-paris", "france", "No rooms"), l.raise("golang-lyon", "france", "Rooms"), l.raise("golang-nice", "france", "Halls")
	berlin := l.raise("golang-berlin", "europe", "No rooms")
	l.answer(paris.in("france"), "We ask.")
	l.merge(lyon.in("france"), paris.in("france"))
	l.awaitHeard(lyon.in("france"), "MERGED regions/france ANSWERED 1: france We ask.")
	// What was merged already stands for what it was merged into.
	if got := l.merge(nice.in("france"), lyon.in("france")); got.GetMergedInto() != paris.in("france") {
		t.Errorf("nice was merged into %s", got.GetMergedInto())
	}
	l.awaitHeard(paris.in("france"), "ANSWERED regions/france ANSWERED 3: france We ask.")
	// The merged one is escalated, and merged there again.
	l.escalate(paris.in("france"), "No rooms in France.")
	l.merge(paris.in("europe"), berlin.in("europe"))
	l.clock.Advance(time.Hour)
	l.answer(berlin.in("europe"), "Meet outside.")
	for _, c := range []*concern{paris, lyon, nice} {
		state, raisers := "MERGED", 1
		if c == paris {
			state, raisers = "ESCALATED", 3
		}
		l.awaitHeard(c.in("france"), fmt.Sprintf("%s regions/europe ANSWERED %d: france We ask., europe Meet outside.", state, raisers))
	}
	l.awaitHeard(berlin.in("europe"), "ANSWERED regions/europe ANSWERED 4: europe Meet outside.")
	whole := l.await(berlin.in("europe"), func(*regionalv1.Case) bool { return true })
	if len(whole.GetRaisers()) != 4 {
		t.Errorf("raised by %v", whole.GetRaisers())
	}
}

func TestMergeRefuses(t *testing.T) {
	l := setupLine(t)
	paris, lyon, berlin := l.raise("golang-paris", "france", "One"), l.raise("golang-lyon", "france", "Two"), l.raise("golang-berlin", "europe", "Three")
	refuses := func(name, into string, code codes.Code, reason errorv1.Reason) {
		t.Helper()
		_, err := l.europe.MergeCase(t.Context(), &regionalv1.MergeCaseRequest{Name: name, Into: into})
		wantError(t, err, code, reason)
	}
	invalid := errorv1.Reason_REASON_CONCERN_MERGE_INVALID
	refuses(paris.in("france"), paris.in("france"), codes.InvalidArgument, invalid)
	refuses(paris.in("france"), berlin.in("europe"), codes.InvalidArgument, invalid)
	refuses(paris.in("france"), lyon.in("europe"), codes.InvalidArgument, invalid)
	l.merge(paris.in("france"), lyon.in("france"))
	refuses(lyon.in("france"), paris.in("france"), codes.InvalidArgument, invalid)
	refuses(paris.in("france"), lyon.in("france"), codes.FailedPrecondition, errorv1.Reason_REASON_CONCERN_STATE)
	_, err := l.europe.AnswerCase(t.Context(), &regionalv1.AnswerCaseRequest{Name: paris.in("france"), Body: "no"})
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_CONCERN_STATE)
	nice := l.raise("golang-nice", "france", "Four")
	_, err = l.europe.CloseCase(t.Context(), &regionalv1.CloseCaseRequest{Name: lyon.in("france")})
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_CONCERN_NOT_ANSWERED)
	_, err = l.europe.CloseCase(t.Context(), &regionalv1.CloseCaseRequest{Name: lyon.in("france"), Body: "Done."})
	l.must(err)
	l.awaitHeard(paris.in("france"), "MERGED regions/france CLOSED 1: france Done.")
	refuses(nice.in("france"), lyon.in("france"), codes.InvalidArgument, invalid)
}

func TestJoinedAndWithdrawn(t *testing.T) {
	l := setupLine(t)
	paris := l.raise("golang-paris", "france", "No rooms", shared)
	joins := func(c *eventv1.ConcernChanged) { c.Body, c.Joins = "", paris.in("france") }
	lyon := l.raise("golang-lyon", "france", "No rooms", joins)
	l.awaitHeard(lyon.in("france"), "MERGED regions/france OPEN 1: ")
	l.escalate(paris.in("france"), "Rooms.")
	l.escalate(paris.in("europe"), "Rooms.")
	nice := l.raise("golang-nice", "france", "No rooms", joins)
	l.awaitHeard(paris.in("europe"), "ESCALATED international OPEN 3: ")

	withdraw := func(c *concern) {
		c.event.Withdrawn = true
		l.tell(c)
	}
	withdraw(paris)
	l.awaitHeard(paris.in("europe"), "ESCALATED international OPEN 2: ")
	withdraw(lyon)
	l.awaitHeard(lyon.in("france"), "WITHDRAWN international OPEN 0: ")
	withdraw(nice)
	l.awaitHeard(paris.in("europe"), "WITHDRAWN international OPEN 0: ")
	l.awaitHeard(paris.in("france"), "WITHDRAWN international OPEN 0: ")
	// What it would join has come to its end.
	late := l.raise("golang-lille", "france", "No rooms", joins)
	l.awaitHeard(late.in("france"), "OPEN regions/france OPEN 1: ")
	// And what was never shared is not joined, whatever a site says.
	secret := l.raise("golang-nantes", "france", "Ours")
	odd := l.raise("golang-lille", "france", "Ours", func(c *eventv1.ConcernChanged) { c.Joins = secret.in("france") })
	l.awaitHeard(odd.in("france"), "OPEN regions/france OPEN 1: ")
}

func TestDueTimesAndReminders(t *testing.T) {
	l := setupLine(t)
	paris, berlin := l.raise("golang-paris", "france", "No rooms"), l.raise("golang-berlin", "europe", "No beer")
	overdue := func(region string) string {
		list, err := l.europe.ListCases(t.Context(), &regionalv1.ListCasesRequest{Parent: "regions/" + region, Overdue: true})
		l.must(err)
		var subjects []string
		for _, one := range list.GetCases() {
			subjects = append(subjects, one.GetSubject())
		}
		return strings.Join(subjects, ", ")
	}
	l.clock.Advance(14*24*time.Hour - time.Second)
	l.answer(berlin.in("europe"), "Wine.")
	if got := overdue("europe"); got != "" {
		t.Errorf("before their time are overdue: %s", got)
	}
	reminded := l.clock.Advance(time.Second)
	l.await(paris.in("france"), func(c *regionalv1.Case) bool {
		return c.GetOverdue() && c.GetRemindedTime().AsTime().Equal(reminded)
	})
	if got := overdue("europe"); got != "No rooms" {
		t.Errorf("the region above sees as overdue: %q", got)
	}
	again := l.clock.Advance(7 * 24 * time.Hour)
	l.await(paris.in("france"), func(c *regionalv1.Case) bool { return c.GetRemindedTime().AsTime().Equal(again) })

	stats, err := l.europe.GetConcernStats(t.Context(), &regionalv1.GetConcernStatsRequest{Name: "regions/europe"})
	l.must(err)
	if stats.GetConcernCount() != 2 || stats.GetOpenCount() != 1 || stats.GetOverdueCount() != 1 ||
		stats.GetMedianTimeToAnswer().AsDuration() != 14*24*time.Hour-time.Second {
		t.Errorf("the figures are %v", stats)
	}
	if len(stats.GetChildren()) != 1 || stats.GetChildren()[0].GetRegion() != "regions/france" || stats.GetChildren()[0].GetOverdueCount() != 1 ||
		stats.GetChildren()[0].GetConcernCount() != 1 || stats.GetChildren()[0].GetMedianTimeToAnswer() != nil {
		t.Errorf("those of France are %v", stats.GetChildren())
	}
	l.digests("europe", 0, 0, 1)
	l.digests("france", 1, 1, 0)

	l.answer(paris.in("france"), "At last.")
	if got := overdue("europe"); got != "" {
		t.Errorf("answered, and overdue: %s", got)
	}
	l.digests("france", 0, 0, 0)
}

// digests asserts what waits in a region.
func (l *line) digests(region string, unanswered, overdue, below int32) {
	l.t.Helper()
	principal := authz.Principal{Subject: "coordinator", Grants: []authz.Grant{{Role: authz.Coordinator, Scope: "regions/europe"}}}
	conn, err := rpc.Dial(l.address, rpc.MintedToken(l.signer, principal, l.clock))
	l.must(err)
	l.t.Cleanup(func() { _ = conn.Close() })
	digest, err := regionalv1.NewDigestServiceClient(conn).GetRegionDigest(l.t.Context(), &regionalv1.GetRegionDigestRequest{Name: "regions/" + region})
	l.must(err)
	got := digest.GetConcerns()
	if got.GetUnansweredCount() != unanswered || got.GetOverdueCount() != overdue || got.GetOverdueBelowCount() != below || len(got.GetFirstDue()) != int(unanswered) {
		l.t.Errorf("the digest of %s is %v", region, got)
	}
}

func TestFirstAnswersAreMeasured(t *testing.T) {
	l := setupLine(t)
	for hours := 1; hours <= 10; hours++ {
		c := l.raise("golang-paris", "france", fmt.Sprint("Concern ", hours))
		l.clock.Advance(time.Duration(hours) * time.Hour)
		l.answer(c.in("france"), "Yes.")
		l.answer(c.in("france"), "And no.") // measured is the first
	}
	stats, err := l.europe.GetConcernStats(t.Context(), &regionalv1.GetConcernStatsRequest{Name: "regions/europe"})
	l.must(err)
	// Between 5 and 6 of 1 to 10 hours, and a tenth of the way from 9 to 10.
	if median, p90 := stats.GetMedianTimeToAnswer().AsDuration(), stats.GetP90TimeToAnswer().AsDuration(); median != 330*time.Minute || p90 != 546*time.Minute {
		t.Errorf("the median is %v and the 90th percentile %v", median, p90)
	}
}

func TestSimilarCases(t *testing.T) {
	l := setupLine(t)
	body := func(text string) func(*eventv1.ConcernChanged) {
		return func(c *eventv1.ConcernChanged) { c.Body = text }
	}
	rooms := l.raise("golang-paris", "france", "No rooms for meetings", body("The university closed the rooms that we have met in for years."))
	alike := l.raise("golang-lyon", "france", "Rooms are too expensive", body("The university wants money for the rooms that we have met in."))
	l.raise("golang-nice", "france", "Shipping of stickers", body("The stickers that we have ordered for the conference were lost."))
	l.raise("golang-lille", "france", "Votes", body("The ballots that we have got for the board were late."))
	l.raise("golang-berlin", "europe", "No rooms for meetings", body("The university closed the rooms.")) // another region's
	got, err := l.europe.ListSimilarCases(t.Context(), &regionalv1.ListSimilarCasesRequest{Name: rooms.in("france")})
	l.must(err)
	if len(got.GetCases()) == 0 || got.GetCases()[0].GetCase().GetName() != alike.in("france") {
		t.Fatalf("similar are %v", got.GetCases())
	}
	first := got.GetCases()[0].GetSimilarity()
	if first <= 0.1 || first > 1 {
		t.Errorf("the similarity is %v", first)
	}
	for _, other := range got.GetCases()[1:] {
		if other.GetSimilarity() > first/2 {
			t.Errorf("%q is almost as similar: %v of %v", other.GetCase().GetSubject(), other.GetSimilarity(), first)
		}
	}
}

// What is lost, late, doubled or told while the service is down makes no difference.
func TestCasesSurviveOutages(t *testing.T) {
	l := setupLine(t)
	paris := l.raise("golang-paris", "france", "No rooms", shared)
	l.escalate(paris.in("france"), "Rooms.")
	l.escalate(paris.in("europe"), "Rooms.")
	l.awaitHeard(paris.in("france"), "ESCALATED international OPEN 1: ")
	l.stopService()
	lyon := l.concern("golang-lyon", "france", "No rooms", func(c *eventv1.ConcernChanged) { c.Joins = paris.in("france") })
	l.tell(lyon)
	l.decide(2, paris.escalation("ANSWERED", "europe", "First.", "Second.")) // the version before was lost
	nice := l.concern("golang-nice", "france", "Never mind")
	nice.event.Withdrawn, nice.version = true, 1 // so was the one in which it was raised
	l.tell(nice)
	l.clock.Advance(time.Hour)
	l.startService()
	l.europe = l.cases(authz.Coordinator, "regions/europe")
	for _, name := range []string{paris.in("france"), lyon.in("france")} {
		state, raisers := "ESCALATED", 2
		if name == lyon.in("france") {
			state, raisers = "MERGED", 1
		}
		l.awaitHeard(name, fmt.Sprintf("%s international ANSWERED %d: international First., international Second.", state, raisers))
	}
	l.awaitHeard(nice.in("france"), "WITHDRAWN regions/france WITHDRAWN 0: ")
	l.decide(1, paris.escalation("OPEN", "europe", "First.")) // the lost version comes late
	l.decide(3, paris.escalation("ANSWERED", "europe", "First.", "Second."))
	berlin := l.raise("golang-berlin", "europe", "After") // what comes behind them was applied, so were they
	l.awaitHeard(berlin.in("europe"), "OPEN regions/europe OPEN 1: ")
	l.awaitHeard(paris.in("france"), "ESCALATED international ANSWERED 2: international First., international Second.")
}

func TestRestoredDatabaseTellsOfCasesAgain(t *testing.T) {
	l := setupLine(t)
	c := l.raise("golang-paris", "france", "No rooms")
	l.answer(c.in("france"), "Yes.")
	l.awaitHeard(c.in("france"), "ANSWERED regions/france ANSWERED 1: france Yes.")
	l.stopService()
	l.exec("UPDATE cases SET state = 'OPEN', first_answer_time = NULL, version = 1")
	l.exec("DELETE FROM case_answers")
	l.exec("DELETE FROM outbox")
	l.exec("UPDATE stream_state SET last_seq = 1, last_event_id = ''")
	l.startService()
	l.awaitHeard(c.in("france"), "OPEN regions/france OPEN 1: ")
}

// A backup from before the escalation knows less than the international body, until the case is escalated once more.
func TestEscalatedAgainAfterARestore(t *testing.T) {
	l := setupLine(t)
	c := l.raise("golang-berlin", "europe", "No rooms")
	l.decide(1, c.escalation("ANSWERED", "europe", "Rent."))
	l.awaitEscalation(c)
	l.awaitHeard(c.in("europe"), "OPEN regions/europe OPEN 1: ")
	l.escalate(c.in("europe"), "Again.")
	l.awaitHeard(c.in("europe"), "ESCALATED international ANSWERED 1: international Rent.")
}

// awaitEscalation waits until the service has heard of a concern of the international body.
func (l *line) awaitEscalation(c *concern) {
	l.t.Helper()
	testkit.Eventually(l.t, patience, func() (bool, string) {
		var found bool
		err := l.pool.QueryRow(l.t.Context(), "SELECT EXISTS (SELECT FROM escalations WHERE name = $1)", "concerns/"+c.id()).Scan(&found)
		return found, fmt.Sprint("no copy yet ", err)
	})
}

func TestWhoHandlesCases(t *testing.T) {
	l := setupLine(t)
	c := l.raise("golang-paris", "france", "No rooms")
	for scope, code := range map[string]codes.Code{"regions/france": codes.OK, "regions/world": codes.OK, "regions/asia": codes.PermissionDenied} {
		_, err := l.cases(authz.Coordinator, scope).AnswerCase(t.Context(), &regionalv1.AnswerCaseRequest{Name: c.in("france"), Body: "Yes."})
		if code == codes.OK {
			l.must(err)
			continue
		}
		wantError(t, err, code, errorv1.Reason_REASON_PERMISSION_DENIED)
	}
	staff := l.cases(authz.InternationalStaff, authz.Federation)
	got, err := staff.GetCase(t.Context(), &regionalv1.GetCaseRequest{Name: c.in("france")})
	l.must(err)
	_, err = staff.AnswerCase(t.Context(), &regionalv1.AnswerCaseRequest{Name: c.in("france"), Body: "No."})
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = l.cases(authz.ChapterAdmin, "chapters/golang-paris").GetCase(t.Context(), &regionalv1.GetCaseRequest{Name: c.in("france")})
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)

	l.answer(c.in("france"), "Third.")
	_, err = l.europe.AnswerCase(t.Context(), &regionalv1.AnswerCaseRequest{Name: c.in("france"), Body: "Late.", Etag: got.GetEtag()})
	wantError(t, err, codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = l.europe.GetCase(t.Context(), &regionalv1.GetCaseRequest{Name: "regions/france/concerns/" + uuid.NewString()})
	wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
}

func TestCasesAreListedInPages(t *testing.T) {
	l := setupLine(t)
	for i := range 5 {
		l.raise("golang-paris", "france", fmt.Sprint("Concern ", i))
		l.clock.Advance(time.Minute)
	}
	l.raise("golang-berlin", "europe", "Concern 5")
	var got []string
	req := &regionalv1.ListCasesRequest{Parent: "regions/europe", Below: true, PageSize: 2, State: regionalv1.Case_OPEN}
	for {
		page, err := l.europe.ListCases(t.Context(), req)
		l.must(err)
		for _, one := range page.GetCases() {
			got = append(got, strings.TrimPrefix(one.GetSubject(), "Concern "))
		}
		if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if strings.Join(got, "") != "012345" {
		t.Errorf("listed %v", got)
	}
	own, err := l.europe.ListCases(t.Context(), &regionalv1.ListCasesRequest{Parent: "regions/europe"})
	l.must(err)
	if len(own.GetCases()) != 1 {
		t.Errorf("Europe itself has %d cases", len(own.GetCases()))
	}
}
