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
	// Another test process may be installing PostgreSQL just now, and "apt-get update" waits for nobody.
	tries, pause = 5, 5 * time.Second
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
	allow, err := forbidServices()
	if err != nil {
		return err
	}
	defer allow()
	for try := 1; ; try++ {
		err := aptInstall(ctx, apt)
		if err == nil || try == tries {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

func aptInstall(ctx context.Context, apt string) error {
	if err := aptGet(ctx, apt, "update"); err != nil {
		return err
	}
	// dbconfig-no-thanks keeps the package from setting a database up.
	return aptGet(ctx, apt, "install", "-y", "--no-install-recommends", "mailman3", "dbconfig-no-thanks")
}

// policy is asked by Debian's packages whether they may start services; 101 is no. Images of containers have one.
const policy = "/usr/sbin/policy-rc.d"

// forbidServices keeps the package from starting a Mailman of the system's own.
func forbidServices() (allow func(), err error) {
	file, err := os.OpenFile(policy, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755) //nolint:gosec // run by the packages' scripts
	if errors.Is(err, os.ErrExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	_, err = file.WriteString("#!/bin/sh\nexit 101\n")
	if err := errors.Join(err, file.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(policy))
	}
	return func() { _ = os.Remove(policy) }, nil
}

func installed() bool {
	info, err := os.Stat(runner)
	return err == nil && info.Mode()&0o111 != 0
}

func aptGet(ctx context.Context, apt string, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, append([]string{"-o", "DPkg::Lock::Timeout=120"}, args...)...) //nolint:gosec // apt-get and arguments from above
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
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
