// Package platform puts the tiers together: each by itself, as one server of a deployment, or all of them in one
// process on PostgreSQL and NATS servers of their own.
package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/gateway"
	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/international"
	"github.com/chapterhouse/chapterhouse/services/local"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

// Options says how the whole platform runs in one process.
type Options struct {
	// Data is the directory for the PostgreSQL cluster, JetStream and keys.
	Data string
	// HTTP is where the gateway listens; without it there is none.
	HTTP string
	// PostgresURL is an administrator's on a server to be used instead of an own cluster.
	PostgresURL string
	// NATSURL is that of a server to be used instead of the embedded one. With a user in it, all tiers sign in as
	// that; without, each as its own user with the password in Data.
	NATSURL string
	// Reset deletes everything in Data first.
	Reset bool
	// MailSink keeps mail on this machine, to be looked at, where the settings name no server to hand it to. Without
	// either, no mail is sent.
	MailSink bool

	International international.Config
	Regional      regional.Config
	Local         local.Config
	Gateway       gateway.Config

	Version string
	Clock   clock.Clock
	Log     *slog.Logger
	Tracing bool
	// Progress is told what is being started; nil for nobody.
	Progress func(what string)
}

// site is the only local site of a platform in one process.
const site = bus.MainSite

// gatewayDrain leaves the tiers and PostgreSQL their share of the 10 s in which everything has to be stopped.
const gatewayDrain = 3 * time.Second

// tierNames in the order in which they are shown.
var tierNames = []string{bus.International, bus.Regional, bus.Local}

// Platform is the whole platform, running.
type Platform struct {
	Endpoints Endpoints
	Keys      Keys

	options  Options
	dir      *Directory
	cluster  *postgres.Cluster // nil with an outside server
	nats     *bus.Server       // nil with an outside server
	natsURL  string
	registry *prometheus.Registry
	verifier authz.Verifier
	mailer   *mail.Mailer
	// regionalMailer and registerMailer are the same, unless the service has a server of its own.
	regionalMailer, registerMailer *mail.Mailer
	sink                           *mailsink.Sink // nil with an SMTP server
	http                           net.Listener
	grpc                           map[string]net.Listener

	mu    sync.Mutex
	conns []*grpc.ClientConn

	stopGateway context.CancelFunc
	stopTiers   context.CancelFunc
	stopped     chan struct{} // closed when the gateway has ended
	done        chan struct{} // closed when gateway and tiers have ended
	err         error         // why, after done
}

// Start starts everything and returns when calls are answered. ctx ends the start; what runs is ended by Stop.
// A failed start leaves nothing running.
func Start(ctx context.Context, o Options) (*Platform, error) {
	o = o.withDefaults()
	p := &Platform{options: o, registry: prometheus.NewRegistry(), grpc: map[string]net.Listener{}}
	p.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := p.start(ctx); err != nil {
		return nil, errors.Join(err, p.abort())
	}
	return p, nil
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Gateway.DrainTimeout == 0 || o.Gateway.DrainTimeout > gatewayDrain {
		o.Gateway.DrainTimeout = gatewayDrain
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

func (p *Platform) start(ctx context.Context) error {
	if err := p.listen(ctx); err != nil {
		return err
	}
	if err := p.openData(); err != nil {
		return err
	}
	if err := p.openMail(ctx); err != nil {
		return err
	}
	databases, err := p.startServers(ctx)
	if err != nil {
		return err
	}
	if err := p.startServices(ctx, databases); err != nil {
		return err
	}
	return p.publish()
}

// listen takes all ports before anything slow is begun.
func (p *Platform) listen(ctx context.Context) error {
	var config net.ListenConfig
	for _, tier := range tierNames {
		lis, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		p.grpc[tier] = lis
	}
	if p.options.HTTP == "" {
		return nil
	}
	lis, err := config.Listen(ctx, "tcp", p.options.HTTP)
	if err != nil {
		return fmt.Errorf("cannot listen on %s; choose another address with --http: %w", p.options.HTTP, err)
	}
	p.http = lis
	return nil
}

// openData takes the data directory and makes the keys that are missing.
func (p *Platform) openData() (err error) {
	if p.options.Reset && (p.options.PostgresURL != "" || p.options.NATSURL != "") {
		return errors.New("--reset deletes what is in the data directory and cannot empty an outside server: drop the databases chapterhouse_* and the streams CH_* there")
	}
	if p.dir, err = OpenDirectory(p.options.Data); err != nil {
		return err
	}
	if p.options.Reset {
		p.options.Progress("deleting all data in " + p.dir.Path)
		if err := p.dir.Reset(); err != nil {
			return fmt.Errorf("reset %s: %w", p.dir.Path, err)
		}
	}
	if err := p.dir.unpublish(); err != nil { // left by one that was killed
		return err
	}
	if p.Keys, err = MakeKeys(p.dir.path(secretsDir), []string{site}); err != nil {
		return err
	}
	if err := p.Keys.writeJSON(outsideFile, outside{p.options.PostgresURL, p.options.NATSURL}); err != nil {
		return err
	}
	p.verifier, err = authz.NewStaticVerifier(p.Keys.path(authz.JWKSFile), p.options.Clock)
	return err
}
