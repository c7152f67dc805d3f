package international

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// TestEveryChangeOfTheRegisterIsCounted suspends, reinstates, seats, merges, imports and erases at random while lists
// change and organisations lapse, all at once, and then finds every standing as a recount has it.
func TestEveryChangeOfTheRegisterIsCounted(t *testing.T) {
	t.Parallel()
	const chapters, writers, rounds, bodies = 3, 12, 25, 2
	w := setup(t)
	for c := range chapters {
		w.chapter(fmt.Sprintf("c%d", c))
	}
	for b := range bodies {
		w.organization(fmt.Sprintf("body%d", b), 1000, 365)
	}
	var work sync.WaitGroup
	failures := make(chan error, 256)
	for c := range chapters {
		for l, list := range []string{"members", "announce"} {
			holds, random := map[string]bool{}, rand.New(rand.NewPCG(uint64(c*10+l), 3))
			work.Go(func() {
				for range rounds {
					if err := w.churnList(random, fmt.Sprintf("c%d", c), list, writers, holds); err != nil {
						failures <- err
					}
				}
			})
		}
	}
	for n := range writers {
		registrar := &churner{world: w, random: rand.New(rand.NewPCG(uint64(n), 5)), n: n, bodies: bodies}
		work.Go(func() {
			for range rounds {
				if err := registrar.step(); err != nil {
					failures <- err
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(99, 9))
	work.Go(func() {
		for range rounds {
			if err := w.churnBody(random.IntN(bodies), random.IntN(2) == 0); err != nil {
				failures <- err
			}
		}
	})
	work.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	w.audit()
	w.clock.Set(noon.AddDate(2, 0, 0))
	_, err := w.service.lapse(t.Context())
	w.must(err)
	w.audit()
}

// churnBody ends an organisation, or brings it back.
func (w *world) churnBody(n int, end bool) error {
	ctx, name := w.t.Context(), fmt.Sprintf("organizations/body%d", n)
	if end {
		_, err := w.bodies.EndOrganization(ctx, &internationalv1.EndOrganizationRequest{Name: name})
		return tolerate(err)
	}
	_, err := w.bodies.RenewOrganization(ctx, &internationalv1.RenewOrganizationRequest{Name: name, TermEndTime: timestamppb.New(noon.AddDate(1, 0, 0))})
	return tolerate(err)
}

// churner writes about two records with an address each, both of which the lists of churnList hold. A record that is gone
// is followed by another.
type churner struct {
	*world
	random *rand.Rand
	n      int
	bodies int
	ids    [2]string
	made   int
}

// tolerate passes over what the state of a record refuses: the writer does not look first.
func tolerate(err error) error {
	for _, reason := range []errorv1.Reason{
		errorv1.Reason_REASON_MEMBER_STATE, errorv1.Reason_REASON_ADDRESS_TAKEN, errorv1.Reason_REASON_ALREADY_EXISTS,
		errorv1.Reason_REASON_ORGANIZATION_STATE, errorv1.Reason_REASON_TERM_END_INVALID, errorv1.Reason_REASON_PLAN_STALE,
		errorv1.Reason_REASON_MERGE_INVALID,
	} {
		if rpc.Is(err, reason) {
			return nil
		}
	}
	return err
}

func (c *churner) step() error {
	ctx, i := c.t.Context(), c.random.IntN(2)
	if c.ids[i] == "" {
		return c.enter(ctx, i)
	}
	name := "members/" + c.ids[i]
	var err error
	switch c.random.IntN(9) {
	case 0:
		_, err = c.members.SuspendMember(ctx, &internationalv1.SuspendMemberRequest{Name: name, Reason: "r"})
	case 1, 2:
		_, err = c.members.ReinstateMember(ctx, &internationalv1.ReinstateMemberRequest{Name: name})
	case 3:
		_, err = c.world.bodies.CreateSeat(ctx, &internationalv1.CreateSeatRequest{
			Parent: fmt.Sprintf("organizations/body%d", c.random.IntN(c.bodies)), Seat: &internationalv1.Seat{Member: name},
		})
	case 4:
		err = c.merge(ctx, i)
	case 5:
		if _, err = c.members.EraseMember(ctx, &internationalv1.EraseMemberRequest{Name: name}); err == nil {
			c.ids[i] = ""
		}
	case 6:
		_, err = importAs(ctx, c.imports, &internationalv1.ImportMembersHeader{Apply: true}, fmt.Sprintf(
			"memberId,address,displayName,termEndTime\n%s,m%d-%d@example.org,M,2027-01-0%d\n", c.ids[i], c.n, c.random.IntN(2), 1+c.random.IntN(9)))
	case 7:
		_, err = c.members.ResignMember(ctx, &internationalv1.ResignMemberRequest{Name: name})
	default:
		_, err = c.members.RenewMember(ctx, &internationalv1.RenewMemberRequest{Name: name, TermEndTime: timestamppb.New(noon.AddDate(1, 0, c.random.IntN(9)))})
	}
	return tolerate(err)
}

func (c *churner) enter(ctx context.Context, i int) error {
	c.made++
	id := fmt.Sprintf("w%d-%d", c.n, c.made)
	member := &internationalv1.Member{DisplayName: "M", Addresses: []*internationalv1.Address{{Address: fmt.Sprintf("m%d-%d@example.org", c.n, i), Verified: true}}}
	if c.random.IntN(2) == 0 {
		member.TermEndTime = timestamppb.New(noon.AddDate(1, 0, 0))
	}
	_, err := c.members.CreateMember(ctx, &internationalv1.CreateMemberRequest{MemberId: id, Member: member})
	if err == nil {
		c.ids[i] = id
	}
	return tolerate(err)
}

func (c *churner) merge(ctx context.Context, i int) error {
	from := c.ids[1-i]
	if from == "" {
		return nil
	}
	_, err := c.members.MergeMember(ctx, &internationalv1.MergeMemberRequest{Name: "members/" + c.ids[i], From: "members/" + from})
	if err == nil {
		c.ids[1-i] = ""
	}
	return err
}
