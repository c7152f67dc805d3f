package platformtest

import (
	"fmt"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

// verdict is what follows from figures under policy revision 1: 60 %, one person is enough, both bases.
type verdict struct {
	eligible         bool
	basis, gapBasis  internationalv1.Basis
	margin           int
	convert, recruit string // a number, or "none"
}

const threshold = 60

// need is ceil(threshold * total / 100).
func (p people) need() int {
	n := 0
	for 100*n < threshold*p.total {
		n++
	}
	return n
}

func (p people) eligible() bool { return p.total >= 1 && 100*p.international >= threshold*p.total }

func (p people) margin() int { return p.international - p.need() }

// convert counts people who join until it is enough.
func (p people) convert() string {
	if p.total < 1 {
		return "none"
	}
	n := 0
	for !(people{p.total, p.international + n}).eligible() {
		n++
	}
	return fmt.Sprint(n)
}

// recruit counts newcomers who are members until it is enough.
func (p people) recruit() string {
	n := 0
	for !(people{p.total + n, p.international + n}).eligible() {
		n++
	}
	return fmt.Sprint(n)
}

func judged(membership, mailing people) verdict {
	switch {
	case mailing.eligible() && (!membership.eligible() || mailing.margin() > membership.margin()):
		return verdict{true, internationalv1.Basis_MAILING, internationalv1.Basis_MAILING, mailing.margin(), "0", "0"}
	case membership.eligible():
		return verdict{true, internationalv1.Basis_MEMBERSHIP, internationalv1.Basis_MEMBERSHIP, membership.margin(), "0", "0"}
	}
	gapBasis, nearest := internationalv1.Basis_MEMBERSHIP, membership
	if mailing.total >= 1 && (membership.total < 1 || -mailing.margin() < -membership.margin()) {
		gapBasis, nearest = internationalv1.Basis_MAILING, mailing
	}
	return verdict{false, internationalv1.Basis_BASIS_UNSPECIFIED, gapBasis, nearest.margin(), nearest.convert(), nearest.recruit()}
}

func verdictOf(s *internationalv1.Standing) verdict {
	return verdict{
		s.GetEligible(), s.GetBasis(), s.GetGapBasis(), int(s.GetMargin()),
		optional(s.GetGap().Convert), optional(s.GetGap().Recruit),
	}
}

func optional(n *int32) string {
	if n == nil {
		return "none"
	}
	return fmt.Sprint(*n)
}
