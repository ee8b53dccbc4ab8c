package muc_test

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"runtime"
	"slices"
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
		kept = append(kept, crowded(b, granted/10, 10, time.Now))
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

// crowded returns Rooms with as many rooms, and people in each of them.
func crowded(b *testing.B, many, people int, now func() time.Time) *muc.Rooms {
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
		Now:           now,
	})
	ctx := b.Context()
	for i := range many {
		room := jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", i))
		if err := server.rooms.Open(ctx, room, true); err != nil {
			b.Fatal(err)
		}
		for j := range people {
			who := jid.MustParse(person(room, j))
			if err := server.rooms.Grant(ctx, muc.Grant{Room: room, Who: who, Affiliation: "member", Expires: time.Now().Add(time.Hour)}); err != nil {
				b.Fatal(err)
			}
			server.presence(b, room.String()+fmt.Sprintf("/nick%d", j), "member", "participant", who.String()+"/abcdefghijkl", "")
		}
	}
	if rooms, grants := server.rooms.Count(); rooms != many || grants != many*people {
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
			guard, rooms := guarding(b, granted/10, 10)
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

// BenchmarkManyRooms measures, with a hundred rooms and with ten thousand, how long the locks of Guard and Rooms are held for: whether
// somebody holds a grant anywhere, a look at a room that asks who is inside, and one turn of the looks at rooms that are due while all are.
// It must take about as long with ten thousand.
func BenchmarkManyRooms(b *testing.B) {
	b.ReportMetric(0, "ns/op")
	for _, what := range []struct {
		name  string
		takes func(b *testing.B, rooms int) time.Duration
	}{{"who holds a grant", holds}, {"audit", audits}, {"sweep", sweeps}} {
		var few, many time.Duration
		for range b.N {
			few, many = what.takes(b, 100), what.takes(b, 10_000)
		}
		verdict, must := "ok", 2*few+outOfCache
		if many > must {
			verdict = "short"
		}
		b.Logf("\n| %-70s | %9.2f %-5s | %-12s | %s", what.name+", at 10,000 rooms", many.Seconds()*1e6, "µs",
			fmt.Sprintf("≤ %.1f µs", must.Seconds()*1e6), verdict)
	}
}

// outOfCache is what it may take longer because ten thousand rooms are not in the processor's cache.
const outOfCache = 5 * time.Microsecond

// holds measures HasGrant, for people who are in one room each.
func holds(b *testing.B, rooms int) time.Duration {
	guard, _ := guarding(b, 0, 0)
	var who []jid.JID
	for i := range rooms {
		room := jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", i))
		who = append(who, jid.MustParse(fmt.Sprintf("somebody-%d@guest.meet.example.com", i)))
		err := guard.Open(b.Context(), room, false)
		if err == nil {
			err = guard.Grant(b.Context(), muc.Grant{Room: room, Who: who[i], Affiliation: "member"})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	const n = 200_000
	began := time.Now()
	for i := range n {
		if !guard.HasGrant(jid.JID{}, who[i*7919%len(who)]) {
			b.Fatal("somebody has no grant")
		}
	}
	return time.Since(began) / n
}

// audits measures looks at rooms of ten that ask who is inside. The server takes no time.
func audits(b *testing.B, rooms int) time.Duration {
	guard, all := guarding(b, rooms, 10)
	const n = 3000
	began := time.Now()
	for i := range n {
		guard.Look(b.Context(), all[i*7919%len(all)], true)
	}
	return time.Since(began) / n
}

// sweeps measures one turn of the looks at rooms that are due.
func sweeps(b *testing.B, rooms int) time.Duration {
	var all []time.Duration
	for len(all) < 300 {
		now := time.Now()
		r := crowded(b, rooms, 1, func() time.Time { return now })
		now = now.Add(time.Hour)
		for more := true; more; {
			began := time.Now()
			more = r.LookAtDue()
			all = append(all, time.Since(began))
		}
	}
	slices.Sort(all)
	return all[len(all)/2]
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

// guarding returns a Guard that looks after as many rooms, in each of which people have been seen.
func guarding(b *testing.B, many, people int) (*muc.Guard, []jid.JID) {
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
	for i := range many {
		room := jid.MustParse(fmt.Sprintf("room-%d@conference.meet.example.com", i))
		rooms = append(rooms, room)
		if err := guard.Open(b.Context(), room, false); err != nil {
			b.Fatal(err)
		}
		for j := range people {
			if err := guard.Grant(b.Context(), muc.Grant{Room: room, Who: jid.MustParse(person(room, j)), Affiliation: "member"}); err != nil {
				b.Fatal(err)
			}
		}
		guard.Look(b.Context(), room, true)
	}
	return guard, rooms
}

func person(room jid.JID, n int) string {
	return fmt.Sprintf("%s-abcdefghij-%03d@guest.meet.example.com", room.Localpart(), n)
}

// listing is a session with a server that does as it is told and has ten participants in each room.
type listing struct{}

func (listing) IQ(_ context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
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
		answer = participants(iq.To)
	}
	return xml.Unmarshal([]byte(answer), v)
}

func (listing) Send(r xml.TokenReader) error {
	_, err := xmlstream.Copy(xmlstream.Discard(), r)
	return err
}

func participants(room jid.JID) string {
	items := ""
	for j := range 10 {
		items += fmt.Sprintf("<item affiliation='member' role='participant' jid='%s/abcdefghijkl' nick='nick%d'/>", person(room, j), j)
	}
	return "<query xmlns='http://jabber.org/protocol/muc#admin'>" + items + "</query>"
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
