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
// A file that is damaged, or of another program, is never written over: it is an error that says what to do.
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

// Bounds. More of a kind than Limit is refused with ErrFull, longer keys and values with an error that says so.
const (
	Limit    = 100_000
	MaxKey   = 8 << 10  // bytes: two JIDs, and something between them
	MaxValue = 16 << 10 // bytes: what a token of 8 kB says, and more
)

var (
	// ErrNotFound means that there is no such record, or that its end has passed.
	ErrNotFound = errors.New("no such record")
	// ErrFull means that there are as many records of the kind as there may be.
	ErrFull = errors.New("the store has no room for more records of this kind")
	// ErrClosed means that the store was closed.
	ErrClosed = errors.New("the store is closed")
)

// Record is something to keep until its end.
type Record struct {
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
	// Put writes a record down, in the place of an earlier one of the key, from whichever process. It returns when the record is
	// safe against the end of the process and, as far as the disk keeps its word, of the machine; whoever asks afterwards, in any
	// process, finds it. After an error the earlier one is still there, unless the store says nothing any more.
	//
	// A record without an end is an error. One whose end has passed is not written down, and the earlier one is gone, as if it
	// had been put in time. It is ErrFull if the key is new and there are Limit records; those that ended in the last second may
	// be counted still.
	Put(ctx context.Context, k Kind, r Record) error
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

// Options are the options of a store. The zero value is right for all but tests.
type Options struct {
	// Now is the clock by which records end; nil for the machine's.
	Now func() time.Time
	// Limit is how many records of a kind there may be; 0 means the constant Limit.
	Limit int
}

func (o Options) orDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Limit == 0 {
		o.Limit = Limit
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

// begin tells whether a call may begin.
func begin(ctx context.Context, k Kind) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return known(k)
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

// sweep says when to look through all records of a kind for those that have ended. Nothing does it on its own: a Put that brings a
// new key does, when there are twice as many records as were left the last time, so that it costs little for each Put and at
// most half of the records (and a few) have ended. When the store is full, it is done once a second at most, for it may be in vain.
type sweep struct {
	next int
	last time.Time
}

func (s *sweep) due(count, limit int, now time.Time) bool {
	if count < limit {
		return count >= s.next
	}
	ago := now.Sub(s.last)
	return ago < 0 || ago >= time.Second // a clock may be put back
}

func (s *sweep) done(left int, now time.Time) {
	s.next, s.last = 2*left+1000, now
}
