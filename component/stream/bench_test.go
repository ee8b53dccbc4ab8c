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

// BenchmarkReceive is what it costs to take one stanza off the wire and to read all of it.
func BenchmarkReceive(b *testing.B) {
	s := testStream("")
	s.wire = newWire(&conn{sends: strings.NewReader(strings.Repeat(told, b.N))})
	s.wire.opened = true
	b.SetBytes(int64(len(told)))
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
