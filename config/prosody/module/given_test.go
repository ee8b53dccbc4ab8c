package module_test

import (
	"cmp"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// A grant is refused for the reason that usher's own request would have met, or that usher would have seen before it. Nothing has
// changed then.
func TestRefuses(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	w.open()
	e := w.listen(service, "nothing")
	w.affiliate("banned@meet.example.com", "outcast")
	w.affiliate("banned.example.com", "outcast")
	var before, after any
	w.runs(service, "return rooms()", &before)
	for _, c := range []struct{ who, affiliation, more, condition string }{
		{"banned@meet.example.com", "member", "is='outcast'", "outcast"},
		{"banned@meet.example.com", "none", "is='outcast'", "outcast"},
		{"any@banned.example.com", "owner", "", "outcast"},
		{focus, "member", "", "not-acceptable"},
		{"guest@meet.example.com", "emperor", "", "not-acceptable"},
		{"a@b@c", "member", "", "jid-malformed"},
		{"", "member", "", "jid-malformed"},
		{"guest@meet.example.com/full", "member", "", "jid-malformed"},
	} {
		e.give(c.who, c.affiliation, "none", "", "")
		e.tells(fmt.Sprintf(`<refused room='%s' jid='%s' affiliation='%s' condition='%s' %s/>`, room, c.who, c.affiliation, c.condition, c.more))
	}
	for _, other := range []string{"absent@" + service, "standup@" + plain, "a@b@c", ""} {
		w.usher.Sends(fmt.Sprintf(`<message id='give' from='%s' to='%s'><give xmlns='%s' room='%s' jid='guest@meet.example.com' affiliation='member'/></message>`,
			usher, service, nsModule, other))
		e.tells(`<refused room='` + other + `' jid='guest@meet.example.com' affiliation='member' condition='item-not-found'/>`)
	}
	w.runs(service, "return rooms()", &after)
	if fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("before:\n%v\nafter:\n%v", before, after)
	}
	e.alive()

	// An error in one of the server's modules ends nothing but the grant.
	w.runs(service, `module:hook("muc-pre-set-affiliation", function (event) if event.jid:find("^fatal") then error("no") end end)`, nil)
	e.give("fatal@meet.example.com", "member", "none", "", "")
	e.tells(fmt.Sprintf(`<refused room='%s' jid='fatal@meet.example.com' affiliation='member' condition='undefined-condition'/>`, room))
	e.give("guest@meet.example.com", "member", "none", "", "")
	var is map[string]any
	w.runs(service, `local r = room("`+room+`"); return { shadow = rawget(r, "broadcast") ~= nil, is = r:get_affiliation("guest@meet.example.com") }`, &is)
	if is["shadow"] != false || is["is"] != "member" {
		t.Errorf("after the error: %v", is)
	}
}

// A room that is not persistent is deleted in the store, as by Prosody, but once is enough: grants are many.
func TestGivesAndStore(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	w.open()
	e := w.listen(service, "nothing")
	const stored = `return module:open_store("config"):get("standup") ~= nil`
	w.runs(service, `local r = room("`+room+`"); r:save(nil, true) -- as when it is pushed out of memory, and comes back
		local save = r.save; saves = 0; r.save = function (...) saves = saves + 1; return save(...); end`, nil)
	for i, step := range []struct {
		before string
		saves  int
		stored bool
	}{
		{"", 1, false}, {"", 1, false}, {"_data.persistent = true", 2, true}, {"", 3, true}, {"_data.persistent = nil", 4, false}, {"", 4, false},
	} {
		if step.before != "" {
			w.runs(service, `room("`+room+`").`+step.before, nil)
		}
		e.give(fmt.Sprintf("p%d@meet.example.com", i), "member", "none", "", "")
		var saves int
		var is bool
		w.runs(service, "return saves", &saves)
		if w.runs(service, stored, &is); saves != step.saves || is != step.stored {
			t.Errorf("grant %d: saved %d times, is in the store: %t", i, saves, is)
		}
	}
}

func init() { _ = flag.Set("rapid.checks", "30") } // by default: each asks a server hundreds of things

// twin is a room that exists twice: on a service where the module takes grants, and on one to which usher sends its requests, as it does
// without the module. All the rest happens in both.
type twin struct {
	w       *world
	e       *ear
	people  []*prosodytest.Client
	mirror  map[string]string // what usher believes of the affiliations
	occupy  map[string]string // and of the occupants
	granted bool              // what happens now was done by usher
}

const twinRoom = "standup@"

func (tw *twin) targets() []string {
	all := []string{"absent@elsewhere.example", focus}
	for _, p := range tw.people {
		all = append(all, p.BareJID())
	}
	return all
}

func (tw *twin) actions(rt *rapid.T) map[string]func(*rapid.T) {
	affiliation := rapid.SampledFrom([]string{"none", "member", "member", "admin", "owner", "outcast"})
	person := rapid.IntRange(0, len(tw.people)-1)
	return map[string]func(*rapid.T){
		"give": func(rt *rapid.T) {
			who, to := rapid.SampledFrom(tw.targets()).Draw(rt, "to"), affiliation.Draw(rt, "affiliation")
			tw.give(rt, who, to)
		},
		"owner gives": func(rt *rapid.T) {
			who, to := rapid.SampledFrom(tw.targets()).Draw(rt, "to"), affiliation.Draw(rt, "affiliation")
			tw.both(rt, person.Draw(rt, "by"), fmt.Sprintf(`<item jid='%s' affiliation='%s'/>`, who, to))
		},
		"role": func(rt *rapid.T) {
			role := rapid.SampledFrom([]string{"none", "participant", "moderator", "visitor"}).Draw(rt, "role")
			tw.both(rt, person.Draw(rt, "by"), fmt.Sprintf(`<item nick='p%d' role='%s'/>`, person.Draw(rt, "of"), role))
		},
		"domain ban": func(rt *rapid.T) {
			to := rapid.SampledFrom([]string{"none", "outcast"}).Draw(rt, "to")
			for _, s := range []string{service, plain} {
				tw.w.ask(s, twinRoom+s, fmt.Sprintf(`<item jid='elsewhere.example' affiliation='%s'/>`, to))
			}
		},
		"join": func(rt *rapid.T) {
			i := person.Draw(rt, "who")
			for _, s := range []string{service, plain} {
				tw.people[i].Sends(fmt.Sprintf(`<presence to='%s%s/p%d'>%s</presence>`, twinRoom, s, i, xMUC))
			}
		},
		"leave": func(rt *rapid.T) {
			i := person.Draw(rt, "who")
			for _, s := range []string{service, plain} {
				tw.people[i].Sends(fmt.Sprintf(`<presence type='unavailable' to='%s%s/p%d'/>`, twinRoom, s, i))
			}
		},
	}
}

// ask sends usher's item to a room, and returns the condition of the error.
func (w *world) ask(service, room, item string) string {
	w.t.Helper()
	w.asked++
	w.usher.Sends(fmt.Sprintf(`<iq type='set' id='ask-%d' from='%s' to='%s'><query xmlns='http://jabber.org/protocol/muc#admin'>%s</query></iq>`,
		w.asked, usher, room, item))
	return w.usher.Receives(fmt.Sprintf(`<iq id='ask-%d' from='%s'/>`, w.asked, room)).ErrorCondition()
}

func (tw *twin) give(rt *rapid.T, who, to string) {
	was := cmp.Or(tw.mirror[who], "none")
	if rapid.IntRange(0, 3).Draw(rt, "wrong") == 0 {
		was = "admin"
	}
	tw.granted = who != focus // owner is announced for an admin of the service, as Prosody itself does
	tw.e.give(who, to, was, "", "")
	raw := cmp.Or(tw.mirror[who], "none")
	isOut := raw == "outcast" || raw == "none" && strings.HasSuffix(who, "@elsewhere.example") && tw.mirror["elsewhere.example"] == "outcast"
	tw.set(who, to)
	want := "outcast"
	if !isOut {
		want = tw.w.ask(plain, twinRoom+plain, fmt.Sprintf(`<item jid='%s' affiliation='%s'/>`, who, to))
	}
	told := tw.hear(rt)
	refused := ""
	for _, s := range told {
		if s.Name == "refused" {
			refused = s.Attr["condition"]
		}
	}
	if refused != want {
		rt.Fatalf("%s for %s: refused with %q, the plain request with %q", to, who, refused, want)
	}
	if isTold := slices.ContainsFunc(told, func(s prosodytest.Stanza) bool { return s.Name == "affiliation" }); want == "" && isTold != (was != raw) {
		rt.Fatalf("%s for %s, from %s, believed to be %s: is told: %t", to, who, raw, was, isTold)
	}
}

func (tw *twin) both(rt *rapid.T, by int, item string) {
	var conditions []string
	for _, s := range []string{service, plain} {
		answer, err := tw.people[by].IQ(tw.w.t.Context(), "set", twinRoom+s, `<query xmlns='http://jabber.org/protocol/muc#admin'>`+item+`</query>`)
		if err != nil {
			rt.Fatal(err)
		}
		conditions = append(conditions, answer.ErrorCondition())
	}
	if conditions[0] != conditions[1] {
		rt.Fatalf("%s: %q", item, conditions)
	}
}

func (tw *twin) set(who, affiliation string) {
	tw.mirror[who] = affiliation
	if affiliation == "none" {
		delete(tw.mirror, who)
	}
}

// hear takes in what is told.
func (tw *twin) hear(rt *rapid.T) (told []prosodytest.Stanza) {
	for _, s := range tw.e.all() {
		told = append(told, s)
		switch a := s.Attr; s.Name {
		case "affiliation":
			tw.set(a["jid"], a["affiliation"])
		case "refused":
			tw.set(a["jid"], cmp.Or(a["is"], "none"))
		case "joined":
			tw.occupy[a["nick"]] = a["jid"] + " " + a["role"]
		case "role":
			tw.occupy[a["nick"]] = a["jid"] + " " + a["role"]
		case "left":
			delete(tw.occupy, a["nick"])
		}
	}
	return told
}

// view is a room as testdata/mod_usher_test.lua sees it.
type view struct {
	People       map[string]string
	Affiliations map[string]string
	Data         any
}

// same checks that the two rooms are the same, that the same has happened, and that people inside have seen the same.
func (tw *twin) same(rt *rapid.T) {
	for _, p := range tw.people { // what they have sent has happened
		if err := p.Sync(tw.w.t.Context()); err != nil {
			rt.Fatal(err)
		}
	}
	tw.hear(rt)
	var views [2]map[string]view
	var events [2]string
	for i, s := range []string{service, plain} {
		tw.w.runs(s, "return rooms()", &views[i])
		tw.w.runs(s, "return events()", &events[i])
	}
	granted, plainly := views[0][twinRoom+service], views[1][twinRoom+plain]
	if a, b := fmt.Sprint(granted), strings.ReplaceAll(fmt.Sprint(plainly), plain, service); a != b {
		rt.Fatalf("by grants:\n%s\nplainly:\n%s", a, b)
	}
	if events[0] != events[1] {
		rt.Fatalf("by grants:\n%s\nplainly:\n%s", events[0], events[1])
	}
	if !maps.Equal(tw.mirror, granted.Affiliations) {
		rt.Fatalf("usher believes\n%v\nbut it is\n%v", tw.mirror, granted.Affiliations)
	}
	people := make(map[string]string)
	for nick, p := range granted.People {
		people[strings.TrimPrefix(nick, twinRoom+service+"/")] = p[:strings.LastIndexByte(p, ' ')]
	}
	if !maps.Equal(tw.occupy, people) {
		rt.Fatalf("usher believes\n%v\nbut it is\n%v", tw.occupy, people)
	}
	for i, p := range tw.people {
		tw.sawSame(rt, i, p)
	}
	tw.granted = false
}

// sawSame checks that somebody has seen the same in both rooms. Of people outside, the module's service does not announce what usher
// gave them.
func (tw *twin) sawSame(rt *rapid.T, i int, p *prosodytest.Client) {
	if err := p.Sync(tw.w.t.Context()); err != nil {
		rt.Fatal(err)
	}
	var seen [2][]string
	for _, s := range p.Drain() {
		which := 0
		if strings.HasPrefix(s.Attr["from"], twinRoom+plain) {
			which = 1
		}
		if s.Name == "message" && s.Child("body", "").IsZero() && !s.Find("item", "").IsZero() && tw.granted {
			if which == 0 {
				rt.Fatalf("announced: %s", s)
			}
			continue
		}
		s.Children = slices.DeleteFunc(s.Children, func(c prosodytest.Stanza) bool { return c.Name == "occupant-id" })
		delete(s.Attr, "id")
		seen[which] = append(seen[which], strings.ReplaceAll(s.String(), plain, service))
	}
	slices.Sort(seen[0])
	slices.Sort(seen[1])
	if !slices.Equal(seen[0], seen[1]) {
		rt.Fatalf("p%d saw by grants:\n%s\nplainly:\n%s", i, strings.Join(seen[0], "\n"), strings.Join(seen[1], "\n"))
	}
}

// all returns all that has been told until now.
func (e *ear) all() (all []prosodytest.Stanza) {
	e.w.t.Helper()
	answer := e.w.asksService(e.service, `<alive xmlns='`+nsModule+`' boot='`+e.boot+`'/>`, "").Child("alive", nsModule)
	for answer.Attr["n"] != fmt.Sprint(e.n) {
		all = append(all, e.next())
	}
	return all
}

// clear ends all rooms, and forgets what came of them.
func (w *world) clear(people []*prosodytest.Client) {
	w.t.Helper()
	for _, p := range people {
		if err := p.Sync(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, s := range []string{service, plain} {
		w.runs(s, "for room_jid in pairs(rooms()) do room(room_jid):destroy() end return events()", nil)
	}
	w.usher.Drain()
	for _, p := range people {
		if err := p.Sync(w.t.Context()); err != nil {
			w.t.Fatal(err)
		}
		p.Drain()
	}
}

// Grants make the rooms that plain requests make: the same occupants, roles and affiliations, with the same events in Prosody, and the
// same for people inside, except that nobody hears of people outside. usher, which is told the rest, believes what is true.
func TestGivesAsPlainRequests(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	people := []*prosodytest.Client{w.client(), w.client(), w.client()}
	rapid.Check(t, func(rt *rapid.T) {
		w.clear(people)
		tw := &twin{w: w, people: people, mirror: make(map[string]string), occupy: make(map[string]string)}
		tw.e = w.listen(service, "all")
		tw.e.tells(`<complete />`)
		for _, s := range []string{service, plain} {
			w.usher.Sends(`<presence from='` + usher + `/usher' to='` + twinRoom + s + `/focus'>` + xMUC + `</presence>`)
			w.usher.Receives(`<presence from='` + twinRoom + s + `/focus'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>`)
		}
		begun := tw.e.next()
		for _, c := range begun.Children {
			if c.Name == "affiliation" {
				tw.set(c.Attr["jid"], c.Attr["affiliation"])
			} else {
				tw.occupy[c.Attr["nick"]] = c.Attr["jid"] + " " + c.Attr["role"]
			}
		}
		tw.give(rt, people[0].BareJID(), "owner")
		tw.granted = true
		tw.same(rt)
		actions := tw.actions(rt)
		names := rapid.SampledFrom(slices.Sorted(maps.Keys(actions)))
		for range rapid.IntRange(1, 8).Draw(rt, "steps") { // not Repeat's thirty: each step asks the server a dozen things
			actions[names.Draw(rt, "action")](rt)
			tw.same(rt)
		}
	})
}
