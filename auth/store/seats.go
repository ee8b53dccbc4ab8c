package store

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"
)

// Seats are the numbered places in rooms that take only so many people. A seat is a record, and a store adds a record once: so
// nobody else gets a seat that is taken, in any process. Seats is safe for concurrent use, and across processes as far as its store
// is.
type Seats struct {
	Store Store
	// Keeper names this process among all that use the store, now and later.
	Keeper string
}

// Seat is a place of somebody in a room.
type Seat struct {
	Room   string // bare JID
	Number int    // from 1 on
	Who    string // bare JID
	// Visit tells one stay of the person from the next. So a late Free of the first does not end the second.
	Visit uint64
}

// seatRecord is what is written down of a seat, beside its key.
type seatRecord struct {
	Who, Keeper string
	Visit       uint64
}

func (s Seats) key(seat Seat) string { return seat.Room + " " + strconv.Itoa(seat.Number) }

// Record returns what is written down of a seat until a time. The caller may put it in the store together with other records, if it
// has the seat.
func (s Seats) Record(seat Seat, until time.Time) (Record, error) {
	value, err := json.Marshal(seatRecord{seat.Who, s.Keeper, seat.Visit})
	return Record{Kind: KindSeat, Key: s.key(seat), Value: value, End: until}, err
}

// Take takes a seat until a time, and reports whether it did. It is free if nobody has it; if this process wrote it down, and stale
// says that its holder does not have it any more; or if another process wrote it down for the same person, who has come here. After
// an error it may be taken or not; the caller treats it as not taken, and stale says so later.
func (s Seats) Take(ctx context.Context, seat Seat, until time.Time, stale func(Seat) bool) (taken bool, err error) {
	r, err := s.Record(seat, until)
	if err != nil {
		return false, err
	}
	for {
		there, added, err := s.Store.Add(ctx, r)
		if err != nil || added {
			return added, err
		}
		var has seatRecord
		if err := json.Unmarshal(there.Value, &has); err != nil {
			return false, nil // of another version of usher; it counts until its end
		}
		holder := Seat{Room: seat.Room, Number: seat.Number, Who: has.Who, Visit: has.Visit}
		if ours := has.Keeper == s.Keeper; ours && !stale(holder) || !ours && has.Who != seat.Who {
			return false, nil
		}
		// It may change between the two calls; then it is looked at again.
		if swapped, err := s.Store.Swap(ctx, there, r); err != nil || swapped {
			return swapped, err
		}
	}
}

// Inherit makes a seat one of this process that another one wrote down for the same person, until a time. It does nothing if that is
// not written down any more.
func (s Seats) Inherit(ctx context.Context, seat Seat, until time.Time) error {
	r, err := s.Record(seat, until)
	if err != nil {
		return err
	}
	there, err := s.Store.Get(ctx, KindSeat, r.Key)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	var has seatRecord
	if err != nil || json.Unmarshal(there.Value, &has) != nil || has.Who != seat.Who || has.Keeper == s.Keeper {
		return err
	}
	_, err = s.Store.Swap(ctx, there, r)
	return err
}

// Keep has a seat written down until a time, from now on. It does nothing if the seat is not this one any more.
func (s Seats) Keep(ctx context.Context, seat Seat, until time.Time) error {
	r, err := s.Record(seat, until)
	if err == nil {
		_, err = s.Store.Swap(ctx, r, r)
	}
	return err
}

// Free gives a seat back. It does nothing if the seat is not this one any more.
func (s Seats) Free(ctx context.Context, seat Seat) error {
	return s.Keep(ctx, seat, time.Unix(0, 0)) // which has passed
}
