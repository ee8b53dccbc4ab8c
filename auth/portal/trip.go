package portal

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/strictjson"
)

// maxState caps the state of jitsi-meet, in bytes of JSON. A state with ten overrides has 600.
const maxState = 8 << 10

// maxName caps the name of a room with its tenant, in bytes: the local part of a JID has no more (RFC 7622 §3.3). Percent-encoded, a
// byte has three.
const maxName = 3 * 1023

var (
	errState = errors.New("not a state of jitsi-meet")
	errTaken = errors.New("the portal has a page of this name on the same host name as jitsi-meet, so no address leads to the room")
)

// app is the program that a person came from. The zero value is a browser.
type app string

// The apps, as a state names them (jitsi-meet, react/features/authentication/functions.native.ts and functions.web.ts).
const (
	ios      app = "ios"
	android  app = "android"
	electron app = "electron"
)

var apps = []app{ios, android, electron}

// trip says where a person wants to go: into a room, on one of jitsi-meet's pages or in an app. The zero value leads nowhere. All of it
// comes from strangers and was checked: only newTrip and readTrip make one.
type trip struct {
	room auth.Room
	// tenant and name are spelled as jitsi-meet had them, so that it shows them so. They mean room.
	tenant, name string
	meet         string // one of Options.MeetURLs
	app          app
	overrides    []override
}

// override is a setting of jitsi-meet's configuration for one visit, and its value in JSON.
type override struct{ key, value string }

// newTrip returns a trip into a room with the names as jitsi-meet or a person spells them: percent-encoded or not.
func newTrip(meet, tenant, name string) (trip, error) {
	text := name
	if tenant != "" {
		text = "[" + tenant + "]" + name
	}
	if len(text) > maxName {
		return trip{}, errors.New("the name of the room is too long")
	}
	room, err := auth.ParseRoomName(text)
	if err != nil {
		return trip{}, err
	}
	// Browsers take such a name for a way up (WHATWG URL, "double-dot URL path segment").
	if dots(room.Name) || dots(room.Tenant) || room.Claim() == "" || tenant != "" && strings.ContainsAny(tenant, "[]") {
		return trip{}, errors.New("no address on jitsi-meet leads to a room of this name")
	}
	t := trip{room: room, meet: meet, tenant: decoded(tenant), name: decoded(name)}
	if tenant == "" && room.Tenant != "" {
		before, after, _ := strings.Cut(name[1:], "]")
		t.tenant, t.name = decoded(before), decoded(after)
	}
	return t, nil
}

func dots(name string) bool { return name == "." || name == ".." }

// decoded takes one layer of percent-encoding off, as auth.CanonicalName does.
func decoded(name string) string {
	if text, err := url.PathUnescape(name); err == nil {
		return text
	}
	return name
}

// readTrip reads the state that jitsi-meet gives to a login page (react/features/authentication/functions.any.ts): one object of JSON.
// The state may hold more, such as a refresh token, which is left out.
func readTrip(meet, state string) (trip, error) {
	if len(state) > maxState {
		return trip{}, errState
	}
	object, err := strictjson.Parse(state)
	if err != nil {
		return trip{}, errState
	}
	var texts [2]string
	for i, name := range []string{"tenant", "room"} {
		value, present := object.Get(name)
		text, isText := value.(string)
		if present && value != nil && !isText {
			return trip{}, errState
		}
		texts[i] = text
	}
	t, err := newTrip(meet, texts[0], texts[1])
	if err != nil {
		return trip{}, err
	}
	if t.app, err = appOf(object); err != nil {
		return trip{}, err
	}
	if t.overrides, err = overridesOf(object, state); err == nil && len(t.state()) > maxState {
		err = errState
	}
	return t, err
}

func appOf(state strictjson.Object) (is app, err error) {
	for _, a := range apps {
		switch value, present := state.Get(string(a)); {
		case !present || value == false || value == nil:
		case value == true && is == "":
			is = a
		default:
			return "", errState
		}
	}
	return is, nil
}

// overrideKey is how the name of an override is written: jitsi-meet neither encodes nor decodes it (react/features/base/util/uri.ts and
// parseURLParams.ts).
var overrideKey = regexp.MustCompile(`^(config|interfaceConfig|iceServers)(\.[A-Za-z0-9_-]+)+$`)

// overridesOf returns the overrides of a state, in their order. Those that jitsi-meet would not read are left out.
func overridesOf(object strictjson.Object, state string) ([]override, error) {
	var values map[string]json.RawMessage
	if err := json.Unmarshal([]byte(state), &values); err != nil {
		return nil, errState
	}
	var all []override
	for _, m := range object {
		if !overrideKey.MatchString(m.Name) || slices.ContainsFunc(strings.Split(m.Name, "."), ofPrototype) {
			continue
		}
		var value bytes.Buffer
		if err := json.Compact(&value, values[m.Name]); err != nil {
			return nil, errState
		}
		all = append(all, override{m.Name, value.String()})
	}
	return all, nil
}

// ofPrototype reports whether jitsi-meet ignores a name with this part (react/features/base/util/parseURLParams.ts).
func ofPrototype(part string) bool {
	return part == "__proto__" || part == "constructor" || part == "prototype"
}

// state returns the trip as a state that readTrip reads; empty for the zero value.
func (t trip) state() string {
	if t.room.Name == "" {
		return ""
	}
	var out strings.Builder
	member := func(name, value string) {
		if out.Len() > 0 {
			out.WriteByte(',')
		}
		out.WriteString(quoted(name) + ":" + value)
	}
	member("room", quoted(encode(t.name)))
	if t.tenant != "" {
		member("tenant", quoted(encode(t.tenant)))
	}
	if t.app != "" {
		member(string(t.app), "true")
	}
	for _, o := range t.overrides {
		member(o.key, o.value)
	}
	return "{" + out.String() + "}"
}

func quoted(text string) string {
	b, _ := json.Marshal(text) // of a string it never fails
	return string(b)
}

// fields are the values of a form, or of an address, that mean this trip again.
func (t trip) fields() url.Values {
	v := make(url.Values)
	if t.room.Name != "" {
		v.Set("state", t.state())
	}
	if t.meet != "" {
		v.Set("meet", t.meet)
	}
	return v
}

// path returns the path of the room on jitsi-meet's pages. Each name is encoded so that jitsi-meet reads it as this room: it cuts
// characters such as ! and ( out of a path, but not out of their encoding (react/features/base/util/uri.ts, _fixPathPart).
func (t trip) path() string {
	if t.tenant == "" {
		return "/" + encode(t.name)
	}
	return "/" + encode(t.tenant) + "/" + encode(t.name)
}

// encode encodes a text for any part of an address: all but the unreserved characters (RFC 3986 §2.3).
func encode(text string) string {
	const hex = "0123456789ABCDEF"
	var out strings.Builder
	for i := range len(text) {
		switch c := text[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.IndexByte("-_.~", c) >= 0:
			out.WriteByte(c)
		default:
			out.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return out.String()
}

// address returns where the trip leads, with a token; without one if that is empty. Jitsi's contract: the token is in the query, the
// overrides are in the fragment, and an app gets an address of its own.
func (t trip) address(token string) string {
	_, host, _ := strings.Cut(t.meet, "://")
	to := t.path()
	if token != "" {
		to += "?jwt=" + encode(token)
	}
	for i, o := range t.overrides {
		between := "&"
		if i == 0 {
			between = "#"
		}
		to += between + o.key + "=" + encode(o.value)
	}
	switch t.app {
	case ios:
		return "org.jitsi.meet://" + host + to
	case android:
		return "intent://" + host + to + "#Intent;scheme=org.jitsi.meet;package=org.jitsi.meet;end"
	case electron:
		return "jitsi-meet://" + host + to
	}
	return t.meet + to
}

// compact is the form of a token: three parts in base64url (RFC 7515 §7.1).
var compact = regexp.MustCompile(`^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$`)

// maxToken caps a token in bytes, as usher does at the stanza.
const maxToken = 8 << 10

// isToken reports whether a text has the form of a token.
func isToken(text string) bool { return len(text) <= maxToken && compact.MatchString(text) }
