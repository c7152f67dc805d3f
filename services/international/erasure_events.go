package international

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
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// erasureRequested tells all others to forget a person.
func erasureRequested(ctx context.Context, q *db.Queries, row db.Erasure, memberID string) (bus.Event, error) {
	order, err := erasureMessage(ctx, q, row, memberID)
	return bus.Event{
		Subject:   "erasure." + row.ID + ".requested",
		Aggregate: "erasures/" + row.ID,
		Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
		Data:      order,
	}, err
}

func erasureMessage(ctx context.Context, q *db.Queries, row db.Erasure, memberID string) (*eventv1.MemberErased, error) {
	parts, err := q.ErasureParts(ctx, []int64{row.ErasureNo})
	if err != nil {
		return nil, fmt.Errorf("read the parts of erasures/%s: %w", row.ID, err)
	}
	order := &eventv1.MemberErased{
		Erasure: "erasures/" + row.ID, Member: "members/" + memberID,
		SignInSalt: row.SignInSalt, SignInDigest: row.SignInDigest, CreateTime: timestamppb.New(row.CreateTime),
	}
	for _, part := range parts {
		if site, local := strings.CutPrefix(part.Part, bus.Local+"/"); local {
			order.Sites = append(order.Sites, &eventv1.ErasedTokens{Site: site, Tokens: part.Tokens})
		}
	}
	return order, nil
}

// erasureOwner answers for the erasures. A site that was restored from a backup has lost some, and finds them here.
func erasureOwner() bus.Owner {
	return bus.Owner{Kind: "erasure", Versions: erasureVersions, Snapshot: erasureSnapshot}
}

func erasureVersions(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
	rows, err := db.New(tx).ErasureVersionsAfter(ctx, db.ErasureVersionsAfterParams{After: idOf(after), Size: int32(limit)})
	versions := make([]bus.AggregateVersion, 0, len(rows))
	for _, row := range rows {
		versions = append(versions, bus.AggregateVersion{
			Aggregate: "erasures/" + row.ID, Version: bus.Version{Epoch: row.Epoch, Number: row.Version},
		})
	}
	return versions, err
}

func erasureSnapshot(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
	q := db.New(tx)
	row, err := q.ReadErasure(ctx, idOf(aggregate))
	if errors.Is(err, pgx.ErrNoRows) {
		return bus.Version{}, false, nil
	}
	if err != nil {
		return bus.Version{}, false, err
	}
	order, err := erasureMessage(ctx, q, row.Erasure, row.MemberID)
	if err != nil {
		return bus.Version{}, false, err
	}
	return bus.Version{Epoch: row.Erasure.Epoch, Number: row.Erasure.Version}, true, send(order)
}

// beginErasureEpoch tells of all erasures again after this database was restored from a backup.
func beginErasureEpoch(ctx context.Context, q *db.Queries, epoch int64) ([]bus.Event, error) {
	rows, err := q.MoveErasuresToEpoch(ctx, epoch)
	if err != nil {
		return nil, err
	}
	events := make([]bus.Event, 0, len(rows))
	for _, row := range rows {
		event, err := erasureRequested(ctx, q, row.Erasure, row.MemberID)
		if err != nil {
			return nil, err
		}
		events = append(events, event)
	}
	return events, nil
}

// erasureTopic takes the confirmations of one tier or site into the ledger. It may erase, with locks in an order of its own.
func (s *Service) erasureTopic() bus.Topic {
	return bus.Topic{
		Kind:  "erasure",
		Alone: true,
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			confirmed, err := data[*eventv1.ErasureConfirmed](parts[0])
			if err != nil {
				return err
			}
			return s.noteConfirmed(ctx, tx, confirmed)
		},
	}
}

func (s *Service) noteConfirmed(ctx context.Context, tx pgx.Tx, confirmed *eventv1.ErasureConfirmed) error {
	id := idOf(confirmed.GetErasure())
	args := db.ConfirmErasureParams{
		Now: confirmed.GetCreateTime().AsTime(), Erased: confirmed.GetErasedCount(), ID: id, Part: confirmed.GetPart(),
	}
	known, err := db.New(tx).ConfirmErasure(ctx, args)
	if err != nil || known > 0 {
		return err
	}
	if err := s.eraseAgain(ctx, tx, id, confirmed.GetMember()); err != nil {
		return err
	}
	_, err = db.New(tx).ConfirmErasure(ctx, args)
	return err
}
