package muc

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"mellium.im/xmpp/jid"
	"pgregory.net/rapid"
)

var (
	stateNames = map[state]string{
		stateAsked: "asked", stateRenewed: "renewed", stateDoomed: "doomed", stateOutcast: "outcast", stateGiven: "given",
		stateJoined: "joined", stateAway: "away", stateWithdrawn: "withdrawn", stateTaking: "taking",
	}
	eventNames = map[event]string{
		eventCame: "came", eventLeft: "left", eventMissed: "missed", eventAnswered: "answered", eventRefused: "refused",
		eventWithdraw: "withdraw", eventBanned: "banned", eventUnbanned: "unbanned", eventTake: "take", eventNotTaken: "not taken",
	}
)

// Every change of a grant's state, and no other, as "state event: next".
func TestGrantStep(t *testing.T) {
	want := map[string]bool{}
	for _, line := range []string{
		"asked came: renewed", "asked answered: given", "asked refused: withdrawn", "asked withdraw: doomed", "asked banned: outcast",
		"renewed left: asked", "renewed answered: joined", "renewed refused: withdrawn", "renewed withdraw: doomed", "renewed banned: outcast",
		"doomed answered: withdrawn", "doomed refused: withdrawn", "doomed banned: outcast",
		"outcast unbanned: doomed",
		"given came: joined", "given withdraw: withdrawn",
		"joined left: given", "joined missed: away", "joined withdraw: withdrawn",
		"away came: joined", "away withdraw: withdrawn",
		"withdrawn take: taking",
		"taking not taken: withdrawn",
	} {
		want[line] = true
	}
	reached := map[state]bool{stateAsked: true}
	for s := range state(len(stateNames)) {
		for e := range event(len(eventNames)) {
			next := s.step(e)
			if next == s {
				continue
			}
			line := fmt.Sprintf("%s %s: %s", stateNames[s], eventNames[e], stateNames[next])
			if !want[line] {
				t.Errorf("%s", line)
			}
			delete(want, line)
			reached[next] = true
		}
	}
	for line := range want {
		t.Errorf("not: %s", line)
	}
	if len(reached) != len(stateNames) {
		t.Errorf("only %v are reached", reached)
	}
}

// A grant's state against facts that are noted one by one: whether the server has answered, where the holder is, and whether the
// grant is to end.
func TestGrantModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := &grant{Grant: &Grant{NeedsHost: true}}
		var answered, inside, missed, ending, banned, taking bool
		t.Repeat(map[string]func(*rapid.T){
			"came":   func(*rapid.T) { g.on(eventCame); inside, missed = true, false },
			"left":   func(*rapid.T) { g.on(eventLeft); inside = inside && missed },
			"missed": func(*rapid.T) { g.on(eventMissed); missed = inside && answered },
			"answered": func(*rapid.T) {
				if answered || banned {
					return // the methods Grant drop it in that case
				}
				err := map[bool]error{true: errWithdrawn}[rapid.Bool().Draw(t, "refused")]
				g.answer(err)
				answered, ending = true, ending || err != nil
			},
			"withdraw": func(*rapid.T) { g.on(eventWithdraw); ending = true },
			"banned": func(*rapid.T) {
				if g.on(eventBanned); !answered {
					banned = true
				}
			},
			"unbanned": func(*rapid.T) {
				if g.on(eventUnbanned); banned {
					banned, ending = false, true
				}
			},
			"take":      func(*rapid.T) { g.on(eventTake); taking = answered && ending },
			"not taken": func(*rapid.T) { g.on(eventNotTaken); taking = false },
			"": func(t *rapid.T) {
				for what, is := range map[string][2]bool{
					"asking":  {g.state.asking(), !answered},
					"held":    {g.state.held(), answered && !ending},
					"ending":  {g.state.ending(), ending && !banned},
					"awaited": {g.state.awaited(), !inside && !ending && !banned},
					"inside":  {g.state == stateRenewed || g.state == stateJoined, inside && !missed && !ending && !banned},
					"away":    {g.state == stateAway, inside && missed && !ending && !banned},
					"hangs":   {g.hangs(), !inside && !ending && !banned},
					"outcast": {g.state == stateOutcast, banned},
					"taking":  {g.state == stateTaking, taking},
				} {
					if is[0] != is[1] {
						t.Fatalf("%s is %s: %t", stateNames[g.state], what, is[0])
					}
				}
			},
		})
	})
}

// Somebody is banned while their renewed grant cannot be written down: their earlier grant has ended, also for the ledger.
func TestBannedWhileUnwritten(t *testing.T) {
	b := newBook()
	give := Grant{Room: jid.MustParse("standup@conference.meet.example.com"), Who: jid.MustParse("romeo@meet.example.com"), Affiliation: "member"}
	for banned, left := range map[bool]int{true: 0, false: 1} {
		gs := newGrants(give.Room, &Options{Ledger: b, Now: time.Now})
		b.fails(nil)
		was := newGrant(give, time.Now())
		if err := gs.write(t.Context(), was, nil); err != nil {
			t.Fatal(err)
		}
		again := newGrant(give, time.Now())
		gs.put(give.Who.String(), again)
		b.fails(errors.New("no answer"))
		err := gs.write(t.Context(), again, nil)
		if banned {
			again.on(eventBanned)
		}
		if err := gs.unwritten(again, was, err); !errors.Is(err, ErrUnwritten) {
			t.Error(err)
		}
		if len(gs.live) != left || len(b.all()) != left {
			t.Errorf("banned %t: live are %d, the ledger has %d, want %d", banned, len(gs.live), len(b.all()), left)
		}
	}
}

// Somebody leaves while their renewed grant cannot be written down: their earlier grant waits for them, and ends if they do not come.
func TestLeftWhileUnwritten(t *testing.T) {
	b := newBook()
	give := Grant{Room: jid.MustParse(standup), Who: jid.MustParse(romeo), Affiliation: "member"}
	gs := newGrants(give.Room, &Options{Ledger: b, Now: time.Now})
	was, again := newGrant(give, time.Now()), newGrant(give, time.Now())
	for _, g := range []*grant{was, again} {
		g.on(eventCame)
	}
	was.answer(nil)
	gs.put(romeo, again)
	again.on(eventLeft)
	if err := gs.unwritten(again, was, errors.New("full")); !errors.Is(err, ErrUnwritten) || gs.live[romeo] != was || was.state != stateGiven {
		t.Errorf("%v; the earlier grant is %s", err, stateNames[was.state])
	}
}
