package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// partialName is where a new data directory is made; it gets its real name when it is
// whole, so that an initdb that was killed is simply done again.
const partialName = "pgdata.partial"

// initialise makes the data directory unless it exists, and sets h.bin.
func (h *home) initialise(ctx context.Context, password string, throwaway bool) error {
	content, err := os.ReadFile(filepath.Join(h.data, "PG_VERSION"))
	switch {
	case err == nil:
		h.bin, err = h.binariesFor(ctx, strings.TrimSpace(string(content)))
		return err
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to another user: run as that user, or use another directory", h.data)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if _, err := os.Stat(h.data); err == nil {
		return fmt.Errorf("%s is not a PostgreSQL data directory; remove it, or use another directory", h.data)
	}
	if link := filepath.Join(h.dir, dataName); link != h.data {
		if _, err := os.Lstat(link); err == nil {
			return fmt.Errorf("%s leads to %s, which is gone; bring it back, or remove the link to begin anew", link, h.data)
		}
	}
	if h.bin, err = h.binariesFor(ctx, ""); err != nil {
		return err
	}
	return h.initdb(ctx, password, throwaway)
}

func (h *home) initdb(ctx context.Context, password string, throwaway bool) (err error) {
	partial := filepath.Join(filepath.Dir(h.data), partialName)
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("remove what an interrupted initdb left: %w", err)
	}
	if err := os.Mkdir(partial, 0o700); err != nil {
		return err
	}
	if err := h.account.own(partial); err != nil {
		return err
	}
	passwordFile := filepath.Join(h.socket, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		return err
	}
	defer func() { _ = os.Remove(passwordFile) }()
	if err := h.account.own(passwordFile); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(h.bin, "initdb"), initdbArgs(partial, passwordFile, throwaway)...) //nolint:gosec // found by FindBinaries
	h.account.run(cmd, "/")
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, lastLine(output))
	}
	if err := os.Rename(partial, h.data); err != nil {
		return err
	}
	if link := filepath.Join(h.dir, dataName); link != h.data {
		return os.Symlink(h.data, link)
	}
	return nil
}

func initdbArgs(dir, passwordFile string, throwaway bool) []string {
	// Order is bytewise, on every machine the same, while upper and lower case know more
	// than ASCII. macOS has no C.UTF-8.
	ctype := "C.UTF-8"
	if runtime.GOOS == "darwin" {
		ctype = "en_US.UTF-8"
	}
	args := []string{
		"--pgdata=" + dir, "--username=" + superuser, "--pwfile=" + passwordFile,
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--lc-ctype=" + ctype, "--no-instructions",
	}
	if throwaway {
		args = append(args, "--no-sync")
	}
	return args
}

func lastLine(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	for _, line := range lines {
		if strings.Contains(line, "error:") || strings.Contains(line, "FATAL:") {
			return line
		}
	}
	return lines[len(lines)-1]
}

// secret reads the superuser's password, or makes one up for a new cluster.
func (h *home) secret() (string, error) {
	path := filepath.Join(h.dir, secretName)
	content, err := os.ReadFile(path)
	if err == nil {
		return string(content), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(h.data, "PG_VERSION")); err == nil {
		return "", fmt.Errorf("%s, the password for the data in %s, is missing; bring it back, or use another directory", path, h.dir)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", err
	}
	password := rand.Text()
	return password, os.WriteFile(path, []byte(password), 0o600)
}

// binariesFor returns the programs of the wanted major version, or for "" the first that
// run. Data of one version cannot be read by another.
func (h *home) binariesFor(ctx context.Context, wanted string) (string, error) {
	var versions []string
	var broken error
	for _, bin := range h.programs {
		version, err := h.version(ctx, bin)
		switch {
		case err != nil:
			broken = errors.Join(broken, err)
		case wanted == "" || version == wanted:
			return bin, nil
		default:
			versions = append(versions, version+" in "+bin)
		}
	}
	if len(versions) == 0 {
		return "", broken
	}
	return "", fmt.Errorf("the data in %s was made by PostgreSQL %s, but found is only version %s; install PostgreSQL %s, or set %s to where it is",
		h.dir, wanted, strings.Join(versions, ", version "), wanted, binariesEnv)
}

var versionLine = regexp.MustCompile(`\(PostgreSQL\) (\d+)`)

// version asks as the account that is going to run the server, which may not reach
// programs in somebody's home directory.
func (h *home) version(ctx context.Context, bin string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "postgres"), "-V") //nolint:gosec // found by FindBinaries
	h.account.run(cmd, "/")
	output, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s cannot run %s: %w %s", h.account, cmd.Path, err, strings.TrimSpace(string(output)))
	}
	match := versionLine.FindSubmatch(output)
	if match == nil {
		return "", fmt.Errorf("%s -V says %q, which is not a PostgreSQL version", cmd.Path, output)
	}
	return string(match[1]), nil
}
