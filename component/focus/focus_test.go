package focus_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
)

var asked = stanza.IQ{
	ID: "1", Type: stanza.SetIQ,
	From: jid.MustParse("romeo@meet.example.com/orchard"), To: jid.MustParse("focus.meet.example.com"),
}

func encode(t testing.TB, r xml.TokenReader) string {
	t.Helper()
	var b bytes.Buffer
	enc := xml.NewEncoder(&b)
	if _, err := xmlstream.Copy(enc, r); err != nil {
		t.Fatal(err)
	}
	if err := enc.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The answer for each reason is, byte by byte, testdata/<reason>.xml.
func TestReply(t *testing.T) {
	golden, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(golden) != len(auth.Reasons)+1 {
		t.Errorf("%d answers for %d reasons and one that does not exist, %v", len(golden), len(auth.Reasons), err)
	}
	for _, e := range append(auth.Reasons[:len(auth.Reasons):len(auth.Reasons)], auth.ReasonRow{Reason: "no-such-reason"}) {
		t.Run(string(e.Reason), func(t *testing.T) {
			d := auth.Decision{Verdict: e.Reason.Row().Verdict, Reason: e.Reason}
			if e.Reason == auth.ReasonHost {
				d.Identity = "romeo"
			}
			want, err := os.ReadFile(filepath.Join("testdata", string(e.Reason)+".xml"))
			if err != nil {
				t.Fatal(err)
			}
			if got := encode(t, focus.Reply(asked, focus.Conference{Room: "standup@conference.meet.example.com"}, d, "", nil)); got+"\n" != string(want) {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// Without a login nobody is offered one, whatever Jicofo says, and people who need a token do not wait. People who wait for a host
// do.
func TestReplyWithoutLogin(t *testing.T) {
	said := &focus.Answer{Ready: true, Properties: []focus.Property{{"authentication", "true"}, {"live", "true"}}}
	for _, e := range auth.Reasons {
		d := auth.Decision{Verdict: e.Reason.Row().Verdict, Reason: e.Reason, NoLogin: true}
		got := encode(t, focus.Reply(asked, focus.Conference{Room: "r@s"}, d, "", said))
		if strings.Contains(got, `"authentication"`) || d.Verdict == auth.Allow && !strings.Contains(got, `"live"`) {
			t.Errorf("%s: %s", e.Reason, got)
		}
		if waits := strings.Contains(got, "<not-authorized "); waits != (e.Reason == auth.ReasonHostAbsent || e.Reason == auth.ReasonStopping) {
			t.Errorf("%s: %s", e.Reason, got)
		}
	}
	got := encode(t, focus.Reply(asked, focus.Conference{Room: "r@s"}, auth.Decision{Reason: auth.ReasonTokenRequired, NoLogin: true}, "", nil))
	for _, want := range []string{`<error type="auth"><forbidden `, auth.ReasonTokenRequired.Text(), `<reservation-error xmlns="http://jitsi.org/protocol/focus" error-code="403">`, `code="token-required"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %s", want, got)
		}
	}
}

// A tenant's room has two spellings; the client gets its own back, whatever the decision calls the room.
func TestReplyEchoesTheRoom(t *testing.T) {
	const spelled = "StandUp@conference.acme.meet.example.com"
	d := auth.Decision{Verdict: auth.Allow, Room: auth.Room{JID: jid.MustParse("[acme]standup@conference.meet.example.com"), Tenant: "acme", Name: "standup"}}
	if got := encode(t, focus.Reply(asked, focus.Conference{Room: spelled}, d, "", nil)); !strings.Contains(got, ` room="`+spelled+`"`) {
		t.Errorf("got %s", got)
	}
}

// A decision may have a text of its own for the person; it is escaped as every text is.
func TestReplyWithTextOfTheDecision(t *testing.T) {
	d := auth.Decision{Reason: auth.ReasonRoomClosed, Text: "It opens at <8>."}
	got := encode(t, focus.Reply(asked, focus.Conference{Room: "r@s"}, d, "", nil))
	if !strings.Contains(got, ">It opens at &lt;8&gt;.</text>") || strings.Contains(got, auth.ReasonRoomClosed.Text()) || !strings.Contains(got, `code="room-closed"`) {
		t.Errorf("got %s", got)
	}
}

// Whatever the reason is, only the verdict allow opens the door.
func TestReplyIsReadyOnlyIfAllowed(t *testing.T) {
	for _, e := range auth.Reasons {
		for _, v := range []auth.Verdict{auth.Allow, auth.Wait, auth.Deny, auth.Verdict(7)} {
			got := encode(t, focus.Reply(asked, focus.Conference{Room: "r@s"}, auth.Decision{Verdict: v, Reason: e.Reason}, "", nil))
			if ready := strings.Contains(got, `ready="true"`); ready != (v == auth.Allow) {
				t.Errorf("%s, %s: %s", v, e.Reason, got)
			}
		}
	}
	if got := encode(t, focus.Reply(asked, focus.Conference{}, auth.Decision{}, "", nil)); !strings.Contains(got, "<forbidden ") {
		t.Errorf("the zero decision: %s", got)
	}
}

// No answer contains the token, a claim, a session or a Go error.
func TestReplyIsDiscreet(t *testing.T) {
	conf := focus.Conference{Room: "r@s", Token: "eyJSECRET.e30.c2ln", SessionID: "SECRET-session", MachineUID: "SECRET-machine"}
	for _, e := range auth.Reasons {
		d := auth.Decision{
			Verdict: e.Reason.Row().Verdict, Reason: e.Reason, Err: errors.New("SECRET error"),
			Room:        auth.Room{JID: jid.MustParse("secret@s"), Tenant: "SECRET", Name: "SECRET"},
			Affiliation: auth.Owner, Expires: time.Unix(1, 0),
			Token: auth.TokenRef{Issuer: "SECRET", ID: "SECRET", KeyID: "SECRET"},
		}
		if got := encode(t, focus.Reply(asked, conf, d, "", nil)); strings.Contains(strings.ToUpper(got), "SECRET") {
			t.Errorf("%s: %s", e.Reason, got)
		}
		if text := e.Reason.Text(); text != e.Text || strings.ContainsAny(text, "%{}<>&\"") || !strings.HasSuffix(text, ".") {
			t.Errorf("%s: not a sentence as it stands: %q", e.Reason, text)
		}
	}
}

func parse(raw string) (focus.Conference, error) {
	d := xml.NewDecoder(strings.NewReader(raw))
	tok, err := d.Token()
	if err != nil {
		return focus.Conference{}, err
	}
	start, ok := tok.(xml.StartElement)
	if !ok {
		return focus.Conference{}, errors.New("no element")
	}
	return focus.Parse(start, d)
}

const ns = "xmlns='http://jitsi.org/protocol/focus' "

func TestParse(t *testing.T) {
	full := focus.Conference{Room: "r@s", Token: "t", SessionID: "s", MachineUID: "m"}
	for name, tt := range map[string]struct {
		raw  string
		want focus.Conference
	}{
		"room alone":             {"<conference " + ns + "room='r@s'/>", focus.Conference{Room: "r@s"}},
		"everything":             {"<conference " + ns + "room='r@s' token='t' session-id='s' machine-uid='m'/>", full},
		"properties":             {"<conference " + ns + "room='r@s'><property name='a' value='b'/> <property name='room' value='x'/></conference>", focus.Conference{Room: "r@s", Properties: []focus.Property{{Name: "a", Value: "b"}, {Name: "room", Value: "x"}}}},
		"unknown attributes":     {"<conference " + ns + "ready='true' identity='x' Room='x' room='r@s'/>", focus.Conference{Room: "r@s"}},
		"attributes of others":   {"<conference " + ns + "xmlns:x='x' x:room='x@x' room='r@s' x:token='x'/>", focus.Conference{Room: "r@s"}},
		"unknown children":       {"<conference " + ns + "room='r@s'><conference room='x@x'>text<a/></conference><!-- --></conference>", focus.Conference{Room: "r@s"}},
		"a prefix":               {"<f:conference xmlns:f='http://jitsi.org/protocol/focus' room='r@s'/>", focus.Conference{Room: "r@s"}},
		"references":             {"<conference " + ns + "room='r&#64;s&amp;&lt;'/>", focus.Conference{Room: "r@s&<"}},
		"empty token":            {"<conference " + ns + "room='r@s' token=''/>", focus.Conference{Room: "r@s"}},
		"what follows the end":   {"<conference " + ns + "room='r@s'/>text", focus.Conference{Room: "r@s"}},
		"deep children":          {"<conference " + ns + "room='r@s'>" + strings.Repeat("<a>", 1000) + strings.Repeat("</a>", 1000) + "</conference>", focus.Conference{Room: "r@s"}},
		"not judged: odd room":   {"<conference " + ns + "room=' '/>", focus.Conference{Room: " "}},
		"not judged: long token": {"<conference " + ns + "room='r@s' token='" + strings.Repeat("a", 1<<16) + "'/>", focus.Conference{Room: "r@s", Token: strings.Repeat("a", 1<<16)}},

		"bad: no room":               {"<conference " + ns + "/>", focus.Conference{}},
		"bad: empty room":            {"<conference " + ns + "room=''/>", focus.Conference{}},
		"bad: no namespace":          {"<conference room='r@s'/>", focus.Conference{}},
		"bad: other namespace":       {"<conference xmlns='http://jitsi.org/protocol/focus/' room='r@s'/>", focus.Conference{}},
		"bad: other element":         {"<Conference " + ns + "room='r@s'/>", focus.Conference{}},
		"bad: room twice":            {"<conference " + ns + "room='r@s' room='r@s'/>", focus.Conference{}},
		"bad: token twice":           {"<conference " + ns + "room='r@s' token='a' token='b'/>", focus.Conference{}},
		"bad: unknown one twice":     {"<conference " + ns + "room='r@s' a='' a=''/>", focus.Conference{}},
		"bad: text":                  {"<conference " + ns + "room='r@s'>text</conference>", focus.Conference{}},
		"bad: text after a property": {"<conference " + ns + "room='r@s'><property/>text</conference>", focus.Conference{}},
		"bad: cut off":               {"<conference " + ns + "room='r@s'><property>", focus.Conference{}},
		"bad: ends wrongly":          {"<conference " + ns + "room='r@s'></property>", focus.Conference{}},
		"bad: unknown entity":        {"<conference " + ns + "room='r@s'><a>&lol;</a></conference>", focus.Conference{}},
		"bad: control character":     {"<conference " + ns + "room='r@s'><a>\x01</a></conference>", focus.Conference{}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parse(tt.raw)
			if bad := strings.HasPrefix(name, "bad: "); bad != (err != nil) {
				t.Fatalf("got %+v, %v", got, err)
			}
			if err == nil && !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "r@s") {
				t.Errorf("the error quotes the request: %v", err)
			}
		})
	}
}

// Ambiguous properties, and more than a client has reason to send, are dropped without an error.
func TestParseProperties(t *testing.T) {
	long := strings.Repeat("a", 1025)
	for _, tt := range []struct {
		raw  string
		want []focus.Property
	}{
		{"<property name='b' value='1'/><property name='a' value='2'/><property name='b' value='3'/>", []focus.Property{{"b", "1"}, {"a", "2"}, {"b", "3"}}},
		{"<property name='a'/>", []focus.Property{{"a", ""}}},
		{"<property name='a' value='" + long[1:] + "'/>", []focus.Property{{"a", long[1:]}}},
		{"<property value='a'/><property name='' value='a'/><property/>", nil},
		{"<property name='a' name='b' value='c'/><property name='a' value='b' value='c'/>", nil},
		{"<property name='" + long + "' value='a'/><property name='a' value='" + long + "'/>", nil},
		{"<property xmlns='other' name='a' value='b'/><x><property name='a' value='b'/></x>", nil},
		{"<property xmlns:x='x' x:name='a' x:value='b'/>", nil},
		{"<property name='a' value='b'>text<property name='c' value='d'/></property>", []focus.Property{{"a", "b"}}},
		{strings.Repeat("<property name='a' value='b'/>", 65), slices.Repeat([]focus.Property{{"a", "b"}}, 64)},
	} {
		got, err := parse("<conference " + ns + "room='r@s'>" + tt.raw + "</conference>")
		if err != nil || !reflect.DeepEqual(got.Properties, tt.want) {
			t.Errorf("%.200s: got %v, %v", tt.raw, got.Properties, err)
		}
	}
}

func TestForward(t *testing.T) {
	c := focus.Conference{
		Room: "StandUp@conference.meet.example.com", Token: "eyJ", SessionID: "SECRET", MachineUID: "0123",
		Properties: []focus.Property{{Name: "startAudioMuted", Value: "9"}, {Name: "<&'\"", Value: "\x01"}},
	}
	const properties = `<property name="startAudioMuted" value="9"></property><property name="&lt;&amp;&#39;&#34;" value="` + "\uFFFD" + `"></property></conference>`
	const room = "standup@conference.meet.example.com"
	for token, want := range map[bool]string{
		false: `<conference xmlns="http://jitsi.org/protocol/focus" room="` + room + `" machine-uid="0123">` + properties,
		true:  `<conference xmlns="http://jitsi.org/protocol/focus" room="` + room + `" machine-uid="0123" token="eyJ">` + properties,
	} {
		if got := encode(t, focus.Forward(c, room, token)); got != want {
			t.Errorf("token %t: got\n%s\nwant\n%s", token, got, want)
		}
	}
	want := `<conference xmlns="http://jitsi.org/protocol/focus" room="` + room + `"></conference>`
	if got := encode(t, focus.Forward(focus.Conference{Room: "r@s", SessionID: "SECRET"}, room, true)); got != want {
		t.Errorf("got %s", got)
	}
}

func answer(raw string) (*focus.Answer, error) {
	var a focus.Answer
	return &a, xml.Unmarshal([]byte(raw), &a)
}

// jicofo is an answer as Jicofo writes it (ConferenceIq), with a little more.
const jicofo = "<conference " + ns + "room='other@elsewhere' ready='true' session-id='SECRET' focusjid='focus@auth.meet.example.com' identity='j' vnode='v' " +
	"xmlns:x='x' x:ready='SECRET' xml:lang='en'><property name='authentication' value='false'/><property name='sipGatewayEnabled' value='true'/>" +
	"<x xmlns='x'>text</x></conference>"

// Patient tells lib-jitsi-meet from other clients, which set a time limit on their requests.
func TestPatient(t *testing.T) {
	property := func(names ...string) (all []focus.Property) {
		for _, name := range names {
			all = append(all, focus.Property{Name: name, Value: "1"})
		}
		return all
	}
	for name, tt := range map[string]struct {
		c    focus.Conference
		want bool
	}{
		"jitsi-meet":                     {focus.Conference{MachineUID: "m", Properties: property("rtcstatsEnabled", "visitors-version")}, true},
		"jitsi-meet with rtcstats":       {focus.Conference{MachineUID: "m", Properties: property("visitors-version")}, true},
		"an older one":                   {focus.Conference{MachineUID: "m", Properties: property("startAudioMuted")}, true},
		"Jibri":                          {focus.Conference{MachineUID: "m", Properties: property("rtcstatsEnabled")}, true},
		"a client without storage":       {focus.Conference{Properties: property("rtcstatsEnabled")}, true},
		"Jigasi":                         {focus.Conference{}, false},
		"Jigasi with visitors":           {focus.Conference{Properties: property("visitors-version", "visitor")}, false},
		"a client by the README":         {focus.Conference{MachineUID: "m", Token: "t"}, false},
		"a client that comes back by it": {focus.Conference{MachineUID: "m", SessionID: "s"}, false},
	} {
		if got := tt.c.Patient(); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

func TestAnswer(t *testing.T) {
	attr := func(pairs ...string) (attrs []xml.Attr) {
		for i := 0; i < len(pairs); i += 2 {
			attrs = append(attrs, xml.Attr{Name: xml.Name{Local: pairs[i]}, Value: pairs[i+1]})
		}
		return attrs
	}
	long := strings.Repeat("a", 1025)
	var many strings.Builder
	for i := range 70 {
		fmt.Fprintf(&many, "a%d='' ", i)
	}
	for name, tt := range map[string]struct {
		raw  string
		want focus.Answer
	}{
		"Jicofo's": {jicofo, focus.Answer{Ready: true, Attrs: attr("focusjid", "focus@auth.meet.example.com", "identity", "j", "vnode", "v"),
			Properties: []focus.Property{{"authentication", "false"}, {"sipGatewayEnabled", "true"}}}},
		"nothing":              {"<conference " + ns + "/>", focus.Answer{}},
		"not ready":            {"<conference " + ns + "ready='false'/>", focus.Answer{}},
		"ready in capitals":    {"<conference " + ns + "ready='TRUE'/>", focus.Answer{}},
		"ready in a property":  {"<conference " + ns + "><property name='ready' value='true'/></conference>", focus.Answer{Properties: []focus.Property{{"ready", "true"}}}},
		"deep":                 {"<conference " + ns + ">" + strings.Repeat("<a ready='true'>", 1000) + strings.Repeat("</a>", 1000) + "</conference>", focus.Answer{}},
		"a long attribute":     {"<conference " + ns + "a='" + long + "' b='c'/>", focus.Answer{Attrs: attr("b", "c")}},
		"odd names":            {"<conference " + ns + "a:='1' :a='2' ä='3' xmlns:='4' a.-_Z9='5'/>", focus.Answer{Attrs: attr("a.-_Z9", "5")}},
		"an undeclared prefix": {"<conference " + ns + "u:a='1'/>", focus.Answer{}},

		"bad: other element":   {"<error " + ns + "/>", focus.Answer{}},
		"bad: other namespace": {"<conference ready='true'/>", focus.Answer{}},
		"bad: ready twice":     {"<conference " + ns + "ready='false' ready='true'/>", focus.Answer{}},
		"bad: vnode twice":     {"<conference " + ns + "ready='true' vnode='a' vnode='b'/>", focus.Answer{}},
		"bad: text":            {"<conference " + ns + "ready='true'>text</conference>", focus.Answer{}},
		"bad: cut off":         {"<conference " + ns + "ready='true'><property", focus.Answer{}},
	} {
		got, err := answer(tt.raw)
		if bad := strings.HasPrefix(name, "bad: "); bad != (err != nil) {
			t.Errorf("%s: %+v, %v", name, got, err)
		} else if err == nil && !reflect.DeepEqual(*got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", name, *got, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "vnode") {
			t.Errorf("%s: the error quotes the answer: %v", name, err)
		}
	}
	if got, err := answer("<conference " + ns + many.String() + "/>"); err != nil || len(got.Attrs) != 64 {
		t.Errorf("%d attributes, %v", len(got.Attrs), err)
	}
	// The old values are gone.
	again, _ := answer(jicofo)
	if err := xml.Unmarshal([]byte("<conference "+ns+"/>"), again); err != nil || !reflect.DeepEqual(*again, focus.Answer{}) {
		t.Errorf("got %+v, %v", again, err)
	}
}

// Jicofo's answer is passed on, but for what usher says itself.
func TestReplyPassesOn(t *testing.T) {
	said, err := answer(jicofo)
	if err != nil {
		t.Fatal(err)
	}
	const begin = `<iq type="result" to="romeo@meet.example.com/orchard" from="focus.meet.example.com" id="1"><conference xmlns="http://jitsi.org/protocol/focus" room="r@s" `
	const end = `><property name="authentication" value="true"></property><property name="sipGatewayEnabled" value="true"></property></conference></iq>`
	const others = `focusjid="focus@auth.meet.example.com" `
	conf := focus.Conference{Room: "r@s"}
	for _, tt := range []struct {
		d    auth.Decision
		sid  string
		said *focus.Answer
		want string
	}{
		{auth.Decision{Verdict: auth.Allow, Identity: "romeo"}, "s1", said, begin + `ready="true" session-id="s1" identity="romeo" ` + others + `vnode="v"` + end},
		{auth.Decision{Verdict: auth.Allow}, "", said, begin + `ready="true" ` + others + `identity="j" vnode="v"` + end},
		{auth.Decision{Verdict: auth.Allow, Identity: "romeo"}, "s1", nil, begin + `ready="true" session-id="s1" identity="romeo"><property name="authentication" value="true"></property></conference></iq>`},
		{auth.Decision{Reason: auth.ReasonFocusUnavailable, Identity: "romeo"}, "s1", said, begin + `ready="false" ` + others + `identity="j" vnode="v"` + end},
		{auth.Decision{Reason: auth.ReasonStoreUnavailable, Identity: "romeo"}, "s1", said, begin + `ready="false"><property name="authentication" value="true"></property></conference></iq>`},
	} {
		if got := encode(t, focus.Reply(asked, conf, tt.d, tt.sid, tt.said)); got != tt.want {
			t.Errorf("got\n%s\nwant\n%s", got, tt.want)
		}
	}
	// A client that is refused gets nothing of it.
	for _, e := range auth.Reasons {
		if v := e.Reason.Row().Verdict; v != auth.Allow && e.Reason != auth.ReasonFocusUnavailable {
			if got := encode(t, focus.Reply(asked, conf, auth.Decision{Verdict: v, Reason: e.Reason}, "s1", said)); strings.Contains(got, "focusjid") || strings.Contains(got, "s1") {
				t.Errorf("%s: %s", e.Reason, got)
			}
		}
	}
}

// Jicofo's error is passed on if it is one.
func TestReplyPassesOnTheError(t *testing.T) {
	const begin = `<iq type="error" to="romeo@meet.example.com/orchard" from="focus.meet.example.com" id="1">`
	const end = `<reason xmlns="urn:usher:0" code="focus-refused"></reason></error></iq>`
	const own = "The conference could not be started."
	said := func(typ, condition, text string) string {
		const space = ` xmlns="urn:ietf:params:xml:ns:xmpp-stanzas"`
		return begin + `<error type="` + typ + `"><` + condition + space + `></` + condition + `><text` + space + `>` + text + `</text>` + end
	}
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"as it is":      {stanza.Error{Type: stanza.Auth, Condition: stanza.NotAuthorized, Text: map[string]string{"": "not authorized user domain"}}, said("auth", "not-authorized", "not authorized user domain")},
		"wrapped":       {fmt.Errorf("jicofo: %w", stanza.Error{Type: stanza.Modify, Condition: stanza.NotAcceptable}), said("modify", "not-acceptable", own)},
		"text in words": {stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: map[string]string{"fr": "b", "de": "a"}}, said("wait", "resource-constraint", "a")},
		"markup":        {stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: map[string]string{"": "<a/>&"}}, said("wait", "resource-constraint", "&lt;a/&gt;&amp;")},
		"too long":      {stanza.Error{Type: stanza.Wait, Condition: stanza.ResourceConstraint, Text: map[string]string{"": strings.Repeat("a", 2000)}}, said("wait", "resource-constraint", own)},
		"unknown type":  {stanza.Error{Type: "x", Condition: stanza.Conflict, By: jid.MustParse("by@s")}, said("cancel", "conflict", own)},
		"no condition":  {stanza.Error{Type: stanza.Cancel, Condition: "x><evil"}, said("cancel", "undefined-condition", own)},
		"no error":      {errors.New("SECRET"), said("cancel", "service-unavailable", own)},
		"none":          {nil, said("cancel", "service-unavailable", own)},
	} {
		d := auth.Decision{Reason: auth.ReasonFocusRefused, Err: tt.err}
		if got := encode(t, focus.Reply(asked, focus.Conference{Room: "r@s"}, d, "s1", nil)); got != tt.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, tt.want)
		}
	}
}

func TestLogout(t *testing.T) {
	for raw, want := range map[string]string{
		"<logout " + ns + "session-id='s1'/>":                   "s1",
		"<logout " + ns + "session-id='s1' a='b'><a/></logout>": "s1",
		"<logout " + ns + "/>":                                  "",
		"<logout " + ns + "session-id=''/>":                     "",
		"<logout " + ns + "session-id='s1' session-id='s2'/>":   "",
		"<logout " + ns + "xmlns:x='x' x:session-id='s1'/>":     "",
		"<logout session-id='s1'/>":                             "",
		"<conference " + ns + "session-id='s1'/>":               "",
		"<logout " + ns + "session-id='s1'>text</logout>":       "",
		"<logout " + ns + "session-id='s1'><a></logout>":        "",
	} {
		d := xml.NewDecoder(strings.NewReader(raw))
		tok, err := d.Token()
		if err != nil {
			t.Fatal(err)
		}
		start, _ := tok.(xml.StartElement)
		got, err := focus.ParseLogout(start, d)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: got %q, %v", raw, got, err)
		}
		if err != nil && strings.Contains(err.Error(), "s1") {
			t.Errorf("%s: the error quotes the session id: %v", raw, err)
		}
	}
	const want = `<iq type="result" to="romeo@meet.example.com/orchard" from="focus.meet.example.com" id="1"><logout xmlns="http://jitsi.org/protocol/focus"></logout></iq>`
	if got := encode(t, focus.LoggedOut(asked)); got != want {
		t.Errorf("got %s", got)
	}
}

// FuzzParse checks that every accepted request can be answered, in XML that has the decision and nothing confidential.
func FuzzParse(f *testing.F) {
	f.Add("<conference " + ns + "room='standup@conference.meet.example.com' token='eyJ.e30.c2ln' machine-uid='0123'><property name='a' value='b'/></conference>")
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := parse(raw)
		if err != nil {
			return
		}
		if c.Room == "" {
			t.Fatal("no room")
		}
		const confided = "confided-to-us"
		c.Token, c.SessionID, c.MachineUID = confided, confided, confided
		forwarded := encode(t, focus.Forward(c, "r@s", false))
		again, err := parse(forwarded)
		if err != nil || again.Room != "r@s" || again.MachineUID != confided || again.Token != "" || again.SessionID != "" {
			t.Fatalf("%v: forwarded as %s", err, forwarded)
		}
		if len(again.Properties) > len(c.Properties) || len(c.Properties) > 64 {
			t.Fatalf("%d properties, %d forwarded", len(c.Properties), len(again.Properties))
		}
		for _, d := range []auth.Decision{
			{Verdict: auth.Allow, Reason: auth.ReasonGuest},
			{Reason: auth.ReasonRoomUnavailable},
			{Verdict: auth.Wait, Reason: auth.ReasonHostAbsent},
		} {
			answer := encode(t, focus.Reply(asked, c, d, "", nil))
			var got struct {
				Type       string `xml:"type,attr"`
				Conference *struct {
					Room  string `xml:"room,attr"`
					Ready bool   `xml:"ready,attr"`
				} `xml:"http://jitsi.org/protocol/focus conference"`
				Error *struct{} `xml:"error"`
			}
			if err := xml.Unmarshal([]byte(answer), &got); err != nil {
				t.Fatalf("%v: %s", err, answer)
			}
			waits := d.Verdict == auth.Wait
			switch {
			case strings.Contains(answer, confided) && !strings.Contains(c.Room, confided):
				t.Errorf("tells what was confided: %s", answer)
			case waits != (got.Error != nil), waits == (got.Conference != nil), waits != (got.Type == "error"):
				t.Errorf("%s: %s", d.Reason, answer)
			case !waits && (got.Conference.Room != c.Room || got.Conference.Ready != (d.Verdict == auth.Allow)):
				t.Errorf("%s: room %q, got %s", d.Reason, c.Room, answer)
			}
		}
	})
}

// FuzzAnswer checks that every accepted answer of Jicofo's can be passed on, in XML that has room, ready and session-id as usher sets
// them, each once.
func FuzzAnswer(f *testing.F) {
	f.Add(jicofo)
	f.Fuzz(func(t *testing.T, raw string) {
		said, err := answer(raw)
		if err != nil {
			return
		}
		const room, sid = "standup@conference.meet.example.com", "our-session"
		for _, d := range []auth.Decision{
			{Verdict: auth.Allow, Reason: auth.ReasonHost, Identity: "romeo"},
			{Verdict: auth.Allow, Reason: auth.ReasonGuest, NoLogin: true},
			{Reason: auth.ReasonFocusUnavailable},
		} {
			reply := encode(t, focus.Reply(asked, focus.Conference{Room: room}, d, sid, said))
			var got struct {
				Conference []struct {
					Attrs    []xml.Attr `xml:",any,attr"`
					Children []struct {
						XMLName xml.Name
						Name    string `xml:"name,attr"`
						Value   string `xml:"value,attr"`
					} `xml:",any"`
				} `xml:"http://jitsi.org/protocol/focus conference"`
			}
			if err := xml.Unmarshal([]byte(reply), &got); err != nil {
				t.Fatalf("%v: %s", err, reply)
			}
			if len(got.Conference) != 1 {
				t.Fatalf("%d conferences: %s", len(got.Conference), reply)
			}
			want := map[string]string{"room": room, "ready": "false", "xmlns": focus.NS}
			if d.Verdict == auth.Allow {
				want["ready"], want["session-id"] = "true", sid
			}
			if d.Identity != "" {
				want["identity"] = d.Identity
			}
			seen := map[string]bool{}
			for _, a := range got.Conference[0].Attrs {
				if seen[a.Name.Local] || a.Name.Space != "" {
					t.Errorf("%v twice, or in a namespace: %s", a.Name, reply)
				}
				seen[a.Name.Local] = true
				if v, ours := want[a.Name.Local]; ours && v != a.Value {
					t.Errorf("%s is %q: %s", a.Name.Local, a.Value, reply)
				}
			}
			for name := range want {
				if !seen[name] {
					t.Errorf("no %s: %s", name, reply)
				}
			}
			if seen["session-id"] != (d.Verdict == auth.Allow) {
				t.Errorf("a session for who is not let in: %s", reply)
			}
			logins := 0
			for _, p := range got.Conference[0].Children {
				if p.XMLName != (xml.Name{Space: focus.NS, Local: "property"}) {
					t.Errorf("a child %v: %s", p.XMLName, reply)
				}
				if p.Name == "authentication" {
					logins++
					if p.Value != "true" {
						t.Errorf("no login is offered: %s", reply)
					}
				}
			}
			if (logins == 1) == d.NoLogin || logins > 1 {
				t.Errorf("authentication %d times: %s", logins, reply)
			}
		}
	})
}
