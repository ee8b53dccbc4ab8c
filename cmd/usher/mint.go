package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/token"
)

// The one way in which a running usher makes tokens: for the API's callers, for links, and for people who log in at the portal.

// signature says as who a token is signed, and with what.
type signature struct {
	vhost  config.VHost
	issuer config.Issuer
	by     token.MintOptions
}

// secretSignature returns the signature of an issuer that signs with its shared secret: the first one of that virtual host and name, of any if they
// are empty. An issuer with a claim map is none: its tokens say things in places that usher does not write to.
func secretSignature(c *config.Config, vhost, name string) (signature, error) {
	for _, v := range c.VHosts {
		if vhost != "" && v.Domain.String() != vhost {
			continue
		}
		for _, i := range v.Issuers {
			if (name == "" || i.AppID == name) && len(i.AppSecrets) > 0 && sharedAlgorithm(i) != "" && !mapsClaims(i.Claims) {
				return signature{v, i, token.MintOptions{Key: []byte(i.AppSecrets[0].Reveal()), Algorithm: sharedAlgorithm(i)}}, nil
			}
		}
	}
	text := "there is no issuer"
	if name != "" {
		text += " with the name " + token.ForLog(name)
	}
	if vhost != "" {
		text += " on " + token.ForLog(vhost)
	}
	return signature{}, api.RequestError(text + " for which usher can sign: that takes an app_secret, and no claims map")
}

// mapsClaims reports whether an issuer has claims at other places than Jitsi's.
func mapsClaims(m config.ClaimMap) bool {
	return slices.ContainsFunc([]config.Claim{m.Affiliation, m.ID, m.Name, m.Group, m.Room, m.Tenant}, func(c config.Claim) bool {
		return c.Path != "" || len(c.Values) > 0
	})
}

// sharedAlgorithm returns the algorithm by which an issuer signs with its shared secret, empty if there is none.
func sharedAlgorithm(i config.Issuer) jwa.SignatureAlgorithm {
	for _, a := range i.Algorithms {
		if strings.HasPrefix(a, "HS") {
			return jwa.SignatureAlgorithm(a)
		}
	}
	return ""
}

// claims returns what a token says that is signed so: what is asked for, and what its issuer must say.
func (s signature) claims(r api.MintRequest) token.Claims {
	c := token.Claims{
		Issuer: s.issuer.AppID, Audience: []string{"jitsi"}, Room: r.Room, Subject: s.vhost.Domain.String(),
		OneTime: r.OneTime, MaxOccupants: r.MaxOccupants,
		User: token.User{ID: r.ID, Name: r.Name, Email: r.Email, Avatar: r.Avatar, Affiliation: r.Affiliation},
	}
	if !acceptsText(s.issuer.AcceptedIssuers, c.Issuer) {
		c.Issuer = s.issuer.AcceptedIssuers[0]
	}
	if !acceptsText(s.issuer.AcceptedAudiences, c.Audience[0]) {
		c.Audience = s.issuer.AcceptedAudiences[:1]
	}
	switch room, err := auth.ParseRoomName(r.Room); {
	case r.Room == "*":
		c.Subject = "*"
	case err == nil && room.Tenant != "":
		c.Subject = room.Tenant
	}
	if r.NotBefore != nil {
		c.NotBefore = *r.NotBefore
	}
	if r.RoomEnds != nil {
		c.RoomEnds = *r.RoomEnds
	}
	return c
}

func acceptsText(accepted []string, text string) bool {
	return slices.Contains(accepted, text) || slices.Contains(accepted, "*")
}

// mint signs claims, and makes sure that usher accepts the token. The error is an api.RequestError if it would not.
func (s signature) mint(ctx context.Context, c *config.Config, p auth.Policy, claims token.Claims, now time.Time) (api.Minted, error) {
	compact, err := token.Mint(claims, s.by)
	if err != nil {
		return api.Minted{}, api.RequestError(err.Error())
	}
	at := now
	if claims.NotBefore.After(at) {
		at = claims.NotBefore
	}
	req := auth.Request{At: at, Room: roomOfClaim(claims.Room, c), Token: compact, MachineUID: explainMachine}
	if req.From, err = s.vhost.Domain.WithLocal("somebody"); err != nil {
		return api.Minted{}, err
	}
	d, _ := auth.New(p).Explain(ctx, req, hostInside(true))
	if d.Reason.Row().Class == auth.ClassToken && d.Verdict != auth.Allow {
		text := "usher would refuse this token: " + d.Reason.Doc()
		if d.Err != nil {
			text += " (" + d.Err.Error() + ")"
		}
		return api.Minted{}, api.RequestError(text)
	}
	return api.Minted{
		Token: compact, JTI: claims.ID, Issuer: s.issuer.AppID, VHost: s.vhost.Domain.String(), Room: claims.Room,
		Affiliation: cmp.Or(string(d.Affiliation), claims.User.Affiliation), Expires: claims.Expires,
	}, nil
}
