package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// catchUpWait is how long a comparison waits for the stream to be read and applied to its end,
	// since most differences would be on their way.
	catchUpWait  = 30 * time.Second
	catchUpTick  = 20 * time.Millisecond
	compareRetry = 10 * time.Second
)

// comparing compares our versions with the owner's now and then. This finds what no later event
// reveals: a last event that was lost, or our own database restored from a backup.
func (c *Consumer) comparing(ctx context.Context) {
	for ctx.Err() == nil {
		c.catchUp(ctx)
		next := c.cfg.CompareEvery
		if err := c.compareAll(ctx); err != nil && ctx.Err() == nil {
			c.log.Info("cannot compare with the owner now", "error", err)
			if !errors.Is(err, errOwnerSays) { // it will not say anything else so soon
				next = min(next, compareRetry)
			}
		}
		select {
		case <-time.After(next):
		case <-c.compare:
		case <-ctx.Done():
		}
	}
}

// catchUp waits until there is nothing left to apply.
func (c *Consumer) catchUp(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, catchUpWait)
	defer cancel()
	for ctx.Err() == nil && (!c.caughtUp.Load() || !c.queue.idle()) {
		pause(ctx, catchUpTick)
	}
}

func (c *Consumer) compareAll(ctx context.Context) error {
	var failed []error
	for kind, topic := range c.topics {
		if kind == kindBus || topic.Passing {
			continue
		}
		if err := c.compareKind(ctx, kind); err != nil {
			failed = append(failed, fmt.Errorf("kind %s: %w", kind, err))
		}
	}
	return errors.Join(failed...)
}

// compareKind wants every aggregate that the owner holds at a newer version than we do, and every
// one that we hold and the owner does not list.
func (c *Consumer) compareKind(ctx context.Context, kind string) error {
	var started time.Time
	if err := c.cfg.Pool.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&started); err != nil {
		return err
	}
	theirs := map[string]bool{}
	for after := ""; ; {
		page, err := c.askVersions(ctx, kind, after)
		if err != nil {
			return err
		}
		for _, v := range page {
			theirs[v.Aggregate] = true
		}
		if err := c.wantNewer(ctx, kind, page); err != nil {
			return err
		}
		if len(page) < versionsPage {
			break
		}
		after = page[len(page)-1].Aggregate
	}
	return c.wantGone(ctx, kind, theirs, started)
}

func (c *Consumer) wantNewer(ctx context.Context, kind string, page []AggregateVersion) error {
	ours, err := c.heldVersions(ctx, `
SELECT aggregate, epoch, number FROM positions WHERE tier = $1 AND site = $2 AND aggregate = ANY($3)`, names(page))
	if err != nil {
		return err
	}
	var behind []AggregateVersion
	for _, v := range page {
		if ours[v.Aggregate].Less(v.Version) {
			behind = append(behind, v)
		}
	}
	return c.different(ctx, kind, behind)
}

// wantGone leaves out what arrived since the comparison started.
func (c *Consumer) wantGone(ctx context.Context, kind string, theirs map[string]bool, started time.Time) error {
	ours, err := c.heldVersions(ctx, `
SELECT aggregate, epoch, number FROM positions
WHERE tier = $1 AND site = $2 AND kind = $3 AND epoch > 0 AND update_time < $4`, kind, started)
	if err != nil {
		return err
	}
	var gone []AggregateVersion
	for aggregate := range ours {
		if !theirs[aggregate] {
			gone = append(gone, AggregateVersion{Aggregate: aggregate, Version: unreachable})
		}
	}
	return c.different(ctx, kind, gone)
}

func (c *Consumer) different(ctx context.Context, kind string, versions []AggregateVersion) error {
	count, err := c.wantAll(ctx, kind, versions)
	c.metrics.differences.Add(float64(count))
	return err
}

func names(versions []AggregateVersion) []string {
	list := make([]string, len(versions))
	for i, v := range versions {
		list[i] = v.Aggregate
	}
	return list
}

func (c *Consumer) heldVersions(ctx context.Context, query string, args ...any) (map[string]Version, error) {
	rows, err := c.cfg.Pool.Query(ctx, query, append([]any{c.cfg.FromTier, c.cfg.FromSite}, args...)...)
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	held := map[string]Version{}
	var aggregate string
	var v Version
	_, err = pgx.ForEachRow(rows, []any{&aggregate, &v.Epoch, &v.Number}, func() error {
		held[aggregate] = v
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	return held, nil
}
