package muc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	"pgregory.net/rapid"
)

// left returns for how many rooms somebody is believed to wait.
func (s *shared[T]) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.lines)
}

// Whenever callers ask and give up: each gets an answer that is not older than their question, one question for a room is under way
// at a time, and nothing is left.
func TestSharedModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rapid.SyncTest(t, func(t *rapid.T) {
			var underway [2]atomic.Int32
			took := time.Duration(rapid.IntRange(0, 50).Draw(t, "an answer takes")) * time.Millisecond
			rooms := []jid.JID{jid.MustParse(roomNames[0]), jid.MustParse(roomNames[1])}
			s := shared[time.Time]{ask: func(ctx context.Context, room jid.JID) (time.Time, error) {
				n := &underway[0]
				if room.Equal(rooms[1]) {
					n = &underway[1]
				}
				if n.Add(1) != 1 {
					t.Error("two questions about one room at once")
				}
				defer n.Add(-1)
				asked := time.Now()
				select {
				case <-time.After(took):
					return asked, nil
				case <-ctx.Done():
					return asked, ctx.Err()
				}
			}}
			var askers sync.WaitGroup
			for range rapid.IntRange(1, 40).Draw(t, "askers") {
				room := rapid.SampledFrom(rooms).Draw(t, "room")
				patience := time.Duration(rapid.IntRange(1, 200).Draw(t, "patience")) * time.Millisecond
				askers.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), patience)
					defer cancel()
					came := time.Now()
					answer, err := s.of(ctx, room)
					switch {
					case err == nil && answer.Before(came):
						t.Errorf("an answer from %s before the question", came.Sub(answer))
					case err != nil && (!errors.Is(err, context.DeadlineExceeded) || time.Since(came) != patience):
						t.Errorf("%v after %s of %s", err, time.Since(came), patience)
					}
				})
				<-time.After(time.Duration(rapid.IntRange(0, 30).Draw(t, "pause")) * time.Millisecond)
			}
			askers.Wait()
			if s.left() != 0 {
				t.Errorf("%d rooms are left", s.left())
			}
		})
	})
}

// Many callers at once lead to one question, and callers who come meanwhile to one more. Errors are shared like answers.
func TestSharedOnce(t *testing.T) {
	for name, want := range map[string]error{
		"answer": nil,
		"absent": stanza.Error{Condition: stanza.ItemNotFound},
		"error":  errCut,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked, answer := 0, make(chan struct{})
				s := shared[int]{ask: func(context.Context, jid.JID) (int, error) {
					asked++
					n := asked
					<-answer
					return n, want
				}}
				var askers sync.WaitGroup
				ask := func(n int) {
					for range 300 {
						askers.Go(func() {
							if got, err := s.of(context.Background(), jid.MustParse(standup)); got != n || !errors.Is(err, want) {
								t.Errorf("got %d and %v, want %d", got, err, n)
							}
						})
					}
					synctest.Wait()
				}
				askers.Go(func() { _, _ = s.of(context.Background(), jid.MustParse(standup)) })
				synctest.Wait()
				ask(2)
				answer <- struct{}{}
				synctest.Wait()
				ask(3)
				close(answer)
				askers.Wait()
				if asked != 3 || s.left() != 0 {
					t.Errorf("asked %d times, and %d are left", asked, s.left())
				}
			})
		})
	}
}

// If the time of the caller who asks is over, or that caller panics, the next caller asks.
func TestSharedPassedOn(t *testing.T) {
	for name, fate := range map[string]func(){
		"out of time": nil,
		"panics":      func() { panic("hostile") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := true
				s := shared[string]{ask: func(ctx context.Context, _ jid.JID) (string, error) {
					if !first {
						return "second", nil
					}
					first = false
					<-ctx.Done()
					if fate != nil {
						fate()
					}
					return "", ctx.Err()
				}}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				var askers sync.WaitGroup
				askers.Go(func() {
					defer func() { _ = recover() }()
					if _, err := s.of(ctx, jid.MustParse(standup)); !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("told %v", err)
					}
				})
				synctest.Wait()
				for range 100 {
					askers.Go(func() {
						if got, err := s.of(t.Context(), jid.MustParse(standup)); got != "second" || err != nil {
							t.Errorf("%q, %v", got, err)
						}
					})
				}
				askers.Wait()
				if s.left() != 0 {
					t.Errorf("%d rooms are left", s.left())
				}
			})
		})
	}
}

// Hundreds of callers ask without a synctest bubble, for the race detector.
func TestSharedCrowd(t *testing.T) {
	var asked atomic.Int64
	s := shared[int64]{ask: func(context.Context, jid.JID) (int64, error) { return asked.Add(1), nil }}
	rooms := []jid.JID{jid.MustParse(roomNames[0]), jid.MustParse(roomNames[1])}
	var askers sync.WaitGroup
	for i := range 500 {
		askers.Go(func() {
			for range 20 {
				before := asked.Load()
				if got, err := s.of(t.Context(), rooms[i%2]); err != nil || got <= before {
					t.Errorf("the answer %d to a question after %d, %v", got, before, err)
				}
			}
		})
	}
	askers.Wait()
	if s.left() != 0 {
		t.Errorf("%d rooms are left", s.left())
	}
}
