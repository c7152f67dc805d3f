package regional_test

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const patience = 15 * time.Second

var quiet = slog.New(slog.DiscardHandler)

// world is a regional service that runs for one test, with other tiers that only publish.
type world struct {
	t       *testing.T
	pool    *pgxpool.Pool
	clock   *clock.Fake
	service *regional.Service
	address string
	signer  *authz.Signer
	nats    *bus.Server
	// stopService ends the service before the test does.
	stopService func()
	// mailer and config are the service's.
	mailer *mail.Mailer
	config regional.Config
	// Staff and nobody, who is signed in without a role.
	staff, nobody regionalv1.RegionServiceClient
}

// password is every NATS user's: the server runs for one test and takes connections from this process alone.
const password = "test"

func setup(t *testing.T, changes ...func(*world)) *world {
	t.Helper()
	t.Parallel()
	return setupOn(t, testkit.Pool(t, regional.Migrations()...), changes...)
}

func setupOn(t *testing.T, pool *pgxpool.Pool, changes ...func(*world)) *world {
	t.Helper()
	w := &world{
		t: t, pool: pool,
		clock:  clock.NewFake(time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)), // a Friday
		config: regional.Config{CompareEvery: time.Second, RemindTick: 50 * time.Millisecond, Tick: 20 * time.Millisecond},
	}
	for _, change := range changes {
		change(w)
	}
	w.startNATS()
	w.startService()
	w.staff = w.as(authz.InternationalStaff, authz.Federation)
	w.nobody = w.client(authz.Principal{Subject: "nobody"})
	return w
}

func (w *world) startNATS() {
	w.t.Helper()
	server, err := bus.StartServer(bus.ServerConfig{Dir: w.t.TempDir(), Port: -1, Log: quiet, Users: []bus.UserConfig{
		{Tier: bus.Regional, Site: bus.MainSite, Password: password},
		{Tier: bus.International, Site: bus.MainSite, Password: password},
		{Tier: bus.Local, Site: bus.MainSite, Password: password},
	}})
	w.must(err)
	w.t.Cleanup(server.Shutdown)
	w.nats = server
}

func (w *world) connect(tier string) *nats.Conn {
	w.t.Helper()
	conn, err := bus.Connect("", bus.User(tier, bus.MainSite), password, quiet, w.nats.InProcess())
	w.must(err)
	w.t.Cleanup(conn.Close)
	return conn
}

func (w *world) startService() {
	w.t.Helper()
	service, err := regional.New(w.t.Context(), regional.Deps{
		Pool: w.pool, NATS: w.connect(bus.Regional), Clock: w.clock, Log: quiet,
		Mail: w.mailer, Config: w.config,
	})
	w.must(err)
	w.service = service
	stopRun := w.background(service.Run)

	keys := w.t.TempDir()
	w.must(authz.GenerateKey(keys))
	w.signer, err = authz.LoadSigner(filepath.Join(keys, authz.SigningKeyFile))
	w.must(err)
	verifier, err := authz.NewStaticVerifier(filepath.Join(keys, authz.JWKSFile), w.clock)
	w.must(err)
	server, err := rpc.NewServer(rpc.ServerConfig{
		Verifier: verifier, Hierarchy: service,
		Undeclared: func(method string, reason errorv1.Reason) {
			w.t.Errorf("%s gave %s, which its proto does not declare", method, reason)
		},
	}, func(s *grpc.Server) { service.Register(s) })
	w.must(err)
	var config net.ListenConfig
	lis, err := config.Listen(w.t.Context(), "tcp", "127.0.0.1:0")
	w.must(err)
	w.address = lis.Addr().String()
	stopServer := w.background(func(ctx context.Context) error { return server.Serve(ctx, lis) })
	w.stopService = func() { stopServer(); stopRun() }
}

// background runs until the test ends, or until stop is called and returns.
func (w *world) background(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

func (w *world) exec(sql string) {
	w.t.Helper()
	_, err := w.pool.Exec(w.t.Context(), sql)
	w.must(err)
}

func (w *world) as(role authz.Role, scope string) regionalv1.RegionServiceClient {
	w.t.Helper()
	return w.client(authz.Principal{
		Subject: string(role) + ":" + scope, Grants: []authz.Grant{{Role: role, Scope: scope}},
	})
}

func (w *world) client(p authz.Principal) regionalv1.RegionServiceClient {
	w.t.Helper()
	return regionalv1.NewRegionServiceClient(w.dial(p))
}

func (w *world) dial(p authz.Principal) *grpc.ClientConn {
	w.t.Helper()
	conn, err := rpc.Dial(w.address, rpc.MintedToken(w.signer, p, w.clock))
	w.must(err)
	w.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// coordinatorOf is somebody who holds the role on a region.
func coordinatorOf(region string) authz.Principal {
	return authz.Principal{Subject: "of-" + region, Grants: []authz.Grant{{Role: authz.Coordinator, Scope: "regions/" + region}}}
}

var staffMember = authz.Principal{Subject: "staff", Grants: []authz.Grant{{Role: authz.InternationalStaff, Scope: authz.Federation}}}

func (w *world) transfers(p authz.Principal) regionalv1.TransferServiceClient {
	w.t.Helper()
	return regionalv1.NewTransferServiceClient(w.dial(p))
}

// adopt moves a chapter with the consent of both sides.
func (w *world) adopt(region, chapter string) {
	w.t.Helper()
	moved, err := w.transfers(staffMember).AdoptChapter(w.t.Context(), &regionalv1.AdoptChapterRequest{
		Region: "regions/" + region, Chapter: "chapters/" + chapter,
	})
	w.must(err)
	if moved.GetState() != regionalv1.Transfer_COMPLETED {
		w.t.Fatalf("adopt %s into %s: %v", chapter, region, moved)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// region makes one below parent.
func (w *world) region(id, parent string) *regionalv1.Region {
	w.t.Helper()
	made, err := w.staff.CreateRegion(w.t.Context(), &regionalv1.CreateRegionRequest{
		RegionId: id, Region: &regionalv1.Region{DisplayName: id, ParentRegion: parent},
	})
	w.must(err)
	return made
}

// tier is another tier that publishes what the test tells it to.
type tier struct {
	w         *world
	pool      *pgxpool.Pool
	publisher *bus.Publisher
}

func (w *world) tier(name string) *tier {
	w.t.Helper()
	other := &tier{w: w, pool: testkit.Pool(w.t, postgres.Migration{Name: "bus", Files: bus.Migrations})}
	other.publisher = bus.NewPublisher(bus.PublisherConfig{
		Pool: other.pool, NATS: w.connect(name), Tier: name, Site: bus.MainSite, Log: quiet,
	})
	w.background(other.publisher.Run)
	return other
}

func (o *tier) send(subject, aggregate string, number int64, data proto.Message) {
	o.w.t.Helper()
	_, err := postgres.InTx(o.w.t.Context(), o.pool, func(tx pgx.Tx) (struct{}, error) {
		return struct{}{}, bus.Append(o.w.t.Context(), tx, bus.Event{
			Subject: subject, Aggregate: aggregate, Version: bus.Version{Epoch: 1, Number: number}, Data: data,
		})
	})
	o.w.must(err)
	o.publisher.Wake()
}
