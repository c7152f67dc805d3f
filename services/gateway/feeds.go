package gateway

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gorilla/feeds"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/timestamppb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// Feeds are Atom (RFC 4287) for everybody, without signing in: the newest public announcements of a region or a chapter.

const (
	feedsPath = "/feeds/"
	mediaAtom = "application/atom+xml; charset=utf-8"
	// feedCaching lets caches that many share keep a feed, and ask whether it is still so after five minutes: for as long at
	// the most a recalled announcement is read from them.
	feedCaching = "public, max-age=300"
	atomSpace   = "http://www.w3.org/2005/Atom"
)

// feedPattern matches what lies below feedsPath: the resource's name, and .atom.
var feedPattern = regexp.MustCompile(`^((regions|chapters)/[a-z]([a-z0-9-]{0,61}[a-z0-9])?)\.atom$`)

// serveFeed answers everything below /feeds/.
func (g *gateway) serveFeed(w http.ResponseWriter, r *http.Request) {
	matched := feedPattern.FindStringSubmatch(strings.TrimPrefix(r.URL.Path, feedsPath))
	if matched == nil {
		g.fail(w, r, noSuchPath())
		return
	}
	nameSpan(r, feedsPath+matched[2]+"/{id}.atom")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		g.fail(w, r, methodNotAllowed(http.MethodGet, http.MethodHead))
		return
	}
	content, err := g.feed(r, matched[1])
	if err != nil {
		g.fail(w, r, err)
		return
	}
	sum := sha256.Sum256(content)
	etag := quoted(hex.EncodeToString(sum[:16]))
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", feedCaching)
	if noneMatchNames(r.Header.Values("If-None-Match"), etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", mediaAtom)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content) //nolint:gosec // what comes from the request is escaped as XML; and the client may go
}

// feed writes the feed of a region or chapter.
func (g *gateway) feed(r *http.Request, parent string) ([]byte, error) {
	// A token would add nothing to what everybody may read.
	ctx := metadata.NewOutgoingContext(r.Context(), metadata.Pairs(rpc.RequestIDHeader, rpc.RequestID(r.Context())))
	ctx, cancel := context.WithTimeout(ctx, g.cfg.RequestTimeout)
	defer cancel()
	answer, err := g.public.ListPublicAnnouncements(ctx, &regionalv1.ListPublicAnnouncementsRequest{Parent: parent})
	if err != nil {
		return nil, err
	}
	content, err := xml.MarshalIndent(atomOf(answer, g.publicURL(r)+feedsPath+parent+".atom"), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write the feed of %s: %w", parent, err)
	}
	return append([]byte(xml.Header), content...), nil
}

// publicURL is how the world sees us: as it is set, or else as the caller does.
func (g *gateway) publicURL(r *http.Request) string {
	if g.cfg.PublicURL != "" {
		return strings.TrimSuffix(g.cfg.PublicURL, "/")
	}
	seen := url.URL{Scheme: "http", Host: r.Host}
	if r.TLS != nil {
		seen.Scheme = "https"
	}
	return seen.String()
}

func atomOf(answer *regionalv1.ListPublicAnnouncementsResponse, self string) *feeds.AtomFeed {
	feed := &feeds.AtomFeed{
		Xmlns: atomSpace, Title: "Announcements: " + answer.GetDisplayName(), Id: self, Updated: atomTime(answer.GetUpdateTime()),
		Link:   &feeds.AtomLink{Href: self, Rel: "self", Type: "application/atom+xml"},
		Author: &feeds.AtomAuthor{AtomPerson: feeds.AtomPerson{Name: answer.GetDisplayName()}},
	}
	for _, one := range answer.GetAnnouncements() {
		feed.Entries = append(feed.Entries, entryOf(one))
	}
	return feed
}

// entryOf has the same id in every feed that the announcement is in, and keeps it when it is corrected (RFC 4287, 4.2.6).
func entryOf(one *regionalv1.PublicAnnouncement) *feeds.AtomEntry {
	name := one.GetName()
	entry := &feeds.AtomEntry{
		Id: "urn:uuid:" + name[strings.LastIndexByte(name, '/')+1:], Title: one.GetSubject(),
		Published: atomTime(one.GetPublishTime()), Updated: atomTime(one.GetUpdateTime()),
		Author:  &feeds.AtomAuthor{AtomPerson: feeds.AtomPerson{Name: "The international body"}},
		Content: &feeds.AtomContent{Type: "html", Content: one.GetBodyHtml()},
	}
	if one.GetFromDisplayName() != "" {
		entry.Author.Name = one.GetFromDisplayName()
	}
	var attached strings.Builder
	for _, link := range one.GetLinks() {
		to, err := url.Parse(link.GetUrl())
		if err != nil || to.Scheme != "https" && to.Scheme != "http" {
			continue
		}
		entry.Links = append(entry.Links, feeds.AtomLink{Href: link.GetUrl(), Rel: "related"})
		fmt.Fprintf(&attached, "<li><a href=\"%s\">%s</a></li>\n", html.EscapeString(link.GetUrl()), html.EscapeString(linkTitle(link)))
	}
	if attached.Len() > 0 {
		entry.Content.Content += "<ul>\n" + attached.String() + "</ul>\n"
	}
	return entry
}

func linkTitle(link *regionalv1.PublicLink) string {
	if link.GetTitle() != "" {
		return link.GetTitle()
	}
	return link.GetUrl()
}

func atomTime(at *timestamppb.Timestamp) string { return at.AsTime().Format(time.RFC3339Nano) }
