package muc

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

// A server that is only slow loses no time because usher asks again: the answer to the first question counts.
func TestAnswerOfSlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 4 * time.Second
		asked, began := 0, time.Now()
		got, err := untilAnswered(t.Context(), func(ctx context.Context) (int, error) {
			asked++
			n := asked
			select {
			case <-time.After(takes):
				return n, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
		if err != nil || got != 1 || time.Since(began) != takes {
			t.Errorf("answer %d after %s, %v", got, time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := untilAnswered(ctx, func(ctx context.Context) (int, error) { <-ctx.Done(); return 0, ctx.Err() }); err == nil {
			t.Error("an answer of nobody")
		}
	})
}

// A slow server refuses two joins for want of the password. The refusal of the second is not taken for one of the join that has it.
func TestJoinOfSlowServerWithPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.disconnected() }()
		w.settle()
		w.chats[standup] = &chat{address: standup, membersOnly: true, password: "xyzzy", affiliations: map[string]string{us: "owner"}}
		done := make(chan error, 1)
		go func() { done <- w.rooms.Open(t.Context(), jid.MustParse(standup), false) }()
		time.Sleep(2 * firstWait) // the server has not got to it yet
		w.settle()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("the room is not open")
		}
	})
}
