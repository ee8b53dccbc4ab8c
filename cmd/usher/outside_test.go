package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// hookKey is the key in the secret of the webhook of outside.
const hookKey = "the key of the webhook, 32 bytes"

// outside is a usher that serves with everything switched on, as others see it. All that it says is kept.
type outside struct {
	*testing.T
	server    *prosodytest.Server
	ops, api  string // addresses
	portal    string // another one
	key       string // of the API
	log       *live
	end       func() int
	client    *http.Client
	mu        sync.Mutex
	said      strings.Builder
	delivered []hooked
	news      chan struct{}
}

// hooked is an event that the webhook was told of.
type hooked struct {
	Type string `json:"type"`
	Data struct {
		RoomName string `json:"room_name"`
		RoomJID  string `json:"room_jid"`
		Verdict  string `json:"verdict"`
		Reason   string `json:"reason"`
		JTI      string `json:"jti"`
		Occupant struct {
			JID string `json:"occupant_jid"`
		} `json:"occupant"`
	} `json:"data"`
}

// freePort returns an address of this machine at which nobody listens.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startOutside starts a Prosody, and usher beside it.
func startOutside(t *testing.T) *outside {
	t.Helper()
	o := &outside{T: t, server: served(t, componentSecret), ops: freePort(t), api: freePort(t), portal: freePort(t), log: newLive(), news: make(chan struct{}, 1)}
	o.client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(o.client.CloseIdleConnections)
	hook := httptest.NewServer(http.HandlerFunc(o.hook))
	t.Cleanup(hook.Close)
	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte(hookKey))
	secrets.Plant("the secret of a webhook", secret[len("whsec_"):], hookKey)
	write(t, "hook.secret", secret+"\n")
	is, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", string(is)+fmt.Sprintf(`
admin: {socket: usher.sock}
ops: {listen: "%s", pprof: true}
api: {listen: "%s", keys_file: keys.yaml, public_url: "http://%[2]s", meet_url: "https://meet.example.com", burst: 200}
audit: {to: audit.jsonl}
webhooks: [{name: back-end, url: "%s/hook?with=a+path", secret_file: hook.secret}]
log: {level: debug, format: json}
`, o.ops, o.api, hook.URL)+fmt.Sprintf(portalYAML, o.portal, ", mirotalk_api: true"))
	users(t, juliet)
	r := command(t, "", "api", "key", "add", "all", "--scope", "tokens,explain,rooms:read,rooms:write,grants:read,revocations,links,decisions:read", "-c", "usher.yaml")
	if r.status != 0 {
		t.Fatalf("%+v", r)
	}
	o.key = strings.TrimSpace(r.stdout)
	secrets.PlantRandom("a key of the API", o.key[len("usher_all_"):])
	t.Setenv(opsListen, o.ops) // or begin switches it off
	o.end = begin(t, o.log, o.log, "serve", "-c", "usher.yaml")
	o.log.until(t, `"msg":"connected"`, 1)
	o.log.until(t, `"msg":"usher answers the API at `, 1)
	o.log.until(t, `"msg":"usher answers the portal at `, 1)
	o.log.until(t, `"msg":"usher answers metrics, health and the live page at `, 1)
	return o
}

// hook takes an event of the webhook, with a good signature.
func (o *outside) hook(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	mac := hmac.New(sha256.New, []byte(hookKey))
	fmt.Fprintf(mac, "%s.%s.%s", r.Header.Get("webhook-id"), r.Header.Get("webhook-timestamp"), body)
	var e hooked
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); err != nil || r.Header.Get("webhook-signature") != want || json.Unmarshal(body, &e) != nil {
		o.Errorf("the webhook was told %s, %v, signed %s and not %s", body, err, r.Header.Get("webhook-signature"), want)
	}
	var head bytes.Buffer
	_ = r.Header.Write(&head)
	o.mu.Lock()
	o.delivered = append(o.delivered, e)
	fmt.Fprintf(&o.said, "%s\n%s\n%s\n", r.URL, head.String(), body)
	o.mu.Unlock()
	select {
	case o.news <- struct{}{}:
	default:
	}
}

// isTold waits until the webhook is told of such an event.
func (o *outside) isTold(what string, match func(hooked) bool) {
	o.Helper()
	late := time.After(time.Minute)
	for {
		o.mu.Lock()
		for _, e := range o.delivered {
			if match(e) {
				o.mu.Unlock()
				return
			}
		}
		o.mu.Unlock()
		select {
		case <-o.news:
		case <-late:
			o.Fatalf("the webhook is not told of %s, only of %+v\n%s", what, o.delivered, prosodytest.Tail(o.log.String()))
		}
	}
}

// get asks at ops.listen.
func (o *outside) get(path string) string {
	o.Helper()
	status, body := o.call(http.MethodGet, "http://"+o.ops+path, "")
	if status != http.StatusOK {
		o.Errorf("%s: %d %s", path, status, body)
	}
	return o.heard(body)
}

// measured are usher's own metrics, without their help.
func (o *outside) measured() string {
	o.Helper()
	var b strings.Builder
	for line := range strings.Lines(o.get("/metrics")) {
		if strings.HasPrefix(line, "usher_") && !strings.Contains(line, "_bucket{") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// asks calls the API, and decodes the answer into to.
func (o *outside) asks(method, path, body string, want int, to any) string {
	o.Helper()
	status, text := o.call(method, "http://"+o.api+"/api/v1"+path, body)
	if status != want {
		o.Fatalf("%s %s: %d, not %d: %s", method, path, status, want, text)
	}
	if to != nil {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			o.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return text
}

func (o *outside) call(method, address, body string) (int, string) {
	o.Helper()
	req, err := http.NewRequestWithContext(o.Context(), method, address, strings.NewReader(body))
	if err != nil {
		o.Fatal(err)
	}
	if strings.Contains(address, o.api) {
		req.Header.Set("Authorization", "Bearer "+o.key)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	answer, err := o.client.Do(req)
	if err != nil {
		o.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		o.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// heard keeps what usher says, for the search for secrets.
func (o *outside) heard(text string) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said.WriteString(text + "\n")
	return text
}

// until asks again until the answer is good.
func (o *outside) until(what string, ask func() string, good func(string) bool) {
	o.Helper()
	for late := time.Now().Add(time.Minute); ; {
		said := ask()
		if good(said) {
			return
		}
		if time.Now().After(late) {
			o.Fatalf("no %s in %s", what, said)
		}
		<-time.After(20 * time.Millisecond)
	}
}

// has returns a condition: the answer has all these texts.
func has(texts ...string) func(string) bool {
	return func(said string) bool {
		for _, text := range texts {
			if !strings.Contains(said, text) {
				return false
			}
		}
		return true
	}
}

// follow reads a stream of server-sent events until an event has all these texts.
func (o *outside) follow(address string, texts ...string) (found <-chan bool) {
	o.Helper()
	ctx, cancel := context.WithTimeout(o.Context(), time.Minute)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		o.Fatal(err)
	}
	if strings.Contains(address, o.api) {
		req.Header.Set("Authorization", "Bearer "+o.key)
	}
	answer, err := o.client.Do(req)
	if err != nil || answer.StatusCode != http.StatusOK {
		o.Fatalf("%s: %v %v", address, answer, err)
	}
	result := make(chan bool, 1)
	go func() {
		defer cancel()
		defer answer.Body.Close()
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if has(texts...)(o.heard(lines.Text())) {
				result <- true
				return
			}
		}
		result <- false
	}()
	return result
}

// TestOutsideOfServe follows two people, a host with a token and a guest, through everything that usher tells others: log, metrics, audit
// log, webhook, API and live page. No secret is in any of it.
func TestOutsideOfServe(t *testing.T) {
	o := startOutside(t)
	room := demoScene.room()
	for _, args := range [][]string{{"-c", "usher.yaml"}, {"-c", "usher.yaml", "--json"}} {
		if r := command(t, "", append([]string{"health"}, args...)...); r.status != 0 {
			t.Errorf("%+v", r)
		}
	}

	// The API mints the token of the host.
	var minted struct{ Token, JTI string }
	o.asks("POST", "/tokens", `{"room":"standup","name":"Juliet","id":"u-juliet","affiliation":"owner"}`, http.StatusCreated, &minted)
	secrets.PlantTokens(minted.Token)
	host := o.server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})
	guest := o.server.Client(t, prosodytest.ClientOptions{Host: demoScene.guests})

	// The guest waits.
	if got, err := asksFrom(t.Context(), guest, "the-machine-of-the-guest", room, ""); err != nil || got != "host-absent" {
		t.Fatalf("%s, %v", got, err)
	}
	inPage := o.follow("http://"+o.ops+"/page/events", host.BareJID())
	inStream := o.follow("http://"+o.api+"/api/v1/decisions/stream", minted.JTI, `"allow"`)
	o.isTold("the guest who waits", func(e hooked) bool {
		return e.Type == "waiting" && e.Data.Reason == "host-absent" && e.Data.Occupant.JID == guest.BareJID()
	})
	rooms := o.asks("GET", "/rooms", "", http.StatusOK, nil)
	if !has(room, `"waiting":1`)(o.heard(rooms)) {
		t.Errorf("the API shows %s", rooms)
	}
	o.until("the guest who waits", func() string { return o.get("/page/rooms") }, has("standup"))

	// The host comes, and the guest is let in.
	if got, err := asks(t.Context(), host, room, "token='"+minted.Token+"'"); err != nil || got != "ready" {
		t.Fatalf("%s, %v", got, err)
	}
	if _, err := host.Join(t.Context(), room, "Juliet"); err != nil {
		t.Fatal(err)
	}
	if got, err := asksFrom(t.Context(), guest, "the-machine-of-the-guest", room, ""); err != nil || got != "ready" {
		t.Fatalf("%s, %v", got, err)
	}
	if _, err := guest.Join(t.Context(), room, "Romeo"); err != nil {
		t.Fatal(err)
	}
	if !<-inPage {
		t.Error("the live page does not show the host")
	}
	if !<-inStream {
		t.Error("the API's stream does not show the host")
	}

	// Everybody tells the same.
	admitted := func(e hooked) bool {
		return e.Type == "admitted" && e.Data.Verdict == "allow" && e.Data.RoomJID == room && e.Data.JTI == minted.JTI && e.Data.Occupant.JID == host.BareJID()
	}
	o.isTold("the host", admitted)
	for _, what := range []string{"room-opened", "host-arrived", "occupant-joined"} {
		o.isTold(what, func(e hooked) bool { return e.Type == what })
	}
	o.until("both inside", func() string { return o.heard(o.asks("GET", "/rooms/standup", "", http.StatusOK, nil)) },
		has(`"host_inside":true`, minted.JTI, host.BareJID(), guest.BareJID(), `"inside":true`))
	o.until("the host's explanation", func() string { return o.heard(o.asks("GET", "/decisions", "", http.StatusOK, nil)) },
		has(minted.JTI, `"steps"`, `"host-absent"`))
	o.heard(o.asks("GET", "/grants", "", http.StatusOK, nil))
	o.until("two admissions and one wait", o.measured, has(
		`usher_decisions_total{class="admitted",reason="host",repeated="no",tenant="",verdict="allow",vhost="meet.example.com"} 1`,
		`usher_decisions_total{class="admitted",reason="guest",repeated="no",tenant="",verdict="allow",vhost="guest.meet.example.com"} 1`,
		`usher_decisions_total{class="room",reason="host-absent",repeated="no",tenant="",verdict="wait",vhost="guest.meet.example.com"} 1`,
		"usher_connected 1\n", `usher_rooms{host="inside"} 1`, `usher_occupants{as="guest"} 1`, "usher_let_in_after_host_seconds_count 1\n",
		`usher_api_requests_total{method="POST",path="/api/v1/tokens",status="201"} 1`, `usher_webhook_sent_messages_total{hook="back-end"}`))
	o.until("lines of both", func() string { return o.audited() }, has(
		`"what":"decision","room":"`+room+`","who":"`+host.BareJID()+`","vhost":"meet.example.com","issuer":"demo","jti":"`+minted.JTI+`"`, `"verdict":"allow"`,
		`"who":"`+guest.BareJID()+`","vhost":"guest.meet.example.com","verdict":"wait","reason":"host-absent"`,
		`"what":"call"`, `"key":"all","method":"POST","path":"/api/v1/tokens"`))
	o.until("the line of the host", o.log.String, has(`"jti":"`+minted.JTI+`"`, `"verdict":"allow"`))
	for _, path := range []string{"/", "/healthz", "/readyz", "/page/rooms", "/page/room?address=" + room, "/page/decisions", "/debug/pprof/cmdline"} {
		o.get(path)
	}

	var shown struct {
		Entries []struct{ ID, Who, What string }
	}
	if err := json.Unmarshal([]byte(o.get("/page/decisions?show=allow")), &shown); err != nil {
		t.Error(err)
	}
	for _, e := range shown.Entries {
		if said := o.get("/page/explanation?of=" + e.ID); e.Who == host.BareJID() && !has(minted.JTI, `"steps":[{`, `"doc":`)(said) {
			t.Errorf("the page explains the host's admission by %s", said)
		}
	}

	o.link(t)
	o.portals(room)
	o.taken(minted.JTI, host)
	o.refused()
	if status := o.end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	o.heard(o.audited())
	o.heard(o.log.String())
	o.mu.Lock()
	defer o.mu.Unlock()
	silent(t, o.said.String())
	if !strings.Contains(o.said.String(), "/hook?with=a+path") {
		t.Error("the webhook's path was not kept")
	}
}

// audited is what stands in the audit log.
func (o *outside) audited() string {
	o.Helper()
	text, err := os.ReadFile("audit.jsonl")
	if err != nil {
		o.Fatal(err)
	}
	return string(text)
}

// link makes a link and redeems it, which works once.
func (o *outside) link(t *testing.T) {
	t.Helper()
	var link struct{ URL string }
	o.asks("POST", "/links", `{"room":"standup","affiliation":"member"}`, http.StatusCreated, &link)
	code := link.URL[strings.LastIndex(link.URL, "/")+1:]
	secrets.PlantRandom("the code of a link", code)
	if status, page := o.call(http.MethodGet, link.URL, ""); status != http.StatusOK || !strings.Contains(o.heard(page), "<button") {
		t.Errorf("%d %s", status, page)
	}
	for _, want := range []int{http.StatusSeeOther, http.StatusGone} {
		answer, err := o.client.Post(link.URL, "application/x-www-form-urlencoded", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		to := answer.Header.Get("Location")
		if answer.StatusCode != want || (want == http.StatusSeeOther) != strings.HasPrefix(to, "https://meet.example.com/standup#jwt=") {
			t.Errorf("%d, not %d: %s", answer.StatusCode, want, to)
		}
		if _, token, ok := strings.Cut(to, "jwt="); ok {
			secrets.PlantTokens(strings.TrimSuffix(strings.TrimPrefix(token, "%22"), "%22"))
		}
	}
	o.until("the call of the link", o.audited, has(`"path":"/l/{code}"`))
}

// portals logs a host in, at the portal and by the API, and out again.
func (o *outside) portals(room string) {
	o.Helper()
	b := newBrowser(o, o.portal)
	if p := b.post("/login", "name", "juliet", "password", "not this one, of 1597", "room", "standup"); p.status != http.StatusUnauthorized {
		o.Errorf("a wrong password: %+v", p)
	}
	secrets.Plant("a wrong password", "not this one, of 1597")
	compact := b.logsIn("juliet", juliet.Hash, "standup")
	host := o.server.Client(o.T, prosodytest.ClientOptions{Host: demoScene.tokens})
	enters(o, host, room, compact, "Juliet of the portal")
	var by struct{ Token, JTI string }
	o.asks("POST", "/login", `{"username":"juliet","password":"`+juliet.Hash+`","room":"class-1"}`, http.StatusOK, &by)
	secrets.PlantTokens(by.Token)
	o.heard(o.asks("POST", "/login", `{"username":"juliet","password":"not this one, of 1597"}`, http.StatusUnauthorized, nil))
	if p := b.get("/rooms"); p.status != http.StatusOK || !strings.Contains(p.text, "standup") {
		o.Errorf("the rooms: %+v", p)
	}
	for path, want := range map[string]string{"/": "", "/wait/standup": "", "/login?room=standup": compact, "/style.css": "", "/portal.js": "", "/.well-known/jwks.json": "", "/no-such": ""} {
		if p := b.get(path); want != "" {
			p.token(o, "standup")
		}
	}
	if p := b.post("/rooms/lock", "room", "standup"); p.status >= http.StatusBadRequest {
		o.Errorf("locking: %+v", p)
	}
	o.until("the lock", func() string { return o.asks("GET", "/rooms/standup", "", http.StatusOK, nil) }, has(`"locked":true`))
	if p := b.post("/rooms/unlock", "room", "standup"); p.status >= http.StatusBadRequest {
		o.Errorf("unlocking: %+v", p)
	}
	if p := b.post("/logout"); p.status >= http.StatusBadRequest {
		o.Errorf("logging out: %+v", p)
	}
	isOut(o, host, room, "Juliet of the portal")
	o.until("the logins", o.measured, has(
		`usher_logins_total{by="password",result="ok"} 1`, `usher_logins_total{by="password",result="refused"} 1`, `usher_logins_total{by="api",result="ok"} 1`,
		`usher_logins_total{by="api",result="refused"} 1`, "usher_portal_minted_tokens_total 3\n", `usher_store_records{kind="login"} 1`))
	o.until("the lines of the logins", o.audited, has(
		`"method":"POST","path":"/login","room":"standup","remote":"127.0.0.1","status":401`,
		`"method":"POST","path":"/login","room":"standup","who":"account:juliet","remote":"127.0.0.1","status":303`,
		`"method":"POST","path":"/rooms/lock","room":"standup","who":"account:juliet"`, `"method":"POST","path":"/logout","who":"account:juliet"`,
		`"path":"/api/v1/login","room":"class-1","who":"name=juliet jti=`+by.JTI+`"`))
	o.heard(b.said.String())
}

// taken takes a token back, and its bearer is out.
func (o *outside) taken(jti string, host *prosodytest.Client) {
	o.Helper()
	text := o.asks("POST", "/revocations", `{"jti":"`+jti+`"}`, http.StatusOK, nil)
	o.heard(text)
	o.isTold("the revocation", func(e hooked) bool { return e.Type == "revoked" && e.Data.Occupant.JID == host.BareJID() })
	o.until("a revocation", func() string { return o.heard(o.asks("GET", "/revocations", "", http.StatusOK, nil)) }, has(jti))
	o.until("its line", o.audited, has(`"method":"POST","path":"/api/v1/revocations"`))
}

// refused removes the key, and the API refuses it from then on, without a restart.
func (o *outside) refused() {
	o.Helper()
	if r := command(o.T, "", "api", "key", "remove", "all", "-c", "usher.yaml"); r.status != 0 {
		o.Errorf("%+v", r)
	}
	o.log.until(o.T, "is in force", 1)
	if status, text := o.call(http.MethodGet, "http://"+o.api+"/api/v1/rooms", ""); status != http.StatusUnauthorized {
		o.Errorf("a key that is removed: %d %s", status, text)
	} else {
		o.heard(text)
	}
	o.until("the reload", o.measured, has(`usher_config_reloads_total{result="ok"} 1`))
}

// TestOutsideReload changes what others see of a running usher: webhooks change at once, and a mistake changes nothing.
func TestOutsideReload(t *testing.T) {
	o := startOutside(t)
	guest := o.server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})
	refused := func(room, at string) {
		t.Helper()
		if got, err := asks(t.Context(), guest, room+"@"+demoScene.service, ""); err != nil || got != "token-required" {
			t.Fatalf("%s, %v", got, err)
		}
		o.isTold("the refusal", func(e hooked) bool { return e.Type == "refused" && e.Data.RoomName == room })
		o.mu.Lock()
		defer o.mu.Unlock()
		if last := o.said.String(); !strings.Contains(last[strings.LastIndex(last, "/hook"):], at) {
			t.Errorf("told not at %s but %s", at, last)
		}
	}
	refused("one", "/hook?with=a+path")
	edit(t, "usher.yaml", "/hook?with=a+path", "/hook/moved")
	o.log.until(t, "is in force", 1)
	refused("two", "/hook/moved")
	edit(t, "usher.yaml", "name: back-end", "name: back-end, events: [refusd]")
	o.log.until(t, "invalid configuration", 1)
	o.log.until(t, `webhooks[0].events[0]: \"refusd\" is not known`, 1)
	refused("three", "/hook/moved")
	o.until("the failed reload", o.measured, has(`usher_config_reloads_total{result="ok"} 1`, `usher_config_reloads_total{result="failed"} 1`, "usher_config_last_reload_successful 0"))
	edit(t, "usher.yaml", "events: [refusd]", "events: [admitted]")
	edit(t, "usher.yaml", "to: audit.jsonl", "to: other.jsonl")
	o.log.until(t, `"msg":"a changed key needs a restart","key":"audit.to"`, 1)
	o.until("the reload", o.measured, has("usher_config_last_reload_successful 1"))
	silent(t, o.said.String())
}

// TestOutsideStandsBy asks an usher that stands by, and that becomes the active one.
func TestOutsideStandsBy(t *testing.T) {
	o := startOutside(t)
	first := o.ops
	o.ops, o.api = freePort(t), freePort(t)
	t.Setenv(opsListen, o.ops)
	t.Setenv("USHER_API_LISTEN", o.api)
	t.Setenv("USHER_PORTAL_LISTEN", freePort(t))
	t.Setenv("USHER_AUDIT_TO", "second.jsonl")
	second := newLive()
	begin(t, second, second, "serve", "-c", "usher.yaml")
	second.until(t, "standing by", 1)
	second.until(t, `"msg":"usher answers the API at `, 1)
	second.until(t, `"msg":"usher answers metrics, health and the live page at `, 1)
	if r := command(t, "", "health", "--listen", o.ops); r.status != 0 || r.stdout != "usher is ready, and stands by for another one.\n" {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "health", "--listen", first); r.stdout != "usher is ready.\n" {
		t.Errorf("%+v", r)
	}
	if !has("usher_active 0\n")(o.measured()) || !has("Standing by")(o.firstEvent()) {
		t.Error("the second usher does not say that it stands by")
	}
	o.asks("GET", "/rooms", "", http.StatusServiceUnavailable, nil)
	o.end()
	second.until(t, `"msg":"connected"`, 1)
	o.until("an active usher", o.measured, has("usher_active 1\n", "usher_connected 1\n"))
	o.asks("GET", "/rooms", "", http.StatusOK, nil)
	o.until("readiness", func() string { return command(t, "", "health", "--listen", o.ops).stdout }, has("usher is ready.\n")) // it is of a second ago
	silent(t, o.said.String())
}

// firstEvent is what the live page says first.
func (o *outside) firstEvent() string {
	o.Helper()
	if !<-o.follow("http://"+o.ops+"/page/events", `"headline"`) {
		o.Error("the live page says nothing")
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said.String()
}
