package portal

import (
	"errors"
	"slices"
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
