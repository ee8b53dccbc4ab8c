//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// The outcomes of a request; other outcomes are the condition and the reason code.
const (
	ready    = "ready"
	notReady = "not ready"
	silent   = "never answered"
	gone     = "connection lost"
)

// patience is how long an actor waits for the server, such as for the answer to a join.
const patience = time.Minute

// actor is one client of the cast.
type actor struct {
	*prosodytest.Client
	s     *site
	bare  string
	nick  string
	room  string
	token string
	quiet bool   // the timeline leaves out its answers
	jitsi bool   // its requests look like those of Jitsi's client, which usher holds for longer
	uid   string // the machine-uid

	session string // the last session id from usher
	resumes bool   // shows the session id instead of the token
}

// come connects a new actor that wants to enter a room. ends is the end of its token, zero for never.
func (s *site) come(ctx context.Context, r right, what, room, tok string, ends time.Time) (*actor, error) {
	vhost := guests
	if tok != "" {
		vhost = domain
	}
	dial, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := s.Dial(dial, prosodytest.ClientOptions{Host: vhost})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.persons++
	name := fmt.Sprintf("%s%d", what, s.persons)
	s.mu.Unlock()
	a := &actor{Client: c, s: s, bare: c.BareJID(), nick: name, room: room, token: tok, uid: "machine-of-" + name}
	s.ledger.knows(a.bare, known{name: name, right: r, room: room, expires: ends, lets: r == host})
	s.ledger.note(room, a.bare, "comes as %s", a.bare)
	return a, nil
}

// asks sends a conference request, and returns its outcome. It waits as long as an answer may still come.
func (a *actor) asks(ctx context.Context) string {
	attr := ""
	switch {
	case a.resumes:
		attr = " session-id='" + a.session + "'"
	case a.token != "":
		attr = " token='" + a.token + "'"
	}
	payload, hold := "", waitHold
	if a.jitsi {
		payload, hold = "<property name='rtcstatsEnabled' value='false'/>", waitHoldJitsi
	}
	sent := time.Now()
	waiting, give := context.WithCancel(context.WithoutCancel(ctx)) // so that the ledger judges each request
	defer give()
	over := make(chan struct{})
	defer func() { <-over }()
	defer give()
	go func() {
		defer close(over)
		for waiting.Err() == nil {
			sleep(waiting, 250*time.Millisecond)
			if a.s.ledger.overdue(sent, hold+2*answerWithin) { // long enough to see a late answer
				give()
			}
		}
	}()
	answer, err := a.IQ(waiting, "set", focus, fmt.Sprintf(
		"<conference xmlns='http://jitsi.org/protocol/focus' room='%s' machine-uid='%s'%s>%s</conference>", a.room, a.uid, attr, payload))
	switch {
	case err == nil:
		what := outcome(answer)
		if id := answer.Child("conference", "http://jitsi.org/protocol/focus").Attr["session-id"]; id != "" {
			a.session = id
		}
		a.s.ledger.answered(a.bare, a.room, what, sent, hold, a.quiet)
		return what
	case a.Err() != nil:
		return gone
	}
	a.s.ledger.silence(a.bare, a.room, sent)
	return silent
}

// outcome returns an answer in words.
func outcome(s prosodytest.Stanza) string {
	if c := s.Child("conference", "http://jitsi.org/protocol/focus"); !c.IsZero() && s.Attr["type"] == "result" {
		if c.Attr["ready"] == "true" {
			return ready
		}
		return notReady
	}
	return strings.TrimSpace(s.ErrorCondition() + " " + s.Find("reason", "urn:usher:0").Attr["code"])
}

// joins joins the room, and reports whether the actor is inside with a right. An actor that enters without one may stay for a while,
// to see whether usher removes it.
func (a *actor) joins(ctx context.Context) (*visit, bool) {
	if err := a.Err(); err != nil {
		return nil, false
	}
	a.Drain()
	v := a.s.ledger.enters(a.bare, a.room)
	one, done := context.WithTimeout(ctx, patience)
	defer done()
	own, err := a.Join(one, a.room, a.nick)
	switch {
	case err != nil:
		a.ends(v)
		return nil, false
	case own.Attr["type"] != "":
		a.s.ledger.refused(v, own.ErrorCondition())
		return nil, false
	}
	if fault, forNow := a.s.ledger.entered(v); fault != "" {
		if forNow && a.stays(ctx, v, endWithin) {
			a.s.ledger.count("put out at once")
			return nil, false
		}
		a.s.ledger.wrongly(v, fault)
		a.leaves(ctx, v)
		return nil, false
	}
	return v, true
}

// isOut reports whether a stanza is the room's notice that the actor is outside.
func (a *actor) isOut(s prosodytest.Stanza) bool {
	return s.Name == "presence" && s.Attr["type"] == "unavailable" && s.Attr["from"] == a.room+"/"+a.nick
}

// stays remains inside for a while, and reports whether the actor was removed meanwhile.
func (a *actor) stays(ctx context.Context, v *visit, d time.Duration) (out bool) {
	one, done := context.WithTimeout(ctx, d)
	defer done()
	_, err := a.Await(one, a.isOut)
	a.Drain()
	switch {
	case err == nil:
		a.s.ledger.removed(v)
		return true
	case a.Err() != nil:
		a.ends(v)
		return true
	}
	return false
}

// leaves leaves the room, and waits for the room's notice.
func (a *actor) leaves(ctx context.Context, v *visit) {
	a.s.ledger.note(a.room, a.bare, "leaves")
	one, done := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer done()
	if a.Send("<presence type='unavailable' to='"+a.room+"/"+a.nick+"'/>") == nil {
		if _, err := a.Await(one, a.isOut); err == nil {
			a.s.ledger.exits(v, "is outside")
			return
		}
	}
	a.ends(v)
}

// vanishes drops the connection, and waits until the room has noticed.
func (a *actor) vanishes(v *visit) {
	a.s.ledger.note(a.room, a.bare, "loses the connection")
	a.Kill()
	a.ends(v)
}

// ends drops the connection. The visit is over once the observer no longer sees the actor.
func (a *actor) ends(v *visit) {
	a.Kill()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for ctx.Err() == nil && !a.s.ledger.isOver(v) {
		view, err := a.s.look(ctx, a.room)
		if err == nil && view.Occupant(a.bare).JID == "" {
			break
		}
		sleep(ctx, 200*time.Millisecond)
	}
	a.s.ledger.exits(v, "is gone")
}

// away disconnects, with or without leaving the room first.
func (a *actor) away(ctx context.Context, r *rand.Rand, v *visit) {
	switch {
	case v == nil:
		_ = a.Close()
	case r.IntN(3) == 0:
		a.vanishes(v)
	default:
		a.leaves(ctx, v)
		_ = a.Close()
	}
}

// wants asks again and again, as lib-jitsi-meet does (moderator.js), until the answer is ready or a final refusal, or until its
// patience ends.
func (a *actor) wants(ctx context.Context, r *rand.Rand, patience time.Duration) string {
	began, pause := time.Now(), time.Second
	for ctx.Err() == nil {
		what := a.asks(ctx)
		again := 5 * time.Second
		switch {
		case what == ready, what == silent, what == gone, strings.HasPrefix(what, "forbidden"):
			return what
		case what == notReady:
			again, pause = pause, min(2*pause, 8*time.Second)
		case strings.HasPrefix(what, "not-authorized"):
		case strings.HasPrefix(what, "not-acceptable"): // the session is not valid, or no longer
			a.resumes, again = false, 0
		default: // the component is away: lib-jitsi-meet gives up, and the person reloads the page
			a.s.ledger.count("reloaded")
			again = between(r, time.Second, 2*time.Second)
		}
		if time.Since(began) > patience {
			return what
		}
		sleep(ctx, again)
	}
	return gone
}

// between returns a random duration.
func between(r *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(r.Int64N(int64(to-from)+1))
}

// cast lets the whole cast use the site until ctx ends. It returns when all have left.
func (s *site) cast(ctx context.Context, r *rand.Rand, rooms []string) {
	var all sync.WaitGroup
	play := func(act func(context.Context, *rand.Rand) error) {
		r := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
		all.Go(func() {
			for ctx.Err() == nil {
				if err := act(ctx, r); err != nil {
					sleep(ctx, between(r, 500*time.Millisecond, time.Second)) // the server is away
				}
				sleep(ctx, between(r, time.Second, 4*time.Second))
			}
		})
	}
	for n, room := range rooms {
		// The hosts of later rooms are away for longer, so that at each moment some guest waits for a host.
		pause := time.Duration(n*n) * 8 * time.Second
		play(func(ctx context.Context, r *rand.Rand) error { return s.host(ctx, r, room, pause) })
		for range 3 {
			play(func(ctx context.Context, r *rand.Rand) error { return s.guest(ctx, r, room) })
		}
		play(func(ctx context.Context, r *rand.Rand) error { return s.member(ctx, r, room) })
		play(func(ctx context.Context, r *rand.Rand) error { return s.stranger(ctx, r, room) })
		play(func(ctx context.Context, r *rand.Rand) error { return s.forger(ctx, r, room) })
	}
	all.Wait()
}

// host enters with a token after a pause, and leaves again. Sometimes it reloads the page.
func (s *site) host(ctx context.Context, r *rand.Rand, room string, pause time.Duration) error {
	sleep(ctx, between(r, 0, pause+10*time.Second))
	ends := time.Now().Add(time.Hour)
	a, err := s.come(ctx, host, "host", room, mint(room, ends, nil), ends)
	if err != nil {
		return err
	}
	defer func() { a.Close() }()
	for again := r.IntN(3); ; again-- {
		var v *visit
		if a.wants(ctx, r, 30*time.Second) == ready {
			if v, _ = a.joins(ctx); v != nil && a.stays(ctx, v, between(r, 3*time.Second, 15*time.Second)) {
				return nil
			}
		}
		a.away(ctx, r, v)
		if again <= 0 || ctx.Err() != nil {
			break
		}
		// After a reload the JID is new, and the client shows its session instead of the token.
		sleep(ctx, between(r, 0, 3*time.Second))
		was := a
		if a, err = s.come(ctx, host, "host", room, was.token, ends); err != nil {
			a = was
			return err
		}
		a.uid, a.session, a.resumes = was.uid, was.session, was.session != ""
	}
	return nil
}

// guest waits for a host, and then enters at once, or after a while, or never.
func (s *site) guest(ctx context.Context, r *rand.Rand, room string) error {
	a, err := s.come(ctx, guest, "guest", room, "", time.Time{})
	if err != nil {
		return err
	}
	defer a.Close()
	a.jitsi = r.IntN(2) == 0
	for range 1 + r.IntN(3) {
		if a.wants(ctx, r, 45*time.Second) != ready {
			return nil
		}
		switch r.IntN(8) {
		case 0:
			s.ledger.note(room, a.bare, "stays away")
			return nil
		case 1:
			sleep(ctx, between(r, 2*time.Second, 15*time.Second))
		}
		v, ok := a.joins(ctx)
		if !ok {
			continue
		}
		if a.stays(ctx, v, between(r, 2*time.Second, 12*time.Second)) {
			continue
		}
		if r.IntN(3) == 0 {
			a.vanishes(v)
			return nil
		}
		a.leaves(ctx, v)
		sleep(ctx, between(r, 0, 5*time.Second))
	}
	return nil
}

// member enters without a host.
func (s *site) member(ctx context.Context, r *rand.Rand, room string) error {
	ends := time.Now().Add(between(r, 5*time.Second, time.Minute)).Truncate(time.Second)
	a, err := s.come(ctx, member, "member", room, mint(room, ends, func(c *token.Claims) { c.User.Affiliation = "member" }), ends)
	if err != nil {
		return err
	}
	defer a.Close()
	var v *visit
	if a.wants(ctx, r, 20*time.Second) == ready {
		sleep(ctx, between(r, 0, 2*time.Second))
		if v, _ = a.joins(ctx); v != nil && a.stays(ctx, v, between(r, 2*time.Second, 10*time.Second)) {
			return nil
		}
	}
	a.away(ctx, r, v)
	sleep(ctx, between(r, time.Second, 10*time.Second))
	return nil
}

// stranger joins without asking usher.
func (s *site) stranger(ctx context.Context, r *rand.Rand, room string) error {
	a, err := s.come(ctx, nothing, "stranger", room, "", time.Time{})
	if err != nil {
		return err
	}
	defer a.Close()
	for range 10 {
		if _, in := a.joins(ctx); in || ctx.Err() != nil || a.Err() != nil {
			break
		}
		sleep(ctx, between(r, time.Second, 2*time.Second))
	}
	return a.Err()
}

// forger shows a bad token, and then joins all the same.
func (s *site) forger(ctx context.Context, r *rand.Rand, room string) error {
	hour := time.Now().Add(time.Hour)
	bad := []struct {
		what string
		ends time.Time
		with func(*token.Claims)
	}{
		{"forger", hour, func(c *token.Claims) { c.User.Name = forged }},
		{"late", time.Now().Add(-time.Minute), nil},
		{"early", hour, func(c *token.Claims) { c.NotBefore = hour.Add(-time.Minute) }},
		{"stray", hour, func(c *token.Claims) { c.Room = "elsewhere" }},
		{"alien", hour, func(c *token.Claims) { c.Issuer = "another_app" }},
		{"tenant", hour, func(c *token.Claims) { c.Subject = "elsewhere.example.com" }},
	}[r.IntN(6)]
	a, err := s.come(ctx, nothing, bad.what, room, mint(room, bad.ends, bad.with), bad.ends)
	if err != nil {
		return err
	}
	defer a.Close()
	if what := a.asks(ctx); what == gone {
		return errors.New(gone)
	}
	_, _ = a.joins(ctx)
	sleep(ctx, between(r, time.Second, 4*time.Second))
	return nil
}
