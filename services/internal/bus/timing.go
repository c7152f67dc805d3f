package bus

import (
	"context"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

func now() time.Time { return clock.System{}.Now() }

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
