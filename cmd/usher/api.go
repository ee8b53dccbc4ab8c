package main

import (
	"cmp"
	"context"
	"net/url"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/config"
)

// What the API needs of the configuration: tokens by its issuers' secrets, and decisions by its policy.

// apiOptions returns the options of the API, for the network and for the socket.
func (u *serving) apiOptions() api.Options {
	o := api.Options{
		Active: u.active, History: u.listeners.history, Keys: u.apiKeys, Mint: u.mint, Explain: u.explain, Links: u.links,
		PublicURL: u.began.API.PublicURL, MeetURL: u.began.API.MeetURL, Called: u.listeners.called,
		Rate:   api.Rate{PerSecond: u.began.API.Rate, Burst: u.began.API.Burst},
		Status: api.Status{Domain: u.began.XMPP.Domain.String(), Version: release()}, Log: u.log,
	}
	if u.portal != nil {
		p := u.began.Portal
		o.Login, o.MiroTalk, o.Proxies = u.portal.login, p.MiroTalkAPI, p.Proxies
		o.MeetURL = cmp.Or(o.MeetURL, p.MeetURLs[0])
	}
	return o
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
	s, err := secretSignature(c, r.VHost, r.Issuer)
	if err != nil {
		return api.Minted{}, err
	}
	now := time.Now()
	if r.RoomEnds != nil && !r.RoomEnds.After(now) {
		return api.Minted{}, api.RequestError("room_ends: " + errOver.Error())
	}
	claims := s.claims(r)
	dated(&claims, now, r.Valid())
	return s.mint(ctx, c, p, claims, now)
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
