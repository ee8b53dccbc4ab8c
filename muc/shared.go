package muc

import (
	"context"
	"sync"

	"mellium.im/xmpp/jid"
)

// shared asks rooms something on behalf of many at once. Whoever asks while an answer is under way shares the next one: it
// was asked for after they came, so it is as fresh as one of their own.
type shared[T any] struct {
	ask func(ctx context.Context, room jid.JID) (T, error)

	mu    sync.Mutex
	asked map[string]*asking[T] // by room: the newest
}

// asking is one question, and all who wait for its answer.
type asking[T any] struct {
	before *asking[T] // the one under way when this was made
	begun  bool
	done   chan struct{}
	answer T
	err    error
}

// of returns the answer of the room as of now, or later.
func (s *shared[T]) of(ctx context.Context, room jid.JID) (T, error) {
	key := room.String()
	s.mu.Lock()
	a, mine := s.asked[key], false
	if a == nil || a.begun {
		a, mine = &asking[T]{before: a, done: make(chan struct{})}, true
		if s.asked == nil {
			s.asked = make(map[string]*asking[T])
		}
		s.asked[key] = a
	}
	s.mu.Unlock()
	if !mine {
		select {
		case <-a.done:
			return a.answer, a.err
		case <-ctx.Done():
			var none T
			return none, ctx.Err()
		}
	}
	// Others wait for this question, so it is asked even if whoever began it gives up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), askWithin)
	defer cancel()
	if a.before != nil {
		<-a.before.done
		a.before = nil
	}
	s.mu.Lock()
	a.begun = true
	s.mu.Unlock()
	a.answer, a.err = s.ask(ctx, room)
	s.mu.Lock()
	if s.asked[key] == a {
		delete(s.asked, key)
	}
	s.mu.Unlock()
	close(a.done)
	return a.answer, a.err
}
