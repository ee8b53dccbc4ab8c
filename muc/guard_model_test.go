package muc

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"
)

// guardWorld is a lookout, and what is known of each room and person there.
type guardWorld struct {
	*lookout
	most map[[2]string]string // by room and bare JID: the highest affiliation that was decided, or that an owner gave
	bans map[[2]string]bool   // by an owner
	// kept are rooms in which somebody may be an owner without a host: they were an owner when the process was replaced, or in a
	// room of the same name before.
	kept map[string]bool
	// hanging has, by room and bare JID, people who were let in because a host was inside, and who have not been seen inside since.
	// hostless is since when no host was inside, as far as a Guard with a connection could see.
	hanging  map[[2]string]bool
	hostless map[string]time.Time
	// theirs are rooms that were persistent when the process first saw them.
	theirs map[string]bool
}

// forgets drops what was known of a room that has ended.
func (w *guardWorld) forgets(c *chat, bare, event string) {
	if event == "ended" {
		w.kept[c.address] = true
		delete(w.hostless, c.address)
		delete(w.theirs, c.address)
	}
	for key := range w.most {
		if key[0] == c.address && event == "ended" {
			delete(w.most, key)
		}
	}
	for key := range w.bans {
		if key[0] == c.address && event == "ended" {
			delete(w.bans, key)
		}
	}
}

func (w *guardWorld) actions() map[string]func(*rapid.T) {
	locked := func(f func(*rapid.T)) func(*rapid.T) {
		return func(t *rapid.T) {
			w.service.mu.Lock()
			defer w.service.mu.Unlock()
			f(t)
		}
	}
	return map[string]func(*rapid.T){
		"admit": w.admit, "admit another": w.admit, "admit one more": w.admit,
		"come": locked(func(t *rapid.T) {
			if c := w.chats[rapid.SampledFrom(roomNames).Draw(t, "room")]; c != nil {
				who := w.person(t)
				w.join(c, fmt.Sprintf("%s/%d", who, rapid.IntRange(1, 2).Draw(t, "session")), rapid.SampledFrom([]string{"ann", "bob", "cat"}).Draw(t, "nick"))
			}
		}),
		"go": locked(func(t *rapid.T) { // Jicofo, too: then the room may end
			if c, o := w.some(t); o != nil {
				w.remove(c, o)
			}
		}),
		"kick": locked(func(t *rapid.T) {
			if c, o := w.some(t); o != nil {
				w.remove(c, o, "307")
			}
		}),
		"ban": w.ban,
		"lift a ban": locked(func(t *rapid.T) {
			for key := range w.bans {
				if c := w.chats[key[0]]; c != nil {
					w.affiliate(c, key[1], "none", false)
				}
				delete(w.bans, key)
				return
			}
		}),
		"withdraw": func(t *rapid.T) {
			w.Withdraw(jid.MustParse(rapid.SampledFrom(roomNames).Draw(t, "room")), jid.MustParse(w.person(t)))
		},
		"remove": w.removeSomebody, "remove another": w.removeSomebody,
		"end": func(t *rapid.T) {
			c := w.roomOf(t)
			if err := w.End(t.Context(), jid.MustParse(c), revoked); err == nil && w.chatAt(c) != nil {
				t.Fatalf("%s was ended and exists", c)
			}
		},
		"elect": locked(func(t *rapid.T) {
			if c, o := w.some(t); o != nil && w.EnforceRoles && !w.bans[[2]string{c.address, bareOf(o.full)}] {
				w.affiliate(c, bareOf(o.full), "owner", false)
			}
		}),
		"open to all": locked(func(t *rapid.T) {
			if c, o := w.some(t); o != nil && owner(c, o) {
				w.configure(c, false)
			}
		}),
		"make persistent": locked(func(t *rapid.T) {
			if c, o := w.some(t); o != nil && owner(c, o) {
				w.persist(c, rapid.Bool().Draw(t, "persistent"))
				w.theirs[c.address] = w.theirs[c.address] || c.persistent && !w.seenTemporary(c.address)
			}
		}),
		"give something to a stranger": locked(func(t *rapid.T) {
			if c, o := w.some(t); o != nil && owner(c, o) {
				w.affiliate(c, eve, rapid.SampledFrom([]string{"owner", "admin", "member", "none"}).Draw(t, "affiliation"), false)
			}
		}),
		"all go": locked(func(t *rapid.T) {
			c := w.chats[rapid.SampledFrom(roomNames).Draw(t, "room")]
			for c != nil && len(c.seats) > 0 {
				w.remove(c, c.seats[0])
			}
		}),
		"succeed without a store": w.succeedForgetful,
		"destroy": locked(func(t *rapid.T) {
			if c := w.chats[rapid.SampledFrom(roomNames).Draw(t, "room")]; c != nil {
				w.destroy(c)
			}
		}),
		"destroy and make anew": w.makeAnew,
		"cut":                   func(*rapid.T) { w.disconnect() },
		"succeed":               w.succeedRemembering,
		"the ledger fails": func(*rapid.T) {
			if len(w.book.all())%2 == 0 {
				w.book.fails(nil)
			} else {
				w.book.fails(errors.New("full"))
			}
		},
		"answers take long": func(t *rapid.T) {
			w.service.mu.Lock()
			defer w.service.mu.Unlock()
			w.delay = time.Duration(rapid.IntRange(0, 3).Draw(t, "ms")) * time.Millisecond
		},
		"wait":      func(t *rapid.T) { pass(time.Duration(rapid.IntRange(1, 20_000).Draw(t, "ms")) * time.Millisecond) },
		"wait long": func(t *rapid.T) { pass(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second) },
		"reconnect": func(*rapid.T) { w.reconnect() },
		"quiet":     w.quiet,
		"":          w.check,
	}
}

// admit has somebody admitted, and checks the answer.
func (w *guardWorld) admit(t *rapid.T) {
	room, who := rapid.SampledFrom(roomNames).Draw(t, "room"), w.person(t)
	affiliation := rapid.SampledFrom([]string{"owner", "member"}).Draw(t, "affiliation")
	var expires time.Time
	if rapid.Bool().Draw(t, "expires") {
		expires = time.Now().Add(time.Duration(rapid.IntRange(1, 60).Draw(t, "seconds")) * time.Second)
	}
	c := w.opens(room)
	key := [2]string{room, who}
	banned := false
	w.locked(func() {
		if banned = w.bans[key]; higher(affiliation, w.most[key]) {
			w.most[key] = affiliation
		}
	})
	w.book.takes(time.Duration(rapid.IntRange(0, 3).Draw(t, "the ledger takes")) * time.Millisecond)
	was := w.is(c, who)
	needsHost := rapid.Bool().Draw(t, "needs a host")
	err := w.letsFor(room, who, affiliation, expires, needsHost)
	w.locked(func() { w.hanging[key] = needsHost && err == nil })
	got := w.is(c, who)
	// An owner made by somebody inside stays one; see Guard.madeOwner.
	made := was == "owner" && got == "owner" && affiliation == "member" && (!w.EnforceRoles || w.kept[room] || w.everHost(room))
	switch {
	case errors.Is(err, ErrUnwritten) && w.book.err != nil, w.cut && err != nil:
		w.Withdraw(jid.MustParse(room), jid.MustParse(who)) // as the component does
	case w.cut: // a grant goes on its way all the same where the module takes it, and what the room is now is not heard
	case banned:
		if !errors.Is(err, ErrOutcast) && !errors.Is(err, ErrAbsent) {
			t.Fatalf("%s is banned from %s and told %v", who, room, err)
		}
	case errors.Is(err, ErrAbsent), errors.Is(err, errWithdrawn): // the room was made anew, which was seen now
	case err != nil || got != affiliation && !made:
		t.Fatalf("%s is %s in %s and told %v", who, got, room, err)
	}
	if err == nil && rapid.Bool().Draw(t, "comes") {
		w.sits(c, who)
	}
}

// removeSomebody has usher put somebody out.
func (w *guardWorld) removeSomebody(t *rapid.T) {
	room, who := w.roomOf(t), w.person(t)
	key := [2]string{room, who}
	err := w.Remove(t.Context(), jid.MustParse(room), jid.MustParse(who), revoked)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	c := w.chats[room]
	if err != nil || c == nil {
		if err != nil && !w.cut {
			t.Fatalf("removing %s from %s: %v", who, room, err)
		}
		return
	}
	delete(w.hanging, key)
	want := "none"
	if w.bans[key] {
		want = "outcast"
	} else {
		delete(w.most, key)
	}
	if got := c.affiliation(who); got != want || c.inside(who) != nil || w.HasGrant(jid.MustParse(room), jid.MustParse(who)) {
		t.Fatalf("%s was removed from %s and is %s, inside: %t", who, room, got, c.inside(who) != nil)
	}
}

func (*guardWorld) roomOf(t *rapid.T) string { return rapid.SampledFrom(roomNames).Draw(t, "room") }

func (w *guardWorld) chatAt(address string) *chat {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	return w.chats[address]
}

// some draws somebody inside, the focus included.
func (w *guardWorld) some(t *rapid.T) (*chat, *seat) {
	c := w.chats[rapid.SampledFrom(roomNames).Draw(t, "room")]
	if c == nil || len(c.seats) == 0 {
		return nil, nil
	}
	return c, rapid.SampledFrom(c.seats).Draw(t, "somebody")
}

func (*guardWorld) person(t *rapid.T) string { return rapid.SampledFrom(people).Draw(t, "who") }

// ban has an owner inside ban somebody.
func (w *guardWorld) ban(t *rapid.T) {
	// A ban that crosses what usher sets is lost, as Guard says; so nothing is under way.
	w.service.mu.Lock()
	w.delay = 0
	w.service.mu.Unlock()
	pass(20 * time.Millisecond)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	if c, o := w.some(t); o != nil && owner(c, o) {
		who := w.person(t)
		w.bans[[2]string{c.address, who}] = true
		w.affiliate(c, who, "outcast", false) // which may end the room
	}
}

// succeedForgetful has a process take over that knows nothing.
func (w *guardWorld) succeedForgetful(*rapid.T) {
	w.book.burns()
	w.locked(func() {
		for _, address := range roomNames {
			w.kept[address] = true
			w.theirs[address] = w.chats[address] != nil && w.chats[address].persistent
		}
	})
	w.succeed()
	clear(w.hostless)
	clear(w.hanging) // nobody knows of that any more
}

// succeedRemembering has a process take over that reads the ledger.
func (w *guardWorld) succeedRemembering(*rapid.T) {
	w.locked(func() {
		for _, address := range roomNames {
			w.kept[address] = true
			w.theirs[address] = w.chats[address] != nil && w.chats[address].persistent && w.book.noted(address) != temporary
		}
	})
	w.succeed()
	clear(w.hostless)
}

// makeAnew destroys a room, and has Jicofo open another one of the same name.
func (w *guardWorld) makeAnew(t *rapid.T) {
	address := rapid.SampledFrom(roomNames).Draw(t, "room")
	there := false
	w.locked(func() {
		if c := w.chats[address]; c != nil {
			there = true
			w.destroy(c)
		}
	})
	if there {
		w.opens(address)
	}
}

// seenTemporary reports whether the process has seen that the room is temporary.
func (w *guardWorld) seenTemporary(address string) bool {
	w.Guard.mu.Lock()
	defer w.Guard.mu.Unlock()
	rm := w.Guard.rooms[address]
	return rm != nil && rm.lasts == temporary
}

// everUsed reports whether the process has seen somebody inside.
func (w *guardWorld) everUsed(address string) bool {
	w.Guard.mu.Lock()
	defer w.Guard.mu.Unlock()
	rm := w.Guard.rooms[address]
	return rm == nil || rm.used
}

func (w *guardWorld) begun(address string) bool {
	w.Guard.mu.Lock()
	defer w.Guard.mu.Unlock()
	return w.Guard.rooms[address] != nil
}

func higher(a, b string) bool {
	rank := map[string]int{"member": 1, "admin": 2, "owner": 3}
	return rank[a] > rank[b]
}

func (w *guardWorld) reconnect() {
	w.service.mu.Lock()
	was := w.cut
	w.cut = false
	w.service.mu.Unlock()
	if was {
		w.silences()
		w.listensAgain()
		clear(w.hostless)
		w.Resume(w.t.(*rapid.T).Context(), w.Reset(), jid.MustParse(mucDomain))
	}
}

// check compares what must be true at any time.
func (w *guardWorld) check(t *rapid.T) {
	synctest.Wait() // otherwise Guard may be between the ledger and its own note of what is written there
	w.live()
	w.checkOrder(t)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	for key := range w.bans {
		if c := w.chats[key[0]]; c != nil && c.affiliation(key[1]) != "outcast" {
			t.Fatalf("%s was banned from %s and is %s", key[1], key[0], c.affiliation(key[1]))
		}
	}
	w.checkHanging(t)
	for address, c := range w.chats {
		for bare, affiliation := range c.affiliations {
			if _, ours := c.given[bare]; ours && higher(affiliation, w.most[[2]string{address, bare}]) && !w.EnforceRoles {
				t.Fatalf("%s is %s in %s, which nobody decided", bare, affiliation, address)
			}
		}
	}
}

// checkOrder compares what Guard keeps so that it need not go through all rooms with the rooms.
func (w *guardWorld) checkOrder(t *rapid.T) {
	g := w.Guard
	g.mu.Lock()
	defer g.mu.Unlock()
	waiting, held, knocked := 0, 0, 0
	for key, rm := range g.rooms {
		at, some := rm.next()
		if q := *g.queueOf(rm); some && !rm.looking && (rm.nth == 0 || q[rm.nth-1] != rm || !rm.due.Equal(at) || rm.urgent != (rm.hurry || !rm.hang.next.IsZero())) {
			t.Fatalf("%s is due at %s and waits as %+v", key, at, rm.turn)
		}
		if rm.nth > 0 {
			waiting++
		}
		for bare, gr := range rm.live {
			held++
			if !slices.Contains(g.holders.of(bare), gr) {
				t.Fatalf("%s holds something in %s, and is not known by that", bare, key)
			}
		}
		for bare := range rm.knocked {
			knocked++
			if !slices.Contains(g.knocked[bare], rm) {
				t.Fatalf("%s has knocked at %s, and is not known by that", bare, key)
			}
		}
	}
	for bare := range g.holders {
		held -= len(g.holders.of(bare))
	}
	for _, at := range g.knocked {
		knocked -= len(at)
	}
	if waiting != len(g.queues.rooms)+len(g.queues.urgent) || held != 0 || knocked != 0 {
		t.Fatalf("%d rooms of %d wait, %d grants and %d knocks too few", len(g.queues.rooms)+len(g.queues.urgent), waiting, held, knocked)
	}
}

// of returns somebody's grants in all rooms.
func (h holders) of(bare string) (all []*grant) {
	for g := h[bare]; g != nil; g = g.other {
		all = append(all, g)
	}
	return all
}

// checkSights compares what was told of a room with what is true there.
func (w *guardWorld) checkSights(t *rapid.T, c *chat) {
	w.Guard.mu.Lock()
	defer w.Guard.mu.Unlock()
	rm := w.Guard.rooms[c.address]
	if rm == nil || !rm.known {
		return
	}
	people := make(map[string]bool)
	for _, o := range c.seats {
		if bare := bareOf(o.full); bare != jicofo {
			people[bare] = people[bare] || o.role == "moderator"
		}
	}
	if wrong := w.sights.differ(c.address, true, rm.occupancy.host, people); wrong != "" {
		t.Fatal(wrong)
	}
}

// checkHanging compares the grants that hang on a host with the places of the hosts.
func (w *guardWorld) checkHanging(t *rapid.T) {
	const soon = hostAway + 4*hangingEvery
	hosts := func(domain string) bool { return "focus@"+domain != jicofo && w.Hosts(domain) }
	for key := range w.hanging {
		if c := w.chats[key[0]]; c == nil || c.inside(key[1]) != nil {
			delete(w.hanging, key) // they have come
		}
	}
	for address, c := range w.chats {
		since, known := w.hostless[address]
		switch {
		case c.hostPresent(hosts) || w.cut:
			delete(w.hostless, address)
			continue
		case !known:
			since = time.Now()
			w.hostless[address] = since
		}
		for bare, given := range c.given {
			if w.hanging[[2]string{address, bare}] && time.Since(since) > soon && time.Since(given) > soon {
				t.Fatalf("%s is %s in %s and has not come, nor was a host inside for %s", bare, c.affiliation(bare), address, time.Since(since))
			}
		}
	}
}

// quiet lets so much time pass that everything must be right.
func (w *guardWorld) quiet(t *rapid.T) {
	w.reconnect()
	pass(goneAfter)
	w.check(t)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	live := 0
	for _, address := range roomNames {
		c := w.chats[address]
		if c == nil {
			continue
		}
		known := w.Known(jid.MustParse(address))
		w.checkSights(t, c)
		if !c.membersOnly {
			t.Fatalf("%s is open to all", address)
		}
		somebody := slices.ContainsFunc(c.seats, func(o *seat) bool { return bareOf(o.full) != jicofo })
		// A room that is told of, and in which there never was anybody but the focus, is not looked after yet.
		begun := !w.service.told.Tells(jid.MustParse(address).Domainpart()) || w.begun(address)
		for bare, affiliation := range c.affiliations {
			if !somebody && bare != jicofo && affiliation != "outcast" && !w.theirs[address] && begun {
				t.Fatalf("everybody has left %s, and %s is %s", address, bare, affiliation)
			}
		}
		if len(c.seats) == 0 && !w.theirs[address] && w.everUsed(address) {
			t.Fatalf("everybody has left %s, and it goes on", address)
		}
		for bare := range c.given {
			if bare == jicofo {
				continue
			}
			live++
			if c.inside(bare) == nil && !w.theirs[address] {
				t.Fatalf("%s is outside of %s and %s", bare, address, c.affiliation(bare))
			}
		}
		for _, o := range c.seats {
			bare := bareOf(o.full)
			if known && w.EnforceRoles && bare != jicofo && c.affiliation(bare) == "owner" &&
				w.most[[2]string{address, bare}] != "owner" && !w.everHost(address) && !w.kept[address] {
				t.Fatalf("%s is an owner of %s, where there never was a host", bare, address)
			}
		}
	}
	w.Guard.mu.Lock()
	defer w.Guard.mu.Unlock()
	for _, address := range roomNames {
		if w.book.noted(address) != lastingUnknown && w.Guard.rooms[address] == nil {
			t.Fatalf("%s is written down, and nobody knows it", address)
		}
	}
	for address, rm := range w.Guard.rooms {
		if w.chats[address] == nil {
			t.Fatalf("%s is taken to exist", address)
		}
		for bare, gr := range rm.live {
			if gr.ledger == unwritten && w.book.err == nil {
				t.Fatalf("what %s has in %s is not written down", bare, address)
			}
			if c := w.chats[address]; c.inside(bare) == nil {
				t.Fatalf("%s is taken to have something in %s", bare, address)
			}
		}
	}
}

// everHost reports whether somebody may have been a host in the room.
func (w *guardWorld) everHost(address string) bool {
	for key, affiliation := range w.most {
		if key[0] == address && affiliation == "owner" {
			return true
		}
	}
	return false
}

// Whatever people, owners, the server and the network do, and whenever usher ends: nobody has more than was decided, nobody outside
// has anything for long, bans stay, and the ledger has what is live.
func TestGuardModel(t *testing.T) {
	for _, told := range []bool{false, true} {
		t.Run(fmt.Sprintf("told %t", told), func(t *testing.T) { testGuardModel(t, told) })
	}
}

func testGuardModel(t *testing.T, told bool) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			w := &guardWorld{most: map[[2]string]string{}, bans: map[[2]string]bool{}, kept: map[string]bool{},
				theirs: map[string]bool{}, hanging: map[[2]string]bool{}, hostless: map[string]time.Time{}}
			w.lookout = newLookout(t, func(o *GuardOptions) {
				o.EnforceRoles, o.Watch = rapid.Bool().Draw(t, "enforce roles"), rapid.Bool().Draw(t, "watch")
			})
			w.observer = w.forgets
			if told {
				w.loads()
			}
			w.run()
			defer func() { w.stop() }()
			for range 2 { // twice as long as a run is by default
				t.Repeat(w.actions())
			}
			w.quiet(t)
			synctest.Wait()
		})
	})
}
