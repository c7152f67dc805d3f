package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
)

// Connect connects as one of the users and reconnects forever. A server that is not there yet is
// waited for in the background; wrong credentials are an error.
func Connect(url, user, password string, log *slog.Logger, options ...nats.Option) (*nats.Conn, error) {
	all := append(connectOptions(user, password, logOrDefault(log)), options...)
	nc, err := nats.Connect(url, all...)
	if err == nil {
		return nc, nil
	}
	if errors.Is(err, nats.ErrAuthorization) || isInProcess(all) {
		return nil, fmt.Errorf("connect to NATS as %s: %w", user, err)
	}
	if nc, err = nats.Connect(url, append(all, nats.RetryOnFailedConnect(true))...); err != nil {
		return nil, fmt.Errorf("connect to NATS as %s: %w", user, err)
	}
	return nc, nil
}

// isInProcess: such a server is there or it is not.
func isInProcess(options []nats.Option) bool {
	var o nats.Options
	for _, option := range options {
		_ = option(&o)
	}
	return o.InProcessServer != nil
}

func connectOptions(user, password string, log *slog.Logger) []nats.Option {
	log = log.With("component", "nats", "user", user)
	return []nats.Option{
		nats.Name("chapterhouse " + user),
		nats.UserInfo(user, password),
		nats.CustomInboxPrefix(inboxPrefix(user)),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(250*time.Millisecond, time.Second),
		// A server that is being configured may refuse us for a while.
		nats.IgnoreAuthErrorAbort(),
		// What cannot be sent now is in the outbox and goes out later, from there.
		nats.ReconnectBufSize(-1),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				log.Warn("disconnected", "error", err)
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) { log.Info("connected again", "url", nc.ConnectedUrlRedacted()) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			if sub != nil {
				log.Error("NATS error", "subject", sub.Subject, "error", err)
				return
			}
			log.Error("NATS error", "error", err)
		}),
	}
}
