package local

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

const worldID = "world"

// maxDepth bounds the way up from a region that is not known here: the tree is not deeper.
const maxDepth = 32

// Ancestors returns the regions that a region or chapter lies in, and a chapter's site.
func (s *Service) Ancestors(ctx context.Context, scope string) ([]string, error) {
	kind, id, _ := strings.Cut(scope, "/")
	switch kind {
	case "regions":
		if err := s.knowRegion(ctx, id); err != nil {
			return nil, unknownScope(err)
		}
		return s.regionsFrom(ctx, id)
	case "chapters":
		chapter, err := db.New(s.pool).Chapter(ctx, id)
		if err != nil {
			return nil, err // authz takes "no rows" for what does not exist
		}
		regions, err := s.regionsFrom(ctx, chapter.Region)
		return append(regions, "sites/"+s.config.Site), err
	}
	return nil, authz.ErrUnknownScope
}

func unknownScope(err error) error {
	if rpc.Is(err, errorv1.Reason_REASON_NOT_FOUND) {
		return authz.ErrUnknownScope
	}
	return err
}

// regionsFrom lists a region and all above it, as far as the copy knows them.
func (s *Service) regionsFrom(ctx context.Context, id string) ([]string, error) {
	path, err := db.New(s.pool).RegionPath(ctx, id)
	if err != nil {
		return nil, err
	}
	names := []string{regionName(id), regionName(worldID)}
	for _, above := range path {
		names = append(names, regionName(above))
	}
	return names, nil
}

// knowRegion makes sure that a region and what lies above it are in the copy. One whose event is still on its way is
// asked for; a regional service that cannot be reached is an outage, never a region that does not exist.
func (s *Service) knowRegion(ctx context.Context, id string) error {
	for range maxDepth {
		known, err := db.New(s.pool).RegionExists(ctx, id)
		if err != nil || known || id == worldID {
			return err
		}
		region, err := s.askRegion(ctx, id)
		if err != nil {
			return err
		}
		parent := regionID(region.GetParentRegion())
		if err := db.New(s.pool).PutRegionIfNew(ctx, db.PutRegionIfNewParams{ID: id, Parent: optional(parent)}); err != nil {
			return err
		}
		id = parent
	}
	return nil
}

func (s *Service) askRegion(ctx context.Context, id string) (*regionalv1.Region, error) {
	unavailable := rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE,
		"%s is not known here yet and the regional service cannot be asked now", regionName(id))
	if s.regions == nil {
		return nil, unavailable
	}
	ctx, cancel := context.WithTimeout(ctx, s.config.LookupTimeout)
	defer cancel()
	region, err := s.regions.GetRegion(ctx, &regionalv1.GetRegionRequest{Name: regionName(id)})
	switch status.Code(err) {
	case codes.OK:
		return region, nil
	case codes.NotFound, codes.InvalidArgument:
		return nil, notFound(regionName(id))
	default:
		return nil, unavailable.Because(err)
	}
}

// regionTopic keeps the copy of the tree.
func regionTopic() bus.Topic {
	return bus.Topic{
		Kind: "region",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			for _, part := range parts {
				if err := putRegion(ctx, tx, part.Data); err != nil {
					return err
				}
			}
			return nil
		},
		Replace: func(ctx context.Context, tx pgx.Tx, aggregate string, snapshot *bus.Snapshot) error {
			if snapshot.Gone {
				return db.New(tx).DeleteRegion(ctx, regionID(aggregate))
			}
			for part, err := range snapshot.Parts() {
				if err != nil {
					return err
				}
				if err := putRegion(ctx, tx, part); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// putRegion passes over what is no region: later versions of the tier may say more.
func putRegion(ctx context.Context, tx pgx.Tx, message proto.Message) error {
	region, ok := message.(*eventv1.RegionChanged)
	if !ok {
		return nil
	}
	return db.New(tx).PutRegion(ctx, db.PutRegionParams{
		ID: regionID(region.GetRegion()), Parent: optional(regionID(region.GetParentRegion())), Closed: region.GetClosed(),
	})
}

// placementTopic lays chapters where the regional tier has placed them.
func (s *Service) placementTopic() bus.Topic {
	return bus.Topic{
		Kind: "placement",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			for _, part := range parts {
				placement, ok := part.Data.(*eventv1.PlacementChanged)
				if !ok {
					continue // later versions of the tier may say more
				}
				if err := s.placeChapter(ctx, tx, placement, part.Version); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// placeChapter passes over the chapters of other sites, and what is older than the placement that a chapter has.
func (s *Service) placeChapter(ctx context.Context, tx pgx.Tx, placement *eventv1.PlacementChanged, version bus.Version) error {
	q, region := db.New(tx), regionID(placement.GetRegion())
	if err := q.LockInboxes(ctx, inboxLock); err != nil {
		return err
	}
	chapter, err := q.ChapterForUpdate(ctx, chapterID(placement.GetChapter()))
	if err != nil {
		return ignoreNoRows(err)
	}
	held := bus.Version{Epoch: chapter.PlacementEpoch, Number: chapter.PlacementNumber}
	if !held.Less(version) {
		return nil
	}
	since := s.clock.Now()
	if placement.GetEffectiveTime() != nil {
		since = placement.GetEffectiveTime().AsTime()
	}
	placed, err := q.PlaceChapter(ctx, db.PlaceChapterParams{
		ID: chapter.ID, Region: region, Epoch: version.Epoch, Number: version.Number, Since: since, Now: s.clock.Now(),
	})
	if err != nil || placed.Region == chapter.Region {
		return err
	}
	missed, err := q.AnnouncementsForPlacement(ctx, db.AnnouncementsForPlacementParams{ChapterID: chapter.ID, Since: since})
	if err != nil {
		return err
	}
	if err := s.fillMissed(ctx, tx, missed, chapter.ID); err != nil {
		return err
	}
	return s.tellChapters(ctx, tx, placed)
}

// optional is nil for the empty text.
func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
