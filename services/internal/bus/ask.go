package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
)

func (c *Consumer) askSubject(what string) string {
	return askSubject(c.cfg.Tier, c.cfg.Site, c.cfg.FromTier, c.cfg.FromSite, what)
}

// fetchSnapshot receives a snapshot into snapshot_parts. What it returns has an id also with an
// error.
func (c *Consumer) fetchSnapshot(ctx context.Context, w wish) (received, error) {
	s := received{id: uuid.New()}
	ctx, cancel := whileConnected(ctx, c.cfg.NATS, snapshotTimeout)
	defer cancel()
	inbox := c.cfg.NATS.NewInbox()
	answers, err := c.cfg.NATS.SubscribeSync(inbox)
	if err != nil {
		return s, err
	}
	defer func() { _ = answers.Unsubscribe() }() // tells the owner, too
	request := mustJSON(snapshotRequest{Kind: w.kind, Aggregate: w.aggregate})
	if err := c.cfg.NATS.PublishRequest(c.askSubject(whatSnapshot), inbox, request); err != nil {
		return s, err
	}
	for {
		last, err := c.receivePart(ctx, answers, w, &s)
		if last || err != nil {
			return s, err
		}
	}
}

// receivePart stores the next part, or reads the last message.
func (c *Consumer) receivePart(ctx context.Context, answers *nats.Subscription, w wish, s *received) (last bool, err error) {
	waiting, cancel := context.WithTimeout(ctx, partTimeout)
	defer cancel()
	msg, err := answers.NextMsgWithContext(waiting)
	if err == nil {
		err = answerError(msg)
	}
	if err != nil {
		return false, err
	}
	if msg.Header.Get(headerCount) != "" {
		return true, s.readLast(msg)
	}
	part, err := headerInt(msg, headerPart)
	if err != nil {
		return false, err
	}
	if part != int64(s.count)+1 {
		return false, fmt.Errorf("part %d came after part %d", part, s.count)
	}
	s.count++
	_, err = c.cfg.Pool.Exec(ctx, `
WITH renewed AS (
    UPDATE wanted SET due_time = clock_timestamp() + $8::interval WHERE tier = $5 AND site = $6 AND aggregate = $7)
INSERT INTO snapshot_parts (snapshot_id, part, type, data) VALUES ($1, $2, $3, $4)`,
		s.id, part, msg.Header.Get(headerType), nonNil(msg.Data),
		c.cfg.FromTier, c.cfg.FromSite, w.aggregate, healLease)
	if err != nil {
		return false, fmt.Errorf("store part %d: %w", part, err)
	}
	return false, msg.Respond(nil)
}

func (s *received) readLast(msg *nats.Msg) error {
	count, err := headerInt(msg, headerCount)
	if err != nil {
		return err
	}
	if count != int64(s.count) {
		return fmt.Errorf("%d of %d parts arrived", s.count, count)
	}
	if s.gone = msg.Header.Get(headerGone) != ""; s.gone {
		return nil
	}
	if s.version.Epoch, err = headerInt(msg, headerEpoch); err != nil {
		return err
	}
	s.version.Number, err = headerInt(msg, headerNumber)
	return err
}

// askVersions returns the owner's versions of a kind after the given aggregate; fewer than
// versionsPage are the last ones.
func (c *Consumer) askVersions(ctx context.Context, kind, after string) ([]AggregateVersion, error) {
	ctx, cancel := context.WithTimeout(ctx, versionsTimeout)
	defer cancel()
	request := mustJSON(versionsRequest{Kind: kind, After: after, Limit: versionsPage})
	msg, err := c.cfg.NATS.RequestWithContext(ctx, c.askSubject(whatVersions), request)
	if errors.Is(err, nats.ErrNoResponders) {
		err = errNobodyThere
	}
	if err != nil {
		return nil, fmt.Errorf("ask for versions: %w", err)
	}
	if err := answerError(msg); err != nil {
		return nil, fmt.Errorf("ask for versions: %w", err)
	}
	var reply versionsReply
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return nil, fmt.Errorf("read versions: %w", err)
	}
	return reply.Versions, nil
}
