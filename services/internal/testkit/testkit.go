// Package testkit gives tests the real things: PostgreSQL, JetStream and the whole
// platform. A package that uses it hands its tests to Main:
//
//	func TestMain(m *testing.M) { testkit.Main(m) }
package testkit

import (
	"os"
	"slices"
	"sync"
	"testing"
	"time"
)

// Main runs a package's tests, then stops what they started and exits. Without it the
// servers end all the same, with the process, but leave their files behind for a while.
func Main(m *testing.M) {
	code := m.Run()
	exits.mu.Lock()
	defer exits.mu.Unlock()
	for _, stop := range slices.Backward(exits.stops) {
		stop()
	}
	os.Exit(code)
}

var exits struct {
	mu    sync.Mutex
	stops []func()
}

// AtExit has Main call stop when all tests have run; what was started last is stopped first.
func AtExit(stop func()) {
	exits.mu.Lock()
	defer exits.mu.Unlock()
	exits.stops = append(exits.stops, stop)
}

// Eventually waits until cond is true. When the deadline passes first, the test ends with
// the last description that cond gave: what it saw instead.
func Eventually(t testing.TB, deadline time.Duration, cond func() (bool, string)) {
	t.Helper()
	end := time.Now().Add(deadline)
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		ok, description := cond()
		if ok {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", deadline, description)
		}
		<-time.After(pause)
	}
}
