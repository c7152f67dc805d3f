package platformtest

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

// registerWriter writes the history of some people in the register: who they are there, and by which addresses. The
// addresses wander between a person's memberships. Nobody else enters these people, but lists all over hold them.
type registerWriter struct {
	*caller

	people []person
	staff  context.Context //nolint:containedctx // carries a token of staff
	// body is the organisation whose seats the writer gives away; nil until it is entered.
	body *bodyTruth
	// merged counts the records that are gone: their ids are not taken again.
	merged int
}

// person has several addresses, and is entered under two ids at most.
type person struct{ ids, addresses []string }

// always makes the request the same at every attempt.
func always[In, Out proto.Message](request In, method func(context.Context, In, ...grpc.CallOption) (Out, error)) func(context.Context) (Out, error) {
	return func(ctx context.Context) (Out, error) { return method(ctx, request) }
}

func (w *registerWriter) step() {
	who := w.people[w.rng.IntN(len(w.people))]
	id, canonical := w.one(who.ids), w.one(who.addresses)
	member := w.truth.member(id)
	if member == nil {
		w.enter(id, who)
		return
	}
	address := member.addresses[canonical]
	switch n := w.rng.IntN(130); {
	case n >= 100:
		w.rare(n-100, who, id, member)
	case n < 25:
		w.renew(id, member)
	case n < 45:
		w.resign(id, member)
	case address == nil:
		w.add(id, member, canonical)
	case !address.verified:
		w.verify(member, canonical)
	case n < 75:
		w.remove(member, canonical)
	default:
		w.add(id, member, canonical) // again
	}
}

// taken says whether an address is verified for a member.
func (w *registerWriter) taken(canonical string) bool {
	w.truth.mu.Lock()
	defer w.truth.mu.Unlock()
	for _, member := range w.truth.members {
		if a := member.addresses[canonical]; a != nil && a.verified {
			return true
		}
	}
	return false
}

func (w *registerWriter) enter(id string, who person) {
	member := &internationalv1.Member{DisplayName: id}
	var ends time.Time
	if w.chance(70) {
		ends = w.clock.Now().Add(w.term())
		member.TermEndTime = timestamppb.New(ends)
	}
	clash := false
	for _, canonical := range w.some(who.addresses, len(who.addresses)) {
		verified := w.chance(70)
		clash = clash || verified && w.taken(canonical)
		member.Addresses = append(member.Addresses, &internationalv1.Address{Address: w.spell(canonical), Verified: verified})
	}
	request := &internationalv1.CreateMemberRequest{MemberId: id, Member: member, RequestId: w.requestID()}
	got, err := call(w.staff, w.caller, "create member", always(request, w.members.CreateMember))
	switch {
	case clash:
		w.expect("enter somebody with an address that is taken", err, errorv1.Reason_REASON_ADDRESS_TAKEN)
		return
	case err != nil && w.tooLate(ends):
		w.expect("enter somebody whose term is over", err, errorv1.Reason_REASON_TERM_END_INVALID)
		return
	case !w.expect("create member", err):
		return
	}
	entered := &memberTruth{state: internationalv1.Member_LAPSED, ends: ends, addresses: map[string]*addressTruth{}}
	if !ends.IsZero() {
		entered.state = internationalv1.Member_ACTIVE
	}
	for _, a := range got.GetAddresses() {
		entered.addresses[a.GetAddress()] = &addressTruth{name: a.GetName(), verified: a.GetVerified()}
	}
	if len(entered.addresses) != len(member.GetAddresses()) {
		w.t.Errorf("%s: entered %s with %d addresses, want %d", w.id, id, len(entered.addresses), len(member.GetAddresses()))
	}
	w.truth.change(func() { w.truth.members[id] = entered })
}

func (w *registerWriter) term() time.Duration {
	if w.chance(40) {
		return w.short(w.rng)
	}
	return w.long(w.rng)
}

// tooLate says whether the term had ended, or nearly, when it was asked for: the clock runs on meanwhile.
func (w *registerWriter) tooLate(ends time.Time) bool {
	return !ends.IsZero() && !w.clock.Now().Before(ends)
}

func (w *registerWriter) renew(id string, member *memberTruth) {
	from := w.clock.Now()
	if member.ends.After(from) {
		from = member.ends
	}
	ends := from.Add(w.term()).Truncate(time.Microsecond)
	request := &internationalv1.RenewMemberRequest{Name: "members/" + id, TermEndTime: timestamppb.New(ends), RequestId: w.requestID()}
	_, err := call(w.staff, w.caller, "renew", always(request, w.members.RenewMember))
	if member.suspended {
		w.expect("renew beneath a suspension", err, errorv1.Reason_REASON_MEMBER_STATE)
		return
	}
	if err != nil && w.tooLate(ends) {
		w.expect("renew until the past", err, errorv1.Reason_REASON_TERM_END_INVALID)
		return
	}
	if w.expect("renew", err) {
		w.truth.change(func() { member.state, member.ends = internationalv1.Member_ACTIVE, ends })
	}
}

func (w *registerWriter) resign(id string, member *memberTruth) {
	request := &internationalv1.ResignMemberRequest{Name: "members/" + id, RequestId: w.requestID()}
	_, err := call(w.staff, w.caller, "resign", always(request, w.members.ResignMember))
	if err != nil && (member.suspended || member.ownAt(w.clock.Now()) != internationalv1.Member_ACTIVE) {
		w.expect("resign without a term", err, errorv1.Reason_REASON_MEMBER_STATE)
		return
	}
	if w.expect("resign", err) {
		w.truth.change(func() { member.state = internationalv1.Member_RESIGNED })
	}
}

func (w *registerWriter) add(id string, member *memberTruth, canonical string) {
	verified := w.chance(60)
	request := &internationalv1.CreateAddressRequest{
		Parent: "members/" + id, RequestId: w.requestID(),
		Address: &internationalv1.Address{Address: w.spell(canonical), Verified: verified},
	}
	got, err := call(w.staff, w.caller, "add address", always(request, w.members.CreateAddress))
	switch {
	case member.addresses[canonical] != nil:
		w.expect("add an address twice", err, errorv1.Reason_REASON_ALREADY_EXISTS)
	case verified && w.taken(canonical):
		w.expect("add an address that is taken", err, errorv1.Reason_REASON_ADDRESS_TAKEN)
	case w.expect("add address", err):
		w.truth.change(func() { member.addresses[canonical] = &addressTruth{name: got.GetName(), verified: verified} })
	}
}

func (w *registerWriter) verify(member *memberTruth, canonical string) {
	request := &internationalv1.VerifyAddressRequest{Name: member.addresses[canonical].name, RequestId: w.requestID()}
	_, err := call(w.staff, w.caller, "verify", always(request, w.members.VerifyAddress))
	if w.taken(canonical) {
		w.expect("verify an address that is taken", err, errorv1.Reason_REASON_ADDRESS_TAKEN)
		return
	}
	if w.expect("verify", err) {
		w.truth.change(func() { member.addresses[canonical].verified = true })
	}
}

func (w *registerWriter) remove(member *memberTruth, canonical string) {
	request := &internationalv1.DeleteAddressRequest{Name: member.addresses[canonical].name, RequestId: w.requestID()}
	_, err := call(w.staff, w.caller, "remove address", always(request, w.members.DeleteAddress))
	if w.expect("remove address", err) {
		w.truth.change(func() { delete(member.addresses, canonical) })
	}
}
