package component

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
)

func TestAlive(t *testing.T) {
	t.Parallel()
	alive := func(t *testing.T, c *Component) error {
		ctx, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		return c.Alive(ctx)
	}
	component := func() *Component {
		return &Component{o: Options{Domain: jid.MustParse("focus.example.com"), Holds: func() bool { return true }}}
	}
	t.Run("requests have their turn", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, end := context.WithCancel(context.Background())
			c, q := component(), newQueue(ctx)
			c.work.Store(q)
			// Requests that never end, more than there are places, and as many others as the queue takes of one virtual host.
			stuck := make(chan struct{})
			for i := range full {
				_ = q.push(fmt.Sprintf("%d@guest.example.com", i), func(context.Context) { <-stuck })
			}
			for range workers {
				go q.work()
			}
			var tending sync.WaitGroup
			tending.Go(func() { q.tend(func(work func()) { go work() }) })
			if err := alive(t, c); err != nil {
				t.Error(err)
			}
			close(stuck)
			q.idle()
			q.close()
			end()
			tending.Wait()
		})
	})
	t.Run("nobody works", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, q := component(), newQueue(t.Context())
			c.work.Store(q)
			if err := alive(t, c); !errors.Is(err, errStuck) {
				t.Error(err)
			}
			q.close()
			if err := alive(t, c); err != nil { // the connection has only just ended
				t.Error(err)
			}
			time.Sleep(betweenConnections + time.Second)
			if err := alive(t, c); err == nil {
				t.Error("the connection never ended, and usher counts as alive")
			}
		})
	})
	t.Run("without a connection", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c := component()
			if err := alive(t, c); err != nil { // Run has not begun
				t.Error(err)
			}
			c.pulse.beat()
			time.Sleep(betweenConnections)
			if err := alive(t, c); err != nil {
				t.Error(err)
			}
			time.Sleep(time.Second)
			if err := alive(t, c); err == nil {
				t.Error("usher has given up connecting, and counts as alive")
			}
			c.o.Holds = func() bool { return false }
			if err := alive(t, c); err != nil { // it waits for the lease
				t.Error(err)
			}
		})
	})
}
