package token_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// Describe returns the path that NewClaim got; an error says what is wrong with a path.
func TestNewClaim(t *testing.T) {
	for path, want := range map[string]string{
		"room":                         "room",
		"realm_access.roles":           "realm_access.roles",
		`https://example\.com/roles`:   `https://example\.com/roles`,
		`a\\.b`:                        `a\\.b`,
		`\.`:                           `\.`,
		" a b .c":                      " a b .c",
		"ü.😀":                          "ü.😀",
		"":                             "Jitsi's",
		strings.Repeat("a.", 15) + "a": strings.Repeat("a.", 15) + "a",
		strings.Repeat("a", 512):       strings.Repeat("a", 512),
	} {
		c, err := token.NewClaim(path, nil)
		if err != nil || c.Describe("Jitsi's") != want || c.IsZero() != (path == "") {
			t.Errorf("%q: got %q, %v, zero %t", path, c.Describe("Jitsi's"), err, c.IsZero())
		}
	}
	for path, want := range map[string]string{
		".":                            "empty name",
		"a.":                           "empty name",
		".a":                           "empty name",
		"a..b":                         "empty name",
		`a\`:                           "backslash",
		`a\b`:                          "backslash",
		`a.\`:                          "backslash",
		"a\xff":                        "UTF-8",
		strings.Repeat("a.", 16) + "a": "17 names",
		strings.Repeat("a", 513):       "513 bytes",
		strings.Repeat(".", 10<<20):    "bytes",
	} {
		if c, err := token.NewClaim(path, nil); err == nil || !strings.Contains(err.Error(), want) || !c.IsZero() {
			t.Errorf("%.20q: got %v", path, err)
		}
	}
	values := map[string]string{"b": "member", "a": "owner"}
	c := tokentest.Claim(t, "", values)
	if got := c.Describe("room"); got != "room (a: owner, b: member)" || c.IsZero() {
		t.Errorf("got %q", got)
	}
	values["c"] = "owner"
	if strings.Contains(c.Describe("room"), "c") {
		t.Error("the table changed with the map it was made of")
	}
	if _, err := token.NewClaim("room", map[string]string{"a": ""}); err == nil {
		t.Error("a value that means nothing")
	}
	if !tokentest.Claim(t, "", map[string]string{}).IsZero() {
		t.Error("an empty table is none")
	}
}

// TestMappedClaims reads one claim at the path "a.b", with and without a table. "!" means that the token is refused.
func TestMappedClaims(t *testing.T) {
	fields := map[string]struct {
		put func(*token.ClaimMap, token.Claim)
		get func(*token.Claims) string
	}{
		"affiliation": {func(m *token.ClaimMap, c token.Claim) { m.Affiliation = c }, func(c *token.Claims) string { return c.User.Affiliation }},
		"id":          {func(m *token.ClaimMap, c token.Claim) { m.ID = c }, func(c *token.Claims) string { return c.User.ID }},
		"name":        {func(m *token.ClaimMap, c token.Claim) { m.Name = c }, func(c *token.Claims) string { return c.User.Name }},
		"group":       {func(m *token.ClaimMap, c token.Claim) { m.Group = c }, func(c *token.Claims) string { return c.Group }},
		"room":        {func(m *token.ClaimMap, c token.Claim) { m.Room = c }, func(c *token.Claims) string { return c.Room }},
		"tenant":      {func(m *token.ClaimMap, c token.Claim) { m.Tenant = c }, func(c *token.Claims) string { return c.Subject }},
	}
	deciding, labels, group := []string{"room", "tenant"}, []string{"id", "name"}, []string{"group"}
	affiliation, strict, shown := []string{"affiliation"}, []string{"affiliation", "room", "tenant"}, []string{"id", "name", "group"}
	all := slices.Concat(strict, shown)
	table := map[string]string{"x": "admin", "true": "owner", "7": "member"}
	others := map[string]string{"x": "owner", "*": "member"}
	for _, row := range []struct {
		fields []string
		values map[string]string
		value  string // JSON of a.b, or of a if it begins with a star
		want   string
	}{
		{all, nil, "*{}", ""},
		{all, nil, `*[]`, ""}, // PHP's empty object
		{all, nil, `*{"c":"owner"}`, ""},
		{deciding, nil, `*null`, "!"},
		{affiliation, nil, `*null`, ""},
		{strict, nil, `*"text"`, "!"},
		{strict, nil, `*[{"b":"owner"}]`, "!"},
		{strict, nil, `*{"B":"owner"}`, "!"},
		{strict, nil, "{}", "!"},
		{strict, nil, "1.5", "!"},
		{strict, nil, "1e400", "!"},
		{strict, nil, `[["owner"]]`, "!"},
		{strict, nil, `[null]`, "!"},
		// What decides nothing refuses nothing.
		{shown, nil, `*null`, ""},
		{shown, nil, `*"text"`, ""},
		{shown, nil, `*[{"b":"owner"}]`, ""},
		{shown, nil, `*{"B":"owner"}`, ""},
		{shown, nil, "{}", ""},
		{shown, nil, `{"c":1}`, ""},
		{shown, nil, "1.5", "1.5"},
		{shown, nil, "1e400", "1e400"},
		{shown, nil, `[["owner"]]`, ""},
		{shown, nil, `[null]`, ""},
		{all, nil, `"owner"`, "owner"},
		{all, nil, `["owner"]`, "owner"},

		{deciding, nil, "null", "!"},
		{deciding, nil, `""`, "!"},
		{deciding, nil, "[]", "!"},
		{deciding, nil, `["a","a"]`, "!"},
		{deciding, nil, "true", "true"},
		{deciding, nil, "-7", "-7"},
		{deciding, table, `"x"`, "admin"},
		{deciding, table, `"y"`, "!"},
		{deciding, table, `"*"`, "!"},
		{deciding, table, "7", "member"},
		{deciding, others, `"y"`, "member"},
		{deciding, others, `"*"`, "member"},
		{deciding, others, `""`, "member"},
		{deciding, others, "*{}", ""},

		{labels, nil, "null", ""},
		{labels, nil, `""`, ""},
		{labels, nil, "[]", ""},
		{labels, nil, `["a","b"]`, ""},
		{labels, nil, "7", "7"},
		{labels, table, `"y"`, ""},
		{labels, others, `"y"`, "member"},

		{group, nil, `["","a","b"]`, "a"},
		{group, nil, `[]`, ""},
		{group, nil, `null`, ""},
		{group, table, `["a","x","7"]`, "admin"},
		{group, table, `["a"]`, ""},
		{group, table, `["x",1.5]`, "admin"},
		{group, table, `[{},["x"],"7"]`, "member"},

		{affiliation, nil, "null", ""},
		{affiliation, nil, "true", "owner"},
		{affiliation, nil, "false", "member"},
		{affiliation, nil, `"true"`, "owner"},
		{affiliation, nil, `"false"`, "member"},
		{affiliation, nil, `"True"`, "!"},
		{affiliation, nil, `["true"]`, ""},
		{affiliation, nil, "1", "!"},
		{affiliation, nil, `""`, "!"},
		{affiliation, nil, `"Owner"`, "!"},
		{affiliation, nil, `"teacher"`, "owner"},
		{affiliation, nil, "[]", ""},
		{affiliation, nil, `["x",true,7]`, ""},
		{affiliation, nil, `["member","x","admin"]`, "admin"},
		{affiliation, nil, `["admin","teacher","member"]`, "owner"},
		{affiliation, table, `"owner"`, ""},
		{affiliation, table, "true", "owner"},
		{affiliation, table, "false", ""},
		{affiliation, table, `["7","x"]`, "admin"},
		{affiliation, others, `["y","x"]`, "owner"},
		{affiliation, others, `["y"]`, "member"},
		{affiliation, others, `null`, ""},
		{affiliation, map[string]string{"x": "root"}, `["x"]`, "!"},
		{affiliation, map[string]string{"x": "root"}, `["y"]`, ""},
	} {
		for _, name := range row.fields {
			var m token.ClaimMap
			fields[name].put(&m, tokentest.Claim(t, "a.b", row.values))
			inner, whole := strings.CutPrefix(row.value, "*")
			if !whole {
				inner = `{"b":` + row.value + `}`
			}
			// The values at Jitsi's own places must not be read.
			payload := `{"a":` + inner + `,"room":"own","sub":"own","context":{"user":{"id":"own","name":"own","affiliation":"teacher"},"group":"own"}}`
			claims, err := parse(t, encode(headerOf("HS256"))+"."+encode(payload)+".").Claims(m)
			switch {
			case err != nil && (!errors.Is(err, token.ErrClaims) || claims != nil):
				t.Errorf("%s: %v, %v", payload, claims, err)
			case err != nil:
				if row.want != "!" || !strings.Contains(err.Error(), ": a") {
					t.Errorf("%s %v of %s: %v, want %q", name, row.values, row.value, err, row.want)
				}
			case fields[name].get(claims) != row.want:
				t.Errorf("%s %v of %s: got %q, want %q", name, row.values, row.value, fields[name].get(claims), row.want)
			}
		}
	}
}

// Places that the map replaces are neither read nor checked; all others are.
func TestMappedClaimsReplace(t *testing.T) {
	elsewhere := tokentest.Claim(t, "elsewhere", nil)
	own := tokentest.Claim(t, "", map[string]string{"x": "owner"})
	for _, row := range []struct {
		m       token.ClaimMap
		payload string
		ok      bool
	}{
		{token.ClaimMap{Affiliation: elsewhere}, `{"moderator":"x","context":{"user":{"affiliation":1,"moderator":[]}}}`, true},
		{token.ClaimMap{Affiliation: elsewhere}, `{"context":{"user":{"lobby_bypass":[]}}}`, false},
		{token.ClaimMap{Tenant: elsewhere}, `{"sub":1,"context":{"tenant":1}}`, true},
		{token.ClaimMap{Tenant: elsewhere}, `{"room":1}`, false},
		{token.ClaimMap{Room: elsewhere}, `{"room":1}`, true},
		{token.ClaimMap{Room: elsewhere}, `{"sub":1}`, false},
		{token.ClaimMap{Room: elsewhere}, `{"context":{"room":{"regex":"yes"}}}`, false},
		{token.ClaimMap{ID: elsewhere, Name: elsewhere, Group: elsewhere}, `{"context":{"user":{"id":[1],"name":{"a":1}},"group":true}}`, true},
		{token.ClaimMap{Affiliation: own}, `{"context":{"user":{"affiliation":"x"}}}`, true},
		{token.ClaimMap{Room: own}, `{"room":"y"}`, false},
		{token.ClaimMap{Tenant: own}, `{"sub":"y"}`, false},
	} {
		claims, err := parse(t, encode(headerOf("HS256"))+"."+encode(row.payload)+".").Claims(row.m)
		if (err == nil) != row.ok {
			t.Errorf("%s: %v", row.payload, err)
		}
		if err == nil && (len(claims.Notes) > 0 || claims.Moderator != nil || claims.User.Moderator != nil || claims.Tenant != "") {
			t.Errorf("%s: read %+v", row.payload, claims)
		}
	}
}

// FuzzClaimPath checks that an accepted path has one spelling, leads where it says, and nowhere else.
func FuzzClaimPath(f *testing.F) {
	for _, path := range []string{"", "a", "realm_access.roles", `a\.b.c`, `a\\.b`, "a..b", `a\`, ".", "ü", "\x00", `\\\.`, "K.k", "\u212A.ſ"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		c, err := token.NewClaim(path, nil)
		if err != nil || path == "" {
			if !c.IsZero() {
				t.Errorf("%q: %v, and a claim", path, err)
			}
			return
		}
		if c.Describe("") != path {
			t.Errorf("%q is %q", path, c.Describe(""))
		}
		// Split by other means: no name of these has a NUL, which tokens cannot have.
		if strings.Contains(path, "\x00") {
			return
		}
		names := strings.Split(strings.NewReplacer(`\\`, `\`, `\.`, ".", ".", "\x00").Replace(path), "\x00")
		payload := `"found"`
		for _, name := range slices.Backward(names) {
			quoted, err := json.Marshal(name)
			if err != nil {
				t.Fatal(err)
			}
			payload = "{" + string(quoted) + ":" + payload + "}"
		}
		parsed, err := token.Parse(encode(headerOf("HS256")) + "." + encode(payload) + ".")
		if err != nil {
			return // a variant of one of Jitsi's names
		}
		// Jitsi's names on the path may have to be of another type.
		if claims, err := parsed.Claims(token.ClaimMap{Name: c}); err == nil && claims.User.Name != "found" {
			t.Errorf("%q reads %q in %s", path, claims.User.Name, payload)
		}
	})
}

// FuzzClaimMap checks that a mapped affiliation is never stronger than the table says, or the token without a table.
func FuzzClaimMap(f *testing.F) {
	for _, value := range []string{`"a"`, `["a","b"]`, "true", "100", "1e400", "null", `{"x":"a"}`, `["owner"]`, `["member","teacher"]`, `"*"`, "-0", "[]", `[[["a"]]]`} {
		f.Add(value, "a", "owner", "*", "member")
		f.Add(value, "a", "admin", "b", "root")
		f.Add(value, "", "", "", "")
	}
	f.Fuzz(func(t *testing.T, value, key1, meaning1, key2, meaning2 string) {
		parsed, err := token.Parse(encode(headerOf("HS256")) + "." + encode(`{"a":{"b":`+value+`}}`) + ".")
		if err != nil {
			return
		}
		table := map[string]string{}
		for _, entry := range [][2]string{{key1, meaning1}, {key2, meaning2}} {
			if entry[1] != "" {
				table[entry[0]] = entry[1]
			}
		}
		c := tokentest.Claim(t, "a.b", table)
		rank := func(word string) int {
			return slices.Index([]string{"", "member", "admin", "owner"}, token.Affiliation(word))
		}
		claims, err := parsed.Claims(token.ClaimMap{Affiliation: c})
		if err == nil {
			most := 0
			for _, meaning := range table {
				most = max(most, rank(meaning))
			}
			if len(table) == 0 {
				var said any
				if err := json.Unmarshal([]byte(value), &said); err != nil {
					t.Fatal(err)
				}
				list, isList := said.([]any)
				if !isList {
					list = []any{said}
				}
				for _, element := range list {
					word, _ := element.(string)
					most = max(most, rank(word))
				}
				switch said {
				case true, "true":
					most = rank("owner")
				case false, "false":
					most = rank("member")
				}
			}
			if got := claims.User.Affiliation; rank(got) > most || got != token.Affiliation(got) {
				t.Errorf("%s with %v: %q", value, table, got)
			}
		}
		// A room is one of the table's, if there is a table.
		if claims, err := parsed.Claims(token.ClaimMap{Room: c, Tenant: c}); err == nil && claims.Room != "" {
			if len(table) > 0 && claims.Room != meaning1 && claims.Room != meaning2 || claims.Room != claims.Subject {
				t.Errorf("%s with %v: room %q, tenant %q", value, table, claims.Room, claims.Subject)
			}
		}
		if _, err := parsed.Claims(token.ClaimMap{ID: c, Name: c, Group: c}); err != nil {
			t.Error(fmt.Errorf("%s decides nothing, and refuses the token: %w", value, err))
		}
	})
}
