package regional

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// connectBus makes what publishes the tree, answers for it, and keeps the copies.
func (s *Service) connectBus(deps Deps) error {
	s.publisher = bus.NewPublisher(bus.PublisherConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Regional, Site: bus.MainSite,
		Log: deps.Log, Registerer: deps.Registerer, OnRestored: onRestored,
	})
	responder := bus.NewResponder(bus.ResponderConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Regional, Site: bus.MainSite,
		Log: deps.Log, Registerer: deps.Registerer,
	}, owners()...)
	s.background = append(s.background, s.publisher.Run, responder.Run, s.runClockwork)

	if err := s.consume(deps, bus.International, bus.MainSite, standingTopic, charterTopic, s.announcementTopic()); err != nil {
		return err
	}
	for _, site := range deps.Config.Sites {
		if err := s.consume(deps, bus.Local, site, chapterTopic(site), s.receiptTopic()); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) consume(deps Deps, tier, site string, topics ...bus.Topic) error {
	consumer, err := bus.NewConsumer(bus.ConsumerConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Regional, Site: bus.MainSite,
		FromTier: tier, FromSite: site, Topics: topics, Log: deps.Log, Registerer: deps.Registerer,
		GapWait: deps.Config.GapWait, CompareEvery: deps.Config.CompareEvery, AfterCommit: s.publisher.Wake,
	})
	if err != nil {
		return fmt.Errorf("consume from %s %s: %w", tier, site, err)
	}
	s.background = append(s.background, consumer.Run)
	return nil
}

// owners answer what others missed.
func owners() []bus.Owner {
	return []bus.Owner{
		{Kind: "region", Versions: regionVersions, Snapshot: regionSnapshot},
		{Kind: "relay", Versions: relayVersions, Snapshot: relaySnapshot},
		{Kind: "announcement", Versions: ownVersions, Snapshot: ownSnapshot},
	}
}

// appendChanged tells the other tiers what has become of regions. The caller holds their locks.
func appendChanged(ctx context.Context, tx pgx.Tx, regions ...db.Region) error {
	events := make([]bus.Event, 0, len(regions))
	for _, region := range regions {
		events = append(events, bus.Event{
			Subject:   "region." + region.ID + ".changed",
			Aggregate: regionName(region.ID),
			Version:   bus.Version{Epoch: region.Epoch, Number: region.Version},
			Data:      changed(region),
		})
	}
	return bus.Append(ctx, tx, events...)
}

func changed(r db.Region) *eventv1.RegionChanged {
	event := &eventv1.RegionChanged{
		Region:       regionName(r.ID),
		DisplayName:  r.DisplayName,
		CountryCodes: r.CountryCodes,
		CreateTime:   timestamppb.New(r.CreateTime),
		UpdateTime:   timestamppb.New(r.UpdateTime),
	}
	if r.ParentID != nil {
		event.ParentRegion = regionName(*r.ParentID)
	}
	return event
}

// announceRoot tells of regions/world, which the migration made, once.
func (s *Service) announceRoot(ctx context.Context) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		now := s.clock.Now()
		root, err := db.New(tx).BeginRoot(ctx, db.BeginRootParams{Epoch: now.UnixMicro(), Now: now})
		if errors.Is(err, pgx.ErrNoRows) {
			return struct{}{}, nil
		}
		if err != nil {
			return struct{}{}, err
		}
		return struct{}{}, appendChanged(ctx, tx, root)
	})
	return err
}

// onRestored begins a new epoch for everything that is owned here, and tells of all of it again.
func onRestored(ctx context.Context, tx pgx.Tx, epoch int64) error {
	regions, err := db.New(tx).BeginEpoch(ctx, epoch)
	if err != nil {
		return err
	}
	if err := appendChanged(ctx, tx, regions...); err != nil {
		return err
	}
	return beginRelayEpoch(ctx, tx, epoch)
}

func beginRelayEpoch(ctx context.Context, tx pgx.Tx, epoch int64) error {
	q := db.New(tx)
	own, err := q.BeginAnnouncementEpoch(ctx, epoch)
	if err != nil {
		return err
	}
	for _, row := range own {
		a, err := readAnnouncement(row, nil)
		if err != nil {
			return err
		}
		if err := bus.Append(ctx, tx, ownChanged(a)); err != nil {
			return err
		}
	}
	relays, err := q.BeginRelayEpoch(ctx, epoch)
	if err != nil {
		return err
	}
	return appendMixedRelays(ctx, tx, relays)
}

func relayVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).RelayVersions(ctx, db.RelayVersionsParams{After: regionID(after), Size: int32(limit)})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: relayName(row.RegionID, row.AnnouncementID), Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, err
}

func relaySnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	region, id, err := splitName(aggregate)
	if err != nil {
		return bus.Version{}, false, nil //nolint:nilerr // what is no relay's name is no relay
	}
	q := db.New(tx)
	relay, err := q.Relay(ctx, db.RelayParams{RegionID: region, AnnouncementID: id})
	if errors.Is(err, pgx.ErrNoRows) {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	a, err := readAnnouncement(q.Announcement(ctx, id))
	if err != nil {
		return bus.Version{}, false, err
	}
	event, err := relayEvent(relay, a)
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: relay.Epoch, Number: relay.Version}, true, send(event)
}

func ownVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).OwnAnnouncementVersions(ctx, db.OwnAnnouncementVersionsParams{After: regionID(after), Size: int32(limit)})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: ownName(row.RegionID, row.ID), Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, err
}

func ownSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	region, id, err := splitName(aggregate)
	if err != nil {
		return bus.Version{}, false, nil //nolint:nilerr // what is no announcement's name is no announcement
	}
	a, err := readAnnouncement(db.New(tx).Announcement(ctx, id))
	if errors.Is(err, pgx.ErrNoRows) || err == nil && (a.RegionID == nil || *a.RegionID != region) {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: a.Epoch, Number: a.Version}, true, send(a.said)
}

func regionVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).RegionVersions(ctx, db.RegionVersionsParams{After: regionID(after), Size: int32(limit)})
	if err != nil {
		return nil, err
	}
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: regionName(row.ID), Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, nil
}

func regionSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	region, err := db.New(tx).Region(ctx, regionID(aggregate))
	if errors.Is(err, pgx.ErrNoRows) || err == nil && region.Version == 0 {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: region.Epoch, Number: region.Version}, true, send(changed(region))
}

// chapterTopic keeps the copy of a site's chapters.
func chapterTopic(site string) bus.Topic {
	return whole("chapter",
		func(ctx context.Context, q *db.Queries, c *eventv1.ChapterChanged) error {
			return q.PutChapter(ctx, db.PutChapterParams{
				ID: chapterID(c.GetChapter()), Site: site, RegionID: regionID(c.GetRegion()),
			})
		},
		func(ctx context.Context, q *db.Queries, aggregate string) error {
			return q.DeleteChapter(ctx, db.DeleteChapterParams{ID: chapterID(aggregate), Site: site})
		})
}

// standingTopic keeps who is eligible.
var standingTopic = whole("standing",
	func(ctx context.Context, q *db.Queries, s *eventv1.StandingChanged) error {
		return q.PutStanding(ctx, db.PutStandingParams{ChapterID: chapterID(s.GetChapter()), Eligible: s.GetEligible()})
	},
	func(ctx context.Context, q *db.Queries, aggregate string) error {
		return q.DeleteStanding(ctx, chapterID(strings.TrimSuffix(aggregate, "/standing")))
	})

// charterTopic keeps who is chartered.
var charterTopic = whole("charter",
	func(ctx context.Context, q *db.Queries, c *eventv1.CharterChanged) error {
		return q.PutCharter(ctx, db.PutCharterParams{ChapterID: charterID(c.GetCharter()), State: c.GetState()})
	},
	func(ctx context.Context, q *db.Queries, aggregate string) error {
		return q.DeleteCharter(ctx, charterID(aggregate))
	})

func chapterID(name string) string { return strings.TrimPrefix(name, "chapters/") }

// charterID is the chapter's id too.
func charterID(name string) string { return strings.TrimPrefix(name, "charters/") }

// whole is the topic of a kind whose events hold the whole aggregate. Notices and messages of other types pass by.
func whole[M proto.Message](kind string,
	put func(context.Context, *db.Queries, M) error,
	remove func(ctx context.Context, q *db.Queries, aggregate string) error,
) bus.Topic {
	return bus.Topic{
		Kind: kind,
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			for _, part := range parts {
				if message, ok := part.Data.(M); ok {
					if err := put(ctx, db.New(tx), message); err != nil {
						return err
					}
				}
			}
			return nil
		},
		Replace: func(ctx context.Context, tx pgx.Tx, aggregate string, snapshot *bus.Snapshot) error {
			if snapshot.Gone {
				return remove(ctx, db.New(tx), aggregate)
			}
			for part, err := range snapshot.Parts() {
				if err != nil {
					return err
				}
				if message, ok := part.(M); ok {
					if err := put(ctx, db.New(tx), message); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}
