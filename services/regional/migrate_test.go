package regional_test

import (
	"io/fs"
	"os"
	"testing"
	"testing/fstest"

	"google.golang.org/protobuf/types/known/timestamppb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

// TestADatabaseFromBeforeTheHistory holds regions and chapters that were there before their histories and placements were
// kept: they go on, and the placements are told.
func TestADatabaseFromBeforeTheHistory(t *testing.T) {
	t.Parallel()
	first, err := fs.ReadFile(os.DirFS("db/migrations"), "00001_regions.sql")
	if err != nil {
		t.Fatal(err)
	}
	url := testkit.Database(t, postgres.Migration{Name: "bus", Files: bus.Migrations}, postgres.Migration{Name: "rpc", Files: rpc.Migrations},
		postgres.Migration{Name: "regional", Files: fstest.MapFS{"00001_regions.sql": {Data: first}}})
	pool, err := postgres.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	for _, sql := range []string{
		"UPDATE regions SET version = 1, epoch = 1, create_time = '2026-01-01'",
		"INSERT INTO regions VALUES ('europe', 'Europe', 'world', '{world,europe}', '{FR}', 5, 3, '2026-02-01', '2026-03-01')",
		"INSERT INTO chapters VALUES ('golang-paris', 'main', 'europe')",
	} {
		if _, err := pool.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := postgres.Migrate(t.Context(), url, regional.Migrations()...); err != nil {
		t.Fatal(err)
	}
	w := setupOn(t, pool)
	w.wantTree("(world 0 (europe 1))")
	europe := w.read("europe")
	if europe.GetEtag() != "5-3" {
		t.Errorf("europe is %v", europe)
	}
	then, err := w.nobody.GetRegionTree(t.Context(), &regionalv1.GetRegionTreeRequest{Name: "regions/world", AsOfTime: timestamppb.New(europe.GetCreateTime().AsTime())})
	w.must(err)
	if got := shape(then); got != "(world 0 (europe 0))" {
		t.Errorf("at its creation the tree was %s", got)
	}
	var told int
	w.must(pool.QueryRow(t.Context(), "SELECT count(*) FROM outbox WHERE subject = 'placement.golang-paris.changed'").Scan(&told))
	if told != 1 {
		t.Errorf("the placement was told of %d times", told)
	}
}
