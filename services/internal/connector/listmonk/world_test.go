package listmonk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/listmonk"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// world is a list of the test's own on an instance: the stand-in, or a real listmonk 6 with nothing worth keeping on it
// where CHAPTERHOUSE_LISTMONK_URL, _USER and _TOKEN (of a super admin's API user) name one.
type world struct {
	standin          *standin // nil for a real one
	url, user, token string
	list             int
	domain           string // of addresses that no other test has
	remote           *listmonk.List
}

func setup(t *testing.T, optin string) world {
	t.Helper()
	w := world{url: os.Getenv("CHAPTERHOUSE_LISTMONK_URL"), user: os.Getenv("CHAPTERHOUSE_LISTMONK_USER"), token: os.Getenv("CHAPTERHOUSE_LISTMONK_TOKEN")}
	if w.url == "" {
		w.standin = startStandin(t)
		w.url, w.user, w.token = w.standin.url, standinUser, standinToken
	}
	w.list = w.newList(t, optin)
	w.domain = fmt.Sprintf("run%d-%d.example.org", os.Getpid(), worlds.Add(1))
	w.remote = w.through(t, w.url)
	return w
}

var worlds atomic.Int64

func (w world) config() listmonk.Config {
	return listmonk.Config{URL: w.url, Username: w.user, Token: w.token, ListID: w.list}
}

func connect(t *testing.T, config listmonk.Config) *listmonk.List {
	t.Helper()
	remote, err := listmonk.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return remote
}

// through is the same list behind another URL.
func (w world) through(t *testing.T, url string) *listmonk.List {
	config := w.config()
	config.URL = url
	return connect(t, config)
}

func (w world) at(name string) string { return name + "@" + w.domain }

func (w world) newList(t *testing.T, optin string) int {
	t.Helper()
	return w.call(t, http.MethodPost, "/api/lists", map[string]any{"name": "List", "type": "private", "optin": optin})
}

// subscriber makes one and returns the id. Its subscriptions are confirmed.
func (w world) subscriber(t *testing.T, email, name string, lists ...int) int {
	t.Helper()
	return w.call(t, http.MethodPost, "/api/subscribers", map[string]any{
		"email": email, "name": name, "status": "enabled", "lists": lists, "preconfirm_subscriptions": true,
	})
}

func (w world) manage(t *testing.T, action, status string, list int, ids ...int) {
	t.Helper()
	w.call(t, http.MethodPut, "/api/subscribers/lists", map[string]any{
		"ids": ids, "action": action, "target_list_ids": []int{list}, "status": status,
	})
}

func (w world) blocklist(t *testing.T, id int) {
	t.Helper()
	w.call(t, http.MethodPut, "/api/subscribers/"+strconv.Itoa(id)+"/blocklist", map[string]any{})
}

// fill adds members by our own import, which a test of its own looks at.
func (w world) fill(t *testing.T, count int, name string) {
	t.Helper()
	var changes []connector.Change
	for n := range count {
		changes = append(changes, connector.Change{
			Action: connector.Add, Address: w.at(fmt.Sprintf(name, n)), DisplayName: fmt.Sprintf("Mëmber, %d", n),
		})
	}
	if result := w.push(t, changes...); result.Added != count {
		t.Fatalf("%d added, want %d", result.Added, count)
	}
}

// call returns the id that the answer holds.
func (w world) call(t *testing.T, method, path string, body any) int {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, w.url+path, bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	request.SetBasicAuth(w.user, w.token)
	request.Header.Set("Content-Type", "application/json")
	response, err := (&http.Client{}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var answer struct{ Data json.RawMessage }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v", method, path, response.Status, err)
	}
	var made struct{ ID int }
	_ = json.Unmarshal(answer.Data, &made)
	return made.ID
}

func (w world) push(t *testing.T, changes ...connector.Change) connector.Result {
	t.Helper()
	result, err := w.remote.Push(t.Context(), changes)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// wantKind also holds for all errors that they name neither the token nor anybody's address.
func (w world) wantKind(t *testing.T, err error, kind connector.Kind, setting string) {
	t.Helper()
	var e *connector.Error
	if !errors.As(err, &e) || e.Kind != kind || e.Setting != setting {
		t.Fatalf("%#v (%v), want kind %d, setting %q", err, err, kind, setting)
	}
	if text := err.Error(); strings.Contains(text, "@") || strings.Contains(text, w.token) || !strings.Contains(text, " ") {
		t.Errorf("the error says %q", text)
	}
}
