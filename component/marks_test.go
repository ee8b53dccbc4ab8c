package component

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/element"
)

// The answers to a sender who asks a lot do not delay those to others: usher sends no more until the server has read the first. In
// the end each request is answered.
func TestFloodStandsBehind(t *testing.T) {
	s := newServer(t)
	l := s.connect()
	s.eventually("there is a queue", func() bool { return s.c.work.Load() != nil })
	q := s.c.work.Load()
	q.mu.Lock()
	q.readWithin = time.Hour // a test that is slow to read must not count as one that has read
	q.mu.Unlock()
	const n = 2000
	var all strings.Builder
	for i := range n {
		fmt.Fprintf(&all, "<iq type='set' id='%d' from='eve@meet.example.com/r' to='focus.meet.example.com'><conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com'/></iq>", i)
	}
	all.WriteString("<iq type='get' id='other' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/></iq>")
	go func() { _, _ = l.Write([]byte(all.String())) }()

	answers, marks, other := map[string]bool{}, 0, false
	for len(answers) < n {
		tok, err := l.in.Token()
		if err != nil {
			t.Fatalf("after %d answers: %v", len(answers), err)
		}
		start, ok := tok.(xml.StartElement)
		switch {
		case ok && start.Name.Local == "iq" && element.Attr(start, "id") == "other":
			other = true
		case ok && start.Name.Local == "iq" && strings.HasPrefix(element.Attr(start, "to"), "eve@"):
			answers[element.Attr(start, "id")] = true
			if len(answers) > maxUnread*(marks+1) {
				t.Fatalf("%d answers were sent after %d marks", len(answers), marks)
			}
		case ok && start.Name.Local == "message":
			if marks++; marks == 1 && !other {
				// Nothing that is for eve is read before the other has been answered.
				for element.Attr(l.next("iq"), "id") != "other" {
				}
				other = true
			}
			l.send(fmt.Sprintf("<message from='%s' to='%s' id='%s'/>", element.Attr(start, "from"), element.Attr(start, "to"), element.Attr(start, "id")))
			// What somebody else sends to that address is no mark.
			l.send(fmt.Sprintf("<message from='eve@meet.example.com/r' to='%s' id='%d'/>", element.Attr(start, "to"), marks+1))
		}
	}
	if !other {
		t.Error("the other was not answered")
	}
}
