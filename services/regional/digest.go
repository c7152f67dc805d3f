package regional

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// digestCases is how many cases a digest shows.
const digestCases = 20

// GetRegionDigest reads what waits in a region.
func (s *Service) GetRegionDigest(ctx context.Context, req *regionalv1.GetRegionDigestRequest) (*regionalv1.RegionDigest, error) {
	return snapshot(ctx, s, func(q *db.Queries) (*regionalv1.RegionDigest, error) {
		concerns, err := digestConcerns(ctx, q, regionID(req.GetName()))
		if err != nil {
			return nil, orNotFound(err, req.GetName())
		}
		return &regionalv1.RegionDigest{Name: req.GetName(), ReadTime: timestamppb.New(s.clock.Now()), Concerns: concerns}, nil
	})
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
