package prosodytest

import (
	"bufio"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/xmpp-usher/usher/config/gate"
)

const (
	startTimeout = time.Minute
	stopTimeout  = 5 * time.Second

	// OwnHost is a virtual host that every Server has beside those of the test. It carries the HTTP endpoints and the module
	// that reports when Prosody is ready, so that neither depends on the test's configuration. Nobody can own the name
	// (RFC 6761 §6.4).
	OwnHost = "prosodytest.invalid"
)

// ErrNotFound is the error of [Run], wrapped, if there is no Prosody, or no other [Program], to run.
var ErrNotFound = errors.New("program not found")

//go:embed lua
var lua embed.FS

// TB is the part of [testing.TB] that this package needs. Programs that use [Run] thus do not link the testing package.
type TB interface {
	Name() string
	Helper()
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
	Cleanup(func())
	Failed() bool
	TempDir() string
}

// Options say which Prosody to run, and how.
type Options struct {
	// Config is Lua as in prosody.cfg.lua: global options, if any, then virtual hosts and components. This package overrides
	// its ports, paths, interfaces and log. Config overrides lua/defaults.cfg.lua, such as plain text logins and
	// modules_enabled.
	Config string

	// Configure, if not nil, replaces Config. It is called once the addresses are chosen, and must itself make Prosody listen
	// for components: at the port of ComponentAddr, on addresses of 127.0.0.0/8.
	Configure func(s *Server) string

	// Users are the passwords of accounts by bare JID. Prosody creates them at each start, with the authentication and
	// storage of their virtual host.
	Users map[string]string

	// Prosody is the program. Empty means $PROSODYTEST_PROSODY, and if that is empty, prosody on PATH. The name "none" in
	// either place means that there is none.
	Prosody string

	// LogLevel is debug, info, warn or error. Empty means debug, which is too much for benchmarks.
	LogLevel string
}

// Program is an XMPP server that a [Server] runs: Prosody, or another one with the same clients (package ejabberdtest).
type Program interface {
	// Name is what messages call it.
	Name() string
	// Configure writes the configuration into the folder of the server, for its addresses. It is called again, with other
	// addresses, if a port was taken.
	Configure(s *Server) error
	// Command is how to start it. It must end when its standard input ends. It gets a pipe as file descriptor 3, and writes one
	// line there: "ready" and its version once it serves, "taken" and an address that another process has, or "error" and why.
	Command(s *Server) *exec.Cmd
	// Log is the name of its log in the folder.
	Log() string
}

// Server is a process of Prosody, or of another [Program]. Its addresses stay the same over restarts.
type Server struct {
	ComponentAddr string // host:port for components (XEP-0114)
	C2SAddr       string // host:port for clients over TCP (RFC 6120)
	URL           string // of the HTTP server, without a slash at the end
	WebSocketURL  string // for clients over WebSocket (RFC 7395)
	BOSHURL       string // for clients over BOSH (XEP-0124)
	Dir           string // configuration, data and log

	program Program
	tap     atomic.Pointer[func(who string, sent bool, stanza string)] // nil without one

	mu      sync.Mutex // held while the process is started or stopped
	process *process   // nil when stopped
	version string
}

// Start runs a Prosody until the test ends. Without a Prosody it skips the test, or fails it if PROSODYTEST_REQUIRED is 1
// in the environment. If the test fails, the end of Prosody's log goes to the test's log.
func Start(t TB, o Options) *Server {
	t.Helper()
	p, err := newProsody(o)
	mustHave(t, err)
	return StartProgram(t, p)
}

// StartProgram is [Start] for another program.
func StartProgram(t TB, p Program) *Server {
	t.Helper()
	s, err := run(context.Background(), t.TempDir(), p)
	mustHave(t, err)
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the end of %s's log:\n%s", p.Name(), Tail(s.Log()))
		}
	})
	return s
}

// Tap has listen called with each stanza that a client of the server sends or receives. who is the client's JID. Jicofo, which takes
// part in the component's work, and components are left out. Several goroutines call listen at once.
func (s *Server) Tap(listen func(who string, sent bool, stanza string)) { s.tap.Store(&listen) }

// Need skips the test if there is no Prosody, or fails it if PROSODYTEST_REQUIRED is 1. It is for tests that find their
// Prosody themselves; [Start] and [Source] need no Need.
func Need(t TB) {
	t.Helper()
	_, err := find("")
	mustHave(t, err)
}

// mustHave ends the test if there is an error: it skips it if the error is only that there is no Prosody, and none is
// required.
func mustHave(t TB, err error) {
	t.Helper()
	noteUse(t)
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound) && os.Getenv("PROSODYTEST_REQUIRED") != "1":
		t.Skipf("prosodytest: %v", err)
	default:
		t.Fatalf("prosodytest: %v", err)
	}
}

// envUsed names a file to which each test that needs a server is noted, as "folder test": the folder of its package. So "make test" knows
// which tests to run beside another Prosody. Empty means nowhere.
const envUsed = "PROSODYTEST_USED"

// folder is that of the package that is tested, also while a test is in another one.
var folder, _ = os.Getwd()

// noteUse notes a test that needs a server.
func noteUse(t TB) {
	t.Helper()
	name := os.Getenv(envUsed)
	if name == "" {
		return
	}
	test, _, _ := strings.Cut(t.Name(), "/")
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, folder, test) // one write, so that packages do not mix theirs
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatalf("prosodytest: %v", err)
	}
}

// Run is [Start] outside of a test: the caller closes the server. The context bounds the start only.
func Run(ctx context.Context, o Options) (*Server, error) {
	p, err := newProsody(o)
	if err != nil {
		return nil, err
	}
	return RunProgram(ctx, p)
}

// RunProgram is [Run] for another program.
func RunProgram(ctx context.Context, p Program) (*Server, error) {
	dir, err := os.MkdirTemp("", "prosodytest-")
	if err != nil {
		return nil, err
	}
	s, err := run(ctx, dir, p)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return s, nil
}

func run(ctx context.Context, dir string, p Program) (*Server, error) {
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		return nil, err
	}
	s := &Server{Dir: dir, program: p}
	// Another process can take a port after freePorts has found it free; new ports then help.
	for try := 1; ; try++ {
		if err := s.chooseAddresses(); err != nil {
			return nil, err
		}
		if err := p.Configure(s); err != nil {
			return nil, err
		}
		s.mu.Lock()
		err := s.start(ctx)
		s.mu.Unlock()
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, errPortTaken) || try == 5 {
			return nil, err
		}
	}
}

// find returns the path of the program of that name. An empty name means the default of Options.Prosody.
func find(name string) (string, error) {
	if name == "" {
		name = os.Getenv("PROSODYTEST_PROSODY")
	}
	if name == "" {
		name = "prosody"
	}
	if name == "none" {
		return "", fmt.Errorf("no Prosody: %w: PROSODYTEST_PROSODY is none", ErrNotFound)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no Prosody: %w: %w", ErrNotFound, err)
	}
	return path, nil
}

// chooseAddresses finds free ports, and notes the addresses.
func (s *Server) chooseAddresses() error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	s.C2SAddr, s.ComponentAddr = loopback(ports[0]), loopback(ports[1])
	s.URL = "http://" + loopback(ports[2])
	s.WebSocketURL = "ws" + strings.TrimPrefix(s.URL, "http") + "/xmpp-websocket"
	s.BOSHURL = s.URL + "/http-bind"
	return nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// Port is the port of an address of a [Server].
func Port(addr string) string {
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(addr, "http://"))
	return port
}

// prosody is the [Program] that this package is named after.
type prosody struct {
	o    Options
	path string
}

func newProsody(o Options) (prosody, error) {
	path, err := find(o.Prosody)
	return prosody{o, path}, err
}

func (prosody) Name() string { return "Prosody" }

func (prosody) Log() string { return "prosody.log" }

func (p prosody) Command(s *Server) *exec.Cmd {
	// Prosody shuts down when its standard input ends. lua/mod_prosodytest.lua writes the line.
	return exec.Command(p.path, "-F", "--config", filepath.Join(s.Dir, "prosody.cfg.lua"))
}

// Configure writes the defaults, then the test's configuration, then ours. Prosody reads each included file as if it began in the
// global section, and the last value of an option counts.
func (p prosody) Configure(s *Server) error {
	config := p.o.Config
	if p.o.Configure != nil {
		config = p.o.Configure(s)
	}
	var copied error
	if _, err := os.Stat(filepath.Join(s.Dir, "lua")); err != nil {
		copied = os.CopyFS(s.Dir, lua)
	}
	return errors.Join(
		copied,
		s.Write("test.cfg.lua", config),
		s.Write("private.cfg.lua", s.private(p.o)),
		s.Write("prosody.cfg.lua", `Include "lua/defaults.cfg.lua"; Include "test.cfg.lua"; Include "private.cfg.lua"`+"\n"),
	)
}

// private is the part of the configuration that no test may change, and OwnHost.
func (s *Server) private(o Options) string {
	var b strings.Builder
	set := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%s = "+format+"\n", append([]any{name}, args...)...)
	}
	path := func(name string) string { return gate.Quote(filepath.Join(s.Dir, name)) }
	set("run_as_root", "true") // without this Prosody refuses to run as root
	set("daemonize", "false")
	set("pidfile", path("prosody.pid"))
	set("data_path", path("data"))
	set("certificates", path("data"))
	set("installer_plugin_path", path("lua")) // leaves plugin_paths to the test
	set("log", "{ { levels = { min = %s }, to = %s, filename = %s, timestamps = true } }", gate.Quote(cmp.Or(o.LogLevel, "debug")), gate.Quote("file"), path("prosody.log"))
	for _, service := range []string{"", "local_", "c2s_", "http_"} {
		set(service+"interfaces", `{ "127.0.0.1" }`)
	}
	set("use_ipv6", "false")
	set("c2s_ports", "{ %s }", Port(s.C2SAddr))
	if o.Configure == nil {
		set("component_interfaces", `{ "127.0.0.1" }`)
		set("component_ports", "{ %s }", Port(s.ComponentAddr))
	}
	set("http_ports", "{ %s }", Port(s.URL))
	for _, service := range []string{"c2s_direct_tls", "legacy_ssl", "s2s", "s2s_direct_tls", "https", "proxy65"} {
		set(service+"_ports", "{}")
	}
	set("http_default_host", gate.Quote(OwnHost))

	fmt.Fprintf(&b, "\nVirtualHost %s\n", gate.Quote(OwnHost))
	set("authentication", gate.Quote("anonymous"))
	set("modules_enabled", `{ "prosodytest", "ping", "websocket", "bosh" }`)
	set("prosodytest_bound", "{ c2s = { %s }, component = { %s }, http = { %s } }", Port(s.C2SAddr), Port(s.ComponentAddr), Port(s.URL))
	set("prosodytest_users", "{")
	for _, jid := range slices.Sorted(maps.Keys(o.Users)) {
		fmt.Fprintf(&b, "\t[%s] = %s;\n", gate.Quote(jid), gate.Quote(o.Users[jid]))
	}
	b.WriteString("}\n")
	return b.String()
}

// Write writes a file into the folder of the server, for a [Program].
func (s *Server) Write(name, content string) error {
	return os.WriteFile(filepath.Join(s.Dir, name), []byte(content), 0o600)
}

// foundPorts are the ports that freePorts has found or tried.
var foundPorts sync.Map

// freePorts finds ports below those that the kernel gives to outgoing connections (32768 and up on Linux). Otherwise a
// client of a stopped server could occupy the port that the server needs again. It finds each once: a server may take seconds to listen,
// and its port is free while it is stopped.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		if _, found := foundPorts.LoadOrStore(port, true); found {
			continue
		}
		l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		defer l.Close()
		if ports = append(ports, port); len(ports) == n {
			return ports, nil
		}
	}
	return nil, errors.New("no free ports on 127.0.0.1")
}

// process is one run of Prosody. Its only goroutine ends with it.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	exited chan struct{}
}

var errPortTaken = errors.New("port taken by another process")

// start runs Prosody, and returns once it serves. The caller holds s.mu.
func (s *Server) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	p, ready, err := s.launch()
	if err != nil {
		return err
	}
	defer ready.Close()
	version, err := isReady(ctx, ready)
	if err == nil {
		s.process, s.version = p, version
		return nil
	}
	p.signal(syscall.SIGKILL)
	<-p.exited
	output, _ := os.ReadFile(s.output())
	if strings.Contains(string(output)+s.Log(), "eaddrinuse") { // as Erlang says it
		err = fmt.Errorf("%w: %w", errPortTaken, err)
	}
	return fmt.Errorf("starting %s: %w\n%s%s", s.program.Name(), err, Tail(string(output)), Tail(s.Log()))
}

// output is the file that takes what Prosody prints before it logs.
func (s *Server) output() string { return filepath.Join(s.Dir, "output.txt") }

// launch starts the process. ready ends when the process does.
func (s *Server) launch() (p *process, ready *os.File, err error) {
	output, err := os.OpenFile(s.output(), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, nil, err
	}
	defer output.Close()
	ready, theirs, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	defer theirs.Close() // Prosody has its own copy

	cmd := s.program.Command(s)
	cmd.Dir = s.Dir
	cmd.Stdout, cmd.Stderr = output, output
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// The program ends when its standard input does, and so also when this process ends.
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, nil, errors.Join(err, ready.Close())
	}
	p = &process{cmd: cmd, stdin: stdin, exited: make(chan struct{})}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait() // its status says nothing: usually we end it by a signal
	}()
	return p, ready, nil
}

// isReady waits for the line of [Program.Command], and returns the version.
func isReady(ctx context.Context, ready *os.File) (version string, err error) {
	stop := context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Now()) })
	defer stop()
	line, err := bufio.NewReader(ready).ReadString('\n')
	word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch {
	case word == "ready":
		return rest, nil
	case word == "taken":
		return "", fmt.Errorf("%s: %w", rest, errPortTaken)
	case word == "error":
		return "", errors.New(rest)
	case errors.Is(err, io.EOF):
		return "", errors.New("the process ended")
	case err == nil:
		return "", fmt.Errorf("it reports %q", line)
	}
	return "", cmp.Or(ctx.Err(), err)
}

// signal also reaches processes that Prosody has started. It does nothing once Prosody has ended: the number of an ended
// process may belong to another.
func (p *process) signal(sig syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}

// Close kills Prosody and removes its folder. A test that used [Start] need not call it.
func (s *Server) Close() error {
	s.Kill()
	return os.RemoveAll(s.Dir)
}

// Stop shuts Prosody down in good order: it sends system-shutdown to every client. Prosody 0.12 takes a second for this.
// After five seconds Stop kills it.
func (s *Server) Stop() {
	s.end(func(p *process) {
		_ = p.stdin.Close()
		p.signal(syscall.SIGCONT) // in case it is paused
		timer := time.NewTimer(stopTimeout)
		defer timer.Stop()
		select {
		case <-p.exited:
		case <-timer.C:
			p.signal(syscall.SIGKILL)
		}
	})
}

// Kill ends Prosody at once (SIGKILL).
func (s *Server) Kill() {
	s.end(func(p *process) { p.signal(syscall.SIGKILL) })
}

func (s *Server) end(how func(*process)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return
	}
	how(s.process)
	<-s.process.exited
	s.process = nil
}

// Restart starts Prosody again, with the same ports, configuration and data. If it still runs, Restart stops it first, as
// [Server.Stop] does.
func (s *Server) Restart(ctx context.Context) error {
	s.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 1; ; try++ {
		err := s.start(ctx)
		if !errors.Is(err, errPortTaken) || try == 5 {
			return err
		}
		select { // another test may only be trying the port, as freePorts does
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// Pause halts Prosody (SIGSTOP): connections stay and the kernel accepts new ones, but Prosody answers nothing.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a pause (SIGCONT).
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		s.process.signal(sig)
	}
}

// Version is the version of Prosody, such as "0.12.3".
func (s *Server) Version() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// Log is Prosody's log so far, over all restarts.
func (s *Server) Log() string {
	log, _ := os.ReadFile(filepath.Join(s.Dir, s.program.Log()))
	return string(log)
}

const tailLines, tailWidth = 50, 400

// Tail is the part of a log that a failing test shows: the first 400 bytes of each of the last fifty lines. More would bury
// the reason of the failure.
func Tail(log string) string {
	lines := strings.Split(strings.TrimRight(log, "\n"), "\n")
	var b strings.Builder
	if left := len(lines) - tailLines; left > 0 {
		fmt.Fprintf(&b, "(%d earlier lines are left out)\n", left)
		lines = lines[left:]
	}
	for _, line := range lines {
		if len(line) > tailWidth {
			line = strings.ToValidUTF8(line[:tailWidth], "") + " ..."
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}
