package prosodytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv("PROSODYTEST_ORPHAN") != "" {
		runUntilKilled()
	}
	goleak.VerifyTestMain(m)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Server){"stopped": (*Server).Stop, "killed": (*Server).Kill, "running": func(*Server) {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := Start(t, Options{Config: small, Users: map[string]string{"juliet@users.example.com": "balcony"}})
			romeo := s.Client(t, ClientOptions{Host: "meet.example.com"})
			version, addr := s.Version(), s.C2SAddr
			end(s)
			if name == "stopped" {
				romeo.Receives(`<stream:error><system-shutdown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>`)
			}
			if name != "running" {
				if _, err := s.Dial(t.Context(), ClientOptions{Host: "meet.example.com"}); err == nil {
					t.Error("connected to a stopped server")
				}
			}
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			<-romeo.Done()
			if s.Version() != version || s.C2SAddr != addr {
				t.Errorf("now %s at %s; was %s at %s", s.Version(), s.C2SAddr, version, addr)
			}
			s.Client(t, ClientOptions{Host: "users.example.com", User: "juliet", Password: "balcony"})
		})
	}
}

func TestRestartPortTaken(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Config: small})
	s.Kill()
	l, err := net.Listen("tcp", s.ComponentAddr)
	if err != nil {
		t.Skip("another process has taken the port:", err)
	}
	if err := s.Restart(t.Context()); !errors.Is(err, errPortTaken) {
		t.Errorf("got %v, want %v", err, errPortTaken)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Config: small})
	c := s.Client(t, ClientOptions{Host: "meet.example.com"})
	s.Pause()
	if err := c.Sync(timeout(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an answer from a paused server: %v", err)
	}
	if _, err := s.Dial(timeout(t, 50*time.Millisecond), ClientOptions{Host: "meet.example.com"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("login at a paused server: %v", err)
	}
	s.Resume()
	if err := c.Sync(timeout(t, defaultTimeout)); err != nil {
		t.Error(err)
	}
	s.Pause()
	s.Stop() // also stops a paused server
}

// TestPorts shows that every port is on the loopback interface.
func TestPorts(t *testing.T) {
	t.Parallel()
	s := Start(t, Options{Config: `c2s_ports = { 5222 } http_interfaces = { "*" } modules_disabled = {}` + small})
	for _, line := range strings.Split(s.Log(), "\n") {
		if _, ports, ok := strings.Cut(line, "Activated service "); ok && !strings.HasSuffix(ports, "on no ports") {
			if strings.Count(ports, "]:") != strings.Count(ports, "[127.0.0.1]:") || strings.Contains(ports, ":5222") {
				t.Errorf("listens elsewhere: %s", ports)
			}
		}
		if strings.Contains(line, "\terror\t") || strings.Contains(line, "\twarn\t") {
			t.Error(line)
		}
	}
	for _, url := range []string{s.URL + "/xmpp-websocket", s.BOSHURL} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, resp.Status)
		}
	}
	http.DefaultClient.CloseIdleConnections()
}

func TestRun(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Options{Prosody: filepath.Join(t.TempDir(), "prosody")}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want %v", err, ErrNotFound)
	}
	Need(t)
	s, err := Run(t.Context(), Options{Config: small, LogLevel: "warn"})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.Log(), "\tdebug\t") {
		t.Error("debug lines in a log of warnings")
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
	for config, want := range map[string]string{
		`VirtualHost "`:                       "test.cfg.lua",
		`VirtualHost "a" Component "a" "muc"`: "clashes",
	} {
		if _, err := Run(t.Context(), Options{Config: config}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %s got %v, want an error with %s", config, err, want)
		}
	}
	if _, err := Run(t.Context(), Options{Config: small, Users: map[string]string{"a@b.example": "c"}}); err == nil || !strings.Contains(err.Error(), "no host for the user a@b.example") {
		t.Errorf("with a user of an unknown host: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Run(ctx, Options{Config: small}); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v", err)
	}
}

func TestStartWithoutProsody(t *testing.T) {
	start := func(f *fake) { Start(f, Options{Prosody: filepath.Join(t.TempDir(), "prosody")}) }
	for required, want := range map[string]string{"": "skipped", "1": "failed"} {
		t.Setenv("PROSODYTEST_REQUIRED", required)
		if got := during(t, start).outcome; got != want {
			t.Errorf("with PROSODYTEST_REQUIRED=%q: %s, want %s", required, got, want)
		}
	}
}

// TestNoProsodyWanted shows that the name none in the environment skips tests, although there may be a Prosody on PATH.
func TestNoProsodyWanted(t *testing.T) {
	t.Setenv("PROSODYTEST_REQUIRED", "")
	t.Setenv("PROSODYTEST_PROSODY", "none")
	if f := during(t, func(f *fake) { Start(f, Options{}) }); f.outcome != "skipped" || !strings.Contains(f.said, "PROSODYTEST_PROSODY is none") {
		t.Errorf("Start %s: %s", f.outcome, f.said)
	}
	if f := during(t, func(f *fake) { Need(f) }); f.outcome != "skipped" {
		t.Errorf("Need %s: %s", f.outcome, f.said)
	}
	if f := during(t, func(f *fake) { Source(f) }); f.outcome != "skipped" {
		t.Errorf("Source %s: %s", f.outcome, f.said)
	}
}

// Each test that needs a server is noted by its package and its own name, so that it runs against each version.
func TestUseIsNoted(t *testing.T) {
	notes := filepath.Join(t.TempDir(), "notes")
	t.Setenv(envUsed, notes)
	t.Setenv("PROSODYTEST_REQUIRED", "")
	t.Setenv("PROSODYTEST_PROSODY", "none")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	for _, needs := range []func(*testing.T){
		func(t *testing.T) { Start(t, Options{}) }, func(t *testing.T) { Need(t) }, func(t *testing.T) { Source(t) },
	} {
		t.Run("part", needs)
	}
	got, err := os.ReadFile(notes)
	if want := strings.Repeat(here+" TestUseIsNoted\n", 3); err != nil || string(got) != want {
		t.Errorf("noted %q (%v), want %q", got, err, want)
	}
}

func TestStartLogsFailure(t *testing.T) {
	t.Parallel()
	Need(t)
	f := during(t, func(f *fake) {
		s := Start(f, Options{Config: small})
		s.Client(f, ClientOptions{Host: "nowhere.example.com"})
	})
	for _, want := range []string{"host-unknown", "the end of Prosody's log", "nowhere.example.com"} {
		if !strings.Contains(f.said, want) {
			t.Errorf("%s: lacks %q: %s", f.outcome, want, f.said)
		}
	}
	if n := strings.Count(f.said, "\n"); n > tailLines+10 {
		t.Errorf("the report has %d lines", n)
	}
}

func TestTail(t *testing.T) {
	var log strings.Builder
	for n := range 1000 {
		fmt.Fprintf(&log, "%d %s\n", n, strings.Repeat("ä", n))
	}
	got := strings.Split(Tail(log.String()), "\n")
	if len(got) != tailLines+2 || got[0] != "(950 earlier lines are left out)" || !strings.HasPrefix(got[1], "950 ä") || len(got[1]) > tailWidth+4 ||
		!strings.HasPrefix(got[50], "999 ä") || got[51] != "" {
		t.Errorf("%d lines: %q", len(got), got)
	}
	for log, want := range map[string]string{"": "\n", "a": "a\n", "a\nb\n": "a\nb\n"} {
		if got := Tail(log); got != want {
			t.Errorf("%q became %q", log, got)
		}
	}
}

// TestOrphan shows that Prosody does not outlive a killed test.
func TestOrphan(t *testing.T) {
	t.Parallel()
	Start(t, Options{Config: small}) // or skip
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PROSODYTEST_ORPHAN=1")
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := conn.SetReadDeadline(time.Now().Add(defaultTimeout)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Prosody still runs: %v", err)
	}
}

func runUntilKilled() {
	s, err := Run(context.Background(), Options{Config: small})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(s.C2SAddr, s.Dir)
	_, _ = io.Copy(io.Discard, os.Stdin)
	select {}
}
