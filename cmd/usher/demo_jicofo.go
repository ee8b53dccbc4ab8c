package main

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// jicofoScene has the names of prosodytest.JitsiConfig.
var jicofoScene = func() scene {
	s := demoScene
	s.account, s.lobby, s.breakout = "focus@auth.meet.example.com", "lobby.meet.example.com", "breakout.meet.example.com"
	s.module = true
	return s
}()

// jitsi are the options of a server as Jitsi Meet runs on it.
func (s *stage) jitsi() prosodytest.JitsiOptions {
	return prosodytest.JitsiOptions{
		Secret: s.componentSecret, Password: s.password,
		// The cast has nicks and no display names.
		Lobby: true, NoDisplayNameCheck: true, Breakout: true,
		Global: "network_settings = { nagle = false }",
	}
}

// beforeJicofo returns the options of a server that also has Jicofo's account, the lobby and breakout services, and usher's module.
func (s *stage) beforeJicofo(plain prosodytest.Options) prosodytest.Options {
	o := s.jitsi().Options()
	o.Configure = func(server *prosodytest.Server) string {
		folder := filepath.Join(server.Dir, "modules")
		_, s.unwritten = module.Write(folder)
		j, tells := s.jitsi(), gate.TellsTo(s.focus)
		j.Open, j.PluginPaths, j.Modules, j.BreakoutModules = true, []string{folder}, []string{module.Name}, []string{module.Name}
		host, port, _ := net.SplitHostPort(server.ComponentAddr)
		j.Global += fmt.Sprintf("\n%s\ncomponent_ports = { %s }\ncomponent_interfaces = { %q }", tells.Line(), port, host)
		return prosodytest.JitsiConfig(j) + fmt.Sprintf("VirtualHost %q\nauthentication = \"internal_hashed\"\n", s.users)
	}
	for jid, password := range plain.Users {
		o.Users[jid] = password
	}
	o.LogLevel = plain.LogLevel
	return o
}

// castBeforeJicofo changes the parts of the plain demo into those of the demo with Jicofo.
func (s *stage) castBeforeJicofo(plain []part, owner string) []part {
	find := func(name string) int { return slices.IndexFunc(plain, func(p part) bool { return p.name == name }) }
	again := slices.IndexFunc(plain, func(p part) bool { return p.who == "the same guest again" })
	guest := plain[again]
	guest.who, guest.early = "the same guest, held", true
	plain = slices.Delete(plain, again, again+1)
	plain = slices.Insert(plain, find("host")+1, guest)
	plain = slices.Insert(plain, find("late")+1,
		part{who: "host by session", name: "host", vhost: s.tokens, shows: "session id", session: true, expected: hostEnters},
		part{who: "session, another room", name: "host", vhost: s.tokens, shows: "session id", session: true,
			room: "elsewhere@" + s.service, expected: "deny: " + string(auth.ReasonSessionInvalid)},
	)
	rude := part{who: "joins again", name: "rude", vhost: s.guests, shows: "none", rude: true, expected: s.refusedBy("registration-required"),
		before: "the host makes the room open to all, and usher makes it members-only again", prepare: opens}
	if s.module {
		rude.before = "the host makes the room open to all, and usher's module keeps strangers out"
		rude.prepare = func(ctx context.Context, on *players, _ *part) error { return membersOnly(ctx, on, "0") }
	}
	plain = slices.Insert(plain, find("rude")+1, rude)
	if s.breakout != "" {
		plain = append(plain,
			part{who: "member, breakout room", name: "member", vhost: s.tokens, shows: "none", expected: memberEnters,
				before: "the host makes a breakout room, and the member leaves the main room", prepare: splits},
			part{who: "stranger, same room", name: "stranger", vhost: s.guests, shows: "none",
				expected: "deny: " + string(auth.ReasonRoomMismatch),
				prepare:  func(_ context.Context, on *players, p *part) error { p.room = on.sideRoom; return nil }},
		)
	}
	if s.lobby != "" {
		plain = append(plain, part{who: "guest at the lobby", name: "knocker", vhost: s.guests, shows: "none", expected: memberEnters,
			before: "the host turns the lobby on", prepare: turnsLobbyOn})
	}
	return append(plain,
		part{who: "host without Jicofo", name: "second", vhost: s.tokens, shows: "owner", attr: owner, expected: "not ready",
			before: "Jicofo goes away", prepare: func(_ context.Context, on *players, _ *part) error { on.jicofo.Close(); return nil }},
		part{who: "the same host again", name: "second", vhost: s.tokens, shows: "owner", attr: owner, expected: hostEnters,
			before: "Jicofo is back", prepare: func(ctx context.Context, on *players, _ *part) error {
				if err := on.jicofo.Restart(ctx, ""); err != nil {
					return err
				}
				return on.connected(ctx)
			}},
	)
}

// membersOnly makes the host switch members-only on ("1") or off ("0").
func membersOnly(ctx context.Context, on *players, value string) error {
	answer, err := on.clients["host"].IQ(ctx, "set", on.room(), "<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>"+
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"+
		"<field var='muc#roomconfig_membersonly'><value>"+value+"</value></field></x></query>")
	if err == nil && answer.Attr["type"] != "result" {
		err = fmt.Errorf("the host cannot configure the room: %s", answer.ErrorCondition())
	}
	return err
}

// opens makes the host switch members-only off, and returns when usher has switched it on again: the room announces each
// change (status 104). The server then removes all occupants without an affiliation (status 322).
func opens(ctx context.Context, on *players, _ *part) error {
	host := on.clients["host"]
	host.Drain()
	if err := membersOnly(ctx, on, "0"); err != nil {
		return err
	}
	for range 2 {
		_, err := host.Await(ctx, func(s prosodytest.Stanza) bool {
			return s.Name == "message" && s.Attr["from"] == on.room() && s.HasStatus("104")
		})
		if err != nil {
			return fmt.Errorf("the room stays open: %w", err)
		}
	}
	return nil
}

// splits makes the host create a breakout room, and the member leave for it.
func splits(ctx context.Context, on *players, p *part) (err error) {
	if on.sideRoom, err = on.clients["host"].AddBreakout(ctx, on.breakout, "the side room"); err != nil {
		return err
	}
	p.room = on.sideRoom
	return leaves(p.name)(ctx, on, p)
}

// turnsLobbyOn makes the host turn the lobby on and enter it, where it sees the guests that knock.
func turnsLobbyOn(ctx context.Context, on *players, _ *part) error {
	if err := membersOnly(ctx, on, "1"); err != nil {
		return err
	}
	own, err := on.clients["host"].Join(ctx, on.lobbyRoom(), "host")
	if err == nil && own.Attr["type"] == "error" {
		err = fmt.Errorf("the host cannot enter the lobby: %s", own.ErrorCondition())
	}
	return err
}

func (s scene) lobbyRoom() string { return strings.Replace(s.room(), s.service, s.lobby, 1) }

// knock enters the lobby that a refused join points to, makes the host let the client in, and joins the room again. It returns
// the answer to the last join. If the refusal points to no lobby, knock returns the refusal.
func (on *players) knock(ctx context.Context, c *prosodytest.Client, p part, refused prosodytest.Stanza) (prosodytest.Stanza, error) {
	lobby := refused.Find("lobbyroom", "http://jitsi.org/jitmeet").Text
	if lobby == "" {
		return refused, nil
	}
	if own, err := c.Join(ctx, lobby, p.name); err != nil || own.Attr["type"] == "error" {
		return own, err
	}
	host := on.clients["host"]
	knocking, err := host.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "presence" && s.Attr["from"] == lobby+"/"+p.name
	})
	if err != nil {
		return refused, fmt.Errorf("the host does not see the guest knock: %w", err)
	}
	const user = "http://jabber.org/protocol/muc#user"
	if err := host.Send("<message to='" + p.room + "'><x xmlns='" + user + "'><invite to='" + knocking.Find("item", user).Attr["jid"] + "'/></x></message>"); err != nil {
		return refused, err
	}
	_, err = c.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "message" && s.Attr["from"] == p.room && !s.Find("invite", user).IsZero()
	})
	if err != nil {
		return refused, fmt.Errorf("the room does not let the guest in: %w", err)
	}
	return c.Join(ctx, p.room, p.name)
}
