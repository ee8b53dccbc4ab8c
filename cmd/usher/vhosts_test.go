package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// field puts a folder of testdata/vhosts where nobody else may read it, and the test into it. It returns where it is from.
func field(t *testing.T, name string) (source string) {
	t.Helper()
	source, err := filepath.Abs(filepath.Join("..", "..", "testdata", "vhosts", name))
	if err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	err = filepath.WalkDir(source, func(path string, entry os.DirEntry, err error) error {
		relative, _ := filepath.Rel(source, path)
		if err != nil || entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, relative), 0o700)
		}
		content, err := os.ReadFile(path)
		if err == nil {
			write(t, filepath.Join(to, relative), string(content))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(to)
	return source
}

// TestVHosts reads each configuration of testdata/vhosts and compares what usher makes of it with its want.txt.
func TestVHosts(t *testing.T) {
	folders, err := filepath.Glob(filepath.Join("..", "..", "testdata", "vhosts", "*", "usher.yaml"))
	if err != nil || len(folders) < 11 {
		t.Fatal(folders, err)
	}
	for _, folder := range folders {
		name := filepath.Base(filepath.Dir(folder))
		t.Run(name, func(t *testing.T) {
			source := field(t, name)
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			t.Setenv("STATE_DIRECTORY", "/var/lib/usher")
			var transcript strings.Builder
			for _, args := range [][]string{{"config", "check"}, {"config", "show", "--origin"}} {
				transcript.WriteString("$ usher " + strings.Join(args, " ") + " -c usher.yaml\n")
				r := command(t, "", append(args, "-c", "usher.yaml")...)
				transcript.WriteString(r.stdout + r.stderr + "\n")
				if r.status != 0 {
					break // the problems are the same
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

// sameWhenImported checks that a usher.yaml as "usher config import" writes it means the same as the files that it was
// written from.
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
	// What usher.yaml itself says is no part of the import. It goes over it as variables would.
	var stdout, stderr bytes.Buffer
	args := []string{"config", "import", "prosody", "prosody.cfg.lua"}
	if strings.Contains(string(own), "docker:") {
		return // two sources cannot be imported at once; TestImport has each
	}
	if strings.Contains(string(own), "kind: trusted") {
		args = append(args, "--trusted", "meet.example.com")
	}
	if status := run(t.Context(), args, strings.NewReader(""), &stdout, &stderr); status != 0 {
		t.Fatal(stderr.String())
	}
	write(t, "imported.yaml", stdout.String())
	if strings.Contains(stdout.String(), "# To do:") {
		return // it cannot stand alone
	}
	write(t, "sources.yaml", "sources: {prosody: [prosody.cfg.lua]}\n"+trusted(string(own)))
	if got, want := show("imported.yaml"), show("sources.yaml"); got != want {
		t.Errorf("imported it means something else, from line %s", difference(got, want))
	}
}

// trusted returns the virtual hosts that only a usher.yaml can name, if that one does.
func trusted(own string) string {
	if strings.Contains(own, "kind: trusted") {
		return "vhosts: {meet.example.com: {kind: trusted}}\n"
	}
	return ""
}

// TestVHostsLive starts a real Prosody from a configuration of testdata/vhosts, with the lines that "usher config
// prosody" prints for it at its end, Jicofo's stand-in with the account that it names, and usher from the same
// configuration, and lets the cast of the demo try to enter. Jitsi's plugins are not there, and so neither are lobbies and
// breakout rooms.
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
			here, err := os.Getwd()
			if err != nil {
				t.Fatal(err)
			}
			var lines, stderr bytes.Buffer
			if status := run(t.Context(), []string{"config", "prosody", "-c", "usher.yaml", "--authentication", "jitsi-anonymous"}, strings.NewReader(""), &lines, &stderr); status != 0 {
				t.Fatal(stderr.String())
			}
			write(t, "zz-usher.cfg.lua", lines.String())
			st := &stage{scene: s, appSecret: appSecret}
			st.Server = prosodytest.Start(t, prosodytest.Options{
				Config: fmt.Sprintf("Include %q\nInclude %q\n", filepath.Join(here, "prosody.cfg.lua"), filepath.Join(here, "zz-usher.cfg.lua")),
				Users:  map[string]string{s.account: "jicofo's"},
			})
			user, host, _ := strings.Cut(s.account, "@")
			st.jicofo = st.Jicofo(t, prosodytest.JicofoOptions{
				Host: host, User: user, Password: "jicofo's", Proxy: s.focus, Service: s.service, AcceptSubscriptions: true,
			})
			stop, err := st.serve(t.Context(), "usher.yaml", "USHER_XMPP_SERVER="+st.ComponentAddr)
			if err != nil {
				t.Fatal(err)
			}
			var table strings.Builder
			_, wrong, err := st.play(t.Context(), newTable(&table))
			if err != nil || wrong > 0 {
				t.Errorf("%d went wrong, %v\n%s\n%s", wrong, err, table.String(), prosodytest.Tail(st.log()))
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			silent(t, st.log())

			// The same lines are what the comparison asks for.
			write(t, "all.cfg.lua", "Include \"prosody.cfg.lua\"\nInclude \"zz-usher.cfg.lua\"\n")
			r := command(t, "", "config", "prosody", "-c", "usher.yaml", "all.cfg.lua")
			if r.status != 0 {
				t.Errorf("with its own lines, usher still misses something:\n%s%s", r.stdout, r.stderr)
			}
			if r := command(t, "", "config", "prosody", "-c", "usher.yaml", "prosody.cfg.lua"); r.status != 1 ||
				!strings.Contains(r.stdout, "muc_room_default_members_only = true") {
				t.Errorf("without its lines, usher misses nothing:\n%s%s", r.stdout, r.stderr)
			}
		})
	}
}
