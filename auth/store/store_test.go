package store_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/auth/store/storetest"
)

// child, where there is one, makes this another process of a test, and does not return then.
var child = func() {}

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}

func TestMemory(t *testing.T) {
	storetest.Run(t, func(_ *testing.T, o store.Options) store.Store { return store.Memory(o) })
}

func TestBolt(t *testing.T) {
	storetest.Run(t, func(t *testing.T, o store.Options) store.Store {
		return open(t, filepath.Join(t.TempDir(), "usher.db"), o)
	})
}

// open opens a store that has to open.
func open(t testing.TB, path string, o store.Options) store.Store {
	t.Helper()
	s, err := store.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
