package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config/adopt"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// adoptScene is testdata/vhosts/debian-guests, adopted.
var adoptScene = scene{
	focus: "focus.meet.example.com", service: "conference.meet.example.com", issuer: "my_app", audience: "jitsi",
	tokens: "meet.example.com", guests: "guest.meet.example.com", account: "focus@auth.meet.example.com", module: true,
}

// jitsiOnDebian makes a root with Debian's Jitsi, as its packages configure it, and returns it.
func jitsiOnDebian(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	etc := filepath.Join(root, "etc")
	copied(t, "../../testdata/vhosts/debian-guests", etc+"/prosody/conf.avail/all")
	for _, folder := range []string{"/prosody/conf.d", "/jitsi/jicofo", "/jitsi/meet"} {
		if err := os.MkdirAll(etc+folder, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	const name = "meet.example.com.cfg.lua"
	err := errors.Join(os.Rename(etc+"/prosody/conf.avail/all/conf.d/"+name, etc+"/prosody/conf.avail/"+name),
		os.Rename(etc+"/prosody/conf.avail/all/prosody.cfg.lua", etc+"/prosody/prosody.cfg.lua"), os.RemoveAll(etc+"/prosody/conf.avail/all"),
		os.Symlink("/etc/prosody/conf.avail/"+name, etc+"/prosody/conf.d/"+name))
	if err != nil {
		t.Fatal(err)
	}
	write(t, etc+"/jitsi/jicofo/jicofo.conf", "jicofo {\n  xmpp: { client: { client-proxy: \"focus.meet.example.com\", password: \""+jicofoPassword+"\" } }\n}\n")
	write(t, etc+"/jitsi/meet/meet.example.com-config.js", "var config = {\n    conferenceRequestUrl: 'https://meet.example.com/conference-request/v1',\n};\n")
	return root
}

// filed returns the content and mode of everything below some folders.
func filed(t *testing.T, folders ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			stat, err := e.Info()
			if err != nil {
				return err
			}
			all[path] = stat.Mode().String()
			if e.Type().IsRegular() {
				content, err := os.ReadFile(path)
				all[path] += "\n" + string(content)
				return err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// unchanged fails the test if two of filed differ.
func unchanged(t *testing.T, before, after map[string]string) {
	t.Helper()
	for name, was := range before {
		if is, ok := after[name]; !ok || is != was {
			t.Errorf("%s is not as before", name)
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s is left", name)
		}
	}
}

// adopted runs "usher adopt", and fails the test if it has another status.
func adopted(t *testing.T, status int, args ...string) result {
	t.Helper()
	r := command(t, "", append([]string{"adopt"}, args...)...)
	if r.status != status {
		t.Fatalf("adopt %v: status %d\n%s%s", args, r.status, r.stdout, r.stderr)
	}
	return r
}

// moved copies a folder of a root into the present folder. Absolute names in its files lead to where the root really is, as the private
// Prosody of a test sees it.
func moved(t *testing.T, root, folder string) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(root, folder), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		if target, _ := os.Readlink(path); target != "" {
			path = filepath.Join(root, target)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		here := workingDir(t)
		name, _ := filepath.Rel(filepath.Join(root, folder), path)
		if name = strings.Replace(name, "conf.avail", "conf.d", 1); filepath.Base(name) == "adopt.json" {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		text := strings.ReplaceAll(string(content), "/etc/prosody/", here+"/")
		write(t, name, strings.NewReplacer("/usr/local/lib/", root+"/usr/local/lib/", "/etc/jitsi/", root+"/etc/jitsi/").Replace(text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// strangers reports whether somebody who never asked usher enters a room that Jicofo has opened.
func strangers(t *testing.T, server *prosodytest.Server, s scene) bool {
	t.Helper()
	user, host, _ := strings.Cut(s.account, "@")
	focus := server.Client(t, prosodytest.ClientOptions{Host: host, User: user, Password: jicofoPassword})
	room := "open@" + s.service
	if joined, err := focus.Join(t.Context(), room, "focus"); err != nil || joined.Attr["type"] == "error" {
		t.Fatalf("Jicofo cannot open a room: %v, %v", joined, err)
	}
	joined, err := server.Client(t, prosodytest.ClientOptions{Host: s.guests}).Join(t.Context(), room, "stranger")
	if err != nil {
		t.Fatal(err)
	}
	return joined.Attr["type"] != "error"
}

// TestAdoptDebian adopts Debian's Jitsi in a root. A real Prosody reads the result, and the cast of the demo is refused and admitted as
// it should be. After the undo everything is as before, and so is what Prosody does.
func TestAdoptDebian(t *testing.T) {
	root := jitsiOnDebian(t)
	before := filed(t, root)
	start := func() *prosodytest.Server {
		t.Chdir(t.TempDir())
		moved(t, root, "etc/prosody")
		return prosodytest.Start(t, prosodytest.Options{
			Config: fmt.Sprintf("Include %q\n", filepath.Join(workingDir(t), "prosody.cfg.lua")), Users: map[string]string{adoptScene.account: jicofoPassword},
		})
	}
	stock := start()
	if !strangers(t, stock, adoptScene) {
		t.Fatal("before the adoption Prosody refuses people already")
	}
	stock.Kill()

	// The cast's bad tokens are for usher to refuse, not for Jitsi's provider.
	dry := adopted(t, statusToDo, "--root", root, jitsiAnonymous)
	for _, want := range []string{"+++ /etc/usher/usher.yaml", "(32 random bytes)", "+Include \"/etc/prosody/usher.cfg.lua\"", "+jicofo.conference.enable-auto-owner = false",
		"+    // usher: conferenceRequestUrl", "systemctl stop jicofo prosody"} {
		if !strings.Contains(dry.stdout, want) {
			t.Errorf("%q is not in\n%s", want, dry.stdout)
		}
	}
	unchanged(t, before, filed(t, root))
	applied := adopted(t, 0, "--root", root, jitsiAnonymous, "--apply")
	if !strings.Contains(applied.stdout, "ok    file             Prosody's files make the gate\n") || strings.Contains(applied.stdout+dry.stdout, jicofoPassword) {
		t.Errorf("%s", applied.stdout)
	}
	secret, err := os.ReadFile(root + "/etc/usher/component.secret")
	if err != nil || strings.Contains(applied.stdout, strings.TrimSpace(string(secret))) {
		t.Error("the secret is shown, or not there", err)
	}
	again := adopted(t, 0, "--root", root)
	if !strings.Contains(again.stdout, "Nothing is to do.\n") {
		t.Error(again.stdout)
	}

	st := &stage{scene: adoptScene, appSecret: appSecret, Server: start()}
	moved(t, root, "etc/usher")
	playThrough(t, st, "", st.ComponentAddr)
	if strangers(t, st.Server, adoptScene) {
		t.Error("somebody who never asked usher is inside")
	}
	st.Kill()

	if r := adopted(t, 0, "--root", root, "--undo"); !strings.HasPrefix(r.stdout, "Everything is as it was before.\n") {
		t.Error(r.stdout)
	}
	unchanged(t, before, filed(t, root))
	if !strangers(t, start(), adoptScene) {
		t.Error("after the undo Prosody refuses people")
	}
	if r := adopted(t, 0, "--root", root, "--undo"); r.stdout != "Nothing is to undo.\n" {
		t.Error(r.stdout)
	}
}

// packed returns the files of a folder as "docker compose exec" copies them out of the container.
func packed(t *testing.T, folder string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.AddFS(os.DirFS(folder)), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// jitsiInDocker makes a folder of docker-jitsi-meet in the present folder, beside its mounted folders (config) and what the image makes of
// them (image).
func jitsiInDocker(t *testing.T) (here, source string) {
	t.Helper()
	source, err := filepath.Abs("../../testdata/vhosts/docker")
	if err != nil {
		t.Fatal(err)
	}
	here = t.TempDir()
	t.Chdir(here)
	for _, folder := range []string{"meet", "config/prosody/config", "config/prosody/prosody-plugins-custom", "config/web", "image/conf.d"} {
		if err := os.MkdirAll(folder, 0o750); err != nil {
			t.Fatal(err)
		}
	}
	env, err := os.ReadFile(source + "/.env")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "meet/.env", strings.Replace(string(env), "CONFIG=~/.jitsi-meet-cfg", "CONFIG="+here+"/config", 1))
	write(t, "meet/docker-compose.yml", "services:\n    prosody:\n        image: ${JITSI_IMAGE_REPO:-ghcr.io/jitsi}/prosody:${JITSI_IMAGE_VERSION:-unstable}\n")
	write(t, "config/web/custom-config.js", "config.conferenceRequestUrl = 'https://meet.example.com/conference-request/v1';\n")
	for _, name := range []string{"prosody.cfg.lua", "conf.d/jitsi-meet.cfg.lua"} {
		content, err := os.ReadFile(filepath.Join(source, name))
		if err != nil {
			t.Fatal(err)
		}
		write(t, "image/"+name, string(content))
	}
	return here, source
}

// adoption of a folder of docker-jitsi-meet, with a stand-in for docker.
func inDocker(t *testing.T, here string, ran *[]string, change func(*adoption)) result {
	t.Helper()
	var out, stderr bytes.Buffer
	a := adoption{out: &out, err: &stderr, folder: here + "/meet", program: here + "/program", run: func(_ context.Context, dir string, w io.Writer, args ...string) error {
		*ran = append(*ran, strings.Join(args, " "))
		if dir != here+"/meet" {
			t.Errorf("%v in %s", args, dir)
		}
		if slices.Contains(args, "exec") {
			_, err := w.Write(packed(t, here+"/image"))
			return err
		}
		return nil
	}}
	change(&a)
	err := a.adopt(t.Context())
	r := result{stdout: out.String(), stderr: stderr.String()}
	if status := (failure{}); errors.As(err, &status) {
		r.status = status.status
	} else if err != nil {
		r.status, r.stderr = statusFailed, err.Error()
	}
	silent(t, r.stdout+r.stderr)
	return r
}

// imageStarts does what the image does at its start: it puts GLOBAL_CONFIG into its main file, not where usher's copy has it, and copies what is
// mounted beside it.
func imageStarts(t *testing.T, here string) {
	t.Helper()
	edit(t, here+"/image/prosody.cfg.lua", "network_settings", demoGlobalConfig(t, here)+"\n\nnetwork_settings")
	lines, err := os.ReadFile(here + "/config/prosody/config/usher.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	write(t, here+"/image/usher.cfg.lua", string(lines))
}

// demoGlobalConfig returns the value of GLOBAL_CONFIG in .env.
func demoGlobalConfig(t *testing.T, here string) string {
	t.Helper()
	env, err := os.ReadFile(here + "/meet/.env")
	if err != nil {
		t.Fatal(err)
	}
	_, value, ok := strings.Cut(string(env), "\nGLOBAL_CONFIG='")
	value, _, end := strings.Cut(value, "'\n")
	if !ok || !end {
		t.Fatalf("%s", env)
	}
	return value
}

// TestAdoptDocker adopts a folder of docker-jitsi-meet, with Prosody's files from a stand-in for its container. A real Prosody reads what the
// image then makes, and the cast of the demo is refused and admitted as it should be. After a start of the image nothing is to do, and the
// undo puts everything back.
func TestAdoptDocker(t *testing.T) {
	here, _ := jitsiInDocker(t)
	write(t, "program", "a program")
	before := filed(t, here+"/meet", here+"/config")
	var ran []string
	none := func(*adoption) {}
	if r := inDocker(t, here, &ran, none); r.status != statusToDo || !strings.Contains(r.stdout, "+COMPOSE_FILE=docker-compose.yml:usher.yml") ||
		!strings.Contains(r.stdout, "docker compose up -d --build") {
		t.Fatalf("%+v", r)
	}
	unchanged(t, before, filed(t, here+"/meet", here+"/config"))
	r := inDocker(t, here, &ran, func(a *adoption) { a.apply, a.restart = true, true })
	if r.status != 0 || !strings.Contains(r.stdout, "ok    file             Prosody's files make the gate\n") {
		t.Fatalf("%+v", r)
	}
	want := []string{"docker compose up -d --build", "docker compose stop usher", "docker compose run --rm usher doctor -c usher.yaml", "docker compose start usher"}
	if got := ran[len(ran)-4:]; !slices.Equal(got, want) {
		t.Errorf("ran %q", got)
	}
	for i := range 2 {
		if r := inDocker(t, here, &ran, none); r.status != 0 || !strings.Contains(r.stdout, "Nothing is to do.\n") {
			t.Errorf("%d: %+v", i, r)
		}
		if i == 0 {
			imageStarts(t, here)
		}
	}
	adoptedImage(t, here)
	if r := inDocker(t, here, &ran, func(a *adoption) { a.undo = true }); r.status != 0 {
		t.Fatalf("%+v", r)
	}
	unchanged(t, before, filed(t, here+"/meet", here+"/config"))
}

// adoptedImage has a real Prosody read what the image makes, and plays the cast.
func adoptedImage(t *testing.T, here string) {
	t.Helper()
	prosodytest.Need(t)
	t.Chdir(here + "/meet/usher")
	scene := dockerScene
	scene.module = true
	st := &stage{scene: scene, appSecret: appSecret}
	st.Server = prosodytest.Start(t, prosodytest.Options{
		Configure: func(s *prosodytest.Server) string {
			_, port, _ := net.SplitHostPort(s.ComponentAddr)
			// The image has its own folder for modules, and its Prosody the port that it likes.
			conf, err := os.ReadFile(here + "/image/usher.cfg.lua")
			if err != nil {
				t.Error(err)
			}
			write(t, here+"/image/usher.cfg.lua", strings.NewReplacer("component_ports = { 5347 }", "component_ports = { "+port+" }",
				`component_interfaces = { "*", "::" }`, `component_interfaces = { "127.0.0.1" }`).Replace(string(conf)))
			edit(t, here+"/image/conf.d/jitsi-meet.cfg.lua", `"/prosody-plugins-custom"`, `"`+here+`/config/prosody/prosody-plugins-custom"`)
			return fmt.Sprintf("Include %q\n", here+"/image/prosody.cfg.lua")
		},
		Users: map[string]string{scene.account: jicofoPassword},
	})
	own, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", strings.Replace(string(own), "docker: environment", "docker: ../.env", 1))
	playThrough(t, st, "jicofo", st.ComponentAddr)
	if strangers(t, st.Server, scene) {
		t.Error("somebody who never asked usher is inside")
	}
	write(t, "usher.yaml", string(own))
	if err := os.RemoveAll("data/usher.db"); err != nil {
		t.Fatal(err)
	}
	edit(t, here+"/image/conf.d/jitsi-meet.cfg.lua", here+`/config/prosody/prosody-plugins-custom"`, `/prosody-plugins-custom"`)
}

// TestAdoptRefusesDocker checks what stands against an adoption in docker-jitsi-meet, with its place.
func TestAdoptRefusesDocker(t *testing.T) {
	for name, test := range map[string]struct {
		change func(t *testing.T)
		want   string
	}{
		"JaaS":        {func(t *testing.T) { edit(t, "meet/.env", "HTTP_PORT=8000", "JAAS_APP_ID=x") }, "/meet/.env:3: with JAAS_APP_ID"},
		"visitors":    {func(t *testing.T) { edit(t, "meet/.env", "HTTP_PORT=8000", "PROSODY_MODE=visitors") }, "/meet/.env:3: PROSODY_MODE is"},
		"a quote":     {func(t *testing.T) { edit(t, "meet/.env", "TZ=UTC", `GLOBAL_CONFIG="a = 'b'"`) }, "/meet/.env:5: GLOBAL_CONFIG has a single quote"},
		"no CONFIG":   {func(t *testing.T) { edit(t, "meet/.env", "CONFIG=", "#CONFIG=") }, "/meet/.env does not set CONFIG"},
		"no variable": {func(t *testing.T) { edit(t, "meet/.env", "TZ=UTC", "TZ UTC") }, "/meet/.env:5: is no variable"},
		"nobody is a host": {func(t *testing.T) {
			edit(t, "meet/.env", "ENABLE_AUTH=1", "ENABLE_AUTH=0")
			edit(t, "image/conf.d/jitsi-meet.cfg.lua", `authentication = "token"`, `authentication = "jitsi-anonymous"`)
		}, "/meet/usher/usher.yaml written: usher adopt --apply --without-hosts"},
		"no container": {func(t *testing.T) { _ = os.RemoveAll("image") }, "could not be copied out of the container"},
	} {
		t.Run(name, func(t *testing.T) {
			here, _ := jitsiInDocker(t)
			write(t, "program", "a program")
			test.change(t)
			before := filed(t, here+"/meet", here+"/config")
			var ran []string
			r := inDocker(t, here, &ran, func(a *adoption) {
				a.apply = true
				if name == "no container" {
					a.run = func(context.Context, string, io.Writer, ...string) error { return errors.New("no such container") }
				}
			})
			if r.status != statusFailed || !strings.Contains(r.stderr, test.want) {
				t.Errorf("%+v", r)
			}
			unchanged(t, before, filed(t, here+"/meet", here+"/config"))
		})
	}
}

// TestAdoptWithoutHosts goes the way that the refusal names for a Jitsi where everybody is a guest.
func TestAdoptWithoutHosts(t *testing.T) {
	root := jitsiOnDebian(t)
	anonymized(t, root+"/etc/prosody/conf.avail/meet.example.com.cfg.lua")
	before := filed(t, root+"/etc")
	const why = "nobody could open a room any more"
	if r := adopted(t, statusFailed, "--root", root); !strings.HasPrefix(r.stdout, "refused: "+why) || !strings.Contains(r.stdout, "+++ /etc/usher/usher.yaml") {
		t.Errorf("the plan: %+v", r)
	}
	if r := adopted(t, statusFailed, "--root", root, "--apply"); !strings.Contains(r.stderr, why) || r.stdout != "" {
		t.Errorf("%+v", r)
	}
	unchanged(t, before, filed(t, root+"/etc"))
	adopted(t, 0, "--root", root, "--apply", "--without-hosts")
	if r := adopted(t, statusFailed, "--root", root, "--apply"); strings.Contains(r.stderr, "--without-hosts") {
		t.Errorf("usher.yaml is there now: %+v", r)
	}
	secret, line := tokenLines(t)
	ownTokens(t, root, secret, line)
	if r := adopted(t, 0, "--root", root, "--apply"); strings.Contains(r.stdout, "people who can be hosts") {
		t.Errorf("%+v", r)
	}
}

// TestAdoptUsage checks command lines that make no sense, and folders without a Jitsi.
func TestAdoptUsage(t *testing.T) {
	empty := t.TempDir()
	for _, test := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"--apply", "--undo"}, statusUsage, "contradict each other"},
		{[]string{"--restart"}, statusUsage, "--restart is for --apply and --undo"},
		{[]string{"--apply", "--restart", "--root", empty}, statusUsage, "not for --root"},
		{[]string{"--authentication", "insecure"}, statusUsage, "--authentication must be jitsi-anonymous, anonymous, token"},
		{[]string{empty}, statusFailed, "is not the folder of docker-jitsi-meet"},
		{[]string{"--root", empty}, statusFailed, "no Jitsi was found: /etc/prosody/prosody.cfg.lua cannot be read"},
		{[]string{"--root", empty + "/none"}, statusFailed, "no such file"},
	} {
		if r := adopted(t, test.status, test.args...); !strings.Contains(r.stderr, test.says) {
			t.Errorf("%v: %+v", test.args, r)
		}
	}
}

// TestAdoptRestart checks the commands by which Debian's Jitsi is restarted: the subscription is made while Prosody is stopped, and
// where usher is a unit of systemd, it is away during the examination. A doctor who finds something does not keep usher from starting, and
// nothing that fails leaves Prosody stopped.
func TestAdoptRestart(t *testing.T) {
	const (
		unit, stop = "systemctl cat usher.service", "systemctl stop jicofo prosody"
		subscribe  = "prosodyctl mod_roster_command subscribe focus.meet.example.com focus@auth.meet.example.com"
		start      = "systemctl start prosody jicofo"
		doctor     = "usher doctor -c /etc/usher/usher.yaml"
	)
	a := adoption{root: jitsiOnDebian(t)}
	o, err := a.options(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p, err := adopt.New(o)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		fails, want []string
		says, err   string
	}{
		"by hand":          {[]string{unit}, []string{unit, stop, subscribe, start, doctor}, "Now start usher: usher serve -c /etc/usher/usher.yaml\n", ""},
		"a unit":           {nil, []string{unit, "systemctl stop usher", stop, subscribe, start, doctor, "systemctl start usher"}, "", ""},
		"something wrong":  {[]string{doctor}, []string{unit, "systemctl stop usher", stop, subscribe, start, doctor, "systemctl start usher"}, "", "exit status 1"},
		"no subscription":  {[]string{unit, subscribe}, []string{unit, stop, subscribe, start, doctor}, "warning: " + subscribe + ": it fails\n         -> usher must see", ""},
		"a stop too few":   {[]string{unit, stop}, []string{unit, stop, subscribe, start}, "Now start usher", stop + ": it fails"},
		"nothing examined": {[]string{start}, []string{unit, "systemctl stop usher", stop, subscribe, start, "systemctl start usher"}, "", start + ": it fails"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			var ran []string
			a := adoption{out: &out, run: func(_ context.Context, _ string, _ io.Writer, args ...string) error {
				if self, _ := os.Executable(); args[0] == self {
					args[0] = "usher"
				}
				ran = append(ran, strings.Join(args, " "))
				if slices.Contains(test.fails, ran[len(ran)-1]) {
					return errors.New("it fails")
				}
				return nil
			}}
			if err := a.restarted(t.Context(), p); (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("%v, want %s", err, test.err)
			}
			if !slices.Equal(ran, test.want) || !strings.Contains(out.String(), test.says) {
				t.Errorf("ran %q\n%s", ran, out.String())
			}
			// Without --restart the commands are named, the same ones.
			out.Reset()
			a.left(t.Context(), p)
			managed := !slices.Contains(test.fails, unit)
			if text := out.String(); strings.Contains(text, "systemctl start usher") != managed || strings.Contains(text, "usher serve") == managed {
				t.Errorf("left to do:\n%s", text)
			}
		})
	}
}

// TestAdoptPatience checks that the doctor is asked again as long as Prosody is still starting, and prints only its last answer.
func TestAdoptPatience(t *testing.T) {
	for _, late := range []bool{false, true} {
		var out bytes.Buffer
		asked := 0
		a := adoption{out: &out, patience: time.Hour, run: func(_ context.Context, _ string, w io.Writer, _ ...string) error {
			if asked++; asked > 1 && !late {
				fmt.Fprintln(w, "ok    port             it is there")
				return nil
			}
			fmt.Fprintln(w, "fail  port             nothing can be reached")
			return errors.New("exit status 1")
		}}
		if late {
			a.patience = 0
		}
		err := a.command(t.Context(), adopt.Command{Args: []string{"usher", "doctor"}, Doctor: true})
		if (err != nil) != late || strings.Count(out.String(), " port ") != 1 || late && asked != 1 {
			t.Errorf("asked %d times, %v\n%s", asked, err, out.String())
		}
	}
}
