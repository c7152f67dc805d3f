package address

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"strings"
	"sync"
)

// KeySize is the length of both kinds of key, in bytes.
const KeySize = 32

const redacted = "[redacted key]"

// MasterKey is the international body's matching key, from which every site's key is derived.
// It prints as a placeholder, also inside other structs; Hex alone shows it. The zero value is no key.
type MasterKey struct {
	secret secret
}

// secret holds a key in a closure: of a key in an unexported field fmt would print the bytes, whatever String says,
// and for verbs that do not fit also those behind a pointer.
type secret func() []byte

// NewMasterKey makes a random key.
func NewMasterKey() MasterKey {
	key := make([]byte, KeySize)
	_, _ = rand.Read(key) // never fails (crypto/rand)
	return MasterKey{keep(key)}
}

// ParseMasterKey reads what Hex wrote; white space around it is allowed, as key files end with a line break.
func ParseMasterKey(text string) (MasterKey, error) {
	key, err := parseSecret(text)
	if err != nil {
		return MasterKey{}, fmt.Errorf("master key: %w", err)
	}
	return MasterKey{key}, nil
}

// Hex returns the secret, for a key file and nothing else.
func (k MasterKey) Hex() string { return hex.EncodeToString(k.secret()) }

// IsZero reports whether there is no key.
func (k MasterKey) IsZero() bool { return k.secret == nil }

func (k MasterKey) String() string       { return redacted }
func (k MasterKey) GoString() string     { return redacted }
func (k MasterKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// SiteKey derives a site's key: HKDF-SHA-256 (RFC 5869) without salt, info "chapterhouse/site/<site>/k1".
func (k MasterKey) SiteKey(site string) SiteKey {
	return newSiteKey(keep(deriveKey(k.secret, "site/"+site)))
}

// Derive returns a key for another purpose than matching, which no site can know: HKDF-SHA-256 without salt, info
// "chapterhouse/<purpose>/k1".
func (k MasterKey) Derive(purpose string) []byte { return deriveKey(k.secret, purpose) }

func deriveKey(from secret, purpose string) []byte {
	derived, err := hkdf.Key(sha256.New, from(), nil, fmt.Sprintf("chapterhouse/%s/k%d", purpose, tokenKey), KeySize)
	if err != nil {
		panic(fmt.Sprintf("hkdf refuses a fixed, valid length: %v", err))
	}
	return derived
}

// SiteKey turns one site's addresses into tokens. It is safe for concurrent use and prints as a placeholder.
// The zero value is no key.
type SiteKey struct {
	state *siteState
}

// siteState keeps keyed HMACs: starting one from the key costs two more SHA-256 blocks than resetting it.
type siteState struct {
	secret  secret
	hashers sync.Pool // of *hasher
}

type hasher struct {
	mac hash.Hash
	buf []byte
}

func newSiteKey(key secret) SiteKey {
	state := &siteState{secret: key}
	state.hashers.New = func() any {
		return &hasher{mac: hmac.New(sha256.New, key()), buf: make([]byte, 0, maxAddress)}
	}
	return SiteKey{state}
}

// ParseSiteKey reads what Hex wrote; white space around it is allowed.
func ParseSiteKey(text string) (SiteKey, error) {
	key, err := parseSecret(text)
	if err != nil {
		return SiteKey{}, fmt.Errorf("site key: %w", err)
	}
	return newSiteKey(key), nil
}

// Hex returns the secret, for a key file and nothing else.
func (k SiteKey) Hex() string { return hex.EncodeToString(k.state.secret()) }

// IsZero reports whether there is no key.
func (k SiteKey) IsZero() bool { return k.state == nil }

func (k SiteKey) String() string       { return redacted }
func (k SiteKey) GoString() string     { return redacted }
func (k SiteKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// Derive returns a key of the site's for another purpose than matching: HKDF-SHA-256 without salt, info
// "chapterhouse/<purpose>/k1".
func (k SiteKey) Derive(purpose string) []byte { return deriveKey(k.state.secret, purpose) }

// SubjectToken hashes the subject of somebody who signs in, by a key of its own: HMAC-SHA-256 with what Derive makes for
// "officers". It tells a tier that has the key whether a caller is meant, and nobody who it is.
func (k SiteKey) SubjectToken(subject string) []byte {
	mac := hmac.New(sha256.New, k.Derive("officers"))
	mac.Write([]byte(subject))
	return mac.Sum(nil)
}

// Token hashes an address in its canonical form. Any other form gives a token that matches nothing.
func (k SiteKey) Token(canonical string) Token {
	h := k.state.hashers.Get().(*hasher)
	defer k.state.hashers.Put(h)
	h.mac.Reset()
	h.buf = append(h.buf[:0], canonical...)
	h.mac.Write(h.buf)
	token := Token{tokenRule, tokenKey}
	copy(token[2:], h.mac.Sum(h.buf[:0]))
	return token
}

// errSecret does not repeat the text: it may be most of a key.
var errSecret = errors.New("expected 64 hexadecimal digits")

func parseSecret(text string) (secret, error) {
	key, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(key) != KeySize {
		return nil, errSecret
	}
	return keep(key), nil
}

func keep(key []byte) secret { return func() []byte { return key } }
