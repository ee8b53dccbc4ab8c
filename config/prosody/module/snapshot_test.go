package module_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// mirror is what usher believes after all that was told: by room, then by nick or bare JID.
type mirror map[string]map[string]string

// take takes in something that was told.
func (m mirror) take(s prosodytest.Stanza) {
	a := s.Attr
	switch s.Name {
	case "room":
		m[a["jid"]] = make(map[string]string)
		for _, c := range s.Children {
			c.Attr["room"] = a["jid"]
			m.take(c)
		}
	case "occupant", "joined":
		m[a["room"]][a["nick"]] = a["jid"]
	case "left":
		delete(m[a["room"]], a["nick"])
	case "affiliation":
		m[a["room"]][a["jid"]] = a["affiliation"]
		if a["affiliation"] == "none" {
			delete(m[a["room"]], a["jid"])
		}
	case "ended":
		delete(m, a["room"])
	}
}

// truth is what a mirror must be.
func (w *world) truth(service string) mirror {
	w.t.Helper()
	var rooms map[string]map[string]string
	w.runs(service, `local all = {};
		for room in prosody.hosts[module.host].modules.muc.all_rooms() do
			local is = {};
			for nick, o in room:each_occupant() do is[nick:match("/(.*)")] = o.jid; end
			for who, affiliation in room:each_affiliation() do is[who] = affiliation; end
			is.any = "any";
			all[room.jid] = is;
		end
		return all`, &rooms)
	for _, is := range rooms {
		delete(is, "any") // without it Lua's empty table is an empty list
	}
	return rooms
}

// check compares what usher believes with the truth.
func (m mirror) check(t *testing.T, truth mirror) {
	t.Helper()
	for _, room := range slices.Sorted(maps.Keys(truth)) {
		if !maps.Equal(m[room], truth[room]) {
			t.Fatalf("usher believes of %s\n%v\nbut it is\n%v", room, m[room], truth[room])
		}
	}
	if len(m) != len(truth) {
		t.Fatalf("usher believes in %d rooms, but there are %d", len(m), len(truth))
	}
}

// many has Lua make rooms on a service.
const many = `local muc = prosody.hosts[module.host].modules.muc
for i = %d, %d do
	local room = muc.new_room("r"..i.."@"..module.host) -- create_room asks the store first
	muc.track_room(room)
	room._affiliations["host"..i.."@meet.example.com"] = "owner"
	room._affiliations["guest"..i.."@meet.example.com"] = "member"
end`

// Ten thousand rooms are told while Prosody does other things, and while these rooms change.
func TestTellsManyRooms(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true; muc_room_cache_size = 20000; component_stanza_size_limit = 16777216")
	w.runs(service, fmt.Sprintf(many, 1, 10000), nil)
	w.open()
	w.runs(service, `ticks = 0; module:add_timer(0.01, function () ticks = ticks + 1; return 0.01; end)`, nil)
	e, m := w.listen(service, "all"), make(mirror)
	first := e.next() // from here on, rooms change
	m.take(first)
	w.runs(service, `for i = 1, 10000, 100 do room("r"..i.."@"..module.host):destroy() end`, nil)
	w.runs(service, `for i = 3, 10000, 100 do room("r"..i.."@"..module.host):set_affiliation(true, "guest"..i.."@meet.example.com", "none") end`, nil)
	w.runs(service, `for i = 5, 10000, 100 do room("r"..i.."@"..module.host):set_affiliation(true, "more@meet.example.com", "member") end`, nil)
	w.runs(service, `for i = 10001, 10100 do
		prosody.hosts[module.host].modules.muc.create_room("r"..i.."@"..module.host):set_affiliation(true, "host"..i.."@meet.example.com", "owner") end`, nil)
	e.snapshot(m)
	var ticks int
	w.runs(service, `return ticks`, &ticks)
	if ticks < 20 {
		t.Errorf("Prosody has had time for other things %d times", ticks)
	}
	for _, s := range e.all() {
		m.take(s)
	}
	m.check(t, w.truth(service))
}

// A sign of life is given after all rooms were looked at, but a few at a time.
func TestLooksAtManyRooms(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true; muc_room_cache_size = 1000")
	w.runs(service, fmt.Sprintf(many, 1, 500), nil)
	e := w.listen(service, "all")
	e.snapshot(make(mirror))
	w.runs(service, `for i = 1, 500 do room("r"..i.."@"..module.host)._data.members_only = true end
		local clock = os.clock(); os.clock = function () clock = clock + 0.001; return clock; end`, nil) // each room takes a millisecond
	w.usher.Sends(fmt.Sprintf(`<iq type='get' id='alive' from='%[1]s' to='%[2]s'><alive xmlns='%[3]s' boot='%[4]s'/></iq>`+
		`<iq type='set' id='other' from='%[1]s' to='%[2]s'><run xmlns='urn:usher:test'>return 1</run></iq>`, usher, service, nsModule, e.boot))
	w.usher.Receives(`<iq id='other' type='result'/>`)
	early := 0
	for _, s := range w.usher.Drain() {
		if s.Name == "iq" {
			t.Fatalf("nothing else was done before: %s", s)
		}
		e.check(s)
		early++
	}
	answer := w.usher.Receives(`<iq id='alive' type='result'/>`).Child("alive", nsModule)
	for range 500 - early {
		e.next()
	}
	if answer.Attr["n"] != fmt.Sprint(e.n) {
		t.Errorf("after number %d: %s", e.n, answer)
	}
	e.alive()
}

// A room of many people is told in parts.
func TestTellsCrowd(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	w.open()
	w.runs(service, `local r = room("`+room+`"); for i = 1, 1000 do r:set_affiliation(true, "p"..i.."@meet.example.com", "member") end`, nil)
	e, m := w.listen(service, "all"), make(mirror)
	parts := e.snapshot(m)
	if m.check(t, w.truth(service)); parts > 100 {
		t.Errorf("a room is told with %d people at once", parts)
	}
}

// snapshot takes in what is told until all is told, and returns how much was told of a room at once.
func (e *ear) snapshot(m mirror) (most int) {
	e.w.t.Helper()
	for {
		all := []prosodytest.Stanza{e.next()}
		for _, s := range e.w.usher.Drain() { // one by one takes long
			if !s.Child("told", nsModule).IsZero() {
				all = append(all, e.check(s))
			}
		}
		for _, s := range all {
			m.take(s)
			most = max(most, len(s.Children))
		}
		if all[len(all)-1].Name == "complete" {
			return most
		}
	}
}

// Prosody keeps a hundred rooms in memory, or what muc_room_cache_size says, and others in its store until something happens in them.
func TestTellsRoomsInStore(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true; muc_room_cache_size = 5")
	w.open()
	w.runs(service, fmt.Sprintf(many, 1, 20), nil)
	e := w.listen(service, "all")
	m := make(mirror)
	e.snapshot(m)
	w.runs(service, `room("r7@"..module.host):set_affiliation(true, "more@meet.example.com", "member")`, nil)
	w.runs(service, `room("r8@"..module.host):destroy()`, nil)
	for _, s := range e.all() {
		m.take(s)
	}
	m.check(t, w.truth(service))
}

// A connection that did not ask is told nothing, nor the next one in its place.
func TestTellsWhoAsked(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	w.asksService(service, `<alive xmlns='`+nsModule+`' boot='any'/>`, "item-not-found")
	w.open()
	w.enter(w.jicofo(), room, "jicofo", "") // the room does not end with usher's connection
	e := w.listen(service, "nothing")
	w.affiliate("a@meet.example.com", "member")
	e.alive()
	e = w.listen(service, "all")
	e.next()
	e.tells(`<complete />`)
	w.affiliate("b@meet.example.com", "member")
	e.tells(fmt.Sprintf(`<affiliation room='%s' jid='b@meet.example.com' affiliation='member' by='%s'/>`, room, usher))

	_ = w.usher.Close()
	stranger := w.client()
	w.enter(stranger, room, "stranger", "registration-required") // the gate does not depend on usher
	w.runsBy(stranger, service, `room("`+room+`"):set_affiliation(true, "c@meet.example.com", "member")`, nil)
	w.usher = w.Component(t, domain, "secret")
	w.affiliate("d@meet.example.com", "member")
	w.asksService(service, `<alive xmlns='`+nsModule+`' boot='`+e.boot+`'/>`, "item-not-found")
	w.tellsNothing()
	n := e.n
	if e = w.listen(service, "all"); e.n != n {
		t.Errorf("%d things were told to nobody", e.n-n)
	}
	m := make(mirror)
	e.snapshot(m)
	m.check(t, w.truth(service))
}

// A reload of the module, and its end, are told. Who made the affiliations of a room is told in a snapshot.
func TestReload(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	w.open()
	w.affiliate("a@meet.example.com", "member")
	e := w.listen(service, "all")
	begun := e.next()
	if got := begun.Find("affiliation", "").Attr; !slices.ContainsFunc(begun.Children, func(s prosodytest.Stanza) bool {
		return s.Attr["jid"] == "a@meet.example.com" && s.Attr["by"] == usher
	}) {
		t.Errorf("nobody made an affiliation: %v in %s", got, begun)
	}
	e.tells(`<complete />`)
	const manager = `local ok, manager = pcall(require, "prosody.core.modulemanager"); if not ok then manager = require "core.modulemanager" end `
	w.runs(service, manager+`manager.reload(module.host, "usher")`, nil)
	e.tells(`<bye />`)
	hello := w.usher.Receives(`<message from='` + service + `' to='` + domain + `'><told xmlns='` + nsModule + `' n='0'><hello version='` + module.Version + `'/></told></message>`)
	if boot := hello.Child("told", nsModule).Attr["boot"]; boot == e.boot {
		t.Errorf("the reloaded module is the old one: %s", hello)
	}
	w.affiliate("b@meet.example.com", "member")
	w.asksService(service, `<alive xmlns='`+nsModule+`' boot='`+e.boot+`'/>`, "item-not-found")
	e = w.listen(service, "all")
	e.next()
	e.tells(`<complete />`)
	w.enter(w.client(), room, "stranger", "registration-required")

	w.runs(service, manager+`manager.unload(module.host, "usher")`, nil)
	e.tells(`<bye />`)
	w.asksService(service, `<listen xmlns='`+nsModule+`' tell='all'/>`, "service-unavailable")
	w.affiliate("c@meet.example.com", "member")
	w.tellsNothing()
	stranger, member, jicofo := w.client(), w.client(), w.jicofo()
	w.affiliate(member.BareJID(), "member")
	w.enter(stranger, room, "stranger", "")
	w.enter(member, room, "member", "")
	w.enter(jicofo, room, "jicofo", "")

	// Who came in meanwhile is out once the module is there again.
	const own = "own@" + service // ends by that, as nobody else is inside
	w.runs(service, `prosody.hosts[module.host].modules.muc.create_room("`+own+`"):save()`, nil)
	w.enter(stranger, own, "stranger", "")
	w.runs(service, manager+`manager.load(module.host, "usher")`, nil)
	for _, r := range []string{room, own} {
		stranger.Receives(`<presence type='unavailable' from='` + r + `/stranger'><x xmlns='http://jabber.org/protocol/muc#user'><status code='307'/></x></presence>`)
	}
	w.usher.Drain()
	e = w.listen(service, "all")
	inside := slices.DeleteFunc(e.next().Children, func(s prosodytest.Stanza) bool { return s.Name != "occupant" })
	slices.SortFunc(inside, func(a, b prosodytest.Stanza) int { return strings.Compare(a.Attr["nick"], b.Attr["nick"]) })
	if len(inside) != 3 || inside[0].Attr["nick"] != "focus" || inside[1].Attr["nick"] != "jicofo" || inside[2].Attr["nick"] != "member" {
		t.Errorf("inside: %v", inside)
	}
	e.tells(`<complete />`)
}

// Under its old name the module is the same, also for a server that has both names.
func TestOldName(t *testing.T) {
	for _, names := range []string{`"muc_affiliated_only"`, `"usher", "muc_affiliated_only"`, `"muc_affiliated_only", "usher"`} {
		t.Run(names, func(t *testing.T) {
			t.Parallel()
			w := startWith(t, prosodytest.Options{Config: `component_admins_as_room_owners = true
				VirtualHost "meet.example.com"
				  authentication = "anonymous"
				Component "` + service + `" "muc"
				  restrict_room_creation = true
				  admins = { "` + usher + `" }
				  modules_enabled = { ` + names + ` }
				  usher_component = "` + domain + `"
				Component "` + domain + `"
				  component_secret = "secret"`})
			w.open()
			e := w.listen(service, "all")
			e.next()
			e.tells(`<complete />`)
			w.enter(w.client(), room, "stranger", "registration-required")
			w.affiliate("a@meet.example.com", "member")
			e.tells(fmt.Sprintf(`<affiliation room='%s' jid='a@meet.example.com' affiliation='member' by='%s'/>`, room, usher))
			e.alive()
		})
	}
}
