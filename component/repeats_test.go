package component

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/element"
)

// watched returns repeats, its log, and a clock to set.
func watched() (r *repeats, log *observer.ObservedLogs, clock *time.Time) {
	core, log := observer.New(zap.InfoLevel)
	r, clock = newRepeats(zap.New(core)), new(time.Time)
	*clock = time.Unix(1_800_000_000, 0)
	r.now = func() time.Time { return *clock }
	return r, log, clock
}

// tally adds up what the log tells: each line is one event, or as many as its count says.
func tally(log *observer.ObservedLogs) (lines, events int) { return log.Len(), eventsOf(log.All()) }

func eventsOf(lines []observer.LoggedEntry) (events int) {
	for _, e := range lines {
		events++
		for _, f := range e.Context {
			if f.Key == "count" {
				events += int(f.Integer) - 1
			}
		}
	}
	return events
}

// TestRepeats counts refusals of one sender: the first is a line, and all others in 10 s are one.
func TestRepeats(t *testing.T) {
	t.Parallel()
	r, log, clock := watched()
	mallory := jid.MustParse("mallory@guest.example.com/tab")
	refuse := func(n int, reason string) {
		for range n {
			r.say(zap.InfoLevel, "request", reason, "guest.example.com", mallory, zap.String("reason", reason))
		}
	}
	refuse(1000, "token-expired")
	if log.Len() != 1 {
		t.Fatalf("%d lines at once, want 1", log.Len())
	}
	refuse(1, "banned") // another reason has a line of its own
	*clock = clock.Add(9 * time.Second)
	r.flush(false)
	if log.Len() != 2 {
		t.Fatalf("%d lines before 10 s are over, want 2", log.Len())
	}
	*clock = clock.Add(time.Second)
	r.flush(false)
	last := log.All()[log.Len()-1]
	if got := last.ContextMap(); log.Len() != 3 || last.Message != "request, again" || got["count"] != int64(999) || got["reason"] != "token-expired" ||
		got["from"] != "mallory@guest.example.com" || got["within"] != 10*time.Second {
		t.Errorf("%d lines, the last %s %v", log.Len(), last.Message, got)
	}
	// Who goes on is counted on, and who has stopped for 10 s is forgotten.
	refuse(5, "token-expired")
	if log.Len() != 3 {
		t.Errorf("%d lines, want 3", log.Len())
	}
	*clock = clock.Add(10 * time.Second)
	refuse(1, "token-expired") // no tick in between
	*clock = clock.Add(10 * time.Second)
	r.flush(false)
	*clock = clock.Add(10 * time.Second)
	r.flush(false)
	if _, events := tally(log); log.Len() != 5 || events != 1007 || len(r.pairs) != 0 {
		t.Errorf("%d lines tell of %d, want 5 of 1007; %d are kept", log.Len(), events, len(r.pairs))
	}
	refuse(2, "token-expired")
	if log.Len() != 6 {
		t.Errorf("%d lines, want 6", log.Len())
	}
	r.flush(true)
	if _, events := tally(log); events != 1009 {
		t.Errorf("at the end, %d are told of, want 1009", events)
	}
}

// TestRepeatsOfACrowd refuses people with a new JID each time: neither the log nor the memory grows with them.
func TestRepeatsOfACrowd(t *testing.T) {
	t.Parallel()
	r, log, clock := watched()
	const people = 20_000
	for i := range people {
		who := jid.MustParse(fmt.Sprintf("u%d@guest.example.com/x", i))
		r.say(zap.InfoLevel, "request", "token-malformed", "guest.example.com", who)
		r.say(zap.InfoLevel, "request", fmt.Sprint("reason ", i), fmt.Sprint("vhost ", i), who) // more kinds than there are
		if i%100 == 99 {
			*clock = clock.Add(time.Second)
			r.flush(false)
		}
	}
	r.flush(true)
	lines, events := tally(log)
	seconds := people / 100
	if most := repeatsPairs + seconds*int(time.Second/repeatsNew) + (seconds/10+1)*(repeatsCrowds+1); events != 2*people || lines > most {
		t.Errorf("%d lines tell of %d, want few of %d", lines, events, 2*people)
	}
	if crowds := log.FilterMessage("request, again").FilterField(zap.String("vhost", "guest.example.com")).All(); len(crowds) == 0 {
		t.Error("nothing tells of the crowd")
	} else if n, _ := crowds[0].ContextMap()["senders"].(int64); n < 10 || n > 1000 {
		t.Errorf("a crowd of %d senders", n)
	}
	if n := log.FilterMessage("other lines").Len(); n == 0 {
		t.Error("nothing tells of the other lines")
	}
	// So many that they are not told apart.
	log.TakeAll()
	for i := range 5000 {
		r.say(zap.InfoLevel, "request", "token-malformed", "guest.example.com", jid.MustParse(fmt.Sprintf("v%d@guest.example.com/x", i)))
	}
	r.flush(true)
	crowd := log.All()[log.Len()-1].ContextMap()
	if crowd["senders at least"] != int64(repeatsSenders) || crowd["count"].(int64) < 5000-repeatsPairs-1 {
		t.Errorf("got %v", crowd)
	}
}

// TestRepeatsModel compares the log with what was said, in every order: nothing is lost or told twice, and the memory is bounded.
func TestRepeatsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r, log, clock := watched()
		type key struct{ who, reason string }
		said := map[key]int{}
		total := 0
		var lines []observer.LoggedEntry
		events := 0
		read := func() {
			some := log.TakeAll()
			lines, events = append(lines, some...), events+eventsOf(some)
		}
		t.Repeat(map[string]func(*rapid.T){
			"say": func(t *rapid.T) {
				k := key{fmt.Sprintf("u%d@a.example.com", rapid.IntRange(0, 150).Draw(t, "who")), rapid.SampledFrom([]string{"x", "y"}).Draw(t, "why")}
				n := rapid.IntRange(1, 20).Draw(t, "n")
				for range n {
					r.say(zap.InfoLevel, "request", k.reason, "a.example.com", jid.MustParse(k.who), zap.String("reason", k.reason), zap.String("from", k.who))
				}
				said[k] += n
				total += n
			},
			"crowd": func(t *rapid.T) {
				for i := range rapid.SampledFrom([]int{1, 50, repeatsPairs + 100}).Draw(t, "n") {
					r.say(zap.InfoLevel, "request", "z", "b.example.com", jid.MustParse(fmt.Sprintf("c%d-%d@b.example.com", total, i)))
					total++
				}
			},
			"wait": func(t *rapid.T) {
				*clock = clock.Add(time.Duration(rapid.IntRange(0, 12_000).Draw(t, "cs")) * time.Millisecond)
			},
			"flush": func(t *rapid.T) { r.flush(rapid.IntRange(0, 9).Draw(t, "all") == 0) },
			"": func(t *rapid.T) {
				if len(r.pairs) > repeatsPairs || len(r.crowds) > repeatsCrowds+1 {
					t.Fatalf("%d and %d are kept", len(r.pairs), len(r.crowds))
				}
				if read(); events > total {
					t.Fatalf("%d are told of, but %d were said", events, total)
				}
			},
		})
		r.flush(true)
		if read(); events != total {
			t.Fatalf("%d are told of, but %d were said", events, total)
		}
		// Those with lines of their own, and no more than were said.
		own := map[key]int{}
		for _, e := range lines {
			f := e.ContextMap()
			k := key{fmt.Sprint(f["from"]), fmt.Sprint(f["reason"])}
			if n, ok := f["count"].(int64); ok {
				own[k] += int(n)
			} else {
				own[k]++
			}
		}
		for k, n := range own {
			if strings.Contains(k.who, "@a.") && n > said[k] {
				t.Fatalf("%v: %d are told of, but %d were said", k, n, said[k])
			}
		}
	})
}

// TestRepeatsAtOnce has many say and flush at the same time, with the machine's clock.
func TestRepeatsAtOnce(t *testing.T) {
	t.Parallel()
	core, log := observer.New(zap.InfoLevel)
	r := newRepeats(zap.New(core))
	var all sync.WaitGroup
	const each = 500
	for g := range 8 {
		all.Go(func() {
			for i := range each {
				r.say(zap.InfoLevel, "request", "x", "a.example.com", jid.MustParse(fmt.Sprintf("u%d@a.example.com", (i*g)%300)))
				if i%50 == 0 {
					r.flush(i%100 == 0)
				}
			}
		})
	}
	all.Wait()
	r.flush(true)
	if _, events := tally(log); events != 8*each {
		t.Errorf("%d are told of, want %d", events, 8*each)
	}
}

// TestRepeatsRun checks that run logs what was counted when it ends, and leaves nothing running.
func TestRepeatsRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	r, log, _ := watched()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); r.run(ctx) }()
	for range 10 {
		r.say(zap.WarnLevel, "request", "keys-unavailable", "a.example.com", jid.MustParse("u@a.example.com"))
		r.say(zap.DebugLevel, "not logged", "", "", jid.JID{})
	}
	cancel()
	<-done
	if lines, events := tally(log); lines != 2 || events != 10 || log.All()[1].Level != zap.WarnLevel {
		t.Errorf("%d lines tell of %d: %v", lines, events, log.All())
	}
}

// TestDecisionsLogged checks that every decision is in the log: one line for each that lets in or waits, and for refusals a line
// or a count in one. The counters count each.
func TestDecisionsLogged(t *testing.T) {
	stands := time.Now() // so that what repeats is within one window
	s := newServer(t, func(c *Component) { c.repeats.now = func() time.Time { return stands } })
	l := s.connect()
	const many = 1000
	for i := range many {
		s.c.decided(&request{from: jid.MustParse("host@meet.example.com/x")}, auth.Decision{Verdict: auth.Allow, Reason: auth.ReasonHost}, 0)
		s.c.decided(&request{from: jid.MustParse("guest@guest.example.com/x")}, auth.Decision{}.Waiting(auth.ReasonHostAbsent), 0)
		s.c.decided(&request{from: jid.MustParse("mallory@meet.example.com/x")}, auth.Decision{}.Denied(auth.ReasonTokenExpired, nil), 0)
		s.c.decided(&request{from: jid.MustParse(fmt.Sprintf("u%d@elsewhere%d.example.com/x", i, i))}, auth.Decision{}.Denied(auth.ReasonVHostUnknown, nil), 0)
		l.send("<message from='u@guest.example.com/r' to='elsewhere.example'><a:b:c/></message><x/>")
	}
	l.send("<iq type='get' id='alive' from='u@guest.example.com/r' to='focus.meet.example.com'><ping xmlns='urn:xmpp:ping'/></iq>")
	for element.Attr(l.next("iq"), "id") != "alive" {
	}
	s.stop()
	l.closes()
	s.logged("stopped")
	counters := s.log.FilterMessage("stopped").All()[0].ContextMap()
	lines := map[string]int{}
	told := map[string]int{}
	for _, e := range s.log.All() {
		reason, ok := e.ContextMap()["reason"].(string)
		if !ok {
			continue
		}
		lines[reason]++
		if n, counted := e.ContextMap()["count"].(int64); counted {
			told[reason] += int(n)
		} else {
			told[reason]++
		}
	}
	for reason, most := range map[string]int{
		string(auth.ReasonHost): many, string(auth.ReasonHostAbsent): many,
		// The first of each sender, or of all unknown ones, and the others in one line at the end.
		string(auth.ReasonTokenExpired): 2, string(auth.ReasonVHostUnknown): 2 * many, string(auth.ReasonRequestMalformed): 4,
	} {
		if told[reason] < many || counters[reason] != int64(told[reason]) || lines[reason] > most {
			t.Errorf("%s: %d lines tell of %v, counted %v; want %d, in %d lines at most", reason, lines[reason], told[reason], counters[reason], many, most)
		}
	}
}
