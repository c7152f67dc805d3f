package platform

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// drainTimeout is how long running calls may take when a tier stops.
const drainTimeout = 4 * time.Second

// Service is what the services of the three tiers have in common.
type Service interface {
	authz.Hierarchy
	// Register adds the tier's gRPC services to a server.
	Register(grpc.ServiceRegistrar)
	// Run does the background work until ctx ends.
	Run(ctx context.Context) error
}

// Infra is what a tier opens for its service.
type Infra struct {
	Pool       *pgxpool.Pool
	NATS       *nats.Conn
	Clock      clock.Clock
	Log        *slog.Logger
	Registerer prometheus.Registerer
}

// Tier is one service together with what it runs on. The same Tier runs alone (serve) and beside others (up).
type Tier struct {
	// Name is bus.International, bus.Regional or bus.Local.
	Name string
	Site string

	Postgres string
	// Migrate brings the database up to date first.
	Migrate    bool
	Migrations []postgres.Migration
	NATS       NATSAccount

	Verifier   authz.Verifier
	TLS        *tls.Config
	Tracing    bool
	Clock      clock.Clock
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Admin is nil where nobody asks.
	Admin *Admin

	// New makes the service.
	New func(context.Context, Infra) (Service, error)
}

// NATSAccount is how a tier signs in at a NATS server.
type NATSAccount struct{ URL, User, Password string }

// Run serves the tier on lis until ctx ends: running calls are finished, then the background work stops, then the
// connections close. ready is called when calls are answered.
func (t Tier) Run(ctx context.Context, lis net.Listener, ready func()) (err error) {
	defer func() {
		_ = lis.Close() // the server has done so, unless the start failed
		if err != nil {
			err = fmt.Errorf("%s: %w", bus.User(t.Name, t.Site), err)
		}
	}()
	if t.Migrate {
		if err := postgres.Migrate(ctx, t.Postgres, t.Migrations...); err != nil {
			return err
		}
	}
	infra, closeInfra, err := t.open(ctx)
	if err != nil {
		return err
	}
	defer closeInfra()
	service, err := t.New(ctx, infra)
	if err != nil {
		return err
	}
	server, err := rpc.NewServer(rpc.ServerConfig{
		Log: t.Log, Registerer: t.Registerer, Verifier: t.Verifier, Hierarchy: service, Ready: infra.Pool.Ping,
		TLS: t.TLS, Tracing: t.Tracing, DrainTimeout: drainTimeout,
	}, func(s *grpc.Server) { service.Register(s) })
	if err != nil {
		return err
	}
	ready()
	return t.serve(ctx, server, lis, service, infra)
}

// serve stops the background work after the last call, which may have left something to publish.
func (t Tier) serve(ctx context.Context, server *rpc.Server, lis net.Listener, service Service, infra Infra) error {
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	working, stopWorking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWorking()

	var group errgroup.Group
	group.Go(func() error {
		defer stopServing() // a server whose background work has ended must not go on as if all were well
		err := service.Run(working)
		if errors.Is(err, context.Canceled) && working.Err() != nil {
			return nil // it was still starting
		}
		return err
	})
	if t.Admin != nil {
		group.Go(func() error {
			defer stopServing()
			return t.Admin.serve(working, infra.Pool.Ping)
		})
	}
	err := server.Serve(serving, lis)
	stopWorking()
	return errors.Join(err, group.Wait())
}

func (t Tier) open(ctx context.Context) (Infra, func(), error) {
	name := "chapterhouse-" + bus.User(t.Name, t.Site)
	pool, err := postgres.Open(ctx, t.Postgres, postgres.WithApplicationName(name))
	if err != nil {
		return Infra{}, nil, err
	}
	conn, err := bus.Connect(t.NATS.URL, t.NATS.User, t.NATS.Password, t.Log, nats.Name(name))
	if err != nil {
		pool.Close()
		return Infra{}, nil, fmt.Errorf("connect to NATS: %w", err)
	}
	infra := Infra{Pool: pool, NATS: conn, Clock: t.Clock, Log: t.Log, Registerer: t.Registerer}
	return infra, func() { conn.Close(); pool.Close() }, nil
}
