package muc

import (
	"context"
	"fmt"

	"mellium.im/xmpp/jid"
)

// Main returns the main room of a breakout room, as the room's configuration names it to owners (Jitsi's
// mod_muc_breakout_rooms.lua). It returns the zero JID if the configuration names none.
func (g *Guard) Main(ctx context.Context, breakout jid.JID) (jid.JID, error) {
	is, err := g.Owner.Settings(ctx, breakout)
	switch {
	case Absent(err):
		return jid.JID{}, ErrAbsent
	case err != nil || !is.Breakout || is.Main == "":
		return jid.JID{}, err
	}
	main, err := g.Room(is.Main) // the plugin spells it as clients do
	if err != nil {
		return jid.JID{}, err
	}
	g.mu.Lock()
	rm := g.named(breakout)
	if !rm.told.open && !rm.told.restored {
		rm.told.met = true // nobody comes into a breakout room before its first request
	}
	g.meets(breakout, &rm.told)
	known := rm.main.Equal(main)
	g.mu.Unlock()
	if !known {
		// The next process must know this. Otherwise it takes back what people in breakout rooms have in the main room.
		if err := g.Ledger.Granted(ctx, &Grant{Room: breakout, Who: main, At: g.Now()}, nil); err != nil {
			return jid.JID{}, fmt.Errorf("%w: %w", ErrUnwritten, err)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.setMain(g.room(breakout), main)
	return main, nil
}

// setMain makes a room a breakout room of main; the zero JID makes it a room of its own. The caller holds mu.
func (g *Guard) setMain(rm *guarded, main jid.JID) {
	if rm.main.Equal(main) {
		return
	}
	was, is := rm.main.String(), main.String()
	if delete(g.of[was], rm); len(g.of[was]) == 0 {
		delete(g.of, was)
	}
	if m := g.rooms[was]; m != nil {
		m.parted = g.Now()
		if g.tells(m.jid) {
			g.looksAgain(m) // for the people who were there
		}
	}
	if rm.main = main; main.Equal(jid.JID{}) {
		return
	}
	if g.of[is] == nil {
		g.of[is] = make(map[*guarded]bool)
	}
	g.of[is][rm] = true
	if m := g.rooms[is]; m != nil && g.tells(m.jid) {
		g.looksAgain(m) // perhaps this one is not told of
	}
}

// breakouts returns the breakout rooms of a main room that are known.
func (g *Guard) breakouts(main jid.JID) (all []jid.JID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for b := range g.of[main.String()] {
		all = append(all, b.jid)
	}
	return all
}

// Parted reports whether the people of a room are spread over breakout rooms, or were until a moment ago: then those who are not inside
// may be on the way back.
func (g *Guard) Parted(j jid.JID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	rm := g.rooms[j.String()]
	return rm != nil && g.parted(rm)
}

// parted is Parted. The caller holds mu.
func (g *Guard) parted(rm *guarded) bool {
	return len(g.of[rm.key]) > 0 || !rm.parted.IsZero() && g.Now().Sub(rm.parted) < joinWithin
}

// inside reports whether somebody was in the room, or in one of its breakout rooms, when Guard last asked. The caller holds mu.
func (g *Guard) inside(rm *guarded, bare string) bool {
	return g.hereOrBreakout(rm, func(o occupancy) bool { _, is := o.who.Get(bare); return is })
}

// hereOrBreakout reports whether is holds for the room or for one of its breakout rooms. The caller holds mu.
func (g *Guard) hereOrBreakout(rm *guarded, is func(occupancy) bool) bool {
	if is(rm.occupancy) {
		return true
	}
	for b := range g.of[rm.jid.String()] {
		if is(b.occupancy) {
			return true
		}
	}
	return false
}
