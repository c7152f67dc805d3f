package local

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
)

// Config is every setting of the local service that is not a secret or the address of another.
type Config struct {
	Site string `help:"Name of the site, which its NATS user and its matching key belong to." default:"main" env:"CHAPTERHOUSE_SITE"`

	PublicURL string `help:"Where people open the links in mails: the gateway as the world sees it (https, or on this machine http)." placeholder:"URL" env:"CHAPTERHOUSE_PUBLIC_URL"`

	PlanLifetime   time.Duration `help:"How long a plan can be applied." default:"1h"`
	KeepChanges    time.Duration `help:"How long a sync can be reverted, and its changes be read." default:"24h"`
	UploadIdle     time.Duration `help:"How long nothing of an upload may arrive." default:"60s"`
	UploadLimit    time.Duration `help:"How long an upload may take in all." default:"1h"`
	PlanLimit      time.Duration `help:"How long a plan that was answered before it was done may take." default:"10m"`
	KeepLog        time.Duration `help:"How long a list can be followed from." default:"168h"`
	MaxUploadBytes int64         `help:"The largest source." default:"268435456"`
	MaxUploadRows  int           `help:"The most rows of a source." default:"5000000"`
	RowsInMemory   int           `help:"How many addresses of a source are kept in memory to see repetitions; those of larger ones are found by the database." default:"250000"`
	PreviewTimeout time.Duration `help:"How long to wait for the standing before and after a plan." default:"10s"`
	LookupTimeout  time.Duration `help:"How long to ask the regional service for a region that is not known yet." default:"2s"`
	CleanEvery     time.Duration `help:"How often old plans and left-overs of uploads are looked for." default:"1m"`

	Mail       mail.Config      `embed:"" prefix:"mail-"`
	Mailings   MailingsConfig   `embed:"" prefix:"mailings-"`
	Connectors ConnectorsConfig `embed:"" prefix:"connectors-"`

	// GapWait and CompareEvery are the bus's; tests shorten them.
	GapWait      time.Duration `hidden:"" default:"2s"`
	CompareEvery time.Duration `hidden:"" default:"10m"`
}

// MailingsConfig is how fast announcements are mailed, and where comes back what could not be delivered.
type MailingsConfig struct {
	DomainRate  int            `help:"The most mails of announcements a minute to the addresses of one domain; 0 for no limit. A tenth of it may go at once." default:"0" env:"CHAPTERHOUSE_MAILINGS_DOMAIN_RATE"`
	DomainRates map[string]int `help:"The same for single domains: example.org=600." placeholder:"DOMAIN=N" env:"CHAPTERHOUSE_MAILINGS_DOMAIN_RATES"`

	BounceMaildir string        `help:"Maildir in which the return path's mail arrives: bounces are read from it and deleted, the rest is left for people." placeholder:"DIR" env:"CHAPTERHOUSE_MAILINGS_BOUNCE_MAILDIR"`
	BounceEvery   time.Duration `help:"How often it is looked into." default:"30s" env:"CHAPTERHOUSE_MAILINGS_BOUNCE_EVERY"`
}

// ConnectorsConfig is where the connectors of chapters may reach, and how often they are looked after.
type ConnectorsConfig struct {
	Networks  []netip.Prefix `help:"Networks that connectors may reach beside public addresses: a chapter's URL must not lead into the operator's own." default:"127.0.0.0/8,::1/128" env:"CHAPTERHOUSE_CONNECTORS_NETWORKS"`
	PlainHTTP bool           `name:"plain-http" help:"Let connectors use http to other machines." env:"CHAPTERHOUSE_CONNECTORS_PLAIN_HTTP"`
	Tick      time.Duration  `help:"How often connectors are looked for that are due." default:"10s"`
	// Version is the program's, for the other tools' logs.
	Version string `kong:"-"`
}

func (c ConnectorsConfig) policy() connector.Policy {
	return connector.Policy{PlainHTTP: c.PlainHTTP, Version: c.Version, Dial: func(to netip.AddrPort) error {
		addr := to.Addr().Unmap()
		if slices.ContainsFunc(c.Networks, func(network netip.Prefix) bool { return network.Contains(addr) }) {
			return nil
		}
		if !addr.IsGlobalUnicast() || addr.IsPrivate() || sharedNetwork.Contains(addr) {
			return errors.New("not a public address, and in none of the networks that the operator allows")
		}
		return nil
	}}
}

// sharedNetwork is that of carriers (RFC 6598), in which clouds have their own services.
var sharedNetwork = netip.MustParsePrefix("100.64.0.0/10")

// withDefaults fills what a caller without a command line left out.
func (c Config) withDefaults() Config {
	orDefault(&c.Site, "main")
	orDefault(&c.PlanLifetime, time.Hour)
	orDefault(&c.KeepChanges, 24*time.Hour)
	orDefault(&c.PublicURL, "http://127.0.0.1:8080")
	orDefault(&c.Mailings.BounceEvery, 30*time.Second)
	orDefault(&c.Connectors.Tick, 10*time.Second)
	if c.Connectors.Networks == nil {
		c.Connectors.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
	}
	orDefault(&c.PlanLimit, 10*time.Minute)
	orDefault(&c.KeepLog, 7*24*time.Hour)
	orDefault(&c.UploadIdle, time.Minute)
	orDefault(&c.UploadLimit, time.Hour)
	orDefault(&c.MaxUploadBytes, 256<<20)
	orDefault(&c.MaxUploadRows, 5_000_000)
	orDefault(&c.RowsInMemory, 250_000)
	orDefault(&c.PreviewTimeout, 10*time.Second)
	orDefault(&c.LookupTimeout, 2*time.Second)
	orDefault(&c.CleanEvery, time.Minute)
	return c
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}
