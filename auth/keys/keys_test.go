package keys_test

import (
	"reflect"
	"testing"

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
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("kid %q: got %v, %v", kid, got, err)
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
