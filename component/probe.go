package component

import (
	"fmt"
	"sync"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// probe enters rooms to learn how the server behaves, and hears what comes back. It is a full JID of our domain.
type probe struct {
	session muc.Session
	jid     jid.JID
	nick    string

	mu      sync.Mutex
	entered map[string]chan heard // by room
}

// heard is the first presence that a room sends to a probe that enters it: available, or an error.
type heard struct {
	from string // as the server wrote it
	typ  stanza.PresenceType
	err  stanza.Error // of an error, if it could be read
}

func newProbe(s muc.Session, bare jid.JID, resource, nick string) (*probe, error) {
	full, err := bare.WithResource(resource)
	return &probe{session: s, jid: full, nick: nick, entered: make(map[string]chan heard)}, err
}

// enter asks a room to let the probe in. The channel gets what the room says to that. The caller calls done when it waits no more.
func (p *probe) enter(room jid.JID) (said <-chan heard, done func(), err error) {
	key, first := room.String(), make(chan heard, 1)
	p.mu.Lock()
	if p.entered[key] != nil {
		p.mu.Unlock()
		return nil, nil, fmt.Errorf("%s is being tried already", room)
	}
	p.entered[key] = first
	p.mu.Unlock()
	done = func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.entered, key)
	}
	if err := p.send(room, stanza.AvailablePresence); err != nil {
		done()
		return nil, nil, err
	}
	return first, done, nil
}

// leave takes the probe out of a room that has let it in.
func (p *probe) leave(room jid.JID) {
	_ = p.send(room, stanza.UnavailablePresence) // fails if the stream is ending
}

func (p *probe) send(room jid.JID, typ stanza.PresenceType) error {
	to, err := room.WithResource(p.nick)
	if err != nil {
		return err
	}
	return p.session.Send(stanza.Presence{Type: typ, From: p.jid, To: to}.Wrap(element.New(muc.NS, "x")))
}

// hears takes in a presence for the probe. room is the room as the MUC service knows it. It does not block.
func (p *probe) hears(room jid.JID, h heard) {
	if h.typ != stanza.AvailablePresence && h.typ != stanza.ErrorPresence {
		return // the end of an earlier try
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case p.entered[room.Bare().String()] <- h:
	default:
	}
}

// readHeard reads a presence.
func readHeard(e *envelope) heard {
	h := heard{from: e.wrote, typ: stanza.PresenceType(e.Attr("type"))}
	if h.typ == stanza.ErrorPresence {
		var p struct {
			Err stanza.Error `xml:"error"`
		}
		if e.Body.DecodeElement(&p, &e.Start) == nil {
			h.err = p.Err
		}
	}
	return h
}
