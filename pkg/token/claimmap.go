package token

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// ClaimMap says where an issuer's tokens have the claims that Jitsi has fixed places for. A zero Claim means Jitsi's own place and
// rules, so the zero ClaimMap is Jitsi.
//
// A mapped claim replaces Jitsi's place, which is then neither read nor checked. A mapped affiliation also replaces
// context.user.moderator and the moderator at the top, a mapped tenant also context.tenant.
type ClaimMap struct {
	// Affiliation is context.user.affiliation by default. In an array the strongest element counts: owner, then admin, then member.
	// Null and values that are not in the table say nothing. Without a table, a value is a word that Affiliation knows, or true for
	// owner, or false for member, also as the texts "true" and "false". Other values are refused, but passed over in an array,
	// because roles are for many things. A role named admin may be meant for another program: a table is safer.
	Affiliation Claim
	// ID is context.user.id by default, Name context.user.name: one value. Anything else, and a value that is not in the table,
	// counts as absent: it decides nothing and refuses no token.
	ID, Name Claim
	// Group is context.group by default: the first value that has a meaning. It refuses no token, either.
	Group Claim
	// Room is room by default, Tenant sub: one value, or the claim is absent. A value that is not in the table is refused: what
	// nobody mapped must open nothing.
	Room, Tenant Claim
}

// Claim is a place in a token, and what the values there mean. The zero Claim is Jitsi's own place. A Claim never changes;
// goroutines may share it.
//
// A value is a string, true or false, or an integer in JSON's shortest form, each read as text: "true", "100". It may also be an
// array of these. Anything else is refused if the claim decides something, otherwise passed over.
type Claim struct {
	names  []string          // the path; none for Jitsi's place
	values map[string]string // the table; without one a value means what it says
}

// wildcard, in a table of values, stands for all values that the table does not name.
const wildcard = "*"

// maxPath caps a path, in bytes. It leaves room for names that are addresses.
const maxPath = 512

// NewClaim returns the claim at this path: names joined by dots. A backslash stands before a dot or a backslash that belongs to a
// name, as in
//
//	realm_access.roles
//	https://example\.com/roles
//
// An empty path is Jitsi's own place. The table says what each value means; "*" stands for all values that it does not name.
// Without a table, values mean what they say. The error says what is wrong with the path or the table.
func NewClaim(path string, values map[string]string) (Claim, error) {
	names, err := SplitPath(path)
	if err != nil {
		return Claim{}, err
	}
	if len(values) == 0 {
		return Claim{names: names}, nil
	}
	for value, meaning := range values {
		// It would look like an absent claim, and an absent room means more than any value does.
		if meaning == "" {
			return Claim{}, fmt.Errorf("the value %q has no meaning: leave it out, or say what it means", value)
		}
	}
	return Claim{names: names, values: maps.Clone(values)}, nil
}

// SplitPath returns the names in a path as of NewClaim; none for the empty path.
func SplitPath(path string) ([]string, error) {
	switch {
	case path == "":
		return nil, nil
	case len(path) > maxPath:
		return nil, fmt.Errorf("a path of %d bytes: it may have %d at most", len(path), maxPath)
	case !utf8.ValidString(path):
		return nil, errors.New("a path that is not UTF-8")
	}
	var names []string
	var name strings.Builder
	end := func() error {
		if name.Len() == 0 {
			return fmt.Errorf("path %q: an empty name; names are joined by single dots", path)
		}
		names = append(names, name.String())
		name.Reset()
		return nil
	}
	for i := 0; i < len(path); i++ {
		switch path[i] {
		case '.':
			if err := end(); err != nil {
				return nil, err
			}
		case '\\':
			if i++; i == len(path) || path[i] != '.' && path[i] != '\\' {
				return nil, fmt.Errorf(`path %q: a backslash stands before a dot or a backslash, and nowhere else`, path)
			}
			name.WriteByte(path[i])
		default:
			name.WriteByte(path[i])
		}
	}
	if err := end(); err != nil {
		return nil, err
	}
	if len(names) > strictjson.MaxDepth {
		return nil, fmt.Errorf("a path of %d names: a token is at most %d deep", len(names), strictjson.MaxDepth)
	}
	return names, nil
}

// IsZero reports whether the claim is at Jitsi's own place and has no table.
func (c Claim) IsZero() bool { return len(c.names) == 0 && len(c.values) == 0 }

// Describe returns, for people, the path as in NewClaim, and in parentheses the table. jitsi is the path if the claim is at Jitsi's
// own place.
func (c Claim) Describe(jitsi string) string {
	path := jitsi
	if len(c.names) > 0 {
		escaped := make([]string, len(c.names))
		for i, name := range c.names {
			escaped[i] = strings.NewReplacer(`\`, `\\`, `.`, `\.`).Replace(name)
		}
		path = strings.Join(escaped, ".")
	}
	if len(c.values) == 0 {
		return path
	}
	var table []string
	for _, value := range slices.Sorted(maps.Keys(c.values)) {
		table = append(table, value+": "+c.values[value])
	}
	return path + " (" + strings.Join(table, ", ") + ")"
}

// meaning returns what a value means, and whether it means anything.
func (c Claim) meaning(value string) (string, bool) {
	if len(c.values) == 0 {
		return value, true
	}
	meaning, known := c.values[value]
	if !known {
		meaning, known = c.values[wildcard]
	}
	return meaning, known
}

// Affiliation returns the affiliation that a word in a token means: "owner", "admin" or "member"; "" for an unknown word. The words
// are Jitsi's (resources/prosody-plugins/mod_token_affiliation.lua), and admin, which Jitsi lacks.
func Affiliation(word string) string {
	switch word {
	case "owner", "moderator", "teacher":
		return "owner"
	case "admin", "member":
		return word
	}
	return ""
}

// stronger returns the stronger of two results of Affiliation.
func stronger(a, b string) string {
	rank := []string{"", "member", "admin", "owner"}
	if slices.Index(rank, b) > slices.Index(rank, a) {
		return b
	}
	return a
}

// Jitsi's own places.
var (
	affiliationPlace = []string{"context", "user", "affiliation"}
	idPlace          = []string{"context", "user", "id"}
	namePlace        = []string{"context", "user", "name"}
	groupPlace       = []string{"context", "group"}
	roomPlace        = []string{"room"}
	tenantPlace      = []string{"sub"}
)

// mapped is the value of a mapped claim in a token.
type mapped struct {
	fields          // of the object that holds it
	name     string // in that object
	claim    Claim
	value    any // nil if absent, and if null
	absent   bool
	elements []any // of the array, or the value alone
}

// at follows the claim's path from the top of the payload, or Jitsi's own if the claim has none. It refuses another case of a name
// on the way, as for Jitsi's own names; see strictjson.Object.Spells. Null on the way means that the claim is null.
func (f fields) at(c Claim, own []string) mapped {
	names := own
	if len(c.names) > 0 {
		names = c.names
	}
	var value any
	var present bool
	for i, name := range names {
		if !f.Spells([]string{name}) {
			f.refuse(name, "this name and not a variant in another case")
		}
		value, present = f.Get(name)
		if i == len(names)-1 || present && value == nil {
			names = names[:i+1]
			break
		}
		f = f.in(name)
	}
	elements, isArray := value.([]any)
	if !isArray {
		elements = []any{value}
	}
	return mapped{fields: f, name: names[len(names)-1], claim: c, value: value, absent: !present, elements: elements}
}

const wantText = "a string, true, false or an integer, or an array of these"

// text returns an element as text, and refuses one that is none.
func (m mapped) text(element any) string {
	text, isText := asText(element)
	if !isText {
		m.refuse(m.name, wantText)
	}
	return text
}

// asText returns the text of a string, a boolean, or an integer in its shortest form, so that each integer has one text.
func asText(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case bool:
		if v {
			return "true", true
		}
		return "false", true
	case strictjson.Number:
		// JSON has already refused leading zeros and a sign without digits.
		digits := strings.TrimPrefix(string(v), "-")
		return string(v), v != "-0" && strings.Trim(digits, "0123456789") == ""
	}
	return "", false
}

// needed reads a claim that decides something: a room or a tenant.
func (f fields) needed(c Claim, own []string) string {
	m := f.at(c, own)
	if m.absent {
		return ""
	}
	if len(m.elements) != 1 {
		m.refuse(m.name, "one value")
		return ""
	}
	text := m.text(m.elements[0])
	meaning, known := c.meaning(text)
	switch {
	case !known:
		m.refuse(m.name, "a value of the table")
	case meaning == "":
		m.refuse(m.name, "a value that is not empty")
	}
	return meaning
}

// optional reads a claim that decides nothing: an id or a name.
func (f fields) optional(c Claim, own []string) string {
	f.decidesNothing = true
	m := f.at(c, own)
	if len(m.elements) > 1 {
		m.refuse(m.name, "one value")
		return ""
	}
	return m.label()
}

// first reads a claim that decides nothing and may have several values: a group.
func (f fields) first(c Claim, own []string) string {
	f.decidesNothing = true
	return f.at(c, own).label()
}

// label returns the first meaning among the elements. An element that is no text has none.
func (m mapped) label() string {
	var found string
	for _, element := range m.elements {
		text, isText := asText(element)
		if !isText {
			text, isText = labelText(element)
		}
		switch {
		case !isText:
			m.refuse(m.name, wantLabel)
		case !isEmpty(element):
			meaning, _ := m.claim.meaning(text)
			found = cmp.Or(found, meaning)
		}
	}
	return found
}

// affiliation reads a mapped affiliation: owner, admin or member, or "" if the claim says nothing.
func (f fields) affiliation(c Claim) string {
	m := f.at(c, affiliationPlace)
	if m.value == nil {
		return ""
	}
	if moderator, isBool := boolean(m.value); isBool && len(c.values) == 0 {
		if moderator {
			return "owner"
		}
		return "member"
	}
	_, isArray := m.value.([]any)
	var found string
	for _, element := range m.elements {
		text, isText := asText(element)
		meaning, known := c.meaning(text)
		affiliation := Affiliation(meaning)
		switch {
		case !isText:
			m.refuse(m.name, wantText)
		case affiliation != "":
			found = stronger(found, affiliation)
		case len(c.values) > 0 && known:
			m.refuse(m.name, "a table of values that mean owner, admin or member")
		case len(c.values) == 0 && !isArray:
			m.refuse(m.name, wantAffiliation(element))
		}
	}
	return found
}
