package muc

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"
)

func TestOwnerAsks(t *testing.T) {
	room, romeo := jid.MustParse("standup@conference.meet.example.com"), jid.MustParse("romeo@meet.example.com/orchard")
	const admin = "<query xmlns=\"http://jabber.org/protocol/muc#admin\">%s</query>"
	for name, tt := range map[string]struct {
		ask       func(Owner) error
		typ, want string
	}{
		"member": {func(o Owner) error { return o.SetAffiliation(t.Context(), room, romeo, "member") },
			"set", fmt.Sprintf(admin, `<item affiliation="member" jid="romeo@meet.example.com"></item>`)},
		"owner": {func(o Owner) error { return o.SetAffiliation(t.Context(), room, romeo, "owner") },
			"set", fmt.Sprintf(admin, `<item affiliation="owner" jid="romeo@meet.example.com"></item>`)},
		"none": {func(o Owner) error { return o.SetAffiliation(t.Context(), room, romeo, "") },
			"set", fmt.Sprintf(admin, `<item affiliation="none" jid="romeo@meet.example.com"></item>`)},
		"moderators": {func(o Owner) error { _, err := o.Moderators(t.Context(), room); return err },
			"get", fmt.Sprintf(admin, `<item role="moderator"></item>`)},
		"outcasts": {func(o Owner) error { _, err := o.WithAffiliation(t.Context(), room, "outcast"); return err },
			"get", fmt.Sprintf(admin, `<item affiliation="outcast"></item>`)},
		"configure": {func(o Owner) error { return o.Configure(t.Context(), room, Configuration{MembersOnly: true}) },
			"set", `<query xmlns="http://jabber.org/protocol/muc#owner"><x xmlns="jabber:x:data" type="submit">` +
				`<field var="FORM_TYPE"><value>http://jabber.org/protocol/muc#roomconfig</value></field>` +
				`<field var="muc#roomconfig_membersonly"><value>true</value></field>` +
				`<field var="muc#roomconfig_whois"><value>anyone</value></field>` +
				`<field var="{http://prosody.im/protocol/muc}roomconfig_allowmemberinvites"><value>false</value></field></x></query>`},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{answer: "<query/>"}
			if err := tt.ask(Owner{Session: s, JID: jid.MustParse(us)}); err != nil {
				t.Fatal(err)
			}
			want := `<iq type="` + tt.typ + `" to="` + room.String() + `" from="` + us + `">` + tt.want + "</iq>"
			if s.asked != want {
				t.Errorf("asked\n%s\nwant\n%s", s.asked, want)
			}
			s.err = stanza.Error{Condition: stanza.Forbidden}
			if err := tt.ask(Owner{Session: s}); !errors.Is(err, s.err) {
				t.Errorf("the server's error is lost: %v", err)
			}
		})
	}
}

func TestModerators(t *testing.T) {
	s := &script{answer: "<query xmlns='http://jabber.org/protocol/muc#admin'>" +
		"<item affiliation='owner' role='moderator' jid='romeo@meet.example.com/orchard' nick='Romeo'><reason>why not</reason></item>" +
		"<item role='moderator' jid='juliet@meet.example.com/balcony'/></query>"}
	got, err := Owner{Session: s}.Moderators(t.Context(), jid.MustParse("standup@conference.meet.example.com"))
	want := []Item{
		{Affiliation: "owner", Role: "moderator", JID: "romeo@meet.example.com/orchard", Nick: "Romeo"},
		{Role: "moderator", JID: "juliet@meet.example.com/balcony"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestAbsent(t *testing.T) {
	absent := stanza.Error{Type: stanza.Cancel, Condition: stanza.ItemNotFound}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("item-not-found"), false},
		{stanza.Error{Type: stanza.Auth, Condition: stanza.Forbidden}, false},
		{absent, true},
		{fmt.Errorf("asking: %w", absent), true},
	} {
		if got := Absent(tt.err); got != tt.want {
			t.Errorf("%v: %t", tt.err, got)
		}
	}
}
