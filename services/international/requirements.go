package international

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// demands are what a chapter is held against. The query ReviewQueue judges the same; TestQueueKnowsBlockers holds one
// against the other.
type demands struct {
	// The policy by which the standing was judged, and the one in force, which says the rest.
	judged, inForce db.Policy
	standing        db.Standing
	// Nil where the chapter's site has not told.
	officers *int32
	// When something on the lists last changed; nil where nothing has.
	changed *time.Time
	now     time.Time
}

// requirements are all that the policy asks for.
func (d demands) requirements() []*internationalv1.CharterRequirement {
	return append(d.figures(), d.beside()...)
}

// beside is what is asked for beside the figures.
func (d demands) beside() (all []*internationalv1.CharterRequirement) {
	if d.inForce.MinimumOfficers > 0 {
		all = append(all, d.officersRequired())
	}
	if d.inForce.ActivityDays > 0 {
		all = append(all, d.activityRequired())
	}
	return all
}

// blockers are the requirements that are not met.
func (d demands) blockers() []internationalv1.CharterRequirement_Kind {
	var missing []internationalv1.CharterRequirement_Kind
	for _, r := range d.requirements() {
		if !r.GetMet() {
			missing = append(missing, r.GetRequirement())
		}
	}
	return missing
}

// figures are what is asked of the basis on which the chapter is eligible, or nearest to it.
func (d demands) figures() []*internationalv1.CharterRequirement {
	v := judgeRow(d.judged, d.standing)
	rule := basisRule{int64(d.judged.ThresholdPercent), int64(d.judged.MinimumMembership), d.judged.AllowMembership}
	figures := people{d.standing.MembershipTotal, d.standing.MembershipInternational}
	if v.gapBasis == internationalv1.Basis_MAILING {
		rule = basisRule{int64(d.judged.ThresholdPercent), int64(d.judged.MinimumMailing), d.judged.AllowMailing}
		figures = people{d.standing.MailingTotal, d.standing.MailingInternational}
	}
	threshold := &internationalv1.CharterRequirement{
		Requirement: internationalv1.CharterRequirement_THRESHOLD, Basis: v.gapBasis,
		Met: figures.total > 0 && int64(figures.international) >= rule.need(figures), Have: &figures.international,
		Want: int32(max(rule.need(figures), 1)),
	}
	enough := &internationalv1.CharterRequirement{
		Requirement: internationalv1.CharterRequirement_MINIMUM_PEOPLE, Basis: v.gapBasis,
		Met: int64(figures.total) >= rule.floor(), Have: &figures.total, Want: int32(rule.floor()),
	}
	if !threshold.GetMet() {
		threshold.Remedy = gapRemedy(v)
	}
	if !enough.GetMet() {
		enough.Remedy = fmt.Sprintf("%d more people on the %s basis.", enough.GetWant()-enough.GetHave(), v.gapBasis)
	}
	return []*internationalv1.CharterRequirement{threshold, enough}
}

func gapRemedy(v verdict) string {
	switch {
	case v.convert != nil && v.recruit != nil:
		return fmt.Sprintf("%d of its people would have to join, or %d newcomers who are members.", *v.convert, *v.recruit)
	case v.convert != nil:
		return fmt.Sprintf("%d of its people would have to join.", *v.convert)
	case v.recruit != nil:
		return fmt.Sprintf("%d newcomers who are members.", *v.recruit)
	}
	return "More people, all of them members."
}

func (d demands) officersRequired() *internationalv1.CharterRequirement {
	r := &internationalv1.CharterRequirement{
		Requirement: internationalv1.CharterRequirement_MINIMUM_OFFICERS, Have: d.officers, Want: d.inForce.MinimumOfficers,
	}
	if r.Met = r.GetHave() >= r.GetWant(); !r.GetMet() {
		r.Remedy = fmt.Sprintf("%d more officers.", r.GetWant()-r.GetHave())
	}
	return r
}

func (d demands) activityRequired() *internationalv1.CharterRequirement {
	r := &internationalv1.CharterRequirement{Requirement: internationalv1.CharterRequirement_ACTIVITY, Want: d.inForce.ActivityDays}
	if d.changed != nil {
		days := int32(d.now.Sub(*d.changed) / day)
		r.Have, r.Met = &days, !d.changed.Before(d.activeSince())
	}
	if !r.GetMet() {
		r.Remedy = "Bring the chapter's lists up to date: a sync or an edit that adds or removes somebody."
	}
	return r
}

// activeSince is since when something must have changed.
func (d demands) activeSince() time.Time { return d.now.AddDate(0, 0, -int(d.inForce.ActivityDays)) }

// requireRest refuses a chapter that lacks what the policy asks for beside the figures.
func (c *charterCase) requireRest(ctx context.Context) error {
	if c.policy.MinimumOfficers == 0 && c.policy.ActivityDays == 0 {
		return nil
	}
	q := db.New(c.tx)
	chapter, err := q.ReadChapter(ctx, c.charter.ChapterID)
	if err != nil {
		return fmt.Errorf("read chapters/%s: %w", c.charter.ChapterID, err)
	}
	changed, err := activity(ctx, q, []int64{chapter.ChapterNo})
	if err != nil {
		return err
	}
	for _, r := range (demands{inForce: c.policy, officers: chapter.Officers, changed: changed[chapter.ChapterNo], now: c.now}).beside() {
		if r.GetMet() {
			continue
		}
		refusal := rpc.Precondition(errorv1.Reason_REASON_REQUIREMENT_MISSING, "chapters/%s lacks what the policy asks for: %s", c.charter.ChapterID, r.GetRemedy()).
			With("requirement", r.GetRequirement()).With("want", r.GetWant()).With("remedy", r.GetRemedy())
		if r.Have != nil {
			refusal = refusal.With("have", r.GetHave())
		}
		return refusal
	}
	return nil
}

// dateOf is the day on which a time lies, in UTC.
func dateOf(t time.Time) pgtype.Date { return pgtype.Date{Time: t.UTC(), Valid: true} }
