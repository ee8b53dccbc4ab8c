package stream

import (
	"errors"
	"strings"
	"syscall"

	"mellium.im/xmpp/jid"
	xmppstream "mellium.im/xmpp/stream"
)

// Hint tells an operator what to do about an error of the connection of a domain, or is empty.
func Hint(err error, domain jid.JID) string {
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return strings.ReplaceAll(h.text, "<xmpp.domain>", domain.String())
		}
	}
	return ""
}

var hints = []struct {
	err  error
	text string
}{
	{syscall.ECONNREFUSED, "nothing listens there: is Prosody running, and is xmpp.server " + componentPort + "?"},
	{xmppstream.NotAuthorized, "the server refuses the secret: xmpp.secret must equal component_secret below Component \"<xmpp.domain>\" in Prosody's configuration"},
	{xmppstream.HostUnknown, "the server has no such component: Prosody's configuration needs Component \"<xmpp.domain>\" with a component_secret; " +
		"if it has that, xmpp.server is another port, such as that for clients, and not " + componentPort},
	{errNoHandshake, "is xmpp.server " + componentPort + "?"},
	{xmppstream.Conflict, "another usher, or another component, is connected by this name; standing by"},
	{xmppstream.InvalidFrom, "the server refuses the sender of a stanza: validate_from_addresses is about this component's domain"},
	{ErrBacklog, "the server is too slow, or stands still"},
}

const componentPort = "its component port (component_ports, 5347 unless set)"
