package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/platform"
	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// upData returns a directory in which PostgreSQL may keep its data; what lies there is gone when the test ends.
func upData(t *testing.T) string {
	t.Helper()
	dir, err := postgres.TempDir()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := postgres.Remove(dir); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func up(t *testing.T, dir string) (*process, *rest) {
	t.Helper()
	p := startProgram(t, program(t, "up", "--data", dir, "--http", "127.0.0.1:0"))
	p.await("Chapterhouse is up")
	return p, &rest{t: t, base: endpoints(t, dir).REST, keys: dir}
}

func endpoints(t *testing.T, dir string) (e platform.Endpoints) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestUpStopsInOrderWithinTenSeconds(t *testing.T) {
	t.Parallel()
	dir := upData(t)
	p, api := up(t, dir)
	postmaster := postmasterOf(t, dir)
	api.makeChapter()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		code, took := p.stop(sig)
		if code != 0 || took > 10*time.Second {
			t.Errorf("%v: exit code %d after %v, want 0 within 10 s", sig, code, took)
		}
		awaitEnd(t, postmaster)
		p, api = up(t, dir)
		postmaster = postmasterOf(t, dir)
		api.get(api.staff(), "/v1/chapters/golang-paris")
	}
}

func TestUpRecoversFromAKill(t *testing.T) {
	t.Parallel()
	dir := upData(t)
	p, api := up(t, dir)
	postmaster := postmasterOf(t, dir)
	api.makeChapter()
	p.stop(syscall.SIGKILL)
	awaitEnd(t, postmaster)
	_, api = up(t, dir)
	api.get(api.staff(), "/v1/chapters/golang-paris")
}

func TestUpTwice(t *testing.T) {
	t.Parallel()
	dir := upData(t)
	first, _ := up(t, dir)

	t.Run("ShowsItsMail", func(t *testing.T) {
		page := first.await(`  Mail           (http://127\.0\.0\.1:\d+)   \(what would have been sent\)`)
		if found := endpoints(t, dir).Mail; found != page {
			t.Errorf("printed %s, wrote %s", page, found)
		}
		sink := &rest{t: t, base: page}
		if kept, ok := sink.get("", "/messages.json")["messages"].([]any); !ok || len(kept) != 0 {
			t.Errorf("messages.json has %v", kept)
		}
	})

	t.Run("IsRefusedOnOneDirectory", func(t *testing.T) {
		_, stderr, code := runProgram(t, "up", "--data", dir, "--http", "127.0.0.1:0")
		if code != exitError || !strings.Contains(stderr, "in use by another chapterhouse (process ") {
			t.Errorf("exit code %d, said %q", code, stderr)
		}
	})

	t.Run("IsRefusedOnOnePort", func(t *testing.T) {
		address := strings.TrimPrefix(endpoints(t, dir).REST, "http://")
		_, stderr, code := runProgram(t, "up", "--data", filepath.Join(t.TempDir(), "other"), "--http", address)
		if code != exitError || !strings.Contains(stderr, "choose another address with --http") {
			t.Errorf("exit code %d, said %q", code, stderr)
		}
	})

	t.Run("WorksOnTwo", func(t *testing.T) {
		_, api := up(t, upData(t))
		api.get(api.staff(), "/v1/regions")
	})

	t.Run("TokensOfOneMeanNothingToTheOther", func(t *testing.T) {
		_, api := up(t, upData(t))
		token := api.staff()
		api.base = endpoints(t, dir).REST
		if answer := api.send("GET", "/v1/regions", token, "", ""); answer.status != 401 {
			t.Errorf("a foreign token: %d", answer.status)
		}
	})
}

func TestUpAsAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("every other test shows it")
	}
	const nobody = 65534
	home := upData(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	// The test binary lies where only its owner can go.
	copied := filepath.Join(home, "chapterhouse")
	if err := os.WriteFile(copied, text, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(home, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, "data")
	cmd := exec.Command(copied, "up", "--data", dir, "--http", "127.0.0.1:0")
	cmd.Dir, cmd.Env = home, []string{asProgram + "=1", "HOME=" + home, "PATH=" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	p := startProgram(t, cmd)
	p.await("Chapterhouse is up")
	api := &rest{t: t, base: endpoints(t, dir).REST, keys: dir}
	api.get(api.staff(), "/v1/regions")
	if code, _ := p.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func postmasterOf(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pgdata", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(line)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	testkit.Eventually(t, patience, func() (bool, string) {
		return syscall.Kill(pid, 0) != nil, "PostgreSQL is still running"
	})
}
