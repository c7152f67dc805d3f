// Package local is the chapters' own service: chapters, their lists and entries, and the syncs that keep lists in step.
// It is the only place that holds chapters' addresses; no error, log line or event of it contains one.
package local

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/riverqueue/river"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

//go:embed db/migrations/*.sql
var migrationFiles embed.FS

// Migrations make the service's tables, and those of the bus, the server and the job queue.
func Migrations() []postgres.Migration {
	own, err := fs.Sub(migrationFiles, "db/migrations")
	if err != nil {
		panic(err) // only for a malformed path
	}
	return []postgres.Migration{
		{Name: "bus", Files: bus.Migrations},
		{Name: "rpc", Files: rpc.Migrations},
		postgres.River(),
		{Name: "local", Files: own},
	}
}

// Deps is what the service needs to run.
type Deps struct {
	Pool       *pgxpool.Pool
	NATS       *nats.Conn
	Clock      clock.Clock
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// SiteKey turns the site's addresses into tokens.
	SiteKey address.SiteKey
	// Regions is asked for a region that is not known here yet.
	Regions regionalv1.RegionServiceClient
	// Standings is asked what a plan would do to the standing.
	Standings internationalv1.StandingServiceClient
	// Mail sends to people; nil sends nothing. Whoever made it closes it.
	Mail   *mail.Mailer
	Config Config
}

// Service is the local tier. It implements all its gRPC services.
type Service struct {
	localv1.UnimplementedChapterServiceServer
	localv1.UnimplementedListServiceServer
	localv1.UnimplementedSyncServiceServer
	localv1.UnimplementedSubscriptionServiceServer
	localv1.UnimplementedConnectorServiceServer
	localv1.UnimplementedInboxServiceServer
	localv1.UnimplementedOfficerServiceServer
	localv1.UnimplementedConcernServiceServer

	pool      *pgxpool.Pool
	clock     clock.Clock
	log       *slog.Logger
	siteKey   address.SiteKey
	regions   regionalv1.RegionServiceClient
	standings internationalv1.StandingServiceClient
	mail      *mail.Mailer
	config    Config
	// linkKey signs the links in mails.
	linkKey []byte

	sealer    *rpc.Sealer
	publisher *bus.Publisher
	responder *bus.Responder
	consumers []*bus.Consumer
	river     *river.Client[pgx.Tx]
	running   running
	moves     moves
	// mailDue says that mails were queued.
	mailDue chan struct{}
	// life ends with Run, and aside are the plans that are made beside their calls.
	life  context.Context //nolint:containedctx // plans outlive the calls that they belong to
	end   context.CancelFunc
	aside sync.WaitGroup
}

// New returns the service. It needs the migrated database, and publishes and consumes once Run is called.
func New(ctx context.Context, deps Deps) (*Service, error) {
	s := &Service{
		pool:      deps.Pool,
		clock:     deps.Clock,
		log:       deps.Log,
		siteKey:   deps.SiteKey,
		regions:   deps.Regions,
		standings: deps.Standings,
		mail:      deps.Mail,
		config:    deps.Config.withDefaults(),
		linkKey:   deps.SiteKey.Derive(linksKey),
		mailDue:   make(chan struct{}, 1),
	}
	if err := s.config.Mailings.check(); err != nil {
		return nil, err
	}
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	var err error
	if s.sealer, err = rpc.LoadSealer(ctx, s.pool); err != nil {
		return nil, fmt.Errorf("load the page token key: %w", err)
	}
	if err := s.connectBus(deps); err != nil {
		return nil, err
	}
	if s.river, err = s.newRiver(); err != nil {
		return nil, fmt.Errorf("set up the jobs: %w", err)
	}
	return s, nil
}

// Register adds the gRPC services to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	localv1.RegisterChapterServiceServer(r, s)
	localv1.RegisterListServiceServer(r, s)
	localv1.RegisterSyncServiceServer(r, s)
	localv1.RegisterSubscriptionServiceServer(r, s)
	localv1.RegisterConnectorServiceServer(r, s)
	localv1.RegisterInboxServiceServer(r, s)
	localv1.RegisterOfficerServiceServer(r, s)
	localv1.RegisterConcernServiceServer(r, s)
}

// Run publishes, consumes, answers and works off jobs until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	defer s.aside.Wait()
	defer s.end()
	group, ctx := errgroup.WithContext(ctx)
	runs := []func(context.Context) error{s.publisher.Run, s.responder.Run, s.runJobs, s.runMail, s.runMailings, s.runReceipts, s.runBounces}
	for _, consumer := range s.consumers {
		runs = append(runs, consumer.Run)
	}
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}

// inTx runs a call's one transaction, which also keeps the answer for a repeated request, and wakes the publisher.
func inTx[T proto.Message](ctx context.Context, s *Service, fn func(tx pgx.Tx) (T, error)) (T, error) {
	answer, err := rpc.InTx(ctx, s.pool, fn)
	if err == nil {
		s.publisher.Wake()
		s.moves.wake()
	}
	return answer, err
}
