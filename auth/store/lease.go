package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

// LeaseLife is how long a lease lasts without being renewed, unless the Lease says otherwise. A standby takes over at most that long
// after the active usher has died, and a tenth of a second more.
const LeaseLife = 1500 * time.Millisecond

// leaseKept is how long the record of a lease stays in the store after it was last renewed. It is much longer than the lease lives,
// because the record keeps the number of the last tenure, and because no clock but a standby's own says when a lease has ended.
const leaseKept = 366 * 24 * time.Hour

// ErrLost means that a tenure is over because another usher has the lease, or could have it: this process was frozen.
var ErrLost = errors.New("another usher has become the active one")

// ErrStandby means that a write was refused because this usher is not the active one, or does not know whether it is.
var ErrStandby = errors.New("this usher is not the active one")

// Lease decides which of the ushers of one component is the active one. All of them share a Store.
//
// The lease is one record. It names the holder, and has the number of the tenure and a beat that every renewal changes. A holder
// counts its life from before it asked the store to renew it. A standby takes the lease only when it has seen the record unchanged
// for a whole life, by its own monotonic clock, and only from the value that it has seen (Swap). So a holder never holds the lease
// when another can take it, and that depends on no wall clock: not on that of the holder, nor on that of the store's server, nor on
// both being the same. Only the rates of the machines' clocks must agree to a twentieth.
//
// If the record is not there, a standby puts a mark in its place, and counts a life from then on: a holder that lives takes the mark
// for its own record, and renews it. A standby that could not reach the store counts the life anew, too. So the two never change
// places because the store went away or lost its records.
//
// A holder that stops gives the lease back, and a standby then takes it at once.
type Lease struct {
	// Store is shared by the ushers, and keeps the record of the lease.
	Store interface {
		Get(ctx context.Context, k Kind, key string) (Record, error)
		Add(ctx context.Context, r Record) (there Record, added bool, err error)
		Swap(ctx context.Context, old, new Record) (swapped bool, err error)
	}
	// Name is that of the shard: its server and the ushers beside it.
	Name string
	// Self names this process to people: its machine, for example.
	Self string
	// Life is how long the lease lasts without being renewed; 0 means LeaseLife. It must be the same for all ushers.
	Life time.Duration
	// Waits is called by Take whenever the cause changes for which it waits: the name of the active usher, empty if nobody is known
	// to be active, or the error of a store that cannot be reached. Nil means that nobody wants to know.
	Waits func(active string, err error)
	// Away is called by Keep with the error when the lease is not held any more because the store cannot be reached, and with nil
	// when it is held again. Nil means that nobody wants to know.
	Away func(err error)

	clock   *clock // nil for the machine's
	highest uint64 // the highest number seen
	last    string // the id of the last tenure of this Lease, which is over
}

// clock is how the time is read and waited for.
type clock struct {
	wall  func() time.Time
	mono  func() time.Duration // since any moment; it never goes back and is never set
	after func(time.Duration) <-chan time.Time
}

var machineClock = func() *clock {
	began := time.Now()
	return &clock{
		wall:  func() time.Time { return time.Now().Round(0) },
		mono:  func() time.Duration { return time.Since(began) },
		after: time.After,
	}
}()

// moment is a time by both clocks. The monotonic clock does not go on while the machine is suspended, and the wall clock may be set.
type moment struct {
	wall time.Time
	mono time.Duration
}

func (c *clock) now() moment { return moment{c.wall(), c.mono()} }

func (m moment) add(d time.Duration) moment { return moment{m.wall.Add(d), m.mono + d} }

// before reports whether m is before n by both clocks.
func (m moment) before(n moment) bool { return m.wall.Before(n.wall) && m.mono < n.mono }

// leaseRecord is the value of the record of a lease.
type leaseRecord struct {
	// ID is different for each tenure; empty if the lease was given back, or in a mark.
	ID string `json:"id,omitempty"`
	// Mark is different for each mark; empty in what is none.
	Mark string `json:"mark,omitempty"`
	// Self names the holder to people.
	Self   string `json:"holder,omitempty"`
	Number uint64 `json:"number"`
	Beat   uint64 `json:"beat"`
}

func (l *Lease) life() time.Duration { return cmp.Or(l.Life, LeaseLife) }

func (l *Lease) time() *clock { return cmp.Or(l.clock, machineClock) }

// poll is the interval at which a standby looks at the lease, and at which a holder finds out whether it was frozen.
func (l *Lease) poll() time.Duration { return l.life() / 15 }

// record returns the record of a lease.
func (l *Lease) record(v leaseRecord) Record {
	value, _ := json.Marshal(v) // cannot fail: texts and numbers
	return Record{Kind: KindLease, Key: l.Name, Value: value, End: l.time().wall().Add(leaseKept)}
}

// seen is what a standby has seen of a lease.
type seen struct {
	record Record // without a value if there is none
	lease  leaseRecord
	known  bool
	since  time.Duration // by the monotonic clock
}

// look reads the lease.
func (s *seen) look(ctx context.Context, l *Lease) error {
	r, err := l.Store.Get(ctx, KindLease, l.Name)
	if errors.Is(err, ErrNotFound) {
		r, err = Record{}, nil
	}
	if err != nil {
		s.known = false
		return err
	}
	if s.known && string(r.Value) == string(s.record.Value) {
		return nil
	}
	*s = seen{record: r, known: true, since: l.time().mono()}
	if len(r.Value) == 0 {
		return nil
	}
	if json.Unmarshal(r.Value, &s.lease) != nil {
		s.lease = leaseRecord{ID: "?"} // of nobody who will renew it, perhaps
	}
	return nil
}

// Take returns when this usher is the active one. The error is that of ctx. The caller must call [Tenure.Keep] at once, which
// renews the lease and gives it back. Take must not be called while a tenure of this Lease lasts.
func (l *Lease) Take(ctx context.Context) (*Tenure, error) {
	var s seen
	w := waits{tell: l.Waits}
	t := &Tenure{l: l, id: rand.Text(), lost: make(chan struct{})}
	for {
		taken, wait, err := l.try(ctx, t, &s)
		if taken {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		w.say(s.lease.Self, err)
		select {
		case <-l.time().after(wait):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// waits tells of the cause for which Take waits when it changes.
type waits struct {
	tell   func(active string, err error)
	active string
	failed bool
	told   bool
}

func (w *waits) say(active string, err error) {
	if w.tell == nil || w.told && w.active == active && w.failed == (err != nil) {
		return
	}
	w.active, w.failed, w.told = active, err != nil, true
	if err != nil {
		active = ""
	}
	w.tell(active, err)
}

// try looks at the lease, and takes it for the tenure if it may. If not, it returns the time after which to try again.
func (l *Lease) try(ctx context.Context, t *Tenure, s *seen) (taken bool, wait time.Duration, err error) {
	if err := s.look(ctx, l); err != nil {
		return false, l.poll(), err
	}
	free := s.lease == leaseRecord{Number: s.lease.Number, Beat: s.lease.Beat} // given back
	free = free || l.last != "" && s.lease.ID == l.last                        // an usher that was frozen, and nobody has taken its place
	free = free && s.lease.Number >= l.highest                                 // a store that has lost its last writes shows what was before others took it
	l.highest = max(l.highest, s.lease.Number)
	if s.record.Value == nil {
		// That it is not there, twice, does not mean that it was never there in between.
		_, _, err := l.Store.Add(ctx, l.record(leaseRecord{Mark: rand.Text(), Number: l.highest}))
		return false, l.poll(), err
	}
	if s.lease.ID == t.id {
		// An attempt that ended in an error has been successful, some time ago. The lease is held once it is renewed.
		t.begins(s.lease, s.record, moment{})
		return true, 0, nil
	}
	if left := s.since + l.life() - l.time().mono(); !free && left > 0 {
		return false, min(left, l.poll()), nil
	}
	t.beat++
	v := leaseRecord{ID: t.id, Self: l.Self, Number: l.highest + 1, Beat: t.beat}
	r, asked := l.record(v), l.time().now()
	taken, err = l.Store.Swap(ctx, s.record, r)
	switch {
	case err != nil:
		s.known = false
	case taken:
		t.begins(v, r, asked)
	}
	return taken && err == nil, l.poll(), err
}

// Holder returns the name (Self) of an usher that renews the lease, and whether there is one. It changes nothing. It watches the lease for
// as long as the lease lives, if nobody renews it before.
func (l *Lease) Holder(ctx context.Context) (self string, held bool, err error) {
	var s seen
	if err := s.look(ctx, l); err != nil {
		return "", false, err
	}
	first := s.record.Value
	for began := l.time().mono(); l.time().mono()-began < l.life(); {
		select {
		case <-l.time().after(l.poll()):
		case <-ctx.Done():
			return "", false, ctx.Err()
		}
		if err := s.look(ctx, l); err != nil {
			return "", false, err
		}
		if s.lease.ID != "" && string(s.record.Value) != string(first) {
			return s.lease.Self, true, nil
		}
	}
	return "", false, nil
}

// Tenure is the time during which one usher is the active one. Its methods may be called by any goroutine.
type Tenure struct {
	// Number grows from tenure to tenure.
	Number uint64

	l    *Lease
	id   string
	beat uint64 // of the last attempt to write; each has its own, so that no two records of a tenure are the same
	lost chan struct{}

	mu     sync.Mutex
	record Record        // what the store has, as far as is known
	doubt  bool          // a write ended in an error: the store may have another
	asked  time.Duration // before the last renewal
	until  moment        // the lease is held until then
	awake  time.Duration // when this process was last known not to be frozen
	over   bool          // lost, or given back
}

// begins begins the tenure with what the store has since it was asked for it.
func (t *Tenure) begins(v leaseRecord, r Record, asked moment) {
	t.Number, t.awake, t.l.last = v.Number, t.l.time().mono(), t.id
	t.l.highest = max(t.l.highest, v.Number)
	t.renewed(r, asked)
}

// renewed notes that the store has a new record.
func (t *Tenure) renewed(r Record, asked moment) {
	t.mu.Lock()
	defer t.mu.Unlock()
	life := t.l.life()
	t.record, t.doubt = r, false
	t.asked, t.until = asked.mono, asked.add(life-life/20)
}

// Held reports whether this usher is the active one now. It is false, too, while the store cannot be reached for longer than the
// lease lives, because another usher may have taken the lease. Both clocks count: the monotonic one stands still while the machine is
// suspended, and the wall clock may be put back.
func (t *Tenure) Held() bool {
	now := t.l.time().now()
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.gone(now.mono) && now.before(t.until)
}

// Gone reports whether the tenure is over, for good. It is over at the latest when a process that was frozen for longer than the
// lease lives is about to do something: another usher may be active by then, and this one must not even finish what it has begun.
func (t *Tenure) Gone() bool {
	now := t.l.time().mono()
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.gone(now)
}

// gone is Gone for callers that hold mu. The wall clock does not count here: it may be set without any harm.
func (t *Tenure) gone(now time.Duration) bool {
	if !t.over && now-t.awake > t.l.life() {
		t.end()
	}
	return t.over
}

// end ends the tenure. The caller holds mu.
func (t *Tenure) end() {
	if !t.over {
		t.over = true
		close(t.lost)
	}
}

// Lost is closed when the tenure is over and was not given back.
func (t *Tenure) Lost() <-chan struct{} { return t.lost }

// Keep renews the lease at a third of its life until ctx ends, and then gives it back and returns nil. If the tenure is over before
// that, it returns ErrLost. While the store cannot be reached, Keep goes on trying: the tenure is neither held nor over.
func (t *Tenure) Keep(ctx context.Context) error {
	renewing, end := context.WithCancel(ctx)
	var pulse sync.WaitGroup
	pulse.Go(func() { t.pulse(renewing) })
	away := false
	for {
		select {
		case <-renewing.Done():
		case <-t.lost:
		case <-t.l.time().after(t.pause()):
			err := t.renew(renewing)
			if t.l.Away != nil && renewing.Err() == nil && !t.Gone() && away == (err == nil) && t.Held() == away {
				away = !away
				t.l.Away(err)
			}
			continue
		}
		break
	}
	end()
	pulse.Wait()
	t.mu.Lock()
	over := t.over
	t.over = true // before anybody else can have it; Lost stays open
	t.mu.Unlock()
	if over {
		return ErrLost
	}
	giving, cancel := context.WithTimeout(context.WithoutCancel(ctx), t.l.life())
	defer cancel()
	// If this fails, the others wait until the lease has lived out its life.
	_ = t.write(giving, leaseRecord{Number: t.Number})
	return nil
}

// pulse notes that the process is not frozen.
func (t *Tenure) pulse(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.lost:
			return
		case <-t.l.time().after(t.l.poll()):
		}
		now := t.l.time().mono()
		t.mu.Lock()
		if !t.gone(now) {
			t.awake = now
		}
		t.mu.Unlock()
	}
}

// pause returns the time until the lease is to be renewed. A lease that is not held is tried more often: the store may be back, or
// the wall clock may have been set.
func (t *Tenure) pause() time.Duration {
	now := t.l.time().now()
	t.mu.Lock()
	defer t.mu.Unlock()
	due := t.asked + t.l.life()/3 - now.mono
	if t.doubt || !now.before(t.until) {
		due = t.l.poll()
	}
	return max(due, time.Millisecond)
}

// renew renews the lease, if the store can be reached.
func (t *Tenure) renew(ctx context.Context) error {
	// A store that does not answer is asked again, on another connection.
	ctx, cancel := context.WithTimeout(ctx, t.l.life())
	defer cancel()
	t.mu.Lock()
	v := leaseRecord{ID: t.id, Self: t.l.Self, Number: t.Number}
	t.mu.Unlock()
	err := t.write(ctx, v)
	if errors.Is(err, ErrLost) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.end()
	}
	return err
}

// write puts another value in place of the one that the store has. The error is ErrLost if that is another usher's. After any other
// error the store may have either.
func (t *Tenure) write(ctx context.Context, v leaseRecord) error {
	for range 3 {
		t.mu.Lock()
		old, doubt := t.record, t.doubt
		t.mu.Unlock()
		recovers := false
		if doubt {
			var err error
			if old, recovers, err = t.look(ctx); err != nil {
				return err
			}
			if recovers && !t.Held() {
				return ErrLost // others may have had the lease before the store lost its records
			}
		}
		t.beat++
		v.Beat = t.beat
		asked, r := t.l.time().now(), t.l.record(v)
		var done bool
		var err error
		if old.Value == nil {
			_, done, err = t.l.Store.Add(ctx, r)
		} else {
			done, err = t.l.Store.Swap(ctx, old, r)
		}
		if done && err == nil {
			t.renewed(r, asked)
			if recovers && !t.Held() {
				return ErrLost
			}
			return nil
		}
		t.mu.Lock()
		t.doubt = true
		t.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("the lease of %s changes while it is read", t.l.Name)
}

// look returns the record of the lease; one without a value if there is none. The error is ErrLost if it is another tenure's. It
// reports whether the store has lost that of this tenure.
func (t *Tenure) look(ctx context.Context) (r Record, lacks bool, err error) {
	var s seen
	if err := s.look(ctx, t.l); err != nil {
		return Record{}, false, err
	}
	lacks = s.record.Value == nil || s.lease.Mark != ""
	if !lacks && s.lease.ID != t.id {
		return Record{}, false, ErrLost
	}
	return s.record, lacks, nil
}

// Fenced returns the store as the active usher may write it: while the tenure is not held, writes are refused with ErrStandby. So an
// usher that was frozen does not write over what the next one has written. Held requests are an exception: an usher that stops writes
// down requests that it has not answered, and the next one answers them.
func Fenced(s Store, held func() bool) Store { return fenced{s, held} }

type fenced struct {
	Store
	held func() bool
}

// sizes and none implement sized.
func (f fenced) sizes() []Size    { return Sizes(f.Store) }
func (f fenced) none(k Kind) bool { return none(f.Store, k) }

func (f fenced) may(k Kind) error {
	if k != KindHeld && !f.held() {
		return ErrStandby
	}
	return nil
}

func (f fenced) Put(ctx context.Context, records ...Record) error {
	for _, r := range records {
		if err := f.may(r.Kind); err != nil {
			return err
		}
	}
	return f.Store.Put(ctx, records...)
}

func (f fenced) Add(ctx context.Context, r Record) (there Record, added bool, err error) {
	if err := f.may(r.Kind); err != nil {
		return Record{}, false, err
	}
	return f.Store.Add(ctx, r)
}

func (f fenced) Swap(ctx context.Context, old, new Record) (swapped bool, err error) {
	if err := f.may(new.Kind); err != nil {
		return false, err
	}
	return f.Store.Swap(ctx, old, new)
}

func (f fenced) Delete(ctx context.Context, k Kind, keys ...string) error {
	if err := f.may(k); err != nil {
		return err
	}
	return f.Store.Delete(ctx, k, keys...)
}
