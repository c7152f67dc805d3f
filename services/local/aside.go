package local

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// planAside works off what is staged beside the call, which is answered when that is done or its patience is over,
// whichever is first: proxies give up on an answer that does not begin within a minute. Until then the sync is PLANNING.
// A process that ends takes its plans with it; the clean-up says of them that they FAILED.
func (s *Service) planAside(ctx context.Context, header *localv1.CreateSyncHeader, source staged, release func()) (*localv1.Sync, error) {
	begun, err := s.beginPlanning(ctx, header, source)
	if err != nil {
		release()
		s.dropRows(ctx, source.syncNo)
		return nil, err
	}
	type result struct {
		sync *localv1.Sync
		err  error
	}
	done := make(chan result, 1)
	beside, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.PlanLimit)
	stop := context.AfterFunc(s.life, cancel)
	s.aside.Add(1)
	go func() {
		defer s.aside.Done()
		defer release()
		defer cancel()
		defer stop()
		sync, err := s.work(beside, header, source)
		if err != nil {
			s.failSync(beside, source.syncNo, err)
		}
		done <- result{sync, err}
	}()
	patience := time.NewTimer(time.Duration(header.GetWaitSeconds()) * time.Second)
	defer patience.Stop()
	select {
	case got := <-done:
		return got.sync, got.err
	case <-patience.C:
	case <-ctx.Done():
	}
	return s.viewSync(header.GetParent(), begun, s.clock.Now()), nil
}

func (s *Service) beginPlanning(ctx context.Context, header *localv1.CreateSyncHeader, source staged) (db.Sync, error) {
	id, err := newSyncID()
	if err != nil {
		return db.Sync{}, err
	}
	format, err := proto.Marshal(source.format)
	if err != nil {
		return db.Sync{}, fmt.Errorf("store the source's format: %w", err)
	}
	q, now := db.New(s.pool), s.clock.Now()
	list, err := findList(ctx, q, header.GetParent())
	if err != nil {
		return db.Sync{}, err
	}
	return q.InsertSync(ctx, db.InsertSyncParams{
		SyncNo: source.syncNo, ID: id, ListNo: list.ListNo, ListEpoch: list.Epoch, ListVersion: list.Version,
		State: planning, Mode: header.GetMode().String(), Source: header.GetSource(), Format: format, AddedState: newState(list),
		CreateTime: now, ExpireTime: now.Add(s.config.PlanLifetime),
	})
}

// failSync records why a sync that somebody may have been told of came to nothing. One that the guard has stopped is a
// plan that waits for a word, and has not failed.
func (s *Service) failSync(ctx context.Context, syncNo int64, cause error) {
	if rpc.Is(cause, errorv1.Reason_REASON_REMOVALS_NOT_CONFIRMED) {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	args := db.SetSyncFailedParams{SyncNo: syncNo, Reason: "INTERNAL", Text: "internal error"}
	if refusal, ok := errors.AsType[*rpc.Error](cause); ok {
		args.Reason, args.Text = rpc.InfoOf(refusal).GetReason(), refusal.GRPCStatus().Message()
	} else {
		s.log.ErrorContext(ctx, "a sync failed", "sync", syncNo, "error", cause)
	}
	if _, err := db.New(s.pool).SetSyncFailed(ctx, args); err != nil {
		s.log.WarnContext(ctx, "a sync that failed stays PLANNING for the clean-up", "sync", syncNo, "error", err)
	}
}
