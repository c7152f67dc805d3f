package regional_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// feeds is read by somebody who shows no token.
func (w *world) feeds() regionalv1.FeedServiceClient {
	w.t.Helper()
	conn, err := rpc.Dial(w.address, nil)
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return regionalv1.NewFeedServiceClient(conn)
}

func public(said *eventv1.AnnouncementChanged) { said.Public = true }

func titled(subject string) func(*eventv1.AnnouncementChanged) {
	return func(said *eventv1.AnnouncementChanged) { said.Subject = subject }
}

// wantFeed waits until a feed holds exactly these: "subject edition, ...".
func (c *cascade) wantFeed(feeds regionalv1.FeedServiceClient, parent, want string) *regionalv1.ListPublicAnnouncementsResponse {
	c.t.Helper()
	var got *regionalv1.ListPublicAnnouncementsResponse
	testkit.Eventually(c.t, patience, func() (bool, string) {
		var err error
		got, err = feeds.ListPublicAnnouncements(c.t.Context(), &regionalv1.ListPublicAnnouncementsRequest{Parent: parent})
		var all []string
		for _, one := range got.GetAnnouncements() {
			all = append(all, fmt.Sprint(one.GetSubject(), " ", one.GetEdition()))
		}
		text := strings.Join(all, ", ")
		return err == nil && text == want, fmt.Sprintf("%s has %q (%v), want %q", parent, text, err, want)
	})
	return got
}

func TestFeedsHoldWhatWasForwardedInPublic(t *testing.T) {
	c := setupCascade(t)
	feeds := c.feeds()
	c.local.chapter("golang-paris", "regions/france", 1)
	c.wantFeed(feeds, "chapters/golang-paris", "")
	c.wantFeed(feeds, "regions/europe", "")

	secret, open := c.announce(titled("Secret")), c.announce(public, titled("Open"))
	for _, a := range []*announced{secret, open} {
		a.await("asia WAITING, europe WAITING, world FORWARDED 1")
		c.wantFeed(feeds, "regions/europe", "")
	}
	c.wantFeed(feeds, "regions/world", "Open 1")
	c.clock.Advance(time.Hour)
	secret.forward("europe")
	open.forward("europe")
	got := c.wantFeed(feeds, "regions/europe", "Open 1")
	one := got.GetAnnouncements()[0]
	if one.GetName() != "announcements/"+open.id || one.GetFrom() != "international" || one.GetBodyHtml() != "<p><em>All</em> is well.</p>\n" ||
		!one.GetPublishTime().AsTime().Equal(c.clock.Now().Add(-time.Hour)) || !one.GetUpdateTime().AsTime().Equal(c.clock.Now()) ||
		got.GetDisplayName() != "europe" || !got.GetUpdateTime().AsTime().Equal(c.clock.Now()) {
		t.Errorf("europe has %v", got)
	}
	c.wantFeed(feeds, "chapters/golang-paris", "")
	c.clock.Advance(time.Hour)
	open.forward("france")
	c.wantFeed(feeds, "chapters/golang-paris", "Open 1")

	// A region's own, in its feed from the start, under its name.
	own, err := c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{
		Parent: "regions/europe", Announcement: &regionalv1.RegionalAnnouncement{Subject: "Summer", Body: "It is warm.", Public: true},
	})
	c.must(err)
	if !own.GetPublic() {
		t.Errorf("made %v", own)
	}
	got = c.wantFeed(feeds, "regions/europe", "Summer 1, Open 1")
	if one := got.GetAnnouncements()[0]; one.GetFrom() != "regions/europe" || one.GetFromDisplayName() != "europe" {
		t.Errorf("from %v", one)
	}

	// A correction updates the entry, and a recall takes it out.
	c.clock.Advance(time.Hour)
	open.said.Edition, open.said.Subject = 2, "Opener"
	open.tell()
	got = c.wantFeed(feeds, "chapters/golang-paris", "Opener 2")
	if one := got.GetAnnouncements()[0]; !one.GetUpdateTime().AsTime().Equal(c.clock.Now()) || !one.GetForwardTime().AsTime().Equal(c.clock.Now().Add(-time.Hour)) {
		t.Errorf("corrected %v", one)
	}
	c.wantFeed(feeds, "regions/europe", "Summer 1, Opener 2")
	c.clock.Advance(time.Hour)
	open.said.Recalled = true
	open.tell()
	got = c.wantFeed(feeds, "regions/europe", "Summer 1")
	if !got.GetUpdateTime().AsTime().Equal(c.clock.Now()) {
		t.Errorf("the recall changed the feed at %v", got.GetUpdateTime().AsTime())
	}
	c.wantFeed(feeds, "chapters/golang-paris", "")
}

func TestChapterFeedsFollowTheirAudience(t *testing.T) {
	c := setupCascade(t)
	feeds := c.feeds()
	for id, language := range map[string]string{"golang-paris": "fr-FR", "golang-lyon": "", "golang-nice": "it"} {
		c.local.send("chapter."+id+".changed", "chapters/"+id, 1, &eventv1.ChapterChanged{
			Chapter: "chapters/" + id, DisplayName: "Golang " + id[7:], Region: "regions/france", LanguageCode: language,
		})
		c.wantFeed(feeds, "chapters/"+id, "")
	}
	c.announce(public, urgent, titled("French"), func(said *eventv1.AnnouncementChanged) { said.AudienceLanguages = []string{"fr"} })
	c.wantFeed(feeds, "chapters/golang-paris", "French 1")
	c.clock.Advance(time.Minute)
	chosen := c.announce(public, titled("Chosen"), forRegions("regions/france"))
	chosen.await("europe WAITING, world FORWARDED 1")
	chosen.forward("europe")
	chosen.await("europe FORWARDED 1, france WAITING, world FORWARDED 1")
	_, err := c.everywhere.ForwardRelay(t.Context(), &regionalv1.ForwardRelayRequest{Name: chosen.relay("france"), Chapters: []string{"chapters/golang-lyon"}})
	c.must(err)
	c.wantFeed(feeds, "chapters/golang-lyon", "Chosen 1")
	c.wantFeed(feeds, "chapters/golang-paris", "French 1")
	c.wantFeed(feeds, "chapters/golang-nice", "")
	c.wantFeed(feeds, "regions/france", "Chosen 1, French 1")

	// A chapter that moves takes along what it was sent, and gets what its new region forwards from then on.
	c.clock.Advance(time.Minute)
	c.adopt("austria", "golang-lyon")
	c.clock.Advance(time.Minute)
	c.announce(public, urgent, titled("Later"), forRegions("regions/austria"))
	c.wantFeed(feeds, "chapters/golang-lyon", "Later 1, Chosen 1")

	// Nobody's word makes a feed of what is for some states of charters.
	risky := c.announce(public, urgent, titled("Risk"), func(said *eventv1.AnnouncementChanged) { said.AudienceCharterStates = []string{"AT_RISK"} })
	risky.await("asia FORWARDED 1 by itself, austria FORWARDED 1 by itself, dach FORWARDED 1 by itself, europe FORWARDED 1 by itself, " +
		"france FORWARDED 1 by itself, germany FORWARDED 1 by itself, japan FORWARDED 1 by itself, world FORWARDED 1")
	c.wantFeed(feeds, "regions/france", "Chosen 1, French 1")
	_, err = c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{
		Parent: "regions/europe", Announcement: &regionalv1.RegionalAnnouncement{Subject: "Risk", Body: "Risk.", Public: true, CharterStates: []string{"AT_RISK"}},
	})
	wantError(t, err, codes.InvalidArgument, errorv1.Reason_REASON_PUBLIC_NARROWED)
}

func TestFeedPages(t *testing.T) {
	c := setupCascade(t)
	feeds := c.feeds()
	body := strings.Repeat("All is well & good.\n\n", 3000) // 60 KB, and more as HTML
	const count = 60
	for i := range count {
		c.clock.Advance(time.Second)
		_, err := c.own.CreateRegionalAnnouncement(t.Context(), &regionalv1.CreateRegionalAnnouncementRequest{
			Parent: "regions/europe", Announcement: &regionalv1.RegionalAnnouncement{Subject: fmt.Sprint("No. ", i), Body: body, Public: true},
		})
		c.must(err)
	}
	next, last := count, ""
	for pages := 0; ; pages++ {
		page, err := feeds.ListPublicAnnouncements(t.Context(), &regionalv1.ListPublicAnnouncementsRequest{Parent: "regions/europe", PageToken: last})
		c.must(err)
		for _, one := range page.GetAnnouncements() {
			next--
			if want := fmt.Sprint("No. ", next); one.GetSubject() != want {
				t.Fatalf("got %s, want %s", one.GetSubject(), want)
			}
		}
		if last = page.GetNextPageToken(); last == "" {
			if next != 0 || pages < 3 {
				t.Errorf("%d are missing after %d pages", next, pages)
			}
			break
		}
	}
	few, err := feeds.ListPublicAnnouncements(t.Context(), &regionalv1.ListPublicAnnouncementsRequest{Parent: "regions/europe", PageSize: 2})
	c.must(err)
	if len(few.GetAnnouncements()) != 2 || few.GetNextPageToken() == "" {
		t.Errorf("%d on a page of two", len(few.GetAnnouncements()))
	}
}

func TestFeedsOfNobody(t *testing.T) {
	c := setupCascade(t)
	feeds := c.feeds()
	_, err := c.staff.DeleteRegion(t.Context(), &regionalv1.DeleteRegionRequest{Name: "regions/japan"})
	c.must(err)
	for _, parent := range []string{"regions/japan", "regions/nowhere", "chapters/nobody"} {
		_, err := feeds.ListPublicAnnouncements(t.Context(), &regionalv1.ListPublicAnnouncementsRequest{Parent: parent})
		wantError(t, err, codes.NotFound, errorv1.Reason_REASON_NOT_FOUND)
	}
}
