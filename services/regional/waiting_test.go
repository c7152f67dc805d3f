package regional_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// waitsWith waits until everybody has been told with whom a relay waits: "europe: regions/europe/coordinators/...".
func (a *announced) waitsWith(region, acting string, who ...*regionalv1.Coordinator) *eventv1.RelayChanged {
	a.c.t.Helper()
	want := acting
	for _, one := range who {
		want += " " + one.GetName()
	}
	var relay *eventv1.RelayChanged
	testkit.Eventually(a.c.t, patience, func() (bool, string) {
		relay, _ = a.c.seen.get(a.relay(region))
		got := strings.TrimPrefix(relay.GetActingRegion(), "regions/")
		for _, name := range relay.GetWaitingWith() {
			got += " " + name
		}
		return got == want, fmt.Sprintf("%s waits with %q, want %q", region, got, want)
	})
	return relay
}

func TestRelaysSayWithWhomTheyWait(t *testing.T) {
	c := setupCascade(t)
	root := c.appoint("world", "root", regionalv1.Coordinator_COORDINATOR)
	eve := c.appoint("europe", "eve", regionalv1.Coordinator_DEPUTY)
	ada := c.appoint("europe", "ada", regionalv1.Coordinator_COORDINATOR)
	begin := c.clock.Now()
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	if since := a.waitsWith("europe", "europe", ada).GetWaitingSinceTime().AsTime(); !since.Equal(begin) {
		t.Errorf("it waits since %s, want %s", since, begin)
	}
	a.waitsWith("asia", "world", root)
	if event, _ := c.seen.get(a.relay("world")); len(event.GetWaitingWith()) > 0 || event.GetActingRegion() != "" {
		t.Errorf("what was forwarded waits with %v", event)
	}

	// She goes on leave in two days, and nobody asks anything of the service.
	leave := c.clock.Now().Add(2 * 24 * time.Hour)
	_, err := c.coordinators(staffMember).UpdateCoordinator(t.Context(), &regionalv1.UpdateCoordinatorRequest{
		Coordinator: &regionalv1.Coordinator{Name: ada.GetName(), AwayStartTime: timestamppb.New(leave)},
		UpdateMask:  &fieldmaskpb.FieldMask{Paths: []string{"away_start_time"}},
	})
	c.must(err)
	c.clock.Advance(3 * 24 * time.Hour)
	if since := a.waitsWith("europe", "europe", eve).GetWaitingSinceTime().AsTime(); !since.Equal(c.clock.Now()) {
		t.Errorf("it waits with the deputy since %s, want %s", since, c.clock.Now())
	}
	way, err := c.everywhere.GetRelayReach(t.Context(), &regionalv1.GetRelayReachRequest{Name: a.relay("world") + "/reach"})
	c.must(err)
	europe := way.GetStop().GetChildren()[1]
	if europe.GetRegion() != "regions/europe" || !slices.Equal(europe.GetWaitingWith(), []string{eve.GetName()}) || europe.GetArriveTime().AsTime() != begin {
		t.Errorf("reach: %v", europe)
	}
	a.forward("europe")
	if relay := a.get("europe"); len(relay.GetWaitingWith()) > 0 || relay.GetWaitingSinceTime() != nil {
		t.Errorf("what was forwarded waits: %v", relay)
	}
}

func TestCorrectionKeepsTranslationsToBeRead(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	text := func(language, subject string) *regionalv1.RelayTranslation {
		return &regionalv1.RelayTranslation{Language: language, Subject: subject, Body: subject}
	}
	translate := func(texts ...*regionalv1.RelayTranslation) (*regionalv1.Relay, error) {
		return c.everywhere.TranslateRelay(t.Context(), &regionalv1.TranslateRelayRequest{Name: a.relay("europe"), Translations: texts})
	}
	_, err := translate(text("fr", "a"))
	refuses(t, err, errorv1.Reason_REASON_RELAY_STATE)
	_, err = c.everywhere.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{
		Name: a.relay("europe"), Translations: []*regionalv1.RelayTranslation{text("fr", "un"), text("de", "eins")},
	})
	c.must(err)
	_, err = translate(text("it", "uno"), text("fr", "deux"))
	refuses(t, err, errorv1.Reason_REASON_TRANSLATION_EXISTS)
	relay, err := translate(text("it", "uno"))
	c.must(err)
	if len(relay.GetTranslations()) != 3 || relay.GetTranslationsOutdated() {
		t.Errorf("translated: %v", relay)
	}
	told := func(want string) {
		t.Helper()
		testkit.Eventually(t, patience, func() (bool, string) {
			event, _ := c.seen.get(a.relay("europe"))
			got := fmt.Sprint(event.GetEdition())
			for _, text := range event.GetTranslations() {
				got += " " + text.GetSubject()
			}
			return got == want, got + ", want " + want
		})
	}
	told("1 un eins uno")

	a.said.Edition, a.said.Body = 2, "Better."
	a.tell()
	told("2")
	if relay = a.get("europe"); len(relay.GetTranslations()) != 3 || !relay.GetTranslationsOutdated() || relay.GetTranslations()[0].GetEdition() != 1 {
		t.Errorf("after the correction: %v", relay)
	}
	relay, err = translate(text("fr", "deux"))
	c.must(err)
	if !relay.GetTranslationsOutdated() {
		t.Error("German and Italian are of the first edition still")
	}
	told("2 deux")
	_, err = translate(text("fr", "trois"))
	refuses(t, err, errorv1.Reason_REASON_TRANSLATION_EXISTS)
	relay, err = translate(text("de", "zwei"), text("it", "due"))
	c.must(err)
	if relay.GetTranslationsOutdated() {
		t.Errorf("all are of the second: %v", relay)
	}
	told("2 deux zwei due")
}

// merge dissolves a region in another.
func (c *cascade) merge(region, into string) {
	c.t.Helper()
	_, err := c.staff.MergeRegion(c.t.Context(), &regionalv1.MergeRegionRequest{Name: "regions/" + region, IntoRegion: "regions/" + into})
	c.must(err)
}

// TestWhatWaitsInADissolvedRegionGoesOn dissolves a region while an announcement for it alone waits there: the coordinators
// of the region that took over decide, or the deadline does, for the chapters and regions that were there.
func TestWhatWaitsInADissolvedRegionGoesOn(t *testing.T) {
	c := setupCascade(t)
	c.local.chapter("golang-bonn", "regions/dach", 1)
	c.local.chapter("golang-lyon", "regions/france", 1)
	c.awaitTree("regions/europe", "(europe 0/2 e0 c0 (dach 1/1 e0 c0 (austria 0/0 e0 c0) (germany 0/0 e0 c0)) (france 1/1 e0 c0))")
	ada := c.appoint("france", "ada", regionalv1.Coordinator_COORDINATOR)
	byHand, byItself := c.announce(forRegions("regions/dach")), c.announce(forRegions("regions/dach"))
	for _, a := range []*announced{byHand, byItself} {
		a.await("europe WAITING, world FORWARDED 1")
		a.forward("europe")
		a.await("dach WAITING, europe FORWARDED 1, world FORWARDED 1")
	}
	french := c.coordinator("regions/france")
	request := &regionalv1.ForwardRelayRequest{Name: byHand.relay("dach"), Chapters: []string{"chapters/golang-bonn"}}
	_, err := french.ForwardRelay(t.Context(), request)
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)

	c.merge("dach", "france")
	byHand.waitsWith("dach", "france", ada)
	listed, err := french.ListRelays(t.Context(), &regionalv1.ListRelaysRequest{Parent: "regions/france"})
	c.must(err)
	if len(listed.GetRelays()) != 2 || listed.GetRelays()[0].GetName() != byItself.relay("dach") {
		t.Errorf("in the inbox of who took over lie %v", listed.GetRelays())
	}
	_, err = french.ForwardRelay(t.Context(), request)
	c.must(err)
	byHand.await("austria WAITING, dach FORWARDED 1, europe FORWARDED 1, germany WAITING, world FORWARDED 1")
	c.clock.Advance(8 * 24 * time.Hour)
	byItself.await("austria FORWARDED 1 by itself, dach FORWARDED 1 by itself, europe FORWARDED 1, germany FORWARDED 1 by itself, world FORWARDED 1")
	for _, a := range []*announced{byHand, byItself} {
		event, _ := c.seen.get(a.relay("dach"))
		if !slices.Equal(event.GetLeftChapters(), []string{"chapters/golang-bonn"}) || !slices.Equal(event.GetChildRegions(), []string{"regions/austria", "regions/germany"}) {
			t.Errorf("it goes to %v and %v", event.GetLeftChapters(), event.GetChildRegions())
		}
		if event, _ := c.seen.get(a.relay("austria")); event.GetChaptersChosen() {
			t.Error("it only passes through a region of the audience")
		}
	}
}

func TestWhoLeavesWhileItWaitsIsNotForgotten(t *testing.T) {
	c := setupCascade(t)
	c.local.chapter("golang-lyon", "regions/france", 1)
	c.awaitTree("regions/europe", "(europe 0/1 e0 c0 (dach 0/0 e0 c0 (austria 0/0 e0 c0) (germany 0/0 e0 c0)) (france 1/1 e0 c0))")
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	a.forward("asia")
	a.forward("europe")
	a.await("asia FORWARDED 1, dach WAITING, europe FORWARDED 1, france WAITING, japan WAITING, world FORWARDED 1")
	a.forward("japan")
	c.adopt("japan", "golang-lyon")
	_, err := c.staff.MoveRegion(t.Context(), &regionalv1.MoveRegionRequest{Name: "regions/austria", ParentRegion: "regions/japan"})
	c.must(err)
	a.forward("france")
	a.forward("dach")
	a.await("asia FORWARDED 1, austria WAITING, dach FORWARDED 1, europe FORWARDED 1, france FORWARDED 1, germany WAITING, japan FORWARDED 1, world FORWARDED 1")
	if event, _ := c.seen.get(a.relay("france")); !slices.Equal(event.GetLeftChapters(), []string{"chapters/golang-lyon"}) {
		t.Errorf("of those who left france it goes to %v", event.GetLeftChapters())
	}
	// What was decided stays with those who were there.
	c.adopt("asia", "golang-lyon")
	if event, _ := c.seen.get(a.relay("japan")); len(event.GetLeftChapters()) > 0 {
		t.Errorf("of those who left japan it goes to %v", event.GetLeftChapters())
	}
}

// TestPagesOfLongReasonsFitIntoAMessage has more in a page than gRPC takes: 4 MiB.
func TestPagesOfLongReasonsFitIntoAMessage(t *testing.T) {
	c := setupCascade(t)
	a := c.announce(forRegions("regions/japan"))
	a.await("asia WAITING, world FORWARDED 1")
	_, err := c.everywhere.DeclineRelay(t.Context(), &regionalv1.DeclineRelayRequest{Name: a.relay("asia"), Reason: strings.Repeat("語", 2000)})
	c.must(err)
	c.exec(`INSERT INTO announcements SELECT gen_random_uuid(), NULL, 1, false, content, 1, 1, update_time FROM announcements, generate_series(1, 999);
		UPDATE relays SET hold_reason = decline_reason WHERE region_id = 'asia';
		INSERT INTO relays SELECT (jsonb_populate_record(r, jsonb_build_object('announcement_id', n.id))).* FROM relays r, announcements n
		WHERE r.region_id = 'asia' ON CONFLICT DO NOTHING`)
	seen, pages := map[string]bool{}, 0
	for token := ""; pages == 0 || token != ""; pages++ {
		page, err := c.everywhere.ListRelays(t.Context(), &regionalv1.ListRelaysRequest{Parent: "regions/asia", PageSize: 1000, PageToken: token})
		c.must(err)
		for _, relay := range page.GetRelays() {
			seen[relay.GetName()] = true
		}
		token = page.GetNextPageToken()
	}
	if len(seen) != 1000 || pages < 4 {
		t.Errorf("%d relays of 1000, on %d pages", len(seen), pages)
	}
}
