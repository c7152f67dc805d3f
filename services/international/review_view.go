package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// How much of what goes on for ever a review shows; the lists of their own show all of it.
const (
	reviewEntries = 100
	nearestCount  = 5
	trendDays     = 90
)

// GetCharterReview gathers what a reviewer needs to know, as of one moment.
func (s *Service) GetCharterReview(ctx context.Context, req *internationalv1.GetCharterReviewRequest) (*internationalv1.CharterReview, error) {
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.CharterReview, error) {
		r, err := s.openReview(ctx, tx, req.GetName())
		if err != nil {
			return nil, err
		}
		for _, add := range []func(context.Context) error{
			r.addFigures, r.addTrend, r.addAnomalies, r.addNearest, r.addHistory, r.addComments,
		} {
			if err := add(ctx); err != nil {
				return nil, fmt.Errorf("review %s: %w", req.GetName(), err)
			}
		}
		return r.view, nil
	})
}

// reviewing is a review on its way.
type reviewing struct {
	q        *db.Queries
	charter  db.Charter
	chapter  db.Chapter
	standing db.Standing
	judged   db.Policy
	internal bool
	now      time.Time
	view     *internationalv1.CharterReview
}

func (s *Service) openReview(ctx context.Context, tx pgx.Tx, name string) (*reviewing, error) {
	r := &reviewing{q: db.New(tx), now: s.clock.Now()}
	id := idOf(name)
	var err error
	r.charter, err = r.q.ReadCharter(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noCharterOf(name)
	}
	if err != nil {
		return nil, err
	}
	if r.chapter, err = r.q.ReadChapter(ctx, id); err != nil {
		return nil, err
	}
	stands, err := r.q.ReadStanding(ctx, id)
	if err != nil {
		return nil, err
	}
	r.standing, r.judged = stands.Standing, stands.Policy
	if r.internal, err = s.readsInternal(ctx, r.q, id); err != nil {
		return nil, err
	}
	charter, err := viewCharter(r.charter)
	if err != nil {
		return nil, err
	}
	acts, err := s.actsFor(ctx, r.q, id)
	r.view = &internationalv1.CharterReview{
		Name: name, Charter: charter, ChapterDisplayName: r.chapter.DisplayName, Region: regionName(r.chapter.Region),
		OfficerCount: r.chapter.Officers, Verbs: verbsIn(r.charter.State), ConflictOfInterest: acts,
	}
	return r, err
}

func (r *reviewing) addFigures(ctx context.Context) error {
	r.view.Standing = viewStanding(r.chapter.ID, r.standing, r.judged)
	policy, err := r.q.PolicyInForce(ctx, r.now)
	if err != nil {
		return err
	}
	changed, err := activity(ctx, r.q, []int64{r.chapter.ChapterNo})
	r.view.Requirements = demands{
		judged: r.judged, inForce: policy, standing: r.standing, officers: r.chapter.Officers,
		changed: changed[r.chapter.ChapterNo], now: r.now,
	}.requirements()
	return err
}

func (r *reviewing) addTrend(ctx context.Context) error {
	rows, err := r.q.TrendOf(ctx, db.TrendOfParams{ChapterNo: r.chapter.ChapterNo, Since: r.now.AddDate(0, 0, -trendDays)})
	for _, row := range rows {
		r.view.Trend = append(r.view.Trend, &internationalv1.TrendPoint{
			ChangeTime: timestamppb.New(row.ChangeTime), Eligible: row.Eligible,
			Membership: &internationalv1.Figures{Total: row.MembershipTotal, International: row.MembershipInternational},
			Mailing:    &internationalv1.Figures{Total: row.MailingTotal, International: row.MailingInternational},
		})
	}
	return err
}

func (r *reviewing) addNearest(ctx context.Context) error {
	rows, err := r.q.NearestChapters(ctx, db.NearestChaptersParams{ChapterNo: r.chapter.ChapterNo, Size: nearestCount})
	for _, row := range rows {
		r.view.Nearest = append(r.view.Nearest, &internationalv1.NearbyChapter{
			Chapter: "chapters/" + row.ID, DisplayName: row.DisplayName, City: row.City, CountryCode: row.CountryCode,
			DistanceKm: row.Kilometres, CharterState: charterState(row.CharterState),
		})
	}
	return err
}

func (r *reviewing) addHistory(ctx context.Context) error {
	rows, err := r.q.LastHistory(ctx, db.LastHistoryParams{ChapterNo: r.chapter.ChapterNo, Size: reviewEntries})
	if err != nil {
		return err
	}
	for _, row := range slices.Backward(rows) {
		transition, err := viewTransition(r.view.GetName(), row)
		if err != nil {
			return err
		}
		r.view.History = append(r.view.History, transition)
	}
	return nil
}

func (r *reviewing) addComments(ctx context.Context) error {
	rows, err := r.q.LastComments(ctx, db.LastCommentsParams{ChapterNo: r.chapter.ChapterNo, Internal: r.internal, Size: reviewEntries})
	slices.Reverse(rows)
	r.view.Comments = viewComments(r.view.GetName(), rows)
	return err
}
