package prosodytest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestJicofo(t *testing.T) {
	j := startJitsi(t, JitsiOptions{})
	component := j.Component(t, bot, "secret")
	romeo := j.someone("meet.example.com")

	answer := forwards(t, component, j.jicofo, romeo.JID(), `<conference xmlns='http://jitsi.org/protocol/focus' room='StandUp@Conference.meet.example.com'
		machine-uid='42' token='e.y.J' session-id='7'><property name='rtcstatsEnabled' value='false'/><property name='visitors-version' value='1'/></conference>`)
	if ok, err := answer.Matches(`<iq type='result' from='` + j.jicofo.JID() + `'>
		<conference xmlns='http://jitsi.org/protocol/focus' scansion:strict='true' room='` + room + `' ready='true' focusjid='focus@auth.meet.example.com'>
		<property name='authentication' value='false'/><property name='sipGatewayEnabled' value='true'/><property name='visitors-supported' value='false'/>
		</conference></iq>`); !ok {
		t.Errorf("Jicofo says %s %v", answer, err)
	}
	requests := j.jicofo.Requests()
	if len(requests) != 1 {
		t.Fatalf("seen: %v", requests)
	}
	got := requests[0]
	if got.Name != "conference" || got.NS != nsFocus || got.From != bot+"/"+romeo.JID() || got.User != romeo.JID() ||
		got.Room != "StandUp@Conference.meet.example.com" || got.Token != "e.y.J" || got.SessionID != "7" || got.MachineUID != "42" ||
		len(got.Properties) != 2 || got.Properties["visitors-version"] != "1" {
		t.Errorf("seen: %+v", got)
	}
	view := j.sees(room)
	if focus := view.Occupant(j.jicofo.JID()); !view.MembersOnly || len(view.Occupants) != 1 || focus.Nick != "focus" || focus.Role != "moderator" {
		t.Errorf("in the room: %v", view)
	}
	form, err := j.observer.client.IQ(t.Context(), "get", room, "<query xmlns='"+nsMUCOwner+"'/>")
	if err != nil || formField(form, "muc#roomconfig_whois") != "anyone" {
		t.Errorf("the form: %s %v", form, err)
	}

	// A client asks directly, for a room that Jicofo is in.
	if answer := j.ask(romeo, room); attribute(answer, "ready") != "true" {
		t.Errorf("asked directly: %s", answer)
	}
	if got := j.jicofo.Requests()[1]; got.User != romeo.JID() || got.From != romeo.JID() {
		t.Errorf("asked directly: %+v", got)
	}

	for asked, want := range map[string]string{
		conference("", ""): "bad-request", conference("standup", ""): "bad-request", conference("a@b@c", ""): "bad-request",
		conference("@conference.meet.example.com", ""):                                                                    "bad-request",
		conference("standup@conference.meet.example.com/nick", ""):                                                        "bad-request",
		`<logout xmlns='http://jitsi.org/protocol/focus' session-id='1'/>`:                                                "feature-not-implemented",
		`<login-url xmlns='http://jitsi.org/protocol/focus' room='standup@conference.meet.example.com' machine-uid='1'/>`: "feature-not-implemented",
		`<jibri xmlns='http://jitsi.org/protocol/jibri' action='start'/>`:                                                 "feature-not-implemented",
		`<conference xmlns='http://example.com' room='standup@conference.meet.example.com'/>`:                             "feature-not-implemented",
	} {
		if got := attribute(forwards(t, component, j.jicofo, romeo.JID(), asked), "ready"); got != want {
			t.Errorf("%s: %s, want %s", asked, got, want)
		}
	}
	// The component asks in nobody's name.
	if got := attribute(forwards(t, component, j.jicofo, "nobody", conference(room, "")), "ready"); got != "bad-request" {
		t.Errorf("asked in nobody's name: %s", got)
	}
	if rooms := j.jicofo.Rooms(); !slices.Equal(rooms, []string{room}) {
		t.Errorf("in %v", rooms)
	}
}

// TestJicofoNoOwner shows that Jicofo cannot serve a room that it did not create, if it is not among the admins.
func TestJicofoNoOwner(t *testing.T) {
	o := JitsiOptions{Open: true, Conference: "restrict_room_creation = false\nadmins = { 'observer@auth.meet.example.com' }"}
	j := startJitsi(t, o)
	romeo := j.someone("meet.example.com")
	if refused, _ := j.enters(romeo, room, "romeo"); refused != "" {
		t.Fatal(refused)
	}
	romeo.Sends("<iq type='set' id='unanswered' to='" + j.jicofo.JID() + "'>" + conference(room, "") + "</iq>")
	romeo.Receives("<presence type='unavailable' from='" + room + "/focus'/>")
	j.throws()
	romeo.ReceivesNot("<iq id='unanswered'/>")
	if got := attribute(j.ask(romeo, "retro@conference.meet.example.com"), "ready"); got != "true" {
		t.Errorf("a room of its own: ready=%s", got)
	}
}

func TestJicofoSubscription(t *testing.T) {
	const jid = "focus@auth.meet.example.com"
	subscribe := "<presence type='subscribe' from='" + bot + "' to='" + jid + "'/>"
	for name, tt := range map[string]struct{ notSubscribed, accepts, early bool }{
		"by the installer": {}, "by Jicofo": {true, true, false}, "by Jicofo, later": {true, true, true}, "refused": {true, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := JitsiOptions{NotSubscribed: tt.notSubscribed, Hibernation: time.Second}
			s := Start(t, o.Options())
			component := s.Component(t, bot, "secret")
			if !tt.notSubscribed { // Jicofo is not there yet; its presence comes later by itself
				component.Sends(subscribe)
				component.Receives("<presence type='subscribed' from='" + jid + "'/>")
			}
			if tt.early { // the server keeps the request until Jicofo comes
				component.Sends(subscribe)
			}
			jo := o.Jicofo()
			jo.AcceptSubscriptions = tt.accepts
			j := s.Jicofo(t, jo)
			if tt.notSubscribed && !tt.early {
				component.Sends(subscribe)
			}
			if tt.notSubscribed && !tt.accepts {
				component.Receives("<presence type='unsubscribed' from='" + jid + "'/>")
				component.ReceivesNot("<presence from='" + j.JID() + "'/>")
				return
			}
			if tt.notSubscribed {
				component.Receives("<presence type='subscribed' from='" + jid + "'/>")
			}
			component.Receives("<presence from='" + j.JID() + "'/>")
			component.Sends("<presence type='probe' from='" + bot + "' to='" + jid + "'/>")
			component.Receives("<presence from='" + j.JID() + "'/>")

			second := s.Jicofo(t, JicofoOptions{Host: jo.Host, User: jo.User, Password: jo.Password, Resource: "second", Proxy: jo.Proxy})
			component.Receives("<presence from='" + jid + "/second'/>")
			for _, end := range []func(){j.Close, j.Kill} {
				was := j.JID()
				end()
				component.Receives("<presence type='unavailable' from='" + was + "'/>")
				if err := j.Restart(t.Context(), "after-"+was[len(was)-3:]); err != nil {
					t.Fatal(err)
				}
				component.Receives("<presence from='" + j.JID() + "'/>")
			}
			if j.JID() == jid+"/focus" || second.JID() != jid+"/second" {
				t.Errorf("now %s and %s", j.JID(), second.JID())
			}
			for _, jicofo := range []*Jicofo{j, second} {
				room := "of-" + jicofo.JID()[len(jid)+1:] + "@conference.meet.example.com"
				if got := forwards(t, component, jicofo, "juliet@meet.example.com/1", conference(room, "")); attribute(got, "ready") != "true" {
					t.Errorf("%s says %s", jicofo.JID(), got)
				}
			}
		})
	}
}

func TestJicofoBehavior(t *testing.T) {
	j := startJitsi(t, JitsiOptions{})
	component := j.Component(t, bot, "secret")
	component.from = bot
	number := 0
	// asks sends a request for a new room. It returns the room, and a pattern for the answer with its type and payload left open.
	asks := func(b JicofoBehavior) (room, pattern string) {
		t.Helper()
		j.jicofo.Behave(b)
		number++
		room = fmt.Sprintf("room%d@conference.meet.example.com", number)
		component.Sends(fmt.Sprintf("<iq type='set' id='%d' from='%s/juliet@meet.example.com/1' to='%s'>%s</iq>", number, bot, j.jicofo.JID(), conference(room, "")))
		if err := j.jicofo.Await(timeout(t, defaultTimeout), func(all []JicofoRequest, _ []string) bool { return len(all) == number }); err != nil {
			t.Fatal(err)
		}
		return room, fmt.Sprintf("<iq id='%d' from='%s' type='%%s'>%%s</iq>", number, j.jicofo.JID())
	}
	says := func(pattern, typ, content string) {
		t.Helper()
		component.Receives(fmt.Sprintf(pattern, typ, content))
	}
	silent := func(pattern string) {
		t.Helper()
		// Once the next request is answered, an earlier answer of Jicofo would have arrived: the server keeps the order.
		_, next := asks(JicofoBehavior{Error: "conflict"})
		says(next, "error", "")
		component.from = bot
		for _, typ := range []string{"result", "error"} {
			for _, s := range component.waiting() {
				if ok, _ := s.Matches(fmt.Sprintf(pattern, typ, "")); ok {
					t.Errorf("Jicofo says %s", s)
				}
			}
		}
	}
	is := func(attributes string) string { return "<conference xmlns='" + nsFocus + "' " + attributes + "/>" }
	inside := func(room string, want bool) {
		t.Helper()
		if got := slices.Contains(j.jicofo.Rooms(), room); got != want {
			t.Errorf("inside %s: %t", room, got)
		}
	}

	_, p := asks(JicofoBehavior{})
	says(p, "result", is("ready='true'"))

	room, p := asks(JicofoBehavior{Error: "service-unavailable"})
	says(p, "error", "<error type='cancel'><service-unavailable xmlns='"+nsStanzas+"'/></error>")
	inside(room, false)

	room, p = asks(JicofoBehavior{Silent: true})
	silent(p)
	inside(room, false)

	room, p = asks(JicofoBehavior{Mute: true})
	j.isIn(func(rooms []string) bool { return slices.Contains(rooms, room) })
	silent(p)

	_, p = asks(JicofoBehavior{Copies: 2})
	for range 3 {
		says(p, "result", is("ready='true'"))
	}

	room, p = asks(JicofoBehavior{NotReady: true})
	says(p, "result", is("ready='false'"))
	inside(room, true)

	room, p = asks(JicofoBehavior{NotLive: true})
	says(p, "result", "<conference xmlns='"+nsFocus+"' ready='false'><property name='live' value='false'/></conference>")
	inside(room, false)

	_, p = asks(JicofoBehavior{VNode: "v1"})
	says(p, "result", is("vnode='v1'"))

	until := make(chan struct{})
	room, p = asks(JicofoBehavior{Until: until, Delay: time.Millisecond})
	silent(p)
	inside(room, false)
	close(until)
	says(p, "result", is("ready='true'"))

	impostor := j.Server.Client(t, ClientOptions{Host: "auth.meet.example.com", User: "focus", Password: "secret", Resource: "impostor"})
	_, p = asks(JicofoBehavior{Forger: impostor, Error: "not-acceptable"})
	component.Receives(fmt.Sprintf("<iq id='%d' type='result' from='%s'>%s</iq>", number, impostor.JID(), is("ready='true'")))
	says(p, "error", "")

	// Waiting requests end when Jicofo ends.
	asks(JicofoBehavior{Delay: time.Hour})
	asks(JicofoBehavior{Until: make(chan struct{})})
	j.jicofo.Kill()
	if err := j.jicofo.Restart(t.Context(), "other"); err != nil {
		t.Fatal(err)
	}
	_, p = asks(JicofoBehavior{})
	says(p, "result", is("ready='true'"))
}

// TestJicofoCannotEnter shows that Jicofo never answers the first request for a room that it cannot enter, and answers later
// ones with ready='false' while it is entering. Most rows ask for a tenant's room in the spelling of the MUC service.
func TestJicofoCannotEnter(t *testing.T) {
	its := "[acme]" + room
	for name, tt := range map[string]struct {
		mapper  bool
		timeout time.Duration
		room    string
		want    string // ready, while Jicofo is entering; "" if it gives up
	}{
		"brackets beside the mapper":    {true, time.Hour, its, "false"},
		"brackets, given up":            {true, time.Millisecond, its, ""},
		"brackets":                      {false, 0, its, "true"},
		"beside the mapper":             {true, 0, "standup@conference.acme.meet.example.com", "true"},
		"a tenant's without the mapper": {false, 0, "standup@conference.acme.meet.example.com", ""},
		"of no MUC service":             {false, 0, "standup@guest.meet.example.com", ""},
	} {
		t.Run(name, func(t *testing.T) {
			j := startJitsi(t, JitsiOptions{Mapper: tt.mapper}, func(jo *JicofoOptions) { jo.JoinTimeout = tt.timeout })
			component := j.Component(t, bot, "secret")
			ask := func(id string) string {
				return "<iq type='set' id='" + id + "' from='" + bot + "/juliet@meet.example.com/1' to='" + j.jicofo.JID() + "'>" + conference(tt.room, "") + "</iq>"
			}
			component.Sends(ask("first"))
			switch tt.want {
			case "true":
				component.Receives("<iq type='result' id='first'><conference xmlns='" + nsFocus + "' ready='true' room='" + tt.room + "'/></iq>")
			case "false":
				if err := j.jicofo.Await(timeout(t, defaultTimeout), func(all []JicofoRequest, _ []string) bool { return len(all) == 1 }); err != nil {
					t.Fatal(err)
				}
				component.Sends(ask("second"))
				component.Receives("<iq type='result' id='second'><conference xmlns='" + nsFocus + "' ready='false'/></iq>")
				component.ReceivesNot("<iq id='first'/>")
			default:
				j.throws()
				component.ReceivesNot("<iq id='first'/>")
			}
		})
	}
}

// TestJicofoKilled shows that a killed Jicofo stays online for a while without answering, until its successor replaces it.
func TestJicofoKilled(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Open: true})
	component := j.Component(t, bot, "secret")
	juliet := j.someone("guest.meet.example.com")
	j.opens(room)
	j.enters(juliet, room, "juliet")
	if was := j.jicofo.JID(); was != "focus@auth.meet.example.com/focus" {
		t.Errorf("Jicofo is %s", was)
	}
	j.jicofo.Kill()
	component.Sends("<iq type='set' id='lost' from='" + bot + "/juliet@meet.example.com/1' to='" + j.jicofo.JID() + "'>" + conference(room, "") + "</iq>")
	component.Sends("<presence type='probe' from='" + bot + "' to='" + j.jicofo.BareJID() + "'/>")
	component.Receives("<presence from='" + j.jicofo.JID() + "'/>")
	component.ReceivesNot("<iq id='lost'/>")
	if view := j.sees(room); view.Occupant(j.jicofo.JID()).Nick != "focus" {
		t.Errorf("after the end of Jicofo: %v", view)
	}
	if err := j.jicofo.Restart(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	component.Receives("<iq type='error' id='lost' from='" + j.jicofo.JID() + "'><error><recipient-unavailable xmlns='" + nsStanzas + "'/></error></iq>")
	component.Receives("<presence type='unavailable' from='" + j.jicofo.JID() + "'/>")
	juliet.Receives("<presence type='unavailable' from='" + room + "/focus'/>")
	j.opens(room)
	juliet.Receives("<presence from='" + room + "/focus'/>")
}

// TestJicofoShows shows the extensions of Jicofo's presence in a room, and its questions to the occupants.
func TestJicofoShows(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Open: true})
	j.opens(room)
	juliet, romeo, nurse := j.someone("guest.meet.example.com"), j.someone("guest.meet.example.com"), j.someone("guest.meet.example.com")
	j.enters(juliet, room, "juliet")
	shows := "<presence from='" + room + "/focus'><versions xmlns='" + nsJitmeet + "'><component name='focus'>{scansion:any}</component></versions>" +
		"<conference-properties xmlns='" + nsFocus + "'><property key='support-terminate-restart' value='true'/></conference-properties>%</presence>"
	juliet.Receives(strings.Replace(shows, "%", "", 1))
	asks := "<iq type='get' from='" + room + "/focus'><query xmlns='" + nsDiscoInfo + "'/></iq>"
	juliet.Receives(asks)
	j.enters(romeo, room, "romeo")
	juliet.Receives(strings.Replace(shows, "%", "<bridgeNotAvailable xmlns='"+nsFocus+"'/>", 1))
	romeo.Receives(asks)
	j.enters(nurse, room, "nurse")
	nurse.Receives(asks)
	juliet.ReceivesNot("<presence from='" + room + "/focus'/>") // Jicofo shows it only once
}

func TestJicofoLeaves(t *testing.T) {
	o := JitsiOptions{Open: true, Breakout: true, Global: "prosodytest_breakout_ttl = 3600"} // so that Jicofo leaves first
	j := startJitsi(t, o, func(jo *JicofoOptions) { jo.InitialTimeout = time.Hour })
	inNone := func() {
		t.Helper()
		j.jicofo.StopWaiting()
		j.isIn(none)
	}
	leaves := func(c *Client, room, nick, status string) {
		t.Helper()
		c.Sends("<presence type='unavailable' to='" + room + "/" + nick + "'><status>" + status + "</status></presence>")
		c.Receives("<presence type='unavailable' from='" + room + "/" + nick + "'/>")
	}

	// Nobody enters.
	j.opens(room)
	inNone()
	if j.sees(room).Exists {
		t.Error("the room is still there")
	}

	// An occupant stays longer than the InitialTimeout, changes its nick, and leaves.
	romeo := j.someone("meet.example.com")
	j.opens(room)
	if refused, _ := j.enters(romeo, room, "romeo"); refused != "" {
		t.Fatal(refused)
	}
	other := "retro@conference.meet.example.com" // once this is open, Jicofo has seen all earlier presences
	j.opens(other)
	j.jicofo.StopWaiting()
	j.isIn(func(rooms []string) bool { return !slices.Contains(rooms, other) })
	if refused, _ := j.enters(romeo, room, "montague"); refused != "" {
		t.Fatal(refused)
	}
	if j.opens(other); j.sees(room).Occupant(j.jicofo.JID()).Nick != "focus" {
		t.Fatalf("with an occupant: %v", j.sees(room))
	}
	leaves(romeo, room, "montague", "bye")
	inNone()

	// While the only occupant is in a breakout room, Jicofo stays in the main room.
	j.opens(room)
	romeo = j.host(room, "romeo")
	cell, err := romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "cell")
	if err != nil {
		t.Fatal(err)
	}
	j.opens(cell)
	inBoth := func() {
		t.Helper()
		j.opens(other)
		j.jicofo.StopWaiting()
		j.isIn(func(rooms []string) bool { return !slices.Contains(rooms, other) })
		for _, room := range []string{room, cell} {
			if j.sees(room).Occupant(j.jicofo.JID()).Nick != "focus" {
				t.Errorf("with an occupant in the breakout room: %v", j.sees(room))
			}
		}
	}
	if refused, _ := j.enters(romeo, cell, "romeo"); refused != "" {
		t.Fatal(refused)
	}
	leaves(romeo, room, "romeo", "bye")
	inBoth()
	if err := j.jicofo.Restart(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	j.opens(room)
	j.opens(cell)
	inBoth()
	leaves(romeo, cell, "romeo", "bye")
	inNone()

	// The occupant is on the way to a breakout room that Jicofo has not entered yet.
	j.opens(room)
	j.enters(romeo, room, "romeo")
	leaves(romeo, room, "romeo", "switch_room")
	if j.opens(cell); j.sees(room).Occupant(j.jicofo.JID()).Nick != "focus" {
		t.Errorf("with an occupant on the way: %v", j.sees(room))
	}
	inNone()
}

func TestJicofoRestarts(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Open: true})
	romeo := j.someone("meet.example.com")
	j.opens(room)
	j.enters(romeo, room, "romeo")
	if err := j.jicofo.Restart(t.Context(), "second"); err != nil {
		t.Fatal(err)
	}
	romeo.Receives("<presence type='unavailable' from='" + room + "/focus'/>")
	if rooms := j.jicofo.Rooms(); len(rooms) != 0 {
		t.Errorf("knows of %v", rooms)
	}
	if got := attribute(j.ask(romeo, room), "ready"); got != "true" {
		t.Errorf("after the restart: %s", got)
	}
	romeo.Receives("<presence from='" + room + "/focus'><x xmlns='" + nsMUCUser + "'><item jid='focus@auth.meet.example.com/second'/></x></presence>")

	// Jicofo notices that it is removed from a room, and enters again when asked.
	romeo.Drain()
	if s, err := j.observer.client.IQ(t.Context(), "set", room, "<query xmlns='"+nsMUCOwner+"'><destroy/></query>"); err != nil || s.Attr["type"] != "result" {
		t.Fatal(s, err)
	}
	j.isIn(none)
	if got := attribute(j.ask(romeo, room), "ready"); got != "true" {
		t.Errorf("after the end of the room: %s", got)
	}

	// The server restarts.
	if err := j.Server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-j.jicofo.Done()
	if err := j.jicofo.HealthCheck(t.Context()); err == nil {
		t.Error("healthy without a connection")
	}
	if err := j.jicofo.Restart(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	if got := attribute(j.ask(j.someone("meet.example.com"), room), "ready"); got != "true" {
		t.Errorf("after the restart of the server: %s", got)
	}
	if err := j.jicofo.HealthCheck(timeout(t, defaultTimeout)); err != nil {
		t.Error(err)
	}
	if rooms := j.jicofo.Rooms(); !slices.Equal(rooms, []string{room}) {
		t.Errorf("after the health check in %v", rooms)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := j.jicofo.HealthCheck(ended); err == nil {
		t.Error("no error although the context has ended")
	}
}

func TestJicofoAutoOwner(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Open: true}, func(jo *JicofoOptions) { jo.AutoOwner = true })
	j.opens(room)
	romeo, juliet, nurse := j.someone("meet.example.com"), j.someone("guest.meet.example.com"), j.someone("guest.meet.example.com")
	j.enters(romeo, room, "romeo")
	becomes(romeo, room, "romeo", "owner")
	j.enters(juliet, room, "juliet")
	j.enters(nurse, room, "nurse")
	if got := j.sees(room).Occupant(juliet.JID()).Affiliation; got != "none" {
		t.Errorf("the second is %s", got)
	}
	romeo.Sends("<presence type='unavailable' to='" + room + "/romeo'/>")
	becomes(nurse, room, "juliet", "owner")
	if got := j.sees(room).Occupant(nurse.JID()).Affiliation; got != "none" {
		t.Errorf("the third is %s", got)
	}

	// If an owner is inside already, Jicofo makes no other.
	other := "retro@conference.meet.example.com"
	j.opens(other)
	host := j.host(other, "host")
	j.enters(nurse, other, "nurse")
	if err := host.Sync(t.Context()); err != nil {
		t.Error(err)
	}
	for range 3 {
		c := j.someone("guest.meet.example.com")
		j.enters(c, other, c.JID()[:8])
	}
	for range 2 {
		if a := j.sees(other).Affiliations; a[host.BareJID()] != "owner" || len(a) != 2 {
			t.Errorf("with an owner inside: %v", a)
		}
		if err := j.jicofo.Restart(t.Context(), ""); err != nil { // the new one finds all occupants inside
			t.Fatal(err)
		}
		j.opens(other)
		j.opens(room) // by now its earlier requests have arrived
	}
}

func TestJicofoAuthentication(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Open: true}, func(jo *JicofoOptions) { jo.TrustedDomain = "meet.example.com" })
	romeo, juliet := j.someone("meet.example.com"), j.someone("guest.meet.example.com")
	asks := func(c *Client, room, attributes string) Stanza {
		t.Helper()
		answer, err := c.IQ(timeout(t, defaultTimeout), "set", j.jicofo.JID(), conference(room, attributes))
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if got := attribute(asks(juliet, room, ""), "ready"); got != "not-authorized" {
		t.Errorf("a guest opens a room: %s", got)
	}
	if got := attribute(asks(romeo, room, ""), "ready"); got != "not-acceptable" {
		t.Errorf("without machine-uid: %s", got)
	}
	if got := asks(juliet, room, "session-id='unknown'"); got.ErrorCondition() != "not-acceptable" || got.Find("session-invalid", nsFocus).IsZero() {
		t.Errorf("an unknown session: %s", got)
	}
	answer := asks(romeo, room, "machine-uid='1'")
	session := attribute(answer, "session-id")
	if attribute(answer, "ready") != "true" || session == "" || attribute(answer, "identity") != romeo.BareJID() ||
		answer.Find("property", nsFocus).Attr["value"] != "true" {
		t.Fatalf("a trusted user: %s", answer)
	}
	if got := attribute(asks(juliet, room, ""), "ready"); got != "true" {
		t.Errorf("a guest, once the room exists: %s", got)
	}
	if got := attribute(asks(juliet, room, "session-id='"+session+"' machine-uid='2'"), "ready"); got != "not-acceptable" {
		t.Errorf("the session of another machine: %s", got)
	}
	j.enters(romeo, room, "romeo")
	becomes(romeo, room, "romeo", "owner")
	j.enters(juliet, room, "juliet")
	if got := j.sees(room).Occupant(juliet.JID()).Affiliation; got != "none" {
		t.Errorf("the guest is %s", got)
	}
	// Any client can use the session, for any room. usher's own sessions do not allow this.
	other := "retro@conference.meet.example.com"
	if got := attribute(asks(juliet, other, "session-id='"+session+"' machine-uid='1'"), "ready"); got != "true" {
		t.Errorf("with the session: %s", got)
	}
	becomes(juliet, room, "juliet", "owner")

	logout := "<logout xmlns='" + nsFocus + "' session-id='" + session + "'/>"
	for _, want := range []string{"", "not-acceptable"} {
		if s, err := juliet.IQ(t.Context(), "set", j.jicofo.JID(), logout); err != nil || s.ErrorCondition() != want {
			t.Errorf("logout: %s %v", s, err)
		}
	}
}
