package international

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// MergeMember makes two records of one person one. Two people become one in every standing that holds both.
func (s *Service) MergeMember(ctx context.Context, req *internationalv1.MergeMemberRequest) (*internationalv1.Member, error) {
	if req.GetFrom() == req.GetName() {
		return nil, notMergeable("is the same record")
	}
	return rehearsable(ctx, s, req.GetValidateOnly(), func(tx pgx.Tx) (*internationalv1.Member, error) {
		q, now := db.New(tx), s.clock.Now()
		if err := q.LockSeats(ctx); err != nil {
			return nil, err
		}
		into, from, err := lockPair(ctx, q, req.GetName(), req.GetFrom())
		if err != nil {
			return nil, err
		}
		if err := refuseGone(ctx, tx, into); err != nil {
			return nil, err
		}
		if from.State == merged || from.State == erased {
			return nil, notMergeable("is " + from.State)
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), memberEtag(into)); err != nil {
			return nil, err
		}
		if err := s.merge(ctx, tx, into, from, now); err != nil {
			return nil, fmt.Errorf("merge members/%s into members/%s: %w", from.ID, into.ID, err)
		}
		row, err := q.MemberByNo(ctx, into.MemberNo)
		if err != nil {
			return nil, err
		}
		return viewWithAddresses(ctx, q, row)
	})
}

func notMergeable(why string) error {
	return rpc.Precondition(errorv1.Reason_REASON_MERGE_INVALID, "the record to merge %s", why).Field("from", why)
}

// lockPair locks two members, the lower number first.
func lockPair(ctx context.Context, q *db.Queries, intoName, fromName string) (into, from db.Member, err error) {
	rows, err := q.MembersForUpdate(ctx, []string{idOf(intoName), idOf(fromName)})
	if err != nil {
		return into, from, err
	}
	found := map[string]db.Member{}
	for _, row := range rows {
		found["members/"+row.ID] = row
	}
	for _, name := range []string{intoName, fromName} {
		if _, known := found[name]; !known {
			return into, from, noMember(pgx.ErrNoRows, name)
		}
	}
	return found[intoName], found[fromName], nil
}

// merge moves what is the one's to the other. The people behind the tokens of both are counted before and after, so
// whatever the merge does to them and to the state, the standings follow.
func (s *Service) merge(ctx context.Context, tx pgx.Tx, into, from db.Member, now time.Time) error {
	numbers := []int64{into.MemberNo, from.MemberNo}
	term, given := mergedTerm(into, from)
	term.Now = now
	by := actor(ctx, "")
	return s.changeTokens(ctx, tx, numbers, nil, now, func(write *pipeline) {
		write.exec(db.DropSharedAddresses, from.MemberNo, into.MemberNo)
		write.exec(db.MoveAddresses, into.MemberNo, from.MemberNo)
		write.exec(db.MoveTokens, into.MemberNo, from.MemberNo)
		if into.OwnState == active && from.OwnState == active {
			write.exec(db.EndTerm, now, given)
		}
		write.exec(db.MoveTerms, into.MemberNo, from.MemberNo)
		write.exec(db.DropSharedSeats, from.MemberNo, into.MemberNo)
		write.exec(db.MoveSeats, into.MemberNo, from.MemberNo)
		write.exec(db.MoveMerged, into.MemberNo, from.MemberNo)
		write.exec(db.MergeAway, into.MemberNo, now, from.MemberNo)
		write.exec(db.MergeInto, term.OwnState, term.TermStart, term.TermEnd, term.SuspendTime, term.SuspendReason, now, into.MemberNo)
		write.exec(db.SetSeatEnds, now, numbers[:1])
		deed{verb: mergedAway, subject: by}.record(write, now, from.MemberNo)
		deed{verb: verbMerged, subject: by}.record(write, now, into.MemberNo)
	})
}

// mergedTerm is the term and the suspension that two records leave to one: of two running terms the one that ends later,
// else the running one, else the last. A suspension survives: a second record is no way out of it. given is the member
// whose running term ends.
func mergedTerm(into, from db.Member) (term db.MergeIntoParams, given int64) {
	kept, other := into, from
	if from.OwnState == active && (into.OwnState != active || from.TermEnd.After(*into.TermEnd)) ||
		from.OwnState != active && into.OwnState != active && into.TermEnd == nil {
		kept, other = from, into
	}
	term = db.MergeIntoParams{OwnState: kept.OwnState, TermStart: kept.TermStart, TermEnd: kept.TermEnd}
	for _, row := range []db.Member{from, into} {
		if row.SuspendTime != nil {
			term.SuspendTime, term.SuspendReason = row.SuspendTime, row.SuspendReason
		}
	}
	return term, other.MemberNo
}
