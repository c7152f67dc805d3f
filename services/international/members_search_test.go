package international

import (
	"strings"
	"testing"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

func TestSearchFindsByNameAndByAddress(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for id, name := range map[string]string{"a": "Ada Rao", "b": "Adam Rauch", "c": "Анастасия Михайлова", "d": "O'Hara, Zoë"} {
		_, err := w.members.CreateMember(t.Context(), &internationalv1.CreateMemberRequest{MemberId: id, Member: &internationalv1.Member{
			DisplayName: name, Addresses: []*internationalv1.Address{{Address: id + "@example.org", Verified: id == "a"}},
		}})
		w.must(err)
	}
	for _, c := range []struct{ name, address, want string }{
		{name: "ada", want: "a b"},
		{name: "ra ADA", want: "a b"},
		{name: "rao", want: "a"},
		{name: "анаст", want: "c"},
		{name: "o'hara", want: "d"},
		{name: "zoë", want: "d"},
		{name: "nobody"},
		{name: "a & !b | c:*", want: ""},
		{address: "A@EXAMPLE.org", want: "a"},
		{address: "b@example.org", want: "b"},
		{address: "x@example.org"},
	} {
		t.Run(c.name+c.address, func(t *testing.T) {
			answer, err := w.members.SearchMembers(t.Context(), &internationalv1.SearchMembersRequest{DisplayName: c.name, Address: c.address})
			w.must(err)
			found := map[string]bool{}
			for _, member := range answer.GetMembers() {
				found[strings.TrimPrefix(member.GetName(), "members/")] = true
			}
			for _, id := range strings.Fields(c.want) {
				if !found[id] {
					t.Errorf("%s was not found", id)
				}
			}
			if len(found) != len(strings.Fields(c.want)) {
				t.Errorf("found %v, want %s", found, c.want)
			}
		})
	}
	for _, wrong := range []*internationalv1.SearchMembersRequest{{}, {DisplayName: "ada", Address: "a@example.org"}, {DisplayName: "&|!"}} {
		_, err := w.members.SearchMembers(t.Context(), wrong)
		refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	}
	_, err := w.members.SearchMembers(t.Context(), &internationalv1.SearchMembersRequest{Address: "nonsense"})
	refuses(t, err, errorv1.Reason_REASON_ADDRESS_INVALID)
	self := internationalv1.NewMemberServiceClient(w.dial(authz.Member, "members/a"))
	_, err = self.SearchMembers(t.Context(), &internationalv1.SearchMembersRequest{DisplayName: "ada"})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	first, err := w.members.SearchMembers(t.Context(), &internationalv1.SearchMembersRequest{DisplayName: "ad", PageSize: 1})
	w.must(err)
	second, err := w.members.SearchMembers(t.Context(), &internationalv1.SearchMembersRequest{DisplayName: "ad", PageSize: 1, PageToken: first.GetNextPageToken()})
	w.must(err)
	if len(first.GetMembers()) != 1 || len(second.GetMembers()) != 1 || second.GetNextPageToken() != "" {
		t.Errorf("pages of %v and %v", first, second)
	}
}
