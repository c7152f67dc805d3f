// Package notice knows what notices there are about a chapter's eligibility and charter, and the words in which officers and
// coordinators read them. The international tier decides on the facts; the tiers that have the readers write the words.
package notice

import "time"

// The kinds of notices. Those that the register makes: whether the chapter is eligible.
const (
	EligibilityGained = "ELIGIBILITY_GAINED"
	EligibilityLost   = "ELIGIBILITY_LOST"
)

// What somebody did with the charter.
const (
	Applied          = "APPLIED"
	InReview         = "IN_REVIEW"
	ChangesRequested = "CHANGES_REQUESTED"
	Resubmitted      = "RESUBMITTED"
	Approved         = "APPROVED"
	Declined         = "DECLINED"
	Withdrawn        = "WITHDRAWN"
	Suspended        = "SUSPENDED"
	Reinstated       = "REINSTATED"
	Revoked          = "REVOKED"
	Surrendered      = "SURRENDERED"
	Renewed          = "RENEWED"
	Protected        = "PROTECTED"
	Unprotected      = "UNPROTECTED"
)

// What the clock made of it.
const (
	AtRisk         = "AT_RISK"
	GraceEnded     = "GRACE_ENDED"
	ReviewOverdue  = "REVIEW_OVERDUE"
	ChangesOverdue = "CHANGES_OVERDUE"
	RenewalOverdue = "RENEWAL_OVERDUE"
)

// What is due soon.
const (
	CureBy        = "CURE_BY"
	ReviewDue     = "REVIEW_DUE"
	ChangesDue    = "CHANGES_DUE"
	RenewalDue    = "RENEWAL_DUE"
	ProtectionEnd = "PROTECTION_END"
)

const day = 24 * time.Hour

// Marks are how long before a deadline of a kind its reminders come, the earliest first.
func Marks(kind string) []time.Duration {
	switch kind {
	case CureBy, ChangesDue, RenewalDue, ProtectionEnd:
		return []time.Duration{30 * day, 7 * day, day}
	case ReviewDue: // the reviewers' to meet: who applied needs no month's warning
		return []time.Duration{7 * day, day}
	}
	return nil
}
