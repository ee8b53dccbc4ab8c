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

// The time limits by which the ledger judges. They include a margin for a busy machine.
const (
	// waitHold and waitHoldJitsi are rooms.wait_hold and wait_hold_jitsi of the sites: usher may hold a request for this long.
	waitHold, waitHoldJitsi = 10 * time.Second, 20 * time.Second
	// answerWithin is the time for the answer after the hold.
	answerWithin = 5 * time.Second
	// hostGone is the time after the last host's exit after which usher withdraws a grant that needs a host. withdrawing is the
	// time that this may take.
	hostGone, withdrawing = 5 * time.Second, 5 * time.Second
	// joinWithin is the time from ready to the join.
	joinWithin = 30 * time.Second
	// leftAfter is the time from the end of a right until its affiliation counts as left over. A poll may be late by pollSlack.
	leftAfter, pollSlack = time.Minute, 5 * time.Second
	// leeway is the issuer's. endsWithin is the time that an affiliation may outlive its token while the bearer is outside, so
	// that the bearer can enter once more: before Jicofo usher must ask the room twice, every 5 s. endWithin is the time that usher
	// may take to remove somebody who entered later than that, or while an owner had opened the room.
	leeway, endsWithin, endWithin = time.Second, 15 * time.Second, 10 * time.Second
	// caughtWithin is the greatest age of a request that kill -9 may catch before usher has stored or answered it. Usually that
	// takes milliseconds; it takes longer if Jicofo is slow or the machine busy. The summary reports the oldest.
	caughtWithin = 5 * time.Second
	// backWithin is the time that usher may need to serve again after a fault: 5 s, and the start of the process. startsWithin is the
	// time for a site to begin, where many sites may do so at once.
	backWithin, startsWithin = 15 * time.Second, time.Minute
)

// right is what a member of the cast may do. It is the truth: the cast knows what its tokens are worth.
type right int

const (
	nothing right = iota // may never enter
	guest                // may enter while a host is inside
	member               // may enter
	host                 // may enter, and lets guests in
)

func (r right) String() string { return [...]string{"nothing", "guest", "member", "host"}[r] }

// The kinds of findings.
const (
	wrong      = "wrong"      // somebody was admitted without a right
	left       = "left over"  // an affiliation remains a minute after its end
	thrown     = "thrown out" // somebody who entered with a right was removed
	unanswered = "unanswered" // a request has no answer 5 s after its hold
	broken     = "broken"     // usher itself died, did not stop, or did not come back
)

// finding is a fault of usher.
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

// span is a period. to is zero while it lasts.
type span struct{ from, to time.Time }

func (s span) meets(from, to time.Time) bool {
	return !s.from.After(to) && (s.to.IsZero() || !s.to.Before(from))
}

// visit is the period in which somebody may have been inside: from sending the join until known to be outside.
type visit struct {
	room, who string
	rightly   bool // the visitor entered with a right that nothing takes away while they are inside
	span
}

// known is what the ledger knows about a bare JID.
type known struct {
	name    string
	right   right
	room    string    // the room of the right
	expires time.Time // zero means never
	ready   time.Time // the last time that usher said ready
	asked   time.Time // when the request was sent to which that was the answer
	joined  time.Time // the last time that they entered
	lets    bool      // a host: with one inside, guests are let in; a moderator who is no host does not
}

// ledger records what really happened on a site, as the cast reports it, and judges usher by that.
type ledger struct {
	now func() time.Time

	mu       sync.Mutex
	began    time.Time
	entries  []entry
	people   map[string]*known // by bare JID
	visits   []*visit
	outages  []*span                 // periods in which usher cannot work, through no fault of its own
	lossy    []time.Time             // moments at which requests and answers on their way are lost
	opened   map[string]span         // rooms that an owner has opened to all, until usher must have closed them
	outside  map[[2]string]time.Time // by room and bare JID: since when somebody outside is seen with an affiliation
	oldest   time.Duration           // the longest such time
	said     map[string]bool         // findings of the observer, so that each is reported once
	overload time.Duration           // the sum of periods in which the machine was too busy
	caught   time.Duration           // the greatest age of a request that was caught on its way
	findings []finding
	fault    *fault            // the latest fault
	of       map[string]*fault // by room: the fault that the room belongs to

	keeps  bool    // nobody is removed who has entered with a right
	away   []*span // periods in which no usher can reach the store that they share
	awaits *wait   // for the next admission; nil if nobody waits
}

// wait is a wait for somebody to be inside who asked after a moment.
type wait struct {
	began, asked time.Time
	admitted     chan struct{}
}

func newLedger() *ledger {
	return &ledger{
		now: time.Now, began: time.Now(), people: make(map[string]*known), opened: make(map[string]span),
		outside: make(map[[2]string]time.Time), said: make(map[string]bool), of: make(map[string]*fault), fault: new(fault),
	}
}

// note adds a line to the timeline.
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

// isFor records that a room belongs to the latest fault.
func (l *ledger) isFor(room string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of[room] = l.fault
}

// pinged records how long usher took to answer a ping.
func (l *ledger) pinged(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.able(from, to) == to.Sub(from) {
		l.fault.slowest = max(l.fault.slowest, to.Sub(from))
	}
}

// count counts an event for the latest fault.
func (l *ledger) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault.count(what)
}

// knows introduces a member of the cast.
func (l *ledger) knows(bare string, k known) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.people[bare] = &k
}

// outage begins a period in which usher cannot work, and end ends it.
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

// loses records that nobody can answer the requests that are on their way now.
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
	// Outages can overlap.
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

// hostBetween reports whether a host may have been in the room at some moment of the period. The caller holds mu.
func (l *ledger) hostBetween(room string, from, to time.Time) bool {
	return slices.ContainsFunc(l.visits, func(v *visit) bool {
		k := l.people[v.who]
		return v.room == room && k != nil && k.lets && v.meets(from, to)
	})
}

// lastHost returns the last exit of a host from the room before a moment. The caller holds mu.
func (l *ledger) lastHost(room string, before time.Time) (gone time.Time) {
	for _, v := range l.visits {
		k := l.people[v.who]
		if v.room == room && k != nil && k.lets && !v.to.IsZero() && v.to.Before(before) && v.to.After(gone) {
			gone = v.to
		}
	}
	return gone
}

// answered judges an answer of usher; what is its outcome in words.
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
		l.find(wrong, room, bare, "%s is told ready; the right is %s, in %q", k.name, k.right, k.room)
	case !k.expires.IsZero() && sent.After(k.expires.Add(leeway)):
		l.find(wrong, room, bare, "%s is told ready %s after their token has ended", k.name, sent.Sub(k.expires).Round(time.Millisecond))
	case k.right == guest && !l.hostBetween(room, sent, now):
		l.find(wrong, room, bare, "%s is told ready; no host was inside since the request, %s ago", k.name, now.Sub(sent).Round(time.Millisecond))
	case k.ready.IsZero() && l.withoutStore(sent, now):
		l.find(wrong, room, bare, "%s, who was never admitted before, is told ready while the shared store is away", k.name)
	default:
		k.ready, k.asked = now, sent
	}
}

// withoutStore reports whether no usher could reach the shared store during the whole period. The caller holds mu.
func (l *ledger) withoutStore(from, to time.Time) bool {
	return slices.ContainsFunc(l.away, func(s *span) bool { return from.After(s.from) && (s.to.IsZero() || to.Before(s.to)) })
}

// loseStore records that no usher can reach the shared store from now on, until returns is called. That must be before they can.
func (l *ledger) loseStore() (returns func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &span{from: l.now()}
	l.away = append(l.away, s)
	l.noteLocked("", "", "no usher can reach the store")
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.to = l.now()
		l.noteLocked("", "", "the store is about to return")
	}
}

// await waits for the next admission of somebody who asks after now. The time that it takes counts from began on. The channel is
// closed when it has happened.
func (l *ledger) await(began time.Time) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.awaits = &wait{began, l.now(), make(chan struct{})}
	return l.awaits.admitted
}

// wasAwaited records the time until an admission, if that is the next one. The caller holds mu.
func (l *ledger) wasAwaited(k *known) {
	w := l.awaits
	if w == nil || !k.asked.After(w.asked) {
		return
	}
	l.awaits = nil
	took := l.now().Sub(w.began)
	l.fault.admits = append(l.fault.admits, took)
	l.noteLocked("", "", "the next one is inside, after %s", took.Round(time.Millisecond))
	close(w.admitted)
}

// silence judges a request that was never answered. It excuses a request that was on its way at a lossy moment.
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

// enters records that somebody sends a join.
func (l *ledger) enters(bare, room string) *visit {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := &visit{room: room, who: bare, span: span{from: l.now()}}
	l.visits = append(l.visits, v)
	return v
}

// entered judges that the visitor is inside. It returns why the visitor may not be, and whether usher may still correct that by
// removing the visitor at once.
func (l *ledger) entered(v *visit) (fault string, forNow bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.people[v.who]
	l.noteLocked(v.room, v.who, "is inside")
	fault, forNow = l.judge(k, v)
	if fault == "" {
		k.joined = l.now()
		l.fault.count("admitted")
		l.wasAwaited(k)
		v.rightly = (k.expires.IsZero() || v.from.Before(k.expires)) && (k.right != guest || l.hostAlways(v.room, k.ready, k.joined))
	}
	return fault, forNow
}

// judge is entered's decision. The caller holds mu.
func (l *ledger) judge(k *known, v *visit) (fault string, forNow bool) {
	opened := l.opened[v.room].meets(v.from, l.now()) && !l.opened[v.room].from.IsZero()
	switch {
	case k.right == nothing || k.room != v.room || k.ready.IsZero():
		return fmt.Sprintf("%s entered without usher's permission", k.name), opened
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

// outSince returns since when the visitor of the next visit has been outside, at least since a moment. The caller holds mu.
func (l *ledger) outSince(next *visit, at time.Time) time.Time {
	for _, v := range l.visits {
		if v != next && v.who == next.who && v.room == next.room && v.to.After(at) {
			at = v.to
		}
	}
	return at
}

// wrongly records that somebody is inside without a right, and stays.
func (l *ledger) wrongly(v *visit, fault string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.find(wrong, v.room, v.who, "%s", fault)
}

// exits records that somebody is known to be outside.
func (l *ledger) exits(v *visit, how string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.to.IsZero() {
		v.to = l.now()
		l.noteLocked(v.room, v.who, "%s", how)
	}
}

// removed judges that the server has removed somebody.
func (l *ledger) removed(v *visit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !v.to.IsZero() {
		return
	}
	v.to = l.now()
	l.noteLocked(v.room, v.who, "is removed")
	if l.keeps && v.rightly {
		l.find(thrown, v.room, v.who, "%s, who entered with a right %s ago, is removed", l.people[v.who].name, v.to.Sub(v.from).Round(time.Millisecond))
	}
}

// hostAlways reports whether a host was in the room during the whole period, except for moments such as a reload of the page. The caller
// holds mu.
func (l *ledger) hostAlways(room string, from, to time.Time) bool {
	for at := from; at.Before(to); at = at.Add(time.Second) {
		if !l.hostBetween(room, at.Add(-hostGone/2), at.Add(hostGone/2)) {
			return false
		}
	}
	return true
}

// isOver reports whether a visit has ended.
func (l *ledger) isOver(v *visit) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !v.to.IsZero()
}

// forgets records that somebody's permission has ended with the room.
func (l *ledger) forgets(bare string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.people[bare].ready = time.Time{}
}

// promotes records that a host is about to promote somebody to owner.
func (l *ledger) promotes(bare string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.people[bare].right, l.people[bare].lets = host, true
}

// overloads records a period in which the server itself was slow although no fault touched it: the machine was too busy.
func (l *ledger) overloads(from, to time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.able(from, to) == to.Sub(from) {
		l.outages = append(l.outages, &span{from, to})
		l.overload += to.Sub(from)
	}
}

// refused records that the server has refused a join. It counts those who were told ready in vain: usher could work, and a host
// was inside all the time, except for moments such as a reload of the page.
func (l *ledger) refused(v *visit, condition string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v.to = l.now()
	l.noteLocked(v.room, v.who, "is refused by the server: %s", condition)
	l.fault.count("refused at the door")
	k, now := l.people[v.who], v.to
	inVain := k.right > nothing && !k.ready.IsZero() && now.Sub(k.ready) < joinWithin-withdrawing && k.joined.Before(k.ready) &&
		l.able(k.ready, now) == now.Sub(k.ready) && (k.expires.IsZero() || now.Before(k.expires)) &&
		(k.right != guest || l.hostAlways(v.room, k.ready, now))
	if inVain {
		l.noteLocked(v.room, v.who, "was told ready in vain")
		l.fault.count("in vain")
	}
}

// emptied records that everybody is outside, because the server has ended.
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

// opens records that an owner has opened a room to all. closed records that usher must have closed it by now.
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

// sees judges the observer's view of a room. asked is the time of the observer's question.
func (l *ledger) sees(room string, view prosodytest.RoomView, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	inside := l.seesInside(room, view)
	for bare, affiliation := range view.Affiliations {
		key := [2]string{room, bare}
		if isStaff(bare) || affiliation == "outcast" || inside[bare] {
			delete(l.outside, key)
			continue
		}
		l.seesOutside(key, affiliation, asked)
	}
	for key := range l.outside {
		if key[0] == room && view.Affiliations[key[1]] == "" {
			delete(l.outside, key)
		}
	}
}

// seesInside judges the occupants of a room, and returns their bare JIDs. The caller holds mu.
func (l *ledger) seesInside(room string, view prosodytest.RoomView) (inside map[string]bool) {
	inside = make(map[string]bool)
	for _, o := range view.Occupants {
		bare, _, _ := strings.Cut(o.JID, "/")
		inside[bare] = true
		k := l.people[bare]
		what := ""
		switch {
		case isStaff(bare):
		case k == nil:
			what = "is inside, and is not of the cast"
		case k.right < host && (o.Affiliation == "owner" || o.Affiliation == "admin" || o.Role == "moderator"):
			what = fmt.Sprintf("%s is %s and %s", k.name, o.Affiliation, o.Role)
		}
		if what != "" && !l.said[room+bare+what] {
			l.said[room+bare+what] = true
			l.find(wrong, room, bare, "%s", what)
		}
	}
	return inside
}

// seesOutside judges the affiliation of somebody outside, by room and bare JID. The caller holds mu.
func (l *ledger) seesOutside(key [2]string, affiliation string, asked time.Time) {
	room, bare := key[0], key[1]
	if l.outside[key].IsZero() {
		l.outside[key] = asked
	}
	since, name := l.outside[key], "a person that a host let in"
	if k := l.people[bare]; k != nil {
		name = k.name
		if k.ready.After(k.joined) && k.ready.Add(joinWithin).After(since) {
			since = k.ready.Add(joinWithin)
		}
	}
	age := l.able(since, asked)
	l.oldest = max(l.oldest, age)
	if age > leftAfter+pollSlack {
		l.find(left, room, bare, "%s is still %s, %s after the end of the right", name, affiliation, asked.Sub(since).Round(time.Second))
		l.outside[key] = asked.Add(24 * time.Hour) // so that it is reported once
	}
}

// nobodyOutside reports whether no affiliation of somebody outside is still to be judged.
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

// isStaff reports whether a bare JID is usher's, Jicofo's or the observer's, which the ledger does not judge.
func isStaff(bare string) bool {
	return strings.HasSuffix(bare, "@auth."+domain) || bare == "focus."+domain || strings.HasSuffix(bare, "@focus."+domain)
}

// timeline returns at most n lines about a finding: the events of its room and person, and the faults. For a finding without room
// and person it returns the events of all.
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
		lines = append([]string{fmt.Sprintf("(%d earlier lines)", left)}, lines[left:]...)
	}
	return strings.Join(lines, "\n")
}
