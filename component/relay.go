package component

import (
	"context"
	"encoding/xml"
	"errors"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/muc"
)

// relayTimeout is how long Jicofo may take to answer.
const relayTimeout = 15 * time.Second

var (
	errNoFocus      = errors.New("no Jicofo is online")
	errNotForwarded = errors.New("the sender's address cannot be passed on")
	errSilent       = errors.New("no answer from Jicofo for this room just now")
)

// relay is the way to Jicofo, as Prosody's client_proxy is (mod_client_proxy.lua). It knows from Jicofo's presence under which
// resources Jicofo is online. It asks on behalf of clients, as <our domain>/<their full JID>, and Jicofo takes that address for
// the client (jicofo.xmpp.client.client-proxy).
type relay struct {
	session       muc.Session
	domain, focus jid.JID // ours; Jicofo's bare JID
	log           *zap.Logger
	timeout       time.Duration // how long Jicofo may take to answer

	mu      sync.Mutex
	online  []focusOnline    // in the order in which they came
	silent  bool             // the last question has had no answer
	refused bool             // it has been logged that Jicofo does not show itself
	turns   map[string]*turn // by room
}

// focusOnline is a resource of Jicofo.
type focusOnline struct {
	jid    jid.JID         // full
	online context.Context // ends when it goes offline
	goes   context.CancelFunc
}

// turn lets one request at a time ask Jicofo to open a room. If Jicofo does not answer it, the requests that wait for their turn
// end as well: otherwise each of them would wait for as long, one after the other.
type turn struct {
	token  chan struct{} // holds one entry while nobody has the turn
	silent chan struct{} // closed when Jicofo has not answered
	n      int           // requests that have the turn or wait for it
}

// greet asks for Jicofo's presence. If we are subscribed already (prosodyctl mod_roster_command), the server says so; otherwise
// Jicofo is asked. Once we are told that we are subscribed, we probe. A probe before that would make Prosody forget our request:
// it answers a probe that is not permitted as if Jicofo had refused us (mod_presence.lua).
func (r *relay) greet() {
	_ = r.session.Send(stanza.Presence{Type: stanza.SubscribePresence, To: r.focus, From: r.domain}.Wrap(nil)) // fails if the stream is ending
}

// seek greets Jicofo as long as none is online: an operator may have changed the roster since, and nobody tells us of that.
func (r *relay) seek() {
	r.mu.Lock()
	none := len(r.online) == 0
	r.mu.Unlock()
	if none {
		r.greet()
	}
}

// reset forgets who was online, because the stream has ended.
func (r *relay) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = false
	r.drop(func(jid.JID) bool { return true })
}

// hears takes in a presence stanza from Jicofo's account.
func (r *relay) hears(from jid.JID, typ stanza.PresenceType) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch typ {
	case stanza.AvailablePresence:
		if from.Resourcepart() != "" && !slices.ContainsFunc(r.online, func(o focusOnline) bool { return from.Equal(o.jid) }) {
			online, goes := context.WithCancel(context.Background())
			r.online = append(r.online, focusOnline{from, online, goes})
			r.log.Info("Jicofo is online", zap.Stringer("jid", from))
		}
	case stanza.UnavailablePresence, stanza.ErrorPresence:
		r.offline(from)
	case stanza.SubscribePresence:
		// A client may ask back before it shows itself.
		return r.session.Send(stanza.Presence{Type: stanza.SubscribedPresence, To: from.Bare(), From: r.domain}.Wrap(nil))
	case stanza.UnsubscribedPresence:
		if !r.refused && len(r.online) == 0 {
			r.refused = true
			r.log.Warn("Jicofo does not show whether it is online, so nobody is let in", zap.String("hint", focus.HowToSubscribe(r.domain, r.focus)))
		}
	case stanza.SubscribedPresence:
		return r.session.Send(stanza.Presence{Type: stanza.ProbePresence, To: r.focus, From: r.domain}.Wrap(nil))
	}
	return nil
}

// offline takes a resource out, or all of them if from is bare. The caller holds mu.
func (r *relay) offline(from jid.JID) {
	before := len(r.online)
	r.drop(func(j jid.JID) bool { return from.Resourcepart() == "" || from.Equal(j) })
	if len(r.online) < before {
		r.log.Info("Jicofo went offline", zap.Stringer("jid", from), zap.Int("still online", len(r.online)))
	}
}

// drop takes resources out. The caller holds mu.
func (r *relay) drop(which func(jid.JID) bool) {
	r.online = slices.DeleteFunc(r.online, func(o focusOnline) bool {
		gone := which(o.jid)
		if gone {
			o.goes()
		}
		return gone
	})
}

// newest returns the most recent resource not tried yet. An older one may be left over from a Jicofo that crashed: the server
// keeps it online for a while.
func (r *relay) newest(tried []focusOnline) (focusOnline, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range slices.Backward(r.online) {
		if !slices.ContainsFunc(tried, func(t focusOnline) bool { return t.online == o.online }) {
			return o, true
		}
	}
	return focusOnline{}, false
}

// ask forwards an IQ on behalf of its sender, and decodes the answer into v. An error that Jicofo answers with is a
// stanza.Error; any other means that there is no answer.
func (r *relay) ask(ctx context.Context, iq stanza.IQ, payload func() xml.TokenReader, v any) error {
	until := time.Now().Add(r.timeout)
	// WithResource prepares the resource (RFC 7622 §3.4). If that changes it, the result is somebody else's address.
	from := iq.From.String()
	asker, err := r.domain.WithResource(from)
	if err != nil || asker.Resourcepart() != from {
		return errNotForwarded
	}
	var tried []focusOnline
	for to, ok := r.newest(tried); ok; to, ok = r.newest(tried) {
		err := r.askOne(ctx, until, to, stanza.IQ{Type: iq.Type, From: asker, To: to.jid}, payload(), v)
		if !errors.Is(err, errNoFocus) {
			return err
		}
		tried = append(tried, to)
	}
	return errNoFocus
}

// askOne asks one resource. The error is errNoFocus if that has gone offline.
func (r *relay) askOne(ctx context.Context, until time.Time, to focusOnline, iq stanza.IQ, payload xml.TokenReader, v any) error {
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	defer context.AfterFunc(to.online, cancel)()
	err := r.session.IQ(ctx, iq, payload, v)
	r.answers(err == nil || !errors.Is(err, context.DeadlineExceeded))
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled) && to.online.Err() != nil,
		// The server answers so for a resource that has gone, and Jicofo when it shuts down.
		errors.Is(err, stanza.Error{Condition: stanza.ServiceUnavailable}), errors.Is(err, stanza.Error{Condition: stanza.RecipientUnavailable}):
		return errNoFocus
	}
	return err
}

// answers notes whether Jicofo has answered.
func (r *relay) answers(does bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.silent = !does
}

// status says whether Jicofo answers, as Status has it.
func (r *relay) status() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case len(r.online) == 0:
		return "offline"
	case r.silent:
		return "silent"
	}
	return "online"
}

// begin returns when it is the caller's turn to have a room opened; the caller calls end afterwards, and says whether Jicofo did
// not answer. There are turns because Jicofo opens a room in the course of a request: it takes simultaneous requests for a room that
// is not open for as many rooms.
func (r *relay) begin(ctx context.Context, room jid.JID) (end func(silent bool), err error) {
	key := room.String()
	r.mu.Lock()
	t := r.turns[key]
	if t == nil {
		t = &turn{token: make(chan struct{}, 1), silent: make(chan struct{})}
		t.token <- struct{}{}
		if r.turns == nil {
			r.turns = make(map[string]*turn)
		}
		r.turns[key] = t
	}
	t.n++
	r.mu.Unlock()
	leave := func(silent bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if t.n--; r.turns[key] == t && (silent || t.n == 0) {
			delete(r.turns, key) // later requests ask anew
		}
	}
	select {
	case <-t.silent:
		err = errSilent
	case <-ctx.Done():
		err = ctx.Err()
	case <-t.token:
		return func(silent bool) {
			leave(silent)
			if silent {
				close(t.silent)
				return // and keeps the token
			}
			t.token <- struct{}{}
		}, nil
	}
	leave(false)
	return nil, err
}
