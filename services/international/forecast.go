package international

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// defaultForecastDays is how far a forecast looks.
const defaultForecastDays = 90

// outlook is what is known of a standing's future: when memberships end, and which policy is in force when.
type outlook struct {
	standing db.Standing
	// The one that the standing is judged by, and those that are to come, by number and so by time.
	policies []db.Policy
	// In the order of time.
	ends []db.EndsAheadRow
}

func readOutlook(ctx context.Context, tx pgx.Tx, row db.ReadStandingRow, now time.Time) (outlook, error) {
	q, o := db.New(tx), outlook{standing: row.Standing, policies: []db.Policy{row.Policy}}
	later, err := q.PoliciesAfter(ctx, db.PoliciesAfterParams{After: row.Policy.Revision, Size: 1000})
	if err != nil {
		return o, fmt.Errorf("read the scheduled policies: %w", err)
	}
	for _, policy := range later {
		if policy.WithdrawTime == nil {
			o.policies = append(o.policies, policy)
		}
	}
	lists, err := listsToCount(ctx, tx, row.ChapterID)
	if err != nil {
		return o, err
	}
	if o.ends, err = q.EndsAhead(ctx, lists); err != nil {
		return o, fmt.Errorf("read the terms that end: %w", err)
	}
	for i := range o.ends { // what has ended and has not lapsed yet does so in a moment
		if o.ends[i].At.Before(now) {
			o.ends[i].At = now
		}
	}
	return o, nil
}

// listsToCount are a chapter's lists, for a query that walks over all that is on them. A plan for a list of a hundred would be
// a disaster for one of a million, and the other way round, so each query gets one of its own: that takes half a millisecond.
func listsToCount(ctx context.Context, tx pgx.Tx, chapter string) ([]int64, error) {
	if _, err := tx.Exec(ctx, "SET LOCAL plan_cache_mode = force_custom_plan"); err != nil {
		return nil, err
	}
	rows, err := db.New(tx).ListsOfChapter(ctx, chapter)
	if err != nil {
		return nil, fmt.Errorf("read the lists of %s: %w", chapter, err)
	}
	numbers := make([]int64, 0, len(rows))
	for _, row := range rows {
		numbers = append(numbers, row.ListNo)
	}
	return numbers, nil
}

// walk calls step at every instant at which something happens, in order, with the standing as it is from then on and the
// policy that is in force; until step returns false.
func (o outlook) walk(step func(at time.Time, ended [2]int32, after db.Standing, policy db.Policy) bool) {
	standing, policies, ends := o.standing, o.policies, o.ends
	for len(ends) > 0 || len(policies) > 1 {
		var at time.Time
		switch {
		case len(ends) == 0:
			at = policies[1].EffectiveTime
		case len(policies) == 1:
			at = ends[0].At
		default:
			at = slices.MinFunc([]time.Time{ends[0].At, policies[1].EffectiveTime}, time.Time.Compare)
		}
		var ended [2]int32
		for len(ends) > 0 && !ends[0].At.After(at) {
			if ends[0].Basis == int16(internationalv1.Basis_MEMBERSHIP) {
				ended[0] += ends[0].Ending
			} else {
				ended[1] += ends[0].Ending
			}
			ends = ends[1:]
		}
		for len(policies) > 1 && !policies[1].EffectiveTime.After(at) {
			policies = policies[1:]
		}
		standing.MembershipInternational -= ended[0]
		standing.MailingInternational -= ended[1]
		if !step(at, ended, standing, policies[0]) {
			return
		}
	}
}

// lossTime is when eligibility would be lost if nobody renewed; nil when it is lost already or would not be.
func (o outlook) lossTime() *timestamppb.Timestamp {
	if !judgeRow(o.policies[0], o.standing).eligible {
		return nil
	}
	var lost *timestamppb.Timestamp
	o.walk(func(at time.Time, _ [2]int32, after db.Standing, policy db.Policy) bool {
		if !judgeRow(policy, after).eligible {
			lost = timestamppb.New(at)
		}
		return lost == nil
	})
	return lost
}

// days are the days until the horizon on which something happens.
func (o outlook) days(horizon time.Time) []*internationalv1.ForecastDay {
	days := []*internationalv1.ForecastDay{}
	o.walk(func(at time.Time, ended [2]int32, after db.Standing, policy db.Policy) bool {
		if at.After(horizon) {
			return false
		}
		date := at.UTC().Format(time.DateOnly)
		if len(days) == 0 || days[len(days)-1].GetDate() != date {
			days = append(days, &internationalv1.ForecastDay{Date: date})
		}
		today := days[len(days)-1]
		today.EndingMembership += ended[0]
		today.EndingMailing += ended[1]
		today.After = viewStandingDay(at, after, policy)
		today.RenewAtLeast, today.RenewBasis = o.renewals(after, policy)
		return true
	})
	return days
}

// renewals is how many of those whose membership has ended by then would have to renew for the chapter to be eligible, on
// the basis on which that is fewest; membership on a tie. Nil when none need to, and when all of them would not do.
func (o outlook) renewals(after db.Standing, policy db.Policy) (*int32, internationalv1.Basis) {
	v := judgeRow(policy, after)
	if v.eligible {
		return nil, internationalv1.Basis_BASIS_UNSPECIFIED
	}
	type choice struct {
		renew int32
		basis internationalv1.Basis
	}
	var choices []choice
	membership, mailing := rules(policy)
	for _, on := range []struct {
		rule     basisRule
		now      people
		original int32
		basis    internationalv1.Basis
	}{
		{membership, people{after.MembershipTotal, after.MembershipInternational}, o.standing.MembershipInternational, internationalv1.Basis_MEMBERSHIP},
		{mailing, people{after.MailingTotal, after.MailingInternational}, o.standing.MailingInternational, internationalv1.Basis_MAILING},
	} {
		renew := on.rule.convert(on.now)
		if on.rule.allowed && renew != nil && *renew <= on.original-on.now.international {
			choices = append(choices, choice{*renew, on.basis})
		}
	}
	if len(choices) == 0 {
		return nil, internationalv1.Basis_BASIS_UNSPECIFIED
	}
	fewest := slices.MinFunc(choices, func(a, b choice) int { return cmp.Compare(a.renew, b.renew) })
	return &fewest.renew, fewest.basis
}

// ForecastStanding says what becomes of a standing by itself.
func (s *Service) ForecastStanding(ctx context.Context, req *internationalv1.ForecastStandingRequest) (*internationalv1.StandingForecast, error) {
	chapter := idOf(req.GetName())
	if err := s.knowChapter(ctx, chapter); err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.StandingForecast, error) {
		q, now := db.New(tx), s.clock.Now()
		row, err := q.ReadStanding(ctx, chapter)
		if err != nil {
			return nil, fmt.Errorf("read the standing of %s: %w", chapter, err)
		}
		o, err := readOutlook(ctx, tx, row, now)
		if err != nil {
			return nil, err
		}
		standing, err := viewLive(ctx, q, row)
		if err != nil {
			return nil, err
		}
		standing.ForecastLossTime = o.lossTime()
		horizon := now.Add(time.Duration(orElse(req.GetDays(), defaultForecastDays)) * day)
		return &internationalv1.StandingForecast{Standing: standing, Days: o.days(horizon), HorizonTime: timestamppb.New(horizon)}, nil
	})
}

// SimulateStanding says what the standing would be if so many people came, joined or left.
func (s *Service) SimulateStanding(ctx context.Context, req *internationalv1.SimulateStandingRequest) (*internationalv1.SimulateStandingResponse, error) {
	chapter := idOf(req.GetName())
	if err := s.knowChapter(ctx, chapter); err != nil {
		return nil, err
	}
	row, err := db.New(s.pool).ReadStanding(ctx, chapter)
	if err != nil {
		return nil, fmt.Errorf("read the standing of %s: %w", chapter, err)
	}
	after := row.Standing
	for _, on := range []struct {
		basis                internationalv1.Basis
		total, international *int32
	}{
		{internationalv1.Basis_MEMBERSHIP, &after.MembershipTotal, &after.MembershipInternational},
		{internationalv1.Basis_MAILING, &after.MailingTotal, &after.MailingInternational},
	} {
		if req.GetBasis() != internationalv1.Basis_BASIS_UNSPECIFIED && req.GetBasis() != on.basis {
			continue
		}
		if err := suppose(req, on.basis, on.total, on.international); err != nil {
			return nil, err
		}
	}
	answer := &internationalv1.SimulateStandingResponse{
		Before: viewStanding(chapter, row.Standing, row.Policy), After: viewStanding(chapter, after, row.Policy),
	}
	answer.After.Etag, answer.After.UpdateTime = "", nil // it has not happened
	return answer, nil
}

// suppose moves the figures of one basis as the request has it, and refuses what cannot be: that more people leave or join
// than there are.
func suppose(req *internationalv1.SimulateStandingRequest, basis internationalv1.Basis, total, international *int32) error {
	members, others := int64(*international), int64(*total-*international)
	for _, limit := range []struct {
		field      string
		wants, has int64
		who        string
	}{
		{"departuresMembers", int64(req.GetDeparturesMembers()), members, "members"},
		{"departuresOthers", int64(req.GetDeparturesOthers()), others, "others"},
		{"lapses", int64(req.GetLapses()), members - int64(req.GetDeparturesMembers()), "members who stay"},
		{"conversions", int64(req.GetConversions()), others - int64(req.GetDeparturesOthers()) + int64(req.GetNewcomersOthers()), "others who stay or come"},
	} {
		if limit.wants > limit.has {
			return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, limit.field, "must be at most %d, which is how many %s there are on the %s basis", limit.has, limit.who, basis)
		}
	}
	members += int64(req.GetNewcomersMembers()) + int64(req.GetConversions()) - int64(req.GetDeparturesMembers()) - int64(req.GetLapses())
	others += int64(req.GetNewcomersOthers()) - int64(req.GetConversions()) - int64(req.GetDeparturesOthers()) + int64(req.GetLapses())
	*international, *total = int32(members), int32(members+others)
	return nil
}
