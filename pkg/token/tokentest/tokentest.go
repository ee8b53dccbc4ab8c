// Package tokentest reads testdata/tokens, for the tests of the packages that read tokens: hundreds of tokens, good and hostile,
// and the virtual hosts that they are for. The README there describes the files.
package tokentest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/token"
)

// VHost is a virtual host of the vectors, of kind token and with one issuer. The fields are the keys of usher.yaml, but for Key.
type VHost struct {
	Name  string `json:"vhost"`
	About string `json:"about"`

	AcceptedIssuers    []string                 `json:"accepted_issuers"`
	AcceptedAudiences  []string                 `json:"accepted_audiences"`
	Algorithms         []jwa.SignatureAlgorithm `json:"algorithms"`
	Key                string                   `json:"key"` // hmac, or the name of a key pair, in testdata/keys
	RequireRoom        bool                     `json:"require_room"`
	RequireExp         bool                     `json:"require_exp"`
	DomainVerification bool                     `json:"domain_verification"`
	NoWildcard         bool                     `json:"no_wildcard"`
	Tenant             string                   `json:"tenant"`
	Claims             map[string]any           `json:"claims"`
}

// defaults are the settings of a virtual host that names no others.
func defaults() VHost {
	return VHost{
		AcceptedIssuers: []string{"my_app"}, AcceptedAudiences: []string{"*"},
		Algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, Key: "hmac",
		RequireRoom: true, RequireExp: true, DomainVerification: true,
	}
}

// ClaimMap returns the claim map in Claims.
func (v VHost) ClaimMap(t testing.TB) token.ClaimMap {
	t.Helper()
	claim := func(name string) token.Claim {
		path, _ := v.Claims[name].(string)
		table, _ := v.Claims[name+"_values"].(map[string]any)
		values := map[string]string{}
		for value, meaning := range table {
			values[value] = meaning.(string)
		}
		return Claim(t, path, values)
	}
	return token.ClaimMap{
		Affiliation: claim("affiliation"), ID: claim("id"), Name: claim("name"), Group: claim("group"),
		Room: claim("room"), Tenant: claim("tenant"),
	}
}

// Claim is token.NewClaim for a right path and table.
func Claim(t testing.TB, path string, values map[string]string) token.Claim {
	t.Helper()
	c, err := token.NewClaim(path, values)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return c
}

// Vector is one file of testdata/tokens: a token, and what comes of it.
type Vector struct{ Name, Comment, VHost, Room, At, Expect, Token string }

// Group is a part of vectors.json: recipes of tokens that have something in common.
type Group struct {
	About   string
	Recipes []Recipe `json:"vectors"`
}

// Recipe says how the token of a vector is made.
type Recipe struct {
	Name    string `json:"name"`
	Expect  string `json:"expect"`
	VHost   string `json:"vhost"`
	Room    Text   `json:"room"`
	Comment string `json:"comment"`

	Header  Text            `json:"header"`
	Payload Text            `json:"payload"`
	Without []string        `json:"without"` // claims of the right payload to leave out
	With    json.RawMessage `json:"with"`    // claims to replace or add, an object

	Sign      *Sign   `json:"sign"`      // nil: as the virtual host expects it
	Signature *string `json:"signature"` // in base64url, instead of Sign

	Token *Text `json:"token"` // the whole of it, in which <header>, <payload> and <signature> stand for those of the right token
}

// Sign says how a token is signed, where that is not what its virtual host expects.
type Sign struct {
	Algorithm jwa.SignatureAlgorithm `json:"algorithm"`
	// At most one of these is set; without one it is the key of the virtual host.
	Key        string `json:"key"`         // as VHost.Key
	Secret     *Text  `json:"secret"`      // an HMAC secret
	SecretFile string `json:"secret_file"` // the whole of a file in testdata/keys as an HMAC secret
}

// Text is a text in vectors.json: a string, an object that stands for its own JSON, or a list of parts, where [5,"a"] is a part
// five times and {"hex":"ff"} a part in bytes.
type Text string

// UnmarshalJSON implements json.Unmarshaler.
func (x *Text) UnmarshalJSON(data []byte) error {
	switch data[0] {
	case '"':
		return json.Unmarshal(data, (*string)(x))
	case '{':
		var b struct{ Hex *string }
		if json.Unmarshal(data, &b) == nil && b.Hex != nil {
			return x.add(data)
		}
		var compact bytes.Buffer
		err := json.Compact(&compact, data)
		*x = Text(compact.String())
		return err
	}
	var parts []json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	*x = ""
	for _, part := range parts {
		if err := x.add(part); err != nil {
			return err
		}
	}
	return nil
}

// add appends a part.
func (x *Text) add(part json.RawMessage) error {
	switch part[0] {
	case '"':
		var s string
		err := json.Unmarshal(part, &s)
		*x += Text(s)
		return err
	case '{':
		var b struct{ Hex string }
		if err := json.Unmarshal(part, &b); err != nil {
			return err
		}
		for i := 0; i+1 < len(b.Hex); i += 2 {
			var c byte
			if _, err := fmt.Sscanf(b.Hex[i:i+2], "%02x", &c); err != nil {
				return err
			}
			*x += Text([]byte{c})
		}
		return nil
	}
	var times int
	var unit string
	if err := json.Unmarshal(part, &[]any{&times, &unit}); err != nil {
		return err
	}
	*x += Text(strings.Repeat(unit, times))
	return nil
}

// Read reads vectors.json in testdata/tokens, which is at this path.
func Read(t testing.TB, folder string) (vhosts []VHost, groups []Group) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		VHosts []json.RawMessage
		Groups []Group
	}
	if err := strict(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, raw := range file.VHosts {
		v := defaults()
		if err := strict(raw, &v); err != nil {
			t.Fatal(err)
		}
		vhosts = append(vhosts, v)
	}
	return vhosts, file.Groups
}

func strict(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// Vectors reads the tokens in testdata/tokens, which is at this path.
func Vectors(t testing.TB, folder string) []Vector {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil || len(files) < 90 {
		t.Fatalf("%d vectors in %s: %v", len(files), folder, err)
	}
	var all []Vector
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		v, err := parse(string(data))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		v.Name = strings.TrimSuffix(filepath.Base(file), ".txt")
		all = append(all, v)
	}
	return all
}

func parse(text string) (Vector, error) {
	head, body, found := strings.Cut(text, "\n\n")
	if !found {
		return Vector{}, fmt.Errorf("no empty line after the headers")
	}
	v := Vector{Token: strings.TrimSuffix(body, "\n")}
	fields := map[string]*string{"comment": &v.Comment, "vhost": &v.VHost, "room": &v.Room, "at": &v.At, "expect": &v.Expect}
	for lines := bufio.NewScanner(strings.NewReader(head)); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		field := fields[name]
		if field == nil {
			return Vector{}, fmt.Errorf("header %q", name)
		}
		*field = value
	}
	return v, nil
}

// Format returns the text of the vector's file.
func (v Vector) Format() string {
	return fmt.Sprintf("comment: %s\nvhost: %s\nroom: %s\nat: %s\nexpect: %s\n\n%s\n", v.Comment, v.VHost, v.Room, v.At, v.Expect, v.Token)
}

// Mint returns a token with the claims, signed by HS256 with the secret. change, if not nil, changes the claims first.
func Mint(t testing.TB, secret []byte, c token.Claims, change func(*token.Claims)) string {
	t.Helper()
	if change != nil {
		change(&c)
	}
	s, err := token.Mint(c, token.MintOptions{Algorithm: jwa.HS256, Key: secret})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
