package regional

import (
	"context"
	"slices"
	"time"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// SplitRegion divides a region.
func (s *Service) SplitRegion(ctx context.Context, req *regionalv1.SplitRegionRequest) (*regionalv1.SplitRegionResponse, error) {
	return changeTree(ctx, s, req.GetValidateOnly(), func(c *change) (*regionalv1.SplitRegionResponse, error) {
		region, err := c.etagged(req.GetName(), req.GetEtag())
		if err != nil {
			return nil, err
		}
		beside := req.GetPlacement() == regionalv1.SplitRegionRequest_SIBLINGS
		if err := splittable(region, beside, req.GetClose()); err != nil {
			return nil, err
		}
		children, err := c.q.Children(c.ctx, &region.ID)
		if err != nil {
			return nil, err
		}
		chapters, err := c.q.DirectChapters(c.ctx, region.ID)
		if err != nil {
			return nil, err
		}
		shares, err := divide(req.GetParts(), chapters, children)
		if err != nil {
			return nil, err
		}
		return c.split(region, shares, beside, req.GetClose())
	})
}

func splittable(region db.Region, beside, closing bool) error {
	if closing && !beside {
		return rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "close", "is possible with SIBLINGS alone: the children need their parent")
	}
	if beside {
		return permanent(region.ID, "split into siblings")
	}
	return nil
}

// share is what a part of a split gets.
type share struct {
	part     *regionalv1.SplitRegionRequest_Part
	chapters []string
	regions  []db.Region
}

// divide says what each part gets: what it names, and then the chapters in its countries that no part names.
func divide(parts []*regionalv1.SplitRegionRequest_Part, chapters []db.DirectChaptersRow, children []db.Region) ([]share, error) {
	shares := make([]share, len(parts))
	taker, byCountry := map[string]int{}, map[string]int{}
	for i, part := range parts {
		shares[i].part = part
		for _, name := range slices.Concat(part.GetChapters(), part.GetRegions()) {
			if _, twice := taker[name]; twice {
				return nil, splitInvalid("two parts name %s", name)
			}
			taker[name] = i
		}
		for _, code := range part.GetCountryCodes() {
			if _, twice := byCountry[code]; twice {
				return nil, splitInvalid("two parts cover %s", code)
			}
			byCountry[code] = i
		}
	}
	for _, chapter := range chapters {
		i, named := taker[chapterName(chapter.ChapterID)]
		delete(taker, chapterName(chapter.ChapterID))
		if !named {
			i, named = byCountry[chapter.CountryCode]
		}
		if named {
			shares[i].chapters = append(shares[i].chapters, chapter.ChapterID)
		}
	}
	for _, child := range children {
		if i, named := taker[regionName(child.ID)]; named {
			shares[i].regions = append(shares[i].regions, child)
			delete(taker, regionName(child.ID))
		}
	}
	for name := range taker {
		return nil, splitInvalid("%s does not lie directly in the region", name)
	}
	return shares, nil
}

func splitInvalid(format string, args ...any) error {
	return rpc.Invalid(errorv1.Reason_REASON_SPLIT_INVALID, "parts", format, args...)
}

func (c *change) split(region db.Region, shares []share, beside, closing bool) (*regionalv1.SplitRegionResponse, error) {
	parent := region
	if beside {
		var err error
		if parent, err = c.q.Region(c.ctx, *region.ParentID); err != nil {
			return nil, err
		}
	}
	at, err := c.since(nil, region, parent)
	if err != nil {
		return nil, err
	}
	answer, changed, given := &regionalv1.SplitRegionResponse{}, []string{}, []string{}
	for _, share := range shares {
		part, err := c.makePart(share, parent, at)
		if err != nil {
			return nil, err
		}
		changed = append(changed, part.ID)
		given = append(given, part.CountryCodes...)
		answer.Regions = append(answer.Regions, toProto(part))
		answer.MovedChapters += int32(len(share.chapters))
	}
	if beside {
		if err := c.shrink(region, given, at, closing); err != nil {
			return nil, err
		}
	}
	return answer, c.checkCountries(changed...)
}

func (c *change) makePart(share share, parent db.Region, at time.Time) (db.Region, error) {
	part, err := c.create(db.Region{
		ID: share.part.GetRegionId(), DisplayName: share.part.GetDisplayName(), CountryCodes: share.part.GetCountryCodes(),
	}, parent, at, regionalv1.RegionPeriod_SPLIT)
	if err != nil {
		return part, err
	}
	for _, child := range share.regions {
		if _, err := c.rehang(child, part, at, regionalv1.RegionPeriod_SPLIT); err != nil {
			return part, err
		}
	}
	return part, c.place(part.ID, at, share.chapters...)
}

// shrink takes from a region the countries that the new ones beside it cover, or closes it.
func (c *change) shrink(region db.Region, given []string, at time.Time, closing bool) error {
	if closing {
		if err := c.checkEmpty(region); err != nil {
			return err
		}
		return c.close(region, nil)
	}
	left := slices.DeleteFunc(slices.Clone(region.CountryCodes), func(code string) bool { return slices.Contains(given, code) })
	if len(left) == len(region.CountryCodes) {
		return nil
	}
	region.CountryCodes = left
	_, err := c.put(region, at, regionalv1.RegionPeriod_SPLIT)
	return err
}

func ids(chapters []db.DirectChaptersRow) []string {
	all := make([]string, 0, len(chapters))
	for _, chapter := range chapters {
		all = append(all, chapter.ChapterID)
	}
	return all
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}
