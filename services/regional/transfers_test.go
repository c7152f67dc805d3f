package regional_test

import (
	"fmt"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func (o *tier) chapterIn(id, region, country string) {
	o.w.t.Helper()
	o.send("chapter."+id+".changed", "chapters/"+id, 1,
		&eventv1.ChapterChanged{Chapter: "chapters/" + id, DisplayName: id, Region: region, CountryCode: country})
}

// parisInFrance is a chapter that lies in france, beside spain and asia.
func parisInFrance(t *testing.T) (*world, *tier) {
	t.Helper()
	w := setup(t)
	w.continents()
	local := w.tier(bus.Local)
	local.chapter("golang-paris", "regions/france", 1)
	w.awaitTree("regions/france", "(france 1/1 e0 c0)")
	return w, local
}

func (w *world) propose(p authz.Principal, region string) (*regionalv1.Transfer, error) {
	w.t.Helper()
	return w.transfers(p).AdoptChapter(w.t.Context(), &regionalv1.AdoptChapterRequest{
		Region: "regions/" + region, Chapter: "chapters/golang-paris", Note: "they meet there",
	})
}

func TestAdoptTakesBothSides(t *testing.T) {
	for name, sides := range map[string][2]string{"TheReceiverProposes": {"spain", "france"}, "TheGiverProposes": {"france", "spain"}} {
		t.Run(name, func(t *testing.T) {
			w, _ := parisInFrance(t)
			proposed, err := w.propose(coordinatorOf(sides[0]), "spain")
			w.must(err)
			again, err := w.propose(coordinatorOf(sides[0]), "spain")
			w.must(err)
			if proposed.GetState() != regionalv1.Transfer_PROPOSED || again.String() != proposed.String() {
				t.Errorf("proposed %v, then %v", proposed, again)
			}
			w.wantTree("(world 0 (asia 0) (europe 0 (france 1) (spain 0)))")
			done, err := w.propose(coordinatorOf(sides[1]), "spain")
			w.must(err)
			if done.GetState() != regionalv1.Transfer_COMPLETED || done.GetName() != proposed.GetName() ||
				done.GetProposer() != "of-"+sides[0] || done.GetDecider() != "of-"+sides[1] {
				t.Errorf("completed %v", done)
			}
			w.wantTree("(world 0 (asia 0) (europe 0 (france 0) (spain 1)))")
		})
	}

	t.Run("WhoSpeaksForBothMovesAtOnce", func(t *testing.T) {
		w, _ := parisInFrance(t)
		moved, err := w.propose(coordinatorOf("europe"), "spain")
		w.must(err)
		if moved.GetState() != regionalv1.Transfer_COMPLETED || moved.GetProposedBy() != regionalv1.Transfer_BOTH {
			t.Errorf("moved %v", moved)
		}
		_, err = w.propose(coordinatorOf("europe"), "spain")
		wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_CHAPTER_PLACED_THERE)
	})

	t.Run("WhoSpeaksForNeitherIsRefused", func(t *testing.T) {
		w, _ := parisInFrance(t)
		for _, p := range []authz.Principal{
			coordinatorOf("asia"),
			{Subject: "admin", Grants: []authz.Grant{{Role: authz.ChapterAdmin, Scope: "chapters/golang-paris"}}},
			{Subject: "auditor", Grants: []authz.Grant{{Role: authz.Auditor, Scope: authz.Federation}}},
		} {
			_, err := w.propose(p, "spain")
			wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
		}
		_, err := w.transfers(staffMember).AdoptChapter(t.Context(), &regionalv1.AdoptChapterRequest{Region: "regions/spain", Chapter: "chapters/nowhere"})
		wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
		_, err = w.propose(staffMember, "atlantis")
		wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	})
}

func TestTransfersAreDecidedOnce(t *testing.T) {
	w, _ := parisInFrance(t)
	proposed, err := w.propose(coordinatorOf("spain"), "spain")
	w.must(err)
	_, err = w.propose(coordinatorOf("france"), "asia")
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_TRANSFER_PENDING)
	accept := func(p authz.Principal, name string) (*regionalv1.Transfer, error) {
		return w.transfers(p).AcceptTransfer(t.Context(), &regionalv1.AcceptTransferRequest{Name: name})
	}
	decline := func(p authz.Principal, name string) (*regionalv1.Transfer, error) {
		return w.transfers(p).DeclineTransfer(t.Context(), &regionalv1.DeclineTransferRequest{Name: name, Note: "no"})
	}
	_, err = accept(coordinatorOf("spain"), proposed.GetName())
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = accept(coordinatorOf("asia"), proposed.GetName())
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)

	declined, err := decline(coordinatorOf("france"), proposed.GetName())
	w.must(err)
	if declined.GetState() != regionalv1.Transfer_DECLINED || declined.GetDecisionNote() != "no" {
		t.Errorf("declined %v", declined)
	}
	_, err = accept(coordinatorOf("france"), proposed.GetName())
	wantError(t, err, codes.FailedPrecondition, errorv1.Reason_REASON_TRANSFER_STATE)

	second, err := w.propose(coordinatorOf("spain"), "spain")
	w.must(err)
	withdrawn, err := decline(coordinatorOf("spain"), second.GetName())
	w.must(err)
	if withdrawn.GetState() != regionalv1.Transfer_WITHDRAWN {
		t.Errorf("withdrawn %v", withdrawn)
	}
	third, err := w.propose(coordinatorOf("spain"), "spain")
	w.must(err)
	// The giver sees it under the own region.
	list, err := w.transfers(coordinatorOf("france")).ListTransfers(t.Context(), &regionalv1.ListTransfersRequest{
		Parent: "regions/france", State: regionalv1.Transfer_PROPOSED,
	})
	w.must(err)
	if len(list.GetTransfers()) != 1 || strings.TrimPrefix(list.GetTransfers()[0].GetName(), "regions/france") != strings.TrimPrefix(third.GetName(), "regions/spain") {
		t.Fatalf("france sees %v, want %v", list, third)
	}
	done, err := accept(coordinatorOf("france"), list.GetTransfers()[0].GetName())
	w.must(err)
	if done.GetState() != regionalv1.Transfer_COMPLETED {
		t.Errorf("accepted %v", done)
	}
	w.wantTree("(world 0 (asia 0) (europe 0 (france 0) (spain 1)))")
	all, err := w.transfers(coordinatorOf("spain")).ListTransfers(t.Context(), &regionalv1.ListTransfersRequest{Parent: "regions/spain", PageSize: 2})
	w.must(err)
	if len(all.GetTransfers()) != 2 || all.GetNextPageToken() == "" || all.GetTransfers()[0].GetName() != third.GetName() {
		t.Errorf("spain's first page is %v", all)
	}
	_, err = w.transfers(coordinatorOf("asia")).GetTransfer(t.Context(), &regionalv1.GetTransferRequest{Name: third.GetName()})
	wantError(t, err, codes.PermissionDenied, errorv1.Reason_REASON_PERMISSION_DENIED)
}

func TestWhatHappensOtherwiseSupersedesAProposal(t *testing.T) {
	state := func(w *world, proposed *regionalv1.Transfer) regionalv1.Transfer_State {
		got, err := w.transfers(staffMember).GetTransfer(w.t.Context(), &regionalv1.GetTransferRequest{Name: proposed.GetName()})
		w.must(err)
		return got.GetState()
	}
	t.Run("TheChapterMoved", func(t *testing.T) {
		w, _ := parisInFrance(t)
		proposed, err := w.propose(coordinatorOf("spain"), "spain")
		w.must(err)
		_, err = w.staff.MergeRegion(t.Context(), &regionalv1.MergeRegionRequest{Name: "regions/france", IntoRegion: "regions/europe"})
		w.must(err)
		if got := state(w, proposed); got != regionalv1.Transfer_SUPERSEDED {
			t.Errorf("the transfer is %s", got)
		}
	})
	t.Run("TheReceiverIsGone", func(t *testing.T) {
		w, _ := parisInFrance(t)
		proposed, err := w.propose(coordinatorOf("spain"), "spain")
		w.must(err)
		_, err = w.staff.DeleteRegion(t.Context(), &regionalv1.DeleteRegionRequest{Name: "regions/spain"})
		w.must(err)
		if got := state(w, proposed); got != regionalv1.Transfer_SUPERSEDED {
			t.Errorf("the transfer is %s", got)
		}
	})
}

// TestSidesConsentAtOnce lets both sides call at the same time: one proposes, the other completes, whoever comes first.
func TestSidesConsentAtOnce(t *testing.T) {
	w, _ := parisInFrance(t)
	for _, to := range []string{"spain", "asia", "france"} {
		from := strings.TrimPrefix(w.place("golang-paris"), "regions/")
		givers, receivers := w.transfers(coordinatorOf(from)), w.transfers(coordinatorOf(to))
		answers := make(chan error, 2)
		for _, client := range []regionalv1.TransferServiceClient{givers, receivers} {
			go func() {
				_, err := client.AdoptChapter(t.Context(), &regionalv1.AdoptChapterRequest{Region: "regions/" + to, Chapter: "chapters/golang-paris"})
				answers <- err
			}()
		}
		w.must(<-answers)
		w.must(<-answers)
		if got := w.place("golang-paris"); got != "regions/"+to {
			t.Errorf("it lies in %s, want %s", got, to)
		}
	}
}

// place says in which region a chapter lies.
func (w *world) place(chapter string) string {
	w.t.Helper()
	list, err := w.nobody.ListRegionChapters(w.t.Context(), &regionalv1.ListRegionChaptersRequest{Parent: "regions/world"})
	w.must(err)
	for _, c := range list.GetChapters() {
		if c.GetChapter() == "chapters/"+chapter {
			return c.GetRegion()
		}
	}
	w.t.Fatalf("%s lies nowhere", chapter)
	return ""
}

func TestThePlacementWinsOverWhatTheChapterSays(t *testing.T) {
	w, local := parisInFrance(t)
	versions := func() (n int) {
		w.must(w.pool.QueryRow(t.Context(), "SELECT version FROM placements WHERE chapter_id = 'golang-paris' AND to_time IS NULL").Scan(&n))
		return n
	}
	w.adopt("spain", "golang-paris")
	if got := versions(); got != 2 {
		t.Errorf("the placement has version %d, want 2", got)
	}
	// The chapter changed its name before it heard: it is told again, once for each time that it says so.
	local.chapter("golang-paris", "regions/france", 2)
	testkit.Eventually(t, patience, func() (bool, string) { got := versions(); return got == 3, fmt.Sprint(got) })
	if got := w.place("golang-paris"); got != "regions/spain" {
		t.Errorf("it lies in %s", got)
	}
	local.chapter("golang-paris", "regions/spain", 3)
	local.chapter("golang-lyon", "regions/france", 1) // what comes after has been applied when this one has
	w.awaitTree("regions/france", "(france 1/1 e0 c0)")
	local.chapter("golang-paris", "regions/france", 2) // an old one, late
	local.chapter("golang-nice", "regions/france", 1)
	w.awaitTree("regions/france", "(france 2/2 e0 c0)")
	if got := versions(); got != 3 {
		t.Errorf("the placement has version %d, want 3", got)
	}
}

func TestAChapterOfAClosedRegionIsPlacedWhereThatWent(t *testing.T) {
	w, local := parisInFrance(t)
	_, err := w.staff.MergeRegion(t.Context(), &regionalv1.MergeRegionRequest{Name: "regions/spain", IntoRegion: "regions/france"})
	w.must(err)
	_, err = w.staff.DeleteRegion(t.Context(), &regionalv1.DeleteRegionRequest{Name: "regions/asia"})
	w.must(err)
	local.chapter("golang-madrid", "regions/spain", 1)
	local.chapter("golang-tokyo", "regions/asia", 1)
	w.awaitTree("regions/world", "(World 1/3 e0 c0 (europe 0/2 e0 c0 (france 2/2 e0 c0)))")
}
