package token

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// maxUnread caps the claims that RolesNotRead names.
const maxUnread = 16

// RolesNotRead returns, for people, the claims that are named like a role and that Claims does not read with this map. Some issuers
// put the role one level too high, or call it "role", and wonder why nobody gets it. Each entry has the path as in NewClaim, and the
// value if it is a plain one, both cut and cleaned. Entries are few, in the order of the token, and unverified.
func (t *Token) RolesNotRead(m ClaimMap) []string {
	read := [][]string{{"context", "features"}} // Claims reads all of its members
	if m.Affiliation.IsZero() {
		read = append(read, affiliationPlace, []string{"context", "user", "moderator"}, []string{"moderator"})
	}
	for _, place := range []struct {
		claim Claim
		jitsi []string
	}{
		{m.Affiliation, affiliationPlace}, {m.ID, idPlace}, {m.Name, namePlace}, {m.Group, groupPlace}, {m.Room, roomPlace},
		{m.Tenant, tenantPlace},
	} {
		switch {
		case place.claim.IsZero():
		case len(place.claim.names) > 0:
			read = append(read, place.claim.names)
		default:
			read = append(read, place.jitsi)
		}
	}
	var found []string
	more := 0
	var walk func(path []string, o strictjson.Object)
	walk = func(path []string, o strictjson.Object) {
		for _, m := range o {
			isRead := slices.ContainsFunc(read, func(names []string) bool {
				last := len(names) - 1
				return last == len(path) && names[last] == m.Name && slices.Equal(names[:last], path)
			})
			inner, isObject := m.Value.(strictjson.Object)
			like := likeRole(m.Name)
			if isRead || !like && !isObject {
				continue
			}
			at := append(slices.Clip(path), m.Name)
			switch {
			case !like:
				walk(at, inner)
			case len(found) == maxUnread:
				more++
			case isObject || isEmpty(m.Value):
				found = append(found, ForLog(Claim{names: at}.Describe("")))
			default:
				found = append(found, fmt.Sprintf("%s (%s)", ForLog(Claim{names: at}.Describe("")), shown(m.Value)))
			}
		}
	}
	walk(nil, t.payload)
	if more > 0 {
		found = append(found, fmt.Sprintf("%d more", more))
	}
	return found
}

// likeRole reports whether the name of a claim looks like that of a role.
func likeRole(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"affiliation", "moderator", "role", "owner", "admin"}, func(word string) bool {
		return strings.Contains(name, word)
	})
}
