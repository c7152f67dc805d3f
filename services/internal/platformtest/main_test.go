package platformtest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const (
	// promised is how long a change may take to be visible in a standing; see visible.
	promised = time.Second
	// soon is how long a single one may take while the tests here run side by side, one of them killing processes.
	soon = 10 * time.Second
	// patience is how long a test waits for what comes by itself, on a machine that does other things too.
	patience = 30 * time.Second
)

// duration reads how long something is to last from the environment.
func duration(t testing.TB, variable string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	must(t, err)
	return d
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// get returns a value that there must be.
func get[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return value
	}
}

// bounded is the test's context with a deadline.
func bounded(t testing.TB, limit time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}
