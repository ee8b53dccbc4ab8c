package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/xmpp-usher/usher/pkg/token"
)

func TestMain(m *testing.M) {
	if os.Getenv("SIGNALLED") == "1" {
		signalled()
	}
	if os.Getenv(asUsher) == "1" {
		main()
	}
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "USHER_") {
			os.Unsetenv(name)
		}
	}
	os.Setenv("STATE_DIRECTORY", "/proc/nowhere") // nobody can create it, so no test leaves a store on the machine
	goleak.VerifyTestMain(m)
}

// TestTranscripts runs the command lines in testdata/*.txt, which begin with "$ usher", and compares their output.
func TestTranscripts(t *testing.T) {
	names, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	source, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	owner := minted(t, nil)
	variables := map[string]string{
		"OWNER":        owner,
		"MEMBER":       minted(t, func(c *token.Claims) { c.User.Affiliation = "member" }),
		"PLAIN":        minted(t, func(c *token.Claims) { c.User.Affiliation = "" }),
		"PORTAL":       minted(t, func(c *token.Claims) { c.Issuer, c.User.Affiliation = "portal", "" }),
		"NOBODY":       minted(t, func(c *token.Claims) { c.Issuer = "evil\x1b[2J" }),
		"ELSEWHERE":    minted(t, func(c *token.Claims) { c.Room = "elsewhere" }),
		"FORGED":       owner[:strings.LastIndex(owner, ".")+1] + strings.Repeat("A", 43),
		"MILLISECONDS": raw(fmt.Sprintf(`{"iss":"my_app","aud":"jitsi","sub":"meet.example.com","room":"standup","exp":%d}`, noon.Add(time.Hour).UnixMilli())),
		"NOTHING":      raw(`{"iss":"my_app","context":{"user":{"affiliation":"owner"}}}`),
		"NARROW": minted(t, func(c *token.Claims) {
			c.ID, c.OneTime, c.MaxOccupants, c.RoomEnds = "j", true, 12, noon.Add(45*time.Minute)
		}),
		"AHEAD":    minted(t, func(c *token.Claims) { c.IssuedAt = noon.Add(31 * time.Minute) }),
		"YEAR9999": minted(t, func(c *token.Claims) { c.Expires = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }),
		"ODD": raw(fmt.Sprintf(`{"iss":"my_app","aud":"jitsi","sub":"meet.example.com","room":"standup","exp":%d,"role":"visitor",`+
			`"context":{"moderator":true,"user":{"name":["Juliet"],"moderator":"false"},"features":{"recording":1}}}`, noon.Add(time.Hour).Unix())),
		"SUPERUSER": minted(t, func(c *token.Claims) { c.User.Affiliation = "superuser\x1b[2J" }),
		"LONG":      raw(`{"iss":"my_app","context":{"user":{"name":"` + strings.Repeat("n", 9082) + `"}}}`),
		"UNSIGNED":  strings.TrimSuffix(strings.TrimPrefix(unsigned("token='"+owner+"'"), "token='"), "'"),
	}
	for _, name := range names {
		t.Run(filepath.Base(name), func(t *testing.T) {
			want, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			staged(t)
			t.Setenv("STATE_DIRECTORY", "/var/lib/usher")
			var got strings.Builder
			for line := range strings.Lines(string(want)) {
				if strings.HasPrefix(line, "#") {
					got.WriteString(line + "\n")
				}
				args, ok := strings.CutPrefix(line, "$ usher ")
				if !ok {
					continue
				}
				stdin := ""
				fields := strings.Fields(args)
				if before, after, ok := strings.Cut(args, " < "); ok {
					fields, stdin = strings.Fields(before), os.Expand(after, func(v string) string { return variables[v] })
				}
				for i, f := range fields {
					fields[i] = strings.Trim(os.Expand(f, func(v string) string { return variables[v] }), "'")
				}
				r := command(t, stdin, fields...)
				fmt.Fprintf(&got, "$ usher %s", args)
				got.WriteString(r.stdout)
				for line := range strings.Lines(r.stderr) {
					got.WriteString("! " + line)
				}
				fmt.Fprintf(&got, "= %d\n\n", r.status)
			}
			golden(t, filepath.Join(source, filepath.Base(name)), got.String())
		})
	}
}

func TestVersion(t *testing.T) {
	if r := command(t, "", "version"); r.status != 0 || !strings.HasPrefix(r.stdout, "usher ") {
		t.Errorf("%+v", r)
	}
}

// signalled is the process of TestSecondSignal: it notices the first signal and does not end.
func signalled() {
	ctx, stop := untilSignal(context.Background(), func() { fmt.Println("second") })
	defer stop()
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("first")
	select {}
}

// TestSecondSignal checks that the second signal ends a process that does not end by itself.
func TestSecondSignal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "SIGNALLED=1")
	stdout := newLive()
	cmd.Stdout = stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	signal := func() { _ = cmd.Process.Signal(syscall.SIGTERM) }
	stdout.until(t, "ready", 1)
	signal()
	signal() // timeout(1) sends the first signal twice
	stdout.until(t, "first", 1)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	late := time.After(time.Minute)
	for {
		select {
		case <-again.C:
			signal()
		case err := <-ended:
			if cmd.ProcessState.Exited() {
				t.Errorf("ended by itself, not by the signal: %v", err)
			}
			return
		case <-late:
			_ = cmd.Process.Kill()
			<-ended
			t.Fatal("the second signal did not end it")
		}
	}
}

// TestWriteModule writes the module for Prosody, and checks that usher then finds the module and its lines in Prosody's files.
func TestWriteModule(t *testing.T) {
	field(t, "debian-guests")
	t.Setenv("USHER_ROOMS_ENFORCEMENT", "module")
	write(t, "zz-usher.cfg.lua", prosodyLines(t))
	r := configProsodyCommand(t, "--module", ".")
	here := workingDir(t)
	if r.status != 0 || !strings.Contains(r.stdout, here+"/mod_usher.lua is written") {
		t.Fatalf("%+v", r)
	}
	// The lines load the module, so the output names only the folder to add.
	if !strings.Contains(r.stdout, "--output\" writes load it.\n") || !strings.Contains(r.stdout, "global section, above the first VirtualHost") ||
		strings.Contains(r.stdout, "modules_enabled") || strings.Count(r.stdout, "plugin_paths = {") != 1 ||
		!strings.Contains(r.stdout, `, "`+here+`" }`) {
		t.Errorf("%s", r.stdout)
	}
	write(t, "all.cfg.lua", "Include \"prosody.cfg.lua\"\nInclude \"zz-usher.cfg.lua\"\n")
	if r := configProsodyCommand(t, "all.cfg.lua"); r.status != 0 || strings.Contains(r.stdout, "plugin_paths") {
		t.Errorf("%+v", r)
	}
	if r := configProsodyCommand(t, "prosody.cfg.lua"); r.status != 1 ||
		!strings.Contains(r.stdout, "the module usher is not loaded") {
		t.Errorf("%+v", r)
	}

	edit(t, "prosody.cfg.lua", "admins = { }", "admins = { }\nplugin_paths = { \""+here+"\" }")
	edit(t, "conf.d/meet.example.com.cfg.lua", "plugin_paths = ", "other_paths = ")
	r = configProsodyCommand(t, "--module", ".")
	if want := here + "/mod_usher.lua is written. The lines that \"usher config prosody --output\" writes load it.\n"; r.status != 0 || r.stdout != want {
		t.Errorf("%+v", r)
	}

	for _, name := range []string{"mod_muc_affiliated_only.lua", "mod_usher.lua"} {
		write(t, name, "-- mine\n")
		if r := configProsodyCommand(t, "--module", "."); r.status != 1 || !strings.Contains(r.stderr, name+" exists and is not usher's") {
			t.Errorf("%s: %+v", name, r)
		}
	}
	for _, args := range [][]string{{"--module", ""}, {"--module", ".", "prosody.cfg.lua"}} {
		if r := configProsodyCommand(t, args...); r.status != statusUsage {
			t.Errorf("%v: %+v", args, r)
		}
	}
}
