package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// rest calls a platform as a program of its users would.
type rest struct {
	t    *testing.T
	base string
	keys string // the directory of a local platform, or of keys
}

type answer struct {
	status int
	body   map[string]any
}

func (r *rest) token(role authz.Role, scope string) string {
	r.t.Helper()
	keys, err := platform.KeysOf(r.keys)
	if err != nil {
		keys = platform.Keys{Dir: r.keys}
	}
	token, err := keys.Mint(platform.Person(role, scope, ""), time.Hour, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	return token
}

func (r *rest) staff() string { return r.token(authz.InternationalStaff, "") }

func (r *rest) admin() string { return r.token(authz.ChapterAdmin, "chapters/golang-paris") }

func (r *rest) send(method, path, token, mediaType, body string) answer {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.base+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
	}
	got, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := answer{status: got.StatusCode}
	if err := json.Unmarshal(text, &a.body); err != nil {
		r.t.Fatalf("%s %s: %s: %s", method, path, got.Status, text)
	}
	return a
}

func (r *rest) get(token, path string) map[string]any {
	r.t.Helper()
	return r.succeed("GET", path, token, "", "")
}

func (r *rest) post(token, path, body string) map[string]any {
	r.t.Helper()
	return r.succeed("POST", path, token, "application/json", body)
}

func (r *rest) succeed(method, path, token, mediaType, body string) map[string]any {
	r.t.Helper()
	a := r.send(method, path, token, mediaType, body)
	if a.status != http.StatusOK {
		r.t.Fatalf("%s %s: %d %v", method, path, a.status, a.body)
	}
	return a.body
}

// refused sends what must fail, and returns the reason.
func (r *rest) refused(token, path, body string) (status int, reason string) {
	r.t.Helper()
	a := r.send("POST", path, token, "application/json", body)
	details, _ := a.body["details"].([]any)
	for _, detail := range details {
		if info, ok := detail.(map[string]any); ok && info["reason"] != nil {
			return a.status, fmt.Sprint(info["reason"])
		}
	}
	return a.status, ""
}

// makeChapter makes golang-paris in regions/europe.
func (r *rest) makeChapter() {
	r.t.Helper()
	r.post(r.staff(), "/v1/regions?regionId=europe", `{"displayName":"Europe","parentRegion":"regions/world"}`)
	r.post(r.staff(), "/v1/chapters?chapterId=golang-paris", `{"displayName":"Golang Paris","region":"regions/europe"}`)
}

// member enters an active member with the address m<n>@example.org and returns the name.
func (r *rest) member(n int) string {
	r.t.Helper()
	body := fmt.Sprintf(`{"displayName":"Member %d","addresses":[{"address":"m%d@example.org","verified":true}],"termEndTime":"%s"}`,
		n, n, time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339))
	return fmt.Sprint(r.post(r.staff(), "/v1/members", body)["name"])
}

func (r *rest) upload(addresses ...string) {
	r.t.Helper()
	r.succeed("POST", "/v1/chapters/golang-paris/lists/members/syncs?mode=REPLACE&source=test&apply=true",
		r.admin(), "text/csv", "address\n"+strings.Join(addresses, "\n")+"\n")
}

// awaitStanding waits for figures "international of total", and returns the standing's etag.
func (r *rest) awaitStanding(want string) (etag string) {
	r.t.Helper()
	testkit.Eventually(r.t, patience, func() (bool, string) {
		standing := r.get(r.staff(), "/v1/chapters/golang-paris/standing")
		membership, _ := standing["membership"].(map[string]any)
		got := fmt.Sprintf("%v of %v", membership["international"], membership["total"])
		etag = fmt.Sprint(standing["etag"])
		return got == want, "the standing is " + got + ", want " + want
	})
	return etag
}

func (r *rest) awaitCharter(want string) {
	r.t.Helper()
	testkit.Eventually(r.t, patience, func() (bool, string) {
		got := fmt.Sprint(r.get(r.staff(), "/v1/charters/golang-paris")["state"])
		return got == want, "the charter is " + got + ", want " + want
	})
}

// status returns the status of a page that needs no token and says nothing in JSON.
func (r *rest) status(path string) int {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.base+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	got, err := (&http.Client{Timeout: patience}).Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = got.Body.Close()
	return got.StatusCode
}
