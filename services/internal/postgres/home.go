package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// What lies in a cluster's directory.
const (
	dataName   = "pgdata"          // the data directory, or a link to it
	lockName   = "postgres.lock"   // held while somebody looks after the cluster
	socketName = "postgres.socket" // a link to the directory of the socket
	secretName = "secrets/postgres"
)

// Names of directories that lie elsewhere; Remove deletes what a link leads to only when
// it is called like this.
const (
	awayPrefix      = "chapterhouse-pg-"
	socketPrefix    = "ch-pg-"
	throwawayPrefix = "ch-throwaway-"
)

const (
	// socketPathLimit is below the 104 bytes that macOS allows (Linux: 108).
	socketPathLimit = 90
	// lockLimit is for a predecessor that is shutting down.
	lockLimit = 5 * time.Second
)

// home is a cluster's place in the file system.
type home struct {
	dir     string // what the caller named
	data    string // the data directory
	socket  string // the directory of the socket
	account *account
	lock    *os.File
	ours    bool // dir is a temporary directory of our own
	log     *slog.Logger

	programs []string // directories of initdb and postgres, of all versions
	bin      string   // the one of them to use
}

// openHome makes and locks the directory; an empty dir asks for a temporary one.
func openHome(ctx context.Context, dir string, log *slog.Logger) (h *home, err error) {
	h = &home{dir: dir, ours: dir == "", log: log}
	if h.ours {
		if h.dir, err = TempDir(); err != nil {
			return nil, err
		}
	}
	if h.dir, err = filepath.Abs(h.dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(h.dir, 0o755); err != nil { //nolint:gosec // the server's account has to pass through
		return nil, err
	}
	if h.lock, err = lockDir(ctx, h.dir, lockLimit); err != nil {
		return nil, err
	}
	return h, nil
}

// prepare leaves nothing to do but to start the server, and returns the superuser's
// password.
func (h *home) prepare(ctx context.Context, throwaway bool) (password string, err error) {
	// First, because installing PostgreSQL makes the account postgres.
	if h.programs, err = findOrInstall(ctx, h.log); err != nil {
		return "", err
	}
	link := filepath.Join(h.dir, dataName)
	if h.account, err = serverAccount(link); err != nil {
		return "", err
	}
	if h.data, err = h.place(link); err != nil {
		return "", err
	}
	if err := h.makeSocketDir(); err != nil {
		return "", err
	}
	if password, err = h.secret(); err != nil {
		return "", err
	}
	if err := h.initialise(ctx, password, throwaway); err != nil {
		h.abandonNewPlace(link)
		return "", err
	}
	return password, nil
}

// place says where the data directory is or is to be made.
//
// The server's account must be able to reach it, and below /root or in the TempDir of a
// test it cannot. Modes of directories that are not ours stay as they are; instead the
// data then lies below /var/lib, and a link in the cluster's directory leads to it.
func (h *home) place(link string) (string, error) {
	info, err := os.Lstat(link)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return h.newPlace(link)
	case err != nil:
		return "", err
	case info.Mode()&fs.ModeSymlink != 0:
		return os.Readlink(link)
	}
	if h.account != nil && !h.account.canEnter(link) {
		return "", fmt.Errorf("%s belongs to %s, who cannot enter the directories above it; make them enterable (chmod o+x) or use another directory", link, h.account)
	}
	return link, nil
}

func (h *home) newPlace(link string) (string, error) {
	if h.account == nil {
		return link, nil
	}
	if err := letThrough(h.dir); err != nil {
		return "", err
	}
	if h.account.canEnter(h.dir) {
		return link, nil
	}
	for _, base := range []string{"/var/lib", "/var/tmp"} {
		away, err := os.MkdirTemp(base, awayPrefix)
		if err != nil {
			continue
		}
		if letThrough(away) == nil && h.account.canEnter(away) {
			h.log.Info("the data lies elsewhere, because the server's user cannot enter the directory",
				"directory", h.dir, "data", away, "user", h.account.name)
			return filepath.Join(away, dataName), nil
		}
		_ = os.Remove(away)
	}
	return "", fmt.Errorf("PostgreSQL runs as %s, who cannot enter %s; use a directory that others can enter", h.account, h.dir)
}

// abandonNewPlace removes the directory elsewhere that no link leads to.
func (h *home) abandonNewPlace(link string) {
	if _, err := os.Lstat(link); errors.Is(err, fs.ErrNotExist) && h.data != link {
		_ = os.RemoveAll(filepath.Dir(h.data))
	}
}

// letThrough adds the right to pass, not to list.
func letThrough(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	return os.Chmod(dir, info.Mode().Perm()|0o011)
}

// makeSocketDir makes a short directory that only the server's account and root enter.
func (h *home) makeSocketDir() error {
	link := filepath.Join(h.dir, socketName)
	removeBehind(link, socketPrefix) // left by a predecessor that was killed
	for _, base := range []string{os.TempDir(), "/tmp"} {
		dir, err := os.MkdirTemp(base, socketPrefix)
		if err != nil {
			continue
		}
		if h.account.own(dir) == nil && h.account.canEnter(dir) && len(dir)+len("/.s.PGSQL.5432.lock") < socketPathLimit {
			h.socket = dir
			return os.Symlink(dir, link)
		}
		_ = os.Remove(dir)
	}
	return fmt.Errorf("neither %s nor /tmp can hold a socket that %s may use", os.TempDir(), h.account)
}

// close gives the directory free, and removes it when it is a temporary one.
func (h *home) close() error {
	defer unlock(h.lock)
	removeBehind(filepath.Join(h.dir, socketName), socketPrefix)
	if h.ours {
		return removeHome(h.dir)
	}
	return nil
}

// removeHome deletes all that this package puts into dir, and dir if nothing else is in it.
func removeHome(dir string) error {
	removeBehind(filepath.Join(dir, socketName), socketPrefix)
	data := filepath.Join(dir, dataName)
	if target, err := os.Readlink(data); err == nil && strings.HasPrefix(filepath.Base(filepath.Dir(target)), awayPrefix) {
		if err := os.RemoveAll(filepath.Dir(target)); err != nil {
			return err
		}
	}
	for _, name := range []string{dataName, partialName, secretName, lockName} {
		if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	_ = os.Remove(filepath.Join(dir, filepath.Dir(secretName))) // unless others keep secrets there
	_ = os.Remove(dir)
	return nil
}

// removeBehind deletes a link and the directory it leads to, if that is named as expected.
func removeBehind(link, prefix string) {
	if target, err := os.Readlink(link); err == nil && strings.HasPrefix(filepath.Base(target), prefix) {
		_ = os.RemoveAll(target)
	}
	_ = os.Remove(link)
}

// TempDir makes a directory for a cluster that a test starts, stops and removes; unlike
// testing's TempDir, the account that the server runs under can enter it. What earlier
// processes left behind is removed.
func TempDir() (string, error) {
	sweepThrowaways()
	return os.MkdirTemp(throwawayBase(), throwawayPrefix)
}

// sweepThrowaways deletes what processes left behind that were killed. Whoever is alive
// holds its lock; a directory younger than a minute may not be locked yet.
func sweepThrowaways() {
	var dirs []string
	for _, base := range []string{os.TempDir(), throwawayBase()} {
		found, _ := filepath.Glob(filepath.Join(base, throwawayPrefix+"*"))
		dirs = append(dirs, found...)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		_ = Remove(dir)
	}
}

// lockDir takes the directory for this process; the kernel frees it when we end, however.
func lockDir(ctx context.Context, dir string, limit time.Duration) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("%s belongs to another user: run as that user, or use another directory", dir)
	}
	if err != nil {
		return nil, err
	}
	for began := stamp(); ; {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) || time.Since(began) > limit || ctx.Err() != nil {
			return nil, errors.Join(fmt.Errorf("another process is using %s: stop it, or use another directory", dir), file.Close())
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done(): // one more try, then the error
		}
	}
}

// unlock does not leave it to Close: a child that is just being forked still has a copy of
// the descriptor, and would hold the lock until it executes its program.
func unlock(file *os.File) {
	_ = syscall.Flock(int(file.Fd()), syscall.LOCK_UN)
	_ = file.Close()
}
