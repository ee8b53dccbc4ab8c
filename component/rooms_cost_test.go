package component_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/xmpp-usher/usher/component"
)

// wire is a TCP connection to the server that keeps what usher writes.
type wire struct {
	l    net.Listener
	mu   sync.Mutex
	at   string // the server
	sent bytes.Buffer
}

// tapped returns the wire, and the setup that has usher use it.
func tapped(t *testing.T, s setup) (*wire, setup) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{l: l}
	s.options = func(o *component.Options) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.at, o.Server = o.Server, l.Addr().String()
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			w.mu.Lock()
			to := w.at
			w.mu.Unlock()
			w.carries(from, to)
		}
	}()
	return w, s
}

func (w *wire) carries(from net.Conn, to string) {
	defer from.Close()
	server, err := net.Dial("tcp4", to)
	if err != nil {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(from, server); from.Close() })
	_, _ = io.Copy(server, io.TeeReader(from, w))
	server.Close()
	both.Wait()
}

func (w *wire) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.sent.Write(p)
}

var stanzas = regexp.MustCompile(`(?s)<(iq|presence|message)( [^>]*/>|[ >].*?</(iq|presence|message)>)`)

// to returns the stanzas that usher has sent to a room so far, each as a word for what it is.
func (w *wire) to(room string) (words []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range stanzas.FindAllString(w.sent.String(), -1) {
		is := func(what ...string) bool {
			for _, x := range what {
				if !strings.Contains(s, x) {
					return false
				}
			}
			return true
		}
		word := ""
		switch {
		case is("<give", `room="`+room, "affiliation="):
			word = "give"
		case is("<give", `room="`+room):
			word = "context"
		case !is(`to="` + room):
			continue // an answer to a person names the room, too
		case is("<presence", "unavailable"):
			word = "leave"
		case is("<presence"):
			word = "join"
		case is("muc#owner", "<destroy"):
			word = "destroy"
		case is("muc#owner", `type="get"`):
			word = "form?"
		case is("muc#owner"):
			word = "form"
		case is("muc#admin", `type="get"`):
			word = "list?"
		case is("muc#admin"):
			word = "set"
		default:
			word = s
		}
		if is("usher-2") {
			word += "2"
		}
		if word != "join" || len(words) == 0 || words[len(words)-1] != word { // to a slow server it is sent again
			words = append(words, word)
		}
	}
	return words
}

// conferencesIn has people meet in rooms with these numbers, and returns what usher sent to each room.
func (g *gate) conferencesIn(w *wire, from, to int, check func(room string, host *person)) []string {
	g.t.Helper()
	host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
	var all []string
	for i := from; i <= to; i++ {
		name := fmt.Sprintf("room-%d", i)
		room := name + "@" + service
		host.enters(room, mint(g.t, forRoom(name)))
		guest.enters(room, "")
		if check != nil {
			check(room, host)
		}
		guest.leaves(room)
		host.leaves(room)
		g.roomIsGone(host, room)
		all = append(all, strings.Join(w.to(room), " "))
	}
	return all
}

// roomIsGone waits until the server says so.
func (g *gate) roomIsGone(p *person, room string) {
	g.t.Helper()
	g.eventually("the room ends", func() bool {
		return p.iq("get", room, "<query xmlns='http://jabber.org/protocol/disco#info'/>").ErrorCondition() == "item-not-found"
	})
}

// What usher sends to a room from its beginning to its end, on a server with the lines of the README and on one that locks new rooms.
// People get in either way.
func TestWhatARoomIsSent(t *testing.T) {
	t.Parallel()
	given := moduleTakes(t)
	for name, tt := range map[string]struct {
		config string
		want   []string // of the first rooms
	}{
		"made as they must be, with usher's module": {given, []string{
			"join form? form give give destroy",
			"join join2 leave2 form? give give destroy",
			"join give give destroy",
		}},
		"made as they must be": {config, []string{
			"join form? form set set destroy",
			"join join2 leave2 form? set set destroy",
			"join set set destroy",
			"join set set destroy",
		}},
		"locked": {strings.Replace(config, "muc_room_locking = false", "muc_room_locking = true", 1), []string{
			"join form? form set set destroy",
			"join join2 leave2 form? form set set destroy",
			"join form set set destroy",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, s := tapped(t, setup{config: tt.config})
			g := own.start(t, s)
			g.stands()
			if tt.config == given {
				g.eventually("the module takes what is given", func() bool { return len(g.usher.Status().Modules) > 0 && g.usher.Status().Modules[0].Takes })
			}
			for i, got := range g.conferencesIn(w, 1, len(tt.want), nil) {
				if got != tt.want[i] {
					t.Errorf("room %d is sent %q, want %q", i+1, got, tt.want[i])
				}
			}
		})
	}
}

// Somebody takes members-only out of the server's configuration while usher is connected, and has it read again. A room that is
// made then is open until usher notices: at the latest when a stranger comes in, who is put out at once.
func TestServerReadsAnotherConfiguration(t *testing.T) {
	t.Parallel()
	const line = "muc_room_default_members_only = true"
	if !strings.Contains(config, line) {
		t.Fatal("the configuration has no " + line)
	}
	w, s := tapped(t, setup{config: config})
	g := own.start(t, s)
	g.stands()
	g.conferencesIn(w, 1, 2, nil)
	file := filepath.Join(g.Dir, "test.cfg.lua")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(content, []byte(line), []byte("muc_room_default_members_only = false"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(g.PID(), syscall.SIGHUP); err != nil { // Prosody reads its configuration again (util/startup.lua)
		t.Fatal(err)
	}
	g.eventually("the server reads its configuration", func() bool { return strings.Contains(g.Log(), "Reloading configuration file") })
	host, stranger := g.person("meet.example.com"), g.person("meet.example.com")
	const third, fourth = "room-3@" + service, "room-4@" + service
	host.enters(third, mint(t, forRoom("room-3")))
	if g.configured(host, third, membersOnlyField) == "1" {
		t.Fatal("the server has not read its configuration")
	}
	stranger.must("joins without having asked", stranger.named(third), "none participant")
	stranger.isPutOut(third, "301")
	stranger.out(third)
	host.enters(fourth, mint(t, forRoom("room-4")))
	stranger.out(fourth)
	if got := strings.Join(w.to(fourth), " "); !strings.HasPrefix(got, "join form ") {
		t.Errorf("the next room is sent %q", got)
	}
	g.logged("new rooms are not what they must be")
}
