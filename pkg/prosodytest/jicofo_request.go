package prosodytest

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// request is ConferenceIqHandler.handleIQRequest, and what Smack does around it.
func (r *jicofoRun) request(ctx context.Context, s Stanza) {
	if len(s.Children) == 0 {
		r.send(errorReply(s, "modify", "bad-request", ""))
		return
	}
	payload := s.Children[0]
	switch from := s.Attr["from"]; {
	case payload.NS == nsRoster, payload.NS == nsPing:
		r.send(reply(s))
		return
	case from == "" || from == r.client.BareJID() || from == r.o.Host:
		r.send(errorReply(s, "cancel", "feature-not-implemented", ""))
		return
	}
	req, isConference := r.parse(s, payload)
	r.mu.Lock()
	r.requests = append(r.requests, req)
	r.change()
	b := r.behavior
	r.mu.Unlock()
	if b.Rooms != nil && !b.Rooms(req.Room) {
		b = JicofoBehavior{}
	}

	switch {
	case isConference:
		r.goroutines.Go(func() { r.conference(ctx, req, b) })
	case payload.Name == "logout" && payload.NS == nsFocus && r.o.TrustedDomain != "":
		r.logout(s, payload.Attr["session-id"])
	default:
		r.send(errorReply(s, "cancel", "feature-not-implemented", ""))
	}
}

// parse reads a request, and reports whether it is a conference request.
func (r *jicofoRun) parse(s, payload Stanza) (req JicofoRequest, isConference bool) {
	req = JicofoRequest{Name: payload.Name, NS: payload.NS, From: s.Attr["from"], User: s.Attr["from"], Stanza: s}
	domain, resource, _ := strings.Cut(req.From, "/")
	if r.o.Proxy != "" && domain == r.o.Proxy {
		req.User = resource
	}
	if payload.Name != "conference" || payload.NS != nsFocus || s.Attr["type"] != "set" {
		return req, false
	}
	a := payload.Attr
	req.Room, req.Token, req.SessionID, req.MachineUID = a["room"], a["token"], a["session-id"], a["machine-uid"]
	req.Properties = map[string]string{}
	for _, c := range payload.Children {
		if c.Name == "property" {
			req.Properties[c.Attr["name"]] = c.Attr["value"]
		}
	}
	return req, true
}

// conference is ConferenceIqHandler.handleConferenceIq, bent by the behavior.
func (r *jicofoRun) conference(ctx context.Context, req JicofoRequest, b JicofoBehavior) {
	if !pause(ctx, b.Delay, b.Until) || b.Silent {
		return
	}
	if b.Forger != nil {
		forge(b.Forger, req)
	}
	answer := r.decide(ctx, req, b)
	if b.Mute || answer.IsZero() || ctx.Err() != nil {
		return
	}
	for range 1 + b.Copies {
		r.send(answer)
	}
}

// forge answers a request from another client's JID.
func forge(forger *Client, req JicofoRequest) {
	forged := reply(req.Stanza, Stanza{Name: "conference", NS: nsFocus, Attr: map[string]string{
		"room": req.Room, "ready": "true", "focusjid": forger.BareJID(),
	}})
	delete(forged.Attr, "from")
	if forger.from != "" {
		forged.Attr["from"] = forger.from
	}
	_ = forger.Send(forged.String())
}

// pause waits for d and for until, and reports whether both came before the context ended.
func pause(ctx context.Context, d time.Duration, until <-chan struct{}) bool {
	if until != nil {
		select {
		case <-until:
		case <-ctx.Done():
		}
	}
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

// decide returns the answer. The zero Stanza means none.
func (r *jicofoRun) decide(ctx context.Context, req JicofoRequest, b JicofoBehavior) Stanza {
	if b.Error != "" {
		return errorReply(req.Stanza, "cancel", b.Error, "")
	}
	jid, refusal := roomOf(req)
	if !refusal.IsZero() {
		return refusal
	}
	answer := Stanza{Name: "conference", NS: nsFocus, Attr: map[string]string{"room": jid, "focusjid": r.client.BareJID()}}
	property := func(name, value string) {
		answer.Children = append(answer.Children, Stanza{Name: "property", NS: nsFocus, Attr: map[string]string{"name": name, "value": value}})
	}
	if _, service, _ := strings.Cut(jid, "@"); r.o.TrustedDomain != "" && service != r.o.Breakout {
		if refusal := r.authenticate(req, jid, answer.Attr); !refusal.IsZero() {
			return refusal
		}
	}
	ready := false
	if b.NotLive {
		property("live", "false")
	} else {
		inside, thrown := r.open(ctx, jid)
		if thrown {
			return Stanza{}
		}
		ready = inside && !b.NotReady
	}
	answer.Attr["ready"] = fmt.Sprint(ready)
	if b.VNode != "" {
		answer.Attr["vnode"] = b.VNode
	}
	property("authentication", fmt.Sprint(r.o.TrustedDomain != ""))
	if r.o.TrustedDomain != "" {
		property("externalAuth", "false")
	}
	property("sipGatewayEnabled", "true")
	property("visitors-supported", "false")
	return reply(req.Stanza, answer)
}

// roomOf returns the address of the room in a request, or a refusal.
func roomOf(req JicofoRequest) (jid string, refusal Stanza) {
	switch {
	case !strings.Contains(req.User, "@"):
		// The request comes from a domain other than the proxy, so it names no user.
		return "", errorReply(req.Stanza, "modify", "bad-request", "Nobody asks.")
	case req.Room == "":
		return "", errorReply(req.Stanza, "modify", "bad-request", "No 'room' specified.")
	}
	node, service, _ := strings.Cut(strings.ToLower(req.Room), "@") // as jxmpp does it
	if node == "" || service == "" || strings.ContainsAny(service, "@/") {
		return "", errorReply(req.Stanza, "modify", "bad-request", "Not the address of a room.")
	}
	return node + "@" + service, Stanza{}
}

// open enters a room for a request. It waits only for the request that is the first for the room; thrown reports that this
// one failed.
func (r *jicofoRun) open(ctx context.Context, jid string) (inside, thrown bool) {
	room, first := r.enter(jid)
	if first {
		select {
		case <-room.entered:
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return room.inside, first && room.err != nil
}

// authenticate is AbstractAuthAuthority.processAuthentication, and the rule that follows it: only a user with an identity
// opens a room. It adds the session to the attributes of the answer.
func (r *jicofoRun) authenticate(req JicofoRequest, jid string, answer map[string]string) (refusal Stanza) {
	r.mu.Lock()
	defer r.mu.Unlock()
	session := r.sessions[req.SessionID]
	_, domain, _ := strings.Cut(bare(req.User), "@")
	switch {
	case req.SessionID != "" && session == nil:
		return sessionInvalid(req.Stanza)
	case session != nil && session.machineUID != req.MachineUID:
		return errorReply(req.Stanza, "modify", "not-acceptable", "machine UID mismatch or empty")
	case session == nil && domain == r.o.TrustedDomain:
		if req.MachineUID == "" {
			return errorReply(req.Stanza, "modify", "not-acceptable", "Missing mandatory attribute 'machine-uid'")
		}
		session = &jicofoSession{id: rand.Text(), machineUID: req.MachineUID, identity: bare(req.User)}
		r.sessions[session.id] = session
	}
	if session != nil {
		session.jid = req.User
		answer["session-id"], answer["identity"] = session.id, session.identity
		for _, room := range r.rooms {
			r.promoteAuthenticated(room)
		}
		return Stanza{}
	}
	if r.rooms[jid] == nil && !r.hasBreakouts(jid) && !r.isAuthenticated(req.User) {
		return errorReply(req.Stanza, "auth", "not-authorized", "not authorized user domain")
	}
	return Stanza{}
}

func (r *jicofoRun) isAuthenticated(jid string) bool {
	for _, s := range r.sessions {
		if s.jid == jid {
			return true
		}
	}
	return false
}

func (r *jicofoRun) logout(s Stanza, id string) {
	r.mu.Lock()
	_, ok := r.sessions[id]
	delete(r.sessions, id)
	r.mu.Unlock()
	if !ok {
		r.send(sessionInvalid(s))
		return
	}
	r.send(reply(s, Stanza{Name: "logout", NS: nsFocus}))
}

func sessionInvalid(s Stanza) Stanza {
	e := errorReply(s, "modify", "not-acceptable", "invalid session")
	e.Children[0].Children = append(e.Children[0].Children, Stanza{Name: "session-invalid", NS: nsFocus})
	return e
}
