package token

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// Claims is what a token says, by type. Fields of absent claims are zero. Texts and names are as the issuer wrote them, or as the
// ClaimMap's table has them: package auth decides which spellings name one room.
//
// The places are those of Jitsi; a ClaimMap may have others for some of them.
type Claims struct {
	Issuer   string   // iss
	Subject  string   // sub, or the tenant's place in the ClaimMap: the tenant or the domain, "*" for any
	Audience []string // aud, which may be one string or several
	Room     string   // room: the name without the service's domain, "*" for any
	ID       string   // jti
	OneTime  bool     // one_time: the token lets in one machine

	// Sub is sub where the ClaimMap has the tenant at another place; otherwise it is empty, and Subject is sub. Mint ignores it.
	Sub string

	// NumericDates (RFC 7519 §2), in UTC, from 1970 to the end of the year 9999.
	Expires   time.Time // exp
	NotBefore time.Time // nbf
	IssuedAt  time.Time // iat

	Moderator *bool // moderator, where some issuers put it; see also User.Moderator. Nil if the affiliation is mapped

	User      User   // context.user
	Group     string // context.group
	Tenant    string // context.tenant; empty if the tenant is mapped
	RoomRegex bool   // context.room.regex: Room is a pattern (Lua's, in Jitsi)
	RoomLobby *bool  // context.room.lobby: whether the room has a lobby

	// MaxOccupants is context.room.max_occupants: how many people the room takes; 0 if absent. RoomEnds is context.room.ends, a
	// NumericDate: when the room ends.
	MaxOccupants int
	RoomEnds     time.Time

	// Features is context.features. Nil means absent, and then Jitsi lets a moderator do everything
	// (resources/prosody-plugins/mod_jitsi_permissions.lua); empty allows nothing.
	Features map[string]bool

	// Notes say, for people, which claims were passed over or could not be read as written. Such claims decide nothing. Notes name
	// the claim and hold no value. Mint ignores them.
	Notes []string
}

// User is the person named by the issuer.
type User struct {
	ID          string // context.user.id
	Name        string // context.user.name
	Email       string // context.user.email
	Avatar      string // context.user.avatar
	Affiliation string // context.user.affiliation; any text. If mapped: owner, admin, member, or empty if it says nothing
	Moderator   *bool  // context.user.moderator. Nil if the affiliation is mapped
	LobbyBypass *bool  // context.user.lobby_bypass: whether the person passes the lobby or knocks
	// HiddenFromRecorder is context.user.hidden-from-recorder. It decides nothing here: Jitsi's clients read it in Jibri.
	HiddenFromRecorder bool
}

// Claims returns the token's claims, from the places of the map; ClaimMap{} means Jitsi's places. It fails with ErrClaims if a claim
// that decides something has the wrong type, whether or not the caller uses it. The error names all such claims. Claims ignores
// what is not a field of Claims.
//
// For mapped claims it also fails if a room or tenant is not in the map's table or has more than one value, and if a name on the
// path of a claim that decides something is in another case.
func (t *Token) Claims(m ClaimMap) (*Claims, error) {
	var found findings
	top := fields{Object: t.payload, findings: &found}
	context := top.in("context")
	user := context.in("user")
	claims := &Claims{
		Issuer:    top.text("iss"),
		Audience:  top.texts("aud"),
		ID:        top.label("jti"),
		Expires:   top.time("exp"),
		NotBefore: top.time("nbf"),
		User: User{
			Email:       user.label("email"),
			Avatar:      user.label("avatar"),
			LobbyBypass: user.boolean("lobby_bypass"),
		},
		Features: context.features("features"),
	}
	// Null is no time for exp and nbf, because a token without one is good for longer than any token with one. For iat null is
	// harmless.
	if top.has("iat") {
		claims.IssuedAt = top.time("iat")
	}
	claims.readPlace(m, top, context)
	claims.readAffiliation(m, top, user)
	claims.readLabels(m, top, context, user)
	user.decidesNothing = true
	hidden := user.boolean("hidden-from-recorder")
	claims.User.HiddenFromRecorder = hidden != nil && *hidden
	room := context.in("room")
	if regex := room.boolean("regex"); regex != nil {
		claims.RoomRegex = *regex
	}
	claims.RoomLobby = room.boolean("lobby")
	// As for exp, null is refused: a token without a limit is good for more than any token with one.
	claims.MaxOccupants = room.count("max_occupants")
	claims.RoomEnds = room.time("ends")
	if oneTime := top.boolean("one_time"); oneTime != nil {
		claims.OneTime = *oneTime
	}
	if len(found.wrong) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrClaims, strings.Join(found.wrong, "; "))
	}
	claims.Notes = found.notes
	return claims, nil
}

// readPlace reads tenant and room.
func (c *Claims) readPlace(m ClaimMap, top, context fields) {
	if m.Tenant.IsZero() {
		c.Subject = top.text("sub")
		if context.has("tenant") {
			c.Tenant = context.anyText("tenant")
		}
	} else {
		c.Subject = top.needed(m.Tenant, tenantPlace)
		c.Sub = top.label("sub")
	}
	if m.Room.IsZero() {
		c.Room = top.text("room")
	} else {
		c.Room = top.needed(m.Room, roomPlace)
	}
}

// readAffiliation reads what the person asks to be.
func (c *Claims) readAffiliation(m ClaimMap, top, user fields) {
	if m.Affiliation.IsZero() {
		c.Moderator, c.User.Moderator = top.boolean("moderator"), user.boolean("moderator")
		c.User.Affiliation = user.word("affiliation")
	} else {
		c.User.Affiliation = top.affiliation(m.Affiliation)
	}
}

// readLabels reads the claims that decide nothing and can be mapped.
func (c *Claims) readLabels(m ClaimMap, top, context, user fields) {
	if m.ID.IsZero() {
		c.User.ID = user.label("id")
	} else {
		c.User.ID = top.optional(m.ID, idPlace)
	}
	if m.Name.IsZero() {
		c.User.Name = user.label("name")
	} else {
		c.User.Name = top.optional(m.Name, namePlace)
	}
	if m.Group.IsZero() {
		c.Group = context.label("group")
	} else {
		c.Group = top.first(m.Group, groupPlace)
	}
}

// findings collects what is wrong with the claims of one token, and what is odd. No line occurs twice.
type findings struct{ wrong, notes []string }

// fields reads the members of one object of the payload. The values count only if nothing is wrong in the end.
type fields struct {
	path string // of the object, with a dot at the end: "context.user."
	strictjson.Object
	*findings // of the whole token
	// decidesNothing makes refuse only note.
	decidesNothing bool
}

func (f fields) refuse(name, want string) {
	if f.decidesNothing {
		f.note(name, "passed over, want "+want)
		return
	}
	if line := f.path + name + ": want " + want; !slices.Contains(f.wrong, line) {
		f.wrong = append(f.wrong, line)
	}
}

func (f fields) note(name, what string) {
	if line := f.path + name + ": " + what; !slices.Contains(f.notes, line) {
		f.notes = append(f.notes, line)
	}
}

// has reports whether the member is there and not null: Java and many ORMs write null for an absent one.
func (f fields) has(name string) bool {
	value, _ := f.Get(name)
	return value != nil
}

// read returns the member of that name. present is false if it is absent or no T; the latter is refused.
func read[T any](f fields, name, want string) (value T, present bool) {
	member, present := f.Get(name)
	if !present {
		return value, false
	}
	value, isT := member.(T)
	if !isT {
		f.refuse(name, want)
	}
	return value, isT
}

// in returns the fields of the object of that name. It has none if it is absent, null, or an empty array, as PHP writes an empty
// object.
func (f fields) in(name string) fields {
	value, _ := f.Get(name)
	inner := f
	inner.path, inner.Object = f.path+name+".", nil
	if o, isObject := value.(strictjson.Object); isObject {
		inner.Object = o
	} else if !isEmpty(value) {
		f.refuse(name, "an object")
	}
	return inner
}

// isEmpty reports whether a value is null, or an empty object or array.
func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case []any:
		return len(v) == 0
	case strictjson.Object:
		return len(v) == 0
	}
	return false
}

// text reads a string that decides something. It refuses an empty one: that would look like an absent one, and an absent room means
// more than any value does.
func (f fields) text(name string) string {
	const want = "a string that is not empty"
	text, present := read[string](f, name, want)
	if present && text == "" {
		f.refuse(name, want)
	}
	return text
}

// anyText reads a string; an empty one counts as absent.
func (f fields) anyText(name string) string {
	text, _ := read[string](f, name, "a string")
	return text
}

// word reads an affiliation, known or not; "" if it is absent or null. It refuses an empty one, which would look like an absent one.
func (f fields) word(name string) string {
	value, _ := f.Get(name)
	word, _ := value.(string)
	if value != nil && word == "" {
		f.refuse(name, wantAffiliation(value))
	}
	return word
}

// UnknownAffiliation returns the error of a token with a word in context.user.affiliation that Affiliation does not know. It quotes
// the word, cut and cleaned, because only the operator can say what it means.
func UnknownAffiliation(word string) error {
	return fmt.Errorf("%w: context.user.affiliation: want %s", ErrClaims, wantAffiliation(word))
}

func wantAffiliation(found any) string {
	return "owner, admin, member, moderator or teacher, found " + shown(found) +
		"; a claim map (claims.affiliation_values) can say what else means one of them"
}

// shown returns a value for people: text cut and cleaned, see ForLog.
func shown(value any) string {
	switch v := value.(type) {
	case nil:
		return "null"
	case []any:
		return "an array"
	case strictjson.Object:
		return "an object"
	case string:
		return `"` + ForLog(v) + `"`
	}
	return ForLog(fmt.Sprint(value))
}

const wantLabel = "a string or a number"

// label reads a text that is for people and decides nothing, so no value refuses the token. A number is read as its text: issuers
// send the ids of their databases.
func (f fields) label(name string) string {
	value, _ := f.Get(name)
	text, isText := labelText(value)
	if !isText {
		f.note(name, "passed over, want "+wantLabel)
	}
	return text
}

func labelText(value any) (text string, isText bool) {
	switch v := value.(type) {
	case string:
		return v, true
	case strictjson.Number:
		return string(v), true
	}
	return "", isEmpty(value)
}

// texts reads a string, or an array of them (RFC 7519 §4.1.3).
func (f fields) texts(name string) []string {
	value, present := f.Get(name)
	if !present {
		return nil
	}
	elements, isArray := value.([]any)
	if !isArray {
		elements = []any{value}
	}
	texts := make([]string, len(elements))
	for i, element := range elements {
		if texts[i], _ = element.(string); texts[i] == "" {
			f.refuse(name, "strings that are not empty")
		}
	}
	return texts
}

// year10000 is the first second, since 1970, that cannot be written in JSON, in logs or in most programs (RFC 3339 §5.6 has four
// digits for the year). Milliseconds since 1970 lie beyond it for all of today's times.
const year10000 = 253402300800

// time reads a NumericDate: seconds since 1970, maybe with a fraction.
func (f fields) time(name string) time.Time {
	const want = "a number of seconds since 1970"
	text, present := read[strictjson.Number](f, name, want)
	if !present {
		return time.Time{}
	}
	// A number out of a float's range becomes infinite.
	seconds, _ := strconv.ParseFloat(string(text), 64)
	switch {
	case seconds < 0:
		f.refuse(name, want)
		return time.Time{}
	case seconds >= year10000:
		f.refuse(name, want+", before the year 10000; milliseconds, such as Date.now() gives, must be divided by 1000")
		return time.Time{}
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC()
}

// count reads a whole number of at least 1, written as one: not 30.0, and not 3e1. A larger one than any room has people counts as
// the largest.
func (f fields) count(name string) int {
	const want = "a whole number of at least 1"
	text, present := read[strictjson.Number](f, name, want)
	if !present {
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 32)
	if errors.Is(err, strconv.ErrRange) && n > 0 {
		err = nil // n is the largest
	}
	if err != nil || n < 1 {
		f.refuse(name, want)
		return 0
	}
	return int(n)
}

// boolean reads true or false, also as the exact texts "true" and "false" of 8x8's documentation and of issuers' templates; nil if
// absent or null.
func (f fields) boolean(name string) *bool {
	value, _ := f.Get(name)
	flag, isFlag := boolean(value)
	switch {
	case value == nil:
		return nil
	case !isFlag:
		f.refuse(name, "true or false")
		return nil
	}
	return &flag
}

func boolean(value any) (flag, isFlag bool) {
	switch value {
	case true, "true":
		return true, true
	case false, "false":
		return false, true
	}
	return false, false
}

// features reads an object of flags; nil if it is absent or null. It decides nothing in usher. A flag that cannot be read becomes
// false, because for Jitsi absent features allow everything.
func (f fields) features(name string) map[string]bool {
	if !f.has(name) {
		return nil
	}
	f.decidesNothing = true
	f = f.in(name)
	flags := make(map[string]bool, len(f.Object))
	for _, m := range f.Object {
		flag, isFlag := boolean(m.Value)
		if !isFlag {
			f.note("*", "counts as false, want true or false") // the issuer invents the name, so it does not go to the log
		}
		flags[m.Name] = flag
	}
	return flags
}
