package store

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
)

// keptEvents is the number of events that a store keeps for those who follow. Somebody who is further behind has missed some.
const keptEvents = 10_000

// errMissed is what Follow yields to somebody who has missed events.
var errMissed = errors.New("events of the store may have been missed")

// feed passes events on inside of this process. It implements two methods of Store.
type feed struct {
	mu     sync.Mutex
	events []Event       // the last ones, at most keptEvents
	gone   int           // the number of events before them
	more   chan struct{} // closed when there are more events, or the feed is closed
	closed bool
}

func newFeed() *feed { return &feed{more: make(chan struct{})} }

// Append implements Store.
func (f *feed) Append(ctx context.Context, e Event) error {
	if err := beginAppend(ctx, e); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return ErrClosed
	}
	if len(f.events) == keptEvents {
		// All at once: to move them for each event would cost more.
		n := keptEvents / 10
		f.events, f.gone = slices.Delete(f.events, 0, n), f.gone+n
	}
	f.events = append(f.events, e)
	close(f.more)
	f.more = make(chan struct{})
	return nil
}

// Follow implements Store.
func (f *feed) Follow(ctx context.Context) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f.mu.Lock()
		next, closed := f.gone+len(f.events), f.closed
		f.mu.Unlock()
		if closed || ctx.Err() != nil || !yield(Event{}, nil) {
			return
		}
		for {
			f.mu.Lock()
			missed, more, closed := next < f.gone, f.more, f.closed
			if missed {
				next = f.gone + len(f.events)
			}
			events := slices.Clone(f.events[next-f.gone:])
			next += len(events)
			f.mu.Unlock()
			if missed && !yield(Event{}, errMissed) {
				return
			}
			for _, e := range events {
				if closed || ctx.Err() != nil || !yield(e, nil) {
					return
				}
			}
			if len(events) > 0 {
				continue
			}
			if closed {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// close ends the loops of those who follow.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.more)
	}
}
