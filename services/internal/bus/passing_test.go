package bus_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// A topic that keeps no copy hears each message once, in whatever order and with whatever missing, and never asks the owner,
// whose lists it could not keep.
func TestPassingTopicKeepsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.startPublisher()
	w.startResponder()
	for i := range 3 {
		w.change("early", []string{fmt.Sprint("a", i)}, nil) // before there is anybody to hear of it
	}
	w.published()
	var applied atomic.Int32
	w.startConsumer(comparing, func(cfg *bus.ConsumerConfig) {
		cfg.Topics = []bus.Topic{{Kind: cfg.Topics[0].Kind, Passing: true, Apply: func(_ context.Context, _ pgx.Tx, parts []bus.Event) error {
			if len(parts) == 1 && parts[0].Data != nil {
				applied.Add(1)
			}
			return nil
		}}}
	})
	await := func(want int32) {
		t.Helper()
		testkit.Eventually(t, agreement, func() (bool, string) {
			n := applied.Load()
			return n == want, fmt.Sprintf("%d of %d applied", n, want)
		})
	}
	await(3)
	// The second part of three of a version that is far ahead, which is told twice.
	for range 2 {
		w.republish(w.messages("list.early.>")[0], func(msg *nats.Msg) {
			msg.Header.Set("ce-id", "0198f0a1-0000-7000-8000-000000000001")
			msg.Header.Set("ce-number", "9")
			msg.Header.Set("ce-part", "2")
			msg.Header.Set("ce-parts", "3")
		})
	}
	w.change("early", []string{"b"}, nil)
	w.published()
	await(5)
	if n := scan[int](t, w.copy, "SELECT count(*) FROM positions"); n != 0 {
		t.Errorf("%d positions are kept", n)
	}
	if n := scan[int](t, w.copy, "SELECT count(*) FROM inbox"); n != 5 {
		t.Errorf("%d events are in the inbox, want 5", n)
	}
}

func TestPassingTopicHasNoCopyToReplace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	config := w.consumerConfig(w.nats.Connect(t, bus.International, "main"))
	topic := config.Topics[0]
	topic.Passing = true
	config.Topics = []bus.Topic{topic}
	if _, err := bus.NewConsumer(config); err == nil {
		t.Error("a topic that passes and replaces was taken")
	}
}
