package component

import (
	"context"
	"errors"
	"slices"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
)

// What stands between a decision to let somebody in and the room: a one-time token is used up, and the same token or person may not
// be in the room twice. Afterwards it is asked once more whether the right was taken back meanwhile.

var (
	errOtherMachine = errors.New("the one-time token has let in another machine")
	errInsideTwice  = errors.New("the same is in the room already, and token_reuse is refuse")
)

// letIn makes a decision to let somebody in true, and returns what has become of it. What is decided about one person in a room goes
// one after the other, as does what is decided about one token there that may not be in it twice.
func (c *Component) letIn(ctx context.Context, r *request, d auth.Decision) (auth.Decision, *focus.Answer) {
	what := []string{turnOf(d.Room.JID, r.from.Bare())}
	if d.Reuse == auth.ReuseReplace || d.Reuse == auth.ReuseRefuse {
		what = append(what, "reuse "+d.Room.JID.String()+" "+reuseOf(d.Proof, d.ReuseOf))
	}
	for _, w := range what {
		done, err := c.turns.take(ctx, w)
		if err != nil {
			return d.Denied(auth.ReasonRoomUnavailable, err), nil
		}
		defer done()
	}
	if c.lockedOut(r, d) { // since the decision
		return d.Denied(auth.ReasonRoomLocked, nil), nil
	}
	r.by = &granted{Proof: proven(d.Proof), Reason: d.Reason, RemoveAt: d.RemoveAt, Machine: machineOf(r.conf.MachineUID)}
	if no := c.useUp(ctx, r, d); no.Verdict != auth.Allow {
		return no, nil
	}
	earlier, no := c.reused(r, d)
	if no.Verdict != auth.Allow {
		return no, nil
	}
	d, leave := c.enters(ctx, r, d)
	defer func() { leave(d) }()
	if d.Verdict != auth.Allow {
		return c.gettingSeat(r, d, earlier), nil
	}
	r.by.Reason, r.by.RemoveAt = d.Reason, d.RemoveAt // somebody else may have become host by coming first
	d, said := c.mode.apply(ctx, r, d)
	if d.Verdict == auth.Allow && d.Affiliation == auth.None && !d.Breakout && (said == nil || !said.Redirects()) {
		g := &muc.Grant{Room: d.Room.JID, Who: r.from.Bare(), At: c.o.Now(), Expires: d.Expires, By: r.by}
		if err := c.ledger.knocked(ctx, g); err != nil {
			d = d.Denied(auth.ReasonStoreUnavailable, err)
		}
	}
	if d.Verdict == auth.Allow {
		d = c.stillHolds(ctx, r, d)
	}
	if d.Verdict == auth.Allow && c.lockedOut(r, d) { // while the room was asked, which may take seconds
		d = c.staysOut(r, d)
	}
	if d.Verdict == auth.Allow && d.Affiliation != auth.None {
		for _, g := range earlier {
			c.ledger.endings.out(g, byReuse)
		}
	}
	if d.Verdict == auth.Allow {
		c.regards(d.Room.JID, r.from)
	}
	return d, said
}

// useUp uses a one-time token up for the machine that shows it. That is not undone if the person does not get in then: the same
// machine may come again.
func (c *Component) useUp(ctx context.Context, r *request, d auth.Decision) auth.Decision {
	if !d.OneTime {
		return d
	}
	may, err := c.used.Use(ctx, d.Proof, r.conf.MachineUID, d.Expires)
	switch {
	case err != nil:
		return d.Denied(auth.ReasonStoreUnavailable, err)
	case !may:
		return d.Denied(auth.ReasonTokenUsed, errOtherMachine)
	}
	return d
}

// reuseOf names what may be in a room once.
func reuseOf(p auth.Proof, of auth.ReuseOf) string {
	if who := p.Person(); of == auth.ReuseOfSubject && who != "" {
		return "sub " + p.Issuer + " " + who
	}
	return "token " + p.Token
}

// reused returns the grants in the room that the new one replaces. The decision is refused if one of them keeps the new one out; the
// same machine never keeps itself out, as it has no other way back after a reload.
func (c *Component) reused(r *request, d auth.Decision) ([]*live, auth.Decision) {
	if d.Proof.Token == "" || d.Reuse != auth.ReuseReplace && d.Reuse != auth.ReuseRefuse {
		return nil, d
	}
	same := reuseOf(d.Proof, d.ReuseOf)
	earlier := slices.DeleteFunc(c.ledger.in(d.Room.JID), func(g *live) bool {
		return g.by().proof().Token == "" || g.Who.Equal(r.from.Bare()) || reuseOf(g.by().proof(), d.ReuseOf) != same
	})
	other := slices.ContainsFunc(earlier, func(g *live) bool { return g.by().Machine == (machine{}) || g.by().Machine != r.by.Machine })
	if d.Reuse == auth.ReuseRefuse && other {
		return nil, d.Denied(auth.ReasonTokenUsed, errInsideTwice)
	}
	return earlier, d
}

// stillHolds asks once more whether the right was taken back, now that the grant is in the ledger's index. Everybody who takes rights back
// writes that down first and looks through the index then. So one of the two sees the other. If the store does not answer, the person
// is told to ask again, and the grant is looked at as soon as it does: those inside stay.
func (c *Component) stillHolds(ctx context.Context, r *request, d auth.Decision) auth.Decision {
	reason, err := c.takenBack(ctx, d.Proof, d.Room)
	if err == nil && reason == "" {
		return d
	}
	g := c.ledger.of(d.Room.JID, r.from)
	switch {
	case err != nil:
		if g != nil {
			c.ledger.endings.add(&ending{g: g, step: stepCheck})
		}
		return d.Denied(auth.ReasonStoreUnavailable, err)
	case g != nil:
		c.ledger.endings.out(g, outBy(reason))
	}
	return d.Denied(reason, nil)
}

// lockedOut reports whether an operator has locked the room for somebody who is to be let in.
func (c *Component) lockedOut(r *request, d auth.Decision) bool {
	return d.Reason != auth.ReasonHost && !r.back && c.locks.has(d.Room.JID)
}

// staysOut refuses somebody because the room has just been locked, and takes back what they were given. If they are inside
// already they stay.
func (c *Component) staysOut(r *request, d auth.Decision) auth.Decision {
	if inside, _ := c.watch.isPresent(d.Room.JID, r.from); !inside {
		if g := c.ledger.of(d.Room.JID, r.from); g != nil {
			c.ledger.endings.out(g, byLock)
		}
	}
	return d.Denied(auth.ReasonRoomLocked, nil)
}

// takenBack returns why a right by that proof is taken back; empty if it is not.
func (c *Component) takenBack(ctx context.Context, p auth.Proof, room auth.Room) (auth.Reason, error) {
	if revoked, err := c.refusals.Revoked(ctx, p, room); err != nil || revoked {
		return auth.ReasonTokenRevoked, err
	}
	if _, barred, err := c.refusals.Barred(ctx, p, room); err != nil || barred {
		return auth.ReasonBarred, err
	}
	return "", nil
}

// outBy returns why somebody is put out for a reason that takenBack returns.
func outBy(r auth.Reason) putOut {
	if r == auth.ReasonBarred {
		return byBar
	}
	return byRevocation
}
