package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) {
	if os.Getenv(childOwner) != "" {
		runChild()
	}
	testkit.Main(m)
}

const (
	agreement = 30 * time.Second
	gapWait   = 150 * time.Millisecond
)

// The owner has lists (kind "list", deltas, sets of items) and notes (kind "note", whole states).
// The copy refuses to add what it has and to remove what it lacks, so that an event that is applied
// twice or out of order fails.
const testTables = `-- +goose Up
CREATE TABLE lists (aggregate text PRIMARY KEY, epoch bigint NOT NULL, number bigint NOT NULL);
CREATE TABLE items (aggregate text, item text, PRIMARY KEY (aggregate, item));
CREATE TABLE notes (aggregate text PRIMARY KEY, epoch bigint NOT NULL, number bigint NOT NULL, value text NOT NULL);
CREATE TABLE history (aggregate text, epoch bigint, number bigint, PRIMARY KEY (aggregate, epoch, number));
CREATE TABLE notices (event_id uuid PRIMARY KEY, text text);
`

func testSchema() []postgres.Migration {
	return []postgres.Migration{
		{Name: "bus", Files: bus.Migrations},
		{Name: "test", Files: fstest.MapFS{"00001_test.sql": {Data: []byte(testTables)}}},
	}
}

// world is an owner (local/main), a copy (international/main) and a NATS server between them.
type world struct {
	t           testing.TB
	nats        *testkit.NATSServer
	owner, copy *pgxpool.Pool
	log         *slog.Logger
	metrics     *prometheus.Registry
	killed      bool // parts of snapshots may be left to the hourly pruning

	mu        sync.Mutex
	publisher *bus.Publisher
	failing   func(event bus.Event) error // what Apply says before it does anything
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, testkit.Pool(t, testSchema()...), testkit.Pool(t, testSchema()...))
}

// newWorldOnCluster is for tests that kill Postgres.
func newWorldOnCluster(t testing.TB) (*world, *postgres.Cluster) {
	t.Helper()
	cluster := testkit.Cluster(t)
	open := func(name string) *pgxpool.Pool {
		tier := postgres.Tier{Database: name, Role: name, Password: name}
		if err := postgres.CreateTier(t.Context(), cluster.AdminURL("postgres"), tier); err != nil {
			t.Fatal(err)
		}
		if err := postgres.Migrate(t.Context(), cluster.URL(tier), testSchema()...); err != nil {
			t.Fatal(err)
		}
		pool, err := postgres.Open(t.Context(), cluster.URL(tier))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(pool.Close)
		return pool
	}
	return newWorldOn(t, open("owner"), open("copy")), cluster
}

func newWorldOn(t testing.TB, owner, replica *pgxpool.Pool) *world {
	t.Helper()
	w := &world{
		t: t, nats: testkit.NATS(t), metrics: prometheus.NewRegistry(), owner: owner, copy: replica,
		log: slog.New(slog.DiscardHandler),
	}
	if os.Getenv("BUS_LOG") != "" {
		w.log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return w
}

// startAll starts publisher, responder and consumer.
func (w *world) startAll(change ...func(*bus.ConsumerConfig)) {
	w.t.Helper()
	w.startPublisher()
	w.startResponder()
	w.startConsumer(change...)
}

// start runs f until the test ends or stop is called.
func (w *world) start(name string, f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f(ctx); err != nil {
			w.t.Errorf("%s: %v", name, err)
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	w.t.Cleanup(stop)
	return stop
}

func (w *world) startPublisher() (stop func()) {
	w.t.Helper()
	p := bus.NewPublisher(bus.PublisherConfig{
		Pool: w.owner, NATS: w.nats.Connect(w.t, bus.Local, "main"), Tier: bus.Local, Site: "main",
		Log: w.log, Registerer: w.metrics, OnRestored: beginEpoch,
	})
	w.mu.Lock()
	w.publisher = p
	w.mu.Unlock()
	return w.start("publisher", p.Run)
}

func (w *world) startResponder() (stop func()) {
	w.t.Helper()
	r := bus.NewResponder(bus.ResponderConfig{
		Pool: w.owner, NATS: w.nats.Connect(w.t, bus.Local, "main"), Tier: bus.Local, Site: "main",
		Log: w.log, Registerer: w.metrics,
	}, listOwner(), noteOwner())
	return w.start("responder", r.Run)
}

func (w *world) startConsumer(change ...func(*bus.ConsumerConfig)) (stop func()) {
	w.t.Helper()
	c := w.newConsumer(change...)
	return w.start("consumer", c.Run)
}

func (w *world) newConsumer(change ...func(*bus.ConsumerConfig)) *bus.Consumer {
	w.t.Helper()
	cfg := w.consumerConfig(w.nats.Connect(w.t, bus.International, "main"))
	for _, f := range change {
		f(&cfg)
	}
	c, err := bus.NewConsumer(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func (w *world) consumerConfig(nc *nats.Conn) bus.ConsumerConfig {
	return bus.ConsumerConfig{
		Pool: w.copy, NATS: nc,
		Tier: bus.International, Site: "main", FromTier: bus.Local, FromSite: "main",
		Topics: []bus.Topic{
			{Kind: "list", Delta: true, Apply: w.applyList, Replace: replaceList},
			{Kind: "note", Apply: w.applyNote, Replace: replaceNote},
		},
		Log: w.log, Registerer: w.metrics,
		GapWait: gapWait, CompareEvery: time.Hour, RetryWait: 5 * time.Millisecond,
	}
}

// patient keeps a consumer from asking for snapshots of what is only late, on a busy machine.
func patient(cfg *bus.ConsumerConfig) { cfg.GapWait = time.Minute }

// comparing makes a consumer compare often.
func comparing(cfg *bus.ConsumerConfig) { cfg.CompareEvery = 200 * time.Millisecond }

func (w *world) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.publisher != nil {
		w.publisher.Wake()
	}
}

func (w *world) setFailing(f func(bus.Event) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failing = f
}

func (w *world) mayFail(e bus.Event) error {
	w.mu.Lock()
	f := w.failing
	w.mu.Unlock()
	if f == nil {
		return nil
	}
	return f(e)
}

func (w *world) exec(pool *pgxpool.Pool, sql string, args ...any) {
	w.t.Helper()
	if _, err := pool.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// scan returns one value. It asks again when the test has cut the connection.
func scan[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	var err error
	for range 20 {
		if err = pool.QueryRow(context.Background(), sql, args...).Scan(&value); err == nil {
			return value
		}
		if pgErr, refused := errors.AsType[*pgconn.PgError](err); refused && pgErr.Code < "57P" {
			break
		}
	}
	t.Fatalf("%s: %v", sql, err)
	return value
}

// stream is the owner's stream, as the admin sees it.
func (w *world) stream() jetstream.Stream {
	w.t.Helper()
	stream, err := w.js().Stream(context.Background(), bus.Stream(bus.Local, "main"))
	if err != nil {
		w.t.Fatal(err)
	}
	return stream
}

func (w *world) js() jetstream.JetStream {
	w.t.Helper()
	js, err := jetstream.New(w.nats.Admin(w.t))
	if err != nil {
		w.t.Fatal(err)
	}
	return js
}

// published waits until the outbox is in the stream.
func (w *world) published() {
	w.t.Helper()
	testkit.Eventually(w.t, agreement, func() (bool, string) {
		n := scan[int](w.t, w.owner, "SELECT count(*) FROM outbox WHERE publish_time IS NULL")
		return n == 0, fmt.Sprintf("%d events are not published", n)
	})
}

// messages are the events in the stream whose subjects begin so, in order.
func (w *world) messages(filter string) []*jetstream.RawStreamMsg {
	w.t.Helper()
	stream := w.stream()
	info, err := stream.Info(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	var found []*jetstream.RawStreamMsg
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && seq > 0; {
		msg, err := stream.GetMsg(context.Background(), seq, jetstream.WithGetMsgSubject("ch.local.main."+filter))
		if err != nil {
			break // no more
		}
		found = append(found, msg)
		seq = msg.Sequence + 1
	}
	return found
}

// republish sends a message to the stream once more, under another id than the stream knows.
func (w *world) republish(msg *jetstream.RawStreamMsg, change ...func(*nats.Msg)) {
	w.t.Helper()
	again := nats.NewMsg(msg.Subject)
	again.Data = append([]byte(nil), msg.Data...)
	for name, values := range msg.Header {
		if !strings.HasPrefix(name, "Nats-") {
			again.Header[name] = values
		}
	}
	for _, f := range change {
		f(again)
	}
	if _, err := w.js().PublishMsg(context.Background(), again); err != nil {
		w.t.Fatal(err)
	}
}
