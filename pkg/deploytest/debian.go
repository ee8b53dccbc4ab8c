package deploytest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Debian is a folder with Debian 12 and its Prosody, in which commands run by chroot. No service starts in it. It belongs to one test.
type Debian struct {
	Dir string

	t testing.TB
}

// NewDebian copies the Debian that ".ci/deps deploy" has made. It lasts until the test ends. It needs root.
func NewDebian(t testing.TB) *Debian {
	t.Helper()
	Need(t, "chroot", "cp")
	root, err := Repository()
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(root, "bin", "debian")
	if _, err := os.Stat(base); err != nil || os.Geteuid() != 0 {
		t.Fatalf("deploytest: it takes root and %s; run as root: .ci/deps deploy (%v)", base, err)
	}
	d := &Debian{Dir: filepath.Join(t.TempDir(), "debian"), t: t}
	if said, err := exec.Command("cp", "-a", base, d.Dir).CombinedOutput(); err != nil {
		t.Fatalf("deploytest: copying Debian: %v\n%s", err, said)
	}
	// t.TempDir's own folders are for root only, and users of the chroot need none of them: a chroot begins at Dir.
	return d
}

// Repository returns the folder with go.mod, above the test's.
func Repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod above the working directory")
		}
	}
}

// Path returns where a file of this Debian is.
func (d *Debian) Path(name string) string { return filepath.Join(d.Dir, name) }

// Read returns the content of a file.
func (d *Debian) Read(name string) string {
	d.t.Helper()
	content, err := os.ReadFile(d.Path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(content)
}

// Write writes a file, with the mode 0644, and makes its folder.
func (d *Debian) Write(name, content string) {
	d.t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.Path(name)), 0o755); err != nil {
		d.t.Fatal(err)
	}
	if err := os.WriteFile(d.Path(name), []byte(content), 0o644); err != nil {
		d.t.Fatal(err)
	}
}

// Command returns a command in this Debian as a user, in the group of the same name and the user's others. Its environment is that of a login, and environ.
func (d *Debian) Command(ctx context.Context, user string, environ []string, name string, args ...string) *exec.Cmd {
	program, err := Program("chroot")
	if err != nil {
		d.t.Fatal(err)
	}
	// chroot's own --userspec takes numbers of the machine outside.
	as := []string{d.Dir, "setpriv", "--reuid=" + user, "--regid=" + user, "--init-groups", name}
	cmd := exec.CommandContext(ctx, program, append(as, args...)...)
	cmd.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/", "LC_ALL=C.UTF-8",
		"DEBIAN_FRONTEND=noninteractive"}, environ...)
	return cmd
}

// Run runs a line of shell as root, and returns what it prints and its exit status.
func (d *Debian) Run(line string) (said string, status int) {
	d.t.Helper()
	var out bytes.Buffer
	cmd := d.Command(d.t.Context(), "root", nil, "sh", "-c", line)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		d.t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// Must runs a line of shell as root, fails the test unless it succeeds, and returns what it prints.
func (d *Debian) Must(line string) string {
	d.t.Helper()
	said, status := d.Run(line)
	if status != 0 {
		d.t.Fatalf("%s: exit status %d\n%s", line, status, said)
	}
	return said
}

// Start starts a program that keeps running, as a user. It ends with the test. What it says goes to out.
func (d *Debian) Start(user string, environ []string, out io.Writer, name string, args ...string) (stop func()) {
	d.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := d.Command(ctx, user, environ, name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 20 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		d.t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			_ = cmd.Wait()
		}
	}
	d.t.Cleanup(stop)
	return stop
}
