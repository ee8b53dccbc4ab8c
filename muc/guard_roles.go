package muc

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"mellium.im/xmpp/jid"
)

// Who may be an owner.
//
// If usher did not make an owner, a host inside did, or Jicofo. Jicofo makes owners in one of two ways (ChatRoomRoleManager.kt,
// JitsiMeetConferenceImpl.joinTheRoom):
//
//   - It elects one (jicofo.conference.enable-auto-owner) when it enters, when somebody comes, and when the owner it knows leaves;
//     each time only if no owner is inside. It elects nobody in breakout rooms.
//   - It makes an owner of everybody it authenticates itself (jicofo.authentication), when they join and when they authenticate
//     again. Its answers to conference requests then say authentication='true', and it elects nobody.
//
// Usher's module says who made an owner. Owners made by a host are accepted, and so are those made by an admin of the service.
// Owners made by Jicofo are not, nor those made by the server itself: that is one of Jitsi's plugins (token_affiliation,
// muc_allowners, muc_wait_for_host, muc_flip), which names nobody, and decides what usher is to decide. Of owners who were there when the
// module began to tell, it may not know who made them.
//
// Without the module no server says that, so each look at the room is compared with the look before. A host made a new owner if all of
// this is true:
//
//   - The same host, who is an owner, was inside at both looks. Then Jicofo had nobody to elect, and the host could act. An admin
//     makes no owners, and does not keep Jicofo from electing one.
//   - The new owner was no owner at the look before, neither inside nor outside. Otherwise somebody could be elected, leave, and
//     come back.
//   - If Jicofo authenticates people: the new owner had been inside for two looks as less than an owner, and was never put back.
//     Jicofo acts at the join.
//
// With EnforceRoles every other new owner is put back to what usher gave, or to member, and usher logs that. Without it nobody is
// put back, and one warning for each room says what Jicofo does. The warning appears only if no host can have done it, because a
// warning that may be wrong helps nobody.
//
// An owner made by a host stays one while inside, or while holding a grant, as people in breakout rooms do. Owners are not judged
// if they were owners before usher let anybody in, or at the first look at a room of an earlier process. Admins of the MUC service
// are owners of every room and on no list of owners, and no grant to them lasts. They are left alone. Somebody with a grant who is
// not on the list has just been put back, and may be elected again.
//
// With EnforceRoles and without the module usher is still wrong in these cases. Owners made by a host lose that, and the host has to do
// it again, if
//
//   - they were made owners within one Interval of that host's coming or leaving, or of being put back;
//   - Jicofo authenticates people, and they were made owners within two Intervals of their own coming, or were put back before.
//
// Owners made by Jicofo stay owners if
//
//   - they were elected in the milliseconds before a host came, and the host was seen before Jicofo's election reached the server;
//   - they were elected while the only host left and came back with the same full JID within one Interval;
//   - Jicofo authenticated them only after two looks.
type roles struct {
	inherited bool            // an earlier process knew the room, and its owners have not been judged yet
	made      map[string]bool // by bare JID: owners made by a host, or before usher let anybody in; false for those that somebody else made
	putBack   map[string]bool // by bare JID: people who were put back, as long as they are inside
	before    owners          // at the last look
	warned    bool            // the warning about Jicofo has been given
	judged    bool            // the owners have been judged since the module tells of the room
}

// owners is what one look at a room finds out about its owners.
type owners struct {
	hosts map[string]string // bare JIDs by full JID: owners inside who may be owners
	all   map[string]bool   // by bare JID: owners, inside or outside; only with EnforceRoles
	less  map[string]int    // by bare JID: the number of looks in a row at which somebody inside was no more than usher gave them
}

// share reports whether somebody is a host at this look and at the next.
func (l owners) share(next owners) bool {
	for full := range l.hosts {
		if next.hosts[full] != "" {
			return true
		}
	}
	return false
}

// SetAuthenticates tells Guard whether the focus authenticates people itself, and so makes owners of them. The answers of the focus
// say so.
func (g *Guard) SetAuthenticates(does bool) { g.authenticates.Store(does) }

// Why Jicofo made somebody an owner, and what the operator can do.
var (
	errElected = errors.New("neither usher nor a host made this owner: Jicofo elects one if no owner is inside. " +
		"Set jicofo.conference.enable-auto-owner = false in jicofo.conf (docker: ENABLE_AUTO_OWNER=0)")
	errAuthenticated = errors.New("neither usher nor a host made this owner: Jicofo makes an owner of everybody it authenticates itself. " +
		"Take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)")
	errByServer = errors.New("neither usher nor a host made this owner: the MUC service itself did, as Jitsi's plugins token_affiliation, muc_allowners, " +
		"muc_wait_for_host and muc_flip do. Take such a plugin out of its modules_enabled")
	errAuthenticates = errors.New("it makes owners of them, whatever usher decided. " +
		"Take the jicofo.authentication block out of jicofo.conf (docker: JICOFO_ENABLE_AUTH=0)")
)

// made returns who made somebody inside an owner, if the module has told that: somebody who may do that (err is nil), or Jicofo or a
// plugin, as err says. The caller holds mu.
func (g *Guard) made(rm *guarded, bare string) (known bool, err error) {
	by, known := g.Owner.Told.MadeBy(rm.jid, bare)
	who, named := Item{JID: by}.real()
	switch {
	case !known:
		return false, nil
	case !named:
		return rm.roles.judged, errByServer // before that it may be that the module did not see it
	case g.isOurs(who):
		return true, nil
	case g.isFocus(who):
		return true, g.byJicofo()
	case rm.rejected(bare): // perhaps who made them has been put back or has gone since
	case !rm.roles.judged || g.rules(rm, by):
		return true, nil
	}
	return true, g.byJicofo() // or a plugin, through an owner made by it
}

// byJicofo returns why Jicofo made somebody an owner.
func (g *Guard) byJicofo() error {
	if g.authenticates.Load() {
		return errAuthenticated
	}
	return errElected
}

// mayBe reports whether somebody has an affiliation from usher or from a host.
func (rm *guarded) mayBe(bare, affiliation string) bool {
	return rm.roles.inherited || rm.roles.made[bare] || !rm.above(bare, affiliation)
}

// above reports whether somebody is more than what usher gave them.
func (rm *guarded) above(bare, affiliation string) bool {
	gr := rm.live[bare]
	return moderates(affiliation) && (gr == nil || gr.state.ending() || gr.Affiliation != "owner" && gr.Affiliation != affiliation)
}

func moderates(affiliation string) bool { return affiliation == "owner" || affiliation == "admin" }

// acceptFound accepts the owners of a room that has just been opened: they are of an earlier process. The focus needs nobody's consent.
func (g *Guard) acceptFound(rm *guarded, moderators []Item) {
	for _, i := range moderators {
		if who, ok := i.real(); ok && moderates(i.Affiliation) && !g.isFocus(who) {
			rm.accept(who.Bare().String())
		}
	}
}

// accept notes that an owner may be one.
func (rm *guarded) accept(bare string) {
	if rm.roles.made == nil {
		rm.roles.made = make(map[string]bool)
	}
	rm.roles.made[bare] = true
}

// rejects notes that an owner was made by somebody who may not do that. Before the owners have been judged that is not known.
func (rm *guarded) rejects(bare string) {
	if rm.roles.judged {
		rm.accept(bare)
		rm.roles.made[bare] = false
	}
}

// rejected reports whether that was so.
func (rm *guarded) rejected(bare string) bool {
	may, made := rm.roles.made[bare]
	return made && !may
}

// demote notes that usher makes less than an owner of somebody who may be one. What a host did no longer counts, and they do not
// count as a host who was inside all the time until the next look.
func (rm *guarded) demote(bare string) {
	delete(rm.roles.made, bare)
	maps.DeleteFunc(rm.roles.before.hosts, func(_, host string) bool { return host == bare })
}

// ruled reports whether the room has owners of its own. A breakout room has those of its main room.
func (rm *guarded) ruled() bool { return rm.main.Equal(jid.JID{}) }

// needsOwners reports whether judge needs the list of owners.
func (g *Guard) needsOwners(rm *guarded, occupants []Item) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !rm.ruled() || g.EnforceRoles || rm.roles.warned {
		return rm.ruled() && g.EnforceRoles
	}
	for _, i := range occupants {
		if who, ok := i.real(); ok && g.countable(who) && !rm.mayBe(who.Bare().String(), i.Affiliation) {
			return true
		}
	}
	return false
}

// judge puts owners inside back who may not be owners, or warns of them. It gets the list of owners if needsOwners says so. The
// caller holds mu.
func (g *Guard) judge(rm *guarded, occupants, list []Item) {
	if !g.EnforceRoles && g.authenticates.Load() {
		g.warnOnce(rm, "Jicofo authenticates people itself", errAuthenticates)
	}
	was, now := rm.roles.before, owners{all: bareJIDs(list), less: map[string]int{}}
	inside, ruling := map[string]string{}, map[string]string{} // affiliations by bare JID, and owners as in owners.hosts
	for _, i := range occupants {
		who, ok := i.real()
		if !ok || g.isFocus(who) || !g.EnforceRoles && !g.countable(who) { // somebody who is no host is worth no warning
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
	maps.DeleteFunc(rm.roles.made, func(bare string, may bool) bool { return may && inside[bare] == "" && rm.live[bare] == nil })
	maps.DeleteFunc(rm.roles.putBack, func(bare string, _ bool) bool { return inside[bare] == "" })
	told := g.tells(rm.jid)
	stayed, hostless := was.share(now), len(was.hosts) == 0 && len(now.hosts) == 0 && !rm.gaveOwner()
	for bare, affiliation := range inside {
		known, wrong := g.made(rm, bare)
		switch {
		case !rm.above(bare, affiliation):
			now.less[bare] = was.less[bare] + 1
			delete(now.all, bare) // they were no owner when they were seen inside
			delete(rm.roles.made, bare)
		case rm.roles.made[bare]:
		case rm.roles.inherited, affiliation == "owner" && !now.all[bare] && rm.live[bare] == nil:
			rm.accept(bare)
		case known && wrong == nil:
			rm.accept(bare)
		case known:
			g.object(rm, bare, wrong)
		case stayed && !was.all[bare] && (!g.authenticates.Load() || was.less[bare] >= 2 && !rm.roles.putBack[bare]),
			!g.EnforceRoles && (!hostless || affiliation != "owner"):
			rm.accept(bare)
		default:
			g.object(rm, bare, g.byJicofo())
		}
	}
	rm.roles.inherited, rm.roles.judged = false, told
	now.hosts = ruling
	maps.DeleteFunc(now.hosts, notHost) // people who were accepted just now are hosts from here on
	if rm.roles.before = now; told {
		rm.roles.before = owners{} // nothing has to be guessed
	}
}

// gaveOwner reports whether usher made somebody an owner, who may have come and gone between two looks.
func (rm *guarded) gaveOwner() bool {
	return rm.any(func(gr *grant) bool { return gr.Affiliation == "owner" })
}

// object puts an owner back made by Jicofo or a plugin, as why says, or warns of them. The caller holds mu.
func (g *Guard) object(rm *guarded, bare string, why error) {
	switch gr := rm.live[bare]; {
	case !g.EnforceRoles:
		g.warnOnce(rm, bare+" is owner, and so counts as a host", why)
	case gr != nil && (gr.state.asking() || gr.state.ending()): // then their affiliation is about to change
	case gr != nil:
		g.put(rm, bare, gr.Affiliation, why)
	default:
		g.makeMember(rm, bare, why)
	}
}

// warnOnce warns of what Jicofo does, once for each room. The caller holds mu.
func (g *Guard) warnOnce(rm *guarded, what string, err error) {
	if !rm.roles.warned {
		rm.roles.warned = true
		g.Warn(rm.jid, what, fmt.Errorf("%w, or write jicofo.enforce_roles: true in usher.yaml, and usher puts such owners back", err))
	}
}

// put puts an owner back, and reports whether that was sent. The caller holds mu, so that it is sent before the next grant.
func (g *Guard) put(rm *guarded, bare, affiliation string, why error) bool {
	who, _ := Item{JID: bare}.real()
	sent, err := g.Owner.Told.Give(Given{Room: rm.jid, Who: who, Affiliation: affiliation})
	if !sent && err == nil {
		err = rm.send(bare, affiliation)
	}
	if err != nil {
		g.Warn(rm.jid, "could not put an owner back to "+affiliation, err)
		return false
	}
	g.Warn(rm.jid, bare+" was owner and is "+affiliation+" again", why)
	if rm.roles.putBack == nil {
		rm.roles.putBack = make(map[string]bool)
	}
	rm.roles.putBack[bare] = true
	return true
}

// makeMember puts an owner without a grant back to member, which is a grant from then on. It is written down afterwards, because it
// gives less than the person had. The caller holds mu.
func (g *Guard) makeMember(rm *guarded, bare string, why error) {
	if who, err := jid.ParseUnsafe(bare); err == nil && g.put(rm, bare, "member", why) {
		rm.put(bare, &grant{
			Grant: &Grant{Room: rm.jid, Who: who.JID, Affiliation: "member", At: g.Now()}, state: stateJoined, ledger: unwritten,
		})
	}
}

// writeBack writes the grants of makeMember down.
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
