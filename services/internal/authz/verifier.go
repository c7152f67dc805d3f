package authz

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

// ErrInvalidToken is what a Verifier answers when the token is at fault. Its text never quotes the token.
var ErrInvalidToken = errors.New("invalid token")

// Verifier finds out who a bearer token speaks for.
type Verifier interface {
	// Verify returns the token's principal. An error that is no ErrInvalidToken means that the answer is not to be
	// had now, for instance because the issuer's keys cannot be fetched.
	Verify(ctx context.Context, token string) (Principal, error)
}

const (
	// maxTokenBytes keeps a caller from having megabytes parsed before anything is known about them.
	maxTokenBytes = 16 << 10
	// clockSkew is by how much the clock that minted a token may be ahead. Expiry knows no mercy.
	clockSkew = 30 * time.Second
)

// StaticVerifier checks the platform's own tokens by the public keys in a JWKS file.
type StaticVerifier struct {
	path  string
	clock clock.Clock

	mu   sync.Mutex
	info fs.FileInfo
	keys map[string]ed25519.PublicKey
	// genuine are the claims of tokens, by their hash, whose signature was found right under these keys.
	genuine map[[sha256.Size]byte]claims
}

// maxGenuine bounds the memory for known tokens; when it is full all are forgotten.
const maxGenuine = 10_000

// NewStaticVerifier reads a JWKS file, and reads it again whenever it changes: keys can be added and withdrawn without a
// restart. A file that cannot be read later on leaves the keys as they were.
func NewStaticVerifier(jwksPath string, c clock.Clock) (*StaticVerifier, error) {
	v := &StaticVerifier{path: jwksPath, clock: c}
	info, err := os.Stat(jwksPath)
	if err != nil {
		return nil, err
	}
	if v.keys, err = readJWKS(jwksPath); err != nil {
		return nil, err
	}
	v.info = info
	return v, nil
}

// Verify checks signature, issuer, audience and times.
func (v *StaticVerifier) Verify(_ context.Context, token string) (Principal, error) {
	if len(token) > maxTokenBytes {
		return Principal{}, fmt.Errorf("%w: too long", ErrInvalidToken)
	}
	c, err := v.claims(token)
	if err != nil {
		return Principal{}, err
	}
	return c.principal(jwt.Expected{Issuer: Issuer, AnyAudience: jwt.Audience{Audience}, Time: v.clock.Now()})
}

// claims checks the signature, the dear part of it all, once a token; the times are checked at each call.
func (v *StaticVerifier) claims(token string) (claims, error) {
	hash := sha256.Sum256([]byte(token))
	if known, ok := v.known(hash); ok {
		return known, nil
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil || len(parsed.Headers) != 1 {
		return claims{}, fmt.Errorf("%w: no JWT signed with EdDSA", ErrInvalidToken)
	}
	key, ok := v.key(parsed.Headers[0].KeyID)
	if !ok {
		return claims{}, fmt.Errorf("%w: unknown key", ErrInvalidToken)
	}
	var c claims
	if parsed.Claims(key, &c) != nil {
		return claims{}, fmt.Errorf("%w: the signature is wrong", ErrInvalidToken)
	}
	v.remember(hash, parsed.Headers[0].KeyID, key, c)
	return c, nil
}

func (c claims) principal(want jwt.Expected) (Principal, error) {
	if err := c.ValidateWithLeeway(want, clockSkew); err != nil {
		return Principal{}, fmt.Errorf("%w: %w", ErrInvalidToken, err)
	}
	if c.Expiry == nil || !want.Time.Before(c.Expiry.Time()) {
		return Principal{}, fmt.Errorf("%w: %w", ErrInvalidToken, jwt.ErrExpired)
	}
	if c.Subject == "" {
		return Principal{}, fmt.Errorf("%w: no subject", ErrInvalidToken)
	}
	return Principal{Subject: c.Subject, Grants: c.Grants}, nil
}

func (v *StaticVerifier) key(id string) (ed25519.PublicKey, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refresh()
	key, ok := v.keys[id]
	return key, ok
}

func (v *StaticVerifier) refresh() {
	info, err := os.Stat(v.path)
	if err != nil || sameFile(info, v.info) {
		return
	}
	if keys, err := readJWKS(v.path); err == nil {
		v.keys, v.info, v.genuine = keys, info, nil
	}
}

// known returns the claims of a token that was verified under the present keys.
func (v *StaticVerifier) known(hash [sha256.Size]byte) (claims, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.refresh()
	c, ok := v.genuine[hash]
	return c, ok
}

// remember keeps claims, unless the keys changed while their signature was being checked.
func (v *StaticVerifier) remember(hash [sha256.Size]byte, id string, key ed25519.PublicKey, c claims) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !key.Equal(v.keys[id]) {
		return
	}
	if v.genuine == nil || len(v.genuine) >= maxGenuine {
		v.genuine = map[[sha256.Size]byte]claims{}
	}
	v.genuine[hash] = c
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func readJWKS(path string) (map[string]ed25519.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	keys := map[string]ed25519.PublicKey{}
	for _, jwk := range set.Keys {
		key, ok := jwk.Key.(ed25519.PublicKey)
		if !ok || jwk.KeyID == "" || !jwk.Valid() {
			return nil, fmt.Errorf("read %s: key %q is no Ed25519 public key with a kid", path, jwk.KeyID)
		}
		keys[jwk.KeyID] = key
	}
	return keys, nil
}
