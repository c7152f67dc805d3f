package testkit

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
)

// NATSPassword is every user's: the server listens on the loopback alone.
const NATSPassword = "test"

// NATSServer is a JetStream server of a test's own, on a loopback port that stays the same over
// restarts.
type NATSServer struct {
	dir    string
	config bus.ServerConfig
	server *bus.Server
}

// NATS starts a server with the users of the international and the regional tier and of the given
// local sites, "main" by default. It stops when the test ends.
func NATS(t testing.TB, sites ...string) *NATSServer {
	t.Helper()
	if len(sites) == 0 {
		sites = []string{bus.MainSite}
	}
	users := []bus.UserConfig{
		{Tier: bus.International, Site: bus.MainSite, Password: NATSPassword},
		{Tier: bus.Regional, Site: bus.MainSite, Password: NATSPassword},
	}
	for _, site := range sites {
		users = append(users, bus.UserConfig{Tier: bus.Local, Site: site, Password: NATSPassword})
	}
	s := &NATSServer{
		dir:    filepath.Join(t.TempDir(), "jetstream"),
		config: bus.ServerConfig{Users: users, AdminPassword: NATSPassword, Log: slog.New(slog.DiscardHandler)},
	}
	s.Start(t)
	t.Cleanup(s.Stop)
	return s
}

// URL is the server's, without credentials.
func (s *NATSServer) URL() string { return "nats://127.0.0.1:" + strconv.Itoa(s.config.Port) }

// Dir is where JetStream keeps its files.
func (s *NATSServer) Dir() string { return s.dir }

// Start starts a stopped server with what its directory holds.
func (s *NATSServer) Start(t testing.TB) {
	t.Helper()
	s.config.Dir = s.dir
	server, err := bus.StartServer(s.config)
	if err != nil {
		t.Fatal(err)
	}
	s.server = server
	if s.config.Port == 0 {
		s.config.Port = portOf(t, server.ClientURL())
	}
}

func portOf(t testing.TB, address string) int {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(parsed.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Stop stops the server, if it runs; clients wait for it to come back.
func (s *NATSServer) Stop() {
	if s.server != nil {
		s.server.Shutdown()
		s.server = nil
	}
}

// Wipe deletes everything that JetStream holds. The server must be stopped.
func (s *NATSServer) Wipe(t testing.TB) {
	t.Helper()
	s.mustBeStopped(t)
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
}

// Backup copies what JetStream holds, and returns a function that sets it back to that. The server
// must be stopped at both times.
func (s *NATSServer) Backup(t testing.TB) (restore func()) {
	t.Helper()
	s.mustBeStopped(t)
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		s.Wipe(t)
		if err := os.CopyFS(s.dir, os.DirFS(backup)); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *NATSServer) mustBeStopped(t testing.TB) {
	t.Helper()
	if s.server != nil {
		t.Fatal("stop the NATS server before touching its files")
	}
}

// Connect connects as a tier's site, until the test ends.
func (s *NATSServer) Connect(t testing.TB, tier, site string) *nats.Conn {
	t.Helper()
	return s.connect(t, bus.User(tier, site))
}

// Admin connects as the user who may do everything, until the test ends.
func (s *NATSServer) Admin(t testing.TB) *nats.Conn {
	t.Helper()
	return s.connect(t, bus.AdminUser)
}

func (s *NATSServer) connect(t testing.TB, user string) *nats.Conn {
	t.Helper()
	nc, err := bus.Connect(s.URL(), user, NATSPassword, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}
