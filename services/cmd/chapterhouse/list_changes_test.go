package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// changesOf reads what a follower has printed: the addresses in order, and "gone" for what was removed.
func changesOf(t *testing.T, stdout string) (seen []string) {
	t.Helper()
	for line := range strings.Lines(stdout) {
		var change struct {
			EntryName string
			Entry     *struct{ Address string }
		}
		if err := json.Unmarshal([]byte(line), &change); err != nil || change.EntryName == "" {
			t.Fatalf("%v: %s", err, line)
		}
		if change.Entry == nil {
			seen = append(seen, "gone")
			continue
		}
		seen = append(seen, strings.TrimSuffix(change.Entry.Address, "@example.org"))
	}
	return seen
}

// awaitChanges waits for what a follower should have printed in the end.
func awaitChanges(t *testing.T, p *process, want string) {
	t.Helper()
	testkit.Eventually(t, patience, func() (bool, string) {
		select {
		case <-p.done:
			t.Fatalf("the follower has ended: %s", p.stderr.String())
		default:
		}
		got := fmt.Sprint(changesOf(t, p.stdout.String()))
		return got == want, "printed " + got + ", want " + want
	})
}

// following starts a follower.
func (d *desk) following(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := program(t, append([]string{"list", "changes", "--follow"}, args...)...)
	cmd.Env = append(cmd.Env, d.with(commandLine{}).env...)
	return startProgram(t, cmd)
}

func TestListChanges(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)

	t.Run("FollowsAnExport", func(t *testing.T) {
		list := d.newList(t, "followed")
		d.does(t, "sync", listFile(t, 1, 2), "--list", list)
		since := filepath.Join(t.TempDir(), "since")
		d.does(t, "export", "--list", list, "--since-file", since)
		p := d.following(t, "--list", list, "--since-file", since)
		d.does(t, "sync", listFile(t, 1, 3), "--list", list)
		awaitChanges(t, p, "[p03]")
		d.does(t, "sync", listFile(t, 2, 3), "--list", list)
		awaitChanges(t, p, "[p03 gone]")
		if code, _ := p.stop(syscall.SIGTERM); code != exitDone {
			t.Errorf("exit code %d", code)
		}
	})

	t.Run("GoesOnWhereItStopped", func(t *testing.T) {
		list := d.newList(t, "resumed")
		since := filepath.Join(t.TempDir(), "since")
		if got := d.does(t, "changes", "--list", list, "--since-file", since); got != "" {
			t.Errorf("changes from now: %s", got)
		}
		d.does(t, "sync", listFile(t, 1, 1), "--list", list)
		if got := fmt.Sprint(changesOf(t, d.does(t, "changes", "--list", list, "--since-file", since))); got != "[p01]" {
			t.Errorf("changes: %s", got)
		}
		d.does(t, "sync", listFile(t, 1, 2), "--list", list)
		if got := fmt.Sprint(changesOf(t, d.does(t, "changes", "--list", list, "--since-file", since))); got != "[p02]" {
			t.Errorf("changes: %s", got)
		}
	})

	t.Run("PointThatIsNone", func(t *testing.T) {
		got := d.list(t, "changes", "--list", "members", "--since", "yesterday")
		if got.code != exitError || got.stdout != "" || !regexp.MustCompile(`INVALID_FIELD|CHANGES_EXPIRED`).MatchString(got.stderr) {
			t.Errorf("exit code %d: %s", got.code, got.stderr)
		}
	})
}

func TestFollowerOutlivesTheServer(t *testing.T) {
	t.Parallel()
	d, server := newDesk(t)
	list := d.newList(t, "restarted")
	since := filepath.Join(t.TempDir(), "since")
	p := d.following(t, "--list", list, "--since-file", since, "--data", d.dir, "--chapter", "golang-paris")
	testkit.Eventually(t, patience, func() (bool, string) {
		_, err := os.Stat(since)
		return err == nil, "the follower has not begun"
	})
	d.does(t, "sync", listFile(t, 1, 1), "--list", list)
	awaitChanges(t, p, "[p01]")
	server.stop(syscall.SIGTERM)
	p.await("trying again until it works")
	up(t, d.dir) // on another port
	local := []string{"--data", d.dir, "--chapter", "golang-paris"}
	d.does(t, append([]string{"sync", listFile(t, 1, 2), "--list", list}, local...)...)
	awaitChanges(t, p, "[p01 p02]")
	p.await("following again")
}
