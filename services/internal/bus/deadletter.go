package bus

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// Headers that a dead letter has beside those of the event.
const (
	headerDeadReason = "chapterhouse-dead-reason"
	headerDeadTime   = "chapterhouse-dead-time"
)

const (
	deadPause     = 500 * time.Millisecond
	deadMaxReason = 500
)

// bury moves an event that cannot be consumed to the dead letters and asks for a snapshot of its
// aggregate, which makes up for it. The letter is safe before the event is acknowledged.
func (c *Consumer) bury(ctx context.Context, j *job, reason error) {
	c.log.Error("an event goes to the dead letters",
		"subject", j.msg.Subject(), "event_id", j.msg.Headers().Get(nats.MsgIdHdr), "error", reason, stackOf(reason))
	err := c.untilDone(ctx, func() error {
		if err := c.sendDead(ctx, j.msg.Subject(), j.msg.Headers(), j.msg.Data(), reason); err != nil {
			return err
		}
		return c.recordDead(ctx, j)
	})
	if err != nil {
		j.giveBack()
		return
	}
	j.ack()
	c.metrics.deadLetters.Inc()
	signal(c.heal)
}

// recordDead keeps a second delivery from being buried again.
func (c *Consumer) recordDead(ctx context.Context, j *job) error {
	e := j.event
	if e.Kind == "" { // the headers say nothing
		return nil
	}
	_, known := c.topics[e.Kind]
	_, err := postgres.InTx(ctx, c.cfg.Pool, func(tx pgx.Tx) (struct{}, error) {
		_, err := tx.Exec(ctx, "INSERT INTO inbox (event_id) VALUES ($1) ON CONFLICT DO NOTHING", e.ID)
		if err == nil && known && e.Aggregate != "" {
			err = c.want(ctx, tx, e.Kind, e.Aggregate, e.Version)
		}
		return struct{}{}, lostConnection(tx, err)
	})
	return err
}

// buryParked moves all parts of a parked version to the dead letters.
func (c *Consumer) buryParked(ctx context.Context, topic Topic, aggregate string, version Version, reason error) error {
	c.log.Error("a parked version goes to the dead letters",
		"aggregate", aggregate, "version", version, "error", reason, stackOf(reason))
	var buried int64
	err := c.untilDone(ctx, func() error {
		letters, err := c.readParked(ctx, c.cfg.Pool, aggregate, version)
		if err == nil {
			err = c.sendDeadParts(ctx, letters, reason)
		}
		if err == nil {
			buried, err = c.giveUpParked(ctx, topic, aggregate, version)
		}
		return err
	})
	if err == nil {
		c.metrics.deadLetters.Add(float64(buried))
		signal(c.heal)
	}
	return err
}

// giveUpParked returns how many parts it removed: none, when a healer did before.
func (c *Consumer) giveUpParked(ctx context.Context, topic Topic, aggregate string, version Version) (int64, error) {
	return postgres.InTx(ctx, c.cfg.Pool, func(tx pgx.Tx) (int64, error) {
		if err := c.want(ctx, tx, topic.Kind, aggregate, version); err != nil { // locks the position
			return 0, lostConnection(tx, err)
		}
		tag, err := tx.Exec(ctx, `
DELETE FROM parked WHERE tier = $1 AND site = $2 AND aggregate = $3 AND epoch = $4 AND number = $5`,
			c.cfg.FromTier, c.cfg.FromSite, aggregate, version.Epoch, version.Number)
		return tag.RowsAffected(), lostConnection(tx, err)
	})
}

func (c *Consumer) sendDeadParts(ctx context.Context, messages []*nats.Msg, reason error) error {
	for _, msg := range messages {
		if err := c.sendDead(ctx, msg.Subject, msg.Header, msg.Data, reason); err != nil {
			return err
		}
	}
	return nil
}

// sendDead publishes a dead letter and waits for NATS as long as it takes: there is nothing else
// to do with the event meanwhile.
func (c *Consumer) sendDead(ctx context.Context, subject string, header nats.Header, data []byte, reason error) error {
	msg := c.deadLetter(subject, header, data, reason)
	for {
		_, err := c.js.PublishMsg(ctx, msg)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, nats.ErrMaxPayload):
			msg.Data = nil // whoever wrote it left no room for our headers
			continue
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			err = c.makeDeadStream(ctx)
		}
		if err != nil {
			c.log.Warn("cannot send a dead letter now", "error", err)
			pause(ctx, deadPause)
		}
	}
}

// deadLetter is the event as it came, with the reason. Instructions to JetStream are left out but
// for the id.
func (c *Consumer) deadLetter(subject string, header nats.Header, data []byte, reason error) *nats.Msg {
	msg := nats.NewMsg(deadPrefix(c.cfg.Tier, c.cfg.Site) + subject)
	msg.Data = data
	for name, values := range header {
		if name == nats.MsgIdHdr || !strings.HasPrefix(name, "Nats-") {
			msg.Header[name] = values
		}
	}
	msg.Header.Set(headerDeadReason, oneLine(reason.Error()))
	msg.Header.Set(headerDeadTime, now().Format(time.RFC3339))
	return msg
}

// makeDeadStream works on a server that nobody provisions, and that lets us.
func (c *Consumer) makeDeadStream(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	return makeStream(ctx, c.js, deadStream(c.cfg.Tier, c.cfg.Site))
}

// oneLine makes a header value of an error.
func oneLine(text string) string {
	clean := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
	return clean[:min(len(clean), deadMaxReason)]
}
