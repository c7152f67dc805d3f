package platformtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// history is what many write at once: each list and each person in the register has one writer, so that the outcome is
// certain; but everybody's addresses are on everybody's lists, so that both sides meet at every standing.
type history struct {
	truth        *truth
	chapters     []string
	writers      []writer
	acknowledged *atomic.Int64
}

type writer interface{ step() }

// cast says who writes.
type cast struct {
	seed        uint64
	chapters    int
	registrars  int // writers of the register
	people      int
	stubborn    bool
	short, long func(*rand.Rand) time.Duration
}

// prepare founds the chapters and appoints the writers.
func (f *federation) prepare(t testing.TB, c cast) *history {
	t.Helper()
	h := &history{truth: newTruth(), acknowledged: &atomic.Int64{}}
	for i := range c.chapters {
		h.chapters = append(h.chapters, fmt.Sprintf("chapter-%d", i))
	}
	f.found(t, h.chapters...)
	h.truth.knows(h.chapters...)
	people := makePeople(c.people)
	var pool []string
	for _, p := range people {
		pool = append(pool, p.addresses...)
	}
	for i := range c.people / 2 {
		pool = append(pool, fmt.Sprintf("stranger%d@elsewhere.example", i))
	}
	appoint := func(id string) *caller {
		stream := uint64(len(h.writers))
		return &caller{
			federation: f, t: t, truth: h.truth, id: id, rng: rand.New(rand.NewPCG(c.seed, stream)), stubborn: c.stubborn,
			short: c.short, long: c.long, acknowledged: h.acknowledged,
		}
	}
	for _, chapter := range h.chapters {
		for _, id := range []string{"members", "announce"} {
			name := listName(chapter, id)
			h.writers = append(h.writers, &listWriter{
				caller: appoint(name), name: name, pool: pool, key: f.siteKey(t), list: h.truth.lists[name],
				admin: f.admin(context.Background(), t, chapter),
			})
		}
	}
	for i := range c.registrars {
		w := &registerWriter{caller: appoint(fmt.Sprintf("register-%d", i)), staff: f.staff(context.Background(), t)}
		for j := i; j < len(people); j += c.registrars {
			w.people = append(w.people, people[j])
		}
		h.writers = append(h.writers, w)
	}
	return h
}

// makePeople gives each person one to three addresses.
func makePeople(count int) []person {
	people := make([]person, count)
	for i := range people {
		people[i].ids = []string{fmt.Sprintf("person-%d", i), fmt.Sprintf("person-%d-again", i)}
		for j := range 1 + i%3 {
			people[i].addresses = append(people[i].addresses, fmt.Sprintf("person%d.%d@example.org", i, j))
		}
	}
	return people
}

// write has all writers write at once, each for as long as more says so and with a pause after each step; what is begun
// is finished.
func (h *history) write(pause time.Duration, more func(steps int) bool) {
	var writing sync.WaitGroup
	for _, w := range h.writers {
		writing.Go(func() {
			for n := 0; more(n); n++ {
				w.step()
				if pause > 0 {
					<-time.After(pause)
				}
			}
		})
	}
	writing.Wait()
}
