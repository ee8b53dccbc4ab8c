package portal

import (
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/secrettest"
)

// TestSecrets: passwords, cookies, tokens, codes, and what providers give, are in no log, no line of the audit log, no page and no error;
// and of all these only the hint for a logout is in the store.
func TestSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	var secrets secrettest.Secrets
	const wrong, refresh = "a wrong password of Romeo's", "refreshtoken0123456789"
	secrets.Plant("a password", password, wrong)
	secrets.PlantRandom("a refresh token", refresh)
	secrets.Plant("the client secret", "client-secret-of-usher")
	var kept secrettest.Secrets // what the store may not have either
	kept.Plant("a password", password, wrong)
	kept.PlantRandom("a refresh token", refresh)
	plant := func(what string, texts ...string) {
		secrets.PlantRandom(what, texts...)
		kept.PlantRandom(what, texts...)
	}

	state := url.QueryEscape(`{"room":"class-1","refreshToken":"` + refresh + `"}`)
	b := f.browser(p)
	b.post("/login", "name", "romeo", "password", wrong, "state", `{"room":"class-1","refreshToken":"`+refresh+`"}`)
	b.post("/login", "name", wrong[:10], "password", password)
	b.post("/login", "name", "romeo", "password", password, "state", "{"+password)
	b.login("romeo", "room", "standup")
	plant("a session's cookie", b.cookies["__Host-usher"].Value)
	plant("a device's cookie", b.cookies["__Host-usher-device"].Value)
	f.do(func() { f.revoke, f.mintErr = errBroken, errBroken })
	b.get("/login?room=standup")
	b.get("/logout")
	f.do(func() { f.revoke, f.mintErr = nil, nil })

	for _, user := range []string{"alice", "bob", "alice"} {
		s := f.browser(p)
		w := s.get("/login/with/school?state=" + state)
		to, err := url.Parse(w.Header().Get("Location"))
		if err != nil {
			t.Fatal(err)
		}
		plant("a state", to.Query().Get("state"))
		secrets.PlantRandom("a nonce", to.Query().Get("nonce"))
		plant("a cookie of a flow", s.cookies["__Host-usher-flow"].Value)
		back := strings.TrimPrefix(school.Login(t, to.String(), user).String(), public)
		code, err := url.Parse(back)
		if err != nil {
			t.Fatal(err)
		}
		plant("a code", code.Query().Get("code"))
		s.get(back)
		s.get(back)
		if c := s.cookies["__Host-usher"]; c != nil {
			plant("a session's cookie", c.Value)
		}
		s.get("/login?room=class-1")
	}
	at, _ := p.sessions()
	all, err := at.all(t.Context(), func(session) bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		secrets.PlantTokens(s.IDToken)
	}
	logout := school.Sign("logout+jwt", school.LogoutClaims("usher", "f3b1-alice", ""))
	secrets.PlantTokens(logout)
	kept.PlantTokens(logout)
	for range 2 {
		f.browser(p).send(request("POST", "/logout/backchannel/school", url.Values{"logout_token": {logout}}.Encode()))
	}
	if _, err := p.Enter(t.Context(), Login{Attempt: account.Attempt{Name: "romeo", Password: wrong}}); err != nil {
		secrets.Check(t, "an error", err.Error())
	}
	b.login("romeo", "room", "standup")
	plant("a session's cookie", b.cookies["__Host-usher"].Value)
	f.browser(p).get("/login/with/school?state=" + state)
	for _, m := range f.mints {
		secrets.PlantTokens(tokenOf(m.ID))
		kept.PlantTokens(tokenOf(m.ID))
	}
	secrets.Check(t, "pages", f.heard.String())
	secrets.Check(t, "calls", fmt.Sprintf("%+v", f.calls))
	for _, e := range f.logged.All() {
		secrets.Check(t, "the log", fmt.Sprintf("%s %+v", e.Message, e.ContextMap()))
	}
	if f.logged.Len() == 0 || len(f.calls) == 0 || f.records() == 0 {
		t.Error("there was nothing to examine")
	}
	for _, kind := range []store.Kind{store.KindLogin, store.KindFlow, store.KindUsed} {
		for r := range f.store.All(t.Context(), kind) {
			kept.Check(t, "the store", r.Key+string(r.Value))
		}
	}
}
