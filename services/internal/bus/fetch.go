package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// maxAckPending bounds what all replicas hold at once. It is far above what a worker needs, so
	// that a slow key does not fill it and stop the others.
	maxAckPending = 5000
	pullMessages  = 500
	pullBytes     = 16 << 20
	pullHeartbeat = 5 * time.Second
	attachPause   = 250 * time.Millisecond
	attachMax     = 2 * time.Second
)

// fetch hands messages to the queue. It attaches again after each connection and each error: the
// stream and the durable may have been made anew.
func (c *Consumer) fetch(ctx context.Context) {
	for wait := attachPause; ctx.Err() == nil; wait = min(2*wait, attachMax) {
		messages, err := c.attach(ctx)
		if err == nil {
			wait = attachPause
			err = c.receive(ctx, messages)
		}
		if ctx.Err() != nil {
			return
		}
		c.log.Debug("attaching to the stream again", "reason", err)
		pause(ctx, wait)
	}
}

func (c *Consumer) attach(ctx context.Context) (jetstream.MessagesContext, error) {
	stream := Stream(c.cfg.FromTier, c.cfg.FromSite)
	consumer, err := c.js.CreateOrUpdateConsumer(ctx, stream, c.durable())
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", stream, err)
	}
	ahead, err := c.isAhead(ctx, consumer)
	if err != nil {
		return nil, err
	}
	if ahead {
		c.log.Warn("the stream is older than our place in it: reading it from the start")
		if err := c.js.DeleteConsumer(ctx, stream, consumer.CachedInfo().Name); err != nil {
			return nil, err
		}
		if consumer, err = c.js.CreateOrUpdateConsumer(ctx, stream, c.durable()); err != nil {
			return nil, err
		}
	}
	c.caughtUp.Store(consumer.CachedInfo().NumPending == 0)
	return consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.PullHeartbeat(pullHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
}

// durable reads the whole stream. Filters on the kinds would cost the server more than the events
// that they keep away: with several filters it walks through all subjects for each message.
func (c *Consumer) durable() jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable:       Durable(c.cfg.Tier, c.cfg.Site),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.cfg.AckWait,
		MaxDeliver:    -1,
		MaxAckPending: maxAckPending,
	}
}

// isAhead reports whether the durable has read more than the stream holds, which happens when only
// one of them was set back to an older state; it would skip what is published next.
func (c *Consumer) isAhead(ctx context.Context, consumer jetstream.Consumer) (bool, error) {
	delivered := consumer.CachedInfo().Delivered.Stream
	stream, err := c.js.Stream(ctx, Stream(c.cfg.FromTier, c.cfg.FromSite))
	if err != nil {
		return false, err
	}
	return delivered > stream.CachedInfo().State.LastSeq, nil
}

var errReconnected = errors.New("connected again")

// receive returns when the messages end, with the reason.
func (c *Consumer) receive(ctx context.Context, messages jetstream.MessagesContext) error {
	defer messages.Stop()
	// What has arrived is still handed out, or given back when we are stopping.
	defer context.AfterFunc(ctx, messages.Drain)()
	connected := c.cfg.NATS.StatusChanged(nats.CONNECTED)
	defer c.cfg.NATS.RemoveStatusListener(connected)
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-connected:
			messages.Drain()
		case <-ended:
		}
	}()
	for {
		msg, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) && c.cfg.NATS.IsConnected() {
			return errReconnected
		}
		if err != nil {
			return err
		}
		c.dispatch(newJob(msg, c.mixes))
		if meta, err := msg.Metadata(); err == nil {
			c.caughtUp.Store(meta.NumPending == 0)
		}
	}
}

func (c *Consumer) dispatch(j *job) {
	if _, wanted := c.topics[j.kind]; !wanted && j.kind != "" {
		j.ack()
		c.metrics.ignored.WithLabelValues("kind").Inc()
		return
	}
	if !c.queue.add(j) {
		j.giveBack()
	}
}

// mixes: whole states are quick to apply, and touch what belongs to their key.
func (c *Consumer) mixes(kind string) bool { return !c.topics[kind].Delta }

// keepAlive tells JetStream that the messages we hold are being worked on.
func (c *Consumer) keepAlive(ctx context.Context) {
	tick := time.NewTicker(c.cfg.AckWait / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			c.queue.each(func(j *job) { _ = j.msg.InProgress() })
		}
	}
}
