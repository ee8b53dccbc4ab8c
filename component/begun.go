package component

import (
	"context"
	"slices"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

// begun is a write that begins while it is not known yet whether the person gets in, at the same time as the room is opened: the disk
// takes about as long as Jicofo. Granted waits for it, so that nothing is given before. What comes to nothing is crossed out; if usher
// is killed before that, the next process finds a grant that nobody has used.
//
// It holds the order of the ledger until it is done, so that it is written before any of it is crossed out.
type begun struct {
	grants  []muc.Grant // the person's, and the note about a room that is about to begin
	session *session    // nil if none begins
	crossed bool        // one of the grants has been crossed out since; covered by the ledger's mu

	done chan struct{} // closed when all is written down, or not
	err  error
}

// begin begins to write a grant and its session down, and with newRoom a note about the room. A grant without affiliation is none.
// Nothing is written yet for somebody who has a right there already: if this one comes to nothing, what is written down must stay. Nor
// for somebody with a seat, which is given back in an order of its own. The caller calls giveUp afterwards.
func (l *ledger) begin(ctx context.Context, g muc.Grant, newRoom bool) *begun {
	b := &begun{done: make(chan struct{})}
	b.session, _ = g.With.(*session)
	if _, seated := l.seats.of(g.Room.String(), g.Who.String()); seated || l.of(g.Room, g.Who) != nil {
		close(b.done)
		return b
	}
	if g.Affiliation != "" {
		b.grants = append(b.grants, g)
	}
	if newRoom {
		b.grants = append(b.grants, muc.Note(g.Room, g.At))
	}
	if b.session != nil {
		b.session.begun = b
	}
	l.order.RLock()
	before := l.register(b)
	records, err := b.records() // here, because a new goroutine would have to grow its stack for that
	l.writes.Go(func() {
		defer l.order.RUnlock()
		defer close(b.done)
		var without map[store.Kind]bool
		if b.err = err; err == nil {
			without, b.err = l.put(ctx, records...)
		}
		if b.err == nil && b.session != nil {
			b.session.written(without)
		}
		if b.err != nil || without[store.KindGrant] {
			l.toCross(before...) // the store still has those that have ended
		}
	})
	return b
}

// register lets Granted find what is begun, and leaves out what somebody else has begun. It returns the keys of grants that have ended
// and are still written down.
func (l *ledger) register(b *begun) (before []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b.grants = slices.DeleteFunc(b.grants, func(g muc.Grant) bool { return l.begun[grantKey(g.Room, g.Who)] != nil })
	for _, g := range b.grants {
		key := grantKey(g.Room, g.Who)
		l.begun[key] = b
		before = append(before, l.replaces(key)...)
	}
	return before
}

func (b *begun) records() (all []store.Record, err error) {
	for _, g := range b.grants {
		r, err := recordOf(&g, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	if b.session != nil {
		all = append(all, b.session.record)
	}
	return all, nil
}

// claim returns the write that has begun for the person of a grant, or nil. From then on the grant is the caller's. The caller holds mu.
func (l *ledger) claim(g *muc.Grant) *begun {
	key := grantKey(g.Room, g.Who)
	b := l.begun[key]
	delete(l.begun, key)
	return b
}

// has reports whether that is one of the grants, with what goes with it, whenever it was given.
func (b *begun) has(g *muc.Grant, with any) bool {
	return slices.ContainsFunc(b.grants, func(own muc.Grant) bool {
		return own.Room.Equal(g.Room) && own.Who.Equal(g.Who) && own.Affiliation == g.Affiliation && own.Expires.Equal(g.Expires) &&
			own.NeedsHost == g.NeedsHost && own.By == g.By && own.With == with
	})
}

// wait returns when it is written down, or could not be. A nil begun is.
func (b *begun) wait() error {
	if b == nil {
		return nil
	}
	<-b.done
	return b.err
}

// giveUp has all crossed out that came to nothing: grants that were not given, and a session that nobody is told of. It does not block.
func (l *ledger) giveUp(b *begun) {
	l.mu.Lock()
	var keys []string
	for _, g := range b.grants {
		if key := grantKey(g.Room, g.Who); l.begun[key] == b {
			delete(l.begun, key)
			keys = append(keys, key)
		}
	}
	if s := b.session; s != nil && s.begun == b && !s.told {
		l.untold = append(l.untold, s.record.Key)
		defer l.wake()
	}
	l.mu.Unlock()
	l.toCross(keys...)
}
