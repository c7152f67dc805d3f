package local

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func lyon(region string) *localv1.CreateChapterRequest {
	return &localv1.CreateChapterRequest{ChapterId: "golang-lyon", Chapter: &localv1.Chapter{
		DisplayName: "Golang Lyon", Region: region, City: "Lyon", CountryCode: "FR", Latitude: 45.76, Longitude: 4.84, Url: "https://lyon.example.org",
	}}
}

func TestCreateChapter(t *testing.T) {
	t.Parallel()
	w := setup(t)
	made, err := w.chapters.CreateChapter(t.Context(), lyon("regions/world"))
	w.must(err)
	if made.GetName() != "chapters/golang-lyon" || made.GetCity() != "Lyon" || !made.GetCreateTime().AsTime().Equal(noon) || made.GetEtag() == "" {
		t.Fatalf("the chapter is %v", made)
	}
	_, err = w.chapters.CreateChapter(t.Context(), lyon("regions/world"))
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)

	admin := localv1.NewListServiceClient(w.as(authz.ChapterAdmin, "chapters/golang-lyon"))
	members, err := admin.GetList(t.Context(), &localv1.GetListRequest{Name: "chapters/golang-lyon/lists/members"})
	w.must(err)
	if members.GetKind() != localv1.List_MEMBERSHIP {
		t.Errorf("the members list is %v", members)
	}
	var told []string
	for _, event := range w.outbox() {
		if strings.Contains(event.Subject, "lyon") {
			told = append(told, fmt.Sprintf("%s %d", event.Subject, event.Version.Number))
		}
	}
	if want := "chapter.golang-lyon.changed 1, list.golang-lyon.members.changed 1"; strings.Join(told, ", ") != want {
		t.Errorf("told %v", told)
	}
}

func TestRehearsedChapterIsNotMade(t *testing.T) {
	t.Parallel()
	w := setup(t)
	req := lyon("regions/world")
	req.ValidateOnly = true
	rehearsed, err := w.chapters.CreateChapter(t.Context(), req)
	w.must(err)
	if rehearsed.GetName() != "chapters/golang-lyon" {
		t.Errorf("the chapter would be %v", rehearsed)
	}
	_, err = w.chapters.GetChapter(t.Context(), &localv1.GetChapterRequest{Name: "chapters/golang-lyon"})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
	req.ChapterId = "golang-paris"
	_, err = w.chapters.CreateChapter(t.Context(), req)
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
}

func TestRegionThatIsNotKnownYet(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.regional.set(func() { w.regional.down = true })
	_, err := w.chapters.CreateChapter(t.Context(), lyon("regions/france"))
	refuses(t, err, errorv1.Reason_REASON_TIER_UNAVAILABLE)
	hasCode(t, err, codes.Unavailable)

	w.regional.set(func() { w.regional.down = false })
	_, err = w.chapters.CreateChapter(t.Context(), lyon("regions/france"))
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)

	w.regional.set(func() {
		w.regional.regions = map[string]string{"regions/france": "regions/europe", "regions/europe": "regions/world"}
	})
	// A coordinator of the region above may found it, too.
	coordinator := localv1.NewChapterServiceClient(w.as(authz.Coordinator, "regions/europe"))
	_, err = coordinator.CreateChapter(t.Context(), lyon("regions/france"))
	w.must(err)
	w.regional.set(func() { w.regional.down = true })
	above, err := w.service.Ancestors(t.Context(), "chapters/golang-lyon")
	w.must(err)
	for _, scope := range []string{"regions/france", "regions/europe", "regions/world", "sites/main"} {
		if !slices.Contains(above, scope) {
			t.Errorf("%s is not above the chapter: %v", scope, above)
		}
	}
	for _, scope := range []string{"chapters/nowhere", "members/x"} {
		if above, err := w.service.Ancestors(t.Context(), scope); err == nil {
			t.Errorf("%s lies in %v", scope, above)
		}
	}
}

func TestRegionsComeAsEvents(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.regional.set(func() { w.regional.down = true })
	tell := w.tell(bus.Regional)
	region := func(id, parent string, number int64) {
		tell(bus.Event{
			Subject: "region." + id + ".changed", Aggregate: "regions/" + id, Version: bus.Version{Epoch: 1, Number: number},
			Data: &eventv1.RegionChanged{Region: "regions/" + id, ParentRegion: parent},
		})
	}
	region("world", "", 1)
	region("france", "regions/europe", 1)
	region("europe", "regions/world", 1)
	region("asia", "regions/world", 1)
	lies := func(want string) {
		t.Helper()
		testkit.Eventually(t, patience, func() (bool, string) {
			above, err := w.service.Ancestors(t.Context(), "regions/france")
			slices.Sort(above)
			got := strings.Join(slices.Compact(above), " ")
			return got == want, fmt.Sprint(got, err)
		})
	}
	lies("regions/europe regions/france regions/world")
	region("france", "regions/asia", 2)
	lies("regions/asia regions/france regions/world")
}

func TestListChapters(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, id := range []string{"go-a", "go-b", "go-c"} {
		w.chapter(id)
	}
	req, got := &localv1.ListChaptersRequest{PageSize: 3}, []string{}
	for {
		answer, err := w.chapters.ListChapters(t.Context(), req)
		w.must(err)
		for _, chapter := range answer.GetChapters() {
			got = append(got, chapter.GetName())
		}
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
	}
	if want := "chapters/go-a chapters/go-b chapters/go-c chapters/golang-paris"; strings.Join(got, " ") != want {
		t.Errorf("the chapters are %v", got)
	}
	none, err := w.chapters.ListChapters(t.Context(), &localv1.ListChaptersRequest{Region: "regions/europe"})
	w.must(err)
	if len(none.GetChapters()) != 0 {
		t.Errorf("europe has %v", none)
	}
}

func TestUpdateChapter(t *testing.T) {
	t.Parallel()
	w := setup(t)
	before, err := w.chapters.GetChapter(t.Context(), &localv1.GetChapterRequest{Name: paris})
	w.must(err)
	after, err := w.chapters.UpdateChapter(t.Context(), &localv1.UpdateChapterRequest{
		Chapter: &localv1.Chapter{Name: paris, City: "Paris", Latitude: 48.85, Etag: before.GetEtag()},
	})
	w.must(err)
	if after.GetCity() != "Paris" || after.GetDisplayName() != before.GetDisplayName() || after.GetEtag() == before.GetEtag() {
		t.Errorf("the chapter is %v", after)
	}
	_, err = w.chapters.UpdateChapter(t.Context(), &localv1.UpdateChapterRequest{
		Chapter: &localv1.Chapter{Name: paris, City: "Lutetia", Etag: before.GetEtag()},
	})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	for name, req := range map[string]*localv1.UpdateChapterRequest{
		"its region":     {Chapter: &localv1.Chapter{Name: paris, Region: "regions/europe"}, UpdateMask: mask("region")},
		"no name":        {Chapter: &localv1.Chapter{Name: paris}, UpdateMask: mask("display_name")},
		"a bad latitude": {Chapter: &localv1.Chapter{Name: paris, Latitude: 91}},
		"a zero byte":    {Chapter: &localv1.Chapter{Name: paris, Url: "https://\x00"}},
	} {
		_, err = w.chapters.UpdateChapter(t.Context(), req)
		if got := fmt.Sprint(err); !strings.Contains(got, "InvalidArgument") {
			t.Errorf("%s: %v", name, err)
		}
	}
	same, err := w.chapters.UpdateChapter(t.Context(), &localv1.UpdateChapterRequest{Chapter: &localv1.Chapter{Name: paris, City: "Paris"}})
	w.must(err)
	if same.GetEtag() != after.GetEtag() {
		t.Errorf("the same again gave %s after %s", same.GetEtag(), after.GetEtag())
	}
}
