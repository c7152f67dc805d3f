// Package regional is the regional groups' service: the tree of regions and who lies where in it.
package regional

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// Deps is what the service needs of the world.
type Deps struct {
	Pool       *pgxpool.Pool
	NATS       *nats.Conn
	Clock      clock.Clock
	Log        *slog.Logger
	Registerer prometheus.Registerer
	// Mail sends what coordinators get; nil sends nothing. The caller closes it.
	Mail   *mail.Mailer
	Config Config
}

// Service is the regional tier.
type Service struct {
	regionalv1.UnimplementedRegionServiceServer
	regionalv1.UnimplementedCoordinatorServiceServer
	regionalv1.UnimplementedTransferServiceServer
	regionalv1.UnimplementedCaseServiceServer
	regionalv1.UnimplementedDigestServiceServer
	regionalv1.UnimplementedFeedServiceServer
	regionalv1.UnimplementedRelayServiceServer
	regionalv1.UnimplementedRegionalAnnouncementServiceServer

	pool   *pgxpool.Pool
	clock  clock.Clock
	log    *slog.Logger
	config Config
	mail   *mail.Mailer
	pages  *rpc.Sealer

	publisher *bus.Publisher
	// background is what Run runs: publisher, responder, consumers, clockwork.
	background []func(context.Context) error
}

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
		{Name: "regional", Files: own},
	}
}

// New returns the service over a migrated database. Run has to run beside it.
func New(ctx context.Context, deps Deps) (*Service, error) {
	deps.Config = deps.Config.withDefaults()
	s := &Service{pool: deps.Pool, clock: deps.Clock, log: deps.Log, config: deps.Config, mail: deps.Mail}
	var err error
	if s.pages, err = rpc.LoadSealer(ctx, deps.Pool); err != nil {
		return nil, err
	}
	if err := s.connectBus(deps); err != nil {
		return nil, err
	}
	s.background = append(s.background, s.remindAlways)
	if err := s.announce(ctx); err != nil {
		return nil, fmt.Errorf("announce regions and placements: %w", err)
	}
	return s, nil
}

// Register adds the tier's gRPC services to a server.
func (s *Service) Register(r grpc.ServiceRegistrar) {
	regionalv1.RegisterRegionServiceServer(r, s)
	regionalv1.RegisterCoordinatorServiceServer(r, s)
	regionalv1.RegisterTransferServiceServer(r, s)
	regionalv1.RegisterCaseServiceServer(r, s)
	regionalv1.RegisterDigestServiceServer(r, s)
	regionalv1.RegisterFeedServiceServer(r, s)
	regionalv1.RegisterRelayServiceServer(r, s)
	regionalv1.RegisterRegionalAnnouncementServiceServer(r, s)
}

// Run publishes, answers and consumes until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range s.background {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}

// inTx runs a call's one transaction, which also keeps the answer for a repeated request, and wakes the publisher.
func inTx[T proto.Message](ctx context.Context, s *Service, fn func(tx pgx.Tx) (T, error)) (T, error) {
	answer, err := rpc.InTx(ctx, s.pool, fn)
	if err == nil {
		s.publisher.Wake()
	}
	return answer, err
}

// Ancestors returns the regions that a region or chapter lies in, and a chapter's site. A closed region lies in the one that
// took over from it too, whose coordinators decide on what waits there.
func (s *Service) Ancestors(ctx context.Context, scope string) ([]string, error) {
	kind, id, _ := strings.Cut(scope, "/")
	q := db.New(s.pool)
	switch kind {
	case "regions":
		path, err := q.RegionPath(ctx, id)
		if err != nil {
			return nil, orUnknown(err)
		}
		path = path[:len(path)-1]
		heir, err := successor(ctx, q, id)
		if err == nil && heir.ID != id {
			path = append(path, heir.Path...)
		}
		return regionNames(path), err
	case "chapters":
		place, err := q.ChapterPlace(ctx, id)
		if err != nil {
			return nil, orUnknown(err)
		}
		return append(regionNames(place.Path), "sites/"+place.Site), nil
	}
	return nil, authz.ErrUnknownScope
}

func orUnknown(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return authz.ErrUnknownScope
	}
	return err
}

func regionNames(ids []string) []string {
	names := make([]string, 0, len(ids)+1)
	for _, id := range ids {
		names = append(names, regionName(id))
	}
	return names
}
