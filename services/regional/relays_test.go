package regional_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestCoordinatorsActOnTheirRegionAndBelow(t *testing.T) {
	c := setupCascade(t)
	a := c.announce(urgent)
	b := c.announce()
	b.await("asia WAITING, europe WAITING, world FORWARDED 1")
	europe, dach := c.coordinator("regions/europe"), c.coordinator("regions/dach")
	staff := regionalv1.NewRelayServiceClient(c.dial(authz.Principal{Subject: "staff", Grants: []authz.Grant{{Role: authz.InternationalStaff}}}))
	nobody := regionalv1.NewRelayServiceClient(c.dial(authz.Principal{Subject: "nobody"}))

	for name, one := range map[string]struct {
		who  regionalv1.RelayServiceClient
		at   string
		want codes.Code
	}{
		"OwnRegion": {europe, "europe", codes.OK}, "Below": {europe, "dach", codes.OK}, "Beside": {europe, "asia", codes.PermissionDenied},
		"Above": {dach, "europe", codes.PermissionDenied}, "Staff": {staff, "japan", codes.OK}, "Nobody": {nobody, "europe", codes.PermissionDenied},
	} {
		_, err := one.who.GetRelay(t.Context(), &regionalv1.GetRelayRequest{Name: a.relay(one.at)})
		if status.Code(err) != one.want {
			t.Errorf("%s reads: %v, want %s", name, err, one.want)
		}
	}
	_, err := dach.DeclineRelay(t.Context(), &regionalv1.DeclineRelayRequest{Name: b.relay("europe"), Reason: "no"})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = staff.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{Name: b.relay("europe")})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = europe.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{Name: b.relay("europe")})
	c.must(err)
	_, err = europe.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{Name: b.relay("dach")})
	c.must(err)
}

func TestRelayRefusals(t *testing.T) {
	c := setupCascade(t)
	c.local.chapter("golang-paris", "regions/france", 1)
	c.local.chapter("golang-brussels", "regions/europe", 1)
	c.awaitTree("regions/europe", "(europe 1/2 e0 c0 (dach 0/0 e0 c0 (austria 0/0 e0 c0) (germany 0/0 e0 c0)) (france 1/1 e0 c0))")
	a := c.announce(forRegions("regions/dach", "regions/japan"))
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	b := c.announce()
	b.await("asia WAITING, europe WAITING, world FORWARDED 1")
	stale := b.get("europe").GetEtag()
	_, err := c.everywhere.HoldRelay(t.Context(), &regionalv1.HoldRelayRequest{Name: b.relay("europe"), UntilTime: timestamppb.New(c.clock.Now().Add(time.Hour))})
	c.must(err)

	german := &regionalv1.RelayTranslation{Language: "de", Subject: "a", Body: "b"}
	for name, one := range map[string]struct {
		req  *regionalv1.ForwardRelayRequest
		want errorv1.Reason
	}{
		"NotThere":         {&regionalv1.ForwardRelayRequest{Name: b.relay("dach")}, errorv1.Reason_REASON_NOT_FOUND},
		"NotBelow":         {&regionalv1.ForwardRelayRequest{Name: b.relay("europe"), ChildRegions: []string{"regions/germany"}}, errorv1.Reason_REASON_RELAY_TARGET_INVALID},
		"NotTouched":       {&regionalv1.ForwardRelayRequest{Name: a.relay("europe"), ChildRegions: []string{"regions/france"}}, errorv1.Reason_REASON_RELAY_TARGET_INVALID},
		"ChapterElsewhere": {&regionalv1.ForwardRelayRequest{Name: b.relay("europe"), Chapters: []string{"chapters/golang-paris"}}, errorv1.Reason_REASON_RELAY_TARGET_INVALID},
		"ChapterOnTheWay":  {&regionalv1.ForwardRelayRequest{Name: a.relay("europe"), Chapters: []string{"chapters/golang-brussels"}}, errorv1.Reason_REASON_RELAY_TARGET_INVALID},
		"Contradiction":    {&regionalv1.ForwardRelayRequest{Name: b.relay("europe"), NoChapters: true, Chapters: []string{"chapters/golang-brussels"}}, errorv1.Reason_REASON_INVALID_FIELD},
		"TwoGermanTexts":   {&regionalv1.ForwardRelayRequest{Name: b.relay("europe"), Translations: []*regionalv1.RelayTranslation{german, german}}, errorv1.Reason_REASON_INVALID_FIELD},
		"OldReading":       {&regionalv1.ForwardRelayRequest{Name: b.relay("europe"), Etag: stale}, errorv1.Reason_REASON_ETAG_MISMATCH},
		"Final":            {&regionalv1.ForwardRelayRequest{Name: b.relay("world")}, errorv1.Reason_REASON_RELAY_STATE},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.everywhere.ForwardRelay(t.Context(), one.req)
			refuses(t, err, one.want)
		})
	}
	for _, until := range []time.Duration{0, -time.Hour, 91 * 24 * time.Hour} {
		_, err := c.everywhere.HoldRelay(t.Context(), &regionalv1.HoldRelayRequest{Name: b.relay("asia"), UntilTime: timestamppb.New(c.clock.Now().Add(until))})
		refuses(t, err, errorv1.Reason_REASON_HOLD_TIME_INVALID)
	}
	_, err = c.everywhere.DeclineRelay(t.Context(), &regionalv1.DeclineRelayRequest{Name: b.relay("asia")})
	refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	b.await("asia WAITING, europe HELD, world FORWARDED 1")
}

func TestForwardToChosenChapters(t *testing.T) {
	c := setupCascade(t)
	c.local.chapter("golang-brussels", "regions/europe", 1)
	c.local.chapter("rust-brussels", "regions/europe", 1)
	c.awaitTree("regions/world", "(World 0/2 e0 c0 (asia 0/0 e0 c0 (japan 0/0 e0 c0)) (europe 2/2 e0 c0 (dach 0/0 e0 c0 (austria 0/0 e0 c0) (germany 0/0 e0 c0)) (france 0/0 e0 c0)))")
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	request := &regionalv1.ForwardRelayRequest{
		Name: a.relay("europe"), Chapters: []string{"chapters/golang-brussels"}, NoChildRegions: true, RequestId: "once",
	}
	first, err := c.everywhere.ForwardRelay(t.Context(), request)
	c.must(err)
	again, err := c.everywhere.ForwardRelay(t.Context(), request)
	c.must(err)
	if !proto.Equal(first, again) || !slices.Equal(first.GetChapters(), request.GetChapters()) || !first.GetChaptersChosen() || len(first.GetChildRegions()) > 0 {
		t.Errorf("first %v, then %v", first, again)
	}
	a.await("asia WAITING, europe FORWARDED 1, world FORWARDED 1")
	event, _ := c.seen.get(a.relay("europe"))
	if !slices.Equal(event.GetChapters(), request.GetChapters()) || !event.GetChaptersChosen() {
		t.Errorf("told: %v", event)
	}
}

func TestForwardAllByFilter(t *testing.T) {
	c := setupCascade(t)
	old := c.announce()
	old.await("asia WAITING, europe WAITING, world FORWARDED 1")
	held := c.announce()
	held.await("asia WAITING, europe WAITING, world FORWARDED 1")
	_, err := c.everywhere.HoldRelay(t.Context(), &regionalv1.HoldRelayRequest{Name: held.relay("europe"), UntilTime: timestamppb.New(c.clock.Now().Add(48 * time.Hour))})
	c.must(err)
	noon := timestamppb.New(c.clock.Advance(time.Hour))
	newer := c.announce()
	newer.await("asia WAITING, europe WAITING, world FORWARDED 1")

	all := func(req *regionalv1.ForwardAllRelaysRequest, want ...string) {
		t.Helper()
		req.Parent = "regions/europe"
		got, err := c.everywhere.ForwardAllRelays(t.Context(), req)
		c.must(err)
		if !slices.Equal(got.GetRelays(), want) || got.GetMore() {
			t.Errorf("%v forwards %v, want %v", req, got, want)
		}
	}
	all(&regionalv1.ForwardAllRelaysRequest{ValidateOnly: true}, old.relay("europe"), newer.relay("europe"))
	all(&regionalv1.ForwardAllRelaysRequest{Origin: regionalv1.ForwardAllRelaysRequest_REGIONAL})
	all(&regionalv1.ForwardAllRelaysRequest{ArriveBeforeTime: noon, Note: "Late"}, old.relay("europe"))
	all(&regionalv1.ForwardAllRelaysRequest{Origin: regionalv1.ForwardAllRelaysRequest_INTERNATIONAL}, newer.relay("europe"))
	all(&regionalv1.ForwardAllRelaysRequest{State: regionalv1.Relay_HELD}, held.relay("europe"))
	all(&regionalv1.ForwardAllRelaysRequest{})
	for _, a := range []*announced{old, held, newer} {
		a.await("asia WAITING, dach WAITING, europe FORWARDED 1, france WAITING, world FORWARDED 1")
	}
	if event, _ := c.seen.get(old.relay("europe")); event.GetNote() != "Late" {
		t.Errorf("told: %v", event)
	}
}

func TestListRelaysPagesAndFilters(t *testing.T) {
	c := setupCascade(t)
	var want []string
	for i := range 5 {
		a := c.announce(forRegions("regions/asia"))
		a.await("asia WAITING, world FORWARDED 1")
		if i%2 == 0 {
			a.forward("asia")
		}
		want = append([]string{a.relay("asia")}, want...)
	}
	var got []string
	for token := ""; ; {
		page, err := c.everywhere.ListRelays(t.Context(), &regionalv1.ListRelaysRequest{Parent: "regions/asia", PageSize: 2, PageToken: token})
		c.must(err)
		for _, relay := range page.GetRelays() {
			got = append(got, relay.GetName())
			if relay.GetContent().GetSubject() != "News" || relay.GetContent().GetBody() != "" {
				t.Errorf("listed: %v", relay)
			}
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	waiting, err := c.everywhere.ListRelays(t.Context(), &regionalv1.ListRelaysRequest{Parent: "regions/asia", State: regionalv1.Relay_WAITING})
	c.must(err)
	if len(waiting.GetRelays()) != 2 {
		t.Errorf("waiting: %v", waiting)
	}
}

func TestRegionAfterForwardingGetsTheNextOne(t *testing.T) {
	c := setupCascade(t)
	first := c.announce()
	first.await("asia WAITING, europe WAITING, world FORWARDED 1")
	first.forward("asia")
	first.await("asia FORWARDED 1, europe WAITING, japan WAITING, world FORWARDED 1")
	c.region("korea", "regions/asia")
	first.said.Edition = 2
	first.tell()
	second := c.announce(forRegions("regions/asia"), urgent)
	second.await("asia FORWARDED 1 by itself, japan FORWARDED 1 by itself, korea FORWARDED 1 by itself, world FORWARDED 1")
	first.await("asia FORWARDED 2, europe WAITING, japan WAITING, world FORWARDED 2")
}

func TestAnnouncementOfARegion(t *testing.T) {
	c := setupCascade(t)
	made, err := c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{
		Parent: "regions/europe", RequestId: "once",
		Announcement: &regionalv1.RegionalAnnouncement{
			Subject: "Summer", Body: "It is *warm*.", Links: []*regionalv1.RelayLink{{Title: "Map", Url: "https://example.org/map"}},
		},
	})
	c.must(err)
	a := &announced{c: c, id: made.GetName()[len("regions/europe/announcements/"):]}
	a.await("dach WAITING, europe FORWARDED 1, france WAITING")
	told := c.seen.announcement(made.GetName())
	if told.GetSubject() != "Summer" || told.GetLanguage() != "en" || !slices.Equal(told.GetAudienceRegions(), []string{"regions/europe"}) ||
		!told.GetRelayDeadlineTime().AsTime().Equal(c.clock.Now().Add(7*24*time.Hour)) {
		t.Errorf("told: %v", told)
	}
	if event, _ := c.seen.get(a.relay("europe")); event.GetChaptersChosen() || event.GetParentRelay() != "" || event.GetAnnouncement() != made.GetName() {
		t.Errorf("europe: %v", event)
	}
	a.forward("dach")
	a.await("austria WAITING, dach FORWARDED 1, europe FORWARDED 1, france WAITING, germany WAITING")

	corrected, err := c.own.CorrectRegionalAnnouncement(t.Context(), &regionalv1.CorrectRegionalAnnouncementRequest{Name: made.GetName(), Body: "It is *hot*.", Etag: made.GetEtag()})
	c.must(err)
	if corrected.GetEdition() != 2 || corrected.GetSubject() != "Summer" || len(corrected.GetLinks()) > 0 {
		t.Errorf("corrected: %v", corrected)
	}
	a.await("austria WAITING, dach FORWARDED 2, europe FORWARDED 2, france WAITING, germany WAITING")
	_, err = c.own.RecallRegionalAnnouncement(t.Context(), &regionalv1.RecallRegionalAnnouncementRequest{Name: made.GetName(), Reason: "winter", Etag: made.GetEtag()})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = c.own.RecallRegionalAnnouncement(t.Context(), &regionalv1.RecallRegionalAnnouncementRequest{Name: made.GetName(), Reason: "winter"})
	c.must(err)
	a.await("austria RECALLED, dach RECALLED 2, europe RECALLED 2, france RECALLED, germany RECALLED")
	_, err = c.own.CorrectRegionalAnnouncement(t.Context(), &regionalv1.CorrectRegionalAnnouncementRequest{Name: made.GetName(), Body: "Late."})
	refuses(t, err, errorv1.Reason_REASON_ANNOUNCEMENT_STATE)
	testkit.Eventually(t, patience, func() (bool, string) {
		told := c.seen.announcement(made.GetName())
		return told.GetRecalled() && told.GetRecallReason() == "winter" && told.GetEdition() == 2, told.String()
	})
}

func TestAnnouncementOfARegionIsRefused(t *testing.T) {
	c := setupCascade(t)
	text := &regionalv1.RegionalAnnouncement{Subject: "Summer", Body: "It is warm."}
	_, err := c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{Parent: "regions/asia", Announcement: text})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	for _, url := range []string{"http://example.org", "javascript:alert(1)", "https:///x", "https://a b"} {
		_, err = c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{
			Parent: "regions/europe", Announcement: &regionalv1.RegionalAnnouncement{Subject: "a", Body: "b", Links: []*regionalv1.RelayLink{{Title: "x", Url: url}}},
		})
		refuses(t, err, errorv1.Reason_REASON_INVALID_FIELD)
	}
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	_, err = c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{Parent: "regions/europe", Announcement: text, AnnouncementId: a.id})
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
	_, err = c.own.GetRegionalAnnouncement(t.Context(), &regionalv1.GetRegionalAnnouncementRequest{Name: "regions/europe/announcements/" + a.id})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)

	var long []*regionalv1.RelayTranslation
	for i := range 20 {
		long = append(long, &regionalv1.RelayTranslation{Language: fmt.Sprintf("en-x%d", i), Subject: "a", Body: strings.Repeat("b", 60000)})
	}
	_, err = c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{
		Parent: "regions/europe", Announcement: &regionalv1.RegionalAnnouncement{Subject: "a", Body: "b", Translations: long},
	})
	refuses(t, err, errorv1.Reason_REASON_TOO_LARGE)
	listed, err := c.own.ListRegionalAnnouncements(t.Context(), &regionalv1.ListRegionalAnnouncementsRequest{Parent: "regions/europe"})
	c.must(err)
	if len(listed.GetAnnouncements()) > 0 {
		t.Errorf("listed: %v", listed)
	}
}

// TestEventsInAnyOrderAndTwice sends editions in any order and repeatedly.
func TestEventsInAnyOrderAndTwice(t *testing.T) {
	c := setupCascade(t)
	a := c.draft()
	editions := make([]*eventv1.AnnouncementChanged, 6)
	for i := range editions {
		editions[i] = proto.CloneOf(a.said)
		editions[i].Edition, editions[i].Body = int32(i+1), fmt.Sprint("Edition ", i+1)
	}
	for _, i := range append(rand.Perm(len(editions)), rand.Perm(len(editions))...) {
		c.international.send("announcement."+a.id+".changed", "announcements/"+a.id, int64(i+1), proto.CloneOf(editions[i]))
	}
	a.await("asia WAITING, europe WAITING, world FORWARDED 6")
	if got := a.get("asia"); got.GetContent().GetBody() != "Edition 6" {
		t.Errorf("asia: %v", got)
	}
}

// TestCorrectionsMeetForwarding lets coordinators forward while corrections come: every relay that was forwarded ends at the
// last edition, and no region is left out.
func TestCorrectionsMeetForwarding(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	var coordinators sync.WaitGroup
	for _, region := range []string{"europe", "asia", "dach", "france", "austria", "germany", "japan"} {
		coordinators.Go(func() {
			testkit.Eventually(t, patience, func() (bool, string) {
				_, err := c.everywhere.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{Name: a.relay(region)})
				return err == nil, fmt.Sprint(err)
			})
		})
	}
	for range 10 {
		a.said.Edition++
		a.tell()
	}
	coordinators.Wait()
	a.await("asia FORWARDED 11, austria FORWARDED 11, dach FORWARDED 11, europe FORWARDED 11, france FORWARDED 11, " +
		"germany FORWARDED 11, japan FORWARDED 11, world FORWARDED 11")
}

func TestRestoredDatabaseTellsOfRelaysAgain(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	a.forward("asia")
	a.await("asia FORWARDED 1, europe WAITING, japan WAITING, world FORWARDED 1")
	c.stopService()
	c.exec("UPDATE relays SET state = 'WAITING', edition = 0, version = 1, forward_time = NULL, child_regions = '{}', due_time = deadline_time WHERE region_id = 'asia'")
	c.exec("DELETE FROM outbox")
	c.exec("UPDATE stream_state SET last_seq = 1, last_event_id = ''")
	c.startService()
	a.await("asia WAITING, europe WAITING, japan WAITING, world FORWARDED 1")
}

func TestLostRelayIsAskedFor(t *testing.T) {
	c := setupCascade(t)
	a := c.announce()
	a.await("asia WAITING, europe WAITING, world FORWARDED 1")
	c.exec("UPDATE relays SET state = 'DECLINED', version = version + 1 WHERE region_id = 'asia'")
	a.await("asia DECLINED, europe WAITING, world FORWARDED 1")
}
