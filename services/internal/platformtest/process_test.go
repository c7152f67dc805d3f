package platformtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// program builds the program once a test process.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "chapterhouse-program-")
	if err != nil {
		return "", err
	}
	testkit.AtExit(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "chapterhouse")
	build := exec.CommandContext(context.Background(), "go", "build", "-ldflags=-s -w", "-o", path,
		"github.com/chapterhouse/chapterhouse/services/cmd/chapterhouse")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the program: %w: %s", err, said)
	}
	return path, nil
})

// spawner starts processes from a thread that lives as long as this process: the kernel ends them with the thread that
// started them (see tieToParent), whatever ends it.
var spawner = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for start := range work {
			start()
		}
	}()
	return work
})

// process is `chapterhouse ...` in a process of its own, which can be killed and started again.
type process struct {
	t    testing.TB
	args []string
	env  []string
	log  *recorder // what it said, in all its lives

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
}

func newProcess(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{t: t, args: args, log: &recorder{}}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(args[:2], " "), tail(p.log.String(), 40))
		}
	})
	return p
}

func (p *process) start() {
	p.t.Helper()
	cmd := exec.CommandContext(context.Background(), get(program())(p.t), p.args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = p.log, p.log, append(os.Environ(), p.env...)
	tieToParent(cmd)
	failed := make(chan error)
	spawner() <- func() { failed <- cmd.Start() }
	must(p.t, <-failed)
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.done = cmd, done
	p.mu.Unlock()
	go func() {
		_ = cmd.Wait() // it was killed
		close(done)
	}()
}

// kill is kill -9.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// ended says whether the process runs no more.
func (p *process) ended() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// runProgram runs a command to its end.
func runProgram(t testing.TB, args ...string) (said string, code int) {
	t.Helper()
	out, err := exec.CommandContext(bounded(t, patience), get(program())(t), args...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return string(out), exit.ExitCode()
	}
	must(t, err)
	return string(out), 0
}

// freeAddress is one that nobody listens on at this moment.
func freeAddress(t testing.TB) string {
	t.Helper()
	lis := get((&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"))(t)
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}

// tail is the end of a long text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// eventually waits until nothing is left to complain of.
func eventually(t testing.TB, limit time.Duration, complaint func() string) {
	t.Helper()
	testkit.Eventually(t, limit, func() (bool, string) {
		said := complaint()
		return said == "", said
	})
}
