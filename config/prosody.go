package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/config/prosody"
)

// deployment is what Prosody's configuration says of a conference service, as usher understands it.
type deployment struct {
	l        *loader
	e        *existing
	c        *prosody.Configuration // what e says without usher's own lines
	folder   string                 // of the first main file, from which positions count
	settings []setting
}

// readProsody returns what Prosody's configuration says, and takes note of it for what is to be written there.
func (l *loader) readProsody(files []string, environ []string) []setting {
	e := l.readExisting(files, environ)
	if e == nil {
		return nil
	}
	l.prosody = e
	d := &deployment{l: l, e: e, c: e.rest, folder: filepath.Dir(e.files[0])}
	for _, w := range e.whole.Warnings {
		d.warn(w.At, w.Text)
	}
	d.read()
	return l.readModules(d.modules(), d.settings)
}

// flatten returns the errors that were joined to one.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// lookup returns a function that looks up a variable in an environment as of [os.Environ]; the last one counts.
func lookup(environ []string) func(string) (string, bool) {
	variables := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		variables[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

func (d *deployment) place(at prosody.Position) place { return placeIn(d.folder, at) }

func (d *deployment) set(path string, value any, at prosody.Position) {
	d.settings = append(d.settings, setting{path, value, d.place(at)})
}

// fail records an option of the wrong type.
func (d *deployment) fail(err error) {
	if p, ok := errors.AsType[prosody.Problem](err); ok {
		d.l.problem(d.place(p.At), "", p.Text)
	}
}

func (d *deployment) note(at prosody.Position, text string) {
	d.l.note(d.place(at), text)
}

func (d *deployment) warn(at prosody.Position, text string) {
	from := d.place(at)
	d.l.warnings = append(d.l.warnings, Problem{Source: from.source, Text: text, at: from})
}

// text returns a text option of a section, or "".
func (d *deployment) text(s *prosody.Section, name string) (string, prosody.Position) {
	value, at, _, err := s.String(name)
	d.fail(err)
	return value, at
}

func (d *deployment) list(s *prosody.Section, name string) ([]string, prosody.Position) {
	list, at, _, err := s.Strings(name)
	d.fail(err)
	return list, at
}

func (d *deployment) read() {
	services := d.services()
	d.component(services)
	for _, host := range d.c.Hosts {
		if !host.Component {
			d.vhost(host, services)
		}
	}
	for _, host := range d.e.whole.Hosts { // how they log in, also by usher's own lines
		if !host.Component {
			provider, at, _ := authentication(host)
			d.l.authenticated(authenticated{join("vhosts", host.Name), provider, d.place(at)})
		}
	}
}

// services sets the MUC services, and returns those that are guarded.
func (d *deployment) services() []*prosody.Section {
	// Jitsi's plugins on the virtual hosts are told which service is which (mod_muc_lobby_rooms.lua,
	// mod_muc_breakout_rooms.lua); without them, the names tell.
	named := map[string]string{} // by domain: what it is
	for _, host := range d.c.Hosts {
		for option, what := range map[string]string{
			"main_muc": "main", "lobby_muc": "lobby", "breakout_rooms_muc": "breakout", "muc_component": "main",
		} {
			if domain, _ := d.text(host, option); domain != "" {
				named[strings.ToLower(domain)] = what
			}
		}
	}
	var guarded []*prosody.Section
	var at prosody.Position
	var names []string
	for _, host := range d.c.Hosts {
		if !host.Component || host.Module != "muc" {
			continue
		}
		what := named[host.Name]
		if first, _, _ := strings.Cut(host.Name, "."); what == "" && slices.Contains([]string{"lobby", "breakout", "internal", "internal-muc"}, first) {
			what = first
		}
		switch what {
		case "lobby", "breakout":
			d.set(join("rooms", what), host.Name, host.At)
		case "internal", "internal-muc":
			d.note(host.At, host.Name+" is left out: rooms of bridges and recorders, which nobody else enters")
		default:
			if what == "" && slices.Contains(slices.Collect(maps.Values(named)), "main") {
				d.note(host.At, host.Name+" is left out, for it is not the main_muc of a virtual host: to guard it, name it in rooms.services")
				continue
			}
			if len(guarded) == 0 {
				at = host.At
			}
			guarded, names = append(guarded, host), append(names, host.Name)
		}
	}
	if len(guarded) > 0 {
		d.set("rooms/services", names, at)
	}
	return guarded
}

// component sets how usher connects: as the external component that has been made for it, or in the place of Jitsi's
// client_proxy, before the Jicofo that this one speaks for. It is what usher's own lines may have changed already.
func (d *deployment) component(services []*prosody.Section) {
	var own, proxy *prosody.Section
	for _, host := range d.e.whole.Hosts {
		switch {
		case !host.Component:
		case host.Module == "client_proxy":
			proxy = host
		case host.Module == "component":
			// Gateways and bridges are external components, too.
			if own == nil || strings.HasPrefix(host.Name, "focus.") {
				own = host
			}
		}
	}
	if proxy != nil && own != nil && !strings.HasPrefix(own.Name, "focus.") {
		own = nil // a gateway's
	}
	switch {
	case own != nil:
		d.set("xmpp/domain", own.Name, own.At)
		if secret, at := d.text(own, "component_secret"); at.File != "" {
			d.set("xmpp/secret", secret, at)
		}
	case proxy != nil:
		d.set("xmpp/domain", proxy.Name, proxy.At)
		d.note(proxy.At, proxy.Name+" is still Jitsi's client_proxy, whose place usher takes: "+
			`"usher config prosody" prints the lines that change it`)
	}
	if target, at := d.jicofo(own, proxy, services); target != "" {
		d.set("jicofo/jid", target, at)
	}
	d.server()
}

// jicofo returns the JID of Jicofo: what client_proxy speaks for, or the focus among the admins of the rooms.
func (d *deployment) jicofo(own, proxy *prosody.Section, services []*prosody.Section) (string, prosody.Position) {
	for _, s := range []*prosody.Section{proxy, own} {
		if s != nil {
			if target, at := d.text(s, "target_address"); target != "" {
				return target, at
			}
		}
	}
	for _, service := range services {
		admins, at := d.list(service, "admins")
		for _, admin := range admins {
			j, err := jid.Parse(admin)
			if err == nil && j.Localpart() == "focus" && (own == nil || j.Domainpart() != own.Name) && d.c.Host(j.Domainpart()) != nil {
				return admin, at
			}
		}
	}
	return "", prosody.Position{}
}

// server sets where usher connects to: where Prosody listens, which usher's own lines may have changed already.
func (d *deployment) server() {
	if o, ok := d.e.whole.Global.Own("component_port"); ok {
		d.warn(o.At, "component_port has no effect: Prosody reads component_ports")
	}
	l, err := components(d.e.whole)
	if err != nil {
		d.fail(err)
		return
	}
	if len(l.ports) == 0 {
		d.note(l.portsAt, "component_ports is empty, so Prosody listens for no component and usher cannot connect: "+
			`"usher config prosody" prints the line that opens a port`)
	}
	if len(l.interfaces) == 0 {
		d.note(l.interfacesAt, "Prosody listens for components on no address, and usher cannot connect: "+
			`"usher config prosody" prints the line that opens one`)
	}
	at, image := dockerImage(d.e.whole)
	switch {
	case image && d.l.docker: // its variables say it
	case image:
		port := defaultPort
		if len(l.ports) > 0 {
			port = l.ports[0]
		}
		d.set("xmpp/server", net.JoinHostPort(dockerServer, strconv.Itoa(port)), at)
		if !d.l.given("xmpp/server") {
			d.note(at, "this is the Prosody of docker-jitsi-meet, which other containers reach as "+dockerServer+
				": set xmpp.server if XMPP_SERVER has another name, or if usher runs elsewhere")
		}
	case l.address() == "":
	case l.portsAt.File != "":
		d.set("xmpp/server", l.address(), l.portsAt)
	case l.interfacesAt.File != "" && l.address() != net.JoinHostPort("127.0.0.1", strconv.Itoa(defaultPort)):
		d.set("xmpp/server", l.address(), l.interfacesAt)
	case l.interfacesAt.File == "" && !l.hears("127.0.0.1"): // use_ipv4 = false
		o, _ := d.e.whole.Global.Own("use_ipv4")
		d.set("xmpp/server", l.address(), o.At)
	}
}

// vhost sets what is known of the people of a virtual host.
func (d *deployment) vhost(host *prosody.Section, services []*prosody.Section) {
	path := join("vhosts", host.Name)
	provider, at, err := authentication(host)
	d.fail(err)
	keys, jaas := d.jaas(host)
	switch a := (authenticated{authentication: provider}); {
	case provider == ProviderToken && jaas:
		d.set(path+"/kind", string(KindService), keys)
	case provider == ProviderToken:
		d.token(path, host, at)
	case provider == ProviderAnonymous, provider == ProviderJitsi:
		// usher looks at the tokens, so Prosody need not: a virtual host with an issuer of its own has been meant for them.
		if own, ok := host.Own("app_id"); ok && own.Value != "" {
			d.token(path, host, at)
			return
		}
		d.set(path+"/kind", string(KindGuest), at)
	case a.password():
		d.password(path, host, services)
	}
}

// jaasKeys is where 8x8 publishes the keys of its own components, such as the gateways of JaaS for dial-in. Tokens of its
// customers are signed with others.
const jaasKeys = "https://jaas-public-keys.jitsi.net/jitsi-components/"

// jaas reports whether only gateways of JaaS can log in on a virtual host with tokens, as on that of docker-jitsi-meet's
// ENABLE_JAAS_COMPONENTS and of Debian's jitsi-meet-prosody: Jitsi's provider verifies their token with those keys when they
// log in, and none can be left out. They show usher no token.
func (d *deployment) jaas(host *prosody.Section) (prosody.Position, bool) {
	server, _, _, _ := host.String("asap_key_server")
	empty, _, _, err := host.Bool("allow_empty_token")
	own, ok := host.Own("asap_key_server")
	return own.At, ok && strings.HasPrefix(server, jaasKeys) && !empty && err == nil
}

// jigasi reports whether Jigasi enters rooms from a virtual host with passwords, by the account that it has there: where the
// image of docker-jitsi-meet knows no anonymous people (jigasi/rootfs/defaults/sipserver-sip-communicator.properties). Its
// account is among the image's admins, and so are Jibri's, and Jicofo's and the bridge's, which alone have no limits.
func (d *deployment) jigasi(host *prosody.Section) (prosody.Position, bool) {
	if _, image := dockerImage(d.c); !image {
		return prosody.Position{}, false
	}
	var people []*prosody.Section
	for _, h := range d.c.Hosts {
		if _, ok := h.Own("main_muc"); ok && !h.Component {
			people = append(people, h)
		}
	}
	if len(people) != 1 || people[0] == host {
		return prosody.Position{}, false
	}
	if provider, _, _ := authentication(people[0]); provider == ProviderAnonymous || provider == ProviderJitsi {
		return prosody.Position{}, false
	}
	admins, at := d.list(d.c.Global, "admins")
	backstage, _ := d.list(d.c.Global, "unlimited_jids")
	return at, slices.ContainsFunc(admins, func(admin string) bool {
		return strings.HasSuffix(admin, "@"+host.Name) && !slices.Contains(backstage, admin)
	})
}

// password decides about a virtual host whose people log in with a password. They would be hosts, and usher makes nobody a
// host that was not named; but those who are exempt from tokens, such as recorders, are let in.
func (d *deployment) password(path string, host *prosody.Section, services []*prosody.Section) {
	for _, section := range append(slices.Clone(services), d.c.Hosts...) {
		for _, option := range []string{"token_verification_allowlist", "muc_lobby_whitelist"} {
			if exempt, at := d.list(section, option); slices.Contains(exempt, host.Name) {
				d.set(path+"/kind", string(KindService), at)
				return
			}
		}
	}
	if at, ok := d.jigasi(host); ok {
		d.set(path+"/kind", string(KindService), at)
		d.note(at, host.Name+" is kind: service: where nobody is anonymous, Jigasi enters rooms from there with the account that is an admin here")
		return
	}
	if _, people := host.Own("main_muc"); people { // who is a recorder is one of many there
		return
	}
	// Without a lobby, only the accounts tell (jitsi-meet util.lib.lua, is_jibri, is_transcriber).
	for _, option := range []string{"recorder_prefixes", "transcriber_prefixes"} {
		accounts, at := d.list(d.c.Global, option)
		for _, account := range accounts {
			if _, domain, _ := strings.Cut(account, "@"); domain == host.Name {
				d.set(path+"/kind", string(KindService), at)
				return
			}
		}
	}
	// On Debian only the name tells: jitsi-meet's and Jibri's guides call it so, and it is no exception to tokens, since
	// without enable_domain_verification token_verification lets in those who have none.
	if first, _, _ := strings.Cut(host.Name, "."); slices.Contains([]string{"recorder", "hidden"}, first) {
		d.set(path+"/kind", string(KindService), host.At)
		d.note(host.At, host.Name+" is kind: service, by its name: recorders enter rooms that are open, and never count as hosts")
	}
}

// compareAuthentication looks whether the virtual hosts are of the kinds that go with how people log in.
func (l *loader) compareAuthentication(c *Config) {
	kinds := map[string]Kind{}
	for _, v := range c.VHosts {
		kinds[join("vhosts", v.Domain.String())] = v.Kind
	}
	for _, a := range l.authentications {
		kind, known := kinds[a.path]
		switch {
		case !known && a.matrix():
			l.problem(a.at, typed(a.path), "asks a Matrix server, which usher does not: use jwt (token) with an issuer that signs tokens, "+
				"or say in usher.yaml of which kind it is")
		case !known && a.password() && a.path != join("vhosts", c.Jicofo.JID.Domainpart()):
			l.notes = append(l.notes, Problem{Source: a.at.source, Key: typed(a.path), at: a.at,
				Text: "is left out: its people log in with a password, and would all be hosts. If that is right, give it kind: trusted; " +
					"recorders and gateways are kind: service"})
		case kind == KindTrusted && !a.checks():
			l.fault(a.path+"/kind", "is trusted, but %s says authentication = %q, so nobody needs a password: everybody would be a host",
				strings.TrimPrefix(a.at.source, "prosody "), a.authentication)
		}
	}
}

// issuerOptions are the options of Jitsi's token plugin (jitsi-meet resources/prosody-plugins/token/util.lib.lua), and the
// keys that they are here.
var issuerOptions = []struct {
	option, key string
	form        form
}{
	{"app_id", "app_id", formText},
	{"asap_key_server", "asap_key_server", formText},
	{"cache_keys_url", "cache_keys_url", formText},
	{"asap_accepted_issuers", "accepted_issuers", formTexts},
	{"asap_accepted_audiences", "accepted_audiences", formTexts},
	{"asap_require_room_claim", "require_room", formBool},
	{"enable_domain_verification", "domain_verification", formBool},
	{"signature_algorithm", "algorithms", formTexts},
}

// token sets a virtual host with tokens, and its issuer.
func (d *deployment) token(path string, host *prosody.Section, at prosody.Position) {
	empty, emptyAt, _, err := host.Bool("allow_empty_token")
	d.fail(err)
	if appID, _ := d.text(host, "app_id"); appID == "" && empty {
		// A widespread recipe: a guest virtual host that is told to take no token at all.
		d.set(path+"/kind", string(KindGuest), at)
		d.warn(at, host.Name+noIssuer)
		return
	} else if other := d.issuer(); appID == "" && other != nil {
		// So docker-jitsi-meet's template writes PROSODY_GUEST_AUTH_TYPE=token.
		d.note(at, host.Name+" takes tokens and has no app_id: taken to be those of "+other.Name)
		d.token(path, other, at)
		return
	}
	d.set(path+"/kind", string(KindToken), at)
	if empty {
		d.set(path+"/allow_empty_token", true, emptyAt)
	}
	fetched := false
	for _, o := range issuerOptions {
		option, ok := host.Option(o.option)
		if !ok || o.option == "app_id" && option.Value == "" { // as docker-jitsi-meet's template writes an empty JWT_APP_ID
			continue
		}
		fetched = fetched || o.option == "asap_key_server" || o.option == "cache_keys_url"
		var value any
		var err error
		switch o.form {
		case formTexts:
			value, _, _, err = host.Strings(o.option)
		case formBool:
			value, _, _, err = host.Bool(o.option)
		default:
			value, _, _, err = host.String(o.option)
		}
		d.fail(err)
		if err == nil {
			d.set(join(path, o.key), value, option.At)
		}
	}
	if secret, ok := host.Option("app_secret"); ok && fetched {
		d.note(secret.At, host.Name+": app_secret is left out, for beside asap_key_server or cache_keys_url Jitsi's plugin does not use it")
	} else if text, at := d.text(host, "app_secret"); ok {
		d.set(path+"/app_secret", text, at)
	}
}

// noIssuer is what a virtual host is that takes people without a token, and no tokens.
const noIssuer = " takes tokens but has no app_id, so all its people are guests"

// issuer is the one virtual host with tokens that has an issuer; nil if there are none or several.
func (d *deployment) issuer() *prosody.Section {
	var found *prosody.Section
	for _, host := range d.c.Hosts {
		provider, _, _ := authentication(host)
		if appID, _, _, _ := host.String("app_id"); host.Component || provider != ProviderToken || appID == "" {
			continue
		}
		if found != nil {
			return nil
		}
		found = host
	}
	return found
}

// modules returns the modules that are enabled on the services that usher has to do with, and for virtual hosts.
func (d *deployment) modules() []enabled {
	beside := map[string]bool{} // the services of breakout rooms and lobbies
	guarded := d.l.viper.GetStringSlice("rooms/services")
	for _, s := range d.settings {
		switch s.path {
		case "rooms/breakout", "rooms/lobby":
			beside[s.value.(string)] = true
		case "rooms/services":
			guarded = append(guarded, s.value.([]string)...)
		}
	}
	found := d.enabledBy(d.c.Global, onPeople)
	for _, host := range d.c.Hosts {
		switch {
		case !host.Component:
			found = append(found, d.enabledBy(host, onPeople)...)
		case host.Module != "muc":
		case slices.Contains(guarded, host.Name):
			found = append(found, d.enabledBy(host, onRooms)...)
			d.admitted(host)
		case beside[host.Name]:
			found = append(found, d.enabledBy(host, onBeside)...)
		}
	}
	return found
}

// enabledBy returns the modules that a section itself enables.
func (d *deployment) enabledBy(s *prosody.Section, on section) []enabled {
	option, ok := s.Own("modules_enabled")
	if !ok {
		return nil
	}
	names, _ := d.list(s, "modules_enabled")
	off, _, _, _ := s.Strings("modules_disabled")
	var found []enabled
	for _, name := range names {
		found = append(found, enabled{name: name, on: on, off: slices.Contains(off, name), at: d.place(option.At),
			option: func(name string) (place, bool) {
				o, ok := s.Option(name)
				return d.place(o.At), ok && o.Value != false
			}})
	}
	return found
}

// admitted warns of people that token_verification, on this service, refuses: guests, and those with tokens of another virtual
// host's issuer: their sub must be the domain of the rooms there and here may be their own. It goes by the options of the
// virtual host by which the service is named (mod_token_verification.lua, token/util.lib.lua).
func (d *deployment) admitted(service *prosody.Section) {
	names, at := d.list(service, "modules_enabled")
	_, parent, _ := strings.Cut(service.Name, ".")
	tokens := d.c.Host(parent)
	if !slices.Contains(names, "token_verification") || tokens == nil {
		return
	}
	is := func(name string, value bool) bool {
		found, _, ok, _ := tokens.Bool(name)
		return ok && found == value
	}
	if _, ok := tokens.Option("app_id"); !ok || is("enable_domain_verification", false) {
		return
	}
	exempt, _ := d.list(service, "token_verification_allowlist")
	issuer, _ := d.text(tokens, "app_id")
	for _, s := range d.settings {
		if slices.Contains(exempt, s.vhost()) {
			continue
		}
		if s.guests() && !is("allow_empty_token", true) && !is("asap_require_room_claim", false) {
			d.l.admitted(s.vhost(), d.place(at))
		}
		if last(s.path) == "app_id" && s.vhost() != parent && s.value != issuer {
			d.l.warnings = append(d.l.warnings, Problem{Source: d.place(at).source, at: d.place(at), Text: fmt.Sprintf("usher allows more than the "+
				"module token_verification: tokens of %[1]s may name that domain as sub, and open rooms on %[2]s. There sub must be %[3]s. An usher "+
				"of its own for each service, with its virtual hosts, keeps them apart", s.vhost(), service.Name, parent)})
		}
	}
}
