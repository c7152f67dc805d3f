package international

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// The recorded states of a membership.
const (
	active    = "ACTIVE"
	lapsed    = "LAPSED"
	resigned  = "RESIGNED"
	suspended = "SUSPENDED"
	merged    = "MERGED"
	erased    = "ERASED"
)

// CreateMember enters a person into the register.
func (s *Service) CreateMember(ctx context.Context, req *internationalv1.CreateMemberRequest) (*internationalv1.Member, error) {
	given := req.GetMember()
	canonical, err := canonicalAll(given.GetAddresses())
	if err != nil {
		return nil, err
	}
	id := orElse(req.GetMemberId(), uuid.Must(uuid.NewV7()).String())
	return rehearsable(ctx, s, req.GetValidateOnly(), func(tx pgx.Tx) (*internationalv1.Member, error) {
		now := s.clock.Now()
		end, err := termEnd(given.GetTermEndTime(), "member.termEndTime", now, nil)
		if err != nil {
			return nil, err
		}
		row, err := db.New(tx).InsertMember(ctx, db.InsertMemberParams{ID: id, DisplayName: given.GetDisplayName(), Now: now})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "members/%s exists", id).With("resource", "members/"+id)
		}
		if err != nil {
			return nil, err
		}
		if end != nil {
			row, err = db.New(tx).StartTerm(ctx, db.StartTermParams{MemberNo: row.MemberNo, Now: now, TermEnd: *end})
			if err != nil {
				return nil, err
			}
		}
		if err := s.addAddresses(ctx, tx, row, given.GetAddresses(), canonical, now); err != nil {
			return nil, err
		}
		if err := recordDeed(ctx, tx, deed{verb: entered, subject: actor(ctx, id)}, row.MemberNo, now); err != nil {
			return nil, err
		}
		if err := s.askAllToVerify(ctx, tx, row, now); err != nil {
			return nil, err
		}
		return viewWithAddresses(ctx, db.New(tx), row)
	})
}

// GetMember reads one member.
func (s *Service) GetMember(ctx context.Context, req *internationalv1.GetMemberRequest) (*internationalv1.Member, error) {
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.Member, error) {
		row, err := db.New(tx).ReadMember(ctx, idOf(req.GetName()))
		if err != nil {
			return nil, noMember(err, req.GetName())
		}
		return viewWithAddresses(ctx, db.New(tx), row)
	})
}

// ListMembers lists members in the order in which they were entered.
func (s *Service) ListMembers(ctx context.Context, req *internationalv1.ListMembersRequest) (*internationalv1.ListMembersResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	args := db.MembersAfterParams{After: page.number(), Size: page.size + 1}
	if req.GetState() != internationalv1.Member_STATE_UNSPECIFIED {
		args.State = req.GetState().String()
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.ListMembersResponse, error) {
		q := db.New(tx)
		rows, err := q.MembersAfter(ctx, args)
		if err != nil {
			return nil, err
		}
		rows, next := cutPage(page, rows, func(last db.Member) string { return strconv.FormatInt(last.MemberNo, 10) })
		members, err := viewMembers(ctx, q, rows)
		return &internationalv1.ListMembersResponse{Members: members, NextPageToken: next}, err
	})
}

// UpdateMember changes the display name.
func (s *Service) UpdateMember(ctx context.Context, req *internationalv1.UpdateMemberRequest) (*internationalv1.Member, error) {
	given := req.GetMember()
	return s.onMember(ctx, given.GetName(), given.GetEtag(), func(tx pgx.Tx, row db.Member, now time.Time) (db.Member, error) {
		next := &internationalv1.Member{DisplayName: row.DisplayName}
		if err := rpc.Merge(next, given, req.GetUpdateMask(), "member", "display_name"); err != nil {
			return row, err
		}
		var write pipeline
		one(&write, &row, db.RenameMember, next.GetDisplayName(), now, row.MemberNo)
		deed{verb: renamed, subject: actor(ctx, row.ID)}.record(&write, now, row.MemberNo)
		return row, write.run(ctx, tx)
	})
}

// RenewMember prolongs the running term, or starts one now.
func (s *Service) RenewMember(ctx context.Context, req *internationalv1.RenewMemberRequest) (*internationalv1.Member, error) {
	return s.onMember(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row db.Member, now time.Time) (db.Member, error) {
		if row.State == suspended {
			return row, wrongState(row, "renewed")
		}
		var running *time.Time
		if row.OwnState == active {
			running = row.TermEnd
		}
		end, err := termEnd(req.GetTermEndTime(), "termEndTime", now, running)
		if err != nil {
			return row, err
		}
		var turning turns
		turning.turn(row.MemberNo, row.State, active)
		var write pipeline
		if running != nil {
			one(&write, &row, db.ProlongTerm, *end, now, row.MemberNo)
		} else {
			one(&write, &row, db.StartTerm, now, *end, row.MemberNo)
		}
		deed{verb: renewed, subject: actor(ctx, row.ID)}.record(&write, now, row.MemberNo)
		return row, s.changeStates(ctx, tx, turning, now, &write)
	})
}

// ResignMember ends the running term now. Who sits in a seat counts on by it.
func (s *Service) ResignMember(ctx context.Context, req *internationalv1.ResignMemberRequest) (*internationalv1.Member, error) {
	return s.onMember(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row db.Member, now time.Time) (db.Member, error) {
		if row.State == suspended || row.OwnState != active {
			return row, wrongState(row, "resigned: no term of its own is running")
		}
		var turning turns
		if row.SeatEnd == nil {
			turning.lose = []int64{row.MemberNo}
		}
		var write pipeline
		one(&write, &row, db.EndTerms, resigned, now, []int64{row.MemberNo})
		deed{verb: verbResigned, subject: actor(ctx, row.ID)}.record(&write, now, row.MemberNo)
		return row, s.changeStates(ctx, tx, turning, now, &write)
	})
}

// onMember runs a change of one member, whose row it locks first.
func (s *Service) onMember(ctx context.Context, name, given string, change func(pgx.Tx, db.Member, time.Time) (db.Member, error)) (*internationalv1.Member, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Member, error) {
		var read pipeline
		var row db.Member
		var addresses []db.Address
		one(&read, &row, db.MemberForUpdate, idOf(name))
		many(&read, &addresses, db.AddressesOfMember, idOf(name))
		err := read.run(ctx, tx)
		if err != nil {
			return nil, noMember(err, name)
		}
		if err := refuseGone(ctx, tx, row); err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, given, memberEtag(row)); err != nil {
			return nil, err
		}
		if row, err = change(tx, row, s.clock.Now()); err != nil {
			return nil, err
		}
		return withAddresses(viewMember(row), addresses), nil
	})
}

func withAddresses(member *internationalv1.Member, rows []db.Address) *internationalv1.Member {
	for _, row := range rows {
		member.Addresses = append(member.Addresses, viewAddress(member.GetName(), row))
	}
	return member
}

// termEnd checks when a term would end: after now, and not before the one that it prolongs. Nil when no end is given.
func termEnd(given *timestamppb.Timestamp, field string, now time.Time, running *time.Time) (*time.Time, error) {
	if given == nil {
		return nil, nil
	}
	end := given.AsTime().Truncate(time.Microsecond)
	if given.CheckValid() != nil || !end.After(now) {
		return nil, rpc.Invalid(errorv1.Reason_REASON_TERM_END_INVALID, field, "must be a time later than now")
	}
	if running != nil && end.Before(*running) {
		return nil, rpc.Invalid(errorv1.Reason_REASON_TERM_END_INVALID, field, "must not be before the end of the running term, %s", running.Format(time.RFC3339))
	}
	return &end, nil
}

func wrongState(row db.Member, verb string) error {
	return rpc.Precondition(errorv1.Reason_REASON_MEMBER_STATE, "members/%s is %s and cannot be %s", row.ID, row.State, verb).With("state", row.State)
}

func noMember(err error, name string) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s", name)
	}
	return err
}

func memberEtag(row db.Member) string { return strconv.FormatInt(row.Version, 10) }

func viewWithAddresses(ctx context.Context, q *db.Queries, row db.Member) (*internationalv1.Member, error) {
	members, err := viewMembers(ctx, q, []db.Member{row})
	if err != nil {
		return nil, err
	}
	return members[0], nil
}

func viewMembers(ctx context.Context, q *db.Queries, rows []db.Member) ([]*internationalv1.Member, error) {
	members := make([]*internationalv1.Member, len(rows))
	byNo := make(map[int64]*internationalv1.Member, len(rows))
	numbers := make([]int64, len(rows))
	for i, row := range rows {
		members[i] = viewMember(row)
		byNo[row.MemberNo] = members[i]
		numbers[i] = row.MemberNo
	}
	if err := showMerged(ctx, q, rows, members); err != nil {
		return nil, err
	}
	addresses, err := q.AddressesOf(ctx, numbers)
	if err != nil {
		return nil, err
	}
	for _, row := range addresses {
		member := byNo[row.MemberNo]
		member.Addresses = append(member.Addresses, viewAddress(member.GetName(), row))
	}
	return members, nil
}

func viewMember(row db.Member) *internationalv1.Member {
	return &internationalv1.Member{
		Name:          "members/" + row.ID,
		DisplayName:   row.DisplayName,
		State:         internationalv1.Member_State(internationalv1.Member_State_value[row.State]),
		TermStartTime: optionalTime(row.TermStart),
		TermEndTime:   optionalTime(row.TermEnd),
		CreateTime:    timestamppb.New(row.CreateTime),
		UpdateTime:    timestamppb.New(row.UpdateTime),
		Etag:          memberEtag(row),

		SuspendTime:     optionalTime(row.SuspendTime),
		SuspendReason:   row.SuspendReason,
		ActiveUntilTime: optionalTime(row.ActiveUntil),
	}
}

// showMerged says of merged records where they went.
func showMerged(ctx context.Context, q *db.Queries, rows []db.Member, members []*internationalv1.Member) error {
	var into []int64
	for _, row := range rows {
		if row.MergedInto != nil {
			into = append(into, *row.MergedInto)
		}
	}
	if len(into) == 0 {
		return nil
	}
	found, err := q.MemberIDs(ctx, into)
	if err != nil {
		return err
	}
	names := make(map[int64]string, len(found))
	for _, row := range found {
		names[row.MemberNo] = "members/" + row.ID
	}
	for i, row := range rows {
		if row.MergedInto != nil {
			members[i].MergedInto = names[*row.MergedInto]
		}
	}
	return nil
}

func optionalTime(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

// page is one page of a list on its way.
type page struct {
	sealer         *rpc.Sealer
	method, filter string
	size           int32
	after          string
}

func (s *Service) openPage(req proto.Message, size int32, token string) (page, error) {
	n, err := rpc.PageSize(size)
	if err != nil {
		return page{}, err
	}
	p := page{sealer: s.sealer, method: string(req.ProtoReflect().Descriptor().FullName()), filter: rpc.Filter(req), size: int32(n)}
	p.after, err = s.sealer.Open(p.method, p.filter, token)
	return p, err
}

// number is the cursor as a row number.
func (p page) number() int64 {
	n, _ := strconv.ParseInt(p.after, 10, 64) // sealed by us
	return n
}

// cutPage drops the row that was read to see whether there is more, and seals where the next page begins.
func cutPage[T any](p page, rows []T, cursor func(T) string) ([]T, string) {
	if len(rows) <= int(p.size) {
		return rows, ""
	}
	rows = rows[:p.size]
	return rows, p.seal(cursor(rows[len(rows)-1]))
}

// seal makes the token of the page that begins after a cursor.
func (p page) seal(cursor string) string { return p.sealer.Seal(p.method, p.filter, cursor) }
