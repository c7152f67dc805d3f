package international

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

func TestStandingCountsPeopleNotAddresses(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.figures("paris", people{}, people{})
	w.member("ada", "ada@example.org", "ada@example.net")

	w.must(w.list("paris", "members", []string{"ada@example.org", "ada@example.net", "bob@example.org"}, nil))
	w.figures("paris", people{2, 1}, people{})

	w.must(w.list("paris", "announce", []string{"ada@example.org", "cyd@example.org"}, nil))
	w.must(w.list("paris", "jobs", []string{"ada@example.net", "cyd@example.org"}, nil))
	w.figures("paris", people{2, 1}, people{2, 1})

	w.must(w.list("paris", "announce", nil, []string{"ada@example.org"}))
	w.figures("paris", people{2, 1}, people{2, 1})
	w.must(w.list("paris", "jobs", nil, []string{"ada@example.net"}))
	w.figures("paris", people{2, 1}, people{1, 0})
}

func TestStandingFollowsTheRegister(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	w.must(w.list("paris", "members", []string{"ada@example.org", "ada@example.net", "bob@example.org"}, nil))
	w.figures("paris", people{3, 0}, people{})

	ada := w.member("ada", "ada@example.org")
	w.figures("paris", people{3, 1}, people{})
	if !w.standingMoves("paris", func() {
		second, err := w.members.CreateAddress(t.Context(), &internationalv1.CreateAddressRequest{
			Parent: ada.GetName(), Address: &internationalv1.Address{Address: "Ada@Example.NET"},
		})
		w.must(err)
		w.figures("paris", people{3, 1}, people{})
		_, err = w.members.VerifyAddress(t.Context(), &internationalv1.VerifyAddressRequest{Name: second.GetName()})
		w.must(err)
	}) {
		t.Error("verifying a second address makes two people one, and the etag stayed")
	}
	w.figures("paris", people{2, 1}, people{})

	_, err := w.members.ResignMember(t.Context(), &internationalv1.ResignMemberRequest{Name: ada.GetName()})
	w.must(err)
	w.figures("paris", people{2, 0}, people{})
	_, err = w.members.RenewMember(t.Context(), &internationalv1.RenewMemberRequest{
		Name: ada.GetName(), TermEndTime: timestamppb.New(noon.AddDate(1, 0, 0)),
	})
	w.must(err)
	w.figures("paris", people{2, 1}, people{})

	addresses, err := w.members.ListAddresses(t.Context(), &internationalv1.ListAddressesRequest{Parent: ada.GetName()})
	w.must(err)
	_, err = w.members.DeleteAddress(t.Context(), &internationalv1.DeleteAddressRequest{Name: addresses.GetAddresses()[0].GetName()})
	w.must(err)
	w.figures("paris", people{3, 1}, people{})
}

// standingMoves says whether the etag changes across a call.
func (w *world) standingMoves(chapter string, call func()) bool {
	before := w.standing(chapter).GetEtag()
	call()
	return before != w.standing(chapter).GetEtag()
}

func TestStandingKeepsItsEtagWhenNothingMoves(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.chapter("paris")
	ada := w.member("ada", "ada@example.org")
	w.must(w.list("paris", "members", []string{"ada@example.org"}, nil))
	if w.standingMoves("paris", func() {
		_, err := w.members.RenewMember(t.Context(), &internationalv1.RenewMemberRequest{
			Name: ada.GetName(), TermEndTime: timestamppb.New(noon.AddDate(2, 0, 0)),
		})
		w.must(err)
		w.member("bob", "bob@example.org")
	}) {
		t.Error("neither a longer term nor a stranger moves a figure, and the etag changed")
	}
}

func TestStandingOfAnUnknownChapterIsNotFound(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.stands.GetStanding(t.Context(), &internationalv1.GetStandingRequest{Name: "chapters/nowhere/standing"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}

func TestTermsLapseInOneBatch(t *testing.T) {
	t.Parallel()
	w := setup(t, func(c *Config) { c.LapseBatch = 7 })
	w.chapter("paris")
	var all []string
	for i := range 20 {
		one := fmt.Sprintf("m%d@example.org", i)
		all = append(all, one)
		w.member(fmt.Sprintf("m%d", i), one)
	}
	w.must(w.list("paris", "members", all, nil))
	w.figures("paris", people{20, 20}, people{})

	w.clock.Set(noon.AddDate(1, 0, 0).Add(-1))
	if n, err := w.service.lapse(t.Context()); n != 0 || err != nil {
		t.Fatalf("a microsecond before the end %d lapsed: %v", n, err)
	}
	w.clock.Set(noon.AddDate(1, 0, 0))
	if n, err := w.service.lapse(t.Context()); n != 20 || err != nil {
		t.Fatalf("at the end %d of 20 lapsed: %v", n, err)
	}
	w.figures("paris", people{20, 0}, people{})
	member, err := w.members.GetMember(t.Context(), &internationalv1.GetMemberRequest{Name: "members/m3"})
	w.must(err)
	if member.GetState() != internationalv1.Member_LAPSED {
		t.Errorf("the state is %s", member.GetState())
	}
}

func TestLapseBatchesNearTheirAim(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		size int32
		took time.Duration
		want int32
	}{
		{1000, lapseAim, 1000},
		{1000, lapseAim * 4 / 5, 1250},
		{1000, lapseAim / 10, 2000}, // one quick batch may be chance
		{1000, lapseAim * 10, 500},
		{4000, lapseAim / 2, 5000}, // the configured most
		{150, time.Hour, 100},      // it is not the size that takes so long
		{1, 0, 100},
	} {
		if got := nextLapseBatch(test.size, 5000, test.took); got != test.want {
			t.Errorf("after %d in %s come %d, want %d", test.size, test.took, got, test.want)
		}
	}
}

// TestWritersOnBothSidesLoseNobody lets lists and the register change at once. Each writer has members or lists of its
// own, so the outcome does not depend on who was first; the counters must not depend on it either.
func TestWritersOnBothSidesLoseNobody(t *testing.T) {
	t.Parallel()
	const chapters, members, rounds = 3, 24, 12
	w := setup(t)
	for c := range chapters {
		w.chapter(fmt.Sprintf("c%d", c))
	}
	var work sync.WaitGroup
	failures := make(chan error, 64)
	run := func(seed uint64, step func(*rand.Rand, int) error) {
		work.Go(func() {
			random := rand.New(rand.NewPCG(seed, 7))
			for round := range rounds {
				if err := step(random, round); err != nil {
					failures <- err
					return
				}
			}
		})
	}
	for c := range chapters {
		for l, list := range []string{"members", "announce", "jobs"} {
			holds := map[string]bool{}
			run(uint64(c*10+l), func(random *rand.Rand, _ int) error {
				return w.churnList(random, fmt.Sprintf("c%d", c), list, members, holds)
			})
		}
	}
	for m := range members {
		run(uint64(1000+m), func(random *rand.Rand, round int) error { return w.churnMember(random, m, round) })
	}
	work.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	w.audit()
}

// churnList flips some of the addresses on a list.
func (w *world) churnList(random *rand.Rand, chapter, list string, members int, holds map[string]bool) error {
	var added, removed []string
	for range 1 + random.IntN(8) {
		one := fmt.Sprintf("m%d-%d@example.org", random.IntN(members), random.IntN(2))
		if holds[one] {
			removed = append(removed, one)
		} else {
			added = append(added, one)
		}
		holds[one] = !holds[one]
	}
	return w.list(chapter, list, keep(added, holds, true), keep(removed, holds, false))
}

// keep drops what was flipped twice, and repetitions.
func keep(flipped []string, holds map[string]bool, want bool) []string {
	var kept []string
	seen := map[string]bool{}
	for _, one := range flipped {
		if holds[one] == want && !seen[one] {
			kept = append(kept, one)
		}
		seen[one] = true
	}
	return kept
}

// churnMember takes a member through joining, second addresses, resigning and renewing.
func (w *world) churnMember(random *rand.Rand, m, round int) error {
	ctx, name := w.t.Context(), fmt.Sprintf("members/m%d", m)
	if round == 0 {
		_, err := w.members.CreateMember(ctx, &internationalv1.CreateMemberRequest{MemberId: fmt.Sprintf("m%d", m), Member: &internationalv1.Member{
			DisplayName: "m", TermEndTime: timestamppb.New(noon.AddDate(1, 0, 0)),
			Addresses: []*internationalv1.Address{{Address: fmt.Sprintf("m%d-0@example.org", m), Verified: true}},
		}})
		return err
	}
	member, err := w.members.GetMember(ctx, &internationalv1.GetMemberRequest{Name: name})
	if err != nil {
		return err
	}
	switch {
	case random.IntN(3) == 0 && len(member.GetAddresses()) == 1:
		_, err = w.members.CreateAddress(ctx, &internationalv1.CreateAddressRequest{
			Parent: name, Address: &internationalv1.Address{Address: fmt.Sprintf("m%d-1@example.org", m), Verified: random.IntN(2) == 0},
		})
	case random.IntN(3) == 0 && len(member.GetAddresses()) == 2:
		second := member.GetAddresses()[1]
		if !second.GetVerified() {
			_, err = w.members.VerifyAddress(ctx, &internationalv1.VerifyAddressRequest{Name: second.GetName()})
			break
		}
		_, err = w.members.DeleteAddress(ctx, &internationalv1.DeleteAddressRequest{Name: second.GetName()})
	case member.GetState() == internationalv1.Member_ACTIVE:
		_, err = w.members.ResignMember(ctx, &internationalv1.ResignMemberRequest{Name: name})
	default:
		_, err = w.members.RenewMember(ctx, &internationalv1.RenewMemberRequest{Name: name, TermEndTime: timestamppb.New(noon.AddDate(1, 0, 0))})
	}
	return err
}
