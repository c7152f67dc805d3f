package mailman_test

import (
	"net/http"
	"net/url"
	"reflect"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/connectortest"
)

func TestPushIsIdempotentAndSilent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.core.Subscribe(t, w.list, w.at("old"), "Old")
	w.core.Subscribe(t, w.list, w.at("leaves"), "")
	w.core.Subscribe(t, w.list, w.at("asked"), "")
	w.core.Patch(t, "/3.1/lists/"+w.list+"/config", url.Values{
		"send_welcome_message": {"true"}, "send_goodbye_message": {"true"},
		"subscription_policy": {"confirm_then_moderate"}, "unsubscription_policy": {"confirm_then_moderate"},
	})
	changes := []connector.Change{
		{Action: connector.Add, Address: w.at("new"), DisplayName: "Ñew 山"},
		{Action: connector.Add, Address: w.at("old"), DisplayName: "Old"},
		{Action: connector.Rename, Address: w.at("old"), DisplayName: "Renamed"},
		{Action: connector.Rename, Address: w.at("unknown"), DisplayName: "Unknown"},
		{Action: connector.Remove, Address: w.at("leaves")},
		{Action: connector.Unsubscribe, Address: w.at("asked")},
		{Action: connector.Remove, Address: w.at("unknown")},
	}
	if got, want := w.push(t, changes...), (connector.Result{Added: 1, Renamed: 1, Removed: 2, Unchanged: 3}); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	want := map[string]connector.Person{
		w.at("new"): {Address: w.at("new"), DisplayName: "Ñew 山", State: connector.Subscribed},
		w.at("old"): {Address: w.at("old"), DisplayName: "Renamed", State: connector.Subscribed},
	}
	if got := connectortest.Pull(t, w.remote); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	again := []connector.Change{changes[0], changes[2], changes[3], changes[4], changes[5], changes[6]}
	if got, want := w.push(t, again...), (connector.Result{Unchanged: 6}); !reflect.DeepEqual(got, want) {
		t.Errorf("again: %+v, want %+v", got, want)
	}
	if mails := w.core.Mails(t, w.at("")); mails != 0 {
		t.Errorf("%d mails", mails)
	}
}

func TestPushNeverResurrects(t *testing.T) {
	t.Parallel()
	w := setup(t)
	bounced := w.core.Subscribe(t, w.list, w.at("bounced"), "")
	w.core.Patch(t, "/3.1/members/"+bounced+"/preferences", url.Values{"delivery_status": {"by_bounces"}})
	w.core.Post(t, "/3.1/members", url.Values{"list_id": {w.list}, "subscriber": {w.at("asks")}})
	w.core.Post(t, "/3.1/lists/"+w.list+"/bans", url.Values{"email": {w.at("banned")}})
	w.core.Post(t, "/3.1/lists/"+w.list+"/bans", url.Values{"email": {"^.*@pattern\\.example\\.org$"}})
	w.core.Post(t, "/3.1/bans", url.Values{"email": {w.at("everywhere")}})
	left := w.core.Subscribe(t, w.list, w.at("left"), "")
	w.core.Delete(t, "/3.1/members/"+left)

	result := w.push(t,
		connector.Change{Action: connector.Add, Address: w.at("bounced")},
		connector.Change{Action: connector.Add, Address: w.at("asks")},
		connector.Change{Action: connector.Add, Address: w.at("banned")},
		connector.Change{Action: connector.Add, Address: "someone@pattern.example.org"},
		connector.Change{Action: connector.Add, Address: w.at("everywhere")},
		connector.Change{Action: connector.Rename, Address: w.at("left"), DisplayName: "Left"},
	)
	if len(result.Suppressed) != 5 || result.Unchanged != 1 || result.Added != 0 || len(result.Rejected) != 0 {
		t.Errorf("%+v", result)
	}
	people := connectortest.Pull(t, w.remote)
	if len(people) != 2 || people[w.at("bounced")].State != connector.Bounced || people[w.at("asks")].State != connector.Pending {
		t.Errorf("%v", people)
	}
}

func TestPushRejectsWhatMailmanCannotHold(t *testing.T) {
	t.Parallel()
	w := setup(t)
	result := w.push(t, connector.Change{Action: connector.Add, Address: w.at("jörg")},
		connector.Change{Action: connector.Add, Address: w.at("fine")},
		connector.Change{Action: connector.Add, Address: "list@lists.example.org"})
	if result.Added != 2 || len(result.Rejected) != 1 || result.Rejected[0].Address != w.at("jörg") {
		t.Errorf("%+v", result)
	}
}

// An asterisk is a character of addresses, and to Mailman's search any characters.
func TestPushTakesAsterisksForWhatTheyAre(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.core.Subscribe(t, w.list, w.at("ada"), "Ada")
	result := w.push(t, connector.Change{Action: connector.Rename, Address: w.at("a*"), DisplayName: "Wrong"})
	if result.Unchanged != 1 || connectortest.Pull(t, w.remote)[w.at("ada")].DisplayName != "Ada" {
		t.Errorf("%+v", result)
	}
}

func TestPushKeepsWhatIsOthers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other := w.core.List(t)
	w.core.Subscribe(t, w.list, w.at("both"), "Before")
	w.core.Subscribe(t, other, w.at("both"), "")
	result := w.push(t, connector.Change{Action: connector.Rename, Address: w.at("both"), DisplayName: "After"},
		connector.Change{Action: connector.Remove, Address: w.at("both")})
	if result.NameKept != 1 || result.Removed != 1 {
		t.Errorf("%+v", result)
	}
	there := w.core.Get(t, "/3.1/lists/"+other+"/member/"+w.at("both"))
	if there["display_name"] != "Before" {
		t.Errorf("the other list has %v", there)
	}
}

func TestPushGoesOnAfterACut(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var changes []connector.Change
	for _, name := range []string{"a", "b", "c", "d"} {
		changes = append(changes, connector.Change{Action: connector.Add, Address: w.at(name)})
	}
	posts := 0
	proxy := connectortest.Proxy(t, w.core.URL, func(_ int, r *http.Request) connectortest.Fault {
		if r.Method == http.MethodPost {
			if posts++; posts == 3 {
				return connectortest.Dead
			}
		}
		return connectortest.None
	})
	result, err := w.through(t, proxy).Push(t.Context(), changes)
	wantKind(t, err, connector.Unreachable, "")
	if result.Added != 2 {
		t.Errorf("%+v, want 2 added before the cut", result)
	}
	if result := w.push(t, changes...); result.Added != 1 || result.Unchanged != 3 {
		t.Errorf("%+v, want the last one added", result)
	}
}
