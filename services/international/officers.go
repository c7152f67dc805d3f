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
func setOfficers(ctx context.Context, tx pgx.Tx, chapterNo int64, officers []*eventv1.ChapterOfficer) error {
	args := db.SetOfficersParams{
		ChapterNo: chapterNo, SubjectTokens: make([][]byte, 0, len(officers)),
		TermStarts: make([]time.Time, 0, len(officers)), TermEnds: make([]time.Time, 0, len(officers)),
	}
	for _, officer := range officers {
		args.SubjectTokens = append(args.SubjectTokens, append([]byte{}, officer.GetSubjectToken()...))
		args.TermStarts = append(args.TermStarts, officer.GetTermStartTime().AsTime())
		args.TermEnds = append(args.TermEnds, officer.GetTermEndTime().AsTime())
	}
	if err := db.New(tx).SetOfficers(ctx, args); err != nil {
		return fmt.Errorf("set the officers: %w", err)
	}
	return nil
}

// actsFor says whether somebody acts for a chapter: as its admin, or as an officer whose term runs.
func (s *Service) actsFor(ctx context.Context, tx pgx.Tx, who authz.Principal, chapterNo int64, chapter string) (bool, error) {
	if slices.Contains(who.Scopes("charters.apply"), "chapters/"+chapter) {
		return true, nil
	}
	args := db.IsOfficerParams{ChapterNo: chapterNo, Now: s.clock.Now()}
	for _, site := range s.sites { // a handful
		args.SiteNos = append(args.SiteNos, site.no)
		args.SubjectTokens = append(args.SubjectTokens, site.key.SubjectToken(who.Subject))
	}
	return db.New(tx).IsOfficer(ctx, args)
}
