package component

import (
	"context"
	"errors"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
)

// seatFor is how long a seat is kept for somebody who is about to be let in. It is longer than a request may take. After that it is
// free for every usher if this one has been killed.
const seatFor = 2 * time.Minute

// errFull means that the room has no free seat.
var errFull = errors.New("all seats are taken")

// seats are the places of people in rooms that take only so many (max_occupants). A room of n has the seats 1 to n.
//
// A person takes a seat before they get their right. The seat is then written down once more, in one write with the grant and until
// the grant's end, and given back before the grant is crossed out. So a grant never lacks its seat in the store, and a seat without a
// grant ends soon, whenever usher is killed. The number is part of the grant, by which the next process knows who has which seat.
//
// What this process knows of its own seats goes before the store, which may have lost them: it never gives one of them to somebody
// else. The store keeps seats apart from those of other processes.
type seats struct {
	store store.Seats
	now   func() time.Time

	mu     sync.Mutex
	rooms  map[string]map[string]*seat // by room and person
	free   map[store.Seat]*seat        // given back, and perhaps still written down
	visits uint64
}

// seat is a seat of this process.
type seat struct {
	store.Seat
	asking  int       // admissions under way
	granted bool      // a grant has it
	lasting bool      // it is written down until the end of a grant
	until   time.Time // if an earlier process wrote it down, and this one still has to: the grant's end
}

func newSeats(s store.Seats, now func() time.Time) *seats {
	return &seats{store: s, now: now, rooms: make(map[string]map[string]*seat), free: make(map[store.Seat]*seat)}
}

// take takes a seat for a person in a room that takes that many people, unless they have one; 0 is no limit, for which nobody takes
// one. The caller calls leave afterwards. Others are those inside who have no seat although they count. One person's calls must come
// one after the other. The error is errFull if no seat is free.
func (s *seats) take(ctx context.Context, room, who string, most, others int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if its := s.rooms[room][who]; its != nil {
		its.asking++
		return nil
	}
	// A seat that they gave back is about to have its grant replaced, and would be left without one.
	if _, err := s.giveBackIn(ctx, func(is store.Seat) bool { return is.Room == room && is.Who == who }); err != nil {
		return err
	}
	if most == 0 {
		return nil
	}
	foreign := make(map[int]bool)
	for {
		number := s.lowest(room, most, foreign)
		if len(s.rooms[room])+others >= most {
			return errFull
		}
		if number == 0 {
			n, err := s.giveBackIn(ctx, func(is store.Seat) bool { return is.Room == room })
			if err != nil {
				return err
			}
			if n == 0 {
				return errFull
			}
			clear(foreign)
			continue
		}
		its := s.enter(room, who, number)
		its.asking = 1
		taken, err := s.ask(ctx, its)
		switch {
		case err != nil:
			s.drop(its) // it may have been taken nevertheless
			return err
		case taken:
			return nil
		}
		s.strike(its)
		foreign[number] = true
	}
}

// ask takes a seat in the store. It unlocks mu meanwhile.
func (s *seats) ask(ctx context.Context, its *seat) (taken bool, err error) {
	s.mu.Unlock()
	defer s.mu.Lock()
	taken, err = s.store.Take(ctx, its.Seat, s.now().Add(seatFor), s.stale)
	// A full store refuses nobody: this process knows its seats without it.
	return taken || errors.Is(err, store.ErrFull), ignoreFull(err)
}

func ignoreFull(err error) error {
	if errors.Is(err, store.ErrFull) {
		return nil
	}
	return err
}

// stale reports whether a seat that this process wrote down is free.
func (s *seats) stale(is store.Seat) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	its := s.rooms[is.Room][is.Who]
	return its == nil || its.Seat != is
}

// lowest returns the lowest number that nobody has here and that is not foreign; 0 if there is none. The caller holds mu.
func (s *seats) lowest(room string, most int, foreign map[int]bool) int {
	taken := make(map[int]bool, len(s.rooms[room]))
	for _, its := range s.rooms[room] {
		taken[its.Number] = true
	}
	for n := 1; n <= most; n++ {
		if !taken[n] && !foreign[n] {
			return n
		}
	}
	return 0
}

// enter makes a seat a person's. The caller holds mu.
func (s *seats) enter(room, who string, number int) *seat {
	s.visits++
	its := &seat{Seat: store.Seat{Room: room, Number: number, Who: who, Visit: s.visits}}
	if s.rooms[room] == nil {
		s.rooms[room] = make(map[string]*seat)
	}
	s.rooms[room][who] = its
	return its
}

// strike forgets a seat. The caller holds mu.
func (s *seats) strike(its *seat) {
	if delete(s.rooms[its.Room], its.Who); len(s.rooms[its.Room]) == 0 {
		delete(s.rooms, its.Room)
	}
}

// drop gives a seat back, soon also in the store. The caller holds mu.
func (s *seats) drop(its *seat) {
	s.strike(its)
	s.free[its.Seat] = its
}

// leave ends an admission, also one for which nothing was taken. Without a grant the seat is free.
func (s *seats) leave(room, who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if its := s.rooms[room][who]; its != nil {
		if its.asking = max(its.asking-1, 0); its.asking == 0 && !its.granted {
			s.drop(its)
		}
	}
}

// of returns the seat of a person in a room. It reports false if they have none.
func (s *seats) of(room, who string) (store.Seat, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if its := s.rooms[room][who]; its != nil {
		return its.Seat, true
	}
	return store.Seat{}, false
}

// granted notes that the person's grant is written down, and the seat with it.
func (s *seats) granted(room, who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if its := s.rooms[room][who]; its != nil {
		its.granted, its.lasting, its.until = true, true, time.Time{}
	}
}

// ended notes that the person's grant has ended. It does not block.
func (s *seats) ended(room, who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if its := s.rooms[room][who]; its != nil {
		if its.granted = false; its.asking == 0 {
			s.drop(its)
		}
	}
}

// restore takes in a seat that an earlier process gave, until the grant's end.
func (s *seats) restore(room, who string, number int, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	its := s.enter(room, who, number)
	its.granted, its.lasting, its.until = true, true, until
}

// taken returns how many seats of the room are taken here.
func (s *seats) taken(room string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rooms[room])
}

// settle writes down what the store does not know yet: seats of an earlier process are this one's, and those that were given back
// are free. What fails is left for the next call.
func (s *seats) settle(ctx context.Context) error {
	s.mu.Lock()
	_, err := s.giveBackIn(ctx, func(store.Seat) bool { return true })
	errs := []error{err}
	var restored []*seat
	for _, room := range s.rooms {
		for _, its := range room {
			if !its.until.IsZero() {
				restored = append(restored, its)
			}
		}
	}
	s.mu.Unlock()
	for _, its := range restored {
		errs = append(errs, s.own(ctx, its))
	}
	return errors.Join(errs...)
}

// giveBackIn gives back in the store what is to be given back of such seats, and returns how many those were. It unlocks mu meanwhile.
func (s *seats) giveBackIn(ctx context.Context, such func(store.Seat) bool) (n int, err error) {
	var due []*seat
	for is, its := range s.free {
		if such(is) {
			due = append(due, its)
		}
	}
	for _, its := range due {
		if err := s.giveBack(ctx, its); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// giveBack gives a seat back in the store. It unlocks mu meanwhile.
func (s *seats) giveBack(ctx context.Context, its *seat) error {
	s.mu.Unlock()
	err := s.own(ctx, its)
	if err == nil {
		err = s.store.Free(ctx, its.Seat)
	}
	s.mu.Lock()
	if err == nil {
		delete(s.free, its.Seat)
	}
	return err
}

// crossing gives back what grants that are about to be crossed out have in the store. A seat that somebody still asks for is again
// written down for a short time only. No grant is written down meanwhile.
func (s *seats) crossing(ctx context.Context) error {
	err := s.settle(ctx)
	s.mu.Lock()
	var asked []*seat
	for _, room := range s.rooms {
		for _, its := range room {
			if its.lasting && !its.granted {
				asked = append(asked, its)
			}
		}
	}
	s.mu.Unlock()
	for _, its := range asked {
		kept := s.store.Keep(ctx, its.Seat, s.now().Add(seatFor))
		if err = errors.Join(err, kept); kept == nil {
			s.mu.Lock()
			its.lasting = false
			s.mu.Unlock()
		}
	}
	return err
}

// own makes a seat that an earlier process wrote down one of this process.
func (s *seats) own(ctx context.Context, its *seat) error {
	s.mu.Lock()
	until := its.until
	s.mu.Unlock()
	if until.IsZero() {
		return nil
	}
	err := s.store.Inherit(ctx, its.Seat, until)
	if err == nil {
		s.mu.Lock()
		its.until = time.Time{}
		s.mu.Unlock()
	}
	return err
}

// seat takes a seat for somebody who is let in, if the room has only so many. A host enters a full room without a seat, and services
// take none. The lobby decides about people without an affiliation; usher does not hear who it lets in, so they take none, but nobody
// knocks at a full room. The caller calls c.seats.leave afterwards, whatever has become of the decision.
func (c *Component) seat(ctx context.Context, who jid.JID, d auth.Decision) auth.Decision {
	most, room := d.Rule.MaxOccupants, d.Room.JID.String()
	if d.Reason == auth.ReasonService {
		most = 0
	}
	others := 0
	if most > 0 {
		others = c.seatless(d.Room.JID, who)
	}
	var err error
	switch {
	case d.Affiliation != auth.None:
		err = c.seats.take(ctx, room, who.String(), most, others)
	case most > 0 && c.seats.taken(room)+others >= most:
		err = errFull
	}
	switch {
	case err == nil, errors.Is(err, errFull) && d.Reason == auth.ReasonHost:
		return d
	case errors.Is(err, errFull):
		return d.Denied(auth.ReasonRoomFull, nil)
	default:
		return d.Denied(auth.ReasonStoreUnavailable, err)
	}
}

// seatless returns how many others in a room count and have no seat: those who were let in before the room had a limit, and hosts who
// entered when it was full.
func (c *Component) seatless(room, who jid.JID) (n int) {
	for _, g := range c.ledger.in(room) {
		if g.by().Reason == auth.ReasonService || g.Who.Equal(who) {
			continue
		}
		if _, has := c.seats.of(room.String(), g.Who.String()); !has {
			n++
		}
	}
	return n
}

// errOwnSeat means that the room is full because of somebody's own earlier visit.
var errOwnSeat = errors.New("the seat of an earlier visit from this machine, or by this token, is not free yet")

// gettingSeat lets somebody ask again who finds the room full because of their own earlier visit: their page was loaded anew and the
// server has not noticed yet, or token_reuse is replace and the earlier visit ends now.
func (c *Component) gettingSeat(r *request, d auth.Decision, earlier []*live) auth.Decision {
	if d.Reason != auth.ReasonRoomFull {
		return d
	}
	for _, g := range earlier {
		c.ledger.endings.out(g, byReuse)
	}
	own := len(earlier) > 0
	for _, g := range c.ledger.in(d.Room.JID) {
		own = own || r.by.Machine != (machine{}) && g.by().Machine == r.by.Machine
	}
	if own {
		return d.Denied(auth.ReasonRoomUnavailable, errOwnSeat)
	}
	return d
}
