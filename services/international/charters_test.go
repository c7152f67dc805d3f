package international

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// applicant is a chapter of five people, of whom members are the first, that has applied.
func (w *world) applicant(chapter string, members ...string) internationalv1.CharterServiceClient {
	w.t.Helper()
	w.chapter(chapter)
	for _, id := range members {
		w.member(id, id+"@example.org")
	}
	w.must(w.list(chapter, "members", []string{
		"a@example.org", "b@example.org", "c@example.org", "d@example.org", "e@example.org",
	}, nil))
	admin := internationalv1.NewCharterServiceClient(w.dial(authz.ChapterAdmin, "chapters/"+chapter))
	_, err := admin.CreateCharter(w.t.Context(), &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/" + chapter, Note: "please"}})
	w.must(err)
	return admin
}

func (w *world) approve(chapter, standingEtag string) (*internationalv1.Charter, error) {
	return w.charter.ApproveCharter(w.t.Context(), &internationalv1.ApproveCharterRequest{Name: "charters/" + chapter, StandingEtag: standingEtag, Note: "well done"})
}

func (w *world) state(chapter string) internationalv1.Charter_State {
	w.t.Helper()
	charter, err := w.charter.GetCharter(w.t.Context(), &internationalv1.GetCharterRequest{Name: "charters/" + chapter})
	w.must(err)
	return charter.GetState()
}

func TestApproveIsRefusedBelowTheLine(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b")
	_, err := w.approve("paris", w.standing("paris").GetEtag())
	refuses(t, err, errorv1.Reason_REASON_NOT_ELIGIBLE)
	info := rpc.InfoOf(err).GetMetadata()
	if info["convert"] != "1" || info["recruit"] != "3" || info["basis"] != "MEMBERSHIP" {
		t.Errorf("the gap in the metadata is %v", info)
	}
}

func TestApproveAbortsWhenTheStandingMoved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	read := w.standing("paris").GetEtag()
	w.member("d", "d@example.org")
	_, err := w.approve("paris", read)
	refuses(t, err, errorv1.Reason_REASON_STANDING_MOVED)
	if got, want := rpc.InfoOf(err).GetMetadata()["standingEtag"], w.standing("paris").GetEtag(); got != want {
		t.Errorf("the metadata names the standing %q, which is at %q", got, want)
	}
}

func TestCharterFollowsEligibility(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	charter, err := w.approve("paris", w.standing("paris").GetEtag())
	w.must(err)
	if charter.GetState() != internationalv1.Charter_CHARTERED || charter.GetDecision().GetStanding().GetMembership().GetInternational() != 3 {
		t.Fatalf("approved: %v", charter)
	}

	_, err = w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: "members/c"})
	w.must(err)
	charter, err = w.charter.GetCharter(t.Context(), &internationalv1.GetCharterRequest{Name: "charters/paris"})
	w.must(err)
	if charter.GetState() != internationalv1.Charter_AT_RISK || !charter.GetCureByTime().AsTime().Equal(noon.AddDate(0, 0, 90)) {
		t.Fatalf("after the loss: %v", charter)
	}

	_, err = w.members.RenewMember(t.Context(), &internationalv1.RenewMemberRequest{Name: "members/c", TermEndTime: timestamppb.New(noon.AddDate(1, 0, 0))})
	w.must(err)
	charter, err = w.charter.GetCharter(t.Context(), &internationalv1.GetCharterRequest{Name: "charters/paris"})
	w.must(err)
	if charter.GetState() != internationalv1.Charter_CHARTERED || charter.GetCureByTime() != nil {
		t.Fatalf("after the return: %v", charter)
	}

	history, err := w.charter.ListCharterHistory(t.Context(), &internationalv1.ListCharterHistoryRequest{Parent: "charters/paris"})
	w.must(err)
	want := []string{"apply", "approve", "eligibilityLost", "eligibilityRegained"}
	if len(history.GetHistory()) != len(want) {
		t.Fatalf("history: %v", history.GetHistory())
	}
	for i, entry := range history.GetHistory() {
		if entry.GetVerb() != want[i] || entry.GetStanding().GetMembership().GetTotal() != 5 || entry.GetPolicyRevision() != "1" {
			t.Errorf("history %d: %v, want %s", i+1, entry, want[i])
		}
	}
}

func TestReviewBelongsToOneReviewer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	claim := &internationalv1.ClaimCharterRequest{Name: "charters/paris"}
	claimed, err := w.charter.ClaimCharter(t.Context(), claim)
	w.must(err)
	again, err := w.charter.ClaimCharter(t.Context(), claim)
	w.must(err)
	if claimed.GetState() != internationalv1.Charter_IN_REVIEW || again.GetEtag() != claimed.GetEtag() {
		t.Fatalf("claimed %v, then %v", claimed, again)
	}

	other := internationalv1.NewCharterServiceClient(w.dial(authz.InternationalStaff, "*"))
	_, err = other.DeclineCharter(t.Context(), &internationalv1.DeclineCharterRequest{Name: "charters/paris", Note: "no"})
	refuses(t, err, errorv1.Reason_REASON_CLAIMED_BY_ANOTHER)

	_, err = w.charter.ReleaseCharter(t.Context(), &internationalv1.ReleaseCharterRequest{Name: "charters/paris"})
	w.must(err)
	_, err = other.DeclineCharter(t.Context(), &internationalv1.DeclineCharterRequest{Name: "charters/paris", Note: "no"})
	w.must(err)
	_, err = w.approve("paris", w.standing("paris").GetEtag())
	refuses(t, err, errorv1.Reason_REASON_CHARTER_STATE)
}

func TestNobodyDecidesOnTheirOwnChapter(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("paris", "a", "b", "c")
	both := w.dialAs(authz.Principal{Subject: "both", Grants: []authz.Grant{
		{Role: authz.InternationalStaff, Scope: "*"}, {Role: authz.ChapterAdmin, Scope: "chapters/paris"},
	}})
	_, err := internationalv1.NewCharterServiceClient(both).ClaimCharter(t.Context(), &internationalv1.ClaimCharterRequest{Name: "charters/paris"})
	refuses(t, err, errorv1.Reason_REASON_CONFLICT_OF_INTEREST)
}

func TestDeclinedChapterWaitsBeforeApplyingAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.applicant("paris", "a")
	_, err := w.charter.DeclineCharter(t.Context(), &internationalv1.DeclineCharterRequest{Name: "charters/paris", Note: "too few"})
	w.must(err)
	apply := &internationalv1.CreateCharterRequest{Charter: &internationalv1.Charter{Chapter: "chapters/paris"}}
	_, err = admin.CreateCharter(t.Context(), apply)
	refuses(t, err, errorv1.Reason_REASON_WAITING_TIME)

	w.clock.Advance(30 * 24 * time.Hour)
	admin = internationalv1.NewCharterServiceClient(w.dial(authz.ChapterAdmin, "chapters/paris"))
	_, err = admin.CreateCharter(t.Context(), apply)
	w.must(err)
	_, err = admin.CreateCharter(t.Context(), apply)
	refuses(t, err, errorv1.Reason_REASON_CHARTER_STATE)
	if got := w.state("paris"); got != internationalv1.Charter_APPLIED {
		t.Errorf("the charter is %s", got)
	}
}

func TestWithdrawEndsTheApplication(t *testing.T) {
	t.Parallel()
	w := setup(t)
	admin := w.applicant("paris", "a")
	_, err := w.charter.WithdrawCharter(t.Context(), &internationalv1.WithdrawCharterRequest{Name: "charters/paris"})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = admin.WithdrawCharter(t.Context(), &internationalv1.WithdrawCharterRequest{Name: "charters/paris"})
	w.must(err)
	if got := w.state("paris"); got != internationalv1.Charter_WITHDRAWN {
		t.Errorf("the charter is %s", got)
	}
}

func TestListChartersPagesAndFilters(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.applicant("a-chapter", "a", "b", "c")
	w.applicant("b-chapter")
	w.applicant("c-chapter")
	_, err := w.approve("a-chapter", w.standing("a-chapter").GetEtag())
	w.must(err)

	request := &internationalv1.ListChartersRequest{PageSize: 2}
	var names []string
	for {
		answer, err := w.charter.ListCharters(t.Context(), request)
		w.must(err)
		for _, charter := range answer.GetCharters() {
			names = append(names, charter.GetName())
		}
		if request.PageToken = answer.GetNextPageToken(); request.GetPageToken() == "" {
			break
		}
	}
	if len(names) != 3 || names[0] != "charters/a-chapter" || names[2] != "charters/c-chapter" {
		t.Errorf("listed %v", names)
	}
	answer, err := w.charter.ListCharters(t.Context(), &internationalv1.ListChartersRequest{State: internationalv1.Charter_CHARTERED})
	w.must(err)
	if len(answer.GetCharters()) != 1 {
		t.Errorf("chartered: %v", answer.GetCharters())
	}
	_, err = w.charter.ListCharters(t.Context(), &internationalv1.ListChartersRequest{PageToken: "forged"})
	refuses(t, err, errorv1.Reason_REASON_PAGE_TOKEN_INVALID)
}

func TestCharterPolicyIsTheCaseStudys(t *testing.T) {
	t.Parallel()
	w := setup(t)
	policy, err := w.charter.GetCharterPolicy(t.Context(), &internationalv1.GetCharterPolicyRequest{})
	w.must(err)
	if policy.GetThresholdPercent() != 60 || len(policy.GetAllowedBases()) != 2 || policy.GetGraceDays() != 90 || policy.GetRevision() != "1" {
		t.Errorf("the policy is %v", policy)
	}
}
