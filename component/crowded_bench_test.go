package component_test

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// BenchmarkCrowded measures the memory of usher's process (VmRSS, as it is: the collector runs when it would) with 10,000 rooms of ten people,
// before a Jicofo and with the store in a file, once usher's module has told it of all of them. The first of each room has come with a token,
// and is its owner; the others are guests. With a token for everybody it is about a quarter more. The server and Jicofo are a stage, which costs less than 100,000 people in a real Prosody: what usher has of
// them is the same.
func BenchmarkCrowded(b *testing.B) {
	const rooms, people = 10_000, 10
	b.ReportMetric(0, "ns/op")
	for range b.N {
		s := newStage(b)
		began := time.Now()
		usher := startFocus(b, benchmarked{Relay: true, Store: filepath.Join(b.TempDir(), "usher.db")}, s.Addr().String())
		<-s.connected
		s.fill(b, rooms, people)
		full := time.Since(began)
		<-time.After(15 * time.Second) // the store has its last checkpoint, and has unmapped what it has read of the file
		rss := usher.status(b, "VmRSS")
		b.Logf("%d rooms of %d after %s: VmRSS %.0f MB (RssAnon %.0f, RssFile %.0f), heap %.0f MB", rooms, people, full.Round(time.Second),
			rss, usher.status(b, "RssAnon"), usher.status(b, "RssFile"), float64(usher.heap(b))/1e6)
		b.ReportMetric(rss, "MB")
		row(b, fmt.Sprintf("RSS of usher, %d rooms of %d, with store", rooms, people), rss, "MB", atMost, 200)
	}
}

// stage is a server for usher alone, on which rooms of any number cost nothing. It has a Jicofo, members-only rooms, and usher's module.
type stage struct {
	net.Listener
	*prosodytest.Stage
	connected chan struct{}       // closed when usher is
	rooms     map[string][]string // occupants, as items of muc#admin; of the reader, as told is
	told      int                 // -1 until usher asks to be told
	answered  chan string         // ids of requests of people who may enter
}

func newStage(b *testing.B) *stage {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &stage{Listener: l, connected: make(chan struct{}), rooms: map[string][]string{}, told: -1, answered: make(chan string, 1<<10)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		link, err := l.Accept()
		if err != nil {
			return
		}
		defer link.Close()
		s.Stage = prosodytest.NewStage(link)
		s.Play(domain, func() { close(s.connected) }, s.hears)
	}()
	b.Cleanup(func() { l.Close(); <-done })
	return s
}

func (s *stage) say(format string, args ...any) { s.Say(fmt.Sprintf(format, args...)) }

// tell tells something as usher's module does.
func (s *stage) tell(format string, args ...any) {
	if s.told < 0 {
		return
	}
	s.told++
	s.say("<message from='%s' to='%s'><told xmlns='urn:usher:module:0' boot='b' n='%d'>%s</told></message>", service, domain, s.told, fmt.Sprintf(format, args...))
}

func (s *stage) hears(h *prosodytest.Said) {
	jicofo := jicofoJID + "/focus"
	switch {
	case h.XMLName.Local == "presence" && h.Type == "subscribe":
		s.say("<presence type='subscribed' from='%s' to='%s'/><presence from='%s' to='%s'/>", jicofoJID, domain, jicofo, domain)
	case h.XMLName.Local != "iq":
	case strings.Contains(h.To, "@"+domain) || h.To == domain: // of usher's to itself
		s.say("<iq type='%s' id='%s' from='%s' to='%s'>%s</iq>", h.Type, h.ID, h.From, h.To, h.Inner)
	case h.Type == "result" || h.Type == "error":
		if strings.Contains(h.Inner, `ready="true"`) {
			s.joins(h)
		} else if strings.Contains(h.To, folk) {
			s.answered <- "refused: " + h.ID + " " + h.Inner
		}
	default:
		answer, ok := s.answer(h)
		if !ok {
			s.say("<iq type='error' id='%s' from='%s' to='%s'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", h.ID, h.To, h.From)
			return
		}
		s.say("<iq type='result' id='%s' from='%s' to='%s'>%s</iq>", h.ID, h.To, h.From, answer)
		if strings.Contains(h.Inner, "<listen ") {
			s.told = 0
			s.tell("<complete/>")
		}
	}
}

// answer returns the payload of the answer to a question of usher's; not ok is for a room that is not there.
func (s *stage) answer(h *prosodytest.Said) (payload string, ok bool) {
	occupants, exists := s.rooms[h.To]
	switch {
	case h.To == jicofoJID+"/focus":
		_, rest, _ := strings.Cut(h.Inner, `room="`)
		room, _, _ := strings.Cut(rest, `"`)
		if _, ok := s.rooms[room]; !ok {
			focus := fmt.Sprintf("<item nick='focus' role='moderator' affiliation='owner' jid='%s/focus'/>", jicofoJID)
			s.rooms[room] = []string{focus}
			s.tell("<room jid='%s' members_only='1' public_jids='1'>%s<affiliation jid='%s' affiliation='owner'/></room>", room, strings.Replace(focus, "<item", "<occupant", 1), jicofoJID)
		}
		return fmt.Sprintf("<conference xmlns='%s' ready='true' focusjid='%s' room='%s'/>", nsFocus, jicofoJID, room), true
	case strings.Contains(h.Inner, "<listen "):
		return "<listening xmlns='urn:usher:module:0' version='1' boot='b' n='0'/>", true
	case strings.Contains(h.Inner, "<alive "):
		return fmt.Sprintf("<alive xmlns='urn:usher:module:0' boot='b' n='%d'/>", s.told), true
	case strings.Contains(h.To, "@") && !exists:
		return "", false
	case strings.Contains(h.Inner, "muc#owner") && h.Type == "get":
		return "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'>" +
			"<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#roomconfig</value></field>" +
			"<field var='muc#roomconfig_membersonly' type='boolean'><value>1</value></field>" +
			"<field var='muc#roomconfig_whois' type='list-single'><value>anyone</value></field></x></query>", true
	case strings.Contains(h.Inner, "muc#admin") && h.Type == "get":
		var items strings.Builder
		_, rest, _ := strings.Cut(h.Inner, "<item ")
		asked, _, _ := strings.Cut(strings.ReplaceAll(rest, `"`, "'"), "'>") // role='…' or affiliation='…'
		for _, o := range occupants {
			if strings.Contains(o, asked) {
				items.WriteString(o)
			}
		}
		return "<query xmlns='http://jabber.org/protocol/muc#admin'>" + items.String() + "</query>", true
	case strings.Contains(h.Inner, "disco#info"):
		return "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='conference' type='text'/><feature var='http://jabber.org/protocol/muc'/></query>", true
	}
	return "", true
}

// joins has somebody who may enter come in. The id of the request is their nick and the room.
func (s *stage) joins(h *prosodytest.Said) {
	nick, room, _ := strings.Cut(h.ID, " ")
	role, affiliation := "participant", "member"
	if nick == "nick0" {
		role, affiliation = "moderator", "owner"
	}
	item := fmt.Sprintf("nick='%s' role='%s' affiliation='%s' jid='%s'", nick, role, affiliation, h.To)
	s.rooms[room] = append(s.rooms[room], "<item "+item+"/>")
	s.tell("<joined room='%s' %s/>", room, item)
	s.answered <- h.ID
}

// fill has people come, those of a room one after the other, and returns when all are inside.
func (s *stage) fill(b *testing.B, rooms, people int) {
	b.Helper()
	const atOnce = 64
	p := newPasses(b)
	ask := func(n, r int) {
		token := ""
		if n == 0 {
			token = p.token
		}
		room := fmt.Sprintf("crowded-%d@%s", r, service)
		s.say("<iq type='set' id='nick%d %s' from='nick%d-%d@%s/x' to='%s'>%s</iq>", n, room, n, r, folk, domain, request(room, token, ""))
	}
	late := time.After(10 * time.Minute)
	for n := range people {
		for r := range rooms + atOnce {
			if r < rooms {
				ask(n, r)
			}
			if r < atOnce {
				continue
			}
			select {
			case id := <-s.answered:
				if strings.HasPrefix(id, "refused") {
					b.Fatal(id)
				}
			case <-late:
				b.Fatalf("waiting for person %d of room %d", n, r-atOnce)
			}
		}
	}
}
