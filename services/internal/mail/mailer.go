// Package mail sends mail over SMTP: one mail a person, over few connections that stay open, signed with DKIM, and with
// an error that says whether another try makes sense.
package mail

import (
	"context"
	"fmt"
	netmail "net/mail"
	"sync"
	"time"

	"github.com/emersion/go-msgauth/dkim"
	"github.com/jackc/puddle/v2"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

// Mailer sends mail. It is safe for concurrent use; a nil one is as one that is not configured.
type Mailer struct {
	clock      clock.Clock
	from       netmail.Address
	returnPath string
	verp       bool
	signature  *dkim.SignOptions // nil for none

	pool        *puddle.Pool[*connection] // nil without a server
	connections int

	idleTimeout time.Duration
	closing     sync.Once
	closed      chan struct{}
	life        context.Context //nolint:containedctx // ends what Close can wait for no longer
	end         context.CancelFunc
}

// New returns a mailer, which connects when there is something to send. Without a server in the settings it sends nothing.
func New(config Config, clock clock.Clock) (*Mailer, error) {
	config = config.withDefaults()
	m := &Mailer{clock: clock, connections: config.Connections, verp: config.VERP, idleTimeout: config.IdleTimeout, closed: make(chan struct{})}
	m.life, m.end = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	if config.SMTP == "" {
		return m, nil
	}
	server, err := config.server()
	if err != nil {
		return nil, err
	}
	if m.from, m.returnPath, err = config.senders(); err != nil {
		return nil, err
	}
	if m.signature, err = config.signature(m.Domain()); err != nil {
		return nil, err
	}
	m.pool, err = puddle.NewPool(&puddle.Config[*connection]{
		Constructor: server.connect, Destructor: (*connection).close, MaxSize: int32(config.Connections),
	})
	if err != nil {
		return nil, fmt.Errorf("set up the connections for mail: %w", err)
	}
	go m.closeIdle()
	return m, nil
}

// Configured says whether there is a server to hand mail to.
func (m *Mailer) Configured() bool { return m != nil && m.pool != nil }

// Connections is the most connections at a time, and so the most mails that can be under way.
func (m *Mailer) Connections() int { return m.connections }

// Domain is that of the site's sender, for the IDs of mails and lists; empty when not configured.
func (m *Mailer) Domain() string {
	if m == nil {
		return ""
	}
	return domainOf(m.from.Address)
}

// Send hands one mail to the server, and waits for a connection and for the answer. nil means that the server has taken
// it. Every error is an *Error. When ctx ends while the mail is under way, the connection is cut: a mail whose last line
// had gone out is then Uncertain, so that who stops a program had better let Send finish.
func (m *Mailer) Send(ctx context.Context, message Message) error {
	if !m.Configured() {
		return ErrNotConfigured
	}
	ready, err := m.write(message)
	if err != nil {
		return err
	}
	var failure *Error
	for range m.connections + 1 { // each connection may be one that the server has closed
		var again bool
		if again, failure = m.try(ctx, ready); !again {
			break
		}
	}
	if failure == nil {
		return nil // not a nil *Error in an error
	}
	return failure
}

// try says whether to try again, on another connection.
func (m *Mailer) try(ctx context.Context, ready *written) (again bool, failure *Error) {
	resource, err := m.pool.Acquire(ctx)
	if err != nil {
		return false, connectFailure(err)
	}
	c := resource.Value()
	cut := func() { _ = c.raw.Close() }
	uncut, unended := context.AfterFunc(ctx, cut), context.AfterFunc(m.life, cut)
	failure = c.send(ready)
	if left, right := uncut(), unended(); !left || !right {
		c.broken = true
		if failure != nil {
			failure.cause = ctx.Err()
		}
		resource.Destroy()
		return false, failure
	}
	again = c.stale(failure)
	c.used = true
	if c.broken || again {
		c.broken = true
		resource.Destroy()
		return again, failure
	}
	resource.Release()
	return false, failure
}

// closeIdle closes what has not been used for a while, until Close.
func (m *Mailer) closeIdle() {
	ticker := time.NewTicker(m.idleTimeout)
	defer ticker.Stop()
	for {
		select {
		case <-m.closed:
			return
		case <-ticker.C:
		}
		for _, resource := range m.pool.AcquireAllIdle() {
			if resource.IdleDuration() >= m.idleTimeout {
				resource.Destroy()
			} else {
				resource.ReleaseUnused()
			}
		}
	}
}

// Close ends all connections when the mails that are under way have been answered, or cuts them when ctx ends. Nothing
// can be sent after it.
func (m *Mailer) Close(ctx context.Context) {
	if !m.Configured() {
		return
	}
	m.closing.Do(func() { close(m.closed) })
	defer context.AfterFunc(ctx, m.end)()
	m.pool.Close()
}
