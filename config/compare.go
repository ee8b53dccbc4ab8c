package config

import (
	"fmt"
	"slices"
	"strings"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody"
	"github.com/xmpp-usher/usher/config/prosody/module"
)

// Finding is a difference between what Prosody's configuration says and what it must say.
type Finding struct {
	Level FindingLevel
	// Source is where: "prosody conf.d/meet.cfg.lua:14".
	Source string
	// Text says what stands there and what that means, Mend what to write instead.
	Text, Mend string
}

// FindingLevel says how bad a finding is.
type FindingLevel string

// The levels of findings.
const (
	Defeats FindingLevel = "defeats" // the gate is open, or somebody else decides as well
	Missing FindingLevel = "missing" // usher cannot work as it should
	Warning FindingLevel = "warning" // probably not meant
	Hint    FindingLevel = "hint"    // cannot be seen here, or is worth knowing
)

// Opens reports whether the gate does not hold, or usher cannot work, as long as there is this finding.
func (f Finding) Opens() bool { return f.Level == Defeats || f.Level == Missing }

// Unguarded reports whether the finding is a warning about people or rooms that usher may not guard. A warning with a remedy is about
// something else: the gate is as it should be.
func (f Finding) Unguarded() bool { return f.Level == Warning && f.Mend == "" }

// CompareProsody compares what Prosody's files say with what they must say. Without files it takes those that the
// configuration names (prosody.files, sources.prosody), and finds nothing if there are none. Several files count as if the first
// included the others at its end. The first findings are those of [Config.Doubts]. Then comes that usher's lines are not read, or
// what they lose of the other files because they are older. The error is a *[Problems].
func (c *Config) CompareProsody(environ []string, files ...string) ([]Finding, error) {
	e, err := c.existing(environ, files...)
	if e == nil {
		return nil, err
	}
	g := &comparison{c: c, p: e.whole}
	e.unread(g)
	if e.own() {
		fresh, err := e.with(c.lines(e, Lines{}), environ)
		if err != nil {
			return nil, err
		}
		e.stale(g, fresh)
	}
	return slices.Concat(c.doubts(e, e.whole), g.findings, c.compare(e.whole)), nil
}

// CheckLines compares what Prosody's files will say once they have the lines of [Config.ProsodyLines], in the place of older
// lines of usher or at their end. The files are these, or those that the configuration names. Nothing is written. The error is that
// of [Config.ProsodyLines].
func (c *Config) CheckLines(o Lines, files ...string) ([]Finding, error) {
	e, err := c.existing(o.Environ, files...)
	if e == nil {
		return nil, unknown(err)
	}
	p, err := e.with(c.lines(e, o), o.Environ)
	if err != nil {
		return nil, err
	}
	return append(c.doubts(e, p), c.compare(p)...), nil
}

// LinesPending says in a sentence why the lines of [Config.ProsodyLines] are not in effect in Prosody's files, these or those that
// the configuration names; "" if they are. The error is that of [Config.ProsodyLines].
func (c *Config) LinesPending(o Lines, files ...string) (string, error) {
	e, err := c.existing(o.Environ, files...)
	if e == nil {
		return "", unknown(err)
	}
	fresh, err := e.with(c.lines(e, o), o.Environ)
	switch {
	case err != nil:
		return "", err
	case same(e.whole, fresh):
		return "", nil
	case e.own():
		return fmt.Sprintf("They are not in effect yet: /%s says something else. Write them again (--output), and restart Prosody.", e.whole.Marked[0]), nil
	}
	return fmt.Sprintf("They are not in effect yet: %s does not include them.", e.files[0]), nil
}

// ProsodyFiles returns Prosody's main files that the configuration names (prosody.files, sources.prosody).
func (c *Config) ProsodyFiles() []string {
	if len(c.prosodyFiles) == 0 && c.prosody != nil {
		return c.prosody.files
	}
	return c.prosodyFiles
}

// compare compares what Prosody's files say with what they must say.
func (c *Config) compare(p *prosody.Configuration) []Finding {
	g := &comparison{c: c, p: p, jitsi: hasJitsi(p)}
	for _, m := range c.mucs() {
		g.muc(m)
	}
	g.lobby()
	g.whitelists()
	if paths, _, _, _ := g.p.Global.Strings("plugin_paths"); g.c.Rooms.Enforcement == Module && len(paths) == 0 {
		g.find(Hint, prosody.Position{}, "plugin_paths = { "+gate.Quote(ModuleFolder)+" }",
			"without plugin_paths, Prosody finds the module %s only if it is among its own", module.Name)
	}
	g.own()
	g.opening()
	for _, v := range c.VHosts {
		g.vhost(v)
	}
	g.jicofo()
	g.order()
	for _, at := range p.NeedsProsody13 {
		g.find(Hint, at, "", "Prosody 0.12 refuses this line, or understands it differently")
	}
	return g.findings
}

// order finds options of usher's hosts with a value that depends on the order in which Prosody reads the files of a folder.
func (g *comparison) order() {
	var hosts []string
	for _, domain := range slices.Concat(g.c.Rooms.Services, []jid.JID{g.c.Rooms.Breakout, g.c.Rooms.Lobby, g.c.XMPP.Domain}) {
		hosts = append(hosts, domain.String())
	}
	for _, v := range g.c.VHosts {
		hosts = append(hosts, v.Domain.String())
	}
	for _, u := range g.p.Unsure {
		if u.Section != g.p.Global && !slices.Contains(hosts, u.Section.Name) {
			continue
		}
		name := strings.TrimSpace(u.Section.Name + " " + u.Option)
		g.find(Missing, u.At, "Include "+gate.Quote(LinesFile), "%s is set differently at %s, and Prosody reads the files of a folder in no certain "+
			"order: usher's lines belong into a file that the last line of prosody.cfg.lua includes by its name", name, u.Other)
	}
}

// comparison is one comparison of Prosody's files with a configuration.
type comparison struct {
	c        *Config
	p        *prosody.Configuration
	jitsi    bool // whether Jitsi's plugins are there
	findings []Finding
}

func (g *comparison) find(level FindingLevel, at prosody.Position, mend, format string, args ...any) {
	source := "prosody"
	if at.File != "" {
		source += " " + at.String()
	}
	g.findings = append(g.findings, Finding{level, source, fmt.Sprintf(format, args...), mend})
}

// muc compares a MUC service.
func (g *comparison) muc(m mucService) {
	s := g.component(m.service)
	if s == nil {
		return
	}
	if _, own := s.Own(gate.AdminsOwn.Name); own || !m.annex { // that of all hosts is found once
		g.owns(s)
	}
	for _, o := range m.options {
		g.option(s, o)
	}
	if m.annex {
		g.admins(s, m.service, "so may not ask what a room there is")
	} else {
		g.admins(s, m.service, "so cannot create rooms")
		g.otherAdmins(s, m.service)
	}
	if m.guarded {
		g.module(s)
	}
	g.roles(s)
	g.modules(s)
}

// otherAdmins finds admins of a MUC service who are neither usher nor Jicofo.
func (g *comparison) otherAdmins(s *prosody.Section, service jid.JID) {
	at, _ := s.Option("admins")
	for _, admin := range adminsOf(s) {
		if !slices.Contains(g.c.own(service), admin) {
			g.find(Hint, at.At, "", "%s: %s is an admin as well: creates and enters rooms without being asked", s.Name, admin)
		}
	}
}

// owns finds a MUC service with rooms that usher does not own.
func (g *comparison) owns(s *prosody.Section) {
	if owners, at, ok, _ := s.Bool(gate.AdminsOwn.Name); !ok || !owners {
		g.find(Missing, at, gate.AdminsOwn.Line(), "on Prosody 13 usher owns no room on %s", s.Name)
	}
}

// roles finds what makes Prosody 13 take people for admins of a MUC service who are not among its admins, and what lets others
// do what admins do there.
func (g *comparison) roles(s *prosody.Section) {
	for _, d := range gate.Roles {
		text, at, ok, err := s.String(d.Option)
		value := any(text)
		if o, _ := s.Option(d.Option); err != nil {
			value = o.Value
		}
		if ok && d.Is(value) {
			g.find(Defeats, at, d.Instead, "%s: %s %s", s.Name, d.Option, d.Means)
		}
	}
}

// component returns the section of a MUC service. If it is none, that is a finding, and nil is returned.
func (g *comparison) component(service jid.JID) *prosody.Section {
	s := g.p.Host(service.String())
	if s != nil && s.Component && s.Module == "muc" {
		return s
	}
	at := prosody.Position{}
	if s != nil {
		at = s.At
	}
	head := "Component " + gate.Quote(service.String()) + ` "muc"`
	g.find(Missing, at, g.orMeant(head, "rooms", service.String(), isMUC), "%s is no MUC service", service)
	return nil
}

// orMeant returns the remedy for a host that is missing: the line that makes it or, if its name is probably misspelled below a key of
// usher's, the right name.
func (g *comparison) orMeant(line, key, name string, kind func(*prosody.Section) bool) string {
	if meant := near(name, g.p, g.c.unused(kind)); meant != "" {
		return fmt.Sprintf("did you mean %s, which Prosody's files have? Write that in usher.yaml (%s)", meant, key)
	}
	return line
}

// option compares one option of a MUC service.
func (g *comparison) option(s *prosody.Section, o gate.Option) {
	value, at, ok, err := s.Bool(o.Name)
	as, _ := s.Option(o.Name)
	if err == nil && (ok && value == o.Value && (!o.Exact || as.Value == value) || !ok && o.Default) {
		return
	}
	level, means := Missing, o.Why
	if o.Open != "" {
		level, means = Defeats, "without it "+o.Open
	}
	what := "is not set"
	if ok || err != nil {
		what = "is something else"
	} else {
		at = s.At
	}
	g.find(level, at, o.Line(), "%s: %s %s: %s", s.Name, o.Name, what, means)
}

// admins finds that usher or Jicofo is no admin of a MUC service. so says what usher cannot do then.
func (g *comparison) admins(s *prosody.Section, service jid.JID, so string) {
	admins := adminsOf(s)
	all := ownList(s, "admins")
	var absent []string
	for _, admin := range g.c.own(service) {
		if !slices.Contains(admins, admin) {
			all = append([]string{admin}, all...)
			absent = append(absent, admin)
		}
	}
	mend := "admins = " + gate.List(all...)
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

// module finds usher's module missing on a MUC service, or loaded in a way that leaves usher without what the module could do.
func (g *comparison) module(s *prosody.Section) {
	modules := s.Modules()
	i := slices.IndexFunc(modules, func(m prosody.Module) bool { return isModule(m.Name) })
	if i < 0 {
		if g.c.Rooms.Enforcement == Module { // A new list would replace the present one.
			g.find(Defeats, s.At, "add "+gate.Quote(module.Name)+" to modules_enabled",
				"%s: the module %s is not loaded: anybody can enter a room that is open", s.Name, module.Name)
		}
		return
	}
	if !slices.ContainsFunc(modules, func(m prosody.Module) bool { return m.Name == module.Name }) {
		g.find(Hint, modules[i].At, "write usher's module and lines again (usher config prosody --module, --output), and restart Prosody",
			"%s: %s is the name that usher's module had before. It is %s now; a later version has the old name no more",
			s.Name, gate.ModuleAlias, module.Name)
	}
	tells := g.c.tellsTo()
	mend := tells.Line() + "; or write usher's lines again (usher config prosody --output), and restart Prosody"
	to, at, set, err := s.String(tells.Name)
	switch {
	case !set && err == nil:
		g.find(Warning, modules[i].At, mend,
			"%s: %s is not set, so usher's module tells usher nothing and takes nothing from it: usher must ask the rooms, and %s",
			s.Name, tells.Name, noFeatures)
	case err != nil || to != tells.Value:
		g.find(Warning, at, mend, "%s: %s is not usher's domain, so usher's module tells usher nothing and takes nothing from it: "+
			"usher must ask the rooms, and %s", s.Name, tells.Name, noFeatures)
	}
}

// noFeatures is what happens to the features of tokens where usher's module takes nothing from usher.
const noFeatures = "the features of tokens have no effect unless Jitsi's plugin token sets them"

// lobby finds Jitsi's lobby plugin beside rooms that are members-only. There it refuses everybody without a display name, lobby
// or not, and no option changes that: it reads a field of the room, lobby_skip_display_name_check, which only other plugins set
// (mod_muc_lobby_rooms.lua, muc-occupant-pre-join). Its option muc_lobby_check_display_name_required only changes what clients
// are told.
func (g *comparison) lobby() {
	for _, s := range g.p.Hosts {
		modules := s.Modules()
		i := slices.IndexFunc(modules, func(m prosody.Module) bool { return m.Name == "muc_lobby_rooms" })
		if i < 0 || s.Component || g.c.Rooms.Enforcement != MembersOnly {
			continue
		}
		g.find(Hint, modules[i].At, "", "%s: Jitsi's lobby refuses everybody without a display name in every room that is members-only, and has no "+
			"option against that: rooms.enforcement: module avoids it", s.Name)
	}
}

// own compares usher's own component.
func (g *comparison) own() {
	name := g.c.XMPP.Domain.String()
	s := g.p.Host(name)
	head := "Component " + gate.Quote(name)
	switch {
	case s == nil:
		g.find(Missing, prosody.Position{}, g.orMeant(head, "xmpp.domain", name, isOwn), "%s, usher's own address, is not there", name)
		return
	case !s.Component:
		g.find(Missing, s.At, head, "%s is a virtual host, but must be usher's component", name)
		return
	case s.Module != "component":
		g.find(Missing, s.At, head, "%s is the module %s: usher takes its place", name, s.Module)
		return
	}
	secret, at, ok, _ := s.String("component_secret")
	switch {
	case !ok:
		g.find(Missing, s.At, `component_secret = "..."`, "%s has no component_secret", name)
	case secret != g.c.XMPP.Secret.Reveal():
		g.find(Missing, at, `component_secret = "..."`, "%s: component_secret is not the secret that usher has (xmpp.secret)", name)
	}
	g.conflict(s)
}

// conflict compares what happens when a second usher connects. By default Prosody keeps the first connection (mod_component.lua).
func (g *comparison) conflict(s *prosody.Section) {
	o := gate.KickOld
	resolve, at, ok, _ := s.String(o.Name)
	if !ok {
		at = s.At
	}
	switch kicks := resolve == o.Value; {
	case g.c.Store.Shared() && !kicks:
		g.find(Missing, at, o.Line(), "%s: %s is not %q, so a standby cannot take over from an usher that is frozen (store.url)", s.Name, o.Name, o.Value)
	case !g.c.Store.Shared() && kicks:
		g.find(Warning, at, o.Name+` = "kick_new"; or write usher's lines again (usher config prosody --output), and restart Prosody`,
			"%s: %s is %q, but usher has no store that several share (store.url): if two ushers run at once, they throw each other out again "+
				"and again", s.Name, o.Name, o.Value)
	}
}

// vhost compares a virtual host.
func (g *comparison) vhost(v VHost) {
	name := v.Domain.String()
	s := g.p.Host(name)
	head := "VirtualHost " + gate.Quote(name)
	if s == nil || s.Component {
		g.find(Missing, prosody.Position{}, g.orMeant(head, "vhosts", name, isVHost), "%s is no virtual host, so nobody can log in there", name)
		return
	}
	g.modules(s)
	provider, at, _ := authentication(s)
	switch v.Kind {
	case KindTrusted, KindService:
		g.accounts(v.Kind, s, provider, at)
	default:
		g.login(v, s, provider, at)
	}
}

// accounts finds what lets anybody log in on a virtual host where usher relies on Prosody to know its people.
func (g *comparison) accounts(kind Kind, s *prosody.Section, provider string, at prosody.Position) {
	so := "everybody is let in"
	if kind == KindTrusted {
		so = "everybody is a host"
	}
	for _, d := range gate.Providers {
		if d.Is(provider) && (d.On != gate.OnTrusted || kind == KindTrusted) {
			g.find(Defeats, at, d.Instead, "%s: authentication = %q %s, so %s", s.Name, provider, d.Means, so)
			return
		}
	}
	empty, emptyAt, _, _ := s.Bool(gate.EmptyToken.Option)
	from, mend, registers := registration(s)
	switch {
	case provider == ProviderToken && empty:
		g.find(Defeats, emptyAt, gate.EmptyToken.Instead, "%s: %s, so %s", s.Name, gate.EmptyToken.Means, so)
	case authenticated{authentication: provider}.password() && registers:
		g.find(Defeats, from, mend, "%s: %s, so %s", s.Name, gate.Registration.Means, so)
	}
}

// registration reports whether anybody can register an account on a virtual host, where that is set, and the line against it
// (mod_register.lua, mod_register_ibr.lua, mod_invites_register.lua).
func registration(s *prosody.Section) (at prosody.Position, mend string, open bool) {
	modules := map[string]prosody.Position{}
	for _, m := range s.Modules() {
		modules[m.Name] = m.At
	}
	if _, invites := modules["invites_register"]; invites {
		if only, _, set, err := s.Bool("registration_invite_only"); !set || only || err != nil {
			return at, "", false
		}
	}
	if at, ok := modules["register_ibr"]; ok {
		return at, "modules_disabled = " + gate.List(append(ownList(s, "modules_disabled"), "register_ibr")...), true
	}
	_, loads := modules["register"]
	allowed, at, _, _ := s.Bool(gate.Registration.Option)
	return at, gate.Registration.Instead, loads && allowed
}

// login compares how the people of a virtual host of the kinds token and guest log in.
func (g *comparison) login(v VHost, s *prosody.Section, provider string, at prosody.Position) {
	a := authenticated{authentication: provider}
	chosen := ""
	if provider == ProviderToken { // it is judged as it is, whatever usher's lines would make of it
		chosen = ProviderToken
	}
	l := g.c.login(v, s, g.jitsi, chosen)
	mend := "authentication = " + gate.Quote(l.provider)
	switch {
	case a.matrix():
		g.find(Missing, at, mend, "%s: people need an account at a Matrix server to log in, beside what usher asks for", s.Name)
	case a.password():
		g.find(Missing, at, mend, "%s: people need a password to log in, beside what usher asks for", s.Name)
	case !l.stays:
		g.find(Missing, at, mend, "%s: Jitsi's plugin refuses people at login that usher would let in: %s", s.Name, l.why)
	}
	for _, o := range l.options {
		set, is := s.Option(o.name)
		if !is {
			set.At = at
		}
		if o.secret {
			o.value = `"..."`
		}
		g.find(Missing, set.At, o.name+" = "+o.value, "%s: %s: Jitsi's plugin refuses people at login that usher would let in", s.Name, o.name)
	}
	if l.stays {
		for _, cost := range l.costs {
			g.find(Hint, at, "", "%s: with authentication = %q, %s", s.Name, provider, cost)
		}
	}
}

// jicofo hints at what Jicofo's own configuration must say, because that cannot be seen here.
func (g *comparison) jicofo() {
	if g.c.Jicofo.JID.String() == "" {
		return
	}
	for _, s := range g.p.Hosts {
		if s.Module == "client_proxy" && s.Name != g.c.XMPP.Domain.String() {
			g.find(Missing, s.At, "", "%s is still Jitsi's client_proxy, so Jicofo hears of requests that usher has not admitted: take it out", s.Name)
		}
	}
	settings := []gate.JicofoSetting{gate.ClientProxy(g.c.XMPP.Domain.String()), gate.NoAutoOwner, gate.NoJicofoAuth}
	_, image := dockerImage(g.p)
	for _, j := range settings {
		switch {
		case !image:
			g.elsewhere("jicofo.conf", j.Conf, j.Otherwise)
		case j.Docker != "":
			g.elsewhere(".env", j.Docker, j.Otherwise)
		}
	}
}

// elsewhere hints at a line of a file that is not Prosody's.
func (g *comparison) elsewhere(file, line, otherwise string) {
	g.findings = append(g.findings, Finding{Level: Hint, Source: file, Text: fmt.Sprintf("set %s, because otherwise %s", line, otherwise)})
}

// modules finds modules that decide beside usher, and modules that usher does not know.
func (g *comparison) modules(s *prosody.Section) {
	disabled := ownList(s, "modules_disabled") // all of them, because the last line of the option counts
	for _, m := range s.Modules() {
		if g.c.decides(s, m.Name) != "" {
			disabled = append(disabled, m.Name)
		}
	}
	for _, m := range s.Modules() {
		if does := g.c.decides(s, m.Name); does != "" {
			g.find(Defeats, m.At, "modules_disabled = "+gate.List(disabled...), "%s: the module %s is still loaded: it %s",
				s.Name, m.Name, does)
		} else if _, known := moduleNamed(m.Name); !known && s.Component {
			g.find(Hint, m.At, "", "%s: %s", s.Name, UnknownModule(m.Name))
		}
	}
}

// whitelists finds virtual hosts with people that Jitsi's lobby lets past members-only: it makes them members when they join
// (mod_muc_lobby_rooms.lua, muc_lobby_whitelist).
func (g *comparison) whitelists() {
	for _, s := range g.p.Hosts {
		if !slices.ContainsFunc(s.Modules(), func(m prosody.Module) bool { return m.Name == "muc_lobby_rooms" }) {
			continue
		}
		exempt, at, _, _ := s.Strings("muc_lobby_whitelist")
		for _, domain := range exempt {
			host := g.p.Host(domain)
			if host == nil || host.Component || !g.anybody(host) {
				continue
			}
			g.find(Defeats, at, "", "%s: muc_lobby_whitelist has %s: all its people enter rooms that are members-only, without usher; "+
				"take it out", s.Name, domain)
		}
	}
}

// anybody reports whether people that Prosody does not know log in on a virtual host.
func (g *comparison) anybody(s *prosody.Section) bool {
	i := slices.IndexFunc(g.c.VHosts, func(v VHost) bool { return v.Domain.String() == s.Name })
	if i >= 0 {
		return g.c.VHosts[i].Kind == KindToken || g.c.VHosts[i].Kind == KindGuest
	}
	provider, _, _ := authentication(s)
	return !authenticated{authentication: provider}.checks()
}
