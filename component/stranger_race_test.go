package component

import (
	"context"
	"encoding/xml"
	"testing"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
)

// closing is a service with a room that refuses the stranger. The room says whether it is members-only, one answer after the other.
type closing struct {
	s           *stranger
	membersOnly []string
}

func (c *closing) IQ(_ context.Context, _ stanza.IQ, _ xml.TokenReader, v any) error {
	value := c.membersOnly[0]
	c.membersOnly = c.membersOnly[1:]
	return xml.Unmarshal([]byte(`<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'>
		<field var='muc#roomconfig_membersonly'><value>`+value+`</value></field></x></query>`), v)
}

func (c *closing) Send(r xml.TokenReader) error {
	if _, err := xmlstream.ReadAll(r); err != nil {
		return err
	}
	c.s.probe.hears(jid.MustParse("standup@conference.meet.example.com/stranger"), heard{
		typ: stanza.ErrorPresence, err: stanza.Error{Type: stanza.Auth, Condition: stanza.RegistrationRequired},
	})
	return nil
}

// A room that was made members-only while the stranger tried to enter says nothing about other rooms of the service.
func TestStrangerMeetsMembersOnly(t *testing.T) {
	t.Parallel()
	room := jid.MustParse("standup@conference.meet.example.com")
	for want, answers := range map[bool][]string{true: {"0", "0"}, false: {"0", "1"}} {
		c := &closing{membersOnly: answers}
		var err error
		if c.s, err = newStranger(muc.Owner{Session: c, JID: jid.MustParse("focus@focus.meet.example.com")}); err != nil {
			t.Fatal(err)
		}
		if err := c.s.tries(t.Context(), room); err != nil || c.s.refuses(room) != want {
			t.Errorf("members-only is %v: %v; strangers are taken to be kept out: %t", answers, err, !want)
		}
	}
}
