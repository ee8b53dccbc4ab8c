package component

import (
	"context"
	"encoding/xml"
	"errors"
	"strconv"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/disco/info"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/version"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/pkg/element"
)

// envelope is a stanza of which only the start tag has been read.
type envelope struct {
	stream.Stanza
	from  jid.Unsafe // a room is spelled as the MUC service knows it
	wrote string     // from as the server wrote it
}

// route reads the envelope of one stanza and hands it to its handler.
func (c *Component) route(s *stream.Stream, q *queue, st stream.Stanza) {
	kind := st.Start.Name.Local
	if kind == "" {
		c.malformed(stanza.IQ{}, "", st.Fault)
		return
	}
	e := &envelope{Stanza: st, wrote: st.Attr("from")}
	var err error
	if e.from, err = jid.ParseUnsafe(e.wrote); err != nil || st.Start.Name.Space != "" {
		c.malformed(stanza.IQ{}, kind, errors.Join(errors.New("no sender, or a namespace of its own"), err))
		return
	}
	switch kind {
	case "presence", "message":
		c.routePresence(q, e)
	case "iq":
		c.routeIQ(s, q, e)
	default:
		c.malformed(stanza.IQ{From: e.from.JID}, kind, errors.New("not a stanza"))
	}
}

// routePresence hands a presence or message to its handler: a mark to the queue, what is sent to a probe to that, all else to the
// mode. What nobody handles is not answered (RFC 6120 §8.2 asks for no answer to a message or presence).
func (c *Component) routePresence(q *queue, e *envelope) {
	if mark := c.mark.String(); e.Attr("to") == mark && e.wrote == mark {
		if n, err := strconv.ParseUint(e.Attr("id"), 10, 64); err == nil {
			q.marked(n)
		}
		return
	}
	if c.hearsModule(e) {
		return
	}
	c.respell(e)
	if p := c.probes[e.Attr("to")]; p != nil {
		if e.Start.Name.Local == "presence" {
			p.hears(e.from.JID, readHeard(e))
		}
		return
	}
	if fault := c.mode.hears(e); fault != nil {
		c.malformed(stanza.IQ{From: e.from.JID}, e.Start.Name.Local, fault)
	}
}

// hearsModule hands what usher's module tells to the mirror of the rooms, and reports whether it was that.
func (c *Component) hearsModule(e *envelope) bool {
	if e.Fault != nil || e.Start.Name.Local != "message" || e.from.Localpart() != "" {
		return false
	}
	ours, fault := c.told.Hear(e.from.JID, e.Start, e.Body)
	switch {
	case !ours:
		e.Start, e.Body, e.Fault = stream.Open(e.Raw) // some of it has been read
	case fault != nil:
		c.malformed(stanza.IQ{From: e.from.JID}, e.Start.Name.Local, fault)
	}
	return ours
}

// routeIQ hands an answer to the goroutine that waits for it, and queues a question.
func (c *Component) routeIQ(s *stream.Stream, q *queue, e *envelope) {
	from := e.from.JID // of a question no sender is respelled: rooms ask nothing
	to, err := jid.ParseUnsafe(e.Attr("to"))
	if err != nil || to.Domainpart() != c.o.Domain.String() {
		c.malformed(stanza.IQ{From: from}, "iq", errors.New("not addressed to us"))
		return
	}
	iq := stanza.IQ{ID: e.Attr("id"), Type: stanza.IQType(e.Attr("type")), From: from, To: to.JID}
	switch iq.Type {
	case stanza.ResultIQ, stanza.ErrorIQ:
		c.respell(e)
		if !s.Answer(e.Stanza) && iq.Type == stanza.ErrorIQ {
			c.counts.happened(EventUnasked)
			c.say(zap.DebugLevel, "an error that answers nothing", string(EventUnasked), from, zap.Stringer("from", from))
		}
	case stanza.GetIQ, stanza.SetIQ:
		c.enqueue(q, iq, e)
	default:
		c.malformed(iq, "iq", errors.New("an IQ of no known type"))
	}
}

// enqueue queues an IQ of type get or set, or its refusal.
func (c *Component) enqueue(q *queue, iq stanza.IQ, e *envelope) {
	fault, reason := e.Fault, auth.ReasonRequestMalformed
	if fault == nil && len(e.Raw) > maxRequest {
		fault = stream.ErrTooLarge
	}
	if c.stopping.Load() {
		if fault == nil {
			reason = auth.ReasonStopping
		}
		c.refuse(iq, reason, fault)
		return
	}
	sender := iq.From.Bare().String()
	if fault == nil {
		in := incoming{iq: iq, body: e.Body, at: time.Now()}
		reason, fault = auth.ReasonTooManyRequests, q.push(sender, func(ctx context.Context) { c.handle(ctx, in) })
	}
	if fault != nil && !q.refuse(sender, len(iq.ID)+len(e.wrote), func() { c.refuse(iq, reason, fault) }) {
		c.counts.happened(EventNotAnswered)
	}
}

// respell makes the sender of a stanza the room that the MUC service knows. Jitsi's mod_muc_domain_mapper writes the rooms of
// tenants as their clients spell them on all that goes to a component.
func (c *Component) respell(e *envelope) {
	if !c.policy.Load().OfTenant(e.from.Domainpart()) {
		return
	}
	room, err := c.policy.Load().Room(e.from.Bare().String())
	if err != nil {
		return
	}
	address := room.String()
	if nick := e.from.Resourcepart(); nick != "" {
		address += "/" + nick
	}
	its, err := jid.ParseUnsafe(address)
	if err != nil {
		return
	}
	e.from = its
	for i := range e.Start.Attr {
		if e.Start.Attr[i].Name.Local == "from" && e.Start.Attr[i].Name.Space == "" {
			e.Start.Attr[i].Value = address
		}
	}
}

// incoming is an IQ of type get or set.
type incoming struct {
	iq   stanza.IQ
	body *xml.Decoder // reads what follows the IQ's start tag
	at   time.Time    // when it came
}

// handle hands the payload of an IQ to its handler, when it is its sender's turn.
func (c *Component) handle(ctx context.Context, in incoming) {
	iq, r := in.iq, c.byIQ(in.iq)
	defer c.recovers(r)
	ctx, cancel := context.WithDeadline(ctx, in.at.Add(c.requestTimeout))
	defer cancel()

	d := in.body
	payload, err := stream.Payload(d)
	if err != nil {
		c.malformed(iq, "iq", err)
		return
	}
	jicofo := c.mode.passesTo(payload.Name)
	set, get, noNode := iq.Type == stanza.SetIQ, iq.Type == stanza.GetIQ, element.Attr(payload, "node") == ""
	switch name := payload.Name; {
	case !iq.To.Equal(c.o.Domain):
		err = c.notUnderstood(iq)
	case set && name == focus.Name:
		r.came = in.at
		c.conference(ctx, r, payload, d)
	case set && name == focus.LogoutName:
		err = c.logout(ctx, in, payload, d)
	case jicofo != nil && c.policy.Load().Knows(iq.From):
		err = c.pass(ctx, jicofo, in, payload, d)
	case get && noNode && name == xml.Name{Space: disco.NSInfo, Local: "query"}:
		err = c.Send(iq.Result(discoInfo.TokenReader()))
	case get && noNode && name == xml.Name{Space: disco.NSItems, Local: "query"}:
		err = c.Send(iq.Result(disco.ItemsQuery{}.TokenReader()))
	case get && name == xml.Name{Space: ping.NS, Local: "ping"}:
		err = c.Send(iq.Result(nil))
	case get && name == xml.Name{Space: version.NS, Local: "query"}:
		err = c.Send(iq.Result(version.Query{Name: "usher", Version: c.o.Version}.TokenReader()))
	default:
		err = c.notUnderstood(iq)
	}
	c.unsent(r, err)
}

// discoInfo is what usher is (XEP-0030) and what it understands.
var discoInfo = disco.Info{
	Identity: []info.Identity{{Category: "component", Type: "generic", Name: "usher"}},
	Features: []info.Feature{{Var: disco.NSInfo}, {Var: disco.NSItems}, {Var: ping.NS}, {Var: version.NS}, {Var: focus.NS}},
}

// notUnderstood answers an IQ with a payload that usher does not know (RFC 6120 §8.4).
func (c *Component) notUnderstood(iq stanza.IQ) error {
	c.counts.happened(EventNotUnderstood)
	return c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}))
}

// logout ends a session. The session's id is all that it takes.
func (c *Component) logout(ctx context.Context, in incoming, payload xml.StartElement, d *xml.Decoder) error {
	iq := in.iq
	id, err := focus.ParseLogout(payload, d)
	if err == nil {
		err = stream.End(d)
	}
	if err != nil {
		c.malformed(iq, "iq", err)
		return nil
	}
	if _, err = c.sessions.Session(ctx, id); err == nil {
		err = c.sessions.End(ctx, id)
	}
	switch {
	case err == nil:
		c.counts.happened(EventLogout)
		return c.Send(focus.LoggedOut(iq))
	case errors.Is(err, auth.ErrNoSession):
		c.answer(c.byIQ(iq), auth.Decision{}.Denied(auth.ReasonSessionInvalid, nil), nil)
		return nil
	}
	c.say(zap.WarnLevel, "could not end a session", string(auth.ReasonStoreUnavailable), iq.From, zap.Stringer("from", iq.From), zap.Error(err))
	return c.Send(iq.Error(stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError}))
}
