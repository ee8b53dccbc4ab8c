package auth_test

import (
	"fmt"
	"path/filepath"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/pkg/token"
)

// BenchmarkAuthorize measures one decision. In "cold" the Authorizer has not seen the token; in "repeated" it has: a waiting client
// shows the same token every few seconds. A "guest" shows none, and the room is asked whether a host is inside, which costs nothing
// here. Minting is not measured.
func BenchmarkAuthorize(b *testing.B) {
	for _, alg := range []struct {
		name jwa.SignatureAlgorithm
		key  string // below testdata/keys
	}{{jwa.HS256, ""}, {jwa.RS256, "rsa2048"}, {jwa.ES256, "ec256"}} {
		b.Run("cold-"+alg.name.String(), func(b *testing.B) {
			p, options := signedBy(b, alg.name, alg.key)
			reqs := make([]auth.Request, 1000)
			for i := range reqs {
				c := good()
				c.ID = fmt.Sprint(i)
				compact, err := token.Mint(c, options)
				if err != nil {
					b.Fatal(err)
				}
				reqs[i] = asking("meet.example.com", compact)
			}
			// Once an Authorizer has seen all tokens, a new one takes its place.
			a := auth.New(p)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i == len(reqs) {
					i, a = 0, auth.New(p)
				}
				allowed(b, a, reqs[i])
			}
		})
	}
	for _, again := range []struct {
		name string
		req  auth.Request
	}{
		{"repeated", asking("meet.example.com", mint(b, nil))},
		{"guest", asking("guest.example.com", "")},
	} {
		b.Run(again.name, func(b *testing.B) {
			a := auth.New(policy(b))
			allowed(b, a, again.req)
			b.ReportAllocs()
			for b.Loop() {
				allowed(b, a, again.req)
			}
		})
		// The same with the explanation that the live page shows.
		b.Run(again.name+"-explained", func(b *testing.B) {
			a := auth.New(policy(b))
			b.ReportAllocs()
			for b.Loop() {
				if d, steps := a.Explain(b.Context(), again.req, looking(auth.RoomState{Exists: true, HostPresent: true})); d.Verdict != auth.Allow || len(steps) == 0 {
					b.Fatalf("%s %s: %v", d.Verdict, d.Reason, d.Err)
				}
			}
		})
	}
}

// signedBy returns a policy, and the options of Mint for its issuer.
func signedBy(b *testing.B, alg jwa.SignatureAlgorithm, key string) (auth.Policy, token.MintOptions) {
	b.Helper()
	p, options := policy(b), token.MintOptions{Algorithm: alg, Key: secret}
	if key == "" {
		return p, options
	}
	path := filepath.Join("..", "testdata", "keys", key)
	signer, _, err := keys.ParsePrivate([]byte(readAll(b, path+".key")))
	if err != nil {
		b.Fatal(err)
	}
	options.Key = signer
	i := issuer(b)
	i.Algorithms = []jwa.SignatureAlgorithm{alg}
	if i.Keys, err = keys.PEMFiles(path + ".pem"); err != nil {
		b.Fatal(err)
	}
	p.VHosts["meet.example.com"] = auth.VHost{Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{i}}
	return p, options
}

// allowed is measured, so it does not call b.Helper, which takes longer than some rules.
func allowed(b *testing.B, a *auth.Authorizer, req auth.Request) {
	if d := a.Authorize(b.Context(), req, looking(auth.RoomState{Exists: true, HostPresent: true})); d.Verdict != auth.Allow {
		b.Fatalf("%s %s: %v", d.Verdict, d.Reason, d.Err)
	}
}
