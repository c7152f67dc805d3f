package international

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// reviewer is somebody of staff.
func (w *world) reviewer(name string) internationalv1.CharterServiceClient {
	return internationalv1.NewCharterServiceClient(w.dialAs(authz.Principal{
		Subject: name, Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: "*"}},
	}))
}

func TestClaimsExpire(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	ana, bo := w.reviewer("ana"), w.reviewer("bo")
	claim := &internationalv1.ClaimCharterRequest{Name: "charters/paris"}
	_, err := ana.ClaimCharter(t.Context(), claim)
	w.must(err)
	w.clock.Advance(71 * time.Hour)
	_, err = bo.ClaimCharter(t.Context(), claim)
	if got := refusedBy(t, err, errorv1.Reason_REASON_CLAIMED_BY_ANOTHER)["reviewer"]; got != "ana" {
		t.Errorf("it is claimed by %q", got)
	}
	prolonged, err := ana.ClaimCharter(t.Context(), claim)
	w.must(err)
	if want := noon.Add(143 * time.Hour); !prolonged.GetClaimExpireTime().AsTime().Equal(want) {
		t.Errorf("prolonged it expires at %v, want %v", prolonged.GetClaimExpireTime().AsTime(), want)
	}
	w.clock.Advance(71 * time.Hour)
	_, err = bo.ClaimCharter(t.Context(), claim)
	refuses(t, err, errorv1.Reason_REASON_CLAIMED_BY_ANOTHER)
	w.clock.Advance(time.Hour)
	taken, err := bo.ClaimCharter(t.Context(), claim) // no job has run
	w.must(err)
	if taken.GetReviewer() != "bo" || taken.GetState() != internationalv1.Charter_IN_REVIEW {
		t.Errorf("taken over it is %v", taken)
	}
	w.days(3)
	if charter := w.is("paris", internationalv1.Charter_APPLIED); charter.GetReviewer() != "" || charter.GetClaimExpireTime() != nil {
		t.Errorf("expired it is %v", charter)
	}
	w.verbs("paris", "apply", "claim", "claim", "claimExpired", "claim", "claimExpired")
}

func TestReviewsBecomeOverdue(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris")
	w.at("reviewDue", w.read("paris").GetReviewDueTime(), 30)
	w.days(30)
	if charter := w.is("paris", internationalv1.Charter_APPLIED); !charter.GetOverdue() || charter.GetWaitingFor() != internationalv1.Charter_DECISION {
		t.Errorf("on the day: %v", charter)
	}
	overdue, err := w.charter.ListCharters(t.Context(), &internationalv1.ListChartersRequest{Overdue: true})
	w.must(err)
	if len(overdue.GetCharters()) != 1 {
		t.Errorf("overdue are %v", overdue.GetCharters())
	}
	w.verbs("paris", "apply", "reviewOverdue")
}

func TestChangesAreRequestedAndComeBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.applicant("paris", "a", "b", "c")
	ana := w.reviewer("ana")
	ask := &internationalv1.RequestCharterChangesRequest{
		Name: "charters/paris", Note: "Say who your officers are.", Reasons: []internationalv1.Charter_Reason{internationalv1.Charter_INFORMATION_MISSING},
	}
	_, err := ana.RequestCharterChanges(t.Context(), &internationalv1.RequestCharterChangesRequest{Name: "charters/paris", Note: "?"})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	_, err = ana.ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/paris"})
	w.must(err)
	asked, err := ana.RequestCharterChanges(t.Context(), ask)
	w.must(err)
	w.at("changesDue", asked.GetChangesDueTime(), 60)
	if asked.GetState() != internationalv1.Charter_CHANGES_REQUESTED || asked.GetReviewDueTime() != nil || asked.GetWaitingSinceTime() != nil ||
		asked.GetChangesRequest().GetSubject() != "ana" || !slices.Equal(asked.GetChangesRequest().GetReasons(), ask.GetReasons()) {
		t.Fatalf("asked: %v", asked)
	}
	if got := w.queue(&internationalv1.ListReviewQueueRequest{}); len(got) != 0 {
		t.Errorf("it waits for the chapter, and the queue is %v", got)
	}
	_, err = w.approve("paris", w.standing("paris").GetEtag())
	refuses(t, err, errorv1.Reason_REASON_CHARTER_STATE)

	w.days(10)
	back, err := admin.ResubmitCharter(t.Context(), &internationalv1.ResubmitCharterRequest{Name: "charters/paris", Note: "Three of us."})
	w.must(err)
	w.at("reviewDue", back.GetReviewDueTime(), 40)
	w.at("waitingSince", back.GetWaitingSinceTime(), 10)
	w.at("claimExpires", back.GetClaimExpireTime(), 13)
	if back.GetState() != internationalv1.Charter_IN_REVIEW || back.GetReviewer() != "ana" {
		t.Errorf("handed in again: %v", back)
	}

	// No answer in time: the review goes on with what there is.
	_, err = ana.RequestCharterChanges(t.Context(), ask)
	w.must(err)
	w.days(60)
	late := w.is("paris", internationalv1.Charter_IN_REVIEW)
	w.at("reviewDue", late.GetReviewDueTime(), 100)
	if late.GetReviewer() != "ana" {
		t.Errorf("late it is %v", late)
	}
	_, err = admin.ResubmitCharter(t.Context(), &internationalv1.ResubmitCharterRequest{Name: "charters/paris"})
	refuses(t, err, errorv1.Reason_REASON_CHARTER_STATE)
	history, err := w.charter.ListCharterHistory(t.Context(), &internationalv1.ListCharterHistoryRequest{Parent: "charters/paris"})
	w.must(err)
	entry := history.GetHistory()[2]
	if entry.GetVerb() != "requestChanges" || !slices.Equal(entry.GetReasons(), ask.GetReasons()) || entry.GetNote() != ask.GetNote() ||
		entry.GetPolicyRevision() != "1" || entry.GetStanding().GetMembership().GetInternational() != 3 || entry.GetSubject() != "ana" {
		t.Errorf("the history keeps %v", entry)
	}
}

func TestSecondApprovalIsAnothersOnTheSameFigures(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.amend("second_approval = true")
	w.applicant("paris", "a", "b", "c")
	ana, bo := w.reviewer("ana"), w.reviewer("bo")
	approve := func(by internationalv1.CharterServiceClient) (*internationalv1.Charter, error) {
		return by.ApproveCharter(t.Context(), &internationalv1.ApproveCharterRequest{Name: "charters/paris", StandingEtag: w.standing("paris").GetEtag()})
	}
	_, err := ana.ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/paris"})
	w.must(err)
	first, err := approve(ana)
	w.must(err)
	if first.GetState() != internationalv1.Charter_APPLIED || first.GetFirstApproval().GetSubject() != "ana" || first.GetReviewer() != "" ||
		first.GetWaitingFor() != internationalv1.Charter_SECOND_APPROVAL || first.GetFirstApproval().GetStandingEtag() != w.standing("paris").GetEtag() {
		t.Fatalf("approved once: %v", first)
	}
	_, err = approve(ana)
	if got := refusedBy(t, err, errorv1.Reason_REASON_SAME_APPROVER)["subject"]; got != "ana" {
		t.Errorf("the first was given by %q", got)
	}
	w.member("d", "d@example.org") // the standing moves
	again, err := approve(bo)
	w.must(err)
	if again.GetState() != internationalv1.Charter_APPLIED || again.GetFirstApproval().GetSubject() != "bo" {
		t.Fatalf("approved on other figures: %v", again)
	}
	second, err := approve(ana)
	w.must(err)
	if second.GetState() != internationalv1.Charter_CHARTERED || second.GetDecision().GetSubject() != "ana" ||
		second.GetDecision().GetFirstApproval().GetSubject() != "bo" || second.GetFirstApproval() != nil {
		t.Fatalf("approved twice: %v", second)
	}
	w.verbs("paris", "apply", "claim", "approve", "approve", "approve")
}

func TestDeclinedSaysWhyAndWhenToComeBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.applicant("paris", "a")
	decline := &internationalv1.DeclineCharterRequest{
		Name: "charters/paris", Note: "Too few.", Reason: internationalv1.Charter_BELOW_THRESHOLD, ReapplyTime: timestamppb.New(noon.Add(-time.Hour)),
	}
	_, err := w.charter.DeclineCharter(t.Context(), decline)
	refuses(t, err, errorv1.Reason_REASON_DEADLINE_INVALID)
	decline.ReapplyTime = timestamppb.New(noon.AddDate(0, 0, 7))
	declined, err := w.charter.DeclineCharter(t.Context(), decline)
	w.must(err)
	w.at("reapply", declined.GetReapplyTime(), 7)
	if got := declined.GetDecision().GetReasons(); !slices.Equal(got, []internationalv1.Charter_Reason{internationalv1.Charter_BELOW_THRESHOLD}) {
		t.Errorf("declined for %v", got)
	}
	w.days(7)
	again, err := admin.CreateCharter(t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris"}})
	w.must(err)
	if again.GetDecision() != nil || again.GetReapplyTime() != nil || again.GetCreateTime().AsTime() != noon {
		t.Errorf("applied for again: %v", again)
	}
}

// Whatever ended it, the same charter is reopened once the waiting time is over.
func TestEndedChartersAreReopened(t *testing.T) {
	t.Parallel()
	name := "charters/paris"
	for end, do := range map[string]func(w *world, admin internationalv1.CharterServiceClient) error{
		"withdraw": func(w *world, admin internationalv1.CharterServiceClient) error {
			_, err := admin.WithdrawCharter(w.t.Context(), &internationalv1.WithdrawCharterRequest{Name: name})
			return err
		},
		"revoke": func(w *world, _ internationalv1.CharterServiceClient) error {
			_, err := w.approve("paris", w.standing("paris").GetEtag())
			w.must(err)
			_, err = w.charter.RevokeCharter(w.t.Context(), &internationalv1.RevokeCharterRequest{Name: name, Note: "It sold its list.", Reason: internationalv1.Charter_CONDUCT})
			return err
		},
		"surrender": func(w *world, admin internationalv1.CharterServiceClient) error {
			_, err := w.approve("paris", w.standing("paris").GetEtag())
			w.must(err)
			_, err = admin.SurrenderCharter(w.t.Context(), &internationalv1.SurrenderCharterRequest{Name: name})
			return err
		},
	} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			admin := w.applicant("paris", "a", "b", "c")
			w.must(do(w, admin))
			apply := &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris"}}
			_, err := admin.CreateCharter(t.Context(), apply)
			refuses(t, err, errorv1.Reason_REASON_WAITING_TIME)
			w.days(30)
			_, err = admin.CreateCharter(t.Context(), apply)
			w.must(err)
			history, err := w.charter.ListCharterHistory(t.Context(), &internationalv1.ListCharterHistoryRequest{Parent: name})
			w.must(err)
			entries := history.GetHistory()
			if last := entries[len(entries)-1]; last.GetVerb() != "apply" || entries[0].GetVerb() != "apply" || entries[len(entries)-2].GetVerb() != end {
				t.Errorf("the history is %v", entries)
			}
		})
	}
}

func TestVerbsBelongToTheirSides(t *testing.T) {
	t.Parallel()
	w := charteredChapter(t, "renewal_days = 365")
	admin, auditor := w.adminOf("paris"), internationalv1.NewCharterServiceClient(w.dial(authz.Auditor, ""))
	other := w.adminOf("lyon")
	ctx, name := t.Context(), "charters/paris"
	until := timestamppb.New(noon.AddDate(1, 0, 0))
	for what, call := range map[string]func(c internationalv1.CharterServiceClient) error{
		"suspend": func(c internationalv1.CharterServiceClient) error {
			_, err := c.SuspendCharter(ctx, &internationalv1.SuspendCharterRequest{Name: name, Reason: internationalv1.Charter_OTHER, Note: "no"})
			return err
		},
		"revoke": func(c internationalv1.CharterServiceClient) error {
			_, err := c.RevokeCharter(ctx, &internationalv1.RevokeCharterRequest{Name: name, Reason: internationalv1.Charter_OTHER, Note: "no"})
			return err
		},
		"protect": func(c internationalv1.CharterServiceClient) error {
			_, err := c.ProtectCharter(ctx, &internationalv1.ProtectCharterRequest{Name: name, Reason: "no", UntilTime: until})
			return err
		},
		"review": func(c internationalv1.CharterServiceClient) error {
			_, err := c.RequestCharterChanges(ctx, &internationalv1.RequestCharterChangesRequest{Name: name, Note: "no", Reasons: []internationalv1.Charter_Reason{internationalv1.Charter_OTHER}})
			return err
		},
	} {
		for _, client := range []internationalv1.CharterServiceClient{admin, auditor} {
			refuses(t, fmt.Errorf("%s: %w", what, call(client)), errorv1.Reason_REASON_PERMISSION_DENIED)
		}
	}
	_, err := w.charter.SurrenderCharter(ctx, &internationalv1.SurrenderCharterRequest{Name: name})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = other.SurrenderCharter(ctx, &internationalv1.SurrenderCharterRequest{Name: name})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = admin.GetCharterReview(ctx, &internationalv1.GetCharterReviewRequest{Name: name})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = auditor.GetCharterReview(ctx, &internationalv1.GetCharterReviewRequest{Name: name})
	w.must(err)
	// Who acts for the chapter and is of staff asks for the renewal, and does not give it.
	both := internationalv1.NewCharterServiceClient(w.dialAs(authz.Principal{Subject: "both", Grants: []authz.Grant{
		{Role: authz.InternationalStaff, Scope: "*"}, {Role: authz.ChapterAdmin, Scope: "chapters/paris"},
	}}))
	charter, err := both.RenewCharter(ctx, &internationalv1.RenewCharterRequest{Name: name})
	w.must(err)
	if charter.GetRenewalRequestTime() == nil {
		t.Errorf("renewed by its own admin: %v", charter)
	}
	for _, err := range []error{
		second(both.ProtectCharter(ctx, &internationalv1.ProtectCharterRequest{Name: name, Reason: "no", UntilTime: until})),
		second(both.SuspendCharter(ctx, &internationalv1.SuspendCharterRequest{Name: name, Reason: internationalv1.Charter_OTHER, Note: "no"})),
		second(both.ReinstateCharter(ctx, &internationalv1.ReinstateCharterRequest{Name: name})),
	} {
		refuses(t, err, errorv1.Reason_REASON_CONFLICT_OF_INTEREST)
	}
}

func second[T any](_ T, err error) error { return err }

func TestCommentsAreForThoseTheyAreFor(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.applicant("paris", "a")
	ctx, parent := t.Context(), "charters/paris"
	say := func(c internationalv1.CharterServiceClient, visibility internationalv1.CharterComment_Visibility, body string) error {
		_, err := c.CreateCharterComment(ctx, &internationalv1.CreateCharterCommentRequest{
			Parent: parent, Comment: &internationalv1.CharterComment{Visibility: visibility, Body: body},
		})
		return err
	}
	w.must(say(w.charter, internationalv1.CharterComment_INTERNAL, "Looks odd."))
	w.must(say(w.charter, internationalv1.CharterComment_CHAPTER, "Who are you?"))
	w.must(say(admin, internationalv1.CharterComment_CHAPTER, "Us."))
	refuses(t, say(admin, internationalv1.CharterComment_INTERNAL, "Ha."), errorv1.Reason_REASON_CONFLICT_OF_INTEREST)
	refuses(t, say(w.adminOf("lyon"), internationalv1.CharterComment_CHAPTER, "Ha."), errorv1.Reason_REASON_PERMISSION_DENIED)
	refuses(t, say(w.charter, internationalv1.CharterComment_VISIBILITY_UNSPECIFIED, "?"), errorv1.Reason_REASON_INVALID_FIELD)
	both := internationalv1.NewCharterServiceClient(w.dialAs(authz.Principal{Subject: "both", Grants: []authz.Grant{
		{Role: authz.InternationalStaff, Scope: "*"}, {Role: authz.ChapterAdmin, Scope: "chapters/paris"},
	}}))
	for client, want := range map[internationalv1.CharterServiceClient]string{
		w.charter: "Looks odd. Who are you? Us.", admin: "Who are you? Us.", both: "Who are you? Us.",
		internationalv1.NewCharterServiceClient(w.dial(authz.Auditor, "")): "Looks odd. Who are you? Us.",
	} {
		var got []string
		list := &internationalv1.ListCharterCommentsRequest{Parent: parent, PageSize: 2}
		for more := true; more; more = list.GetPageToken() != "" {
			page, err := client.ListCharterComments(ctx, list)
			w.must(err)
			for _, comment := range page.GetComments() {
				got = append(got, comment.GetBody())
			}
			list.PageToken = page.GetNextPageToken()
		}
		if strings.Join(got, " ") != want {
			t.Errorf("read %v, want %s", got, want)
		}
	}
	_, err := w.charter.ListCharterComments(ctx, &internationalv1.ListCharterCommentsRequest{Parent: "charters/lyon"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestQueueIsSortedByWaiting(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec("INSERT INTO regions (id, parent, display_name) VALUES ('world', NULL, ''), ('europe', 'world', ''), ('asia', 'world', '')")
	for i, chapter := range []string{"c-chapter", "a-chapter", "b-chapter"} {
		w.applicant(chapter)
		w.exec("UPDATE chapters SET region = $2 WHERE id = $1", chapter, []string{"europe", "asia", "europe"}[i])
		w.clock.Advance(time.Hour)
	}
	ana := w.reviewer("ana")
	_, err := ana.ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/a-chapter"})
	w.must(err)
	for want, req := range map[string]*internationalv1.ListReviewQueueRequest{
		"c-chapter a-chapter b-chapter": {},
		"c-chapter b-chapter":           {Region: "regions/europe"},
		"a-chapter":                     {Reviewer: "ana"},
		"c-chapter  b-chapter":          {Unclaimed: true},
		" a-chapter":                    {State: internationalv1.Charter_IN_REVIEW},
		"c-chapter":                     {WaitingBeforeTime: timestamppb.New(noon.Add(time.Minute))},
		"":                              {Overdue: true},
		" ":                             {Unblocked: true},
		"  ":                            {Task: internationalv1.Charter_RENEWAL},
	} {
		var got []string
		req.PageSize = 1
		for more := true; more; more = req.GetPageToken() != "" {
			page, err := w.charter.ListReviewQueue(t.Context(), req)
			w.must(err)
			for _, one := range page.GetCharters() {
				got = append(got, idOf(one.GetCharter().GetName()))
			}
			req.PageToken = page.GetNextPageToken()
		}
		if !slices.Equal(got, strings.Fields(want)) {
			t.Errorf("%v: %v, want %s", req, got, want)
		}
	}
	coordinator := internationalv1.NewCharterServiceClient(w.dial(authz.Coordinator, "regions/europe"))
	_, err = coordinator.ListReviewQueue(t.Context(), &internationalv1.ListReviewQueueRequest{Region: "regions/europe"})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
}

// What SQL filters by is what Go shows, for any figures and any policy.
func TestQueueKnowsBlockers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	random := rand.New(rand.NewPCG(1, 2))
	const n = 60
	for i := range n {
		w.chapter(fmt.Sprintf("chapter-%d", i))
	}
	w.exec(`INSERT INTO charters (chapter_no, chapter_id, state, apply_time, hand_in_time, waiting_for, waiting_time, epoch, version, create_time, update_time)
		SELECT chapter_no, id, 'APPLIED', $1, $1, 'DECISION', $1, 1, 1, $1, $1 FROM chapters`, noon)
	w.exec(`INSERT INTO lists (chapter_no, id, basis, epoch, version) SELECT chapter_no, 'members', 1, 1, 1 FROM chapters`)
	for round := range 12 {
		w.clock.Advance(time.Second)
		w.amend(fmt.Sprintf("minimum_membership = %d, minimum_mailing = %d, minimum_officers = %d, activity_days = %d, allow_membership = %t, allow_mailing = %t",
			random.IntN(4), random.IntN(4), random.IntN(3), random.IntN(3)*10, round%3 != 0, round%3 != 1))
		policy, err := db.New(w.pool).PolicyInForce(t.Context(), w.clock.Now())
		w.must(err)
		for i := range n {
			m, l := random.IntN(6), random.IntN(6)
			row := db.Standing{
				MembershipTotal: int32(m), MembershipInternational: int32(random.IntN(m + 1)), MailingTotal: int32(l), MailingInternational: int32(random.IntN(l + 1)),
			}
			w.exec(`UPDATE standings SET membership_total = $2, membership_international = $3, mailing_total = $4, mailing_international = $5, eligible = $6,
				policy_revision = $7 WHERE chapter_no = (SELECT chapter_no FROM chapters WHERE id = $1)`, fmt.Sprintf("chapter-%d", i),
				row.MembershipTotal, row.MembershipInternational, row.MailingTotal, row.MailingInternational, judgeRow(policy, row).eligible, policy.Revision)
		}
		w.exec(`UPDATE chapters SET officers = nullif((random() * 3)::int, 3)`)
		w.exec(`UPDATE lists SET change_time = CASE WHEN random() < 0.8 THEN $1::timestamptz - random() * interval '25 days' END`, w.clock.Now())
		w.blockersAgree()
	}
}

func (w *world) blockersAgree() {
	w.t.Helper()
	all, err := w.charter.ListReviewQueue(w.t.Context(), &internationalv1.ListReviewQueueRequest{PageSize: 1000})
	w.must(err)
	for kind, name := range internationalv1.CharterRequirement_Kind_name {
		blocker := internationalv1.CharterRequirement_Kind(kind)
		req := &internationalv1.ListReviewQueueRequest{PageSize: 1000, Blocker: blocker, Unblocked: kind == 0}
		var want []string
		for _, one := range all.GetCharters() {
			if kind == 0 && len(one.GetBlockers()) == 0 || slices.Contains(one.GetBlockers(), blocker) {
				want = append(want, one.GetCharter().GetName())
			}
			eligible := !slices.Contains(one.GetBlockers(), internationalv1.CharterRequirement_THRESHOLD) &&
				!slices.Contains(one.GetBlockers(), internationalv1.CharterRequirement_MINIMUM_PEOPLE)
			if eligible != one.GetStanding().GetEligible() {
				w.t.Errorf("%v lacks %v", one.GetStanding(), one.GetBlockers())
			}
		}
		if got := w.queue(req); !slices.Equal(got, want) {
			w.t.Errorf("lacking %s: %d by the filter, %d as shown", name, len(got), len(want))
		}
	}
}

// TestApprovalAsksForMoreThanFigures approves a chapter that lacks an officer, then activity, then nothing.
func TestApprovalAsksForMoreThanFigures(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.amend("minimum_officers = 2, activity_days = 30")
	w.applicant("paris", "a", "b", "c", "d")
	lacks := func(requirement internationalv1.CharterRequirement_Kind) {
		t.Helper()
		_, err := w.approve("paris", w.standing("paris").GetEtag())
		refuses(t, err, errorv1.Reason_REASON_REQUIREMENT_MISSING)
		if !strings.Contains(fmt.Sprint(status.Convert(err).Details()), requirement.String()) {
			t.Errorf("lacking %s it said %v", requirement, status.Convert(err).Details())
		}
	}
	lacks(internationalv1.CharterRequirement_MINIMUM_OFFICERS) // the site has not told of any
	w.exec("UPDATE chapters SET officers = 1 WHERE id = 'paris'")
	lacks(internationalv1.CharterRequirement_MINIMUM_OFFICERS)
	w.exec("UPDATE chapters SET officers = 2 WHERE id = 'paris'")
	w.clock.Advance(31 * day)
	lacks(internationalv1.CharterRequirement_ACTIVITY)
	w.must(w.list("paris", "members", []string{"f@example.org"}, nil))
	charter, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	if charter.GetState() != internationalv1.Charter_CHARTERED {
		t.Errorf("with all of it the charter is %s", charter.GetState())
	}
}

func TestReviewShowsWhatAReviewerNeeds(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.amend("minimum_officers = 2, activity_days = 30, minimum_membership = 10")
	for id, at := range map[string][2]float64{"paris": {48.85, 2.35}, "lyon": {45.76, 4.84}, "tokyo": {35.68, 139.69}, "nowhere": {0, 0}} {
		w.inTx(func(tx pgx.Tx) error {
			return w.service.chapterTopic(w.service.sites[0].no).Apply(t.Context(), tx, []bus.Event{{Data: &eventv1.ChapterChanged{
				Chapter: "chapters/" + id, DisplayName: strings.ToUpper(id), Region: "regions/world", Latitude: at[0], Longitude: at[1],
			}}})
		})
	}
	w.must(w.list("paris", "members", []string{"a@example.org", "b@example.org"}, nil))
	w.member("a", "a@example.org")
	admin := w.adminOf("paris")
	_, err := admin.CreateCharter(t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris"}})
	w.must(err)
	w.exec("UPDATE chapters SET officers = 1 WHERE id = 'paris'")
	w.clock.Advance(40 * day)
	w.member("b", "b@example.org")
	review, err := w.charter.GetCharterReview(t.Context(), &internationalv1.GetCharterReviewRequest{Name: "charters/paris"})
	w.must(err)
	if review.GetStanding().GetEtag() != w.standing("paris").GetEtag() || review.GetCharter().GetState() != internationalv1.Charter_APPLIED ||
		review.GetOfficerCount() != 1 || review.GetChapterDisplayName() != "PARIS" || review.GetRegion() != "regions/world" || review.GetConflictOfInterest() {
		t.Errorf("the review is %v", review)
	}
	want := []string{
		"THRESHOLD true 2 2 ",
		"MINIMUM_PEOPLE false 2 10 8 more people on the MEMBERSHIP basis.",
		"MINIMUM_OFFICERS false 1 2 1 more officers.",
		"ACTIVITY false 40 30 Bring the chapter's lists up to date: a sync or an edit that adds or removes somebody.",
	}
	for i, r := range review.GetRequirements() {
		if got := fmt.Sprint(r.GetRequirement(), " ", r.GetMet(), " ", r.GetHave(), " ", r.GetWant(), " ", r.GetRemedy()); got != want[i] {
			t.Errorf("requirement %d is %q, want %q", i, got, want[i])
		}
	}
	var nearest []string
	for _, one := range review.GetNearest() {
		nearest = append(nearest, fmt.Sprintf("%s %.0f", one.GetDisplayName(), one.GetDistanceKm()))
	}
	if got := strings.Join(nearest, ", "); got != "LYON 391, TOKYO 9714" {
		t.Errorf("the nearest are %s", got)
	}
	if len(review.GetTrend()) < 2 || review.GetTrend()[0].GetMembership().GetInternational() != 1 ||
		review.GetTrend()[len(review.GetTrend())-1].GetMembership().GetInternational() != 2 {
		t.Errorf("the trend is %v", review.GetTrend())
	}
	if got := strings.Join(review.GetVerbs(), " "); got != "claim requestChanges approve decline withdraw protect unprotect" {
		t.Errorf("the verbs are %s", got)
	}
	if len(review.GetHistory()) != 1 || len(review.GetAnomalies()) != 0 {
		t.Errorf("history %v, anomalies %v", review.GetHistory(), review.GetAnomalies())
	}
	_, err = w.charter.GetCharterReview(t.Context(), &internationalv1.GetCharterReviewRequest{Name: "charters/lyon"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func addresses(from, n int) []string {
	all := make([]string, 0, n)
	for i := from; i < from+n; i++ {
		all = append(all, fmt.Sprintf("person%d@example.org", i))
	}
	return all
}

func TestAnomaliesAreShown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before func(w *world)
		want   string
	}{
		"NothingStriking": {func(w *world) {
			w.must(w.list("paris", "members", addresses(0, 40), nil))
			w.must(w.list("paris", "announce", addresses(0, 60), nil))
			w.must(w.list("paris", "members", nil, addresses(0, 6)))
		}, ""},
		"RemovedBeforeApplying": {func(w *world) {
			w.must(w.list("paris", "members", addresses(0, 40), nil))
			w.days(40)
			w.must(w.list("paris", "members", nil, addresses(0, 10)))
		}, "REMOVALS_BEFORE_APPLYING 10 40"},
		"RemovedLongBefore": {func(w *world) {
			w.must(w.list("paris", "members", addresses(0, 40), nil))
			w.must(w.list("paris", "members", nil, addresses(0, 10)))
			w.days(40)
		}, ""},
		"DifferentPeople": {func(w *world) {
			w.must(w.list("paris", "members", addresses(0, 20), nil))
			w.must(w.list("paris", "announce", addresses(18, 30), nil))
		}, "LISTS_FAR_APART 2 20"},
		"MuchLonger": {func(w *world) {
			w.must(w.list("paris", "members", addresses(0, 20), nil))
			w.must(w.list("paris", "announce", addresses(0, 101), nil))
		}, "LISTS_FAR_APART 20 20"},
		"FromOneNewDomain": {func(w *world) {
			w.must(w.list("paris", "members", addresses(0, 20), nil))
			w.inTx(func(tx pgx.Tx) error {
				change := &eventv1.ListChanged{
					List: "chapters/paris/lists/members", Kind: eventv1.ListKind_LIST_KIND_MEMBERSHIP, AddedFromNewDomain: 12,
				}
				for _, one := range addresses(100, 12) {
					change.Added = append(change.Added, w.token(one))
				}
				event := bus.Event{Data: change, Version: bus.Version{Epoch: 1, Number: w.epoch.Add(1)}}
				return w.service.listTopic(w.service.sites[0].no).Apply(t.Context(), tx, []bus.Event{event})
			})
		}, "ADDITIONS_FROM_NEW_DOMAIN 12 32"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.chapter("paris")
			c.before(w)
			_, err := w.adminOf("paris").CreateCharter(t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris"}})
			w.must(err)
			review, err := w.charter.GetCharterReview(t.Context(), &internationalv1.GetCharterReviewRequest{Name: "charters/paris"})
			w.must(err)
			var got []string
			for _, a := range review.GetAnomalies() {
				got = append(got, fmt.Sprint(a.GetKind(), " ", a.GetCount(), " ", a.GetOf()))
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("anomalies %v, want %q", review.GetAnomalies(), c.want)
			}
		})
	}
}
