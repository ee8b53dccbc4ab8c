//go:build linux

package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/redistest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// This file has the faults of sites with two ushers, which share a Redis. One of them is the active one, the other one stands by.

// redisPassword is the password of the shared Redis.
const redisPassword = "a-secret-of-the-store-8c1f"

// joinsEachSecond is how many people enter each second while a fault happens, unless FAULTS_JOINS says otherwise.
const joinsEachSecond = 10

// pairKinds are the kinds for sites with two ushers, in the order of the table.
var pairKinds = []kind{
	{"active killed", func(ctx context.Context, s *site, r *rand.Rand) { s.isReplaced(ctx, r, s.kills) }},
	{"active stopped", func(ctx context.Context, s *site, r *rand.Rand) {
		s.isReplaced(ctx, r, func() { s.stops(syscall.SIGTERM) })
	}},
	{"active frozen", activeFrozen},
	{"Redis restart", func(ctx context.Context, s *site, r *rand.Rand) {
		end := s.redis.Stop
		if r.IntN(2) == 0 {
			end = s.redis.Kill
		}
		s.withoutRedis(ctx, r, "Redis ends", end, s.redis.Restart)
	}},
	{"Redis loses all", func(ctx context.Context, s *site, r *rand.Rand) {
		s.withoutRedis(ctx, r, "Redis ends, and loses its data", s.redis.Lose, s.redis.Restart)
	}},
	{"Redis link", redisLink},
	{"cut link", func(ctx context.Context, s *site, r *rand.Rand) { s.isCutOff(ctx, r, s.cutsLink) }},
	{"server restart", func(ctx context.Context, s *site, r *rand.Rand) { s.isCutOff(ctx, r, s.restartsServer) }},
}

// shares makes a Redis and a second usher, for sites with two.
func (s *site) shares(binary string) {
	s.hidden.Plant("the password of Redis", redisPassword)
	s.usher.name, s.usher.log = "usher1", s.usher.log[:len(s.usher.log)-len(".log")]+"1.log"
	s.other = s.newUsher(binary, "usher2")
	s.redis = redistest.Start(s.t, redistest.Options{Config: "requirepass " + redisPassword})
	address := func(server string) string { return "redis://:" + redisPassword + "@" + server }
	for _, u := range s.ushers() {
		u.link = prosodytest.NewCable(s.t, s.redis.Addr())
		s.configure(u, fmt.Sprintf("url: %q", address(u.link.Addr())))
	}
	records, err := store.Redis(store.Options{}, store.RedisOptions{URL: address(s.redis.Addr())})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { records.Close() })
	s.records, s.ledger.keeps = records, true
}

// roles finds out which usher is the active one, and reports whether one is.
func (s *site) roles(ctx context.Context) bool {
	late, cancel := context.WithTimeout(ctx, startsWithin)
	defer cancel()
	said := ""
	for late.Err() == nil {
		record, err := s.records.Get(late, store.KindLease, focus)
		var lease struct{ Holder string }
		if err == nil {
			err = json.Unmarshal(record.Value, &lease)
		}
		said = fmt.Sprintf("%s %v", record.Value, err)
		for _, u := range s.ushers() {
			if err == nil && strings.HasSuffix(lease.Holder, ", process "+strconv.Itoa(u.pid())) {
				if u == s.other {
					s.usher, s.other = s.other, s.usher
				}
				s.ledger.note("", "", "%s is the active one", u.name)
				return true
			}
		}
		sleep(late, 50*time.Millisecond)
	}
	if ctx.Err() == nil {
		s.ledger.broken("no usher becomes the active one: %s", said)
	}
	return false
}

// standsBy runs do, and waits until the usher then says that it stands by for the other one.
func (s *site) standsBy(ctx context.Context, u *process, do func() error) bool {
	u.mark()
	if err := do(); err != nil {
		s.t.Errorf("%s: %v", u.name, err)
		return false
	}
	if !u.says(ctx, "standing by: another usher is the active one", startsWithin) {
		if ctx.Err() == nil {
			s.ledger.broken("%s does not stand by; its log ends with\n%s", u.name, u.tail())
		}
		return false
	}
	s.ledger.note("", "", "%s stands by", u.name)
	return true
}

// mark makes says look at what is logged from now on.
func (p *process) mark() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.from = 0
	if log, err := os.Stat(p.log); err == nil {
		p.from = log.Size()
	}
}

// says waits until the log has a text, and reports whether it does in time.
func (p *process) says(ctx context.Context, text string, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	p.mu.Lock()
	from := p.from
	p.mu.Unlock()
	for ctx.Err() == nil {
		if log, err := os.ReadFile(p.log); err == nil && strings.Contains(string(log[min(from, int64(len(log))):]), text) {
			return true
		}
		sleep(ctx, 20*time.Millisecond)
	}
	return false
}

// admits waits until somebody is inside who asks after now. The time that it takes counts from began on.
func (s *site) admits(ctx context.Context, began time.Time) {
	ctx, cancel := context.WithTimeout(ctx, startsWithin)
	defer cancel()
	select {
	case <-s.ledger.await(began):
	case <-ctx.Done():
		if ctx.Err() == context.DeadlineExceeded {
			s.ledger.broken("nobody is admitted any more; usher's log ends with\n%s\n%s", s.usher.tail(), s.other.tail())
		}
	}
}

// isReplaced ends the active usher while people enter. The other one takes over, and the ended one comes back to stand by.
func (s *site) isReplaced(ctx context.Context, r *rand.Rand, end func()) {
	defer s.joins(ctx, r)()
	s.suffers(ctx, backWithin, func() {
		began := time.Now()
		end()
		s.admits(ctx, began)
	})
	s.standsBy(ctx, s.usher, func() error {
		s.ledger.note("", "", "%s starts again", s.usher.name)
		return s.usher.start()
	})
}

// isCutOff cuts the active usher off from the server while people want to enter. It stays the active one.
func (s *site) isCutOff(ctx context.Context, r *rand.Rand, cut func(context.Context, *rand.Rand) (back time.Time)) {
	defer s.joins(ctx, r)()
	s.suffers(ctx, backWithin, func() { s.admits(ctx, cut(ctx, r)) })
}

// activeFrozen freezes the active usher while people enter, mostly for longer than its lease lives. It must not admit anybody, nor
// disturb the other one, when it goes on.
func activeFrozen(ctx context.Context, s *site, r *rand.Rand) {
	defer s.joins(ctx, r)()
	long := between(r, 3*time.Second, 10*time.Second)
	if r.IntN(4) == 0 {
		long = between(r, 100*time.Millisecond, 2*time.Second)
	}
	s.usher.mark()
	began := time.Now()
	s.suffers(ctx, backWithin, func() {
		s.ledger.note("", "", "%s is frozen", s.usher.name)
		s.usher.signal(syscall.SIGSTOP)
		thawed := time.AfterFunc(long, func() { s.usher.signal(syscall.SIGCONT) })
		defer thawed.Stop()
		s.admits(ctx, began)
		sleep(ctx, long-time.Since(began))
		s.usher.signal(syscall.SIGCONT)
		s.ledger.note("", "", "%s goes on", s.usher.name)
	})
	was := s.usher
	if s.roles(ctx) && s.usher != was {
		if !was.says(ctx, "this usher is not the active one any more", startsWithin) && ctx.Err() == nil {
			s.ledger.broken("%s does not notice that another one is the active one; its log ends with\n%s", was.name, was.tail())
		}
		was.says(ctx, "standing by: another usher is the active one", startsWithin)
	}
}

// withoutRedis takes Redis away from both ushers for a while, and gives it back. Nobody new is admitted meanwhile, and nobody inside is
// removed; the ledger sees to that. Requests are answered in time all the same.
func (s *site) withoutRedis(ctx context.Context, r *rand.Rand, what string, end, again func()) {
	defer s.joins(ctx, r)()
	s.ledger.note("", "", "%s", what)
	end()
	returns := s.ledger.loseStore()
	sleep(ctx, between(r, 500*time.Millisecond, 8*time.Second))
	returns()
	again()
	s.admits(ctx, time.Now())
}

// redisLink cuts or stalls the link between Redis and one usher, or both.
func redisLink(ctx context.Context, s *site, r *rand.Rand) {
	how, end := "is cut", (*prosodytest.Cable).Cut
	if r.IntN(2) == 0 {
		how, end = "stalls", (*prosodytest.Cable).Stall
	}
	switch r.IntN(3) {
	case 0:
		s.withoutRedis(ctx, r, "the link of both to Redis "+how,
			func() { end(s.usher.link); end(s.other.link) }, func() { s.usher.link.Mend(); s.other.link.Mend() })
	case 1:
		defer s.joins(ctx, r)()
		s.ledger.note("", "", "the link of the active one to Redis %s", how)
		began := time.Now()
		s.usher.mark()
		end(s.usher.link)
		s.admits(ctx, began)
		s.ledger.loses() // the server drops the connection of the one that was active
		sleep(ctx, between(r, 0, 4*time.Second))
		s.usher.link.Mend()
		s.usher.says(ctx, "standing by: another usher is the active one", startsWithin)
	case 2:
		defer s.joins(ctx, r)()
		s.ledger.note("", "", "the link of the one that stands by to Redis %s", how)
		began := time.Now()
		end(s.other.link)
		s.admits(ctx, began)
		sleep(ctx, between(r, 0, 4*time.Second))
		s.other.link.Mend()
	}
}

// joins makes members enter rooms, so many each second, and leave again. It begins a second before it returns. All of them have left by
// the end of the run at the latest.
func (s *site) joins(ctx context.Context, r *rand.Rand) (end func()) {
	rate := joinsEachSecond
	if n, err := strconv.Atoi(os.Getenv("FAULTS_JOINS")); err == nil && n > 0 {
		rate = n
	}
	joining, leave := context.WithCancel(ctx)
	idle := make(chan *actor, 1000)
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(rate))
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-tick.C:
			case <-joining.Done():
				return
			}
			var a *actor
			select {
			case a = <-idle:
			default:
			}
			room := s.watch(fmt.Sprintf("crowd%d", n%5))
			all.Go(func() {
				if a = s.passes(ctx, a, room); a != nil {
					idle <- a
				}
			})
		}
	})
	sleep(ctx, time.Second)
	return func() {
		sleep(ctx, time.Second)
		leave()
		s.crowd.Go(func() {
			all.Wait()
			close(idle)
			for a := range idle {
				_ = a.Close()
			}
		})
	}
}

// passes has somebody enter a room and leave it, and returns them if they can do so again. A nil actor comes first.
func (s *site) passes(ctx context.Context, a *actor, room string) *actor {
	if a == nil {
		ends := inAnHour()
		var err error
		tok := mint(room, ends, func(c *token.Claims) { c.User.Affiliation = "member" })
		if a, err = s.come(ctx, member, "crowd", room, tok, ends); err != nil {
			return nil
		}
		a.quiet = true
	}
	if a.asks(ctx) == ready {
		if v, ok := a.joins(ctx); ok {
			a.leaves(ctx, v)
		}
	}
	if a.Err() != nil {
		a.Kill()
		return nil
	}
	return a
}
