package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

// answers is a Session that answers each IQ by what it is, and notes what was asked.
type answers struct {
	answer func(asked string) (string, error)
	asked  []string
}

func (a *answers) IQ(_ context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	b, err := encode(iq.Wrap(payload))
	if err != nil {
		return err
	}
	a.asked = append(a.asked, string(b))
	answer, err := a.answer(string(b))
	if err == nil && v != nil {
		err = xml.Unmarshal([]byte(answer), v)
	}
	return err
}

func (a *answers) Send(xml.TokenReader) error { return nil }

// ejabberdForm is the form of a room of ejabberd 23.01, as far as it matters.
func ejabberdForm(more string) string {
	return `<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='form'>
		<field var='FORM_TYPE' type='hidden'><value>http://jabber.org/protocol/muc#roomconfig</value></field>
		<field var='muc#roomconfig_persistentroom' type='boolean'><value>0</value></field>
		<field var='muc#roomconfig_whois' type='list-single'><value>anyone</value></field>` + more + `</x></query>`
}

const (
	ejabberdClosed = `<field var='muc#roomconfig_membersonly' type='boolean'><value>1</value></field>`
	ejabberdOwn    = `<field var='muc#roomconfig_presencebroadcast' type='list-multi'><value>moderator</value><value>participant</value><value>visitor</value></field>
		<field var='muc#roomconfig_moderatedroom' type='boolean'><value>0</value></field>
		<field var='muc#roomconfig_allowinvites' type='boolean'><value>0</value></field>
		<field var='allow_subscription' type='boolean'><value>0</value></field>`
)

func newAnswers(form string) (*answers, Owner) {
	a := &answers{answer: func(asked string) (string, error) {
		switch {
		case strings.Contains(asked, "prosody.im"):
			return "", stanza.Error{Condition: stanza.BadRequest}
		case strings.Contains(asked, `type="get"`):
			return form, nil
		}
		return "<query/>", nil
	}}
	return a, Owner{Session: a, JID: jid.MustParse(us), Occupant: jid.MustParse(ourself)}
}

// A server that refuses Prosody's fields is asked which it has, and gets all of its own that matter, and no others.
func TestConfigureWithTheFieldsOfTheForm(t *testing.T) {
	a, o := newAnswers(ejabberdForm(ejabberdClosed + ejabberdOwn))
	if err := o.Configure(t.Context(), jid.MustParse(standup), Configuration{MembersOnly: true}); err != nil {
		t.Fatal(err)
	}
	last := a.asked[len(a.asked)-1]
	for _, f := range []string{
		"muc#roomconfig_membersonly", "muc#roomconfig_whois", "muc#roomconfig_presencebroadcast", "muc#roomconfig_moderatedroom", "muc#roomconfig_allowinvites", `"allow_subscription`,
	} {
		if !strings.Contains(last, f) {
			t.Errorf("%s is not submitted: %s", f, last)
		}
	}
	for _, f := range []string{"prosody.im", "muc#roomconfig_allow_subscription", "muc#roomconfig_persistentroom"} {
		if strings.Contains(last, f) {
			t.Errorf("%s is submitted: %s", f, last)
		}
	}
	// A room that cannot be closed is an error: nobody is let in.
	_, o = newAnswers(ejabberdForm(ejabberdOwn))
	if err := o.Configure(t.Context(), jid.MustParse(standup), Configuration{MembersOnly: true}); !errors.Is(err, errNoMembersOnly) {
		t.Errorf("got %v", err)
	}
}

// Each way into a room, or to hear what is said there, makes usher configure it again.
func TestEnforceOnEjabberd(t *testing.T) {
	for name, change := range map[string][2]string{
		"nothing":        {},
		"moderated":      {"moderatedroom' type='boolean'><value>0", "moderatedroom' type='boolean'><value>1"},
		"invitations":    {"allowinvites' type='boolean'><value>0", "allowinvites' type='boolean'><value>1"},
		"subscriptions":  {"allow_subscription' type='boolean'><value>0", "allow_subscription' type='boolean'><value>1"},
		"hidden":         {"<value>participant</value>", ""},
		"open":           {"membersonly' type='boolean'><value>1", "membersonly' type='boolean'><value>0"},
		"for moderators": {"<value>anyone", "<value>moderators"},
	} {
		a, o := newAnswers(strings.Replace(ejabberdForm(ejabberdClosed+ejabberdOwn), change[0], change[1], 1))
		if _, err := o.Enforce(t.Context(), jid.MustParse(standup), Configuration{MembersOnly: true}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		did := slices.ContainsFunc(a.asked, func(asked string) bool { return strings.Contains(asked, `type="submit"`) })
		if did != (name != "nothing") {
			t.Errorf("%s: configured: %t", name, did)
		}
	}
}

// Only ejabberd's not-allowed means that somebody owns all rooms.
func TestProtects(t *testing.T) {
	prosody := ejabberdForm(`<field var='` + noInvites.name + `' type='boolean'/>`)
	for _, tt := range []struct {
		form      string
		condition stanza.Condition
		want      bool
	}{
		{prosody, stanza.NotAcceptable, true}, {prosody, stanza.NotAllowed, false}, {ejabberdForm(ejabberdClosed), stanza.NotAllowed, true},
		{ejabberdForm(ejabberdClosed), stanza.Forbidden, false},
	} {
		_, o := newAnswers(tt.form)
		if got := o.protects(t.Context(), jid.MustParse(standup), stanza.Error{Condition: tt.condition}); got != tt.want {
			t.Errorf("%s with %s: %t", tt.condition, tt.form, got)
		}
	}
}

// A room that ejabberd has just ended answers nothing: neither a question nor a join. usher asks again, and is not told of its own
// occupant's end by status 110.
func TestRoomThatIsEnding(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.ejabberd = true
		defer func() { w.disconnected() }()
		w.settle()
		c := w.enters(t, romeo, "owner")
		w.destroy(c)
		w.settle()
		if w.hostPresent(jid.MustParse(standup)) {
			t.Error("after the end a host is inside")
		}
		w.chats[standup] = &chat{address: standup, silent: true}
		w.admit(standup, romeo, "owner", true, time.Time{})
		w.settle()
		delete(w.chats, standup)
		time.Sleep(10 * firstWait)
		w.settle()
		if err := w.told(romeo); err != nil || w.chats[standup] == nil || w.chats[standup].by(ourself) == nil {
			t.Errorf("the room did not begin again: %v", err)
		}
	})
}
