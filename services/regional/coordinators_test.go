package regional_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
)

func (w *world) coordinators(p authz.Principal) regionalv1.CoordinatorServiceClient {
	w.t.Helper()
	return regionalv1.NewCoordinatorServiceClient(w.dial(p))
}

func (w *world) appoint(region, who string, role regionalv1.Coordinator_Role, change ...func(*regionalv1.Coordinator)) *regionalv1.Coordinator {
	w.t.Helper()
	c := &regionalv1.Coordinator{Subject: who, DisplayName: strings.ToUpper(who), Role: role}
	for _, one := range change {
		one(c)
	}
	made, err := w.coordinators(staffMember).CreateCoordinator(w.t.Context(), &regionalv1.CreateCoordinatorRequest{
		Parent: "regions/" + region, Coordinator: c,
	})
	w.must(err)
	return made
}

// leaves sends somebody away for some days from now.
func (w *world) leaves(days int, substitute *regionalv1.Coordinator) func(*regionalv1.Coordinator) {
	return func(c *regionalv1.Coordinator) {
		c.AwayStartTime = timestamppb.New(w.clock.Now())
		c.AwayEndTime = timestamppb.New(w.clock.Now().AddDate(0, 0, days))
		c.Substitute = substitute.GetName()
	}
}

// acting says who acts for a region, as "region basis subject...".
func (w *world) acting(region string) string {
	w.t.Helper()
	a, err := w.coordinators(staffMember).GetActing(w.t.Context(), &regionalv1.GetActingRequest{Region: "regions/" + region})
	w.must(err)
	text := strings.TrimPrefix(a.GetActingRegion(), "regions/") + " " + a.GetBasis().String()
	for _, c := range a.GetCoordinators() {
		text += " " + c.GetSubject()
	}
	return text
}

func TestWhoActs(t *testing.T) {
	const (
		coordinator = regionalv1.Coordinator_COORDINATOR
		deputy      = regionalv1.Coordinator_DEPUTY
	)
	w := setup(t)
	w.continents()
	wants := func(what, region, want string) {
		t.Helper()
		if got := w.acting(region); got != want {
			t.Errorf("%s: %q acts for %s, want %q", what, got, region, want)
		}
	}
	wants("nobody is appointed", "france", " BASIS_UNSPECIFIED")
	w.appoint("world", "root", coordinator)
	wants("nobody is nearer", "france", "world COORDINATORS root")
	eve := w.appoint("europe", "eve", deputy)
	wants("a deputy without a coordinator", "france", "europe DEPUTIES eve")
	w.appoint("europe", "old", coordinator, func(c *regionalv1.Coordinator) {
		c.TermStartTime = timestamppb.New(w.clock.Now().AddDate(-1, 0, 0))
		c.TermEndTime = timestamppb.New(w.clock.Now())
	})
	w.appoint("europe", "next", coordinator, func(c *regionalv1.Coordinator) {
		c.TermStartTime = timestamppb.New(w.clock.Now().AddDate(1, 0, 0))
	})
	wants("the terms are over or to come", "europe", "europe DEPUTIES eve")
	sam := w.appoint("spain", "sam", coordinator)
	w.appoint("europe", "ada", coordinator, w.leaves(7, sam))
	wants("away with a substitute from another region", "europe", "europe SUBSTITUTES sam")
	w.appoint("europe", "bob", coordinator, w.leaves(3, sam))
	wants("one who stands for two", "europe", "europe SUBSTITUTES sam")
	w.clock.Advance(3 * 24 * time.Hour)
	wants("one of two is back", "france", "europe COORDINATORS bob")

	update := func(c *regionalv1.Coordinator, change func(*regionalv1.Coordinator), paths ...string) {
		t.Helper()
		changed := &regionalv1.Coordinator{Name: c.GetName()}
		change(changed)
		_, err := w.coordinators(coordinatorOf("world")).UpdateCoordinator(t.Context(), &regionalv1.UpdateCoordinatorRequest{
			Coordinator: changed, UpdateMask: &fieldmaskpb.FieldMask{Paths: paths},
		})
		w.must(err)
	}
	update(sam, w.leaves(30, nil), "away_start_time", "away_end_time")
	dan := w.appoint("france", "dan", coordinator, w.leaves(1, sam))
	wants("the substitute is away too, and there is no deputy", "france", "europe COORDINATORS bob")
	update(dan, func(c *regionalv1.Coordinator) { c.Substitute = eve.GetName() }, "substitute")
	wants("another substitute", "france", "france SUBSTITUTES eve")
	_, err := w.coordinators(staffMember).DeleteCoordinator(t.Context(), &regionalv1.DeleteCoordinatorRequest{Name: eve.GetName()})
	w.must(err)
	wants("the substitute is removed", "france", "europe COORDINATORS bob")
	w.clock.Advance(24 * time.Hour)
	wants("back", "france", "france COORDINATORS dan")
	wants("elsewhere", "asia", "world COORDINATORS root")
}

func TestCoordinatorsAreKept(t *testing.T) {
	w := setup(t)
	w.continents()
	ada := w.appoint("france", "ada", regionalv1.Coordinator_COORDINATOR)
	own := w.coordinators(coordinatorOf("france"))
	got, err := own.GetCoordinator(t.Context(), &regionalv1.GetCoordinatorRequest{Name: ada.GetName()})
	w.must(err)
	if got.String() != ada.String() || !got.GetTermStartTime().AsTime().Equal(w.clock.Now()) {
		t.Errorf("got %v, made %v", got, ada)
	}
	_, err = own.GetCoordinator(t.Context(), &regionalv1.GetCoordinatorRequest{
		Name: strings.Replace(ada.GetName(), "france", "spain", 1),
	})
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = w.coordinators(staffMember).GetCoordinator(t.Context(), &regionalv1.GetCoordinatorRequest{
		Name: strings.Replace(ada.GetName(), "france", "spain", 1),
	})
	wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	same, err := own.UpdateCoordinator(t.Context(), &regionalv1.UpdateCoordinatorRequest{
		Coordinator: &regionalv1.Coordinator{Name: ada.GetName(), Subject: "ada"},
	})
	w.must(err)
	if same.GetEtag() != ada.GetEtag() {
		t.Errorf("nothing changed, and the etag went from %s to %s", ada.GetEtag(), same.GetEtag())
	}
	renamed, err := own.UpdateCoordinator(t.Context(), &regionalv1.UpdateCoordinatorRequest{
		Coordinator: &regionalv1.Coordinator{Name: ada.GetName(), DisplayName: "Ada Rao", Etag: ada.GetEtag()},
	})
	w.must(err)
	if renamed.GetDisplayName() != "Ada Rao" || renamed.GetEtag() == ada.GetEtag() {
		t.Errorf("renamed %v", renamed)
	}
	_, err = own.DeleteCoordinator(t.Context(), &regionalv1.DeleteCoordinatorRequest{Name: ada.GetName(), Etag: ada.GetEtag()})
	wantError(t, err, codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
	w.appoint("france", "bob", regionalv1.Coordinator_DEPUTY)
	page, err := own.ListCoordinators(t.Context(), &regionalv1.ListCoordinatorsRequest{Parent: "regions/france", PageSize: 1})
	w.must(err)
	rest, err := own.ListCoordinators(t.Context(), &regionalv1.ListCoordinatorsRequest{Parent: "regions/france", PageSize: 1, PageToken: page.GetNextPageToken()})
	w.must(err)
	if page.GetCoordinators()[0].GetSubject() != "ada" || rest.GetCoordinators()[0].GetSubject() != "bob" || rest.GetNextPageToken() != "" {
		t.Errorf("listed %v and %v", page, rest)
	}
	_, err = w.coordinators(authz.Principal{Subject: "nobody"}).ListCoordinators(t.Context(), &regionalv1.ListCoordinatorsRequest{Parent: "regions/france"})
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
}

func TestCoordinatorsAreChecked(t *testing.T) {
	w := setup(t)
	w.continents()
	ada := w.appoint("france", "ada", regionalv1.Coordinator_COORDINATOR)
	now, later := timestamppb.New(w.clock.Now()), timestamppb.New(w.clock.Now().Add(time.Hour))
	for name, c := range map[string]struct {
		change func(*regionalv1.Coordinator)
		want   errorv1.Reason
	}{
		"ATermThatEndsAtItsBeginning": {func(c *regionalv1.Coordinator) { c.TermStartTime, c.TermEndTime = now, now }, errorv1.Reason_REASON_PERIOD_INVALID},
		"AReturnWithoutALeave":        {func(c *regionalv1.Coordinator) { c.AwayEndTime = later }, errorv1.Reason_REASON_PERIOD_INVALID},
		"AReturnBeforeTheLeave":       {func(c *regionalv1.Coordinator) { c.AwayStartTime, c.AwayEndTime = later, now }, errorv1.Reason_REASON_PERIOD_INVALID},
		"ThemselvesAsSubstitute":      {func(c *regionalv1.Coordinator) { c.Substitute = ada.GetName() }, errorv1.Reason_REASON_SUBSTITUTE_INVALID},
		"AnUnknownSubstitute": {func(c *regionalv1.Coordinator) {
			c.Substitute = strings.Replace(ada.GetName(), "france", "spain", 1)
		}, errorv1.Reason_REASON_SUBSTITUTE_INVALID},
		"NoRole": {func(c *regionalv1.Coordinator) { c.Role = 0 }, errorv1.Reason_REASON_INVALID_FIELD},
	} {
		changed := &regionalv1.Coordinator{Name: ada.GetName()}
		c.change(changed)
		mask := &fieldmaskpb.FieldMask{Paths: []string{"term_start_time", "term_end_time", "away_start_time", "away_end_time", "substitute", "role"}}
		if c.want == errorv1.Reason_REASON_INVALID_FIELD {
			mask.Paths = []string{"role"}
		} else {
			changed.Role = regionalv1.Coordinator_COORDINATOR
		}
		if changed.GetTermStartTime() == nil {
			changed.TermStartTime = now
		}
		_, err := w.coordinators(staffMember).UpdateCoordinator(t.Context(), &regionalv1.UpdateCoordinatorRequest{Coordinator: changed, UpdateMask: mask})
		t.Run(name, func(t *testing.T) { wantError(t, err, codes.InvalidArgument, c.want) })
	}
}
