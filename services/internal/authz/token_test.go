package authz

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// mint is a directory with a key, and the clock that signer and verifier go by.
type mint struct {
	dir    string
	clock  *clock.Fake
	signer *Signer
}

func newMint(t *testing.T) mint {
	t.Helper()
	dir := t.TempDir()
	if err := GenerateKey(dir); err != nil {
		t.Fatal(err)
	}
	signer, err := LoadSigner(filepath.Join(dir, SigningKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return mint{dir: dir, clock: clock.NewFake(noon), signer: signer}
}

func (m mint) verifier(t *testing.T) *StaticVerifier {
	t.Helper()
	verifier, err := NewStaticVerifier(filepath.Join(m.dir, JWKSFile), m.clock)
	if err != nil {
		t.Fatal(err)
	}
	return verifier
}

func (m mint) token(t *testing.T) string {
	t.Helper()
	token, err := Mint(m.signer, Principal{Subject: "ada", Grants: []Grant{{ChapterAdmin, "chapters/golang-paris"}}}, time.Hour, m.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// sign makes a token with any claims.
func (m mint) sign(t *testing.T, content any) string {
	t.Helper()
	token, err := jwt.Signed(m.signer.signer).Claims(content).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func goodClaims() map[string]any {
	return map[string]any{
		"iss": Issuer, "aud": Audience, "sub": "ada", "iat": noon.Unix(), "nbf": noon.Unix(), "exp": noon.Add(time.Hour).Unix(),
	}
}

func changed(key string, value any) map[string]any {
	content := goodClaims()
	if value == nil {
		delete(content, key)
	} else {
		content[key] = value
	}
	return content
}

func TestTokenSpeaksForItsPrincipal(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	got, err := m.verifier(t).Verify(t.Context(), m.token(t))
	if err != nil {
		t.Fatal(err)
	}
	want := Grant{ChapterAdmin, "chapters/golang-paris"}
	if got.Subject != "ada" || len(got.Grants) != 1 || got.Grants[0] != want {
		t.Errorf("got %+v", got)
	}
}

func TestTokenDiesAtItsExpiry(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	verifier, token := m.verifier(t), m.token(t)
	m.clock.Advance(time.Hour - time.Second)
	if _, err := verifier.Verify(t.Context(), token); err != nil {
		t.Errorf("a second before its end: %v", err)
	}
	m.clock.Advance(time.Second)
	if _, err := verifier.Verify(t.Context(), token); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("at its end: %v", err)
	}
}

func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	m, other := newMint(t), newMint(t)
	good := m.token(t)
	parts := strings.Split(good, ".")
	payload := base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"chapterhouse","aud":"chapterhouse","sub":"eve","exp":4102444800}`))
	jwks, err := os.ReadFile(filepath.Join(m.dir, JWKSFile))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]string{
		"Empty":                  "",
		"Garbage":                "garbage",
		"AnotherKey":             other.token(t),
		"AnotherPayload":         parts[0] + "." + payload + "." + parts[2],
		"NoSignature":            parts[0] + "." + parts[1] + ".",
		"AlgNone":                base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + payload + ".",
		"HMACWithThePublicKey":   hmacToken(t, m, jwks),
		"AnotherIssuer":          m.sign(t, changed("iss", "elsewhere")),
		"AnotherAudience":        m.sign(t, changed("aud", "elsewhere")),
		"NoIssuer":               m.sign(t, changed("iss", nil)),
		"NoAudience":             m.sign(t, changed("aud", nil)),
		"NoExpiry":               m.sign(t, changed("exp", nil)),
		"NoSubject":              m.sign(t, changed("sub", nil)),
		"Expired":                m.sign(t, changed("exp", noon.Add(-time.Second).Unix())),
		"NotYetValid":            m.sign(t, changed("nbf", noon.Add(time.Minute).Unix())),
		"IssuedInTheFuture":      m.sign(t, changed("iat", noon.Add(time.Minute).Unix())),
		"GrantsOfAnotherShape":   m.sign(t, changed("grants", "international_staff")),
		"LongerThanAnyRealToken": good + strings.Repeat("A", maxTokenBytes),
	}
	verifier := m.verifier(t)
	for name, token := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := verifier.Verify(t.Context(), token)
			if !errors.Is(err, ErrInvalidToken) || p.SignedIn() {
				t.Fatalf("got %+v, %v", p, err)
			}
			for part := range strings.SplitSeq(token, ".") {
				if len(part) > 8 && strings.Contains(err.Error(), part) {
					t.Errorf("the error quotes the token: %v", err)
				}
			}
		})
	}
	if _, err := verifier.Verify(t.Context(), m.sign(t, goodClaims())); err != nil {
		t.Errorf("the claims that the cases change are no good themselves: %v", err)
	}
}

func hmacToken(t *testing.T, m mint, secret []byte) string {
	t.Helper()
	header := (&jose.SignerOptions{}).WithHeader("kid", keyIDOf(t, m))
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: secret}, header)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(goodClaims()).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func keyIDOf(t *testing.T, m mint) string {
	t.Helper()
	key, err := readKey(filepath.Join(m.dir, SigningKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	return key.KeyID
}

func TestMintRefusesWhatGrantsNothing(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	cases := map[string]Principal{
		"NoSubject":              {Grants: []Grant{{Auditor, Federation}}},
		"UnknownRole":            {Subject: "ada", Grants: []Grant{{"emperor", Federation}}},
		"StaffOfAChapter":        {Subject: "ada", Grants: []Grant{{InternationalStaff, "chapters/golang-paris"}}},
		"CoordinatorOfAll":       {Subject: "ada", Grants: []Grant{{Coordinator, Federation}}},
		"AdminOfAList":           {Subject: "ada", Grants: []Grant{{ChapterAdmin, "chapters/golang-paris/lists/members"}}},
		"AdminOfNoChapter":       {Subject: "ada", Grants: []Grant{{ChapterAdmin, "chapters/"}}},
		"AdminNamedByItsCharter": {Subject: "ada", Grants: []Grant{{ChapterAdmin, "charters/golang-paris"}}},
	}
	for name, principal := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if token, err := Mint(m.signer, principal, time.Hour, noon); err == nil {
				t.Errorf("minted %s", token)
			}
		})
	}
}

func TestVerifierFollowsItsKeyFile(t *testing.T) {
	t.Parallel()
	m, next := newMint(t), newMint(t)
	verifier := m.verifier(t)
	path := filepath.Join(m.dir, JWKSFile)
	accepts := func(token string) bool {
		_, err := verifier.Verify(t.Context(), token)
		return err == nil
	}

	if err := os.WriteFile(path, []byte("{half a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !accepts(m.token(t)) {
		t.Error("a file that is being written took the keys away")
	}
	if err := os.Rename(filepath.Join(next.dir, JWKSFile), path); err != nil {
		t.Fatal(err)
	}
	if accepts(m.token(t)) {
		t.Error("a key that was withdrawn is still accepted")
	}
	if !accepts(next.token(t)) {
		t.Error("a key that was added is not accepted")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if !accepts(next.token(t)) {
		t.Error("a missing file took the keys away")
	}
}

func TestGenerateKeyKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	token := m.token(t)
	if err := os.Remove(filepath.Join(m.dir, JWKSFile)); err != nil {
		t.Fatal(err)
	}
	if err := GenerateKey(m.dir); err != nil {
		t.Fatal(err)
	}
	if _, err := m.verifier(t).Verify(t.Context(), token); err != nil {
		t.Errorf("the key changed: %v", err)
	}
	if leftovers, _ := filepath.Glob(filepath.Join(m.dir, ".new-*")); len(leftovers) > 0 {
		t.Errorf("left behind: %v", leftovers)
	}
}

func TestPrivateKeyIsPrivate(t *testing.T) {
	t.Parallel()
	m := newMint(t)
	path := filepath.Join(m.dir, SigningKeyFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Fatalf("%v, %v", info.Mode(), err)
	}
	jwks, err := os.ReadFile(filepath.Join(m.dir, JWKSFile))
	if err != nil || strings.Contains(string(jwks), `"d"`) {
		t.Fatalf("the JWKS holds the private key, or %v", err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSigner(path); err == nil {
		t.Error("LoadSigner takes a key that everybody may read")
	}
	if _, err := LoadSigner(filepath.Join(m.dir, JWKSFile)); err == nil {
		t.Error("LoadSigner takes a JWKS")
	}
}

// issuer is an OpenID Connect provider whose keys can be made unreachable.
func issuer(t *testing.T, m mint) (url string, cut func()) {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{
			"issuer": server.URL, "jwks_uri": server.URL + "/keys", "authorization_endpoint": server.URL + "/a", "token_endpoint": server.URL + "/t",
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, filepath.Join(m.dir, JWKSFile))
	})
	return server.URL, func() {
		_ = os.Remove(filepath.Join(m.dir, JWKSFile)) // the server answers 404
	}
}

func TestOIDC(t *testing.T) {
	t.Parallel()
	m, other := newMint(t), newMint(t)
	url, cut := issuer(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	fresh := func() *OIDCVerifier {
		verifier, err := NewOIDCVerifier(ctx, url, "chapterhouse-api", m.clock)
		if err != nil {
			t.Fatal(err)
		}
		return verifier
	}
	content := changed("iss", url)
	content["aud"] = []string{"chapterhouse-api"}
	content["grants"] = []Grant{{Coordinator, "regions/europe"}}
	token := m.sign(t, content)

	verifier := fresh()
	p, err := verifier.Verify(ctx, token)
	if err != nil || p.Subject != "ada" || len(p.Grants) != 1 {
		t.Fatalf("got %+v, %v", p, err)
	}
	for name, bad := range map[string]string{
		"a platform token": m.token(t), "garbage": "garbage", "another key": other.sign(t, content),
	} {
		if _, err := verifier.Verify(ctx, bad); !errors.Is(err, ErrInvalidToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	unfetched := fresh()
	cut()
	if _, err := unfetched.Verify(ctx, token); err == nil || errors.Is(err, ErrInvalidToken) {
		t.Errorf("keys out of reach: %v", err)
	}
	m.clock.Advance(2 * time.Hour)
	if _, err := verifier.Verify(ctx, token); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("expired: %v", err)
	}
}

func TestVerifierTakesEd25519Only(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "jwks.json")
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]jose.JSONWebKey{
		"private":   {Key: private, KeyID: "k"},
		"nameless":  {Key: private.Public()},
		"symmetric": {Key: []byte("0123456789abcdef"), KeyID: "k"},
	} {
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewStaticVerifier(path, clock.System{}); err == nil {
			t.Errorf("takes a %s key", name)
		}
	}
}
