// Package testkit gives tests real servers.
package testkit

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// Main runs a package's tests and then stops what they started.
func Main(m *testing.M) { m.Run() }

// Database returns the URL of a fresh database.
func Database(t testing.TB, sets ...postgres.Migration) string { t.Fatal("not built yet"); return "" }

// Pool opens a fresh database.
func Pool(t testing.TB, sets ...postgres.Migration) *pgxpool.Pool {
	t.Fatal("not built yet")
	return nil
}

// Cluster returns a durable cluster of the test's own.
func Cluster(t testing.TB) *postgres.Cluster { t.Fatal("not built yet"); return nil }

// Eventually waits for a condition.
func Eventually(t testing.TB, deadline time.Duration, cond func() (bool, string)) {}
