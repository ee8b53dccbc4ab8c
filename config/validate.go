package config

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
	"mellium.im/xmpp/jid"
)

// build makes the Config of what was decoded, and reports all that is wrong with it.
func (l *loader) build(r *raw) *Config {
	c := &Config{Log: Log{
		Level:  oneOf(l, "log/level", r.Log.Level, "debug", "info", "warn", "error"),
		Format: oneOf(l, "log/format", r.Log.Format, "console", "json"),
	}}
	c.XMPP = l.buildXMPP(r)
	c.Rooms = l.buildRooms(r)
	c.Lobby = l.buildLobby(r)
	c.Jicofo = l.buildJicofo(r)
	c.Sessions = r.Sessions
	c.Store = l.buildStore(r)
	for _, domain := range l.vhosts {
		name := domain.String()
		c.VHosts = append(c.VHosts, l.buildVHost(join("vhosts", name), domain, r.VHosts[name]))
	}
	for _, name := range l.misnamed { // what stands there can be wrong, too
		l.buildVHost(join("vhosts", name), jid.JID{}, r.VHosts[name])
	}
	if len(c.VHosts) == 0 && !l.badVHost {
		l.missing("vhosts", "name at least one virtual host whose people may ask for a room")
	}
	c.Login = l.buildLogin(r, c)
	l.compareDomains(c)
	l.compareFocus(c)
	l.findHosts(c)
	l.compareAuthentication(c)
	for file, at := range l.secretIn {
		if worldReadable(file) {
			l.warnings = append(l.warnings, Problem{Source: at.source, at: at,
				Text: "contains a secret, and everybody on this machine can read it: chmod 640 it"})
		}
	}
	return c
}

// buildProsody returns the files of Prosody that are no source. Whether they can be read matters when they are.
func (l *loader) buildProsody(variables map[string]string) []string {
	files, _ := l.source("prosody/files", variables)
	for i, name := range l.viper.GetStringSlice("prosody/files") {
		if name == "" {
			l.fault(join("prosody/files", strconv.Itoa(i)), "is empty: name Prosody's main file, such as /etc/prosody/prosody.cfg.lua")
		}
	}
	return files
}

func (l *loader) buildXMPP(r *raw) XMPP {
	x := XMPP{Server: r.XMPP.Server}
	l.checkServer("xmpp/server", x.Server)
	if l.given("xmpp/domain") {
		x.Domain = l.domain("xmpp/domain", r.XMPP.Domain)
	} else {
		l.missing("xmpp/domain", "usher's own address, as in the server's Component line")
	}
	least := minSecret
	if r.XMPP.AllowShortSecret {
		least = 0
	}
	l.contradict("xmpp/secret", "xmpp/secret_file")
	if l.given("xmpp/secret") {
		x.Secret = l.secret("xmpp/secret", r.XMPP.Secret, least)
	}
	if l.given("xmpp/secret_file") {
		x.Secret = l.secretFile("xmpp/secret_file", r.XMPP.SecretFile, least)
	}
	if !l.given("xmpp/secret") && !l.given("xmpp/secret_file") {
		l.missing("xmpp/secret_file", "a file with the component's secret, as the server has it (or secret: itself)")
	}
	return x
}

func (l *loader) buildRooms(r *raw) Rooms {
	rooms := Rooms{
		WaitForHost:     oneOf(l, "rooms/wait_for_host", WaitForHost(r.Rooms.WaitForHost), WaitGuests, WaitMembers, WaitNever),
		GuestRooms:      r.Rooms.GuestRooms,
		HostAffiliation: oneOf(l, "rooms/host_affiliation", Affiliation(r.Rooms.HostAffiliation), Owner, Admin),
		Enforcement:     oneOf(l, "rooms/enforcement", Enforcement(r.Rooms.Enforcement), MembersOnly, Module),
		GuardInterval:   r.Rooms.GuardInterval,
		WaitHold:        r.Rooms.WaitHold,
		WaitHoldJitsi:   r.Rooms.WaitHoldJitsi,
	}
	if d := rooms.GuardInterval; d < time.Second || d > 5*time.Minute {
		l.fault("rooms/guard_interval", "is %s, but must be between 1s and 5m", plainDuration(d))
	}
	for at, d := range map[string]time.Duration{"rooms/wait_hold": rooms.WaitHold, "rooms/wait_hold_jitsi": rooms.WaitHoldJitsi} {
		if d < 0 || d > 90*time.Second {
			l.fault(at, "is %s, but must be between 0s (requests are not held) and 90s", plainDuration(d))
		} else if d > 0 && rooms.WaitForHost == WaitNever && l.given(at) {
			l.fault(at, "has no effect with wait_for_host: never, where nobody waits: take it out")
		}
	}
	named := map[string]bool{}
	for i, name := range r.Rooms.Services {
		at := join("rooms/services", strconv.Itoa(i))
		service := l.domain(at, name)
		if service.String() != "" && named[service.String()] {
			l.fault(at, "names %s again: once is enough", service)
		}
		named[service.String()] = true
		rooms.Services = append(rooms.Services, service)
	}
	if len(rooms.Services) == 0 {
		l.missing("rooms/services", "name the MUC services to guard, such as [conference.meet.example.com]")
	}
	if l.given("rooms/breakout") {
		rooms.Breakout = l.domain("rooms/breakout", r.Rooms.Breakout)
	}
	if l.given("rooms/lobby") {
		rooms.Lobby = l.domain("rooms/lobby", r.Rooms.Lobby)
	}
	for i, pattern := range rooms.GuestRooms {
		at := join("rooms/guest_rooms", strconv.Itoa(i))
		_, err := path.Match(pattern, "")
		named := pattern // as auth.CanonicalName has the names that it is compared with
		if decoded, err := url.PathUnescape(pattern); err == nil {
			named = decoded
		}
		named = cases.Lower(language.Und).String(norm.NFKC.String(named))
		switch {
		case err != nil:
			l.fault(at, `%q is no pattern: * stands for any characters, ? for one, [a-z] for one of a range`, pattern)
		case pattern == "":
			l.fault(at, "is empty, so matches no room")
		case strings.ContainsAny(pattern, "@/"):
			l.fault(at, "%q matches no room: a pattern is for a room's name, the part before the @", pattern)
		case pattern != named:
			l.fault(at, "%q matches no room: names are compared decoded, in lower case and in Unicode's form NFKC; write %q", pattern, named)
		}
	}
	return rooms
}

func (l *loader) buildLobby(r *raw) Lobby {
	lobby := Lobby{Autostart: oneOf(l, "lobby/autostart", LobbyAutostart(r.Lobby.Autostart), AutostartHost, AutostartNever)}
	for i, name := range r.Lobby.Bypass {
		at := join("lobby/bypass", strconv.Itoa(i))
		affiliation := oneOf(l, at, Affiliation(name), Owner, Member)
		if slices.Contains(lobby.Bypass, affiliation) {
			l.fault(at, "names %s again: once is enough", affiliation)
		} else if !l.faulty[at] {
			lobby.Bypass = append(lobby.Bypass, affiliation)
		}
	}
	return lobby
}

func (l *loader) buildJicofo(r *raw) Jicofo {
	j := Jicofo{ForwardToken: r.Jicofo.ForwardToken, EnforceRoles: r.Jicofo.EnforceRoles}
	if !l.given("jicofo/jid") {
		return j
	}
	focus, err := jid.Parse(r.Jicofo.JID)
	if err != nil || focus.Localpart() == "" {
		l.fault("jicofo/jid", "%q is no JID: write it like focus@auth.meet.example.com", r.Jicofo.JID)
		return j
	}
	if focus.Resourcepart() != "" {
		l.warn("jicofo/jid", "leave out the resource (/%s): usher learns it from Jicofo's presence, for it changes", focus.Resourcepart())
	}
	j.JID = focus.Bare()
	return j
}

// inMemory is what store.path says for a store that ends with the process. A file of that name is ./memory.
const inMemory = "memory"

func (l *loader) buildStore(r *raw) Store {
	if size := r.Store.MaxSize; l.given("store/max_size") && (size < 8*mib || size > 1024*gib) {
		l.fault("store/max_size", "is %s, but must be between 8MiB and 1024GiB", size)
	}
	switch r.Store.Path {
	case "":
		return Store{MaxSize: r.Store.MaxSize}
	case inMemory:
		l.warn("store/path", "memory: when usher ends, people show their tokens again, the requests of those who wait are refused and not "+
			"held before (rooms.wait_hold and wait_hold_jitsi have no effect), and what was granted stays in rooms until usher sees them again")
		return Store{Memory: true, MaxSize: r.Store.MaxSize}
	}
	file := l.resolve(r.Store.Path)
	folder := filepath.Dir(file)
	if stat, err := os.Stat(folder); errors.Is(err, fs.ErrNotExist) {
		l.fault("store/path", "the folder %s does not exist: make it, so that usher, and nobody else, can write there", folder)
	} else if err != nil {
		l.fault("store/path", "the folder %s cannot be looked at: %s", folder, why(err))
	} else if !stat.IsDir() {
		l.fault("store/path", "%s is no folder", folder)
	} else if stat, err := os.Stat(file); err == nil && stat.IsDir() {
		l.fault("store/path", "%s is a folder: name a file in it", file)
	} else if err == nil && !stat.Mode().IsRegular() {
		l.fault("store/path", "%s is not a regular file", file)
	} else if worldReadable(file) {
		l.warn("store/path", "%s has the sessions of people in it, and everybody on this machine can read it: chmod 600 it", file)
	}
	return Store{Path: file, MaxSize: r.Store.MaxSize}
}

// buildVHost makes the virtual host that stands at a path.
func (l *loader) buildVHost(at string, domain jid.JID, r rawVHost) VHost {
	v := VHost{
		Domain:             domain,
		AllowEmptyToken:    r.AllowEmptyToken,
		DefaultAffiliation: oneOf(l, at+"/default_affiliation", Affiliation(r.DefaultAffiliation), Owner, Member),
	}
	if l.given(at + "/kind") {
		v.Kind = oneOf(l, at+"/kind", Kind(r.Kind), KindToken, KindGuest, KindTrusted, KindService)
	} else {
		l.missing(at+"/kind", "it must be token, guest, trusted or service")
	}

	short := "" // the first of an issuer's keys that stands on the vhost itself
	for _, key := range issuerKeys {
		if path := at + "/" + key; l.given(path) && (short == "" || l.place(path).compare(l.place(short)) < 0) {
			short = path
		}
	}
	many := at + "/issuers"
	if short != "" && l.given(many) {
		l.fault(many, "contradicts %s (%s): an issuer stands either on the vhost itself or in the list issuers",
			typed(short), l.place(short).source)
	}
	if short != "" {
		v.Issuers = append(v.Issuers, l.buildIssuer(at, domain, r.rawIssuer, ""))
	}
	if l.given(many) {
		v.Issuers = append(v.Issuers, l.buildIssuers(many, domain, r.Issuers)...)
	}
	l.checkKind(at, &v, short)
	return v
}

// checkKind reports what does not go with the kind of a vhost. The one issuer of its short form, if there is one,
// begins at the path short.
func (l *loader) checkKind(at string, v *VHost, short string) {
	issuers := at + "/issuers"
	if short != "" {
		issuers = short
	}
	hasIssuer := l.given(issuers)
	switch v.Kind {
	case KindToken:
		if !hasIssuer {
			l.missing(at+"/app_id", "a token vhost needs the issuer of its tokens: app_id and app_secret_file, or issuers")
		}
	case KindGuest, KindTrusted, KindService:
		if l.given(at + "/allow_empty_token") {
			l.fault(at+"/allow_empty_token", "has no effect on a %s vhost, where nobody needs a token: take it out", v.Kind)
		}
		if v.Kind != KindGuest && hasIssuer {
			l.fault(issuers, "contradicts kind: %s: %s", v.Kind, map[Kind]string{
				KindTrusted: "its people are hosts without a token; should it be kind: token?",
				KindService: "its people are let in without a token; should it be kind: token?",
			}[v.Kind])
		}
		if !hasIssuer && l.given(at+"/default_affiliation") && !l.garbled {
			l.fault(at+"/default_affiliation", "has no effect on a %s vhost without issuer: it is for people with a token", v.Kind)
		}
	}
}

func (l *loader) buildIssuers(at string, vhost jid.JID, r map[int]rawListed) []Issuer {
	var issuers []Issuer
	named := map[string]int{} // by app_id: the first
	for i := range l.count(at) {
		here := join(at, strconv.Itoa(i))
		var byDefault Affiliation
		if own := here + "/default_affiliation"; l.given(own) {
			byDefault = oneOf(l, own, Affiliation(r[i].DefaultAffiliation), Owner, Member)
			if claim := here + "/claims/affiliation"; l.given(claim) || l.given(claim+"_values") {
				l.fault(own, "has no effect beside %s, where a token that says nothing makes a member: take it out", typed(claim))
			}
		}
		issuer := l.buildIssuer(here, vhost, r[i].rawIssuer, byDefault)
		if first, again := named[issuer.AppID]; again {
			l.fault(here+"/app_id", "is that of %s[%d], too: two issuers of a vhost must have different names "+
				"(accepted_issuers may be the same)", typed(at), first)
		} else if issuer.AppID != "" {
			named[issuer.AppID] = i
		}
		issuers = append(issuers, issuer)
	}
	if len(issuers) == 0 {
		l.fault(at, "is empty: write an issuer, or take it out")
	}
	return issuers
}

// buildIssuer makes the issuer that stands at a path, with a default affiliation of its own or none.
func (l *loader) buildIssuer(at string, vhost jid.JID, r rawIssuer, byDefault Affiliation) Issuer {
	issuer := Issuer{
		AppID:              r.AppID,
		AcceptedIssuers:    r.AcceptedIssuers,
		AcceptedAudiences:  r.AcceptedAudiences,
		RequireRoom:        r.RequireRoom,
		RequireExp:         r.RequireExp,
		DomainVerification: r.DomainVerification,
		NoWildcard:         r.NoWildcard,
		Leeway:             r.Leeway,
		Tenant:             r.Tenant,
		KeysMaxStale:       r.KeysMaxStale,
		DefaultAffiliation: byDefault,
	}
	switch {
	case !l.given(at + "/app_id"):
		l.missing(at+"/app_id", "the issuer's name, as in the claim iss of its tokens")
	case issuer.AppID == "":
		l.fault(at+"/app_id", "is empty: it is the issuer's name, as in the claim iss of its tokens")
	}
	if !l.given(at + "/accepted_issuers") {
		issuer.AcceptedIssuers = []string{issuer.AppID}
		l.effective[at+"/accepted_issuers"] = issuer.AcceptedIssuers
	} else {
		l.checkTexts(at+"/accepted_issuers", issuer.AcceptedIssuers)
	}
	l.checkTexts(at+"/accepted_audiences", issuer.AcceptedAudiences)
	if issuer.Leeway < 0 || issuer.Leeway > time.Minute {
		l.fault(at+"/leeway", "is %s: it must be from 0s to 60s", issuer.Leeway)
	}
	if issuer.KeysMaxStale < 0 {
		l.fault(at+"/keys_max_stale", "is less than nothing: 0s means that keys count only as long as they are fresh")
	}
	if l.given(at+"/tenant") && issuer.Tenant == "" {
		l.fault(at+"/tenant", "is empty: name the tenant, or take it out for any")
	}
	l.buildClaims(at+"/claims", r.Claims, &issuer.Claims)
	l.buildKeys(at, r, &issuer)
	l.check(at, vhost, issuer)
	return issuer
}

// check has an issuer checked by others, who know of keys and tokens what this package does not.
func (l *loader) check(at string, vhost jid.JID, issuer Issuer) {
	for _, check := range l.checks {
		for _, f := range check(vhost, issuer) {
			path := join(at, f.Key)
			if f.Entry != "" {
				path = entryOf(path, f.Entry)
			}
			// Which key has a problem follows from that of one of its entries.
			follows := false
			for i := range issuer.Algorithms {
				follows = follows || l.faulty[join(path, strconv.Itoa(i))]
			}
			if !follows {
				l.fault(path, "%s", f.Text)
			}
		}
	}
}

// buildClaims makes the map of claims at a path. What a path or a meaning may be is not its concern.
func (l *loader) buildClaims(at string, r rawClaims, m *ClaimMap) {
	for _, c := range []struct {
		name   string
		path   string
		values map[string]string
		claim  *Claim
	}{
		{"affiliation", r.Affiliation, r.AffiliationValues, &m.Affiliation},
		{"id", r.ID, r.IDValues, &m.ID},
		{"name", r.Name, r.NameValues, &m.Name},
		{"group", r.Group, r.GroupValues, &m.Group},
		{"room", r.Room, r.RoomValues, &m.Room},
		{"tenant", r.Tenant, r.TenantValues, &m.Tenant},
	} {
		path, table := join(at, c.name), join(at, c.name+"_values")
		if !l.given(path) && !l.given(table) {
			continue
		}
		*c.claim = Claim{Path: c.path, Values: c.values}
		if l.given(path) && c.path == "" {
			l.fault(path, "is empty: write the names that lead there with dots between them")
		}
		if l.given(table) && len(c.values) == 0 {
			l.fault(table, "is empty: write what the values mean, or take it out")
		}
	}
}

// buildKeys adds the keys and the algorithms of an issuer: shared secrets, or public keys from one or more sources.
func (l *loader) buildKeys(at string, r rawIssuer, issuer *Issuer) {
	var (
		one, file, list = at + "/app_secret", at + "/app_secret_file", at + "/app_secrets"
		pems, set       = at + "/public_key_files", at + "/jwks_file"
		remote          = []string{at + "/jwks_url", at + "/asap_key_server", at + "/cache_keys_url"}
		public          = slices.DeleteFunc(append([]string{pems, set}, remote...), func(path string) bool { return !l.given(path) })
		shared          = l.given(one) || l.given(file) || l.given(list)
	)
	issuer.Algorithms = l.algorithms(at+"/algorithms", r.Algorithms, shared, len(public) > 0)
	least := 0
	if !r.AllowShortSecret {
		least = leastSecret(issuer.Algorithms)
	}
	exclude := []string{one, file, list}
	if len(public) > 0 {
		exclude = append(exclude, public[0])
	}
	l.contradict(exclude...)
	add := func(path string, secret Secret) {
		if !l.faulty[path] {
			issuer.AppSecrets = append(issuer.AppSecrets, secret)
		}
	}
	if l.given(one) {
		add(one, l.secret(one, r.AppSecret, least))
	}
	if l.given(file) {
		add(file, l.secretFile(file, r.AppSecretFile, least))
	}
	if l.given(list) {
		for i, text := range r.AppSecrets {
			path := join(list, strconv.Itoa(i))
			add(path, l.secret(path, text, least))
		}
		if len(r.AppSecrets) == 0 {
			l.fault(list, "is empty: write the secrets that the issuer uses")
		}
	}
	if !shared && len(public) == 0 {
		l.missing(file, "a file with the secret shared with the issuer (or app_secret: itself, or public_key_files, "+
			"jwks_file, jwks_url, asap_key_server or cache_keys_url)")
	}
	if l.given(pems) {
		for i, name := range r.PublicKeyFiles {
			issuer.PublicKeyFiles = append(issuer.PublicKeyFiles, l.publicKeyFile(join(pems, strconv.Itoa(i)), name))
		}
		if len(r.PublicKeyFiles) == 0 {
			l.fault(pems, "is empty: name the PEM files with the issuer's public keys")
		}
	}
	if l.given(set) {
		_, issuer.JWKSFile, _ = l.readNamed(set, r.JWKSFile, maxKeys)
	}
	issuer.JWKSURL, issuer.ASAPKeyServer, issuer.CacheKeysURL = r.JWKSURL, r.ASAPKeyServer, r.CacheKeysURL
	for i, address := range []string{r.JWKSURL, r.ASAPKeyServer, r.CacheKeysURL} {
		if l.given(remote[i]) && address == "" {
			l.fault(remote[i], "is empty: write an address like https://login.example.com/keys")
		}
	}
}

// loopback reports whether a host is this machine, as far as its name or address tells.
func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback() || strings.EqualFold(host, "localhost")
}

// hmac and others are the algorithms that may be configured, for shared secrets and for key pairs; "none" is not among
// them. hmac has the bytes that a secret must have at least, those of the hash (RFC 7518 §3.2).
var (
	hmac   = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}
	others = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)

// minSecret is how many bytes a secret must have at least.
const minSecret = 32

// leastSecret returns how many bytes a secret for all these algorithms must have at least.
func leastSecret(algorithms []string) int {
	least := minSecret
	for _, algorithm := range algorithms {
		least = max(least, hmac[algorithm])
	}
	return least
}

// algorithms checks the algorithms at a path, or returns the default, for an issuer with shared secrets or public keys.
func (l *loader) algorithms(at string, names []string, shared, public bool) []string {
	if !l.given(at) {
		names = []string{"HS256"}
		if public {
			names = []string{"RS256"}
		}
		l.effective[at] = names
		return names
	}
	known := slices.Concat(slices.Sorted(maps.Keys(hmac)), others)
	for i, name := range names {
		here := join(at, strconv.Itoa(i))
		switch {
		case strings.EqualFold(name, "none"):
			l.fault(here, "none would accept tokens that anybody can write: it is never allowed")
		case !slices.Contains(known, name):
			oneOf(l, here, name, known...)
		case hmac[name] > 0 && !shared && public:
			l.fault(here, "%s is for a shared secret, but the issuer has public keys", name)
		case hmac[name] == 0 && !public && shared:
			l.fault(here, "%s is for public keys, but the issuer has a shared secret", name)
		}
	}
	if len(names) == 0 {
		l.fault(at, "is empty, so no token would be accepted: take it out for the default")
	}
	return names
}

// compareDomains reports a domain that is used for two things.
func (l *loader) compareDomains(c *Config) {
	uses := map[string]string{} // by domain: the path that uses it
	for i, service := range c.Rooms.Services {
		if _, again := uses[service.String()]; !again {
			uses[service.String()] = join("rooms/services", strconv.Itoa(i))
		}
	}
	use := func(domain jid.JID, at, what string) {
		if domain.String() == "" {
			return
		}
		if other, taken := uses[domain.String()]; taken {
			l.fault(at, "%s is %s (%s) already: %s", domain, typed(other), l.place(other).source, what)
			return
		}
		uses[domain.String()] = at
	}
	delete(uses, "")
	use(c.Rooms.Breakout, "rooms/breakout", "breakout rooms have a service of their own")
	use(c.Rooms.Lobby, "rooms/lobby", "lobbies have a service of their own")
	use(c.XMPP.Domain, "xmpp/domain", "usher needs a domain of its own, that of the server's Component line")
	for _, domain := range l.vhosts {
		use(domain, join("vhosts", domain.String()), "a vhost is where people log in, and nothing else")
	}
}

// compareFocus reports what does not go with being the focus, or with standing before one, and with there being a lobby.
func (l *loader) compareFocus(c *Config) {
	if l.garbled { // it may say what all this depends on
		return
	}
	relay := l.given("jicofo/jid")
	if relay && c.Jicofo.JID.Domain().Equal(c.XMPP.Domain) && c.XMPP.Domain.String() != "" {
		l.fault("jicofo/jid", "is at usher's own domain: name the JID that Jicofo logs in with, such as focus@auth.meet.example.com")
	}
	if !relay {
		for _, at := range []string{"jicofo/forward_token", "jicofo/enforce_roles"} {
			if l.given(at) {
				l.fault(at, "has no effect without jicofo.jid, for usher is the focus itself: take it out, or name Jicofo")
			}
		}
		if l.given("rooms/breakout") {
			l.warn("rooms/breakout", "it is Jicofo who opens breakout rooms, and there is none (jicofo.jid): nobody is let into them")
		}
	}
	if !l.given("rooms/lobby") {
		for _, at := range []string{"lobby/autostart", "lobby/bypass"} {
			if l.given(at) {
				l.fault(at, "has no effect without rooms.lobby: take it out, or name the service of Jitsi's lobbies there")
			}
		}
	}
	module := c.Rooms.Enforcement == Module
	switch at := "rooms/guard_interval"; {
	case !l.given(at):
	case !relay:
		l.fault(at, "has no effect without jicofo.jid, for usher is inside every room and hears of changes: take it out")
	case module && !c.Jicofo.EnforceRoles:
		l.fault(at, "has no effect with enforcement: module, for there is nothing to look at: take it out")
	}
	switch {
	case module && !l.given("rooms/lobby"):
		l.warn("rooms/enforcement", "module is for where there is a lobby (rooms.lobby): without one, members-only keeps out the "+
			"same people and needs no module in Prosody")
	case !module && l.given("rooms/lobby") && !l.given("rooms/enforcement"):
		l.warn("rooms/lobby", "with rooms.enforcement members-only, clients show the lobby as switched on in every room, and Jitsi's "+
			"lobby plugin refuses whoever has no display name: better write enforcement: module (or members-only, if that is meant)")
	}
}

// findHosts warns if nobody could ever be a host.
func (l *loader) findHosts(c *Config) {
	host := func(v VHost) bool { return v.Kind == KindTrusted || len(v.Issuers) > 0 }
	if c.Rooms.WaitForHost != WaitNever && len(c.VHosts) > 0 && !slices.ContainsFunc(c.VHosts, host) {
		l.warn("vhosts", "there is none whose people can be hosts (kind token or trusted): everybody will wait for ever")
	}
}

// checkServer reports what is wrong with the address of the server.
func (l *loader) checkServer(at, server string) {
	host, port, err := net.SplitHostPort(server)
	if n, portErr := strconv.ParseUint(port, 10, 16); err != nil || portErr != nil || n == 0 || host == "" {
		l.fault(at, "%q is no host:port: write it like 127.0.0.1:5347", server)
		return
	}
	if !nearby(host) {
		l.warn(at, "%s may be beyond this machine and its private network, but the connection is not encrypted: "+
			"whoever listens can take it over", host)
	}
}

// nearby reports whether a host is on this machine or on a private network, as far as its name or address tells.
func nearby(host string) bool {
	if address, err := netip.ParseAddr(host); err == nil {
		return address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast()
	}
	// A name without dots is one of a container network; docker-jitsi-meet has the domain meet.jitsi.
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	private := []string{"localhost", "local", "internal", "home.arpa", "meet.jitsi"}
	return !strings.Contains(host, ".") ||
		slices.ContainsFunc(private, func(domain string) bool { return strings.HasSuffix(host, "."+domain) })
}

// oneOf returns value, which is what a path was set to, and reports if it is none of those known.
func oneOf[T ~string](l *loader, at string, value T, known ...T) T {
	if !slices.Contains(known, value) {
		names := make([]string, len(known))
		for i := range known {
			names[i] = string(known[i])
		}
		hint := ""
		if meant := closest(strings.ToLower(string(value)), names); meant != "" {
			hint = fmt.Sprintf(" (did you mean %s?)", meant)
		}
		last := len(names) - 1
		l.fault(at, "%q is not known: it must be %s or %s%s", string(value), strings.Join(names[:last], ", "), names[last], hint)
	}
	return value
}

// domain parses the domain that a path was set to; it returns the zero JID if it is none.
func (l *loader) domain(at, name string) jid.JID {
	domain, err := parseDomain(name)
	if err != nil {
		l.fault(at, "%s", err)
	}
	return domain
}

// checkTexts reports a list that is empty or has an empty entry.
func (l *loader) checkTexts(at string, list []string) {
	for i, text := range list {
		if text == "" {
			l.fault(join(at, strconv.Itoa(i)), "is empty: write a text, or take it out")
		}
	}
	if len(list) == 0 {
		l.fault(at, `is empty, so no token would be accepted: take it out for the default, or write ["*"] for any`)
	}
}

// contradict reports if more than one of the paths is set, which must exclude each other.
func (l *loader) contradict(paths ...string) {
	paths = slices.DeleteFunc(paths, func(path string) bool { return !l.given(path) })
	slices.SortStableFunc(paths, func(a, b string) int { return l.place(a).compare(l.place(b)) })
	for _, second := range paths[min(1, len(paths)):] {
		if !l.faulty[second] { // which it is not by this: what it says can be wrong, too
			l.problem(l.place(second), typed(second), fmt.Sprintf("contradicts %s (%s): keep one of them", typed(paths[0]), l.place(paths[0]).source))
		}
	}
}

// secret returns the secret that a path was set to.
func (l *loader) secret(at, text string, least int) Secret {
	if by := l.place(at); by.file != "" {
		by.source, _, _ = strings.Cut(by.source, ":")
		by.line = 0
		l.secretIn[by.file] = by
	}
	if fault := secretFault(text, least); fault != "" {
		l.fault(at, "%s", fault)
	}
	return NewSecret(text)
}

// secretFile returns the secret in the file that a path names.
func (l *loader) secretFile(at, name string, least int) Secret {
	content, file, ok := l.readNamed(at, name, maxSecret)
	if !ok {
		return Secret{}
	}
	text := strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if fault := encodingFault(content); fault != "" {
		l.fault(at, "%s", fault)
	} else if fault := secretFault(text, least); fault != "" {
		l.fault(at, "%s", fault)
	} else if strings.TrimSpace(text) != text {
		l.warn(at, "begins or ends with white space, which counts as part of the secret")
	}
	if worldReadable(file) {
		l.warn(at, "contains a secret, and everybody on this machine can read it: chmod 640 it")
	}
	return NewSecret(text)
}

// publicKeyFile returns the path of the PEM file, or of the folder of such files, that a path names. What the keys are, is
// not its concern.
func (l *loader) publicKeyFile(at, name string) string {
	if stat, err := os.Stat(l.resolve(name)); err == nil && stat.IsDir() {
		folder := l.resolve(name)
		l.files = append(l.files, folder)
		return folder
	}
	content, file, ok := l.readNamed(at, name, maxKeys)
	if !ok {
		return ""
	}
	switch block, _ := pem.Decode(content); {
	case bytes.Contains(content, []byte("PRIVATE KEY-----")):
		l.fault(at, "contains a private key: it stays with the issuer, usher needs the public one only")
	case block == nil:
		l.fault(at, "is no PEM file: it must contain -----BEGIN PUBLIC KEY-----")
	}
	return file
}
