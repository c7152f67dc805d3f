package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// position is the copy of one aggregate, locked by the running transaction.
type position struct {
	aggregate string
	kind      string
	version   Version // zero: no copy
	parked    bool    // there are rows in parked
	updated   time.Time

	changed bool
}

const selectPositions = `
SELECT aggregate, kind, epoch, number, parked, update_time FROM positions
WHERE tier = $1 AND site = $2 AND aggregate = ANY($3)
ORDER BY aggregate FOR UPDATE`

// lockPositions locks the positions of the aggregates, given with their kinds, in the order of
// their names, and makes those that are missing.
func (c *Consumer) lockPositions(ctx context.Context, tx pgx.Tx, kinds map[string]string) (map[string]*position, error) {
	names := slices.Sorted(maps.Keys(kinds))
	for range maxTries {
		found, err := c.lockExisting(ctx, tx, names)
		if err != nil || len(found) == len(names) {
			return found, err
		}
		if err := c.makePositions(ctx, tx, names, kinds); err != nil {
			return nil, err
		}
	}
	return nil, errVanishing
}

// errVanishing: a replica removes aggregates that the owner has no more while we look.
var errVanishing = errors.New("positions vanish")

func (c *Consumer) lockExisting(ctx context.Context, tx pgx.Tx, names []string) (map[string]*position, error) {
	rows, err := tx.Query(ctx, selectPositions, c.cfg.FromTier, c.cfg.FromSite, names)
	if err != nil {
		return nil, fmt.Errorf("lock positions: %w", err)
	}
	return collectPositions(rows)
}

func collectPositions(rows pgx.Rows) (map[string]*position, error) {
	found := map[string]*position{}
	var p position
	_, err := pgx.ForEachRow(rows, []any{&p.aggregate, &p.kind, &p.version.Epoch, &p.version.Number, &p.parked, &p.updated},
		func() error {
			row := p
			found[row.aggregate] = &row
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("lock positions: %w", err)
	}
	return found, nil
}

// makePositions inserts in the order of the names, so that two replicas never wait for each other.
func (c *Consumer) makePositions(ctx context.Context, tx pgx.Tx, names []string, kinds map[string]string) error {
	column := make([]string, len(names))
	for i, name := range names {
		column[i] = kinds[name]
	}
	_, err := tx.Exec(ctx, `
INSERT INTO positions (tier, site, aggregate, kind)
SELECT $1, $2, aggregate, kind FROM unnest($3::text[], $4::text[]) AS new (aggregate, kind) ORDER BY aggregate
ON CONFLICT DO NOTHING`, c.cfg.FromTier, c.cfg.FromSite, names, column)
	if err != nil {
		return fmt.Errorf("make positions: %w", err)
	}
	return nil
}

func (c *Consumer) lockPosition(ctx context.Context, tx pgx.Tx, kind, aggregate string) (*position, error) {
	found, err := c.lockPositions(ctx, tx, map[string]string{aggregate: kind})
	if err != nil {
		return nil, err
	}
	return found[aggregate], nil
}

func (p *position) moveTo(v Version) { p.version, p.changed = v, true }

func (p *position) setParked(parked bool) {
	if p.parked != parked {
		p.parked, p.changed = parked, true
	}
}

// savePositions writes those that changed.
func (c *Consumer) savePositions(ctx context.Context, tx pgx.Tx, positions map[string]*position) error {
	var names []string
	var epochs, numbers []int64
	var parked []bool
	for _, p := range positions {
		if p.changed {
			names, epochs, numbers = append(names, p.aggregate), append(epochs, p.version.Epoch), append(numbers, p.version.Number)
			parked = append(parked, p.parked)
		}
	}
	if len(names) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, `
UPDATE positions AS p SET epoch = new.epoch, number = new.number, parked = new.parked, update_time = clock_timestamp()
FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::boolean[]) AS new (aggregate, epoch, number, parked)
WHERE p.tier = $1 AND p.site = $2 AND p.aggregate = new.aggregate`,
		c.cfg.FromTier, c.cfg.FromSite, names, epochs, numbers, parked)
	if err != nil {
		return fmt.Errorf("save positions: %w", err)
	}
	return nil
}

func (c *Consumer) savePosition(ctx context.Context, tx pgx.Tx, p *position) error {
	return c.savePositions(ctx, tx, map[string]*position{p.aggregate: p})
}
