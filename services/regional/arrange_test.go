package regional_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// covering makes a region that covers countries.
func (w *world) covering(id, parent string, countries ...string) error {
	w.t.Helper()
	_, err := w.staff.CreateRegion(w.t.Context(), &regionalv1.CreateRegionRequest{
		RegionId: id, Region: &regionalv1.Region{DisplayName: id, ParentRegion: "regions/" + parent, CountryCodes: countries},
	})
	return err
}

func (w *world) move(id, parent string, at *timestamppb.Timestamp) (*regionalv1.Region, error) {
	w.t.Helper()
	return w.staff.MoveRegion(w.t.Context(), &regionalv1.MoveRegionRequest{
		Name: "regions/" + id, ParentRegion: "regions/" + parent, EffectiveTime: at,
	})
}

func (w *world) read(id string) *regionalv1.Region {
	w.t.Helper()
	region, err := w.staff.GetRegion(w.t.Context(), &regionalv1.GetRegionRequest{Name: "regions/" + id})
	w.must(err)
	return region
}

// tree is the tree of now, as shape writes it.
func (w *world) tree() string {
	w.t.Helper()
	tree, err := w.nobody.GetRegionTree(w.t.Context(), &regionalv1.GetRegionTreeRequest{Name: "regions/world"})
	w.must(err)
	return shape(tree)
}

func (w *world) wantTree(want string) {
	w.t.Helper()
	if got := w.tree(); got != want {
		w.t.Errorf("the tree is %s, want %s", got, want)
	}
}

// continents makes europe with france and spain in it, and asia.
func (w *world) continents() {
	w.t.Helper()
	w.region("europe", "regions/world")
	w.region("asia", "regions/world")
	w.must(w.covering("france", "europe", "FR"))
	w.must(w.covering("spain", "europe", "ES"))
}

func TestMoveRegion(t *testing.T) {
	t.Run("TakesAlongWhatIsBelow", func(t *testing.T) {
		w := setup(t)
		w.continents()
		before := w.read("europe")
		w.clock.Advance(time.Hour)
		moved, err := w.move("europe", "asia", nil)
		w.must(err)
		if moved.GetParentRegion() != "regions/asia" || moved.GetEtag() == before.GetEtag() || !moved.GetEffectiveTime().AsTime().Equal(w.clock.Now()) {
			t.Errorf("moved %v, before %v", moved, before)
		}
		w.wantTree("(world 0 (asia 0 (europe 0 (france 0) (spain 0))))")
	})

	t.Run("RefusesACircle", func(t *testing.T) {
		w := setup(t)
		w.continents()
		for _, parent := range []string{"europe", "france", "atlantis"} {
			_, err := w.move("europe", parent, nil)
			wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_REGION_PARENT_INVALID)
		}
		w.wantTree("(world 0 (asia 0) (europe 0 (france 0) (spain 0)))")
	})

	t.Run("RefusesTheRoot", func(t *testing.T) {
		w := setup(t)
		w.continents()
		_, err := w.move("world", "europe", nil)
		wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_REGION_PERMANENT)
	})

	t.Run("RefusesWhatWouldLieTooDeep", func(t *testing.T) {
		w := setup(t)
		w.continents()
		parent := "regions/asia"
		for depth := 3; depth <= 31; depth++ {
			parent = w.region("level-"+strings.Repeat("i", depth), parent).GetName()
		}
		_, err := w.move("europe", strings.TrimPrefix(parent, "regions/"), nil)
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_REGION_PARENT_INVALID)
		_, err = w.move("france", strings.TrimPrefix(parent, "regions/"), nil)
		w.must(err)
	})

	t.Run("TakesEffectInThePast", func(t *testing.T) {
		w := setup(t)
		w.continents()
		began := w.clock.Now()
		w.clock.Advance(10 * 24 * time.Hour)
		since := w.clock.Now().Add(-7 * 24 * time.Hour)
		_, err := w.move("france", "asia", timestamppb.New(since))
		w.must(err)
		for at, want := range map[time.Time]string{began: "regions/europe", since.Add(-time.Second): "regions/europe", since: "regions/asia"} {
			got, err := w.nobody.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/france", AsOfTime: timestamppb.New(at)})
			w.must(err)
			if got.GetParentRegion() != want || got.GetEtag() != "" {
				t.Errorf("at %v france was %v, want it in %s", at, got, want)
			}
		}
	})

	t.Run("NotBeforeWhatItDependsOn", func(t *testing.T) {
		w := setup(t)
		w.continents()
		w.clock.Advance(40 * 24 * time.Hour)
		w.region("orient", "regions/asia")
		w.clock.Advance(time.Hour)
		made := w.read("orient").GetEffectiveTime().AsTime()
		for parent, at := range map[string]time.Time{
			"orient": made.Add(-time.Second),                  // was not there
			"asia":   w.clock.Now().Add(-31 * 24 * time.Hour), // too long ago
			"world":  w.clock.Now().Add(time.Second),          // still to come
		} {
			_, err := w.move("france", parent, timestamppb.New(at))
			wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_EFFECTIVE_TIME_INVALID)
			if parent == "orient" && rpc.InfoOf(err).GetMetadata()["earliest"] != made.Format(time.RFC3339Nano) {
				t.Errorf("metadata %v, want %v", rpc.InfoOf(err).GetMetadata(), made)
			}
		}
		_, err := w.move("france", "orient", timestamppb.New(made))
		w.must(err)
		_, err = w.move("france", "europe", timestamppb.New(made.Add(-time.Second))) // before its own last change
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_EFFECTIVE_TIME_INVALID)
	})

	t.Run("RehearsesWithoutATrace", func(t *testing.T) {
		w := setup(t)
		w.continents()
		rehearsed, err := w.staff.MoveRegion(t.Context(), &regionalv1.MoveRegionRequest{
			Name: "regions/france", ParentRegion: "regions/asia", ValidateOnly: true,
		})
		w.must(err)
		if rehearsed.GetParentRegion() != "regions/asia" || w.read("france").GetParentRegion() != "regions/europe" {
			t.Errorf("rehearsed %v, and now %v", rehearsed, w.read("france"))
		}
	})

	t.Run("RefusesAnOldEtag", func(t *testing.T) {
		w := setup(t)
		w.continents()
		_, err := w.staff.MoveRegion(t.Context(), &regionalv1.MoveRegionRequest{
			Name: "regions/france", ParentRegion: "regions/asia", Etag: "1-1",
		})
		wantError(t, err, codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
	})

	t.Run("IsForStaffAlone", func(t *testing.T) {
		w := setup(t)
		w.continents()
		_, err := w.as(authz.Coordinator, "regions/world").MoveRegion(t.Context(), &regionalv1.MoveRegionRequest{
			Name: "regions/france", ParentRegion: "regions/asia",
		})
		wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	})
}

func TestACountryIsCoveredOnceBelowAParent(t *testing.T) {
	w := setup(t)
	w.continents()
	err := w.covering("gaul", "europe", "BE", "FR")
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_REGION_COUNTRY_TAKEN)
	if got := rpc.InfoOf(err).GetMetadata(); got["country"] != "FR" || got["region"] != "regions/france" {
		t.Errorf("metadata %v", got)
	}
	w.must(w.covering("alsace", "france", "FR"))
	w.must(w.covering("gaul", "asia", "FR"))
	_, err = w.move("gaul", "europe", nil)
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_REGION_COUNTRY_TAKEN)
	_, err = w.staff.UpdateRegion(t.Context(), &regionalv1.UpdateRegionRequest{
		Region: &regionalv1.Region{Name: "regions/spain", CountryCodes: []string{"ES", "FR"}},
	})
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_REGION_COUNTRY_TAKEN)
	w.wantTree("(world 0 (asia 0 (gaul 0)) (europe 0 (france 0 (alsace 0)) (spain 0)))")
}

func TestDeleteRegion(t *testing.T) {
	w := setup(t)
	w.continents()
	w.tier(bus.Local).chapter("golang-paris", "regions/france", 1)
	w.awaitTree("regions/france", "(france 1/1 e0 c0)")
	remove := func(id string) error {
		_, err := w.staff.DeleteRegion(t.Context(), &regionalv1.DeleteRegionRequest{Name: "regions/" + id})
		return err
	}
	wantError(t, remove("world"), codes.FailedPrecondition, errorv1.Reason_REASON_REGION_PERMANENT)
	for id, want := range map[string][2]string{"europe": {"0", "2"}, "france": {"1", "0"}} {
		err := remove(id)
		wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_REGION_NOT_EMPTY)
		if got := rpc.InfoOf(err).GetMetadata(); got["chapters"] != want[0] || got["regions"] != want[1] {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
	open := w.clock.Now()
	w.clock.Advance(time.Minute)
	w.must(remove("spain"))
	w.clock.Advance(time.Minute)

	wantError(t, remove("spain"), codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	_, err := w.staff.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/spain"})
	wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	if rpc.InfoOf(err).GetMetadata()["closeTime"] == "" {
		t.Errorf("%v does not say that it was closed", err)
	}
	_, err = w.staff.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/spain", AsOfTime: timestamppb.New(open)})
	w.must(err)
	_, err = w.staff.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/spain", AsOfTime: timestamppb.New(w.clock.Now())})
	wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	wantError(t, w.covering("spain", "europe"), codes.AlreadyExists, errorv1.Reason_REASON_ALREADY_EXISTS)
	wantError(t, w.covering("madrid", "spain"), codes.InvalidArgument, errorv1.Reason_REASON_REGION_PARENT_INVALID)
	w.must(w.covering("iberia", "europe", "ES", "PT"))
	w.wantTree("(world 0 (asia 0) (europe 0 (france 1) (iberia 0)))")
}

func TestTheFutureCannotBeAskedAbout(t *testing.T) {
	w := setup(t)
	at := timestamppb.New(w.clock.Now().Add(time.Second))
	_, err := w.nobody.GetRegionTree(t.Context(), &regionalv1.GetRegionTreeRequest{Name: "regions/world", AsOfTime: at})
	wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_AS_OF_TIME_INVALID)
	_, err = w.nobody.ListRegionChapters(t.Context(), &regionalv1.ListRegionChaptersRequest{Parent: "regions/world", AsOfTime: at})
	wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_AS_OF_TIME_INVALID)
	_, err = w.nobody.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/world", AsOfTime: at})
	wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_AS_OF_TIME_INVALID)
}

func (w *world) split(request *regionalv1.SplitRegionRequest) (*regionalv1.SplitRegionResponse, error) {
	w.t.Helper()
	return w.staff.SplitRegion(w.t.Context(), request)
}

func TestSplitRegion(t *testing.T) {
	// benelux holds a chapter in each of BE, NL and no country, and a region.
	benelux := func(w *world) {
		w.must(w.covering("benelux", "world", "BE", "NL", "LU"))
		w.region("flanders", "regions/benelux")
		local := w.tier(bus.Local)
		local.chapterIn("golang-ghent", "regions/benelux", "BE")
		local.chapterIn("golang-delft", "regions/benelux", "NL")
		local.chapterIn("golang-online", "regions/benelux", "")
		w.awaitTree("regions/benelux", "(benelux 3/3 e0 c0 (flanders 0/0 e0 c0))")
	}

	t.Run("ByCountriesIntoChildren", func(t *testing.T) {
		w := setup(t)
		benelux(w)
		answer, err := w.split(&regionalv1.SplitRegionRequest{Name: "regions/benelux", Parts: []*regionalv1.SplitRegionRequest_Part{
			{RegionId: "belgium", DisplayName: "Belgium", CountryCodes: []string{"BE"}, Regions: []string{"regions/flanders"}},
			{RegionId: "netherlands", DisplayName: "Netherlands", CountryCodes: []string{"NL"}},
		}})
		w.must(err)
		if answer.GetMovedChapters() != 2 || len(answer.GetRegions()) != 2 || answer.GetRegions()[1].GetName() != "regions/netherlands" {
			t.Errorf("answered %v", answer)
		}
		w.wantTree("(world 0 (benelux 1 (belgium 1 (flanders 0)) (netherlands 1)))")
		if got := w.read("benelux").GetCountryCodes(); len(got) != 3 {
			t.Errorf("benelux covers %v, want what its children cover too", got)
		}
	})

	t.Run("IntoSiblingsAndClosed", func(t *testing.T) {
		w := setup(t)
		benelux(w)
		request := &regionalv1.SplitRegionRequest{
			Name: "regions/benelux", Placement: regionalv1.SplitRegionRequest_SIBLINGS, Close: true, Parts: []*regionalv1.SplitRegionRequest_Part{
				{RegionId: "belgium", DisplayName: "Belgium", CountryCodes: []string{"BE", "LU"}, Regions: []string{"regions/flanders"}},
				{RegionId: "netherlands", DisplayName: "Netherlands", CountryCodes: []string{"NL"}},
			},
		}
		_, err := w.split(request)
		wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_REGION_NOT_EMPTY)
		request.Parts[1].Chapters = []string{"chapters/golang-online"}
		_, err = w.split(request)
		w.must(err)
		w.wantTree("(world 0 (belgium 1 (flanders 0)) (netherlands 2))")
	})

	t.Run("IntoSiblingsThatTakeTheCountries", func(t *testing.T) {
		w := setup(t)
		benelux(w)
		_, err := w.split(&regionalv1.SplitRegionRequest{
			Name: "regions/benelux", Placement: regionalv1.SplitRegionRequest_SIBLINGS, Parts: []*regionalv1.SplitRegionRequest_Part{
				{RegionId: "netherlands", DisplayName: "Netherlands", CountryCodes: []string{"NL"}},
			},
		})
		w.must(err)
		w.wantTree("(world 0 (benelux 2 (flanders 0)) (netherlands 1))")
		if got := strings.Join(w.read("benelux").GetCountryCodes(), " "); got != "BE LU" {
			t.Errorf("benelux covers %s, want BE LU", got)
		}
	})

	t.Run("RefusesWhatDoesNotAddUp", func(t *testing.T) {
		w := setup(t)
		benelux(w)
		w.region("asia", "regions/world")
		part := func(id string, change func(*regionalv1.SplitRegionRequest_Part)) *regionalv1.SplitRegionRequest_Part {
			p := &regionalv1.SplitRegionRequest_Part{RegionId: id, DisplayName: id}
			change(p)
			return p
		}
		for name, parts := range map[string][]*regionalv1.SplitRegionRequest_Part{
			"AChapterTwice": {
				part("a", func(p *regionalv1.SplitRegionRequest_Part) { p.Chapters = []string{"chapters/golang-ghent"} }),
				part("b", func(p *regionalv1.SplitRegionRequest_Part) { p.Chapters = []string{"chapters/golang-ghent"} }),
			},
			"ACountryTwice": {
				part("a", func(p *regionalv1.SplitRegionRequest_Part) { p.CountryCodes = []string{"BE"} }),
				part("b", func(p *regionalv1.SplitRegionRequest_Part) { p.CountryCodes = []string{"BE"} }),
			},
			"AChapterFromElsewhere": {part("a", func(p *regionalv1.SplitRegionRequest_Part) { p.Chapters = []string{"chapters/golang-tokyo"} })},
			"ARegionFromElsewhere":  {part("a", func(p *regionalv1.SplitRegionRequest_Part) { p.Regions = []string{"regions/asia"} })},
		} {
			_, err := w.split(&regionalv1.SplitRegionRequest{Name: "regions/benelux", Parts: parts})
			if !rpc.Is(err, errorv1.Reason_REASON_SPLIT_INVALID) {
				t.Errorf("%s: %v", name, err)
			}
		}
		_, err := w.split(&regionalv1.SplitRegionRequest{
			Name: "regions/world", Placement: regionalv1.SplitRegionRequest_SIBLINGS,
			Parts: []*regionalv1.SplitRegionRequest_Part{part("a", func(*regionalv1.SplitRegionRequest_Part) {})},
		})
		wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_REGION_PERMANENT)
		w.wantTree("(world 0 (asia 0) (benelux 3 (flanders 0)))")
	})
}

func TestMergeRegion(t *testing.T) {
	merge := func(w *world, id, into string) error {
		_, err := w.staff.MergeRegion(w.t.Context(), &regionalv1.MergeRegionRequest{Name: "regions/" + id, IntoRegion: "regions/" + into})
		return err
	}

	t.Run("PassesOnAllThatThereIs", func(t *testing.T) {
		w := setup(t)
		w.continents()
		w.region("occitania", "regions/france")
		w.tier(bus.Local).chapter("golang-paris", "regions/france", 1)
		w.awaitTree("regions/france", "(france 1/1 e0 c0 (occitania 0/0 e0 c0))")
		ada := w.appoint("france", "ada", regionalv1.Coordinator_COORDINATOR)
		before := w.clock.Now()
		w.clock.Advance(time.Minute)
		w.must(merge(w, "france", "spain"))
		w.wantTree("(world 0 (asia 0) (europe 0 (spain 1 (occitania 0))))")
		if got := strings.Join(w.read("spain").GetCountryCodes(), " "); got != "ES FR" {
			t.Errorf("spain covers %s, want ES FR", got)
		}
		people, err := w.coordinators(staffMember).ListCoordinators(t.Context(), &regionalv1.ListCoordinatorsRequest{Parent: "regions/spain"})
		w.must(err)
		if len(people.GetCoordinators()) != 1 || people.GetCoordinators()[0].GetSubject() != ada.GetSubject() {
			t.Errorf("spain's people are %v, want ada", people)
		}
		_, err = w.staff.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/france"})
		if rpc.InfoOf(err).GetMetadata()["mergedInto"] != "regions/spain" {
			t.Errorf("%v does not say where france went", err)
		}
		history, err := w.nobody.ListRegionHistory(t.Context(), &regionalv1.ListRegionHistoryRequest{Parent: "regions/france"})
		w.must(err)
		if last := history.GetPeriods()[0]; !last.GetClosed() || last.GetMergedInto() != "regions/spain" || last.GetParentRegion() != "regions/europe" {
			t.Errorf("france ended as %v", last)
		}
		then, err := w.nobody.GetRegionTree(t.Context(), &regionalv1.GetRegionTreeRequest{Name: "regions/europe", AsOfTime: timestamppb.New(before)})
		w.must(err)
		if got := shape(then); got != "(europe 0 (france 1 (occitania 0)) (spain 0))" {
			t.Errorf("before the merger there was %s", got)
		}
	})

	t.Run("IntoItsParent", func(t *testing.T) {
		w := setup(t)
		w.continents()
		w.must(merge(w, "europe", "world"))
		w.wantTree("(world 0 (asia 0) (france 0) (spain 0))")
	})

	t.Run("NotIntoWhatLiesBelow", func(t *testing.T) {
		w := setup(t)
		w.continents()
		for _, into := range []string{"europe", "france", "atlantis"} {
			wantError(t, merge(w, "europe", into), codes.InvalidArgument, errorv1.Reason_REASON_REGION_PARENT_INVALID)
		}
		wantError(t, merge(w, "world", "europe"), codes.FailedPrecondition, errorv1.Reason_REASON_REGION_PERMANENT)
	})

	t.Run("NotWhereACountryWouldBeCoveredTwice", func(t *testing.T) {
		w := setup(t)
		w.continents()
		w.must(w.covering("gaul", "asia", "FR"))
		wantError(t, merge(w, "asia", "europe"), codes.FailedPrecondition, errorv1.Reason_REASON_REGION_COUNTRY_TAKEN)
	})
}
