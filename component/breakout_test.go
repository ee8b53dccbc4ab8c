package component_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// adds has somebody inside make a breakout room.
func (p *person) adds(name string) string {
	p.g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	room, err := p.AddBreakout(ctx, breakoutMUC, name)
	if err != nil {
		p.g.t.Fatal(err)
	}
	return room
}

// removes has somebody inside remove a breakout room, and returns when the server has done so.
func (p *person) removes(room string) {
	p.g.t.Helper()
	p.Sends("<message to='" + breakoutMUC + "'><breakout_rooms type='features/breakout-rooms/remove' breakoutRoomJid='" + room + "'/></message>")
	p.iq("get", breakoutMUC, "<ping xmlns='urn:xmpp:ping'/>") // whatever the answer, it comes after
}

// moves goes from one room to another as a client does, which says that it changes rooms.
func (p *person) moves(from, to, tok, want string) {
	p.g.t.Helper()
	p.Sends(fmt.Sprintf("<presence type='unavailable' to='%s/%s'><status>switch_room</status></presence>", from, p.nick))
	p.Receives(fmt.Sprintf("<presence type='unavailable' from='%s/%s'/>", from, p.nick))
	p.must("asks to move to "+to, p.asks(to, tok), "ready")
	p.must("moves to "+to, p.joins(to), want)
}

func breakouts(p *auth.Policy) { p.Breakout = breakoutMUC }

// grantsNothingOn checks that usher has given nothing in a breakout room: all that is written down of it is its main room.
func (g *gate) grantsNothingOn(breakout string) {
	g.t.Helper()
	for r, err := range g.store.All(context.Background(), store.KindGrant) {
		if err != nil {
			g.t.Fatal(err)
		}
		if strings.HasPrefix(r.Key, breakout+" ") && !strings.Contains(string(r.Value), `"Affiliation":""`) {
			g.t.Errorf("a grant on the breakout service: %s", r.Value)
		}
	}
}

// usher finds the main room of a tenant's breakout room, although the plugin spells its name as clients do.
func TestBreakoutOfTenant(t *testing.T) {
	t.Parallel()
	const main = "[acme]standup@" + service
	b := beforeJicofo(t, setup{JitsiOptions: withBreakouts})
	acme := func(c *token.Claims) { c.Subject = "acme" }
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(main, mint(t, acme))
	guest.enters(main, "")
	breakout := host.adds("a group")
	guest.moves(main, breakout, "", "member participant")
	host.moves(main, breakout, mint(t, acme), "owner moderator")
	b.eventually("both are shown in the breakout room, and nobody in the main room", func() bool {
		v, err := b.usher.Room(t.Context(), breakout)
		m, merr := b.usher.Room(t.Context(), main)
		return err == nil && v.Open && v.Hosts == 1 && v.Guests == 1 && merr == nil && m.Open && m.Hosts+m.Guests == 0
	})
	stranger := b.person("guest.meet.example.com")
	stranger.must("asks for it", stranger.asks(breakout, ""), "forbidden room-mismatch")
}

// Everybody who was let into the main room may enter its breakout rooms: by a token for the main room alone, or as a guest.
// Affiliations there are the main room's; usher sets none.
func TestBreakout(t *testing.T) {
	t.Parallel()
	const other = "board@" + service
	b := beforeJicofo(t, setup{JitsiOptions: withBreakouts})
	host, plain, guest := b.person("meet.example.com"), b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	plain.enters(room, mint(t, member))
	guest.enters(room, "")
	allowed := map[string]string{host.BareJID(): "owner", plain.BareJID(): "member", guest.BareJID(): "member"}
	cell := host.adds("cell")
	if b.sees(cell).Exists {
		t.Fatal("the breakout room is there before anybody asked")
	}

	// Nobody else opens it: a person with a token for another room, who may even be inside there; a guest of nowhere; one with
	// a token for all rooms who is in none.
	stranger, visitor := b.person("meet.example.com"), b.person("guest.meet.example.com")
	const refused = "forbidden room-mismatch"
	stranger.must("asks", stranger.asks(cell, mint(t, forRoom("board"))), refused)
	stranger.must("asks with a token for the main room, in which they are not", stranger.asks(cell, mint(t, nil)), refused)
	stranger.must("asks with a token for all rooms", stranger.asks(cell, mint(t, forRoom("*"))), refused)
	visitor.must("asks", visitor.asks(cell, ""), refused)
	b.onlyAsked(room)
	if b.sees(cell).Exists {
		t.Fatal("a stranger has had the breakout room opened")
	}
	// A bad token is a bad token, for somebody inside, too; and so is a session of nobody.
	old := mint(t, func(c *token.Claims) { c.Expires = time.Now().Add(-time.Minute) })
	plain.must("asks with an old token", plain.asks(cell, old), "forbidden token-expired")
	plain.must("asks with a session of nobody", plain.shows(cell, "invented"), invalid)
	// The breakout service says what its rooms are, and no main room is one.
	guest.must("asks for what is no room of it", guest.asks("@"+breakoutMUC, ""), "forbidden room-unknown")

	plain.moves(room, cell, mint(t, member), "member participant")
	guest.moves(room, cell, "", "member participant")
	host.moves(room, cell, mint(t, nil), "owner moderator")
	invariants(b, cell, allowed)
	b.grantsNothingOn(cell)

	// In the breakout room of another main room they hold nothing, and those who do are none here.
	second := b.person("meet.example.com")
	second.enters(other, mint(t, forRoom("board")))
	yard := second.adds("yard")
	second.must("asks for the first room's", second.asks(cell, mint(t, forRoom("board"))), refused)
	second.must("joins all the same", second.joins(cell), "not-allowed")
	guest.must("asks for the other's", guest.asks(yard, ""), refused)
	guest.must("joins all the same", guest.joins(yard), "not-allowed")
	invariants(b, cell, allowed)
	invariants(b, yard, map[string]string{second.BareJID(): gone})
	second.moves(other, yard, mint(t, forRoom("board")), "owner moderator")
	invariants(b, yard, map[string]string{second.BareJID(): "owner"})

	// Back again, each as who they are.
	host.moves(cell, room, mint(t, nil), "owner moderator")
	plain.moves(cell, room, mint(t, member), "member participant")
	guest.moves(cell, room, "", "member participant")
	invariants(b, room, allowed)
	b.grantsNothingOn(cell)
	b.grantsNothingOn(yard)
	second.leaves(yard)
	b.ends(room, host, plain, guest)
	b.ends(other)

	// The room can be opened again, by a host and nobody else, and nothing is left of what was before.
	guest.must("asks for the main room that has ended", guest.asks(room, ""), absent)
	guest.must("asks for a breakout room that has ended", guest.asks(cell, ""), refused)
	host.must("asks for a breakout room that has ended", host.asks(cell, mint(t, nil)), refused)
	host.enters(room, mint(t, nil))
	invariants(b, room, map[string]string{host.BareJID(): "owner"})
	b.ends(room, host)
}

// A breakout room that names no main room, or a main room in which the sender has no grant, is refused. A client cannot claim
// otherwise.
func TestForgedBreakout(t *testing.T) {
	t.Parallel()
	// Here the service has no plugin, so rooms come to be for the asking, and say whatever they are told to.
	forms := `
	Component "breakout.meet.example.com" "muc"
	storage = "memory"
	restrict_room_creation = true
	muc_room_locking = false
	muc_room_default_public_jids = true
	admins = { "focus@auth.meet.example.com", "focus@focus.meet.example.com", "focus.meet.example.com", "observer@auth.meet.example.com" }
	modules_enabled = { "prosodytest_forged" }
	`
	folder := prosodyModule(t, "prosodytest_forged", `
	local forms = {
		none = false; -- no fields
		unsaid = { is = true };
		empty = { is = true, main = "" };
		mine = { is = true, main = "standup@conference.meet.example.com" };
		full = { is = true, main = "standup@conference.meet.example.com/nick" };
		not_one = { is = false, main = "standup@conference.meet.example.com" };
		theirs = { is = true, main = "board@conference.meet.example.com" };
		elsewhere = { is = true, main = "standup@conference.example.org" };
		itself = { is = true, main = "itself@breakout.meet.example.com" };
		odd = { is = true, main = "@@//" };
	};
	module:hook("muc-config-form", function (event)
		local said = forms[require "util.jid".node(event.room.jid)];
		if said then
			table.insert(event.form, { name = "muc#roominfo_isbreakout", type = "boolean", value = said.is });
			if said.main then
				table.insert(event.form, { name = "muc#roominfo_breakout_main_room", type = "text-single", value = said.main });
			end
		end
	end);
	`)
	b := beforeJicofo(t, setup{
		JitsiOptions: prosodytest.JitsiOptions{Conference: forms, PluginPaths: []string{folder}},
		policy:       breakouts,
		options:      func(o *component.Options) { o.EnforceRoles = true },
	})
	host, second := b.person("meet.example.com"), b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	second.enters("board@"+service, mint(t, forRoom("board")))
	for name, want := range map[string]string{
		"none": "forbidden room-mismatch", "unsaid": "forbidden room-mismatch", "empty": "forbidden room-mismatch",
		"theirs": "forbidden room-mismatch", "elsewhere": "forbidden room-mismatch", "itself": "forbidden room-mismatch",
		"not_one": "forbidden room-mismatch", "mine": "ready", "full": "ready", "odd": "not ready",
	} {
		breakout := name + "@" + breakoutMUC
		answer := host.with(breakout, "machine-uid='"+machine+"' token='"+mint(t, nil)+"'")
		if got := outcome(answer); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		b.grantsNothingOn(breakout)
		if v := b.sees(breakout); len(v.Affiliations) > 1 { // Jicofo's
			t.Errorf("%s: %s", name, v)
		}
	}
	invariants(b, room, map[string]string{host.BareJID(): "owner"})
}

// A guest who was let in from the lobby by a moderator goes to breakout rooms like everybody else.
func TestBreakoutFromLobby(t *testing.T) {
	t.Parallel()
	o := withLobby(t)
	o.Breakout = true
	b := beforeJicofo(t, setup{JitsiOptions: o})
	host, guest := b.person("meet.example.com"), b.person("guest.meet.example.com")
	host.must("asks", host.asks(room, mint(t, nil)), "ready")
	host.must("joins", host.named(room), "owner moderator")
	b.switches(host, true)
	guest.must("asks", guest.asks(room, ""), "ready")
	guest.must("joins", guest.named(room), knock)
	group := host.adds("a group")
	guest.must("asks while still knocking", guest.asks(group, ""), "forbidden room-mismatch")
	b.onlyAsked(room)
	host.opensTo(guest, room)
	guest.must("joins", guest.named(room), "member participant")
	guest.moves(room, group, "", "member participant")
}

const removed = "item-not-found room-removed"

// usher refuses a breakout room that was removed or never existed, and does not ask Jicofo, which never answers for a room that it
// cannot enter. An empty breakout room is opened again.
func TestBreakoutRemoved(t *testing.T) {
	t.Parallel()
	for _, meetingID := range []bool{false, true} {
		t.Run(fmt.Sprintf("muc_meeting_id %t", meetingID), func(t *testing.T) {
			t.Parallel()
			b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{Breakout: true, MeetingID: meetingID}})
			host, guest, third := b.person("meet.example.com"), b.person("guest.meet.example.com"), b.person("guest.meet.example.com")
			host.enters(room, mint(t, nil))
			guest.enters(room, "")
			third.enters(room, "")
			cell, unused, kept := host.adds("cell"), host.adds("unused"), host.adds("kept")

			guest.moves(room, cell, "", "member participant")
			if v := b.sees(cell); len(v.Occupants) != 2 {
				t.Fatalf("the breakout room is %s", v)
			}
			// Others ask while somebody is inside, who stays.
			third.moves(room, cell, "", "member participant")
			if v := b.sees(cell); len(v.Occupants) != 3 {
				t.Fatalf("the breakout room is %s", v)
			}
			guest.moves(cell, room, "", "member participant")
			third.moves(cell, room, "", "member participant")
			b.eventually("the breakout room is empty", func() bool { b.jicofo.StopWaiting(); return !b.sees(cell).Exists })
			guest.moves(room, cell, "", "member participant")

			host.removes(unused)
			host.removes(cell)
			guest.Receives("<presence type='unavailable' from='" + cell + "/" + guest.nick + "'/>")
			asked := len(b.jicofo.Requests())
			for _, gone := range []string{cell, unused, "never-was@" + breakoutMUC} {
				answer := guest.iq("set", domain, request(gone, "", ""))
				guest.must("asks for "+gone, outcome(answer), removed)
				if !answer.Find("reservation-error", nsFocus).IsZero() {
					t.Errorf("the page would not offer to join again: %s", answer)
				}
				if b.sees(gone).Exists {
					t.Errorf("%s has been made", gone)
				}
			}
			host.must("asks, too", host.asks(cell, mint(t, nil)), removed)
			if n := len(b.jicofo.Requests()); n != asked || len(b.jicofo.Exceptions()) > 0 {
				t.Errorf("Jicofo was asked %d times, with %v", n-asked, b.jicofo.Exceptions())
			}
			guest.must("joins the main room again", guest.joins(room), "member participant")
			third.moves(room, kept, "", "member participant")
		})
	}
}

// Several people go to an unopened breakout room at once: usher tries the room before it asks Jicofo, and all get in.
func TestBreakoutForAllAtOnce(t *testing.T) {
	t.Parallel()
	b := beforeJicofo(t, setup{JitsiOptions: prosodytest.JitsiOptions{Breakout: true, MeetingID: true}})
	host := b.person("meet.example.com")
	host.enters(room, mint(t, nil))
	var people []*person
	for range 7 {
		guest := b.person("guest.meet.example.com")
		guest.enters(room, "")
		people = append(people, guest)
	}
	cell := host.adds("cell")
	var answers []<-chan prosodytest.Stanza
	for _, p := range people {
		answers = append(answers, p.answerTo(request(cell, "", "")))
	}
	for i, p := range people {
		p.must("asks", outcome(b.answered(answers[i])), "ready")
		p.must("joins", p.joins(cell), "member participant")
	}
	if v := b.sees(cell); len(v.Occupants) != 1+len(people) {
		t.Errorf("the breakout room is %s", v)
	}
	if ex := b.jicofo.Exceptions(); len(ex) > 0 {
		t.Errorf("Jicofo could not enter: %v", ex)
	}
}
