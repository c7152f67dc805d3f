package international

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// ClaimCharter takes the review, or prolongs the claim that one holds.
func (s *Service) ClaimCharter(ctx context.Context, req *internationalv1.ClaimCharterRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req, verbClaim, func(c *charterCase) (*internationalv1.Charter, error) {
		before := c.charter.ClaimExpireTime
		c.claim(caller(ctx))
		if before != nil && !c.charter.ClaimExpireTime.After(*before) {
			return c.recorded(ctx) // claimed a moment ago
		}
		return c.transition(ctx, verbClaim, inReview, by(ctx, "").with(c.charter.ClaimExpireTime))
	})
}

func (c *charterCase) claim(subject string) {
	expires := c.now.Add(time.Duration(c.policy.ClaimHours) * time.Hour)
	c.charter.Reviewer, c.charter.ClaimExpireTime = subject, &expires
}

func (c *charterCase) unclaim() { c.charter.Reviewer, c.charter.ClaimExpireTime = "", nil }

// ReleaseCharter gives the review back.
func (s *Service) ReleaseCharter(ctx context.Context, req *internationalv1.ReleaseCharterRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req, verbRelease, func(c *charterCase) (*internationalv1.Charter, error) {
		c.unclaim()
		return c.transition(ctx, verbRelease, applied, by(ctx, ""))
	})
}

// RequestCharterChanges hands the application back to the chapter. The reviewer gets it again.
func (s *Service) RequestCharterChanges(ctx context.Context, req *internationalv1.RequestCharterChangesRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req, verbRequestChanges, func(c *charterCase) (*internationalv1.Charter, error) {
		asked, err := proto.Marshal(&internationalv1.ChangesRequest{
			Subject: caller(ctx), Reasons: req.GetReasons(), Note: req.GetNote(), RequestTime: timestamppb.New(c.now),
		})
		if err != nil {
			return nil, err
		}
		ch := &c.charter
		ch.Origin, ch.ChangesRequest, ch.FirstApproval = ch.State, asked, nil
		ch.ClaimExpireTime, ch.ReviewDueTime, ch.ReviewPassed = nil, nil, false
		ch.ChangesDueTime = c.dueIn(c.policy.ChangesDueDays)
		return c.transition(ctx, verbRequestChanges, changesRequested, by(ctx, req.GetNote(), req.GetReasons()...).with(ch.ChangesDueTime))
	})
}

// ResubmitCharter hands the application in again. The time for its review begins anew.
func (s *Service) ResubmitCharter(ctx context.Context, req *internationalv1.ResubmitCharterRequest) (*internationalv1.Charter, error) {
	return s.onCharter(ctx, req, verbResubmit, func(c *charterCase) (*internationalv1.Charter, error) {
		if err := c.goBack(verbResubmit, by(ctx, req.GetNote())); err != nil {
			return nil, err
		}
		return c.recorded(ctx)
	})
}

// goBack takes an application from CHANGES_REQUESTED to where it came from, and to the reviewer who held it.
func (c *charterCase) goBack(verb string, words said) error {
	ch := &c.charter
	to := orElse(ch.Origin, applied)
	ch.Origin, ch.ChangesDueTime, ch.HandInTime = "", nil, &c.now
	ch.ReviewDueTime = c.dueIn(c.policy.ReviewDueDays)
	if to == inReview {
		c.claim(ch.Reviewer)
	}
	return c.step(verb, to, words)
}

// ApproveCharter charters the chapter on the figures the reviewer saw.
// A standing that moved since then aborts, so that nobody approves what they did not read.
func (s *Service) ApproveCharter(ctx context.Context, req *internationalv1.ApproveCharterRequest) (*internationalv1.Charter, error) {
	override := req.GetOverride()
	if override != nil && !holds(ctx, "charters.override") {
		return nil, rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "only who holds charters.override approves against the figures").
			With("permission", "charters.override").With("scope", authz.Federation)
	}
	return s.review(ctx, req, verbApprove, func(c *charterCase) (*internationalv1.Charter, error) {
		if rpc.CheckEtag(req.GetStandingEtag(), c.standing.GetEtag()) != nil {
			return nil, rpc.Aborted(errorv1.Reason_REASON_STANDING_MOVED, "the standing of %s changed since it was read; read it again, then decide again", c.charter.ChapterID).
				With("standingEtag", c.standing.GetEtag())
		}
		if override == nil && !c.standing.GetEligible() {
			return nil, notEligible(c.charter.ChapterID, c.standing)
		}
		if override == nil {
			if err := c.requireRest(ctx); err != nil {
				return nil, err
			}
		}
		if override != nil {
			if _, err := c.future(override.GetUntilTime(), "override.untilTime"); err != nil {
				return nil, err
			}
		}
		return c.approve(ctx, &internationalv1.CharterApproval{
			Subject: caller(ctx), Note: req.GetNote(), StandingEtag: c.standing.GetEtag(), ApproveTime: timestamppb.New(c.now), Override: override,
		})
	})
}

// approve charters, or records the first of two approvals. A first approval that was given on other figures, or against them
// where this one is not, counts no longer.
func (c *charterCase) approve(ctx context.Context, approval *internationalv1.CharterApproval) (*internationalv1.Charter, error) {
	first, err := unpack[internationalv1.CharterApproval](c.charter.FirstApproval)
	if err != nil {
		return nil, err
	}
	agrees := first != nil && first.GetStandingEtag() == approval.GetStandingEtag() &&
		proto.Equal(first.GetOverride().GetUntilTime(), approval.GetOverride().GetUntilTime())
	if c.policy.SecondApproval && !agrees {
		if c.charter.FirstApproval, err = proto.Marshal(approval); err != nil {
			return nil, err
		}
		c.unclaim() // somebody else has to come
		return c.transition(ctx, verbApprove, applied, by(ctx, approval.GetNote()))
	}
	if c.policy.SecondApproval && first.GetSubject() == approval.GetSubject() {
		return nil, rpc.Precondition(errorv1.Reason_REASON_SAME_APPROVER, "charters/%s has your approval already; another person has to give the second", c.charter.ChapterID).
			With("subject", first.GetSubject())
	}
	if !agrees {
		first = nil // of a time at which the policy asked for two
	}
	return c.charterOn(ctx, approval, first)
}

func (c *charterCase) charterOn(ctx context.Context, approval, first *internationalv1.CharterApproval) (*internationalv1.Charter, error) {
	c.endApplication()
	c.forgetGrace()
	ch := &c.charter
	ch.DecideTime, ch.ReapplyTime, ch.ChangesRequest, ch.OverrideUntilTime = &c.now, nil, nil, nil
	if c.policy.RenewalDays > 0 {
		ch.RenewalDueTime, ch.RenewalPassed = c.dueIn(c.policy.RenewalDays), false
	}
	words := by(ctx, approval.GetNote())
	if override := approval.GetOverride(); override != nil {
		until := override.GetUntilTime().AsTime()
		ch.OverrideUntilTime = &until
		words.note, words.until = orElse(words.note, override.GetReason()), &until
	}
	return c.decide(ctx, verbApprove, chartered, words, &internationalv1.CharterDecision{FirstApproval: first, Override: approval.GetOverride()})
}

// DeclineCharter declines the application; the chapter may apply again after the policy's waiting time, or the time given.
func (s *Service) DeclineCharter(ctx context.Context, req *internationalv1.DeclineCharterRequest) (*internationalv1.Charter, error) {
	return s.review(ctx, req, verbDecline, func(c *charterCase) (*internationalv1.Charter, error) {
		c.end()
		if err := c.reapplyFrom(req.GetReapplyTime()); err != nil {
			return nil, err
		}
		words := by(ctx, req.GetNote(), orElse(req.GetReason(), internationalv1.Charter_OTHER)).with(c.charter.ReapplyTime)
		return c.decide(ctx, verbDecline, declined, words, &internationalv1.CharterDecision{})
	})
}

// WithdrawCharter takes the application back.
func (s *Service) WithdrawCharter(ctx context.Context, req *internationalv1.WithdrawCharterRequest) (*internationalv1.Charter, error) {
	return s.onCharter(ctx, req, verbWithdraw, func(c *charterCase) (*internationalv1.Charter, error) {
		c.end()
		if err := c.reapplyFrom(nil); err != nil {
			return nil, err
		}
		return c.transition(ctx, verbWithdraw, withdrawn, by(ctx, req.GetNote()).with(c.charter.ReapplyTime))
	})
}

// review runs a reviewer's verb on an application that no other reviewer has claimed.
func (s *Service) review(ctx context.Context, req charterRequest, verb string, do func(*charterCase) (*internationalv1.Charter, error)) (*internationalv1.Charter, error) {
	return s.byStaff(ctx, req, verb, func(c *charterCase) (*internationalv1.Charter, error) {
		if c.charter.Reviewer != "" && c.charter.Reviewer != caller(ctx) {
			return nil, rpc.Precondition(errorv1.Reason_REASON_CLAIMED_BY_ANOTHER, "charters/%s is claimed by %s", c.charter.ChapterID, c.charter.Reviewer).
				With("reviewer", c.charter.Reviewer)
		}
		return do(c)
	})
}

func notEligible(chapter string, standing *internationalv1.Standing) error {
	gap := standing.GetGap()
	refusal := rpc.Precondition(errorv1.Reason_REASON_NOT_ELIGIBLE, "chapters/%s is below the line on the %s basis", chapter, standing.GetGapBasis())
	if gap.Convert != nil {
		refusal = rpc.Precondition(errorv1.Reason_REASON_NOT_ELIGIBLE, "chapters/%s is below the line: %d of its people would have to join", chapter, gap.GetConvert()).
			With("convert", gap.GetConvert())
	}
	if gap.Recruit != nil {
		refusal = refusal.With("recruit", gap.GetRecruit())
	}
	return refusal.With("basis", standing.GetGapBasis())
}

// decide records a decision with the figures that it rests on.
func (c *charterCase) decide(ctx context.Context, verb, to string, words said, decision *internationalv1.CharterDecision) (*internationalv1.Charter, error) {
	decision.Subject, decision.Note, decision.Reasons = words.subject, words.note, charterReasons(words.reasons)
	decision.DecideTime, decision.Standing, decision.PolicyRevision = timestamppb.New(c.now), c.standing, revision(c.policy)
	kept, err := proto.Marshal(decision)
	if err != nil {
		return nil, err
	}
	c.charter.Decision, c.charter.DecideTime = kept, &c.now
	return c.transition(ctx, verb, to, words)
}

// endApplication clears what an application has and a charter has not.
func (c *charterCase) endApplication() {
	c.unclaim()
	ch := &c.charter
	ch.Origin, ch.FirstApproval, ch.ReviewDueTime, ch.ReviewPassed, ch.ChangesDueTime = "", nil, nil, false, nil
}

// end clears whatever could still come to pass.
func (c *charterCase) end() {
	c.endApplication()
	c.forgetGrace()
	ch := &c.charter
	ch.RenewalDueTime, ch.RenewalPassed, ch.RenewalRequestTime = nil, false, nil
	ch.OverrideUntilTime, ch.ProtectUntilTime, ch.ProtectReason = nil, nil, ""
}

// reapplyFrom says when the chapter may apply again: after the policy's waiting time, unless a time is given.
func (c *charterCase) reapplyFrom(given *timestamppb.Timestamp) error {
	again := c.now.AddDate(0, 0, int(c.policy.ReapplyDays))
	c.charter.ReapplyTime = &again
	if given == nil {
		return nil
	}
	until, err := c.future(given, "reapplyTime")
	c.charter.ReapplyTime = &until
	return err
}

// maxDeadlineYears is how far away a time may lie that staff set.
const maxDeadlineYears = 10

// future is a time that lies in the future, and not too far.
func (c *charterCase) future(given *timestamppb.Timestamp, field string) (time.Time, error) {
	until := given.AsTime()
	latest := c.now.AddDate(maxDeadlineYears, 0, 0)
	if until.After(c.now) && !until.After(latest) {
		return until, nil
	}
	return until, rpc.Invalid(errorv1.Reason_REASON_DEADLINE_INVALID, field, "must be later than now and not more than %d years away", maxDeadlineYears).
		With("earliest", c.now.Format(time.RFC3339)).With("latest", latest.Format(time.RFC3339))
}

// recorded writes what has happened.
func (c *charterCase) recorded(ctx context.Context) (*internationalv1.Charter, error) {
	if err := record(ctx, c.tx, c); err != nil {
		return nil, err
	}
	return viewCharter(c.charter)
}

// holds says whether the caller holds a permission on the federation.
func holds(ctx context.Context, permission authz.Permission) bool {
	for _, scope := range authz.FromContext(ctx).Scopes(permission) {
		if scope == authz.Federation {
			return true
		}
	}
	return false
}
