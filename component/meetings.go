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
	// meetingsEvery is the interval at which it is looked what is due in rooms with rules. hostsEvery is the interval of questions to a
	// room with a rule about its hosts, existsEvery to others.
	meetingsEvery, hostsEvery, existsEvery = time.Second, 2 * time.Second, 30 * time.Second
	// meetingsAtOnce is how many rooms are asked at a time, and meetingWithin how long one may take.
	meetingsAtOnce, meetingWithin = 8, 10 * time.Second
	// meetingAgain is the pause after a room has not answered.
	meetingAgain = 5 * time.Second
	// reloadTakes is how long the last host must be away before a room ends because of that. A page reload takes less.
	reloadTakes = 5 * time.Second
	// toComeIn is how long somebody who becomes host by coming first may be on the way, where another usher has let them in.
	toComeIn = time.Minute
)

var (
	errOver    = errors.New("the meeting is over, and the room is about to end")
	errUnasked = errors.New("the room did not answer")
	errFirst   = errors.New("somebody else has become host by coming first")
)

// meetings remember of rooms with rules what the rules depend on: when people first came, whether a host has been inside and when the
// last one left, and who is host by coming first. They end rooms when a rule says so. Rooms without such a rule cost nothing.
//
// A meeting begins with the first admission to a room and ends with the room. What is known of it is in the store (KindRoom), so that
// it outlives usher. Only one usher at a time looks after a room, so what it knows goes before the store.
type meetings struct {
	store  store.Store
	keeper string // names this process among all that use the store
	rooms  meetingRooms
	rule   func(auth.Room) auth.RoomRule
	ledger *ledger
	turns  *turns
	holds  func() bool // this usher is the active one
	now    func() time.Time
	log    *zap.Logger
	warn   func(room jid.JID, what string, err error)

	anew atomic.Bool // the rules have changed, or a process begins: meetings may be under way that are not known

	mu   sync.Mutex
	all  map[string]*meeting // by room
	gone []store.Record      // of meetings that have ended, to be deleted
}

// meetingRooms is what meetings ask of rooms, and have them do: the mode.
type meetingRooms interface {
	State(ctx context.Context, room jid.JID) (exists, host bool, err error)
	End(ctx context.Context, room jid.JID, reason string) error
	Say(room, who jid.JID, text string) (bool, error)
}

// meeting is a room with a rule, from the first admission until its end.
type meeting struct {
	meetingRecord
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

// meetingRecord is what is written down of a meeting.
type meetingRecord struct {
	Began    time.Time
	Ends     time.Time `json:",omitzero"` // when it ends because a host's token says so
	HostCame bool      `json:",omitempty"`
	HostLeft time.Time `json:",omitzero"` // since when no host is inside; zero while one is
	Warned   time.Time `json:",omitzero"` // the end that people were told of
}

// firstHost is who is host by coming first. It has a record of its own, so that one becomes it.
type firstHost struct {
	Who     string // bare JID
	Machine string `json:",omitempty"` // fingerprint of the machine-uid
	Keeper  string
	At      time.Time
}

func newMeetings(c *Component) *meetings {
	return &meetings{
		store: c.o.Store, keeper: c.seats.store.Keeper, ledger: c.ledger, turns: &c.turns, holds: c.o.Holds, now: c.o.Now, log: c.o.Log, warn: c.warn,
		rule: func(room auth.Room) auth.RoomRule {
			rule, _ := c.policy.Load().RuleFor(room)
			return rule
		},
		all: make(map[string]*meeting),
	}
}

// needed reports whether a rule depends on what is remembered of a meeting.
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

// enter begins an admission to a room. It returns the meeting, nil if the room has no rule that needs one, and what has become of
// the decision. The caller calls leave afterwards.
func (ms *meetings) enter(ctx context.Context, d auth.Decision) (*meeting, auth.Decision) {
	if d.Breakout {
		return nil, d
	}
	ms.mu.Lock()
	known := ms.all[d.Room.JID.String()] != nil
	ms.mu.Unlock()
	if !known && !needed(d.Rule) && d.Ends.IsZero() {
		return nil, d
	}
	m, err := ms.load(ctx, d.Room, false)
	if err == nil {
		err = ms.goesOn(ctx, m)
	}
	if err == nil {
		return m, d
	}
	ms.leave(m, "", false)
	if errors.Is(err, errUnasked) || errors.Is(err, errOver) {
		return nil, d.Denied(auth.ReasonRoomUnavailable, err)
	}
	return nil, d.Denied(auth.ReasonStoreUnavailable, err)
}

// goesOn returns errOver if the time of a meeting is over and its room still there. If the room is gone, the next meeting begins.
func (ms *meetings) goesOn(ctx context.Context, m *meeting) error {
	ms.mu.Lock()
	end, _ := m.limit(ms.rule(m.room))
	over := !end.IsZero() && !ms.now().Before(end)
	ms.mu.Unlock()
	if !over {
		return nil
	}
	exists, _, err := ms.rooms.State(ctx, m.room.JID)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", errUnasked, err)
	case exists:
		return errOver
	}
	ms.ended(m.room.JID)
	return nil
}

// leave ends an admission. A meeting to which nobody has been admitted has not begun. Who is somebody who became host by coming first,
// or empty. If they have no right they are it no more. A nil meeting is left without effect.
func (ms *meetings) leave(m *meeting, who string, admitted bool) {
	if m == nil {
		return
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m.asking--
	m.admitted = m.admitted || admitted
	if who != "" && m.coming == who {
		if m.coming = ""; !ms.has(m, who) {
			ms.dropFirst(m)
		}
	}
	if m.asking == 0 && !m.admitted {
		ms.drop(m)
	}
}

// has reports whether somebody has a right in the room of a meeting.
func (ms *meetings) has(m *meeting, who string) bool {
	j, err := jid.ParseUnsafe(who)
	return err == nil && ms.ledger.of(m.room.JID, j.JID) != nil
}

// load returns the meeting in a room; asking counts one more. One that is not known begins with the oldest right there: people may
// have come in before the room had such a rule. Known says that the room is known to exist.
func (ms *meetings) load(ctx context.Context, room auth.Room, known bool) (*meeting, error) {
	done, err := ms.turns.take(ctx, "meeting "+room.JID.String())
	if err != nil {
		return nil, err
	}
	defer done()
	key := room.JID.String()
	ms.mu.Lock()
	if m := ms.all[key]; m != nil {
		m.asking++
		m.visits++
		ms.mu.Unlock()
		return m, nil
	}
	ms.mu.Unlock()
	if err := ms.forget(ctx, key); err != nil {
		return nil, err
	}
	m := &meeting{meetingRecord: meetingRecord{Began: ms.now()}, room: room, asking: 1, visits: 1}
	for _, g := range ms.ledger.in(room.JID) {
		if g.At.Before(m.Began) {
			m.Began = g.At
		}
	}
	if err := ms.add(ctx, m, known); err != nil {
		return nil, err
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.all[key] = m
	return m, nil
}

// add writes a meeting down, or reads what an earlier process has written. If the room is not there any more, that is about an earlier
// meeting, unless it has just been written: then another usher is about to have the room opened.
func (ms *meetings) add(ctx context.Context, m *meeting, known bool) error {
	key := m.room.JID.String()
	for {
		r, err := roomRecord(key, m.meetingRecord, ms.until())
		if err != nil {
			return err
		}
		there, added, err := ms.store.Add(ctx, r)
		switch {
		case errors.Is(err, store.ErrFull):
			ms.warn(m.room.JID, "the room's meeting is not written down; after a restart it begins anew", err)
			return nil
		case err != nil:
			return err
		case added && known: // the meeting is older than its record
			m.written = r.Value
			return ms.readFirst(ctx, m)
		case added:
			m.written = r.Value
			return nil
		}
		var was meetingRecord
		goesOn := json.Unmarshal(there.Value, &was) == nil
		if goesOn && !known && !ms.now().Before(was.Began.Add(toComeIn)) {
			if goesOn, _, err = ms.rooms.State(ctx, m.room.JID); err != nil {
				return fmt.Errorf("%w: %w", errUnasked, err)
			}
		}
		if goesOn {
			m.meetingRecord, m.written, m.admitted = was, there.Value, true
			return ms.readFirst(ctx, m)
		}
		// Another usher may be as far; then it is looked at again.
		if swapped, err := ms.store.Swap(ctx, there, r); err != nil {
			return err
		} else if swapped {
			m.written = r.Value
			return nil
		}
	}
}

// until is the end of a record that is written now. A meeting that goes on has it written again.
func (ms *meetings) until() time.Time { return ms.now().Add(writtenBeyond) }

// readFirst reads who is host by coming first in a meeting that goes on. In the next one they are nobody special.
func (ms *meetings) readFirst(ctx context.Context, m *meeting) error {
	r, err := ms.store.Get(ctx, store.KindRoom, firstKey(m.room.JID.String()))
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	var f firstHost
	if err == nil && json.Unmarshal(r.Value, &f) == nil {
		m.first, m.firstBytes = &f, r.Value
	}
	return err
}

// endsBy ends a meeting no later than a host's token says; zero says nothing.
func (ms *meetings) endsBy(ctx context.Context, m *meeting, end time.Time) error {
	if m == nil || end.IsZero() {
		return nil
	}
	ms.mu.Lock()
	if !m.Ends.IsZero() && !end.Before(m.Ends) {
		ms.mu.Unlock()
		return nil
	}
	m.Ends, m.changed = end, true
	ms.mu.Unlock()
	return ms.write(ctx, m)
}

// write writes a meeting down that has changed.
func (ms *meetings) write(ctx context.Context, m *meeting) error {
	ms.mu.Lock()
	r, err := roomRecord(m.room.JID.String(), m.meetingRecord, ms.until())
	live := ms.all[r.Key] == m
	m.changed = false
	ms.mu.Unlock()
	if err != nil || !live {
		return err
	}
	err = ms.store.Put(ctx, r)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	switch {
	case errors.Is(err, store.ErrFull):
		err = nil // see add
	case err != nil:
		m.changed = true
	case ms.all[r.Key] != m:
		ms.gone = append(ms.gone, r) // it has ended meanwhile
	default:
		m.written = r.Value
	}
	return err
}

// drop forgets a meeting that has ended, soon also in the store. The caller holds mu.
func (ms *meetings) drop(m *meeting) {
	key := m.room.JID.String()
	if ms.all[key] != m {
		return
	}
	delete(ms.all, key)
	if m.written != nil {
		ms.gone = append(ms.gone, store.Record{Kind: store.KindRoom, Key: key, Value: m.written})
	}
	ms.dropFirst(m)
}

// dropFirst makes nobody host by coming first. The caller holds mu.
func (ms *meetings) dropFirst(m *meeting) {
	if m.firstBytes != nil {
		ms.gone = append(ms.gone, store.Record{Kind: store.KindRoom, Key: firstKey(m.room.JID.String()), Value: m.firstBytes})
	}
	m.first, m.firstBytes = nil, nil
}

// forget deletes from the store what is written down of meetings that have ended: of one room, or of all if room is empty.
func (ms *meetings) forget(ctx context.Context, room string) error {
	ms.mu.Lock()
	var gone, rest []store.Record
	for _, r := range ms.gone {
		if room == "" || r.Key == room || r.Key == firstKey(room) {
			gone = append(gone, r)
		} else {
			rest = append(rest, r)
		}
	}
	ms.gone = rest
	ms.mu.Unlock()
	for n, r := range gone {
		over := r
		r.End, over.End = ms.until(), time.Unix(0, 0)
		if _, err := ms.store.Swap(ctx, r, over); err != nil {
			ms.mu.Lock()
			defer ms.mu.Unlock()
			ms.gone = append(ms.gone, gone[n:]...)
			return err
		}
	}
	return nil
}

// ended is called when a room is gone. It does not block. Somebody who is being admitted begins the next meeting.
func (ms *meetings) ended(room jid.JID) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m := ms.all[room.String()]
	if m == nil {
		return
	}
	if m.asking == 0 {
		ms.drop(m)
		return
	}
	m.meetingRecord, m.changed, m.admitted = meetingRecord{Began: ms.now()}, true, false
	if m.coming == "" {
		ms.dropFirst(m)
	}
}

// arrived is called when a host has entered a room. It does not block.
func (ms *meetings) arrived(room jid.JID) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if m := ms.all[room.String()]; m != nil {
		m.saw(true, ms.now())
	}
}

// saw notes whether a host is inside.
func (m *meeting) saw(host bool, now time.Time) {
	switch {
	case host && (!m.HostCame || !m.HostLeft.IsZero()):
		m.HostCame, m.HostLeft, m.changed = true, time.Time{}, true
	case !host && m.HostCame && m.HostLeft.IsZero():
		m.HostLeft, m.changed = now, true
	}
}

// state adds to the state of a room what is remembered of it.
func (ms *meetings) state(req auth.Request, room auth.Room, s auth.RoomState) auth.RoomState {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m := ms.all[room.JID.String()]
	if m == nil {
		return s
	}
	now, rule := ms.now(), ms.rule(room)
	if s.Exists {
		m.saw(s.HostPresent, now)
		s.Opened = m.HostCame && (rule.OnHostLeft == auth.LeftKeep || m.expected(rule, now))
	}
	if m.first != nil && rule.FirstIsHost == auth.FirstToken {
		s.IsFirst = m.first.is(req.From.Bare().String(), fingerprint(req.MachineUID))
		s.First = ms.counts(m, *m.first, rule, now)
	}
	return s
}

// expected reports whether a host is inside or may come back.
func (m *meeting) expected(r auth.RoomRule, now time.Time) bool {
	return m.HostCame && (m.HostLeft.IsZero() || now.Before(m.HostLeft.Add(r.HostGrace)))
}

// is reports whether that is the first host, or somebody at the same machine: in a page that is loaded anew, an anonymous person has a
// new address.
func (f *firstHost) is(who, machine string) bool {
	return f.Who == who || machine != "" && f.Machine == machine
}

// counts reports whether somebody who became host by coming first is inside, on the way, or may come back. The caller holds mu.
func (ms *meetings) counts(m *meeting, f firstHost, rule auth.RoomRule, now time.Time) bool {
	if m.coming == f.Who || ms.has(m, f.Who) || f.Keeper != ms.keeper && now.Before(f.At.Add(toComeIn)) {
		return true
	}
	return !m.HostLeft.IsZero() && m.expected(rule, now)
}

// comesFirst makes somebody host by coming first, unless somebody else is, and reports whether it did.
func (ms *meetings) comesFirst(ctx context.Context, m *meeting, who jid.JID, machine string) (bool, error) {
	key := firstKey(m.room.JID.String())
	done, err := ms.turns.take(ctx, key)
	if err != nil {
		return false, err
	}
	defer done()
	f := firstHost{Who: who.String(), Machine: machine, Keeper: ms.keeper, At: ms.now()}
	for {
		r, err := roomRecord(key, f, ms.until())
		if err != nil {
			return false, err
		}
		there, took, err := ms.store.Add(ctx, r)
		if err == nil && !took {
			var has firstHost
			if json.Unmarshal(there.Value, &has) == nil && ms.isOther(m, f, has, there.Value) {
				return false, nil
			}
			if f.Machine == "" && has.Who == f.Who && has.Machine != "" {
				f.Machine = has.Machine
				continue
			}
			if took, err = ms.store.Swap(ctx, there, r); err == nil && !took {
				continue // it has changed meanwhile
			}
		}
		if err != nil && !errors.Is(err, store.ErrFull) {
			return false, err
		}
		ms.mu.Lock()
		defer ms.mu.Unlock()
		m.first, m.firstBytes, m.coming = &f, r.Value, f.Who
		return true, nil
	}
}

// isOther reports whether somebody else than f is host by coming first, by this record, and counts.
func (ms *meetings) isOther(m *meeting, f, has firstHost, record []byte) bool {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if has.is(f.Who, f.Machine) || !ms.counts(m, has, ms.rule(m.room), ms.now()) {
		return false
	}
	m.first, m.firstBytes = &has, record
	return true
}

// limit returns when a meeting ends by its time, and what people read then; zero if it has no limit.
func (m *meeting) limit(r auth.RoomRule) (end time.Time, text string) {
	if r.MaxDuration > 0 {
		end, text = m.Began.Add(r.MaxDuration), "This conference has reached its longest duration."
	}
	if !m.Ends.IsZero() && (end.IsZero() || m.Ends.Before(end)) {
		end, text = m.Ends, "The time of this conference is over."
	}
	return end, text
}

// hostless returns when a meeting ends because its last host has left; zero if it does not.
func (m *meeting) hostless(r auth.RoomRule) time.Time {
	if r.OnHostLeft != auth.LeftEnd || !m.HostCame || m.HostLeft.IsZero() {
		return time.Time{}
	}
	return m.HostLeft.Add(max(r.HostGrace, reloadTakes))
}

// run does what is due in rooms with rules, until ctx ends.
func (ms *meetings) run(ctx context.Context) {
	tick := time.NewTicker(meetingsEvery)
	defer tick.Stop()
	for {
		ms.tick(ctx)
		select {
		case <-ctx.Done():
			ms.save(ctx)
			return
		case <-tick.C:
		}
	}
}

// save writes down what the next usher needs to know, when this one stops or has no connection.
func (ms *meetings) save(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	if !ms.holds() || ms.forget(ctx, "") != nil || ms.ledger.seats.settle(ctx) != nil {
		return
	}
	for _, m := range ms.those(func(m *meeting) bool { return m.changed }) {
		if ms.write(ctx, m) != nil {
			return
		}
	}
}

// those returns the meetings that are such.
func (ms *meetings) those(such func(*meeting) bool) (all []*meeting) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if such(m) {
			all = append(all, m)
		}
	}
	return all
}

// tick does what is due now, if this usher is the active one. What needs the store and fails is left for the next time.
func (ms *meetings) tick(ctx context.Context) {
	if !ms.holds() {
		return
	}
	_ = ms.takeIn(ctx)
	_ = ms.forget(ctx, "")
	_ = ms.ledger.seats.settle(ctx)
	var g errgroup.Group
	g.SetLimit(meetingsAtOnce)
	for _, m := range ms.those(ms.due) {
		g.Go(func() error { ms.tend(ctx, m); return nil })
	}
	_ = g.Wait()
}

// changes has meetings looked for that are under way and not known: the rules have changed, or a process begins.
func (ms *meetings) changes() { ms.anew.Store(true) }

// takeIn begins to look after the meetings that are under way and that a rule is about, if there may be any that are not known.
func (ms *meetings) takeIn(ctx context.Context) error {
	if !ms.anew.Swap(false) {
		return nil
	}
	ms.mu.Lock()
	for _, m := range ms.all {
		m.next = time.Time{} // its rule may have changed
	}
	ms.mu.Unlock()
	rooms := make(map[string]auth.Room)
	live := ms.ledger.all()
	if len(live) == 0 {
		return nil
	}
	remembered := make(map[string]bool)
	for r, err := range ms.store.All(ctx, store.KindRoom) {
		if err != nil {
			ms.anew.Store(true)
			return err
		}
		remembered[r.Key] = true // also of rooms that have no rule: a host's token may say when they end
	}
	for _, g := range live {
		room := g.room()
		key := room.JID.String()
		if _, ok := rooms[key]; !ok && (remembered[key] || needed(ms.rule(room))) {
			rooms[key] = room
		}
	}
	var errs []error
	for _, room := range rooms {
		m, err := ms.load(ctx, room, true)
		if errs = append(errs, err); err == nil {
			ms.leave(m, "", true)
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		ms.anew.Store(true)
	}
	return err
}

// due reports whether something is due in a meeting. The caller holds mu.
func (ms *meetings) due(m *meeting) bool {
	now, rule := ms.now(), ms.rule(m.room)
	if now.Before(m.again) {
		return false
	}
	passed := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	end, _ := m.limit(rule)
	return m.changed || !now.Before(m.next) || passed(end) || passed(m.hostless(rule)) || m.toWarn(end, now)
}

// toWarn reports whether people are to be told of the end.
func (m *meeting) toWarn(end, now time.Time) bool {
	return !end.IsZero() && !now.Before(end.Add(-tellBefore)) && now.Before(end) && !m.Warned.Equal(end)
}

// tend asks a room, and does what is due there.
func (ms *meetings) tend(ctx context.Context, m *meeting) {
	ctx, cancel := context.WithTimeout(ctx, meetingWithin)
	defer cancel()
	ms.mu.Lock()
	visits := m.visits
	ms.mu.Unlock()
	exists, host, err := ms.rooms.State(ctx, m.room.JID)
	if err != nil {
		ms.failed(ctx, m, "could not ask a room with a rule", err)
		return
	}
	ms.mu.Lock()
	if ms.all[m.room.JID.String()] != m {
		ms.mu.Unlock()
		return
	}
	now, rule := ms.now(), ms.rule(m.room)
	if m.asking == 0 && (!exists && m.visits == visits || !needed(rule) && m.Ends.IsZero()) {
		ms.drop(m)
		ms.mu.Unlock()
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
	if left := m.hostless(rule); !over && exists && !left.IsZero() && !now.Before(left) && !ms.hostComes(m, now) {
		over, text = true, "The host has left, and the conference has ended."
	}
	ms.mu.Unlock()
	switch {
	case over:
		ms.end(ctx, m, text)
		return
	case tell:
		ms.tell(m, end, now)
	}
	ms.mu.Lock()
	changed := m.changed
	ms.mu.Unlock()
	if changed {
		_ = ms.write(ctx, m) // what fails is tried again, as it is still changed
	}
}

// failed notes that a room has not done what its rule needs; it is tried again.
func (ms *meetings) failed(ctx context.Context, m *meeting, what string, err error) {
	if errors.Is(ctx.Err(), context.Canceled) {
		return // usher stops, or has no connection any more
	}
	ms.warn(m.room.JID, what, err)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	m.again = ms.now().Add(meetingAgain)
}

// hostComes reports whether a host is on the way into a room. The caller holds mu.
func (ms *meetings) hostComes(m *meeting, now time.Time) bool {
	if m.asking > 0 {
		return true
	}
	for _, g := range ms.ledger.in(m.room.JID) {
		if auth.Affiliation(g.Affiliation).Host() && now.Before(g.At.Add(joinedFor)) {
			return true
		}
	}
	return false
}

// end ends a room because of its rule. An usher that is not the active one any more does not: what it knows may be old.
func (ms *meetings) end(ctx context.Context, m *meeting, text string) {
	if !ms.holds() {
		return
	}
	ms.mu.Lock()
	began := m.Began
	ms.mu.Unlock()
	if err := ms.rooms.End(ctx, m.room.JID, text); err != nil {
		ms.failed(ctx, m, "could not end a room yet", err)
		return
	}
	ms.log.Info("room ended by its rule", zap.Stringer("room", m.room.JID), zap.String("why", text))
	ms.mu.Lock()
	ended := ms.all[m.room.JID.String()] != m || !m.Began.Equal(began) // the room has told already, and perhaps the next meeting is under way
	ms.mu.Unlock()
	if !ended {
		ms.ended(m.room.JID)
	}
}

// tell tells everybody inside when the conference ends. Where usher is no occupant nobody is told.
func (ms *meetings) tell(m *meeting, end, now time.Time) {
	text := "This conference ends in a minute."
	if minutes := int((end.Sub(now) + time.Minute - 1) / time.Minute); minutes > 1 {
		text = fmt.Sprintf("This conference ends in %d minutes.", minutes)
	}
	said, err := ms.rooms.Say(m.room.JID, jid.JID{}, text)
	if err != nil {
		ms.warn(m.room.JID, "could not tell people that the conference ends", err)
	}
	if said && err == nil {
		ms.mu.Lock()
		m.Warned, m.changed = end, true
		ms.mu.Unlock()
	}
}

// enters takes what somebody needs who is let in, beside their right: a place in a meeting, that of its host by coming first, and a
// seat. It returns what has become of the decision, and how to leave: with what becomes of the decision then. What is not used is
// given back.
func (c *Component) enters(ctx context.Context, r *request, d auth.Decision) (_ auth.Decision, leave func(auth.Decision)) {
	m, d := c.meetings.enter(ctx, d)
	if d.Verdict != auth.Allow {
		return d, func(auth.Decision) {}
	}
	room, who, first := d.Room.JID.String(), r.from.Bare(), ""
	leave = func(d auth.Decision) {
		c.seats.leave(room, who.String())
		c.meetings.leave(m, first, d.Verdict == auth.Allow)
	}
	if d.FirstHost {
		switch is, err := c.meetings.comesFirst(ctx, m, who, fingerprint(r.conf.MachineUID)); {
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
	if err := c.meetings.endsBy(ctx, m, d.Ends); err != nil {
		return d.Denied(auth.ReasonStoreUnavailable, err), leave
	}
	return c.seat(ctx, who, d), leave
}
