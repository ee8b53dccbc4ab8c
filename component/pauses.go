package component

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"go.uber.org/zap"
	xmppstream "mellium.im/xmpp/stream"
)

const (
	// maxBackoff is the longest pause between two attempts to connect. maxRefused is the longest while nothing listens: the
	// machine is up and its server is not, as during a restart, and an attempt costs next to nothing.
	maxBackoff, maxRefused = 30 * time.Second, 3 * time.Second
	// settled is how long a connection must have lasted for the pauses to begin anew.
	settled = 10 * time.Second
	// standbyPause is the pause while another component is connected by our name.
	standbyPause = 500 * time.Millisecond
	// standbyLine is the interval of log lines meanwhile.
	standbyLine = 10 * time.Minute
)

// pauses are those between attempts to connect.
type pauses struct {
	failures, refused int // in a row

	standby  int       // attempts in a row that met another component of our name
	standing time.Time // when the log last told of them

	displaced int // how often another component has taken the connection
}

// after returns the pause after a connection that lasted so long, or after an attempt that failed.
func (p *pauses) after(err error, connected bool, lasted time.Duration) time.Duration {
	if connected && lasted > settled {
		p.failures, p.refused = 0, 0
	}
	switch {
	case errors.Is(err, xmppstream.Conflict) && !connected:
		// Another usher, perhaps, is connected by our name, and the server keeps it: Prosody's component_conflict_resolve is
		// kick_new. We stand by. An attempt costs the server little.
		return standbyPause
	case errors.Is(err, xmppstream.Conflict):
		// The server has put another one in our place (kick_old). If we came back at once, and it does the same, nobody would ever
		// be connected for long.
		p.failures++
		return maxBackoff/2 + backoff(0, maxBackoff)
	case errors.Is(err, syscall.ECONNREFUSED):
		// What follows an outage, such as a server that does not know us yet, is the first failure of its kind.
		p.failures = 0
		p.refused++
		return backoff(p.refused-1, maxRefused)
	}
	p.failures++
	return backoff(p.failures-1, maxBackoff)
}

// log tells why there is no connection. While another component is connected by our name, one line tells so, and one from time to time.
func (p *pauses) log(c *Component, err error, connected bool, pause time.Duration) {
	if !errors.Is(err, xmppstream.Conflict) || connected {
		p.standby = 0
		c.o.Log.Warn("no connection", zap.String("server", c.o.Server), zap.Error(err), c.hint(err),
			zap.Duration("again in", pause.Round(time.Millisecond)))
		if errors.Is(err, xmppstream.Conflict) {
			// Ushers that share a store do not do that: one of them holds the lease.
			if p.displaced++; p.displaced > 1 {
				c.o.Log.Error("another component takes the connection again and again; two ushers with different stores do that to each "+
					"other: stop one, or give both the same store.url", zap.Int("times", p.displaced))
			}
		}
		return
	}
	p.standby++
	switch {
	case p.standby == 1:
		fields := []zap.Field{zap.String("server", c.o.Server), zap.Error(err), zap.Duration("again every", pause)}
		if !c.shared {
			fields = append(fields, zap.String("store", "the sessions, grants and waiting requests of the other usher are not in this one's store"))
		}
		c.o.Log.Warn("standing by: another component is connected by this name", fields...)
	case time.Since(p.standing) < standbyLine:
		return
	default:
		c.o.Log.Info("still standing by", zap.Int("attempts", p.standby))
	}
	p.standing = time.Now()
}

// connected tells that standing by is over.
func (p *pauses) connected(c *Component) {
	if p.standby > 0 {
		c.o.Log.Info("the other component has gone: this usher takes over", zap.Int("attempts", p.standby))
	}
	p.standby = 0
}

// backoff returns the pause after so many failures: from half a second, doubled each time up to most. Half of it is random, so
// that many components do not return at once.
func backoff(failures int, most time.Duration) time.Duration {
	d := min(500*time.Millisecond<<min(failures, 10), most)
	return d/2 + rand.N(d/2)
}
