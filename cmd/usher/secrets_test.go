package main

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// failing is a test that may fail without this one failing.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper()                           {}
func (f *failing) Errorf(format string, args ...any) { f.said += fmt.Sprintf(format, args...) }

// TestSecretsAreFound shows that a test fails if its commands or processes say a secret.
func TestSecretsAreFound(t *testing.T) {
	owner := minted(t, nil)
	parts := strings.Split(owner, ".")
	for what, said := range map[string]string{
		"the secret of the component": "handshake: " + componentSecret,
		"the secret of the tokens":    `{"level":"info","secret":"` + base64.StdEncoding.EncodeToString([]byte(appSecret)) + `"}`,
		"the password of Redis":       "dial redis://usher:" + redisPassword + "@127.0.0.1:6379: refused",
		"the claims of a token":       "token " + owner + " refused",
		"the signature of a token":    "signature " + parts[2],
	} {
		f := &failing{TB: t}
		silent(f, "usher 1.0\n"+said+"\nconnected\n", owner)
		if !strings.Contains(f.said, what) {
			t.Errorf("%s is not found: %q", what, f.said)
		}
	}
	f := &failing{TB: t}
	silent(f, "header "+parts[0]+", refused, my_app, jti-1", owner)
	if f.said != "" {
		t.Error(f.said)
	}
}
