package token_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// FuzzParse compares accepted tokens with encoding/json: a careless reader must see the same. The seeds are the vectors, and those in
// testdata/fuzz.
func FuzzParse(f *testing.F) {
	for _, v := range tokentest.Vectors(f, folder) {
		f.Add(v.Token)
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
			Iss, Sub, Room string
			Jti            any
			Exp            *float64
			Moderator      any
			Context        json.RawMessage
		}
		var context struct {
			User          json.RawMessage
			Group, Tenant any
			Room          json.RawMessage
		}
		var user struct{ ID, Name, Email, Avatar, Affiliation, Moderator any }
		var room struct{ Regex any }
		unmarshal(t, decoded[1], &payload)
		unmarshal(t, payload.Context, &context)
		unmarshal(t, context.User, &user)
		unmarshal(t, context.Room, &room)
		affiliation, _ := user.Affiliation.(string)
		tenant, _ := context.Tenant.(string)
		regex := truth(room.Regex)
		same := payload.Iss == claims.Issuer && payload.Iss == parsed.Issuer() && payload.Sub == claims.Subject &&
			payload.Room == claims.Room && label(payload.Jti, claims.ID) && sameFlag(truth(payload.Moderator), claims.Moderator) &&
			label(user.ID, claims.User.ID) && label(user.Name, claims.User.Name) && label(user.Email, claims.User.Email) &&
			label(user.Avatar, claims.User.Avatar) && affiliation == claims.User.Affiliation &&
			sameFlag(truth(user.Moderator), claims.User.Moderator) &&
			label(context.Group, claims.Group) && tenant == claims.Tenant &&
			(regex != nil && *regex) == claims.RoomRegex && (payload.Exp == nil) == claims.Expires.IsZero()
		if !same {
			t.Errorf("encoding/json reads %+v, we %+v", payload, claims)
		}
		if payload.Exp != nil && int64(*payload.Exp) != claims.Expires.Unix() {
			t.Errorf("exp %v is %s for us", *payload.Exp, claims.Expires.Format(time.RFC3339Nano))
		}
		if _, err := json.Marshal([]time.Time{claims.Expires, claims.NotBefore, claims.IssuedAt}); err != nil {
			t.Error(err)
		}
		for _, role := range parsed.RolesNotRead(token.ClaimMap{}) {
			if len([]rune(role)) > 200 || strings.ContainsAny(role, "\x00\n\x1b") {
				t.Errorf("%q", role)
			}
		}
	})
}

// unmarshal reads an object. An absent one, and PHP's empty one, has no members.
func unmarshal(t *testing.T, text json.RawMessage, into any) {
	if len(text) == 0 || strings.Trim(string(text), "[] \t\r\n") == "" {
		return
	}
	// Numbers are compared as they are written.
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatal(err)
	}
}

// label reports whether a claim that decides nothing is read as a careless reader would print it, or passed over.
func label(value any, read string) bool {
	switch v := value.(type) {
	case string:
		return read == v
	case json.Number:
		return read == v.String()
	}
	return read == ""
}

func truth(value any) *bool {
	yes := value == true || value == "true"
	if !yes && value != false && value != "false" {
		return nil
	}
	return &yes
}

func sameFlag(a, b *bool) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}
