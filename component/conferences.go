package component

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
)

const (
	// conferencesEvery is the interval at which it is looked what is due in rooms with rules. hostsEvery is the interval of questions to a
	// room with a rule about its hosts, existsEvery to others.
	conferencesEvery, hostsEvery, existsEvery = time.Second, 2 * time.Second, 30 * time.Second
	// conferencesAtOnce is how many rooms are asked at a time, and conferenceWithin how long one may take.
	conferencesAtOnce, conferenceWithin = 8, 10 * time.Second
	// conferenceAgain is the pause after a room has not answered.
	conferenceAgain = 5 * time.Second
	// reloadTakes is how long the last host must be away before a room ends because of that. A page reload takes less.
	reloadTakes = 5 * time.Second
	// toComeIn is how long somebody who becomes host by coming first may be on the way, where another usher has let them in.
	toComeIn = time.Minute
)

var (
	errOver    = errors.New("the conference is over, and the room is about to end")
	errUnasked = errors.New("the room did not answer")
	errFirst   = errors.New("somebody else has become host by coming first")
)

// conferences remember of rooms with rules what the rules depend on: when people first came, whether a host has been inside and when the
// last one left, and who is host by coming first. They end rooms when a rule says so. Rooms without such a rule cost nothing.
//
// A conference begins with the first admission to a room and ends with the room. What is known of it is in the store (KindRoom), so that
// it outlives usher. Only one usher at a time looks after a room, so what it knows goes before the store.
type conferences struct {
	store  store.Store
	keeper string // names this process among all that use the store
	rooms  conferenceRooms
	rule   func(auth.Room) auth.RoomRule
	ledger *ledger
	turns  *turns
	holds  func() bool // this usher is the active one
	now    func() time.Time
	log    *zap.Logger
	warn   func(room jid.JID, what string, err error)

	anew atomic.Bool // the rules have changed, or a process begins: conferences may be under way that are not known

	mu   sync.Mutex
	all  map[string]*conference // by room
	gone []store.Record         // of conferences that have ended, to be deleted
}

// conferenceRooms is what conferences ask of rooms, and have them do: the mode.
type conferenceRooms interface {
	State(ctx context.Context, room jid.JID) (exists, host bool, err error)
	End(ctx context.Context, room jid.JID, reason string) error
	Say(room, who jid.JID, text string) (bool, error)
}

// conference is a room with a rule, from the first admission until its end.
type conference struct {
	conferenceRecord
	room    auth.Room
	written []byte // the record as it is in the store; nil if it is not
	changed bool   // it is to be written down

	first      *firstHost
	firstBytes []byte // its record as it is in the store
	coming     string // who becomes host by coming first and is being admitted

	asking   int       // admissions under way
	visits   int       // admissions that have begun
	admitted bool      // somebody has been admitted
	next     time.Time // when the room is to be asked next
	again    time.Time // not before that is anything tried again that failed
}

// conferenceRecord is what is written down of a conference.
type conferenceRecord struct {
	Began    time.Time
	Ends     time.Time `json:",omitzero"` // when it ends because a host's token says so
	HostCame bool      `json:",omitempty"`
	HostLeft time.Time `json:",omitzero"` // since when no host is inside; zero while one is
	Warned   time.Time `json:",omitzero"` // the end that people were told of
}

// firstHost is who is host by coming first. It has a record of its own, so that one becomes it.
type firstHost struct {
	Who     string  // bare JID
	Machine machine `json:",omitzero"`
	Keeper  string
	At      time.Time
}

func newConferences(c *Component) *conferences {
	return &conferences{
		store: c.o.Store, keeper: c.seats.store.Keeper, ledger: c.ledger, turns: &c.turns, holds: c.o.Holds, now: c.o.Now, log: c.o.Log, warn: c.warn,
		rule: func(room auth.Room) auth.RoomRule {
			rule, _ := c.policy.Load().RuleFor(room)
			return rule
		},
		all: make(map[string]*conference),
	}
}

// needed reports whether a rule depends on what is remembered of a conference.
func needed(r auth.RoomRule) bool {
	return r.MaxDuration > 0 || r.FirstIsHost == auth.FirstToken || aboutHosts(r)
}

// aboutHosts reports whether a rule depends on when hosts come and go.
func aboutHosts(r auth.RoomRule) bool {
	return r.OnHostLeft == auth.LeftKeep || r.OnHostLeft == auth.LeftEnd || r.HostGrace > 0
}

func roomRecord(key string, value any, until time.Time) (store.Record, error) {
	v, err := json.Marshal(value)
	return store.Record{Kind: store.KindRoom, Key: key, Value: v, End: until}, err
}

func firstKey(room string) string { return room + " first" }

// enter begins an admission to a room. It returns the conference, nil if the room has no rule that needs one, and what has become of
// the decision. The caller calls leave afterwards.
func (cs *conferences) enter(ctx context.Context, d auth.Decision) (*conference, auth.Decision) {
	if d.Breakout {
		return nil, d
	}
	cs.mu.Lock()
	known := cs.all[d.Room.JID.String()] != nil
	cs.mu.Unlock()
	if !known && !needed(d.Rule) && d.Ends.IsZero() {
		return nil, d
	}
	m, err := cs.load(ctx, d.Room, false)
	if err == nil {
		err = cs.goesOn(ctx, m)
	}
	if err == nil {
		return m, d
	}
	cs.leave(m, "", false)
	if errors.Is(err, errUnasked) || errors.Is(err, errOver) {
		return nil, d.Denied(auth.ReasonRoomUnavailable, err)
	}
	return nil, d.Denied(auth.ReasonStoreUnavailable, err)
}

// goesOn returns errOver if the time of a conference is over and its room still there. If the room is gone, the next conference begins.
func (cs *conferences) goesOn(ctx context.Context, m *conference) error {
	cs.mu.Lock()
	end, _ := m.limit(cs.rule(m.room))
	over := !end.IsZero() && !cs.now().Before(end)
	cs.mu.Unlock()
	if !over {
		return nil
	}
	exists, _, err := cs.rooms.State(ctx, m.room.JID)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errUnasked, err)
	case exists:
		return errOver
	}
	cs.ended(m.room.JID)
	return nil
}

// leave ends an admission. A conference to which nobody has been admitted has not begun. Who is somebody who became host by coming first,
// or empty. If they have no right they are it no more. A nil conference is left without effect.
func (cs *conferences) leave(m *conference, who string, admitted bool) {
	if m == nil {
		return
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	m.asking--
	m.admitted = m.admitted || admitted
	if who != "" && m.coming == who {
		if m.coming = ""; !cs.has(m, who) {
			cs.dropFirst(m)
		}
	}
	if m.asking == 0 && !m.admitted {
		cs.drop(m)
	}
}

// has reports whether somebody has a right in the room of a conference.
func (cs *conferences) has(m *conference, who string) bool {
	j, err := jid.ParseUnsafe(who)
	return err == nil && cs.ledger.of(m.room.JID, j.JID) != nil
}

// load returns the conference in a room; asking counts one more. One that is not known begins with the oldest right there: people may
// have come in before the room had such a rule. Known says that the room is known to exist.
func (cs *conferences) load(ctx context.Context, room auth.Room, known bool) (*conference, error) {
	done, err := cs.turns.take(ctx, "conference "+room.JID.String())
	if err != nil {
		return nil, err
	}
	defer done()
	key := room.JID.String()
	cs.mu.Lock()
	if m := cs.all[key]; m != nil {
		m.asking++
		m.visits++
		cs.mu.Unlock()
		return m, nil
	}
	cs.mu.Unlock()
	if err := cs.forget(ctx, key); err != nil {
		return nil, err
	}
	m := &conference{conferenceRecord: conferenceRecord{Began: cs.now()}, room: room, asking: 1, visits: 1}
	for _, g := range cs.ledger.in(room.JID) {
		if g.At.Before(m.Began) {
			m.Began = g.At
		}
	}
	if err := cs.add(ctx, m, known); err != nil {
		return nil, err
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.all[key] = m
	return m, nil
}

// add writes a conference down, or reads what an earlier process has written. If the room is not there any more, that is about an earlier
// conference, unless it has just been written: then another usher is about to have the room opened.
func (cs *conferences) add(ctx context.Context, m *conference, known bool) error {
	key := m.room.JID.String()
	for {
		r, err := roomRecord(key, m.conferenceRecord, cs.until())
		if err != nil {
			return err
		}
		there, added, err := cs.store.Add(ctx, r)
		switch {
		case errors.Is(err, store.ErrFull):
			cs.warn(m.room.JID, "the room's conference is not written down; after a restart it begins anew", err)
			return nil
		case err != nil:
			return err
		case added && known: // the conference is older than its record
			m.written = r.Value
			return cs.readFirst(ctx, m)
		case added:
			m.written = r.Value
			return nil
		}
		var was conferenceRecord
		goesOn := json.Unmarshal(there.Value, &was) == nil
		if goesOn && !known && !cs.now().Before(was.Began.Add(toComeIn)) {
			if goesOn, _, err = cs.rooms.State(ctx, m.room.JID); err != nil {
				return fmt.Errorf("%w: %w", errUnasked, err)
			}
		}
		if goesOn {
			m.conferenceRecord, m.written, m.admitted = was, there.Value, true
			return cs.readFirst(ctx, m)
		}
		// Another usher may be as far; then it is looked at again.
		if swapped, err := cs.store.Swap(ctx, there, r); err != nil {
			return err
		} else if swapped {
			m.written = r.Value
			return nil
		}
	}
}

// until is the end of a record that is written now. A conference that goes on has it written again.
func (cs *conferences) until() time.Time { return cs.now().Add(writtenBeyond) }

// readFirst reads who is host by coming first in a conference that goes on. In the next one they are nobody special.
func (cs *conferences) readFirst(ctx context.Context, m *conference) error {
	r, err := cs.store.Get(ctx, store.KindRoom, firstKey(m.room.JID.String()))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	var f firstHost
	if err == nil && json.Unmarshal(r.Value, &f) == nil {
		m.first, m.firstBytes = &f, r.Value
	}
	return err
}

// endsBy ends a conference no later than a host's token says; zero says nothing.
func (cs *conferences) endsBy(ctx context.Context, m *conference, end time.Time) error {
	if m == nil || end.IsZero() {
		return nil
	}
	cs.mu.Lock()
	if !m.Ends.IsZero() && !end.Before(m.Ends) {
		cs.mu.Unlock()
		return nil
	}
	m.Ends, m.changed = end, true
	cs.mu.Unlock()
	return cs.write(ctx, m)
}

// write writes a conference down that has changed.
func (cs *conferences) write(ctx context.Context, m *conference) error {
	cs.mu.Lock()
	r, err := roomRecord(m.room.JID.String(), m.conferenceRecord, cs.until())
	live := cs.all[r.Key] == m
	m.changed = false
	cs.mu.Unlock()
	if err != nil || !live {
		return err
	}
	err = cs.store.Put(ctx, r)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	switch {
	case errors.Is(err, store.ErrFull):
		err = nil // see add
	case err != nil:
		m.changed = true
	case cs.all[r.Key] != m:
		cs.gone = append(cs.gone, r) // it has ended meanwhile
	default:
		m.written = r.Value
	}
	return err
}

// drop forgets a conference that has ended, soon also in the store. The caller holds mu.
func (cs *conferences) drop(m *conference) {
	key := m.room.JID.String()
	if cs.all[key] != m {
		return
	}
	delete(cs.all, key)
	if m.written != nil {
		cs.gone = append(cs.gone, store.Record{Kind: store.KindRoom, Key: key, Value: m.written})
	}
	cs.dropFirst(m)
}

// dropFirst makes nobody host by coming first. The caller holds mu.
func (cs *conferences) dropFirst(m *conference) {
	if m.firstBytes != nil {
		cs.gone = append(cs.gone, store.Record{Kind: store.KindRoom, Key: firstKey(m.room.JID.String()), Value: m.firstBytes})
	}
	m.first, m.firstBytes = nil, nil
}

// forget deletes from the store what is written down of conferences that have ended: of one room, or of all if room is empty.
func (cs *conferences) forget(ctx context.Context, room string) error {
	cs.mu.Lock()
	var gone, rest []store.Record
	for _, r := range cs.gone {
		if room == "" || r.Key == room || r.Key == firstKey(room) {
			gone = append(gone, r)
		} else {
			rest = append(rest, r)
		}
	}
	cs.gone = rest
	cs.mu.Unlock()
	for n, r := range gone {
		over := r
		r.End, over.End = cs.until(), time.Unix(0, 0)
		if _, err := cs.store.Swap(ctx, r, over); err != nil {
			cs.mu.Lock()
			defer cs.mu.Unlock()
			cs.gone = append(cs.gone, gone[n:]...)
			return err
		}
	}
	return nil
}

// ended is called when a room is gone. It does not block. Somebody who is being admitted begins the next conference.
func (cs *conferences) ended(room jid.JID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	m := cs.all[room.String()]
	if m == nil {
		return
	}
	if m.asking == 0 {
		cs.drop(m)
		return
	}
	m.conferenceRecord, m.changed, m.admitted = conferenceRecord{Began: cs.now()}, true, false
	if m.coming == "" {
		cs.dropFirst(m)
	}
}

// arrived is called when a host has entered a room. It does not block.
func (cs *conferences) arrived(room jid.JID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if m := cs.all[room.String()]; m != nil {
		m.saw(true, cs.now())
	}
}

// saw notes whether a host is inside.
func (m *conference) saw(host bool, now time.Time) {
	switch {
	case host && (!m.HostCame || !m.HostLeft.IsZero()):
		m.HostCame, m.HostLeft, m.changed = true, time.Time{}, true
	case !host && m.HostCame && m.HostLeft.IsZero():
		m.HostLeft, m.changed = now, true
	}
}

// state adds to the state of a room what is remembered of it.
func (cs *conferences) state(req auth.Request, room auth.Room, s auth.RoomState) auth.RoomState {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	m := cs.all[room.JID.String()]
	if m == nil {
		return s
	}
	now, rule := cs.now(), cs.rule(room)
	if s.Exists {
		m.saw(s.HostPresent, now)
		s.Opened = m.HostCame && (rule.OnHostLeft == auth.LeftKeep || m.expected(rule, now))
	}
	if m.first != nil && rule.FirstIsHost == auth.FirstToken {
		s.IsFirst = m.first.is(req.From.Bare().String(), machineOf(req.MachineUID))
		s.First = cs.counts(m, *m.first, rule, now)
	}
	return s
}

// expected reports whether a host is inside or may come back.
func (m *conference) expected(r auth.RoomRule, now time.Time) bool {
	return m.HostCame && (m.HostLeft.IsZero() || now.Before(m.HostLeft.Add(r.HostGrace)))
}

// is reports whether that is the first host, or somebody at the same machine: in a page that is loaded anew, an anonymous person has a
// new address.
func (f *firstHost) is(who string, at machine) bool {
	return f.Who == who || at != machine{} && f.Machine == at
}

// counts reports whether somebody who became host by coming first is inside, on the way, or may come back. The caller holds mu.
func (cs *conferences) counts(m *conference, f firstHost, rule auth.RoomRule, now time.Time) bool {
	if m.coming == f.Who || cs.has(m, f.Who) || f.Keeper != cs.keeper && now.Before(f.At.Add(toComeIn)) {
		return true
	}
	return !m.HostLeft.IsZero() && m.expected(rule, now)
}

// comesFirst makes somebody host by coming first, unless somebody else is, and reports whether it did.
func (cs *conferences) comesFirst(ctx context.Context, m *conference, who jid.JID, at machine) (bool, error) {
	key := firstKey(m.room.JID.String())
	done, err := cs.turns.take(ctx, key)
	if err != nil {
		return false, err
	}
	defer done()
	f := firstHost{Who: who.String(), Machine: at, Keeper: cs.keeper, At: cs.now()}
	for {
		r, err := roomRecord(key, f, cs.until())
		if err != nil {
			return false, err
		}
		there, took, err := cs.store.Add(ctx, r)
		if err == nil && !took {
			var has firstHost
			if json.Unmarshal(there.Value, &has) == nil && cs.isOther(m, f, has, there.Value) {
				return false, nil
			}
			if f.Machine == (machine{}) && has.Who == f.Who && has.Machine != (machine{}) {
				f.Machine = has.Machine
				continue
			}
			if took, err = cs.store.Swap(ctx, there, r); err == nil && !took {
				continue // it has changed meanwhile
			}
		}
		if err != nil && !errors.Is(err, store.ErrFull) {
			return false, err
		}
		cs.mu.Lock()
		defer cs.mu.Unlock()
		m.first, m.firstBytes, m.coming = &f, r.Value, f.Who
		return true, nil
	}
}

// isOther reports whether somebody else than f is host by coming first, by this record, and counts.
func (cs *conferences) isOther(m *conference, f, has firstHost, record []byte) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if has.is(f.Who, f.Machine) || !cs.counts(m, has, cs.rule(m.room), cs.now()) {
		return false
	}
	m.first, m.firstBytes = &has, record
	return true
}

// limit returns when a conference ends by its time, and what people read then; zero if it has no limit.
func (m *conference) limit(r auth.RoomRule) (end time.Time, text string) {
	if r.MaxDuration > 0 {
		end, text = m.Began.Add(r.MaxDuration), "This conference has reached its longest duration."
	}
	if !m.Ends.IsZero() && (end.IsZero() || m.Ends.Before(end)) {
		end, text = m.Ends, "The time of this conference is over."
	}
	return end, text
}

// endOf returns when the conference in a room ends by its time; zero if it has no limit or is not known.
func (cs *conferences) endOf(room auth.Room, r auth.RoomRule) time.Time {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	m := cs.all[room.JID.String()]
	if m == nil {
		return time.Time{}
	}
	end, _ := m.limit(r)
	return end
}

// hostless returns when a conference ends because its last host has left; zero if it does not.
func (m *conference) hostless(r auth.RoomRule) time.Time {
	if r.OnHostLeft != auth.LeftEnd || !m.HostCame || m.HostLeft.IsZero() {
		return time.Time{}
	}
	return m.HostLeft.Add(max(r.HostGrace, reloadTakes))
}

// run does what is due in rooms with rules, until ctx ends.
func (cs *conferences) run(ctx context.Context) {
	tick := time.NewTicker(conferencesEvery)
	defer tick.Stop()
	for {
		cs.tick(ctx)
		select {
		case <-ctx.Done():
			cs.save(ctx)
			return
		case <-tick.C:
		}
	}
}

// save writes down what the next usher needs to know, when this one stops or has no connection.
func (cs *conferences) save(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if !cs.holds() || cs.forget(ctx, "") != nil || cs.ledger.seats.settle(ctx) != nil {
		return
	}
	for _, m := range cs.those(func(m *conference) bool { return m.changed }) {
		if cs.write(ctx, m) != nil {
			return
		}
	}
}

// those returns the conferences that are such.
func (cs *conferences) those(such func(*conference) bool) (all []*conference) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, m := range cs.all {
		if such(m) {
			all = append(all, m)
		}
	}
	return all
}

// tick does what is due now, if this usher is the active one. What needs the store and fails is left for the next time.
func (cs *conferences) tick(ctx context.Context) {
	if !cs.holds() {
		return
	}
	_ = cs.takeIn(ctx)
	_ = cs.forget(ctx, "")
	_ = cs.ledger.seats.settle(ctx)
	var g errgroup.Group
	g.SetLimit(conferencesAtOnce)
	for _, m := range cs.those(cs.due) {
		g.Go(func() error { cs.tend(ctx, m); return nil })
	}
	_ = g.Wait()
}

// changes has conferences looked for that are under way and not known: the rules have changed, or a process begins.
func (cs *conferences) changes() { cs.anew.Store(true) }

// takeIn begins to look after the conferences that are under way and that a rule is about, if there may be any that are not known.
func (cs *conferences) takeIn(ctx context.Context) error {
	if !cs.anew.Swap(false) {
		return nil
	}
	cs.mu.Lock()
	for _, m := range cs.all {
		m.next = time.Time{} // its rule may have changed
	}
	cs.mu.Unlock()
	rooms := make(map[string]auth.Room)
	live := cs.ledger.all()
	if len(live) == 0 {
		return nil
	}
	remembered := make(map[string]bool)
	for r, err := range cs.store.All(ctx, store.KindRoom) {
		if err != nil {
			cs.anew.Store(true)
			return err
		}
		remembered[r.Key] = true // also of rooms that have no rule: a host's token may say when they end
	}
	for _, g := range live {
		room := g.room()
		key := room.JID.String()
		if _, ok := rooms[key]; !ok && (remembered[key] || needed(cs.rule(room))) {
			rooms[key] = room
		}
	}
	var errs []error
	for _, room := range rooms {
		m, err := cs.load(ctx, room, true)
		if errs = append(errs, err); err == nil {
			cs.leave(m, "", true)
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		cs.anew.Store(true)
	}
	return err
}

// due reports whether something is due in a conference. The caller holds mu.
func (cs *conferences) due(m *conference) bool {
	now, rule := cs.now(), cs.rule(m.room)
	if now.Before(m.again) {
		return false
	}
	passed := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	end, _ := m.limit(rule)
	return m.changed || !now.Before(m.next) || passed(end) || passed(m.hostless(rule)) || m.toWarn(end, now)
}

// toWarn reports whether people are to be told of the end.
func (m *conference) toWarn(end, now time.Time) bool {
	return !end.IsZero() && !now.Before(end.Add(-tellBefore)) && now.Before(end) && !m.Warned.Equal(end)
}

// tend asks a room, and does what is due there.
func (cs *conferences) tend(ctx context.Context, m *conference) {
	ctx, cancel := context.WithTimeout(ctx, conferenceWithin)
	defer cancel()
	cs.mu.Lock()
	visits := m.visits
	cs.mu.Unlock()
	exists, host, err := cs.rooms.State(ctx, m.room.JID)
	if err != nil {
		cs.failed(ctx, m, "could not ask a room with a rule", err)
		return
	}
	cs.mu.Lock()
	if cs.all[m.room.JID.String()] != m {
		cs.mu.Unlock()
		return
	}
	now, rule := cs.now(), cs.rule(m.room)
	if m.asking == 0 && (!exists && m.visits == visits || !needed(rule) && m.Ends.IsZero()) {
		cs.drop(m)
		cs.mu.Unlock()
		return
	}
	if exists {
		m.saw(host, now)
	}
	m.next = now.Add(existsEvery)
	if aboutHosts(rule) {
		m.next = now.Add(hostsEvery)
	}
	end, text := m.limit(rule)
	tell := exists && m.toWarn(end, now)
	over := exists && !end.IsZero() && !now.Before(end)
	if left := m.hostless(rule); !over && exists && !left.IsZero() && !now.Before(left) && !cs.hostComes(m, now) {
		over, text = true, "The host has left, and the conference has ended."
	}
	cs.mu.Unlock()
	switch {
	case over:
		cs.end(ctx, m, text)
		return
	case tell:
		cs.tell(m, end, now)
	}
	cs.mu.Lock()
	changed := m.changed
	cs.mu.Unlock()
	if changed {
		_ = cs.write(ctx, m) // what fails is tried again, as it is still changed
	}
}

// failed notes that a room has not done what its rule needs; it is tried again.
func (cs *conferences) failed(ctx context.Context, m *conference, what string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // usher stops, or has no connection any more
	}
	cs.warn(m.room.JID, what, err)
	cs.mu.Lock()
	defer cs.mu.Unlock()
	m.again = cs.now().Add(conferenceAgain)
}

// hostComes reports whether a host is on the way into a room. The caller holds mu.
func (cs *conferences) hostComes(m *conference, now time.Time) bool {
	if m.asking > 0 {
		return true
	}
	for _, g := range cs.ledger.in(m.room.JID) {
		if auth.Affiliation(g.Affiliation).Host() && now.Before(g.At.Add(joinedFor)) {
			return true
		}
	}
	return false
}

// end ends a room because of its rule. An usher that is not the active one any more does not: what it knows may be old.
func (cs *conferences) end(ctx context.Context, m *conference, text string) {
	if !cs.holds() {
		return
	}
	cs.mu.Lock()
	began := m.Began
	cs.mu.Unlock()
	if err := cs.rooms.End(ctx, m.room.JID, text); err != nil {
		cs.failed(ctx, m, "could not end a room yet", err)
		return
	}
	cs.log.Info("room ended by its rule", zap.Stringer("room", m.room.JID), zap.String("why", text))
	cs.mu.Lock()
	ended := cs.all[m.room.JID.String()] != m || !m.Began.Equal(began) // the room has told already, and perhaps the next conference is under way
	cs.mu.Unlock()
	if !ended {
		cs.ended(m.room.JID)
	}
}

// tell tells everybody inside when the conference ends. Where usher is no occupant nobody is told.
func (cs *conferences) tell(m *conference, end, now time.Time) {
	text := "This conference ends in a minute."
	if minutes := int((end.Sub(now) + time.Minute - 1) / time.Minute); minutes > 1 {
		text = fmt.Sprintf("This conference ends in %d minutes.", minutes)
	}
	said, err := cs.rooms.Say(m.room.JID, jid.JID{}, text)
	if err != nil {
		cs.warn(m.room.JID, "could not tell people that the conference ends", err)
	}
	if said && err == nil {
		cs.mu.Lock()
		m.Warned, m.changed = end, true
		cs.mu.Unlock()
	}
}

// enters takes what somebody needs who is let in, beside their right: a place in a conference, that of its host by coming first, and a
// seat. It returns what has become of the decision, and how to leave: with what becomes of the decision then. What is not used is
// given back.
func (c *Component) enters(ctx context.Context, r *request, d auth.Decision) (_ auth.Decision, leave func(auth.Decision)) {
	m, d := c.conferences.enter(ctx, d)
	if d.Verdict != auth.Allow {
		return d, func(auth.Decision) {}
	}
	room, who, first := d.Room.JID.String(), r.from.Bare(), ""
	leave = func(d auth.Decision) {
		c.seats.leave(room, who.String())
		c.conferences.leave(m, first, d.Verdict == auth.Allow)
	}
	if d.FirstHost {
		switch is, err := c.conferences.comesFirst(ctx, m, who, machineOf(r.conf.MachineUID)); {
		case err != nil:
			return d.Denied(auth.ReasonStoreUnavailable, err), leave
		case is:
			first = who.String()
		default:
			if d = c.decide(ctx, r); d.Verdict == auth.Allow && d.FirstHost { // the first one has gone again meanwhile
				d = d.Denied(auth.ReasonRoomUnavailable, errFirst)
			}
			if d.Verdict != auth.Allow {
				return d, leave
			}
		}
	}
	if err := c.conferences.endsBy(ctx, m, d.Ends); err != nil {
		return d.Denied(auth.ReasonStoreUnavailable, err), leave
	}
	return c.seat(ctx, who, d), leave
}
