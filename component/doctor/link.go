package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"mellium.im/xmpp/ping"
	xmppstream "mellium.im/xmpp/stream"

	"github.com/xmpp-usher/usher/component/stream"
	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/pkg/element"
)

// strong is the number of bytes that a shared secret should have: that of the hash of HS256 (RFC 7518 §3.2).
const strong = 32

const (
	// howToMakeSecret mends a short secret.
	howToMakeSecret = "make one with: openssl rand -hex 32"
	// hangs mends a server that answers nothing.
	hangs = "read Prosody's log, and see whether Prosody hangs"
)

func (x *examination) secret(context.Context, subject) finding {
	if n := len(x.o.Secret); n < strong {
		return warn(howToMakeSecret+", the same for usher's xmpp.secret and Prosody's component_secret",
			"the component's secret has %d bytes; from %d on it cannot be guessed", n, strong)
	}
	return ok("the component's secret is long enough")
}

func (x *examination) appSecret(_ context.Context, s subject) finding {
	for _, n := range s.issuer.Secrets {
		if n < strong {
			return warn(howToMakeSecret+", the same for usher's app_secret and the issuer",
				"a shared secret has %d bytes; anybody who sees one token can guess a secret of less than %d", n, strong)
		}
	}
	if len(s.issuer.Secrets) == 0 {
		return ok("tokens are signed with keys, there is no shared secret to guess")
	}
	return ok("the shared secret is long enough")
}

func (x *examination) keys(ctx context.Context, s subject) finding {
	ctx, cancel := context.WithTimeout(ctx, patience+time.Second) // the source's own time limit ends first, and its error says more
	defer cancel()
	keys, skipped, err := s.source.Check(ctx)
	switch {
	case err != nil:
		return fail("make the source of keys reachable, or name another (public_key_files, jwks_url)",
			"the keys cannot be fetched, so no token can be verified: %v", err)
	case len(keys) == 0 && s.source.Unlisted:
		return ok("it answers; usher asks it for the key of each token")
	}
	var ids []string
	for _, k := range keys {
		if k.ID != "" {
			ids = append(ids, fmt.Sprintf("%q", k.ID))
		}
	}
	says := fmt.Sprintf("%d keys are ready", len(keys))
	if len(keys) == 1 {
		says = "1 key is ready"
	}
	if len(ids) > 0 {
		says += ", kid " + strings.Join(ids, ", ")
	}
	if len(skipped) > 0 {
		return warn("", "%s; left out: %v", says, errors.Join(skipped...))
	}
	return ok("%s", says)
}

// port also does the handshake, because one connection is enough. The next checks look at how it went.
func (x *examination) port(ctx context.Context, _ subject) finding {
	x.dialErr = x.dial(ctx)
	var unreachable *net.OpError
	if errors.As(x.dialErr, &unreachable) && unreachable.Op == "dial" {
		_, port, _ := net.SplitHostPort(x.o.Server)
		lines := fmt.Sprintf("component_ports = { %s }", port)
		if !x.local() { // by default Prosody listens on its own machine only (core/portmanager.lua)
			lines += ` and component_interfaces = { "*" }`
		}
		// docker-jitsi-meet sets component_ports = { }, which opens none (prosody.cfg.lua).
		mend := lines + " in Prosody's global section, after any other line of that name; or set the right xmpp.server here"
		if errors.Is(unreachable, syscall.ECONNREFUSED) { // the machine is there
			mend = "see whether Prosody is running (systemctl status prosody), and start it; if it is running: " + mend
		}
		return fail(mend, "nothing can be reached at %s: %v", x.o.Server, unreachable.Err)
	}
	return ok("something listens at %s", x.o.Server)
}

func (x *examination) handshake(context.Context, subject) finding {
	const write = "write Prosody's lines again (usher config prosody --output FILE), and restart Prosody: "
	const ejabberds = " (for ejabberd: usher config ejabberd --output FILE)"
	ours := fmt.Sprintf("Component %q", x.o.Domain)
	switch err := x.dialErr; {
	case err == nil, errors.Is(err, xmppstream.Conflict): // Prosody verifies the secret first
		return ok("the server knows %s and takes the secret", x.o.Domain)
	case errors.Is(err, xmppstream.NotAuthorized):
		return fail(write+"component_secret below "+ours+" must be what xmpp.secret is"+ejabberds, "the server refuses the secret")
	case errors.Is(err, xmppstream.HostUnknown):
		return fail(write+"they have "+ours+", and count only if prosody.cfg.lua includes FILE"+ejabberds+
			"; if they count, xmpp.server is not its component port (component_ports)", "the server has no component %s", x.o.Domain)
	default:
		return fail(stream.Hint(err, x.o.Domain), "could not connect as a component: %v", err)
	}
}

// conflict sees what happens to a newcomer under component_conflict_resolve = "kick_new", Prosody's default. Under "kick_old" the
// older connection ends instead, and comes back; see stays.
func (x *examination) conflict(context.Context, subject) finding {
	if x.dialErr != nil {
		return fail("stop the running usher, or what else connects by this name, during the examination",
			"another component is connected as %s: if that is usher, Prosody serves it and lets nobody else connect", x.o.Domain)
	}
	return ok("the server gives us the connection by this name")
}

// tries is how many IQs answers sends. ejabberd takes one of the connections of a name at random, for the IQ and again for its answer. So
// beside one other component each comes back with a chance of a quarter: of sixty some do, of twelve sometimes none.
const tries = 60

// answers sends IQs to ourselves through the server. ejabberd knows no conflict: if another component is connected by this name, it
// gets its share of them.
func (x *examination) answers(ctx context.Context, _ subject) finding {
	errs := make([]error, tries)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = x.ask(ctx, x.o.Domain, element.New(ping.NS, "ping"), nil) })
	}
	all.Wait()
	lost := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	switch {
	case len(lost) == 0:
		return ok("the server passes stanzas on")
	case len(lost) < tries && ctx.Err() == nil && !x.ended():
		return fail("stop the running usher, or what else connects by this name, during the examination",
			"some stanzas for %s went elsewhere: another component is connected by this name, and the server deals them out by turns", x.o.Domain)
	}
	if ctx.Err() == nil {
		x.silent = lost[0]
	}
	return fail(hangs, "the server passes no stanzas on: %s", because(lost[0]))
}

// stays reports whether the connection has lasted, and watches it a little longer.
func (x *examination) stays(ctx context.Context, _ subject) finding {
	watch := time.NewTimer(x.o.Watch)
	defer watch.Stop()
	select {
	case <-x.conn.Ended():
	case <-ctx.Done():
	case <-watch.C:
	}
	switch err := x.conn.Err(); {
	case err == nil && x.silent != nil:
		return fail(hangs, "the server has stopped answering: %s", because(x.silent))
	case err == nil && ctx.Err() != nil:
		return fail("see whether Prosody's machine is overloaded", "the server answers so slowly that the examination took too long")
	case err == nil:
		return ok("the connection was ours to the end")
	case displaced(err) && x.o.Shared:
		return fail("stop the ushers of this domain, the one that stands by as well, during the examination",
			"another component took the connection while we were connected")
	case displaced(err):
		return fail(`run one usher only, and none during the examination; component_conflict_resolve = "kick_new" (the default) keeps the first`,
			"another component took the connection while we were connected: two ushers would fight for it")
	default:
		return fail("read Prosody's log", "the connection ended: %v", err)
	}
}

// standby connects once more, as an usher does that takes over from one that is frozen: its connection stays open.
func (x *examination) standby(ctx context.Context, _ subject) finding {
	if len(x.left) > 0 {
		return skipped("there are rooms to be removed by this connection")
	}
	second, err := dial(ctx, x.o.Server, x.o.Domain, x.o.Secret)
	switch {
	case err == nil:
		ended, end := context.WithCancel(ctx)
		end()
		_ = second.run(ended) // which closes it
	case displaced(err):
		return fail(gate.KickOld.Line(), "the server refuses a second connection while there is one: a standby could not take over from an usher that is frozen")
	default:
		return fail("read Prosody's log", "a second connection failed: %v", err)
	}
	return ok("a second connection takes the place of the first one, so a standby can take over from an usher that is frozen")
}

// displaced reports whether another component took the connection.
func displaced(err error) bool { return errors.Is(err, xmppstream.Conflict) }
