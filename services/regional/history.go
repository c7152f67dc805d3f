package regional

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// asOf is the time that is asked about; none means now.
func (s *Service) asOf(given *timestamppb.Timestamp) (time.Time, error) {
	at := given.AsTime()
	if at.After(s.clock.Now()) {
		return at, rpc.Invalid(errorv1.Reason_REASON_AS_OF_TIME_INVALID, "asOfTime", "must not lie in the future")
	}
	return at, nil
}

// asItWas is a region in one period of its history. It has no version, and so no etag: nothing can be changed there.
func asItWas(h db.RegionHistory, created time.Time) db.Region {
	return db.Region{
		ID: h.RegionID, DisplayName: h.DisplayName, ParentID: h.ParentID, CountryCodes: h.CountryCodes,
		CreateTime: created, UpdateTime: h.RecordTime, EffectiveTime: h.FromTime,
	}
}

func notThere(name string, at time.Time) error {
	return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "%s was not there at %s", name, at.Format(time.RFC3339Nano)).With("resource", name)
}

func (s *Service) regionAt(ctx context.Context, name string, at time.Time) (*regionalv1.Region, error) {
	row, err := db.New(s.pool).RegionAt(ctx, db.RegionAtParams{ID: regionID(name), At: at})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, notThere(name, at)
	}
	if err != nil {
		return nil, err
	}
	return toProto(asItWas(row.RegionHistory, row.CreateTime)), nil
}

func (s *Service) treeAt(ctx context.Context, name string, at time.Time) (*regionalv1.RegionTree, error) {
	rows, err := db.New(s.pool).TreeAt(ctx, db.TreeAtParams{Root: regionID(name), At: at})
	if err != nil {
		return nil, err
	}
	then := make([]db.RegionTreeRow, 0, len(rows))
	for _, row := range rows {
		then = append(then, db.RegionTreeRow{Region: asItWas(row.RegionHistory, row.CreateTime), Chapters: row.Chapters})
	}
	tree := buildTree(then, regionID(name))
	if tree == nil {
		return nil, notThere(name, at)
	}
	return tree, nil
}

// ListRegionHistory lists what a region was, latest first.
func (s *Service) ListRegionHistory(ctx context.Context, req *regionalv1.ListRegionHistoryRequest) (*regionalv1.ListRegionHistoryResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := int64(0)
	if page.after != "" {
		if before, err = strconv.ParseInt(page.after, 10, 64); err != nil {
			return nil, err
		}
	}
	q, id := db.New(s.pool), regionID(req.GetParent())
	if _, err := q.AnyRegion(ctx, id); err != nil {
		return nil, orNotFound(err, req.GetParent())
	}
	rows, err := q.RegionHistory(ctx, db.RegionHistoryParams{ID: id, Before: before, Size: page.fetch()})
	if err != nil {
		return nil, err
	}
	answer := &regionalv1.ListRegionHistoryResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(r db.RegionHistoryRow) string {
		return strconv.FormatInt(r.RegionHistory.Revision, 10)
	})
	for _, row := range rows {
		answer.Periods = append(answer.Periods, period(row))
	}
	return answer, nil
}

func period(row db.RegionHistoryRow) *regionalv1.RegionPeriod {
	h := row.RegionHistory
	p := &regionalv1.RegionPeriod{
		StartTime: timestamppb.New(h.FromTime), EndTime: timestamp(h.ToTime), Change: regionalv1.RegionPeriod_Change(h.Change),
		DisplayName: h.DisplayName, ParentRegion: optionalRegion(h.ParentID), CountryCodes: h.CountryCodes, Closed: row.Closed,
	}
	if row.Closed {
		p.MergedInto = optionalRegion(row.MergedInto)
	}
	return p
}

// ListRegionChapters lists the chapters in a region and below it.
func (s *Service) ListRegionChapters(ctx context.Context, req *regionalv1.ListRegionChaptersRequest) (*regionalv1.ListRegionChaptersResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	rows, err := s.chaptersIn(ctx, req, page)
	if err != nil {
		return nil, err
	}
	answer := &regionalv1.ListRegionChaptersResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(p db.Placement) string { return p.ChapterID })
	for _, row := range rows {
		answer.Chapters = append(answer.Chapters, &regionalv1.ListRegionChaptersResponse_PlacedChapter{
			Chapter: chapterName(row.ChapterID), Region: regionName(row.RegionID),
			StartTime: timestamppb.New(row.FromTime), EndTime: timestamp(row.ToTime),
		})
	}
	return answer, nil
}

func (s *Service) chaptersIn(ctx context.Context, req *regionalv1.ListRegionChaptersRequest, page page) ([]db.Placement, error) {
	q, id := db.New(s.pool), regionID(req.GetParent())
	if req.GetAsOfTime() == nil {
		if _, err := findRegion(ctx, q, req.GetParent()); err != nil {
			return nil, err
		}
		return q.ChaptersIn(ctx, db.ChaptersInParams{Region: id, After: page.after, Size: page.fetch()})
	}
	at, err := s.asOf(req.GetAsOfTime())
	if err != nil {
		return nil, err
	}
	if _, err := s.regionAt(ctx, req.GetParent(), at); err != nil {
		return nil, err
	}
	return q.ChaptersAt(ctx, db.ChaptersAtParams{Region: id, At: at, After: page.after, Size: page.fetch()})
}

// timestamp is nil for none.
func timestamp(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

// optionalRegion is empty for none.
func optionalRegion(id *string) string {
	if id == nil {
		return ""
	}
	return regionName(*id)
}
