package mailmantest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var client = &http.Client{Timeout: time.Minute}

var lists atomic.Int64

// List makes a list of the test's own and returns its id.
func (c *Core) List(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("list%d", lists.Add(1))
	c.Post(t, "/3.1/lists", url.Values{"fqdn_listname": {name + "@" + Domain}})
	return name + "." + Domain
}

// Post and the others below make a call that has to succeed, and return what it answers.
func (c *Core) Post(t testing.TB, path string, form url.Values) map[string]any {
	t.Helper()
	return c.must(t, http.MethodPost, path, form)
}

// Patch changes a resource.
func (c *Core) Patch(t testing.TB, path string, form url.Values) {
	t.Helper()
	c.must(t, http.MethodPatch, path, form)
}

// Delete deletes one.
func (c *Core) Delete(t testing.TB, path string) {
	t.Helper()
	c.must(t, http.MethodDelete, path, nil)
}

// Get reads one.
func (c *Core) Get(t testing.TB, path string) map[string]any {
	t.Helper()
	return c.must(t, http.MethodGet, path, nil)
}

func (c *Core) must(t testing.TB, method, path string, form url.Values) map[string]any {
	t.Helper()
	answer, err := c.call(t.Context(), method, path, form)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

func (c *Core) call(ctx context.Context, method, path string, form url.Values) (map[string]any, error) {
	request, err := http.NewRequestWithContext(ctx, method, c.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.SetBasicAuth(Username, Password)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, path, response.Status, body)
	}
	answer := map[string]any{}
	if len(body) > 0 {
		err = json.Unmarshal(body, &answer)
	}
	return answer, err
}

// Subscribe puts an address on a list as a member, without asking anybody, and returns the member's id.
func (c *Core) Subscribe(t testing.TB, list, address, displayName string) string {
	t.Helper()
	c.Post(t, "/3.1/members", url.Values{
		"list_id": {list}, "subscriber": {address}, "display_name": {displayName},
		"pre_verified": {"true"}, "pre_confirmed": {"true"}, "pre_approved": {"true"}, "send_welcome_message": {"false"},
	})
	member := c.Get(t, "/3.1/lists/"+list+"/member/"+url.PathEscape(address))
	return member["member_id"].(string)
}

// fill writes members where Mailman would: through its API 2,500 take a minute and a half.
const fill = `
import sqlite3, sys, uuid
db = sqlite3.connect(sys.argv[1], timeout=60)
list_id = sys.argv[2]
for n in range(int(sys.argv[3])):
    preferences = [db.execute("INSERT INTO preferences DEFAULT VALUES").lastrowid for _ in range(2)]
    email = sys.argv[4] % n
    address = db.execute("INSERT INTO address (email, display_name, preferences_id) VALUES (?, ?, ?)",
        (email, sys.argv[5].replace("%d", str(n)), preferences[0])).lastrowid
    db.execute("INSERT INTO member (_member_id, role, list_id, address_id, preferences_id, bounce_score, total_warnings_sent)"
        " VALUES (?, 1, ?, ?, ?, 0, 0)", (uuid.uuid4().hex, list_id, address, preferences[1]))
db.commit()
`

// Fill puts many members on a list. A %d in the address, and in the name, is the number of the member.
func (c *Core) Fill(t testing.TB, list string, count int, address, displayName string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", fill, //nolint:gosec // the script above
		filepath.Join(c.dir, "data", "mailman.db"), list, fmt.Sprint(count), address, displayName)
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, said)
	}
}

// Mails counts the mails that wait in Mailman's queues and mention the text.
func (c *Core) Mails(t testing.TB, text string) int {
	t.Helper()
	mails := 0
	queues := os.DirFS(filepath.Join(c.dir, "queue"))
	err := fs.WalkDir(queues, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		mail, err := fs.ReadFile(queues, path)
		if strings.Contains(string(mail), text) {
			mails++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return mails
}
