package config

import (
	"fmt"
	"net"
	"slices"
	"strings"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/config/prosody"
)

// mucOption is an option that a guarded MUC service must have.
type mucOption struct {
	name  string
	value bool
	why   string
	// defeats says what happens without it, if it makes the gate useless.
	defeats string
}

// mucOptions are these options: the one place that says what makes a stock MUC service a guarded one.
var mucOptions = []mucOption{
	{"restrict_room_creation", true, "only admins create rooms", "anybody can create rooms"},
	{"muc_room_default_members_only", true, "nobody enters without an affiliation", "anybody can enter a room that has just been created"},
	{"muc_room_default_public_jids", true, "clients know each other by their real JIDs", ""},
	{"muc_room_locking", false, "usher configures each room before anybody is let in", ""},
}

// rivals are modules that decide about entering or affiliations themselves, and so against usher.
var rivals = map[string]string{
	"token_verification":         "refuses people by its own rules, guests above all",
	"token_affiliation":          "gives affiliations by its own rules",
	"token_affiliation_legacy":   "gives affiliations by its own rules",
	"token_moderation":           "gives affiliations by its own rules, and keeps others from giving any",
	"token_no_wildcard":          "refuses tokens by a rule of its own: here it is no_wildcard",
	"token_owner_party":          "refuses and ends by rules of its own",
	"owner_restricted":           "ends rooms by a rule of its own",
	"muc_allowners":              "makes everybody owner",
	"muc_wait_for_host":          "decides itself who is a host, and makes them owners",
	"matrix_affiliation":         "gives affiliations by its own rules",
	"secure_domain_lobby_bypass": "gives affiliations by its own rules",
	"token_lobby_bypass":         "gives affiliations by its own rules",
	"token_security_ondemand":    "opens and closes rooms by its own rules",
}

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
	line("", "")
	line("component_admins_as_room_owners = true", "Prosody 13: without it usher owns no room")
	if host, port, err := net.SplitHostPort(c.XMPP.Server); err == nil && loopback(host) && port != "5347" {
		line("component_ports = { "+port+" }", "where usher connects to (xmpp.server)")
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
	}
	for _, service := range c.Rooms.Services {
		line("", "")
		line("Component "+quoteLua(service.String())+` "muc"`, "the rooms")
		for _, o := range mucOptions {
			line(fmt.Sprintf("  %s = %t", o.name, o.value), o.why)
		}
		line("  admins = { "+strings.Join(quoteAll(c.admins(service)), ", ")+" }", "usher in rooms is "+c.Focus())
		if disabled := c.disabled(service); len(disabled) > 0 {
			line("  modules_disabled = { "+strings.Join(quoteAll(disabled), ", ")+" }", "they would decide, too")
		}
	}
	line("", "")
	line("Component "+quoteLua(c.XMPP.Domain.String()), "usher; not a module such as client_proxy")
	line("  component_secret = "+quoteLua(c.XMPP.Secret.Reveal()), "")
	return b.String()
}

// admins returns the admins that a MUC service must have: usher, Jicofo, and whoever is one already.
func (c *Config) admins(service jid.JID) []string {
	admins := []string{c.Focus()}
	if c.Jicofo.JID.String() != "" {
		admins = append(admins, c.Jicofo.JID.String())
	}
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

// disabled returns the modules that a MUC service must disable, as far as Prosody's configuration is known: those that it
// disables already, for the last line of that option counts, and the rivals that are loaded.
func (c *Config) disabled(service jid.JID) []string {
	s := c.section(service)
	if s == nil {
		return nil
	}
	disabled, _, _, _ := s.Strings("modules_disabled")
	for _, m := range s.Modules() {
		if rivals[m.Name] != "" {
			disabled = append(disabled, m.Name)
		}
	}
	return disabled
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
	s := g.p.Host(name)
	head := "Component " + quoteLua(name) + ` "muc"`
	if s == nil || !s.Component || s.Module != "muc" {
		at := prosody.Position{}
		if s != nil {
			at = s.At
		}
		g.find(Missing, at, head, "%s is no MUC service", name)
		return
	}
	if owners, at, ok, _ := s.Bool("component_admins_as_room_owners"); !ok || !owners {
		g.find(Missing, at, "component_admins_as_room_owners = true", "on Prosody 13 usher owns no room on %s", name)
	}
	for _, o := range mucOptions {
		value, at, ok, err := s.Bool(o.name)
		if ok && err == nil && value == o.value {
			continue
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
		g.find(level, at, fmt.Sprintf("%s = %t", o.name, o.value), "%s: %s %s: %s", name, o.name, what, means)
	}
	admins, at, _, _ := s.Strings("admins")
	if !slices.Contains(admins, g.c.Focus()) {
		g.find(Missing, s.At, "admins = { "+strings.Join(quoteAll(append([]string{g.c.Focus()}, admins...)), ", ")+" }",
			"%s: usher (%s) is not among its admins, so cannot create rooms", name, g.c.Focus())
	}
	for _, admin := range admins {
		if admin != g.c.Focus() && admin != g.c.Jicofo.JID.String() {
			g.find(Hint, at, "", "%s: %s is an admin, too: creates and enters rooms without being asked", name, admin)
		}
	}
	for _, m := range s.Modules() {
		if why := rivals[m.Name]; why != "" {
			g.find(Defeats, m.At, "modules_disabled = { "+quoteLua(m.Name)+" }", "%s: the module %s is still loaded: %s", name, m.Name, why)
		}
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
	g.find(Hint, at, "jicofo.conference.enable-auto-owner = false", "in jicofo.conf: else Jicofo makes whoever comes first an owner")
	g.find(Hint, at, "jicofo.authentication.enabled = false", "in jicofo.conf: else Jicofo decides, too, who may open a room")
}
