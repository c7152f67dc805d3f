package platformtest

import (
	"context"
	"fmt"
	"testing"
	"time"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// TestAMoveIsKnownEverywhere moves a chapter, and then the region that it lies in, and asks each tier who may act for it.
func TestAMoveIsKnownEverywhere(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.region(t, "europe", "world")
	h.region(t, "asia", "world")
	h.region(t, "france", "europe")
	h.found(t, paris)
	h.adopt(t, "france", paris)
	h.lies(t, paris, []string{"world", "europe", "france"}, []string{"asia"})
	h.adopt(t, "asia", paris)
	took := h.lies(t, paris, []string{"world", "asia"}, []string{"europe", "france"})
	t.Logf("a chapter's move is known everywhere after %v", took)
	h.adopt(t, "france", paris)
	h.lies(t, paris, []string{"world", "europe", "france"}, []string{"asia"})
	_, err := h.regions.MoveRegion(h.staff(bounded(t, patience), t), &regionalv1.MoveRegionRequest{Name: "regions/france", ParentRegion: "regions/asia"})
	must(t, err)
	took = h.lies(t, paris, []string{"world", "asia", "france"}, []string{"europe"})
	t.Logf("a region's move is known everywhere after %v", took)
	_, err = h.regions.MergeRegion(h.staff(bounded(t, patience), t), &regionalv1.MergeRegionRequest{Name: "regions/france", IntoRegion: "regions/europe"})
	must(t, err)
	h.lies(t, paris, []string{"world", "europe"}, []string{"asia"})
}

// TestAMoveWaitsForWhoIsAway moves a chapter while its site is down, and while the regional tier is: who was away follows.
func TestAMoveWaitsForWhoIsAway(t *testing.T) {
	t.Parallel()
	h := build(t)
	h.region(t, "europe", "world")
	h.region(t, "asia", "world")
	h.found(t, paris, berlin)
	h.adopt(t, "europe", paris)
	h.adopt(t, "europe", berlin)
	h.lies(t, paris, []string{"world", "europe"}, []string{"asia"})
	h.lies(t, berlin, []string{"world", "europe"}, []string{"asia"})

	h.stop(bus.Local)
	h.adopt(t, "asia", paris)
	h.start(bus.Local)
	h.lies(t, paris, []string{"world", "asia"}, []string{"europe"})

	// The chapter speaks of itself, and a new one is founded, while nobody there can hear it.
	h.stop(bus.Regional)
	_, err := h.chapters.UpdateChapter(h.staff(bounded(t, patience), t), &localv1.UpdateChapterRequest{
		Chapter: &localv1.Chapter{Name: "chapters/" + berlin, City: "Berlin"},
	})
	must(t, err)
	h.found(t, "munich")
	h.start(bus.Regional)
	h.adopt(t, "asia", berlin)
	h.adopt(t, "europe", "munich")
	h.lies(t, berlin, []string{"world", "asia"}, []string{"europe"})
	h.lies(t, "munich", []string{"world", "europe"}, []string{"asia"})
	h.lies(t, paris, []string{"world", "asia"}, []string{"europe"})
}

func (f *federation) region(t testing.TB, id, parent string) {
	t.Helper()
	_, err := f.regions.CreateRegion(f.staff(bounded(t, patience), t), &regionalv1.CreateRegionRequest{
		RegionId: id, Region: &regionalv1.Region{DisplayName: id, ParentRegion: "regions/" + parent},
	})
	must(t, err)
}

// adopt moves a chapter as soon as the regional tier knows it.
func (f *federation) adopt(t testing.TB, region, chapter string) {
	t.Helper()
	transfers := regionalv1.NewTransferServiceClient(f.conns[bus.Regional])
	eventually(t, patience, func() string {
		_, err := transfers.AdoptChapter(f.staff(bounded(t, patience), t), &regionalv1.AdoptChapterRequest{
			Region: "regions/" + region, Chapter: "chapters/" + chapter,
		})
		if err != nil {
			return err.Error()
		}
		return ""
	})
}

// lies waits until every tier lets the coordinators of the regions that the chapter lies in act for it, and those of the
// others not, and returns how long that took.
func (f *federation) lies(t testing.TB, chapter string, in, notIn []string) time.Duration {
	t.Helper()
	begin := time.Now()
	may := func(region string) map[string]error {
		ctx := f.as(bounded(t, patience), t, authz.Coordinator, "regions/"+region)
		return f.actsFor(ctx, chapter)
	}
	eventually(t, patience, func() string {
		for _, region := range in {
			for tier, err := range may(region) {
				if err != nil {
					return fmt.Sprintf("%s: %s cannot act for %s: %v", tier, region, chapter, err)
				}
			}
		}
		for _, region := range notIn {
			for tier, err := range may(region) {
				if err == nil {
					return fmt.Sprintf("%s: %s still acts for %s", tier, region, chapter)
				}
			}
		}
		return f.listedIn(t, chapter, in[len(in)-1])
	})
	return time.Since(begin)
}

// actsFor does in each tier what takes a permission on the chapter.
func (f *federation) actsFor(ctx context.Context, chapter string) map[string]error {
	_, international := f.standings.GetStanding(ctx, &internationalv1.GetStandingRequest{Name: "chapters/" + chapter + "/standing"})
	_, local := f.lists.GetList(ctx, &localv1.GetListRequest{Name: "chapters/" + chapter + "/lists/members"})
	return map[string]error{bus.International: international, bus.Local: local}
}

// listedIn says why the regional and the local tier do not have the chapter directly in the region, "" when they do.
func (f *federation) listedIn(t testing.TB, chapter, region string) string {
	t.Helper()
	ctx := f.staff(bounded(t, patience), t)
	list, err := f.regions.ListRegionChapters(ctx, &regionalv1.ListRegionChaptersRequest{Parent: "regions/" + region})
	if err != nil {
		return err.Error()
	}
	found := ""
	for _, c := range list.GetChapters() {
		if c.GetChapter() == "chapters/"+chapter {
			found = c.GetRegion()
		}
	}
	own, err := f.chapters.GetChapter(ctx, &localv1.GetChapterRequest{Name: "chapters/" + chapter})
	if err != nil {
		return err.Error()
	}
	if found != "regions/"+region || own.GetRegion() != found {
		return fmt.Sprintf("%s lies in %q for the region and in %s for itself, want regions/%s", chapter, found, own.GetRegion(), region)
	}
	return ""
}
