package component

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/alarm"
	"github.com/xmpp-usher/usher/pkg/few"
)

const (
	// comesBack is how long after an answer that told somebody to wait they still count as waiting. Jitsi's clients ask again after 5 s.
	comesBack = 15 * time.Second
	// waitsAtMost bounds the people who are known to wait.
	waitsAtMost = 32 << 10
	// sweepWaits is the interval at which people are forgotten who have not asked again.
	sweepWaits = time.Second
)

// watch is what is known of rooms at the moment: who is inside, and who waits. The mode tells it what it sees in rooms, and admission who
// was told to wait. It decides nothing. Its lock comes after all others.
type watch struct {
	wake   alarm.Alarm // rings when somebody waits and nobody did
	mu     sync.Mutex
	rooms  map[string]*watchedRoom
	open   int
	inside counted
	waits  int

	// told is what people were told about rooms lately, as hashes; toldOld is older.
	told, toldOld map[uint64]uint64
	forgotAt      time.Time
}

// watchedRoom is a room that is open or waited for.
type watchedRoom struct {
	auth.Room
	since     time.Time
	open      bool
	host      bool
	hostSince time.Time        // when a host arrived; zero while none is inside
	people    few.Map[present] // by bare JID
	inside    counted
	waits     map[string]*wait
}

// class is how somebody inside is counted; the zero class is nobody's.
type class uint8

const (
	classHost class = 1 + iota
	classMember
	classGuest
	classService
)

var classNames = [...]string{"", "host", "member", "guest", "service"}

func (c class) String() string { return classNames[c] }

// counted is how many are inside, by class.
type counted [len(classNames)]int

// present is somebody inside. There may be very many, so it is small.
type present struct {
	since     int64 // in Unix nanoseconds
	times     int32 // occupants
	class     class
	moderator bool
}

// wait is somebody who was told to wait.
type wait struct {
	who    jid.JID
	since  time.Time
	until  time.Time // until then they count as waiting without asking again
	reason auth.Reason
}

func newWatch() *watch {
	return &watch{
		wake: alarm.New(sweepWaits), rooms: make(map[string]*watchedRoom), told: make(map[uint64]uint64), toldOld: make(map[uint64]uint64),
	}
}

// room returns a room, a new one if need be. The caller holds mu.
func (w *watch) room(j jid.JID, now time.Time) *watchedRoom {
	key := j.String()
	rm := w.rooms[key]
	if rm == nil {
		rm = &watchedRoom{Room: roomOf(j), since: now}
		w.rooms[key] = rm
	}
	return rm
}

// roomOf returns the room as the rules know it.
func roomOf(j jid.JID) auth.Room {
	if r, err := auth.ParseRoom(j.String()); err == nil {
		return r
	}
	return auth.Room{JID: j}
}

// forget drops a room that is neither open nor waited for. The caller holds mu.
func (w *watch) forget(rm *watchedRoom) {
	if !rm.open && len(rm.waits) == 0 {
		delete(w.rooms, rm.JID.String())
	}
}

// sees takes in what was seen in a room, and returns the room's names. The class is that of the person, if it is about one.
func (w *watch) sees(s muc.Sight, c class, now time.Time) auth.Room {
	w.mu.Lock()
	defer w.mu.Unlock()
	rm := w.room(s.Room, now)
	switch s.Seen {
	case muc.SeenOpen:
		w.opens(rm)
	case muc.SeenEnd:
		w.ends(rm)
	case muc.SeenHost:
		rm.host = true
		if rm.hostSince.IsZero() {
			rm.hostSince = now
		}
	case muc.SeenNoHost:
		rm.host, rm.hostSince = false, time.Time{}
	case muc.SeenCame:
		w.comes(rm, s, c, now)
	case muc.SeenRole:
		if p, ok := rm.people.Get(s.Bare); ok {
			p.moderator = s.Moderator
			rm.people.Put(s.Bare, w.counts(rm, p, c))
		}
	case muc.SeenGone:
		w.goes(rm, s)
	}
	w.forget(rm)
	return rm.Room
}

// opens notes that a room is open. The caller holds mu.
func (w *watch) opens(rm *watchedRoom) {
	if !rm.open {
		rm.open = true
		w.open++
	}
}

// ends notes that a room is gone. People may wait for the next one. The caller holds mu.
func (w *watch) ends(rm *watchedRoom) {
	if rm.open {
		w.open--
	}
	for _, p := range rm.people {
		w.counts(rm, p.Value, 0)
	}
	rm.open, rm.host, rm.hostSince, rm.people = false, false, time.Time{}, nil
}

// comes notes that somebody has come. The caller holds mu.
func (w *watch) comes(rm *watchedRoom, s muc.Sight, c class, now time.Time) {
	p, ok := rm.people.Get(s.Bare)
	if !ok {
		p.since = now.UnixNano()
	}
	p.times++
	p.moderator = s.Moderator
	rm.people.Put(s.Bare, w.counts(rm, p, c))
}

// goes notes that somebody has gone. The caller holds mu.
func (w *watch) goes(rm *watchedRoom, s muc.Sight) {
	p, ok := rm.people.Get(s.Bare)
	if !ok {
		return
	}
	if p.times--; p.times > 0 {
		rm.people.Put(s.Bare, p)
		return
	}
	w.counts(rm, p, 0)
	rm.people.Delete(s.Bare)
}

// counts counts somebody as of a class, none if it is zero, and returns them so. The caller holds mu.
func (w *watch) counts(rm *watchedRoom, p present, c class) present {
	for _, all := range []*counted{&w.inside, &rm.inside} {
		if p.class != 0 {
			all[p.class]--
		}
		if c != 0 {
			all[c]++
		}
	}
	p.class = c
	return p
}

// isPresent reports whether somebody is inside a room, and moderates.
func (w *watch) isPresent(room, who jid.JID) (inside, moderator bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rm := w.rooms[room.String()]; rm != nil {
		p, inside := rm.people.Get(who.Bare().String())
		return inside, p.moderator
	}
	return false, false
}

// regards counts somebody inside as of a class, because they were let in anew.
func (w *watch) regards(room, who jid.JID, c class) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rm := w.rooms[room.String()]; rm != nil {
		bare := who.Bare().String()
		if p, ok := rm.people.Get(bare); ok {
			rm.people.Put(bare, w.counts(rm, p, c))
		}
	}
}

// arrives notes that a host is inside a room, if that is not known yet: the mode may say so before it has been seen.
func (w *watch) arrives(room jid.JID, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rm := w.rooms[room.String()]; rm != nil && rm.hostSince.IsZero() {
		rm.hostSince = now
	}
}

// waiting notes that somebody waits for a room, until then unless they ask again.
func (w *watch) waiting(who jid.JID, room auth.Room, reason auth.Reason, now, until time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	bare := who.Bare().String()
	if rm := w.rooms[room.JID.String()]; rm != nil && rm.waits[bare] != nil {
		its := rm.waits[bare]
		if its.reason = reason; until.After(its.until) {
			its.until = until
		}
		return
	}
	if w.waits >= waitsAtMost {
		return
	}
	rm := w.room(room.JID, now)
	if rm.waits == nil {
		rm.waits = make(map[string]*wait)
	}
	rm.waits[bare] = &wait{who: who.Bare(), since: now, until: until, reason: reason}
	if w.waits++; w.waits == 1 {
		w.wake.Ring()
	}
}

// answered notes that somebody was told something else than to wait. It returns for how long a host has been inside that they have waited
// for; zero if they have not.
func (w *watch) answered(who, room jid.JID, now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	rm := w.rooms[room.String()]
	if rm == nil {
		return 0
	}
	bare := who.Bare().String()
	its := rm.waits[bare]
	if its == nil {
		return 0
	}
	w.ceases(rm, bare)
	since := rm.hostSince
	w.forget(rm)
	switch {
	case since.IsZero() || now.After(its.until):
		return 0
	case since.Before(its.since):
		since = its.since
	}
	return max(now.Sub(since), 1) // it has been waited
}

// ceases forgets that somebody waits. The caller holds mu.
func (w *watch) ceases(rm *watchedRoom, bare string) {
	delete(rm.waits, bare)
	w.waits--
}

// run forgets people who have not asked again, until ctx ends.
func (w *watch) run(ctx context.Context, now func() time.Time) {
	for ctx.Err() == nil {
		at := now()
		w.wake.Sleep(ctx, at, w.sweep(at))
	}
}

// sweep forgets people who have not asked again. It returns when to sweep next; zero for never.
func (w *watch) sweep(now time.Time) (next time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.waits == 0 {
		return time.Time{}
	}
	for _, rm := range w.rooms {
		for bare, its := range rm.waits {
			if now.After(its.until) {
				w.ceases(rm, bare)
			}
		}
		w.forget(rm)
	}
	return now.Add(sweepWaits)
}

// again reports whether somebody was told the same about a room lately, and remembers it.
func (w *watch) again(who, room jid.JID, reason auth.Reason, now time.Time) bool {
	key := maphash.Comparable(seed, [2]string{who.Bare().String(), room.String()})
	said := maphash.String(seed, string(reason))
	w.mu.Lock()
	defer w.mu.Unlock()
	if now.Sub(w.forgotAt) > remembered || len(w.told) >= rememberedAtMost {
		w.told, w.toldOld, w.forgotAt = make(map[uint64]uint64), w.told, now
	}
	was, ok := w.told[key]
	if !ok {
		was = w.toldOld[key]
	}
	w.told[key] = said
	return was == said
}
