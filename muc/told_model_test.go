package muc

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"
)

const breakoutDomain = "breakout.meet.example.com"

// mirrorWorld is a service with usher's module and a Told, to which stanzas get lost, and which is loaded anew, restarted and cut off.
type mirrorWorld struct {
	*service
	disconnect func()
	loaded     map[string]bool // domains that have the module

	mu      sync.Mutex
	telling map[string]bool            // by domain: as News has it
	people  map[string]map[string]bool // by room: nicks, as News has it
}

// hears checks that News tells what the mirror has at this moment.
func (w *mirrorWorld) hears(n News) {
	w.mu.Lock()
	defer w.mu.Unlock()
	room := n.Room.String()
	switch n.Kind {
	case NewsTells:
		w.telling[room] = true
	case NewsSilent: // and what the rooms become meanwhile is not told
		w.telling[room] = false
		maps.DeleteFunc(w.people, func(of string, _ map[string]bool) bool { return strings.HasSuffix(of, "@"+room) })
	case NewsRoom:
		w.people[room] = make(map[string]bool)
		for _, p := range w.told.tellers[n.Room.Domainpart()].rooms[n.Room.Localpart()].people {
			w.people[room][p.nick] = true
		}
	case NewsEnded:
		delete(w.people, room)
	case NewsJoined:
		w.people[room][n.Nick] = true
	case NewsLeft:
		delete(w.people[room], n.Nick)
	}
}

func (w *mirrorWorld) address(t *rapid.T) string {
	return rapid.SampledFrom([]string{standup, retro, breakout}).Draw(t, "room")
}

// room draws a room that exists; nil if there is none of that name.
func (w *mirrorWorld) room(t *rapid.T) *chat { return w.chats[w.address(t)] }

func (w *mirrorWorld) who(t *rapid.T) string {
	return rapid.SampledFrom([]string{romeo, juliet, nurse, ann, admin}).Draw(t, "who")
}

func (w *mirrorWorld) affiliation(t *rapid.T) string {
	return rapid.SampledFrom([]string{"owner", "admin", "member", "none", "outcast"}).Draw(t, "affiliation")
}

func (w *mirrorWorld) actions() map[string]func(*rapid.T) {
	locked := func(f func(*rapid.T)) func(*rapid.T) {
		return func(t *rapid.T) {
			w.service.mu.Lock()
			defer w.service.mu.Unlock()
			w.by = rapid.SampledFrom([]string{"", romeo, jicofo}).Draw(t, "by")
			f(t)
			w.tells()
			w.by = ""
		}
	}
	return map[string]func(*rapid.T){
		"open": locked(func(t *rapid.T) {
			address := w.address(t)
			if w.chats[address] != nil {
				return
			}
			c := &chat{address: address, membersOnly: true, module: w.guards(address), affiliations: map[string]string{jicofo: "owner"},
				given: map[string]time.Time{}, admins: map[string]bool{admin: true}}
			if strings.HasSuffix(address, breakoutDomain) {
				if c.main = w.chats[standup]; c.main == nil {
					return
				}
			}
			w.chats[address] = c
			w.join(c, jicofo+"/focus", "focus")
		}),
		"come": locked(func(t *rapid.T) {
			if c := w.room(t); c != nil {
				full := fmt.Sprintf("%s/%d", w.who(t), rapid.IntRange(1, 2).Draw(t, "session"))
				w.join(c, full, rapid.SampledFrom([]string{full, "a", "b"}).Draw(t, "nick"))
			}
		}),
		"go": locked(func(t *rapid.T) {
			if c := w.room(t); c != nil && len(c.seats) > 0 {
				w.remove(c, rapid.SampledFrom(c.seats).Draw(t, "seat"), rapid.SampledFrom([]string{"", "307"}).Draw(t, "code"))
			}
		}),
		"rename": locked(func(t *rapid.T) {
			if c := w.room(t); c != nil && len(c.seats) > 0 {
				w.rename(c, rapid.SampledFrom(c.seats).Draw(t, "seat"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "nick"))
			}
		}),
		"affiliate": locked(func(t *rapid.T) {
			if c, who := w.room(t), w.who(t); c != nil && who != admin {
				w.affiliate(c, who, w.affiliation(t), false)
			}
		}),
		"ban a domain": locked(func(t *rapid.T) {
			if c := w.room(t); c != nil {
				w.affiliate(c, "guest.example", rapid.SampledFrom([]string{"outcast", "none"}).Draw(t, "domain"), false)
			}
		}),
		"configure": locked(func(t *rapid.T) {
			if c := w.room(t); c != nil {
				c.invites, c.password = rapid.Bool().Draw(t, "invites"), rapid.SampledFrom([]string{"", "x"}).Draw(t, "password")
				w.configure(c, rapid.Bool().Draw(t, "members-only"))
				w.persist(c, rapid.Bool().Draw(t, "persistent"))
			}
		}),
		"end": locked(func(t *rapid.T) {
			if c := w.room(t); c != nil {
				w.destroy(c)
			}
		}),
		"end and begin again at once": locked(func(t *rapid.T) {
			if c := w.room(t); c != nil && c.main == nil {
				w.destroy(c)
				w.chats[c.address] = &chat{address: c.address, module: c.module, affiliations: map[string]string{juliet: "owner"},
					given: map[string]time.Time{}, admins: c.admins}
			}
		}),
		"give": func(t *rapid.T) {
			_, _ = w.told.Give(Given{Room: jid.MustParse(w.address(t)), Who: jid.MustParse(w.who(t)), Affiliation: w.affiliation(t)})
		},
		"set without waiting": func(t *rapid.T) {
			_ = w.owner().sendAffiliation(jid.MustParse(w.address(t)), w.who(t), w.affiliation(t), "")
		},
		"the server takes": func(*rapid.T) { w.serve() },
		"usher reads":      func(*rapid.T) { w.read(); synctest.Wait() },
		"all arrives":      func(t *rapid.T) { w.agrees(t) },
		"lose": locked(func(t *rapid.T) {
			for _, m := range w.all() {
				m.loses = rapid.IntRange(0, 2).Draw(t, "tells")
			}
		}),
		"reload": func(t *rapid.T) {
			domain := rapid.SampledFrom([]string{mucDomain, breakoutDomain}).Draw(t, "domain")
			w.reload(domain)
			w.loads(domain, true)
		},
		"unload": func(t *rapid.T) {
			domain := rapid.SampledFrom([]string{mucDomain, breakoutDomain}).Draw(t, "domain")
			w.unload(domain)
			w.loads(domain, false)
		},
		"reconnect": func(t *rapid.T) { w.reconnect(rapid.Bool().Draw(t, "the server has restarted")) },
		"hostile":   func(t *rapid.T) { w.attack(t) },
		"time":      func(t *rapid.T) { pass(time.Duration(rapid.IntRange(1, 100).Draw(t, "seconds")) * time.Second) },
	}
}

// guards reports whether usher's module guards a room: nobody without affiliation stays there, even if it is open.
func (w *mirrorWorld) guards(address string) bool {
	_, domain, _ := strings.Cut(address, "@")
	return w.loaded[domain]
}

// loads notes that a domain has the module, or has not.
func (w *mirrorWorld) loads(domain string, has bool) {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	w.loaded[domain] = has
	for address, c := range w.chats {
		c.module = w.guards(address)
	}
}

// owner asks the mirror first.
func (w *mirrorWorld) owner() Owner {
	return Owner{Session: w.service, JID: jid.MustParse(us), Told: w.told}
}

// endBreakouts has rooms end with their main room, however that ends (mod_muc_breakout_rooms.lua). It is an observer.
func (w *mirrorWorld) endBreakouts(*chat, string, string) {
	for _, c := range w.chats {
		if c.main != nil && w.chats[c.main.address] != c.main {
			w.destroy(c)
		}
	}
}

func (w *mirrorWorld) reconnect(restarted bool) {
	w.service.disconnect()
	w.disconnect()
	w.service.mu.Lock()
	if restarted {
		for domain, m := range w.modules {
			w.modules[domain] = &module{domain: domain, boot: m.boot + 1, makers: make(map[[2]string]string)}
		}
		clear(w.chats)
	}
	w.cut = false
	w.service.mu.Unlock()
	for domain, telling := range w.telling {
		if telling {
			panic(domain + " tells without a connection")
		}
	}
	w.disconnect = w.listens(mucDomain, breakoutDomain)
	synctest.Wait()
}

// attack has others say what the module might.
func (w *mirrorWorld) attack(t *rapid.T) {
	before := fmt.Sprint(w.told.Services())
	w.service.mu.Lock()
	boot, n := 1, 1
	for _, m := range w.all() {
		boot, n = m.boot, m.n+1
	}
	w.service.mu.Unlock()
	said := rapid.SampledFrom([]string{"<bye/>", "<complete/>", "<ended room='" + standup + "'/>", snapshot, "<hello/>", "<x"}).Draw(t, "said")
	payload := fmt.Sprintf("<told xmlns='%s' boot='%d' n='%d'>%s</told>", NSModule, boot, n, said)
	for _, from := range []string{eve + "/1", standup, standup + "/focus", "evil.example", jicofo, us, mucDomain + "/x"} {
		if ours, _ := heard(w.told, from, "focus.meet.example.com", payload); ours {
			t.Fatalf("%s is heard", from)
		}
	}
	if ours, _ := heard(w.told, mucDomain, "other.example", payload); ours {
		t.Fatal("what is for others is heard")
	}
	if after := fmt.Sprint(w.told.Services()); after != before {
		t.Fatalf("%s, then %s", before, after)
	}
}

// settles lets everything arrive that is on the way.
func (w *mirrorWorld) settles() {
	w.settle()
	w.service.mu.Lock()
	w.tells()
	w.service.mu.Unlock()
	w.settle()
}

// agrees lets everything arrive. Then a mirror that is complete has what the rooms have.
func (w *mirrorWorld) agrees(t *rapid.T) {
	w.settles()
	w.service.mu.Lock()
	lossy := false
	for _, m := range w.modules {
		lossy = lossy || m.loses > 0
	}
	w.service.mu.Unlock()
	for _, domain := range []string{mucDomain, breakoutDomain} {
		w.mu.Lock()
		if w.telling[domain] != w.told.Tells(domain) {
			t.Fatalf("news say that %s tells: %t", domain, w.telling[domain])
		}
		w.mu.Unlock()
	}
	for _, address := range []string{standup, retro, breakout} {
		_, domain, _ := strings.Cut(address, "@")
		if w.told.Tells(domain) && !lossy && !w.lostLately() {
			w.compares(t, jid.MustParse(address))
		}
	}
}

// lostLately reports whether a tell was lost and usher cannot know yet. The module's number is then another than what usher has heard.
func (w *mirrorWorld) lostLately() bool {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	w.told.mu.RLock()
	defer w.told.mu.RUnlock()
	for domain, s := range w.told.tellers {
		if m := w.modules[domain]; s.tells && (m == nil || s.run.last != uint64(m.n) || s.run.boot != fmt.Sprint(m.boot)) {
			return true
		}
	}
	return false
}

// compares asks the mirror and the room for the same.
func (w *mirrorWorld) compares(t *rapid.T, room jid.JID) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	plain := Owner{Session: w.service, JID: jid.MustParse(us)}
	ask := func(question func(Owner) string) {
		w.prompts(true)
		want, got := question(plain), question(w.owner())
		w.prompts(false)
		if got != want {
			t.Fatalf("%s: the mirror says\n%s\nand the room\n%s", room, got, want)
		}
	}
	for _, role := range rolesInside {
		ask(func(o Owner) string { return sorted(o.WithRole(ctx, room, role)) })
	}
	for _, affiliation := range []string{"owner", "admin", "member", "outcast"} {
		ask(func(o Owner) string { return sorted(o.WithAffiliation(ctx, room, affiliation)) })
	}
	ask(func(o Owner) string {
		is, err := o.Settings(ctx, room)
		return fmt.Sprint(is.MembersOnly, is.Persistent, is.Temporary, is.Password, is.Breakout, is.Main, is.loose, isProsody(is.offers), err)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	c := w.chats[room.String()]
	if people := w.people[room.String()]; c != nil && len(people) != len(c.seats) || c == nil && people != nil {
		t.Fatalf("%s: news say that inside are %v", room, people)
	}
}

func (w *mirrorWorld) prompts(on bool) {
	w.service.mu.Lock()
	w.prompt = on
	w.service.mu.Unlock()
	synctest.Wait()
}

func sorted(items []Item, err error) string {
	slices.SortFunc(items, func(a, b Item) int { return cmp.Or(strings.Compare(a.JID, b.JID), strings.Compare(a.Nick, b.Nick)) })
	return fmt.Sprint(items, err)
}

// Whatever happens in rooms, whatever usher gives and sends, and whatever gets lost: a mirror that is complete says what the rooms say,
// and it is complete again soon wherever the module is loaded.
func TestToldModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w := &mirrorWorld{service: newService(), loaded: map[string]bool{mucDomain: true, breakoutDomain: true},
				telling: map[string]bool{}, people: map[string]map[string]bool{}}
			w.observer = w.endBreakouts
			w.disconnect = w.load(ToldOptions{Mirror: true, News: w.hears}, mucDomain, breakoutDomain)
			defer func() { w.disconnect() }()
			synctest.Wait()
			for range 2 {
				t.Repeat(w.actions())
			}
			w.recovers(t)
		})
	})
}

// recovers lets time pass in which nothing is lost.
func (w *mirrorWorld) recovers(t *rapid.T) {
	w.service.mu.Lock()
	for _, m := range w.modules {
		m.loses = 0
	}
	w.service.mu.Unlock()
	for range 12 {
		w.settles()
		pass(aliveEvery)
	}
	w.settles()
	for domain, loaded := range w.loaded {
		if w.told.Tells(domain) != loaded || w.told.Takes(domain) != loaded {
			t.Fatalf("%s has the module: %t; %+v", domain, loaded, w.told.Services())
		}
	}
	w.agrees(t)
}
