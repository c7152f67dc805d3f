package postgres

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	fastShutdownLimit = 5 * time.Second
	firstBackOff      = 50 * time.Millisecond
	longestBackOff    = 2 * time.Second
	// giveUpAfter is how long a server that ran before may fail to come back.
	giveUpAfter = time.Minute
	// steadyAfter is how long it must have run for its end to count as a first one.
	steadyAfter = 10 * time.Second
)

// supervise keeps a postmaster running for as long as one is wanted.
//
// The goroutine owns its OS thread for as long as the cluster lives: the kernel sends the
// parent death signal when the *thread* that started the child ends, and Go ends idle
// threads as it likes.
func (c *Cluster) supervise() {
	runtime.LockOSThread()
	defer close(c.done)
	defer func() { _ = c.home.close() }()

	c.home.clearPredecessor(0)
	backOff, everReady, upSince := firstBackOff, false, stamp()
	for c.awaitWanted() {
		began := stamp()
		ready, err := c.runOnce()
		if c.wanted() != wantRunning {
			everReady, upSince = everReady || ready, stamp()
			continue
		}
		switch {
		case ready:
			c.log.Warn("PostgreSQL ended by itself and is started again", "error", err)
			if everReady, upSince = true, stamp(); time.Since(began) > steadyAfter {
				backOff = firstBackOff
			}
		case !everReady && !c.tail.blockedByPredecessor(),
			!everReady && time.Since(upSince) > startLimit,
			time.Since(upSince) > giveUpAfter:
			c.set(func(s *state) { s.err = fmt.Errorf("%w: %s", err, c.tail.String()) })
			return
		default:
			c.home.clearPredecessor(time.Since(upSince))
		}
		c.sleep(backOff)
		backOff = min(2*backOff, longestBackOff)
	}
}

// awaitWanted returns true when a server should run, false when none ever should again.
func (c *Cluster) awaitWanted() bool {
	for {
		switch c.wanted() {
		case wantRunning:
			return true
		case wantStopped:
			return false
		case wantPaused:
			<-c.poke
		}
	}
}

// stamp measures how long processes run, which is the machine's time, never a test's.
func stamp() time.Time { return time.Now() } //nolint:forbidigo // see above

func (c *Cluster) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-c.poke:
	}
}

// runOnce runs a postmaster until it ends, and shuts it down when it is no longer wanted.
// ready says whether it ever accepted connections.
func (c *Cluster) runOnce() (ready bool, err error) {
	process, exited, err := c.launch()
	if err != nil {
		return false, err
	}

	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	var impatient <-chan time.Time
	next := syscall.SIGINT // fast shutdown, then immediate shutdown, then no mercy
	for {
		select {
		case err := <-exited:
			return ready, err
		case <-poll.C:
			if c.home.accepting(process.Pid) {
				poll.Stop()
				ready = true
				c.set(func(s *state) { s.ready = true })
			}
		case <-c.poke:
			if next == syscall.SIGINT && c.wanted() != wantRunning {
				impatient, next = c.escalate(next)
			}
		case <-impatient:
			impatient, next = c.escalate(next)
		}
	}
}

func (c *Cluster) escalate(sig syscall.Signal) (<-chan time.Time, syscall.Signal) {
	c.signal(sig)
	next := syscall.SIGQUIT
	if sig != syscall.SIGINT {
		next = syscall.SIGKILL
	}
	return time.After(fastShutdownLimit), next
}

// launch starts a postmaster. The channel yields once, after the process is gone and the
// state says so.
func (c *Cluster) launch() (process *os.Process, exited <-chan error, err error) {
	args := []string{"-D", c.home.data}
	for _, name := range slices.Sorted(maps.Keys(c.settings)) {
		args = append(args, "-c", name+"="+c.settings[name])
	}
	cmd := exec.Command(filepath.Join(c.home.bin, "postgres"), args...) //nolint:gosec // found by FindBinaries
	c.home.account.run(cmd, "/")
	tieToParent(cmd.SysProcAttr)

	// A pipe of our own: orphaned backends keep theirs open, and cmd.Wait would wait for
	// them with a pipe that os/exec made.
	read, write, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cmd.Stdout, cmd.Stderr = write, write
	c.tail.reset()
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		_ = read.Close()
		return nil, nil, err
	}
	c.set(func(s *state) { s.process = cmd.Process })
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer func() { _ = read.Close() }()
		c.tail.follow(read, func(line string) {
			c.log.Log(context.Background(), level(line), "postgres: "+line)
		})
	}()
	done := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		c.set(func(s *state) { s.process, s.ready = nil, false })
		select {
		case <-drained: // so that an error can quote the last words
		case <-time.After(100 * time.Millisecond):
		}
		if err == nil {
			err = fmt.Errorf("postgres ended")
		}
		done <- err
	}()
	return cmd.Process, done, nil
}

// accepting reads the eighth line of postmaster.pid, as pg_ctl does: cheaper than a
// connection, and it cannot meet another server.
func (h *home) accepting(pid int) bool {
	lines := h.pidFile()
	return len(lines) >= 8 && lines[0] == strconv.Itoa(pid) && strings.TrimSpace(lines[7]) == "ready"
}

func (h *home) pidFile() []string {
	content, err := os.ReadFile(filepath.Join(h.data, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(content), "\n")
}

// clearPredecessor ends what is left of a server whose parent is gone: our lock on the
// directory proves that nobody else looks after it. It is asked politely at first.
func (h *home) clearPredecessor(waited time.Duration) {
	sig := syscall.SIGINT
	switch {
	case waited > 2*fastShutdownLimit:
		sig = syscall.SIGKILL
	case waited > fastShutdownLimit:
		sig = syscall.SIGQUIT
	}
	var postmaster int
	if lines := h.pidFile(); len(lines) > 0 {
		postmaster, _ = strconv.Atoi(lines[0])
	}
	remains := serversIn(h.data, postmaster)
	for _, pid := range remains {
		if pid == postmaster && sig != syscall.SIGKILL {
			_ = syscall.Kill(pid, sig) // it ends its children
			return
		}
	}
	for _, pid := range remains {
		_ = syscall.Kill(pid, sig)
	}
	// PostgreSQL believes a pid file for as long as its process can be signalled. That
	// may be a zombie, in a container where nobody reaps them, or somebody else who got
	// the number after a reboot.
	if postmaster != 0 && elsewhere(postmaster, h.data) {
		_ = os.Remove(filepath.Join(h.data, "postmaster.pid"))
	}
}
