package auth

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/secure/precis"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
	"mellium.im/xmpp/jid"
)

// Room is the parsed address of a room. The zero value is no room.
type Room struct {
	// JID is the room's bare address on the MUC service.
	JID jid.JID
	// Tenant is the part in brackets of "[tenant]room", empty for a room without one. Canonical, see CanonicalName.
	Tenant string
	// Name is the room's name without its tenant. Canonical, see CanonicalName.
	Name string
}

// Service is the domain of the MUC service that holds the room.
func (r Room) Service() string { return r.JID.Domainpart() }

var errRoomName = errors.New("not a room name")

// ParseRoom parses a bare room JID. It refuses an address that could be one room here and another one on the server.
func ParseRoom(address string) (Room, error) {
	j, err := jid.Parse(address)
	switch {
	case err != nil:
		return Room{}, fmt.Errorf("room address: %w", err)
	case j.Localpart() == "":
		return Room{}, errors.New("room address: no room name before the @")
	case j.Domainpart() == "" || strings.HasSuffix(j.Domainpart(), "."):
		// mellium takes a dot off the end (RFC 7622 §3.2) and does not check what is left.
		return Room{}, errors.New("room address: no domain after the @")
	case j.Resourcepart() != "":
		return Room{}, errors.New("room address: a bare JID is expected, found one with a resource")
	}
	// mellium prepares a localpart by PRECIS (RFC 7622), Prosody a node by Nodeprep. If they disagree, usher would open and
	// watch another room than the one that the client enters.
	local, _, _ := strings.Cut(address, "@")
	switch prepared, err := nodeprep(local); {
	case err != nil:
		return Room{}, fmt.Errorf("room address: servers take no such name: %w", err)
	case prepared != j.Localpart():
		return Room{}, fmt.Errorf("room address: servers read its name as %+q, usher as %+q", prepared, j.Localpart())
	}
	tenant, name, err := splitTenant(j.Localpart())
	if err != nil {
		return Room{}, fmt.Errorf("room address: %w", err)
	}
	return Room{JID: j, Tenant: tenant, Name: name}, nil
}

// splitTenant splits "[tenant]room" and returns both parts in canonical form. Jitsi's muc_domain_mapper plugin spells the rooms
// of tenants this way.
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

var (
	mapped = stringprep.Profile{
		// Unicode has corrected the normal form of five ideographs (Corrigendum #4); Nodeprep keeps that of Unicode 3.2.
		Mappings: []stringprep.Mapping{stringprep.TableB1, stringprep.TableB2, {
			'\U0002f868': {'\U0002136a'}, '\U0002f874': {'\u5f33'}, '\U0002f91f': {'\u43ab'}, '\U0002f95f': {'\u7aae'}, '\U0002f9bf': {'\u4d57'},
		}},
		Normalize: true,
	}
	// prohibited also has U+034F, which table B.1 deletes: x/text puts it after 30 marks, servers do not.
	prohibited = stringprep.Profile{Prohibits: []stringprep.Set{
		stringprep.TableC1_1, stringprep.TableC1_2, stringprep.TableC2_1, stringprep.TableC2_2, stringprep.TableC3, stringprep.TableC4,
		stringprep.TableC5, stringprep.TableC6, stringprep.TableC7, stringprep.TableC8, stringprep.TableC9,
		{{'"', '"'}, {'&', '\''}, {'/', '/'}, {':', ':'}, {'<', '<'}, {'>', '>'}, {'@', '@'}, {'\u034f', '\u034f'}},
	}}
)

// nodeprep prepares a node as Prosody does (RFC 3920 appendix A): with ICU (usprep_prepare), and not strictly. So code points
// that Unicode 3.2 lacks stay as they are, normalization stops at them, and directions are those of today's Unicode.
func nodeprep(node string) (string, error) {
	if plain(node) {
		return node, nil
	}
	var out strings.Builder
	for node != "" {
		end := strings.IndexFunc(node, stringprep.TableA1.Contains)
		if end < 0 {
			end = len(node)
		}
		known, err := mapped.Prepare(node[:end])
		if err != nil {
			return "", err
		}
		_, size := utf8.DecodeRuneInString(node[end:])
		out.WriteString(known)
		out.WriteString(node[end : end+size])
		node = node[end+size:]
	}
	prepared := out.String()
	if strings.ContainsFunc(prepared, rightToLeft) {
		first, _ := utf8.DecodeRuneInString(prepared)
		last, _ := utf8.DecodeLastRuneInString(prepared)
		if strings.ContainsFunc(prepared, leftToRight) || !rightToLeft(first) || !rightToLeft(last) {
			return "", errors.New("written from right to left, but not from end to end (RFC 3454 §6)")
		}
	}
	return prohibited.Prepare(prepared)
}

func rightToLeft(r rune) bool {
	p, _ := bidi.LookupRune(r)
	return p.Class() == bidi.R || p.Class() == bidi.AL
}

func leftToRight(r rune) bool {
	p, _ := bidi.LookupRune(r)
	return p.Class() == bidi.L
}

// names says which characters a room's name may have: those of the PRECIS FreeformClass (RFC 8264 §4.3), which refuses
// control characters, direction marks and unassigned code points. It changes nothing.
var names = precis.NewFreeform()

// joins reports whether a character is invisible but part of the spelling of words and emoji: the joiners (Persian "می‌خواهم",
// families), variation selectors (a red heart) and tags (the flag of Wales). The FreeformClass refuses most of them, but
// jitsi-meet keeps them, so names that differ in them are different rooms.
func joins(r rune) bool {
	return r == '\u200c' || r == '\u200d' || unicode.Is(unicode.Variation_Selector, r) || '\U000e0020' <= r && r <= '\U000e007f'
}

// visible returns a name without the characters that joins reports.
func visible(name string) string {
	return strings.Map(func(r rune) rune {
		if joins(r) {
			return -1
		}
		return r
	}, name)
}

// folded folds a name as jitsi-meet does with the name in a page's address (react/features/base/util/uri.ts): NFKC, then
// JavaScript's toLowerCase (ECMA-262 §22.1.3.28), which depends on no language and makes a sigma final at the end of a word.
func folded(name string) string {
	lower := cases.Lower(language.Und, cases.HandleFinalSigma(false)) // goroutines must not share it
	return lower.String(lowerSigmas(norm.NFKC.String(name)))
}

// lowerSigmas puts each capital sigma into lower case. The sigma becomes final if a cased letter stands before it and none
// behind it, with any number of case-ignorable characters between (The Unicode Standard §3.13, Final_Sigma). Characters that
// are both cased and ignorable are ignored, as in browsers (ICU); the cases package differs.
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

// caseIgnorable reports whether a character has the property Case_Ignorable: marks, format characters, modifiers, and the
// punctuation within words (Word_Break MidLetter, MidNumLet and Single_Quote). It knows only characters that NFKC leaves.
func caseIgnorable(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) ||
		strings.ContainsRune("'.:\u00b7\u055f\u05f4\u2018\u2019\u2027", r)
}

// CanonicalName returns the one form in which usher compares names of rooms and tenants, whether they come from the token, a
// stanza or a page. jitsi-meet percent-encodes a name for the JID, so CanonicalName takes one layer of percent-encoding off:
// "My%20Room", "my%20room" and "My Room" are the same. But for that layer it is idempotent. Look-alikes in other scripts are
// different names, and so are names that differ in joiners or variation selectors, which jitsi-meet keeps.
func CanonicalName(s string) (string, error) {
	if plain(s) {
		return s, nil
	}
	// If a % does not begin an encoded byte, nobody encoded the name: "100%" means what it says.
	if decoded, err := url.PathUnescape(s); err == nil {
		s = decoded
	}
	if !utf8.ValidString(s) {
		return "", fmt.Errorf("%w: not UTF-8", errRoomName)
	}
	// One pass may uncover work for the next: lower case may change the order of marks. RFC 8264 §7 says to apply the rules
	// until the string is stable, and to refuse one that is not stable after the fourth time.
	for range 4 {
		next := folded(s)
		shown := visible(next)
		if _, err := names.String(shown); err != nil {
			return "", fmt.Errorf("%w: %w", errRoomName, err)
		}
		if next == s {
			if shown == "" || strings.TrimSpace(shown) != shown {
				return "", fmt.Errorf("%w: empty, or a space at its end", errRoomName)
			}
			return s, nil
		}
		s = next
	}
	return "", fmt.Errorf("%w: no stable form", errRoomName)
}

// plain reports whether s is obviously in canonical form, as nearly all room names are.
func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return s != ""
}

// String returns the room's name as tokens spell it, with its tenant in brackets.
func (r Room) String() string {
	if r.Tenant == "" {
		return r.Name
	}
	return "[" + r.Tenant + "]" + r.Name
}
