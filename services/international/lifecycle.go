package international

import (
	"maps"
	"slices"
)

// The states of a charter. A concern, too, is withdrawn.
const (
	noCharter        = ""
	applied          = "APPLIED"
	inReview         = "IN_REVIEW"
	changesRequested = "CHANGES_REQUESTED"
	chartered        = "CHARTERED"
	declined         = "DECLINED"
	withdrawn        = "WITHDRAWN"
	atRisk           = "AT_RISK"
	charterSuspended = "SUSPENDED"
	revoked          = "REVOKED"
	surrendered      = "SURRENDERED"
)

// charterStates are all states, in the order in which the documentation shows them.
var charterStates = []string{
	noCharter, applied, inReview, changesRequested, chartered, atRisk, charterSuspended, declined, withdrawn, revoked, surrendered,
}

// party is who may use a verb: the chapter, staff, both, or nobody, since it happens by itself.
type party string

const (
	theChapter party = "the chapter"
	staffOnly  party = "staff"
	bothSides  party = "the chapter asks, staff give"
	byItself   party = "by itself"
)

// The verbs, as the API and the history name them.
const (
	verbApply          = "apply"
	verbClaim          = "claim"
	verbRelease        = "release"
	verbRequestChanges = "requestChanges"
	verbResubmit       = "resubmit"
	verbApprove        = "approve"
	verbDecline        = "decline"
	verbWithdraw       = "withdraw"
	verbSuspend        = "suspend"
	verbReinstate      = "reinstate"
	verbRevoke         = "revoke"
	verbSurrender      = "surrender"
	verbRenew          = "renew"
	verbProtect        = "protect"
	verbUnprotect      = "unprotect"

	verbEligibilityLost     = "eligibilityLost"
	verbEligibilityRegained = "eligibilityRegained"
	verbClaimExpired        = "claimExpired"
	verbReviewOverdue       = "reviewOverdue"
	verbChangesOverdue      = "changesOverdue"
	verbGraceEnded          = "graceEnded"
	verbRenewalOverdue      = "renewalOverdue"
	verbOverrideEnded       = "overrideEnded"
	verbProtectionEnded     = "protectionEnded"
)

// transitionRule is a row of the table: what a verb does in each state in which it is allowed. Of several next states the
// remark says which.
type transitionRule struct {
	verb   string
	by     party
	next   map[string][]string
	remark string
}

// lifecycle is the whole of what can happen to a charter. Nothing moves one but through it, and docs/charters.md is written
// from it.
var lifecycle = []transitionRule{
	{
		verbApply, theChapter, leads([]string{applied}, noCharter, declined, withdrawn, revoked, surrendered),
		"once the waiting time is over",
	},
	{verbClaim, staffOnly, leads([]string{inReview}, applied, inReview), "again: prolongs; another's claim only when it ran out"},
	{verbRelease, staffOnly, leads([]string{applied}, inReview), "by who holds the claim"},
	{verbRequestChanges, staffOnly, leads([]string{changesRequested}, applied, inReview), ""},
	{verbResubmit, theChapter, leads([]string{applied, inReview}, changesRequested), "back to where it came from"},
	{
		verbApprove, staffOnly, leads([]string{chartered, applied}, applied, inReview),
		"eligible or overridden; APPLIED while the policy asks for a second approval that is missing",
	},
	{verbDecline, staffOnly, leads([]string{declined}, applied, inReview), ""},
	{verbWithdraw, theChapter, leads([]string{withdrawn}, applied, inReview, changesRequested), ""},
	{verbSuspend, staffOnly, leads([]string{charterSuspended}, chartered, atRisk), ""},
	{verbReinstate, staffOnly, leads([]string{chartered, atRisk}, charterSuspended), "by which side of the line the chapter is on"},
	{verbRevoke, staffOnly, leads([]string{revoked}, chartered, atRisk, charterSuspended), ""},
	{verbSurrender, theChapter, leads([]string{surrendered}, chartered, atRisk, charterSuspended), ""},
	{verbRenew, bothSides, stays(chartered, atRisk, charterSuspended), "where the policy has renewals"},
	{verbProtect, staffOnly, stays(applied, inReview, changesRequested, chartered, atRisk, charterSuspended), ""},
	{
		verbUnprotect, staffOnly, stays(applied, inReview, changesRequested, chartered, atRisk, charterSuspended),
		"where a protection stands",
	},
	{
		verbEligibilityLost, byItself, merge(leads([]string{atRisk}, chartered), stays(charterSuspended)),
		"not while an override stands",
	},
	{verbEligibilityRegained, byItself, merge(leads([]string{chartered}, atRisk), stays(charterSuspended)), "staff reinstate what is suspended"},
	{verbClaimExpired, byItself, leads([]string{applied}, inReview), ""},
	{verbReviewOverdue, byItself, stays(applied, inReview), ""},
	{verbChangesOverdue, byItself, leads([]string{applied, inReview}, changesRequested), "back to where it came from, to be decided on as it is"},
	{verbGraceEnded, byItself, leads([]string{atRisk, charterSuspended}, atRisk), "as the policy says"},
	{verbRenewalOverdue, byItself, stays(chartered, atRisk, charterSuspended), ""},
	{verbOverrideEnded, byItself, leads([]string{chartered, atRisk}, chartered), "as the figures say"},
	{verbProtectionEnded, byItself, stays(applied, inReview, changesRequested, chartered, atRisk, charterSuspended), ""},
}

// leads is a rule by which each of the states is followed by one of next.
func leads(next []string, states ...string) map[string][]string {
	rule := map[string][]string{}
	for _, state := range states {
		rule[state] = next
	}
	return rule
}

// stays is a rule by which each of the states is followed by itself.
func stays(states ...string) map[string][]string {
	rule := map[string][]string{}
	for _, state := range states {
		rule[state] = []string{state}
	}
	return rule
}

func merge(one, other map[string][]string) map[string][]string {
	maps.Copy(one, other)
	return one
}

// nextStates are the states that a verb may lead to; none where it is not allowed.
func nextStates(state, verb string) []string {
	for _, rule := range lifecycle {
		if rule.verb == verb {
			return rule.next[state]
		}
	}
	return nil
}

// verbsIn lists the verbs that a state allows, without those that happen by themselves.
func verbsIn(state string) []string {
	var verbs []string
	for _, rule := range lifecycle {
		if rule.by != byItself && len(rule.next[state]) > 0 {
			verbs = append(verbs, rule.verb)
		}
	}
	return verbs
}

// inForce says whether a charter is held, be it at risk or suspended.
func inForce(state string) bool {
	return slices.Contains([]string{chartered, atRisk, charterSuspended}, state)
}
