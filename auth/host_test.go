package auth_test

import (
	"testing"

	"github.com/xmpp-usher/usher/auth"
)

// A moderator is a host on virtual hosts of the policy that are not for services, and nowhere else.
func TestCountsAsHost(t *testing.T) {
	a := auth.New(auth.Policy{VHosts: map[string]auth.VHost{
		"meet.example.com":     {Kind: auth.KindToken},
		"empty.example.com":    {Kind: auth.KindToken, AllowEmptyToken: true},
		"guest.example.com":    {Kind: auth.KindGuest},
		"users.example.com":    {Kind: auth.KindTrusted},
		"recorder.example.com": {Kind: auth.KindService},
	}})
	for domain, want := range map[string]bool{
		"meet.example.com": true, "empty.example.com": true, "guest.example.com": true, "users.example.com": true,
		"recorder.example.com": false, "hidden.example.com": false, "example.com": false, "": false,
	} {
		if got := a.CountsAsHost(domain); got != want {
			t.Errorf("%q: %t", domain, got)
		}
	}
}
