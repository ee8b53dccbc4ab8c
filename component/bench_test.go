package component_test

import (
	"bufio"
	"cmp"
	"context"
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

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

const (
	roomsAtOnce = 12
	roomsATurn  = 24
	// joinsPerTurn is a multiple of what twelve rooms take, and long enough for a clock of hundredths of a second.
	joinsPerTurn = roomsATurn * len(crowd)
)

// crowd is who comes into each room, by the affiliation in their tokens, in this order; guests have no token.
var crowd = [...]string{"owner", "member", "member", "member", "member", "", "", "", "", ""}

// BenchmarkJoins measures what the gate costs: joins per second, and CPU time per join of Prosody and of the focus.
//
// A join is what one person does to be in a conference, once: connect over TCP and log in anonymously, ask the focus
// with the token (guests: without), be told ready='true', join, see the own presence, and in the end leave by closing
// the stream in good order. People come to a room of ten one after the other and leave it so; twelve rooms at once.
// Minting the tokens is not part of it, nor is what the clients do with the presence of others once it has arrived.
//
// The same people come with the same requests to two servers:
//
//   - "floor" has a focus that says ready='true' to everybody and does nothing else. Its MUC lets everybody create and
//     enter rooms, since nobody gives affiliations there. The focus is in no room: one that creates rooms and stays in
//     them, as Jicofo does, would make the floor slower and usher look better.
//   - "usher" is usher beside a server as the README describes it.
//
// All else in Prosody's configuration is the same. Both keep what they know of rooms in memory, as Jitsi's own
// configuration does: otherwise Prosody touches three files for each change of an affiliation.
//
// Both servers run all the time and take turns, in an order that changes with every round, so that both meet the same
// noise. Each focus is a process of its own; the clients are this one. A part of a turn is over when the focus has
// answered a ping sent after the last person was done, and so has done what it does when people come and leave.
//
// "whole" is all of that; "connect", "enter" (the request and the join of people who are connected already) and
// "leave" are its parts. Rates and ratios are medians of the rounds, a ratio being that of the two turns of one round;
// CPU times are means. They come from /proc, so Linux is needed.
func BenchmarkJoins(b *testing.B) {
	if _, err := cpuTime(os.Getpid()); err != nil {
		b.Skip(err)
	}
	guarded := strings.Replace(config, "  muc_room_locking", "  storage = \"memory\"\n  muc_room_locking", 1)
	open := strings.NewReplacer(
		"restrict_room_creation = true", "restrict_room_creation = false",
		"muc_room_default_members_only = true", "muc_room_default_members_only = false",
	).Replace(guarded)
	floor, usher := startVenue(b, "floor", open), startVenue(b, "usher", guarded)

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
	report(b, floor, usher)
}

// report prints the figures, as a table for people and as metrics for programs.
func report(b *testing.B, floor, usher *venue) {
	b.ReportMetric(0, "ns/op") // of a round, which means nothing
	var table strings.Builder
	fmt.Fprintf(&table, "Prosody %s, %d rounds of %d joins\n", usher.Version(), len(usher.turns), joinsPerTurn)
	fmt.Fprintf(&table, "%17s%16s%24s%20s\n", "joins/s", "", "Prosody cs/join", "focus cs/join")
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
		if part.metric {
			b.ReportMetric(median(f), part.name+"-floor-joins/s")
			b.ReportMetric(median(u), part.name+"-usher-joins/s")
			b.ReportMetric(median(ratios), part.name+"-ratio")
			b.ReportMetric(fp, part.name+"-floor-prosody-cs/join")
			b.ReportMetric(up, part.name+"-usher-prosody-cs/join")
			b.ReportMetric(uf, part.name+"-usher-cs/join")
		}
	}
	b.Log(strings.TrimSuffix(table.String(), "\n"))
}

// venue is a server with a focus beside it.
type venue struct {
	name string
	*prosodytest.Server
	prosody int // process id
	focus   *process
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

func startVenue(b *testing.B, name, config string) *venue {
	b.Helper()
	v := &venue{name: name, Server: prosodytest.Start(b, prosodytest.Options{Config: config, LogLevel: "error"})}
	v.prosody = pidOf(b, v.Server)
	v.focus = startFocus(b, name, v.ComponentAddr)
	v.control = v.Client(b, prosodytest.ClientOptions{Host: "meet.example.com"})
	return v
}

// pidOf is the process id of Prosody.
func pidOf(b *testing.B, s *prosodytest.Server) int {
	b.Helper()
	content, err := os.ReadFile(filepath.Join(s.Dir, "prosody.pid"))
	if err != nil {
		b.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		b.Fatal(err)
	}
	return pid
}

// visitor is one person on the way into a room and out again.
type visitor struct {
	*prosodytest.Client
	vhost, token string
}

// fill lets the crowd into each room of a turn and out again, and records what that cost.
func (v *venue) fill(b *testing.B, round int) error {
	rooms := make(map[string][]*visitor)
	for i := range roomsATurn {
		name := fmt.Sprintf("room-%d-%d", round, i)
		for j, affiliation := range crowd {
			who := &visitor{vhost: "guest.meet.example.com"}
			if affiliation != "" {
				who.vhost = "meet.example.com"
				who.token = mint(b, func(c *token.Claims) {
					c.Room, c.ID, c.User.Affiliation = name, fmt.Sprintf("%s-%d", name, j), affiliation
				})
			}
			rooms[name+"@"+service] = append(rooms[name+"@"+service], who)
		}
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	var t turn
	var err error
	for _, phase := range []struct {
		cost *cost
		do   func(who *visitor, room, nick string) error
	}{
		{&t.connect, func(who *visitor, room, nick string) (err error) {
			who.Client, err = v.Dial(ctx, prosodytest.ClientOptions{Host: who.vhost})
			return err
		}},
		{&t.enter, func(who *visitor, room, nick string) error { return who.enter(ctx, room, nick) }},
		{&t.leave, func(who *visitor, room, nick string) error { return who.Close() }},
	} {
		if *phase.cost, err = v.measure(ctx, rooms, phase.do); err != nil {
			return err
		}
	}
	v.turns = append(v.turns, t)
	return nil
}

// enter asks the focus and joins.
func (who *visitor) enter(ctx context.Context, room, nick string) error {
	answer, err := who.IQ(ctx, "set", domain, request(room, who.token, ""))
	if err != nil {
		return err
	}
	if got := outcome(answer); got != "ready" {
		return fmt.Errorf("%s asks to enter %s: %s", who.JID(), room, got)
	}
	own, err := who.Join(ctx, room, nick)
	if err == nil && own.Attr["type"] == "error" {
		err = fmt.Errorf("%s joins %s: %s", who.JID(), room, own.ErrorCondition())
	}
	return err
}

// measure has everybody do something: one after the other in each room, in several rooms at once.
func (v *venue) measure(ctx context.Context, rooms map[string][]*visitor, do func(who *visitor, room, nick string) error) (cost, error) {
	began := time.Now()
	prosody, err := cpuTime(v.prosody)
	if err != nil {
		return cost{}, err
	}
	focus, err := cpuTime(v.focus.pid)
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
	if _, err := v.control.IQ(ctx, "get", domain, "<ping xmlns='urn:xmpp:ping'/>"); err != nil {
		return cost{}, err
	}
	wall := time.Since(began)
	prosodyAfter, perr := cpuTime(v.prosody)
	focusAfter, ferr := cpuTime(v.focus.pid)
	return cost{wall, prosodyAfter - prosody, focusAfter - focus}, cmp.Or(perr, ferr)
}

// cpuTime returns the CPU time that a process has used, in user and kernel mode (proc_pid_stat(5): utime, stime). The kernel's
// unit there is a hundredth of a second on all platforms that Go knows.
func cpuTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(stat), ") ") // behind the name of the program
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, stat)
	}
	user, uerr := strconv.Atoi(fields[11])
	system, serr := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, cmp.Or(uerr, serr)
}

// A focus runs in a process of its own, so that its CPU time is not that of the clients: this program once more, told
// so by the environment. It says that it is connected by a line on its standard output, and ends when its standard
// input does. To each line there it answers with the size of its heap in bytes, garbage left out.
const (
	envFocus   = "USHER_BENCH_FOCUS"   // which one: floor, usher, relay, stored or stored-relay
	envServer  = "USHER_BENCH_SERVER"  // host:port of the server's component port
	envStore   = "USHER_BENCH_STORE"   // the file of its store, for stored and stored-relay
	envProfile = "USHER_BENCH_PROFILE" // a file for usher's CPU profile, if wanted
)

func init() {
	run, ok := map[string]func(context.Context, string) error{
		"floor": runFloor, "usher": runUsher, "relay": runRelay, "stored": runStored, "stored-relay": runStored,
	}[os.Getenv(envFocus)]
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			fmt.Println(m.HeapAlloc)
		}
	}()
	if err := run(ctx, os.Getenv(envServer)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
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
func startFocus(b *testing.B, name, server string) *process {
	b.Helper()
	p, end := runFocus(b, name, server)
	b.Cleanup(func() {
		if err := end(); err != nil {
			b.Errorf("focus %s: %v", name, err)
		}
	})
	return p
}

// runFocus runs a focus, and returns it once it is connected. end ends it in good order, if it has not ended.
func runFocus(b *testing.B, name, server string, environ ...string) (_ *process, end func() error) {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), envFocus+"="+name, envServer+"="+server, "GOGC=400"), environ...) // as "usher serve" sets it
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
		b.Fatalf("focus %s: %v", name, err)
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

// runUsher is usher as operators run it, with a log of every request.
func runUsher(ctx context.Context, server string) error {
	return runWith(ctx, "connected", options(server, policy(), nil))
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
