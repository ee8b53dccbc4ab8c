package component_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	prosodygate "github.com/xmpp-usher/usher/config/gate"
	usherModule "github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/collect"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

const (
	roomsAtOnce = 12
	// joinsPerTurn is a multiple of what twelve rooms of 5 or 10 take.
	joinsPerTurn = 240
)

// occasion is what people come to. Everybody has a token: the first of each room is an owner, and the others are members.
type occasion struct {
	relay  bool // before a Jicofo; otherwise usher is the focus itself
	people int  // in each room
	rs256  bool // the tokens are signed by RS256; otherwise by HS256
}

func (s occasion) String() string {
	name, algorithm := "standalone", "HS256"
	if s.relay {
		name = "relay"
	}
	if s.rs256 {
		algorithm = "RS256"
	}
	return fmt.Sprintf("%s, rooms of %d, %s", name, s.people, algorithm)
}

// BenchmarkJoins measures what the gate costs: joins per second, and CPU time per join of Prosody and of usher.
//
// A join is what one person does to be in a conference, once: connect over TCP and log in anonymously, ask the focus with the token, be
// told ready='true', join, see the own presence, and in the end leave by closing the stream in good order. People come to a room one
// after the other and leave it so; twelve rooms at once. Minting the tokens is not part of it, nor is what the clients do with the presence
// of others once it has arrived.
//
// The same people come with the same requests to two servers:
//
//   - "floor" checks nothing. Without a Jicofo its focus says ready='true' to everybody, and its MUC lets everybody create and enter
//     rooms. With one it is Jitsi's stock server: client_proxy (the stand-in of package prosodytest) passes requests on to Jicofo, and rooms
//     are open.
//   - "usher" is usher beside a server as the README describes it, with usher's module ("enforcement: module"). Before a Jicofo its store is a
//     file, otherwise in memory.
//
// All else in Prosody's configuration is the same. Both keep what they know of rooms in memory, as Jitsi's own configuration does:
// otherwise Prosody touches three files for each change of an affiliation.
//
// Both servers run all the time and take turns, in an order that changes with every round, so that both meet the same noise. Usher, and the
// focus of the floor, are processes of their own; the clients and Jicofo are this one. A part of a turn is over when focus and Jicofo have
// answered pings sent after the last person was done, and so have done what they do when people come and leave.
//
// "whole" is all of that, and what the ratio of the table is about; "connect", "enter" (the request and the join of people who are
// connected already) and "leave" are its parts. Rates and ratios are medians of the rounds, a ratio being that of the two turns of one
// round; CPU times are means. They come from /proc, so Linux is needed.
func BenchmarkJoins(b *testing.B) {
	for _, s := range []struct {
		occasion
		ratio, cpu float64 // which the table must show
	}{
		{occasion{relay: true, people: 5}, .90, .30},
		{occasion{relay: true, people: 20}, .97, 0},
		{occasion{relay: true, people: 5, rs256: true}, .90, 0},
		{occasion{relay: true, people: 20, rs256: true}, .97, 0},
		{occasion{people: 5}, .92, .20},
	} {
		b.Run(s.String(), func(b *testing.B) {
			floor, usher := s.start(b)
			turns := []*venue{floor, usher}
			play := func(round int) {
				for _, v := range turns {
					if err := v.fill(b, round); err != nil {
						b.Fatalf("%s: %v", v.name, err)
					}
				}
				slices.Reverse(turns)
			}
			play(0) // finds both servers cold
			floor.turns, usher.turns = nil, nil
			for round := 1; b.Loop(); round++ {
				play(round)
			}
			ratio, cpu := report(b, floor, usher)
			row(b, "joins/s of the floor, "+s.String(), ratio, "", atLeast, s.ratio)
			if s.cpu > 0 {
				row(b, "usher's CPU a join, "+s.String(), cpu, "ms", atMost, s.cpu)
			}
		})
	}
}

// BenchmarkAlone measures how long one person takes who comes while nobody else does, before a Jicofo: forty people a second, each the
// first in a room. "inside" is with rooms that Jicofo is in, as it is for a while after somebody else has asked; this is what the table is
// about, as nearly all of the rest is what Jicofo takes to enter a room. "new" is with rooms that it has to enter first. The servers, their
// turns and what a join is are those of BenchmarkJoins.
func BenchmarkAlone(b *testing.B) {
	floor, usher := occasion{relay: true, people: 1}.start(b)
	both := []*venue{floor, usher}
	for name, inAlready := range map[string]bool{"new": false, "inside": true} {
		b.Run(name, func(b *testing.B) {
			requests, wholes := map[*venue][]quantiles{}, map[*venue][]quantiles{}
			play := func(round int) {
				for _, v := range both {
					request, whole, err := v.paced(b, fmt.Sprintf("alone-%s-%d", name, round), inAlready)
					if err != nil {
						b.Fatalf("%s: %v", v.name, err)
					}
					requests[v], wholes[v] = append(requests[v], quantilesOf(request)), append(wholes[v], quantilesOf(whole))
				}
				slices.Reverse(both)
			}
			play(0) // finds both servers cold
			clear(requests)
			clear(wholes)
			for round := 1; b.Loop(); round++ {
				play(round)
			}
			b.ReportMetric(0, "ns/op")
			for _, v := range []*venue{floor, usher} {
				request, join := middle(requests[v]), middle(wholes[v])
				request.report(b, v.name+"-request-")
				join.report(b, v.name+"-join-")
				b.Logf("Prosody %s, %s: request p50 %.2f ms, p99 %.2f ms; whole join p50 %.2f ms, p99 %.2f ms", v.Version(), v.name, request[0], request[1], join[0], join[1])
				if v == usher && inAlready {
					row(b, "conference IQ of one person alone, p50", request[0], "ms", atMost, 1.5)
					row(b, "conference IQ of one person alone, p99", request[1], "ms", atMost, 4)
					row(b, "whole join of one person alone, p50", join[0], "ms", atMost, 6)
				}
			}
		})
	}
}

// paced has people come for a turn, forty a second and each to a room of their own, and returns how long their requests and their joins
// took. inAlready has Jicofo enter the rooms before.
func (v *venue) paced(b *testing.B, prefix string, inAlready bool) (requests, wholes []time.Duration, err error) {
	const people, every = 100, 25 * time.Millisecond
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	requests, wholes = make([]time.Duration, people), make([]time.Duration, people)
	visitors := make([]*visitor, people)
	name := func(n int) string { return fmt.Sprintf("%s-%d", prefix, n) }
	for n := range visitors {
		visitors[n] = &visitor{token: v.token(b, name(n), 0)}
		if !inAlready {
			continue
		}
		if _, err := v.control.IQ(ctx, "set", v.jicofo.JID(), request(name(n)+"@"+service, "", "")); err != nil {
			return nil, nil, err
		}
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var g errgroup.Group
	for n, who := range visitors {
		<-tick.C
		g.Go(func() (err error) {
			requests[n], wholes[n], err = who.comes(ctx, v, name(n)+"@"+service)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, nil, err
	}
	return requests, wholes, v.done(ctx, true)
}

// comes is a whole join.
func (who *visitor) comes(ctx context.Context, v *venue, room string) (request, whole time.Duration, err error) {
	began := time.Now()
	if err := who.connects(ctx, v); err != nil {
		return 0, 0, err
	}
	asked := time.Now()
	if err := who.asks(ctx, room); err != nil {
		return 0, 0, err
	}
	request = time.Since(asked)
	err = errors.Join(who.joins(ctx, room, "nick"), who.Close())
	return request, time.Since(began), err
}

// start starts the two servers.
func (s occasion) start(b *testing.B) (floor, usher *venue) {
	if _, err := prosodytest.CPUTime(os.Getpid()); err != nil {
		b.Skip(err)
	}
	focus := benchmarked{Relay: s.relay, Module: true, RS256: s.rs256}
	if !s.relay {
		server := gateServer
		server.Module = true
		guarded := strings.Replace(server.Lua(), "  muc_room_locking", "  storage = \"memory\"\n  muc_room_locking", 1)
		open := strings.NewReplacer(
			"restrict_room_creation = true", "restrict_room_creation = false", `modules_enabled = { "usher" }`, "modules_enabled = { }",
		).Replace(guarded)
		floor = startVenue(b, venue{name: "floor", occasion: s}, prosodytest.Options{Config: open}, nil, &benchmarked{Floor: true})
		guarded = "plugin_paths = " + prosodygate.List(moduleFolder(b)) + "\n" + guarded
		return floor, startVenue(b, venue{name: "usher", occasion: s}, prosodytest.Options{Config: guarded}, nil, &focus)
	}
	stock := benchJitsi
	stock.ClientProxy = true
	jicofo := stock.Jicofo()
	floor = startVenue(b, venue{name: "floor", occasion: s}, stock.Options(), &jicofo, nil)
	focus.Store = filepath.Join(b.TempDir(), "usher.db")
	return floor, startVenue(b, venue{name: "usher", occasion: s}, withModule(b, benchJitsi).Options(), &jicofo, &focus)
}

// benchJitsi is a server as it is under a Jitsi Meet, with open rooms; "nagle" is as the README recommends.
var benchJitsi = prosodytest.JitsiOptions{
	Secret: componentSecret, Open: true, Auth: "jitsi-anonymous", GuestAuth: "jitsi-anonymous", Global: "network_settings = { nagle = false }",
}

// withModule adds usher's module to a server with open rooms.
func withModule(b *testing.B, o prosodytest.JitsiOptions) prosodytest.JitsiOptions {
	b.Helper()
	o.PluginPaths, o.Modules, o.Conference = []string{moduleFolder(b)}, []string{usherModule.Name}, prosodygate.TellsTo(domain).Line()
	return o
}

// moduleFolder is a folder with usher's module.
func moduleFolder(b *testing.B) (folder string) {
	b.Helper()
	folder = b.TempDir()
	if _, err := usherModule.Write(folder); err != nil {
		b.Fatal(err)
	}
	return folder
}

// limit is the side on which a figure must be of its target.
type limit string

const (
	atLeast limit = "≥"
	atMost  limit = "≤"
)

// row prints a row of the table that "make bench" shows.
func row(t testing.TB, figure string, measured float64, unit string, side limit, target float64) {
	t.Helper()
	verdict := "ok"
	if side == atLeast && measured < target || side == atMost && measured > target {
		verdict = "short"
	}
	t.Logf("\n| %-70s | %9.2f %-5s | %-12s | %s", figure, measured, unit, fmt.Sprintf("%s %g %s", side, target, unit), verdict)
}

// report prints the figures, as a table for people and as metrics for programs, and returns the two that are in the table of the README.
func report(b *testing.B, floor, usher *venue) (ratio, perJoin float64) {
	b.ReportMetric(0, "ns/op") // of a round, which means nothing
	var table strings.Builder
	fmt.Fprintf(&table, "Prosody %s, %d rounds of %d joins\n", usher.Version(), len(usher.turns), joinsPerTurn)
	fmt.Fprintf(&table, "%17s%16s%24s%20s\n", "joins/s", "", "Prosody ms/join", "focus ms/join")
	fmt.Fprintf(&table, "%-8s%8s%8s%8s%12s%8s%12s%8s\n", "", "floor", "usher", "ratio", "floor", "usher", "floor", "usher")
	for _, part := range []struct {
		name   string
		of     func(turn) cost
		metric bool
	}{
		{"whole", turn.whole, true},
		{"connect", func(t turn) cost { return t.connect }, false},
		{"enter", func(t turn) cost { return t.enter }, true},
		{"leave", func(t turn) cost { return t.leave }, false},
	} {
		f, u, ratios := floor.rates(part.of), usher.rates(part.of), []float64{}
		for i := range f {
			ratios = append(ratios, u[i]/f[i])
		}
		fp, ff := floor.cpu(part.of)
		up, uf := usher.cpu(part.of)
		fmt.Fprintf(&table, "%-8s%8.0f%8.0f%8.2f%12.2f%8.2f%12.3f%8.3f\n",
			part.name, median(f), median(u), median(ratios), fp, up, ff, uf)
		if part.name == "whole" {
			ratio, perJoin = median(ratios), uf
		}
		if part.metric {
			b.ReportMetric(median(f), part.name+"-floor-joins/s")
			b.ReportMetric(median(u), part.name+"-usher-joins/s")
			b.ReportMetric(median(ratios), part.name+"-ratio")
			b.ReportMetric(fp, part.name+"-floor-prosody-ms/join")
			b.ReportMetric(up, part.name+"-usher-prosody-ms/join")
			b.ReportMetric(uf, part.name+"-usher-ms/join")
		}
	}
	b.Log(strings.TrimSuffix(table.String(), "\n"))
	return ratio, perJoin
}

// venue is a server with a focus beside it.
type venue struct {
	name string
	occasion
	*prosodytest.Server
	focus   *process            // nil for Prosody's own
	jicofo  *prosodytest.Jicofo // nil without one
	control *prosodytest.Client
	turns   []turn
}

// turn is what one turn of a venue cost.
type turn struct{ connect, enter, leave cost }

// cost is of a whole turn, whatever the number of joins.
type cost struct{ wall, prosody, focus time.Duration }

func (t turn) whole() cost {
	sum := t.connect
	for _, c := range []cost{t.enter, t.leave} {
		sum.wall, sum.prosody, sum.focus = sum.wall+c.wall, sum.prosody+c.prosody, sum.focus+c.focus
	}
	return sum
}

// rates returns the joins per second of each turn.
func (v *venue) rates(of func(turn) cost) []float64 {
	var rates []float64
	for _, t := range v.turns {
		rates = append(rates, float64(joinsPerTurn)/of(t).wall.Seconds())
	}
	return rates
}

// cpu returns the milliseconds of CPU time per join, mean of all turns.
func (v *venue) cpu(of func(turn) cost) (prosody, focus float64) {
	var sum cost
	for _, t := range v.turns {
		sum.prosody, sum.focus = sum.prosody+of(t).prosody, sum.focus+of(t).focus
	}
	joins := float64(len(v.turns) * joinsPerTurn)
	return sum.prosody.Seconds() * 1000 / joins, sum.focus.Seconds() * 1000 / joins
}

func median(of []float64) float64 {
	x := slices.Sorted(slices.Values(of))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}

// startVenue starts a venue, with a Jicofo and a focus if they are not nil.
func startVenue(b *testing.B, v venue, server prosodytest.Options, jicofo *prosodytest.JicofoOptions, focus *benchmarked) *venue {
	b.Helper()
	server.LogLevel = "error"
	v.Server = prosodytest.Start(b, server)
	if jicofo != nil {
		v.jicofo = v.Jicofo(b, *jicofo)
	}
	if focus != nil {
		v.focus = startFocus(b, *focus, v.ComponentAddr)
	}
	v.control = v.Client(b, prosodytest.ClientOptions{Host: "meet.example.com"})
	return &v
}

// visitor is one person on the way into a room and out again.
type visitor struct {
	*prosodytest.Client
	token string
}

// token makes one for a person of a room, the first of which is an owner.
func (s occasion) token(b *testing.B, room string, n int) string {
	b.Helper()
	change := func(c *token.Claims) {
		c.Room, c.ID, c.User.ID, c.User.Affiliation = room, fmt.Sprintf("%s-%d", room, n), fmt.Sprintf("%s-%d", room, n), "member"
		if n == 0 {
			c.User.Affiliation = "owner"
		}
	}
	if !s.rs256 {
		return mint(b, change)
	}
	return mintRS256(b, change)
}

// fill lets people into each room of a turn and out again, and records what that cost.
func (v *venue) fill(b *testing.B, round int) error {
	rooms := make(map[string][]*visitor)
	for i := range joinsPerTurn / v.people {
		name := fmt.Sprintf("room-%d-%d", round, i)
		for n := range v.people {
			rooms[name+"@"+service] = append(rooms[name+"@"+service], &visitor{token: v.token(b, name, n)})
		}
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var t turn
	var err error
	for _, phase := range []struct {
		cost *cost
		left bool // there is nobody in any room after it
		do   func(who *visitor, room, nick string) error
	}{
		{&t.connect, false, func(who *visitor, room, nick string) error { return who.connects(ctx, v) }},
		{&t.enter, false, func(who *visitor, room, nick string) error { return who.enters(ctx, room, nick) }},
		{&t.leave, true, func(who *visitor, room, nick string) error { return who.Close() }},
	} {
		if *phase.cost, err = v.measure(ctx, rooms, phase.left, phase.do); err != nil {
			return err
		}
	}
	v.turns = append(v.turns, t)
	return nil
}

func (who *visitor) connects(ctx context.Context, v *venue) (err error) {
	who.Client, err = v.Dial(ctx, prosodytest.ClientOptions{Host: "meet.example.com"})
	return err
}

// enters asks the focus and joins.
func (who *visitor) enters(ctx context.Context, room, nick string) error {
	if err := who.asks(ctx, room); err != nil {
		return err
	}
	return who.joins(ctx, room, nick)
}

// asks asks the focus.
func (who *visitor) asks(ctx context.Context, room string) error {
	answer, err := who.IQ(ctx, "set", domain, request(room, who.token, ""))
	if err != nil {
		return err
	}
	if got := outcome(answer); got != "ready" {
		return fmt.Errorf("%s asks to enter %s: %s", who.JID(), room, got)
	}
	return nil
}

func (who *visitor) joins(ctx context.Context, room, nick string) error {
	own, err := who.Join(ctx, room, nick)
	if err == nil && own.Attr["type"] == "error" {
		err = fmt.Errorf("%s joins %s: %s", who.JID(), room, own.ErrorCondition())
	}
	return err
}

// done waits until focus and Jicofo have done what they do about all that has happened, and, if everybody has left, until Jicofo has, too.
func (v *venue) done(ctx context.Context, left bool) error {
	if _, err := v.control.IQ(ctx, "get", domain, "<ping xmlns='urn:xmpp:ping'/>"); err != nil || v.jicofo == nil {
		return err
	}
	if _, err := v.control.IQ(ctx, "get", v.jicofo.JID(), "<ping xmlns='urn:xmpp:ping'/>"); err != nil || !left {
		return err
	}
	return v.jicofo.Await(ctx, func(_ []prosodytest.JicofoRequest, rooms []string) bool { return len(rooms) == 0 })
}

// used is the CPU time that Prosody and the focus have used so far.
func (v *venue) used() (c cost, err error) {
	if c.prosody, err = prosodytest.CPUTime(v.PID()); err == nil && v.focus != nil {
		c.focus, err = prosodytest.CPUTime(v.focus.pid)
	}
	return c, err
}

// measure has everybody do something: one after the other in each room, in several rooms at once.
func (v *venue) measure(ctx context.Context, rooms map[string][]*visitor, left bool, do func(who *visitor, room, nick string) error) (cost, error) {
	began := time.Now()
	before, err := v.used()
	if err != nil {
		return cost{}, err
	}
	var g errgroup.Group
	g.SetLimit(roomsAtOnce)
	for room, people := range rooms {
		g.Go(func() error {
			for i, who := range people {
				if err := do(who, room, fmt.Sprintf("nick%d", i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return cost{}, err
	}
	if err := v.done(ctx, left); err != nil {
		return cost{}, err
	}
	wall := time.Since(began)
	after, err := v.used()
	return cost{wall, after.prosody - before.prosody, after.focus - before.focus}, err
}

// A focus runs in a process of its own, so that its CPU time is not that of the clients: this program once more, told
// so by the environment. It says that it is connected by a line on its standard output, and ends when its standard
// input does. To each line there it answers with the size of its heap in bytes, garbage left out.
const (
	envFocus   = "USHER_BENCH_FOCUS"   // a benchmarked, in JSON
	envServer  = "USHER_BENCH_SERVER"  // host:port of the server's component port
	envProfile = "USHER_BENCH_PROFILE" // a file for usher's CPU profile, if wanted; one of its heap has .heap at the end. A later usher overwrites both
)

// benchmarked is which focus such a process is.
type benchmarked struct {
	Floor  bool          // it lets everybody in; otherwise it is usher
	Relay  bool          // before a Jicofo
	Module bool          // the server has usher's module
	RS256  bool          // tokens are signed so
	Store  string        // a file; empty for a store in memory
	Hold   time.Duration // zero means waitHold, which lasts
}

func init() {
	var f benchmarked
	if which := os.Getenv(envFocus); which == "" {
		return
	} else if err := json.Unmarshal([]byte(which), &f); err != nil {
		panic(err)
	}
	run := f.run
	if f.Floor {
		run = runFloor
	}
	collect.Pace() // as "usher serve" does
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			profileHeap()
			fmt.Println(m.HeapAlloc)
		}
	}()
	if err := run(ctx, os.Getenv(envServer)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// profileHeap writes a profile of the heap, if wanted.
func profileHeap() {
	name := os.Getenv(envProfile)
	if name == "" {
		return
	}
	profile, err := os.Create(name + ".heap")
	if err == nil {
		err = errors.Join(pprof.WriteHeapProfile(profile), profile.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// process is a focus that runs.
type process struct {
	pid int
	in  io.Writer
	out *bufio.Reader
}

// heap is the size of its heap in bytes, garbage left out.
func (p *process) heap(b *testing.B) int {
	b.Helper()
	_, err := fmt.Fprintln(p.in)
	if err != nil {
		b.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

// startFocus runs a focus until the benchmark ends, and returns it once it is connected.
func startFocus(b *testing.B, f benchmarked, server string) *process {
	b.Helper()
	p, end := runFocus(b, f, server)
	b.Cleanup(func() {
		if err := end(); err != nil {
			b.Errorf("focus %+v: %v", f, err)
		}
	})
	return p
}

// runFocus runs a focus, and returns it once it is connected. end ends it in good order, if it has not ended.
func runFocus(b *testing.B, f benchmarked, server string) (_ *process, end func() error) {
	b.Helper()
	which, err := json.Marshal(f)
	if err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envFocus+"="+string(which), envServer+"="+server)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	p := &process{cmd.Process.Pid, in, bufio.NewReader(out)}
	if _, err := p.out.ReadString('\n'); err != nil {
		b.Fatalf("focus %+v: %v", f, err)
	}
	return p, func() error { in.Close(); return cmd.Wait() }
}

// runFloor is the focus that lets everybody in.
func runFloor(ctx context.Context, server string) error {
	c, err := (&prosodytest.Server{ComponentAddr: server}).DialComponent(ctx, domain, componentSecret)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println("connected")
	for {
		s, err := c.Next(ctx)
		if err != nil {
			return nil // the end
		}
		payload := ""
		if conference := s.Child("conference", ""); !conference.IsZero() {
			payload = "<conference xmlns='http://jitsi.org/protocol/focus' ready='true' room='" + conference.Attr["room"] + "'/>"
		}
		if err := c.Send(fmt.Sprintf("<iq type='result' id='%s' from='%s' to='%s'>%s</iq>", s.Attr["id"], domain, s.Attr["from"], payload)); err != nil {
			return err
		}
	}
}

// run is usher as operators run it, with a log of every request.
func (f benchmarked) run(ctx context.Context, server string) error {
	kept := store.Memory(store.Options{})
	if f.Store != "" {
		var err error
		if kept, err = store.Open(f.Store, store.Options{}); err != nil {
			return err
		}
	}
	defer kept.Close()
	p := policy(folkPolicy, func(p *auth.Policy) {
		p.Sessions, p.Refusals = store.Sessions{Store: kept}, store.Refusals{Store: kept, Now: time.Now}
	})
	if f.RS256 {
		source, err := keys.PEMFiles(rsaKey + ".pem")
		if err != nil {
			return err
		}
		issuer := &p.VHosts["meet.example.com"].Issuers[0]
		issuer.Algorithms, issuer.Keys = []jwa.SignatureAlgorithm{jwa.RS256}, source
	}
	o := options(server, p, nil)
	o.Store, o.Outlives, o.MembersOnly, o.WaitHold = kept, f.Store != "", !f.Module, cmp.Or(f.Hold, waitHold)
	if !f.Relay {
		return runWith(ctx, "connected", o)
	}
	o.Jicofo, o.GuardInterval = jid.MustParse(jicofoJID), 5*time.Second
	return runWith(ctx, "Jicofo is online", o)
}

// rsaKey is a key pair, without the ends of the names of its files.
const rsaKey = "../testdata/keys/rsa2048"

// mintRS256 is mint with that key.
func mintRS256(b *testing.B, change func(*token.Claims)) string {
	b.Helper()
	pem, err := os.ReadFile(rsaKey + ".key")
	if err != nil {
		b.Fatal(err)
	}
	key, _, err := keys.ParsePrivate(pem)
	if err != nil {
		b.Fatal(err)
	}
	c := claims()
	change(&c)
	compact, err := token.Mint(c, token.MintOptions{Algorithm: jwa.RS256, Key: key})
	if err != nil {
		b.Fatal(err)
	}
	return compact
}

// runWith runs usher with these options, and says that it is ready when it logs so.
func runWith(ctx context.Context, ready string, o component.Options) error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	connected := func(e zapcore.Entry) error {
		if e.Message == ready {
			fmt.Println(e.Message)
		}
		return nil
	}
	encoder := zapcore.NewConsoleEncoder(zap.NewProductionEncoderConfig())
	o.Log = zap.New(zapcore.NewCore(encoder, null, zap.InfoLevel), zap.Hooks(connected))
	c, err := component.New(o)
	if err != nil {
		return err
	}
	if name := os.Getenv(envProfile); name != "" {
		profile, err := os.Create(name)
		if err != nil {
			return err
		}
		defer profile.Close()
		if err := pprof.StartCPUProfile(profile); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return c.Run(ctx)
}
