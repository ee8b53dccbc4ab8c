package stream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
)

const (
	// MaxStanza is the size in bytes of the largest stanza that is read. The largest that usher needs are the lists of a room's
	// occupants: a nick of 1,023 quotes takes 6 kB there. With 512 kB, Prosody's limit for what components send
	// (component_stanza_size_limit), fewer than a hundred people could hide the occupants of a room from usher.
	MaxStanza = 4 << 20
	// MaxDepth is how deep elements may nest.
	MaxDepth = 64
)

var (
	// ErrTooLarge is the fault of a stanza of more than MaxStanza bytes.
	ErrTooLarge = fmt.Errorf("stanza of more than %d bytes", MaxStanza)
	// ErrTooDeep is the fault of a stanza with elements more than MaxDepth deep.
	ErrTooDeep = fmt.Errorf("stanza with elements more than %d deep", MaxDepth)
)

// wire cuts the server's stream into its elements: first the stream's header, then stanza after stanza.
//
// It is the reason why no stanza can end the stream. An XML decoder that reads the stream itself is lost at the first byte that
// it refuses. encoding/xml refuses some XML that Prosody's parser, expat, lets through. mellium's Serve likewise ends the stream at
// the first error of a handler. Here, each stanza is cut out by its angle brackets alone and gets a decoder
// of its own: if that refuses it, one stanza is lost.
//
// A wire is a net.Conn; its Read never returns bytes of two elements at once. So the code that negotiates the stream
// (RFC 6120 §4.3) leaves nothing of it in a buffer.
type wire struct {
	net.Conn
	in     *bufio.Reader
	opened bool
	buf    []byte // the current element
	unread []byte // the part of it that Read has not returned
}

func newWire(c net.Conn) *wire {
	return &wire{Conn: c, in: bufio.NewReaderSize(acknowledge(c), 16<<10)}
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

// next returns the next element, which is the caller's. io.EOF means that the server closed the stream in good
// order. With ErrTooLarge and ErrTooDeep the stream goes on, and the bytes returned are the element's beginning.
func (w *wire) next() ([]byte, error) {
	w.buf = nil
	s := scanner{header: !w.opened}
	var fault error
	for {
		// Wait for one byte, then take all that has arrived.
		if _, err := w.in.Peek(1); err != nil {
			return nil, unexpected(err)
		}
		chunk, _ := w.in.Peek(w.in.Buffered())
		n, err := s.scan(chunk)
		if len(w.buf)+n <= MaxStanza {
			w.buf = append(w.buf, chunk[:n]...)
		} else {
			fault = ErrTooLarge
		}
		if _, derr := w.in.Discard(n); derr != nil || err != nil {
			return nil, errors.Join(err, derr)
		}
		switch {
		case s.done && s.header:
			w.opened = true
			return w.buf, fault
		case s.closed:
			return nil, io.EOF
		case s.done && fault == nil && s.deepest > MaxDepth:
			return w.buf, ErrTooDeep
		case s.done:
			return w.buf, fault
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

// scanner finds the end of an element by its angle brackets and quotes. It does not judge names or nesting. It relies on
// the restrictions of RFC 6120 §11.1: no comments, processing instructions or declarations.
type scanner struct {
	state   byte // the context of the next byte: text, '<' after it, 't' in a tag, or a quote in a tag
	last    byte // the byte before, in a tag
	closing bool // the tag is an end tag
	header  bool // the element is the stream's opening tag, perhaps with an XML declaration before it
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
			if c == '!' || c == '?' && !s.header {
				return i, errRestricted
			}
			s.state, s.closing, s.last = inTag, c == '/', c
		case inTag:
			switch c {
			case quoted1, quoted2:
				s.state = c
			case '>':
				if s.tagEnds(); s.done {
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

// tagEnds counts the tag that ends here, and finds out whether the element ends with it.
func (s *scanner) tagEnds() {
	s.state = inText
	switch {
	case s.last == '?' && s.header: // the XML declaration
		return
	case s.closing:
		s.depth--
	case s.last != '/':
		s.depth++
		s.deepest = max(s.deepest, s.depth)
	}
	if s.depth <= 0 || s.header {
		s.done, s.closed = true, s.depth < 0
	}
}
