package token_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

var update = flag.Bool("update", false, "write the files of testdata/tokens and the list in its README from vectors.json")

// folder has the vectors.
var folder = filepath.Join("..", "..", "testdata", "tokens")

// Unless a recipe says otherwise, a vector asks for this room, now, with a token of an hour.
const (
	vectorRoom = "standup@conference.meet.example.com"
	vectorTime = "2026-06-01T12:00:00Z"
	now        = 1780315200 // vectorTime in seconds since 1970
)

// rightPayload is right for every vhost without a claim map.
var rightPayload = fmt.Sprintf(`{"iss":"my_app","aud":"jitsi","sub":"meet.example.com","room":"standup","iat":%d,"exp":%d}`, now-60, now+3600)

func headerOf(algorithm string) string { return `{"alg":"` + algorithm + `","typ":"JWT"}` }

// trust is what the gates of pkg/token need to know about a vhost of the vectors. Package auth uses the rest.
type trust struct {
	tokentest.VHost
	key    any
	claims token.ClaimMap
}

func vhosts(t testing.TB) map[string]trust {
	all := map[string]trust{}
	read, _ := tokentest.Read(t, folder)
	for _, v := range read {
		var key any = secret(t)
		if v.Key != "hmac" {
			key = privateKey(t, v.Key).Public()
		}
		all[v.Name] = trust{VHost: v, key: key, claims: v.ClaimMap(t)}
	}
	return all
}

// Every file of testdata/tokens is what vectors.json says, and so is the README. With -update they are written.
func TestRecipes(t *testing.T) {
	trusted := vhosts(t)
	_, groups := tokentest.Read(t, folder)
	before := map[string]string{}
	for _, v := range tokentest.Vectors(t, folder) {
		before[v.Name] = v.Token
	}
	made := map[string]bool{}
	for _, g := range groups {
		for _, r := range g.Recipes {
			if made[r.Name] {
				t.Errorf("two vectors are named %s", r.Name)
			}
			made[r.Name] = true
			r.VHost = cmp.Or(r.VHost, "meet.example.com")
			vhost, known := trusted[r.VHost]
			if !known {
				t.Fatalf("%s: vhost %q", r.Name, r.VHost)
			}
			same(t, r.Name+".txt", tokentest.Vector{
				Comment: r.Comment, VHost: r.VHost, Room: cmp.Or(string(r.Room), vectorRoom), At: vectorTime, Expect: r.Expect,
				Token: asBefore(before[r.Name], tokenOf(t, r, vhost), vhost),
			}.Format())
		}
	}
	for name := range before {
		if !made[name] {
			t.Errorf("%s.txt is not in vectors.json", name)
		}
	}
	readme, err := os.ReadFile(filepath.Join(folder, "README"))
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "(from vectors.json)\n\n", "\nWith domain_verification"
	head, rest, ok := strings.Cut(string(readme), begin)
	_, tail, also := strings.Cut(rest, end)
	if !ok || !also {
		t.Fatal("README has no list of vhosts")
	}
	same(t, "README", head+begin+listed(t)+end+tail)
}

// listed describes the vhosts: what each of them is, and how it differs from the first.
func listed(t *testing.T) string {
	data, err := os.ReadFile(filepath.Join(folder, "vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ VHosts []json.RawMessage }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, raw := range file.VHosts {
		var v struct{ VHost, About string }
		if err := json.Unmarshal(raw, &v); err != nil {
			t.Fatal(err)
		}
		var settings []string
		for _, m := range members(t, raw) {
			switch m.name {
			case "vhost", "about":
			case "claims":
				settings = append(settings, "a claim map")
			default:
				settings = append(settings, m.name+": "+m.value)
			}
		}
		fmt.Fprintf(&b, "  %s\n      %s\n", v.VHost, v.About)
		if len(settings) > 0 {
			fmt.Fprintf(&b, "      %s\n", strings.Join(settings, ", "))
		}
	}
	return b.String()
}

// same compares a file of the folder with what it must be, or writes it.
func same(t *testing.T, name, want string) {
	t.Helper()
	file := filepath.Join(folder, name)
	got, err := os.ReadFile(file)
	switch {
	case err == nil && string(got) == want:
	case *update:
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what vectors.json says (%v): go test ./pkg/token -run TestRecipes -update", name, err)
	}
}

// tokenOf makes the token of a recipe.
func tokenOf(t *testing.T, r tokentest.Recipe, vhost trust) string {
	t.Helper()
	if r.Token != nil {
		right := strings.Split(hs256(t, headerOf("HS256"), rightPayload), ".")
		return strings.NewReplacer("<header>", right[0], "<payload>", right[1], "<signature>", right[2]).Replace(string(*r.Token))
	}
	algorithm := vhost.Algorithms[0]
	header := cmp.Or(string(r.Header), headerOf(algorithm.String()))
	payload := cmp.Or(string(r.Payload), changed(t, r.Without, r.With))
	if r.Signature != nil {
		return encode(header) + "." + encode(payload) + "." + *r.Signature
	}
	var says struct {
		Alg jwa.SignatureAlgorithm
	}
	if json.Unmarshal([]byte(header), &says) == nil && slices.Contains(vhost.Algorithms, says.Alg) {
		algorithm = says.Alg
	}
	how := cmp.Or(r.Sign, &tokentest.Sign{Algorithm: algorithm})
	switch name := cmp.Or(how.Key, vhost.Key); {
	case how.Secret != nil:
		return signedWith([]byte(*how.Secret), header, payload)
	case how.SecretFile != "":
		return signedWith(readKeyFile(t, how.SecretFile), header, payload)
	case name == "hmac":
		return sign(t, how.Algorithm, secret(t), header, payload)
	default:
		return sign(t, how.Algorithm, privateKey(t, name), header, payload)
	}
}

// sign signs any header and payload with any key.
func sign(t testing.TB, algorithm jwa.SignatureAlgorithm, key any, header, payload string) string {
	t.Helper()
	signer, err := jws.NewSigner(algorithm)
	if err != nil {
		t.Fatal(err)
	}
	signed := encode(header) + "." + encode(payload)
	signature, err := signer.Sign([]byte(signed), key)
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + encode(string(signature))
}

// asBefore returns the token of before if it differs in nothing but a good signature: PS256 and ES256 never sign twice the same.
func asBefore(before, compact string, vhost trust) string {
	unsigned := func(s string) string { return s[:strings.LastIndex(s, ".")+1] }
	verifies := func(s string) bool {
		parsed, err := token.Parse(s)
		return err == nil && parsed.Verify(parsed.Algorithm, vhost.key) == nil
	}
	if unsigned(before) == unsigned(compact) && verifies(before) && verifies(compact) {
		return before
	}
	return compact
}

type member struct{ name, value string }

// members returns the members of an object, with their values as they stand.
func members(t *testing.T, object []byte) []member {
	t.Helper()
	var all []member
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	for d.More() {
		name, err := d.Token()
		var value json.RawMessage
		if err == nil {
			err = d.Decode(&value)
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, member{name.(string), string(value)})
	}
	return all
}

// changed returns the right payload with changes.
func changed(t *testing.T, without []string, with json.RawMessage) string {
	t.Helper()
	claims := slices.DeleteFunc(members(t, []byte(rightPayload)), func(m member) bool { return slices.Contains(without, m.name) })
	if with != nil {
		for _, m := range members(t, with) {
			if i := slices.IndexFunc(claims, func(c member) bool { return c.name == m.name }); i >= 0 {
				claims[i] = m
			} else {
				claims = append(claims, m)
			}
		}
	}
	var b strings.Builder
	for i, m := range claims {
		fmt.Fprintf(&b, `%s"%s":%s`, map[bool]string{true: "", false: ","}[i == 0], m.name, m.value)
	}
	return "{" + b.String() + "}"
}

// gates lists the gates of this package at which a token may stop, by its expected outcome. There are two for claims that only the
// policy requires, and for an iss that is no string, which has no keys.
var gates = map[string][]string{
	"deny token-required":      {"no token"},
	"deny token-malformed":     {"malformed"},
	"deny token-algorithm":     {"algorithm"},
	"deny token-signature":     {"signature"},
	"deny token-claims":        {"wrong claims", "claims"},
	"deny token-issuer":        {"wrong claims", "claims"},
	"allow owner":              {"claims"},
	"allow admin":              {"claims"},
	"allow member":             {"claims"},
	"deny token-expired":       {"claims"},
	"deny token-not-yet-valid": {"claims"},
	"deny token-audience":      {"claims"},
	"deny room-mismatch":       {"claims"},
	"deny tenant-mismatch":     {"claims"},
	"deny room-unknown":        {"claims"},
}

// TestVectors checks what can be checked of the files in testdata/tokens without a policy: the gate at which the token stops.
func TestVectors(t *testing.T) {
	trusted := vhosts(t)
	for _, v := range tokentest.Vectors(t, folder) {
		t.Run(v.Name, func(t *testing.T) {
			vhost, known := trusted[v.VHost]
			if !known {
				t.Fatalf("vhost %q", v.VHost)
			}
			if _, err := time.Parse(time.RFC3339, v.At); err != nil {
				t.Errorf("at: %v", err)
			}
			reached := "claims"
			parsed, err := token.Parse(v.Token)
			switch {
			case v.Token == "":
				reached = "no token"
			case errors.Is(err, token.ErrMalformed):
				reached = "malformed"
			case err != nil:
				t.Fatal(err)
			case !slices.Contains(vhost.Algorithms, parsed.Algorithm):
				reached = "algorithm"
			case errors.Is(parsed.Verify(parsed.Algorithm, vhost.key), token.ErrSignature):
				reached = "signature"
			default:
				if _, err := parsed.Claims(vhost.claims); errors.Is(err, token.ErrClaims) {
					reached = "wrong claims"
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if want := gates[v.Expect]; !slices.Contains(want, reached) {
				t.Errorf("%s: stopped at %s, want %s (%v)", v.Expect, reached, want, err)
			}
		})
	}
}
