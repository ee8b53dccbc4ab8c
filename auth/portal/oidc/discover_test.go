package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
	"github.com/xmpp-usher/usher/pkg/secrettest"
)

func TestList(t *testing.T) {
	all := providers(oidc.Provider{Name: "b", Title: "School"}, oidc.Provider{Name: "a"})
	if list := all.List(); len(list) != 2 || list[0] != (oidc.Choice{Name: "b", Title: "School"}) || list[1] != (oidc.Choice{Name: "a", Title: "a"}) {
		t.Errorf("%+v", list)
	}
}

// clock is a clock that a test turns.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// TestDiscovery: usher asks a provider when somebody logs in, and not again for an hour; after a failure, after 5 s.
func TestDiscovery(t *testing.T) {
	p := start(t, oidctest.Options{})
	c := &clock{at: time.Now()}
	logged, log := observer.New(zapcore.DebugLevel)
	all := oidc.New(oidc.Options{Providers: []oidc.Provider{school(p)}, PublicURL: public, Now: c.now, Log: zap.New(logged)})
	away := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }
	var want int
	step := func(what string, asks, good bool) {
		t.Helper()
		if asks {
			want++
		}
		for range 3 {
			if _, _, err := all.Begin(t.Context(), "school"); good && err != nil || !good && !errors.Is(err, oidc.ErrUnavailable) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if asked := p.Asked(oidctest.Discovery); asked != want {
			t.Errorf("%s: usher has asked %d times, want %d", what, asked, want)
		}
	}
	if p.Asked(oidctest.Discovery) != 0 {
		t.Error("New asks")
	}
	p.Instead(oidctest.Discovery, away)
	step("away", true, false)
	c.pass(5*time.Second - 1)
	step("just after a failure", false, false)
	c.pass(1)
	step("5 s after a failure", true, false)
	p.Instead(oidctest.Discovery, nil)
	c.pass(5 * time.Second)
	step("there again", true, true)
	c.pass(time.Hour - 1)
	step("within the hour", false, true)
	p.Instead(oidctest.Discovery, away)
	c.pass(1)
	step("away after an hour", true, true)
	c.pass(4 * time.Second)
	step("the old one counts", false, true)
	p.Instead(oidctest.Discovery, nil)
	c.pass(time.Second)
	step("there again", true, true)
	c.pass(-24 * time.Hour)
	step("the clock was put back", true, true)
	c.pass(time.Hour)
	p.Instead(oidctest.Discovery, func(w http.ResponseWriter, r *http.Request) { c.pass(5 * time.Second); away(w, r) })
	step("as slow as the pause is long", true, true)
	p.Instead(oidctest.Discovery, nil)
	c.pass(5 * time.Second)
	step("there again", true, true)
	var messages []string
	for _, entry := range log.All() {
		messages = append(messages, entry.Level.String()+" "+strings.Fields(entry.Message)[0])
	}
	if got := strings.Join(messages, ", "); got != "warn could, info discovered, warn could, info discovered, warn could, info discovered" {
		t.Errorf("the log has: %s", got)
	}
}

// TestDocuments changes the discovery document.
func TestDocuments(t *testing.T) {
	p := start(t, oidctest.Options{})
	set := func(name string, value any) func(map[string]any) { return func(d map[string]any) { d[name] = value } }
	answer := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for name, test := range map[string]struct {
		change func(map[string]any)
		answer http.HandlerFunc
		why    string
	}{
		"another issuer":        {change: set("issuer", "https://evil.example"), why: `of the issuer "https://evil.example"`},
		"issuer with a slash":   {change: set("issuer", p.Issuer+"/"), why: "configure the issuer exactly so"},
		"no issuer":             {change: set("issuer", nil), why: "of the issuer"},
		"no token endpoint":     {change: set("token_endpoint", nil), why: "token_endpoint: not an address"},
		"http elsewhere":        {change: set("token_endpoint", "http://id.example.com/token"), why: "token_endpoint: want https"},
		"a file":                {change: set("jwks_uri", "file:///etc/passwd"), why: "jwks_uri: not an address"},
		"with a password":       {change: set("userinfo_endpoint", "https://a:b@example.com/"), why: "userinfo_endpoint: an address with a user name"},
		"a path":                {change: set("authorization_endpoint", "/authorize"), why: "authorization_endpoint: not an address"},
		"script":                {change: set("authorization_endpoint", "javascript:alert(1)"), why: "authorization_endpoint: not an address"},
		"http for the logout":   {change: set("end_session_endpoint", "http://id.example.com/"), why: "end_session_endpoint: want https"},
		"HTML":                  {answer: answer(200, "<html>secret"), why: "not JSON"},
		"issuer twice":          {answer: answer(200, `{"issuer":"a","issuer":"b"}`), why: "a name twice"},
		"absent":                {answer: answer(404, "secret"), why: "HTTP status 404"},
		"broken":                {answer: answer(500, "secret"), why: "HTTP status 500"},
		"more than usher reads": {answer: answer(200, strings.Repeat(" ", 2<<20)), why: "more than 1048576 bytes"},
		"never":                 {answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, why: "no whole answer in time"},
		"cut off": {answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
		}, why: "cut off"},
	} {
		p.Change(oidctest.Discovery, test.change)
		p.Instead(oidctest.Discovery, test.answer)
		client := &http.Client{Timeout: time.Minute}
		if name == "never" {
			client.Timeout = 10 * time.Millisecond
		}
		all := oidc.New(oidc.Options{Providers: []oidc.Provider{school(p)}, PublicURL: public, Client: client})
		_, _, err := all.Begin(t.Context(), "school")
		if !errors.Is(err, oidc.ErrUnavailable) || !strings.Contains(err.Error(), test.why) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want %s", name, err, test.why)
		}
	}
	for issuer, why := range map[string]string{
		"http://id.example.com":      "want https",
		"id.example.com":             "not an address",
		"https://":                   "not an address",
		"https://a:b@id.example.com": "user name or password",
		"http://localhost.evil.com/": "want https",
	} {
		_, _, err := providers(oidc.Provider{Name: "school", Issuer: issuer}).Begin(t.Context(), "school")
		if !errors.Is(err, oidc.ErrUnavailable) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", issuer, err)
		}
	}
}

// TestCheck: an operator learns whether people can log in, and what the provider lacks.
func TestCheck(t *testing.T) {
	p := start(t, oidctest.Options{})
	want := func(what string, want error) {
		t.Helper()
		if lacks, err := providers(school(p)).Check(t.Context(), "school"); !errors.Is(err, want) || len(lacks) > 0 {
			t.Errorf("%s: %q, %v", what, lacks, err)
		}
	}
	want("all is well", nil)
	p.Change(oidctest.Discovery, func(d map[string]any) {
		delete(d, "end_session_endpoint")
		delete(d, "backchannel_logout_supported")
		d["code_challenge_methods_supported"] = []string{"plain"}
	})
	if lacks, err := providers(school(p)).Check(t.Context(), "school"); err != nil || len(lacks) != 3 || !strings.Contains(lacks[0], "S256") ||
		!strings.Contains(lacks[1], "end_session_endpoint") || !strings.Contains(lacks[2], "back-channel logout") {
		t.Errorf("%q, %v", lacks, err)
	}
	p.Change(oidctest.Discovery, func(d map[string]any) { delete(d, "code_challenge_methods_supported") })
	want("not said", nil)
	p.Instead(oidctest.Keys, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"keys":[]}`)) })
	want("no keys", oidc.ErrUnavailable)
	p.Instead(oidctest.Discovery, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	want("no document", oidc.ErrUnavailable)
	if _, err := providers(school(p)).Check(t.Context(), "work"); !errors.Is(err, oidc.ErrNoProvider) {
		t.Error(err)
	}
}

// TestHTTPSStays: the document of an issuer in https names no address in http, not even on this machine.
func TestHTTPSStays(t *testing.T) {
	const issuer = "https://id.example.com"
	document := map[string]string{
		"issuer": issuer, "authorization_endpoint": issuer + "/auth", "token_endpoint": issuer + "/token", "jwks_uri": "https://keys.example.com/",
	}
	check := func() error {
		text, err := json.Marshal(document)
		if err != nil {
			t.Fatal(err)
		}
		return oidc.CheckDocument(oidc.Provider{Name: "p", Issuer: issuer}, string(text))
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	document["userinfo_endpoint"] = "http://127.0.0.1:9090/metrics"
	if err := check(); err == nil || !strings.Contains(err.Error(), "an address in http, of an issuer in https") {
		t.Error(err)
	}
}

// TestRedirects: usher follows a provider within its origin, and nowhere else; nor does it follow addresses in claims.
func TestRedirects(t *testing.T) {
	p := start(t, oidctest.Options{})
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	move := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
	}
	begin := func() error {
		_, _, err := providers(school(p)).Begin(t.Context(), "school")
		return err
	}
	p.Instead(oidctest.Discovery, move(other.URL+"/.well-known/openid-configuration"))
	if err := begin(); !errors.Is(err, oidc.ErrUnavailable) || !strings.Contains(err.Error(), "usher follows redirects within") {
		t.Error(err)
	}
	p.Instead(oidctest.Discovery, move(p.Issuer+string(oidctest.Discovery)))
	if err := begin(); !errors.Is(err, oidc.ErrUnavailable) || !strings.Contains(err.Error(), "redirected more than 3 times") {
		t.Error(err)
	}
	p.Instead(oidctest.Discovery, nil)
	p.Change(oidctest.IDToken, func(c map[string]any) {
		c["jku"], c["picture"] = other.URL, other.URL
		c["_claim_names"] = map[string]string{"groups": "a"}
		c["_claim_sources"] = map[string]any{"a": map[string]string{"endpoint": other.URL, "access_token": "x"}}
		delete(c, "groups")
	})
	if _, err := login(t, p, providers(school(p)), "bob"); !errors.Is(err, oidc.ErrNoRoom) {
		t.Error(err)
	}
	p.Change(oidctest.IDToken, nil)
	for _, part := range []oidctest.Part{oidctest.Keys, oidctest.Userinfo, oidctest.Tokens} {
		p.Instead(part, move(other.URL))
		if _, err := login(t, p, providers(school(p)), "bob"); !errors.Is(err, oidc.ErrUnavailable) {
			t.Errorf("%s elsewhere: %v", part, err)
		}
		p.Instead(part, nil)
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("usher asked another server %d times", n)
	}
}

// TestHurry: a browser that hangs up does not keep the provider from the others.
func TestHurry(t *testing.T) {
	p := start(t, oidctest.Options{})
	began, goOn := make(chan struct{}), make(chan struct{})
	p.Instead(oidctest.Discovery, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-goOn
		p.Instead(oidctest.Discovery, nil)
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
	})
	all := oidc.New(oidc.Options{Providers: []oidc.Provider{school(p)}, PublicURL: public, Client: &http.Client{Timeout: time.Minute}})
	ctx, hangUp := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, _, err := all.Begin(ctx, "school"); err != nil {
			t.Error(err)
		}
	})
	<-began
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := all.Begin(short, "school"); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("who waits and hangs up: %v", err)
	}
	hangUp()
	close(goOn)
	if _, _, err := all.Begin(t.Context(), "school"); err != nil {
		t.Error(err)
	}
	wait.Wait()
}

// TestSecrets: whatever goes wrong, neither the log nor an error has a secret, also if the provider writes back what it was asked.
func TestSecrets(t *testing.T) {
	p := start(t, oidctest.Options{Roles: oidctest.Userinfo})
	logged, log := observer.New(zapcore.DebugLevel)
	var secrets secrettest.Secrets
	secrets.Plant("the client secret", secret)
	said := func(err error) {
		t.Helper()
		if err != nil {
			secrets.Check(t, "an error", err.Error())
		}
	}
	echo := func(status int, contentType string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_ = r.ParseForm()
			text, _ := json.Marshal(map[string]any{
				"error": r.Form.Get("code"), "error_description": r.Form.Encode() + r.Header.Get("Authorization"), "error_uri": secret,
				"id_token": r.Form.Get("code"), "access_token": r.Form.Get("code_verifier"), "issuer": r.Form.Get("code"),
			})
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", p.Issuer+"/"+r.Form.Get("code"))
			w.WriteHeader(status)
			_, _ = w.Write(text)
		}
	}
	run := func() {
		t.Helper()
		all := oidc.New(oidc.Options{Providers: []oidc.Provider{school(p)}, PublicURL: public, Log: zap.New(logged)})
		address, flow, err := all.Begin(t.Context(), "school")
		if said(err); err != nil {
			return
		}
		query := p.Login(t, address, "alice").Query()
		secrets.PlantRandom("a code", query.Get("code"))
		secrets.PlantRandom("a flow", flow.State, flow.Nonce, flow.Verifier)
		login, err := all.Finish(t.Context(), flow, query)
		said(err)
		secrets.PlantTokens(login.IDToken)
		_, err = all.Finish(t.Context(), flow, query)
		said(err)
		query.Set("error", query.Get("code"))
		_, err = all.Finish(t.Context(), flow, query)
		said(err)
		token := p.Sign("", p.LogoutClaims("other", "f3b1-alice", query.Get("code")))
		secrets.PlantTokens(token)
		for _, bad := range []string{token, token[1:], login.IDToken, login.IDToken + "x", query.Get("code")} {
			_, err = all.BackChannel(t.Context(), "school", bad)
			said(err)
		}
	}
	p.Change(oidctest.Tokens, func(answer map[string]any) {
		access, _ := answer["access_token"].(string)
		secrets.PlantRandom("an access token", access)
		id, _ := answer["id_token"].(string)
		secrets.PlantTokens(id)
	})
	run()
	for _, part := range []oidctest.Part{oidctest.Tokens, oidctest.Userinfo, oidctest.Keys, oidctest.Discovery} {
		for _, status := range []int{200, 302, 400, 401, 500} {
			for _, contentType := range []string{"application/json", "text/plain", "application/jwt"} {
				p.Instead(part, echo(status, contentType))
				run()
			}
		}
		p.Instead(part, nil)
	}
	for _, entry := range log.All() {
		text, err := json.Marshal(entry.ContextMap())
		if err != nil {
			t.Fatal(err)
		}
		secrets.Check(t, "the log", entry.Message+string(text))
	}
	if log.Len() == 0 {
		t.Error("nothing was logged")
	}
}
