package regional

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// runClockwork does what is due by itself until ctx ends. Replicas share the work: each takes what no other has locked. An
// outage of the database is waited out.
func (s *Service) runClockwork(ctx context.Context) error {
	ticker := time.NewTicker(s.config.Tick)
	defer ticker.Stop()
	waiting := time.NewTicker(waitingEvery)
	defer waiting.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			for _, work := range []func(context.Context) (int, error){s.moveDue, s.tellReach, s.remindOfRelays, s.tellUrgent, s.tellNotices, s.sendDigests} {
				s.doDue(ctx, work)
			}
		case <-waiting.C:
			for s.doDue(ctx, s.tellWaiting) == waitingBatch { //nolint:revive // until all are told
			}
		}
	}
}

// doDue does what is due, and says of how much it told.
func (s *Service) doDue(ctx context.Context, work func(context.Context) (int, error)) int {
	n, err := work(ctx)
	if n > 0 {
		s.publisher.Wake()
	}
	if err != nil && ctx.Err() == nil {
		s.log.WarnContext(ctx, "what is due has to wait", "error", err)
	}
	return n
}

// alone runs a transaction that nobody called for.
func (s *Service) alone(ctx context.Context, fn func(tx pgx.Tx) error) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) { return struct{}{}, fn(tx) })
	return err
}
