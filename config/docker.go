package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// byModules stands for the keys that modules of Prosody set: see [Modules].
const byModules = "modules"

// dockerEnvironment as the source docker stands for usher's own environment.
const dockerEnvironment = "environment"

// DockerVariable is a variable of docker-jitsi-meet.
type DockerVariable struct {
	Name string
	// Default is its default there; it counts where the source docker is used and the variable is not set.
	Default string
	// Key is what it sets, with MAIN, GUEST and HIDDEN for the virtual hosts; "modules" if it names modules of Prosody, which
	// set keys as [Modules] says; empty if usher does not act on it.
	Key string
	// Note says what becomes of it, or why usher does not act on it.
	Note string
}

// DockerVariables are the variables of docker-jitsi-meet that have to do with who may enter: the one list of what each
// of them sets (its README and prosody/rootfs/defaults, state of August 2026). Whichever of them usher does not act on is
// named in [Config.Notes] if it is set.
var DockerVariables = []DockerVariable{
	{"XMPP_DOMAIN", "meet.jitsi", "vhosts.MAIN", "the main virtual host; usher's own address is focus. before it (xmpp.domain)"},
	{"XMPP_SERVER", "", "xmpp.server", "the server's name, to which port 5347 is added"},
	{"XMPP_MUC_DOMAIN", "muc.MAIN", "rooms.services", "the MUC service that is guarded"},
	{"XMPP_GUEST_DOMAIN", "guest.MAIN", "vhosts.GUEST", "the virtual host of guests, with ENABLE_AUTH and ENABLE_GUESTS"},
	{"XMPP_AUTH_DOMAIN", "auth.MAIN", "jicofo.jid", "where Jicofo logs in, as focus"},
	{"XMPP_HIDDEN_DOMAIN", "hidden.MAIN", "vhosts.HIDDEN", "the virtual host of recorders, with ENABLE_RECORDING or ENABLE_TRANSCRIPTIONS"},
	{"ENABLE_AUTH", "0", "vhosts.MAIN.kind", "without it the main virtual host is one of guests"},
	{"ENABLE_GUESTS", "0", "vhosts.GUEST.kind", "kind: guest"},
	{"AUTH_TYPE", "internal", "vhosts.MAIN.kind", "jwt: token; internal and ldap: trusted, which is Jitsi's secure domain"},
	{"PROSODY_AUTH_TYPE", "", "vhosts.MAIN.kind", "counts instead of AUTH_TYPE"},
	{"PROSODY_GUEST_AUTH_TYPE", "jitsi-anonymous", "vhosts.GUEST.kind", "token: a token counts there, too"},
	{"JWT_APP_ID", "", "vhosts.MAIN.app_id", ""},
	{"JWT_APP_SECRET", "", "vhosts.MAIN.app_secret", "not used beside JWT_ASAP_KEYSERVER, as by Jitsi"},
	{"JWT_ACCEPTED_ISSUERS", "", "vhosts.MAIN.accepted_issuers", ""},
	{"JWT_ACCEPTED_AUDIENCES", "", "vhosts.MAIN.accepted_audiences", ""},
	{"JWT_ASAP_KEYSERVER", "", "vhosts.MAIN.asap_key_server", ""},
	{"JWT_SIGN_TYPE", "", "vhosts.MAIN.algorithms", ""},
	{"JWT_ALLOW_EMPTY", "0", "vhosts.MAIN.allow_empty_token", ""},
	{"JWT_ENABLE_DOMAIN_VERIFICATION", "false", "vhosts.MAIN.domain_verification", ""},
	{"XMPP_MUC_MODULES", "", byModules, "on the MUC service that is guarded"},
	{"XMPP_BREAKOUT_MUC_MODULES", "", byModules, "on the service of breakout rooms"},
	{"XMPP_LOBBY_MUC_MODULES", "", byModules, "on the service of lobbies"},
	{"XMPP_MODULES", "", byModules, "on the virtual hosts"},
	{"GLOBAL_MODULES", "", byModules, "on all virtual hosts"},
	{"JWT_TOKEN_AUTH_MODULE", "token_verification", byModules, "on the MUC service, with AUTH_TYPE=jwt"},
	{"WAIT_FOR_HOST_DISABLE_AUTO_OWNERS", "false", "vhosts.MAIN.default_affiliation", "member, beside the module muc_wait_for_host"},
	{"ENABLE_LOBBY", "true", "rooms.lobby", "lobby. before XMPP_DOMAIN"},
	{"ENABLE_BREAKOUT_ROOMS", "true", "rooms.breakout", "breakout. before XMPP_DOMAIN"},
	{"ENABLE_RECORDING", "0", "vhosts.HIDDEN.kind", "kind: service"},
	{"ENABLE_TRANSCRIPTIONS", "0", "vhosts.HIDDEN.kind", "kind: service"},

	{"TOKEN_AUTH_URL", "", "", "the web page's: it opens this address when somebody has to log in"},
	{"ENABLE_AUTO_OWNER", "", "", "Jicofo's: set it to false, for usher makes the owners"},
	{"ENABLE_MODERATOR_CHECKS", "", "", "Jicofo's"},
	{"JICOFO_ENABLE_AUTH", "", "", "Jicofo's: set it to 0, for usher decides who may open a room"},
	{"JICOFO_AUTH_TYPE", "", "", "Jicofo's"},
	{"JICOFO_AUTH_LIFETIME", "", "", "Jicofo's"},
	{"JICOFO_AUTH_PASSWORD", "", "", "Jicofo's"},
	{"JICOFO_TRUSTED_DOMAINS", "", "", "Jicofo's: here kind: service says it"},
	{"ENABLE_AUTO_LOGIN", "", "", "Jicofo's"},
	{"ENABLE_AUTH_DOMAIN", "", "", "the web page's"},
	{"JWT_AUTH_TYPE", "token", "", "Prosody's module, whose work usher does"},
	{"JWT_ACCEPTED_ALLOWNER_ISSUERS", "", "", "of the module muc_allowners, which makes everybody owner: write an issuer with default_affiliation"},
	{"XMPP_PORT", "", "", "the port of clients; usher connects to the port of components, xmpp.server"},
	{"XMPP_INTERNAL_MUC_DOMAIN", "", "", "rooms of bridges and recorders, which nobody else enters"},
	{"XMPP_BOSH_URL_BASE", "", "", "the web page's"},
	{"XMPP_INTERNAL_MUC_MODULES", "", "", "Prosody's modules, in rooms that nobody else enters"},
	{"XMPP_CONFIGURATION", "", "", "lines of Prosody's configuration: name the file that they end up in, by sources.prosody"},
	{"XMPP_MUC_CONFIGURATION", "", "", "lines of Prosody's configuration: name the file that they end up in, by sources.prosody"},
	{"MAX_PARTICIPANTS", "", "", "Prosody's module counts people"},
	{"ENABLE_AV_MODERATION", "", "", "Prosody's module, for those who are owners already"},
	{"ENABLE_END_CONFERENCE", "", "", "Prosody's module, for those who are owners already"},
	{"ENABLE_SUBDOMAINS", "", "", "rooms of tenants are understood in any case"},
	{"ENABLE_XMPP_WEBSOCKET", "", "", "the way that clients connect"},
	{"ENABLE_VISITORS", "", "", "Jicofo's; usher does not know visitors"},
	{"PROSODY_RESERVATION_ENABLED", "", "", "Prosody's module asks a reservation system, after usher has decided"},
	{"PROSODY_RESERVATION_REST_BASE_URL", "", "", "as PROSODY_RESERVATION_ENABLED"},
	{"PROSODY_ENABLE_MUC_RESOURCE_VALIDATE", "", "", "Prosody's module looks at nicks"},
	{"PROSODY_MUC_RESOURCE_VALIDATE_ANONYMOUS_STRICT", "", "", "as PROSODY_ENABLE_MUC_RESOURCE_VALIDATE"},
	{"PROSODY_ENABLE_RATE_LIMITS", "", "", "Prosody's"},
	{"PROSODY_ENABLE_FILTER_MESSAGES", "", "", "Prosody's"},
	{"MATRIX_UVS_URL", "", "", "usher asks no Matrix server: it takes tokens that an issuer has signed"},
	{"MATRIX_UVS_ISSUER", "", "", "as MATRIX_UVS_URL"},
	{"MATRIX_UVS_AUTH_TOKEN", "", "", "as MATRIX_UVS_URL"},
	{"MATRIX_UVS_SYNC_POWER_LEVELS", "", "", "as MATRIX_UVS_URL"},
	{"MATRIX_LOBBY_BYPASS", "", "", "as MATRIX_UVS_URL"},
	{"LDAP_URL", "", "", "Prosody asks the directory"},
}

// docker reads the variables of docker-jitsi-meet.
type docker struct {
	l         *loader
	at        place // of the whole
	variables map[string]assignment
	settings  []setting
}

// readDocker returns what the variables say, which are in a .env file of that name, or in the environment.
func (l *loader) readDocker(name string, at place, environ []string) []setting {
	d := &docker{l: l, at: place{source: "docker", layer: layerDocker}, variables: map[string]assignment{}}
	if name == dockerEnvironment {
		for _, entry := range environ {
			name, value, _ := strings.Cut(entry, "=")
			d.variables[name] = assignment{value: value}
		}
	} else {
		content, ok := l.open(name, at)
		if !ok {
			return nil
		}
		d.at = place{source: "docker " + shown(name), layer: layerDocker, file: name}
		var mistakes []mistake
		d.variables, mistakes = parseDotenv(string(content))
		for _, m := range mistakes {
			l.garble(d.line(m.line), m.text)
		}
		if l.garbled {
			return nil
		}
	}
	d.read()
	d.ignored()
	return l.readModules(d.modules(), d.settings)
}

func (d *docker) line(n int) place {
	at := d.at
	if at.line = n; n > 0 {
		at.source += ":" + strconv.Itoa(n)
	}
	return at
}

// place returns where a variable is set, or by whom its default is.
func (d *docker) place(name string) place {
	v, set := d.variables[name]
	at := d.line(v.line)
	if !set {
		at.source = "docker default of " + name
	} else {
		at.source += " " + name
	}
	return at
}

// given reports whether a variable is set. An empty one is not, as in docker-jitsi-meet's templates.
func (d *docker) given(name string) bool { return d.variables[name].value != "" }

// text returns the value of a variable, or its default.
func (d *docker) text(name string) string {
	if d.given(name) {
		return d.variables[name].value
	}
	i := slices.IndexFunc(DockerVariables, func(v DockerVariable) bool { return v.Name == name })
	def := DockerVariables[i].Default
	if prefix, ok := strings.CutSuffix(def, "MAIN"); ok {
		return prefix + d.text("XMPP_DOMAIN")
	}
	return def
}

func (d *docker) flag(name string) bool {
	value, err := strconv.ParseBool(d.text(name))
	if err != nil {
		d.l.problem(d.place(name), "", "is neither 0 nor 1")
	}
	return value
}

func (d *docker) list(name string) []string {
	list := strings.Split(d.text(name), ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// set sets a key to what a variable says.
func (d *docker) set(path string, value any, name string) {
	d.settings = append(d.settings, setting{path, value, d.place(name)})
}

// read sets what the variables say, as the templates of docker-jitsi-meet put them into Prosody's configuration
// (prosody/rootfs/defaults/conf.d/jitsi-meet.cfg.lua).
func (d *docker) read() {
	domain := d.text("XMPP_DOMAIN")
	main, guest := join("vhosts", domain), join("vhosts", d.text("XMPP_GUEST_DOMAIN"))
	d.set("xmpp/domain", "focus."+domain, "XMPP_DOMAIN")
	if d.given("XMPP_SERVER") {
		d.set("xmpp/server", d.text("XMPP_SERVER")+":5347", "XMPP_SERVER")
	}
	d.set("rooms/services", []string{d.text("XMPP_MUC_DOMAIN")}, "XMPP_MUC_DOMAIN")
	d.set("jicofo/jid", "focus@"+d.text("XMPP_AUTH_DOMAIN"), "XMPP_AUTH_DOMAIN")
	if d.flag("ENABLE_LOBBY") {
		d.set("rooms/lobby", "lobby."+domain, "ENABLE_LOBBY")
	}
	if d.flag("ENABLE_BREAKOUT_ROOMS") {
		d.set("rooms/breakout", "breakout."+domain, "ENABLE_BREAKOUT_ROOMS")
	}
	for _, name := range []string{"ENABLE_RECORDING", "ENABLE_TRANSCRIPTIONS"} {
		if d.flag(name) {
			d.set(join("vhosts", d.text("XMPP_HIDDEN_DOMAIN"))+"/kind", string(KindService), name)
			break
		}
	}
	if !d.flag("ENABLE_AUTH") {
		d.set(main+"/kind", string(KindGuest), "ENABLE_AUTH")
		return
	}
	by := "AUTH_TYPE"
	if d.given("PROSODY_AUTH_TYPE") {
		by = "PROSODY_AUTH_TYPE"
	}
	switch d.text(by) {
	case "jwt":
		if !d.given("JWT_APP_ID") && d.flag("JWT_ALLOW_EMPTY") {
			at := d.place(by)
			d.l.warnings = append(d.l.warnings, Problem{Source: at.source, Text: domain + noIssuer, at: at})
			d.set(main+"/kind", string(KindGuest), by)
			break
		}
		d.set(main+"/kind", string(KindToken), by)
		d.issuer(main)
	case "internal", "ldap":
		d.set(main+"/kind", string(KindTrusted), by)
	case "matrix", "hybrid_matrix_token":
		d.l.authenticated(authenticated{main, matrixProviders[0], d.place(by)})
	default:
		d.l.problem(d.place(by), "", "is not known: it must be jwt, internal or ldap")
	}
	if !d.flag("ENABLE_GUESTS") {
		return
	}
	switch d.text("PROSODY_GUEST_AUTH_TYPE") {
	case "jitsi-anonymous", "anonymous":
		d.set(guest+"/kind", string(KindGuest), "ENABLE_GUESTS")
	case "token":
		d.set(guest+"/kind", string(KindToken), "PROSODY_GUEST_AUTH_TYPE")
		d.issuer(guest)
	default:
		d.l.problem(d.place("PROSODY_GUEST_AUTH_TYPE"), "", "is not known: it must be jitsi-anonymous, anonymous or token")
	}
}

// issuer sets the one issuer of a virtual host.
func (d *docker) issuer(vhost string) {
	// Without these there is no issuer, so if they are there but empty, that is what is wrong.
	for _, v := range []struct{ name, key string }{{"JWT_APP_ID", "app_id"}, {"JWT_APP_SECRET", "app_secret"}} {
		if _, there := d.variables[v.name]; there && (v.key == "app_id" || !d.given("JWT_ASAP_KEYSERVER")) {
			d.set(join(vhost, v.key), d.text(v.name), v.name)
		}
	}
	if d.given("JWT_ASAP_KEYSERVER") {
		d.set(vhost+"/asap_key_server", d.text("JWT_ASAP_KEYSERVER"), "JWT_ASAP_KEYSERVER")
	}
	for _, v := range []struct{ name, key string }{
		{"JWT_ACCEPTED_ISSUERS", "accepted_issuers"}, {"JWT_ACCEPTED_AUDIENCES", "accepted_audiences"}, {"JWT_SIGN_TYPE", "algorithms"},
	} {
		if d.given(v.name) {
			d.set(join(vhost, v.key), d.list(v.name), v.name)
		}
	}
	d.set(vhost+"/domain_verification", d.flag("JWT_ENABLE_DOMAIN_VERIFICATION"), "JWT_ENABLE_DOMAIN_VERIFICATION")
	d.set(vhost+"/allow_empty_token", d.flag("JWT_ALLOW_EMPTY"), "JWT_ALLOW_EMPTY")
}

// modules returns the modules that the variables name.
func (d *docker) modules() []enabled {
	var found []enabled
	for _, v := range []struct {
		name string
		on   section
	}{
		{"XMPP_MUC_MODULES", onRooms}, {"JWT_TOKEN_AUTH_MODULE", onRooms}, {"XMPP_BREAKOUT_MUC_MODULES", onBeside},
		{"XMPP_LOBBY_MUC_MODULES", onBeside}, {"XMPP_MODULES", onPeople}, {"GLOBAL_MODULES", onPeople},
	} {
		if v.name == "JWT_TOKEN_AUTH_MODULE" && !d.tokens() {
			continue
		}
		for _, name := range d.list(v.name) {
			if name != "" {
				found = append(found, enabled{name: name, on: v.on, option: d.option, at: d.place(v.name)})
			}
		}
	}
	guests := func(s setting) bool { return s.guests() && s.vhost() == d.text("XMPP_GUEST_DOMAIN") }
	if d.tokens() && d.text("JWT_TOKEN_AUTH_MODULE") == "token_verification" && d.flag("JWT_ENABLE_DOMAIN_VERIFICATION") &&
		!d.flag("JWT_ALLOW_EMPTY") && slices.ContainsFunc(d.settings, guests) {
		d.l.admitted(d.text("XMPP_GUEST_DOMAIN"), d.place("JWT_ENABLE_DOMAIN_VERIFICATION"))
	}
	return found
}

// tokens reports whether the main virtual host takes tokens, so that the templates load JWT_TOKEN_AUTH_MODULE.
func (d *docker) tokens() bool {
	main := join("vhosts", d.text("XMPP_DOMAIN"))
	return slices.ContainsFunc(d.settings, func(s setting) bool { return s.path == main+"/kind" && s.value == string(KindToken) })
}

// option reports whether an option of a module is set that has a variable.
func (d *docker) option(name string) (place, bool) {
	if name != "wait_for_host_disable_auto_owners" {
		return place{}, false
	}
	const variable = "WAIT_FOR_HOST_DISABLE_AUTO_OWNERS"
	return d.place(variable), d.flag(variable)
}

// ignored takes note of the variables that are set and that usher does not act on.
func (d *docker) ignored() {
	var said []string
	for _, v := range DockerVariables {
		if v.Key == "" && d.given(v.Name) {
			said = append(said, fmt.Sprintf("%s (%s)", v.Name, v.Note))
		}
	}
	if len(said) > 0 {
		d.l.notes = append(d.l.notes, Problem{Source: d.at.source, Text: "usher does not act on " + strings.Join(said, ", "), at: d.at})
	}
}
