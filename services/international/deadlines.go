package international

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// How deadlines run.
//
// Each is a time on the charter's row, and next_time the first of those that have not been seen to. A job looks for rows
// whose next_time has come, thousands at a time, and every verb sees to a charter's deadlines before it does anything else:
// so a charter is never read for a decision in a state that time has ended, however late the job is.
//
// A protection puts all others off when it is set, by as much as it lasts, and brings them back when it is lifted early;
// what begins while it stands, begins at its end. So nothing has to be stopped or resumed.

// deadline is a time at which something happens to a charter by itself.
type deadline struct {
	at   *time.Time
	pass func(*charterCase) error
}

// deadlines are those that stand and were not seen to. What is set, is set only in states in which it can pass.
func deadlines(ch db.Charter) []deadline {
	all := []deadline{
		{ch.ClaimExpireTime, (*charterCase).expireClaim},
		{ch.ChangesDueTime, (*charterCase).endWaitForChanges},
		{ch.OverrideUntilTime, (*charterCase).endOverride},
		{ch.ProtectUntilTime, (*charterCase).endProtection},
	}
	if !ch.ReviewPassed {
		all = append(all, deadline{ch.ReviewDueTime, (*charterCase).noteReviewOverdue})
	}
	if !ch.CurePassed {
		all = append(all, deadline{ch.CureByTime, (*charterCase).endGrace})
	}
	if !ch.RenewalPassed {
		all = append(all, deadline{ch.RenewalDueTime, (*charterCase).noteRenewalOverdue})
	}
	return all
}

// next is the first deadline; its time is nil where there is none.
func next(ch db.Charter) deadline {
	var first deadline
	for _, d := range deadlines(ch) {
		if d.at != nil && (first.at == nil || d.at.Before(*first.at)) {
			first = d
		}
	}
	return first
}

func (c *charterCase) nextTime() *time.Time { return next(c.charter).at }

// passDeadlines lets happen what should have happened by now, in the order of the times.
func (c *charterCase) passDeadlines() error {
	for {
		d := next(c.charter)
		if d.at == nil || d.at.After(c.now) {
			return nil
		}
		if err := d.pass(c); err != nil {
			return err
		}
	}
}

// itself is what a history says of what happens by itself when a time comes.
func itself(at *time.Time, reasons ...internationalv1.Charter_Reason) said {
	words := said{subject: system, until: at}
	for _, reason := range reasons {
		words.reasons = append(words.reasons, reason.String())
	}
	return words
}

func (c *charterCase) expireClaim() error {
	at := c.charter.ClaimExpireTime
	c.charter.Reviewer, c.charter.ClaimExpireTime = "", nil
	return c.step(verbClaimExpired, applied, itself(at))
}

func (c *charterCase) endWaitForChanges() error {
	at := c.charter.ChangesDueTime
	return c.goBack(verbChangesOverdue, itself(at))
}

func (c *charterCase) endOverride() error {
	at := c.charter.OverrideUntilTime
	c.charter.OverrideUntilTime = nil
	if c.standing.GetEligible() {
		return c.step(verbOverrideEnded, chartered, itself(at))
	}
	return c.fall(verbOverrideEnded)
}

func (c *charterCase) endProtection() error {
	at := c.charter.ProtectUntilTime
	c.charter.ProtectUntilTime, c.charter.ProtectReason = nil, ""
	return c.step(verbProtectionEnded, c.charter.State, itself(at))
}

func (c *charterCase) noteReviewOverdue() error {
	c.charter.ReviewPassed = true
	return c.step(verbReviewOverdue, c.charter.State, itself(c.charter.ReviewDueTime))
}

func (c *charterCase) noteRenewalOverdue() error {
	c.charter.RenewalPassed = true
	return c.step(verbRenewalOverdue, c.charter.State, itself(c.charter.RenewalDueTime))
}

// runsFrom is when a deadline that is set now begins to run: not before a protection ends.
func (c *charterCase) runsFrom() time.Time {
	if until := c.charter.ProtectUntilTime; until != nil && until.After(c.now) {
		return *until
	}
	return c.now
}

// dueIn is so many days after that.
func (c *charterCase) dueIn(days int32) *time.Time {
	due := c.runsFrom().AddDate(0, 0, int(days))
	return &due
}

// protectUntil sets or moves the end of a protection, or lifts it, and puts all deadlines that have not passed off by as
// much. A claim is the reviewer's business, and runs on.
func (c *charterCase) protectUntil(until *time.Time) {
	ch := &c.charter
	before := c.runsFrom()
	ch.ProtectUntilTime = until
	shift := c.runsFrom().Sub(before)
	for _, d := range []struct {
		at     **time.Time
		passed bool
	}{
		{&ch.ReviewDueTime, ch.ReviewPassed},
		{&ch.ChangesDueTime, false},
		{&ch.CureByTime, ch.CurePassed},
		{&ch.RenewalDueTime, ch.RenewalPassed},
		{&ch.OverrideUntilTime, false},
	} {
		if *d.at != nil && !d.passed {
			moved := (*d.at).Add(shift)
			*d.at = &moved
		}
	}
}

// taskOf is what of a charter waits for staff, and since when; of several, what has waited longest.
func taskOf(ch db.Charter) (string, *time.Time) {
	var task internationalv1.Charter_Task
	var since *time.Time
	waits := func(what internationalv1.Charter_Task, from *time.Time) {
		if from != nil && (since == nil || from.Before(*since)) {
			task, since = what, from
		}
	}
	switch {
	case ch.State == applied || ch.State == inReview:
		what := internationalv1.Charter_DECISION
		if ch.FirstApproval != nil {
			what = internationalv1.Charter_SECOND_APPROVAL
		}
		waits(what, ch.HandInTime)
	case inForce(ch.State):
		if ch.CurePassed {
			waits(internationalv1.Charter_GRACE_OVER, ch.CureByTime)
		}
		if ch.RenewalPassed {
			waits(internationalv1.Charter_RENEWAL, ch.RenewalDueTime)
		}
		waits(internationalv1.Charter_RENEWAL, ch.RenewalRequestTime)
		waits(internationalv1.Charter_REINSTATEMENT, ch.EligibleTime)
	}
	if since == nil {
		return "", nil
	}
	return task.String(), since
}

// deadlineArgs is the job that sees to deadlines that have passed.
type deadlineArgs struct{}

// Kind names the job in the queue.
func (deadlineArgs) Kind() string { return "charter_deadlines" }

type deadlineWorker struct {
	river.WorkerDefaults[deadlineArgs]
	service *Service
}

// Work sees to all deadlines that have passed by now.
func (w *deadlineWorker) Work(ctx context.Context, _ *river.Job[deadlineArgs]) error {
	n, err := w.service.passAllDeadlines(ctx)
	if n > 0 {
		w.service.log.InfoContext(ctx, "deadlines passed", "charters", n)
	}
	return err
}

// Timeout is more than enough for 20,000 charters whose deadlines pass at once, which take some seconds.
func (w *deadlineWorker) Timeout(*river.Job[deadlineArgs]) time.Duration { return 10 * time.Minute }

// deadlineBatch is how many charters one transaction sees to.
const deadlineBatch = 500

// passAllDeadlines sees to the deadlines of all charters, and returns of how many. Another replica may do the same at the
// same time: who comes second finds nothing left of what the first has done. A process that dies leaves what it has not
// committed to the next.
func (s *Service) passAllDeadlines(ctx context.Context) (int, error) {
	for total := 0; ; {
		found, err := db.New(s.pool).ChaptersPastDeadline(ctx, db.ChaptersPastDeadlineParams{Now: s.clock.Now(), Size: deadlineBatch})
		if err != nil {
			return total, fmt.Errorf("look for deadlines: %w", err)
		}
		if len(found) == 0 {
			return total, nil
		}
		n, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (int, error) { return s.passDeadlinesOf(ctx, tx, found) })
		total += n
		if err != nil {
			return total, fmt.Errorf("see to %d deadlines: %w", len(found), err)
		}
		s.publisher.Wake()
	}
}

func (s *Service) passDeadlinesOf(ctx context.Context, tx pgx.Tx, chapterNos []int64) (int, error) {
	q := db.New(tx)
	now := s.clock.Now()
	standings, err := q.StandingsOfChapters(ctx, chapterNos)
	if err != nil {
		return 0, fmt.Errorf("lock standings: %w", err)
	}
	policy, err := q.PolicyInForce(ctx, now)
	if err != nil {
		return 0, fmt.Errorf("read the policy: %w", err)
	}
	rows, err := q.ChartersPastDeadline(ctx, db.ChartersPastDeadlineParams{ChapterNos: chapterNos, Now: now})
	if err != nil {
		return 0, fmt.Errorf("lock charters: %w", err)
	}
	stands := map[int64]*internationalv1.Standing{}
	for _, row := range standings {
		stands[row.Standing.ChapterNo] = viewStanding(row.ChapterID, row.Standing, row.Policy)
	}
	cases := make([]*charterCase, 0, len(rows))
	for _, row := range rows {
		c := &charterCase{service: s, tx: tx, charter: row, standing: stands[row.ChapterNo], policy: policy, now: now}
		if err := c.passDeadlines(); err != nil {
			return 0, err
		}
		cases = append(cases, c)
	}
	return len(cases), record(ctx, tx, cases...)
}
