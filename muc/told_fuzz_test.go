package muc

import (
	"encoding/xml"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"mellium.im/xmpp/jid"
)

// listening returns a Told that has asked a service to tell, without a connection.
func listening(news func(News)) (*Told, *teller) {
	told := NewTold(ToldOptions{From: jid.MustParse(us), Mirror: true, News: news, Warn: func(jid.JID, string, error) {}})
	told.Use([]jid.JID{jid.MustParse(mucDomain)})
	s := told.tellers[mucDomain]
	told.starts(s)
	_ = told.answered(s, "1", sign{Boot: "b", N: 0})
	return told, s
}

// FuzzHear has a Told hear anything as the body of a message. It must not fail over it, and whatever it takes in can be asked for.
func FuzzHear(f *testing.F) {
	for _, said := range []string{
		snapshot, "<complete/>", "<hello version='1'/>", "<bye/>", "<joined room='" + standup + "' nick='n' jid='" + ann + "/1' role='participant' affiliation='none'/>",
		"<left room='" + standup + "' nick='r' why='kicked' by='" + juliet + "' breakouts='1'/>", "<role room='" + standup + "' nick='r' role='visitor'/>",
		"<affiliation room='" + standup + "' jid='" + ann + "' affiliation='admin'/>", "<settings room='" + standup + "' lobby='x@y' main='" + retro + "'/>",
		"<ended room='" + standup + "'/>", "<refused room='" + standup + "' jid='" + ann + "' affiliation='member' condition='outcast' is='outcast'/>", "<room jid='@" + mucDomain + "'/>",
	} {
		f.Add(fmt.Sprintf("<told xmlns='%s' boot='b' n='2'>%s</told>", NSModule, said))
	}
	f.Fuzz(func(t *testing.T, body string) {
		told, s := listening(func(n News) {
			if n.Room.Domainpart() != mucDomain {
				t.Errorf("news of %s", n.Room)
			}
		})
		for n, said := range []string{fmt.Sprintf("<told xmlns='%s' boot='b' n='1'>%s</told>", NSModule, snapshot), body, fmt.Sprintf("<told xmlns='%s' boot='b' n='3'><complete/></told>", NSModule)} {
			ours, err := hearsAnything(told, said)
			if n == 1 && ours && err != nil && s.listening {
				t.Error("it goes on after what makes no sense")
			}
		}
		for _, room := range []string{standup, retro} {
			j := jid.MustParse(room)
			for _, role := range rolesInside {
				_, _, _ = told.list(j, "role", role)
			}
			_, _, _ = told.configured(j)
			_, _ = told.lobby(j)
			_, _ = told.MadeBy(j, romeo)
		}
	})
}

// hearsAnything has a Told hear a body that may be no XML.
func hearsAnything(told *Told, body string) (bool, error) {
	d := xml.NewDecoder(strings.NewReader("<message from='" + mucDomain + "' to='focus.meet.example.com'>" + body + "</message>"))
	tok, err := d.Token()
	if err != nil {
		return false, err
	}
	return told.Hear(jid.MustParse(mucDomain), tok.(xml.StartElement), d)
}

// BenchmarkMirrorMemory measures the heap that the mirror of a room of ten people takes, as Jitsi's clients name them.
func BenchmarkMirrorMemory(b *testing.B) {
	const rooms = 10_000
	var kept []*Told
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		told, _ := listening(nil)
		n := 0
		tell := func(format string, args ...any) {
			n++
			if _, err := hearsAnything(told, fmt.Sprintf("<told xmlns='%s' boot='b' n='%d'>%s</told>", NSModule, n, fmt.Sprintf(format, args...))); err != nil {
				b.Fatal(err)
			}
		}
		for r := range rooms {
			room := fmt.Sprintf("room-%06d@%s", r, mucDomain)
			tell("<room jid='%s' public_jids='1'><affiliation jid='%s' affiliation='owner'/></room>", room, jicofo)
			for p := range 10 {
				node := fmt.Sprintf("%08x-1111-4222-8333-%012x", r*10+p, p)
				tell("<affiliation room='%s' jid='%s@meet.example.com' affiliation='member' by='%s'/>", room, node, us)
				tell("<joined room='%s' nick='%s' jid='%s@meet.example.com/%s' role='participant' affiliation='member'/>", room, node[:8], node, "Zm9vYmFyMTIz")
			}
		}
		kept = append(kept, told)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(kept)*rooms), "B/room")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*rooms*21), "µs/tell")
	b.ReportMetric(0, "ns/op")
	runtime.KeepAlive(kept)
}
