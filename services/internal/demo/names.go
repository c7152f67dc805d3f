package demo

import (
	_ "embed" // for names.txt
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

//go:embed names.txt
var namesText string

// name is a given or family name; native is empty where it is written in Latin letters anyway.
type name struct{ latin, native string }

// culture is how people of some countries are called.
type culture struct {
	countries []string
	// The order of a whole name, in Latin and in native letters, and whether native parts are written without a space.
	familyFirst, nativeFamilyFirst, nativeTogether bool

	men, women       []name
	families, female []name // of one length: the feminine forms
}

// fullName is a made-up person's name.
type fullName struct{ given, family, display string }

// names makes names up.
type names struct {
	cultures  []culture
	byCountry map[string][]culture
}

func readNames() (names, error) {
	n := names{byCountry: map[string][]culture{}}
	for block := range strings.SplitSeq(namesText, "\n[") {
		if strings.HasPrefix(block, "#") {
			continue
		}
		c, err := readCulture(block)
		if err != nil {
			return names{}, fmt.Errorf("names.txt: %w", err)
		}
		n.cultures = append(n.cultures, c)
		for _, country := range c.countries {
			n.byCountry[country] = append(n.byCountry[country], c)
		}
	}
	return n, nil
}

func readCulture(block string) (culture, error) {
	head, body, _ := strings.Cut(block, "\n")
	_, countries, _ := strings.Cut(head, "]")
	c := culture{countries: strings.Fields(countries)}
	for line := range strings.SplitSeq(strings.TrimSpace(body), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		items := strings.Fields(rest)
		switch {
		case line == "family first":
			c.familyFirst = true
		case line == "native family first":
			c.nativeFamilyFirst = true
		case line == "native together":
			c.nativeFamilyFirst, c.nativeTogether = true, true
		case word == "men":
			c.men = readList(items)
		case word == "women":
			c.women = readList(items)
		case word == "family":
			for _, item := range items {
				male, female, both := strings.Cut(item, "|")
				if !both {
					female = male
				}
				c.families, c.female = append(c.families, readName(male)), append(c.female, readName(female))
			}
		default:
			return culture{}, fmt.Errorf("what is %q?", line)
		}
	}
	return c, nil
}

func readList(items []string) []name {
	list := make([]name, len(items))
	for i, item := range items {
		list[i] = readName(item)
	}
	return list
}

func readName(item string) name {
	latin, native, _ := strings.Cut(item, "/")
	return name{latin, native}
}

// settled are the countries where people of all origins live; a third of the names there are from anywhere.
var settled = []string{"US", "CA", "GB", "AU", "NZ", "SG", "AE", "DE", "FR", "NL", "CH", "SE"}

// invent makes up a person's name.
func (n names) invent(rng *rand.Rand, country string) fullName {
	from := n.byCountry[country]
	if len(from) == 0 || slices.Contains(settled, country) && rng.IntN(3) == 0 {
		from = n.cultures
	}
	c := pick(rng, from)
	given, families := c.men, c.families
	if rng.IntN(2) == 0 {
		given, families = c.women, c.female
	}
	g, f := pick(rng, given), pick(rng, families)
	return fullName{given: fold(g.latin), family: fold(f.latin), display: c.display(g, f, rng.IntN(2) == 0)}
}

func (c culture) display(given, family name, native bool) string {
	switch {
	case !native || given.native == "" || family.native == "":
		if c.familyFirst {
			return family.latin + " " + given.latin
		}
		return given.latin + " " + family.latin
	case c.nativeTogether:
		return family.native + given.native
	case c.nativeFamilyFirst:
		return family.native + " " + given.native
	}
	return given.native + " " + family.native
}

// plain are letters that do not decompose into an ASCII letter and a mark.
var plain = map[rune]string{'ß': "ss", 'æ': "ae", 'œ': "oe", 'ø': "o", 'ł': "l", 'đ': "d", 'ı': "i", 'ə': "e"}

// fold leaves a text's ASCII letters and digits, lower-case and without marks, with hyphens between the words.
func fold(text string) string {
	var out strings.Builder
	for _, r := range norm.NFD.String(text) {
		r = unicode.ToLower(r)
		switch {
		case unicode.Is(unicode.Mn, r):
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			out.WriteRune(r)
		case plain[r] != "":
			out.WriteString(plain[r])
		default:
			out.WriteByte('-')
		}
	}
	return strings.Trim(out.String(), "-")
}

func pick[T any](rng *rand.Rand, from []T) T { return from[rng.IntN(len(from))] }
