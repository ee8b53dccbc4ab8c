// Package audit writes one line for each decision, and for each call of the API and of the portal: who asked for what, when, and what the
// answer was.
//
// A line is a JSON object; README.md says what is in it. Lines go to a file, to standard error or to the journal. They hold no token, no
// secret and no session id.
//
// Nobody waits for the log. Lines wait in memory until they are written, usually for 10 ms; a kill -9 loses those. A full disk makes up to
// [queued] lines wait until there is room. More are dropped and counted, and the next line says how many.
package audit

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/component"
)

// Where lines go, beside a path.
const (
	Off     = "off"
	Stderr  = "stderr"
	Journal = "journal"
)

// Defaults of a file.
const (
	DefaultMaxSize = 100 << 20
	DefaultMaxAge  = 720 * time.Hour
	DefaultKeep    = 10
)

// queued is the number of lines that wait, and together how many are written at once at most.
const (
	queued   = 8192
	together = 256
)

// Options are the options of a log.
type Options struct {
	// To is Off (or empty), Stderr, Journal, or the path of a file. The folder of the file must exist. usher creates the file with
	// mode 0640.
	To string
	// MaxSize is the size in bytes at which a file is put aside and a new one begun; 0 means DefaultMaxSize.
	MaxSize int64
	// MaxAge is how old the last line of a file becomes before the file is deleted; 0 means DefaultMaxAge. A file is put aside
	// when its first line is a tenth of that old.
	MaxAge time.Duration
	// Keep is the number of files put aside that are kept; 0 means DefaultKeep.
	Keep int
	// Now is the clock; nil means the machine's.
	Now func() time.Time
	// Log is told when lines cannot be written, and when they can be again; nil for nobody.
	Log *zap.Logger

	journal string // its socket
}

// Call is a call of the API or of the portal, also a refused one. Path is the pattern of the path, never a code or a token.
type Call struct {
	At                time.Time
	Key, Method, Path string
	Room, Who, Remote string
	Status            int
	Took              time.Duration
}

// Log is an audit log. Any goroutine may call its methods. A nil Log is off.
type Log struct {
	o       Options
	to      sink
	format  func([]field) []byte
	queue   chan []byte
	closing chan struct{}
	closed  chan struct{}
	once    sync.Once
	dropped atomic.Int64
	err     error // of closing
}

// sink is where lines go. One goroutine uses it.
type sink interface {
	// write writes lines, and returns the number of those that are written.
	write(lines [][]byte) (n int, err error)
	// tend does what is due without a line to write.
	tend()
	close() error
}

// Open opens the log. It returns nil if the log is off. The error is for the operator: it names the path, and says what to do.
func Open(o Options) (*Log, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	l := &Log{
		o: o, format: line, queue: make(chan []byte, queued), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	var err error
	switch o.To {
	case Off, "":
		return nil, nil
	case Stderr:
		l.to = stderr{}
	case Journal:
		l.format = datagram
		l.to, err = openJournal(o.journal)
	default:
		l.to, err = openFile(o)
	}
	if err != nil {
		return nil, err
	}
	go l.run()
	return l, nil
}

// Report writes down a decision. It never blocks. Other reports are passed over.
func (l *Log) Report(r component.Report) {
	if l != nil && r.What == component.Decided {
		l.add(decision(r))
	}
}

// Call writes down a call. It never blocks.
func (l *Log) Call(c Call) {
	if l != nil {
		l.add(call(c))
	}
}

func (l *Log) add(fields []field) {
	select {
	case <-l.closing:
		l.dropped.Add(1)
		return
	default:
	}
	select {
	case l.queue <- l.format(fields):
	default:
		l.dropped.Add(1)
	}
}

// Dropped returns the number of lines that could not be written.
func (l *Log) Dropped() int64 {
	if l == nil {
		return 0
	}
	return l.dropped.Load()
}

// closeTimeout bounds Close: nobody may read what standard error is connected to.
const closeTimeout = 5 * time.Second

var errStuck = errors.New("audit: lines could not be written in time, and are lost")

// Close writes what waits, and closes the log. Closing it again does nothing.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.once.Do(func() { close(l.closing) })
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-l.closed:
		return l.err
	case <-t.C:
		return errStuck
	}
}

const (
	// retry is the pause after an error.
	retry = time.Second
	// tendEvery is the interval at which old files are looked for.
	tendEvery = 10 * time.Minute
)

// run writes lines until the log is closed.
func (l *Log) run() {
	defer close(l.closed)
	w := writer{Log: l}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case first := <-l.queue:
			w.write(l.gather(first))
		case <-tick.C:
			l.to.tend()
		case <-l.closing:
			for {
				select {
				case first := <-l.queue:
					w.write(l.gather(first))
				default:
					w.write(nil)
					l.err = l.to.close()
					return
				}
			}
		}
	}
}

// gatherFor is the time for which a line waits for others, so that many are written at once.
const gatherFor = 10 * time.Millisecond

// gather returns a line and those that come shortly after it.
func (l *Log) gather(first []byte) [][]byte {
	if len(l.queue) < together {
		t := time.NewTimer(gatherFor)
		defer t.Stop()
		select {
		case <-t.C:
		case <-l.closing:
		}
	}
	lines := [][]byte{first}
	for len(lines) < together {
		select {
		case next := <-l.queue:
			lines = append(lines, next)
		default:
			return lines
		}
	}
	return lines
}

// writer is the state of run.
type writer struct {
	*Log
	told   int64 // of the dropped lines
	failed bool
}

// write writes lines, and first how many were dropped. While that fails it tries again, unless the log is being closed.
func (w *writer) write(lines [][]byte) {
	for {
		if n := w.dropped.Load(); n > w.told && w.try([][]byte{w.format(lost(w.o.Now(), n-w.told))}) == 1 {
			w.told = n
		}
		if lines = lines[w.try(lines):]; len(lines) == 0 {
			return
		}
		t := time.NewTimer(retry)
		select {
		case <-t.C:
		case <-w.closing:
			t.Stop()
			w.dropped.Add(int64(len(lines)))
			return
		}
	}
}

// try writes lines once, and returns the number of those that are written.
func (w *writer) try(lines [][]byte) int {
	n, err := w.to.write(lines)
	switch {
	case err != nil && !w.failed:
		w.o.Log.Error("audit: lines cannot be written; they wait, and are dropped if it lasts", zap.Error(err))
	case err == nil && w.failed:
		w.o.Log.Info("audit: lines can be written again", zap.Int64("dropped", w.dropped.Load()))
	}
	w.failed = err != nil
	return n
}
