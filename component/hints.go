package component

import (
	"context"
	"errors"
	"strings"

	"go.uber.org/zap"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/component/stream"
)

// hint returns a log field that tells an operator what to do about the error, if that is known.
func (c *Component) hint(err error) zap.Field {
	if text := stream.Hint(err, c.o.Domain); text != "" {
		return zap.String("hint", text)
	}
	for _, h := range hints {
		if errors.Is(err, h.err) {
			return zap.String("hint", strings.ReplaceAll(h.text, "<xmpp.domain>", c.o.Domain.String()))
		}
	}
	return zap.Skip()
}

// hints are those about what a room answers; see also stream.Hint.
var hints = []struct {
	err  error
	text string
}{
	{stanza.Error{Condition: stanza.NotAllowed}, notAdmin},
	{stanza.Error{Condition: stanza.Forbidden}, notAdmin},
	{stanza.Error{Condition: stanza.RemoteServerNotFound}, "the server does not know this MUC service: is rooms.services right?"},
	{context.DeadlineExceeded, "the server did not answer in time: is it overloaded, and is rooms.services right?"},
}

const notAdmin = "usher may not act on this room: the MUC component needs admins = { \"focus@<xmpp.domain>\" }, and Prosody 13 the global component_admins_as_room_owners = true"
