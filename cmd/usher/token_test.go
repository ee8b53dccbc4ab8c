package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// TestMintExplain mints with every kind of key and asks whether the token is let in.
func TestMintExplain(t *testing.T) {
	staged(t)
	for _, c := range []struct{ algorithm, vhost, flags string }{
		{"HS256", "meet.example.com", "--app-id my_app --secret-file app.secret"},
		{"HS256", "meet.example.com", "--app-id my_app"}, // the secret in the environment
		{"ES256", "partners.meet.example.com", "--app-id portal --key-file ec256.key"},
		{"EdDSA", "partners.meet.example.com", "--app-id portal --key-file ed25519.key --kid 2030-01"},
		{"RS256", "partners.meet.example.com", "--app-id portal-rsa --key-file rsa2048.key"},
	} {
		t.Run(c.algorithm, func(t *testing.T) {
			if !strings.Contains(c.flags, "-file") {
				t.Setenv(mintSecret, appSecret)
			}
			args := append([]string{"token", "mint", "--room", "standup", "--sub", c.vhost, "--affiliation", "owner"}, strings.Fields(c.flags)...)
			minted := command(t, "", args...)
			if minted.status != 0 || minted.stderr != "" {
				t.Fatalf("mint: %d %s", minted.status, minted.stderr)
			}
			explain := []string{"token", "explain", "-c", "usher.yaml", "--room", "standup", "--from", c.vhost}
			for stdin, args := range map[string][]string{
				"":            append(explain, strings.TrimSpace(minted.stdout)),
				minted.stdout: append(explain, "-"),
			} {
				r := command(t, stdin, args...)
				if r.status != 0 || !strings.Contains(r.stdout, "allow: host") || !strings.Contains(r.stdout, "found     "+c.algorithm) {
					t.Errorf("explain %d: %s%s", r.status, r.stdout, r.stderr)
				}
			}
			// One that asks for nothing is a member on the one virtual host, and a host on the other.
			args = slices.DeleteFunc(args, func(s string) bool { return s == "--affiliation" || s == "owner" })
			minted = command(t, "", args...)
			r := command(t, "", append(explain, strings.TrimSpace(minted.stdout))...)
			if member := strings.Contains(r.stdout, "allow: member"); member != (c.vhost == "partners.meet.example.com") {
				t.Errorf("without an affiliation: %s%s", r.stdout, r.stderr)
			}
		})
	}
}

// TestMintClaims reads back what every flag says.
func TestMintClaims(t *testing.T) {
	staged(t)
	before := time.Now().Truncate(time.Second)
	r := command(t, "", "token", "mint", "--app-id", "my_app", "--secret-file", "app.secret", "--room", "*", "--sub", "",
		"--aud", "a,b", "--affiliation", "teacher", "--name", "Juliet", "--email", "juliet@example.com", "--id", "u1",
		"--not-before", "20m", "--ttl", "90m", "--algorithm", "HS512", "--kid", "k1")
	if r.status != 0 {
		t.Fatal(r)
	}
	tok, err := token.Parse(strings.TrimSpace(r.stdout))
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.Verify("HS512", []byte(appSecret)); err != nil || tok.KeyID != "k1" {
		t.Error(err, tok.KeyID)
	}
	c, err := tok.Claims(token.ClaimMap{})
	if err != nil {
		t.Fatal(err)
	}
	want := token.User{ID: "u1", Name: "Juliet", Email: "juliet@example.com", Affiliation: "teacher"}
	if c.Issuer != "my_app" || c.Room != "*" || c.Subject != "" || !slices.Equal(c.Audience, []string{"a", "b"}) || c.User != want {
		t.Errorf("%+v", c)
	}
	if got := c.Expires.Sub(c.NotBefore); got != 90*time.Minute {
		t.Errorf("good for %s", got)
	}
	if begin := before.Add(20 * time.Minute); c.NotBefore.Before(begin) || c.NotBefore.After(begin.Add(time.Minute)) || c.ID == "" {
		t.Errorf("begins %s, id %q", c.NotBefore, c.ID)
	}
}

// TestMintSecretBeside checks that the variable for "token mint" does not disturb who reads the configuration.
func TestMintSecretBeside(t *testing.T) {
	staged(t)
	t.Setenv(mintSecret, appSecret)
	if r := command(t, "", "config", "check", "-c", "usher.yaml"); r.status != 0 {
		t.Error(r)
	}
	t.Setenv("USHER_ROOMS_WAIT_FOR_HOST", "often")
	r := command(t, "", "config", "check", "-c", "usher.yaml")
	if r.status != 1 || !strings.Contains(r.stderr, "USHER_ROOMS_WAIT_FOR_HOST: rooms.wait_for_host") {
		t.Error(r)
	}
}
