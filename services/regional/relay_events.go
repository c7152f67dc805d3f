package regional

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// beginRelayEpoch begins a new epoch for every announcement of ours and every relay, and tells of them again.
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
