package local

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// concernChanged tells of a concern as it stands, and not of who raised it.
func concernChanged(c db.Concern) bus.Event {
	return bus.Event{
		Subject:   "concern." + c.ChapterID + "." + element(c.Name, 3) + ".changed",
		Aggregate: c.Name,
		Version:   bus.Version{Epoch: c.Epoch, Number: c.Version},
		Data:      concernMessage(c),
	}
}

func concernMessage(c db.Concern) *eventv1.ConcernChanged {
	return &eventv1.ConcernChanged{
		Concern:    c.Name,
		Region:     regionName(c.Region),
		Subject:    c.Subject,
		Body:       c.Body,
		Shared:     c.Shared,
		Joins:      c.Joins,
		Withdrawn:  c.Withdrawn,
		CreateTime: timestamppb.New(c.CreateTime),
		UpdateTime: timestamppb.New(c.UpdateTime),
	}
}

// concernOwner answers for the concerns.
func concernOwner() bus.Owner {
	return bus.Owner{Kind: "concern", Versions: concernVersions, Snapshot: concernSnapshot}
}

func concernVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).ConcernVersions(ctx, db.ConcernVersionsParams{After: after, Size: int32(limit)})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{Aggregate: row.Name, Version: bus.Version{Epoch: row.Epoch, Number: row.Version}})
	}
	return versions, err
}

func concernSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	concern, err := db.New(tx).Concern(ctx, aggregate)
	if err != nil {
		return bus.Version{}, false, ignoreNoRows(err)
	}
	return bus.Version{Epoch: concern.Epoch, Number: concern.Version}, true, send(concernMessage(concern))
}

// beginConcernEpoch tells of all concerns again after this database was restored from a backup.
func beginConcernEpoch(ctx context.Context, tx pgx.Tx, epoch int64) ([]bus.Event, error) {
	concerns, err := db.New(tx).BeginConcernEpoch(ctx, epoch)
	events := make([]bus.Event, 0, len(concerns))
	for _, concern := range concerns {
		events = append(events, concernChanged(concern))
	}
	return events, err
}

// caseTopic keeps what becomes of this site's concerns, and what its chapters can join.
func caseTopic() bus.Topic {
	return bus.Topic{
		Kind: "case",
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			for _, part := range parts {
				if message, ok := part.Data.(*eventv1.CaseChanged); ok {
					if err := putCase(ctx, tx, message, part.Version); err != nil {
						return err
					}
				}
			}
			return nil
		},
		Replace: func(ctx context.Context, tx pgx.Tx, aggregate string, snapshot *bus.Snapshot) error {
			if snapshot.Gone {
				return db.New(tx).DeleteCase(ctx, aggregate)
			}
			for part, err := range snapshot.Parts() {
				if err != nil {
					return err
				}
				if message, ok := part.(*eventv1.CaseChanged); ok {
					if err := putCase(ctx, tx, message, snapshot.Version); err != nil {
						return err
					}
				}
			}
			return nil
		},
	}
}

func putCase(ctx context.Context, tx pgx.Tx, c *eventv1.CaseChanged, version bus.Version) error {
	q := db.New(tx)
	put, err := q.PutCase(ctx, db.PutCaseParams{
		Name: c.GetCase(), Region: element(c.GetCase(), 1), Subject: c.GetSubject(), Body: c.GetBody(), Shared: c.GetShared(),
		State: c.GetState(), MergedInto: c.GetMergedInto(), LiesWith: c.GetLiesWith(), LiesState: c.GetLiesState(),
		DueTime: optionalMoment(c.GetDueTime()), Overdue: c.GetOverdue(), FirstAnswerTime: optionalMoment(c.GetFirstAnswerTime()),
		VendorNote: c.GetVendorNote(), RaiserCount: c.GetRaiserCount(), Epoch: version.Epoch, Version: version.Number,
		CreateTime: c.GetCreateTime().AsTime(), UpdateTime: c.GetUpdateTime().AsTime(),
	})
	if err != nil || put == 0 {
		return err
	}
	for _, answer := range c.GetAnswers() {
		id, err := uuid.Parse(answer.GetId())
		if err != nil {
			return fmt.Errorf("an answer of %s: %w", c.GetCase(), err)
		}
		if err := q.PutCaseAnswer(ctx, db.PutCaseAnswerParams{
			CaseName: c.GetCase(), ID: id, GivenBy: answer.GetBy(), Body: answer.GetBody(), CreateTime: answer.GetCreateTime().AsTime(),
		}); err != nil {
			return err
		}
	}
	return nil
}

func optionalMoment(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	when := t.AsTime()
	return &when
}
