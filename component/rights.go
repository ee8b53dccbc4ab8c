package component

import (
	"context"
	"errors"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

// rooms is what it takes to give and take rights: *muc.Rooms or *muc.Guard.
type rooms interface {
	State(ctx context.Context, room jid.JID) (exists, host bool, err error)
	HostPresent(ctx context.Context, room jid.JID) (bool, error)
	Open(ctx context.Context, room jid.JID, mayCreate bool) error
	Grant(ctx context.Context, g muc.Grant) error
	Withdraw(room, who jid.JID)
	LeaveToLobby(ctx context.Context, room, who jid.JID) error
}

// lobby is the service of the rooms' lobbies: a *muc.Lobby, or noLobby.
type lobby interface {
	At(ctx context.Context, room jid.JID) (bool, error)
	Start(ctx context.Context, room jid.JID) error
}

// noLobby is the lobby service where there is none: no room has a lobby.
type noLobby struct{}

func (noLobby) At(context.Context, jid.JID) (bool, error) { return false, nil }
func (noLobby) Start(context.Context, jid.JID) error      { return nil }

// rights gives people their rights in rooms that are open, or that they may open.
type rights struct {
	rooms       rooms
	told        *muc.Told
	lobby       lobby
	sessions    store.Sessions
	ledger      *ledger
	conferences *conferences
}

// look asks the room and its lobby, and adds what is remembered of the conference there.
func (g rights) look(ctx context.Context, req auth.Request, room auth.Room) (s auth.RoomState, err error) {
	if s.Exists, s.HostPresent, err = g.rooms.State(ctx, room.JID); err != nil {
		return s, err
	}
	if s.Exists {
		s.Lobby, err = g.lobby.At(ctx, room.JID)
	}
	return g.conferences.state(req, room, s), err
}

// give makes a decision true in the room: it opens the room, and sets the affiliation once grant and session are written down.
func (g rights) give(ctx context.Context, r *request, d auth.Decision) auth.Decision {
	room, who := d.Room.JID, r.from.Bare()
	var began *session
	err := g.rooms.Open(ctx, room, d.MayCreate)
	if err == nil && d.StartLobby {
		err = g.startLobby(ctx, room)
	}
	if err == nil && d.Session != nil {
		if began, err = g.begin(*d.Session); err != nil {
			return d.Denied(auth.ReasonStoreUnavailable, err)
		}
	}
	takes := g.told.Takes(room.Domainpart())
	if err == nil {
		err = g.affiliate(ctx, r, d, began)
	}
	if err == nil && began != nil {
		if d.SessionID, err = g.ledger.session(ctx, began); err != nil {
			g.takeBack(room, who, d)
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
	case d.NeedsHost:
		d = g.whileHosted(ctx, room, who, d)
	}
	if d.Verdict == auth.Allow && (d.Affiliation == auth.None || !takes) {
		d = g.tellPlugins(r.from, d)
	}
	return d
}

// begin begins a session, which is still to be written down.
func (g rights) begin(began auth.Session) (s *session, err error) {
	s = &session{}
	s.id, s.record, err = g.sessions.Begin(began)
	return s, err
}

// tellPlugins has usher's module put what the decision says into the person's session, where nothing is given by which the module would, or
// it was not yet known whether the server has the module. That is done before they hear the answer, because both go the same way.
func (g rights) tellPlugins(session jid.JID, d auth.Decision) auth.Decision {
	_, err := g.told.Give(muc.Given{Room: d.Room.JID, Who: session.Bare(), Context: forPlugins(session, d)})
	if err != nil {
		g.takeBack(d.Room.JID, session.Bare(), d)
		return d.Denied(auth.ReasonRoomUnavailable, err)
	}
	return d
}

// affiliate grants the decision's affiliation. Where that is none the lobby decides, so what the person was given before the
// lobby was at work is taken back: they would pass the lobby with it.
func (g rights) affiliate(ctx context.Context, r *request, d auth.Decision, began *session) error {
	if d.Affiliation == auth.None {
		return g.rooms.LeaveToLobby(ctx, d.Room.JID, r.from.Bare())
	}
	return g.rooms.Grant(ctx, muc.Grant{
		Room: d.Room.JID, Who: r.from.Bare(), Affiliation: string(d.Affiliation), Expires: d.Expires, NeedsHost: d.NeedsHost,
		By: r.by, With: began, Context: forPlugins(r.from, d),
	})
}

func (g rights) takeBack(room, who jid.JID, d auth.Decision) {
	if d.Affiliation != auth.None {
		g.rooms.Withdraw(room, who)
	}
}

// whileHosted takes a right back if the host has left between the decision and now. What the room says now includes everything that
// the server did before its answer to the grant. So this is how it was when the affiliation was given.
func (g rights) whileHosted(ctx context.Context, room, who jid.JID, d auth.Decision) auth.Decision {
	host, err := g.rooms.HostPresent(ctx, room)
	if err == nil && host {
		return d
	}
	g.takeBack(room, who, d)
	if err != nil {
		return d.Denied(auth.ReasonRoomUnavailable, err)
	}
	return d.Waiting(auth.ReasonHostAbsent)
}

// startLobby turns the lobby on with the first host. Later the hosts turn it off and on themselves.
func (g rights) startLobby(ctx context.Context, room jid.JID) error {
	host, err := g.rooms.HostPresent(ctx, room)
	if err != nil || host {
		return err
	}
	if at, err := g.lobby.At(ctx, room); err != nil || at {
		return err
	}
	return g.lobby.Start(ctx, room)
}
