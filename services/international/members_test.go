package international

import (
	"testing"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func TestVerifiedAddressBelongsToOneMember(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.member("ada", "ada@example.org")
	_, err := w.members.CreateMember(t.Context(), &internationalv1.CreateMemberRequest{Member: &internationalv1.Member{
		DisplayName: "Eve", Addresses: []*internationalv1.Address{{Address: "ADA@example.org", Verified: true}},
	}})
	refuses(t, err, errorv1.Reason_REASON_ADDRESS_TAKEN)

	eve := w.member("eve")
	claimed, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{
		Parent: eve.GetName(), Address: &internationalv1.Address{Address: "ada@example.org"},
	})
	w.must(err)
	_, err = w.members.VerifyAddress(t.Context(), &internationalv1.VerifyAddressRequest{Name: claimed.GetName()})
	refuses(t, err, errorv1.Reason_REASON_ADDRESS_TAKEN)
	_, err = w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{
		Parent: eve.GetName(), Address: &internationalv1.Address{Address: "ada@example.org"},
	})
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
}

func TestOnlyStaffSayThatAnAddressIsVerified(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada")
	self := internationalv1.NewMemberServiceClient(w.dial(authz.Member, ada.GetName()))
	_, err := self.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{
		Parent: ada.GetName(), Address: &internationalv1.Address{Address: "ada@example.org", Verified: true},
	})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	added, err := self.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{
		Parent: ada.GetName(), Address: &internationalv1.Address{Address: "ada@example.org"},
	})
	w.must(err)
	_, err = self.VerifyAddress(t.Context(), &internationalv1.VerifyAddressRequest{Name: added.GetName()})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = self.GetMember(t.Context(), &internationalv1.GetMemberRequest{Name: "members/somebody-else"})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
}

func TestRefusedAddressNamesTheFieldAndTheRule(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.members.CreateMember(t.Context(), &internationalv1.CreateMemberRequest{Member: &internationalv1.Member{
		DisplayName: "Ada", Addresses: []*internationalv1.Address{{Address: "ada@example.org"}, {Address: "x@exa_mple.com"}},
	}})
	refuses(t, err, errorv1.Reason_REASON_ADDRESS_INVALID)
	if rule := rpc.InfoOf(err).GetMetadata()["rule"]; rule != "EMAIL_DOMAIN" {
		t.Errorf("the rule is %q", rule)
	}
	if _, named := rpc.ViolationsOf(err)["member.addresses[1].address"]; !named {
		t.Errorf("the violations are %v", rpc.ViolationsOf(err))
	}
}

func TestTermsStartAreProlongedAndEnd(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada", "ada@example.org")
	renew := func(years int, etag string) (*internationalv1.Member, error) {
		return w.members.RenewMember(t.Context(), &internationalv1.RenewMemberRequest{
			Name: ada.GetName(), TermEndTime: timestamppb.New(noon.AddDate(years, 0, 0)), Etag: etag,
		})
	}
	_, err := renew(0, "")
	refuses(t, err, errorv1.Reason_REASON_TERM_END_INVALID)
	longer, err := renew(3, ada.GetEtag())
	w.must(err)
	if !longer.GetTermStartTime().AsTime().Equal(noon) || !longer.GetTermEndTime().AsTime().Equal(noon.AddDate(3, 0, 0)) {
		t.Errorf("prolonged: %v", longer)
	}
	_, err = renew(2, "")
	refuses(t, err, errorv1.Reason_REASON_TERM_END_INVALID)
	_, err = renew(4, ada.GetEtag())
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)

	gone, err := w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: ada.GetName()})
	w.must(err)
	if gone.GetState() != internationalv1.Member_RESIGNED || !gone.GetTermEndTime().AsTime().Equal(noon) {
		t.Errorf("resigned: %v", gone)
	}
	_, err = w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: ada.GetName()})
	refuses(t, err, errorv1.Reason_REASON_MEMBER_STATE)
	back, err := renew(1, "")
	w.must(err)
	if back.GetState() != internationalv1.Member_ACTIVE {
		t.Errorf("renewed: %v", back)
	}
}

func TestCreateMemberRehearsesAndRepeats(t *testing.T) {
	t.Parallel()
	w := setup(t)
	request := &internationalv1.CreateMemberRequest{MemberId: "ada", Member: &internationalv1.Member{DisplayName: "Ada"}, ValidateOnly: true}
	_, err := w.members.CreateMember(t.Context(), request)
	w.must(err)
	_, err = w.members.GetMember(t.Context(), &internationalv1.GetMemberRequest{Name: "members/ada"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)

	request.ValidateOnly, request.RequestId = false, "first"
	made, err := w.members.CreateMember(t.Context(), request)
	w.must(err)
	again, err := w.members.CreateMember(t.Context(), request)
	w.must(err)
	if made.GetCreateTime().AsTime() != again.GetCreateTime().AsTime() {
		t.Errorf("made %v, then %v", made, again)
	}
	request.Member.DisplayName = "Eve"
	_, err = w.members.CreateMember(t.Context(), request)
	refuses(t, err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_REUSED)
	request.RequestId = "second"
	_, err = w.members.CreateMember(t.Context(), request)
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
}

func TestUpdateMemberChangesWhatTheMaskNames(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada")
	renamed, err := w.members.UpdateMember(t.Context(), &internationalv1.UpdateMemberRequest{
		Member: &internationalv1.Member{Name: ada.GetName(), DisplayName: "Ada Rao"},
	})
	w.must(err)
	if renamed.GetDisplayName() != "Ada Rao" || renamed.GetEtag() == ada.GetEtag() {
		t.Errorf("renamed: %v", renamed)
	}
	_, err = w.members.UpdateMember(t.Context(), &internationalv1.UpdateMemberRequest{
		Member: &internationalv1.Member{Name: ada.GetName()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
	})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	_, err = w.members.UpdateMember(t.Context(), &internationalv1.UpdateMemberRequest{
		Member: &internationalv1.Member{Name: ada.GetName()}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"state"}},
	})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
}

func TestListMembersPages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, id := range []string{"a", "b", "c"} {
		w.member(id, id+"@example.org")
	}
	first, err := w.members.ListMembers(t.Context(), &internationalv1.ListMembersRequest{PageSize: 2})
	w.must(err)
	second, err := w.members.ListMembers(t.Context(), &internationalv1.ListMembersRequest{PageSize: 2, PageToken: first.GetNextPageToken()})
	w.must(err)
	if len(first.GetMembers()) != 2 || len(second.GetMembers()) != 1 || second.GetNextPageToken() != "" || len(first.GetMembers()[0].GetAddresses()) != 1 {
		t.Errorf("pages of %d and %d", len(first.GetMembers()), len(second.GetMembers()))
	}
	_, err = w.members.ListMembers(t.Context(), &internationalv1.ListMembersRequest{
		PageSize: 2, PageToken: first.GetNextPageToken(), State: internationalv1.Member_LAPSED,
	})
	refuses(t, err, errorv1.Reason_REASON_PAGE_TOKEN_INVALID)
}
