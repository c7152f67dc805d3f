package regional

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// GetConcernStats counts and measures a region's concerns, and those of each child region.
func (s *Service) GetConcernStats(ctx context.Context, req *regionalv1.GetConcernStatsRequest) (*regionalv1.ConcernStats, error) {
	return snapshot(ctx, s, func(q *db.Queries) (*regionalv1.ConcernStats, error) {
		id := regionID(req.GetName())
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
		return buildStats(id, figures, children), nil
	})
}

// buildStats puts the figures of a region and its children together; a child without concerns has no row.
func buildStats(region string, figures []db.ConcernFiguresRow, children []string) *regionalv1.ConcernStats {
	byChild := map[string]db.ConcernFiguresRow{}
	var whole db.ConcernFiguresRow
	for _, row := range figures {
		if row.Whole {
			whole = row
		} else {
			byChild[row.Child] = row
		}
	}
	stats := viewFigures(region, whole)
	for _, child := range children {
		stats.Children = append(stats.Children, viewFigures(child, byChild[child]))
	}
	return stats
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
