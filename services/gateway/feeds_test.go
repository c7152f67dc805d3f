package gateway_test

import (
	"context"
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// atomFeed is a feed as RFC 4287 has it, in its own namespace.
type atomFeed struct {
	XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	IDs     []string    `xml:"http://www.w3.org/2005/Atom id"`
	Titles  []string    `xml:"http://www.w3.org/2005/Atom title"`
	Updated []string    `xml:"http://www.w3.org/2005/Atom updated"`
	Authors []string    `xml:"http://www.w3.org/2005/Atom author>name"`
	Links   []atomLink  `xml:"http://www.w3.org/2005/Atom link"`
	Entries []atomEntry `xml:"http://www.w3.org/2005/Atom entry"`
}

type atomLink struct {
	Rel  string `xml:"rel,attr"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	IDs       []string   `xml:"http://www.w3.org/2005/Atom id"`
	Titles    []string   `xml:"http://www.w3.org/2005/Atom title"`
	Updated   []string   `xml:"http://www.w3.org/2005/Atom updated"`
	Published []string   `xml:"http://www.w3.org/2005/Atom published"`
	Authors   []string   `xml:"http://www.w3.org/2005/Atom author>name"`
	Links     []atomLink `xml:"http://www.w3.org/2005/Atom link"`
	Contents  []struct {
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	} `xml:"http://www.w3.org/2005/Atom content"`
}

// parseAtom reads a feed and holds it to what RFC 4287 demands of every one.
func parseAtom(t *testing.T, text string) atomFeed {
	t.Helper()
	var feed atomFeed
	decoder := xml.NewDecoder(strings.NewReader(text))
	decoder.Strict = true
	if err := decoder.Decode(&feed); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	once := func(what string, values []string) string {
		t.Helper()
		if len(values) != 1 || values[0] == "" {
			t.Fatalf("%s: %q, want one", what, values)
		}
		return values[0]
	}
	instant := func(what string, values []string) {
		t.Helper()
		if _, err := time.Parse(time.RFC3339, once(what, values)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	absolute := func(what, text string) {
		t.Helper()
		if u, err := url.Parse(text); err != nil || !u.IsAbs() {
			t.Errorf("%s: %q is no absolute IRI", what, text)
		}
	}
	absolute("the feed's id", once("the feed's id", feed.IDs))
	once("the feed's title", feed.Titles)
	instant("the feed's updated", feed.Updated)
	once("the feed's author", feed.Authors)
	if len(feed.Links) != 1 || feed.Links[0].Rel != "self" {
		t.Errorf("links %v, want one to itself", feed.Links)
	}
	seen := map[string]bool{}
	for _, entry := range feed.Entries {
		id := once("an entry's id", entry.IDs)
		absolute("an entry's id", id)
		if seen[id] {
			t.Errorf("%s twice", id)
		}
		seen[id] = true
		once("an entry's title", entry.Titles)
		instant("an entry's updated", entry.Updated)
		instant("an entry's published", entry.Published)
		once("an entry's author", entry.Authors)
		if len(entry.Contents) != 1 || entry.Contents[0].Type != "html" {
			t.Errorf("contents %v", entry.Contents)
		}
		feed.Links = append(feed.Links, entry.Links...)
	}
	for _, link := range feed.Links {
		absolute("a link", link.Href)
	}
	return feed
}

// announces lets the regional service answer with these, and returns the parents that it was asked for.
func (w *world) announces(all ...*regionalv1.PublicAnnouncement) *[]string {
	var parents []string
	on(w, regionalv1.FeedService_ListPublicAnnouncements_FullMethodName, func(_ context.Context, r *regionalv1.ListPublicAnnouncementsRequest) (*regionalv1.ListPublicAnnouncementsResponse, error) {
		parents = append(parents, r.GetParent())
		return &regionalv1.ListPublicAnnouncementsResponse{
			Announcements: all, DisplayName: "Europe & <beyond>", UpdateTime: timestamppb.New(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)),
		}, nil
	})
	return &parents
}

func publicNews() *regionalv1.PublicAnnouncement {
	return &regionalv1.PublicAnnouncement{
		Name: "announcements/0198f0a1-0000-7000-8000-000000000001", From: "international", Subject: "News & <more>\x01",
		BodyHtml: "<p>All is <em>well</em> &amp; good.</p>\n", Edition: 1,
		Links: []*regionalv1.PublicLink{
			{Title: "Map <big>", Url: "https://example.org/map?a=1&b=2"}, {Url: "http://example.org/"}, {Title: "no", Url: "javascript:alert(1)"},
		},
		PublishTime: timestamppb.New(time.Date(2026, 5, 1, 10, 0, 0, 0, time.UTC)), UpdateTime: timestamppb.New(time.Date(2026, 5, 1, 12, 0, 0, 5000, time.UTC)),
	}
}

func TestFeedsAreAtom(t *testing.T) {
	t.Parallel()
	w := setup(t, func(cfg *gateway.Config) { cfg.PublicURL = "https://chapterhouse.example/" })
	own := publicNews()
	own.Name, own.From, own.FromDisplayName, own.Links = "regions/europe/announcements/0198f0a1-0000-7000-8000-000000000002", "regions/europe", "Europe", nil
	asked := w.announces(publicNews(), own)
	got := w.do(http.MethodGet, "/feeds/regions/europe.atom", "")
	if got.status != http.StatusOK || got.header.Get("Content-Type") != "application/atom+xml; charset=utf-8" ||
		got.header.Get("Cache-Control") != "public, max-age=300" || !strings.HasPrefix(got.body, `<?xml version="1.0" encoding="UTF-8"?>`) {
		t.Fatalf("%d %v\n%s", got.status, got.header, got.body)
	}
	feed := parseAtom(t, got.body)
	if feed.IDs[0] != "https://chapterhouse.example/feeds/regions/europe.atom" || feed.Links[0].Href != feed.IDs[0] ||
		feed.Titles[0] != "Announcements: Europe & <beyond>" || feed.Updated[0] != "2026-05-01T12:00:00Z" || len(feed.Entries) != 2 {
		t.Errorf("the feed is %v", feed)
	}
	first := feed.Entries[0]
	const content = "<p>All is <em>well</em> &amp; good.</p>\n<ul>\n<li><a href=\"https://example.org/map?a=1&amp;b=2\">Map &lt;big&gt;</a></li>\n" +
		"<li><a href=\"http://example.org/\">http://example.org/</a></li>\n</ul>\n"
	if first.IDs[0] != "urn:uuid:0198f0a1-0000-7000-8000-000000000001" || first.Titles[0] != "News & <more>\uFFFD" || first.Contents[0].Text != content ||
		first.Authors[0] != "The international body" || len(first.Links) != 2 || first.Published[0] != "2026-05-01T10:00:00Z" || first.Updated[0] != "2026-05-01T12:00:00.000005Z" {
		t.Errorf("the first entry is %v", first)
	}
	if second := feed.Entries[1]; second.Authors[0] != "Europe" || second.IDs[0] != "urn:uuid:0198f0a1-0000-7000-8000-000000000002" {
		t.Errorf("the second entry is %v", second)
	}
	w.do(http.MethodGet, "/feeds/chapters/golang-paris.atom", "", "Authorization: Bearer anything")
	if got := strings.Join(*asked, " "); got != "regions/europe chapters/golang-paris" {
		t.Errorf("asked for %s", got)
	}
	if md := w.lastCall().metadata; len(md.Get("authorization")) != 0 {
		t.Errorf("the token was handed on: %v", md)
	}
}

func TestFeedsAreSentWhenTheyChange(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.announces(publicNews())
	const path = "/feeds/regions/europe.atom"
	first := w.do(http.MethodGet, path, "")
	feed := parseAtom(t, first.body)
	if feed.IDs[0] != w.url+path {
		t.Errorf("without a URL that is set, the feed is %s", feed.IDs[0])
	}
	etag := first.header.Get("ETag")
	for _, known := range []string{etag, `"other", W/` + etag, "*"} {
		got := w.do(http.MethodGet, path, "", "If-None-Match: "+known)
		if got.status != http.StatusNotModified || got.body != "" || got.header.Get("ETag") != etag || got.header.Get("Cache-Control") != "public, max-age=300" {
			t.Errorf("%s: %d %v %q", known, got.status, got.header, got.body)
		}
	}
	if head := w.do(http.MethodHead, path, ""); head.status != http.StatusOK || head.body != "" || head.header.Get("ETag") != etag {
		t.Errorf("HEAD: %d %v", head.status, head.header)
	}
	corrected := publicNews()
	corrected.Subject = "Better news"
	w.announces(corrected)
	second := w.do(http.MethodGet, path, "", "If-None-Match: "+etag)
	if second.status != http.StatusOK || second.header.Get("ETag") == etag || parseAtom(t, second.body).Entries[0].IDs[0] != feed.Entries[0].IDs[0] {
		t.Errorf("corrected: %d %v\n%s", second.status, second.header, second.body)
	}
	w.announces()
	if third := w.do(http.MethodGet, path, "", "If-None-Match: "+etag); len(parseAtom(t, third.body).Entries) != 0 {
		t.Errorf("recalled: %s", third.body)
	}
}

func TestFeedsThatAreNone(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.announces()
	for _, path := range []string{
		"/feeds/", "/feeds/regions/europe", "/feeds/regions/Europe.atom", "/feeds/members/ada.atom", "/feeds/regions/europe.atom/", "/feeds/regions/a/b.atom",
	} {
		if got := w.do(http.MethodGet, path, ""); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if got := w.do(http.MethodPost, "/feeds/regions/europe.atom", ""); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") == "" {
		t.Errorf("POST: %d %v", got.status, got.header)
	}
	if n := w.called(); n != 0 {
		t.Errorf("%d calls reached a service", n)
	}
	on(w, regionalv1.FeedService_ListPublicAnnouncements_FullMethodName, func(context.Context, *regionalv1.ListPublicAnnouncementsRequest) (*regionalv1.ListPublicAnnouncementsResponse, error) {
		return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no regions/nowhere")
	})
	if got := w.do(http.MethodGet, "/feeds/regions/nowhere.atom", "", "If-None-Match: *"); got.status != http.StatusNotFound || got.header.Get("Cache-Control") != "no-store" {
		t.Errorf("nowhere: %d %v", got.status, got.header)
	}
}
