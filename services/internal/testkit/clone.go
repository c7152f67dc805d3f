package testkit

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

// Backup copies a test's database, and returns a function that sets it back to that. Nobody may be connected at either
// time.
func Backup(t testing.TB, database string) (restore func()) {
	t.Helper()
	server, err := sharedServer()
	if err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	parsed, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(parsed.Path, "/")
	backup := fmt.Sprintf("backup_%d", server.clones.Add(1))
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	if err := server.clone(ctx, name, backup); err != nil {
		t.Fatalf("back up %s: %v", name, err)
	}
	t.Cleanup(func() { server.drop(t, backup) })
	return func() {
		t.Helper()
		server.drop(t, name)
		ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
		defer cancel()
		if err := server.clone(ctx, backup, name); err != nil {
			t.Fatalf("restore %s: %v", name, err)
		}
	}
}

// drop drops a database, whoever is connected to it.
func (s *server) drop(t testing.TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setupLimit)
	defer cancel()
	if _, err := s.admin.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
		t.Errorf("drop the database %s: %v", name, err)
	}
}
