package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/config"
)

// systemd is what a unit's process tells: each message in its order.
type systemd struct {
	*testing.T
	said chan string
}

// underSystemd sets the environment as systemd does for a unit with a watchdog.
func underSystemd(t *testing.T, watchdog time.Duration) *systemd {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &systemd{t, make(chan string, 1000)}
	go func() {
		for buf := make([]byte, 1<<12); ; {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			s.said <- string(buf[:n])
		}
	}()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", strconv.FormatInt(watchdog.Microseconds(), 10))
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	return s
}

// hears returns the first message that begins so, and fails the test if another one comes first that is no sign of life.
func (s *systemd) hears(prefix string) string {
	s.Helper()
	for late := time.After(time.Minute); ; {
		select {
		case said := <-s.said:
			switch {
			case strings.HasPrefix(said, prefix):
				return said
			case !strings.HasPrefix(said, "WATCHDOG=1"):
				s.Fatalf("usher says %q instead of %s", said, prefix)
			}
		case <-late:
			s.Fatalf("usher does not say %s", prefix)
		}
	}
}

// TestNotify checks what usher tells systemd, without a server: it is ready all the same.
func TestNotify(t *testing.T) {
	staged(t)
	s := underSystemd(t, 400*time.Millisecond)
	t.Setenv("USHER_XMPP_SERVER", "127.0.0.1:1")
	t.Setenv("USHER_STORE_PATH", "usher.db")
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	if said := s.hears("READY=1"); !strings.Contains(said, "\nSTATUS=connecting to 127.0.0.1:1") {
		t.Errorf("%q", said)
	}
	if said := s.hears("WATCHDOG=1"); !strings.Contains(said, "\nSTATUS=not connected to 127.0.0.1:1") {
		t.Errorf("%q", said)
	}
	content, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", string(content)+"\n# changed\n")
	if said := s.hears("RELOADING=1"); !strings.Contains(said, "\nMONOTONIC_USEC=") {
		t.Errorf("%q", said)
	}
	s.hears("READY=1")
	write(t, "usher.yaml", "no configuration") // which changes nothing, and usher is ready again
	s.hears("RELOADING=1")
	s.hears("READY=1")
	if status := end(); status != 0 {
		t.Errorf("ended with %d:\n%s", status, stderr)
	}
	s.hears("STOPPING=1")
}

// TestNotifyStandby checks that an usher that stands by is ready as well.
func TestNotifyStandby(t *testing.T) {
	staged(t)
	t.Setenv("USHER_XMPP_SERVER", "127.0.0.1:1")
	t.Setenv("USHER_STORE_PATH", "usher.db")
	first, second := newLive(), newLive()
	begin(t, first, first, "serve", "-c", "usher.yaml")
	first.until(t, "no connection", 1)
	s := underSystemd(t, 400*time.Millisecond)
	begin(t, second, second, "serve", "-c", "usher.yaml")
	if said := s.hears("READY=1"); !strings.Contains(said, "\nSTATUS=standing by") {
		t.Errorf("%q", said)
	}
	s.hears("WATCHDOG=1")
}

// TestNotifyHalt checks that an usher that has come to a halt gives no sign of life.
func TestNotifyHalt(t *testing.T) {
	s := underSystemd(t, 100*time.Millisecond)
	u := &serving{began: &config.Config{}, log: zap.NewNop()}
	u.mu.Lock() // as something that never ends would
	if err := u.alive(10 * time.Millisecond); err == nil {
		t.Error("a component with a lock that is held counts as alive")
	}
	stop := u.supervise(t.Context())
	select {
	case said := <-s.said:
		t.Errorf("usher says %q", said)
	case <-time.After(300 * time.Millisecond): // nothing else shows that nothing is said; less time would only prove less
	}
	u.mu.Unlock()
	s.hears("WATCHDOG=1")
	stop()
}

// TestMisconfigured checks the exit status by which usher.service does not start usher again.
func TestMisconfigured(t *testing.T) {
	staged(t)
	write(t, "usher.yaml", "# nothing yet\n")
	if r := command(t, "", "serve", "-c", "usher.yaml"); r.status != statusMisconfigured || !strings.Contains(r.stderr, "xmpp.domain") {
		t.Errorf("%d: %s", r.status, r.stderr)
	}
}
