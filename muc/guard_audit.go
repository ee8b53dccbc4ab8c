package muc

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"mellium.im/xmpp/jid"
)

// look looks at one room: what it must be is said again, it is asked who is inside, and things are taken back, each if it is
// time for that.
func (g *Guard) look(ctx context.Context, rm *guarded) {
	g.mu.Lock()
	rm.hurry = false
	again := !time.Now().Before(rm.next)
	audit := again && g.EnforceRoles || !time.Now().Before(rm.audit) || g.rightEnds(rm)
	hangs := rm.hangingDue(time.Now())
	audit = audit || rm.altered
	ours := rm.main.Equal(jid.JID{}) // a breakout room is what its main room is
	asked := ours && (again && g.Configuration.MembersOnly || audit && !g.Configuration.MembersOnly || (audit || hangs) && !rm.searched)
	g.mu.Unlock()
	var is Settings
	var err error
	switch {
	case asked && again && g.Configuration.MembersOnly:
		is, err = g.Owner.Enforce(ctx, rm.jid, g.Configuration)
	case asked:
		is, err = g.Owner.Settings(ctx, rm.jid)
	}
	if asked && err == nil {
		err = g.keep(ctx, rm, is)
	}
	if again && ours && !g.Configuration.MembersOnly && !Absent(err) {
		err = errors.Join(err, g.tryAgain(ctx, rm.jid))
	}
	if (audit || hangs) && !Absent(err) {
		err = errors.Join(err, g.audit(ctx, rm, audit))
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
		g.Warn(rm.jid, "the room could not be looked at", err)
	}
	rm.looking = false
	if again {
		rm.next = time.Now().Add(g.Interval)
	}
	if audit {
		rm.audit, rm.ends = time.Now().Add(auditEvery), time.Time{}
	}
	switch {
	case !rm.hanging():
		rm.hangs = time.Time{}
	case err != nil:
		rm.hangs = time.Now().Add(hostAway)
	case audit || hangs:
		rm.hangs = time.Now().Add(hangingAhead)
	}
	if err == nil {
		g.auditInTime(rm)
	}
}

// hangingDue tells whether it is time to ask who is inside because a grant hangs on a host. The caller holds mu.
func (rm *guarded) hangingDue(now time.Time) bool { return !rm.hangs.IsZero() && !now.Before(rm.hangs) }

// auditInTime has the room audited as soon as a right ends, and every endedAhead while somebody is inside whose right has ended:
// whoever comes later has no business there. The caller holds mu.
func (g *Guard) auditInTime(rm *guarded) {
	now := g.Now()
	for _, gr := range rm.live {
		if !gr.state.held() || gr.Expires.IsZero() {
			continue
		}
		at := gr.Expires
		if gr.state != stateGiven && gr.ended(now) {
			at = now.Add(endedAhead)
		}
		if rm.ends.IsZero() || at.Before(rm.ends) {
			rm.ends = at
		}
	}
}

// rightEnds tells whether it is time for that. The caller holds mu.
func (g *Guard) rightEnds(rm *guarded) bool { return !rm.ends.IsZero() && !g.Now().Before(rm.ends) }

// audit asks who is inside, and draws the consequences; those for owners only if judge is true, which come with the looks at
// every Interval.
func (g *Guard) audit(ctx context.Context, rm *guarded, judge bool) error {
	asked, now := time.Now(), g.Now()
	var rights []Item
	var since time.Time
	var err error
	unsearched := g.unsearched(rm)
	if unsearched {
		// Before the occupants: who comes meanwhile is inside.
		if rights, since, err = g.search(ctx, rm.jid); err != nil {
			return err
		}
	}
	moderators, err := g.Owner.Moderators(ctx, rm.jid)
	if err != nil {
		return err
	}
	participants, err := g.Owner.Participants(ctx, rm.jid)
	if err != nil {
		return err
	}
	occupants := append(moderators, participants...)
	away, breakouts := g.away(rm, occupants)
	if away || g.people(rights) || !g.people(occupants) {
		visitors, err := g.Owner.Visitors(ctx, rm.jid)
		if err != nil {
			return err
		}
		occupants = append(occupants, visitors...)
		for _, b := range breakouts {
			if err := g.audit(ctx, b, judge); Absent(err) {
				g.mu.Lock()
				g.gone(b)
				g.mu.Unlock()
			} else if err != nil {
				return err
			}
		}
	}
	var owners []Item
	if judge && g.needsOwners(rm, occupants) {
		// After the occupants: an owner among them who is not on this list is an admin of the service.
		if owners, err = g.Owner.Owners(ctx, rm.jid); err != nil {
			return err
		}
	}
	g.mu.Lock()
	if unsearched {
		g.searched(rm, rights, since)
	}
	rm.attended = slices.ContainsFunc(moderators, g.attends)
	rm.used = rm.used || len(occupants) > 0
	rm.here, rm.host = bareJIDs(occupants), g.hostIn(rm, moderators)
	for bare, gr := range rm.live {
		if gr.state.held() {
			gr.account(g.inside(rm, bare), asked, gr.ended(now))
		}
	}
	if away {
		g.withoutHost(rm, asked, now)
	}
	if judge && rm.ruled() {
		g.judge(rm, occupants, owners)
	}
	deserted := g.deserted(rm, occupants, asked)
	g.mu.Unlock()
	if deserted {
		err = g.finish(ctx, rm)
	}
	return errors.Join(err, g.writeBack(ctx, rm))
}

// withoutHost withdraws what hangs on a host if this look, for which the room and its breakout rooms were asked from then on, has
// found none, and neither has any for hostAway. The caller holds mu.
func (g *Guard) withoutHost(rm *guarded, asked, now time.Time) {
	host := rm.host
	for b := range g.of[rm.jid.String()] {
		host = host || b.host
	}
	switch {
	case host:
		rm.hostless = time.Time{}
	case rm.hostless.IsZero():
		rm.hostless = g.Now() // or earlier: since the answer, not since the question
	case now.Sub(rm.hostless) >= hostAway:
		for _, gr := range rm.live {
			if gr.NeedsHost && gr.state == stateGiven && gr.At.Before(asked) {
				gr.on(eventWithdraw)
			}
		}
	}
}

// away tells whether somebody to whom we gave something is not among the occupants, and returns the breakout rooms.
func (g *Guard) away(rm *guarded, occupants []Item) (away bool, breakouts []*guarded) {
	here := bareJIDs(occupants)
	g.mu.Lock()
	defer g.mu.Unlock()
	for bare := range rm.live {
		away = away || !here[bare]
	}
	if rm.main.Equal(jid.JID{}) {
		breakouts = slices.Collect(maps.Keys(g.of[rm.jid.String()]))
	}
	return away, breakouts
}

func bareJIDs(occupants []Item) map[string]bool {
	here := make(map[string]bool, len(occupants))
	for _, i := range occupants {
		if who, ok := i.real(); ok {
			here[who.Bare().String()] = true
		}
	}
	return here
}

// account notes whether the person was inside when that was asked, and withdraws what is not made use of, or had ended by then.
func (gr *grant) account(inside bool, asked time.Time, ended bool) {
	if inside {
		gr.on(eventCame)
		return
	}
	if gr.on(eventMissed) {
		gr.since = asked
	}
	away := asked.Sub(gr.since)
	switch late := asked.Sub(gr.At) >= joinWithin; {
	case gr.state == stateGiven && (ended || late),
		gr.state == stateAway && ended && away >= endedAhead,
		// Not at the first look: they may be on their way from a breakout room.
		gr.state == stateAway && late && away >= auditEvery:
		gr.on(eventWithdraw)
	}
}

// inside tells whether somebody was in the room, or in one of its breakout rooms, when it was last asked.
func (g *Guard) inside(rm *guarded, bare string) bool {
	if rm.here[bare] {
		return true
	}
	for breakout := range g.of[rm.jid.String()] {
		if breakout.here[bare] {
			return true
		}
	}
	return false
}
