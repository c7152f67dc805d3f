package regional

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// GetConcernStats counts and measures a region's concerns, and those of each child region.
func (s *Service) GetConcernStats(ctx context.Context, req *regionalv1.GetConcernStatsRequest) (*regionalv1.ConcernStats, error) {
	q, id := db.New(s.pool), regionID(req.GetName())
	if _, err := q.Region(ctx, id); err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	figures, err := q.ConcernFigures(ctx, id)
	if err != nil {
		return nil, err
	}
	children, err := q.ChildRegions(ctx, id)
	if err != nil {
		return nil, err
	}
	byChild := map[string]db.ConcernFiguresRow{}
	var whole db.ConcernFiguresRow
	for _, row := range figures {
		if row.Whole {
			whole = row
		} else {
			byChild[row.Child] = row
		}
	}
	stats := viewFigures(id, whole)
	for _, child := range children {
		stats.Children = append(stats.Children, viewFigures(child, byChild[child]))
	}
	return stats, nil
}

func viewFigures(region string, row db.ConcernFiguresRow) *regionalv1.ConcernStats {
	stats := &regionalv1.ConcernStats{
		Name: regionName(region) + "/concerns/stats", Region: regionName(region),
		ConcernCount: row.Concerns, OpenCount: row.Open, OverdueCount: row.Overdue,
	}
	if row.Concerns > row.Open {
		stats.MedianTimeToAnswer, stats.P90TimeToAnswer = seconds(row.Median), seconds(row.P90)
	}
	return stats
}

func seconds(n float64) *durationpb.Duration {
	return durationpb.New(time.Duration(n * float64(time.Second)).Round(time.Millisecond))
}

// digestCases is how many cases a digest shows.
const digestCases = 20

// GetRegionDigest reads what waits in a region.
func (s *Service) GetRegionDigest(ctx context.Context, req *regionalv1.GetRegionDigestRequest) (*regionalv1.RegionDigest, error) {
	q, id := db.New(s.pool), regionID(req.GetName())
	concerns, err := digestConcerns(ctx, q, id)
	if err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	return &regionalv1.RegionDigest{Name: req.GetName(), ReadTime: timestamppb.New(s.clock.Now()), Concerns: concerns}, nil
}

// digestConcerns is the digest's part about concerns; pgx.ErrNoRows when there is no such region.
func digestConcerns(ctx context.Context, q *db.Queries, region string) (*regionalv1.ConcernDigest, error) {
	counts, err := q.ConcernDigest(ctx, region)
	if err != nil {
		return nil, err
	}
	rows, err := q.FirstDueCases(ctx, db.FirstDueCasesParams{RegionID: region, Size: digestCases})
	if err != nil {
		return nil, err
	}
	cases, err := viewCases(ctx, q, rows)
	return &regionalv1.ConcernDigest{
		UnansweredCount: counts.Unanswered, OverdueCount: counts.Overdue, OverdueBelowCount: counts.OverdueBelow, FirstDue: cases,
	}, err
}
