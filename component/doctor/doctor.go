// Package doctor examines a running XMPP server the way usher will use it: it connects as the component, asks, makes a
// room and ends it, and says of each thing that must hold whether it does, and which line of configuration mends it.
//
// All checks are in one table, checks, which reads from top to bottom in the order in which they are made. What can say nothing
// because something else failed is skipped, so that one fault shows as one failure; all else is examined.
package doctor

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/xml"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/ping"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

const (
	// patience is how long the server may take for one answer.
	patience = 5 * time.Second
	// limit is how long a whole examination may take, beside Options.Starting and Options.Watch.
	limit = time.Minute
	// cleaning is how long it may take to connect once more only to remove what was left.
	cleaning = 10 * time.Second
	// cleanAgain is the pause between two attempts to.
	cleanAgain = 200 * time.Millisecond
)

// Options say what to examine. Zero values of JIDs, and empty lists, leave their checks out.
type Options struct {
	// Server, Domain and Secret are those of component.Options.
	Server string
	Domain jid.JID
	Secret []byte
	// Services are the guarded MUC services, VHosts the configured virtual hosts.
	Services, VHosts []jid.JID
	// Lobby and Breakout are Jitsi's MUC services of that kind, Jicofo is the bare JID of the focus.
	Lobby, Breakout, Jicofo jid.JID
	// Module tells that mod_muc_affiliated_only keeps strangers out of rooms that are open, instead of rooms being members-only
	// for life. Autostart tells that usher switches the lobby on.
	Module, Autostart bool
	// EnforceRoles tells that usher puts owners back that Jicofo made.
	EnforceRoles bool
	// Opening is how long Jicofo may take to open a room, 15 s if zero. Electing is how long it may take to make an owner of a
	// newcomer it has been told of, 3 s if zero: it does so at once, but in another thread than the one that answers questions.
	Opening, Electing time.Duration
	// Starting is how long Jicofo may take to come online, 20 s if zero.
	Starting time.Duration
	// Issuers sign the tokens that count, and Sources have their keys.
	Issuers []Issuer
	Sources []Source
	// Leeway is how far clocks may differ before valid tokens are refused. Less than five seconds counts as five: the
	// server tells whole seconds.
	Leeway time.Duration
	// Watch is how long to stay connected at the end, to see whether somebody else takes the connection.
	Watch time.Duration
	// Now is the clock; nil for the machine's.
	Now func() time.Time
	// Changelog is the file in which the distribution tells what it has mended in the server's package. It counts only
	// if the server is on this machine. Empty means Debian's place for it.
	Changelog string
}

// Issuer is a party that signs tokens.
type Issuer struct {
	// Name is what the issuer is called in the report.
	Name string
	// Secrets are the lengths in bytes of its shared secrets, never the secrets themselves.
	Secrets []int
}

// Source is where keys of an issuer come from.
type Source struct {
	// Name is what the source is called in the report.
	Name string
	// Check looks what keys there are, and why others are left out.
	Check func(context.Context) (keys []auth.Key, skipped []error, err error)
	// Unlisted tells that the source cannot list its keys, but answers for each by its kid.
	Unlisted bool
}

// Status is what a check came to.
type Status string

// The statuses.
const (
	OK   Status = "ok"
	Warn Status = "warn" // it works, but
	Fail Status = "fail"
	Skip Status = "skip" // not examined, because something else failed
)

// Check is the outcome of one check.
type Check struct {
	// Code names the check and never changes. Of is what was checked, where there may be several: a domain, an issuer.
	Code string `json:"check"`
	Of   string `json:"of,omitempty"`

	Status Status `json:"status"`
	// Says is what was found, in words. Mend is the line of configuration, or the command, that mends it; empty if all is
	// well or nothing is known.
	Says string `json:"says"`
	Mend string `json:"mend,omitempty"`
}

// Connects tells that the check is one of those without which the server can be asked nothing. If it failed, all that asks the
// server is skipped because of it.
func (c Check) Connects() bool {
	return slices.Contains([]string{"port", "handshake", "conflict", answers}, c.Code)
}

// Run makes all checks, and reports each as soon as it is made. The error is ctx's, if that ended before the examination
// did. In every case Run removes what it made on the server, as far as the server lets it, and else reports what is left. All
// goroutines that it started have ended when it returns.
func Run(ctx context.Context, o Options, report func(Check)) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Opening, o.Electing, o.Starting = cmp.Or(o.Opening, opening), cmp.Or(o.Electing, electing), cmp.Or(o.Starting, starting)
	if o.Changelog == "" {
		o.Changelog = "/usr/share/doc/prosody/changelog.Debian.gz"
	}
	x := &examination{
		o: o, rooms: make(map[string]jid.JID), opened: make(map[string]opened), left: make(map[string]jid.JID),
		blame: make(map[string]string),
	}
	x.focus = address(o.Domain, muc.Nick)
	x.stranger = address(o.Domain, "stranger")
	x.owner = muc.Owner{JID: x.focus.Bare()}

	bounded, cancel := context.WithTimeout(ctx, limit+o.Starting+o.Watch)
	defer cancel()
	x.examine(bounded, func(c Check) {
		if ctx.Err() == nil {
			report(c)
		}
	})
	x.clean()
	if len(x.left) > 0 {
		report(Check{Code: "clean", Status: Warn, Mend: "restart Prosody, if they are still there",
			Says: "the connection ended, so these rooms of the doctor may be left: " + strings.Join(slices.Sorted(maps.Keys(x.left)), ", ")})
	}
	return ctx.Err()
}

// examination is one run of all checks.
type examination struct {
	o               Options
	focus, stranger jid.JID // our occupants: usher, and somebody who is nobody
	owner           muc.Owner

	conn    *conn
	dialErr error
	hangUp  func() // closes conn and waits for its end
	silent  error  // why the server is thought to answer nothing any more

	prosody []int              // the numbers of its version, if it is a released one that can be seen
	online  jid.JID            // Jicofo's full JID, if it is online
	rooms   map[string]jid.JID // those that usher has created to examine them, by service
	opened  map[string]opened  // what Jicofo did when it was asked to open one, by service
	left    map[string]jid.JID // those that have to be removed
	// blame has, by code and subject, which check is to blame for one that did not hold: itself, or another that it
	// needed.
	blame map[string]string
}

// subject is what a check is made of, where it is made of several.
type subject struct {
	name   string
	jid    jid.JID
	issuer Issuer
	source Source
}

// finding is a check's outcome without its name.
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

// check is one line of the table.
type check struct {
	code string
	// needs are the checks, of the same subject or of none, without which this one can say nothing.
	needs []string
	run   func(*examination, context.Context, subject) finding
}

// checks is all that is examined, in order: each group for each of its subjects.
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
	{once, []check{
		{stays, []string{answers}, (*examination).stays},
	}},
}

// The two checks that the order of things knows: nothing can be asked unless answers holds, and whatever happens to the
// connection later is told by stays alone.
const (
	answers = "answers"
	stays   = "stays"
)

func once(Options) []subject { return []subject{{}} }

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

func (x *examination) examine(ctx context.Context, report func(Check)) {
	for _, group := range checks {
		for _, s := range group.of(x.o) {
			for _, c := range group.checks {
				f := x.make(ctx, c, s)
				if f == (finding{}) { // there is nothing to check
					continue
				}
				report(Check{Code: c.code, Of: s.name, Status: f.status, Says: f.says, Mend: f.mend})
			}
		}
	}
}

// make makes one check, or says why not.
func (x *examination) make(ctx context.Context, c check, s subject) finding {
	skip := func(guilty, why string) finding {
		x.blame[c.code+" "+s.name] = guilty
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

// dial connects, and has the connection run until hangUp.
func (x *examination) dial(ctx context.Context) (err error) {
	x.conn, err = dial(ctx, x.o.Server, x.o.Domain, x.o.Secret)
	if err != nil {
		return err
	}
	x.owner.Session = x.conn
	// What is left on the server is removed also after ctx has ended.
	own, end := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	conn := x.conn
	g.Go(func() error { return conn.run(own) })
	x.hangUp = func() {
		end()
		_ = g.Wait() // why it ended, stays has told
	}
	return nil
}

// listen finds out whether the server still passes stanzas on, or has only stopped to.
func (x *examination) listen(ctx context.Context) {
	if err := x.ask(ctx, x.o.Domain, element.New(ping.NS, "ping"), nil); err != nil && ctx.Err() == nil {
		x.silent = err
	}
}

// ended tells that nothing more can be found out.
func (x *examination) ended() bool { return x.conn != nil && x.conn.Err() != nil || x.silent != nil }

// clean removes the rooms that may be left, and ends the connection. If that ended by itself, it is made once more, but
// not where somebody else has taken it. What cannot be removed stays in left.
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

// redial connects once more. The server may not have noticed yet that our connection has ended, and says conflict then, as it
// does if somebody else has connected meanwhile; so that is tried again for a while, and nobody is displaced.
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
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return x.conn.IQ(ctx, stanza.IQ{Type: stanza.GetIQ, From: x.o.Domain, To: to}, payload, v)
}

// await waits for a presence.
func (x *examination) await(ctx context.Context, match func(presence) bool) (presence, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return x.conn.await(ctx, match)
}

// because says in short why something could not be done: the server's own condition, where there is one.
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

// address returns the full JID by which the doctor acts as local.
func address(domain jid.JID, local string) jid.JID {
	j, _ := jid.New(local, domain.Domainpart(), "doctor") // ASCII parts of a valid domain are always valid
	return j
}

// random returns a room name that nobody else uses.
func random() string { return "usher-doctor-" + strings.ToLower(rand.Text()[:12]) }
