package regional

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// remindBatch bounds how many cases are looked at before the clock is asked again.
const remindBatch = 100

// remindAlways looks for cases whose answer is due until ctx ends.
func (s *Service) remindAlways(ctx context.Context) error {
	ticker := time.NewTicker(s.config.RemindTick)
	defer ticker.Stop()
	for {
		if err := s.remind(ctx); err != nil && ctx.Err() == nil {
			s.log.ErrorContext(ctx, "reminders fail, and are tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// remind marks what lies unanswered beyond its time, and reminds again of what still does.
func (s *Service) remind(ctx context.Context) error {
	for {
		names, err := db.New(s.pool).DueCases(ctx, s.dueNow(remindBatch))
		if err != nil {
			return fmt.Errorf("look for due cases: %w", err)
		}
		for _, name := range names {
			if err := s.remindOf(ctx, name); err != nil {
				return fmt.Errorf("remind of %s: %w", name, err)
			}
		}
		if len(names) < remindBatch {
			return nil
		}
	}
}

func (s *Service) dueNow(size int32) db.DueCasesParams {
	now := s.clock.Now()
	before := now.Add(-s.config.RemindAgain)
	return db.DueCasesParams{Now: now, RemindedBefore: &before, Size: size}
}

// remindOf marks one case, unless it was answered or marked meanwhile.
func (s *Service) remindOf(ctx context.Context, name string) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		c, err := s.openCases(ctx, tx)
		if err != nil {
			return struct{}{}, err
		}
		row, err := c.load(ctx, name)
		if err != nil || row == nil || row.State != open {
			return struct{}{}, err
		}
		if row.RemindedTime != nil && row.RemindedTime.After(c.now.Add(-s.config.RemindAgain)) {
			return struct{}{}, nil
		}
		row.Overdue, row.RemindedTime = true, &c.now
		c.touch(c.down(name)...)
		return struct{}{}, c.settle(ctx)
	})
	s.publisher.Wake()
	return err
}
