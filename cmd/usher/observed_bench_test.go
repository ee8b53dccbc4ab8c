//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

const (
	// observedRate is how many decisions a second there are, and observedTurn for how long at a time.
	observedRate, observedTurn = 1000, time.Second
	// observedRooms is the number of rooms with a host inside.
	observedRooms = 50
)

// BenchmarkObserved measures what it costs to watch usher: the CPU time of the process for a decision, with metrics, live page and audit
// log ("watched") and without ("plain"), and which part of the first the difference is ("part"). It should be below 0.1.
//
// Two ushers, each a process of its own, take turns at 1,000 decisions a second. Of ten requests, four are of members with tokens who are
// let in, two of guests who are let in, two of guests who wait for a host, and two have a token that is refused. All come from people who
// have not asked before. Of the watched one, a Prometheus reads the metrics every 5 s (15 s are usual), and somebody has the live page
// open; everything goes to the audit log. What stands for the server answers as Prosody does, and is part of this process, so it
// does not count.
func BenchmarkObserved(b *testing.B) {
	staged(b)
	plain := newObserved(b, "plain", "ops: {listen: off}\n")
	watched := newObserved(b, "watched", "ops: {listen: \"unix:ops.sock\"}\naudit: {to: audit.jsonl}\n")
	watched.watch("ops.sock")
	both := []*observed{plain, watched}
	for _, o := range both { // finds both cold
		o.turn()
	}
	plain.used, watched.used, watched.took = nil, nil, 0
	for b.Loop() {
		for _, o := range both {
			o.turn()
		}
		slices.Reverse(both)
	}
	total := func(all []time.Duration) (sum time.Duration) {
		for _, used := range all {
			sum += used
		}
		return sum
	}
	decisions := float64(len(plain.used) * observedRate * int(observedTurn/time.Second))
	without, with := total(plain.used), total(watched.used)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(decisions/watched.took.Seconds(), "decisions/s")
	b.ReportMetric(float64(without.Microseconds())/decisions, "plain-cpu-µs/decision")
	b.ReportMetric(float64(with.Microseconds())/decisions, "watched-cpu-µs/decision")
	b.ReportMetric(1-float64(without)/float64(with), "part")
}

// observed is an usher in a process of its own, and the server that it is connected to.
type observed struct {
	*testing.B
	name string
	us   string // its domain
	cmd  *exec.Cmd
	log  *live
	used []time.Duration // by its process, in each turn
	took time.Duration   // by all turns

	*prosodytest.Stage
	rooms   map[string]bool // those that usher has entered; of the reader
	asked   int
	answers atomic.Int64
	let     atomic.Int64
	more    chan struct{} // after each answer
}

func newObserved(b *testing.B, name, more string) *observed {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	whole, err := os.ReadFile("usher.yaml")
	if err != nil {
		b.Fatal(err)
	}
	yaml := strings.Replace(string(whole), "xmpp:\n", "xmpp:\n  server: "+l.Addr().String()+"\n", 1)
	yaml = strings.Replace(yaml, "rooms:\n", "rooms:\n  wait_hold: 0s\n", 1) + more + "store: {path: " + name + ".db}\n"
	write(b, name+".yaml", yaml)
	o := &observed{B: b, name: name, log: newLive(), more: make(chan struct{}, 1), rooms: map[string]bool{}, us: "focus.meet.example.com"}
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	o.cmd = exec.Command(self, "serve", "-c", name+".yaml")
	o.cmd.Env = append(os.Environ(), asUsher+"=1")
	o.cmd.Stderr = o.log
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := o.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = o.cmd.Process.Kill()
		_ = o.cmd.Wait()
		if b.Failed() {
			b.Logf("the log of %s:\n%s", name, prosodytest.Tail(o.log.String()))
		}
	})
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.Fatal(err)
	}
	link, err := l.Accept()
	if err != nil {
		b.Fatalf("%v:\n%s", err, prosodytest.Tail(o.log.String()))
	}
	b.Cleanup(func() { link.Close() })
	o.Stage = prosodytest.NewStage(link)
	connected := make(chan struct{})
	go o.Play(o.us, func() { close(connected) }, o.hears)
	select {
	case <-connected:
	case <-time.After(time.Minute):
		b.Fatalf("%s does not connect:\n%s", name, prosodytest.Tail(o.log.String()))
	}
	o.opens()
	return o
}

// hears answers a stanza as Prosody does.
func (o *observed) hears(h *prosodytest.Said) {
	_, domain, _ := strings.Cut(h.To, "@")
	room, nick, _ := strings.Cut(h.To, "/")
	switch name := h.XMLName.Local; {
	case h.To == o.us || domain == o.us: // what usher sends to itself
		o.Say(fmt.Sprintf("<%s type='%s' id='%s' from='%s' to='%s'>%s</%s>", name, h.Type, h.ID, h.From, h.To, h.Inner, name))
	case name == "presence" && nick != "" && h.Type == "" && !o.rooms[room]:
		o.rooms[room] = true
		o.Say(fmt.Sprintf("<presence from='%s' to='%s'><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner' role='moderator' jid='%s'/>"+
			"<status code='110'/><status code='201'/></x></presence>", h.To, h.From, h.From))
	case name != "iq":
	case h.Type == "result" || h.Type == "error":
		o.answered(h)
	default:
		o.asks(h, room)
	}
}

// asks answers an IQ to the server or one of its rooms.
func (o *observed) asks(h *prosodytest.Said, room string) {
	if strings.Contains(room, "@") && !o.rooms[room] {
		o.Say(fmt.Sprintf("<iq type='error' id='%s' from='%s' to='%s'><error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>",
			h.ID, h.To, h.From))
		return
	}
	answer := ""
	for _, p := range h.Payloads {
		switch ns := p.XMLName.Space; {
		case strings.HasSuffix(ns, "#owner") && h.Type == "get":
			answer = "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'>" +
				"<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#roomconfig</value></field>" +
				"<field var='muc#roomconfig_membersonly' type='boolean'><value>0</value></field>" +
				"<field var='muc#roomconfig_whois' type='list-single'><value>moderators</value></field></x></query>"
		case strings.HasSuffix(ns, "#admin") && h.Type == "get":
			answer = "<query xmlns='http://jabber.org/protocol/muc#admin'/>"
			if len(p.Items) > 0 && p.Items[0].Role == "moderator" {
				answer = "<query xmlns='http://jabber.org/protocol/muc#admin'><item nick='host' role='moderator' affiliation='owner' jid='" + hostOf(room) + "'/></query>"
			}
		case strings.HasSuffix(ns, "#admin"):
			for _, i := range p.Items {
				o.Say(fmt.Sprintf("<message from='%s' to='focus@%s/usher'><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='%s' jid='%s'/></x></message>",
					room, o.us, i.Affiliation, i.JID))
			}
		case strings.HasSuffix(ns, "disco#info"):
			answer = "<query xmlns='" + ns + "'><identity category='conference' type='text'/><feature var='http://jabber.org/protocol/muc'/></query>"
		}
	}
	o.Say(fmt.Sprintf("<iq type='result' id='%s' from='%s' to='%s'>%s</iq>", h.ID, h.To, h.From, answer))
}

// hostOf returns the host of a room.
func hostOf(room string) string {
	node, _, _ := strings.Cut(room, "@")
	return "host-" + node + "@meet.example.com/1"
}

// answered counts an answer to somebody who asked. Who is let in comes into the room; hosts stay, and the others leave at once.
func (o *observed) answered(h *prosodytest.Said) {
	kind, room, asked := strings.Cut(h.ID, " ")
	if !asked {
		return
	}
	if strings.Contains(h.Inner, `ready="true"`) {
		o.let.Add(1)
		as, role := "member", "participant"
		if kind == "host" {
			as, role = "owner", "moderator"
		}
		node, _, _ := strings.Cut(h.To, "@")
		said := func(typ, as, role string) string {
			return fmt.Sprintf("<presence from='%s/%s' to='focus@%s/usher'%s><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='%s' role='%s' jid='%s'/></x></presence>",
				room, node, o.us, typ, as, role, h.To)
		}
		o.Say(said("", as, role))
		if kind != "host" {
			o.Say(said(" type='unavailable'", as, "none"))
		}
	}
	o.answers.Add(1)
	select {
	case o.more <- struct{}{}:
	default:
	}
}

// ask sends a request of somebody new, for a room.
func (o *observed) ask(kind, room, host, secret, as string) {
	o.asked++
	from := fmt.Sprintf("%s%d@%s/1", kind, o.asked, host)
	if kind == "host" {
		from = hostOf(room)
	}
	attr := ""
	if secret != "" {
		compact, err := token.Mint(token.Claims{
			Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "*", ID: fmt.Sprint("jti", o.asked),
			Expires: time.Now().Add(time.Hour), User: token.User{ID: fmt.Sprint("u", o.asked), Affiliation: as},
		}, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(secret)})
		if err != nil {
			o.Fatal(err)
		}
		attr = " token='" + compact + "'"
	}
	o.Say(fmt.Sprintf("<iq type='set' id='%s %s' from='%s' to='%s'><conference xmlns='http://jitsi.org/protocol/focus' room='%s' machine-uid='m%d'%s/></iq>",
		kind, room, from, o.us, room, o.asked, attr))
}

// all waits until everybody has an answer.
func (o *observed) all() {
	o.Helper()
	late := time.After(time.Minute)
	for o.answers.Load() < int64(o.asked) {
		select {
		case <-o.more:
		case <-late:
			o.Fatalf("%s has answered %d of %d:\n%s", o.name, o.answers.Load(), o.asked, prosodytest.Tail(o.log.String()))
		}
	}
}

func observedRoom(n int) string { return fmt.Sprintf("room%d@conference.meet.example.com", n) }

// opens has a host come into each room.
func (o *observed) opens() {
	o.Helper()
	for n := range observedRooms {
		o.ask("host", observedRoom(n), "meet.example.com", appSecret, "owner")
	}
	o.all()
	if let := o.let.Load(); let != observedRooms {
		o.Fatalf("%s has let in %d of %d hosts:\n%s", o.name, let, observedRooms, prosodytest.Tail(o.log.String()))
	}
}

// turn has people come for a turn, and notes the CPU time that usher takes until all have their answers.
func (o *observed) turn() {
	o.Helper()
	before, let := o.cpu(), o.let.Load()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for sent := 0; sent < observedRate*int(observedTurn/time.Second); {
		<-tick.C
		// As many as are due: the ticker of a busy machine leaves out ticks.
		for due := min(int(time.Since(began).Seconds()*observedRate), observedRate*int(observedTurn/time.Second)); sent < due; sent++ {
			room := observedRoom(sent % observedRooms)
			switch sent % 10 {
			case 0, 1, 2, 3:
				o.ask("member", room, "meet.example.com", appSecret, "member")
			case 4, 5:
				o.ask("guest", room, "guest.meet.example.com", "", "")
			case 6, 7:
				o.ask("early", fmt.Sprintf("empty%d@conference.meet.example.com", sent%1000), "guest.meet.example.com", "", "")
			default:
				o.ask("liar", room, "meet.example.com", "another secret, of 32 bytes or more", "owner")
			}
		}
	}
	o.all()
	if in, want := o.let.Load()-let, int64(observedRate*int(observedTurn/time.Second)*6/10); in != want {
		o.Fatalf("%s has let in %d people of %d:\n%s", o.name, in, want, prosodytest.Tail(o.log.String()))
	}
	o.used = append(o.used, o.cpu()-before)
	o.took += time.Since(began)
}

// cpu returns the CPU time that the process has used.
func (o *observed) cpu() time.Duration { o.Helper(); return cpuOf(o.B, o.cmd.Process.Pid) }

// cpuOf returns the CPU time that a process has used.
func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	used, err := prosodytest.CPUTime(pid)
	if err != nil {
		b.Skip(err)
	}
	return used
}

// watch has the metrics read every five seconds, and the live page open, until the end.
func (o *observed) watch(socket string) {
	o.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	var watching sync.WaitGroup
	o.Cleanup(func() { cancel(); watching.Wait(); c.CloseIdleConnections() })
	get := func(path string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
		if err != nil {
			return err
		}
		answer, err := c.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s has status %d", path, answer.StatusCode)
		}
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	for _, path := range []string{"/metrics", "/page/rooms"} {
		if err := get(path); err != nil {
			o.Fatal(err)
		}
	}
	watching.Go(func() {
		if err := get("/page/events"); err != nil && ctx.Err() == nil {
			o.Error(err)
		}
	})
	watching.Go(func() {
		tick := time.NewTicker(5 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := get("/metrics"); err != nil && ctx.Err() == nil {
				o.Error(err)
			}
		}
	})
}
