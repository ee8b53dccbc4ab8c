// Package deploytest is for tests of what is deployed: packages, images, pages in a browser. They need programs that the other
// tests do not need, root, and minutes. So they run only where DEPLOYTEST is 1 in the environment, as "make test-deploy" sets it.
package deploytest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Need skips the test, unless DEPLOYTEST is 1. Then it fails the test if one of the programs is missing: "make test-deploy" installs
// them by .ci/deps.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getenv("DEPLOYTEST") != "1" {
		t.Skip("deploytest: run by make test-deploy only (DEPLOYTEST=1)")
	}
	if missing := missing(programs); len(missing) > 0 {
		t.Fatalf("deploytest: not found: %s; run: .ci/deps deploy", strings.Join(missing, ", "))
	}
}

// missing returns the programs that are not on PATH, nor where Debian keeps those of root.
func missing(programs []string) (names []string) {
	for _, name := range programs {
		if _, err := Program(name); err != nil {
			names = append(names, name)
		}
	}
	return names
}

// Program returns the path of a program. It also looks where Debian keeps the programs of root, because these folders may be missing from PATH.
func Program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(folder + name); err == nil {
			return path, nil
		}
	}
	return "", err
}
