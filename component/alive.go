package component

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// betweenConnections is how long Run can take from one attempt to connect to the next: connecting, the handshake, the longest pause
// (pauses.after), and some time more for a machine that is busy.
const betweenConnections = 2*handshake + maxBackoff + maxBackoff/2 + time.Minute

// handshake is package stream's limit for connecting, and for the handshake.
const handshake = 10 * time.Second

var errStuck = errors.New("no request gets its turn any more")

// pulse is when Run last began to connect, as Unix nanoseconds; 0 before it has.
type pulse struct{ at atomic.Int64 }

func (p *pulse) beat() { p.at.Store(time.Now().UnixNano()) }

// stopped reports whether the last beat is too long ago.
func (p *pulse) stopped() bool {
	at := p.at.Load()
	return at != 0 && time.Since(time.Unix(0, at)) > betweenConnections
}

// Alive returns an error if usher's work has come to a halt, so that only a new process helps. While there is a connection, an empty
// request must get its turn, as that of any client, before ctx ends: this shows that the queue and its workers run. keepAlive shows the
// same of reading and writing, and ends the connection if they do not run; if that does not end, the queue stays closed for too long. While
// there is no connection, Run must go on trying. A server, store or Jicofo that does not answer is no halt.
//
// Any goroutine may call it.
func (c *Component) Alive(ctx context.Context) error {
	if q := c.work.Load(); q != nil {
		if turn, open := q.probe(c.o.Domain.String()); open {
			c.pulse.beat()
			select {
			case <-turn:
				return nil
			case <-ctx.Done():
				return fmt.Errorf("%w: %w", errStuck, ctx.Err())
			}
		}
	}
	if c.o.Holds() && c.pulse.stopped() {
		return fmt.Errorf("no attempt to connect for %s", betweenConnections)
	}
	return nil
}

// probe queues an empty request of the sender, also if the queue is full, and returns what is closed when it has had its turn. It
// reports false if the queue is closed.
func (q *queue) probe(key string) (turn <-chan struct{}, open bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, false
	}
	done := make(chan struct{})
	s := q.sender(key)
	s.jobs = append(s.jobs, func(context.Context) { close(done) })
	q.waiting++
	s.vhost.waiting++
	q.takesTurn(s)
	return done, true
}
