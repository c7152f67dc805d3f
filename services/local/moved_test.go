package local

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// moved tells that the chapter lies elsewhere since a time.
func (a *above) moved(region string, since time.Time) {
	a.t.Helper()
	name := paris + "/placement"
	a.regional(bus.Event{Subject: "placement.golang-paris.changed", Aggregate: name, Version: a.next(name), Data: &eventv1.PlacementChanged{
		Chapter: paris, Region: region, EffectiveTime: timestamppb.New(since),
	}})
}

// TestChapterMovesInTheMiddle forwards an announcement in the region that a chapter leaves, or in the one that it comes to,
// before or after the move, and is heard of in any order. It has the announcement once where it lay then, and not at all
// where it did not.
func TestChapterMovesInTheMiddle(t *testing.T) {
	t.Parallel()
	move := noon.Add(time.Hour)
	before, after := timestamppb.New(move.Add(-time.Minute)), timestamppb.New(move.Add(time.Minute))
	for _, test := range []struct {
		name, region string
		forwarded    *timestamppb.Timestamp
		left         bool
		want         bool
	}{
		{"ItLeftAfterwards", "world", before, false, true},
		{"ItLeftWhileItWaited", "world", after, true, true},
		{"ItHadLeft", "world", after, false, false},
		{"ItHadCome", "europe", after, false, true},
	} {
		for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
			t.Run(fmt.Sprint(test.name, order), func(t *testing.T) {
				t.Parallel()
				w := setup(t)
				w.regional.set(func() { w.regional.regions["regions/europe"] = "regions/world" })
				a := w.above()
				given := announcement("news")
				forwarded := relay(given, test.region)
				forwarded.ForwardTime = test.forwarded
				if test.left {
					forwarded.LeftChapters = []string{paris}
				}
				heard := []func(){
					func() { a.publish(given) }, func() { a.forward(forwarded) }, func() { a.moved("regions/europe", move) },
				}
				// Until it has heard of the move, the site counts the chapter where it lay.
				want := test.want || order[2] == 2
				for _, i := range order {
					heard[i]()
					a.settled()
				}
				if got := slices.Contains(w.has(given), "golang-paris"); got != want {
					t.Errorf("the chapter has it: %t, want %t", got, want)
				}
			})
		}
	}
}

// TestTranslationsOfAnotherEditionAreNotMailed corrects an announcement of which a region has translated the first edition.
func TestTranslationsOfAnotherEditionAreNotMailed(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := w.chapters.UpdateChapter(t.Context(), &localv1.UpdateChapterRequest{Chapter: &localv1.Chapter{Name: paris, LanguageCode: "fr"}})
	w.must(err)
	a := w.above()
	given := announcement("news")
	forwarded := relay(given, "world")
	forwarded.Translations = []*eventv1.AnnouncementText{{Language: "fr", Subject: "Nouvelles", Body: "Une.", Edition: 1}}
	a.publish(given)
	a.forward(forwarded)
	item := a.arrives(given)
	reads := func(subject string) {
		t.Helper()
		a.settled()
		testkit.Eventually(t, patience, func() (bool, string) {
			got := w.item(item).GetSubject()
			return got == subject, got + ", want " + subject
		})
	}
	reads("Nouvelles")
	given.Edition, given.Subject = 2, "better news"
	a.publish(given) // its relay is on its way still
	reads("better news")
	forwarded.Edition = 2
	forwarded.Translations = []*eventv1.AnnouncementText{{Language: "fr", Subject: "Meilleures nouvelles", Body: "Deux.", Edition: 2}}
	a.forward(forwarded)
	reads("Meilleures nouvelles")
}
