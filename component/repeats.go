package component

import (
	"context"
	"hash/maphash"
	"maps"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"mellium.im/xmpp/jid"
)

const (
	// repeatsEvery is how long the lines of one sender with one reason are counted before the count is logged.
	repeatsEvery = 10 * time.Second
	// repeatsPairs bounds the pairs of sender and reason with lines of their own at one time; a school with expired tokens stays
	// below. Every repeatsNew another pair can begin. repeatsCrowds bounds the pairs of virtual host and reason with lines for all
	// other senders together; of the senders of one, repeatsSenders are told apart.
	repeatsPairs, repeatsCrowds, repeatsSenders = 1000, 100, 1000
	repeatsNew                                  = 100 * time.Millisecond
)

// repeats writes the log lines that anybody on the server can cause at will, so that nobody can fill the disk: refusals, stanzas
// that cannot be read, answers that cannot be sent. It logs the first line of a sender with one reason at once. It counts further
// ones in the next repeatsEvery, and then logs one line with the count, and so on as long as there are any.
//
// A sender is a bare JID. An anonymous user has a new one with each connection. So when there are too many pairs of sender and
// reason, further ones count by their virtual host and reason, with the number of senders.
//
// It is safe for concurrent use and starts nothing; see run.
type repeats struct {
	log *zap.Logger
	now func() time.Time // tests set it; it must not go back

	mu     sync.Mutex
	pairs  map[pair]*repeat
	crowds map[crowd]*repeat
	seed   maphash.Seed
	spare  int       // how many pairs may be new
	filled time.Time // when that was counted
}

// about is a line's text, and its reason.
type about struct{ what, reason string }

type pair struct {
	about
	sender string
}

type crowd struct {
	about
	vhost string
}

// repeat counts lines of one kind since the last one that was logged.
type repeat struct {
	level   zapcore.Level
	since   time.Time
	count   int
	senders map[uint64]bool // of a crowd: their hashes, as far as they are told apart
	more    bool            // there were more of them
}

func newRepeats(log *zap.Logger) *repeats {
	return &repeats{log: log, now: time.Now, pairs: map[pair]*repeat{}, crowds: map[crowd]*repeat{}, seed: maphash.MakeSeed()}
}

// say logs a line about a sender, or counts it. what and reason are of a closed list. vhost is the sender's virtual host if it is
// configured, and empty for all other senders, because anybody can have any number of domains.
func (r *repeats) say(level zapcore.Level, what, reason, vhost string, sender jid.JID, fields ...zap.Field) {
	if !r.log.Core().Enabled(level) {
		return
	}
	bare := sender.Bare().String()
	r.mu.Lock()
	first, ended := r.note(level, about{what, reason}, vhost, bare)
	r.mu.Unlock()
	r.write(ended)
	if first {
		r.log.Log(level, what, fields...)
	}
}

// note counts a line, and reports whether it is to be logged itself. ended is the line with a count to log before it, if any.
func (r *repeats) note(level zapcore.Level, a about, vhost, sender string) (first bool, ended []line) {
	now := r.now()
	p := pair{a, sender}
	if one := r.pairs[p]; one != nil {
		return one.again(now, p.fields)
	}
	if r.room(now) {
		r.pairs[p] = &repeat{level: level, since: now}
		return true, nil
	}
	c := crowd{a, vhost}
	all := r.crowds[c]
	if all == nil && len(r.crowds) >= repeatsCrowds {
		c = crowd{} // everything else
		all = r.crowds[c]
	}
	if all == nil {
		r.crowds[c] = &repeat{level: level, since: now, senders: map[uint64]bool{}}
		return true, nil
	}
	if first, ended = all.again(now, c.fields); first {
		return first, ended
	}
	if hash := maphash.String(r.seed, sender); len(all.senders) < repeatsSenders {
		all.senders[hash] = true
	} else if !all.senders[hash] {
		all.more = true
	}
	return false, ended
}

// room reports whether another pair may begin, and counts it.
func (r *repeats) room(now time.Time) bool {
	if r.filled.IsZero() {
		r.spare, r.filled = repeatsPairs, now
	}
	more := now.Sub(r.filled) / repeatsNew
	r.filled = r.filled.Add(more * repeatsNew)
	r.spare = int(min(repeatsPairs, time.Duration(r.spare)+more))
	if r.spare == 0 || len(r.pairs) >= repeatsPairs {
		return false
	}
	r.spare--
	return true
}

// line is a log line with a count.
type line struct {
	level  zapcore.Level
	what   string
	fields []zap.Field
}

// again counts a line of this kind. It reports first instead if the line begins a new window.
func (w *repeat) again(now time.Time, of func() (string, []zap.Field)) (first bool, ended []line) {
	if now.Sub(w.since) >= repeatsEvery {
		if ended = w.end(now, of); ended == nil {
			w.since = now
			return true, nil
		}
	}
	w.count++
	return false, ended
}

// end ends a window and begins the next. It returns the line with the count, if anything was counted.
func (w *repeat) end(now time.Time, of func() (string, []zap.Field)) []line {
	if w.count == 0 {
		return nil
	}
	what, fields := of()
	fields = append(fields, zap.Int("count", w.count), zap.Duration("within", now.Sub(w.since).Round(time.Second)))
	if n := len(w.senders); w.more {
		fields = append(fields, zap.Int("senders at least", n))
	} else if w.senders != nil {
		fields = append(fields, zap.Int("senders", n))
	}
	w.since, w.count, w.more = now, 0, false
	clear(w.senders)
	return []line{{w.level, what, fields}}
}

func (p pair) fields() (what string, f []zap.Field) {
	if f = []zap.Field{zap.String("reason", p.reason)}; p.sender != "" {
		f = append(f, zap.String("from", p.sender))
	}
	return p.what + ", again", f
}

func (c crowd) fields() (what string, f []zap.Field) {
	if c == (crowd{}) {
		return "other lines", nil
	}
	return c.what + ", again", []zap.Field{zap.String("reason", c.reason), zap.String("vhost", c.vhost)}
}

// flush logs the counts of windows that are over, or of all windows, and drops those in which nothing was counted.
func (r *repeats) flush(all bool) {
	var ended []line
	r.mu.Lock()
	now := r.now()
	over := func(w *repeat, of func() (string, []zap.Field)) bool {
		if !all && now.Sub(w.since) < repeatsEvery {
			return false
		}
		counted := w.end(now, of)
		ended = append(ended, counted...)
		return all || counted == nil
	}
	maps.DeleteFunc(r.pairs, func(p pair, w *repeat) bool { return over(w, p.fields) })
	maps.DeleteFunc(r.crowds, func(c crowd, w *repeat) bool { return over(w, c.fields) })
	r.mu.Unlock()
	r.write(ended)
}

func (r *repeats) write(lines []line) {
	for _, l := range lines {
		r.log.Log(l.level, l.what, l.fields...)
	}
}

// run logs counts until ctx ends, and then the rest.
func (r *repeats) run(ctx context.Context) {
	tick := time.NewTicker(repeatsEvery / 10)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			r.flush(true)
			return
		case <-tick.C:
			r.flush(false)
		}
	}
}
