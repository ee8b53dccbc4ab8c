package serve

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// perNetwork is the part of all connections that one network may have.
const perNetwork = 8

// bound is a listener with few enough connections, each of which ends if its client does not read.
type bound struct {
	net.Listener // waits while there are Options.MaxConnections
	most         int
	proxies      []netip.Prefix

	mu  sync.Mutex
	all int
	of  map[netip.Prefix]int
}

func newBound(l net.Listener, o Options) *bound {
	return &bound{Listener: netutil.LimitListener(l, o.MaxConnections), most: o.MaxConnections, proxies: o.Proxies, of: make(map[netip.Prefix]int)}
}

// Accept implements net.Listener. It closes connections of networks that have enough of them, so that a client of one network which sends
// half of its headers on each cannot keep all others out.
func (b *bound) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		at, ok := parse(c.RemoteAddr().String())
		free := !ok || at.IsLoopback() || within(at, b.proxies)
		network := Network(at)
		if b.add(network, free) {
			return &conn{Conn: c, closed: sync.OnceFunc(func() { b.remove(network, free) })}, nil
		}
		c.Close()
	}
}

func (b *bound) add(network netip.Prefix, free bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !free {
		if b.of[network] >= max(1, b.most/perNetwork) {
			return false
		}
		b.of[network]++
	}
	b.all++
	return true
}

func (b *bound) remove(network netip.Prefix, free bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all--
	if free {
		return
	}
	if b.of[network]--; b.of[network] == 0 {
		delete(b.of, network)
	}
}

// brief keeps no connection after its answer while more than half of those that may be are there, or of those of its network. Otherwise
// clients that ask once and stay would keep others out for as long as idleFor.
func (b *bound) brief(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, _ := parse(r.RemoteAddr)
		b.mu.Lock()
		many := b.all > b.most/2 || b.of[Network(at)] > b.most/perNetwork/2
		b.mu.Unlock()
		if many {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// conn is a connection that ends if its client does not read what is sent.
type conn struct {
	net.Conn
	closed func()
	own    atomic.Bool // whether the handler has set a deadline
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if !c.own.Load() {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(takenWithin)) // a connection that cannot is closed
	}
	return c.Conn.Write(b)
}

// SetWriteDeadline implements net.Conn. net/http removes the deadline of a handler after its answer.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.own.Store(!t.IsZero())
	return c.Conn.SetWriteDeadline(t)
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// timed bounds how long a body may take. The deadline is for the connection, so it must be gone when the body has been read: otherwise
// net/http takes a request that lasts longer, such as a stream, for one with a client that has gone.
func timed(h http.Handler, within time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			control := http.NewResponseController(w)
			_ = control.SetReadDeadline(time.Now().Add(within)) // a connection that cannot is closed
			r = r.WithContext(r.Context())                      // net/http looks at the body of its own request to see whether all was read
			r.Body = &body{r.Body, func() { _ = control.SetReadDeadline(time.Time{}) }}
		}
		h.ServeHTTP(w, r)
	})
}

// body is the body of a request, which says when it has been read.
type body struct {
	io.ReadCloser
	read func()
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.read()
	}
	return n, err
}
