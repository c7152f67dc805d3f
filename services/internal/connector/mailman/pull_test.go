package mailman_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/connectortest"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/mailman"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/mailmantest"
)

func TestPullOfNobody(t *testing.T) {
	t.Parallel()
	if people := connectortest.Pull(t, setup(t).remote); len(people) != 0 {
		t.Errorf("pulled %v from an empty list", people)
	}
}

func TestPullKnowsAllStates(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.core.Subscribe(t, w.list, w.at("ada"), "Åda Rao 山田")
	bounced := w.core.Subscribe(t, w.list, w.at("bounced"), "")
	w.core.Patch(t, "/3.1/members/"+bounced+"/preferences", url.Values{"delivery_status": {"by_bounces"}})
	paused := w.core.Subscribe(t, w.list, w.at("paused"), "")
	w.core.Patch(t, "/3.1/members/"+paused+"/preferences", url.Values{"delivery_status": {"by_user"}})
	w.core.Post(t, "/3.1/members", url.Values{"list_id": {w.list}, "subscriber": {w.at("asks")}, "display_name": {"Asks"}})
	w.core.Post(t, "/3.1/members", url.Values{"list_id": {w.list}, "subscriber": {w.at("owner")}, "role": {"owner"}})
	w.core.Post(t, "/3.1/lists/"+w.list+"/bans", url.Values{"email": {w.at("banned")}})
	left := w.core.Subscribe(t, w.list, w.at("left"), "")
	w.core.Delete(t, "/3.1/members/"+left)
	w.core.Subscribe(t, w.core.List(t), w.at("elsewhere"), "")

	want := map[string]connector.Person{
		w.at("ada"):     {Address: w.at("ada"), DisplayName: "Åda Rao 山田", State: connector.Subscribed},
		w.at("bounced"): {Address: w.at("bounced"), State: connector.Bounced},
		w.at("paused"):  {Address: w.at("paused"), State: connector.Subscribed},
		w.at("asks"):    {Address: w.at("asks"), DisplayName: "Asks", State: connector.Pending},
	}
	got := connectortest.Pull(t, w.remote)
	for address, person := range want {
		if got[address] != person {
			t.Errorf("%s: %+v, want %+v", address, got[address], person)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d people, want %d: %v", len(got), len(want), got)
	}
}

func TestPullReadsAllPages(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.core.Fill(t, w.list, 2500, w.at("m%d"), "Mëmber %d")
	people := connectortest.Pull(t, w.remote)
	if len(people) != 2500 {
		t.Fatalf("%d people, want 2500", len(people))
	}
	for n := range 2500 {
		if name := people[w.at(fmt.Sprintf("m%d", n))].DisplayName; name != fmt.Sprintf("Mëmber %d", n) {
			t.Fatalf("member %d is called %q", n, name)
		}
	}
}

// Between two pages somebody of the first page leaves and somebody of the last page joins: the total stays, each page
// is full, and yet one member moves from the second page to the first, unseen.
func TestPullNoticesChangesThatKeepTheTotal(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.core.Fill(t, w.list, 1500, w.at("m%04d"), "")
	leaver := w.core.Get(t, "/3.1/lists/"+w.list+"/member/"+w.at("m0000"))["member_id"].(string)
	pages := 0
	proxy := connectortest.Proxy(t, w.core.URL, func(_ int, r *http.Request) connectortest.Fault {
		if strings.HasSuffix(r.URL.Path, "/roster/member") {
			if pages++; pages == 2 {
				w.core.Delete(t, "/3.1/members/"+leaver)
				w.core.Subscribe(t, w.list, w.at("z"), "")
			}
		}
		return connectortest.None
	})
	err := connectortest.PullError(t, w.through(t, proxy))
	wantKind(t, err, connector.Changed, "")
	if !connector.Retry(err) {
		t.Error("not worth a retry")
	}
	if people := connectortest.Pull(t, w.remote); len(people) != 1500 || people[w.at("m1000")].Address == "" {
		t.Errorf("%d people afterwards", len(people))
	}
}

// Whatever breaks at whatever answer, the pull fails, and says that it may pass.
func TestPullFailsWithAnyAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.core.Fill(t, w.list, 1200, w.at("m%d"), "")
	answers := 0
	count := connectortest.Proxy(t, w.core.URL, func(number int, _ *http.Request) connectortest.Fault {
		answers = number
		return connectortest.None
	})
	connectortest.Pull(t, w.through(t, count))
	for at := 1; at <= answers; at++ {
		w.pullBroken(t, at, connectortest.Cut)
	}
	for _, fault := range []connectortest.Fault{connectortest.Shrunk, connectortest.Dead, connectortest.Failed} {
		w.pullBroken(t, answers, fault)
	}
}

func (w world) pullBroken(t *testing.T, at int, fault connectortest.Fault) {
	t.Helper()
	asked := ""
	proxy := connectortest.Proxy(t, w.core.URL, func(number int, r *http.Request) connectortest.Fault {
		// Go's client repeats a GET whose connection ended without an answer.
		if number == at || asked == r.URL.RequestURI() {
			asked = r.URL.RequestURI()
			return fault
		}
		return connectortest.None
	})
	wantKind(t, connectortest.PullError(t, w.through(t, proxy)), connector.Unreachable, "")
}

func TestPullEndsWithItsReader(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.core.Subscribe(t, w.list, w.at("ada"), "")
	full := errors.New("full")
	if err := w.remote.Pull(t.Context(), func(connector.Person) error { return full }); !errors.Is(err, full) {
		t.Errorf("%v, want the reader's error", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.remote.Pull(ctx, func(connector.Person) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the context's error", err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if err := w.remote.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!DOCTYPE html><title>Postorius</title>"))
	}))
	t.Cleanup(web.Close)
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	t.Cleanup(empty.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	good := mailman.Config{URL: w.core.URL, Username: mailmantest.Username, Password: mailmantest.Password, ListID: w.list}
	for name, test := range map[string]struct {
		change  func(*mailman.Config)
		kind    connector.Kind
		setting string
	}{
		"wrong password":  {func(c *mailman.Config) { c.Password = "other" }, connector.Credentials, connector.SettingCredentials},
		"wrong list":      {func(c *mailman.Config) { c.ListID = "none.lists.example.org" }, connector.ListMissing, connector.SettingList},
		"web page":        {func(c *mailman.Config) { c.URL = web.URL }, connector.WrongURL, connector.SettingURL},
		"other API":       {func(c *mailman.Config) { c.URL = empty.URL }, connector.WrongURL, connector.SettingURL},
		"wrong path":      {func(c *mailman.Config) { c.URL += "/mailman" }, connector.WrongURL, connector.SettingURL},
		"nobody at home":  {func(c *mailman.Config) { c.URL = gone.URL }, connector.Unreachable, ""},
		"version in path": {func(c *mailman.Config) { c.URL += "/3.1/" }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := good
			test.change(&config)
			remote := connect(t, config)
			if test.kind == 0 {
				if err := remote.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				return
			}
			wantKind(t, remote.Check(t.Context()), test.kind, test.setting)
			wantKind(t, connectortest.PullError(t, remote), test.kind, test.setting)
			_, err := remote.Push(t.Context(), []connector.Change{{Action: connector.Add, Address: "never.check@example.org"}})
			wantKind(t, err, test.kind, test.setting)
		})
	}
}

func TestNewRefusesAnAddressForAList(t *testing.T) {
	t.Parallel()
	_, err := mailman.New(mailman.Config{URL: "https://lists.example.org", Username: "u", Password: "p", ListID: "announce@lists.example.org"})
	wantKind(t, err, connector.ListMissing, connector.SettingList)
}
