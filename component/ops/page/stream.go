package page

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/history"
	"github.com/xmpp-usher/usher/component/ops"
)

const (
	// beat is the interval of the state while it does not change. The page takes usher for gone when it hears nothing for three.
	beat = 5 * time.Second
	// ratesEvery is the interval of the counts by the minute.
	ratesEvery = time.Second
	// batch is how many entries one tick sends at most. The page shows no more than twice that, and nobody reads faster.
	batch = 50
)

// writeWithin is how long one write may take. A client that reads nothing loses its stream then. Tests change it.
var writeWithin = 10 * time.Second

// state is what the top of the page shows.
type state struct {
	Level    string      `json:"level"` // well, standby or trouble
	Headline string      `json:"headline"`
	Checks   []ops.Check `json:"checks"`
	Version  string      `json:"version"`

	Domain    string     `json:"domain,omitempty"`
	Server    string     `json:"server,omitempty"` // its software, or its address
	Connected bool       `json:"connected"`
	Since     *time.Time `json:"since,omitempty"`

	Reconnects int64 `json:"reconnects"`
	Queued     int   `json:"queued"`
	Held       int   `json:"held"`
	Slow       int   `json:"slow"`
	Waiting    int   `json:"waiting"`
	Rooms      int   `json:"rooms"`
	Hosts      int   `json:"hosts"`
	Occupants  int   `json:"occupants"`

	RoomsVersion uint64    `json:"roomsVersion"`
	Now          time.Time `json:"now"`
}

// state looks at everything that the top of the page shows. It does no I/O.
func (p *page) state() state {
	s := state{Level: "well", Headline: "All is well", Version: p.o.Version, Now: p.o.Now()}
	if source := p.o.Active(); source != nil {
		s.fill(source.Status(), s.Now)
	} else {
		s.Level, s.Headline, s.Checks = "standby", "Standing by: another usher is active", []ops.Check{}
	}
	s.Checks = append(s.Checks, p.checked()...)
	if bad := failed(s.Checks); bad != "" {
		s.Level, s.Headline = "trouble", "Trouble: "+bad
	}
	_, s.RoomsVersion = p.current()
	return s
}

// fill tells what the component does. Whether it is connected comes from there, not from the checks, which are a second old.
func (s *state) fill(status component.Status, now time.Time) {
	s.Domain, s.Connected, s.Since = status.Domain, status.Connected, moment(status.Since)
	s.Reconnects, s.Queued, s.Held, s.Slow, s.Waiting = status.Reconnects, status.Queued, status.Held, status.Slow, status.Waiting
	s.Rooms, s.Hosts, s.Occupants = status.Rooms, status.Hosts, status.Occupants
	s.Server = cmp.Or(status.Server, status.Address)
	connection := ops.Check{Name: "connection", OK: status.Connected, Says: "to " + status.Address}
	if status.Server != "" {
		connection.Says = status.Server + " at " + status.Address
	}
	if !status.Connected {
		connection.Says = "none to " + status.Address + ": see usher's log, or run usher doctor"
	}
	s.Checks = append(s.Checks, connection)
	switch {
	case status.Behind == "":
	case status.Jicofo == "silent":
		s.Checks = append(s.Checks, ops.Check{Name: status.Behind, Says: "is online, and has left the last question without an answer"})
	default:
		s.Checks = append(s.Checks, ops.Check{Name: status.Behind, OK: status.Jicofo == "online", Says: cmp.Or(status.Jicofo, "not seen yet")})
	}
	if status.Connected {
		s.modules(status, now)
	}
}

// moduleWithin is how long after usher has connected its module in Prosody may take to answer.
const moduleWithin = 10 * time.Second

// modules tells how usher's module stands in Prosody. One that does not tell is no trouble, because usher asks the rooms instead.
func (s *state) modules(status component.Status, now time.Time) {
	for _, m := range status.Modules {
		c := ops.Check{Name: "module", OK: m.Takes || now.Sub(status.Since) < moduleWithin}
		switch {
		case !m.Takes:
			c.Says = "does not answer on " + m.Domain + ": run usher config prosody --check"
		case m.Tells:
			c.Says = fmt.Sprintf("version %s tells of %d rooms on %s", m.Version, m.Rooms, m.Domain)
		case status.Behind != "":
			c.Says = fmt.Sprintf("version %s does not tell of the rooms on %s, so usher asks them", m.Version, m.Domain)
		default:
			c.Says = fmt.Sprintf("version %s on %s", m.Version, m.Domain)
		}
		s.Checks = append(s.Checks, c)
	}
}

// moment leaves out the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// rates are the counts of the last hour by the minute, the oldest first.
type rates struct {
	First    time.Time `json:"first"`
	Admitted []int     `json:"admitted"`
	Refused  []int     `json:"refused"`
	Waited   []int     `json:"waited"`
}

func (p *page) rates() rates {
	var r rates
	for n, t := range p.o.History.Tallies(p.o.Now()) {
		if n == 0 {
			r.First = t.Minute
		}
		r.Admitted, r.Refused, r.Waited = append(r.Admitted, t.Admitted), append(r.Refused, t.Refused), append(r.Waited, t.Waited)
	}
	return r
}

// news collects what has happened since a stream has last said so. It keeps the last of it, and counts the rest.
type news struct {
	mu     sync.Mutex
	kept   []history.Entry
	missed uint64
	last   uint64 // number of the newest entry
}

// follow collects until ctx ends.
func (n *news) follow(ctx context.Context, h *history.History, after uint64) {
	for e, missed := range h.Follow(ctx, after) {
		n.mu.Lock()
		n.last = e.Number
		n.missed += missed
		if shown(e) {
			if n.kept = append(n.kept, e); len(n.kept) > batch {
				n.kept = n.kept[1:]
				n.missed++
			}
		}
		n.mu.Unlock()
	}
}

func (n *news) take() (kept []history.Entry, missed, last uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	kept, missed, last = n.kept, n.missed, n.last
	n.kept, n.missed = nil, 0
	return kept, missed, last
}

// serveEvents streams until the client goes. It has three kinds of events: state, rates, and entries, which have an id. A client that
// lost the stream sends the last id (Last-Event-ID, or the parameter after) and gets what it has missed, or how much that was.
func (p *page) serveEvents(w http.ResponseWriter, r *http.Request) {
	select {
	case p.followers <- struct{}{}:
		defer func() { <-p.followers }()
	default:
		w.Header().Set("Retry-After", "10")
		http.Error(w, fmt.Sprintf("%d pages are open already. Close one of them.", maxFollowers), http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	var own sync.WaitGroup
	defer own.Wait()
	defer cancel()
	n := new(news)
	after := p.after(r)
	own.Go(func() { n.follow(ctx, p.o.History, after) })
	p.check(ctx)
	own.Go(func() { p.keepChecking(ctx) })
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect the events
	s := &events{w: w, control: http.NewResponseController(w), h: p.o.History}
	s.stream(ctx, p, n)
}

// after is the number of the entry that the client has seen last; without one it gets new entries only.
func (p *page) after(r *http.Request) uint64 {
	name := r.Header.Get("Last-Event-ID")
	if name == "" {
		name = r.URL.Query().Get("after")
	}
	if name == "" {
		return p.o.History.Newest()
	}
	return p.o.History.Number(name)
}

func (p *page) keepChecking(ctx context.Context) {
	every := time.NewTicker(checkEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			p.check(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// events writes to one client.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
	h       *history.History
	state   []byte // as sent last, without its time
	rates   []byte
	at      time.Time // when state was sent
	ratesAt time.Time
}

// stream says what is new at each tick, until the client has gone.
func (s *events) stream(ctx context.Context, p *page, n *news) {
	every := time.NewTicker(tick)
	defer every.Stop()
	for {
		var out bytes.Buffer
		s.addState(&out, p.state())
		s.addEntries(&out, n)
		if time.Since(s.ratesAt) >= ratesEvery {
			s.ratesAt = time.Now()
			if now := marshal(p.rates()); !bytes.Equal(now, s.rates) {
				s.rates = now
				event(&out, "rates", "", now)
			}
		}
		if out.Len() > 0 && !s.send(out.Bytes()) {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

// addState adds the state if it has changed, or as a sign of life.
func (s *events) addState(out *bytes.Buffer, now state) {
	at := now.Now
	now.Now = time.Time{}
	if fixed := marshal(now); !bytes.Equal(fixed, s.state) || time.Since(s.at) >= beat {
		now.Now = at
		s.state, s.at = fixed, time.Now()
		event(out, "state", "", marshal(now))
	}
}

func (s *events) addEntries(out *bytes.Buffer, n *news) {
	kept, missed, last := n.take()
	if len(kept) == 0 && missed == 0 {
		return
	}
	event(out, "entries", s.h.Name(last), marshal(struct {
		Entries []entry `json:"entries"`
		Missed  uint64  `json:"missed,omitempty"`
	}{entries(s.h, kept), missed}))
}

// send reports whether the client has taken it.
func (s *events) send(text []byte) bool {
	_ = s.control.SetWriteDeadline(time.Now().Add(writeWithin)) // what cannot do it, as a recorder of tests, does not block
	_, err := s.w.Write(text)
	return err == nil && s.control.Flush() == nil
}

func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // our own types have no such values
	}
	return text
}

// event writes one server-sent event. JSON has no line breaks, so its text is one line.
func event(out *bytes.Buffer, kind, id string, text []byte) {
	fmt.Fprintf(out, "event: %s\n", kind)
	if id != "" {
		fmt.Fprintf(out, "id: %s\n", id)
	}
	fmt.Fprintf(out, "data: %s\n\n", text)
}
