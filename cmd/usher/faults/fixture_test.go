//go:build linux

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/redistest"
	"github.com/xmpp-usher/usher/pkg/secrettest"
	"github.com/xmpp-usher/usher/pkg/token"
)

const (
	domain  = "meet.example.com"
	focus   = "focus." + domain
	service = "conference." + domain
	guests  = "guest." + domain

	componentSecret = "a secret of the component, not short"
	appSecret       = "a secret of the tokens, which is long"
	issuer          = "my_app"

	// pollEvery is how often the observer looks at each room.
	pollEvery = time.Second
	// callWithin is how long one look or probe may take before the next attempt.
	callWithin = 15 * time.Second
)

// site is a private Prosody with usher beside it, and the cast that uses it, for one series of faults.
type site struct {
	*prosodytest.Server
	t      *testing.T
	combo  combo
	ledger *ledger
	jicofo *prosodytest.Jicofo // nil if usher is the focus itself
	usher  *process            // of two, the active one; see roles
	dir    string              // with usher.yaml, and in state, the store
	small  bool                // state is a small file system of its own
	hidden *secrettest.Secrets // what neither logs nor answers may have

	// With two ushers:
	other   *process          // the one that stands by
	redis   *redistest.Server // which they share
	records store.Store       // the store in it
	crowd   sync.WaitGroup    // the people of joins

	mu       sync.Mutex
	observer *prosodytest.Observer
	probe    *prosodytest.Client // pings usher
	watched  []string            // rooms that the observer looks at
	persons  int                 // the number of actors and rooms so far, for their names
}

func newSite(t *testing.T, c combo, binary string) *site {
	t.Helper()
	o := prosodytest.JitsiOptions{Secret: componentSecret}
	options := o.Options()
	options.Prosody, options.LogLevel = c.prosody, "warn"
	if c.pair {
		options.Config = strings.Replace(options.Config, "component_secret =", "component_conflict_resolve = \"kick_old\"\ncomponent_secret =", 1)
	}
	s := &site{t: t, combo: c, Server: prosodytest.Start(t, options), ledger: newLedger(), dir: t.TempDir(),
		hidden: new(secrettest.Secrets)}
	s.hidden.Plant("the secret of the component", componentSecret)
	s.hidden.Plant("the secret of the tokens", appSecret)
	s.Tap(s.hidden.Tap)
	if c.jicofo {
		s.jicofo = s.Jicofo(t, o.Jicofo())
	}
	s.usher = s.newUsher(binary, "usher")
	if c.pair {
		s.shares(binary)
	} else {
		s.keeps()
	}
	if err := s.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.disconnect)
	return s
}

// newUsher is one more usher of the site, which has not started.
func (s *site) newUsher(binary, name string) *process {
	u := &process{
		name: name, binary: binary, dir: s.dir, log: filepath.Join(s.dir, name+".log"), cable: prosodytest.NewCable(s.t, s.ComponentAddr),
		died: func(how string) { s.ledger.broken("%s", how) },
	}
	s.t.Cleanup(u.cleanUp)
	return u
}

// ushers are the ushers of the site.
func (s *site) ushers() []*process {
	if s.other == nil {
		return []*process{s.usher}
	}
	return []*process{s.usher, s.other}
}

// configure writes an usher's configuration.
func (s *site) configure(u *process, store string) {
	yaml := fmt.Sprintf(`xmpp: {server: %q, domain: %s, secret: %q}
rooms: {services: [%s], wait_hold: %s, wait_hold_jitsi: %s}
vhosts:
  %s: {kind: token, app_id: %s, app_secret: %q, leeway: %s}
  %s: {kind: guest}
store: {%s}
ops: {listen: off}
`, u.cable.Addr(), focus, componentSecret, service, waitHold, waitHoldJitsi, domain, issuer, appSecret, leeway, guests, store)
	if s.jicofo != nil {
		yaml = strings.Replace(yaml, "rooms: {", "rooms: {guard_interval: 1s, ", 1) + fmt.Sprintf("jicofo: {jid: %s}\n", s.jicofo.BareJID())
	}
	if err := os.WriteFile(filepath.Join(s.dir, u.name+".yaml"), []byte(yaml), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// keeps creates the folder of the store: a small file system if we may mount one.
func (s *site) keeps() {
	s.configure(s.usher, "path: state/usher.db")
	state := filepath.Join(s.dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		s.t.Fatal(err)
	}
	if syscall.Mount("tmpfs", state, "tmpfs", 0, "size=4m,mode=700") == nil {
		s.small = true
		s.t.Cleanup(func() { _ = syscall.Unmount(state, syscall.MNT_DETACH) })
	}
}

// connect connects the observer and the probe.
func (s *site) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	observer, err := s.DialObserver(ctx, prosodytest.JitsiOptions{}.Observer())
	if err != nil {
		return err
	}
	probe, err := s.Dial(ctx, prosodytest.ClientOptions{Host: guests})
	if err != nil {
		return errors.Join(err, observer.Close())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observer, s.probe = observer, probe
	return nil
}

func (s *site) disconnect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.observer.Close()
	s.probe.Kill()
}

func (s *site) tools() (*prosodytest.Observer, *prosodytest.Client) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.observer, s.probe
}

// serves waits until usher answers a ping, and reports whether it does in time.
func (s *site) serves(ctx context.Context, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for ctx.Err() == nil {
		_, probe := s.tools()
		one, done := context.WithTimeout(ctx, 2*time.Second) // the fault may have caught the ping
		a, err := probe.IQ(one, "get", focus, "<ping xmlns='urn:xmpp:ping'/>")
		done()
		if err == nil && a.Attr["type"] == "result" {
			return true
		}
		sleep(ctx, 50*time.Millisecond)
	}
	return false
}

// suffers runs a fault, which is over when do returns. It then waits until usher serves again, and records a finding if that takes
// too long.
func (s *site) suffers(ctx context.Context, within time.Duration, do func()) {
	end := s.ledger.outage()
	defer end()
	do()
	began := time.Now()
	if !s.serves(ctx, within) && ctx.Err() == nil {
		s.ledger.broken("usher does not serve %s after the end of the fault; its log ends with\n%s", time.Since(began).Round(time.Second), s.usher.tail())
		if !s.serves(ctx, time.Minute) && ctx.Err() == nil {
			s.ledger.broken("nor a minute later")
		}
	}
	s.ledger.note("", "", "usher serves, %s after the end of the fault", time.Since(began).Round(time.Millisecond))
}

// restart ends the server and starts it again. All clients then connect again. It returns when the server is back.
func (s *site) restart(ctx context.Context, end func(), pause time.Duration) (back time.Time) {
	end()
	sleep(ctx, pause)
	if err := s.Restart(context.WithoutCancel(ctx)); err != nil {
		s.t.Errorf("Prosody does not start again: %v", err)
		return time.Now()
	}
	back = time.Now()
	s.ledger.emptied()
	if err := s.connect(ctx); err != nil {
		s.t.Errorf("the observer does not come back: %v", err)
	}
	if s.jicofo != nil {
		if err := s.jicofo.Restart(ctx, ""); err != nil {
			s.t.Errorf("Jicofo does not come back: %v", err)
		}
	}
	return back
}

// watch makes the observer look at a room from now on.
func (s *site) watch(name string) (room string) {
	room = name + "@" + service
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.watched, room) {
		s.watched = append(s.watched, room)
	}
	return room
}

// observe looks at all watched rooms until ctx ends.
func (s *site) observe(ctx context.Context) {
	for ctx.Err() == nil {
		s.mu.Lock()
		rooms := slices.Clone(s.watched)
		s.mu.Unlock()
		for _, room := range rooms {
			_, _ = s.look(ctx, room)
		}
		sleep(ctx, pollEvery)
	}
}

// look is one look of the observer at a room, which the ledger judges.
func (s *site) look(ctx context.Context, room string) (prosodytest.RoomView, error) {
	observer, _ := s.tools()
	asked := time.Now()
	one, done := context.WithTimeout(ctx, callWithin)
	defer done()
	view, err := observer.Room(one, room)
	if now, _ := s.tools(); err == nil && now == observer {
		s.ledger.sees(room, view, asked)
	}
	return view, err
}

// settle waits until nobody outside has an affiliation, as long as that may take. The observer goes on meanwhile.
func (s *site) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leftAfter+joinWithin+3*pollSlack)
	defer cancel()
	for quiet := 0; quiet < 3 && ctx.Err() == nil; quiet++ {
		sleep(ctx, 2*pollEvery)
		if !s.ledger.nobodyOutside() {
			quiet = -1
		}
	}
}

// forged is the name in tokens that are signed with another secret.
const forged = "forged"

// mint returns a token for a room with this end. change, if not nil, changes the claims first.
func mint(room string, ends time.Time, change func(*token.Claims)) string {
	name, _, _ := strings.Cut(room, "@")
	c := token.Claims{
		Issuer: issuer, Audience: []string{"jitsi"}, Subject: domain, Room: name,
		Expires: ends, User: token.User{ID: "u", Affiliation: "owner"},
	}
	key := appSecret
	if change != nil {
		change(&c)
	}
	if c.User.Name == forged {
		key = "another secret, unknown to usher"
	}
	compact, err := token.Mint(c, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(key)})
	if err != nil {
		panic(err)
	}
	return compact
}

// keepsSecrets fails the test if a secret is in a log of usher, or in what a client has received.
func (s *site) keepsSecrets() {
	s.t.Helper()
	for _, u := range s.ushers() {
		log, err := os.ReadFile(u.log)
		if err != nil {
			s.t.Error(err)
		}
		s.hidden.Check(s.t, "the log of "+u.name, string(log))
	}
	s.hidden.CheckTap(s.t)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// process is usher's process. It can be started again and again.
type process struct {
	name, binary, dir, log string
	cable                  *prosodytest.Cable // to the server
	link                   *prosodytest.Cable // to the shared store; nil without one
	died                   func(how string)   // called when usher ends by itself

	mu    sync.Mutex
	from  int64 // the log's length when cmd was started, or was last looked at: see says
	cmd   *exec.Cmd
	ended chan struct{} // closed when cmd has ended
	meant bool          // the end is expected
}

// build builds usher.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "usher")
	cmd := exec.Command("go", "build", "-o", binary, "github.com/xmpp-usher/usher/cmd/usher")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

func (p *process) start() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.binary, "serve", "-c", filepath.Join(p.dir, p.name+".yaml"))
	cmd.Dir, cmd.Stderr, cmd.Stdout = p.dir, log, log
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "USHER_") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	from, _ := log.Seek(0, io.SeekEnd) // a file that was just opened
	p.mu.Lock()
	defer p.mu.Unlock()
	ended := make(chan struct{})
	p.cmd, p.ended, p.meant, p.from = cmd, ended, false, from
	go func() {
		err := cmd.Wait()
		p.mu.Lock()
		meant := p.meant
		p.mu.Unlock()
		if !meant {
			p.died(fmt.Sprintf("usher ended by itself: %v; its log ends with\n%s", err, p.tail()))
		}
		close(ended)
	}()
	return nil
}

// signal sends a signal to usher.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(sig) // if usher has ended by itself, died has reported it
}

// stop sends a signal and waits for usher's end. If that takes too long, stop kills usher and returns an error.
func (p *process) stop(sig syscall.Signal, within time.Duration) error {
	p.mu.Lock()
	p.meant = true
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	_ = cmd.Process.Signal(sig)
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		_ = cmd.Process.Signal(syscall.SIGQUIT) // makes the log show where it hangs
		select {
		case <-ended:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
		}
		return fmt.Errorf("usher has not ended %s after %s; its log ends with\n%s", within, sig, p.tail())
	}
	if status := cmd.ProcessState; sig != syscall.SIGKILL && !status.Success() {
		return fmt.Errorf("after %s usher ended with %s; its log ends with\n%s", sig, status, p.tail())
	}
	return nil
}

// end is closed when the last started process has ended.
func (p *process) end() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ended
}

func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// expect sets whether usher's end is expected.
func (p *process) expect(end bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meant = end
}

func (p *process) cleanUp() {
	if p.cmd != nil {
		p.expect(true)
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// tail returns the end of usher's log.
func (p *process) tail() string {
	log, err := os.ReadFile(p.log)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
	if n := len(lines) - 20; n > 0 {
		lines = lines[n:]
	}
	for i := range lines {
		if len(lines[i]) > 300 {
			lines[i] = lines[i][:300]
		}
	}
	return string(bytes.Join(lines, []byte("\n")))
}

// about returns the last n lines of usher's log that name a JID.
func (p *process) about(n int, jids ...string) string {
	log, _ := os.ReadFile(p.log)
	var lines []string
	for line := range strings.Lines(string(log)) {
		if slices.ContainsFunc(jids, func(j string) bool { return j != "" && strings.Contains(line, j) }) {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	if more := len(lines) - n; more > 0 {
		lines = lines[more:]
	}
	return strings.Join(lines, "\n")
}
