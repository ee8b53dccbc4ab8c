package token_test

import (
	"crypto"
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

	"github.com/xmpp-usher/usher/pkg/token"
)

var update = flag.Bool("update", false, "write the files of testdata/tokens anew from the tables")

// vector is one file of testdata/tokens: a token, and what comes of it. The folder's README tells the form.
type vector struct {
	name                             string
	comment, vhost, room, at, expect string
	token                            string
}

// trust is what pkg/token has to know of a vhost of the vectors. The rest of its configuration is the policy's.
type trust struct {
	algorithms []jwa.SignatureAlgorithm
	key        any
	claims     token.ClaimMap
}

func vhosts(t testing.TB) map[string]trust {
	public := func(name string) crypto.PublicKey { return privateKey(t, name).Public() }
	hmac := trust{algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, key: secret(t)}
	rs256 := trust{algorithms: []jwa.SignatureAlgorithm{jwa.RS256}, key: public("rsa2048")}
	all := map[string]trust{
		"meet.example.com":   hmac,
		"aud.example.com":    hmac,
		"open.example.com":   hmac,
		"nowild.example.com": hmac,
		"rs.example.com":     rs256,
		"rsps.example.com":   {algorithms: []jwa.SignatureAlgorithm{jwa.RS256, jwa.PS256}, key: public("rsa2048")},
		"es.example.com":     {algorithms: []jwa.SignatureAlgorithm{jwa.ES256}, key: public("ec256")},
		"ed.example.com":     {algorithms: []jwa.SignatureAlgorithm{jwa.EdDSA}, key: public("ed25519")},
	}
	for vhost, claims := range claimMaps(t) {
		v := hmac
		if slices.Contains(rs256VHosts, vhost) {
			v = rs256
		}
		v.claims = claims
		all[vhost] = v
	}
	return all
}

// rs256VHosts are those with a claim map and tokens signed with RS256.
var rs256VHosts = []string{"jaas.example.com", "keycloak.example.com", "keycloak-client.example.com"}

// claimMaps reads testdata/tokens/claims.json: the claim maps by vhost, in the keys of usher.yaml.
func claimMaps(t testing.TB) map[string]token.ClaimMap {
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "tokens", "claims.json"))
	if err != nil {
		t.Fatal(err)
	}
	var byVHost map[string]map[string]any
	if err := json.Unmarshal(text, &byVHost); err != nil {
		t.Fatal(err)
	}
	maps := map[string]token.ClaimMap{}
	for vhost, keys := range byVHost {
		claim := func(name string) token.Claim {
			path, _ := keys[name].(string)
			table, _ := keys[name+"_values"].(map[string]any)
			values := map[string]string{}
			for value, meaning := range table {
				values[value] = meaning.(string)
			}
			c, err := token.NewClaim(path, values)
			if err != nil {
				t.Fatalf("%s: %s: %v", vhost, name, err)
			}
			return c
		}
		maps[vhost] = token.ClaimMap{
			Affiliation: claim("affiliation"), ID: claim("id"), Name: claim("name"), Group: claim("group"),
			Room: claim("room"), Tenant: claim("tenant"),
		}
	}
	return maps
}

// TestVectors checks of every file in testdata/tokens as much as can be told without a policy: at which gate the
// token stops. With -update it first writes the files that the tables describe; others are left alone.
func TestVectors(t *testing.T) {
	folder := filepath.Join("..", "..", "testdata", "tokens")
	trusted := vhosts(t)
	if *update {
		written := map[string]bool{}
		for _, v := range vectors(t) {
			if written[v.name] {
				t.Fatalf("two vectors are named %s", v.name)
			}
			written[v.name] = true
			writeVector(t, folder, v, trusted[v.vhost])
		}
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			v := readVector(t, file)
			vhost, known := trusted[v.vhost]
			if !known {
				t.Fatalf("vhost %q", v.vhost)
			}
			if _, err := time.Parse(time.RFC3339, v.at); err != nil {
				t.Errorf("at: %v", err)
			}
			reached := "claims"
			parsed, err := token.Parse(v.token)
			switch {
			case v.token == "":
				reached = "no token"
			case errors.Is(err, token.ErrMalformed):
				reached = "malformed"
			case err != nil:
				t.Fatal(err)
			case !slices.Contains(vhost.algorithms, parsed.Algorithm):
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
			want := []string{"claims"}
			switch v.expect {
			case "deny token-required":
				want = []string{"no token"}
			case "deny token-malformed":
				want = []string{"malformed"}
			case "deny token-algorithm":
				want = []string{"algorithm"}
			case "deny token-signature":
				want = []string{"signature"}
			case "deny token-claims":
				want = []string{"wrong claims", "claims"} // the policy wants some that the format does not
			case "deny token-issuer":
				want = []string{"wrong claims", "claims"} // an iss that is no string has no keys
			case "allow owner", "allow admin", "allow member", "deny token-expired", "deny token-not-yet-valid",
				"deny token-audience", "deny room-mismatch", "deny tenant-mismatch", "deny room-unknown":
			default:
				t.Fatalf("expect: %q", v.expect)
			}
			if !slices.Contains(want, reached) {
				t.Errorf("%s: stopped at %s, want %s (%v)", v.expect, reached, want, err)
			}
		})
	}
}

func readVector(t *testing.T, file string) vector {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, body, found := strings.Cut(string(data), "\n\n")
	if !found {
		t.Fatal("no empty line after the headers")
	}
	v := vector{token: strings.TrimSuffix(body, "\n")}
	for _, line := range strings.Split(head, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "comment":
			v.comment = value
		case "vhost":
			v.vhost = value
		case "room":
			v.room = value
		case "at":
			v.at = value
		case "expect":
			v.expect = value
		default:
			t.Fatalf("header %q", name)
		}
	}
	return v
}

func writeVector(t *testing.T, folder string, v vector, vhost trust) {
	file := filepath.Join(folder, v.name+".txt")
	if _, err := os.Stat(file); err == nil {
		// PS256 and ES256 never sign twice the same. A signature that still holds is kept, so that nothing is written
		// that does not say something new.
		old := readVector(t, file).token
		if verifies(old, vhost) && verifies(v.token, vhost) && signedPart(old) == signedPart(v.token) {
			v.token = old
		}
	}
	text := fmt.Sprintf("comment: %s\nvhost: %s\nroom: %s\nat: %s\nexpect: %s\n\n%s\n",
		v.comment, v.vhost, v.room, v.at, v.expect, v.token)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func verifies(compact string, vhost trust) bool {
	parsed, err := token.Parse(compact)
	return err == nil && parsed.Verify(parsed.Algorithm, vhost.key) == nil
}

func signedPart(compact string) string {
	return compact[:strings.LastIndex(compact, ".")+1]
}
