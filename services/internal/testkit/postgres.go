package testkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

const (
	testRole     = "tester"
	testPassword = "tester" // the socket's directory keeps others out
	setupLimit   = time.Minute
)

// Database returns the URL of a fresh database with the sets' tables, for a role that owns
// it and is no superuser. It is dropped when the test ends.
//
// All databases of a test process lie on one throwaway cluster, which starts with the
// first of them. The sets are migrated once, into a template that the others are cloned
// from.
func Database(t testing.TB, sets ...postgres.Migration) string {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	template, err := server.template(ctx, sets)
	if err != nil {
		t.Fatalf("make the template database: %v", err)
	}
	name := fmt.Sprintf("test_%d", server.clones.Add(1))
	if err := server.clone(ctx, template, name); err != nil {
		t.Fatalf("clone the template database: %v", err)
	}
	t.Cleanup(func() { server.drop(t, name) })
	return server.url(name)
}

// Pool is Database with an open pool, which is closed when the test ends.
func Pool(t testing.TB, sets ...postgres.Migration) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(t.Context(), Database(t, sets...), postgres.WithApplicationName(t.Name()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// Cluster starts a cluster of the test's own, as durable as in production, for tests that
// kill, pause or restart it.
func Cluster(t testing.TB) *postgres.Cluster {
	t.Helper()
	dir, err := postgres.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	cluster, err := postgres.StartCluster(t.Context(), postgres.ClusterConfig{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
		defer cancel()
		if err := cluster.Stop(ctx); err != nil {
			t.Error(err)
		}
		if err := postgres.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

// server is the throwaway cluster that the tests of one process share.
type server struct {
	cluster *postgres.Cluster
	admin   *pgxpool.Pool
	clones  atomic.Int64

	mu        sync.Mutex
	templates map[string]func() error // by name; each builds once
}

var sharedServer = sync.OnceValues(func() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*setupLimit) // it may have to be installed
	defer cancel()
	cluster, err := postgres.StartCluster(ctx, postgres.ClusterConfig{Throwaway: true})
	if err != nil {
		return nil, err
	}
	AtExit(func() { _ = cluster.Stop(context.Background()) })
	admin, err := postgres.Open(ctx, cluster.AdminURL("postgres"))
	if err != nil {
		return nil, err
	}
	AtExit(admin.Close)
	return &server{cluster: cluster, admin: admin, templates: map[string]func() error{}}, nil
})

func (s *server) url(database string) string {
	return s.cluster.URL(postgres.Tier{Database: database, Role: testRole, Password: testPassword})
}

// template returns the name of a database with the sets' tables.
func (s *server) template(ctx context.Context, sets []postgres.Migration) (string, error) {
	name, err := templateName(sets)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	build, known := s.templates[name]
	if !known {
		build = sync.OnceValue(func() error { return s.buildTemplate(ctx, name, sets) })
		s.templates[name] = build
	}
	s.mu.Unlock()
	return name, build()
}

func (s *server) buildTemplate(ctx context.Context, name string, sets []postgres.Migration) error {
	tier := postgres.Tier{Database: name, Role: testRole, Password: testPassword}
	if err := postgres.CreateTier(ctx, s.cluster.AdminURL("postgres"), tier); err != nil {
		return err
	}
	if len(sets) > 0 {
		if err := postgres.Migrate(ctx, s.cluster.URL(tier), sets...); err != nil {
			return err
		}
	}
	// A database that somebody is connected to cannot be cloned.
	_, err := s.admin.Exec(ctx, "ALTER DATABASE "+name+" ALLOW_CONNECTIONS false")
	return err
}

// clone copies files, which for a database of a few megabytes takes half the time of
// PostgreSQL 15's default, a copy through the log.
func (s *server) clone(ctx context.Context, template, name string) error {
	_, err := s.admin.Exec(ctx, "CREATE DATABASE "+name+" OWNER "+testRole+" TEMPLATE "+template+" STRATEGY FILE_COPY")
	return err
}

// templateName is made of all that the sets contain: two tests may give different files
// the same name.
func templateName(sets []postgres.Migration) (string, error) {
	sum := sha256.New()
	for _, set := range sets {
		_, _ = fmt.Fprintf(sum, "%q", set.Name)
		if set.Files == nil {
			continue
		}
		err := fs.WalkDir(set.Files, ".", func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".sql" {
				return err
			}
			content, err := fs.ReadFile(set.Files, path)
			_, _ = fmt.Fprintf(sum, "%q%q", path, content)
			return err
		})
		if err != nil {
			return "", fmt.Errorf("read the migrations of %s: %w", set.Name, err)
		}
	}
	return "template_" + hex.EncodeToString(sum.Sum(nil)[:8]), nil
}
