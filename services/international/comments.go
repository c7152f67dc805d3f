package international

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// CreateCharterComment adds a comment.
func (s *Service) CreateCharterComment(ctx context.Context, req *internationalv1.CreateCharterCommentRequest) (*internationalv1.CharterComment, error) {
	given := req.GetComment()
	if given.GetVisibility() == internationalv1.CharterComment_INTERNAL {
		if err := s.mayWriteInternally(ctx, idOf(req.GetParent())); err != nil {
			return nil, err
		}
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.CharterComment, error) {
		q := db.New(tx)
		charter, err := q.CharterForUpdate(ctx, idOf(req.GetParent())) // numbers its comments
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, noCharterOf(req.GetParent())
		}
		if err != nil {
			return nil, err
		}
		row, err := q.AppendComment(ctx, db.AppendCommentParams{
			ChapterNo: charter.ChapterNo, Subject: caller(ctx), Visibility: given.GetVisibility().String(), Body: given.GetBody(), Now: s.clock.Now(),
		})
		if err != nil {
			return nil, fmt.Errorf("comment on %s: %w", req.GetParent(), err)
		}
		return viewComment(req.GetParent(), row), nil
	})
}

func (s *Service) mayWriteInternally(ctx context.Context, chapter string) error {
	acts, err := s.actsFor(ctx, db.New(s.pool), chapter)
	if err != nil {
		return err
	}
	if acts {
		return rpc.Denied(errorv1.Reason_REASON_CONFLICT_OF_INTEREST, "internal comments are not for who acts for the chapter")
	}
	if !holds(ctx, "charters.comment") {
		return rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "only staff comment internally; make it visible to the chapter").
			With("permission", "charters.comment").With("scope", authz.Federation)
	}
	return nil
}

// readsInternal says whether the caller reads what is not for the chapter.
func (s *Service) readsInternal(ctx context.Context, q *db.Queries, chapter string) (bool, error) {
	if !holds(ctx, "charters.inspect") {
		return false, nil
	}
	acts, err := s.actsFor(ctx, q, chapter)
	return !acts, err
}

// ListCharterComments lists comments, oldest first.
func (s *Service) ListCharterComments(ctx context.Context, req *internationalv1.ListCharterCommentsRequest) (*internationalv1.ListCharterCommentsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	chapter := idOf(req.GetParent())
	charter, err := q.ReadCharter(ctx, chapter)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noCharterOf(req.GetParent())
	}
	if err != nil {
		return nil, err
	}
	internal, err := s.readsInternal(ctx, q, chapter)
	if err != nil {
		return nil, err
	}
	rows, err := q.CommentsAfter(ctx, db.CommentsAfterParams{
		ChapterNo: charter.ChapterNo, After: int32(page.number()), Internal: internal, Size: page.size + 1,
	})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.CharterComment) string { return strconv.Itoa(int(last.Number)) })
	return &internationalv1.ListCharterCommentsResponse{Comments: viewComments(req.GetParent(), rows), NextPageToken: next}, nil
}

func viewComments(parent string, rows []db.CharterComment) []*internationalv1.CharterComment {
	comments := make([]*internationalv1.CharterComment, 0, len(rows))
	for _, row := range rows {
		comments = append(comments, viewComment(parent, row))
	}
	return comments
}

func viewComment(parent string, row db.CharterComment) *internationalv1.CharterComment {
	return &internationalv1.CharterComment{
		Name:       fmt.Sprintf("%s/comments/%d", parent, row.Number),
		Visibility: internationalv1.CharterComment_Visibility(internationalv1.CharterComment_Visibility_value[row.Visibility]),
		Body:       row.Body,
		Subject:    row.Subject,
		CreateTime: timestamppb.New(row.CreateTime),
	}
}
