package store_test

import (
	"testing"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

// smallBytes are room for some dozens of grants.
const smallBytes = 256 << 10

func TestMemory(t *testing.T) {
	open := func(_ *testing.T, o store.Options, _ *storetest.Clock) store.Store { return store.Memory(o) }
	storetest.Run(t, open, func(t *testing.T, o store.Options, clock *storetest.Clock) store.Store {
		o.MaxBytes = smallBytes
		return open(t, o, clock)
	})
	storetest.RunCounting(t, open)
}

func TestBolt(t *testing.T) {
	open := func(t *testing.T, o store.Options, _ *storetest.Clock) store.Store {
		return open(t, store.NewPath(t), o)
	}
	storetest.Run(t, open, func(t *testing.T, o store.Options, clock *storetest.Clock) store.Store {
		o.MaxBytes = smallBytes
		return open(t, o, clock)
	})
	storetest.RunCounting(t, open)
}
