package component_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// load is people of folk who ask all the time, and what they are told.
type load struct {
	client *prosodytest.Client
	token  string // of a host, for all rooms

	mu      sync.Mutex
	asked   map[string]string // what, by id
	answers map[string]int    // by id
	told    map[string]int    // by outcome
}

func newLoad(t testing.TB, s *prosodytest.Server) *load {
	t.Helper()
	l := &load{
		client: s.Component(t, folk, componentSecret),
		token:  mint(t, func(c *token.Claims) { c.Room, c.Subject = "*", "*" }),
		asked:  map[string]string{}, answers: map[string]int{}, told: map[string]int{},
	}
	go func() {
		for {
			s, err := l.client.Next(context.Background())
			if err != nil {
				return // the end
			}
			l.hears(s)
		}
	}()
	return l
}

// byServer is the answer of Prosody's mod_component while no usher is connected.
const byServer = "remote-server-timeout "

func (l *load) hears(s prosodytest.Stanza) {
	id, typ := s.Attr["id"], s.Attr["type"]
	if s.Name != "iq" || typ != "result" && typ != "error" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.answers[id]++; l.answers[id] > 1 {
		l.told["answered again"]++
		return
	}
	what := outcome(s)
	if l.asked[id] == "ping" && typ == "result" {
		what = "pong"
	}
	l.told[what]++
}

// asks asks once more: guests who have to wait, hosts who open one of a few rooms, and some who ask for a sign of life.
func (l *load) asks(t testing.TB) {
	l.mu.Lock()
	n := len(l.asked)
	id, what := fmt.Sprintf("load-%d", n), "guest"
	who, typ, payload := fmt.Sprintf("guest%d@%s/x", n%97, folk), "set", request(fmt.Sprintf("waiting-%d@%s", n%13, service), "", "")
	switch n % 10 {
	case 0:
		what, who, payload = "host", fmt.Sprintf("host%d@%s/x", n%7, folk), request(fmt.Sprintf("open-%d@%s", n%7, service), l.token, "")
	case 1:
		what, typ, payload = "ping", "get", "<ping xmlns='urn:xmpp:ping'/>"
	}
	l.asked[id] = what
	l.mu.Unlock()
	if err := l.client.Send(fmt.Sprintf("<iq type='%s' id='%s' from='%s' to='%s'>%s</iq>", typ, id, who, domain, payload)); err != nil {
		t.Errorf("asking: %v", err)
	}
}

// run asks some 220 times a second until the context ends.
func (l *load) run(ctx context.Context, t testing.TB) {
	tick := time.NewTicker(4500 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			l.asks(t)
		}
	}
}

func (l *load) sent() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.asked)
}

// settled waits until everybody has an answer, at most so long, and returns how many have none, by what they asked.
func (l *load) settled(within time.Duration) map[string]int {
	late := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		lost := map[string]int{}
		l.mu.Lock()
		for id, what := range l.asked {
			if l.answers[id] == 0 {
				lost[what]++
			}
		}
		l.mu.Unlock()
		if len(lost) == 0 {
			return lost
		}
		select {
		case <-tick.C:
		case <-late:
			return lost
		}
	}
}

// usher is restarted five times while people ask: nobody is left without an answer.
func TestRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	eachMode(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{file: true, crashes: true, server: withFolk, policy: folkPolicy})
		l := newLoad(t, c.Server)
		ctx, cancel := context.WithCancel(t.Context())
		var asking sync.WaitGroup
		asking.Go(func() { l.run(ctx, t) })
		for range 5 {
			n := l.sent()
			c.eventually("more have asked", func() bool { return l.sent() >= n+60 })
			c.halt()
			c.comesBack()
		}
		cancel()
		asking.Wait()
		c.forward(waitHold)
		within := patience
		if m == ejabberd {
			within = patience / 10 // some answers never come
		}
		lost := l.settled(within)
		l.mu.Lock()
		defer l.mu.Unlock()
		t.Logf("%d requests, of which Prosody answered %d while no usher was connected; told %v", len(l.asked), l.told[byServer], l.told)
		sum := 0
		for _, n := range lost {
			sum += n
		}
		// ejabberd drops what it has for a component at the moment when the component closes its stream.
		if sum > 0 && (m != ejabberd || sum > len(l.asked)/20) {
			t.Errorf("lost are %v", lost)
		}
		if l.told["not-authorized stopping"] == 0 || l.told["ready"] == 0 {
			t.Error("nobody was held over a restart, or let in")
		}
	}, own, ejabberd, relay)
}

// BenchmarkHeldKilled counts what is lost when usher is killed (kill -9) while people ask, some 220 times a second: requests that
// reached usher and are answered neither by it nor by the next one. It is killed and started again fifty times in each of
// the two modes.
func BenchmarkHeldKilled(b *testing.B) {
	const kills = 50
	for name, relay := range map[string]bool{"standalone": false, "relay": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			o := prosodytest.JitsiOptions{Secret: componentSecret}
			options := o.Options()
			withFolk(&options)
			server := prosodytest.Start(b, options)
			if relay {
				server.Jicofo(b, o.Jicofo())
			}
			f := benchmarked{Relay: relay, Store: filepath.Join(b.TempDir(), "usher.db"), Hold: 10 * time.Second}
			all, lost, duplicates := 0, map[string]int{}, 0
			for range b.N {
				l := newLoad(b, server)
				usher, end := runFocus(b, f, server.ComponentAddr)
				ctx, cancel := context.WithCancel(b.Context())
				var asking sync.WaitGroup
				asking.Go(func() { l.run(ctx, b) })
				for range kills {
					for n := l.sent(); l.sent() < n+50; {
						<-time.After(10 * time.Millisecond)
					}
					if err := syscall.Kill(usher.pid, syscall.SIGKILL); err != nil {
						b.Fatal(err)
					}
					_ = end() // which was not in good order
					usher, end = runFocus(b, f, server.ComponentAddr)
				}
				cancel()
				asking.Wait()
				for what, n := range l.settled(20 * time.Second) { // more than the hold
					lost[what] += n
				}
				all += l.sent() - l.told[byServer]
				duplicates += l.told["answered again"]
				if err := end(); err != nil {
					b.Error(err)
				}
				_ = l.client.Close()
			}
			sum := 0
			for _, n := range lost {
				sum += n
			}
			b.Logf("of %d requests that reached usher lost are %v, and %d were answered twice", all, lost, duplicates)
			b.ReportMetric(float64(sum)/float64(all)*1000, "lost/1000")
			b.ReportMetric(float64(sum)/float64(b.N*kills), "lost/kill")
		})
	}
}

// Somebody is told to enter just before usher is restarted: the room is there while no usher is, and the next one looks after it.
func TestEntersDuringARestart(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{file: true, crashes: true})
		host, guest := c.person("meet.example.com"), c.person("guest.meet.example.com")
		if got := host.asks(room, mint(t, nil)); got != "ready" {
			t.Fatal(got)
		}
		c.halt()
		if got := host.joins(room); got != "owner moderator" {
			t.Fatalf("the host joins: %s", got)
		}
		c.comesBack()
		guest.enters(room, "")
		c.nothingLeft(room, host, guest)
		c.guards(host, room)
	})
}

// If no other usher is to come, or none that knows of the grants, usher leaves no empty room behind.
func TestLeavesNoRoomForGood(t *testing.T) {
	t.Parallel()
	alone(t, func(t *testing.T, m mode) {
		c := m.start(t, setup{crashes: true, options: func(o *component.Options) { o.Outlives = false }})
		host := c.person("meet.example.com")
		if got := host.asks(room, mint(t, nil)); got != "ready" {
			t.Fatal(got)
		}
		c.halt()
		// Until then ejabberd takes what is sent to the room, and drops it.
		c.eventually("the room is gone", func() bool { return !c.sees(room).Exists })
		if got := host.joins(room); got != m.uncreated() {
			t.Errorf("the host joins: %s", got)
		}
	})
}
