package address

import (
	"mime"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MaxDisplayName is how many characters (code points) of a person's name are kept.
const MaxDisplayName = 200

// ParseMailbox splits an RFC 5322 mailbox: `Ada Rao <ada@example.org>`, `"Rao, Ada" <ada@example.org>`,
// the older `ada@example.org (Ada Rao)`, or a plain address. It never fails and does not judge:
// what it returns as the address goes to Canonical, so that every refusal has one reason whatever surrounds it.
// net/mail is not used because it refuses what people write (unquoted commas and parentheses in names).
func ParseMailbox(raw string) (displayName, addr string) {
	s := strings.TrimSpace(raw)
	switch {
	case strings.HasSuffix(s, ">"):
		if open := strings.LastIndexByte(s, '<'); open >= 0 {
			return phrase(s[:open]), strings.TrimSpace(s[open+1 : len(s)-1])
		}
	case strings.HasSuffix(s, ")"):
		if open := strings.IndexByte(s, '('); open > 0 {
			return phrase(s[open+1 : len(s)-1]), strings.TrimSpace(s[:open])
		}
	}
	return "", s
}

// phrase undoes quotes, backslashes and encoded words (RFC 2047).
func phrase(raw string) string {
	s := strings.TrimSpace(raw)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = unescape(s[1 : len(s)-1])
	}
	if strings.Contains(s, "=?") {
		if decoded, err := new(mime.WordDecoder).DecodeHeader(s); err == nil {
			s = decoded
		}
	}
	return DisplayName(s)
}

func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// DisplayName cleans a person's name: NFC, one space between words, no control characters,
// none that reverse the direction of what follows, at most MaxDisplayName characters.
func DisplayName(raw string) string {
	if isCleanName(raw) {
		return raw
	}
	var b strings.Builder
	space := false
	for _, r := range norm.NFC.String(strings.ToValidUTF8(raw, string(utf8.RuneError))) {
		switch {
		case unicode.IsSpace(r):
			space = b.Len() > 0
		case isNameNoise(r):
		default:
			if space {
				b.WriteByte(' ')
				space = false
			}
			b.WriteRune(r)
		}
	}
	// Dropping a character can bring two together that compose.
	return truncate(norm.NFC.String(b.String()), MaxDisplayName)
}

// isCleanName spares almost every name the work and the copies.
func isCleanName(s string) bool {
	last, ascii := ' ', true
	for _, r := range s {
		switch {
		case r == ' ' && last == ' ', r < ' ', r == utf8.RuneError:
			return false
		case r >= 0x7F:
			ascii = false
			if unicode.IsSpace(r) || isNameNoise(r) {
				return false
			}
		}
		last = r
	}
	return s == "" || last != ' ' && len(s) <= MaxDisplayName && (ascii || norm.NFC.IsNormalString(s))
}

// isNameNoise spares the joiners U+200C and U+200D: names in Persian, Malayalam and Sinhala need them.
func isNameNoise(r rune) bool {
	switch r {
	case '\u00AD', '\u200B', '\u2060', '\uFEFF':
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Bidi_Control)
}

func truncate(s string, characters int) string {
	for i := range s {
		if characters == 0 {
			return strings.TrimSpace(s[:i])
		}
		characters--
	}
	return s
}
