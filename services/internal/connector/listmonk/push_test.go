package listmonk_test

import (
	"fmt"
	"net/http"
	"reflect"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/connectortest"
)

func TestPushIsIdempotentAndSilent(t *testing.T) {
	t.Parallel()
	w := setup(t, "double")
	other := w.newList(t, "single")
	w.subscriber(t, w.at("old"), "Old", w.list)
	w.subscriber(t, w.at("elsewhere"), "Elsewhere", other)
	w.subscriber(t, w.at("leaves"), "Leaves", w.list, other)
	w.subscriber(t, w.at("asked"), "Asked", w.list)
	changes := []connector.Change{
		{Action: connector.Add, Address: w.at("new"), DisplayName: "Ñew 山"},
		{Action: connector.Add, Address: w.at("elsewhere"), DisplayName: "Other Name"},
		{Action: connector.Rename, Address: w.at("old"), DisplayName: "Renamed"},
		{Action: connector.Rename, Address: w.at("unknown"), DisplayName: "Unknown"},
		{Action: connector.Remove, Address: w.at("leaves")},
		{Action: connector.Unsubscribe, Address: w.at("asked")},
		{Action: connector.Remove, Address: w.at("unknown")},
	}
	if got, want := w.push(t, changes...), (connector.Result{Added: 2, Renamed: 1, Removed: 2, Unchanged: 2}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	want := map[string]connector.Person{
		w.at("new"):       {Address: w.at("new"), DisplayName: "Ñew 山", State: connector.Subscribed},
		w.at("old"):       {Address: w.at("old"), DisplayName: "Renamed", State: connector.Subscribed},
		w.at("elsewhere"): {Address: w.at("elsewhere"), DisplayName: "Elsewhere", State: connector.Subscribed},
		w.at("asked"):     {Address: w.at("asked"), DisplayName: "Asked", State: connector.Unsubscribed},
	}
	if got := connectortest.Pull(t, w.remote); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := w.push(t, changes...), (connector.Result{Unchanged: 6, NameKept: 1}); !reflect.DeepEqual(got, want) {
		t.Errorf("again: %+v, want %+v", got, want)
	}
	config := w.config()
	config.ListID = other
	if there := connectortest.Pull(t, connect(t, config)); len(there) != 2 || there[w.at("leaves")].State != connector.Subscribed {
		t.Errorf("the other list has %v", there)
	}
	if w.standin != nil && w.standin.mails != 0 {
		t.Errorf("%d mails", w.standin.mails)
	}
}

func TestPushNeverResurrects(t *testing.T) {
	t.Parallel()
	for name, padding := range map[string]int{"one by one": 0, "by import": 40} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, "double")
			other := w.newList(t, "single")
			w.manage(t, "unsubscribe", "", w.list, w.subscriber(t, w.at("left"), "Left", w.list))
			w.manage(t, "add", "unconfirmed", w.list, w.subscriber(t, w.at("asks"), "Asks"))
			w.blocklist(t, w.subscriber(t, w.at("blocked"), "Blocked", w.list))
			w.blocklist(t, w.subscriber(t, w.at("blocked-elsewhere"), "Blocked", other))
			leaves := w.subscriber(t, w.at("leaves"), "Leaves", other)
			var changes []connector.Change
			for _, name := range []string{"left", "asks", "blocked", "blocked-elsewhere", "leaves"} {
				changes = append(changes, connector.Change{Action: connector.Add, Address: w.at(name), DisplayName: "Again"})
			}
			for n := range padding {
				changes = append(changes, connector.Change{Action: connector.Add, Address: w.at(fmt.Sprintf("new%d", n))})
			}
			// Somebody joins, and leaves again, after the push has looked.
			proxy := connectortest.Proxy(t, w.url, func(_ int, r *http.Request) connectortest.Fault {
				if r.Method == http.MethodPost && leaves != 0 {
					w.manage(t, "add", "unsubscribed", w.list, leaves)
					leaves = 0
				}
				return connectortest.None
			})
			result, err := w.through(t, proxy).Push(t.Context(), changes)
			if err != nil {
				t.Fatal(err)
			}
			if len(result.Suppressed) != 5 || result.Added != padding {
				t.Errorf("%+v", result)
			}
			for email, person := range connectortest.Pull(t, w.remote) {
				want := connector.Unsubscribed
				switch {
				case email == w.at("asks"):
					want = connector.Pending
				case email[:3] == "new":
					want = connector.Subscribed
				}
				if person.State != want {
					t.Errorf("%+v, want %v", person, want)
				}
			}
		})
	}
}

func TestPushTellsRemovedFromUnsubscribed(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	w.fill(t, 30, "m%d")
	w.push(t, connector.Change{Action: connector.Remove, Address: w.at("m1")}, connector.Change{Action: connector.Unsubscribe, Address: w.at("m2")})
	result := w.push(t, connector.Change{Action: connector.Add, Address: w.at("m1")}, connector.Change{Action: connector.Add, Address: w.at("m2")})
	if result.Added != 1 || len(result.Suppressed) != 1 || result.Suppressed[0].Address != w.at("m2") {
		t.Errorf("%+v", result)
	}
}

func TestPushRejectsWhatListmonkCannotHold(t *testing.T) {
	t.Parallel()
	for name, padding := range map[string]int{"one by one": 0, "by import": 40} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t, "single")
			changes := []connector.Change{{Action: connector.Add, Address: "no address"}}
			for n := range padding {
				changes = append(changes, connector.Change{Action: connector.Add, Address: w.at(fmt.Sprintf("m%d", n))})
			}
			if result := w.push(t, changes...); result.Added != padding || len(result.Rejected) != 1 || result.Rejected[0].Address != "no address" {
				t.Errorf("%+v", result)
			}
		})
	}
}

func TestPushLeavesAnotherImportAlone(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	if w.standin == nil {
		t.Skip("a real import is over before it can be looked at")
	}
	w.standin.imported = map[string]any{"name": "theirs.csv", "status": "importing"}
	var changes []connector.Change
	for n := range 30 {
		changes = append(changes, connector.Change{Action: connector.Add, Address: w.at(fmt.Sprintf("m%d", n))})
	}
	_, err := w.remote.Push(t.Context(), changes)
	w.wantKind(t, err, connector.Busy, "")
	if !connector.Retry(err) {
		t.Error("not worth a retry")
	}
}

func TestPushGoesOnAfterACut(t *testing.T) {
	t.Parallel()
	w := setup(t, "single")
	var changes []connector.Change
	for _, name := range []string{"a", "b", "c", "d"} {
		changes = append(changes, connector.Change{Action: connector.Add, Address: w.at(name), DisplayName: name})
	}
	posts := 0
	proxy := connectortest.Proxy(t, w.url, func(_ int, r *http.Request) connectortest.Fault {
		if r.Method == http.MethodPost {
			if posts++; posts == 3 {
				return connectortest.Dead
			}
		}
		return connectortest.None
	})
	result, err := w.through(t, proxy).Push(t.Context(), changes)
	w.wantKind(t, err, connector.Unreachable, "")
	if result.Added != 2 {
		t.Errorf("%+v, want 2 added before the cut", result)
	}
	if result := w.push(t, changes...); result.Added != 1 || result.Unchanged != 3 {
		t.Errorf("%+v, want the last one added", result)
	}
}
