package component

import (
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

// Somebody who was left to the lobby is known by token, once, until they have an affiliation from usher or the room ends; the next
// process knows the same. There is a bound, and guests are not known at all.
func TestKnocked(t *testing.T) {
	s := store.Memory(store.Options{})
	l := newLedger(s, zap.NewNop(), &counters{})
	by := granted{Proof: &auth.Proof{Issuer: "my_app", ID: "j1", Token: "t1"}, Reason: auth.ReasonMember, RemoveAt: time.Now().Add(time.Hour).UTC()}
	left := func(n int, by granted) {
		t.Helper()
		g := grantOf(0, n)
		g.Affiliation, g.By = "", &by
		if err := l.knocked(t.Context(), g); err != nil {
			t.Fatal(err)
		}
	}
	known := func(want int) {
		t.Helper()
		l.cross(t.Context())
		next := newLedger(s, zap.NewNop(), &counters{})
		forMUC, err := next.written(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []*ledger{l, next} {
			if all := l.everybody(""); len(all) != want || len(l.everybody(theRoom.String())) != 0 || len(l.endings.queue) != want {
				t.Errorf("known are %+v, want %d; %d have an ending", all, want, len(l.endings.queue))
			}
		}
		for _, g := range forMUC {
			if g.Affiliation == "" {
				t.Errorf("package muc is told of %+v", g)
			}
		}
	}
	left(0, granted{Reason: auth.ReasonGuest})
	known(0)
	left(1, by)
	left(1, by)
	left(2, by)
	known(2)
	l.Ended(grantOf(0, 1).Room, grantOf(0, 1).Who) // of an earlier grant
	known(2)

	g := grantOf(0, 1)
	g.By = &by
	if err := l.Granted(t.Context(), g, nil); err != nil {
		t.Fatal(err)
	}
	known(2)
	if of := l.of(g.Room, g.Who); of.Affiliation != "member" {
		t.Errorf("is %+v", of)
	}
	// A newer token of somebody who is inside by a grant.
	newer := by
	newer.Proof = &auth.Proof{Issuer: "my_app", ID: "j2", Token: "t1"}
	left(1, newer)
	if of := l.of(g.Room, g.Who); of.Affiliation != "member" || of.by().Proof.ID != "j2" || of.by().Knocked {
		t.Errorf("is %+v", of)
	}
	next := newLedger(s, zap.NewNop(), &counters{})
	if _, err := next.written(t.Context()); err != nil {
		t.Fatal(err)
	}
	if of := next.of(g.Room, g.Who); of == nil || of.Affiliation != "member" || of.by().Proof.ID != "j2" || of.by().Knocked {
		t.Errorf("the next process knows %+v", of)
	}
	l.Ended(g.Room, g.Who)
	known(1)
	l.lobbyEnds(g.Room)
	known(0)

	for n := range knockedPerRoom + 10 {
		now := &muc.Grant{Room: g.Room, Who: jid.MustParse(fmt.Sprintf("m%d@meet.example.com", n)), By: &by}
		if n < knockedPerRoom {
			l.mu.Lock()
			l.knocks((*live)(now))
			l.mu.Unlock()
		} else if err := l.knocked(t.Context(), now); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.everybody("")); n != knockedPerRoom {
		t.Errorf("%d are known", n)
	}
}
