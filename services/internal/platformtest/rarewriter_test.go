package platformtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

// What happens to a membership less often than renewals: suspensions, seats, merges, imports.

// ages is longer than any history.
const ages = 100 * 365 * 24 * time.Hour

func (w *registerWriter) rare(n int, who person, id string, member *memberTruth) {
	switch {
	case n < 5:
		w.suspend(id, member)
	case n < 11:
		w.reinstate(id, member)
	case n < 18:
		w.seat(id, member)
	case n < 20:
		w.endOrRenew()
	case n < 25:
		w.merge(who, id, member)
	default:
		w.load(who, id, member)
	}
}

func (w *registerWriter) suspend(id string, member *memberTruth) {
	request := &internationalv1.SuspendMemberRequest{Name: "members/" + id, Reason: "a reason", RequestId: w.requestID()}
	_, err := call(w.staff, w.caller, "suspend", always(request, w.members.SuspendMember))
	if member.suspended {
		w.expect("suspend twice", err, errorv1.Reason_REASON_MEMBER_STATE)
		return
	}
	if w.expect("suspend", err) {
		w.truth.change(func() { member.suspended = true })
	}
}

func (w *registerWriter) reinstate(id string, member *memberTruth) {
	request := &internationalv1.ReinstateMemberRequest{Name: "members/" + id, RequestId: w.requestID()}
	_, err := call(w.staff, w.caller, "reinstate", always(request, w.members.ReinstateMember))
	if !member.suspended {
		w.expect("reinstate who is not suspended", err, errorv1.Reason_REASON_MEMBER_STATE)
		return
	}
	if w.expect("reinstate", err) {
		w.truth.change(func() { member.suspended = false })
	}
}

func (w *registerWriter) bodyName() string { return "organizations/body-" + w.id }

// seat gives the member a seat, or takes it back.
func (w *registerWriter) seat(id string, member *memberTruth) {
	if w.body == nil {
		w.found()
		return
	}
	if member.seat != nil {
		w.leave(id, member)
		return
	}
	request := &internationalv1.CreateSeatRequest{Parent: w.bodyName(), Seat: &internationalv1.Seat{Member: "members/" + id}, RequestId: w.requestID()}
	_, err := call(w.staff, w.caller, "give a seat", always(request, w.bodies.CreateSeat))
	if !w.body.active {
		w.expect("give a seat of an organisation that has ended", err, errorv1.Reason_REASON_ORGANIZATION_STATE)
		return
	}
	if w.expect("give a seat", err) {
		w.truth.change(func() { member.seat = w.body })
	}
}

func (w *registerWriter) found() {
	request := &internationalv1.CreateOrganizationRequest{
		OrganizationId: "body-" + w.id, RequestId: w.requestID(), Organization: &internationalv1.Organization{
			DisplayName: "Body", SeatCount: 1000, TermEndTime: timestamppb.New(w.clock.Now().Add(ages)),
		},
	}
	_, err := call(w.staff, w.caller, "enter an organisation", always(request, w.bodies.CreateOrganization))
	if w.expect("enter an organisation", err) {
		w.body = &bodyTruth{active: true}
	}
}

func (w *registerWriter) leave(id string, member *memberTruth) {
	name := ""
	for token := ""; ; {
		page, err := w.bodies.ListSeats(w.staff, &internationalv1.ListSeatsRequest{Parent: w.bodyName(), PageToken: token})
		if err != nil {
			return // nothing was done
		}
		for _, seat := range page.GetSeats() {
			if seat.GetMember() == "members/"+id {
				name = seat.GetName()
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if name == "" {
		w.t.Errorf("%s: the seat of %s is not there", w.id, id)
		return
	}
	_, err := call(w.staff, w.caller, "release a seat", always(&internationalv1.DeleteSeatRequest{Name: name, RequestId: w.requestID()}, w.bodies.DeleteSeat))
	if w.expect("release a seat", err) {
		w.truth.change(func() { member.seat = nil })
	}
}

// endOrRenew ends the organisation for all who sit in it, or brings it back.
func (w *registerWriter) endOrRenew() {
	switch {
	case w.body == nil:
		w.found()
	case w.body.active:
		request := &internationalv1.EndOrganizationRequest{Name: w.bodyName(), RequestId: w.requestID()}
		_, err := call(w.staff, w.caller, "end an organisation", always(request, w.bodies.EndOrganization))
		if w.expect("end an organisation", err) {
			w.truth.change(func() { w.body.active = false })
		}
	default:
		request := &internationalv1.RenewOrganizationRequest{Name: w.bodyName(), TermEndTime: timestamppb.New(w.clock.Now().Add(ages)), RequestId: w.requestID()}
		_, err := call(w.staff, w.caller, "renew an organisation", always(request, w.bodies.RenewOrganization))
		if w.expect("renew an organisation", err) {
			w.truth.change(func() { w.body.active = true })
		}
	}
}

// settled says whether the own term is far from its end, or was over by somebody's word: near the end the record may still
// say otherwise than the clock.
func (m *memberTruth) settled(now time.Time) bool {
	return m.state != internationalv1.Member_ACTIVE || m.ends.After(now.Add(10*24*time.Hour))
}

// merge makes both records of a person one.
func (w *registerWriter) merge(who person, id string, into *memberTruth) {
	other := slices.IndexFunc(who.ids, func(one string) bool { return one != id })
	from := w.truth.member(who.ids[other])
	now := w.clock.Now()
	if from == nil || !into.settled(now) || !from.settled(now) {
		return
	}
	request := &internationalv1.MergeMemberRequest{Name: "members/" + id, From: "members/" + who.ids[other], RequestId: w.requestID()}
	got, err := call(w.staff, w.caller, "merge", always(request, w.members.MergeMember))
	if !w.expect("merge", err) {
		return
	}
	gone := who.ids[other]
	w.merged++
	who.ids[other] = fmt.Sprintf("%s-%d", strings.Split(gone, "-again")[0], w.merged) + "-again"
	w.truth.change(func() {
		delete(w.truth.members, gone)
		if from.outlasts(into) {
			into.state, into.ends = from.state, from.ends
		}
		into.suspended = into.suspended || from.suspended
		if into.seat == nil {
			into.seat = from.seat
		}
		into.addresses = map[string]*addressTruth{}
		for _, a := range got.GetAddresses() {
			into.addresses[a.GetAddress()] = &addressTruth{name: a.GetName(), verified: a.GetVerified()}
		}
	})
}

// outlasts says whether a record's term is the one that a merge keeps.
func (m *memberTruth) outlasts(into *memberTruth) bool {
	mine, its := m.state == internationalv1.Member_ACTIVE, into.state == internationalv1.Member_ACTIVE
	switch {
	case mine && its:
		return m.ends.After(into.ends)
	case mine || its:
		return mine
	}
	return into.ends.IsZero()
}

// load imports one row, about a member by the id: a term, and an address that the import attests.
func (w *registerWriter) load(who person, id string, member *memberTruth) {
	canonical := w.one(who.addresses)
	held := member.addresses[canonical]
	refused := member.suspended || w.taken(canonical) && (held == nil || !held.verified)
	from := w.clock.Now()
	if member.ends.After(from) {
		from = member.ends
	}
	ends := from.Add(w.long(w.rng)).Truncate(time.Microsecond)
	file := fmt.Sprintf("memberId,address,displayName,termEndTime\n%s,%s,%s,%s\n", id, w.spell(canonical), id, ends.Format(time.RFC3339Nano))
	header := &internationalv1.ImportMembersHeader{Apply: true, ContentType: "text/csv", RequestId: w.requestID()}
	got, err := call(w.staff, w.caller, "import", func(ctx context.Context) (*internationalv1.MemberImport, error) {
		return importFile(ctx, w.imports, header, file)
	})
	if err != nil { // a term lapsed between the plan and its application
		w.expect("import", err, errorv1.Reason_REASON_PLAN_STALE)
		return
	}
	counts := got.GetCounts()
	if refused != (counts.GetRejected() == 1) || !refused && counts.GetRenew() != 1 {
		w.t.Errorf("%s: imported %s: %v, refused is %t", w.id, id, counts, refused)
		return
	}
	if refused {
		return
	}
	shown, err := call(w.staff, w.caller, "read a member", always(&internationalv1.GetMemberRequest{Name: "members/" + id}, w.members.GetMember))
	if !w.expect("read a member", err) {
		return
	}
	w.truth.change(func() {
		member.state, member.ends = internationalv1.Member_ACTIVE, ends
		for _, a := range shown.GetAddresses() {
			if a.GetAddress() == canonical {
				member.addresses[canonical] = &addressTruth{name: a.GetName(), verified: true}
			}
		}
	})
}

// importFile uploads a file in one piece.
func importFile(ctx context.Context, client internationalv1.MemberImportServiceClient, header *internationalv1.ImportMembersHeader, file string) (*internationalv1.MemberImport, error) {
	stream, err := client.ImportMembers(ctx)
	if err != nil {
		return nil, err
	}
	for _, part := range []*internationalv1.ImportMembersRequest{
		{Part: &internationalv1.ImportMembersRequest_Header{Header: header}},
		{Part: &internationalv1.ImportMembersRequest_Chunk{Chunk: []byte(file)}},
	} {
		if err := stream.Send(part); err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}
