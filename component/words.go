package component

import (
	"context"
	"errors"
	"slices"
	"sync"
	"syscall"

	"go.uber.org/zap"
	"mellium.im/xmpp/stanza"
	xmppstream "mellium.im/xmpp/stream"
)

// hint returns a log field with what Hint says.
func hint(err error) zap.Field {
	if text := Hint(err); text != "" {
		return zap.String("hint", text)
	}
	return zap.Skip()
}

// Hint tells an operator what to do about an error of the connection, or is empty. It has <xmpp.domain> where our own
// domain is meant.
func Hint(err error) string {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return h.text
		}
	}
	return ""
}

var hints = []struct {
	err  error
	text string
}{
	{syscall.ECONNREFUSED, "nothing listens there: is Prosody running, and is xmpp.server its component port (component_ports, 5347 unless set)?"},
	{xmppstream.NotAuthorized, "the server refuses the secret: xmpp.secret must equal component_secret below Component \"<xmpp.domain>\" in Prosody's configuration"},
	{xmppstream.HostUnknown, "the server has no such component: Prosody's configuration needs Component \"<xmpp.domain>\" with a component_secret"},
	{xmppstream.Conflict, "another usher, or another component, is connected by this name; standing by"},
	{xmppstream.InvalidFrom, "the server refuses the sender of a stanza: validate_from_addresses is about this component's domain"},
	{errBacklog, "the server is too slow, or stands still"},
	{stanza.Error{Condition: stanza.NotAllowed}, notAdmin},
	{stanza.Error{Condition: stanza.Forbidden}, notAdmin},
	{stanza.Error{Condition: stanza.RemoteServerNotFound}, "the server does not know this MUC service: is rooms.services right?"},
	{context.DeadlineExceeded, "the server did not answer in time: is it overloaded, and is rooms.services right?"},
}

const notAdmin = "usher may not act on this room: the MUC component needs admins = { \"focus@<xmpp.domain>\" }, and Prosody 13 the global component_admins_as_room_owners = true"

// counters count what happened, by reason code.
type counters struct {
	mu sync.Mutex
	n  map[string]int64
}

func (c *counters) add(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int64)
	}
	c.n[what]++
}

func (c *counters) fields() []zap.Field {
	c.mu.Lock()
	defer c.mu.Unlock()
	var f []zap.Field
	for what, n := range c.n {
		f = append(f, zap.Int64(what, n))
	}
	slices.SortFunc(f, func(a, b zap.Field) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	return f
}
