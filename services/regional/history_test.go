package regional_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// The model holds, for every instant at which something happened, the whole tree as it then began to be. What takes
// effect in the past is put into all the states since then.
type model struct {
	states []state
}

type state struct {
	from    time.Time
	parents map[string]string // region -> parent, "" for world
	places  map[string]string // chapter -> region
}

func (m *model) now() *state { return &m.states[len(m.states)-1] }

// at finds the state that held.
func (m *model) at(when time.Time) *state {
	for i := len(m.states) - 1; i >= 0; i-- {
		if !m.states[i].from.After(when) {
			return &m.states[i]
		}
	}
	return nil
}

// since changes all states from a time on.
func (m *model) since(when time.Time, change func(*state)) {
	if last := m.at(when); !last.from.Equal(when) {
		split := state{from: when, parents: maps.Clone(last.parents), places: maps.Clone(last.places)}
		at := slices.IndexFunc(m.states, func(s state) bool { return s.from.After(when) })
		if at < 0 {
			at = len(m.states)
		}
		m.states = slices.Insert(m.states, at, split)
	}
	for i := range m.states {
		if !m.states[i].from.Before(when) {
			change(&m.states[i])
		}
	}
}

// path leads up from a region; it does not end when there is a circle, so it is cut.
func (s *state) path(region string) []string {
	var path []string
	for region != "" && len(path) <= len(s.parents) {
		path = append(path, region)
		region = s.parents[region]
	}
	return path
}

// text is the tree as GetRegionTree's answer is written by shape.
func (s *state) text(root string) string {
	var children []string
	for region, parent := range s.parents {
		if parent == root {
			children = append(children, region)
		}
	}
	slices.Sort(children)
	direct := 0
	for _, region := range s.places {
		if region == root {
			direct++
		}
	}
	text := fmt.Sprintf("(%s %d", root, direct)
	for _, child := range children {
		text += " " + s.text(child)
	}
	return text + ")"
}

func shape(tree *regionalv1.RegionTree) string {
	text := fmt.Sprintf("(%s %d", strings.TrimPrefix(tree.GetRegion().GetName(), "regions/"), tree.GetChapters())
	for _, child := range tree.GetChildren() {
		text += " " + shape(child)
	}
	return text + ")"
}

// chaptersBelow lists "chapter region" by chapter.
func (s *state) chaptersBelow(root string) string {
	var found []string
	for chapter, region := range s.places {
		if slices.Contains(s.path(region), root) {
			found = append(found, chapter+" "+region)
		}
	}
	slices.Sort(found)
	return strings.Join(found, ", ")
}

// historian makes random histories on the service and on the model.
type historian struct {
	*world
	rand  *rand.Rand
	model model
	made  int
	done  map[string]int
}

func (h *historian) pick(all []string) string { return all[h.rand.IntN(len(all))] }

func (h *historian) regions() []string  { return slices.Sorted(maps.Keys(h.model.now().parents)) }
func (h *historian) chapters() []string { return slices.Sorted(maps.Keys(h.model.now().places)) }

func (h *historian) newID() string { h.made++; return fmt.Sprintf("r%d", h.made) }

// when is now or some minutes ago, as a request has it.
func (h *historian) when() (time.Time, *timestamppb.Timestamp) {
	at := h.clock.Now()
	if h.rand.IntN(3) == 0 {
		at = at.Add(-time.Duration(h.rand.IntN(5)) * time.Minute)
		return at, timestamppb.New(at)
	}
	return at, nil
}

// did counts what went through; the service is the judge of what is allowed, and the checks are the judges of the
// service.
func (h *historian) did(what string, err error, at time.Time, change func(*state)) {
	if err != nil {
		h.done[what+" refused"]++
		return
	}
	h.done[what]++
	h.model.since(at, change)
}

func (h *historian) create() {
	id, parent := h.newID(), h.pick(h.regions())
	at, given := h.when()
	_, err := h.staff.CreateRegion(h.t.Context(), &regionalv1.CreateRegionRequest{
		RegionId: id, EffectiveTime: given, Region: &regionalv1.Region{DisplayName: id, ParentRegion: "regions/" + parent},
	})
	h.did("create", err, at, func(s *state) { s.parents[id] = parent })
}

func (h *historian) moveRegion() {
	id, parent := h.pick(h.regions()), h.pick(h.regions())
	at, given := h.when()
	same := h.model.now().parents[id] == parent
	_, err := h.staff.MoveRegion(h.t.Context(), &regionalv1.MoveRegionRequest{
		Name: "regions/" + id, ParentRegion: "regions/" + parent, EffectiveTime: given,
	})
	if !same {
		h.did("move", err, at, func(s *state) { s.parents[id] = parent })
	}
}

func (h *historian) splitRegion() {
	id, part, beside := h.pick(h.regions()), h.newID(), h.rand.IntN(2) == 0
	placement, parent := regionalv1.SplitRegionRequest_CHILDREN, id
	if beside {
		placement, parent = regionalv1.SplitRegionRequest_SIBLINGS, h.model.now().parents[id]
	}
	request := &regionalv1.SplitRegionRequest_Part{RegionId: part, DisplayName: part}
	for chapter, region := range h.model.now().places {
		if region == id && h.rand.IntN(2) == 0 {
			request.Chapters = append(request.Chapters, "chapters/"+chapter)
		}
	}
	for region, above := range h.model.now().parents {
		if above == id && h.rand.IntN(2) == 0 {
			request.Regions = append(request.Regions, "regions/"+region)
		}
	}
	_, err := h.staff.SplitRegion(h.t.Context(), &regionalv1.SplitRegionRequest{
		Name: "regions/" + id, Placement: placement, Parts: []*regionalv1.SplitRegionRequest_Part{request},
	})
	h.did("split", err, h.clock.Now(), func(s *state) {
		s.parents[part] = parent
		for _, chapter := range request.GetChapters() {
			s.places[strings.TrimPrefix(chapter, "chapters/")] = part
		}
		for _, region := range request.GetRegions() {
			s.parents[strings.TrimPrefix(region, "regions/")] = part
		}
	})
}

func (h *historian) mergeRegion() {
	id, into := h.pick(h.regions()), h.pick(h.regions())
	_, err := h.staff.MergeRegion(h.t.Context(), &regionalv1.MergeRegionRequest{Name: "regions/" + id, IntoRegion: "regions/" + into})
	h.did("merge", err, h.clock.Now(), func(s *state) {
		delete(s.parents, id)
		for region, above := range s.parents {
			if above == id {
				s.parents[region] = into
			}
		}
		for chapter, region := range s.places {
			if region == id {
				s.places[chapter] = into
			}
		}
	})
}

func (h *historian) closeRegion() {
	id := h.pick(h.regions())
	_, err := h.staff.DeleteRegion(h.t.Context(), &regionalv1.DeleteRegionRequest{Name: "regions/" + id})
	h.did("close", err, h.clock.Now(), func(s *state) { delete(s.parents, id) })
}

func (h *historian) adoptChapter() {
	chapter, region := h.pick(h.chapters()), h.pick(h.regions())
	_, err := h.transfers(staffMember).AdoptChapter(h.t.Context(), &regionalv1.AdoptChapterRequest{
		Region: "regions/" + region, Chapter: "chapters/" + chapter,
	})
	h.did("adopt", err, h.clock.Now(), func(s *state) { s.places[chapter] = region })
}

// TestAnyHistoryCanBeAskedForAsOf makes random histories, and asks afterwards what was at every instant.
func TestAnyHistoryCanBeAskedForAsOf(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("Seed", seed), func(t *testing.T) {
			h := &historian{world: setup(t), rand: rand.New(rand.NewPCG(seed, 26)), done: map[string]int{}}
			h.model.states = []state{{from: h.clock.Now(), parents: map[string]string{"world": ""}, places: map[string]string{}}}
			h.found(8)
			acts := []func(){h.create, h.create, h.moveRegion, h.moveRegion, h.splitRegion, h.mergeRegion, h.closeRegion, h.adoptChapter, h.adoptChapter}
			for range 120 {
				if h.rand.IntN(3) > 0 { // else several happen in one instant
					h.clock.Advance(time.Duration(h.rand.IntN(180)) * time.Second)
				}
				acts[h.rand.IntN(len(acts))]()
			}
			t.Logf("%v, %d states", h.done, len(h.model.states))
			for _, what := range []string{"create", "move", "move refused", "split", "merge", "merge refused", "close", "close refused", "adopt"} {
				if h.done[what] == 0 {
					t.Errorf("there was no %s", what)
				}
			}
			h.check()
		})
	}
}

// found lets chapters announce themselves in the world.
func (h *historian) found(n int) {
	local := h.tier(bus.Local)
	for i := range n {
		id := fmt.Sprintf("c%d", i)
		local.chapter(id, "regions/world", 1)
		h.model.now().places[id] = "world"
	}
	h.awaitTree("regions/world", fmt.Sprintf("(World %d/%d e0 c0)", n, n))
}

func (h *historian) check() {
	h.t.Helper()
	ever := map[string]bool{}
	for i := range h.model.states {
		s := &h.model.states[i]
		instants := []time.Time{s.from}
		if i+1 < len(h.model.states) {
			instants = append(instants, h.model.states[i+1].from.Add(-time.Microsecond))
		}
		s.checkSound(h.t)
		for region := range s.parents {
			ever[region] = true
		}
		for _, at := range instants {
			h.checkAt(s, at)
		}
	}
	h.checkNow()
	h.checkHistories(ever)
}

// checkSound looks for circles, orphans and chapters that lie nowhere.
func (s *state) checkSound(t *testing.T) {
	t.Helper()
	for region := range s.parents {
		if path := s.path(region); path[len(path)-1] != "world" {
			t.Errorf("at %v the way up from %s is %v", s.from, region, path)
		}
	}
	for chapter, region := range s.places {
		if _, there := s.parents[region]; !there {
			t.Errorf("at %v %s lies in %s, which is not there", s.from, chapter, region)
		}
	}
}

func (h *historian) checkAt(s *state, at time.Time) {
	h.t.Helper()
	tree, err := h.nobody.GetRegionTree(h.t.Context(), &regionalv1.GetRegionTreeRequest{Name: "regions/world", AsOfTime: timestamppb.New(at)})
	h.must(err)
	if got, want := shape(tree), s.text("world"); got != want {
		h.t.Errorf("at %v the tree was\n%s, want\n%s", at, got, want)
	}
	if int(tree.GetTotalChapters()) != len(s.places) {
		h.t.Errorf("at %v the tree held %d chapters, want %d", at, tree.GetTotalChapters(), len(s.places))
	}
	region := h.pick(slices.Sorted(maps.Keys(s.parents)))
	if got, want := h.below(region, timestamppb.New(at)), s.chaptersBelow(region); got != want {
		h.t.Errorf("at %v %s held %q, want %q", at, region, got, want)
	}
	one, err := h.nobody.GetRegion(h.t.Context(), &regionalv1.GetRegionRequest{Name: "regions/" + region, AsOfTime: timestamppb.New(at)})
	h.must(err)
	if parent := strings.TrimPrefix(one.GetParentRegion(), "regions/"); parent != s.parents[region] {
		h.t.Errorf("at %v %s lay in %q, want %q", at, region, parent, s.parents[region])
	}
}

func (h *historian) below(region string, at *timestamppb.Timestamp) string {
	h.t.Helper()
	var found []string
	for token := ""; ; {
		page, err := h.nobody.ListRegionChapters(h.t.Context(), &regionalv1.ListRegionChaptersRequest{
			Parent: "regions/" + region, AsOfTime: at, PageSize: 3, PageToken: token,
		})
		h.must(err)
		for _, c := range page.GetChapters() {
			found = append(found, strings.TrimPrefix(c.GetChapter(), "chapters/")+" "+strings.TrimPrefix(c.GetRegion(), "regions/"))
		}
		if token = page.GetNextPageToken(); token == "" {
			return strings.Join(found, ", ")
		}
	}
}

// checkNow reads the tables of the present, and not those of the history.
func (h *historian) checkNow() {
	h.t.Helper()
	tree, err := h.nobody.GetRegionTree(h.t.Context(), &regionalv1.GetRegionTreeRequest{Name: "regions/world"})
	h.must(err)
	if got, want := shape(tree), h.model.now().text("world"); got != want {
		h.t.Errorf("the tree is\n%s, want\n%s", got, want)
	}
	for region := range h.model.now().parents {
		if got, want := h.below(region, nil), h.model.now().chaptersBelow(region); got != want {
			h.t.Errorf("%s holds %q, want %q", region, got, want)
		}
		above, err := h.service.Ancestors(h.t.Context(), "regions/"+region)
		h.must(err)
		path := h.model.now().path(region)[1:]
		slices.Reverse(path)
		if got := strings.ReplaceAll(strings.Join(above, " "), "regions/", ""); got != strings.Join(path, " ") {
			h.t.Errorf("above %s lie %q, want %q", region, got, path)
		}
	}
}

// checkHistories holds that each region's periods join without a gap, and end when it was closed.
func (h *historian) checkHistories(ever map[string]bool) {
	h.t.Helper()
	for region := range ever {
		var next *regionalv1.RegionPeriod
		_, there := h.model.now().parents[region]
		for _, p := range h.history(region) {
			switch {
			case next == nil && (p.GetEndTime() == nil) != there, next == nil && p.GetClosed() == there:
				h.t.Errorf("the last period of %s is %v", region, p)
			case next != nil && !p.GetEndTime().AsTime().Equal(next.GetStartTime().AsTime()):
				h.t.Errorf("between %v and %v there is a gap", p, next)
			}
			next = p
		}
	}
}

func (h *historian) history(region string) (periods []*regionalv1.RegionPeriod) {
	h.t.Helper()
	for token := ""; ; {
		page, err := h.nobody.ListRegionHistory(h.t.Context(), &regionalv1.ListRegionHistoryRequest{
			Parent: "regions/" + region, PageSize: 2, PageToken: token,
		})
		h.must(err)
		periods = append(periods, page.GetPeriods()...)
		if token = page.GetNextPageToken(); token == "" {
			return periods
		}
	}
}

// TestCopiesFollowAHistory lets another tier follow, and reads the tree from its copy.
func TestCopiesFollowAHistory(t *testing.T) {
	w := setup(t)
	follower := w.follower(bus.Local)
	w.region("europe", "regions/world")
	w.region("france", "regions/world")
	w.region("gaul", "regions/europe")
	_, err := w.staff.MoveRegion(t.Context(), &regionalv1.MoveRegionRequest{Name: "regions/france", ParentRegion: "regions/europe"})
	w.must(err)
	_, err = w.staff.MergeRegion(t.Context(), &regionalv1.MergeRegionRequest{Name: "regions/gaul", IntoRegion: "regions/france"})
	w.must(err)
	follower.await("regions/europe europe regions/world, regions/france france regions/europe, regions/gaul gaul regions/europe, regions/world World ")
	testkit.Eventually(t, patience, func() (bool, string) {
		above, err := w.service.Ancestors(t.Context(), "regions/france")
		return err == nil && fmt.Sprint(above) == "[regions/world regions/europe]", fmt.Sprint(above, err)
	})
}
