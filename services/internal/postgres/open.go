package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// defaultMaxConns leaves room for several services on one server: pgx's own
	// default is 4 on a small machine, which an outbox and a consumer use up.
	defaultMaxConns = 16
	defaultWait     = 20 * time.Second
)

type openOptions struct {
	pool *pgxpool.Config
	wait time.Duration
}

// Option changes what Open does.
type Option func(*openOptions)

// WithApplicationName is the name under which the connections show in pg_stat_activity;
// without it, and without application_name in the URL, the name of the program.
func WithApplicationName(name string) Option {
	return func(o *openOptions) { o.pool.ConnConfig.RuntimeParams["application_name"] = name }
}

// WithMaxConns limits the pool, whatever the URL says. The default is 16, or
// pool_max_conns of the URL.
func WithMaxConns(n int32) Option {
	return func(o *openOptions) { o.pool.MaxConns = n }
}

// WithWait is how long Open waits for a server that does not answer yet; 20 seconds by
// default.
func WithWait(d time.Duration) Option {
	return func(o *openOptions) { o.wait = d }
}

// WithConfig reaches what has no option of its own, such as tracers and AfterConnect.
func WithConfig(change func(*pgxpool.Config)) Option {
	return func(o *openOptions) { change(o.pool) }
}

// Open returns a pool with one proven connection. A server that is starting, or not
// there yet, is waited for; one that refuses (password, unknown database) is not.
func Open(ctx context.Context, url string, options ...Option) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read the PostgreSQL URL: %w", err)
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = defaultMaxConns
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = filepath.Base(os.Args[0])
	}
	o := openOptions{pool: config, wait: defaultWait}
	for _, option := range options {
		option(&o)
	}
	pool, err := pgxpool.NewWithConfig(ctx, o.pool)
	if err != nil {
		return nil, fmt.Errorf("open the PostgreSQL pool: %w", err)
	}
	if err := waitFor(ctx, o.wait, pool.Ping); err != nil {
		pool.Close()
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return pool, nil
}

// connect is Open for one connection, for the short jobs of an operator.
func connect(ctx context.Context, url string) (conn *pgx.Conn, err error) {
	err = waitFor(ctx, defaultWait, func(ctx context.Context) error {
		conn, err = pgx.Connect(ctx, url)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return conn, nil
}

// waitFor calls try until it succeeds, the server refuses, or the time is over.
func waitFor(ctx context.Context, limit time.Duration, try func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for {
		err := try(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err // what the server said, rather than that the time is over
		}
		if !mayComeBack(err) {
			return last
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return last
		}
	}
}

// mayComeBack says whether waiting can help: nobody listens, the connection broke, or
// the server says that it is starting or stopping.
func mayComeBack(err error) bool {
	if _, parse := errors.AsType[*pgconn.ParseConfigError](err); parse {
		return false
	}
	pgErr, fromServer := errors.AsType[*pgconn.PgError](err)
	return !fromServer || serverAway(pgErr)
}

// serverAway reports admin_shutdown, crash_shutdown and cannot_connect_now.
func serverAway(err *pgconn.PgError) bool {
	return err.Code == "57P01" || err.Code == "57P02" || err.Code == "57P03"
}
