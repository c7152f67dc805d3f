package international

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// CreateSeat gives a seat to a member, or offers it to an address.
func (s *Service) CreateSeat(ctx context.Context, req *internationalv1.CreateSeatRequest) (*internationalv1.Seat, error) {
	given := req.GetSeat()
	if (given.GetMember() == "") == (given.GetAddress() == "") {
		return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "seat", "needs either a member or an address")
	}
	invited, err := s.invited(given)
	if err != nil {
		return nil, err
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Seat, error) {
		organization, err := lockOrganization(ctx, tx, req.GetParent())
		if err != nil {
			return nil, err
		}
		if err := refuseFull(ctx, tx, organization); err != nil {
			return nil, err
		}
		now := s.clock.Now()
		seat := db.InsertSeatParams{ID: uuid.Must(uuid.NewV7()).String(), OrganizationNo: organization.OrganizationNo, Now: now}
		if invited != "" {
			seat.Address, seat.DisplayName = invited, given.GetDisplayName()
			err = s.offerSeat(ctx, tx, seat)
		} else {
			err = s.giveSeat(ctx, tx, seat, given.GetMember())
		}
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "organizations/%s has a seat for this person already", organization.ID)
		}
		if err != nil {
			return nil, err
		}
		if _, err := db.New(tx).TouchOrganization(ctx, db.TouchOrganizationParams{OrganizationNo: organization.OrganizationNo, Now: now}); err != nil {
			return nil, err
		}
		return readSeat(ctx, tx, seat.ID)
	})
}

// invited is the address that a seat is offered to, empty where it goes to a member.
func (s *Service) invited(seat *internationalv1.Seat) (string, error) {
	switch {
	case seat.GetAddress() == "":
		return "", nil
	case seat.GetDisplayName() == "":
		return "", rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, "seat.displayName", "is needed with an address: whoever has it may not be a member yet")
	}
	if err := s.needMail(); err != nil {
		return "", err
	}
	return canonical(seat.GetAddress(), "seat.address")
}

// refuseFull refuses an organisation that has no seat to give.
func refuseFull(ctx context.Context, tx pgx.Tx, organization db.Organization) error {
	if organization.State != active {
		return wrongOrganization(organization, "gives no seats; renew it first")
	}
	taken, err := seatsTaken(ctx, db.New(tx), organization.OrganizationNo)
	if err != nil {
		return err
	}
	if taken[organization.OrganizationNo] >= organization.SeatCount {
		return rpc.Precondition(errorv1.Reason_REASON_NO_SEAT_FREE, "all %d seats of organizations/%s are taken", organization.SeatCount, organization.ID).
			With("seats", organization.SeatCount)
	}
	return nil
}

// offerSeat mails an address the link by which its owner takes the seat.
func (s *Service) offerSeat(ctx context.Context, tx pgx.Tx, seat db.InsertSeatParams) error {
	row, err := db.New(tx).InsertSeat(ctx, seat)
	if err != nil {
		return err
	}
	return db.New(tx).QueueSeatMail(ctx, db.QueueSeatMailParams{SeatNo: row.SeatNo, Now: seat.Now})
}

// giveSeat seats a member, who is ACTIVE through it at once.
func (s *Service) giveSeat(ctx context.Context, tx pgx.Tx, seat db.InsertSeatParams, name string) error {
	q := db.New(tx)
	member, err := q.MemberForUpdate(ctx, idOf(name))
	if errors.Is(err, pgx.ErrNoRows) {
		return noMember(err, name)
	}
	if err != nil {
		return err
	}
	if err := refuseGone(ctx, tx, member); err != nil {
		return err
	}
	seat.MemberNo, seat.HoldTime = &member.MemberNo, &seat.Now
	if _, err := q.InsertSeat(ctx, seat); err != nil {
		return err
	}
	return s.reseat(ctx, tx, []int64{member.MemberNo}, deed{verb: seatTaken, subject: actor(ctx, "")}, seat.Now)
}

// GetSeat reads a seat.
func (s *Service) GetSeat(ctx context.Context, req *internationalv1.GetSeatRequest) (*internationalv1.Seat, error) {
	row, err := findSeat(ctx, db.New(s.pool), req.GetName())
	return viewSeat(row), err
}

// ListSeats lists the seats that are taken, in the order in which they were.
func (s *Service) ListSeats(ctx context.Context, req *internationalv1.ListSeatsRequest) (*internationalv1.ListSeatsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	organization, err := q.ReadOrganization(ctx, idOf(req.GetParent()))
	if err != nil {
		return nil, noMember(err, req.GetParent())
	}
	rows, err := q.SeatsAfter(ctx, db.SeatsAfterParams{OrganizationNo: organization.OrganizationNo, After: page.number(), Size: page.size + 1})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.SeatsAfterRow) string { return strconv.FormatInt(last.Seat.SeatNo, 10) })
	answer := &internationalv1.ListSeatsResponse{NextPageToken: next}
	for _, row := range rows {
		answer.Seats = append(answer.Seats, viewSeat(db.ReadSeatRow(row)))
	}
	return answer, nil
}

// DeleteSeat releases a seat, or takes an offer back.
func (s *Service) DeleteSeat(ctx context.Context, req *internationalv1.DeleteSeatRequest) (*emptypb.Empty, error) {
	return onSeat(ctx, s, req.GetName(), func(tx pgx.Tx, row db.ReadSeatRow, now time.Time) (*emptypb.Empty, error) {
		q := db.New(tx)
		if row.Seat.MemberNo != nil {
			if _, err := q.LockMembers(ctx, []int64{*row.Seat.MemberNo}); err != nil {
				return nil, err
			}
		}
		if err := q.DeleteSeat(ctx, row.Seat.SeatNo); err != nil {
			return nil, err
		}
		if _, err := q.TouchOrganization(ctx, db.TouchOrganizationParams{OrganizationNo: row.Seat.OrganizationNo, Now: now}); err != nil {
			return nil, err
		}
		if row.Seat.MemberNo == nil {
			return &emptypb.Empty{}, nil
		}
		return &emptypb.Empty{}, s.reseat(ctx, tx, []int64{*row.Seat.MemberNo}, deed{verb: seatLeft, subject: actor(ctx, "")}, now)
	})
}

// SendInvitation mails an offer once more, unless the last mail is less than an hour old.
func (s *Service) SendInvitation(ctx context.Context, req *internationalv1.SendInvitationRequest) (*internationalv1.Seat, error) {
	if err := s.needMail(); err != nil {
		return nil, err
	}
	return onSeat(ctx, s, req.GetName(), func(tx pgx.Tx, row db.ReadSeatRow, now time.Time) (*internationalv1.Seat, error) {
		if row.Seat.MemberNo != nil {
			return nil, rpc.Precondition(errorv1.Reason_REASON_SEAT_STATE, "%s is held by a member", req.GetName()).With("state", internationalv1.Seat_HELD)
		}
		q := db.New(tx)
		mailed, err := q.SeatMailedSince(ctx, db.SeatMailedSinceParams{SeatNo: row.Seat.SeatNo, Since: now.Add(-mailEvery)})
		if err == nil && !mailed {
			err = q.QueueSeatMail(ctx, db.QueueSeatMailParams{SeatNo: row.Seat.SeatNo, Now: now})
		}
		return viewSeat(row), err
	})
}

// onSeat runs a change of a seat, with the locks in the order of onOrganization.
func onSeat[T proto.Message](ctx context.Context, s *Service, name string, change func(pgx.Tx, db.ReadSeatRow, time.Time) (T, error)) (T, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (T, error) {
		var none T
		if _, err := lockOrganization(ctx, tx, name); err != nil {
			return none, err
		}
		row, err := findSeat(ctx, db.New(tx), name)
		if err != nil {
			return none, err
		}
		return change(tx, row, s.clock.Now())
	})
}

func findSeat(ctx context.Context, q *db.Queries, name string) (db.ReadSeatRow, error) {
	organization, id := addressNames(name)
	row, err := q.ReadSeat(ctx, id)
	if err == nil && row.OrganizationID != organization {
		err = pgx.ErrNoRows
	}
	return row, noMember(err, name)
}

func readSeat(ctx context.Context, tx pgx.Tx, id string) (*internationalv1.Seat, error) {
	row, err := db.New(tx).ReadSeat(ctx, id)
	return viewSeat(row), err
}

func viewSeat(row db.ReadSeatRow) *internationalv1.Seat {
	seat := &internationalv1.Seat{
		Name:        "organizations/" + row.OrganizationID + "/seats/" + row.Seat.ID,
		State:       internationalv1.Seat_OFFERED,
		Address:     row.Seat.Address,
		DisplayName: row.Name,
		CreateTime:  timestamppb.New(row.Seat.CreateTime),
		HoldTime:    optionalTime(row.Seat.HoldTime),
	}
	if row.Seat.MemberNo != nil {
		seat.State, seat.Member = internationalv1.Seat_HELD, "members/"+row.MemberID
	}
	return seat
}

// reseat brings members in step with the seats that they hold, after those or their organisations have changed. Whoever
// counted by nothing but a seat ceases to count with it; a person with several counts once. The caller holds the seats.
func (s *Service) reseat(ctx context.Context, tx pgx.Tx, memberNos []int64, d deed, now time.Time) error {
	if len(memberNos) == 0 {
		return nil
	}
	q := db.New(tx)
	if _, err := q.LockMembers(ctx, memberNos); err != nil {
		return err
	}
	rows, err := q.SeatEnds(ctx, memberNos)
	if err != nil || len(rows) == 0 {
		return err
	}
	moved := make([]int64, 0, len(rows))
	var turning turns
	for _, row := range rows {
		moved = append(moved, row.MemberNo)
		if row.State != suspended {
			turning.turn(row.MemberNo, row.State, seatedState(row))
		}
	}
	var write pipeline
	write.exec(db.SetSeatEnds, now, moved)
	d.record(&write, now, moved...)
	return s.changeStates(ctx, tx, turning, now, &write)
}

func seatedState(row db.SeatEndsRow) string {
	if row.Seated {
		return active
	}
	return row.OwnState
}
