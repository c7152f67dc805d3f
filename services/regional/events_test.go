package regional_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// text writes a tree as (name chapters/all-chapters e-eligible c-chartered children...).
func text(tree *regionalv1.RegionTree) string {
	children := ""
	for _, child := range tree.GetChildren() {
		children += " " + text(child)
	}
	return fmt.Sprintf("(%s %d/%d e%d c%d%s)", tree.GetRegion().GetDisplayName(), tree.GetChapters(),
		tree.GetTotalChapters(), tree.GetEligibleChapters(), tree.GetCharteredChapters(), children)
}

func (w *world) awaitTree(root, want string) {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		tree, err := w.nobody.GetRegionTree(w.t.Context(), &regionalv1.GetRegionTreeRequest{Name: root})
		if err != nil {
			return false, err.Error()
		}
		return text(tree) == want, text(tree) + ", want " + want
	})
}

func (o *tier) chapter(id, region string, number int64) {
	o.w.t.Helper()
	o.send("chapter."+id+".changed", "chapters/"+id, number,
		&eventv1.ChapterChanged{Chapter: "chapters/" + id, DisplayName: id, Region: region})
}

func (o *tier) standing(chapter string, eligible bool, number int64) {
	o.w.t.Helper()
	o.send("standing."+chapter+".changed", "chapters/"+chapter+"/standing", number,
		&eventv1.StandingChanged{Chapter: "chapters/" + chapter, Eligible: eligible})
}

func (o *tier) charter(chapter, state string, number int64) {
	o.w.t.Helper()
	o.send("charter."+chapter+".changed", "charters/"+chapter, number,
		&eventv1.CharterChanged{Charter: "charters/" + chapter, State: state})
}

func TestTreeCountsWhatTheOtherTiersTell(t *testing.T) {
	w := setup(t)
	local, international := w.tier(bus.Local), w.tier(bus.International)
	w.region("europe", "regions/world")
	w.region("france", "regions/europe")
	w.region("asia", "regions/world")
	w.awaitTree("regions/world", "(World 0/0 e0 c0 (asia 0/0 e0 c0) (europe 0/0 e0 c0 (france 0/0 e0 c0)))")

	local.chapter("golang-paris", "regions/france", 1)
	local.chapter("golang-lyon", "regions/france", 1)
	local.chapter("golang-berlin", "regions/europe", 1)
	international.standing("golang-paris", true, 1)
	international.standing("golang-lyon", false, 1)
	international.charter("golang-paris", "CHARTERED", 1)
	international.charter("golang-lyon", "APPLIED", 1)
	w.awaitTree("regions/world", "(World 0/3 e1 c1 (asia 0/0 e0 c0) (europe 1/3 e1 c1 (france 2/2 e1 c1)))")

	w.adopt("asia", "golang-lyon")
	international.standing("golang-paris", false, 2)
	international.charter("golang-paris", "AT_RISK", 2)
	international.charter("golang-lyon", "DECLINED", 2)
	w.awaitTree("regions/world", "(World 0/3 e0 c1 (asia 1/1 e0 c0) (europe 1/2 e0 c1 (france 1/1 e0 c1)))")
	w.awaitTree("regions/asia", "(asia 1/1 e0 c0)")
}

func TestStandingBeforeItsChapter(t *testing.T) {
	w := setup(t)
	local, international := w.tier(bus.Local), w.tier(bus.International)
	international.standing("golang-paris", true, 1)
	international.charter("golang-paris", "CHARTERED", 1)
	local.chapter("golang-paris", "regions/europe", 1)
	w.region("europe", "regions/world")
	w.awaitTree("regions/europe", "(europe 1/1 e1 c1)")
}

func TestAncestors(t *testing.T) {
	w := setup(t)
	w.region("europe", "regions/world")
	w.region("france", "regions/europe")
	w.tier(bus.Local).chapter("golang-paris", "regions/france", 1)
	w.awaitTree("regions/france", "(france 1/1 e0 c0)")

	for scope, want := range map[string]string{
		"regions/world":         "[]",
		"regions/france":        "[regions/world regions/europe]",
		"chapters/golang-paris": "[regions/world regions/europe regions/france sites/main]",
	} {
		got, err := w.service.Ancestors(t.Context(), scope)
		w.must(err)
		if fmt.Sprint(got) != want {
			t.Errorf("above %s: %v, want %s", scope, got, want)
		}
	}
	for _, scope := range []string{"regions/atlantis", "chapters/atlantis", "members/x"} {
		if _, err := w.service.Ancestors(t.Context(), scope); err == nil || err.Error() != authz.ErrUnknownScope.Error() {
			t.Errorf("above %s: %v, want ErrUnknownScope", scope, err)
		}
	}
}

// follower is another tier that keeps a copy of the tree.
type follower struct {
	w    *world
	pool *pgxpool.Pool
}

func (w *world) follower(name string) *follower {
	w.t.Helper()
	f := &follower{w: w, pool: testkit.Pool(w.t, postgres.Migration{Name: "bus", Files: bus.Migrations})}
	ctx := w.t.Context()
	_, err := f.pool.Exec(ctx, "CREATE TABLE copy (region text PRIMARY KEY, display_name text, parent text)")
	w.must(err)
	consumer, err := bus.NewConsumer(bus.ConsumerConfig{
		Pool: f.pool, NATS: w.connect(name), Tier: name, Site: bus.MainSite, FromTier: bus.Regional, FromSite: bus.MainSite,
		CompareEvery: time.Second, Log: quiet, Topics: []bus.Topic{{Kind: "region", Apply: apply}},
	})
	w.must(err)
	w.background(consumer.Run)
	return f
}

func apply(ctx context.Context, tx pgx.Tx, parts []bus.Event) error {
	region, ok := parts[0].Data.(*eventv1.RegionChanged)
	if !ok {
		return fmt.Errorf("%T is no region", parts[0].Data)
	}
	_, err := tx.Exec(ctx, `INSERT INTO copy VALUES ($1, $2, $3)
		ON CONFLICT (region) DO UPDATE SET display_name = excluded.display_name, parent = excluded.parent`,
		region.GetRegion(), region.GetDisplayName(), region.GetParentRegion())
	return err
}

func (f *follower) await(want string) {
	f.w.t.Helper()
	testkit.Eventually(f.w.t, patience, func() (bool, string) {
		var got string
		err := f.pool.QueryRow(f.w.t.Context(),
			"SELECT coalesce(string_agg(concat_ws(' ', region, display_name, parent), ', ' ORDER BY region), '') FROM copy").Scan(&got)
		if err != nil {
			return false, err.Error()
		}
		return got == want, got + "; want " + want
	})
}

func TestRegionsReachTheOtherTiers(t *testing.T) {
	w := setup(t)
	follower := w.follower(bus.Local)
	follower.await("regions/world World ")
	w.region("europe", "regions/world")
	follower.await("regions/europe europe regions/world, regions/world World ")
	_, err := w.staff.UpdateRegion(t.Context(), &regionalv1.UpdateRegionRequest{
		Region: &regionalv1.Region{Name: "regions/europe", DisplayName: "Europe"},
	})
	w.must(err)
	follower.await("regions/europe Europe regions/world, regions/world World ")
}

func TestLostEventIsAskedFor(t *testing.T) {
	w := setup(t)
	follower := w.follower(bus.International)
	follower.await("regions/world World ")
	w.exec("UPDATE regions SET display_name = 'Earth', version = version + 1")
	follower.await("regions/world Earth ")
}

func TestRestoredDatabaseBeginsAnEpoch(t *testing.T) {
	w := setup(t)
	follower := w.follower(bus.Local)
	w.region("europe", "regions/world")
	_, err := w.staff.UpdateRegion(t.Context(), &regionalv1.UpdateRegionRequest{
		Region: &regionalv1.Region{Name: "regions/europe", DisplayName: "Europe"},
	})
	w.must(err)
	follower.await("regions/europe Europe regions/world, regions/world World ")
	before, err := w.staff.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/europe"})
	w.must(err)

	w.stopService()
	w.exec("UPDATE regions SET display_name = 'Old Europe', version = 1 WHERE id = 'europe'")
	w.exec("DELETE FROM outbox")
	w.exec("UPDATE stream_state SET last_seq = 1, last_event_id = ''")
	w.startService()
	follower.await("regions/europe Old Europe regions/world, regions/world World ")
	after, err := w.client(authz.Principal{Subject: "nobody"}).
		GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/europe"})
	w.must(err)
	if after.GetEtag() == before.GetEtag() {
		t.Errorf("etag %s came back", after.GetEtag())
	}
}
