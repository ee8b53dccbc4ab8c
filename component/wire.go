package component

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
)

const (
	// maxStanza is the size in bytes of the largest stanza that is looked at: Prosody's own default limit for
	// components (component_stanza_size_limit).
	maxStanza = 512 << 10
	// maxDepth is how deep elements may nest.
	maxDepth = 64
)

var (
	errTooLarge = fmt.Errorf("stanza of more than %d bytes", maxStanza)
	errTooDeep  = fmt.Errorf("stanza with elements more than %d deep", maxDepth)
)

// wire cuts the server's stream into its elements: first the stream's header, then stanza after stanza.
//
// It is why no stanza can end the stream. An XML decoder that reads the stream itself is lost at the first byte that it does not
// like, and there are such bytes: Prosody's parser (expat) takes an element <p:a:b/> and writes it as <a:b/> or worse, which encoding/xml refuses, and
// anybody who may log in can send one. Here, each stanza is cut out by the angle brackets alone and decoded by a
// decoder of its own; what that refuses is one lost stanza.
//
// A wire is a net.Conn whose Read never returns bytes of two elements at once, so that nothing of the stream is left
// in the buffer of whoever reads the header and the handshake from it.
type wire struct {
	net.Conn
	in     *bufio.Reader
	opened bool
	buf    []byte // the current element
	unread []byte // what Read has not returned of it
}

func newWire(c net.Conn) *wire {
	return &wire{Conn: c, in: bufio.NewReaderSize(c, 16<<10)}
}

// Read implements io.Reader for the negotiation of the stream.
func (w *wire) Read(p []byte) (int, error) {
	if len(w.unread) == 0 {
		b, err := w.next()
		if err != nil {
			return 0, err
		}
		w.unread = b
	}
	n := copy(p, w.unread)
	w.unread = w.unread[n:]
	return n, nil
}

// next returns the next element, valid until the next call. io.EOF means that the server closed the stream in good
// order. With errTooLarge and errTooDeep the stream goes on, and the bytes returned are the element's beginning.
func (w *wire) next() ([]byte, error) {
	w.buf = w.buf[:0]
	if !w.opened {
		return w.header()
	}
	var s scanner
	var fault error
	for {
		// Whatever has arrived, at least one byte.
		if _, err := w.in.Peek(1); err != nil {
			return nil, unexpected(err)
		}
		chunk, _ := w.in.Peek(w.in.Buffered())
		n, err := s.scan(chunk)
		if len(w.buf)+n <= maxStanza {
			w.buf = append(w.buf, chunk[:n]...)
		} else {
			fault = errTooLarge
		}
		if _, derr := w.in.Discard(n); derr != nil || err != nil {
			return nil, errors.Join(err, derr)
		}
		switch {
		case s.closed:
			return nil, io.EOF
		case s.done && fault == nil && s.deepest > maxDepth:
			return w.buf, errTooDeep
		case s.done:
			return w.buf, fault
		}
	}
}

// header returns all up to the end of the stream's opening tag.
func (w *wire) header() ([]byte, error) {
	for {
		b, err := w.in.ReadSlice('>')
		if err != nil {
			return nil, unexpected(err)
		}
		if w.buf = append(w.buf, b...); len(w.buf) > maxStanza {
			return nil, errTooLarge
		}
		if declaration := len(b) > 1 && b[len(b)-2] == '?'; !declaration {
			w.opened = true
			return w.buf, nil
		}
	}
}

// unexpected makes the end of the connection in the middle of the stream an error.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// scanner finds the end of an element by its angle brackets and quotes. It does not judge names or nesting; it knows
// only what RFC 6120 §11.1 leaves of XML: no comments, processing instructions or declarations.
type scanner struct {
	state   byte // the context of the next byte: text, '<' after it, 't' in a tag, or a quote in a tag
	last    byte // the byte before, in a tag
	closing bool // the tag is an end tag
	depth   int
	deepest int
	done    bool // the element is complete
	closed  bool // the stream's own end tag came instead of an element
}

const (
	inText  = 0
	opened  = '<'
	inTag   = 't'
	quoted1 = '\''
	quoted2 = '"'
)

var errRestricted = errors.New("XML that RFC 6120 §11.1 forbids between or in stanzas")

// scan reads b up to the end of the element or of b, and returns how many bytes it read.
func (s *scanner) scan(b []byte) (int, error) {
	for i, c := range b {
		switch s.state {
		case inText:
			switch {
			case c == '<':
				s.state = opened
			case s.depth == 0 && c != ' ' && c != '\n' && c != '\r' && c != '\t':
				return i, errRestricted
			}
		case opened:
			if c == '!' || c == '?' {
				return i, errRestricted
			}
			s.state, s.closing, s.last = inTag, c == '/', c
		case inTag:
			switch c {
			case '\'', '"':
				s.state = c
			case '>':
				s.state = inText
				if s.closing {
					s.depth--
				} else if s.last != '/' {
					s.depth++
					s.deepest = max(s.deepest, s.depth)
				}
				if s.depth <= 0 {
					s.done, s.closed = true, s.depth < 0
					return i + 1, nil
				}
			}
			s.last = c
		default: // in quotes
			if c == s.state {
				s.state, s.last = inTag, c
			}
		}
	}
	return len(b), nil
}
