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

// deployment reads what Prosody's configuration says of a conference service.
type deployment struct {
	l        *loader
	e        *existing
	c        *prosody.Configuration // e.rest: without usher's own lines
	folder   string                 // that of the first main file, from which positions count
	settings []setting
}

// readProsody returns what Prosody's configuration says, and keeps that configuration for the lines for Prosody.
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
	d.l.warnAt(d.place(at), text)
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
	for _, host := range d.e.whole.Hosts { // usher's own lines may say how people log in
		if !host.Component {
			provider, at, _ := authentication(host)
			d.l.authenticated(authenticated{join("vhosts", host.Name), provider, d.place(at)})
		}
	}
}

// services sets the MUC services, and returns those that usher guards.
func (d *deployment) services() (guarded []*prosody.Section) {
	named := namedMUCs(d.c, func(s *prosody.Section, option string) string {
		text, _ := d.text(s, option)
		return text
	})
	var names []string
	for _, host := range d.c.Hosts {
		if !isMUC(host) {
			continue
		}
		switch use := mucUse(host.Name, named); use {
		case "lobby", "breakout":
			d.set(join("rooms", use), host.Name, host.At)
		case "internal", "internal-muc":
			d.note(host.At, host.Name+" is left out: its rooms are those of bridges and recorders, which nobody else enters")
		default:
			if use == "" && slices.Contains(slices.Collect(maps.Values(named)), mainMUC) {
				d.note(host.At, host.Name+" is left out, because it is not the main_muc of a virtual host: to guard it, name it in rooms.services")
				continue
			}
			guarded, names = append(guarded, host), append(names, host.Name)
		}
	}
	if len(guarded) > 0 {
		d.set("rooms/services", names, guarded[0].At)
	}
	return guarded
}

// mainMUC is the use of a MUC service with rooms for people.
const mainMUC = "main"

// namedMUCs returns which MUC service is which, by domain. Jitsi's plugins on the virtual hosts are told so (mod_muc_lobby_rooms.lua,
// mod_muc_breakout_rooms.lua). text returns an option of a section, or "".
func namedMUCs(c *prosody.Configuration, text func(s *prosody.Section, option string) string) map[string]string {
	named := map[string]string{}
	for _, host := range c.Hosts {
		for option, use := range map[string]string{
			"main_muc": mainMUC, "lobby_muc": "lobby", "breakout_rooms_muc": "breakout", "muc_component": mainMUC,
		} {
			if domain := text(host, option); domain != "" {
				named[strings.ToLower(domain)] = use
			}
		}
	}
	return named
}

// optionText returns a text option of a section, or "".
func optionText(s *prosody.Section, option string) string {
	text, _, _, _ := s.String(option)
	return text
}

// mucUse returns what a MUC service is for, by those that are named or by its own name; "" if nothing tells.
func mucUse(name string, named map[string]string) string {
	use := named[name]
	if first, _, _ := strings.Cut(name, "."); use == "" && slices.Contains([]string{"lobby", "breakout", "internal", "internal-muc"}, first) {
		return first
	}
	return use
}

// component sets how usher connects: as the external component that somebody has made for it, or in the place of Jitsi's
// client_proxy, in front of the Jicofo that this one speaks for. usher's own lines may have made that component.
func (d *deployment) component(services []*prosody.Section) {
	own, proxy := d.components()
	switch {
	case own != nil:
		d.set("xmpp/domain", own.Name, own.At)
		if secret, at := d.text(own, "component_secret"); at.File != "" {
			d.set("xmpp/secret", secret, at)
		}
	case proxy != nil:
		d.set("xmpp/domain", proxy.Name, proxy.At)
		d.note(proxy.At, proxy.Name+" is still Jitsi's client_proxy. usher takes its place: "+
			`"usher config prosody" prints the lines that change it`)
	}
	if target, at := d.jicofo(own, proxy, services); target != "" {
		d.set("jicofo/jid", target, at)
	}
	d.server()
}

// components returns usher's own component and Jitsi's client_proxy; nil if there is none.
func (d *deployment) components() (own, proxy *prosody.Section) {
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
	return own, proxy
}

// jicofo returns the JID of Jicofo: the one for which client_proxy speaks, or the focus among the admins of the rooms.
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

// server sets where usher connects to: where Prosody listens. usher's own lines may have changed that.
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
	if at, image := dockerImage(d.e.whole); image {
		d.container(l, at)
	} else if address, at := l.address(), l.at(d.e.whole); address != "" && at.File != "" {
		d.set("xmpp/server", address, at)
	}
}

// container sets where usher connects to in docker-jitsi-meet, unless its variables say it.
func (d *deployment) container(l listener, at prosody.Position) {
	if d.l.docker {
		return
	}
	port := defaultPort
	if len(l.ports) > 0 {
		port = l.ports[0]
	}
	d.set("xmpp/server", net.JoinHostPort(dockerServer, strconv.Itoa(port)), at)
	if !d.l.given("xmpp/server") {
		d.note(at, "this is the Prosody of docker-jitsi-meet, which other containers reach as "+dockerServer+
			": set xmpp.server if XMPP_SERVER has another name, or if usher runs elsewhere")
	}
}

// at returns which option of Prosody makes it listen elsewhere than by default; zero if none does.
func (l listener) at(c *prosody.Configuration) prosody.Position {
	switch {
	case l.portsAt.File != "":
		return l.portsAt
	case l.interfacesAt.File != "":
		if l.address() != net.JoinHostPort("127.0.0.1", strconv.Itoa(defaultPort)) {
			return l.interfacesAt
		}
	case !l.hears("127.0.0.1"):
		o, _ := c.Global.Own("use_ipv4")
		return o.At
	}
	return prosody.Position{}
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
		// usher verifies tokens, so Prosody need not. A virtual host with an issuer of its own was meant for tokens.
		if own, ok := host.Own("app_id"); ok && own.Value != "" {
			d.token(path, host, at)
			return
		}
		d.set(path+"/kind", string(KindGuest), at)
	case a.password():
		d.password(path, host, services)
	}
}

// jaasKeys is where 8x8 publishes the keys of its own components, such as the gateways of JaaS for dial-in. The tokens of its
// customers are signed with other keys.
const jaasKeys = "https://jaas-public-keys.jitsi.net/jitsi-components/"

// jaas reports whether only gateways of JaaS can log in on a virtual host with tokens, as on that of docker-jitsi-meet's
// ENABLE_JAAS_COMPONENTS and of Debian's jitsi-meet-prosody. Jitsi's provider verifies their token with those keys when they log
// in, and lets nobody in without one. They send usher no token.
func (d *deployment) jaas(host *prosody.Section) (prosody.Position, bool) {
	server, _, _, _ := host.String("asap_key_server")
	empty, _, _, err := host.Bool("allow_empty_token")
	own, ok := host.Own("asap_key_server")
	return own.At, ok && strings.HasPrefix(server, jaasKeys) && !empty && err == nil
}

// jigasi reports whether Jigasi enters rooms from a virtual host with passwords, by its account there. It does if the image of
// docker-jitsi-meet knows no anonymous people (jigasi/rootfs/defaults/sipserver-sip-communicator.properties). Its account is among
// the image's admins. So are those of Jibri, Jicofo and the bridge, and the last two have no limits.
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

// password decides about a virtual host where people log in with a password. They would be hosts, and usher makes nobody a host who
// was not named. But people who are exempt from tokens, such as recorders, are let in.
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
		d.note(at, host.Name+" is kind: service: nobody is anonymous, so Jigasi enters rooms from there with the account that is an admin here")
		return
	}
	if _, people := host.Own("main_muc"); people { // there a recorder is one of many people
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
	// On Debian only the name tells: the guides of jitsi-meet and Jibri use it. Such a virtual host is no exception to tokens there,
	// because without enable_domain_verification, token_verification lets in people without one.
	if first, _, _ := strings.Cut(host.Name, "."); slices.Contains([]string{"recorder", "hidden"}, first) {
		d.set(path+"/kind", string(KindService), host.At)
		d.note(host.At, host.Name+" is kind: service, by its name: recorders enter rooms that are open, and never count as hosts")
	}
}

// compareAuthentication records virtual hosts of a kind that contradicts how people log in.
func (l *loader) compareAuthentication(c *Config) {
	kinds := map[string]Kind{}
	for _, v := range c.VHosts {
		kinds[join("vhosts", v.Domain.String())] = v.Kind
	}
	for _, a := range l.authentications {
		kind, known := kinds[a.path]
		switch {
		case !known && a.matrix():
			l.problem(a.at, typed(a.path), "asks a Matrix server, and usher does not: use jwt (token) with an issuer that signs tokens, "+
				"or write in usher.yaml of which kind it is")
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
		d.note(secret.At, host.Name+": app_secret is left out, because beside asap_key_server or cache_keys_url Jitsi's plugin does not use it")
	} else if text, at := d.text(host, "app_secret"); ok {
		d.set(path+"/app_secret", text, at)
	}
}

// noIssuer says of a virtual host that it lets people in without a token, and accepts no tokens.
const noIssuer = " takes tokens but has no app_id, so all its people are guests"

// issuer returns the one virtual host with tokens that has an issuer; nil if none has or several have.
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

// modules returns the modules that are enabled on usher's MUC services, and for virtual hosts.
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

// admitted warns of people that token_verification refuses on this service: guests, and people with tokens of another virtual host's
// issuer. There their sub must be the domain of the rooms, and here it may be their own. The options are those of the virtual host
// that gives the service its name (mod_token_verification.lua, token/util.lib.lua).
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
			d.l.warnAt(d.place(at), fmt.Sprintf("usher allows more than the module token_verification: tokens of %[1]s may name that "+
				"domain as sub, and open rooms on %[2]s. There sub must be %[3]s. An usher of its own for each service, with its virtual hosts, "+
				"keeps them apart", s.vhost(), service.Name, parent))
		}
	}
}
