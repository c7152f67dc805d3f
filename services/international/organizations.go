package international

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// ended is the state of an organisation whose term staff ended; the others are those of members.
const ended = "ENDED"

// CreateOrganization enters an organisation, whose term starts now.
func (s *Service) CreateOrganization(ctx context.Context, req *internationalv1.CreateOrganizationRequest) (*internationalv1.Organization, error) {
	given := req.GetOrganization()
	if given.GetTermEndTime() == nil {
		return nil, rpc.Invalid(errorv1.Reason_REASON_TERM_END_INVALID, "organization.termEndTime", "is needed: a time later than now")
	}
	id := orElse(req.GetOrganizationId(), uuid.Must(uuid.NewV7()).String())
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Organization, error) {
		now := s.clock.Now()
		end, err := termEnd(given.GetTermEndTime(), "organization.termEndTime", now, nil)
		if err != nil {
			return nil, err
		}
		row, err := db.New(tx).InsertOrganization(ctx, db.InsertOrganizationParams{
			ID: id, DisplayName: given.GetDisplayName(), SeatCount: given.GetSeatCount(), Now: now, TermEnd: *end,
		})
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "organizations/%s exists", id).With("resource", "organizations/"+id)
		}
		return viewOrganization(row, 0), err
	})
}

// GetOrganization reads an organisation.
func (s *Service) GetOrganization(ctx context.Context, req *internationalv1.GetOrganizationRequest) (*internationalv1.Organization, error) {
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.Organization, error) {
		row, err := db.New(tx).ReadOrganization(ctx, idOf(req.GetName()))
		if err != nil {
			return nil, noMember(err, req.GetName())
		}
		return viewWithTaken(ctx, tx, row)
	})
}

// ListOrganizations lists organisations in the order in which they were entered.
func (s *Service) ListOrganizations(ctx context.Context, req *internationalv1.ListOrganizationsRequest) (*internationalv1.ListOrganizationsResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.ListOrganizationsResponse, error) {
		q := db.New(tx)
		rows, err := q.OrganizationsAfter(ctx, db.OrganizationsAfterParams{After: page.number(), Size: page.size + 1})
		if err != nil {
			return nil, err
		}
		rows, next := cutPage(page, rows, func(last db.Organization) string { return strconv.FormatInt(last.OrganizationNo, 10) })
		numbers := make([]int64, 0, len(rows))
		for _, row := range rows {
			numbers = append(numbers, row.OrganizationNo)
		}
		taken, err := seatsTaken(ctx, q, numbers...)
		answer := &internationalv1.ListOrganizationsResponse{NextPageToken: next}
		for _, row := range rows {
			answer.Organizations = append(answer.Organizations, viewOrganization(row, taken[row.OrganizationNo]))
		}
		return answer, err
	})
}

// UpdateOrganization changes the display name or the number of seats.
func (s *Service) UpdateOrganization(ctx context.Context, req *internationalv1.UpdateOrganizationRequest) (*internationalv1.Organization, error) {
	given := req.GetOrganization()
	return s.onOrganization(ctx, given.GetName(), given.GetEtag(), func(tx pgx.Tx, row db.Organization, now time.Time) (db.Organization, error) {
		next := &internationalv1.Organization{DisplayName: row.DisplayName, SeatCount: row.SeatCount}
		if err := rpc.Merge(next, given, req.GetUpdateMask(), "organization", "display_name", "seat_count"); err != nil {
			return row, err
		}
		taken, err := seatsTaken(ctx, db.New(tx), row.OrganizationNo)
		if err != nil {
			return row, err
		}
		if n := taken[row.OrganizationNo]; next.GetSeatCount() < n && next.GetSeatCount() < row.SeatCount {
			return row, rpc.Precondition(errorv1.Reason_REASON_SEATS_TAKEN, "%d seats of organizations/%s are taken; release %d of them first",
				n, row.ID, n-next.GetSeatCount()).With("taken", n)
		}
		return db.New(tx).UpdateOrganization(ctx, db.UpdateOrganizationParams{
			DisplayName: next.GetDisplayName(), SeatCount: next.GetSeatCount(), Now: now, OrganizationNo: row.OrganizationNo,
		})
	})
}

// RenewOrganization prolongs the running term, or starts one now and gives the seats back.
func (s *Service) RenewOrganization(ctx context.Context, req *internationalv1.RenewOrganizationRequest) (*internationalv1.Organization, error) {
	return s.onOrganization(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row db.Organization, now time.Time) (db.Organization, error) {
		start, running := now, (*time.Time)(nil)
		if row.State == active {
			start, running = row.TermStart, &row.TermEnd
		}
		end, err := termEnd(req.GetTermEndTime(), "termEndTime", now, running)
		if err != nil {
			return row, err
		}
		return s.setOrganizationTerm(ctx, tx, db.SetOrganizationTermParams{
			State: active, TermStart: start, TermEnd: *end, Now: now, OrganizationNo: row.OrganizationNo,
		}, seatRenewed)
	})
}

// EndOrganization ends the running term now. Seats stay taken, and count for nobody until it is renewed.
func (s *Service) EndOrganization(ctx context.Context, req *internationalv1.EndOrganizationRequest) (*internationalv1.Organization, error) {
	return s.onOrganization(ctx, req.GetName(), req.GetEtag(), func(tx pgx.Tx, row db.Organization, now time.Time) (db.Organization, error) {
		if row.State != active {
			return row, wrongOrganization(row, "has no term to end")
		}
		return s.setOrganizationTerm(ctx, tx, db.SetOrganizationTermParams{
			State: ended, TermStart: row.TermStart, TermEnd: now, Now: now, OrganizationNo: row.OrganizationNo,
		}, seatEnded)
	})
}

func (s *Service) setOrganizationTerm(ctx context.Context, tx pgx.Tx, term db.SetOrganizationTermParams, verb string) (db.Organization, error) {
	q := db.New(tx)
	row, err := q.SetOrganizationTerm(ctx, term)
	if err != nil {
		return row, err
	}
	holders, err := q.SeatHolders(ctx, []int64{row.OrganizationNo})
	if err != nil {
		return row, err
	}
	return row, s.reseat(ctx, tx, holders, deed{verb: verb, subject: actor(ctx, "")}, term.Now)
}

// lapseOrganizations ends a batch of terms of organisations that ran out, with all who were members by their seats.
func (s *Service) lapseOrganizations(ctx context.Context, tx pgx.Tx, size int32) (int, error) {
	q, now := db.New(tx), s.clock.Now()
	if err := q.LockSeats(ctx); err != nil {
		return 0, err
	}
	rows, err := q.LapsingOrganizations(ctx, db.LapsingOrganizationsParams{Now: now, Size: min(size, organizationBatch)})
	if err != nil || len(rows) == 0 {
		return 0, err
	}
	numbers := make([]int64, 0, len(rows))
	for _, row := range rows {
		numbers = append(numbers, row.OrganizationNo)
	}
	if err := q.LapseOrganizations(ctx, db.LapseOrganizationsParams{OrganizationNos: numbers, Now: now}); err != nil {
		return 0, err
	}
	holders, err := q.SeatHolders(ctx, numbers)
	if err != nil {
		return 0, err
	}
	return len(rows), s.reseat(ctx, tx, holders, deed{verb: seatEnded, subject: system}, now)
}

// organizationBatch bounds the organisations that lapse in one transaction: each brings all its seats.
const organizationBatch = 100

// onOrganization runs a change of one organisation. Seats are locked first, then the organisation, then members.
func (s *Service) onOrganization(ctx context.Context, name, given string, change func(pgx.Tx, db.Organization, time.Time) (db.Organization, error)) (*internationalv1.Organization, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Organization, error) {
		row, err := lockOrganization(ctx, tx, name)
		if err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, given, organizationEtag(row)); err != nil {
			return nil, err
		}
		if row, err = change(tx, row, s.clock.Now()); err != nil {
			return nil, err
		}
		return viewWithTaken(ctx, tx, row)
	})
}

func lockOrganization(ctx context.Context, tx pgx.Tx, name string) (db.Organization, error) {
	q := db.New(tx)
	if err := q.LockSeats(ctx); err != nil {
		return db.Organization{}, fmt.Errorf("lock the seats: %w", err)
	}
	row, err := q.OrganizationForUpdate(ctx, idOf(name))
	return row, noMember(err, name)
}

// seatsTaken counts the seats that are taken.
func seatsTaken(ctx context.Context, q *db.Queries, organizationNos ...int64) (map[int64]int32, error) {
	rows, err := q.SeatsTaken(ctx, organizationNos)
	taken := make(map[int64]int32, len(rows))
	for _, row := range rows {
		taken[row.OrganizationNo] = row.Taken
	}
	return taken, err
}

func wrongOrganization(row db.Organization, text string) error {
	return rpc.Precondition(errorv1.Reason_REASON_ORGANIZATION_STATE, "organizations/%s is %s and %s", row.ID, row.State, text).With("state", row.State)
}

func organizationEtag(row db.Organization) string { return strconv.FormatInt(row.Version, 10) }

func viewWithTaken(ctx context.Context, tx pgx.Tx, row db.Organization) (*internationalv1.Organization, error) {
	taken, err := seatsTaken(ctx, db.New(tx), row.OrganizationNo)
	return viewOrganization(row, taken[row.OrganizationNo]), err
}

func viewOrganization(row db.Organization, taken int32) *internationalv1.Organization {
	return &internationalv1.Organization{
		Name:          "organizations/" + row.ID,
		DisplayName:   row.DisplayName,
		SeatCount:     row.SeatCount,
		TakenCount:    taken,
		State:         internationalv1.Organization_State(internationalv1.Organization_State_value[row.State]),
		TermStartTime: timestamppb.New(row.TermStart),
		TermEndTime:   timestamppb.New(row.TermEnd),
		CreateTime:    timestamppb.New(row.CreateTime),
		UpdateTime:    timestamppb.New(row.UpdateTime),
		Etag:          organizationEtag(row),
	}
}
