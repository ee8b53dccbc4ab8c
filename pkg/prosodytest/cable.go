package prosodytest

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// Cable passes TCP connections on to a server, so that a test can cut or stall them. An end that has closed its side still receives what
// the other one sends. Any goroutine may use it.
type Cable struct {
	l  net.Listener
	to string

	mu      sync.Mutex
	moved   *sync.Cond // signals that stalled or cut has changed
	conns   map[net.Conn]bool
	cut     bool
	stalled bool
	watch   func([]byte) // nil for none
	done    sync.WaitGroup
}

// NewCable returns a cable to a TCP address for the time of the test.
func NewCable(t TB, to string) *Cable {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("prosodytest: %v", err)
	}
	c := &Cable{l: l, to: to, conns: make(map[net.Conn]bool)}
	c.moved = sync.NewCond(&c.mu)
	c.done.Go(c.accept)
	t.Cleanup(func() {
		l.Close()
		c.Cut()
		c.done.Wait()
	})
	return c
}

// Addr is the address to connect to instead of the server's.
func (c *Cable) Addr() string { return c.l.Addr().String() }

// Cut closes all connections, and each new one as soon as it is made. Data on the way is lost.
func (c *Cable) Cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.stalled = true, false
	c.moved.Broadcast()
	for conn := range c.conns {
		conn.Close()
	}
	clear(c.conns)
}

// Stall holds all data until Mend. Nothing is lost, and neither end notices.
func (c *Cable) Stall() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = true
}

// Mend ends Cut and Stall.
func (c *Cable) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut, c.stalled = false, false
	c.moved.Broadcast()
}

// Watch has see called with what is on its way to the server on connections from then on, as it comes: pieces are not stanzas. see must
// not keep them.
func (c *Cable) Watch(see func(piece []byte)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch = see
}

func (c *Cable) accept() {
	for {
		in, err := c.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp4", c.to)
		if err != nil {
			in.Close()
			continue
		}
		if !c.add(in, out) {
			in.Close()
			out.Close()
			continue
		}
		var ended atomic.Int32
		for _, pair := range [][2]net.Conn{{in, out}, {out, in}} {
			c.done.Go(func() {
				_, err := io.Copy(passing{pair[0], c, pair[0] == out}, pair[1])
				if err != nil || pair[0].(*net.TCPConn).CloseWrite() != nil || ended.Add(1) == 2 {
					c.remove(in, out) // otherwise the other end may still send
				}
			})
		}
	}
}

// add reports false if the cable is cut.
func (c *Cable) add(in, out net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.cut {
		c.conns[in], c.conns[out] = true, true
	}
	return !c.cut
}

func (c *Cable) remove(in, out net.Conn) {
	in.Close()
	out.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, in)
	delete(c.conns, out)
}

// passing writes to a connection unless the cable is stalled.
type passing struct {
	io.Writer
	c        *Cable
	toServer bool
}

func (p passing) Write(b []byte) (int, error) {
	p.c.mu.Lock()
	for p.c.stalled {
		p.c.moved.Wait()
	}
	see := p.c.watch
	p.c.mu.Unlock()
	if see != nil && p.toServer {
		see(b)
	}
	return p.Writer.Write(b)
}
