package component

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"mellium.im/xmlstream"
	xmppcomponent "mellium.im/xmpp/component"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// handshakeTimeout is how long connecting and the handshake may take.
	handshakeTimeout = 10 * time.Second
	// writeTimeout is how long the server may refuse to take what we write.
	writeTimeout = 30 * time.Second
	// closeTimeout is how long the server may take to take what is queued, and about how long to close its side of the stream.
	closeTimeout = 3 * time.Second
	// maxUnwritten is how many stanzas may wait to be written.
	maxUnwritten = 16 << 10
)

var (
	errDisconnected = errors.New("not connected to the server")
	errBacklog      = errors.New("the server does not take what is written to it")
)

// stream is one connection to the server, from its handshake to its end. Sending may be done by any goroutine, reading
// by one.
type stream struct {
	wire   *wire
	domain jid.JID

	mu       sync.Mutex
	enc      *xml.Encoder
	encoded  bytes.Buffer
	pending  map[string]*question // by id
	err      error                // why the stream takes nothing any more
	unsent   chan outgoing
	finished chan struct{} // closed when the writer has ended
	ended    chan struct{} // closed when the reader has ended
}

// outgoing is a stanza that is to be written.
type outgoing struct {
	xml  []byte
	lost func() // called if the connection fails before it is written; may be nil, must not block
}

// question is an IQ that waits for its answer.
type question struct {
	to      string
	payload bool        // whether the payload of a result matters
	answer  chan []byte // the whole answering stanza, nil for a result without payload; buffered, so that the reader never waits
}

// dial connects to the server's component port and does the handshake of XEP-0114. If ctx ends in the middle of it, the server
// has closeTimeout for the rest: once it has taken us for connected it sends requests, and these need an answer.
func dial(ctx context.Context, server string, domain jid.JID, secret []byte) (*stream, error) {
	d := net.Dialer{Timeout: handshakeTimeout}
	conn, err := d.DialContext(ctx, "tcp", server)
	if err != nil {
		return nil, err
	}
	w := newWire(conn)
	// mellium would watch ctx itself if it saw a net.Conn, and may still set a deadline in the past when ctx ends after
	// it has returned. So it sees a reader and a writer, and the watching is done here.
	shaking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	limit := time.AfterFunc(handshakeTimeout, cancel)
	defer limit.Stop()
	defer context.AfterFunc(ctx, func() { limit.Reset(closeTimeout) })()
	stop := context.AfterFunc(shaking, func() { conn.Close() })
	_, err = xmppcomponent.NewSession(shaking, domain, secret, struct {
		io.Reader
		io.Writer
	}{w, w})
	if !stop() && err == nil {
		err = shaking.Err()
	}
	if err != nil {
		conn.Close()
		if shaking.Err() != nil {
			err = fmt.Errorf("no answer to the handshake within %s: %w", handshakeTimeout, err)
		}
		return nil, err
	}
	return newStream(w, domain), nil
}

func newStream(w *wire, domain jid.JID) *stream {
	s := &stream{
		wire:     w,
		domain:   domain,
		pending:  make(map[string]*question),
		unsent:   make(chan outgoing, maxUnwritten),
		finished: make(chan struct{}),
		ended:    make(chan struct{}),
	}
	s.enc = xml.NewEncoder(&s.encoded)
	return s
}

// Send encodes the stanza and queues it. It is the one place where stanzas get their sender: our domain, unless the
// stanza names an address of it (see package muc for why that matters).
func (s *stream) Send(r xml.TokenReader) error {
	return s.deliver(r, nil)
}

// deliver is Send for an answer that must not get lost: if the connection fails before it is written, lost is called.
func (s *stream) deliver(r xml.TokenReader, lost func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.send(r, lost)
}

func (s *stream) send(r xml.TokenReader, lost func()) error {
	if s.err != nil {
		return s.err
	}
	if err := s.encode(r); err != nil {
		// A stanza cut off in the middle must leave nothing behind in the encoder.
		s.enc = xml.NewEncoder(&s.encoded)
		return fmt.Errorf("encoding a stanza: %w", err)
	}
	select {
	case s.unsent <- outgoing{bytes.Clone(s.encoded.Bytes()), lost}:
		return nil
	default:
		return errBacklog
	}
}

func (s *stream) encode(r xml.TokenReader) error {
	s.encoded.Reset()
	tok, err := r.Token()
	if err != nil {
		return err
	}
	start, ok := tok.(xml.StartElement)
	if !ok {
		return fmt.Errorf("expected a stanza, found %T", tok)
	}
	id, from := false, false
	for _, a := range start.Attr {
		switch a.Name.Local {
		case "id":
			id = true
		case "from":
			from = true
			if j, err := jid.ParseUnsafe(a.Value); err != nil || j.Domainpart() != s.domain.String() {
				return errors.New("the sender is not of our domain")
			}
		}
	}
	if !from {
		start.Attr = append(start.Attr, xml.Attr{Name: xml.Name{Local: "from"}, Value: s.domain.String()})
	}
	if !id && start.Name.Local == "iq" {
		start.Attr = append(start.Attr, xml.Attr{Name: xml.Name{Local: "id"}, Value: rand.Text()})
	}
	if err := s.enc.EncodeToken(start); err != nil {
		return err
	}
	if _, err := xmlstream.Copy(s.enc, r); err != nil {
		return err
	}
	return s.enc.Flush()
}

// IQ implements muc.Session.
func (s *stream) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	// The id is random, so that nobody who does not see the question can answer it.
	iq.ID = rand.Text()
	q := &question{to: iq.To.String(), payload: v != nil, answer: make(chan []byte, 1)}
	s.mu.Lock()
	if err := s.send(iq.Wrap(payload), nil); err != nil {
		s.mu.Unlock()
		return err
	}
	s.pending[iq.ID] = q
	s.mu.Unlock()

	select {
	case raw, ok := <-q.answer:
		switch {
		case !ok:
			return errDisconnected
		case raw == nil:
			return nil
		}
		return decodeAnswer(raw, v)
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.pending, iq.ID)
		s.mu.Unlock()
		return fmt.Errorf("no answer from %s: %w", q.to, ctx.Err())
	}
}

// answered hands an IQ of type result or error to who asked. An answer is one only if it comes from whom we asked, with
// the id of the question (CVE-2024-46957 was to look at the id alone); all else is dropped.
func (s *stream) answered(from, id string, typ stanza.IQType, raw []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	q, ok := s.pending[id]
	if !ok || q.to != from {
		return false
	}
	delete(s.pending, id)
	if typ == stanza.ResultIQ && !q.payload {
		raw = nil
	}
	q.answer <- bytes.Clone(raw)
	return true
}

func decodeAnswer(raw []byte, v any) error {
	d := decoder(raw)
	tok, err := d.Token()
	if err != nil {
		return err
	}
	start, _ := tok.(xml.StartElement)
	failed := element.Attr(start, "type") == string(stanza.ErrorIQ)
	for {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			switch {
			case failed && t.Name.Local == "error":
				var e stanza.Error
				if err := d.DecodeElement(&e, &t); err != nil {
					return err
				}
				return e
			case failed || v == nil:
				if err := d.Skip(); err != nil {
					return err
				}
			default:
				return d.DecodeElement(v, &t)
			}
		case xml.EndElement:
			if failed {
				return stanza.Error{Condition: stanza.UndefinedCondition}
			}
			return nil
		}
	}
}

// write writes what is queued until the stream is closed or the connection fails. It writes what has gathered at once.
func (s *stream) write() error {
	defer close(s.finished)
	var batch []byte
	var lost []func() // of what is in the batch
	add := func(o outgoing) {
		batch = append(batch, o.xml...)
		if o.lost != nil {
			lost = append(lost, o.lost)
		}
	}
	for o := range s.unsent {
		batch, lost = batch[:0], lost[:0]
		add(o)
		for more := true; more && len(batch) < 64<<10; {
			select {
			case o, more = <-s.unsent:
				add(o)
			default:
				more = false
			}
		}
		err := s.wire.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			_, err = s.wire.Write(batch)
		}
		if err != nil {
			s.shut(false)
			for o := range s.unsent {
				add(o)
			}
			for _, tell := range lost {
				tell()
			}
			return fmt.Errorf("writing to the server: %w", err)
		}
	}
	return nil
}

// close ends the stream at once: nothing is taken any more, and nobody waits for an answer any more.
func (s *stream) close() {
	s.shut(false)
	s.wire.Close()
	<-s.finished
}

// finish ends the stream in good order: what is queued is still written, and the server told, for which there is closeTimeout. It
// waits until the server has closed its side (RFC 6120 §4.4), because until then that may still send requests, or until ctx ends.
func (s *stream) finish(ctx context.Context) {
	s.shut(true)
	select {
	case <-s.finished:
	case <-time.After(closeTimeout):
	}
	select {
	case <-s.ended:
	case <-ctx.Done():
	}
	s.wire.Close()
	<-s.finished
}

// shut is the part of close and finish that does not wait.
func (s *stream) shut(inGoodOrder bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = errDisconnected
		if inGoodOrder {
			select {
			case s.unsent <- outgoing{xml: []byte("</stream:stream>")}:
			default:
			}
		}
		close(s.unsent)
		for id, q := range s.pending {
			delete(s.pending, id)
			close(q.answer)
		}
	}
}

// decoder returns a decoder for one stanza.
func decoder(raw []byte) *xml.Decoder { return xml.NewDecoder(bytes.NewReader(raw)) }

// streamError returns the error that the server ends the stream with, or nil if the element is none.
func streamError(start xml.StartElement, d *xml.Decoder) error {
	if start.Name.Local != "error" || start.Name.Space != "stream" && start.Name.Space != xmppstream.NS {
		return nil
	}
	var e xmppstream.Error
	if err := d.DecodeElement(&e, &start); err != nil {
		return xmppstream.UndefinedCondition
	}
	return e
}
