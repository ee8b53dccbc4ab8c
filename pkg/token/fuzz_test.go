package token_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// FuzzParse holds what is accepted against encoding/json: a careless reader of the same token must see the same.
// The seeds are the vectors, and in testdata/fuzz what is not worth a vector.
func FuzzParse(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.token)
	}
	f.Fuzz(func(t *testing.T, compact string) {
		parsed, err := token.Parse(compact)
		if err != nil {
			if !errors.Is(err, token.ErrMalformed) || parsed != nil {
				t.Fatalf("got %v, %v", parsed, err)
			}
			return
		}
		if len(compact) > token.MaxSize {
			t.Fatalf("%d bytes", len(compact))
		}
		parts := strings.Split(compact, ".")
		if len(parts) != 3 {
			t.Fatalf("%d parts", len(parts))
		}
		var decoded [3][]byte
		for i, part := range parts {
			if decoded[i], err = base64.RawURLEncoding.DecodeString(part); err != nil {
				t.Fatal(err)
			}
			if again := base64.RawURLEncoding.EncodeToString(decoded[i]); again != part {
				t.Fatalf("part %d has two spellings: %q and %q", i, part, again)
			}
		}

		var header struct{ Alg, Kid, Typ string }
		if err := json.Unmarshal(decoded[0], &header); err != nil {
			t.Fatal(err)
		}
		if header.Alg != parsed.Algorithm.String() || header.Kid != parsed.KeyID || header.Typ != parsed.Type {
			t.Errorf("encoding/json reads the header as %+v", header)
		}
		if id := parsed.ID(); len([]rune(id)) > 64 || strings.ContainsAny(id, "\x00\n\x1b") {
			t.Errorf("ID %q", id)
		}

		claims, err := parsed.Claims(token.ClaimMap{})
		if err != nil {
			if !errors.Is(err, token.ErrClaims) || claims != nil {
				t.Fatalf("got %v, %v", claims, err)
			}
			return
		}
		var payload struct {
			Iss, Sub, Room, Jti string
			Exp                 *float64
			Moderator           *bool
			Context             struct {
				User struct {
					ID                               json.RawMessage // a string, or an integer
					Name, Email, Avatar, Affiliation string
					Moderator                        *bool
				}
				Group, Tenant string
				Room          struct{ Regex bool }
			}
		}
		if err := json.Unmarshal(decoded[1], &payload); err != nil {
			t.Fatal(err)
		}
		user := payload.Context.User
		same := payload.Iss == claims.Issuer && payload.Iss == parsed.Issuer() && payload.Sub == claims.Subject &&
			payload.Room == claims.Room && payload.Jti == claims.ID && sameFlag(payload.Moderator, claims.Moderator) &&
			unquoted(t, user.ID) == claims.User.ID && user.Name == claims.User.Name && user.Email == claims.User.Email &&
			user.Avatar == claims.User.Avatar && user.Affiliation == claims.User.Affiliation &&
			sameFlag(user.Moderator, claims.User.Moderator) &&
			payload.Context.Group == claims.Group && payload.Context.Tenant == claims.Tenant &&
			payload.Context.Room.Regex == claims.RoomRegex && (payload.Exp == nil) == claims.Expires.IsZero()
		if !same {
			t.Errorf("encoding/json reads %+v, we %+v", payload, claims)
		}
		if payload.Exp != nil && int64(*payload.Exp) != claims.Expires.Unix() {
			t.Errorf("exp %v is %s for us", *payload.Exp, claims.Expires.Format(time.RFC3339Nano))
		}
	})
}

// unquoted returns the text of a string, and anything else but null as it was written.
func unquoted(t *testing.T, raw json.RawMessage) string {
	if len(raw) > 0 && raw[0] != '"' {
		return strings.TrimPrefix(string(raw), "null")
	}
	var text string
	if err := json.Unmarshal(raw, &text); len(raw) > 0 && err != nil {
		t.Fatal(err)
	}
	return text
}

func sameFlag(a, b *bool) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}
