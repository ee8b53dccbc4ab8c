package component_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// The people of the tests: what they say, and what they are told.

const (
	membersOnlyField = "muc#roomconfig_membersonly" // Jitsi's switch for the lobby, and that of a stock MUC for members-only
	persistentField  = "muc#roomconfig_persistentroom"
)

// person is a client with the words of a Jitsi client.
type person struct {
	*prosodytest.Client
	g    *gate
	nick string
}

func (g *gate) person(vhost string) *person {
	g.t.Helper()
	o := prosodytest.ClientOptions{Host: vhost}
	if vhost == "users.example.com" {
		o.User, o.Password = "romeo", "wherefore"
	}
	return &person{Client: g.Client(g.t, o), g: g, nick: g.newNick()}
}

// account is a client that logs in with a password.
func (g *gate) account(user, host string) *person {
	g.t.Helper()
	c := g.Client(g.t, prosodytest.ClientOptions{Host: host, User: user, Password: "secret"})
	return &person{Client: c, g: g, nick: g.newNick()}
}

// operator is an admin of the MUC service.
func (g *gate) operator() *person {
	g.t.Helper()
	g.reports.shared()
	o := prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "observer", Password: "secret", Resource: "operator"}
	return &person{Client: g.Client(g.t, o), g: g, nick: "operator"}
}

// another is a second connection of the same account.
func (p *person) another() *person {
	o := prosodytest.ClientOptions{Host: "users.example.com", User: "romeo", Password: "wherefore", Resource: "another"}
	return &person{Client: p.g.Client(p.g.t, o), g: p.g, nick: p.g.newNick()}
}

func request(room, tok, rest string) string {
	if tok != "" {
		rest += " token='" + tok + "'"
	}
	return fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='%s' %s/>", nsFocus, room, machine, rest)
}

// outcome is an answer in one word: "ready", "not ready", or the condition and reason code of the error.
func outcome(s prosodytest.Stanza) string {
	if c := s.Child("conference", nsFocus); !c.IsZero() && s.Attr["type"] == "result" {
		if c.Attr["ready"] == "true" {
			return "ready"
		}
		return "not ready"
	}
	return s.ErrorCondition() + " " + s.Find("reason", "urn:usher:0").Attr["code"]
}

func (p *person) iq(typ, to, payload string) prosodytest.Stanza {
	p.g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.IQ(ctx, typ, to, payload)
	if err != nil {
		p.g.t.Fatalf("%s asks %s: %v", p.JID(), to, err)
	}
	return s
}

// asks sends a conference request and returns its outcome.
func (p *person) asks(room, tok string) string {
	p.g.t.Helper()
	return outcome(p.iq("set", domain, request(room, tok, "")))
}

// with makes a conference request with these attributes beside the room.
func (p *person) with(room, attributes string) prosodytest.Stanza {
	p.g.t.Helper()
	return p.iq("set", domain, fmt.Sprintf("<conference xmlns='%s' room='%s' %s/>", nsFocus, room, attributes))
}

// shows makes a conference request with a session id and no token, and returns its outcome.
func (p *person) shows(room, session string) string {
	p.g.t.Helper()
	return outcome(p.with(room, fmt.Sprintf("machine-uid='%s' session-id='%s'", machine, session)))
}

// session is the session id in an answer, which must be ready.
func (p *person) session(answer prosodytest.Stanza) string {
	p.g.t.Helper()
	id := answer.Child("conference", nsFocus).Attr["session-id"]
	if outcome(answer) != "ready" || id == "" {
		p.g.t.Fatalf("%s is given no session: %s", p.JID(), answer)
	}
	return id
}

// joins enters the room and returns affiliation and role of the own first presence, or the error's condition.
func (p *person) joins(room string) string {
	p.g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.Join(ctx, room, p.nick)
	if err != nil {
		p.g.t.Fatalf("%s joins %s: %v", p.JID(), room, err)
	}
	if s.Attr["type"] == "error" {
		return s.ErrorCondition()
	}
	i := s.Find("item", "")
	return i.Attr["affiliation"] + " " + i.Attr["role"]
}

// named joins as Jitsi's client does where there may be a lobby: with a name. It returns affiliation and role, or the condition
// of the error and the lobby that it names.
func (p *person) named(room string) string {
	p.g.t.Helper()
	p.Sends(fmt.Sprintf("<presence to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'/><nick xmlns='http://jabber.org/protocol/nick'>%[2]s</nick></presence>", room, p.nick))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := p.Await(ctx, func(s prosodytest.Stanza) bool {
		from, err := jid.Parse(s.Attr["from"])
		typ := s.Attr["type"]
		return err == nil && s.Name == "presence" && from.Bare().String() == room && (typ == "error" || typ == "" && s.HasStatus("110"))
	})
	if err != nil {
		p.g.t.Fatalf("%s joins %s: %v", p.JID(), room, err)
	}
	if s.Attr["type"] == "error" {
		got := s.ErrorCondition()
		if lobby := s.Find("lobbyroom", "http://jitsi.org/jitmeet"); lobby.Text != "" {
			got += " " + lobby.Text
		}
		return got
	}
	item := s.Find("item", "")
	return item.Attr["affiliation"] + " " + item.Attr["role"]
}

// enters asks and joins, and fails the test unless both succeed.
func (p *person) enters(room, tok string) {
	p.g.t.Helper()
	if got := p.asks(room, tok); got != "ready" {
		p.g.t.Fatalf("%s asks to enter %s: %s", p.JID(), room, got)
	}
	if got := p.joins(room); !strings.Contains(got, " ") {
		p.g.t.Fatalf("%s joins %s: %s", p.JID(), room, got)
	}
}

func (p *person) leaves(room string) {
	p.g.t.Helper()
	p.Sends(fmt.Sprintf("<presence type='unavailable' to='%s/%s'/>", room, p.nick))
	p.Receives(fmt.Sprintf("<presence type='unavailable' from='%s/%s'/>", room, p.nick))
}

// must fails the test at once if got is not what is wanted.
func (p *person) must(what, got, want string) {
	p.g.t.Helper()
	if got != want {
		p.g.t.Fatalf("%s %s: %s, want %s", p.JID(), what, got, want)
	}
}

// out tries to join, and fails the test if that is not refused.
func (p *person) out(room string) {
	p.g.t.Helper()
	if got := p.named(room); !strings.HasPrefix(got, "registration-required") {
		p.g.t.Fatalf("%s joins without having asked: %s", p.JID(), got)
	}
}

// answerTo is the answer to a request that is sent now, when it comes.
func (p *person) answerTo(payload string) <-chan prosodytest.Stanza {
	answer := make(chan prosodytest.Stanza, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		s, err := p.IQ(ctx, "set", domain, payload)
		if err != nil {
			s = prosodytest.Stanza{Name: "nothing", Text: err.Error()}
		}
		answer <- s
	}()
	return answer
}

// gives sets an affiliation, as the owner.
func (p *person) gives(room, who, affiliation string) {
	p.g.t.Helper()
	s := p.iq("set", room, fmt.Sprintf("<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='%s' jid='%s'/></query>", affiliation, who))
	if s.Attr["type"] != "result" {
		p.g.t.Fatalf("%s cannot make %s %s: %s", p.JID(), who, affiliation, s)
	}
}

// configure submits one field of the room's configuration as the owner.
func (g *gate) configure(owner *person, room, field, value string) {
	g.t.Helper()
	form := "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field><field var='" + field + "'><value>" + value + "</value></field></x></query>"
	if s := owner.iq("set", room, form); s.Attr["type"] != "result" {
		g.t.Fatalf("the owner may not configure the room: %s", s)
	}
}

// configured returns the values of a field of the room's configuration.
func (g *gate) configured(owner *person, room, field string) string {
	g.t.Helper()
	s := owner.iq("get", room, "<query xmlns='http://jabber.org/protocol/muc#owner'/>")
	for _, f := range s.Find("x", "jabber:x:data").Children {
		if f.Attr["var"] == field {
			var values []string
			for _, v := range f.Children {
				if v.Name == "value" {
					values = append(values, v.Text)
				}
			}
			return strings.Join(values, " ")
		}
	}
	g.t.Fatalf("no field %s: %s", field, s)
	return ""
}

// guards fails the test unless usher makes the room members-only again after the owner has switched it off.
func (g *gate) guards(owner *person, room string) {
	g.t.Helper()
	g.configure(owner, room, membersOnlyField, "0")
	g.inTime("the room is members-only again", func() bool { return g.configured(owner, room, membersOnlyField) == "1" })
}

func (g *gate) affiliations(owner *person, room, affiliation string) int {
	g.t.Helper()
	s := owner.iq("get", room, "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='"+affiliation+"'/></query>")
	return len(s.Child("query", "").Children)
}

// waiting is a guest who has been told to wait, or somebody with a token, and has asked again. The request is held; the channel has
// the answer.
func (g *gate) waiting(p *person, room, tok string) <-chan prosodytest.Stanza {
	g.t.Helper()
	p.must("asks for the first time", p.asks(room, tok), absent)
	return g.holds(p, request(room, tok, ""))
}

// holds has a person ask who has been told to wait before, and returns when the request is held. The channel has the answer.
func (g *gate) holds(p *person, conference string) <-chan prosodytest.Stanza {
	g.t.Helper()
	before := g.count(store.KindHeld, p.JID())
	held := p.answerTo(conference)
	g.eventually("the request is held", func() bool { return g.count(store.KindHeld, p.JID()) == before+1 })
	return held
}

// answered is the answer to a request that was held.
func (g *gate) answered(held <-chan prosodytest.Stanza) prosodytest.Stanza {
	g.t.Helper()
	select {
	case answer := <-held:
		return answer
	case <-time.After(patience):
		g.t.Fatal("who was held is told nothing")
		return prosodytest.Stanza{}
	}
}

// told fails the test unless that is the outcome of a request that was held.
func (g *gate) told(held <-chan prosodytest.Stanza, want string) {
	g.t.Helper()
	if answer := g.answered(held); outcome(answer) != want {
		g.t.Fatalf("who was held is told %s, want %s: %s", outcome(answer), want, answer)
	}
}

// stillHeld checks how many requests of a person are held.
func (g *gate) stillHeld(p *person, want int) {
	g.t.Helper()
	if n := g.count(store.KindHeld, p.JID()); n != want {
		g.t.Errorf("%d requests of %s are held, want %d", n, p.JID(), want)
	}
}

func (g *gate) newNick() string { return fmt.Sprintf("nick%d", g.people.Add(1)) }

// destroys ends a room, as an owner may.
func (p *person) destroys(room string) {
	p.g.t.Helper()
	if s := p.iq("set", room, "<query xmlns='http://jabber.org/protocol/muc#owner'><destroy/></query>"); s.Attr["type"] != "result" {
		p.g.t.Fatalf("%s may not destroy %s: %s", p.JID(), room, s)
	}
}
