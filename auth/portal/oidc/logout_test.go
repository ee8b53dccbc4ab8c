package oidc_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth/portal/oidc"
	"github.com/xmpp-usher/usher/auth/portal/oidc/oidctest"
)

// outs receives logout tokens, as the portal does.
func outs(t *testing.T, all *oidc.Providers) (address string, outs chan oidc.Out) {
	t.Helper()
	outs = make(chan oidc.Out, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out, err := all.BackChannel(r.Context(), "school", r.PostFormValue("logout_token"))
		if err != nil {
			http.Error(w, "refused", http.StatusBadRequest)
			t.Error(err)
			return
		}
		outs <- out
	}))
	t.Cleanup(server.Close)
	return server.URL, outs
}

// TestLogout: a logout at the provider, here and there, reaches usher with the session that it ends.
func TestLogout(t *testing.T) {
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	address, outs := outs(t, all)
	const back = public + "/logged-out"
	p.Register(oidctest.Client{
		ID: clientID, Secret: secret, RedirectURIs: []string{callback}, PostLogoutURIs: []string{back}, BackChannelURI: address,
	})
	enter := func(b *oidctest.Browser) oidc.Login {
		t.Helper()
		address, flow := begin(t, all)
		login, err := all.Finish(t.Context(), flow, b.Login(t, address, "alice").Query())
		if err != nil {
			t.Fatal(err)
		}
		return login
	}
	ended := func(login oidc.Login) {
		t.Helper()
		select {
		case out := <-outs:
			if out.Provider != "school" || out.Subject != login.Subject || out.SID != login.SID || out.JTI == "" || !out.Expires.After(time.Now()) {
				t.Errorf("got %+v, want the session %s of %s", out, login.SID, login.Subject)
			}
		case <-time.After(time.Minute):
			t.Fatal("no logout token came")
		}
	}
	first, second := p.Browser(), p.Browser()
	one, two := enter(first), enter(second)
	if one.SID == two.SID {
		t.Fatal("two browsers are one session")
	}
	u, ok := all.LogoutURL(t.Context(), "school", one.IDToken, back)
	if !ok {
		t.Fatal("the provider cannot log out")
	}
	if to := first.Visit(t, u); to.String() != back {
		t.Errorf("the provider sends the browser to %s", to)
	}
	ended(one)
	if sent := p.Logout("alice"); sent != 1 {
		t.Errorf("%d logout tokens were taken", sent)
	}
	ended(two)
	if again := enter(second); again.SID == two.SID {
		t.Error("the session has not ended")
	}
}

func TestLogoutURL(t *testing.T) {
	p := start(t, oidctest.Options{})
	p.Change(oidctest.Discovery, func(d map[string]any) { d["end_session_endpoint"] = p.Issuer + "/end?a=b" })
	all := providers(school(p))
	for name, test := range map[string]struct {
		token, back string
		want        url.Values
	}{
		"all":          {"t.o.k", public + "/?x=1", query("a", "b", "client_id", clientID, "id_token_hint", "t.o.k", "post_logout_redirect_uri", public+"/?x=1")},
		"no ID token":  {"", public, query("a", "b", "client_id", clientID, "post_logout_redirect_uri", public)},
		"a long one":   {strings.Repeat("x", 5000), "", query("a", "b", "client_id", clientID)},
		"no way back":  {"t.o.k", "", query("a", "b", "client_id", clientID, "id_token_hint", "t.o.k")},
		"odd ID token": {"a&b=c", "", query("a", "b", "client_id", clientID, "id_token_hint", "a&b=c")},
	} {
		address, ok := all.LogoutURL(t.Context(), "school", test.token, test.back)
		if want := p.Issuer + "/end?" + test.want.Encode(); !ok || address != want {
			t.Errorf("%s: got %s, want %s", name, address, want)
		}
	}
	if _, ok := all.LogoutURL(t.Context(), "work", "", ""); ok {
		t.Error("a provider that there is not")
	}
	p.Change(oidctest.Discovery, func(d map[string]any) { delete(d, "end_session_endpoint") })
	if address, ok := providers(school(p)).LogoutURL(t.Context(), "school", "", ""); ok {
		t.Errorf("a provider without such a logout: %s", address)
	}
	p.Instead("", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if _, ok := providers(school(p)).LogoutURL(t.Context(), "school", "", ""); ok {
		t.Error("a provider that is away")
	}
}

// TestLogoutToken changes logout tokens that are signed as they should be (Back-Channel Logout 1.0 §2.6).
func TestLogoutToken(t *testing.T) {
	const event = "http://schemas.openid.net/event/backchannel-logout"
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	now := time.Now().Unix()
	set := func(name string, value any) func(map[string]any) { return func(c map[string]any) { c[name] = value } }
	drop := func(name string) func(map[string]any) { return func(c map[string]any) { delete(c, name) } }
	for name, test := range map[string]struct {
		typ    string
		change func(map[string]any)
		good   bool
	}{
		"as it is":              {"logout+jwt", func(map[string]any) {}, true},
		"whole media type":      {"application/logout+jwt", func(map[string]any) {}, true},
		"typ JWT":               {"JWT", func(map[string]any) {}, true},
		"no typ":                {"", func(map[string]any) {}, true},
		"an access token":       {"at+jwt", func(map[string]any) {}, false},
		"session only":          {"logout+jwt", drop("sub"), true},
		"person only":           {"logout+jwt", drop("sid"), true},
		"neither":               {"logout+jwt", func(c map[string]any) { delete(c, "sub"); delete(c, "sid") }, false},
		"empty sub":             {"logout+jwt", set("sub", ""), false},
		"sid of a wrong type":   {"logout+jwt", set("sid", 1), false},
		"sid of a list":         {"logout+jwt", set("sid", []string{"a"}), false},
		"sub is null":           {"logout+jwt", set("sub", nil), false},
		"no jti":                {"logout+jwt", drop("jti"), false},
		"long jti":              {"logout+jwt", set("jti", strings.Repeat("x", 300)), false},
		"nonce":                 {"logout+jwt", set("nonce", "n"), false},
		"nonce of null":         {"logout+jwt", set("nonce", nil), false},
		"nonce in another case": {"logout+jwt", set("NONCE", "n"), false},
		"no events":             {"logout+jwt", drop("events"), false},
		"other events":          {"logout+jwt", set("events", map[string]any{"http://example.com": map[string]any{}}), false},
		"event of null":         {"logout+jwt", set("events", map[string]any{event: nil}), false},
		"event is a text":       {"logout+jwt", set("events", map[string]any{event: "x"}), false},
		"events of a list":      {"logout+jwt", set("events", []string{event}), false},
		"event says something":  {"logout+jwt", set("events", map[string]any{event: map[string]any{"a": 1}, "b": 2}), true},
		"another client":        {"logout+jwt", set("aud", "other"), false},
		"several clients":       {"logout+jwt", set("aud", []string{"other", clientID}), true},
		"another issuer":        {"logout+jwt", set("iss", "https://evil.example"), false},
		"no issuer":             {"logout+jwt", drop("iss"), false},
		"no exp":                {"logout+jwt", drop("exp"), true},
		"no exp, and old":       {"logout+jwt", func(c map[string]any) { delete(c, "exp"); c["iat"] = now - 600 }, false},
		"exp is null":           {"logout+jwt", set("exp", nil), false},
		"no iat":                {"logout+jwt", drop("iat"), false},
		"expired":               {"logout+jwt", set("exp", now-600), false},
		"old, but not expired":  {"logout+jwt", func(c map[string]any) { c["iat"], c["exp"] = now-3600, now+3600 }, false},
		"of the future":         {"logout+jwt", set("iat", now+3600), false},
		"iat of a wrong type":   {"logout+jwt", set("iat", "now"), false},
		"valid for a year":      {"logout+jwt", set("exp", now+365*24*3600), true},
	} {
		claims := p.LogoutClaims(clientID, "f3b1-alice", "the-session")
		test.change(claims)
		out, err := all.BackChannel(t.Context(), "school", p.Sign(test.typ, claims))
		if test.good && err != nil || !test.good && !errors.Is(err, oidc.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
		if test.good && (out.JTI != claims["jti"] || out.Expires.After(time.Now().Add(6*time.Minute)) || !out.Expires.After(time.Now())) {
			t.Errorf("%s: %+v", name, out)
		}
	}
	if _, err := all.BackChannel(t.Context(), "work", p.Sign("", p.LogoutClaims(clientID, "a", ""))); !errors.Is(err, oidc.ErrNoProvider) {
		t.Errorf("no such provider: %v", err)
	}
}

// TestIDTokenIsNoLogout: nobody ends a session with an ID token that they have seen.
func TestIDTokenIsNoLogout(t *testing.T) {
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	got, err := login(t, p, all, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := all.BackChannel(t.Context(), "school", got.IDToken); !errors.Is(err, oidc.ErrRefused) {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestLogoutWhileAway: if the provider cannot be asked for its keys, a logout token is not refused for good.
func TestLogoutWhileAway(t *testing.T) {
	p := start(t, oidctest.Options{})
	all := providers(school(p))
	begin(t, all)
	p.Instead(oidctest.Keys, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if _, err := all.BackChannel(t.Context(), "school", p.Sign("", p.LogoutClaims(clientID, "alice", ""))); !errors.Is(err, oidc.ErrUnavailable) {
		t.Error(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := providers(school(p)).BackChannel(gone, "school", "x"); err == nil {
		t.Error("a token is good that nobody can verify")
	}
}

func TestKeycloakLogout(t *testing.T) {
	at := time.Unix(1795689610, 0)
	out, err := oidc.ReadLogout("logout+jwt", recorded(t, "keycloak-logout.json"), at, 10*time.Second)
	want := oidc.Out{
		Subject: "f3b1c9d0-5a57-4a8e-8f2e-0c6a3d1b9e42", SID: "2f6c1d0e-9b7a-4c53-a8a1-7d3e5f9b0c64",
		JTI: "5b1e2a77-1f1c-4a57-9c6b-6d3c4b8f2e10", Issued: time.Unix(1795689600, 0), Expires: time.Unix(1795689730, 0),
	}
	if err != nil || out != want {
		t.Errorf("got %+v, %v; want %+v", out, err, want)
	}
}

// FuzzLogout: what counts as a logout token has all that one has, and none of an ID token's nonce.
func FuzzLogout(f *testing.F) {
	f.Add("logout+jwt", recorded(f, "keycloak-logout.json"), int64(1795689610))
	f.Add("JWT", recorded(f, "keycloak-id.json"), int64(1795689610))
	f.Add("", `{"iat":1000,"exp":1100,"jti":"1","sub":"1","events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, int64(1050))
	f.Add("", `{"iat":1e3,"exp":1e300,"jti":"1","sid":"1","nonce":null,"events":{"http://schemas.openid.net/event/backchannel-logout":{}}}`, int64(1050))
	f.Fuzz(func(t *testing.T, typ, claims string, now int64) {
		const leeway = 10 * time.Second
		at := time.Unix(now, 0)
		out, err := oidc.ReadLogout(typ, claims, at, leeway)
		if err != nil {
			if out != (oidc.Out{}) {
				t.Errorf("%+v with %v", out, err)
			}
			return
		}
		var all map[string]any
		if err := json.Unmarshal([]byte(claims), &all); err != nil {
			t.Fatal(err)
		}
		_, nonce := all["nonce"]
		_, events := all["events"].(map[string]any)
		if nonce || !events || out.JTI == "" || out.Subject == "" && out.SID == "" || !out.Expires.After(at) || out.Expires.After(at.Add(5*time.Minute+2*leeway)) {
			t.Errorf("%s: %+v", claims, out)
		}
	})
}
