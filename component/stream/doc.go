// Package stream is one connection to an XMPP server as an external component (XEP-0114): the wire below everything that usher
// does with stanzas.
//
// It connects, does the handshake, cuts what comes into stanzas, sends stanzas, and matches answers to the IQs that asked. It
// knows nothing of rooms, tokens or Jitsi, starts no goroutine and does not connect again.
//
// # Use
//
// [Dial] returns a connected Stream. Its user runs two loops, each in a goroutine of its own: [Stream.Transmit] writes what is
// sent, [Stream.Receive] hands over what comes.
//
//	s, err := stream.Dial(ctx, "127.0.0.1:5347", jid.MustParse("focus.meet.example.com"), secret)
//	if err != nil {
//		return fmt.Errorf("%w (%s)", err, stream.Hint(err))
//	}
//	go s.Transmit()
//	go s.Receive(func(st stream.Stanza) {
//		if s.Answer(st) {
//			return // some s.IQ waited for it
//		}
//		…
//	}, panicked)
//	err = s.IQ(ctx, stanza.IQ{Type: stanza.GetIQ, To: server}, disco.InfoQuery{}.TokenReader(), &info)
//	…
//	s.Finish(ctx)
//
// A Stream satisfies the interface Session of package muc.
//
// # Guarantees
//
// Receive never waits for anything but the server, if the handler does not. So an answer is never stuck behind the stanza that
// caused the question, as it can be in a handler of mellium's Serve.
//
// Receive never fails because of a stanza. Clients of the server decide much of what a stanza contains, and must not end the
// stream of all others. A stanza that is no XML for Go, is too large or too deep comes with a Fault; a handler that panics
// loses this one stanza. The stream ends by its end tag, by a stream error (RFC 6120 §4.9), with the connection, or at XML that
// RFC 6120 §11.1 forbids on a stream; Prosody passes none on.
//
// Every stanza gets its sender in one place, see [Stream.Send]. XEP-0114 asks a component to set it. Prosody closes the stream with
// invalid-from at a stanza without a sender, or with one of another domain (plugins/mod_component.lua).
//
// An answer counts only if both its id and its sender are those of the question, see [Stream.Answer].
package stream
