package muc

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// A server that is only slow loses no time because usher asks again: the answer to the first question counts.
func TestAnswerOfSlowServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const takes = 4 * time.Second
		var asked atomic.Int64
		began := time.Now()
		got, err := untilAnswered(t.Context(), func(ctx context.Context) (int64, error) {
			n := asked.Add(1)
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

// lateReader is a session on which the answer to the first question is read late.
type lateReader struct {
	Session
	asked *atomic.Bool
	until chan struct{}
}

func (s lateReader) IQ(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	first := s.asked.CompareAndSwap(false, true)
	err := s.Session.IQ(ctx, iq, payload, v)
	if first {
		<-s.until
	}
	return err
}

// A grant comes too late for its room, and that is read when the next room is open. What people have there stays.
func TestGrantBeforeTheNextRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.disconnected() }()
		w.settle()
		c, until := w.enters(t, romeo, "owner"), make(chan struct{})
		w.destroy(c)
		late := w.rooms.Options
		late.Owner.Session = lateReader{late.Owner.Session, new(atomic.Bool), until}
		w.rooms.mu.Lock()
		w.rooms.rooms[standup].Options = &late
		w.rooms.mu.Unlock()
		done := make(chan error, 1)
		go func() {
			done <- w.rooms.Grant(t.Context(), Grant{Room: jid.MustParse(standup), Who: jid.MustParse(nurse), Affiliation: "member"})
		}()
		synctest.Wait()
		for w.read() {
			continue // the end of the room, and no answer yet
		}
		c = w.enters(t, juliet, "owner")
		close(until)
		w.settle()
		if err := <-done; !errors.Is(err, ErrAbsent) || c.affiliations[juliet] != "owner" || w.live() != 1 || len(w.ended) > 1 {
			t.Errorf("%v; juliet is %s; %d grants; ended are %q", err, c.affiliations[juliet], w.live(), w.ended)
		}
	})
}

// Somebody opens the next room before End has read that the last one has ended. The next room stays known.
func TestEndBeforeTheNextRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer func() { w.disconnected() }()
		w.settle()
		w.enters(t, romeo, "owner")
		room, until := jid.MustParse(standup), make(chan struct{})
		session := w.rooms.Owner.Session
		w.rooms.Owner.Session = lateReader{session, new(atomic.Bool), until}
		done := make(chan error, 1)
		go func() { done <- w.rooms.End(t.Context(), room, "over") }()
		w.settle()
		w.rooms.Owner.Session = session
		c := w.enters(t, juliet, "owner")
		close(until)
		w.settle()
		if err := <-done; err != nil || w.rooms.known(room) == nil || c.affiliations[juliet] != "owner" || w.live() != 1 {
			t.Errorf("%v; the next room is known: %t; juliet is %s; %d grants", err, w.rooms.known(room) != nil, c.affiliations[juliet], w.live())
		}
	})
}

// While too many changed rooms are to be looked at, a changed room gets what it must be at once: also that members invite nobody.
func TestManyChangedRooms(t *testing.T) {
	s := newService()
	r := s.newRooms()
	for range cap(r.changed) {
		r.changed <- jid.MustParse("other@conference.meet.example.com")
	}
	rm := r.newRoom(jid.MustParse(standup))
	rm.open = true
	r.rooms[standup] = rm
	d := xml.NewDecoder(strings.NewReader(`<message from="` + standup + `" type="groupchat"><x xmlns="` + NSUser + `"><status code="104"/></x></message>`))
	tok, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Message(tok.(xml.StartElement), d); err != nil {
		t.Fatal(err)
	}
	sent := string(bytes.Join(s.up, nil))
	for _, want := range []setting{closed, realJID, noInvites, noUserInvites} {
		if !strings.Contains(sent, `var="`+want.name+`"`) {
			t.Errorf("%s is not sent: %s", want.name, sent)
		}
	}
}
