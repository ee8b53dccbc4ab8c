package redistest

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func want(t *testing.T, s *Server, answer string, args ...string) {
	t.Helper()
	if got, err := s.Do(args...); err != nil || got != answer {
		t.Fatalf("%q answers %q, %v; want %q", args, got, err, answer)
	}
}

// TestRestart: data is there again, unless it was lost.
func TestRestart(t *testing.T) {
	s := Start(t, Options{})
	addr := s.Addr()
	want(t, s, "OK", "SET", "a", "1")
	for _, how := range []func(){s.Stop, s.Kill, func() {}} {
		how()
		s.Restart()
		want(t, s, "1", "EXISTS", "a")
	}
	s.Lose()
	if _, err := s.Do("PING"); err == nil {
		t.Error("a killed server answers")
	}
	s.Restart()
	want(t, s, "0", "EXISTS", "a")
	if s.Addr() != addr {
		t.Errorf("it has moved from %s to %s", addr, s.Addr())
	}
}

func TestPause(t *testing.T) {
	s := Start(t, Options{})
	s.Pause()
	conn, err := net.Dial("tcp4", s.Addr())
	if err != nil {
		t.Fatalf("a paused server refuses connections: %v", err)
	}
	conn.Close()
	s.Resume()
	want(t, s, "PONG", "PING")
	s.Pause()
	s.Stop()
}

func TestCluster(t *testing.T) {
	s := Start(t, Options{Cluster: true})
	want(t, s, "OK", "SET", "a", "1")
	s.Restart()
	want(t, s, "1", "EXISTS", "a")
}

func TestConfig(t *testing.T) {
	s := Start(t, Options{Config: "maxclients 7", Configure: func(s *Server) string {
		return "unixsocket " + filepath.Join(s.Dir, "redis.sock")
	}})
	if info, err := os.Stat(filepath.Join(s.Dir, "redis.sock")); err != nil || info.Mode().Type() != os.ModeSocket {
		t.Errorf("the socket: %v, %v", info, err)
	}
	if !strings.Contains(s.Log(), "Ready to accept connections") {
		t.Errorf("the log is %q", s.Log())
	}
	if _, err := s.Do("NONSENSE"); err == nil || !strings.Contains(err.Error(), "unknown command") {
		t.Errorf("an unknown command: %v", err)
	}
}
