package mailmantest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	// runner is one process of Mailman's; the REST API is such a process.
	runner = "/usr/lib/mailman3/bin/runner"
	// lockName is the same for all test processes of the machine: apt-get does not like company.
	lockName = "chapterhouse-mailman3.lock"
	// installLimit is for slow mirrors; 16 s were measured.
	installLimit = 5 * time.Minute
)

var errNoMailman = errors.New("no Mailman 3 core here: run `apt-get install --no-install-recommends mailman3` as root (Debian, Ubuntu)")

// install makes sure that Mailman's programs are here; root on Debian gets the package.
func install(ctx context.Context) error {
	if installed() {
		return nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Geteuid() != 0 {
		return errNoMailman
	}
	unlock, err := lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if installed() { // by another test process meanwhile
		return nil
	}
	_, _ = fmt.Fprintln(os.Stderr, "mailmantest: installing Debian's mailman3, which takes a minute")
	if err := aptGet(ctx, apt, "update"); err != nil {
		return err
	}
	// dbconfig-no-thanks keeps the package from setting a database up.
	return aptGet(ctx, apt, "install", "-y", "--no-install-recommends", "mailman3", "dbconfig-no-thanks")
}

func installed() bool {
	info, err := os.Stat(runner)
	return err == nil && info.Mode()&0o111 != 0
}

func aptGet(ctx context.Context, apt string, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, append([]string{"-o", "DPkg::Lock::Timeout=120"}, args...)...) //nolint:gosec // apt-get and arguments from above
	// RUNLEVEL 1 keeps invoke-rc.d from starting the system's own Mailman.
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w (apt-get %s: %w: %s)", errNoMailman, args[0], err, said[max(0, len(said)-1000):])
	}
	return nil
}

func lock(ctx context.Context) (unlock func(), err error) {
	file, err := os.OpenFile(filepath.Join(os.TempDir(), lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, file.Close())
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(errors.New("another process has been installing mailman3 for too long"), file.Close())
		}
	}
}
