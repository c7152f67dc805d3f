package regional

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

func chapterName(id string) string { return "chapters/" + id }

func chapterID(name string) string { return strings.TrimPrefix(name, "chapters/") }

// placementName is the aggregate's.
func placementName(chapter string) string { return chapterName(chapter) + "/placement" }

func placedChapter(name string) string { return chapterID(strings.TrimSuffix(name, "/placement")) }

// place moves chapters to a region, and gives what is to be told. Proposals to move them otherwise are over. Announcements
// that wait in the regions that they leave wait for them still.
func place(ctx context.Context, q *db.Queries, region string, at time.Time, chapters ...string) ([]bus.Event, error) {
	if len(chapters) == 0 {
		return nil, nil
	}
	if err := q.SupersedeByChapters(ctx, db.SupersedeByChaptersParams{ChapterIds: chapters, Now: at}); err != nil {
		return nil, err
	}
	if err := q.KeepForChapters(ctx, db.KeepForChaptersParams{ChapterIds: chapters, RegionID: region}); err != nil {
		return nil, fmt.Errorf("keep what waits for %d chapters: %w", len(chapters), err)
	}
	placed, err := q.Place(ctx, db.PlaceParams{ChapterIds: chapters, RegionID: region, Now: at})
	if err != nil {
		return nil, fmt.Errorf("place %d chapters in %s: %w", len(chapters), region, err)
	}
	return placementsChanged(placed...), nil
}

func placementsChanged(placements ...db.Placement) []bus.Event {
	events := make([]bus.Event, 0, len(placements))
	for _, p := range placements {
		events = append(events, bus.Event{
			Subject:   "placement." + p.ChapterID + ".changed",
			Aggregate: placementName(p.ChapterID),
			Version:   bus.Version{Epoch: p.Epoch, Number: p.Version},
			Data:      placementMessage(p),
		})
	}
	return events
}

func placementMessage(p db.Placement) *eventv1.PlacementChanged {
	return &eventv1.PlacementChanged{
		Chapter: chapterName(p.ChapterID), Region: regionName(p.RegionID), EffectiveTime: timestamppb.New(p.FromTime),
	}
}

// chapterTopic keeps the directory of a site's chapters. A chapter that is new to the directory is placed in the region
// that it names; from then on where it lies is decided here, and a chapter that says otherwise is told again.
func (s *Service) chapterTopic(site string) bus.Topic {
	put := func(ctx context.Context, tx pgx.Tx, message proto.Message) error {
		chapter, ok := message.(*eventv1.ChapterChanged)
		if !ok {
			return nil // later versions of the tier may say more
		}
		return s.putChapter(ctx, tx, site, chapter)
	}
	return bus.Topic{
		Kind: "chapter",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			for _, part := range parts {
				if err := put(ctx, tx, part.Data); err != nil {
					return err
				}
			}
			return nil
		},
		Replace: func(ctx context.Context, tx pgx.Tx, aggregate string, snapshot *bus.Snapshot) error {
			if snapshot.Gone {
				return s.dropChapter(ctx, db.New(tx), site, chapterID(aggregate))
			}
			for part, err := range snapshot.Parts() {
				if err != nil {
					return err
				}
				if err := put(ctx, tx, part); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func (s *Service) putChapter(ctx context.Context, tx pgx.Tx, site string, chapter *eventv1.ChapterChanged) error {
	q, id, says := db.New(tx), chapterID(chapter.GetChapter()), regionID(chapter.GetRegion())
	err := q.PutChapter(ctx, db.PutChapterParams{
		ID: id, Site: site, CountryCode: chapter.GetCountryCode(), DisplayName: chapter.GetDisplayName(),
		LanguageCode: chapter.GetLanguageCode(), Now: s.clock.Now(),
	})
	if err != nil {
		return err
	}
	if err := q.LockTreeShared(ctx, treeLock); err != nil {
		return err
	}
	known, err := q.PlacementForUpdate(ctx, id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s.beginPlacement(ctx, tx, id, says, chapter.GetCreateTime())
	case err != nil || known.RegionID == says:
		return err
	}
	again, err := q.RepeatPlacement(ctx, id)
	if err != nil {
		return err
	}
	return bus.Append(ctx, tx, placementsChanged(again)...)
}

// beginPlacement places a chapter for the first time, since its creation where the region has been what it is since
// then.
func (s *Service) beginPlacement(ctx context.Context, tx pgx.Tx, chapter, says string, created *timestamppb.Timestamp) error {
	q, now := db.New(tx), s.clock.Now()
	region, err := successor(ctx, q, says)
	if err != nil {
		return err
	}
	from := now
	if region.ID == says && created.IsValid() && created.AsTime().Before(now) {
		from = created.AsTime().Truncate(time.Microsecond)
		if from.Before(region.EffectiveTime) {
			from = region.EffectiveTime
		}
	}
	placed, err := q.BeginPlacement(ctx, db.BeginPlacementParams{
		ChapterID: chapter, RegionID: region.ID, FromTime: from, Epoch: now.UnixMicro(),
	})
	if err != nil {
		return err
	}
	return bus.Append(ctx, tx, placementsChanged(placed...)...)
}

// successor is the region that took over from one that is closed: the one that it was dissolved in, or its last parent.
// One that is not known yet stands for itself.
func successor(ctx context.Context, q *db.Queries, id string) (db.Region, error) {
	for {
		region, err := q.AnyRegion(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return db.Region{ID: id}, nil
		}
		if err != nil || region.CloseTime == nil {
			return region, err
		}
		id = worldID
		if region.MergedInto != nil {
			id = *region.MergedInto
		} else if region.ParentID != nil {
			id = *region.ParentID
		}
	}
}

// dropChapter forgets a chapter that its site no longer has.
func (s *Service) dropChapter(ctx context.Context, q *db.Queries, site, id string) error {
	dropped, err := q.DeleteChapter(ctx, db.DeleteChapterParams{ID: id, Site: site})
	if err != nil || dropped == 0 {
		return err
	}
	return q.EndPlacement(ctx, db.EndPlacementParams{ChapterID: id, Now: s.clock.Now()})
}

func placementVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).PlacementVersions(ctx, db.PlacementVersionsParams{After: placedChapter(after), Size: int32(limit)})
	if err != nil {
		return nil, err
	}
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: placementName(row.ChapterID), Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, nil
}

func placementSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	p, err := db.New(tx).Placement(ctx, placedChapter(aggregate))
	if errors.Is(err, pgx.ErrNoRows) || err == nil && p.Version == 0 {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: p.Epoch, Number: p.Version}, true, send(placementMessage(p))
}
