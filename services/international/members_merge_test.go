package international

import (
	"testing"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func (w *world) merge(into, from string) *internationalv1.Member {
	w.t.Helper()
	row, err := w.members.MergeMember(w.t.Context(), &internationalv1.MergeMemberRequest{Name: into, From: from})
	w.must(err)
	return row
}

func TestMergeMakesTwoPeopleOne(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.chapter("lyon")
	w.must(w.list("paris", "members", []string{"ada@example.org", "ada@example.net", "bob@example.org"}, nil))
	w.must(w.list("lyon", "members", []string{"ada@example.net"}, nil))
	ada, other := w.withoutTerm("ada", "ada@example.org"), w.member("other", "ada@example.net").GetName()
	acme := w.organization("acme", 2, 100)
	w.seat(acme, ada)
	w.seat(acme, other)
	w.figures("paris", people{3, 2}, people{})

	rehearsed, err := w.members.MergeMember(t.Context(), &internationalv1.MergeMemberRequest{Name: ada, From: other, ValidateOnly: true})
	w.must(err)
	w.figures("paris", people{3, 2}, people{})
	merged := w.merge(ada, other)
	if len(rehearsed.GetAddresses()) != 2 || len(merged.GetAddresses()) != 2 || !merged.GetTermEndTime().AsTime().Equal(noon.AddDate(1, 0, 0)) {
		t.Errorf("rehearsed %v, merged %v", rehearsed, merged)
	}
	w.figures("paris", people{2, 1}, people{})
	w.figures("lyon", people{1, 1}, people{})
	if got, err := w.bodies.GetOrganization(t.Context(), &internationalv1.GetOrganizationRequest{Name: acme}); err != nil || got.GetTakenCount() != 1 {
		t.Errorf("the seats are %v, %v", got, err)
	}
	if gone := w.expectState(other, internationalv1.Member_MERGED); gone.GetMergedInto() != ada || gone.GetDisplayName() != "" {
		t.Errorf("the old name answers %v", gone)
	}
	_, err = w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: other})
	refuses(t, err, errorv1.Reason_REASON_MEMBER_STATE)
	if to := rpc.InfoOf(err).GetMetadata()["mergedInto"]; to != ada {
		t.Errorf("the refusal leads to %q", to)
	}
	_, err = w.members.MergeMember(t.Context(), &internationalv1.MergeMemberRequest{Name: ada, From: other})
	refuses(t, err, errorv1.Reason_REASON_MERGE_INVALID)
	_, err = w.members.MergeMember(t.Context(), &internationalv1.MergeMemberRequest{Name: ada, From: ada})
	refuses(t, err, errorv1.Reason_REASON_MERGE_INVALID)
	all, err := w.members.ListMembers(t.Context(), &internationalv1.ListMembersRequest{})
	w.must(err)
	if n := len(all.GetMembers()); n != 1 {
		t.Errorf("the register lists %d members", n)
	}
	third := w.member("third", "ada@example.com").GetName()
	w.merge(third, ada)
	if gone := w.expectState(other, internationalv1.Member_MERGED); gone.GetMergedInto() != third {
		t.Errorf("the oldest name leads to %s", gone.GetMergedInto())
	}
}

func TestMergeKeepsTheLongerTermAndEverySuspension(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org", "ada@example.net"}, nil))
	ada, other := w.member("ada", "ada@example.org").GetName(), w.member("other", "ada@example.net").GetName()
	w.renew(other, 800)
	w.suspend(other)
	merged := w.merge(ada, other)
	if merged.GetState() != internationalv1.Member_SUSPENDED || !merged.GetTermEndTime().AsTime().Equal(noon.AddDate(0, 0, 800)) {
		t.Errorf("merged: %v", merged)
	}
	w.figures("paris", people{1, 0}, people{})
	w.reinstate(ada)
	w.figures("paris", people{1, 1}, people{})
	terms, err := w.members.ListTerms(t.Context(), &internationalv1.ListTermsRequest{Parent: ada})
	w.must(err)
	running := 0
	for _, term := range terms.GetTerms() {
		if term.GetState() == internationalv1.Term_RUNNING {
			running++
		}
	}
	if len(terms.GetTerms()) != 2 || running != 1 {
		t.Errorf("the terms are %v", terms)
	}
}

func TestMergeKeepsAnAddressOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada, other := w.withoutTerm("ada"), w.member("other", "ada@example.org").GetName()
	for _, one := range []string{"ada@example.org", "both@example.org"} {
		_, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: ada, Address: &internationalv1.Address{Address: one}})
		w.must(err)
	}
	_, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: other, Address: &internationalv1.Address{Address: "both@example.org"}})
	w.must(err)
	verified := map[string]bool{}
	for _, one := range w.merge(ada, other).GetAddresses() {
		verified[one.GetAddress()] = one.GetVerified()
	}
	if len(verified) != 2 || !verified["ada@example.org"] || verified["both@example.org"] {
		t.Errorf("the addresses are %v", verified)
	}
}
