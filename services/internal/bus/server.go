package bus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// ServerConfig says where the embedded NATS server keeps its data and who may connect.
type ServerConfig struct {
	// Dir holds JetStream's files.
	Dir string
	// Host is 127.0.0.1 when empty. Port 0 takes a free one; -1 opens none, so that only
	// Server.InProcess connects.
	Host string
	Port int
	// Users is not empty: a server without users would let everybody in.
	Users []UserConfig
	// AdminPassword makes a user AdminUser who may do everything; none when empty.
	AdminPassword string
	// Log gets warnings and errors; slog's default when nil.
	Log *slog.Logger
}

// AdminUser is for operators and tests.
const AdminUser = "admin"

// UserConfig is the NATS user of a tier's site.
type UserConfig struct{ Tier, Site, Password string }

// Server is an embedded NATS server with JetStream.
type Server struct {
	nats        *server.Server
	users       []UserConfig
	provisioner *nats.Conn
	log         *slog.Logger
}

// provisionerUser is our own; its password changes with each start.
const provisionerUser = "provisioner"

// startTimeout covers the recovery of a large stream after a crash.
const startTimeout = 30 * time.Second

// StartServer starts a server and returns when it takes connections and has the users' streams.
// Every message is on disk before it is acknowledged.
func StartServer(cfg ServerConfig) (*Server, error) {
	if len(cfg.Users) == 0 {
		return nil, errors.New("the NATS server needs users")
	}
	password := rand.Text()
	ns, err := server.NewServer(serverOptions(cfg, password))
	if err != nil {
		return nil, fmt.Errorf("configure the NATS server: %w", err)
	}
	s := &Server{nats: ns, users: cfg.Users, log: logOrDefault(cfg.Log).With("component", "nats-server")}
	ns.SetLoggerV2(serverLog{s.log}, false, false, false)
	ns.Start()
	if err := s.ready(cfg, password); err != nil {
		s.Shutdown()
		return nil, err
	}
	return s, nil
}

func (s *Server) ready(cfg ServerConfig, password string) (err error) {
	if !s.nats.ReadyForConnections(startTimeout) {
		return errors.New("the NATS server did not start: its log says why")
	}
	if !s.nats.JetStreamEnabled() {
		return fmt.Errorf("the NATS server has no JetStream: is %s writable?", cfg.Dir)
	}
	if s.provisioner, err = Connect("", provisionerUser, password, cfg.Log, s.InProcess()); err != nil {
		return err
	}
	// Somebody may delete a stream, and a consumer its durable to read from the start again.
	again := make(chan *nats.Msg, 1)
	for _, what := range []string{"STREAM", "CONSUMER"} {
		_, err := s.provisioner.Subscribe("$JS.EVENT.ADVISORY."+what+".DELETED.>", func(msg *nats.Msg) {
			select {
			case again <- msg:
			default: // it is about to look anyway
			}
		})
		if err != nil {
			return err
		}
	}
	closed := s.provisioner.StatusChanged(nats.CLOSED)
	if err := s.provision(); err != nil {
		return err
	}
	go s.keepProvisioned(again, closed)
	return nil
}

func (s *Server) provision() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return Provision(ctx, s.provisioner, s.users)
}

func (s *Server) keepProvisioned(again <-chan *nats.Msg, closed <-chan nats.Status) {
	for {
		select {
		case <-closed:
			return
		case <-again:
		}
		if err := s.provision(); err != nil && !s.provisioner.IsClosed() {
			s.log.Error("cannot make anew what was deleted", "error", err)
		}
	}
}

func serverOptions(cfg ServerConfig, password string) *server.Options {
	opts := &server.Options{
		ServerName: "chapterhouse",
		Host:       cfg.Host,
		Port:       cfg.Port,
		JetStream:  true,
		StoreDir:   cfg.Dir,
		SyncAlways: true,
		NoSigs:     true,
		Users:      []*server.User{{Username: provisionerUser, Password: password}},
	}
	switch {
	case cfg.Port < 0:
		opts.DontListen = true
	case cfg.Port == 0:
		opts.Port = server.RANDOM_PORT
	}
	if opts.Host == "" {
		opts.Host = "127.0.0.1"
	}
	if cfg.AdminPassword != "" {
		opts.Users = append(opts.Users, &server.User{Username: AdminUser, Password: cfg.AdminPassword})
	}
	for _, user := range cfg.Users {
		opts.Users = append(opts.Users, &server.User{
			Username:    User(user.Tier, user.Site),
			Password:    user.Password,
			Permissions: Permissions(user.Tier, user.Site),
		})
	}
	return opts
}

// ClientURL is where clients connect, without credentials; meaningless when Port was -1.
func (s *Server) ClientURL() string { return s.nats.ClientURL() }

// InProcess is an option for Connect that needs no network; the URL is ignored then.
func (s *Server) InProcess() nats.Option { return nats.InProcessServer(s.nats) }

// Shutdown stops the server and waits until its files are closed.
func (s *Server) Shutdown() {
	if s.provisioner != nil {
		s.provisioner.Close()
	}
	s.nats.Shutdown()
	s.nats.WaitForShutdown()
}

// serverLog passes the server's warnings and errors to slog.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l serverLog) Errorf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l serverLog) Fatalf(format string, v ...any)  { l.write(slog.LevelError, format, v) }
func (l serverLog) Debugf(string, ...any)           {}
func (l serverLog) Tracef(string, ...any)           {}

// Warnf leaves out a warning about passwords in the configuration: ours are random, made for this server, and in no
// file that it reads; bcrypt would only make every connection slow.
func (l serverLog) Warnf(format string, v ...any) {
	if !strings.HasPrefix(format, "Plaintext passwords detected") {
		l.write(slog.LevelWarn, format, v)
	}
}

func (l serverLog) write(level slog.Level, format string, v []any) {
	if ctx := context.Background(); l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, fmt.Sprintf(format, v...))
	}
}

func logOrDefault(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.Default()
	}
	return log
}
