package regional

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/markdown"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

const (
	// maxPublic is the most public announcements on a page: everybody can ask for them, with their whole texts.
	maxPublic = 50
	// maxFeedBytes is where a page ends earlier: an answer has 4 MiB at the most, and one announcement 64 KiB of Markdown.
	maxFeedBytes = 2 << 20
)

// publicForward is a public announcement with when it was forwarded.
type publicForward = db.PublicOfRegionRow

// ListPublicAnnouncements lists what a region has forwarded, or its region to a chapter.
func (s *Service) ListPublicAnnouncements(ctx context.Context, req *regionalv1.ListPublicAnnouncementsRequest) (*regionalv1.ListPublicAnnouncementsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	page.size = min(page.size, maxPublic)
	place, err := readForwardPlace(page.after)
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(q *db.Queries) (*regionalv1.ListPublicAnnouncementsResponse, error) {
		read := publicOfRegion
		if strings.HasPrefix(req.GetParent(), "chapters/") {
			read = publicOfChapter
		}
		answer, rows, err := read(ctx, q, req.GetParent(), place, page.fetch())
		if err != nil {
			return nil, orNotFound(err, req.GetParent())
		}
		shown, rows, err := fitting(rows, page.size)
		if err != nil {
			return nil, err
		}
		page.size = len(shown)
		_, answer.NextPageToken = cut(page, rows, func(r publicForward) string { return forwardPlace{r.ForwardTime, r.Announcement.ID}.String() })
		answer.Announcements = shown
		return answer, nil
	})
}

// forwardPlace is where a page ended.
type forwardPlace struct {
	time time.Time
	id   uuid.UUID
}

func (p forwardPlace) String() string {
	return p.time.UTC().Format(time.RFC3339Nano) + " " + p.id.String()
}

// readForwardPlace is after everything on the first page.
func readForwardPlace(text string) (forwardPlace, error) {
	if text == "" {
		return forwardPlace{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), uuid.Max}, nil
	}
	at, id, _ := strings.Cut(text, " ")
	when, failed := time.Parse(time.RFC3339Nano, at)
	which, err := uuid.Parse(id)
	return forwardPlace{when, which}, errors.Join(failed, err) // sealed by us
}

func publicOfRegion(ctx context.Context, q *db.Queries, name string, before forwardPlace, size int32) (*regionalv1.ListPublicAnnouncementsResponse, []publicForward, error) {
	region, err := q.Region(ctx, regionID(name))
	if err != nil {
		return nil, nil, err
	}
	answer := &regionalv1.ListPublicAnnouncementsResponse{DisplayName: region.DisplayName}
	if answer.UpdateTime, err = publicChangeTime(ctx, q, region.ID, region.CreateTime); err != nil {
		return nil, nil, err
	}
	rows, err := q.PublicOfRegion(ctx, db.PublicOfRegionParams{RegionID: region.ID, BeforeTime: before.time, BeforeID: before.id, Size: size})
	return answer, rows, err
}

func publicOfChapter(ctx context.Context, q *db.Queries, name string, before forwardPlace, size int32) (*regionalv1.ListPublicAnnouncementsResponse, []publicForward, error) {
	id := chapterID(name)
	chapter, err := q.ChapterOfFeed(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	answer := &regionalv1.ListPublicAnnouncementsResponse{DisplayName: chapter.DisplayName}
	if answer.UpdateTime, err = publicChangeTime(ctx, q, chapter.RegionID, chapter.FromTime); err != nil {
		return nil, nil, err
	}
	found, err := q.PublicOfChapter(ctx, db.PublicOfChapterParams{ChapterID: id, BeforeTime: before.time, BeforeID: before.id, Size: size})
	rows := make([]publicForward, 0, len(found))
	for _, row := range found {
		rows = append(rows, publicForward(row))
	}
	return answer, rows, err
}

// publicChangeTime is when what a region has forwarded in public changed last, since a time.
func publicChangeTime(ctx context.Context, q *db.Queries, region string, since time.Time) (*timestamppb.Timestamp, error) {
	changed, err := q.PublicChangeTime(ctx, db.PublicChangeTimeParams{RegionID: region, Since: since})
	return timestamppb.New(changed), err
}

// fitting shows as many as fit into an answer, at least one, and keeps one row more where there is one.
func fitting(rows []publicForward, size int) ([]*regionalv1.PublicAnnouncement, []publicForward, error) {
	var shown []*regionalv1.PublicAnnouncement
	bytes := 0
	for _, row := range rows {
		if len(shown) == size {
			break
		}
		one, err := viewPublic(row)
		if err != nil {
			return nil, nil, err
		}
		bytes += proto.Size(one)
		if bytes > maxFeedBytes && len(shown) > 0 {
			break
		}
		shown = append(shown, one)
	}
	return shown, rows[:min(len(rows), len(shown)+1)], nil
}

func viewPublic(row publicForward) (*regionalv1.PublicAnnouncement, error) {
	a, err := readAnnouncement(row.Announcement, nil)
	if err != nil {
		return nil, err
	}
	rendered, err := markdown.HTML(a.said.GetBody())
	if err != nil {
		return nil, fmt.Errorf("render an announcement: %w", err)
	}
	view := &regionalv1.PublicAnnouncement{
		Name: a.said.GetAnnouncement(), From: "international",
		Subject: a.said.GetSubject(), Body: a.said.GetBody(), BodyHtml: rendered, Language: a.said.GetLanguage(), Edition: a.Edition,
		PublishTime: a.said.GetPublishTime(), ForwardTime: timestamppb.New(row.ForwardTime), UpdateTime: timestamppb.New(row.ForwardTime),
	}
	if a.RegionID != nil {
		view.From, view.FromDisplayName = regionName(*a.RegionID), row.FromDisplayName
	}
	if a.Edition > 1 && a.UpdateTime.After(row.ForwardTime) {
		view.UpdateTime = timestamppb.New(a.UpdateTime)
	}
	for _, link := range a.said.GetLinks() {
		view.Links = append(view.Links, &regionalv1.PublicLink{Title: link.GetTitle(), Url: link.GetUrl()})
	}
	return view, nil
}
