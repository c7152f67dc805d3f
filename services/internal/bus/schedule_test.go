package bus

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// fakeMsg is a message of some size.
type fakeMsg struct {
	jetstream.Msg
	subject string
	size    int
	number  int
}

func (m fakeMsg) Subject() string { return m.subject }
func (m fakeMsg) Data() []byte    { return make([]byte, m.size) }

func TestSchedulerKeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	s := newScheduler()
	const keys, each = 10, 200
	var mu sync.Mutex
	running, seen := map[string]bool{}, map[string]int{}
	var workers, all sync.WaitGroup
	all.Add(keys * each)
	for range 4 {
		workers.Go(func() {
			for jobs := s.take(); jobs != nil; jobs = s.take() {
				key := jobs[0].key
				mu.Lock()
				if running[key] {
					t.Errorf("two workers have %s", key)
				}
				running[key] = true
				for _, j := range jobs {
					if n := j.msg.(fakeMsg).number; n != seen[key] || j.key != key {
						t.Errorf("%s: number %d, want %d", key, n, seen[key])
					}
					seen[key]++
				}
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) //nolint:forbidigo // lets the workers meet
				mu.Lock()
				running[key] = false
				mu.Unlock()
				s.done(jobs)
				all.Add(-len(jobs))
			}
		})
	}
	for n := range each {
		for k := range keys {
			s.add(newJob(fakeMsg{subject: fmt.Sprintf("ch.local.main.list.k%d.changed", k), number: n}))
		}
	}
	all.Wait()
	if jobs := s.close(); len(jobs) > 0 {
		t.Errorf("%d jobs are left", len(jobs))
	}
	workers.Wait()
}

func TestSchedulerLetsOthersPassASlowKey(t *testing.T) {
	t.Parallel()
	s := newScheduler()
	subject := func(key string) string { return "ch.local.main.list." + key + ".changed" }
	s.add(newJob(fakeMsg{subject: subject("slow")}))
	slow := s.take()
	s.add(newJob(fakeMsg{subject: subject("slow")}))
	s.add(newJob(fakeMsg{subject: subject("other")}))
	if jobs := s.take(); jobs[0].key != "other" {
		t.Errorf("got a job of %s while the slow one runs", jobs[0].key)
	}
	s.done(slow)
	if jobs := s.take(); jobs[0].key != "slow" {
		t.Errorf("got a job of %s", jobs[0].key)
	}
}

func TestSchedulerBoundsBatchesAndMemory(t *testing.T) {
	t.Parallel()
	s := newScheduler()
	large := fakeMsg{subject: "ch.local.main.list.x.changed", size: 700 << 10}
	small := fakeMsg{subject: "ch.local.main.list.x.changed", size: 10}
	for _, msg := range []fakeMsg{large, large, small, small} {
		s.add(newJob(msg))
	}
	for _, want := range []int{1, 1, 2} {
		jobs := s.take()
		if len(jobs) != want {
			t.Errorf("a batch of %d, want %d", len(jobs), want)
		}
		s.done(jobs)
	}
	for s.bytes <= queueBytes {
		s.add(newJob(large))
	}
	added := make(chan bool)
	go func() { added <- s.add(newJob(small)) }()
	jobs := s.take()
	select {
	case <-added:
		t.Error("there was no room")
	default:
	}
	s.done(jobs)
	if !<-added {
		t.Error("it was not taken when there was room")
	}
	s.close()
	if s.add(newJob(small)) || s.take() != nil {
		t.Error("it goes on after the close")
	}
}
