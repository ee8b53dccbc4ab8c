package muc_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
)

// granted is how many grants are live in BenchmarkGrantMemory: ten to a room.
const granted = 10_000

// BenchmarkGrantMemory measures the heap that a live grant takes, of somebody who has joined, together with a tenth of the room:
// rooms have ten people. The server answers all questions at once.
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
			who := jid.MustParse(person(j))
			if err := server.rooms.Grant(ctx, muc.Grant{Room: room, Who: who, Affiliation: "member", Expires: time.Now().Add(time.Hour)}); err != nil {
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

// BenchmarkGuardLook measures a look at a room of ten while a thousand are guarded: one look restores what the room must be, the
// other also asks who is inside. The server takes no time, but its lists are as long as real ones. B/room is the heap that a room
// takes.
func BenchmarkGuardLook(b *testing.B) {
	for name, audit := range map[string]bool{"again": false, "audit": true} {
		b.Run(name, func(b *testing.B) {
			before := heap()
			guard, rooms := guarding(b)
			perRoom := float64(heap()-before) / float64(len(rooms))
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				guard.Look(b.Context(), rooms[n%len(rooms)], audit)
				n++
			}
			b.ReportMetric(perRoom, "B/room")
			if left := guard.Granted(); left != granted {
				b.Fatalf("%d grants are left", left)
			}
		})
	}
}

// BenchmarkGuardRun measures how much a Guard asks in a second where more rooms are due than it can look at: a thousand every
// second, on a server that takes 24 ms for an answer. Eight looks at a time, of one question each or three, are 333 questions a
// second.
func BenchmarkGuardRun(b *testing.B) {
	server := &slow{asked: make(chan struct{}, 1<<16)}
	guard := muc.NewGuard(muc.GuardOptions{
		Options: muc.Options{
			Owner:         muc.Owner{Session: server, JID: jid.MustParse("focus@focus.meet.example.com")},
			Configuration: muc.Configuration{MembersOnly: true},
			Hosts:         func(string) bool { return true },
			Ledger:        muc.Forgetful{},
			Warn:          func(room jid.JID, what string, err error) { b.Errorf("%s: %s: %v", room, what, err) },
		},
		Interval: time.Second,
	})
	for i := range 1000 {
		if err := guard.Open(b.Context(), jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", i)), false); err != nil {
			b.Fatal(err)
		}
	}
	server.takes = 24 * time.Millisecond
	ctx, end := context.WithCancel(b.Context())
	defer end()
	var running sync.WaitGroup
	defer running.Wait()
	defer end()
	running.Go(func() { guard.Run(ctx) })
	for range 100 { // until it is in full swing
		<-server.asked
	}
	began := time.Now()
	for b.Loop() {
		<-server.asked
	}
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "questions/s")
}

// slow is a session with a slow server. It answers that a room is what it must be, and who moderates it.
type slow struct {
	takes time.Duration
	asked chan struct{}
}

func (s *slow) IQ(_ context.Context, _ stanza.IQ, _ xml.TokenReader, v any) error {
	if s.takes > 0 {
		time.Sleep(s.takes)
		s.asked <- struct{}{}
	}
	return xml.Unmarshal([]byte("<query><x xmlns='jabber:x:data' type='form'><field var='muc#roomconfig_membersonly' type='boolean'><value>1</value></field>"+
		"<field var='muc#roomconfig_whois' type='list-single'><value>anyone</value></field></x></query>"), v)
}

func (*slow) Send(xml.TokenReader) error { return nil }

// guarding returns a Guard that looks after rooms of ten.
func guarding(b *testing.B) (*muc.Guard, []jid.JID) {
	b.Helper()
	guard := muc.NewGuard(muc.GuardOptions{
		Options: muc.Options{
			Owner:         muc.Owner{Session: &listing{}, JID: jid.MustParse("focus@focus.meet.example.com")},
			Configuration: muc.Configuration{MembersOnly: true},
			Hosts:         func(string) bool { return true },
			Arrived:       func(jid.JID) {},
			Ledger:        muc.Forgetful{},
			Warn:          func(room jid.JID, what string, err error) { b.Errorf("%s: %s: %v", room, what, err) },
		},
		Focus: jid.MustParse("focus@auth.meet.example.com"), Interval: 5 * time.Second,
	})
	var rooms []jid.JID
	for i := range granted / 10 {
		room := jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", i))
		rooms = append(rooms, room)
		if err := guard.Open(b.Context(), room, false); err != nil {
			b.Fatal(err)
		}
		for j := range 10 {
			if err := guard.Grant(b.Context(), muc.Grant{Room: room, Who: jid.MustParse(person(j)), Affiliation: "member"}); err != nil {
				b.Fatal(err)
			}
		}
		guard.Look(b.Context(), room, true)
	}
	return guard, rooms
}

func person(n int) string { return fmt.Sprintf("abcdefghijklmnopqrst-%03d@guest.meet.example.com", n) }

// listing is a session with a server that does as it is told and has ten participants in each room.
type listing struct{}

func (listing) IQ(_ context.Context, _ stanza.IQ, payload xml.TokenReader, v any) error {
	role := ""
	for {
		tok, err := payload.Token()
		if err != nil && tok == nil {
			break
		}
		if start, ok := tok.(xml.StartElement); ok && start.Name.Local == "item" {
			role = start.Attr[0].Value
		}
	}
	if v == nil {
		return nil
	}
	answer := "<query/>"
	if role == "participant" {
		answer = participants
	}
	return xml.Unmarshal([]byte(answer), v)
}

func (listing) Send(r xml.TokenReader) error {
	_, err := xmlstream.Copy(xmlstream.Discard(), r)
	return err
}

var participants = func() string {
	items := ""
	for j := range 10 {
		items += fmt.Sprintf("<item affiliation='member' role='participant' jid='%s/abcdefghijkl' nick='nick%d'/>", person(j), j)
	}
	return "<query xmlns='http://jabber.org/protocol/muc#admin'>" + items + "</query>"
}()

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
