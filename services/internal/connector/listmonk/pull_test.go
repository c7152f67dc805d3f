package listmonk_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/connectortest"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/listmonk"
)

func TestPullOfNobody(t *testing.T) {
	t.Parallel()
	if people := connectortest.Pull(t, setup(t, "single").remote); len(people) != 0 {
		t.Errorf("pulled %v from an empty list", people)
	}
}

func TestPullKnowsAllStates(t *testing.T) {
	t.Parallel()
	for optin, unconfirmed := range map[string]connector.State{"single": connector.Subscribed, "double": connector.Pending} {
		t.Run(optin, func(t *testing.T) {
			t.Parallel()
			w := setup(t, optin)
			other := w.newList(t, "single")
			w.subscriber(t, w.at("ada"), "Åda Rao 山田", w.list, other)
			w.manage(t, "add", "unconfirmed", w.list, w.subscriber(t, w.at("asks"), "Asks"))
			w.manage(t, "unsubscribe", "", w.list, w.subscriber(t, w.at("left"), "Left", w.list, other))
			w.blocklist(t, w.subscriber(t, w.at("blocked"), "Blocked", w.list))
			w.subscriber(t, w.at("elsewhere"), "Elsewhere", other)
			want := map[string]connector.Person{
				w.at("ada"):     {Address: w.at("ada"), DisplayName: "Åda Rao 山田", State: connector.Subscribed},
				w.at("asks"):    {Address: w.at("asks"), DisplayName: "Asks", State: unconfirmed},
				w.at("left"):    {Address: w.at("left"), DisplayName: "Left", State: connector.Unsubscribed},
				w.at("blocked"): {Address: w.at("blocked"), DisplayName: "Blocked", State: connector.Unsubscribed},
			}
			got := connectortest.Pull(t, w.remote)
			for email, person := range want {
				if got[email] != person {
					t.Errorf("%s: %+v, want %+v", email, got[email], person)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d people, want %d: %v", len(got), len(want), got)
			}
		})
	}
}

func TestPullReadsAllPages(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	w.fill(t, 2500, "m%d")
	people := connectortest.Pull(t, w.remote)
	if len(people) != 2500 {
		t.Fatalf("%d people, want 2500", len(people))
	}
	for n := range 2500 {
		if name := people[w.at(fmt.Sprintf("m%d", n))].DisplayName; name != fmt.Sprintf("Mëmber, %d", n) {
			t.Fatalf("member %d is called %q", n, name)
		}
	}
}

// Between two pages somebody of the first page goes and somebody joins: the total stays, each page is full, and yet one
// row moves from the second page to the first, unseen.
func TestPullNoticesChangesThatKeepTheTotal(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	goes := w.subscriber(t, w.at("goes"), "Goes", w.list)
	w.fill(t, 1500, "m%d")
	proxy := connectortest.Proxy(t, w.url, func(_ int, r *http.Request) connectortest.Fault {
		if r.URL.Query().Get("page") == "2" && goes != 0 {
			w.manage(t, "remove", "", w.list, goes)
			w.subscriber(t, w.at("joins"), "Joins", w.list)
			goes = 0
		}
		return connectortest.None
	})
	err := connectortest.PullError(t, w.through(t, proxy))
	w.wantKind(t, err, connector.Changed, "")
	if !connector.Retry(err) {
		t.Error("not worth a retry")
	}
	if people := connectortest.Pull(t, w.remote); len(people) != 1501 {
		t.Errorf("%d people afterwards", len(people))
	}
}

// Whatever breaks at whatever answer, the pull fails, and says that it may pass.
func TestPullFailsWithAnyAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	w.fill(t, 1200, "m%d")
	answers := 0
	count := connectortest.Proxy(t, w.url, func(number int, _ *http.Request) connectortest.Fault {
		answers = number
		return connectortest.None
	})
	connectortest.Pull(t, w.through(t, count))
	for _, fault := range []connectortest.Fault{connectortest.Cut, connectortest.Shrunk, connectortest.Dead, connectortest.Failed} {
		for at := 1; at <= answers; at++ {
			asked := ""
			proxy := connectortest.Proxy(t, w.url, func(number int, r *http.Request) connectortest.Fault {
				// Go's client repeats a GET whose connection ended without an answer.
				if number == at || asked == r.URL.RequestURI() {
					asked = r.URL.RequestURI()
					return fault
				}
				return connectortest.None
			})
			w.wantKind(t, connectortest.PullError(t, w.through(t, proxy)), connector.Unreachable, "")
		}
	}
}

// Without the right to the list, listmonk answers with people of another one.
func TestPullTakesNobodyFromOtherLists(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	if w.standin == nil {
		t.Skip("a real listmonk has no user with few rights to offer")
	}
	w.subscriber(t, w.at("elsewhere"), "Elsewhere", 1)
	w.subscriber(t, w.at("ours"), "Ours", w.list)
	config := w.config()
	config.Username = limitedUser
	remote := connect(t, config)
	w.wantKind(t, remote.Check(t.Context()), connector.Credentials, connector.SettingCredentials)
	w.wantKind(t, connectortest.PullError(t, remote), connector.Credentials, connector.SettingCredentials)

	// Even where the right is lost only after the check.
	proxy := connectortest.Proxy(t, w.url, func(_ int, r *http.Request) connectortest.Fault {
		if r.URL.Path == "/api/subscribers" {
			r.SetBasicAuth(limitedUser, standinToken)
		}
		return connectortest.None
	})
	w.wantKind(t, connectortest.PullError(t, w.through(t, proxy)), connector.Credentials, connector.SettingCredentials)
	// A token without any list sees nobody: that is no empty list.
	blind := connectortest.Proxy(t, w.url, func(number int, r *http.Request) connectortest.Fault {
		if number > 1 {
			r.SetBasicAuth(blindUser, standinToken)
		}
		return connectortest.None
	})
	w.wantKind(t, connectortest.PullError(t, w.through(t, blind)), connector.Credentials, connector.SettingCredentials)
	_, err := w.through(t, proxy).Push(t.Context(), []connector.Change{{Action: connector.Remove, Address: w.at("elsewhere")}})
	w.wantKind(t, err, connector.Credentials, connector.SettingCredentials)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	if err := w.remote.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!DOCTYPE html><title>listmonk</title>"))
	}))
	t.Cleanup(web.Close)
	login := httptest.NewServer(http.RedirectHandler("https://login.example.org/?secret=x", http.StatusFound))
	t.Cleanup(login.Close)
	empty := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) }))
	t.Cleanup(empty.Close)
	for name, test := range map[string]struct {
		change  func(*listmonk.Config)
		kind    connector.Kind
		setting string
	}{
		"wrong token":  {func(c *listmonk.Config) { c.Token = "other" }, connector.Credentials, connector.SettingCredentials},
		"wrong list":   {func(c *listmonk.Config) { c.ListID = 99_999 }, connector.ListMissing, connector.SettingList},
		"web page":     {func(c *listmonk.Config) { c.URL = web.URL }, connector.WrongURL, connector.SettingURL},
		"login page":   {func(c *listmonk.Config) { c.URL = login.URL }, connector.WrongURL, connector.SettingURL},
		"other API":    {func(c *listmonk.Config) { c.URL = empty.URL }, connector.WrongURL, connector.SettingURL},
		"path of /api": {func(c *listmonk.Config) { c.URL += "/api/" }, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := w.config()
			test.change(&config)
			remote := connect(t, config)
			if test.kind == 0 {
				if err := remote.Check(t.Context()); err != nil {
					t.Fatal(err)
				}
				return
			}
			w.wantKind(t, remote.Check(t.Context()), test.kind, test.setting)
			w.wantKind(t, connectortest.PullError(t, remote), test.kind, test.setting)
			_, err := remote.Push(t.Context(), []connector.Change{{Action: connector.Add, Address: w.at("never")}})
			w.wantKind(t, err, test.kind, test.setting)
		})
	}
}
