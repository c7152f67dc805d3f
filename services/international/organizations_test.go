package international

import (
	"strconv"
	"testing"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

func itoa(n int) string { return strconv.Itoa(n) }

// organization enters an organisation for so many days.
func (w *world) organization(id string, seats int32, days int) string {
	w.t.Helper()
	made, err := w.bodies.CreateOrganization(w.t.Context(), &internationalv1.CreateOrganizationRequest{
		OrganizationId: id, Organization: &internationalv1.Organization{
			DisplayName: id, SeatCount: seats, TermEndTime: timestamppb.New(w.clock.Now().AddDate(0, 0, days)),
		},
	})
	w.must(err)
	return made.GetName()
}

func (w *world) seat(organization, member string) *internationalv1.Seat {
	w.t.Helper()
	seat, err := w.bodies.CreateSeat(w.t.Context(), &internationalv1.CreateSeatRequest{Parent: organization, Seat: &internationalv1.Seat{Member: member}})
	w.must(err)
	return seat
}

func (w *world) release(seat *internationalv1.Seat) {
	w.t.Helper()
	_, err := w.bodies.DeleteSeat(w.t.Context(), &internationalv1.DeleteSeatRequest{Name: seat.GetName()})
	w.must(err)
}

// lapsed enters a member without a term.
func (w *world) withoutTerm(id string, addresses ...string) string {
	w.t.Helper()
	member := &internationalv1.Member{DisplayName: id}
	for _, one := range addresses {
		member.Addresses = append(member.Addresses, &internationalv1.Address{Address: one, Verified: true})
	}
	made, err := w.members.CreateMember(w.t.Context(), &internationalv1.CreateMemberRequest{MemberId: id, Member: member})
	w.must(err)
	return made.GetName()
}

func TestSeatsMakeMembersOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org", "bob@example.org", "cyd@example.org"}, nil))
	ada, bob := w.withoutTerm("ada", "ada@example.org"), w.member("bob", "bob@example.org").GetName()
	w.figures("paris", people{3, 1}, people{})
	acme, globex := w.organization("acme", 2, 100), w.organization("globex", 5, 200)

	first := w.seat(acme, ada)
	w.figures("paris", people{3, 2}, people{})
	if w.standingMoves("paris", func() {
		w.seat(globex, ada)
		w.seat(acme, bob)
	}) {
		t.Error("a second seat, and one beside a term, move nothing, and the etag changed")
	}
	if until := w.expectState(ada, internationalv1.Member_ACTIVE).GetActiveUntilTime().AsTime(); !until.Equal(noon.AddDate(0, 0, 200)) {
		t.Errorf("she is a member until %s, want the end of her last seat", until)
	}
	_, err := w.bodies.CreateSeat(t.Context(), &internationalv1.CreateSeatRequest{Parent: acme, Seat: &internationalv1.Seat{Member: w.withoutTerm("cyd", "cyd@example.org")}})
	refuses(t, err, errorv1.Reason_REASON_NO_SEAT_FREE)
	_, err = w.bodies.CreateSeat(t.Context(), &internationalv1.CreateSeatRequest{Parent: globex, Seat: &internationalv1.Seat{Member: ada}})
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)

	if w.standingMoves("paris", func() { w.release(first) }) {
		t.Error("she has another seat, and the etag changed")
	}
	_, err = w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: bob})
	w.must(err)
	w.expectState(bob, internationalv1.Member_ACTIVE)
	w.figures("paris", people{3, 2}, people{})
}

func TestOrganizationsLapseEndAndReturn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org", "bob@example.org"}, nil))
	ada, bob := w.withoutTerm("ada", "ada@example.org"), w.member("bob", "bob@example.org").GetName()
	acme := w.organization("acme", 2, 100)
	w.seat(acme, ada)
	w.seat(acme, bob)
	w.figures("paris", people{2, 2}, people{})

	w.clock.Set(noon.AddDate(0, 0, 100))
	if n, err := w.service.lapse(t.Context()); n != 1 || err != nil {
		t.Fatalf("%d lapsed: %v", n, err)
	}
	w.figures("paris", people{2, 1}, people{}) // bob has a term of his own
	w.expectState(ada, internationalv1.Member_LAPSED)
	_, err := w.bodies.EndOrganization(t.Context(), &internationalv1.EndOrganizationRequest{Name: acme})
	refuses(t, err, errorv1.Reason_REASON_ORGANIZATION_STATE)

	back, err := w.bodies.RenewOrganization(t.Context(), &internationalv1.RenewOrganizationRequest{Name: acme, TermEndTime: timestamppb.New(noon.AddDate(1, 0, 0))})
	w.must(err)
	if back.GetState() != internationalv1.Organization_ACTIVE || back.GetTakenCount() != 2 || !back.GetTermStartTime().AsTime().Equal(w.clock.Now()) {
		t.Errorf("renewed: %v", back)
	}
	w.figures("paris", people{2, 2}, people{})
	over, err := w.bodies.EndOrganization(t.Context(), &internationalv1.EndOrganizationRequest{Name: acme, Etag: back.GetEtag()})
	w.must(err)
	if over.GetState() != internationalv1.Organization_ENDED {
		t.Errorf("ended: %v", over)
	}
	w.figures("paris", people{2, 1}, people{})
	if got, want := w.memberHistory(ada), "ENTERED:LAPSED SEAT_TAKEN:ACTIVE SEAT_ENDED:LAPSED SEAT_RENEWED:ACTIVE SEAT_ENDED:LAPSED"; got != want {
		t.Errorf("the history is %s, want %s", got, want)
	}
}

func TestSeatsThatAreTakenCannotBeCutAway(t *testing.T) {
	t.Parallel()
	w := setup(t)
	acme := w.organization("acme", 3, 100)
	w.seat(acme, w.withoutTerm("ada"))
	bob := w.seat(acme, w.withoutTerm("bob"))
	cut := func(seats int32) error {
		_, err := w.bodies.UpdateOrganization(t.Context(), &internationalv1.UpdateOrganizationRequest{
			Organization: &internationalv1.Organization{Name: acme, SeatCount: seats}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"seat_count"}},
		})
		return err
	}
	w.must(cut(2))
	refuses(t, cut(1), errorv1.Reason_REASON_SEATS_TAKEN)
	w.release(bob)
	w.must(cut(1))
	w.expectState("members/bob", internationalv1.Member_LAPSED)
}

func TestSuspendedMembersKeepTheirSeats(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org"}, nil))
	ada := w.withoutTerm("ada", "ada@example.org")
	w.suspend(ada)
	seat := w.seat(w.organization("acme", 1, 100), ada)
	w.figures("paris", people{1, 0}, people{})
	w.reinstate(ada)
	w.figures("paris", people{1, 1}, people{})
	w.suspend(ada)
	w.release(seat)
	if got := w.reinstate(ada); got.GetState() != internationalv1.Member_LAPSED {
		t.Errorf("reinstated without the seat: %v", got)
	}
	w.figures("paris", people{1, 0}, people{})
}

func TestCoordinatorsKeepTheSeatsOfTheirOwn(t *testing.T) {
	t.Parallel()
	w := setup(t)
	acme, globex := w.organization("acme", 2, 100), w.organization("globex", 2, 100)
	ada := w.withoutTerm("ada")
	hers := internationalv1.NewOrganizationServiceClient(w.dial(authz.OrganizationCoordinator, acme))
	seat, err := hers.CreateSeat(t.Context(), &internationalv1.CreateSeatRequest{Parent: acme, Seat: &internationalv1.Seat{Member: ada}})
	w.must(err)
	seats, err := hers.ListSeats(t.Context(), &internationalv1.ListSeatsRequest{Parent: acme})
	w.must(err)
	if n := len(seats.GetSeats()); n != 1 || seats.GetSeats()[0].GetMember() != ada {
		t.Errorf("her seats are %v", seats)
	}
	_, err = hers.GetOrganization(t.Context(), &internationalv1.GetOrganizationRequest{Name: acme})
	w.must(err)
	_, err = hers.CreateSeat(t.Context(), &internationalv1.CreateSeatRequest{Parent: globex, Seat: &internationalv1.Seat{Member: ada}})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = hers.UpdateOrganization(t.Context(), &internationalv1.UpdateOrganizationRequest{Organization: &internationalv1.Organization{Name: acme, SeatCount: 1000}})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = hers.DeleteSeat(t.Context(), &internationalv1.DeleteSeatRequest{Name: globex + "/seats/" + seat.GetName()[len("organizations/acme/seats/"):]})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = hers.DeleteSeat(t.Context(), &internationalv1.DeleteSeatRequest{Name: seat.GetName()})
	w.must(err)
}

func TestOfferedSeatsAreTakenByLink(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org", "new@example.org"}, nil))
	ada := w.withoutTerm("ada", "ada@example.org")
	acme := w.organization("acme", 2, 100)
	offer := func(address string) *internationalv1.Seat {
		seat, err := w.bodies.CreateSeat(t.Context(), &internationalv1.CreateSeatRequest{
			Parent: acme, Seat: &internationalv1.Seat{Address: address, DisplayName: "Somebody"},
		})
		w.must(err)
		return seat
	}
	first, second := offer("Ada@example.org"), offer("new@example.org")
	if first.GetState() != internationalv1.Seat_OFFERED || first.GetMember() != "" {
		t.Errorf("the offer says %v: it must not say whether she is a member", first)
	}
	w.figures("paris", people{2, 0}, people{})
	for _, address := range []string{"ada@example.org", "new@example.org"} {
		link := w.linkTo(address)
		for range 2 { // looking changes nothing, nor does confirming again
			seen, err := w.links.GetMemberLink(t.Context(), &internationalv1.GetMemberLinkRequest{Name: link})
			w.must(err)
			if seen.GetPurpose() != internationalv1.MemberLink_TAKE_SEAT || seen.GetOrganizationDisplayName() != "acme" {
				t.Errorf("the link is about %v", seen)
			}
			_, err = w.links.ConfirmMemberLink(t.Context(), &internationalv1.ConfirmMemberLinkRequest{Name: link})
			w.must(err)
		}
	}
	w.figures("paris", people{2, 2}, people{})
	held, err := w.bodies.GetSeat(t.Context(), &internationalv1.GetSeatRequest{Name: first.GetName()})
	w.must(err)
	if held.GetState() != internationalv1.Seat_HELD || held.GetMember() != ada || held.GetAddress() != "" {
		t.Errorf("her seat is %v", held)
	}
	held, err = w.bodies.GetSeat(t.Context(), &internationalv1.GetSeatRequest{Name: second.GetName()})
	w.must(err)
	entered := w.expectState(held.GetMember(), internationalv1.Member_ACTIVE)
	if entered.GetDisplayName() != "Somebody" || entered.GetAddresses()[0].GetVerifyMethod() != internationalv1.Address_LINK {
		t.Errorf("entered: %v", entered)
	}
	_, err = w.bodies.SendInvitation(t.Context(), &internationalv1.SendInvitationRequest{Name: first.GetName()})
	refuses(t, err, errorv1.Reason_REASON_SEAT_STATE)
}
