package regional

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

func regionName(id string) string { return "regions/" + id }

func regionID(name string) string { return strings.TrimPrefix(name, "regions/") }

func toProto(r db.Region) *regionalv1.Region {
	return &regionalv1.Region{
		Name:          regionName(r.ID),
		DisplayName:   r.DisplayName,
		ParentRegion:  optionalRegion(r.ParentID),
		CountryCodes:  r.CountryCodes,
		CreateTime:    timestamppb.New(r.CreateTime),
		UpdateTime:    timestamppb.New(r.UpdateTime),
		EffectiveTime: timestamppb.New(r.EffectiveTime),
		Etag:          etag(r),
	}
}

// etag is empty for what was: nothing can be changed there.
func etag(r db.Region) string {
	if r.Version == 0 {
		return ""
	}
	return versionEtag(r.Epoch, r.Version)
}

func versionEtag(epoch, version int64) string { return fmt.Sprintf("%d-%d", epoch, version) }

// CreateRegion makes a region below an existing one.
func (s *Service) CreateRegion(ctx context.Context, req *regionalv1.CreateRegionRequest) (*regionalv1.Region, error) {
	return changeTree(ctx, s, req.GetValidateOnly(), func(c *change) (*regionalv1.Region, error) {
		parent, err := c.parent("region.parentRegion", req.GetRegion().GetParentRegion())
		if err != nil {
			return nil, err
		}
		above, err := c.above(parent)
		if err != nil {
			return nil, err
		}
		at, err := c.since(req.GetEffectiveTime(), above...)
		if err != nil {
			return nil, err
		}
		made, err := c.create(db.Region{
			ID: req.GetRegionId(), DisplayName: req.GetRegion().GetDisplayName(), CountryCodes: req.GetRegion().GetCountryCodes(),
		}, parent, at, regionalv1.RegionPeriod_CREATED)
		if err != nil {
			return nil, err
		}
		return toProto(made), c.checkCountries(made.ID)
	})
}

func taken(id string) error {
	return rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s exists already", regionName(id)).
		With("resource", regionName(id))
}

// GetRegion reads a region.
func (s *Service) GetRegion(ctx context.Context, req *regionalv1.GetRegionRequest) (*regionalv1.Region, error) {
	if req.GetAsOfTime() != nil {
		at, err := s.asOf(req.GetAsOfTime())
		if err != nil {
			return nil, err
		}
		return s.regionAt(ctx, req.GetName(), at)
	}
	region, err := findRegion(ctx, db.New(s.pool), req.GetName())
	if err != nil {
		return nil, err
	}
	return toProto(region), nil
}

// findRegion reads a region that is there. Of one that is closed the refusal says so.
func findRegion(ctx context.Context, q *db.Queries, name string) (db.Region, error) {
	region, err := q.AnyRegion(ctx, regionID(name))
	if err != nil || region.CloseTime == nil {
		return region, orNotFound(err, name)
	}
	closed := rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "%s was closed at %s", name, region.CloseTime.Format(time.RFC3339)).
		With("resource", name).With("closeTime", region.CloseTime.Format(time.RFC3339Nano))
	if region.MergedInto != nil {
		closed = closed.With("mergedInto", regionName(*region.MergedInto))
	}
	return region, closed
}

func orElse(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func orNotFound(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return notFound(name)
	}
	return err
}

func notFound(name string) error {
	return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "%s does not exist", name).With("resource", name)
}

// ListRegions lists regions by id.
func (s *Service) ListRegions(ctx context.Context, req *regionalv1.ListRegionsRequest) (*regionalv1.ListRegionsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	rows, err := db.New(s.pool).ListRegions(ctx, db.ListRegionsParams{
		After: page.after, ParentID: regionID(req.GetParentRegion()), Size: page.fetch(),
	})
	if err != nil {
		return nil, err
	}
	answer := &regionalv1.ListRegionsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(r db.Region) string { return r.ID })
	for _, row := range rows {
		answer.Regions = append(answer.Regions, toProto(row))
	}
	return answer, nil
}

// UpdateRegion changes what the mask names. What is the same as before changes nothing, not even the etag.
func (s *Service) UpdateRegion(ctx context.Context, req *regionalv1.UpdateRegionRequest) (*regionalv1.Region, error) {
	name := req.GetRegion().GetName()
	return changeTree(ctx, s, false, func(c *change) (*regionalv1.Region, error) {
		before, err := c.etagged(name, req.GetRegion().GetEtag())
		if err != nil {
			return nil, err
		}
		merged := toProto(before)
		if err := rpc.Merge(merged, req.GetRegion(), req.GetUpdateMask(), "region", "display_name", "country_codes"); err != nil {
			return nil, err
		}
		sameCountries := slices.Equal(merged.GetCountryCodes(), before.CountryCodes)
		if merged.GetDisplayName() == before.DisplayName && sameCountries {
			return toProto(before), nil
		}
		before.DisplayName, before.CountryCodes = merged.GetDisplayName(), merged.GetCountryCodes()
		after, err := c.put(before, c.now, regionalv1.RegionPeriod_UPDATED)
		if err != nil || sameCountries {
			return toProto(after), err
		}
		return toProto(after), c.checkCountries(after.ID)
	})
}
