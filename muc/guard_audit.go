package muc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/pkg/few"
)

// look looks at one room once, and does what is due there.
func (g *Guard) look(ctx context.Context, rm *guarded) {
	g.mu.Lock()
	e := rm.errand(g.Now())
	if g.needless(rm, e) {
		defer g.mu.Unlock()
		g.reschedule(rm, e, nil)
		return
	}
	rm.hurry, rm.again = false, false
	e.audit = e.audit || e.enforce && g.EnforceRoles || rm.altered
	g.mu.Unlock()

	err := g.enforce(ctx, rm, e)
	if (e.audit || e.hang || e.enforce && g.Watch) && !Absent(err) {
		err = errors.Join(err, g.audit(ctx, rm, e.audit))
	}
	if !Absent(err) {
		err = errors.Join(err, g.takeBack(ctx, rm))
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case Absent(err):
		g.gone(rm)
	case err != nil && !errors.Is(ctx.Err(), context.Canceled):
		g.Warn(rm.jid, "could not look at the room", err)
	}
	g.reschedule(rm, e, err)
}

// enforce makes the room what it must be, or asks what it is, whichever is due. A breakout room is what its main room is.
func (g *Guard) enforce(ctx context.Context, rm *guarded, e errand) error {
	g.mu.Lock()
	main, searched := rm.ruled(), rm.searched
	g.mu.Unlock()
	if !main {
		return nil
	}
	membersOnly := g.Configuration.MembersOnly
	var is Settings
	var err error
	asked := true
	switch {
	case e.enforce && membersOnly:
		is, err = g.Owner.Enforce(ctx, rm.jid, g.Configuration)
	case e.audit && !membersOnly, (e.audit || e.hang) && !searched:
		is, err = g.Owner.Settings(ctx, rm.jid)
	default:
		asked = false
	}
	if asked && err == nil {
		err = g.noteSettings(ctx, rm, is)
	}
	if e.enforce && !membersOnly && !Absent(err) {
		err = errors.Join(err, g.tryAgain(ctx, rm.jid))
	}
	return err
}

// findings are the answers of a room that is audited.
type findings struct {
	asked time.Time // when the questions began
	news  uint32    // of the room then

	searched bool      // the room's lists were looked through now, which found:
	rights   []Item    // affiliations
	since    time.Time // see Guard.search

	moderators, occupants []Item
	visitors              bool // some of them are visitors
	missing               bool // the holder of a grant is neither a moderator nor a participant; the breakout rooms were asked, too
	owners                []Item
	bans                  bool // the outcasts were asked for
	outcasts              []Item
}

// audit asks who is inside and acts on the answers. It judges owners only if judge is true, which comes with the looks at every
// Interval.
func (g *Guard) audit(ctx context.Context, rm *guarded, judge bool) error {
	f, err := g.find(ctx, rm, judge)
	if err != nil {
		return err
	}
	if g.conclude(rm, f, judge) {
		err = g.finish(ctx, rm)
	}
	return errors.Join(err, g.writeBack(ctx, rm))
}

// find asks the room what an audit has to know, and audits its breakout rooms if that matters. The order of the questions counts:
// the lists come before the occupants, so that people who come meanwhile are found inside. The owners come after the occupants, so
// that an owner inside who is on no list is an admin of the service.
func (g *Guard) find(ctx context.Context, rm *guarded, judge bool) (f findings, err error) {
	f.asked = g.Now()
	if f.searched, f.news = g.unsearched(rm); f.searched {
		if f.rights, f.since, err = g.search(ctx, rm.jid); err != nil {
			return f, err
		}
	}
	if f.moderators, err = g.Owner.Moderators(ctx, rm.jid); err != nil {
		return f, err
	}
	participants, err := g.Owner.WithRole(ctx, rm.jid, "participant")
	if err != nil {
		return f, err
	}
	f.occupants = slices.Concat(f.moderators, participants)
	f.missing = g.missing(rm, f.occupants)
	if f.missing || g.peopleAmong(f.rights) || !g.peopleAmong(f.occupants) || g.hasVisitors(rm) {
		visitors, err := g.Owner.WithRole(ctx, rm.jid, "visitor")
		if err != nil {
			return f, err
		}
		f.occupants = append(f.occupants, visitors...)
		f.visitors = len(visitors) > 0
		if err := g.auditBreakouts(ctx, rm, judge); err != nil {
			return f, err
		}
	}
	if judge && g.needsOwners(rm, f.occupants) {
		if f.owners, err = g.Owner.WithAffiliation(ctx, rm.jid, "owner"); err != nil {
			return f, err
		}
	}
	if f.bans = judge && g.tellsBans(rm); f.bans {
		f.outcasts, err = g.outcasts.of(ctx, rm.jid)
	}
	return f, err
}

// tellsBans reports whether somebody wants to know who is banned. A ban in a breakout room does not last: its affiliations are those
// of the main room.
func (g *Guard) tellsBans(rm *guarded) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.wantsBans() && rm.ruled()
}

func (g *Guard) wantsBans() bool { return g.Removed != nil && (g.Bans == nil || g.Bans()) }

// tellBans tells of bans that the last audit has not found. What usher does to put somebody out looks like a ban for a moment. The
// caller holds mu.
func (g *Guard) tellBans(rm *guarded, f findings) {
	was := rm.banned
	if rm.banned = nil; len(f.outcasts) > 0 {
		rm.banned = make(map[string]bool)
	}
	for _, i := range f.outcasts {
		who, ok := i.real()
		bare := who.Bare().String()
		if g.removedSince(rm, bare, f.asked) {
			continue
		}
		if rm.banned[bare] = true; !was[bare] {
			g.stir(rm)
			if ok && who.Localpart() != "" {
				g.Removed(rm.jid, who.Bare(), true)
			}
		}
	}
}

// metBan has the room audited soon because of a ban that the last audit has not found. The caller holds mu.
func (g *Guard) metBan(rm *guarded, who jid.JID) {
	if g.wantsBans() && !rm.banned[who.String()] && !rm.banned[who.Domainpart()] && rm.ruled() {
		g.auditSoon(rm)
	}
}

// missing reports whether somebody who holds a grant is not among the occupants.
func (g *Guard) missing(rm *guarded, occupants []Item) bool {
	here := bareJIDs(occupants)
	g.mu.Lock()
	defer g.mu.Unlock()
	for bare := range rm.live {
		if !here[bare] {
			return true
		}
	}
	return false
}

// auditBreakouts audits the breakout rooms of a room.
func (g *Guard) auditBreakouts(ctx context.Context, rm *guarded, judge bool) error {
	g.mu.Lock()
	var breakouts []*guarded
	if rm.ruled() {
		breakouts = slices.Collect(maps.Keys(g.of[rm.jid.String()]))
	}
	g.mu.Unlock()
	for _, b := range breakouts {
		if err := g.audit(ctx, b, judge); Absent(err) {
			g.mu.Lock()
			g.gone(b)
			g.mu.Unlock()
		} else if err != nil {
			return err
		}
	}
	return nil
}

// conclude draws the consequences of an audit, and reports whether the room is deserted and shall end.
func (g *Guard) conclude(rm *guarded, f findings, judge bool) (deserted bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.rooms[rm.key] != rm { // it has ended, and the answers may be of another room of the same name
		return false
	}
	if f.news != rm.news {
		g.looksAgain(rm)
		return false
	}
	rm.compared = g.isTold(rm)
	if f.searched {
		g.claimRights(rm, f)
	}
	rm.used = rm.used || len(f.occupants) > 0
	was := rm.occupancy
	rm.occupancy = occupancy{
		focus: g.focusAmong(f.moderators), host: g.hostIn(rm, f.moderators), who: g.persons(f.occupants), visitors: f.visitors,
	}
	stirs := g.sees(rm, was, f)
	for bare, gr := range rm.live {
		if before := gr.state; before.held() {
			inside := g.inside(rm, bare)
			if inside && f.asked.Before(gr.At) {
				continue // perhaps they have left since, and then were given it
			}
			gr.account(inside, f.asked, gr.ended(f.asked))
			stirs = stirs || gr.state != before
		}
	}
	if f.missing {
		g.withoutHost(rm, f)
	}
	if judge && rm.ruled() {
		g.judge(rm, f.occupants, f.owners)
		if f.bans {
			g.tellBans(rm, f)
		}
	}
	if stirs {
		g.stir(rm)
	}
	maps.DeleteFunc(rm.putOut, func(_ string, at time.Time) bool { return at.Before(f.asked.Add(-joinWithin)) })
	return g.deserted(rm, f.asked)
}

// account notes whether the holder of a grant was inside at a time, and withdraws a grant that is not used, or had ended by then.
func (gr *grant) account(inside bool, asked time.Time, ended bool) {
	if inside {
		gr.on(eventCame)
		return
	}
	if gr.on(eventMissed) {
		gr.since = asked
	}
	late, away := asked.Sub(gr.At) >= joinWithin, asked.Sub(gr.since)
	switch gr.state {
	case stateGiven:
		if ended || late {
			gr.on(eventWithdraw)
		}
	case stateAway: // perhaps on the way from one room to another
		if ended && away >= endedEvery || late && away >= auditEvery {
			gr.on(eventWithdraw)
		}
	}
}

// withoutHost withdraws the grants that hang on a host, if neither this audit of the room and its breakout rooms has found one nor
// any for hostAway. The caller holds mu.
func (g *Guard) withoutHost(rm *guarded, f findings) {
	switch since := &rm.hang.hostless; {
	case g.hereOrBreakout(rm, occupancy.hosted):
		*since = time.Time{}
	case since.IsZero():
		*since = g.Now() // since the answer, not since the question: the host may have left in between
	case f.asked.Sub(*since) >= hostAway:
		for _, gr := range rm.live {
			if gr.hangs() && gr.state == stateGiven && gr.At.Before(f.asked) {
				gr.on(eventWithdraw)
			}
		}
	}
}

// deserted reports whether everybody has left a temporary room, so long ago that nobody is on the way to it. The caller holds mu.
func (g *Guard) deserted(rm *guarded, asked time.Time) bool {
	if !rm.ruled() || rm.lasts != temporary || g.hereOrBreakout(rm, occupancy.people) {
		rm.emptied = time.Time{}
		return false
	}
	if rm.emptied.IsZero() {
		rm.emptied = asked
	}
	if asked.Sub(rm.emptied) < auditEvery || rm.expects() {
		return false
	}
	rm.emptied = asked.Add(joinWithin) // if the room remains, or something in it, it is dealt with again then
	return true
}

// expects reports whether somebody has been admitted and may be on the way, also somebody who has left and was admitted again. The
// caller holds mu.
func (rm *guarded) expects() bool {
	return rm.any(func(gr *grant) bool {
		return gr.state.asking() || gr.ledger != found && (gr.state == stateGiven || gr.state.held() && rm.Now().Sub(gr.At) < joinWithin)
	})
}

// finish ends a room that everybody has left and that still exists. If the focus is inside, or a lobby is at work, it takes back
// all rights and leaves the room to them.
func (g *Guard) finish(ctx context.Context, rm *guarded) error {
	is, err := g.Owner.Settings(ctx, rm.jid)
	if err != nil {
		return err
	}
	lobbied := g.lobbied(ctx, rm.jid)
	if is.Persistent && !lobbied {
		if err := g.makeTemporary(ctx, rm.jid); err != nil {
			return err
		}
	}
	rights, err := g.Owner.affiliated(ctx, rm.jid)
	if err != nil {
		return err
	}
	occupants, err := g.Owner.occupants(ctx, rm.jid)
	if err != nil || g.peopleAmong(occupants) {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if rm.expects() {
		return nil
	}
	if !lobbied && len(occupants) == 0 && rm.used {
		return g.Owner.Destroy(rm.jid) // the next look finds it gone
	}
	rm.claim(rights, time.Time{}, nobody, g.isFocus)
	for _, gr := range rm.live {
		gr.on(eventWithdraw)
	}
	return nil
}

// persons returns the occupants by bare JID, without the focus and usher. It sorts them.
func (g *Guard) persons(occupants []Item) (who few.Map[person]) {
	slices.SortFunc(occupants, func(a, b Item) int { return strings.Compare(a.JID, b.JID) }) // so that each comes behind the others
	for _, i := range occupants {
		if j, ok := i.real(); ok && !g.isFocus(j) {
			bare := cutBare(i.JID)
			p := person{full: i.JID, moderator: i.Role == "moderator"}
			if one, more := who.Get(bare); more {
				p = person{full: one.full, moderator: one.moderator || p.moderator}
			}
			who.Put(bare, p)
		}
	}
	return who
}

// bareJIDs returns the bare JIDs of occupants, or of people on a list.
func bareJIDs(items []Item) map[string]bool {
	bare := make(map[string]bool, len(items))
	for _, i := range items {
		if who, ok := i.real(); ok {
			bare[who.Bare().String()] = true
		}
	}
	return bare
}
