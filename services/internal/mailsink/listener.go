package mailsink

import (
	"net"
	"sync"
)

// listener knows the connections that it has accepted.
type listener struct {
	net.Listener

	mu   sync.Mutex
	open map[*connection]struct{}
	ever int
}

type connection struct {
	net.Conn
	lis *listener
}

// Accept is net.Listener's.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: conn, lis: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c] = struct{}{}
	l.ever++
	return c, nil
}

// Close is net.Conn's.
func (c *connection) Close() error {
	c.lis.mu.Lock()
	delete(c.lis.open, c)
	c.lis.mu.Unlock()
	return c.Conn.Close()
}

// Connections says how many connections are open, and how many ever were.
func (s *Sink) Connections() (open, ever int) {
	s.lis.mu.Lock()
	defer s.lis.mu.Unlock()
	return len(s.lis.open), s.lis.ever
}

// Disconnect closes all connections, as servers do with those that are idle.
func (s *Sink) Disconnect() {
	s.lis.mu.Lock()
	defer s.lis.mu.Unlock()
	for c := range s.lis.open {
		_ = c.Conn.Close() // the server takes it out of the map
	}
}
