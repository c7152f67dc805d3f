// Package mailmantest gives tests a real Mailman 3 core: the process that serves its REST API, on a loopback port and
// a SQLite database of its own. No other part of it runs, so no mail is ever sent: what would be mailed stays in
// Mailman's queue, where Mails counts it. The system's own Mailman, if there is one, is not touched.
package mailmantest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

// The credentials of the REST API.
const (
	Username = "restadmin"
	Password = "mailmantest-secret"
)

// Domain is the one that all lists are in.
const Domain = "lists.example.org"

// startLimit is for a busy machine; 1.1 s were measured.
const startLimit = time.Minute

// Core is a Mailman core.
type Core struct {
	URL string // of the REST API, without the version
	dir string
}

// Start returns the core that the tests of a package share; each makes lists of its own. It ends with the package's
// tests, which have to run through testkit.Main. Where there is no Mailman and none can be installed, the test is
// skipped, and says so on stderr; it fails on CI, where nobody would read that.
func Start(t testing.TB) *Core {
	t.Helper()
	core, err := shared()
	if errors.Is(err, errNoMailman) && os.Getenv("CI") == "" {
		_, _ = fmt.Fprintf(os.Stderr, "\n*** %s IS SKIPPED: %v ***\n\n", t.Name(), err)
		t.Skip(err)
	}
	if err != nil {
		t.Fatalf("start Mailman: %v", err)
	}
	return core
}

var shared = sync.OnceValues(func() (*Core, error) {
	ctx, cancel := context.WithTimeout(context.Background(), installLimit+startLimit)
	defer cancel()
	if err := install(ctx); err != nil {
		return nil, err
	}
	core, err := prepare()
	if err != nil {
		return nil, err
	}
	testkit.AtExit(func() { _ = os.RemoveAll(core.dir) })
	if err := core.run(ctx); err != nil {
		return nil, err
	}
	form := url.Values{"mail_host": {Domain}}
	if _, err := core.call(ctx, http.MethodPost, "/3.1/domains", form); err != nil {
		return nil, err
	}
	return core, nil
})

// prepare makes the directory and the configuration.
func prepare() (*Core, error) {
	dir, err := os.MkdirTemp("", "chapterhouse-mailman-")
	if err != nil {
		return nil, err
	}
	if account, err := user.Lookup(accountName); err == nil && os.Geteuid() == 0 {
		if err := os.Chown(dir, number(account.Uid), number(account.Gid)); err != nil {
			return nil, err
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := strings.NewReplacer("$DIR", dir, "$PORT", strconv.Itoa(port), "$USERNAME", Username, "$PASSWORD", Password).Replace(configuration)
	if err := os.WriteFile(filepath.Join(dir, "mailman.cfg"), []byte(config), 0o644); err != nil { //nolint:gosec // read by Mailman's account
		return nil, err
	}
	return &Core{URL: "http://127.0.0.1:" + strconv.Itoa(port), dir: dir}, nil
}

// accountName is Debian's for Mailman, which refuses root.
const accountName = "list"

// configuration has no runner but that of the REST API started, and mail servers that nobody listens at.
const configuration = `[mailman]
layout: test
site_owner: owner@example.org
[paths.test]
var_dir: $DIR
bin_dir: /usr/lib/mailman3/bin
[webservice]
hostname: 127.0.0.1
port: $PORT
admin_user: $USERNAME
admin_pass: $PASSWORD
workers: 2
[mta]
incoming: mailman.mta.null.NullMTA
smtp_host: 127.0.0.1
smtp_port: 1
lmtp_host: 127.0.0.1
lmtp_port: 1
`

func number(id string) int {
	n, err := strconv.Atoi(id)
	if err != nil {
		panic(err) // numbers on every system that has Mailman
	}
	return n
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// run starts the process and waits until it answers.
func (c *Core) run(ctx context.Context) error {
	cmd := exec.Command(runner, "-C", filepath.Join(c.dir, "mailman.cfg"), "--runner=rest:0:1") //nolint:gosec // Mailman's and arguments of ours
	cmd.Dir = c.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if account, err := user.Lookup(accountName); err == nil && os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(number(account.Uid)), Gid: uint32(number(account.Gid))}
	}
	log, err := os.Create(filepath.Join(c.dir, "runner.log"))
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	ended, err := start(cmd)
	if err != nil {
		return err
	}
	testkit.AtExit(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // its workers too
		<-ended
	})
	return c.await(ctx, ended)
}

func (c *Core) await(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		_, err := c.call(ctx, http.MethodGet, "/3.1/system/versions", nil)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(50 * time.Millisecond):
			continue
		case <-ended:
		case <-ctx.Done():
		}
		said, _ := os.ReadFile(filepath.Join(c.dir, "runner.log"))
		return fmt.Errorf("no answer from Mailman: %w: %s", err, said[max(0, len(said)-2000):])
	}
}
