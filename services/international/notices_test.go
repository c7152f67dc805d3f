package international

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/notice"
)

// issued are the notices that were told of a chapter, in order.
func (w *world) issued(chapter string) []*eventv1.NoticeIssued {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), "SELECT data FROM outbox WHERE type = 'chapterhouse.event.v1.NoticeIssued' ORDER BY id")
	w.must(err)
	all, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	w.must(err)
	var notices []*eventv1.NoticeIssued
	for _, data := range all {
		one := &eventv1.NoticeIssued{}
		w.must(proto.Unmarshal(data, one))
		if one.GetChapter() == "chapters/"+chapter {
			notices = append(notices, one)
		}
	}
	return notices
}

// told asserts the kinds of all notices of a chapter, in order, and returns the last.
func (w *world) told(chapter string, kinds ...string) *eventv1.NoticeIssued {
	w.t.Helper()
	all := w.issued(chapter)
	var got []string
	for _, one := range all {
		got = append(got, one.GetKind())
	}
	if !slices.Equal(got, kinds) {
		w.t.Fatalf("told %v, want %v", got, kinds)
	}
	return all[len(all)-1]
}

// advance moves the clock, and lets the job look.
func (w *world) advance(by time.Duration) {
	w.t.Helper()
	w.clock.Advance(by)
	w.passes()
	w.must(w.service.issueDue(w.t.Context()))
	w.must(w.service.issueDue(w.t.Context())) // which tells nothing twice
}

func TestDecisionsAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.applicant("paris", "a", "b", "c")
	first := w.told("paris", notice.Applied)
	if first.GetNote() != "please" || first.GetChapterDisplayName() != "paris" || first.GetCharterState() != "APPLIED" || !first.GetStanding().GetEligible() ||
		!first.GetIssueTime().AsTime().Equal(noon) || first.GetThresholdPercent() != 60 {
		t.Errorf("told %v", first)
	}
	_, err := admin.WithdrawCharter(t.Context(), &internationalv1.WithdrawCharterRequest{Name: "charters/paris"})
	w.must(err)
	w.clock.Advance(31 * day)
	_, err = admin.CreateCharter(t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris"}})
	w.must(err)
	for range 2 { // claimed again, nothing is told
		_, err = w.charter.ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/paris"})
		w.must(err)
		w.clock.Advance(time.Minute)
	}
	_, err = w.charter.DeclineCharter(t.Context(), &internationalv1.DeclineCharterRequest{Name: "charters/paris", Note: "not yet"})
	w.must(err)
	declined := w.told("paris", notice.Applied, notice.Withdrawn, notice.Applied, notice.InReview, notice.Declined)
	if declined.GetNote() != "not yet" || !declined.GetReapplyTime().AsTime().Equal(w.clock.Now().AddDate(0, 0, 30)) {
		t.Errorf("told %v", declined)
	}

	// One that is refused tells nothing.
	w.applicant("lyon")
	_, err = w.approve("lyon", "1-1")
	refuses(t, err, errorv1.Reason_REASON_STANDING_MOVED)
	w.told("lyon", notice.Applied)
}

func TestCrossingTheLineIsToldOnceItLasts(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	kinds := []string{notice.Applied, notice.Approved}
	w.told("paris", kinds...)
	// The list came with the members: the chapter rose to the line, and that is told when it has lasted.
	w.advance(59 * time.Minute)
	w.told("paris", kinds...)
	w.advance(time.Minute)
	kinds = append(kinds, notice.EligibilityGained)
	if got := w.told("paris", kinds...); got.GetStanding().GetMembership().GetInternational() != 3 || got.GetDeadlineTime() != nil {
		t.Errorf("told %v", got)
	}

	w.resigns("c")
	lost := w.clock.Now()
	w.advance(time.Hour)
	kinds = append(kinds, notice.EligibilityLost)
	got := w.told("paris", kinds...)
	if got.GetCharterState() != "AT_RISK" || !got.GetDeadlineTime().AsTime().Equal(lost.AddDate(0, 0, 90)) || got.GetStanding().GetGapConvert() != 1 || got.GetStanding().GetGapRecruit() != 3 {
		t.Errorf("told %v", got)
	}

	// Regained and lost again before it is told, and the reverse, is nothing to tell.
	for range 3 {
		w.rejoins("c")
		w.advance(30 * time.Minute)
		w.resigns("c")
		w.advance(20 * time.Minute)
	}
	w.advance(2 * time.Hour)
	w.told("paris", kinds...)
	w.rejoins("c")
	w.advance(2 * time.Hour)
	w.told("paris", append(kinds, notice.EligibilityGained)...)
}

func TestDeadlinesAreRemindedOf(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.resigns("c")
	w.advance(2 * time.Hour)
	kinds := []string{notice.Applied, notice.Approved} // rose and fell within the hour
	w.told("paris", kinds...)
	w.advance(60*day - 3*time.Hour)
	w.told("paris", kinds...)
	w.advance(time.Hour)
	kinds = append(kinds, notice.CureBy)
	if got := w.told("paris", kinds...); got.GetDaysLeft() != 30 || !got.GetDeadlineTime().AsTime().Equal(noon.AddDate(0, 0, 90)) || got.GetStanding().GetGapConvert() != 1 {
		t.Errorf("told %v", got)
	}
	w.advance(10 * day)
	w.told("paris", kinds...)
	// After an outage over two marks only the nearer one is told.
	w.advance(19*day + 12*time.Hour)
	kinds = append(kinds, notice.CureBy)
	if got := w.told("paris", kinds...); got.GetDaysLeft() != 1 {
		t.Errorf("told %v", got)
	}
	w.advance(day)
	w.told("paris", append(kinds, notice.GraceEnded)...)
}

// A mark that has passed when the deadline is set is not told: the notice of what set it names the deadline.
func TestShortGraceHasNoEarlyReminders(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.amend("grace_days = 10")
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.advance(2 * time.Hour)
	w.resigns("c")
	w.advance(2 * time.Hour)
	kinds := []string{notice.Applied, notice.Approved, notice.EligibilityGained, notice.EligibilityLost}
	w.told("paris", kinds...)
	w.advance(3 * day)
	if got := w.told("paris", append(kinds, notice.CureBy)...); got.GetDaysLeft() != 7 {
		t.Errorf("told %v", got)
	}
}

// Jobs that run at the same time, in several processes, tell everything once.
func TestReplicasTellOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.member("a", "a@example.org")
	const chapters = 40
	for i := range chapters {
		id := fmt.Sprintf("c-%d", i)
		w.chapter(id)
		w.must(w.list(id, "members", []string{"a@example.org"}, nil))
	}
	w.clock.Advance(time.Hour)
	var group errgroup.Group
	for range 6 {
		group.Go(func() error { return w.service.issueDue(context.Background()) })
	}
	w.must(group.Wait())
	for i := range chapters {
		w.told(fmt.Sprintf("c-%d", i), notice.EligibilityGained)
	}
}

func TestOwnerAnswersForNotices(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a")
	w.applicant("lyon")
	told := w.told("paris", notice.Applied)
	owner := noticeOwner()
	versions := func() (all []bus.AggregateVersion) {
		t.Helper()
		w.inTx(func(tx pgx.Tx) error {
			for after := ""; ; {
				page, err := owner.Versions(t.Context(), tx, after, 1)
				if err != nil || len(page) == 0 {
					return err
				}
				all, after = append(all, page...), page[0].Aggregate
			}
		})
		return all
	}
	snapshot := func() (version bus.Version, found bool, message proto.Message) {
		t.Helper()
		w.inTx(func(tx pgx.Tx) (err error) {
			version, found, err = owner.Snapshot(t.Context(), tx, told.GetNotice(), func(m proto.Message) error {
				message = m
				return nil
			})
			return err
		})
		return version, found, message
	}
	all := versions()
	version, found, message := snapshot()
	if len(all) != 2 || !found || !proto.Equal(message, told) || !slices.Contains(all, bus.AggregateVersion{Aggregate: told.GetNotice(), Version: version}) {
		t.Errorf("%v, %v %v %v", all, version, found, message)
	}
	w.clock.Advance(91 * day)
	w.must((&pruneWorker{service: w.service}).Work(t.Context(), nil))
	if _, found, _ := snapshot(); found || len(versions()) != 0 {
		t.Error("old notices are answered for")
	}
	// What is not answered for any more is still not told again.
	w.inTx(func(tx pgx.Tx) error {
		var number int64
		var occasion string
		if err := tx.QueryRow(t.Context(), "SELECT chapter_no, occasion FROM notices WHERE 'notices/' || id = $1", told.GetNotice()).Scan(&number, &occasion); err != nil {
			return err
		}
		return w.service.issue(t.Context(), tx, w.clock.Now(), toldOf(number, occasion))
	})
	w.told("paris", notice.Applied)
}

func toldOf(number int64, occasion string) told {
	return told{chapterNo: number, kind: notice.Applied, occasion: occasion}
}

// Nobody decides on a chapter that they are an officer of, as long as their term runs.
func TestOfficersDoNotDecide(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	w.applicant("lyon")
	w.inTx(func(tx pgx.Tx) error {
		return w.service.chapterTopic(w.service.sites[0].no).Apply(t.Context(), tx, []bus.Event{{Data: &eventv1.ChapterChanged{
			Chapter: "chapters/paris", Region: "regions/world", DisplayName: "paris", Officers: []*eventv1.ChapterOfficer{
				{TermStartTime: timestamppb.New(noon.AddDate(-1, 0, 0)), TermEndTime: timestamppb.New(noon.AddDate(0, 0, 1))}, // signs in nowhere
				{SubjectToken: w.site.SubjectToken("zoe"), TermStartTime: timestamppb.New(noon), TermEndTime: timestamppb.New(noon.AddDate(0, 0, 1))},
				{SubjectToken: w.site.SubjectToken("ada"), TermStartTime: timestamppb.New(noon.AddDate(0, 0, -1)), TermEndTime: timestamppb.New(noon)},
			},
		}}})
	})
	claim := func(subject, chapter string) error {
		staff := w.dialAs(authz.Principal{Subject: subject, Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: "*"}}})
		client := internationalv1.NewCharterServiceClient(staff)
		_, err := client.ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/" + chapter})
		if err == nil {
			_, err = client.ReleaseCharter(t.Context(), &internationalv1.ReleaseCharterRequest{Name: "charters/" + chapter})
		}
		return err
	}
	review := func(subject string) *internationalv1.CharterReview {
		staff := w.dialAs(authz.Principal{Subject: subject, Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: "*"}}})
		got, err := internationalv1.NewCharterServiceClient(staff).GetCharterReview(t.Context(), &internationalv1.GetCharterReviewRequest{Name: "charters/paris"})
		w.must(err)
		return got
	}
	if got := review("zoe"); !got.GetConflictOfInterest() || got.GetOfficerCount() != 2 {
		t.Errorf("zoe is shown a conflict: %t, and %d officers; want two, since the third one's term is over", got.GetConflictOfInterest(), got.GetOfficerCount())
	}
	refuses(t, claim("zoe", "paris"), errorv1.Reason_REASON_CONFLICT_OF_INTEREST)
	w.must(claim("zoe", "lyon"))
	w.must(claim("ada", "paris")) // whose term is over
	w.must(claim("somebody", "paris"))
	w.clock.Advance(25 * time.Hour)
	w.must(claim("zoe", "paris"))
	w.must((&pruneWorker{service: w.service}).Work(t.Context(), nil)) // counts those whose terms ended meanwhile
	if got := review("zoe"); got.GetConflictOfInterest() || got.GetOfficerCount() != 0 {
		t.Errorf("a day later zoe is shown a conflict: %t, and %d officers", got.GetConflictOfInterest(), got.GetOfficerCount())
	}

	// What is left out of a later event is gone.
	w.chapter("paris")
	var left int
	w.must(w.pool.QueryRow(t.Context(), "SELECT count(*) FROM chapter_officers").Scan(&left))
	if left != 0 {
		t.Errorf("%d officers are left", left)
	}
}

// A notice holds no address and no subject of anybody, whoever decided.
func TestNoticesNameNobody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.advance(time.Hour)
	var events []byte
	w.must(w.pool.QueryRow(t.Context(), "SELECT string_agg(data, '') FROM outbox WHERE type = 'chapterhouse.event.v1.NoticeIssued'").Scan(&events))
	for _, text := range []string{"@", string(authz.InternationalStaff), string(authz.ChapterAdmin)} {
		if bytes.Contains(events, []byte(text)) {
			t.Errorf("a notice holds %q", text)
		}
	}
	if !strings.Contains(string(events), "well done") {
		t.Error("what was said with the approval is missing")
	}
}

// Every verb is told, or is known not to be.
func TestEveryVerbIsToldOrNot(t *testing.T) {
	t.Parallel()
	// Crossings are told by themselves when they last, and a claim is the reviewers' business.
	untold := []string{verbRelease, verbClaimExpired, verbEligibilityLost, verbEligibilityRegained}
	for _, rule := range lifecycle {
		if (tells[rule.verb] == "") != slices.Contains(untold, rule.verb) {
			t.Errorf("%s is told as %q: name its notice in tells, or here", rule.verb, tells[rule.verb])
		}
	}
}

func TestReviewIsTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.amend("review_due_days = 20, changes_due_days = 40, second_approval = true")
	admin := w.applicant("paris", "a", "b", "c")
	name := "charters/paris"
	applied := w.told("paris", notice.Applied)
	if !applied.GetDeadlineTime().AsTime().Equal(noon.AddDate(0, 0, 20)) {
		t.Errorf("told %v", applied)
	}
	_, err := w.charter.RequestCharterChanges(t.Context(), &internationalv1.RequestCharterChangesRequest{
		Name: name, Note: "Name a treasurer.", Reasons: []internationalv1.Charter_Reason{internationalv1.Charter_TOO_FEW_OFFICERS},
	})
	w.must(err)
	kinds := []string{notice.Applied, notice.ChangesRequested}
	asked := w.told("paris", kinds...)
	if asked.GetNote() != "Name a treasurer." || !slices.Equal(asked.GetReasonCodes(), []string{"TOO_FEW_OFFICERS"}) || !asked.GetDeadlineTime().AsTime().Equal(noon.AddDate(0, 0, 40)) {
		t.Errorf("told %v", asked)
	}
	w.advance(2 * time.Hour)
	kinds = append(kinds, notice.EligibilityGained)
	for _, left := range []int32{30, 7, 1} {
		w.clock.Advance(w.read("paris").GetChangesDueTime().AsTime().Sub(w.clock.Now()) - time.Duration(left)*day)
		w.advance(0)
		kinds = append(kinds, notice.ChangesDue)
		if got := w.told("paris", kinds...); got.GetDaysLeft() != left {
			t.Errorf("told %v", got)
		}
	}
	_, err = admin.ResubmitCharter(t.Context(), &internationalv1.ResubmitCharterRequest{Name: name, Note: "Done."})
	w.must(err)
	kinds = append(kinds, notice.Resubmitted)
	resubmitted := w.told("paris", kinds...)
	due := w.read("paris").GetReviewDueTime()
	if resubmitted.GetNote() != "Done." || !proto.Equal(resubmitted.GetDeadlineTime(), due) {
		t.Errorf("told %v", resubmitted)
	}
	w.clock.Advance(due.AsTime().Sub(w.clock.Now()) - 7*day)
	w.advance(0)
	kinds = append(kinds, notice.ReviewDue)
	w.told("paris", kinds...)
	w.advance(8 * day)
	kinds = append(kinds, notice.ReviewOverdue)
	w.told("paris", kinds...)
	// The first of two approvals is no decision yet.
	for i, who := range []string{"one", "two"} {
		_, err = w.reviewer(who).ApproveCharter(t.Context(), &internationalv1.ApproveCharterRequest{Name: name, StandingEtag: w.standing("paris").GetEtag()})
		w.must(err)
		if i == 0 {
			w.told("paris", kinds...)
		}
	}
	w.told("paris", append(kinds, notice.Approved)...)
}

func TestLifeOfACharterIsTold(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "renewal_days = 400, grace_days = 60, grace_end = 'SUSPEND'")
	name := "charters/paris"
	kinds := []string{notice.Applied, notice.Approved}
	if got := w.told("paris", kinds...); !got.GetDeadlineTime().AsTime().Equal(noon.AddDate(0, 0, 400)) {
		t.Errorf("told %v", got)
	}
	w.advance(2 * time.Hour)
	kinds = append(kinds, notice.EligibilityGained)
	next := func(want string, err error) *eventv1.NoticeIssued {
		t.Helper()
		w.must(err)
		kinds = append(kinds, want)
		return w.told("paris", kinds...)
	}
	_, err := w.charter.SuspendCharter(t.Context(), &internationalv1.SuspendCharterRequest{Name: name, Reason: internationalv1.Charter_CONDUCT, Note: "Talk to us."})
	if got := next(notice.Suspended, err); got.GetNote() != "Talk to us." || got.GetReasonCodes()[0] != "CONDUCT" || got.GetCharterState() != "SUSPENDED" {
		t.Errorf("told %v", got)
	}
	_, err = w.charter.ReinstateCharter(t.Context(), &internationalv1.ReinstateCharterRequest{Name: name})
	next(notice.Reinstated, err)

	// A protection, its end coming near, and its end.
	until := w.clock.Now().Add(40 * day)
	_, err = w.charter.ProtectCharter(t.Context(), &internationalv1.ProtectCharterRequest{Name: name, UntilTime: timestamppb.New(until), Reason: "An earthquake."})
	if got := next(notice.Protected, err); !got.GetDeadlineTime().AsTime().Equal(until) {
		t.Errorf("told %v", got)
	}
	w.advance(10 * day)
	next(notice.ProtectionEnd, nil)
	w.advance(31 * day)
	next(notice.Unprotected, nil)
	_, err = w.charter.ProtectCharter(t.Context(), &internationalv1.ProtectCharterRequest{Name: name, UntilTime: timestamppb.New(w.clock.Now().Add(day)), Reason: "Again."})
	next(notice.Protected, err)
	_, err = w.charter.UnprotectCharter(t.Context(), &internationalv1.UnprotectCharterRequest{Name: name})
	next(notice.Unprotected, err)

	// The renewal comes near, is asked for, which is not told, and given.
	due := w.read("paris").GetRenewalDueTime().AsTime()
	w.clock.Advance(due.Sub(w.clock.Now()) - 30*day)
	w.advance(0)
	if got := next(notice.RenewalDue, nil); got.GetDaysLeft() != 30 || !got.GetDeadlineTime().AsTime().Equal(due) {
		t.Errorf("told %v", got)
	}
	_, err = w.adminOf("paris").RenewCharter(t.Context(), &internationalv1.RenewCharterRequest{Name: name, Note: "Please."})
	w.must(err)
	w.told("paris", kinds...)
	_, err = w.charter.RenewCharter(t.Context(), &internationalv1.RenewCharterRequest{Name: name})
	if got := next(notice.Renewed, err); !got.GetDeadlineTime().AsTime().Equal(due.AddDate(0, 0, 400)) {
		t.Errorf("told %v", got)
	}

	// Below the line until the policy suspends.
	w.resigns("c")
	lost := w.clock.Now()
	w.advance(2 * time.Hour)
	if got := next(notice.EligibilityLost, nil); !proto.Equal(got.GetDeadlineTime(), w.read("paris").GetCureByTime()) || got.GetDeadlineTime().AsTime().Before(lost) {
		t.Errorf("told %v", got)
	}
	for range 3 {
		w.clock.Advance(w.nextMark("paris"))
		w.advance(0)
		next(notice.CureBy, nil)
	}
	w.advance(2 * day)
	if got := next(notice.Suspended, nil); !slices.Equal(got.GetReasonCodes(), []string{"GRACE_ENDED"}) {
		t.Errorf("told %v", got)
	}
	_, err = w.charter.RevokeCharter(t.Context(), &internationalv1.RevokeCharterRequest{Name: name, Reason: internationalv1.Charter_BELOW_THRESHOLD, Note: "Come back."})
	if got := next(notice.Revoked, err); got.GetReapplyTime() == nil || got.GetNote() != "Come back." {
		t.Errorf("told %v", got)
	}
}

// nextMark is how long it is until the next reminder of a cure.
func (w *world) nextMark(chapter string) time.Duration {
	w.t.Helper()
	left := w.read(chapter).GetCureByTime().AsTime().Sub(w.clock.Now())
	for _, mark := range notice.Marks(notice.CureBy) {
		if left > mark {
			return left - mark
		}
	}
	w.t.Fatalf("the deadline is %s away", left)
	return 0
}

// An approval against the figures that comes to its end puts the charter at risk, and a grace period that staff look at ends.
func TestEndsOfOverridesAndGraceAreTold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.amend("grace_days = 5")
	w.applicant("paris", "a")
	override := w.dialAs(authz.Principal{Subject: "override", Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: "*"}}})
	_, err := internationalv1.NewCharterServiceClient(override).ApproveCharter(t.Context(), &internationalv1.ApproveCharterRequest{
		Name: "charters/paris", StandingEtag: w.standing("paris").GetEtag(),
		Override: &internationalv1.CharterOverride{Reason: "A new chapter.", UntilTime: timestamppb.New(noon.AddDate(0, 0, 50))},
	})
	w.must(err)
	w.advance(50 * day)
	kinds := []string{notice.Applied, notice.Approved, notice.AtRisk}
	if got := w.told("paris", kinds...); !got.GetDeadlineTime().AsTime().Equal(noon.AddDate(0, 0, 55)) || got.GetStanding().GetGapConvert() != 2 {
		t.Errorf("told %v", got)
	}
	w.advance(4 * day)
	kinds = append(kinds, notice.CureBy) // of the marks only the last came after the deadline was set
	w.told("paris", kinds...)
	w.advance(day)
	w.told("paris", append(kinds, notice.GraceEnded)...)
}
