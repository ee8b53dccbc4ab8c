package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/ops/metrics"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/passhash"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// browser is a browser at the portal that follows no redirect. All that it is shown is kept.
type browser struct {
	testing.TB
	base   string // of the portal
	client http.Client
	mu     sync.Mutex
	said   strings.Builder
}

func newBrowser(t testing.TB, portal string) *browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &browser{TB: t, base: "http://" + portal, client: http.Client{
		Jar: jar, Transport: &http.Transport{DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	return b
}

// shown is an answer of the portal.
type shown struct {
	status int
	to     string // where it leads
	text   string
}

// token returns the token in the address to which a page leads, which must be that of the room.
func (p shown) token(t testing.TB, room string) string {
	t.Helper()
	to, err := url.Parse(p.to)
	if err != nil || p.status != http.StatusSeeOther || !strings.HasPrefix(p.to, "https://meet.example.com/"+room+"?jwt=") {
		t.Fatalf("the portal does not lead into the room: %d %q %s", p.status, p.to, p.text)
	}
	token := to.Query().Get("jwt")
	secrets.PlantTokens(token)
	return token
}

// get opens an address, and post sends a form there.
func (b *browser) get(path string) shown { b.Helper(); return b.do(http.MethodGet, path, nil) }

func (b *browser) post(path string, fields ...string) shown {
	b.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.do(http.MethodPost, path, form)
}

func (b *browser) do(method, path string, form url.Values) shown {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), method, b.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		b.Fatal(err)
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	answer, err := b.client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range answer.Cookies() {
		secrets.PlantRandom("a cookie of the portal", c.Value)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.said.Write(text)
	return shown{answer.StatusCode, answer.Header.Get("Location"), string(text)}
}

// logsIn logs in with a password, and returns the token for a room.
func (b *browser) logsIn(name, password, room string) string {
	b.Helper()
	return b.post("/login", "name", name, "password", password, "room", room).token(b, room)
}

// waits opens the stream of a page of waiting. It returns what the stream says, one message after the other.
func (b *browser) waits(room string) <-chan string {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.base+"/wait/"+room+"?events", nil)
	if err != nil {
		b.Fatal(err)
	}
	answer, err := b.client.Do(req)
	if err != nil || answer.StatusCode != http.StatusOK {
		b.Fatalf("no stream: %v, %v", answer, err)
	}
	said := make(chan string, 100)
	go func() {
		defer answer.Body.Close()
		for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
			if text, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				said <- text
			}
		}
		close(said)
	}()
	return said
}

// hears waits until a stream says something.
func hears(t testing.TB, stream <-chan string, want string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case said, open := <-stream:
			if said == want {
				return
			}
			if !open {
				t.Fatalf("the stream ends without %q", want)
			}
		case <-late:
			t.Fatalf("the stream does not say %q", want)
		}
	}
}

// isOut waits until somebody is put out of a room, and returns how long that took.
func isOut(t testing.TB, c *prosodytest.Client, room, nick string) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "presence" && s.Attr["type"] == "unavailable" && s.Attr["from"] == room+"/"+nick
	}); err != nil {
		t.Fatalf("%s is not put out: %v", nick, err)
	}
	return time.Since(began)
}

// enters asks with a token, and joins. It returns what the room shows of the person.
func enters(t testing.TB, c *prosodytest.Client, room, token, nick string) string {
	t.Helper()
	attr := ""
	if token != "" {
		attr = "token='" + token + "'"
	}
	if got, err := asksFrom(t.Context(), c, "the-machine-of-"+nick, room, attr); err != nil || got != "ready" {
		t.Fatalf("%s is told %s, %v", nick, got, err)
	}
	own, err := c.Join(t.Context(), room, nick)
	if err != nil {
		t.Fatal(err)
	}
	return standing(own)
}

// TestPortal follows a host through the portal, beside Prosody and before a Jicofo: a guest waits on the page, the host logs in and enters
// by the token, the guest is told and is let in, the host logs out and is out.
func TestPortal(t *testing.T) {
	for name, scene := range map[string]scene{"own": demoScene, "before Jicofo": jicofoScene} {
		t.Run(name, func(t *testing.T) { testPortal(t, scene) })
	}
}

// staging starts the demo's server, and usher beside it, with a change of usher.yaml.
func staging(t *testing.T, scene scene, change func(yaml string)) (s *stage, stop func() error) {
	t.Helper()
	needsProsody(t)
	s, err := newStage(t.Context(), scene)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	s.Tap(secrets.Tap)
	if err := s.write(); err != nil {
		t.Fatal(err)
	}
	secrets.Plant("the password of a host", s.hostPassword)
	change(s.path("usher.yaml"))
	stop, err = s.serve(t.Context(), s.path("usher.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceValue(stop)
	t.Cleanup(func() { _ = stop() })
	return s, stop
}

func testPortal(t *testing.T, scene scene) {
	s, stop := staging(t, scene, func(string) {})
	b, stranger := newBrowser(t, s.portal), newBrowser(t, s.portal)
	guest, host := s.Client(t, prosodytest.ClientOptions{Host: s.guests}), s.Client(t, prosodytest.ClientOptions{Host: s.tokens})
	room := s.room()

	// The guest waits, on the page and in the room.
	if got, err := asksFrom(t.Context(), guest, "the-machine-of-guest", room, ""); err != nil || got != "host-absent" {
		t.Fatalf("%s, %v", got, err)
	}
	stream := stranger.waits("standup")
	hears(t, stream, "wait")

	// The host logs in, enters by the token, and is the owner.
	if p := b.get("/login?room=standup"); p.status != http.StatusOK || !strings.Contains(p.text, `type="password"`) {
		t.Errorf("%+v", p)
	}
	if p := b.post("/login", "name", demoHost, "password", "not "+s.hostPassword, "room", "standup"); p.status != http.StatusUnauthorized || p.to != "" {
		t.Errorf("with a wrong password: %+v", p)
	}
	token := b.logsIn(demoHost, s.hostPassword, "standup")
	if got := enters(t, host, room, token, "host"); got != hostStanding {
		t.Errorf("the host is %s", got)
	}
	hears(t, stream, "ready")
	showsWaiting(t, b, guest, "retro@"+s.service)
	if got := enters(t, guest, room, "", "guest"); got != memberStanding {
		t.Errorf("the guest is %s", got)
	}
	if p := stranger.get("/rooms"); p.status != http.StatusSeeOther || p.to != "/login" {
		t.Errorf("a stranger sees rooms: %+v", p)
	}
	again := b.get("/login?room=standup").token(t, "standup") // without a click
	if again == token {
		t.Error("the same token is given twice")
	}

	// The host logs out, and is out; the tokens are worth nothing.
	if p := b.post("/logout"); p.status >= http.StatusBadRequest {
		t.Errorf("%+v", p)
	}
	t.Logf("out %s after the logout", isOut(t, host, room, "host").Round(time.Millisecond))
	hears(t, stream, "wait")
	for _, token := range []string{token, again} {
		if got, err := asksFrom(t.Context(), host, "the-machine-of-host", room, "token='"+token+"'"); err != nil || got != "token-revoked" {
			t.Errorf("after the logout: %s, %v", got, err)
		}
	}
	if p := b.get("/login?room=standup"); p.status != http.StatusOK || !strings.Contains(p.text, `type="password"`) {
		t.Errorf("the session has not ended: %+v", p)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	audited, err := os.ReadFile(s.path("audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`"what":"call","method":"POST","path":"/login","room":"standup","remote":"127.0.0.1","status":401`,
		`"what":"call","method":"POST","path":"/login","room":"standup","who":"account:host","remote":"127.0.0.1","status":303`,
		`"what":"call","method":"POST","path":"/logout","who":"account:host","remote":"127.0.0.1"`,
	} {
		if !strings.Contains(string(audited), line) {
			t.Errorf("the audit log has no %s:\n%s", line, audited)
		}
	}
	silent(t, s.log()+string(audited)+b.said.String()+stranger.said.String())
	secrets.CheckTap(t)
}

// showsWaiting waits until the page of rooms shows that somebody waits for a room which the host has never opened.
func showsWaiting(t testing.TB, host *browser, guest *prosodytest.Client, room string) {
	t.Helper()
	name, _, _ := strings.Cut(room, "@")
	for late := time.Now().Add(time.Minute); ; {
		if got, err := asksFrom(t.Context(), guest, "the-machine-of-guest", room, ""); err != nil || got != "host-absent" {
			t.Fatalf("%s, %v", got, err)
		}
		p := host.get("/rooms")
		if strings.Contains(p.text, `data-room="`+name+`"`) && strings.Contains(p.text, "1 person waits") {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("nobody waits for %s: %+v", room, p)
		}
	}
}

// The portal lists the rooms of the first MUC service: a room elsewhere, which may be a lobby or a breakout room, has no name for it.
func TestPortalListed(t *testing.T) {
	since := time.Now()
	all := []component.RoomSummary{
		{Room: jid.MustParse("standup@conference.example.com"), Name: "standup", Open: true, HostInside: true, Since: since, Guests: 3},
		{Room: jid.MustParse("[acme]retro@conference.example.com"), Name: "retro", Tenant: "acme", Waiting: 2, Locked: true, Since: since},
		{Room: jid.MustParse("standup@lobby.example.com"), Name: "standup", Open: true},
		{Room: jid.MustParse("5b8e@breakout.example.com"), Name: "5b8e", Open: true},
		{Room: jid.MustParse("[@conference.example.com"), Open: true},
	}
	want := []portal.Listed{
		{Room: auth.Room{Name: "standup"}, RoomState: portal.RoomState{Open: true, HostInside: true, Since: since}},
		{Room: auth.Room{Name: "retro", Tenant: "acme"}, RoomState: portal.RoomState{Locked: true, Waiting: 2, Since: since}},
	}
	if got := portalRooms(all, jid.MustParse("conference.example.com")); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// portalYAML is what a usher.yaml has of a portal at an address, with accounts in users.yaml.
const portalYAML = `
portal: {listen: "%[1]s", public_url: "http://%[1]s", meet_urls: ["https://meet.example.com"], users_file: users.yaml%[2]s}
`

// hashes are the hashes of passwords: another one of the same password would be another account.
var hashes sync.Map

func hashOf(t testing.TB, password string) string {
	t.Helper()
	secrets.Plant("the password of a host", password)
	hash, known := hashes.Load(password)
	if !known {
		made, err := passhash.New(password)
		if err != nil {
			t.Fatal(err)
		}
		hash, _ = hashes.LoadOrStore(password, made.String())
	}
	return hash.(string)
}

// users writes users.yaml, with these accounts.
func users(t testing.TB, all ...config.User) {
	t.Helper()
	content := []byte{}
	for _, u := range all {
		var err error
		u.Hash = hashOf(t, u.Hash)
		if content, err = config.PutUser(content, u); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "users.yaml", string(content))
}

// The accounts of the tests; Hash has the password.
var (
	juliet = config.User{Name: "juliet", Hash: "what's in a name 1597", Display: "Juliet", Rooms: []string{"standup", "class-*"}, Groups: []string{"teachers"}}
	nurse  = config.User{Name: "nurse", Hash: "the clock struck nine", Rooms: []string{"*"}, Affiliation: config.Member}
)

// portalSite is a usher that serves a portal, beside a Prosody.
type portalSite struct {
	*testing.T
	server *prosodytest.Server
	portal string
	log    *live
	end    func() int
}

// startPortal starts a usher with more keys of portal.
func startPortal(t *testing.T, more string) *portalSite {
	t.Helper()
	return startPortalAt(t, freePort(t), more)
}

func startPortalAt(t *testing.T, address, more string) *portalSite {
	t.Helper()
	s := &portalSite{T: t, server: served(t, componentSecret), portal: address}
	is, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", string(is)+fmt.Sprintf(portalYAML, s.portal, more)+"audit: {to: audit.jsonl}\n")
	users(t, juliet, nurse)
	s.begins()
	return s
}

// begins starts the usher.
func (s *portalSite) begins() {
	s.Helper()
	s.log = newLive()
	s.end = begin(s.T, s.log, s.log, "serve", "-c", "usher.yaml")
	s.log.until(s.T, "\tconnected\t", 1)
	s.log.until(s.T, "usher answers the portal at ", 1)
}

func (s *portalSite) host() *prosodytest.Client {
	s.Helper()
	return s.server.Client(s.T, prosodytest.ClientOptions{Host: demoScene.tokens})
}

// TestPortalReload restarts usher, which keeps sessions, and changes accounts while it runs: those who are gone or changed are out.
func TestPortalReload(t *testing.T) {
	s := startPortal(t, "")
	room := demoScene.room()
	b, other := newBrowser(t, s.portal), newBrowser(t, s.portal)
	host, second := s.host(), s.host()
	if got := enters(t, host, room, b.logsIn("Juliet", juliet.Hash, "standup"), "juliet"); got != hostStanding {
		t.Errorf("Juliet is %s", got)
	}
	if p := b.get("/login?room=elsewhere"); p.status != http.StatusForbidden {
		t.Errorf("Juliet opens a room of others: %+v", p)
	}

	// A restart keeps sessions, and tokens.
	if status := s.end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	s.begins()
	b.get("/login?room=standup").token(t, "standup")
	nurseIn := other.logsIn("nurse", nurse.Hash, "standup")
	if got := enters(t, second, room, nurseIn, "nurse"); got != memberStanding {
		t.Errorf("the nurse is %s", got)
	}

	// Juliet's account is disabled, and the rest of the configuration is wrong meanwhile: she is out, the nurse stays.
	edit(t, "usher.yaml", "rooms:\n", "rooms:\n  no_such_key: 1\n")
	s.log.until(t, "invalid configuration; keeping the previous one", 1)
	disabled := juliet
	disabled.Disabled = true
	users(t, disabled, nurse)
	isOut(t, host, room, "juliet")
	edit(t, "usher.yaml", "rooms:\n  no_such_key: 1\n", "rooms:\n")
	s.log.until(t, "the new configuration is in force", 1)
	if p := b.get("/login?room=standup"); p.status != http.StatusOK {
		t.Errorf("the session has not ended: %+v", p)
	}
	if p := b.post("/login", "name", "juliet", "password", juliet.Hash, "room", "standup"); p.status != http.StatusUnauthorized {
		t.Errorf("a disabled account logs in: %+v", p)
	}
	s.end()
	silent(t, b.said.String()+other.said.String())
}

// TestPortalOff takes the portal out of the configuration while usher runs. The portal listens until the restart, but nobody is logged in.
func TestPortalOff(t *testing.T) {
	s := startPortal(t, "")
	b, host := newBrowser(t, s.portal), s.host()
	enters(t, host, demoScene.room(), b.logsIn("Juliet", juliet.Hash, "standup"), "juliet")
	edit(t, "usher.yaml", `listen: "`+s.portal+`", public_url`, `listen: "off", public_url`)
	isOut(t, host, demoScene.room(), "juliet")
	s.log.until(t, `a changed key needs a restart	{"key": "portal.listen"}`, 1)
	for what, p := range map[string]shown{
		"the session":      b.get("/rooms"),
		"steering":         b.post("/rooms/end", "room", "standup"),
		"another login":    newBrowser(t, s.portal).post("/login", "name", "juliet", "password", juliet.Hash, "room", "standup"),
		"a provider":       newBrowser(t, s.portal).get("/login/with/school"),
		"the page of them": b.get("/"),
	} {
		if strings.Contains(p.to, "jwt=") || p.status == http.StatusOK || p.status == http.StatusSeeOther && p.to != "/login" {
			t.Errorf("%s: %+v", what, p)
		}
	}
	s.end()
	silent(t, b.said.String())
}

// TestPortalKey has the portal sign with a key of its own, which is made at the first start, published, and rotated while usher runs.
func TestPortalKey(t *testing.T) {
	s := startPortal(t, ", sign: key, key_file: keys.json")
	b := newBrowser(t, s.portal)
	if stat, err := os.Stat("keys.json"); err != nil || stat.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", stat, err)
	}
	room := demoScene.room()
	before := b.logsIn("juliet", juliet.Hash, "standup")
	if got := enters(t, s.host(), room, before, "juliet"); got != hostStanding {
		t.Errorf("Juliet is %s", got)
	}
	published := func() (ids []string) {
		all, _, err := keys.JWKS([]byte(b.get("/.well-known/jwks.json").text))
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range all {
			ids = append(ids, k.ID)
		}
		return ids
	}
	first := published()
	parsed, err := token.Parse(before)
	if err != nil || len(first) != 1 || parsed.KeyID != first[0] || parsed.Algorithm != "EdDSA" || parsed.Issuer() != portalIssuer {
		t.Errorf("signed by %+v, published %q, %v", parsed, first, err)
	}
	if r := command(t, "", "token", "explain", "-c", "usher.yaml", "--room", "standup", before); r.status != 0 {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "key", "rotate", "-c", "usher.yaml"); r.status != 0 {
		t.Errorf("%+v", r)
	}
	if both := published(); len(both) != 2 || both[0] != first[0] {
		t.Errorf("published %q", both)
	}
	if r := command(t, "", "key", "rotate", "--now", "-c", "usher.yaml"); r.status != 0 {
		t.Errorf("%+v", r)
	}
	after := b.get("/login?room=standup").token(t, "standup")
	for compact, want := range map[string]string{before: "token-signature", after: "ready"} {
		if got, err := asksFrom(t.Context(), s.host(), "another machine", room, "token='"+compact+"'"); err != nil || got != want {
			t.Errorf("after the keys are replaced: %s, %v; want %s", got, err, want)
		}
	}
	s.end()
}

// TestPortalUntilHostLeft ends the session of a host who has left, and not that of one who has loaded the page again.
func TestPortalUntilHostLeft(t *testing.T) {
	s := startPortal(t, ", session: until-host-left")
	b, other := newBrowser(t, s.portal), newBrowser(t, s.portal)
	room := demoScene.room()
	host, second := s.host(), s.host()
	enters(t, host, room, b.logsIn("juliet", juliet.Hash, "standup"), "juliet")
	enters(t, second, room, other.logsIn("nurse", nurse.Hash, "standup"), "nurse")
	leaves := func(c *prosodytest.Client, nick string) {
		c.Sends("<presence type='unavailable' to='" + room + "/" + nick + "'/>")
		isOut(t, c, room, nick)
	}
	leaves(host, "juliet")
	host = s.host()
	enters(t, host, room, b.get("/login?room=standup").token(t, "standup"), "juliet")
	leaves(second, "nurse")
	// The nurse is gone for good, and Juliet is not.
	other.isLoggedOut()
	b.get("/login?room=standup").token(t, "standup")
	s.end()
}

// isLoggedOut waits until the session has ended.
func (b *browser) isLoggedOut() {
	b.Helper()
	for late := time.Now().Add(time.Minute); b.get("/login?room=standup").status == http.StatusSeeOther; {
		if time.Now().After(late) {
			b.Fatal("the session does not end")
		}
		<-time.After(100 * time.Millisecond)
	}
}

// TestPortalBreakoutRoom: a host who goes into a breakout room has not left. Who leaves from there has.
func TestPortalBreakoutRoom(t *testing.T) {
	s, stop := staging(t, jicofoScene, func(yaml string) {
		edit(t, yaml, "users_file: users.yaml", "users_file: users.yaml, session: until-host-left")
	})
	room := s.room()
	away, gone := newBrowser(t, s.portal), newBrowser(t, s.portal)
	var people []*prosodytest.Client
	for range 3 {
		people = append(people, s.Client(t, prosodytest.ClientOptions{Host: s.tokens}))
	}
	stays, err := s.mint(s.appSecret, nil)
	if err != nil {
		t.Fatal(err)
	}
	enters(t, people[0], room, stays, "stays")
	enters(t, people[1], room, away.logsIn(demoHost, s.hostPassword, "standup"), "away")
	enters(t, people[2], room, gone.logsIn(demoHost, s.hostPassword, "standup"), "gone")
	// Before Jicofo usher looks at rooms every second, and does not see who comes and goes in between.
	sees := func(room string, c *prosodytest.Client) {
		t.Helper()
		for late := time.Now().Add(time.Minute); ; {
			var v struct {
				Occupants []struct {
					JID    string `json:"id"`
					Inside bool
				}
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.api+"/api/v1/rooms/"+room, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+s.key)
			req.Close = true
			answer, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			said, err := io.ReadAll(answer.Body)
			answer.Body.Close()
			if err := errors.Join(err, json.Unmarshal(said, &v)); err != nil {
				t.Fatal(err)
			}
			for _, o := range v.Occupants {
				if o.Inside && o.JID == c.BareJID() {
					return
				}
			}
			if time.Now().After(late) {
				t.Fatalf("%s is not seen inside: %s", c.BareJID(), said)
			}
			<-time.After(200 * time.Millisecond) // the key may ask so often
		}
	}
	for _, c := range people {
		sees("standup", c)
	}
	side, err := people[0].AddBreakout(t.Context(), s.breakout, "the side room")
	if err != nil {
		t.Fatal(err)
	}
	leaves := func(c *prosodytest.Client, room, nick string) {
		c.Sends("<presence type='unavailable' to='" + room + "/" + nick + "'/>")
		isOut(t, c, room, nick)
	}
	leaves(people[1], room, "away")
	enters(t, people[1], side, "", "away")
	leaves(people[2], room, "gone")
	gone.isLoggedOut()
	away.get("/login?room=standup").token(t, "standup")
	leaves(people[1], side, "away")
	away.isLoggedOut()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestPortalProvider logs teachers in at a provider of OpenID Connect. Others get no token. A teacher who logs out at the provider is out
// of the room, and so is everybody from a provider that goes.
func TestPortalProvider(t *testing.T) {
	const secret = "the secret of usher at the school 0123"
	secrets.Plant("the secret at a provider", secret)
	address := freePort(t)
	school := oidctest.Start(t, oidctest.Options{
		Users: []oidctest.User{
			{Name: "alice", Password: "the password of alice", Display: "Alice", Groups: []string{"/teachers"}},
			{Name: "bob", Password: "the password of bob", Groups: []string{"/pupils"}},
		},
		Clients: []oidctest.Client{{
			ID: "usher", Secret: secret, RedirectURIs: []string{"http://" + address + "/login/callback/school"},
			PostLogoutURIs: []string{"http://" + address + "/logout"}, BackChannelURI: "http://" + address + "/logout/backchannel/school",
		}},
	})
	s := startPortalAt(t, address, `, providers: [{name: school, issuer: "`+school.Issuer+`", client_id: usher, client_secret: "`+secret+`",
  rules: [{value: teachers, affiliation: owner, rooms: ["standup", "class-*"], features: [recording]}]}]`)
	through := func(b *browser, user string) shown {
		t.Helper()
		p := b.get("/login/with/school?room=standup")
		if p.status != http.StatusSeeOther {
			t.Fatalf("%+v", p)
		}
		back := school.Login(t, p.to, user)
		secrets.Plant("the code of a provider", back.Query().Get("code"))
		return b.get(back.RequestURI())
	}
	alice, bob := newBrowser(t, s.portal), newBrowser(t, s.portal)
	if p := through(bob, "bob"); p.status != http.StatusForbidden {
		t.Errorf("a pupil: %+v", p)
	}
	if p := newBrowser(t, s.portal).get("/login/callback/school?state=nobody&code=none"); p.status < http.StatusBadRequest {
		t.Errorf("a login that nobody has begun: %+v", p)
	}
	compact := through(alice, "alice").token(t, "standup")
	if parsed, err := token.Parse(compact); err != nil {
		t.Error(err)
	} else if c, err := parsed.Claims(token.ClaimMap{}); err != nil || c.User.ID != "school:alice" || c.User.Name != "Alice" || !c.Features["recording"] || c.User.Affiliation != "owner" {
		t.Errorf("the token says %+v, %v", c, err)
	}
	host := s.host()
	if got := enters(t, host, demoScene.room(), compact, "alice"); got != hostStanding {
		t.Errorf("Alice is %s", got)
	}
	began := time.Now()
	if sent := school.Logout("alice"); sent != 1 {
		t.Errorf("%d logout tokens are sent", sent)
	}
	isOut(t, host, demoScene.room(), "alice")
	t.Logf("out %s after the logout at the provider", time.Since(began).Round(time.Millisecond))
	if p := alice.get("/login?room=standup"); p.status != http.StatusOK {
		t.Errorf("the session has not ended: %+v", p)
	}

	// The provider goes, and with it the people it knows.
	compact = through(alice, "alice").token(t, "standup")
	enters(t, host, demoScene.room(), compact, "alice")
	edit(t, "usher.yaml", "name: school", "name: another")
	isOut(t, host, demoScene.room(), "alice")
	s.end()
	audited, err := os.ReadFile("audit.jsonl")
	if err != nil || !strings.Contains(string(audited), `"path":"/login/callback/{provider}","room":"standup","who":"school:alice"`) ||
		!strings.Contains(string(audited), `"method":"GET","path":"/login/callback/{provider}","room":"standup","who":"school:bob","remote":"127.0.0.1","status":403`) ||
		!strings.Contains(string(audited), `"method":"GET","path":"/login/callback/{provider}","remote":"127.0.0.1","status":4`) ||
		!strings.Contains(string(audited), `"path":"/logout/backchannel/{provider}"`) {
		t.Errorf("%s, %v", audited, err)
	}
	silent(t, string(audited)+alice.said.String()+bob.said.String())
}

// TestPortalTLS serves the portal with a certificate of its own. The session is in a cookie that only this host can set, by https.
func TestPortalTLS(t *testing.T) {
	s := &portalSite{T: t, server: served(t, componentSecret), portal: freePort(t)}
	roots := certified(t, "portal.pem", "portal.key")
	is, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	yaml := strings.Replace(fmt.Sprintf(portalYAML, s.portal, ", tls_cert_file: portal.pem, tls_key_file: portal.key"), `public_url: "http:`, `public_url: "https:`, 1)
	write(t, "usher.yaml", string(is)+yaml)
	users(t, juliet)
	s.begins()
	b := newBrowser(t, s.portal)
	b.base = "https://" + s.portal
	b.client.Transport = &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	enters(t, s.host(), demoScene.room(), b.logsIn("juliet", juliet.Hash, "standup"), "juliet")
	at, err := url.Parse(b.base)
	if err != nil {
		t.Fatal(err)
	}
	cookies := b.client.Jar.Cookies(at)
	if !slices.ContainsFunc(cookies, func(c *http.Cookie) bool { return c.Name == "__Host-usher" }) {
		t.Errorf("the cookies: %v", cookies)
	}
	b.get("/login?room=standup").token(t, "standup")
	s.end()
}

// certified writes a certificate for 127.0.0.1 and its key, and returns who signed it.
func certified(t *testing.T, certFile, keyFile string) *x509.CertPool {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, public, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	pool := x509.NewCertPool()
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool.AddCert(c)
	return pool
}

// TestLoginCounts: what the metrics make of an answer of the portal.
func TestLoginCounts(t *testing.T) {
	const callback = "/login/callback/{provider}"
	for _, tt := range []struct {
		call   portal.Call
		by     metrics.LoginBy
		result metrics.LoginResult
	}{
		{portal.Call{Method: "POST", Path: "/login", Status: 303}, metrics.ByPassword, metrics.LoginOK},
		{portal.Call{Method: "POST", Path: "/login", Status: 401}, metrics.ByPassword, metrics.LoginRefused},
		{portal.Call{Method: "POST", Path: "/login", Status: 429}, metrics.ByPassword, metrics.LoginLimited},
		{portal.Call{Method: "POST", Path: "/login", Status: 503}, metrics.ByPassword, metrics.LoginFailed},
		{portal.Call{Method: "GET", Path: callback, Status: 303}, metrics.ByProvider, metrics.LoginOK},
		{portal.Call{Method: "GET", Path: callback, Status: 403}, metrics.ByProvider, metrics.LoginRefused},
		{portal.Call{Method: "GET", Path: callback, Status: 503}, metrics.ByProvider, metrics.LoginFailed},
		{portal.Call{Method: "GET", Path: "/login", Status: 303}, "", metrics.LoginOK}, // by a session that is there
		{portal.Call{Method: "POST", Path: "/logout", Status: 303}, "", metrics.LoginOK},
	} {
		if by, result := loginBy(tt.call), loginResult(tt.call.Status); by != tt.by || result != tt.result {
			t.Errorf("%+v counts as %q %q", tt.call, by, result)
		}
	}
}
