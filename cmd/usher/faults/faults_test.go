//go:build linux

// Package faults is the scripted run of "make faults": real Prosodys with the real usher beside them, alone and before a
// stand-in for Jicofo, are used by a cast of clients while one fault after the other befalls them. An observer who is an
// admin of the MUC service looks at the rooms from outside.
//
// Everybody of the cast writes down what is true of them: who has which right from when to when, who asked, set out to join and
// left. By this ledger usher is judged, and not by what it says of itself. There must be
//
//   - no wrong admission: nobody inside, or told ready, who had no right to be there at that moment;
//   - nothing left over: no affiliation of somebody outside a minute after the end of its right;
//   - nobody unanswered: no request without an answer 5 s after its hold. Those that kill -9, a cut link or a rival catches on
//     the way are counted, and excused: nobody has them any more.
//
// Where time enters, the time in which usher cannot work does not count: from the beginning of a fault until usher answers a ping
// again, for which it has a bound, too. Nor does the time in which the server, with which nothing was done, takes over a second for
// an answer because the machine has no time; the table says how long that was.
//
// FAULTS is the number of faults; without it nothing runs. FAULTS_SEED has the same faults happen as before, as far as they
// are for us to say, and -run TestFaults/SITE on one site only. FAULTS_PROSODY lists the Prosodys to run beside, and FAULTS_JOURNAL
// is a folder for all timelines and usher's logs. FAULTS_KINDS, a regular expression, leaves out the other kinds.
package faults

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// perSite is how many faults befall one site, one after the other.
	perSite = 5
	// rooms is how many rooms of a site the cast uses all the time. Some faults have more of their own.
	rooms = 3
)

// combo is what usher stands beside.
type combo struct {
	prosody string // the program; empty for the one that prosodytest finds
	jicofo  bool
}

func (c combo) mode() string {
	if c.jicofo {
		return "jicofo"
	}
	return "own"
}

// fault is one of the run, and what happened from its beginning until the next.
type fault struct {
	kind    string
	version string
	mode    string
	do      func(context.Context, *site, *rand.Rand)

	// Guarded by the ledger's mu.
	counts  map[string]int
	slowest time.Duration // the slowest answer of usher to a ping, while nothing kept it from its work
}

func (f *fault) count(what string) {
	if f.counts == nil {
		f.counts = make(map[string]int)
	}
	f.counts[what]++
}

// plan is what befalls one site.
type plan struct {
	combo  combo
	name   string
	seed   uint64
	faults []*fault
}

// plans shares n faults of all kinds evenly among all combinations, and deals them out to sites.
func plans(n int, seed uint64, prosodys []string, kinds []kind) []plan {
	var combos []combo
	for _, p := range prosodys {
		combos = append(combos, combo{p, false}, combo{p, true})
	}
	of := make([][]*fault, len(combos))
	for i := range n {
		// Beside each other in the list are combinations of one kind, so that a small sample has most kinds.
		kind, c := (i/len(combos)+i)%len(kinds), i%len(combos)
		of[c] = append(of[c], &fault{kind: kinds[kind].name, mode: combos[c].mode(), do: kinds[kind].do})
	}
	r := rand.New(rand.NewPCG(seed, 0))
	var all []plan
	for c, faults := range of {
		r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for part := range slices.Chunk(faults, perSite) {
			name := fmt.Sprintf("%d-%s", len(all)+1, combos[c].mode())
			all = append(all, plan{combos[c], name, r.Uint64(), part})
		}
	}
	// Those of one combination not all at once.
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func TestFaults(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("FAULTS"))
	if n <= 0 {
		t.Skip("FAULTS in the environment says how many faults: make faults")
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("FAULTS_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("FAULTS_SEED: %v", err)
		}
	}
	prosodys := []string{""}
	if list := os.Getenv("FAULTS_PROSODY"); list != "" {
		prosodys = filepath.SplitList(list)
	}
	some, err := regexp.Compile(os.Getenv("FAULTS_KINDS"))
	if err != nil {
		t.Fatalf("FAULTS_KINDS: %v", err)
	}
	kinds := slices.DeleteFunc(slices.Clone(kinds), func(k kind) bool { return !some.MatchString(k.name) })
	if len(kinds) == 0 {
		t.Fatalf("FAULTS_KINDS is none of the kinds")
	}
	began := time.Now()
	t.Logf("%d faults, FAULTS_SEED=%d", n, seed)
	binary := build(t)
	all := plans(n, seed, prosodys, kinds)
	var mu sync.Mutex
	var ended []*ledger
	t.Run("sites", func(t *testing.T) {
		for _, p := range all {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				l := run(t, p, binary)
				mu.Lock()
				defer mu.Unlock()
				ended = append(ended, l)
			})
		}
	})
	t.Logf("%s, in %s\n%s", summary(ended), time.Since(began).Round(time.Second), table(all))
}

// run has the faults of a plan befall a site, and reports what it has found.
func run(t *testing.T, p plan, binary string) *ledger {
	s := newSite(t, p.combo, binary)
	l := s.ledger
	for _, f := range p.faults {
		f.version = s.Version()
	}
	r := rand.New(rand.NewPCG(p.seed, 1))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	l.begins(p.faults[0])
	s.starts()
	if !s.serves(ctx, backWithin) {
		t.Fatalf("usher does not serve:\n%s", s.usher.tail())
	}
	var names []string
	for i := range rooms {
		names = append(names, s.watch(fmt.Sprintf("room%d", i+1)))
	}
	seeing, blind := context.WithCancel(t.Context())
	defer blind()
	var watching, acting sync.WaitGroup
	watching.Go(func() { s.observe(seeing) })
	watching.Go(func() { s.pulse(seeing) })
	acting.Go(func() { s.cast(ctx, r, names) })

	r = rand.New(rand.NewPCG(p.seed, 2))
	sleep(ctx, between(r, 3*time.Second, 8*time.Second))
	for _, f := range p.faults {
		l.begins(f)
		f.do(ctx, s, r)
		l.note("", "", "the fault is over")
		if r.IntN(4) == 0 { // the next one comes at once
			sleep(ctx, between(r, 0, 2*time.Second))
		} else {
			sleep(ctx, between(r, 8*time.Second, 14*time.Second))
		}
	}
	leave()
	acting.Wait()
	s.settle(seeing)
	blind()
	watching.Wait()
	s.usher.expect(true)
	if said := s.usher.about(1, "panic"); said != "" {
		l.broken("usher's log has a panic: %s", said)
	}
	report(t, s, p)
	if dir := os.Getenv("FAULTS_JOURNAL"); dir != "" {
		all := l.timeline(finding{at: time.Now()}, math.MaxInt)
		err := os.WriteFile(filepath.Join(dir, p.name+".txt"), []byte(all), 0o600)
		if err == nil {
			err = exec.Command("cp", s.usher.log, filepath.Join(dir, p.name+".log")).Run()
		}
		if err != nil {
			t.Errorf("FAULTS_JOURNAL: %v", err)
		}
	}
	return l
}

// pulse asks the server for signs of life, to see whether the machine has time, and then usher, to see how long others wait.
func (s *site) pulse(ctx context.Context) {
	for ctx.Err() == nil {
		_, probe := s.tools()
		one, done := context.WithTimeout(ctx, callWithin)
		asked := time.Now()
		err := probe.Sync(one)
		done()
		if took := time.Since(asked); took > time.Second && err == nil {
			s.ledger.overloads(asked, time.Now())
		}
		asked = time.Now()
		one, done = context.WithTimeout(ctx, callWithin)
		a, err := probe.IQ(one, "get", focus, "<ping xmlns='urn:xmpp:ping'/>")
		done()
		if err == nil && a.Attr["type"] == "result" {
			s.ledger.pinged(asked, time.Now())
		}
		sleep(ctx, 500*time.Millisecond)
	}
}

// report says what was found on a site: of the first two in trouble all that matters, of the others a line.
func report(t *testing.T, s *site, p plan) {
	t.Helper()
	told := make(map[string]bool)
	for _, f := range s.ledger.findings {
		if told[f.who+f.room] || len(told) == 2 {
			first, _, _ := strings.Cut(f.text, "\n")
			t.Errorf("%s: %s", f.what, first)
			continue
		}
		told[f.who+f.room] = true
		where := f.room
		if where == "" {
			where = "no room"
		}
		t.Errorf("%s, Prosody %s, %s, seed %d: %s, %s: %s\n\n%s\n\nusher's log of them:\n%s", f.fault.kind, s.Version(), p.combo.mode(), p.seed,
			f.what, where, f.text, s.ledger.timeline(f, 60), s.usher.about(15, f.who))
	}
}

// columns of the table: what is counted, and the heading.
var columns = [][2]string{
	{"answered", "answered"}, {"admitted", "admitted"}, {"refused", "refused"}, {"refused at the door", "at the door"}, {"told to wait", "told to wait"},
	{"in vain", "in vain"}, {"reloaded", "reloaded"}, {"put out at once", "put out"}, {"caught", "caught"},
	{wrong, "WRONG"}, {left, "LEFT OVER"}, {unanswered, "UNANSWERED"}, {broken, "BROKEN"},
}

func table(all []plan) string {
	type key struct{ kind, combo string }
	counts, faults, slowest := make(map[key]map[string]int), make(map[key]int), make(map[key]time.Duration)
	var combos []string
	for _, p := range all {
		for _, f := range p.faults {
			if f.version == "" {
				continue // of a site that was not run
			}
			combo := f.version + " " + f.mode
			if !slices.Contains(combos, combo) {
				combos = append(combos, combo)
			}
			for _, k := range []key{{f.kind, combo}, {"all", ""}} {
				if counts[k] == nil {
					counts[k] = make(map[string]int)
				}
				faults[k]++
				slowest[k] = max(slowest[k], f.slowest)
				for what, n := range f.counts {
					counts[k][what] += n
				}
			}
		}
	}
	slices.Sort(combos)
	var b strings.Builder
	fmt.Fprintf(&b, "%-16s %-14s %6s", "kind", "beside", "faults")
	for _, c := range columns {
		fmt.Fprintf(&b, " %*s", max(len(c[1]), 6), c[1])
	}
	fmt.Fprintf(&b, " %12s", "slowest ping")
	row := func(k key) {
		if faults[k] == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%-16s %-14s %6d", k.kind, k.combo, faults[k])
		for _, c := range columns {
			fmt.Fprintf(&b, " %*d", max(len(c[1]), 6), counts[k][c[0]])
		}
		fmt.Fprintf(&b, " %12s", slowest[k].Round(time.Millisecond))
	}
	for _, kind := range kinds {
		for _, combo := range combos {
			row(key{kind.name, combo})
		}
	}
	row(key{"all", ""})
	return b.String()
}

// summary is what the sites have in common, in a sentence.
func summary(all []*ledger) string {
	var away, overload, oldest, caught time.Duration
	for _, l := range all {
		now := time.Now()
		away += now.Sub(l.began) - l.able(l.began, now)
		overload += l.overload
		oldest, caught = max(oldest, l.oldest), max(caught, l.caught)
	}
	return fmt.Sprintf("%d sites; usher could not work for %s of their time, of which %s because the machine had no time; "+
		"somebody outside had an affiliation for %s at most; a request that was caught had been under way for %s at most",
		len(all), away.Round(time.Second), overload.Round(time.Second), oldest.Round(time.Second), caught.Round(time.Millisecond))
}
