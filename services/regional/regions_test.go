package regional_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

func TestNewPlatformHoldsTheWorldAlone(t *testing.T) {
	w := setup(t)
	list, err := w.nobody.ListRegions(t.Context(), &regionalv1.ListRegionsRequest{})
	w.must(err)
	if len(list.GetRegions()) != 1 {
		t.Fatalf("%d regions, want 1", len(list.GetRegions()))
	}
	world := list.GetRegions()[0]
	if world.GetName() != "regions/world" || world.GetDisplayName() != "World" || world.GetParentRegion() != "" {
		t.Errorf("the root is %v", world)
	}
}

func TestCreateRegion(t *testing.T) {
	t.Run("ReturnsWhatGetReturns", func(t *testing.T) {
		w := setup(t)
		made, err := w.staff.CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
			RegionId: "europe",
			Region: &regionalv1.Region{
				DisplayName: "Europe", ParentRegion: "regions/world", CountryCodes: []string{"FR", "DE"},
			},
		})
		w.must(err)
		got, err := w.nobody.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/europe"})
		w.must(err)
		if got.String() != made.String() {
			t.Errorf("got %v, made %v", got, made)
		}
		if want := w.clock.Now(); !got.GetCreateTime().AsTime().Equal(want) || got.GetEtag() == "" {
			t.Errorf("create time %v, etag %q; want %v and some", got.GetCreateTime().AsTime(), got.GetEtag(), want)
		}
	})

	t.Run("RefusesAnUnknownParent", func(t *testing.T) {
		w := setup(t)
		_, err := w.staff.CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
			RegionId: "paris", Region: &regionalv1.Region{DisplayName: "Paris", ParentRegion: "regions/atlantis"},
		})
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_REGION_PARENT_INVALID)
		if rpc.ViolationsOf(err)["region.parentRegion"] == "" {
			t.Errorf("violations %v do not name region.parentRegion", rpc.ViolationsOf(err))
		}
	})

	t.Run("RefusesASecondRoot", func(t *testing.T) {
		w := setup(t)
		_, err := w.staff.CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
			RegionId: "mars", Region: &regionalv1.Region{DisplayName: "Mars"},
		})
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_REGION_PARENT_INVALID)
	})

	t.Run("RefusesATakenID", func(t *testing.T) {
		w := setup(t)
		w.region("asia", "regions/world")
		for _, rehearse := range []bool{false, true} {
			_, err := w.staff.CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
				RegionId: "asia", Region: &regionalv1.Region{DisplayName: "Asia", ParentRegion: "regions/world"}, ValidateOnly: rehearse,
			})
			wantError(t, err, codes.AlreadyExists, errorv1.Reason_REASON_ALREADY_EXISTS)
		}
	})

	t.Run("RefusesWhatLiesTooDeep", func(t *testing.T) {
		w := setup(t)
		parent := "regions/world"
		for depth := 2; depth <= 32; depth++ {
			parent = w.region(fmt.Sprintf("level-%d", depth), parent).GetName()
		}
		_, err := w.staff.CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
			RegionId: "level-33", Region: &regionalv1.Region{DisplayName: "too deep", ParentRegion: parent},
		})
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_REGION_PARENT_INVALID)
	})

	t.Run("RehearsesWithoutATrace", func(t *testing.T) {
		w := setup(t)
		rehearsed, err := w.staff.CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
			RegionId: "africa", Region: &regionalv1.Region{DisplayName: "Africa", ParentRegion: "regions/world"}, ValidateOnly: true,
		})
		w.must(err)
		if rehearsed.GetName() != "regions/africa" {
			t.Errorf("rehearsed %v", rehearsed)
		}
		_, err = w.staff.GetRegion(t.Context(), &regionalv1.GetRegionRequest{Name: "regions/africa"})
		wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	})

	t.Run("HappensOnceForOneRequestID", func(t *testing.T) {
		w := setup(t)
		req := &regionalv1.CreateRegionRequest{
			RegionId: "oceania", Region: &regionalv1.Region{DisplayName: "Oceania", ParentRegion: "regions/world"}, RequestId: "one",
		}
		first, err := w.staff.CreateRegion(t.Context(), req)
		w.must(err)
		second, err := w.staff.CreateRegion(t.Context(), req)
		w.must(err)
		if first.String() != second.String() {
			t.Errorf("first %v, second %v", first, second)
		}
	})

	t.Run("NeedsThePermission", func(t *testing.T) {
		w := setup(t)
		_, err := w.as(authz.Coordinator, "regions/world").CreateRegion(t.Context(), &regionalv1.CreateRegionRequest{
			RegionId: "asia", Region: &regionalv1.Region{DisplayName: "Asia", ParentRegion: "regions/world"},
		})
		wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	})
}

func TestListRegions(t *testing.T) {
	t.Run("PagesByID", func(t *testing.T) {
		w := setup(t)
		for _, id := range []string{"europe", "asia", "africa"} {
			w.region(id, "regions/world")
		}
		w.region("france", "regions/europe")
		if got, want := w.pages(&regionalv1.ListRegionsRequest{PageSize: 2}), "africa asia|europe france|world"; got != want {
			t.Errorf("pages %s, want %s", got, want)
		}
		if got, want := w.pages(&regionalv1.ListRegionsRequest{PageSize: 2, ParentRegion: "regions/world"}), "africa asia|europe"; got != want {
			t.Errorf("pages below the world %s, want %s", got, want)
		}
	})

	t.Run("RefusesAnotherQuerysToken", func(t *testing.T) {
		w := setup(t)
		w.region("europe", "regions/world")
		first, err := w.staff.ListRegions(t.Context(), &regionalv1.ListRegionsRequest{PageSize: 1})
		w.must(err)
		_, err = w.staff.ListRegions(t.Context(), &regionalv1.ListRegionsRequest{
			PageToken: first.GetNextPageToken(), ParentRegion: "regions/world",
		})
		wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_PAGE_TOKEN_INVALID)
	})
}

// pages lists all regions: ids of one page with spaces between, pages with bars.
func (w *world) pages(req *regionalv1.ListRegionsRequest) string {
	w.t.Helper()
	var pages []string
	for {
		answer, err := w.nobody.ListRegions(w.t.Context(), req)
		w.must(err)
		var ids []string
		for _, region := range answer.GetRegions() {
			ids = append(ids, strings.TrimPrefix(region.GetName(), "regions/"))
		}
		pages = append(pages, strings.Join(ids, " "))
		if answer.GetNextPageToken() == "" {
			return strings.Join(pages, "|")
		}
		req.PageToken = answer.GetNextPageToken()
	}
}

func TestUpdateRegion(t *testing.T) {
	update := func(region *regionalv1.Region, paths ...string) *regionalv1.UpdateRegionRequest {
		req := &regionalv1.UpdateRegionRequest{Region: region}
		if len(paths) > 0 {
			req.UpdateMask = &fieldmaskpb.FieldMask{Paths: paths}
		}
		return req
	}

	t.Run("ChangesWhatTheMaskNames", func(t *testing.T) {
		w := setup(t)
		before := w.region("europe", "regions/world")
		after, err := w.staff.UpdateRegion(t.Context(), update(&regionalv1.Region{
			Name: "regions/europe", DisplayName: "ignored", CountryCodes: []string{"FR"},
		}, "country_codes"))
		w.must(err)
		if after.GetDisplayName() != "europe" || len(after.GetCountryCodes()) != 1 || after.GetEtag() == before.GetEtag() {
			t.Errorf("after %v", after)
		}
		cleared, err := w.staff.UpdateRegion(t.Context(), update(&regionalv1.Region{Name: "regions/europe"}, "country_codes"))
		w.must(err)
		if len(cleared.GetCountryCodes()) != 0 {
			t.Errorf("country codes %v, want none", cleared.GetCountryCodes())
		}
	})

	t.Run("KeepsTheEtagWhenNothingChanges", func(t *testing.T) {
		w := setup(t)
		before := w.region("europe", "regions/world")
		after, err := w.staff.UpdateRegion(t.Context(), update(before))
		w.must(err)
		if after.GetEtag() != before.GetEtag() {
			t.Errorf("etag %s, was %s", after.GetEtag(), before.GetEtag())
		}
	})

	t.Run("RefusesAStaleEtag", func(t *testing.T) {
		w := setup(t)
		stale := w.region("europe", "regions/world").GetEtag()
		_, err := w.staff.UpdateRegion(t.Context(), update(&regionalv1.Region{Name: "regions/europe", DisplayName: "Europe", Etag: stale}))
		w.must(err)
		_, err = w.staff.UpdateRegion(t.Context(), update(&regionalv1.Region{Name: "regions/europe", DisplayName: "Europa", Etag: stale}))
		wantError(t, err, codes.Aborted, errorv1.Reason_REASON_ETAG_MISMATCH)
	})

	t.Run("ChecksTheResult", func(t *testing.T) {
		w := setup(t)
		w.region("europe", "regions/world")
		for _, req := range []*regionalv1.UpdateRegionRequest{
			update(&regionalv1.Region{Name: "regions/europe"}, "display_name"),
			update(&regionalv1.Region{Name: "regions/europe", CountryCodes: []string{"France"}}),
			update(&regionalv1.Region{Name: "regions/europe", ParentRegion: "regions/asia"}, "parent_region"),
		} {
			_, err := w.staff.UpdateRegion(t.Context(), req)
			wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_INVALID_FIELD)
		}
	})

	t.Run("IsForCoordinatorsOfTheRegionAndThoseAbove", func(t *testing.T) {
		w := setup(t)
		w.region("europe", "regions/world")
		w.region("france", "regions/europe")
		w.region("asia", "regions/world")
		req := update(&regionalv1.Region{Name: "regions/france", DisplayName: "France"})
		for _, scope := range []string{"regions/world", "regions/europe", "regions/france"} {
			_, err := w.as(authz.Coordinator, scope).UpdateRegion(t.Context(), req)
			w.must(err)
		}
		_, err := w.as(authz.Coordinator, "regions/asia").UpdateRegion(t.Context(), req)
		wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	})

	t.Run("KnowsNoStranger", func(t *testing.T) {
		w := setup(t)
		_, err := w.staff.UpdateRegion(t.Context(), update(&regionalv1.Region{Name: "regions/atlantis", DisplayName: "Atlantis"}))
		wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	})
}

func wantError(t *testing.T, err error, code codes.Code, reason errorv1.Reason) {
	t.Helper()
	if status.Code(err) != code || rpc.ReasonOf(err) != reason {
		t.Fatalf("got %v, want %v %v", err, code, reason)
	}
}
