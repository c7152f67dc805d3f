package postgres_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

const (
	insufficientPrivilege = "42501"
	invalidPassword       = "28P01"
)

func TestCreateTier(t *testing.T) {
	t.Parallel()
	cluster := start(t, postgres.ClusterConfig{Throwaway: true})
	local := postgres.Tier{Database: "local", Role: "local", Password: `it's "quoted" \ and 100% ünusual`}
	regional := postgres.Tier{Database: "regional", Role: "regional", Password: "secret"}
	for _, tier := range []postgres.Tier{local, regional, local} { // the second time changes nothing
		if err := postgres.CreateTier(t.Context(), cluster.AdminURL("postgres"), tier); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("ItsRoleOwnsItsDatabase", func(t *testing.T) {
		t.Parallel()
		for _, tier := range []postgres.Tier{local, regional} {
			exec(t, cluster.URL(tier), "CREATE TABLE mine AS SELECT 1")
			exec(t, cluster.URL(tier), "CREATE TEMPORARY TABLE staging ()")
		}
	})
	t.Run("ItsRoleConnectsToNoOtherDatabase", func(t *testing.T) {
		t.Parallel()
		for _, database := range []string{"regional", "postgres", "template1"} {
			elsewhere := local
			elsewhere.Database = database
			refused(t, cluster.URL(elsewhere), insufficientPrivilege)
		}
	})
	t.Run("ItsRoleHasNoPrivileges", func(t *testing.T) {
		t.Parallel()
		for _, sql := range []string{
			"CREATE DATABASE another", "CREATE ROLE another", "ALTER ROLE regional PASSWORD 'taken'",
			"COPY (SELECT 1) TO PROGRAM 'true'", "SET ROLE postgres", "SELECT pg_read_file('/etc/hostname')",
		} {
			pool := open(t, cluster.URL(local))
			_, err := pool.Exec(t.Context(), sql)
			if code(err) != insufficientPrivilege {
				t.Errorf("%s: %v", sql, err)
			}
		}
	})
	t.Run("ItsPasswordIsNeeded", func(t *testing.T) {
		t.Parallel()
		guess := regional
		guess.Password = "guess"
		refused(t, cluster.URL(guess), invalidPassword)
	})
	t.Run("ItsPasswordChanges", func(t *testing.T) {
		t.Parallel()
		before := postgres.Tier{Database: "international", Role: "international", Password: "before"}
		after := before
		after.Password = "after"
		for _, tier := range []postgres.Tier{before, after} {
			if err := postgres.CreateTier(t.Context(), cluster.AdminURL("postgres"), tier); err != nil {
				t.Fatal(err)
			}
		}
		refused(t, cluster.URL(before), invalidPassword)
		query[int](t, cluster.URL(after), "SELECT 1")
	})
	t.Run("CallersDoNotDisturbEachOther", func(t *testing.T) {
		t.Parallel()
		tier := postgres.Tier{Database: "shared", Role: "shared", Password: "shared"}
		results := make(chan error, 8)
		for range cap(results) {
			go func() { results <- postgres.CreateTier(t.Context(), cluster.AdminURL("postgres"), tier) }()
		}
		for range cap(results) {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
	})
}

// The admin of a managed server may make roles and databases, but is no superuser.
func TestCreateTierWithoutASuperuser(t *testing.T) {
	t.Parallel()
	cluster := start(t, postgres.ClusterConfig{Throwaway: true})
	exec(t, cluster.AdminURL("postgres"), "CREATE ROLE manager LOGIN CREATEROLE CREATEDB PASSWORD 'manager'")
	manager := cluster.URL(postgres.Tier{Database: "postgres", Role: "manager", Password: "manager"})
	tiers := []postgres.Tier{
		{Database: "local", Role: "local", Password: "local"},
		{Database: "regional", Role: "regional", Password: "regional"},
	}
	for range 2 {
		for _, tier := range tiers {
			if err := postgres.CreateTier(t.Context(), manager, tier); err != nil {
				t.Fatal(err)
			}
			exec(t, cluster.URL(tier), "CREATE TABLE IF NOT EXISTS mine ()")
		}
	}
	elsewhere := tiers[0]
	elsewhere.Database = "regional"
	refused(t, cluster.URL(elsewhere), insufficientPrivilege)
}

// refused expects that the server turns the connection away with a SQLSTATE.
func refused(t *testing.T, url, want string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err == nil {
		_ = conn.Close(t.Context())
		t.Errorf("connected to %s", conn.Config().Database)
		return
	}
	if code(err) != want {
		t.Errorf("refused with %v, want %s", err, want)
	}
}

// code is the SQLSTATE of an error from the server, else "".
func code(err error) string {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code
	}
	return ""
}
