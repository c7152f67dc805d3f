package main

import (
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/international"
	"github.com/chapterhouse/chapterhouse/services/local"
	"github.com/chapterhouse/chapterhouse/services/regional"
)

type migrateCommand struct {
	Service     string `arg:"" enum:"international,regional,local" help:"${enum}."`
	PostgresURL string `name:"postgres-url" required:"" env:"CHAPTERHOUSE_POSTGRES_URL" placeholder:"URL" help:"The service's own database."`
}

// Run brings the database up to date. Several at once are safe.
func (c *migrateCommand) Run(a *app) error {
	sets := map[string][]postgres.Migration{
		bus.International: international.Migrations(),
		bus.Regional:      regional.Migrations(),
		bus.Local:         local.Migrations(),
	}
	return postgres.Migrate(a.ctx, c.PostgresURL, sets[c.Service]...)
}
