package local

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// apply does what a plan says, on the list that it was made for. The caller holds the sync's row.
func apply(ctx context.Context, tx pgx.Tx, sync db.Sync, name string, now time.Time) (db.Sync, error) {
	q := db.New(tx)
	list, err := q.ListByNoForUpdate(ctx, sync.ListNo)
	if err != nil {
		return sync, fmt.Errorf("lock the list of %s: %w", name, err)
	}
	if list.Deleted || list.Epoch != sync.ListEpoch || list.Version != sync.ListVersion {
		return sync, rpc.Aborted(errorv1.Reason_REASON_PLAN_STALE, "the list changed since %s was planned; sync again", name).With("sync", name)
	}
	if list, err = applyChanges(ctx, tx, sync, list, now); err != nil {
		return sync, fmt.Errorf("apply %s: %w", name, err)
	}
	if sync.AddedPending > 0 {
		if _, err := q.QueueConfirmations(ctx, db.QueueConfirmationsParams{SyncNo: sync.SyncNo, ListNo: sync.ListNo, Now: now}); err != nil {
			return sync, fmt.Errorf("queue the mails of %s: %w", name, err)
		}
	}
	replaced, err := noteSeen(ctx, q, sync, now)
	if err != nil {
		return sync, fmt.Errorf("note what %s has seen: %w", name, err)
	}
	return q.SetSyncApplied(ctx, db.SetSyncAppliedParams{
		SyncNo: sync.SyncNo, Now: now, AppliedVersion: list.Version, ReplacedTime: replaced,
	})
}

// noteSeen records what the source still has. A REPLACE has all that the source claims now, which is one row; a MERGE
// has what is in the file. It answers when the source gave the whole list before, nil for never.
func noteSeen(ctx context.Context, q *db.Queries, sync db.Sync, now time.Time) (before *time.Time, err error) {
	if err := q.SeenList(ctx, db.SeenListParams{ListNo: sync.ListNo, Now: now}); err != nil {
		return nil, err
	}
	if sync.Mode != localv1.Sync_REPLACE.String() {
		if sync.Updated+sync.Unchanged == 0 {
			return nil, nil //nolint:nilnil // see above
		}
		_, err := q.SeeEntries(ctx, db.SeeEntriesParams{SyncNo: sync.SyncNo, ListNo: sync.ListNo, Source: sync.Source, Now: now})
		return nil, err
	}
	last, err := q.SourceSeenTime(ctx, db.SourceSeenTimeParams{ListNo: sync.ListNo, Source: sync.Source})
	if err == nil {
		before = &last
	}
	if err := ignoreNoRows(err); err != nil {
		return nil, err
	}
	return before, q.SeeSource(ctx, db.SeeSourceParams{ListNo: sync.ListNo, Source: sync.Source, Now: now})
}

// written is how many entries a plan updates, be it only their claims.
func written(sync db.Sync) int64 { return int64(sync.Updated) + int64(sync.Claimed) + int64(sync.Kept) }

// touched is how many entries a plan touches. A list none of whose entries is touched keeps its version.
func touched(sync db.Sync) int64 { return int64(sync.Added) + int64(sync.Removed) + written(sync) }

// applyChanges takes the list to the version in which the plan's changes are made, and tells of it.
func applyChanges(ctx context.Context, tx pgx.Tx, sync db.Sync, list db.List, now time.Time) (db.List, error) {
	if touched(sync) == 0 {
		return list, nil
	}
	q := db.New(tx)
	fresh, err := addedFromNewDomain(ctx, q, sync, list)
	if err != nil {
		return list, fmt.Errorf("count the additions from a new domain: %w", err)
	}
	if err := writeEntries(ctx, q, sync, list, now); err != nil {
		return list, err
	}
	after, err := q.MoveList(ctx, db.MoveListParams{
		ListNo: list.ListNo, Now: now,
		Subscribed: sync.Added - sync.AddedPending - (sync.Removed - sync.RemovedPending),
		Pending:    sync.AddedPending - sync.RemovedPending,
	})
	if err != nil {
		return list, err
	}
	err = q.LogSync(ctx, db.LogSyncParams{SyncNo: sync.SyncNo, ListNo: after.ListNo, Epoch: after.Epoch, Version: after.Version, Now: now})
	if err != nil {
		return list, fmt.Errorf("log the changes: %w", err)
	}
	return after, appendSync(ctx, tx, sync, after, fresh)
}

// Others are told of additions from a new domain when they are at least so many, since fewer could say where one person's
// address is, and one in so many of the list: looking reads the whole list, and must not be most of what a small change costs.
const (
	tellDomainFrom  = 10
	tellDomainShare = 20
)

// addedFromNewDomain is the one thing about domains that leaves this tier: a number, which tells reviewers of a charter that
// many came at once from where nobody was before. A list's first people are not news, nor those that a revert brings back.
func addedFromNewDomain(ctx context.Context, q *db.Queries, sync db.Sync, list db.List) (int32, error) {
	held := list.Subscribed + list.Pending + list.Unsubscribed + list.Bounced
	least := max(tellDomainFrom, held/tellDomainShare)
	if held == 0 || sync.Reverts != nil || sync.Added-sync.AddedPending < least {
		return 0, nil
	}
	return q.AddedFromNewDomain(ctx, db.AddedFromNewDomainParams{SyncNo: sync.SyncNo, Least: least, ListNo: list.ListNo})
}

// scanFrom is the share of a list, one in so many, from which it is faster to read all of it than to look up entries.
const scanFrom = 20

func writeEntries(ctx context.Context, q *db.Queries, sync db.Sync, list db.List, now time.Time) error {
	if (written(sync)+int64(sync.Removed))*scanFrom > int64(list.Subscribed)+int64(list.Pending) {
		if err := q.ScanEntries(ctx); err != nil {
			return err
		}
	}
	version := list.Version + 1
	for _, step := range []struct {
		verb     string
		expected int64
		write    func() (int64, error)
	}{
		{"remove", int64(sync.Removed), func() (int64, error) {
			return q.DeleteRemoved(ctx, db.DeleteRemovedParams{SyncNo: sync.SyncNo, ListNo: list.ListNo})
		}},
		{"update", written(sync), func() (int64, error) {
			return q.UpdateChanged(ctx, db.UpdateChangedParams{
				SyncNo: sync.SyncNo, ListNo: list.ListNo, Source: sync.Source, Version: version, Now: now,
			})
		}},
		{"add", int64(sync.Added), func() (int64, error) {
			return q.InsertAdded(ctx, db.InsertAddedParams{
				SyncNo: sync.SyncNo, ListNo: list.ListNo, Source: sync.Source, Version: version, Now: now,
			})
		}},
	} {
		if step.expected == 0 {
			continue
		}
		done, err := step.write()
		if err != nil {
			return fmt.Errorf("%s entries: %w", step.verb, err)
		}
		// The version says that nothing moved since the plan. Should that ever be wrong, nothing must be written.
		if done != step.expected {
			return fmt.Errorf("%s entries: %d instead of %d", step.verb, done, step.expected)
		}
	}
	return nil
}

// appendSync tells of a sync's version of the list, in as many parts as its tokens fill.
func appendSync(ctx context.Context, tx pgx.Tx, sync db.Sync, list db.List, fromNewDomain int32) error {
	tokens := int(sync.Removed-sync.RemovedPending) + int(sync.Added-sync.AddedPending)
	if tokens == 0 {
		return bus.Append(ctx, tx, listChanged(list))
	}
	part, parts := 0, (tokens+tokensPerPart-1)/tokensPerPart
	return tokenBatches(ctx, db.New(tx), sync.SyncNo, tokensPerPart, func(added, removed [][]byte) error {
		part++
		change := &eventv1.ListChanged{Added: added, Removed: removed}
		if part == 1 {
			change.AddedFromNewDomain = fromNewDomain
		}
		event := listEvent(list, change)
		event.Part, event.Parts = part, parts
		return bus.Append(ctx, tx, event)
	})
}

// pagesPerRead bounds the tokens in memory at a time to some 200,000.
const pagesPerRead = 200

// tokenBatches calls send with the tokens that begin and cease to count by a sync, so many at a time, in the order in
// which they are stored. Without any it does not call.
func tokenBatches(ctx context.Context, q *db.Queries, syncNo int64, size int, send func(added, removed [][]byte) error) error {
	var added, removed [][]byte
	at := db.SyncTokensParams{SyncNo: syncNo, Size: pagesPerRead}
	for {
		pages, err := q.SyncTokens(ctx, at)
		if err != nil {
			return fmt.Errorf("read the tokens: %w", err)
		}
		for _, page := range pages {
			at.Kind, at.Page = page.Kind, page.Page
			for _, token := range page.Tokens {
				if page.Kind == kindAdd {
					added = append(added, token)
				} else {
					removed = append(removed, token)
				}
				if len(added)+len(removed) < size {
					continue
				}
				if err := send(added, removed); err != nil {
					return err
				}
				added, removed = nil, nil
			}
		}
		if len(pages) == pagesPerRead {
			continue
		}
		if len(added)+len(removed) == 0 {
			return nil
		}
		return send(added, removed)
	}
}
