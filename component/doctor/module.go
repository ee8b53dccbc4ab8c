package doctor

import (
	"context"
	"errors"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// telling is how long usher's module may take to tell of all rooms that there are.
const telling = 30 * time.Second

// module finds out whether usher's module hears usher, of which version it is, and whether it tells. Without rooms.enforcement: module it
// need not be there, and then nothing is said. In front of no Jicofo usher is inside each room, and is not told what it sees itself.
func (x *examination) module(ctx context.Context, s subject) finding {
	version, err := x.moduleVersion(ctx, s.jid)
	switch {
	case err != nil && (!x.o.Module || x.isEjabberd(ctx)):
		return finding{}
	case errors.Is(err, context.DeadlineExceeded):
		return warn("see Prosody's log, and restart Prosody", "usher's module does not answer usher (no answer), so "+withoutModule)
	case err != nil:
		return warn(below(s, gate.TellsTo(x.o.Domain.String()).Line())+
			", and usher's module of today in a folder of plugin_paths (usher config prosody --output FILE and --module DIR); then restart Prosody",
			"usher's module does not know usher (%s): it is older than this usher, or usher_component is not %s; so "+withoutModule, because(err), x.o.Domain)
	}
	if f := x.modulesAge(version); f != (finding{}) {
		return f
	}
	if !x.outside() {
		return ok("usher's module, version %s, takes what usher gives", version)
	}
	if !x.tells(ctx, s.jid) {
		return warn("see Prosody's log, and restart Prosody",
			"usher's module, version %s, does not tell of all rooms within %s, so usher must ask them, which is slower", version, x.o.Telling)
	}
	return ok("usher's module, version %s, takes what usher gives, and tells what happens", version)
}

// withoutModule is what usher does without its module.
const withoutModule = "usher must ask the rooms, which is slower, and sets no features of tokens"

// moduleVersion asks usher's module for its version.
func (x *examination) moduleVersion(ctx context.Context, service jid.JID) (string, error) {
	var answer struct {
		Version string `xml:"version,attr"`
	}
	iq := stanza.IQ{Type: stanza.GetIQ, From: x.focus.Bare(), To: service}
	err := x.iq(ctx, iq, element.Empty(muc.NSModule, "listen", element.NewAttr("tell", "nothing")), &answer)
	return answer.Version, err
}

// modulesAge judges the version of usher's module; the zero finding if it is the one that this usher knows.
func (x *examination) modulesAge(version string) finding {
	is, err := strconv.Atoi(version)
	known, _ := strconv.Atoi(x.o.ModuleVersion)
	switch {
	case err == nil && is > known:
		return warn("upgrade usher, or write its module again (usher config prosody --module DIR) and restart Prosody",
			"usher's module has version %s, which is newer than this usher: it knows %s", version, x.o.ModuleVersion)
	case err != nil || is < known:
		return warn("write usher's module again (usher config prosody --module DIR), and restart Prosody",
			"usher's module has version %q, which is older than this usher: it knows %s", version, x.o.ModuleVersion)
	}
	return finding{}
}

// tells listens to usher's module as usher does, and reports whether it tells of all rooms.
func (x *examination) tells(ctx context.Context, service jid.JID) bool {
	ctx, cancel := context.WithTimeout(ctx, x.o.Telling)
	defer cancel()
	told := x.conn.told
	x.conn.tells.Still() // it rang of another service
	var g errgroup.Group
	told.Use([]jid.JID{service})
	g.Go(func() error { told.Listen(ctx); return nil })
	var all bool
	select {
	case <-x.conn.tells:
		all = true
	case <-x.conn.Ended():
	case <-ctx.Done():
	}
	cancel()
	_ = g.Wait() // never fails
	told.Reset()
	_, _ = x.moduleVersion(context.WithoutCancel(ctx), service) // which also ends the telling
	return all
}
