package component

import (
	"context"
	"encoding/xml"
	"errors"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/muc"
)

// mode is how decisions become true: ownFocus where usher is the focus itself, beforeJicofo where Jicofo is.
type mode interface {
	lifecycle
	// look asks for what the rules need to know of a room. It is an auth.Look.
	look(ctx context.Context, req auth.Request, room auth.Room) (auth.RoomState, error)
	// apply makes a decision to let somebody in true in the room. It returns what has become of the decision, and Jicofo's answer
	// where Jicofo was asked.
	apply(ctx context.Context, r *request, d auth.Decision) (auth.Decision, *focus.Answer)
	// Await watches the room for a host until then, and tells Component.arrived of one.
	Await(room jid.JID, until time.Time)
	conferenceRooms
	// Remove puts somebody out of a room, with a reason that they read. See muc.Rooms and muc.Guard.
	Remove(ctx context.Context, room, who jid.JID, reason string) error
	// News takes in what usher's module told. It is a muc.ToldOptions.News.
	News(muc.News)
	// hears takes in a presence or message, and returns the fault that remains: the stanza's own, or what went wrong.
	hears(e *envelope) error
	// passesTo returns the way to Jicofo if an IQ with this payload is to be passed on, else nil.
	passesTo(payload xml.Name) *relay
	// seek looks for Jicofo, at the beginning of a connection and from time to time.
	seek()
}

// lifecycle is what happens to rooms from process to process and from connection to connection. See muc.Rooms and muc.Guard.
type lifecycle interface {
	Restore([]*muc.Grant)
	Resume(ctx context.Context, rooms []jid.JID, services ...jid.JID)
	Run(ctx context.Context)
	Leave(ctx context.Context, next bool)
	Reset() []jid.JID
}

// setMode makes the mode that the options ask for, and the probes.
func (c *Component) setMode() error {
	owner := muc.Owner{Session: c}
	var err error
	if owner.JID, err = c.o.Domain.WithLocal(muc.Nick); err != nil {
		return err
	}
	c.told = muc.NewTold(muc.ToldOptions{
		Session: c, From: owner.JID, Mirror: !c.o.Jicofo.Equal(jid.JID{}), Expected: !c.o.MembersOnly,
		News: func(n muc.News) { c.mode.News(n) }, Warn: c.warn,
		Room: func(address string) (jid.JID, error) { return c.policy.Load().Room(address) },
	})
	c.told.Use(c.policy.Load().telling())
	owner.Told = c.told
	c.probes = make(map[string]*probe)
	if c.stranger, err = newStranger(owner); err != nil {
		return err
	}
	c.listens(c.stranger.probe)
	options := muc.Options{
		Owner:         owner,
		Configuration: muc.Configuration{MembersOnly: c.o.MembersOnly},
		Hosts:         func(domain string) bool { return c.policy.Load().CountsAsHost(domain) },
		Arrived:       c.arrived,
		Ledger:        c.ledger,
		Now:           c.o.Now,
		Removed:       c.kicked,
		Ended:         c.roomEnded,
		Sees:          c.sees,
		Warn:          c.warn,
	}
	if !c.o.MembersOnly {
		options.Try = c.stranger.tries
	}
	r := rights{told: c.told, sessions: c.sessions, ledger: c.ledger, conferences: c.conferences, lobby: noLobby{}}
	if !c.o.Lobby.Equal(jid.JID{}) {
		options.Lobby = muc.NewLobby(owner, c.o.Lobby)
		r.lobby = options.Lobby
	}
	if c.o.Jicofo.Equal(jid.JID{}) {
		own := &ownFocus{Rooms: muc.NewRooms(options), tends: c.tends}
		r.rooms = own.Rooms
		own.rights = r
		c.mode = own
		c.conferences.rooms = own
		return nil
	}
	c.requestTimeout = relayedTimeout
	before, err := c.newBeforeJicofo(options, r)
	c.mode, c.conferences.rooms = before, before
	return err
}

// listens has the probes hear what is sent to them.
func (c *Component) listens(probes ...*probe) {
	for _, p := range probes {
		c.probes[p.jid.String()] = p
	}
}

// warn logs what went wrong in a room while nobody waited for it.
func (c *Component) warn(room jid.JID, what string, err error) {
	if errors.Is(err, stream.ErrDisconnected) {
		return // logged once, as the end of the connection
	}
	c.o.Log.Warn(what, zap.Stringer("room", room), zap.Error(err), c.hint(err))
}

// ownFocus is the mode without a Jicofo: usher is the focus of its rooms, and an occupant of each.
type ownFocus struct {
	*muc.Rooms
	rights rights
	tends  func(service string) bool
}

func (m *ownFocus) look(ctx context.Context, req auth.Request, room auth.Room) (auth.RoomState, error) {
	return m.rights.look(ctx, req, room)
}

func (m *ownFocus) apply(ctx context.Context, r *request, d auth.Decision) (auth.Decision, *focus.Answer) {
	return m.rights.give(ctx, r, d), nil
}

// hears takes in what rooms say, also what is too large or too deep: clients can make their presence so, and must not vanish from
// sight by that.
func (m *ownFocus) hears(e *envelope) error {
	if !m.tends(e.from.Domainpart()) {
		return e.Fault
	}
	in := m.Presence
	if e.Start.Name.Local == "message" {
		in = m.Message
	}
	if err := in(e.Start, e.Body); err != nil {
		return errors.Join(e.Fault, err)
	}
	return nil
}

func (m *ownFocus) passesTo(xml.Name) *relay { return nil }

func (m *ownFocus) seek() {}
