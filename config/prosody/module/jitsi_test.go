package module_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	breakout = "breakout.meet.example.com"
	lobby    = "lobby.meet.example.com"
)

// startJitsi starts a Prosody with stand-ins of Jitsi's modules, and usher's on the MUC services of main and breakout rooms.
func startJitsi(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	names := []string{"usher", "usher_test"}
	o := prosodytest.JitsiOptions{
		Open: true, MeetingID: true, Permissions: true, Jibri: true, Lobby: true, Breakout: true, NoDisplayNameCheck: true,
		Modules: names, BreakoutModules: names, Global: "usher_component = \"" + domain + "\"\nc2s_unauthed = nil",
	}.Options()
	o.LogLevel = "info"
	o.Users["romeo@auth.meet.example.com"] = "pass"
	w := startWith(t, o)
	w.open()
	return w
}

// session is what Jitsi's modules read in a client's session.
type session struct {
	Features    map[string]bool
	User        map[string]string
	Group       string
	Permissions bool // are to be told
	Any         bool
}

func (w *world) session(c *prosodytest.Client) (s session) {
	w.t.Helper()
	w.runs(service, `local s = prosody.full_sessions["`+c.JID()+`"];
		local function object(t) if t then local o = {}; for k, v in pairs(t) do o[k] = v; end o.any = nil; return next(o) and o or { none = t.x }; end end
		return { Features = object(s.jitsi_meet_context_features), User = s.jitsi_meet_context_user, Group = s.jitsi_meet_context_group,
			Permissions = s.force_permissions_update, Any = true }`, &s)
	return s
}

// context gives a session the context of a token for a room, and nothing else.
func (w *world) context(c *prosodytest.Client, room, text string) {
	w.t.Helper()
	w.usher.Sends(fmt.Sprintf(`<message from='%s' to='%s'><give xmlns='%s' room='%s' jid='%s' session='%s'>%s</give></message>`,
		usher, service, nsModule, room, c.BareJID(), c.JID(), text))
	w.runs(service, "return 1", nil) // the stream keeps its order
}

// records has somebody ask for a recording of the room, and returns the condition of the answer.
func (w *world) records(c *prosodytest.Client, room, mode string) string {
	w.t.Helper()
	answer, err := c.IQ(w.t.Context(), "set", room+"/focus", `<jibri xmlns='http://jitsi.org/protocol/jibri' action='start' recording_mode='`+mode+`'/>`)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer.ErrorCondition()
}

// focusAnswers answers what the stand-in of Jibri's filter lets through to the focus.
func (w *world) focusAnswers() {
	w.runs(service, `module:hook("iq/full", function (event)
		local s = event.stanza;
		if s:get_child("jibri", "http://jitsi.org/protocol/jibri") then event.origin.send(require "util.stanza".reply(s)); return true; end
	end, 100)`, nil)
}

// Jitsi's modules read what the token said that usher decided by, and nothing of what other tokens said.
func TestContext(t *testing.T) {
	w := startJitsi(t)
	w.focusAnswers()
	host, guest := w.client(), w.client()
	w.affiliate(host.BareJID(), "owner")
	w.affiliate(guest.BareJID(), "member")
	w.enter(host, room, "host", "")
	w.enter(guest, room, "guest", "")
	may := func(c *prosodytest.Client, recording, livestreaming string) {
		t.Helper()
		if r, l := w.records(c, room, "file"), w.records(c, room, "stream"); r != recording || l != livestreaming {
			t.Fatalf("recording: %q, want %q; livestreaming: %q, want %q (%+v)", r, recording, l, livestreaming, w.session(c))
		}
	}
	// Without a word on features, moderators may.
	may(host, "", "")
	may(guest, "forbidden", "forbidden")
	w.context(host, room, "")
	if s := w.session(host); s.Features != nil || s.User != nil || s.Group != "" || s.Permissions {
		t.Errorf("without a context: %+v", s)
	}
	may(host, "", "")

	w.context(host, room, `{"features":{"recording":false,"livestreaming":true},"user":{"id":"7","name":"Ann &lt;&amp;>"},"group":"staff"}`)
	if s := w.session(host); !maps.Equal(s.User, map[string]string{"id": "7", "name": "Ann <&>"}) || s.Group != "staff" || !s.Permissions {
		t.Errorf("with a context: %+v", s)
	}
	may(host, "forbidden", "")
	w.context(host, room, `{"features":{}}`)
	may(host, "forbidden", "forbidden")
	if s := w.session(host); s.User != nil || s.Group != "" {
		t.Errorf("of the old context: %+v", s)
	}
	w.context(guest, room, `{"features":{"recording":true}}`)
	may(guest, "", "forbidden")
	w.context(guest, room, "")
	may(guest, "forbidden", "forbidden")

	// What is not understood allows nothing, and is reported.
	e := w.listen(service, "nothing")
	for _, text := range []string{"{", "7", `"x"`, "null", "[1"} {
		w.context(host, room, `{"features":{"recording":true,"livestreaming":true}}`)
		may(host, "", "")
		w.context(host, room, text)
		e.tells(fmt.Sprintf(`<refused room='%s' jid='%s' condition='bad-request' %s/>`, room, host.BareJID(), "is='owner'"))
		may(host, "forbidden", "forbidden")
	}
	// A session that is not here is nobody's.
	w.usher.Sends(fmt.Sprintf(`<message from='%s' to='%s'><give xmlns='%s' room='%s' jid='%s' session='%s/other'>{}</give></message>`,
		usher, service, nsModule, room, host.BareJID(), host.BareJID()))
	e.alive()
	may(host, "forbidden", "forbidden")
}

// A session that was admitted to several rooms with different tokens may do in each of them only what no feature is needed for.
func TestContextOfSeveralRooms(t *testing.T) {
	w := startJitsi(t)
	w.focusAnswers()
	const second = "second@" + service
	w.runs(service, `prosody.hosts[module.host].modules.muc.create_room("`+second+`"):set_affiliation(true, "x@meet.example.com", "owner"); room("`+second+`")._data.jicofo_lock = false`, nil)
	host, client := w.client(), w.client()
	w.affiliate(host.BareJID(), "owner")
	w.affiliate(client.BareJID(), "member")
	w.ask(service, second, `<item jid='`+client.BareJID()+`' affiliation='owner'/>`)
	w.enter(host, room, "host", "")
	w.enter(client, room, "client", "")
	w.enter(client, second, "client", "")
	const all, none = `{"features":{"recording":true},"user":{"id":"1"}}`, `{"features":{"recording":false},"user":{"id":"1"}}`
	for _, texts := range [][2]string{{none, all}, {all, none}, {"", all}, {all, ""}} {
		w.context(client, room, texts[0])
		w.context(client, second, texts[1])
		for _, r := range []string{room, second} {
			if got := w.records(client, r, "file"); got != "forbidden" {
				t.Errorf("%q: recording of %s: %q", texts, r, got)
			}
		}
		if s := w.session(client); !s.Features["name-readonly"] {
			t.Errorf("%q: it may take any name: %+v", texts, s)
		}
	}
	// The rights that an owner passes on in one room are for that room only, so that they count in none.
	w.context(host, room, all)
	w.admin(host, `<item jid='`+client.BareJID()+`' affiliation='owner'/>`)
	if got := w.records(client, second, "file"); got != "forbidden" {
		t.Errorf("made an owner in the other room: %q", got)
	}
	// If both tokens say the same, it holds.
	third := w.client()
	w.affiliate(third.BareJID(), "owner")
	w.context(third, room, none)
	w.context(third, room, all) // another token for the room takes the place of the first
	w.context(third, second, all)
	w.enter(third, room, "third", "")
	if got := w.records(third, room, "file"); got != "" {
		t.Errorf("with one token: %q", got)
	}
	// So it is until another token changes that for one of the rooms.
	fourth := w.client()
	w.affiliate(fourth.BareJID(), "member")
	w.enter(fourth, room, "fourth", "")
	w.context(fourth, room, none)
	w.context(fourth, second, none)
	w.context(fourth, second, all)
	if got := w.records(fourth, room, "file"); got != "forbidden" {
		t.Errorf("with another token for the second room only: %q", got)
	}
}

// An affiliation lets all sessions of an account in. Those for which usher was not asked may do what the one may that asked, and no more by
// what they were admitted with elsewhere.
func TestContextOfOtherSessions(t *testing.T) {
	w := startJitsi(t)
	session := func() *prosodytest.Client {
		return w.Client(t, prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "romeo", Password: "pass"})
	}
	may := func(c *prosodytest.Client, what, feature string, want bool) {
		t.Helper()
		s := w.session(c)
		if got, said := s.Features[feature]; got != want || !said || len(s.Features) != 1 {
			t.Errorf("%s: %+v, want %s %v", what, s, feature, want)
		}
	}
	asked, other, elsewhere := session(), session(), session()
	w.affiliate(asked.BareJID(), "owner")
	w.context(asked, room, `{"features":{"recording":false}}`)
	w.enter(other, room, "other", "")
	may(other, "a session that did not ask", "recording", false)
	w.enter(asked, room, "other", "") // Prosody: the same nick, for one account
	may(asked, "the one that asked", "recording", false)
	w.context(elsewhere, "second@"+service, `{"features":{"recording":true}}`)
	may(elsewhere, "a session in another room", "recording", true)
	w.enter(elsewhere, room, "elsewhere", "")
	may(elsewhere, "the same in this room as well", "name-readonly", true)

	// So is it if the one that asked has gone since.
	w.usher.Sends(fmt.Sprintf(`<message from='%s' to='%s'><give xmlns='%s' room='%s' jid='%s' session='%s/gone'>{"features":{"livestreaming":false}}</give></message>`,
		usher, service, nsModule, room, asked.BareJID(), asked.BareJID()))
	afterwards := session()
	w.enter(afterwards, room, "afterwards", "")
	may(afterwards, "a session after one that has gone", "livestreaming", false)

	// It ends with the affiliation.
	w.affiliate(asked.BareJID(), "none")
	w.affiliate(asked.BareJID(), "owner")
	later := session()
	w.enter(later, room, "later", "")
	var knows bool
	w.runs(service, `return prosody.full_sessions["`+later.JID()+`"].usher ~= nil`, &knows)
	if knows {
		t.Errorf("after the end of the affiliation: %+v", w.session(later))
	}
}

// Jitsi's modules overwrite what a session may do: people who are made owners have the features of the owner, for as long as they are
// one, and a session that is resumed has what its token said.
func TestContextComesBack(t *testing.T) {
	w := startJitsi(t)
	host, guest := w.client(), w.client()
	w.affiliate(host.BareJID(), "owner")
	w.affiliate(guest.BareJID(), "member")
	w.enter(host, room, "host", "")
	w.enter(guest, room, "guest", "")
	w.context(host, room, `{"features":{"recording":true,"livestreaming":false}}`)
	w.context(guest, room, `{"features":{"recording":false,"livestreaming":false}}`)
	own := w.session(guest).Features
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='owner'/>`)
	if s := w.session(guest); !s.Features["recording"] || s.Features["livestreaming"] {
		t.Errorf("made an owner: %+v", s)
	}
	w.context(guest, room, `{"features":{"recording":false,"livestreaming":false}}`) // as when somebody comes back from a breakout room
	if s := w.session(guest); !s.Features["recording"] || s.Features["livestreaming"] {
		t.Errorf("an owner who asked again: %+v", s)
	}
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='member'/>`)
	if s := w.session(guest); !maps.Equal(s.Features, own) {
		t.Errorf("an owner no longer: %+v", s)
	}
	w.runs(service, `local s = prosody.full_sessions["`+guest.JID()+`"]; s.jitsi_meet_context_features = { recording = true };
		prosody.events.fire_event("c2s-session-updated", { session = s, from_session = {} })`, nil)
	if s := w.session(guest); !maps.Equal(s.Features, own) {
		t.Errorf("resumed: %+v", s)
	}
	stranger := w.client() // usher knows nothing about it
	w.runs(service, `prosody.events.fire_event("c2s-session-updated", { session = prosody.full_sessions["`+stranger.JID()+`"], from_session = {} })`, nil)
}

// What Jitsi's modules make of rooms is told: the lobby before the answer to the moderator, breakout rooms with their main room. What
// they refuse to usher's own request, they refuse to a grant.
func TestTellsJitsi(t *testing.T) {
	w := startJitsi(t)
	e := w.listen(service, "all")
	begun := e.next()
	if begun.Name != "room" || begun.Attr["jid"] != room || begun.Attr["main"] != "" {
		t.Fatalf("told: %s", begun)
	}
	e.tells(`<complete />`)
	b := w.listen(breakout, "all")
	b.tells(`<complete />`)

	e.give("focus@meet.example.com", "owner", "none", "", "")
	e.tells(fmt.Sprintf(`<refused room='%s' jid='focus@meet.example.com' affiliation='owner' condition='%s'/>`, room, w.ask(service, room, `<item jid='focus@meet.example.com' affiliation='owner'/>`)))

	// The module believes the URL of a client, so that it must say the room.
	host := w.Client(t, prosodytest.ClientOptions{Host: "meet.example.com", Transport: prosodytest.WebSocket, Room: "standup"})
	w.affiliate(host.BareJID(), "owner")
	e.tells(fmt.Sprintf(`<affiliation room='%s' jid='%s' affiliation='owner' by='%s'/>`, room, host.BareJID(), usher))
	w.enter(host, room, "host", "")
	e.tells(w.joined(host, "host", "moderator", "owner"))
	w.membersOnly(host, "1")
	for last := e.all(); len(last) == 0 || last[len(last)-1].Attr["members_only"] != "1" || last[len(last)-1].Attr["lobby"] != "standup@"+lobby; {
		t.Fatalf("with the lobby: %v", last)
	}
	w.membersOnly(host, "0")
	for last := e.all(); len(last) == 0 || last[len(last)-1].Attr["members_only"] != "" || last[len(last)-1].Attr["lobby"] != ""; {
		t.Fatalf("without the lobby: %v", last)
	}

	side, err := host.AddBreakout(t.Context(), breakout, "side")
	if err != nil {
		t.Fatal(err)
	}
	e.all()
	w.usher.Sends(`<presence from='` + usher + `/usher' to='` + side + `/focus'>` + xMUC + `</presence>`)
	if told := b.next(); told.Name != "room" || told.Attr["jid"] != side || told.Attr["main"] != room {
		t.Fatalf("the breakout room: %s", told)
	}
	w.enter(host, side, "host", "")
	if told := b.next(); told.Name != "joined" || told.Attr["affiliation"] != "owner" || told.Attr["jid"] != host.JID() {
		t.Fatalf("in the breakout room: %s", told)
	}
	host.Sends(`<presence type='unavailable' to='` + room + `/host'/>`)
	e.tells(fmt.Sprintf(`<left room='%s' nick='host' jid='%s' breakouts='1'/>`, room, host.JID()))
	if told := w.listen(breakout, "all").next(); told.Attr["main"] != room {
		t.Fatalf("the breakout room, in a snapshot: %s", told)
	}
	if log := w.Log(); strings.Contains(log, "traceback") {
		t.Error(log)
	}
}
