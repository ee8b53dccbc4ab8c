package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/xmpp-usher/usher/pkg/passhash"
)

// MiroTalkVariables are the variables of MiroTalk SFU that have to do with who may enter (its .env.template and app/src/config.template.js,
// state of August 2026), as [DockerVariables] are docker-jitsi-meet's. PORTAL in a key is the virtual host portal.vhost.
var MiroTalkVariables = slices.Concat([]DockerVariable{
	{hostProtected, "false", "rooms.wait_for_host", "true: guests, and vhosts.PORTAL.allow_empty_token: true where no virtual host is one of guests"},
	{hostUserAuth, "false", "vhosts.PORTAL.allow_empty_token", "true: false, and a rule in rooms.rules that refuses guests in all rooms"},
	{hostUsers, "", "portal.users", "usher hashes the passwords when it starts, and warns. Known default passwords are refused"},
	{hostUsersFromDB, "false", "portal.users_url", "true: USERS_API_ENDPOINT without /user/isAuth; HOST_USERS does not count then"},
	{usersEndpoint, "http://localhost:9000/api/v1/user/isAuth", "portal.users_url", "see HOST_USERS_FROM_DB"},
	{usersSecret, "", "portal.users_secret", "with HOST_USERS_FROM_DB; MiroTalk's default is refused"},
	{jwtExpiration, "1h", "portal.token_ttl", "24h at most"},
	{jwtSecret, "", "", "usher has keys of its own; MiroTalk's default is refused, because somebody may use it elsewhere"},
	{apiKeySecret, "", "", "the API has keys of its own, which usher api key add makes; MiroTalk's default is refused"},
},
	unused("asked as /user/isRoomAllowed and /user/roomsAllowed below portal.users_url", "USERS_ROOM_ALLOWED_ENDPOINT USERS_ROOMS_ALLOWED_ENDPOINT"),
	unused("usher knows the rooms itself", "ROOM_EXISTS_ENDPOINT"),
	unused("usher limits failed logins by itself, for each account and each network, and locks nobody out", "HOST_MAX_LOGIN_ATTEMPTS HOST_MIN_LOGIN_BLOCK_TIME"),
	unused("a name proves nothing: portal.users.affiliation says who is a host", "PRESENTERS"),
	unused("a rule with first_is_host: token can take its place", "PRESENTER_JOIN_FIRST"),
	unused("portal.trusted_proxies names the proxies that count", "TRUST_PROXY"),
	unused("the firewall or the proxy in front can do it", "IP_WHITELIST_ENABLED IP_WHITELIST_ALLOWED"),
	unused("the scopes of a key of the API say it", "API_ALLOW_TOKEN API_ALLOW_JOIN API_ALLOW_MEETING API_ALLOW_MEETINGS API_ALLOW_MEETING_END API_ALLOW_STATS"),
	unused("write portal.providers: its rules say who may open which rooms", "OIDC_ENABLED OIDC_ISSUER OIDC_CLIENT_ID OIDC_CLIENT_SECRET "+
		"OIDC_ALLOW_ROOMS_CREATION_FOR_AUTH_USERS OIDC_AUTH_REQUIRED"),
	unused("portal.public_url says it", "OIDC_BASE_URL OIDC_BASE_URL_DYNAMIC OIDC_ALLOWED_DYNAMIC_BASE_URLS"),
	unused("the portal keeps logins in usher's store", "OIDC_SECRET"),
	unused("/logout ends the login at the provider, too", "OIDC_AUTH_LOGOUT"),
	unused("portal.providers.display_claim says which name others read", "OIDC_USERNAME_FORCE OIDC_USERNAME_AS_EMAIL OIDC_USERNAME_AS_NAME"),
)

// The variables of MiroTalk that usher acts on.
const (
	hostProtected   = "HOST_PROTECTED"
	hostUserAuth    = "HOST_USER_AUTH"
	hostUsers       = "HOST_USERS"
	hostUsersFromDB = "HOST_USERS_FROM_DB"
	usersEndpoint   = "USERS_API_ENDPOINT"
	usersSecret     = "USERS_API_SECRET"
	jwtExpiration   = "JWT_EXPIRATION"
	jwtSecret       = "JWT_SECRET"
	apiKeySecret    = "API_KEY_SECRET"
)

// miroTalkMarks are variables that only a configuration of MiroTalk has.
var miroTalkMarks = []string{hostProtected, hostUserAuth, hostUsers}

// miroTalk reads the variables of MiroTalk.
type miroTalk struct{ envSource }

// openMiroTalk opens the variables of MiroTalk if they are a source. Where the portal is switched on, those in the environment are one
// without being named.
func (l *loader) openMiroTalk(variables map[string]string, environ []string) {
	const path = "sources/mirotalk"
	files, at := l.source(path, variables)
	portal := variables[variable(portalListen)]
	if portal == "" {
		portal = l.viper.GetString(portalListen)
	}
	if len(files) == 0 && portal != "" && portal != off {
		find := lookup(environ)
		if slices.ContainsFunc(miroTalkMarks, func(name string) bool { value, _ := find(name); return value != "" }) {
			files, at = []string{inEnvironment}, place{source: "found there", layer: layerCommand}
			l.places[path] = at
			l.viper.Set(path, inEnvironment)
		}
	}
	if len(files) == 0 {
		return
	}
	m := &miroTalk{envSource{l: l, of: "mirotalk", at: place{source: "mirotalk", layer: layerMiroTalk}}}
	if m.open(files[0], at, environ, false) {
		l.miroTalk = m
	}
}

// readMiroTalk returns what the variables of MiroTalk say. The layers above them are known already, and beneath are the settings of the
// other sources.
func (l *loader) readMiroTalk(beneath []setting) []setting {
	m := l.miroTalk
	if m == nil {
		return nil
	}
	portal := l.portalHostName(beneath)
	if m.flag(hostUserAuth) {
		m.denyGuests(portal)
	} else if m.flag(hostProtected) {
		m.protect(portal, beneath)
	}
	m.refuseExamples()
	on := l.portalOn()
	if l.imports && (m.given(hostUsers) || m.given(hostUsersFromDB)) { // the file to come needs a portal for its accounts
		m.set(portalListen, "127.0.0.1:8087", hostUsers)
		on = true
	}
	if on {
		m.people()
		m.expiration()
	} else if m.given(hostUsers) || m.given(jwtExpiration) {
		m.warn(hostUsers, "has no effect without portal.listen, because nobody can log in then")
	}
	m.ignored()
	return m.settings
}

// portalHostName returns the virtual host for which the portal makes tokens; "" if there is none.
func (l *loader) portalHostName(beneath []setting) string {
	if l.given("portal/vhost") {
		domain, _ := parseDomain(l.viper.GetString("portal/vhost"))
		return domain.String()
	}
	return l.firstOfKind(KindToken, beneath)
}

// firstOfKind returns the first virtual host of a kind, by the layers that are read and the settings of sources beneath; "" if there is none.
func (l *loader) firstOfKind(kind Kind, beneath []setting) string {
	for _, domain := range l.vhosts {
		path := join("vhosts", domain.String()) + "/kind"
		is := l.viper.GetString(path)
		for _, s := range beneath {
			if !l.given(path) && s.path == path && is == "" {
				is, _ = s.value.(string)
			}
		}
		if Kind(is) == kind {
			return domain.String()
		}
	}
	return ""
}

// flag reports whether a variable is on. MiroTalk takes everything but true for false; here that is a problem, because rooms would be open
// by a typing mistake.
func (m *miroTalk) flag(name string) bool {
	switch m.variables[name].value {
	case "true":
		return true
	case "", "false":
		return false
	}
	m.fault(name, "is neither true nor false")
	return false
}

// fault records what is wrong with a variable.
func (m *miroTalk) fault(name, format string, args ...any) {
	m.l.problem(m.place(name), "", fmt.Sprintf(format, args...))
}

// protect has guests wait for a host. They come from a virtual host of guests or, if there is none, to the portal's without a token.
func (m *miroTalk) protect(portal string, beneath []setting) {
	m.set("rooms/wait_for_host", string(WaitGuests), hostProtected)
	if portal != "" && m.l.firstOfKind(KindGuest, beneath) == "" {
		m.set(join("vhosts", portal)+"/allow_empty_token", true, hostProtected)
	}
}

// denyGuests keeps out everybody who has not logged in.
func (m *miroTalk) denyGuests(portal string) {
	if portal != "" {
		m.set(join("vhosts", portal)+"/allow_empty_token", false, hostUserAuth)
	}
	if at := m.l.place(rules); m.l.given(rules) {
		m.warn(hostUserAuth, fmt.Sprintf("adds no rule, because rooms.rules has rules already (%s): write guests: deny into each of them, and a last one with "+
			`match: "*" and tenant: "*"`, at.source))
		return
	}
	rule := join(rules, "0")
	m.set(rule+"/match", "*", hostUserAuth)
	m.set(rule+"/tenant", anyTenant, hostUserAuth)
	m.set(rule+"/guests", string(GuestsDeny), hostUserAuth)
}

// refuseExamples refuses the secrets that everybody who has read MiroTalk's documentation knows.
func (m *miroTalk) refuseExamples() {
	for _, name := range []string{jwtSecret, apiKeySecret} {
		if m.given(name) && isExample(m.variables[name].value) {
			m.fault(name, "is an example that everybody knows. usher does not use it, but MiroTalk may still: %s there, or take it out", howToMakeSecret)
		}
	}
}

// people sets who may log in.
func (m *miroTalk) people() {
	if m.flag(hostUsersFromDB) {
		m.service()
		return
	}
	if !m.given(hostUsers) {
		return
	}
	if m.l.given("portal/users") {
		m.l.note(m.place(hostUsers), "does not count beside portal.users ("+m.l.place("portal/users").source+")")
		return
	}
	users, faults := parseHostUsers(m.variables[hostUsers].value)
	for _, fault := range faults {
		m.fault(hostUsers, "%s", fault)
	}
	if len(faults) > 0 {
		return
	}
	for i, u := range users {
		m.user(join("portal/users", strconv.Itoa(i)), u)
	}
	m.warn(hostUsers, "has passwords in it that everybody who sees it can read. usher has hashed them. Replace it by portal.users_file: usher user add NAME "+
		`--rooms "ROOM,ROOM" for each of them, then take it out`)
}

// user sets the account at a path.
func (m *miroTalk) user(at string, u hostUser) {
	hash, err := m.l.hashed(u.name, u.password)
	if err != nil {
		m.fault(hostUsers, "%s: %s", u.name, err)
		return
	}
	m.set(at+"/name", u.name, hostUsers)
	m.set(at+"/password_hash", hash, hostUsers)
	if u.display != "" {
		m.set(at+"/display_name", u.display, hostUsers)
	}
	m.set(at+"/rooms", u.rooms, hostUsers)
}

// service sets the service that knows the accounts.
func (m *miroTalk) service() {
	const below = "/user/isAuth"
	endpoint := m.text(usersEndpoint)
	base, ok := strings.CutSuffix(strings.TrimRight(endpoint, "/"), below)
	if !ok {
		m.fault(usersEndpoint, "does not end in %s: usher asks for that, /user/isRoomAllowed and /user/roomsAllowed below one address", below)
		return
	}
	m.set("portal/users_url", base, usersEndpoint)
	if secret := m.variables[usersSecret].value; secret != "" {
		m.set("portal/users_secret", secret, usersSecret)
	}
	if m.given(hostUsers) {
		m.l.note(m.place(hostUsers), "does not count with "+hostUsersFromDB)
	}
}

// text returns the value of a variable, or its default.
func (m *miroTalk) text(name string) string {
	if m.given(name) {
		return m.variables[name].value
	}
	i := slices.IndexFunc(MiroTalkVariables, func(v DockerVariable) bool { return v.Name == name })
	return MiroTalkVariables[i].Default
}

// longestToken is how long a token of the portal lasts at most.
const longestToken = 24 * time.Hour

// expiration sets how long tokens last.
func (m *miroTalk) expiration() {
	if !m.given(jwtExpiration) {
		return
	}
	d, ok := parseExpiration(m.variables[jwtExpiration].value)
	if !ok {
		m.fault(jwtExpiration, "is no duration: write it like 1h or 2d")
		return
	}
	if d > longestToken {
		m.warn(jwtExpiration, "is more than 24h, the most that a token of the portal lasts: it is 24h here, and who is logged in gets a new one without a click")
		d = longestToken
	}
	m.set("portal/token_ttl", d, jwtExpiration)
}

// ignored notes the variables that are set and that usher does not act on.
func (m *miroTalk) ignored() {
	var said []string
	for _, v := range MiroTalkVariables {
		if v.Key == "" && m.given(v.Name) {
			said = append(said, fmt.Sprintf("%s (%s)", v.Name, v.Note))
		}
	}
	if len(said) > 0 {
		m.l.note(m.at, "usher does not act on "+strings.Join(said, ", "))
	}
}

// hostUser is an account of HOST_USERS.
type hostUser struct {
	name, password, display string
	rooms                   []string
}

// parseHostUsers reads user:password:display:room1,room2|… as MiroTalk does (app/src/config.template.js, security.host.users), or returns what
// is wrong with it. The words contain no password.
func parseHostUsers(text string) (users []hostUser, faults []string) {
	for i, entry := range strings.Split(text, "|") {
		parts := strings.Split(entry, ":")
		u := hostUser{name: strings.TrimSpace(parts[0])}
		for n, part := range []*string{&u.password, &u.display} {
			if n+1 < len(parts) {
				*part = parts[n+1]
			}
		}
		switch {
		case u.name == "" || u.password == "":
			faults = append(faults, fmt.Sprintf("has an entry without a name or a password, the %s: write user:password:display:room1,room2|…", ordinal(i+1)))
			continue
		case len(parts) > 4:
			faults = append(faults, fmt.Sprintf("has more than four parts in its %s entry: no password and no name can have a : or | in it here", ordinal(i+1)))
			continue
		case passhash.Known(u.password) || strings.EqualFold(u.password, u.name):
			faults = append(faults, fmt.Sprintf("gives %s a password that everybody knows: choose another one", u.name))
			continue
		}
		u.rooms = []string{"*"}
		if len(parts) > 3 && parts[3] != "" {
			u.rooms = hostRooms(parts[3])
		}
		users = append(users, u)
	}
	return users, faults
}

// ordinal writes a number in an order.
func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return strconv.Itoa(n) + suffix
}

// hostRooms returns the rooms of an account as patterns. MiroTalk compares names as they are, except that * in the list is for all rooms.
func hostRooms(list string) (rooms []string) {
	for name := range strings.SplitSeq(list, ",") {
		name = strings.TrimSpace(name)
		if name == "*" {
			return []string{"*"}
		}
		if name != "" {
			rooms = append(rooms, literal.Replace(canonical(name)))
		}
	}
	return rooms
}

// literal makes a pattern of a name.
var literal = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// spans are the units of the package ms of Node.js, by which MiroTalk reads how long a token lasts.
var spans = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour, "w": 7 * 24 * time.Hour, "y": 365 * 24 * time.Hour,
}

var expiration = regexp.MustCompile(`^(\d*\.?\d+)\s*([a-z]*)$`)

// parseExpiration reads a duration as the package ms of Node.js does: 1h, 2 days, or a number of milliseconds.
func parseExpiration(text string) (time.Duration, bool) {
	m := expiration.FindStringSubmatch(strings.ToLower(strings.TrimSpace(text)))
	if m == nil {
		return 0, false
	}
	unit := m[2]
	switch {
	case unit == "" || strings.HasPrefix("milliseconds", unit) && len(unit) > 2 || unit == "msec" || unit == "msecs":
		unit = "ms"
	case unit == "hr" || unit == "hrs" || unit == "yr" || unit == "yrs":
		unit = unit[:1]
	default:
		for _, word := range []string{"seconds", "minutes", "hours", "days", "weeks", "years"} {
			if unit == word || unit == word[:len(word)-1] || len(unit) >= 3 && (unit == word[:3] || unit == word[:3]+"s") && word[0] != 'h' {
				unit = word[:1]
			}
		}
	}
	n, err := strconv.ParseFloat(m[1], 64)
	span := spans[unit]
	if err != nil || span == 0 || n > float64(100*365*24*time.Hour)/float64(span) {
		return 0, false
	}
	return time.Duration(n * float64(span)), true
}
