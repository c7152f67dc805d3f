package address_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/address"
)

const masterHex = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

const (
	goldenSiteKey = "69299131334afc28f9bbe8a7cf123836981aba45923a469ee2db64c77346654c"
	goldenToken   = "01018b2fa33eb7bb4b2282b5a2afda4bf27fc21782cd0f4035910cda38d3ca605081"
	goldenEntryID = "e040ombt37qrrmip2gaqq5buq9fp7vggngb6gug1li46dke6jp9g5108"
)

func masterKey(t testing.TB) address.MasterKey {
	t.Helper()
	key, err := address.ParseMasterKey(masterHex + "\n")
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// The golden values were computed apart from this package (Python's hmac, HKDF written out after RFC 5869).
func TestTokenIsTheDocumentedHash(t *testing.T) {
	site := masterKey(t).SiteKey("main")
	if got := site.Hex(); got != goldenSiteKey {
		t.Errorf("site key %s, want %s", got, goldenSiteKey)
	}
	token := site.Token("ada@example.org")
	if got := hex.EncodeToString(token[:]); got != goldenToken {
		t.Errorf("token %s, want %s", got, goldenToken)
	}
	if got := token.EntryID(); got != goldenEntryID {
		t.Errorf("entry id %s, want %s", got, goldenEntryID)
	}
}

func TestTokenAgreesWithPlainHMAC(t *testing.T) {
	secret, err := hex.DecodeString(masterHex)
	if err != nil {
		t.Fatal(err)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "chapterhouse/site/lyon/k1", 32)
	if err != nil {
		t.Fatal(err)
	}
	site := masterKey(t).SiteKey("lyon")
	for i := range 300 {
		addr := strings.Repeat("x", i) + "@example.org"
		mac := hmac.New(sha256.New, derived)
		mac.Write([]byte(addr))
		want := mac.Sum([]byte{1, 1})
		if token := site.Token(addr); !bytes.Equal(token[:], want) {
			t.Fatalf("token of an address of %d bytes: %x, want %x", len(addr), token, want)
		}
	}
}

func TestTokensAreSafeForConcurrentUse(t *testing.T) {
	site := masterKey(t).SiteKey("main")
	want := make([]address.Token, 50)
	for i := range want {
		want[i] = masterKey(t).SiteKey("main").Token(fmt.Sprintf("p%d@example.org", i))
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				if site.Token(fmt.Sprintf("p%d@example.org", i%50)) != want[i%50] {
					t.Errorf("p%d has another token under concurrency", i%50)
				}
			}
		})
	}
	wg.Wait()
}

func TestSitesCannotBeMatchedWithEachOther(t *testing.T) {
	master := masterKey(t)
	if master.SiteKey("lyon").Token("ada@example.org") == master.SiteKey("oslo").Token("ada@example.org") {
		t.Error("two sites share a token")
	}
}

func TestKeyFilesRoundTrip(t *testing.T) {
	master := address.NewMasterKey()
	again, err := address.ParseMasterKey(master.Hex())
	if err != nil || again.Hex() != master.Hex() {
		t.Errorf("master key: %v", err)
	}
	site, err := address.ParseSiteKey(" " + master.SiteKey("main").Hex() + "\r\n")
	if err != nil || site.Token("a@example.org") != master.SiteKey("main").Token("a@example.org") {
		t.Errorf("site key: %v", err)
	}
	if master.IsZero() || site.IsZero() || !(address.MasterKey{}).IsZero() || !(address.SiteKey{}).IsZero() {
		t.Error("IsZero is wrong")
	}
	if address.NewMasterKey().Hex() == master.Hex() {
		t.Error("two new keys are equal")
	}
	for _, text := range []string{"", "00", masterHex + "00", masterHex[:62] + "zz"} {
		_, masterErr := address.ParseMasterKey(text)
		_, siteErr := address.ParseSiteKey(text)
		if masterErr == nil || siteErr == nil {
			t.Errorf("a key of %d characters is accepted", len(text))
			continue
		}
		if text != "" && strings.Contains(masterErr.Error()+siteErr.Error(), text) {
			t.Errorf("the error repeats the key: %v", masterErr)
		}
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	master := masterKey(t)
	site := master.SiteKey("main")
	type config struct {
		Master  address.MasterKey
		Site    address.SiteKey
		private address.MasterKey
		hidden  *address.SiteKey
	}
	c := config{master, site, master, &site}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%q", "%d"} {
		for _, value := range []any{master, site, &master, &site, c, &c, []any{master, site}} {
			fmt.Fprintf(&out, verb+"\n", value)
		}
	}
	encoded, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(encoded)
	for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(handler).Info("started", "master", master, "site", site, "config", c)
	}
	printed := strings.ToLower(strings.NewReplacer(" ", "", ",", "", "0x", "").Replace(out.String()))
	for _, secret := range []string{masterHex, site.Hex()} {
		raw, _ := hex.DecodeString(secret)
		decimal := strings.NewReplacer(" ", "", "[", "", "]", "").Replace(fmt.Sprintf("%d", raw))
		for _, form := range []string{secret[:16], decimal[:20]} {
			if strings.Contains(printed, form) {
				t.Errorf("a key was printed as %s", form)
			}
		}
	}
}

func TestEntryIDs(t *testing.T) {
	var tokens []address.Token
	for range 200 {
		var token address.Token
		_, _ = rand.Read(token[:])
		tokens = append(tokens, token)
		back, err := address.ParseEntryID(token.EntryID())
		if err != nil || back != token || len(token.EntryID()) != 56 {
			t.Fatalf("%x does not come back from %s: %v", token, token.EntryID(), err)
		}
	}
	byToken := slices.SortedFunc(slices.Values(tokens), func(a, b address.Token) int { return bytes.Compare(a[:], b[:]) })
	byID := slices.SortedFunc(slices.Values(tokens), func(a, b address.Token) int { return strings.Compare(a.EntryID(), b.EntryID()) })
	if !slices.Equal(byToken, byID) {
		t.Error("ids are not in the order of their tokens")
	}
}

func TestParseEntryIDRefusesOtherSpellings(t *testing.T) {
	id := masterKey(t).SiteKey("main").Token("ada@example.org").EntryID()
	for name, text := range map[string]string{
		"Empty":     "",
		"TooShort":  id[:55],
		"TooLong":   id + "0",
		"Capitals":  strings.ToUpper(id),
		"OtherHead": "f" + id[1:],
		"NotBase32": id[:55] + "z",
		"SpareBits": id[:55] + "v",
		"LineBreak": id[:54] + "\n" + id[55:],
	} {
		if _, err := address.ParseEntryID(text); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTokenFromBytes(t *testing.T) {
	token := masterKey(t).SiteKey("main").Token("ada@example.org")
	if back, err := address.TokenFromBytes(token[:]); err != nil || back != token {
		t.Errorf("%v, %v", back, err)
	}
	if _, err := address.TokenFromBytes(token[:33]); err == nil {
		t.Error("33 bytes are accepted")
	}
}

func BenchmarkCanonicalAndToken(b *testing.B) {
	site := masterKey(b).SiteKey("main")
	for name, raw := range map[string]string{
		"ASCII":      "kofi.lindqvist0@example.org",
		"Capitals":   "Kofi.Lindqvist0@Example.ORG",
		"WideLocal":  "josé@example.com",
		"WideDomain": "x@bücher.example",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				canonical, err := address.Canonical(raw)
				if err != nil {
					b.Fatal(err)
				}
				site.Token(canonical)
			}
		})
	}
	b.Run("Parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				canonical, _ := address.Canonical("kofi.lindqvist0@example.org")
				site.Token(canonical)
			}
		})
	})
}
