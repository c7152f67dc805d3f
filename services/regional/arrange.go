package regional

import (
	"context"
	"slices"

	"google.golang.org/protobuf/types/known/emptypb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// MoveRegion hangs a region elsewhere. Under the parent that it has, nothing changes.
func (s *Service) MoveRegion(ctx context.Context, req *regionalv1.MoveRegionRequest) (*regionalv1.Region, error) {
	return changeTree(ctx, s, req.GetValidateOnly(), func(c *change) (*regionalv1.Region, error) {
		region, err := c.etagged(req.GetName(), req.GetEtag())
		if err != nil {
			return nil, err
		}
		if err := permanent(region.ID, "moved"); err != nil {
			return nil, err
		}
		parent, err := c.parent("parentRegion", req.GetParentRegion())
		if err != nil {
			return nil, err
		}
		if *region.ParentID == parent.ID {
			return toProto(region), nil
		}
		above, err := c.above(parent)
		if err != nil {
			return nil, err
		}
		at, err := c.since(req.GetEffectiveTime(), append(above, region)...)
		if err != nil {
			return nil, err
		}
		moved, err := c.rehang(region, parent, at, regionalv1.RegionPeriod_MOVED)
		if err != nil {
			return nil, err
		}
		return toProto(moved), c.checkCountries(moved.ID)
	})
}

// etagged finds a region that must be as the caller read it.
func (c *change) etagged(name, given string) (db.Region, error) {
	region, err := c.region(name)
	if err != nil {
		return region, err
	}
	return region, rpc.CheckEtags(c.ctx, given, etag(region))
}

// DeleteRegion closes an empty region.
func (s *Service) DeleteRegion(ctx context.Context, req *regionalv1.DeleteRegionRequest) (*emptypb.Empty, error) {
	return changeTree(ctx, s, false, func(c *change) (*emptypb.Empty, error) {
		region, err := c.etagged(req.GetName(), req.GetEtag())
		if err != nil {
			return nil, err
		}
		if err := permanent(region.ID, "closed"); err != nil {
			return nil, err
		}
		if err := c.checkEmpty(region); err != nil {
			return nil, err
		}
		return &emptypb.Empty{}, c.close(region, nil)
	})
}

// MergeRegion dissolves a region in another one.
func (s *Service) MergeRegion(ctx context.Context, req *regionalv1.MergeRegionRequest) (*regionalv1.Region, error) {
	return changeTree(ctx, s, req.GetValidateOnly(), func(c *change) (*regionalv1.Region, error) {
		region, err := c.etagged(req.GetName(), req.GetEtag())
		if err != nil {
			return nil, err
		}
		if err := permanent(region.ID, "dissolved"); err != nil {
			return nil, err
		}
		into, err := c.parent("intoRegion", req.GetIntoRegion())
		if err != nil {
			return nil, err
		}
		merged, err := c.merge(region, into)
		if err != nil {
			return nil, err
		}
		return toProto(merged), nil
	})
}

// merge closes the region before it looks at the countries: its own no longer count.
func (c *change) merge(region, into db.Region) (db.Region, error) {
	if slices.Contains(into.Path, region.ID) {
		return into, parentInvalid("intoRegion", "%s is or lies in %s: what is below it would hang on nothing", regionName(into.ID), regionName(region.ID))
	}
	at, err := c.since(nil, region, into)
	if err != nil {
		return into, err
	}
	chapters, err := c.q.DirectChapters(c.ctx, region.ID)
	if err != nil {
		return into, err
	}
	children, err := c.q.Children(c.ctx, &region.ID)
	if err != nil {
		return into, err
	}
	changed := []string{into.ID}
	for _, child := range children {
		if _, err := c.rehang(child, into, at, regionalv1.RegionPeriod_MERGED); err != nil {
			return into, err
		}
		changed = append(changed, child.ID)
	}
	if err := c.place(into.ID, at, ids(chapters)...); err != nil {
		return into, err
	}
	err = c.q.PassOnCoordinators(c.ctx, db.PassOnCoordinatorsParams{Region: region.ID, IntoRegion: into.ID, Now: c.now})
	if err != nil {
		return into, err
	}
	if err := c.close(region, &into.ID); err != nil {
		return into, err
	}
	into.CountryCodes = union(into.CountryCodes, region.CountryCodes)
	merged, err := c.put(into, at, regionalv1.RegionPeriod_MERGED)
	if err != nil {
		return into, err
	}
	return merged, c.checkCountries(changed...)
}
