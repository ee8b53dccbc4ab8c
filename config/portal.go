package config

import (
	"crypto/tls"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"mellium.im/xmpp/jid"
)

// Portal says where hosts log in, who they are, and how their tokens are made.
type Portal struct {
	// Listen is a host and port, or "unix:" and the path of a socket; empty, the default, for none. Then nothing else here counts,
	// except UsersFile.
	Listen string
	// PublicURL is the origin at which people reach the portal, such as https://login.example.com. MeetURLs are the origins of the web
	// pages to which it leads, at least one. The first is the default.
	PublicURL string
	MeetURLs  []string
	// CertFile and KeyFile are the paths of PEM files with a certificate and its key; empty where the portal speaks no TLS itself.
	CertFile, KeyFile string
	// Proxies are the networks of the proxies that say in X-Forwarded-For from which address a request came. Default none.
	Proxies []netip.Prefix
	// VHost is the virtual host, of [KindToken], that the tokens are for.
	VHost jid.JID
	// Sign says with what the tokens are signed. With [SignSecret], Issuer is the AppID of the issuer of VHost, and its first secret and
	// first algorithm count; otherwise empty.
	Sign   PortalSign
	Issuer string
	// SigningFile is the path of the file with the keys, for [SignKey]; empty for the default: see [Config.PortalKeyFile].
	SigningFile string
	// TokenTTL is how long a token lasts, 1 min to 24 h, default 1 h. Session is how long somebody stays logged in, 1 min to 720 h,
	// default 12 h. UntilHostLeft ends the session earlier: when the host leaves the room.
	TokenTTL, Session time.Duration
	UntilHostLeft     bool
	// Users are the accounts: those of portal.users, then those of the file UsersFile, which need not exist. No two have the same name.
	Users     []User
	UsersFile string
	// UsersURL is the address of a service that knows more accounts, without a slash at its end, and UsersSecret what it knows usher by.
	// Empty for none.
	UsersURL    string
	UsersSecret Secret
	// Providers are where people can log in by OpenID Connect. No two have the same name.
	Providers []Provider
	// MiroTalkAPI adds the calls of MiroTalk's REST API to the API.
	MiroTalkAPI bool
}

// PortalSign says with what the portal signs tokens.
type PortalSign string

// What the portal signs with.
const (
	SignSecret PortalSign = "app_secret" // the secret of an issuer of the virtual host
	SignKey    PortalSign = "key"        // an Ed25519 key of its own
)

// Provider is an OpenID provider, and what its people may do here.
type Provider struct {
	// Name is letters, digits, dots, dashes and underscores; it is part of the redirect URI. Title is what people read. Default Name.
	Name, Title string
	// Issuer is the address below which /.well-known/openid-configuration is, exactly as the provider writes it.
	Issuer, ClientID string
	// ClientSecret is empty for a public client.
	ClientSecret Secret
	// Scopes are what usher asks for; openid is among them. Default openid, profile, email.
	Scopes []string
	// IDClaim, NameClaim and DisplayClaim are the claims with what makes a person unmistakable, with their name, and with the name that
	// others read. Default sub, preferred_username and name.
	IDClaim, NameClaim, DisplayClaim string
	// Leeway is how far the provider's clock may be from ours: 0 to 60 s. Default 10 s.
	Leeway time.Duration
	// Rules say who may do what. All that fit count. At least one.
	Rules []ProviderRule
}

// ProviderRule says what people of a provider may do who have a value in a claim.
type ProviderRule struct {
	// Claim is the path of the claim, as of [Claim]. Value is one of its values, or "*" for anybody, with the claim or without.
	Claim, Value string
	Affiliation  Affiliation // [Owner], the default, [Admin] or [Member]
	// Rooms are patterns of rooms, as of auth.MatchRoom; at least one. Tenant is the tenant of those that name none; empty for none.
	Rooms  []string
	Tenant string
	// Features are the features that the token grants; empty where the rule says nothing of them.
	Features []string
}

type rawPortal struct {
	Listen          string              `mapstructure:"listen"`
	PublicURL       string              `mapstructure:"public_url"`
	MeetURLs        []string            `mapstructure:"meet_urls"`
	TLSCertFile     string              `mapstructure:"tls_cert_file"`
	TLSKeyFile      string              `mapstructure:"tls_key_file"`
	TrustedProxies  []string            `mapstructure:"trusted_proxies"`
	VHost           string              `mapstructure:"vhost"`
	Sign            string              `mapstructure:"sign"`
	KeyFile         string              `mapstructure:"key_file"`
	TokenTTL        time.Duration       `mapstructure:"token_ttl"`
	Session         string              `mapstructure:"session"`
	Users           map[int]rawUser     `mapstructure:"users"`
	UsersFile       string              `mapstructure:"users_file"`
	UsersURL        string              `mapstructure:"users_url"`
	UsersSecret     string              `mapstructure:"users_secret"`
	UsersSecretFile string              `mapstructure:"users_secret_file"`
	Providers       map[int]rawProvider `mapstructure:"providers"`
	MiroTalkAPI     bool                `mapstructure:"mirotalk_api"`
}

type rawProvider struct {
	Name             string                  `mapstructure:"name"`
	Title            string                  `mapstructure:"title"`
	Issuer           string                  `mapstructure:"issuer"`
	ClientID         string                  `mapstructure:"client_id"`
	ClientSecret     string                  `mapstructure:"client_secret"`
	ClientSecretFile string                  `mapstructure:"client_secret_file"`
	Scopes           []string                `mapstructure:"scopes"`
	IDClaim          string                  `mapstructure:"id_claim"`
	NameClaim        string                  `mapstructure:"name_claim"`
	DisplayClaim     string                  `mapstructure:"display_claim"`
	Leeway           time.Duration           `mapstructure:"leeway"`
	Rules            map[int]rawProviderRule `mapstructure:"rules"`
}

type rawProviderRule struct {
	Claim       string   `mapstructure:"claim"`
	Value       string   `mapstructure:"value"`
	Affiliation string   `mapstructure:"affiliation"`
	Rooms       []string `mapstructure:"rooms"`
	Tenant      string   `mapstructure:"tenant"`
	Features    []string `mapstructure:"features"`
}

// portalListen is the path of the key that switches the portal on.
const portalListen = "portal/listen"

// buildPortal makes the Portal of a configuration that has its virtual hosts, its API and its addresses already.
func (l *loader) buildPortal(r rawPortal, c *Config) Portal {
	p := Portal{UsersFile: l.resolve(r.UsersFile)}
	if r.Listen == off {
		var given []string
		for _, name := range table.keys["portal"].order {
			if name != "listen" {
				given = append(given, join("portal", name))
			}
		}
		l.idleOff(portalListen, given...)
		return p
	}
	p.TokenTTL, p.MiroTalkAPI = r.TokenTTL, r.MiroTalkAPI
	l.buildPortalAddresses(r, &p)
	l.buildPortalTLS(r, &p)
	l.checkPortalListen(c, p)
	p.VHost = l.portalVHost(r.VHost, c)
	l.buildPortalSign(r, c, &p)
	if p.TokenTTL < time.Minute || p.TokenTTL > 24*time.Hour {
		l.fault("portal/token_ttl", "is %s, but must be between 1m and 24h: who is logged in gets a new one without a click", PlainDuration(p.TokenTTL))
	}
	p.Session, p.UntilHostLeft = l.buildSession(r.Session)
	p.Users = l.buildUsers("portal/users", r.Users, nil)
	l.readUsers(r.UsersFile, &p)
	l.buildUserService(r, &p)
	p.Providers = l.buildProviders(r.Providers)
	l.findPeople(p)
	if p.MiroTalkAPI && c.API.Listen == "" && !l.garbled {
		l.fault("portal/mirotalk_api", "has no effect without api.listen: its calls are calls of the API")
	}
	return p
}

// buildPortalAddresses makes what says where the portal listens, how people reach it, and where it leads.
func (l *loader) buildPortalAddresses(r rawPortal, p *Portal) {
	p.Listen = l.buildListen(portalListen, r.Listen, true, r.TLSCertFile != "" || proxiedElsewhere(r.TrustedProxies))
	if !l.given("portal/public_url") {
		l.missing("portal/public_url", "the address at which people reach the portal, such as https://login.example.com")
	} else if p.PublicURL = l.origin("portal/public_url", r.PublicURL, "https://login.example.com"); strings.HasPrefix(p.PublicURL, "http://") && !localURL(p.PublicURL) {
		l.fault("portal/public_url", "http:// is not encrypted, and passwords would go over it: write https://")
	}
	for i, address := range r.MeetURLs {
		at := join("portal/meet_urls", strconv.Itoa(i))
		meet := l.origin(at, address, "https://meet.example.com")
		if slices.Contains(p.MeetURLs, meet) && meet != "" {
			l.fault(at, "names %s again: once is enough", meet)
		}
		if strings.HasPrefix(meet, "http://") && !localURL(meet) {
			l.warn(at, "http:// is not encrypted: somebody who listens on the way can enter with the tokens of others. Write https://")
		}
		p.MeetURLs = append(p.MeetURLs, meet)
	}
	if len(r.MeetURLs) == 0 {
		l.missing("portal/meet_urls", "the address of the web page to which the portal leads, such as [https://meet.example.com]")
	}
	p.Proxies = l.buildProxies(r, p.PublicURL)
}

// buildProxies makes the networks of the proxies in front of the portal, which people reach at an address.
func (l *loader) buildProxies(r rawPortal, public string) (all []netip.Prefix) {
	const at = "portal/trusted_proxies"
	for i, text := range r.TrustedProxies {
		network, err := netip.ParsePrefix(text)
		if address, alone := netip.ParseAddr(text); alone == nil {
			network, err = netip.PrefixFrom(address.Unmap(), address.Unmap().BitLen()), nil
		}
		if err != nil || network.Addr().Is4In6() {
			l.fault(join(at, strconv.Itoa(i)), "%q is no address and no network: write it like 127.0.0.1 or 10.0.0.0/8", text)
		}
		if err == nil && network.Bits() == 0 {
			l.warn(join(at, strconv.Itoa(i)), "%s is everybody, so each client says in X-Forwarded-For what address it has, and no network is slowed down for wrong passwords: "+
				"name the proxies alone, such as 127.0.0.1", text)
		}
		all = append(all, network.Masked())
	}
	if len(all) == 0 && r.TLSCertFile == "" && strings.HasPrefix(public, "https://") && !l.garbled {
		l.warn(portalListen, "has no TLS, and people reach it by https://, so a proxy is in front, and all requests seem to come from it: somebody who "+
			"tries passwords would slow down all others. Name it in portal.trusted_proxies, such as [127.0.0.1, \"::1\"]")
	}
	return all
}

// proxiedElsewhere reports whether a proxy is on another machine, or in another container, so that the portal cannot listen on 127.0.0.1.
func proxiedElsewhere(proxies []string) bool {
	return slices.ContainsFunc(proxies, func(network string) bool {
		host, _, _ := strings.Cut(network, "/")
		return !loopback(host)
	})
}

// origin returns the origin (RFC 6454) that a path was set to, without a slash at its end; "" if it is none.
//
// Its host is as browsers send it: in ASCII, so that no other spelling of it fails to be the same, and no quote in it ends a text of config.js.
func (l *loader) origin(at, address, like string) string {
	u, err := url.Parse(address)
	if err == nil && strings.Trim(strings.ToLower(u.Host), "abcdefghijklmnopqrstuvwxyz0123456789.-:[]_") != "" {
		l.fault(at, "has a host with other characters than letters, digits, dots and dashes: write an international name as browsers send it (xn--…)")
		return ""
	}
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		l.fault(at, "is no address of a web server: write it like %s", like)
		return ""
	}
	if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		l.fault(at, "has something behind the host: write %s://%s alone", u.Scheme, u.Host)
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}

// localURL reports whether an address is on this machine.
func localURL(address string) bool {
	u, err := url.Parse(address)
	return err == nil && loopback(u.Hostname())
}

// buildPortalTLS makes the certificate of the portal.
func (l *loader) buildPortalTLS(r rawPortal, p *Portal) {
	const certAt, keyAt = "portal/tls_cert_file", "portal/tls_key_file"
	if l.given(certAt) != l.given(keyAt) {
		one, other := certAt, keyAt
		if l.given(keyAt) {
			one, other = keyAt, certAt
		}
		l.fault(one, "has no effect without %s: TLS needs both", typed(other))
	}
	if !l.given(certAt) || !l.given(keyAt) {
		return
	}
	cert, certFile, certOK := l.readNamed(certAt, r.TLSCertFile, maxKeys)
	key, keyFile, keyOK := l.readNamed(keyAt, l.credential(r.TLSKeyFile), maxKeys)
	p.CertFile, p.KeyFile = certFile, keyFile
	if !certOK || !keyOK {
		return
	}
	if pair, err := tls.X509KeyPair(cert, key); err != nil {
		// The words of crypto/tls contain nothing of the key.
		l.fault(certAt, "does not make a certificate with %s: %s", typed(keyAt), strings.TrimPrefix(err.Error(), "tls: "))
	} else if end := pair.Leaf.NotAfter; time.Now().After(end) {
		l.warn(certAt, "has ended on %s, so browsers refuse the portal: renew it", end.UTC().Format(time.DateOnly))
	}
	if worldReadable(keyFile) {
		l.warn(keyAt, readableSecret)
	}
}

// checkPortalListen records that something else listens where the portal does.
func (l *loader) checkPortalListen(c *Config, p Portal) {
	for name, taken := range map[string]string{"ops.listen": c.Ops.Listen, "api.listen": c.API.Listen} {
		if p.Listen != "" && p.Listen == taken {
			l.fault(portalListen, "is %s, too: the portal needs an address of its own", name)
		}
	}
	if c.AdminSocket != "" && p.Listen == "unix:"+c.AdminSocket {
		l.fault(portalListen, "is admin.socket, too: it needs a socket of its own")
	}
}

// portalVHost returns the virtual host for which the portal makes tokens.
func (l *loader) portalVHost(name string, c *Config) jid.JID {
	const at = "portal/vhost"
	if !l.given(at) {
		for _, v := range c.VHosts {
			if v.Kind == KindToken {
				l.effective[at] = v.Domain.String()
				return v.Domain
			}
		}
		if !l.garbled && !l.badVHost {
			l.fault(portalListen, "has no use, because no virtual host has kind: token: the portal makes tokens, and nobody would take them%s", tokenRemedy(c))
		}
		return jid.JID{}
	}
	domain := l.domain(at, name)
	i := slices.IndexFunc(c.VHosts, func(v VHost) bool { return v.Domain.Equal(domain) })
	switch {
	case domain.String() == "", l.garbled:
	case i < 0:
		l.fault(at, "%s is none of vhosts: name one with kind: token", domain)
	case c.VHosts[i].Kind != KindToken:
		l.fault(at, "%s has kind: %s, and nobody needs a token there: name a virtual host with kind: token", domain, c.VHosts[i].Kind)
	}
	return domain
}

// findPortalVHost warns if docker-jitsi-meet's variables make no virtual host of the name for which the portal makes tokens, so that nobody
// connects to it. Where Prosody's files are known, Doubts compares with these.
func (l *loader) findPortalVHost(c *Config) {
	name := c.Portal.VHost.String()
	if name == "" || l.garbled || !l.docker || l.prosody != nil || l.given("prosody/files") || slices.Contains(l.dockerVHosts, name) {
		return
	}
	at := "portal/vhost"
	if !l.given(at) {
		at = join("vhosts", name)
	}
	l.warn(at, "the portal makes tokens for %s, and docker-jitsi-meet has no such virtual host, so nobody connects to it: write %s (XMPP_DOMAIN) "+
		"in its place", name, l.dockerVHosts[0])
}

// tokenRemedy says how a server on which nobody has logged in so far gets a virtual host for tokens: the one of its guests becomes it, and
// nothing changes in Prosody.
func tokenRemedy(c *Config) string {
	guests := slices.IndexFunc(c.VHosts, func(v VHost) bool { return v.Kind == KindGuest })
	if guests < 0 || slices.ContainsFunc(c.VHosts, func(v VHost) bool { return v.Kind == KindTrusted }) {
		return ""
	}
	return fmt.Sprintf(". If it has had no tokens so far: openssl rand -hex 32 > app.secret, and in usher.yaml, in place of kind: guest, "+
		"vhosts: {%s: {kind: token, allow_empty_token: true, app_id: usher, app_secret_file: app.secret}}", c.VHosts[guests].Domain)
}

// buildPortalSign finds out with what the portal signs.
func (l *loader) buildPortalSign(r rawPortal, c *Config, p *Portal) {
	const at, file = "portal/sign", "portal/key_file"
	for _, v := range c.VHosts {
		if v.Domain.Equal(p.VHost) {
			p.Issuer = v.portalIssuer()
		}
	}
	switch {
	case l.given(at):
		p.Sign = oneOf(l, at, PortalSign(r.Sign), SignSecret, SignKey)
	case p.Issuer != "":
		p.Sign = SignSecret
	default:
		p.Sign = SignKey
	}
	l.effective[at] = string(p.Sign)
	if p.Sign == SignSecret && p.Issuer == "" && p.VHost.String() != "" && !l.garbled {
		l.fault(at, "app_secret needs an issuer of %s with a shared secret, and without claims, tenant and one_time: write sign: key", p.VHost)
	}
	if p.Sign != SignSecret {
		p.Issuer = ""
	}
	if !l.given(file) {
		return
	}
	if p.Sign == SignSecret {
		l.fault(file, "has no effect with sign: app_secret: take it out, or write sign: key")
	}
	if r.KeyFile == "" {
		l.fault(file, "is empty: name a file in a folder that exists, or take it out")
		return
	}
	p.SigningFile = l.resolve(r.KeyFile)
	l.checkFile(file, p.SigningFile, "the keys that sign tokens")
}

// portalOn reports whether the layers switch the portal on.
func (l *loader) portalOn() bool {
	listen := l.viper.GetString(portalListen)
	return listen != "" && listen != off
}

// portalIssues reports whether the portal makes tokens for a virtual host by a key of its own, so that the virtual host needs no other issuer.
// All layers are known already.
func (l *loader) portalIssues(domain jid.JID) bool {
	return l.portalOn() && l.viper.GetString("portal/sign") != string(SignSecret) && domain.String() != "" && l.portalHostName(nil) == domain.String()
}

// TakesTokens reports whether tokens count on a virtual host: those of its issuers, or those that the portal signs with a key.
func (c *Config) TakesTokens(v VHost) bool {
	return len(v.Issuers) > 0 || c.Portal.Sign == SignKey && v.Domain.Equal(c.Portal.VHost)
}

// portalIssuer returns the AppID of the first issuer that has a secret for the portal to sign with; "" if there is none. Tokens of the portal have
// their claims where Jitsi has them, are for any tenant, and come again with each reload of the page.
func (v VHost) portalIssuer() string {
	for _, i := range v.Issuers {
		if len(i.AppSecrets) > 0 && i.Claims.standard() && i.Tenant == "" && !i.OneTime {
			return i.AppID
		}
	}
	return ""
}

// standard reports whether all claims are where Jitsi has them, and mean what they say.
func (m ClaimMap) standard() bool {
	for _, c := range []Claim{m.Affiliation, m.ID, m.Name, m.Group, m.Room, m.Tenant} {
		if c.Path != "" || len(c.Values) > 0 {
			return false
		}
	}
	return true
}

// untilHostLeft is the portal.session that ends when the host leaves.
const untilHostLeft = "until-host-left"

// defaultSession is how long somebody stays logged in if nothing ends it earlier.
const defaultSession = 12 * time.Hour

// buildSession reads how long somebody stays logged in.
func (l *loader) buildSession(text string) (life time.Duration, untilLeft bool) {
	const at = "portal/session"
	if text == untilHostLeft {
		return defaultSession, true
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Minute || d > month {
		l.fault(at, "%q must be a duration between 1m and 720h, such as 12h, or %s", text, untilHostLeft)
	}
	return d, false
}

// buildUserService makes what says which service knows more accounts.
func (l *loader) buildUserService(r rawPortal, p *Portal) {
	const at, given, file = "portal/users_url", "portal/users_secret", "portal/users_secret_file"
	l.contradict(given, file)
	if !l.given(at) {
		if !l.garbled {
			l.idle("has no effect without portal.users_url: take it out, or name the service there", given, file)
		}
		return
	}
	u, err := url.Parse(r.UsersURL)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		l.fault(at, "is no address of a service: write it like https://portal.example.com/api/v1")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		l.fault(at, "http:// is not encrypted, and passwords would go over it: write https://")
	default:
		p.UsersURL = strings.TrimRight(r.UsersURL, "/")
	}
	switch {
	case l.given(given):
		p.UsersSecret = l.secret(given, r.UsersSecret, 0)
	case l.given(file):
		p.UsersSecret = l.secretFile(file, r.UsersSecretFile, 0)
	default:
		l.missing(file, "a file with the secret by which the service knows usher (or users_secret: itself)")
	}
}

// buildProviders makes the OpenID providers.
func (l *loader) buildProviders(r map[int]rawProvider) (all []Provider) {
	const at = "portal/providers"
	for i := range l.count(at) {
		here := join(at, strconv.Itoa(i))
		p := l.buildProvider(here, r[i])
		for n, other := range all {
			if p.Name != "" && p.Name == other.Name {
				l.fault(here+"/name", "is that of portal.providers[%d], too (%s): give each a name of its own", n, l.place(join(at, strconv.Itoa(n))+"/name").source)
			}
		}
		all = append(all, p)
	}
	return all
}

// buildProvider makes the provider that stands at a path.
func (l *loader) buildProvider(at string, r rawProvider) Provider {
	p := Provider{Name: r.Name, Title: r.Title, ClientID: r.ClientID, Scopes: r.Scopes, IDClaim: r.IDClaim, NameClaim: r.NameClaim,
		DisplayClaim: r.DisplayClaim, Leeway: r.Leeway}
	l.checkName(at+"/name", r.Name, "the name of this provider, such as keycloak: it is part of the address to which the provider leads back")
	if p.Name == "account" || p.Name == "service" {
		l.fault(at+"/name", "%s is what the portal calls people of portal.users or portal.users_url: choose another name", p.Name)
	}
	if p.Name != "" && strings.Trim(p.Name, ".") == "" {
		l.fault(at+"/name", "%q would be taken out of the address to which the provider leads back: write letters or digits", p.Name)
	}
	if title := at + "/title"; !l.given(title) {
		p.Title = p.Name
		l.effective[title] = p.Name
	} else if p.Title == "" {
		l.fault(title, "is empty: write what people read, or take it out")
	}
	p.Issuer = l.providerIssuer(at+"/issuer", r.Issuer)
	if id := at + "/client_id"; !l.given(id) || p.ClientID == "" {
		l.missing(id, "usher's name at the provider")
	}
	given, file := at+"/client_secret", at+"/client_secret_file"
	l.contradict(given, file)
	switch {
	case l.given(given):
		p.ClientSecret = l.secret(given, r.ClientSecret, 0)
	case l.given(file):
		p.ClientSecret = l.secretFile(file, r.ClientSecretFile, 0)
	}
	if scopes := at + "/scopes"; !slices.Contains(p.Scopes, "openid") {
		l.fault(scopes, "lacks openid, without which there is no OpenID Connect: add it")
	}
	for _, claim := range [][2]string{{"id_claim", p.IDClaim}, {"name_claim", p.NameClaim}, {"display_claim", p.DisplayClaim}} {
		if claim[1] == "" {
			l.fault(join(at, claim[0]), "is empty: write the name of a claim, or take it out")
		}
	}
	if p.Leeway < 0 || p.Leeway > time.Minute {
		l.fault(at+"/leeway", "is %s: it must be from 0s to 60s", p.Leeway)
	}
	p.Rules = l.buildProviderRules(at+"/rules", r.Rules)
	return p
}

// providerIssuer returns the address of a provider.
func (l *loader) providerIssuer(at, address string) string {
	if !l.given(at) {
		l.missing(at, "the address of the provider, such as https://login.example.com/realms/school")
		return ""
	}
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		l.fault(at, "is no address of a provider: write it like https://login.example.com/realms/school")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		l.fault(at, "http:// is not encrypted, so that somebody on the way could log in as anybody: write https://")
	case strings.HasSuffix(u.Path, "/.well-known/openid-configuration"):
		l.fault(at, "leave out /.well-known/openid-configuration: usher adds it")
	}
	return address
}

// buildProviderRules makes the rules at a path, which say what people of a provider may do.
func (l *loader) buildProviderRules(at string, r map[int]rawProviderRule) (all []ProviderRule) {
	for i := range l.count(at) {
		here := join(at, strconv.Itoa(i))
		rule := ProviderRule{Claim: r[i].Claim, Value: r[i].Value, Rooms: r[i].Rooms, Tenant: r[i].Tenant, Features: r[i].Features,
			Affiliation: oneOf(l, here+"/affiliation", Affiliation(r[i].Affiliation), Owner, Admin, Member)}
		if rule.Claim == "" {
			l.fault(here+"/claim", "is empty: write the names that lead to the claim with dots between them, or take it out")
		}
		if !l.given(here+"/value") || rule.Value == "" {
			l.missing(here+"/value", `the value of the claim, such as teachers, or "*" for everybody that the provider knows`)
		}
		l.checkRooms(here+"/rooms", rule.Rooms)
		if l.given(here + "/tenant") {
			l.checkTenant(here+"/tenant", rule.Tenant)
		}
		l.checkFeatures(here+"/features", rule.Features)
		all = append(all, rule)
	}
	if len(all) == 0 {
		l.missing(at, `who may open which rooms, such as [{value: teachers, rooms: ["*"]}]`)
	}
	return all
}

// checkTenant records what is wrong with the one tenant that a path names.
func (l *loader) checkTenant(at, tenant string) {
	switch named := canonical(tenant); {
	case tenant == "":
		l.fault(at, "is empty: name the tenant, or take it out")
	case strings.ContainsAny(tenant, "*?[]@/"):
		l.fault(at, "%q is no tenant: it is one name", tenant)
	case tenant != named:
		l.fault(at, "%q fits no room: tenants are compared in lower case and in Unicode's form NFKC; write %q", tenant, named)
	}
}

// checkRooms records what is wrong with the rooms at a path that somebody may open.
func (l *loader) checkRooms(at string, rooms []string) {
	if len(rooms) == 0 {
		l.missing(at, `the rooms that they may open, such as ["class-*"]; "*" is for all without a tenant, and "[*]*" for all`)
	}
	for i, pattern := range rooms {
		l.checkRoomPattern(join(at, strconv.Itoa(i)), pattern)
	}
}

// findPeople warns if nobody can log in.
func (l *loader) findPeople(p Portal) {
	if len(p.Users)+len(p.Providers) > 0 || p.UsersURL != "" || l.garbled {
		return
	}
	l.warn(portalListen, "nobody can log in there yet: usher user add NAME adds somebody to %s; or name providers, or users_url", p.UsersFile)
}

// PortalKeyFile returns the absolute path of the file with the keys of the portal for a process with this environment (as of
// [os.Environ]): portal.key_file, or portal-keys.json in the folder for state, as of [Config.StoreFile]. It fails if no folder is known.
func (c *Config) PortalKeyFile(environ []string) (string, error) {
	if c.Portal.SigningFile != "" {
		return filepath.Abs(c.Portal.SigningFile)
	}
	find := lookup(environ)
	getenv := func(name string) string { value, _ := find(name); return value }
	folder, err := stateFolder(getenv, os.Geteuid() == 0)
	if err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Join(folder, "portal-keys.json"))
}
