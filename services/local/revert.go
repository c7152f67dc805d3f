package local

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// RevertSync undoes an applied sync, but for what changed since.
func (s *Service) RevertSync(ctx context.Context, req *localv1.RevertSyncRequest) (*localv1.Sync, error) {
	return s.onSync(ctx, req.GetName(), func(tx pgx.Tx, sync db.Sync, now time.Time) (db.Sync, error) {
		if sync.State == reverted {
			return sync, nil
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), syncEtag(sync)); err != nil {
			return sync, err
		}
		if err := s.refuseRevert(sync, req.GetName(), now); err != nil {
			return sync, err
		}
		return s.revert(ctx, tx, sync, req.GetName(), now)
	})
}

func (s *Service) refuseRevert(sync db.Sync, name string, now time.Time) error {
	if sync.State != applied {
		state := stateAt(sync, now)
		return rpc.Precondition(errorv1.Reason_REASON_SYNC_STATE, "%s is %s; only an applied sync can be reverted", name, state).With("state", state)
	}
	if until := s.revertUntil(sync); sync.AppliedVersion == nil || sync.ChangesPruned || !now.Before(*until) {
		return rpc.Precondition(errorv1.Reason_REASON_REVERT_EXPIRED, "%s could be reverted for %s", name, s.config.KeepChanges)
	}
	return nil
}

// revertUntil is until when an applied sync can be reverted, nil for any other.
func (s *Service) revertUntil(sync db.Sync) *time.Time {
	if sync.State != applied || sync.ApplyTime == nil {
		return nil
	}
	until := sync.ApplyTime.Add(s.config.KeepChanges)
	return &until
}

// revert plans the opposite of a sync and applies it at once, as a change like any other: a sync of its own, which is
// shown nowhere. The caller holds the sync's row.
func (s *Service) revert(ctx context.Context, tx pgx.Tx, sync db.Sync, name string, now time.Time) (db.Sync, error) {
	q := db.New(tx)
	list, err := q.ListByNoForUpdate(ctx, sync.ListNo)
	if err != nil {
		return sync, fmt.Errorf("lock the list of %s: %w", name, err)
	}
	if list.Deleted || list.Epoch != sync.ListEpoch {
		return sync, rpc.Precondition(errorv1.Reason_REASON_REVERT_EXPIRED, "the list was deleted or made anew since %s was applied", name)
	}
	undo, conflicts, err := planRevert(ctx, q, sync, list, now)
	if err != nil {
		return sync, fmt.Errorf("plan the revert of %s: %w", name, err)
	}
	if _, err := applyChanges(ctx, tx, undo, list, now); err != nil {
		return sync, fmt.Errorf("revert %s: %w", name, err)
	}
	if sync.Mode == localv1.Sync_REPLACE.String() {
		err := q.UnseeSource(ctx, db.UnseeSourceParams{ListNo: sync.ListNo, Source: sync.Source, Before: sync.ReplacedTime, Seen: *sync.ApplyTime})
		if err != nil {
			return sync, fmt.Errorf("revert what %s has seen: %w", name, err)
		}
	}
	return q.SetSyncReverted(ctx, db.SetSyncRevertedParams{SyncNo: sync.SyncNo, Now: now, Conflicts: conflicts})
}

// planRevert stores the opposite of each change, and counts the entries that stay as they are because they changed since.
func planRevert(ctx context.Context, q *db.Queries, sync db.Sync, list db.List, now time.Time) (undo db.Sync, conflicts int32, err error) {
	if err := q.PrepareToRevert(ctx); err != nil {
		return undo, 0, err
	}
	number, err := q.NextSyncNo(ctx)
	if err != nil {
		return undo, 0, err
	}
	rows, err := q.PlanRevert(ctx, db.PlanRevertParams{
		SyncNo: sync.SyncNo, RevertNo: number, ListNo: list.ListNo, AppliedVersion: *sync.AppliedVersion,
	})
	if err != nil {
		return undo, 0, err
	}
	counted := fates{}
	for _, row := range rows {
		counted[fate{row.Kind, row.State}] += row.Size
	}
	id, err := newSyncID()
	if err != nil {
		return undo, 0, err
	}
	undo, err = q.InsertSync(ctx, db.InsertSyncParams{
		SyncNo: number, ID: id, ListNo: list.ListNo, ListEpoch: list.Epoch, ListVersion: list.Version,
		State: applied, Mode: sync.Mode, Source: sync.Source, Format: []byte{}, Reverts: &sync.SyncNo,
		Added: counted.of(kindAdd), AddedPending: counted[fate{kindAdd, pending}],
		Updated: counted.of(kindUpdate) + counted.of(kindUpdateUnclaim),
		Removed: counted.of(kindRemove), RemovedPending: counted[fate{kindRemove, pending}],
		Kept: counted.of(kindKept), Claimed: counted.of(kindClaim),
		CreateTime: now, ExpireTime: now,
	})
	return undo, counted.of(kindConflict), err
}
