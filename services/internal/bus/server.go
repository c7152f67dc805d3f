package bus

import (
	"github.com/nats-io/nats.go"
)

// ServerConfig says where the embedded NATS server keeps its data and who may connect.
type ServerConfig struct {
	// Dir holds JetStream's files.
	Dir string
	// Host is 127.0.0.1 when empty. Port 0 takes a free one; -1 opens none, so that only
	// Server.InProcess connects.
	Host  string
	Port  int
	Users []UserConfig
}

// UserConfig is the NATS user of a tier's site.
type UserConfig struct{ Tier, Site, Password string }

// Server is an embedded NATS server with JetStream.
type Server struct{}

// StartServer starts a server and returns when it takes connections.
func StartServer(cfg ServerConfig) (*Server, error) { return nil, errTodo }

// ClientURL is where clients connect, without credentials.
func (s *Server) ClientURL() string { return "" }

// InProcess is an option for Connect that needs no network; the URL is ignored then.
func (s *Server) InProcess() nats.Option { return nil }

// Shutdown stops the server and waits until its files are closed.
func (s *Server) Shutdown() {}
