// Package redistest runs a private redis-server for one test, as [net/http/httptest] runs a private HTTP server.
//
// The server listens on 127.0.0.1 only, and keeps its data in a folder of the test. It writes each change to the disk before it
// answers (appendonly, appendfsync always), so that Restart after Kill finds all that was answered.
package redistest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// startTimeout is ample for a server without data on a busy machine.
const startTimeout = time.Minute

// Options say how the server runs. The zero value is a server without a password.
type Options struct {
	// Config has lines of redis.conf, which come after those of this package.
	Config string
	// Configure, if not nil, returns more such lines. It is called once, when the server has its address and folder.
	Configure func(s *Server) string
	// Cluster makes the server a cluster of one, which has all slots.
	Cluster bool
	// Sentinel makes the server a sentinel. Configure says what it watches.
	Sentinel bool
}

// Server is a redis-server process. Its address stays the same over restarts. Any goroutine may use it.
type Server struct {
	Port int
	Dir  string // configuration and data

	t       testing.TB
	program string
	o       Options

	mu      sync.Mutex // held while the process is started or stopped
	process *process   // nil when stopped
	log     log
}

// Start runs a server until the test ends. Without a redis-server it skips the test, or fails it if PROSODYTEST_REQUIRED is 1 in the
// environment. The program is $REDISTEST_REDIS, or redis-server on PATH; "none" means that there is none. If the test fails, the
// server's log goes to the test's log.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	program := os.Getenv("REDISTEST_REDIS")
	if program == "" {
		program = "redis-server"
	}
	program, err := exec.LookPath(program)
	switch {
	case err != nil && os.Getenv("PROSODYTEST_REQUIRED") != "1":
		t.Skipf("redistest: no redis-server found: %v", err)
	case err != nil:
		t.Fatalf("redistest: %v", err)
	}
	s := &Server{t: t, program: program, o: o, Dir: t.TempDir()}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			t.Logf("the log of redis-server:\n%s", s.Log())
		}
	})
	for range 10 { // another process may take the port in between
		if s.Port, err = freePort(); err != nil {
			break
		}
		if err = s.configure(); err != nil {
			break
		}
		if err = s.start(); !errors.Is(err, errPortTaken) {
			break
		}
	}
	if err != nil {
		t.Fatalf("redistest: %v", err)
	}
	return s
}

// Addr is the server's address, as host:port.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)) }

// URL is the server's address as a URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Log is what the server has logged so far, over all restarts.
func (s *Server) Log() string { return s.log.String() }

func (s *Server) configure() error {
	var b strings.Builder
	fmt.Fprintf(&b, "port %d\nbind 127.0.0.1\ndir %q\ndaemonize no\nlogfile \"\"\n", s.Port, s.Dir)
	if !s.o.Sentinel {
		b.WriteString("save \"\"\nappendonly yes\nappendfsync always\n")
	}
	if s.o.Cluster {
		// Its other port for the nodes of a cluster is 10,000 higher, unless cluster-port says otherwise.
		b.WriteString("cluster-enabled yes\ncluster-require-full-coverage no\n")
	}
	b.WriteString(s.o.Config + "\n")
	if s.o.Configure != nil {
		b.WriteString(s.o.Configure(s) + "\n")
	}
	return os.WriteFile(s.file(), []byte(b.String()), 0o600)
}

func (s *Server) file() string { return filepath.Join(s.Dir, "redis.conf") }

// freePort finds a port below those that the kernel gives to outgoing connections (32768 and up on Linux). Otherwise a client of a
// stopped server could occupy the port that the server needs again. The port of a cluster's nodes is free as well.
func freePort() (int, error) {
	for range 1000 {
		port := 12000 + rand.IntN(10000)
		a, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		b, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port+10000)))
		a.Close()
		if err != nil {
			continue
		}
		b.Close()
		return port, nil
	}
	return 0, errors.New("no free port on 127.0.0.1")
}

// process is one run of the server.
type process struct {
	cmd    *exec.Cmd
	guard  *exec.Cmd
	exited chan struct{}
}

var errPortTaken = errors.New("port taken by another process")

// start runs the server, and returns once it serves.
func (s *Server) start() error {
	args := []string{s.file()}
	if s.o.Sentinel {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(s.program, args...)
	cmd.Dir = s.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of the test run is not the server's
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, exited: make(chan struct{})}
	serves, taken, joined := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(p.exited)
		lines := bufio.NewScanner(out)
		var once, join sync.Once
		for lines.Scan() {
			s.log.add(lines.Text())
			switch line := lines.Text(); {
			case strings.Contains(line, "Ready to accept connections"), s.o.Sentinel && strings.Contains(line, "Sentinel ID is"):
				once.Do(func() { close(serves) })
			case strings.Contains(line, "Cluster state changed: ok"):
				join.Do(func() { close(joined) })
			case strings.Contains(line, "Address already in use"):
				once.Do(func() { close(taken) })
			}
		}
		_ = cmd.Wait() // its status says nothing: usually we end it by a signal
	}()
	if err := p.guarded(); err != nil {
		p.kill()
		return err
	}
	late := time.After(startTimeout)
	select {
	case <-serves:
	case <-taken:
		err = errPortTaken
	case <-p.exited:
		err = errors.New("redis-server ended")
	case <-late:
		err = errors.New("redis-server does not serve")
	}
	if err == nil && s.o.Cluster {
		// A node without any slot serves nothing. After the first start it has them already. A node waits two seconds before it serves.
		if _, err = s.Do("CLUSTER", "ADDSLOTSRANGE", "0", "16383"); err != nil && strings.Contains(err.Error(), "already busy") {
			err = nil
		}
		if err == nil {
			select {
			case <-joined:
			case <-late:
				err = errors.New("the cluster of one does not serve")
			}
		}
	}
	if err != nil {
		p.kill()
		return fmt.Errorf("%w\n%s", err, s.Log())
	}
	s.process = p
	return nil
}

// guarded starts a process that kills the server when this process ends without doing so.
func (p *process) guarded() error {
	p.guard = exec.Command("sh", "-c", `read _; kill -9 "$1"`, "sh", strconv.Itoa(p.cmd.Process.Pid))
	p.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := p.guard.StdinPipe(); err != nil {
		return err
	}
	return p.guard.Start()
}

// unguard ends the guard. The number of an ended process may belong to another.
func (p *process) unguard() {
	if p.guard.Process != nil {
		_ = p.guard.Process.Kill()
		_ = p.guard.Wait()
	}
}

func (p *process) kill() {
	p.unguard()
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// Stop shuts the server down in good order.
func (s *Server) Stop() {
	s.end(func(p *process) {
		p.unguard()
		_ = p.cmd.Process.Signal(syscall.SIGCONT) // in case it is paused
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.exited:
		case <-time.After(startTimeout):
			s.t.Errorf("redistest: the server does not stop")
			p.kill()
		}
	})
}

// Kill ends the server at once (SIGKILL).
func (s *Server) Kill() { s.end((*process).kill) }

func (s *Server) end(how func(*process)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		how(s.process)
		s.process = nil
	}
}

// Restart starts the server again, with the same port, configuration and data. If it still runs, Restart stops it first.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.start(); err != nil {
		s.t.Fatalf("redistest: starting again: %v", err)
	}
}

// Lose kills the server and deletes its data. Restart then starts an empty one.
func (s *Server) Lose() {
	s.t.Helper()
	s.Kill()
	for _, name := range []string{"appendonlydir", "dump.rdb"} {
		if err := os.RemoveAll(filepath.Join(s.Dir, name)); err != nil {
			s.t.Fatalf("redistest: %v", err)
		}
	}
}

// Pause halts the server (SIGSTOP): connections stay and the kernel accepts new ones, but the server answers nothing.
func (s *Server) Pause() { s.signal(syscall.SIGSTOP) }

// Resume ends a pause (SIGCONT).
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process != nil {
		_ = s.process.cmd.Process.Signal(sig)
	}
}

// Do runs one command at the server, as the default user over TCP, and returns the first line of the answer without its type.
func (s *Server) Do(args ...string) (string, error) {
	conn, err := net.DialTimeout("tcp4", s.Addr(), startTimeout)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(startTimeout)); err != nil {
		return "", err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	if _, err := conn.Write(b.Bytes()); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if strings.HasPrefix(line, "-") {
		return "", errors.New(line[1:])
	}
	return strings.TrimLeft(line, "+:$*"), nil
}

// log keeps the lines of a server's log.
type log struct {
	mu    sync.Mutex
	lines []string
}

func (l *log) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines[max(0, len(l.lines)-50):], "\n")
}
