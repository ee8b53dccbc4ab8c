package config

import (
	"mellium.im/xmpp/jid"
)

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
	general := l.buildEnding(at, Ending{
		OnExpiry(r.OnExpiry), r.ExpiryGrace, Reuse(r.TokenReuse), ReuseOf(r.TokenReuseOf),
	}, Ending{OnExpiry: ExpiryKeep, Reuse: ReuseAllow, ReuseOf: ReuseOfToken})
	v.Ending = general
	short, many := l.shortForm(at), at+"/issuers"
	if short != "" && l.given(many) {
		l.fault(many, "contradicts %s (%s): an issuer stands either on the vhost itself or in the list issuers",
			typed(short), l.place(short).source)
	}
	if short != "" {
		v.Issuers = append(v.Issuers, l.buildIssuer(at, domain, r.rawIssuer, "", general))
	}
	if l.given(many) {
		v.Issuers = append(v.Issuers, l.buildIssuers(many, domain, r.Issuers, general)...)
	}
	l.checkEnding(at, v.Issuers...)
	l.checkKind(at, &v, short)
	return v
}

// shortForm returns the path of the first of an issuer's keys that stands on the virtual host itself, or "".
func (l *loader) shortForm(at string) (first string) {
	for _, key := range issuerKeys {
		if path := at + "/" + key; l.given(path) && (first == "" || l.place(path).compare(l.place(first)) < 0) {
			first = path
		}
	}
	return first
}

// ofTokens are the keys of a virtual host that are for people with a token of any issuer.
var ofTokens = []string{"default_affiliation", "on_expiry", "expiry_grace", "token_reuse", "token_reuse_of"}

// checkKind records what contradicts the kind of a vhost. If its one issuer stands on the vhost itself, short is the path of
// the first of its keys.
func (l *loader) checkKind(at string, v *VHost, short string) {
	issuers := at + "/issuers"
	if short != "" {
		issuers = short
	}
	hasIssuer := l.given(issuers)
	switch v.Kind {
	case KindToken:
		if !hasIssuer && !l.portalIssues(v.Domain) {
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
		for _, key := range ofTokens {
			if path := join(at, key); !hasIssuer && l.given(path) && !l.garbled {
				l.fault(path, "has no effect on a %s vhost without issuer: it is for people with a token", v.Kind)
			}
		}
	}
}
