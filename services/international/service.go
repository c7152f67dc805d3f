// Package international is the international body's service: the register, the standings, the charters and the policy.
package international

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
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

//go:embed db/migrations/*.sql
var migrationFiles embed.FS

// Migrations make the service's tables, and those of the bus and of the server.
func Migrations() []postgres.Migration {
	own, err := fs.Sub(migrationFiles, "db/migrations")
	if err != nil {
		panic(err) // only for a malformed path
	}
	return []postgres.Migration{
		{Name: "bus", Files: bus.Migrations},
		{Name: "rpc", Files: rpc.Migrations},
		postgres.River(),
		{Name: "international", Files: own},
	}
}

// Deps is what the service needs to run.
type Deps struct {
	Pool       *pgxpool.Pool
	NATS       *nats.Conn
	Clock      clock.Clock
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// MasterKey is the matching key from which each site's is derived.
	MasterKey address.MasterKey
	// Chapters asks each site, by name, for chapters that are not known here yet.
	Chapters map[string]localv1.ChapterServiceClient
	// Mail sends links to people; nil sends nothing. Whoever made it closes it.
	Mail   *mail.Mailer
	Config Config
}

// Service is the international tier. It implements all its gRPC services.
type Service struct {
	internationalv1.UnimplementedMemberServiceServer
	internationalv1.UnimplementedStandingServiceServer
	internationalv1.UnimplementedCharterServiceServer
	internationalv1.UnimplementedEscalationServiceServer
	internationalv1.UnimplementedAnnouncementServiceServer
	internationalv1.UnimplementedOrganizationServiceServer
	internationalv1.UnimplementedErasureServiceServer
	internationalv1.UnimplementedMemberLinkServiceServer
	internationalv1.UnimplementedMemberImportServiceServer

	pool       *pgxpool.Pool
	nats       *nats.Conn
	clock      clock.Clock
	log        *slog.Logger
	registerer prometheus.Registerer
	chapters   map[string]localv1.ChapterServiceClient
	mail       *mail.Mailer
	config     Config
	// linkKey signs the links in mails.
	linkKey []byte

	sealer    *rpc.Sealer
	publisher *bus.Publisher
	river     *river.Client[pgx.Tx]
	sites     []site

	limitersMu sync.Mutex
	limiters   map[string]*rate.Limiter
}

// New returns the service with its sites known and their tokens complete. It needs the migrated database, and publishes
// and consumes once Run is called.
func New(ctx context.Context, deps Deps) (*Service, error) {
	s := &Service{
		pool:       deps.Pool,
		nats:       deps.NATS,
		clock:      deps.Clock,
		log:        deps.Log,
		registerer: deps.Registerer,
		chapters:   deps.Chapters,
		mail:       deps.Mail,
		config:     deps.Config.withDefaults(),
		linkKey:    deps.MasterKey.Derive(memberLinksKey),
		limiters:   map[string]*rate.Limiter{},
	}
	var err error
	if s.sealer, err = rpc.LoadSealer(ctx, s.pool); err != nil {
		return nil, fmt.Errorf("load the page token key: %w", err)
	}
	if s.sites, err = s.openSites(ctx, deps.MasterKey); err != nil {
		return nil, fmt.Errorf("open the sites: %w", err)
	}
	s.publisher = bus.NewPublisher(bus.PublisherConfig{
		Pool: s.pool, NATS: s.nats, Tier: bus.International, Site: bus.MainSite,
		Log: s.log, Registerer: s.registerer, OnRestored: s.beginEpoch,
	})
	if s.river, err = s.newRiver(); err != nil {
		return nil, fmt.Errorf("set up the jobs: %w", err)
	}
	return s, nil
}

// Register adds the gRPC services to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	internationalv1.RegisterMemberServiceServer(r, s)
	internationalv1.RegisterStandingServiceServer(r, s)
	internationalv1.RegisterCharterServiceServer(r, s)
	internationalv1.RegisterEscalationServiceServer(r, s)
	internationalv1.RegisterAnnouncementServiceServer(r, s)
	internationalv1.RegisterOrganizationServiceServer(r, s)
	internationalv1.RegisterErasureServiceServer(r, s)
	internationalv1.RegisterMemberLinkServiceServer(r, s)
	internationalv1.RegisterMemberImportServiceServer(r, s)
}

// Run publishes, consumes, answers and works off jobs until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.publisher.Run(ctx) })
	responder := bus.NewResponder(bus.ResponderConfig{
		Pool: s.pool, NATS: s.nats, Tier: bus.International, Site: bus.MainSite, Log: s.log, Registerer: s.registerer,
	}, append(owners(), s.policyOwner())...)
	group.Go(func() error { return responder.Run(ctx) })
	consumers, err := s.consumers()
	if err != nil {
		return err
	}
	for _, consumer := range consumers {
		group.Go(func() error { return consumer.Run(ctx) })
	}
	group.Go(func() error { return s.runJobs(ctx) })
	group.Go(func() error { return s.runSchedule(ctx) })
	group.Go(func() error { return s.runMails(ctx) })
	return group.Wait()
}

func (s *Service) consumers() ([]*bus.Consumer, error) {
	config := bus.ConsumerConfig{
		Pool: s.pool, NATS: s.nats, Tier: bus.International, Site: bus.MainSite,
		FromTier: bus.Regional, FromSite: bus.MainSite, Topics: []bus.Topic{regionTopic(), s.caseTopic(), relayTopic(), s.erasureTopic()},
		Log: s.log, Registerer: s.registerer, AfterCommit: s.publisher.Wake,
		GapWait: s.config.GapWait, CompareEvery: s.config.CompareEvery, Workers: 1,
	}
	regional, err := bus.NewConsumer(config)
	if err != nil {
		return nil, err
	}
	consumers := []*bus.Consumer{regional}
	for _, site := range s.sites {
		config.FromTier, config.FromSite, config.Workers = bus.Local, site.name, s.config.Workers
		config.Topics = []bus.Topic{s.chapterTopic(site.no), s.listTopic(site.no), s.erasureTopic()}
		local, err := bus.NewConsumer(config)
		if err != nil {
			return nil, err
		}
		consumers = append(consumers, local)
	}
	return consumers, nil
}

// inTx runs a call's one transaction, which also keeps the answer for a repeated request, and wakes the publisher.
func inTx[T proto.Message](ctx context.Context, s *Service, fn func(tx pgx.Tx) (T, error)) (T, error) {
	answer, err := rpc.InTx(ctx, s.pool, fn)
	if err == nil {
		s.publisher.Wake()
	}
	return answer, err
}
