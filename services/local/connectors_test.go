package local

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/connector/mailmantest"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// tool is a list on a real Mailman core, and a list here that a connector ties to it.
type tool struct {
	*world

	core   *mailmantest.Core
	remote string
	client localv1.ConnectorServiceClient
}

func connected(t *testing.T, direction localv1.Connector_Direction, change ...func(*Config)) *tool {
	t.Helper()
	core := mailmantest.Start(t)
	w := setup(t, append(change, func(c *Config) { c.Connectors.Tick = time.Second })...)
	u := &tool{world: w, core: core, remote: core.List(t), client: localv1.NewConnectorServiceClient(w.as(authz.ChapterAdmin, paris))}
	_, err := u.create(core.URL, mailmantest.Password, direction)
	w.must(err)
	return u
}

func (u *tool) create(url, password string, direction localv1.Connector_Direction) (*localv1.Connector, error) {
	return u.client.CreateConnector(u.t.Context(), &localv1.CreateConnectorRequest{
		Parent: members, ConnectorId: "lists", Connector: &localv1.Connector{
			Remote: &localv1.Connector_Mailman{Mailman: &localv1.MailmanRemote{Url: url, ListId: u.remote, Username: mailmantest.Username}},
			Secret: password, Direction: direction, Interval: durationpb.New(time.Hour),
		},
	})
}

const lists = members + "/connectors/lists"

// at makes an address that no other test has: a core has each address once.
func (u *tool) at(name string) string {
	own, _, _ := strings.Cut(u.remote, ".")
	return name + "@" + own + ".example.org"
}

// run runs the connector and waits for its end.
func (u *tool) run() *localv1.ConnectorRun {
	u.t.Helper()
	run, err := u.client.RunConnector(u.t.Context(), &localv1.RunConnectorRequest{Name: lists})
	u.must(err)
	return u.ended(run.GetName())
}

func (u *tool) ended(name string) (run *localv1.ConnectorRun) {
	u.t.Helper()
	testkit.Eventually(u.t, time.Minute, func() (bool, string) {
		answer, err := u.client.ListConnectorRuns(u.t.Context(), &localv1.ListConnectorRunsRequest{Parent: lists})
		u.must(err)
		for _, one := range answer.GetRuns() {
			if name == "" || one.GetName() == name {
				run = one
				return one.GetEndTime() != nil, one.String()
			}
		}
		return false, "no such run"
	})
	return run
}

func (u *tool) here() []string {
	u.t.Helper()
	var all []string
	for address, entry := range u.entries(members) {
		name, _, _ := strings.Cut(address, "@")
		all = append(all, name+" "+entry.GetState().String())
	}
	slices.Sort(all)
	return all
}

func (u *tool) there() []string {
	u.t.Helper()
	var all []string
	entries, _ := u.core.Get(u.t, "/3.1/lists/"+u.remote+"/roster/member")["entries"].([]any)
	for _, entry := range entries {
		member, _ := entry.(map[string]any)
		address, _ := member["email"].(string)
		name, _, _ := strings.Cut(address, "@")
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func (u *tool) leaveThere(name string) {
	u.t.Helper()
	member := u.core.Get(u.t, "/3.1/lists/"+u.remote+"/member/"+u.at(name))
	id, _ := member["member_id"].(string)
	u.core.Delete(u.t, "/3.1/members/"+id)
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestPullFromMailman(t *testing.T) {
	t.Parallel()
	u := connected(t, localv1.Connector_PULL)
	checked, err := u.client.CheckConnector(t.Context(), &localv1.CheckConnectorRequest{Name: lists})
	u.must(err)
	if checked.GetText() == "" {
		t.Error("it says nothing")
	}
	u.core.Subscribe(t, u.remote, u.at("ada"), "Ada Råo")
	u.core.Subscribe(t, u.remote, u.at("bob"), "Bob")
	u.add(members, u.at("own"))
	run := u.run()
	if run.GetState() != localv1.ConnectorRun_DONE || run.GetCounts().GetAdd() != 2 || run.GetSync() == "" {
		t.Fatalf("the run is %v", run)
	}
	same(t, u.here(), "ada SUBSCRIBED", "bob SUBSCRIBED", "own SUBSCRIBED")
	entry := u.entries(members)[u.at("ada")]
	if !slices.Equal(entry.GetSources(), []string{"lists"}) || entry.GetDisplayName() != "Ada Råo" {
		t.Errorf("an entry is %v", entry)
	}
	// Who leaves here does not come back, though the tool still has them, and who leaves there leaves here.
	u.unsubscribe(entry.GetName())
	u.leaveThere("bob")
	run = u.run()
	if run.GetCounts().GetSuppressed() != 1 || run.GetCounts().GetRemove() != 1 {
		t.Errorf("the run is %v", run)
	}
	same(t, u.here(), "ada UNSUBSCRIBED", "own SUBSCRIBED")
	u.agrees(members)
	// A pull is a sync like any other: it can be undone.
	undone, err := u.syncs.RevertSync(t.Context(), &localv1.RevertSyncRequest{Name: run.GetSync()})
	u.must(err)
	if undone.GetState() != localv1.Sync_REVERTED {
		t.Errorf("reverted it is %v", undone)
	}
	same(t, u.here(), "ada UNSUBSCRIBED", "bob SUBSCRIBED", "own SUBSCRIBED")
}

func TestPullTakesOffWhoIsNotReached(t *testing.T) {
	t.Parallel()
	u := connected(t, localv1.Connector_PULL)
	u.core.Subscribe(t, u.remote, u.at("ada"), "Ada")
	member := u.core.Subscribe(t, u.remote, u.at("bob"), "Bob")
	u.run()
	u.core.Patch(t, "/3.1/addresses/"+u.at("bob")+"/preferences", map[string][]string{"delivery_status": {"by_bounces"}})
	u.core.Patch(t, "/3.1/members/"+member+"/preferences", map[string][]string{"delivery_status": {"by_bounces"}})
	run := u.run()
	if run.GetState() != localv1.ConnectorRun_DONE || run.GetLeft() != 1 {
		t.Errorf("the run is %v", run)
	}
	same(t, u.here(), "ada SUBSCRIBED", "bob BOUNCED")
	if got := u.consents(u.entry(members, u.at("bob"))); got != "BOUNCED connector:lists" {
		t.Errorf("the consents are %q", got)
	}
	u.agrees(members)
}

// An empty list, a tool that is away, wrong credentials: nobody is removed, and the run says what to do.
func TestHeldRunsRemoveNobody(t *testing.T) {
	t.Parallel()
	u := connected(t, localv1.Connector_PULL)
	u.core.Fill(t, u.remote, 12, u.at("p%d"), "Person %d")
	u.run()
	before := u.here()
	if len(before) != 12 {
		t.Fatalf("%d are here", len(before))
	}
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>Sign in</html>")) }))
	defer page.Close()
	for _, c := range []struct {
		name, url, password, list string
		state                     localv1.ConnectorRun_State
		reason                    string
	}{
		{"away", gone.URL, mailmantest.Password, u.remote, localv1.ConnectorRun_HELD, "CONNECTOR_UNREACHABLE"},
		{"a web page", page.URL, mailmantest.Password, u.remote, localv1.ConnectorRun_FAILED, "CONNECTOR_REFUSED"},
		{"another password", u.core.URL, "wrong", u.remote, localv1.ConnectorRun_FAILED, "CONNECTOR_REFUSED"},
		{"no such list", u.core.URL, mailmantest.Password, "nothing.example.org", localv1.ConnectorRun_FAILED, "CONNECTOR_REFUSED"},
		{"empty", u.core.URL, mailmantest.Password, u.core.List(t), localv1.ConnectorRun_HELD, "SOURCE_EMPTY"},
	} {
		_, err := u.client.UpdateConnector(t.Context(), &localv1.UpdateConnectorRequest{Connector: &localv1.Connector{
			Name: lists, Secret: c.password, Remote: &localv1.Connector_Mailman{Mailman: &localv1.MailmanRemote{Url: c.url, ListId: c.list, Username: mailmantest.Username}},
		}, UpdateMask: mask("mailman.url", "mailman.list_id", "secret")})
		u.must(err)
		run := u.run()
		if run.GetState() != c.state || run.GetReason() != c.reason || run.GetText() == "" {
			t.Errorf("%s: the run is %v", c.name, run)
		}
		if strings.Contains(run.GetText(), c.password) {
			t.Errorf("%s: %q holds the password", c.name, run.GetText())
		}
		same(t, u.here(), before...)
	}
	// What would remove more than the guard lets pass waits for somebody's word, as a plan.
	small := u.core.List(t)
	u.core.Subscribe(t, small, u.at("p1"), "Person 1")
	_, err := u.client.UpdateConnector(t.Context(), &localv1.UpdateConnectorRequest{Connector: &localv1.Connector{
		Name: lists, Remote: &localv1.Connector_Mailman{Mailman: &localv1.MailmanRemote{ListId: small}},
	}, UpdateMask: mask("mailman.list_id")})
	u.must(err)
	run := u.run()
	if run.GetState() != localv1.ConnectorRun_HELD || run.GetReason() != "REMOVALS_NOT_CONFIRMED" || run.GetSync() == "" {
		t.Fatalf("the run is %v", run)
	}
	same(t, u.here(), before...)
	applied, err := u.syncs.ApplySync(t.Context(), &localv1.ApplySyncRequest{Name: run.GetSync(), ConfirmRemovals: new(int32(11))})
	u.must(err)
	u.expect(applied, localv1.Sync_APPLIED, "unchanged 1 remove 11")
}

func TestRunsComeByThemselves(t *testing.T) {
	t.Parallel()
	u := connected(t, localv1.Connector_PULL)
	u.core.Subscribe(t, u.remote, u.at("ada"), "Ada")
	next := func() time.Time {
		got, err := u.client.GetConnector(t.Context(), &localv1.GetConnectorRequest{Name: lists})
		u.must(err)
		return got.GetNextRunTime().AsTime()
	}
	if want := noon.Add(time.Hour); !next().Equal(want) {
		t.Errorf("it runs first at %s, want %s", next(), want)
	}
	u.clock.Advance(time.Hour)
	if run := u.ended(""); run.GetState() != localv1.ConnectorRun_DONE || run.GetCounts().GetAdd() != 1 {
		t.Errorf("the run is %v", run)
	}
	if want := noon.Add(2 * time.Hour); !next().Equal(want) {
		t.Errorf("then it runs at %s, want %s", next(), want)
	}
	// A run that is held is tried again soon, and less soon each time.
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	_, err := u.client.UpdateConnector(t.Context(), &localv1.UpdateConnectorRequest{Connector: &localv1.Connector{
		Name: lists, Remote: &localv1.Connector_Mailman{Mailman: &localv1.MailmanRemote{Url: gone.URL}},
	}, UpdateMask: mask("mailman.url")})
	u.must(err)
	if run := u.run(); run.GetState() != localv1.ConnectorRun_HELD {
		t.Fatalf("the run is %v", run)
	}
	for _, wait := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
		want := u.clock.Now().Add(wait)
		testkit.Eventually(t, patience, func() (bool, string) { return next().Equal(want), next().String() })
		u.clock.Advance(wait)
	}
	paused, err := u.client.UpdateConnector(t.Context(), &localv1.UpdateConnectorRequest{Connector: &localv1.Connector{Name: lists, Paused: true}})
	u.must(err)
	if paused.GetNextRunTime() != nil || paused.GetLastRun() != nil && paused.GetSecret() != "" {
		t.Errorf("paused it is %v", paused)
	}
}

func TestPushToMailman(t *testing.T) {
	t.Parallel()
	u := connected(t, localv1.Connector_PUSH)
	u.core.Subscribe(t, u.remote, u.at("there"), "Only There")
	for _, name := range []string{"ada", "bob", "cat", "dan"} {
		u.add(members, u.at(name))
	}
	u.unsubscribe(u.entry(members, u.at("dan")))
	run := u.run()
	if run.GetState() != localv1.ConnectorRun_DONE || run.GetCounts().GetAdd() != 3 {
		t.Fatalf("the run is %v", run)
	}
	same(t, u.there(), "ada", "bob", "cat", "there")
	if n := u.core.Mails(t, u.at("ada")); n != 0 {
		t.Errorf("Mailman wrote %d mails", n)
	}
	if run = u.run(); run.GetCounts().GetAdd()+run.GetCounts().GetUnchanged() != 0 {
		t.Errorf("told again, the run is %v", run)
	}
	// Somebody leaves there; a push does not bring them back, whatever else changes of them here.
	u.leaveThere("ada")
	u.rename(u.entry(members, u.at("ada")), "Ada Rao")
	// Somebody leaves here, somebody is removed, and somebody is forgotten.
	u.unsubscribe(u.entry(members, u.at("bob")))
	erased, err := u.lists.ErasePerson(t.Context(), &localv1.ErasePersonRequest{Parent: paris, Address: u.at("cat")})
	u.must(err)
	if !slices.Equal(erased.GetConnectors(), []string{lists}) {
		t.Errorf("erased: %v", erased)
	}
	testkit.Eventually(t, time.Minute, func() (bool, string) { // by itself: it was told to
		there := u.there()
		return slices.Equal(there, []string{"there"}), strings.Join(there, " ")
	})
	u.ended("")
	if tables := u.holds(u.at("cat")); len(tables) > 0 {
		t.Errorf("%v still hold who was erased", tables)
	}
}

func TestConnectorsAreSetUp(t *testing.T) {
	t.Parallel()
	u := connected(t, localv1.Connector_PULL)
	got, err := u.client.GetConnector(t.Context(), &localv1.GetConnectorRequest{Name: lists})
	u.must(err)
	if got.GetSecret() != "" || got.GetMode() != localv1.Sync_REPLACE || got.GetMailman().GetListId() != u.remote {
		t.Errorf("the connector is %v", got)
	}
	if tables := u.holds(mailmantest.Password); len(tables) > 0 {
		t.Errorf("%v hold the password", tables)
	}
	if strings.Contains(u.logged.String(), mailmantest.Password) {
		t.Error("the log holds the password")
	}
	_, err = u.create(u.core.URL, mailmantest.Password, localv1.Connector_PULL)
	refuses(t, err, errorv1.Reason_REASON_ALREADY_EXISTS)
	for field, change := range map[string]func(*localv1.Connector){
		"connector.mailman.url": func(c *localv1.Connector) { c.GetMailman().Url = "ftp://example.org" },
		"connector.secret":      func(c *localv1.Connector) { c.Secret = "" },
		"connector.interval":    func(c *localv1.Connector) { c.Interval = durationpb.New(time.Second) },
	} {
		c := &localv1.Connector{
			Remote: &localv1.Connector_Mailman{Mailman: &localv1.MailmanRemote{Url: u.core.URL, ListId: u.remote, Username: "x"}},
			Secret: "x", Direction: localv1.Connector_PULL,
		}
		change(c)
		_, err := u.client.CreateConnector(t.Context(), &localv1.CreateConnectorRequest{Parent: members, ConnectorId: "other", Connector: c})
		refusesField(t, err, field)
	}
	_, err = u.client.UpdateConnector(t.Context(), &localv1.UpdateConnectorRequest{Connector: &localv1.Connector{
		Name: lists, Remote: &localv1.Connector_Listmonk{Listmonk: &localv1.ListmonkRemote{Url: u.core.URL, ListId: 1, Username: "x"}},
	}})
	refusesField(t, err, "connector.mailman")
	// A URL must not lead into the operator's own network.
	_, err = u.client.UpdateConnector(t.Context(), &localv1.UpdateConnectorRequest{Connector: &localv1.Connector{
		Name: lists, Remote: &localv1.Connector_Mailman{Mailman: &localv1.MailmanRemote{Url: "https://10.0.0.1"}},
	}, UpdateMask: mask("mailman.url")})
	u.must(err)
	_, err = u.client.CheckConnector(t.Context(), &localv1.CheckConnectorRequest{Name: lists})
	refuses(t, err, errorv1.Reason_REASON_CONNECTOR_REFUSED)
	staff := localv1.NewConnectorServiceClient(u.as(authz.InternationalStaff, authz.Federation))
	_, err = staff.GetConnector(t.Context(), &localv1.GetConnectorRequest{Name: lists})
	refuses(t, err, errorv1.Reason_REASON_PERMISSION_DENIED)
	_, err = u.client.DeleteConnector(t.Context(), &localv1.DeleteConnectorRequest{Name: lists, Etag: got.GetEtag()})
	refuses(t, err, errorv1.Reason_REASON_ETAG_MISMATCH)
	_, err = u.client.DeleteConnector(t.Context(), &localv1.DeleteConnectorRequest{Name: lists})
	u.must(err)
	_, err = u.client.GetConnector(t.Context(), &localv1.GetConnectorRequest{Name: lists})
	refuses(t, err, errorv1.Reason_REASON_NOT_FOUND)
}
