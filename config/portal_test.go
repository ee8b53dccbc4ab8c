package config_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config"
)

// hash is a hash of a password that nobody knows.
const hash = "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW"

// portalBase is a usher.yaml to which a portal can be added, on line 4.
const portalBase = "xmpp: {domain: focus.example.com, secret: " + secretA + "}\nrooms: {services: [conference.example.com]}\n" +
	"vhosts: {example.com: {kind: token, app_id: app, app_secret: " + secretB + "}, guest.example.com: {kind: guest}}\n"

// portalKeys are the keys that each portal needs.
const portalKeys = "listen: 127.0.0.1:8087, public_url: https://login.example.com, meet_urls: [https://meet.example.com], trusted_proxies: [127.0.0.1, '::1', 10.0.0.0/8], users: [{name: alice, password_hash: \"" +
	hash + "\", rooms: [\"*\"]}]"

// portals are portals, and what usher says about them: problems, or warnings.
var portals = []struct {
	name, portal       string // in place of %, the keys that each needs
	problems, warnings []string
}{
	{"least", `{%}`, nil, nil},
	{"all", `{%, tls_cert_file: cert.pem, tls_key_file: key.pem, vhost: example.com, sign: key, key_file: keys.json,
  token_ttl: 24h, session: until-host-left, users_file: users.yaml, users_url: "http://127.0.0.1:9000/api/v1", users_secret_file: users.secret, providers: [{name: sso,
  title: SSO, issuer: "http://[::1]:9001/realms/a", client_id: usher, client_secret_file: client.secret, scopes: [openid], id_claim: oid, name_claim: upn,
  display_claim: given_name, leeway: 0s, rules: [{claim: a.b, value: "*", affiliation: member, rooms: ["[acme]*", "[*]*"], tenant: acme, features: [recording]}]}]}`, nil,
		[]string{"usher.yaml:5: portal.users_file: users.yaml does not exist, so nobody is in it: usher user add NAME makes it"}},
	{"nothing", `{listen: 127.0.0.1:8087}`, []string{
		"usher.yaml:4: portal.public_url: is missing", "usher.yaml:4: portal.meet_urls: is missing"},
		[]string{"usher.yaml:4: portal.listen: nobody can log in there yet: usher user add NAME adds somebody to users.yaml"}},
	{"off", `{public_url: https://login.example.com, users: [{}], token_ttl: 2h}`, []string{
		"usher.yaml:4: portal.public_url: has no effect without portal.listen", "usher.yaml:4: portal.token_ttl: has no effect without portal.listen",
		"usher.yaml:4: portal.users: has no effect without portal.listen"}, nil},
	{"off for now", `{listen: off, public_url: https://login.example.com, users: [{name: alice}]}`, nil, nil},
	{"addresses", `{listen: 8087, public_url: http://login.example.com, meet_urls: [meet.example.com, https://meet.example.com/a, "https://meet.example.com/?b", "https://u:p@meet.example.com"],
  users_url: http://users.example.com, users_secret: ` + secretA + `}`, []string{
		`usher.yaml:4: portal.listen: "8087" is no place to listen: write it like 127.0.0.1:8089, unix:/run/usher/portal.sock, or off`,
		"usher.yaml:4: portal.public_url: http:// is not encrypted",
		"usher.yaml:4: portal.meet_urls[0]: is no address of a web server", "usher.yaml:4: portal.meet_urls[1]: has something behind the host: write https://meet.example.com alone",
		"usher.yaml:4: portal.meet_urls[2]: has something behind the host", "usher.yaml:4: portal.meet_urls[3]: is no address of a web server",
		"usher.yaml:5: portal.users_url: http:// is not encrypted, and passwords would go over it"},
		[]string{}},
	{"a public address with a path", `{listen: 127.0.0.1:8087, public_url: https://example.com/login, meet_urls: [https://meet.example.com, https://Meet.example.com/]}`, []string{
		"usher.yaml:4: portal.public_url: has something behind the host: write https://example.com alone",
		"usher.yaml:4: portal.meet_urls[1]: names https://meet.example.com again"}, []string{"usher.yaml:4: portal.listen: nobody"}},
	{"on this machine", `{listen: 127.0.0.1:8087, public_url: "http://localhost:8087/", meet_urls: ["http://127.0.0.1:8000"]}`, nil, []string{"usher.yaml:4: portal.listen: nobody"}},
	{"in the clear", `{listen: 0.0.0.0:8087, public_url: https://a.example.com, meet_urls: ["http://meet.example.com"], users_file: more.yaml}`, nil, []string{
		"usher.yaml:4: portal.listen: has no TLS, and people reach it by https://, so a proxy is in front",
		"usher.yaml:4: portal.listen: 0.0.0.0:8087 can be reached from other machines, and has no TLS", "usher.yaml:4: portal.meet_urls[0]: http:// is not encrypted",
		"usher.yaml:4: portal.users_file: more.yaml does not exist, so nobody is in it", "usher.yaml:4: portal.listen: nobody can log in there yet"}},
	{"a proxy elsewhere", `{listen: 0.0.0.0:8087, public_url: https://a.example.com, meet_urls: [https://meet.example.com], trusted_proxies: [127.0.0.0/8, 172.16.0.0/12]}`, nil,
		[]string{"usher.yaml:4: portal.listen: nobody can log in there yet"}},
	{"half a certificate", `{%, tls_key_file: key.pem}`, []string{"usher.yaml:4: portal.tls_key_file: has no effect without portal.tls_cert_file"}, nil},
	{"another key", `{%, tls_cert_file: cert.pem, tls_key_file: other.pem}`, []string{
		"file cert.pem (named by usher.yaml:4): portal.tls_cert_file: does not make a certificate with portal.tls_key_file"}, nil},
	{"a certificate that has ended", `{%, tls_cert_file: ended.pem, tls_key_file: ended-key.pem}`, nil, []string{
		"file ended.pem (named by usher.yaml:4): portal.tls_cert_file: has ended on 2001-02-03, so browsers refuse the portal"}},
	{"everybody is a proxy", `{listen: 127.0.0.1:8087, public_url: https://login.example.com, meet_urls: [https://meet.example.com], trusted_proxies: [10.0.0.0/8, 0.0.0.0/0]}`, nil,
		[]string{"usher.yaml:4: portal.trusted_proxies[1]: 0.0.0.0/0 is everybody", "usher.yaml:4: portal.listen: nobody can log in there yet"}},
	{"no proxy", `{listen: 127.0.0.1:8087, public_url: https://login.example.com, meet_urls: [https://meet.example.com], trusted_proxies: [proxy, 10.0.0.0/99, "::ffff:10.0.0.0/104"]}`, []string{
		`usher.yaml:4: portal.trusted_proxies[0]: "proxy" is no address and no network`, `usher.yaml:4: portal.trusted_proxies[1]: "10.0.0.0/99" is no`,
		`usher.yaml:4: portal.trusted_proxies[2]: "::ffff:10.0.0.0/104" is no`}, nil},
	{"virtual host", `{%, vhost: guest.example.com}`, []string{"usher.yaml:4: portal.vhost: guest.example.com has kind: guest"}, nil},
	{"no virtual host", `{%, vhost: other.example.com, sign: app_secret}`, []string{
		"usher.yaml:4: portal.vhost: other.example.com is none of vhosts", "usher.yaml:4: portal.sign: app_secret needs an issuer of other.example.com"}, nil},
	{"key without use", `{%, key_file: keys.json}`, []string{"usher.yaml:4: portal.key_file: has no effect with sign: app_secret"}, nil},
	{"key nowhere", `{%, sign: key, key_file: nowhere/keys.json}`, []string{"usher.yaml:4: portal.key_file: the folder nowhere does not exist"}, nil},
	{"sign", `{%, sign: secret}`, []string{`usher.yaml:4: portal.sign: "secret" is not known: it must be app_secret or key`}, nil},
	{"times", `{%, token_ttl: 25h, session: 30s}`, []string{
		"usher.yaml:4: portal.token_ttl: is 25h, but must be between 1m and 24h", `usher.yaml:4: portal.session: "30s" must be a duration between 1m and 720h`}, nil},
	{"accounts", `{listen: 127.0.0.1:8087, public_url: https://a.example.com, meet_urls: [https://meet.example.com], users: [{name: a b, password_hash: sesame, rooms: [A, ""], email: alice},
  {name: Alice, password_hash: "` + hash + `", rooms: [a], affiliation: host, groups: [""]}, {name: alice, password_hash: "` + hash + `", rooms: []}, {rooms: [a]}]}`, []string{
		`usher.yaml:4: portal.users[0].name: "a b" is no name to log in with`, "usher.yaml:4: portal.users[0].password_hash: is no argon2id hash",
		`usher.yaml:4: portal.users[0].rooms[0]: "A" matches no room`, "usher.yaml:4: portal.users[0].rooms[1]: is empty", `usher.yaml:4: portal.users[0].email: "alice" is no address`,
		`usher.yaml:5: portal.users[1].affiliation: "host" is not known: it must be owner, admin or member`, "usher.yaml:5: portal.users[1].groups[0]: is empty",
		`usher.yaml:5: portal.users[2].name: "alice" is that of another account, too (usher.yaml:5)`, "usher.yaml:5: portal.users[2].rooms: is missing",
		"usher.yaml:5: portal.users[3].name: is missing", "usher.yaml:5: portal.users[3].password_hash: is missing"}, nil},
	{"service", `{%, users_url: "https://users.example.com?a"}`, []string{
		"usher.yaml:4: portal.users_url: is no address of a service", "usher.yaml:4: portal.users_secret_file: is missing"}, nil},
	{"service with an example", `{%, users_url: "https://users.example.com", users_secret: mirotalkweb_default_secret}`, []string{
		"usher.yaml:4: portal.users_secret: is an example that everybody knows"}, nil},
	{"no service", `{%, users_secret_file: users.secret}`, []string{"usher.yaml:4: portal.users_secret_file: has no effect without portal.users_url"}, nil},
	{"two secrets", `{%, users_url: "https://users.example.com", users_secret: ` + secretA + `, users_secret_file: users.secret}`, []string{
		"usher.yaml:4: portal.users_secret_file: contradicts portal.users_secret (usher.yaml:4): keep one of them"}, nil},
	{"providers", `{%, providers: [{}, {name: a, issuer: http://sso.example.com, client_id: c, scopes: [profile], id_claim: "", leeway: 2m, rules: [{}]}, {name: a, title: "",
  issuer: https://sso.example.com/.well-known/openid-configuration, client_id: c, client_secret: changeme, rules: [{claim: "", value: "", rooms: [a/b], tenant: ACME, features: [""], affiliation: none}]},
  {name: account, issuer: sso, client_id: c, rules: [{value: a, rooms: [a], tenant: "*"}]}]}`, []string{
		"usher.yaml:4: portal.providers[0].name: is missing", "usher.yaml:4: portal.providers[0].issuer: is missing", "usher.yaml:4: portal.providers[0].client_id: is missing",
		"usher.yaml:4: portal.providers[0].rules: is missing", "usher.yaml:4: portal.providers[1].issuer: http:// is not encrypted",
		"usher.yaml:4: portal.providers[1].scopes: lacks openid", "usher.yaml:4: portal.providers[1].id_claim: is empty", "usher.yaml:4: portal.providers[1].leeway: is 2m0s",
		"usher.yaml:4: portal.providers[1].rules[0].value: is missing", "usher.yaml:4: portal.providers[1].rules[0].rooms: is missing",
		"usher.yaml:4: portal.providers[2].title: is empty", "usher.yaml:4: portal.providers[2].name: is that of portal.providers[1], too (usher.yaml:4)",
		"usher.yaml:5: portal.providers[2].issuer: leave out /.well-known/openid-configuration", "usher.yaml:5: portal.providers[2].client_secret: is an example",
		`usher.yaml:5: portal.providers[2].rules[0].affiliation: "none" is not known`, "usher.yaml:5: portal.providers[2].rules[0].claim: is empty",
		"usher.yaml:5: portal.providers[2].rules[0].value: is missing", `usher.yaml:5: portal.providers[2].rules[0].rooms[0]: "a/b" matches no room`,
		`usher.yaml:5: portal.providers[2].rules[0].tenant: "ACME" fits no room`, "usher.yaml:5: portal.providers[2].rules[0].features[0]: is empty",
		"usher.yaml:6: portal.providers[3].name: account is what the portal calls", "usher.yaml:6: portal.providers[3].issuer: is no address of a provider",
		`usher.yaml:6: portal.providers[3].rules[0].tenant: "*" is no tenant`}, nil},
	{"a provider that is a step up", `{%, providers: [{name: "..", issuer: "https://sso.example.com", client_id: c, rules: [{value: a, rooms: [a]}]}]}`, []string{
		`usher.yaml:4: portal.providers[0].name: ".." would be taken out of the address`}, nil},
	{"MiroTalk's calls", `{%, mirotalk_api: true}`, []string{"usher.yaml:4: portal.mirotalk_api: has no effect without api.listen"}, nil},
}

// TestPortal checks what usher says of a portal. It repeats no hash and no secret.
func TestPortal(t *testing.T) {
	cert, key := config.KeyPair(t)
	_, other := config.KeyPair(t)
	ended, endedKey := config.KeyPairUntil(t, time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC))
	for _, test := range portals {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "cert.pem", cert, "key.pem", key, "other.pem", other, "ended.pem", ended, "ended-key.pem", endedKey, "users.secret", secretA+"\n", "client.secret", secretB+"\n",
				"usher.yaml", portalBase+"portal: "+strings.Replace(test.portal, "%", portalKeys, 1)+"\n")
			c, err := config.Load([]string{"usher.yaml"}, nil)
			problems, warnings := texts(t, c, err)
			compareTexts(t, problems, test.problems)
			if len(test.problems) == 0 {
				compareTexts(t, warnings, test.warnings)
			}
			said := strings.Join(append(problems, warnings...), "\n")
			if c != nil {
				said += lines(c) + string(c.YAML())
			}
			for _, secret := range []string{"R9h/cIPz0gi", "sesame", secretA, secretB} {
				if strings.Contains(said, secret) {
					t.Errorf("usher says %s: %s", secret, said)
				}
			}
		})
	}
}

// TestPortalValues checks what the values of a portal become, in a file and in the environment.
func TestPortalValues(t *testing.T) {
	cert, key := config.KeyPair(t)
	inFolder(t, "cert.pem", cert, "key.pem", key, "users.secret", secretA+"\n", "client.secret", secretB+"\n",
		"users.yaml", "users:\n  - {name: carol, password_hash: \""+hash+"\", rooms: [a], affiliation: admin, groups: [g], disabled: true, display_name: Carol, email: c@example.com}\n",
		"usher.yaml", portalBase+"portal: "+strings.Replace(portals[1].portal, "%", portalKeys, 1)+"\n", "base.yaml", portalBase)
	file := load(t, "usher.yaml")
	p := file.Portal
	if p.Listen != "127.0.0.1:8087" || p.PublicURL != "https://login.example.com" || !slices.Equal(p.MeetURLs, []string{"https://meet.example.com"}) ||
		p.CertFile != "cert.pem" || p.KeyFile != "key.pem" || len(p.Proxies) != 3 || p.Proxies[1].String() != "::1/128" || p.VHost.String() != "example.com" ||
		p.Sign != config.SignKey || p.Issuer != "" || p.SigningFile != "keys.json" || p.TokenTTL != 24*time.Hour || p.Session != 12*time.Hour || !p.UntilHostLeft ||
		p.UsersFile != "users.yaml" || p.UsersURL != "http://127.0.0.1:9000/api/v1" || p.UsersSecret.Reveal() != secretA || p.MiroTalkAPI {
		t.Errorf("%+v", p)
	}
	if len(p.Users) != 2 || p.Users[0].Name != "alice" || p.Users[0].Affiliation != config.Owner || p.Users[1].Source != "users.yaml:2" || !p.Users[1].Disabled ||
		p.Users[1].Affiliation != config.Admin || p.Users[1].Display != "Carol" || p.Users[1].Email != "c@example.com" || p.Users[1].Hash != hash {
		t.Errorf("accounts %v", p.Users)
	}
	sso := p.Providers[0]
	if sso.Name != "sso" || sso.Title != "SSO" || sso.ClientSecret.Reveal() != secretB || sso.IDClaim != "oid" || sso.NameClaim != "upn" || sso.DisplayClaim != "given_name" ||
		sso.Leeway != 0 || sso.Rules[0].Claim != "a.b" || sso.Rules[0].Affiliation != config.Member || sso.Rules[0].Tenant != "acme" || len(sso.Rules[0].Features) != 1 {
		t.Errorf("provider %+v", sso)
	}
	if !slices.Contains(file.Files, "users.yaml") || file.Login != config.LoginURL {
		t.Errorf("files %v, login %s", file.Files, file.Login)
	}
	if s, _ := setting(file, "login"); s.Origin != "usher.yaml:4" {
		t.Errorf("login is from %s", s.Origin)
	}

	environment, err := config.Load([]string{"base.yaml"}, []string{
		"USHER_PORTAL_LISTEN=127.0.0.1:8087", "USHER_PORTAL_PUBLIC_URL=https://login.example.com", "USHER_PORTAL_MEET_URLS=https://meet.example.com",
		"USHER_PORTAL_TLS_CERT_FILE=cert.pem", "USHER_PORTAL_TLS_KEY_FILE=key.pem", "USHER_PORTAL_TRUSTED_PROXIES=127.0.0.1,::1,10.0.0.0/8",
		"USHER_PORTAL_VHOST=example.com", "USHER_PORTAL_SIGN=key", "USHER_PORTAL_KEY_FILE=keys.json", "USHER_PORTAL_TOKEN_TTL=24h",
		"USHER_PORTAL_SESSION=until-host-left", "USHER_PORTAL_USERS_URL=http://127.0.0.1:9000/api/v1", "USHER_PORTAL_USERS_SECRET_FILE=users.secret",
		"USHER_PORTAL_USERS_0_NAME=alice", "USHER_PORTAL_USERS_0_PASSWORD_HASH=" + hash, "USHER_PORTAL_USERS_0_ROOMS=*",
		"USHER_PORTAL_PROVIDERS_0_NAME=sso", "USHER_PORTAL_PROVIDERS_0_TITLE=SSO", "USHER_PORTAL_PROVIDERS_0_ISSUER=http://[::1]:9001/realms/a",
		"USHER_PORTAL_PROVIDERS_0_CLIENT_ID=usher", "USHER_PORTAL_PROVIDERS_0_CLIENT_SECRET_FILE=client.secret", "USHER_PORTAL_PROVIDERS_0_SCOPES=openid",
		"USHER_PORTAL_PROVIDERS_0_ID_CLAIM=oid", "USHER_PORTAL_PROVIDERS_0_NAME_CLAIM=upn", "USHER_PORTAL_PROVIDERS_0_DISPLAY_CLAIM=given_name",
		"USHER_PORTAL_PROVIDERS_0_LEEWAY=0s", "USHER_PORTAL_PROVIDERS_0_RULES_0_CLAIM=a.b", "USHER_PORTAL_PROVIDERS_0_RULES_0_VALUE=*",
		"USHER_PORTAL_PROVIDERS_0_RULES_0_AFFILIATION=member", "USHER_PORTAL_PROVIDERS_0_RULES_0_ROOMS=[acme]*,[*]*",
		"USHER_PORTAL_PROVIDERS_0_RULES_0_TENANT=acme", "USHER_PORTAL_PROVIDERS_0_RULES_0_FEATURES=recording",
	})
	if err != nil {
		t.Fatal(err)
	}
	var values [2][]string
	for i, c := range []*config.Config{file, environment} {
		for _, s := range c.Settings {
			if strings.HasPrefix(s.Key, "portal.") {
				values[i] = append(values[i], s.Key+" = "+s.Value())
			}
		}
	}
	if !slices.Equal(values[0], values[1]) {
		t.Errorf("the file says\n%s\nand the environment\n%s", strings.Join(values[0], "\n"), strings.Join(values[1], "\n"))
	}
}

// TestPortalVariables checks the problems of variables with numbers, which may have two of them.
func TestPortalVariables(t *testing.T) {
	inFolder(t, "usher.yaml", portalBase+"portal: {"+portalKeys+"}\n")
	c, err := config.Load([]string{"usher.yaml"}, []string{
		"USHER_PORTAL_PROVIDERS_0_RULES_1_VALU=a", "USHER_PORTAL_PROVIDERS_0_RULES_1_VALUE=a", "USHER_PORTAL_USERS_3_NAME=bob",
	})
	problems, _ := texts(t, c, err)
	for _, want := range []string{
		"environment USHER_PORTAL_PROVIDERS_0_RULES_1_VALU: is not a variable of usher; did you mean USHER_PORTAL_PROVIDERS_0_RULES_1_VALUE?",
		"environment USHER_PORTAL_PROVIDERS_0_RULES_1_VALUE: portal.providers[0].rules[1]: is there, but portal.providers[0].rules[0] is not: number them from 0 on",
		"environment USHER_PORTAL_USERS_3_NAME: portal.users[3]: is there, but portal.users[1] is not: number them from 0 on",
	} {
		if !slices.Contains(problems, want) {
			t.Errorf("nothing says %s:\n%s", want, strings.Join(problems, "\n"))
		}
	}
}

// TestPortalSign checks with what the portal signs if nobody says it.
func TestPortalSign(t *testing.T) {
	const two = "issuers: [{app_id: mapped, app_secret: " + secretA + ", claims: {id: sub}}, {app_id: one, one_time: true, app_secret: " + secretA +
		"}, {app_id: tenant, tenant: acme, app_secret: " + secretA + "}"
	for issuers, want := range map[string]string{
		"app_id: app, app_secret: " + secretA:                 "app",
		"app_id: app, jwks_url: https://sso.example.com/keys": "",
		two + "]": "",
		two + ", {app_id: last, app_secrets: [" + secretB + "]}]": "last",
	} {
		inFolder(t, "usher.yaml", "xmpp: {domain: focus.example.com, secret: "+secretA+"}\nrooms: {services: [conference.example.com]}\n"+
			"vhosts: {guest.example.com: {kind: guest}, example.com: {kind: token, "+issuers+"}}\nportal: {"+portalKeys+"}\n")
		p := load(t, "usher.yaml").Portal
		sign := config.SignSecret
		if want == "" {
			sign = config.SignKey
		}
		if p.Sign != sign || p.Issuer != want || p.VHost.String() != "example.com" {
			t.Errorf("%s: signs by %s of %q for %s, want %s of %q", issuers, p.Sign, p.Issuer, p.VHost, sign, want)
		}
	}
}

// TestPortalAlone checks that a virtual host needs no issuer where the portal signs its tokens with a key, and that nothing takes that away.
func TestPortalAlone(t *testing.T) {
	const base = "xmpp: {domain: focus.example.com, secret: " + secretA + "}\nrooms: {services: [conference.example.com], after_kick: bar, rules: [{match: a, first_is_host: token}]}\n"
	for name, test := range map[string]struct {
		vhosts, portal string
		problem        string
	}{
		"alone":          {"example.com: {kind: token}", portalKeys, ""},
		"by key":         {"example.com: {kind: token}", portalKeys + ", sign: key, vhost: Example.com", ""},
		"by secret":      {"example.com: {kind: token}", portalKeys + ", sign: app_secret", "vhosts.example.com.app_id: is missing"},
		"of another one": {"example.com: {kind: token}, other.example.com: {kind: token}", portalKeys, "vhosts.other.example.com.app_id: is missing"},
		"off":            {"example.com: {kind: token}", "listen: off", "vhosts.example.com.app_id: is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", base+"vhosts: {"+test.vhosts+"}\nportal: {"+test.portal+"}\n")
			c, err := config.Load([]string{"usher.yaml"}, nil)
			problems, warnings := texts(t, c, err)
			if test.problem == "" && (len(problems)+len(warnings) > 0 || c.Portal.Sign != config.SignKey || !c.TakesTokens(c.VHosts[0])) {
				t.Errorf("problems %q, warnings %q, signs by %s", problems, warnings, c.Portal.Sign)
			}
			if test.problem != "" && !strings.Contains(strings.Join(problems, "\n"), test.problem) {
				t.Errorf("problems %q, want %s", problems, test.problem)
			}
		})
	}
}

// TestPortalPlace checks that the portal takes no place of others, and where its keys are.
func TestPortalPlace(t *testing.T) {
	inFolder(t)
	base := []string{"USHER_PORTAL_PUBLIC_URL=https://login.example.com", "USHER_PORTAL_MEET_URLS=https://meet.example.com"}
	for listen, want := range map[string]string{
		"127.0.0.1:8089":  "portal.listen: is ops.listen, too",
		"127.0.0.1:8088":  "portal.listen: is api.listen, too",
		"unix:usher.sock": "portal.listen: is admin.socket, too",
	} {
		c, err := config.Load(nil, slices.Concat(least, base, []string{"USHER_PORTAL_LISTEN=" + listen, "USHER_API_LISTEN=127.0.0.1:8088", "USHER_ADMIN_SOCKET=usher.sock"}))
		problems, _ := texts(t, c, err)
		compareTexts(t, problems, []string{"environment USHER_PORTAL_LISTEN: " + want})
	}
	c, err := config.Load(nil, slices.Concat(least, base, []string{"USHER_PORTAL_LISTEN=unix:portal.sock"}))
	if err != nil || c.Portal.Listen != "unix:portal.sock" {
		t.Fatalf("%v, %v", c, err)
	}
	if file, err := c.PortalKeyFile([]string{"STATE_DIRECTORY=/var/lib/a:/var/lib/b"}); err != nil || file != "/var/lib/a/portal-keys.json" {
		t.Errorf("its keys are in %s, %v", file, err)
	}
	// Without a virtual host that takes tokens there is nobody to make tokens for.
	c, err = config.Load(nil, slices.Concat([]string{"USHER_VHOSTS=a.example.com", "USHER_VHOSTS_A_EXAMPLE_COM_KIND=trusted"}, least[:3], base, []string{"USHER_PORTAL_LISTEN=127.0.0.1:8087"}))
	problems, _ := texts(t, c, err)
	if !slices.ContainsFunc(problems, func(p string) bool {
		return strings.Contains(p, "portal.listen: has no use, because no virtual host has kind: token")
	}) {
		t.Errorf("problems %q", problems)
	}
}

// TestReadableUsers checks the warnings about a file with accounts.
func TestReadableUsers(t *testing.T) {
	inFolder(t, "usher.yaml", portalBase+"portal: {"+portalKeys+"}\n", "users.yaml", "users: []\n")
	if err := os.Chmod("users.yaml", 0o644); err != nil {
		t.Fatal(err)
	}
	_, warnings := texts(t, load(t, "usher.yaml"), nil)
	compareTexts(t, warnings, []string{"usher.yaml:4: portal.users_file: users.yaml has hashes of passwords in it, and everybody"})
	if err := os.Chmod("users.yaml", 0o666); err != nil {
		t.Fatal(err)
	}
	_, warnings = texts(t, load(t, "usher.yaml"), nil)
	compareTexts(t, warnings, []string{"usher.yaml:4: portal.users_file: users.yaml can be changed by everybody"})
}

// TestPortalWithoutTokens checks that the fault of a portal for which nobody takes tokens has the lines to write, where these suffice.
func TestPortalWithoutTokens(t *testing.T) {
	const remedy = "vhosts: {meet.example.com: {kind: token, allow_empty_token: true, app_id: usher, app_secret_file: app.secret}}"
	for vhosts, want := range map[string]bool{
		"{meet.example.com: {kind: guest}}": true, "{rec.example.com: {kind: service}, meet.example.com: {kind: guest}}": true,
		"{meet.example.com: {kind: guest}, users.example.com: {kind: trusted}}": false, "{rec.example.com: {kind: service}}": false,
	} {
		inFolder(t, "usher.yaml", portalBase[:strings.Index(portalBase, "vhosts:")]+"vhosts: "+vhosts+"\n"+"portal: {"+portalKeys+"}\n")
		_, err := config.Load([]string{"usher.yaml"}, nil)
		if err == nil || !strings.Contains(err.Error(), "portal.listen: has no use") || strings.Contains(err.Error(), remedy) != want {
			t.Errorf("%s: %v", vhosts, err)
		}
	}
}

// TestPortalVHost checks that a portal that makes tokens for a virtual host to which nobody connects is a warning.
func TestPortalVHost(t *testing.T) {
	const (
		users   = "portal: {public_url: https://meet.example.com, " + "listen: 127.0.0.1:8087, meet_urls: [https://meet.example.com], trusted_proxies: [127.0.0.1], sign: key, users_url: 'http://127.0.0.1:1', users_secret: " + secretA
		another = "vhosts: {other.example.com: {kind: token}}\n" + users
		xmpp    = "xmpp: {domain: focus.meet.example.com, secret: " + secretA + "}\nrooms: {services: [conference.meet.example.com]}\n"
		jitsi   = tokensOf + roomsOf
		docker  = "XMPP_DOMAIN=meet.example.com\nENABLE_AUTH=1\nAUTH_TYPE=jwt\nJWT_APP_ID=a\nJWT_APP_SECRET=" + secretB + "\n"
		unknown = "the portal makes tokens for other.example.com, and "
	)
	for name, test := range map[string]struct {
		docker        bool
		yaml, prosody string
		want          string
	}{
		"docker's":         {docker: true, yaml: users + "}"},
		"not docker's":     {docker: true, yaml: another + ", vhost: other.example.com}", want: "portal.vhost: " + unknown + "docker-jitsi-meet has no such virtual host, so nobody connects to it: write meet.example.com (XMPP_DOMAIN)"},
		"made by the file": {docker: true, yaml: another + ", vhost: other.example.com}\nprosody: {files: [prosody.cfg.lua]}", prosody: jitsi + "VirtualHost \"other.example.com\"\n"},
		"Prosody's":        {yaml: xmpp + "vhosts: {meet.example.com: {kind: token}}\n" + users + "}\nprosody: {files: [prosody.cfg.lua]}", prosody: jitsi},
		"not Prosody's": {yaml: xmpp + another + "}\nprosody: {files: [prosody.cfg.lua]}", prosody: jitsi,
			want: "portal.vhost: " + unknown + "Prosody's files have no such virtual host, so nobody connects to it. The files have meet.example.com"},
		"neither's":             {docker: true, yaml: another + ", vhost: other.example.com}\nprosody: {files: [prosody.cfg.lua]}", prosody: jitsi, want: "portal.vhost: " + unknown + "Prosody's files"},
		"made by usher's lines": {yaml: xmpp + another + "}\nprosody: {files: [prosody.cfg.lua]}", prosody: "VirtualHost \"localhost\"\n"},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", test.yaml+"\n", "docker.env", docker, "prosody.cfg.lua", test.prosody)
			files := []string{"usher.yaml"}
			if test.docker {
				files = []string{"docker.env", "usher.yaml"}
			}
			c, err := config.Load(files, []string{"USHER_XMPP_SECRET=" + secretA})
			problems, said := texts(t, c, err)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			doubts, err := c.Doubts(config.Lines{})
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range doubts {
				said = append(said, d.Source+": "+d.Text)
			}
			n := 0
			for _, text := range said {
				if strings.Contains(text, "the portal makes tokens for") {
					n++
					if test.want == "" || !strings.Contains(text, test.want) {
						t.Errorf("%q, want %q", text, test.want)
					}
				}
			}
			if want := min(len(test.want), 1); n != want {
				t.Errorf("%d warnings, want %d: %q", n, want, said)
			}
		})
	}
}
