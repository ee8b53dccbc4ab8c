package main

import (
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal"
	"github.com/xmpp-usher/usher/auth/portal/account"
)

// policyYAML is a usher.yaml with a portal, and of a virtual host with more keys.
const policyYAML = `
xmpp: {server: "127.0.0.1:5347", domain: focus.meet.example.com, secret: "0123456789abcdef0123456789abcdef"}
rooms: {services: [conference.meet.example.com]}
vhosts:
  meet.example.com: {kind: token, `

// TestPortalEndings: what a virtual host says of how rights end also counts for tokens that the portal signs with its own key. People are told
// apart by their tokens then; with a shared secret, and where the claim sub names a person, by that.
func TestPortalEndings(t *testing.T) {
	folder := t.TempDir()
	write := func(vhost, portal string) []string {
		t.Helper()
		file := filepath.Join(folder, "usher.yaml")
		write(t, file, policyYAML+vhost+"}\nportal: {listen: 127.0.0.1:8087, public_url: \"http://127.0.0.1:8087\", meet_urls: [\"https://meet.example.com\"]"+portal+"}\n")
		return []string{file}
	}
	files := write("on_expiry: remove, expiry_grace: 5m, token_reuse: refuse", ", sign: key, key_file: "+filepath.Join(folder, "keys.json"))
	_, p, err := load(files, nil, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	i := p.VHosts["meet.example.com"].Issuers[0]
	if i.OnExpiry != auth.Remove || i.ExpiryGrace != 5*time.Minute || i.Reuse != auth.ReuseRefuse || i.ReuseOf != auth.ReuseOfToken {
		t.Errorf("%+v", i)
	}

	files = write(`app_id: my_app, app_secret: "abcdefabcdefabcdefabcdefabcdefab", domain_verification: false, token_reuse: refuse, token_reuse_of: sub`, "")
	c, p, err := load(files, nil, new(keys.Cache))
	if err != nil {
		t.Fatal(err)
	}
	u, err := newServing(c, p, nil, new(keys.Cache), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer u.close()
	compact, err := u.portal.mint(t.Context(), portal.Mint{
		Person: account.Person{ID: "account:juliet", Name: "juliet", Affiliation: auth.Owner}, Room: auth.Room{Name: "standup"}, ID: "a.b", TTL: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(compact, ".")
	payload, _, _ := strings.Cut(rest, ".")
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil || !strings.Contains(string(claims), `"sub":"account:juliet"`) {
		t.Errorf("%s, %v", claims, err)
	}
}
