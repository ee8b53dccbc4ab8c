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

// Prosody's authentication providers that ask for no password.
const (
	// ProviderToken is Jitsi's mod_auth_token: it verifies a token at login, and puts its features into the session.
	ProviderToken = "token"
	// ProviderJitsi is Jitsi's mod_auth_jitsi-anonymous: everybody is logged in, and a lost connection can be resumed.
	ProviderJitsi = "jitsi-anonymous"
	// ProviderAnonymous is Prosody's own.
	ProviderAnonymous = "anonymous"
)

// authenticated is how the people of a virtual host log in, as Prosody's configuration says.
type authenticated struct {
	path, authentication string
	at                   place
}

// matrix reports whether Prosody asks a Matrix server.
func (a authenticated) matrix() bool { return slices.Contains(gate.MatrixProviders, a.authentication) }

// password reports whether Prosody asks for a password. It does if nothing is said (core/usermanager.lua).
func (a authenticated) password() bool {
	return !a.matrix() && !slices.Contains([]string{ProviderToken, ProviderAnonymous, ProviderJitsi}, a.authentication)
}

// checks reports whether it takes the right password to log in.
func (a authenticated) checks() bool {
	return !slices.ContainsFunc(gate.Providers, func(d gate.Defeat) bool { return d.Is(a.authentication) })
}

// authenticated takes note of how the people of a virtual host log in.
func (l *loader) authenticated(a authenticated) {
	l.authentications = append(l.authentications, a)
	l.badVHost = l.badVHost || a.matrix() // unless usher.yaml has it, and then there is one
}

// authentication is the provider of a virtual host, and where it is set; that of 13 if nothing is said, which 0.12 calls
// otherwise (core/usermanager.lua).
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

// hasJitsi reports whether Jitsi's plugins are there: something uses them, or they lie where Prosody looks.
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

// login is how the people of a virtual host of the kinds token and guest are to log in.
type login struct {
	provider string
	// stays reports that Prosody's files have that provider already. Otherwise why says why it must be another.
	stays bool
	why   string
	// options are those by which Jitsi's plugin token would refuse somebody that usher lets in.
	options []option
	// costs say what the provider costs, a sentence each.
	costs []string
}

// option is an option that Prosody must have, in its language.
type option struct {
	name, value string
	why         string
	secret      bool
}

// login decides about a virtual host, of which s is what the files say, or nil. The provider stays where it can: Jitsi's
// providers can resume a connection (XEP-0198), and token puts the features of the token into the session. jitsi tells
// whether Jitsi's plugins are there; chosen is the operator's choice, or "".
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
	switch {
	case chosen != "":
		l.provider, l.stays, l.why = chosen, now == chosen, "as --authentication says"
	case now == ProviderToken:
		if l.options, l.why = verifiable(v, s); l.why == "" {
			l.provider, l.stays = now, true
		}
	case now == ProviderJitsi, now == ProviderAnonymous:
		l.provider, l.stays = now, true
	case now == "":
	case a.matrix():
		l.why = "usher lets people in, and not a Matrix server"
	default:
		l.why = "usher lets people in, and not a password"
	}
	if l.provider != ProviderToken {
		l.options = nil
	}
	l.costs = l.cost(v, jitsi || c.Jicofo.JID.String() != "")
	return l
}

// cost says what the provider costs.
func (l login) cost(v VHost, jitsi bool) (costs []string) {
	tokens := len(v.Issuers) > 0
	const features = "features in tokens have no effect: every owner has all of them"
	switch {
	case l.provider == ProviderToken:
		costs = append(costs, "features come from the token of the connection, and nobody compares its room: a token for room X gives its "+
			"features in room Y, too, to somebody let in there otherwise", "each token is verified twice, here and by usher; "+
			"tokens without features are served faster, at about 1.5 times the joins/s, by usher config prosody --authentication "+ProviderJitsi)
		if i := v.Issuers[0]; !i.DomainVerification || i.Claims.Tenant.Path != "" {
			costs = append(costs, "Jitsi's plugin refuses a token without sub at login, which usher would take")
		}
	case l.provider == ProviderJitsi && tokens:
		costs = append(costs, features, "each token is verified once, by usher, and not twice: about 1.5 times the joins/s")
	case l.provider == ProviderAnonymous && jitsi:
		costs = append(costs, "a lost connection cannot be resumed (XEP-0198), so a short interruption throws people out: "+ProviderJitsi+" can")
		if tokens {
			costs = append(costs, features)
		}
	}
	return costs
}

// verifiable returns the options that Jitsi's plugin token must have for it to refuse nobody at login that usher would let
// in, as far as s does not have them; or why there are none (token/util.lib.lua, luajwtjitsi.lib.lua).
func verifiable(v VHost, s *prosody.Section) (options []option, cannot string) {
	if len(v.Issuers) != 1 {
		return nil, fmt.Sprintf("Jitsi's plugin knows one issuer, and usher %d here", len(v.Issuers))
	}
	i := v.Issuers[0]
	text := func(name string) string { value, _, _, _ := s.String(name); return value }
	need := func(name, value, why string) {
		options = append(options, option{name: name, value: value, why: why})
	}
	needText := func(name, value, why string) {
		if text(name) != value {
			need(name, gate.Quote(value), why)
		}
	}

	if len(i.Algorithms) != 1 || !slices.Contains([]string{"HS256", "HS384", "HS512", "RS256", "RS384", "RS512"}, i.Algorithms[0]) {
		return nil, "Jitsi's plugin knows one algorithm, HS or RS, and usher takes " + strings.Join(i.Algorithms, ", ") + " here"
	}
	appID := text("app_id")
	if appID == "" {
		appID = i.AppID
		need("app_id", gate.Quote(appID), "without it the plugin lets nobody log in")
	}
	server, cache := text("asap_key_server"), text("cache_keys_url")
	switch {
	case len(i.AppSecrets) > 1:
		return nil, fmt.Sprintf("Jitsi's plugin knows one secret, and usher %d here", len(i.AppSecrets))
	case len(i.AppSecrets) == 1 && (server != "" || cache != ""):
		return nil, "Jitsi's plugin asks a key server, and usher has a secret here"
	case len(i.AppSecrets) == 1:
		if text("app_secret") != i.AppSecrets[0].Reveal() {
			options = append(options, option{"app_secret", gate.Quote(i.AppSecrets[0].Reveal()), "as usher has it", true})
		}
	case len(i.PublicKeyFiles) > 0, i.JWKSFile != "":
		return nil, "Jitsi's plugin asks a key server, and usher has keys in files here"
	case i.JWKSURL != "" && i.JWKSURL != cmp.Or(i.CacheKeysURL, cache): // the plugin reads JWK Sets, too, but from one address
		return nil, "Jitsi's plugin has keys of asap_key_server and cache_keys_url only, and usher of jwks_url here"
	default:
		if i.ASAPKeyServer != "" {
			needText("asap_key_server", i.ASAPKeyServer, "as usher has it")
		}
		if i.CacheKeysURL != "" {
			needText("cache_keys_url", i.CacheKeysURL, "as usher has it")
		}
	}

	algorithm := text("signature_algorithm")
	if algorithm == "" && len(i.AppSecrets) > 0 {
		algorithm = "HS256"
	} else if algorithm == "" {
		algorithm = "RS256"
	}
	if algorithm != i.Algorithms[0] {
		need("signature_algorithm", gate.Quote(i.Algorithms[0]), "as usher has it")
	}
	for _, list := range []struct {
		name      string
		otherwise string
		wanted    []string
	}{
		{"asap_accepted_issuers", appID, i.AcceptedIssuers},
		{"asap_accepted_audiences", "*", i.AcceptedAudiences},
	} {
		accepted, _, ok, err := s.Strings(list.name)
		if !ok {
			accepted = []string{list.otherwise}
		}
		missed := func(name string) bool { return !slices.Contains(accepted, name) }
		if err != nil || missed("*") && slices.ContainsFunc(list.wanted, missed) {
			need(list.name, gate.List(list.wanted...), "as usher has it")
		}
	}
	flag := func(name string, otherwise, wanted bool, why string) {
		value, _, ok, err := s.Bool(name)
		if !ok {
			value = otherwise
		}
		if err != nil || value != wanted {
			need(name, strconv.FormatBool(wanted), why)
		}
	}
	if !i.RequireRoom || i.Claims.Room.Path != "" {
		flag("asap_require_room_claim", true, false, "usher says which tokens need it")
	}
	if !i.DomainVerification || i.Claims.Tenant.Path != "" {
		flag("enable_domain_verification", true, false, "usher looks at sub itself")
	}
	if v.AllowEmptyToken || v.Kind == KindGuest {
		flag("allow_empty_token", false, true, "usher decides about those without a token")
	}
	return options, ""
}
