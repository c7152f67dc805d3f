package international

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/erasure"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// The parts of the ledger.
const (
	partInternational = "international"
	partRegional      = bus.Regional + "/" + bus.MainSite
)

func partOfSite(site string) string { return bus.Local + "/" + site }

// EraseMember forgets a person here, and tells every other tier and site to. Erasing again answers the same erasure.
func (s *Service) EraseMember(ctx context.Context, req *internationalv1.EraseMemberRequest) (*internationalv1.Erasure, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Erasure, error) {
		q := db.New(tx)
		member, err := lockToErase(ctx, tx, idOf(req.GetName()))
		if err != nil {
			return nil, noMember(err, req.GetName())
		}
		if member.State == erased {
			done, err := q.ErasureOfMember(ctx, member.MemberNo)
			if err != nil {
				return nil, err
			}
			return viewErasure(ctx, q, db.ReadErasureRow(done))
		}
		if err := refuseGone(ctx, tx, member); err != nil {
			return nil, err
		}
		if err := rpc.CheckEtags(ctx, req.GetEtag(), memberEtag(member)); err != nil {
			return nil, err
		}
		order := erasureOrder{
			id: uuid.Must(uuid.NewV7()).String(), member: member, subject: actor(ctx, member.ID), signIn: req.GetSignInSubject(),
		}
		row, err := s.erase(ctx, tx, order, s.clock.Now())
		if err != nil {
			return nil, fmt.Errorf("erase %s: %w", req.GetName(), err)
		}
		return viewErasure(ctx, q, db.ReadErasureRow{Erasure: row, MemberID: member.ID})
	})
}

// lockToErase locks a member's row, behind the seats.
func lockToErase(ctx context.Context, tx pgx.Tx, id string) (db.Member, error) {
	q := db.New(tx)
	if err := q.LockSeats(ctx); err != nil {
		return db.Member{}, err
	}
	return q.MemberForUpdate(ctx, id)
}

// erasureOrder is what is to be done: whom to forget, by whose order.
type erasureOrder struct {
	id      string
	member  db.Member
	subject string
	// signIn is the subject under which the person signs in, where somebody said.
	signIn string
}

// erase leaves figures and states of a member, and asks all others for the same. The caller holds the seats and the row.
func (s *Service) erase(ctx context.Context, tx pgx.Tx, order erasureOrder, now time.Time) (db.Erasure, error) {
	q, memberNo := db.New(tx), order.member.MemberNo
	rows, err := q.AddressesOf(ctx, []int64{memberNo})
	if err != nil {
		return db.Erasure{}, err
	}
	addresses := make([]string, 0, len(rows))
	for _, row := range rows {
		addresses = append(addresses, row.Address)
	}
	records, err := q.MergedMembers(ctx, memberNo)
	if err != nil {
		return db.Erasure{}, err
	}
	records = append(records, memberNo)
	err = s.changeTokens(ctx, tx, []int64{memberNo}, nil, now, func(write *pipeline) {
		write.exec(db.CancelImportsWith, addresses, memberNo)
		write.exec(db.EraseImportRows, addresses, memberNo)
		write.exec(db.DeleteSeatsOf, memberNo, addresses)
		write.exec(db.DeleteAddresses, memberNo)
		write.exec(db.EraseTerms, now, memberNo)
		write.exec(db.EraseMember, now, memberNo)
		deed{verb: verbErased, subject: order.subject}.record(write, now, memberNo)
		write.exec(db.EraseNotes, records)
	})
	if err != nil {
		return db.Erasure{}, err
	}
	for _, text := range append(addresses, "members/"+order.member.ID) {
		if err := rpc.ForgetAnswers(ctx, tx, text); err != nil {
			return db.Erasure{}, fmt.Errorf("forget answers: %w", err)
		}
	}
	return s.orderErasure(ctx, tx, order, addresses, now)
}

// orderErasure enters the erasure into the ledger and tells all others.
func (s *Service) orderErasure(ctx context.Context, tx pgx.Tx, order erasureOrder, addresses []string, now time.Time) (db.Erasure, error) {
	q := db.New(tx)
	salt, digest := erasure.HashSignIn(order.signIn)
	row, err := q.InsertErasure(ctx, db.InsertErasureParams{
		ID: order.id, MemberNo: order.member.MemberNo, Subject: order.subject, SignInSalt: salt, SignInDigest: digest, Now: now,
	})
	if err != nil {
		return row, err
	}
	parts := []db.InsertErasurePartParams{{ErasureNo: row.ErasureNo, Part: partRegional, Tokens: [][]byte{}}}
	for _, site := range s.sites {
		part := db.InsertErasurePartParams{ErasureNo: row.ErasureNo, Part: partOfSite(site.name), Tokens: [][]byte{}}
		for _, address := range addresses {
			token := site.key.Token(address)
			part.Tokens = append(part.Tokens, token[:])
		}
		parts = append(parts, part)
	}
	for _, part := range parts { // one a site
		if err := q.InsertErasurePart(ctx, part); err != nil {
			return row, err
		}
	}
	event, err := erasureRequested(ctx, q, row, order.member.ID)
	if err != nil {
		return row, err
	}
	return row, bus.Append(ctx, tx, event)
}

// GetErasure reads one erasure.
func (s *Service) GetErasure(ctx context.Context, req *internationalv1.GetErasureRequest) (*internationalv1.Erasure, error) {
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.Erasure, error) {
		row, err := db.New(tx).ReadErasure(ctx, idOf(req.GetName()))
		if err != nil {
			return nil, noMember(err, req.GetName())
		}
		return viewErasure(ctx, db.New(tx), row)
	})
}

// ListErasures lists erasures, the newest first.
func (s *Service) ListErasures(ctx context.Context, req *internationalv1.ListErasuresRequest) (*internationalv1.ListErasuresResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	before := page.number()
	if before == 0 {
		before = math.MaxInt64
	}
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.ListErasuresResponse, error) {
		q := db.New(tx)
		rows, err := q.ErasuresBefore(ctx, db.ErasuresBeforeParams{Before: before, Outstanding: req.GetOutstanding(), Size: page.size + 1})
		if err != nil {
			return nil, err
		}
		rows, next := cutPage(page, rows, func(last db.ErasuresBeforeRow) string { return strconv.FormatInt(last.Erasure.ErasureNo, 10) })
		same := make([]db.ReadErasureRow, 0, len(rows))
		for _, row := range rows {
			same = append(same, db.ReadErasureRow(row))
		}
		erasures, err := viewErasures(ctx, q, same)
		return &internationalv1.ListErasuresResponse{Erasures: erasures, NextPageToken: next}, err
	})
}

func viewErasure(ctx context.Context, q *db.Queries, row db.ReadErasureRow) (*internationalv1.Erasure, error) {
	views, err := viewErasures(ctx, q, []db.ReadErasureRow{row})
	if err != nil {
		return nil, err
	}
	return views[0], nil
}

func viewErasures(ctx context.Context, q *db.Queries, rows []db.ReadErasureRow) ([]*internationalv1.Erasure, error) {
	views := make([]*internationalv1.Erasure, 0, len(rows))
	byNo := make(map[int64]*internationalv1.Erasure, len(rows))
	numbers := make([]int64, 0, len(rows))
	for _, row := range rows {
		view := &internationalv1.Erasure{
			Name: "erasures/" + row.Erasure.ID, Member: "members/" + row.MemberID, Subject: row.Erasure.Subject,
			State: internationalv1.Erasure_COMPLETE, CreateTime: timestamppb.New(row.Erasure.CreateTime),
			Parts: []*internationalv1.ErasurePart{{
				Part: partInternational, ConfirmTime: timestamppb.New(row.Erasure.CreateTime), ErasedCount: 1, ConfirmedCount: 1,
			}},
		}
		views, numbers = append(views, view), append(numbers, row.Erasure.ErasureNo)
		byNo[row.Erasure.ErasureNo] = view
	}
	parts, err := q.ErasureParts(ctx, numbers)
	for _, part := range parts {
		view := byNo[part.ErasureNo]
		if part.ConfirmTime == nil {
			view.State = internationalv1.Erasure_OUTSTANDING
		}
		view.Parts = append(view.Parts, &internationalv1.ErasurePart{
			Part: part.Part, ConfirmTime: optionalTime(part.ConfirmTime), ErasedCount: part.Erased, ConfirmedCount: part.Confirmed,
		})
	}
	return views, err
}

// eraseAgain forgets a person whose erasure others confirm and this database does not know: it was restored from a
// backup. Under the same name, so that what others have done counts.
func (s *Service) eraseAgain(ctx context.Context, tx pgx.Tx, id, member string) error {
	row, err := lockToErase(ctx, tx, idOf(member))
	if errors.Is(err, pgx.ErrNoRows) || err == nil && row.State == erased {
		return nil
	}
	if err != nil {
		return err
	}
	if row.State == merged {
		return rpc.Precondition(errorv1.Reason_REASON_MEMBER_STATE, "%s was erased after it, and is merged here", member)
	}
	_, err = s.erase(ctx, tx, erasureOrder{id: id, member: row, subject: system}, s.clock.Now())
	return err
}
