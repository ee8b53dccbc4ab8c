package component

import (
	"context"
	"encoding/json"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/muc"
)

// People that usher left to the lobby of a room. They get no affiliation from usher; a moderator gives them one or does not. But
// their token can end or be revoked like any other while they are inside. So the ledger knows them as well, until the room ends:
// nothing tells it when they leave.

// knockedPerRoom bounds the people known of one room. Those beyond it stay inside when their right ends.
const knockedPerRoom = 4 << 10

// knocked notes that somebody with a token or an account is left to the lobby of a room. Somebody who is inside by an earlier grant
// has the newer right from now on.
func (l *ledger) knocked(ctx context.Context, g *muc.Grant) error {
	by := *grantedBy(g)
	if by.proof() == (auth.Proof{}) {
		return nil // a guest, who has nothing that could end
	}
	room, who := g.Room.String(), g.Who.String()
	by.Knocked = true
	knocks := *g
	knocks.By = &by
	now := (*live)(&knocks)
	l.mu.Lock()
	switch was := l.rooms.of(room, who); {
	case was != nil:
		renewed := *was
		seat, _ := l.seats.of(room, who)
		by.Knocked, by.Seat = false, seat.Number
		renewed.Expires, renewed.By = g.Expires, &by
		now = &renewed
		l.rooms.put(room, who, now)
		l.endings.forget(was)
		l.endings.expect(now)
	case len(l.lobby[room]) >= knockedPerRoom && l.lobby.of(room, who) == nil:
		l.mu.Unlock()
		return nil
	default:
		l.knocks(now)
	}
	l.mu.Unlock()
	value, err := json.Marshal(grantRecord{
		Affiliation: now.Affiliation, At: now.At, Expires: now.Expires, NeedsHost: now.NeedsHost, By: now.by(),
	})
	if err != nil {
		return err
	}
	end := g.At
	for _, later := range []time.Time{now.Expires, now.by().RemoveAt} {
		if later.After(end) {
			end = later
		}
	}
	l.order.RLock()
	defer l.order.RUnlock()
	if !l.isLive(now) {
		return nil // it has ended meanwhile, and is about to be crossed out
	}
	_, err = l.put(ctx, store.Record{Kind: store.KindGrant, Key: grantKey(g.Room, g.Who), Value: value, End: end.Add(writtenBeyond)})
	return err
}

// knocks takes somebody in. The caller holds mu.
func (l *ledger) knocks(now *live) {
	room, who := now.Room.String(), now.Who.String()
	l.endings.forget(l.lobby.of(room, who))
	l.lobby.put(room, who, now)
	l.endings.expect(now)
}

// forgetKnocked forgets somebody who has an affiliation from usher now, or is out. The caller holds mu.
func (l *ledger) forgetKnocked(room, who string) (was bool) {
	g := l.lobby.of(room, who)
	if g == nil {
		return false
	}
	l.endings.forget(g)
	l.lobby.remove(room, who)
	return true
}

// knockedIsOut forgets somebody who was put out.
func (l *ledger) knockedIsOut(g *live) {
	l.mu.Lock()
	was := l.lobby.of(g.Room.String(), g.Who.String()) == g && l.forgetKnocked(g.Room.String(), g.Who.String())
	l.mu.Unlock()
	if was {
		l.toCross(grantKey(g.Room, g.Who))
	}
}

// lobbyEnds forgets everybody who was left to the lobby of a room that has ended.
func (l *ledger) lobbyEnds(room jid.JID) {
	l.mu.Lock()
	gone := l.lobby.in(nil, room.String())
	for _, g := range gone {
		l.forgetKnocked(room.String(), g.Who.String())
	}
	l.mu.Unlock()
	for _, g := range gone {
		l.toCross(grantKey(g.Room, g.Who))
	}
}

// everybody returns the live grants of a room, or of all if room is empty, and those who were left to a lobby, in no order.
func (l *ledger) everybody(room string) (all []*live) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, x := range []index{l.rooms, l.lobby} {
		if room != "" {
			all = x.in(all, room)
		} else {
			all = x.everywhere(all)
		}
	}
	return all
}
