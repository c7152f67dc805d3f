package international

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// moveChartersWith puts charters AT_RISK whose chapters fell below the line, and back whose chapters rose again.
func (s *Service) moveChartersWith(ctx context.Context, tx pgx.Tx, all []moved, now time.Time) error {
	crossed := map[int64]moved{}
	var numbers []int64
	for _, m := range all {
		if m.before.Eligible != m.after.Eligible {
			crossed[m.after.ChapterNo] = m
			numbers = append(numbers, m.after.ChapterNo)
		}
	}
	if len(crossed) == 0 {
		return nil
	}
	rows, err := db.New(tx).ChartersForUpdate(ctx, numbers)
	if err != nil {
		return fmt.Errorf("lock charters: %w", err)
	}
	cases := make([]*charterCase, 0, len(rows))
	for _, row := range rows {
		m := crossed[row.ChapterNo]
		c := &charterCase{service: s, tx: tx, charter: row, policy: m.policy, now: now, standing: viewStanding(m.chapter, m.after, m.policy)}
		if err := c.follow(); err != nil {
			return err
		}
		cases = append(cases, c)
	}
	return record(ctx, tx, cases...)
}

// follows is the state to which a charter moves by itself when its chapter is on this side of the line.
func follows(charter db.Charter, eligible bool) string {
	switch {
	case eligible && charter.State == atRisk:
		return chartered
	case !eligible && charter.State == chartered && charter.OverrideUntilTime == nil:
		return atRisk
	}
	return charter.State
}

// follow moves a charter after its chapter crossed the line. What time has ended before, ends before.
func (c *charterCase) follow() error {
	if err := c.passDeadlines(); err != nil {
		return err
	}
	eligible := c.standing.GetEligible()
	state := c.charter.State
	switch to := follows(c.charter, eligible); {
	case to == chartered && state == atRisk:
		return c.rise()
	case to == atRisk && state == chartered:
		return c.fall(verbEligibilityLost)
	case state == charterSuspended && eligible:
		c.charter.EligibleTime = &c.now // staff will want to know
		return c.step(verbEligibilityRegained, charterSuspended, said{subject: system})
	case state == charterSuspended:
		c.charter.EligibleTime = nil
		return c.step(verbEligibilityLost, charterSuspended, said{subject: system})
	}
	return nil
}

// fall puts the charter AT_RISK, and the grace period on, with what is left of it.
func (c *charterCase) fall(verb string) error {
	c.startGrace(c.graceLeft())
	return c.step(verb, atRisk, said{subject: system, until: c.charter.CureByTime})
}

// startGrace begins a grace period.
func (c *charterCase) startGrace(left time.Duration) {
	cureBy := c.runsFrom().Add(left)
	ch := &c.charter
	ch.CureByTime, ch.CurePassed, ch.GraceLeftSeconds, ch.GraceWholeTime = &cureBy, false, nil, nil
}

// graceLeft is how long a chapter that falls below the line now may stay there: the whole grace period, unless it was
// there not long ago.
func (c *charterCase) graceLeft() time.Duration {
	whole := time.Duration(c.policy.GraceDays) * day
	ch := c.charter
	if ch.GraceLeftSeconds == nil || ch.GraceWholeTime == nil || !c.now.Before(*ch.GraceWholeTime) {
		return whole
	}
	return min(whole, time.Duration(*ch.GraceLeftSeconds)*time.Second)
}

// rise ends the grace period. What is left of it is kept until the chapter has been eligible for long enough.
func (c *charterCase) rise() error {
	ch := &c.charter
	left := int64(0)
	if from := c.runsFrom(); ch.CureByTime != nil && ch.CureByTime.After(from) {
		left = int64(ch.CureByTime.Sub(from) / time.Second)
	}
	whole := c.now.AddDate(0, 0, int(c.policy.RecoveryDays))
	ch.GraceLeftSeconds, ch.GraceWholeTime = &left, &whole
	ch.CureByTime, ch.CurePassed = nil, false
	return c.step(verbEligibilityRegained, chartered, said{subject: system})
}

// endGrace does what the policy says when the grace period is over: staff are to look, or the charter is suspended.
func (c *charterCase) endGrace() error {
	at := c.charter.CureByTime
	if c.policy.GraceEnd == internationalv1.CharterPolicy_SUSPEND.String() {
		c.forgetGrace()
		return c.step(verbGraceEnded, charterSuspended, itself(at, internationalv1.Charter_GRACE_ENDED))
	}
	c.charter.CurePassed = true
	return c.step(verbGraceEnded, atRisk, itself(at, internationalv1.Charter_GRACE_ENDED))
}

func (c *charterCase) forgetGrace() {
	ch := &c.charter
	ch.CureByTime, ch.CurePassed, ch.GraceLeftSeconds, ch.GraceWholeTime, ch.EligibleTime = nil, false, nil, nil, nil
}
