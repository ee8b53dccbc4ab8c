package muc

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mellium.im/xmlstream"
	"mellium.im/xmpp/jid"
	"mellium.im/xmpp/stanza"

	"github.com/xmpp-usher/usher/pkg/element"
)

// loaded is a server with usher's module, as far as a Told notices it: the answers to its questions, and what it sends to it.
type loaded struct {
	mu     sync.Mutex
	told   *Told
	boot   string // empty: the module is not there
	n      int
	before func() // called right before a question is answered
	sent   []string
	asked  []string
	news   []string
	warned []string
}

func newLoaded(mirror bool) *loaded {
	l := &loaded{boot: "b1"}
	l.told = NewTold(ToldOptions{
		Session: l, From: jid.MustParse(us), Mirror: mirror, News: l.hears,
		Warn: func(service jid.JID, what string, err error) {
			l.warned = append(l.warned, fmt.Sprint(service, " ", what, ": ", err))
		},
	})
	return l
}

func (l *loaded) hears(n News) {
	l.mu.Lock()
	defer l.mu.Unlock()
	kinds := []string{"room", "ended", "joined", "left", "role", "affiliation", "settings", "refused", "tells", "silent"}
	l.news = append(l.news, strings.Join(strings.Fields(fmt.Sprint(kinds[n.Kind], " ", n.Room, " ", n.Nick, " ", n.Who, " ", n.Role, " ", n.Affiliation, " ", n.By, " ", n.Why)), " "))
}

// listens runs Listen in a bubble, and ends it with the test.
func (l *loaded) listens(t *testing.T, services ...string) {
	ctx, end := context.WithCancel(t.Context())
	var all []jid.JID
	for _, s := range services {
		all = append(all, jid.MustParse(s))
	}
	var running sync.WaitGroup
	l.told.Use(all)
	running.Go(func() { l.told.Listen(ctx) })
	t.Cleanup(func() { end(); running.Wait() })
	synctest.Wait()
}

// tell sends what the module tells, by number. It returns what Hear said.
func (l *loaded) tell(t *testing.T, said string) error {
	l.becomes(l.boot, l.n+1)
	ours, err := l.say(fmt.Sprintf("<told xmlns='%s' boot='%s' n='%d'>%s</told>", NSModule, l.boot, l.n, said))
	if !ours {
		t.Errorf("not heard: %s", said)
	}
	synctest.Wait()
	return err
}

// becomes makes the module one that was loaded at a boot and has told so much.
func (l *loaded) becomes(boot string, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.boot, l.n = boot, n
}

func (l *loaded) say(payload string) (ours bool, err error) {
	return heard(l.told, mucDomain, "focus.meet.example.com", payload)
}

// heard has a Told hear a message.
func heard(told *Told, from, to, payload string) (ours bool, err error) {
	d := xml.NewDecoder(strings.NewReader(fmt.Sprintf("<message from='%s' to='%s'>%s</message>", from, to, payload)))
	tok, err := d.Token()
	if err != nil {
		return false, err
	}
	return told.Hear(jid.MustParse(from), tok.(xml.StartElement), d)
}

func (l *loaded) IQ(_ context.Context, iq stanza.IQ, payload xml.TokenReader, v any) error {
	tok, err := payload.Token()
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	start := tok.(xml.StartElement)
	l.mu.Lock()
	before := l.before
	l.mu.Unlock()
	if before != nil {
		before()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked = append(l.asked, start.Name.Local+" "+iq.To.String())
	if start.Name.Space != NSModule || l.boot == "" {
		return stanza.Error{Type: stanza.Cancel, Condition: stanza.ServiceUnavailable}
	}
	answer := "listening"
	if start.Name.Local == "alive" {
		answer = "alive"
		if element.Attr(start, "boot") != l.boot {
			return stanza.Error{Type: stanza.Cancel, Condition: stanza.ItemNotFound}
		}
	}
	return xml.Unmarshal(fmt.Appendf(nil, "<%s xmlns='%s' version='1' boot='%s' n='%d'/>", answer, NSModule, l.boot, l.n), v)
}

func (l *loaded) Send(r xml.TokenReader) error {
	var out strings.Builder
	e := xml.NewEncoder(&out)
	if _, err := xmlstream.Copy(e, r); err != nil {
		return err
	}
	err := e.Flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, out.String())
	return err
}

// takes returns what was sent, or asked, since it was last called.
func (l *loaded) takes(list *[]string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := *list
	*list = nil
	return all
}

const snapshot = `<room jid='` + standup + `' members_only='1' public_jids='1'>` +
	`<occupant nick='focus' jid='` + jicofo + `/x' role='moderator' affiliation='owner'/>` +
	`<occupant nick='r' jid='` + romeo + `/1' role='moderator' affiliation='owner'/>` +
	`<affiliation jid='` + jicofo + `' affiliation='owner'/><affiliation jid='` + romeo + `' affiliation='owner' by='` + us + `'/>` +
	`<affiliation jid='evil.example' affiliation='outcast'/></room>`

// toldOfOne returns a Told with a mirror of one room.
func toldOfOne(t *testing.T) (*loaded, Owner) {
	l := newLoaded(true)
	l.listens(t, mucDomain)
	for _, said := range []string{snapshot, "<complete/>"} {
		if err := l.tell(t, said); err != nil {
			t.Fatal(err)
		}
	}
	if !l.told.Tells(mucDomain) {
		t.Fatalf("the mirror is not complete: %+v", l.told.Services())
	}
	l.takes(&l.news)
	l.takes(&l.asked)
	return l, Owner{Session: l, JID: jid.MustParse(us), Told: l.told}
}

// The owner's questions are answered by what was told, and nobody is asked.
func TestToldAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, o := toldOfOne(t)
		room := jid.MustParse(standup)
		moderators, err := o.Moderators(t.Context(), room)
		want := []Item{{"owner", "moderator", jicofo + "/x", "focus"}, {"owner", "moderator", romeo + "/1", "r"}}
		if err != nil || !slices.Equal(moderators, want) {
			t.Errorf("moderators: %v, %v", moderators, err)
		}
		outcasts, err := o.WithAffiliation(t.Context(), room, "outcast")
		if err != nil || !slices.Equal(outcasts, []Item{{Affiliation: "outcast", JID: "evil.example"}}) {
			t.Errorf("outcasts: %v, %v", outcasts, err)
		}
		is, err := o.Settings(t.Context(), room)
		if err != nil || !is.MembersOnly || !is.Temporary || is.loose || !isProsody(is.offers) {
			t.Errorf("settings: %+v, %v", is, err)
		}
		if at, err := NewLobby(o, jid.MustParse(lobbyDomain)).At(t.Context(), room); at || err != nil {
			t.Errorf("lobby: %v, %v", at, err)
		}
		if _, err := o.Moderators(t.Context(), jid.MustParse(retro)); !Absent(err) {
			t.Errorf("a room that is not told of: %v", err)
		}
		if by, known := l.told.MadeBy(room, romeo); by != us || !known {
			t.Errorf("romeo was made owner by %q, %v", by, known)
		}
		if asked := l.takes(&l.asked); asked != nil {
			t.Errorf("asked %v", asked)
		}
	})
}

// What is given is sent at once, and counts at once.
func TestToldGive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, o := toldOfOne(t)
		room := jid.MustParse(standup)
		sent, err := l.told.Give(Given{Room: room, Who: jid.MustParse(juliet), Affiliation: "member",
			Context: &Context{Session: jid.MustParse(juliet + "/1"), Features: map[string]bool{"recording": false}}})
		if !sent || err != nil {
			t.Fatalf("not sent: %v", err)
		}
		want := `<message type="normal" to="` + mucDomain + `" from="` + us + `" id="give member ` + juliet + ` ` + standup + `">` +
			`<give xmlns="` + NSModule + `" room="` + standup + `" jid="` + juliet + `" affiliation="member" was="none" n="2" session="` + juliet +
			`/1">{&#34;features&#34;:{&#34;recording&#34;:false}}</give></message>`
		if sent := l.takes(&l.sent); len(sent) != 1 || sent[0] != want {
			t.Errorf("sent\n%s, want\n%s", sent, want)
		}
		members, err := o.WithAffiliation(t.Context(), room, "member")
		if err != nil || !slices.Equal(members, []Item{{Affiliation: "member", JID: juliet}}) {
			t.Errorf("members: %v, %v", members, err)
		}
		if _, err := l.told.Give(Given{Room: room, Who: jid.MustParse(eve), Affiliation: "member"}); !errors.Is(err, ErrOutcast) {
			t.Errorf("somebody from a banned domain: %v", err)
		}
		if _, err := l.told.Give(Given{Room: jid.MustParse(retro), Who: jid.MustParse(juliet), Affiliation: "member"}); !errors.Is(err, ErrAbsent) {
			t.Errorf("a room that does not exist: %v", err)
		}
		if err := l.tell(t, `<refused room='`+standup+`' jid='`+juliet+`' affiliation='member' condition='not-acceptable'/>`); err != nil {
			t.Error(err)
		}
		if members, _ := o.WithAffiliation(t.Context(), room, "member"); len(members) != 0 {
			t.Errorf("after the refusal: %v", members)
		}
		if news := l.takes(&l.news); !slices.Equal(news, []string{"refused " + standup + " " + juliet + " member not-acceptable"}) {
			t.Errorf("news: %v", news)
		}
	})
}

// After a gap, a reload or silence the room itself is asked, until a snapshot is complete.
func TestToldLost(t *testing.T) {
	for name, lose := range map[string]func(t *testing.T, l *loaded){
		"a gap": func(t *testing.T, l *loaded) { l.becomes("b1", l.n+1); _ = l.tell(t, "<complete/>") },
		"a stanza that makes no sense": func(t *testing.T, l *loaded) {
			if err := l.tell(t, "<joined room='"+standup+"' nick='x' role='king'/>"); err == nil {
				t.Error("it was taken in")
			}
		},
		"a reload":     func(t *testing.T, l *loaded) { l.becomes("b2", -1); _ = l.tell(t, "<hello version='1'/>") },
		"silence":      func(_ *testing.T, l *loaded) { l.becomes("b1", l.n+1); time.Sleep(aliveEvery + time.Second) },
		"another boot": func(_ *testing.T, l *loaded) { l.becomes("b2", 7); time.Sleep(aliveEvery + time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, o := toldOfOne(t)
				lose(t, l)
				synctest.Wait()
				if l.told.Tells(mucDomain) {
					t.Fatal("the mirror is kept")
				}
				if news := l.takes(&l.news); !slices.Equal(news, []string{"silent " + mucDomain}) {
					t.Errorf("news: %v", news)
				}
				if asked := l.takes(&l.asked); !slices.Contains(asked, "listen "+mucDomain) {
					t.Errorf("not asked to tell again: %v", asked)
				}
				if _, err := o.Moderators(t.Context(), jid.MustParse(standup)); err == nil || len(l.takes(&l.asked)) != 1 {
					t.Errorf("the room was not asked: %v", err)
				}
				for _, said := range []string{snapshot, "<complete/>"} {
					_ = l.tell(t, said)
				}
				if news := l.takes(&l.news); !slices.Equal(news, []string{"room " + standup, "tells " + mucDomain}) || !l.told.Tells(mucDomain) {
					t.Errorf("news: %v", news)
				}
			})
		})
	}
}

// What usher gives may cross somebody's entry, which is told with what they were before. The module does not tell it then.
func TestToldGiveCrossesEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, o := toldOfOne(t)
		room := jid.MustParse(standup)
		if sent, err := l.told.Give(Given{Room: room, Who: jid.MustParse(juliet), Affiliation: "owner"}); !sent || err != nil {
			t.Fatalf("not sent: %v", err)
		}
		_ = l.tell(t, `<joined room='`+standup+`' nick='j' jid='`+juliet+`/1' role='moderator' affiliation='admin'/>`)
		moderators, err := o.Moderators(t.Context(), room)
		if want := (Item{"owner", "moderator", juliet + "/1", "j"}); err != nil || !slices.Contains(moderators, want) {
			t.Errorf("moderators: %v, %v", moderators, err)
		}
		if news := l.takes(&l.news); !slices.Equal(news, []string{"joined " + standup + " j " + juliet + "/1 moderator owner"}) {
			t.Errorf("news: %v", news)
		}
	})
}

// An admin of the service inside stays an owner, whatever usher wants to give.
func TestToldAdminStaysOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, o := toldOfOne(t)
		room := jid.MustParse(standup)
		_ = l.tell(t, `<joined room='`+standup+`' nick='a' jid='`+admin+`/1' role='moderator' affiliation='owner'/>`)
		_, _ = l.told.Give(Given{Room: room, Who: jid.MustParse(admin), Affiliation: "member"})
		_ = l.tell(t, `<refused room='`+standup+`' jid='`+admin+`' affiliation='member' condition='not-acceptable'/>`)
		moderators, err := o.Moderators(t.Context(), room)
		if want := (Item{"owner", "moderator", admin + "/1", "a"}); err != nil || !slices.Contains(moderators, want) {
			t.Errorf("moderators: %v, %v", moderators, err)
		}
	})
}

// Where the module is to be and is not, one warning says so, however often it is asked for; where it need not be, none does.
func TestToldAbsent(t *testing.T) {
	for _, expected := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			l := newLoaded(true)
			l.boot, l.told.o.Expected = "", expected
			l.listens(t, mucDomain)
			time.Sleep(2*listenSeldom + time.Second)
			synctest.Wait()
			if asked, warned := len(l.takes(&l.asked)), l.takes(&l.warned); asked != 3 || expected != (len(warned) == 1) {
				t.Errorf("expected %v: asked %d times, warned %q", expected, asked, warned)
			}
		})
	}
}
