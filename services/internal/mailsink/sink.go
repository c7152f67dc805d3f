// Package mailsink is a mail server that delivers nothing: it keeps what arrives, for tests and for people who try the
// platform out, who look at it with a browser. It listens on this machine alone.
package mailsink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
)

// Config is how a sink behaves. The zero one takes mail on a free port.
type Config struct {
	// SMTP is where mail is taken, 127.0.0.1:0 when empty; only addresses of this machine.
	SMTP string
	// Web is where kept mail is shown; nowhere when empty.
	Web string
	// TLS offers STARTTLS, or with TLSOnly is spoken from the first byte.
	TLS     *tls.Config
	TLSOnly bool
	// Username and Password are demanded, when set.
	Username, Password string
	// ASCII takes no other addresses.
	ASCII bool

	// Keep is how many mails are kept, 1,000 when 0, and KeepBytes how much of them, 64 MiB when 0: the oldest go.
	Keep      int
	KeepBytes int
	// MaxBytes is the largest mail, 16 MiB when 0.
	MaxBytes int64

	Clock clock.Clock
}

func (c Config) withDefaults() Config {
	if c.SMTP == "" {
		c.SMTP = "127.0.0.1:0"
	}
	if c.Keep == 0 {
		c.Keep = 1000
	}
	if c.KeepBytes == 0 {
		c.KeepBytes = 64 << 20
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 16 << 20
	}
	if c.Clock == nil {
		c.Clock = clock.System{}
	}
	return c
}

// Sink is a running mail server. It is safe for concurrent use.
type Sink struct {
	config Config
	lis    *listener
	web    net.Listener // nil without one
	server *smtp.Server
	pages  *http.Server
	ended  sync.WaitGroup

	mu       sync.Mutex
	changed  chan struct{} // closed and made anew when a mail arrives
	messages []Message     // in the order of arrival
	bytes    int
	taken    int // ever
	faults   map[string]*Fault

	closing sync.Once
	closed  chan struct{}
}

// Start starts a sink. ctx is for the start alone; Close ends it.
func Start(ctx context.Context, config Config) (*Sink, error) {
	s := &Sink{
		config: config.withDefaults(), changed: make(chan struct{}), closed: make(chan struct{}), faults: map[string]*Fault{},
	}
	lis, err := listen(ctx, s.config.SMTP)
	if err != nil {
		return nil, err
	}
	s.lis = &listener{Listener: lis, open: map[*connection]struct{}{}}
	if s.config.Web != "" {
		if s.web, err = listen(ctx, s.config.Web); err != nil {
			return nil, errors.Join(err, s.lis.Close())
		}
	}
	s.serve()
	return s, nil
}

// listen refuses what others could reach: there is no password, and what was sent is nobody's business.
func listen(ctx context.Context, address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !isLoopback(host) {
		return nil, fmt.Errorf("the mail sink listens on this machine only, not on %s", address)
	}
	var config net.ListenConfig
	return config.Listen(ctx, "tcp", address)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s *Sink) serve() {
	s.server = smtp.NewServer(smtp.BackendFunc(s.newSession))
	s.server.Domain = "localhost"
	s.server.MaxMessageBytes = s.config.MaxBytes
	s.server.AllowInsecureAuth = s.config.TLS == nil
	s.server.EnableSMTPUTF8 = !s.config.ASCII
	s.server.ReadTimeout, s.server.WriteTimeout = 5*time.Minute, time.Minute
	s.server.ErrorLog = quiet{}
	var lis net.Listener = s.lis
	if s.config.TLSOnly {
		lis = tls.NewListener(lis, s.config.TLS)
	} else {
		s.server.TLSConfig = s.config.TLS
	}
	s.ended.Go(func() { _ = s.server.Serve(lis) }) // ends with Close alone
	if s.web == nil {
		return
	}
	s.pages = &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10}
	s.ended.Go(func() { _ = s.pages.Serve(s.web) }) // likewise
}

// quiet drops what the library would print: that clients go away.
type quiet struct{}

func (quiet) Printf(string, ...any) {}
func (quiet) Println(...any)        {}

// Close ends the sink, and all that it holds up. It may be called again.
func (s *Sink) Close() (err error) {
	s.closing.Do(func() {
		close(s.closed)
		err = s.server.Close()
		_ = s.lis.Close() // which the server does not know before it has begun to serve
		if s.pages != nil {
			err = errors.Join(err, s.pages.Close())
		}
		s.ended.Wait()
	})
	return err
}

// Addr is where mail is taken.
func (s *Sink) Addr() string { return s.lis.Addr().String() }

// WebURL is where kept mail is shown, without a slash at its end; empty when nowhere.
func (s *Sink) WebURL() string {
	if s.web == nil {
		return ""
	}
	return "http://" + s.web.Addr().String()
}

// Messages returns what is kept, in the order of arrival.
func (s *Sink) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Wait waits until what is kept is enough, and returns it.
func (s *Sink) Wait(ctx context.Context, enough func([]Message) bool) ([]Message, error) {
	for {
		s.mu.Lock()
		kept, changed := slices.Clone(s.messages), s.changed
		s.mu.Unlock()
		if enough(kept) {
			return kept, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return kept, fmt.Errorf("wait for mail, %d so far: %w", len(kept), ctx.Err())
		}
	}
}

// keep takes a mail in, and lets the oldest go where there is no room.
func (s *Sink) keep(m Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken++
	m.ID = fmt.Sprint(s.taken)
	s.messages = append(s.messages, m)
	s.bytes += len(m.Raw)
	for len(s.messages) > s.config.Keep || s.bytes > s.config.KeepBytes {
		s.bytes -= len(s.messages[0].Raw)
		s.messages[0] = Message{} // so that it can be freed before the slice moves
		s.messages = s.messages[1:]
	}
	close(s.changed)
	s.changed = make(chan struct{})
}
