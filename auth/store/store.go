// Package store keeps what must outlive a process: sessions, grants, held requests and others, each until its end.
//
// There is one small interface, [Store], and three implementations: [Memory], which forgets all when the process ends, [Open], which
// keeps all in one file, and [Redis], which several ushers share. Package storetest has the tests that every implementation must pass.
// [Sessions], [Revocations], [Used] and [Bars] lie on top of a Store.
//
// # The file
//
// The file is a bbolt file (go.etcd.io/bbolt): pure Go, one file, no server. It stays readable if the process or the machine stops
// in the middle of a write, and many writers share one sync of the disk. One usher at a time may have it open; a second one gets
// an error that says so. Its mode is 0600, because it holds room names and the JIDs of people. Its folder must exist, and usher
// must be allowed to write into it. Session ids are not in it, only their hashes.
//
// Beside the file is a journal, its name with -journal at the end. Grants and sessions, which each join writes, are there first, and in
// the file within a second. So they outlive usher in any case. If the machine itself stops, because its power fails for example, those
// of the last second may be lost, as with a Redis that syncs every second. Everything else, such as a revocation or a logout, is on the
// disk when it is done. An usher that stops removes the journal, and one that starts writes what it has into the file.
//
// To back it up, stop usher and copy the file; a copy made while usher runs may be torn. To start afresh, stop usher and move the
// file away. Then everybody needs the token again, and grants of the last process are not taken back. A journal of another file does no
// harm. The file does not shrink, but new records take the room of ended ones.
//
// Open never overwrites a file that is damaged or belongs to another program: its error says what to do. To know, Open reads the
// whole file: pages.go checks that the pages fit together, and each record has a checksum.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"
)

// Kind is a kind of records. Each kind has keys of its own.
type Kind string

// The kinds of records.
const (
	KindSession    Kind = "session"
	KindGrant      Kind = "grant"
	KindHeld       Kind = "held"       // requests that wait for an answer
	KindLease      Kind = "lease"      // which of several ushers is active
	KindRevocation Kind = "revocation" // rights that were taken back
	KindUsed       Kind = "used"       // one-time tokens that have let somebody in
	KindBar        Kind = "kick"       // people who were kicked or banned
	KindSeat       Kind = "seat"       // places in rooms that have only so many
	KindRoom       Kind = "room"       // what is remembered of a room: when it began, when its last host left
	KindWebhook    Kind = "webhook"    // events that a webhook has not taken yet
	KindLink       Kind = "link"       // one-time links, by the hash of their code
	KindLogin      Kind = "login"      // sessions of the portal, by a part of the hash of their cookie
	KindFlow       Kind = "login-flow" // logins at a provider that are under way, by the hash of their state
)

// shares are the parts of a store's bytes that the kinds have, in 64ths. So one kind leaves room for the others. Their records differ
// in number: a person has a session and a grant for hours, and a request for a minute.
var shares = map[Kind]int64{
	KindSession: 20, KindGrant: 20, KindHeld: 5, KindWebhook: 3, KindUsed: 3, KindSeat: 3, KindLogin: 3, KindRevocation: 2, KindBar: 1,
	KindRoom: 1, KindLink: 1, KindFlow: 1, KindLease: 1,
}

// kinds are all kinds, in order.
var kinds = slices.Sorted(maps.Keys(shares))

// Bounds of a record in bytes. A larger one is refused with an error that says so.
const (
	MaxKey   = 8 << 10  // room for two JIDs and a separator
	MaxValue = 16 << 10 // room for the claims of a token of 8 kB
)

// MaxBytes and MaxMemory cap the bytes that [Open] and [Memory] use, unless the Options say otherwise. A session or a grant has
// about 400 bytes, and uses 600 in memory and 1,100 in a file. So a file holds 300,000 of each, and memory 140,000.
const (
	MaxBytes  = 1 << 30
	MaxMemory = 256 << 20
)

var (
	// ErrNotFound means that there is no such record, or that its end has passed.
	ErrNotFound = errors.New("no such record")
	// ErrFull means that the store, its disk or the memory of its server has no room. See FullError.
	ErrFull = errors.New("the store is full")
	// ErrInUse means that another usher has the file open.
	ErrInUse = errors.New("another usher uses it")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// FullError is an ErrFull that says which kind has no room.
type FullError struct {
	// Kind is the kind that has used up its bytes; empty if there is no room for any.
	Kind Kind
	// Err is the error of the disk or the server; nil if Kind is not empty.
	Err error
}

func (e *FullError) Error() string {
	if e.Kind == "" {
		return fmt.Sprintf("%v: %v", ErrFull, e.Err)
	}
	return fmt.Sprintf("%v: no room for another record of kind %q; raise store.max_size", ErrFull, e.Kind)
}

// Unwrap lets errors.Is find ErrFull and Err.
func (e *FullError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrFull}
	}
	return []error{ErrFull, e.Err}
}

// Record is kept until its end.
type Record struct {
	// Kind is the kind of the record. Get and All set it, too.
	Kind Kind
	// Key has at least one and at most MaxKey bytes.
	Key string
	// Value means what the caller of Put wants; at most MaxValue bytes.
	Value []byte
	// End is the time from which the record is gone. The store keeps it to the nanosecond, and returns it in UTC.
	End time.Time
}

// Event tells all processes that share a store of a change, so that they need not look for it.
type Event struct {
	What string // such as "revoked"; not empty
	Key  string // what it is about; its meaning depends on What
}

// Store keeps records until their ends, and passes events on. It is safe for concurrent use.
//
// Several processes may share a store if its backend can do that, as Redis can. The promises of the methods hold across processes:
// there is one order of the changes of a key, and no process caches. The store's clock says whether an end has passed: the clock of
// the process, or of the server that they share.
//
// A context that is done stops calls that have not begun. A call that has begun is finished, unless the store's server cannot be
// reached. After ErrUnreachable a change may be done, or even be done later. After Add or Swap the value that is there tells whether
// it was done, if each caller has a value of its own.
type Store interface {
	// Put writes records, all of them or, after an error, none. Each replaces an earlier one of its kind and key, from any process.
	// Put returns when the records survive the end of the process and, as far as the disk keeps its word, of the machine; grants and
	// sessions survive the latter after a second. A later Get, in any process, finds them. After an error the earlier records are still
	// there, unless the store fails altogether.
	//
	// A record without an end is an error. A record that has ended is not written, and the earlier one is gone, as if Put had been
	// called in time. The error is a FullError if a record is new and there is no room. Records that ended in the last seconds may
	// still use room.
	Put(ctx context.Context, records ...Record) error
	// Add puts a record unless a live one of its kind and key is there; then it returns that one and false. Of several that add the
	// same at once, in any process, one gets true. Errors are those of Put. A record that has ended is not written, but Add reports
	// true unless a live one is there.
	Add(ctx context.Context, r Record) (there Record, added bool, err error)
	// Swap puts new in the place of old if the live record of that kind and key still has old's value, byte for byte. It reports
	// whether it did. If new has ended, old is deleted. Kind and key of both must be the same. The end of old does not matter.
	Swap(ctx context.Context, old, new Record) (swapped bool, err error)
	// Get returns the record of the key. The error is ErrNotFound if there is none or its end has passed. The caller may change
	// the value.
	Get(ctx context.Context, k Kind, key string) (Record, error)
	// Delete deletes the records of the keys. A key without a record is no error. After an error some of them may be deleted.
	// Delete returns when that is as safe as a Put, or safer. A later Get, in any process, does not find them.
	Delete(ctx context.Context, k Kind, keys ...string) error
	// All yields the records of a kind that have not ended, in any order. The store may be changed during the loop. A record that
	// is there from the beginning to the end is yielded once. One that any process adds, changes or deletes meanwhile is yielded
	// as it was before or after, or not at all. An error is yielded last; then records may be missing.
	All(ctx context.Context, k Kind) iter.Seq2[Record, error]
	// Append tells an event to all who follow, in every process with this store. Changes that were made before are seen by them.
	// An event without What is an error, as is one that is larger than MaxKey.
	Append(ctx context.Context, e Event) error
	// Follow yields the events that are appended after its first yield, in one order for all who follow. The first yield is a zero
	// Event: Follow has begun, and nothing is missed that is appended from now on. The loop ends when ctx is done or the store is
	// closed.
	//
	// An error is yielded if events may have been missed, because the loop was too slow or the store has lost some. Then the caller
	// reads again what it knows from events. The loop goes on with the events that are appended after that yield.
	Follow(ctx context.Context) iter.Seq2[Event, error]
	// Close closes the store. Calls that have begun are finished, later calls return ErrClosed. Closing it again does nothing.
	Close() error
}

// Options are the options of a store. The zero value has the defaults.
type Options struct {
	// Now is the clock by which records end; nil means the machine's.
	Now func() time.Time
	// MaxBytes caps the bytes of the store, in its file or in memory; 0 means the default. Each kind has a part of them, so that it
	// leaves room for the others: sessions and grants have 20 of 64 each, held requests 5, events for webhooks, used tokens,
	// seats and sessions of the portal 3 each, revocations 2, and all others 1.
	MaxBytes int64
	// Patience is how long Open waits for another usher to close the file; 0 means 3 s.
	Patience time.Duration
	// Warn is called when a kind uses more than four fifths of its bytes, and again only if it has fallen below 70 % in between.
	// Nil means no warning. Warn must not block, nor call the store.
	Warn func(k Kind, bytes, of int64)
	// Late is called with the error when the file of a store cannot take what its journal has, and again only if it could in between. It
	// is tried again each second. Nil means that nobody wants to know. Late must not block, nor call the store.
	Late func(err error)
}

func (o Options) orDefaults(bytes int64) Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience == 0 {
		o.Patience = lockTimeout
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = bytes
	}
	if o.Warn == nil {
		o.Warn = func(Kind, int64, int64) {}
	}
	if o.Late == nil {
		o.Late = func(error) {}
	}
	return o
}

// known returns an error if there is no such kind.
func known(k Kind) error {
	if shares[k] == 0 {
		return fmt.Errorf("the store knows no records of kind %q", k)
	}
	return nil
}

// begin returns an error if a call may not begin.
func begin(ctx context.Context, k Kind) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return known(k)
}

// beginPut returns an error if a Put may not begin.
func beginPut(ctx context.Context, records []Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, r := range records {
		if err := known(r.Kind); err != nil {
			return err
		}
		if err := fit(r); err != nil {
			return err
		}
	}
	return nil
}

// beginSwap returns an error if a Swap may not begin.
func beginSwap(ctx context.Context, old, new Record) error {
	if old.Kind != new.Kind || old.Key != new.Key {
		return errors.New("a record can only take the place of one of its kind and key")
	}
	return beginPut(ctx, []Record{new})
}

// beginAppend returns an error if an Append may not begin.
func beginAppend(ctx context.Context, e Event) error {
	switch n := len(e.What) + len(e.Key); {
	case ctx.Err() != nil:
		return ctx.Err()
	case e.What == "":
		return errors.New("an event needs a What")
	case n > MaxKey:
		return fmt.Errorf("an event has %d bytes; at most %d are passed on", n, MaxKey)
	}
	return nil
}

// fit returns an error if a record may not be put. Errors quote nothing of the record.
func fit(r Record) error {
	switch {
	case r.Key == "":
		return errors.New("a record needs a key")
	case len(r.Key) > MaxKey:
		return fmt.Errorf("the key of a record has %d bytes; at most %d are kept", len(r.Key), MaxKey)
	case len(r.Value) > MaxValue:
		return fmt.Errorf("a record has %d bytes; at most %d are kept", len(r.Value), MaxValue)
	case r.End.IsZero():
		return errors.New("a record needs an end")
	}
	return nil
}

// account keeps count of the bytes of one kind.
//
// No timer deletes ended records. A Put of a new record sweeps its kind when the kind uses twice as many bytes as the last sweep
// left. So sweeping costs each Put little, and at most about half of the records have ended. A sweep of a kind that is nearly full
// may find nothing and takes a few microseconds a record, so such sweeps are rare.
type account struct {
	kind      Kind
	bytes, of int64
	records   int64
	next      int64 // the bytes that make the next sweep due
	last      time.Time
	pause     time.Duration // between last and the next sweep, when the kind is nearly full
	warned    bool
}

const (
	sweepAfter  = 256 << 10             // bytes, beyond twice what the last sweep left
	sweepPause  = time.Second           // and, when the kind is nearly full,
	sweepRecord = 20 * time.Microsecond // for each record that the last sweep read
)

func accounts(o Options) map[Kind]*account {
	all := make(map[Kind]*account)
	for k, share := range shares {
		all[k] = &account{kind: k, of: o.MaxBytes / 64 * share, next: sweepAfter}
	}
	return all
}

// due reports whether to sweep before n bytes are added.
func (a *account) due(n int64, now time.Time) bool {
	if a.bytes+n <= a.of/5*4 {
		return a.bytes+n > a.next
	}
	ago := now.Sub(a.last)
	return ago < 0 || ago >= a.pause // somebody may set the clock back
}

// swept notes that a sweep has read that many records and left that many bytes.
func (a *account) swept(left int64, records int, now time.Time) {
	a.bytes, a.next = left, 2*left+sweepAfter
	a.last, a.pause = now, sweepPause+time.Duration(records)*sweepRecord
}

// add counts another record of n bytes, and less one that is gone.
func (a *account) add(n int64) {
	a.bytes += n
	a.records++
}

func (a *account) less(n int64) {
	a.bytes -= n
	a.records--
}

func (a *account) fits(n int64) bool { return a.bytes+n <= a.of }

// warn calls Warn when the kind is nearly full. The caller must hold no lock that Warn could wait for.
func (a *account) warn(o Options) {
	switch {
	case a.bytes < a.of/10*7:
		a.warned = false
	case a.bytes > a.of/5*4 && !a.warned:
		a.warned = true
		o.Warn(a.kind, a.bytes, a.of)
	}
}
