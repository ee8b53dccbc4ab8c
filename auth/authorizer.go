package auth

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/pkg/token"
)

// Authorizer decides by one Policy. It is safe for concurrent use and holds no state that changes a decision.
type Authorizer struct {
	policy   Policy
	services map[string]bool
	seen     seen
}

// New returns an Authorizer for a valid policy; config checks it.
func New(p Policy) *Authorizer {
	if p.WaitForHost == "" {
		p.WaitForHost = GuestsWait
	}
	if p.HostAffiliation == None {
		p.HostAffiliation = Owner
	}
	a := &Authorizer{policy: p, services: make(map[string]bool, len(p.Services))}
	for _, s := range p.Services {
		a.services[s] = true
	}
	return a
}

// Authorize decides. look is called only if a rule depends on the room's state; nil means that the room cannot be
// asked. Authorize may block in look and in the issuers' key sources, until ctx ends.
func (a *Authorizer) Authorize(ctx context.Context, req Request, look Look) Decision {
	return a.decide(ctx, req, askable(look), nil)
}

// Explain decides by the same code as Authorize, and returns step by step what was expected and found.
//
// The steps name claim values: they are for the operator who holds the token, never for the client.
func (a *Authorizer) Explain(ctx context.Context, req Request, look Look) (Decision, []Step) {
	t := trace{steps: make([]Step, 0, 20)} // as many as most decisions take
	d := a.decide(ctx, req, askable(look), &t)
	return d, t.steps
}

// parseRoom parses the address of a room, in either of the two spellings of a tenant's rooms. Jitsi's client asks for
// room@conference.acme.meet.example.com. Its mod_muc_domain_mapper turns that into [acme]room@conference.meet.example.com on the
// way to the service, but a component sees the client's spelling. Both are one room.
//
// A tenant need not be a label that IDNA allows in a domain: jitsi-meet makes acme_inc of acme.inc, and docker-jitsi-meet
// patches Prosody to take it. So parseRoom takes the tenant out before it parses the address as a JID.
func (a *Authorizer) parseRoom(address string) (Room, error) {
	room, err := ParseRoom(address)
	local, domain, _ := strings.Cut(address, "@")
	if err == nil {
		domain = room.Service()
	}
	tenant, service, ok := a.ofTenant(strings.ToLower(strings.TrimSuffix(domain, ".")))
	if !ok {
		return room, err
	}
	named, err := ParseRoom(local + "@" + service)
	switch {
	case err != nil:
		return named, err
	case strings.HasPrefix(named.JID.Localpart(), "["):
		return Room{}, fmt.Errorf("room address: %w: a tenant in brackets and in the domain", errRoomName)
	}
	return ParseRoom("[" + tenant + "]" + named.JID.Localpart() + "@" + service)
}

// Spelled returns the address of a tenant's room in the spelling of the tenant's clients: room@conference.acme.meet.example.com.
// It returns false for a room that has no such spelling, because it has no tenant or an odd one.
func (a *Authorizer) Spelled(room Room) (string, bool) {
	tenant, name, ok := strings.Cut(strings.TrimPrefix(room.JID.Localpart(), "["), "]")
	prefix, base, _ := strings.Cut(room.Service(), ".")
	spelled := name + "@" + prefix + "." + tenant + "." + base
	same, err := a.parseRoom(spelled)
	return spelled, ok && room.Tenant != "" && err == nil && same.JID.Equal(room.JID)
}

// ofTenant splits a domain in the spelling of a tenant's clients, conference.acme.meet.example.com, into tenant and MUC service.
func (a *Authorizer) ofTenant(domain string) (tenant, service string, ok bool) {
	if _, isVHost := a.policy.VHosts[domain]; isVHost || a.services[domain] || domain == a.policy.Breakout {
		return "", "", false
	}
	prefix, rest, _ := strings.Cut(domain, ".")
	tenant, base, _ := strings.Cut(rest, ".")
	service = prefix + "." + base
	return tenant, service, a.services[service] && plain(tenant) && !strings.HasPrefix(tenant, "xn--") // which stands for another name
}

// OfTenant reports whether a domain means a guarded MUC service in the spelling of a tenant's clients.
func (a *Authorizer) OfTenant(domain string) bool {
	_, _, ok := a.ofTenant(domain)
	return ok
}

// Room returns the room that an address means, in either spelling. The address may be that of an occupant.
func (a *Authorizer) Room(address string) (jid.JID, error) {
	bare, _, _ := strings.Cut(address, "/")
	room, err := a.parseRoom(bare)
	return room.JID, err
}

// Guards reports whether the domain is a MUC service that the policy guards.
func (a *Authorizer) Guards(service string) bool { return a.services[service] }

// BreakoutService returns the domain of the breakout service, empty if there is none.
func (a *Authorizer) BreakoutService() string { return a.policy.Breakout }

// HasBreakouts reports whether the policy has a breakout service.
func (a *Authorizer) HasBreakouts() bool { return a.policy.Breakout != "" }

// IsBreakout reports whether the room is on the breakout service.
func (a *Authorizer) IsBreakout(room Room) bool {
	return a.policy.Breakout != "" && room.Service() == a.policy.Breakout
}

// VHosts returns the domains of the virtual hosts, sorted.
func (a *Authorizer) VHosts() []string { return slices.Sorted(maps.Keys(a.policy.VHosts)) }

// Issuers returns the names of all issuers, sorted.
func (a *Authorizer) Issuers() (names []string) {
	for _, v := range a.policy.VHosts {
		for _, i := range v.Issuers {
			names = append(names, i.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Knows reports whether the sender is a user of one of the policy's virtual hosts.
func (a *Authorizer) Knows(from jid.JID) bool {
	_, ok := a.policy.VHosts[from.Domainpart()]
	return ok && from.Localpart() != ""
}

// NoLogin reports whether it is known that there is no login for those who need a token and have none.
func (a *Authorizer) NoLogin() bool { return a.policy.Login == LoginNone }

// AfterKick says what a kick or ban means for the person's next request.
func (a *Authorizer) AfterKick() AfterKick { return a.policy.AfterKick }

// CountsAsHost reports whether a moderator from this domain is a host. People of the policy's virtual hosts are, guests included:
// a guest moderates only by a host's session, or because a host promoted them. Users of service virtual hosts and of domains that
// the policy does not name are not: admins of the MUC service (accounts of Jibri, Jigasi or an operator) own every room without
// being hosts, and only an owner can let in somebody of an unknown domain.
func (a *Authorizer) CountsAsHost(domain string) bool {
	vhost, known := a.policy.VHosts[domain]
	return known && vhost.Kind != KindService
}

func askable(look Look) Look {
	if look != nil {
		return look
	}
	return func(context.Context, Request, Room) (RoomState, error) { return RoomState{}, errNoLook }
}

// verified is a token with a good signature, and the issuer of the key.
type verified struct {
	issuer  *Issuer
	claims  *token.Claims
	ref     TokenRef
	expires time.Time // exp and leeway; zero without exp
	until   time.Time // when it must be verified again
	steps   []Step    // that led here; nil if they were not asked for
}

// seen remembers tokens with a good signature, by their digest, so that it keeps no token. It remembers only that signature and
// types of claims are good; time, room and the rest are checked each time. It keeps at most 2*seenMost tokens, each for seenFor
// at most. For so long a key may still count that its server has withdrawn.
type seen struct {
	mu       sync.Mutex
	new, old map[[sha256.Size]byte]*verified
}

const (
	seenMost = 4096
	seenFor  = time.Minute
)

func fingerprint(vhost, compact string) [sha256.Size]byte {
	b := make([]byte, 0, 1024)
	b = append(b, vhost...)
	b = append(b, 0)
	return sha256.Sum256(append(b, compact...))
}

func (s *seen) get(key [sha256.Size]byte, at time.Time) *verified {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.new[key]
	if !ok {
		v = s.old[key]
	}
	if v == nil || at.After(v.until) {
		return nil
	}
	return v
}

func (s *seen) put(key [sha256.Size]byte, v *verified, at time.Time) {
	v.until = at.Add(seenFor)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.new == nil || len(s.new) >= seenMost {
		s.old, s.new = s.new, make(map[[sha256.Size]byte]*verified)
	}
	s.new[key] = v
}
