package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/token"
)

func encode(part string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(part))
}

// hs256 signs any header and payload, however wrong.
func hs256(t testing.TB, header, payload string) string {
	return signedWith(secret(t), header, payload)
}

// signedWith signs with HMAC-SHA-256, whatever the header says.
func signedWith(key []byte, header, payload string) string {
	signed := encode(header) + "." + encode(payload)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(signed))
	return signed + "." + encode(string(mac.Sum(nil)))
}

func parse(t testing.TB, compact string) *token.Token {
	t.Helper()
	parsed, err := token.Parse(compact)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestParseReadsTheHeader(t *testing.T) {
	parsed := parse(t, encode(`{"typ":"jwt","kid":"k1","alg":"nOnE","jwk":{},"jku":1,"x5u":[],"x5c":null}`)+"."+encode(`{}`)+".")
	if parsed.Algorithm != "nOnE" || parsed.KeyID != "k1" || parsed.Type != "jwt" {
		t.Errorf("alg %q, kid %q, typ %q", parsed.Algorithm, parsed.KeyID, parsed.Type)
	}
}

// The hostile tokens are in testdata/tokens; these are too long for a file there.
func TestParseRefusesByLengthFirst(t *testing.T) {
	for _, compact := range []string{strings.Repeat(".", 10<<20), strings.Repeat("W1tb", 1<<20)} {
		allocations := testing.AllocsPerRun(1, func() {
			if _, err := token.Parse(compact); !errors.Is(err, token.ErrMalformed) {
				t.Errorf("got %v", err)
			}
		})
		if allocations > 10 {
			t.Errorf("%v allocations for %d bytes", allocations, len(compact))
		}
	}
}

func TestUnverified(t *testing.T) {
	for payload, want := range map[string][2]string{
		`{"iss":"my_app","jti":"1"}`:   {"my_app", "1"},
		`{}`:                           {"", ""},
		`{"iss":["my_app"],"jti":1}`:   {"", ""},
		`{"jti":"a\nb\u001bc\u202ed"}`: {"", "a\ufffdb\ufffdc\ufffdd"},
		`{"jti":"` + strings.Repeat("ü", 65) + `"}`: {"", strings.Repeat("ü", 64)},
	} {
		parsed := parse(t, encode(`{"alg":"HS256"}`)+"."+encode(payload)+".")
		if got := [2]string{parsed.Issuer(), parsed.ID()}; got != want {
			t.Errorf("%s: got %q, want %q", payload, got, want)
		}
	}
}

// The algorithm is the caller's: whatever the header says, it has no part in it. A key that does not fit is no panic.
func TestVerifyTakesTheAlgorithmFromTheCaller(t *testing.T) {
	key := secret(t)
	for _, header := range []string{"HS256", "none", "RS256", "x"} {
		parsed := parse(t, hs256(t, headerOf(header), `{}`))
		if err := parsed.Verify(jwa.HS256, key); err != nil {
			t.Errorf("header %s: %v", header, err)
		}
	}
	rsaKey, ecKey, edKey := privateKey(t, "rsa2048").Public(), privateKey(t, "ec256").Public(), privateKey(t, "ed25519").Public()
	parsed := parse(t, hs256(t, headerOf("HS256"), `{}`))
	for _, algorithm := range []jwa.SignatureAlgorithm{"", "none", "x", jwa.HS256, jwa.HS512, jwa.RS256, jwa.PS256, jwa.ES256, jwa.EdDSA} {
		for _, key := range []any{nil, []byte(nil), []byte("another"), "text", rsaKey, ecKey, edKey} {
			if err := parsed.Verify(algorithm, key); !errors.Is(err, token.ErrSignature) {
				t.Errorf("%q with %T: got %v", algorithm, key, err)
			}
		}
	}
}

func TestClaims(t *testing.T) {
	yes, no := true, false
	for payload, want := range map[string]token.Claims{
		`{}`: {},
		`{"iss":"a","sub":"b","aud":"c","room":"d","jti":"e","exp":3,"nbf":1.5,"iat":2e0,"moderator":false}`: {
			Issuer: "a", Subject: "b", Audience: []string{"c"}, Room: "d", ID: "e",
			Expires: time.Unix(3, 0).UTC(), NotBefore: time.Unix(1, 5e8).UTC(), IssuedAt: time.Unix(2, 0).UTC(), Moderator: &no,
		},
		`{"context":{"user":{"id":"","name":"n","email":null,"avatar":"a","affiliation":"x","moderator":true},"group":"g","tenant":"t"}}`: {
			User: token.User{Name: "n", Avatar: "a", Affiliation: "x", Moderator: &yes}, Group: "g", Tenant: "t",
		},
		`{"exp":0,"aud":["a","b"],"context":{"room":{"regex":true},"features":{"a":true,"b":"true","c":"false"}}}`: {
			Expires: time.Unix(0, 0).UTC(), Audience: []string{"a", "b"}, RoomRegex: true,
			Features: map[string]bool{"a": true, "b": true, "c": false},
		},
		`{"context":{"user":{},"room":{"regex":false},"features":{}}}`:      {},
		`{"context":{"user":{"lobby_bypass":true},"room":{"lobby":false}}}`: {User: token.User{LobbyBypass: &yes}, RoomLobby: &no},
		`{"context":{"user":{"lobby_bypass":false},"room":{"lobby":true}}}`: {User: token.User{LobbyBypass: &no}, RoomLobby: &yes},
	} {
		got, err := parse(t, encode(headerOf("HS256"))+"."+encode(payload)+".").Claims(token.ClaimMap{})
		if err != nil {
			t.Errorf("%s: %v", payload, err)
		} else if !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\ngot  %+v\nwant %+v", payload, *got, want)
		}
	}
}

func TestClaimsNamesWhatIsWrong(t *testing.T) {
	for payload, want := range map[string]string{
		`{"exp":"1780318800"}`: "exp: want a number of seconds since 1970",
		`{"nbf":-1}`:           "nbf: want a number of seconds since 1970",
		`{"aud":[1]}`:          "aud: want strings that are not empty",
		`{"room":""}`:          "room: want a string that is not empty",
		`{"moderator":"true"}`: "moderator: want true or false",
		`{"context":1}`:        "context: want an object",
		`{"context":{"user":{"moderator":null}}}`:           "context.user.moderator: want true or false",
		`{"context":{"room":{"regex":"true"}}}`:             "context.room.regex: want true or false",
		`{"context":{"room":{"lobby":"true"}}}`:             "context.room.lobby: want true or false",
		`{"context":{"room":{"lobby":null}}}`:               "context.room.lobby: want true or false",
		`{"context":{"user":{"lobby_bypass":"true"}}}`:      "context.user.lobby_bypass: want true or false",
		`{"context":{"user":{"lobby_bypass":1}}}`:           "context.user.lobby_bypass: want true or false",
		`{"context":{"features":{"secret-name":"secret"}}}`: "context.features.*: want true or false",
	} {
		claims, err := parse(t, encode(headerOf("HS256"))+"."+encode(payload)+".").Claims(token.ClaimMap{})
		if !errors.Is(err, token.ErrClaims) || err.Error() != token.ErrClaims.Error()+": "+want || claims != nil {
			t.Errorf("%s: got %v, %v", payload, claims, err)
		}
	}
}

// Errors go to the log, and a token in the log is a key under the mat.
func TestErrorsHoldNothingOfTheToken(t *testing.T) {
	const canary = "canary"
	mapped := claimMaps(t)
	for _, v := range vectors(t) {
		compact := v.token
		parts := strings.Split(compact, ".")
		if len(parts) == 3 {
			if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
				compact = hs256(t, headerOf(canary), strings.ReplaceAll(string(payload), "standup", canary))
			}
		}
		parsed, err := token.Parse(compact)
		errs := []error{err}
		if err == nil {
			errs = append(errs, parsed.Verify(jwa.RS256, []byte(canary)))
			for _, m := range append(slices.Collect(maps.Values(mapped)), token.ClaimMap{}) {
				_, err := parsed.Claims(m)
				errs = append(errs, err)
			}
		}
		for _, err := range errs {
			if err == nil {
				continue
			}
			for _, part := range append(parts, canary, encode(canary)) {
				if len(part) > 5 && strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v", v.name, err)
				}
			}
		}
	}
}
