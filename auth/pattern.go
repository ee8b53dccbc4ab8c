package auth

import (
	"fmt"
	"net/url"
	"path"
	"strings"
)

// MatchRoom reports whether a pattern of rooms fits a room. "standup-*" fits rooms without a tenant, "[acme]standup-*" those of the
// tenant acme, and "[*]*" all rooms. The part behind the brackets is as Rule.Match, and the tenant as Rule.Tenant. A pattern that
// cannot be read fits no room; see CheckPattern.
func MatchRoom(pattern string, room Room) bool {
	r, ok := patternRule(pattern)
	return ok && room.Name != "" && r.fits(room)
}

// CheckPattern returns an error if a pattern of rooms cannot be read, or fits no room for its spelling.
func CheckPattern(pattern string) error {
	r, ok := patternRule(pattern)
	if !ok {
		return fmt.Errorf("%s: [ without ]: write [tenant]name, or the name alone for rooms without a tenant", pattern)
	}
	if _, err := path.Match(r.Match, ""); err != nil || r.Match == "" {
		return fmt.Errorf("%s: not a pattern: write a name, with * for any characters and ? for one", pattern)
	}
	if strings.ToLower(r.Match) != r.Match {
		return fmt.Errorf("%s: fits no room, because names of rooms are in lower case", pattern)
	}
	return nil
}

func patternRule(pattern string) (Rule, bool) {
	rest, bracket := strings.CutPrefix(pattern, "[")
	if !bracket {
		return Rule{Match: pattern}, true
	}
	tenant, name, ok := strings.Cut(rest, "]")
	return Rule{Match: name, Tenant: tenant}, ok && tenant != ""
}

// ParseRoomName reads a room's name as tokens have it: "name", or "[tenant]name". The Room has no JID.
func ParseRoomName(text string) (Room, error) {
	tenant, name, err := splitTenant(text)
	if err != nil {
		return Room{}, err
	}
	return Room{Tenant: tenant, Name: name}, nil
}

// Claim returns how a token spells the room, so that it means this room and no other: ParseRoomName of it is the room. A name that
// would be read as another one, such as "100%25" or the wildcard, is percent-encoded. It returns "" if there is no such spelling.
func (r Room) Claim() string {
	for _, encode := range []func(string) string{func(s string) string { return s }, url.PathEscape} {
		claim := encode(r.Name)
		if r.Tenant != "" {
			claim = "[" + encode(r.Tenant) + "]" + claim
		}
		if again, err := ParseRoomName(claim); err == nil && again.Tenant == r.Tenant && again.Name == r.Name && claim != wildcard {
			return claim
		}
	}
	return ""
}
