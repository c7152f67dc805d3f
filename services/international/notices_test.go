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
	w.must(w.service.issueDue(w.t.Context()))
	w.must(w.service.issueDue(w.t.Context())) // which tells nothing twice
}

func (w *world) resign(member string) {
	w.t.Helper()
	_, err := internationalv1.NewMemberServiceClient(w.dial(authz.InternationalStaff, "")).
		ResignMember(w.t.Context(), &internationalv1.ResignMemberRequest{Name: "members/" + member})
	w.must(err)
}

func (w *world) renew(member string) {
	w.t.Helper()
	_, err := internationalv1.NewMemberServiceClient(w.dial(authz.InternationalStaff, "")).RenewMember(w.t.Context(), &internationalv1.RenewMemberRequest{
		Name: "members/" + member, TermEndTime: timestamppb.New(w.clock.Now().AddDate(3, 0, 0)),
	})
	w.must(err)
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
	_, err = admin.CreateCharter(t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris"}})
	w.must(err)
	for range 2 { // claimed again, nothing happens
		_, err = w.charter.ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/paris"})
		w.must(err)
	}
	_, err = w.charter.DeclineCharter(t.Context(), &internationalv1.DeclineCharterRequest{Name: "charters/paris", Note: "not yet"})
	w.must(err)
	declined := w.told("paris", notice.Applied, notice.Withdrawn, notice.Applied, notice.InReview, notice.Declined)
	if declined.GetNote() != "not yet" || !declined.GetReapplyTime().AsTime().Equal(noon.AddDate(0, 0, 30)) {
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

	w.resign("c")
	lost := w.clock.Now()
	w.advance(time.Hour)
	kinds = append(kinds, notice.EligibilityLost)
	got := w.told("paris", kinds...)
	if got.GetCharterState() != "AT_RISK" || !got.GetDeadlineTime().AsTime().Equal(lost.AddDate(0, 0, 90)) || got.GetStanding().GetGapConvert() != 1 || got.GetStanding().GetGapRecruit() != 3 {
		t.Errorf("told %v", got)
	}

	// Regained and lost again before it is told, and the reverse, is nothing to tell.
	for range 3 {
		w.renew("c")
		w.advance(30 * time.Minute)
		w.resign("c")
		w.advance(20 * time.Minute)
	}
	w.advance(2 * time.Hour)
	w.told("paris", kinds...)
	w.renew("c")
	w.advance(2 * time.Hour)
	w.told("paris", append(kinds, notice.EligibilityGained)...)
}

func TestDeadlinesAreRemindedOf(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.resign("c")
	w.advance(2 * time.Hour)
	kinds := []string{notice.Applied, notice.Approved} // rose and fell within the hour
	w.told("paris", kinds...)
	const day = 24 * time.Hour
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
	w.told("paris", kinds...)
}

// A mark that has passed when the deadline is set is not told: the notice of what set it names the deadline.
func TestShortGraceHasNoEarlyReminders(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.pool.Exec(t.Context(), "UPDATE policies SET grace_days = 10")
	w.must(err)
	w.applicant("paris", "a", "b", "c")
	_, err = w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	w.advance(2 * time.Hour)
	w.resign("c")
	w.advance(2 * time.Hour)
	kinds := []string{notice.Applied, notice.Approved, notice.EligibilityGained, notice.EligibilityLost}
	w.told("paris", kinds...)
	w.advance(3 * 24 * time.Hour)
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
	w.clock.Advance(91 * 24 * time.Hour)
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
	refuses(t, claim("zoe", "paris"), errorv1.Reason_REASON_CONFLICT_OF_INTEREST)
	w.must(claim("zoe", "lyon"))
	w.must(claim("ada", "paris")) // whose term is over
	w.must(claim("somebody", "paris"))
	w.clock.Advance(25 * time.Hour)
	w.must(claim("zoe", "paris"))

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
