package portal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
)

// TestInsideLonger: people may stay in a room when their token ends (on_expiry: keep). A logout, and an account that is disabled, put them
// out all the same, whether a browser or a program has logged in; tokens by which nobody is inside any more are not remembered.
func TestInsideLonger(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	b := f.browser(p)
	b.login("romeo", "room", "standup")
	gone := b.get("/login?room=other")
	wants(t, "another room", gone, 303, "/other?jwt=")
	stays := f.mints[0].ID
	f.do(func() { f.inside[stays] = true })
	f.forward(3 * time.Hour)
	b.get("/login?room=third") // renews, and forgets what has ended
	at, _ := p.sessions()
	s, err := at.get(t.Context(), b.session())
	if err != nil || len(s.Tokens) != 2 {
		t.Fatalf("%d tokens, %v", len(s.Tokens), err)
	}
	wants(t, "logout", b.get("/logout"), 200, "")
	want := []string{f.mints[2].ID, stays}
	if !slices.Equal(f.revoked, want) {
		t.Errorf("revoked %v, want %v", f.revoked, want)
	}

	in, err := p.Enter(t.Context(), Login{Attempt: account.Attempt{Name: "nurse", Password: password}, Room: "nursery", TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	f.do(func() {
		f.inside[in.JTI] = true
		f.accounts = slices.DeleteFunc(slices.Clone(f.accounts), func(a account.Account) bool { return a.Name == "nurse" })
	})
	f.forward(3 * time.Hour)
	p.Reloaded(t.Context())
	if !slices.Contains(f.revoked, in.JTI) {
		t.Error("somebody stays inside without an account")
	}
}

// TestLeeway: a token counts a moment longer than it lasts, because issuers have a leeway; a logout revokes it then.
func TestLeeway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.browser(f.portal())
	b.login("romeo", "room", "standup")
	f.forward(time.Hour + 30*time.Second)
	b.get("/logout")
	if len(f.revoked) != 1 {
		t.Errorf("revoked %v", f.revoked)
	}
}

// TestSharedAccount: where many log in as one, a login puts nobody out of a room, as long as there is a session that nobody needs. Programs,
// which log in for each host, are the first to be forgotten.
func TestSharedAccount(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	at, _ := p.sessions()
	person := account.Person{ID: "account:romeo", Name: "romeo"}
	begin := func(program, inside bool) string {
		t.Helper()
		s := session{ID: idOf(random()), Person: person, Program: program, Begun: f.clock(), Ends: f.clock().Add(12 * time.Hour)}
		if err := p.begin(t.Context(), at, s); err != nil {
			t.Fatal(err)
		}
		_, jti, _, err := p.mint(t.Context(), at, s, person, auth.Room{Name: "standup"}, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		f.do(func() { f.inside[jti] = inside })
		f.forward(time.Second)
		return s.ID
	}
	inside, idle, program := begin(true, true), begin(false, false), begin(true, false)
	for range maxSessions - 3 {
		begin(false, true)
	}
	f.forward(time.Hour)
	for _, next := range []string{program, idle, inside} {
		if _, err := at.get(t.Context(), next); err != nil {
			t.Fatalf("has ended too early: %v", err)
		}
		begin(false, true)
		if _, err := at.get(t.Context(), next); !errors.Is(err, errNoSession) || f.records() != maxSessions {
			t.Errorf("%d sessions, %v", f.records(), err)
		}
	}
}

// TestNamed: whatever a room and its tenant are called, the page of waiting is a page, its stream is a stream, and both are about that room.
func TestNamed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	for _, room := range []auth.Room{
		{Name: "events"}, {Name: "events", Tenant: "acme"}, {Name: "events", Tenant: "events"}, {Name: "standup", Tenant: "events"},
		{Name: "wait", Tenant: "wait"}, {Name: "login"}, {Name: "a?b#c%25d"}, {Name: "über uns", Tenant: "acme"},
	} {
		f.do(func() { f.rooms[room.Claim()] = RoomState{Open: true, HostInside: true} })
		b := f.browser(p)
		w := b.get(waitPath(room))
		wants(t, waitPath(room), w, 200, `data-events="`+waitPath(room)+"?events"+`"`)
		if !strings.Contains(w.Body.String(), "data-ready") {
			t.Errorf("%s is about another room", waitPath(room))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // after the first look
		stream := b.send(request("GET", waitPath(room)+"?events", "").WithContext(ctx))
		if stream.Header().Get("Content-Type") != "text/event-stream" {
			t.Errorf("%s: %v", waitPath(room)+"?events", stream.Header())
		}
	}
}

// TestLedToLogout: another site cannot log anybody out by leading the browser there; jitsi-meet's pages and the person can.
func TestLedToLogout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.browser(f.portal())
	b.begin(b.p.(*Portal), "romeo")
	for _, from := range []string{"", "https://evil.example/", meet + ".evil.example/", "%%"} {
		w := b.get("/logout", "Sec-Fetch-Site", "cross-site", "Referer", from)
		wants(t, "from "+from, w, 200, `href="/logout"`)
		wants(t, "still there", b.get("/rooms"), 200, "")
	}
	for _, headers := range [][]string{
		{"Sec-Fetch-Site", "cross-site", "Referer", meet + "/"}, {"Sec-Fetch-Site", "same-site"}, {"Sec-Fetch-Site", "same-origin", "Referer", public + "/logout"},
		{"Sec-Fetch-Site", "none"}, nil,
	} {
		b.begin(b.p.(*Portal), "romeo")
		b.get("/logout", headers...)
		wants(t, strings.Join(headers, " "), b.get("/rooms"), 303, "/login")
	}
	wants(t, "back from a provider", b.get("/logout", "Sec-Fetch-Site", "cross-site"), 200, `href="/login"`)
}

// TestTwoTabs: somebody who had two tabs with the login, and logs in on both, is not put out of the room in the first one. Somebody else in
// the same browser is another session, and so is the same person after a while.
func TestTwoTabs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.browser(f.portal())
	b.login("romeo", "room", "standup")
	first := b.session()
	wants(t, "second tab", b.login("romeo", "room", "other"), 303, meet+"/other?jwt=")
	if b.session() != first || len(f.revoked) != 0 || f.records() != 1 || len(f.mints) != 2 {
		t.Errorf("revoked %v, %d sessions", f.revoked, f.records())
	}
	f.forward(7 * time.Hour)
	b.login("romeo")
	second := b.session()
	if second == first || f.records() != 1 {
		t.Errorf("%d sessions", f.records())
	}
	b.login("nurse")
	if b.session() == second || f.records() != 1 {
		t.Errorf("%d sessions", f.records())
	}
}

// TestMissing: with until-host-left, a host who leaves while no usher runs is missed later, and logs in again; somebody who has not come yet,
// or who is away for a moment only, is not.
func TestMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal(func(o *Options) { o.UntilHostLeft = true })
	inside := func(n int, is bool) { f.do(func() { f.inside[f.mints[n].ID] = is }) }
	var all [3]*browser // one who stays away, one who comes back, one who has never come
	for n := range all {
		all[n] = f.browser(p)
		all[n].begin(p, "romeo")
		wants(t, "a token", all[n].get("/login?room=standup"), 303, "jwt=")
		if n < 2 {
			inside(n, true)
			p.Came(f.mints[n].ID)
		}
	}
	p.Wait()
	p.Missing(t.Context())
	inside(0, false)
	inside(1, false)
	p.Missing(t.Context())
	f.forward(awayFor / 2)
	inside(1, true)
	p.Missing(t.Context())
	inside(1, false)
	f.forward(awayFor / 2)
	p.Missing(t.Context())
	for n, status := range []int{303, 200, 200} {
		wants(t, fmt.Sprint(n), all[n].get("/rooms"), status, "")
	}
	if len(f.revoked) != 1 || f.revoked[0] != f.mints[0].ID {
		t.Errorf("revoked %v", f.revoked)
	}
	// An usher that stands by, or that has lost its store, ends nothing.
	f.do(func() { f.aside = true })
	p.Missing(t.Context())
}
