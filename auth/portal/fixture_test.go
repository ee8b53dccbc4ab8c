package portal

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/passhash"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	public   = "https://login.example.com"
	meet     = "https://meet.example.com"
	meet2    = "https://meet2.example.com:8443"
	password = "a password of Romeo's <&>"
)

var hash = sync.OnceValue(func() passhash.Hash {
	h, err := passhash.New(password)
	if err != nil {
		panic(err)
	}
	return h
})

// all is all that a portal asks and tells.
type fixture struct {
	t  testing.TB
	mu sync.Mutex

	now      time.Time
	store    store.Store
	aside    bool
	accounts []account.Account
	school   *oidc.Providers

	mints   []Mint
	mintErr error
	revoked []string
	revoke  error
	inside  map[string]bool // jti
	calls   []Call

	rooms  map[string]RoomState // by claim
	asked  int
	steers []string
	err    error // of Rooms

	logged *observer.ObservedLogs
	log    *zap.Logger
	heard  strings.Builder // all pages
}

// unhurried plays where hashing a password takes no time, however busy the machine is. After a wrong one strangers wait for three times as
// long as it took, and then are told that too many log in at once.
func unhurried(t *testing.T, play func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, play)
}

func newFixture(t testing.TB) *fixture {
	core, logged := observer.New(zapcore.DebugLevel)
	f := &fixture{
		t: t, now: time.Now().Truncate(time.Second), inside: make(map[string]bool), rooms: make(map[string]RoomState),
		logged: logged, log: zap.New(core),
	}
	f.accounts = []account.Account{
		{Name: "romeo", Display: "Romeo Montague", Hash: hash(), Rooms: []string{"*", "[acme]*"}, Affiliation: auth.Owner},
		{Name: "nurse", Hash: hash(), Rooms: []string{"nursery", "[acme]ward"}, Affiliation: auth.Owner},
		{Name: "peter", Hash: hash(), Rooms: []string{"nursery"}, Affiliation: auth.Member},
	}
	f.store = store.Memory(store.Options{Now: f.clock})
	return f
}

func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// do changes the fixture.
func (f *fixture) do(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fixture) forward(d time.Duration) { f.do(func() { f.now = f.now.Add(d) }) }

func (f *fixture) options() Options {
	return Options{
		PublicURL: public, MeetURLs: []string{meet, meet2},
		Store: func() (store.Store, bool) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.store, !f.aside
		},
		Accounts: account.New(account.Options{
			Accounts: func() []account.Account {
				f.mu.Lock()
				defer f.mu.Unlock()
				return slices.Clone(f.accounts)
			},
			Now: f.clock, Log: f.log,
		}),
		Providers: func() *oidc.Providers {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.school
		},
		Mint: func(_ context.Context, m Mint) (string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.mints = append(f.mints, m)
			return tokenOf(m.ID), f.mintErr
		},
		Rooms: f,
		Revoke: func(_ context.Context, jti []string, _ string) error {
			f.mu.Lock()
			defer f.mu.Unlock()
			if f.revoke == nil {
				f.revoked = append(f.revoked, jti...)
			}
			return f.revoke
		},
		Inside: func(_ context.Context, jti []string) ([]string, error) {
			f.mu.Lock()
			defer f.mu.Unlock()
			return slices.DeleteFunc(slices.Clone(jti), func(j string) bool { return !f.inside[j] }), nil
		},
		Called: func(c Call) { f.do(func() { f.calls = append(f.calls, c) }) },
		JWKS:   func() []byte { return []byte(`{"keys":[]}`) },
		Now:    f.clock, Log: f.log,
	}
}

// tokenOf is what a token looks like.
func tokenOf(jti string) string {
	return "eyJhbGciOiJFZERTQSJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"jti":"`+jti+`"}`)) + ".c2lnbmF0dXJl"
}

func (f *fixture) State(_ context.Context, room auth.Room) (RoomState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.rooms[room.Claim()], f.err
}

func (f *fixture) List(context.Context) (all []Listed, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	for _, claim := range slices.Sorted(maps.Keys(f.rooms)) {
		room, err := auth.ParseRoomName(claim)
		if err != nil {
			f.t.Error(err)
		}
		all = append(all, Listed{Room: room, RoomState: f.rooms[claim]})
	}
	return all, nil
}

func (f *fixture) steered(room auth.Room, what string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.rooms[room.Claim()].Open {
		return fmt.Errorf("%w: %s", ErrNotOpen, room)
	}
	f.steers = append(f.steers, what+" "+room.String())
	return f.err
}

func (f *fixture) End(_ context.Context, room auth.Room, _ string) error {
	return f.steered(room, "end")
}

func (f *fixture) Lock(_ context.Context, room auth.Room, lock bool) error {
	return f.steered(room, fmt.Sprint("lock ", lock))
}

func (f *fixture) portal(change ...func(*Options)) *Portal {
	f.t.Helper()
	o := f.options()
	for _, c := range change {
		c(&o)
	}
	p, err := New(o)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(p.Wait)
	return p
}

// browser is a browser with cookies.
type browser struct {
	f       *fixture
	p       http.Handler
	cookies map[string]*http.Cookie
	from    string // its address
}

func (f *fixture) browser(p http.Handler) *browser {
	return &browser{f: f, p: p, cookies: make(map[string]*http.Cookie), from: "192.0.2.1:4000"}
}

// send sends a request, and keeps the cookies of the answer. It fails for an answer that no request may get.
func (b *browser) send(r *http.Request) *httptest.ResponseRecorder {
	b.f.t.Helper()
	r.RemoteAddr = b.from
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	b.p.ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if b.cookies[c.Name] = c; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	b.f.sound(r, w)
	return w
}

// sound fails for an answer without the headers that all have, or one that leads anywhere.
func (f *fixture) sound(r *http.Request, w *httptest.ResponseRecorder) {
	f.t.Helper()
	h := w.Header()
	f.do(func() { fmt.Fprintln(&f.heard, w.Body) })
	asset := r.URL.Path == "/style.css" || r.URL.Path == "/portal.js" || r.URL.Path == "/.well-known/jwks.json"
	if h.Get(Header) == "" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" || h.Get("X-Robots-Tag") == "" ||
		h.Get("Referrer-Policy") == "" || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") ||
		strings.Contains(h.Get("Content-Security-Policy"), "unsafe") || !asset && h.Get("Cache-Control") != "no-store" {
		f.t.Errorf("%s %s: %d with %v", r.Method, r.URL, w.Code, h)
	}
	for _, c := range w.Result().Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-usher") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			f.t.Errorf("%s %s: cookie %v", r.Method, r.URL, c)
		}
	}
	if len(h.Values("Location")) > 1 || h.Get("Location") != "" && !f.leads(h.Get("Location")) {
		f.t.Errorf("%s %s: leads to %q", r.Method, r.URL, h.Values("Location"))
	}
}

// leads reports whether the portal may send somebody to an address: to itself, to jitsi-meet, to an app with the host of jitsi-meet, to
// the provider.
func (f *fixture) leads(to string) bool {
	if strings.ContainsFunc(to, func(r rune) bool { return r <= ' ' || r > '~' }) || strings.Contains(to, `\`) {
		return false
	}
	if strings.HasPrefix(to, "/") {
		u, err := url.Parse(to)
		return err == nil && u.Host == "" && u.Scheme == "" && !strings.HasPrefix(to, "//")
	}
	for _, site := range []string{meet, meet2} {
		host := strings.TrimPrefix(site, "https://")
		for _, at := range []string{site, "org.jitsi.meet://" + host, "jitsi-meet://" + host} {
			if strings.HasPrefix(to, at+"/") {
				return true
			}
		}
		if strings.HasPrefix(to, "intent://"+host+"/") && strings.HasSuffix(to, "#Intent;scheme=org.jitsi.meet;package=org.jitsi.meet;end") {
			return strings.Count(to, "#Intent;") == 1
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.school != nil && strings.HasPrefix(to, "http://127.0.0.1:")
}

func (b *browser) get(path string, headers ...string) *httptest.ResponseRecorder {
	b.f.t.Helper()
	return b.send(request(http.MethodGet, path, "", headers...))
}

// post sends a form: names and values.
func (b *browser) post(path string, fields ...string) *httptest.ResponseRecorder {
	b.f.t.Helper()
	form := make(url.Values)
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	return b.send(request(http.MethodPost, path, form.Encode(), "Sec-Fetch-Site", "same-origin", "Origin", public))
}

func request(method, path, body string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, public+path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

// login logs somebody in, and fails if that does not work.
func (b *browser) login(name string, fields ...string) *httptest.ResponseRecorder {
	b.f.t.Helper()
	w := b.post("/login", append([]string{"name", name, "password", password}, fields...)...)
	if w.Code != http.StatusSeeOther {
		b.f.t.Fatalf("login of %s: %d %s", name, w.Code, w.Body)
	}
	return w
}

// begin begins a session without a password, which takes less time.
func (b *browser) begin(p *Portal, name string) {
	b.f.t.Helper()
	person, _ := p.Accounts.Current(account.Person{ID: "account:" + name, Name: name})
	at, _ := p.sessions()
	cookie := random()
	s := session{ID: idOf(cookie), Person: person, Begun: b.f.clock(), Ends: b.f.clock().Add(p.Session)}
	if err := p.begin(context.Background(), at, s); err != nil {
		b.f.t.Fatal(err)
	}
	b.cookies["__Host-usher"] = &http.Cookie{Name: "__Host-usher", Value: cookie}
}

// session returns the id of the browser's session.
func (b *browser) session() string {
	c := b.cookies["__Host-usher"]
	if c == nil {
		return ""
	}
	return idOf(c.Value)
}

// wants fails unless an answer has a status, and a text in its address or its page.
func wants(t testing.TB, what string, w *httptest.ResponseRecorder, status int, text string) {
	t.Helper()
	if w.Code != status || !strings.Contains(w.Header().Get("Location")+" "+w.Body.String(), text) {
		t.Errorf("%s: %d %s\n%s\nwant %d %s", what, w.Code, w.Header().Get("Location"), w.Body, status, text)
	}
}

// records returns how many sessions the store has.
func (f *fixture) records() (n int) {
	for _, err := range f.store.All(context.Background(), store.KindLogin) {
		if err != nil {
			f.t.Error(err)
		}
		n++
	}
	return n
}

var errBroken = errors.New("broken")
