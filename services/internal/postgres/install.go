package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
)

// findOrInstall is allBinaries, except that root on Debian or Ubuntu gets PostgreSQL
// installed rather than told to.
func findOrInstall(ctx context.Context, log *slog.Logger) ([]string, error) {
	found, err := allBinaries()
	if !errors.Is(err, errNoBinaries) || os.Geteuid() != 0 {
		return found, err
	}
	apt, missing := exec.LookPath("apt-get")
	if missing != nil {
		return nil, err
	}
	log.Info("PostgreSQL is not installed; installing Debian's package, which takes a minute")
	if err := install(ctx, apt, log); err != nil {
		return nil, fmt.Errorf("%w (installing it failed: %w)", errNoBinaries, err)
	}
	return allBinaries()
}

// noMainCluster keeps Debian's package from making and starting a server of its own.
const noMainCluster = "/etc/postgresql-common/createcluster.d/chapterhouse.conf"

func install(ctx context.Context, apt string, log *slog.Logger) error {
	if err := os.MkdirAll(filepath.Dir(noMainCluster), 0o755); err != nil { //nolint:gosec // as the package makes it
		return err
	}
	if err := os.WriteFile(noMainCluster, []byte("create_main_cluster = false\n"), 0o644); err != nil { //nolint:gosec // read by the package's scripts
		return err
	}
	// What the administrator installs later is the administrator's business again.
	defer func() { _ = os.Remove(noMainCluster) }()
	if err := aptGet(ctx, apt, log, "update"); err != nil {
		return err
	}
	return aptGet(ctx, apt, log, "install", "-y", "--no-install-recommends", "postgresql")
}

func aptGet(ctx context.Context, apt string, log *slog.Logger, args ...string) error {
	cmd := exec.CommandContext(ctx, apt, args...) //nolint:gosec // apt-get and arguments from above
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	read, write, err := os.Pipe()
	if err != nil {
		return err
	}
	defer func() { _ = read.Close() }()
	cmd.Stdout, cmd.Stderr = write, write
	err = cmd.Start()
	_ = write.Close()
	if err != nil {
		return err
	}
	var said tail
	said.follow(read, func(line string) { log.Info("apt-get: " + line) })
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("apt-get %s: %w: %s", args[0], err, said.String())
	}
	return nil
}
