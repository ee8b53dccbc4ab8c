package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	xmppcomponent "mellium.im/xmpp/component"
	"mellium.im/xmpp/jid"
)

const (
	// CloseTimeout is how long [Stream.Finish] waits for the server to take what is queued, and [Stream.Close] for the server's own end
	// of the stream. After Finish that should come within about as long.
	CloseTimeout = 3 * time.Second
	// handshakeTimeout is how long connecting may take, and how long the handshake may.
	handshakeTimeout = 10 * time.Second
	// writeTimeout is how long the server may refuse to take what we write.
	writeTimeout = 30 * time.Second
	// maxUnwritten is how many stanzas may wait to be written.
	maxUnwritten = 16 << 10
	// maxBatch is the size in bytes from which on no more stanzas are added to one write.
	maxBatch = 64 << 10
)

// streamEnd ends our side of the stream (RFC 6120 §4.4).
const streamEnd = "</stream:stream>"

var (
	// ErrDisconnected means that the stream has ended, or ends.
	ErrDisconnected = errors.New("not connected to the server")
	// ErrBacklog means that the server does not take what is written, so that nothing more can be queued.
	ErrBacklog = errors.New("the server does not take what is written to it")
	// ErrForbidden means that nothing may be written any more; see [Stream.While].
	ErrForbidden = errors.New("no longer the one who may write")
)

// Stream is one connection to the server, from its handshake to its end. All methods may be called by any goroutine, but only
// one may run [Stream.Receive], and only one [Stream.Transmit].
type Stream struct {
	wire   *wire
	domain jid.JID
	may    func() bool // whether anything may be written; nil for always
	closed atomic.Bool // by Close

	mu       sync.Mutex
	enc      encoder
	pending  map[string]*question // by id
	err      error                // why nothing can be sent any more
	unsent   chan outgoing
	finished chan struct{} // closed when Transmit has ended

	traffic traffic

	why   error         // why Receive ended, set before ended is closed
	ended chan struct{} // closed when Receive has ended
}

// Traffic is what has come and gone on a stream, since its handshake.
type Traffic struct{ StanzasIn, StanzasOut, BytesIn, BytesOut int64 }

// Plus returns the sum of both.
func (t Traffic) Plus(o Traffic) Traffic {
	return Traffic{t.StanzasIn + o.StanzasIn, t.StanzasOut + o.StanzasOut, t.BytesIn + o.BytesIn, t.BytesOut + o.BytesOut}
}

// traffic counts it.
type traffic struct{ stanzasIn, stanzasOut, bytesIn, bytesOut atomic.Int64 }

// Traffic returns what has come and gone so far.
func (s *Stream) Traffic() Traffic {
	return Traffic{s.traffic.stanzasIn.Load(), s.traffic.stanzasOut.Load(), s.traffic.bytesIn.Load(), s.traffic.bytesOut.Load()}
}

// outgoing is a stanza that waits to be written.
type outgoing struct {
	xml  []byte
	lost func() // called if the connection fails before it is written; may be nil, must not block
}

// Dial connects to the server's component port and does the handshake of XEP-0114, each within ten seconds. If ctx ends during
// the handshake, the server has CloseTimeout for the rest of it: once the server counts us as connected it sends requests, and
// these need an answer. [Hint] may know what to do about the error.
func Dial(ctx context.Context, server string, domain jid.JID, secret []byte) (*Stream, error) {
	return DialWhile(ctx, server, domain, secret, func() bool { return true })
}

// DialWhile is Dial for somebody who may lose the right to connect meanwhile. It asks right before each write whether they still have it,
// and fails with ErrForbidden if not: by the handshake the server may end the connection of somebody else.
func DialWhile(ctx context.Context, server string, domain jid.JID, secret []byte, may func() bool) (*Stream, error) {
	d := net.Dialer{Timeout: handshakeTimeout}
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	w := newWire(conn)
	if err := handshake(ctx, w, domain, secret, may); err != nil {
		conn.Close()
		return nil, err
	}
	return newStream(w, domain), nil
}

var errNoHandshake = errors.New("no answer to the handshake")

// handshake negotiates the stream on w, and closes w if that takes too long.
func handshake(ctx context.Context, w *wire, domain jid.JID, secret []byte, may func() bool) error {
	shaking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	limit := time.AfterFunc(handshakeTimeout, cancel)
	defer limit.Stop()
	defer context.AfterFunc(ctx, func() { limit.Reset(CloseTimeout) })()
	stop := context.AfterFunc(shaking, func() { w.Close() })
	// If mellium saw a net.Conn it would watch the context itself. When the context ends after it has returned, it might still set
	// a deadline in the past. So it sees a reader and a writer, and we watch.
	_, err := xmppcomponent.NewSession(shaking, domain, secret, struct {
		io.Reader
		io.Writer
	}{w, whileWriter{w, may}})
	if !stop() && err == nil {
		err = shaking.Err()
	}
	if err != nil && shaking.Err() != nil {
		return fmt.Errorf("%w within %s: %w", errNoHandshake, handshakeTimeout, err)
	}
	return err
}

// whileWriter writes while it may.
type whileWriter struct {
	io.Writer
	may func() bool
}

func (w whileWriter) Write(b []byte) (int, error) {
	if !w.may() {
		return 0, ErrForbidden
	}
	return w.Writer.Write(b)
}

// New returns the stream on a connection on which the handshake is done, so that stanzas come next. [Dial] does it all.
func New(conn net.Conn, domain jid.JID) *Stream {
	w := newWire(conn)
	w.opened = true
	return newStream(w, domain)
}

func newStream(w *wire, domain jid.JID) *Stream {
	s := &Stream{
		wire:     w,
		domain:   domain,
		pending:  make(map[string]*question),
		unsent:   make(chan outgoing, maxUnwritten),
		finished: make(chan struct{}),
		ended:    make(chan struct{}),
	}
	return s
}

// Ended is closed when Receive has ended; [Stream.Err] then says why.
func (s *Stream) Ended() <-chan struct{} { return s.ended }

// Err returns why the stream ended, and nil before. An error that the server ended the stream with is one of mellium's package
// stream, such as Conflict.
func (s *Stream) Err() error {
	select {
	case <-s.ended:
		return s.why
	default:
		return nil
	}
}

// Stop ends sending: from now on Send fails, and every IQ that waits for an answer fails with ErrDisconnected. Transmit still
// writes what is queued, and returns.
func (s *Stream) Stop() { s.stop(false) }

// Close ends the stream without what is queued. What the server sends until it has closed its side is still received, within
// CloseTimeout: a request that is lost here has no answer. Therefore the server is told that the stream ends. If only the connection did,
// Prosody would lose what it has not written by then (net/server_epoll.lua), which is much on a busy machine.
func (s *Stream) Close() {
	s.closed.Store(true)
	s.stop(true)
	select {
	case <-s.ended:
	case <-time.After(CloseTimeout):
	}
	s.wire.Close()
	<-s.finished
}

// Finish ends the stream in good order: Transmit still writes what is queued and tells the server, within CloseTimeout. Finish
// then waits until the server has closed its side (RFC 6120 §4.4), because the server may send requests until then, or until
// ctx ends.
func (s *Stream) Finish(ctx context.Context) {
	s.stop(true)
	select {
	case <-s.finished:
	case <-time.After(CloseTimeout):
	}
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
	s.wire.Close()
	<-s.finished
}

// stop is Stop. In good order, the end of the stream is written after what is queued.
func (s *Stream) stop(inGoodOrder bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = ErrDisconnected
	if inGoodOrder {
		select {
		case s.unsent <- outgoing{xml: []byte(streamEnd)}:
		default:
		}
	}
	close(s.unsent)
	for id, q := range s.pending {
		delete(s.pending, id)
		close(q.answer)
	}
}
