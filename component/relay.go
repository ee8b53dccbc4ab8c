package component

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
)

// relayTimeout is how long Jicofo may take to answer.
const relayTimeout = 15 * time.Second

var (
	errNoFocus       = errors.New("no Jicofo is online")
	errFocusNotReady = errors.New("not ready yet, says Jicofo")
	errNotForwarded  = errors.New("the sender's address cannot be passed on")
	errSilent        = errors.New("no answer from Jicofo for this room just now")

	errFocusAuthenticates = errors.New("refused by Jicofo, which authenticates people itself, and so decides who may open a room: " +
		"take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)")
)

func isNotAuthorized(err error) bool {
	return errors.Is(err, stanza.Error{Condition: stanza.NotAuthorized})
}

// relay stands before Jicofo as Prosody's client_proxy does (mod_client_proxy.lua): it knows from Jicofo's presence under
// which resources it is online, and asks it in the name of others, as <our domain>/<their full JID>, which Jicofo takes
// for them (jicofo.xmpp.client.client-proxy).
type relay struct {
	session       muc.Session
	domain, focus jid.JID // ours; Jicofo's bare JID
	log           *zap.Logger
	timeout       time.Duration // how long Jicofo may take to answer

	mu      sync.Mutex
	online  []focusOnline    // in the order in which they came
	refused bool             // that Jicofo does not show itself has been logged
	turns   map[string]*turn // by room
}

// focusOnline is a resource of Jicofo.
type focusOnline struct {
	jid  jid.JID       // full
	gone chan struct{} // closed when it is online no more
}

// turn lets one request at a time have the word for a room that is not open yet. Where Jicofo does not answer it, those who
// wait for the word are told so, too: one after the other, each of them would wait for as long.
type turn struct {
	word   chan struct{} // holds one entry while nobody has the word
	silent chan struct{} // closed when Jicofo has not answered
	n      int           // who has it or waits for it
}

// greet asks for Jicofo's presence. Whoever is subscribed already, as prosodyctl mod_roster_command does it, is told so by
// the server, and else Jicofo is asked; once told so, we probe. A probe before that would make Prosody forget that we have
// asked: it answers one that is not permitted as if Jicofo had refused us (mod_presence.lua).
func (r *relay) greet() {
	_ = r.session.Send(stanza.Presence{Type: stanza.SubscribePresence, To: r.focus, From: r.domain}.Wrap(nil)) // fails if the stream is ending
}

// seek greets Jicofo again as long as none is online: an operator may have had it shown to us meanwhile, of which nobody tells.
func (r *relay) seek() {
	r.mu.Lock()
	none := len(r.online) == 0
	r.mu.Unlock()
	if none {
		r.greet()
	}
}

// reset forgets who was online because a new stream begins.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = false
	r.take(func(jid.JID) bool { return true })
}

// presence takes in a presence stanza from Jicofo's account.
func (r *relay) presence(from jid.JID, typ stanza.PresenceType) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch typ {
	case stanza.AvailablePresence:
		if from.Resourcepart() != "" && !slices.ContainsFunc(r.online, func(o focusOnline) bool { return from.Equal(o.jid) }) {
			r.online = append(r.online, focusOnline{from, make(chan struct{})})
			r.log.Info("Jicofo is online", zap.Stringer("jid", from))
		}
	case stanza.UnavailablePresence, stanza.ErrorPresence:
		r.offline(from)
	case stanza.SubscribePresence:
		// A client may ask back before it shows itself.
		return r.session.Send(stanza.Presence{Type: stanza.SubscribedPresence, To: from.Bare(), From: r.domain}.Wrap(nil))
	case stanza.UnsubscribedPresence:
		if !r.refused && len(r.online) == 0 {
			r.refused = true
			r.log.Warn("Jicofo does not show whether it is online, so nobody is let in", zap.String("hint", focus.HowToSubscribe(r.domain, r.focus)))
		}
	case stanza.SubscribedPresence:
		return r.session.Send(stanza.Presence{Type: stanza.ProbePresence, To: r.focus, From: r.domain}.Wrap(nil))
	}
	return nil
}

// offline takes a resource out, all of them if from is bare. The caller holds mu.
func (r *relay) offline(from jid.JID) {
	before := len(r.online)
	r.take(func(j jid.JID) bool { return from.Resourcepart() == "" || from.Equal(j) })
	if len(r.online) < before {
		r.log.Info("Jicofo went offline", zap.Stringer("jid", from), zap.Int("still online", len(r.online)))
	}
}

// take takes resources out. The caller holds mu.
func (r *relay) take(which func(jid.JID) bool) {
	r.online = slices.DeleteFunc(r.online, func(o focusOnline) bool {
		gone := which(o.jid)
		if gone {
			close(o.gone)
		}
		return gone
	})
}

// newest returns who of those online came last, and has not been tried: one that was there before may be what a Jicofo that broke
// down has left, which the server keeps for a while.
func (r *relay) newest(tried []focusOnline) (focusOnline, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range slices.Backward(r.online) {
		if !slices.ContainsFunc(tried, func(t focusOnline) bool { return t.gone == o.gone }) {
			return o, true
		}
	}
	return focusOnline{}, false
}

// ask forwards an IQ in the name of its sender, and decodes the answer into v. An error that Jicofo answers with is a
// stanza.Error; any other means that there is no answer.
func (r *relay) ask(ctx context.Context, iq stanza.IQ, payload func() xml.TokenReader, v any) error {
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	// WithResource prepares what it is given (RFC 7622 §3.4). What that changes would be somebody else's address.
	asker, err := r.domain.WithResource(iq.From.String())
	if err != nil || asker.Resourcepart() != iq.From.String() {
		return errNotForwarded
	}
	var tried []focusOnline
	for to, ok := r.newest(tried); ok; to, ok = r.newest(tried) {
		err := r.askOne(ctx, to, stanza.IQ{Type: iq.Type, From: asker, To: to.jid}, payload(), v)
		if !errors.Is(err, errNoFocus) {
			return err
		}
		tried = append(tried, to)
	}
	return errNoFocus
}

// askOne asks one resource. The error is errNoFocus if it is not there any more.
func (r *relay) askOne(ctx context.Context, to focusOnline, iq stanza.IQ, payload xml.TokenReader, v any) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-to.gone:
			cancel(errNoFocus)
		case <-ctx.Done():
		}
	}()
	err := r.session.IQ(ctx, iq, payload, v)
	switch {
	case err == nil:
		return nil
	case errors.Is(context.Cause(ctx), errNoFocus),
		// So the server answers for somebody who is not there any more, and Jicofo when it shuts down.
		errors.Is(err, stanza.Error{Condition: stanza.ServiceUnavailable}), errors.Is(err, stanza.Error{Condition: stanza.RecipientUnavailable}):
		return errNoFocus
	}
	return err
}

// begin returns when it is the caller's turn to have a room opened; the caller calls end afterwards, and says whether Jicofo did
// not answer. Jicofo opens a room in the course of a request for it, and takes several at once for as many.
func (r *relay) begin(ctx context.Context, room jid.JID) (end func(silent bool), err error) {
	key := room.String()
	r.mu.Lock()
	t := r.turns[key]
	if t == nil {
		t = &turn{word: make(chan struct{}, 1), silent: make(chan struct{})}
		t.word <- struct{}{}
		if r.turns == nil {
			r.turns = make(map[string]*turn)
		}
		r.turns[key] = t
	}
	t.n++
	r.mu.Unlock()
	leave := func(silent bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if t.n--; r.turns[key] == t && (silent || t.n == 0) {
			delete(r.turns, key) // whoever comes from here on asks anew
		}
	}
	select {
	case <-t.silent:
		err = errSilent
	case <-ctx.Done():
		err = ctx.Err()
	case <-t.word:
		return func(silent bool) {
			leave(silent)
			if silent {
				close(t.silent)
				return // with the word
			}
			t.word <- struct{}{}
		}, nil
	}
	leave(false)
	return nil, err
}

// copied is an element and all in it, as tokens, so that it can be passed on. It is built anew from what was understood:
// encoding/xml does not write what it read (CVE-2020-29509), so what has prefixes, or names that it would change, is refused.
type copied []xml.Token

// maxCopied is how many tokens are passed on.
const maxCopied = 256

var errNotCopied = errors.New("an element that cannot be passed on")

// UnmarshalXML implements xml.Unmarshaler.
func (c *copied) UnmarshalXML(d *xml.Decoder, start xml.StartElement) error {
	*c = nil
	for depth, tok := 0, xml.Token(start); ; {
		switch t := tok.(type) {
		case xml.StartElement:
			depth++
			if t.Name.Space == "" || !focus.PlainName(t.Name.Local) { // without a namespace it would be written into that of its parent
				return errNotCopied
			}
			plain := xml.StartElement{Name: t.Name}
			for _, a := range t.Attr {
				switch {
				case a.Name.Space == "" && a.Name.Local == "xmlns":
				case a.Name.Space == "" && focus.PlainName(a.Name.Local) && !slices.ContainsFunc(plain.Attr, func(b xml.Attr) bool { return a.Name == b.Name }):
					plain.Attr = append(plain.Attr, a)
				default:
					return errNotCopied
				}
			}
			*c = append(*c, plain)
		case xml.EndElement:
			depth--
			*c = append(*c, t)
		case xml.CharData:
			*c = append(*c, t.Copy())
		default:
			return errNotCopied
		}
		if depth == 0 {
			return nil
		}
		if len(*c) > maxCopied {
			return errNotCopied
		}
		var err error
		if tok, err = d.Token(); err != nil {
			return err
		}
	}
}

// TokenReader returns the element.
func (c copied) TokenReader() xml.TokenReader {
	i := 0
	return xmlstream.ReaderFunc(func() (xml.Token, error) {
		if i == len(c) {
			return nil, io.EOF
		}
		i++
		return c[i-1], nil
	})
}

// pass passes on an IQ in one of Jicofo's namespaces that is no conference request, as login-url, and its answer.
func (c *Component) pass(ctx context.Context, iq stanza.IQ, payload xml.StartElement, d *xml.Decoder) error {
	var asked, answer copied
	err := asked.UnmarshalXML(d, payload)
	if err == nil {
		err = stream.End(d)
	}
	if err != nil {
		c.malformed(iq, "iq", err)
		return nil
	}
	err = c.relay.ask(ctx, iq, asked.TokenReader, &answer)
	var refused stanza.Error
	switch {
	case errors.As(err, &refused):
		return c.Send(iq.Error(refused))
	case errors.Is(err, errNotForwarded):
		c.malformed(iq, "iq", err)
		return nil
	case errors.Is(err, errNoFocus):
		// As mod_client_proxy.lua answers.
		return c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}))
	case err != nil:
		c.say(zap.WarnLevel, "an IQ for Jicofo was not answered", string(auth.ReasonFocusUnavailable), iq.From,
			zap.Stringer("from", iq.From), zap.String("payload", payload.Name.Local), zap.Error(err))
		return c.Send(iq.Error(stanza.Error{Type: stanza.Wait, Condition: stanza.RemoteServerTimeout}))
	case len(answer) == 0:
		return c.Send(iq.Result(nil))
	}
	return c.Send(iq.Result(answer.TokenReader()))
}

// forward has Jicofo open the room, or say that it is open. The room is spelled as Jicofo knows it.
func (c *Component) forward(ctx context.Context, iq stanza.IQ, conf focus.Conference, room string) (*focus.Answer, error) {
	var said focus.Answer
	err := c.relay.ask(ctx, iq, func() xml.TokenReader { return focus.Forward(conf, room, c.o.ForwardToken) }, &said)
	if err != nil {
		return nil, err
	}
	return &said, nil
}
