package main

import (
	"context"
	"fmt"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international"
	"github.com/chapterhouse/chapterhouse/services/local"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

type serveCommand struct {
	International serveInternational `cmd:"" help:"The register, standings and charters."`
	Regional      serveRegional      `cmd:"" help:"The tree of regions."`
	Local         serveLocal         `cmd:"" help:"The chapters of one site."`
	Gateway       serveGateway       `cmd:"" help:"REST in front of the three."`
	NATS          serveNATS          `cmd:"" name:"nats" help:"A NATS server with JetStream and the platform's users."`
}

// serviceFlags are what every tier takes.
type serviceFlags struct {
	logging `set:"log_level=info"`

	Listen      string `default:"${listen}" env:"CHAPTERHOUSE_LISTEN" help:"Where gRPC is."`
	AdminListen string `env:"CHAPTERHOUSE_ADMIN_LISTEN" placeholder:"ADDRESS" help:"Where /metrics, /healthz and /readyz are; nowhere without it."`
	TLSCert     string `name:"tls-cert" env:"CHAPTERHOUSE_TLS_CERT" placeholder:"FILE" help:"Certificate; plain text without it."`
	TLSKey      string `name:"tls-key" env:"CHAPTERHOUSE_TLS_KEY" placeholder:"FILE" help:"Its private key."`

	PostgresURL string `name:"postgres-url" required:"" env:"CHAPTERHOUSE_POSTGRES_URL" placeholder:"URL" help:"The service's own database."`
	NoMigrate   bool   `env:"CHAPTERHOUSE_NO_MIGRATE" help:"Leave the database as it is; chapterhouse migrate brings it up to date."`

	NATSURL          string `name:"nats-url" required:"" env:"CHAPTERHOUSE_NATS_URL" placeholder:"URL" help:"The NATS server."`
	NATSUser         string `name:"nats-user" env:"CHAPTERHOUSE_NATS_USER" placeholder:"USER" help:"Another user than the tier's own."`
	NATSPassword     string `name:"nats-password" env:"CHAPTERHOUSE_NATS_PASSWORD" placeholder:"PASSWORD" help:"Better in a file."`
	NATSPasswordFile string `name:"nats-password-file" env:"CHAPTERHOUSE_NATS_PASSWORD_FILE" placeholder:"FILE" help:"Holds the password."`

	platform.Trust

	TokenFile string `env:"CHAPTERHOUSE_TOKEN_FILE" placeholder:"FILE" help:"The token that the service shows to the others."`
	platform.Transport
}

type serveInternational struct {
	serviceFlags `set:"listen=:7001"`

	MasterKeyFile string            `required:"" env:"CHAPTERHOUSE_MASTER_KEY_FILE" placeholder:"FILE" help:"The master matching key."`
	LocalAddress  map[string]string `name:"local" env:"CHAPTERHOUSE_LOCAL" placeholder:"SITE=ADDRESS" help:"Where the local service of a site is."`

	international.Config
}

// Run serves the international service.
func (c *serveInternational) Run(a *app) error {
	master, err := platform.ReadMasterKey(c.MasterKeyFile)
	if err != nil {
		return err
	}
	mailer, err := mail.New(c.Mail, clock.System{})
	if err != nil {
		return usageError{err}
	}
	defer mailer.Close(a.ctx)
	return c.serve(a, bus.International, bus.MainSite, func(tier *platform.Tier, dial dialer) error {
		if !mailer.Configured() || c.PublicURL == "" {
			tier.Log.Warn("the register sends no links: they need an SMTP server (--mail-smtp) and the gateway's address (--public-url)")
		}
		sites := map[string]*grpc.ClientConn{}
		for site, address := range c.LocalAddress {
			if sites[site], err = dial(address); err != nil {
				return err
			}
		}
		tier.International(c.Config, master, mailer, sites)
		return nil
	})
}

type serveRegional struct {
	serviceFlags `set:"listen=:7002"`

	regional.Config
}

// Run serves the regional service.
func (c *serveRegional) Run(a *app) error {
	mailer, err := mail.New(c.Mail, clock.System{})
	if err != nil {
		return usageError{err}
	}
	defer mailer.Close(a.ctx)
	return c.serve(a, bus.Regional, bus.MainSite, func(tier *platform.Tier, _ dialer) error {
		if !mailer.Configured() {
			tier.Log.Warn("no mail can be sent to coordinators: no SMTP server is set (--mail-smtp)")
		}
		tier.Regional(c.Config, mailer)
		return nil
	})
}

type serveLocal struct {
	serviceFlags `set:"listen=:7003"`

	SiteKeyFile          string `required:"" env:"CHAPTERHOUSE_SITE_KEY_FILE" placeholder:"FILE" help:"The site's matching key."`
	InternationalAddress string `name:"international" required:"" env:"CHAPTERHOUSE_INTERNATIONAL" placeholder:"ADDRESS" help:"Where the international service is."`
	RegionalAddress      string `name:"regional" required:"" env:"CHAPTERHOUSE_REGIONAL" placeholder:"ADDRESS" help:"Where the regional service is."`

	local.Config
}

// Run serves a site's local service.
func (c *serveLocal) Run(a *app) error {
	key, err := platform.ReadSiteKey(c.SiteKeyFile)
	if err != nil {
		return err
	}
	mailer, err := mail.New(c.Mail, clock.System{})
	if err != nil {
		return usageError{err}
	}
	defer mailer.Close(a.ctx)
	return c.serve(a, bus.Local, c.Site, func(tier *platform.Tier, dial dialer) error {
		international, err := dial(c.InternationalAddress)
		if err != nil {
			return err
		}
		regional, err := dial(c.RegionalAddress)
		if err != nil {
			return err
		}
		if !mailer.Configured() {
			tier.Log.Warn("no mail can be sent: no SMTP server is set (--mail-smtp)")
		}
		tier.Local(c.Config, key, mailer, international, regional)
		return nil
	})
}

// dialer connects to another service with the own token.
type dialer func(address string) (*grpc.ClientConn, error)

// serve runs one tier until the order to stop. fill gives it its service.
func (f *serviceFlags) serve(a *app, name, site string, fill func(*platform.Tier, dialer) error) error {
	tracing, stopTracing, err := startTracing(a.ctx, "chapterhouse-"+bus.User(name, site))
	if err != nil {
		return err
	}
	defer stopTracing()
	tier, err := f.tier(a, name, site)
	if err != nil {
		return err
	}
	tier.Tracing = tracing
	if err := fill(&tier, f.dialer(tracing)); err != nil {
		return err
	}
	lis, err := listen(a.ctx, f.Listen)
	if err != nil {
		return err
	}
	if f.AdminListen != "" {
		if tier.Admin.Listener, err = listen(a.ctx, f.AdminListen); err != nil {
			return err
		}
	}
	return tier.Run(a.ctx, lis, func() {
		_, _ = fmt.Fprintf(a.stderr, "%s: ready on %s\n", bus.User(name, site), lis.Addr())
	})
}

func (f *serviceFlags) dialer(tracing bool) dialer {
	var tokens rpc.TokenSource
	if f.TokenFile != "" {
		tokens = rpc.TokenFile(f.TokenFile)
	}
	return func(address string) (*grpc.ClientConn, error) { return f.Dial(address, tokens, tracing) }
}

func (f *serviceFlags) tier(a *app, name, site string) (platform.Tier, error) {
	registry := newRegistry()
	tier := platform.Tier{
		Name: name, Site: site, Postgres: f.PostgresURL, Migrate: !f.NoMigrate, Clock: clock.System{},
		Log: f.logger(a.stderr).With("service", name, "site", site), Registerer: registry,
	}
	if f.AdminListen != "" {
		tier.Admin = &platform.Admin{Metrics: registry}
	}
	var err error
	if tier.Verifier, err = f.Verifier(a.ctx, tier.Clock); err != nil {
		return tier, usageError{err}
	}
	if tier.NATS, err = f.account(name, site); err != nil {
		return tier, err
	}
	tier.TLS, err = platform.ServerTLS(f.TLSCert, f.TLSKey)
	return tier, err
}

func (f *serviceFlags) account(name, site string) (platform.NATSAccount, error) {
	account := platform.NATSAccount{URL: f.NATSURL, User: f.NATSUser, Password: f.NATSPassword}
	if account.User == "" {
		account.User = bus.User(name, site)
	}
	if f.NATSPasswordFile == "" {
		return account, nil
	}
	var err error
	account.Password, err = platform.ReadSecret(f.NATSPasswordFile)
	return account, err
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

func listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	lis, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, err)
	}
	return lis, nil
}
