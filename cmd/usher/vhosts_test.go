package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// TestVHosts reads each configuration of testdata/vhosts and compares usher's result with its want.txt.
func TestVHosts(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("..", "..", "testdata", "vhosts", "*", "usher.yaml"))
	if err != nil || len(folders) < 11 {
		t.Fatal(folders, err)
	}
	for _, folder := range folders {
		name := filepath.Base(filepath.Dir(folder))
		t.Run(name, func(t *testing.T) {
			source := field(t, name)
			here := workingDir(t)
			t.Setenv("STATE_DIRECTORY", "/var/lib/usher")
			var transcript strings.Builder
			for _, args := range [][]string{{"config", "check"}, {"config", "show", "--origin"}} {
				transcript.WriteString("$ usher " + strings.Join(args, " ") + " -c usher.yaml\n")
				r := command(t, "", append(args, "-c", "usher.yaml")...)
				transcript.WriteString(r.stdout + r.stderr + "\n")
				if r.status != 0 {
					break // "config show" reports the same problems
				}
			}
			golden(t, filepath.Join(source, "want.txt"), strings.ReplaceAll(transcript.String(), here, "/etc/prosody"))
			if !strings.Contains(transcript.String(), "config show") {
				return
			}
			sameWhenImported(t)
		})
	}
}

// sameWhenImported checks that the usher.yaml of "usher config import" means the same as the files that it was made from.
func sameWhenImported(t *testing.T) {
	t.Helper()
	show := func(file string) string {
		t.Helper()
		r := command(t, "", "config", "show", "-c", file)
		if r.status != 0 {
			t.Fatal(r.stderr)
		}
		_, rest, _ := strings.Cut(r.stdout, "xmpp:\n") // without the sources
		return rest
	}
	own, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// An import leaves out usher.yaml's own keys, except virtual hosts of kind trusted, which only it can name.
	args := []string{"config", "import", "prosody", "prosody.cfg.lua"}
	if strings.Contains(string(own), "docker:") {
		return // two sources cannot be imported at once; TestImport has each
	}
	if strings.Contains(string(own), "kind: trusted") {
		args = append(args, "--trusted", "meet.example.com")
	}
	imported := printed(t, args...)
	write(t, "imported.yaml", imported)
	if strings.Contains(imported, "# To do:") {
		return // it is not complete
	}
	write(t, "sources.yaml", "sources: {prosody: [prosody.cfg.lua]}\n"+trusted(string(own)))
	if got, want := show("imported.yaml"), show("sources.yaml"); got != want {
		t.Errorf("the import means something else, from line %s", difference(got, want))
	}
}

// trusted returns the virtual hosts of kind trusted in usher.yaml, if it has any.
func trusted(own string) string {
	if strings.Contains(own, "kind: trusted") {
		return "vhosts: {meet.example.com: {kind: trusted}}\n"
	}
	return ""
}

// TestVHostsLive starts a real Prosody from a configuration of testdata/vhosts, which ends with the lines of "usher config
// prosody". Beside it run Jicofo's stand-in with the account of that configuration, and usher from the same files. The cast of
// the demo then tries to enter. Without Jitsi's plugins there are no lobbies and breakout rooms.
func TestVHostsLive(t *testing.T) {
	for name, s := range map[string]scene{
		"debian-guests": {
			focus: "focus.meet.example.com", service: "conference.meet.example.com", issuer: "my_app", audience: "jitsi",
			tokens: "meet.example.com", guests: "guest.meet.example.com", account: "focus@auth.meet.example.com",
		},
		"docker": {
			focus: "focus.meet.jitsi", service: "muc.meet.jitsi", issuer: "my_web_client", audience: "my_server2",
			tokens: "meet.jitsi", guests: "guest.meet.jitsi", account: "focus@auth.meet.jitsi",
		},
		"forum-recipe": {
			focus: "focus.jitmeet.example.com", service: "conference.jitmeet.example.com", issuer: "example_app_id", audience: "jitsi",
			tokens: "jitmeet.example.com", guests: "guest.jitmeet.example.com", account: "focus@auth.jitmeet.example.com",
		},
	} {
		t.Run(name, func(t *testing.T) {
			field(t, name)
			here := workingDir(t)
			write(t, "zz-usher.cfg.lua", prosodyLines(t, "--authentication", "jitsi-anonymous"))
			st := &stage{scene: s, appSecret: appSecret}
			st.Server = prosodytest.Start(t, prosodytest.Options{
				Config: fmt.Sprintf("Include %q\nInclude %q\n", filepath.Join(here, "prosody.cfg.lua"), filepath.Join(here, "zz-usher.cfg.lua")),
				Users:  map[string]string{s.account: jicofoPassword},
			})
			playThrough(t, st, "", st.ComponentAddr)

			// usher misses nothing in a configuration with its lines.
			write(t, "all.cfg.lua", "Include \"prosody.cfg.lua\"\nInclude \"zz-usher.cfg.lua\"\n")
			r := configProsodyCommand(t, "all.cfg.lua")
			if r.status != 0 {
				t.Errorf("with its own lines, usher still misses something:\n%s%s", r.stdout, r.stderr)
			}
			if r := configProsodyCommand(t, "prosody.cfg.lua"); r.status != 1 ||
				!strings.Contains(r.stdout, "muc_room_default_members_only = true") {
				t.Errorf("without its lines, usher misses nothing:\n%s%s", r.stdout, r.stderr)
			}
		})
	}
}
