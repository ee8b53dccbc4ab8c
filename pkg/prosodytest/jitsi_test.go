package prosodytest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	lobbyRoom = "standup@lobby.meet.example.com"
	breakout  = "breakout.meet.example.com"
	bot       = "focus.meet.example.com" // usher's place
)

// jitsi is a server as under Jitsi, with a Jicofo in the room.
type jitsi struct {
	*testing.T
	*Server
	jicofo   *Jicofo
	observer *Observer
}

func startJitsi(t *testing.T, o JitsiOptions) *jitsi {
	t.Helper()
	t.Parallel()
	s := Start(t, o.Options())
	return &jitsi{t, s, s.Jicofo(t, o.Jicofo()), s.Observe(t, o.Observer())}
}

// someone is an anonymous client of the virtual host.
func (j *jitsi) someone(host string) *Client { return j.Server.Client(j.T, ClientOptions{Host: host}) }

// ask makes a conference request straight to Jicofo.
func (j *jitsi) ask(c *Client, room string) Stanza {
	j.Helper()
	answer, err := c.IQ(timeout(j.T, defaultTimeout), "set", j.jicofo.JID(), "<conference xmlns='"+nsFocus+"' room='"+room+"' machine-uid='1'/>")
	if err != nil {
		j.Fatal(err)
	}
	return answer
}

func (j *jitsi) opens(room string) {
	j.Helper()
	if answer := j.ask(j.someone("meet.example.com"), room); answer.Child("conference", nsFocus).Attr["ready"] != "true" {
		j.Fatalf("Jicofo did not open %s: %s", room, answer)
	}
}

// enters sends the join as Jitsi's client does, with a name, and says how it went: "" or the condition of the error.
func (j *jitsi) enters(c *Client, room, nick string) (string, Stanza) {
	j.Helper()
	c.Sends("<presence to='" + room + "/" + nick + "'><x xmlns='" + nsMUC + "'/><nick xmlns='http://jabber.org/protocol/nick'>" + nick + "</nick></presence>")
	answer, err := c.Await(timeout(j.T, defaultTimeout), func(s Stanza) bool {
		return s.Name == "presence" && bare(s.Attr["from"]) == room && (s.Attr["type"] == "error" || s.HasStatus("110"))
	})
	if err != nil {
		j.Fatalf("%s enters %s: %v", nick, room, err)
	}
	return answer.ErrorCondition(), answer
}

func (j *jitsi) affiliate(by *Client, room, jid, affiliation string) {
	j.Helper()
	answer, err := by.IQ(timeout(j.T, defaultTimeout), "set", room, "<query xmlns='"+nsMUCAdmin+"'><item affiliation='"+affiliation+"' jid='"+jid+"'/></query>")
	if err != nil || answer.Attr["type"] != "result" {
		j.Fatalf("making %s %s: %s %v", jid, affiliation, answer, err)
	}
}

func (j *jitsi) submits(by *Client, room, field, value string) Stanza {
	j.Helper()
	answer, err := by.IQ(timeout(j.T, defaultTimeout), "set", room, "<query xmlns='"+nsMUCOwner+"'><x xmlns='"+nsData+"' type='submit'>"+
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"+
		"<field var='"+field+"'><value>"+value+"</value></field></x></query>")
	if err != nil {
		j.Fatal(err)
	}
	return answer
}

func (j *jitsi) sees(room string) RoomView {
	j.Helper()
	view, err := j.observer.Room(timeout(j.T, defaultTimeout), room)
	if err != nil {
		j.Fatal(err)
	}
	return view
}

// disco is the error condition of a disco#info request, or "".
func (j *jitsi) disco(c *Client, to string) string {
	j.Helper()
	answer, err := c.IQ(timeout(j.T, defaultTimeout), "get", to, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
	if err != nil {
		j.Fatal(err)
	}
	return answer.ErrorCondition()
}

// host is somebody inside the room as its owner.
func (j *jitsi) host(room, nick string) *Client {
	j.Helper()
	c := j.someone("meet.example.com")
	j.affiliate(j.observer.client, room, c.BareJID(), "owner")
	if refused, _ := j.enters(c, room, nick); refused != "" {
		j.Fatalf("the host is refused: %s", refused)
	}
	return c
}

func TestJitsiConfig(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mod_closed.lua"), []byte(`
		local st = require "util.stanza";
		module:hook("muc-occupant-pre-join", function (event)
			event.origin.send(st.error_reply(event.stanza, "cancel", module:get_option_string("closed_condition")));
			return true;
		end, 10);
	`), 0o600); err != nil {
		t.Fatal(err)
	}
	o := JitsiOptions{
		Domain: "jitsi.example.com", Secret: "s", Password: "p", Open: true, Lobby: true, Breakout: true, HideAll: true,
		Modules: []string{"closed"}, PluginPaths: []string{dir}, Conference: "closed_condition = 'undefined-condition'\nrestrict_room_creation = false",
	}
	t.Parallel()
	s := Start(t, o.Options())
	s.Component(t, "focus.jitsi.example.com", "s")
	jicofo := s.Jicofo(t, o.Jicofo())
	observer := s.Observe(t, o.Observer())
	if jicofo.JID() != "focus@auth.jitsi.example.com/focus" {
		t.Errorf("Jicofo is %s", jicofo.JID())
	}
	if view, err := observer.Room(timeout(t, defaultTimeout), "standup@conference.jitsi.example.com"); err != nil || view.Exists {
		t.Errorf("the observer sees %v %v", view, err)
	}
	juliet := s.Client(t, ClientOptions{Host: "guest.jitsi.example.com"})
	if answer, err := juliet.Join(timeout(t, defaultTimeout), "standup@conference.jitsi.example.com", "juliet"); err != nil || answer.ErrorCondition() != "undefined-condition" {
		t.Errorf("the module is not at work: %s %v", answer, err)
	}
	// As Jitsi's do, the stand-ins tell clients where they are.
	disco, err := juliet.IQ(timeout(t, defaultTimeout), "get", "jitsi.example.com", "<query xmlns='http://jabber.org/protocol/disco#info'/>")
	if err != nil {
		t.Fatal(err)
	}
	for typ, name := range map[string]string{"lobbyrooms": "lobby.jitsi.example.com", "breakout_rooms": "breakout.jitsi.example.com"} {
		identity := "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='component' type='" + typ + "' name='" + name + "'/></query>"
		if ok, err := disco.Matches("<iq>" + identity + "</iq>"); !ok {
			t.Errorf("no %s: %s %v", typ, disco, err)
		}
	}
	for line := range strings.Lines(s.Log()) {
		// A port that somebody else has taken is no news: the server was started again with others.
		if strings.Contains(line, "\terror\t") && !strings.Contains(line, "portmanager") {
			t.Errorf("Prosody says: %s", line)
		}
	}
}

func TestObserver(t *testing.T) {
	j := startJitsi(t, JitsiOptions{HideAll: true})
	if view := j.sees(room); view.Exists || view.String() != "no room" {
		t.Errorf("before: %v", view)
	}
	j.opens(room)
	romeo := j.host(room, "romeo")
	juliet := j.someone("guest.meet.example.com")
	j.affiliate(j.observer.client, room, juliet.BareJID(), "member")
	j.affiliate(j.observer.client, room, "tybalt@meet.example.com", "outcast")
	if refused, _ := j.enters(juliet, room, "juliet"); refused != "" {
		t.Fatal(refused)
	}
	view := j.sees(room)
	want := []Occupant{
		{"focus", j.jicofo.JID(), "moderator", "owner"},
		{"juliet", juliet.JID(), "participant", "member"},
		{"romeo", romeo.JID(), "moderator", "owner"},
	}
	if !view.Exists || !view.MembersOnly || !slices.Equal(view.Occupants, want) {
		t.Errorf("inside: %v", view)
	}
	if a := view.Affiliations; len(a) != 4 || a["focus@auth.meet.example.com"] != "owner" || a[romeo.BareJID()] != "owner" ||
		a[juliet.BareJID()] != "member" || a["tybalt@meet.example.com"] != "outcast" {
		t.Errorf("affiliations: %v", view)
	}
	if view.Occupant(juliet.BareJID()).Nick != "juliet" || view.Occupant("tybalt@meet.example.com") != (Occupant{}) {
		t.Error("occupants are not found by their JID")
	}
	if got := j.disco(romeo, room); got != "" {
		t.Errorf("the room says %s to those inside", got)
	}
	if got := j.disco(j.someone("meet.example.com"), room); got != "forbidden" {
		t.Errorf("the room says %q to those outside", got)
	}
	j.submits(romeo, room, "muc#roomconfig_membersonly", "0")
	if view := j.sees(room); view.MembersOnly {
		t.Error("still members-only")
	}
	// One who is no admin sees nothing, and hears so.
	if _, err := (&Observer{juliet}).Room(t.Context(), room); err == nil {
		t.Error("no error for one who is no admin")
	}
}

func TestLobby(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Lobby: true, Open: true, HideAll: true})
	j.opens(room)
	romeo := j.host(room, "romeo")
	juliet := j.someone("guest.meet.example.com")
	if j.sees(lobbyRoom).Exists {
		t.Error("a lobby that is not on is there")
	}

	// The focus turns nothing on.
	focus := j.Component(t, bot, "secret")
	focus.from = "focus@" + bot
	j.submits(focus, room, "muc#roomconfig_membersonly", "1")
	if j.sees(lobbyRoom).Exists {
		t.Fatal("a form from the focus has made a lobby")
	}
	// In a room that is members-only without a lobby, the gate names none.
	if refused, s := j.enters(juliet, room, "juliet"); refused != "registration-required" || s.Find("lobbyroom", nsJitmeet).Text != "" {
		t.Errorf("without a lobby: %s", s)
	}

	romeo.Drain()
	j.submits(romeo, room, "muc#roomconfig_membersonly", "1")
	romeo.Receives("<message from='" + room + "' type='groupchat'><x xmlns='" + nsMUCUser + "'><status code='104'/></x></message>")
	romeo.Sends("<iq type='get' id='hidden' to='" + lobbyRoom + "'><query xmlns='" + nsDiscoInfo + "'/></iq>")
	romeo.ReceivesNot("<iq id='hidden'/>") // as no error from there is passed on
	if s, err := romeo.IQ(t.Context(), "get", room, "<query xmlns='http://jabber.org/protocol/disco#info'/>"); err != nil || formField(s, "muc#roominfo_lobbyroom") != lobbyRoom {
		t.Errorf("the room does not name its lobby: %s", s)
	}

	// Without a name there is no way in, for a member neither.
	juliet.Sends("<presence to='" + room + "/juliet'><x xmlns='" + nsMUC + "'/></presence>")
	juliet.Receives(`<presence type='error' from='` + room + `/juliet'><error type='modify' code='406'>
		<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><displayname-required xmlns='http://jitsi.org/jitmeet' lobby='true'/></error></presence>`)
	if refused, s := j.enters(juliet, room, "juliet"); refused != "registration-required" || s.Find("lobbyroom", nsJitmeet).Text != lobbyRoom {
		t.Fatalf("the gate: %s", s)
	}
	nurse := j.someone("guest.meet.example.com")
	if refused, s := j.enters(juliet, lobbyRoom, "juliet"); refused != "" || s.Find("item", nsMUCUser).Attr["affiliation"] != "none" {
		t.Errorf("knocking: %s", s)
	}
	if refused, _ := j.enters(nurse, lobbyRoom, "nurse"); refused != "" {
		t.Errorf("knocking: %s", refused)
	}
	// The host sees both, they see nobody.
	if refused, s := j.enters(romeo, lobbyRoom, "romeo"); refused != "" || s.Find("item", nsMUCUser).Attr["affiliation"] != "owner" {
		t.Fatalf("the host in the lobby: %s", s)
	}
	romeo.Receives("<presence from='" + lobbyRoom + "/juliet'/>")
	romeo.Receives("<presence from='" + lobbyRoom + "/nurse'/>")
	juliet.ReceivesNot("<presence from='" + lobbyRoom + "/nurse'/>")
	juliet.ReceivesNot("<presence from='" + lobbyRoom + "/romeo'/>")
	nurse.ReceivesNot("<presence from='" + lobbyRoom + "/juliet'/>")

	// Both in one message; only a host may.
	invite := "<message to='" + room + "'><x xmlns='" + nsMUCUser + "'><invite to='" + juliet.JID() + "'/><invite to='" + nurse.JID() + "'/></x></message>"
	juliet.Sends(invite)
	juliet.Receives("<message type='error' from='" + room + "'><error><forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
	romeo.Sends(invite)
	for nick, c := range map[string]*Client{"juliet": juliet, "nurse": nurse} {
		c.Receives("<message from='" + room + "'><x xmlns='" + nsMUCUser + "'><invite from='" + romeo.JID() + "'/></x></message>")
		if refused, _ := j.enters(c, room, nick); refused != "" {
			t.Errorf("%s is not let in: %s", nick, refused)
		}
	}
	if view := j.sees(room); view.Affiliations[nurse.BareJID()] != "member" || view.Occupant(juliet.JID()).Role != "participant" {
		t.Errorf("after admission: %v", view)
	}

	// A lobby that ends sends everybody to the room.
	tybalt := j.someone("guest.meet.example.com")
	j.enters(tybalt, lobbyRoom, "tybalt")
	j.submits(romeo, room, "muc#roomconfig_membersonly", "0")
	tybalt.Receives("<presence type='unavailable' from='" + lobbyRoom + "/tybalt'><x xmlns='" + nsMUCUser + "'><destroy jid='" + room + "'/></x></presence>")
	if j.sees(lobbyRoom).Exists {
		t.Error("the lobby is still there")
	}
	if refused, _ := j.enters(tybalt, room, "tybalt"); refused != "" {
		t.Errorf("the open room refuses: %s", refused)
	}

	// usher as its bare domain may turn it on; with the room it goes, and then nobody is sent anywhere. Those inside
	// without an affiliation are put out by Prosody.
	focus.from = bot
	j.submits(focus, room, "muc#roomconfig_membersonly", "1")
	tybalt.Receives("<presence type='unavailable' from='" + room + "/tybalt'><x xmlns='" + nsMUCUser + "'><status code='322'/></x></presence>")
	tybalt.Drain()
	if refused, _ := j.enters(tybalt, lobbyRoom, "tybalt"); refused != "" {
		t.Errorf("no lobby made by the component: %s", refused)
	}
	if s, err := focus.IQ(t.Context(), "set", room, "<query xmlns='"+nsMUCOwner+"'><destroy/></query>"); err != nil || s.Attr["type"] != "result" {
		t.Fatal(s, err)
	}
	gone := tybalt.Receives("<presence type='unavailable' from='" + lobbyRoom + "/tybalt'><x xmlns='" + nsMUCUser + "'><destroy/></x></presence>")
	if alternative := gone.Find("destroy", nsMUCUser).Attr["jid"]; alternative != "" {
		t.Errorf("sent to %s", alternative)
	}
}

// TestLobbyGate shows who passes the lobby's gate without a name, in rooms that are members-only from the start.
func TestLobbyGate(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Lobby: true, Global: "muc_lobby_whitelist = { 'meet.example.com' }"})
	j.opens(room) // the nick focus
	admin := j.observer.client
	for room, want := range map[string]string{room: "not-acceptable", "__jicofo-health-check-1@conference.meet.example.com": ""} {
		if s, err := admin.Join(timeout(t, defaultTimeout), room, "admin"); err != nil || s.ErrorCondition() != want {
			t.Errorf("%s: %s %v", room, s, err)
		}
	}
	romeo := j.someone("meet.example.com")
	if s, err := romeo.Join(timeout(t, defaultTimeout), room, "romeo"); err != nil || s.ErrorCondition() != "" {
		t.Errorf("from a listed domain: %s %v", s, err)
	}
	juliet := j.someone("guest.meet.example.com")
	if refused, _ := j.enters(juliet, room, "juliet"); refused != "registration-required" {
		t.Errorf("from another: %q", refused)
	}
	j.submits(admin, room, "muc#roomconfig_roomsecret", "balcony")
	juliet.Sends("<presence to='" + room + "/juliet'><x xmlns='" + nsMUC + "'><password>balcony</password></x></presence>")
	becomes(juliet, room, "juliet", "member")
}

// TestLobbyWithoutNames shows that those without a name pass if the room says so, and that Jitsi's option only has clients
// ask for one.
func TestLobbyWithoutNames(t *testing.T) {
	feature := func(j *jitsi) bool {
		j.Helper()
		c := j.Server.Client(j.T, ClientOptions{Host: "guest.meet.example.com", Transport: WebSocket, Room: "standup"})
		answer, err := c.IQ(timeout(j.T, defaultTimeout), "get", "lobby.meet.example.com", "<query xmlns='http://jabber.org/protocol/disco#info' node='lobbyrooms'/>")
		if err != nil || answer.ErrorCondition() != "" {
			j.Fatal(answer, err)
		}
		return strings.Contains(answer.String(), "displayname_required")
	}
	for name, tt := range map[string]struct {
		o        JitsiOptions
		refused  string
		required bool
	}{
		"skipped":         {JitsiOptions{NoDisplayNameCheck: true}, "registration-required", true},
		"Jitsi's option":  {JitsiOptions{Global: "muc_lobby_check_display_name_required = false"}, "not-acceptable", false},
		"as it is at all": {JitsiOptions{}, "not-acceptable", true},
	} {
		t.Run(name, func(t *testing.T) {
			tt.o.Lobby, tt.o.GuestAuth = true, "jitsi-anonymous"
			j := startJitsi(t, tt.o)
			j.opens(room)
			juliet := j.someone("guest.meet.example.com")
			joins := func() {
				t.Helper()
				if s, err := juliet.Join(timeout(t, defaultTimeout), room, "juliet"); err != nil || s.ErrorCondition() != tt.refused {
					t.Errorf("the gate: %s %v", s, err)
				}
			}
			joins()
			if j.sees(lobbyRoom).Exists || feature(j) {
				t.Error("a lobby that is not on is there")
			}
			j.submits(j.observer.client, room, "muc#roomconfig_membersonly", "1")
			joins()
			if got := j.disco(juliet, lobbyRoom); got != "" || feature(j) != tt.required {
				t.Errorf("the lobby, which is not hidden, says %q", got)
			}
			// A form that does not speak of members-only ends the lobby.
			j.submits(j.observer.client, room, "muc#roomconfig_whois", "anyone")
			if j.sees(lobbyRoom).Exists || feature(j) {
				t.Error("a lobby that is not on any more is there")
			}
			// Jicofo's health checks pass.
			if err := j.jicofo.HealthCheck(timeout(t, defaultTimeout)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMeetingID(t *testing.T) {
	j := startJitsi(t, JitsiOptions{
		MeetingID: true, Metadata: true, Lobby: true, NoDisplayNameCheck: true, Open: true, Conference: "restrict_room_creation = false",
	})
	health := "__jicofo-health-check-1@conference.meet.example.com"
	for _, nick := range []string{"juliet", "focus"} { // of a room of Jicofo's, and of one that it has not opened
		c := j.someone("guest.meet.example.com")
		refused, _ := j.enters(c, health, nick)
		if want := map[string]string{"juliet": "service-unavailable", "focus": ""}[nick]; refused != want {
			t.Errorf("%s enters a room of a health check: %q", nick, refused)
		}
		c.Sends("<presence type='unavailable' to='" + health + "/" + nick + "'/>")
	}

	// Who comes first waits, and hears nothing.
	juliet, gone := j.someone("guest.meet.example.com"), j.someone("guest.meet.example.com")
	join := "<presence to='" + room + "/juliet'><x xmlns='" + nsMUC + "'/></presence>"
	gone.Sends(strings.Replace(join, "juliet", "gone", 1))
	juliet.Sends(join)
	juliet.ReceivesNot("<presence from='" + room + "/juliet'/>")
	if err := gone.Close(); err != nil {
		t.Error(err)
	}
	j.opens(room)
	juliet.Receives("<presence from='" + room + "/juliet'><x xmlns='" + nsMUCUser + "'><status code='110'/></x></presence>")
	if view := j.sees(room); view.Occupant(juliet.JID()) == (Occupant{}) || len(view.Occupants) != 2 {
		t.Errorf("in the room: %v", view)
	}

	// The focus is what it is.
	set := func(item, want string) {
		t.Helper()
		answer, err := j.observer.client.IQ(timeout(t, defaultTimeout), "set", room, "<query xmlns='"+nsMUCAdmin+"'><item "+item+"/></query>")
		if err != nil || answer.ErrorCondition() != want {
			t.Errorf("%s: %s %v", item, answer, err)
		}
	}
	for _, item := range []string{
		"affiliation='member' jid='focus@focus.meet.example.com'", "affiliation='none' jid='focus@example.com'",
		"role='none' nick='focus'", "affiliation='owner' jid='someone@example.com' nick='focus'",
	} {
		set(item, "not-allowed")
	}
	set("affiliation='member' jid='stranger@focus.meet.example.com'", "")

	// With the kick the affiliation goes.
	tybalt := j.someone("guest.meet.example.com")
	set("affiliation='owner' jid='"+tybalt.BareJID()+"'", "")
	refused, presence := j.enters(tybalt, room, "tybalt")
	if refused != "" || may(presence)["recording"] != "true" {
		t.Errorf("the owner is told %s %s", refused, presence)
	}
	set("affiliation='admin' jid='"+tybalt.BareJID()+"'", "")
	admin := j.observer.client
	if refused, _ := j.enters(admin, room, "admin"); refused != "" {
		t.Fatal(refused)
	}
	set("role='none' nick='tybalt'", "")
	tybalt.Receives("<presence type='unavailable' from='" + room + "/tybalt'><x xmlns='" + nsMUCUser + "'><status code='307'/></x></presence>")
	if got := j.sees(room).Affiliations[tybalt.BareJID()]; got != "" {
		t.Errorf("the kicked is %s", got)
	}

	other := "retro@conference.meet.example.com" // which Jicofo creates; the first has no id, as its creator had to wait
	j.opens(other)
	form, err := admin.IQ(timeout(t, defaultTimeout), "get", other, "<query xmlns='"+nsMUCOwner+"'/>")
	if err != nil || len(formField(form, "muc#roominfo_meetingId")) != 36 {
		t.Errorf("the form: %s %v", form, err)
	}
	romeo := j.host(room, "mercutio")
	romeo.Drain()
	j.submits(romeo, room, "muc#roomconfig_membersonly", "1")
	if _, err := romeo.Await(timeout(t, defaultTimeout), func(s Stanza) bool {
		m := s.Child("json-message", nsJitmeet)
		return s.Attr["from"] == "metadata.meet.example.com" && m.Attr["room"] == room && strings.Contains(m.Text, `"lobbyEnabled":true`)
	}); err != nil {
		t.Error("nothing is said of the lobby:", err)
	}
}

func TestBreakout(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Breakout: true})
	j.opens(room)
	romeo := j.host(room, "romeo")
	juliet, tybalt := j.someone("guest.meet.example.com"), j.someone("guest.meet.example.com")
	j.affiliate(j.observer.client, room, juliet.BareJID(), "member")
	if refused, _ := j.enters(juliet, room, "juliet"); refused != "" {
		t.Fatal(refused)
	}

	if jid, err := juliet.AddBreakout(timeout(t, defaultTimeout), breakout, "tomb"); err == nil {
		t.Errorf("a participant has made %s", jid)
	}
	cell, err := romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "cell")
	if err != nil {
		t.Fatal(err)
	}
	if rooms := breakoutRooms(juliet.Receives("<message from='" + breakout + "'><json-message xmlns='" + nsJitmeet + "'/></message>")); len(rooms) != 2 {
		t.Errorf("those inside are told of %v", rooms)
	}
	if j.sees(cell).Exists {
		t.Error("the room exists though nobody has entered")
	}
	if refused, _ := j.enters(juliet, cell, "juliet"); refused != "not-allowed" {
		t.Errorf("before Jicofo: %q", refused)
	}
	j.opens(cell)
	form, err := j.observer.client.IQ(t.Context(), "get", cell, "<query xmlns='"+nsMUCOwner+"'/>")
	if err != nil || !isTrue(formField(form, "muc#roominfo_isbreakout")) || formField(form, "muc#roominfo_breakout_main_room") != room {
		t.Errorf("the form says otherwise: %s %v", form, err)
	}
	if form, _ := j.observer.client.IQ(t.Context(), "get", room, "<query xmlns='"+nsMUCOwner+"'/>"); formField(form, "muc#roominfo_isbreakout") != "" {
		t.Error("the main room says that it is one")
	}

	// Who was never in the main room stays out; nobody takes another's nick; roles are those of the main room.
	if refused, _ := j.enters(tybalt, cell, "tybalt"); refused != "not-allowed" {
		t.Errorf("a stranger: %q", refused)
	}
	if refused, _ := j.enters(juliet, cell, "romeo"); refused != "conflict" {
		t.Errorf("a nick of the main room: %q", refused)
	}
	for nick, c := range map[string]*Client{"juliet": juliet, "romeo": romeo} {
		if refused, _ := j.enters(c, cell, nick); refused != "" {
			t.Errorf("%s: %s", nick, refused)
		}
	}
	view := j.sees(cell)
	if view.Occupant(romeo.JID()).Role != "moderator" || view.Occupant(juliet.JID()).Affiliation != "member" || len(view.Occupants) != 3 {
		t.Errorf("in the breakout room: %v", view)
	}
	j.affiliate(j.observer.client, room, juliet.BareJID(), "owner")
	if got := j.sees(cell).Occupant(juliet.JID()).Affiliation; got != "owner" {
		// Prosody keeps the role of those inside, as it heard of no change here.
		t.Errorf("made owner in the main room, in the breakout room she is %s", got)
	}

	// From within a breakout room its moderators have the same power.
	tomb, err := romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "tomb")
	if err != nil {
		t.Fatal(err)
	}
	romeo.Sends("<message to='" + breakout + "'><breakout_rooms type='features/breakout-rooms/move-to-room' participantJid='" + juliet.JID() + "' roomJid='" + tomb + "'/></message>")
	if _, err := juliet.Await(timeout(t, defaultTimeout), func(s Stanza) bool {
		text := s.Child("json-message", nsJitmeet).Text
		return s.Attr["from"] == breakout && strings.Contains(text, "move-to-room") && strings.Contains(text, tomb)
	}); err != nil {
		t.Error("she is not asked to move:", err)
	}
	romeo.Sends("<message to='" + breakout + "'><breakout_rooms type='features/breakout-rooms/remove' breakoutRoomJid='" + tomb + "'/></message>")
	romeo.Sends("<message to='" + breakout + "'><breakout_rooms type='features/breakout-rooms/remove' breakoutRoomJid='" + cell + "'/></message>")
	juliet.Receives("<presence type='unavailable' from='" + cell + "/juliet'><x xmlns='" + nsMUCUser + "'><destroy jid='" + room + "'/></x></presence>")

	// With the main room all end.
	cell, err = romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "second cell")
	if err != nil {
		t.Fatal(err)
	}
	j.opens(cell)
	if refused, _ := j.enters(juliet, cell, "juliet"); refused != "" {
		t.Error(refused)
	}
	if s, err := romeo.IQ(t.Context(), "set", room, "<query xmlns='"+nsMUCOwner+"'><destroy/></query>"); err != nil || s.Attr["type"] != "result" {
		t.Fatal(s, err)
	}
	juliet.Receives("<presence type='unavailable' from='" + cell + "/juliet'><x xmlns='" + nsMUCUser + "'><destroy/></x></presence>")
	if j.sees(room).Exists || j.sees(cell).Exists {
		t.Error("something is still there")
	}
	if err := j.jicofo.Await(timeout(t, defaultTimeout), func(_ []JicofoRequest, rooms []string) bool { return len(rooms) == 0 }); err != nil {
		t.Error(err)
	}
}

// TestBreakoutInvalid shows that a room nobody has registered does not come to be, and that Jicofo is told nothing.
func TestBreakoutInvalid(t *testing.T) {
	o := JitsiOptions{Breakout: true}
	t.Parallel()
	s := Start(t, o.Options())
	jo := o.Jicofo()
	jo.JoinTimeout = 100 * time.Millisecond
	j := &jitsi{t, s, s.Jicofo(t, jo), s.Observe(t, o.Observer())}
	romeo := j.someone("meet.example.com")
	romeo.Sends("<iq type='set' id='unanswered' to='" + j.jicofo.JID() + "'>" + conference("invented@"+breakout, "") + "</iq>")
	j.throws()
	if j.sees("invented@" + breakout).Exists {
		t.Error("the room is there")
	}
	romeo.ReceivesNot("<iq id='unanswered'/>")
	admin := j.observer.client
	admin.Sends("<presence to='invented@" + breakout + "/admin'><x xmlns='" + nsMUC + "'/></presence>")
	admin.ReceivesNot("<presence from='invented@" + breakout + "/admin'/>")
}

// TestBreakoutAlone shows that the main room stays while all are in its breakout rooms, and ends when nobody is anywhere.
func TestBreakoutAlone(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Breakout: true, Global: "prosodytest_breakout_ttl = 0.1"})
	j.opens(room)
	romeo := j.host(room, "romeo")
	cell, err := romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "cell")
	if err != nil {
		t.Fatal(err)
	}
	j.opens(cell)
	if refused, _ := j.enters(romeo, cell, "romeo"); refused != "" {
		t.Fatal(refused)
	}
	romeo.Sends("<presence type='unavailable' to='" + room + "/romeo'/>")
	romeo.Receives("<presence type='unavailable' from='" + room + "/romeo'/>")
	j.jicofo.Close()
	if view := j.sees(room); !view.Exists || len(view.Occupants) != 0 || view.Affiliations[romeo.BareJID()] != "owner" {
		t.Errorf("with all in the breakout room: %v", view)
	}
	second := j.Server.Jicofo(t, JitsiOptions{Breakout: true}.Jicofo())
	if answer, err := romeo.IQ(timeout(t, defaultTimeout), "set", second.JID(), conference(room, "")); err != nil || attribute(answer, "ready") != "true" {
		t.Fatal(answer, err)
	}
	romeo.Sends("<presence type='unavailable' to='" + cell + "/romeo'/>")
	romeo.Receives("<presence type='unavailable' from='" + cell + "/romeo'/>")
	// Jicofo itself waits for somebody, for much longer.
	if err := second.Await(timeout(t, defaultTimeout), func(_ []JicofoRequest, rooms []string) bool { return len(rooms) == 0 }); err != nil {
		t.Error(err)
	}
	if j.sees(room).Exists {
		t.Error("the main room is still there")
	}
}

// TestDomainMapper shows which spelling of tenants' rooms each party sees.
func TestDomainMapper(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Mapper: true, MeetingID: true, Metadata: true, Lobby: true, Breakout: true, NoDisplayNameCheck: true})
	for _, tenant := range []string{"acme", "acme_1"} { // docker-jitsi-meet has Prosody take the latter for a domain
		spelled, its := "standup@conference."+tenant+".meet.example.com", "["+tenant+"]"+room
		romeo, juliet := j.someone("meet.example.com"), j.someone("guest.meet.example.com")
		if answer := j.ask(romeo, spelled); attribute(answer, "room") != spelled || attribute(answer, "ready") != "true" {
			t.Fatalf("Jicofo answers %s", answer)
		}
		if view := j.sees(spelled); view.Occupant(j.jicofo.JID()).Nick != "focus" {
			t.Fatalf("in the room: %v", view)
		}
		if !slices.Contains(j.jicofo.Rooms(), spelled) {
			t.Errorf("Jicofo is in %v", j.jicofo.Rooms())
		}
		j.affiliate(j.observer.client, spelled, romeo.BareJID(), "owner")
		j.affiliate(j.observer.client, spelled, juliet.BareJID(), "member")
		for nick, c := range map[string]*Client{"romeo": romeo, "juliet": juliet} {
			if refused, s := j.enters(c, spelled, nick); refused != "" || s.Attr["to"] != c.JID() {
				t.Fatalf("%s enters: %s", nick, s)
			}
			c.Receives("<message from='metadata.meet.example.com'><json-message xmlns='" + nsJitmeet + "' room='" + spelled + "'/></message>")
		}
		romeo.Sends("<message to='" + spelled + "' type='groupchat'><body>Hello</body></message>")
		juliet.Receives("<message from='" + spelled + "/romeo'><body>Hello</body></message>")
		juliet.Sends("<message to='" + spelled + "/romeo' type='chat'><body>Psst</body></message>")
		romeo.Receives("<message from='" + spelled + "/juliet'><body>Psst</body></message>")
		cell, err := romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "cell")
		if err != nil {
			t.Fatal(err)
		}
		j.opens(cell)
		form, err := j.observer.client.IQ(timeout(t, defaultTimeout), "get", cell, "<query xmlns='"+nsMUCOwner+"'/>")
		if err != nil || formField(form, "muc#roominfo_breakout_main_room") != spelled {
			t.Errorf("the main room of the breakout room: %s %v", form, err)
		}

		// The service itself has as many names. Who asks for the room in brackets is answered from elsewhere.
		if refused := j.disco(romeo, "conference."+tenant+".meet.example.com"); refused != "" {
			t.Errorf("the service says %s", refused)
		}
		romeo.Sends("<iq type='get' id='brackets' to='" + its + "'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		romeo.Receives("<iq type='result' id='brackets' from='" + spelled + "'/>")

		// A component speaks to the room in brackets only, and hears it in either spelling.
		component := j.Component(t, bot, "secret")
		component.from = "focus@" + bot
		for address, want := range map[string]string{its: "", spelled: "not-allowed"} {
			answer, err := component.IQ(timeout(t, defaultTimeout), "get", address, "<query xmlns='"+nsMUCOwner+"'/>")
			if err != nil || answer.ErrorCondition() != want {
				t.Errorf("a component asks %s: %s %v", address, answer, err)
			}
		}
		component.Sends("<presence from='" + component.from + "/usher' to='" + its + "/usher'><x xmlns='" + nsMUC + "'/></presence>")
		component.Receives("<presence from='" + spelled + "/romeo'/>")
		component.Receives("<presence from='" + spelled + "/usher'><x xmlns='" + nsMUCUser + "'><status code='110'/></x></presence>")
		if err := component.Close(); err != nil {
			t.Error(err)
		}
	}
}
