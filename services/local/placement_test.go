package local

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func placement(region string, epoch, number int64) bus.Event {
	return bus.Event{
		Subject: "placement.golang-paris.changed", Aggregate: paris + "/placement", Version: bus.Version{Epoch: epoch, Number: number},
		Data: &eventv1.PlacementChanged{Chapter: paris, Region: region},
	}
}

func (w *world) read(chapter string) *localv1.Chapter {
	w.t.Helper()
	got, err := w.chapters.GetChapter(w.t.Context(), &localv1.GetChapterRequest{Name: chapter})
	w.must(err)
	return got
}

func (w *world) awaitRegion(want string) {
	w.t.Helper()
	testkit.Eventually(w.t, patience, func() (bool, string) {
		got := w.read(paris).GetRegion()
		return got == want, got + ", want " + want
	})
}

// moves are the regions that the chapter told of, in order.
func (w *world) moves() []string {
	w.t.Helper()
	var regions []string
	last := bus.Version{}
	for _, event := range w.outbox() {
		chapter, ok := event.Data.(*eventv1.ChapterChanged)
		if !ok {
			continue
		}
		if last.Epoch != 0 && event.Version != (bus.Version{Epoch: last.Epoch, Number: last.Number + 1}) {
			w.t.Errorf("version %s follows %s", event.Version, last)
		}
		last, regions = event.Version, append(regions, chapter.GetRegion())
	}
	return regions
}

func TestAPlacementIsFollowedAndToldOf(t *testing.T) {
	t.Parallel()
	w := setup(t)
	tell := w.tell(bus.Regional)
	before := w.read(paris)
	w.clock.Advance(time.Minute)
	tell(placement("regions/world", 1, 1)) // where it lies: nothing to see
	tell(placement("regions/france", 1, 2))
	w.awaitRegion("regions/france")
	after := w.read(paris)
	if after.GetEtag() == before.GetEtag() || !after.GetUpdateTime().AsTime().Equal(w.clock.Now()) {
		t.Errorf("after %v, before %v", after, before)
	}
	if got := fmt.Sprint(w.moves()); got != "[regions/world regions/france]" {
		t.Errorf("the chapter told of %s", got)
	}
}

func TestPlacementsInAnyOrderAndTwiceEndWhereTheLastOneSays(t *testing.T) {
	t.Parallel()
	w := setup(t)
	tell := w.tell(bus.Regional)
	regions := []string{"regions/world", "regions/france", "regions/spain", "regions/france", "regions/asia", "regions/spain"}
	var events []bus.Event
	for i, region := range regions {
		events = append(events, placement(region, 1, int64(i+1)), placement(region, 1, int64(i+1)))
	}
	random := rand.New(rand.NewPCG(1, 2))
	random.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	for _, event := range events {
		tell(event)
	}
	tell(placement("regions/end", 2, 1)) // a restored database begins anew
	tell(placement("regions/asia", 1, 7))
	w.awaitRegion("regions/end")
	told := w.moves()
	if last := told[len(told)-1]; last != "regions/end" {
		t.Errorf("the chapter told of %v", told)
	}
	for i := range told[1:] {
		if told[i] == told[i+1] {
			t.Errorf("the chapter told twice that it lies in %s", told[i])
		}
	}
}

// TestAnOlderPlacementIsNothing goes around the bus, whose positions would keep an old one away: they are lost together
// with a database, and the chapter's own record is not.
func TestAnOlderPlacementIsNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	topic := w.service.placementTopic()
	apply := func(event bus.Event) {
		w.inTx(func(tx pgx.Tx) { w.must(topic.Apply(t.Context(), tx, []bus.Event{event})) })
	}
	apply(placement("regions/france", 2, 3))
	apply(placement("regions/spain", 2, 3))
	apply(placement("regions/spain", 2, 2))
	apply(placement("regions/spain", 1, 9))
	if got := w.read(paris).GetRegion(); got != "regions/france" {
		t.Errorf("it lies in %s", got)
	}
	apply(bus.Event{
		Version: bus.Version{Epoch: 1, Number: 1},
		Data:    &eventv1.PlacementChanged{Chapter: "chapters/of-another-site", Region: "regions/spain"},
	})
	if got := fmt.Sprint(w.moves()); got != "[regions/world regions/france]" {
		t.Errorf("the chapter told of %s", got)
	}
}

func TestNoChapterIsFoundedInAClosedRegion(t *testing.T) {
	t.Parallel()
	w := setup(t)
	tell := w.tell(bus.Regional)
	region := func(number int64, closed bool) {
		tell(bus.Event{
			Subject: "region.spain.changed", Aggregate: "regions/spain", Version: bus.Version{Epoch: 1, Number: number},
			Data: &eventv1.RegionChanged{Region: "regions/spain", ParentRegion: "regions/world", Closed: closed},
		})
	}
	found := func() error {
		_, err := w.chapters.CreateChapter(t.Context(), &localv1.CreateChapterRequest{
			ChapterId: "golang-madrid", Chapter: &localv1.Chapter{DisplayName: "Golang Madrid", Region: "regions/spain"}, ValidateOnly: true,
		})
		return err
	}
	region(1, false)
	testkit.Eventually(t, patience, func() (bool, string) { err := found(); return err == nil, fmt.Sprint(err) })
	region(2, true)
	testkit.Eventually(t, patience, func() (bool, string) {
		err := found()
		return status.Code(err) == codes.NotFound && rpc.Is(err, errorv1.Reason_REASON_NOT_FOUND), fmt.Sprint(err)
	})
}
