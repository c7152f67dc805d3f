package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// asProgram makes the test binary be the program: tests start the real thing without building it once more.
const asProgram = "CHAPTERHOUSE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	testkit.Main(m)
}

// patience is for a machine that does much else.
const patience = 60 * time.Second

// program is a command line of chapterhouse as a process of its own.
func program(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), self, args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	cmd.Dir = t.TempDir()
	return cmd
}

// runProgram runs a command to its end and returns what it printed and its exit code.
func runProgram(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	got := commandLine{}.run(t, args...)
	return got.stdout, got.stderr, got.code
}

// commandLine is the surroundings of a command.
type commandLine struct {
	env   []string
	stdin string
	dir   string
}

type result struct {
	stdout, stderr string
	code           int
}

func (c commandLine) run(t *testing.T, args ...string) (got result) {
	t.Helper()
	cmd := program(t, args...)
	cmd.Env = append(cmd.Env, c.env...)
	cmd.Stdin = strings.NewReader(c.stdin)
	if c.dir != "" {
		cmd.Dir = c.dir
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		got.code = exit.ExitCode()
	}
	got.stdout, got.stderr = out.String(), errs.String()
	return got
}

// process is a command that runs until it is told to stop.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout text
	stderr text
	done   chan struct{}
}

// text collects what a process prints while the test reads it.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *text) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *text) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// startProgram starts a command; when the test ends, it is killed unless it has ended.
func startProgram(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.stdout, &p.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // the tests look at ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s said:\n%s", strings.Join(cmd.Args[1:], " "), p.stderr.String())
		}
		_ = cmd.Process.Kill()
		<-p.done
	})
	return p
}

// await waits until the process has printed what matches, on either stream, and returns the first group.
func (p *process) await(pattern string) string {
	p.t.Helper()
	compiled := regexp.MustCompile(pattern)
	var found []string
	testkit.Eventually(p.t, patience, func() (bool, string) {
		select {
		case <-p.done:
			p.t.Fatalf("%s has ended (%s): %s", p.cmd.Args[1], p.cmd.ProcessState, p.stderr.String())
		default:
		}
		found = compiled.FindStringSubmatch(p.stdout.String() + p.stderr.String())
		return found != nil, "no " + pattern + " in: " + p.stderr.String()
	})
	return found[len(found)-1]
}

// stop asks the process to end, and returns its exit code and how long it took.
func (p *process) stop(sig syscall.Signal) (code int, took time.Duration) {
	p.t.Helper()
	began := time.Now()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("still running after %v and %v", sig, patience)
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(began)
}

// freeAddress is one that nobody listens on at this moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	lis, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lis.Close() }()
	return lis.Addr().String()
}
