// Package address says what one e-mail address is: its canonical form by the rules email/v1
// (testdata/email_v1.json is the reference, docs/addresses.md explains it), and the token,
// a keyed hash of that form, in which alone an address crosses tiers.
//
// No error of this package contains the address that it is about: errors are logged, addresses are not.
package address

import (
	"strings"
	"unicode/utf8"
)

// Lengths are in bytes of the canonical form (RFC 5321, 4.5.3.1: 64 for the local part,
// 256 for a path, which has two angle brackets that an address has not).
const (
	maxLocal   = 64
	maxAddress = 254
	maxDomain  = 253
	maxLabel   = 63
)

// Error says why a text is not an address. Code is stable, Text is a sentence for people.
type Error struct {
	Code string
	Text string
}

func (e *Error) Error() string { return e.Text + " (" + e.Code + ")" }

// The refusals. Each is one value, so that refusing a row costs no allocation and errors.Is works.
var (
	ErrSyntax          = &Error{"EMAIL_SYNTAX", "an address is a name, an @ and a domain"}
	ErrTooLong         = &Error{"EMAIL_TOO_LONG", "an address has at most 254 bytes"}
	ErrDomain          = &Error{"EMAIL_DOMAIN", "what follows the @ is not a domain that mail can be sent to"}
	ErrLocalCharacter  = &Error{"EMAIL_LOCAL_CHARACTER", "what precedes the @ contains a character that cannot stand there, such as a space, a quote or another @"}
	ErrLocalDot        = &Error{"EMAIL_LOCAL_DOT", "what precedes the @ begins or ends with a dot, or has two in a row"}
	ErrLocalInvisible  = &Error{"EMAIL_LOCAL_INVISIBLE", "what precedes the @ contains a character that cannot be seen"}
	ErrLocalConfusable = &Error{"EMAIL_LOCAL_CONFUSABLE", "what precedes the @ contains a character that would turn into a plain letter or sign"}
	ErrLocalTooLong    = &Error{"EMAIL_LOCAL_TOO_LONG", "what precedes the @ has more than 64 bytes"}
)

// Canonical returns the one form of an address that stands for its mailbox, or an *Error.
// White space around it is dropped. The result is its own canonical form.
func Canonical(raw string) (string, error) {
	s := strings.TrimSpace(raw)
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at == len(s)-1 || !utf8.ValidString(s) {
		return "", ErrSyntax
	}
	local, err := canonicalLocal(s[:at])
	if err != nil {
		return "", err
	}
	domain, err := canonicalDomain(s[at+1:])
	if err != nil {
		return "", err
	}
	if len(local)+1+len(domain) > maxAddress {
		return "", ErrTooLong
	}
	if local == s[:at] && strings.HasPrefix(s[at+1:], domain) {
		return s[:at+1+len(domain)], nil // already canonical but for a final dot: no copy
	}
	return local + "@" + domain, nil
}

// lowerASCII lowers A to Z and nothing else: strings.ToLower would merge the mailboxes of different people
// (U+0130, the dotted capital I, becomes an i).
func lowerASCII(s string) string {
	first := strings.IndexFunc(s, isUpperASCII)
	if first < 0 {
		return s
	}
	lowered := []byte(s)
	for i := first; i < len(lowered); i++ {
		if isUpperASCII(rune(lowered[i])) {
			lowered[i] += 'a' - 'A'
		}
	}
	return string(lowered)
}

func isUpperASCII(r rune) bool { return 'A' <= r && r <= 'Z' }
