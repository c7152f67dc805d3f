package authz

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
)

// What the platform's own tokens say in iss and aud.
const (
	Issuer   = "chapterhouse"
	Audience = "chapterhouse"
)

// claims are those of a token beside the registered ones.
type claims struct {
	jwt.Claims

	Grants []Grant `json:"grants"`
}

// Mint makes a bearer token for p that is valid from now for ttl. It refuses grants that would grant nothing, so that a
// mistyped role or scope shows where it was typed.
func Mint(signer *Signer, p Principal, ttl time.Duration, now time.Time) (string, error) {
	if !p.SignedIn() {
		return "", errors.New("mint token: no subject")
	}
	if ttl < time.Second {
		return "", fmt.Errorf("mint token: a lifetime of %s is too short", ttl)
	}
	for _, grant := range p.Grants {
		if err := grant.check(); err != nil {
			return "", fmt.Errorf("mint token: %w", err)
		}
	}
	token, err := jwt.Signed(signer.signer).Claims(claims{
		Claims: jwt.Claims{
			ID:        uuid.NewString(),
			Issuer:    Issuer,
			Audience:  jwt.Audience{Audience},
			Subject:   p.Subject,
			IssuedAt:  jwt.NewNumericDate(now),
			NotBefore: jwt.NewNumericDate(now),
			Expiry:    jwt.NewNumericDate(now.Add(ttl)),
		},
		Grants: p.Grants,
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("mint token: %w", err)
	}
	return token, nil
}

func (g Grant) check() error {
	kind, known := roleScopes[g.Role]
	if !known {
		return fmt.Errorf("no role %q; there are %v", g.Role, Roles())
	}
	if _, ok := g.scope(); ok {
		return nil
	}
	if kind == Federation {
		return fmt.Errorf("role %s is held on the federation, not on %q", g.Role, g.Scope)
	}
	return fmt.Errorf("role %s is held on a scope %s/<id>, not on %q", g.Role, kind, g.Scope)
}
