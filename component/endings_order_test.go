package component

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

// With a hundred thousand grants that end, a look whether one is due costs next to nothing, they end in order, and what has ended by
// itself is forgotten.
func TestManyEndings(t *testing.T) {
	const n = 100_000
	l := newLedger(store.Memory(store.Options{}), zap.NewNop(), &counters{})
	now := time.Now().UTC()
	const rooms = 1000
	var who, room []jid.JID
	for i := range n / rooms {
		who = append(who, jid.MustParse(fmt.Sprintf("p%d@meet.example.com", i)))
	}
	for i := range rooms {
		room = append(room, jid.MustParse(fmt.Sprintf("r%d@conference.meet.example.com", i)))
	}
	for i := range n {
		at := now.Add(time.Duration(i*7919%n) * time.Second)
		g := &muc.Grant{Room: room[i%rooms], Who: who[i/rooms], Affiliation: "member", At: now, By: &granted{RemoveAt: at.Add(tellBefore)}}
		l.enter(g)
	}
	if allocs := testing.AllocsPerRun(1000, func() { l.endings.due(now.Add(-time.Second)) }); allocs > 0 {
		t.Errorf("a look that finds nothing makes %v allocations", allocs)
	}
	last := now
	for range n / 2 {
		e := l.endings.due(now.Add(n * time.Second))
		if e == nil || e.at.Before(last) {
			t.Fatalf("due is %+v, after %s", e, last)
		}
		last = e.at
	}
	for i := range n {
		l.Ended(room[i%rooms], who[i/rooms])
	}
	if len(l.endings.queue) > 0 || len(l.endings.of) > 0 || len(l.rooms) > 0 || len(l.all()) > 0 {
		t.Errorf("%d endings are left, %d rooms", len(l.endings.queue), len(l.rooms))
	}
}

// Somebody who is to be put out is, also while it is still to be looked whether their right was taken back.
func TestOutGoesBeforeCheck(t *testing.T) {
	e := newEndings()
	g := &live{Room: theRoom, Who: jid.MustParse("p@meet.example.com")}
	e.add(&ending{g: g, step: stepCheck})
	e.out(g, byReuse)
	if is := e.due(time.Now()); is == nil || is.step != stepOut || is.why != byReuse {
		t.Errorf("due is %+v", is)
	}
	if is := e.due(time.Now()); is != nil {
		t.Errorf("also due is %+v", is)
	}
}

// The turns of one person go one after the other, those of others do not wait, and nothing is left of them.
func TestTurns(t *testing.T) {
	var turns turns
	done, err := turns.take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := turns.take(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := turns.take(ended, "a"); err == nil {
		t.Error("two have the turn")
	}
	order := make(chan int, 2)
	go func() {
		next, err := turns.take(context.Background(), "a")
		order <- 2
		if err == nil {
			next()
		}
		close(order)
	}()
	order <- 1
	done()
	if first, second := <-order, <-order; first != 1 || second != 2 {
		t.Errorf("%d, then %d", first, second)
	}
	<-order
	if len(turns.all) != 0 {
		t.Errorf("%d turns are left", len(turns.all))
	}
}
