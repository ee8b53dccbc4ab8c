package portal_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/passhash"
)

// Each test here is a row of the tables in README.md, seen from outside, as a browser sees it.

const (
	public, meet = "https://login.example.com", "https://meet.example.com"
	right        = "the right password"
)

// site is a portal, and all that it asks and tells.
type site struct {
	*portal.Portal
	t        testing.TB
	address  string
	mu       sync.Mutex
	accounts []account.Account
	rooms    map[string]portal.RoomState // by name
	minted   []portal.Mint
	revoked  []string
}

var hash = sync.OnceValues(func() (passhash.Hash, error) { return passhash.New(right) })

// newSite runs a portal with the accounts juliet (standup, board), nurse (*) and tybalt (disabled).
func newSite(t testing.TB, change ...func(*portal.Options)) *site {
	t.Helper()
	h, err := hash()
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, rooms: make(map[string]portal.RoomState), accounts: []account.Account{
		{Name: "juliet", Display: "Juliet Capulet", Hash: h, Rooms: []string{"standup", "board"}, Affiliation: auth.Owner},
		{Name: "nurse", Display: "The Nurse", Hash: h, Rooms: []string{"*"}, Affiliation: auth.Owner},
		{Name: "tybalt", Hash: h, Rooms: []string{"*"}, Affiliation: auth.Owner, Disabled: true},
	}}
	kept := store.Memory(store.Options{})
	o := portal.Options{
		PublicURL: public, MeetURLs: []string{meet}, Store: func() (store.Store, bool) { return kept, true }, Rooms: s,
		Accounts: account.New(account.Options{Accounts: s.all}), Mint: s.mint, Revoke: s.revoke,
	}
	for _, c := range change {
		c(&o)
	}
	if s.Portal, err = portal.New(o); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.address = server.URL
	return s
}

func (s *site) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *site) all() (all []account.Account) {
	s.locked(func() { all = slices.Clone(s.accounts) })
	return all
}

func (s *site) mint(_ context.Context, m portal.Mint) (string, error) {
	s.locked(func() { s.minted = append(s.minted, m) })
	return "eyJ0.eyJ9." + m.Room.Name, nil
}

func (s *site) revoke(_ context.Context, jti []string, _ string) error {
	s.locked(func() { s.revoked = append(s.revoked, jti...) })
	return nil
}

// State implements portal.Rooms.
func (s *site) State(_ context.Context, room auth.Room) (state portal.RoomState, err error) {
	s.locked(func() { state = s.rooms[room.Name] })
	return state, nil
}

// List implements portal.Rooms.
func (s *site) List(context.Context) (all []portal.Listed, err error) {
	s.locked(func() {
		for name, state := range s.rooms {
			all = append(all, portal.Listed{Room: auth.Room{Name: name}, RoomState: state})
		}
	})
	return all, nil
}

// End implements portal.Rooms.
func (s *site) End(context.Context, auth.Room, string) error { return nil }

// Lock implements portal.Rooms.
func (s *site) Lock(context.Context, auth.Room, bool) error { return nil }

// is sets the state of a room, as usher tells of it.
func (s *site) is(room string, state portal.RoomState) {
	s.locked(func() { s.rooms[room] = state })
	s.Changed(auth.Room{Name: room})
}

// visitor is a browser.
type visitor struct {
	*site
	cookies map[string]string
}

func (s *site) visitor() *visitor { return &visitor{s, make(map[string]string)} }

// answer is what a browser got.
type answer struct {
	status   int
	to, body string
}

// get opens a path, and post sends a form there.
func (v *visitor) get(path string) answer { return v.send(http.MethodGet, path, nil) }

func (v *visitor) post(path string, fields ...string) answer {
	form := make(url.Values)
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return v.send(http.MethodPost, path, form)
}

func (v *visitor) send(method, path string, form url.Values) answer {
	v.t.Helper()
	r := v.request(v.t.Context(), method, path, form)
	got, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		v.t.Fatal(err)
	}
	for _, c := range got.Cookies() {
		if v.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		}
	}
	return answer{got.StatusCode, got.Header.Get("Location"), string(body)}
}

func (v *visitor) request(ctx context.Context, method, path string, form url.Values) *http.Request {
	r, err := http.NewRequestWithContext(ctx, method, v.address+path, strings.NewReader(form.Encode()))
	if err != nil {
		v.t.Fatal(err)
	}
	r.Host, r.Close = "login.example.com", true
	for name, value := range v.cookies {
		r.AddCookie(&http.Cookie{Name: name, Value: value})
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", public)
	}
	return r
}

// login logs somebody in.
func (s *site) login(name string) *visitor {
	s.t.Helper()
	v := s.visitor()
	s.wants("login of "+name, v.post("/login", "name", name, "password", right), 303, "/rooms")
	return v
}

// wants fails unless an answer has a status, and leads to an address that begins so.
func (s *site) wants(what string, got answer, status int, to string) {
	s.t.Helper()
	if got.status != status || !strings.HasPrefix(got.to, to) {
		s.t.Errorf("%s: %d %s, want %d %s", what, got.status, got.to, status, to)
	}
}

// field returns the value of a form's field on a page; empty if there is none.
func field(page, name string) string {
	if m := regexp.MustCompile(`<input id="` + name + `" [^>]*value="([^"]*)"`).FindStringSubmatch(page); m != nil {
		return m[1]
	}
	return ""
}

func TestParityRoomChoice(t *testing.T) {
	s := newSite(t)
	s.wants("without a login", s.visitor().get("/rooms"), 303, "/login")
	juliet := s.login("juliet")
	s.is("standup", portal.RoomState{Open: true, HostInside: true, Waiting: 2})
	page := juliet.get("/rooms")
	for _, want := range []string{`value="standup"`, `value="board"`, "Juliet Capulet", `class="chip wait"`} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page has no %s: %s", want, page.body)
		}
	}
	if strings.Contains(page.body, `id="room"`) {
		t.Errorf("somebody with a list may name any room: %s", page.body)
	}
	s.wants("a room of the list", juliet.post("/rooms", "room", "board"), 303, meet+"/board?jwt=eyJ")
	s.wants("another room", juliet.post("/rooms", "room", "other"), 403, "")
}

func TestParityRandomRoom(t *testing.T) {
	s := newSite(t)
	nurse := s.login("nurse")
	first, second := field(nurse.get("/rooms").body, "room"), field(nurse.get("/rooms").body, "room")
	if first == second || len(first) < 10 {
		t.Errorf("random names %q and %q", first, second)
	}
	s.wants("a random room", nurse.post("/rooms", "room", first), 303, meet+"/"+first+"?jwt=eyJ")
	s.wants("a room of one's own name", nurse.post("/rooms", "room", "My room"), 303, meet+"/My%20room?jwt=eyJ")
}

func TestParityShareLink(t *testing.T) {
	s := newSite(t)
	link := regexp.MustCompile(`class="guest" href="` + public + `(/wait/standup)"`).FindStringSubmatch(s.login("juliet").get("/rooms").body)
	if link == nil {
		t.Fatal("no link for guests")
	}
	s.wants("a guest", s.visitor().get(link[1]), 200, "")
	if len(s.minted) > 0 {
		t.Errorf("the link gives a token: %+v", s.minted)
	}
}

// Rooms are names and patterns, and each token is for one room, has an id, and lasts for a day at most.
func TestParityListedRooms(t *testing.T) {
	s := newSite(t, func(o *portal.Options) { o.TokenTTL = 1000 * time.Hour })
	s.accounts = append(s.accounts, account.Account{Name: "class", Hash: s.accounts[0].Hash, Rooms: []string{"class-*", "[acme]x*"}, Affiliation: auth.Member})
	for _, tt := range []struct {
		name, room string
		may        bool
	}{
		{"juliet", "standup", true}, {"juliet", "STANDUP", true}, {"juliet", "standup2", false}, {"juliet", "*", false},
		{"nurse", "anything", true}, {"nurse", "[acme]x", false},
		{"class", "class-1", true}, {"class", "class", false}, {"class", "[acme]x", true}, {"class", "[acme]y", false}, {"class", "[other]class-1", false},
	} {
		v := s.login(tt.name)
		s.minted = nil
		got := v.post("/rooms", "room", tt.room)
		if may := got.status == 303 && strings.HasPrefix(got.to, meet+"/"); may != tt.may || may != (len(s.minted) == 1) {
			t.Errorf("%s, %s: %d %s", tt.name, tt.room, got.status, got.to)
		}
		for _, m := range s.minted {
			if m.Room.Name == "" || m.ID == "" || m.TTL > 24*time.Hour || !m.Person.May(m.Room) {
				t.Errorf("%s, %s: minted %+v", tt.name, tt.room, m)
			}
		}
	}
}

func TestParityLocalUsers(t *testing.T) {
	s := newSite(t)
	said := make(map[string]bool)
	for _, tt := range []struct{ name, password string }{{"juliet", "wrong"}, {"nobody", right}, {"tybalt", right}} {
		// A portal of its own, because after a wrong password strangers wait, and how long depends on the machine.
		got := newSite(t).visitor().post("/login", "name", tt.name, "password", tt.password)
		s.wants(tt.name, got, 401, "")
		said[strings.ReplaceAll(got.body, tt.name, "NAME")] = true
	}
	if len(said) != 1 {
		t.Error("the page says which of name and password is wrong, or that an account is disabled")
	}
	juliet := s.login("JULIET")
	s.wants("with an account", juliet.get("/rooms"), 200, "")
	juliet.post("/rooms", "room", "standup")
	s.locked(func() { s.accounts = s.accounts[1:] })
	s.Reloaded(t.Context())
	s.wants("without one", juliet.get("/rooms"), 303, "/login")
	if len(s.revoked) != 1 || s.revoked[0] != s.minted[0].ID {
		t.Errorf("revoked %q of %+v", s.revoked, s.minted)
	}
}

// A program that has logged in before is heard, whatever strangers try with the same account.
func TestEnterOnKnownDevice(t *testing.T) {
	s := newSite(t)
	l := portal.Login{Room: "standup", Attempt: account.Attempt{Name: "juliet", Password: right, From: netip.MustParseAddr("192.0.2.1")}}
	first, err := s.Enter(t.Context(), l)
	if err != nil || first.Device == "" {
		t.Fatal(first.Device, err)
	}
	wrong := portal.Login{Attempt: account.Attempt{Name: "juliet", Password: "wrong"}}
	var many *account.TooManyError
	for n := byte(1); !errors.As(err, &many); n++ {
		wrong.From = netip.AddrFrom4([4]byte{203, 0, 113, n})
		if _, err = s.Enter(t.Context(), wrong); err == nil || n > 100 {
			t.Fatal(n, err)
		}
	}
	if _, err := s.Enter(t.Context(), l); !errors.As(err, &many) {
		t.Errorf("an unknown device: %v", err)
	}
	l.Device = first.Device
	if again, err := s.Enter(t.Context(), l); err != nil || again.Token == "" || again.Device == "" {
		t.Errorf("a known one: %v", err)
	}
}

// The questions and answers are those of MiroTalk's user service.
func TestParityUserService(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	fails := false
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var q struct {
			Email, Username, Password, Room string
			Secret                          string `json:"api_secret_key"`
		}
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil || q.Secret != "the secret of the service" || fails {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		asked = append(asked, strings.TrimPrefix(r.URL.Path, "/api/v1/user/"))
		known := q.Email == "romeo@example.com" && q.Username == q.Email
		switch r.URL.Path {
		case "/api/v1/user/isAuth":
			fmt.Fprintf(w, `{"message":%t}`, known && q.Password == right)
		case "/api/v1/user/roomsAllowed":
			fmt.Fprint(w, `{"message":["verona"]}`)
		default:
			fmt.Fprintf(w, `%t`, known && q.Room == "verona")
		}
	}))
	t.Cleanup(service.Close)
	users, err := account.NewService(service.URL+"/api/v1", "the secret of the service")
	if err != nil {
		t.Fatal(err)
	}
	var directory *account.Directory
	s := newSite(t, func(o *portal.Options) {
		directory = account.New(account.Options{Service: users})
		o.Accounts = directory
	})
	s.wants("a wrong password", s.visitor().post("/login", "name", "romeo@example.com", "password", "wrong"), 401, "")
	romeo := s.login("romeo@example.com")
	s.wants("a room", romeo.post("/rooms", "room", "verona"), 303, meet+"/verona?jwt=eyJ")
	s.wants("another room", romeo.post("/rooms", "room", "mantua"), 403, "")
	mu.Lock()
	fails = true
	mu.Unlock()
	s.wants("without the service", s.visitor().post("/login", "name", "romeo@example.com", "password", right), 503, "")
	s.wants("a room without the service", romeo.post("/rooms", "room", "verona"), 503, "")
	mu.Lock()
	defer mu.Unlock()
	for _, question := range []string{"isAuth", "roomsAllowed", "isRoomAllowed"} {
		if !slices.Contains(asked, question) {
			t.Errorf("never asked %s", question)
		}
	}
	if len(s.minted) != 1 {
		t.Errorf("minted %+v", s.minted)
	}
}

// patience is how long a test waits for what must come.
const patience = time.Minute

// hear opens the stream of a wait page. It returns what reads its next message.
func (s *site) hear(room string) func() string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	got, err := http.DefaultTransport.RoundTrip(s.visitor().request(ctx, http.MethodGet, "/wait/"+room+"?events", nil))
	if err != nil || got.StatusCode != 200 || got.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatal(got, err)
	}
	s.t.Cleanup(func() { cancel(); got.Body.Close() })
	lines := bufio.NewScanner(got.Body)
	return func() string {
		s.t.Helper()
		for lines.Scan() {
			if message, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return message
			}
		}
		s.t.Fatalf("the stream ends: %v", lines.Err())
		return ""
	}
}

func TestParityWaitingPage(t *testing.T) {
	s := newSite(t)
	page := s.visitor().get("/wait/standup")
	s.wants("the page", page, 200, "")
	s.is("board", portal.RoomState{Open: true, Waiting: 3})
	if board := s.visitor().get("/wait/board"); strings.ReplaceAll(board.body, "board", "standup") != page.body {
		t.Errorf("the page says which rooms exist: %s", board.body)
	}
	host := regexp.MustCompile(`href="(/login\?[^"]*)"`).FindStringSubmatch(page.body)
	if host == nil {
		t.Fatal("nothing for the host to press")
	}
	login := s.visitor()
	form := login.get(strings.ReplaceAll(host[1], "&amp;", "&"))
	state := regexp.MustCompile(`name="state" value="([^"]*)"`).FindStringSubmatch(form.body)
	if state == nil {
		t.Fatal("the form forgets the room")
	}
	s.wants("the host", login.post("/login", "name", "juliet", "password", right, "state", strings.ReplaceAll(state[1], "&#34;", `"`)), 303, meet+"/standup?jwt=eyJ")
	next := s.hear("standup")
	if said := next(); said != "wait" {
		t.Errorf("said %s before a host is inside", said)
	}
	s.is("standup", portal.RoomState{Open: true, HostInside: true})
	if said := next(); said != "ready" {
		t.Errorf("said %s when a host is inside", said)
	}
	if ready := s.visitor().get("/wait/standup"); !strings.Contains(ready.body, `href="`+meet+`/standup"`) {
		t.Errorf("the page leads nowhere: %s", ready.body)
	}
}

func TestParityHostLeaves(t *testing.T) {
	s := newSite(t, func(o *portal.Options) { o.UntilHostLeft = true })
	juliet := s.login("juliet")
	s.wants("the host", juliet.post("/rooms", "room", "standup"), 303, meet+"/standup?jwt=")
	for _, room := range []string{"standup", "board"} {
		s.is(room, portal.RoomState{Open: true, HostInside: true})
		s.wants("a guest", s.visitor().get("/join/"+room), 303, meet+"/"+room)
	}
	next := s.hear("standup")
	if said := next(); said != "ready" {
		t.Errorf("said %s", said)
	}
	s.is("standup", portal.RoomState{Open: true})
	s.Left(s.minted[0].ID)
	s.Wait()
	if said := next(); said != "wait" {
		t.Errorf("said %s when the host has left", said)
	}
	s.wants("the next guest", s.visitor().get("/join/standup"), 303, "/wait/standup")
	s.wants("a guest of another room", s.visitor().get("/join/board"), 303, meet+"/board")
	s.wants("the host, until-host-left", juliet.get("/rooms"), 303, "/login")
}

// The name in a room is that of the account, whatever a link says.
func TestParityDisplayName(t *testing.T) {
	s := newSite(t)
	juliet := s.login("juliet")
	for _, query := range []string{"", "&name=Benvolio", "&name=admin&isPresenter=1"} {
		got := juliet.get("/join/?room=standup" + query)
		s.wants(query, got, 303, meet+"/standup?jwt=eyJ")
		if strings.Contains(got.to, "userInfo") || strings.Contains(got.to, "admin") {
			t.Errorf("%s: %s", query, got.to)
		}
	}
	for _, m := range s.minted {
		if m.Person.Display != "Juliet Capulet" || m.Person.ID != "account:juliet" {
			t.Errorf("minted %+v", m)
		}
	}
	// Somebody without a session is nobody, also by the name of a host.
	s.wants("a stranger", s.visitor().get("/join/?room=standup&name=juliet&isPresenter=1"), 303, "/wait/standup")
	if len(s.minted) != 3 {
		t.Errorf("minted %+v", s.minted)
	}
}

// A logout ends the tokens of one session, also where others come from the same address.
func TestParityLogout(t *testing.T) {
	s := newSite(t)
	juliet, nurse := s.login("juliet"), s.login("nurse")
	juliet.post("/rooms", "room", "standup")
	juliet.post("/rooms", "room", "board")
	nurse.post("/rooms", "room", "standup")
	before := map[string]string{"cookie": juliet.cookies["__Host-usher"]}
	s.wants("logout", juliet.get("/logout"), 200, "")
	s.wants("logged out", juliet.get("/rooms"), 303, "/login")
	juliet.cookies["__Host-usher"] = before["cookie"]
	s.wants("with the cookie of before", juliet.get("/rooms"), 303, "/login")
	s.wants("another host", nurse.get("/rooms"), 200, "")
	slices.Sort(s.revoked)
	want := []string{s.minted[0].ID, s.minted[1].ID}
	slices.Sort(want)
	if !slices.Equal(s.revoked, want) {
		t.Errorf("revoked %q, want %q", s.revoked, want)
	}
}

// withSchool runs a provider with the teacher alice and the pupil bob, and a portal at which teachers open classes.
func withSchool(t *testing.T) (*site, *oidctest.Provider) {
	const client, secret, back = "usher", "the secret of the client", public + "/login/callback/school"
	provider := oidctest.Start(t, oidctest.Options{
		Users: []oidctest.User{
			{Name: "alice", Password: "alice", Display: "Alice A.", Groups: []string{"teachers"}}, {Name: "bob", Password: "bob", Groups: []string{"pupils"}},
		},
		Clients: []oidctest.Client{{ID: client, Secret: secret, RedirectURIs: []string{back}}},
	})
	all := oidc.New(oidc.Options{PublicURL: public, Providers: []oidc.Provider{{
		Name: "school", Title: "The school", Issuer: provider.Issuer, ClientID: client, ClientSecret: secret,
		Rules: []oidc.Rule{{Claim: "groups", Value: "teachers", Affiliation: auth.Owner, Rooms: []string{"class-*"}}},
	}}})
	return newSite(t, func(o *portal.Options) { o.Providers = func() *oidc.Providers { return all } }), provider
}

// through goes to the provider, logs in there, and returns where the browser comes back.
func (v *visitor) through(provider *oidctest.Provider, user, room string) (back string) {
	v.t.Helper()
	page := v.get("/login?room=" + room)
	link := regexp.MustCompile(`href="(/login/with/school[^"]*)"`).FindStringSubmatch(page.body)
	if link == nil || !strings.Contains(page.body, `id="password"`) {
		v.t.Fatalf("the page has not both: %s", page.body)
	}
	there := v.get(strings.ReplaceAll(link[1], "&amp;", "&"))
	v.wants("to the provider", there, 303, provider.Issuer)
	return "/login/callback/school?" + provider.Login(v.t, there.to, user).RawQuery
}

// Login at a provider, where groups say who may open which rooms. It belongs to the browser that began it.
func TestParityOpenIDConnect(t *testing.T) {
	s, provider := withSchool(t)
	for _, tt := range []struct {
		user, room string
		status     int
		to         string
	}{
		{"alice", "class-1", 303, meet + "/class-1?jwt=eyJ"}, {"alice", "board", 403, ""}, {"bob", "class-1", 403, ""},
	} {
		v := s.visitor()
		answer := v.get(v.through(provider, tt.user, tt.room))
		if strings.HasPrefix(answer.to, "/login?") { // logged in, where a page says that this is not their room
			answer = v.get(answer.to)
		}
		s.wants(tt.user+" in "+tt.room, answer, tt.status, tt.to)
	}
	s.wants("another browser", s.visitor().get(s.visitor().through(provider, "alice", "class-1")), 400, "")
	if len(s.minted) != 1 || s.minted[0].Person.Display != "Alice A." || s.minted[0].Person.Affiliation != auth.Owner {
		t.Errorf("minted %+v", s.minted)
	}
}

// Who logs out at the provider has no session and no token here.
func TestParityBackChannel(t *testing.T) {
	s, provider := withSchool(t)
	alice, juliet := s.visitor(), s.login("juliet")
	s.wants("alice", alice.get(alice.through(provider, "alice", "class-1")), 303, meet+"/class-1?jwt=eyJ")
	juliet.post("/rooms", "room", "board")
	out := provider.Sign("logout+jwt", provider.LogoutClaims("usher", "alice", ""))
	s.wants("a forged logout", s.visitor().post("/logout/backchannel/school", "logout_token", out[:len(out)-4]+"AAAA"), 400, "")
	s.wants("still there", alice.get("/rooms"), 200, "")
	s.wants("the logout", s.visitor().post("/logout/backchannel/school", "logout_token", out), 200, "")
	s.wants("logged out", alice.get("/rooms"), 303, "/login")
	s.wants("another person", juliet.get("/rooms"), 200, "")
	if len(s.revoked) != 1 || s.revoked[0] != s.minted[0].ID {
		t.Errorf("revoked %q of %+v", s.revoked, s.minted)
	}
}

func TestParityDirectLinks(t *testing.T) {
	s := newSite(t)
	juliet := s.login("juliet")
	const media = "&audio=0&video=1&screen=1&hide=1&chat=1&duration=00:30:00&roomPassword=0&avatar=0"
	const settings = "config.startWithAudioMuted=true&config.startWithVideoMuted=false&config.startScreenSharing=true&config.disableSelfView=true"
	for _, path := range []string{"/join?room=standup" + media, "/join/?room=standup" + media, "/join/standup?" + media[1:]} {
		got := juliet.get(path)
		s.wants(path, got, 303, meet+"/standup?jwt=eyJ")
		if _, fragment, _ := strings.Cut(got.to, "#"); !strings.HasPrefix(fragment, settings) {
			t.Errorf("%s: %s", path, got.to)
		}
	}
	guest := s.visitor().get("/join/?room=standup&name=Romeo" + media)
	s.wants("a guest", guest, 303, "/wait/standup?")
	s.is("standup", portal.RoomState{Open: true, HostInside: true})
	guest = s.visitor().get("/join/?room=standup&name=Romeo" + media)
	s.wants("a guest with a host", guest, 303, meet+"/standup#"+settings)
	if !strings.Contains(guest.to, "userInfo.displayName=%22Romeo%22") {
		t.Errorf("the guest loses the name: %s", guest.to)
	}
	s.wants("a link with a token", s.visitor().get("/join/?room=standup&token=eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiIxIn0.c2ln"+media), 303, meet+"/standup?jwt=eyJhbGciOiJIUzI1NiJ9.eyJqdGkiOiIxIn0.c2ln#"+settings)
	s.wants("without a room", s.visitor().get("/join/"), 303, "/")
}

// What jitsi-meet says at tokenAuthUrl is given back, and the way back leads to the configured hosts and to Jitsi's apps.
func TestParityTokenAuthURL(t *testing.T) {
	s := newSite(t)
	nurse := s.visitor()
	s.accounts[1].Rooms = []string{"[*]*"}
	state := func(more string) string {
		return "/login?" + url.Values{"state": {`{"room":"Standup","roomSafe":"standup","tenant":"acme","config.startWithAudioMuted":true` + more + `}`}, "code_challenge": {"x"}}.Encode()
	}
	form := nurse.get(state(""))
	s.wants("without a session", form, 200, "")
	s.wants("login", nurse.post("/login", "name", "nurse", "password", right), 303, "/rooms")
	for more, want := range map[string]string{
		"": meet + "/acme/Standup?jwt=eyJ", `,"ios":true`: "org.jitsi.meet://meet.example.com/acme/Standup?jwt=eyJ", `,"android":true`: "intent://meet.example.com/acme/Standup?jwt=eyJ",
		`,"electron":true`: "jitsi-meet://meet.example.com/acme/Standup?jwt=eyJ", `,"url":"https://evil.example.com"`: meet + "/acme/Standup?jwt=eyJ",
	} {
		got := nurse.get(state(more)) // with a session, at once
		s.wants(more, got, 303, want)
		if !strings.Contains(got.to, "#config.startWithAudioMuted=true") || strings.Contains(got.to, "evil") {
			t.Errorf("%s: %s", more, got.to)
		}
	}
}
