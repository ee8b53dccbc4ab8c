package component_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// install is a server with a Jicofo, usher before it in a process of its own, and the folk.
type install struct {
	*prosodytest.Server
	usher  *process
	jicofo *prosodytest.Jicofo
	passes
	folk *prosodytest.Client

	mu      sync.Mutex
	n       int
	waiting map[string]chan arrival // by the address of who waits, and the id of an IQ or "join"
}

// passes are tokens for all rooms: of a host, and of a member.
type passes struct{ token, member string }

func newPasses(b *testing.B) passes {
	b.Helper()
	return passes{
		mint(b, func(c *token.Claims) { c.Room, c.Subject = "*", "*" }),
		mint(b, func(c *token.Claims) { c.Room, c.Subject, c.User.Affiliation = "*", "*", "member" }),
	}
}

// arrival is a stanza that arrived.
type arrival struct {
	prosodytest.Stanza
	at time.Time
}

// startInstall starts one with a store in memory, and members-only rooms.
func startInstall(b *testing.B) *install {
	b.Helper()
	o := benchJitsi
	o.Open = false
	return startInstallWith(b, o, benchmarked{Relay: true, Hold: 25 * time.Second}, func(s *prosodytest.Server) string { return s.ComponentAddr })
}

// startInstallWith starts one with that usher, which connects to an address of the server or of something before it.
func startInstallWith(b *testing.B, o prosodytest.JitsiOptions, f benchmarked, at func(*prosodytest.Server) string) *install {
	b.Helper()
	if _, err := prosodytest.CPUTime(os.Getpid()); err != nil {
		b.Skip(err)
	}
	s := o.Options()
	withFolk(&s)
	i := &install{Server: prosodytest.Start(b, s), waiting: make(map[string]chan arrival)}
	i.jicofo = i.Jicofo(b, o.Jicofo())
	i.usher = startFocus(b, f, at(i.Server))
	i.passes = newPasses(b)
	i.folk = i.Component(b, folk, componentSecret)
	go func() {
		for {
			s, err := i.folk.Next(context.Background())
			if err != nil {
				return // the end
			}
			i.arrives(arrival{s, time.Now()})
		}
	}()
	return i
}

// arrives hands a stanza to who waits for it, if anybody does.
func (i *install) arrives(a arrival) {
	what := a.Attr["id"]
	if a.Name == "presence" && (a.HasStatus("110") || a.Attr["type"] == "error") {
		what = "join"
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	key := a.Attr["to"] + " " + what
	if c := i.waiting[key]; c != nil {
		delete(i.waiting, key)
		c <- a
	}
}

// say sends a stanza as one of the folk, and returns what takes the answer.
func (i *install) say(who, what, xml string) (answer func(context.Context) (arrival, error)) {
	c := make(chan arrival, 1)
	i.mu.Lock()
	i.waiting[who+" "+what] = c
	i.mu.Unlock()
	err := i.folk.Send(xml)
	return func(ctx context.Context) (arrival, error) {
		if err != nil {
			return arrival{}, err
		}
		select {
		case a := <-c:
			return a, nil
		case <-ctx.Done():
			return arrival{}, fmt.Errorf("%s waits for %s: %w", who, what, ctx.Err())
		}
	}
}

// iq asks something as one of the folk.
func (i *install) iq(who, typ, to, payload string) (answer func(context.Context) (arrival, error)) {
	i.mu.Lock()
	i.n++
	id := fmt.Sprint(i.n)
	i.mu.Unlock()
	return i.say(who, id, fmt.Sprintf("<iq type='%s' id='%s' from='%s' to='%s'>%s</iq>", typ, id, who, to, payload))
}

// asks asks usher to enter, and returns the outcome, see there.
func (i *install) asks(ctx context.Context, who, room, token string) (string, time.Time, error) {
	a, err := i.iq(who, "set", domain, request(room, token, ""))(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	return outcome(a.Stanza), a.at, nil
}

// enters asks usher to enter, and joins. It returns when the presence set out.
func (i *install) enters(ctx context.Context, who, room, nick, token string) (time.Time, error) {
	got, _, err := i.asks(ctx, who, room, token)
	if err != nil || got != "ready" {
		return time.Time{}, fmt.Errorf("%s asks to enter %s: %s %w", who, room, got, err)
	}
	out := time.Now()
	own, err := i.say(who, "join", fmt.Sprintf("<presence from='%s' to='%s/%s'><x xmlns='http://jabber.org/protocol/muc'/></presence>", who, room, nick))(ctx)
	if err == nil && own.Attr["type"] == "error" {
		err = fmt.Errorf("%s joins %s: %s", who, room, own.ErrorCondition())
	}
	return out, err
}

func (i *install) leaves(who, room, nick string) error {
	return i.folk.Send(fmt.Sprintf("<presence type='unavailable' from='%s' to='%s/%s'/>", who, room, nick))
}

// waits has one of the folk be told to wait, and then ask until they are let in, as clients do but without a pause. held
// is called when usher holds a request of theirs.
func (i *install) waits(ctx context.Context, who, room string, held func()) (let time.Time, err error) {
	for n := 0; ; n++ {
		answer := i.iq(who, "set", domain, request(room, "", ""))
		if n == 1 {
			// usher takes up a sender's requests one after the other: it is done with that one when it answers the next.
			if _, err := i.iq(who, "get", domain, "<ping xmlns='urn:xmpp:ping'/>")(ctx); err != nil {
				return time.Time{}, err
			}
			held()
		}
		a, err := answer(ctx)
		if err != nil {
			return time.Time{}, err
		}
		switch got := outcome(a.Stanza); got {
		case "ready":
			return a.at, nil
		case "not-authorized host-absent":
		default:
			return time.Time{}, fmt.Errorf("%s waits for %s: %s", who, room, got)
		}
	}
}

// quantiles are p50 and p99, in milliseconds.
type quantiles [2]float64

func quantilesOf(took []time.Duration) (q quantiles) {
	slices.Sort(took)
	for n, part := range []float64{.5, .99} {
		q[n] = took[int(part*float64(len(took)-1))].Seconds() * 1000
	}
	return q
}

// middle is the median of each quantile, and not a quantile of all, for others have their turns on the machine, too.
func middle(all []quantiles) (q quantiles) {
	for n := range q {
		var of []float64
		for _, one := range all {
			of = append(of, one[n])
		}
		q[n] = median(of)
	}
	return q
}

func (q quantiles) report(b *testing.B, name string) {
	for n, part := range []string{"p50", "p99"} {
		b.ReportMetric(q[n], name+part+"-ms")
	}
}

// cpu is the CPU time that usher and Prosody have used so far.
func (i *install) cpu(b *testing.B) (c cost) {
	b.Helper()
	var uerr, perr error
	c.focus, uerr = prosodytest.CPUTime(i.usher.pid)
	c.prosody, perr = prosodytest.CPUTime(i.PID())
	if uerr != nil || perr != nil {
		b.Fatal(uerr, perr)
	}
	return c
}

// BenchmarkArrival measures how long it takes from when the host's presence for the room sets out until the guests who wait
// there are told ready='true': "N" for so many guests in one room, one room after the other, "1000x10" for ten guests in
// each of a thousand rooms, into which fifty hosts come each second. Setting up and tearing down are not part of it.
func BenchmarkArrival(b *testing.B) {
	i := startInstall(b)
	for _, scene := range []struct {
		name                  string
		rooms, guests, rounds int
	}{{"1", 1, 1, 200}, {"100", 1, 100, 20}, {"1000", 1, 1000, 4}, {"1000x10", 1000, 10, 1}} {
		b.Run(scene.name, func(b *testing.B) {
			b.ReportMetric(0, "ns/op") // of a round, which means nothing
			var took []time.Duration
			for range b.N {
				for range scene.rounds {
					took = append(took, i.arrival(b, scene.rooms, scene.guests)...)
				}
			}
			quantilesOf(took).report(b, "")
		})
	}
}

// arrival has guests wait in rooms, and then the hosts come.
func (i *install) arrival(b *testing.B, rooms, guests int) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	began := time.Now().UnixNano()
	let := make([][]time.Time, rooms)
	var waiting sync.WaitGroup
	waiting.Add(rooms * guests)
	g, ctx := errgroup.WithContext(ctx)
	room := func(r int) string { return fmt.Sprintf("arrival-%d-%d@%s", began, r, service) }
	name := func(r int, nick any) string { return fmt.Sprintf("%v-%d-%d@%s/x", nick, began, r, folk) }
	for r := range rooms {
		let[r] = make([]time.Time, guests)
		for n := range guests {
			g.Go(func() (err error) {
				held := sync.OnceFunc(waiting.Done)
				defer held()
				let[r][n], err = i.waits(ctx, name(r, n), room(r), held)
				return err
			})
		}
	}
	waiting.Wait()
	came := make([]time.Time, rooms)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for r := range rooms {
		if r > 0 {
			<-tick.C
		}
		g.Go(func() (err error) {
			came[r], err = i.enters(ctx, name(r, "host"), room(r), "host", i.token)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for r := range rooms {
		for n := range guests {
			took = append(took, let[r][n].Sub(came[r]))
		}
		if err := i.leaves(name(r, "host"), room(r), "host"); err != nil {
			b.Fatal(err)
		}
	}
	return took
}

// open has hosts open rooms and stay.
func (i *install) open(b *testing.B, prefix string, n int) (rooms []string) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var g errgroup.Group
	g.SetLimit(16)
	for r := range n {
		room := fmt.Sprintf("%s-%d@%s", prefix, r, service)
		rooms = append(rooms, room)
		g.Go(func() error {
			_, err := i.enters(ctx, fmt.Sprintf("host-%s-%d@%s/x", prefix, r, folk), room, "host", i.token)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return rooms
}

// paced has somebody new ask each time, so many times a second, for one room after the other, and returns how long the
// answers took. ask returns when the answer came.
func (i *install) paced(b *testing.B, rate int, d time.Duration, rooms []string, ask func(ctx context.Context, who, room string) (time.Time, error)) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), d+20*time.Second)
	defer cancel()
	began := time.Now()
	took := make([]time.Duration, int(d.Seconds()*float64(rate)))
	var g errgroup.Group
	for n := range took {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
		select {
		case <-time.After(time.Until(due)):
		case <-ctx.Done():
		}
		g.Go(func() error {
			asked := time.Now()
			at, err := ask(ctx, fmt.Sprintf("paced-%d-%d@%s/x", began.UnixNano(), n, folk), rooms[n%len(rooms)])
			took[n] = at.Sub(asked)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	return took
}

// guest asks usher for a room in which a host is.
func (i *install) guest(ctx context.Context, who, room string) (time.Time, error) {
	got, at, err := i.asks(ctx, who, room, "")
	if err == nil && got != "ready" {
		err = fmt.Errorf("%s asks to enter %s: %s", who, room, got)
	}
	return at, err
}

// BenchmarkRelay measures what usher adds to a request: guests who ask for one of twenty rooms that have a host, each guest
// once, two hundred a second, through usher and, as "direct", of Jicofo itself, in turns. "over" is the difference of each
// two turns. All are medians of the turns. "requests/s" is what 64 get through usher who ask again and
// again without a pause, and "ms/request" the CPU time that this takes.
func BenchmarkRelay(b *testing.B) {
	const askers, each = 64, 50
	i := startInstall(b)
	b.ReportMetric(0, "ns/op")
	rooms := i.open(b, "relay", 20)
	direct := func(ctx context.Context, who, room string) (time.Time, error) {
		a, err := i.iq(who, "set", i.jicofo.JID(), request(room, "", ""))(ctx)
		if err == nil && !strings.Contains(a.String(), "ready='true'") {
			err = fmt.Errorf("Jicofo says %s", a)
		}
		return a.at, err
	}
	var through, without, over []quantiles
	var flat cost
	for range b.N {
		for range 8 {
			w := quantilesOf(i.paced(b, 200, 1500*time.Millisecond, rooms, direct))
			t := quantilesOf(i.paced(b, 200, 1500*time.Millisecond, rooms, i.guest))
			through, without, over = append(through, t), append(without, w), append(over, quantiles{t[0] - w[0], t[1] - w[1]})
		}
		began, before := time.Now(), i.cpu(b)
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		var g errgroup.Group
		for a := range askers {
			g.Go(func() error {
				for k := range each {
					if _, err := i.guest(ctx, fmt.Sprintf("flat-%d-%d-%d@%s/x", began.UnixNano(), a, k, folk), rooms[(a+k)%len(rooms)]); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		cancel()
		after := i.cpu(b)
		flat.wall, flat.focus, flat.prosody = flat.wall+time.Since(began), flat.focus+after.focus-before.focus, flat.prosody+after.prosody-before.prosody
	}
	requests := float64(b.N * askers * each)
	b.ReportMetric(requests/flat.wall.Seconds(), "requests/s")
	b.ReportMetric(flat.focus.Seconds()*1000/requests, "usher-ms/request")
	b.ReportMetric(flat.prosody.Seconds()*1000/requests, "prosody-ms/request")
	middle(through).report(b, "usher-")
	middle(without).report(b, "direct-")
	middle(over).report(b, "over-")
}

// BenchmarkHeld measures what it takes to hold ten thousand requests, for ten rooms: bytes of usher's heap for each, and how
// long guests wait for the answer who ask for other rooms meanwhile, "busy", and before, "idle", a hundred a second.
func BenchmarkHeld(b *testing.B) {
	const rooms, guests = 10, 1000
	i := startInstall(b)
	b.ReportMetric(0, "ns/op")
	others := i.open(b, "other", 20)
	turns := func(name string) {
		var all []quantiles
		for range 5 {
			all = append(all, quantilesOf(i.paced(b, 100, 1500*time.Millisecond, others, i.guest)))
		}
		middle(all).report(b, name)
	}
	for range b.N {
		began := time.Now().UnixNano()
		turns("idle-")
		before := i.usher.heap(b)
		ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
		var waiting, done sync.WaitGroup
		waiting.Add(rooms * guests)
		for n := range rooms * guests {
			done.Go(func() {
				held := sync.OnceFunc(waiting.Done)
				defer held()
				_, err := i.waits(ctx, fmt.Sprintf("held-%d-%d@%s/x", began, n, folk), fmt.Sprintf("held-%d-%d@%s", began, n%rooms, service), held)
				if ctx.Err() == nil {
					b.Error(err)
				}
			})
		}
		waiting.Wait()
		b.ReportMetric(float64(i.usher.heap(b)-before)/rooms/guests, "B/held")
		turns("busy-")
		cancel()
		done.Wait()
	}
}
