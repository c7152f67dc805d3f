package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

const (
	healers  = 2 // snapshots under way at once
	healTick = 5 * time.Second
	healMax  = time.Minute
	// healLease is how long replicas leave an aggregate to us; each part that arrives renews it.
	healLease = 10 * time.Second
)

// healing fetches what is wanted, until ctx ends.
func (c *Consumer) healing(ctx context.Context) {
	busy := &underway{names: map[string]bool{}}
	defer busy.Wait()
	tick := time.NewTicker(min(healTick, c.healWait()))
	defer tick.Stop()
	for {
		c.healDue(ctx, busy)
		select {
		case <-ctx.Done():
			return
		case <-c.heal:
		case <-tick.C:
		}
	}
}

// underway are the aggregates that are being fetched.
type underway struct {
	sync.WaitGroup
	mu    sync.Mutex
	names map[string]bool
}

func (u *underway) list() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.AppendSeq(make([]string, 0, len(u.names)), maps.Keys(u.names)) // not nil, which is NULL
}

func (u *underway) set(name string, busy bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if busy {
		u.names[name] = true
	} else {
		delete(u.names, name)
	}
}

// healDue starts on what is due, as far as there is room. Whatever ends makes room and asks again.
func (c *Consumer) healDue(ctx context.Context, busy *underway) {
	names := busy.list()
	if len(names) >= healers || ctx.Err() != nil || !c.canAsk() {
		return
	}
	wishes, err := c.claim(ctx, healers-len(names), names)
	if err != nil && ctx.Err() == nil {
		c.log.Warn("cannot look for what is wanted", "error", err)
	}
	for _, w := range wishes {
		busy.set(w.aggregate, true)
		busy.Go(func() {
			c.fulfil(ctx, w)
			busy.set(w.aggregate, false)
			signal(c.heal)
		})
	}
}

// canAsk: when the owner is away there may be very many wishes.
func (c *Consumer) canAsk() bool {
	return c.cfg.NATS.IsConnected() && now().UnixNano() >= c.nobodyUntil.Load()
}

// fulfil brings one aggregate up to date: by what is parked, or else by a snapshot.
func (c *Consumer) fulfil(ctx context.Context, w wish) {
	topic := c.topics[w.kind]
	c.drain(ctx, topic, w.aggregate)
	wanted, err := c.isWanted(ctx, w.aggregate)
	if err == nil && !wanted {
		return
	}
	if err == nil {
		err = c.fetchAndReplace(ctx, topic, w)
	}
	if err == nil {
		return
	}
	c.putOff(ctx, w)
	if errors.Is(err, errNobodyThere) {
		c.nobodyUntil.Store(now().Add(c.healWait()).UnixNano()) // for the others neither
	}
	if ctx.Err() == nil {
		c.metrics.snapshots.WithLabelValues("failed").Inc()
		c.log.Warn("no snapshot this time", "aggregate", w.aggregate, "error", err, stackOf(err))
	}
}

func (c *Consumer) fetchAndReplace(ctx context.Context, topic Topic, w wish) error {
	s, err := c.fetchSnapshot(ctx, w)
	defer c.dropParts(ctx, s.id)
	if err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	var result string
	err = c.untilDone(ctx, func() error {
		var err error
		result, err = postgres.InTx(ctx, c.cfg.Pool, func(tx pgx.Tx) (string, error) {
			result, err := c.replaceIn(ctx, tx, topic, w, s)
			return result, lostConnection(tx, err)
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	c.metrics.snapshots.WithLabelValues(result).Inc()
	c.cfg.AfterCommit()
	c.drain(ctx, topic, w.aggregate)
	return nil
}

// received is a snapshot whose parts lie in snapshot_parts.
type received struct {
	id      uuid.UUID
	count   int
	version Version
	gone    bool
}

// replaceIn sets the copy to the snapshot, unless the copy is newer, and says which.
func (c *Consumer) replaceIn(ctx context.Context, tx pgx.Tx, topic Topic, w wish, s received) (string, error) {
	held, err := c.lockPosition(ctx, tx, w.kind, w.aggregate)
	if err != nil {
		return "", err
	}
	if s.gone {
		return c.removeIn(ctx, tx, topic, w, held)
	}
	if !held.version.Less(s.version) {
		return "old", c.fulfilled(ctx, tx, held)
	}
	if err := c.callReplace(ctx, tx, topic, w.aggregate, c.staged(ctx, tx, s)); err != nil {
		return "", err
	}
	held.moveTo(s.version)
	if err := c.savePosition(ctx, tx, held); err != nil {
		return "", err
	}
	if err := c.unpark(ctx, tx, w.aggregate, s.version); err != nil {
		return "", err
	}
	return "replaced", c.fulfilled(ctx, tx, held)
}

// fulfilled forgets the wish when the owner's answer satisfies it. It stays when the owner is behind
// an event of its own, having been restored, until the owner begins its new epoch.
func (c *Consumer) fulfilled(ctx context.Context, tx pgx.Tx, held *position) error {
	_, err := tx.Exec(ctx, "DELETE FROM wanted WHERE tier = $1 AND site = $2 AND aggregate = $3 AND epoch = $4",
		c.cfg.FromTier, c.cfg.FromSite, held.aggregate, unreachable.Epoch)
	if err != nil {
		return fmt.Errorf("forget what was wanted: %w", err)
	}
	return c.satisfy(ctx, tx, held)
}

var errChangedMeanwhile = errors.New("the copy changed after the owner was asked")

// removeIn follows an owner that has no such aggregate. An event that came after the question was
// asked may have made it anew.
func (c *Consumer) removeIn(ctx context.Context, tx pgx.Tx, topic Topic, w wish, held *position) (string, error) {
	if held.updated.After(w.asked) {
		return "", permanentError{errChangedMeanwhile}
	}
	if topic.Replace != nil {
		if err := c.callReplace(ctx, tx, topic, w.aggregate, GoneSnapshot()); err != nil {
			return "", err
		}
	}
	batch := &pgx.Batch{}
	where := []any{c.cfg.FromTier, c.cfg.FromSite, w.aggregate}
	batch.Queue("DELETE FROM parked WHERE tier = $1 AND site = $2 AND aggregate = $3 AND park_time <= $4", append(where, w.asked)...)
	batch.Queue("DELETE FROM wanted WHERE tier = $1 AND site = $2 AND aggregate = $3", where...)
	batch.Queue("DELETE FROM positions WHERE tier = $1 AND site = $2 AND aggregate = $3", where...)
	batch.Queue(`
INSERT INTO positions (tier, site, aggregate, kind, parked)
SELECT DISTINCT tier, site, aggregate, $4, true FROM parked WHERE tier = $1 AND site = $2 AND aggregate = $3`, append(where, w.kind)...)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return "", fmt.Errorf("forget %s: %w", w.aggregate, err)
	}
	return "gone", nil
}

func (c *Consumer) callReplace(ctx context.Context, tx pgx.Tx, topic Topic, aggregate string, s *Snapshot) error {
	return guarded(func() error {
		if topic.Replace != nil {
			return topic.Replace(ctx, tx, aggregate, s)
		}
		var parts []Event
		for data, err := range s.Parts() {
			if err != nil {
				return err
			}
			parts = append(parts, Event{
				Aggregate: aggregate, Kind: topic.Kind, Version: s.Version, Part: len(parts) + 1, Data: data, Time: now(),
			})
		}
		for i := range parts {
			parts[i].Parts = len(parts)
		}
		return topic.Apply(ctx, tx, parts)
	})
}

// staged reads the parts back one by one.
func (c *Consumer) staged(ctx context.Context, tx pgx.Tx, s received) *Snapshot {
	return &Snapshot{Version: s.version, parts: func(yield func(proto.Message, error) bool) {
		for part := 1; part <= s.count; part++ {
			message, err := readPart(ctx, tx, s.id, part)
			if !yield(message, err) || err != nil {
				return
			}
		}
	}}
}

func readPart(ctx context.Context, tx pgx.Tx, id uuid.UUID, part int) (proto.Message, error) {
	var typ string
	var data []byte
	err := tx.QueryRow(ctx, "SELECT type, data FROM snapshot_parts WHERE snapshot_id = $1 AND part = $2", id, part).Scan(&typ, &data)
	if err != nil {
		return nil, fmt.Errorf("read part %d of a snapshot: %w", part, err)
	}
	return decodeData(protoreflect.FullName(typ), data)
}

// dropParts removes the parts; when it cannot, the hourly pruning does.
func (c *Consumer) dropParts(ctx context.Context, id uuid.UUID) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	err := c.untilDone(ctx, func() error {
		_, err := c.cfg.Pool.Exec(ctx, "DELETE FROM snapshot_parts WHERE snapshot_id = $1", id)
		return err
	})
	if err != nil {
		c.log.Warn("cannot remove a received snapshot now", "error", err)
	}
}
