package platformtest

import (
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

const (
	// leastKills come to pass however slow the machine is.
	leastKills = 12
	postgresql = "PostgreSQL"
)

// TestKillsLoseNothing feeds both sides of a deployment and kills its processes at random moments, once with all that
// JetStream holds. Then every acknowledged write is there, every standing as the truth and the recounts have it, and
// every event was consumed once. It takes 30 s; CHAPTERHOUSE_SOAK=1h makes it an hour.
func TestKillsLoseNothing(t *testing.T) {
	t.Parallel()
	d := deploy(t)
	seed := seeds(t)[0]
	history := d.prepare(t, cast{
		seed: seed, chapters: 4, registrars: 3, people: 40, stubborn: true,
		short: between(2*time.Second, 8*time.Second), long: between(30*24*time.Hour, 400*24*time.Hour),
	})
	var stop atomic.Bool
	var writing sync.WaitGroup
	finish := func() { stop.Store(true); writing.Wait() }
	t.Cleanup(finish)
	writing.Go(func() {
		history.write(10*time.Millisecond, func(int) bool { return !stop.Load() && !t.Failed() })
	})

	k := &killer{deployment: d, rng: rand.New(rand.NewPCG(seed, 1<<33)), victims: map[string]int{}}
	kills := k.run(duration(t, "CHAPTERHOUSE_SOAK", 30*time.Second))
	finish()
	d.ready()
	compared := d.settle(t, history.truth, 2*time.Minute)
	events := d.wantEachEventOnce(t)
	t.Logf("seed %d: %d kills %v, JetStream deleted once, %d starts without a database, %d acknowledged writes, %d standings compared, %d events consumed once each",
		seed, kills, k.victims, d.restarts, history.acknowledged.Load(), compared, events)
}

// killer is kill -9 at random moments.
type killer struct {
	*deployment

	rng     *rand.Rand
	deck    []string
	victims map[string]int
}

// run kills for so long, and deletes JetStream's files in the middle. It returns how often it killed.
func (k *killer) run(length time.Duration) (kills int) {
	k.t.Helper()
	begin := time.Now()
	deleted := false
	for ; kills < leastKills || time.Since(begin) < length; kills++ {
		<-time.After(k.moment(1500 * time.Millisecond))
		if k.t.Failed() {
			return kills
		}
		victim := k.draw()
		if !deleted && (kills >= leastKills/2 || time.Since(begin) > length/2) {
			deleted = true
			victim = natsName
			k.processes[natsName].kill()
			must(k.t, os.RemoveAll(k.natsDir()))
		}
		k.victims[victim]++
		k.kill(victim)
	}
	if !deleted {
		k.t.Error("JetStream was not deleted")
	}
	return kills
}

// draw deals the victims like cards, so that each has its turn.
func (k *killer) draw() string {
	if len(k.deck) == 0 {
		k.deck = []string{bus.International, bus.Local, natsName, postgresql, bus.International, bus.Local, bus.Regional}
		k.rng.Shuffle(len(k.deck), func(i, j int) { k.deck[i], k.deck[j] = k.deck[j], k.deck[i] })
	}
	victim := k.deck[0]
	k.deck = k.deck[1:]
	return victim
}

// kill kills and starts again. Mostly the next waits until all is well, so that writes are acknowledged in between.
func (k *killer) kill(victim string) {
	k.t.Helper()
	if victim == postgresql {
		must(k.t, k.cluster.Kill(bounded(k.t, patience)))
	} else {
		k.processes[victim].kill()
		<-time.After(k.moment(500 * time.Millisecond))
		k.processes[victim].start()
	}
	if k.rng.IntN(3) > 0 {
		for _, tier := range tierNames {
			k.serving(tier)
		}
	}
}

func (k *killer) moment(most time.Duration) time.Duration {
	return time.Duration(k.rng.Int64N(int64(most)))
}
