package local

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// TestSourcesSumUpToTheEntries compares what is counted with the entries, after random syncs and departures.
func TestSourcesSumUpToTheEntries(t *testing.T) {
	t.Parallel()
	w := setup(t)
	announce := w.createList("announce")
	random := rand.New(rand.NewPCG(51, 52))
	coordinator := localv1.NewChapterServiceClient(w.as(authz.Coordinator, "regions/world"))
	for round := range 12 {
		list := []string{members, announce}[random.IntN(2)]
		source := []string{"crm", "meetup", "forum"}[random.IntN(3)]
		from := random.IntN(30)
		w.sync(merge(source, people(from, 1+random.IntN(20))).to(list).applied())
		if round%3 == 0 {
			w.unsubscribe(w.entry(list, person(from)))
		}
		answer, err := coordinator.CountSources(t.Context(), &localv1.CountSourcesRequest{Name: paris})
		w.must(err)
		if len(answer.GetLists()) != 2 {
			t.Fatalf("%d lists are counted", len(answer.GetLists()))
		}
		for _, got := range answer.GetLists() {
			w.checkSources(got)
		}
	}
	_, err := coordinator.CountSources(t.Context(), &localv1.CountSourcesRequest{Name: "chapters/nowhere"})
	if err == nil {
		t.Error("a chapter that is not there has sources")
	}
	refuses(t, countAs(t, w, authz.ChapterAdmin, "chapters/rust-lyon"), errorv1.Reason_REASON_PERMISSION_DENIED)
}

func countAs(t *testing.T, w *world, role authz.Role, scope string) error {
	t.Helper()
	_, err := localv1.NewChapterServiceClient(w.as(role, scope)).CountSources(t.Context(), &localv1.CountSourcesRequest{Name: paris})
	return err
}

func (w *world) checkSources(got *localv1.ListSources) {
	w.t.Helper()
	want := map[string][2]int32{}
	var several, subscribed int32
	for _, entry := range w.entries(got.GetList()) {
		if entry.GetState() != localv1.Entry_SUBSCRIBED {
			continue
		}
		subscribed++
		if len(entry.GetSources()) > 1 {
			several++
		}
		for _, source := range entry.GetSources() {
			counts := want[source]
			counts[0]++
			if len(entry.GetSources()) == 1 {
				counts[1]++
			}
			want[source] = counts
		}
	}
	sum := got.GetSeveral()
	for _, source := range got.GetSources() {
		sum += source.GetOnly()
		if want[source.GetSource()] != [2]int32{source.GetEntries(), source.GetOnly()} {
			w.t.Fatalf("%s: %v, want %v", got.GetList(), source, want[source.GetSource()])
		}
		delete(want, source.GetSource())
	}
	if len(want) > 0 || got.GetSeveral() != several || got.GetSubscribedCount() != subscribed || sum != subscribed {
		w.t.Fatalf("%v sums up to %d, want %d of which %d by several sources; uncounted %v", got, sum, subscribed, several, want)
	}
	if list := w.list(got.GetList()); fmt.Sprint(got.GetVersion()) == "" || list.GetSubscribedCount() != got.GetSubscribedCount() {
		w.t.Fatalf("%v was counted of %v", got, list)
	}
}

func TestTheCopyOfThePolicyFollows(t *testing.T) {
	t.Parallel()
	w := setup(t)
	above := w.above()
	for number, percent := range []int32{60, 70} {
		changed := &eventv1.PolicyChanged{
			InForce:   &eventv1.PolicyRevision{Revision: fmt.Sprint(number + 1), ThresholdPercent: percent, EffectiveTime: timestamppb.New(noon)},
			Scheduled: []*eventv1.PolicyRevision{{Revision: "9"}},
		}
		above.international(bus.Event{Subject: "policy.charter.changed", Aggregate: "charterPolicy", Version: above.next("charterPolicy"), Data: changed})
		above.settled()
		var revision string
		var content []byte
		w.must(w.pool.QueryRow(t.Context(), "SELECT revision, content FROM charter_policy").Scan(&revision, &content))
		kept := &eventv1.PolicyChanged{}
		w.must(proto.Unmarshal(content, kept))
		if revision != fmt.Sprint(number+1) || !proto.Equal(kept, changed) {
			t.Errorf("the copy is revision %s: %v", revision, kept)
		}
	}
}
