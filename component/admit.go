package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/disco/info"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/version"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// incoming is an IQ of type get or set that waits for its answer.
type incoming struct {
	iq   stanza.IQ
	raw  []byte
	at   time.Time // when it came, or when it was decided to decide it again
	held *waiter   // not nil if it was held, and is decided for the last time
}

// admit decides one conference request and makes the decision true in the room. Only then may it be told. What Jicofo said,
// if it was asked, is part of what is told.
func (c *Component) admit(ctx context.Context, req auth.Request, iq stanza.IQ, conf focus.Conference) (auth.Decision, *focus.Answer) {
	d := c.policy.Load().Authorize(ctx, req, c.look)
	if d.Verdict != auth.Allow {
		return d, nil
	}
	if c.relay == nil {
		return c.apply(ctx, req, d), nil
	}
	return c.relayed(ctx, req, iq, conf, d)
}

// look asks the room what the rules want to know.
func (c *Component) look(ctx context.Context, req auth.Request, room auth.Room) (s auth.RoomState, err error) {
	if c.policy.Load().IsBreakout(room) {
		if c.guard != nil {
			s.HasGrant, err = c.guard.MayBeIn(ctx, jid.JID{}, req.From)
		}
		return s, err
	}
	if s.Exists, s.HostPresent, err = c.rooms.State(ctx, room.JID); err != nil || !s.Exists || c.lobby == nil {
		return s, err
	}
	s.Lobby, err = c.lobby.At(ctx, room.JID)
	return s, err
}

// relayed has Jicofo open the room, and then makes the decision true in it.
func (c *Component) relayed(ctx context.Context, req auth.Request, iq stanza.IQ, conf focus.Conference, d auth.Decision) (auth.Decision, *focus.Answer) {
	room := d.Room.JID
	spelled, err := c.mapper.address(ctx, d.Room, conf.Room, c.policy.Load().Spelled)
	if err != nil {
		return d.Denied(auth.ReasonRoomUnknown, err), nil
	}
	silent, end := false, func(bool) {}
	if d.Breakout || !c.guard.Attended(room) {
		if end, err = c.relay.begin(ctx, room); err != nil {
			return d.Denied(auth.ReasonFocusUnavailable, err), nil
		}
		if !d.Breakout && c.guard.Attended(room) {
			end(false)
			end = func(bool) {}
		}
	}
	defer func() { end(silent) }()
	if d.Breakout {
		// What cannot be found out Jicofo will know.
		if err := c.breakouts.tries(ctx, room); errors.Is(err, errRemoved) {
			return d.Denied(auth.ReasonRoomRemoved, err), nil
		}
	}
	said, err := c.forward(ctx, iq, conf, spelled)
	silent = errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil // and not because this request's own time is over
	var refused stanza.Error
	if err == nil {
		c.guard.SetAuthenticates(said.Authenticates())
	}
	switch {
	case isNotAuthorized(err):
		// ConferenceIqHandler.kt: so Jicofo answers only where it authenticates, and does not know the one who asks.
		c.guard.SetAuthenticates(true)
		return d.Denied(auth.ReasonFocusRefused, fmt.Errorf("%w: %w", errFocusAuthenticates, err)), nil
	case errors.As(err, &refused):
		return d.Denied(auth.ReasonFocusRefused, err), nil
	case errors.Is(err, errNotForwarded):
		return d.Denied(auth.ReasonRequestMalformed, err), nil
	case err != nil:
		return d.Denied(auth.ReasonFocusUnavailable, err), nil
	case !said.Ready:
		return d.Denied(auth.ReasonFocusUnavailable, errFocusNotReady), said
	case said.Redirects():
		d.Affiliation = auth.None // they enter elsewhere, and nothing here
		return d, said
	}
	if d.Breakout {
		return c.enterBreakout(ctx, req, d), said
	}
	return c.apply(ctx, req, d), said
}

// enterBreakout checks that the main room of a breakout room, which it has named since Jicofo has entered it, is one in which
// the sender holds a grant. Its affiliations are those of the main room, so there is nothing to give.
func (c *Component) enterBreakout(ctx context.Context, req auth.Request, d auth.Decision) auth.Decision {
	main, err := c.guard.Main(ctx, d.Room.JID)
	lets := false
	if err == nil && c.policy.Load().Guards(main.Domainpart()) {
		lets, err = c.guard.MayBeIn(ctx, main, req.From)
	}
	switch {
	case errors.Is(err, muc.ErrUnwritten):
		return d.Denied(auth.ReasonStoreUnavailable, err)
	case err != nil:
		return d.Denied(auth.ReasonRoomUnavailable, err)
	case !lets:
		return d.Denied(auth.ReasonRoomMismatch, nil)
	}
	return d
}

// apply makes a decision true in the room.
func (c *Component) apply(ctx context.Context, req auth.Request, d auth.Decision) auth.Decision {
	room, who := d.Room.JID, req.From.Bare()
	var s *session
	if d.Session != nil {
		var err error
		if s, err = c.begin(*d.Session); err != nil {
			return d.Denied(auth.ReasonStoreUnavailable, err)
		}
	}
	err := c.rooms.Open(ctx, room, d.MayCreate)
	if err == nil && d.StartLobby && c.lobby != nil {
		err = c.startLobby(ctx, room)
	}
	if err == nil && d.Affiliation != auth.None {
		err = c.rooms.Grant(ctx, muc.Grant{
			Room: room, Who: who, Affiliation: string(d.Affiliation), Expires: d.Expires, NeedsHost: d.NeedsHost, With: s,
		})
	}
	if err == nil && d.Affiliation == auth.None {
		// What they were given before the lobby was at work would have them pass it.
		err = c.rooms.LeaveToLobby(ctx, room, who)
	}
	if err == nil && s != nil {
		if d.SessionID, err = c.ledger.session(ctx, s); err != nil {
			if d.Affiliation != auth.None {
				c.rooms.Withdraw(room, who)
			}
			return d.Denied(auth.ReasonStoreUnavailable, err)
		}
	}
	switch {
	case errors.Is(err, muc.ErrUnwritten):
		return d.Denied(auth.ReasonStoreUnavailable, err)
	case errors.Is(err, muc.ErrOutcast):
		return d.Denied(auth.ReasonBanned, nil)
	case errors.Is(err, muc.ErrAbsent) && !d.MayCreate:
		return d.Waiting(auth.ReasonHostAbsent)
	case err != nil:
		return d.Denied(auth.ReasonRoomUnavailable, err)
	case !d.NeedsHost:
		return d
	}
	// Has the host left between the decision and now? Everything that the server did before the answer to the grant is
	// part of what the room says now, so this is how it was when the affiliation was given.
	host, err := c.rooms.HostPresent(ctx, room)
	if err == nil && host {
		return d
	}
	if d.Affiliation != auth.None {
		c.rooms.Withdraw(room, who)
	}
	if err != nil {
		return d.Denied(auth.ReasonRoomUnavailable, err)
	}
	return d.Waiting(auth.ReasonHostAbsent)
}

// begin begins a session, which still is to be written down.
func (c *Component) begin(began auth.Session) (s *session, err error) {
	s = &session{}
	s.id, s.record, err = c.sessions.Begin(began)
	return s, err
}

// startLobby turns the lobby on with the first host. Later it is for the hosts to turn it off, and on again.
func (c *Component) startLobby(ctx context.Context, room jid.JID) error {
	host, err := c.rooms.HostPresent(ctx, room)
	if err != nil || host {
		return err
	}
	if at, err := c.lobby.At(ctx, room); err != nil || at {
		return err
	}
	return c.lobby.Start(ctx, room)
}

// conference answers a conference request, or holds it.
func (c *Component) conference(ctx context.Context, in incoming, payload xml.StartElement, d *xml.Decoder) {
	decision := auth.Decision{NoLogin: c.policy.Load().NoLogin()}
	var said *focus.Answer
	conf, err := focus.Parse(payload, d)
	if err == nil {
		err = stream.End(d)
	}
	switch {
	case err != nil:
		decision = decision.Denied(auth.ReasonRequestMalformed, err)
	case c.stopping.Load():
		decision = decision.Denied(auth.ReasonStopping, nil)
	case ctx.Err() != nil:
		decision = decision.Denied(auth.ReasonRoomUnavailable, errLate)
	default:
		decision, said = c.admit(ctx, auth.Request{
			At: c.o.Now(), From: in.iq.From, Room: conf.Room,
			Token: conf.Token, SessionID: conf.SessionID, MachineUID: conf.MachineUID,
		}, in.iq, conf)
		if decision.Err != nil && errors.Is(context.Cause(ctx), errGaveWay) {
			decision.Err = fmt.Errorf("%w: %w", errGaveWay, decision.Err)
		}
	}
	if in.held == nil && c.wait(ctx, in, conf, decision) {
		return
	}
	decision, sent := c.answer(in.iq, conf, decision, said, in.held)
	if in.held != nil && sent {
		c.strike(ctx, in.held)
	}
	if decision.Verdict == auth.Allow && decision.Reason == auth.ReasonHost {
		c.rooms.Expect(decision.Room.JID)
	}
	c.decided(in.iq, decision, time.Since(in.at))
	if decision.Verdict == auth.Allow {
		c.admitted(ctx, in, conf, decision, said)
	}
}

// answer tells the client what was decided, and returns what became of that, and whether it was sent. What there is no
// connection for now is owed: a client that hears nothing would wait for ever. r is the request if it was held.
func (c *Component) answer(iq stanza.IQ, conf focus.Conference, d auth.Decision, said *focus.Answer, r *waiter) (_ auth.Decision, sent bool) {
	d, err := c.tell(iq, conf, d, said)
	if err == nil {
		return d, true
	}
	if d.Verdict == auth.Allow {
		d = d.Denied(auth.ReasonRoomUnavailable, err)
	}
	switch {
	case !later(err):
	case r == nil:
		c.owe(iq, conf.Room, d)
	default:
		r.d, r.decided = d, true
		c.held.owe(r)
	}
	return d, false
}

// logout ends a session. Whoever has its id may.
func (c *Component) logout(ctx context.Context, iq stanza.IQ, payload xml.StartElement, d *xml.Decoder) error {
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
	var decision auth.Decision
	switch {
	case err == nil:
		c.counts.add("logout")
		return c.Send(focus.LoggedOut(iq))
	case errors.Is(err, auth.ErrNoSession):
		decision = decision.Denied(auth.ReasonSessionInvalid, nil)
	default:
		c.say(zap.WarnLevel, "a session could not be ended", string(auth.ReasonStoreUnavailable), iq.From, zap.Stringer("from", iq.From), zap.Error(err))
		return c.Send(iq.Error(stanza.Error{Type: stanza.Wait, Condition: stanza.InternalServerError}))
	}
	c.answer(iq, focus.Conference{}, decision, nil, nil)
	return nil
}

// errLate means that a request has waited so long for its turn that its client shall rather ask again.
var errLate = errors.New("too many requests are waiting")

// decided counts and logs a decision, once, after the fact.
func (c *Component) decided(iq stanza.IQ, d auth.Decision, took time.Duration) {
	c.counts.add(string(d.Reason))
	fields := []zap.Field{
		zap.Stringer("verdict", d.Verdict),
		zap.String("reason", string(d.Reason)),
		zap.String("room", d.Room.JID.String()),
		zap.String("from", iq.From.String()),
		zap.Duration("took", took),
	}
	if d.Verdict == auth.Allow {
		fields = append(fields, zap.String("affiliation", string(d.Affiliation)))
	}
	for _, f := range []struct{ key, value string }{{"iss", d.Token.Issuer}, {"jti", d.Token.ID}, {"kid", d.Token.KeyID}} {
		if f.value != "" {
			fields = append(fields, zap.String(f.key, f.value))
		}
	}
	if len(d.Notes) > 0 {
		c.say(zap.DebugLevel, "the token has claims that decided nothing and are odd", string(d.Reason), iq.From,
			append(slices.Clip(fields), zap.Strings("notes", d.Notes))...)
	}
	if d.Err != nil {
		fields = append(fields, zap.Error(d.Err), hint(d.Err))
	}
	level := zap.InfoLevel
	if d.Reason.Row().Level == auth.LevelWarn {
		level = zap.WarnLevel
	}
	if d.Verdict == auth.Deny {
		c.say(level, "request", string(d.Reason), iq.From, fields...)
		return
	}
	c.o.Log.Log(level, "request", fields...)
}

// say logs a line that a sender can cause as often as it likes; see repeats.
func (c *Component) say(level zapcore.Level, what, reason string, from jid.JID, fields ...zap.Field) {
	vhost := ""
	if c.policy.Load().Knows(from) {
		vhost = from.Domainpart()
	}
	c.repeats.say(level, what, reason, vhost, from, fields...)
}

// request answers one IQ of type get or set. It is what workers do.
func (c *Component) request(ctx context.Context, in incoming) {
	iq := in.iq
	defer func() {
		if p := recover(); p != nil {
			c.panicked(p, "request")
			c.unsent(iq, c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.InternalServerError})))
		}
	}()
	deadline := in.at.Add(c.requestTimeout)
	if in.held != nil {
		if last := in.held.at.Add(in.held.hold + afterHold); last.Before(deadline) {
			deadline = last
		}
	}
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()

	_, d, err := stream.Open(in.raw)
	if err != nil {
		c.malformed(iq, "iq", err)
		return
	}
	payload, err := stream.Payload(d)
	if err != nil {
		c.malformed(iq, "iq", err)
		return
	}
	ours := iq.To.Equal(c.o.Domain)
	switch {
	case ours && iq.Type == stanza.SetIQ && payload.Name == focus.Name:
		c.conference(ctx, in, payload, d)
		return
	case ours && iq.Type == stanza.SetIQ && payload.Name == focus.LogoutName:
		err = c.logout(ctx, iq, payload, d)
	case ours && c.relay != nil && strings.HasPrefix(payload.Name.Space, jitsi) && payload.Name != focus.Name &&
		payload.Name != focus.LogoutName && c.policy.Load().Knows(iq.From):
		err = c.pass(ctx, iq, payload, d)
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: disco.NSInfo, Local: "query"} && element.Attr(payload, "node") == "":
		err = c.Send(iq.Result(discoInfo.TokenReader()))
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: disco.NSItems, Local: "query"} && element.Attr(payload, "node") == "":
		err = c.Send(iq.Result(disco.ItemsQuery{}.TokenReader()))
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: ping.NS, Local: "ping"}:
		err = c.Send(iq.Result(nil))
	case ours && iq.Type == stanza.GetIQ && payload.Name == xml.Name{Space: version.NS, Local: "query"}:
		err = c.Send(iq.Result(version.Query{Name: "usher", Version: c.o.Version}.TokenReader()))
	default:
		// RFC 6120 §8.4: an IQ of type get or set that is not understood.
		c.counts.add("service-unavailable")
		err = c.Send(iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}))
	}
	c.unsent(iq, err)
}

// unsent sees to an answer that could not be sent to an IQ that is no conference request: that client waits, too.
func (c *Component) unsent(iq stanza.IQ, err error) {
	if err != nil {
		c.say(zap.WarnLevel, "an answer could not be sent", unsent, iq.From, zap.Stringer("to", iq.From), zap.Error(err))
	}
	if later(err) {
		c.owe(iq, "", auth.Decision{}.Denied(auth.ReasonStopping, nil))
	}
}

// discoInfo is what we are (XEP-0030) and what we understand.
var discoInfo = disco.Info{
	Identity: []info.Identity{{Category: "component", Type: "generic", Name: "usher"}},
	Features: []info.Feature{{Var: disco.NSInfo}, {Var: disco.NSItems}, {Var: ping.NS}, {Var: version.NS}, {Var: focus.NS}},
}

// unsent, unasked and panicked are the reasons in the log of what is no decision.
const unsent, unasked, panicked = "unsent", "unasked-error", "panic"

// jitsi is what the namespaces begin with in which clients talk to Jicofo.
const jitsi = "http://jitsi.org/"

// refuse answers a request that is not even looked at.
func (c *Component) refuse(iq stanza.IQ, reason auth.Reason, err error) {
	d := auth.Decision{}.Denied(reason, err)
	c.answer(iq, focus.Conference{}, d, nil, nil)
	c.decided(iq, d, 0)
}

// malformed counts and logs what could not be understood, and answers it where RFC 6120 §8.2.3 wants an answer: an IQ of
// type get or set.
func (c *Component) malformed(iq stanza.IQ, what string, err error) {
	if iq.Type == stanza.GetIQ || iq.Type == stanza.SetIQ {
		c.refuse(iq, auth.ReasonRequestMalformed, err)
		return
	}
	c.counts.add(string(auth.ReasonRequestMalformed))
	c.say(zap.InfoLevel, "stanza dropped", string(auth.ReasonRequestMalformed), iq.From, zap.String("reason", string(auth.ReasonRequestMalformed)),
		zap.String("stanza", what), zap.String("from", iq.From.String()), zap.Error(err))
}
