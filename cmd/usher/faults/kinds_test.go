//go:build linux

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// stopWithin is how long usher may take to end after a signal: 5 s for requests under way, and the closing of the stream.
const stopWithin = 20 * time.Second

// kind is a kind of fault. do causes one, and returns once usher works again.
type kind struct {
	name string
	do   func(ctx context.Context, s *site, r *rand.Rand)
}

// kinds are the kinds for sites with one usher, in the order of the table.
var kinds = []kind{
	{"kill -9", func(ctx context.Context, s *site, r *rand.Rand) { s.isAway(ctx, r, s.kills) }},
	{"SIGTERM", func(ctx context.Context, s *site, r *rand.Rand) {
		sig := syscall.SIGTERM
		if r.IntN(4) == 0 {
			sig = syscall.SIGINT
		}
		s.isAway(ctx, r, func() { s.stops(sig) })
	}},
	{"cut link", func(ctx context.Context, s *site, r *rand.Rand) {
		s.suffers(ctx, backWithin, func() { s.cutsLink(ctx, r) })
	}},
	{"server restart", func(ctx context.Context, s *site, r *rand.Rand) {
		s.suffers(ctx, backWithin, func() { s.restartsServer(ctx, r) })
	}},
	{"Jicofo restart", jicofoRestart},
	{"frozen process", frozenProcess},
	{"rival component", rival},
	{"full disk", fullDisk},
	{"damaged store", damagedStore},
	{"owners' tricks", func(ctx context.Context, s *site, r *rand.Rand) { tricks[r.IntN(len(tricks))](s, ctx, r) }},
	{"flood", func(ctx context.Context, s *site, r *rand.Rand) {
		if r.IntN(2) == 0 {
			s.oneFloods(ctx)
		} else {
			s.manyFlood(ctx, r)
		}
	}},
	{"token ends", tokenEnds},
}

// isAway ends usher under load, and starts it again after up to three seconds.
func (s *site) isAway(ctx context.Context, r *rand.Rand, end func()) {
	defer s.load(ctx, r)()
	s.suffers(ctx, backWithin, func() {
		end()
		sleep(ctx, between(r, 0, 3*time.Second))
		s.starts()
	})
}

// cutsLink cuts the link between usher and the server for a while, or stalls it. It returns when the link is back.
func (s *site) cutsLink(ctx context.Context, r *rand.Rand) (back time.Time) {
	if r.IntN(3) == 0 {
		s.ledger.note("", "", "the link between usher and the server stalls")
		s.usher.cable.Stall()
	} else {
		s.ledger.note("", "", "the link is cut")
		s.ledger.loses()
		s.usher.cable.Cut()
	}
	sleep(ctx, between(r, 0, 6*time.Second))
	s.usher.cable.Mend()
	return time.Now()
}

// restartsServer ends the server, in good order or not, and starts it again. It returns when the server is back.
func (s *site) restartsServer(ctx context.Context, r *rand.Rand) (back time.Time) {
	end := s.Stop
	if r.IntN(2) == 0 {
		end = s.Kill
	}
	return s.restart(ctx, end, between(r, 0, 3*time.Second))
}

// jicofoRestart ends Jicofo and starts it again. On a site without Jicofo usher is the focus: it is killed, and killed again
// while it takes over.
func jicofoRestart(ctx context.Context, s *site, r *rand.Rand) {
	s.suffers(ctx, backWithin, func() {
		if s.jicofo == nil {
			s.kills()
			s.starts()
			sleep(ctx, between(r, 0, time.Second))
			s.kills()
			s.starts()
			return
		}
		if r.IntN(2) == 0 {
			s.jicofo.Close()
		} else {
			s.jicofo.Kill()
		}
		sleep(ctx, between(r, 0, 5*time.Second))
		if err := s.jicofo.Restart(ctx, ""); err != nil && ctx.Err() == nil {
			s.t.Errorf("Jicofo does not come back: %v", err)
		}
	})
}

// frozenProcess halts usher or the server for a while.
func frozenProcess(ctx context.Context, s *site, r *rand.Rand) {
	s.suffers(ctx, backWithin, func() {
		if r.IntN(2) == 0 {
			s.ledger.note("", "", "usher is frozen")
			s.usher.signal(syscall.SIGSTOP)
			sleep(ctx, between(r, time.Second, 10*time.Second))
			s.usher.signal(syscall.SIGCONT)
			return
		}
		s.ledger.note("", "", "the server is frozen")
		s.Pause()
		sleep(ctx, between(r, time.Second, 10*time.Second))
		s.Resume()
	})
}

// load makes clients ask for rooms that are not open, about 200 times a second in all, so that requests are under way at each
// moment. It begins a second before it returns.
func (s *site) load(ctx context.Context, r *rand.Rand) (end func()) {
	ctx, leave := context.WithCancel(ctx)
	var all sync.WaitGroup
	for range 20 {
		r := rand.New(rand.NewPCG(r.Uint64(), 0))
		a, err := s.come(ctx, nothing, "load", "", "", time.Time{})
		if err != nil {
			break
		}
		a.quiet = true
		all.Go(func() {
			defer a.Kill()
			for n := 0; ctx.Err() == nil && a.Err() == nil; n++ {
				a.room = fmt.Sprintf("%s-%d@%s", a.nick, n, service) // a new one each time, so that usher holds no request
				a.asks(ctx)
				sleep(ctx, between(r, 50*time.Millisecond, 150*time.Millisecond))
			}
		})
	}
	sleep(ctx, time.Second)
	return func() {
		sleep(ctx, time.Second)
		leave()
		all.Wait()
	}
}

func (s *site) kills() {
	s.ledger.note("", "", "usher is killed")
	s.ledger.loses()
	_ = s.usher.stop(syscall.SIGKILL, stopWithin)
}

func (s *site) stops(sig syscall.Signal) {
	s.ledger.note("", "", "usher is sent %s", sig)
	if err := s.usher.stop(sig, stopWithin); err != nil {
		s.ledger.broken("%v", err)
	}
}

func (s *site) starts() {
	s.ledger.note("", "", "usher starts")
	if err := s.usher.start(); err != nil {
		s.t.Errorf("usher cannot be started: %v", err)
	}
}

// rival connects another component under usher's name. While usher is connected, the server refuses the rival. While usher's link
// is down the rival connects, refuses every request, and goes.
func rival(ctx context.Context, s *site, r *rand.Rand) {
	for range 3 {
		if c, err := s.DialComponent(ctx, focus, componentSecret); err == nil {
			c.Kill()
			s.ledger.note("", "", "a rival has connected beside usher")
		}
	}
	// muc_component: usher stands by for 15 to 16 s when the name is taken.
	s.suffers(ctx, backWithin+16*time.Second, func() {
		s.ledger.loses()
		s.usher.cable.Cut()
		var c *prosodytest.Client
		var err error
		for ctx.Err() == nil { // until the server has noticed
			if c, err = s.DialComponent(ctx, focus, componentSecret); err == nil {
				break
			}
			sleep(ctx, 50*time.Millisecond)
		}
		if err != nil {
			return
		}
		s.ledger.note("", "", "a rival has usher's name")
		s.usher.cable.Mend()
		one, done := context.WithTimeout(ctx, between(r, time.Second, 5*time.Second))
		defer done()
		for {
			iq, err := c.Next(one)
			if err != nil {
				break
			}
			if typ := iq.Attr["type"]; iq.Name == "iq" && (typ == "get" || typ == "set") {
				_ = c.Send(fmt.Sprintf("<iq type='error' id='%s' from='%s' to='%s'><error type='cancel'>"+
					"<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>", iq.Attr["id"], iq.Attr["to"], iq.Attr["from"]))
			}
		}
		s.ledger.loses() // the rival has not read all that the server has sent
		_ = c.Close()
		s.ledger.note("", "", "the rival goes")
	})
}

// fullDisk leaves no space for the store for a while. usher continues as well as it can.
func fullDisk(ctx context.Context, s *site, r *rand.Rand) {
	state := filepath.Join(s.dir, "state")
	s.ledger.note("", "", "the disk is full")
	if s.small {
		filler := filepath.Join(state, "filler")
		if err := fill(filler); err != nil {
			s.t.Errorf("filling the disk: %v", err)
		}
		sleep(ctx, between(r, 2*time.Second, 8*time.Second))
		if err := os.Remove(filler); err != nil {
			s.t.Errorf("emptying the disk: %v", err)
		}
	} else {
		// setrlimit(2): no file grows beyond the size that the store has.
		stat, err := os.Stat(filepath.Join(state, "usher.db"))
		if err != nil {
			s.t.Error(err)
			return
		}
		limit := func(soft string) {
			cmd := exec.Command("prlimit", "--pid", strconv.Itoa(s.usher.pid()), "--fsize="+soft+":")
			if out, err := cmd.CombinedOutput(); err != nil {
				s.t.Errorf("prlimit: %v\n%s", err, out)
			}
		}
		limit(strconv.FormatInt(stat.Size(), 10))
		sleep(ctx, between(r, 2*time.Second, 8*time.Second))
		limit("unlimited")
	}
	s.ledger.note("", "", "the disk has space again")
	s.suffers(ctx, backWithin, func() {})
}

// fill writes a file until the disk is full.
func fill(name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; block = block[:len(block)/2] {
		for {
			if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// damagedStore damages the store while usher is away. usher serves all the same, or it says what is wrong; then its operator
// moves the file away.
func damagedStore(ctx context.Context, s *site, r *rand.Rand) {
	db := filepath.Join(s.dir, "state", "usher.db")
	s.suffers(ctx, 2*backWithin, func() {
		s.stops(syscall.SIGINT)
		what, err := damage(db, r)
		if err != nil {
			s.t.Errorf("damaging the store: %v", err)
		}
		s.ledger.note("", "", "the store is damaged: %s", what)
		s.starts()
		s.usher.expect(true)
		defer s.usher.expect(false)
		serving := make(chan bool, 1)
		one, done := context.WithCancel(ctx)
		go func() { serving <- s.serves(one, backWithin) }()
		var said string
		refused := false
		select {
		case <-s.usher.end():
			refused = true
			said = s.usher.tail()
			done()
			<-serving
		case <-serving:
			done()
		}
		if !refused {
			s.ledger.note("", "", "usher serves all the same")
			return
		}
		last := said[strings.LastIndexByte(strings.TrimSpace(said), '\n')+1:]
		if !strings.Contains(last, "store") || strings.Contains(said, "goroutine ") {
			s.ledger.broken("usher does not say what is wrong with the store (%s); its log ends with\n%s", what, said)
		}
		s.ledger.note("", "", "usher says %s", last)
		if err := os.Rename(db, db+".damaged"); err != nil {
			s.t.Error(err)
		}
		s.starts()
	})
}

// damage changes a file as a failing disk does, and returns the damage in words.
func damage(name string, r *rand.Rand) (what string, err error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	const page = 4096
	pages := max(len(b)/page, 1)
	switch r.IntN(4) {
	case 0:
		n := 1 + r.IntN(32)
		what = fmt.Sprintf("%d bits are flipped", n)
		for range n {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
		}
	case 1:
		at := r.IntN(pages)
		what = fmt.Sprintf("page %d is empty", at)
		clear(b[at*page : min(len(b), (at+1)*page)])
	case 2:
		from, to := r.IntN(pages), r.IntN(pages)
		what = fmt.Sprintf("page %d is a copy of page %d", to, from)
		copy(b[to*page:min(len(b), (to+1)*page)], b[from*page:])
	case 3:
		b = b[:r.IntN(len(b))]
		what = fmt.Sprintf("the file is cut after %d bytes", len(b))
	}
	return what, os.WriteFile(name, b, 0o600)
}

// tricks are the ways in which owners trouble usher.
var tricks = []func(*site, context.Context, *rand.Rand){
	(*site).persists, (*site).opensTheDoor, (*site).leavesGuestsAlone, (*site).leavesAnAdmin, (*site).destroys, (*site).promotes,
}

// newRoom returns a room that only this fault uses.
func (s *site) newRoom(what string) string {
	s.mu.Lock()
	s.persons++
	n := s.persons
	s.mu.Unlock()
	room := s.watch(fmt.Sprintf("%s%d", what, n))
	s.ledger.isFor(room)
	return room
}

// hosted returns a new room with a host inside.
func (s *site) hosted(ctx context.Context, r *rand.Rand, what string) (room string, a *actor, v *visit, ok bool) {
	room = s.newRoom(what)
	a, v, ok = s.enters(ctx, r, host, "host", room, inAnHour())
	return room, a, v, ok
}

// restartUsher kills usher and starts it again.
func (s *site) restartUsher(ctx context.Context) {
	s.suffers(ctx, backWithin, func() { s.kills(); s.starts() })
}

// enters makes somebody with this right come, ask and enter.
func (s *site) enters(ctx context.Context, r *rand.Rand, as right, what, room string, ends time.Time) (*actor, *visit, bool) {
	a, err := s.come(ctx, as, what, room, tokenFor(as, room, ends), ends)
	if err != nil {
		return nil, nil, false
	}
	if a.wants(ctx, r, 30*time.Second) == ready {
		if v, ok := a.joins(ctx); ok {
			return a, v, true
		}
	}
	_ = a.Close()
	return nil, nil, false
}

// tokenFor returns a token for a right, or "" if the right needs none.
func tokenFor(as right, room string, ends time.Time) string {
	switch as {
	case host:
		return mint(room, ends, nil)
	case member:
		return mint(room, ends, func(c *token.Claims) { c.User.Affiliation = "member" })
	}
	return ""
}

func inAnHour() time.Time { return time.Now().Add(time.Hour).Truncate(time.Second) }

// owns sends an owner's request to the room, and reports whether it succeeds.
func (a *actor) owns(ctx context.Context, ns, payload string) bool {
	one, done := context.WithTimeout(ctx, patience)
	defer done()
	answer, err := a.IQ(one, "set", a.room, "<query xmlns='http://jabber.org/protocol/"+ns+"'>"+payload+"</query>")
	a.s.ledger.note(a.room, a.bare, "%s: %s %v", payload[max(0, len(payload)-80):], answer.Attr["type"], err)
	return err == nil && answer.Attr["type"] == "result"
}

func (a *actor) configures(ctx context.Context, field, value string) bool {
	return a.owns(ctx, "muc#owner", "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"+
		"<field var='muc#roomconfig_"+field+"'><value>"+value+"</value></field></x>")
}

// persists makes an owner set the room persistent, give an unknown JID the affiliation owner, and leave.
func (s *site) persists(ctx context.Context, r *rand.Rand) {
	room, a, v, ok := s.hosted(ctx, r, "persist")
	if !ok {
		return
	}
	a.configures(ctx, "persistentroom", "1")
	a.owns(ctx, "muc#admin", "<item jid='friend@elsewhere.example.net' affiliation='owner'/>")
	if r.IntN(2) == 0 { // the owner also opens the room
		closed := s.ledger.opens(room)
		a.configures(ctx, "membersonly", "0")
		time.AfterFunc(endWithin/2, closed)
	}
	a.away(ctx, r, v)
	if r.IntN(3) == 0 {
		s.restartUsher(ctx)
	}
	s.mayNotEnter(ctx, r, room)
}

// mayNotEnter makes a guest and a stranger try a room without a host inside.
func (s *site) mayNotEnter(ctx context.Context, r *rand.Rand, room string) {
	var both sync.WaitGroup
	both.Go(func() {
		if a, err := s.come(ctx, guest, "guest", room, "", time.Time{}); err == nil {
			if a.wants(ctx, r, 7*time.Second) == ready {
				_, _ = a.joins(ctx)
			}
			_ = a.Close()
		}
	})
	both.Go(func() {
		if a, err := s.come(ctx, nothing, "stranger", room, "", time.Time{}); err == nil {
			for range 8 {
				_, _ = a.joins(ctx)
				sleep(ctx, time.Second)
			}
			_ = a.Close()
		}
	})
	both.Wait()
}

// opensTheDoor makes an owner switch members-only off, sometimes after removing the focus, while strangers try to join.
func (s *site) opensTheDoor(ctx context.Context, r *rand.Rand) {
	room, a, v, ok := s.hosted(ctx, r, "open")
	if !ok {
		return
	}
	var all sync.WaitGroup
	for range 3 {
		b, err := s.come(ctx, nothing, "stranger", room, "", time.Time{})
		if err != nil {
			continue
		}
		all.Go(func() {
			for range 40 {
				_, _ = b.joins(ctx)
				sleep(ctx, 200*time.Millisecond)
			}
			_ = b.Close()
		})
	}
	for range 1 + r.IntN(3) {
		closed := s.ledger.opens(room)
		if r.IntN(2) == 0 {
			a.owns(ctx, "muc#admin", "<item nick='focus' role='none'/>")
		}
		a.configures(ctx, "membersonly", "0")
		sleep(ctx, between(r, 0, time.Second))
		time.AfterFunc(endWithin/2, closed)
	}
	all.Wait()
	a.away(ctx, r, v)
}

// leavesGuestsAlone makes the host leave right after two guests were told ready, and before they join. One joins soon, the other
// late.
func (s *site) leavesGuestsAlone(ctx context.Context, r *rand.Rand) {
	room, a, v, ok := s.hosted(ctx, r, "alone")
	if !ok {
		return
	}
	var both sync.WaitGroup
	told := make(chan bool, 2)
	for _, late := range []time.Duration{between(r, 0, 3*time.Second), hostGone + withdrawing + between(r, time.Second, 5*time.Second)} {
		both.Go(func() {
			b, err := s.come(ctx, guest, "guest", room, "", time.Time{})
			if err != nil {
				told <- false
				return
			}
			defer b.Close()
			what := b.asks(ctx)
			told <- true
			if what != ready {
				return
			}
			sleep(ctx, late)
			if v, ok := b.joins(ctx); ok {
				_ = b.stays(ctx, v, 2*time.Second)
				b.away(ctx, rand.New(rand.NewPCG(1, 1)), v)
			}
		})
	}
	<-told
	<-told
	a.away(ctx, r, v)
	both.Wait()
}

// leavesAnAdmin makes the host leave a room in which an admin of the MUC service stays as the only moderator. The admin's virtual
// host is unknown to usher.
func (s *site) leavesAnAdmin(ctx context.Context, r *rand.Rand) {
	room, a, v, ok := s.hosted(ctx, r, "admin")
	if !ok {
		return
	}
	o := prosodytest.JitsiOptions{}.Observer()
	dial, done := context.WithTimeout(ctx, patience)
	defer done()
	admin, err := s.Dial(dial, prosodytest.ClientOptions{Host: o.Host, User: o.User, Password: o.Password})
	if err != nil {
		a.away(ctx, r, v)
		return
	}
	defer admin.Close()
	own, err := admin.Join(dial, room, "admin")
	s.ledger.note(room, admin.BareJID(), "an admin is inside: %s %v", own.Attr["type"], err)
	a.away(ctx, r, v)
	s.mayNotEnter(ctx, r, room)
}

// promotes makes a host promote a guest to owner, and leave. Other guests may enter until the promoted one has left, too.
func (s *site) promotes(ctx context.Context, r *rand.Rand) {
	room, a, v, ok := s.hosted(ctx, r, "heir")
	if !ok {
		return
	}
	b, w, ok := s.enters(ctx, r, guest, "guest", room, time.Time{})
	if !ok {
		a.away(ctx, r, v)
		return
	}
	s.ledger.promotes(b.bare)
	a.owns(ctx, "muc#admin", "<item jid='"+b.bare+"' affiliation='owner'/>")
	a.away(ctx, r, v)
	if c, u, ok := s.enters(ctx, r, guest, "guest", room, time.Time{}); ok {
		sleep(ctx, time.Second)
		c.away(ctx, r, u)
	}
	b.away(ctx, r, w)
	s.mayNotEnter(ctx, r, room)
}

// destroys makes an owner destroy the room and create it again. Rights in the old room do not count in the new one.
func (s *site) destroys(ctx context.Context, r *rand.Rand) {
	room, a, v, ok := s.hosted(ctx, r, "again")
	if !ok {
		return
	}
	defer a.Close()
	b, w, ok := s.enters(ctx, r, guest, "guest", room, time.Time{})
	if !ok {
		a.away(ctx, r, v)
		return
	}
	defer b.Close()
	if !a.owns(ctx, "muc#owner", "<destroy/>") || !b.stays(ctx, w, patience) {
		a.away(ctx, r, v)
		return
	}
	s.ledger.exits(v, "has destroyed the room")
	s.ledger.forgets(a.bare)
	s.ledger.forgets(b.bare)
	if a.wants(ctx, r, 30*time.Second) != ready {
		return
	}
	v, ok = a.joins(ctx)
	_, _ = b.joins(ctx)
	if ok {
		a.away(ctx, r, v)
	}
}

// oneFloods makes one guest send requests as fast as possible, many at once.
func (s *site) oneFloods(ctx context.Context) {
	room := s.newRoom("flood")
	a, err := s.come(ctx, guest, "flooder", room, "", time.Time{})
	if err != nil {
		return
	}
	defer a.Close()
	a.quiet = true
	one, done := context.WithTimeout(ctx, 5*time.Second)
	defer done()
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for one.Err() == nil {
				if what := a.asks(one); what == gone || what == silent {
					return
				}
			}
		})
	}
	all.Wait()
}

// manyFlood makes many clients ask for impossible rooms: Prosody changes their names (Nodeprep), and so never answers from the
// address in the request.
func (s *site) manyFlood(ctx context.Context, r *rand.Rand) {
	const n = 150
	var actors []*actor
	for i := range n {
		a, err := s.come(ctx, nothing, "crowd", fmt.Sprintf("no\u200dbody%d-%d@%s", r.IntN(1000), i, service), "", time.Time{})
		if err != nil {
			break
		}
		a.quiet = true
		actors = append(actors, a)
	}
	var all sync.WaitGroup
	for _, a := range actors {
		all.Go(func() {
			defer a.Kill()
			for range 3 {
				if what := a.asks(ctx); what == gone || what == silent || ctx.Err() != nil {
					return
				}
			}
		})
	}
	all.Wait()
}

// tokenEnds lets a token end while its bearer is inside, or before the bearer joins, sometimes while usher is away.
func tokenEnds(ctx context.Context, s *site, r *rand.Rand) {
	room := s.newRoom("ends")
	as := []right{host, member}[r.IntN(2)]
	ends := time.Now().Add(between(r, 5*time.Second, 8*time.Second)).Truncate(time.Second)
	a, err := s.come(ctx, as, "ending", room, tokenFor(as, room, ends), ends)
	if err != nil {
		return
	}
	defer a.Close()
	if a.wants(ctx, r, 3*time.Second) != ready {
		return
	}
	killed := func() {
		if r.IntN(3) == 0 {
			s.restartUsher(ctx)
		}
	}
	if r.IntN(2) == 0 { // the bearer joins in time, and leaves after the end
		v, ok := a.joins(ctx)
		if !ok {
			return
		}
		if a.stays(ctx, v, time.Until(ends)+between(r, leeway, 3*time.Second)) {
			return
		}
		killed()
		a.leaves(ctx, v)
	} else {
		sleep(ctx, time.Until(ends))
		killed()
	}
	sleep(ctx, between(r, leeway, endsWithin+leeway+8*time.Second))
	a.asks(ctx)
	if a.session != "" { // the token's session has ended, too
		a.resumes = true
		a.asks(ctx)
	}
	if v, ok := a.joins(ctx); ok {
		a.away(ctx, r, v)
	}
}
