package local

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
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// erasureTopic forgets whom the international body has erased, on all lists of the site. It takes locks of many lists.
func (s *Service) erasureTopic() bus.Topic {
	return bus.Topic{
		Kind:  "erasure",
		Alone: true,
		Apply: func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			order, ok := parts[0].Data.(*eventv1.MemberErased)
			if !ok {
				return fmt.Errorf("%s carries a %T", parts[0].Subject, parts[0].Data)
			}
			now := s.clock.Now()
			tokens := erasure.TokensAt(order, s.config.Site)
			erased, err := erasePerson(ctx, tx, tokens, now)
			if err != nil {
				return fmt.Errorf("carry out %s: %w", order.GetErasure(), err)
			}
			known, err := s.eraseSubject(ctx, tx, order, tokens)
			if err != nil {
				return fmt.Errorf("carry out %s: %w", order.GetErasure(), err)
			}
			return confirmErasure(ctx, tx, s.config.Site, order, erased+known, now)
		},
	}
}

// erasePerson forgets whoever has one of the tokens, on every list of every chapter, and counts the records that held the
// person. Keyed tombstones stay, so that no import brings the person back.
func erasePerson(ctx context.Context, tx pgx.Tx, tokens [][]byte, now time.Time) (int32, error) {
	if len(tokens) == 0 {
		return 0, nil
	}
	q := db.New(tx)
	entries, err := q.EntriesOf(ctx, tokens)
	if err != nil {
		return 0, err
	}
	var erased int32
	addresses := map[string]bool{}
	for _, entry := range entries { // a person is on a handful of lists
		list, err := q.ListByNoForUpdate(ctx, entry.ListNo)
		if err != nil {
			return 0, err
		}
		if err := eraseEntry(ctx, tx, list, entry.Token, now); err != nil {
			return 0, fmt.Errorf("erase from %s: %w", listName(list.ChapterID, list.ID), err)
		}
		if entry.Address != "" {
			addresses[entry.Address] = true
			erased++
		}
	}
	beside, err := eraseBeside(ctx, q, tokens)
	if err != nil {
		return 0, err
	}
	planned, err := erasePlans(ctx, tx, tokens, addresses)
	return erased + beside + planned, err
}

// eraseBeside deletes what is kept of a person who is on the list no more.
func eraseBeside(ctx context.Context, q *db.Queries, tokens [][]byte) (int32, error) {
	consents, err := q.EraseConsentsOf(ctx, tokens)
	if err != nil {
		return 0, fmt.Errorf("erase consents: %w", err)
	}
	mails, err := q.EraseMailsOf(ctx, tokens)
	if err != nil {
		return 0, fmt.Errorf("erase mails: %w", err)
	}
	return int32(consents + mails), nil
}

// erasePlans takes a person out of what is kept for a while: plans and old syncs, and answers to repeated calls. addresses
// are those of the entries that were erased; the plans may have others.
func erasePlans(ctx context.Context, tx pgx.Tx, tokens [][]byte, addresses map[string]bool) (int32, error) {
	planned, err := db.New(tx).ChaptersOfPlansWith(ctx, tokens)
	if err != nil {
		return 0, fmt.Errorf("find plans: %w", err)
	}
	var erased int32
	for _, one := range planned {
		if one.Address != "" {
			erased++
		}
		if err := forgetPlans(ctx, tx, one.ChapterID, one.Address, one.Token); err != nil {
			return 0, err
		}
		delete(addresses, one.Address)
	}
	for address := range addresses {
		if err := rpc.ForgetAnswers(ctx, tx, address); err != nil {
			return 0, err
		}
	}
	return erased, nil
}

// eraseSubject takes the name for signing in off the concerns that the person raised, and the person out of all offices.
func (s *Service) eraseSubject(ctx context.Context, tx pgx.Tx, order *eventv1.MemberErased, tokens [][]byte) (int32, error) {
	q := db.New(tx)
	subjects, err := q.Subjects(ctx)
	if err != nil {
		return 0, err
	}
	subject := erasure.Subject(order, subjects)
	officers, err := q.OfficersOfPerson(ctx, db.OfficersOfPersonParams{Tokens: tokens, Subject: subject})
	if err != nil {
		return 0, err
	}
	for _, officer := range officers { // one person holds a handful of offices
		if _, err := q.ChapterForUpdate(ctx, officer.ChapterID); err != nil {
			return 0, err
		}
		if err := s.removeOfficers(ctx, tx, officer); err != nil {
			return 0, err
		}
	}
	if subject == "" {
		return int32(len(officers)), nil
	}
	raised, err := q.EraseRaiser(ctx, db.EraseRaiserParams{Nobody: erasure.Nobody, Raiser: subject})
	return int32(raised) + int32(len(officers)), err
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
		Tier: bus.Local, Site: site, ID: row.ID, Member: row.Member, Erased: row.Erased,
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
					Aggregate: erasure.Confirmation{Tier: bus.Local, Site: site, ID: row.ID}.Aggregate(),
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
