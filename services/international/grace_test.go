package international

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// charteredChapter is Paris, three of whose five people are members, chartered.
func charteredChapter(t *testing.T, policy string) *world {
	t.Helper()
	w := setup(t)
	if policy != "" {
		w.amend(policy)
	}
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	return w
}

func (w *world) resigns(id string) {
	w.t.Helper()
	_, err := w.members.ResignMember(w.t.Context(), &internationalv1.ResignMemberRequest{Name: "members/" + id})
	w.must(err)
}

func (w *world) rejoins(id string) {
	w.t.Helper()
	end := timestamppb.New(w.clock.Now().AddDate(10, 0, 0))
	_, err := w.members.RenewMember(w.t.Context(), &internationalv1.RenewMemberRequest{Name: "members/" + id, TermEndTime: end})
	w.must(err)
}

func (w *world) read(chapter string) *internationalv1.Charter {
	w.t.Helper()
	charter, err := w.charter.GetCharter(w.t.Context(), &internationalv1.GetCharterRequest{Name: "charters/" + chapter})
	w.must(err)
	return charter
}

// days moves the clock, and lets happen what should by then.
func (w *world) days(n int) {
	w.t.Helper()
	w.clock.Advance(time.Duration(n) * day)
	w.passes()
}

func (w *world) is(chapter string, state internationalv1.Charter_State) *internationalv1.Charter {
	w.t.Helper()
	charter := w.read(chapter)
	if charter.GetState() != state {
		w.t.Fatalf("charters/%s is %s, want %s: %v", chapter, charter.GetState(), state, charter)
	}
	return charter
}

// at asserts that a time is so many days after noon, when the test began.
func (w *world) at(what string, got *timestamppb.Timestamp, days int) {
	w.t.Helper()
	if got == nil || !got.AsTime().Equal(noon.AddDate(0, 0, days)) {
		w.t.Fatalf("%s is %v, want %v", what, got.AsTime(), noon.AddDate(0, 0, days))
	}
}

func TestFlappingDoesNotRestartTheGracePeriod(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "")
	w.resigns("c")
	w.at("cureBy", w.is("paris", internationalv1.Charter_AT_RISK).GetCureByTime(), 90)
	w.days(60)
	w.rejoins("c")
	charter := w.is("paris", internationalv1.Charter_CHARTERED)
	if charter.GetGraceLeft().AsDuration() != 30*day {
		t.Errorf("%v of the grace period are left", charter.GetGraceLeft().AsDuration())
	}
	w.at("graceWhole", charter.GetGraceWholeTime(), 90)
	w.days(10)
	w.resigns("c") // on day 70: 60 days are spent
	w.at("cureBy", w.is("paris", internationalv1.Charter_AT_RISK).GetCureByTime(), 100)
	w.days(10)
	w.rejoins("c") // on day 80: 70 are
	w.days(29)
	w.resigns("c") // on day 109, a day too early for them to be forgotten
	w.at("cureBy", w.is("paris", internationalv1.Charter_AT_RISK).GetCureByTime(), 129)
	w.days(1)
	w.rejoins("c")
	w.days(30)
	w.resigns("c") // on day 140, they are
	w.at("cureBy", w.is("paris", internationalv1.Charter_AT_RISK).GetCureByTime(), 230)
}

func TestGraceEndsWithATaskForStaff(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "")
	w.resigns("c")
	w.days(89)
	if w.is("paris", internationalv1.Charter_AT_RISK).GetOverdue() || len(w.queue(&internationalv1.ListReviewQueueRequest{})) != 0 {
		t.Fatal("there is something to do before the time")
	}
	w.days(1)
	charter := w.is("paris", internationalv1.Charter_AT_RISK)
	if !charter.GetOverdue() || charter.GetWaitingFor() != internationalv1.Charter_GRACE_OVER {
		t.Fatalf("on the day: %v", charter)
	}
	w.at("waitingSince", charter.GetWaitingSinceTime(), 90)
	if got := w.queue(&internationalv1.ListReviewQueueRequest{Overdue: true, Task: internationalv1.Charter_GRACE_OVER}); len(got) != 1 {
		t.Errorf("the queue is %v", got)
	}
	w.passes() // once
	w.days(1)
	w.verbs("paris", "apply", "approve", "eligibilityLost", "graceEnded")

	w.rejoins("c")
	charter = w.is("paris", internationalv1.Charter_CHARTERED)
	if charter.GetOverdue() || charter.GetWaitingSinceTime() != nil || charter.GetGraceLeft().AsDuration() != 0 {
		t.Errorf("after the return: %v", charter)
	}
	w.resigns("c") // nothing is left
	if charter = w.is("paris", internationalv1.Charter_AT_RISK); !charter.GetOverdue() {
		t.Errorf("after the second fall: %v", charter)
	}
}

func TestGraceEndsWithSuspension(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "grace_end = 'SUSPEND', grace_days = 30")
	w.resigns("c")
	w.days(30)
	charter := w.is("paris", internationalv1.Charter_SUSPENDED)
	if charter.GetCureByTime() != nil || charter.GetWaitingSinceTime() != nil {
		t.Errorf("suspended it is %v", charter)
	}
	// It keeps every action that could cure it, and staff see when it is.
	w.rejoins("c")
	charter = w.is("paris", internationalv1.Charter_SUSPENDED)
	if charter.GetWaitingFor() != internationalv1.Charter_REINSTATEMENT {
		t.Errorf("eligible again it is %v", charter)
	}
	w.resigns("c")
	if charter = w.read("paris"); charter.GetWaitingSinceTime() != nil {
		t.Errorf("below the line again it is %v", charter)
	}
	_, err := w.charter.ReinstateCharter(t.Context(), &internationalv1.ReinstateCharterRequest{Name: "charters/paris", Note: "once more"})
	w.must(err)
	w.at("cureBy", w.is("paris", internationalv1.Charter_AT_RISK).GetCureByTime(), 60)
	w.rejoins("c")
	w.is("paris", internationalv1.Charter_CHARTERED)
	w.verbs("paris", "apply", "approve", "eligibilityLost", "graceEnded", "eligibilityRegained", "eligibilityLost", "reinstate", "eligibilityRegained")
}

func TestGraceOfNoDaysEndsAtOnce(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "grace_end = 'SUSPEND', grace_days = 0")
	w.resigns("c")
	w.is("paris", internationalv1.Charter_SUSPENDED)
	w.verbs("paris", "apply", "approve", "eligibilityLost", "graceEnded")
}

// However late the job is, what time has ended before something else happens, ends before it.
func TestDeadlinesPassInOrderWithoutTheJob(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "grace_end = 'SUSPEND', grace_days = 30")
	w.resigns("c")
	w.clock.Advance(31 * day)
	w.rejoins("c")
	w.is("paris", internationalv1.Charter_SUSPENDED)
	w.verbs("paris", "apply", "approve", "eligibilityLost", "graceEnded", "eligibilityRegained")
}

func TestOverrideHoldsUntilItsTime(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b")
	approve := func(override *internationalv1.CharterOverride) (*internationalv1.Charter, error) {
		return w.charter.ApproveCharter(t.Context(), &internationalv1.ApproveCharterRequest{
			Name: "charters/paris", StandingEtag: w.standing("paris").GetEtag(), Override: override,
		})
	}
	_, err := approve(&internationalv1.CharterOverride{Reason: "they rebuild", UntilTime: timestamppb.New(noon)})
	refuses(t, err, errorv1.Reason_REASON_DEADLINE_INVALID)
	_, err = approve(&internationalv1.CharterOverride{UntilTime: timestamppb.New(noon.AddDate(0, 0, 60))})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	charter, err := approve(&internationalv1.CharterOverride{Reason: "they rebuild", UntilTime: timestamppb.New(noon.AddDate(0, 0, 60))})
	w.must(err)
	if charter.GetState() != internationalv1.Charter_CHARTERED || charter.GetDecision().GetOverride().GetReason() != "they rebuild" ||
		charter.GetDecision().GetStanding().GetEligible() {
		t.Fatalf("approved against the figures: %v", charter)
	}
	// It rises, and falls again: that changes nothing.
	w.member("c", "c@example.org")
	w.resigns("c")
	w.days(59)
	w.is("paris", internationalv1.Charter_CHARTERED)
	w.days(1)
	charter = w.is("paris", internationalv1.Charter_AT_RISK)
	w.at("cureBy", charter.GetCureByTime(), 150)
	if charter.GetOverrideUntilTime() != nil || charter.GetDecision().GetOverride() == nil {
		t.Errorf("after its time: %v", charter)
	}
	w.verbs("paris", "apply", "approve", "overrideEnded")
}

func TestOverrideOfWhoIsEligibleByThenEndsQuietly(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b")
	_, err := w.charter.ApproveCharter(t.Context(), &internationalv1.ApproveCharterRequest{
		Name: "charters/paris", StandingEtag: w.standing("paris").GetEtag(),
		Override: &internationalv1.CharterOverride{Reason: "they rebuild", UntilTime: timestamppb.New(noon.AddDate(0, 0, 60))},
	})
	w.must(err)
	w.member("c", "c@example.org")
	w.days(60)
	if charter := w.is("paris", internationalv1.Charter_CHARTERED); charter.GetOverrideUntilTime() != nil {
		t.Errorf("after its time: %v", charter)
	}
	w.resigns("c")
	w.is("paris", internationalv1.Charter_AT_RISK)
}

func TestProtectionStopsEveryDeadline(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "grace_end = 'SUSPEND', renewal_days = 100")
	w.resigns("c")
	w.days(30)
	protect := func(until int) *internationalv1.Charter {
		charter, err := w.charter.ProtectCharter(t.Context(), &internationalv1.ProtectCharterRequest{
			Name: "charters/paris", Reason: "a flood", UntilTime: timestamppb.New(noon.AddDate(0, 0, until)),
		})
		w.must(err)
		return charter
	}
	charter := protect(130) // 100 days
	w.at("cureBy", charter.GetCureByTime(), 190)
	w.at("renewalDue", charter.GetRenewalDueTime(), 200)
	charter = protect(80) // half of them
	w.at("cureBy", charter.GetCureByTime(), 140)
	w.at("renewalDue", charter.GetRenewalDueTime(), 150)
	w.days(30)
	_, err := w.charter.UnprotectCharter(t.Context(), &internationalv1.UnprotectCharterRequest{Name: "charters/paris"})
	w.must(err)
	charter = w.is("paris", internationalv1.Charter_AT_RISK) // on day 60, 30 of the 90 days were spent
	w.at("cureBy", charter.GetCureByTime(), 120)
	w.at("renewalDue", charter.GetRenewalDueTime(), 130)
	_, err = w.charter.UnprotectCharter(t.Context(), &internationalv1.UnprotectCharterRequest{Name: "charters/paris"})
	refuses(t, err, errorv1.Reason_REASON_NOT_PROTECTED)

	// What begins while it stands, begins at its end; and it ends by itself.
	protect(100)
	w.rejoins("c") // on day 60, with 60 of 90 days left
	w.resigns("c")
	w.at("cureBy", w.is("paris", internationalv1.Charter_AT_RISK).GetCureByTime(), 160)
	w.days(40)
	charter = w.is("paris", internationalv1.Charter_AT_RISK)
	if charter.GetProtectUntilTime() != nil || charter.GetProtectReason() != "" {
		t.Errorf("after the protection: %v", charter)
	}
	w.days(59)
	w.is("paris", internationalv1.Charter_AT_RISK)
	w.days(1)
	w.is("paris", internationalv1.Charter_SUSPENDED)
}

func TestRenewalsAreAskedForAndGiven(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "renewal_days = 365")
	admin := w.adminOf("paris")
	renew := &internationalv1.RenewCharterRequest{Name: "charters/paris"}
	w.at("renewalDue", w.read("paris").GetRenewalDueTime(), 365)
	w.days(300)
	charter, err := admin.RenewCharter(t.Context(), renew)
	w.must(err)
	w.at("renewalDue", charter.GetRenewalDueTime(), 365) // asked for, not given
	if charter.GetWaitingFor() != internationalv1.Charter_RENEWAL {
		t.Errorf("asked for renewal: %v", charter)
	}
	charter, err = w.charter.RenewCharter(t.Context(), renew)
	w.must(err)
	w.at("renewalDue", charter.GetRenewalDueTime(), 730)
	if charter.GetWaitingSinceTime() != nil || charter.GetRenewalRequestTime() != nil {
		t.Errorf("renewed: %v", charter)
	}
	w.days(430)
	charter = w.is("paris", internationalv1.Charter_CHARTERED)
	if !charter.GetOverdue() || charter.GetWaitingFor() != internationalv1.Charter_RENEWAL {
		t.Errorf("on day 730: %v", charter)
	}
	w.days(10)
	charter, err = w.charter.RenewCharter(t.Context(), renew)
	w.must(err)
	w.at("renewalDue", charter.GetRenewalDueTime(), 740+365)
	if charter.GetOverdue() {
		t.Errorf("renewed late: %v", charter)
	}
	w.verbs("paris", "apply", "approve", "renew", "renew", "renewalOverdue", "renew")

	w.amend("renewal_days = 0")
	_, err = w.charter.RenewCharter(t.Context(), renew)
	refuses(t, err, errorv1.Reason_REASON_NO_RENEWALS)
}

func TestHistoryIsNeverEdited(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "")
	for _, statement := range []string{"UPDATE charter_history SET note = 'better'", "DELETE FROM charter_history", "TRUNCATE charter_history"} {
		if _, err := w.pool.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s went through", statement)
		}
	}
	w.verbs("paris", "apply", "approve")
}

// A year's end at which a thousand chapters fall, and the end of their grace periods, take a fixed number of statements.
func TestManyDeadlinesPassTogether(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "grace_end = 'SUSPEND'")
	const n = 1200
	w.exec(`INSERT INTO chapters (id, site_no, region, display_name, country_code, city) SELECT 'many-' || i, 1, 'world', '', '', '' FROM generate_series(1, $1::int) i`, n)
	w.exec(`INSERT INTO standings (chapter_no, policy_revision, epoch, update_time) SELECT chapter_no, 1, 1, $1 FROM chapters WHERE id LIKE 'many-%'`, noon)
	w.exec(`INSERT INTO charters (chapter_no, chapter_id, state, apply_time, cure_by_time, next_time, epoch, version, create_time, update_time)
		SELECT chapter_no, id, 'AT_RISK', $1, $1, $1, 1, 1, $1, $1 FROM chapters WHERE id LIKE 'many-%'`, noon)
	// Two replicas do it at the same time, and nothing is done twice.
	done := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := w.service.passAllDeadlines(t.Context())
			done <- err
		}()
	}
	w.must(<-done)
	w.must(<-done)
	var suspended, entries, told int
	w.must(w.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM charters WHERE state = 'SUSPENDED' AND version = 2), (SELECT count(*) FROM charter_history
		WHERE verb = 'graceEnded'), (SELECT count(*) FROM outbox WHERE aggregate LIKE 'charters/many-%')`).Scan(&suspended, &entries, &told))
	if suspended != n || entries != n || told != n {
		t.Errorf("%d suspended, %d entries, %d events, want %d of each", suspended, entries, told, n)
	}
}

// verbs asserts what the history says.
func (w *world) verbs(chapter string, want ...string) {
	w.t.Helper()
	history, err := w.charter.ListCharterHistory(w.t.Context(), &internationalv1.ListCharterHistoryRequest{Parent: "charters/" + chapter})
	w.must(err)
	var got []string
	for _, entry := range history.GetHistory() {
		got = append(got, entry.GetVerb())
	}
	if len(got) != len(want) {
		w.t.Fatalf("the history is %v, want %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			w.t.Fatalf("the history is %v, want %v", got, want)
		}
	}
}

func (w *world) queue(req *internationalv1.ListReviewQueueRequest) []string {
	w.t.Helper()
	answer, err := w.charter.ListReviewQueue(w.t.Context(), req)
	w.must(err)
	names := make([]string, 0, len(answer.GetCharters()))
	for _, one := range answer.GetCharters() {
		names = append(names, one.GetCharter().GetName())
	}
	return names
}

// refusedBy asserts the reason, and returns the metadata.
func refusedBy(t testing.TB, err error, reason errorv1.Reason) map[string]string {
	t.Helper()
	refuses(t, err, reason)
	return rpc.InfoOf(err).GetMetadata()
}

// startJobs runs the jobs as another replica does, until the function it returns is called.
func (w *world) startJobs() (stop func()) {
	w.t.Helper()
	client, err := w.service.newRiver()
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	w.must(client.Start(ctx))
	return func() {
		cancel()
		<-client.Stopped()
	}
}

func (w *world) eventually(chapter string, state internationalv1.Charter_State) {
	w.t.Helper()
	testkit.Eventually(w.t, 30*time.Second, func() (bool, string) {
		got := w.state(chapter)
		return got == state, fmt.Sprintf("charters/%s is %s, want %s", chapter, got, state)
	})
}

// Whatever a chapter goes through, a grace period is as long as the policy says, in days below the line outside of
// protections, and they are forgotten only after as many days above it without a break.
func TestGraceCountsTheDaysBelow(t *testing.T) {
	t.Parallel()
	const grace, recovery = 20, 7
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := &charterCase{
			charter: db.Charter{State: chartered}, standing: &internationalv1.Standing{Eligible: true}, now: noon,
			policy: db.Policy{GraceDays: grace, RecoveryDays: recovery, GraceEnd: "SUSPEND"},
		}
		spent, risen, protected := 0, 0, 0
		for today := 0; today < 400 && c.charter.State != charterSuspended; today++ {
			c.now = noon.AddDate(0, 0, today)
			if err := c.passDeadlines(); err != nil {
				t.Fatal(err)
			}
			below := !c.standing.GetEligible()
			if suspended := c.charter.State == charterSuspended; suspended != (below && spent >= grace) {
				t.Fatalf("seed %d, day %d: %s after %d days below", seed, today, c.charter.State, spent)
			}
			switch random.IntN(12) {
			case 0, 1:
				if !below && today-risen >= recovery {
					spent = 0
				}
				if below {
					risen = today
				}
				c.standing.Eligible = below
				if err := c.follow(); err != nil {
					t.Fatal(err)
				}
				below = !below
			case 2:
				protected = today + 1 + random.IntN(15)
				until := noon.AddDate(0, 0, protected)
				c.protectUntil(&until)
			case 3:
				if protected > today {
					protected = today
					c.protectUntil(nil)
				}
			}
			want := noon.AddDate(0, 0, max(today, protected)+grace-spent)
			if c.charter.State == atRisk && !c.charter.CureByTime.Equal(want) {
				t.Fatalf("seed %d, day %d: cure by %v, want %v: %d days are spent", seed, today, c.charter.CureByTime, want, spent)
			}
			if below && today >= protected {
				spent++
			}
		}
	}
}
