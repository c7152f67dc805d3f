package international

import (
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// people are the figures on one basis.
type people struct {
	total, international int32
}

// basisRule is what the policy asks of one basis.
type basisRule struct {
	threshold, minimum int64
	allowed            bool
}

// verdict is what follows from a chapter's figures under a policy.
type verdict struct {
	eligible bool
	// The eligible basis with the larger margin; unspecified when not eligible.
	basis internationalv1.Basis
	// What margin and gap refer to.
	gapBasis internationalv1.Basis
	margin   int32
	// Nil where no number would do.
	convert, recruit *int32
}

// judge applies the policy to the figures: integers only, the threshold is inclusive, and nobody is eligible with nobody.
func judge(policy db.Policy, membership, mailing people) verdict {
	onMembership, onMailing := rules(policy)

	if basis := eligibleBasis(onMembership, membership, onMailing, mailing); basis != internationalv1.Basis_BASIS_UNSPECIFIED {
		rule, figures := onMembership, membership
		if basis == internationalv1.Basis_MAILING {
			rule, figures = onMailing, mailing
		}
		var none int32
		return verdict{eligible: true, basis: basis, gapBasis: basis, margin: rule.margin(figures), convert: &none, recruit: &none}
	}

	basis := nearestBasis(onMembership, membership, onMailing, mailing)
	rule, figures := onMembership, membership
	if basis == internationalv1.Basis_MAILING {
		rule, figures = onMailing, mailing
	}
	return verdict{gapBasis: basis, margin: rule.margin(figures), convert: rule.convert(figures), recruit: rule.recruit(figures)}
}

// rules are what the policy asks of each basis.
func rules(policy db.Policy) (onMembership, onMailing basisRule) {
	return basisRule{int64(policy.ThresholdPercent), int64(policy.MinimumMembership), policy.AllowMembership},
		basisRule{int64(policy.ThresholdPercent), int64(policy.MinimumMailing), policy.AllowMailing}
}

// eligibleBasis picks the eligible basis with the larger margin; membership on a tie.
func eligibleBasis(onMembership basisRule, membership people, onMailing basisRule, mailing people) internationalv1.Basis {
	first, second := onMembership.eligible(membership), onMailing.eligible(mailing)
	switch {
	case first && second && onMailing.margin(mailing) > onMembership.margin(membership):
		return internationalv1.Basis_MAILING
	case first:
		return internationalv1.Basis_MEMBERSHIP
	case second:
		return internationalv1.Basis_MAILING
	default:
		return internationalv1.Basis_BASIS_UNSPECIFIED
	}
}

// nearestBasis picks, among the allowed bases with enough people, the one that needs fewer conversions;
// membership on a tie or when there is none.
func nearestBasis(onMembership basisRule, membership people, onMailing basisRule, mailing people) internationalv1.Basis {
	if !onMembership.allowed {
		return internationalv1.Basis_MAILING
	}
	first, second := onMembership.convert(membership), onMailing.convert(mailing)
	if onMailing.allowed && second != nil && (first == nil || *second < *first) {
		return internationalv1.Basis_MAILING
	}
	return internationalv1.Basis_MEMBERSHIP
}

func (r basisRule) eligible(p people) bool {
	return r.allowed && p.total > 0 && int64(p.total) >= r.minimum &&
		100*int64(p.international) >= r.threshold*int64(p.total)
}

// need is the fewest members that total people need: ceil(threshold * total / 100).
func (r basisRule) need(p people) int64 {
	return (r.threshold*int64(p.total) + 99) / 100
}

func (r basisRule) floor() int64 { return max(r.minimum, 1) }

// margin is how many members could lapse before the line is lost; negative below the line.
func (r basisRule) margin(p people) int32 {
	return int32(int64(p.international) - r.need(p))
}

// convert is how many of the people would have to join; nil while there are too few people for that to suffice.
func (r basisRule) convert(p people) *int32 {
	if int64(p.total) < r.floor() {
		return nil
	}
	n := int32(max(0, r.need(p)-int64(p.international)))
	return &n
}

// recruit is how many newcomers, members all, it would take; nil when a threshold of 100 % is missed already.
func (r basisRule) recruit(p people) *int32 {
	missing := r.threshold*int64(p.total) - 100*int64(p.international)
	var newcomers int64
	switch {
	case missing <= 0:
	case r.threshold == 100:
		return nil
	default:
		share := 100 - r.threshold
		newcomers = (missing + share - 1) / share
	}
	n := int32(max(newcomers, r.floor()-int64(p.total), 0))
	return &n
}
