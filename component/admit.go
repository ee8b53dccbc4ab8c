package component

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
)

// This file is the walk of a request, and so of its token, from top to bottom: conference parses it, admit leads it through decide,
// apply (of the mode) and reply. Each is passed once. A request that is held leaves the walk before reply, and begins again at
// admit when a host arrives.

// request is a conference request, from its door to its answer. Admission does not know which door it came through.
type request struct {
	from   jid.JID          // full; stamped by the server
	conf   focus.Conference // what the client said, none of it trusted
	client client
	came   time.Time // when it came, or when a held one was called
	held   *waiter   // not nil if it was held, and is decided for the last time
	by     *granted  // as what the sender is let in, for the ledger
	back   bool      // the sender may come from a breakout room; see Component.mayReturn

	decide, apply time.Duration // how long the rules took, and the room
	steps         []auth.Step   // with Options.Explain
}

// client is the way back to a client that asked; each door has its own kind.
type client interface {
	// tell hands an answer over, to be sent soon. If it is lost with the connection, lost is called, which does not block. An error
	// means that it was not handed over.
	tell(conf focus.Conference, d auth.Decision, said *focus.Answer, lost func()) error
	// fail tells that usher has failed.
	fail() error
	// record is what the next usher needs to answer instead of this one.
	record() heldRecord
}

// conference is the door for requests by IQ: it parses one and has it admitted.
func (c *Component) conference(ctx context.Context, r *request, payload xml.StartElement, d *xml.Decoder) {
	var err error
	if r.conf, err = focus.Parse(payload, d); err == nil {
		err = stream.End(d)
	}
	if err != nil {
		c.reply(ctx, r, c.undecided().Denied(auth.ReasonRequestMalformed, err), nil)
		return
	}
	c.admit(ctx, r)
}

// admit decides a request, makes the decision true in the room, and only then tells the client: ready='true' makes it join at once.
// A client that has to wait may get its answer later, see hold.
func (c *Component) admit(ctx context.Context, r *request) {
	d := c.active(c.decide(ctx, r))
	var said *focus.Answer
	if d.Verdict == auth.Allow {
		began := time.Now()
		d, said = c.letIn(ctx, r, d)
		r.apply = time.Since(began)
	}
	if d.Err != nil && errors.Is(context.Cause(ctx), errGaveWay) {
		d.Err = fmt.Errorf("%w: %w", errGaveWay, d.Err)
	}
	if !c.hold(ctx, r, d) {
		c.reply(ctx, r, d, said)
	}
}

// decide asks the rules, unless it is too late for them.
func (c *Component) decide(ctx context.Context, r *request) auth.Decision {
	switch {
	case c.stopping.Load():
		return c.undecided().Denied(auth.ReasonStopping, nil)
	case ctx.Err() != nil:
		return c.undecided().Denied(auth.ReasonRoomUnavailable, errBusy) // the client had better ask again
	}
	room, locked := c.locked(r.conf.Room)
	r.back = locked && c.mayReturn(room, r.from)
	req := auth.Request{
		At: c.o.Now(), From: r.from, Room: r.conf.Room, Locked: locked && !r.back,
		Token: r.conf.Token, SessionID: r.conf.SessionID, MachineUID: r.conf.MachineUID,
	}
	began := time.Now()
	defer func() { r.decide += time.Since(began) }()
	if !c.o.Explain {
		return c.policy.Load().Authorize(ctx, req, c.mode.look)
	}
	d, steps := c.policy.Load().Explain(ctx, req, c.mode.look)
	r.steps = readable(steps)
	return d
}

// active refuses a decision to let somebody in unless this usher is the active one; see tenure.go.
func (c *Component) active(d auth.Decision) auth.Decision {
	if d.Verdict == auth.Allow && !c.o.Holds() {
		return d.Denied(auth.ReasonStoreUnavailable, store.ErrStandby)
	}
	return d
}

// reply tells the client, logs the decision, and answers the older requests of somebody who has been let in.
func (c *Component) reply(ctx context.Context, r *request, d auth.Decision, said *focus.Answer) {
	d, sent := c.answer(r, d, said)
	if r.held != nil && sent {
		c.strike(ctx, r.held)
	}
	c.decided(r, d, time.Since(r.came))
	if d.Verdict == auth.Allow {
		c.admitted(ctx, r, d, said)
	}
}

// undecided is what all decisions begin with.
func (c *Component) undecided() auth.Decision {
	return auth.Decision{NoLogin: c.policy.Load().NoLogin()}
}
