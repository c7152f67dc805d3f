package international

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// CreateAddress adds an address to a member.
func (s *Service) CreateAddress(ctx context.Context, req *internationalv1.CreateAddressRequest) (*internationalv1.Address, error) {
	given := []*internationalv1.Address{req.GetAddress()}
	canonical, err := canonical(req.GetAddress().GetAddress(), "address.address")
	if err != nil {
		return nil, err
	}
	if req.GetAddress().GetVerified() && len(authz.FromContext(ctx).Scopes("addresses.verify")) == 0 {
		return nil, rpc.Denied(errorv1.Reason_REASON_PERMISSION_DENIED, "only staff may say that an address is verified; add it without").
			With("permission", "addresses.verify").With("scope", req.GetParent())
	}
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.Address, error) {
		q := db.New(tx)
		row, err := q.MemberForUpdate(ctx, idOf(req.GetParent()))
		if err != nil {
			return nil, noMember(err, req.GetParent())
		}
		if err := refuseGone(ctx, tx, row); err != nil {
			return nil, err
		}
		now := s.clock.Now()
		if err := s.addAddresses(ctx, tx, row, given, []string{canonical}, now); err != nil {
			return nil, err
		}
		if err := touch(ctx, tx, deed{verb: addressAdded, subject: actor(ctx, row.ID)}, row.MemberNo, now); err != nil {
			return nil, err
		}
		added, err := q.AddressByText(ctx, db.AddressByTextParams{MemberNo: row.MemberNo, Address: canonical})
		if err != nil {
			return nil, err
		}
		return viewAddress(req.GetParent(), added), s.askToVerify(ctx, tx, added, now)
	})
}

// ListAddresses lists the addresses of one member.
func (s *Service) ListAddresses(ctx context.Context, req *internationalv1.ListAddressesRequest) (*internationalv1.ListAddressesResponse, error) {
	page, err := s.openPage(req, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	q := db.New(s.pool)
	member, err := q.ReadMember(ctx, idOf(req.GetParent()))
	if err != nil {
		return nil, noMember(err, req.GetParent())
	}
	rows, err := q.AddressesAfter(ctx, db.AddressesAfterParams{MemberNo: member.MemberNo, After: page.number(), Size: page.size + 1})
	if err != nil {
		return nil, err
	}
	rows, next := cutPage(page, rows, func(last db.Address) string { return strconv.FormatInt(last.AddressNo, 10) })
	answer := &internationalv1.ListAddressesResponse{NextPageToken: next}
	for _, row := range rows {
		answer.Addresses = append(answer.Addresses, viewAddress(req.GetParent(), row))
	}
	return answer, nil
}

// VerifyAddress attests that an address is the member's own; verifying it again changes nothing.
func (s *Service) VerifyAddress(ctx context.Context, req *internationalv1.VerifyAddressRequest) (*internationalv1.Address, error) {
	return onAddress(ctx, s, req.GetName(), func(tx pgx.Tx, member db.Member, row db.Address, now time.Time) (*internationalv1.Address, error) {
		parent := "members/" + member.ID
		if row.VerifyTime != nil {
			return viewAddress(parent, row), nil
		}
		by := attested(ctx)
		row, err := s.verify(ctx, tx, member, row, by, now)
		return viewAddress(parent, row), err
	})
}

// proof is how an address came to be verified, and by whom.
type proof struct{ method, subject string }

// attested is staff's word.
func attested(ctx context.Context) proof {
	return proof{internationalv1.Address_STAFF.String(), authz.FromContext(ctx).Subject}
}

// verify makes an address count for its member, whose row the caller holds.
func (s *Service) verify(ctx context.Context, tx pgx.Tx, member db.Member, row db.Address, by proof, now time.Time) (db.Address, error) {
	tokens := s.tokens(row)
	err := s.changeTokens(ctx, tx, []int64{member.MemberNo}, tokens.Tokens, now, func(write *pipeline) {
		one(write, &row, db.VerifyAddress, now, by.method, by.subject, row.AddressNo)
		tokens.insert(write, member.MemberNo)
	})
	if isTaken(err) {
		return row, taken("address")
	}
	if err != nil {
		return row, err
	}
	return row, touch(ctx, tx, deed{verb: addressVerified, subject: by.subject}, member.MemberNo, now)
}

// DeleteAddress removes an address; from now on it is an unknown person's.
func (s *Service) DeleteAddress(ctx context.Context, req *internationalv1.DeleteAddressRequest) (*emptypb.Empty, error) {
	return onAddress(ctx, s, req.GetName(), func(tx pgx.Tx, member db.Member, row db.Address, now time.Time) (*emptypb.Empty, error) {
		err := s.changeTokens(ctx, tx, []int64{member.MemberNo}, nil, now, func(write *pipeline) { write.exec(db.DeleteAddress, row.AddressNo) })
		if err != nil {
			return nil, err
		}
		return &emptypb.Empty{}, touch(ctx, tx, deed{verb: addressRemoved, subject: actor(ctx, member.ID)}, member.MemberNo, now)
	})
}

// onAddress runs a change of one address under the lock of its member.
func onAddress[T proto.Message](ctx context.Context, s *Service, name string, change func(pgx.Tx, db.Member, db.Address, time.Time) (T, error)) (T, error) {
	return inTx(ctx, s, func(tx pgx.Tx) (T, error) {
		var none T
		memberID, addressID := addressNames(name)
		q := db.New(tx)
		member, err := q.MemberForUpdate(ctx, memberID)
		if err != nil {
			return none, noMember(err, name)
		}
		row, err := q.AddressOf(ctx, db.AddressOfParams{MemberNo: member.MemberNo, ID: addressID})
		if err != nil {
			return none, noMember(err, name)
		}
		return change(tx, member, row, s.clock.Now())
	})
}

// addAddresses enters addresses for a member whose row the caller holds, and makes the verified ones known.
func (s *Service) addAddresses(ctx context.Context, tx pgx.Tx, member db.Member, given []*internationalv1.Address, canonical []string, now time.Time) error {
	return s.addAddressesBy(ctx, tx, member, given, canonical, attested(ctx), now)
}

func (s *Service) addAddressesBy(ctx context.Context, tx pgx.Tx, member db.Member, given []*internationalv1.Address, canonical []string, by proof, now time.Time) error {
	if len(given) == 0 {
		return nil
	}
	args := db.InsertAddressesParams{MemberNo: member.MemberNo, Addresses: canonical, Now: now, Method: by.method, Subject: by.subject}
	for _, one := range given {
		args.Ids = append(args.Ids, uuid.Must(uuid.NewV7()).String())
		args.Verified = append(args.Verified, one.GetVerified())
	}
	q := db.New(tx)
	rows, err := q.InsertAddresses(ctx, args)
	if err != nil {
		return err
	}
	if len(rows) != len(given) {
		held, err := q.AddressesOf(ctx, []int64{member.MemberNo})
		if err != nil {
			return err
		}
		return refusedAddress(rows, held, member, canonical)
	}
	verified := rows[:0]
	for _, row := range rows {
		if row.VerifyTime != nil {
			verified = append(verified, row)
		}
	}
	if len(verified) == 0 {
		return nil
	}
	tokens := s.tokens(verified...)
	return s.changeTokens(ctx, tx, []int64{member.MemberNo}, tokens.Tokens, now, func(write *pipeline) { tokens.insert(write, member.MemberNo) })
}

// isTaken says that another member verified the address first.
func isTaken(err error) bool {
	broken, ok := errors.AsType[*pgconn.PgError](err)
	return ok && broken.ConstraintName == "addresses_verified"
}

// refusedAddress says why an address was not entered: this member has it already, or another one has it verified.
func refusedAddress(entered []db.Address, held []db.Address, member db.Member, canonical []string) error {
	for _, row := range held {
		isNew := slices.ContainsFunc(entered, func(e db.Address) bool { return e.AddressNo == row.AddressNo })
		if !isNew && slices.Contains(canonical, row.Address) {
			return rpc.AlreadyExists(errorv1.Reason_REASON_ALREADY_EXISTS, "members/%s has this address already", member.ID).
				With("resource", "members/"+member.ID+"/addresses/"+row.ID)
		}
	}
	return taken("address")
}

func taken(field string) error {
	return rpc.AlreadyExists(errorv1.Reason_REASON_ADDRESS_TAKEN, "the address is verified for another member").Field(field, "is verified for another member")
}

func canonicalAll(given []*internationalv1.Address) ([]string, error) {
	all := make([]string, len(given))
	seen := map[string]bool{}
	for i, one := range given {
		field := fmt.Sprintf("member.addresses[%d].address", i)
		found, err := canonical(one.GetAddress(), field)
		if err != nil {
			return nil, err
		}
		if seen[found] {
			return nil, rpc.Invalid(errorv1.Reason_REASON_INVALID_FIELD, field, "is the same address as one before it")
		}
		seen[found] = true
		all[i] = found
	}
	return all, nil
}

// canonical is the form in which an address is compared. An error names the rule and never the address.
func canonical(raw, field string) (string, error) {
	found, err := address.Canonical(raw)
	if broken := (*address.Error)(nil); errors.As(err, &broken) {
		return "", rpc.Invalid(errorv1.Reason_REASON_ADDRESS_INVALID, field, "%s", broken.Text).With("rule", broken.Code)
	}
	return found, err
}

func viewAddress(parent string, row db.Address) *internationalv1.Address {
	return &internationalv1.Address{
		Name:       parent + "/addresses/" + row.ID,
		Address:    row.Address,
		Verified:   row.VerifyTime != nil,
		VerifyTime: optionalTime(row.VerifyTime),
		CreateTime: timestamppb.New(row.CreateTime),

		VerifyMethod: internationalv1.Address_VerifyMethod(internationalv1.Address_VerifyMethod_value[row.VerifyMethod]),
		VerifiedBy:   row.VerifySubject,
	}
}

// addressNames splits "members/<id>/addresses/<id>", whose form validation has checked.
func addressNames(name string) (member, id string) {
	return idOf(name), name[strings.LastIndexByte(name, '/')+1:]
}
