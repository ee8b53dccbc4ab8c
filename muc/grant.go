package muc

import (
	"sync"
	"time"

	"mellium.im/xmpp/jid"
)

// grant is a Grant, which the ledger keeps as well, and what has become of it. The lock of the room covers it. There may be very many.
type grant struct {
	*Grant
	state   state
	ledger  recorded
	refused giving        // how the room has refused what usher is giving or taking in this moment; Guard only, see Guard.refused
	handed  bool          // to usher's module, and nothing has shown yet that it arrived
	freed   bool          // from the host that it needed: a host has made its holder an owner
	since   time.Time     // of stateAway: when the holder was first missed
	settled chan struct{} // closed when the method Grant has returned; nil from then on, and for grants that it did not give
	taken   chan struct{} // of stateTaking: closed when the server has answered
	other   *grant        // of the same person, in another room; see holders
}

// state is where a grant stands between the request for it and its end. See step for how it changes.
type state uint8

const (
	// In these four the server has not answered yet. Nothing is taken back before it has: the withdrawal could overtake the grant.

	stateAsked   state = iota // the holder is outside
	stateRenewed              // the holder is inside, by an earlier grant
	stateDoomed               // to be taken back as soon as the server has answered
	stateOutcast              // an owner has banned the holder meanwhile, so nothing is left to take back

	stateGiven  // the holder is outside and expected
	stateJoined // the holder is inside
	stateAway   // the holder was inside, and the last looks have missed them (Guard only: a room tells Rooms who leaves)

	stateWithdrawn // to be taken back
	stateTaking    // the server has been asked to take it back, and has not answered yet
)

// event is what happens to a grant.
type event uint8

const (
	eventCame     event = iota // the holder is inside
	eventLeft                  // the holder is outside, and may still come
	eventMissed                // a look has not found the holder
	eventAnswered              // the server has given it
	eventRefused               // the server has refused it, or has not answered; it may have been given nevertheless
	eventWithdraw              // it shall end
	eventBanned                // an owner has banned the holder
	eventUnbanned              // the ban is lifted
	eventTake                  // the server is asked to take it back
	eventNotTaken              // that failed
	eventUngiven               // usher took it for given, and asks for it again
)

// step returns the state after an event. It is the only place where states change; an event that means nothing in a state leaves
// it as it is. A grant ends by being dropped from its room (grants.drop), in any state.
func (s state) step(e event) state {
	type from struct {
		state state
		event event
	}
	switch (from{s, e}) {
	case from{stateAsked, eventCame}:
		return stateRenewed
	case from{stateGiven, eventCame}, from{stateAway, eventCame}, from{stateRenewed, eventAnswered}:
		return stateJoined
	case from{stateRenewed, eventLeft}:
		return stateAsked
	case from{stateJoined, eventLeft}, from{stateAsked, eventAnswered}:
		return stateGiven
	case from{stateJoined, eventMissed}:
		return stateAway
	case from{stateAsked, eventWithdraw}, from{stateRenewed, eventWithdraw}, from{stateOutcast, eventUnbanned}:
		// After a ban that was lifted nobody knows whether the grant came before or after it.
		return stateDoomed
	case from{stateAsked, eventBanned}, from{stateRenewed, eventBanned}, from{stateDoomed, eventBanned}:
		return stateOutcast
	case from{stateGiven, eventWithdraw}, from{stateJoined, eventWithdraw}, from{stateAway, eventWithdraw},
		from{stateDoomed, eventAnswered},
		from{stateAsked, eventRefused}, from{stateRenewed, eventRefused}, from{stateDoomed, eventRefused},
		from{stateTaking, eventNotTaken}:
		return stateWithdrawn
	case from{stateGiven, eventUngiven}:
		return stateAsked
	case from{stateJoined, eventUngiven}:
		return stateRenewed
	case from{stateWithdrawn, eventTake}:
		return stateTaking
	}
	return s
}

// on applies an event, and reports whether it changed the state.
func (g *grant) on(e event) bool {
	was := g.state
	g.state = was.step(e)
	return g.state != was
}

// answer applies what the server made of the request to give it.
func (g *grant) answer(err error) {
	if err == nil {
		g.on(eventAnswered)
	} else {
		g.on(eventRefused)
	}
}

// asking reports whether the server has yet to answer.
func (s state) asking() bool { return s <= stateOutcast }

// held reports whether the holder has the affiliation and keeps it.
func (s state) held() bool { return s == stateGiven || s == stateJoined || s == stateAway }

// ending reports whether it is to be taken back.
func (s state) ending() bool { return s == stateDoomed || s == stateWithdrawn || s == stateTaking }

// awaited reports whether the holder has yet to join.
func (s state) awaited() bool { return s == stateAsked || s == stateGiven }

// recorded is what the ledger knows of a grant.
type recorded uint8

const (
	written   recorded = iota
	unwritten          // it is written down at the next look, see writeBack
	found              // others gave it, so it is never written down; see adopt.go
)

// newGrant returns a grant that is about to be given, at that time. What it is given with is for the ledger and for the session only.
func newGrant(g Grant, at time.Time) *grant {
	g.At, g.With, g.Context = at, nil, nil
	return &grant{Grant: &g, settled: make(chan struct{})}
}

// settle says that the method Grant has returned. It forgets the channel, because there may be very many grants. mu covers the grant.
func (g *grant) settle(mu *sync.Mutex) {
	mu.Lock()
	settled := g.settled
	g.settled = nil
	mu.Unlock()
	close(settled)
}

// restored returns a grant of an earlier process. Its holder is taken to be inside, and the right may have ended since.
func restored(g *Grant) *grant { return &grant{Grant: g, state: stateJoined} }

// withdrawn returns a grant that somebody may still have although it was taken back: that may be lost.
func withdrawn(room jid.JID, bare string) *grant {
	return &grant{Grant: &Grant{Room: room, Who: parsed(bare), Affiliation: "member"}, state: stateWithdrawn, ledger: found}
}

// ended reports whether the right is over.
func (g *grant) ended(now time.Time) bool { return !g.Expires.IsZero() && !now.Before(g.Expires) }

// hostAway is how long the last host must have been away before a grant that needs a host ends. A page reload takes less.
const hostAway = 5 * time.Second

// hangs reports whether the grant ends with the last host: its holder has not joined yet.
func (g *grant) hangs() bool { return g.NeedsHost && !g.freed && g.state.awaited() }
