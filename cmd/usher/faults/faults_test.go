//go:build linux

// Package faults is the scripted run of "make faults". Real Prosodys run with the real usher beside them, alone and before a
// stand-in for Jicofo. A cast of clients uses them while one fault after the other happens. An observer, an admin of the MUC
// service, looks at the rooms from outside.
//
// The cast records the truth in a ledger: who has which right and for how long, who asked, joined and left. The ledger judges
// usher, not usher's own reports. It must find
//
//   - no wrong admission: nobody is inside, or is told ready, without a right at that moment;
//   - nothing left over: nobody outside has an affiliation a minute after the end of the right;
//   - nobody unanswered: every request has an answer 5 s after its hold. Requests that kill -9, a cut link or a rival catches on
//     the way are counted and excused: nobody has them any more.
//
// Time limits leave out the time in which usher cannot work: from the beginning of a fault until usher answers a ping again,
// which has a limit of its own. They also leave out the time in which the machine is too busy: the server takes over a second
// for an answer although no fault touches it. The table reports this time.
//
// FAULTS is the number of faults; without it nothing runs. FAULTS_SEED repeats the faults of an earlier run, as far as they are
// under our control; -run TestFaults/SITE repeats one site. FAULTS_PROSODY lists the Prosodys to run beside. FAULTS_JOURNAL is
// a folder for all timelines and usher's logs. FAULTS_KINDS is a regular expression that selects kinds of faults.
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
	// perSite is the number of faults on one site, one after the other.
	perSite = 5
	// rooms is the number of rooms that the cast uses all the time. Some faults have more of their own.
	rooms = 3
)

// combo is a Prosody with or without Jicofo.
type combo struct {
	prosody string // the program; empty means the one that prosodytest finds
	jicofo  bool
}

func (c combo) mode() string {
	if c.jicofo {
		return "jicofo"
	}
	return "own"
}

// fault is one fault of the run, with the events from its beginning until the next.
type fault struct {
	kind    string
	version string
	mode    string
	do      func(context.Context, *site, *rand.Rand)

	// Guarded by the ledger's mu.
	counts  map[string]int
	slowest time.Duration // usher's slowest answer to a ping while it could work
}

func (f *fault) count(what string) {
	if f.counts == nil {
		f.counts = make(map[string]int)
	}
	f.counts[what]++
}

// plan is the list of faults of one site.
type plan struct {
	combo  combo
	name   string
	seed   uint64
	faults []*fault
}

// plans spreads n faults of all kinds evenly over all combinations, and divides them among sites.
func plans(n int, seed uint64, prosodys []string, kinds []kind) []plan {
	var combos []combo
	for _, p := range prosodys {
		combos = append(combos, combo{p, false}, combo{p, true})
	}
	of := make([][]*fault, len(combos))
	for i := range n {
		// Neighbours differ in the combination first and in the kind next, so that a small sample has most kinds.
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
	// Mix the combinations.
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func TestFaults(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("FAULTS"))
	if n <= 0 {
		t.Skip("set FAULTS to the number of faults, or run make faults")
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
		t.Fatalf("FAULTS_KINDS matches no kind")
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

// run applies the faults of a plan to a site, and reports the findings.
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
		if err := journal(dir, s, p.name); err != nil {
			t.Errorf("FAULTS_JOURNAL: %v", err)
		}
	}
	return l
}

// journal writes the whole timeline of a site and usher's log to a folder.
func journal(dir string, s *site, name string) error {
	all := s.ledger.timeline(finding{at: time.Now()}, math.MaxInt)
	if err := os.WriteFile(filepath.Join(dir, name+".txt"), []byte(all), 0o600); err != nil {
		return err
	}
	return exec.Command("cp", s.usher.log, filepath.Join(dir, name+".log")).Run()
}

// pulse pings the server, to see whether the machine is too busy, and then usher, to see how long clients wait.
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

// report reports the findings of a site: the first two in full, the others in a line each.
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
		t.Errorf("%s, Prosody %s, %s, seed %d: %s, %s: %s\n\n%s\n\nusher's log about it:\n%s", f.fault.kind, s.Version(), p.combo.mode(), p.seed,
			f.what, where, f.text, s.ledger.timeline(f, 60), s.usher.about(15, f.who))
	}
}

// columns are the columns of the table: the counted event, and the heading.
var columns = [][2]string{
	{"answered", "answered"}, {"admitted", "admitted"}, {"refused", "refused"}, {"refused at the door", "at the door"}, {"told to wait", "told to wait"},
	{"in vain", "in vain"}, {"reloaded", "reloaded"}, {"put out at once", "removed"}, {"caught", "caught"},
	{wrong, "WRONG"}, {left, "LEFT OVER"}, {unanswered, "UNANSWERED"}, {broken, "BROKEN"},
}

// table returns the counts of all faults, by kind and combination.
func table(all []plan) string {
	type key struct{ kind, combo string }
	counts, faults, slowest := make(map[key]map[string]int), make(map[key]int), make(map[key]time.Duration)
	var combos []string
	for _, p := range all {
		for _, f := range p.faults {
			if f.version == "" {
				continue // its site was not run
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

// summary returns the figures over all sites, in a sentence.
func summary(all []*ledger) string {
	var away, overload, oldest, caught time.Duration
	for _, l := range all {
		now := time.Now()
		away += now.Sub(l.began) - l.able(l.began, now)
		overload += l.overload
		oldest, caught = max(oldest, l.oldest), max(caught, l.caught)
	}
	return fmt.Sprintf("%d sites; usher could not work for %s, for %s of these because the machine was too busy; "+
		"an affiliation of somebody outside lasted %s at most; a caught request was %s old at most",
		len(all), away.Round(time.Second), overload.Round(time.Second), oldest.Round(time.Second), caught.Round(time.Millisecond))
}
