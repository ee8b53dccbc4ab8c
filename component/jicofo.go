package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
)

var (
	errFocusNotReady = errors.New("not ready yet, says Jicofo")

	errFocusAuthenticates = errors.New("refused by Jicofo, which authenticates people itself, and so decides who may open a room: " +
		"take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)")
)

// beforeJicofo is the mode with a Jicofo: it asks Jicofo to open the room, and then gives rights there from outside. usher is an
// occupant of no room.
type beforeJicofo struct {
	*muc.Guard
	rights       rights
	relay        *relay
	mapper       *mapper
	breakouts    *breakouts
	rules        func() *policy
	forwardToken bool
}

func (c *Component) newBeforeJicofo(options muc.Options, r rights) (*beforeJicofo, error) {
	m := &beforeJicofo{
		Guard: muc.NewGuard(muc.GuardOptions{
			Options: options, Focus: c.o.Jicofo, Interval: c.o.GuardInterval, EnforceRoles: c.o.EnforceRoles,
			Room:      func(address string) (jid.JID, error) { return c.policy.Load().Room(address) },
			Breakouts: func() bool { return c.policy.Load().HasBreakouts() },
			Bans:      c.barsKicked,
			Watch:     c.o.Report != nil,
		}),
		rights:       r,
		relay:        &relay{session: c, domain: c.o.Domain, focus: c.o.Jicofo, log: c.o.Log, timeout: relayTimeout},
		rules:        c.policy.Load,
		forwardToken: c.o.ForwardToken,
	}
	m.rights.rooms = m.Guard
	var err error
	if m.mapper, err = newMapper(options.Owner, c.repeats); err != nil {
		return nil, err
	}
	if m.breakouts, err = newBreakouts(options.Owner); err != nil {
		return nil, err
	}
	c.listens(m.mapper.probe, m.breakouts.probe)
	return m, nil
}

// Reset forgets what counted for the stream that ended.
func (m *beforeJicofo) Reset() []jid.JID {
	m.relay.reset()
	m.mapper.reset()
	return m.Guard.Reset()
}

// look asks the room. A breakout room may not be there yet, so of it only the sender's grants count.
func (m *beforeJicofo) look(ctx context.Context, req auth.Request, room auth.Room) (s auth.RoomState, err error) {
	if m.rules().IsBreakout(room) {
		s.HasGrant, err = m.MayBeIn(ctx, jid.JID{}, req.From)
		return s, err
	}
	return m.rights.look(ctx, req, room)
}

// apply asks Jicofo to open the room, and then makes the decision true in it.
func (m *beforeJicofo) apply(ctx context.Context, r *request, d auth.Decision) (auth.Decision, *focus.Answer) {
	room, err := m.mapper.address(ctx, d.Room, r.conf.Room, m.rules().Spelled)
	if err != nil {
		return d.Denied(auth.ReasonRoomUnknown, err), nil
	}
	end, err := m.turn(ctx, d)
	if err != nil {
		return d.Denied(auth.ReasonFocusUnavailable, err), nil
	}
	silent := false
	defer func() { end(silent) }()
	if d.Breakout {
		// After any other error Jicofo is asked: it will know.
		if err := m.breakouts.tries(ctx, d.Room.JID); errors.Is(err, errRemoved) {
			return d.Denied(auth.ReasonRoomRemoved, err), nil
		}
	}
	said, err := m.forward(ctx, r, room)
	silent = errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil // and not because this request's own time is over
	switch d = m.heed(d, said, err); {
	case d.Verdict != auth.Allow:
		return d, said
	case said.Redirects():
		d.Affiliation = auth.None // they enter another node's room, so they get nothing here
		return d, said
	case d.Breakout:
		return m.enterBreakout(ctx, r.from, d), said
	}
	if d = m.rights.give(ctx, r, d); d.Verdict == auth.Allow && d.Reason == auth.ReasonHost {
		m.Expect(d.Room.JID)
	}
	return d, said
}

// turn returns when it is the request's turn to have the room opened; the caller calls end afterwards, see relay.begin. A room
// with Jicofo inside is open, so nobody has to wait for a turn there. Breakout rooms always have turns, for breakouts.tries.
func (m *beforeJicofo) turn(ctx context.Context, d auth.Decision) (end func(silent bool), err error) {
	open := func() bool { return !d.Breakout && m.Attended(d.Room.JID) }
	none := func(bool) {}
	if open() {
		return none, nil
	}
	if end, err = m.relay.begin(ctx, d.Room.JID); err == nil && open() {
		end(false) // somebody else's turn has opened it
		return none, nil
	}
	return end, err
}

// forward asks Jicofo to open the room, or to say that it is open. The room is spelled as Jicofo knows it.
func (m *beforeJicofo) forward(ctx context.Context, r *request, room string) (*focus.Answer, error) {
	var said focus.Answer
	iq := stanza.IQ{Type: stanza.SetIQ, From: r.from}
	err := m.relay.ask(ctx, iq, func() xml.TokenReader { return focus.Forward(r.conf, room, m.forwardToken) }, &said)
	if err != nil {
		return nil, err
	}
	return &said, nil
}

// heed turns the decision into what Jicofo's answer, or its silence, leaves of it.
func (m *beforeJicofo) heed(d auth.Decision, said *focus.Answer, err error) auth.Decision {
	var refused stanza.Error
	switch {
	case errors.Is(err, stanza.Error{Condition: stanza.NotAuthorized}):
		// ConferenceIqHandler.kt: Jicofo answers so only where it authenticates, and does not know who asks.
		m.SetAuthenticates(true)
		return d.Denied(auth.ReasonFocusRefused, fmt.Errorf("%w: %w", errFocusAuthenticates, err))
	case errors.As(err, &refused):
		return d.Denied(auth.ReasonFocusRefused, err)
	case errors.Is(err, errNotForwarded):
		return d.Denied(auth.ReasonRequestMalformed, err)
	case err != nil:
		return d.Denied(auth.ReasonFocusUnavailable, err)
	}
	m.SetAuthenticates(said.Authenticates())
	if !said.Ready {
		return d.Denied(auth.ReasonFocusUnavailable, errFocusNotReady)
	}
	return d
}

// enterBreakout checks that the sender holds a grant in the main room of a breakout room. The breakout room names its main room
// once Jicofo has entered it. Its affiliations are those of the main room, so there is nothing to give.
func (m *beforeJicofo) enterBreakout(ctx context.Context, from jid.JID, d auth.Decision) auth.Decision {
	main, err := m.Main(ctx, d.Room.JID)
	lets := false
	if err == nil && m.rules().Guards(main.Domainpart()) {
		lets, err = m.MayBeIn(ctx, main, from)
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

// hears takes in Jicofo's presence. Rooms tell nothing to a component that is no occupant.
func (m *beforeJicofo) hears(e *envelope) error {
	if e.Fault != nil || e.Start.Name.Local != "presence" || !e.from.Bare().Equal(m.relay.focus) {
		return e.Fault
	}
	return m.relay.hears(e.from.JID, stanza.PresenceType(e.Attr("type")))
}

// jitsi is the beginning of the namespaces in which clients talk to Jicofo.
const jitsi = "http://jitsi.org/"

func (m *beforeJicofo) passesTo(payload xml.Name) *relay {
	if strings.HasPrefix(payload.Space, jitsi) && payload != focus.Name && payload != focus.LogoutName {
		return m.relay
	}
	return nil
}

func (m *beforeJicofo) seek() { m.relay.seek() }
