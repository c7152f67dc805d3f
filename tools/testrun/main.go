// Command testrun runs `go test` with the arguments given, prints one line a package and the output
// of what failed, and ends with a count of everything. It imports the standard library alone, so that
// `make test` needs nothing but Go.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// event is a line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

func main() {
	failed, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		os.Exit(1)
	}
	if failed {
		os.Exit(1)
	}
}

func run(args []string) (failed bool, err error) {
	cmd := exec.Command("go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return true, err
	}
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return true, err
	}
	stop := passOnSignals(cmd.Process)
	defer stop()
	report := newReport(os.Stdout)
	if err := report.read(out); err != nil {
		return true, err
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return true, err
	}
	report.summary(time.Since(begin))
	return err != nil || report.failed(), nil
}

// passOnSignals lets the run end by what go test makes of a signal, so that the summary is still printed.
// An interrupt from the terminal reaches the whole process group by itself.
func passOnSignals(child *os.Process) (stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				_ = child.Signal(s)
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
	}
}

// key names what output belongs to: a build, a package (no test) or a test.
type key struct{ pkg, test string }

type report struct {
	out     io.Writer
	held    map[key]*strings.Builder // output of what has not ended yet, shown where it fails
	inPkg   map[string]int           // tests passed, by package
	passed  int
	skipped int
	broken  []string // names of what failed
	pkgs    int
	noTests int
}

func newReport(out io.Writer) *report {
	return &report{out: out, held: map[key]*strings.Builder{}, inPkg: map[string]int{}}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) == nil && e.Action != "" {
				r.event(e)
			} else {
				fmt.Fprint(r.out, string(line))
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the output of go test: %w", err)
		}
	}
}

func (r *report) event(e event) {
	at := key{e.Package, e.Test}
	switch e.Action {
	case "output":
		r.hold(at, e.Output)
	case "build-output":
		r.hold(key{e.ImportPath, ""}, e.Output)
	case "pass", "fail", "skip":
		if e.Test != "" {
			r.testEnded(at, e)
		} else {
			r.packageEnded(e)
		}
		delete(r.held, at)
	}
}

func (r *report) hold(at key, text string) {
	if r.held[at] == nil {
		r.held[at] = &strings.Builder{}
	}
	r.held[at].WriteString(text)
}

func (r *report) testEnded(at key, e event) {
	switch e.Action {
	case "pass":
		r.passed++
		r.inPkg[e.Package]++
	case "skip":
		r.skipped++
		r.show(at)
	case "fail":
		r.broken = append(r.broken, e.Package+" "+e.Test)
		r.show(at)
	}
}

func (r *report) packageEnded(e event) {
	switch e.Action {
	case "pass":
		r.pkgs++
		fmt.Fprintf(r.out, "ok    %s  %.1fs  %d passed\n", e.Package, e.Elapsed, r.inPkg[e.Package])
	case "skip":
		r.noTests++
	case "fail":
		r.pkgs++
		if e.FailedBuild != "" {
			r.show(key{e.FailedBuild, ""})
		}
		// A test that was running when its package ended (panic, timeout) has no end of its own.
		for at := range r.held {
			if at.pkg == e.Package && at.test != "" {
				r.broken = append(r.broken, at.pkg+" "+at.test+" (did not end)")
				r.show(at)
				delete(r.held, at)
			}
		}
		r.show(key{e.Package, ""})
		r.broken = append(r.broken, e.Package)
		fmt.Fprintf(r.out, "FAIL  %s  %.1fs\n", e.Package, e.Elapsed)
	}
}

func (r *report) show(at key) {
	if text := r.held[at]; text != nil {
		fmt.Fprint(r.out, text.String())
	}
}

func (r *report) failed() bool { return len(r.broken) > 0 }

func (r *report) summary(took time.Duration) {
	failedTests := 0
	for _, name := range r.broken {
		if strings.Contains(name, " ") {
			failedTests++
		}
		fmt.Fprintln(r.out, "failed:", name)
	}
	fmt.Fprintf(r.out, "%d passed, %d failed, %d skipped in %d packages (%d without tests), %s\n",
		r.passed, max(failedTests, min(1, len(r.broken))), r.skipped, r.pkgs, r.noTests, took.Round(time.Second))
}
