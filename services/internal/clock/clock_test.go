package clock_test

import (
	"sync"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

func TestSystemGivesWhatPostgresKeeps(t *testing.T) {
	t.Parallel()
	now := clock.System{}.Now()
	if now.Location() != time.UTC {
		t.Errorf("location is %v, want UTC", now.Location())
	}
	if now.Nanosecond()%1000 != 0 {
		t.Errorf("%v is finer than a microsecond", now)
	}
	if age := time.Since(now); age < 0 || age > time.Minute {
		t.Errorf("%v is %v away from the present", now, age)
	}
}

func TestFakeMovesOnlyWhenTold(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 1234, time.FixedZone("", 3600))
	fake := clock.NewFake(start)
	if got, want := fake.Now(), time.Date(2026, 3, 1, 11, 0, 0, 1000, time.UTC); got != want {
		t.Errorf("Now() = %v, want %v", got, want)
	}
	if got, want := fake.Advance(90*24*time.Hour), fake.Now(); got != want {
		t.Errorf("Advance returned %v, Now() says %v", got, want)
	}
	fake.Set(start)
	if got, want := fake.Now(), time.Date(2026, 3, 1, 11, 0, 0, 1000, time.UTC); got != want {
		t.Errorf("after Set, Now() = %v, want %v", got, want)
	}
}

func TestFakeIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	fake := clock.NewFake(time.Unix(0, 0))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { fake.Advance(time.Second); fake.Now() })
	}
	wg.Wait()
	if got, want := fake.Now(), time.Unix(50, 0).UTC(); got != want {
		t.Errorf("Now() = %v, want %v", got, want)
	}
}
