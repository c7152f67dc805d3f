package bus_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// An Apply may take longer than JetStream waits for an acknowledgement, and holds up nobody but its
// own key.
func TestSlowApplyHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	config := w.durable()
	config.AckWait = 600 * time.Millisecond
	if _, err := w.js().UpdateConsumer(t.Context(), bus.Stream(bus.Local, "main"), config); err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int32
	started, release := make(chan struct{}, 100), make(chan struct{})
	w.startConsumer(patient, func(cfg *bus.ConsumerConfig) {
		apply := cfg.Topics[0].Apply
		cfg.Workers = 2
		cfg.Topics[0].Apply = func(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
			if parts[0].Aggregate == "lists/slow" && calls.Add(1) == 1 {
				started <- struct{}{}
				select {
				case <-release:
				case <-ctx.Done():
				}
			}
			return apply(ctx, tx, parts)
		}
	})
	w.change("slow", []string{"a"}, nil)
	<-started
	for i := range 20 {
		w.change("slow", []string{fmt.Sprint("later", i)}, nil)
		w.change(fmt.Sprint("other", i), []string{"a"}, nil)
		w.note(fmt.Sprint("n", i), "x")
	}
	w.published()
	testkit.Eventually(t, agreement, func() (bool, string) {
		n := scan[int](t, w.copy, "SELECT count(*) FROM positions WHERE aggregate <> 'lists/slow' AND epoch > 0")
		return n == 40, fmt.Sprintf("%d of 40 others", n)
	})
	<-time.After(3 * config.AckWait)
	consumer, err := w.js().Consumer(t.Context(), bus.Stream(bus.Local, "main"), config.Durable)
	if err != nil {
		t.Fatal(err)
	}
	if info := consumer.CachedInfo(); info.NumRedelivered != 0 || info.NumAckPending == 0 {
		t.Errorf("%d delivered again and %d not acknowledged, want none and some", info.NumRedelivered, info.NumAckPending)
	}
	close(release)
	w.agree()
	if n := calls.Load(); n != 21 {
		t.Errorf("the slow list was applied %d times, want 21", n)
	}
	w.untouched()
}
