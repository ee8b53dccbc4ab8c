package muc

import (
	"context"
	"errors"
	"time"

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
//   - at that look and at this one, a host who is an owner was inside: an admin can make no owners.
//
// Whoever else is an owner, or is one and was made admin by us, is put back to what they were given, or member, and that is
// logged. The rule errs against the new owner: one made within Interval of coming in, or by a host who left within
// Interval, has to be made one again. One whom a host has made stays one as long as they are inside or have something
// from us, as those in breakout rooms do. A Jicofo that authenticates people makes them owners at every occasion, as when
// somebody else comes in; so with such a one whoever was put back once is made by no host. Those who are owners when a
// process looks for the first time at a room of an earlier one stay what they are.
type roles struct {
	inherited bool            // the room is of an earlier process and has not been looked at
	made      map[string]bool // by bare JID: owners whom a host has made
	plain     map[string]bool // who was inside at the look before, and no more than what they were given
	host      bool            // an owner was inside at the look before who may be one
	putBack   map[string]bool // by bare JID: who was put back, as long as they are inside
}

// Authenticates says whether the focus makes owners of those whom it authenticates, as it tells in its answers.
func (g *Guard) Authenticates(does bool) { g.authenticates.Store(does) }

var errElected = errors.New("neither usher nor a host made this owner: " +
	"jicofo.conference.enable-auto-owner must be false, and there must be no jicofo.authentication")

// mayBe tells whether somebody is what they are by us or by a host.
func (rm *guarded) mayBe(bare, affiliation string) bool {
	return rm.inherited || rm.made[bare] || !rm.above(bare, affiliation)
}

// above tells whether somebody is more than what we gave them.
func (rm *guarded) above(bare, affiliation string) bool {
	gr := rm.live[bare]
	return moderates(affiliation) && (gr == nil || gr.withdrawn || gr.affiliation != "owner" && gr.affiliation != affiliation)
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

// judge compares who is an owner with who may be, and puts back the others. The caller holds mu.
func (g *Guard) judge(rm *guarded, occupants []Item) {
	was := rm.roles
	inside := map[string]string{}
	rm.roles = roles{inherited: was.inherited, made: was.made, plain: map[string]bool{}, putBack: map[string]bool{}}
	for _, i := range occupants {
		if who, ok := i.real(); ok && g.countable(who) {
			inside[who.Bare().String()] = i.Affiliation
			rm.host = rm.host || i.Affiliation == "owner" && rm.mayBe(who.Bare().String(), "owner")
		}
	}
	for bare := range was.made {
		if inside[bare] == "" && rm.live[bare] == nil {
			delete(rm.made, bare)
		}
	}
	for bare, affiliation := range inside {
		rm.putBack[bare] = was.putBack[bare]
		gr := rm.live[bare]
		switch {
		case !rm.above(bare, affiliation):
			rm.plain[bare] = true
			delete(rm.made, bare)
		case was.inherited, was.plain[bare] && was.host && rm.host && !(was.putBack[bare] && g.authenticates.Load()):
			rm.accept(bare)
		case rm.made[bare]:
		case gr != nil && (gr.asked || gr.withdrawn): // which will make them something else
		case gr != nil:
			g.put(rm, bare, gr.affiliation)
		default:
			g.give(rm, bare)
		}
	}
	rm.inherited = false
}

// put puts an owner back, and tells whether it was said. The caller holds mu, so that it is said before what is given next.
func (g *Guard) put(rm *guarded, bare, affiliation string) bool {
	if err := rm.say(bare, affiliation); err != nil {
		g.Warn(rm.jid, "an owner could not be put back to "+affiliation, err)
		return false
	}
	g.Warn(rm.jid, bare+" was owner and is "+affiliation+" again", errElected)
	rm.putBack[bare] = true
	return true
}

// give puts an owner to whom we gave nothing back to member, which is ours from then on. It is written down after that,
// because it is less than what there was. The caller holds mu.
func (g *Guard) give(rm *guarded, bare string) {
	if who, err := jid.ParseUnsafe(bare); err == nil && g.put(rm, bare, "member") {
		rm.live[bare] = &grant{who: who.JID, affiliation: "member", at: time.Now(), joined: true, unwritten: true}
	}
}

// writeBack writes down what give has given.
func (g *Guard) writeBack(ctx context.Context, rm *guarded) error {
	g.mu.Lock()
	var unwritten []*grant
	for _, gr := range rm.live {
		if gr.unwritten {
			unwritten = append(unwritten, gr)
		}
	}
	g.mu.Unlock()
	var errs []error
	for _, gr := range unwritten {
		err := rm.write(ctx, gr)
		errs = append(errs, err)
		g.mu.Lock()
		gr.unwritten = err != nil
		rm.crossOut(gr)
		g.mu.Unlock()
	}
	return errors.Join(errs...)
}
