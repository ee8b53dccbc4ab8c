package muc_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
)

// granted is how many grants are live in BenchmarkGrantMemory: ten to a room.
const granted = 10_000

// BenchmarkGrantMemory measures the heap that a live grant takes: somebody who was let in and has joined, and a tenth
// of the room, since rooms of ten are what it is about. The server answers all questions at once.
func BenchmarkGrantMemory(b *testing.B) {
	var kept []*muc.Rooms
	before := heap()
	for b.Loop() {
		kept = append(kept, crowded(b))
	}
	b.ReportMetric(float64(heap()-before)/float64(len(kept)*granted), "B/grant")
	b.ReportMetric(0, "ns/op") // of ten thousand grants, to a server that takes no time
	runtime.KeepAlive(kept)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// crowded returns Rooms with all grants live.
func crowded(b *testing.B) *muc.Rooms {
	b.Helper()
	server := &consenting{}
	owner := muc.Owner{Session: server, JID: jid.MustParse("focus@focus.meet.example.com")}
	server.rooms = muc.NewRooms(muc.Options{
		Owner:         owner,
		Configuration: muc.Configuration{MembersOnly: true},
		Hosts:         func(string) bool { return true },
		Arrived:       func(jid.JID) {},
		Ledger:        muc.Forgetful{},
		Warn:          func(room jid.JID, what string, err error) { b.Errorf("%s: %s: %v", room, what, err) },
	})
	ctx := b.Context()
	for i := range granted / 10 {
		room := jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", i))
		if err := server.rooms.Open(ctx, room, true); err != nil {
			b.Fatal(err)
		}
		for j := range 10 {
			who := jid.MustParse(fmt.Sprintf("abcdefghijklmnopqrst-%03d@guest.meet.example.com", j))
			if err := server.rooms.Grant(ctx, room, who, "member", time.Now().Add(time.Hour)); err != nil {
				b.Fatal(err)
			}
			server.presence(b, room.String()+fmt.Sprintf("/nick%d", j), "member", "participant", who.String()+"/abcdefghijkl", "")
		}
	}
	if rooms, grants := server.rooms.Count(); rooms != granted/10 || grants != granted {
		b.Fatalf("%d rooms, %d grants", rooms, grants)
	}
	return server.rooms
}

// consenting is a session with a server that creates every room and does as it is told.
type consenting struct{ rooms *muc.Rooms }

func (s *consenting) IQ(_ context.Context, _ stanza.IQ, payload xml.TokenReader, _ any) error {
	_, err := xmlstream.Copy(xmlstream.Discard(), payload)
	return err
}

func (s *consenting) Send(r xml.TokenReader) error {
	tok, err := r.Token()
	if err != nil {
		return err
	}
	for _, a := range tok.(xml.StartElement).Attr {
		if a.Name.Local == "to" {
			return s.tell(a.Value, "owner", "moderator", "focus@focus.meet.example.com/usher", "<status code='110'/><status code='201'/>")
		}
	}
	return io.ErrUnexpectedEOF
}

func (s *consenting) presence(b *testing.B, from, affiliation, role, who, status string) {
	b.Helper()
	if err := s.tell(from, affiliation, role, who, status); err != nil {
		b.Fatal(err)
	}
}

// tell has the rooms read a presence of an occupant.
func (s *consenting) tell(from, affiliation, role, who, status string) error {
	d := xml.NewDecoder(strings.NewReader(fmt.Sprintf("<presence from='%s'><x xmlns='%s'><item affiliation='%s' role='%s' jid='%s'/>%s</x></presence>",
		from, muc.NSUser, affiliation, role, who, status)))
	tok, err := d.Token()
	if err != nil {
		return err
	}
	return s.rooms.Presence(tok.(xml.StartElement), d)
}
