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
// second of Prosody and of usher, IQs a second that usher sends, and the memory of usher's process (VmRSS, as it is: the collector runs when
// it would). "module" is with usher's module, which tells; without it usher asks, less and less often, so the measurement begins when it asks
// as seldom as it will. All people have come with a token, and one of each room is its owner.
func BenchmarkQuiet(b *testing.B) {
	for _, q := range []quiet{
		{rooms: 1000, people: 3, module: true, settle: 10 * time.Second, watch: 20 * time.Second},
		{rooms: 10_000, people: 10, module: true, settle: 10 * time.Second, watch: 20 * time.Second},
		{rooms: 1000, people: 3, settle: 80 * time.Second, watch: time.Minute},
		{rooms: 10_000, people: 1, settle: 80 * time.Second, watch: time.Minute},
	} {
		b.Run(q.String(), func(b *testing.B) {
			b.ReportMetric(0, "ns/op")
			for range b.N {
				q.run(b)
			}
		})
	}
}

type quiet struct {
	rooms, people int
	module        bool
	settle, watch time.Duration
}

func (q quiet) String() string {
	with := "without the module"
	if q.module {
		with = "with the module"
	}
	return fmt.Sprintf("%d quiet rooms of %d, %s", q.rooms, q.people, with)
}

func (q quiet) run(b *testing.B) {
	o := benchJitsi
	if o.Open = q.module; q.module {
		o = withModule(b, o)
	}
	var asked *meter
	i := startInstallWith(b, o, benchmarked{Relay: true, Module: q.module, Store: filepath.Join(b.TempDir(), "usher.db")}, func(s *prosodytest.Server) string {
		asked = newMeter(b, s.ComponentAddr)
		return asked.Addr()
	})
	began := time.Now()
	i.fill(b, q.rooms, q.people)
	b.Logf("%s: full after %s", q, time.Since(began).Round(time.Second))
	<-time.After(q.settle)
	from, before := time.Now(), i.cpu(b)
	asked.begin()
	<-time.After(q.watch)
	iqs, longest := asked.end()
	after, took := i.cpu(b), time.Since(from)
	prosody, usher := perSecond(after.prosody-before.prosody, took), perSecond(after.focus-before.focus, took)
	rate := float64(iqs) / took.Seconds()
	rss := i.usher.status(b, "VmRSS")
	b.Logf("%s: Prosody %.1f ms/s, usher %.1f ms/s, %.0f IQ/s, a room was not asked for %s; VmRSS %.0f MB (RssAnon %.0f, RssFile %.0f), heap %.0f MB",
		q, prosody, usher, rate, longest.Round(time.Second), rss, i.usher.status(b, "RssAnon"), i.usher.status(b, "RssFile"), float64(i.usher.heap(b))/1e6)
	b.ReportMetric(prosody, "prosody-ms/s")
	b.ReportMetric(usher, "usher-ms/s")
	b.ReportMetric(rate, "IQ/s")
	b.ReportMetric(rss, "MB")
	switch {
	case q.rooms == 1000 && q.module:
		row(b, "Prosody, "+q.String(), prosody, "ms/s", atMost, 2)
		row(b, "usher, "+q.String(), usher, "ms/s", atMost, 1)
	case q.rooms == 1000:
		row(b, "Prosody, "+q.String(), prosody, "ms/s", atMost, 30)
		row(b, "usher, "+q.String(), usher, "ms/s", atMost, 8)
	case q.module:
		row(b, "asked by usher, "+q.String(), rate, "IQ/s", atMost, 0)
		row(b, "RSS of usher, "+q.String(), rss, "MB", atMost, 200)
	default:
		row(b, "longest without a question, "+q.String(), longest.Seconds(), "s", atMost, 62)
	}
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
