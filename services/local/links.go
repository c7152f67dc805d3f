package local

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/google/uuid"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	// linkVersion is of links of a list, and mailLinkVersion of those that say which announcement they came with.
	linkVersion, mailLinkVersion = 1, 2
	// macSize is half of a SHA-256, and more than anybody can guess at.
	macSize = 16
	// confirmTime is how long a link to confirm works. One to leave works for good: mail is kept for years.
	confirmTime = 7 * 24 * time.Hour
	// linksKey is what the key is derived for that links are signed with.
	linksKey = "links"
)

// link is what a person holds who got a mail of a list: the permission to leave, or to confirm. It holds the token, so
// that it tells nobody an address.
type link struct {
	purpose localv1.Subscription_Purpose
	listNo  int64
	issued  time.Time
	token   []byte
	// announcement is the mail's that the link came with; zero where it was about none.
	announcement uuid.UUID
}

// sign writes the link as a mail holds it: 79 or so characters of a URL's alphabet, with an announcement 101.
func (s *Service) sign(l link) string {
	text := []byte{linkVersion, byte(l.purpose)}
	if l.announcement != uuid.Nil {
		text[0] = mailLinkVersion
	}
	text = binary.AppendUvarint(text, uint64(l.listNo))
	text = binary.AppendUvarint(text, uint64(l.issued.UnixMicro()))
	text = append(text, l.token...)
	if l.announcement != uuid.Nil {
		text = append(text, l.announcement[:]...)
	}
	return base64.RawURLEncoding.EncodeToString(append(text, s.mac(text)...))
}

func (s *Service) mac(text []byte) []byte {
	mac := hmac.New(sha256.New, s.linkKey)
	mac.Write(text)
	return mac.Sum(nil)[:macSize]
}

var errLink = rpc.Invalid(errorv1.Reason_REASON_LINK_INVALID, "name", "this is no link of ours, or a part of it is missing")

// openLink reads a link that was signed here.
func (s *Service) openLink(name string) (link, error) {
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(name, "subscriptions/"))
	if err != nil || len(raw) < 2+macSize+address.TokenSize {
		return link{}, errLink
	}
	text, mac := raw[:len(raw)-macSize], raw[len(raw)-macSize:]
	if !hmac.Equal(mac, s.mac(text)) {
		return link{}, errLink
	}
	return readLink(text)
}

// readLink reads what was signed by us, by this version of the program or another.
func readLink(text []byte) (link, error) {
	l, version := link{purpose: localv1.Subscription_Purpose(text[1])}, text[0]
	text = text[2:]
	listNo, n := binary.Uvarint(text)
	issued, m := binary.Uvarint(text[max(n, 0):])
	if n <= 0 || m <= 0 {
		return link{}, errLink
	}
	text = text[n+m:]
	switch {
	case version == linkVersion && len(text) == address.TokenSize:
	case version == mailLinkVersion && len(text) == address.TokenSize+len(uuid.UUID{}):
		copy(l.announcement[:], text[address.TokenSize:])
	default:
		return link{}, errLink
	}
	l.listNo, l.issued, l.token = int64(listNo), time.UnixMicro(int64(issued)), text[:address.TokenSize]
	return l, nil
}

// expires is until when the link works, nil for good.
func (l link) expires() *time.Time {
	if l.purpose != localv1.Subscription_CONFIRM {
		return nil
	}
	until := l.issued.Add(confirmTime)
	return &until
}

// refuseExpired refuses a link to confirm that is past its time.
func (l link) refuseExpired(now time.Time) error {
	if until := l.expires(); until != nil && !now.Before(*until) {
		return rpc.Invalid(errorv1.Reason_REASON_LINK_INVALID, "name", "the link was for a week, and is older")
	}
	return nil
}
