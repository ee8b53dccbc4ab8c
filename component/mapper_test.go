package component

import (
	"context"
	"encoding/xml"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/muc"
	"github.com/xmpp-usher/usher/pkg/element"
)

// mappedService answers the presence of a mapper as a MUC service does.
type mappedService struct {
	m      *mapper
	answer func(room string) (typ, from string) // nil keeps silent

	mu                sync.Mutex
	joined, destroyed []string
}

func (s *mappedService) IQ(context.Context, stanza.IQ, xml.TokenReader, any) error {
	return errors.ErrUnsupported
}

func (s *mappedService) Send(r xml.TokenReader) error {
	tok, err := r.Token()
	if err != nil {
		return err
	}
	start := tok.(xml.StartElement)
	room, nick, _ := strings.Cut(element.Attr(start, "to"), "/")
	s.mu.Lock()
	defer s.mu.Unlock()
	if start.Name.Local == "iq" {
		s.destroyed = append(s.destroyed, room)
		return nil
	}
	s.joined = append(s.joined, room)
	if s.answer == nil {
		return nil
	}
	go s.says(room, room+"/"+nick)
	return nil
}

// says has the service answer what was sent to the nick in the room.
func (s *mappedService) says(room, nick string) {
	typ, from := s.answer(nick)
	s.m.probe.hears(jid.MustParse(room), heard{from: from, typ: stanza.PresenceType(typ)})
}

func newMappedService(t *testing.T, answer func(string) (typ, from string)) *mappedService {
	s := &mappedService{answer: answer}
	m, err := newMapper(muc.Owner{Session: s, JID: jid.MustParse("focus@focus.meet.example.com")}, newRepeats(zap.NewNop()))
	if err != nil {
		t.Fatal(err)
	}
	s.m = m
	return s
}

func asItIs(room string) (typ, from string) { return "", room }

func mappedTo(room string) (typ, from string) {
	tenant, rest, _ := strings.Cut(strings.TrimPrefix(room, "["), "]")
	return "", strings.Replace(rest, "@conference.", "@conference."+tenant+".", 1)
}

func refuses(room string) (typ, from string) { return "error", room }

func TestMapper(t *testing.T) {
	t.Parallel()
	const its, spelled = "[acme]standup@conference.meet.example.com", "standup@conference.acme.meet.example.com"
	room := auth.Room{JID: jid.MustParse(its), Tenant: "acme", Name: "standup"}
	for name, tt := range map[string]struct {
		answer      func(string) (typ, from string)
		asked, want string
		looks       int // in four requests
		destroys    int
	}{
		"mapped":                    {mappedTo, spelled, spelled, 1, 1},
		"mapped, in brackets":       {mappedTo, its, spelled, 1, 1},
		"not mapped":                {asItIs, its, its, 1, 1},
		"not mapped, as by clients": {asItIs, spelled, its, 1, 1},
		"refused":                   {refuses, spelled, spelled, 4, 0},
		"refused, in brackets":      {refuses, its, its, 4, 0},
		"silent":                    {nil, spelled, spelled, 4, 4},
		"silent, in brackets":       {nil, its, its, 4, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newMappedService(t, tt.answer)
				for range 4 {
					got, err := s.m.address(t.Context(), room, tt.asked, func(auth.Room) (string, bool) { return spelled, true })
					if got != tt.want || err != nil {
						t.Errorf("%q %v, want %q", got, err, tt.want)
					}
				}
				if len(s.joined) != tt.looks || len(s.destroyed) != tt.destroys {
					t.Errorf("made %v, destroyed %v", s.joined, s.destroyed)
				}
				if len(s.m.probe.entered) != 0 {
					t.Errorf("waits for %v", s.m.probe.entered)
				}
				// A room of no tenant has one address.
				if got, err := s.m.address(t.Context(), auth.Room{JID: jid.MustParse("a@b.c")}, "", nil); got != "a@b.c" || err != nil {
					t.Errorf("%q %v", got, err)
				}
				_, err := s.m.address(t.Context(), room, tt.asked, func(auth.Room) (string, bool) { return "", false })
				if errors.Is(err, errUnspelled) != (tt.want == spelled) {
					t.Errorf("what clients cannot spell: %v", err)
				}
			})
		})
	}
}

// Those who ask at once share one look. On a new stream usher looks again; an answer on the old one counts for those who asked
// there.
func TestMapperTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMappedService(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		results := make(chan bool, 10)
		for range cap(results) {
			go func() {
				mapped, err := s.m.maps(t.Context(), "conference.meet.example.com")
				results <- mapped && err == nil
			}()
		}
		go func() {
			_, _ = s.m.maps(ctx, "conference.meet.example.com")
			results <- true
		}()
		synctest.Wait()
		if len(s.joined) != 1 {
			t.Fatalf("made %v", s.joined)
		}
		s.m.probe.hears(jid.MustParse(s.joined[0]), heard{from: s.joined[0] + "/focus", typ: stanza.UnavailablePresence}) // of another time
		s.m.probe.hears(jid.MustParse("[usher]usher-other@conference.meet.example.com"), heard{from: "usher-other@conference.usher.meet.example.com/focus"})
		s.mu.Lock()
		room := s.joined[0]
		s.answer = mappedTo
		s.mu.Unlock()
		s.says(room, room+"/focus")
		s.says(room, room+"/focus")
		for range cap(results) {
			if !<-results {
				t.Error("not mapped")
			}
		}
		<-results
		cancel()
		s.m.reset()
		s.answer = asItIs
		if mapped, err := s.m.maps(t.Context(), "conference.meet.example.com"); mapped || err != nil || len(s.joined) != 2 {
			t.Errorf("on the next stream: %t %v after %v", mapped, err, s.joined)
		}
	})
}
