package component

import (
	"context"
	"encoding/xml"
	"errors"
	"testing"

	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/muc"
)

// playedService is a breakout service that says what a test wants.
type playedService struct {
	b           *breakouts
	form, ended error
	refuses     bool
	joins, ends int
}

func (s *playedService) IQ(_ context.Context, iq stanza.IQ, _ xml.TokenReader, _ any) error {
	switch {
	case iq.Type == stanza.GetIQ && s.ends > 0 && s.ended != nil:
		return s.ended // of every question, as of the wish to end it
	case iq.Type == stanza.GetIQ:
		return s.form
	}
	s.ends++
	return s.ended
}

func (s *playedService) Send(r xml.TokenReader) error {
	s.joins++
	from := "cell@breakout.meet.example.com/usher"
	if s.refuses {
		s.b.probe.hears(jid.MustParse(from), heard{typ: stanza.ErrorPresence})
	} else {
		s.b.probe.hears(jid.MustParse(from), heard{})
	}
	s.b.probe.hears(jid.MustParse("other@breakout.meet.example.com/usher"), heard{typ: stanza.ErrorPresence})
	return nil
}

// The answers of the breakout service tell whether a room can exist. It was removed only if the service ignores usher's presence, and
// has no such room afterwards. Where usher may not try, Jicofo is asked as before. A room that exists is not touched.
func TestBreakoutTries(t *testing.T) {
	t.Parallel()
	absent, forbidden := stanza.Error{Condition: stanza.ItemNotFound}, stanza.Error{Condition: stanza.Forbidden}
	for name, tt := range map[string]struct {
		form, ended error
		refuses     bool
		want        error
		joins       int
	}{
		"a room that is there":              {form: nil},
		"a room that is not usher's":        {form: forbidden, want: forbidden},
		"no answer":                         {form: context.DeadlineExceeded, want: context.DeadlineExceeded},
		"one that can be":                   {form: absent, joins: 1},
		"one that can be, without usher":    {form: absent, refuses: true, joins: 1},
		"one that cannot be":                {form: absent, ended: absent, want: errRemoved, joins: 1},
		"a service that refuses":            {form: absent, ended: absent, refuses: true, want: absent, joins: 1},
		"a service that says nothing":       {form: absent, ended: context.DeadlineExceeded, want: context.DeadlineExceeded, joins: 1},
		"a room that usher may not end":     {form: absent, ended: forbidden, want: forbidden, joins: 1},
		"one that has ended, and cannot be": {form: stanza.Error{Condition: stanza.Gone}, ended: stanza.Error{Condition: stanza.Gone}, want: errRemoved, joins: 1},
	} {
		s := &playedService{form: tt.form, ended: tt.ended, refuses: tt.refuses}
		b, err := newBreakouts(muc.Owner{Session: s, JID: jid.MustParse("focus@focus.meet.example.com")})
		if err != nil {
			t.Fatal(err)
		}
		s.b = b
		got := b.tries(t.Context(), jid.MustParse("cell@breakout.meet.example.com"))
		if !errors.Is(got, tt.want) || (got == nil) != (tt.want == nil) || errors.Is(got, errRemoved) != (tt.want == errRemoved) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
		if s.joins != tt.joins || s.ends != tt.joins || len(b.probe.entered) != 0 {
			t.Errorf("%s: entered %d times, ended %d times, and knows of %v", name, s.joins, s.ends, b.probe.entered)
		}
	}
}
