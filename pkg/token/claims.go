package token

import (
	"fmt"
	"math"
	"strconv"
	"time"
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

	// NumericDates (RFC 7519 §2), in UTC.
	Expires   time.Time // exp
	NotBefore time.Time // nbf
	IssuedAt  time.Time // iat

	Moderator *bool // moderator, where some issuers put it; see also User.Moderator. Nil if the affiliation is mapped

	User      User            // context.user
	Group     string          // context.group
	Tenant    string          // context.tenant; empty if the tenant is mapped
	RoomRegex bool            // context.room.regex: Room is a pattern (Lua's, in Jitsi)
	RoomLobby *bool           // context.room.lobby: the room has a lobby, or is to have none
	Features  map[string]bool // context.features
}

// User is the person that the issuer vouches for.
type User struct {
	ID          string // context.user.id; an integer is taken as text
	Name        string // context.user.name
	Email       string // context.user.email
	Avatar      string // context.user.avatar
	Affiliation string // context.user.affiliation; any text. If mapped: owner, admin, member, or empty if it says nothing
	Moderator   *bool  // context.user.moderator. Nil if the affiliation is mapped
	LobbyBypass *bool  // context.user.lobby_bypass: passes the lobby, or has to knock
}

// Claims returns the token's claims, which are where the map says; ClaimMap{} is Jitsi's places. It fails with ErrClaims
// if one of them is of the wrong type, whether or not the caller has a use for it. Claims that are not fields of
// Claims are ignored.
//
// Of mapped claims it also fails for a room or tenant that the map's table does not have, for more values than one of
// a room, tenant, id or name, and for a name on the path that is spelled in another case.
func (t *Token) Claims(m ClaimMap) (*Claims, error) {
	var err error
	top := fields{object: t.payload, err: &err}
	context := top.in("context")
	user := context.in("user")
	claims := &Claims{
		Issuer:    top.text("iss"),
		Audience:  top.texts("aud"),
		ID:        top.text("jti"),
		Expires:   top.time("exp"),
		NotBefore: top.time("nbf"),
		IssuedAt:  top.time("iat"),
		User: User{
			Email:       user.label("email"),
			Avatar:      user.label("avatar"),
			LobbyBypass: user.boolean("lobby_bypass"),
		},
		Features: context.in("features").flags(),
	}
	if m.Tenant.IsZero() {
		claims.Subject, claims.Tenant = top.text("sub"), context.anyText("tenant")
	} else {
		claims.Subject = top.needed(m.Tenant, tenantPlace)
	}
	if m.Room.IsZero() {
		claims.Room = top.text("room")
	} else {
		claims.Room = top.needed(m.Room, roomPlace)
	}
	if m.Affiliation.IsZero() {
		claims.Moderator = top.boolean("moderator")
		claims.User.Affiliation, claims.User.Moderator = user.text("affiliation"), user.boolean("moderator")
	} else {
		claims.User.Affiliation = top.affiliation(m.Affiliation)
	}
	if m.ID.IsZero() {
		claims.User.ID = user.id("id")
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
	// Jitsi takes the string "true", too. This one makes a token open more rooms, so it has to be meant.
	room := context.in("room")
	if regex := room.boolean("regex"); regex != nil {
		claims.RoomRegex = *regex
	}
	claims.RoomLobby = room.boolean("lobby")
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// fields reads the members of one object of the payload. All fields of one token share err, which keeps what was
// wrong; what has been read is worth something only if it is still nil in the end.
type fields struct {
	path string // of the object, with a dot at the end: "context.user."
	object
	err *error
}

func (f fields) refuse(name, want string) {
	*f.err = fmt.Errorf("%w: %s%s: want %s", ErrClaims, f.path, name, want)
}

// read returns the member of that name. present is false if it is absent, and if it is no T, which is refused.
func read[T any](f fields, name, want string) (value T, present bool) {
	member, present := f.get(name)
	if !present {
		return value, false
	}
	value, isT := member.(T)
	if !isT {
		f.refuse(name, want)
	}
	return value, isT
}

// in returns the fields of the object of that name: none if it is absent.
func (f fields) in(name string) fields {
	inner, _ := read[object](f, name, "an object")
	return fields{path: f.path + name + ".", object: inner, err: f.err}
}

// text reads a string that decides something. An empty one is refused, because it would read as if it were absent,
// and for a room or an affiliation that means more than any value does.
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

// label reads a string that is for people to look at and decides nothing. Issuers send null where they have none.
func (f fields) label(name string) string {
	if value, present := f.get(name); present && value == nil {
		return ""
	}
	return f.anyText(name)
}

// id reads a label that may be an integer: issuers send the one of their database.
func (f fields) id(name string) string {
	value, _ := f.get(name)
	if value, isNumber := value.(number); isNumber {
		text, isInteger := asText(value)
		if !isInteger {
			f.refuse(name, "a string or an integer")
		}
		return text
	}
	return f.label(name)
}

// texts reads a string, or an array of them (RFC 7519 §4.1.3).
func (f fields) texts(name string) []string {
	value, present := f.get(name)
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

// time reads a NumericDate: seconds since 1970, maybe with a fraction, and short of 2^53, where seconds begin to
// be rounded away (RFC 7493 §2.2).
func (f fields) time(name string) time.Time {
	const want = "a number of seconds since 1970"
	text, present := read[number](f, name, want)
	if !present {
		return time.Time{}
	}
	seconds, err := strconv.ParseFloat(string(text), 64)
	if err != nil || seconds < 0 || seconds >= 1<<53 {
		f.refuse(name, want)
		return time.Time{}
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)).UTC()
}

// boolean reads true or false; nil if absent. Jitsi takes the string "true" for true where it makes a moderator. The
// string "false" is one slip from being taken for true as well, so we take neither.
func (f fields) boolean(name string) *bool {
	value, present := read[bool](f, name, "true or false")
	if !present {
		return nil
	}
	return &value
}

// flags reads an object that holds flags only; nil if there are none. Here the strings "true" and "false" are taken:
// Jitsi's own examples and most issuers write features so, and features open no door.
func (f fields) flags() map[string]bool {
	if len(f.object) == 0 {
		return nil
	}
	flags := make(map[string]bool, len(f.object))
	for _, m := range f.object {
		switch m.value {
		case true, "true":
			flags[m.name] = true
		case false, "false":
			flags[m.name] = false
		default:
			f.refuse("*", "true or false") // the name is the issuer's invention and not for the log
		}
	}
	return flags
}
