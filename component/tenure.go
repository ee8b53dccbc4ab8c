package component

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/store"
)

// This file is for ushers of one component that share a store. One of them is the active one: it holds the lease (store.Lease). Only
// the active one is connected, and each tenure has a Component of its own.
//
// An usher can lose its tenure at any point of admit, because it was frozen there (SIGSTOP, a suspended machine) or because it could
// not reach the store. These points are:
//
//   - Before apply, and before the answer: Options.Holds is asked, and the client is told to ask again.
//   - Before the grant is written down: the store is fenced (store.Fenced), so the write fails, and nothing is given.
//   - Between that and the stanza that gives the affiliation, or after it: no stanza is written to the server once Options.Gone reports
//     true, also none that is queued. If the affiliation has been given, it is written down as well, and the other usher takes it back
//     unless the person enters. The client has no answer, so its request is left to the other usher, which tells it to ask again.
//   - Before the answer is written: the same. If it has been written, the person was let in by an usher that held its tenure.
//
// An usher that could only not reach the store is not gone. It stays connected, and guards its rooms: if the store is away for all, there
// is nobody else. But if it is away for this one only, another usher may be connected as well. Prosody then ends the connection of this
// one. A server that knows no conflict deals stanzas to both by turns (ejabberd), so it deals this one's pings to itself to the other.
// Therefore keepAlive pings often meanwhile, and this usher leaves when an answer is missing.

// EventLeft is the event of the store which tells that an usher has left requests without an answer. Its key is the domain of the
// component.
const EventLeft = "left"

// tenureEvery is the interval at which an usher without a connection looks whether it is the active one.
const tenureEvery = 50 * time.Millisecond

// awaitTenure returns when this usher is the active one, or ctx ends. An usher that does not know whether it is must not connect: the
// server would drop the connection of the one that is (component_conflict_resolve = "kick_old").
func (c *Component) awaitTenure(ctx context.Context) {
	if c.o.Holds() {
		return
	}
	c.o.Log.Warn("not connecting: the store does not say whether this usher is still the active one")
	tick := time.NewTicker(tenureEvery)
	defer tick.Stop()
	for !c.o.Holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// takeLeft takes over the requests that other ushers have left in the store.
func (c *Component) takeLeft(ctx context.Context) {
	if c.shared {
		c.untilDone(ctx, "could not read the requests that another usher has left", func() error { return c.inherit(ctx) })
	}
}

// tellLeft tells the usher that is the active one now that requests were left to it.
func (c *Component) tellLeft(ctx context.Context) {
	err := c.handsOver(ctx, "could not tell the other usher of requests that were left to it", func(ctx context.Context) error {
		return c.o.Store.Append(ctx, store.Event{What: EventLeft, Key: c.o.Domain.String()})
	})
	if err != nil {
		c.o.Log.Warn("could not tell the other usher of requests that were left to it; it answers them when it starts again", zap.Error(err))
	}
}
