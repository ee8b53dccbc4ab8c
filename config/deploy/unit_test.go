package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// TestUnit has systemd examine the unit.
func TestUnit(t *testing.T) {
	deploytest.Need(t, "systemd-analyze")
	content, err := os.ReadFile("debian/usher.service")
	if err != nil {
		t.Fatal(err)
	}
	// The program need not be installed here.
	unit := filepath.Join(t.TempDir(), "usher.service")
	text := strings.ReplaceAll(string(content), "/usr/bin/usher", "/bin/true")
	if err := os.WriteFile(unit, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if said := output(t, "systemd-analyze", "verify", "--man=no", unit); strings.Contains(said, "usher.service") {
		t.Error(said)
	}
	// 15 is 1.5 of 10. The command fails above it.
	said := output(t, "systemd-analyze", "security", "--offline=true", "--threshold=15", "debian/usher.service")
	t.Log(said[strings.Index(said, "Overall"):])
}

// systemCalls returns the names of a list as of SystemCallFilter=.
func systemCalls(t *testing.T, list string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for name := range strings.FieldsSeq(list) {
		if !strings.HasPrefix(name, "@") {
			all[name] = true
			continue
		}
		said := output(t, "systemd-analyze", "syscall-filter", name)
		_, said, _ = strings.Cut(said, "\n") // its first line is the name
		for line := range strings.Lines(said) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				maps.Copy(all, systemCalls(t, line))
			}
		}
	}
	return all
}

// TestUnitSystemCalls runs usher, and compares its system calls with those that the unit allows: a library may want others some day.
func TestUnitSystemCalls(t *testing.T) {
	deploytest.Need(t, "systemd-analyze", "strace")
	unit, err := os.ReadFile("debian/usher.service")
	if err != nil {
		t.Fatal(err)
	}
	allowed := systemCalls(t, "@default")
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(string(unit), -1) {
		for name := range systemCalls(t, m[2]) {
			if m[1] == "" {
				allowed[name] = true
			} else {
				delete(allowed, name)
			}
		}
	}
	program, folder := filepath.Join(unpacked(t), "usher"), t.TempDir()
	t.Chdir(folder)
	address := freeAddress(t)
	for name, content := range map[string]string{
		"component.secret": componentSecret, "app.secret": appSecret,
		"usher.yaml": minimal + fmt.Sprintf("ops: {listen: %q}\nstore: {path: usher.db}\naudit: {to: %s}\nadmin: {socket: usher.sock}\n", address, folder+"/audit.jsonl"),
	} {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	usher := exec.Command("strace", "-f", "-qq", "-o", "calls", program, "serve", "-c", "usher.yaml")
	usher.Env = append(os.Environ(), "USHER_XMPP_SERVER=127.0.0.1:1")
	var log said
	usher.Stderr = &log
	if err := usher.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	end := func(signal syscall.Signal) {
		if ended {
			return
		}
		ended = true
		// strace passes no signal on. The first call is that of the process that it has started.
		var pid int
		if calls, err := os.ReadFile("calls"); err == nil {
			if _, err := fmt.Sscan(string(calls), &pid); err == nil {
				_ = syscall.Kill(pid, signal)
			}
		}
		_ = usher.Wait()
	}
	defer end(syscall.SIGKILL)
	eventually(t, "usher serves", func() bool {
		return exec.Command(program, "health", "--alive", "--listen", address).Run() == nil
	})
	end(syscall.SIGTERM)
	calls, err := os.ReadFile("calls")
	if err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\d+ +([a-z_0-9]+)\(`).FindAllStringSubmatch(string(calls), -1) {
		used[m[1]] = true
	}
	delete(used, "execve") // of strace, and for it
	for _, name := range slices.Sorted(maps.Keys(used)) {
		if !allowed[name] {
			t.Errorf("usher calls %s, and the unit does not allow it", name)
		}
	}
	if !used["listen"] || !used["openat"] || t.Failed() {
		t.Errorf("seen: %v\n%s", slices.Sorted(maps.Keys(used)), log.String())
	}
}
