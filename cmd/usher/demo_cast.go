package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// part is what one client of the cast does: it asks usher for the room, and joins if usher allows it.
type part struct {
	who   string // in the table
	name  string // of the client, and its nick; parts with the same name are played by the same client
	vhost string
	shows string // the token in words
	attr  string // the token in the request
	room  string // empty means the scene's
	rude  bool   // joins without asking usher
	// session makes the client show the session id that it was given last, from the machine that it was given to.
	session bool
	// early sends the request before the part before this one is played. The answer belongs to this part.
	early bool
	// before says in words what happens first, and prepare makes it happen; prepare may change the part.
	before  string
	prepare func(ctx context.Context, on *players, p *part) error
	// expected is "allow" with affiliation and role, or the verdict with its reason, or the condition with which the server
	// itself refuses the join.
	expected string
}

// row is the result of a part. Happened is made from what the clients received, and from nothing else.
type row struct {
	Who      string  `json:"who"`
	VHost    string  `json:"vhost"`
	Token    string  `json:"token"`
	Expected string  `json:"expected"`
	Happened string  `json:"happened"`
	Said     string  `json:"said,omitempty"` // the text of a refusal, or who else saw the client enter
	MS       float64 `json:"ms"`
	OK       bool    `json:"ok"`

	before string
}

// rowWriter writes each row as soon as it is known.
type rowWriter interface {
	row(row) error
}

const (
	nsFocus = "http://jitsi.org/protocol/focus"

	hostStanding   = "owner, moderator"
	memberStanding = "member, participant"

	hostEnters   = "allow: " + hostStanding
	memberEnters = "allow: " + memberStanding
	hostAbsent   = "wait: " + string(auth.ReasonHostAbsent)
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
	deny := func(r auth.Reason) string { return "deny: " + string(r) }
	parts := []part{
		{who: "guest before the host", name: "guest", vhost: s.guests, shows: "none", expected: hostAbsent},
		{who: "host", name: "host", vhost: s.tokens, shows: "owner", attr: owner, expected: hostEnters},
		{who: "member", name: "member", vhost: s.tokens, shows: "member", attr: show(s.appSecret, asMember),
			expected: memberEnters},
		{who: "the same guest again", name: "guest", vhost: s.guests, shows: "none", expected: memberEnters},
		{who: "guest after the host", name: "late", vhost: s.guests, shows: "none", expected: hostAbsent,
			before: "the host leaves", prepare: leaves("host")},
		{who: "token for another room", name: "stray", vhost: s.tokens, shows: "another room",
			attr:     show(s.appSecret, func(c *token.Claims) { c.Room = "elsewhere" }),
			expected: deny(auth.ReasonRoomMismatch)},
		{who: "expired token", name: "former", vhost: s.tokens, shows: "expired",
			attr:     show(s.appSecret, func(c *token.Claims) { c.Expires = time.Now().Add(-24 * time.Hour) }),
			expected: deny(auth.ReasonTokenExpired)},
		{who: "forged token", name: "forger", vhost: s.tokens, shows: "wrong secret", attr: show(newSecret(), nil),
			expected: deny(auth.ReasonTokenSignature)},
		{who: "unsigned token", name: "unsigned", vhost: s.tokens, shows: "alg: none", attr: unsigned(owner),
			expected: deny(auth.ReasonTokenAlgorithm)},
		{who: "empty token", name: "empty", vhost: s.tokens, shows: "empty", attr: "token=''",
			expected: deny(auth.ReasonTokenRequired)},
		{who: "joins without asking", name: "rude", vhost: s.guests, shows: "none", rude: true,
			expected: s.refusedBy("registration-required")},
		{who: "creates by joining", name: "squatter", vhost: s.guests, shows: "none", rude: true, room: "fresh@" + s.service,
			expected: s.refusedBy(s.uncreated())},
	}
	if s.account != "" {
		parts = s.castBeforeJicofo(parts, owner)
	}
	if s.portal != "" {
		parts = append(parts, part{who: "host from the portal", name: "teacher", vhost: s.tokens, shows: "by a login", room: "lecture@" + s.service,
			before: "the host logs in", prepare: logsIn, expected: hostEnters})
	}
	if s.users != "" {
		parts = append(parts, part{who: "user with a password", name: s.user, vhost: s.users, shows: "none", room: "office@" + s.service,
			expected: hostEnters})
	}
	return parts, failed
}

// refusedBy is the outcome of a join that the server itself refuses with this condition.
func (s scene) refusedBy(condition string) string { return s.server() + ": " + condition }

// uncreated is the condition with which the server refuses to create a room.
func (s scene) uncreated() string {
	if s.ejabberd {
		return "forbidden"
	}
	return "not-allowed"
}

// unsigned gives the token alg "none" and no signature (RFC 7519 §6).
func unsigned(attr string) string {
	payload := strings.Split(attr, ".")[1]
	return "token='" + base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + payload + ".'"
}

// play plays all parts, and counts them and those that went wrong. All clients are disconnected when it returns.
func (s *stage) play(ctx context.Context, rows rowWriter) (played, wrong int, err error) {
	parts, err := s.cast()
	if err != nil {
		return 0, 0, err
	}
	on := &players{stage: s, clients: map[string]*prosodytest.Client{}, inside: map[string][]string{}, sessions: map[string]string{}}
	defer on.close()
	for i, p := range parts {
		p.room = cmp.Or(p.room, s.room())
		if i+1 < len(parts) && parts[i+1].early {
			on.askEarly(ctx, parts[i+1])
		}
		r := on.play(ctx, p)
		if ctx.Err() != nil {
			return played, wrong, ctx.Err()
		}
		played++
		if !r.OK {
			wrong++
		}
		if err := rows.row(r); err != nil {
			return played, wrong, err
		}
	}
	return played, wrong, nil
}

// players are the clients of the cast that are connected.
type players struct {
	*stage
	clients  map[string]*prosodytest.Client // by name
	inside   map[string][]string            // names, by room, in the order in which they entered
	sessions map[string]string              // the last session id, by name

	joined   time.Time     // when a client last set out to join
	waited   time.Duration // from then to the answer to the early request
	early    chan answer   // takes that answer
	sideRoom string        // the breakout room
}

// answer is usher's answer to an early request.
type answer struct {
	prosodytest.Stanza
	err error
	at  time.Time
}

func (on *players) close() {
	for _, c := range on.clients {
		c.Close()
	}
}

// play plays one part.
func (on *players) play(ctx context.Context, p part) row {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	r := row{Who: p.who, VHost: p.vhost, Token: p.shows, Expected: p.expected, before: p.before}
	e, err := on.attempt(ctx, p)
	r.Happened, r.Said = e.happened, e.said
	r.MS = float64(e.took.Microseconds()) / 1000
	if err != nil {
		r.Happened, r.Said = "failed", err.Error()
	}
	r.OK = r.Happened == r.Expected
	return r
}

// attempt prepares a part, connects its client and lets it try to enter.
func (on *players) attempt(ctx context.Context, p part) (entry, error) {
	if p.prepare != nil {
		if err := p.prepare(ctx, on, &p); err != nil {
			return entry{}, err
		}
	}
	c, err := on.client(ctx, p)
	if err != nil {
		return entry{}, err
	}
	e := entry{part: p, client: c, began: time.Now()}
	err = on.enter(ctx, &e)
	if p.early && err == nil {
		e.took = on.waited
	}
	return e, err
}

func (on *players) client(ctx context.Context, p part) (*prosodytest.Client, error) {
	if c, ok := on.clients[p.name]; ok {
		return c, nil
	}
	o := prosodytest.ClientOptions{Host: p.vhost, Transport: prosodytest.WebSocket}
	if p.vhost == on.users {
		o.User, o.Password = on.user, on.password
	}
	c, err := on.Dial(ctx, o)
	if err == nil {
		on.clients[p.name] = c
	}
	return c, err
}

// logsIn has the host log in at the portal, as a browser does, and takes the token of the address to which the portal leads.
func logsIn(ctx context.Context, on *players, p *part) error {
	form := url.Values{"name": {demoHost}, "password": {on.hostPassword}, "room": {"lecture"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+on.portal+"/login", strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Close = true
	answer, err := http.DefaultTransport.RoundTrip(req) // which follows no redirect
	if err != nil {
		return fmt.Errorf("the portal does not answer: %w", err)
	}
	defer answer.Body.Close()
	room, err := answer.Location()
	if err != nil || room.Query().Get("jwt") == "" {
		return fmt.Errorf("the portal answers %s", answer.Status)
	}
	p.attr = "token='" + room.Query().Get("jwt") + "'"
	return nil
}

// leaves makes a client leave the room that it is in, and returns when the room has told everybody inside.
func leaves(name string) func(context.Context, *players, *part) error {
	return func(ctx context.Context, on *players, _ *part) error {
		for room, people := range on.inside {
			if !slices.Contains(people, name) {
				continue
			}
			here := room + "/" + name
			if err := on.clients[name].Send("<presence type='unavailable' to='" + here + "'/>"); err != nil {
				return err
			}
			for _, witness := range people {
				_, err := on.clients[witness].Await(ctx, func(s prosodytest.Stanza) bool {
					return s.Name == "presence" && s.Attr["from"] == here && s.Attr["type"] == "unavailable"
				})
				if err != nil {
					return fmt.Errorf("%s does not see %s leave: %w", witness, name, err)
				}
			}
			on.inside[room] = slices.DeleteFunc(people, func(n string) bool { return n == name })
			return nil
		}
		return fmt.Errorf("%s is in no room", name)
	}
}

// request is the conference request of a part.
func (on *players) request(p part) string {
	attr := p.attr
	if p.session {
		attr = "session-id='" + on.sessions[p.name] + "'"
	}
	return fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='%s' %s/>", nsFocus, p.room, p.name, attr)
}

// askEarly sends the request of a part that is not played yet. It returns when usher has answered the request, or holds it.
func (on *players) askEarly(ctx context.Context, p part) {
	early := make(chan answer, 1)
	on.early = early
	p.room = cmp.Or(p.room, on.room())
	c, err := on.client(ctx, p)
	if err == nil {
		err = c.Send("<iq type='set' id='early' to='" + on.focus + "'>" + on.request(p) + "</iq>")
	}
	if err != nil {
		early <- answer{err: err}
		return
	}
	go func() {
		s, err := c.Await(ctx, func(s prosodytest.Stanza) bool { return s.Name == "iq" && s.Attr["id"] == "early" })
		early <- answer{s, err, time.Now()}
	}()
	// usher takes a sender's requests one after the other, so it has taken the early one when it answers this.
	_, _ = c.IQ(ctx, "get", on.focus, "<ping xmlns='urn:xmpp:ping'/>")
}

// ask sends the conference request of a part, and returns the answer. An early request is sent already.
func (on *players) ask(ctx context.Context, c *prosodytest.Client, p part) (prosodytest.Stanza, error) {
	if !p.early {
		return c.IQ(ctx, "set", on.focus, on.request(p))
	}
	select {
	case early := <-on.early:
		on.waited = early.at.Sub(on.joined)
		return early.Stanza, early.err
	case <-ctx.Done():
		return prosodytest.Stanza{}, ctx.Err()
	}
}

// entry is one client's way into a room, as far as it gets.
type entry struct {
	part
	client *prosodytest.Client
	began  time.Time
	took   time.Duration      // until the last answer
	own    prosodytest.Stanza // the client's own presence in the room

	happened, said string // as in the row; happened is empty as long as the outcome is open
}

func (e *entry) answered() { e.took = time.Since(e.began) }

// enter takes one step after the other until the outcome is known.
func (on *players) enter(ctx context.Context, e *entry) error {
	for _, step := range []func(context.Context, *entry) error{on.asks, on.joins, on.isSeen} {
		if err := step(ctx, e); err != nil || e.happened != "" {
			return err
		}
	}
	return nil
}

// asks asks usher, unless the part is rude. The outcome stays open if usher allows the join.
func (on *players) asks(ctx context.Context, e *entry) error {
	if e.rude {
		return nil
	}
	answer, err := on.ask(ctx, e.client, e.part)
	e.answered()
	if err != nil {
		return err
	}
	conference := answer.Child("conference", nsFocus)
	switch {
	case answer.Attr["type"] == "error":
		e.happened, e.said = verdict(answer), "usher answers "+answer.ErrorCondition()+": "+answer.ErrorText()
	case conference.Attr["ready"] != "true":
		e.happened = "not ready"
	case conference.Attr["session-id"] != "":
		on.sessions[e.name] = conference.Attr["session-id"]
	}
	return nil
}

// verdict is the verdict and reason of a refusal. On the wire are the condition, for the client, and the reason.
func verdict(refusal prosodytest.Stanza) string {
	reason := refusal.Find("reason", "urn:usher:0").Attr["code"]
	if reason == string(auth.ReasonHostAbsent) {
		return hostAbsent
	}
	return "deny: " + reason
}

// joins joins the room, through the lobby if the room sends the client there. The outcome stays open if the client is inside.
func (on *players) joins(ctx context.Context, e *entry) (err error) {
	on.joined = time.Now()
	e.own, err = e.client.Join(ctx, e.room, e.name)
	e.answered()
	if err != nil || e.own.Attr["type"] != "error" {
		return err
	}
	if e.rude {
		e.happened, e.said = on.refusedBy(e.own.ErrorCondition()), on.server()+" itself refuses the join"
		switch {
		case on.module && e.own.ErrorCondition() == "registration-required":
			e.said = "usher's module in Prosody refuses the join"
		case !e.own.Find("lobbyroom", "").IsZero():
			e.said = "the lobby's module in Prosody refuses the join"
		}
		return nil
	}
	e.own, err = on.knock(ctx, e.client, e.part, e.own)
	e.answered()
	if err == nil && e.own.Attr["type"] == "error" {
		e.happened, e.said = "allow, but not joined", on.server()+" answers "+e.own.ErrorCondition()+": "+e.own.ErrorText()
	}
	if e.happened == "" {
		e.said = "knocks at the lobby, and the host lets them in; "
	}
	return err
}

// isSeen compares what everybody inside sees of the client, itself included, and sets the outcome.
func (on *players) isSeen(ctx context.Context, e *entry) error {
	others := slices.Clone(on.inside[e.room])
	on.inside[e.room] = append(on.inside[e.room], e.name)
	for _, name := range on.inside[e.room] {
		seen, err := on.seen(ctx, on.clients[name], e.room+"/"+e.name, name != e.name)
		if err != nil {
			return fmt.Errorf("%s does not see %s: %w", name, e.name, err)
		}
		for _, s := range seen {
			if standing(s) != standing(e.own) {
				e.happened, e.said = "flicker", fmt.Sprintf("%s sees %s, %s sees %s", e.name, standing(e.own), name, standing(s))
				return nil
			}
		}
	}
	if e.early {
		e.said = "usher held the request until a host was inside; "
	}
	if len(others) > 0 {
		e.said += "seen with these rights by " + list(others) + " from the first presence on"
	}
	e.happened = "allow: " + standing(e.own)
	return nil
}

// list joins names for a sentence.
func list(names []string) string {
	last := len(names) - 1
	if last == 0 {
		return names[0]
	}
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// seen returns the presences of an occupant that a client has received so far. If first is true, it waits for the first.
func (on *players) seen(ctx context.Context, c *prosodytest.Client, occupant string, first bool) ([]prosodytest.Stanza, error) {
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
