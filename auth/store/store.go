// Package store keeps what must outlive a process: sessions, grants and held requests, each until its end.
//
// There is one small interface, [Store], and two of them: [Memory], which forgets with the process, and [Open], which keeps all
// in one file. What they have in common is written down as tests in package storetest, for others to pass, too. On top of it lies
// what needs more than bytes: [Sessions].
//
// # The file
//
// The file is a bbolt file (go.etcd.io/bbolt): pure Go, one file, no server, readable at any moment whatever happened to
// the process or the machine while it was written, and many writers share one sync of the disk. One usher at a time may
// have it open; a second one is told so. It is made with mode 0600, for it holds room names and the JIDs of people;
// its folder has to exist, and usher must be allowed to write into it. Session ids are not in it, only their hashes.
//
// To back it up, copy it while usher is stopped; a copy made while usher runs may be torn. To start afresh, move it away while
// usher is stopped. Then everybody needs the token again, and what the last process granted is not taken back. The file does not
// shrink, but what has ended leaves room for what comes.
//
// A file that is damaged, or of another program, is never written over: it is an error that says what to do. Open reads all of it to
// know: pages.go checks how its pages hang together, and each record has a checksum.
package store

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"
)

// Kind is a kind of records. Keys of different kinds have nothing to do with each other.
type Kind string

// The kinds of records.
const (
	KindSession Kind = "session"
	KindGrant   Kind = "grant"
	KindHeld    Kind = "held" // requests that wait for an answer
)

var kinds = [...]Kind{KindSession, KindGrant, KindHeld}

// Bounds of a record in bytes. A larger one is refused with an error that says so.
const (
	MaxKey   = 8 << 10  // two JIDs, and something between them
	MaxValue = 16 << 10 // what a token of 8 kB says, and more
)

// MaxBytes and MaxMemory are how many bytes [Open] and [Memory] take up at most, unless the Options say otherwise. A session or a
// grant has about 400 bytes, and takes up 600 in memory and 1,100 in a file, so these are 400,000 of each in a file and 170,000 in
// memory.
const (
	MaxBytes  = 1 << 30
	MaxMemory = 256 << 20
)

var (
	// ErrNotFound means that there is no such record, or that its end has passed.
	ErrNotFound = errors.New("no such record")
	// ErrFull means that there is no room. See FullError.
	ErrFull = errors.New("the store is full")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// FullError is an ErrFull, with the kind that has no room.
type FullError struct {
	// Kind is the kind that takes up as many bytes as it may; empty if the disk is full and no kind has room.
	Kind Kind
	// Err is what the disk said; nil if Kind is not empty.
	Err error
}

func (e *FullError) Error() string {
	if e.Kind == "" {
		return fmt.Sprintf("the disk is full: %v", e.Err)
	}
	return fmt.Sprintf("%v: no room for another record of kind %q; raise store.max_size", ErrFull, e.Kind)
}

// Unwrap has errors.Is find ErrFull, and what the disk said.
func (e *FullError) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrFull}
	}
	return []error{ErrFull, e.Err}
}

// Record is something to keep until its end.
type Record struct {
	// Kind is the kind of the record. Get and All set it, too.
	Kind Kind
	// Key is what it is found by, at least one and at most MaxKey bytes.
	Key string
	// Value is up to whoever put it there, at most MaxValue bytes.
	Value []byte
	// End is when the record is no more. It is kept to the nanosecond, and read as UTC.
	End time.Time
}

// Store keeps records until their ends. It is safe for concurrent use.
//
// Several processes may share a store, if its backend can do that (none of this package's can). What a method promises, it
// promises across them: there is one order in which Put and Delete happened to a key, and nothing is kept back in a process. Whether
// an end has passed is told by the store's clock, which processes share as far as their machines' clocks agree.
//
// A context that is done stops what has not begun. What has begun is finished, so that a caller always knows whether it was
// done.
type Store interface {
	// Put writes records down, all of them or, after an error, none. Each takes the place of an earlier one of its kind and key,
	// from any process. It returns when the records are safe against the end of the process and, as far as the disk keeps its
	// word, of the machine; a Get afterwards, in any process, finds them. After an error the earlier ones are still there, unless
	// the store says nothing any more.
	//
	// A record without an end is an error. One that has ended is not written down, and the earlier one is gone, as if it had been
	// put in time. The error is a FullError if a record is new and its kind has no room, or the disk has none; records that ended
	// in the last seconds may take up room still.
	Put(ctx context.Context, records ...Record) error
	// Get returns the record of the key. It is ErrNotFound if there is none, or its end has passed. The value is the
	// caller's.
	Get(ctx context.Context, k Kind, key string) (Record, error)
	// Delete takes away the records of the keys. That there is none is no error. It returns when that is safe, and all of them are
	// gone or, after an error, none. Whoever asks afterwards, in any process, does not find them.
	Delete(ctx context.Context, k Kind, keys ...string) error
	// All yields the records of a kind whose end has not passed, in the order of the bytes of their keys. Put and Delete may be
	// called while ranging over it. A record that is there from the beginning to the end is yielded once; one that comes,
	// changes or goes meanwhile, in whichever process, as it was before or after. An error is the last that is yielded.
	All(ctx context.Context, k Kind) iter.Seq2[Record, error]
	// Close lets the store go. Calls that have begun are finished, later ones are ErrClosed. Closing it again does
	// nothing.
	Close() error
}

// Options are the options of a store. The zero value has the defaults.
type Options struct {
	// Now is the clock by which records end; nil for the machine's.
	Now func() time.Time
	// MaxBytes is how many bytes the store may take up, in its file or in memory; 0 for the default. Sessions have a half of
	// them, grants three eighths and held requests an eighth, so that one kind leaves room for the others.
	MaxBytes int64
	// Warn is told when a kind takes up four fifths of its bytes, and again only once it has fallen below 70 % in between; nil for
	// nobody. It must not block, nor call the store.
	Warn func(k Kind, bytes, of int64)
}

func (o Options) orDefaults(bytes int64) Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = bytes
	}
	if o.Warn == nil {
		o.Warn = func(Kind, int64, int64) {}
	}
	return o
}

// known is an error if there is no such kind.
func known(k Kind) error {
	for _, each := range kinds {
		if k == each {
			return nil
		}
	}
	return fmt.Errorf("the store knows no records of kind %q", k)
}

// begin reports why a call may not begin.
func begin(ctx context.Context, k Kind) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return known(k)
}

// beginPut reports why a Put may not begin.
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

// fit tells whether a record may be put. Its errors hold nothing of what is in the record.
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
// Nothing takes away records that have ended on its own. A Put of a new record looks through all of its kind for them when the
// kind takes up twice as many bytes as were left the last time, so that this costs each Put little and about half of the records
// at most have ended. When the kind is nearly full this may be in vain, so it is done seldom: it takes a few microseconds a record.
type account struct {
	kind      Kind
	bytes, of int64
	next      int64 // how many bytes make the next look due
	last      time.Time
	pause     time.Duration // how long to wait after last when the kind is nearly full
	warned    bool
}

const (
	sweepAfter  = 256 << 10             // bytes, beyond twice what was left
	sweepPause  = time.Second           // and
	sweepRecord = 20 * time.Microsecond // for each record that was looked at
)

func accounts(o Options) map[Kind]*account {
	all := make(map[Kind]*account)
	for k, eighths := range map[Kind]int64{KindSession: 4, KindGrant: 3, KindHeld: 1} {
		all[k] = &account{kind: k, of: o.MaxBytes / 8 * eighths, next: sweepAfter}
	}
	return all
}

// due reports whether to look for ended records before n bytes are added.
func (a *account) due(n int64, now time.Time) bool {
	if a.bytes+n <= a.of/5*4 {
		return a.bytes+n > a.next
	}
	ago := now.Sub(a.last)
	return ago < 0 || ago >= a.pause // a clock may be put back
}

// swept notes that a look has left that many bytes, in that many records.
func (a *account) swept(left int64, records int, now time.Time) {
	a.bytes, a.next = left, 2*left+sweepAfter
	a.last, a.pause = now, sweepPause+time.Duration(records)*sweepRecord
}

func (a *account) fits(n int64) bool { return a.bytes+n <= a.of }

// warn tells when the kind is nearly full. The caller holds no lock that Warn could wait for.
func (a *account) warn(o Options) {
	switch {
	case a.bytes < a.of/10*7:
		a.warned = false
	case a.bytes > a.of/5*4 && !a.warned:
		a.warned = true
		o.Warn(a.kind, a.bytes, a.of)
	}
}
