package secrettest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
)

const (
	secret  = `pass/word "of" <everything>`
	session = "0123456789abcdefghijklmnopqrstuvwxyz"
	claims  = "eyJpc3MiOiJteV9hcHAiLCJleHAiOjF9"
	compact = "eyJhbGciOiJIUzI1NiJ9." + claims + ".c2lnbmF0dXJlIG9mIHRoZSB0b2tlbg"
)

func examples() *Secrets {
	s := new(Secrets)
	s.Plant("the password", secret)
	s.Plant("nothing", "", "short")
	s.PlantRandom("a session id", session)
	s.PlantTokens(compact, "no token", "")
	return s
}

// recorder is a test that may fail without this one failing.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Helper()           {}
func (r *recorder) Error(args ...any) { r.said = append(r.said, fmt.Sprint(args...)) }
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

// TestFind shows that each way to write a secret is found, and nothing else.
func TestFind(t *testing.T) {
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		secret:            "the password",
		"before" + secret: "the password",
		string(quoted):    "the password",
		url.UserPassword("usher", secret).String():        "the password",
		url.QueryEscape(secret):                           "the password",
		base64.StdEncoding.EncodeToString([]byte(secret)): "the password",
		hex.EncodeToString([]byte(secret)):                "the password",
		"a session id" + session:                          "a session id",
		session[:20]:                                      "a part of a session id",
		session[5:]:                                       "a part of a session id",
		compact:                                           "the claims of a token",
		claims[:16]:                                       "a part of the claims of a token",
		"." + strings.SplitN(compact, ".", 3)[2]:          "the signature of a token",
		"":                                                "",
		"short":                                           "",
		compact[:20]:                                      "",
		secret[:10]:                                       "",
		session[1:16]:                                     "",
	} {
		if what, line := examples().Find("first line\n" + text + "\nlast line"); what != want || want != "" && strings.Contains(line, "first line") {
			t.Errorf("%q: found %q in %q, want %q", text, what, line, want)
		}
	}
	if what, _ := examples().Find(strings.Repeat("x", 1000) + "short" + secret[:3]); what != "" {
		t.Error(what)
	}
}

func TestShortSecret(t *testing.T) {
	var s Secrets
	s.Plant("the password", "eight888")
	if what, _ := s.Find("it is eight888."); what != "the password" {
		t.Error(what)
	}
}

// An address may be in base64 where others see it, as in the ids of what Prosody passes on between occupants.
func TestAddressIsNoClaim(t *testing.T) {
	var s Secrets
	base64URL := base64.RawURLEncoding.EncodeToString
	s.PlantTokens("e30." + base64URL([]byte(`{"sub":"x.meet.example.com/somebody","room":"standup"}`)) + ".c2ln")
	for text, want := range map[string]string{
		base64URL([]byte("a@x.meet.example.com/somebody")): "", // the same twelve bytes, at the same place of three
		base64URL([]byte(`{"sub":"x.me`)):                  "a part of the claims of a token",
	} {
		if what, _ := s.Find(text); what != want {
			t.Errorf("%s: found %q, want %q", text, what, want)
		}
	}
}

func TestCheck(t *testing.T) {
	r := new(recorder)
	examples().Check(r, "the log", "nothing")
	examples().Check(r, "the log", "refused: "+secret)
	if len(r.said) != 1 || !strings.Contains(r.said[0], "the log has the password") {
		t.Errorf("%q", r.said)
	}
}

// TestTap shows that what clients send is private, and that others, and usher's log, may not have it.
func TestTap(t *testing.T) {
	var s Secrets
	const request = "<iq type='set' id='1'><conference token='" + compact + "' machine-uid='machine-of-juliet' session-id='" + session + "'/></iq>"
	const answer = `<iq type="result" id="1"><conference ready="true" session-id="another-session-of-juliet"/></iq>`
	s.Tap("juliet", true, request)
	s.Tap("juliet", false, answer)
	r := new(recorder)
	s.CheckTap(r)
	if len(r.said) != 0 {
		t.Fatalf("%q", r.said)
	}
	for _, said := range []string{compact, "machine-of-juliet", session, "another-session-of-juliet"} {
		if what, _ := s.Find(said); what == "" {
			t.Errorf("%q is not planted", said)
		}
		s.Tap("romeo", false, "<iq type='error'><text>"+said+"</text></iq>")
		s.CheckTap(r)
		if len(r.said) != 1 || !strings.HasPrefix(r.said[0], "romeo receives") {
			t.Errorf("%q: %q", said, r.said)
		}
		r.said = nil
	}
}
