package component

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// process is an usher without a server: a Component with rooms of the test, on a store that others share. Its way to the store can be
// cut, and it can be frozen, as by SIGSTOP.
type process struct {
	store.Store
	mode // what no test needs
	c    *Component

	ahead atomic.Int64 // of the machine's clock is usher's
	cut   atomic.Bool
	full  atomic.Bool // the store has no room for another bar
	busy  atomic.Bool // the server puts nobody out
	// passive says that another process is the active one of the two.
	passive atomic.Bool

	thawed atomic.Pointer[chan struct{}] // closed unless the process is frozen

	mu     sync.Mutex
	inside map[string]bool // by bare JID
	during func()          // is called while somebody is let in, once their grant is written down
	out    func()          // is called while somebody is put out, before they are
}

var errUnreachable = errors.New("no answer from the store")

var revokeSecret = []byte("a secret for tests, long enough!")

// newProcess returns a process that works until stop is called.
func newProcess(t interface{ Fatal(...any) }, shared store.Store, change func(*auth.Policy)) (p *process, stop func()) {
	source, err := keys.Secrets(revokeSecret)
	if err != nil {
		t.Fatal(err)
	}
	p = &process{Store: shared, inside: make(map[string]bool)}
	p.thaw()
	policy := auth.Policy{
		Services: []string{theRoom.Domainpart()}, Sessions: store.Sessions{Store: p}, Refusals: store.Refusals{Store: p, Now: p.now},
		VHosts: map[string]auth.VHost{"meet.example.com": {Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{{
			Name: "my_app", Accepted: []string{"*"}, Audiences: []string{"*"}, Algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, Keys: source,
		}}}},
	}
	if change != nil {
		change(&policy)
	}
	p.c, err = New(Options{
		Domain: ours, Services: []jid.JID{theRoom.Domain()}, Authorizer: auth.New(policy), MembersOnly: true, Store: p, Now: p.now, Log: zap.NewNop(),
		Holds: func() bool { return !p.passive.Load() },
	})
	if err != nil {
		t.Fatal(err)
	}
	p.c.mode, p.c.storeAgain = p, time.Millisecond
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { p.c.follow(ctx) })
	all.Go(func() { p.c.bar(ctx) })
	all.Go(func() { p.c.end(ctx) })
	return p, func() {
		cancel()
		p.thaw()
		all.Wait()
	}
}

func (p *process) now() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }

func (p *process) freeze() { frozen := make(chan struct{}); p.thawed.Store(&frozen) }

func (p *process) thaw() {
	thawed := make(chan struct{})
	close(thawed)
	if was := p.thawed.Swap(&thawed); was != nil {
		select {
		case <-*was:
		default:
			close(*was)
		}
	}
}

func (p *process) frozen() bool {
	select {
	case <-*p.thawed.Load():
		return false
	default:
		return true
	}
}

// reach returns when the process is not frozen, with an error if the store cannot be reached.
func (p *process) reach() error {
	<-*p.thawed.Load()
	if p.cut.Load() {
		return errUnreachable
	}
	return nil
}

func (p *process) Put(ctx context.Context, records ...store.Record) error {
	if err := p.reach(); err != nil {
		return err
	}
	return p.Store.Put(ctx, records...)
}

func (p *process) Get(ctx context.Context, k store.Kind, key string) (store.Record, error) {
	if err := p.reach(); err != nil {
		return store.Record{}, err
	}
	return p.Store.Get(ctx, k, key)
}

func (p *process) Add(ctx context.Context, r store.Record) (store.Record, bool, error) {
	if err := p.reach(); err != nil {
		return store.Record{}, false, err
	}
	if r.Kind == store.KindBar && p.full.Load() {
		return store.Record{}, false, &store.FullError{Kind: r.Kind}
	}
	return p.Store.Add(ctx, r)
}

func (p *process) Swap(ctx context.Context, old, new store.Record) (bool, error) {
	if err := p.reach(); err != nil {
		return false, err
	}
	return p.Store.Swap(ctx, old, new)
}

func (p *process) All(ctx context.Context, k store.Kind) iter.Seq2[store.Record, error] {
	if err := p.reach(); err != nil {
		return func(yield func(store.Record, error) bool) { yield(store.Record{}, err) }
	}
	return p.Store.All(ctx, k)
}

func (p *process) Append(ctx context.Context, e store.Event) error {
	if err := p.reach(); err != nil {
		return err
	}
	return p.Store.Append(ctx, e)
}

// Follow loses what is told while the way to the store is cut, and says so.
func (p *process) Follow(ctx context.Context) iter.Seq2[store.Event, error] {
	return func(yield func(store.Event, error) bool) {
		lost := false
		for e, err := range p.Store.Follow(ctx) {
			<-*p.thawed.Load()
			if p.cut.Load() {
				lost = true
				continue
			}
			if lost && !yield(store.Event{}, errUnreachable) {
				return
			}
			if lost = false; !yield(e, err) {
				return
			}
		}
	}
}

// tick is an event that means nothing: after a cut the next event tells a process that it has lost some.
var tick = store.Event{What: "tick"}

func (p *process) look(context.Context, auth.Request, auth.Room) (auth.RoomState, error) {
	return auth.RoomState{Exists: true, HostPresent: true}, nil
}

// apply lets people in as package muc does: the grant is written down first.
func (p *process) apply(ctx context.Context, r *request, d auth.Decision) (auth.Decision, *focus.Answer) {
	g := &muc.Grant{Room: d.Room.JID, Who: r.from.Bare(), Affiliation: string(d.Affiliation), At: p.now(), Expires: d.Expires, By: r.by}
	if err := p.c.ledger.Granted(ctx, g, nil); err != nil {
		return d.Denied(auth.ReasonStoreUnavailable, err), nil
	}
	p.mu.Lock()
	p.inside[g.Who.String()] = true
	during := p.during
	p.mu.Unlock()
	if during != nil {
		during()
	}
	return d, nil
}

func (p *process) Remove(_ context.Context, room, who jid.JID, _ string) error {
	<-*p.thawed.Load()
	if p.busy.Load() {
		return errors.New("the server is busy")
	}
	p.mu.Lock()
	out := p.out
	p.mu.Unlock()
	if out != nil {
		out()
	}
	p.leaves(room, who)
	return nil
}

func (p *process) Say(jid.JID, jid.JID, string) (bool, error) { return true, nil }

func (p *process) leaves(room, who jid.JID) {
	p.mu.Lock()
	delete(p.inside, who.Bare().String())
	p.mu.Unlock()
	p.c.ledger.Ended(room, who.Bare())
}

func (p *process) has(who jid.JID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.inside[who.Bare().String()]
}

// asks asks for the room, and returns what is told.
func (p *process) asks(who jid.JID, tok, machine string) auth.Decision {
	door := &otherDoor{}
	conf := focus.Conference{Room: theRoom.String(), Token: tok, MachineUID: machine}
	p.c.admit(context.Background(), &request{from: who, conf: conf, client: door, came: time.Now()})
	return door.told[0]
}

// tokensOf mints tokens, the n-th of the user un with the jti jn.
func tokensOf(t *testing.T, n int) (all []string) {
	t.Helper()
	for i := range n {
		c := token.Claims{
			Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "s", Room: "*", ID: fmt.Sprint("j", i),
			Expires: time.Now().Add(1e5 * time.Hour), IssuedAt: time.Now(), User: token.User{ID: fmt.Sprint("u", i), Affiliation: "member"},
		}
		all = append(all, tokentest.Mint(t, revokeSecret, c, nil))
	}
	return all
}

func (p *process) listed(room string) []LiveGrant {
	all, _ := p.c.Grants(room)
	return all
}

func somebody(n int) jid.JID { return jid.MustParse(fmt.Sprintf("p%d@meet.example.com/r", n)) }

// soon waits until ok. The clocks of the processes run fast meanwhile.
func soon(t interface{ Fatalf(string, ...any) }, what string, ok func() bool, all ...*process) {
	deadline := time.Now().Add(patience)
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		for _, p := range all {
			p.ahead.Add(int64(5 * time.Second))
		}
		<-pause.C
	}
}

// Two processes on one store let people in and revoke their tokens, also both at the same moment, while ways to the store are cut,
// processes are frozen and the server is busy. Nobody is let in by a token that is revoked for sure, or without the store. In the end
// everybody with a revoked token is out, and nobody else is.
func TestRevokeModel(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(t, 3)
	rapid.Check(t, func(t *rapid.T) {
		shared := store.Memory(store.Options{})
		defer shared.Close()
		var all []*process
		for range 2 {
			p, stop := newProcess(t, shared, nil)
			defer stop()
			all = append(all, p)
		}
		by := []map[int]int{{}, {}} // the tokens of those inside, by process and person
		// Those who may have changed over to a token that was revoked at that moment, and so be out.
		changed := []map[int]bool{{}, {}}
		revoked, perhaps := map[int]bool{}, map[int]bool{}
		which := func(t *rapid.T) (int, *process) {
			n := rapid.IntRange(0, 1).Draw(t, "process")
			if all[n].frozen() {
				t.Skip("frozen")
			}
			return n, all[n]
		}
		admits := func(p *process, who, tok int) auth.Decision { return p.asks(somebody(who), tokens[tok], "m") }
		revokes := func(p *process, tok int) error {
			_, err := p.c.Revoke(context.Background(), auth.Revocation{JTI: fmt.Sprint("j", tok)})
			return err
		}
		told := func(t *rapid.T, n int, p *process, who, tok int, cut, was bool, d auth.Decision) {
			switch {
			case d.Verdict == auth.Allow && cut:
				t.Fatal("let in without the store")
			case d.Verdict == auth.Allow && was:
				t.Fatal("let in by a revoked token")
			case d.Verdict == auth.Allow:
				by[n][who] = tok
				delete(changed[n], who)
			case !cut && !perhaps[tok]:
				t.Fatalf("not let in: %s %v", d.Reason, d.Err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				n, p := which(t)
				who, tok := rapid.IntRange(0, 2).Draw(t, "who"), rapid.IntRange(0, 2).Draw(t, "token")
				told(t, n, p, who, tok, p.cut.Load(), revoked[tok], admits(p, who, tok))
			},
			"revoke": func(t *rapid.T) {
				_, p := which(t)
				tok := rapid.IntRange(0, 2).Draw(t, "token")
				perhaps[tok] = true
				if err := revokes(p, tok); err == nil {
					revoked[tok] = true
				} else if !p.cut.Load() {
					t.Fatal(err)
				}
			},
			"both at the same moment": func(t *rapid.T) {
				n, p := which(t)
				_, other := which(t)
				who, tok := rapid.IntRange(0, 2).Draw(t, "who"), rapid.IntRange(0, 2).Draw(t, "token")
				was := revoked[tok]
				perhaps[tok] = true
				var both sync.WaitGroup
				var d auth.Decision
				var err error
				both.Go(func() { d = admits(p, who, tok) })
				both.Go(func() { err = revokes(other, tok) })
				both.Wait()
				told(t, n, p, who, tok, p.cut.Load(), was, d)
				if d.Reason == auth.ReasonTokenRevoked && !was {
					changed[n][who] = true // see TestChangesToRevoked
				}
				revoked[tok] = was || err == nil
			},
			"leave": func(t *rapid.T) {
				n, p := which(t)
				who := rapid.IntRange(0, 2).Draw(t, "who")
				p.leaves(theRoom, somebody(who))
				delete(by[n], who)
			},
			"cut":    func(t *rapid.T) { _, p := which(t); p.cut.Store(true) },
			"mend":   func(t *rapid.T) { _, p := which(t); p.cut.Store(false) },
			"busy":   func(t *rapid.T) { _, p := which(t); p.busy.Store(!p.busy.Load()) },
			"freeze": func(t *rapid.T) { _, p := which(t); p.freeze() },
			"thaw":   func(t *rapid.T) { all[rapid.IntRange(0, 1).Draw(t, "process")].thaw() },
		})
		for _, p := range all {
			p.thaw()
			p.cut.Store(false)
			p.busy.Store(false)
		}
		if err := shared.Append(context.Background(), tick); err != nil {
			t.Fatal(err)
		}
		soon(t, "everybody with a revoked token is out", func() bool {
			for n, p := range all {
				for who, tok := range by[n] {
					if revoked[tok] && p.has(somebody(who)) {
						return false
					}
				}
			}
			return true
		}, all...)
		for n, p := range all {
			for who, tok := range by[n] {
				if !perhaps[tok] && !changed[n][who] && !p.has(somebody(who)) {
					t.Fatalf("%s is out, and the token is good", somebody(who))
				}
			}
			for _, g := range p.listed("") {
				if !p.has(g.Who) {
					t.Fatalf("%s is listed, and not inside", g.Who)
				}
			}
		}
	})
}

// A token is revoked by another process while its holder is let in, after the decision and after the grant: the holder is told so, and
// is out in the end.
func TestRevokedWhileLetIn(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(t, 1)
	shared := store.Memory(store.Options{})
	here, stop := newProcess(t, shared, nil)
	defer stop()
	there := store.Revocations{Store: shared}
	here.during = func() {
		if _, err := there.Put(context.Background(), auth.Revocation{User: "u0", At: time.Now()}); err != nil {
			t.Error(err)
		}
	}
	if d := here.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Deny || d.Reason != auth.ReasonTokenRevoked {
		t.Errorf("told %s %s", d.Verdict, d.Reason)
	}
	soon(t, "who was let in is out", func() bool { return !here.has(somebody(0)) && len(here.listed("")) == 0 }, here)
}

// A token is revoked while somebody shows it who is inside by another one that is good. They have changed over to the revoked one: they are
// told so, and are out in the end. With the good one they come in again.
func TestChangesToRevoked(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(t, 2)
	p, stop := newProcess(t, store.Memory(store.Options{}), nil)
	defer stop()
	if d := p.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Allow {
		t.Fatal(d.Reason, d.Err)
	}
	p.during = func() {
		if _, err := p.c.Revoke(context.Background(), auth.Revocation{JTI: "j1"}); err != nil {
			t.Error(err)
		}
	}
	if d := p.asks(somebody(0), tokens[1], "m"); d.Verdict != auth.Deny || d.Reason != auth.ReasonTokenRevoked {
		t.Errorf("told %s %s", d.Verdict, d.Reason)
	}
	soon(t, "they are out", func() bool { return !p.has(somebody(0)) && len(p.listed("")) == 0 }, p)
	p.during = nil
	if d := p.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Allow || !p.has(somebody(0)) {
		t.Errorf("told %s %s, and inside %t", d.Verdict, d.Reason, p.has(somebody(0)))
	}
}

// The store stops answering between the grant and the last look at what was taken back. Who is let in just then is told to ask again.
// Afterwards who is inside stays, unless the token was revoked meanwhile.
func TestStoreStopsWhileLetIn(t *testing.T) {
	t.Parallel()
	for name, revoke := range map[string]bool{"revoked": true, "not revoked": false} {
		t.Run(name, func(t *testing.T) {
			tokens := tokensOf(t, 1)
			shared := store.Memory(store.Options{})
			here, stop := newProcess(t, shared, func(p *auth.Policy) {
				i := &p.VHosts["meet.example.com"].Issuers[0]
				i.OnExpiry = auth.Remove
			})
			defer stop()
			if d := here.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Allow {
				t.Fatal(d.Reason, d.Err)
			}
			here.during = func() { here.cut.Store(true) }
			if d := here.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Deny || d.Reason != auth.ReasonStoreUnavailable {
				t.Errorf("told %s %s", d.Verdict, d.Reason)
			}
			if revoke {
				// Without an event: the look that failed is made up for.
				if _, err := (store.Revocations{Store: quiet{shared}}).Put(t.Context(), auth.Revocation{User: "u0", At: time.Now()}); err != nil {
					t.Fatal(err)
				}
			}
			here.cut.Store(false)
			g := here.c.ledger.of(theRoom, somebody(0))
			if revoke {
				soon(t, "who was let in is out", func() bool { return !here.has(somebody(0)) }, here)
				return
			}
			soon(t, "the look is made up for", func() bool { return here.c.ledger.endings.tells(g) }, here)
			if !here.has(somebody(0)) {
				t.Error("who was inside is out")
			}
		})
	}
}

// Somebody comes with a newer token while they are put out because the older one has ended: they are let in after that, and stay.
func TestRenewedWhilePutOut(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(t, 2)
	p, stop := newProcess(t, store.Memory(store.Options{}), func(p *auth.Policy) {
		p.VHosts["meet.example.com"].Issuers[0].OnExpiry = auth.Remove
	})
	defer stop()
	if d := p.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Allow {
		t.Fatal(d.Reason, d.Err)
	}
	again := make(chan auth.Decision, 1)
	turns := func() int {
		p.c.turns.mu.Lock()
		defer p.c.turns.mu.Unlock()
		if one := p.c.turns.all[turnOf(theRoom, somebody(0).Bare())]; one != nil {
			return one.n
		}
		return 0
	}
	old := p.c.ledger.of(theRoom, somebody(0))
	var once sync.Once
	p.mu.Lock()
	p.out = func() {
		once.Do(func() {
			go func() { again <- p.asks(somebody(0), tokens[1], "m") }()
			soon(t, "the newer request waits, or is done", func() bool { return turns() > 1 || !p.c.ledger.isLive(old) })
		})
	}
	p.mu.Unlock()
	p.c.ledger.endings.out(old, byExpiry)
	if d := <-again; d.Verdict != auth.Allow {
		t.Errorf("told %s %v", d.Reason, d.Err)
	}
	soon(t, "all is done", func() bool { return turns() == 0 && p.c.Stats().Events[EventPutOut] == 1 })
	if !p.has(somebody(0)) || len(p.listed("")) != 1 || p.listed("")[0].JTI != "j1" {
		t.Errorf("inside: %t, listed: %+v", p.has(somebody(0)), p.listed(""))
	}
}

// A kick that can never be written down, because the store is full or the room's record damaged, does not keep the next one waiting,
// nor the end of the room.
func TestKickAfterOneThatFails(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(t, 2)
	for name, fails := range map[string]func(*process){
		"full": func(p *process) { p.full.Store(true) },
		"damaged": func(p *process) {
			r := store.Record{Kind: store.KindBar, Key: theRoom.String(), Value: []byte("{"), End: time.Now().Add(time.Hour)}
			if err := p.Store.Put(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, stop := newProcess(t, store.Memory(store.Options{}), func(p *auth.Policy) { p.AfterKick = auth.AfterKick{Then: auth.KickBar} })
			defer stop()
			for n := range 2 {
				if d := p.asks(somebody(n), tokens[n], "m"); d.Verdict != auth.Allow {
					t.Fatal(d.Reason, d.Err)
				}
			}
			fails(p)
			p.c.kicked(theRoom, somebody(0).Bare(), false)
			soon(t, "the kick was tried", func() bool { return p.c.kicks.todoes() == 0 })
			p.c.roomEnded(theRoom)
			soon(t, "the room's end was noted", func() bool { return p.c.kicks.todoes() == 0 })
			p.full.Store(false)
			p.c.kicked(theRoom, somebody(1).Bare(), false)
			soon(t, "the next kick sticks", func() bool {
				_, barred, err := p.c.refusals.Barred(t.Context(), auth.Proof{Issuer: "my_app", ID: "j1"}, auth.Room{JID: theRoom})
				return barred && err == nil
			})
		})
	}
}

// todoes returns how much is still to do.
func (k *kicks) todoes() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.todo)
}

// A revocation is lifted before the server has put everybody out: who is still inside stays.
func TestLiftedBeforeOut(t *testing.T) {
	t.Parallel()
	p, stop := newProcess(t, store.Memory(store.Options{}), func(p *auth.Policy) {
		p.VHosts["meet.example.com"].Issuers[0].OnExpiry = auth.Remove
	})
	defer stop()
	if d := p.asks(somebody(0), tokensOf(t, 1)[0], "m"); d.Verdict != auth.Allow {
		t.Fatal(d.Reason, d.Err)
	}
	p.busy.Store(true)
	done, err := p.c.Revoke(t.Context(), auth.Revocation{Issuer: "my_app"})
	if err != nil || len(done.Out) != 1 {
		t.Fatal(done, err)
	}
	if err := p.c.Unrevoke(t.Context(), done.Revocation.ID); err != nil {
		t.Fatal(err)
	}
	p.busy.Store(false)
	g := p.c.ledger.of(theRoom, somebody(0))
	soon(t, "their end is expected again", func() bool { return g != nil && p.c.ledger.endings.tells(g) || !p.has(somebody(0)) }, p)
	if !p.has(somebody(0)) {
		t.Error("who was inside is out")
	}
}

// A full room says so to another machine with the token of somebody inside. The same machine may ask again, as its page was loaded
// anew; so may everybody where the earlier visit ends.
func TestFullForTheSameToken(t *testing.T) {
	t.Parallel()
	tok := tokensOf(t, 1)[0]
	for reuse, want := range map[auth.Reuse][2]auth.Reason{
		"":                {auth.ReasonRoomFull, auth.ReasonRoomUnavailable},
		auth.ReuseAllow:   {auth.ReasonRoomFull, auth.ReasonRoomUnavailable},
		auth.ReuseRefuse:  {auth.ReasonTokenUsed, auth.ReasonRoomUnavailable},
		auth.ReuseReplace: {auth.ReasonRoomUnavailable, auth.ReasonRoomUnavailable},
	} {
		for n, machine := range []string{"other", "same"} {
			p, stop := newProcess(t, store.Memory(store.Options{}), func(p *auth.Policy) {
				p.VHosts["meet.example.com"].Issuers[0].Reuse = reuse
				p.Rules = []auth.Rule{{Match: "*", MaxOccupants: 1}}
			})
			p.busy.Store(true)
			if d := p.asks(somebody(0), tok, "same"); d.Verdict != auth.Allow {
				t.Fatal(d.Reason, d.Err)
			}
			if d := p.asks(somebody(1), tok, machine); d.Reason != want[n] {
				t.Errorf("token_reuse %q, the %s machine: %s %v", reuse, machine, d.Reason, d.Err)
			}
			stop()
		}
	}
}

// An usher that is not the active one puts nobody out, and does when it is the active one again.
func TestPassivePutsNobodyOut(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(t, 1)
	p, stop := newProcess(t, store.Memory(store.Options{}), nil)
	defer stop()
	if d := p.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Allow {
		t.Fatal(d.Reason, d.Err)
	}
	p.passive.Store(true)
	if got, err := p.c.Revoke(t.Context(), auth.Revocation{JTI: "j0"}); err != nil || len(got.Out) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	// Its store would refuse the write; here it has not noticed in time.
	p.c.endOne(t.Context(), &ending{g: p.c.ledger.of(theRoom, somebody(0)), step: stepOut, why: byRevocation})
	if !p.has(somebody(0)) {
		t.Error("who is inside was put out")
	}
	p.passive.Store(false)
	soon(t, "who is inside is out", func() bool { return !p.has(somebody(0)) }, p)
}

// mute is a store that fails to pass events on.
type mute struct{ store.Store }

func (mute) Append(context.Context, store.Event) error { return errUnreachable }

// A revocation that is written down, and of which other ushers cannot be told, is told as that. Here people are put out.
func TestRevokeUntold(t *testing.T) {
	t.Parallel()
	tokens := tokensOf(t, 1)
	p, stop := newProcess(t, mute{store.Memory(store.Options{})}, nil)
	defer stop()
	if d := p.asks(somebody(0), tokens[0], "m"); d.Verdict != auth.Allow {
		t.Fatal(d.Reason, d.Err)
	}
	got, err := p.c.Revoke(t.Context(), auth.Revocation{JTI: "j0"})
	if !errors.Is(err, store.ErrUntold) || got.Revocation.ID == "" || len(got.Out) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	soon(t, "who was inside is out", func() bool { return !p.has(somebody(0)) }, p)
	if d := p.asks(somebody(0), tokens[0], "m"); d.Reason != auth.ReasonTokenRevoked {
		t.Errorf("told %s", d.Reason)
	}
}

// quiet is a store that passes no events on.
type quiet struct{ store.Store }

func (quiet) Append(context.Context, store.Event) error { return nil }

// tells reports whether the next that happens to a grant is that its person is told of its end.
func (e *endings) tells(g *live) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.of[g] != nil && e.of[g].step == stepTell
}
