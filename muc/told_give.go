package muc

import (
	"encoding/json"
	"encoding/xml"
	"strconv"
	"strings"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// Given is what the module is to give somebody in a room.
type Given struct {
	// Room is the room, and Who the bare JID of the person.
	Room, Who jid.JID
	// Affiliation is what they shall have. The empty one leaves it as it is, and "none" takes it.
	Affiliation string
	// Context is what Jitsi's plugins shall read in the person's session; nil leaves that as it is.
	Context *Context
}

// Context is what Jitsi's plugins read in the session of a client (jitsi_meet_context_features, _user and _group). It replaces
// what is there.
type Context struct {
	Session  jid.JID           `json:"-"`                 // by full JID
	Features map[string]bool   `json:"features,omitzero"` // nil if none were said
	User     map[string]string `json:"user,omitzero"`     // nil if none was said
	Group    string            `json:"group,omitzero"`
}

// text is what the module puts into the session. It is empty if the module is to clear that.
func (c Context) text() (string, error) {
	if c.Features == nil && c.User == nil && c.Group == "" {
		return "", nil
	}
	text, err := json.Marshal(c)
	return string(text), err
}

// Give has the module of the room's service give something, and does not wait: who joins after a stanza that was sent later finds it done.
// It reports whether that was sent; if not, the service has no module. A context alone is also sent while nobody knows yet whether there is
// one. The error is ErrAbsent or ErrOutcast if the mirror knows that nothing can be given. If the room refuses it nevertheless, that is told
// as NewsRefused. The module never lifts a ban.
func (t *Told) Give(g Given) (sent bool, err error) {
	if t == nil {
		return false, nil
	}
	t.giving.Lock()
	defer t.giving.Unlock()
	give, sent, err := t.expects(g)
	if !sent || err != nil {
		return false, err
	}
	return true, t.o.Session.Send(give)
}

// expects changes the mirror by what is to be given, and returns the stanza that gives it. The caller holds giving.
func (t *Told) expects(g Given) (give xml.TokenReader, sent bool, err error) {
	var text string
	if g.Context != nil {
		if text, err = g.Context.text(); err != nil {
			return nil, false, err
		}
	}
	bare := g.Who.Bare().String()
	attrs := []xml.Attr{element.NewAttr("room", g.Room.String()), element.NewAttr("jid", bare)}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.tellers[g.Room.Domainpart()]
	if s == nil || !s.takes && (s.missing || g.Affiliation != "") {
		return nil, false, nil
	}
	if g.Affiliation != "" {
		to, err := readRank(g.Affiliation)
		if err != nil {
			return nil, false, err
		}
		attrs = append(attrs, element.NewAttr("affiliation", g.Affiliation))
		if s.tells {
			was, err := s.gives(g, to)
			if err != nil {
				return nil, false, err
			}
			attrs = append(attrs, element.NewAttr("was", was), element.NewAttr("n", strconv.FormatUint(s.run.last, 10)))
		}
	}
	if g.Context != nil {
		attrs = append(attrs, element.NewAttr("session", g.Context.Session.String()))
	}
	payload := element.Wrap(xml.StartElement{Name: xml.Name{Space: NSModule, Local: "give"}, Attr: attrs}, xmlstream.Token(xml.CharData(text)))
	message := stanza.Message{ID: giveID(g, bare), From: t.o.From, To: s.jid, Type: stanza.NormalMessage}
	return element.Wrap(message.StartElement(), payload), true, nil
}

// gives changes the mirror by what is to be given, and returns what the person was. The caller holds mu.
func (s *teller) gives(g Given, to rank) (was string, err error) {
	rm := s.rooms[g.Room.Localpart()]
	switch {
	case rm == nil:
		return "", ErrAbsent
	case to != rankOutcast && rm.banned(g.Who):
		return "", ErrOutcast
	}
	bare := g.Who.Bare().String()
	was = rm.has(bare).affiliation.String()
	rm.set(bare, to, s.from)
	return was, nil
}

// giveID is the id of the message that gives something. If no module takes it, the server's answer has nothing else that says what it was.
func giveID(g Given, bare string) string {
	return strings.Join([]string{"give", g.Affiliation, bare, g.Room.String()}, " ")
}

// bounced takes in the answer to a give that no module took, and reports whether it is one.
func (t *Told) bounced(s *teller, start xml.StartElement, body xml.TokenReader) bool {
	id := strings.Split(element.Attr(start, "id"), " ")
	if len(id) != 4 || id[0] != "give" {
		return false
	}
	var why string
	for {
		e, err := nextElement(body)
		if err != nil {
			break
		}
		if e.Name.Space == stanzaErrors && e.Name.Local != "text" {
			why = e.Name.Local
			break
		}
	}
	room, err := jid.ParseUnsafe(id[3])
	if err != nil || room.Domainpart() != s.jid.Domainpart() {
		return false
	}
	t.order.Lock()
	defer t.order.Unlock()
	t.loses(s, errBye)
	if id[1] == "" { // a context, which is of use to a module only
		return true
	}
	t.tell(News{Kind: NewsRefused, Room: room.JID, Who: parsed(id[2]), Affiliation: id[1], Why: why})
	return true
}

// stanzaErrors is the namespace of the conditions of stanza errors (RFC 6120 §8.3).
const stanzaErrors = "urn:ietf:params:xml:ns:xmpp-stanzas"
