package auth_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// vectors is the folder of the tokens.
var vectors = filepath.Join("..", "testdata", "tokens")

// vectorPolicy is the policy of the tokens.
func vectorPolicy(t *testing.T) auth.Policy {
	t.Helper()
	p := auth.Policy{Services: []string{service}, VHosts: map[string]auth.VHost{}}
	vhosts, _ := tokentest.Read(t, vectors)
	for _, v := range vhosts {
		p.VHosts[v.Name] = auth.VHost{Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{{
			Name: "my_app", Accepted: v.AcceptedIssuers, Audiences: v.AcceptedAudiences, Algorithms: v.Algorithms, Keys: vectorKeys(t, v.Key),
			RequireRoom: v.RequireRoom, RequireExp: v.RequireExp, DomainVerification: v.DomainVerification, NoWildcard: v.NoWildcard,
			Tenant: v.Tenant, Claims: v.ClaimMap(t), Leeway: 10 * time.Second,
		}}}
	}
	return p
}

func vectorKeys(t *testing.T, name string) auth.KeySource {
	t.Helper()
	folder := filepath.Join("..", "testdata", "keys")
	var source auth.KeySource
	var err error
	if name == "hmac" {
		source, err = keys.Secrets([]byte(strings.TrimSpace(readAll(t, filepath.Join(folder, "hmac.txt")))))
	} else {
		source, err = keys.PEMFiles(filepath.Join(folder, name+".pem"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return source
}

// Every token of testdata/tokens, good and evil, has the outcome that it says.
func TestVectors(t *testing.T) {
	a := auth.New(vectorPolicy(t))
	for _, v := range tokentest.Vectors(t, vectors) {
		t.Run(v.Name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, v.At)
			if err != nil {
				t.Fatal(err)
			}
			d := a.Authorize(t.Context(), auth.Request{
				At: at, From: jid.MustParse("u@" + v.VHost + "/x"), Room: v.Room, Token: v.Token, MachineUID: machine,
			}, looking(noRoom))
			got := d.Verdict.String() + " " + string(d.Reason)
			if d.Verdict == auth.Allow {
				got = "allow " + string(d.Affiliation)
			}
			if got != v.Expect {
				t.Errorf("got %q (%v), want %q: %s", got, d.Err, v.Expect, v.Comment)
			}
		})
	}
}
