package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of ADR-50, atomic batch publishing, which the client library has no functions for.
const (
	headerBatchID     = "Nats-Batch-Id"
	headerBatchSeq    = "Nats-Batch-Sequence"
	headerBatchCommit = "Nats-Batch-Commit"
)

// atomicAck answers the last message of a batch.
type atomicAck struct {
	Error     *jetstream.APIError `json:"error"`
	Sequence  uint64              `json:"seq"`
	BatchSize int                 `json:"count"`
}

// sendTogether publishes the rows as one atomic batch: JetStream syncs its file once for all of
// them instead of once for each. It refuses a batch with an event that it knows.
func (p *publishing) sendTogether(ctx context.Context, rows []outboxRow) (c confirmation) {
	batch := uuid.NewString()
	messages := make([]*nats.Msg, len(rows))
	for i, row := range rows {
		messages[i] = row.message(p.cfg.Tier, p.cfg.Site)
		messages[i].Header.Set(headerBatchID, batch)
		messages[i].Header.Set(headerBatchSeq, strconv.Itoa(i+1))
	}
	last := messages[len(messages)-1]
	last.Header.Set(headerBatchCommit, "1")
	for _, msg := range messages[:len(messages)-1] {
		if c.err = p.cfg.NATS.PublishMsg(msg); c.err != nil {
			return c
		}
	}
	ack, err := p.commitBatch(ctx, last, len(rows))
	if err != nil {
		c.err = fmt.Errorf("publish %d events together: %w", len(rows), err)
		return c
	}
	first := ack.Sequence - uint64(len(rows)) + 1
	for i, row := range rows {
		c.add(row, &jetstream.PubAck{Sequence: first + uint64(i)}, p.known.lastSeq)
	}
	return c
}

func (p *publishing) commitBatch(ctx context.Context, last *nats.Msg, size int) (atomicAck, error) {
	ctx, cancel := context.WithTimeout(ctx, natsTimeout)
	defer cancel()
	var ack atomicAck
	answer, err := p.cfg.NATS.RequestMsgWithContext(ctx, last)
	if err != nil {
		return ack, err
	}
	if err := json.Unmarshal(answer.Data, &ack); err != nil {
		return ack, err
	}
	if ack.Error != nil {
		return ack, ack.Error
	}
	if ack.BatchSize != size {
		return ack, errors.New("JetStream confirmed another number of events")
	}
	return ack, nil
}
