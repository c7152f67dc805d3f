package local

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// receiptBatch is how many receipts are told in a transaction.
const receiptBatch = 500

// runReceipts tells what became of announcements until ctx ends: of each in each chapter at most once a second.
func (s *Service) runReceipts(ctx context.Context) error {
	repeat(ctx, mailTick, func() {
		for told := receiptBatch; told == receiptBatch; {
			var err error
			if told, err = s.tellReceipts(ctx); err != nil && ctx.Err() == nil {
				s.log.ErrorContext(ctx, "receipts are not told", "error", err)
			}
		}
	})
	return nil
}

// tellReceipts tells of receipts that have moved, and answers of how many. What moves meanwhile is told the next time.
func (s *Service) tellReceipts(ctx context.Context) (int, error) {
	told, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (int, error) {
		q := db.New(tx)
		if err := q.MarkMoved(ctx, db.MarkMovedParams{Now: s.clock.Now(), Size: receiptBatch}); err != nil {
			return 0, err
		}
		taken, err := q.TakeReceipts(ctx, receiptBatch)
		if err != nil || len(taken) == 0 {
			return 0, err
		}
		var args db.ReceiptsParams
		for _, row := range taken {
			args.AnnouncementIds, args.ChapterIds = append(args.AnnouncementIds, row.AnnouncementID), append(args.ChapterIds, row.ChapterID)
		}
		rows, err := q.Receipts(ctx, args)
		if err != nil {
			return 0, err
		}
		events := make([]bus.Event, 0, len(rows))
		for _, row := range rows {
			events = append(events, receiptChanged(row))
		}
		return len(taken), bus.Append(ctx, tx, events...)
	})
	if told > 0 && err == nil {
		s.publisher.Wake()
	}
	return told, err
}

func receiptName(chapter string, id uuid.UUID) string {
	return chapterName(chapter) + "/receipts/" + id.String()
}

func receiptChanged(row db.ReceiptsRow) bus.Event {
	return bus.Event{
		Subject:   fmt.Sprintf("receipt.%s.%s.changed", row.InboxItem.ChapterID, row.InboxItem.AnnouncementID),
		Aggregate: receiptName(row.InboxItem.ChapterID, row.InboxItem.AnnouncementID),
		Version:   bus.Version{Epoch: row.InboxItem.Epoch, Number: row.InboxItem.Version},
		Data:      receiptMessage(row),
	}
}

func receiptMessage(row db.ReceiptsRow) *eventv1.ReceiptChanged {
	item := row.InboxItem
	state := localv1.InboxItem_State(item.State)
	if row.Recalled {
		state = localv1.InboxItem_RECALLED
	}
	reach := &eventv1.Reach{
		ChaptersReached: 1,
		PeopleQueued:    row.Queued, PeopleMailed: row.Sent, PeopleBounced: row.Bounced, PeopleFailed: row.Failed,
		PeopleUncertain: row.Uncertain, PeopleUnsubscribed: row.Unsubscribed,
	}
	if row.Mailings > 0 {
		reach.ChaptersSent = 1
	}
	if item.State == itemDismissed {
		reach.ChaptersDismissed = 1
	}
	return &eventv1.ReceiptChanged{
		Receipt: receiptName(item.ChapterID, item.AnnouncementID), Announcement: row.Announcement,
		Chapter: chapterName(item.ChapterID), Region: regionName(item.Region), State: state.String(), Edition: row.Edition,
		Reach: reach, ArriveTime: timestamppb.New(item.ArriveTime), UpdateTime: timestamppb.New(item.UpdateTime),
	}
}

func receiptVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	args := db.ReceiptVersionsParams{Size: int32(limit)}
	if after != "" {
		args.Chapter, args.AnnouncementID = chapterID(after)+"/", itemID(after)
	}
	rows, err := db.New(tx).ReceiptVersions(ctx, args)
	if err != nil {
		return nil, err
	}
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: receiptName(row.ChapterID, row.AnnouncementID), Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, nil
}

func receiptSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	rows, err := db.New(tx).Receipts(ctx, db.ReceiptsParams{
		AnnouncementIds: []uuid.UUID{itemID(aggregate)}, ChapterIds: []string{chapterID(aggregate)},
	})
	if err != nil || len(rows) == 0 {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: rows[0].InboxItem.Epoch, Number: rows[0].InboxItem.Version}, true, send(receiptMessage(rows[0]))
}
