package regional

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/erasure"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// erasureTopic forgets whom the international body has erased. Regions know people by the name under which they sign in
// alone: coordinators, and those who moved regions and chapters.
func (s *Service) erasureTopic() bus.Topic {
	return bus.Topic{
		Kind:  "erasure",
		Alone: true,
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			order, ok := parts[0].Data.(*eventv1.MemberErased)
			if !ok {
				return fmt.Errorf("%s carries a %T", parts[0].Subject, parts[0].Data)
			}
			erased, err := erasePerson(ctx, tx, order)
			if err != nil {
				return fmt.Errorf("carry out %s: %w", order.GetErasure(), err)
			}
			return confirmErasure(ctx, tx, bus.MainSite, order, erased, s.clock.Now())
		},
	}
}

// erasePerson counts the records that held the person. What was done stays in the histories, by nobody.
func erasePerson(ctx context.Context, tx pgx.Tx, order *eventv1.MemberErased) (int32, error) {
	q := db.New(tx)
	subjects, err := q.Subjects(ctx)
	if err != nil {
		return 0, err
	}
	subject := erasure.Subject(order, subjects)
	if subject == "" {
		return 0, nil
	}
	coordinators, err := q.EraseCoordinator(ctx, subject)
	if err != nil {
		return 0, fmt.Errorf("erase a coordinator: %w", err)
	}
	snoozes, err := q.EraseSnoozes(ctx, subject)
	if err != nil {
		return 0, fmt.Errorf("erase snoozes: %w", err)
	}
	deeds, err := q.EraseActor(ctx, db.EraseActorParams{Nobody: erasure.Nobody, Subject: subject})
	if err != nil {
		return 0, err
	}
	proposed, err := q.EraseProposer(ctx, db.EraseProposerParams{Nobody: erasure.Nobody, Subject: subject})
	if err != nil {
		return 0, err
	}
	decided, err := q.EraseDecider(ctx, db.EraseDeciderParams{Nobody: erasure.Nobody, Subject: subject})
	if err != nil {
		return 0, err
	}
	return int32(coordinators + snoozes + deeds + proposed + decided), rpc.ForgetAnswers(ctx, tx, subject)
}

// confirmErasure keeps that a person was forgotten, and says so. Every time: after a restore the confirmation is new.
func confirmErasure(ctx context.Context, tx pgx.Tx, site string, order *eventv1.MemberErased, erased int32, now time.Time) error {
	row, err := db.New(tx).ConfirmErasure(ctx, db.ConfirmErasureParams{
		ID: erasure.IDOf(order.GetErasure()), Member: order.GetMember(), Erased: erased, Now: now,
	})
	if err != nil {
		return fmt.Errorf("confirm %s: %w", order.GetErasure(), err)
	}
	return bus.Append(ctx, tx, confirmation(site, row).Event())
}

func confirmation(site string, row db.Erasure) erasure.Confirmation {
	return erasure.Confirmation{
		Tier: bus.Regional, Site: site, ID: row.ID, Member: row.Member, Erased: row.Erased,
		Version: bus.Version{Epoch: row.Epoch, Number: row.Version}, At: row.ConfirmTime,
	}
}

// erasureOwner answers for the confirmations.
func erasureOwner(site string) bus.Owner {
	return bus.Owner{
		Kind: "erasure",
		Versions: func(ctx context.Context, tx pgx.Tx, after string, limit int) ([]bus.AggregateVersion, error) {
			rows, err := db.New(tx).ErasureVersions(ctx, db.ErasureVersionsParams{After: erasure.IDOf(after), Size: int32(limit)})
			versions := make([]bus.AggregateVersion, 0, len(rows))
			for _, row := range rows {
				versions = append(versions, bus.AggregateVersion{
					Aggregate: erasure.Confirmation{Tier: bus.Regional, Site: site, ID: row.ID}.Aggregate(),
					Version:   bus.Version{Epoch: row.Epoch, Number: row.Version},
				})
			}
			return versions, err
		},
		Snapshot: func(ctx context.Context, tx pgx.Tx, aggregate string, send func(proto.Message) error) (bus.Version, bool, error) {
			row, err := db.New(tx).ReadErasure(ctx, erasure.IDOf(aggregate))
			if errors.Is(err, pgx.ErrNoRows) {
				return bus.Version{}, false, nil
			}
			if err != nil {
				return bus.Version{}, false, err
			}
			confirmed := confirmation(site, row)
			return confirmed.Version, true, send(confirmed.Message())
		},
	}
}

// beginErasureEpoch tells of all confirmations again after this database was restored from a backup.
func beginErasureEpoch(ctx context.Context, tx pgx.Tx, site string, epoch int64) ([]bus.Event, error) {
	rows, err := db.New(tx).BeginErasureEpoch(ctx, epoch)
	events := make([]bus.Event, 0, len(rows))
	for _, row := range rows {
		events = append(events, confirmation(site, row).Event())
	}
	return events, err
}
