package portal

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/store"
)

// minted returns the token that the portal minted last, as an address has it.
func (f *fixture) minted() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.mints) == 0 {
		return "none"
	}
	return "?jwt=" + tokenOf(f.mints[len(f.mints)-1].ID)
}

// TestRoutes: what each address answers, to somebody without a session, somebody who may open all rooms, and somebody who may open some.
func TestRoutes(t *testing.T) {
	t.Parallel()
	state := url.QueryEscape(`{"room":"Standup","tenant":"acme","config.startWithAudioMuted":true}`)
	type answer struct {
		status int
		text   string // in the address or the page
	}
	for path, want := range map[string][3]answer{ // nobody, romeo, peter
		"GET /":                             {{303, "/login"}, {303, "/rooms"}, {303, "/rooms"}},
		"GET /login":                        {{200, `name="password"`}, {303, "/rooms"}, {303, "/rooms"}},
		"GET /login?room=standup":           {{200, "standup"}, {303, meet + "/standup?jwt="}, {403, "nursery"}},
		"GET /login?room=Nursery":           {{200, "Nursery"}, {303, meet + "/Nursery?jwt="}, {303, meet + "/Nursery?jwt="}},
		"GET /login?room=[acme]standup":     {{200, "acme/standup"}, {303, meet + "/acme/standup?jwt="}, {403, "nursery"}},
		"GET /login?room=[evil]standup":     {{200, "evil/standup"}, {403, "/rooms"}, {403, "nursery"}},
		"GET /login?room=*":                 {{200, "*"}, {303, meet + "/%2A?jwt="}, {403, "nursery"}},
		"GET /login?state=" + state:         {{200, "acme/Standup"}, {303, meet + "/acme/Standup?jwt="}, {403, "nursery"}},
		"GET /login?room=x&state=" + state:  {{200, "acme/Standup"}, {303, meet + "/acme/Standup?jwt="}, {403, "nursery"}},
		"GET /login?code_challenge=abc":     {{200, `name="password"`}, {303, "/rooms"}, {303, "/rooms"}},
		"GET /login?state=%7B":              {{400, "<h1>"}, {400, "<h1>"}, {400, "<h1>"}},
		"GET /login?room=..":                {{400, "<h1>"}, {400, "<h1>"}, {400, "<h1>"}},
		"GET /login/with/school":            {{404, "<h1>"}, {404, "<h1>"}, {404, "<h1>"}},
		"GET /login/callback/school":        {{400, "<h1>"}, {400, "<h1>"}, {400, "<h1>"}},
		"GET /rooms":                        {{303, "/login"}, {200, "Romeo Montague"}, {200, "nursery"}},
		"GET /rooms?said=locked":            {{303, "/login"}, {200, "banner good"}, {200, "banner good"}},
		"GET /rooms?said=wrong":             {{303, "/login"}, {200, "Romeo Montague"}, {200, "nursery"}},
		"POST /rooms room=standup":          {{303, "/login"}, {303, meet + "/standup?jwt="}, {403, "nursery"}},
		"POST /rooms room=nursery":          {{303, "/login"}, {303, meet + "/nursery?jwt="}, {303, meet + "/nursery?jwt="}},
		"POST /rooms room=":                 {{303, "/login"}, {400, "banner"}, {400, "banner"}},
		"POST /rooms room=%2e%2e":           {{303, "/login"}, {400, "banner"}, {400, "banner"}},
		"POST /rooms/lock room=nursery":     {{303, "/login"}, {303, "/rooms?said=locked"}, {403, "banner"}},
		"POST /rooms/unlock room=nursery":   {{303, "/login"}, {303, "/rooms?said=unlocked"}, {403, "banner"}},
		"POST /rooms/end room=nursery":      {{303, "/login"}, {303, "/rooms?said=ended"}, {403, "banner"}},
		"POST /rooms/end room=closed":       {{303, "/login"}, {303, "/rooms?said=not-open"}, {403, "banner"}},
		"POST /rooms/end room=[evil]nobody": {{303, "/login"}, {403, "banner"}, {403, "banner"}},
		"POST /rooms/end room=":             {{303, "/login"}, {400, "banner"}, {400, "banner"}},
		"GET /rooms/end":                    {{404, "<h1>"}, {404, "<h1>"}, {404, "<h1>"}},
		"GET /wait/standup":                 {{200, `data-events="/wait/standup?events"`}, {200, "standup"}, {200, "standup"}},
		"GET /wait/acme/standup":            {{200, `data-events="/wait/acme/standup?events"`}, {200, "standup"}, {200, "standup"}},
		"GET /wait/[acme]standup":           {{200, `data-events="/wait/acme/standup?events"`}, {200, "standup"}, {200, "standup"}},
		"GET /wait/acme/events":             {{200, `data-events="/wait/acme/events?events"`}, {200, "events"}, {200, "events"}},
		"GET /wait/100%2525":                {{200, meet + "/100%2525"}, {200, meet + "/100%2525"}, {200, meet + "/100%2525"}},
		"GET /wait/open":                    {{200, "data-ready"}, {200, "data-ready"}, {200, "data-ready"}},
		"GET /wait/%2e%2e":                  {{400, "<h1>"}, {400, "<h1>"}, {400, "<h1>"}},
		"GET /wait/a/b/c":                   {{404, "<h1>"}, {404, "<h1>"}, {404, "<h1>"}},
		"GET /wait/x?state=" + state:        {{400, "<h1>"}, {400, "<h1>"}, {400, "<h1>"}},
		"GET /wait/acme/standup?state=" + state: {
			{200, meet + "/acme/Standup#config.startWithAudioMuted=true"}, {200, "#config"}, {200, "#config"}},
		"GET /join":                   {{303, "/"}, {303, "/"}, {303, "/"}},
		"GET /join/":                  {{303, "/"}, {303, "/"}, {303, "/"}},
		"GET /join/?room=standup":     {{303, "/wait/standup?"}, {303, meet + "/standup?jwt="}, {303, "/wait/standup?"}},
		"GET /join/standup":           {{303, "/wait/standup?"}, {303, meet + "/standup?jwt="}, {303, "/wait/standup?"}},
		"GET /join/open":              {{303, meet + "/open"}, {303, meet + "/open?jwt="}, {303, meet + "/open"}},
		"GET /join/?room=..":          {{400, "<h1>"}, {400, "<h1>"}, {400, "<h1>"}},
		"GET /.well-known/jwks.json":  {{200, `{"keys":[]}`}, {200, `{"keys":[]}`}, {200, `{"keys":[]}`}},
		"GET /style.css":              {{200, "color"}, {200, "color"}, {200, "color"}},
		"GET /portal.js":              {{200, "EventSource"}, {200, "EventSource"}, {200, "EventSource"}},
		"GET /nothing":                {{404, "<h1>"}, {404, "<h1>"}, {404, "<h1>"}},
		"GET //evil.example/login/..": {{404, "<h1>"}, {404, "<h1>"}, {404, "<h1>"}},
		"DELETE /rooms":               {{404, "<h1>"}, {404, "<h1>"}, {404, "<h1>"}},
		"GET /logout":                 {{200, "/login"}, {200, "/login"}, {200, "/login"}},
		"POST /logout":                {{200, "/login"}, {200, "/login"}, {200, "/login"}},
		"POST /logout/backchannel/school logout_token=x": {{400, "invalid_request"}, {400, "invalid_request"}, {400, "invalid_request"}},
	} {
		f := newFixture(t)
		f.rooms["nursery"] = RoomState{Open: true, Waiting: 2, Since: f.now}
		f.rooms["open"] = RoomState{Open: true, HostInside: true}
		p := f.portal()
		for i, name := range []string{"", "romeo", "peter"} {
			b := f.browser(p)
			if name != "" {
				b.begin(p, name)
			}
			method, rest, _ := strings.Cut(path, " ")
			address, field, hasField := strings.Cut(rest, " ")
			var w *httptest.ResponseRecorder
			if hasField {
				field, value, _ := strings.Cut(field, "=")
				w = b.post(address, field, value)
			} else {
				w = b.send(request(method, address, "", "Sec-Fetch-Site", "same-origin"))
			}
			wants(t, path+" by "+name, w, want[i].status, want[i].text)
			if want[i].status == http.StatusSeeOther && strings.HasSuffix(want[i].text, "?jwt=") {
				wants(t, path+" by "+name, w, want[i].status, f.minted())
				if w.Header().Get("Referrer-Policy") != "no-referrer" {
					t.Errorf("%s by %s: jitsi-meet is told where the token came from", path, name)
				}
			}
		}
	}
}

// TestLogin: the form, with all that can be wrong with it.
func TestLogin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	b := f.browser(p)
	state := `{"room":"StandUp","config.startWithVideoMuted":true,"refreshToken":"a-refresh-token-of-theirs"}`
	wants(t, "page", b.get("/login?state="+url.QueryEscape(state)), 200, "config.startWithVideoMuted")
	wants(t, "wrong password", b.post("/login", "name", "romeo", "password", "wrong password", "state", state), 401, `value="romeo"`)
	wants(t, "unknown", b.post("/login", "name", "<mercutio>", "password", password), 401, "&lt;mercutio&gt;")
	wants(t, "no fields", b.post("/login"), 401, `name="password"`)
	wants(t, "bad state", b.post("/login", "name", "romeo", "password", password, "state", "{"), 400, "<h1>")
	if len(f.mints) != 0 || f.records() != 0 || b.session() != "" {
		t.Fatalf("%d tokens, %d sessions", len(f.mints), f.records())
	}
	f.forward(time.Hour)
	w := b.post("/login", "name", "romeo", "password", password, "state", state)
	wants(t, "login", w, 303, meet+"/StandUp"+f.minted()+"#config.startWithVideoMuted=true")
	m := f.mints[0]
	id, _ := ofToken(m.ID)
	if m.Person.ID != "account:romeo" || m.Room.Name != "standup" || m.Person.Affiliation != auth.Owner || m.TTL != time.Hour || id != b.session() {
		t.Errorf("minted %+v for %q", m, b.session())
	}
	if c := b.cookies["__Host-usher"]; c == nil || c.MaxAge != 12*3600 {
		t.Errorf("cookie %v", c)
	}
	first := b.cookies["__Host-usher"].Value

	// Another login has another cookie, and ends the session before.
	b.login("nurse")
	if now := b.cookies["__Host-usher"].Value; now == first || len(f.revoked) != 1 || f.revoked[0] != m.ID || f.records() != 1 {
		t.Errorf("revoked %v, %d sessions", f.revoked, f.records())
	}
	b.cookies["__Host-usher"].Value = first
	wants(t, "former cookie", b.get("/rooms"), 303, "/login")

	// A cookie that the browser had before is never taken over.
	fixed := f.browser(p)
	fixed.cookies["__Host-usher"] = &http.Cookie{Name: "__Host-usher", Value: strings.Repeat("A", 43)}
	fixed.login("romeo")
	if fixed.cookies["__Host-usher"].Value == strings.Repeat("A", 43) {
		t.Error("the session has a cookie that somebody else may have chosen")
	}
	if last := f.calls[len(f.calls)-1]; last.Who != "account:romeo" || last.Path != "/login" || last.Method != "POST" || last.Remote != "192.0.2.1" || last.Status != 303 {
		t.Errorf("told of %+v", last)
	}
}

// TestCalled: the audit log is told of what people do, and of what is refused; not of pages that are only read.
func TestCalled(t *testing.T) {
	t.Parallel()
	unhurried(t, func(t *testing.T) {
		f := newFixture(t)
		f.rooms["nursery"] = RoomState{Open: true}
		b := f.browser(f.portal())
		b.get("/login?room=nursery")
		b.post("/login", "name", "nurse", "password", "wrong")
		b.login("nurse", "room", "nursery")
		b.get("/rooms")
		b.get("/login?room=nursery")
		b.post("/rooms/lock", "room", "nursery")
		b.get("/login?room=elsewhere")
		b.get("/nothing")
		b.get("/style.css")
		b.get("/logout")
		b.get("/logout")
		const who = "account:nurse"
		want := []Call{
			{Method: "POST", Path: "/login", Status: 401}, {Method: "POST", Path: "/login", Status: 303, Who: who, Room: "nursery"},
			{Method: "GET", Path: "/login", Status: 303, Who: who, Room: "nursery"}, {Method: "POST", Path: "/rooms/lock", Status: 303, Who: who, Room: "nursery"},
			{Method: "GET", Path: "/login", Status: 403, Who: who, Room: "elsewhere"}, {Method: "GET", Status: 404},
			{Method: "GET", Path: "/logout", Status: 200, Who: who},
		}
		if len(f.calls) != len(want) {
			t.Fatalf("told of %+v", f.calls)
		}
		for i, c := range f.calls {
			want[i].At, want[i].Remote = f.now, "192.0.2.1"
			if c != want[i] {
				t.Errorf("told of %+v, want %+v", c, want[i])
			}
		}
	})
}

// TestTooMany: after some wrong passwords the page says how long to wait, and so does the header.
func TestTooMany(t *testing.T) {
	t.Parallel()
	unhurried(t, func(t *testing.T) {
		f := newFixture(t)
		b := f.browser(f.portal())
		for n := range 100 {
			w := b.post("/login", "name", "romeo", "password", "wrong")
			if w.Code == http.StatusUnauthorized {
				continue
			}
			if wants(t, "too many", w, 429, "banner"); n == 0 || w.Header().Get("Retry-After") == "" || w.Header().Get("Retry-After") == "0" {
				t.Errorf("after %d attempts: %v", n, w.Header())
			}
			return
		}
		t.Error("nobody is slowed down")
	})
}

// TestRenewed: somebody with a session gets another token at once, which never outlives the session, and nobody else does.
func TestRenewed(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.browser(f.portal())
	b.login("romeo", "room", "standup")
	f.forward(11*time.Hour + 30*time.Minute)
	wants(t, "renewed", b.get("/login?room=standup"), 303, f.minted())
	if len(f.mints) != 2 || f.mints[1].TTL != 30*time.Minute || f.mints[0].ID == f.mints[1].ID {
		t.Errorf("minted %+v", f.mints)
	}
	f.forward(30 * time.Minute)
	wants(t, "over", b.get("/login?room=standup"), 200, `name="password"`)
	if len(f.mints) != 2 {
		t.Error("a token without a session")
	}
}

// TestElsewhere: forms of other sites, and requests for other hosts, are refused.
func TestElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	b := f.browser(p)
	b.login("romeo")
	for name, headers := range map[string][]string{
		"another site": {"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"},
		"jitsi-meet":   {"Sec-Fetch-Site", "same-site", "Origin", meet},
		"old browser":  {"Origin", "https://evil.example"},
		"null":         {"Sec-Fetch-Site", "cross-site", "Origin", "null"},
	} {
		for _, path := range []string{"/login", "/logout", "/rooms", "/rooms/end", "/rooms/lock"} {
			wants(t, name+" "+path, b.send(request("POST", path, "room=nursery&name=romeo&password=x", headers...)), 403, "<h1>")
		}
	}
	if f.records() != 1 || len(f.mints) != 0 || len(f.steers) != 0 {
		t.Error("another site's form was taken")
	}
	for host, status := range map[string]int{
		"login.example.com": 303, "LOGIN.example.com:443": 303, "login.example.com:80": 421, "login.example.com:8443": 421, "evil.example": 421,
		"127.0.0.1:8087": 421, "login.example.com.evil.example": 421, "": 421, "login.example.com:443:443": 421,
	} {
		r := request("GET", "/", "")
		r.Host = host
		wants(t, "host "+host, b.send(r), status, "")
		r = request("GET", "/style.css", "")
		r.Host = host
		wants(t, "host "+host, b.send(r), 200, "color")
	}
}

// TestHead: a HEAD is answered as if by nobody: it logs nobody out, and gets no token.
func TestHead(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.browser(f.portal())
	b.login("romeo")
	for _, path := range []string{"/login?room=standup", "/logout", "/join/standup"} {
		b.send(request("HEAD", path, ""))
	}
	if len(f.mints) != 0 || f.records() != 1 {
		t.Errorf("%d tokens, %d sessions", len(f.mints), f.records())
	}
}

// TestLocal: over http, on this machine, cookies have no prefix that browsers would refuse there, and are otherwise the same.
func TestLocal(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal(func(o *Options) { o.PublicURL = "http://127.0.0.1:8087" })
	r := httptest.NewRequest("POST", "http://127.0.0.1:8087/login", strings.NewReader(url.Values{"name": {"romeo"}, "password": {password}}.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if w.Code != http.StatusSeeOther || len(w.Result().Cookies()) != 2 {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	for _, c := range w.Result().Cookies() {
		if strings.HasPrefix(c.Name, "__") || c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" {
			t.Errorf("%v", c)
		}
	}
}

// TestNew: addresses that are more than a scheme and a host are refused.
func TestNew(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, wrong := range []string{"", "login.example.com", public + "/", public + "/x", "ftp://x", "https://", "https://a@b", public + "?a", public + "#a", "https://LOGIN.example.com/"} {
		for _, set := range []func(*Options){
			func(o *Options) { o.PublicURL = wrong }, func(o *Options) { o.MeetURLs = []string{meet, wrong} }, func(o *Options) { o.MeetURLs = nil },
		} {
			o := f.options()
			if set(&o); o.MeetURLs != nil {
				if _, err := New(o); err == nil {
					t.Errorf("%q is taken", wrong)
				}
			}
		}
	}
	o := f.options()
	o.MeetURLs = nil
	if _, err := New(o); err == nil {
		t.Error("no address of jitsi-meet is taken")
	}
}

// TestLarge: bodies and fields that are too large are refused, and nothing of them is kept.
func TestLarge(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.browser(f.portal())
	wants(t, "body", b.post("/login", "name", "romeo", "password", strings.Repeat("x", maxBody)), 413, "<h1>")
	wants(t, "torn", b.send(request("POST", "/login", "name=%zz", "Sec-Fetch-Site", "same-origin")), 400, "<h1>")
	wants(t, "state", b.get("/login?state="+url.QueryEscape(`{"room":"`+strings.Repeat("x", maxState)+`"}`)), 400, "<h1>")
	b.cookies["__Host-usher"] = &http.Cookie{Name: "__Host-usher", Value: strings.Repeat("A", 10000)}
	wants(t, "cookie", b.get("/rooms"), 303, "/login")
}

// TestInjection: nothing that a request says gets into a header, or into a page as markup.
func TestInjection(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.accounts[0].Rooms = []string{"*", "[*]*"}
	b := f.browser(f.portal())
	b.login("romeo")
	const markup = `<script>alert(1)</script>`
	for _, evil := range []string{"a\r\nSet-Cookie: evil=1", "a\nLocation: https://evil.example", "\x00", markup, "//evil.example", `\\evil.example`, "@evil.example", "a?jwt=b", "a#b", "javascript:alert(1)", "https://evil.example/"} {
		for _, path := range []string{
			"/login?room=", "/login?state=" + url.QueryEscape(`{"room":"r"}`) + "&meet=", "/join/?room=", "/join/?room=r&name=", "/join/?room=open&name=",
			"/join/?room=r&token=", "/rooms?said=", "/wait/", "/join/", "/login/with/", "/login/callback/x?state=", "/login?code_challenge=",
		} {
			escape := url.QueryEscape
			if strings.HasSuffix(path, "/") {
				escape = url.PathEscape
			}
			for _, referer := range []string{"", evil} {
				w := b.get(path+escape(evil), "Referer", referer, "Accept-Language", evil)
				if len(w.Result().Cookies()) > 0 || strings.Contains(w.Body.String(), markup) || w.Header().Get("Location") == evil || w.Code == 500 {
					t.Errorf("%s%s: %d %v", path, evil, w.Code, w.Header())
				}
			}
		}
		for _, path := range []string{"/rooms", "/rooms/end", "/login"} {
			w := b.post(path, "room", evil, "name", evil, "meet", evil)
			if len(w.Result().Cookies()) > 0 || strings.Contains(w.Body.String(), markup) || w.Code == 500 {
				t.Errorf("%s %s: %d %v", path, evil, w.Code, w.Header())
			}
		}
	}
}

// TestMeet: people go back to the page of jitsi-meet that they came from, if it is one of the configured ones.
func TestMeet(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	b := f.browser(f.portal())
	b.login("romeo")
	for name, test := range map[string]struct{ query, referer, want string }{
		"nothing said":  {"", "", meet},
		"the referer":   {"", meet2 + "/standup", meet2},
		"asked for":     {"&meet=" + url.QueryEscape(meet2), meet + "/", meet2},
		"another":       {"&meet=https://evil.example", "https://evil.example/", meet},
		"another port":  {"&meet=" + url.QueryEscape(meet+":444"), "", meet},
		"user and host": {"&meet=" + url.QueryEscape(meet+"@evil.example"), "", meet},
	} {
		wants(t, name, b.get("/login?room=standup"+test.query, "Referer", test.referer), 303, test.want+"/standup?jwt=")
	}
	b.get("/logout")
	page := b.get("/login?room=standup", "Referer", meet2+"/standup").Body.String()
	if !strings.Contains(page, `name="meet" value="`+meet2+`"`) {
		t.Errorf("the form forgets where the person came from: %s", page)
	}
}

// TestTaken: where the portal has the host name of jitsi-meet, its pages hide the rooms of their names, and it leads to none of them.
func TestTaken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal(func(o *Options) { o.MeetURLs = []string{public, meet2} })
	b := f.browser(p)
	b.login("romeo")
	enter := func(room string) error {
		_, err := p.Enter(t.Context(), Login{Room: room, Attempt: account.Attempt{Name: "romeo", Password: password, From: netip.MustParseAddr("192.0.2.7")}})
		return err
	}
	for _, room := range []string{"login", "logout", "rooms", "wait", "join", "style.css", "portal.js", "logout/x", "logout%2Fx"} {
		wants(t, room, b.post("/rooms", "room", room), 400, "")
		for _, address := range []string{"/login?room=", "/join/?room="} {
			wants(t, address+room, b.get(address+url.QueryEscape(room)), 400, "")
		}
		wants(t, "its state", b.get("/login?state="+url.QueryEscape(`{"room":"`+room+`"}`)), 400, "")
		if err := enter(room); !errors.Is(err, ErrRoom) {
			t.Errorf("a program enters %s: %v", room, err)
		}
		wants(t, "elsewhere", b.post("/rooms", "room", room, "meet", meet2), 303, meet2+"/")
	}
	if body := b.post("/rooms", "room", "logout").Body.String(); !strings.Contains(body, "This name is taken") {
		t.Errorf("the page does not say why: %s", body)
	}
	wants(t, "a tenant", b.get("/login?state="+url.QueryEscape(`{"room":"x","tenant":"wait"}`)), 400, "")
	// nginx takes upper case for another page, and so does jitsi-meet for the same room.
	for _, room := range []string{"standup", "Logout", "logouts"} {
		if err := enter(room); err != nil {
			t.Errorf("%s: %v", room, err)
		}
	}
}

// TestRooms: what the page of rooms shows and does.
func TestRooms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.rooms["nursery"] = RoomState{Open: true, Waiting: 7, Since: f.now}
	f.rooms["[acme]ward"] = RoomState{Open: true, HostInside: true, Locked: true}
	p := f.portal()
	b := f.browser(p)
	b.login("nurse")
	body := b.get("/rooms").Body.String()
	for _, want := range []string{`value="nursery"`, `value="[acme]ward"`, public + "/wait/acme/ward", "/rooms/unlock", "/rooms/lock", "/rooms/end", "7"} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %q: %s", want, body)
		}
	}
	if strings.Contains(body, `id="room"`) {
		t.Error("somebody with a list of rooms is offered another room")
	}
	wants(t, "no tenant typed", b.post("/rooms", "room", "Ward"), 303, meet+"/acme/Ward?jwt=")
	wants(t, "lock", b.post("/rooms/lock", "room", "[acme]ward"), 303, "said=locked")
	wants(t, "end", b.post("/rooms/end", "room", "nursery"), 303, "said=ended")
	if path := waitPath(auth.Room{Tenant: "acme", Name: "events"}); path != "/wait/acme/events" {
		t.Error(path)
	}
	if want := "lock true [acme]ward,end nursery"; strings.Join(f.steers, ",") != want {
		t.Errorf("%v, want %s", f.steers, want)
	}
	f.do(func() { f.err = errBroken })
	wants(t, "broken", b.post("/rooms/end", "room", "nursery"), 503, "<h1>")
	f.forward(time.Minute)
	wants(t, "broken", b.get("/rooms"), 200, "nursery")
	f.do(func() { f.err = nil })

	// Rooms that somebody has opened are remembered, the latest first, and a random name is one that they may open.
	host := f.browser(p)
	host.login("romeo")
	for _, room := range []string{"one", "two", "one", "three"} {
		host.post("/rooms", "room", room)
	}
	body = host.get("/rooms").Body.String()
	for _, want := range []string{`value="one"`, `value="two"`, `value="three"`, `id="room"`} {
		if strings.Count(body, want) != 1 {
			t.Errorf("the page has no %q: %s", want, body)
		}
	}
	for _, patterns := range [][]string{{"*"}, {"class-*"}, {"[acme]*"}, {"[*]*"}, {"nursery", "x?"}, {"[a*]b*"}} {
		person := account.Person{Rooms: patterns}
		random := randomFor(person)
		room, err := auth.ParseRoomName(random)
		if random != "" && (err != nil || !person.May(room)) {
			t.Errorf("%v: %q, %v", patterns, random, err)
		}
		if again := randomFor(person); random != "" && again == random {
			t.Errorf("%v: %q twice", patterns, random)
		}
	}
}

// TestChanged: an account that is gone, disabled or changed has no session any more, and its tokens are revoked: at once when it is used,
// and when the configuration was read again.
func TestChanged(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *fixture){
		"gone":        func(f *fixture) { f.accounts = f.accounts[1:] },
		"disabled":    func(f *fixture) { f.accounts[0].Disabled = true },
		"rooms":       func(f *fixture) { f.accounts[0].Rooms = []string{"nursery"} },
		"affiliation": func(f *fixture) { f.accounts[0].Affiliation = auth.Member },
	} {
		for _, used := range []bool{true, false} {
			f := newFixture(t)
			p := f.portal()
			b, other := f.browser(p), f.browser(p)
			b.login("romeo", "room", "standup")
			other.login("nurse", "room", "nursery")
			f.do(func() { change(f) })
			if used {
				wants(t, name, b.get("/login?room=standup"), 200, `name="password"`)
			} else {
				p.Reloaded(t.Context())
			}
			if len(f.revoked) != 1 || f.revoked[0] != f.mints[0].ID || f.records() != 1 {
				t.Errorf("%s, used %t: revoked %v, %d sessions", name, used, f.revoked, f.records())
			}
			wants(t, name, b.get("/rooms"), 303, "/login")
			wants(t, name, other.get("/rooms"), 200, "nursery")
		}
	}
}

// TestRevokeFails: a session with tokens that cannot be revoked counts no more, and its tokens are revoked later.
func TestRevokeFails(t *testing.T) {
	t.Parallel()
	for name, later := range map[string]func(p *Portal, b *browser){
		"reload":        func(p *Portal, _ *browser) { p.Reloaded(t.Context()) },
		"another login": func(_ *Portal, b *browser) { b.login("peter") },
		"again":         func(p *Portal, b *browser) { b.get("/logout") },
	} {
		f := newFixture(t)
		p := f.portal()
		b := f.browser(p)
		b.login("romeo", "room", "standup")
		f.do(func() { f.revoke = errBroken })
		cookie := *b.cookies["__Host-usher"]
		wants(t, name, b.get("/logout"), 503, "<h1>")
		wants(t, name, b.get("/rooms"), 303, "/login")
		f.do(func() { f.revoke = nil })
		b.cookies["__Host-usher"] = &cookie
		later(p, b)
		if len(f.revoked) != 1 || f.revoked[0] != f.mints[0].ID {
			t.Errorf("%s: revoked %v", name, f.revoked)
		}
	}
}

// TestStandsBy: an usher that stands by says so, and a store that fails lets nobody in.
func TestStandsBy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	b := f.browser(p)
	b.login("romeo")
	f.do(func() { f.aside = true })
	for _, path := range []string{"/", "/login", "/rooms", "/wait/standup", "/wait/standup?events", "/join/x", "/logout"} {
		w := b.get(path)
		if wants(t, path, w, 503, ""); w.Header().Get("Retry-After") == "" {
			t.Errorf("%s: %v", path, w.Header())
		}
	}
	wants(t, "login", b.post("/login", "name", "romeo", "password", password), 503, "")
	wants(t, "keys", b.get("/.well-known/jwks.json"), 200, "keys")
	if _, err := p.Enter(t.Context(), Login{}); !errors.Is(err, ErrStandsBy) {
		t.Error(err)
	}
	f.do(func() { f.aside = false })
	wants(t, "again", b.get("/rooms"), 200, "")
	if err := f.store.Close(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/login", "/rooms", "/join/x", "/logout"} {
		wants(t, path, b.get(path), 503, "<h1>")
	}
	wants(t, "login", b.post("/login", "name", "romeo", "password", password), 503, "<h1>")
	if len(f.mints) != 0 {
		t.Error("a token without a session that could be ended")
	}
}

// TestJoin: media parameters of MiroTalk's direct links become jitsi-meet's; those that mean nothing there are left out.
func TestJoin(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.rooms["open"] = RoomState{Open: true, HostInside: true}
	f.rooms["locked"] = RoomState{Open: true, HostInside: true, Locked: true}
	b := f.browser(f.portal())
	token := tokenOf("made-by-the-api")
	for query, want := range map[string]string{
		"room=open&roomPassword=0&name=Juliet&audio=0&video=0&screen=0&hide=0&notify=0&chat=1&duration=00:00:30": meet + "/open#config.startWithAudioMuted=true&config.startWithVideoMuted=true&userInfo.displayName=%22Juliet%22&config.prejoinConfig.enabled=false",
		"room=open&audio=1&video=true&screen=1&hide=1":                                                           meet + "/open#config.startWithAudioMuted=false&config.startWithVideoMuted=false&config.startScreenSharing=true&config.disableSelfView=true",
		"room=open&screen=yes":                               meet + "/open",
		"room=Open%20Day&audio=0&name=Juliet&token=" + token: meet + "/Open%20Day?jwt=" + token + "#config.startWithAudioMuted=true&config.prejoinConfig.enabled=false",
		"room=open&token=not.a.token!":                       meet + "/open",
		"room=[acme]open&isPresenter=1":                      "/wait/acme/open?",
	} {
		if got := b.get("/join/?" + query).Header().Get("Location"); got != want && (!strings.HasPrefix(want, "/wait") || !strings.HasPrefix(got, want)) {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	to := b.get("/join/?room=locked&video=0&name=Juliet").Header().Get("Location")
	wants(t, "waits with the parameters", b.get(to), 200, "#config.startWithVideoMuted=true&amp;userInfo.displayName=%22Juliet%22")
	wants(t, "and the host takes them along", b.get(to), 200, url.QueryEscape(`"config.startWithVideoMuted":true`))
	b.login("romeo")
	wants(t, "host", b.get("/join/?room=locked&video=0"), 303, meet+"/locked"+f.minted()+"#config.startWithVideoMuted=true&config.prejoinConfig.enabled=false")
}

// FuzzJoin: no direct link leads anywhere but into a room.
func FuzzJoin(f *testing.F) {
	for _, seed := range [][2]string{{"/join/", "room=x&audio=0&name=a"}, {"/join/%2F%2Fevil.example", ""}, {"/wait/a/..", "state={}"}, {"/login", "room=%0d%0a"}, {"/join/x", "token=a.b.c&meet=//evil"}} {
		f.Add(seed[0], seed[1])
	}
	where := newFixture(f)
	where.rooms["x"] = RoomState{HostInside: true}
	b := where.browser(where.portal())
	b.login("romeo")
	f.Fuzz(func(t *testing.T, path, query string) {
		if !strings.HasPrefix(path, "/") || strings.Contains(query, "events") || strings.HasPrefix(path, "/logout") {
			return
		}
		u, err := url.Parse(public + path)
		if err != nil || u.Host != "login.example.com" {
			return
		}
		r := httptest.NewRequest("GET", public+"/", nil)
		u.RawQuery = query
		r.URL, r.RequestURI = u, u.RequestURI()
		w := httptest.NewRecorder()
		for _, c := range b.cookies {
			r.AddCookie(c)
		}
		b.p.ServeHTTP(w, r)
		if to := w.Header().Get("Location"); to != "" && !where.leads(to) || w.Code == http.StatusInternalServerError {
			t.Fatalf("%s?%s: %d to %q", path, query, w.Code, to)
		}
	})
}

// TestEnter: a program that logs somebody in gets a token and the list of rooms, and the token ends with the account.
func TestEnter(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	as := func(name string, l Login) Login {
		l.Attempt = account.Attempt{Name: name, Password: password, From: netip.MustParseAddr("192.0.2.7")}
		return l
	}
	e, err := p.Enter(t.Context(), as("romeo", Login{Room: "StandUp", TTL: time.Minute, Affiliation: auth.Member}))
	if err != nil || e.Token != tokenOf(e.JTI) || e.Room != "standup" || e.Display != "Romeo Montague" || e.Affiliation != auth.Member || !e.Expires.Equal(f.now.Add(time.Minute)) ||
		e.URL != meet+"/StandUp?jwt="+e.Token || len(e.Rooms) != 2 || f.mints[0].Person.Affiliation != auth.Member || f.mints[0].TTL != time.Minute {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := p.Enter(t.Context(), as("peter", Login{})); err != nil || e.Room != "nursery" || e.Affiliation != auth.Member {
		t.Errorf("the one room: %+v, %v", e, err)
	}
	if e, err := p.Enter(t.Context(), as("peter", Login{Affiliation: auth.Owner, TTL: 48 * time.Hour})); err != nil || e.Affiliation != auth.Member || !e.Expires.Equal(f.now.Add(time.Hour)) {
		t.Errorf("more than the account has: %+v, %v", e, err)
	}
	if e, err := p.Enter(t.Context(), as("romeo", Login{})); err != nil || e.Token != "" || len(e.Rooms) != 2 {
		t.Errorf("no room: %+v, %v", e, err)
	}
	f.forward(time.Second)
	for room, want := range map[string]error{"[evil]x": ErrNotRoom, "..": ErrRoom, " ": ErrRoom, "a\nb": ErrRoom} {
		if _, err := p.Enter(t.Context(), as("romeo", Login{Room: room})); !errors.Is(err, want) {
			t.Errorf("%q: %v", room, err)
		}
	}
	if _, err := p.Enter(t.Context(), as("mercutio", Login{Room: "x"})); !errors.Is(err, account.ErrRefused) {
		t.Error(err)
	}
	f.do(func() { f.accounts = nil })
	p.Reloaded(t.Context())
	if f.records() != 0 || len(f.revoked) != 3 {
		t.Errorf("%d sessions, revoked %v", f.records(), f.revoked)
	}
}

// TestHostLeft: with until-host-left, a session ends when nobody is in a room by its tokens any more.
func TestHostLeft(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal(func(o *Options) { o.UntilHostLeft = true })
	b := f.browser(p)
	b.login("romeo", "room", "standup")
	b.get("/login?room=other")
	one, two := f.mints[0].ID, f.mints[1].ID
	f.do(func() { f.inside[two] = true })
	for _, jti := range []string{one, "", "of.another", strings.Repeat("x", idLength) + ".y"} {
		p.Left(jti)
	}
	p.Wait()
	wants(t, "still inside by another token", b.get("/rooms"), 200, "")
	f.do(func() { f.inside[two] = false })
	p.Left(two)
	p.Wait()
	wants(t, "left", b.get("/rooms"), 303, "/login")
	if len(f.revoked) != 2 {
		t.Errorf("revoked %v", f.revoked)
	}

	stays := f.browser(f.portal())
	stays.login("romeo", "room", "standup")
	stays.p.(*Portal).Left(f.mints[2].ID)
	stays.p.(*Portal).Wait()
	wants(t, "not until-host-left", stays.get("/rooms"), 200, "")
}

// TestBounds: sessions of a person, tokens of a session and what is remembered of networks are bounded.
func TestBounds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.portal()
	at, _ := p.sessions()
	person := account.Person{ID: "account:romeo", Name: "romeo"}
	var first session
	for n := range maxSessions + 5 {
		s := session{ID: idOf(random()), Person: person, Begun: f.clock(), Ends: f.clock().Add(time.Hour)}
		if n == 0 {
			first = s
		}
		if err := p.begin(t.Context(), at, s); err != nil {
			t.Fatal(err)
		}
		f.forward(time.Second)
	}
	if _, err := at.get(t.Context(), first.ID); !errors.Is(err, errNoSession) || f.records() != maxSessions {
		t.Errorf("%d sessions, the first: %v", f.records(), err)
	}

	s := session{ID: idOf(random()), Person: account.Person{ID: "account:nurse"}, Ends: f.clock().Add(time.Hour)}
	if err := p.begin(t.Context(), at, s); err != nil {
		t.Fatal(err)
	}
	var all []string
	for n := range maxTokens + 3 {
		jti, err := p.promise(t.Context(), at, s.ID, strings.Repeat("x", 100+n), f.clock().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, jti)
		f.do(func() { f.inside[all[0]] = true })
	}
	now, err := at.get(t.Context(), s.ID)
	if err != nil || len(now.Tokens) != maxTokens || len(now.Opened) != maxOpened || strings.Join(f.revoked, " ") != strings.Join(all[1:4], " ") {
		t.Errorf("%d tokens, %d rooms, revoked %v, %v", len(now.Tokens), len(now.Opened), f.revoked, err)
	}

	l := newLimits(f.clock)
	for n := range 2 * maxNetworks {
		l.flow(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}))
	}
	if len(l.flows.of) > maxNetworks+1 {
		t.Errorf("%d networks are remembered", len(l.flows.of))
	}
	f.forward(time.Hour)
	if !l.flow(netip.MustParseAddr("192.0.2.1")) || len(l.flows.of) > 2 {
		t.Errorf("%d networks are remembered", len(l.flows.of))
	}
}

// TestRecords: a record that is too large loses what can be spared; a store without room lets nobody in.
func TestRecords(t *testing.T) {
	t.Parallel()
	s := session{ID: "x", IDToken: strings.Repeat("i", maxIDToken), Ends: time.Now().Add(time.Hour)}
	for range maxOpened {
		s.Opened = append(s.Opened, strings.Repeat("r", 1000))
	}
	if r, err := s.write(); err != nil || len(r.Value) > store.MaxValue || !strings.Contains(string(r.Value), s.IDToken) {
		t.Errorf("%d bytes, %v", len(r.Value), err)
	}
	for range 80 {
		s.Person.Rooms = append(s.Person.Rooms, random()+random()+random()+random()) // which cannot be packed
	}
	if r, err := s.write(); err != nil || len(r.Value) > store.MaxValue || strings.Contains(string(r.Value), "iii") {
		t.Errorf("%d bytes, %v", len(r.Value), err)
	}
	f := newFixture(t)
	f.store = store.Memory(store.Options{Now: f.clock, MaxBytes: 64 * 1024})
	p := f.portal()
	at, _ := p.sessions()
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		err = p.begin(context.Background(), at, session{ID: idOf(random()), Person: account.Person{ID: random()}, Ends: f.clock().Add(time.Hour)})
	}
	if !errors.Is(err, store.ErrFull) {
		t.Fatal(err)
	}
	wants(t, "full", f.browser(p).post("/login", "name", "romeo", "password", password), 503, "<h1>")
}

// TestManyRooms: somebody who may open very many rooms can log in, and open each of them.
func TestManyRooms(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var rooms []string
	for n := range 2000 {
		rooms = append(rooms, fmt.Sprintf("class-%d-of-a-very-large-school", n))
	}
	f.accounts = append(f.accounts, account.Account{Name: "head", Hash: hash(), Rooms: rooms, Affiliation: auth.Owner})
	p := f.portal()
	b := f.browser(p)
	wants(t, "the login", b.login("head", "room", "class-1999-of-a-very-large-school"), 303, meet+"/class-1999-of-a-very-large-school?jwt=")
	wants(t, "the last room", b.get("/login?room=class-1998-of-a-very-large-school"), 303, "?jwt=")
	wants(t, "another room", b.get("/login?room=class-2000-of-a-very-large-school"), 403, "banner")
	at, _ := p.sessions()
	s, err := at.get(t.Context(), b.session())
	if err != nil || !slices.Equal(s.Person.Rooms, rooms) || len(s.Opened) != 2 || len(s.Tokens) != 2 {
		t.Errorf("%v, %d rooms, opened %v", err, len(s.Person.Rooms), s.Opened)
	}
}
