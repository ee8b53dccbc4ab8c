package keys_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
)

func TestSecrets(t *testing.T) {
	old, current := []byte("the old secret"), []byte("the current secret")
	source, err := keys.Secrets(current, old)
	if err != nil {
		t.Fatal(err)
	}
	hmac := []jwa.SignatureAlgorithm{jwa.HS256, jwa.HS384, jwa.HS512}
	want := []auth.Key{
		{Algorithms: hmac, Material: []byte("the current secret")},
		{Algorithms: hmac, Material: []byte("the old secret")},
	}
	clear(old) // the source keeps a copy
	for _, kid := range []string{"", "1", "../../dev/null"} {
		got, err := source.Keys(t.Context(), kid)
		for i := range got {
			if !source.Counts(got[i].Origin) || source.Counts(got[i].Origin+"0") {
				t.Errorf("kid %q: its origin does not count, or another does", kid)
			}
			got[i].Origin = ""
		}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("kid %q: got %v, %v", kid, got, err)
		}
	}
}

// TestCounts checks that each key of the configuration counts by itself, and fetched keys by their address, without a request to it.
func TestCounts(t *testing.T) {
	origins := func(source auth.KeySource) (all []string) {
		t.Helper()
		found, err := source.Keys(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range found {
			all = append(all, k.Origin)
		}
		return all
	}
	secrets, err := keys.Secrets([]byte("one secret"), []byte("another secret"))
	if err != nil {
		t.Fatal(err)
	}
	one, err := keys.Secrets([]byte("one secret"))
	if err != nil {
		t.Fatal(err)
	}
	files, err := keys.PEMFiles(keyFile("rsa2048.pem"), keyFile("ed25519.pem"))
	if err != nil {
		t.Fatal(err)
	}
	all := append(origins(secrets), origins(files)...)
	for i, origin := range all {
		if slices.Index(all, origin) != i || !keys.Join(secrets, files).Counts(origin) || secrets.Counts(origin) != (i < 2) || one.Counts(origin) != (i < 1) {
			t.Errorf("key %d: %s", i, origin)
		}
	}
	var cache keys.Cache
	var sources []keys.Remote
	for range 2 {
		server := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(readKey(t, "rsa2048.pem")) })
		source, err := cache.ASAP(server.URL, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source)
	}
	for _, kid := range []string{"1", "2"} { // a new kid is no reason for sessions to end
		found, err := sources[0].Keys(t.Context(), kid)
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		if origin := found[0].Origin; !sources[0].Counts(origin) || sources[1].Counts(origin) || files.Counts(origin) {
			t.Errorf("kid %s: it does not count by its address alone", kid)
		}
	}
	certificates := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"1": string(readKey(t, "rsa2048.pem"))})
	})
	byKid, err := cache.KeyMap(certificates.URL, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if origin := origins(byKid)[0]; !byKid.Counts(origin) || sources[0].Counts(origin) {
		t.Error("fetched at once, it does not count by its address alone")
	}
	for _, origin := range append(all, "") {
		if sources[0].Counts(origin) || byKid.Counts(origin) {
			t.Error("a key of the configuration counts as fetched")
		}
	}
}

func TestSecretsRefusesWhatIsNone(t *testing.T) {
	for _, secret := range []string{"", "-----BEGIN PUBLIC KEY-----\nMIIB", "\n -----BEGIN CERTIFICATE-----"} {
		if source, err := keys.Secrets([]byte("right"), []byte(secret)); err == nil || source != nil {
			t.Errorf("%q: got %v, %v", secret, source, err)
		}
	}
	source, err := keys.Secrets()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := source.Keys(t.Context(), "1"); err != nil || len(got) != 0 {
		t.Errorf("no secrets: got %v, %v", got, err)
	}
}
