package platformtest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
)

// mistake is a request as somebody gets it wrong, and what they are told.
type mistake struct {
	name    string
	request string // "<method> <path>"
	media   string
	body    string
	token   string // of the chapter's admin when empty; "none" for none
	status  int
	reason  string
	says    string // what the detail tells to do or what is wrong
}

const parisSyncs = "POST /v1/" + onParis + "/syncs?mode=REPLACE&source=crm"

// TestBadInput sends what people and programs get wrong, and wants each to have its own clear answer.
func TestBadInput(t *testing.T) {
	h, tr := twoChapters(t, func(s *settings) {
		s.gateway.MaxBodyBytes, s.gateway.MaxUploadBytes, s.local.MaxUploadRows = 4<<10, 64<<10, 100
	})
	tokens := h.wrongTokens(t)
	status, page := send(t, get(http.NewRequestWithContext(t.Context(), http.MethodGet, h.federation.rest+"/docs/errors", nil))(t))
	if status != http.StatusOK {
		t.Fatalf("the page of errors: %d", status)
	}
	long := strings.Repeat("x", 8<<10)
	for _, m := range []mistake{
		{"QuoteThatNeverCloses", parisSyncs, "text/csv", "email,name\n\"a@example.org,A\nb@example.org,B\n", "", 400, "SOURCE_UNREADABLE", "line"},
		{"NothingInTheFile", parisSyncs, "text/csv", " \n", "", 400, "SOURCE_EMPTY", "nothing in it"},
		{"HeaderAndNothingElse", parisSyncs, "text/csv", "email,name\n", "", 400, "SOURCE_EMPTY", ""},
		{"NoColumnOfAddresses", parisSyncs, "text/csv", "name,city\nAda,Paris\n", "", 400, "SOURCE_NO_ADDRESS_COLUMN", ""},
		{"NoRowWithAnAddress", parisSyncs, "text/csv", "email\nnobody\n", "", 400, "SOURCE_UNREADABLE", "none of its 1 rows"},
		{"BrokenJSON", parisSyncs, "application/json", `{"entries":[{"address":"a@example.org"},`, "", 400, "SOURCE_UNREADABLE", ""},
		{"SourceOfAnotherType", parisSyncs, "application/pdf", "%PDF-1.7", "", 415, "UNSUPPORTED_MEDIA_TYPE", "text/csv"},
		{"SourceTooLarge", parisSyncs, "text/csv", "email\n" + strings.Repeat("somebody@example.org\n", 4<<10), "", 413, "TOO_LARGE", "65536"},
		{"TooManyRows", parisSyncs, "text/csv", "email\n" + strings.Join(numbered("a", 101), "\n"), "", 413, "TOO_LARGE", "100"},
		{"NoSource", "POST /v1/" + onParis + "/syncs?mode=REPLACE", "text/csv", "email\na@example.org\n", "", 400, "MALFORMED_REQUEST", "source"},
		{"UnknownMode", "POST /v1/" + onParis + "/syncs?mode=ERASE&source=crm", "text/csv", "email\na@example.org\n", "", 400, "MALFORMED_REQUEST", "REPLACE or MERGE"},
		{"BadAddress", "POST /v1/" + onParis + "/entries", "", `{"address":"ada at example.org"}`, "", 400, "ADDRESS_INVALID", "entry.address"},
		{"UnknownChapter", "GET /v1/chapters/atlantis", "", "", "", 404, "NOT_FOUND", "chapters/atlantis"},
		{"SyncOfAnUnknownList", "POST /v1/chapters/paris/lists/atlantis/syncs?mode=MERGE&source=crm", "text/csv", "email\na@example.org\n", "", 404, "NOT_FOUND", "lists/atlantis"},
		{"UnknownPath", "GET /v1/atlantis", "", "", "", 404, "UNKNOWN_ROUTE", "/docs"},
		{"WrongVerb", "DELETE /v1/chapters/paris", "", "", "", 405, "UNKNOWN_ROUTE", "GET"},
		{"BadID", "POST /v1/" + "chapters/paris/lists?listId=No:Id", "", `{"displayName":"x"}`, "", 400, "INVALID_FIELD", "listId"},
		{"NotSignedIn", "GET /v1/chapters/paris/standing", "", "", "none", 401, "UNAUTHENTICATED", "sign in"},
		{"ForgedToken", "GET /v1/chapters/paris/standing", "", "", tokens["forged"], 401, "UNAUTHENTICATED", ""},
		{"AlteredToken", "GET /v1/chapters/paris/standing", "", "", tokens["altered"], 401, "UNAUTHENTICATED", ""},
		{"UnsignedToken", "GET /v1/chapters/paris/standing", "", "", tokens["unsigned"], 401, "UNAUTHENTICATED", ""},
		{"ExpiredToken", "GET /v1/chapters/paris/standing", "", "", tokens["expired"], 401, "UNAUTHENTICATED", "sign in again"},
		{"NoToken", "GET /v1/chapters/paris/standing", "", "", "token", 401, "UNAUTHENTICATED", ""},
		{"SomebodyElsesChapter", "GET /v1/" + onBerlin + "/entries", "", "", "", 403, "PERMISSION_DENIED", ""},
		{"InventedPageToken", "GET /v1/" + onParis + "/entries?pageToken=bm90LW91cnM", "", "", "", 400, "PAGE_TOKEN_INVALID", ""},
		{"NegativePage", "GET /v1/" + onParis + "/entries?pageSize=-1", "", "", "", 400, "INVALID_FIELD", "pageSize"},
		{"UnknownParameter", "GET /v1/" + onParis + "/entries?limit=10", "", "", "", 400, "MALFORMED_REQUEST", "limit"},
		{"UnknownField", "POST /v1/" + onParis + "/entries", "", `{"address":"a@example.org","subscribed":true}`, "", 400, "MALFORMED_REQUEST", "subscribed"},
		{"WrongTypeOfField", "POST /v1/" + onParis + "/entries", "", `{"address":7}`, "", 400, "MALFORMED_REQUEST", "address"},
		{"NotJSON", "POST /v1/" + onParis + "/entries", "", `address=a@example.org`, "", 400, "MALFORMED_REQUEST", "JSON"},
		{"JSONOfAnotherType", "POST /v1/" + onParis + "/entries", "text/plain", `{"address":"a@example.org"}`, "", 415, "UNSUPPORTED_MEDIA_TYPE", "application/json"},
		{"BodyTooLarge", "POST /v1/" + onParis + "/entries", "", `{"address":"a@example.org","displayName":"` + long + `"}`, "", 413, "TOO_LARGE", "4096"},
		{"FieldTooLong", "POST /v1/" + onParis + "/entries", "", `{"address":"a@example.org","displayName":"` + long[:300] + `"}`, "", 400, "INVALID_FIELD", "displayName"},
		{"TwoRequestIDs", "POST /v1/" + onParis + "/entries/e2:unsubscribe", "", `{"requestId":"` + long[:201] + `"}`, "", 400, "INVALID_FIELD", "requestId"},
	} {
		t.Run(m.name, func(t *testing.T) {
			h.wantAnswer(t, m)
			if !strings.Contains(string(page), `<dt id="`+m.reason+`">`) {
				t.Errorf("the page of errors does not say what to do about %s", m.reason)
			}
		})
	}
	h.settle(t, tr, patience) // and nothing of it has changed anything
}

func (h *house) wantAnswer(t *testing.T, m mistake) {
	t.Helper()
	method, path, _ := strings.Cut(m.request, " ")
	r := get(http.NewRequestWithContext(bounded(t, patience), method, h.federation.rest+path, strings.NewReader(m.body)))(t)
	if m.media == "" {
		m.media = "application/json"
	}
	if m.body != "" {
		r.Header.Set("Content-Type", m.media)
	}
	switch m.token {
	case "none":
	case "":
		r.Header.Set("Authorization", "Bearer "+h.token(t, authz.ChapterAdmin, "chapters/"+paris))
	default:
		r.Header.Set("Authorization", "Bearer "+m.token)
	}
	response := get(restClient.Do(r))(t)
	defer func() { _ = response.Body.Close() }()
	text := get(io.ReadAll(response.Body))(t)
	if media := response.Header.Get("Content-Type"); media != "application/problem+json" {
		t.Errorf("the error is sent as %q", media)
	}
	got := problemIn(t, response.StatusCode, text)
	if got.status != m.status || got.reason != m.reason {
		t.Errorf("%d %s, want %d %s: %s", got.status, got.reason, m.status, m.reason, text)
	}
	var problem struct{ Detail string }
	must(t, json.Unmarshal(text, &problem))
	if !strings.Contains(problem.Detail, m.says) {
		t.Errorf("says %q, want something of %q", problem.Detail, m.says)
	}
	if strings.Contains(string(text), "example.org") {
		t.Errorf("an address is in %s", text)
	}
}

// wrongTokens are tokens that open nothing.
func (h *house) wrongTokens(t *testing.T) map[string]string {
	t.Helper()
	person := platform.Person(authz.ChapterAdmin, "chapters/"+paris, "")
	good := h.token(t, authz.ChapterAdmin, "chapters/"+paris)
	parts := strings.Split(good, ".")
	foreign := get(platform.MakeKeys(filepath.Join(t.TempDir(), "keys"), nil))(t)
	claims := get(base64.RawURLEncoding.DecodeString(parts[1]))(t)
	raised := strings.Replace(string(claims), "chapter_admin", "auditor", 1)
	encoded := base64.RawURLEncoding.EncodeToString
	return map[string]string{
		"forged":   get(foreign.Mint(person, time.Hour, h.clock.Now()))(t),
		"expired":  get(h.keys.Mint(person, time.Minute, h.clock.Now().Add(-time.Hour)))(t),
		"altered":  parts[0] + "." + encoded([]byte(raised)) + "." + parts[2],
		"unsigned": encoded([]byte(`{"alg":"none"}`)) + "." + parts[1] + ".",
	}
}
