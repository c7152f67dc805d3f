package testkit_test

import (
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func tables(name string, count int) postgres.Migration {
	sql := "-- +goose Up\n"
	for i := range count {
		sql += fmt.Sprintf("CREATE TABLE %s_%d (id bigint PRIMARY KEY, text text);\n", name, i)
	}
	return postgres.Migration{Name: name, Files: fstest.MapFS{"00001_tables.sql": {Data: []byte(sql)}}}
}

func TestDatabaseIsFreshAndUnprivileged(t *testing.T) {
	t.Parallel()
	sets := []postgres.Migration{tables("alpha", 3), tables("beta", 1), postgres.River()}
	one, two := testkit.Pool(t, sets...), testkit.Pool(t, sets...)
	if _, err := one.Exec(t.Context(), "INSERT INTO alpha_0 VALUES (1, 'only here')"); err != nil {
		t.Fatal(err)
	}
	var rows int
	err := two.QueryRow(t.Context(), "SELECT (SELECT count(*) FROM alpha_0) + (SELECT count(*) FROM beta_0) + (SELECT count(*) FROM river_job)").Scan(&rows)
	if err != nil {
		t.Fatal(err)
	}
	if rows != 0 {
		t.Errorf("a fresh database holds %d rows", rows)
	}
	var superuser, owner bool
	err = one.QueryRow(t.Context(), `SELECT rolsuper OR rolcreatedb OR rolcreaterole, datdba = r.oid
		FROM pg_roles r, pg_database WHERE rolname = current_user AND datname = current_database()`).Scan(&superuser, &owner)
	if err != nil {
		t.Fatal(err)
	}
	if superuser || !owner {
		t.Errorf("privileged %v, owner %v", superuser, owner)
	}
}

func TestDatabaseTellsSetsOfOneNameApart(t *testing.T) {
	t.Parallel()
	for count := range 2 {
		pool := testkit.Pool(t, tables("gamma", count+1))
		var found int
		if err := pool.QueryRow(t.Context(), "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'gamma%'").Scan(&found); err != nil {
			t.Fatal(err)
		}
		if found != count+1 {
			t.Errorf("%d tables, want %d", found, count+1)
		}
	}
}

func TestDatabaseIsGoneAfterItsTest(t *testing.T) {
	t.Parallel()
	var name string
	t.Run("uses one", func(t *testing.T) {
		pool := testkit.Pool(t)
		if err := pool.QueryRow(t.Context(), "SELECT current_database()").Scan(&name); err != nil {
			t.Fatal(err)
		}
	})
	pool := testkit.Pool(t)
	var left bool
	if err := pool.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name).Scan(&left); err != nil {
		t.Fatal(err)
	}
	if left {
		t.Errorf("%s is left", name)
	}
}

func TestEventuallyReportsWhatItSawLast(t *testing.T) {
	t.Parallel()
	calls := 0
	testkit.Eventually(t, time.Minute, func() (bool, string) { calls++; return calls == 3, "" })
	if calls != 3 {
		t.Errorf("%d calls, want 3", calls)
	}

	failing := &fatal{TB: t}
	func() {
		defer func() { _ = recover() }()
		testkit.Eventually(failing, time.Millisecond, func() (bool, string) { return false, "2 of 3 arrived" })
	}()
	if want := "not within 1ms: 2 of 3 arrived"; failing.said != want {
		t.Errorf("said %q, want %q", failing.said, want)
	}
}

// fatal records what would have ended the test.
type fatal struct {
	testing.TB
	said string
}

func (f *fatal) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f.said)
}

func BenchmarkDatabase(b *testing.B) {
	sets := []postgres.Migration{tables("bench", 60)}
	testkit.Database(b, sets...)
	for b.Loop() {
		testkit.Database(b, sets...)
	}
}
