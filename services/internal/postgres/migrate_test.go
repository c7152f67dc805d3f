package postgres_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func set(name string, files ...string) postgres.Migration {
	fsys := fstest.MapFS{}
	for i, sql := range files {
		fsys["0000"+string(rune('1'+i))+"_step.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql)}
	}
	return postgres.Migration{Name: name, Files: fsys}
}

func TestMigrateCountsEachSetByItself(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	service := []string{"CREATE TABLE a ();", "CREATE TABLE b ();"}
	bus := []string{"CREATE TABLE outbox ();", "CREATE TABLE inbox ();"}
	for _, step := range []struct{ service, bus int }{{1, 2}, {2, 2}, {2, 2}} {
		err := postgres.Migrate(t.Context(), url, set("service", service[:step.service]...), set("bus", bus[:step.bus]...))
		if err != nil {
			t.Fatal(err)
		}
		for table, want := range map[string]int{"goose_service": step.service, "goose_bus": step.bus} {
			if got := query[int](t, url, "SELECT max(version_id) FROM "+table); got != want {
				t.Errorf("%s is at %d, want %d", table, got, want)
			}
		}
	}
}

func TestMigrateServesReplicasAtOnce(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	slow := set("service",
		"CREATE TABLE a (n int); SELECT pg_sleep(0.2);",
		"INSERT INTO a VALUES (1);")
	concurrently := set("more", "")
	concurrently.Files.(fstest.MapFS)["00001_step.sql"].Data = []byte("-- +goose NO TRANSACTION\n-- +goose Up\nCREATE INDEX CONCURRENTLY ON a (n);")
	results := make(chan error, 4)
	for range cap(results) {
		go func() { results <- postgres.Migrate(t.Context(), url, slow, concurrently, postgres.River()) }()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if n := query[int](t, url, "SELECT count(*) FROM a"); n != 1 {
		t.Errorf("the second step ran %d times", n)
	}
}

func TestMigrateRiver(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	for range 2 {
		if err := postgres.MigrateRiver(t.Context(), url); err != nil {
			t.Fatal(err)
		}
	}
	if n := query[int](t, url, "SELECT count(*) FROM river_job"); n != 0 {
		t.Errorf("%d jobs", n)
	}
}

func TestMigrateNamesWhatFails(t *testing.T) {
	t.Parallel()
	url := testkit.Database(t)
	err := postgres.Migrate(t.Context(), url, set("service", "CREATE TABLE a ();", "NONSENSE;"))
	if err == nil || !strings.Contains(err.Error(), "migrate service:") || !strings.Contains(err.Error(), "version:2") {
		t.Errorf("got %v", err)
	}
	err = postgres.Migrate(t.Context(), url, set("no; name", "CREATE TABLE b ();"))
	if err == nil || !strings.Contains(err.Error(), "not usable") {
		t.Errorf("got %v", err)
	}
	if n := query[int](t, url, "SELECT count(*) FROM pg_tables WHERE tablename IN ('a', 'b')"); n != 1 {
		t.Errorf("%d tables, want that of the step that worked", n)
	}
}
