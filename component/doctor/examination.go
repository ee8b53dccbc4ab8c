package doctor

import (
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"
	"mellium.im/xmpp/version"

	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// cleaning is how long the doctor tries to connect again only to remove what is left.
	cleaning = 10 * time.Second
	// cleanAgain is the pause between two such attempts.
	cleanAgain = 200 * time.Millisecond
)

// examination is one run of all checks.
type examination struct {
	o               Options
	focus, stranger jid.JID // our occupants: usher, and somebody without any rights
	owner           muc.Owner

	conn    *conn
	dialErr error
	hangUp  func() // closes conn and waits for its end
	silent  error  // why the server seems to answer nothing any more

	asked   bool               // whether the server has been asked for its version
	told    version.Query      // what it has said
	prosody []int              // the numbers of its version, if that is visible and of a release
	online  jid.JID            // Jicofo's full JID, if it is online
	rooms   map[string]jid.JID // the rooms that usher has created to examine them, by service
	opened  map[string]opened  // what Jicofo did when it was asked to open a room, by service
	left    map[string]jid.JID // the rooms that have to be removed
	// blame has, by code and subject, which check is to blame for one that did not hold: itself, or another that it needs.
	blame map[string]string
}

func (x *examination) examine(ctx context.Context, report func(Check)) {
	for _, group := range checks {
		for _, s := range group.of(x.o) {
			for _, c := range group.checks {
				if f := x.make(ctx, c, s); f != (finding{}) {
					report(Check{Code: c.code, Of: s.name, Status: f.status, Says: f.says, Mend: f.mend})
				}
			}
		}
	}
}

// make makes one check, or says why not.
func (x *examination) make(ctx context.Context, c check, s subject) finding {
	skip := func(guilty, why string) finding {
		x.blame[c.code+" "+s.name] = guilty
		if c.code == module && !x.o.Module {
			return finding{}
		}
		return skipped(why)
	}
	for _, need := range c.needs {
		for _, key := range []string{need + " " + s.name, need + " "} {
			if guilty := x.blame[key]; guilty != "" {
				return skip(guilty, "the check "+guilty+" failed")
			}
		}
	}
	online := slices.Contains(c.needs, answers) && c.code != stays
	if online && ctx.Err() != nil {
		return skip(stays, "there was no time left")
	}
	if online && x.ended() {
		return skip(stays, "the server is gone")
	}
	f := c.run(x, ctx, s)
	if online && f.status != OK {
		x.listen(ctx)
	}
	switch {
	case online && f.status != OK && x.ended():
		return skip(stays, "the server is gone")
	case f.status == Fail:
		x.blame[c.code+" "+s.name] = c.code
	}
	return f
}

// dial connects, and runs the connection until hangUp.
func (x *examination) dial(ctx context.Context) error {
	conn, err := dial(ctx, x.o.Server, x.o.Domain, x.o.Secret)
	if err != nil {
		return err
	}
	x.conn, x.owner.Session = conn, conn
	// After ctx has ended the doctor still removes what is left on the server.
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error { return conn.run(own) })
	x.hangUp = func() {
		end()
		_ = g.Wait() // the check stays has told why it ended
	}
	return nil
}

// listen finds out whether the server still passes stanzas on.
func (x *examination) listen(ctx context.Context) {
	if err := x.ask(ctx, x.o.Domain, element.New(ping.NS, "ping"), nil); err != nil && ctx.Err() == nil {
		x.silent = err
	}
}

// ended reports whether nothing more can be found out.
func (x *examination) ended() bool { return x.conn != nil && x.conn.Err() != nil || x.silent != nil }

// clean removes the rooms that may be left, and ends the connection. If that has ended by itself, clean connects once more, but
// not if another component has taken the connection. What cannot be removed stays in left.
func (x *examination) clean() {
	if x.conn == nil {
		return
	}
	defer func() { x.hangUp() }()
	if len(x.left) == 0 {
		return
	}
	if x.conn.Err() != nil {
		if displaced(x.conn.Err()) {
			return
		}
		x.hangUp()
		x.hangUp = func() {}
		if x.redial() != nil {
			return
		}
		x.silent = nil
	}
	for _, room := range x.left {
		x.remove(room)
	}
	if x.conn.Err() == nil && x.silent == nil {
		clear(x.left)
	}
}

// redial connects once more. The server answers conflict as long as it has not noticed that our connection has ended, and also
// if another component has connected meanwhile. So redial tries for a while, and displaces nobody.
func (x *examination) redial() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleaning)
	defer cancel()
	for {
		err := x.dial(ctx)
		if !displaced(err) {
			return err
		}
		select {
		case <-time.After(cleanAgain):
		case <-ctx.Done():
			return err
		}
	}
}

// ask asks as our domain, and decodes the answer into v unless that is nil.
func (x *examination) ask(ctx context.Context, to jid.JID, payload xml.TokenReader, v any) error {
	return x.iq(ctx, stanza.IQ{Type: stanza.GetIQ, From: x.o.Domain, To: to}, payload, v)
}

// iq sends the IQ, waits for its answer as long as the server may take, and decodes it into v unless that is nil.
func (x *examination) iq(ctx context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return x.conn.IQ(ctx, iq, payload, v)
}

// await waits for a presence, as long as the server may take.
func (x *examination) await(ctx context.Context, match func(presence) bool) (presence, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return x.conn.await(ctx, match)
}

// because says in short why something failed: the server's own condition, if it answered with one.
func because(err error) string {
	var refused stanza.Error
	switch {
	case errors.As(err, &refused):
		return string(refused.Condition)
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	default:
		return err.Error()
	}
}

func isCondition(err error, conditions ...stanza.Condition) bool {
	var refused stanza.Error
	return errors.As(err, &refused) && slices.Contains(conditions, refused.Condition)
}

// random returns a room name that nobody else uses.
func random() string { return "usher-doctor-" + strings.ToLower(rand.Text()[:12]) }
