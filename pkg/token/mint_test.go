package token_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/pkg/token"
)

func TestMintThenParseGivesTheSameClaims(t *testing.T) {
	key := secret(t)
	rapid.Check(t, func(t *rapid.T) {
		// RuneFrom(nil) draws from all of Unicode; U+0000 has a test of its own.
		text := func(label string) string {
			runes := rapid.SliceOfN(rapid.Rune().Filter(func(r rune) bool { return r != 0 }), 0, 20).Draw(t, label)
			return string(runes)
		}
		seconds := func(label string) time.Time {
			if rapid.Bool().Draw(t, "no "+label) {
				return time.Time{}
			}
			return time.Unix(rapid.Int64Range(0, 253402300799).Draw(t, label), 0).UTC()
		}
		flag := func(label string) *bool {
			return rapid.Ptr(rapid.Bool(), true).Draw(t, label)
		}
		want := token.Claims{
			Issuer:    text("iss"),
			Subject:   text("sub"),
			Room:      text("room"),
			ID:        text("jti"),
			Expires:   seconds("exp"),
			NotBefore: seconds("nbf"),
			IssuedAt:  seconds("iat"),
			Moderator: flag("moderator"),
			User: token.User{
				ID:          text("id"),
				Name:        text("name"),
				Email:       text("email"),
				Avatar:      text("avatar"),
				Affiliation: text("affiliation"),
				Moderator:   flag("user moderator"),
				LobbyBypass: flag("lobby bypass"),
			},
			Group:     text("group"),
			Tenant:    text("tenant"),
			RoomRegex: rapid.Bool().Draw(t, "regex"),
			RoomLobby: flag("lobby"),

			OneTime:      rapid.Bool().Draw(t, "one time"),
			MaxOccupants: rapid.IntRange(0, 1<<31-1).Draw(t, "max occupants"),
			RoomEnds:     seconds("ends"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "audiences") {
			want.Audience = append(want.Audience, "a"+text("aud"))
		}
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z-]{1,9}`), 0, 4, rapid.ID).Draw(t, "features")
		if rapid.Bool().Draw(t, "features, if only empty") || len(names) > 0 {
			want.Features = map[string]bool{} // not the same as none
		}
		for _, name := range names {
			want.Features[name] = rapid.Bool().Draw(t, name)
		}
		options := token.MintOptions{Algorithm: jwa.HS256, Key: key, KeyID: text("kid")}

		compact, err := token.Mint(want, options)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := token.Mint(want, options); err != nil || again != compact {
			t.Fatalf("minted again: %q, %v; want %q", again, err, compact)
		}
		parsed, err := token.Parse(compact)
		if err != nil {
			t.Fatal(err)
		}
		if parsed.Algorithm != jwa.HS256 || parsed.KeyID != options.KeyID || parsed.Type != "JWT" {
			t.Errorf("header: alg %q, kid %q, typ %q", parsed.Algorithm, parsed.KeyID, parsed.Type)
		}
		if err := parsed.Verify(jwa.HS256, key); err != nil {
			t.Error(err)
		}
		got, err := parsed.Claims(token.ClaimMap{})
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("got  %+v\nwant %+v", *got, want)
		}
	})
}

func TestMintWithEveryKeyType(t *testing.T) {
	for _, test := range []struct {
		algorithm jwa.SignatureAlgorithm
		key       string
	}{
		{jwa.RS256, "rsa2048"}, {jwa.RS384, "rsa2048"}, {jwa.RS512, "rsa2048"},
		{jwa.PS256, "rsa2048"}, {jwa.PS384, "rsa2048"}, {jwa.PS512, "rsa2048"},
		{jwa.ES256, "ec256"}, {jwa.EdDSA, "ed25519"},
	} {
		t.Run(test.algorithm.String(), func(t *testing.T) {
			key := privateKey(t, test.key)
			compact, err := token.Mint(token.Claims{Room: "standup"}, token.MintOptions{Algorithm: test.algorithm, Key: key})
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := token.Parse(compact)
			if err != nil {
				t.Fatal(err)
			}
			if err := parsed.Verify(test.algorithm, key.Public()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMintIsShapedLikeJitsi(t *testing.T) {
	moderator := true
	compact, err := token.Mint(token.Claims{
		Issuer:   "my_app",
		Subject:  "*",
		Audience: []string{"jitsi"},
		Room:     "standup",
		Expires:  time.Unix(1780318800, 999),
		User:     token.User{ID: "1", Name: "Juliet", Moderator: &moderator},
		Features: map[string]bool{"recording": true, "livestreaming": false},
	}, token.MintOptions{Algorithm: jwa.HS256, Key: secret(t)})
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(compact, ".")
	for i, want := range []string{
		`{"alg":"HS256","typ":"JWT"}`,
		`{"iss":"my_app","sub":"*","aud":"jitsi","exp":1780318800,"room":"standup","context":{` +
			`"user":{"id":"1","name":"Juliet","moderator":true},"features":{"livestreaming":false,"recording":true}}}`,
	} {
		if parts[i] != encode(want) {
			t.Errorf("part %d: got %s, want %s", i, parts[i], encode(want))
		}
	}
}

func TestMintRefusesWhatWouldNotBeRead(t *testing.T) {
	hs256 := token.MintOptions{Algorithm: jwa.HS256, Key: []byte("secret")}
	for name, test := range map[string]struct {
		claims  token.Claims
		options token.MintOptions
		want    error // nil: any
	}{
		"too long":          {token.Claims{Room: strings.Repeat("a", token.MaxSize)}, hs256, token.ErrMalformed},
		"U+0000":            {token.Claims{Room: "a\x00"}, hs256, token.ErrMalformed},
		"not UTF-8":         {token.Claims{Room: "a\xff"}, hs256, nil},
		"key id not UTF-8":  {token.Claims{}, token.MintOptions{Algorithm: jwa.HS256, Key: []byte("s"), KeyID: "\xff"}, nil},
		"case variants":     {token.Claims{Features: map[string]bool{"a": true, "A": true}}, hs256, token.ErrMalformed},
		"year 10000":        {token.Claims{Expires: time.Unix(253402300800, 0)}, hs256, token.ErrClaims},
		"before 1970":       {token.Claims{Expires: time.Unix(-1, 0)}, hs256, token.ErrClaims},
		"empty audience":    {token.Claims{Audience: []string{""}}, hs256, token.ErrClaims},
		"no algorithm":      {token.Claims{}, token.MintOptions{Key: []byte("secret")}, nil},
		"none":              {token.Claims{}, token.MintOptions{Algorithm: jwa.NoSignature, Key: []byte("secret")}, nil},
		"no key":            {token.Claims{}, token.MintOptions{Algorithm: jwa.HS256}, nil},
		"key of other type": {token.Claims{}, token.MintOptions{Algorithm: jwa.RS256, Key: []byte("secret")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			compact, err := token.Mint(test.claims, test.options)
			if err == nil || compact != "" {
				t.Fatalf("minted %q, %v", compact, err)
			}
			if test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
	if _, err := token.Mint(token.Claims{Audience: []string{}}, hs256); err != nil {
		t.Errorf("an empty audience is absent: %v", err)
	}
}
