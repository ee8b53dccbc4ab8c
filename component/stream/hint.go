package stream

import (
	"errors"
	"syscall"

	xmppstream "mellium.im/xmpp/stream"
)

// Hint tells an operator what to do about an error of the connection, or is empty. Where it means our own domain it has
// <xmpp.domain>.
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
	{ErrBacklog, "the server is too slow, or stands still"},
}
