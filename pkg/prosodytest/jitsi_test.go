package prosodytest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

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
		t.Errorf("the module does not act: %s %v", answer, err)
	}
	// As Jitsi's modules do, the stand-ins announce their addresses to clients.
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
		// A port taken by another process is no error: Start has tried again with other ports.
		if strings.Contains(line, "\terror\t") && !strings.Contains(line, "portmanager") {
			t.Errorf("Prosody logs: %s", line)
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
		t.Errorf("the room answers %s to an occupant", got)
	}
	if got := j.disco(j.someone("meet.example.com"), room); got != "forbidden" {
		t.Errorf("the room answers %q to a client outside", got)
	}
	j.submits(romeo, room, "muc#roomconfig_membersonly", "0")
	if view := j.sees(room); view.MembersOnly {
		t.Error("still members-only")
	}
	// An observer that is no admin gets an error.
	if _, err := (&Observer{client: juliet}).Room(t.Context(), room); err == nil {
		t.Error("no error for an observer that is no admin")
	}
}

func TestLobby(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Lobby: true, Open: true, HideAll: true})
	j.opens(room)
	romeo := j.host(room, "romeo")
	juliet := j.someone("guest.meet.example.com")
	if j.sees(lobbyRoom).Exists {
		t.Error("the lobby exists before it is switched on")
	}

	// A form from the focus switches no lobby on.
	focus := j.Component(t, bot, "secret")
	focus.from = "focus@" + bot
	j.submits(focus, room, "muc#roomconfig_membersonly", "1")
	if j.sees(lobbyRoom).Exists {
		t.Fatal("a form from the focus has made a lobby")
	}
	// In a members-only room without a lobby, the refusal names none.
	if refused, s := j.enters(juliet, room, "juliet"); refused != "registration-required" || s.Find("lobbyroom", nsJitmeet).Text != "" {
		t.Errorf("without a lobby: %s", s)
	}

	romeo.Drain()
	j.submits(romeo, room, "muc#roomconfig_membersonly", "1")
	romeo.Receives("<message from='" + room + "' type='groupchat'><x xmlns='" + nsMUCUser + "'><status code='104'/></x></message>")
	romeo.Sends("<iq type='get' id='hidden' to='" + lobbyRoom + "'><query xmlns='" + nsDiscoInfo + "'/></iq>")
	romeo.ReceivesNot("<iq id='hidden'/>") // the lobby module passes on no errors
	if s, err := romeo.IQ(t.Context(), "get", room, "<query xmlns='http://jabber.org/protocol/disco#info'/>"); err != nil || formField(s, "muc#roominfo_lobbyroom") != lobbyRoom {
		t.Errorf("the room does not name its lobby: %s", s)
	}

	// A client without a display name cannot enter.
	juliet.Sends("<presence to='" + room + "/juliet'><x xmlns='" + nsMUC + "'/></presence>")
	juliet.Receives(`<presence type='error' from='` + room + `/juliet'><error type='modify' code='406'>
		<not-acceptable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/><displayname-required xmlns='http://jitsi.org/jitmeet' lobby='true'/></error></presence>`)
	if refused, s := j.enters(juliet, room, "juliet"); refused != "registration-required" || s.Find("lobbyroom", nsJitmeet).Text != lobbyRoom {
		t.Fatalf("joining: %s", s)
	}
	nurse := j.someone("guest.meet.example.com")
	if refused, s := j.enters(juliet, lobbyRoom, "juliet"); refused != "" || s.Find("item", nsMUCUser).Attr["affiliation"] != "none" {
		t.Errorf("knocking: %s", s)
	}
	if refused, _ := j.enters(nurse, lobbyRoom, "nurse"); refused != "" {
		t.Errorf("knocking: %s", refused)
	}
	// The host sees both guests; they see nobody.
	if refused, s := j.enters(romeo, lobbyRoom, "romeo"); refused != "" || s.Find("item", nsMUCUser).Attr["affiliation"] != "owner" {
		t.Fatalf("the host in the lobby: %s", s)
	}
	romeo.Receives("<presence from='" + lobbyRoom + "/juliet'/>")
	romeo.Receives("<presence from='" + lobbyRoom + "/nurse'/>")
	juliet.ReceivesNot("<presence from='" + lobbyRoom + "/nurse'/>")
	juliet.ReceivesNot("<presence from='" + lobbyRoom + "/romeo'/>")
	nurse.ReceivesNot("<presence from='" + lobbyRoom + "/juliet'/>")

	// One message lets both in. Only a host may send it.
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

	// When the lobby ends, it sends all guests to the room.
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

	// usher may switch the lobby on as its bare domain; Prosody then removes occupants without an affiliation. The lobby ends
	// with the room, and then sends the guests nowhere.
	focus.from = bot
	j.submits(focus, room, "muc#roomconfig_membersonly", "1")
	tybalt.Receives("<presence type='unavailable' from='" + room + "/tybalt'><x xmlns='" + nsMUCUser + "'><status code='322'/></x></presence>")
	tybalt.Drain()
	if refused, _ := j.enters(tybalt, lobbyRoom, "tybalt"); refused != "" {
		t.Errorf("the component has made no lobby: %s", refused)
	}
	if s, err := focus.IQ(t.Context(), "set", room, "<query xmlns='"+nsMUCOwner+"'><destroy/></query>"); err != nil || s.Attr["type"] != "result" {
		t.Fatal(s, err)
	}
	gone := tybalt.Receives("<presence type='unavailable' from='" + lobbyRoom + "/tybalt'><x xmlns='" + nsMUCUser + "'><destroy/></x></presence>")
	if alternative := gone.Find("destroy", nsMUCUser).Attr["jid"]; alternative != "" {
		t.Errorf("sent to %s", alternative)
	}
}

// TestLobbyGate shows which clients pass the lobby's checks, in rooms that are members-only from the start.
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

// TestLobbyWithoutNames shows that clients without a display name pass if the room allows it, and that Jitsi's option only makes
// clients ask for one.
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
		"skipped":        {JitsiOptions{NoDisplayNameCheck: true}, "registration-required", true},
		"Jitsi's option": {JitsiOptions{Global: "muc_lobby_check_display_name_required = false"}, "not-acceptable", false},
		"default":        {JitsiOptions{}, "not-acceptable", true},
	} {
		t.Run(name, func(t *testing.T) {
			tt.o.Lobby, tt.o.GuestAuth = true, "jitsi-anonymous"
			j := startJitsi(t, tt.o)
			j.opens(room)
			juliet := j.someone("guest.meet.example.com")
			joins := func() {
				t.Helper()
				if s, err := juliet.Join(timeout(t, defaultTimeout), room, "juliet"); err != nil || s.ErrorCondition() != tt.refused {
					t.Errorf("joining: %s %v", s, err)
				}
			}
			joins()
			if j.sees(lobbyRoom).Exists || feature(j) {
				t.Error("the lobby exists before it is switched on")
			}
			j.submits(j.observer.client, room, "muc#roomconfig_membersonly", "1")
			joins()
			if got := j.disco(juliet, lobbyRoom); got != "" || feature(j) != tt.required {
				t.Errorf("the lobby answers disco#info with %q", got)
			}
			// A form without the field members-only ends the lobby.
			j.submits(j.observer.client, room, "muc#roomconfig_whois", "anyone")
			if j.sees(lobbyRoom).Exists || feature(j) {
				t.Error("the lobby still exists")
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
	for _, nick := range []string{"juliet", "focus"} { // only the nick focus may enter
		c := j.someone("guest.meet.example.com")
		refused, _ := j.enters(c, health, nick)
		if want := map[string]string{"juliet": "service-unavailable", "focus": ""}[nick]; refused != want {
			t.Errorf("%s enters a room of a health check: %q", nick, refused)
		}
		c.Sends("<presence type='unavailable' to='" + health + "/" + nick + "'/>")
	}

	// A client that joins before Jicofo waits without an answer.
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

	// Nobody changes the focus.
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

	// A kick also takes the affiliation.
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
		t.Errorf("after the kick the occupant is %s", got)
	}

	other := "retro@conference.meet.example.com" // Jicofo creates it. The first room has no id: its creator had to wait
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
		t.Error("no metadata about the lobby:", err)
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
		t.Errorf("a participant has created %s", jid)
	}
	cell, err := romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "cell")
	if err != nil {
		t.Fatal(err)
	}
	if rooms := breakoutRooms(juliet.Receives("<message from='" + breakout + "'><json-message xmlns='" + nsJitmeet + "'/></message>")); len(rooms) != 2 {
		t.Errorf("the occupants are sent %v", rooms)
	}
	if j.sees(cell).Exists {
		t.Error("the breakout room exists before anybody has entered")
	}
	if refused, _ := j.enters(juliet, cell, "juliet"); refused != "not-allowed" {
		t.Errorf("before Jicofo: %q", refused)
	}
	j.opens(cell)
	form, err := j.observer.client.IQ(t.Context(), "get", cell, "<query xmlns='"+nsMUCOwner+"'/>")
	if err != nil || !isTrue(formField(form, "muc#roominfo_isbreakout")) || formField(form, "muc#roominfo_breakout_main_room") != room {
		t.Errorf("the form of the breakout room: %s %v", form, err)
	}
	if form, _ := j.observer.client.IQ(t.Context(), "get", room, "<query xmlns='"+nsMUCOwner+"'/>"); formField(form, "muc#roominfo_isbreakout") != "" {
		t.Error("the form of the main room calls it a breakout room")
	}

	// A client that was never in the main room cannot enter. Nobody takes another's nick. The roles are those of the main room.
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
		// The role inside does not change: Prosody sees no change of affiliation in the breakout room.
		t.Errorf("an owner of the main room is %s in the breakout room", got)
	}

	// Moderators can manage breakout rooms from inside one.
	tomb, err := romeo.AddBreakout(timeout(t, defaultTimeout), breakout, "tomb")
	if err != nil {
		t.Fatal(err)
	}
	romeo.Sends("<message to='" + breakout + "'><breakout_rooms type='features/breakout-rooms/move-to-room' participantJid='" + juliet.JID() + "' roomJid='" + tomb + "'/></message>")
	if _, err := juliet.Await(timeout(t, defaultTimeout), func(s Stanza) bool {
		text := s.Child("json-message", nsJitmeet).Text
		return s.Attr["from"] == breakout && strings.Contains(text, "move-to-room") && strings.Contains(text, tomb)
	}); err != nil {
		t.Error("juliet is not asked to move:", err)
	}
	romeo.Sends("<message to='" + breakout + "'><breakout_rooms type='features/breakout-rooms/remove' breakoutRoomJid='" + tomb + "'/></message>")
	romeo.Sends("<message to='" + breakout + "'><breakout_rooms type='features/breakout-rooms/remove' breakoutRoomJid='" + cell + "'/></message>")
	juliet.Receives("<presence type='unavailable' from='" + cell + "/juliet'><x xmlns='" + nsMUCUser + "'><destroy jid='" + room + "'/></x></presence>")

	// All breakout rooms end with the main room.
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
		t.Error("a room still exists")
	}
	j.isIn(none)
}

// TestBreakoutInvalid shows that an unregistered breakout room is not created, and that Jicofo gets no answer.
func TestBreakoutInvalid(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Breakout: true}, func(jo *JicofoOptions) { jo.JoinTimeout = 100 * time.Millisecond })
	romeo := j.someone("meet.example.com")
	romeo.Sends("<iq type='set' id='unanswered' to='" + j.jicofo.JID() + "'>" + conference("invented@"+breakout, "") + "</iq>")
	j.throws()
	if j.sees("invented@" + breakout).Exists {
		t.Error("the room exists")
	}
	romeo.ReceivesNot("<iq id='unanswered'/>")
	admin := j.observer.client
	admin.Sends("<presence to='invented@" + breakout + "/admin'><x xmlns='" + nsMUC + "'/></presence>")
	admin.ReceivesNot("<presence from='invented@" + breakout + "/admin'/>")
}

// TestBreakoutAlone shows that the main room stays while all occupants are in breakout rooms, and ends when all rooms are empty.
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
	// The breakout module ends the room. Jicofo's own InitialTimeout is much longer.
	if err := second.Await(timeout(t, defaultTimeout), func(_ []JicofoRequest, rooms []string) bool { return len(rooms) == 0 }); err != nil {
		t.Error(err)
	}
	if j.sees(room).Exists {
		t.Error("the main room is still there")
	}
}

// TestDomainMapper shows which spelling of tenants' rooms clients, Jicofo and components see.
func TestDomainMapper(t *testing.T) {
	j := startJitsi(t, JitsiOptions{Mapper: true, MeetingID: true, Metadata: true, Lobby: true, Breakout: true, NoDisplayNameCheck: true})
	for _, tenant := range []string{"acme", "acme_1"} { // docker-jitsi-meet patches Prosody to accept the latter as a domain
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

		// The service has a name for each tenant. A request to the room in brackets is answered from the other spelling.
		if refused := j.disco(romeo, "conference."+tenant+".meet.example.com"); refused != "" {
			t.Errorf("the service answers %s", refused)
		}
		romeo.Sends("<iq type='get' id='brackets' to='" + its + "'><query xmlns='http://jabber.org/protocol/disco#info'/></iq>")
		romeo.Receives("<iq type='result' id='brackets' from='" + spelled + "'/>")

		// A component can send only to the room in brackets. It receives stanzas from both spellings.
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

// Without usher, Jitsi's client_proxy passes requests on to Jicofo as its domain with the client's JID, and the answers back.
func TestClientProxy(t *testing.T) {
	t.Parallel()
	o := JitsiOptions{Open: true, ClientProxy: true}
	s := Start(t, o.Options())
	client := s.Client(t, ClientOptions{Host: "meet.example.com"})
	ask := func() Stanza {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		answer, err := client.IQ(ctx, "set", "focus.meet.example.com", "<conference xmlns='"+nsFocus+"' room='standup@conference.meet.example.com'/>")
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	if got := ask().ErrorCondition(); got != "service-unavailable" {
		t.Errorf("without a Jicofo the answer is %q", got)
	}
	j := s.Jicofo(t, o.Jicofo())
	if got := ask(); got.Child("conference", nsFocus).Attr["ready"] != "true" || got.Attr["from"] != "focus.meet.example.com" {
		t.Errorf("the answer is %s", got)
	}
	if requests := j.Requests(); len(requests) != 1 || requests[0].User != client.JID() {
		t.Errorf("Jicofo was asked %v", requests)
	}
}
