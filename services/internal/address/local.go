package address

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// class sorts the bytes of a local part.
type class uint8

const (
	refused class = iota
	plain         // may stand there and stays as it is
	upper         // an ASCII capital
	dot
	wide // part of a character beyond ASCII
)

// localClass follows RFC 5322 atext, which RFC 6532 extends by everything beyond ASCII.
// Quoted local parts are refused: no list tool writes them, and they have several spellings.
var localClass = func() (table [256]class) {
	for b := range table {
		switch {
		case b >= utf8.RuneSelf:
			table[b] = wide
		case 'A' <= b && b <= 'Z':
			table[b] = upper
		case 'a' <= b && b <= 'z', '0' <= b && b <= '9', strings.IndexByte("!#$%&'*+-/=?^_`{|}~", byte(b)) >= 0:
			table[b] = plain
		case b == '.':
			table[b] = dot
		}
	}
	return table
}()

// canonicalLocal takes valid UTF-8 that is not empty.
func canonicalLocal(raw string) (string, error) {
	hasUpper, last := false, dot
	for i := range len(raw) {
		now := localClass[raw[i]]
		switch now {
		case wide:
			return canonicalWideLocal(raw)
		case refused:
			return "", ErrLocalCharacter
		case upper:
			hasUpper = true
		case dot:
			if last == dot {
				return "", ErrLocalDot
			}
		case plain:
		}
		last = now
	}
	switch {
	case last == dot:
		return "", ErrLocalDot
	case len(raw) > maxLocal:
		return "", ErrLocalTooLong
	case hasUpper:
		return lowerASCII(raw), nil
	}
	return raw, nil
}

// canonicalWideLocal is NFC with ASCII capitals lowered. Lowering can make a new composition possible
// (U+01F0 exists, its capital does not), hence the second NFC: without it the form would not be its own canonical form.
func canonicalWideLocal(raw string) (string, error) {
	// NFC shortens UTF-8 at most threefold, so whatever is longer stays too long. It bounds the work.
	if len(raw) > 3*maxLocal {
		return "", ErrLocalTooLong
	}
	for _, r := range raw {
		if err := judge(r); err != nil {
			return "", err
		}
	}
	if strings.HasPrefix(raw, ".") || strings.HasSuffix(raw, ".") || strings.Contains(raw, "..") {
		return "", ErrLocalDot
	}
	local := norm.NFC.String(lowerASCII(norm.NFC.String(raw)))
	if len(local) > maxLocal {
		return "", ErrLocalTooLong
	}
	return local, nil
}

func judge(r rune) error {
	switch {
	case r < utf8.RuneSelf:
		if localClass[r] == refused {
			return ErrLocalCharacter
		}
	case becomesASCII(r):
		return ErrLocalConfusable
	case isInvisible(r):
		return ErrLocalInvisible
	case r == utf8.RuneError, !unicode.IsPrint(r):
		// Unassigned characters are refused too: a later Unicode version may give them a decomposition,
		// and the address a second token.
		return ErrLocalCharacter
	}
	return nil
}

// becomesASCII names all characters that NFC turns into ASCII: Greek question mark, Greek varia, Kelvin sign.
// They would merge the mailbox with another one, and an ASCII mailbox is easily somebody else's.
func becomesASCII(r rune) bool {
	return r == '\u037E' || r == '\u1FEF' || r == '\u212A'
}

// isInvisible reports whether r leaves no mark of its own: spaces, controls, format characters, fillers.
// U+2800 is the Braille pattern without dots.
func isInvisible(r rune) bool {
	return r == '\u2800' ||
		unicode.In(r, unicode.Z, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}
