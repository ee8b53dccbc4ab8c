package webhook_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/webhook"
)

var update = flag.Bool("update", false, "write the examples of README.md anew")

// example returns a report of which a type of event is made, and says when that happens.
func example(kind webhook.Type) (r component.Report, when string) {
	r = component.Report{
		At: time.Date(2026, 11, 26, 9, 30, 0, 125e6, time.UTC), Room: jid.MustParse("[acme]standup@conference.meet.example.com"),
		Name: "standup", Tenant: "acme",
	}
	guest := func() {
		r.Who, r.VHost = jid.MustParse("4f1c0b2e@guest.meet.example.com/x"), "guest.meet.example.com"
	}
	juliet := func() {
		r.Who, r.VHost = jid.MustParse("8d2a91@meet.example.com/x"), "meet.example.com"
		r.Issuer, r.JTI, r.User, r.Affiliation = "portal", "7c1d", "juliet", auth.Owner
	}
	decide := func(v auth.Verdict, reason auth.Reason, text string) {
		r.What, r.Verdict, r.Reason, r.Text = component.Decided, v, reason, text
	}
	switch kind {
	case webhook.Admitted:
		juliet()
		decide(auth.Allow, auth.ReasonHost, "")
		return r, "usher has let somebody in, and their client may join. `waited_ms` says how long after the host's arrival, where they waited."
	case webhook.Refused:
		guest()
		decide(auth.Deny, auth.ReasonRoomFull, "This room is full.")
		return r, "usher has refused somebody. `reason` is one of the codes in [auth/README.md](../../auth/README.md); `text` is what they read."
	case webhook.Waiting:
		guest()
		decide(auth.Wait, auth.ReasonHostAbsent, "Waiting for the host.")
		return r, "somebody has begun to wait. It is told once, however often their client asks again."
	case webhook.HostArrived:
		r.What = component.HostArrived
		return r, "a host is inside, and none was before. It is about the room and names nobody: `occupant-joined` says who came."
	case webhook.HostLeft:
		r.What = component.HostLeft
		return r, "the last host has left. It is about the room and names nobody: `occupant-left` says who went."
	case webhook.RoomOpened:
		r.What = component.RoomOpened
		return r, "a room is open that was not before. event_sync: `muc-room-created`."
	case webhook.RoomEnded:
		r.What, r.Text = component.RoomEnded, "The time of this room is over."
		return r, "the room is gone. `text` says why, if usher ended it. event_sync: `muc-room-destroyed`."
	case webhook.OccupantJoined:
		juliet()
		r.What = component.Joined
		return r, "somebody is inside. event_sync: `muc-occupant-joined`."
	case webhook.OccupantLeft:
		juliet()
		r.What = component.Left
		return r, "somebody is gone. event_sync: `muc-occupant-left`."
	case webhook.Expired:
		juliet()
		r.What, r.Text = component.Expired, "Your access to this room has ended."
		return r, "usher has put somebody out, because their right ended."
	case webhook.Revoked:
		juliet()
		r.What, r.Text = component.RevokedOut, "Your access to this room was withdrawn."
		return r, "usher has put somebody out, because their right was taken back, or because the API said so."
	}
	panic(kind)
}

// README.md has an example of each event as the code makes it; "go generate ./component/webhook" writes it.
func TestReadme(t *testing.T) {
	var text strings.Builder
	for _, kind := range webhook.Types() {
		r, when := example(kind)
		got, body, err := webhook.Body(r, "")
		if err != nil || got != kind {
			t.Fatalf("%s: %s, %v", kind, got, err)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, body, "", "  "); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "\n### %s\n\nSent when %s\n\n```json\n%s\n```\n", kind, when, &pretty)
	}
	old, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- events: go generate ./component/webhook -->\n", "\n<!-- end of events -->"
	before, rest, ok := strings.Cut(string(old), begin)
	_, after, ok2 := strings.Cut(rest, "<!-- end of events -->")
	if !ok || !ok2 {
		t.Fatal("the marks are missing")
	}
	want := before + begin + text.String() + end + after
	switch {
	case want == string(old):
	case *update:
		if err := os.WriteFile("README.md", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error(`README.md is out of date; run "go generate ./component/webhook"`)
	}
}

func TestBreakout(t *testing.T) {
	r := report("0b1c", "1")
	for service, want := range map[string]string{
		"":                       `"is_breakout":false}`,
		"conference.example.com": `"is_breakout":true,"breakout_room_id":"0b1c"`,
		"breakout.example.com":   `"is_breakout":false`,
	} {
		r.Who, r.VHost, r.Text, r.What = jid.JID{}, "", "", component.HostLeft
		if _, body, err := webhook.Body(r, service); err != nil || !strings.Contains(string(body), want) {
			t.Errorf("%q: %s, %v", service, body, err)
		}
	}
}

// A report about an address that cannot be read, and about nobody, is an event, too.
func TestNoRoom(t *testing.T) {
	_, body, err := webhook.Body(component.Report{What: component.Decided, Reason: auth.ReasonRoomUnknown}, "")
	if err != nil || strings.Contains(string(body), "room_") || strings.Contains(string(body), "occupant") || !strings.Contains(string(body), `"verdict":"deny"`) {
		t.Errorf("%s, %v", body, err)
	}
}

// FuzzBody: whatever a report says, the event is valid JSON in UTF-8, and the store keeps it.
func FuzzBody(f *testing.F) {
	f.Add("standup", "acme", "juliet", "7c1d", "portal", "text", uint8(0))
	f.Add("\xff\xfe", "\u2028\u2029", "\x00\x1b[2J", `"\`, "</script>", strings.Repeat("\x01", 5000), uint8(1))
	f.Add("a", strings.Repeat("ä", 4000), strings.Repeat(`"`, 4000), strings.Repeat(`\`, 4000), strings.Repeat("\U0001f600", 1000), "\n\r", uint8(7))
	f.Fuzz(func(t *testing.T, name, tenant, user, jti, issuer, text string, what uint8) {
		kinds := webhook.Types()
		r, _ := example(kinds[int(what)%len(kinds)])
		r.Name, r.Tenant, r.User, r.JTI, r.Issuer, r.Text, r.VHost = name, tenant, user, jti, issuer, text, tenant
		local := strings.Map(func(r rune) rune {
			if r < ' ' || strings.ContainsRune(`"&'/:<>@`, r) {
				return -1
			}
			return r
		}, name)
		if j, err := jid.New(local[:min(len(local), 1000)], "conference.example.com", ""); err == nil {
			r.Room, r.Who = j, j
		}
		_, body, err := webhook.Body(r, "")
		var back struct {
			Type webhook.Type
			Data map[string]any
		}
		if err != nil || json.Unmarshal(body, &back) != nil || !utf8.Valid(body) || bytes.ContainsAny(body, "\n\r") {
			t.Fatalf("%q: %v", body, err)
		}
		if len(body) > store.MaxValue-4000 {
			t.Errorf("%d bytes", len(body))
		}
		if len(text) < 500 && utf8.ValidString(text) && text != "" && back.Data["text"] != text {
			t.Errorf("the text is %q", back.Data["text"])
		}
	})
}

// FuzzHook: a hook is taken or not; the error quotes no secret; what is taken matches without a fault.
func FuzzHook(f *testing.F) {
	f.Add("portal", "https://user:passwordpassword@host/path?key=value", "standup-*", "admitted")
	f.Add("a b", "http:///x", "[acme]*", "waiting")
	f.Add("", "://", "[", "")
	f.Add("x", "https://[::1]:99999/%zz", "[]", "host-arrived\x00")
	f.Fuzz(func(t *testing.T, name, url, pattern, event string) {
		h := webhook.Hook{Name: name, URL: url, Secrets: secrets(t, vectorSecret), Rooms: []string{pattern}, Events: []webhook.Type{webhook.Type(event)}}
		_, err := webhook.New(webhook.Options{Hooks: []webhook.Hook{h}})
		if err != nil {
			if len(url) > 20 && strings.Contains(err.Error(), url) || strings.Contains(err.Error(), vectorSecret[6:]) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%q", err)
			}
			return
		}
		h.Covers("acme", "standup")
		h.Covers("", pattern)
	})
}

// FuzzRecord: what is written into the store is read again, and what is damaged does no harm.
func FuzzRecord(f *testing.F) {
	f.Add("portal", uint64(7), "msg_1", "standup@conference.example.com", int64(1614265330), "{}")
	f.Add("", uint64(1<<63), "", "", int64(-1), "[]")
	f.Add("a", uint64(0), "x", "[acme]r\u00f6m@c", int64(1<<62), "null")
	f.Add("\x00", uint64(1), "x y", "a\nb", int64(0), "{")
	f.Fuzz(func(t *testing.T, hook string, seq uint64, id, room string, nanos int64, body string) {
		webhook.Parse(store.Record{Kind: store.KindWebhook, Key: hook, Value: []byte(body)})
		webhook.Parse(store.Record{Kind: store.KindWebhook, Key: hook + " " + id + " " + room, Value: []byte(room + " " + id + "\n" + body)})
		if strings.ContainsAny(hook+id, " ") || strings.Contains(room, "\n") || !json.Valid([]byte(body)) {
			return // an Outbox makes no such event
		}
		webhook.Reread(t, hook, seq, id, room, time.Unix(0, nanos), []byte(body))
	})
}
