// Package clock tells the time, and lets tests move it.
package clock

import (
	"sync"
	"time"
)

// Clock tells the time. A transaction asks once and uses that instant throughout.
type Clock interface {
	Now() time.Time
}

// System is the machine's clock in UTC, cut to the microseconds that a Postgres
// timestamptz keeps: a time that is written and read back compares equal.
type System struct{}

// Now returns the present.
func (System) Now() time.Time { return cut(time.Now()) }

// Fake stands still until it is moved. It is safe for concurrent use.
type Fake struct {
	mu  sync.Mutex
	now time.Time
}

// NewFake returns a clock that shows now.
func NewFake(now time.Time) *Fake { return &Fake{now: cut(now)} }

// Now returns the instant the clock was set to.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Advance moves the clock by d and returns the new time.
func (f *Fake) Advance(d time.Duration) time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = cut(f.now.Add(d))
	return f.now
}

// Set moves the clock to now, which may lie in its past.
func (f *Fake) Set(now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now = cut(now)
}

func cut(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
