package platform

import (
	"context"
	"errors"
	"io/fs"
	"net/url"

	"golang.org/x/sync/errgroup"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// outside names the servers that the last up used instead of its own, for the operator's commands that come after it.
type outside struct {
	Postgres string `json:"postgres"`
	NATS     string `json:"nats"`
}

func (k Keys) outside() (o outside, err error) {
	if err = readJSON(k.path(outsideFile), &o); errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return o, err
}

// startServers starts PostgreSQL and NATS side by side and returns the URL of each tier's database.
func (p *Platform) startServers(ctx context.Context) (map[string]string, error) {
	var databases map[string]string
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() (err error) {
		databases, err = p.startPostgres(ctx)
		return err
	})
	group.Go(p.startNATS)
	err := group.Wait()
	return databases, err
}

func (p *Platform) startPostgres(ctx context.Context) (map[string]string, error) {
	var roles []string
	for _, tier := range tierNames {
		roles = append(roles, databaseOf(tier))
	}
	passwords, err := p.Keys.databasePasswords(roles...)
	if err != nil {
		return nil, err
	}
	admin := p.options.PostgresURL
	if admin == "" {
		p.options.Progress("starting PostgreSQL")
		p.cluster, err = postgres.StartCluster(ctx, postgres.ClusterConfig{Dir: p.dir.Path, Log: p.options.Log})
		if err != nil {
			return nil, err
		}
		admin = p.cluster.AdminURL("postgres")
	}
	urls := map[string]string{}
	for _, tier := range tierNames {
		name := databaseOf(tier)
		database := postgres.Tier{Database: name, Role: name, Password: passwords[name]}
		if err := postgres.CreateTier(ctx, admin, database); err != nil {
			return nil, err
		}
		if urls[tier], err = urlOf(admin, database); err != nil {
			return nil, err
		}
	}
	return urls, nil
}

// databaseOf names a tier's database and its role.
func databaseOf(tier string) string { return "chapterhouse_" + tier }

// urlOf is the tier's URL on the server that an administrator's URL leads to.
func urlOf(admin string, t postgres.Tier) (string, error) {
	u, err := url.Parse(admin)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return "", errors.New("the PostgreSQL URL must be of the form postgres://user:password@host:port/database") // quotes no password
	}
	u.User = url.UserPassword(t.Role, t.Password)
	u.Path = "/" + t.Database
	return u.String(), nil
}

func (p *Platform) startNATS() (err error) {
	if p.options.NATSURL != "" {
		p.natsURL = p.options.NATSURL
		return nil
	}
	users, err := ReadUsers(p.Keys.path(natsUsersFile))
	if err != nil {
		return err
	}
	p.options.Progress("starting NATS")
	p.nats, err = bus.StartServer(bus.ServerConfig{Dir: p.dir.path(natsDir), Users: users, Log: p.options.Log})
	if err != nil {
		return err
	}
	p.natsURL = p.nats.ClientURL()
	return nil
}
