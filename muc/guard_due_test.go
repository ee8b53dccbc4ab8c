package muc

import (
	"context"
	"encoding/xml"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// A host who is about to enter is looked for first, and rooms with people in them are looked at next, however many rooms wait for
// hosts who have not been admitted.
func TestGuardLooksFirst(t *testing.T) {
	g := NewGuard(GuardOptions{Interval: time.Second})
	service := jid.MustParse("conference.meet.example.com")
	for n := range 1000 {
		room, err := service.WithLocal(fmt.Sprintf("room-%d", n))
		if err != nil {
			t.Fatal(err)
		}
		g.Await(room, time.Now().Add(time.Minute))
	}
	expected, live := jid.MustParse("room-500@conference.meet.example.com"), jid.MustParse("live@conference.meet.example.com")
	g.Expect(expected)
	g.mu.Lock()
	rm := g.room(live)
	g.mu.Unlock()
	later := time.Now().Add(2 * time.Second)
	if g.next(later) == nil || !g.awaited[expected.String()].asking {
		t.Error("the first look is not for the host who is about to enter")
	}
	if g.next(later) == nil || !rm.looking {
		t.Error("the second is not at the room with people in it")
	}
	n := 2
	for ; g.next(later) != nil; n++ {
	}
	if n != 1001 {
		t.Errorf("%d looks of 1001", n)
	}
}

// Rooms in which grants hang on hosts do not keep other rooms waiting, nor the other way round: each kind has half of the looks.
func TestGuardLooksByTurns(t *testing.T) {
	g := NewGuard(GuardOptions{Interval: time.Second})
	service := jid.MustParse("conference.meet.example.com")
	later := time.Now().Add(2 * time.Second)
	for n := range 200 {
		room, err := service.WithLocal(fmt.Sprintf("room-%d", n))
		if err != nil {
			t.Fatal(err)
		}
		if rm := g.room(room); n%2 == 0 {
			rm.hang.next = later
			g.file(rm)
		}
	}
	for range 40 {
		g.next(later)
	}
	looks := map[bool]int{}
	for _, rm := range g.rooms {
		if rm.looking {
			looks[rm.hang.next.IsZero()]++
		}
	}
	if looks[true] != 20 || looks[false] != 20 {
		t.Errorf("%d looks at rooms where something hangs on a host, %d at others", looks[false], looks[true])
	}
}

// runs has a Guard run until stop is called.
func runs(t *testing.T, g *Guard) (stop func()) {
	ctx, end := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx) })
	return func() { end(); running.Wait() }
}

// lagging is a session with a server that takes a while to answer. It always answers that the room is what it must be.
type lagging struct {
	takes time.Duration

	mu            sync.Mutex
	underway, max int
	all           int
	asked         map[string]time.Time // by room, when last
}

func (l *lagging) IQ(_ context.Context, iq stanza.IQ, _ xml.TokenReader, v any) error {
	l.mu.Lock()
	l.underway++
	l.all++
	l.max = max(l.max, l.underway)
	l.asked[iq.To.String()] = time.Now()
	l.mu.Unlock()
	<-time.After(l.takes)
	l.mu.Lock()
	l.underway--
	l.mu.Unlock()
	if v == nil {
		return nil
	}
	return xml.Unmarshal([]byte("<query>"+(&chat{membersOnly: true, persistent: true}).form(false)+"</query>"), v)
}

func (l *lagging) Send(xml.TokenReader) error { return nil }

// A look that finds no free slot is made as soon as there is one, without waiting for anything else. However long an answer takes, no slot
// is idle while a look is due.
func TestGuardLooksGoOn(t *testing.T) {
	for _, takes := range []time.Duration{time.Millisecond, 24 * time.Millisecond, 60 * time.Millisecond, 101 * time.Millisecond} {
		t.Run(takes.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const rooms = 50 * atOnce
				session := &lagging{takes: takes, asked: map[string]time.Time{}}
				g := NewGuard(GuardOptions{Interval: time.Hour, Options: Options{
					Owner:         Owner{Session: session, JID: jid.MustParse(us)},
					Configuration: Configuration{MembersOnly: true},
					Ledger:        Forgetful{},
					Warn:          func(room jid.JID, what string, err error) { t.Errorf("%s: %s: %v", room, what, err) },
				}})
				service := jid.MustParse(mucDomain)
				for n := range rooms {
					room, err := service.WithLocal(fmt.Sprintf("room-%d", n))
					if err != nil {
						t.Fatal(err)
					}
					rm := g.room(room)
					rm.nextEnforce, rm.nextAudit = time.Now(), time.Now().Add(time.Hour)
					g.file(rm)
				}
				began := time.Now()
				stop := runs(t, g)
				pass(time.Minute)
				stop()
				var last time.Time
				for _, at := range session.asked {
					if at.After(last) {
						last = at
					}
				}
				// All are due at once, and each slot has one after the other.
				if took, want := last.Sub(began), (rooms/atOnce-1)*takes; len(session.asked) != rooms || took > want || session.max > atOnce {
					t.Errorf("%d rooms of %d were looked at in %s, want %s; %d at once", len(session.asked), rooms, took, want, session.max)
				}
			})
		})
	}
}
