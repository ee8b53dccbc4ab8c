package config

import (
	"bytes"
	"encoding/pem"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"mellium.im/xmpp/jid"
)

// buildIssuers makes the issuers in the list at a path. What they do not say of how rights end is as in general.
func (l *loader) buildIssuers(at string, vhost jid.JID, r map[int]rawListed, general Ending) []Issuer {
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
		ending := l.buildEnding(here, Ending{
			OnExpiry(r[i].OnExpiry), r[i].ExpiryGrace, Reuse(r[i].TokenReuse), ReuseOf(r[i].TokenReuseOf),
		}, general)
		issuer := l.buildIssuer(here, vhost, r[i].rawIssuer, byDefault, ending)
		l.checkEnding(here, issuer)
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

// buildIssuer makes the issuer that stands at a path, with a default affiliation of its own or none, and with how its rights end.
func (l *loader) buildIssuer(at string, vhost jid.JID, r rawIssuer, byDefault Affiliation, ending Ending) Issuer {
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
		OneTime:            r.OneTime,
		Ending:             ending,
	}
	if !l.given(at + "/accepted_issuers") {
		issuer.AcceptedIssuers = []string{issuer.AppID}
		l.effective[at+"/accepted_issuers"] = issuer.AcceptedIssuers
	}
	l.checkIssuer(at, issuer)
	l.buildClaims(at+"/claims", r.Claims, &issuer.Claims)
	l.buildKeys(at, r, &issuer)
	l.check(at, vhost, issuer)
	return issuer
}

// checkIssuer records what is wrong with an issuer, except for its keys and claims.
func (l *loader) checkIssuer(at string, issuer Issuer) {
	switch {
	case !l.given(at + "/app_id"):
		l.missing(at+"/app_id", "the issuer's name, as in the claim iss of its tokens")
	case issuer.AppID == "":
		l.fault(at+"/app_id", "is empty: it is the issuer's name, as in the claim iss of its tokens")
	}
	if l.given(at + "/accepted_issuers") {
		l.checkTexts(at+"/accepted_issuers", issuer.AcceptedIssuers)
	}
	l.checkTexts(at+"/accepted_audiences", issuer.AcceptedAudiences)
	if issuer.Leeway < 0 || issuer.Leeway > time.Minute {
		l.fault(at+"/leeway", "is %s: it must be from 0s to 60s", issuer.Leeway)
	}
	if issuer.KeysMaxStale < 0 {
		l.fault(at+"/keys_max_stale", "is less than nothing: 0s means that keys count only as long as they are fresh")
	}
	if issuer.OneTime && !issuer.RequireExp {
		l.fault(at+"/one_time", "contradicts require_exp: false (%s): usher must remember a token until it ends", l.place(at+"/require_exp").source)
	}
	if l.given(at+"/tenant") && issuer.Tenant == "" {
		l.fault(at+"/tenant", "is empty: name the tenant, or take it out for any")
	}
}

// check asks the checks of others about an issuer. They know more of keys and tokens than this package.
func (l *loader) check(at string, vhost jid.JID, issuer Issuer) {
	for _, check := range l.checks {
		for _, f := range check(vhost, issuer) {
			path := join(at, f.Key)
			if f.Entry != "" {
				path = entryOf(path, f.Entry)
			}
			// If an algorithm is wrong, what others find follows from that.
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

// buildClaims makes the map of claims at a path. The checks of others say whether a path or a meaning is right.
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
	shared := l.givenOf(at, "app_secret", "app_secret_file", "app_secrets")
	public := l.givenOf(at, "public_key_files", "jwks_file", "jwks_url", "asap_key_server", "cache_keys_url")
	issuer.Algorithms = l.algorithms(at+"/algorithms", r.Algorithms, len(shared) > 0, len(public) > 0)
	l.contradict(append(shared, public[:min(1, len(public))]...)...)
	if len(shared)+len(public) == 0 {
		l.missing(at+"/app_secret_file", "a file with the secret shared with the issuer (or app_secret: itself, or public_key_files, "+
			"jwks_file, jwks_url, asap_key_server or cache_keys_url)")
	}
	l.buildSecrets(at, r, issuer)
	l.buildPublicKeys(at, r, issuer)
}

// givenOf returns the paths of those keys of a section that are set.
func (l *loader) givenOf(section string, keys ...string) (paths []string) {
	for _, key := range keys {
		if path := join(section, key); l.given(path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// buildSecrets adds the shared secrets of an issuer that has its algorithms.
func (l *loader) buildSecrets(at string, r rawIssuer, issuer *Issuer) {
	least := 0
	if !r.AllowShortSecret {
		least = leastSecret(issuer.Algorithms)
	}
	add := func(path string, secret Secret) {
		if !l.faulty[path] {
			issuer.AppSecrets = append(issuer.AppSecrets, secret)
		}
	}
	if one := at + "/app_secret"; l.given(one) {
		add(one, l.secret(one, r.AppSecret, least))
	}
	if file := at + "/app_secret_file"; l.given(file) {
		add(file, l.secretFile(file, r.AppSecretFile, least))
	}
	if list := at + "/app_secrets"; l.given(list) {
		for i, text := range r.AppSecrets {
			path := join(list, strconv.Itoa(i))
			add(path, l.secret(path, text, least))
		}
		if len(r.AppSecrets) == 0 {
			l.fault(list, "is empty: write the secrets that the issuer uses")
		}
	}
}

// buildPublicKeys adds the places of an issuer's public keys.
func (l *loader) buildPublicKeys(at string, r rawIssuer, issuer *Issuer) {
	if pems := at + "/public_key_files"; l.given(pems) {
		for i, name := range r.PublicKeyFiles {
			issuer.PublicKeyFiles = append(issuer.PublicKeyFiles, l.publicKeyFile(join(pems, strconv.Itoa(i)), name))
		}
		if len(r.PublicKeyFiles) == 0 {
			l.fault(pems, "is empty: name the PEM files with the issuer's public keys")
		}
	}
	if set := at + "/jwks_file"; l.given(set) {
		_, issuer.JWKSFile, _ = l.readNamed(set, r.JWKSFile, maxKeys)
	}
	issuer.JWKSURL, issuer.ASAPKeyServer, issuer.CacheKeysURL = r.JWKSURL, r.ASAPKeyServer, r.CacheKeysURL
	for key, address := range map[string]string{"jwks_url": r.JWKSURL, "asap_key_server": r.ASAPKeyServer, "cache_keys_url": r.CacheKeysURL} {
		if path := join(at, key); l.given(path) && address == "" {
			l.fault(path, "is empty: write an address like https://login.example.com/keys")
		}
	}
}

// publicKeyFile returns the name of the PEM file, or of the folder of such files, that a path names. The checks of others read
// the keys.
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

// hmac and others are the algorithms that may be configured, for shared secrets and for key pairs; "none" is not among
// them. hmac has how many bytes a secret must have at least, those of the hash (RFC 7518 §3.2).
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
