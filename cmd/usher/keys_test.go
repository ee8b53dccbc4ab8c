package main

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/token"
)

// TestFetchedKeys makes usher fetch an issuer's keys from a server, and checks that a configuration read again keeps using them
// after the server has ended.
func TestFetchedKeys(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := jwk.FromRaw(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := public.Set(jwk.KeyIDKey, "k1"); err != nil {
		t.Fatal(err)
	}
	set := jwk.NewSet()
	if err := set.AddKey(public); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(set)
	}))
	defer server.Close()
	staged(t)
	write(t, "remote.yaml", `
xmpp: {domain: focus.meet.example.com, secret_file: component.secret}
rooms: {services: [conference.meet.example.com]}
vhosts: {meet.example.com: {kind: token, app_id: portal, jwks_url: "`+server.URL+`/jwks"}}
`)
	now := time.Now()
	compact, err := token.Mint(token.Claims{
		Issuer: "portal", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "standup", Expires: now.Add(time.Hour),
	}, token.MintOptions{Algorithm: jwa.RS256, Key: private, KeyID: "k1"})
	if err != nil {
		t.Fatal(err)
	}
	remote := new(keys.Cache)
	admits := func(remote *keys.Cache) auth.Decision {
		t.Helper()
		_, p, err := load([]string{"remote.yaml"}, nil, remote)
		if err != nil {
			t.Fatal(err)
		}
		return auth.New(p).Authorize(t.Context(), auth.Request{
			At: now, From: jid.MustParse("u@meet.example.com/x"), Room: "standup@conference.meet.example.com", Token: compact,
		}, nil)
	}
	if d := admits(remote); d.Verdict != auth.Allow || d.Affiliation != auth.Owner {
		t.Errorf("got %v %s: %v", d.Verdict, d.Reason, d.Err)
	}
	remote.Sweep()
	server.Close()
	if d := admits(remote); d.Verdict != auth.Allow {
		t.Errorf("read again: got %v %s: %v", d.Verdict, d.Reason, d.Err)
	}
	if d := admits(new(keys.Cache)); d.Reason != auth.ReasonKeysUnavailable {
		t.Errorf("without the keys: got %v %s: %v", d.Verdict, d.Reason, d.Err)
	}
}
