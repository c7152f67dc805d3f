package international

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/markdown"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// regionTree is the copy of the regions, by id.
type regionTree map[string]db.Region

func readTree(ctx context.Context, q *db.Queries) (regionTree, error) {
	rows, err := q.AllRegions(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the regions: %w", err)
	}
	tree := make(regionTree, len(rows))
	for _, row := range rows {
		tree[row.ID] = row
	}
	return tree, nil
}

// path holds a region and those above it. A copy may be half-way through a move and hold a circle, which ends the walk.
func (t regionTree) path(id string) []string {
	var path []string
	for {
		region, known := t[id]
		if !known || slices.Contains(path, id) {
			return path
		}
		path = append(path, id)
		if region.Parent == nil {
			return path
		}
		id = *region.Parent
	}
}

// reached are the regions that an audience touches, the way to it included, and those of them that lie inside; both sorted.
// An empty audience is everybody.
func (t regionTree) reached(audience []string) (touched, inside []string) {
	onWay := map[string]bool{}
	for _, id := range audience {
		for _, above := range t.path(id) {
			onWay[above] = true
		}
	}
	for id := range t {
		in := len(audience) == 0 || slices.ContainsFunc(t.path(id), func(above string) bool { return slices.Contains(audience, above) })
		if in {
			inside = append(inside, id)
		}
		if in || onWay[id] {
			touched = append(touched, id)
		}
	}
	slices.Sort(touched)
	slices.Sort(inside)
	return touched, inside
}

func regionIDs(names []string) []string {
	ids := make([]string, 0, len(names))
	for _, name := range names {
		ids = append(ids, strings.TrimPrefix(name, "regions/"))
	}
	return ids
}

// refuseUnknownRegions finds a misspelt audience before it is sent to nobody.
func refuseUnknownRegions(ctx context.Context, tx pgx.Tx, row db.Announcement) error {
	content, err := decodeContent(row)
	if err != nil {
		return err
	}
	tree, err := readTree(ctx, db.New(tx))
	if err != nil {
		return err
	}
	if unknown := tree.unknown(content.GetAudience().GetRegions()); len(unknown) > 0 {
		return rpc.Precondition(errorv1.Reason_REASON_AUDIENCE_UNKNOWN, "%s of the audience is not known here; one that was made just now is in a moment", unknown[0]).
			With("region", unknown[0])
	}
	return nil
}

func (t regionTree) unknown(names []string) []string {
	var unknown []string
	for _, name := range names {
		if _, known := t[strings.TrimPrefix(name, "regions/")]; !known {
			unknown = append(unknown, name)
		}
	}
	return unknown
}

// PreviewAnnouncement shows whom an announcement would reach as things stand, and how it will look.
func (s *Service) PreviewAnnouncement(ctx context.Context, req *internationalv1.PreviewAnnouncementRequest) (*internationalv1.AnnouncementPreview, error) {
	id, err := announcementID(req.GetName())
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.AnnouncementPreview, error) {
		q := db.New(tx)
		row, err := q.ReadAnnouncement(ctx, id)
		if err != nil {
			return nil, noAnnouncement(err, req.GetName())
		}
		content, err := decodeContent(row)
		if err != nil {
			return nil, err
		}
		preview, err := previewAudience(ctx, q, content.GetAudience())
		if err != nil {
			return nil, err
		}
		preview.Name = announcementName(id)
		preview.Texts, err = renderTexts(row, content)
		return preview, err
	})
}

func previewAudience(ctx context.Context, q *db.Queries, audience *internationalv1.Audience) (*internationalv1.AnnouncementPreview, error) {
	tree, err := readTree(ctx, q)
	if err != nil {
		return nil, err
	}
	touched, inside := tree.reached(regionIDs(audience.GetRegions()))
	counts, err := q.AudienceByRegion(ctx, db.AudienceByRegionParams{
		Regions: append([]string{}, inside...), CharterStates: charterStateNames(audience), Languages: append([]string{}, audience.GetLanguages()...),
	})
	if err != nil {
		return nil, fmt.Errorf("count the audience: %w", err)
	}
	preview := &internationalv1.AnnouncementPreview{
		Regions: int32(len(touched)), UnknownRegions: tree.unknown(audience.GetRegions()),
	}
	byRegion := map[string]*internationalv1.RegionPreview{}
	for _, region := range touched {
		one := &internationalv1.RegionPreview{Region: "regions/" + region, DisplayName: tree[region].DisplayName}
		byRegion[region], preview.ByRegion = one, append(preview.ByRegion, one)
	}
	for _, count := range counts {
		byRegion[count.Region].Chapters, byRegion[count.Region].PeopleEstimate = count.Chapters, count.People
		preview.Chapters += count.Chapters
		preview.PeopleEstimate += count.People
	}
	return preview, nil
}

// renderTexts shows the announcement in each of its languages as people will see it.
func renderTexts(row db.Announcement, content *internationalv1.Announcement) ([]*internationalv1.RenderedText, error) {
	texts := append([]*internationalv1.Translation{{Language: row.Language, Subject: row.Subject, Body: content.GetBody()}}, content.GetTranslations()...)
	rendered := make([]*internationalv1.RenderedText, 0, len(texts))
	for _, one := range texts {
		html, err := markdown.HTML(one.GetBody())
		if err != nil {
			return nil, err
		}
		rendered = append(rendered, &internationalv1.RenderedText{
			Language: one.GetLanguage(), Subject: one.GetSubject(), Html: html, Text: markdown.Text(one.GetBody()),
		})
	}
	return rendered, nil
}
