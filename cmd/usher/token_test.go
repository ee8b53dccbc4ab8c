package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/token"
)

// TestMintExplain mints a token with every kind of key, and checks that explain allows it.
func TestMintExplain(t *testing.T) {
	staged(t)
	for _, c := range []struct{ algorithm, vhost, flags string }{
		{"HS256", "meet.example.com", "--app-id my_app --secret-file app.secret"},
		{"HS256", "meet.example.com", "--app-id my_app"}, // the secret is in the environment
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
			// Without an affiliation in the token, default_affiliation decides: member on one virtual host, owner on the other.
			args = slices.DeleteFunc(args, func(s string) bool { return s == "--affiliation" || s == "owner" })
			minted = command(t, "", args...)
			r := command(t, "", append(explain, strings.TrimSpace(minted.stdout))...)
			if member := strings.Contains(r.stdout, "allow: member"); member != (c.vhost == "partners.meet.example.com") {
				t.Errorf("without an affiliation: %s%s", r.stdout, r.stderr)
			}
		})
	}
}

// TestPasted reads tokens in the forms in which people paste them.
func TestPasted(t *testing.T) {
	const token = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln_-bmF0dXJl"
	for _, text := range []string{
		token,
		" \t" + token + "\r\n",
		"\ufeff" + token + "\u00a0\u200b\n",
		"Bearer " + token,
		"bearer   " + token + " ",
		"Authorization: Bearer " + token,
		"authorization:BEARER " + token,
		"https://meet.example.com/standup?jwt=" + token,
		"  https://meet.example.com/standup?jwt=" + token + "\n",
		"https://meet.example.com/acme/My%20Room?lang=de&jwt=" + token + "#config.prejoinConfig.enabled=false",
		"https://meet.example.com/standup?lang=%zz&jwt=" + token,
		"https://meet.example.com/standup#config.x=1&jwt=" + token,
		"https://meet.example.com/standup?jwt=of-the-query#jwt=" + token,
		"https://meet.example.com/standup#jwt=%22" + token + "%22",
		"https://meet.example.com/standup#config.x=1&jwt=%22" + token + "%22",
		"https://meet.example.com/standup?jwt=%20" + strings.ReplaceAll(token, ".", "%2E"),
		"jitsi-meet://meet.example.com/standup?jwt=" + token,
		"meet.example.com/standup?jwt=" + token,
		"?jwt=" + token,
		"jwt=" + token,
	} {
		if got, err := pasted(text); got != token || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for text, said := range map[string]string{
		"":                                      "empty",
		" \n":                                   "empty",
		"https://meet.example.com/standup":      "no jwt=",
		"https://meet.example.com/standup?jwt=": "no jwt=",
		"https://meet.example.com/standup?Token=" + token: "no jwt=",
	} {
		if got, err := pasted(text); err == nil || !strings.Contains(err.Error(), said) || strings.Contains(err.Error(), token) {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	// Any other text stays as it is; usher then refuses it as it refuses such a token in a request.
	for _, text := range []string{token + ".x", token[:20] + " " + token[20:], "Bearer", token + "="} {
		if got, err := pasted(text); got != text || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	staged(t)
	for size, want := range map[int]string{
		8193: "8193 bytes, more than 8192", 12259: "12259 bytes, more than 8192", 1 << 20: "1048576 bytes, more than 8192",
		1<<20 + 1: "longer than 1048576 bytes", 5 << 20: "longer than 1048576 bytes",
	} {
		r := command(t, strings.Repeat("e", size), "token", "explain", "-c", "usher.yaml", "--room", "standup", "-")
		if !strings.Contains(r.stdout+r.stderr, want) {
			t.Errorf("%d bytes: %d %s%s", size, r.status, r.stdout, r.stderr)
		}
	}
}

// TestMintClaims checks that every flag of "token mint" reaches the token.
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
		t.Errorf("valid for %s", got)
	}
	if begin := before.Add(20 * time.Minute); c.NotBefore.Before(begin) || c.NotBefore.After(begin.Add(time.Minute)) || c.ID == "" {
		t.Errorf("begins %s, id %q", c.NotBefore, c.ID)
	}
}

// TestMintSecretBeside checks that commands that read the configuration accept the variable of "token mint" beside their own.
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
