//go:build linux

package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/redistest"
)

// asUsher, set to 1, makes the test binary the command that its arguments say.
const asUsher = "RUNS_AS_USHER"

// child is an usher in a process of its own.
type child struct {
	t     testing.TB
	name  string
	yaml  string
	ops   string // ops.listen; nobody is served there if it is empty
	cmd   *exec.Cmd
	log   *live
	ended chan struct{}
}

// starts starts the process.
func (c *child) starts() *child {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	if c.log != nil {
		silent(c.t, c.log.String()) // that of the process before
	}
	c.log, c.ended = newLive(), make(chan struct{})
	c.cmd = exec.Command(self, "serve", "-c", c.yaml)
	c.cmd.Env = append(os.Environ(), asUsher+"=1", opsListen+"="+cmp.Or(c.ops, "off"))
	c.cmd.Stderr = c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	cmd, ended := c.cmd, c.ended
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	return c
}

func (c *child) signal(s syscall.Signal) { _ = c.cmd.Process.Signal(s) }

// ends ends the process by a signal.
func (c *child) ends(s syscall.Signal) {
	c.t.Helper()
	c.signal(s)
	select {
	case <-c.ended:
	case <-time.After(time.Minute):
		c.t.Fatalf("%s does not end:\n%s", c.name, prosodytest.Tail(c.log.String()))
	}
	if s != syscall.SIGKILL && !c.cmd.ProcessState.Success() {
		c.t.Errorf("%s ended with %s:\n%s", c.name, c.cmd.ProcessState, prosodytest.Tail(c.log.String()))
	}
}

// has waits until the log has the text this many times.
func (c *child) has(text string, times int) {
	c.t.Helper()
	late := time.After(time.Minute)
	for strings.Count(c.log.String(), text) < times {
		select {
		case <-c.log.more:
		case <-late:
			c.t.Fatalf("the log of %s does not have %q %d times:\n%s", c.name, text, times, prosodytest.Tail(c.log.String()))
		}
	}
}

// lacks checks that the log has the text at most so many times.
func (c *child) lacks(text string, most int) {
	c.t.Helper()
	if n := strings.Count(c.log.String(), text); n > most {
		c.t.Errorf("the log of %s has %q %d times:\n%s", c.name, text, n, prosodytest.Tail(c.log.String()))
	}
}

// What the log says.
const (
	isActive  = "this usher is the active one"
	isConnect = "\tconnected\t"
	byLease   = "standing by: another usher is the active one"
)

// pair is a Prosody with two ushers, and people.
type pair struct {
	testing.TB
	ctx    context.Context
	server *prosodytest.Server
	redis  *redistest.Server  // nil if the ushers do not share one
	cable  *prosodytest.Cable // to the Redis
	ushers [2]*child
	token  string
}

// kickOld lets one usher take the place of the other.
func kickOld(prosody string) string {
	return strings.Replace(prosody, "  component_secret", "  component_conflict_resolve = \"kick_old\"\n  component_secret", 1)
}

// newPair starts a Prosody, and a Redis for stores that name {redis}. The stores are those of the two ushers.
func newPair(t testing.TB, stores ...string) *pair {
	t.Helper()
	shared := strings.HasPrefix(stores[0], "url: ")
	var changes []func(string) string
	if shared {
		changes = append(changes, kickOld)
	}
	p := &pair{TB: t, server: served(t, componentSecret, changes...), token: tokenOf(t, appSecret)}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	p.ctx = ctx
	if shared {
		p.redis = redistest.Start(t, redistest.Options{Config: "requirepass " + redisPassword})
		p.cable = prosodytest.NewCable(t, p.redis.Addr())
	}
	whole, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for n, store := range stores {
		if shared {
			const url = "redis://:" + redisPassword + "@"
			store = strings.NewReplacer("{redis}", url+p.redis.Addr(), "{cable}", url+p.cable.Addr()).Replace(store)
		}
		yaml := strings.Replace(string(whole), "  path: usher.db # in the temporary folder\n", "  "+store+"\n", 1)
		yaml = strings.Replace(yaml, "rooms:\n", "rooms:\n  wait_hold: 3s\n", 1)
		c := &child{t: t, name: fmt.Sprintf("usher %d", n+1), yaml: fmt.Sprintf("usher%d.yaml", n+1)}
		write(t, c.yaml, yaml)
		p.ushers[n] = c
	}
	t.Cleanup(func() {
		for _, c := range p.ushers {
			if c.cmd != nil {
				_ = c.cmd.Process.Kill()
				<-c.ended
			}
			if t.Failed() && c.log != nil {
				t.Logf("the log of %s:\n%s", c.name, prosodytest.Tail(c.log.String()))
			}
			if c.log != nil {
				silent(t, c.log.String())
			}
		}
	})
	return p
}

// shared is the store of ushers with one Redis.
const shared = "url: {redis}"

// standsBy starts both ushers; the second one stands by.
func (p *pair) standsBy(says string) (first, second *child) {
	p.Helper()
	first, second = p.ushers[0], p.ushers[1]
	first.starts().has(isConnect, 1)
	second.starts().has(says, 1)
	return first, second
}

// visitor is a person.
type visitor struct {
	*prosodytest.Client
	p *pair
}

func (p *pair) person(host string) *visitor {
	p.Helper()
	return &visitor{p.server.Client(p.TB, prosodytest.ClientOptions{Host: host}), p}
}

func (p *pair) host() *visitor  { return p.person(demoScene.tokens) }
func (p *pair) guest() *visitor { return p.person(demoScene.guests) }

// asks asks once. While no usher is connected, that is an error of the server.
func (v *visitor) asks(room, attr string) string {
	v.p.Helper()
	got, err := asks(v.p.ctx, v.Client, room, attr)
	if err != nil {
		v.p.Fatal(err)
	}
	return got
}

// gets asks every 50 ms until the answer is that. Kill -9 may have caught a request on its way, which nobody answers then.
func (v *visitor) gets(want, room, attr string) {
	v.p.Helper()
	ctx, cancel := context.WithCancel(v.p.ctx)
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	answers := make(chan string)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for last := ""; ; {
		wait.Go(func() {
			got, _ := asks(ctx, v.Client, room, attr)
			select {
			case answers <- got:
			case <-ctx.Done():
			}
		})
		for asked := false; !asked; {
			select {
			case last = <-answers:
				if last == want {
					return
				}
			case <-again.C:
				asked = true
			case <-ctx.Done():
				v.p.Fatalf("%s is never answered; %q at last", want, last)
			}
		}
	}
}

// enters asks until it is let in, and joins.
func (v *visitor) enters(room, attr string) {
	v.p.Helper()
	v.gets("ready", room, attr)
	if !v.joins(room) {
		v.p.Fatal("the room lets nobody in who was admitted")
	}
}

// joins joins without asking, and reports whether the room lets the person in.
func (v *visitor) joins(room string) bool {
	v.p.Helper()
	s, err := v.Join(v.p.ctx, room, v.nick())
	if err != nil {
		v.p.Fatal(err)
	}
	return s.Attr["type"] != "error"
}

func (v *visitor) nick() string { name, _, _ := strings.Cut(v.JID(), "@"); return "n" + name }

func (v *visitor) leaves(room string) {
	v.p.Helper()
	to := room + "/" + v.nick()
	v.Sends("<presence type='unavailable' to='" + to + "'/>")
	if _, err := v.Await(v.p.ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "presence" && s.Attr["from"] == to && s.Attr["type"] == "unavailable"
	}); err != nil {
		v.p.Fatal(err)
	}
}

// loses checks that the affiliation of somebody outside is taken back.
func (v *visitor) loses(room string) {
	v.p.Helper()
	for v.joins(room) {
		if v.p.ctx.Err() != nil {
			v.p.Fatal("the affiliation of somebody who has left is never taken back")
		}
		v.leaves(room)
	}
}

// stays checks that the person was not put out.
func (v *visitor) stays(room string) {
	v.p.Helper()
	if err := v.Sync(v.p.ctx); err != nil {
		v.p.Fatal(err)
	}
	for _, s := range v.Drain() {
		if s.Name == "presence" && s.Attr["from"] == room+"/"+v.nick() && s.Attr["type"] == "unavailable" {
			v.p.Errorf("put out: %s", s)
		}
	}
}

// waits asks so that the request is held.
func (v *visitor) waits(room string) {
	v.p.Helper()
	v.gets("host-absent", room, "")
	v.Sends(fmt.Sprintf("<iq type='set' id='held' to='%s'><conference xmlns='%s' room='%s' machine-uid='%s'/></iq>", demoScene.focus, nsFocus, room, machine))
	// usher takes a sender's requests one after the other, so it holds the first one when it answers the ping.
	if _, err := v.IQ(v.p.ctx, "get", demoScene.focus, "<ping xmlns='urn:xmpp:ping'/>"); err != nil {
		v.p.Fatal(err)
	}
}

// answered returns the reason with which the held request is answered.
func (v *visitor) answered() string {
	v.p.Helper()
	s, err := v.Await(v.p.ctx, func(s prosodytest.Stanza) bool { return s.Attr["id"] == "held" })
	if err != nil {
		v.p.Fatalf("the held request is not answered: %v", err)
	}
	return s.Find("reason", "urn:usher:0").Attr["code"]
}

const elsewhere = "elsewhere@conference.meet.example.com"

// TestStandbyTakesOver kills the active usher. The other one answers what was held, knows what was granted, and admits people.
func TestStandbyTakesOver(t *testing.T) {
	p := newPair(t, shared, shared)
	first, second := p.standsBy(byLease)
	room := demoScene.room()
	host, guest, waiting := p.host(), p.guest(), p.guest()
	host.enters(room, p.token)
	guest.enters(room, "")
	waiting.waits(elsewhere)
	session := p.session(host)
	first.ends(syscall.SIGKILL)
	killed := time.Now()
	late := p.host()
	late.gets("ready", room, p.token)
	t.Logf("the next one was let in %s after kill -9", time.Since(killed).Round(time.Millisecond))
	if got := waiting.answered(); got != "stopping" && got != "host-absent" {
		t.Errorf("the held request is answered with %q", got)
	}
	second.has(isConnect, 1)
	host.gets("ready", room, session)
	guest.leaves(room)
	guest.loses(room)
	host.stays(room)

	// The killed one comes back, and stands by.
	first.starts().has(byLease, 1)
	late.gets("ready", elsewhere, p.token)
	second.lacks(isConnect, 1)
	first.lacks(isConnect, 0)
}

// session returns the attribute session-id of a session of the person.
func (p *pair) session(v *visitor) string {
	p.Helper()
	answer, err := v.IQ(p.ctx, "set", demoScene.focus, fmt.Sprintf("<conference xmlns='%s' room='%s' machine-uid='%s' %s/>", nsFocus, demoScene.room(), machine, p.token))
	if err != nil {
		p.Fatal(err)
	}
	id := answer.Child("conference", nsFocus).Attr["session-id"]
	if id == "" {
		p.Fatalf("no session: %s", answer)
	}
	return "session-id='" + id + "'"
}

// TestShards runs an usher beside each of two servers with the same domains, as Jitsi's shards have them. Both are active, and a
// session counts at both. Neither takes the other's grants for its own.
func TestShards(t *testing.T) {
	p := newPair(t, shared+"\n  shard: one", shared+"\n  shard: two")
	one, two := p.ushers[0], p.ushers[1]
	there := &pair{TB: t, ctx: p.ctx, token: p.token, server: prosodytest.Start(t, prosodytest.Options{
		Config: kickOld(strings.ReplaceAll(demoProsody, "{component.secret}", componentSecret)),
	})}
	yaml, err := os.ReadFile(two.yaml)
	if err != nil {
		t.Fatal(err)
	}
	write(t, two.yaml, strings.Replace(string(yaml), p.server.ComponentAddr, there.server.ComponentAddr, 1))
	one.starts().has(isConnect, 1)
	two.starts().has(isConnect, 1)
	host := p.host()
	host.enters(demoScene.room(), p.token)
	there.host().gets("ready", demoScene.room(), p.session(host))
	for _, c := range []*child{two, one} {
		c.ends(syscall.SIGKILL)
		c.starts().has(isConnect, 1)
	}
	host.stays(demoScene.room())
	host.leaves(demoScene.room())
	host.loses(demoScene.room())
}

// TestFrozenUsher freezes the active usher and lets it go on: it notices that it is not the active one any more before it admits
// anybody, or disturbs the other one.
func TestFrozenUsher(t *testing.T) {
	p := newPair(t, shared, shared)
	first, second := p.standsBy(byLease)
	room := demoScene.room()
	host, guest, waiting := p.host(), p.guest(), p.guest()
	host.enters(room, p.token)
	waiting.waits(elsewhere)
	caught := p.host()
	first.signal(syscall.SIGSTOP)
	caught.Sends(fmt.Sprintf("<iq type='set' id='held' to='%s'><conference xmlns='%s' room='%s' machine-uid='m' %s/></iq>", demoScene.focus, nsFocus, room, p.token))
	second.has(isConnect, 1)
	guest.enters(room, "")
	waiting.answered()
	first.signal(syscall.SIGCONT)
	caught.answered() // by the other one, to which the frozen one has left what it read afterwards
	first.has("this usher is not the active one any more", 1)
	first.has(byLease, 1)
	for range 20 {
		if got := host.asks(room, p.token); got != "ready" {
			t.Errorf("asks for more, and gets %s", got)
		}
	}
	guest.stays(room)
	host.stays(room)
	first.lacks(isConnect, 1)
	second.lacks("no connection", 0)
	second.lacks(isConnect, 1)

	// And the other way round.
	second.signal(syscall.SIGSTOP)
	first.has(isConnect, 2)
	late := p.host()
	late.gets("ready", room, p.token)
	second.signal(syscall.SIGCONT)
	second.has("this usher is not the active one any more", 1)
	if got := late.asks(room, p.token); got != "ready" {
		t.Errorf("asks for more, and gets %s", got)
	}
	guest.stays(room)
}

// TestStandbyAfterStop stops the active usher in good order: the lease is given back, and the other one is active at once.
func TestStandbyAfterStop(t *testing.T) {
	p := newPair(t, shared, shared)
	first, second := p.standsBy(byLease)
	host, guest, waiting := p.host(), p.guest(), p.guest()
	room := demoScene.room()
	host.enters(room, p.token)
	guest.enters(room, "")
	for range 2 {
		waiting.waits(elsewhere)
		first.ends(syscall.SIGTERM)
		second.has(isActive, 1)
		if got := waiting.answered(); got != "stopping" && got != "host-absent" {
			t.Errorf("the held request is answered with %q", got)
		}
		host.gets("ready", room, p.token)
		first.starts().has(byLease, 1)
		first, second = second, first
	}
	host.stays(room)
	guest.stays(room)
	// One that stands by ends at once.
	second.ends(syscall.SIGTERM)
	second.lacks(isActive, 0)
}

// TestSharedStoreAway stops the Redis. Nobody new is let in, those inside stay, what was held is answered, and the active usher goes
// on when the Redis is back.
func TestSharedStoreAway(t *testing.T) {
	p := newPair(t, shared, shared)
	first, second := p.standsBy(byLease)
	room := demoScene.room()
	host, guest, waiting := p.host(), p.guest(), p.guest()
	host.enters(room, p.token)
	guest.enters(room, "")
	for round := range 2 {
		waiting.waits(elsewhere)
		p.redis.Kill()
		late := p.host()
		late.gets("not ready", room, p.token)
		if got := waiting.answered(); got != "host-absent" {
			t.Errorf("the held request is answered with %q", got)
		}
		if got := late.asks(room, p.token); got != "not ready" {
			t.Errorf("without a store somebody is told %s", got)
		}
		second.has("standing by: the shared store cannot be reached", round+1)
		p.redis.Restart()
		late.gets("ready", room, p.token)
		guest.stays(room)
		host.stays(room)
	}
	second.has(byLease, 3)
	first.lacks(isActive, 1)
	second.lacks(isActive, 0)
	first.lacks("no connection", 0)
}

// TestPartitionedUsher cuts the active usher off the Redis, and not the one that stands by. That takes over, and the first one does
// not take the connection back.
func TestPartitionedUsher(t *testing.T) {
	p := newPair(t, "url: {cable}", shared)
	first, second := p.standsBy(byLease)
	room := demoScene.room()
	host, guest := p.host(), p.guest()
	host.enters(room, p.token)
	p.cable.Cut()
	second.has(isConnect, 1)
	first.has("no connection", 1)
	guest.enters(room, "")
	p.cable.Mend()
	first.has("this usher is not the active one any more", 1)
	first.has(byLease, 1)
	host.gets("ready", room, p.token)
	host.stays(room)
	guest.stays(room)
	first.lacks(isConnect, 1)
	second.lacks("no connection", 0)
}

// TestStandbyByFile has two ushers with the file of one store: the second waits for its lock.
func TestStandbyByFile(t *testing.T) {
	p := newPair(t, "path: usher.db", "path: usher.db")
	first, second := p.standsBy("standing by until the other usher ends")
	room := demoScene.room()
	host, guest, waiting := p.host(), p.guest(), p.guest()
	host.enters(room, p.token)
	guest.enters(room, "")
	waiting.waits(elsewhere)
	first.ends(syscall.SIGKILL)
	second.has(isConnect, 1)
	if got := waiting.answered(); got != "stopping" {
		t.Errorf("the held request is answered with %q", got)
	}
	guest.leaves(room)
	guest.loses(room)
	host.stays(room)
	second.lacks("standing by", 1)
	first.starts().has("standing by until the other usher ends", 1)
	first.ends(syscall.SIGTERM)
}

// TestStandbyByServer has two ushers with stores of their own: the second waits until the server lets it connect, and says that it
// does not know what the first one has granted.
func TestStandbyByServer(t *testing.T) {
	p := newPair(t, "path: one.db", "path: two.db")
	first, second := p.standsBy("standing by: another component is connected by this name")
	second.has("are not in this one's store", 1)
	room := demoScene.room()
	host, guest := p.host(), p.guest()
	host.enters(room, p.token)
	guest.enters(room, "")
	first.ends(syscall.SIGKILL)
	second.has(isConnect, 1)
	p.host().enters(room, p.token)
	host.stays(room)
	guest.stays(room)
	second.lacks("standing by", 1)
}

// TestReloadWhileStandingBy changes the configuration of an usher that stands by. It counts when that becomes the active one.
func TestReloadWhileStandingBy(t *testing.T) {
	p := newPair(t, shared, shared)
	first, second := p.standsBy(byLease)
	const secret = "ffeeddccbbaa99887766554433221100"
	changed := tokenOf(t, secret)
	host := p.host()
	if got := host.asks(demoScene.room(), changed); got != "token-signature" {
		t.Fatalf("got %s", got)
	}
	edit(t, second.yaml, "app_secret_file: app.secret", "app_secret: "+secret)
	second.has("the new configuration is in force", 1)
	edit(t, second.yaml, "services: [conference.meet.example.com]", "services: [conference.meet.example.com, other.example.com]")
	second.signal(syscall.SIGHUP)
	second.has("the new configuration is in force", 2)
	first.ends(syscall.SIGKILL)
	host.gets("ready", demoScene.room(), changed)
}

// BenchmarkTakeover measures for how long nobody is let in after kill -9 of the active usher.
func BenchmarkTakeover(b *testing.B) {
	p := newPair(b, shared, shared)
	first, second := p.standsBy(byLease)
	host := p.host()
	var all []time.Duration
	for range b.N {
		host.gets("ready", demoScene.room(), p.token)
		first.ends(syscall.SIGKILL)
		killed := time.Now()
		host.gets("ready", demoScene.room(), p.token)
		all = append(all, time.Since(killed))
		b.StopTimer()
		first.starts().has(byLease, 1)
		first, second = second, first
		b.StartTimer()
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Milliseconds()), "ms-median")
	b.ReportMetric(float64(all[len(all)-1].Milliseconds()), "ms-most")
	b.ReportMetric(0, "ns/op")
}
