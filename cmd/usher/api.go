package main

import (
	"cmp"
	"context"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/token"
)

// What the API needs of the configuration: tokens by its issuers' secrets, and decisions by its policy.

// apiOptions returns the options of the API, for the network and for the socket.
func (u *serving) apiOptions() api.Options {
	return api.Options{
		Active: u.active, History: u.listeners.history, Keys: u.apiKeys, Mint: u.mint, Explain: u.explain, Links: u.links,
		PublicURL: u.began.API.PublicURL, MeetURL: u.began.API.MeetURL, Called: u.listeners.called,
		Rate:   api.Rate{PerSecond: u.began.API.Rate, Burst: u.began.API.Burst},
		Status: api.Status{Domain: u.began.XMPP.Domain.String(), Version: release()}, Log: u.log,
	}
}

// links returns where one-time links are kept, and false while this usher stands by.
func (u *serving) links() (store.Links, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return store.Links{Store: u.store}, u.usher != nil
}

// apiKeys returns the keys of the API that count now.
func (u *serving) apiKeys() []api.Key {
	c, _ := u.inForce()
	return apiKeys(c)
}

// inForce returns the configuration of the moment.
func (u *serving) inForce() (*config.Config, auth.Policy) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.current, u.policy
}

// explain says what would be decided, as "usher token explain" does.
func (u *serving) explain(ctx context.Context, r api.ExplainRequest) (api.Explanation, error) {
	c, p := u.inForce()
	req := auth.Request{At: time.Now(), MachineUID: explainMachine, Room: r.Room}
	if r.At != nil {
		req.At = *r.At
	}
	var err error
	if req.From, err = sender(c, r.From); err != nil {
		return api.Explanation{}, api.RequestError("from: " + err.Error())
	}
	if r.Token != "" {
		if req.Token, err = pasted(r.Token); err != nil {
			return api.Explanation{}, api.RequestError("token: " + err.Error())
		}
	}
	d, steps := auth.New(p).Explain(ctx, req, hostInside(r.HostPresent != nil && *r.HostPresent))
	return newExplanation(req, d, steps), nil
}

// mint makes a token as one of the configuration's issuers would, and makes sure that usher accepts it. The room is a claim.
func (u *serving) mint(ctx context.Context, r api.MintRequest) (api.Minted, error) {
	c, p := u.inForce()
	vhost, issuer, err := signer(c, r.VHost, r.Issuer)
	if err != nil {
		return api.Minted{}, err
	}
	now := time.Now()
	claims := mintedClaims(r, vhost, issuer)
	dated(&claims, now, r.Valid())
	if r.RoomEnds != nil && !r.RoomEnds.After(now) {
		return api.Minted{}, api.RequestError("room_ends: " + errOver.Error())
	}
	compact, err := token.Mint(claims, token.MintOptions{Key: []byte(issuer.AppSecrets[0].Reveal()), Algorithm: sharedAlgorithm(issuer)})
	if err != nil {
		return api.Minted{}, api.RequestError(err.Error())
	}
	at := now
	if claims.NotBefore.After(at) {
		at = claims.NotBefore
	}
	req := auth.Request{At: at, From: vhost.Domain, Room: roomOfClaim(claims.Room, c), Token: compact, MachineUID: explainMachine}
	if req.From, err = vhost.Domain.WithLocal("somebody"); err != nil {
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
		Token: compact, JTI: claims.ID, Issuer: issuer.AppID, VHost: vhost.Domain.String(), Room: claims.Room,
		Affiliation: cmp.Or(string(d.Affiliation), r.Affiliation), Expires: claims.Expires,
	}, nil
}

// mintedClaims returns what a token says: what is asked for, and what its issuer must say.
func mintedClaims(r api.MintRequest, vhost config.VHost, issuer config.Issuer) token.Claims {
	c := token.Claims{
		Issuer: issuer.AppID, Audience: []string{"jitsi"}, Room: r.Room, Subject: vhost.Domain.String(),
		OneTime: r.OneTime, MaxOccupants: r.MaxOccupants,
		User: token.User{ID: r.ID, Name: r.Name, Email: r.Email, Avatar: r.Avatar, Affiliation: r.Affiliation},
	}
	if !acceptsText(issuer.AcceptedIssuers, c.Issuer) {
		c.Issuer = issuer.AcceptedIssuers[0]
	}
	if !acceptsText(issuer.AcceptedAudiences, c.Audience[0]) {
		c.Audience = issuer.AcceptedAudiences[:1]
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

// signer returns the issuer that signs a token with its secret: the first one of that virtual host and name, of any if they are empty.
// An issuer with a claim map is none: its tokens say things in places that usher does not write to.
func signer(c *config.Config, vhost, name string) (config.VHost, config.Issuer, error) {
	for _, v := range c.VHosts {
		if vhost != "" && v.Domain.String() != vhost {
			continue
		}
		for _, i := range v.Issuers {
			if (name == "" || i.AppID == name) && len(i.AppSecrets) > 0 && sharedAlgorithm(i) != "" && !mapsClaims(i.Claims) {
				return v, i, nil
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
	return config.VHost{}, config.Issuer{}, api.RequestError(text + " for which usher can sign: that takes an app_secret, and no claims map")
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

// roomOfClaim returns the address of a room that a claim names, on the first MUC service.
func roomOfClaim(claim string, c *config.Config) string {
	room, err := auth.ParseRoomName(claim)
	if claim == "*" || err != nil {
		room = auth.Room{Name: "every-room"}
	}
	local := url.PathEscape(room.Name) // as jitsi-meet spells names that are no node
	if room.Tenant != "" {
		local = "[" + url.PathEscape(room.Tenant) + "]" + local
	}
	return local + "@" + c.Rooms.Services[0].String()
}
