package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// unreachable is a version that only the owner's own word satisfies, for aggregates that the owner
// seems not to have.
var unreachable = Version{Epoch: math.MaxInt64, Number: math.MaxInt64}

// While attempts go on, their back-off decides and not what else happens to the aggregate.
const insertWanted = `
INSERT INTO wanted AS w (tier, site, aggregate, kind, epoch, number, due_time)
SELECT $1, $2, aggregate, $3, epoch, number, clock_timestamp() + $7::interval
FROM unnest($4::text[], $5::bigint[], $6::bigint[]) AS new (aggregate, epoch, number) ORDER BY aggregate
ON CONFLICT (tier, site, aggregate) DO UPDATE SET
    epoch = CASE WHEN (excluded.epoch, excluded.number) > (w.epoch, w.number) THEN excluded.epoch ELSE w.epoch END,
    number = CASE WHEN (excluded.epoch, excluded.number) > (w.epoch, w.number) THEN excluded.number ELSE w.number END,
    due_time = CASE WHEN w.attempts > 0 THEN w.due_time
                    WHEN $8 THEN excluded.due_time
                    ELSE least(w.due_time, excluded.due_time) END`

// queueWant notes that the aggregate has to reach the version within due, or a snapshot be asked
// for; with postpone an earlier note waits too.
func (c *Consumer) queueWant(batch *pgx.Batch, kind, aggregate string, v Version, due time.Duration, postpone bool) {
	batch.Queue(insertWanted, c.cfg.FromTier, c.cfg.FromSite, kind,
		[]string{aggregate}, []int64{v.Epoch}, []int64{v.Number}, due, postpone)
}

// want asks for a snapshot of the aggregate now and locks its position.
func (c *Consumer) want(ctx context.Context, tx pgx.Tx, kind, aggregate string, v Version) error {
	if _, err := c.lockPosition(ctx, tx, kind, aggregate); err != nil {
		return err
	}
	batch := &pgx.Batch{}
	c.queueWant(batch, kind, aggregate, v, 0, false)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("want a snapshot of %s: %w", aggregate, err)
	}
	return nil
}

// wantLockWait is how long wanting waits for an aggregate that somebody works on. It holds others meanwhile.
const wantLockWait = "100ms"

// wantAll wants many aggregates of one kind, unless they reach their versions by themselves. It
// returns how many are behind. Where an Apply takes long they are wanted one by one, without the one
// that it works on: the next comparison looks at that again.
func (c *Consumer) wantAll(ctx context.Context, kind string, wanted []AggregateVersion) (int, error) {
	if len(wanted) == 0 {
		return 0, nil
	}
	behind, err := c.wantTogether(ctx, kind, wanted)
	if isLockTimeout(err) {
		behind, err = 0, nil
		for _, w := range wanted {
			n, err := c.wantTogether(ctx, kind, []AggregateVersion{w})
			if err != nil && !isLockTimeout(err) {
				return behind, fmt.Errorf("want a snapshot: %w", err)
			}
			behind += n
		}
	}
	if err != nil {
		return 0, fmt.Errorf("want snapshots: %w", err)
	}
	if behind > 0 {
		time.AfterFunc(c.cfg.GapWait, func() { signal(c.heal) })
	}
	return behind, nil
}

func isLockTimeout(err error) bool {
	refused, ok := errors.AsType[*pgconn.PgError](err)
	return ok && refused.Code == "55P03"
}

func (c *Consumer) wantTogether(ctx context.Context, kind string, wanted []AggregateVersion) (int, error) {
	kinds := make(map[string]string, len(wanted))
	for _, w := range wanted {
		kinds[w.Aggregate] = kind
	}
	return postgres.InTx(ctx, c.cfg.Pool, func(tx pgx.Tx) (int, error) {
		if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '"+wantLockWait+"'"); err != nil {
			return 0, fmt.Errorf("bound the wait: %w", err)
		}
		// Without their positions, which claim joins, nobody would ask for them.
		held, err := c.lockPositions(ctx, tx, kinds)
		if err != nil {
			return 0, err
		}
		var names []string
		var epochs, numbers []int64
		for _, w := range wanted {
			if held[w.Aggregate].version.Less(w.Version) {
				names, epochs, numbers = append(names, w.Aggregate), append(epochs, w.Version.Epoch), append(numbers, w.Version.Number)
			}
		}
		_, err = tx.Exec(ctx, insertWanted, c.cfg.FromTier, c.cfg.FromSite, kind, names, epochs, numbers, c.cfg.GapWait, false)
		return len(names), err
	})
}

// satisfy forgets what was wanted when the copy has it.
func (c *Consumer) satisfy(ctx context.Context, tx pgx.Tx, held *position) error {
	_, err := tx.Exec(ctx, `
DELETE FROM wanted WHERE tier = $1 AND site = $2 AND aggregate = $3 AND (epoch, number) <= ($4, $5)`,
		c.cfg.FromTier, c.cfg.FromSite, held.aggregate, held.version.Epoch, held.version.Number)
	if err != nil {
		return fmt.Errorf("forget what was wanted: %w", err)
	}
	return nil
}

// wish is an aggregate to be fetched.
type wish struct {
	aggregate, kind string
	asked           time.Time // by the database's clock, before the owner is asked
}

// claim returns wanted aggregates that are due, except the busy ones, and leases them, so that no
// replica asks for them meanwhile. Those that a worker has locked are left to it.
func (c *Consumer) claim(ctx context.Context, limit int, busy []string) ([]wish, error) {
	rows, err := c.cfg.Pool.Query(ctx, `
WITH due AS (
    SELECT w.aggregate FROM wanted AS w JOIN positions AS p USING (tier, site, aggregate)
    WHERE w.tier = $1 AND w.site = $2 AND w.due_time <= clock_timestamp() AND w.aggregate <> ALL($3) AND w.kind = ANY($6)
    ORDER BY w.due_time LIMIT $4 FOR UPDATE SKIP LOCKED)
UPDATE wanted AS w SET attempts = attempts + 1, due_time = clock_timestamp() + $5::interval
FROM due WHERE w.tier = $1 AND w.site = $2 AND w.aggregate = due.aggregate
RETURNING w.aggregate, w.kind, clock_timestamp()`,
		c.cfg.FromTier, c.cfg.FromSite, busy, limit, healLease, slices.Collect(maps.Keys(c.topics)))
	if err != nil {
		return nil, fmt.Errorf("look for what is wanted: %w", err)
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (w wish, err error) {
		return w, row.Scan(&w.aggregate, &w.kind, &w.asked)
	})
	if err != nil {
		return nil, fmt.Errorf("look for what is wanted: %w", err)
	}
	return found, nil
}

// putOff ends the lease of a wish that was not fulfilled, with a pause that grows.
func (c *Consumer) putOff(ctx context.Context, w wish) {
	_, err := c.cfg.Pool.Exec(context.WithoutCancel(ctx), `
UPDATE wanted SET due_time = clock_timestamp() + least($4::interval * 2 ^ least(attempts - 1, 10), $5::interval)
WHERE tier = $1 AND site = $2 AND aggregate = $3`,
		c.cfg.FromTier, c.cfg.FromSite, w.aggregate, c.healWait(), healMax)
	if err != nil {
		c.log.Warn("cannot put off a snapshot", "aggregate", w.aggregate, "error", err)
	}
}

// healWait is the pause after the first attempt that failed.
func (c *Consumer) healWait() time.Duration { return 2 * c.cfg.GapWait }

func (c *Consumer) isWanted(ctx context.Context, aggregate string) (wanted bool, err error) {
	err = c.cfg.Pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM wanted WHERE tier = $1 AND site = $2 AND aggregate = $3)",
		c.cfg.FromTier, c.cfg.FromSite, aggregate).Scan(&wanted)
	if err != nil {
		return false, fmt.Errorf("look for what is wanted: %w", err)
	}
	return wanted, nil
}
