package portal

import (
	"context"
	"fmt"
	"iter"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/redistest"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// TestModel: two portals with one store agree about sessions, in any order of logins, logouts here and at the provider, changes of
// accounts, failures to revoke, departures and ends; tokens of sessions that have ended are revoked, and no others. A portal that cannot
// reach the store gives nobody anything, and forgets nothing.
func TestModel(t *testing.T) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		rapid.Check(t, func(rt *rapid.T) {
			f := newFixture(t)
			newModel(f, [2]store.Store{f.store, f.store}, true).run(rt)
		})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := redistest.Start(t, redistest.Options{})
		var ways [2]store.Store
		for i := range ways {
			s, err := store.Redis(store.Options{}, store.RedisOptions{URL: server.URL()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			ways[i] = s
		}
		rapid.Check(t, func(rt *rapid.T) {
			newModel(newFixture(t), ways, false).run(rt)
		})
	})
}

// known is what the model knows of a session.
type known struct {
	person account.Person
	school bool // from the provider
	sid    string
	ends   time.Time
	over   bool
	tokens map[string]time.Time // their ends
}

// way is a portal's way to the store.
type way struct {
	store.Store
	cut atomic.Bool
}

func (w *way) Get(ctx context.Context, k store.Kind, key string) (store.Record, error) {
	if w.cut.Load() {
		return store.Record{}, errBroken
	}
	return w.Store.Get(ctx, k, key)
}

func (w *way) Put(ctx context.Context, records ...store.Record) error {
	if w.cut.Load() {
		return errBroken
	}
	return w.Store.Put(ctx, records...)
}

func (w *way) Add(ctx context.Context, r store.Record) (store.Record, bool, error) {
	if w.cut.Load() {
		return store.Record{}, false, errBroken
	}
	return w.Store.Add(ctx, r)
}

func (w *way) Swap(ctx context.Context, old, new store.Record) (bool, error) {
	if w.cut.Load() {
		return false, errBroken
	}
	return w.Store.Swap(ctx, old, new)
}

func (w *way) Delete(ctx context.Context, k store.Kind, keys ...string) error {
	if w.cut.Load() {
		return errBroken
	}
	return w.Store.Delete(ctx, k, keys...)
}

func (w *way) All(ctx context.Context, k store.Kind) iter.Seq2[store.Record, error] {
	if w.cut.Load() {
		return func(yield func(store.Record, error) bool) { yield(store.Record{}, errBroken) }
	}
	return w.Store.All(ctx, k)
}

type model struct {
	*fixture
	portals  [2]*Portal
	ways     [2]*way
	moves    bool // whether the clock can be moved
	browsers [4]*browser
	sessions map[string]*known // by id
	logins   int
}

func newModel(f *fixture, ways [2]store.Store, moves bool) *model {
	for r := range ways[0].All(f.t.Context(), store.KindLogin) { // of the model before
		if err := ways[0].Delete(f.t.Context(), r.Kind, r.Key); err != nil {
			f.t.Fatal(err)
		}
	}
	m := &model{fixture: f, moves: moves, sessions: make(map[string]*known)}
	f.school = oidc.New(oidc.Options{PublicURL: public, Providers: []oidc.Provider{{Name: "school", Issuer: "https://school.example"}}})
	for i := range m.portals {
		m.ways[i] = &way{Store: ways[i]}
		m.portals[i] = f.portal(func(o *Options) {
			o.UntilHostLeft = true
			o.Store = func() (store.Store, bool) { return m.ways[i], true }
		})
	}
	for i := range m.browsers {
		m.browsers[i] = f.browser(nil)
	}
	return m
}

func (m *model) run(t *rapid.T) {
	actions := map[string]func(*rapid.T){
		"login": m.login, "token": m.token, "logout": m.logout, "change": m.change, "reload": m.reload, "failing": m.failing, "left": m.leave,
		"back-channel": m.backChannel, "": m.check,
		"cut":  func(t *rapid.T) { m.ways[rapid.IntRange(0, 1).Draw(t, "portal")].cut.Store(true) },
		"mend": func(*rapid.T) { m.mend() },
	}
	if m.moves {
		actions["time"] = func(t *rapid.T) {
			m.forward(time.Duration(rapid.IntRange(1, 400).Draw(t, "minutes")) * time.Minute)
		}
	}
	t.Repeat(actions)
	m.mend()
	m.do(func() { m.fixture.revoke = nil })
	m.portals[0].Reloaded(m.t.Context())
	for _, s := range m.sessions {
		s.over = s.over || !m.current(s)
	}
	m.check(t)
}

func (m *model) mend() {
	for _, w := range m.ways {
		w.cut.Store(false)
	}
}

// cut reports whether a portal cannot reach the store.
func (m *model) cut(p *Portal) bool { return m.ways[slices.Index(m.portals[:], p)].cut.Load() }

func (m *model) any(t *rapid.T) (*Portal, *browser) {
	p := m.portals[rapid.IntRange(0, 1).Draw(t, "portal")]
	b := m.browsers[rapid.IntRange(0, len(m.browsers)-1).Draw(t, "browser")]
	b.p = p
	return p, b
}

// current reports whether the account of a session is as it was.
func (m *model) current(s *known) bool {
	if s.school {
		return true
	}
	_, ok := m.portals[0].Accounts.Current(s.person)
	return ok
}

// live returns the session of a browser that is used now; nil if there is none that is live.
func (m *model) live(b *browser) *known {
	s := m.sessions[b.session()]
	if s == nil || s.over || !m.clock().Before(s.ends) {
		return nil
	}
	if !m.current(s) {
		s.over = true
		return nil
	}
	return s
}

// failed reports whether tokens cannot be revoked at the moment.
func (m *model) failed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.fixture.revoke != nil
}

// issued counts what the provider has issued in all models, because their stores remember logouts: each is later than those before.
var issued atomic.Int64

func (m *model) login(t *rapid.T) {
	p, b := m.any(t)
	m.logins++
	s := session{}
	k := &known{ends: m.clock().Add(p.Session), tokens: make(map[string]time.Time)}
	switch name := rapid.SampledFrom([]string{"romeo", "nurse", "school"}).Draw(t, "name"); name {
	case "school":
		k.school, k.sid = true, fmt.Sprint("sid", m.logins, random())
		s = session{Person: account.Person{ID: "school:alice", Rooms: []string{"*"}, Affiliation: auth.Owner}, Provider: name, Version: m.school.Version(name), Subject: "alice", SID: k.sid, Issued: time.Unix(issued.Add(1), 0)}
	default:
		s.Person, _ = p.Accounts.Current(account.Person{ID: "account:" + name, Name: name})
		if s.Person.ID == "" {
			return // disabled
		}
	}
	k.person = s.Person
	former := m.sessions[b.session()]
	again := former != nil && !m.cut(p) && m.live(b) == former && !former.school && reflect.DeepEqual(former.person, k.person) &&
		former.ends.Sub(m.clock()) > p.Session/2
	r := request("POST", "/login", "")
	for _, c := range b.cookies {
		r.AddCookie(c)
	}
	w := httptest.NewRecorder()
	v := &visit{Portal: p, w: &serve.Recorder{ResponseWriter: w}, r: r}
	v.at, _ = p.sessions()
	v.headers()
	v.loggedIn(r.Context(), s, trip{})
	if m.cut(p) {
		if w.Code != http.StatusServiceUnavailable || len(w.Result().Cookies()) > 0 {
			t.Fatalf("login without the store: %d, %v", w.Code, w.Result().Cookies())
		}
		return
	}
	if w.Code != http.StatusSeeOther {
		t.Fatalf("login: %d %s", w.Code, w.Body)
	}
	if again { // the session goes on
		if len(w.Result().Cookies()) > 0 {
			t.Fatal("another cookie for the same login")
		}
		return
	}
	if former != nil {
		former.over = true
	}
	b.cookies["__Host-usher"] = w.Result().Cookies()[0]
	if m.sessions[b.session()] != nil {
		t.Fatal("a cookie again")
	}
	m.sessions[b.session()] = k
}

func (m *model) token(t *rapid.T) {
	p, b := m.any(t)
	if m.cut(p) {
		before := len(m.mints)
		w := b.get("/login?room=nursery")
		if w.Code == http.StatusSeeOther || len(m.mints) != before || b.session() != "" && w.Code != http.StatusServiceUnavailable {
			t.Fatalf("without the store: %d %s", w.Code, w.Header().Get("Location"))
		}
		return
	}
	s, before := m.live(b), len(m.mints)
	w := b.get("/login?room=nursery")
	if s == nil {
		if w.Code != http.StatusOK || len(m.mints) != before {
			t.Fatalf("a token without a session: %d %s", w.Code, w.Header().Get("Location"))
		}
		return
	}
	if w.Code != http.StatusSeeOther || !strings.HasPrefix(w.Header().Get("Location"), meet+"/nursery?jwt=") {
		t.Fatalf("no token for a session: %d %s %s", w.Code, w.Header().Get("Location"), w.Body)
	}
	mint := m.mints[len(m.mints)-1]
	if id, _ := ofToken(mint.ID); m.sessions[id] != s || mint.Person.ID != s.person.ID || mint.TTL > p.TokenTTL || m.clock().Add(mint.TTL).After(s.ends) {
		t.Fatalf("minted %+v", mint)
	}
	m.do(func() { // now the session forgets tokens that have ended, and by which nobody is inside
		for jti, ends := range s.tokens {
			if m.now.Unix() >= ends.Add(stillTaken).Unix() && !m.inside[jti] {
				delete(s.tokens, jti)
			}
		}
	})
	s.tokens[mint.ID] = m.clock().Add(mint.TTL)
}

func (m *model) logout(t *rapid.T) {
	p, b := m.any(t)
	s := m.sessions[b.session()]
	cookie := b.cookies["__Host-usher"]
	status := b.get("/logout").Code
	if m.cut(p) && cookie != nil {
		if status != http.StatusServiceUnavailable || b.cookies["__Host-usher"] == nil {
			t.Fatalf("logout without the store: %d", status)
		}
		b.cookies["__Host-usher"] = cookie
		return
	}
	if s != nil {
		s.over = true
	}
	if status != http.StatusOK {
		if !m.failed() || status != http.StatusServiceUnavailable {
			t.Fatalf("logout: %d", status)
		}
		b.cookies["__Host-usher"] = cookie
	}
}

func (m *model) change(t *rapid.T) {
	n := rapid.IntRange(0, 1).Draw(t, "account")
	to := rapid.SampledFrom([]auth.Affiliation{auth.Owner, auth.Admin}).Draw(t, "affiliation")
	disabled := rapid.Bool().Draw(t, "disabled")
	m.do(func() {
		changed := slices.Clone(m.accounts)
		changed[n].Affiliation, changed[n].Disabled = to, disabled
		m.accounts = changed
	})
}

func (m *model) reload(t *rapid.T) {
	p, _ := m.any(t)
	p.Reloaded(m.t.Context())
	if m.cut(p) {
		return
	}
	for _, s := range m.sessions {
		s.over = s.over || !m.current(s)
	}
}

func (m *model) failing(t *rapid.T) {
	var err error
	if rapid.Bool().Draw(t, "failing") {
		err = errBroken
	}
	m.do(func() { m.fixture.revoke = err })
	if err == nil { // then what was to be revoked is
		m.mend()
		m.reload(t)
	}
}

func (m *model) leave(t *rapid.T) {
	p, b := m.any(t)
	s := m.sessions[b.session()]
	if s == nil || len(s.tokens) == 0 {
		return
	}
	var all []string
	for jti := range s.tokens {
		all = append(all, jti)
	}
	slices.Sort(all)
	left := rapid.SampledFrom(all).Draw(t, "left")
	inside := rapid.SampledFrom(append(all, "nobody")).Draw(t, "inside")
	m.do(func() { m.inside = map[string]bool{inside: true} })
	p.Left(left)
	p.Wait()
	if !m.cut(p) && (inside == left || inside == "nobody") {
		s.over = true
	}
}

func (m *model) backChannel(t *rapid.T) {
	p, b := m.any(t)
	m.logins++
	out := oidc.Out{
		Provider: "school", Subject: "alice", JTI: fmt.Sprint("jti", m.logins, random()),
		Issued: time.Unix(issued.Add(1), 0), Expires: m.clock().Add(time.Hour),
	}
	if s := m.sessions[b.session()]; s != nil && rapid.Bool().Draw(t, "one") {
		out.SID = s.sid
	}
	at, _ := p.sessions()
	err := p.loggedOutThere(m.t.Context(), at, out)
	if m.cut(p) {
		if err == nil {
			t.Fatal("a logout at the provider without the store")
		}
		return
	}
	if err != nil && !m.failed() {
		t.Fatal(err)
	}
	for _, s := range m.sessions {
		s.over = s.over || s.school && (out.SID == "" || out.SID == s.sid)
	}
}

// check compares what each browser may do, and which tokens are revoked.
func (m *model) check(t *rapid.T) {
	for i, b := range m.browsers {
		p := m.portals[(i+m.logins)%2]
		b.p = p
		want := http.StatusSeeOther
		switch {
		case m.cut(p) && b.session() != "":
			want = http.StatusServiceUnavailable
		case !m.cut(p) && m.live(b) != nil:
			want = http.StatusOK
		}
		if got := b.get("/rooms").Code; got != want {
			t.Fatalf("browser %d: %d, want %d", i, got, want)
		}
	}
	for id, s := range m.sessions {
		for jti, ends := range s.tokens {
			revoked := slices.Contains(m.revoked, jti)
			if revoked && !s.over {
				t.Fatalf("a token of the live session %s is revoked", id)
			}
			if s.over && !revoked && m.clock().Before(ends) && !m.failed() {
				t.Fatalf("a token of the session %s is live, which has ended", id)
			}
		}
	}
}
