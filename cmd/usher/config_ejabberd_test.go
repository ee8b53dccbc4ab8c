package main

import (
	"os"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// TestEjabberdOutput checks that usher writes a file with the lines for ejabberd, again, and over no other file.
func TestEjabberdOutput(t *testing.T) {
	staged(t)
	ejabberd := func(args ...string) result {
		t.Helper()
		return command(t, "", append([]string{"config", "ejabberd", "-c", "usher.yaml"}, args...)...)
	}
	for range 2 {
		if r := ejabberd("--output", "usher.yml"); r.status != 0 || !strings.Contains(r.stdout, "\n  include_config_file: "+workingDir(t)+"/usher.yml\n") {
			t.Errorf("%+v", r)
		}
	}
	is, err := os.ReadFile("usher.yml")
	if err != nil || !config.IsEjabberdLines(string(is)) || !strings.Contains(string(is), componentSecret) {
		t.Errorf("%s, %v", is, err)
	}
	if stat, err := os.Stat("usher.yml"); err != nil || stat.Mode().Perm() != 0o640 {
		t.Error(stat.Mode(), err)
	}
	write(t, "ejabberd.yml", "hosts: [localhost]\n")
	if r := ejabberd("--output", "ejabberd.yml"); r.status != 1 || !strings.Contains(r.stderr, "was not written by usher") {
		t.Errorf("%+v", r)
	}
	if r := ejabberd("--output", ""); r.status != statusUsage {
		t.Errorf("%+v", r)
	}
}
