package component

import (
	"time"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/printable"
	"github.com/xmpp-usher/usher/pkg/token"
)

// What says of what a [Report] is. The list is closed.
type What string

const (
	// Decided is each decision that Stats counts. Only such a report has a Verdict.
	Decided What = "decided"
	// HostArrived: the first host of a room is inside. HostLeft: the last one has left.
	HostArrived What = "host-arrived"
	HostLeft    What = "host-left"
	// RoomOpened: usher knows an open room that it did not know before. RoomEnded: the room is gone; Text says why if usher ended it.
	RoomOpened What = "room-opened"
	RoomEnded  What = "room-ended"
	// Joined and Left: an occupant has come into a room, or is gone from it.
	Joined What = "occupant-joined"
	Left   What = "occupant-left"
	// Expired: usher has put somebody out because their right ended.
	Expired What = "expired"
	// RevokedOut: usher has put somebody out because their right was taken back, or because an operator wanted it. Text says why.
	RevokedOut What = "revoked"
)

// Report is something that happened. It holds no token, secret or session id, and its texts are printable.
type Report struct {
	What What
	At   time.Time
	// Room is bare; zero if it cannot be read. Name and Tenant are as auth.Room has them.
	Room         jid.JID
	Name, Tenant string
	// Who is full as far as it is known, and zero in a report about nobody. VHost is the configured virtual host of Who; empty if it
	// is of none.
	Who   jid.JID
	VHost string

	Verdict     auth.Verdict
	Reason      auth.Reason
	Affiliation auth.Affiliation
	// Issuer, JTI and User name the token, as it has them but for what cannot be printed.
	Issuer, JTI, User string

	// Took is the time from the request to the answer. A request that was held counts from when it was decided again, or else from
	// its arrival. Decide and Apply are parts of Took: the rules, and what makes the decision true in the room. Only with Decided.
	Took, Decide, Apply time.Duration
	// Waited is the time from the arrival of the host to the answer, where somebody who had to wait is let in; otherwise 0.
	Waited time.Duration
	// Again says that the same person was told the same about the same room before: people who wait ask every few seconds.
	Again bool
	// Steps explain the decision rule by rule, as "usher token explain" does. They name claims of the token. Only with Decided and
	// Options.Explain.
	Steps []auth.Step
	// Text is what people were told, or why something happened.
	Text string
}

// seen is the What of what is seen in rooms.
var seen = map[muc.Seen]What{
	muc.SeenOpen: RoomOpened, muc.SeenEnd: RoomEnded, muc.SeenHost: HostArrived, muc.SeenNoHost: HostLeft,
	muc.SeenCame: Joined, muc.SeenGone: Left,
}

// sees takes in what the mode has seen in a room, and reports it unless it was so before. It does not block: rooms are locked meanwhile.
func (c *Component) sees(s muc.Sight) {
	now := c.o.Now()
	var g *live
	var as class
	if s.Who.Domainpart() != "" {
		g = c.ledger.of(s.Room, s.Who)
		as = c.classOf(s.Who, s.Moderator, g)
	}
	room := c.watch.sees(s, as, now)
	what, ok := seen[s.Seen]
	if c.o.Report == nil || s.Before || !ok {
		return
	}
	r := Report{What: what, At: now, Room: s.Room, Name: room.Name, Tenant: room.Tenant, Who: s.Who, VHost: c.vhost(s.Who), Text: shown(s.Why)}
	r.by(g)
	c.o.Report(r)
}

// classOf returns as what somebody inside counts. g is their right, nil if they have none from usher.
func (c *Component) classOf(who jid.JID, moderator bool, g *live) class {
	switch {
	case !c.policy.Load().CountsAsHost(who.Domainpart()):
		return classService
	case moderator:
		return classHost
	case g != nil && (g.by().Reason == auth.ReasonHost || g.by().Reason == auth.ReasonMember):
		return classMember
	}
	return classGuest
}

// by sets what a report says of somebody's right; nil is none.
func (r *Report) by(g *live) {
	if g != nil {
		p := g.by().proof()
		r.Affiliation = auth.Affiliation(g.Affiliation)
		r.Issuer, r.JTI, r.User = token.ForLog(p.Issuer), token.ForLog(p.ID), token.ForLog(p.User)
	}
}

// reportOut reports that usher has put somebody out.
func (c *Component) reportOut(what What, g *live, text string) {
	if c.o.Report == nil {
		return
	}
	room := g.room()
	r := Report{What: what, At: c.o.Now(), Room: g.Room, Name: room.Name, Tenant: room.Tenant, Who: g.Who, VHost: c.vhost(g.Who), Text: shown(text)}
	r.by(g)
	c.o.Report(r)
}

// reportDecision reports a decision, and notes who waits.
func (c *Component) reportDecision(r *request, d auth.Decision, took time.Duration) {
	now := c.o.Now()
	var waited time.Duration
	switch {
	case d.Room.JID.Localpart() == "":
	case d.Verdict == auth.Wait:
		c.watch.waiting(r.from, d.Room, d.Reason, now, now.Add(comesBack))
	case !focus.AsksAgain(d):
		waited = c.watch.answered(r.from, d.Room.JID, now)
	}
	if c.o.Report == nil {
		return
	}
	report := Report{
		What: Decided, At: now, Room: d.Room.JID, Name: d.Room.Name, Tenant: d.Room.Tenant, Who: r.from, VHost: c.vhost(r.from),
		Verdict: d.Verdict, Reason: d.Reason, Affiliation: d.Affiliation,
		Issuer: d.Token.Issuer, JTI: d.Token.ID, User: token.ForLog(d.Proof.User),
		Took: took, Decide: r.decide, Apply: r.apply, Steps: r.steps,
		Again: c.watch.again(r.from, d.Room.JID, d.Reason, now),
	}
	if d.Verdict == auth.Allow {
		report.Waited = waited
	} else {
		report.Text = shown(d.Told())
	}
	c.o.Report(report)
}

// vhost returns the configured virtual host of somebody; empty if there is none.
func (c *Component) vhost(who jid.JID) string {
	if c.policy.Load().Knows(who) {
		return who.Domainpart()
	}
	return ""
}

// maxText caps the texts of a report, in characters.
const maxText = 300

// shown returns a text as a report has it. Clients have written some of them.
func shown(text string) string { return printable.Cut(text, maxText, "…") }

// readable makes the texts of an explanation printable.
func readable(steps []auth.Step) []auth.Step {
	for n := range steps {
		s := &steps[n]
		s.Expected, s.Found = shown(s.Expected), shown(s.Found)
	}
	return steps
}
