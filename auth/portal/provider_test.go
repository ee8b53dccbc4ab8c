package portal

import (
	"html"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// withSchool adds a provider, which sends its logout tokens to a portal on a port of its own.
func withSchool(t *testing.T, f *fixture) (*Portal, *oidctest.Provider) {
	t.Helper()
	school := oidctest.Start(t, oidctest.Options{Users: []oidctest.User{
		{Name: "alice", Password: "alice-password", Subject: "f3b1-alice", Display: "Alice A.", Groups: []string{"/teachers"}},
		{Name: "bob", Password: "bob-password", Groups: []string{"/pupils"}},
	}})
	f.school = oidc.New(oidc.Options{PublicURL: public, Now: f.clock, Providers: []oidc.Provider{schoolOf(school)}})
	p := f.portal()
	back := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "login.example.com"
		p.ServeHTTP(w, r)
	}))
	t.Cleanup(back.Close)
	school.Register(oidctest.Client{
		ID: "usher", Secret: "client-secret-of-usher", RedirectURIs: []string{public + "/login/callback/school"},
		PostLogoutURIs: []string{public + "/logout"}, BackChannelURI: back.URL + "/logout/backchannel/school",
	})
	return p, school
}

// schoolOf is the provider as it is configured: teachers open classes.
func schoolOf(p *oidctest.Provider) oidc.Provider {
	return oidc.Provider{
		Name: "school", Title: "The School", Issuer: p.Issuer, ClientID: "usher", ClientSecret: "client-secret-of-usher", Leeway: time.Minute,
		Rules: []oidc.Rule{{Value: "teachers", Affiliation: auth.Owner, Rooms: []string{"class-*"}}},
	}
}

// through logs somebody in at the provider, and returns the address at the portal to which it sends the browser.
func (b *browser) through(t *testing.T, school *oidctest.Provider, user, query string) string {
	t.Helper()
	w := b.get("/login/with/school" + query)
	if w.Code != http.StatusSeeOther {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return strings.TrimPrefix(school.Login(t, w.Header().Get("Location"), user).String(), public)
}

// TestProvider: a login at a provider leads to the room that it was begun for, once, in the browser that began it.
func TestProvider(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	b := f.browser(p)
	state := `{"room":"Class-1","electron":true,"config.startWithAudioMuted":true,"refreshToken":"a-refresh-token"}`
	page := b.get("/login?state=" + url.QueryEscape(state)).Body.String()
	if !strings.Contains(page, "The School") || !strings.Contains(page, "/login/with/school?") || strings.Contains(page, "a-refresh-token") {
		t.Errorf("the page: %s", page)
	}
	back := b.through(t, school, "alice", "?state="+url.QueryEscape(state))
	other := f.browser(p)
	wants(t, "another browser", other.get(back), 400, "<h1>")
	other.get("/login/with/school")
	wants(t, "another browser with a login of its own", other.get(back), 400, "<h1>")
	wants(t, "another provider's", b.get(strings.Replace(back, "/school", "/other", 1)), 400, "<h1>")
	wants(t, "the browser", b.get(back), 303, "jitsi-meet://meet.example.com/Class-1"+f.minted()+"#config.startWithAudioMuted=true")
	wants(t, "twice", b.get(back), 400, "<h1>")
	if m := f.mints[0]; m.Person.ID != "school:f3b1-alice" || m.Person.Affiliation != auth.Owner || m.Person.Display != "Alice A." {
		t.Errorf("minted %+v", m)
	}
	wants(t, "their room", b.get("/login?room=class-2"), 303, meet+"/class-2?jwt=")
	wants(t, "not their room", b.get("/login?room=standup"), 403, "banner")

	// Two tabs, each with a login under way.
	tabs := f.browser(p)
	one, two := tabs.through(t, school, "alice", "?room=class-1"), tabs.through(t, school, "alice", "?room=class-2")
	wants(t, "one tab", tabs.get(one), 303, meet+"/class-1?jwt=")
	wants(t, "the other tab", tabs.get(two), 303, meet+"/class-2?jwt=")

	pupil := f.browser(p)
	wants(t, "no group that may", pupil.get(pupil.through(t, school, "bob", "?room=class-1")), 403, "<h1>")
	if pupil.session() != "" {
		t.Error("somebody without a room has a session")
	}
	late := f.browser(p)
	back = late.through(t, school, "alice", "")
	f.forward(flowLasts)
	wants(t, "too late", late.get(back), 400, "<h1>")
	refused := f.browser(p)
	refused.get("/login/with/school")
	wants(t, "no state", refused.get("/login/callback/school?code=x"), 400, "<h1>")
	to, err := url.Parse(refused.get("/login/with/school").Header().Get("Location"))
	if err != nil {
		t.Fatal(err)
	}
	wants(t, "said no", refused.get("/login/callback/school?error=access_denied&state="+to.Query().Get("state")), 403, "<h1>")
	wants(t, "no such provider", b.get("/login/with/other"), 404, "<h1>")

	school.Instead(oidctest.Discovery, http.NotFound)
	gone := oidc.New(oidc.Options{PublicURL: public, Providers: []oidc.Provider{{Name: "school", Issuer: school.Issuer, ClientID: "usher"}}})
	f.do(func() { f.school = gone })
	wants(t, "unavailable", b.get("/login/with/school"), 503, "<h1>")
}

// TestOtherPerson: the provider asks again who somebody is if they may open no room and want to be somebody else, and where hosts log in
// again for each conference.
func TestOtherPerson(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	pupil := f.browser(p)
	const asks = "prompt=login"
	if to := pupil.get("/login/with/school?room=class-1").Header().Get("Location"); strings.Contains(to, asks) {
		t.Errorf("at first: %s", to)
	}
	notice := pupil.get(pupil.through(t, school, "bob", "?room=class-1")).Body.String()
	_, link, _ := strings.Cut(notice, `href="/login?`)
	link, _, _ = strings.Cut(link, `"`)
	form := pupil.get("/login?" + html.UnescapeString(link)).Body.String()
	_, link, _ = strings.Cut(form, `href="/login/with/school?`)
	link, _, _ = strings.Cut(link, `"`)
	if to := pupil.get("/login/with/school?" + html.UnescapeString(link)).Header().Get("Location"); !strings.Contains(to, asks) {
		t.Errorf("as somebody else: %q from %s", to, link)
	}
	each := f.portal(func(o *Options) { o.UntilHostLeft = true })
	if to := f.browser(each).get("/login/with/school").Header().Get("Location"); !strings.Contains(to, asks) {
		t.Errorf("with until-host-left: %q", to)
	}
}

// TestFlows: logins that are begun and never ended are bounded for each network.
func TestFlows(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, _ := withSchool(t, f)
	b := f.browser(p)
	for range flowsBurst {
		wants(t, "begun", b.get("/login/with/school"), 303, "http://127.0.0.1")
	}
	wants(t, "too many", b.get("/login/with/school"), 429, "banner")
	b.from = "192.0.2.2:1"
	wants(t, "another network", b.get("/login/with/school"), 303, "http://127.0.0.1")
}

// TestProviderLogout: who logs out here also does so at the provider.
func TestProviderLogout(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	b := f.browser(p)
	at := school.Browser()
	to := b.get("/login/with/school?room=class-1").Header().Get("Location")
	b.get(strings.TrimPrefix(at.Login(t, to, "alice").String(), public))
	w := b.get("/logout")
	wants(t, "logout", w, 303, "http://127.0.0.1")
	if b.session() != "" || f.records() != 0 || len(f.revoked) != 1 {
		t.Errorf("%d sessions, revoked %v", f.records(), f.revoked)
	}
	if back := at.Visit(t, w.Header().Get("Location")).String(); !strings.HasPrefix(back, public+"/logout") {
		t.Errorf("the provider sends the browser to %s", back)
	}
	wants(t, "back", b.get("/logout"), 200, "/login")
}

// TestBackChannel: who logs out at the provider has no session here any more, and no token.
func TestBackChannel(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	desk, phone, local := f.browser(p), f.browser(p), f.browser(p)
	desk.get(desk.through(t, school, "alice", "?room=class-1"))
	phone.get(phone.through(t, school, "alice", "?room=class-2"))
	local.login("romeo", "room", "standup")
	logout := func(token string) *httptest.ResponseRecorder {
		return f.browser(p).send(request("POST", "/logout/backchannel/school", url.Values{"logout_token": {token}}.Encode()))
	}
	at, _ := p.sessions()
	sid := func(b *browser) string {
		s, err := at.get(t.Context(), b.session())
		if err != nil {
			t.Fatal(err)
		}
		return s.SID
	}
	// One session of two.
	token := school.Sign("logout+jwt", school.LogoutClaims("usher", "f3b1-alice", sid(phone)))
	f.do(func() { f.revoke = errBroken })
	wants(t, "revoking fails", logout(token), 400, "invalid_request")
	f.do(func() { f.revoke = nil })
	wants(t, "again", logout(token), 200, "")
	wants(t, "replayed", logout(token), 400, "invalid_request")
	wants(t, "the phone", phone.get("/rooms"), 303, "/login")
	wants(t, "the desk", desk.get("/rooms"), 200, "")
	if len(f.revoked) != 1 || f.revoked[0] != f.mints[1].ID {
		t.Errorf("revoked %v", f.revoked)
	}
	wants(t, "not signed", logout("a.b.c"), 400, "invalid_request")
	wants(t, "of somebody else", logout(school.Sign("logout+jwt", school.LogoutClaims("usher", "somebody-else", ""))), 200, "")
	wants(t, "the desk", desk.get("/rooms"), 200, "")

	for range 3 * linesBurst {
		logout("a.b.c")
	}
	if n := f.logged.FilterMessageSnippet("was not followed").Len(); n > 2*linesBurst {
		t.Errorf("strangers cause %d lines in the log", n)
	}

	// All of the person, by an administrator of the provider.
	began := time.Now()
	if school.Logout("alice") == 0 {
		t.Error("the provider's logout token was refused")
	}
	t.Logf("took %s", time.Since(began))
	wants(t, "the desk", desk.get("/rooms"), 303, "/login")
	wants(t, "another provider's", local.get("/rooms"), 200, "")
	if len(f.revoked) != 2 {
		t.Errorf("revoked %v", f.revoked)
	}
	claims := school.LogoutClaims("usher", "f3b1-alice", "")
	claims["iat"] = time.Now().Add(-5 * time.Second).Unix()
	wants(t, "all of the person, a while ago", logout(school.Sign("logout+jwt", claims)), 200, "")
	wants(t, "who has logged in since", desk.get(desk.through(t, school, "alice", "?room=class-1")), 303, meet+"/class-1?jwt=")
	for r := range f.store.All(t.Context(), store.KindUsed) {
		if r.End.Before(f.clock()) {
			t.Error("a logout token is not remembered")
		}
	}
}

// TestProviderLess: who has lost a group by the next login, in whatever browser, has no session with its rights any more. Who has got one
// stays.
func TestProviderLess(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	to := schoolOf(school)
	to.Rules = append(to.Rules, oidc.Rule{Value: "staff", Affiliation: auth.Member, Rooms: []string{"standup"}})
	f.do(func() {
		f.school = oidc.New(oidc.Options{PublicURL: public, Now: f.clock, Providers: []oidc.Provider{to}})
	})
	desk, phone := f.browser(p), f.browser(p)
	is := func(groups ...string) {
		school.Change(oidctest.IDToken, func(claims map[string]any) { claims["groups"] = groups })
	}
	wants(t, "a teacher", desk.get(desk.through(t, school, "alice", "?room=class-1")), 303, meet+"/class-1?jwt=")
	is("teachers", "staff")
	wants(t, "of the staff, too", phone.get(phone.through(t, school, "alice", "?room=standup")), 303, meet+"/standup?jwt=")
	wants(t, "the desk", desk.get("/rooms"), 200, "")
	is("teachers")
	other := f.browser(p)
	wants(t, "a teacher only", other.get(other.through(t, school, "alice", "?room=class-1")), 303, meet+"/class-1?jwt=")
	wants(t, "the phone", phone.get("/rooms"), 303, "/login")
	wants(t, "the desk", desk.get("/rooms"), 200, "")
	is("nobody")
	wants(t, "nobody", other.get(f.browser(p).through(t, school, "alice", "?room=class-1")), 400, "<h1>")
	wants(t, "another browser's login", desk.get("/rooms"), 200, "")
	last := f.browser(p)
	wants(t, "no group", last.get(last.through(t, school, "alice", "?room=class-1")), 403, "<h1>")
	wants(t, "the desk", desk.get("/rooms"), 303, "/login")
	if f.records() != 0 || len(f.revoked) != 3 {
		t.Errorf("%d sessions, revoked %v", f.records(), f.revoked)
	}
}

// TestCovered: which sessions a logout token ends.
func TestCovered(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		out  oidc.Out
		s    session
		want bool
	}{
		"session":                  {oidc.Out{Provider: "a", Subject: "x", SID: "1"}, session{Provider: "a", Subject: "x", SID: "1"}, true},
		"session alone":            {oidc.Out{Provider: "a", SID: "1"}, session{Provider: "a", Subject: "x", SID: "1"}, true},
		"another session":          {oidc.Out{Provider: "a", Subject: "x", SID: "1"}, session{Provider: "a", Subject: "x", SID: "2"}, false},
		"session without a name":   {oidc.Out{Provider: "a", Subject: "x", SID: "1"}, session{Provider: "a", Subject: "x"}, true},
		"person":                   {oidc.Out{Provider: "a", Subject: "x"}, session{Provider: "a", Subject: "x", SID: "2"}, true},
		"another person":           {oidc.Out{Provider: "a", Subject: "x"}, session{Provider: "a", Subject: "y"}, false},
		"another provider":         {oidc.Out{Provider: "a", Subject: "x", SID: "1"}, session{Provider: "b", Subject: "x", SID: "1"}, false},
		"by a password":            {oidc.Out{Provider: "a"}, session{}, false},
		"nobody":                   {oidc.Out{Provider: "a"}, session{Provider: "a"}, false},
		"session of somebody else": {oidc.Out{Provider: "a", Subject: "x", SID: "1"}, session{Provider: "a", Subject: "y", SID: "1"}, false},
	} {
		if got := covered(test.out)(test.s); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestProviderGone: the sessions of a provider that is configured no more, or with other rules, end with the next reload; those of one
// with another title and secret stay.
func TestProviderGone(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(p *oidc.Provider)
		ends   bool
	}{
		"gone":          {func(p *oidc.Provider) { p.Name = "other" }, true},
		"other rules":   {func(p *oidc.Provider) { p.Rules[0].Rooms = []string{"class-1"} }, true},
		"another title": {func(p *oidc.Provider) { p.Title, p.ClientSecret = "A School", "another client secret" }, false},
	} {
		f := newFixture(t)
		p, school := withSchool(t, f)
		b := f.browser(p)
		b.get(b.through(t, school, "alice", "?room=class-1"))
		p.Reloaded(t.Context())
		wants(t, name+": before", b.get("/rooms"), 200, "")
		to := schoolOf(school)
		test.change(&to)
		f.do(func() { f.school = oidc.New(oidc.Options{PublicURL: public, Providers: []oidc.Provider{to}}) })
		p.Reloaded(t.Context())
		if ends := f.records() == 0 && len(f.revoked) == 1; ends != test.ends {
			t.Errorf("%s: %d sessions, revoked %v", name, f.records(), f.revoked)
		}
	}
}

// TestMeanwhile: who logs out at the provider while the browser is on the way from there is not logged in.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	b := f.browser(p)
	at, _ := p.sessions()
	b.get(b.through(t, school, "alice", "?room=class-1"))
	s, err := at.get(t.Context(), b.session())
	if err != nil || s.SID == "" {
		t.Fatal(s, err)
	}
	if err := p.loggedOutThere(t.Context(), at, oidc.Out{Provider: "school", Subject: s.Subject, SID: s.SID, JTI: "1", Expires: f.clock().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	v := &visit{Portal: p, w: &serve.Recorder{ResponseWriter: w}, r: request("GET", "/", ""), at: at}
	late := session{Person: s.Person, Provider: s.Provider, Version: s.Version, Subject: s.Subject, SID: s.SID}
	v.loggedIn(t.Context(), late, trip{})
	if wants(t, "meanwhile", w, 403, "<h1>"); len(w.Result().Cookies()) != 0 || f.records() != 0 {
		t.Errorf("%v, %d sessions", w.Header(), f.records())
	}
	late.SID += "x"
	v.w = &serve.Recorder{ResponseWriter: httptest.NewRecorder()}
	if v.loggedIn(t.Context(), late, trip{}); f.records() != 1 {
		t.Error("another session of the person is refused")
	}
}

// TestMeanwhilePerson: a logout token that names a person and no session ends logins that are on the way from the provider, too, and no later
// one.
func TestMeanwhilePerson(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		sid, out string
		later    time.Duration // the ID token, after the logout
		want     int
	}{
		"all of the person":          {"1", "", -time.Second, 403},
		"without names of sessions":  {"", "", 0, 403},
		"another login since":        {"1", "", time.Second, 303},
		"a session that has no name": {"", "1", -time.Second, 403},
		"another one since":          {"", "1", time.Second, 303},
		"another session":            {"2", "1", -time.Second, 303},
	} {
		f := newFixture(t)
		p, _ := withSchool(t, f)
		at, _ := p.sessions()
		out := oidc.Out{Provider: "school", Subject: "x", SID: test.out, JTI: "1", Issued: f.clock(), Expires: f.clock().Add(time.Hour)}
		if err := p.loggedOutThere(t.Context(), at, out); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		v := &visit{Portal: p, w: &serve.Recorder{ResponseWriter: w}, r: request("GET", "/", ""), at: at}
		v.loggedIn(t.Context(), session{Provider: "school", Subject: "x", SID: test.sid, Issued: f.clock().Add(test.later)}, trip{})
		if wants(t, name, w, test.want, ""); f.records() != map[int]int{303: 1}[test.want] {
			t.Errorf("%s: %d sessions", name, f.records())
		}
	}
}

// TestAtOnce: of several who open the address from the provider at once, one is logged in.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, school := withSchool(t, f)
	b := f.browser(p)
	back := b.through(t, school, "alice", "?room=class-1")
	var all sync.WaitGroup
	var in atomic.Int64
	for range 8 {
		all.Go(func() {
			r := request("GET", back, "")
			r.AddCookie(b.cookies["__Host-usher-flow"])
			w := httptest.NewRecorder()
			if p.ServeHTTP(w, r); w.Code == http.StatusSeeOther {
				in.Add(1)
			}
		})
	}
	if all.Wait(); in.Load() != 1 || f.records() != 1 {
		t.Errorf("%d are logged in, %d sessions", in.Load(), f.records())
	}
}

// TestProviderAlone: without accounts there is no form for a password.
func TestProviderAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p, _ := withSchool(t, f)
	f.do(func() { f.accounts = nil })
	b := f.browser(p)
	if w := b.get("/login"); strings.Contains(w.Body.String(), `name="password"`) || !strings.Contains(w.Body.String(), "The School") {
		t.Errorf("%s", w.Body)
	}
	none := f.browser(f.portal(func(o *Options) { o.Accounts = nil }))
	wants(t, "no accounts", none.post("/login", "name", "romeo", "password", password), 404, "The School")
}
