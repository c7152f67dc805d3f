package international

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// SuspendMember stops a membership from counting. Terms and seats run on beneath it.
func (s *Service) SuspendMember(ctx context.Context, req *internationalv1.SuspendMemberRequest) (*internationalv1.Member, error) {
	return s.onMember(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row db.Member, now time.Time) (db.Member, error) {
		if row.State == suspended {
			return row, wrongState(row, "suspended again")
		}
		var turning turns
		turning.turn(row.MemberNo, row.State, suspended)
		var write pipeline
		one(&write, &row, db.SuspendMember, now, req.GetReason(), row.MemberNo)
		deed{verbSuspended, actor(ctx, row.ID), req.GetReason()}.record(&write, now, row.MemberNo)
		return row, s.changeStates(ctx, tx, turning, now, &write)
	})
}

// ReinstateMember gives back what is left of the term, and the seats. A term that has run out lapses here and now, not
// when the job comes round: nobody counts for the half minute in between.
func (s *Service) ReinstateMember(ctx context.Context, req *internationalv1.ReinstateMemberRequest) (*internationalv1.Member, error) {
	return s.onMember(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row db.Member, now time.Time) (db.Member, error) {
		if row.State != suspended {
			return row, wrongState(row, "reinstated")
		}
		ranOut := row.OwnState == active && !row.TermEnd.After(now)
		var turning turns
		if row.SeatEnd != nil || row.OwnState == active && !ranOut {
			turning.gain = []int64{row.MemberNo}
		}
		var write pipeline
		if ranOut {
			write.exec(db.EndTerms, lapsed, now, []int64{row.MemberNo})
			deed{verb: verbLapsed, subject: system}.record(&write, now, row.MemberNo)
		}
		one(&write, &row, db.ReinstateMember, now, row.MemberNo)
		deed{reinstated, actor(ctx, row.ID), req.GetReason()}.record(&write, now, row.MemberNo)
		return row, s.changeStates(ctx, tx, turning, now, &write)
	})
}
