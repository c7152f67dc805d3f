package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// The verbs of a member's history.
const (
	entered         = "ENTERED"
	renamed         = "RENAMED"
	renewed         = "RENEWED"
	verbResigned    = "RESIGNED"
	verbLapsed      = "LAPSED"
	verbSuspended   = "SUSPENDED"
	reinstated      = "REINSTATED"
	addressAdded    = "ADDRESS_ADDED"
	addressVerified = "ADDRESS_VERIFIED"
	addressRemoved  = "ADDRESS_REMOVED"
	seatTaken       = "SEAT_TAKEN"
	seatLeft        = "SEAT_LEFT"
	seatEnded       = "SEAT_ENDED"
	seatRenewed     = "SEAT_RENEWED"
	verbMerged      = "MERGED"
	mergedAway      = "MERGED_AWAY"
	imported        = "IMPORTED"
	verbErased      = "ERASED"
)

// thePerson is the subject of what members do themselves: the history outlives their names.
const thePerson = "member"

// actor is who calls, as a member's history has it.
func actor(ctx context.Context, memberID string) string {
	caller := authz.FromContext(ctx)
	scopes := caller.Scopes("addresses.add")
	if slices.Contains(scopes, "members/"+memberID) && !slices.Contains(scopes, authz.Federation) {
		return thePerson
	}
	return orElse(caller.Subject, system)
}

// deed is what a row of the history says, beside how the member stands after it.
type deed struct{ verb, subject, note string }

// record appends to the history of members, behind the change that raised their versions.
func (d deed) record(write *pipeline, now time.Time, memberNos ...int64) {
	write.exec(db.RecordHistory, d.verb, d.subject, d.note, now, memberNos)
}

// recordDeed appends to the history of one member.
func recordDeed(ctx context.Context, tx pgx.Tx, d deed, memberNo int64, now time.Time) error {
	var write pipeline
	d.record(&write, now, memberNo)
	if err := write.run(ctx, tx); err != nil {
		return fmt.Errorf("record %s: %w", d.verb, err)
	}
	return nil
}

// touch raises a member's version for a change beside its row, and records it.
func touch(ctx context.Context, tx pgx.Tx, d deed, memberNo int64, now time.Time) error {
	var write pipeline
	write.exec(db.TouchMember, now, memberNo)
	d.record(&write, now, memberNo)
	if err := write.run(ctx, tx); err != nil {
		return fmt.Errorf("record %s: %w", d.verb, err)
	}
	return nil
}

// refuseGone refuses a record that was erased, or merged into another, which the refusal names.
func refuseGone(ctx context.Context, tx pgx.Tx, row db.Member) error {
	switch row.State {
	case erased:
		return rpc.Precondition(errorv1.Reason_REASON_MEMBER_STATE, "members/%s was erased", row.ID).With("state", row.State)
	case merged:
		into, err := db.New(tx).MemberByNo(ctx, *row.MergedInto)
		if err != nil {
			return fmt.Errorf("find where members/%s went: %w", row.ID, err)
		}
		return rpc.Precondition(errorv1.Reason_REASON_MEMBER_STATE, "members/%s was merged into members/%s", row.ID, into.ID).
			With("state", row.State).With("mergedInto", "members/"+into.ID)
	}
	return nil
}

// ListTerms lists the terms of a member, the first one first.
func (s *Service) ListTerms(ctx context.Context, req *internationalv1.ListTermsRequest) (*internationalv1.ListTermsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	member, err := q.ReadMember(ctx, idOf(req.GetParent()))
	if err != nil {
		return nil, noMember(err, req.GetParent())
	}
	rows, err := q.TermsAfter(ctx, db.TermsAfterParams{MemberNo: member.MemberNo, After: page.number(), Size: page.size + 1})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.Term) string { return strconv.FormatInt(last.TermNo, 10) })
	answer := &internationalv1.ListTermsResponse{NextPageToken: next}
	for _, row := range rows {
		answer.Terms = append(answer.Terms, &internationalv1.Term{
			Name:      fmt.Sprintf("%s/terms/%d", req.GetParent(), row.TermNo),
			StartTime: timestamppb.New(row.StartTime), EndTime: timestamppb.New(row.EndTime),
			State: internationalv1.Term_State(internationalv1.Term_State_value[row.State]),
		})
	}
	return answer, nil
}

// ListMemberHistory lists what became of a member, the first change first.
func (s *Service) ListMemberHistory(ctx context.Context, req *internationalv1.ListMemberHistoryRequest) (*internationalv1.ListMemberHistoryResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	member, err := q.ReadMember(ctx, idOf(req.GetParent()))
	if err != nil {
		return nil, noMember(err, req.GetParent())
	}
	rows, err := q.MemberHistoryAfter(ctx, db.MemberHistoryAfterParams{MemberNo: member.MemberNo, After: page.number(), Size: page.size + 1})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.MemberHistory) string { return strconv.FormatInt(last.Number, 10) })
	answer := &internationalv1.ListMemberHistoryResponse{NextPageToken: next}
	for _, row := range rows {
		answer.Changes = append(answer.Changes, &internationalv1.MemberChange{
			Etag: strconv.FormatInt(row.Number, 10), Verb: row.Verb,
			State:         internationalv1.Member_State(internationalv1.Member_State_value[row.State]),
			TermEndTime:   optionalTime(row.TermEnd),
			AddressCount:  row.Addresses,
			VerifiedCount: row.Verified,
			Subject:       row.Subject,
			Note:          row.Note,
			CreateTime:    timestamppb.New(row.CreateTime),
		})
	}
	return answer, nil
}

// errRehearsed rolls a validateOnly call back after everything that could refuse it has had its say.
var errRehearsed = errors.New("rehearsed")

// rehearsable runs a change, and with validateOnly takes it back and shows what it would have made.
func rehearsable(ctx context.Context, s *Service, validateOnly bool, change func(tx pgx.Tx) (*internationalv1.Member, error)) (*internationalv1.Member, error) {
	var shown *internationalv1.Member
	answer, err := inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Member, error) {
		member, err := change(tx)
		if err == nil && validateOnly {
			shown, err = member, errRehearsed
		}
		return member, err
	})
	if errors.Is(err, errRehearsed) {
		return shown, nil
	}
	return answer, err
}
