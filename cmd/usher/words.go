package main

import (
	"fmt"
	"strings"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/config"
)

// words returns sentences that say what a configuration means: the policy, and then what ends rights.
func words(c *config.Config, p auth.Policy) []string {
	all := p.Words()
	for _, v := range c.VHosts {
		for _, i := range v.Issuers {
			for _, w := range endingWords(i) {
				all = append(all, fmt.Sprintf("%s: a token of %s %s.", v.Domain, i.AppID, w))
			}
		}
	}
	switch k := c.Rooms.AfterKick; {
	case k.Bar:
		all = append(all, "Somebody that a moderator has kicked or banned stays out until the room ends, unless it is a guest.")
	case k.Wait > 0:
		all = append(all, fmt.Sprintf("Somebody that a moderator has kicked or banned stays out for %s, unless it is a guest.", config.PlainDuration(k.Wait)))
	}
	return append(all, portalWords(c.Portal)...)
}

// portalWords say where hosts log in, and what their tokens are worth.
func portalWords(p config.Portal) (all []string) {
	if p.Listen == "" {
		return nil
	}
	all = append(all, fmt.Sprintf("Hosts log in at %s (%s): %s.", p.PublicURL, p.Listen, logins(p)))
	if p.Sign == config.SignSecret {
		all = append(all, fmt.Sprintf("The portal signs tokens for %s as the issuer %s, with its app_secret: Prosody's own provider, token, can verify them, too.", p.VHost, p.Issuer))
	} else {
		all = append(all, fmt.Sprintf("The portal signs tokens for %s with an Ed25519 key of its own: usher verifies them, and Prosody's own provider, token, cannot. "+
			"Others can, by %s/.well-known/jwks.json.", p.VHost, p.PublicURL))
	}
	session := "Hosts stay logged in for " + config.PlainDuration(p.Session)
	if p.UntilHostLeft {
		session = "Hosts log in again after they have left the room"
	}
	return append(all, fmt.Sprintf("%s, and each token lasts %s. The web page leads them to the portal (login: url).", session, config.PlainDuration(p.TokenTTL)))
}

// logins lists by what people log in at the portal.
func logins(p config.Portal) string {
	var by []string
	if n := len(p.Users); n == 1 {
		by = append(by, "1 account")
	} else if n > 0 {
		by = append(by, fmt.Sprintf("%d accounts", n))
	}
	if p.UsersURL != "" {
		by = append(by, "the accounts that "+p.UsersURL+" knows")
	}
	for _, provider := range p.Providers {
		by = append(by, "the people of "+provider.Name)
	}
	if len(by) == 0 {
		return "nobody yet"
	}
	return strings.Join(by, ", ")
}

// endingWords say how the rights end that an issuer's tokens give, if they end otherwise than when people leave.
func endingWords(i config.Issuer) (all []string) {
	switch {
	case i.OnExpiry != config.ExpiryRemove:
	case i.ExpiryGrace > 0:
		all = append(all, "that has ended puts its bearer out after "+config.PlainDuration(i.ExpiryGrace))
	default:
		all = append(all, "that has ended puts its bearer out")
	}
	if i.OneTime {
		all = append(all, "lets one machine in")
	}
	as := "that is in the room already"
	if i.ReuseOf == config.ReuseOfSub {
		as = "with a sub that is in the room already"
	}
	switch i.Reuse {
	case config.ReuseReplace:
		all = append(all, as+" puts the one inside out")
	case config.ReuseRefuse:
		all = append(all, as+" is refused")
	}
	return all
}
