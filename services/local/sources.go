package local

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/local/db"
)

// CountSources counts the entries of a chapter's lists by the sources that claim them, all as of one moment.
func (s *Service) CountSources(ctx context.Context, req *localv1.CountSourcesRequest) (*localv1.CountSourcesResponse, error) {
	chapter := chapterID(req.GetName())
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return postgres.InTxOptions(ctx, s.pool, options, func(tx pgx.Tx) (*localv1.CountSourcesResponse, error) {
		q := db.New(tx)
		lists, err := q.ListsOfChapter(ctx, chapter)
		if err != nil {
			return nil, fmt.Errorf("read the lists of %s: %w", req.GetName(), err)
		}
		if len(lists) == 0 { // every chapter has its members list
			return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s", req.GetName())
		}
		return countSources(ctx, q, lists)
	})
}

func countSources(ctx context.Context, q *db.Queries, lists []db.List) (*localv1.CountSourcesResponse, error) {
	answer := &localv1.CountSourcesResponse{}
	byNo := make(map[int64]*localv1.ListSources, len(lists))
	numbers := make([]int64, 0, len(lists))
	for _, list := range lists {
		of := &localv1.ListSources{
			List: listName(list.ChapterID, list.ID), Version: etag(list.Epoch, list.Version), SubscribedCount: list.Subscribed,
		}
		byNo[list.ListNo] = of
		numbers = append(numbers, list.ListNo)
		answer.Lists = append(answer.Lists, of)
	}
	sources, err := q.SourcesOfLists(ctx, numbers)
	if err != nil {
		return nil, fmt.Errorf("count sources: %w", err)
	}
	for _, row := range sources {
		of := byNo[row.ListNo]
		of.Sources = append(of.Sources, &localv1.SourceCount{Source: row.Source, Entries: row.Entries, Only: row.Alone})
	}
	several, err := q.SeverallyClaimed(ctx, numbers)
	if err != nil {
		return nil, fmt.Errorf("count sources: %w", err)
	}
	for _, row := range several {
		byNo[row.ListNo].Several = row.Entries
	}
	return answer, nil
}
