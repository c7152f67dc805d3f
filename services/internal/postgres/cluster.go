// Package postgres opens, migrates and runs PostgreSQL: pools and transactions for the
// services, databases with a role of their own for the tiers, and a whole cluster as a
// child process for `chapterhouse up` and for tests.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	superuser = "postgres"
	// startLimit covers what a start may have to wait for: crash recovery, and the
	// remains of a predecessor that was killed.
	startLimit = 20 * time.Second
)

// ClusterConfig says where a cluster lives and how it is tuned.
type ClusterConfig struct {
	// Dir holds the data (pgdata), the superuser's password (secrets/postgres), a lock
	// and a link to the socket. It is made when missing. A throwaway cluster may leave
	// it empty, and then leaves nothing behind.
	Dir string
	// Throwaway trades durability for speed: what it holds may be lost in a crash.
	Throwaway bool
	// Log receives what the server says; nil for nowhere.
	Log *slog.Logger
	// Settings override those of settings.go, by their names in postgresql.conf.
	Settings map[string]string
}

// Cluster is a PostgreSQL server that runs as our child, listens on a unix socket only,
// and ends with us, whatever ends us. When it dies by itself it is started again.
type Cluster struct {
	log      *slog.Logger
	home     *home
	password string
	settings map[string]string

	done  chan struct{}
	tail  tail          // the last lines the server wrote
	poke  chan struct{} // wakes the supervisor after want changed
	mu    sync.Mutex
	want  want
	state state
	moved chan struct{} // closed and replaced whenever state changes
}

type want int

const (
	wantRunning want = iota
	wantPaused
	wantStopped
)

type state struct {
	process *os.Process // the postmaster, nil while there is none
	ready   bool        // accepts connections
	err     error       // why the supervisor gave up
}

// StartCluster starts the cluster in config.Dir, which it initialises when there is none
// yet, and returns once it accepts connections. It waits for a predecessor that is about
// to end, and clears away what is left of one that was killed.
//
// Root starts it under another account, since PostgreSQL refuses root. On Debian, root
// also installs PostgreSQL when it is missing. ctx ends the start, not the cluster.
func StartCluster(ctx context.Context, config ClusterConfig) (*Cluster, error) {
	log := config.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if config.Dir == "" && !config.Throwaway {
		return nil, errors.New("a cluster that keeps its data needs a directory")
	}
	home, err := openHome(ctx, config.Dir, log)
	if err != nil {
		return nil, err
	}
	password, err := home.prepare(ctx, config.Throwaway)
	if err != nil {
		return nil, errors.Join(err, home.close())
	}
	c := &Cluster{
		log: log, home: home, password: password,
		settings: settings(config, home.socket),
		done:     make(chan struct{}),
		poke:     make(chan struct{}, 1),
		moved:    make(chan struct{}),
	}
	go c.supervise()
	if err := c.await(ctx, func(s state) bool { return s.ready }); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL in %s: %w", home.dir, err), c.Stop(ctx))
	}
	return c, nil
}

// AdminURL is the URL of a database for the superuser.
func (c *Cluster) AdminURL(database string) string {
	return c.url(superuser, c.password, database)
}

// URL is the URL of the tier's database for the tier's role.
func (c *Cluster) URL(t Tier) string { return c.url(t.Role, t.Password, t.Database) }

func (c *Cluster) url(role, password, database string) string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword(role, password),
		Path:     "/" + database,
		RawQuery: url.Values{"host": {c.home.socket}}.Encode(),
	}
	return u.String()
}

// PID is the process id of the postmaster, 0 while none runs.
func (c *Cluster) PID() int {
	if process := c.now().process; process != nil {
		return process.Pid
	}
	return 0
}

// Done is closed when the server has ended and will not be started again.
func (c *Cluster) Done() <-chan struct{} { return c.done }

// Err says, after Done, why the server could not be kept running; nil after Stop.
func (c *Cluster) Err() error { return c.now().err }

// Ready waits until the server accepts connections.
func (c *Cluster) Ready(ctx context.Context) error {
	return c.await(ctx, func(s state) bool { return s.ready })
}

// Stop shuts the server down: open transactions roll back, all that was committed is on
// disk. When ctx ends it stops waiting for an orderly shutdown and cuts it short.
func (c *Cluster) Stop(ctx context.Context) error {
	c.ask(wantStopped)
	select {
	case <-c.done:
	case <-ctx.Done():
		c.signal(syscall.SIGQUIT)
		<-c.done // the supervisor follows up with SIGKILL
	}
	return nil
}

// Kill sends SIGKILL to the postmaster, as the kernel does when memory runs out, and
// waits until its successor accepts connections.
func (c *Cluster) Kill(ctx context.Context) error {
	victim := c.now().process
	c.signal(syscall.SIGKILL)
	return c.await(ctx, func(s state) bool { return s.ready && s.process != victim })
}

// Pause shuts the server down until Resume; its URLs stay the same.
func (c *Cluster) Pause(ctx context.Context) error {
	c.ask(wantPaused)
	return c.await(ctx, func(s state) bool { return s.process == nil })
}

// Resume ends a Pause and waits until the server accepts connections.
func (c *Cluster) Resume(ctx context.Context) error {
	c.ask(wantRunning)
	return c.Ready(ctx)
}

// Remove deletes a stopped cluster and its directory, including data that openHome had to
// put elsewhere. A directory that is not there is no error.
func Remove(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := lockDir(context.Background(), dir, 0)
	if err != nil {
		return err
	}
	defer unlock(lock)
	return removeHome(dir)
}

func (c *Cluster) now() state {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

func (c *Cluster) signal(sig syscall.Signal) {
	if process := c.now().process; process != nil {
		_ = process.Signal(sig)
	}
}

func (c *Cluster) ask(w want) {
	c.mu.Lock()
	if c.want != wantStopped {
		c.want = w
	}
	c.mu.Unlock()
	select {
	case c.poke <- struct{}{}:
	default:
	}
}

func (c *Cluster) wanted() want {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.want
}

func (c *Cluster) set(change func(*state)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.state)
	close(c.moved)
	c.moved = make(chan struct{})
}

// await waits until the state fulfils cond; it fails when the cluster ends before.
func (c *Cluster) await(ctx context.Context, cond func(state) bool) error {
	for {
		c.mu.Lock()
		s, moved := c.state, c.moved
		c.mu.Unlock()
		if cond(s) {
			return nil
		}
		select {
		case <-moved:
		case <-c.done:
			if err := c.Err(); err != nil {
				return err
			}
			return fmt.Errorf("the cluster in %s is stopped", filepath.Base(c.home.dir))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
