package regional

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

const (
	// reachEvery is the least time between two events of a relay while its counts move: a million people in a thousand
	// chapters of a hundred regions are a hundred events a second at the most.
	reachEvery = time.Second
	// reachBatch bounds how many relays one transaction adds up.
	reachBatch = 200
)

// receiptTopic keeps the last receipt of each chapter.
func (s *Service) receiptTopic() bus.Topic {
	return bus.Topic{
		Kind: "receipt",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			receipt, ok := parts[0].Data.(*eventv1.ReceiptChanged)
			if !ok {
				return nil
			}
			return putReceipt(ctx, tx, receipt)
		},
		Replace: func(ctx context.Context, tx pgx.Tx, aggregate string, snapshot *bus.Snapshot) error {
			if snapshot.Gone {
				return deleteReceipt(ctx, tx, aggregate)
			}
			for part, err := range snapshot.Parts() {
				if err != nil {
					return err
				}
				if receipt, ok := part.(*eventv1.ReceiptChanged); ok {
					if err := putReceipt(ctx, tx, receipt); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

// putReceipt keeps a receipt and notes whose sums it moves. Nobody else writes the same one meanwhile: the consumer holds its
// position.
func putReceipt(ctx context.Context, tx pgx.Tx, receipt *eventv1.ReceiptChanged) error {
	chapter, id, err := receiptKey(receipt.GetReceipt())
	if err != nil {
		return err
	}
	reach := receipt.GetReach()
	return db.New(tx).PutReceipt(ctx, db.PutReceiptParams{
		AnnouncementID: id, ChapterID: chapter, RegionID: regionID(receipt.GetRegion()),
		ChaptersReached: reach.GetChaptersReached(), ChaptersSent: reach.GetChaptersSent(), ChaptersDismissed: reach.GetChaptersDismissed(),
		PeopleQueued: reach.GetPeopleQueued(), PeopleMailed: reach.GetPeopleMailed(), PeopleBounced: reach.GetPeopleBounced(),
		PeopleFailed: reach.GetPeopleFailed(), PeopleUncertain: reach.GetPeopleUncertain(), PeopleUnsubscribed: reach.GetPeopleUnsubscribed(),
	})
}

// deleteReceipt forgets a receipt that its site has no more.
func deleteReceipt(ctx context.Context, tx pgx.Tx, name string) error {
	chapter, id, err := receiptKey(name)
	if err != nil {
		return err
	}
	q := db.New(tx)
	regions, err := q.DeleteReceipt(ctx, db.DeleteReceiptParams{AnnouncementID: id, ChapterID: chapter})
	if err != nil {
		return err
	}
	return q.MoveReach(ctx, db.MoveReachParams{AnnouncementID: id, Regions: regions})
}

// receiptKey reads "chapters/<chapter>/receipts/<uuid>".
func receiptKey(name string) (chapter string, id uuid.UUID, err error) {
	elements := strings.Split(name, "/")
	if len(elements) != 4 {
		return "", uuid.Nil, fmt.Errorf("%q is no receipt", name)
	}
	id, err = uuid.Parse(elements[3])
	return elements[1], id, err
}

// tellReach adds up the receipts of relays that moved and whose turn it is, tells of the sums, and says how many there were.
func (s *Service) tellReach(ctx context.Context) (int, error) {
	n := 0
	err := s.alone(ctx, func(tx pgx.Tx) error {
		q := db.New(tx)
		now := s.clock.Now()
		moved, err := q.MovedRelaysForUpdate(ctx, db.MovedRelaysForUpdateParams{Now: now, Size: reachBatch})
		if err != nil || len(moved) == 0 {
			return err
		}
		n = len(moved)
		var ids []uuid.UUID
		var regions []string
		for _, relay := range moved {
			ids, regions = append(ids, relay.AnnouncementID), append(regions, relay.RegionID)
		}
		// What is noted from here on is added up next time: the sums below see at least what is forgotten here.
		if err := q.ForgetMoved(ctx, db.ForgetMovedParams{Announcements: ids, Regions: regions}); err != nil {
			return err
		}
		relays, err := addUp(ctx, q, ids, regions, now)
		if err != nil {
			return err
		}
		return appendMixedRelays(ctx, tx, relays)
	})
	if err != nil {
		return 0, fmt.Errorf("add up receipts: %w", err)
	}
	return n, nil
}

// addUp writes the sums of the receipts, and returns the relays that they changed.
func addUp(ctx context.Context, q *db.Queries, ids []uuid.UUID, regions []string, now time.Time) ([]db.Relay, error) {
	sums, err := q.SumReceipts(ctx, db.SumReceiptsParams{Announcements: ids, Regions: regions})
	if err != nil {
		return nil, err
	}
	args := db.SetReachParams{Now: now, Next: now.Add(reachEvery)}
	for _, sum := range sums {
		reach, err := proto.MarshalOptions{Deterministic: true}.Marshal(&eventv1.Reach{
			ChaptersReached: sum.ChaptersReached, ChaptersSent: sum.ChaptersSent, ChaptersDismissed: sum.ChaptersDismissed,
			PeopleQueued: sum.PeopleQueued, PeopleMailed: sum.PeopleMailed, PeopleBounced: sum.PeopleBounced,
			PeopleFailed: sum.PeopleFailed, PeopleUncertain: sum.PeopleUncertain, PeopleUnsubscribed: sum.PeopleUnsubscribed,
		})
		if err != nil {
			return nil, err
		}
		args.Announcements = append(args.Announcements, sum.AnnouncementID)
		args.Regions = append(args.Regions, sum.RegionID)
		args.Reaches = append(args.Reaches, orEmpty(reach))
	}
	return q.SetReach(ctx, args)
}

// appendMixedRelays tells of relays of several announcements.
func appendMixedRelays(ctx context.Context, tx pgx.Tx, relays []db.Relay) error {
	byID, err := announcementsOf(ctx, db.New(tx), relays)
	if err != nil {
		return err
	}
	events := make([]bus.Event, 0, len(relays))
	for _, relay := range relays {
		event, err := relayEvent(relay, byID[relay.AnnouncementID])
		if err != nil {
			return err
		}
		events = append(events, relayChanged(relay, event))
	}
	return bus.Append(ctx, tx, events...)
}
