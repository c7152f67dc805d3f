package bus

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// queueBytes bounds the memory of messages that wait. More than that behind one slow key stops
	// the intake for all.
	queueBytes = 64 << 20
	// A batch shares one transaction. Large events are applied alone: they are slow enough.
	batchJobs  = 32
	batchBytes = 256 << 10
)

// job is one delivered message on its way to the database.
type job struct {
	msg      jetstream.Msg
	kind     string
	key      string
	mixes    bool // may share a transaction with other keys
	envelope envelope
	event    Event
	topic    Topic
	settled  bool
	touched  time.Time // when JetStream last heard of it; keepAlive's
}

// newJob finds the kind and the key in the subject, ch.<tier>.<site>.<kind>.<key>. and so on. mixes
// says which kinds may share a transaction with other keys.
func newJob(msg jetstream.Msg, mixes func(kind string) bool) *job {
	elements := strings.SplitN(msg.Subject(), ".", 6)
	if len(elements) < 5 {
		return &job{msg: msg, touched: now()}
	}
	return &job{msg: msg, touched: now(), kind: elements[3], key: elements[4], mixes: mixes(elements[3])}
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
	workers int

	mu      sync.Mutex
	changed *sync.Cond
	waiting map[string][]*job // has every key that waits or runs
	ready   []string          // keys that wait and do not run
	open    map[*job]struct{}
	bytes   int
	closed  bool
}

func newScheduler(workers int) *scheduler {
	s := &scheduler{workers: workers, waiting: map[string][]*job{}, open: map[*job]struct{}{}}
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

// take waits for jobs and returns some, or nil after close: the first of a key that is ready and,
// where the topics allow it, of this worker's share of the other ready keys, in the order of the
// keys, which is the order in which others lock chapters.
func (s *scheduler) take() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.ready) == 0 && !s.closed {
		s.changed.Wait()
	}
	if s.closed {
		return nil
	}
	share := len(s.ready)/s.workers + 1
	b := &batch{}
	s.ready = slices.DeleteFunc(s.ready, func(key string) bool {
		if b.keys == share {
			return false
		}
		n := b.add(s.waiting[key])
		s.waiting[key] = s.waiting[key][n:]
		return n > 0
	})
	slices.SortStableFunc(b.jobs, func(i, j *job) int { return cmp.Compare(i.key, j.key) })
	return b.jobs
}

// batch is what one worker applies together.
type batch struct {
	jobs  []*job
	keys  int
	bytes int
	alone bool
}

// add takes what fits from the front of a key's queue and says how many.
func (b *batch) add(queue []*job) int {
	n := 0
	for n < len(queue) && b.fits(queue[n]) {
		b.jobs = append(b.jobs, queue[n])
		b.bytes += queue[n].size()
		b.alone = b.alone || !queue[n].mixes
		n++
	}
	if n > 0 {
		b.keys++
	}
	return n
}

func (b *batch) fits(j *job) bool {
	if len(b.jobs) == 0 {
		return true
	}
	sameKey := b.keys == 0 // the first key's jobs are being added
	return len(b.jobs) < batchJobs && b.bytes+j.size() <= batchBytes && (sameKey || j.mixes && !b.alone)
}

// done makes the keys available again.
func (s *scheduler) done(jobs []*job) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, j := range jobs {
		s.bytes -= j.size()
		delete(s.open, j)
		if i > 0 && jobs[i-1].key == j.key {
			continue
		}
		if len(s.waiting[j.key]) == 0 {
			delete(s.waiting, j.key)
		} else {
			s.ready = append(s.ready, j.key)
		}
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

// idle reports whether every job is done.
func (s *scheduler) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open) == 0
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
