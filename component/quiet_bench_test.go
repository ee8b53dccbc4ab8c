package component_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// BenchmarkQuiet measures what rooms cost in which people are and nothing happens, before a Jicofo and with the store in a file: CPU time a
// second of Prosody and of usher, IQs a second that usher sends to rooms, and how late it asks a room. "with the module" is with usher's module,
// which tells; without it usher asks, less and less often, so the measurement begins when it asks as seldom as it will. All people have come with a
// token, and one of each room is its owner. A thousand rooms and ten thousand are on servers of their own, and are measured at the same time.
func BenchmarkQuiet(b *testing.B) {
	for _, module := range []bool{true, false} {
		with, settle, watch := "without the module", 80*time.Second, seldom
		if module {
			with, settle, watch = "with the module", 10*time.Second, 20*time.Second
		}
		b.Run(with, func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			for range b.N {
				few, many := newQuiet(b, 1000, 3, module), newQuiet(b, 10_000, 1, module)
				<-time.After(settle)
				few.begin(b)
				many.begin(b)
				<-time.After(watch)
				prosody, usher, _, _ := few.end(b)
				_, _, rate, longest := many.end(b)
				must := []float64{30, 8}
				if module {
					must = []float64{2, 1}
				}
				row(b, "Prosody, "+few.name, prosody, "ms/s", atMost, must[0])
				row(b, "usher, "+few.name, usher, "ms/s", atMost, must[1])
				if module {
					row(b, "asked by usher, "+many.name, rate, "IQ/s", atMost, 0)
				} else {
					row(b, "a room is asked late by, "+many.name, (longest - seldom).Seconds(), "s", atMost, 2)
				}
			}
		})
	}
}

// seldom is how often a Guard looks at a room in which nothing happens, in the end.
const seldom = time.Minute

// quiet is a server with quiet rooms.
type quiet struct {
	name string
	*install
	asked  *meter
	began  time.Time
	before cost
}

// newQuiet starts a server, and returns when people are in all rooms.
func newQuiet(b *testing.B, rooms, people int, module bool) *quiet {
	b.Helper()
	o, with := benchJitsi, "without the module"
	if o.Open = module; module {
		o, with = withModule(b, o), "with the module"
	}
	q := &quiet{name: fmt.Sprintf("%d quiet rooms, %s", rooms, with)}
	q.install = startInstallWith(b, o, benchmarked{Relay: true, Module: module, Store: filepath.Join(b.TempDir(), "usher.db")}, func(s *prosodytest.Server) string {
		q.asked = newMeter(b, s.ComponentAddr)
		return q.asked.Addr()
	})
	began := time.Now()
	q.fill(b, rooms, people)
	b.Logf("%s of %d: full after %s", q.name, people, time.Since(began).Round(time.Second))
	return q
}

func (q *quiet) begin(b *testing.B) {
	q.began, q.before = time.Now(), q.cpu(b)
	q.asked.begin()
}

// end returns CPU time in milliseconds a second, IQs a second, and the longest time for which a room was not asked, all since begin.
func (q *quiet) end(b *testing.B) (prosody, usher, rate float64, longest time.Duration) {
	iqs, longest := q.asked.end()
	after, took := q.cpu(b), time.Since(q.began)
	prosody, usher = perSecond(after.prosody-q.before.prosody, took), perSecond(after.focus-q.before.focus, took)
	rate = float64(iqs) / took.Seconds()
	b.Logf("Prosody %s, %s: Prosody %.1f ms/s, usher %.2f ms/s, %.1f IQ/s, a room was not asked for %s; heap %.0f MB",
		q.Version(), q.name, prosody, usher, rate, longest.Round(time.Second), float64(q.usher.heap(b))/1e6)
	return prosody, usher, rate, longest
}

func perSecond(used, took time.Duration) float64 { return used.Seconds() * 1000 / took.Seconds() }

// fill has people come into rooms and stay.
func (i *install) fill(b *testing.B, rooms, people int) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(16)
	for r := range rooms {
		g.Go(func() error {
			room := fmt.Sprintf("quiet-%d@%s", r, service)
			for n := range people {
				token := i.member
				if n == 0 {
					token = i.token
				}
				nick := fmt.Sprintf("nick%d", n)
				if _, err := i.enters(b.Context(), fmt.Sprintf("%s-%d@%s/x", nick, r, folk), room, nick, token); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
}

// status is a size of a process in megabytes (proc(5): /proc/pid/status).
func (p *process) status(b *testing.B, field string) float64 {
	b.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut("\n"+string(content), "\n"+field+":")
	line, _, _ := strings.Cut(rest, "\n")
	kB, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(line), " kB"))
	if err != nil {
		b.Fatalf("%s of process %d: %q", field, p.pid, line)
	}
	return float64(kB) * 1024 / 1e6
}

// meter is a cable between usher and the server, and counts the IQs that usher sends to rooms.
type meter struct {
	*prosodytest.Cable

	mu      sync.Mutex
	rest    string               // of what came, without its end
	asked   map[string]time.Time // when each room was asked last
	n       int
	longest time.Duration // between two questions of a room
}

// question is an IQ to a room, as far as its head.
var question = regexp.MustCompile(`<iq [^>]*\bto=["']([^"'/@]*@[^"'/]*)["'][^>]*>`)

func newMeter(b *testing.B, to string) *meter {
	m := &meter{Cable: prosodytest.NewCable(b, to), asked: make(map[string]time.Time)}
	m.Watch(m.sees)
	return m
}

// sees takes what usher has sent.
func (m *meter) sees(data []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, all := time.Now(), m.rest+string(data)
	cut := strings.LastIndexByte(all, '>') + 1
	m.rest = all[cut:]
	for _, found := range question.FindAllStringSubmatch(all[:cut], -1) {
		room := found[1]
		if last, ok := m.asked[room]; ok {
			m.longest = max(m.longest, now.Sub(last))
		}
		m.asked[room] = now
		m.n++
	}
}

// begin begins to count.
func (m *meter) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n, m.longest = 0, 0
}

// end returns how many IQs usher has sent since then, and the longest time for which a room was not asked.
func (m *meter) end() (n int, longest time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, last := range m.asked {
		m.longest = max(m.longest, time.Since(last))
	}
	return m.n, m.longest
}
