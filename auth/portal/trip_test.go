package portal

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
)

// TestAddress: the way back is by Jitsi's contract: the token in the query, the overrides of the state in the fragment, and nothing else.
func TestAddress(t *testing.T) {
	for name, test := range map[string]struct{ state, want string }{
		"room alone":     {`{"room":"standup"}`, meet + "/standup?jwt=T"},
		"as shown":       {`{"room":"StandUp","roomSafe":"standup"}`, meet + "/StandUp?jwt=T"},
		"tenant":         {`{"room":"standup","tenant":"acme"}`, meet + "/acme/standup?jwt=T"},
		"no tenant":      {`{"room":"standup","tenant":null}`, meet + "/standup?jwt=T"},
		"space":          {`{"room":"my room"}`, meet + "/my%20room?jwt=T"},
		"encoded":        {`{"room":"My%20Room"}`, meet + "/My%20Room?jwt=T"},
		"umlaut":         {`{"room":"b\u00fcro"}`, meet + "/b%C3%BCro?jwt=T"},
		"emoji":          {`{"room":"\ud83c\udf89"}`, meet + "/%F0%9F%8E%89?jwt=T"},
		"percent":        {`{"room":"100%25"}`, meet + "/100%25?jwt=T"},
		"two layers":     {`{"room":"100%2525"}`, meet + "/100%2525?jwt=T"},
		"slash":          {`{"room":"a%2Fb"}`, meet + "/a%2Fb?jwt=T"},
		"stripped chars": {`{"room":"who%3F!"}`, meet + "/who%3F%21?jwt=T"},
		"brackets":       {`{"room":"[acme]standup"}`, meet + "/acme/standup?jwt=T"},
		"overrides": {`{"room":"r","config.startWithAudioMuted":true,"config.prejoinConfig.enabled":false,"interfaceConfig.X":"a b&c=d#e","iceServers.replace":[ {"type": "turn"} ]}`,
			meet + "/r?jwt=T#config.startWithAudioMuted=true&config.prejoinConfig.enabled=false&interfaceConfig.X=%22a%20b%26c%3Dd%23e%22&iceServers.replace=%5B%7B%22type%22%3A%22turn%22%7D%5D"},
		"others left out": {`{"room":"r","refreshToken":"secret","userInfo.displayName":"x","devices.audio":1,"configx":1,"config":1,"config.":1,"config.__proto__.x":1,"config.a&jwt=":1,"iceServers.constructor":2,"jwt":"x"}`,
			meet + "/r?jwt=T"},
		"iOS":     {`{"room":"r","tenant":"acme","ios":true,"config.a":1}`, "org.jitsi.meet://meet.example.com/acme/r?jwt=T#config.a=1"},
		"Android": {`{"room":"r","android":true}`, "intent://meet.example.com/r?jwt=T#Intent;scheme=org.jitsi.meet;package=org.jitsi.meet;end"},
		"Android, overrides": {`{"room":"r","android":true,"config.a":"#Intent;scheme=evil;end"}`,
			"intent://meet.example.com/r?jwt=T#config.a=%22%23Intent%3Bscheme%3Devil%3Bend%22#Intent;scheme=org.jitsi.meet;package=org.jitsi.meet;end"},
		"desktop":      {`{"room":"r","electron":true}`, "jitsi-meet://meet.example.com/r?jwt=T"},
		"not desktop":  {`{"room":"r","electron":false}`, meet + "/r?jwt=T"},
		"not an array": {`[]`, ""}, "empty": {`{}`, ""}, "null": {`null`, ""}, "text": {`"r"`, ""}, "torn": {`{"room":"r"`, ""}, "more": {`{"room":"r"} {}`, ""},
		"twice":        {`{"room":"r","room":"s"}`, ""},
		"number":       {`{"room":1}`, ""},
		"tenant, list": {`{"room":"r","tenant":["a"]}`, ""},
		"two apps":     {`{"room":"r","ios":true,"android":true}`, ""},
		"odd app":      {`{"room":"r","ios":"true"}`, ""},
		"no UTF-8":     {"{\"room\":\"r\",\"config.a\":\"\xff\"}", ""},
		"surrogate":    {`{"room":"r","config.a":"\ud800"}`, ""},
		"deep":         {`{"room":"r","config.a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, ""},
		"way up":       {`{"room":".."}`, ""}, "encoded way up": {`{"room":"%2e%2E"}`, ""}, "here": {`{"room":"."}`, ""}, "tenant up": {`{"room":"r","tenant":".."}`, ""},
		"wide dots":  {`{"room":"\uff0e\uff0e"}`, ""},
		"empty room": {`{"room":""}`, ""}, "spaces": {`{"room":"  "}`, ""}, "line": {`{"room":"a\nb"}`, ""},
		"not so large": {`{"room":"r","config.a":"` + strings.Repeat("x", maxState-40) + `"}`, meet + "/r?jwt=T#config.a=%22" + strings.Repeat("x", maxState-40) + "%22"},
		"too large":    {`{"room":"r","config.a":"` + strings.Repeat("x", maxState) + `"}`, ""},
		"long name":    {`{"room":"` + strings.Repeat("x", maxName+1) + `"}`, ""},
		"two tenants":  {`{"room":"r","tenant":"a]b"}`, ""},
	} {
		got, err := readTrip(meet, test.state)
		address := ""
		if err == nil {
			address = got.address("T")
		}
		if address != test.want {
			t.Errorf("%s: %q, %v, want %q", name, address, err, test.want)
		}
		if err != nil {
			continue
		}
		if again, err := readTrip(meet, got.state()); err != nil || again.address("T") != address || nameOf(again.room) != nameOf(got.room) {
			t.Errorf("%s: %q means %q, %v", name, got.state(), again.address("T"), err)
		}
	}
}

// excluded are the characters that jitsi-meet cuts out of a path (react/features/base/util/uri.ts).
var excluded = regexp.MustCompile(`[:?#\[\]@!$&'()*+,;=></"]`)

// pageRoom returns the local part of the room that jitsi-meet enters for a part of its address (getBackendSafeRoomName).
func pageRoom(part string) string {
	part = excluded.ReplaceAllString(part, "")
	if text, err := url.PathUnescape(part); err == nil {
		part = text
	}
	lower := cases.Lower(language.Und).String(norm.NFKC.String(part))
	return strings.ToLower(url.PathEscape(lower))
}

// TestSameRoom: whatever a room is called, the page to which the portal sends somebody is that of the room in the token.
func TestSameRoom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tenant := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[A-Za-z0-9 .%äßÄ-]{1,6}`)).Draw(t, "tenant")
		name := rapid.OneOf(rapid.StringMatching(`[A-Za-z0-9 !'()*%25äöÄ🎉🏴é@&+=,;:.~_-]{1,10}`), rapid.String()).Draw(t, "name")
		trip, err := newTrip(meet, tenant, name)
		if err != nil {
			t.Skip("no room")
		}
		path := strings.TrimPrefix(trip.path(), "/")
		if u, err := url.Parse(meet + "/" + path); err != nil || u.EscapedPath() != "/"+path || u.Query().Has("jwt") || strings.Contains(path, "..") && path == ".." {
			t.Fatalf("%q: %v", path, err)
		}
		parts := strings.Split(path, "/")
		local := pageRoom(parts[len(parts)-1])
		if room, err := auth.CanonicalName(local); err != nil || room != trip.room.Name {
			t.Fatalf("the token is for %q, and jitsi-meet enters %q (%q, %v)", trip.room.Name, local, room, err)
		}
		if len(parts) == 2 {
			if of, err := auth.CanonicalName(pageRoom(parts[0])); err != nil || of != trip.room.Tenant {
				t.Fatalf("the tenant is %q, and jitsi-meet's %q", trip.room.Tenant, parts[0])
			}
		}
		again, err := readTrip(meet, trip.state())
		if err != nil || nameOf(again.room) != nameOf(trip.room) || again.path() != trip.path() {
			t.Fatalf("%q means %q, %v", trip.state(), again.path(), err)
		}
		if waits, err := newTrip(meet, "", trip.room.Claim()); err != nil || nameOf(waits.room) != nameOf(trip.room) {
			t.Fatalf("the claim %q means %v, %v", trip.room.Claim(), waits.room, err)
		}
	})
}

// FuzzState: whatever a state is, it leads nowhere but to jitsi-meet and its apps, and its overrides are ones.
func FuzzState(f *testing.F) {
	for _, seed := range []string{
		`{"room":"standup","roomSafe":"standup","tenant":"acme","config.startWithAudioMuted":true,"electron":true}`,
		`{"room":"%2e%2e","android":true}`, `{"room":"//evil.example","ios":true}`, `{"room":"a\\b","tenant":"@evil.example"}`,
		`{"room":"r","config.x":"\r\nSet-Cookie: a=b"}`, `{"room":"r","config.a":1e999,"iceServers.b":[{}]}`,
	} {
		f.Add(seed)
	}
	where := &fixture{}
	f.Fuzz(func(t *testing.T, state string) {
		got, err := readTrip(meet, state)
		if err != nil {
			return
		}
		address := got.address(tokenOf("j"))
		if !where.leads(address) || len(state) > maxState {
			t.Fatalf("%q leads to %q", state, address)
		}
		_, fragment, _ := strings.Cut(strings.TrimSuffix(address, "#Intent;scheme=org.jitsi.meet;package=org.jitsi.meet;end"), "#")
		for _, part := range strings.Split(fragment, "&") {
			key, value, _ := strings.Cut(part, "=")
			text, err := url.PathUnescape(value)
			if fragment != "" && (err != nil || !json.Valid([]byte(text)) || !overrideKey.MatchString(key)) {
				t.Fatalf("%q: %q", state, part)
			}
		}
		if again, err := readTrip(meet, got.state()); err != nil || again.address("T") != got.address("T") {
			t.Fatalf("%q: %q means %q, %v", state, got.state(), again.address("T"), err)
		}
	})
}
