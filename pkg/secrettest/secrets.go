// Package secrettest finds secrets in what a program says: its log, its output, its answers and its errors.
//
// A test plants secrets, and has all that it hears examined. A secret is found as it is, and as it is written in JSON, XML and URLs, in
// base64 and in hexadecimal digits. Of a token, and of other texts without a meaning, 16 characters are enough.
package secrettest

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// piece is the length of text by which a secret is found.
const piece = 16

// shortest is the length of the shortest secret. Shorter ones would be found where nobody has written them.
const shortest = 8

// Secrets are the secrets of one test or of several. The zero value has none. Any goroutine may use them.
type Secrets struct {
	mu     sync.Mutex
	known  map[string]bool
	pieces map[[piece]byte][]planted // by their beginning
	short  []planted                 // those that are shorter than a piece
	starts [1 << 16]bool             // the first two bytes of the pieces
	heard  []string                  // findings of Tap
}

// planted is one form of a secret, or a piece of one.
type planted struct{ what, text string }

// Plant adds secrets, which are found as a whole. what names them to people. Those of less than 8 bytes are left out.
func (s *Secrets) Plant(what string, secrets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, secret := range secrets {
		if !s.isNew(what, secret) {
			continue
		}
		for _, form := range forms(secret) {
			s.add(planted{what, form})
		}
	}
}

// PlantRandom adds texts without a meaning, such as session ids, of which each part of 16 characters is found, counted from the beginning.
func (s *Secrets) PlantRandom(what string, texts ...string) {
	s.plantParts(what, func(string) bool { return true }, texts...)
}

// plantParts adds texts as a whole, and those of their parts that are secret.
func (s *Secrets) plantParts(what string, secret func(part string) bool, texts ...string) {
	s.Plant(what, texts...)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, text := range texts {
		if !s.isNew(what+" in parts", text) {
			continue
		}
		for ; len(text) >= piece; text = text[piece:] {
			if secret(text[:piece]) {
				s.add(planted{"a part of " + what, text[:piece]})
			}
		}
	}
}

// PlantTokens adds compact tokens (RFC 7515 §7.1): their claims and signatures. Their headers say nothing.
func (s *Secrets) PlantTokens(tokens ...string) {
	for _, t := range tokens {
		if parts := strings.Split(strings.TrimSpace(t), "."); len(parts) == 3 {
			s.plantParts("the claims of a token", isClaim, parts[1])
			s.PlantRandom("the signature of a token", parts[2])
		}
	}
}

// address matches a part of an address.
var address = regexp.MustCompile(`^[\w.@/-]+$`)

// isClaim reports whether a part of a token's claims is more than a part of an address. Others may have those in base64 as well: Prosody writes
// the address of an occupant so into the ids of what it passes on (plugins/muc/muc.lib.lua).
func isClaim(part string) bool {
	text, err := base64.RawURLEncoding.DecodeString(part)
	return err != nil || !address.Match(text)
}

// isNew reports whether a secret is long enough, and not planted yet. The caller holds mu.
func (s *Secrets) isNew(what, secret string) bool {
	if len(secret) < shortest || s.known[what+"\x00"+secret] {
		return false
	}
	if s.known == nil {
		s.known, s.pieces = make(map[string]bool), make(map[[piece]byte][]planted)
	}
	s.known[what+"\x00"+secret] = true
	return true
}

// add adds one form. The caller holds mu.
func (s *Secrets) add(p planted) {
	if len(p.text) < piece {
		s.short = append(s.short, p)
		return
	}
	key := [piece]byte([]byte(p.text[:piece]))
	s.pieces[key] = append(s.pieces[key], p)
	s.starts[start(p.text)] = true
}

func start(text string) int { return int(text[0])<<8 | int(text[1]) }

// forms are the ways in which programs write a text, each once.
func forms(text string) (all []string) {
	quoted, _ := json.Marshal(text) // cannot fail: a string
	var escaped strings.Builder
	_ = xml.EscapeText(&escaped, []byte(text)) // nor can writing to a Builder
	goes := fmt.Sprintf("%q", text)
	known := make(map[string]bool)
	for _, form := range []string{
		text, string(quoted[1 : len(quoted)-1]), goes[1 : len(goes)-1], escaped.String(), url.QueryEscape(text), url.PathEscape(text),
		strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(text)), "="), base64.RawURLEncoding.EncodeToString([]byte(text)),
		hex.EncodeToString([]byte(text)),
	} {
		if !known[form] {
			known[form] = true
			all = append(all, form)
		}
	}
	return all
}

// Find looks for secrets in a text. It returns the kind of the first that it finds, and the line with it; "" if there is none.
func (s *Secrets) Find(text string) (what, line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i+piece <= len(text); i++ {
		if !s.starts[start(text[i:])] {
			continue
		}
		for _, p := range s.pieces[[piece]byte([]byte(text[i:i+piece]))] {
			if strings.HasPrefix(text[i:], p.text) {
				return p.what, lineOf(text, i)
			}
		}
	}
	for _, p := range s.short {
		if i := strings.Index(text, p.text); i >= 0 {
			return p.what, lineOf(text, i)
		}
	}
	return "", ""
}

// lineOf returns the line of a text at a place; of a long one, what is near.
func lineOf(text string, at int) string {
	from := max(strings.LastIndexByte(text[:at], '\n')+1, at-500)
	to := min(at+500, len(text))
	if n := strings.IndexByte(text[at:to], '\n'); n >= 0 {
		to = at + n
	}
	return text[from:to]
}

// Check fails the test if a text has a secret. where says what the text is.
func (s *Secrets) Check(t testing.TB, where, text string) {
	t.Helper()
	if what, line := s.Find(text); what != "" {
		t.Errorf("%s has %s:\n%s", where, what, line)
	}
}

// Attributes of a conference request and its answer (http://jitsi.org/protocol/focus) that nobody else may read.
var (
	private   = regexp.MustCompile(`\b(token|session-id|machine-uid)=(?:'([^']*)'|"([^"]*)")`)
	sessionID = regexp.MustCompile(`\bsession-id=(?:'[^']*'|"[^"]*")`)
)

// Tap listens to a client of the server: it is for [prosodytest.Server.Tap]. What the client sends plants its token, its session id and
// its machine-uid. What it receives must have no secret; a session id may be in the attribute of that name only. CheckTap fails the test
// if something was found.
//
// [prosodytest.Server.Tap]: https://pkg.go.dev/github.com/xmpp-usher/usher/pkg/prosodytest#Server.Tap
func (s *Secrets) Tap(who string, sent bool, stanza string) {
	for _, m := range private.FindAllStringSubmatch(stanza, -1) {
		switch value := m[2] + m[3]; m[1] {
		case "token":
			s.PlantTokens(value)
		case "session-id":
			s.PlantRandom("a session id", value)
		case "machine-uid":
			s.Plant("a machine-uid", value)
		}
	}
	if sent {
		return
	}
	if what, line := s.Find(sessionID.ReplaceAllString(stanza, "")); what != "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.heard = append(s.heard, fmt.Sprintf("%s receives %s:\n%s", who, what, line))
	}
}

// CheckTap fails the test if a client has received a secret.
func (s *Secrets) CheckTap(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, heard := range s.heard {
		t.Error(heard)
	}
	s.heard = nil
}
