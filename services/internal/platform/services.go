package platform

import (
	"context"

	"google.golang.org/grpc"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	regionalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/regional/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/address"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/international"
	"github.com/chapterhouse/chapterhouse/services/local"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

// International lets the tier run the international service. sites holds a connection to each local site, by name. The
// caller closes the mailer, after the tier.
func (t *Tier) International(config international.Config, master address.MasterKey, mailer *mail.Mailer, sites map[string]*grpc.ClientConn) {
	t.Migrations = international.Migrations()
	t.New = func(ctx context.Context, infra Infra) (Service, error) {
		chapters := map[string]localv1.ChapterServiceClient{}
		for name, conn := range sites {
			chapters[name] = localv1.NewChapterServiceClient(conn)
		}
		return international.New(ctx, international.Deps{
			Pool: infra.Pool, NATS: infra.NATS, Clock: infra.Clock, Log: infra.Log, Registerer: infra.Registerer,
			MasterKey: master, Chapters: chapters, Mail: mailer, Config: config,
		})
	}
}

// Regional lets the tier run the regional service. The caller closes the mailer, after the tier.
func (t *Tier) Regional(config regional.Config, mailer *mail.Mailer) {
	t.Migrations = regional.Migrations()
	t.New = func(ctx context.Context, infra Infra) (Service, error) {
		return regional.New(ctx, regional.Deps{
			Pool: infra.Pool, NATS: infra.NATS, Clock: infra.Clock, Log: infra.Log, Registerer: infra.Registerer,
			Mail: mailer, Config: config,
		})
	}
}

// Local lets the tier run the local service. international and regional are connections that carry the site's token.
// The caller closes the mailer, after the tier.
func (t *Tier) Local(config local.Config, key address.SiteKey, mailer *mail.Mailer, international, regional *grpc.ClientConn) {
	t.Migrations = local.Migrations()
	t.New = func(ctx context.Context, infra Infra) (Service, error) {
		return local.New(ctx, local.Deps{
			Pool: infra.Pool, NATS: infra.NATS, Clock: infra.Clock, Log: infra.Log, Registerer: infra.Registerer,
			SiteKey:   key,
			Regions:   regionalv1.NewRegionServiceClient(regional),
			Standings: internationalv1.NewStandingServiceClient(international),
			Mail:      mailer,
			Config:    config,
		})
	}
}

// fill gives a tier of this process its service.
func (p *Platform) fill(tier *Tier, peers map[string]*grpc.ClientConn) error {
	switch tier.Name {
	case bus.International:
		master, err := ReadMasterKey(p.Keys.path(masterKeyFile))
		if err != nil {
			return err
		}
		config := p.options.International
		config.Sites = []string{site}
		if config.PublicURL == "" {
			config.PublicURL = p.publicURL()
		}
		tier.International(config, master, p.registerMailer, map[string]*grpc.ClientConn{site: peers[bus.Local]})
	case bus.Regional:
		config := p.options.Regional
		config.Sites = []string{site}
		if config.PublicURL == "" {
			config.PublicURL = p.publicURL()
		}
		tier.Regional(config, p.regionalMailer)
	case bus.Local:
		key, err := ReadSiteKey(p.Keys.path(siteKeyFile(site)))
		if err != nil {
			return err
		}
		config := p.options.Local
		config.Site = site
		config.Connectors.Version = p.options.Version
		if config.PublicURL == "" {
			config.PublicURL = p.publicURL()
		}
		tier.Local(config, key, p.mailer, peers[bus.International], peers[bus.Regional])
	}
	return nil
}

// publicURL is where the gateway is, empty where there is none.
func (p *Platform) publicURL() string {
	if p.http == nil {
		return ""
	}
	return "http://" + reachable(p.http.Addr())
}
