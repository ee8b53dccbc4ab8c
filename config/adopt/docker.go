package adopt

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/deploy"
)

const (
	dockerCompose = "docker-compose.yml"
	override      = "docker-compose.override.yml"
	linesName     = "usher.cfg.lua"
	mainName      = "prosody.cfg.lua"
)

// jitsiInDocker is a folder of docker-jitsi-meet.
type jitsiInDocker struct {
	folder, volumes string            // absolute; volumes is CONFIG
	env             string            // .env, without usher's lines
	variables       map[string]string // of it
}

func (j *jitsiInDocker) own(name string) string { return filepath.Join(j.folder, "usher", name) }

// docker plans the adoption of docker-jitsi-meet. Its image writes Prosody's files anew at each start, so everything that lasts is in .env
// and in the mounted folders.
func (d *draft) docker() error {
	j, err := d.dockerFolder()
	if err != nil {
		return err
	}
	env := filepath.Join(j.folder, ".env")
	for _, name := range []string{env, j.own("")} {
		if err := d.stage.copy(name, journalIn, "data", "usher"); err != nil {
			return err
		}
	}
	d.load = []string{d.stage.at(env), d.stage.at(j.own("usher.yaml"))}
	d.plan.Files = []string{env, j.own("usher.yaml")}
	d.plan.Found = append(d.plan.Found, filepath.Join(j.folder, dockerCompose), env, j.volumes)
	if err := d.folder(j.own("data"), 0o755); err != nil {
		return err
	}
	for _, do := range []func(*jitsiInDocker) error{d.container, d.dockerEnv, d.image, d.dockerLines, d.dockerPage} {
		if err := do(j); err != nil {
			return err
		}
	}
	d.dockerCommands(j)
	return nil
}

// dockerFolder reads .env, and refuses what usher cannot stand beside.
func (d *draft) dockerFolder() (*jitsiInDocker, error) {
	j := &jitsiInDocker{folder: d.o.Docker}
	_, content, err := d.present(filepath.Join(j.folder, ".env"))
	if err != nil {
		return nil, err
	}
	if content == nil {
		return nil, refuse("%s/.env is not there: docker-jitsi-meet needs it (cp env.example .env)", j.folder)
	}
	j.env = withoutOwn(string(content))
	if j.variables, err = config.Dotenv(j.env); err != nil {
		return nil, refuse("%s/.env:%v", j.folder, err)
	}
	volumes := j.variables["CONFIG"]
	home := environ(d.o.Environ, "HOME")
	switch {
	case volumes == "":
		return nil, refuse("%s/.env does not set CONFIG, the folder of the containers' configuration", j.folder)
	case volumes == "~" || strings.HasPrefix(volumes, "~/"):
		if home == "" {
			return nil, refuse("%s/.env: CONFIG begins with ~, and HOME is not set", j.folder)
		}
		volumes = filepath.Join(home, volumes[1:])
	case !filepath.IsAbs(volumes):
		volumes = filepath.Join(j.folder, volumes)
	}
	j.volumes = volumes
	if mode := j.variables["PROSODY_MODE"]; mode != "" && mode != "client" {
		return nil, refuse("%s: PROSODY_MODE is %q, and usher guards a server of the mode client", d.where(j, "PROSODY_MODE"), mode)
	}
	if j.variables["JAAS_APP_ID"] != "" {
		return nil, refuse("%s: with JAAS_APP_ID the web page uses JaaS instead of this server, and nobody asks usher: take it out", d.where(j, "JAAS_APP_ID"))
	}
	return j, nil
}

// where returns where a variable is set in .env, as file:line.
func (d *draft) where(j *jitsiInDocker, name string) string {
	found := 0
	for n, line := range strings.Split(j.env, "\n") {
		if strings.HasPrefix(strings.TrimPrefix(strings.TrimSpace(line), "export "), name+"=") {
			found = n + 1
		}
	}
	return filepath.Join(j.folder, ".env") + ":" + strconv.Itoa(found)
}

func environ(all []string, name string) (value string) {
	for _, entry := range all {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value = v
		}
	}
	return value
}

// container plans the files of usher's own container.
func (d *draft) container(j *jitsiInDocker) error {
	if d.o.Program != "" {
		program, err := os.ReadFile(d.o.Program)
		if err != nil {
			return err
		}
		if err := d.put(Change{File: j.own("usher"), New: program, mode: 0o755, veiled: "usher itself", Why: "The program for the container"}); err != nil {
			return err
		}
	}
	for _, f := range []struct{ name, to, why string }{
		{"docker/Dockerfile", j.own("Dockerfile"), "Makes the container of usher"},
		{"docker-compose.usher.yml", filepath.Join(j.folder, "usher.yml"), "The container of usher, for docker compose"},
	} {
		content, err := fs.ReadFile(deploy.Docker, f.name)
		if err != nil {
			return err
		}
		_, now, err := d.present(f.to)
		if now != nil || err != nil { // somebody may have adapted it
			if err != nil {
				return err
			}
			continue
		}
		if err := d.put(Change{File: f.to, New: content, mode: 0o644, Why: f.why}); err != nil {
			return err
		}
	}
	return d.ownYAML("usher's configuration; .env says who may enter", func() (string, error) {
		content, err := fs.ReadFile(deploy.Docker, "docker/usher.yaml")
		return string(content), err
	})
}

// off reports whether a switch is off, as for docker-jitsi-meet's templates.
func off(value string) bool {
	on, err := strconv.ParseBool(value)
	return err == nil && !on
}

// dockerWanted returns what .env must say. files are compose's own ones.
func dockerWanted(files, separator string) []variable {
	return []variable{
		{"ENABLE_AUTO_OWNER", "0", off, nil},
		{"JICOFO_ENABLE_AUTH", "0", off, nil},
		{"COMPOSE_FILE", strings.ReplaceAll(files, ":", separator) + separator + "usher.yml",
			func(now string) bool { return slices.Contains(strings.Split(now, separator), "usher.yml") },
			func(now string) string { return now + separator + "usher.yml" }},
		{"GLOBAL_CONFIG", config.DockerGlobalConfig,
			func(now string) bool { return strings.Contains(now, config.DockerGlobalConfig) },
			func(now string) string { return now + `\n` + config.DockerGlobalConfig }},
	}
}

// dockerEnv plans the lines of .env: Jicofo leaves the decision to usher, compose knows usher's container, and Prosody reads usher's lines.
func (d *draft) dockerEnv(j *jitsiInDocker) error {
	files := dockerCompose
	if exists(d.root.at(filepath.Join(j.folder, override))) {
		files += ":" + override // without COMPOSE_FILE compose reads it by itself
	}
	separator := j.variables["COMPOSE_PATH_SEPARATOR"]
	if separator == "" {
		separator = ":"
	}
	changed, faulty := saying(j.env, j.variables, dockerWanted(files, separator))
	if faulty != "" {
		return refuse("%s: %s has a single quote in it, so usher cannot add to it safely: add it by hand (deploy/README.md, \"You run docker-jitsi-meet\")",
			d.where(j, faulty), faulty)
	}
	return d.put(Change{File: filepath.Join(j.folder, ".env"), New: []byte(changed),
		Why: "Jicofo leaves the decision to usher, Prosody reads usher's lines, and compose runs usher"})
}

// image plans the copy of Prosody's files, as the image will make them from .env.
func (d *draft) image(j *jitsiInDocker) error {
	folder := j.own("prosody")
	now, err := d.copied(folder)
	if err != nil {
		return err
	}
	made, err := d.made(folder, now)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(made)) {
		if alike(now[name], made[name]) {
			continue
		}
		c := Change{File: filepath.Join(folder, name), New: made[name], Why: "A copy of what the image makes; only usher's commands read it"}
		if now[name] == nil {
			c.veiled = "a copy"
		}
		if err := d.put(c); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(now)) {
		if made[name] == nil && name != linesName {
			if err := d.put(Change{File: filepath.Join(folder, name), Why: "The image no longer makes it"}); err != nil {
				return err
			}
		}
	}
	return nil
}

// made returns what the image will make: what it has made now, or the copy of that, with GLOBAL_CONFIG before its Include
// (prosody/rootfs/defaults/prosody.cfg.lua).
func (d *draft) made(folder string, now map[string][]byte) (map[string][]byte, error) {
	made := maps.Clone(now)
	if d.o.Image != nil {
		if fresh, err := d.o.Image(); err == nil {
			made = fresh
		} else if len(now) == 0 {
			return nil, refuse("Prosody's files, as the image has made them, could not be copied out of the container (%v). Start docker-jitsi-meet "+
				"(docker compose up -d) and run adopt again", err)
		}
	}
	delete(made, linesName) // usher's own
	main := string(made[mainName])
	if main == "" {
		return nil, refuse("%s/%s is not there. Start docker-jitsi-meet (docker compose up -d), and run adopt where docker is", folder, mainName)
	}
	const include = `Include "conf.d/*.cfg.lua"`
	switch {
	case strings.Contains(main, config.DockerGlobalConfig):
	case !strings.Contains(main, include):
		return nil, refuse("%s/%s has no %s, so usher does not know where the image puts GLOBAL_CONFIG", folder, mainName, include)
	default:
		made[mainName] = []byte(strings.Replace(main, include, config.DockerGlobalConfig+"\n"+include, 1))
	}
	return made, nil
}

// alike reports whether two versions of a file mean the same, but for GLOBAL_CONFIG, which the image puts elsewhere, and empty lines.
func alike(a, b []byte) bool {
	bare := func(text []byte) string {
		var kept strings.Builder
		for line := range strings.Lines(string(text)) {
			if t := strings.TrimSpace(line); t != "" && t != config.DockerGlobalConfig {
				kept.WriteString(t + "\n")
			}
		}
		return kept.String()
	}
	has := func(text []byte) bool { return strings.Contains(string(text), config.DockerGlobalConfig) }
	return a != nil && bare(a) == bare(b) && has(a) == has(b)
}

// copied returns the files of the copy in a folder, by their names in it.
func (d *draft) copied(folder string) (map[string][]byte, error) {
	files := map[string][]byte{}
	root, err := d.root.follow(folder)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(d.root.at(root), func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !e.Type().IsRegular() || strings.Contains(e.Name(), ".before-usher-") {
			return err
		}
		name, _ := filepath.Rel(d.root.at(root), path)
		files[name], err = d.root.content(filepath.Join(root, name))
		return err
	})
	return files, err
}

// dockerLines plans usher's lines, their copy beside that of the image's files, and usher's module.
func (d *draft) dockerLines(j *jitsiInDocker) error {
	// The image's main file includes usher's lines, so there must be some before they can be made.
	if copy := filepath.Join(j.own("prosody"), linesName); !exists(d.stage.at(copy)) {
		if err := d.stage.put(copy, nil, 0o640); err != nil {
			return err
		}
	}
	// usher's container has the variables of .env as its environment; here they are read from it.
	c, err := d.read()
	if err != nil {
		return err
	}
	if len(c.ProsodyFiles()) == 0 {
		return refuse("%s does not say where Prosody's files are. Add to it: prosody: {files: [prosody/%s]}", j.own("usher.yaml"), mainName)
	}
	file := filepath.Join(j.volumes, "prosody/config", linesName)
	text, err := d.linesFor(c, file)
	if err != nil {
		return err
	}
	for _, f := range []struct{ name, why, veiled string }{
		{file, "What Prosody needs for usher to decide, as \"usher config prosody\" prints it", ""},
		{filepath.Join(j.own("prosody"), linesName), "A copy of usher's lines, beside that of the image's files", "a copy"},
	} {
		if err := d.put(Change{File: f.name, New: []byte(text), Why: f.why, veiled: f.veiled}); err != nil {
			return err
		}
	}
	if c.Rooms.Enforcement != config.Module {
		return nil
	}
	return d.module(filepath.Join(j.volumes, "prosody/prosody-plugins-custom"))
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// dockerPage looks at what the operator adds to the configuration of the web page.
func (d *draft) dockerPage(j *jitsiInDocker) error {
	file := filepath.Join(j.volumes, "web/custom-config.js")
	if err := d.stage.copy(file); err != nil {
		return err
	}
	if exists(d.stage.at(file)) {
		d.meet = append(d.meet, d.stage.at(file))
	}
	return d.page()
}

// dockerCommands plans what puts the changes into effect.
func (d *draft) dockerCommands(j *jitsiInDocker) {
	command := func(args ...string) Command {
		return Command{Args: append([]string{"docker", "compose"}, args...), Dir: d.root.at(j.folder)}
	}
	doctor := command("run", "--rm", "usher", "doctor", "-c", "usher.yaml")
	doctor.Doctor = true
	d.plan.Restart = []Command{command("up", "-d", "--build"), command("stop", "usher"), doctor}
	d.plan.Start = []Command{command("start", "usher")}
}
