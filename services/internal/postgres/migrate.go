package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"regexp"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// migrateLock is the advisory lock that whoever migrates a database holds; the number
// only has to differ from the other advisory locks on that database.
const migrateLock = 4_201_733_190

// Migration is a set of goose SQL migrations that lie at the root of Files. Each set
// counts its versions in a table of its own, goose_<Name>, so that a service's tables and
// the bus's grow independently in one database.
type Migration struct {
	Name  string
	Files fs.FS

	apply func(context.Context, *pgxpool.Pool) error // instead of Files, for River
}

// River is the set of tables that River's job queue needs, in the version of the linked
// library. River counts its versions itself.
func River() Migration { return Migration{Name: "river", apply: applyRiver} }

// Migrate brings the database up to the newest version of every set, in the given order.
// Replicas may call it at once: one works and the others wait.
func Migrate(ctx context.Context, url string, sets ...Migration) error {
	pool, err := Open(ctx, url, WithMaxConns(4))
	if err != nil {
		return err
	}
	defer pool.Close()
	return locked(ctx, pool, func() error {
		for _, set := range sets {
			if err := set.up(ctx, pool); err != nil {
				return fmt.Errorf("migrate %s: %w", set.Name, err)
			}
		}
		return nil
	})
}

// MigrateRiver makes or updates the tables of River's job queue.
func MigrateRiver(ctx context.Context, url string) error { return Migrate(ctx, url, River()) }

var setName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,40}$`)

func (m Migration) up(ctx context.Context, pool *pgxpool.Pool) error {
	if m.apply != nil {
		return m.apply(ctx, pool)
	}
	if !setName.MatchString(m.Name) {
		return fmt.Errorf("%q is not usable in the name of a table", m.Name)
	}
	db := stdlib.OpenDBFromPool(pool)
	defer func() { _ = db.Close() }()
	provider, err := goose.NewProvider(goose.DialectPostgres, db, m.Files,
		goose.WithTableName("goose_"+m.Name),
		goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(slog.New(slog.DiscardHandler)),
	)
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

func applyRiver(ctx context.Context, pool *pgxpool.Pool) error {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	return err
}

// locked runs work while one session holds the advisory lock. It asks again and again
// rather than waiting inside Postgres: a waiting statement holds a snapshot, which a
// CREATE INDEX CONCURRENTLY in somebody's migration waits for in turn, forever.
func locked(ctx context.Context, pool *pgxpool.Pool, work func() error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // the pool is closed next, and with the session goes the lock
	for {
		var got bool
		if err := conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(migrateLock)).Scan(&got); err != nil {
			return fmt.Errorf("take the migration lock: %w", err)
		}
		if got {
			return work()
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("wait for another process to finish its migration: %w", ctx.Err())
		}
	}
}
