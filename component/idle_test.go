package component

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
)

// While nothing is due nobody looks what the time is, also after there was something.
func TestSleepsWhileNothingIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := testComponent(t)
		var looks atomic.Int64
		c.o.Now = func() time.Time { looks.Add(1); return time.Now() }
		ctx, end := context.WithCancel(t.Context())
		q := newQueue(ctx)
		q.mark = func(uint64) {}
		var all sync.WaitGroup
		all.Go(q.work)
		all.Go(func() { q.tend(func(work func()) { all.Go(work) }) })
		for _, run := range []func(context.Context){
			c.end, c.expire, func(ctx context.Context) { c.watch.run(ctx, c.o.Now) },
		} {
			all.Go(func() { run(ctx) })
		}
		if err := q.push("a@v", func(context.Context) {}); err != nil {
			t.Fatal(err)
		}
		room := auth.Room{JID: theRoom}
		c.watch.waiting(jid.MustParse("a@v"), room, auth.ReasonHostAbsent, time.Now(), time.Now().Add(comesBack))
		time.Sleep(2 * comesBack)
		looks.Store(0)
		time.Sleep(time.Hour)
		if n, due := looks.Load(), q.nextLook(); n > 0 || !due.IsZero() {
			t.Errorf("looked %d times in an hour; the queue is to be looked at %s", n, due)
		}
		end()
		q.close()
		all.Wait()
	})
}
