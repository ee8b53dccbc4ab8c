package token_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/token"
)

// BenchmarkToken measures all gates for one token.
func BenchmarkToken(b *testing.B) {
	type keyPair struct {
		algorithm       jwa.SignatureAlgorithm
		private, public any
	}
	rsaKey, ecKey, edKey := privateKey(b, "rsa2048"), privateKey(b, "ec256"), privateKey(b, "ed25519")
	for _, pair := range []keyPair{
		{jwa.HS256, secret(b), secret(b)},
		{jwa.RS256, rsaKey, rsaKey.Public()},
		{jwa.ES256, ecKey, ecKey.Public()},
		{jwa.EdDSA, edKey, edKey.Public()},
	} {
		b.Run(pair.algorithm.String(), func(b *testing.B) {
			moderator := true
			compact, err := token.Mint(token.Claims{
				Issuer: "my_app", Subject: "meet.example.com", Audience: []string{"jitsi"}, Room: "standup",
				Expires: time.Unix(now+3600, 0), NotBefore: time.Unix(now, 0), IssuedAt: time.Unix(now, 0), ID: "5e2b9d4e",
				User: token.User{
					ID: "1", Name: "Juliet Capulet", Email: "juliet@example.com", Avatar: "https://example.com/juliet.png",
					Affiliation: "owner", Moderator: &moderator,
				},
				Features: map[string]bool{"recording": true, "livestreaming": false},
			}, token.MintOptions{Algorithm: pair.algorithm, Key: pair.private})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				parsed, err := token.Parse(compact)
				if err != nil {
					b.Fatal(err)
				}
				if err := parsed.Verify(pair.algorithm, pair.public); err != nil {
					b.Fatal(err)
				}
				if _, err := parsed.Claims(token.ClaimMap{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseHostile parses the costliest token that an unknown sender can send: as many names as fit.
func BenchmarkParseHostile(b *testing.B) {
	var payload strings.Builder
	payload.WriteString(`{"iss":"my_app"`)
	for i := 0; payload.Len() < 6000; i++ {
		fmt.Fprintf(&payload, `,"%x":0`, i)
	}
	payload.WriteString("}")
	compact := encode(headerOf("x")) + "." + encode(payload.String()) + "."
	parse(b, compact)
	for b.Loop() {
		_, _ = token.Parse(compact)
	}
}
