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
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// connectBus makes what publishes the tree, answers for it, and keeps the copies.
func (s *Service) connectBus(deps Deps) error {
	s.publisher = bus.NewPublisher(bus.PublisherConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Regional, Site: bus.MainSite,
		Log: deps.Log, Registerer: deps.Registerer, OnRestored: s.onRestored,
	})
	responder := bus.NewResponder(bus.ResponderConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Regional, Site: bus.MainSite,
		Log: deps.Log, Registerer: deps.Registerer,
	},
		bus.Owner{Kind: "region", Versions: regionVersions, Snapshot: regionSnapshot},
		bus.Owner{Kind: "placement", Versions: placementVersions, Snapshot: placementSnapshot},
		bus.Owner{Kind: "relay", Versions: relayVersions, Snapshot: relaySnapshot},
		bus.Owner{Kind: "announcement", Versions: ownVersions, Snapshot: ownSnapshot},
		caseOwner(), erasureOwner(bus.MainSite))
	s.background = append(s.background, s.publisher.Run, responder.Run, s.runClockwork, s.runMail)

	if err := s.consume(deps, bus.International, bus.MainSite, standingTopic, charterTopic, s.escalationTopic(), s.announcementTopic(), noticeTopic, s.erasureTopic()); err != nil {
		return err
	}
	for _, site := range deps.Config.Sites {
		if err := s.consume(deps, bus.Local, site, s.heard(site, s.chapterTopic(site)), s.heard(site, s.concernTopic()),
			s.heard(site, s.receiptTopic()), s.heard(site, listTopic)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) consume(deps Deps, tier, site string, topics ...bus.Topic) error {
	consumer, err := bus.NewConsumer(bus.ConsumerConfig{
		Pool: deps.Pool, NATS: deps.NATS, Tier: bus.Regional, Site: bus.MainSite,
		FromTier: tier, FromSite: site, Topics: topics, Log: deps.Log, Registerer: deps.Registerer,
		AfterCommit: s.publisher.Wake, GapWait: deps.Config.GapWait, CompareEvery: deps.Config.CompareEvery,
	})
	if err != nil {
		return fmt.Errorf("consume from %s %s: %w", tier, site, err)
	}
	s.background = append(s.background, consumer.Run)
	return nil
}

// regionChanged tells what has become of a region. The caller holds its lock.
func regionChanged(region db.Region) bus.Event {
	return bus.Event{
		Subject:   "region." + region.ID + ".changed",
		Aggregate: regionName(region.ID),
		Version:   bus.Version{Epoch: region.Epoch, Number: region.Version},
		Data:      changed(region),
	}
}

func changed(r db.Region) *eventv1.RegionChanged {
	return &eventv1.RegionChanged{
		Region:       regionName(r.ID),
		DisplayName:  r.DisplayName,
		CountryCodes: r.CountryCodes,
		CreateTime:   timestamppb.New(r.CreateTime),
		UpdateTime:   timestamppb.New(r.UpdateTime),

		ParentRegion:  optionalRegion(r.ParentID),
		EffectiveTime: timestamppb.New(r.EffectiveTime),
		Closed:        r.CloseTime != nil,
		MergedInto:    optionalRegion(r.MergedInto),
	}
}

// announce tells once of what the migrations made: regions/world, and the placements of the chapters that were known.
func (s *Service) announce(ctx context.Context) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		q, now := db.New(tx), s.clock.Now()
		if err := q.BeginDigests(ctx, new(s.nextDigest(now))); err != nil {
			return struct{}{}, err
		}
		placements, err := q.FirstPlacements(ctx, now.UnixMicro())
		if err != nil {
			return struct{}{}, err
		}
		events := placementsChanged(placements...)
		root, err := q.BeginRoot(ctx, db.BeginRootParams{Epoch: now.UnixMicro(), Now: now})
		if err == nil {
			events = append(events, regionChanged(root))
			err = q.BeginHistory(ctx, db.BeginHistoryParams{ID: root.ID, Change: int16(regionalv1.RegionPeriod_CREATED)})
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return struct{}{}, err
		}
		return struct{}{}, bus.Append(ctx, tx, events...)
	})
	return err
}

// onRestored begins a new epoch for everything that is owned here, and tells of all of it again.
func (s *Service) onRestored(ctx context.Context, tx pgx.Tx, epoch int64) error {
	if err := s.doubtMails(ctx, db.New(tx)); err != nil {
		return err
	}
	regions, err := db.New(tx).BeginEpoch(ctx, epoch)
	if err != nil {
		return err
	}
	placements, err := db.New(tx).BeginPlacementEpoch(ctx, epoch)
	if err != nil {
		return err
	}
	events := placementsChanged(placements...)
	for _, region := range regions {
		events = append(events, regionChanged(region))
	}
	erasures, err := beginErasureEpoch(ctx, tx, bus.MainSite, epoch)
	if err != nil {
		return err
	}
	if err := bus.Append(ctx, tx, append(events, erasures...)...); err != nil {
		return err
	}
	if err := beginRelayEpoch(ctx, tx, epoch); err != nil {
		return err
	}
	return beginCaseEpoch(ctx, tx, epoch)
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
	region, err := db.New(tx).AnyRegion(ctx, regionID(aggregate))
	if errors.Is(err, pgx.ErrNoRows) || err == nil && region.Version == 0 {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: region.Epoch, Number: region.Version}, true, send(changed(region))
}

// standingTopic keeps who is eligible.
var standingTopic = whole("standing",
	func(ctx context.Context, q *db.Queries, s *eventv1.StandingChanged) error {
		return q.PutStanding(ctx, db.PutStandingParams{ChapterID: chapterID(s.GetChapter()), Eligible: s.GetEligible()})
	},
	func(ctx context.Context, q *db.Queries, aggregate string) error {
		return q.DeleteStanding(ctx, chapterID(strings.TrimSuffix(aggregate, "/standing")))
	})

// charterTopic keeps the state of each charter.
var charterTopic = whole("charter",
	func(ctx context.Context, q *db.Queries, c *eventv1.CharterChanged) error {
		return q.PutCharter(ctx, db.PutCharterParams{
			ChapterID: charterID(c.GetCharter()), State: c.GetState(), StateTime: instant(c.GetUpdateTime()), CureByTime: instant(c.GetCureByTime()),
		})
	},
	func(ctx context.Context, q *db.Queries, aggregate string) error {
		return q.DeleteCharter(ctx, charterID(aggregate))
	})

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
