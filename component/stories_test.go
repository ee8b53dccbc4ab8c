package component_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// Here are the stories behind nine complaints of many years about tokens, guests, hosts and lobbies in Jitsi Meet, each as it
// goes with usher before Jicofo. The threads are those that the complaints were made in.

// gone is an owner who has left the room.
const gone = "owner, gone"

// rank puts affiliations in order.
var rank = map[string]int{"": 0, "none": 0, "member": 1, "admin": 2, "owner": 3, gone: 3}

// invariants has the observer look at a room, and checks what must hold whenever it is looked at: who is inside was let in,
// nobody is more than was decided or could be by the room's list, guests are there only if a host is, and no token is in
// the log. allowed are those who were let in, by bare JID, and what was decided about each. Guests may stay when the last host
// has left, so they may be alone where all hosts are gone.
func invariants(b *gate, room string, allowed map[string]string) prosodytest.RoomView {
	b.t.Helper()
	v := b.sees(room)
	host, hosts, guests := false, false, 0
	for _, o := range v.Occupants {
		who, _, _ := strings.Cut(o.JID, "/")
		if who == jicofoJID {
			continue
		}
		may, ok := allowed[who]
		if !ok {
			b.t.Errorf("%s was not let in and is inside: %s", who, v)
		}
		if rank[o.Affiliation] > rank[may] || o.Role == "moderator" && rank[may] < rank["admin"] {
			b.t.Errorf("%s is more than %s: %s", who, may, v)
		}
		host = host || o.Role == "moderator" && rank[may] >= rank["admin"]
		if rank[may] < rank["admin"] && strings.HasSuffix(who, "@guest.meet.example.com") {
			guests++
		}
	}
	for who, affiliation := range v.Affiliations {
		if who != jicofoJID && rank[affiliation] > rank[allowed[who]] { // an outcast has no rank
			b.t.Errorf("%s has more than %q: %s", who, allowed[who], v)
		}
	}
	for _, may := range allowed {
		hosts = hosts || may == "admin" || may == "owner"
	}
	if hosts && guests > 0 && !host {
		b.t.Errorf("guests without a host: %s", v)
	}
	for _, e := range b.log.All() {
		if tokenLike.MatchString(fmt.Sprint(e.Message, e.ContextMap())) {
			b.t.Errorf("a token is in the log: %s %v", e.Message, e.ContextMap())
		}
	}
	return v
}

// ends has everybody leave, and waits until nothing is left of the room: neither the room itself, nor what was granted in
// it, nor a request that is held.
func (g *gate) ends(room string, people ...*person) {
	g.t.Helper()
	for _, p := range people {
		p.leaves(room)
	}
	defer func() {
		if g.t.Failed() {
			g.t.Logf("at its end the room is %s, with Jicofo in %v", g.sees(room), g.jicofo.Rooms())
		}
	}()
	g.inTime("the room ends", func() bool { g.jicofo.StopWaiting(); return !g.sees(room).Exists })
	g.inTime("no grant is left", func() bool { return g.count(store.KindGrant, room+" ") == 0 })
	g.eventually("nobody is left waiting", func() bool { return g.count(store.KindHeld, "") == 0 })
}

// looks waits until usher has looked at the room twice, so that once it has done all that it does at a look: each time it
// makes the room members-only again, which the owner has changed.
func (g *gate) looks(owner *person, room string) {
	g.t.Helper()
	for range 2 {
		g.configure(owner, room, "muc#roomconfig_membersonly", "0")
		g.eventually("the room is members-only again", func() bool { return g.sees(room).MembersOnly })
	}
}

// onlyAsked checks that Jicofo has heard of these rooms and no others, of no session, and of no token.
func (g *gate) onlyAsked(rooms ...string) {
	g.t.Helper()
	for _, r := range g.jicofo.Requests() {
		known := false
		for _, room := range rooms {
			known = known || r.Room == room
		}
		if !known || r.SessionID != "" || r.Token != "" {
			g.t.Errorf("Jicofo was asked %s", r.Stanza)
		}
	}
	for _, room := range g.jicofo.Rooms() {
		if !strings.Contains(strings.Join(rooms, " "), room) {
			g.t.Errorf("Jicofo is in %s", room)
		}
	}
}

// exact makes tokens end when they say.
func exact(p *auth.Policy) {
	v := p.VHosts["meet.example.com"]
	v.Issuers[0].Leeway = 0
}

// 9.1: somebody with a token for one room is given a session-id, which the browser keeps. Shown to Jicofo without the token,
// it opens any room. A guest who has got hold of it opens any room, too: a session stands for a person there, not for a
// room (community.jitsi.org/t/18119/18, lib-jitsi-meet#18, jitsi-meet#15596). With usher it opens the room of its token, on its
// machine, until its end; and Jicofo does not hear of anything else. The four tests that follow show this.

// aSession begins with a host inside, who has a session for the room, and a guest outside. The tokens end when they say.
func aSession(t *testing.T) (b *gate, host, guest *person, id string) {
	t.Helper()
	b = beforeJicofo(t, setup{policy: exact})
	host, guest = b.person("meet.example.com"), b.person("guest.meet.example.com")
	id = host.session(host.iq("set", domain, request(room, mint(t, nil), "")))
	host.must("joins", host.joins(room), "owner moderator")
	return b, host, guest, id
}

func TestSessionOpensNoOtherRoom(t *testing.T) {
	t.Parallel()
	b, host, guest, id := aSession(t)
	host.must("asks for another room by the session", host.shows(other, id), invalid)
	guest.must("asks for another room by the host's session", guest.shows(other, id), invalid)
	// Nor rooms with a similar name, of another service, or of a tenant.
	for _, other := range []string{"standup2@" + service, "standup@conference.example.com", "[acme]standup@" + service, "%73tandup2@" + service} {
		if got := guest.shows(other, id); got == "ready" || strings.HasPrefix(got, "not ready") {
			t.Errorf("%s: %s", other, got)
		}
	}
	// Nothing of that has let anybody in. Without the session, the one who was refused is a guest.
	invariants(b, room, map[string]string{host.BareJID(): "owner"})
	guest.must("asks as a guest", guest.asks(other, ""), absent)
	b.onlyAsked(room)
	b.ends(room, host)
	if b.sees(other).Exists {
		t.Error("the other room has been opened")
	}
}

func TestSessionIsOfOneMachine(t *testing.T) {
	t.Parallel()
	b, host, guest, id := aSession(t)
	for name, attributes := range map[string]string{
		"from another machine":       "machine-uid='ffffffffffffffffffffffffffffffff' session-id='%s'",
		"from no machine":            "session-id='%s'",
		"with a machine of its case": "machine-uid='" + strings.ToUpper(machine) + "' session-id='%s'",
		"with half an id":            "machine-uid='" + machine + "' session-id='" + id[:len(id)/2] + "' x='%s'",
	} {
		answer := guest.with(room, fmt.Sprintf(attributes, id))
		guest.must("asks "+name, outcome(answer), invalid)
		if answer.Find("session-invalid", nsFocus).IsZero() {
			t.Errorf("a client does not drop its session on %s", answer)
		}
	}
	invariants(b, room, map[string]string{host.BareJID(): "owner"})

	// On that machine it stands for this room, for the same person's second connection.
	guest.must("asks by the session of their own login", guest.shows(room, id), "ready")
	guest.must("joins", guest.joins(room), "owner moderator")
	invariants(b, room, map[string]string{host.BareJID(): "owner", guest.BareJID(): "owner"})
	b.onlyAsked(room)
	b.ends(room, host, guest)
}

func TestSessionEndsWithLogout(t *testing.T) {
	t.Parallel()
	b, host, guest, id := aSession(t)
	guest.must("asks by the session of their own login", guest.shows(room, id), "ready")
	guest.must("joins", guest.joins(room), "owner moderator")
	if answer := host.iq("set", domain, "<logout xmlns='"+nsFocus+"' session-id='"+id+"'/>"); answer.Attr["type"] != "result" {
		t.Fatalf("logout: %s", answer)
	}
	// On every connection.
	host.must("asks after logout", host.shows(room, id), invalid)
	guest.must("asks after logout", guest.shows(room, id), invalid)
	guest.must("asks after logout, for another room", guest.shows(other, id), invalid)
	b.onlyAsked(room)
	b.ends(room, host, guest)
}

func TestSessionEndsWithItsToken(t *testing.T) {
	t.Parallel()
	b, host, _, _ := aSession(t)
	brief := func(c *token.Claims) { c.Expires = b.now().Add(10 * time.Minute) }
	late := b.person("meet.example.com")
	id := late.session(late.iq("set", domain, request(room, mint(t, brief), "")))
	late.must("joins", late.joins(room), "owner moderator")
	late.must("asks by the session before it ends", late.shows(room, id), "ready")
	b.forward(10 * time.Minute)
	late.must("asks by the session after it has ended", late.shows(room, id), invalid)
	late.must("asks after expiry, for another room", late.shows(other, id), invalid)
	invariants(b, room, map[string]string{host.BareJID(): "owner", late.BareJID(): "owner"})
	b.onlyAsked(room)
	b.ends(room, host, late)
}

// 9.2: the holder of a token for room B asks for room A. Jicofo looks at the domain only and opens A before the server refuses the
// holder. The guests who wait for A's host then come in (lib-jitsi-meet#1427, #1200). With usher Jicofo is not asked.
func TestTokenForOneRoomOpensNoOther(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{})
	guest, stranger := b.person("guest.meet.example.com"), b.person("meet.example.com")
	held := b.waiting(guest, room, "")
	stranger.must("asks", stranger.asks(room, mint(t, forRoom("board"))), "forbidden room-mismatch")
	stranger.must("joins all the same", stranger.joins(room), "not-allowed")
	b.forward(waitHold)
	b.told(held, absent)
	guest.must("joins all the same", guest.joins(room), "not-allowed")
	if b.sees(room).Exists {
		t.Error("the room has been opened")
	}
	b.onlyAsked()

	// Nor does that person get into the room once it is open.
	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	stranger.must("asks", stranger.asks(room, mint(t, forRoom("board"))), "forbidden room-mismatch")
	stranger.must("joins all the same", stranger.joins(room), "registration-required")
	invariants(b, room, map[string]string{host.BareJID(): "owner"})
	b.onlyAsked(room)
	b.ends(room, host)
}

// 9.3: allow_empty_token lets people without a token in, and wait_for_host takes everybody on the main virtual host for a host. With
// both, as in the handbook, everybody who adds ?login=true to the address owns the room (docker#268, lib-jitsi-meet#1057). With
// usher they are guests, on every virtual host.
func TestNoHostWithoutToken(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{policy: func(p *auth.Policy) {
		v := p.VHosts["meet.example.com"]
		v.AllowEmptyToken = true
		p.VHosts["meet.example.com"] = v
	}})
	someone, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	heldSomeone, heldGuest := b.waiting(someone, room, ""), b.waiting(guest, room, "")
	someone.must("joins all the same", someone.joins(room), "not-allowed")
	if b.sees(room).Exists {
		t.Error("the room has been opened")
	}
	b.onlyAsked()

	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	b.told(heldSomeone, "ready")
	b.told(heldGuest, "ready")
	someone.must("joins", someone.joins(room), "member participant")
	guest.must("joins", guest.joins(room), "member participant")
	invariants(b, room, map[string]string{host.BareJID(): "owner", someone.BareJID(): "member", guest.BareJID(): "member"})

	// When the host has gone they are still no hosts, though somebody of the main virtual host is inside.
	host.leaves(room)
	another := b.person("guest.meet.example.com")
	another.must("asks when the host has left", another.asks(room, ""), absent)
	another.must("joins all the same", another.joins(room), "registration-required")
	invariants(b, room, map[string]string{someone.BareJID(): "member", guest.BareJID(): "member", host.BareJID(): gone})
	b.ends(room, someone, guest)
}

// 9.4: tokens for hosts, guests without one, and a waiting room for these: three things that were never made for each other
// (jitsi-meet#2317, #9057, #11967; docker#143: no waiting dialog; docker#776: guests open rooms; docker#1369). With usher
// the guest's dialog comes at once, the host's arrival ends it at once, and guests of other rooms go on waiting.
func TestGuestsWaitForTheHost(t *testing.T) {
	t.Parallel()
	const other = "board@" + service
	b := beforeJicofo(t, setup{})
	guest, elsewhere := b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
	answer := guest.iq("set", domain, request(room, "", ""))
	if outcome(answer) != absent || answer.ErrorText() == "" {
		t.Errorf("no dialog on %s", answer)
	}
	patient := b.person("guest.meet.example.com")
	held, heldElsewhere := b.waiting(patient, room, ""), b.waiting(elsewhere, other, "")

	stranger := b.person("meet.example.com")
	stranger.must("asks without a token", stranger.asks(room, ""), "not-authorized token-required")
	old := mint(t, func(c *token.Claims) { c.Expires = time.Now().Add(-time.Minute) })
	stranger.must("asks with an old token", stranger.asks(room, old), "forbidden token-expired")
	b.onlyAsked()

	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	b.told(held, "ready")
	guest.must("asks again", guest.asks(room, ""), "ready")
	guest.must("joins", guest.joins(room), "member participant")
	select {
	case got := <-heldElsewhere:
		t.Errorf("a guest of another room is told %s", got)
	default:
	}
	elsewhere.must("joins all the same", elsewhere.joins(other), "not-allowed")
	invariants(b, room, map[string]string{host.BareJID(): "owner", guest.BareJID(): "member", patient.BareJID(): "member"})
	b.onlyAsked(room)

	second := b.person("meet.example.com")
	second.enters(other, mint(t, forRoom("board")))
	b.told(heldElsewhere, "ready")
	elsewhere.must("joins", elsewhere.joins(other), "member participant")
	invariants(b, other, map[string]string{second.BareJID(): "owner", elsewhere.BareJID(): "member"})
	b.ends(room, host, guest)
	b.ends(other, second, elsewhere)
}

// 9.5: everybody is moderator, because of one of four that promote without asking (docker#242, #1730, contrib#29,
// jitsi-admin#488; jicofo#564: waiting guests all become owners). Two of them are
// Jicofo's: its election of an owner, and its own authentication, which makes owners of all people of a domain. With usher's
// enforce_roles both are put back, and neither ends anybody's waiting.
func TestNobodyIsModeratorByJicofo(t *testing.T) {
	t.Parallel()
	for name, jicofo := range map[string]func(*prosodytest.JicofoOptions){
		"enable-auto-owner": func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
		"authentication":    func(o *prosodytest.JicofoOptions) { o.TrustedDomain = "meet.example.com" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{jicofo: jicofo, options: func(o *component.Options) { o.EnforceRoles = true }})
			const again = "neither usher nor a host made this owner"
			putBack := func(p *person) {
				t.Helper()
				b.eventually(p.nick+" is made owner and put back", func() bool {
					for _, e := range b.log.All() {
						if strings.Contains(e.Message, p.BareJID()+" was owner and is member again") && strings.Contains(fmt.Sprint(e.ContextMap()), again) {
							return b.sees(room).Affiliations[p.BareJID()] == "member"
						}
					}
					return false
				})
			}
			guest, latecomer := b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
			held := b.waiting(guest, room, "")
			plain := b.person("meet.example.com") // has a token, and is no host by it
			plain.enters(room, mint(t, member))
			putBack(plain)
			latecomer.must("asks", latecomer.asks(room, ""), absent)
			select {
			case got := <-held:
				t.Fatalf("the guest is told %s without a host", got)
			default:
			}
			invariants(b, room, map[string]string{plain.BareJID(): "member"})

			host := b.person("meet.example.com")
			host.enters(room, mint(t, nil))
			b.told(held, "ready")
			guest.must("joins", guest.joins(room), "member participant")
			b.looks(host, room)
			b.eventually("roles are right", func() bool {
				v := b.sees(room)
				return v.Affiliations[plain.BareJID()] == "member" && v.Affiliations[host.BareJID()] == "owner"
			})
			allowed := map[string]string{plain.BareJID(): "member", host.BareJID(): "owner", guest.BareJID(): "member"}
			invariants(b, room, allowed)

			// Everybody who comes makes Jicofo promote again.
			another := b.person("guest.meet.example.com")
			another.enters(room, "")
			allowed[another.BareJID()] = "member"
			b.looks(host, room)
			invariants(b, room, allowed)
			another.leaves(room)

			// What a host does on purpose stays, also at once after somebody came.
			if name == "enable-auto-owner" {
				var quick *person
				b.betweenLooks(func() {
					quick = b.person("guest.meet.example.com")
					quick.enters(room, "")
					host.makesOwner(room, quick)
				})
				b.looks(host, room)
				allowed[quick.BareJID()] = "owner"
				if v := invariants(b, room, allowed); v.Affiliations[quick.BareJID()] != "owner" {
					t.Errorf("the host made somebody a moderator as they came, who is none: %s", v)
				}
				quick.leaves(room)
			}
			b.betweenLooks(func() { host.makesOwner(room, guest) })
			b.looks(host, room)
			allowed[guest.BareJID()] = "owner"
			if v := invariants(b, room, allowed); v.Affiliations[guest.BareJID()] != "owner" {
				t.Errorf("the guest was made a moderator by the host, and is none: %s", v)
			}
			// And counts: the host may leave.
			plain.leaves(room)
			host.leaves(room)
			latecomer.must("asks while that moderator is inside", latecomer.asks(room, ""), "ready")
			latecomer.must("joins", latecomer.joins(room), "member participant")
			allowed[latecomer.BareJID()], allowed[plain.BareJID()], allowed[host.BareJID()] = "member", "member", gone
			invariants(b, room, allowed)
			b.ends(room, guest, latecomer)
		})
	}
}

// betweenLooks has something done that usher could mistake for Jicofo's if it were just asking who is an owner (muc, roles): its clock
// stands, so that no look begins, and a look under way ends while somebody logs in.
func (g *gate) betweenLooks(do func()) {
	g.t.Helper()
	g.stands()
	defer g.runs()
	g.person("guest.meet.example.com")
	do()
}

// makesOwner grants somebody moderator, as Jitsi's menu calls it.
func (p *person) makesOwner(room string, who *person) {
	p.g.t.Helper()
	grant := "<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='owner' jid='" + who.BareJID() + "'/></query>"
	if answer := p.iq("set", room, grant); answer.Attr["type"] != "result" {
		p.g.t.Fatalf("grant moderator: %s", answer)
	}
}

// Without enforce_roles nobody is put back, but one warning for each room says what Jicofo does and what ends it.
func TestJicofoIsWarnedOf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		jicofo func(*prosodytest.JicofoOptions)
		says   string
	}{
		"enable-auto-owner": {func(o *prosodytest.JicofoOptions) { o.AutoOwner = true }, "ENABLE_AUTO_OWNER=0"},
		"authentication":    {func(o *prosodytest.JicofoOptions) { o.TrustedDomain = "meet.example.com" }, "JICOFO_ENABLE_AUTH=0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{jicofo: tt.jicofo})
			plain := b.person("meet.example.com")
			plain.enters(room, mint(t, member))
			warnings := func() (all []string) {
				for _, e := range b.log.All() {
					if e.Level == zap.WarnLevel && strings.Contains(fmt.Sprint(e.ContextMap()), tt.says) {
						all = append(all, fmt.Sprint(e.Message, e.ContextMap()))
					}
				}
				return all
			}
			b.inTime("a warning", func() bool { return len(warnings()) > 0 })
			if all := warnings(); len(all) != 1 || !strings.Contains(all[0], room) || !strings.Contains(all[0], "enforce_roles: true") {
				t.Errorf("warned %q", all)
			}
			if a := b.sees(room).Affiliations[plain.BareJID()]; a != "owner" {
				t.Errorf("Jicofo made an owner, who is %s", a)
			}
		})
	}
}

// In jicofo#564 all guests who had waited became owners when the host left: Jicofo elects its next owner among those inside.
func TestWaitingGuestsDoNotBecomeOwners(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{
		jicofo:  func(o *prosodytest.JicofoOptions) { o.AutoOwner = true },
		options: func(o *component.Options) { o.EnforceRoles = true },
	})
	host := b.person("meet.example.com")
	guests := []*person{b.person("guest.meet.example.com"), b.person("guest.meet.example.com"), b.person("guest.meet.example.com")}
	allowed := map[string]string{host.BareJID(): "owner"}
	var held []<-chan prosodytest.Stanza
	for _, g := range guests {
		held = append(held, b.waiting(g, room, ""))
		allowed[g.BareJID()] = "member"
	}
	host.enters(room, mint(t, nil))
	for i, g := range guests {
		b.told(held[i], "ready")
		g.must("joins", g.joins(room), "member participant")
	}
	b.looks(host, room)
	invariants(b, room, allowed)
	host.leaves(room)
	allowed[host.BareJID()] = gone
	message := guests[0].BareJID() + " was owner and is member again"
	if e := b.logged(message); e.Level.String() != "warn" {
		t.Errorf("logged as %s", e.Level)
	}
	late := b.person("guest.meet.example.com")
	late.must("asks", late.asks(room, ""), absent)
	b.inTime("nobody is owner", func() bool { return b.sees(room).Affiliations[guests[0].BareJID()] == "member" })
	invariants(b, room, allowed)
	b.ends(room, guests...)
}

// 9.6: a token for one room does not open its breakout rooms (jitsi-meet#11075, #14482), a moderator who comes back from one is none
// any more (jitsi-meet#17433, docker#2215), and who became moderator by logging in cannot go to one (jitsi-meet#15024). With
// usher what one is in the main room one is in its breakout rooms.
func TestModeratorsInBreakoutRooms(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: withBreakouts, server: passwords})
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	single := mint(t, nil) // for this room, not *
	host.enters(room, single)
	guest.enters(room, "")
	cell := host.adds("cell")
	allowed := map[string]string{host.BareJID(): "owner", guest.BareJID(): "member"}

	// There and back, and there again.
	for range 2 {
		host.moves(room, cell, single, "owner moderator")
		invariants(b, cell, allowed)
		if v := b.sees(room); v.Affiliations[host.BareJID()] != "owner" {
			t.Errorf("while in the breakout room: %s", v)
		}
		host.moves(cell, room, single, "owner moderator")
		invariants(b, room, allowed)
	}

	// The guest logs in on a second connection and is moderator on the first; also where they go now, with nothing but the session.
	login := b.person("users.example.com")
	id := login.session(login.iq("set", domain, request(room, "", "")))
	guest.must("asks by the session of the login", guest.shows(room, id), "ready")
	allowed[guest.BareJID()] = "owner"
	allowed[login.BareJID()] = gone // they never come in with that connection
	b.eventually("the guest is moderator", func() bool { return b.sees(room).Occupant(guest.JID()).Role == "moderator" })
	guest.leaves(room)
	guest.must("asks for the breakout room", guest.shows(cell, id), "ready")
	guest.must("joins", guest.joins(cell), "owner moderator")
	invariants(b, cell, allowed)
	tomb := guest.adds("tomb") // which is for moderators
	guest.leaves(cell)
	guest.must("asks for their own breakout room", guest.shows(tomb, id), "ready")
	guest.must("joins", guest.joins(tomb), "owner moderator")
	guest.leaves(tomb)
	guest.must("asks to come back", guest.shows(room, id), "ready")
	guest.must("comes back", guest.joins(room), "owner moderator")
	invariants(b, room, allowed)
	b.ends(room, host, guest)
}

// 9.7: Jitsi has either passwords (secure domain) or tokens, with Jicofo's authentication on for the one and off for the other
// (handbook; docker-jitsi-meet contradicts it). With usher a host with a password, members and hosts with tokens, and guests are in one
// room. It does not matter which host comes first.
func TestPasswordsTokensAndGuestsAtOnce(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{server: passwords})
	guest, plain := b.person("guest.meet.example.com"), b.person("meet.example.com")
	held := b.waiting(guest, room, "")
	romeo := b.person("users.example.com")
	id := romeo.session(romeo.iq("set", domain, request(room, "", "")))
	romeo.must("joins", romeo.joins(room), "owner moderator")
	b.told(held, "ready")
	guest.must("joins", guest.joins(room), "member participant")
	plain.enters(room, mint(t, member))
	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	allowed := map[string]string{
		romeo.BareJID(): "owner", host.BareJID(): "owner", plain.BareJID(): "member", guest.BareJID(): "member",
	}
	invariants(b, room, allowed)

	// I am the host: a guest logs in by password on a second connection and goes on on the first.
	guest.must("asks by the session of the login", guest.shows(room, id), "ready")
	b.eventually("the guest is host", func() bool { return b.sees(room).Occupant(guest.JID()).Role == "moderator" })
	allowed[guest.BareJID()] = "owner"
	// A password is one for all rooms, the session that is given for it is not.
	guest.must("asks for another room by the session", guest.shows("board@"+service, id), invalid)
	plain.must("asks for another room by that session, with a token", plain.asks("board@"+service, mint(t, member)), "forbidden room-mismatch")
	invariants(b, room, allowed)
	b.onlyAsked(room)
	b.ends(room, romeo, host, plain, guest)
}

// 9.9: Jitsi checks a token at the login only, so its end while people are inside causes trouble (jitsi-meet#14242,
// lib-jitsi-meet#2434, jitsi-meet#2033). usher checks it each time somebody is let in: after waiting, and at the join itself. People
// inside stay.
func TestTokenEnds(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{policy: func(p *auth.Policy) {
		exact(p)
		p.WaitForHost = auth.MembersWait
	}})
	const life = waitHold / 2
	brief := func(c *token.Claims) { member(c); c.Expires = b.now().Add(life) }
	// While waiting. The same token is good before, and the host comes when it is not any more.
	waits := b.person("meet.example.com")
	tok := mint(t, brief)
	held := b.waiting(waits, room, tok)
	b.forward(life)
	waits.must("asks for another room", waits.asks("board@"+service, tok), "forbidden token-expired")
	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	b.told(held, "forbidden token-expired")
	waits.must("joins all the same", waits.joins(room), "registration-required")
	allowed := map[string]string{host.BareJID(): "owner"}
	invariants(b, room, allowed)

	// Between the answer and the join.
	slow, inside := b.person("meet.example.com"), b.person("meet.example.com")
	tok = mint(t, brief)
	slow.must("asks", slow.asks(room, tok), "ready")
	id := inside.session(inside.iq("set", domain, request(room, tok, "")))
	inside.must("joins", inside.joins(room), "member participant")
	if got := b.sees(room).Affiliations[slow.BareJID()]; got != "member" {
		t.Errorf("let in and not inside: %q", got)
	}
	b.forward(life)
	b.inTime("what was given to who has not come ends with the token", func() bool {
		return b.sees(room).Affiliations[slow.BareJID()] == ""
	})
	slow.must("joins too late", slow.joins(room), "registration-required")
	slow.must("asks too late", slow.asks(room, tok), "forbidden token-expired")

	// The session ends with it; who is inside stays, and cannot come back.
	inside.must("asks by the session", inside.shows(room, id), invalid)
	allowed[inside.BareJID()] = "member"
	if v := invariants(b, room, allowed); v.Occupant(inside.JID()).Role != "participant" {
		t.Errorf("who was inside is not any more: %s", v)
	}
	inside.must("asks by the token", inside.asks(room, tok), "forbidden token-expired")
	b.ends(room, host, inside)
}

// tokenLike is the beginning of a token. A resource is shorter.
var tokenLike = regexp.MustCompile(`eyJ[\w-]{16}`)
