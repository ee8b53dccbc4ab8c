package muc

import (
	"context"
	"errors"

	"mellium.im/xmpp/stanza"
)

// What Rooms hear from usher's module (mod_usher). Their own occupants hear everything that happens in rooms, so the module tells
// only which grants, and which takings back, a room has refused.

// ungiven is a grant that was handed to a module which was not there any more.
type ungiven struct {
	rm   *room
	g    *grant
	over chan struct{} // the grant's settled
}

// News takes in what the module told. It is a [ToldOptions.News].
func (r *Rooms) News(n News) {
	if n.Kind != NewsRefused || n.Affiliation == "" {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rm := r.rooms[n.Room.String()]
	if rm == nil {
		rm = r.lost[n.Room.String()]
	}
	if rm == nil {
		return
	}
	bare := n.Who.Bare().String()
	g, here := rm.live[bare], r.Owner.Told.Takes(n.Room.Domainpart())
	if here && !nothingGiven(n.Why) {
		r.Warn(rm.jid, "could not give "+n.Affiliation+" to "+bare, errors.Join(errRefused, errors.New(n.Why)))
	}
	switch {
	case n.Affiliation == "none":
		// A module that is not there, or a plugin that fails in it, does not mean that the room refuses it.
		if g == nil && (!here || !nothingGiven(n.Why)) && !rm.outcasts[bare] {
			if err := rm.send(bare, ""); err != nil {
				r.Warn(rm.jid, "could not take back an affiliation", err)
			}
		}
	case g == nil, g.Affiliation != n.Affiliation, g.state.asking(): // another grant, which has an answer of its own
	case !here:
		r.giveAgain(rm, g)
	case n.Why == string(stanza.ItemNotFound) && rm.open:
		r.gone(rm) // and has not said so: usher would have heard of its end before
	default:
		if n.Why == "outcast" {
			r.change(rm.jid) // perhaps usher has not heard of the ban
		}
		r.withdraw(rm, bare) // the module lifts no ban by that, and a later grant that the room has taken ends with it
	}
}

// giveLost asks a room that usher has entered again for what it handed to the module and may have been lost with the connection. The
// caller holds mu.
func (r *Rooms) giveLost(rm *room) {
	for _, g := range rm.live {
		if g.handed && g.state.held() {
			r.giveAgain(rm, g)
		}
	}
}

// giveAgain asks the room for what no module has given. The caller holds mu.
func (r *Rooms) giveAgain(rm *room, g *grant) {
	if !g.on(eventUngiven) {
		return // it is to end
	}
	g.handed, g.settled = false, make(chan struct{})
	select {
	case r.ungiven <- ungiven{rm, g, g.settled}:
	default: // the queue is full
		g.on(eventRefused)
		g.settled = nil
		r.withdraw(rm, g.Who.String())
	}
}

// asksAgain asks the room for what no module has given.
func (r *Rooms) asksAgain(ctx context.Context, u ungiven) {
	defer r.settled(u.g, u.over)
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	if err := r.ask(ctx, u.rm, u.g); err != nil {
		r.Warn(u.rm.jid, "could not give an affiliation after usher's module was unloaded", err)
	}
}
