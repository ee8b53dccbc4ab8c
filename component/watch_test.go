package component

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
)

// fullWatch is a watch of many rooms, each with ten people and somebody who waits.
func fullWatch(rooms int, now time.Time) *watch {
	w := newWatch()
	for n := range rooms {
		room := jid.MustParse(fmt.Sprintf("room%d@conference.meet.example.com", n))
		w.sees(muc.Sight{Seen: muc.SeenOpen, Room: room}, 0, now)
		for p := range 10 {
			who := jid.MustParse(fmt.Sprintf("p%d@guest.meet.example.com/r", p))
			w.sees(muc.Sight{Seen: muc.SeenCame, Room: room, Who: who, Bare: who.Bare().String()}, classGuest, now)
		}
		w.waiting(jid.MustParse("w@guest.meet.example.com/r"), auth.Room{JID: room}, auth.ReasonHostAbsent, now, now.Add(comesBack))
	}
	return w
}

// What is counted comes back to nothing when all have gone.
func TestWatchCounts(t *testing.T) {
	now := time.Now()
	w := fullWatch(3, now)
	var s Status
	if w.status(&s); s.Rooms != 3 || s.Occupants != 30 || s.Waiting != 3 || s.Hosts != 0 {
		t.Errorf("%+v", s)
	}
	room, who := jid.MustParse("room1@conference.meet.example.com"), jid.MustParse("p1@guest.meet.example.com/r")
	w.sees(muc.Sight{Seen: muc.SeenCame, Room: room, Who: jid.MustParse("p1@guest.meet.example.com/second"), Bare: "p1@guest.meet.example.com"}, classGuest, now)
	w.sees(muc.Sight{Seen: muc.SeenRole, Room: room, Who: who, Bare: who.Bare().String(), Moderator: true}, classHost, now)
	w.sees(muc.Sight{Seen: muc.SeenGone, Room: room, Who: who, Bare: who.Bare().String()}, classGuest, now)
	if w.status(&s); s.Hosts != 1 {
		t.Errorf("one of the two occupants of a person has gone: %+v", s)
	}
	if all := w.summaries(); all[1].Hosts != 1 || all[1].Guests != 9 || all[0].Guests != 10 {
		t.Errorf("%+v", all)
	}
	for n := range 3 {
		w.sees(muc.Sight{Seen: muc.SeenEnd, Room: jid.MustParse(fmt.Sprintf("room%d@conference.meet.example.com", n))}, 0, now)
	}
	if all := w.summaries(); len(all) != 3 || all[0].Open || all[0].Waiting != 1 {
		t.Errorf("people still wait: %+v", all)
	}
	w.sweep(now.Add(comesBack + time.Second))
	s = Status{}
	if w.status(&s); !reflect.DeepEqual(s, Status{}) || len(w.rooms) != 0 {
		t.Errorf("%+v, %d rooms", s, len(w.rooms))
	}
}

// Somebody has waited for a host since it arrived, or since they came if that was later, and not if they have given up before.
func TestWatchWaited(t *testing.T) {
	room := auth.Room{JID: jid.MustParse("room@conference.meet.example.com")}
	who := jid.MustParse("w@guest.meet.example.com/r")
	host := muc.Sight{Seen: muc.SeenHost, Room: room.JID}
	for name, e := range map[string]struct {
		waits, host, answered time.Duration // -1: never
		want                  time.Duration
	}{
		"the host comes later":      {0, 2 * time.Second, 5 * time.Second, 3 * time.Second},
		"the host has been inside":  {2 * time.Second, 0, 5 * time.Second, 3 * time.Second},
		"no host":                   {0, -1, 5 * time.Second, 0},
		"has not waited":            {-1, 0, 5 * time.Second, 0},
		"has not asked for a while": {0, 2 * time.Second, time.Minute, 0},
	} {
		w, at := newWatch(), time.Now()
		w.sees(muc.Sight{Seen: muc.SeenOpen, Room: room.JID}, 0, at)
		if e.host >= 0 {
			w.sees(host, 0, at.Add(e.host))
		}
		if e.waits >= 0 {
			w.waiting(who, room, auth.ReasonHostAbsent, at.Add(e.waits), at.Add(e.waits+comesBack))
		}
		if got := w.answered(who, room.JID, at.Add(e.answered)); got != e.want {
			t.Errorf("%s: waited %s, want %s", name, got, e.want)
		}
	}
}

// What somebody was told is remembered for some minutes, by room and reason.
func TestWatchAgain(t *testing.T) {
	w, at := newWatch(), time.Now()
	who, room, other := jid.MustParse("w@guest.meet.example.com/r"), jid.MustParse("a@b"), jid.MustParse("c@b")
	for n, e := range []struct {
		room   jid.JID
		reason auth.Reason
		after  time.Duration
		want   bool
	}{
		{room, auth.ReasonHostAbsent, 0, false}, {room, auth.ReasonHostAbsent, 0, true}, {other, auth.ReasonHostAbsent, 0, false},
		{room, auth.ReasonGuest, 0, false}, {room, auth.ReasonHostAbsent, 0, false}, {room, auth.ReasonHostAbsent, remembered + 1, true},
		{room, auth.ReasonHostAbsent, 3 * remembered, true}, {other, auth.ReasonHostAbsent, 5 * remembered, false},
	} {
		if got := w.again(who, e.room, e.reason, at.Add(e.after)); got != e.want {
			t.Errorf("%d: told again %t", n, got)
		}
	}
}

// BenchmarkRooms lists five thousand rooms.
func BenchmarkRooms(b *testing.B) {
	w := fullWatch(5000, time.Now())
	for b.Loop() {
		w.summaries()
	}
}
