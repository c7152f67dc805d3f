package international

import (
	"fmt"
	"math/rand/v2"
	"testing"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

var caseStudy = db.Policy{Revision: 1, ThresholdPercent: 60, MinimumMembership: 1, MinimumMailing: 1, AllowMembership: true, AllowMailing: true}

func some(n int32) *int32 { return &n }

func TestVerdict(t *testing.T) {
	const (
		none       = internationalv1.Basis_BASIS_UNSPECIFIED
		membership = internationalv1.Basis_MEMBERSHIP
		mailing    = internationalv1.Basis_MAILING
	)
	strict := caseStudy
	strict.ThresholdPercent = 100
	large := caseStudy
	large.MinimumMembership, large.MinimumMailing = 10, 20
	onlyMailing := caseStudy
	onlyMailing.AllowMembership = false

	for _, test := range []struct {
		name                string
		policy              db.Policy
		membership, mailing people
		want                verdict
	}{
		{"NobodyIsNeverEligible", caseStudy, people{}, people{}, verdict{false, none, membership, 0, nil, some(1)}},
		{"ExactlyAtTheLine", caseStudy, people{100, 60}, people{}, verdict{true, membership, membership, 0, some(0), some(0)}},
		{"OneBelowTheLine", caseStudy, people{100, 59}, people{}, verdict{false, none, membership, -1, some(1), some(3)}},
		{"TwoOfThreeIsOver", caseStudy, people{3, 2}, people{}, verdict{true, membership, membership, 0, some(0), some(0)}},
		{"OneOfTwoIsBelow", caseStudy, people{2, 1}, people{}, verdict{false, none, membership, -1, some(1), some(1)}},
		{"LargerMarginNamesTheBasis", caseStudy, people{10, 6}, people{10, 8}, verdict{true, mailing, mailing, 2, some(0), some(0)}},
		{"TieNamesMembership", caseStudy, people{10, 8}, people{20, 14}, verdict{true, membership, membership, 2, some(0), some(0)}},
		{"SmallerConvertNamesTheGap", caseStudy, people{10, 1}, people{10, 4}, verdict{false, none, mailing, -2, some(2), some(5)}},
		{"TooFewPeopleHaveNoConvert", large, people{5, 5}, people{3, 0}, verdict{false, none, membership, 2, nil, some(5)}},
		{"EnoughOnOneBasisOnly", large, people{5, 5}, people{20, 11}, verdict{false, none, mailing, -1, some(1), some(3)}},
		{"AllOrNothingCannotRecruit", strict, people{10, 9}, people{}, verdict{false, none, membership, -1, some(1), nil}},
		{"AllOrNothingReached", strict, people{10, 10}, people{}, verdict{true, membership, membership, 0, some(0), some(0)}},
		{"ForbiddenBasisDoesNotCount", onlyMailing, people{10, 10}, people{10, 5}, verdict{false, none, mailing, -1, some(1), some(3)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := judge(test.policy, test.membership, test.mailing)
			if show(got) != show(test.want) {
				t.Errorf("judge(%v, %v)\n got %s\nwant %s", test.membership, test.mailing, show(got), show(test.want))
			}
		})
	}
}

// TestGapLiftsExactly tries out what the gap promises: that many conversions, or that many newcomers, lift the chapter to
// the line, and one fewer does not.
func TestGapLiftsExactly(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		policy := db.Policy{
			Revision: 1, ThresholdPercent: 1 + random.Int32N(100), AllowMembership: true,
			MinimumMembership: random.Int32N(12),
		}
		p := people{total: random.Int32N(40)}
		p.international = random.Int32N(p.total + 1)
		eligible := func(p people) bool { return judge(policy, p, people{}).eligible }
		v := judge(policy, p, people{})
		if v.eligible {
			lost := p
			lost.international -= v.margin
			if !eligible(lost) {
				t.Fatalf("%v under %d %%: a margin of %d does not hold", p, policy.ThresholdPercent, v.margin)
			}
			if lost.international--; lost.international >= 0 && eligible(lost) {
				t.Fatalf("%v under %d %%: more than the margin of %d could lapse", p, policy.ThresholdPercent, v.margin)
			}
			continue
		}
		checkLift(t, fmt.Sprintf("%v under %d %%, at least %d: convert", p, policy.ThresholdPercent, policy.MinimumMembership), v.convert,
			func(n int32) bool { return eligible(people{p.total, p.international + n}) })
		checkLift(t, fmt.Sprintf("%v under %d %%, at least %d: recruit", p, policy.ThresholdPercent, policy.MinimumMembership), v.recruit,
			func(n int32) bool { return eligible(people{p.total + n, p.international + n}) })
	}
}

func checkLift(t *testing.T, what string, promised *int32, lifts func(int32) bool) {
	t.Helper()
	if promised == nil {
		if lifts(0) || lifts(1_000) {
			t.Fatalf("%s is absent, although there is one", what)
		}
		return
	}
	if !lifts(*promised) {
		t.Fatalf("%s %d does not lift", what, *promised)
	}
	if *promised > 0 && lifts(*promised-1) {
		t.Fatalf("%s %d is more than it takes", what, *promised)
	}
}

func show(v verdict) string {
	number := func(n *int32) string {
		if n == nil {
			return "absent"
		}
		return fmt.Sprint(*n)
	}
	return fmt.Sprintf("eligible %t on %s, gap on %s: margin %d, convert %s, recruit %s",
		v.eligible, v.basis, v.gapBasis, v.margin, number(v.convert), number(v.recruit))
}
