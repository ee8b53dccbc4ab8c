package stream

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Stanza is a stanza that came. A handler may keep it.
type Stanza struct {
	// Raw is the whole stanza, or only its beginning if it is too large.
	Raw []byte
	// Start is the start tag, and Body reads what follows, but no innerxml. Start has no name if it cannot be decoded.
	Start xml.StartElement
	Body  *xml.Decoder
	// Fault is nil, or says why the stanza is unfit: ErrTooLarge, ErrTooDeep, or why Start cannot be decoded. Only the envelope
	// of such a stanza can be trusted.
	Fault error
}

// Attr returns the value of an attribute of the stanza, or "".
func (st Stanza) Attr(local string) string { return element.Attr(st.Start, local) }

// Receive hands each stanza to handle, in the order in which they came, until the stream ends, and returns why it did. handle
// must not wait. If it panics, panicked gets the panic's value within the panicking goroutine's deferred calls, and the stanza
// is lost.
func (s *Stream) Receive(handle func(Stanza), panicked func(any)) error {
	defer close(s.ended)
	s.why = s.receive(func(raw []byte, fault error) (end error) {
		defer func() {
			if p := recover(); p != nil {
				panicked(p)
			}
		}()
		st := Stanza{Raw: raw, Fault: fault}
		var err error
		if st.Start, st.Body, err = Open(raw); err != nil {
			st.Fault = err
		} else if end := streamError(st.Start, st.Body); end != nil {
			return end
		}
		handle(st)
		return nil
	})
	return s.why
}

// receive takes element after element off the wire, until that ends or take returns why the server ends the stream.
func (s *Stream) receive(take func(raw []byte, fault error) error) error {
	for {
		raw, err := s.wire.next()
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the server closed the stream")
		case err != nil && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrTooDeep):
			return fmt.Errorf("reading from the server: %w", err)
		}
		s.traffic.stanzasIn.Add(1)
		s.traffic.bytesIn.Add(int64(len(raw)))
		if end := take(raw, err); end != nil {
			return end
		}
	}
}

// Open reads the start tag of a stanza. The decoder reads what follows.
func Open(raw []byte) (xml.StartElement, *xml.Decoder, error) {
	d := xml.NewTokenDecoder(&tokens{rest: raw})
	for {
		tok, err := d.Token()
		if err != nil {
			return xml.StartElement{}, nil, err
		}
		if start, ok := tok.(xml.StartElement); ok {
			return start, d, nil
		}
	}
}

// streamError returns the error that the server ends the stream with (RFC 6120 §4.9), or nil if the element is none.
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

// Payload reads up to the start of an IQ's one payload (RFC 6120 §8.2.3). d is the IQ's decoder, see [Open]. Text before the
// payload is refused.
func Payload(d *xml.Decoder) (xml.StartElement, error) {
	for {
		tok, err := d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		switch t := tok.(type) {
		case xml.StartElement:
			return t.Copy(), nil
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return xml.StartElement{}, errors.New("text before the payload of an IQ")
			}
		default:
			return xml.StartElement{}, errors.New("an IQ without a payload")
		}
	}
}

// End reads what follows the payload up to the end of the stanza. It refuses everything but white space.
func End(d *xml.Decoder) error {
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := tok.(type) {
		case xml.EndElement:
		case xml.CharData:
			if strings.TrimSpace(string(t)) != "" {
				return errors.New("text after the payload of an IQ")
			}
		default:
			return errors.New("more than one payload in an IQ")
		}
	}
}
