//go:build linux

// Package faults is the scripted run of "make faults". Real Prosodys run with the real usher beside them, alone and before a
// stand-in for Jicofo. On some sites there are two ushers, which share a Redis, and one of them stands by. A cast of clients uses them while one fault after the other happens. An observer, an admin of the MUC
// service, looks at the rooms from outside.
//
// The cast records the truth in a ledger: who has which right and for how long, who asked, joined and left. The ledger judges
// usher, not usher's own reports. It must find
//
//   - no wrong admission: nobody is inside, or is told ready, without a right at that moment;
//   - nothing left over: nobody outside has an affiliation a minute after the end of the right;
//   - nobody unanswered: every request has an answer 5 s after its hold. Requests that kill -9, a cut link or a rival catches on
//     the way are counted and excused: nobody has them any more;
//   - with two ushers, nobody thrown out: nobody who entered with a right is removed, also while the ushers change places or Redis is
//     away. While it is away, telling somebody ready who was never admitted before is a wrong admission.
//
// Time limits leave out the time in which usher cannot work: from the beginning of a fault until usher answers a ping again,
// which has a limit of its own. They also leave out the time in which the machine is too busy: the server takes over a second
// for an answer although no fault touches it. The table reports this time.
//
// With two ushers the table also reports how long nobody was admitted: from the beginning of the fault until somebody is inside who
// asked after that. Where nobody can be admitted during the fault, it counts from the return of Redis, of the server or of the link.
//
// No log of usher and no answer to a client may have a secret: that of the component, of the tokens or of Redis, a token, a session id
// or a machine-uid.
//
// FAULTS is the number of faults; without it nothing runs. FAULTS_SEED repeats the faults of an earlier run, as far as they are
// under our control; -run TestFaults/SITE repeats one site. FAULTS_PROSODY lists the Prosodys to run beside. FAULTS_JOURNAL is
// a folder for all timelines and usher's logs. FAULTS_KINDS is a regular expression that selects kinds of faults. FAULTS_JOINS is
// how many people enter each second, on each site with two ushers, while a fault happens.
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

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	// perSite is the number of faults on one site, one after the other.
	perSite = 5
	// rooms is the number of rooms that the cast uses all the time. Some faults have more of their own.
	rooms = 3
)

// combo is a Prosody with or without Jicofo, and with one usher or two.
type combo struct {
	prosody string // the program; empty means the one that prosodytest finds
	jicofo  bool
	pair    bool
}

func (c combo) mode() string {
	mode := "own"
	if c.jicofo {
		mode = "jicofo"
	}
	if c.pair {
		mode += "-two"
	}
	return mode
}

// fault is one fault of the run, with the events from its beginning until the next.
type fault struct {
	kind    string
	version string
	mode    string
	do      func(context.Context, *site, *rand.Rand)

	// Guarded by the ledger's mu.
	counts  map[string]int
	slowest time.Duration   // usher's slowest answer to a ping while it could work
	admits  []time.Duration // how long nobody was admitted
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
	small  bool // a small cast, and short pauses
}

// plans spreads n faults evenly over all combinations, and there over all kinds, and divides them among sites. The kinds are those for
// one usher and those for two.
func plans(n int, seed uint64, prosodys []string, alone, paired []kind) []plan {
	var combos []combo
	for _, p := range prosodys {
		for _, jicofo := range []bool{false, true} {
			if len(alone) > 0 {
				combos = append(combos, combo{p, jicofo, false})
			}
			if len(paired) > 0 {
				combos = append(combos, combo{p, jicofo, true})
			}
		}
	}
	of := make([][]*fault, len(combos))
	for i := range n {
		// Neighbours differ in the combination, and each combination begins with another kind, so that a small sample has most kinds.
		c := i % len(combos)
		kinds := alone
		if combos[c].pair {
			kinds = paired
		}
		kind := kinds[(i/len(combos)+c*len(kinds)/len(combos))%len(kinds)]
		of[c] = append(of[c], &fault{kind: kind.name, mode: combos[c].mode(), do: kind.do})
	}
	r := rand.New(rand.NewPCG(seed, 0))
	var all []plan
	for c, faults := range of {
		r.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		for part := range slices.Chunk(faults, perSite) {
			name := fmt.Sprintf("%d-%s", len(all)+1, combos[c].mode())
			all = append(all, plan{combos[c], name, r.Uint64(), part, false})
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
	other := func(k kind) bool { return !some.MatchString(k.name) }
	alone, paired := slices.DeleteFunc(slices.Clone(kinds), other), slices.DeleteFunc(slices.Clone(pairKinds), other)
	if len(alone)+len(paired) == 0 {
		t.Fatalf("FAULTS_KINDS matches no kind")
	}
	began := time.Now()
	t.Logf("%d faults, FAULTS_SEED=%d", n, seed)
	binary := build(t)
	all := plans(n, seed, prosodys, alone, paired)
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

// TestTwo is a small run: each kind of site with two ushers has one fault.
func TestTwo(t *testing.T) {
	if os.Getenv("FAULTS") != "" {
		t.Skip("make faults has all kinds")
	}
	prosodytest.Need(t)
	binary := build(t)
	for _, p := range []plan{
		{combo: combo{pair: true}, name: "killed", seed: 1, faults: []*fault{{kind: "active killed", do: pairKinds[0].do}}},
		{combo: combo{pair: true, jicofo: true}, name: "Redis", seed: 1, faults: []*fault{{kind: "Redis restart", do: pairKinds[3].do}}},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			p.small = true
			p.faults[0].mode = p.combo.mode()
			t.Logf("%s\n%s", summary([]*ledger{run(t, p, binary)}), table([]plan{p}))
		})
	}
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
	if !s.serves(ctx, startsWithin) {
		t.Fatalf("usher does not serve:\n%s", s.usher.tail())
	}
	if p.combo.pair && !s.standsBy(ctx, s.other, s.other.start) {
		t.Fatalf("the other usher does not stand by:\n%s", s.other.tail())
	}
	pause := func(from, to time.Duration) { sleep(ctx, between(r, from, to)) }
	rooms := rooms
	if p.small {
		rooms = 1
		pause = func(time.Duration, time.Duration) { sleep(ctx, 2*time.Second) }
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
	casting := r
	acting.Go(func() { s.cast(ctx, casting, names) })

	r = rand.New(rand.NewPCG(p.seed, 2))
	pause(3*time.Second, 8*time.Second)
	for _, f := range p.faults {
		l.begins(f)
		if !p.combo.pair || s.roles(ctx) {
			f.do(ctx, s, r)
		}
		l.note("", "", "the fault is over")
		if r.IntN(4) == 0 { // the next one comes at once
			pause(0, 2*time.Second)
		} else {
			pause(8*time.Second, 14*time.Second)
		}
	}
	leave()
	acting.Wait()
	s.crowd.Wait()
	s.settle(seeing)
	blind()
	watching.Wait()
	for _, u := range s.ushers() {
		u.expect(true)
		if said := u.about(1, "panic"); said != "" {
			l.broken("the log of %s has a panic: %s", u.name, said)
		}
	}
	s.keepsSecrets()
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
	for _, u := range s.ushers() {
		if err := exec.Command("cp", u.log, filepath.Join(dir, name+"-"+filepath.Base(u.log))).Run(); err != nil {
			return err
		}
	}
	return nil
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
		said := ""
		for _, u := range s.ushers() {
			said += fmt.Sprintf("\n%s's log about it:\n%s\n", u.name, u.about(15, f.who))
		}
		t.Errorf("%s, Prosody %s, %s, seed %d: %s, %s: %s\n\n%s\n%s", f.fault.kind, s.Version(), p.combo.mode(), p.seed,
			f.what, where, f.text, s.ledger.timeline(f, 60), said)
	}
}

// columns are the columns of the table: the counted event, and the heading.
var columns = [][2]string{
	{"answered", "answered"}, {"admitted", "admitted"}, {"refused", "refused"}, {"refused at the door", "at the door"}, {"told to wait", "told to wait"},
	{"in vain", "in vain"}, {"reloaded", "reloaded"}, {"put out at once", "removed"}, {"caught", "caught"},
	{wrong, "WRONG"}, {left, "LEFT OVER"}, {thrown, "THROWN OUT"}, {unanswered, "UNANSWERED"}, {broken, "BROKEN"},
}

// table returns the counts of all faults, by kind and combination.
func table(all []plan) string {
	type key struct{ kind, combo string }
	counts, faults, slowest := make(map[key]map[string]int), make(map[key]int), make(map[key]time.Duration)
	admits := make(map[key][]time.Duration)
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
			for _, k := range []key{{f.kind, combo}, {f.kind, ""}, {"all", ""}} {
				if counts[k] == nil {
					counts[k] = make(map[string]int)
				}
				faults[k]++
				slowest[k] = max(slowest[k], f.slowest)
				admits[k] = append(admits[k], f.admits...)
				for what, n := range f.counts {
					counts[k][what] += n
				}
			}
		}
	}
	slices.Sort(combos)
	var b strings.Builder
	fmt.Fprintf(&b, "%-16s %-18s %6s", "kind", "beside", "faults")
	for _, c := range columns {
		fmt.Fprintf(&b, " %*s", max(len(c[1]), 6), c[1])
	}
	fmt.Fprintf(&b, " %12s", "slowest ping")
	row := func(k key) {
		if faults[k] == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%-16s %-18s %6d", k.kind, k.combo, faults[k])
		for _, c := range columns {
			fmt.Fprintf(&b, " %*d", max(len(c[1]), 6), counts[k][c[0]])
		}
		fmt.Fprintf(&b, " %12s", slowest[k].Round(time.Millisecond))
	}
	var names []string
	for _, kind := range slices.Concat(kinds, pairKinds) {
		if slices.Contains(names, kind.name) {
			continue // it is for sites with one usher and with two
		}
		names = append(names, kind.name)
		for _, combo := range combos {
			row(key{kind.name, combo})
		}
	}
	row(key{"all", ""})
	first := true
	for _, name := range names {
		all := admits[key{name, ""}]
		if len(all) == 0 {
			continue
		}
		if first {
			fmt.Fprintf(&b, "\n\n%-16s %6s %10s %10s %10s", "next admission", "times", "median", "p95", "most")
			first = false
		}
		slices.Sort(all)
		at := func(part float64) time.Duration {
			return all[int(math.Ceil(part*float64(len(all))))-1].Round(time.Millisecond)
		}
		fmt.Fprintf(&b, "\n%-16s %6d %10s %10s %10s", name, len(all), at(0.5), at(0.95), at(1))
	}
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
