package portal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/portal/page"
	"github.com/xmpp-usher/usher/pkg/mirotalk"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// waitPath returns the path of the page on which guests of a room wait.
func waitPath(room auth.Room) string {
	if room.Tenant == "" {
		return "/wait/" + encode(room.Name)
	}
	return "/wait/" + encode(room.Tenant) + "/" + encode(room.Name)
}

// eventsQuery leads from that page to its stream. It is no part of the path: a room may have any name.
const eventsQuery = "events"

// waiting returns the room that a page of waiting is about. The names are read as they are written, because a % in them means the same
// as on jitsi-meet's pages. The overrides of a state and of a direct link are taken along.
func (v *visit) waiting() (trip, error) {
	path := strings.TrimPrefix(v.r.URL.EscapedPath(), "/wait/")
	tenant, name, ok := strings.Cut(path, "/")
	if !ok {
		tenant, name = "", path
	}
	query := v.r.URL.Query()
	t, err := v.roomTrip(v.meet(query), tenant, name)
	if state := query.Get("state"); err == nil && state != "" {
		with, bad := readTrip(t.meet, state)
		if bad != nil || nameOf(with.room) != nameOf(t.room) {
			return trip{}, errState
		}
		t = with
	}
	t.mirotalk(query, false)
	return t, err
}

// wait is the page on which guests wait for a host. It says the same of a room that does not exist as of one without a host.
func (p *Portal) wait(v *visit) {
	if v.r.URL.Query().Has(eventsQuery) {
		p.events(v)
		return
	}
	ctx, cancel := v.within()
	defer cancel()
	t, err := v.waiting()
	if err != nil {
		v.badTrip(err)
		return
	}
	ready, ok := v.ready(ctx, t.room)
	if !ok {
		return
	}
	query := "?" + t.fields().Encode()
	p.pages.Wait(v.w, v.r, http.StatusOK, page.Wait{
		Room: t.name, Events: waitPath(t.room) + "?" + eventsQuery, Host: "/login" + query, Enter: t.address(""), Ready: ready,
	})
}

// ready reports whether a guest may go on into a room. It answers, and ok is false, if that cannot be said.
func (v *visit) ready(ctx context.Context, room auth.Room) (ready, ok bool) {
	if !v.limits.look(v.remote, room) {
		v.w.Header().Set("Retry-After", "10")
		v.notice(http.StatusTooManyRequests, page.Later, "") // which asks again by itself
		return false, false
	}
	state, err := v.looks.state(ctx, room)
	if err != nil {
		v.Log.Debug("the state of a room could not be asked for", zap.Error(err))
	}
	return err == nil && state.ready(), true
}

// ready reports whether a guest can enter.
func (s RoomState) ready() bool { return s.HostInside && !s.Locked }

// Connections is how many browsers may be connected at once. Package serve leaves an eighth of them to one network, and half of that must
// be more than its streams: hosts and guests of a school may have one address.
const Connections = 4096

const (
	// maxStreams is how many guests may wait with a stream at once, and maxOfNetwork how many of one network. Others ask every glanceEvery,
	// or up to twice that.
	maxStreams, maxOfNetwork = 600, 250
	glanceEvery              = 5 * time.Second
	// streamLasts ends a stream: the browser opens another one, perhaps at an usher that is active now.
	streamLasts = 10 * time.Minute
	// beatEvery is the interval of what shows that the stream lives; then the room is looked at again, too.
	beatEvery = 20 * time.Second
	// writtenWithin is how long a client may take to receive a message.
	writtenWithin = 10 * time.Second
)

// events is the stream of a page of waiting: whether a host is inside, now and whenever that changes.
func (p *Portal) events(v *visit) {
	t, err := v.waiting()
	if err != nil {
		v.badTrip(err)
		return
	}
	if !p.limits.look(v.remote, t.room) {
		v.w.Header().Set("Retry-After", "10")
		v.w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	h := v.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would keep the messages back
	watch, ok := p.watches.begin(t.room, v.remote)
	if !ok {
		v.glance(t.room)
		return
	}
	defer p.watches.end(t.room, v.remote)
	ctx, cancel := context.WithTimeout(v.r.Context(), streamLasts)
	defer cancel()
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for said, first := "", true; ; first = false {
		changed := watch.next()
		say := v.news(ctx, t.room)
		if _, active := p.Store(); !active || ctx.Err() != nil || v.send(say, say != said || first) != nil {
			return
		}
		said = say
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-beat.C:
		}
	}
}

// news returns what a stream says of a room now.
func (v *visit) news(ctx context.Context, room auth.Room) string {
	if state, err := v.looks.state(ctx, room); err == nil && state.ready() {
		return page.MessageReady
	}
	return page.MessageWait
}

// glance says how a room is now, where there are too many streams, and ends: the browser asks again, not all at the same time. So nobody
// who takes many streams keeps others waiting.
func (v *visit) glance(room auth.Room) {
	ctx, cancel := v.within()
	defer cancel()
	fmt.Fprintf(v.w, "retry: %d\n", glanceEvery.Milliseconds()+rand.Int64N(glanceEvery.Milliseconds()))
	_ = v.send(v.news(ctx, room), true) // fails if the guest has gone
}

// send sends a message of a stream; if there is nothing new, a comment, which shows whether the client is still there.
func (v *visit) send(say string, isNew bool) error {
	control := http.NewResponseController(v.w)
	if err := control.SetWriteDeadline(time.Now().Add(writtenWithin)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	text := ":\n\n"
	if isNew {
		text = "data: " + say + "\n\n"
	}
	if _, err := fmt.Fprint(v.w, text); err != nil {
		return err
	}
	return control.Flush()
}

// watches are the rooms of which streams wait for a change.
type watches struct {
	mu    sync.Mutex
	rooms map[named]*watch
	of    map[netip.Prefix]int // streams of each network
	all   int
}

// watch is a room that streams wait for.
type watch struct {
	mu      *sync.Mutex // of all
	streams int
	changed chan struct{} // closed when the room changes
}

func newWatches() *watches {
	return &watches{rooms: make(map[named]*watch), of: make(map[netip.Prefix]int)}
}

// named is a room by its names: the key of all that is kept of rooms here. The zero value means all rooms.
type named struct{ tenant, name string }

func nameOf(room auth.Room) named { return named{room.Tenant, room.Name} }

// begin begins a stream; end must be called for it. It is false if there are too many.
func (a *watches) begin(room auth.Room, from netip.Addr) (*watch, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	network := serve.Network(from)
	if a.all >= maxStreams || a.of[network] >= maxOfNetwork {
		return nil, false
	}
	w := a.rooms[nameOf(room)]
	if w == nil {
		w = &watch{mu: &a.mu, changed: make(chan struct{})}
		a.rooms[nameOf(room)] = w
	}
	w.streams++
	a.of[network]++
	a.all++
	return w, true
}

func (a *watches) end(room auth.Room, from netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	network, w := serve.Network(from), a.rooms[nameOf(room)]
	if w.streams--; w.streams == 0 {
		delete(a.rooms, nameOf(room))
	}
	if a.of[network]--; a.of[network] == 0 {
		delete(a.of, network)
	}
	a.all--
}

// next returns what is closed at the next change of the room.
func (w *watch) next() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// changed wakes the streams of a room; those of all rooms for the zero Room.
func (a *watches) changed(room auth.Room) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for of, w := range a.rooms {
		if room.Name == "" || of == nameOf(room) {
			close(w.changed)
			w.changed = make(chan struct{})
		}
	}
}

const (
	// seenFor is how long the state of a room counts as known; a change that usher is told of counts at once.
	seenFor = time.Second
	// maxLooks is how many rooms are remembered, and maxAsking how many are asked about at once.
	maxLooks, maxAsking = 1024, 8
	// lookWithin is how long a question about a room may take.
	lookWithin = 5 * time.Second
)

// looks asks about rooms: once for all who want to know at the same time.
type looks struct {
	rooms  Rooms
	now    func() time.Time
	mu     sync.Mutex
	known  map[named]*look
	asking chan struct{}
}

// look is what is known of a room, once done is closed.
type look struct {
	done  chan struct{}
	until time.Time // when it is to be asked again; zero while it is asked
	state RoomState
	err   error
}

var errManyLooks = errors.New("too many rooms are being asked about")

func newLooks(rooms Rooms, now func() time.Time) *looks {
	return &looks{rooms: rooms, now: now, known: make(map[named]*look), asking: make(chan struct{}, maxAsking)}
}

// state returns the state of a room.
func (l *looks) state(ctx context.Context, room auth.Room) (RoomState, error) {
	of := l.of(ctx, room)
	select {
	case <-of.done:
		return of.state, of.err
	case <-ctx.Done():
		return RoomState{}, ctx.Err()
	}
}

// of returns what is known of a room, or is being asked.
func (l *looks) of(ctx context.Context, room auth.Room) *look {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := nameOf(room)
	if has := l.known[key]; has != nil && (has.until.IsZero() || l.now().Before(has.until)) {
		return has
	}
	if len(l.known) >= maxLooks {
		for other, has := range l.known {
			if !has.until.IsZero() && !l.now().Before(has.until) {
				delete(l.known, other)
			}
		}
	}
	has := &look{done: make(chan struct{})}
	if len(l.known) >= maxLooks { // all of them are being asked about
		has.err = errManyLooks
		close(has.done)
		return has
	}
	l.known[key] = has
	go l.ask(context.WithoutCancel(ctx), room, has) // for all who wait, so it does not end with the first of them
	return has
}

func (l *looks) ask(ctx context.Context, room auth.Room, has *look) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	defer close(has.done)
	select {
	case l.asking <- struct{}{}:
		defer func() { <-l.asking }()
		has.state, has.err = l.rooms.State(ctx, room)
	case <-ctx.Done():
		has.err = ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	has.until = l.now().Add(seenFor)
}

// forget makes the next question about a room be asked anew; for the zero Room, about all.
func (l *looks) forget(room auth.Room) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room.Name == "" {
		clear(l.known)
		return
	}
	delete(l.known, nameOf(room))
}

// join takes the direct links of MiroTalk SFU: /join/ROOM, and /join/?room=ROOM&audio=0… . Somebody with a session, or a token of the
// link, goes on into the room; a guest does if a host is inside, and waits otherwise. A name in the link is nobody's identity.
func (p *Portal) join(v *visit) {
	ctx, cancel := v.within()
	defer cancel()
	query := v.r.URL.Query()
	name := strings.TrimPrefix(strings.TrimPrefix(v.r.URL.EscapedPath(), "/join"), "/")
	if name == "" {
		name = query.Get("room")
	}
	if name == "" {
		v.to("/")
		return
	}
	t, err := v.roomTrip(v.meet(query), "", name)
	if err != nil {
		v.badTrip(err)
		return
	}
	if token := query.Get("token"); isToken(token) {
		t.mirotalk(query, true)
		v.w.Header().Set("Referrer-Policy", "no-referrer")
		v.to(t.address(token))
		return
	}
	v.joined(ctx, t, query)
}

// mirotalk adds what the parameters of a link of MiroTalk mean for jitsi-meet. Named people have their name from a token.
func (t *trip) mirotalk(query url.Values, named bool) {
	for _, o := range mirotalk.Overrides(query, named) {
		t.overrides = append(t.overrides, override{o.Key, o.Value})
	}
}

// joined sends somebody on who has come by a direct link.
func (v *visit) joined(ctx context.Context, t trip, query url.Values) {
	s, person, err := v.session(ctx)
	if err != nil && !errors.Is(err, errNoSession) {
		v.later(err, "its store cannot be asked")
		return
	}
	if err == nil && person.May(t.room) {
		t.mirotalk(query, true)
		v.handOver(ctx, s, person, t)
		return
	}
	ready, ok := v.ready(ctx, t.room)
	switch {
	case !ok:
	case ready:
		t.mirotalk(query, false)
		v.to(t.address(""))
	default:
		on := t.fields()
		for _, name := range []string{"audio", "video", "screen", "hide", "name"} {
			if query.Has(name) {
				on.Set(name, query.Get(name))
			}
		}
		v.to(waitPath(t.room) + "?" + on.Encode())
	}
}
