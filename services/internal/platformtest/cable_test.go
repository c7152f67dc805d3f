package platformtest

import (
	"net"
	"sync"
	"testing"
)

// cable is a proxy between a site and the rest of the world, which can be cut: then nothing passes either way and nobody is
// told, as where packets are lost. What was on its way is lost when it is mended, and the connections with it.
type cable struct {
	// address is the near end.
	address string

	far string

	mu     sync.Mutex
	mended *sync.Cond
	cut    bool
	cuts   int // ever
	ends   map[net.Conn]struct{}
	waited int // connections that came while it was cut
}

// plug connects it to where it leads.
func (c *cable) plug(t testing.TB, far string) {
	t.Helper()
	c.far, c.ends, c.mended = far, map[net.Conn]struct{}{}, sync.NewCond(&c.mu)
	lis := get((&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0"))(t)
	c.address = lis.Addr().String()
	t.Cleanup(func() {
		_ = lis.Close()
		c.mend()
	})
	go func() {
		for {
			near, err := lis.Accept()
			if err != nil {
				return // the test is over
			}
			go c.carry(near)
		}
	}()
}

// carry takes bytes both ways.
func (c *cable) carry(near net.Conn) {
	c.mu.Lock()
	age := c.cuts
	if c.cut {
		c.waited++
	}
	c.ends[near] = struct{}{}
	c.mu.Unlock()
	if !c.passes(age) {
		return
	}
	far, err := (&net.Dialer{}).Dial("tcp", c.far)
	if err != nil {
		_ = near.Close()
		return
	}
	c.mu.Lock()
	c.ends[far] = struct{}{}
	c.mu.Unlock()
	go c.pump(far, near, age)
	c.pump(near, far, age)
}

func (c *cable) pump(to, from net.Conn, age int) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, end := range []net.Conn{to, from} {
			_ = end.Close()
			delete(c.ends, end)
		}
	}()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !c.passes(age) {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// passes waits until the cable is whole, and says whether it was so all the time since a connection was made.
func (c *cable) passes(age int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.cut {
		c.mended.Wait()
	}
	return c.cuts == age
}

func (c *cable) sever() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	c.cuts++
}

// mend says how many connections were tried in vain.
func (c *cable) mend() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
	for end := range c.ends { // of before, and of meanwhile
		_ = end.Close()
	}
	clear(c.ends)
	c.cuts++
	c.mended.Broadcast()
	return c.waited
}
