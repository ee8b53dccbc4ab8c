package doctor

import (
	"context"
	"fmt"
	"slices"

	"mellium.im/xmpp/jid"
)

// check is one line of the table.
type check struct {
	code string
	// needs are the checks without which this one can say nothing. They have the same subject, or none.
	needs []string
	run   func(*examination, context.Context, subject) finding
}

// subject is what a check examines, where it is made several times.
type subject struct {
	name   string
	jid    jid.JID
	issuer Issuer
	source Source
}

// finding is a check's outcome without its name. The zero value means that the check does not apply.
type finding struct {
	status     Status
	says, mend string
}

func ok(format string, args ...any) finding { return finding{OK, fmt.Sprintf(format, args...), ""} }
func warn(mend, format string, args ...any) finding {
	return finding{Warn, fmt.Sprintf(format, args...), mend}
}
func fail(mend, format string, args ...any) finding {
	return finding{Fail, fmt.Sprintf(format, args...), mend}
}
func skipped(why string) finding { return finding{Skip, "not examined, because " + why, ""} }

// checks are all checks, in order: each group for each of its subjects.
var checks = []struct {
	of     func(Options) []subject
	checks []check
}{
	{once, []check{
		{"secret", nil, (*examination).secret},
	}},
	{issuers, []check{
		{"app-secret", nil, (*examination).appSecret},
	}},
	{sources, []check{
		{"keys", nil, (*examination).keys},
	}},
	{once, []check{
		{"port", nil, (*examination).port},
		{"handshake", []string{"port"}, (*examination).handshake},
		{"conflict", []string{"handshake"}, (*examination).conflict},
		{answers, []string{"conflict"}, (*examination).answers},
	}},
	{of(func(o Options) []jid.JID { return o.VHosts }), []check{
		{"vhost", []string{answers}, (*examination).vhost},
	}},
	{once, []check{
		{"version", []string{answers}, (*examination).version},
		{"clock", []string{answers}, (*examination).clock},
	}},
	{of(func(o Options) []jid.JID { return []jid.JID{o.Jicofo} }), []check{
		{"jicofo", []string{answers}, (*examination).jicofo},
	}},
	{of(func(o Options) []jid.JID { return o.Services }), []check{
		{"service", []string{answers}, (*examination).service},
		{"creation", []string{answers, "service"}, (*examination).creation},
		{"room-create", []string{answers, "service"}, (*examination).create},
		{"room-jicofo", []string{answers, "service"}, (*examination).jicofoOpens},
		{"room-owner", []string{answers, "service"}, (*examination).owns},
		{"room-switch", []string{answers, "service"}, (*examination).switches},
		{"room-born", []string{answers, "room-create"}, (*examination).born},
		{"jicofo-auth", []string{answers, "service"}, (*examination).jicofoAuthenticates},
		{"jicofo-owner", []string{answers, "room-owner"}, (*examination).jicofoElects},
		{"room-configure", []string{answers, "room-create"}, (*examination).configure},
		{"room-stranger", []string{answers, "room-create"}, (*examination).keepsOut},
		{"room-member", []string{answers, "room-create"}, (*examination).letsIn},
		{"room-moderators", []string{answers, "room-create"}, (*examination).moderators},
		{"room-persistent", []string{answers, "room-create"}, (*examination).persistent},
		{"room-withdraw", []string{answers, "room-member"}, (*examination).withdraw},
		{"room-end", []string{answers, "room-create"}, (*examination).end},
	}},
	{of(func(o Options) []jid.JID { return []jid.JID{o.Lobby} }), []check{
		{"lobby", []string{answers}, (*examination).service},
		{"lobby-room", []string{answers, "lobby"}, (*examination).lobby},
		{"lobby-gate", nil, (*examination).lobbyGate},
	}},
	{of(func(o Options) []jid.JID { return []jid.JID{o.Breakout} }), []check{
		{"breakout", []string{answers}, (*examination).service},
	}},
	{of(func(o Options) []jid.JID { return append(slices.Clone(o.Services), o.Breakout) }), []check{
		{module, []string{answers, "service", "breakout", "room-stranger"}, (*examination).module},
	}},
	{once, []check{
		{stays, []string{answers}, (*examination).stays},
	}},
	{shared, []check{
		{standby, []string{answers, stays}, (*examination).standby},
	}},
}

// Some checks have a special place. Nothing can be asked unless answers holds, and only stays tells what happens to the connection
// later. standby may end the connection. module is about something that need not be there.
const (
	answers = "answers"
	module  = "module"
	stays   = "stays"
	standby = "standby"
)

func once(Options) []subject { return []subject{{}} }

func shared(o Options) []subject {
	if !o.Shared {
		return nil
	}
	return once(o)
}

func issuers(o Options) []subject {
	var all []subject
	for _, i := range o.Issuers {
		all = append(all, subject{name: i.Name, issuer: i})
	}
	return all
}

func sources(o Options) []subject {
	var all []subject
	for _, s := range o.Sources {
		all = append(all, subject{name: s.Name, source: s})
	}
	return all
}

// of makes each JID that is not zero a subject.
func of(jids func(Options) []jid.JID) func(Options) []subject {
	return func(o Options) []subject {
		var all []subject
		for _, j := range jids(o) {
			if !j.Equal(jid.JID{}) {
				all = append(all, subject{name: j.String(), jid: j})
			}
		}
		return all
	}
}
