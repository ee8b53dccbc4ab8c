package token

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// Claims are what a token says, by type. Fields of claims that are absent are zero. Texts and names are as the issuer
// wrote them, or as the ClaimMap's table has them: which spellings name one room is not decided here.
//
// The places are those of Jitsi; a ClaimMap may have others for some of them.
type Claims struct {
	Issuer   string   // iss
	Subject  string   // sub, or the tenant's place in the ClaimMap: the tenant or the domain, "*" for any
	Audience []string // aud, which may be one string or several
	Room     string   // room: the name without the service's domain, "*" for any
	ID       string   // jti

	// NumericDates (RFC 7519 §2), in UTC, from 1970 to the end of the year 9999.
	Expires   time.Time // exp
	NotBefore time.Time // nbf
	IssuedAt  time.Time // iat

	Moderator *bool // moderator, where some issuers put it; see also User.Moderator. Nil if the affiliation is mapped

	User      User   // context.user
	Group     string // context.group
	Tenant    string // context.tenant; empty if the tenant is mapped
	RoomRegex bool   // context.room.regex: Room is a pattern (Lua's, in Jitsi)
	RoomLobby *bool  // context.room.lobby: the room has a lobby, or is to have none
	// Features is context.features. Nil means absent, and then Jitsi lets a moderator do everything
	// (resources/prosody-plugins/mod_jitsi_permissions.lua); empty allows nothing.
	Features map[string]bool

	// Notes say, for people, which claims were passed over, or read otherwise than they stand there. Such claims decide
	// nothing. Notes name the claim and hold no value. Mint has no use for them.
	Notes []string
}

// User is the person that the issuer vouches for.
type User struct {
	ID          string // context.user.id
	Name        string // context.user.name
	Email       string // context.user.email
	Avatar      string // context.user.avatar
	Affiliation string // context.user.affiliation; any text. If mapped: owner, admin, member, or empty if it says nothing
	Moderator   *bool  // context.user.moderator. Nil if the affiliation is mapped
	LobbyBypass *bool  // context.user.lobby_bypass: passes the lobby, or has to knock
}

// Claims returns the token's claims, which are where the map says; ClaimMap{} is Jitsi's places. It fails with ErrClaims
// if a claim that decides something is of the wrong type, whether or not the caller has a use for it. The error names all
// such claims. Claims that are not fields of Claims are ignored.
//
// Of mapped claims it also fails for a room or tenant that the map's table does not have, for more values than one of
// a room or tenant, and for a name on the path of a claim that decides something that is spelled in another case.
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
	// Null is no time, because a token without exp or nbf is good for longer than any with one. Without iat it is not.
	if top.has("iat") {
		claims.IssuedAt = top.time("iat")
	}
	if m.Tenant.IsZero() {
		claims.Subject = top.text("sub")
		if context.has("tenant") {
			claims.Tenant = context.anyText("tenant")
		}
	} else {
		claims.Subject = top.needed(m.Tenant, tenantPlace)
	}
	if m.Room.IsZero() {
		claims.Room = top.text("room")
	} else {
		claims.Room = top.needed(m.Room, roomPlace)
	}
	if m.Affiliation.IsZero() {
		claims.Moderator, claims.User.Moderator = top.boolean("moderator"), user.boolean("moderator")
		claims.User.Affiliation = user.word("affiliation")
	} else {
		claims.User.Affiliation = top.affiliation(m.Affiliation)
	}
	if m.ID.IsZero() {
		claims.User.ID = user.label("id")
	} else {
		claims.User.ID = top.optional(m.ID, idPlace)
	}
	if m.Name.IsZero() {
		claims.User.Name = user.label("name")
	} else {
		claims.User.Name = top.optional(m.Name, namePlace)
	}
	if m.Group.IsZero() {
		claims.Group = context.label("group")
	} else {
		claims.Group = top.first(m.Group, groupPlace)
	}
	room := context.in("room")
	if regex := room.boolean("regex"); regex != nil {
		claims.RoomRegex = *regex
	}
	claims.RoomLobby = room.boolean("lobby")
	if len(found.wrong) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrClaims, strings.Join(found.wrong, "; "))
	}
	claims.Notes = found.notes
	return claims, nil
}

// findings are what was wrong with the claims of one token, and what was odd. Each line is there once.
type findings struct{ wrong, notes []string }

// fields reads the members of one object of the payload. What has been read is worth something only if nothing is wrong in
// the end.
type fields struct {
	path string // of the object, with a dot at the end: "context.user."
	strictjson.Object
	*findings // of the whole token
	// decidesNothing has what would be wrong passed over, and noted.
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

// has reports whether the member is there and not null, which is what Java and many an ORM write for an absent one.
func (f fields) has(name string) bool {
	value, _ := f.Get(name)
	return value != nil
}

// read returns the member of that name. present is false if it is absent, and if it is no T, which is refused.
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

// in returns the fields of the object of that name: none if it is absent or null, or an empty array, which is how PHP
// writes an empty object.
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

// isEmpty reports whether a value is null, or an object or array with nothing in it.
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

// text reads a string that decides something. An empty one is refused, because it would read as if it were absent,
// and for a room that means more than any value does.
func (f fields) text(name string) string {
	const want = "a string that is not empty"
	text, present := read[string](f, name, want)
	if present && text == "" {
		f.refuse(name, want)
	}
	return text
}

// anyText reads a string where empty is as good as absent.
func (f fields) anyText(name string) string {
	text, _ := read[string](f, name, "a string")
	return text
}

// word reads an affiliation, known or not; "" if it is absent or null. An empty one is refused: it would read as if it were
// absent.
func (f fields) word(name string) string {
	value, _ := f.Get(name)
	word, _ := value.(string)
	if value != nil && word == "" {
		f.refuse(name, wantAffiliation(value))
	}
	return word
}

// UnknownAffiliation returns the error of a token with a word in context.user.affiliation that Affiliation does not know. It
// holds the word, cut and cleaned: only the operator can say what it means.
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

// label reads a text that is for people to look at and decides nothing, so that nothing there refuses a token. Numbers are
// text as they are written: issuers send the ids of their databases.
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

// year10000 is the second, since 1970, from which on times cannot be written in JSON, in logs or in most programs
// (RFC 3339 §5.6 has four digits for the year). Milliseconds since 1970 lie beyond it as long as anybody has made them.
const year10000 = 253402300800

// time reads a NumericDate: seconds since 1970, maybe with a fraction.
func (f fields) time(name string) time.Time {
	const want = "a number of seconds since 1970"
	text, present := read[strictjson.Number](f, name, want)
	if !present {
		return time.Time{}
	}
	// What is out of a float's range is infinite.
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

// boolean reads true or false, also as the exact texts "true" and "false", which 8x8's documentation and issuers' templates
// have; nil if absent or null.
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

// features reads an object that holds flags only; nil if it is absent or null. It decides nothing here. What cannot be
// read allows nothing, since Jitsi takes absent features for all of them.
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
			f.note("*", "counts as false, want true or false") // the name is the issuer's invention and not for the log
		}
		flags[m.Name] = flag
	}
	return flags
}
