package main

import (
	"fmt"

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
	return all
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
