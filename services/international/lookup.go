package international

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// knowChapter makes sure that a chapter has a standing here. One whose event is still on its way is asked for at its
// site, once; a site that cannot be reached is an outage, never a chapter that does not exist.
func (s *Service) knowChapter(ctx context.Context, id string) error {
	_, err := db.New(s.pool).ReadChapter(ctx, id)
	if err == nil || !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	var unreachable error
	for _, site := range s.sites {
		client := s.chapters[site.name]
		if client == nil {
			continue
		}
		chapter, err := s.askSite(ctx, client, id)
		if status.Code(err) == codes.NotFound {
			continue
		}
		if err != nil {
			unreachable = err
			continue
		}
		return s.learnChapter(ctx, site.no, chapter)
	}
	if unreachable != nil {
		return rpc.Unavailable(errorv1.Reason_REASON_TIER_UNAVAILABLE,
			"chapters/%s is not known here yet and its site cannot be asked now", id).Because(unreachable)
	}
	return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no chapters/%s", id)
}

func (s *Service) askSite(ctx context.Context, client localv1.ChapterServiceClient, id string) (*localv1.Chapter, error) {
	ctx, cancel := context.WithTimeout(ctx, s.config.LookupTimeout)
	defer cancel()
	return client.GetChapter(ctx, &localv1.GetChapterRequest{Name: "chapters/" + id})
}

// learnChapter does what the chapter's own event will do, unless that has come meanwhile, and perhaps newer ones.
func (s *Service) learnChapter(ctx context.Context, siteNo int16, chapter *localv1.Chapter) error {
	_, err := postgres.InTx(ctx, s.pool, func(tx pgx.Tx) (struct{}, error) {
		_, err := db.New(tx).ReadChapter(ctx, idOf(chapter.GetName()))
		if !errors.Is(err, pgx.ErrNoRows) {
			return struct{}{}, err
		}
		return struct{}{}, s.putChapter(ctx, tx, siteNo, &eventv1.ChapterChanged{
			Chapter:      chapter.GetName(),
			DisplayName:  chapter.GetDisplayName(),
			Region:       chapter.GetRegion(),
			City:         chapter.GetCity(),
			CountryCode:  chapter.GetCountryCode(),
			LanguageCode: chapter.GetLanguageCode(),
			Latitude:     chapter.GetLatitude(),
			Longitude:    chapter.GetLongitude(),
			CreateTime:   timestamppb.New(s.clock.Now()),
		})
	})
	if err == nil {
		s.publisher.Wake()
	}
	return err
}

// ignoreUnknown turns a chapter that does not exist into no error: to the authoriser it is one that nobody has rights on.
func ignoreUnknown(err error) error {
	if rpc.Is(err, errorv1.Reason_REASON_NOT_FOUND) {
		return nil
	}
	return err
}

func collection(name string) string {
	first, _, _ := strings.Cut(name, "/")
	return first
}
