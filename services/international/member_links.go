package international

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

const (
	memberLinkVersion = 1
	// macSize is half of a SHA-256, and more than anybody can guess at.
	macSize = 16
	// confirmTime is how long a link works.
	confirmTime = 7 * 24 * time.Hour
	// mailEvery is how often an address is mailed about the same thing at most.
	mailEvery = time.Hour
	// memberLinksKey is what the key is derived for that links are signed with.
	memberLinksKey = "member-links"
)

// memberLink is what a person holds who got a mail of the register. It names the address or the seat by its id, so that it
// tells nobody either.
type memberLink struct {
	purpose internationalv1.MemberLink_Purpose
	id      uuid.UUID
	issued  time.Time
}

// signLink writes the link as a mail holds it: 57 or so characters of a URL's alphabet.
func (s *Service) signLink(l memberLink) string {
	text := append([]byte{memberLinkVersion, byte(l.purpose)}, l.id[:]...)
	text = binary.AppendUvarint(text, uint64(l.issued.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(text, s.linkMAC(text)...))
}

func (s *Service) linkMAC(text []byte) []byte {
	mac := hmac.New(sha256.New, s.linkKey)
	mac.Write(text)
	return mac.Sum(nil)[:macSize]
}

var errMemberLink = rpc.Invalid(errorv1.Reason_REASON_MEMBER_LINK_INVALID, "name", "this is no link of ours, or a part of it is missing")

// openLink reads a link that was signed here and is not past its time.
func (s *Service) openLink(name string) (memberLink, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(name, "memberLinks/"))
	if err != nil || len(raw) < 2+len(uuid.UUID{})+1+macSize {
		return memberLink{}, errMemberLink
	}
	text, mac := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	if !hmac.Equal(mac, s.linkMAC(text)) || text[0] != memberLinkVersion {
		return memberLink{}, errMemberLink
	}
	l := memberLink{purpose: internationalv1.MemberLink_Purpose(text[1])}
	copy(l.id[:], text[2:])
	issued, n := binary.Uvarint(text[2+len(l.id):])
	if n <= 0 {
		return memberLink{}, errMemberLink
	}
	l.issued = time.UnixMicro(int64(issued))
	if !s.clock.Now().Before(l.expires()) {
		return memberLink{}, rpc.Invalid(errorv1.Reason_REASON_MEMBER_LINK_INVALID, "name", "the link was for a week, and is older; ask for a new one")
	}
	return l, nil
}

func (l memberLink) expires() time.Time { return l.issued.Add(confirmTime) }

func (l memberLink) view(name string) *internationalv1.MemberLink {
	return &internationalv1.MemberLink{Name: name, Purpose: l.purpose, ExpireTime: timestamppb.New(l.expires())}
}

// orNoLink: what a link was about is gone, or it was signed for another database.
func orNoLink(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return rpc.Invalid(errorv1.Reason_REASON_MEMBER_LINK_INVALID, "name", "what the link was about is not there any more")
	}
	return err
}

// GetMemberLink reads what a link is about.
func (s *Service) GetMemberLink(ctx context.Context, req *internationalv1.GetMemberLinkRequest) (*internationalv1.MemberLink, error) {
	l, err := s.openLink(req.GetName())
	if err != nil {
		return nil, err
	}
	view, q := l.view(req.GetName()), db.New(s.pool)
	if l.purpose == internationalv1.MemberLink_TAKE_SEAT {
		seat, err := q.ReadSeat(ctx, l.id.String())
		if err != nil {
			return nil, orNoLink(err)
		}
		organization, err := q.ReadOrganization(ctx, seat.OrganizationID)
		view.OrganizationDisplayName = organization.DisplayName
		view.MaskedAddress, view.Confirmed = masked(seat.Seat.Address), seat.Seat.MemberNo != nil
		return view, err
	}
	address, err := q.AddressByID(ctx, l.id.String())
	if err != nil {
		return nil, orNoLink(err)
	}
	view.MaskedAddress, view.Confirmed = masked(address.Address), address.VerifyTime != nil
	return view, nil
}

// ConfirmMemberLink takes the word of whoever has the link. Confirming again changes nothing.
func (s *Service) ConfirmMemberLink(ctx context.Context, req *internationalv1.ConfirmMemberLinkRequest) (*internationalv1.MemberLink, error) {
	l, err := s.openLink(req.GetName())
	if err != nil {
		return nil, err
	}
	view := l.view(req.GetName())
	return inTx(ctx, s, func(tx pgx.Tx) (*internationalv1.MemberLink, error) {
		view.Confirmed = true
		if l.purpose == internationalv1.MemberLink_TAKE_SEAT {
			return view, s.takeSeat(ctx, tx, l.id.String(), view)
		}
		return view, s.confirmAddress(ctx, tx, l.id.String(), view)
	})
}

// byLink is the person's own word.
var byLink = proof{internationalv1.Address_LINK.String(), thePerson}

func (s *Service) confirmAddress(ctx context.Context, tx pgx.Tx, id string, view *internationalv1.MemberLink) error {
	q := db.New(tx)
	found, err := q.AddressByID(ctx, id)
	if err != nil {
		return orNoLink(err)
	}
	member, err := q.MemberForUpdate(ctx, found.MemberID)
	if err != nil {
		return err
	}
	row, err := q.AddressOf(ctx, db.AddressOfParams{MemberNo: member.MemberNo, ID: id})
	if err != nil {
		return orNoLink(err)
	}
	view.MaskedAddress = masked(row.Address)
	if row.VerifyTime != nil {
		return nil
	}
	_, err = s.verify(ctx, tx, member, row, byLink, s.clock.Now())
	return err
}

// takeSeat gives an offered seat to whoever has the address: the member for whom it is verified, or a new one.
func (s *Service) takeSeat(ctx context.Context, tx pgx.Tx, id string, view *internationalv1.MemberLink) error {
	q, now := db.New(tx), s.clock.Now()
	if err := q.LockSeats(ctx); err != nil {
		return err
	}
	seat, err := q.ReadSeat(ctx, id)
	if err != nil {
		return orNoLink(err)
	}
	organization, err := q.OrganizationForUpdate(ctx, seat.OrganizationID)
	if err != nil {
		return err
	}
	view.OrganizationDisplayName = organization.DisplayName
	if seat.Seat.MemberNo != nil {
		return nil
	}
	view.MaskedAddress = masked(seat.Seat.Address)
	member, err := s.holderOf(ctx, tx, seat.Seat, now)
	if err != nil {
		return err
	}
	held, err := q.HasSeat(ctx, db.HasSeatParams{OrganizationNo: organization.OrganizationNo, MemberNo: member.MemberNo})
	if err != nil {
		return err
	}
	if held { // by another offer, or by the coordinator's hand: one is enough
		return q.DeleteSeat(ctx, seat.Seat.SeatNo)
	}
	if err := q.TakeSeat(ctx, db.TakeSeatParams{MemberNo: member.MemberNo, Now: now, SeatNo: seat.Seat.SeatNo}); err != nil {
		return err
	}
	return s.reseat(ctx, tx, []int64{member.MemberNo}, deed{verb: seatTaken, subject: thePerson}, now)
}

// holderOf is the member for whom an address is verified. Where there is none a new one is entered, for whom the link has
// verified it.
func (s *Service) holderOf(ctx context.Context, tx pgx.Tx, seat db.Seat, now time.Time) (db.Member, error) {
	q := db.New(tx)
	id, err := q.VerifiedHolder(ctx, seat.Address)
	if err == nil {
		return q.MemberForUpdate(ctx, id)
	}
	if !errors.Is(err, pgx.ErrNoRows) {
		return db.Member{}, err
	}
	member, err := q.InsertMember(ctx, db.InsertMemberParams{ID: uuid.Must(uuid.NewV7()).String(), DisplayName: seat.DisplayName, Now: now})
	if err != nil {
		return member, err
	}
	given := []*internationalv1.Address{{Verified: true}}
	if err := s.addAddressesBy(ctx, tx, member, given, []string{seat.Address}, byLink, now); err != nil {
		return member, err
	}
	return member, recordDeed(ctx, tx, deed{verb: entered, subject: thePerson}, member.MemberNo, now)
}

// masked leaves of an address what its owner recognises.
func masked(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at <= 0 {
		return ""
	}
	first := []rune(address[:at])[0]
	return string(first) + "…" + address[at:]
}
