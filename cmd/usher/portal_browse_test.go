package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
	"github.com/xmpp-usher/usher/pkg/deploytest"
	"github.com/xmpp-usher/usher/pkg/passhash"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// meetPage stands in for the page of jitsi-meet: it reads the token from the query as that does
// (jitsi-meet react/features/base/jwt/functions.ts, parseJWTFromURLParams), and shows what it was given.
const meetPage = `<!doctype html><html lang="en"><title>room</title><link rel="icon" href="data:,"><h1>In the room</h1>
<p id="path"></p><p id="jwt">none</p><p id="hash"></p><p id="from">from %s</p>
<script>
document.getElementById('path').textContent = location.pathname;
document.getElementById('jwt').textContent = new URLSearchParams(location.search).get('jwt') || 'none';
document.getElementById('hash').textContent = location.hash;
</script>`

// hosts is an usher with a portal beside Prosody, a page of jitsi-meet, and an OpenID provider.
type hosts struct {
	*testing.T
	ctx          context.Context
	server       *prosodytest.Server
	portal, meet string // addresses
	provider     *oidctest.Provider
}

// The passwords of those who log in.
const (
	kimPassword    = "a kettle on the ninth hill"
	leePassword    = "two herons, one pond"
	aliceSecret    = "alice's at the school"
	bobSecret      = "bob's at the school"
	providerSecret = "b77f1c05e94d4a2c8d3360f1"
)

func newHosts(t *testing.T) *hosts {
	t.Helper()
	deploytest.Need(t, "chromium", "node")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	address := freeAddress(t)
	h := &hosts{T: t, ctx: ctx, server: served(t, componentSecret), portal: "http://" + address}
	meet := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, meetPage, r.Referer()) }))
	t.Cleanup(meet.Close)
	h.meet = meet.URL
	h.provider = oidctest.Start(t, oidctest.Options{
		Users: []oidctest.User{
			{Name: "alice", Password: aliceSecret, Display: "Alice Example", Groups: []string{"/teachers"}},
			{Name: "bob", Password: bobSecret, Display: "Bob Example", Groups: []string{"/pupils"}},
		},
		Clients: []oidctest.Client{{
			ID: "usher", Secret: providerSecret, RedirectURIs: []string{h.portal + "/login/callback/school"},
			PostLogoutURIs: []string{h.portal + "/logout"}, BackChannelURI: h.portal + "/logout/backchannel/school",
		}},
	})
	for _, secret := range []string{kimPassword, leePassword, aliceSecret, bobSecret, providerSecret} {
		secrets.Plant("a password of the portal", secret)
	}
	h.configure(address)
	stderr := newLive()
	begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "connected", 1)
	h.answers()
	return h
}

// configure adds the portal to usher.yaml.
func (h *hosts) configure(address string) {
	h.Helper()
	hashed := func(password string) string {
		hash, err := passhash.New(password)
		if err != nil {
			h.Fatal(err)
		}
		return hash.String()
	}
	yaml, err := os.ReadFile("usher.yaml")
	if err != nil {
		h.Fatal(err)
	}
	write(h, "usher.yaml", string(yaml)+fmt.Sprintf(`portal:
  listen: %s
  public_url: %s
  meet_urls: [%s]
  users:
    - {name: kim, password_hash: "%s", display_name: Kim Example, rooms: ["*"]}
    - {name: lee, password_hash: "%s", display_name: Lee Example, rooms: [retro, "[acme]planning"]}
  providers:
    - name: school
      title: Example School
      issuer: %s
      client_id: usher
      client_secret: %s
      rules:
        - {claim: groups, value: teachers, affiliation: owner, rooms: ["class-*"]}
`, address, h.portal, h.meet, hashed(kimPassword), hashed(leePassword), h.provider.Issuer, providerSecret))
}

// answers waits until the portal answers.
func (h *hosts) answers() {
	h.Helper()
	for again := time.NewTicker(50 * time.Millisecond); ; {
		if r, err := http.Get(h.portal + "/login"); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				again.Stop()
				return
			}
		}
		select {
		case <-again.C:
		case <-h.ctx.Done():
			h.Fatal("the portal does not answer")
		}
	}
}

// browse opens a page of the portal in a browser of its own. In the end it has complained about nothing, and asked no other machine.
func (h *hosts) browse(t *testing.T, path string, o deploytest.BrowserOptions) *deploytest.Browser {
	t.Helper()
	b := deploytest.Browse(t, h.portal+path, o)
	t.Cleanup(func() {
		for _, complaint := range b.Complaints() {
			if !strings.Contains(complaint, "Failed to load resource") { // a page with 401 or 403
				t.Error(complaint)
			}
		}
	})
	return b
}

// types logs somebody in with a password.
func types(b *deploytest.Browser, name, password string) {
	b.Do("fill", "css", "#name", "text", name)
	b.Do("fill", "css", "#password", "text", password)
	b.Click("main form .primary")
}

// isIn waits until the browser is on jitsi-meet's page of a room, and returns the token that the page has read.
func isIn(t *testing.T, b *deploytest.Browser, path string) (token string) {
	t.Helper()
	b.See("h1", "In the room")
	if got := b.See("#path", ""); strings.TrimSpace(got) != path {
		t.Fatalf("at %s, not %s", got, path)
	}
	if from := strings.TrimSpace(b.See("#from", "")); from != "from" {
		t.Errorf("the room is told where the person comes from: %s", from)
	}
	token = strings.TrimSpace(b.See("#jwt", ""))
	if strings.HasPrefix(token, "eyJ") {
		secrets.PlantTokens(token)
	}
	return token
}

// joins has somebody enter a room with a token, and returns the client and the affiliation that the room gives them. An empty token is none.
func (h *hosts) joins(t *testing.T, room, nick, token string) (*prosodytest.Client, string) {
	t.Helper()
	host, attr := demoScene.guests, ""
	if token != "" {
		host, attr = demoScene.tokens, "token='"+token+"'"
	}
	c := h.server.Client(t, prosodytest.ClientOptions{Host: host})
	if got, err := asks(h.ctx, c, room, attr); got != "ready" {
		t.Fatalf("%s asks for %s: %s, %v", nick, room, got, err)
	}
	presence, err := c.Join(h.ctx, room, nick)
	if err != nil || presence.Attr["type"] == "error" {
		t.Fatal(presence, err)
	}
	return c, presence.Find("item", "http://jabber.org/protocol/muc#user").Attr["affiliation"]
}

// TestPortalInBrowser goes through the portal in Chromium, as hosts and guests do, beside a real Prosody.
func TestPortalInBrowser(t *testing.T) {
	h := newHosts(t)
	t.Run("login to a room", h.loginToRoom)
	t.Run("wrong password", h.wrongPassword)
	t.Run("list of rooms", h.listOfRooms)
	t.Run("guest waits", h.guestWaits)
	t.Run("provider", h.byProvider)
	t.Run("logout at the provider, too", h.logsOutEverywhere)
	t.Run("provider logs out", h.providerLogsOut)
	t.Run("without a script", h.withoutScript)
	t.Run("German and dark", h.germanAndDark)
}

// A host on the way to a room logs in, is taken into the room with the choices of jitsi-meet's page, and joins as owner. As long as they
// are logged in, the same address leads into the room without a click.
func (h *hosts) loginToRoom(t *testing.T) {
	const state = "/login?state=%7B%22room%22%3A%22standup%22%2C%22roomSafe%22%3A%22standup%22%2C%22config.startWithAudioMuted%22%3Atrue%7D&code_challenge=x"
	b := h.browse(t, state, deploytest.BrowserOptions{})
	b.See("bdi.name", "standup")
	b.Shot("portal-usher-login")
	types(b, "kim", kimPassword)
	token := isIn(t, b, "/standup")
	if hash := b.See("#hash", ""); !strings.Contains(hash, "config.startWithAudioMuted=true") {
		t.Errorf("the room is given %s", hash)
	}
	if _, affiliation := h.joins(t, demoScene.room(), "kim", token); affiliation != "owner" {
		t.Errorf("the host is %s", affiliation)
	}
	b.Do("open", "url", h.portal+state)
	if again := isIn(t, b, "/standup"); again == token || !strings.HasPrefix(again, "eyJ") {
		t.Errorf("the second token is %.8s, the first one again: %v", again, again == token)
	}
}

// Wrong names and wrong passwords are told the same.
func (h *hosts) wrongPassword(t *testing.T) {
	b := h.browse(t, "/login?room=standup", deploytest.BrowserOptions{})
	var said []string
	for _, name := range []string{"kim", "nobody"} {
		types(b, name, "not the password")
		said = append(said, b.See(".banner:focus", "not right"))
		if kept := b.Run(`[document.querySelector('#name').value, document.querySelector('#password').value].join()`); kept != name+"," {
			t.Errorf("the fields have %v", kept)
		}
	}
	if said[0] != said[1] {
		t.Errorf("of an account the page says %q, of none %q", said[0], said[1])
	}
	b.Shot("portal-usher-wrong")
	types(b, "kim", kimPassword)
	isIn(t, b, "/standup")
}

// A host with a list of rooms sees those, opens one, locks it, ends it, and logs out.
func (h *hosts) listOfRooms(t *testing.T) {
	const room = "retro@conference.meet.example.com"
	b := h.browse(t, "/", deploytest.BrowserOptions{})
	types(b, "lee", leePassword)
	b.See("h1", "Your rooms")
	b.See("header", "Lee Example")
	b.See("li", "acme / planning")
	if n := b.Count("li"); n != 2 || b.Count("#room") != 0 {
		t.Errorf("%d rooms, and a field for others: %d", n, b.Count("#room"))
	}
	b.Click("li[data-room=retro] .primary")
	host, _ := h.joins(t, room, "lee", isIn(t, b, "/retro"))
	// What usher knows of a room is behind the room by a moment.
	rooms := func() { b.Do("open", "url", h.portal+"/rooms") }
	b.See("h1", "In the room")
	h.until(t, func() bool { rooms(); return b.Count("li[data-room=retro] .chip.good") == 1 })
	b.Shot("portal-usher-rooms")
	b.Click("li[data-room=retro] summary")
	b.Click("li[data-room=retro] .menu button")
	b.See(".banner", "The room is locked")
	if got, err := asks(h.ctx, h.server.Client(t, prosodytest.ClientOptions{Host: demoScene.guests}), room, ""); got == "ready" || err != nil {
		t.Errorf("a guest of a locked room gets %s, %v", got, err)
	}
	h.until(t, func() bool { rooms(); return b.Count("li[data-room=retro] summary") == 1 })
	b.Click("li[data-room=retro] summary")
	b.Click("li[data-room=retro] .danger")
	b.See(".banner", "The conference has ended")
	if s, err := host.Await(h.ctx, isPutOut); err != nil {
		t.Errorf("the host is not put out: %v, %v", s, err)
	}
	// Rooms that are not in the list stay closed.
	b.Do("open", "url", h.portal+"/login?room=standup")
	b.See("body", "not one of yours")
	b.Click("header a")
	b.See("h1", "You are logged out")
	b.Do("open", "url", h.portal+"/rooms")
	b.See("h1", "Log in")
}

// until asks again until it is so. The page is opened anew each time.
func (h *hosts) until(t *testing.T, so func() bool) {
	t.Helper()
	for late := time.After(time.Minute); !so(); {
		select {
		case <-late:
			t.Fatal("it never is")
		case <-time.After(200 * time.Millisecond): // only between two looks
		}
	}
}

// isPutOut reports whether a stanza is the presence with which a room puts somebody out.
func isPutOut(s prosodytest.Stanza) bool {
	return s.Name == "presence" && s.Attr["type"] == "unavailable" && s.HasStatus("110")
}

// A guest waits on the page and is moved on when the host comes. When the host has left, the next guest waits again.
func (h *hosts) guestWaits(t *testing.T) {
	const room = "kickoff@conference.meet.example.com"
	first := h.browse(t, "/wait/kickoff", deploytest.BrowserOptions{})
	first.See("h1", "Please wait for the host")
	nobody := first.See("main", "")
	first.Do("open", "url", h.portal+"/wait/no-such-room-anywhere")
	if got := first.See("main", "no-such-room-anywhere"); strings.ReplaceAll(got, "no-such-room-anywhere", "kickoff") != nobody {
		t.Errorf("of another room the page says %q, of this one %q", got, nobody)
	}
	first.Do("open", "url", h.portal+"/wait/kickoff")
	first.See("h1", "Please wait for the host")
	first.Shot("portal-usher-wait")

	// "Are you the host?" leads to the login, and that into the room.
	b := h.browse(t, "/wait/kickoff", deploytest.BrowserOptions{})
	b.Click(".aside a")
	b.See("bdi.name", "kickoff")
	types(b, "kim", kimPassword)
	host, affiliation := h.joins(t, room, "kim", isIn(t, b, "/kickoff"))
	if affiliation != "owner" {
		t.Errorf("the host is %s", affiliation)
	}
	if token := isIn(t, first, "/kickoff"); token != "none" {
		t.Errorf("the guest is given a token")
	}
	guest, affiliation := h.joins(t, room, "guest", "")
	if affiliation != "member" {
		t.Errorf("the guest is %s", affiliation)
	}
	guest.Kill()
	if err := host.Close(); err != nil {
		t.Error(err)
	}
	next := h.browse(t, "/wait/kickoff", deploytest.BrowserOptions{})
	h.until(t, func() bool {
		next.Do("open", "url", h.portal+"/wait/kickoff")
		next.See("h1", "")
		return next.Count("#waiting") == 1
	})
	next.See("h1", "Please wait for the host")
}

// Of two people of a provider, one is in the group that may open the room, and one is not.
func (h *hosts) byProvider(t *testing.T) {
	b := h.browse(t, "/login?room=class-7", deploytest.BrowserOptions{})
	h.logsInAtSchool(b, "alice", aliceSecret)
	if _, affiliation := h.joins(t, "class-7@conference.meet.example.com", "alice", isIn(t, b, "/class-7")); affiliation != "owner" {
		t.Errorf("the teacher is %s", affiliation)
	}
	b = h.browse(t, "/login?room=class-7", deploytest.BrowserOptions{})
	h.logsInAtSchool(b, "bob", bobSecret)
	b.See("h1", "There is no room for you")
	b.Shot("portal-usher-no-room")
}

func (h *hosts) logsInAtSchool(b *deploytest.Browser, name, password string) {
	b.Click(".choices a")
	b.See("h1", "Log in at the provider")
	b.Do("fill", "css", "[name=username]", "text", name)
	b.Do("fill", "css", "[name=password]", "text", password)
	b.Click("button")
}

// Somebody who logs out at the portal has logged out at the provider, too: the next login there asks for the password.
func (h *hosts) logsOutEverywhere(t *testing.T) {
	b := h.browse(t, "/", deploytest.BrowserOptions{})
	h.logsInAtSchool(b, "alice", aliceSecret)
	b.See("header", "Alice Example")
	if name := b.Run(`document.getElementById('room').value`).(string); !strings.HasPrefix(name, "class-") {
		t.Errorf("the page proposes %q, which the teacher may not open", name)
	}
	b.Click("header a")
	b.See("h1", "You are logged out")
	b.Click("main a")
	b.Click(".choices a")
	b.See("h1", "Log in at the provider")
}

// Somebody who logs out at the provider is put out of the room within 2 s, and is no longer logged in at the portal.
func (h *hosts) providerLogsOut(t *testing.T) {
	b := h.browse(t, "/", deploytest.BrowserOptions{})
	// Each round puts out. That it takes longer than 2 s may happen now and then on a machine with much else to do.
	for round := range 3 {
		if took := h.logsOutAtSchool(t, b, fmt.Sprintf("class-8%d", round)); took <= 2*time.Second {
			return
		}
	}
	t.Error("in none of three rounds somebody who logs out at the provider is put out within 2 s")
}

// logsOutAtSchool logs alice in, into a room, and out at the provider. It returns how long the room has kept her.
func (h *hosts) logsOutAtSchool(t *testing.T, b *deploytest.Browser, name string) time.Duration {
	t.Helper()
	room := name + "@" + demoScene.service
	b.Do("open", "url", h.portal+"/login?room="+name)
	h.logsInAtSchool(b, "alice", aliceSecret)
	token := isIn(t, b, "/"+name)
	alice, _ := h.joins(t, room, "alice", token)
	begun := time.Now()
	if sent := h.provider.Logout("alice"); sent == 0 {
		t.Fatal("the portal took no logout token")
	}
	if s, err := alice.Await(h.ctx, isPutOut); err != nil {
		t.Fatal(s, err)
	}
	took := time.Since(begun)
	t.Logf("put out after %v", took)
	if got, err := asks(h.ctx, h.server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens}), room, "token='"+token+"'"); got != "token-revoked" {
		t.Errorf("the token gets %s, %v", got, err)
	}
	b.Do("open", "url", h.portal+"/rooms")
	b.See("h1", "Log in")
	return took
}

// All of it works without a script: the password, the list, opening a room of any name, and waiting.
func (h *hosts) withoutScript(t *testing.T) {
	const room = "no-script@conference.meet.example.com"
	b := h.browse(t, "/login", deploytest.BrowserOptions{NoScript: true})
	types(b, "kim", kimPassword)
	b.See("h1", "Your rooms")
	if name := b.Run(`document.getElementById('room').value`).(string); len(name) < 8 {
		t.Errorf("the name that the page proposes is %q", name)
	}
	b.Do("fill", "css", "#room", "text", "no-script")
	guest := h.browse(t, "/wait/no-script", deploytest.BrowserOptions{NoScript: true})
	guest.See("h1", "Please wait for the host")
	b.Press("Enter")
	b.See("h1", "In the room")
	at := b.Run(`location.href`).(string)
	_, token, _ := strings.Cut(at, "?jwt=")
	token, _, _ = strings.Cut(token, "#")
	secrets.PlantTokens(token)
	if !strings.HasPrefix(at, h.meet+"/no-script?jwt=") {
		t.Errorf("the room is at %.60s", at)
	}
	if _, affiliation := h.joins(t, room, "kim", token); affiliation != "owner" {
		t.Errorf("the host is %s", affiliation)
	}
	guest.See("h1", "In the room")
}

// In German and dark, from the login to the rooms.
func (h *hosts) germanAndDark(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		b := h.browse(t, "/login?room=standup", deploytest.BrowserOptions{Locale: "de-DE", Scheme: scheme, Width: 390, Height: 844})
		b.See("h1", "Anmelden")
		b.Shot("portal-usher-login-de-" + scheme)
		types(b, "kim", "falsch")
		b.See(".banner", "Der Name oder das Passwort stimmt nicht.")
		types(b, "kim", kimPassword)
		isIn(t, b, "/standup")
		b.Do("open", "url", h.portal+"/rooms")
		b.See("h1", "Ihre Räume")
		b.See("li", "standup")
		b.Shot("portal-usher-rooms-de-" + scheme)
		b.Do("open", "url", h.portal+"/wait/later")
		b.See("h1", "Bitte warten Sie auf den Gastgeber")
		if ground := b.Run(`getComputedStyle(document.body).backgroundColor`).(string); (ground == "rgb(14, 18, 23)") != (scheme == "dark") {
			t.Errorf("%s: the ground is %s", scheme, ground)
		}
		b.Do("open", "url", h.portal+"/logout")
		b.See("h1", "Sie sind abgemeldet")
	}
}
