package bus_test

import (
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// agree waits until the copy equals the owner's state in content and version, and nothing is left
// over.
func (w *world) agree() {
	w.t.Helper()
	testkit.Eventually(w.t, agreement, func() (bool, string) {
		ours, theirs := w.state(w.copy, "positions"), w.state(w.owner, "lists")
		if ours != theirs {
			return false, fmt.Sprintf("the copy has\n%.2000s\nthe owner has\n%.2000s", ours, theirs)
		}
		left := scan[string](w.t, w.copy, `SELECT 'parked ' || (SELECT count(*) FROM parked) || ', flagged ' ||
			(SELECT count(*) FROM positions WHERE parked) || ', wanted ' ||
			(SELECT count(*) FROM wanted AS w JOIN positions AS p USING (aggregate) WHERE (p.epoch, p.number) < (w.epoch, w.number)) ||
			', parts ' || (SELECT count(*) FROM snapshot_parts WHERE NOT $1)`, w.killed)
		return left == "parked 0, flagged 0, wanted 0, parts 0", left
	})
}

// state describes all aggregates with their versions and contents.
func (w *world) state(pool *pgxpool.Pool, versions string) string {
	w.t.Helper()
	where, notes := "true", "SELECT aggregate, epoch, number FROM notes"
	if versions == "positions" {
		where, notes = "kind = 'list' AND epoch > 0", "SELECT aggregate, epoch, number FROM positions WHERE kind = 'note' AND epoch > 0"
	}
	return scan[string](w.t, pool, `SELECT coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), '') FROM (
		SELECT aggregate || ' ' || epoch || '.' || number || ' ' || (SELECT count(*) || ' ' || md5(coalesce(string_agg(item, ',' ORDER BY item COLLATE "C"), ''))
			FROM items WHERE items.aggregate = v.aggregate) AS line
		FROM (SELECT aggregate, epoch, number FROM `+versions+` WHERE `+where+`) AS v
		UNION ALL
		SELECT v.aggregate || ' ' || v.epoch || '.' || v.number || ' ' || coalesce(n.value, 'nothing')
		FROM (`+notes+`) AS v LEFT JOIN notes AS n USING (aggregate)) AS lines`)
}

// metric is the sum of a counter over its labels.
func (w *world) metric(name string, labels ...string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	var sum float64
	for _, family := range families {
		if family.GetName() != "chapterhouse_bus_"+name {
			continue
		}
		for _, m := range family.GetMetric() {
			values := map[string]bool{}
			for _, label := range m.GetLabel() {
				values[label.GetValue()] = true
			}
			matches := true
			for _, label := range labels {
				matches = matches && values[label]
			}
			if matches {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
