package auth_test

import (
	"context"
	"testing"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
)

// changing is a source of which the keys are taken away.
type changing struct{ auth.KeySource }

func (c *changing) gone() { c.KeySource = source{} }

// TestKeyTakenAway: a token that was seen a moment ago is refused once its key counts no more.
func TestKeyTakenAway(t *testing.T) {
	p := policy(t)
	secrets, err := keys.Secrets(secret)
	if err != nil {
		t.Fatal(err)
	}
	of := &changing{secrets}
	p.VHosts["meet.example.com"].Issuers[0].Keys = of
	a := auth.New(p)
	req := asking("meet.example.com", mint(t, nil))
	host := looking(auth.RoomState{Exists: true, HostPresent: true})
	for range 2 {
		if d := a.Authorize(context.Background(), req, host); d.Verdict != auth.Allow {
			t.Fatalf("%s %s: %v", d.Verdict, d.Reason, d.Err)
		}
	}
	of.gone()
	if d := a.Authorize(context.Background(), req, host); d.Reason != auth.ReasonTokenSignature {
		t.Errorf("%s %s: %v", d.Verdict, d.Reason, d.Err)
	}
}
