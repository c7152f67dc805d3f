package address

import (
	"strings"

	"golang.org/x/net/idna"
)

// lookup is UTS #46, non-transitional (sharp s stays itself), STD3 characters, hyphens, joiners and the Bidi rule checked.
var lookup = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule())

// canonicalDomain takes valid UTF-8 that is not empty and returns lower-case A-labels without a final dot.
func canonicalDomain(raw string) (string, error) {
	domain := raw
	if needsUTS46(raw) {
		// Four times the limit leaves room for characters that take four bytes; it bounds the work.
		if len(raw) > 4*maxDomain {
			return "", ErrDomain
		}
		mapped, err := lookup.ToASCII(raw)
		if err != nil {
			return "", ErrDomain
		}
		domain = mapped
	}
	domain = lowerASCII(strings.TrimSuffix(domain, "."))
	if !isHostName(domain) {
		return "", ErrDomain
	}
	return domain, nil
}

// needsUTS46 reports whether there is more to do than lowering ASCII: characters beyond it, or labels
// that claim to be encoded already.
func needsUTS46(domain string) bool {
	labelStart := 0
	for i := range len(domain) {
		switch b := domain[i]; {
		case b >= 0x80:
			return true
		case b == '.':
			labelStart = i + 1
		case b == '-' && i == labelStart+3 && lowerASCII(domain[labelStart:i]) == "xn-":
			return true
		}
	}
	return false
}

// isHostName reports whether s is at least two labels of a-z, 0-9 and inner hyphens (RFC 1123),
// the last one not a number: that would be an IP address.
func isHostName(s string) bool {
	if len(s) > maxDomain {
		return false
	}
	labels, labelStart, numeric := 0, 0, true
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if !isLabel(s[labelStart:i]) {
				return false
			}
			labels++
			if i < len(s) {
				labelStart, numeric = i+1, true
			}
			continue
		}
		switch b := s[i]; {
		case '0' <= b && b <= '9':
		case 'a' <= b && b <= 'z', b == '-':
			numeric = false
		default:
			return false
		}
	}
	return labels >= 2 && !numeric
}

func isLabel(s string) bool {
	return s != "" && len(s) <= maxLabel && s[0] != '-' && s[len(s)-1] != '-'
}
