package bus

import (
	"fmt"
	"math/rand/v2"
	"strings"
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

func mixing(kind string) bool { return kind == "note" }

func TestSchedulerMixesKeysThatAllowIt(t *testing.T) {
	t.Parallel()
	s := newScheduler(1)
	add := func(subject string) { s.add(newJob(fakeMsg{subject: "ch.local.main." + subject}, mixing)) }
	for _, subject := range []string{"note.b.changed", "note.a.changed", "list.a.changed", "list.c.changed", "note.c.changed", "note.b.changed"} {
		add(subject)
	}
	for _, want := range []string{"note.a note.b note.b", "list.c note.c", "list.a"} {
		jobs := s.take()
		var got []string
		for _, j := range jobs {
			got = append(got, strings.Join(strings.Split(j.msg.Subject(), ".")[3:5], "."))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("a batch of %v, want %s", got, want)
		}
		s.done(jobs)
	}
}

func TestSchedulerKeepsTheOrderOfEachKey(t *testing.T) {
	t.Parallel()
	s := newScheduler(4)
	const keys, each = 10, 200
	var mu sync.Mutex
	running, seen := map[string][]*job{}, map[string]int{}
	var workers, all sync.WaitGroup
	all.Add(keys * each)
	for range 4 {
		workers.Go(func() {
			for jobs := s.take(); jobs != nil; jobs = s.take() {
				mu.Lock()
				for _, j := range jobs {
					if other, busy := running[j.key]; busy && &other[0] != &jobs[0] {
						t.Errorf("two workers have %s", j.key)
					}
					running[j.key] = jobs
					if n := j.msg.(fakeMsg).number; n != seen[j.key] {
						t.Errorf("%s: number %d, want %d", j.key, n, seen[j.key])
					}
					seen[j.key]++
				}
				mu.Unlock()
				time.Sleep(time.Duration(rand.IntN(100)) * time.Microsecond) //nolint:forbidigo // lets the workers meet
				mu.Lock()
				for _, j := range jobs {
					delete(running, j.key)
				}
				mu.Unlock()
				s.done(jobs)
				all.Add(-len(jobs))
			}
		})
	}
	for n := range each {
		for k := range keys {
			s.add(newJob(fakeMsg{subject: fmt.Sprintf("ch.local.main.list.k%d.changed", k), number: n}, mixing))
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
	s := newScheduler(4)
	subject := func(key string) string { return "ch.local.main.list." + key + ".changed" }
	s.add(newJob(fakeMsg{subject: subject("slow")}, mixing))
	slow := s.take()
	s.add(newJob(fakeMsg{subject: subject("slow")}, mixing))
	s.add(newJob(fakeMsg{subject: subject("other")}, mixing))
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
	s := newScheduler(4)
	large := fakeMsg{subject: "ch.local.main.list.x.changed", size: 700 << 10}
	small := fakeMsg{subject: "ch.local.main.list.x.changed", size: 10}
	for _, msg := range []fakeMsg{large, large, small, small} {
		s.add(newJob(msg, mixing))
	}
	for _, want := range []int{1, 1, 2} {
		jobs := s.take()
		if len(jobs) != want {
			t.Errorf("a batch of %d, want %d", len(jobs), want)
		}
		s.done(jobs)
	}
	for s.bytes <= queueBytes {
		s.add(newJob(large, mixing))
	}
	added := make(chan bool)
	go func() { added <- s.add(newJob(small, mixing)) }()
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
	if s.add(newJob(small, mixing)) || s.take() != nil {
		t.Error("it goes on after the close")
	}
}
