//go:build linux

package faults

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// The times by which is judged. What is not said by the issue or the README is a margin for a machine with much else to do.
const (
	// waitHold and waitHoldJitsi are rooms.wait_hold and wait_hold_jitsi of the sites: for so long a request may be held.
	waitHold, waitHoldJitsi = 10 * time.Second, 20 * time.Second
	// answerWithin is how long after that an answer may take.
	answerWithin = 5 * time.Second
	// hostGone is how long the last host may have been away before a grant that hung on a host is withdrawn, and withdrawing
	// how long that may take.
	hostGone, withdrawing = 5 * time.Second, 5 * time.Second
	// joinWithin is how long somebody who was let in may take to join.
	joinWithin = 30 * time.Second
	// leftAfter is when an affiliation is left over, counted from the end of its right; a poll may be late by pollSlack.
	leftAfter, pollSlack = time.Minute, 5 * time.Second
	// leeway is that of the issuer. endsWithin is how long whoever is outside may keep the affiliation of a token that has ended, so
	// that they can come again: before Jicofo usher has to ask who is outside, every 5 s, twice. endWithin is how long it may take
	// to put out somebody who entered after that, or while an owner had opened the room.
	leeway, endsWithin, endWithin = time.Second, 15 * time.Second, 10 * time.Second
	// caughtWithin is how old a request may be that kill -9 catches before it is either held and written down or answered: that is
	// milliseconds, and longer where Jicofo takes its time or the machine has none. The summary says how old the oldest was.
	caughtWithin = 5 * time.Second
	// backWithin is how long usher may need to serve again once what kept it from that is over: 5 s, and a start of the process.
	backWithin = 15 * time.Second
)

// right is what somebody may do. It is the truth: whoever of the cast got it by a token knows what the token is worth.
type right int

const (
	nothing right = iota // never to be let in
	guest                // to be let in while a host is inside
	member               // to be let in
	host                 // to be let in, and to let guests in
)

func (r right) String() string { return [...]string{"nothing", "guest", "member", "host"}[r] }

// Of a ledger's findings, each is one of these.
const (
	wrong      = "wrong"      // admitted without a right
	left       = "left over"  // an affiliation, a minute after its end
	unanswered = "unanswered" // a request, 5 s after its hold
	broken     = "broken"     // usher itself: died, did not stop, did not come back
)

// finding is something that must not be.
type finding struct {
	what, room, who, text string
	at                    time.Time
	fault                 *fault
}

// entry is a line of the timeline.
type entry struct {
	at              time.Time
	room, who, text string
}

// span is a time, to is zero while it lasts.
type span struct{ from, to time.Time }

func (s span) meets(from, to time.Time) bool {
	return !s.from.After(to) && (s.to.IsZero() || !s.to.Before(from))
}

// visit is the time that somebody may have been inside: from when they set out to join until they are known to be outside.
type visit struct {
	room, who string
	span
}

// known is what the ledger knows of a bare JID.
type known struct {
	name    string
	right   right
	room    string    // that the right is for
	expires time.Time // zero for never
	ready   time.Time // when they were last told that they may come in
	joined  time.Time // when they last entered
	lets    bool      // as a host, others in; a moderator who is none does not
}

// ledger is what really happened on a site, written by those who did it. It judges usher by that.
type ledger struct {
	now func() time.Time

	mu       sync.Mutex
	began    time.Time
	entries  []entry
	people   map[string]*known // by bare JID
	visits   []*visit
	outages  []*span                 // usher cannot do its work, and it is not its fault
	lossy    []time.Time             // what was on its way to or from usher then is lost
	opened   map[string]span         // rooms that an owner has opened to all, until usher has closed them
	outside  map[[2]string]time.Time // since when an affiliation of somebody outside is seen, by room and bare JID
	oldest   time.Duration           // the longest that one was seen
	said     map[string]bool         // of what the observer sees, so that it is found once
	overload time.Duration           // for how long the machine had no time
	caught   time.Duration           // the greatest age of a request that was caught on its way
	findings []finding
	fault    *fault            // the latest
	of       map[string]*fault // the fault that a room is for, if it is
}

func newLedger() *ledger {
	return &ledger{
		now: time.Now, began: time.Now(), people: make(map[string]*known), opened: make(map[string]span),
		outside: make(map[[2]string]time.Time), said: make(map[string]bool), of: make(map[string]*fault), fault: new(fault),
	}
}

// note writes a line into the timeline.
func (l *ledger) note(room, who, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(room, who, format, args...)
}

func (l *ledger) noteLocked(room, who, format string, args ...any) {
	l.entries = append(l.entries, entry{l.now(), room, who, fmt.Sprintf(format, args...)})
}

// find records a finding. The caller holds mu.
func (l *ledger) find(what, room, who, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	first, _, _ := strings.Cut(text, "\n")
	l.noteLocked(room, who, "%s: %s", strings.ToUpper(what), first)
	f := cmp.Or(l.of[room], l.fault)
	l.findings = append(l.findings, finding{what, room, who, text, l.now(), f})
	f.count(what)
}

func (l *ledger) broken(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.find(broken, "", "", format, args...)
}

// begins makes a fault the latest one.
func (l *ledger) begins(f *fault) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = f
	l.noteLocked("", "", "--- %s", f.kind)
}

// isFor says that a room is for the latest fault.
func (l *ledger) isFor(room string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[room] = l.fault
}

// pinged says how long usher took for a sign of life.
func (l *ledger) pinged(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.able(from, to) == to.Sub(from) {
		l.fault.slowest = max(l.fault.slowest, to.Sub(from))
	}
}

// count counts what happened in the time of the latest fault.
func (l *ledger) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault.count(what)
}

// knows introduces somebody.
func (l *ledger) knows(bare string, k known) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.people[bare] = &k
}

// outage begins a time in which usher cannot work. end ends it.
func (l *ledger) outage() (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	o := &span{from: l.now()}
	l.outages = append(l.outages, o)
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if o.to.IsZero() {
			o.to = l.now()
		}
	}
}

// loses says that requests that are under way now cannot be answered by anybody.
func (l *ledger) loses() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lossy = append(l.lossy, l.now())
}

// able returns for how long usher could work between two moments. The caller holds mu.
func (l *ledger) able(from, to time.Time) time.Duration {
	rest := to.Sub(from)
	if rest <= 0 {
		return 0
	}
	// Outages may overlap.
	var covered []span
	for _, o := range l.outages {
		if o.meets(from, to) {
			s := *o
			if s.to.IsZero() || s.to.After(to) {
				s.to = to
			}
			if s.from.Before(from) {
				s.from = from
			}
			covered = append(covered, s)
		}
	}
	slices.SortFunc(covered, func(a, b span) int { return a.from.Compare(b.from) })
	at := from
	for _, s := range covered {
		if s.from.Before(at) {
			s.from = at
		}
		if s.to.After(s.from) {
			rest -= s.to.Sub(s.from)
			at = s.to
		}
	}
	return rest
}

// overdue reports whether a request sent at that time should have been answered by now.
func (l *ledger) overdue(sent time.Time, hold time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.able(sent, l.now()) > hold+answerWithin
}

// hostBetween reports whether a host may have been in the room at some moment between the two. The caller holds mu.
func (l *ledger) hostBetween(room string, from, to time.Time) bool {
	return slices.ContainsFunc(l.visits, func(v *visit) bool {
		k := l.people[v.who]
		return v.room == room && k != nil && k.lets && v.meets(from, to)
	})
}

// lastHost returns when the last host had left the room before a moment. The caller holds mu.
func (l *ledger) lastHost(room string, before time.Time) (gone time.Time) {
	for _, v := range l.visits {
		k := l.people[v.who]
		if v.room == room && k != nil && k.lets && !v.to.IsZero() && v.to.Before(before) && v.to.After(gone) {
			gone = v.to
		}
	}
	return gone
}

// answered judges an answer of usher. what is its outcome in words.
func (l *ledger) answered(bare, room, what string, sent time.Time, hold time.Duration, quiet bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k, now := l.people[bare], l.now()
	if !quiet {
		l.noteLocked(room, bare, "is told %s after %s", what, now.Sub(sent).Round(time.Millisecond))
	}
	if l.able(sent, now) > hold+answerWithin {
		l.find(unanswered, room, bare, "was answered only after %s", now.Sub(sent).Round(time.Millisecond))
	}
	l.fault.count("answered")
	switch {
	case strings.HasPrefix(what, "forbidden"):
		l.fault.count("refused")
	case strings.HasPrefix(what, "not-authorized"):
		l.fault.count("told to wait")
	case what != ready:
	case k.right == nothing || k.room != room:
		l.find(wrong, room, bare, "%s is told ready, and has a right to %s in %q", k.name, k.right, k.room)
	case !k.expires.IsZero() && sent.After(k.expires.Add(leeway)):
		l.find(wrong, room, bare, "%s is told ready %s after their token has ended", k.name, sent.Sub(k.expires).Round(time.Millisecond))
	case k.right == guest && !l.hostBetween(room, sent, now):
		l.find(wrong, room, bare, "%s is told ready, and no host was inside since they asked, %s ago", k.name, now.Sub(sent).Round(time.Millisecond))
	default:
		k.ready = now
	}
}

// silence judges that a request was never answered. It reports whether that is excused: it was under way when what is on its way
// is lost.
func (l *ledger) silence(bare, room string, sent time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	caught := slices.IndexFunc(l.lossy, func(at time.Time) bool {
		return sent.After(at.Add(-caughtWithin)) && sent.Before(at.Add(caughtWithin/2))
	})
	if caught >= 0 {
		l.caught = max(l.caught, l.lossy[caught].Sub(sent))
		l.noteLocked(room, bare, "is never answered: caught")
		l.fault.count("caught")
		return
	}
	l.find(unanswered, room, bare, "asked %s ago and was never answered", l.now().Sub(sent).Round(time.Millisecond))
}

// enters says that somebody sets out to join.
func (l *ledger) enters(bare, room string) *visit {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &visit{room: room, who: bare, span: span{from: l.now()}}
	l.visits = append(l.visits, v)
	return v
}

// entered judges that somebody is inside who set out on the visit. It returns why they should not be, and whether it is right all
// the same if they are put out at once.
func (l *ledger) entered(v *visit) (fault string, forNow bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.people[v.who]
	l.noteLocked(v.room, v.who, "is inside")
	fault, forNow = l.judge(k, v)
	if fault == "" {
		k.joined = l.now()
		l.fault.count("admitted")
	}
	return fault, forNow
}

func (l *ledger) judge(k *known, v *visit) (fault string, forNow bool) {
	opened := l.opened[v.room].meets(v.from, l.now()) && !l.opened[v.room].from.IsZero()
	switch {
	case k.right == nothing || k.room != v.room || k.ready.IsZero():
		return fmt.Sprintf("%s entered without having been let in", k.name), opened
	case !k.expires.IsZero() && v.from.After(k.expires) && l.able(l.outSince(v, k.expires.Add(leeway)), v.from) > endsWithin:
		return fmt.Sprintf("%s entered %s after their token had ended", k.name, v.from.Sub(k.expires).Round(time.Millisecond)), true
	case k.right != guest || l.hostBetween(v.room, v.from, l.now()):
		return "", false
	}
	gone := l.lastHost(v.room, v.from)
	if alone := l.able(gone, v.from); alone > hostGone+withdrawing {
		return fmt.Sprintf("%s entered %s after the last host had left", k.name, v.from.Sub(gone).Round(time.Millisecond)), opened
	}
	return "", false
}

// outSince returns since when somebody who sets out on a visit has been outside, but not before a moment. The caller holds mu.
func (l *ledger) outSince(next *visit, at time.Time) time.Time {
	for _, v := range l.visits {
		if v != next && v.who == next.who && v.room == next.room && v.to.After(at) {
			at = v.to
		}
	}
	return at
}

// wrongly is for when somebody is inside, and stays there, who should not be.
func (l *ledger) wrongly(v *visit, fault string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.find(wrong, v.room, v.who, "%s", fault)
}

// exits says that somebody is known to be outside.
func (l *ledger) exits(v *visit, how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.to.IsZero() {
		v.to = l.now()
		l.noteLocked(v.room, v.who, "%s", how)
	}
}

// isOver reports whether a visit has ended.
func (l *ledger) isOver(v *visit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !v.to.IsZero()
}

// forgets says that somebody has been let in no more, because the room that they were let into has gone.
func (l *ledger) forgets(bare string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.people[bare].ready = time.Time{}
}

// promotes says that a host is about to make a host of somebody.
func (l *ledger) promotes(bare string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.people[bare].right, l.people[bare].lets = host, true
}

// overloads says that the server itself, with which nothing was done, took so long: the machine had no time for it.
func (l *ledger) overloads(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.able(from, to) == to.Sub(from) {
		l.outages = append(l.outages, &span{from, to})
		l.overload += to.Sub(from)
	}
}

// refused judges that the server did not let somebody in. It counts those who were told ready in vain: a host was inside all the
// time, but for moments as of a page that is loaded anew, and nothing was wrong with usher.
func (l *ledger) refused(v *visit, condition string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.to = l.now()
	l.noteLocked(v.room, v.who, "is not let in by the server: %s", condition)
	l.fault.count("refused at the door")
	k, now := l.people[v.who], v.to
	inVain := k.right > nothing && !k.ready.IsZero() && now.Sub(k.ready) < joinWithin-withdrawing && k.joined.Before(k.ready) &&
		l.able(k.ready, now) == now.Sub(k.ready) && (k.expires.IsZero() || now.Before(k.expires))
	for at := k.ready; inVain && k.right == guest && at.Before(now); at = at.Add(time.Second) {
		inVain = l.hostBetween(v.room, at.Add(-hostGone/2), at.Add(hostGone/2))
	}
	if inVain {
		l.noteLocked(v.room, v.who, "was told ready in vain")
		l.fault.count("in vain")
	}
}

// emptied says that everybody is outside of all rooms, because the server is gone.
func (l *ledger) emptied() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, v := range l.visits {
		if v.to.IsZero() {
			v.to = l.now()
		}
	}
	clear(l.outside)
}

// opens says that an owner has opened a room to all, or that usher must have closed it by now.
func (l *ledger) opens(room string) (closed func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opened[room] = span{from: l.now()}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.opened[room] = span{l.opened[room].from, l.now()}
	}
}

// sees judges what the observer sees of a room, asked at that time.
func (l *ledger) sees(room string, view prosodytest.RoomView, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	inside := make(map[string]bool)
	for _, o := range view.Occupants {
		bare, _, _ := strings.Cut(o.JID, "/")
		inside[bare] = true
		k := l.people[bare]
		what := ""
		switch {
		case isStaff(bare):
		case k == nil:
			what = "is inside, and nobody knows them"
		case k.right < host && (o.Affiliation == "owner" || o.Affiliation == "admin" || o.Role == "moderator"):
			what = fmt.Sprintf("%s is %s and %s", k.name, o.Affiliation, o.Role)
		}
		if what != "" && !l.said[room+bare+what] {
			l.said[room+bare+what] = true
			l.find(wrong, room, bare, "%s", what)
		}
	}
	for bare, affiliation := range view.Affiliations {
		key := [2]string{room, bare}
		if isStaff(bare) || affiliation == "outcast" || inside[bare] {
			delete(l.outside, key)
			continue
		}
		if l.outside[key].IsZero() {
			l.outside[key] = asked
		}
		since, name := l.outside[key], "somebody whom a host let in"
		if k := l.people[bare]; k != nil {
			name = k.name
			if k.ready.After(k.joined) && k.ready.Add(joinWithin).After(since) {
				since = k.ready.Add(joinWithin)
			}
		}
		age := l.able(since, asked)
		l.oldest = max(l.oldest, age)
		if age > leftAfter+pollSlack {
			l.find(left, room, bare, "%s is %s, and has had no business there for %s", name, affiliation, asked.Sub(since).Round(time.Second))
			l.outside[key] = asked.Add(24 * time.Hour) // said once
		}
	}
	for key := range l.outside {
		if key[0] == room && view.Affiliations[key[1]] == "" {
			delete(l.outside, key)
		}
	}
}

// nobodyOutside reports whether nobody outside of a room has an affiliation that is still to be judged.
func (l *ledger) nobodyOutside() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, since := range l.outside {
		if since.Before(l.now()) {
			return false
		}
	}
	return true
}

// isStaff reports whether somebody is none of those who are judged: usher, Jicofo, the observer.
func isStaff(bare string) bool {
	return strings.HasSuffix(bare, "@auth."+domain) || bare == "focus."+domain || strings.HasSuffix(bare, "@focus."+domain)
}

// timeline is what matters for a finding: what happened in its room and to its person, and the faults, at most n lines. Of a finding
// without either it is everything.
func (l *ledger) timeline(f finding, n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var lines []string
	of := func(e entry) bool {
		return e.room == "" && e.who == "" || f.room == "" && f.who == "" || e.who == f.who && f.who != "" || e.room == f.room && f.room != ""
	}
	for _, e := range l.entries {
		if !of(e) || e.at.After(f.at.Add(time.Second)) {
			continue
		}
		name := e.who
		if k := l.people[e.who]; k != nil {
			name = k.name
		}
		room, _, _ := strings.Cut(e.room, "@")
		lines = append(lines, fmt.Sprintf("%8.3f %-8s %-14s %s", e.at.Sub(l.began).Seconds(), room, cmp.Or(name, "-"), e.text))
	}
	if left := len(lines) - n; left > 0 {
		lines = append([]string{fmt.Sprintf("(%d lines before)", left)}, lines[left:]...)
	}
	return strings.Join(lines, "\n")
}
