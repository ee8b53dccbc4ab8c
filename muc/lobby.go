package muc

import (
	"context"
	"errors"

	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Lobby is the service on which Jitsi's mod_muc_lobby_rooms.lua has a room of the same node for each room that has a lobby.
// Its methods may be called by any goroutine.
type Lobby struct {
	owner   Owner
	service jid.JID
	at      shared[bool]
}

// NewLobby returns the lobby service as o sees it.
func NewLobby(o Owner, service jid.JID) *Lobby {
	l := &Lobby{owner: o, service: service}
	l.at.ask = l.ask
	return l
}

// At tells whether a lobby is at work for the room.
func (l *Lobby) At(ctx context.Context, room jid.JID) (bool, error) { return l.at.of(ctx, room) }

func (l *Lobby) ask(ctx context.Context, room jid.JID) (bool, error) {
	at, err := l.service.WithLocal(room.Localpart())
	if err != nil {
		return false, err
	}
	err = l.owner.Session.IQ(ctx, l.owner.iq(stanza.GetIQ, at), element.New(disco.NSInfo, "query"), nil)
	switch {
	case Absent(err):
		return false, nil
	case errors.Is(err, stanza.Error{Condition: stanza.Forbidden}):
		return true, nil // mod_muc_hide_all keeps strangers from looking at rooms that exist
	}
	return err == nil, err
}

// Start turns the room's lobby on, by the form by which a moderator does. Jitsi's plugin passes over one that comes from the
// node focus, so it comes from our bare domain, which must be an admin of the MUC service, too.
func (l *Lobby) Start(ctx context.Context, room jid.JID) error {
	host := Owner{Session: l.owner.Session, JID: l.owner.JID.Domain()}
	return host.Configure(ctx, room, Configuration{MembersOnly: true})
}
