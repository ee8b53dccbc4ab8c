package muc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"mellium.im/xmpp/jid"
)

// Who may be an owner.
//
// An owner not made by usher was made by a host inside, or by Jicofo. Jicofo makes owners in one of two ways
// (ChatRoomRoleManager.kt, JitsiMeetConferenceImpl.joinTheRoom):
//
//   - It elects one (jicofo.conference.enable-auto-owner) when it enters, when somebody comes, and when the owner it knows leaves;
//     each time only if no owner is inside. It elects nobody in breakout rooms.
//   - It makes an owner of everybody it authenticates itself (jicofo.authentication), when they join and when they authenticate
//     again. Its answers to conference requests then say authentication='true', and it elects nobody.
//
// No server says who made an owner, so each look at the room is compared with the look before. A host made a new owner if
//
//   - one and the same host, who is an owner, was inside at both looks: Jicofo had nobody to elect, and the host could act.
//     An admin makes no owners, and does not keep Jicofo from electing one;
//   - the new owner was none at the look before, neither inside nor outside: somebody may be elected, leave, and come back;
//   - and where Jicofo authenticates people, the new owner had been inside for two looks as less than an owner, and was never
//     put back: Jicofo acts at the join.
//
// With EnforceRoles every other new owner is put back to what usher gave, or to member, and that is logged. Without it nobody
// is put back, and one warning for each room says what Jicofo does; only where no host can have done it, because a warning that
// may be wrong helps nobody.
//
// An owner by a host stays one while inside, or while holding a grant, as people in breakout rooms do. Nobody is judged
// who was an owner before usher let anybody in, or at the first look at a room of an earlier process. Admins of the MUC
// service are owners of every room and on no list of owners, and no grant to them lasts; they are left alone. Somebody with a
// grant who is missing on that list has just been put back, and may be elected again.
//
// What is still mistaken, with EnforceRoles. These lose what a host gave them, and the host has to do it again: who was made
// owner within one Interval of that host's coming or leaving, or of being put back; where Jicofo authenticates, who was made
// owner within two Intervals of their own coming, or was put back before. These stay owners by Jicofo: who was elected in the
// milliseconds before a host came, if the host was seen before Jicofo's word reached the server; who was elected while the only
// host left and came back with the same full JID within one Interval; and who was authenticated by Jicofo only after two looks.
type roles struct {
	inherited bool            // the room is of an earlier process and has not been looked at
	made      map[string]bool // by bare JID: owners who are so by a host, or were before us
	putBack   map[string]bool // by bare JID: who was put back, as long as they are inside
	before    looked          // at the last look
	warned    bool            // what Jicofo does has been said
}

// looked is what one look at a room saw.
type looked struct {
	hosts  map[string]string // bare JIDs by full JID: owners inside who may be owners
	owners map[string]bool   // by bare JID: owners, inside or outside; only with EnforceRoles
	less   map[string]int    // by bare JID: for how many looks somebody has been inside as no more than we gave them
}

// shares reports whether a host of one look is one of the next, too.
func (l looked) shares(next looked) bool {
	for full := range l.hosts {
		if next.hosts[full] != "" {
			return true
		}
	}
	return false
}

// SetAuthenticates says whether the focus authenticates people itself, and so makes owners of them, as its answers tell.
func (g *Guard) SetAuthenticates(does bool) { g.authenticates.Store(does) }

// Why Jicofo made somebody an owner, and what ends that.
var (
	errElected = errors.New("neither usher nor a host made this owner: Jicofo elects one if no owner is inside. " +
		"Set jicofo.conference.enable-auto-owner = false in jicofo.conf (docker: ENABLE_AUTO_OWNER=0)")
	errAuthenticated = errors.New("neither usher nor a host made this owner: Jicofo makes an owner of everybody it authenticates itself. " +
		"Take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)")
	errAuthenticates = errors.New("it makes owners of them, whatever usher decided. " +
		"Take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)")
)

// byJicofo is why somebody is an owner by Jicofo.
func (g *Guard) byJicofo() error {
	if g.authenticates.Load() {
		return errAuthenticated
	}
	return errElected
}

// mayBe reports whether somebody is what they are by us or by a host.
func (rm *guarded) mayBe(bare, affiliation string) bool {
	return rm.inherited || rm.made[bare] || !rm.above(bare, affiliation)
}

// above reports whether somebody is more than what we gave them.
func (rm *guarded) above(bare, affiliation string) bool {
	gr := rm.live[bare]
	return moderates(affiliation) && (gr == nil || gr.state.ending() || gr.Affiliation != "owner" && gr.Affiliation != affiliation)
}

func moderates(affiliation string) bool { return affiliation == "owner" || affiliation == "admin" }

// find takes those who are owners before we let anybody in to be of an earlier process.
func (rm *guarded) find(moderators []Item) {
	for _, i := range moderators {
		if who, ok := i.real(); ok && moderates(i.Affiliation) {
			rm.accept(who.Bare().String())
		}
	}
}

func (rm *guarded) accept(bare string) {
	if rm.made == nil {
		rm.made = make(map[string]bool)
	}
	rm.made[bare] = true
}

// demote takes note that we make less than an owner of somebody who may be one: what a host did counts no more, and until the
// next look nobody was a host all the time because of them.
func (rm *guarded) demote(bare string) {
	delete(rm.made, bare)
	maps.DeleteFunc(rm.before.hosts, func(_, host string) bool { return host == bare })
}

// ruled reports whether the room's owners are judged: a breakout room has those of its main room.
func (rm *guarded) ruled() bool { return rm.main.Equal(jid.JID{}) }

// needsOwners reports whether it takes the list of owners to judge the room's occupants.
func (g *Guard) needsOwners(rm *guarded, occupants []Item) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !rm.ruled() || g.EnforceRoles || rm.warned {
		return rm.ruled() && g.EnforceRoles
	}
	for _, i := range occupants {
		if who, ok := i.real(); ok && g.countable(who) && !rm.mayBe(who.Bare().String(), i.Affiliation) {
			return true
		}
	}
	return false
}

// judge compares who is an owner inside with who may be one, and acts on the difference. It takes the list of owners where
// needsOwners says so. The caller holds mu.
func (g *Guard) judge(rm *guarded, occupants, owners []Item) {
	if !g.EnforceRoles && g.authenticates.Load() {
		g.warnOnce(rm, "Jicofo authenticates people itself", errAuthenticates)
	}
	was, now := rm.before, looked{owners: bareJIDs(owners), less: map[string]int{}}
	inside, ruling := map[string]string{}, map[string]string{} // affiliations by bare JID, and owners as in looked.hosts
	for _, i := range occupants {
		who, ok := i.real()
		if !ok || g.isFocus(who) || !g.EnforceRoles && !g.countable(who) { // who is no host is worth no warning
			continue
		}
		bare := who.Bare().String()
		if inside[bare] = i.Affiliation; i.Affiliation == "owner" && g.countable(who) {
			ruling[who.String()] = bare
		}
	}
	notHost := func(_, bare string) bool { return !rm.mayBe(bare, "owner") }
	now.hosts = maps.Clone(ruling)
	maps.DeleteFunc(now.hosts, notHost)
	maps.DeleteFunc(rm.made, func(bare string, _ bool) bool { return inside[bare] == "" && rm.live[bare] == nil })
	maps.DeleteFunc(rm.putBack, func(bare string, _ bool) bool { return inside[bare] == "" })
	stayed, hostless := was.shares(now), len(was.hosts) == 0 && len(now.hosts) == 0 && !rm.gaveOwner()
	for bare, affiliation := range inside {
		switch {
		case !rm.above(bare, affiliation):
			now.less[bare] = was.less[bare] + 1
			delete(now.owners, bare) // they were not when we saw them inside
			delete(rm.made, bare)
		case rm.made[bare]:
		case rm.inherited, affiliation == "owner" && !now.owners[bare] && rm.live[bare] == nil,
			stayed && !was.owners[bare] && (!g.authenticates.Load() || was.less[bare] >= 2 && !rm.putBack[bare]),
			!g.EnforceRoles && (!hostless || affiliation != "owner"):
			rm.accept(bare)
		default:
			g.object(rm, bare)
		}
	}
	rm.inherited = false
	now.hosts = ruling
	maps.DeleteFunc(now.hosts, notHost) // those who were accepted just now are hosts from here on
	rm.before = now
}

// gaveOwner reports whether we made somebody an owner who may have come and gone between two looks.
func (rm *guarded) gaveOwner() bool {
	return rm.any(func(gr *grant) bool { return gr.Affiliation == "owner" })
}

// object puts an owner back who is one by Jicofo, or warns of them. The caller holds mu.
func (g *Guard) object(rm *guarded, bare string) {
	switch gr := rm.live[bare]; {
	case !g.EnforceRoles:
		g.warnOnce(rm, bare+" is owner, and so counts as a host", g.byJicofo())
	case gr != nil && (gr.state.asking() || gr.state.ending()): // which will make them something else
	case gr != nil:
		g.put(rm, bare, gr.Affiliation)
	default:
		g.give(rm, bare)
	}
}

// warnOnce warns of what Jicofo does, the first time for each room. The caller holds mu.
func (g *Guard) warnOnce(rm *guarded, what string, err error) {
	if !rm.warned {
		rm.warned = true
		g.Warn(rm.jid, what, fmt.Errorf("%w, or write jicofo.enforce_roles: true in usher.yaml, and usher puts such owners back", err))
	}
}

// put puts an owner back, and reports whether that was sent. The caller holds mu, so that it is sent before what is given next.
func (g *Guard) put(rm *guarded, bare, affiliation string) bool {
	if err := rm.send(bare, affiliation); err != nil {
		g.Warn(rm.jid, "an owner could not be put back to "+affiliation, err)
		return false
	}
	g.Warn(rm.jid, bare+" was owner and is "+affiliation+" again", g.byJicofo())
	if rm.putBack == nil {
		rm.putBack = make(map[string]bool)
	}
	rm.putBack[bare] = true
	return true
}

// give puts an owner to whom we gave nothing back to member, which is ours from then on. It is written down after that,
// because it is less than what there was. The caller holds mu.
func (g *Guard) give(rm *guarded, bare string) {
	if who, err := jid.ParseUnsafe(bare); err == nil && g.put(rm, bare, "member") {
		rm.live[bare] = &grant{
			Grant: Grant{Room: rm.jid, Who: who.JID, Affiliation: "member", At: time.Now()}, state: stateJoined, ledger: unwritten,
		}
	}
}

// writeBack writes down what give has given.
func (g *Guard) writeBack(ctx context.Context, rm *guarded) error {
	g.mu.Lock()
	var due []*grant
	for _, gr := range rm.live {
		if gr.ledger == unwritten {
			due = append(due, gr)
		}
	}
	g.mu.Unlock()
	var errs []error
	for _, gr := range due {
		err := rm.write(ctx, gr, nil)
		errs = append(errs, err)
		g.mu.Lock()
		if err == nil {
			gr.ledger = written
		}
		rm.crossOut(gr)
		g.mu.Unlock()
	}
	return errors.Join(errs...)
}
