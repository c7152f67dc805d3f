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
	pullMessages  = 500
	pullBytes     = 16 << 20
	pullHeartbeat = 5 * time.Second
	keepAliveTick = 100 * time.Millisecond
	attachPause   = 250 * time.Millisecond
	attachMax     = 2 * time.Second
	// makeTimeout is short: a server that does not let us make something does not answer.
	makeTimeout = time.Second
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
	consumer, err := c.consumer(ctx)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", c.stream(), err)
	}
	ahead, err := c.isAhead(ctx, consumer)
	if err != nil {
		return nil, err
	}
	if ahead {
		err := c.js.DeleteConsumer(ctx, c.stream(), consumer.CachedInfo().Name)
		return nil, errors.Join(errAhead, err)
	}
	c.caughtUp.Store(consumer.CachedInfo().NumPending == 0)
	c.ackWait.Store(int64(consumer.CachedInfo().Config.AckWait))
	return consumer.Messages(jetstream.PullMaxMessagesWithBytesLimit(pullMessages, pullBytes),
		jetstream.PullHeartbeat(pullHeartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(true))
}

var errAhead = errors.New("the stream is older than our place in it: reading it from the start")

func (c *Consumer) stream() string { return Stream(c.cfg.FromTier, c.cfg.FromSite) }

// consumer is our durable. On a server that nobody provisions, and that lets us, we make it.
func (c *Consumer) consumer(ctx context.Context) (jetstream.Consumer, error) {
	consumer, err := c.js.Consumer(ctx, c.stream(), Durable(c.cfg.Tier, c.cfg.Site))
	if !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return consumer, err
	}
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	return c.js.CreateConsumer(ctx, c.stream(), durable(c.cfg.Tier, c.cfg.Site))
}

// isAhead reports whether the durable has read more than the stream holds, which happens when only
// one of them was set back to an older state; it would skip what is published next.
func (c *Consumer) isAhead(ctx context.Context, consumer jetstream.Consumer) (bool, error) {
	delivered := consumer.CachedInfo().Delivered.Stream
	stream, err := c.js.Stream(ctx, c.stream())
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
	for ctx.Err() == nil {
		pause(ctx, keepAliveTick)
		due := now().Add(-time.Duration(c.ackWait.Load()) / 3)
		c.queue.each(func(j *job) {
			if j.touched.Before(due) {
				_ = j.msg.InProgress()
				j.touched = now()
			}
		})
	}
}
