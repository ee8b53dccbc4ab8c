package muc

import (
	"context"
	"sync"

	"mellium.im/xmpp/jid"
)

// shared asks rooms something on behalf of many callers at once. A caller who comes while an answer is under way shares the next
// one. That one is asked for after they came, so it is as fresh as one of their own. Questions about one room go one after the
// other. One of the callers who wait for an answer asks for it, as long as that caller's context lasts; then another does.
type shared[T any] struct {
	ask func(ctx context.Context, room jid.JID) (T, error)

	mu    sync.Mutex
	lines map[string]*line[T] // by room
}

// line is the callers who wait for answers of one room.
type line[T any] struct {
	turn    chan struct{} // holds one, except while the room is asked
	waiting int
	next    *question[T] // not asked yet; nil if there is none
}

// question is one question. Its answer is there when done is closed.
type question[T any] struct {
	done   chan struct{}
	answer T
	err    error
}

// of returns the answer of the room as of now, or later.
func (s *shared[T]) of(ctx context.Context, room jid.JID) (T, error) {
	l, q := s.join(room.String())
	defer s.leave(room.String(), l)
	select {
	case <-q.done:
		return q.answer, q.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	case <-l.turn:
	}
	defer func() { l.turn <- struct{}{} }()
	select {
	case <-q.done: // just now
		return q.answer, q.err
	default:
	}
	s.mu.Lock()
	if l.next == q {
		l.next = nil // callers who come from here on may have come after the answer
	}
	s.mu.Unlock()
	asked, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	answer, err := s.ask(asked, room)
	if err == nil || ctx.Err() == nil {
		q.answer, q.err = answer, err
		close(q.done)
	} // else only this caller's time is over, and another caller asks again
	return answer, err
}

func (s *shared[T]) join(key string) (*line[T], *question[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lines[key]
	if l == nil {
		l = &line[T]{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		if s.lines == nil {
			s.lines = make(map[string]*line[T])
		}
		s.lines[key] = l
	}
	if l.next == nil {
		l.next = &question[T]{done: make(chan struct{})}
	}
	l.waiting++
	return l, l.next
}

func (s *shared[T]) leave(key string, l *line[T]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.waiting--; l.waiting == 0 {
		delete(s.lines, key)
	}
}
