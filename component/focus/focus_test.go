package focus_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
)

// verdicts are those of the reasons that do not deny.
var verdicts = map[auth.Reason]auth.Verdict{
	auth.ReasonHost: auth.Allow, auth.ReasonMember: auth.Allow, auth.ReasonGuest: auth.Allow, auth.ReasonService: auth.Allow,
	auth.ReasonBreakout:   auth.Allow,
	auth.ReasonHostAbsent: auth.Wait,
}

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

// What a client is told for each reason, byte by byte: testdata/<reason>.xml.
func TestReply(t *testing.T) {
	golden, err := filepath.Glob("testdata/*.xml")
	if err != nil || len(golden) != len(auth.Reasons)+1 {
		t.Errorf("%d answers for %d reasons and one that does not exist, %v", len(golden), len(auth.Reasons), err)
	}
	for _, e := range append(auth.Reasons[:len(auth.Reasons):len(auth.Reasons)], auth.Explanation{Reason: "no-such-reason"}) {
		t.Run(string(e.Reason), func(t *testing.T) {
			d := auth.Decision{Verdict: verdicts[e.Reason], Reason: e.Reason}
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

// Whatever the reason, only the verdict allow opens the door.
// A tenant's room has two spellings; the client gets its own back, whatever the decision calls the room.
func TestReplyEchoesTheRoom(t *testing.T) {
	const spelled = "StandUp@conference.acme.meet.example.com"
	d := auth.Decision{Verdict: auth.Allow, Room: auth.Room{JID: jid.MustParse("[acme]standup@conference.meet.example.com"), Tenant: "acme", Name: "standup"}}
	if got := encode(t, focus.Reply(asked, focus.Conference{Room: spelled}, d, "", nil)); !strings.Contains(got, ` room="`+spelled+`"`) {
		t.Errorf("got %s", got)
	}
}

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

// No answer tells the token, a claim, a session or a Go error.
func TestReplyIsDiscreet(t *testing.T) {
	conf := focus.Conference{Room: "r@s", Token: "eyJSECRET.e30.c2ln", SessionID: "SECRET-session", MachineUID: "SECRET-machine"}
	for _, e := range auth.Reasons {
		d := auth.Decision{
			Verdict: verdicts[e.Reason], Reason: e.Reason, Err: errors.New("SECRET error"),
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

// FuzzParse holds that whatever is taken for a request can be answered, in XML that says what was decided and nothing
// that was confided.
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
