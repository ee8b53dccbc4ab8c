package prosodytest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestClient(t *testing.T) {
	t.Parallel()
	password := `R"\ömeo`
	s := Start(t, Options{Config: small, Users: map[string]string{"juliet@users.example.com": password, "nurse@plain.example.com": password}})
	focus := s.Component(t, "focus.meet.example.com", "secret")
	for name, o := range map[string]ClientOptions{
		"anonymous":    {Host: "meet.example.com"},
		"password":     {Host: "users.example.com", User: "juliet", Password: password, Resource: "balcony"},
		"plain memory": {Host: "plain.example.com", User: "nurse", Password: password},
	} {
		for transport, of := range map[string]Transport{"TCP": TCP, "WebSocket": WebSocket} {
			t.Run(name+" "+transport, func(t *testing.T) {
				o.Transport = of
				c := s.Client(t, o)
				if o.Resource != "" && c.JID() != "juliet@users.example.com/balcony" {
					t.Errorf("bound as %s", c.JID())
				}
				c.Sends(`<message to='focus.meet.example.com' xml:lang='it'><body>1 &lt; 2</body></message> <message to='focus.meet.example.com'/>`)
				got := focus.Receives(`<message from='` + c.JID() + `'><body>1 &lt; 2</body></message>`)
				if got.Attr["xml:lang"] != "it" || got.Child("body", "").Text != "1 < 2" {
					t.Errorf("received %s", got)
				}
				focus.Receives(`<message from='` + c.JID() + `' scansion:strict='true' to='{scansion:any}' xml:lang='{scansion:any}'/>`)
				if err := c.Close(); err != nil {
					t.Errorf("closing: %v", err)
				}
				if err := c.Send("<presence/>"); err == nil {
					t.Error("sent after the end")
				}
				c.Drain() // the server may have sent the client its own unavailable presence
				if _, err := c.Next(t.Context()); err == nil {
					t.Error("received after the end")
				}
			})
		}
	}
	for name, o := range map[string]ClientOptions{
		"not-authorized":    {Host: "users.example.com", User: "juliet", Password: "wrong"},
		"invalid-mechanism": {Host: "users.example.com"},
		"host-unknown":      {Host: "nowhere.example.com", Transport: WebSocket},
	} {
		if _, err := s.Dial(t.Context(), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want %s", err, name)
		}
	}
	if _, err := s.DialComponent(t.Context(), "focus.meet.example.com", "wrong"); err == nil || !strings.Contains(err.Error(), "not-authorized") {
		t.Errorf("component with a wrong secret: %v", err)
	}
}

// TestJoinAgain shows that Join does not take what the room said when the client changed its nick, or left, for the answer.
func TestJoinAgain(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Config: small + `
Component "rooms.example.com" "muc"
  muc_room_locking = false`})
	host, c := s.Client(t, ClientOptions{Host: "meet.example.com"}), s.Client(t, ClientOptions{Host: "meet.example.com"})
	if answer, err := host.Join(timeout(t, defaultTimeout), "room@rooms.example.com", "host"); err != nil { // the room goes on without c
		t.Fatalf("got %s, %v", answer, err)
	}
	for range 2 {
		answer, err := c.Join(timeout(t, defaultTimeout), "room@rooms.example.com", "one")
		if err != nil || answer.Attr["type"] != "" {
			t.Fatalf("got %s, %v", answer, err)
		}
		c.Sends("<presence to='room@rooms.example.com/two'/>")
		c.Receives("<presence from='room@rooms.example.com/two'/>")
		c.Sends("<presence type='unavailable' to='room@rooms.example.com/two'/>")
	}
}

// TestIQ shows that an answer goes to the caller that asked, not to one that waits for any stanza, and that stanzas which only
// resemble the answer do not.
func TestIQ(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Config: small})
	focus := s.Component(t, "focus.meet.example.com", "secret")
	c := s.Client(t, ClientOptions{Host: "meet.example.com"})
	ctx := timeout(t, defaultTimeout)

	var wg sync.WaitGroup
	wg.Go(func() {
		asked, err := focus.Next(ctx)
		if err != nil {
			t.Error(err)
			return
		}
		id, to := asked.Attr["id"], asked.Attr["from"]
		for _, answer := range []string{
			`<iq type='result' id='other' from='focus.meet.example.com' to='` + to + `'/>`,
			`<iq type='result' id='` + id + `' from='not@focus.meet.example.com' to='` + to + `'/>`,
			`<iq type='get' id='` + id + `' from='focus.meet.example.com' to='` + to + `'><q xmlns='q'/></iq>`,
			`<iq type='result' id='` + id + `' from='focus.meet.example.com' to='` + to + `'><yes xmlns='q'/></iq>`,
		} {
			if err := focus.Send(answer); err != nil {
				t.Error(err)
			}
		}
	})
	anything := make(chan Stanza, 1)
	wg.Go(func() {
		st, err := c.Next(ctx)
		if err != nil {
			t.Error(err)
		}
		anything <- st
	})
	answer, err := c.IQ(ctx, "get", "focus.meet.example.com", "<q xmlns='q'/>")
	if err != nil {
		t.Fatal(err)
	}
	if answer.Child("yes", "q").IsZero() {
		t.Errorf("answered by %s", answer)
	}
	wg.Wait()
	if rest := append([]Stanza{<-anything}, c.Drain()...); len(rest) != 3 {
		t.Errorf("beside the answer: %v", rest)
	}

	// The client's own account answers, too, and a component can ask.
	if answer, err := c.IQ(ctx, "get", "", "<query xmlns='http://jabber.org/protocol/disco#info'/>"); err != nil || answer.Find("identity", "").Attr["category"] != "account" {
		t.Errorf("got %s, %v", answer, err)
	}
	if answer, err := focus.IQ(ctx, "get", "meet.example.com", "<ping xmlns='urn:xmpp:ping'/>"); err != nil || answer.Attr["type"] != "result" {
		t.Errorf("got %s, %v", answer, err)
	}
	if answer, err := focus.IQ(ctx, "set", "meet.example.com", "<ping xmlns='urn:xmpp:ping'/>"); err != nil || answer.ErrorCondition() != "service-unavailable" {
		t.Errorf("got %s, %v", answer, err)
	}
}

// TestSelectiveReceive shows that Receives takes the stanza that matches and leaves the others in order, and that many callers
// can wait at once.
func TestSelectiveReceive(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Config: small})
	focus := s.Component(t, "focus.meet.example.com", "secret")
	c := s.Client(t, ClientOptions{Host: "meet.example.com", Transport: WebSocket})
	for _, id := range []string{"1", "2", "3", "4"} {
		focus.Sends(`<message id='` + id + `' from='focus.meet.example.com' to='` + c.JID() + `'/>`)
	}
	c.Receives(`<message id='3'/>`)
	c.Receives(`<message id='2'/>`)
	c.ReceivesNot(`<message id='3'/>`)
	first, err := c.Next(t.Context())
	if err != nil || first.Attr["id"] != "1" {
		t.Errorf("got %s, %v", first, err)
	}
	if rest := c.Drain(); len(rest) != 1 || rest[0].Attr["id"] != "4" {
		t.Errorf("drained %v", rest)
	}

	const n = 50
	got := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			st, err := c.Next(timeout(t, defaultTimeout))
			if err != nil {
				t.Error(err)
			}
			got[i] = st.Attr["id"]
		})
		wg.Go(func() {
			if err := focus.Send(`<message id='n` + string(rune('A'+i)) + `' from='focus.meet.example.com' to='` + c.JID() + `'/>`); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	slices.Sort(got)
	if all := slices.Compact(got); len(all) != n {
		t.Errorf("%d of %d arrived once", len(all), n)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	c.Kill()
	if _, err := c.Next(t.Context()); err == nil || c.Err() == nil {
		t.Error("received from a dead connection")
	}
}

func TestReceivesFails(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Config: small})
	focus := s.Component(t, "focus.meet.example.com", "secret")
	f := during(t, func(f *fake) {
		c := s.Client(f, ClientOptions{Host: "meet.example.com", Timeout: time.Second})
		focus.Sends(`<message from='focus.meet.example.com' to='` + c.JID() + `'><body>Good night</body></message>`)
		if err := c.Sync(t.Context()); err != nil {
			t.Error(err)
		}
		c.Receives(`<message><body>Good morning</body></message>`)
	})
	for _, want := range []string{"expected:\n    <message>\n      <body>Good morning</body>\n    </message>\n", "<body>Good night</body>", "deadline exceeded"} {
		if !strings.Contains(f.said, want) {
			t.Errorf("%s: lacks %q: %s", f.outcome, want, f.said)
		}
	}
	f = during(t, func(f *fake) {
		c := s.Client(f, ClientOptions{Host: "meet.example.com"})
		focus.Sends(`<message from='focus.meet.example.com' to='` + c.JID() + `'><body>Good night</body></message>`)
		if _, err := focus.IQ(t.Context(), "get", "meet.example.com", "<ping xmlns='urn:xmpp:ping'/>"); err != nil {
			t.Error(err)
		}
		c.ReceivesNot(`<message><body>{scansion:any}</body></message>`)
	})
	if !strings.Contains(f.said, "did not expect") || !strings.Contains(f.said, "Good night") {
		t.Errorf("%s: %s", f.outcome, f.said)
	}
	if f := during(t, func(f *fake) { s.Client(f, ClientOptions{Host: "meet.example.com"}).Receives("<message>") }); !strings.Contains(f.said, "pattern") {
		t.Errorf("%s: %s", f.outcome, f.said)
	}
}

func TestMatches(t *testing.T) {
	const stanza = `<message xmlns='jabber:client' to='a' xml:lang='en'><x xmlns='u'><i n='1'/><i n='2' m='3'/></x><body> Hello </body></message>`
	st, err := parse(stanza, nsClient)
	if err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]bool{
		`<message/>`:                                                      true,
		`<presence/>`:                                                     false,
		`<message to='a'/>`:                                               true,
		`<message to='b'/>`:                                               false,
		`<message from='a'/>`:                                             false,
		`<message xml:lang='en'/>`:                                        true,
		`<message xmlns='u'/>`:                                            false,
		`<message><body/></message>`:                                      true,
		`<message><body>Hello</body></message>`:                           true,
		`<message><body>Hell</body></message>`:                            false,
		`<message><body xmlns='u'/></message>`:                            false,
		`<message><x xmlns='u'><i/><i/></x></message>`:                    true,
		`<message><x xmlns='u'><i/><i/><i/></x></message>`:                false,
		`<message><x xmlns='u'><i/><i n='1'/></x></message>`:              true,
		`<message><x xmlns='u'><i n='2'/><i n='1'/></x></message>`:        true,
		`<message><x xmlns='u'><i n='{scansion:any}'/></x></message>`:     true,
		`<message><x xmlns='u'><i o='{scansion:any}'/></x></message>`:     false,
		`<message><body>{scansion:any}</body></message>`:                  true,
		`<message><x xmlns='u'>{scansion:any}</x></message>`:              false,
		`<message scansion:strict='true'/>`:                               false,
		`<message scansion:strict='false'/>`:                              true,
		`<message to='a'><x xmlns='u' scansion:strict='true'/></message>`: false,
		`<message><x xmlns='u' scansion:strict='true'><i n='1'/><i n='2' m='3'/></x></message>`:                       true,
		`<message><x xmlns='u' scansion:strict='true'><i n='1'/><i scansion:strict='false'/></x></message>`:           true,
		`<message><body scansion:strict='true'/></message>`:                                                           false,
		`<message xmlns:s='u' to='a'><s:x><s:i n='1'/></s:x></message>`:                                               true,
		`<message scansion:strict='true' to='a' xml:lang='en'><body>Hello</body><x xmlns='u'/></message>`:             false,
		`<message scansion:strict='true' to='{scansion:any}' xml:lang='en'><body>Hello</body>` + inner + `</message>`: true,
	} {
		if got, err := st.Matches(pattern); err != nil || got != want {
			t.Errorf("%s: %t, %v; want %t", pattern, got, err, want)
		}
	}
	for _, bad := range []string{"", "hello", "<message", "<message/><message/>", "<message></presence>"} {
		if _, err := st.Matches(bad); err == nil {
			t.Errorf("%q is no pattern", bad)
		}
	}
	again, err := parse(st.String(), nsClient)
	if err != nil || again.String() != st.String() {
		t.Errorf("%s became %s, %v", st, again, err)
	}
}

const inner = `<x xmlns='u'><i n='1'/><i n='2' m='3'/></x>`

func TestFrames(t *testing.T) {
	for in, want := range map[string][]string{
		`<presence/>`: {`<presence xmlns='jabber:client'/>`},
		` <a/> <b x='1'>t<c/><!-- d --></b> <!---->`: {`<a xmlns='jabber:client'/>`, `<b xmlns='jabber:client' x='1'>t<c/><!-- d --></b>`},
		`<a xmlns='b'><c/></a>`:                      {`<a xmlns='b'><c/></a>`},
		`<p:a xmlns:p='b'/>`:                         {`<p:a xmlns:p='b'/>`},
		`<a`:                                         {`<a`},
		`<a>`:                                        {`<a>`},
		`<a/></b>`:                                   {`<a/></b>`},
		``:                                           nil,
	} {
		if got := frames(in); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", in, got, want)
		}
	}
}

// BenchmarkJoin measures a client that connects, enters a room and leaves.
func BenchmarkJoin(b *testing.B) {
	s := Start(b, Options{Config: "VirtualHost 'meet.example.com' authentication = 'anonymous' Component 'rooms.example.com' 'muc'", LogLevel: "warn"})
	for b.Loop() {
		c, err := s.Dial(b.Context(), ClientOptions{Host: "meet.example.com"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Join(b.Context(), "room@rooms.example.com", "me"); err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// TestTap shows that the tap hears what clients say and what they are told, and not what Jicofo and components do.
func TestTap(t *testing.T) {
	t.Parallel()
	o := JitsiOptions{}
	server := Start(t, o.Options())
	var mu sync.Mutex
	heard := make(map[string][2]int)
	server.Tap(func(who string, sent bool, stanza string) {
		mu.Lock()
		defer mu.Unlock()
		n := heard[who]
		switch {
		case !strings.Contains(stanza, "hello"):
		case sent:
			n[0]++
		default:
			n[1]++
		}
		heard[who] = n
	})
	server.Jicofo(t, o.Jicofo())
	component := server.Component(t, "focus.meet.example.com", "secret")
	juliet, romeo := server.Client(t, ClientOptions{Host: "meet.example.com"}), server.Client(t, ClientOptions{Host: "meet.example.com"})
	juliet.Sends("<message to='" + romeo.JID() + "'><body>hello</body></message>")
	romeo.Receives("<message><body>hello</body></message>")
	component.Sends("<message from='focus.meet.example.com' to='" + romeo.JID() + "'><body>hello</body></message>")
	romeo.Receives("<message><body>hello</body></message>")
	mu.Lock()
	defer mu.Unlock()
	if heard[juliet.JID()] != [2]int{1, 0} || heard[romeo.JID()] != [2]int{0, 2} || heard[component.JID()] != [2]int{} {
		t.Errorf("heard %v", heard)
	}
	for who := range heard {
		if strings.HasPrefix(who, "focus@") {
			t.Errorf("heard %s", who)
		}
	}
}
