package muc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"
)

// count is how often something is on a list.
func count(list []string, what string) (n int) {
	for _, s := range list {
		if s == what {
			n++
		}
	}
	return n
}

// withdrawing reports whether an affiliation is on its way to be taken back, alone or with its room.
func (w *world) withdrawing() bool {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	return slices.ContainsFunc(w.up, func(b []byte) bool {
		return bytes.Contains(b, []byte(`affiliation="none"`)) || bytes.Contains(b, []byte("<destroy>"))
	})
}

// forgetCrossings forgets the bans that were lifted by a grant at the same time: the news of them are lost with the connection.
func (w *world) forgetCrossings() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, a := range w.last {
		c := w.chats[key[0]]
		a.banned = a.banned && c != nil && c.affiliation(key[1]) == "outcast"
	}
}

// anyone draws somebody inside, but not usher.
func (w *world) anyone(t *rapid.T, is func(*chat, *seat) bool) (*chat, *seat) {
	c := w.chats[rapid.SampledFrom(roomNames).Draw(t, "room")]
	if c == nil {
		return nil, nil
	}
	var some []*seat
	for _, o := range c.seats {
		if o.full != ourself && (is == nil || is(c, o)) {
			some = append(some, o)
		}
	}
	if len(some) == 0 {
		return nil, nil
	}
	return c, rapid.SampledFrom(some).Draw(t, "somebody")
}

func owner(c *chat, o *seat) bool { return c.affiliation(o.full) == "owner" }

func (w *world) actions() map[string]func(*rapid.T) {
	locked := func(f func(*rapid.T)) func(*rapid.T) {
		return func(t *rapid.T) {
			w.service.mu.Lock()
			defer w.service.mu.Unlock()
			f(t)
		}
	}
	settle := func(*rapid.T) { w.settle() }
	return map[string]func(*rapid.T){
		"settle": settle, "settle again": settle, "settle once more": settle,
		"the service takes one": func(*rapid.T) { w.serve(); synctest.Wait() },
		"we read one":           func(*rapid.T) { w.read(); synctest.Wait() },
		"admit":                 w.admitSomebody,
		"withdraw":              w.withdrawSomebody,
		"remove":                w.removeSomebody,
		"remove another":        w.removeSomebody,
		"end": func(t *rapid.T) {
			room := jid.MustParse(rapid.SampledFrom(roomNames).Draw(t, "room"))
			w.request(func(ctx context.Context) { _ = w.rooms.End(ctx, room, revoked) })
		},
		"let somebody in": w.letSomebodyIn,
		"come": locked(func(t *rapid.T) {
			c := w.chats[rapid.SampledFrom(roomNames).Draw(t, "room")]
			full := fmt.Sprintf("%s/%d", rapid.SampledFrom(people).Draw(t, "who"), rapid.IntRange(1, 2).Draw(t, "session"))
			if c != nil {
				w.join(c, full, rapid.SampledFrom([]string{"ann", "bob", "cat", "focus"}).Draw(t, "nick"))
			}
		}),
		"go": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, nil); o != nil {
				w.remove(c, o)
			}
		}),
		"rename": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, nil); o != nil {
				w.rename(c, o, rapid.SampledFrom([]string{"dan", "eve", "focus"}).Draw(t, "nick"))
			}
		}),
		"kick": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, owner); o != nil {
				w.actor = o
				w.remove(c, rapid.SampledFrom(c.seats).Draw(t, "who"), "307")
				w.actor = nil
			}
		}),
		"set an affiliation": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, owner); o != nil {
				w.affiliate(c, rapid.SampledFrom(people).Draw(t, "who"), rapid.SampledFrom([]string{"owner", "member", "none", "outcast"}).Draw(t, "affiliation"), false)
			}
		}),
		"open to all": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, owner); o != nil {
				w.configure(c, false)
			}
		}),
		"make persistent": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, owner); o != nil {
				w.persist(c, rapid.Bool().Draw(t, "persistent"))
			}
		}),
		"give something to a stranger": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, owner); o != nil {
				w.affiliate(c, eve, rapid.SampledFrom([]string{"owner", "admin", "member", "none", "outcast"}).Draw(t, "affiliation"), false)
			}
		}),
		"destroy": locked(func(t *rapid.T) {
			if c, o := w.anyone(t, owner); o != nil {
				w.destroy(c)
			}
		}),
		"read another configuration": locked(func(t *rapid.T) {
			w.opens, w.locks = rapid.Bool().Draw(t, "new rooms are open"), rapid.Bool().Draw(t, "new rooms are locked")
		}),
		"the module is unloaded": func(*rapid.T) { w.unload(mucDomain) },
		"the module is loaded": func(*rapid.T) {
			if w.service.told != nil {
				w.reload(mucDomain)
			}
		},
		"stray": locked(func(t *rapid.T) {
			w.say("<presence from='ghost@%s/x' to='%s'><x xmlns='%s'><item affiliation='member' role='participant' jid='x@meet.example/1'/></x></presence>", mucDomain, ourself, NSUser)
		}),
		"wait":                func(t *rapid.T) { w.pass(time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second) },
		"stand still":         w.standStill,
		"lose the connection": w.loseConnection,
		"another process":     w.replaceProcess,
		"all go":              w.allGo,
		"":                    w.check,
	}
}

// admitSomebody draws an admission and does not wait for it.
func (w *world) admitSomebody(t *rapid.T) {
	var expires time.Time
	if rapid.Bool().Draw(t, "expires") {
		expires = time.Now().Add(10 * time.Second)
	}
	w.admitFor(rapid.SampledFrom(roomNames).Draw(t, "room"), rapid.SampledFrom(people).Draw(t, "who"),
		rapid.SampledFrom([]string{"owner", "member"}).Draw(t, "affiliation"), rapid.Bool().Draw(t, "mayCreate"), expires, rapid.Bool().Draw(t, "needsHost"))
	synctest.Wait()
}

// withdrawSomebody withdraws what somebody was given.
func (w *world) withdrawSomebody(t *rapid.T) {
	room, who := rapid.SampledFrom(roomNames).Draw(t, "room"), rapid.SampledFrom(people).Draw(t, "who")
	w.mu.Lock()
	a := w.last[[2]string{room, who}]
	skip := a == nil || !a.done || a.err != nil
	w.mu.Unlock()
	if skip {
		return
	}
	w.rooms.mu.Lock()
	skip = w.rooms.removals.underWay(jid.MustParse(room), who) // it is taken back with that, or by a look after that has failed
	w.rooms.mu.Unlock()
	if skip {
		return
	}
	w.rooms.Withdraw(jid.MustParse(room), jid.MustParse(who))
	a.err = errors.New("withdrawn")
}

// removeSomebody has usher put somebody out, and does not wait for that.
func (w *world) removeSomebody(t *rapid.T) {
	room, who := rapid.SampledFrom(roomNames).Draw(t, "room"), rapid.SampledFrom(people).Draw(t, "who")
	key := [2]string{room, who}
	w.service.mu.Lock()
	c, before := w.chats[room], w.arrivals
	w.service.mu.Unlock()
	w.mu.Lock()
	was := w.last[key]
	w.set[key] = false
	w.mu.Unlock()
	w.request(func(ctx context.Context) {
		err := w.rooms.Remove(ctx, jid.MustParse(room), jid.MustParse(who), revoked)
		w.service.mu.Lock()
		defer w.service.mu.Unlock()
		w.mu.Lock()
		defer w.mu.Unlock()
		if was != nil && (err != nil || w.last[key] != was) {
			was.overtaken = true
		}
		if err != nil {
			return
		}
		if was != nil && was.done {
			was.err = errRemoved
		} else if was != nil {
			was.overtaken = true // it may have been given, and taken back, before this request ended
		}
		if c == nil || w.chats[room] != c || w.set[key] || w.last[key] != was {
			return
		}
		if affiliation := c.affiliation(who); affiliation != "none" && affiliation != "outcast" {
			t.Errorf("%s was removed from %s and is %s", who, room, affiliation)
		}
		if o := c.find(func(o *seat) bool { return bareOf(o.full) == who && o.number <= before }); o != nil {
			t.Errorf("%s was removed from %s and is still inside", who, room)
		}
	})
	synctest.Wait()
}

var errRemoved = errors.New("removed")

// letSomebodyIn has somebody admitted, and join.
func (w *world) letSomebodyIn(t *rapid.T) {
	room, who := rapid.SampledFrom(roomNames).Draw(t, "room"), rapid.SampledFrom(people).Draw(t, "who")
	w.admit(room, who, rapid.SampledFrom([]string{"owner", "member"}).Draw(t, "affiliation"), true, time.Time{})
	w.settle()
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	if c := w.chats[room]; c != nil {
		w.join(c, who+"/1", who)
	}
}

// standStill passes time in which nothing arrives.
func (w *world) standStill(t *rapid.T) {
	<-time.After(12 * time.Second)
	synctest.Wait()
	w.overtakeAbsent()
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	if len(w.up)+len(w.down) == 0 {
		return
	}
	// Rooms do not know who has left before they have read of it, nor whether a host has.
	clear(w.hostless)
	for _, c := range w.chats {
		for bare := range c.given {
			if c.inside(bare) == nil {
				c.given[bare] = time.Now()
			}
		}
	}
}

// loseConnection ends the stream, with what is on its way, and connects again.
func (w *world) loseConnection(t *rapid.T) {
	fates := rapid.SliceOfN(rapid.SampledFrom([]string{"stays", "is gone", "is rid of us"}), len(roomNames), len(roomNames)).Draw(t, "the room")
	for rapid.Bool().Draw(t, "what we wrote arrives") && w.serve() {
		continue
	}
	rooms := w.disconnected()
	w.service.mu.Lock()
	for address := range w.chats {
		if known, _ := w.known(address); !known { // usher may have told of its end, which is lost
			n := w.ends[address]
			w.ends[address] = [2]int{n[0], n[1] + 1}
		}
	}
	w.forgetCrossings()
	clear(w.hostless)
	for _, c := range w.chats {
		for _, o := range c.seats {
			o.since = time.Time{} // Rooms may not have read of them yet
		}
	}
	for i, fate := range fates {
		switch c := w.chats[roomNames[i]]; {
		case c == nil:
		case fate == "is gone":
			w.destroy(c)
		case fate == "is rid of us" && c.by(ourself) != nil:
			w.remove(c, c.by(ourself), "333")
		}
		w.mayExist[roomNames[i]] = true // nobody remembers who asked for it
	}
	w.service.mu.Unlock()
	w.connect(rooms)
	w.settle()
	w.overtakeAbsent()
}

// replaceProcess kills the process, and has another one take over.
func (w *world) replaceProcess(t *rapid.T) {
	for w.withdrawing() && w.serve() { // what a process has written still arrives when it is killed
		continue
	}
	w.disconnected()
	func() { // a draw may panic
		w.service.mu.Lock()
		defer w.service.mu.Unlock()
		w.forgetCrossings()
		clear(w.hostless)
		for _, address := range roomNames {
			c := w.chats[address]
			if c != nil && c.others() > 0 && rapid.Bool().Draw(t, "somebody leaves meanwhile") {
				w.remove(c, c.find(func(o *seat) bool { return o.full != ourself }))
			}
			w.mayExist[address] = true
		}
		for _, c := range w.chats {
			for _, o := range c.seats {
				o.since = time.Time{}
			}
		}
	}()
	w.mu.Lock()
	for _, a := range w.last {
		a.err, a.overtaken, a.expires = nil, true, time.Time{} // nobody remembers, and people inside stay
	}
	w.mu.Unlock()
	if rapid.Bool().Draw(t, "without a store") {
		w.book.burns()
	}
	for address, n := range w.ends { // the next process tells of the rest if it knows those rooms
		w.ends[address] = [2]int{0, n[1] - count(w.ended, address)}
	}
	w.ended = nil
	w.newRooms()
	w.rooms.Restore(w.book.everything())
	w.connect(w.rooms.Reset())
	w.pass(joinWithin + joinWithin/3)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	for address, c := range w.chats {
		for bare, affiliation := range c.affiliations {
			if affiliation != "outcast" && c.inside(bare) == nil {
				t.Fatalf("%s is outside of %s and %s", bare, address, affiliation)
			}
		}
	}
}

// allGo empties all rooms: then nothing is left.
func (w *world) allGo(t *rapid.T) {
	w.settle()
	w.service.mu.Lock()
	for _, c := range w.chats {
		for c.others() > 0 {
			w.remove(c, c.find(func(o *seat) bool { return o.full != ourself }))
		}
	}
	w.service.mu.Unlock()
	w.pass(40 * time.Second)
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	for _, address := range roomNames {
		if known, _ := w.known(address); known || w.chats[address] != nil {
			t.Fatalf("everybody is gone, and left of %s are %+v there, and here: %t", address, w.chats[address], known)
		}
	}
	if rooms, grants := w.rooms.Count(); rooms+grants != 0 {
		t.Fatalf("everybody is gone, and left are %d rooms and %d grants", rooms, grants)
	}
}

// known reports whether Rooms know a room, and whether they believe to be inside.
func (w *world) known(address string) (known, open bool) {
	w.rooms.mu.Lock()
	defer w.rooms.mu.Unlock()
	rm := w.rooms.rooms[address]
	return rm != nil || w.rooms.lost[address] != nil, rm != nil && rm.open
}

// live returns how many grants Rooms have given and know.
func (w *world) live() (n int) {
	w.rooms.mu.Lock()
	defer w.rooms.mu.Unlock()
	for _, rooms := range []map[string]*room{w.rooms.rooms, w.rooms.lost} {
		for _, rm := range rooms {
			for _, g := range rm.live {
				if g.ledger != found {
					n++
				}
			}
		}
	}
	return n
}

// check compares what is true at the service with what should be, once everything that was sent has arrived.
func (w *world) check(t *rapid.T) {
	synctest.Wait()
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.up)+len(w.down) != 0 {
		return
	}
	if live, written := w.live(), len(w.book.all()); live != written {
		t.Fatalf("%d are live, and written down are %v", live, w.book.all())
	}
	for _, address := range roomNames {
		told, ends := count(w.ended, address), w.ends[address]
		if told < ends[0] || told > ends[1] {
			t.Fatalf("told of %d ends of %s; %d have ended, and usher gave something in %d of them", told, address, ends[1], ends[0])
		}
	}
	for _, busy := range w.busy {
		if busy {
			t.Fatal("a request is under way and waits for nothing")
		}
	}
	for _, address := range roomNames {
		c, j := w.chats[address], jid.MustParse(address)
		if c == nil {
			// A lost room may be gone; a look finds out, see allGo.
			w.rooms.mu.Lock()
			known := w.rooms.rooms[address] != nil
			w.rooms.mu.Unlock()
			if known || w.hostPresent(j) {
				t.Fatalf("%s is taken to exist", address)
			}
			if known, _ := w.known(address); !known {
				w.checkSights(t, address, nil)
			}
			delete(w.mayExist, address)
			continue
		}
		if _, open := w.known(address); c.by(ourself) == nil || !open {
			t.Fatalf("we are not inside %s, or do not know it", address)
		}
		w.checkSights(t, address, c)
		switch exists, host, err := w.rooms.State(w.ctx, j); {
		case !c.membersOnly && (c.find(func(o *seat) bool { return c.affiliation(o.full) == "none" }) != nil || time.Since(c.made) > 2*untilSure):
			t.Fatalf("%s is open to all", address)
		case c.locked && time.Since(c.made) > 2*untilSure:
			t.Fatalf("%s is locked", address)
		case !exists || err != nil || host != c.hostPresent(w.rooms.Hosts) || w.hostPresent(j) != host:
			t.Fatalf("State of %s: %t, %t, %v", address, exists, host, err)
		case !w.mayExist[address]:
			t.Fatalf("%s was created for somebody who may not", address)
		}
		if since, ok := w.hostless[address]; c.hostPresent(w.rooms.Hosts) {
			delete(w.hostless, address)
		} else if !ok {
			since = time.Now()
			w.hostless[address] = since
		} else if alone := time.Since(since); alone > hostAway+2*hostTick {
			for bare, since := range c.given {
				if w.last[[2]string{address, bare}].needsHost && c.inside(bare) == nil && time.Since(since) > hostAway+2*hostTick {
					t.Fatalf("%s has %s in %s and is not there, nor was a host for %s", bare, c.affiliation(bare), address, alone)
				}
			}
		}
		for bare, since := range c.given {
			a, o := w.last[[2]string{address, bare}], c.inside(bare)
			switch {
			case a.err != nil:
				t.Fatalf("%s has %s in %s after %v", bare, c.affiliation(bare), address, a.err)
			case o == nil && time.Since(since) > joinWithin+joinWithin/6:
				t.Fatalf("%s has %s in %s and is not there", bare, c.affiliation(bare), address)
			case o != nil && !a.expires.IsZero() && !o.since.Before(a.expires):
				t.Fatalf("%s came to %s after the end of the token", bare, address)
			}
		}
		for _, bare := range people {
			switch a := w.last[[2]string{address, bare}]; {
			case a == nil:
			case a.banned && c.affiliation(bare) != "outcast":
				t.Fatalf("%s was banned from %s and is %s", bare, address, c.affiliation(bare))
			case a.err == nil && !a.overtaken && !a.banned && c.affiliation(bare) != a.affiliation:
				t.Fatalf("%s was let into %s as %s and is %s", bare, address, a.affiliation, c.affiliation(bare))
			}
		}
	}
}

// checkSights compares what was told of a room with what is true there; c is nil if there is no such room.
func (w *world) checkSights(t *rapid.T, address string, c *chat) {
	people, host := make(map[string]bool), false
	if c != nil {
		host = c.hostPresent(w.rooms.Hosts)
		for _, o := range c.seats {
			if o.full != ourself {
				people[o.full] = o.role == "moderator"
			}
		}
	}
	if wrong := w.sights.differ(address, c != nil, host, people); wrong != "" {
		t.Fatal(wrong)
	}
}

// Whatever people, owners, the server and the network do, in whatever order the news arrive: grants are taken back, what an owner
// decides stays, and rooms are guarded as long as somebody is inside.
func TestRoomsModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			module := rapid.Bool().Draw(t, "module")
			w := newWorldWith(module)
			w.ejabberd = !module && rapid.Bool().Draw(t, "ejabberd")
			defer func() { w.disconnected() }()
			for range 4 { // four times as long as a run is by default
				t.Repeat(w.actions())
			}
		})
	})
}
