package focus_test

import (
	"bytes"
	"encoding/xml"
	"strings"
	"testing"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
)

// request is a Jitsi client's, with a token of a usual length: it has a person's name and avatar.
var request = "<conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com'" +
	" machine-uid='0123456789abcdef0123456789abcdef' token='" + strings.Repeat("eyJhbGciOi", 60) + "'>" +
	"<property xmlns='http://jitsi.org/protocol/focus' name='rtcstatsEnabled' value='false'/>" +
	"<property xmlns='http://jitsi.org/protocol/focus' name='visitors-version' value='1'/></conference>"

// BenchmarkParse measures reading a request from bytes.
func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		d := xml.NewDecoder(strings.NewReader(request))
		tok, err := d.Token()
		if err != nil {
			b.Fatal(err)
		}
		start, _ := tok.(xml.StartElement)
		if c, err := focus.Parse(start, d); err != nil || c.Token == "" {
			b.Fatal(c, err)
		}
	}
}

// BenchmarkReply measures an answer, down to its bytes.
func BenchmarkReply(b *testing.B) {
	iq := stanza.IQ{
		ID: "1", Type: stanza.SetIQ,
		From: jid.MustParse("juliet@meet.example.com/phone"), To: jid.MustParse("focus.meet.example.com"),
	}
	conference := focus.Conference{Room: "standup@conference.meet.example.com"}
	for _, told := range []struct {
		name     string
		decision auth.Decision
	}{
		{"ready", auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonMember, Identity: "juliet"}},
		{"wait", auth.Decision{Verdict: auth.Wait, Reason: auth.ReasonHostAbsent}},
		{"refused", auth.Decision{Reason: auth.ReasonTokenExpired}},
	} {
		b.Run(told.name, func(b *testing.B) {
			var out bytes.Buffer
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				enc := xml.NewEncoder(&out)
				if _, err := xmlstream.Copy(enc, focus.Reply(iq, conference, told.decision, "", nil)); err != nil {
					b.Fatal(err)
				}
				if err := enc.Flush(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
