package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// What the tests of this package share: names, the ledger book, and three fixtures on the MUC service of service_test.go. A world
// has Rooms, a lookout has a Guard, and a stage is a room of either, for stories that both must tell alike.

const (
	us        = "focus@focus.meet.example.com"
	ourself   = us + "/usher"
	secondly  = us + "/usher-2"
	jicofo    = "focus@auth.meet.example.com"
	mucDomain = "conference.meet.example.com"

	standup  = "standup@" + mucDomain
	retro    = "retro@" + mucDomain
	breakout = "c0ffee@" + breakoutDomain

	lobbyDomain = "lobby.meet.example.com"
	lobbied     = "standup@" + lobbyDomain

	romeo    = "romeo@meet.example"
	juliet   = "juliet@meet.example"
	nurse    = "nurse@guest.example"
	ann      = "ann@guest.example"
	recorder = "tape@recorder.example"    // of a service
	admin    = "jigasi@auth.meet.example" // of the MUC service
	eve      = "eve@evil.example"         // a stranger to usher

	revoked = "your token was revoked" // why somebody is put out
)

const (
	interval  = 5 * time.Second
	aMoment   = 100 * time.Millisecond                            // by then what is due has been done
	aLook     = interval + 2*aMoment                              // by then a room has been looked at that is not quiet
	goneAfter = quietEvery + joinWithin + auditEvery + 2*interval // by then nobody outside has anything, however quiet the room was
	hostGone  = hostAway + 2*hangingEvery                         // by then what hangs on a host is taken back, once the last one is away
)

var (
	roomNames = []string{standup, retro}
	people    = []string{romeo, juliet, nurse, recorder}
)

// scene plays in a world of its own that is connected, once with each server.
func scene(t *testing.T, play func(t *testing.T, w *world)) {
	for name, ejabberd := range map[string]bool{"Prosody": false, "ejabberd": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.ejabberd = ejabberd
				defer func() { w.disconnected() }()
				w.settle()
				play(t, w)
			})
		})
	}
}

// told is what became of somebody's latest request.
func (w *world) told(who string) error { return w.last[[2]string{standup, who}].err }

// enters has somebody ask and join.
func (w *world) enters(t *testing.T, who, affiliation string) *chat {
	t.Helper()
	w.admit(standup, who, affiliation, true, time.Time{})
	w.settle()
	c := w.chats[standup]
	if err := w.told(who); err != nil || !w.join(c, who+"/1", "nick of "+who) {
		t.Fatalf("%s does not get in: %v", who, err)
	}
	w.settle()
	return c
}

// world is a service, Rooms on it as the component runs them, and what people were told.
type world struct {
	*service
	ctx      context.Context // of the connection
	end      context.CancelFunc
	running  sync.WaitGroup
	requests sync.WaitGroup
	unlisten func() // ends what listens to usher's module

	mu       sync.Mutex
	last     map[[2]string]*admission // by room and bare JID
	busy     map[string]bool          // by bare JID; the component's queue takes a sender's requests one by one
	mayExist map[string]bool          // rooms that somebody wished to create since they were last known not to exist
	hostless map[string]time.Time     // rooms in which Rooms know of no host, and since when
	set      map[[2]string]bool       // by room and bare JID: an owner has set their affiliation since usher was to remove them
	used     map[*chat]bool           // rooms in which usher gave something
	ends     map[string][2]int        // by room: how many have ended that were used, and how many in all
}

// admission is what became of somebody's latest request for a room.
type admission struct {
	affiliation string
	expires     time.Time
	needsHost   bool
	err         error
	done        bool
	overtaken   bool // something has happened since that may undo it
	banned      bool // by an owner, and usher must not undo that
}

func newWorld() *world { return newWorldWith(false) }

// newWorldWith returns a world with usher's module on its service, or without it.
func newWorldWith(module bool) *world {
	w := &world{service: newService(), last: map[[2]string]*admission{}, busy: map[string]bool{}, mayExist: map[string]bool{}, hostless: map[string]time.Time{},
		set: map[[2]string]bool{}, used: map[*chat]bool{}, ends: map[string][2]int{}}
	w.observer = w.observe
	if module {
		w.unlisten = w.load(ToldOptions{News: w.refused}, mucDomain)
	}
	w.newRooms()
	w.connect(nil)
	return w
}

// refused hands on that a give was refused, and notes it.
func (w *world) refused(n News) {
	w.mu.Lock()
	if a := w.last[[2]string{n.Room.String(), n.Who.String()}]; a != nil && n.Kind == NewsRefused {
		a.overtaken = true
	}
	w.mu.Unlock()
	w.rooms.News(n)
}

func (w *world) observe(c *chat, bare, event string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if event == "ended" || bare == us && event == "left" {
		delete(w.hostless, c.address)
	}
	if event == "ended" {
		n := w.ends[c.address]
		if n[1]++; w.used[c] {
			n[0]++
		}
		w.ends[c.address] = n
	}
	w.used[c] = w.used[c] || event == "given member" || event == "given owner"
	if event == "ended" { // and with it all affiliations
		for key, a := range w.last {
			if _, given := c.given[key[1]]; key[0] == c.address {
				a.banned, a.overtaken = false, a.overtaken || a.done || given
			}
		}
		return
	}
	a := w.last[[2]string{c.address, bare}]
	if a == nil {
		a = &admission{done: true, overtaken: true}
		w.last[[2]string{c.address, bare}] = a
	}
	if event == "given none" || strings.HasPrefix(event, "given") && c.by(ourself) == nil {
		a.banned = false // usher did not know of the ban yet, and nobody will tell it that this has lifted the ban
	}
	if strings.HasPrefix(event, "set ") {
		w.set[[2]string{c.address, bare}] = true
	}
	switch event {
	case "set outcast":
		a.banned, a.overtaken = true, true
	case "set none", "set member", "set owner":
		a.banned, a.overtaken = false, true
	case "left":
		a.overtaken = true
		if _, ok := c.given[bare]; ok {
			c.given[bare] = time.Now() // unused from now on
		}
	}
}

// connect does what the component does on a new connection.
func (w *world) connect(rooms []jid.JID) {
	w.service.mu.Lock()
	w.cut = false
	w.service.mu.Unlock()
	if w.service.told != nil && w.unlisten == nil {
		w.unlisten = w.listens(mucDomain)
	}
	w.ctx, w.end = context.WithCancel(context.Background())
	w.running.Go(func() { w.rooms.Run(w.ctx) })
	w.running.Go(func() { w.rooms.Resume(w.ctx, rooms, jid.MustParse(mucDomain)) })
}

// disconnected ends the connection as the component does, and returns the rooms to resume.
func (w *world) disconnected() []jid.JID {
	w.disconnect()
	w.end()
	w.requests.Wait()
	w.running.Wait()
	if w.unlisten != nil {
		w.unlisten()
		w.unlisten = nil
	}
	return w.rooms.Reset()
}

// admit does what the component does with a decision to let somebody in.
func (w *world) admit(room, who, affiliation string, mayCreate bool, expires time.Time) {
	w.admitFor(room, who, affiliation, mayCreate, expires, false)
}

// admitFor does the same, also for people who are let in because a host is inside.
func (w *world) admitFor(room, who, affiliation string, mayCreate bool, expires time.Time, needsHost bool) {
	kicked := w.kickedUnheard(room, who)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy[who] {
		return
	}
	w.busy[who] = true
	key := [2]string{room, who}
	a := &admission{affiliation: affiliation, expires: expires, needsHost: needsHost, overtaken: kicked}
	if was := w.last[key]; was != nil {
		a.banned = was.banned
	}
	w.last[key] = a
	w.mayExist[room] = w.mayExist[room] || mayCreate
	w.requests.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		defer cancel()
		j, p := jid.MustParse(room), jid.MustParse(who)
		err := w.rooms.Open(ctx, j, mayCreate)
		if err == nil {
			err = w.rooms.Grant(ctx, Grant{Room: j, Who: p, Affiliation: affiliation, Expires: expires, NeedsHost: needsHost})
		}
		if err != nil && !errors.Is(err, ErrOutcast) && !errors.Is(err, ErrAbsent) {
			w.rooms.Withdraw(j, p)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		a.err, a.done, w.busy[who] = err, true, false
	})
}

// kickedUnheard reports whether somebody was kicked from a room, and usher has yet to read that. What it hands to the module meanwhile may be
// taken back: nothing shows which came first.
func (w *world) kickedUnheard(room, who string) bool {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	return w.service.told != nil && slices.ContainsFunc(w.down, func(raw string) bool {
		return strings.HasPrefix(raw, "<presence from='"+room+"/") && strings.Contains(raw, " jid='"+who+"/") &&
			strings.Contains(raw, "<status code='307'/>")
	})
}

// request has usher do something for as long as the connection lasts, 10 seconds at most.
func (w *world) request(do func(ctx context.Context)) {
	w.requests.Go(func() {
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
		defer cancel()
		do(ctx)
	})
	synctest.Wait()
}

// pass lets time pass while everything that is sent arrives.
func (w *world) pass(d time.Duration) {
	for ; d > 0; d -= time.Second {
		w.settle()
		<-time.After(time.Second)
	}
	w.settle()
	w.overtakeAbsent()
}

// overtakeAbsent notes that people who were let in and did not come may have lost their grants.
func (w *world) overtakeAbsent() {
	w.service.mu.Lock()
	defer w.service.mu.Unlock()
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, a := range w.last {
		if c := w.chats[key[0]]; c == nil || c.inside(key[1]) == nil {
			a.overtaken = true
		}
	}
}

// forgets replaces the process by one that knows nothing.
func (l *lookout) forgets() {
	l.book.burns()
	l.succeed()
}

// book is a Ledger that a test can read and have fail.
type book struct {
	mu      sync.Mutex
	written map[[2]string]*Grant // by room and bare JID
	notes   map[string]*Grant    // of rooms themselves
	err     error
	slow    time.Duration
}

func newBook() *book { return &book{written: map[[2]string]*Grant{}, notes: map[string]*Grant{}} }

func (b *book) Granted(_ context.Context, g *Grant, _ any) error {
	b.mu.Lock()
	slow := b.slow
	b.mu.Unlock()
	if slow > 0 {
		<-time.After(slow)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
	case g.isNote():
		b.notes[g.Room.String()] = g
	default:
		b.written[[2]string{g.Room.String(), g.Who.String()}] = g
	}
	return b.err
}

func (b *book) Ended(room, who jid.JID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.written, [2]string{room.String(), who.String()})
	if room.Equal(who) {
		delete(b.notes, room.String())
	}
}

// takes sets how long the book takes from now on.
func (b *book) takes(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.slow = d
}

// fails sets the error of everything that is written down from now on.
func (b *book) fails(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
}

// everything returns what the next process reads.
func (b *book) everything() []*Grant {
	all := b.all()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.notes {
		all = append(all, g)
	}
	return all
}

// noted returns what is written down of a room itself.
func (b *book) noted(room string) lasting {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := b.notes[room]; n != nil {
		return lasting(n.Affiliation)
	}
	return lastingUnknown
}

// burns deletes everything that is written down.
func (b *book) burns() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.written)
	clear(b.notes)
}

func (b *book) all() (all []*Grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, g := range b.written {
		all = append(all, g)
	}
	return all
}

// lookout is a service, another focus in its rooms, and a Guard that looks after them.
type lookout struct {
	*service
	*Guard
	t       fataler
	options GuardOptions
	end     context.CancelFunc
	running sync.WaitGroup
	silence func() // ends what usher's module tells; nil if it does not

	mu       sync.Mutex
	guard    *Guard // the same one, for the goroutine that reads
	arrivals []string
	warnings []string
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// lookOut plays with a Guard that runs. The service answers its questions at once.
func lookOut(t *testing.T, change func(*GuardOptions), play func(t *testing.T, l *lookout)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLookout(t, change)
		defer l.stop()
		l.run()
		play(t, l)
	})
}

func newLookout(t fataler, change func(*GuardOptions)) *lookout {
	l := &lookout{service: newService(), t: t}
	l.prompt, l.sights = true, newSights()
	l.sights.byBare = true
	l.options = GuardOptions{
		Options: Options{
			Owner:         Owner{Session: l.service, JID: jid.MustParse(us)},
			Configuration: Configuration{MembersOnly: true},
			Hosts:         func(domain string) bool { return domain != "recorder.example" },
			Ledger:        l.book,
			Removed:       l.noteRemoved,
			Ended:         l.noteEnded,
			Sees:          func(s Sight) { l.sights.sees(s) },
			Arrived: func(room jid.JID) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.arrivals = append(l.arrivals, room.String())
			},
			Warn: func(_ jid.JID, what string, err error) {
				l.mu.Lock()
				defer l.mu.Unlock()
				l.warnings = append(l.warnings, what+": "+err.Error())
			},
		},
		Focus: jid.MustParse(jicofo), Room: jid.Parse, Interval: interval,
	}
	if change != nil {
		change(&l.options)
	}
	l.looksAfter()
	return l
}

// looksAfter begins a process.
func (l *lookout) looksAfter() {
	l.options.Owner.Told = l.service.told
	l.Guard = NewGuard(l.options)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.guard = l.Guard
}

// toldDomains are the domains on which usher's module may be.
var toldDomains = []string{mucDomain, breakoutDomain}

// loads has usher's module loaded, from which the Guard hears what happens.
func (l *lookout) loads() {
	l.silence = l.load(ToldOptions{Mirror: true, Room: jid.Parse, News: func(n News) {
		l.mu.Lock()
		g := l.guard
		l.mu.Unlock()
		if g.Owner.Told != nil {
			g.News(n)
		}
	}}, toldDomains...)
	l.silences()
	l.looksAfter()
	l.listensAgain()
	synctest.Wait()
}

// silences ends what the module tells, as the end of the connection does.
func (l *lookout) silences() {
	if l.silence != nil {
		l.silence()
		l.silence = nil
	}
}

// listensAgain has the module tell on a new connection, if there is one.
func (l *lookout) listensAgain() {
	if l.service.told != nil && l.silence == nil {
		l.silence = l.service.listens(toldDomains...)
	}
}

func enforcing(o *GuardOptions) { o.EnforceRoles = true }

func (l *lookout) run() {
	ctx, end := context.WithCancel(context.Background())
	l.end = end
	l.running.Go(func() { l.Run(ctx) })
}

func (l *lookout) stop() {
	l.silences()
	l.end()
	l.running.Wait()
}

// succeed replaces the process by one that knows what is written down.
func (l *lookout) succeed() {
	l.stop()
	l.sights = newSights()
	l.sights.byBare = true
	l.looksAfter()
	l.Restore(l.book.everything())
	l.run()
	l.listensAgain()
	l.Resume(context.Background(), nil, jid.MustParse(mucDomain))
}

// locked does something to the service.
func (l *lookout) locked(do func()) {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	do()
}

// opens has Jicofo create and enter a room. What the module tells of that is heard before Jicofo's answer.
func (l *lookout) opens(address string) *chat {
	if l.service.told != nil {
		defer synctest.Wait()
	}
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	c := l.chats[address]
	if c == nil {
		c = &chat{address: address, membersOnly: true, affiliations: map[string]string{jicofo: "owner"}, given: map[string]time.Time{}}
		l.chats[address] = c
		l.service.join(c, jicofo+"/focus", "focus")
	}
	return c
}

// lets has somebody admitted to the room.
func (l *lookout) lets(address, who, affiliation string, expires time.Time) error {
	return l.letsFor(address, who, affiliation, expires, false)
}

// letsFor does the same, also for people who are let in because a host is inside.
func (l *lookout) letsFor(address, who, affiliation string, expires time.Time, needsHost bool) error {
	err := l.Guard.Open(context.Background(), jid.MustParse(address), false)
	if err == nil {
		err = l.Guard.Grant(context.Background(), Grant{
			Room: jid.MustParse(address), Who: jid.MustParse(who), Affiliation: affiliation, Expires: expires, NeedsHost: needsHost,
		})
	}
	return err
}

// admits has somebody admitted to the room, who does not join yet.
func (l *lookout) admits(address, who, affiliation string) {
	l.t.Helper()
	if err := l.lets(address, who, affiliation, time.Time{}); err != nil {
		l.t.Fatalf("%s is not let in: %v", who, err)
	}
}

// comes has somebody admitted, and join.
func (l *lookout) comes(address, who, affiliation string) *chat {
	l.t.Helper()
	c := l.opens(address)
	l.admits(address, who, affiliation)
	if !l.sits(c, who) {
		l.t.Fatalf("%s cannot join", who)
	}
	return c
}

func (l *lookout) sits(c *chat, who string) bool {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	return l.service.join(c, who+"/1", who)
}

func (l *lookout) goes(c *chat, who string) {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	if o := c.inside(who); o != nil {
		l.remove(c, o)
	}
}

// sets has somebody else than usher set an affiliation.
func (l *lookout) sets(c *chat, who, affiliation string) {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	l.affiliate(c, who, affiliation, false)
}

func (l *lookout) is(c *chat, who string) string {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	return c.affiliation(who)
}

func (l *lookout) insideOf(c *chat, who string) bool {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	return c.inside(who) != nil
}

// pass lets time pass.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// asked counts the IQs of a kind that the room was sent: "form" (submitted), "settings", "moderator" and the other roles,
// "outcast", "set".
func (l *lookout) asked(address, kind string) (n int) {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	for _, a := range l.iqs {
		is := ""
		switch {
		case a.To != address && address != "":
			continue
		case a.Query.XMLName.Space == NSOwner && a.Type == "set":
			is = "form"
		case a.Query.XMLName.Space == NSOwner:
			is = "settings"
		case len(a.Query.Items) == 0:
			is = "info"
		case a.Type == "set":
			is = "set"
		case a.Query.Items[0].Role != "":
			is = a.Query.Items[0].Role
		default:
			is = a.Query.Items[0].Affiliation
		}
		if kind == "" || is == kind {
			n++
		}
	}
	return n
}

func (l *lookout) forgetAsked() {
	l.service.mu.Lock()
	defer l.service.mu.Unlock()
	l.iqs, l.underway = nil, 0
}

// live compares the ledger with the live grants, and returns how many grants are live.
func (l *lookout) live() int {
	l.t.Helper()
	l.Guard.mu.Lock()
	defer l.Guard.mu.Unlock()
	l.book.mu.Lock()
	defer l.book.mu.Unlock()
	n, breakouts, theirs := 0, 0, 0
	for address, rm := range l.Guard.rooms {
		if !rm.main.Equal(jid.JID{}) {
			breakouts++
			if w, ok := l.book.written[[2]string{address, rm.main.String()}]; !ok || w.Affiliation != "" {
				l.t.Fatalf("%s is of %s and written down is %+v", address, rm.main, w)
			}
		}
		for bare, gr := range rm.live {
			if gr.ledger == found {
				theirs++
				continue
			}
			if gr.ledger == unwritten { // yet
				continue
			}
			if w, ok := l.book.written[[2]string{address, bare}]; !ok || w.Affiliation != gr.Affiliation {
				l.t.Fatalf("%s is %s in %s and written down is %+v", bare, gr.Affiliation, address, w)
			}
			n++
		}
	}
	if n+breakouts != len(l.book.written) {
		l.t.Fatalf("%d are live, and written down are %v", n, l.book.written)
	}
	return n + theirs
}

func (l *lookout) affiliations(c *chat, set map[string]string) {
	for who, affiliation := range set {
		l.sets(c, who, affiliation)
	}
}

// script is a Session that keeps what it is asked, and answers as it is told to.
type script struct {
	asked  string
	answer string
	err    error
}

func (s *script) IQ(_ context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	b, err := encode(iq.Wrap(payload))
	if s.asked = string(b); err != nil || s.err != nil || v == nil {
		return errors.Join(err, s.err)
	}
	return xml.Unmarshal([]byte(s.answer), v)
}

func (s *script) Send(xml.TokenReader) error { return nil }

// stage is the room standup, which Rooms or a Guard looks after.
type stage interface {
	comes(who, affiliation string) // is admitted, needs no host, and joins
	invites(who string)            // is admitted because a host is inside, and does not join yet
	enters(who string) bool        // joins
	goes(who string)               // leaves
	sets(who, affiliation string)  // somebody else than usher sets an affiliation
	is(who string) string          // the affiliation
	pass(d time.Duration)          // time passes
	succeed()                      // another process takes over
	removes(who string) error      // usher puts somebody out
	ends() error                   // usher ends the room
	room() *chat                   // nil if it has ended
	on() *service
	keeper() keeper
}

// keeper is what Rooms and a Guard do alike.
type keeper interface {
	Remove(ctx context.Context, room, who jid.JID, reason string) error
	End(ctx context.Context, room jid.JID, reason string) error
	Say(room, who jid.JID, text string) (bool, error)
}

// step is a part of a story that is told on a stage.
type (
	step  func(s stage)
	steps []step
)

func (all steps) on(s stage) {
	for _, do := range all {
		do(s)
	}
}

func comes(who, affiliation string) step { return func(s stage) { s.comes(who, affiliation) } }
func invites(who string) step            { return func(s stage) { s.invites(who) } }
func enters(who string) step             { return func(s stage) { s.enters(who) } }
func goes(who string) step               { return func(s stage) { s.goes(who) } }
func sets(who, affiliation string) step  { return func(s stage) { s.sets(who, affiliation) } }
func passes(d time.Duration) step        { return func(s stage) { s.pass(d) } }
func succeeds(s stage)                   { s.succeed() }

// looks passes time in which a Guard looks at the room so many times.
func looks(n int) step { return passes(time.Duration(n) * aLook) }

// times repeats steps.
func times(n int, all ...step) step {
	return func(s stage) {
		for range n {
			steps(all).on(s)
		}
	}
}

// withGuard is a step for rooms of a Guard only.
func withGuard(do func(s guardStage)) step { return func(s stage) { do(s.(guardStage)) } }

// admits has somebody admitted as a member, for so long if that is not zero. They do not join yet.
func admits(who string, expires time.Duration) step {
	return withGuard(func(s guardStage) {
		s.t.Helper()
		var end time.Time
		if expires > 0 {
			end = time.Now().Add(expires)
		}
		if err := s.lets(standup, who, "member", end); err != nil {
			s.t.Fatalf("%s is not let in: %v", who, err)
		}
	})
}

func withdraws(who string) step {
	return withGuard(func(s guardStage) { s.Withdraw(jid.MustParse(standup), jid.MustParse(who)) })
}

func authenticates(s stage) { s.(guardStage).SetAuthenticates(true) } // Jicofo does

// moves has somebody go to a breakout room; returns has them come back.
func moves(who string) step   { return withGuard(func(s guardStage) { s.moves(who, false) }) }
func returns(who string) step { return withGuard(func(s guardStage) { s.moves(who, true) }) }

// hosts fails the test unless want is whether a host is inside.
func hosts(want bool) step {
	return withGuard(func(s guardStage) {
		s.t.Helper()
		if host, err := s.HostPresent(context.Background(), jid.MustParse(standup)); host != want || err != nil {
			s.t.Fatalf("a host is inside: %t, %v", host, err)
		}
	})
}

// ownStage is a room that Rooms keep.
type ownStage struct {
	*testing.T
	*world
}

func (s ownStage) comes(who, affiliation string) { s.world.enters(s.T, who, affiliation) }

func (s ownStage) invites(who string) {
	s.Helper()
	s.admitFor(standup, who, "member", false, time.Time{}, true)
	s.settle()
	if err := s.told(who); err != nil {
		s.Fatalf("%s is not let in: %v", who, err)
	}
}

func (s ownStage) enters(who string) bool {
	c := s.chats[standup]
	in := c != nil && s.join(c, who+"/1", who)
	s.settle()
	return in
}

func (s ownStage) goes(who string) {
	s.remove(s.chats[standup], s.chats[standup].inside(who))
	s.settle()
}

func (s ownStage) sets(who, affiliation string) {
	s.affiliate(s.chats[standup], who, affiliation, false)
	s.settle()
}

func (s ownStage) is(who string) string {
	if c := s.chats[standup]; c != nil {
		return c.affiliation(who)
	}
	return "none" // an empty room ends
}

func (s ownStage) pass(d time.Duration) { // as world does, but to the millisecond

	for end := time.Now().Add(d); time.Now().Before(end); s.settle() {
		<-time.After(min(50*time.Millisecond, time.Until(end)))
	}
}

func (s ownStage) succeed() {
	s.disconnected()
	s.service.rooms = s.newRooms()
	s.rooms.Restore(s.book.all())
	s.connect(s.rooms.Reset())
	s.settle()
}

func (s ownStage) removes(who string) error {
	s.Helper()
	return s.does(func() error { return s.rooms.Remove(s.ctx, jid.MustParse(standup), jid.MustParse(who), revoked) })
}

func (s ownStage) ends() error {
	s.Helper()
	return s.does(func() error { return s.rooms.End(s.ctx, jid.MustParse(standup), revoked) })
}

// does has usher do something, while everything that is sent arrives.
func (s ownStage) does(what func() error) error {
	s.Helper()
	done := make(chan error, 1)
	go func() { done <- what() }()
	s.settle()
	select {
	case err := <-done:
		return err
	default:
		s.Fatal("it does not come to an end")
		return nil
	}
}

func (s ownStage) room() *chat { return s.chats[standup] }

func (s ownStage) on() *service { return s.service }

func (s ownStage) keeper() keeper { return s.rooms }

// guardStage is a room that a Guard looks after.
type guardStage struct {
	*lookout
	main *chat
}

func (s guardStage) comes(who, affiliation string) { s.lookout.comes(standup, who, affiliation) }

func (s guardStage) invites(who string) {
	s.t.Helper()
	if err := s.letsFor(standup, who, "member", time.Time{}, true); err != nil {
		s.t.Fatalf("%s is not let in: %v", who, err)
	}
}

func (s guardStage) enters(who string) bool { return s.sits(s.main, who) }

func (s guardStage) goes(who string) { s.lookout.goes(s.main, who) }

func (s guardStage) sets(who, affiliation string) { s.lookout.sets(s.main, who, affiliation) }

func (s guardStage) is(who string) string { return s.lookout.is(s.main, who) }

func (s guardStage) pass(d time.Duration) { pass(d) }

func (s guardStage) removes(who string) error {
	return s.Remove(context.Background(), jid.MustParse(standup), jid.MustParse(who), revoked)
}

func (s guardStage) ends() error {
	return s.End(context.Background(), jid.MustParse(standup), revoked)
}

func (s guardStage) room() *chat {
	s.service.mu.Lock()
	defer s.service.mu.Unlock()
	return s.chats[standup]
}

func (s guardStage) on() *service { return s.service }

func (s guardStage) keeper() keeper { return s.Guard }

// moves has somebody go to the breakout room, which it creates, or come back.
func (s guardStage) moves(who string, back bool) {
	s.t.Helper()
	from, to := s.main, s.opens(breakout)
	s.locked(func() { to.main = from })
	synctest.Wait() // perhaps it is told
	if _, err := s.Main(context.Background(), jid.MustParse(breakout)); err != nil {
		s.t.Fatalf("Main: %v", err)
	}
	if back {
		from, to = to, from
	}
	s.lookout.goes(from, who)
	pass(time.Second)
	if !s.sits(to, who) {
		s.t.Fatalf("%s cannot move", who)
	}
}
