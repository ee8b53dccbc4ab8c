package component

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
)

// heldRecord is a request as it is written down: what it takes to answer it.
type heldRecord struct{ ID, From, To string }

// write writes a request down, to be answered by the next usher until an hour after the time.
func (h *held) write(ctx context.Context, r *waiter, until time.Time) error {
	value, err := json.Marshal(r.client.record())
	if err != nil {
		return err
	}
	key := rand.Text()
	h.knows(key)
	if err = h.store.Put(ctx, store.Record{Kind: store.KindHeld, Key: key, Value: value, End: until.Add(time.Hour)}); err != nil {
		h.forget(key)
		return err
	}
	r.key = key
	return nil
}

// knows notes that this usher answers the request with that key in the store, and reports whether it had not known of it.
func (h *held) knows(key string) (new bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	new = !h.keys[key]
	h.keys[key] = true
	return new
}

// forget notes that requests are no longer in the store.
func (h *held) forget(keys ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, key := range keys {
		delete(h.keys, key)
	}
}

// writeAll writes down requests that are not written down yet, and returns those that cannot be, and why.
func (h *held) writeAll(all []*waiter, until time.Time) (unwritten []*waiter, err error) {
	var g errgroup.Group
	g.SetLimit(workers) // which share a sync of the disk
	for _, r := range all {
		if r.key == "" {
			g.Go(func() error { return h.write(context.Background(), r, until) })
		}
	}
	err = g.Wait()
	for _, r := range all {
		if r.key == "" {
			unwritten = append(unwritten, r)
		}
	}
	return unwritten, err
}

// writeAgain writes requests down again that the store has lost: a server that several ushers share can lose its records, and does not
// say so. If another usher has answered one meanwhile, the client has two answers, which harms nobody. It returns those that may be lost.
func (h *held) writeAgain(ctx context.Context, all []*waiter, until time.Time) (lost []*waiter, err error) {
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(workers)
	for _, r := range all {
		g.Go(func() error {
			value, err := json.Marshal(r.client.record())
			if err == nil {
				_, _, err = h.store.Add(ctx, store.Record{Kind: store.KindHeld, Key: r.key, Value: value, End: until.Add(time.Hour)})
			}
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				lost = append(lost, r)
			}
			return err
		})
	}
	err = g.Wait()
	return lost, err
}

// dismiss answers all held requests, because usher stops and does not leave them to the next one.
func (c *Component) dismiss(ctx context.Context) {
	all := c.held.over(time.Time{})
	for _, r := range all {
		r.d = r.d.Denied(auth.ReasonStopping, nil)
	}
	c.settle(ctx, all)
}

// prepare writes down what is owed while the stream is still there, so that what cannot be written down can be answered.
func (c *Component) prepare(ctx context.Context) {
	owed := c.held.over(time.Unix(0, 0)) // long before any hold is over
	unwritten, err := c.held.writeAll(owed, c.o.Now())
	if len(unwritten) > 0 {
		c.o.Log.Warn("could not write requests down for the next usher; they are answered now", zap.Int("requests", len(unwritten)), zap.Error(err))
		c.leaving.Store(false)
	}
	for _, r := range owed {
		if r.key != "" {
			c.held.owe(r)
		}
	}
	c.settle(ctx, unwritten)
}

// leave writes down the requests without an answer when usher has stopped, so that the next usher answers them.
func (c *Component) leave(ctx context.Context) {
	left := c.held.over(time.Time{})
	lost, err := left, error(nil)
	if c.o.Outlives {
		var written []*waiter
		if c.shared {
			written = slices.DeleteFunc(slices.Clone(left), func(r *waiter) bool { return r.key == "" })
		}
		err = c.handsOver(ctx, "could not write requests down for the next usher", func(ctx context.Context) (err error) {
			lost, err = c.held.writeAll(left, c.o.Now())
			var failed error
			written, failed = c.held.writeAgain(ctx, written, c.o.Now())
			lost = append(lost, written...)
			return errors.Join(err, failed)
		})
	}
	c.held.mu.Lock()
	n := len(lost) + c.held.unowed
	c.held.mu.Unlock()
	if n > 0 {
		c.o.Log.Warn("requests end without an answer: usher could neither send one nor write them down for the next usher", zap.Int("requests", n), zap.Error(err))
	}
	if n := len(left) - len(lost); n > 0 {
		c.o.Log.Info("requests are left to the next usher, which answers them", zap.Int("requests", n))
		if c.shared {
			c.tellLeft(ctx)
		}
	}
}

// handsOver does something for the next usher that needs the store. An usher that stops tries once. One that was replaced lives on, so it
// tries for stopTimeout: the store may be busy for the same reason.
func (c *Component) handsOver(ctx context.Context, failed string, do func(ctx context.Context) error) (err error) {
	within, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.stopTimeout)
	defer cancel()
	if !errors.Is(context.Cause(ctx), ErrReplaced) {
		return do(within)
	}
	c.untilDone(within, failed, func() error { err = do(within); return err })
	return err
}

// inherit takes over the requests that another process has left. Their answers are owed.
func (c *Component) inherit(ctx context.Context) error {
	n := 0
	for rec, err := range c.o.Store.All(ctx, store.KindHeld) {
		if err != nil {
			return err
		}
		iq, err := readHeld(rec.Value)
		if err != nil {
			c.o.Log.Warn("cannot read a held request in the store; it is skipped", zap.Error(err))
			continue
		}
		// Other components may share the store.
		if !iq.To.Domain().Equal(c.o.Domain) || !c.held.knows(rec.Key) {
			continue
		}
		n++
		r := &waiter{request: *c.byIQ(iq), d: auth.Decision{}.Denied(auth.ReasonStopping, nil), key: rec.Key}
		r.came = time.Now()
		c.held.owe(r)
	}
	if n > 0 {
		c.o.Log.Info("an earlier usher has left requests unanswered", zap.Int("requests", n))
	}
	return nil
}

// readHeld reads what write has written of a request by IQ.
func readHeld(value []byte) (stanza.IQ, error) {
	var r heldRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return stanza.IQ{}, err
	}
	from, to, err := addresses(r.From, r.To)
	if err == nil && (from.Domainpart() == "" || to.Domainpart() == "") {
		err = errors.New("a request of nobody, or to nobody")
	}
	return stanza.IQ{ID: r.ID, Type: stanza.SetIQ, From: from, To: to}, err
}

// addresses reads two JIDs of a record.
func addresses(a, b string) (x, y jid.JID, err error) {
	first, err := jid.ParseUnsafe(a)
	if err != nil {
		return x, y, err
	}
	second, err := jid.ParseUnsafe(b)
	return first.JID, second.JID, err
}
