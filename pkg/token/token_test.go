package token_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

func encode(part string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(part))
}

// hs256 signs any header and payload with the secret.
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

// A name that is read in an object is refused there in another case, and is no matter elsewhere.
func TestParseRefusesNamesInAnotherCase(t *testing.T) {
	for payload, refused := range map[string]bool{
		`{"ROOM":""}`:                               true,
		`{"context":{"User":{}}}`:                   true,
		`{"context":{"user":{"AFFILIATION":""}}}`:   true,
		`{"context":{"room":{"Regex":true}}}`:       true,
		`{"context":{"room":{"lOBBY":true}}}`:       true,
		`{"context":{"room":{"ENDS":1}}}`:           true,
		`{"context":{"room":{"Max_occupants":1}}}`:  true,
		`{"One_Time":true}`:                         true,
		`{"context":{"room":{"Room":"","User":0}}}`: false,
	} {
		if _, err := token.Parse(encode(`{"alg":"HS256"}`) + "." + encode(payload) + "."); errors.Is(err, token.ErrMalformed) != refused {
			t.Errorf("%s: got %v", payload, err)
		}
	}
}

func TestUnverified(t *testing.T) {
	for payload, want := range map[string][2]string{
		`{"iss":"my_app","jti":"1"}`:   {"my_app", "1"},
		`{}`:                           {"", ""},
		`{"iss":["my_app"],"jti":[1]}`: {"", ""},
		`{"iss":null,"jti":18446744073709551616}`: {"", "18446744073709551616"},
		`{"jti":1.5e2}`:                             {"", "1.5e2"},
		`{"jti":"a\nb\u001bc\u202ed"}`:              {"", "a\ufffdb\ufffdc\ufffdd"},
		`{"jti":"` + strings.Repeat("ü", 65) + `"}`: {"", strings.Repeat("ü", 64)},
	} {
		parsed := parse(t, encode(`{"alg":"HS256"}`)+"."+encode(payload)+".")
		if got := [2]string{parsed.Issuer(), parsed.ID()}; got != want {
			t.Errorf("%s: got %q, want %q", payload, got, want)
		}
	}
}

// The caller chooses the algorithm, whatever the header says. A key that does not fit causes no panic.
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
		`{"context":{"user":{"id":"","name":"n","email":null,"avatar":"a","affiliation":"teacher","moderator":true},"group":"g","tenant":"t"}}`: {
			User: token.User{Name: "n", Avatar: "a", Affiliation: "teacher", Moderator: &yes}, Group: "g", Tenant: "t",
		},
		`{"exp":0,"aud":["a","b"],"context":{"room":{"regex":true},"features":{"a":true,"b":"true","c":"false"}}}`: {
			Expires: time.Unix(0, 0).UTC(), Audience: []string{"a", "b"}, RoomRegex: true,
			Features: map[string]bool{"a": true, "b": true, "c": false},
		},
		`{"context":{"user":{},"room":{"regex":false},"features":{}}}`:      {Features: map[string]bool{}},
		`{"context":{"user":{"hidden-from-recorder":true}}}`:                {User: token.User{HiddenFromRecorder: true}},
		`{"context":{"user":{"hidden-from-recorder":"true"}}}`:              {User: token.User{HiddenFromRecorder: true}},
		`{"context":{"user":{"hidden-from-recorder":false}}}`:               {},
		`{"context":{"user":{"lobby_bypass":true},"room":{"lobby":false}}}`: {User: token.User{LobbyBypass: &yes}, RoomLobby: &no},
		`{"context":{"user":{"lobby_bypass":false},"room":{"lobby":true}}}`: {User: token.User{LobbyBypass: &no}, RoomLobby: &yes},
		`{"exp":253402300799,"nbf":253402300799.9}`: {
			Expires: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), NotBefore: time.Date(9999, 12, 31, 23, 59, 59, 899993896, time.UTC),
		},

		`{"one_time":true,"context":{"room":{"max_occupants":30,"ends":1780318800.5}}}`:                                    {OneTime: true, MaxOccupants: 30, RoomEnds: time.Unix(1780318800, 5e8).UTC()},
		`{"one_time":false,"context":{"room":{"max_occupants":1,"ends":0}}}`:                                               {MaxOccupants: 1, RoomEnds: time.Unix(0, 0).UTC()},
		`{"context":{"room":{"max_occupants":99999999999999999999}}}`:                                                      {MaxOccupants: 1<<31 - 1},
		`{"max_occupants":"x","ends":"x","context":{"one_time":"x","ends":1,"user":{"one_time":1},"room":{"one_time":2}}}`: {}, // at other places

		// As issuers send them.
		`{"one_time":"true"}`: {OneTime: true},
		`{"one_time":null}`:   {},
		`{"context":[]}`:      {},
		`{"context":{"user":[],"features":[],"group":[],"room":[]}}`:                                                                   {Features: map[string]bool{}},
		`{"context":{"user":{"id":[],"name":{}},"group":{}}}`:                                                                          {},
		`{"iat":null,"jti":null,"moderator":null,"context":null}`:                                                                      {},
		`{"context":{"user":null,"features":null,"group":null,"room":null,"tenant":null}}`:                                             {},
		`{"context":{"user":{"id":null,"name":null,"affiliation":null,"moderator":null,"lobby_bypass":null},"room":{"regex":null}}}`:   {},
		`{"jti":7,"context":{"user":{"id":-1.5e2,"name":18446744073709551616,"email":0,"avatar":1},"group":12}}`:                       {ID: "7", User: token.User{ID: "-1.5e2", Name: "18446744073709551616", Email: "0", Avatar: "1"}, Group: "12"},
		`{"moderator":"true","context":{"user":{"moderator":"false","lobby_bypass":"true"},"room":{"regex":"false","lobby":"false"}}}`: {Moderator: &yes, User: token.User{Moderator: &no, LobbyBypass: &yes}, RoomLobby: &no},

		// Claims that decide nothing refuse nothing, and are noted.
		`{"jti":[1],"context":{"user":{"id":true,"name":["a"],"email":{"a":1},"avatar":false},"group":["a"]}}`: {Notes: []string{
			"jti: passed over, want a string or a number",
			"context.user.email: passed over, want a string or a number",
			"context.user.avatar: passed over, want a string or a number",
			"context.user.id: passed over, want a string or a number",
			"context.user.name: passed over, want a string or a number",
			"context.group: passed over, want a string or a number",
		}},
		`{"context":{"features":{"a":1,"b":"yes","c":null,"d":{},"e":[true],"f":"true"}}}`: {
			Features: map[string]bool{"a": false, "b": false, "c": false, "d": false, "e": false, "f": true},
			Notes:    []string{"context.features.*: counts as false, want true or false"},
		},
		`{"context":{"features":["recording"]}}`: {Features: map[string]bool{}, Notes: []string{"context.features: passed over, want an object"}},
		`{"context":{"features":true}}`:          {Features: map[string]bool{}, Notes: []string{"context.features: passed over, want an object"}},
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
		`{"exp":"1780318800"}`:                         "exp: want a number of seconds since 1970",
		`{"nbf":-1}`:                                   "nbf: want a number of seconds since 1970",
		`{"aud":[1]}`:                                  "aud: want strings that are not empty",
		`{"room":""}`:                                  "room: want a string that is not empty",
		`{"exp":1780318800000}`:                        "exp: want a number of seconds since 1970, before the year 10000; milliseconds, such as Date.now() gives, must be divided by 1000",
		`{"nbf":253402300800}`:                         "nbf: want a number of seconds since 1970, before the year 10000; milliseconds, such as Date.now() gives, must be divided by 1000",
		`{"iat":1e400}`:                                "iat: want a number of seconds since 1970, before the year 10000; milliseconds, such as Date.now() gives, must be divided by 1000",
		`{"exp":-1e400}`:                               "exp: want a number of seconds since 1970",
		`{"exp":null}`:                                 "exp: want a number of seconds since 1970",
		`{"nbf":null}`:                                 "nbf: want a number of seconds since 1970",
		`{"sub":null}`:                                 "sub: want a string that is not empty",
		`{"moderator":"True"}`:                         "moderator: want true or false",
		`{"moderator":1}`:                              "moderator: want true or false",
		`{"context":1}`:                                "context: want an object",
		`{"context":[{}]}`:                             "context: want an object",
		`{"context":{"user":["a"]}}`:                   "context.user: want an object",
		`{"context":{"user":{"moderator":[]}}}`:        "context.user.moderator: want true or false",
		`{"context":{"room":{"regex":"yes"}}}`:         "context.room.regex: want true or false",
		`{"context":{"room":{"lobby":0}}}`:             "context.room.lobby: want true or false",
		`{"context":{"user":{"lobby_bypass":"TRUE"}}}`: "context.user.lobby_bypass: want true or false",
		`{"context":{"user":{"lobby_bypass":1}}}`:      "context.user.lobby_bypass: want true or false",
		`{"one_time":1}`:                               "one_time: want true or false",
		`{"one_time":[]}`:                              "one_time: want true or false",
		`{"one_time":"yes"}`:                           "one_time: want true or false",
		`{"context":{"room":{"max_occupants":0}}}`:     "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"max_occupants":-1}}}`:    "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"max_occupants":30.0}}}`:  "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"max_occupants":3e1}}}`:   "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"max_occupants":"30"}}}`:  "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"max_occupants":null}}}`:  "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"max_occupants":true}}}`:  "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"max_occupants":-99999999999999999999}}}`: "context.room.max_occupants: want a whole number of at least 1",
		`{"context":{"room":{"ends":null}}}`:                           "context.room.ends: want a number of seconds since 1970",
		`{"context":{"room":{"ends":"1780318800"}}}`:                   "context.room.ends: want a number of seconds since 1970",
		`{"context":{"room":{"ends":-1}}}`:                             "context.room.ends: want a number of seconds since 1970",
		`{"context":{"room":{"ends":1780318800000}}}`:                  "context.room.ends: want a number of seconds since 1970, before the year 10000; milliseconds, such as Date.now() gives, must be divided by 1000",
		`{"exp":"","room":1,"context":{"tenant":true}}`:                "exp: want a number of seconds since 1970; context.tenant: want a string; room: want a string that is not empty",

		`{"context":{"user":{"affiliation":""}}}`:        `context.user.affiliation: want owner, admin, member, moderator or teacher, found ""; a claim map (claims.affiliation_values) can say what else means one of them`,
		`{"context":{"user":{"affiliation":0}}}`:         `context.user.affiliation: want owner, admin, member, moderator or teacher, found 0; a claim map (claims.affiliation_values) can say what else means one of them`,
		`{"context":{"user":{"affiliation":["owner"]}}}`: `context.user.affiliation: want owner, admin, member, moderator or teacher, found an array; a claim map (claims.affiliation_values) can say what else means one of them`,
		`{"context":{"user":{"affiliation":{"a":1}}}}`:   `context.user.affiliation: want owner, admin, member, moderator or teacher, found an object; a claim map (claims.affiliation_values) can say what else means one of them`,
		`{"context":{"user":{"affiliation":true}}}`:      `context.user.affiliation: want owner, admin, member, moderator or teacher, found true; a claim map (claims.affiliation_values) can say what else means one of them`,
	} {
		claims, err := parse(t, encode(headerOf("HS256"))+"."+encode(payload)+".").Claims(token.ClaimMap{})
		if !errors.Is(err, token.ErrClaims) || err.Error() != token.ErrClaims.Error()+": "+want || claims != nil {
			t.Errorf("%s: got %v, %v", payload, claims, err)
		}
	}
}

func TestUnknownAffiliation(t *testing.T) {
	for word, shown := range map[string]string{
		"superuser": "superuser", "super\x1b\u202euser": "super\ufffd\ufffduser", strings.Repeat("ü", 65): strings.Repeat("ü", 64),
	} {
		want := `context.user.affiliation: want owner, admin, member, moderator or teacher, found "` + shown +
			`"; a claim map (claims.affiliation_values) can say what else means one of them`
		if err := token.UnknownAffiliation(word); !errors.Is(err, token.ErrClaims) || err.Error() != token.ErrClaims.Error()+": "+want {
			t.Errorf("%q: %v", word, err)
		}
	}
}

// Claims that are named like a role and are not read are listed, by the path for a claim map.
func TestRolesNotRead(t *testing.T) {
	for _, row := range []struct {
		m       token.ClaimMap
		payload string
		want    []string
	}{
		{token.ClaimMap{}, `{}`, nil},
		{token.ClaimMap{}, `{"moderator":true,"context":{"user":{"affiliation":"owner","moderator":true},"features":{"moderator":true}}}`, nil},
		{token.ClaimMap{}, `{"affiliation":"owner","role":"visi\u001btor","context":{"moderator":true,"affiliation":null,"user":{"role":1}}}`, []string{
			`affiliation ("owner")`, "role (\"visi\ufffdtor\")", "context.moderator (true)", "context.affiliation", "context.user.role (1)",
		}},
		{token.ClaimMap{}, `{"realm_access":{"roles":["owner"]},"https://example.com/isAdmin":false,"context":{"room":{"owner":{"a":1}}}}`, []string{
			"realm_access.roles (an array)", `https://example\.com/isAdmin (false)`, "context.room.owner",
		}},
		{token.ClaimMap{Affiliation: tokentest.Claim(t, "realm_access.roles", nil)}, `{"moderator":true,"realm_access":{"roles":["owner"]},"context":{"user":{"affiliation":"owner","moderator":null}}}`,
			[]string{"moderator (true)", `context.user.affiliation ("owner")`, "context.user.moderator"}},
		{token.ClaimMap{Affiliation: tokentest.Claim(t, "", map[string]string{"chair": "owner"}), Group: tokentest.Claim(t, "role", nil)}, `{"role":"a","context":{"user":{"affiliation":"chair"}}}`, nil},
		{token.ClaimMap{}, `{"role":{"role":1}}`, []string{"role"}},
	} {
		got := parse(t, encode(headerOf("HS256"))+"."+encode(row.payload)+".").RolesNotRead(row.m)
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.payload, got, row.want)
		}
	}
	var members []string
	for i := range 100 {
		members = append(members, fmt.Sprintf(`"role%d":%d`, i, i))
	}
	got := parse(t, encode(headerOf("HS256"))+"."+encode("{"+strings.Join(members, ",")+"}")+".").RolesNotRead(token.ClaimMap{})
	if len(got) != 17 || got[15] != "role15 (15)" || got[16] != "84 more" {
		t.Errorf("%q", got)
	}
}

// Errors go to the log, and a token in the log is a key under the mat.
func TestErrorsHoldNothingOfTheToken(t *testing.T) {
	const canary = "canary"
	trusted := vhosts(t)
	for _, v := range tokentest.Vectors(t, folder) {
		compact := v.Token
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
			for _, v := range trusted {
				_, err := parsed.Claims(v.claims)
				errs = append(errs, err)
			}
		}
		for _, err := range errs {
			if err == nil {
				continue
			}
			for _, part := range append(parts, canary, encode(canary)) {
				if len(part) > 5 && strings.Contains(err.Error(), part) {
					t.Errorf("%s: %v", v.Name, err)
				}
			}
		}
	}
}
