package international

import (
	"strings"
	"testing"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

func TestAddressesAreVerifiedByTheirLink(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org"}, nil))
	ada := w.member("ada").GetName()
	self := internationalv1.NewMemberServiceClient(w.dial(authz.Member, ada))
	added, err := self.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: ada, Address: &internationalv1.Address{Address: "ada@example.org"}})
	w.must(err)
	link := w.linkTo("ada@example.org")

	seen, err := w.links.GetMemberLink(t.Context(), &internationalv1.GetMemberLinkRequest{Name: link})
	w.must(err)
	if seen.GetMaskedAddress() != "a…@example.org" || seen.GetConfirmed() || !seen.GetExpireTime().AsTime().Equal(noon.Add(confirmTime)) {
		t.Errorf("the link shows %v", seen)
	}
	w.figures("paris", people{1, 0}, people{})
	for range 2 {
		done, err := w.links.ConfirmMemberLink(t.Context(), &internationalv1.ConfirmMemberLinkRequest{Name: link})
		w.must(err)
		if !done.GetConfirmed() {
			t.Errorf("confirmed: %v", done)
		}
	}
	w.figures("paris", people{1, 1}, people{})
	row := w.expectState(ada, internationalv1.Member_ACTIVE).GetAddresses()[0]
	if row.GetVerifyMethod() != internationalv1.Address_LINK || row.GetVerifiedBy() != thePerson {
		t.Errorf("the address is %v", row)
	}
	_, err = self.SendVerification(t.Context(), &internationalv1.SendVerificationRequest{Name: added.GetName()})
	w.must(err)
	if n := len(w.mails()); n != 1 {
		t.Errorf("%d mails went out, the last one for a verified address", n)
	}
	_, err = self.DeleteAddress(t.Context(), &internationalv1.DeleteAddressRequest{Name: added.GetName()})
	w.must(err)
	_, err = w.links.ConfirmMemberLink(t.Context(), &internationalv1.ConfirmMemberLinkRequest{Name: link})
	refuses(t, err, errorv1.Reason_REASON_MEMBER_LINK_INVALID)
	w.figures("paris", people{1, 0}, people{})
}

func TestLinksAreMailedOnceAnHourAndExpire(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada").GetName()
	added, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: ada, Address: &internationalv1.Address{Address: "ada@example.org"}})
	w.must(err)
	first := w.linkTo("ada@example.org")
	ask := func() int {
		_, err := w.members.SendVerification(t.Context(), &internationalv1.SendVerificationRequest{Name: added.GetName()})
		w.must(err)
		return len(w.mails())
	}
	w.clock.Advance(mailEvery - time.Second)
	if n := ask(); n != 1 {
		t.Errorf("%d mails within the hour", n)
	}
	w.clock.Advance(2 * time.Second)
	if n := ask(); n != 2 {
		t.Errorf("%d mails after the hour", n)
	}
	w.clock.Set(noon.Add(confirmTime))
	_, err = w.links.GetMemberLink(t.Context(), &internationalv1.GetMemberLinkRequest{Name: first})
	refuses(t, err, errorv1.Reason_REASON_MEMBER_LINK_INVALID)
	_, err = w.links.ConfirmMemberLink(t.Context(), &internationalv1.ConfirmMemberLinkRequest{Name: first[:len(first)-1] + "A"})
	refuses(t, err, errorv1.Reason_REASON_MEMBER_LINK_INVALID)
	_, err = w.links.ConfirmMemberLink(t.Context(), &internationalv1.ConfirmMemberLinkRequest{Name: w.linkTo("ada@example.org")})
	w.must(err)
}

func TestALinkDoesNotTakeWhatAnotherMemberHas(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.member("ada", "ada@example.org")
	eve := w.member("eve").GetName()
	_, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: eve, Address: &internationalv1.Address{Address: "ada@example.org"}})
	w.must(err)
	_, err = w.links.ConfirmMemberLink(t.Context(), &internationalv1.ConfirmMemberLinkRequest{Name: w.linkTo("ada@example.org")})
	refuses(t, err, errorv1.Reason_REASON_ADDRESS_TAKEN)
}

func TestWithoutMailStaffAttest(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.PublicURL = "" })
	w.service.config.PublicURL = ""
	ada := w.member("ada").GetName()
	added, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: ada, Address: &internationalv1.Address{Address: "ada@example.org"}})
	w.must(err)
	_, err = w.members.SendVerification(t.Context(), &internationalv1.SendVerificationRequest{Name: added.GetName()})
	refuses(t, err, errorv1.Reason_REASON_MAIL_UNAVAILABLE)
	got, err := w.members.VerifyAddress(t.Context(), &internationalv1.VerifyAddressRequest{Name: added.GetName()})
	w.must(err)
	if got.GetVerifyMethod() != internationalv1.Address_STAFF || !strings.HasPrefix(got.GetVerifiedBy(), "international_staff") {
		t.Errorf("attested: %v", got)
	}
}

func TestMailThatDiedInFlightIsUncertain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ada := w.member("ada").GetName()
	_, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{Parent: ada, Address: &internationalv1.Address{Address: "ada@example.org"}})
	w.must(err)
	w.exec("UPDATE register_mails SET state = 'SENDING', take_time = $1", noon)
	w.clock.Advance(2*mailLimit + time.Second)
	if n := len(w.mails()); n != 0 {
		t.Errorf("%d mails went out again", n)
	}
	var state string
	w.must(w.pool.QueryRow(t.Context(), "SELECT state FROM register_mails").Scan(&state))
	if state != mailUncertain {
		t.Errorf("the mail is %s", state)
	}
}
