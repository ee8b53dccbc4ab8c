package oidc_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/auth/portal/oidc"
)

func recorded(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestKeycloak maps tokens as Keycloak writes them: groups are paths, and roles are in the access token.
func TestKeycloak(t *testing.T) {
	id, access := recorded(t, "keycloak-id.json"), recorded(t, "keycloak-access.json")
	room := func(claim, value string) oidc.Rule {
		return oidc.Rule{Claim: claim, Value: value, Rooms: []string{"r"}}
	}
	for name, test := range map[string]struct {
		rule oidc.Rule
		good bool
	}{
		"group":                     {room("groups", "teachers"), true},
		"group as a path":           {room("", "/teachers"), true},
		"group of a group":          {room("", "school/physics"), true},
		"group of a group, as path": {room("", "/school/physics"), true},
		"end of a path":             {room("", "physics"), false},
		"beginning of a path":       {room("", "school"), false},
		"two slashes":               {room("", "//teachers"), false},
		"another case":              {room("", "Teachers"), false},
		"a part of a name":          {room("", "teach"), false},
		"realm role":                {room("realm_access.roles", "host"), true},
		"realm role that is none":   {room("realm_access.roles", "moderate"), false},
		"client role":               {room("resource_access.usher.roles", "moderate"), true},
		"role of another client":    {room("resource_access.usher.roles", "view-profile"), false},
		"client with dots":          {room(`resource_access.meet\.example\.com.roles`, "record"), true},
		"text":                      {room("preferred_username", "alice"), true},
		"words of a text":           {room("scope", "openid"), false},
		"anybody":                   {room("", "*"), true},
		"number":                    {room("exp", "1795689900"), false},
		"object":                    {room("realm_access", "roles"), false},
		"no such claim":             {room("roles", "host"), false},
		"path through a text":       {room("email.roles", "host"), false},
		"path that cannot be read":  {room("groups.", "teachers"), false},
		"empty value":               {room("", ""), false},
	} {
		who, err := oidc.PersonOf(oidc.Provider{Name: "school", Rules: []oidc.Rule{test.rule}}, id, access)
		if test.good && err != nil || !test.good && !errors.Is(err, oidc.ErrNoRoom) {
			t.Errorf("%s: %+v, %v", name, who, err)
		}
		if who.ID != "school:f3b1c9d0-5a57-4a8e-8f2e-0c6a3d1b9e42" || who.Name != "alice" || who.Display != "Alice Adams" {
			t.Errorf("%s: %+v", name, who)
		}
	}
}

// TestRules: all rules that match count.
func TestRules(t *testing.T) {
	config := oidc.Provider{Name: "p", Rules: []oidc.Rule{
		{Value: "*", Rooms: []string{"lobby-*", "class-*"}},
		{Value: "teachers", Affiliation: auth.Owner, Rooms: []string{"class-*", "[other]staff"}, Tenant: "school", Features: []string{"recording"}},
		{Value: "helpers", Affiliation: auth.Admin, Features: []string{"recording", "livestreaming"}},
		{Value: "nobody", Affiliation: auth.Owner, Rooms: []string{"[*]*"}, Features: []string{"all"}},
	}}
	for claims, want := range map[string]account.Person{
		`{"sub":"1"}`: {ID: "p:1", Name: "1", Display: "1", Rooms: []string{"lobby-*", "class-*"}, Affiliation: auth.Member},
		`{"sub":"1","name":"One","groups":["helpers","/teachers"]}`: {
			ID: "p:1", Name: "1", Display: "One", Rooms: []string{"lobby-*", "class-*", "[school]class-*", "[other]staff"},
			Affiliation: auth.Owner, Groups: []string{"teachers", "helpers"}, Features: map[string]bool{"recording": true, "livestreaming": true},
		},
		`{"sub":"1","groups":"helpers"}`: {
			ID: "p:1", Name: "1", Display: "1", Rooms: []string{"lobby-*", "class-*"}, Affiliation: auth.Admin, Groups: []string{"helpers"},
			Features: map[string]bool{"recording": true, "livestreaming": true},
		},
		`{"sub":"1","groups":"helpers teachers"}`:             {ID: "p:1", Name: "1", Display: "1", Rooms: []string{"lobby-*", "class-*"}, Affiliation: auth.Member},
		`{"sub":"1","groups":[{"name":"nobody"},1,null]}`:     {ID: "p:1", Name: "1", Display: "1", Rooms: []string{"lobby-*", "class-*"}, Affiliation: auth.Member},
		`{"sub":"1","groups":[["nobody"]],"Groups":"nobody"}`: {ID: "p:1", Name: "1", Display: "1", Rooms: []string{"lobby-*", "class-*"}, Affiliation: auth.Member},
	} {
		if who, err := oidc.PersonOf(config, claims); err != nil || !reflect.DeepEqual(who, want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", claims, who, err, want)
		}
	}
	config.Rules = config.Rules[2:3]
	if who, err := oidc.PersonOf(config, `{"sub":"1","groups":"helpers"}`); !errors.Is(err, oidc.ErrNoRoom) || len(who.Rooms) > 0 {
		t.Errorf("a rule without rooms: %+v, %v", who, err)
	}
}

// TestNames: names are for people, so they are cut and cleaned; an id is itself, or nobody's.
func TestNames(t *testing.T) {
	for name, test := range map[string]struct {
		claims, id string // the claim for the id, "" for the default
		want       account.Person
	}{
		"all": {
			`{"sub":"1","preferred_username":"alice","name":"Alice","email":"a@example.com","picture":"https://example.com/a.png"}`, "",
			account.Person{ID: "p:1", Name: "alice", Display: "Alice", Email: "a@example.com", Avatar: "https://example.com/a.png"},
		},
		"email is the name":      {`{"sub":"1","email":"a@example.com"}`, "", account.Person{ID: "p:1", Name: "a@example.com", Display: "a@example.com", Email: "a@example.com"}},
		"email of somebody else": {`{"sub":"1","email":"a@example.com","email_verified":false}`, "", account.Person{ID: "p:1", Name: "1", Display: "1"}},
		"verified as a text":     {`{"sub":"1","email":"a@example.com","email_verified":"true"}`, "", account.Person{ID: "p:1", Name: "a@example.com", Display: "a@example.com", Email: "a@example.com"}},
		"no email":               {`{"sub":"1","email":"a"}`, "", account.Person{ID: "p:1", Name: "1", Display: "1"}},
		"lines and more": {
			`{"sub":"1","name":" A\u202eB\r\nC ","preferred_username":"` + strings.Repeat("é", 200) + `"}`, "",
			account.Person{ID: "p:1", Name: strings.Repeat("é", 128), Display: "ABC"},
		},
		"wrong types":        {`{"sub":"1","name":["x"],"preferred_username":1,"email":{},"picture":1}`, "", account.Person{ID: "p:1", Name: "1", Display: "1"}},
		"http picture":       {`{"sub":"1","picture":"http://example.com/a"}`, "", account.Person{ID: "p:1", Name: "1", Display: "1"}},
		"script as picture":  {`{"sub":"1","picture":"javascript:alert(1)"}`, "", account.Person{ID: "p:1", Name: "1", Display: "1"}},
		"picture with login": {`{"sub":"1","picture":"https://a:b@example.com/"}`, "", account.Person{ID: "p:1", Name: "1", Display: "1"}},
		"another id":         {`{"sub":"1","uid":42}`, "uid", account.Person{ID: "p:42", Name: "42", Display: "42"}},
		"email as id":        {`{"sub":"1","email":"a@example.com"}`, "email", account.Person{ID: "p:a@example.com", Name: "a@example.com", Display: "a@example.com", Email: "a@example.com"}},
	} {
		config := oidc.Provider{Name: "p", IDClaim: test.id, Rules: []oidc.Rule{{Value: "*", Rooms: []string{"r"}}}}
		test.want.Rooms, test.want.Affiliation = []string{"r"}, auth.Member
		if who, err := oidc.PersonOf(config, test.claims); err != nil || !reflect.DeepEqual(who, test.want) {
			t.Errorf("%s:\ngot  %+v, %v\nwant %+v", name, who, err, test.want)
		}
	}
	for claim, claims := range map[string]string{
		"uid":     `{"sub":"1"}`,
		"name":    `{"sub":"1","name":"A\nB"}`,
		"id":      `{"sub":"1","id":"` + strings.Repeat("x", 256) + `"}`,
		"email":   `{"sub":"1","email":"a@example.com","email_verified":false}`,
		"groups":  `{"sub":"1","groups":["a"]}`,
		"a.b":     `{"sub":"1","a":"b"}`,
		"enabled": `{"sub":"1","enabled":true}`,
	} {
		config := oidc.Provider{Name: "p", IDClaim: claim, Rules: []oidc.Rule{{Value: "*", Rooms: []string{"r"}}}}
		if who, err := oidc.PersonOf(config, claims); !errors.Is(err, oidc.ErrRefused) {
			t.Errorf("%s of %s: %+v, %v", claim, claims, who, err)
		}
	}
}

// TestTimes tries the boundaries.
func TestTimes(t *testing.T) {
	for claims, good := range map[string]bool{
		`{"iat":1000,"exp":1300}`:             true,
		`{"iat":1110,"exp":1300}`:             true,
		`{"iat":1111,"exp":1300}`:             false,
		`{"iat":1000,"exp":1091}`:             true,
		`{"iat":1000,"exp":1090}`:             false,
		`{"iat":1000,"exp":1300,"nbf":1110}`:  true,
		`{"iat":1000,"exp":1300,"nbf":1111}`:  false,
		`{"iat":1000,"exp":1300,"nbf":0}`:     true,
		`{"iat":1000,"exp":0}`:                false,
		`{"iat":1000.5,"exp":1.3e3}`:          true,
		`{"iat":1000,"exp":"1300"}`:           false,
		`{"iat":1000,"exp":1e400}`:            false,
		`{"iat":1000,"exp":-1}`:               false,
		`{"iat":1000,"exp":null}`:             false,
		`{"iat":1000,"exp":9007199254740993}`: false,
		`{"iat":1000,"exp":1300,"nbf":"x"}`:   false,
		`{"exp":1300}`:                        false,
		`{"iat":1000}`:                        false,
	} {
		if err := oidc.CheckTimes(claims, time.Unix(1100, 0), 10*time.Second); good != (err == nil) {
			t.Errorf("%s: %v", claims, err)
		}
	}
}

// FuzzPerson: claims that nobody mapped give nothing, and names can be shown.
func FuzzPerson(f *testing.F) {
	for _, seed := range []string{
		recorded(f, "keycloak-id.json"), recorded(f, "keycloak-access.json"), `{}`, `{"sub":"1","groups":"teachers"}`,
		`{"sub":"1","groups":["/teachers",1,null,[]]}`, `{"sub":"1","realm_access":{"roles":{"host":1}}}`,
		`{"sub":1e5,"name":"\u202e","email":"@","picture":"https://[::1/"}`, `{"sub":"1","realm_access":[],"groups":{"teachers":true}}`,
	} {
		f.Add(seed, `{}`)
		f.Add(`{"sub":"1"}`, seed)
	}
	config := oidc.Provider{Name: "p", Rules: []oidc.Rule{
		{Value: "teachers", Affiliation: auth.Owner, Rooms: []string{"class-*"}, Features: []string{"recording"}},
		{Claim: "realm_access.roles", Value: "host", Affiliation: auth.Admin, Rooms: []string{"*"}, Tenant: "school"},
	}}
	f.Fuzz(func(t *testing.T, id, more string) {
		who, err := oidc.PersonOf(config, id, more)
		switch {
		case err == nil && len(who.Rooms) == 0, errors.Is(err, oidc.ErrNoRoom) && (len(who.Rooms) > 0 || who.Affiliation != auth.None):
			t.Fatalf("%+v, %v", who, err)
		case err != nil:
			return
		}
		if !strings.Contains(id+more, "teachers") && !strings.Contains(id+more, "host") && !strings.Contains(id+more, `\u`) {
			t.Errorf("no rule can match: %+v", who)
		}
		teaches, hosts := slices.Contains(who.Groups, "teachers"), slices.Contains(who.Groups, "host")
		if teaches != (who.Affiliation == auth.Owner) || teaches != slices.Contains(who.Rooms, "class-*") || teaches != who.Features["recording"] ||
			hosts != slices.Contains(who.Rooms, "[school]*") || !strings.HasPrefix(who.ID, "p:") || who.ID == "p:" || who.Name == "" || who.Display == "" {
			t.Errorf("%+v", who)
		}
		if strings.ContainsAny(who.ID+who.Name+who.Display+who.Email+who.Avatar, "\r\n\x00\u202e") {
			t.Errorf("%+v", who)
		}
	})
}
