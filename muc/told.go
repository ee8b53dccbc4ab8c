package muc

import (
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/alarm"
	"github.com/xmpp-usher/usher/pkg/element"
)

// NSModule is the namespace in which usher and its module (config/prosody/module) talk. mod_usher.lua describes it.
const NSModule = "urn:usher:module:0"

// Told is what usher's module, mod_usher, tells of rooms: a mirror of each room of the MUC services that have the module. [Owner] and
// [Lobby] answer from it instead of asking. It also hands grants to the module, see [Told.Give].
//
// The module numbers what it tells, and the server keeps the order of what it sends. So whatever a room was before the server
// answered something, the mirror is by the time the answer is handed on. After a gap, a reload of the module, or silence the mirror is
// forgotten, and built anew from a snapshot. Until that is complete, rooms are asked as if there were no module.
//
// usher takes what it gives for granted: the mirror changes when the give is sent, and what the room made of it is told only if that is
// something else. After an owner has sent something for which it does not wait, the next question about the room goes to the
// room, so that its answer comes after that. See told_mirror.go for the mirror, told_listen.go for how it is kept
// whole, and told_give.go for what is given.
//
// A nil *Told is told nothing, and all methods work on it. They may be called by any goroutine, except Hear, which belongs to the one
// that reads the stream.
type Told struct {
	o ToldOptions

	order  sync.Mutex // held while the mirror changes by what is told, and while News is called; taken before mu
	giving sync.Mutex // keeps gives in the order in which they change the mirror; taken before mu

	mu      sync.RWMutex
	tellers map[string]*teller // by domain
	gaps    map[string]int     // by domain
	wanted  []jid.JID
	changed alarm.Bell // wanted has changed; for Listen
}

// ToldOptions say what a Told needs.
type ToldOptions struct {
	Session Session
	// From is the bare JID that speaks to the module, of the domain that the module trusts and speaks to.
	From jid.JID
	// Mirror has the module tell. Without it the module only takes gives, and tells of those that it refuses.
	Mirror bool
	// Expected says that all services are to have the module. Warn is called, once a connection, with one that has not.
	Expected bool
	// Room returns the room that an address means which is spelled as clients spell it; nil if they spell them as the service does.
	// The module names main rooms so.
	Room func(address string) (jid.JID, error)
	// News is called with what was told, in order, after the mirror has changed; nil if nobody wants to know. It must not block. It
	// must not call Hear, Listen, Use and Reset.
	News func(News)
	// Warn is called with what went wrong at a service while nobody waited for it. It must not call back.
	Warn func(service jid.JID, what string, err error)
}

// NewTold returns a Told. It starts nothing.
func NewTold(o ToldOptions) *Told {
	return &Told{o: o, tellers: make(map[string]*teller), gaps: make(map[string]int), changed: alarm.NewBell()}
}

// News is something that was told.
type News struct {
	Kind NewsKind
	// Room is the room, or the service of NewsTells and NewsSilent.
	Room jid.JID
	// Nick and Who are the person: Who by full JID, or by bare JID if it is about an affiliation. Affiliation is also that of somebody
	// who has joined.
	Nick              string
	Who               jid.JID
	full              string // Who as text, of NewsJoined; the mirror has the same one
	Role, Affiliation string
	// By is the bare JID of the person who did it; empty if that was the server.
	By string
	// Why says why somebody has left (kicked, banned, affiliation), why a room has ended, or by which condition (RFC 6120 §8.3.3) a
	// give was refused.
	Why string
	// Breakouts says of NewsLeft that the room has breakout rooms, where the person may be.
	Breakouts bool
}

// NewsKind says of what News is.
type NewsKind uint8

const (
	NewsRoom        NewsKind = iota // a room as a whole: it begins, or a snapshot has it
	NewsEnded                       // a room is gone, and everybody in it
	NewsJoined                      // somebody is inside who was not
	NewsLeft                        // somebody inside has gone
	NewsRole                        // somebody inside has another role
	NewsAffiliation                 // somebody, inside or not, has another affiliation
	NewsSettings                    // the room is configured otherwise
	NewsRefused                     // the room has not taken a give, or not all of it
	NewsTells                       // the mirror of a service is complete
	NewsSilent                      // the mirror of a service is lost, or what there was of it
)

// teller is a service that may have the module. Its parts are covered by mu, those of the mirror are in told_mirror.go.
type teller struct {
	jid   jid.JID
	from  string               // who gives: ToldOptions.From as text
	rooms map[string]*mirrored // by localpart

	takes     bool // the module is there
	missing   bool // it was not, when it was last asked
	listening bool // it was asked to tell, and nothing was lost since
	tells     bool // the mirror is complete
	version   string
	boot      string // of the module that answered last, which may have gone since
	run       run
	woken     alarm.Bell // something has ended what Listen waits for
	why       error      // what that was
}

// run is what was told without a gap since the module was asked to tell.
type run struct {
	boot        string // empty: nothing yet
	first, last uint64
	complete    uint64 // number of the end of a snapshot; 0: none yet
	answered    bool   // the module has said from which number on the snapshot comes
	base        uint64 // the number before that
}

// takes a tell of a number into the run, and reports whether it follows what was told before.
func (r *run) takes(boot string, n uint64) bool {
	switch {
	case r.boot == "":
		r.boot, r.first, r.last = boot, n, n
	case r.boot != boot || n != r.last+1:
		return false
	default:
		r.last = n
	}
	return true
}

// answers takes in the module's answer to the request to tell. What was told before may be of an earlier request. It reports whether
// all that was told after it is in the run.
func (r *run) answers(boot string, n uint64) bool {
	if r.boot == "" {
		r.boot, r.first, r.last = boot, n+1, n
	}
	r.answered, r.base = true, n
	return r.boot == boot && r.first <= n+1 && r.last >= n
}

// whole reports whether the snapshot that was asked for is complete.
func (r *run) whole() bool { return r.answered && r.complete > r.base }

var (
	errGap    = errors.New("something that usher's module told was lost")
	errReload = errors.New("usher's module was loaded anew")
	errBye    = errors.New("usher's module was unloaded")
)

// Hear takes in a message from the bare domain of a service, and reports whether it comes from the module, or is the answer to a give that
// no module took. start and body are the message's; if it is not from the bare domain of a service, body is left alone. It must be
// called by the goroutine that reads the stream, and does not wait. The error says what is wrong with the message; the mirror is lost
// then.
func (t *Told) Hear(from jid.JID, start xml.StartElement, body xml.TokenReader) (ours bool, err error) {
	s := t.teller(from)
	if s == nil || start.Name.Local != "message" {
		return false, nil
	}
	if element.Attr(start, "type") == string(stanza.ErrorMessage) {
		return t.bounced(s, start, body), nil
	}
	t.order.Lock()
	defer t.order.Unlock()
	said, ours, err := readTell(body)
	if !ours || !t.speaksTo(start) {
		return false, nil
	}
	if err != nil {
		t.loses(s, fmt.Errorf("%w: %w", errGap, err))
		return true, err
	}
	t.take(s, said)
	return true, nil
}

// speaksTo reports whether a message is for usher's domain.
func (t *Told) speaksTo(start xml.StartElement) bool {
	to, err := jid.ParseUnsafe(element.Attr(start, "to"))
	return err == nil && to.Domainpart() == t.o.From.Domainpart()
}

// teller returns the service with an address; nil if it is none.
func (t *Told) teller(address jid.JID) *teller {
	if t == nil || address.Localpart() != "" || address.Resourcepart() != "" {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.tellers[address.Domainpart()]
}

// take takes in what the module told. The caller holds order.
func (t *Told) take(s *teller, said tell) {
	switch said.kind {
	case "hello":
		t.loses(s, errReload)
		return
	case "bye":
		t.loses(s, errBye)
		return
	}
	t.mu.Lock()
	if !s.listening {
		t.mu.Unlock()
		return
	}
	if !s.run.takes(said.boot, said.n) {
		t.mu.Unlock()
		t.loses(s, errGap)
		return
	}
	news, is := s.apply(said)
	if said.kind == "complete" {
		s.run.complete = said.n
	}
	t.mu.Unlock()
	if is {
		t.tell(news)
	}
	t.completes(s)
}

// completes tells when a mirror is complete. The caller holds order.
func (t *Told) completes(s *teller) {
	t.mu.Lock()
	done := t.o.Mirror && s.listening && !s.tells && s.run.whole()
	s.tells = s.tells || done
	t.mu.Unlock()
	if done {
		t.tell(News{Kind: NewsTells, Room: s.jid})
	}
}

// loses forgets what a service has told, and wakes Listen up. The caller holds order.
func (t *Told) loses(s *teller, why error) {
	t.mu.Lock()
	if s.listening || errors.Is(why, errReload) {
		s.why = why
		s.woken.Ring()
	}
	t.mu.Unlock()
	t.forget(s, errors.Is(why, errGap))
}

// forget forgets what a service has told; gap says that the module is still there. The caller holds order.
func (t *Told) forget(s *teller, gap bool) {
	t.mu.Lock()
	silent := s.tells || s.rooms != nil
	if gap && s.listening {
		t.gaps[s.jid.Domainpart()]++
	}
	s.rooms, s.run, s.listening, s.tells = nil, run{}, false, false
	s.takes = s.takes && gap
	t.mu.Unlock()
	if silent {
		t.tell(News{Kind: NewsSilent, Room: s.jid})
	}
}

func (t *Told) tell(n News) {
	if t.o.News != nil {
		t.o.News(n)
	}
}

// Reset forgets everything, because the stream has ended.
func (t *Told) Reset() {
	if t == nil {
		return
	}
	t.order.Lock()
	defer t.order.Unlock()
	t.mu.Lock()
	all := t.tellers
	t.tellers = make(map[string]*teller)
	t.mu.Unlock()
	for _, s := range all {
		t.forget(s, false)
	}
	t.wants()
}

// Tells reports whether the mirror of a service, by domain, is complete.
func (t *Told) Tells(domain string) bool {
	return t.is(domain, func(s *teller) bool { return s.tells })
}

// Takes reports whether a service, by domain, has the module, so that it takes what is given.
func (t *Told) Takes(domain string) bool {
	return t.is(domain, func(s *teller) bool { return s.takes })
}

// Boot returns which start of the module at a service, by domain, has answered last on this connection; empty if none has. It may have been
// unloaded since.
func (t *Told) Boot(domain string) (boot string) {
	t.is(domain, func(s *teller) bool { boot = s.boot; return true })
	return boot
}

func (t *Told) is(domain string, such func(*teller) bool) bool {
	if t == nil {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	s := t.tellers[domain]
	return s != nil && such(s)
}

// ToldStatus is how a service stands.
type ToldStatus struct {
	Domain string
	// Version is the module's; empty if it is not there.
	Version string
	// Takes says that the module is there, and Tells that its mirror is complete.
	Takes, Tells bool
	Rooms        int
	// Gaps is how often something that was told was lost.
	Gaps int
}

// Services returns how the services stand, by domain.
func (t *Told) Services() []ToldStatus {
	if t == nil {
		return nil
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	var all []ToldStatus
	for domain, s := range t.tellers {
		is := ToldStatus{Domain: domain, Takes: s.takes, Tells: s.tells, Rooms: len(s.rooms), Gaps: t.gaps[domain]}
		if s.takes {
			is.Version = s.version
		}
		all = append(all, is)
	}
	slices.SortFunc(all, func(a, b ToldStatus) int { return strings.Compare(a.Domain, b.Domain) })
	return all
}
