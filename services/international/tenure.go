package international

import (
	"context"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// SuspendCharter suspends a charter. What the chapter does about it is not hindered.
func (s *Service) SuspendCharter(ctx context.Context, req *internationalv1.SuspendCharterRequest) (*internationalv1.Charter, error) {
	return s.byStaff(ctx, req, verbSuspend, func(c *charterCase) (*internationalv1.Charter, error) {
		c.forgetGrace()
		c.charter.OverrideUntilTime = nil
		return c.decide(ctx, verbSuspend, charterSuspended, by(ctx, req.GetNote(), req.GetReason()), &internationalv1.CharterDecision{})
	})
}

// ReinstateCharter ends a suspension. Below the line that is a new beginning, and a whole grace period.
func (s *Service) ReinstateCharter(ctx context.Context, req *internationalv1.ReinstateCharterRequest) (*internationalv1.Charter, error) {
	return s.byStaff(ctx, req, verbReinstate, func(c *charterCase) (*internationalv1.Charter, error) {
		c.forgetGrace()
		words, to := by(ctx, req.GetNote()), chartered
		if !c.standing.GetEligible() {
			c.startGrace(time.Duration(c.policy.GraceDays) * day)
			words, to = words.with(c.charter.CureByTime), atRisk
		}
		return c.decide(ctx, verbReinstate, to, words, &internationalv1.CharterDecision{})
	})
}

// RevokeCharter takes the charter away.
func (s *Service) RevokeCharter(ctx context.Context, req *internationalv1.RevokeCharterRequest) (*internationalv1.Charter, error) {
	return s.byStaff(ctx, req, verbRevoke, func(c *charterCase) (*internationalv1.Charter, error) {
		c.end()
		if err := c.reapplyFrom(req.GetReapplyTime()); err != nil {
			return nil, err
		}
		words := by(ctx, req.GetNote(), req.GetReason()).with(c.charter.ReapplyTime)
		return c.decide(ctx, verbRevoke, revoked, words, &internationalv1.CharterDecision{})
	})
}

// SurrenderCharter gives the charter back.
func (s *Service) SurrenderCharter(ctx context.Context, req *internationalv1.SurrenderCharterRequest) (*internationalv1.Charter, error) {
	return s.onCharter(ctx, req, verbSurrender, func(c *charterCase) (*internationalv1.Charter, error) {
		c.end()
		if err := c.reapplyFrom(nil); err != nil {
			return nil, err
		}
		return c.transition(ctx, verbSurrender, surrendered, by(ctx, req.GetNote()).with(c.charter.ReapplyTime))
	})
}

// RenewCharter asks for the renewal in the chapter's name, or gives it in the international body's.
func (s *Service) RenewCharter(ctx context.Context, req *internationalv1.RenewCharterRequest) (*internationalv1.Charter, error) {
	asks, err := s.actsFor(ctx, db.New(s.pool), idOf(req.GetName()))
	if err != nil {
		return nil, err
	}
	asks = asks || !holds(ctx, "charters.renew")
	return s.onCharter(ctx, req, verbRenew, func(c *charterCase) (*internationalv1.Charter, error) {
		if c.policy.RenewalDays == 0 {
			return nil, rpc.Precondition(errorv1.Reason_REASON_NO_RENEWALS, "charters are good for good: the policy in force has no renewals")
		}
		ch := &c.charter
		if asks {
			if ch.RenewalRequestTime == nil {
				ch.RenewalRequestTime = &c.now
			}
			return c.transition(ctx, verbRenew, ch.State, by(ctx, req.GetNote()))
		}
		due := *c.dueIn(c.policy.RenewalDays)
		if before := ch.RenewalDueTime; before != nil && !ch.RenewalPassed {
			due = before.AddDate(0, 0, int(c.policy.RenewalDays))
		}
		ch.RenewalDueTime, ch.RenewalPassed, ch.RenewalRequestTime = &due, false, nil
		return c.transition(ctx, verbRenew, ch.State, by(ctx, req.GetNote()).with(&due))
	})
}

// ProtectCharter lets no deadline run until a time.
func (s *Service) ProtectCharter(ctx context.Context, req *internationalv1.ProtectCharterRequest) (*internationalv1.Charter, error) {
	return s.byStaff(ctx, req, verbProtect, func(c *charterCase) (*internationalv1.Charter, error) {
		until, err := c.future(req.GetUntilTime(), "untilTime")
		if err != nil {
			return nil, err
		}
		c.protectUntil(&until)
		c.charter.ProtectReason = req.GetReason()
		return c.transition(ctx, verbProtect, c.charter.State, by(ctx, req.GetReason()).with(&until))
	})
}

// UnprotectCharter lets the deadlines run again.
func (s *Service) UnprotectCharter(ctx context.Context, req *internationalv1.UnprotectCharterRequest) (*internationalv1.Charter, error) {
	return s.byStaff(ctx, req, verbUnprotect, func(c *charterCase) (*internationalv1.Charter, error) {
		if c.charter.ProtectUntilTime == nil {
			return nil, rpc.Precondition(errorv1.Reason_REASON_NOT_PROTECTED, "charters/%s is not protected", c.charter.ChapterID)
		}
		c.protectUntil(nil)
		c.charter.ProtectReason = ""
		return c.transition(ctx, verbUnprotect, c.charter.State, by(ctx, req.GetNote()))
	})
}
