package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// part is what one of the cast does: asks usher for the room, and joins it if that is granted.
type part struct {
	who   string
	name  string // whoever has the same name is the same client; it is the nick, too
	vhost string
	shows string // the token in words
	attr  string // the token in the request
	room  string // the scene's if empty
	rude  bool   // joins without asking
	// session has them show the session id that the client was given last, from the machine of then.
	session bool
	// early has them ask once more before the part before this one is played. What usher says then is seen in this part.
	early bool
	// before is what happens before, in words, and scene makes it happen; it may change the part.
	before string
	scene  func(ctx context.Context, a *audience, p *part) error
	// expected is affiliation and role of those let in, else verdict and reason, or the condition by which Prosody refuses.
	expected string
}

// row is a part as it went. Happened is made of what the clients received and of nothing else.
type row struct {
	Who      string  `json:"who"`
	VHost    string  `json:"vhost"`
	Token    string  `json:"token"`
	Expected string  `json:"expected"`
	Happened string  `json:"happened"`
	Said     string  `json:"said,omitempty"` // the text of a refusal, or who else saw somebody come in
	MS       float64 `json:"ms"`
	OK       bool    `json:"ok"`

	before string
}

// rowWriter shows rows, each at once.
type rowWriter interface {
	row(row) error
}

const (
	nsFocus = "http://jitsi.org/protocol/focus"

	hostEnters   = "owner, moderator"
	memberEnters = "member, participant"
	hostAbsent   = "wait " + string(auth.ReasonHostAbsent)
)

func asMember(c *token.Claims) { c.User.Affiliation = "member" }

// cast returns the parts in the order in which they are played.
func (s *stage) cast() ([]part, error) {
	var failed error
	show := func(secret string, change func(*token.Claims)) string {
		compact, err := s.mint(secret, change)
		if err != nil {
			failed = err
		}
		return "token='" + compact + "'"
	}
	owner := show(s.appSecret, nil)
	deny := func(r auth.Reason) string { return "deny " + string(r) }
	parts := []part{
		{who: "guest before the host", name: "guest", vhost: s.guests, shows: "none", expected: hostAbsent},
		{who: "host", name: "host", vhost: s.tokens, shows: "owner", attr: owner, expected: hostEnters},
		{who: "member", name: "member", vhost: s.tokens, shows: "member", attr: show(s.appSecret, asMember),
			expected: memberEnters},
		{who: "that guest again", name: "guest", vhost: s.guests, shows: "none", expected: memberEnters},
		{who: "guest after the host", name: "late", vhost: s.guests, shows: "none", expected: hostAbsent,
			before: "the host leaves", scene: leaves("host")},
		{who: "token of another room", name: "stray", vhost: s.tokens, shows: "another room",
			attr:     show(s.appSecret, func(c *token.Claims) { c.Room = "elsewhere" }),
			expected: deny(auth.ReasonRoomMismatch)},
		{who: "token of yesterday", name: "former", vhost: s.tokens, shows: "expired",
			attr:     show(s.appSecret, func(c *token.Claims) { c.Expires = time.Now().Add(-24 * time.Hour) }),
			expected: deny(auth.ReasonTokenExpired)},
		{who: "forger", name: "forger", vhost: s.tokens, shows: "wrong secret", attr: show(newSecret(), nil),
			expected: deny(auth.ReasonTokenSignature)},
		{who: "forger without a key", name: "unsigned", vhost: s.tokens, shows: "alg: none", attr: unsigned(owner),
			expected: deny(auth.ReasonTokenAlgorithm)},
		{who: "empty token", name: "empty", vhost: s.tokens, shows: "empty", attr: "token=''",
			expected: deny(auth.ReasonTokenRequired)},
		{who: "joins without asking", name: "rude", vhost: s.guests, shows: "none", rude: true,
			expected: "registration-required"},
		{who: "creates by joining", name: "squatter", vhost: s.guests, shows: "none", rude: true, room: "fresh@" + s.service,
			expected: "not-allowed"},
	}
	if s.account != "" {
		parts = s.castBeforeJicofo(parts, owner)
	}
	if s.users != "" {
		parts = append(parts, part{who: "user with a password", name: s.user, vhost: s.users, shows: "none", room: "office@" + s.service,
			expected: hostEnters})
	}
	return parts, failed
}

// unsigned replaces header and signature of a token, for those who hope that nobody looks.
func unsigned(attr string) string {
	payload := strings.Split(attr, ".")[1]
	return "token='" + base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + payload + ".'"
}

// play plays all parts and returns how many went wrong. The cast has left when it returns.
func (s *stage) play(ctx context.Context, rows rowWriter) (wrong int, err error) {
	parts, err := s.cast()
	if err != nil {
		return 0, err
	}
	a := &audience{stage: s, clients: map[string]*prosodytest.Client{}, inside: map[string][]string{}, sessions: map[string]string{}}
	defer a.close()
	for i, p := range parts {
		if p.room == "" {
			p.room = s.room()
		}
		if i+1 < len(parts) && parts[i+1].early {
			a.askEarly(ctx, parts[i+1])
		}
		r := a.play(ctx, p)
		if ctx.Err() != nil {
			return wrong, ctx.Err()
		}
		if !r.OK {
			wrong++
		}
		if err := rows.row(r); err != nil {
			return wrong, err
		}
	}
	return wrong, nil
}

// audience is those of the cast who are connected, by name, who of them is in which room, and whose session is which.
type audience struct {
	*stage
	clients  map[string]*prosodytest.Client
	inside   map[string][]string
	sessions map[string]string

	joined   time.Time     // when somebody last set out to join
	waited   time.Duration // from then to the answer for whoever asked early
	early    chan answer   // takes the answer for whoever asked early
	sideRoom string        // the breakout room
}

// answer is what usher answered to whoever asked early.
type answer struct {
	prosodytest.Stanza
	err error
	at  time.Time
}

func (a *audience) close() {
	for _, c := range a.clients {
		c.Close()
	}
}

// play plays one part.
func (a *audience) play(ctx context.Context, p part) row {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r := row{Who: p.who, VHost: p.vhost, Token: p.shows, Expected: p.expected, before: p.before}
	var err error
	if p.scene != nil {
		err = p.scene(ctx, a, &p)
	}
	if err == nil {
		var c *prosodytest.Client
		if c, err = a.client(ctx, p); err == nil {
			began := time.Now()
			r.Happened, r.Said, err = a.enter(ctx, c, p, func() { r.MS = float64(time.Since(began).Microseconds()) / 1000 })
			if p.early && err == nil {
				r.MS = float64(a.waited.Microseconds()) / 1000
			}
		}
	}
	if err != nil {
		r.Happened, r.Said = "failed", err.Error()
	}
	r.OK = r.Happened == r.Expected
	return r
}

func (a *audience) client(ctx context.Context, p part) (*prosodytest.Client, error) {
	if c, ok := a.clients[p.name]; ok {
		return c, nil
	}
	o := prosodytest.ClientOptions{Host: p.vhost, Transport: prosodytest.WebSocket}
	if p.vhost == a.users {
		o.User, o.Password = a.user, a.password
	}
	c, err := a.Dial(ctx, o)
	if err == nil {
		a.clients[p.name] = c
	}
	return c, err
}

// leaves has somebody leave the room that they are in, and returns when the room has told everybody.
func leaves(name string) func(context.Context, *audience, *part) error {
	return func(ctx context.Context, a *audience, _ *part) error {
		for room, people := range a.inside {
			if !slices.Contains(people, name) {
				continue
			}
			here := room + "/" + name
			if err := a.clients[name].Send("<presence type='unavailable' to='" + here + "'/>"); err != nil {
				return err
			}
			for _, witness := range people {
				_, err := a.clients[witness].Await(ctx, func(s prosodytest.Stanza) bool {
					return s.Name == "presence" && s.Attr["from"] == here && s.Attr["type"] == "unavailable"
				})
				if err != nil {
					return fmt.Errorf("%s does not see %s leave: %w", witness, name, err)
				}
			}
			a.inside[room] = slices.DeleteFunc(people, func(n string) bool { return n == name })
			return nil
		}
		return fmt.Errorf("%s is nowhere inside", name)
	}
}

// request is the conference request of a part.
func (a *audience) request(p part) string {
	attr := p.attr
	if p.session {
		attr = "session-id='" + a.sessions[p.name] + "'"
	}
	return fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='%s' %s/>", nsFocus, p.room, p.name, attr)
}

// askEarly sends the request of a part that is not played yet, and returns when usher is done with it or holds it.
func (a *audience) askEarly(ctx context.Context, p part) {
	early := make(chan answer, 1)
	a.early = early
	p.room = cmp.Or(p.room, a.room())
	c, err := a.client(ctx, p)
	if err == nil {
		err = c.Send("<iq type='set' id='early' to='" + a.focus + "'>" + a.request(p) + "</iq>")
	}
	if err != nil {
		early <- answer{err: err}
		return
	}
	go func() {
		s, err := c.Await(ctx, func(s prosodytest.Stanza) bool { return s.Name == "iq" && s.Attr["id"] == "early" })
		early <- answer{s, err, time.Now()}
	}()
	// usher takes up a sender's requests one after the other, and so has taken up that one when it answers the next.
	_, _ = c.IQ(ctx, "get", a.focus, "<ping xmlns='urn:xmpp:ping'/>")
}

// ask asks usher for the room, or waits for what it answers to whoever asked early.
func (a *audience) ask(ctx context.Context, c *prosodytest.Client, p part) (prosodytest.Stanza, error) {
	if !p.early {
		return c.IQ(ctx, "set", a.focus, a.request(p))
	}
	select {
	case early := <-a.early:
		a.waited = early.at.Sub(a.joined)
		return early.Stanza, early.err
	case <-ctx.Done():
		return prosodytest.Stanza{}, ctx.Err()
	}
}

// enter asks and joins as far as it goes, and tells what happened. answered is called with every answer.
func (a *audience) enter(ctx context.Context, c *prosodytest.Client, p part, answered func()) (happened, said string, err error) {
	if !p.rude {
		answer, err := a.ask(ctx, c, p)
		answered()
		if err != nil {
			return "", "", err
		}
		conference := answer.Child("conference", nsFocus)
		switch {
		case answer.Attr["type"] == "error":
			// "wait" and "deny" are ours; on the wire stand the condition, for the client, and the reason.
			reason := answer.Find("reason", "urn:usher:0").Attr["code"]
			verdict := "deny "
			if reason == string(auth.ReasonHostAbsent) {
				verdict = "wait "
			}
			return verdict + reason, answer.ErrorCondition() + ": " + answer.ErrorText(), nil
		case conference.Attr["ready"] != "true":
			return "not ready", "", nil
		}
		if id := conference.Attr["session-id"]; id != "" {
			a.sessions[p.name] = id
		}
	}
	a.joined = time.Now()
	own, err := c.Join(ctx, p.room, p.name)
	answered()
	if err != nil {
		return "", "", err
	}
	if own.Attr["type"] == "error" {
		if p.rude {
			said = "refused by Prosody itself"
			if !own.Find("lobbyroom", "").IsZero() {
				said = "refused by the lobby's module in Prosody"
			}
			return own.ErrorCondition(), said, nil
		}
		if own, err = a.knock(ctx, c, p, own); err != nil {
			return "", "", err
		}
		answered()
		if own.Attr["type"] == "error" {
			return "allowed, not joined", own.ErrorCondition() + ": " + own.ErrorText(), nil
		}
		said = "knocked at the lobby, and the host let them in; "
	}
	others := slices.Clone(a.inside[p.room])
	a.inside[p.room] = append(a.inside[p.room], p.name)
	for _, name := range a.inside[p.room] {
		seen, err := a.seen(ctx, a.clients[name], p.room+"/"+p.name, name != p.name)
		if err != nil {
			return "", "", fmt.Errorf("%s does not see %s: %w", name, p.name, err)
		}
		for _, s := range seen {
			if standing(s) != standing(own) {
				return "flicker", fmt.Sprintf("%s sees %s, %s sees %s", p.name, standing(own), name, standing(s)), nil
			}
		}
	}
	if p.early {
		said = "usher held the request until a host was inside; "
	}
	if len(others) > 0 {
		said += "seen so from the first presence on by " + list(others)
	}
	return standing(own), said, nil
}

// list is names in a sentence.
func list(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// seen returns the presences of an occupant that have come to a client. The first is waited for, if it is still to come.
func (a *audience) seen(ctx context.Context, c *prosodytest.Client, occupant string, first bool) ([]prosodytest.Stanza, error) {
	of := func(s prosodytest.Stanza) bool { return s.Name == "presence" && s.Attr["from"] == occupant }
	var seen []prosodytest.Stanza
	if first {
		s, err := c.Await(ctx, of)
		if err != nil {
			return nil, err
		}
		seen = append(seen, s)
	}
	if err := c.Sync(ctx); err != nil {
		return nil, err
	}
	for _, s := range c.Drain() {
		if of(s) {
			seen = append(seen, s)
		}
	}
	return seen, nil
}

// standing is the affiliation and role that a presence in a room shows.
func standing(presence prosodytest.Stanza) string {
	item := presence.Find("item", "http://jabber.org/protocol/muc#user")
	return item.Attr["affiliation"] + ", " + item.Attr["role"]
}
