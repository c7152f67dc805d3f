package platformtest

import (
	"fmt"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

func BenchmarkZZ(b *testing.B) {
	d := deploy(b)
	ids := make([]string, 40)
	for i := range ids {
		ids[i] = fmt.Sprintf("chapter-%d", i)
	}
	d.found(b, ids...)
	watch := d.watchTotals(b)
	d.paced(b, watch, ids, 0, 200)
	for _, tier := range []string{bus.Local, bus.International} {
		pool := get(postgres.Open(b.Context(), d.cluster.URL(d.tiers[tier])))(b)
		for _, q := range []string{
			"SELECT count(*) || ' rows, create span ' || (max(create_time)-min(create_time)) || ', publish span ' || (max(publish_time)-min(publish_time)) || ', lag avg ' || avg(publish_time-create_time) || ' max ' || max(publish_time-create_time) FROM outbox WHERE subject LIKE 'list.%members.changed' OR subject LIKE 'standing%'",
			"SELECT count(*) || ' inbox, span ' || coalesce((max(receive_time)-min(receive_time))::text,'') FROM inbox",
		} {
			var s string
			must(b, pool.QueryRow(b.Context(), q).Scan(&s))
			fmt.Println(tier, s)
		}
		pool.Close()
	}
}
