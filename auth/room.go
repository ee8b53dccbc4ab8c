package auth

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/norm"
	"mellium.im/xmpp/jid"
)

// Room is a room's address, taken apart. The zero value is no room.
type Room struct {
	// JID is the room's bare address as the MUC service has it.
	JID jid.JID
	// Tenant is the part in brackets of "[tenant]room", empty for a room without one. Canonical, see CanonicalName.
	Tenant string
	// Name is the room's name without its tenant. Canonical, see CanonicalName.
	Name string
}

// Service is the domain of the MUC service that holds the room.
func (r Room) Service() string { return r.JID.Domainpart() }

var errRoomName = errors.New("not a room name")

// ParseRoom takes a bare room JID apart. It refuses whatever could be one room here and another one on the server.
func ParseRoom(address string) (Room, error) {
	j, err := jid.Parse(address)
	switch {
	case err != nil:
		return Room{}, fmt.Errorf("room address: %w", err)
	case j.Localpart() == "":
		return Room{}, errors.New("room address: no room name before the @")
	case j.Domainpart() == "" || strings.HasSuffix(j.Domainpart(), "."):
		// mellium takes a dot off the end (RFC 7622 §3.2) and does not look at what is left.
		return Room{}, errors.New("room address: no domain after the @")
	case j.Resourcepart() != "":
		return Room{}, errors.New("room address: a bare JID is expected, found one with a resource")
	case !ascii(j.Localpart()) && cases.Fold().String(norm.NFKC.String(j.Localpart())) != j.Localpart():
		// mellium prepares a localpart by PRECIS (RFC 7622), Prosody by Nodeprep (RFC 3920), which also folds
		// ß to ss and compatibility forms to plain ones. Where the two disagree the affiliation would go to
		// another room than the one asked for.
		return Room{}, errors.New("room address: its name is spelled in a way that servers read differently")
	}
	tenant, name, err := splitTenant(j.Localpart())
	if err != nil {
		return Room{}, fmt.Errorf("room address: %w", err)
	}
	return Room{JID: j, Tenant: tenant, Name: name}, nil
}

// splitTenant takes "[tenant]room" apart and returns both parts in canonical form. Jitsi's muc_domain_mapper plugin
// spells the rooms of tenants this way.
func splitTenant(s string) (tenant, name string, err error) {
	if rest, ok := strings.CutPrefix(s, "["); ok {
		tenant, name, ok = strings.Cut(rest, "]")
		if !ok {
			return "", "", fmt.Errorf("%w: [ without ]", errRoomName)
		}
		if tenant, err = CanonicalName(tenant); err != nil {
			return "", "", err
		}
		s = name
	}
	name, err = CanonicalName(s)
	return tenant, name, err
}

// names says which characters a room's name may have: those of the PRECIS FreeformClass (RFC 8264 §4.3), which refuses
// control characters, direction marks and unassigned code points. It changes nothing.
var names = precis.NewFreeform()

// folded returns a name as jitsi-meet folds the one in a page's address (react/features/base/util/uri.ts): NFKC, then
// JavaScript's toLowerCase (ECMA-262 §22.1.3.28), which knows no language and makes a sigma final at the end of a word.
func folded(name string) string {
	lower := cases.Lower(language.Und, cases.HandleFinalSigma(false)) // is not for sharing between goroutines
	return lower.String(lowerSigmas(norm.NFKC.String(name)))
}

// lowerSigmas puts each capital sigma into lower case: the final one where a cased letter stands before it and none behind
// it, with any number of case-ignorable characters between (The Unicode Standard §3.13, Final_Sigma). What is both cased and
// ignorable is ignored, as browsers do (ICU, which the cases package differs from).
func lowerSigmas(s string) string {
	if !strings.Contains(s, "Σ") {
		return s
	}
	var out strings.Builder
	inWord := false // a cased letter stands before
	for i, r := range s {
		sigma := r == 'Σ'
		switch {
		case sigma && inWord && !beginsCased(s[i+len("Σ"):]):
			r = 'ς'
		case sigma:
			r = 'σ'
		}
		out.WriteRune(r)
		if !caseIgnorable(r) {
			inWord = cased(r)
		}
	}
	return out.String()
}

func beginsCased(s string) bool {
	s = strings.TrimLeftFunc(s, caseIgnorable)
	r, _ := utf8.DecodeRuneInString(s)
	return s != "" && cased(r)
}

func cased(r rune) bool {
	return unicode.In(r, unicode.Upper, unicode.Lower, unicode.Title, unicode.Other_Uppercase, unicode.Other_Lowercase)
}

// caseIgnorable reports whether a character that NFKC leaves has the property Case_Ignorable: marks, format characters,
// modifiers, and the punctuation within words (Word_Break MidLetter, MidNumLet and Single_Quote).
func caseIgnorable(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) ||
		strings.ContainsRune("'.:\u00b7\u055f\u05f4\u2018\u2019\u2027", r)
}

// CanonicalName returns the one form in which a room's or tenant's name is compared, wherever it comes from: the
// token, a stanza or a page. jitsi-meet percent-encodes a name for the JID, so one layer of percent-encoding is taken
// off; "My%20Room", "my%20room" and "My Room" are the same. It is idempotent but for that layer. Look-alikes in other
// scripts are different names.
func CanonicalName(s string) (string, error) {
	if plain(s) {
		return s, nil
	}
	// Where a % does not begin an encoded byte, nobody encoded the name: "100%" is what it looks like.
	if decoded, err := url.PathUnescape(s); err == nil {
		s = decoded
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: not UTF-8", errRoomName)
	}
	// One pass may uncover work for the next: lower case may bring marks into another order. RFC 8264 §7 asks for
	// applying the rules until the string is stable, and for refusing one that is not after the fourth time.
	for range 4 {
		next := folded(s)
		if _, err := names.String(next); err != nil {
			return "", fmt.Errorf("%w: %w", errRoomName, err)
		}
		if next == s {
			if s == "" || strings.TrimSpace(s) != s {
				return "", fmt.Errorf("%w: empty, or a space at its end", errRoomName)
			}
			return s, nil
		}
		s = next
	}
	return "", fmt.Errorf("%w: no stable form", errRoomName)
}

// plain reports whether s is in canonical form as it stands: what nearly all room names are.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != ""
}

func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// String returns the room's name as tokens spell it, with its tenant in brackets.
func (r Room) String() string {
	if r.Tenant == "" {
		return r.Name
	}
	return "[" + r.Tenant + "]" + r.Name
}
