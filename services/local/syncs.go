package local

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// The states of a sync as the database has them.
var (
	planned   = localv1.Sync_PLANNED.String()
	blocked   = localv1.Sync_BLOCKED.String()
	applied   = localv1.Sync_APPLIED.String()
	reverted  = localv1.Sync_REVERTED.String()
	planning  = localv1.Sync_PLANNING.String()
	cancelled = localv1.Sync_CANCELLED.String()
	expired   = localv1.Sync_EXPIRED.String()
)

// GetSync reads a sync.
func (s *Service) GetSync(ctx context.Context, req *localv1.GetSyncRequest) (*localv1.Sync, error) {
	sync, err := findSync(ctx, db.New(s.pool), req.GetName())
	if err != nil {
		return nil, err
	}
	return s.viewSync(listOf(req.GetName()), sync, s.clock.Now()), nil
}

// findSync reads the sync that a name, or what lies below it, belongs to. The list may be deleted meanwhile.
func findSync(ctx context.Context, q *db.Queries, name string) (db.Sync, error) {
	id, ok := syncID(name)
	if !ok {
		return db.Sync{}, notFound(name)
	}
	chapter, list := listIDs(name)
	sync, err := q.Sync(ctx, db.SyncParams{ChapterID: chapter, ListID: list, ID: id})
	return sync, orNotFound(err, syncName(listName(chapter, list), id))
}

// ListSyncs lists a list's syncs, newest first.
func (s *Service) ListSyncs(ctx context.Context, req *localv1.ListSyncsRequest) (*localv1.ListSyncsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := int64(math.MaxInt64)
	if page.after != "" {
		before, _ = strconv.ParseInt(page.after, 10, 64) // sealed by us
	}
	q := db.New(s.pool)
	list, err := findList(ctx, q, req.GetParent())
	if err != nil {
		return nil, err
	}
	rows, err := q.SyncsBefore(ctx, db.SyncsBeforeParams{ListNo: list.ListNo, Before: before, Size: page.fetch()})
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListSyncsResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(s db.Sync) string { return strconv.FormatInt(s.SyncNo, 10) })
	for _, row := range rows {
		answer.Syncs = append(answer.Syncs, s.viewSync(req.GetParent(), row, s.clock.Now()))
	}
	return answer, nil
}

// ApplySync applies a plan exactly as shown, or not at all.
func (s *Service) ApplySync(ctx context.Context, req *localv1.ApplySyncRequest) (*localv1.Sync, error) {
	return s.onSync(ctx, req.GetName(), func(tx pgx.Tx, sync db.Sync, now time.Time) (db.Sync, error) {
		if sync.State == applied {
			return sync, nil
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), syncEtag(sync)); err != nil {
			return sync, err
		}
		if err := refuseClosed(sync, req.GetName(), now); err != nil {
			return sync, err
		}
		if err := refuseUnconfirmed(sync, req.GetName(), req.ConfirmRemovals); err != nil {
			return sync, err
		}
		return apply(ctx, tx, sync, req.GetName(), now)
	})
}

// CancelSync gives a plan up.
func (s *Service) CancelSync(ctx context.Context, req *localv1.CancelSyncRequest) (*localv1.Sync, error) {
	return s.onSync(ctx, req.GetName(), func(tx pgx.Tx, sync db.Sync, now time.Time) (db.Sync, error) {
		if sync.State == cancelled {
			return sync, nil
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), syncEtag(sync)); err != nil {
			return sync, err
		}
		if err := refuseClosed(sync, req.GetName(), now); err != nil {
			return sync, err
		}
		return db.New(tx).SetSyncCancelled(ctx, sync.SyncNo)
	})
}

// onSync runs a change of one sync, whose row it locks first.
func (s *Service) onSync(ctx context.Context, name string, change func(tx pgx.Tx, sync db.Sync, now time.Time) (db.Sync, error)) (*localv1.Sync, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Sync, error) {
		id, ok := syncID(name)
		if !ok {
			return nil, notFound(name)
		}
		chapter, list := listIDs(name)
		sync, err := db.New(tx).SyncForUpdate(ctx, db.SyncForUpdateParams{ChapterID: chapter, ListID: list, ID: id})
		if err != nil {
			return nil, orNotFound(err, name)
		}
		now := s.clock.Now()
		if sync, err = change(tx, sync, now); err != nil {
			return nil, err
		}
		return s.viewSync(listName(chapter, list), sync, now), nil
	})
}

// stateAt is the state that a plan is in at a moment: the job that writes EXPIRED down may come later.
func stateAt(sync db.Sync, now time.Time) string {
	if (sync.State == planned || sync.State == blocked) && !now.Before(sync.ExpireTime) {
		return expired
	}
	return sync.State
}

// refuseClosed refuses what is no plan any more.
func refuseClosed(sync db.Sync, name string, now time.Time) error {
	state := stateAt(sync, now)
	if state == planned || state == blocked {
		return nil
	}
	return rpc.Precondition(errorv1.Reason_REASON_SYNC_STATE, "%s is %s", name, state).With("state", state)
}

// refuseUnconfirmed refuses a plan that the guard stopped, unless the caller names its removals.
func refuseUnconfirmed(sync db.Sync, name string, confirm *int32) error {
	if sync.State != blocked || confirm != nil && *confirm == sync.Removed {
		return nil
	}
	return rpc.Precondition(errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED,
		"%s would remove %d entries; if that is meant, repeat the number in confirmRemovals", name, sync.Removed).
		With("sync", name).With("removals", sync.Removed)
}

func syncEtag(sync db.Sync) string { return strconv.FormatInt(sync.Version, 10) }

func (s *Service) viewSync(list string, sync db.Sync, now time.Time) *localv1.Sync {
	view := &localv1.Sync{
		Name:                syncName(list, sync.ID),
		State:               localv1.Sync_State(localv1.Sync_State_value[stateAt(sync, now)]),
		Mode:                localv1.Sync_Mode(localv1.Sync_Mode_value[sync.Mode]),
		Source:              sync.Source,
		Counts:              viewCounts(sync),
		StandingBefore:      standingOf(sync.StandingBefore),
		StandingAfter:       standingOf(sync.StandingAfter),
		StandingUnavailable: sync.StandingUnavailable,
		CharterStateBefore:  charterState(sync.CharterBefore),
		CharterStateAfter:   charterState(sync.CharterAfter),
		Format:              &localv1.SourceFormat{},
		CreateTime:          timestamppb.New(sync.CreateTime),
		ApplyTime:           timestampOf(sync.ApplyTime),
		ExpireTime:          timestamppb.New(sync.ExpireTime),
		RevertExpireTime:    timestampOf(s.revertUntil(sync)),
		RevertTime:          timestampOf(sync.RevertTime),
		Conflicts:           sync.Conflicts,
		Etag:                syncEtag(sync),
	}
	_ = proto.Unmarshal(sync.Format, view.GetFormat()) // stored by us
	if sync.State == blocked {
		view.ConfirmRemovals = sync.Removed
	}
	if sync.FailureReason != "" {
		view.Failure = &localv1.SyncFailure{Reason: sync.FailureReason, Text: sync.FailureText}
	}
	return view
}

func viewCounts(sync db.Sync) *localv1.SyncCounts {
	return &localv1.SyncCounts{
		Add: sync.Added, Update: sync.Updated, Unchanged: sync.Unchanged, Remove: sync.Removed,
		Suppressed: sync.Suppressed, Rejected: sync.Rejected, Duplicate: sync.Duplicate, Kept: sync.Kept,
	}
}

// charterState is unspecified where there is no charter.
func charterState(name string) internationalv1.Charter_State {
	return internationalv1.Charter_State(internationalv1.Charter_State_value[name])
}

// timeOf is nil where there is no time.
func timeOf(t *timestamppb.Timestamp) *time.Time {
	if t == nil {
		return nil
	}
	at := t.AsTime()
	return &at
}

// timestampOf is nil where there is no time.
func timestampOf(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

// standingOf reads a stored standing, nil where there is none.
func standingOf(stored []byte) *internationalv1.Standing {
	if stored == nil {
		return nil
	}
	standing := &internationalv1.Standing{}
	_ = proto.Unmarshal(stored, standing) // stored by us
	return standing
}

// newSyncID is in the order of time.
func newSyncID() (uuid.UUID, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return id, fmt.Errorf("make a sync's id: %w", err)
	}
	return id, nil
}
