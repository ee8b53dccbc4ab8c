package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// jicofoScene has the names of prosodytest.JitsiConfig.
var jicofoScene = func() scene {
	s := demoScene
	s.account, s.lobby, s.breakout = "focus@auth.meet.example.com", "lobby.meet.example.com", "breakout.meet.example.com"
	return s
}()

// jitsi is the server as it is under a Jitsi Meet.
func (s *stage) jitsi() prosodytest.JitsiOptions {
	return prosodytest.JitsiOptions{
		Secret: s.componentSecret, Password: s.password,
		// The cast has nicks and no display names.
		Lobby: true, NoDisplayNameCheck: true, Breakout: true,
		Global: "network_settings = { nagle = false }",
	}
}

// beforeJicofo makes of the plain demo's server one with Jicofo's account and the lobby and breakout services.
func (s *stage) beforeJicofo(plain prosodytest.Options) prosodytest.Options {
	o := s.jitsi().Options()
	o.Config += fmt.Sprintf("VirtualHost %q\nauthentication = \"internal_hashed\"\n", s.users)
	for jid, password := range plain.Users {
		o.Users[jid] = password
	}
	o.LogLevel = plain.LogLevel
	return o
}

// castBeforeJicofo makes of the plain demo's parts those that are played before Jicofo.
func (s *stage) castBeforeJicofo(plain []part, owner string) []part {
	find := func(name string) int { return slices.IndexFunc(plain, func(p part) bool { return p.name == name }) }
	again := slices.IndexFunc(plain, func(p part) bool { return p.who == "that guest again" })
	guest := plain[again]
	guest.who, guest.early = "that guest, held", true
	plain = slices.Delete(plain, again, again+1)
	plain = slices.Insert(plain, find("host")+1, guest)
	plain = slices.Insert(plain, find("late")+1,
		part{who: "host by session", name: "host", vhost: s.tokens, shows: "session id", session: true, expected: hostEnters},
		part{who: "session, other room", name: "host", vhost: s.tokens, shows: "session id", session: true,
			room: "elsewhere@" + s.service, expected: "deny " + string(auth.ReasonSessionInvalid)},
	)
	if !s.module {
		plain = slices.Insert(plain, find("rude")+1,
			part{who: "and once more", name: "rude", vhost: s.guests, shows: "none", rude: true, expected: "registration-required",
				before: "the host makes the room open to all, and usher makes it members-only again", scene: opens},
		)
	}
	if s.breakout != "" {
		plain = append(plain,
			part{who: "member, breakout room", name: "member", vhost: s.tokens, shows: "none", expected: memberEnters,
				before: "the host makes a breakout room, and the member leaves the main room", scene: splits},
			part{who: "stranger, same room", name: "stranger", vhost: s.guests, shows: "none",
				expected: "deny " + string(auth.ReasonRoomMismatch),
				scene:    func(_ context.Context, a *audience, p *part) error { p.room = a.sideRoom; return nil }},
		)
	}
	if s.lobby != "" {
		plain = append(plain, part{who: "guest at the lobby", name: "knocker", vhost: s.guests, shows: "none", expected: memberEnters,
			before: "the host turns the lobby on", scene: turnsLobbyOn})
	}
	return append(plain,
		part{who: "host without Jicofo", name: "second", vhost: s.tokens, shows: "owner", attr: owner, expected: "not ready",
			before: "Jicofo goes away", scene: func(_ context.Context, a *audience, _ *part) error { a.jicofo.Close(); return nil }},
		part{who: "that host again", name: "second", vhost: s.tokens, shows: "owner", attr: owner, expected: hostEnters,
			before: "Jicofo is back", scene: func(ctx context.Context, a *audience, _ *part) error {
				if err := a.jicofo.Restart(ctx, ""); err != nil {
					return err
				}
				return a.connected(ctx)
			}},
	)
}

// membersOnly has the host switch members-only.
func membersOnly(ctx context.Context, a *audience, on string) error {
	answer, err := a.clients["host"].IQ(ctx, "set", a.room(), "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"+
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"+
		"<field var='muc#roomconfig_membersonly'><value>"+on+"</value></field></x></query>")
	if err == nil && answer.Attr["type"] != "result" {
		err = fmt.Errorf("the host cannot configure the room: %s", answer.ErrorCondition())
	}
	return err
}

// opens has the host switch members-only off, and returns when the room says that somebody has switched it again. Who is
// inside without having been let in is removed by the server then (status 322).
func opens(ctx context.Context, a *audience, _ *part) error {
	host := a.clients["host"]
	host.Drain()
	if err := membersOnly(ctx, a, "0"); err != nil {
		return err
	}
	for range 2 {
		_, err := host.Await(ctx, func(s prosodytest.Stanza) bool {
			return s.Name == "message" && s.Attr["from"] == a.room() && s.HasStatus("104")
		})
		if err != nil {
			return fmt.Errorf("the room stays open: %w", err)
		}
	}
	return nil
}

// splits has the host make a breakout room, to which the member is about to move.
func splits(ctx context.Context, a *audience, p *part) (err error) {
	if a.sideRoom, err = a.clients["host"].AddBreakout(ctx, a.breakout, "the side room"); err != nil {
		return err
	}
	p.room = a.sideRoom
	return leaves(p.name)(ctx, a, p)
}

// turnsLobbyOn has the host turn the lobby on and enter it, to see who knocks.
func turnsLobbyOn(ctx context.Context, a *audience, _ *part) error {
	if err := membersOnly(ctx, a, "1"); err != nil {
		return err
	}
	own, err := a.clients["host"].Join(ctx, a.lobbyRoom(), "host")
	if err == nil && own.Attr["type"] == "error" {
		err = fmt.Errorf("the host cannot enter the lobby: %s", own.ErrorCondition())
	}
	return err
}

func (s scene) lobbyRoom() string { return strings.Replace(s.room(), s.service, s.lobby, 1) }

// knock does what a client does that is sent to a lobby: it enters it, waits until somebody lets it in, and joins the room.
// It returns the answer to that, or refused if that sends it to no lobby.
func (a *audience) knock(ctx context.Context, c *prosodytest.Client, p part, refused prosodytest.Stanza) (prosodytest.Stanza, error) {
	lobby := refused.Find("lobbyroom", "http://jitsi.org/jitmeet").Text
	if lobby == "" {
		return refused, nil
	}
	if own, err := c.Join(ctx, lobby, p.name); err != nil || own.Attr["type"] == "error" {
		return own, err
	}
	host := a.clients["host"]
	knocking, err := host.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "presence" && s.Attr["from"] == lobby+"/"+p.name
	})
	if err != nil {
		return refused, fmt.Errorf("the host does not see who knocks: %w", err)
	}
	const user = "http://jabber.org/protocol/muc#user"
	if err := host.Send("<message to='" + p.room + "'><x xmlns='" + user + "'><invite to='" + knocking.Find("item", user).Attr["jid"] + "'/></x></message>"); err != nil {
		return refused, err
	}
	_, err = c.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "message" && s.Attr["from"] == p.room && !s.Find("invite", user).IsZero()
	})
	if err != nil {
		return refused, fmt.Errorf("nobody is let in: %w", err)
	}
	return c.Join(ctx, p.room, p.name)
}
