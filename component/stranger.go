package component

import (
	"context"
	"encoding/xml"
	"fmt"
	"sync"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

var errUnguarded = fmt.Errorf("%w: load mod_muc_affiliated_only on the MUC service (usher config prosody --module), "+
	"or set rooms.enforcement: members-only", muc.ErrOpen)

// stranger tries the door. Where rooms are not members-only, a module of the server keeps out whom nobody let in. Nothing
// tells whether it is loaded but somebody who tries to enter: so a stranger of our own domain does, before anybody is let
// into the first room of a service that is open on a connection. Where rooms are members-only to begin with, the first that is open
// is one that an owner has opened.
type stranger struct {
	session muc.Session
	owner   muc.Owner
	jid     jid.JID // full; no room knows it

	mu      sync.Mutex
	refused map[string]bool          // services, by domain
	trying  map[string]chan presence // by room
}

// presence is what a room says to the stranger.
type presence struct {
	typ string
	err stanza.Error
}

func newStranger(o muc.Owner, domain jid.JID) (*stranger, error) {
	local, err := domain.WithLocal("stranger")
	if err != nil {
		return nil, err
	}
	full, err := local.WithResource("usher")
	return &stranger{session: o.Session, owner: o, jid: full, refused: make(map[string]bool), trying: make(map[string]chan presence)}, err
}

// reset forgets what was found out because a new stream begins.
func (s *stranger) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.refused)
}

// tries returns nil if the room's service refuses the stranger, or has done so before, or if the room is members-only so that it
// would tell nothing.
func (s *stranger) tries(ctx context.Context, room jid.JID) error {
	s.mu.Lock()
	refused := s.refused[room.Domainpart()]
	s.mu.Unlock()
	if refused {
		return nil
	}
	is, err := s.owner.Settings(ctx, room)
	if err != nil || is.MembersOnly {
		return err
	}
	said := make(chan presence, 1)
	s.mu.Lock()
	if s.trying[room.String()] != nil {
		s.mu.Unlock()
		return fmt.Errorf("%s is just being tried", room)
	}
	s.trying[room.String()] = said
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.trying, room.String())
		s.mu.Unlock()
	}()
	if err := s.session.Send(s.presence(room, "")); err != nil {
		return err
	}
	select {
	case p := <-said:
		if p.typ != "error" {
			_ = s.session.Send(s.presence(room, stanza.UnavailablePresence)) // fails if the stream is ending
			return errUnguarded
		}
		if p.err.Condition != stanza.RegistrationRequired {
			return fmt.Errorf("trying whether strangers are kept out: %w", p.err)
		}
	case <-ctx.Done():
		return fmt.Errorf("trying whether strangers are kept out: %w", ctx.Err())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[room.Domainpart()] = true
	return nil
}

func (s *stranger) presence(room jid.JID, typ stanza.PresenceType) xml.TokenReader {
	to, _ := room.WithResource("stranger")
	return stanza.Presence{Type: typ, From: s.jid, To: to}.Wrap(element.New(muc.NS, "x"))
}

// hears takes in a presence for the stranger.
func (s *stranger) hears(start xml.StartElement, d *xml.Decoder) error {
	room, err := jid.ParseUnsafe(element.Attr(start, "from"))
	if err != nil {
		return err
	}
	var p struct {
		Err stanza.Error `xml:"error"`
	}
	if err := d.DecodeElement(&p, &start); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.trying[room.Bare().String()] <- presence{element.Attr(start, "type"), p.Err}:
	default:
	}
	return nil
}
