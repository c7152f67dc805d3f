package address

import (
	"encoding/base32"
	"errors"
)

// The versions of the rules (email/v1) and of the derivation (k1) that tokens are made with.
const (
	tokenRule = 1
	tokenKey  = 1
)

// TokenSize is 1 byte of rule version, 1 byte of key version and the 32 bytes of HMAC-SHA-256.
const TokenSize = 34

// Token stands for an address outside its chapter's tier. Tokens compare as bytes.
type Token [TokenSize]byte

// entryEncoding keeps the order of the bytes and fits the grammar of ids.
var entryEncoding = base32.NewEncoding("0123456789abcdefghijklmnopqrstuv").WithPadding(base32.NoPadding)

var (
	errTokenSize = errors.New("a token has 34 bytes")
	errEntryID   = errors.New("not an entry id: expected an e and 55 base32hex digits")
)

// TokenFromBytes copies the bytes of a stored or received token. It checks the length only:
// a token of a later rule or key version passes through tiers that do not know it yet.
func TokenFromBytes(b []byte) (Token, error) {
	if len(b) != TokenSize {
		return Token{}, errTokenSize
	}
	return Token(b), nil
}

// EntryID is the token as the id of a list's entry: "e" and the base32hex of its bytes, 56 characters,
// in the same order as the tokens.
func (t Token) EntryID() string {
	id := make([]byte, 1, 1+(TokenSize*8+4)/5)
	id[0] = 'e'
	return string(entryEncoding.AppendEncode(id, t[:]))
}

// ParseEntryID is the inverse of EntryID and refuses every other text, so that an entry has one id.
func ParseEntryID(id string) (Token, error) {
	if len(id) != 1+entryEncoding.EncodedLen(TokenSize) || id[0] != 'e' {
		return Token{}, errEntryID
	}
	b, err := entryEncoding.DecodeString(id[1:])
	if err != nil || len(b) != TokenSize {
		return Token{}, errEntryID
	}
	t := Token(b)
	if t.EntryID() != id { // line breaks and spare bits, which base32 ignores
		return Token{}, errEntryID
	}
	return t, nil
}

func (t Token) String() string { return t.EntryID() }
