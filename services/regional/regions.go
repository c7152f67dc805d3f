package regional

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// maxDepth keeps trees far below the nesting that protobuf and JSON decoders refuse.
const maxDepth = 32

func regionName(id string) string { return "regions/" + id }

func regionID(name string) string { return strings.TrimPrefix(name, "regions/") }

func toProto(r db.Region) *regionalv1.Region {
	region := &regionalv1.Region{
		Name:         regionName(r.ID),
		DisplayName:  r.DisplayName,
		CountryCodes: r.CountryCodes,
		CreateTime:   timestamppb.New(r.CreateTime),
		UpdateTime:   timestamppb.New(r.UpdateTime),
		Etag:         etag(r),
	}
	if r.ParentID != nil {
		region.ParentRegion = regionName(*r.ParentID)
	}
	return region
}

func etag(r db.Region) string { return versionEtag(r.Epoch, r.Version) }

func versionEtag(epoch, version int64) string { return fmt.Sprintf("%d-%d", epoch, version) }

// CreateRegion makes a region below an existing one.
func (s *Service) CreateRegion(ctx context.Context, req *regionalv1.CreateRegionRequest) (*regionalv1.Region, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.Region, error) {
		q := db.New(tx)
		region, err := s.newRegion(ctx, q, req)
		if err != nil {
			return nil, err
		}
		if req.GetValidateOnly() {
			return toProto(region), refuseTaken(ctx, q, region.ID)
		}
		_, err = q.InsertRegion(ctx, db.InsertRegionParams(region))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, taken(region.ID)
		}
		if err != nil {
			return nil, err
		}
		return toProto(region), appendChanged(ctx, tx, region)
	})
}

// newRegion places the region below its parent, which stays as it is until the transaction ends.
func (s *Service) newRegion(ctx context.Context, q *db.Queries, req *regionalv1.CreateRegionRequest) (db.Region, error) {
	parentName := req.GetRegion().GetParentRegion()
	parent, err := q.RegionForShare(ctx, regionID(parentName))
	if errors.Is(err, pgx.ErrNoRows) {
		return db.Region{}, parentInvalid("%q does not exist", parentName)
	}
	if err != nil {
		return db.Region{}, err
	}
	if len(parent.Path) >= maxDepth {
		return db.Region{}, parentInvalid("%s lies at the %dth level, the last", parentName, maxDepth)
	}
	now := s.clock.Now()
	return db.Region{
		ID:           req.GetRegionId(),
		DisplayName:  req.GetRegion().GetDisplayName(),
		ParentID:     &parent.ID,
		Path:         append(slices.Clone(parent.Path), req.GetRegionId()),
		CountryCodes: countryCodes(req.GetRegion()),
		Epoch:        now.UnixMicro(),
		Version:      1,
		CreateTime:   now,
		UpdateTime:   now,
	}, nil
}

func parentInvalid(format string, args ...any) error {
	return rpc.Invalid(errorv1.Reason_REASON_REGION_PARENT_INVALID, "region.parentRegion", format, args...)
}

func refuseTaken(ctx context.Context, q *db.Queries, id string) error {
	_, err := q.Region(ctx, id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return errors.Join(err, taken(id))
}

func taken(id string) error {
	return rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "%s exists already", regionName(id)).
		With("resource", regionName(id))
}

// countryCodes is never nil: the column takes no NULL.
func countryCodes(r *regionalv1.Region) []string { return append([]string{}, r.GetCountryCodes()...) }

// GetRegion reads a region.
func (s *Service) GetRegion(ctx context.Context, req *regionalv1.GetRegionRequest) (*regionalv1.Region, error) {
	region, err := db.New(s.pool).Region(ctx, regionID(req.GetName()))
	if err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	return toProto(region), nil
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
	const method = "ListRegions"
	size, err := rpc.PageSize(req.GetPageSize())
	if err != nil {
		return nil, err
	}
	after, err := s.pages.Open(method, rpc.Filter(req), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	rows, err := db.New(s.pool).ListRegions(ctx, db.ListRegionsParams{
		After: after, ParentID: regionID(req.GetParentRegion()), Size: int32(size) + 1,
	})
	if err != nil {
		return nil, err
	}
	answer := &regionalv1.ListRegionsResponse{}
	if len(rows) > size {
		rows = rows[:size]
		answer.NextPageToken = s.pages.Seal(method, rpc.Filter(req), rows[size-1].ID)
	}
	for _, row := range rows {
		answer.Regions = append(answer.Regions, toProto(row))
	}
	return answer, nil
}

// UpdateRegion changes what the mask names. What is the same as before changes nothing, not even the etag.
func (s *Service) UpdateRegion(ctx context.Context, req *regionalv1.UpdateRegionRequest) (*regionalv1.Region, error) {
	name := req.GetRegion().GetName()
	return inTx(ctx, s, func(tx pgx.Tx) (*regionalv1.Region, error) {
		q := db.New(tx)
		before, err := q.RegionForUpdate(ctx, regionID(name))
		if err != nil {
			return nil, orNotFound(err, name)
		}
		if err := rpc.CheckEtags(ctx, req.GetRegion().GetEtag(), etag(before)); err != nil {
			return nil, err
		}
		merged := toProto(before)
		if err := rpc.Merge(merged, req.GetRegion(), req.GetUpdateMask(), "region", "display_name", "country_codes"); err != nil {
			return nil, err
		}
		if merged.GetDisplayName() == before.DisplayName && slices.Equal(merged.GetCountryCodes(), before.CountryCodes) {
			return toProto(before), nil
		}
		after, err := q.UpdateRegion(ctx, db.UpdateRegionParams{
			ID: before.ID, DisplayName: merged.GetDisplayName(), CountryCodes: countryCodes(merged), Now: s.clock.Now(),
		})
		if err != nil {
			return nil, err
		}
		return toProto(after), appendChanged(ctx, tx, after)
	})
}
