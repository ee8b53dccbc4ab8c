package component

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/alarm"
	"github.com/xmpp-usher/usher/pkg/token"
)

const (
	// tellBefore is how long before their right ends people are told, and joinedFor how long they must have had it by then: who has
	// just been let in is not yet in the room to hear it. With less than tellAtLeast left nobody is told.
	tellBefore, joinedFor, tellAtLeast = 5 * time.Minute, 30 * time.Second, time.Minute
	// endingsAtOnce is how many people are put out at a time.
	endingsAtOnce = 16
	// endWithin is how long the server may take to put somebody out. After a failure it is tried again after a second, then after two,
	// and so on up to endAgain.
	endWithin, endAgain = 10 * time.Second, time.Minute
)

// putOut is why somebody is put out of a room by usher.
type putOut string

const (
	byExpiry     putOut = "expired"  // on_expiry: remove
	byRevocation putOut = "revoked"  // usher revoke
	byBar        putOut = "barred"   // after_kick: another client of somebody who was kicked
	byReuse      putOut = "replaced" // token_reuse: replace
	byOperator   putOut = "removed"  // RemoveOccupant
	byLock       putOut = "locked"   // LockRoom, while they were let in
)

// text is what the person reads.
func (why putOut) text() string {
	switch why {
	case byRevocation:
		return auth.ReasonTokenRevoked.Text()
	case byBar:
		return auth.ReasonBarred.Text()
	case byLock:
		return auth.ReasonRoomLocked.Text()
	case byReuse:
		return "You have entered this conference from another place."
	default:
		return "Your access to this conference has ended. To come back, ask for a new link."
	}
}

// endsSoon is what people are told before their right ends.
func endsSoon(in time.Duration) string {
	minutes := int((in + time.Minute - 1) / time.Minute)
	if minutes == 1 {
		return "Your access to this conference ends in a minute. Then you will be removed. To stay, ask for a new link."
	}
	return fmt.Sprintf("Your access to this conference ends in %d minutes. Then you will be removed. To stay, ask for a new link.", minutes)
}

// ending is what is still to happen to a grant.
type ending struct {
	g     *live
	at    time.Time
	step  step
	why   putOut // of stepOut
	tries int    // how often it has been tried
	index int    // in the queue
}

// step is what happens next to a grant.
type step uint8

const (
	stepTell  step = iota // the person is told of the end of their right
	stepOut               // the person is put out
	stepCheck             // it is asked again whether the right was taken back, because the store did not answer
)

// endings are those of all live grants that have one, in the order of their times. A grant that ends by itself has none any more.
type endings struct {
	mu    sync.Mutex
	queue byTime
	of    map[*live]*ending
	wake  alarm.Alarm // rings when the first one has changed
}

func newEndings() *endings {
	return &endings{of: make(map[*live]*ending), wake: alarm.New(sweepEvery)}
}

// byTime is a heap (package container/heap).
type byTime []*ending

func (q byTime) Len() int           { return len(q) }
func (q byTime) Less(i, j int) bool { return q[i].at.Before(q[j].at) }
func (q byTime) Swap(i, j int)      { q[i], q[j] = q[j], q[i]; q[i].index, q[j].index = i, j }
func (q *byTime) Push(e any)        { e.(*ending).index = len(*q); *q = append(*q, e.(*ending)) }
func (q *byTime) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}

// expect takes in a grant that is live now.
func (e *endings) expect(g *live) {
	if !g.by().RemoveAt.IsZero() {
		e.add(&ending{g: g, at: g.by().RemoveAt.Add(-tellBefore), step: stepTell})
	}
}

// out has the person of a grant put out now.
func (e *endings) out(g *live, why putOut) { e.add(&ending{g: g, step: stepOut, why: why}) }

// add adds an ending. One that comes earlier takes the place of another one of the same grant, and to be put out that of a look
// whether that is due.
func (e *endings) add(n *ending) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if was := e.of[n.g]; was != nil {
		if !n.at.Before(was.at) && (n.step != stepOut || was.step != stepCheck) {
			return
		}
		heap.Remove(&e.queue, was.index)
	}
	e.of[n.g] = n
	heap.Push(&e.queue, n)
	if n.index == 0 {
		e.wake.Ring()
	}
}

// forget drops the ending of a grant that is no longer live.
func (e *endings) forget(g *live) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := e.of[g]; n != nil {
		heap.Remove(&e.queue, n.index)
		delete(e.of, g)
	}
}

// due takes out and returns the first ending if its time has come, otherwise nil.
func (e *endings) due(now time.Time) *ending {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 || now.Before(e.queue[0].at) {
		return nil
	}
	n := heap.Pop(&e.queue).(*ending)
	delete(e.of, n.g)
	return n
}

// next returns when the first ending is due, now at the earliest; zero for never.
func (e *endings) next(now time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case len(e.queue) == 0:
		return time.Time{}
	case e.queue[0].at.Before(now):
		return now
	}
	return e.queue[0].at
}

// end ends rights as their times come, until ctx ends. What is left then is for the next connection. An usher that is not the active
// one ends none: another one may have renewed them.
func (c *Component) end(ctx context.Context) {
	var out errgroup.Group
	out.SetLimit(endingsAtOnce)
	defer func() { _ = out.Wait() }()
	for ctx.Err() == nil {
		for ctx.Err() == nil && c.o.Holds() {
			e := c.ledger.endings.due(c.o.Now())
			if e == nil {
				break
			}
			out.Go(func() error { c.endOne(ctx, e); return nil })
		}
		now := c.o.Now()
		c.ledger.endings.wake.Sleep(ctx, now, c.ledger.endings.next(now))
	}
}

// endOne takes the next step with a grant. What fails is tried again, as long as the person has the right.
func (c *Component) endOne(ctx context.Context, e *ending) {
	next := &ending{g: e.g, step: e.step, why: e.why, tries: e.tries + 1, at: c.o.Now().Add(min(time.Second<<min(e.tries, 10), endAgain))}
	defer func() {
		if next != nil && c.ledger.isLive(e.g) {
			c.ledger.endings.add(next)
		}
	}()
	// A new grant of the same person comes before or after this.
	done, err := c.turns.take(ctx, turnOf(e.g.Room, e.g.Who))
	if err != nil {
		return
	}
	defer done()
	switch {
	case !c.ledger.isLive(e.g):
		next = nil
	case !c.o.Holds(): // any more
	case e.step == stepTell:
		if early := c.tellEnd(e.g); early > 0 {
			next.at = c.o.Now().Add(early)
		} else {
			next = &ending{g: e.g, at: e.g.by().RemoveAt, step: stepOut, why: byExpiry}
		}
	case e.step == stepCheck:
		switch reason, err := c.takenBack(ctx, e.g.by().proof(), e.g.room()); {
		case err != nil:
		case reason != "":
			next = &ending{g: e.g, step: stepOut, why: outBy(reason)}
		default:
			next = nil
			c.ledger.endings.expect(e.g)
		}
	case e.why == byRevocation && c.lifted(ctx, e.g):
		next = nil
		c.ledger.endings.expect(e.g)
	default:
		if err := c.putsOut(ctx, e); errors.Is(err, muc.ErrAdmin) {
			next = nil
		}
	}
}

// lifted reports whether a right is no longer taken back: with many people to put out, or a server that is busy, somebody may have
// lifted the revocation meanwhile. Without an answer it is not.
func (c *Component) lifted(ctx context.Context, g *live) bool {
	ctx, cancel := context.WithTimeout(ctx, storeAgain)
	defer cancel()
	revoked, err := c.refusals.Revoked(ctx, g.by().proof(), g.room())
	return err == nil && !revoked
}

// tellEnd tells somebody of the end of their right. If it is too early, it returns for how long.
func (c *Component) tellEnd(g *live) (early time.Duration) {
	now := c.o.Now()
	if joined := g.At.Add(joinedFor); now.Before(joined) {
		return joined.Sub(now)
	}
	left := g.by().RemoveAt.Sub(now)
	if left < tellAtLeast {
		return 0
	}
	if _, err := c.mode.Say(g.Room, g.Who, endsSoon(left)); err != nil {
		c.warn(g.Room, "could not tell somebody that their right ends", err)
	}
	return 0
}

// putsOut puts somebody out.
func (c *Component) putsOut(ctx context.Context, e *ending) error {
	ctx, cancel := context.WithTimeout(ctx, endWithin)
	defer cancel()
	if err := c.mode.Remove(ctx, e.g.Room, e.g.Who, e.why.text()); err != nil {
		c.warn(e.g.Room, "could not put somebody out yet", err)
		return err
	}
	c.isOut(e.g, e.why, e.why.text())
	return nil
}

// isOut counts, reports and logs that somebody was put out.
func (c *Component) isOut(g *live, why putOut, text string) {
	c.ledger.knockedIsOut(g)
	c.counts.happened(EventPutOut)
	what := RevokedOut
	if why == byExpiry {
		what = Expired
	}
	c.reportOut(what, g, text)
	proof := g.by().proof()
	c.o.Log.Info("put out", zap.String("reason", string(why)), zap.Stringer("room", g.Room), zap.Stringer("who", g.Who),
		zap.String("iss", token.ForLog(proof.Issuer)), zap.String("jti", token.ForLog(proof.ID)))
}

// turns lets the work on one thing go one after the other. The zero value is ready.
type turns struct {
	mu  sync.Mutex
	all map[string]*oneTurn
}

type oneTurn struct {
	free chan struct{} // holds one entry while nobody has the turn
	n    int           // who has the turn or waits for it
}

// turnOf names the work on the right of somebody in a room.
func turnOf(room, who jid.JID) string { return "person " + grantKey(room, who) }

// take returns when it is the caller's turn. The caller calls done afterwards.
func (t *turns) take(ctx context.Context, what string) (done func(), err error) {
	t.mu.Lock()
	one := t.all[what]
	if one == nil {
		one = &oneTurn{free: make(chan struct{}, 1)}
		one.free <- struct{}{}
		if t.all == nil {
			t.all = make(map[string]*oneTurn)
		}
		t.all[what] = one
	}
	one.n++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if one.n--; one.n == 0 {
			delete(t.all, what)
		}
	}
	select {
	case <-one.free:
		return func() { one.free <- struct{}{}; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}
