package platformtest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// wantEachEventOnce finds every event that local and regional wrote in the inbox of international, each once, and
// nothing else; and nowhere anything that waits or could not be consumed. It returns how many events there are.
func (d *deployment) wantEachEventOnce(t *testing.T) int {
	t.Helper()
	ctx := bounded(t, 2*patience)
	pools := map[string]*pgxpool.Pool{}
	for _, tier := range tierNames {
		pools[tier] = get(postgres.Open(ctx, d.cluster.URL(d.tiers[tier])))(t)
		defer pools[tier].Close()
	}
	eventually(t, patience, func() string { return waiting(ctx, pools) })
	written := map[string]bool{}
	for _, tier := range []string{bus.Local, bus.Regional} {
		// International learns where chapters lie from local, which is who follows the placements.
		for _, id := range eventIDs(ctx, t, pools[tier], "outbox WHERE subject NOT LIKE 'placement.%'") {
			written[id] = true
		}
	}
	eventually(t, patience, func() string {
		consumed := eventIDs(ctx, t, pools[bus.International], "inbox")
		for _, id := range consumed {
			if !written[id] {
				return "an event was consumed that nobody wrote: " + id
			}
		}
		if len(consumed) != len(written) {
			return fmt.Sprintf("%d of %d events were consumed", len(consumed), len(written))
		}
		return ""
	})
	for stream, messages := range d.streams(t) {
		if strings.HasPrefix(stream, "CH_DEAD") && len(messages) > 0 {
			t.Errorf("%d dead letters in %s: %v", len(messages), stream, messages[0].Header)
		}
	}
	return len(written)
}

// waiting says what is on its way somewhere.
func waiting(ctx context.Context, pools map[string]*pgxpool.Pool) string {
	for _, tier := range slices.Sorted(maps.Keys(pools)) {
		for _, query := range []string{
			"SELECT 'unpublished', count(*) FROM outbox WHERE publish_time IS NULL",
			"SELECT 'parked', count(*) FROM parked",
			"SELECT 'wanted', count(*) FROM wanted",
		} {
			var what string
			var count int
			if err := pools[tier].QueryRow(ctx, query).Scan(&what, &count); err != nil {
				return err.Error()
			}
			if count > 0 {
				return fmt.Sprintf("%d events are %s at %s", count, what, tier)
			}
		}
	}
	return ""
}

func eventIDs(ctx context.Context, t *testing.T, pool *pgxpool.Pool, table string) []string {
	t.Helper()
	rows := get(pool.Query(ctx, "SELECT event_id::text FROM "+table))(t)
	return get(pgx.CollectRows(rows, pgx.RowTo[string]))(t)
}
