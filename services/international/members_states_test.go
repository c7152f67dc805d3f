package international

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

func (w *world) suspend(member string) *internationalv1.Member {
	w.t.Helper()
	row, err := w.members.SuspendMember(w.t.Context(), &internationalv1.SuspendMemberRequest{Name: member, Reason: "a complaint about Zaphod"})
	w.must(err)
	return row
}

func (w *world) reinstate(member string) *internationalv1.Member {
	w.t.Helper()
	row, err := w.members.ReinstateMember(w.t.Context(), &internationalv1.ReinstateMemberRequest{Name: member})
	w.must(err)
	return row
}

func (w *world) renew(member string, days int) *internationalv1.Member {
	w.t.Helper()
	row, err := w.members.RenewMember(w.t.Context(), &internationalv1.RenewMemberRequest{
		Name: member, TermEndTime: timestamppb.New(w.clock.Now().AddDate(0, 0, days)),
	})
	w.must(err)
	return row
}

// memberHistory is a member's verbs and the states that they led to.
func (w *world) memberHistory(member string) string {
	w.t.Helper()
	answer, err := w.members.ListMemberHistory(w.t.Context(), &internationalv1.ListMemberHistoryRequest{Parent: member})
	w.must(err)
	var told []string
	for _, change := range answer.GetChanges() {
		told = append(told, change.GetVerb()+":"+change.GetState().String())
	}
	return strings.Join(told, " ")
}

func (w *world) expectState(member string, want internationalv1.Member_State) *internationalv1.Member {
	w.t.Helper()
	row, err := w.members.GetMember(w.t.Context(), &internationalv1.GetMemberRequest{Name: member})
	w.must(err)
	if row.GetState() != want {
		w.t.Fatalf("%s is %s, want %s", member, row.GetState(), want)
	}
	return row
}

func TestSuspendedMembersDoNotCount(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.chapter("lyon")
	ada := w.member("ada", "ada@example.org").GetName()
	w.member("bob", "bob@example.org")
	w.must(w.list("paris", "members", []string{"ada@example.org", "bob@example.org"}, nil))
	w.must(w.list("lyon", "members", []string{"bob@example.org"}, nil))
	lyon := w.standing("lyon").GetEtag()

	if got := w.suspend(ada); got.GetState() != internationalv1.Member_SUSPENDED || got.GetSuspendReason() == "" || got.GetActiveUntilTime() != nil {
		t.Errorf("suspended: %v", got)
	}
	w.figures("paris", people{2, 1}, people{})
	for verb, call := range map[string]func() error{
		"renew": func() error {
			_, err := w.members.RenewMember(t.Context(), &internationalv1.RenewMemberRequest{Name: ada, TermEndTime: timestamppb.New(noon.AddDate(3, 0, 0))})
			return err
		},
		"resign": func() error {
			_, err := w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: ada})
			return err
		},
		"suspend": func() error {
			_, err := w.members.SuspendMember(t.Context(), &internationalv1.SuspendMemberRequest{Name: ada, Reason: "again"})
			return err
		},
	} {
		t.Run(verb, func(t *testing.T) { refuses(t, call(), errorv1.Reason_REASON_MEMBER_STATE) })
	}
	w.clock.Set(noon.AddDate(0, 6, 0))
	if got := w.reinstate(ada); got.GetState() != internationalv1.Member_ACTIVE || !got.GetTermEndTime().AsTime().Equal(noon.AddDate(1, 0, 0)) {
		t.Errorf("reinstated: %v, want what was left of the term", got)
	}
	w.figures("paris", people{2, 2}, people{})
	_, err := w.members.ReinstateMember(t.Context(), &internationalv1.ReinstateMemberRequest{Name: ada})
	refuses(t, err, errorv1.Reason_REASON_MEMBER_STATE)
	if got, want := w.memberHistory(ada), "ENTERED:ACTIVE SUSPENDED:SUSPENDED REINSTATED:ACTIVE"; got != want {
		t.Errorf("the history is %s, want %s", got, want)
	}
	if got := w.standing("lyon").GetEtag(); got != lyon {
		t.Errorf("lyon, which does not hold her, moved from %s to %s", lyon, got)
	}
}

func TestTermsRunOutBeneathASuspension(t *testing.T) {
	t.Parallel()
	for name, lapses := range map[string]bool{"TheJobWasThere": true, "TheJobComesLater": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.chapter("paris")
			ada := w.member("ada", "ada@example.org").GetName()
			w.must(w.list("paris", "members", []string{"ada@example.org"}, nil))
			w.suspend(ada)
			w.clock.Set(noon.AddDate(1, 0, 0))
			if lapses {
				if n, err := w.service.lapse(t.Context()); n != 1 || err != nil {
					t.Fatalf("%d lapsed: %v", n, err)
				}
			}
			w.expectState(ada, internationalv1.Member_SUSPENDED)
			if got := w.reinstate(ada); got.GetState() != internationalv1.Member_LAPSED {
				t.Errorf("reinstated after the end: %v", got)
			}
			w.figures("paris", people{1, 0}, people{})
			if n, err := w.service.lapse(t.Context()); n != 0 || err != nil {
				t.Errorf("%d lapsed twice: %v", n, err)
			}
			w.renew(ada, 30)
			w.figures("paris", people{1, 1}, people{})
			if got, want := w.memberHistory(ada), "ENTERED:ACTIVE SUSPENDED:SUSPENDED LAPSED:SUSPENDED REINSTATED:LAPSED RENEWED:ACTIVE"; got != want {
				t.Errorf("the history is %s, want %s", got, want)
			}
		})
	}
}

func TestTermsOfAMember(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada", "ada@example.org").GetName()
	w.renew(ada, 400)
	w.clock.Set(noon.AddDate(0, 0, 400))
	_, err := w.service.lapse(t.Context())
	w.must(err)
	w.clock.Set(noon.AddDate(0, 0, 500))
	w.renew(ada, 100)
	_, err = w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: ada})
	w.must(err)
	w.renew(ada, 50)

	first, err := w.members.ListTerms(t.Context(), &internationalv1.ListTermsRequest{Parent: ada, PageSize: 2})
	w.must(err)
	second, err := w.members.ListTerms(t.Context(), &internationalv1.ListTermsRequest{Parent: ada, PageSize: 2, PageToken: first.GetNextPageToken()})
	w.must(err)
	var told []string
	for _, term := range append(first.GetTerms(), second.GetTerms()...) {
		days := func(at *timestamppb.Timestamp) int { return int(at.AsTime().Sub(noon).Hours() / 24) }
		told = append(told, strings.Join([]string{term.GetState().String(), itoa(days(term.GetStartTime())), itoa(days(term.GetEndTime()))}, " "))
	}
	if got, want := strings.Join(told, ", "), "LAPSED 0 400, RESIGNED 500 500, RUNNING 500 550"; got != want {
		t.Errorf("the terms are %s, want %s", got, want)
	}
}

func TestHistorySaysWhoAndNotTheirName(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada").GetName()
	self := internationalv1.NewMemberServiceClient(w.dial(authz.Member, ada))
	_, err := self.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: ada, Address: &internationalv1.Address{Address: "ada@example.org"}})
	w.must(err)
	answer, err := self.ListMemberHistory(t.Context(), &internationalv1.ListMemberHistoryRequest{Parent: ada})
	w.must(err)
	if n := len(answer.GetChanges()); n != 2 {
		t.Fatalf("%d changes: %v", n, answer)
	}
	byStaff, byHer := answer.GetChanges()[0], answer.GetChanges()[1]
	if byStaff.GetSubject() != "international_staff " || byHer.GetSubject() != thePerson {
		t.Errorf("entered by %q, added by %q", byStaff.GetSubject(), byHer.GetSubject())
	}
	if byHer.GetVerb() != addressAdded || byHer.GetAddressCount() != 1 || byHer.GetVerifiedCount() != 0 {
		t.Errorf("the change is %v", byHer)
	}
}
