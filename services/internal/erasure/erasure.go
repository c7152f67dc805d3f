// Package erasure is what the tiers that forget a person have in common: how they recognise whom they know by a sign-in
// alone, and how they say that they are done.
package erasure

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// Nobody is what stands where the person's name for signing in stood.
const Nobody = "erased"

// HashSignIn hashes the subject under which somebody signs in, with a salt of its own, since it may be a name and no event
// carries one. An empty subject has neither.
func HashSignIn(subject string) (salt, digest []byte) {
	if subject == "" {
		return []byte{}, []byte{}
	}
	salt = make([]byte, sha256.Size)
	_, _ = rand.Read(salt) // never fails
	return salt, hash(salt, subject)
}

func hash(salt []byte, subject string) []byte {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(subject))
	return mac.Sum(nil)
}

// Subject finds the one of the subjects that is to be forgotten, "" for none.
func Subject(order *eventv1.MemberErased, subjects []string) string {
	if len(order.GetSignInDigest()) == 0 {
		return ""
	}
	for _, subject := range subjects {
		if hmac.Equal(hash(order.GetSignInSalt(), subject), order.GetSignInDigest()) {
			return subject
		}
	}
	return ""
}

// TokensAt are what a site knows the person by.
func TokensAt(order *eventv1.MemberErased, site string) [][]byte {
	for _, at := range order.GetSites() {
		if at.GetSite() == site {
			return at.GetTokens()
		}
	}
	return nil
}

// Confirmation is what a tier or site keeps of an erasure that it has done.
type Confirmation struct {
	Tier, Site string
	// ID and Member are the erasure's id and the member's name.
	ID, Member string
	Erased     int32
	Version    bus.Version
	At         time.Time
}

// Aggregate is erasures/<id>/<tier>/<site>.
func (c Confirmation) Aggregate() string { return "erasures/" + c.ID + "/" + c.Tier + "/" + c.Site }

// IDOf is the erasure's id in the name of an aggregate.
func IDOf(aggregate string) string {
	_, rest, _ := strings.Cut(aggregate, "/")
	id, _, _ := strings.Cut(rest, "/")
	return id
}

// Event says that the person is forgotten.
func (c Confirmation) Event() bus.Event {
	return bus.Event{Subject: "erasure." + c.ID + ".confirmed", Aggregate: c.Aggregate(), Version: c.Version, Data: c.Message()}
}

// Message is the event's data.
func (c Confirmation) Message() *eventv1.ErasureConfirmed {
	return &eventv1.ErasureConfirmed{
		Erasure: "erasures/" + c.ID, Member: c.Member, Part: c.Tier + "/" + c.Site, ErasedCount: c.Erased, CreateTime: timestamppb.New(c.At),
	}
}
