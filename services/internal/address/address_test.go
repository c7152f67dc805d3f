package address_test

import (
	_ "embed"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/quick"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

//go:embed testdata/email_v1.json
var vectorsJSON []byte

type vector struct {
	In     string `json:"in"`
	Out    string `json:"out"`
	Reason string `json:"reason"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	var file struct {
		Rules   string   `json:"rules"`
		Vectors []vector `json:"vectors"`
	}
	if err := json.Unmarshal(vectorsJSON, &file); err != nil {
		t.Fatal(err)
	}
	if file.Rules != "email/v1" || len(file.Vectors) < 38 {
		t.Fatalf("rules %q with %d vectors: not the reference", file.Rules, len(file.Vectors))
	}
	return file.Vectors
}

func checkVector(t *testing.T, v vector) {
	t.Helper()
	out, err := address.Canonical(v.In)
	var refusal *address.Error
	switch {
	case v.Reason == "" && (err != nil || out != v.Out):
		t.Errorf("Canonical(%+q) = %+q, %v; want %+q", v.In, out, err, v.Out)
	case v.Reason != "" && (!errors.As(err, &refusal) || refusal.Code != v.Reason):
		t.Errorf("Canonical(%+q) = %+q, %v; want %s", v.In, out, err, v.Reason)
	case v.Reason != "" && (out != "" || (strings.Contains(v.In, "@") && strings.Contains(err.Error(), v.In))):
		t.Errorf("Canonical(%+q) tells the refused address: %q, %q", v.In, out, err)
	}
}

func TestReferenceVectors(t *testing.T) {
	for _, v := range vectors(t) {
		t.Run(strings.ReplaceAll(v.In, "/", "_"), func(t *testing.T) { checkVector(t, v) })
	}
}

func TestCanonicalBeyondTheReference(t *testing.T) {
	long := strings.Repeat
	for name, v := range map[string]vector{
		"Empty":                      {In: "", Reason: "EMAIL_SYNTAX"},
		"OnlySpace":                  {In: " \t\n", Reason: "EMAIL_SYNTAX"},
		"NoDomain":                   {In: "ada@", Reason: "EMAIL_SYNTAX"},
		"NotUTF8":                    {In: "ad\xe1@example.org", Reason: "EMAIL_SYNTAX"},
		"NonBreakingSpaceAround":     {In: "\u00a0ada@example.org\u00a0", Out: "ada@example.org"},
		"NonBreakingSpaceInside":     {In: "a\u00a0da@example.org", Reason: "EMAIL_LOCAL_INVISIBLE"},
		"SpaceInside":                {In: "a da@example.org", Reason: "EMAIL_LOCAL_CHARACTER"},
		"Control":                    {In: "a\x00da@example.org", Reason: "EMAIL_LOCAL_CHARACTER"},
		"Comma":                      {In: "a,da@example.org", Reason: "EMAIL_LOCAL_CHARACTER"},
		"AllAtext":                   {In: "aZ09!#$%&'*+-/=?^_`{|}~@example.org", Out: "az09!#$%&'*+-/=?^_`{|}~@example.org"},
		"LeadingDot":                 {In: ".ada@example.org", Reason: "EMAIL_LOCAL_DOT"},
		"TrailingDot":                {In: "ada.@example.org", Reason: "EMAIL_LOCAL_DOT"},
		"TwoDots":                    {In: "ada..rao@example.org", Reason: "EMAIL_LOCAL_DOT"},
		"TwoDotsBesideWide":          {In: "josé..rao@example.org", Reason: "EMAIL_LOCAL_DOT"},
		"LoweringThenComposing":      {In: "J\u030c@example.org", Out: "\u01f0@example.org"},
		"GreekQuestionMark":          {In: "a\u037eb@example.org", Reason: "EMAIL_LOCAL_CONFUSABLE"},
		"SoftHyphen":                 {In: "a\u00adb@example.org", Reason: "EMAIL_LOCAL_INVISIBLE"},
		"RightToLeftOverride":        {In: "a\u202eb@example.org", Reason: "EMAIL_LOCAL_INVISIBLE"},
		"HangulFiller":               {In: "a\u3164b@example.org", Reason: "EMAIL_LOCAL_INVISIBLE"},
		"VariationSelector":          {In: "a\ufe0fb@example.org", Reason: "EMAIL_LOCAL_INVISIBLE"},
		"EmptyBraille":               {In: "a\u2800b@example.org", Reason: "EMAIL_LOCAL_INVISIBLE"},
		"Unassigned":                 {In: "a\u0378b@example.org", Reason: "EMAIL_LOCAL_CHARACTER"},
		"PrivateUse":                 {In: "a\ue000b@example.org", Reason: "EMAIL_LOCAL_CHARACTER"},
		"ReplacementCharacter":       {In: "a\ufffdb@example.org", Reason: "EMAIL_LOCAL_CHARACTER"},
		"WideWithRefusedASCII":       {In: "é b@example.org", Reason: "EMAIL_LOCAL_CHARACTER"},
		"LocalOf64":                  {In: long("a", 64) + "@example.org", Out: long("a", 64) + "@example.org"},
		"WideLocalOf66Bytes":         {In: long("é", 33) + "@example.org", Reason: "EMAIL_LOCAL_TOO_LONG"},
		"WideLocalOf64Bytes":         {In: long("e\u0301", 32) + "@example.org", Out: long("é", 32) + "@example.org"},
		"AbsurdWideLocal":            {In: long("é", 100_000) + "@example.org", Reason: "EMAIL_LOCAL_TOO_LONG"},
		"AbsurdDomain":               {In: "a@" + long("é", 100_000) + ".org", Reason: "EMAIL_DOMAIN"},
		"TotalOf254":                 {In: "ab@" + long("d.", 124) + "com", Out: "ab@" + long("d.", 124) + "com"},
		"TotalOf255":                 {In: long("a", 64) + "@" + long("d.", 92) + "commun", Reason: "EMAIL_TOO_LONG"},
		"DomainOf254":                {In: "a@" + long("d.", 125) + "info", Reason: "EMAIL_DOMAIN"},
		"LabelOf63":                  {In: "a@" + long("d", 63) + ".org", Out: "a@" + long("d", 63) + ".org"},
		"LabelOf64":                  {In: "a@" + long("d", 64) + ".org", Reason: "EMAIL_DOMAIN"},
		"TwoFinalDots":               {In: "a@example.org..", Reason: "EMAIL_DOMAIN"},
		"OnlyDot":                    {In: "a@.", Reason: "EMAIL_DOMAIN"},
		"EmptyLabel":                 {In: "a@example..org", Reason: "EMAIL_DOMAIN"},
		"LeadingDotInDomain":         {In: "a@.example.org", Reason: "EMAIL_DOMAIN"},
		"IdeographicFinalStop":       {In: "a@example\u3002org\u3002", Out: "a@example.org"},
		"TrailingHyphen":             {In: "a@example-.org", Reason: "EMAIL_DOMAIN"},
		"WideLabelWithLeadingHyphen": {In: "a@-bücher.example", Reason: "EMAIL_DOMAIN"},
		"TwoHyphensInASCII":          {In: "a@ab--cd.example", Out: "a@ab--cd.example"},
		"UpperCaseALabel":            {In: "a@XN--BCHER-KVA.example", Out: "a@xn--bcher-kva.example"},
		"BrokenALabel":               {In: "a@xn--a.example", Reason: "EMAIL_DOMAIN"},
		"ALabelOfASCII":              {In: "a@xn--abc-.example", Reason: "EMAIL_DOMAIN"},
		"IPv4":                       {In: "a@192.0.2.1", Reason: "EMAIL_DOMAIN"},
		"Literal":                    {In: "a@[192.0.2.1]", Reason: "EMAIL_DOMAIN"},
		"NumericLabelInside":         {In: "a@163.example.com", Out: "a@163.example.com"},
		"SpaceInDomain":              {In: "a@exam ple.org", Reason: "EMAIL_DOMAIN"},
		"FinalDotAndCapitals":        {In: "Ada@Example.org.", Out: "ada@example.org"},
	} {
		t.Run(name, func(t *testing.T) { checkVector(t, v) })
	}
}

// The rule names three characters; this finds them anew, so that a new Unicode version cannot add a fourth unseen.
func TestConfusableIsWhateverNFCMakesASCII(t *testing.T) {
	for r := rune(utf8.RuneSelf); r <= utf8.MaxRune; r++ {
		if !utf8.ValidRune(r) {
			continue
		}
		composed := norm.NFC.String(string(r))
		if strings.IndexFunc(composed, func(c rune) bool { return c < utf8.RuneSelf }) < 0 {
			continue
		}
		if _, err := address.Canonical("a" + string(r) + "b@example.org"); !errors.Is(err, address.ErrLocalConfusable) {
			t.Errorf("%U becomes %q and is not refused as confusable: %v", r, composed, err)
		}
	}
}

func assertCanonical(t *testing.T, raw string) bool {
	t.Helper()
	once, err := address.Canonical(raw)
	if err != nil {
		var refusal *address.Error
		if !errors.As(err, &refusal) || refusal.Code == "" || refusal.Text == "" || once != "" {
			t.Errorf("Canonical(%+q) refuses with %#v and %q", raw, err, once)
		}
		return false
	}
	twice, err := address.Canonical(once)
	if err != nil || twice != once {
		t.Errorf("Canonical(%+q) = %+q, whose canonical form is %+q, %v", raw, once, twice, err)
	}
	if len(once) > 254 || !utf8.ValidString(once) || !norm.NFC.IsNormalString(once) {
		t.Errorf("Canonical(%+q) = %+q: too long, or not NFC", raw, once)
	}
	return true
}

func TestCanonicalFormIsItsOwn(t *testing.T) {
	accepted := 0
	property := func(local, domain string, marks []uint8) bool {
		var b strings.Builder
		for i, r := range local + "AJhTwY" {
			if i > 20 {
				break
			}
			b.WriteRune(r)
			if i < len(marks) {
				b.WriteRune(0x0300 + rune(marks[i])%0x70)
			}
		}
		assertCanonical(t, local+"@"+domain+".example.org")
		assertCanonical(t, b.String()+"@example.org")
		if assertCanonical(t, lettersOf(marks)+"@"+lettersOf(marks)+".Example") {
			accepted++
		}
		return !t.Failed()
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 3000}); err != nil {
		t.Error(err)
	}
	if accepted < 300 {
		t.Errorf("only %d of 3000 made-up addresses were accepted: the property is hardly tried", accepted)
	}
}

// lettersOf spreads bytes over scripts in which lowering, composing and mapping have something to do.
func lettersOf(choices []uint8) string {
	letters := []rune("aAjJhHtTwWyY\u030c\u0331\u0308\u030aéÉßẞıİσςΣΩ\u0301кКメール게ㄱ\u1100\u1161\u11a8क\u093c0-.")
	var b strings.Builder
	for i, c := range choices {
		if i == 8 {
			break
		}
		b.WriteRune(letters[int(c)%len(letters)])
	}
	return b.String()
}

func FuzzCanonical(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.In)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		assertCanonical(t, raw)
		name, addr := address.ParseMailbox(raw)
		if again := address.DisplayName(name); again != name {
			t.Errorf("DisplayName(%+q) = %+q", name, again)
		}
		assertCanonical(t, addr)
	})
}

func TestEveryCodeIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../../docs/addresses.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []*address.Error{
		address.ErrSyntax, address.ErrTooLong, address.ErrDomain, address.ErrLocalCharacter, address.ErrLocalDot,
		address.ErrLocalInvisible, address.ErrLocalConfusable, address.ErrLocalTooLong,
	} {
		if !strings.Contains(string(page), "`"+e.Code+"`") {
			t.Errorf("docs/addresses.md does not explain %s", e.Code)
		}
	}
}
