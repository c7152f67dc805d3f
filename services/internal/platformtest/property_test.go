package platformtest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

const (
	seedsPerRun    = 3
	stepsPerWriter = 60
)

// TestPropertyStandingsAreTheTruth drives random histories from both sides at once, while terms run out and messages
// are lost, repeated and swapped, and then finds every standing as the acknowledged calls and the recounts have it.
// CHAPTERHOUSE_SEED repeats one history, as far as goroutines do; CHAPTERHOUSE_STEPS makes them longer.
func TestPropertyStandingsAreTheTruth(t *testing.T) {
	t.Parallel()
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			t.Parallel()
			property(t, seed)
		})
	}
}

func property(t *testing.T, seed uint64) {
	t.Helper()
	h := build(t, func(s *settings) {
		// The clock runs fast: plans must not expire under their writers.
		s.local.PlanLifetime = 365 * 24 * time.Hour
		// Nor do they wait for messages that are held up.
		s.international.PreviewWait = 20 * time.Millisecond
		s.international.CompareEvery = time.Second
	})
	history := h.prepare(t, cast{
		seed: seed, chapters: 3, registrars: 3, people: 24,
		short: between(10*time.Minute, 4*time.Hour), long: between(30*24*time.Hour, 400*24*time.Hour),
	})
	m, written := h.meddle(), make(chan struct{})
	var scrambled int
	var meddling sync.WaitGroup
	meddling.Go(func() { scrambled = h.disturb(m, seed, written) })
	history.write(0, func(steps int) bool { return steps < stepsOf(t) && !t.Failed() })
	close(written)
	meddling.Wait()
	compared := h.settle(t, history.truth, patience)
	t.Logf("seed %d: %d acknowledged calls, %d scrambles, %d standings compared", seed, history.acknowledged.Load(), scrambled, compared)
}

// disturb moves the clock and scrambles messages until done is closed, and returns how often.
func (h *house) disturb(m *meddler, seed uint64, done <-chan struct{}) (scrambled int) {
	rng := rand.New(rand.NewPCG(seed, 1<<32))
	for {
		select {
		case <-done:
			return scrambled
		case <-time.After(50 * time.Millisecond):
			h.clock.Advance(time.Duration(rng.IntN(15)) * time.Minute)
		}
		if rng.IntN(4) == 0 {
			m.scramble(rng, time.Duration(rng.IntN(100))*time.Millisecond)
			scrambled++
		}
	}
}

// seeds are the one to be repeated, or new ones.
func seeds(t *testing.T) []uint64 {
	t.Helper()
	if text := os.Getenv("CHAPTERHOUSE_SEED"); text != "" {
		return []uint64{get(strconv.ParseUint(text, 10, 64))(t)}
	}
	all := make([]uint64, seedsPerRun)
	for i := range all {
		all[i] = rand.Uint64N(1_000_000)
	}
	return all
}

func stepsOf(t *testing.T) int {
	t.Helper()
	text := os.Getenv("CHAPTERHOUSE_STEPS")
	if text == "" {
		return stepsPerWriter
	}
	return get(strconv.Atoi(text))(t)
}
