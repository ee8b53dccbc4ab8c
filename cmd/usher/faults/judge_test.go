//go:build linux

package faults

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	theRoom   = "room@" + service
	juliet    = "juliet@" + guests
	romeo     = "romeo@" + domain
	benvolio  = "benvolio@" + domain
	tybalt    = "tybalt@" + guests
	strangers = "friend@elsewhere.example.net"
)

// judgement is a story that the ledger is told, and the findings that it must make of it.
type judgement struct {
	name string
	play func(l *ledger, after func(time.Duration)) // after lets time pass
	want []string
}

const second = time.Second

// view is what the observer sees of a room with these affiliations and occupants.
func view(affiliations map[string]string, inside ...prosodytest.Occupant) prosodytest.RoomView {
	return prosodytest.RoomView{Exists: true, Occupants: inside, Affiliations: affiliations}
}

// ofGuests are about guests, who need a host inside.
var ofGuests = []judgement{
	{"a guest with a host", func(l *ledger, after func(time.Duration)) {
		l.entered(l.enters(romeo, theRoom))
		after(second)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
		l.entered(l.enters(juliet, theRoom))
	}, nil},
	{"a guest without a host", func(l *ledger, after func(time.Duration)) {
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
	}, []string{wrong}},
	{"a guest who asked when their host had left", func(l *ledger, after func(time.Duration)) {
		v := l.enters(romeo, theRoom)
		after(second)
		l.exits(v, "leaves")
		after(second)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
	}, []string{wrong}},
	{"a guest with a host of another room", func(l *ledger, after func(time.Duration)) {
		l.enters(romeo, "elsewhere@"+service)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
	}, []string{wrong}},
	{"a guest who was held until the host came", func(l *ledger, after func(time.Duration)) {
		asked := l.now()
		after(9 * second)
		l.enters(romeo, theRoom)
		l.answered(juliet, theRoom, ready, asked, waitHold, false)
	}, nil},
	{"a guest who comes soon after the last host has left", func(l *ledger, after func(time.Duration)) {
		v := l.enters(romeo, theRoom)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
		l.exits(v, "leaves")
		after(hostGone)
		enters(l, juliet)
	}, nil},
	{"a guest who comes long after the last host has left", func(l *ledger, after func(time.Duration)) {
		v := l.enters(romeo, theRoom)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
		l.exits(v, "leaves")
		after(hostGone + withdrawing + second)
		enters(l, juliet)
	}, []string{wrong}},
	{"a guest who comes late, but usher was away for a while", func(l *ledger, after func(time.Duration)) {
		v := l.enters(romeo, theRoom)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
		l.exits(v, "leaves")
		end := l.outage()
		after(2 * second)
		end()
		after(hostGone + withdrawing - second)
		enters(l, juliet)
	}, nil},
}

// ofOthers are about strangers and members.
var ofOthers = []judgement{
	{"a stranger enters", func(l *ledger, after func(time.Duration)) { enters(l, tybalt) }, []string{wrong}},
	{"a stranger enters and a host is inside", func(l *ledger, after func(time.Duration)) {
		l.enters(romeo, theRoom)
		enters(l, tybalt)
	}, []string{wrong}},
	{"a stranger is told ready", func(l *ledger, after func(time.Duration)) {
		l.enters(romeo, theRoom)
		l.answered(tybalt, theRoom, ready, l.now(), waitHold, false)
	}, []string{wrong}},
	{"a member who was never told ready", func(l *ledger, after func(time.Duration)) { enters(l, benvolio) }, []string{wrong}},
	{"a member with a token that has ended is told ready", func(l *ledger, after func(time.Duration)) {
		after(time.Hour + 2*leeway)
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
	}, []string{wrong}},
	{"a member enters in the end", func(l *ledger, after func(time.Duration)) {
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
		after(time.Hour + leeway + endsWithin + second)
		enters(l, benvolio)
	}, []string{wrong}},
	{"a member was inside when their token ended, leaves and comes again, soon and late", func(l *ledger, after func(time.Duration)) {
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
		v := l.enters(benvolio, theRoom)
		l.entered(v)
		after(2 * time.Hour)
		l.exits(v, "leaves")
		after(endsWithin)
		v = l.enters(benvolio, theRoom)
		if fault, _ := l.entered(v); fault != "" {
			l.wrongly(v, fault)
		}
		l.exits(v, "leaves")
		after(endsWithin + second)
		enters(l, benvolio)
	}, []string{wrong}},
	{"a member is let into another room", func(l *ledger, after func(time.Duration)) {
		l.answered(benvolio, "elsewhere@"+service, ready, l.now(), waitHold, false)
	}, []string{wrong}},
	{"a member who was let into a room that is gone", func(l *ledger, after func(time.Duration)) {
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
		l.forgets(benvolio)
		enters(l, benvolio)
	}, []string{wrong}},
}

// ofRooms are about what the observer sees.
var ofRooms = []judgement{
	{"the observer sees an unknown occupant, twice", func(l *ledger, after func(time.Duration)) {
		for range 2 {
			l.sees(theRoom, view(nil, prosodytest.Occupant{JID: "nobody@" + guests + "/x"}), l.now())
		}
	}, []string{wrong}},
	{"the observer sees a guest who moderates", func(l *ledger, after func(time.Duration)) {
		l.sees(theRoom, view(nil, prosodytest.Occupant{JID: juliet + "/x", Role: "moderator", Affiliation: "owner"}), l.now())
	}, []string{wrong}},
	{"the observer sees usher, Jicofo and themselves", func(l *ledger, after func(time.Duration)) {
		staff := map[string]string{"focus@focus." + domain: "owner", "focus@auth." + domain: "owner", "observer@auth." + domain: "owner"}
		for range 2 {
			l.sees(theRoom, view(staff, prosodytest.Occupant{JID: "focus@focus." + domain + "/usher", Role: "moderator", Affiliation: "owner"}), l.now())
			after(time.Hour)
		}
	}, nil},
	{"an affiliation for less than a minute, and one that is banned", func(l *ledger, after func(time.Duration)) {
		for range 2 {
			l.sees(theRoom, view(map[string]string{juliet: "member", tybalt: "outcast"}), l.now())
			after(leftAfter)
		}
		after(leftAfter)
		l.sees(theRoom, view(map[string]string{tybalt: "outcast"}), l.now())
	}, nil},
	{"an affiliation for more than a minute is found once", func(l *ledger, after func(time.Duration)) {
		for range 4 {
			l.sees(theRoom, view(map[string]string{juliet: "member"}), l.now())
			after(leftAfter)
		}
	}, []string{left}},
	{"an affiliation that a host gave", func(l *ledger, after func(time.Duration)) {
		for range 3 {
			l.sees(theRoom, view(map[string]string{strangers: "owner"}), l.now())
			after(leftAfter)
		}
	}, []string{left}},
	{"an affiliation of a guest who was inside meanwhile", func(l *ledger, after func(time.Duration)) {
		has := map[string]string{juliet: "member"}
		l.sees(theRoom, view(has), l.now())
		after(leftAfter)
		l.sees(theRoom, view(has, prosodytest.Occupant{JID: juliet + "/x", Role: "participant", Affiliation: "member"}), l.now())
		after(second)
		l.sees(theRoom, view(has), l.now())
		after(leftAfter)
		l.sees(theRoom, view(has), l.now())
	}, nil},
	{"an affiliation of a guest who may still come", func(l *ledger, after func(time.Duration)) {
		l.enters(romeo, theRoom)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
		l.sees(theRoom, view(map[string]string{juliet: "member"}), l.now())
		after(leftAfter + joinWithin)
		l.sees(theRoom, view(map[string]string{juliet: "member"}), l.now())
		after(2 * pollSlack)
		l.sees(theRoom, view(map[string]string{juliet: "member"}), l.now())
	}, []string{left}},
}

// ofRequests are about requests that are answered late or never.
var ofRequests = []judgement{
	{"a request in time, late, and never answered", func(l *ledger, after func(time.Duration)) {
		asked := l.now()
		after(waitHold + answerWithin)
		l.answered(juliet, theRoom, "not-authorized host-absent", asked, waitHold, false)
		after(second)
		if !l.overdue(asked, waitHold) {
			l.broken("the request is not overdue")
		}
		l.answered(juliet, theRoom, "not-authorized host-absent", asked, waitHold, false)
		l.silence(juliet, theRoom, asked)
	}, []string{unanswered, unanswered}},
	{"a request that kill -9 may have caught, and one that is too old for it", func(l *ledger, after func(time.Duration)) {
		long := l.now()
		after(caughtWithin)
		just := l.now()
		after(second)
		l.loses()
		l.silence(juliet, theRoom, just)
		l.silence(juliet, theRoom, long)
	}, []string{unanswered}},
}

// TestJudge shows that the ledger finds every fault of usher, and nothing else. Otherwise the run of faults would prove nothing.
func TestJudge(t *testing.T) {
	for _, test := range slices.Concat(ofGuests, ofOthers, ofRooms, ofRequests, ofPairs) {
		t.Run(test.name, func(t *testing.T) {
			l := newLedger()
			now := time.Now()
			l.now = func() time.Time { return now }
			for bare, k := range map[string]known{
				juliet: {name: "guest", right: guest, room: theRoom}, tybalt: {name: "stranger"},
				romeo:    {name: "host", right: host, room: theRoom, lets: true},
				benvolio: {name: "member", right: member, room: theRoom, expires: now.Add(time.Hour)},
			} {
				l.knows(bare, k)
			}
			test.play(l, func(d time.Duration) { now = now.Add(d) })
			var got []string
			for _, f := range l.findings {
				got = append(got, f.what)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("found %q, want %q: %v", got, test.want, l.findings)
			}
		})
	}
}

// enters makes somebody enter, and stay.
func enters(l *ledger, who string) {
	v := l.enters(who, theRoom)
	if fault, _ := l.entered(v); fault != "" {
		l.wrongly(v, fault)
	}
}

// TestPlans shows that every combination gets every kind, that a seed repeats the plan, and that no fault is lost.
func TestPlans(t *testing.T) {
	for _, n := range []int{1, 24, 96, 300} {
		all, again := plans(n, 7, []string{"a", "b"}, kinds, pairKinds), plans(n, 7, []string{"a", "b"}, kinds, pairKinds)
		count := make(map[[3]string]int)
		for i, p := range all {
			for k, f := range p.faults {
				count[[3]string{f.kind, p.combo.prosody, f.mode}]++
				if again[i].faults[k].kind != f.kind || again[i].seed != p.seed {
					t.Errorf("%d: the same seed gives another plan", n)
				}
			}
		}
		sum, least := 0, n
		for _, c := range count {
			sum, least = sum+c, min(least, c)
		}
		if sum != n || n >= 96 && (len(count) != 4*(len(kinds)+len(pairKinds)) || least < n/96) {
			t.Errorf("%d: %d faults, %v", n, sum, slices.Collect(maps.Keys(count)))
		}
	}
}

// ofPairs are about two ushers that share a store.
var ofPairs = []judgement{
	{"somebody new is told ready while the store is away", func(l *ledger, after func(time.Duration)) {
		l.loseStore()
		after(second)
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
	}, []string{wrong}},
	{"the store goes while a request is under way, and comes back while another is", func(l *ledger, after func(time.Duration)) {
		asked := l.now()
		after(second)
		returns := l.loseStore()
		l.answered(benvolio, theRoom, ready, asked, waitHold, false)
		after(second)
		asked = l.now()
		after(second)
		returns()
		after(second)
		l.answered(romeo, theRoom, ready, asked, waitHold, false)
	}, nil},
	{"the store has been away before", func(l *ledger, after func(time.Duration)) {
		returns := l.loseStore()
		after(second)
		returns()
		after(second)
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
	}, nil},
	{"somebody who was admitted asks again while the store is away", func(l *ledger, after func(time.Duration)) {
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
		l.loseStore()
		after(second)
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
	}, nil},
	{"somebody inside is removed while the store is away", func(l *ledger, after func(time.Duration)) {
		l.keeps = true
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
		v := l.enters(benvolio, theRoom)
		l.entered(v)
		l.loseStore()
		after(second)
		l.removed(v)
		l.removed(v)
	}, []string{thrown}},
	{"a guest is removed, with a host inside", func(l *ledger, after func(time.Duration)) {
		l.keeps = true
		l.enters(romeo, theRoom)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
		v := l.enters(juliet, theRoom)
		l.entered(v)
		after(time.Hour)
		l.removed(v)
	}, []string{thrown}},
	{"a guest is removed who entered when the host had left", func(l *ledger, after func(time.Duration)) {
		l.keeps = true
		host := l.enters(romeo, theRoom)
		l.answered(juliet, theRoom, ready, l.now(), waitHold, false)
		l.exits(host, "leaves")
		after(hostGone)
		v := l.enters(juliet, theRoom)
		l.entered(v)
		l.removed(v)
	}, nil},
	{"a member is removed who entered after the end of their token, and one who left", func(l *ledger, after func(time.Duration)) {
		l.keeps = true
		l.answered(benvolio, theRoom, ready, l.now(), waitHold, false)
		v := l.enters(benvolio, theRoom)
		l.entered(v)
		l.exits(v, "leaves")
		l.removed(v)
		after(time.Hour + second)
		v = l.enters(benvolio, theRoom)
		l.entered(v)
		l.removed(v)
	}, nil},
}

// TestNextAdmission shows what the figures of the table are: the time until somebody is inside who asked after the fault had begun.
func TestNextAdmission(t *testing.T) {
	l := newLedger()
	now := time.Now()
	l.now = func() time.Time { return now }
	l.knows(romeo, known{name: "host", right: host, room: theRoom, lets: true})
	l.knows(benvolio, known{name: "member", right: member, room: theRoom})
	before := now
	now = now.Add(second)
	began := now
	now = now.Add(second / 2)
	admitted := l.await(began)
	l.answered(romeo, theRoom, ready, before, waitHold, false)
	now = now.Add(second)
	enters(l, romeo)
	select {
	case <-admitted:
		t.Error("somebody counts who asked before the fault")
	default:
	}
	l.answered(benvolio, theRoom, ready, now, waitHold, false)
	now = now.Add(second / 2)
	enters(l, benvolio)
	select {
	case <-admitted:
	default:
		t.Error("nobody counts")
	}
	enters(l, benvolio)
	if want := []time.Duration{2 * second}; !slices.Equal(l.fault.admits, want) {
		t.Errorf("%v, want %v", l.fault.admits, want)
	}
}
