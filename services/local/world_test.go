package local

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	eventv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/event/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimDatabase) == "" {
		testkit.Main(m)
	}
	if err := runVictim(); err != nil {
		slog.Error("the service ended", "error", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// patience is how long a test waits for what comes by itself.
const patience = 20 * time.Second

// noon is when every test's clock starts.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// password is every NATS user's: the server takes connections from this process alone.
const password = "test"

// world is a local service behind a real server, on a real database and a real JetStream, with one chapter, golang-paris,
// in regions/world. The other tiers are played: standings come from a stand-in for the international service.
type world struct {
	t             testing.TB
	clock         *clock.Fake
	pool          *pgxpool.Pool
	nats          *bus.Server
	key           address.SiteKey
	service       *Service
	regional      *regionalStandIn
	international *internationalStandIn
	logged        *syncBuffer
	sink          *mailsink.Sink
	address       string
	signer        *authz.Signer

	// The clients of staff and of the chapter's admin.
	chapters localv1.ChapterServiceClient
	lists    localv1.ListServiceClient
	syncs    localv1.SyncServiceClient
	inbox    localv1.InboxServiceClient
	// What a person does who got a mail.
	links localv1.SubscriptionServiceClient
}

const (
	paris   = "chapters/golang-paris"
	members = paris + "/lists/members"
)

func setup(t testing.TB, change ...func(*Config)) *world {
	t.Helper()
	return setupOn(t, testkit.Pool(t, Migrations()...), change...)
}

func setupOn(t testing.TB, pool *pgxpool.Pool, change ...func(*Config)) *world {
	t.Helper()
	w := &world{
		t: t, clock: clock.NewFake(noon), pool: pool, logged: &syncBuffer{},
		regional: &regionalStandIn{regions: map[string]string{}}, international: &internationalStandIn{},
		key: address.NewMasterKey().SiteKey("main"),
	}
	w.startNATS()
	w.startSink()
	w.startService(change)
	w.chapters = localv1.NewChapterServiceClient(w.as(authz.InternationalStaff, authz.Federation))
	admin := w.as(authz.ChapterAdmin, paris)
	w.lists, w.syncs = localv1.NewListServiceClient(admin), localv1.NewSyncServiceClient(admin)
	w.inbox = localv1.NewInboxServiceClient(admin)
	w.links = localv1.NewSubscriptionServiceClient(w.nobody())
	w.chapter("golang-paris")
	return w
}

func (w *world) startNATS() {
	w.t.Helper()
	var users []bus.UserConfig
	for _, tier := range []string{bus.Local, bus.Regional, bus.International} {
		users = append(users, bus.UserConfig{Tier: tier, Site: bus.MainSite, Password: password})
	}
	server, err := bus.StartServer(bus.ServerConfig{Dir: w.t.TempDir(), Port: -1, Users: users, Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	w.t.Cleanup(server.Shutdown)
	w.nats = server
}

func (w *world) startSink() {
	w.t.Helper()
	sink, err := mailsink.Start(w.t.Context(), mailsink.Config{})
	w.must(err)
	w.t.Cleanup(func() { _ = sink.Close() })
	w.sink = sink
}

func (w *world) mailer(config mail.Config) *mail.Mailer {
	w.t.Helper()
	config.From = "site@chapterhouse.example"
	if config.SMTP == "" {
		config.SMTP = "smtp+plain://" + w.sink.Addr()
	}
	mailer, err := mail.New(config, w.clock)
	w.must(err)
	w.t.Cleanup(func() { mailer.Close(context.Background()) })
	return mailer
}

func (w *world) connect(tier string) *nats.Conn {
	w.t.Helper()
	conn, err := bus.Connect("", bus.User(tier, bus.MainSite), password, slog.New(slog.DiscardHandler), w.nats.InProcess())
	w.must(err)
	w.t.Cleanup(conn.Close)
	return conn
}

func (w *world) startService(change []func(*Config)) {
	w.t.Helper()
	config := Config{CompareEvery: time.Second}
	for _, one := range change {
		one(&config)
	}
	var err error
	w.service, err = New(w.t.Context(), Deps{
		Pool: w.pool, NATS: w.connect(bus.Local), Clock: w.clock, Log: w.log(), SiteKey: w.key, Mail: w.mailer(config.Mail), Config: config,
		Regions:   regionalv1.NewRegionServiceClient(w.play(func(r *grpc.Server) { regionalv1.RegisterRegionServiceServer(r, w.regional) })),
		Standings: internationalv1.NewStandingServiceClient(w.play(func(r *grpc.Server) { internationalv1.RegisterStandingServiceServer(r, w.international) })),
	})
	w.must(err)
	w.background(w.service.Run)

	keys := w.t.TempDir()
	w.must(authz.GenerateKey(keys))
	w.signer, err = authz.LoadSigner(filepath.Join(keys, authz.SigningKeyFile))
	w.must(err)
	verifier, err := authz.NewStaticVerifier(filepath.Join(keys, authz.JWKSFile), w.clock)
	w.must(err)
	server, err := rpc.NewServer(rpc.ServerConfig{
		Log: w.log(), Verifier: verifier, Hierarchy: w.service,
		Undeclared: func(method string, reason errorv1.Reason) {
			w.t.Errorf("%s gave %s, which its proto does not declare", method, reason)
		},
	}, func(r *grpc.Server) { w.service.Register(r) })
	w.must(err)
	listener := w.listen()
	w.address = listener.Addr().String()
	w.background(func(ctx context.Context) error { return server.Serve(ctx, listener) })
}

func (w *world) listen() net.Listener {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	return listener
}

// play serves a stand-in for another tier.
func (w *world) play(register func(*grpc.Server)) *grpc.ClientConn {
	w.t.Helper()
	server, listener := grpc.NewServer(), w.listen()
	register(server)
	go func() { _ = server.Serve(listener) }()
	w.t.Cleanup(server.Stop)
	conn, err := rpc.Dial(listener.Addr().String(), nil)
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// background runs until the test ends.
func (w *world) background(run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			w.t.Error(err)
		}
	})
}

// log is kept, so that tests can look for what must not be in it.
func (w *world) log() *slog.Logger {
	return slog.New(slog.NewTextHandler(w.logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// as is a connection of somebody who holds the role.
func (w *world) as(role authz.Role, scope string) *grpc.ClientConn {
	w.t.Helper()
	principal := authz.Principal{Subject: string(role) + " " + scope, Grants: []authz.Grant{{Role: role, Scope: scope}}}
	conn, err := rpc.Dial(w.address, rpc.MintedToken(w.signer, principal, w.clock))
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// nobody is a connection of somebody who has not signed in.
func (w *world) nobody() *grpc.ClientConn {
	w.t.Helper()
	conn, err := rpc.Dial(w.address, nil)
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func (w *world) chapter(id string) {
	w.t.Helper()
	_, err := w.chapters.CreateChapter(w.t.Context(), &localv1.CreateChapterRequest{
		ChapterId: id, Chapter: &localv1.Chapter{DisplayName: id, Region: "regions/world"},
	})
	w.must(err)
}

func (w *world) list(name string) *localv1.List {
	w.t.Helper()
	list, err := w.lists.GetList(w.t.Context(), &localv1.GetListRequest{Name: name})
	w.must(err)
	return list
}

func (w *world) createList(id string) string {
	w.t.Helper()
	list, err := w.lists.CreateList(w.t.Context(), &localv1.CreateListRequest{Parent: paris, ListId: id, List: &localv1.List{DisplayName: id}})
	w.must(err)
	return list.GetName()
}

func (w *world) add(list, address string) *localv1.Entry {
	w.t.Helper()
	entry, err := w.lists.CreateEntry(w.t.Context(), &localv1.CreateEntryRequest{Parent: list, Entry: &localv1.Entry{Address: address}})
	w.must(err)
	return entry
}

func (w *world) unsubscribe(entry string) {
	w.t.Helper()
	_, err := w.lists.UnsubscribeEntry(w.t.Context(), &localv1.UnsubscribeEntryRequest{Name: entry})
	w.must(err)
}

// entries are all entries of a list by their addresses.
func (w *world) entries(list string) map[string]*localv1.Entry {
	w.t.Helper()
	found := map[string]*localv1.Entry{}
	req := &localv1.ListEntriesRequest{Parent: list, PageSize: 1000}
	for {
		answer, err := w.lists.ListEntries(w.t.Context(), req)
		w.must(err)
		for _, entry := range answer.GetEntries() {
			found[entry.GetAddress()] = entry
		}
		if req.PageToken = answer.GetNextPageToken(); req.GetPageToken() == "" {
			return found
		}
	}
}

func (w *world) entry(list, address string) string {
	w.t.Helper()
	return list + "/entries/" + w.key.Token(address).EntryID()
}

// outbox reads what the service published or will publish, in order.
func (w *world) outbox() []bus.Event {
	w.t.Helper()
	rows, err := w.pool.Query(w.t.Context(), "SELECT subject, aggregate, epoch, number, part, parts, type, data FROM outbox ORDER BY id")
	w.must(err)
	events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (bus.Event, error) {
		var event bus.Event
		var kind string
		var data []byte
		if err := row.Scan(&event.Subject, &event.Aggregate, &event.Version.Epoch, &event.Version.Number, &event.Part, &event.Parts, &kind, &data); err != nil {
			return event, err
		}
		switch kind {
		case "chapterhouse.event.v1.ListChanged":
			event.Data = &eventv1.ListChanged{}
		case "chapterhouse.event.v1.ReceiptChanged":
			event.Data = &eventv1.ReceiptChanged{}
		case "chapterhouse.event.v1.ChapterChanged":
			event.Data = &eventv1.ChapterChanged{}
		case "chapterhouse.event.v1.ConcernChanged":
			event.Data = &eventv1.ConcernChanged{}
		default:
			return event, nil // the bus's own
		}
		return event, proto.Unmarshal(data, event.Data)
	})
	w.must(err)
	return events
}

// replay applies all events of a list to an empty set, and asserts that versions follow one another.
func (w *world) replay(list string) (tokens map[string]bool, last bus.Version) {
	w.t.Helper()
	tokens = map[string]bool{}
	part := 0
	for _, event := range w.outbox() {
		if event.Aggregate != list {
			continue
		}
		change, _ := event.Data.(*eventv1.ListChanged)
		switch {
		case event.Version.Epoch > last.Epoch && event.Version.Number == 1, event.Version.Epoch == last.Epoch && event.Version.Number == last.Number+1:
			if part = 1; event.Version.Number == 1 || change.GetDeleted() {
				clear(tokens)
			}
		case event.Version == last:
			part++
		default:
			w.t.Fatalf("version %s of %s follows %s", event.Version, list, last)
		}
		if event.Part != part {
			w.t.Fatalf("part %d of version %s of %s stands at place %d", event.Part, event.Version, list, part)
		}
		if len(change.GetAdded())+len(change.GetRemoved()) > tokensPerPart {
			w.t.Fatalf("a part of %s has %d tokens", list, len(change.GetAdded())+len(change.GetRemoved()))
		}
		for _, token := range change.GetAdded() {
			if tokens[string(token)] {
				w.t.Fatalf("version %s of %s adds a token twice", event.Version, list)
			}
			tokens[string(token)] = true
		}
		for _, token := range change.GetRemoved() {
			if !tokens[string(token)] {
				w.t.Fatalf("version %s of %s removes a token that is not there", event.Version, list)
			}
			delete(tokens, string(token))
		}
		last = event.Version
	}
	return tokens, last
}

// agrees asserts that the events of a list lead to its SUBSCRIBED entries and its version, and that its counts are true.
func (w *world) agrees(name string) {
	w.t.Helper()
	list, entries := w.list(name), w.entries(name)
	tokens, version := w.replay(name)
	var count [5]int32
	for address, entry := range entries {
		count[entry.GetState()]++
		token := w.key.Token(address)
		if tokens[string(token[:])] != (entry.GetState() == localv1.Entry_SUBSCRIBED) {
			w.t.Fatalf("an entry of %s is %s, and the events say %t", name, entry.GetState(), tokens[string(token[:])])
		}
	}
	if int(count[1]) != len(tokens) || list.GetEtag() != etag(version.Epoch, version.Number) {
		w.t.Fatalf("%s has %d subscribed at %s, the events lead to %d at %s", name, count[1], list.GetEtag(), len(tokens), version)
	}
	if got := [5]int32{0, list.GetSubscribedCount(), list.GetPendingCount(), list.GetUnsubscribedCount(), list.GetBouncedCount()}; got != count {
		w.t.Fatalf("%s counts %v, its entries are %v", name, got, count)
	}
}

// syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
