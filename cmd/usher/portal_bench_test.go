//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/pkg/passhash"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	// benchAccounts is the number of accounts, and benchTokens that of tokens that each mints, fewer than usher lets a session have.
	benchAccounts, benchTokens = 100, 50
	benchPassword              = "a password for measuring"
)

// portalProcess is an usher in a process of its own, with the portal, beside a real Prosody.
type portalProcess struct {
	*testing.B
	server *prosodytest.Server
	base   string // of the portal
	cmd    *exec.Cmd
	client http.Client
}

// newPortalProcess starts usher with benchAccounts accounts, all of them with one password. It believes X-Forwarded-For of this machine.
func newPortalProcess(b *testing.B) *portalProcess {
	b.Helper()
	staged(b)
	server := prosodytest.Start(b, prosodytest.Options{Config: strings.ReplaceAll(demoProsody, "{component.secret}", componentSecret), LogLevel: "warn"})
	p := &portalProcess{B: b, server: server}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	hash, err := passhash.New(benchPassword)
	if err != nil {
		b.Fatal(err)
	}
	text := strings.ReplaceAll(demoUsher, "{server}", server.ComponentAddr) + "ops: {listen: off}\nportal:\n  listen: " + at + "\n  public_url: http://" + at +
		"\n  meet_urls: [https://meet.example.com]\n  trusted_proxies: [127.0.0.1]\n  users:\n"
	for n := range benchAccounts {
		text += fmt.Sprintf("    - {name: host%d, password_hash: %q, rooms: [\"*\"]}\n", n, hash.String())
	}
	write(b, "usher.yaml", text)
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	log := newLive()
	p.base = "http://" + at
	p.client = http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	p.cmd = exec.Command(self, "serve", "-c", "usher.yaml")
	p.cmd.Env = append(os.Environ(), asUsher+"=1")
	p.cmd.Stderr = log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		p.client.CloseIdleConnections()
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
		if b.Failed() {
			b.Logf("the log of usher:\n%s", prosodytest.Tail(log.String()))
		}
	})
	for late := time.After(time.Minute); !strings.Contains(log.String(), "usher answers the portal at ") || !strings.Contains(log.String(), "connected"); {
		select {
		case <-log.more:
		case <-late:
			b.Fatal("usher does not begin")
		}
	}
	return p
}

// do asks the portal, as the proxy of somebody at an address, and returns the answer without its body.
func (p *portalProcess) do(method, path, from, cookie string, form url.Values) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Forwarded-For", from)
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	answer, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer, err
}

// login logs the account of a number in, and returns the cookie of its session.
func (p *portalProcess) login(n int) (cookie string) {
	p.Helper()
	answer, err := p.do(http.MethodPost, "/login", "192.0.2.1", "", url.Values{"name": {fmt.Sprintf("host%d", n)}, "password": {benchPassword}})
	if err != nil || answer.StatusCode != http.StatusSeeOther {
		p.Fatal(answer, err)
	}
	for _, c := range answer.Cookies() {
		if strings.HasSuffix(c.Name, "usher") {
			cookie = c.Name + "=" + c.Value
		}
	}
	if cookie == "" {
		p.Fatalf("no cookie for a session: %v", answer.Cookies())
	}
	return cookie
}

// BenchmarkPortal measures the portal of an usher in a process of its own, beside a real Prosody.
func BenchmarkPortal(b *testing.B) {
	p := newPortalProcess(b)
	b.Run("mint", p.mints)
	b.Run("login", p.logins)
	ask := p.guests()
	for _, one := range []bool{true, false} {
		b.Run(map[bool]string{true: "flood-one", false: "flood-many"}[one], func(b *testing.B) { p.floods(b, ask, one) })
	}
}

// mints measures how many tokens a second are minted for hosts who are logged in, as tokenAuthUrl has it: four at a time.
func (p *portalProcess) mints(b *testing.B) {
	if b.N > benchAccounts*benchTokens {
		b.Skipf("at most %d tokens: give -benchtime as a number", benchAccounts*benchTokens)
	}
	var sessions []string
	for n := range (b.N + benchTokens - 1) / benchTokens {
		sessions = append(sessions, p.login(n))
	}
	before := cpuOf(b, p.cmd.Process.Pid)
	var g errgroup.Group
	g.SetLimit(4)
	b.ResetTimer()
	for n := range b.N {
		g.Go(func() error {
			answer, err := p.do(http.MethodGet, fmt.Sprintf("/login?room=room%d", n), "192.0.2.1", sessions[n%len(sessions)], nil)
			if err == nil && !strings.Contains(answer.Header.Get("Location"), "?jwt=") {
				err = fmt.Errorf("no token: %s", answer.Status)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(float64((cpuOf(b, p.cmd.Process.Pid)-before).Microseconds())/float64(b.N), "cpu-µs/token")
}

// logins measures what a login with a right password costs, one after the other.
func (p *portalProcess) logins(b *testing.B) {
	before := cpuOf(b, p.cmd.Process.Pid)
	for n := range b.N {
		p.login(n % benchAccounts)
	}
	b.ReportMetric(float64((cpuOf(b, p.cmd.Process.Pid)-before).Microseconds())/1000/float64(b.N), "cpu-ms/login")
}

const (
	// floodRate is how many bad logins a second arrive, and askRate how many conference requests.
	floodRate, askRate = 200, 50
	// floodTurn is how long a turn takes, and floodRounds how many of each kind there are.
	floodTurn, floodRounds = 3 * time.Second, 7
	// floodRooms have a host inside. floodGuests ask for them.
	floodRooms, floodGuests = 10, 10
)

// floods measures how long guests of a real Prosody wait for the answer to a conference request, "idle", and while floodRate bad logins a
// second arrive at the portal, "flood". Both have turns of the same length; "ratio" is that of each two turns, and should be below 2 for p99.
// All are medians of the turns. The bad logins are for one account from one address, or each for another name from another network.
// "hashed/s" is how many passwords were hashed: the others get 429 or 503 before that.
func (p *portalProcess) floods(b *testing.B, ask func(*testing.B) [2]float64, one bool) {
	b.ReportMetric(0, "ns/op")
	var idle, flooded, ratio [2][]float64
	status := map[int]int{}
	var took time.Duration
	ask(b) // finds all cold
	for range b.N {
		for range floodRounds {
			i := ask(b)
			stop := p.badLogins(b, one, status)
			began := time.Now()
			f := ask(b)
			took += time.Since(began)
			stop()
			for n := range i {
				idle[n], flooded[n], ratio[n] = append(idle[n], i[n]), append(flooded[n], f[n]), append(ratio[n], f[n]/i[n])
			}
		}
	}
	for n, part := range []string{"p50", "p99"} {
		b.ReportMetric(middleOf(idle[n]), "idle-"+part+"-ms")
		b.ReportMetric(middleOf(flooded[n]), "flood-"+part+"-ms")
		b.ReportMetric(middleOf(ratio[n]), "ratio-"+part)
	}
	b.ReportMetric(float64(status[http.StatusUnauthorized])/took.Seconds(), "hashed/s")
	b.Logf("answers by status: %v", status)
}

// middleOf returns the median.
func middleOf(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// guests has a host come into each room. The function asks for a turn, and returns p50 and p99 of the answers in milliseconds.
func (p *portalProcess) guests() (ask func(*testing.B) [2]float64) {
	p.Helper()
	ctx := p.Context()
	room := func(n int) string { return fmt.Sprintf("bench%d@conference.meet.example.com", n) }
	asks := func(c *prosodytest.Client, room, token string) error {
		s, err := c.IQ(ctx, "set", demoScene.focus, "<conference xmlns='http://jitsi.org/protocol/focus' room='"+room+"' machine-uid='0123456789abcdef'"+token+"/>")
		if err == nil && s.Find("conference", "http://jitsi.org/protocol/focus").Attr["ready"] != "true" {
			err = fmt.Errorf("not let in: %s", s)
		}
		return err
	}
	for n := range floodRooms {
		host := p.server.Client(p.B, prosodytest.ClientOptions{Host: "meet.example.com"})
		answer, err := p.do(http.MethodGet, fmt.Sprintf("/login?room=bench%d", n), "192.0.2.1", p.login(n), nil)
		if err != nil {
			p.Fatal(err)
		}
		to, err := url.Parse(answer.Header.Get("Location"))
		if err != nil {
			p.Fatal(err)
		}
		if err := asks(host, room(n), " token='"+to.Query().Get("jwt")+"'"); err != nil {
			p.Fatal(err)
		}
		if s, err := host.Join(ctx, room(n), "host"); err != nil || s.Attr["type"] == "error" {
			p.Fatal(s, err)
		}
	}
	var guests []*prosodytest.Client
	for range floodGuests {
		guests = append(guests, p.server.Client(p.B, prosodytest.ClientOptions{Host: "guest.meet.example.com"}))
	}
	return func(b *testing.B) [2]float64 {
		took := make([]time.Duration, askRate*int(floodTurn/time.Second))
		var g errgroup.Group
		paced(len(took), askRate, func(n int) {
			g.Go(func() error {
				began := time.Now()
				err := asks(guests[n%floodGuests], room(n/floodGuests%floodRooms), "")
				took[n] = time.Since(began)
				return err
			})
		})
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		slices.Sort(took)
		at := func(part float64) float64 { return took[int(part*float64(len(took)-1))].Seconds() * 1000 }
		return [2]float64{at(.5), at(.99)}
	}
}

// paced calls do n times, so many times a second.
func paced(n, rate int, do func(n int)) {
	began := time.Now()
	for i := range n {
		<-time.After(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		do(i)
	}
}

// badLogins sends logins with a wrong password until it is stopped, and counts the answers by their status.
func (p *portalProcess) badLogins(b *testing.B, one bool, status map[int]int) (stop func()) {
	done := make(chan struct{})
	var all sync.WaitGroup
	var mu sync.Mutex
	all.Go(func() {
		tick := time.NewTicker(time.Second / floodRate)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			all.Go(func() {
				name, from := fmt.Sprintf("host%d", benchAccounts-1), "198.51.100.1"
				if !one {
					n := time.Now().UnixNano()
					name, from = fmt.Sprintf("nobody%d", n), fmt.Sprintf("2001:db8:%x:%x::1", n>>16&0xffff, n&0xffff)
				}
				answer, err := p.do(http.MethodPost, "/login", from, "", url.Values{"name": {name}, "password": {"not the password"}})
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					b.Error(err)
					return
				}
				status[answer.StatusCode]++
			})
		}
	})
	return func() { close(done); all.Wait() }
}
