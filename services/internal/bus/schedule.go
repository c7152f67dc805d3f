package bus

import (
	"strings"
	"sync"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// queueBytes bounds the memory of messages that wait. More than that behind one slow key stops
	// the intake for all.
	queueBytes = 64 << 20
	// A batch shares one transaction. Large events are applied alone: they are slow enough.
	batchJobs  = 64
	batchBytes = 256 << 10
)

// job is one delivered message on its way to the database.
type job struct {
	msg      jetstream.Msg
	key      string
	envelope envelope
	event    Event
	topic    Topic
	settled  bool
}

func newJob(msg jetstream.Msg) *job {
	return &job{msg: msg, key: keyOf(msg.Subject())}
}

// keyOf is the second element after ch.<tier>.<site>.
func keyOf(subject string) string {
	elements := strings.SplitN(subject, ".", 6)
	if len(elements) < 5 {
		return ""
	}
	return elements[4]
}

func (j *job) size() int { return len(j.msg.Data()) }

func (j *job) ack() {
	j.settled = true
	_ = j.msg.Ack() // a lost acknowledgement means another delivery, which the inbox knows
}

// giveBack has the message delivered again soon, here or at a replica.
func (j *job) giveBack() {
	j.settled = true
	_ = j.msg.Nak()
}

// scheduler hands out the jobs of one key in order and to one worker at a time, and lets the other
// keys pass.
type scheduler struct {
	mu      sync.Mutex
	changed *sync.Cond
	waiting map[string][]*job // has every key that waits or runs
	ready   []string          // keys that wait and do not run
	open    map[*job]struct{}
	bytes   int
	closed  bool
}

func newScheduler() *scheduler {
	s := &scheduler{waiting: map[string][]*job{}, open: map[*job]struct{}{}}
	s.changed = sync.NewCond(&s.mu)
	return s
}

// add waits for room and reports whether the job was taken.
func (s *scheduler) add(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.bytes > queueBytes && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return false
	}
	queue, busy := s.waiting[j.key]
	s.waiting[j.key] = append(queue, j)
	if !busy {
		s.ready = append(s.ready, j.key)
	}
	s.open[j] = struct{}{}
	s.bytes += j.size()
	s.changed.Broadcast()
	return true
}

// take waits for a key with jobs and returns its first ones, or nil after close.
func (s *scheduler) take() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ready) == 0 && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return nil
	}
	key := s.ready[0]
	s.ready = s.ready[1:]
	n := batchLength(s.waiting[key])
	jobs := s.waiting[key][:n:n]
	s.waiting[key] = s.waiting[key][n:]
	return jobs
}

func batchLength(queue []*job) int {
	bytes := queue[0].size()
	n := 1
	for n < len(queue) && n < batchJobs {
		if bytes += queue[n].size(); bytes > batchBytes {
			break
		}
		n++
	}
	return n
}

// done makes the key available again.
func (s *scheduler) done(jobs []*job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, j := range jobs {
		s.bytes -= j.size()
		delete(s.open, j)
	}
	key := jobs[0].key
	if len(s.waiting[key]) == 0 {
		delete(s.waiting, key)
	} else {
		s.ready = append(s.ready, key)
	}
	s.changed.Broadcast()
}

// each calls f with every job that is not done.
func (s *scheduler) each(f func(*job)) {
	s.mu.Lock()
	jobs := make([]*job, 0, len(s.open))
	for j := range s.open {
		jobs = append(jobs, j)
	}
	s.mu.Unlock()
	for _, j := range jobs {
		f(j)
	}
}

// close ends the workers and returns the jobs that nobody took.
func (s *scheduler) close() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	var left []*job
	for _, queue := range s.waiting {
		left = append(left, queue...)
	}
	s.waiting, s.ready = map[string][]*job{}, nil
	s.changed.Broadcast()
	return left
}
