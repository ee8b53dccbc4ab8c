package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/config/prosody"
	"github.com/xmpp-usher/usher/config/prosody/module"
)

// mucOption is an option that a guarded MUC service must have.
type mucOption struct {
	name  string
	value bool
	why   string
	// defeats says what happens without it, if it makes the gate useless.
	defeats string
	// unset tells that it need not be set, for it is the server's default.
	unset bool
}

// onlyAdmins is the option that every MUC service must have that usher has to do with.
var onlyAdmins = mucOption{name: "restrict_room_creation", value: true, why: "only admins create rooms", defeats: "anybody can create rooms"}

// mucOptions returns these options: the one place that says what makes a stock MUC service a guarded one.
func (c *Config) mucOptions() []mucOption {
	membersOnly := mucOption{name: "muc_room_default_members_only", value: true, why: "nobody enters without an affiliation",
		defeats: "anybody can enter a room that has just been created"}
	if c.Rooms.Enforcement == Module {
		membersOnly = mucOption{name: membersOnly.name, value: false, why: "the switch of the lobby, which begins switched off", unset: true}
	}
	return []mucOption{
		onlyAdmins,
		membersOnly,
		{name: "muc_room_default_public_jids", value: true, why: "clients know each other by their real JIDs"},
		{name: "muc_room_locking", value: false, why: "usher configures each room before anybody is let in"},
	}
}

// displayName is an option of Jitsi's lobby plugin, on the virtual host that loads it: without it, whoever has no display
// name is refused in every room that is members-only (mod_muc_lobby_rooms.lua).
const displayName = "muc_lobby_check_display_name_required"

// ModuleFolder is where Prosody is told to look for usher's module if no other place is known.
const ModuleFolder = "/usr/local/lib/prosody/modules"

// Focus is the JID by which usher acts in rooms: one of the admins of the MUC services.
func (c *Config) Focus() string { return "focus@" + c.XMPP.Domain.String() }

// ProsodyLines returns what Prosody, 0.12 or 13, must say for this configuration to be a gate: a file to be read after all
// others, whose last word counts. It contains the component's secret.
func (c *Config) ProsodyLines() string {
	var b strings.Builder
	line := func(text, why string) {
		if why != "" {
			text = fmt.Sprintf("%-49s -- %s", text, why)
		}
		b.WriteString(text + "\n")
	}
	line("-- What usher needs of Prosody 0.12 or 13, as \"usher config prosody\" has written it. Prosody must read it last: as", "")
	line("-- conf.d/zz-usher.cfg.lua, or by an Include at the end of prosody.cfg.lua. It has a secret in it: chmod 640, and", "")
	line("-- readable by Prosody's group. After that: prosodyctl check config, and restart Prosody.", "")
	if c.prosody == nil && (c.Rooms.Enforcement == Module || c.Jicofo.JID.String() != "") {
		line("--", "")
		line("-- Prosody's own files are not among usher's sources. So the lists here (admins, modules_enabled, plugin_paths) have only", "")
		line("-- what usher needs: add what stands in yours, for of several lines the last one counts. Or name them: sources.prosody.", "")
	}
	line("", "")
	line("component_admins_as_room_owners = true", "Prosody 13: without it usher owns no room")
	if host, port, err := net.SplitHostPort(c.XMPP.Server); err == nil && loopback(host) && port != "5347" {
		line("component_ports = { "+port+" }", "where usher connects to (xmpp.server)")
	}
	if c.Rooms.Enforcement == Module {
		line(c.pluginPaths(ModuleFolder), `where "usher config prosody --module DIR" has put the module`)
	}
	if c.namesRequired() {
		line(displayName+" = false", "else nobody enters without a display name")
	}
	for _, v := range c.VHosts {
		line("", "")
		line("VirtualHost "+quoteLua(v.Domain.String()), map[Kind]string{
			KindToken:   "people with a token, which usher looks at, so Prosody need not",
			KindGuest:   "guests",
			KindTrusted: "hosts: its authentication stays, for it must ask for a password",
			KindService: "recorders and gateways: its authentication stays",
		}[v.Kind])
		if v.Kind == KindToken || v.Kind == KindGuest {
			line(`  authentication = "anonymous"`, "")
		}
		if v.Kind == KindToken && c.prosody != nil {
			line("  app_id = "+quoteLua(v.Issuers[0].AppID), "by which usher, who reads this, too, tells it from one of guests")
		}
		if s := c.section(v.Domain); s != nil && c.namesRequired() {
			if _, own := s.Own(displayName); own {
				line("  "+displayName+" = false", "else nobody enters without a display name")
			}
		}
		c.disable(v.Domain, line)
	}
	for _, service := range c.Rooms.Services {
		line("", "")
		line("Component "+quoteLua(service.String())+` "muc"`, "the rooms")
		for _, o := range c.mucOptions() {
			line(fmt.Sprintf("  %s = %t", o.name, o.value), o.why)
		}
		line("  admins = { "+strings.Join(quoteAll(c.admins(service)), ", ")+" }", "usher in rooms is "+c.Focus())
		if c.Rooms.Enforcement == Module {
			line("  "+c.modulesEnabled(service), "keeps out whoever has no affiliation")
		}
		c.disable(service, line)
	}
	for _, a := range c.annexes() {
		line("", "")
		line("Component "+quoteLua(a.service.String())+` "muc"`, a.what)
		line(fmt.Sprintf("  %s = %t", onlyAdmins.name, onlyAdmins.value), onlyAdmins.why)
		line("  admins = { "+strings.Join(quoteAll(c.admins(a.service)), ", ")+" }", "usher asks them what they are")
		if a.guarded && c.Rooms.Enforcement == Module {
			line("  "+c.modulesEnabled(a.service), "a breakout room is as open as its main room")
		}
		c.disable(a.service, line)
	}
	line("", "")
	line("Component "+quoteLua(c.XMPP.Domain.String()), "usher; not a module such as client_proxy")
	line("  component_secret = "+quoteLua(c.XMPP.Secret.Reveal()), "")
	return b.String()
}

// ModuleLines returns the lines by which Prosody loads usher's module, which is in that folder, on each MUC service.
func (c *Config) ModuleLines(folder string) string {
	var b strings.Builder
	b.WriteString(c.pluginPaths(folder) + "\n")
	services := slices.Clone(c.Rooms.Services)
	for _, a := range c.annexes() {
		if a.guarded {
			services = append(services, a.service)
		}
	}
	for _, service := range services {
		fmt.Fprintf(&b, "Component %s \"muc\"\n  %s\n", quoteLua(service.String()), c.modulesEnabled(service))
	}
	return b.String()
}

// pluginPaths is the line that has a folder among those in which Prosody looks for modules, beside those that are known.
func (c *Config) pluginPaths(folder string) string {
	var paths []string
	if c.prosody != nil {
		paths, _, _, _ = c.prosody.Global.Strings("plugin_paths")
	}
	if !slices.Contains(paths, folder) {
		paths = append(paths, folder)
	}
	return "plugin_paths = { " + strings.Join(quoteAll(paths), ", ") + " }"
}

// modulesEnabled is the line that has usher's module among those of a MUC service, beside those that are known. Those
// that are enabled globally need not be there: they are not for components.
func (c *Config) modulesEnabled(service jid.JID) string {
	var modules []string
	if s := c.section(service); s != nil {
		if _, own := s.Own("modules_enabled"); own {
			modules, _, _, _ = s.Strings("modules_enabled")
		}
	}
	if !slices.Contains(modules, module.Name) {
		modules = append(modules, module.Name)
	}
	return "modules_enabled = { " + strings.Join(quoteAll(modules), ", ") + " }"
}

// namesRequired reports whether Jitsi's lobby would keep out whoever has no display name unless it is told not to look.
func (c *Config) namesRequired() bool {
	return c.Rooms.Lobby.String() != "" && c.Rooms.Enforcement == MembersOnly
}

// annex is a MUC service that belongs to the guarded ones.
type annex struct {
	service jid.JID
	what    string
	guarded bool // the module must be loaded there, too
}

func (c *Config) annexes() []annex {
	all := []annex{
		{c.Rooms.Breakout, "Jitsi's breakout rooms", true},
		{c.Rooms.Lobby, "Jitsi's lobbies", false},
	}
	return slices.DeleteFunc(all, func(a annex) bool { return a.service.String() == "" })
}

// own returns the admins that a MUC service must have for usher's sake.
func (c *Config) own(service jid.JID) []string {
	admins := []string{c.Focus()}
	if c.Lobby.Autostart == AutostartHost && slices.ContainsFunc(c.Rooms.Services, service.Equal) {
		// Jitsi's lobby plugin does not listen to a focus (mod_muc_lobby_rooms.lua), so usher switches the lobby on as itself.
		admins = append(admins, c.XMPP.Domain.String())
	}
	if c.Jicofo.JID.String() != "" {
		admins = append(admins, c.Jicofo.JID.String())
	}
	return admins
}

// admins returns the admins of a MUC service: those that it must have, and whoever is one already.
func (c *Config) admins(service jid.JID) []string {
	admins := c.own(service)
	if s := c.section(service); s != nil {
		found, _, _, _ := s.Strings("admins")
		for _, admin := range found {
			if !slices.Contains(admins, admin) {
				admins = append(admins, admin)
			}
		}
	}
	return admins
}

// disable writes the line by which a section disables the modules that decide beside usher, as far as Prosody's configuration
// is known: with those that it disables already, for the last line of that option counts.
func (c *Config) disable(domain jid.JID, line func(text, why string)) {
	s := c.section(domain)
	if s == nil {
		return
	}
	disabled, _, _, _ := s.Strings("modules_disabled")
	_, write := s.Own("modules_disabled")
	for _, m := range s.Modules() {
		if c.decides(s, m.Name) != "" {
			disabled, write = append(disabled, m.Name), true
		}
	}
	if write {
		line("  modules_disabled = { "+strings.Join(quoteAll(disabled), ", ")+" }", "they would decide, too")
	}
}

func (c *Config) section(domain jid.JID) *prosody.Section {
	if c.prosody == nil {
		return nil
	}
	return c.prosody.Host(domain.String())
}

// quoteLua writes a text as Lua does. What is not plain is written as decimal escapes, which have no special cases.
func quoteLua(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c == 0x7f {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func quoteAll(texts []string) []string {
	quoted := make([]string, len(texts))
	for i := range texts {
		quoted[i] = quoteLua(texts[i])
	}
	return quoted
}

// Finding is a difference between what Prosody's configuration says and what it must say.
type Finding struct {
	Level FindingLevel
	// Source is where: "prosody conf.d/meet.cfg.lua:14".
	Source string
	// Text says what is there and what it means, Mend what to write.
	Text, Mend string
}

// FindingLevel says how bad a finding is.
type FindingLevel string

// The levels of findings.
const (
	Defeats FindingLevel = "defeats" // the gate is open, or two decide
	Missing FindingLevel = "missing" // usher cannot work as it should
	Hint    FindingLevel = "hint"    // what cannot be seen here, or is worth knowing
)

// CompareProsody compares Prosody's configuration with what it must say. Without files it is the one among the sources. The
// error is a *[Problems].
func (c *Config) CompareProsody(environ []string, files ...string) ([]Finding, error) {
	p := c.prosody
	if len(files) > 0 {
		l := newLoader("")
		if p, _ = l.loadProsody(files, place{source: "command line", layer: layerCommand}, environ); p == nil {
			return nil, l.failed()
		}
	}
	if p == nil {
		return nil, nil
	}
	g := &gate{c: c, p: p}
	for _, service := range c.Rooms.Services {
		g.muc(service)
	}
	for _, a := range c.annexes() {
		g.annex(a)
	}
	g.lobby()
	g.whitelists()
	if paths, _, _, _ := g.p.Global.Strings("plugin_paths"); g.c.Rooms.Enforcement == Module && len(paths) == 0 {
		g.find(Hint, prosody.Position{}, "plugin_paths = { "+quoteLua(ModuleFolder)+" }",
			"without plugin_paths, Prosody finds the module %s only if it is among its own", module.Name)
	}
	g.own()
	for _, v := range c.VHosts {
		g.vhost(v)
	}
	g.jicofo()
	for _, at := range p.NeedsProsody13 {
		g.find(Hint, at, "", "Prosody 0.12 does not take this line, or takes it otherwise")
	}
	return g.findings, nil
}

// gate compares.
type gate struct {
	c        *Config
	p        *prosody.Configuration
	findings []Finding
}

func (g *gate) find(level FindingLevel, at prosody.Position, mend, format string, args ...any) {
	source := "prosody"
	if at.File != "" {
		source += " " + at.String()
	}
	g.findings = append(g.findings, Finding{level, source, fmt.Sprintf(format, args...), mend})
}

func (g *gate) muc(service jid.JID) {
	name := service.String()
	s := g.component(service)
	if s == nil {
		return
	}
	if owners, at, ok, _ := s.Bool("component_admins_as_room_owners"); !ok || !owners {
		g.find(Missing, at, "component_admins_as_room_owners = true", "on Prosody 13 usher owns no room on %s", name)
	}
	for _, o := range g.c.mucOptions() {
		g.option(s, o)
	}
	g.admins(s, service, "so cannot create rooms")
	admins, at, _, _ := s.Strings("admins")
	for _, admin := range admins {
		if !slices.Contains(g.c.own(service), admin) {
			g.find(Hint, at, "", "%s: %s is an admin, too: creates and enters rooms without being asked", name, admin)
		}
	}
	g.module(s)
	g.modules(s)
}

// component returns the section of a MUC service, or nil if it is none, which is then found.
func (g *gate) component(service jid.JID) *prosody.Section {
	s := g.p.Host(service.String())
	if s != nil && s.Component && s.Module == "muc" {
		return s
	}
	at := prosody.Position{}
	if s != nil {
		at = s.At
	}
	g.find(Missing, at, "Component "+quoteLua(service.String())+` "muc"`, "%s is no MUC service", service)
	return nil
}

// option compares one option of a MUC service.
func (g *gate) option(s *prosody.Section, o mucOption) {
	value, at, ok, err := s.Bool(o.name)
	if err == nil && (ok && value == o.value || !ok && o.unset) {
		return
	}
	level, means := Missing, o.why
	if o.defeats != "" {
		level, means = Defeats, "without it "+o.defeats
	}
	what := "is not set"
	if ok || err != nil {
		what = "is something else"
	} else {
		at = s.At
	}
	g.find(level, at, fmt.Sprintf("%s = %t", o.name, o.value), "%s: %s %s: %s", s.Name, o.name, what, means)
}

// admins looks whether usher and Jicofo are admins of a MUC service. So says what usher cannot do otherwise.
func (g *gate) admins(s *prosody.Section, service jid.JID, so string) {
	admins, _, _, _ := s.Strings("admins")
	all := admins
	var absent []string
	for _, admin := range g.c.own(service) {
		if !slices.Contains(admins, admin) {
			all = append([]string{admin}, all...)
			absent = append(absent, admin)
		}
	}
	mend := "admins = { " + strings.Join(quoteAll(all), ", ") + " }"
	for _, admin := range absent {
		who := "usher"
		switch admin {
		case g.c.XMPP.Domain.String():
			so = "so cannot switch the lobby on"
		case g.c.Jicofo.JID.String():
			who, so = "Jicofo", "so cannot create rooms"
		}
		g.find(Missing, s.At, mend, "%s: %s (%s) is not among its admins, %s", s.Name, who, admin, so)
	}
}

// module looks for usher's module on a MUC service.
func (g *gate) module(s *prosody.Section) {
	modules := s.Modules()
	i := slices.IndexFunc(modules, func(m prosody.Module) bool { return m.Name == module.Name })
	switch {
	case g.c.Rooms.Enforcement == Module && i < 0:
		g.find(Defeats, s.At, "modules_enabled = { "+quoteLua(module.Name)+" }",
			"%s: the module %s is not loaded: anybody can enter a room that is open", s.Name, module.Name)
	case g.c.Rooms.Enforcement == MembersOnly && i >= 0:
		g.find(Hint, modules[i].At, "", "%s: the module %s has nothing to do with rooms.enforcement members-only", s.Name, module.Name)
	}
}

// annex compares a MUC service that belongs to the guarded ones.
func (g *gate) annex(a annex) {
	s := g.component(a.service)
	if s == nil {
		return
	}
	g.option(s, onlyAdmins)
	g.admins(s, a.service, "so may not ask what a room there is")
	if a.guarded {
		g.module(s)
	}
	g.modules(s)
}

// lobby compares the options of Jitsi's lobby plugin.
func (g *gate) lobby() {
	for _, s := range g.p.Hosts {
		loaded := slices.ContainsFunc(s.Modules(), func(m prosody.Module) bool { return m.Name == "muc_lobby_rooms" })
		if !loaded || !g.c.namesRequired() {
			continue
		}
		required, at, ok, err := s.Bool(displayName)
		if ok && err == nil && !required {
			continue
		}
		if !ok {
			at = s.At
		}
		g.find(Missing, at, displayName+" = false", "%s: the lobby refuses whoever has no display name, in every room", s.Name)
	}
}

// own compares the component that usher is.
func (g *gate) own() {
	name := g.c.XMPP.Domain.String()
	s := g.p.Host(name)
	head := "Component " + quoteLua(name)
	switch {
	case s == nil:
		g.find(Missing, prosody.Position{}, head, "%s, usher's own address, is not there", name)
		return
	case !s.Component:
		g.find(Missing, s.At, head, "%s is a virtual host, but must be usher's component", name)
		return
	case s.Module != "component":
		g.find(Missing, s.At, head, "%s is the module %s, whose place usher takes", name, s.Module)
		return
	}
	secret, at, ok, _ := s.String("component_secret")
	switch {
	case !ok:
		g.find(Missing, s.At, `component_secret = "..."`, "%s has no component_secret", name)
	case secret != g.c.XMPP.Secret.Reveal():
		g.find(Missing, at, `component_secret = "..."`, "%s: component_secret is not the secret that usher has (xmpp.secret)", name)
	}
}

func (g *gate) vhost(v VHost) {
	name := v.Domain.String()
	s := g.p.Host(name)
	head := "VirtualHost " + quoteLua(name)
	if s == nil || s.Component {
		g.find(Missing, prosody.Position{}, head, "%s is no virtual host, so nobody can log in there", name)
		return
	}
	authentication, at, ok, _ := s.String("authentication")
	if !ok {
		at = s.At
	}
	g.modules(s)
	a := authenticated{authentication: authentication}
	switch {
	case (v.Kind == KindTrusted) && !a.password():
		g.find(Defeats, at, `authentication = "internal_hashed"`, "%s: authentication = %q asks for no password, so everybody is a host", name, authentication)
	case (v.Kind == KindToken || v.Kind == KindGuest) && a.password():
		g.find(Missing, at, `authentication = "anonymous"`, "%s: people need a password to log in, beside what usher asks for", name)
	case (v.Kind == KindToken || v.Kind == KindGuest) && authentication == "token":
		g.find(Hint, at, `authentication = "anonymous"`, "%s: Jitsi's plugin looks at the token before usher does: whom it refuses is not told why", name)
	}
}

// jicofo says what Jicofo's own configuration must say, which cannot be seen here.
func (g *gate) jicofo() {
	if g.c.Jicofo.JID.String() == "" {
		return
	}
	at := prosody.Position{}
	if s := g.p.Host(g.c.Jicofo.JID.Domainpart()); s != nil {
		at = s.At
	}
	for _, s := range g.p.Hosts {
		if s.Module == "client_proxy" && s.Name != g.c.XMPP.Domain.String() {
			g.find(Missing, s.At, "", "%s is still Jitsi's client_proxy: by it Jicofo hears of requests that usher has not admitted; take it out", s.Name)
		}
	}
	g.find(Hint, at, "jicofo.xmpp.client.client-proxy = "+quoteLua(g.c.XMPP.Domain.String()), "in jicofo.conf: else Jicofo does not believe usher who asks")
	g.find(Hint, at, "jicofo.conference.enable-auto-owner = false", "in jicofo.conf: else Jicofo makes whoever comes first an owner")
	g.find(Hint, at, "jicofo.authentication.enabled = false", "in jicofo.conf: else Jicofo decides, too, who may open a room")
}
