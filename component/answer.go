package component

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/component/focus"
	"github.com/xmpp-usher/usher/component/stream"
)

// iqClient is a client that asked by IQ.
type iqClient struct {
	c  *Component
	iq stanza.IQ
}

func (a iqClient) tell(conf focus.Conference, d auth.Decision, said *focus.Answer, lost func()) error {
	s := a.c.stream.Load()
	if s == nil {
		return stream.ErrDisconnected
	}
	return s.Deliver(focus.Reply(a.iq, conf, d, d.SessionID, said), lost)
}

func (a iqClient) fail() error {
	return a.c.Send(a.iq.Error(stanza.Error{Type: stanza.Cancel, Condition: stanza.InternalServerError}))
}

func (a iqClient) record() heldRecord {
	return heldRecord{ID: a.iq.ID, From: a.iq.From.String(), To: a.iq.To.String()}
}

// byIQ returns what all questions by IQ have in common.
func (c *Component) byIQ(iq stanza.IQ) *request {
	return &request{from: iq.From, client: iqClient{c, iq}}
}

// answer tells the client what was decided, and returns what became of that, and whether it was sent. An answer that cannot be
// sent now is owed, because a client that hears nothing waits for ever.
func (c *Component) answer(r *request, d auth.Decision, said *focus.Answer) (_ auth.Decision, sent bool) {
	d, err := c.tell(r, d, said)
	if err == nil {
		return d, true
	}
	if d.Verdict == auth.Allow {
		d = d.Denied(auth.ReasonRoomUnavailable, err)
	}
	switch {
	case !later(err):
	case r.held == nil:
		c.owe(r, d)
	default:
		r.held.d, r.held.decided = d, true
		c.held.owe(r.held)
	}
	return d, false
}

// tell hands the answer over, and returns what the client is told. While usher stops, it tells no client to ask again that can be
// left to the next usher, which answers when it is connected: a client that asks while no usher is connected gets an error from
// Prosody, after which it never asks again (moderator.js).
func (c *Component) tell(r *request, d auth.Decision, said *focus.Answer) (auth.Decision, error) {
	d = c.active(d)
	if c.stopping.Load() && focus.AsksAgain(d) {
		if c.leaving.Load() {
			return d, errLeft
		}
		if d.Verdict != auth.Wait { // not ready, perhaps because there was no time left
			d = d.Denied(auth.ReasonStopping, d.Err)
		}
	}
	return d, r.client.tell(r.conf, d, said, func() {
		d := d
		if d.Verdict == auth.Allow {
			d = d.Denied(auth.ReasonRoomUnavailable, stream.ErrDisconnected)
		}
		c.owe(r, d)
	})
}

var errLeft = errors.New("left to the next usher")

// later reports whether an answer that could not be sent may be sent on another stream.
func later(err error) bool {
	return errors.Is(err, stream.ErrDisconnected) || errors.Is(err, stream.ErrBacklog) || errors.Is(err, errLeft)
}

// owe keeps the answer to a request for the next stream. The decision has been counted.
func (c *Component) owe(r *request, d auth.Decision) {
	owed := &waiter{request: *r, d: d, decided: true}
	owed.came, owed.held = time.Now(), nil
	c.held.owe(owed)
}

// unsent sees to an answer that could not be sent, to an IQ that is no conference request: that client waits as well.
func (c *Component) unsent(r *request, err error) {
	if err != nil {
		c.say(zap.WarnLevel, "could not send an answer", unsent, r.from, zap.Stringer("to", r.from), zap.Error(err))
	}
	if later(err) {
		c.owe(r, auth.Decision{}.Denied(auth.ReasonStopping, nil))
	}
}

// unsent is the reason in the log of an answer that could not be sent.
const unsent = "unsent"

// refuse answers a request without reading it.
func (c *Component) refuse(iq stanza.IQ, reason auth.Reason, err error) {
	r, d := c.byIQ(iq), auth.Decision{}.Denied(reason, err)
	c.answer(r, d, nil)
	c.decided(r, d, 0)
}

// malformed counts and logs a stanza that cannot be understood, and answers it where RFC 6120 §8.2.3 wants an answer: an IQ of
// type get or set.
func (c *Component) malformed(iq stanza.IQ, what string, err error) {
	if iq.Type == stanza.GetIQ || iq.Type == stanza.SetIQ {
		c.refuse(iq, auth.ReasonRequestMalformed, err)
		return
	}
	c.counts.decided(auth.ReasonRequestMalformed)
	c.reportDecision(c.byIQ(iq), auth.Decision{}.Denied(auth.ReasonRequestMalformed, err), 0)
	c.say(zap.InfoLevel, "stanza dropped", string(auth.ReasonRequestMalformed), iq.From, zap.String("reason", string(auth.ReasonRequestMalformed)),
		zap.String("stanza", what), zap.String("from", iq.From.String()), zap.Error(err))
}

// decided counts, reports and logs a decision, once, after the fact.
func (c *Component) decided(r *request, d auth.Decision, took time.Duration) {
	from := r.from
	c.counts.decided(d.Reason)
	c.reportDecision(r, d, took)
	fields := append(make([]zap.Field, 0, 10), // as many as there are
		zap.Stringer("verdict", d.Verdict),
		zap.String("reason", string(d.Reason)),
		zap.String("room", d.Room.JID.String()),
		zap.String("from", from.String()),
		zap.Duration("took", took),
	)
	if d.Verdict == auth.Allow {
		fields = append(fields, zap.String("affiliation", string(d.Affiliation)))
	}
	for _, f := range []struct{ key, value string }{{"iss", d.Token.Issuer}, {"jti", d.Token.ID}, {"kid", d.Token.KeyID}} {
		if f.value != "" {
			fields = append(fields, zap.String(f.key, f.value))
		}
	}
	if len(d.Notes) > 0 {
		c.say(zap.DebugLevel, "the token has claims that decided nothing and are odd", string(d.Reason), from,
			append(slices.Clip(fields), zap.Strings("notes", d.Notes))...)
	}
	if d.Err != nil {
		fields = append(fields, zap.Error(d.Err), c.hint(d.Err))
	}
	level := zap.InfoLevel
	if d.Reason.Row().Level == auth.LevelWarn {
		level = zap.WarnLevel
	}
	if d.Verdict == auth.Deny {
		c.say(level, "request", string(d.Reason), from, fields...)
		return
	}
	c.o.Log.Log(level, "request", fields...)
}

// say logs a line that a sender can cause as often as it likes; see repeats.
func (c *Component) say(level zapcore.Level, what, reason string, from jid.JID, fields ...zap.Field) {
	vhost := ""
	if c.policy.Load().Knows(from) {
		vhost = from.Domainpart()
	}
	c.repeats.say(level, what, reason, vhost, from, fields...)
}

// recovers is deferred around a request: it ends a panic, and tells the client that usher has failed.
func (c *Component) recovers(r *request) {
	if p := recover(); p != nil {
		c.panicked(p, "request")
		c.unsent(r, r.client.fail())
	}
}

// panicked counts and logs a panic, which ends what caused it and nothing else.
func (c *Component) panicked(p any, what string) {
	c.counts.happened(EventPanic)
	// The policy is not asked, because it may be what panics.
	c.repeats.say(zap.ErrorLevel, "a "+what+" caused a panic", string(EventPanic), "", jid.JID{}, zap.Any("panic", p), zap.Stack("stack"))
}
