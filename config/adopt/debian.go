package adopt

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/prosody/module"
)

// Where Debian's packages, and usher beside them, have their files.
const (
	usherFolder   = "/etc/usher"
	usherYAML     = usherFolder + "/usher.yaml"
	prosodyMain   = "/etc/prosody/prosody.cfg.lua"
	jicofoConf    = "/etc/jitsi/jicofo/jicofo.conf"
	jicofoOld     = "/etc/jitsi/jicofo/sip-communicator.properties"
	jicofoStart   = "/etc/jitsi/jicofo/config"
	meetFolder    = "/etc/jitsi/meet"
	secretFile    = "component.secret"
	includesLines = `Include "` + config.LinesFile + `"`
)

// debian plans the adoption of Debian's Jitsi.
func (d *draft) debian() error {
	if _, err := os.Stat(d.root.at(prosodyMain)); err != nil {
		return refuse("no Jitsi was found: %s cannot be read (%v), and this is not the folder of docker-jitsi-meet, which has a docker-compose.yml",
			prosodyMain, errors.Unwrap(err))
	}
	for folder, skip := range map[string][]string{"/etc/prosody": {"certs"}, "/etc/jitsi": nil, usherFolder: {journalIn}} {
		if err := d.stage.copy(folder, skip...); err != nil {
			return err
		}
	}
	d.plan.Prosody = prosodyMain
	d.load = []string{d.stage.at(usherYAML)}
	d.plan.Files = []string{usherYAML}
	d.findDebian()
	if err := d.folder(usherFolder, 0o750); err != nil {
		return err
	}
	if err := d.ownYAML("usher's configuration, as \"usher config import prosody\" makes it of Prosody's files", d.imported); err != nil {
		return err
	}
	c, err := d.read()
	if err != nil {
		return err
	}
	if len(c.ProsodyFiles()) == 0 {
		return refuse("%s does not say where Prosody's files are. Add to it: prosody: {files: [%s]}", usherYAML, prosodyMain)
	}
	for _, do := range []func(*config.Config) error{d.debianModule, d.debianLines, d.jicofo, d.debianPage} {
		if err := do(c); err != nil {
			return err
		}
	}
	d.debianCommands(c)
	return nil
}

// findDebian says which of the files there are.
func (d *draft) findDebian() {
	for _, file := range []string{prosodyMain, jicofoConf, usherYAML} {
		if exists(d.root.at(file)) {
			d.plan.Found = append(d.plan.Found, file)
		}
	}
}

// ownYAML plans usher's configuration, if there is none. One without any key, as a package installs it, counts as none.
func (d *draft) ownYAML(why string, make func() (string, error)) error {
	name := d.plan.Files[len(d.plan.Files)-1]
	_, now, err := d.present(name)
	if err != nil {
		return err
	}
	if has := new(yaml.Node); yaml.Unmarshal(now, has) != nil || len(has.Content) > 0 && has.Content[0].Tag != "!!null" {
		return d.secret(name, now) // its faults come to light when it is read
	}
	text, err := make()
	if err != nil {
		return err
	}
	if err := d.put(Change{File: name, New: []byte(text), own: true, Why: why}); err != nil {
		return err
	}
	return d.secret(name, []byte(text))
}

// secret plans the file with the component's secret that usher.yaml names, if it is not there.
func (d *draft) secret(name string, text []byte) error {
	var own struct {
		XMPP struct {
			File string `yaml:"secret_file"`
		} `yaml:"xmpp"`
	}
	if yaml.Unmarshal(text, &own) != nil || own.XMPP.File == "" {
		return nil
	}
	file := own.XMPP.File
	if !filepath.IsAbs(file) {
		file = filepath.Join(filepath.Dir(name), file)
	}
	if _, now, err := d.present(file); now != nil || err != nil {
		return err
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	return d.put(Change{File: file, New: []byte(hex.EncodeToString(random) + "\n"), veiled: "32 random bytes",
		Why: "The secret that usher and Prosody share"})
}

// todo begins the lines at the head of an import that say what is still to do, and note those about what is worth knowing.
const todo, note = "# To do: ", "# Note: "

// settled are notes of an import about what the adoption changes.
var settled = regexp.MustCompile(`with rooms\.enforcement members-only, clients show|conferenceRequestUrl is set|is still Jitsi's client_proxy`)

// imported returns the usher.yaml of "usher config import prosody", with what the README adds to it: the file with the component's secret,
// and usher's module, which leaves the lobby's switch to the moderators.
func (d *draft) imported() (string, error) {
	text, err := config.Import{
		Prosody: []string{d.stage.at(prosodyMain)}, Environ: d.o.Environ, Trusted: d.o.Trusted, Checks: d.o.Checks,
		MeetFolder: d.stage.at(meetFolder),
	}.YAML()
	if err != nil {
		return "", err
	}
	var kept, reasons []string
	own := regexp.MustCompile(`(?m)^  secret:`).Match(text) // only below xmpp is it indented so little
	for line := range strings.Lines(d.stage.out(string(text))) {
		switch {
		case strings.HasPrefix(line, todo+"usher.yaml: xmpp.secret_file: is missing"), strings.HasPrefix(line, note) && settled.MatchString(line):
			continue
		case strings.HasPrefix(line, todo):
			reasons = append(reasons, strings.TrimSpace(strings.TrimPrefix(line, todo)))
		}
		kept = append(kept, line)
		switch {
		case line == "xmpp:\n" && !own:
			kept = append(kept, "  secret_file: "+secretFile+"\n")
		case line == "rooms:\n":
			kept = append(kept, "  enforcement: module # the lobby's switch stays with the moderators\n")
		}
	}
	if len(reasons) > 0 {
		if strings.Contains(reasons[0], "xmpp.domain: is missing") { // there is no client_proxy
			reasons = append(reasons, "If this Prosody serves no Jitsi, adopt is not for it: "+
				`the README has the steps, in "You run Prosody rooms without Jitsi".`)
		}
		return "", &Refusal{append(reasons, fmt.Sprintf("usher cannot know this. Mend it where it stands, or write %s yourself "+
			"(usher config import prosody %s > %s) and run adopt again.", usherYAML, prosodyMain, usherYAML))}
	}
	return strings.Join(kept, ""), nil
}

// debianModule plans usher's module for Prosody.
func (d *draft) debianModule(c *config.Config) error {
	if c.Rooms.Enforcement != config.Module {
		return nil
	}
	return d.module(config.ModuleFolder)
}

// module plans usher's module in a folder, with the file of its earlier name: that is usher's, and may be there from an earlier usher.
func (d *draft) module(folder string) error {
	why := map[string]string{
		"mod_" + module.Name + ".lua":  "usher's module for Prosody: it keeps out people without an affiliation, tells usher what happens, and does what usher says",
		"mod_" + module.Alias + ".lua": "The name that usher's module had before, for lines that still have it",
	}
	for _, f := range module.Files() {
		name := filepath.Join(folder, f.Name)
		_, now, err := d.present(name)
		if err != nil {
			return err
		}
		if now != nil {
			if err := d.stage.put(name, now, 0o644); err != nil {
				return err
			}
		}
	}
	if _, err := module.Write(d.stage.at(folder)); err != nil { // refuses a file that is not usher's
		return &Refusal{[]string{err.Error()}}
	}
	for _, f := range module.Files() {
		if err := d.put(Change{File: filepath.Join(folder, f.Name), New: f.Source, mode: 0o644, Why: why[f.Name],
			veiled: fmt.Sprintf("%d lines of usher's own", bytes.Count(f.Source, []byte("\n")))}); err != nil {
			return err
		}
	}
	return nil
}

// debianLines plans usher's lines for Prosody, and the line that includes them.
func (d *draft) debianLines(c *config.Config) error {
	text, err := d.linesFor(c, config.LinesFile)
	if err != nil {
		return err
	}
	if err := d.put(Change{File: config.LinesFile, New: []byte(text), like: prosodyMain,
		Why: "What Prosody needs for usher to decide, as \"usher config prosody\" prints it"}); err != nil {
		return err
	}
	_, main, err := d.present(prosodyMain)
	if err != nil {
		return err
	}
	return d.put(Change{File: prosodyMain, New: []byte(includedLast(string(main))), Why: "Prosody must read usher's lines after all others"})
}

// includedLast returns Prosody's main file with the line that includes usher's lines as its very last one.
func includedLast(text string) string {
	last := ""
	for line := range strings.Lines(text) {
		if t := strings.TrimSpace(line); t != "" && !strings.HasPrefix(t, "--") {
			last = t
		}
	}
	if last == includesLines {
		return text
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != includesLines {
			b.WriteString(line)
		}
	}
	if !strings.HasSuffix(b.String(), "\n") && b.Len() > 0 {
		b.WriteByte('\n')
	}
	return b.String() + "\n" + includesLines + "\n"
}

// jicofo plans what Jicofo's file must say.
func (d *draft) jicofo(c *config.Config) error {
	if c.Jicofo.JID.Equal(jid.JID{}) {
		return nil
	}
	_, text, err := d.present(jicofoConf)
	if err != nil {
		return err
	}
	wanted := jicofoWanted(c.XMPP.Domain.String())
	if text == nil {
		var lines []string
		for _, w := range wanted {
			lines = append(lines, w.line())
		}
		d.plan.ByHand = append(d.plan.ByHand, fmt.Sprintf("%s is not there, so Jicofo runs elsewhere. Set in its file: %s", jicofoConf, strings.Join(lines, ", ")))
		return nil
	}
	if err := d.overridden(); err != nil {
		return err
	}
	changed, fault := jicofoSaying(string(text), wanted)
	if fault != nil {
		return refuse("%s:%d: %s", jicofoConf, fault.line, fault.text)
	}
	return d.put(Change{File: jicofoConf, New: []byte(changed), Why: "Jicofo leaves the decision to usher, and believes what usher says of who asks"})
}

// legacy is Jicofo's former option, which switches its authentication on, and what sets options for the whole program. Both win over
// jicofo.conf (jicofo, AuthConfig.kt; Typesafe's config library).
var (
	legacy = regexp.MustCompile(`^\s*org\.jitsi\.jicofo\.auth\.URL\s*[=:]`)
	system = regexp.MustCompile(`-D(?:org\.jitsi\.jicofo\.auth\.URL|jicofo\.(?:conference\.enable-auto-owner|authentication\.enabled|xmpp\.client\.client-proxy)|config\.(?:file|resource|url))=("?/etc/jitsi/jicofo/jicofo\.conf\b)?`)
)

// overridden refuses what would make usher's lines in jicofo.conf count for nothing.
func (d *draft) overridden() error {
	var reasons []string
	for _, look := range []struct {
		file string
		says func(line string) bool
	}{
		{jicofoOld, legacy.MatchString},
		{jicofoStart, func(line string) bool {
			m := system.FindStringSubmatch(line)
			return m != nil && m[1] == "" && !strings.HasPrefix(strings.TrimSpace(line), "#")
		}},
	} {
		_, text, err := d.present(look.file)
		if err != nil {
			return err
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			if n++; look.says(line) {
				reasons = append(reasons, fmt.Sprintf("%s:%d: this wins over %s, so Jicofo would go on deciding: take it out", look.file, n, jicofoConf))
			}
		}
	}
	if len(reasons) > 0 {
		return &Refusal{reasons}
	}
	return nil
}

// debianPage looks at the configurations of the web page, one for each domain.
func (d *draft) debianPage(c *config.Config) error {
	for _, v := range c.VHosts {
		file := filepath.Join(meetFolder, v.Domain.String()+"-config.js")
		if exists(d.stage.at(file)) {
			d.plan.Found = append(d.plan.Found, file)
			d.meet = append(d.meet, d.stage.at(file))
		}
	}
	for _, m := range c.Meet { // those that usher.yaml names
		if !slices.Contains(d.meet, m.File) {
			d.meet = append(d.meet, m.File)
		}
	}
	return d.page()
}

// debianCommands plans what puts the changes into effect. The subscription has no effect while Prosody, which holds Jicofo's roster in
// memory, is running.
func (d *draft) debianCommands(c *config.Config) {
	command := func(args ...string) Command { return Command{Args: args} }
	if c.Jicofo.JID.Equal(jid.JID{}) {
		d.plan.Restart = []Command{command("systemctl", "restart", "prosody")}
	} else {
		subscribe := command("prosodyctl", "mod_roster_command", "subscribe", c.XMPP.Domain.String(), c.Jicofo.JID.String())
		subscribe.Else = "usher must see whether Jicofo is online. Jitsi's installer has mostly subscribed already; the doctor says whether it has"
		d.plan.Restart = []Command{
			command("systemctl", "stop", "jicofo", "prosody"),
			subscribe,
			command("systemctl", "start", "prosody", "jicofo"),
		}
	}
	d.plan.Restart = append(d.plan.Restart, Command{Args: []string{"usher", "doctor", "-c", usherYAML}, Doctor: true})
	d.plan.Start = []Command{command("usher", "serve", "-c", usherYAML)}
}

// lineOf returns the line of a source such as "meet config.js:14".
func lineOf(source string) int {
	n, _ := strconv.Atoi(source[strings.LastIndexByte(source, ':')+1:])
	return n
}
