package local

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// ErasePerson forgets a person on all lists of a chapter, where it leaves keyed tombstones, and among its officers. Erasing
// again changes nothing.
func (s *Service) ErasePerson(ctx context.Context, req *localv1.ErasePersonRequest) (*localv1.ErasePersonResponse, error) {
	canonical, err := address.Canonical(req.GetAddress())
	if err != nil {
		return nil, invalidAddress("address", err)
	}
	token := s.siteKey.Token(canonical)
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.ErasePersonResponse, error) {
		q, now, chapter := db.New(tx), s.clock.Now(), chapterID(req.GetParent())
		if _, err := q.Chapter(ctx, chapter); err != nil {
			return nil, orNotFound(err, req.GetParent())
		}
		lists, err := q.ListsOfEntry(ctx, db.ListsOfEntryParams{ChapterID: chapter, Token: token[:]})
		if err != nil {
			return nil, err
		}
		answer := &localv1.ErasePersonResponse{}
		for _, list := range lists { // a chapter has a handful
			name := listName(chapter, list.ID)
			if err := eraseEntry(ctx, tx, list, token[:], now); err != nil {
				return nil, fmt.Errorf("erase from %s: %w", name, err)
			}
			answer.Entries = append(answer.Entries, entryName(name, token[:]))
			holding, err := q.ConnectorsHolding(ctx, db.ConnectorsHoldingParams{ListNo: list.ListNo, Token: token[:], Now: now})
			if err != nil {
				return nil, err
			}
			for _, id := range holding {
				answer.Connectors = append(answer.Connectors, name+"/connectors/"+id)
			}
		}
		if answer.Officers, err = s.eraseOfficers(ctx, tx, chapter, token[:]); err != nil {
			return nil, fmt.Errorf("erase from the officers of %s: %w", req.GetParent(), err)
		}
		return answer, forgetPlans(ctx, tx, chapter, canonical, token[:])
	})
}

// eraseEntry leaves of an entry that somebody is not to be brought back. The caller holds the list.
func eraseEntry(ctx context.Context, tx pgx.Tx, list db.List, token []byte, now time.Time) error {
	q := db.New(tx)
	entry, err := q.Entry(ctx, db.EntryParams{ListNo: list.ListNo, Token: token})
	if err != nil {
		return err
	}
	if err := q.EraseConsents(ctx, db.EraseConsentsParams{ListNo: list.ListNo, Token: token}); err != nil {
		return err
	}
	if err := q.EraseMails(ctx, db.EraseMailsParams{ListNo: list.ListNo, Token: token}); err != nil {
		return err
	}
	if entry.State == unsubscribed && entry.Address == "" {
		return nil
	}
	if _, err := q.EraseEntry(ctx, db.EraseEntryParams{ListNo: list.ListNo, Token: token, Version: list.Version + 1, Now: now}); err != nil {
		return err
	}
	return moveEntries(ctx, tx, list, now, move{entry.State, unsubscribed, token})
}

// forgetPlans takes a person out of what is kept for a day: plans, and answers to repeated calls.
func forgetPlans(ctx context.Context, tx pgx.Tx, chapter, canonical string, token []byte) error {
	q := db.New(tx)
	if _, err := q.CancelPlansWith(ctx, db.CancelPlansWithParams{ChapterID: chapter, Token: token}); err != nil {
		return fmt.Errorf("cancel plans: %w", err)
	}
	if err := q.EraseFromPlans(ctx, db.EraseFromPlansParams{ChapterID: chapter, Token: token}); err != nil {
		return fmt.Errorf("erase from plans: %w", err)
	}
	return rpc.ForgetAnswers(ctx, tx, canonical)
}
