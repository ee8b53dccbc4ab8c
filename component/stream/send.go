package stream

import (
	"bytes"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Send encodes the stanza and queues it. It is the one place that sets the sender: our domain, unless the stanza names another
// address of our domain. A stanza that names any other sender is refused. An IQ without an id gets one.
func (s *Stream) Send(r xml.TokenReader) error {
	return s.Deliver(r, nil)
}

// Deliver is Send for a stanza that must not get lost: if the connection fails before it is written, lost is called, once and
// by Transmit. lost must not block. If Deliver returns an error, lost is not called.
func (s *Stream) Deliver(r xml.TokenReader, lost func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.queue(r, lost)
}

// queue is Deliver. The caller holds mu.
func (s *Stream) queue(r xml.TokenReader, lost func()) error {
	if s.err != nil {
		return s.err
	}
	if err := s.encode(r); err != nil {
		return fmt.Errorf("encoding a stanza: %w", err)
	}
	select {
	case s.unsent <- outgoing{bytes.Clone(s.enc.out), lost}:
		return nil
	default:
		return ErrBacklog
	}
}

func (s *Stream) encode(r xml.TokenReader) error {
	tok, err := r.Token()
	if err != nil {
		return err
	}
	start, ok := tok.(xml.StartElement)
	if !ok {
		return fmt.Errorf("expected a stanza, found %T", tok)
	}
	if err := s.stamp(&start); err != nil {
		return err
	}
	return s.enc.encode(start, r)
}

// stamp sets the sender of a stanza, and the id of an IQ.
func (s *Stream) stamp(start *xml.StartElement) error {
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
		start.Attr = append(start.Attr, element.NewAttr("from", s.domain.String()))
	}
	if !id && start.Name.Local == "iq" {
		start.Attr = append(start.Attr, element.NewAttr("id", rand.Text()))
	}
	return nil
}

// While sets a condition of writing: before each write, Transmit asks whether it holds. If not, it writes nothing but the end of the
// stream, and fails with ErrForbidden. While must be called before Transmit.
func (s *Stream) While(may func() bool) { s.may = may }

// Transmit writes what is queued until the stream is stopped or the connection fails. Stanzas that wait are written together.
func (s *Stream) Transmit() error {
	defer close(s.finished)
	var b batch
	for o := range s.unsent {
		b.reset()
		b.add(o)
		for more := true; more && len(b.xml) < maxBatch; {
			select {
			case o, more = <-s.unsent:
				b.add(o)
			default:
				more = false
			}
		}
		if err := s.write(b.xml); err != nil {
			s.Stop()
			for o := range s.unsent {
				b.add(o)
			}
			for _, lost := range b.lost {
				lost()
			}
			if errors.Is(err, ErrForbidden) {
				_ = s.put([]byte(streamEnd)) // otherwise the connection has failed, and nothing else is lost
			}
			return fmt.Errorf("writing to the server: %w", err)
		}
		s.traffic.stanzasOut.Add(int64(b.stanzas))
		s.traffic.bytesOut.Add(int64(len(b.xml)))
	}
	return nil
}

func (s *Stream) write(b []byte) error {
	if s.closed.Load() || s.may != nil && !s.may() {
		return ErrForbidden
	}
	return s.put(b)
}

// put writes without asking.
func (s *Stream) put(b []byte) error {
	if err := s.wire.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := s.wire.Write(b)
	return err
}

// batch is what one write takes.
type batch struct {
	xml     []byte
	lost    []func()
	stanzas int
}

func (b *batch) reset() { b.xml, b.lost, b.stanzas = b.xml[:0], b.lost[:0], 0 }

func (b *batch) add(o outgoing) {
	if len(o.xml) > 0 { // otherwise the queue has ended
		b.stanzas++
	}
	b.xml = append(b.xml, o.xml...)
	if o.lost != nil {
		b.lost = append(b.lost, o.lost)
	}
}
