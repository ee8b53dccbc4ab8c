package muc

import (
	"context"
	"errors"

	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Lobby is the service of Jitsi's mod_muc_lobby_rooms.lua, which has a room of the same node for each room with a lobby. Its
// methods may be called by any goroutine.
type Lobby struct {
	owner   Owner
	service jid.JID
	at      shared[bool]
}

// NewLobby returns the lobby service at an address; o asks it.
func NewLobby(o Owner, service jid.JID) *Lobby {
	l := &Lobby{owner: o, service: service}
	l.at.ask = l.ask
	return l
}

// At reports whether the room has a lobby.
func (l *Lobby) At(ctx context.Context, room jid.JID) (bool, error) { return l.at.of(ctx, room) }

func (l *Lobby) ask(ctx context.Context, room jid.JID) (bool, error) {
	if at, told := l.owner.Told.lobby(room); told {
		return at, nil
	}
	at, err := l.service.WithLocal(room.Localpart())
	if err != nil {
		return false, err
	}
	err = l.owner.Session.IQ(ctx, l.owner.iq(stanza.GetIQ, at), element.New(disco.NSInfo, "query"), nil)
	switch {
	case Absent(err):
		return false, nil
	case errors.Is(err, stanza.Error{Condition: stanza.Forbidden}):
		return true, nil // mod_muc_hide_all hides rooms that exist from strangers
	}
	return err == nil, err
}

// Start turns the room's lobby on, with the form that a moderator sends. Jitsi's plugin ignores a form from the node focus. So it
// comes from usher's bare domain, which must be an admin of the MUC service, too.
func (l *Lobby) Start(ctx context.Context, room jid.JID) error {
	host := Owner{Session: l.owner.Session, JID: l.owner.JID.Domain()}
	return host.Configure(ctx, room, Configuration{MembersOnly: true})
}
