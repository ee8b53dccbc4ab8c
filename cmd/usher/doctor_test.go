package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// examined starts the demo's Prosody for the doctor, with old replaced by new in its configuration, and stages a usher.yaml.
func examined(t *testing.T, old, new string) *prosodytest.Server {
	t.Helper()
	return served(t, componentSecret, func(prosody string) string {
		return strings.Replace(`modules_enabled = { "roster", "saslauth", "disco", "version", "time" }`+"\n"+prosody, old, new, 1)
	})
}

// versionLines matches the lines that depend on Prosody's version; package doctor tests them.
var versionLines = regexp.MustCompile(`(?m)^(ok  |warn)  (version|room-persistent)  .*\n( +->.*\n)?`)

// TestDoctor compares the doctor's report on the demo's Prosody, as it is and with one door open.
func TestDoctor(t *testing.T) {
	for name, tt := range map[string]struct {
		old, new string
		status   int
	}{
		"doctor-ok.golden":   {"", "", 0},
		"doctor-fail.golden": {"restrict_room_creation = true", "restrict_room_creation = false", 1},
	} {
		t.Run(name, func(t *testing.T) {
			file, err := filepath.Abs(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			server := examined(t, tt.old, tt.new)
			r := command(t, "", "doctor", "-c", "usher.yaml", "--watch", "0s")
			if r.status != tt.status || r.stderr != "" {
				t.Errorf("%d: %s", r.status, r.stderr)
			}
			got := strings.ReplaceAll(r.stdout, server.ComponentAddr, "127.0.0.1:5347")
			if !versionLines.MatchString(got) {
				t.Error("the report has no line about the version")
			}
			golden(t, file, versionLines.ReplaceAllString(got, ""))
		})
	}
}

// TestDoctorMeet checks that the doctor examines the web page's configuration if it is among the sources.
func TestDoctorMeet(t *testing.T) {
	examined(t, "component_secret", "no_secret") // ends the examination early
	write(t, "config.js", "var config = {\n  conferenceRequestUrl: 'https://meet.example.com/conference-request/v1' };")
	usher, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "meet.yaml", "sources: { meet: [config.js] }\n"+string(usher))
	const says = "meet config.js:2: conferenceRequestUrl is set (https://meet.example.com/conference-request/v1): the web page sends its requests to Jicofo by HTTP, past usher"
	r := command(t, "", "doctor", "-c", "meet.yaml", "--watch", "0s")
	if r.status != 1 || !strings.HasPrefix(r.stdout, "fail  file             "+says) || !strings.Contains(r.stdout, "-> take conferenceRequestUrl out of this file") {
		t.Errorf("%+v", r)
	}
	if r := command(t, "", "config", "check", "-c", "meet.yaml"); r.status != 0 || !strings.Contains(r.stdout, "warning: "+says) {
		t.Errorf("%+v", r)
	}
}

// TestDoctorJSON checks that each line of JSON is one check.
func TestDoctorJSON(t *testing.T) {
	examined(t, "component_secret", "no_secret")
	r := command(t, "", "doctor", "-c", "usher.yaml", "--json")
	var codes []string
	skipped := 0
	for line := range strings.Lines(r.stdout) {
		var c doctor.Check
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err, line)
		}
		switch c.Status {
		case doctor.Fail:
			codes = append(codes, c.Code)
		case doctor.Skip:
			skipped++
		}
	}
	if skipped < 10 {
		t.Errorf("only %d checks are reported as skipped", skipped)
	}
	if r.status != 1 || r.stderr != "" || strings.Join(codes, " ") != "handshake" {
		t.Errorf("%+v", r)
	}
}

// TestDoctorInterrupted checks that the doctor ends when interrupted.
func TestDoctorInterrupted(t *testing.T) {
	examined(t, "", "")
	stdout, stderr := newLive(), newLive()
	end := begin(t, stdout, stderr, "doctor", "-c", "usher.yaml", "--watch", "10m")
	stdout.until(t, "room-end", 1)
	if status := end(); status != 1 || stderr.String() != "usher: interrupted\n" || strings.Contains(stdout.String(), "stays") {
		t.Errorf("ended with %d: %s%s", status, stdout, stderr)
	}
}

func TestDoctorMisused(t *testing.T) {
	staged(t)
	for _, args := range [][]string{{"--watch", "-1s"}, {"--watch", "long"}, {"now"}} {
		if r := command(t, "", append([]string{"doctor", "-c", "usher.yaml"}, args...)...); r.status != 3 || r.stdout != "" {
			t.Errorf("%v: %+v", args, r)
		}
	}
}

// TestDoctorSteersNoTerminal checks that names of servers and issuers, which may hold any bytes, do not reach the terminal raw.
func TestDoctorSteersNoTerminal(t *testing.T) {
	var b strings.Builder
	if err := writeCheck(&b, doctor.Check{Code: "keys", Of: "\x1b[2J", Status: doctor.Fail, Says: "a\nb", Mend: "\r"}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\r") || strings.Count(b.String(), "\n") != 2 {
		t.Errorf("%q", b.String())
	}
}

// TestDoctorSkips checks that all skipped checks are one line at the end if usher cannot connect, and otherwise a line each.
func TestDoctorSkips(t *testing.T) {
	rest := []doctor.Check{
		{Code: "vhost", Of: "a.example", Status: doctor.Skip, Says: "not examined, because of it"},
		{Code: "vhost", Of: "b.example", Status: doctor.Skip, Says: "not examined, because of it"},
		{Code: "lobby-gate", Status: doctor.Warn, Says: "costs something"},
		{Code: "stays", Status: doctor.Skip, Says: "not examined, because of it"},
	}
	const (
		gate = "warn  lobby-gate       costs something\n"
		one  = gate + "skip                   not examined, because of it: vhost, stays\n"
		each = "skip  vhost            a.example: not examined, because of it\nskip  vhost            b.example: not examined, because of it\n" +
			gate + "skip  stays            not examined, because of it\n"
	)
	for first, want := range map[doctor.Check]string{
		{Code: "port", Status: doctor.Fail}:      one,
		{Code: "handshake", Status: doctor.Fail}: one,
		{Code: "conflict", Status: doctor.Fail}:  one,
		{Code: "answers", Status: doctor.Fail}:   one,
		{Code: "answers", Status: doctor.OK}:     each,
		{Code: "service", Status: doctor.Fail}:   each,
	} {
		var b strings.Builder
		r := &textReport{w: &b}
		for _, c := range append([]doctor.Check{first}, rest...) {
			if err := r.write(c); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.end(); err != nil {
			t.Fatal(err)
		}
		if _, got, _ := strings.Cut(b.String(), "\n"); got != want {
			t.Errorf("after %+v: %s", first, got)
		}
	}
}

// TestDoctorBesideUsher runs the doctor while usher serves, and checks that it does what its help says.
func TestDoctorBesideUsher(t *testing.T) {
	for name, tt := range map[string]struct {
		policy        string
		status        int
		doctor, usher string
	}{
		"kick_new": {"", 1, "fail  conflict", ""},
		"kick_old": {`; component_conflict_resolve = "kick_old"`, 0, "ok    stays", "standing by"},
		"a socket": {`; component_conflict_resolve = "kick_old"`, 1, "fail  conflict         an usher of this domain runs: it answers on ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			examined(t, `Component "`+demoScene.focus+`"`, `Component "`+demoScene.focus+`"`+tt.policy)
			if name == "a socket" {
				configured, err := os.ReadFile("usher.yaml")
				if err != nil {
					t.Fatal(err)
				}
				write(t, "usher.yaml", string(configured)+"\nadmin: {socket: "+filepath.Join(t.TempDir(), "usher.sock")+"}\n")
			}
			log := newLive()
			end := begin(t, log, log, "serve", "-c", "usher.yaml")
			log.until(t, "connected", 1)
			if name == "a socket" {
				log.until(t, "usher answers the commands at ", 1)
			}
			r := command(t, "", "doctor", "-c", "usher.yaml", "--watch", "0s")
			if r.status != tt.status || !strings.Contains(r.stdout, tt.doctor) {
				t.Errorf("%d: %s%s", r.status, r.stdout, r.stderr)
			}
			if name == "kick_new" {
				const skipped = "skip                   not examined, because the check conflict failed: answers, vhost, "
				if !strings.Contains(r.stdout, "\n"+skipped) || strings.Count(r.stdout, "\nskip") != 1 || !strings.HasSuffix(r.stdout, ", stays\n") {
					t.Errorf("the skipped checks are not one line at the end: %s", r.stdout)
				}
			}
			if tt.usher != "" {
				log.until(t, tt.usher, 1)
			} else if strings.Contains(log.String(), "no connection") {
				t.Errorf("the running usher was disturbed: %s", log)
			}
			end()
		})
	}
}
