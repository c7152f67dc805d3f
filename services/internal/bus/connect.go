package bus

import (
	"log/slog"

	"github.com/nats-io/nats.go"
)

// Connect connects as one of the users and reconnects forever. A server that is not there yet is
// waited for in the background; wrong credentials are an error.
func Connect(url, user, password string, log *slog.Logger, options ...nats.Option) (*nats.Conn, error) {
	return nil, errTodo
}
