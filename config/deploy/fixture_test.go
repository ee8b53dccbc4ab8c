package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// The tests here examine what "make release" makes of the last commit: they clone, as it does.

// releases is the folder of the release that the tests share.
var releases string

func TestMain(m *testing.M) {
	var err error
	if releases, err = os.MkdirTemp("", "usher-releases-"); err != nil {
		panic(err)
	}
	status := m.Run()
	_ = os.RemoveAll(releases)
	os.Exit(status)
}

// released returns the folder of the release. It is made once.
var released = sync.OnceValues(func() (string, error) {
	to := filepath.Join(releases, "first")
	return to, makeRelease(to)
})

// makeRelease makes a release of the last commit.
func makeRelease(to string) error {
	root, err := deploytest.Repository()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "run", "./config/deploy/release", "-o", to)
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// found returns the one file of the release that a pattern fits.
func found(t *testing.T, pattern string) string {
	t.Helper()
	folder, err := released()
	if err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(folder, pattern))
	if err != nil || len(names) != 1 {
		t.Fatalf("%s: %v %v", pattern, names, err)
	}
	return names[0]
}

// debFile returns the Debian package for this machine.
func debFile(t *testing.T) string { return found(t, "usher_*_"+runtime.GOARCH+".deb") }

// unpacked returns a folder with the archive for this machine.
func unpacked(t *testing.T) string {
	t.Helper()
	to := t.TempDir()
	output(t, "tar", "-xzf", found(t, "usher_*_linux_"+runtime.GOARCH+".tar.gz"), "-C", to, "--strip-components=1")
	return to
}

// output runs a program, and returns what it prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	said, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said)
	}
	return string(said)
}

// given puts a file of this machine into a Debian.
func given(t *testing.T, d *deploytest.Debian, file, name string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d.Write(name, string(content))
}

// setting returns the value of a key in usher.service.
func setting(t *testing.T, unit, key string) string {
	t.Helper()
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), key+"="); ok {
			return value
		}
	}
	t.Fatalf("usher.service does not set %s", key)
	return ""
}
