package bus

import (
	"embed"
	"io/fs"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// Migrations make the bus's own tables: postgres.Migration{Name: "bus", Files: bus.Migrations}.
var Migrations = mustSub(migrationFiles, "migrations")

func mustSub(files embed.FS, dir string) fs.FS {
	sub, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // only for a malformed dir
	}
	return sub
}
