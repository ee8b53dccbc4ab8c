package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody"
)

// Doubts returns what is probably not meant in the configuration, because Prosody's files say otherwise: these, or those that the
// configuration names. They are what Prosody's files and usher's lines of now make together, of the levels [Warning] and [Hint].
// usher finds nothing if it knows no files. The error is a *[Problems].
func (c *Config) Doubts(o Lines, files ...string) ([]Finding, error) {
	e, err := c.existing(o.Environ, files...)
	if e == nil {
		return nil, err
	}
	fresh, err := e.with(c.lines(e, o), o.Environ)
	if err != nil {
		return nil, err
	}
	return c.doubts(e, fresh), nil
}

// doubts returns what is probably not meant. The names are compared with the files without usher's own lines, because these have
// created what was misspelled. p is the configuration of Prosody in question.
func (c *Config) doubts(e *existing, p *prosody.Configuration) []Finding {
	d := &doubts{comparison{c: c, p: p}, e.rest}
	d.mucs()
	d.unguarded()
	for _, v := range c.VHosts {
		d.vhost(v)
	}
	d.own()
	d.features()
	d.messages()
	return d.findings
}

// doubts looks for what is probably not meant.
type doubts struct {
	comparison
	rest *prosody.Configuration // Prosody's files without usher's lines
}

// doubt records a warning about a key of the configuration.
func (d *doubts) doubt(key, format string, args ...any) {
	source := "usher"
	for _, s := range d.c.Settings {
		if s.Key == key {
			source = s.Origin
		}
	}
	d.findings = append(d.findings, Finding{Level: Warning, Source: source, Text: key + ": " + fmt.Sprintf(format, args...)})
}

// mucs finds MUC services that usher's lines would create although Prosody's files have others.
func (d *doubts) mucs() {
	var all []string
	for _, s := range d.rest.Hosts {
		if isMUC(s) {
			all = append(all, s.Name)
		}
	}
	for _, m := range d.c.mucs() {
		name := m.service.String()
		if isMUC(d.rest.Host(name)) || len(all) == 0 {
			continue
		}
		meant := near(name, d.rest, d.c.unused(isMUC))
		switch {
		case meant != "":
			d.doubt(d.keyOf(m), "Prosody's files have no MUC service %s, and usher's lines create it. Did you mean %s?", name, meant)
		case !m.annex:
			d.doubt(d.keyOf(m), "Prosody's files have no MUC service %s, and usher's lines create it. The files have %s", name, some(all))
		}
	}
}

// keyOf returns the key that names a MUC service.
func (d *doubts) keyOf(m mucService) string {
	switch {
	case !m.annex:
		return "rooms.services"
	case m.service.Equal(d.c.Rooms.Lobby):
		return "rooms.lobby"
	}
	return "rooms.breakout"
}

// some returns names for people, and not too many.
func some(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// unguarded finds MUC services for people that usher does not guard.
func (d *doubts) unguarded() {
	named := namedMUCs(d.rest, optionText)
	free := d.c.unused(isMUC)
	for _, s := range d.rest.Hosts {
		use := mucUse(s.Name, named)
		is := d.p.Host(s.Name)
		if !free(s) || use != "" && use != mainMUC || is == nil || d.closed(is) {
			continue
		}
		may := "enter and create rooms there"
		if o, _ := s.Option(gate.OnlyAdmins.Name); o.Value == gate.OnlyAdmins.Value {
			may = "enter rooms there"
		}
		d.find(Warning, s.At, "", "usher does not guard rooms on %s: anybody may %s. Add it to rooms.services if that is not meant", s.Name, may)
	}
}

// closed reports whether something else keeps strangers out of a MUC service: the options and the module that usher needs, perhaps
// of another usher, or Jitsi's filter of the domains that may enter (mod_muc_filter_access.lua), as docker-jitsi-meet has it for
// bridges and recorders.
func (d *doubts) closed(s *prosody.Section) bool {
	if creation, _ := s.Option(gate.OnlyAdmins.Name); creation.Value == gate.OnlyAdmins.Value {
		if only, _, _, _ := s.Bool(gate.MembersOnly.Name); only || loadsModule(s) {
			return true
		}
	}
	let, _, _, err := s.Strings("muc_filter_whitelist")
	return err == nil && loads(s, "muc_filter_access") && !slices.ContainsFunc(let, func(domain string) bool {
		host := d.p.Host(domain)
		return host != nil && !host.Component && d.anybody(host)
	})
}

// vhost finds a virtual host that is probably misspelled, or with accounts that usher's lines lock out.
func (d *doubts) vhost(v VHost) {
	name := v.Domain.String()
	if s := d.rest.Host(name); s != nil {
		d.accounts(v, s)
		return
	}
	if meant := near(name, d.rest, d.c.unused(isVHost)); meant != "" {
		d.doubt("vhosts."+name+".kind", "Prosody's files have no virtual host %s, and usher's lines create it. Did you mean %s?", name, meant)
	} else if v.Domain.Equal(d.c.Portal.VHost) && hasJitsi(d.rest) {
		var all []string
		for _, s := range d.rest.Hosts {
			if isVHost(s) {
				all = append(all, s.Name)
			}
		}
		d.doubt("portal.vhost", "the portal makes tokens for %s, and Prosody's files have no such virtual host, so nobody connects to it. The files have %s",
			name, some(all))
	}
}

// accounts finds a virtual host where people have logged in with a password, and cannot with usher's lines.
func (d *doubts) accounts(v VHost, s *prosody.Section) {
	provider, at, _ := authentication(s)
	a := authenticated{authentication: provider}
	if s.Component || v.Kind != KindToken && v.Kind != KindGuest || !a.password() || !a.checks() {
		return
	}
	people := "tokens"
	if v.Kind == KindGuest {
		people = "guests"
	}
	d.find(Hint, at, "", "kind: %s makes %s anonymous: accounts there can no longer log in, as they do with authentication = %q. "+
		"Use another virtual host for %s, or kind: trusted to keep their login", v.Kind, s.Name, provider, people)
}

// own finds that usher's own address is probably misspelled.
func (d *doubts) own() {
	name := d.c.XMPP.Domain.String()
	if d.rest.Host(name) != nil {
		return
	}
	if meant := near(name, d.rest, d.c.unused(isOwn)); meant != "" {
		d.doubt("xmpp.domain", "Prosody's files have no component %s, and usher's lines create it. Did you mean %s, which the files have?", name, meant)
	}
}

// The kinds of hosts that the configuration names.
func isMUC(s *prosody.Section) bool   { return s != nil && s.Component && s.Module == "muc" }
func isVHost(s *prosody.Section) bool { return s != nil && !s.Component }
func isOwn(s *prosody.Section) bool {
	return s != nil && s.Component && (s.Module == "component" || s.Module == "client_proxy")
}

// unused returns a function that reports whether a host is of a kind, and the configuration does not name it.
func (c *Config) unused(kind func(*prosody.Section) bool) func(*prosody.Section) bool {
	named := map[string]bool{c.XMPP.Domain.String(): true}
	for _, m := range c.mucs() {
		named[m.service.String()] = true
	}
	for _, v := range c.VHosts {
		named[v.Domain.String()] = true
	}
	return func(s *prosody.Section) bool { return kind(s) && !named[s.Name] }
}

// near returns the name of the host that a misspelled domain is probably meant to be; "" if none is near.
func near(name string, p *prosody.Configuration, candidate func(*prosody.Section) bool) string {
	best, least := "", 0
	for _, s := range p.Hosts {
		if !candidate(s) {
			continue
		}
		if d, ok := mistakes(name, s.Name); ok && (best == "" || d < least) {
			best, least = s.Name, d
		}
	}
	return best
}

// mistakes returns how many characters two domains differ by, and whether these can be typing mistakes. Only the labels count in
// which they differ: otherwise app and web would be near, because both are in example.com.
func mistakes(a, b string) (n int, near bool) {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	for len(as) > 0 && len(bs) > 0 && as[0] == bs[0] {
		as, bs = as[1:], bs[1:]
	}
	for len(as) > 0 && len(bs) > 0 && as[len(as)-1] == bs[len(bs)-1] {
		as, bs = as[:len(as)-1], bs[:len(bs)-1]
	}
	a, b = strings.Join(as, "."), strings.Join(bs, ".")
	n = distance(a, b)
	return n, n <= min(3, min(len(a), len(b))/2)
}
