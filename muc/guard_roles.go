package muc

import (
	"errors"

	"mellium.im/xmpp/jid"
)

// Who may be an owner, where EnforceRoles is set.
//
// An owner whom we did not make was made by somebody inside, or by Jicofo: by its election of an owner where none is inside
// (jicofo.conference.enable-auto-owner), or because it authenticates people itself (jicofo.authentication), which it does
// when they come in. The server tells an outsider who is an owner, not who made them one. So the rule goes by what else was
// seen: a host has made an owner of somebody if
//
//   - at the look before, that person was inside already without being an owner, and
//   - at that look and at this one, a host was inside.
//
// Whoever else is an owner is put back to what they were given, or member, and that is logged. A Jicofo that authenticates
// people makes them owners at every occasion, as when somebody else comes in; so with such a one whoever was put back once is
// made by no host. The rule errs against the new
// owner: one made within Interval of coming in, or by a host who left within Interval, has to be made one again.
// Those who are owners when a process looks for the first time at a room of an earlier one stay what they are.
type roles struct {
	inherited bool            // the room is of an earlier process and has not been looked at
	made      map[string]bool // by bare JID: owners whom a host has made
	plain     map[string]bool // who was inside at the look before and no owner
	host      bool            // a host was inside at the look before
	putBack   map[string]bool // by bare JID: who was put back, as long as they are inside
}

// Authenticates says whether the focus makes owners of those whom it authenticates, as it tells in its answers.
func (g *Guard) Authenticates(does bool) { g.authenticates.Store(does) }

var errElected = errors.New("neither usher nor a host made this owner: " +
	"jicofo.conference.enable-auto-owner must be false, and there must be no jicofo.authentication")

// mayOwn tells whether somebody is an owner or admin by us or by a host.
func (rm *guarded) mayOwn(bare string) bool {
	gr := rm.live[bare]
	return rm.made[bare] || gr != nil && !gr.withdrawn && moderates(gr.affiliation)
}

func moderates(affiliation string) bool { return affiliation == "owner" || affiliation == "admin" }

// judge compares who is an owner with who may be. The caller holds mu.
func (g *Guard) judge(rm *guarded, moderators, participants []Item) {
	owners, plain, host := map[string]bool{}, map[string]bool{}, false
	for _, i := range append(moderators, participants...) {
		who, err := jid.ParseUnsafe(i.JID)
		if err != nil || !g.countable(who.JID) {
			continue
		}
		bare := who.Bare().String()
		if !moderates(i.Affiliation) {
			plain[bare] = true
			continue
		}
		owners[bare] = true
		host = host || rm.mayOwn(bare)
	}
	made, putBack := map[string]bool{}, map[string]bool{}
	for bare := range rm.putBack {
		putBack[bare] = plain[bare] || owners[bare]
	}
	byHost := func(bare string) bool {
		return rm.plain[bare] && rm.host && host && !(putBack[bare] && g.authenticates.Load())
	}
	for bare := range owners {
		switch {
		case rm.made[bare], rm.inherited, byHost(bare):
			made[bare] = true
		case rm.mayOwn(bare):
		default:
			back := "member"
			if gr := rm.live[bare]; gr != nil {
				back = gr.affiliation
			}
			if err := rm.say(bare, back); err != nil {
				g.Warn(rm.jid, "an owner could not be put back to "+back, err)
				continue
			}
			putBack[bare] = true
			g.Warn(rm.jid, bare+" was owner and is "+back+" again", errElected)
		}
	}
	rm.made, rm.plain, rm.host, rm.inherited, rm.putBack = made, plain, host, false, putBack
}
