package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"google.golang.org/protobuf/types/known/emptypb"
)

// streamState is what this database knows of its stream.
type streamState struct {
	incarnation   string
	lastSeq       uint64
	lastEventID   string
	epoch         int64
	restoredEvent string
}

// streamFacts are what JetStream says of it.
type streamFacts struct {
	incarnation string
	lastSeq     uint64
	last        *jetstream.RawStreamMsg // nil when empty
	stream      jetstream.Stream
}

// verify makes the stream when there is none and finds out which side has lost something since
// they last met: the stream (made anew, or set back to an older state) gets the outbox of seven
// days again; a restored database begins a new epoch before it says anything.
func (p *publishing) verify(ctx context.Context) error {
	facts, err := p.streamFacts(ctx)
	if err != nil {
		return err
	}
	if p.known, err = p.loadState(ctx); err != nil {
		return err
	}
	restored, err := p.restored(ctx, facts)
	if err != nil {
		return err
	}
	if restored {
		if err := p.beginEpoch(ctx, facts); err != nil {
			return err
		}
	}
	reason, err := p.lost(ctx, facts)
	if err != nil || reason == "" {
		return err
	}
	return p.replay(ctx, facts, reason)
}

func (p *publishing) streamFacts(ctx context.Context) (streamFacts, error) {
	stream, err := p.stream(ctx)
	if err != nil {
		return streamFacts{}, fmt.Errorf("look at the stream: %w", err)
	}
	info := stream.CachedInfo()
	p.atomic = info.Config.AllowAtomicPublish // servers before 2.12 know nothing of it
	facts := streamFacts{stream: stream, lastSeq: info.State.LastSeq, incarnation: info.Config.Metadata[incarnationID]}
	if facts.incarnation == "" { // made by an operator
		facts.incarnation = info.Created.UTC().Format(time.RFC3339Nano)
	}
	if info.State.Msgs == 0 {
		return facts, nil
	}
	facts.last, err = stream.GetLastMsgForSubject(ctx, eventPrefix(p.cfg.Tier, p.cfg.Site)+">")
	if err != nil && !errors.Is(err, jetstream.ErrMsgNotFound) {
		return facts, fmt.Errorf("read the stream's last message: %w", err)
	}
	return facts, nil
}

// stream is our stream. On a server that nobody provisions, and that lets us, we make it.
func (p *publishing) stream(ctx context.Context) (jetstream.Stream, error) {
	stream, err := p.js.Stream(ctx, Stream(p.cfg.Tier, p.cfg.Site))
	if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return stream, err
	}
	ctx, cancel := context.WithTimeout(ctx, makeTimeout)
	defer cancel()
	return p.js.CreateStream(ctx, eventStream(p.cfg.Tier, p.cfg.Site))
}

func (p *publishing) loadState(ctx context.Context) (streamState, error) {
	var s streamState
	err := p.db.QueryRow(ctx, `
SELECT incarnation, last_seq, last_event_id, epoch, restored_event_id FROM stream_state WHERE stream = $1`,
		Stream(p.cfg.Tier, p.cfg.Site)).
		Scan(&s.incarnation, &s.lastSeq, &s.lastEventID, &s.epoch, &s.restoredEvent)
	if errors.Is(err, pgx.ErrNoRows) {
		return streamState{}, nil
	}
	if err != nil {
		return s, databaseError{fmt.Errorf("read the stream's state: %w", err)}
	}
	return s, nil
}

// restored reports whether the stream ends with an event that this database never wrote. What
// follows the last recorded message must be in the outbox, since only published events are ever
// removed from it. After a change of incarnation nothing is recorded, and only events younger
// than what the outbox keeps can be told.
func (p *publishing) restored(ctx context.Context, facts streamFacts) (bool, error) {
	if facts.last == nil {
		return false, nil
	}
	same := facts.incarnation == p.known.incarnation
	if same && facts.last.Sequence <= p.known.lastSeq {
		return false, nil
	}
	if !same && time.Since(facts.last.Time) > 6*24*time.Hour {
		return false, nil
	}
	last := facts.last.Header.Get(nats.MsgIdHdr)
	if last == p.known.restoredEvent {
		return false, nil
	}
	id, err := uuid.Parse(last)
	if err != nil {
		p.log.Error("somebody else writes to this stream", "sequence", facts.last.Sequence)
		return false, nil
	}
	var known bool
	err = p.db.QueryRow(ctx, "SELECT EXISTS (SELECT FROM outbox WHERE event_id = $1)", id).Scan(&known)
	if err != nil {
		return false, databaseError{fmt.Errorf("look for the stream's last event: %w", err)}
	}
	return !known, nil
}

// beginEpoch lets the owner give every aggregate a version in a new epoch, and tells the consumers
// to compare at once. It is durable before anything is published.
func (p *publishing) beginEpoch(ctx context.Context, facts streamFacts) error {
	epoch := max(now().UnixMicro(), p.known.epoch+1)
	p.log.Warn("the database was restored from a backup: beginning a new epoch", "epoch", epoch)
	p.metrics.replays.WithLabelValues("restored").Inc()
	err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL synchronous_commit = on"); err != nil {
			return err
		}
		if p.cfg.OnRestored != nil {
			if err := p.cfg.OnRestored(ctx, tx, epoch); err != nil {
				return err
			}
		}
		if err := Append(ctx, tx, Event{Subject: noticeRestored, Data: &emptypb.Empty{}}); err != nil {
			return err
		}
		p.known.epoch, p.known.restoredEvent = epoch, facts.last.Header.Get(nats.MsgIdHdr)
		return p.saveState(ctx, tx)
	})
	if err != nil {
		return fmt.Errorf("begin a new epoch: %w", err)
	}
	return nil
}

// lost says why the stream lacks events that were published, or "".
func (p *publishing) lost(ctx context.Context, facts streamFacts) (string, error) {
	if facts.incarnation != p.known.incarnation {
		return "made anew", nil
	}
	if facts.lastSeq < p.known.lastSeq {
		return "rewound", nil
	}
	if p.known.lastEventID == "" {
		return "", nil
	}
	// The sequence may have grown past the recorded one again after a rewind.
	message, err := facts.stream.GetMsg(ctx, p.known.lastSeq)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the last recorded message: %w", err)
	}
	if message.Header.Get(nats.MsgIdHdr) != p.known.lastEventID {
		return "rewound", nil
	}
	return "", nil
}

// replay has everything published again that the outbox still holds. Consumers know it by its ids.
func (p *publishing) replay(ctx context.Context, facts streamFacts, reason string) error {
	first := p.known.incarnation == ""
	p.known.incarnation, p.known.lastSeq, p.known.lastEventID = facts.incarnation, facts.lastSeq, ""
	if facts.last != nil && facts.last.Sequence == facts.lastSeq {
		p.known.lastEventID = facts.last.Header.Get(nats.MsgIdHdr)
	}
	var replayed int64
	err := pgx.BeginFunc(ctx, p.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "UPDATE outbox SET publish_time = NULL WHERE publish_time > now() - $1::interval", outboxKept)
		if err != nil {
			return err
		}
		replayed = tag.RowsAffected()
		return p.saveState(ctx, tx)
	})
	if err != nil {
		return databaseError{fmt.Errorf("prepare the replay: %w", err)}
	}
	if !first {
		p.metrics.replays.WithLabelValues(reason).Inc()
		p.log.Warn("the stream has lost events: publishing the outbox again", "reason", reason, "events", replayed)
	}
	return nil
}

func (p *publishing) saveState(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `
INSERT INTO stream_state (stream, incarnation, last_seq, last_event_id, epoch, restored_event_id)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (stream) DO UPDATE SET (incarnation, last_seq, last_event_id, epoch, restored_event_id) =
    (excluded.incarnation, excluded.last_seq, excluded.last_event_id, excluded.epoch, excluded.restored_event_id)`,
		Stream(p.cfg.Tier, p.cfg.Site), p.known.incarnation, int64(p.known.lastSeq), p.known.lastEventID,
		p.known.epoch, p.known.restoredEvent)
	return err
}
