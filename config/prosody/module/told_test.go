package module_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const nsModule = "urn:usher:module:0"

// ear is usher as the module tells it what happens.
type ear struct {
	w       *world
	service string
	boot    string
	n       int // of the last thing told
}

// listen asks a service to tell.
func (w *world) listen(service, tell string) *ear {
	w.t.Helper()
	answer := w.asksService(service, `<listen xmlns='`+nsModule+`' tell='`+tell+`'/>`, "").Child("listening", nsModule)
	n, err := strconv.Atoi(answer.Attr["n"])
	if err != nil || answer.Attr["boot"] == "" || answer.Attr["version"] != module.Version {
		w.t.Fatalf("it listens so: %s", answer)
	}
	return &ear{w: w, service: service, boot: answer.Attr["boot"], n: n}
}

// asksService sends a question of usher to a service, and checks its answer.
func (w *world) asksService(service, payload, want string) prosodytest.Stanza {
	w.t.Helper()
	w.asked++
	id := fmt.Sprintf("asked-%d", w.asked)
	w.usher.Sends(fmt.Sprintf(`<iq type='get' id='%s' from='%s' to='%s'>%s</iq>`, id, usher, service, payload))
	answer := w.usher.Receives(fmt.Sprintf(`<iq id='%s' from='%s'/>`, id, service))
	if got := answer.ErrorCondition(); got != want {
		w.t.Fatalf("%s: %q, want %q", payload, got, want)
	}
	return answer
}

// next takes what is told next, and checks its number.
func (e *ear) next() prosodytest.Stanza {
	e.w.t.Helper()
	ctx, cancel := context.WithTimeout(e.w.t.Context(), time.Minute)
	defer cancel()
	s, err := e.w.usher.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "message" && s.Attr["from"] == e.service && !s.Child("told", nsModule).IsZero()
	})
	if err != nil {
		e.w.t.Fatal("nothing is told: ", err)
	}
	return e.check(s)
}

// check checks the number of something told, and returns what it is.
func (e *ear) check(s prosodytest.Stanza) prosodytest.Stanza {
	e.w.t.Helper()
	told := s.Child("told", nsModule)
	e.n++
	if told.Attr["n"] != strconv.Itoa(e.n) || told.Attr["boot"] != e.boot || s.Attr["to"] != domain || len(told.Children) != 1 {
		e.w.t.Fatalf("told, after number %d of %s: %s", e.n-1, e.boot, s)
	}
	return told.Children[0]
}

// tells checks what is told next, exactly, but for the order of attributes and children.
func (e *ear) tells(all ...string) {
	e.w.t.Helper()
	for _, want := range all {
		got := e.next()
		if ok, err := got.Matches(strings.Replace(want, " ", " xmlns='"+nsModule+"' scansion:strict='true' ", 1)); err != nil || !ok {
			e.w.t.Fatalf("told:\n%s\nwant (%v):\n%s", got, err, want)
		}
	}
}

// alive asks for a sign of life, which the module gives after it has told all that it knows. So nothing more may be told.
func (e *ear) alive() {
	e.w.t.Helper()
	answer := e.w.asksService(e.service, `<alive xmlns='`+nsModule+`' boot='`+e.boot+`'/>`, "").Child("alive", nsModule)
	if answer.Attr["n"] != strconv.Itoa(e.n) || answer.Attr["boot"] != e.boot {
		e.w.t.Fatalf("after number %d of %s: %s", e.n, e.boot, answer)
	}
}

// give sends a grant to the module. More are other attributes, and text is the context.
func (e *ear) give(who, affiliation, was, more, text string) {
	e.w.t.Helper()
	if affiliation != "" {
		more += fmt.Sprintf(" affiliation='%s' was='%s'", affiliation, was)
	}
	e.w.usher.Sends(fmt.Sprintf(`<message id='give' from='%s' to='%s'><give xmlns='%s' room='%s' jid='%s' n='%d' %s>%s</give></message>`,
		usher, e.service, nsModule, "standup@"+e.service, who, e.n, more, text))
}

// runs has Prosody run Lua on a service, and decodes the result. See testdata/mod_usher_test.lua.
func (w *world) runs(service, lua string, result any) {
	w.t.Helper()
	w.runsBy(w.usher, service, lua, result)
}

// runsBy does the same on somebody's connection.
func (w *world) runsBy(c *prosodytest.Client, service, lua string, result any) {
	w.t.Helper()
	w.asked++
	id, from := fmt.Sprintf("runs-%d", w.asked), ""
	if c == w.usher {
		from = "from='" + usher + "'"
	}
	var escaped strings.Builder
	if err := xml.EscapeText(&escaped, []byte(lua)); err != nil {
		w.t.Fatal(err)
	}
	c.Sends(fmt.Sprintf(`<iq type='set' id='%s' %s to='%s'><run xmlns='urn:usher:test'>%s</run></iq>`, id, from, service, escaped.String()))
	answer := c.Receives(fmt.Sprintf(`<iq id='%s' from='%s'/>`, id, service))
	if answer.Attr["type"] != "result" {
		w.t.Fatalf("%s\n%s", lua, answer)
	}
	if result == nil {
		return
	}
	whole := struct{ Result any }{result}
	if err := json.Unmarshal([]byte(answer.Child("run", "").Text), &whole); err != nil {
		w.t.Fatal(err, answer)
	}
}

// tellsNothing checks that nothing has been told.
func (w *world) tellsNothing() {
	w.t.Helper()
	w.runs(service, "return 1", nil) // the stream keeps its order
	for _, s := range w.usher.Drain() {
		if !s.Child("told", "").IsZero() {
			w.t.Fatalf("told: %s", s)
		}
	}
}

// admin has somebody send an item of XEP-0045 §9 to the room.
func (w *world) admin(c *prosodytest.Client, item string) {
	w.t.Helper()
	w.asks(c, "set", `<query xmlns='http://jabber.org/protocol/muc#admin'>`+item+`</query>`, "")
}

// configure has an owner submit a field of the room's form.
func (w *world) configure(owner *prosodytest.Client, field, value string) {
	w.t.Helper()
	w.asks(owner, "set", `<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>
		<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>
		<field var='`+field+`'><value>`+value+`</value></field></x></query>`, "")
}

func (w *world) joined(c *prosodytest.Client, nick, role, affiliation string) string {
	return fmt.Sprintf(`<joined room='%s' nick='%s' jid='%s' role='%s' affiliation='%s'/>`, room, nick, c.JID(), role, affiliation)
}

// What happens in a room is told, in its order, and nothing else.
func TestTells(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	e := w.listen(service, "all")
	e.tells(`<complete />`)
	w.open()
	e.tells(fmt.Sprintf(`<room jid='%s' public_jids='1'><occupant nick='focus' jid='%s/usher' role='moderator' affiliation='owner'/>`+
		`<affiliation jid='%s' affiliation='owner'/></room>`, room, usher, usher))
	host, guest := w.client(), w.client()
	in := " room='" + room + "'"
	affiliation := func(c *prosodytest.Client, to, by string) string {
		return fmt.Sprintf(`<affiliation jid='%s' affiliation='%s' by='%s'%s/>`, c.BareJID(), to, by, in)
	}

	// People are given affiliations in both ways, and come in.
	w.affiliate(host.BareJID(), "owner")
	e.tells(affiliation(host, "owner", usher))
	e.give(guest.BareJID(), "member", "none", "", "")
	e.alive()
	w.enter(host, room, "host", "")
	w.enter(guest, room, "guest", "")
	e.tells(w.joined(host, "host", "moderator", "owner"), w.joined(guest, "guest", "participant", "member"))

	// The owner makes a moderator, and an owner, of the guest.
	w.admin(host, `<item nick='guest' role='moderator'/>`)
	e.tells(fmt.Sprintf(`<role nick='guest' jid='%s' role='moderator' affiliation='member' by='%s'%s/>`, guest.JID(), host.BareJID(), in))
	w.admin(host, `<item nick='guest' role='participant'/>`)
	e.tells(fmt.Sprintf(`<role nick='guest' jid='%s' role='participant' affiliation='member' by='%s'%s/>`, guest.JID(), host.BareJID(), in))
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='owner'/>`)
	e.tells(fmt.Sprintf(`<role nick='guest' jid='%s' role='moderator' affiliation='owner' by='%s'%s/>`, guest.JID(), host.BareJID(), in), affiliation(guest, "owner", host.BareJID()))
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='owner'/>`) // as it is
	guest.Sends(`<presence to='` + room + `/guest'><show>away</show></presence>`)
	guest.Sends(`<message type='groupchat' to='` + room + `'><body>Hello</body></message>`)
	guest.Receives(`<message type='groupchat' from='` + room + `/guest'><body>Hello</body></message>`)
	e.alive()

	// A new nick, and a name that the room's escaping must survive.
	guest.Sends(`<presence to='` + room + `/&lt;&apos;ü&quot;&gt;'/>`)
	e.tells(fmt.Sprintf(`<left nick='guest' jid='%s' why='renamed'%s/>`, guest.JID(), in), w.joined(guest, "&lt;&apos;ü&quot;&gt;", "moderator", "owner"))
	guest.Sends(`<presence to='` + room + `/guest'/>`)
	e.tells(fmt.Sprintf(`<left nick='&lt;&apos;ü&quot;&gt;' jid='%s' why='renamed'%s/>`, guest.JID(), in), w.joined(guest, "guest", "moderator", "owner"))

	// The ways out.
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='member'/>`)
	e.tells(fmt.Sprintf(`<role nick='guest' jid='%s' role='participant' affiliation='member' by='%s'%s/>`, guest.JID(), host.BareJID(), in), affiliation(guest, "member", host.BareJID()))
	out := func(why string) string {
		return fmt.Sprintf(`<left nick='guest' jid='%s' why='%s' by='%s'%s/>`, guest.JID(), why, host.BareJID(), in)
	}
	again := func() {
		t.Helper()
		guest.Drain()
		w.enter(guest, room, "guest", "")
		e.tells(w.joined(guest, "guest", "participant", "member"))
	}
	w.admin(host, `<item nick='guest' role='none'/>`)
	e.tells(out("kicked"))
	again()
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='none'/>`)
	e.tells(out("affiliation"), affiliation(guest, "none", host.BareJID()))
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='member'/>`)
	e.tells(affiliation(guest, "member", host.BareJID()))
	again()
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='outcast'/>`)
	e.tells(out("banned"), affiliation(guest, "outcast", host.BareJID()))
	w.admin(host, `<item jid='`+guest.BareJID()+`' affiliation='member'/>`)
	e.tells(affiliation(guest, "member", host.BareJID()))
	again()
	guest.Sends(`<presence type='unavailable' to='` + room + `/guest'/>`)
	e.tells(fmt.Sprintf(`<left nick='guest' jid='%s'%s/>`, guest.JID(), in))
	again()
	guest.Sends(`<presence type='error' to='` + room + `/host'><error type='cancel'><gone xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></presence>`)
	e.tells(fmt.Sprintf(`<left nick='guest' jid='%s' why='error'%s/>`, guest.JID(), in))
	again()
	guest.Kill()
	e.tells(fmt.Sprintf(`<left nick='guest' jid='%s'%s/>`, guest.JID(), in))

	// The settings.
	w.configure(host, "muc#roomconfig_membersonly", "1")
	e.tells(`<settings public_jids='1' members_only='1'` + in + `/>`)
	w.configure(host, "{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites", "1")
	e.tells(`<settings public_jids='1' members_only='1' member_invites='1'` + in + `/>`)
	w.configure(host, "muc#roomconfig_roomsecret", "Sesame")
	e.tells(`<settings public_jids='1' members_only='1' member_invites='1' password='1'` + in + `/>`)
	w.configure(host, "muc#roomconfig_whois", "moderators")
	e.tells(`<settings members_only='1' member_invites='1' password='1'` + in + `/>`)
	w.configure(host, "muc#roomconfig_roomname", "Stand-up")
	e.alive()

	// Plugins change settings without an event. The next sign of life says so, and what was told last counts.
	w.runs(service, `local d = room("`+room+`")._data; d.members_only, d.allow_member_invites, d.breakout_rooms = nil, nil, { x = "y" }`, nil)
	w.runs(service, `local d = room("`+room+`")._data; d.password, d.lobbyroom, d.locked = nil, "standup@lobby", os.time() + 60`, nil)
	w.usher.Sends(`<iq type='get' id='look' from='` + usher + `' to='` + service + `'><alive xmlns='` + nsModule + `' boot='` + e.boot + `'/></iq>`)
	e.tells(`<settings lobby='standup@lobby' breakouts='1' locked='1'` + in + `/>`)
	e.alive()
	w.runs(service, `local r = room("`+room+`"); r._data.lobbyroom = nil; prosody.events.fire_event("destroy-lobby-room", { room = r })`, nil)
	e.tells(`<settings breakouts='1' locked='1'` + in + `/>`)
	host.Sends(`<presence type='unavailable' to='` + room + `/host'/>`)
	e.tells(fmt.Sprintf(`<left nick='host' jid='%s' breakouts='1'%s/>`, host.JID(), in))

	// A room ends when nobody is inside, and when an owner says so.
	w.usher.Sends(`<presence type='unavailable' from='` + usher + `/usher' to='` + room + `/focus'/>`)
	e.tells(fmt.Sprintf(`<left nick='focus' jid='%s/usher' breakouts='1'%s/>`, usher, in), `<ended `+in+`/>`)
	w.open()
	e.tells(fmt.Sprintf(`<room jid='%s' public_jids='1'><occupant nick='focus' jid='%s/usher' role='moderator' affiliation='owner'/>`+
		`<affiliation jid='%s' affiliation='owner'/></room>`, room, usher, usher))
	w.usher.Sends(`<iq type='set' id='destroy' from='` + usher + `/usher' to='` + room + `'><query xmlns='http://jabber.org/protocol/muc#owner'>` +
		`<destroy><reason>It is late</reason></destroy></query></iq>`)
	e.tells(fmt.Sprintf(`<left nick='focus' jid='%s/usher' why='destroyed'%s/>`, usher, in), `<ended reason='It is late'`+in+`/>`)
	e.alive()
	if told := w.usher.Drain(); slices.ContainsFunc(told, func(s prosodytest.Stanza) bool { return strings.Contains(s.String(), plain) }) {
		t.Errorf("a service without usher_component tells: %v", told)
	}
}
