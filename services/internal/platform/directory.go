package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/postgres"
)

// What a data directory holds, beside what the cluster of internal/postgres keeps there.
const (
	markerFile    = "chapterhouse.json"
	lockFile      = "lock"
	endpointsFile = "endpoints.json"
	natsDir       = "nats"
	secretsDir    = "secrets"
)

// marker says that a directory is ours, and how it is laid out.
type marker struct {
	Program string `json:"program"`
	Layout  int    `json:"layout"`
}

var present = marker{Program: "chapterhouse", Layout: 1}

// ErrLocked says that another process runs the platform in this directory.
var ErrLocked = errors.New("in use")

// Directory is a data directory that belongs to this process until Close.
type Directory struct {
	Path string
	lock *os.File
}

// OpenDirectory makes the directory where there is none and takes it for this process. It refuses one that holds
// somebody else's files, and returns an ErrLocked when another process has it.
func OpenDirectory(path string) (*Directory, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := claim(path); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(path, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder := holderOf(lock)
		_ = lock.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return nil, fmt.Errorf("%s is %w by another chapterhouse%s: stop that one, or give this one another --data", path, ErrLocked, holder)
	}
	d := &Directory{Path: path, lock: lock}
	if err := d.sign(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// claim makes the directory ours, when it is empty or not there, and otherwise sees whether it is.
func claim(path string) error {
	// PostgreSQL, which does not run as root, has to pass through; nobody else can list what is in it.
	if err := os.MkdirAll(path, 0o711); err != nil { //nolint:gosec // see above
		return err
	}
	text, err := os.ReadFile(filepath.Join(path, markerFile))
	if err == nil {
		return checkMarker(path, text)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		// A lock without a marker: another process is at this very point.
		if entry.Name() != lockFile && !strings.HasPrefix(entry.Name(), markerFile) {
			return fmt.Errorf("%s is not empty and was not made by chapterhouse: choose another --data", path)
		}
	}
	text, err = json.Marshal(present)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(path, markerFile), append(text, '\n'), 0o644)
}

func checkMarker(path string, text []byte) error {
	var found marker
	if json.Unmarshal(text, &found) != nil || found.Program != present.Program {
		return fmt.Errorf("%s was not made by chapterhouse: choose another --data", path)
	}
	if found.Layout != present.Layout {
		return fmt.Errorf("%s was made by another version of chapterhouse (layout %d, this is %d)", path, found.Layout, present.Layout)
	}
	return nil
}

func holderOf(lock *os.File) string {
	text := make([]byte, 20)
	n, _ := lock.ReadAt(text, 0)
	if pid, err := strconv.Atoi(string(bytes.TrimSpace(text[:n]))); err == nil {
		return fmt.Sprintf(" (process %d)", pid)
	}
	return ""
}

// sign writes the process id into the lock, for whoever finds it taken.
func (d *Directory) sign() error {
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err := d.lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// Close gives the directory back.
func (d *Directory) Close() error { return d.lock.Close() }

// Reset deletes all data and keys. Files that are not the platform's stay.
func (d *Directory) Reset() error {
	err := postgres.Remove(d.Path)
	for _, name := range []string{natsDir, secretsDir, endpointsFile} {
		err = errors.Join(err, os.RemoveAll(d.path(name)))
	}
	return err
}

func (d *Directory) path(elements ...string) string {
	return filepath.Join(append([]string{d.Path}, elements...)...)
}

// Endpoints says where a running platform is reached.
type Endpoints struct {
	PID     int               `json:"pid"`
	Version string            `json:"version"`
	REST    string            `json:"rest,omitempty"`
	Docs    string            `json:"docs,omitempty"`
	GRPC    map[string]string `json:"grpc"`
	NATS    string            `json:"nats"`
	// Mail is where the mail is looked at that would have been sent; empty when it is sent.
	Mail string `json:"mail,omitempty"`
}

func (d *Directory) publish(e Endpoints) error {
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(d.path(endpointsFile), append(text, '\n'), 0o644)
}

func (d *Directory) unpublish() error {
	err := os.Remove(d.path(endpointsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// AwaitEndpoints reads where the platform that runs on a directory is reached; one that is starting is waited for.
func AwaitEndpoints(ctx context.Context, dir string) (Endpoints, error) {
	for {
		var e Endpoints
		text, err := os.ReadFile(filepath.Join(dir, endpointsFile))
		if err == nil {
			err = json.Unmarshal(text, &e)
			return e, err
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return e, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return e, fmt.Errorf("wait for the platform in %s to be ready: %w", dir, ctx.Err())
		}
	}
}

// writeFile writes a file that is whole from the moment it appears.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temp.Name()) }() // gone already when the rename succeeded
	_, err = temp.Write(content)
	if err := errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
