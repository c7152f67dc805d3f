package bus_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// intruder is a connection that records what the server refuses it.
type intruder struct {
	*nats.Conn
	refused chan error
}

func newIntruder(t *testing.T, s *testkit.NATSServer, tier, site string) intruder {
	t.Helper()
	in := intruder{Conn: s.Connect(t, tier, site), refused: make(chan error, 100)}
	in.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { in.refused <- err })
	return in
}

// isRefused does something and expects the server to say that it is not permitted.
func (in intruder) isRefused(t *testing.T, subject string, do func() error) {
	t.Helper()
	if err := do(); err != nil {
		t.Fatal(err)
	}
	if err := in.Flush(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-in.refused:
		if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), subject) {
			t.Errorf("%s: %v", subject, err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("%s was not refused", subject)
	}
}

// inhabited is a server with four sites, each of which has said something.
func inhabited(t *testing.T) *testkit.NATSServer {
	t.Helper()
	s := testkit.NATS(t, "paris", "lyon")
	js, err := jetstream.New(s.Admin(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, prefix := range []string{"ch.international.main.", "ch.regional.main.", "ch.local.paris.", "ch.local.lyon."} {
		if _, err := js.Publish(t.Context(), prefix+"note.x.changed", nil); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func TestAnotherTiersSubjectsAreRefused(t *testing.T) {
	t.Parallel()
	s := inhabited(t)
	paris := newIntruder(t, s, bus.Local, "paris")
	publish := func(subject string) {
		t.Helper()
		paris.isRefused(t, subject, func() error { return paris.PublishRequest(subject, paris.NewInbox(), []byte("{}")) })
	}
	for _, subject := range []string{
		// events, dead letters and requests in another's name
		"ch.local.lyon.list.x.changed", "ch.international.main.standing.x.changed", "ch.regional.main.region.x.changed",
		"chdead.local.lyon.x", "chdead.international.main.x",
		"chq.local.lyon.international.main.snapshot", "chq.international.main.local.lyon.snapshot",
		"chq.local.paris.local.lyon.snapshot", // a chapter's tokens are not another's business
		// another's stream: create, alter, delete, purge, read
		"$JS.API.STREAM.CREATE.CH_LOCAL_lyon", "$JS.API.STREAM.UPDATE.CH_LOCAL_lyon", "$JS.API.STREAM.DELETE.CH_LOCAL_lyon",
		"$JS.API.STREAM.PURGE.CH_INTERNATIONAL_main", "$JS.API.STREAM.MSG.GET.CH_LOCAL_lyon", "$JS.API.STREAM.INFO.CH_LOCAL_lyon",
		"$JS.API.DIRECT.GET.CH_LOCAL_lyon", "$JS.API.STREAM.MSG.DELETE.CH_LOCAL_lyon", "$JS.API.STREAM.SNAPSHOT.CH_LOCAL_lyon",
		"$JS.API.STREAM.RESTORE.CH_LOCAL_lyon", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.STREAM.CREATE.MINE",
		"$JS.API.STREAM.MSG.GET.CH_INTERNATIONAL_main", "$JS.API.STREAM.DELETE.CH_DEAD_INTERNATIONAL_main",
		// the own one too: it could be told to copy another's messages, or to publish as another
		"$JS.API.STREAM.CREATE.CH_LOCAL_paris", "$JS.API.STREAM.UPDATE.CH_LOCAL_paris", "$JS.API.STREAM.UPDATE.CH_DEAD_LOCAL_paris",
		"$JS.API.STREAM.DELETE.CH_LOCAL_paris", "$JS.API.STREAM.PURGE.CH_LOCAL_paris", "$JS.API.STREAM.MSG.DELETE.CH_LOCAL_paris",
		// consumers: on another local's stream, under another's name, or of another form than provisioned
		"$JS.API.CONSUMER.CREATE.CH_INTERNATIONAL_main.LOCAL_paris", "$JS.API.CONSUMER.CREATE.CH_INTERNATIONAL_main.LOCAL_paris.>",
		"$JS.API.CONSUMER.DURABLE.CREATE.CH_INTERNATIONAL_main.LOCAL_paris", "$JS.API.CONSUMER.MSG.NEXT.CH_LOCAL_lyon.LOCAL_paris",
		"$JS.API.CONSUMER.CREATE.CH_LOCAL_lyon.LOCAL_paris", "$JS.API.CONSUMER.DURABLE.CREATE.CH_LOCAL_lyon.LOCAL_paris",
		"$JS.API.CONSUMER.CREATE.CH_INTERNATIONAL_main.REGIONAL_main", "$JS.API.CONSUMER.CREATE.CH_INTERNATIONAL_main",
		"$JS.API.CONSUMER.DELETE.CH_REGIONAL_main.INTERNATIONAL_main", "$JS.API.CONSUMER.INFO.CH_REGIONAL_main.INTERNATIONAL_main",
		"$JS.API.CONSUMER.MSG.NEXT.CH_REGIONAL_main.INTERNATIONAL_main", "$JS.API.CONSUMER.MSG.NEXT.CH_LOCAL_paris.INTERNATIONAL_main",
		"$JS.API.CONSUMER.LIST.CH_REGIONAL_main", "$JS.API.CONSUMER.PAUSE.CH_REGIONAL_main.INTERNATIONAL_main",
		"$JS.ACK.CH_REGIONAL_main.INTERNATIONAL_main.1.1.1.1.0",
		// everything else
		"$JS.API.INFO", "$SYS.REQ.SERVER.PING", "_INBOX.international.x", "anything",
	} {
		publish(subject)
	}
}

func TestAnotherTiersMessagesCannotBeRead(t *testing.T) {
	t.Parallel()
	s := inhabited(t)
	paris := newIntruder(t, s, bus.Local, "paris")
	for _, subject := range []string{
		">", "ch.>", "ch.local.lyon.>", "ch.international.main.>", "_INBOX.>", "_INBOX.international.>", "_INBOX.local.lyon.>",
		"chq.>", "chq.*.*.local.lyon.snapshot", "$JS.>", "$SYS.>", "chdead.>",
	} {
		paris.isRefused(t, subject, func() error {
			_, err := paris.SubscribeSync(subject)
			return err
		})
	}
}

func TestUpperTiersKeepToTheirOwn(t *testing.T) {
	t.Parallel()
	s := inhabited(t)
	for _, tier := range []string{bus.International, bus.Regional} {
		in := newIntruder(t, s, tier, "main")
		other := map[string]string{bus.International: bus.Regional, bus.Regional: bus.International}[tier]
		for _, subject := range []string{
			"ch." + other + ".main.note.x.changed", "ch.local.paris.list.x.changed", "chq." + other + ".main.local.paris.snapshot",
			"$JS.API.STREAM.DELETE.CH_LOCAL_paris", "$JS.API.STREAM.UPDATE.CH_LOCAL_paris", "$JS.API.STREAM.PURGE." + bus.Stream(other, "main"),
			"$JS.API.STREAM.MSG.GET.CH_LOCAL_paris", "$JS.API.STREAM.UPDATE." + bus.Stream(tier, "main"), "$JS.API.STREAM.CREATE.CH_LOCAL_new", "$JS.API.CONSUMER.CREATE.CH_LOCAL_paris." + bus.Durable(other, "main"),
			"$JS.API.CONSUMER.MSG.NEXT.CH_LOCAL_paris." + bus.Durable(other, "main"), "$JS.API.CONSUMER.DELETE.CH_LOCAL_paris." + bus.Durable(other, "main"),
		} {
			in.isRefused(t, subject, func() error { return in.Publish(subject, nil) })
		}
	}
}

func TestWrongCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	for _, attempt := range [][2]string{{"international", "wrong"}, {"nobody", "test"}, {"local.paris", "test"}} {
		nc, err := bus.Connect(s.URL(), attempt[0], attempt[1], slog.New(slog.DiscardHandler))
		if !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s with %q: %v", attempt[0], attempt[1], err)
		}
		if err == nil {
			nc.Close()
		}
	}
	if nc, err := nats.Connect(s.URL()); err == nil {
		nc.Close()
		t.Error("somebody without a name was let in")
	}
}

// An answer may go to whoever asked, and only because it asked.
func TestAnswersNeedAQuestion(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	owner, asker := newIntruder(t, s, bus.Local, "main"), s.Connect(t, bus.International, "main")
	inbox := asker.NewInbox()
	answers, err := asker.SubscribeSync(inbox)
	if err != nil {
		t.Fatal(err)
	}
	if err := asker.Flush(); err != nil {
		t.Fatal(err)
	}
	owner.isRefused(t, inbox, func() error { return owner.Publish(inbox, nil) })
	questions, err := owner.SubscribeSync("chq.*.*.local.main.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := asker.PublishRequest("chq.international.main.local.main.snapshot", inbox, nil); err != nil {
		t.Fatal(err)
	}
	question, err := questions.NextMsg(5 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for range 300 { // a snapshot has many parts
		if err := question.Respond([]byte("part")); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 300 {
		if _, err := answers.NextMsg(5 * time.Second); err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
	}
}

func TestServerNeedsUsers(t *testing.T) {
	t.Parallel()
	if s, err := bus.StartServer(bus.ServerConfig{Dir: t.TempDir(), Port: -1}); err == nil {
		s.Shutdown()
		t.Error("a server without users lets everybody in")
	}
}

func TestServerWithoutPort(t *testing.T) {
	t.Parallel()
	users := []bus.UserConfig{{Tier: bus.Local, Site: "main", Password: "secret"}}
	s, err := bus.StartServer(bus.ServerConfig{Dir: t.TempDir(), Port: -1, Users: users})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Shutdown)
	nc, err := bus.Connect("", "local.main", "secret", slog.New(slog.DiscardHandler), s.InProcess())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.Stream(t.Context(), bus.Stream(bus.Local, "main")); err != nil {
		t.Error(err)
	}
}

// A server that is not ours is provisioned by its operator.
func TestProvision(t *testing.T) {
	t.Parallel()
	s := testkit.NATS(t)
	js, err := jetstream.New(s.Admin(t))
	if err != nil {
		t.Fatal(err)
	}
	sites := []bus.UserConfig{{Tier: bus.International, Site: "main"}, {Tier: bus.Regional, Site: "main"}, {Tier: bus.Local, Site: "new"}}
	for range 2 {
		if err := bus.Provision(t.Context(), s.Admin(t), sites); err != nil {
			t.Fatal(err)
		}
	}
	for stream, readers := range map[string]int{"CH_INTERNATIONAL_main": 3, "CH_LOCAL_new": 2, "CH_LOCAL_main": 2, "CH_DEAD_LOCAL_new": 0} {
		found, err := js.Stream(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		if got := found.CachedInfo().State.Consumers; got != readers {
			t.Errorf("%s has %d durables, want %d", stream, got, readers)
		}
	}
}
