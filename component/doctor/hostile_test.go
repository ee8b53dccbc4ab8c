package doctor_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// statuses lists what is neither ok nor skipped, for servers that are none.
func statuses(checks []doctor.Check) string {
	var b strings.Builder
	for _, c := range checks {
		if c.Status != doctor.OK && c.Status != doctor.Skip {
			b.WriteString(string(c.Status) + " " + c.Code + " ")
		}
	}
	return b.String()
}

// A server that ends during the examination is one failure, and the doctor does not wait for it.
func TestServerEnds(t *testing.T) {
	for _, code := range []string{"answers", "service", "room-create", "room-member", "jicofo"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			p := admit(t, false, false, "", "")
			p.jicofo()
			p.on[code] = p.Kill
			p.o.Watch = time.Minute
			p.found(p.examined(), map[doctor.Status]string{"fail": "stays", "skip": strings.TrimSuffix(after(code), "stays")})
		})
	}
}

// The doctor gives up a server that hangs after one question. When the server goes on, it does what the doctor told it.
func TestServerStandsStill(t *testing.T) {
	t.Parallel()
	p := admit(t, false, false, "", "")
	p.jicofo()
	p.on["room-member"] = p.Pause
	p.found(p.examined(), map[doctor.Status]string{"fail": "stays", "skip": strings.TrimSuffix(after("room-member"), "stays")})
	p.Resume()
	p.clean()
}

// A server that does the handshake and nothing else is one failure.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	p := admit(t, false, false, "", "")
	p.o.Server = listen(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		_, _ = in.ReadString('>') // the XML declaration or the stream
		_, _ = io.WriteString(c, "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' id='i'><handshake/>")
		_, _ = io.Copy(io.Discard, in)
	})
	if got := statuses(p.examined()); got != "fail answers warn lobby-gate " {
		t.Error(got)
	}
}

// What listens is no XMPP server.
func TestNoServer(t *testing.T) {
	for name, says := range map[string]string{
		"closes":   "",
		"HTTP":     "HTTP/1.1 400 Bad Request\r\n\r\n",
		"an error": "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns='jabber:component:accept' id='i'><stream:error><undefined-condition xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := admit(t, false, false, "", "")
			p.o.Server = listen(t, func(c net.Conn) { _, _ = io.WriteString(c, says) })
			p.found(p.examined(), map[doctor.Status]string{"fail": "handshake", "skip": after("handshake")})
		})
	}
}

// listen accepts connections for the time of the test.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// fragile makes the doctor connect through a proxy; breaks breaks the first connection. The server notices that when noticed is
// closed. refused is called when the server refuses a connection because of the first.
func (p *patient) fragile(noticed <-chan struct{}, refused func()) (breaks func()) {
	first := make(chan net.Conn, 1)
	var connections atomic.Int32
	server := p.o.Server
	p.o.Server = listen(p.t, func(c net.Conn) {
		s, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		isFirst := connections.Add(1) == 1
		if isFirst {
			first <- c
		}
		var g sync.WaitGroup
		g.Go(func() {
			_, _ = io.Copy(s, c)
			if isFirst {
				<-noticed
			}
			s.Close()
		})
		_, _ = io.Copy(io.MultiWriter(c, finds{"<conflict", refused}), s)
		c.Close()
		s.Close()
		g.Wait()
	})
	return func() { (<-first).Close() }
}

// offline calls seen as soon as the server has told the doctor that Jicofo is not online.
func (p *patient) offline(seen func()) {
	server := p.o.Server
	var once sync.Once
	p.o.Server = listen(p.t, func(c net.Conn) {
		s, err := net.Dial("tcp", server)
		if err != nil {
			return
		}
		var g sync.WaitGroup
		g.Go(func() {
			_, _ = io.Copy(s, c)
			s.Close()
		})
		_, _ = io.Copy(io.MultiWriter(c, finds{"unavailable", func() { once.Do(seen) }}), s)
		c.Close()
		s.Close()
		g.Wait()
	})
}

// The doctor waits for a Jicofo that starts together with Prosody.
func TestJicofoStarts(t *testing.T) {
	t.Parallel()
	p := admit(t, false, false, "", "")
	p.o.Starting = 5 * time.Minute
	var late *prosodytest.Jicofo
	var err error
	p.offline(func() { late, err = p.DialJicofo(t.Context(), jicofoOptions()) })
	p.found(p.examined(), nil)
	if err != nil || late == nil {
		t.Fatalf("Jicofo did not start: %v", err)
	}
	p.clean()
	late.Close()
}

// The doctor stops waiting for Jicofo when it is interrupted, or the server is gone.
func TestJicofoNeverStarts(t *testing.T) {
	t.Run("interrupted", func(t *testing.T) {
		t.Parallel()
		p := admit(t, false, false, "", "")
		p.o.Starting = time.Hour
		ctx, cancel := context.WithCancel(t.Context())
		p.offline(cancel)
		last := ""
		if err := doctor.Run(ctx, p.o, func(c doctor.Check) { last = c.Code }); !errors.Is(err, context.Canceled) || last != "clock" {
			t.Errorf("%v after %s", err, last)
		}
	})
	t.Run("the server ends", func(t *testing.T) {
		t.Parallel()
		p := admit(t, false, false, "", "")
		p.o.Starting = time.Hour
		p.offline(p.Kill)
		p.found(p.examined(), map[doctor.Status]string{"fail": "stays", "skip": "jicofo " + strings.TrimSuffix(after("jicofo"), "stays")})
	})
	t.Run("not shown", func(t *testing.T) { // the doctor would not see it come
		t.Parallel()
		p := admit(t, false, false, "prosodytest_subscriptions", "no_subscriptions")
		p.o.Starting = time.Hour
		p.found(p.examined(), map[doctor.Status]string{"fail": "jicofo", "skip": "jicofo-auth jicofo-owner"})
	})
}

// finds calls found for each written piece that contains the text.
type finds struct {
	text  string
	found func()
}

func (f finds) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(f.text)) {
		f.found()
	}
	return len(b), nil
}

// If the connection breaks while a room exists, the doctor connects again to remove it. It tries as long as the server has not
// noticed that the first connection is gone.
func TestConnectionBreaks(t *testing.T) {
	for _, code := range []string{"room-create", "jicofo-auth", "room-member", "room-moderators"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			p := admit(t, false, false, "", "")
			p.jicofo()
			noticed := make(chan struct{})
			var once sync.Once
			notice := func() { once.Do(func() { close(noticed) }) }
			p.on[code] = p.fragile(noticed, notice)
			t.Cleanup(notice)
			got := p.examined()
			p.found(got, map[doctor.Status]string{"fail": "stays", "skip": strings.TrimSuffix(after(code), "stays")})
			if last := got[len(got)-1]; last.Code != "stays" {
				t.Errorf("the last check is %+v", last)
			}
			select {
			case <-noticed:
			default:
				t.Error("nobody was refused while the first connection was there")
			}
			p.clean()
		})
	}
}

// The doctor does not displace another component that has connected meanwhile, and reports the rooms that may be left.
func TestAnotherConnects(t *testing.T) {
	t.Parallel()
	p := admit(t, false, false, "", "")
	p.jicofo()
	noticed := make(chan struct{})
	close(noticed)
	breaks := p.fragile(noticed, func() {})
	var rival *prosodytest.Client
	p.on["room-member"] = func() {
		breaks()
		for rival == nil && t.Context().Err() == nil { // until the server has noticed
			rival, _ = p.DialComponent(t.Context(), domain, p.secret)
		}
	}
	got := p.examined()
	p.found(got, map[doctor.Status]string{"fail": "stays", "skip": strings.TrimSuffix(after("room-member"), "stays")})
	if last := got[len(got)-1]; last.Code != "clean" || last.Status != doctor.Warn || !strings.Contains(last.Says, "@conference.meet.example.com") {
		t.Errorf("the last check is %+v", last)
	}
	if rival.Err() != nil {
		t.Errorf("the other one was displaced: %v", rival.Err())
	}
	if err := rival.Close(); err != nil {
		t.Error(err)
	}
}

// After an interrupt the doctor reports nothing more, and no room is left.
func TestInterrupted(t *testing.T) {
	for _, code := range []string{"secret", "port", "answers", "room-create", "room-stranger", "room-moderators", "stays"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			p := admit(t, false, false, "", "")
			p.jicofo()
			ctx, cancel := context.WithCancel(t.Context())
			last := ""
			err := doctor.Run(ctx, p.o, func(c doctor.Check) {
				if last = c.Code; c.Code == code {
					cancel()
				}
			})
			if !errors.Is(err, context.Canceled) || last != code {
				t.Errorf("%v after %s", err, last)
			}
			p.clean()
		})
	}
}

// A client that asks to enter meanwhile is told to ask again. Presences and messages of others disturb nothing: neither many that have
// come before, nor those that come during each check.
func TestMeanwhile(t *testing.T) {
	t.Parallel()
	p := admit(t, false, false, "", "")
	p.jicofo()
	guest := p.Client(t, prosodytest.ClientOptions{Host: "guest.meet.example.com"})
	floods := func(n int) {
		for range n {
			if err := guest.Send("<presence to='focus@" + domain + "/doctor'/><message to='" + domain + "'><body>!</body></message>"); err != nil {
				t.Error(err)
			}
		}
	}
	for _, code := range order[slices.Index(order, "vhost"):] {
		p.on[code] = func() { floods(20) }
	}
	p.on["answers"] = func() {
		floods(1500)
		answer, err := guest.IQ(t.Context(), "set", domain, "<conference xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com'/>")
		if err != nil || answer.ErrorCondition() != "not-authorized" { // Jitsi's client asks again then, see focus.Reply
			t.Error(answer, err)
		} // and all before the request has come, too
	}
	p.found(p.examined(), nil)
}
