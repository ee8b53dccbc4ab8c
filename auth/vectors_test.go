package auth_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/token"
)

// vectorPolicy is the policy that testdata/tokens/README describes.
func vectorPolicy(t *testing.T) auth.Policy {
	t.Helper()
	hmac, err := os.ReadFile("../testdata/keys/hmac.txt")
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := keys.Secrets([]byte(strings.TrimSpace(string(hmac))))
	if err != nil {
		t.Fatal(err)
	}
	pem := func(name string) auth.KeySource {
		k, err := keys.PEMFiles(filepath.Join("../testdata/keys", name))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	vhost := func(k auth.KeySource, change func(*auth.Issuer), algorithms ...jwa.SignatureAlgorithm) auth.VHost {
		i := auth.Issuer{
			Name: "my_app", Accepted: []string{"my_app"}, Audiences: []string{"*"}, Algorithms: algorithms, Keys: k,
			RequireRoom: true, RequireExp: true, DomainVerification: true, Leeway: 10 * time.Second,
		}
		if change != nil {
			change(&i)
		}
		return auth.VHost{Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{i}}
	}
	p := auth.Policy{
		Services: []string{service},
		VHosts: map[string]auth.VHost{
			"meet.example.com": vhost(secrets, nil, jwa.HS256),
			"rs.example.com":   vhost(pem("rsa2048.pem"), nil, jwa.RS256),
			"rsps.example.com": vhost(pem("rsa2048.pem"), nil, jwa.RS256, jwa.PS256),
			"es.example.com":   vhost(pem("ec256.pem"), nil, jwa.ES256),
			"ed.example.com":   vhost(pem("ed25519.pem"), nil, jwa.EdDSA),
			"aud.example.com":  vhost(secrets, func(i *auth.Issuer) { i.Audiences = []string{"jitsi"} }, jwa.HS256),
			"open.example.com": vhost(secrets, func(i *auth.Issuer) {
				i.RequireExp, i.RequireRoom, i.DomainVerification = false, false, false
			}, jwa.HS256),
			"nowild.example.com": vhost(secrets, func(i *auth.Issuer) { i.NoWildcard = true }, jwa.HS256),
		},
	}
	rsa := pem("rsa2048.pem")
	for domain, claims := range claimMaps(t) {
		k, alg := secrets, jwa.HS256
		if slices.Contains([]string{"jaas.example.com", "keycloak.example.com", "keycloak-client.example.com"}, domain) {
			k, alg = rsa, jwa.RS256
		}
		p.VHosts[domain] = vhost(k, func(i *auth.Issuer) {
			i.Claims = claims
			if iss, named := issuers[domain]; named {
				i.Accepted = []string{iss}
			}
			switch domain {
			case "keycloak.example.com":
				i.RequireRoom, i.DomainVerification, i.Tenant = false, false, "acme"
			case "keycloak-client.example.com", "matrix.example.com":
				i.DomainVerification = false
			case "no-wildcard-table.example.com":
				i.NoWildcard = true
			}
		}, alg)
	}
	return p
}

// issuers are the values of iss on the virtual hosts with a claim map, where they are not my_app.
var issuers = map[string]string{
	"jaas.example.com": "chat", "nextcloud.example.com": "jitsi", "jitsi-openid.example.com": "jitsi",
	"keycloak.example.com": "https://id.example.com/realms/acme", "keycloak-client.example.com": "https://id.example.com/realms/acme",
	"matrix.example.com": "meet.example.com",
}

// claimMaps reads testdata/tokens/claims.json: the claim maps by virtual host, in the keys of usher.yaml.
func claimMaps(t *testing.T) map[string]token.ClaimMap {
	t.Helper()
	var byVHost map[string]map[string]any
	if err := json.Unmarshal([]byte(readAll(t, "../testdata/tokens/claims.json")), &byVHost); err != nil {
		t.Fatal(err)
	}
	maps := map[string]token.ClaimMap{}
	for domain, keys := range byVHost {
		claim := func(name string) token.Claim {
			path, _ := keys[name].(string)
			table, _ := keys[name+"_values"].(map[string]any)
			values := map[string]string{}
			for value, meaning := range table {
				values[value] = meaning.(string)
			}
			return newClaim(t, path, values)
		}
		maps[domain] = token.ClaimMap{
			Affiliation: claim("affiliation"), ID: claim("id"), Name: claim("name"), Group: claim("group"),
			Room: claim("room"), Tenant: claim("tenant"),
		}
	}
	return maps
}

func newClaim(t testing.TB, path string, values map[string]string) token.Claim {
	t.Helper()
	c, err := token.NewClaim(path, values)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every token of testdata/tokens, good and evil, has the outcome that it says.
func TestVectors(t *testing.T) {
	files, err := filepath.Glob("../testdata/tokens/*.txt")
	if err != nil || len(files) < 90 {
		t.Fatalf("%d vectors: %v", len(files), err)
	}
	a := auth.New(vectorPolicy(t))
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			header, body, _ := strings.Cut(readAll(t, file), "\n\n")
			h := map[string]string{"vhost": "meet.example.com", "room": "standup@" + service, "at": now.Format(time.RFC3339)}
			for lines := bufio.NewScanner(strings.NewReader(header)); lines.Scan(); {
				k, v, _ := strings.Cut(lines.Text(), ": ")
				h[k] = v
			}
			at, err := time.Parse(time.RFC3339, h["at"])
			if err != nil {
				t.Fatal(err)
			}
			d := a.Authorize(t.Context(), auth.Request{
				At: at, From: jid.MustParse("u@" + h["vhost"] + "/x"), Room: h["room"], Token: strings.TrimSuffix(body, "\n"),
			}, looking(noRoom))
			got := d.Verdict.String() + " " + string(d.Reason)
			if d.Verdict == auth.Allow {
				got = "allow " + string(d.Affiliation)
			}
			if got != h["expect"] {
				t.Errorf("got %q (%v), want %q: %s", got, d.Err, h["expect"], h["comment"])
			}
		})
	}
}
