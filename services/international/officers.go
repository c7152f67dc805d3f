package international

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// setOfficers keeps the terms of a chapter's officers, and the tokens of those who sign in.
func (s *Service) setOfficers(ctx context.Context, tx pgx.Tx, chapterNo int64, officers []*eventv1.ChapterOfficer) error {
	args := db.SetOfficersParams{
		ChapterNo: chapterNo, SubjectTokens: make([][]byte, 0, len(officers)),
		TermStarts: make([]time.Time, 0, len(officers)), TermEnds: make([]time.Time, 0, len(officers)),
	}
	for _, officer := range officers {
		args.SubjectTokens = append(args.SubjectTokens, append([]byte{}, officer.GetSubjectToken()...))
		args.TermStarts = append(args.TermStarts, officer.GetTermStartTime().AsTime())
		args.TermEnds = append(args.TermEnds, officer.GetTermEndTime().AsTime())
	}
	q := db.New(tx)
	if err := q.SetOfficers(ctx, args); err != nil {
		return fmt.Errorf("set the officers: %w", err)
	}
	return q.CountOfficers(ctx, db.CountOfficersParams{ChapterNo: chapterNo, Now: s.clock.Now()})
}

// actsFor says whether the caller acts for a chapter, and so decides nothing about it: as its admin, or as an officer whose
// term runs.
func (s *Service) actsFor(ctx context.Context, q *db.Queries, chapter string) (bool, error) {
	who := authz.FromContext(ctx)
	if slices.Contains(who.Scopes("charters.apply"), "chapters/"+chapter) {
		return true, nil
	}
	args := db.IsOfficerParams{Chapter: chapter, Now: s.clock.Now()}
	for _, site := range s.sites { // a handful
		args.SiteNos = append(args.SiteNos, site.no)
		args.SubjectTokens = append(args.SubjectTokens, site.key.SubjectToken(who.Subject))
	}
	acts, err := q.IsOfficer(ctx, args)
	if err != nil {
		return false, fmt.Errorf("look for the caller among the officers: %w", err)
	}
	return acts, nil
}
