package stream

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"fmt"

	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// question is an IQ of ours that waits for its answer.
type question struct {
	to      string
	payload bool        // whether the payload of a result matters
	answer  chan Stanza // without a Body for a result without payload; buffered, so that Receive never waits
}

// IQ sends the IQ with the payload, and waits for its answer. A result's payload is decoded into v unless that is nil, without
// reflection if v is an xml.Unmarshaler. The error of an answer of type error is its stanza.Error. IQ needs a handler of Receive that calls [Stream.Answer].
func (s *Stream) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	// The id is random: who does not see the question cannot answer it.
	iq.ID = rand.Text()
	q := &question{to: iq.To.String(), payload: v != nil, answer: make(chan Stanza, 1)}
	s.mu.Lock()
	if err := s.queue(element.Wrap(iq.StartElement(), payload), nil); err != nil {
		s.mu.Unlock()
		return err
	}
	s.pending[iq.ID] = q
	s.mu.Unlock()

	select {
	case st, ok := <-q.answer:
		switch {
		case !ok:
			return ErrDisconnected
		case st.Body == nil:
			return nil
		}
		return decodeAnswer(st, v)
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.pending, iq.ID)
		s.mu.Unlock()
		return fmt.Errorf("no answer from %s: %w", q.to, ctx.Err())
	}
}

// Answer hands an IQ of type result or error to the call of IQ that waits for it, and reports whether there is one. It counts
// only if it comes from the address that was asked, with the id of the question: to look at the id alone was CVE-2024-46957.
func (s *Stream) Answer(st Stanza) bool {
	typ := stanza.IQType(st.Attr("type"))
	if st.Start.Name.Local != "iq" || typ != stanza.ResultIQ && typ != stanza.ErrorIQ {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := st.Attr("id")
	q, ok := s.pending[id]
	if !ok || q.to != st.Attr("from") {
		return false
	}
	delete(s.pending, id)
	if typ == stanza.ResultIQ && !q.payload {
		st.Body = nil
	}
	q.answer <- st
	return true
}

// decodeAnswer decodes the payload of a result into v, and returns the error of an error.
func decodeAnswer(st Stanza, v any) error {
	d, failed := st.Body, st.Attr("type") == string(stanza.ErrorIQ)
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
				if u, ok := v.(xml.Unmarshaler); ok {
					return u.UnmarshalXML(d, t)
				}
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
