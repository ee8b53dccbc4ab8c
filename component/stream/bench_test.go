package stream

import (
	"errors"
	"io"
	"strings"
	"testing"

	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// told is a stanza such as usher reads several of for each person who joins.
const told = `<message from='conference.meet.example.com' to='focus.meet.example.com'><told xmlns='urn:usher:module:0' boot='6Qx0aPzj' n='4711'>` +
	`<joined room='standup@conference.meet.example.com' nick='3f2a9c51' jid='0c9d7a4e-8a52@meet.example.com/qhXb2Ta7' role='participant' affiliation='member'/></told></message>`

// presence is one of a Jitsi client, as an occupant gets it.
const presence = `<presence from='standup@conference.meet.example.com/3f2a9c51' to='focus@focus.meet.example.com/usher'>` +
	`<x xmlns='http://jabber.org/protocol/muc'/><stats-id>Aurelie-P4k</stats-id><region id='eu' xmlns='http://jitsi.org/jitsi-meet'/>` +
	`<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='https://jitsi.org/jitsi-meet' ver='kEoQ+Tr0wTlHvgGmk5pzcA3jYVw='/>` +
	`<SourceInfo>{&quot;3f2a9c51-a0&quot;:{&quot;muted&quot;:true},&quot;3f2a9c51-v0&quot;:{&quot;muted&quot;:true}}</SourceInfo>` +
	`<jitsi_participant_codecType/><jitsi_participant_codecList>av1,vp9,vp8,h264</jitsi_participant_codecList>` +
	`<nick xmlns='http://jabber.org/protocol/nick'>Zoë</nick><avatar-id>b0a1c2d3</avatar-id>` +
	`<x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='member' jid='0c9d7a4e-8a52@meet.example.com/qhXb2Ta7' role='participant'/></x></presence>`

// BenchmarkReceive is what it costs to take one stanza off the wire and to read all of it.
func BenchmarkReceive(b *testing.B) {
	b.Run("told", func(b *testing.B) { receives(b, told) })
	b.Run("presence", func(b *testing.B) { receives(b, presence) })
}

func receives(b *testing.B, raw string) {
	s := testStream("")
	s.wire = newWire(&conn{sends: strings.NewReader(strings.Repeat(raw, b.N))})
	s.wire.opened = true
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	b.ResetTimer()
	_ = s.Receive(func(st Stanza) {
		for {
			if _, err := st.Body.Token(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}, func(any) {})
}

// BenchmarkSend is what it costs to queue one.
func BenchmarkSend(b *testing.B) {
	s := testStream("")
	b.ReportAllocs()
	for b.Loop() {
		give := element.Empty("urn:usher:module:0", "give", element.NewAttr("room", theRoom.String()),
			element.NewAttr("jid", "0c9d7a4e-8a52@meet.example.com"), element.NewAttr("affiliation", "member"), element.NewAttr("was", "none"))
		if err := s.Send(stanza.Message{ID: "1", From: ours, To: theRoom.Domain(), Type: stanza.NormalMessage}.Wrap(give)); err != nil {
			b.Fatal(err)
		}
		<-s.unsent
	}
}
