package store_test

import (
	"testing"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

func TestMemory(t *testing.T) {
	storetest.Run(t, func(_ *testing.T, o store.Options) store.Store { return store.Memory(o) })
}

func TestBolt(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) store.Store {
		return open(t, store.NewPath(t), o)
	})
}
