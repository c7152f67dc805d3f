package local

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// CreateChapter founds a chapter in a region, with its members list.
func (s *Service) CreateChapter(ctx context.Context, req *localv1.CreateChapterRequest) (*localv1.Chapter, error) {
	given := req.GetChapter()
	if err := printableChapter(given); err != nil {
		return nil, err
	}
	if err := s.knowRegion(ctx, regionID(given.GetRegion())); err != nil {
		return nil, err
	}
	if req.GetValidateOnly() {
		return s.rehearseChapter(ctx, req)
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Chapter, error) {
		q := db.New(tx)
		args := s.newChapter(req)
		chapter, err := q.InsertChapter(ctx, args)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, alreadyExists(chapterName(args.ID))
		}
		if err != nil {
			return nil, err
		}
		members, err := q.InsertList(ctx, db.InsertListParams{
			ChapterID: chapter.ID, ID: membersID, DisplayName: "Members", GuardPercent: guardPercent, GuardEntries: guardEntries,
			AnnouncementMode: announcementMode(nil), Epoch: args.Epoch, Now: args.Now,
		})
		if err != nil {
			return nil, err
		}
		return viewChapter(chapter), errors.Join(s.tellChapters(ctx, tx, chapter), bus.Append(ctx, tx, listChanged(members)))
	})
}

func (s *Service) newChapter(req *localv1.CreateChapterRequest) db.InsertChapterParams {
	given, now := req.GetChapter(), s.clock.Now()
	return db.InsertChapterParams{
		ID:           req.GetChapterId(),
		DisplayName:  given.GetDisplayName(),
		Region:       regionID(given.GetRegion()),
		City:         given.GetCity(),
		CountryCode:  given.GetCountryCode(),
		Latitude:     given.GetLatitude(),
		Longitude:    given.GetLongitude(),
		Url:          given.GetUrl(),
		LanguageCode: given.GetLanguageCode(),
		Epoch:        now.UnixMicro(),
		Now:          now,
	}
}

// rehearseChapter answers what CreateChapter would, and changes nothing.
func (s *Service) rehearseChapter(ctx context.Context, req *localv1.CreateChapterRequest) (*localv1.Chapter, error) {
	_, err := db.New(s.pool).Chapter(ctx, req.GetChapterId())
	if err == nil {
		return nil, alreadyExists(chapterName(req.GetChapterId()))
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return nil, err
	}
	rehearsed, _ := proto.Clone(req.GetChapter()).(*localv1.Chapter)
	rehearsed.Name = chapterName(req.GetChapterId())
	return rehearsed, nil
}

func printableChapter(c *localv1.Chapter) error {
	return errors.Join(
		printable("chapter.displayName", c.GetDisplayName()),
		printable("chapter.city", c.GetCity()),
		printable("chapter.url", c.GetUrl()),
	)
}

// GetChapter reads a chapter.
func (s *Service) GetChapter(ctx context.Context, req *localv1.GetChapterRequest) (*localv1.Chapter, error) {
	chapter, err := db.New(s.pool).Chapter(ctx, chapterID(req.GetName()))
	if err != nil {
		return nil, orNotFound(err, req.GetName())
	}
	return viewChapter(chapter), nil
}

// ListChapters lists chapters by id.
func (s *Service) ListChapters(ctx context.Context, req *localv1.ListChaptersRequest) (*localv1.ListChaptersResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	rows, err := db.New(s.pool).ChaptersAfter(ctx, db.ChaptersAfterParams{
		After: page.after, Region: regionID(req.GetRegion()), Size: page.fetch(),
	})
	if err != nil {
		return nil, err
	}
	answer := &localv1.ListChaptersResponse{}
	rows, answer.NextPageToken = cut(page, rows, func(c db.Chapter) string { return c.ID })
	for _, row := range rows {
		answer.Chapters = append(answer.Chapters, viewChapter(row))
	}
	return answer, nil
}

// UpdateChapter changes what the mask names. What is the same as before changes nothing, not even the etag.
func (s *Service) UpdateChapter(ctx context.Context, req *localv1.UpdateChapterRequest) (*localv1.Chapter, error) {
	name := req.GetChapter().GetName()
	return inTx(ctx, s, func(tx pgx.Tx) (*localv1.Chapter, error) {
		q := db.New(tx)
		before, err := q.ChapterForUpdate(ctx, chapterID(name))
		if err != nil {
			return nil, orNotFound(err, name)
		}
		if err := rpc.CheckEtags(ctx, req.GetChapter().GetEtag(), etag(before.Epoch, before.Version)); err != nil {
			return nil, err
		}
		merged := viewChapter(before)
		if err := rpc.Merge(merged, req.GetChapter(), req.GetUpdateMask(), "chapter",
			"display_name", "city", "country_code", "latitude", "longitude", "url", "language_code"); err != nil {
			return nil, err
		}
		if err := printableChapter(merged); err != nil {
			return nil, err
		}
		if proto.Equal(merged, viewChapter(before)) {
			return merged, nil
		}
		after, err := q.UpdateChapter(ctx, db.UpdateChapterParams{
			ID: before.ID, DisplayName: merged.GetDisplayName(), City: merged.GetCity(), CountryCode: merged.GetCountryCode(),
			Latitude: merged.GetLatitude(), Longitude: merged.GetLongitude(), Url: merged.GetUrl(), LanguageCode: merged.GetLanguageCode(), Now: s.clock.Now(),
		})
		if err != nil {
			return nil, err
		}
		return viewChapter(after), s.tellChapters(ctx, tx, after)
	})
}

func viewChapter(c db.Chapter) *localv1.Chapter {
	return &localv1.Chapter{
		Name:         chapterName(c.ID),
		DisplayName:  c.DisplayName,
		Region:       regionName(c.Region),
		City:         c.City,
		CountryCode:  c.CountryCode,
		Latitude:     c.Latitude,
		Longitude:    c.Longitude,
		Url:          c.Url,
		LanguageCode: c.LanguageCode,
		CreateTime:   timestamppb.New(c.CreateTime),
		UpdateTime:   timestamppb.New(c.UpdateTime),
		Etag:         etag(c.Epoch, c.Version),
	}
}
