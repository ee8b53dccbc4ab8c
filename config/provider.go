package config

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody"
)

// Prosody's providers of authentication that ask for no password.
const (
	// ProviderToken is Jitsi's mod_auth_token: it verifies a token at login, and puts its features into the session.
	ProviderToken = "token"
	// ProviderJitsi is Jitsi's mod_auth_jitsi-anonymous: everybody is logged in, and a lost connection can be resumed.
	ProviderJitsi = "jitsi-anonymous"
	// ProviderAnonymous is Prosody's own.
	ProviderAnonymous = "anonymous"
)

// authenticated says how the people of a virtual host log in, by Prosody's configuration.
type authenticated struct {
	path, authentication string
	at                   place
}

// matrix reports whether Prosody asks a Matrix server.
func (a authenticated) matrix() bool { return slices.Contains(gate.MatrixProviders, a.authentication) }

// password reports whether Prosody asks for a password. It does by default (core/usermanager.lua).
func (a authenticated) password() bool {
	return !a.matrix() && !slices.Contains([]string{ProviderToken, ProviderAnonymous, ProviderJitsi}, a.authentication)
}

// checks reports whether people need the right password to log in.
func (a authenticated) checks() bool {
	return !slices.ContainsFunc(gate.Providers, func(d gate.Defeat) bool { return d.Is(a.authentication) })
}

// authenticated takes note of how the people of a virtual host log in.
func (l *loader) authenticated(a authenticated) {
	l.authentications = append(l.authentications, a)
	l.badVHost = l.badVHost || a.matrix() // if usher.yaml has it, there is a vhost in any case
}

// authentication returns the provider of a virtual host, and where it is set. By default it is that of 13, for which 0.12 has
// another name (core/usermanager.lua).
func authentication(host *prosody.Section) (provider string, at prosody.Position, err error) {
	provider, at, ok, err := host.String("authentication")
	if !ok || provider == "" {
		provider = "internal_hashed"
	}
	if at.File == "" {
		at = host.At
	}
	return provider, at, err
}

// hasJitsi reports whether Jitsi's plugins are installed: something uses them, or they lie in a folder of plugin_paths.
func hasJitsi(p *prosody.Configuration) bool {
	for _, s := range p.Hosts {
		provider, _, _ := authentication(s)
		a := authenticated{authentication: provider}
		if s.Module == "client_proxy" || !s.Component && (a.matrix() || provider == ProviderToken || provider == ProviderJitsi) {
			return true
		}
	}
	folders, _, _, _ := p.Global.Strings("plugin_paths")
	return slices.ContainsFunc(folders, func(folder string) bool {
		_, err := os.Stat(filepath.Join(folder, "mod_auth_"+ProviderJitsi+".lua"))
		return filepath.IsAbs(folder) && err == nil
	})
}

// login says how the people of a virtual host of the kinds token and guest are to log in.
type login struct {
	provider string
	// stays reports whether Prosody's files have that provider already. If not, why says why it must change.
	stays bool
	why   string
	// options are what Jitsi's plugin token needs so that it refuses nobody that usher lets in.
	options []option
	// costs say what the provider costs, each in a sentence.
	costs []string
}

// option is an option for Prosody. The value is in Prosody's language.
type option struct {
	name, value string
	why         string
	secret      bool
}

// login decides how people log in on a virtual host, of which s is what the files say, or nil. The provider stays where it can, because
// Jitsi's providers can resume a connection (XEP-0198). Only one changes that could stay: token verifies each token in Prosody's one
// thread, and usher does so anyway. What it puts into the session for Jitsi's other plugins, usher's module puts there as well, room by
// room. So with the module jitsi-anonymous takes its place, unless somebody has chosen token or another plugin needs it. jitsi reports
// whether Jitsi's plugins are installed; chosen is the operator's choice, or "".
func (c *Config) login(v VHost, s *prosody.Section, jitsi bool, chosen string) login {
	now := ""
	if s != nil && !s.Component {
		now, _, _ = authentication(s)
	}
	a := authenticated{authentication: now}
	l := login{provider: ProviderAnonymous}
	if jitsi {
		l.provider = ProviderJitsi
	}
	keep := chosen == ProviderToken // where it is; it comes to no other virtual host
	switch {
	case chosen != "" && !keep:
		l.provider, l.stays, l.why = chosen, now == chosen, "as --authentication says"
	case now == ProviderToken && c.Portal.Sign == SignKey && v.Domain.Equal(c.Portal.VHost):
		// luajwtjitsi.lib.lua, alg_verify: HS and RS only.
		l.why = "Jitsi's plugin verifies no Ed25519 signature, and the portal makes such ones (portal.sign)"
	case now == ProviderToken:
		l.options, l.why = verifiable(v, s)
		switch {
		case l.why != "":
		case !keep && c.Rooms.Enforcement == Module && needsToken(s) == "":
			l.why = "usher alone verifies tokens, and its module sets what they say"
		default:
			l.provider, l.stays = now, true
		}
	case now == ProviderJitsi, now == ProviderAnonymous:
		l.provider, l.stays = now, true
	case now == "":
	case a.matrix():
		l.why = "usher decides who enters, and not a Matrix server"
	default:
		l.why = "usher decides who enters, and not a password"
	}
	if l.provider != ProviderToken {
		l.options = nil
	}
	l.costs = c.cost(l, v, s, jitsi || c.Jicofo.JID.String() != "")
	return l
}

// needsToken returns the module of a virtual host that reads the token of the connection itself, so that Jitsi's provider token stays
// beside it; "" if there is none.
func needsToken(s *prosody.Section) string {
	for _, loaded := range s.Modules() {
		if m, known := moduleNamed(loaded.Name); known && m.Token && !m.gone() {
			return m.Name
		}
	}
	return ""
}

// cost returns what the provider costs.
func (c *Config) cost(l login, v VHost, s *prosody.Section, jitsi bool) (costs []string) {
	tokens, module := c.TakesTokens(v), c.Rooms.Enforcement == Module
	const features = "features in tokens have no effect: every owner has all of them. With rooms.enforcement: module they have"
	switch {
	case l.provider == ProviderToken:
		costs = c.costOfToken(v, s, module)
	case l.provider == ProviderJitsi && tokens:
		if !module {
			costs = append(costs, features)
		}
		costs = append(costs, "each token is verified once, by usher, and not twice")
		if v.Kind == KindToken && !v.AllowEmptyToken {
			costs = append(costs, "people without a token can connect. usher lets them into no room, but they get what Prosody gives everybody who "+
				"is connected, such as the address of a TURN server")
		}
	case l.provider == ProviderAnonymous && jitsi:
		costs = append(costs, "a lost connection cannot be resumed (XEP-0198), so a short interruption throws people out: "+ProviderJitsi+" can")
		if tokens && !module {
			costs = append(costs, features)
		}
	}
	return costs
}

// costOfToken returns what Jitsi's plugin token costs. The times are those of one verification on the machine of the benchmarks
// (luajwtjitsi.lib.lua, with luaossl).
func (c *Config) costOfToken(v VHost, s *prosody.Section, module bool) (costs []string) {
	if !module {
		costs = append(costs, "features come from the token of the connection, and nobody compares its room: a token for room X gives its "+
			"features in room Y as well, to somebody who is let in there by other means")
	}
	i := v.Issuers[0]
	takes := "5 ms"
	if strings.HasPrefix(i.Algorithms[0], "HS") {
		takes = "1.3 ms"
	}
	verified := fmt.Sprintf("each token is verified twice, here and by usher: here it takes about %s of Prosody's one thread a join (%s)", takes, i.Algorithms[0])
	switch name := needsToken(s); {
	case name != "" && module:
		verified += fmt.Sprintf(". The module %s needs that. Without it, authentication = %q is faster", name, ProviderJitsi)
	case module:
		verified += fmt.Sprintf(". authentication = %q is faster, and usher's module sets the features: usher config prosody without --authentication", ProviderJitsi)
	default:
		verified += "; tokens without features are served faster by usher config prosody --authentication " + ProviderJitsi +
			", and all of them with rooms.enforcement: module"
	}
	costs = append(costs, verified)
	if !i.DomainVerification || i.Claims.Tenant.Path != "" {
		costs = append(costs, "Jitsi's plugin refuses a token without sub at login, and usher would accept it")
	}
	return costs
}

// verifiable returns the options that Jitsi's plugin token needs so that it refuses nobody at login that usher would let in, as far
// as s does not have them; or why there are none (token/util.lib.lua, luajwtjitsi.lib.lua).
func verifiable(v VHost, s *prosody.Section) (options []option, cannot string) {
	if len(v.Issuers) != 1 {
		return nil, fmt.Sprintf("Jitsi's plugin knows one issuer, and usher %d here", len(v.Issuers))
	}
	n := needs{s: s}
	i := v.Issuers[0]
	if cannot := n.cannotVerify(i); cannot != "" {
		return nil, cannot
	}
	appID := n.text("app_id")
	if appID == "" {
		appID = i.AppID
		n.need("app_id", gate.Quote(appID), "without it the plugin lets nobody log in")
	}
	n.keys(i)
	algorithm := "RS256" // the plugin's default
	if len(i.AppSecrets) > 0 {
		algorithm = "HS256"
	}
	if cmp.Or(n.text("signature_algorithm"), algorithm) != i.Algorithms[0] {
		n.need("signature_algorithm", gate.Quote(i.Algorithms[0]), asUsher)
	}
	n.list("asap_accepted_issuers", appID, i.AcceptedIssuers)
	n.list("asap_accepted_audiences", "*", i.AcceptedAudiences)
	if !i.RequireRoom || i.Claims.Room.Path != "" {
		n.flag("asap_require_room_claim", true, false, "usher says which tokens need it")
	}
	if !i.DomainVerification || i.Claims.Tenant.Path != "" {
		n.flag("enable_domain_verification", true, false, "usher looks at sub itself")
	}
	if v.AllowEmptyToken || v.Kind == KindGuest {
		n.flag("allow_empty_token", false, true, "usher decides about people without a token")
	}
	return n.options, ""
}

// needs collects what the options of a section lack.
type needs struct {
	s       *prosody.Section
	options []option
}

// asUsher is the comment beside an option with a value of usher's own.
const asUsher = "as usher has it"

func (n *needs) text(name string) string { value, _, _, _ := n.s.String(name); return value }

func (n *needs) need(name, value, why string) {
	n.options = append(n.options, option{name: name, value: value, why: why})
}

// cannotVerify says why Jitsi's plugin cannot verify the tokens of an issuer; "" if it can.
func (n *needs) cannotVerify(i Issuer) string {
	if len(i.Algorithms) != 1 || !slices.Contains([]string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512"}, i.Algorithms[0]) {
		return "Jitsi's plugin knows one algorithm, HS or RS, and usher accepts " + strings.Join(i.Algorithms, ", ") + " here"
	}
	server, cache := n.text("asap_key_server"), n.text("cache_keys_url")
	switch {
	case len(i.AppSecrets) > 1:
		return fmt.Sprintf("Jitsi's plugin knows one secret, and usher %d here", len(i.AppSecrets))
	case len(i.AppSecrets) == 1 && (server != "" || cache != ""):
		return "Jitsi's plugin asks a key server, and usher has a secret here"
	case len(i.AppSecrets) == 1:
	case len(i.PublicKeyFiles) > 0, i.JWKSFile != "":
		return "Jitsi's plugin asks a key server, and usher has keys in files here"
	case i.JWKSURL != "" && i.JWKSURL != cmp.Or(i.CacheKeysURL, cache): // the plugin reads JWK Sets as well, but from one address
		return "Jitsi's plugin has keys of asap_key_server and cache_keys_url only, and usher of jwks_url here"
	}
	return ""
}

// keys adds the options for the keys of an issuer.
func (n *needs) keys(i Issuer) {
	if len(i.AppSecrets) == 1 {
		if secret := i.AppSecrets[0].Reveal(); n.text("app_secret") != secret {
			n.options = append(n.options, option{"app_secret", gate.Quote(secret), asUsher, true})
		}
		return
	}
	for _, o := range [][2]string{{"asap_key_server", i.ASAPKeyServer}, {"cache_keys_url", i.CacheKeysURL}} {
		if name, address := o[0], o[1]; address != "" && n.text(name) != address {
			n.need(name, gate.Quote(address), asUsher)
		}
	}
}

// list adds an option that is a list if it does not accept all that is wanted; byDefault is what it accepts by default.
func (n *needs) list(name, byDefault string, wanted []string) {
	accepted, _, ok, err := n.s.Strings(name)
	if !ok {
		accepted = []string{byDefault}
	}
	missed := func(name string) bool { return !slices.Contains(accepted, name) }
	if err != nil || missed("*") && slices.ContainsFunc(wanted, missed) {
		n.need(name, gate.List(wanted...), asUsher)
	}
}

// flag adds an option that is true or false if it is not what is wanted.
func (n *needs) flag(name string, byDefault, wanted bool, why string) {
	value, _, ok, err := n.s.Bool(name)
	if !ok {
		value = byDefault
	}
	if err != nil || value != wanted {
		n.need(name, strconv.FormatBool(wanted), why)
	}
}
