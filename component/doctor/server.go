package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/disco"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/version"
	"mellium.im/xmpp/xtime"

	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// hosts are the addresses that may answer for the server itself: its virtual hosts, as far as they exist. A component has no
// modules of its own that would answer.
func (x *examination) hosts() []jid.JID {
	absent := func(j jid.JID) bool { return x.blame["vhost "+j.String()] != "" }
	all := slices.DeleteFunc(slices.Clone(x.o.VHosts), absent)
	if _, parent, ok := strings.Cut(x.o.Domain.Domainpart(), "."); ok {
		if j, err := jid.Parse(parent); err == nil && !slices.ContainsFunc(x.o.VHosts, j.Equal) {
			all = append(all, j)
		}
	}
	return all
}

// server returns the name and version that the server's hosts tell, or nothing. It asks once.
func (x *examination) server(ctx context.Context) version.Query {
	if x.asked {
		return x.told
	}
	x.asked = true
	all := make([]version.Query, len(x.hosts()))
	var g errgroup.Group // at once: a host that does not exist may take its time
	for i, host := range x.hosts() {
		g.Go(func() error { return x.ask(ctx, host, element.New(version.NS, "query"), &all[i]) })
	}
	_ = g.Wait()
	if i := slices.IndexFunc(all, func(v version.Query) bool { return v.Version != "" }); i >= 0 {
		x.told = all[i]
	}
	return x.told
}

// isEjabberd reports whether the server says that it is ejabberd. If it does not say, it counts as Prosody.
func (x *examination) isEjabberd(ctx context.Context) bool { return x.server(ctx).Name == ejabberd }

const ejabberd = "ejabberd"

// oldest is the oldest version of ejabberd with which usher is tested.
var oldest = []int{23, 1}

func (x *examination) version(ctx context.Context, _ subject) finding {
	v := x.server(ctx)
	name := v.Name + " " + v.Version
	switch {
	case v.Version == "":
		return warn(`"version" in modules_enabled of a virtual host (ejabberd: mod_version: {} below modules)`, "the server's version cannot be seen")
	case v.Name == ejabberd:
		return x.ejabberdVersion(name, v.Version)
	case v.Name != "Prosody":
		return warn("", "%q: usher is tested with Prosody and ejabberd only, and knows no advisories for other servers", name)
	}
	x.prosody, _ = numbers(v.Version)
	open, known := advisories(v.Version)
	if !known {
		return warn("", "%q: usher knows advisories for released versions only", name)
	}
	var ids, fixed []string
	for _, a := range open {
		ids = append(ids, a.id)
		if !slices.Contains(fixed, a.fixed) {
			fixed = append(fixed, a.fixed)
		}
	}
	switch {
	case len(open) == 0:
		return ok("%s; no advisory that usher knows concerns it", name)
	case x.local() && mended(x.o.Changelog, v.Version, ids):
		return ok("%s; the distribution says that its package has the fixes of %s", name, strings.Join(ids, ", "))
	}
	return warn("upgrade Prosody to "+strings.Join(fixed, ", ")+" or later, or to a package of your distribution that names these in its changelog",
		"%s has the faults %s, unless the distribution has mended them", name, strings.Join(ids, ", "))
}

// ejabberdVersion judges a version of ejabberd, and what usher can do beside it.
func (x *examination) ejabberdVersion(name, is string) finding {
	var year, month int
	_, err := fmt.Sscanf(is, "%d.%d", &year, &month)
	switch {
	case !x.o.Jicofo.Equal(jid.JID{}):
		return warn("", "%s: usher is not tested with Jicofo beside it", name)
	case err != nil || slices.Compare([]int{year, month}, oldest) < 0:
		return warn("upgrade ejabberd to 23.01 or later", "%s: usher is tested with ejabberd 23.01", name)
	}
	return ok("%s; usher knows no advisories for it", name)
}

// local reports whether the server is on this machine.
func (x *examination) local() bool {
	host, _, err := net.SplitHostPort(x.o.Server)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// leastLeeway is the precision with which the server's clock can be read.
const leastLeeway = 5 * time.Second

// clock compares our clock with the server's (XEP-0202). The clocks of the issuers would matter more, but cannot be read.
func (x *examination) clock(ctx context.Context, _ subject) finding {
	for _, host := range x.hosts() {
		var t xtime.Time
		began := x.o.Now()
		err := x.ask(ctx, host, element.New(xtime.NS, "time"), &t)
		if err != nil || t.IsZero() {
			continue
		}
		now := x.o.Now()
		differs := began.Add(now.Sub(began) / 2).Sub(t.Time).Round(time.Second).Abs()
		const mend = "let both machines follow a time server (timedatectl set-ntp true)"
		switch {
		case differs <= leastLeeway:
			return ok("our clock and the server's agree")
		case differs <= x.o.Leeway:
			return warn(mend, "our clock and the server's differ by %s", differs)
		default:
			return fail(mend, "our clock and the server's differ by %s: good tokens will be refused, or old ones accepted", differs)
		}
	}
	return warn(x.line(ctx, `"time" in modules_enabled of a virtual host`, "mod_time: {} below modules"), "the server's clock cannot be seen")
}

// unknown are the conditions with which a server answers for a host that it does not serve. Without s2s Prosody says not-allowed, and
// ejabberd forbidden.
var unknown = []stanza.Condition{
	stanza.ItemNotFound, stanza.RemoteServerNotFound, stanza.RemoteServerTimeout, stanza.NotAllowed,
}

func (x *examination) vhost(ctx context.Context, s subject) finding {
	err := x.ask(ctx, s.jid, disco.InfoQuery{}.TokenReader(), nil)
	if err != nil && (isCondition(err, unknown...) || errors.Is(err, context.DeadlineExceeded) || isCondition(err, stanza.Forbidden) && x.isEjabberd(ctx)) {
		return fail(x.line(ctx, fmt.Sprintf("VirtualHost %q", s.name), fmt.Sprintf("%q in hosts of ejabberd.yml", s.name)), "the server does not serve this virtual host (%s)", because(err))
	}
	if err != nil && !isCondition(err, stanza.ServiceUnavailable) { // the host exists, without mod_disco
		return warn("", "the virtual host answers with an unexpected error: %s", because(err))
	}
	return ok("the server serves this virtual host")
}

func (x *examination) service(ctx context.Context, s subject) finding {
	var info disco.Info
	mend := x.line(ctx, fmt.Sprintf(`Component %q "muc"`, s.name), fmt.Sprintf("%q in hosts of mod_muc", s.name))
	if err := x.ask(ctx, s.jid, disco.InfoQuery{}.TokenReader(), &info); err != nil {
		return fail(mend, "there is no such MUC service (%s)", because(err))
	}
	for _, i := range info.Identity {
		for _, f := range info.Features {
			if i.Category == "conference" && i.Type == "text" && f.Var == muc.NS {
				return ok("the MUC service answers")
			}
		}
	}
	return fail(mend, "this is no MUC service")
}

// lobby asks the lobby service, as usher does, whether a room has a lobby: one that cannot have any.
func (x *examination) lobby(ctx context.Context, s subject) finding {
	room, _ := s.jid.WithLocal(random()) // which is ASCII
	iq := stanza.IQ{Type: stanza.GetIQ, From: x.focus.Bare(), To: room}
	switch err := x.iq(ctx, iq, disco.InfoQuery{}.TokenReader(), nil); {
	case muc.Absent(err):
		return ok("the lobby service says which rooms have a lobby")
	case err == nil, isCondition(err, stanza.Forbidden):
		return fail("", "the lobby service says of every room that it has a lobby: guests would knock in vain")
	default:
		return fail("", "the lobby service does not say which rooms have a lobby (%s)", because(err))
	}
}

// lobbyGate says what members-only costs where Jitsi's lobby plugin is loaded (mod_muc_lobby_rooms.lua): the plugin cannot
// distinguish its own switch from usher's.
func (x *examination) lobbyGate(context.Context, subject) finding {
	if x.o.Module {
		return ok("members-only stays the moderators' switch for the lobby")
	}
	// The plugin looks at the room's lobby_skip_display_name_check, which only other modules set. Its option
	// muc_lobby_check_display_name_required only makes it tell clients to ask for a name.
	return warn("rooms.enforcement: module here, and in Prosody the lines of usher config prosody --module DIR",
		"rooms are members-only for life: clients show a lobby that is always on, and Jitsi's lobby refuses everybody without a "+
			"display name, which no option changes")
}
