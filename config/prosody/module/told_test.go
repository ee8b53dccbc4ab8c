package module_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	nsModule = "urn:usher:module:0"
	domain   = "focus.meet.example.com"
)

// ear is usher as the module tells it what happens.
type ear struct {
	w       *world
	service string
	boot    string
	n       int // of the last thing told
}

// listen asks a service to tell.
func (w *world) listen(service, tell string) *ear {
	w.t.Helper()
	answer := w.asksService(service, `<listen xmlns='`+nsModule+`' tell='`+tell+`'/>`, "").Child("listening", nsModule)
	n, err := strconv.Atoi(answer.Attr["n"])
	if err != nil || answer.Attr["boot"] == "" || answer.Attr["version"] != module.Version {
		w.t.Fatalf("it listens so: %s", answer)
	}
	return &ear{w: w, service: service, boot: answer.Attr["boot"], n: n}
}

// asksService sends a question of usher to a service, and checks its answer.
func (w *world) asksService(service, payload, want string) prosodytest.Stanza {
	w.t.Helper()
	w.asked++
	id := fmt.Sprintf("asked-%d", w.asked)
	w.usher.Sends(fmt.Sprintf(`<iq type='get' id='%s' from='%s' to='%s'>%s</iq>`, id, usher, service, payload))
	answer := w.usher.Receives(fmt.Sprintf(`<iq id='%s' from='%s'/>`, id, service))
	if got := answer.ErrorCondition(); got != want {
		w.t.Fatalf("%s: %q, want %q", payload, got, want)
	}
	return answer
}

// next takes what is told next, and checks its number.
func (e *ear) next() prosodytest.Stanza {
	e.w.t.Helper()
	ctx, cancel := context.WithTimeout(e.w.t.Context(), time.Minute)
	defer cancel()
	s, err := e.w.usher.Await(ctx, func(s prosodytest.Stanza) bool {
		return s.Name == "message" && s.Attr["from"] == e.service && !s.Child("told", nsModule).IsZero()
	})
	if err != nil {
		e.w.t.Fatal("nothing is told: ", err)
	}
	told := s.Child("told", nsModule)
	e.n++
	if told.Attr["n"] != strconv.Itoa(e.n) || told.Attr["boot"] != e.boot || s.Attr["to"] != domain || len(told.Children) != 1 {
		e.w.t.Fatalf("told, after number %d of %s: %s", e.n-1, e.boot, s)
	}
	return told.Children[0]
}

// tells checks what is told next, exactly, but for the order of attributes and children.
func (e *ear) tells(all ...string) {
	e.w.t.Helper()
	for _, want := range all {
		got := e.next()
		if ok, err := got.Matches(strings.Replace(want, " ", " xmlns='"+nsModule+"' scansion:strict='true' ", 1)); err != nil || !ok {
			e.w.t.Fatalf("told:\n%s\nwant (%v):\n%s", got, err, want)
		}
	}
}

// alive asks for a sign of life, which the module gives after it has told all that it knows. So nothing more may be told.
func (e *ear) alive() {
	e.w.t.Helper()
	answer := e.w.asksService(e.service, `<alive xmlns='`+nsModule+`' boot='`+e.boot+`'/>`, "").Child("alive", nsModule)
	if answer.Attr["n"] != strconv.Itoa(e.n) || answer.Attr["boot"] != e.boot {
		e.w.t.Fatalf("after number %d of %s: %s", e.n, e.boot, answer)
	}
}

// give sends a grant to the module.
func (e *ear) give(who, affiliation, was, more string) {
	e.w.t.Helper()
	e.w.usher.Sends(fmt.Sprintf(`<message id='give' from='%s' to='%s'><give xmlns='%s' room='%s' jid='%s' affiliation='%s' was='%s' n='%d' %s/></message>`,
		usher, e.service, nsModule, room, who, affiliation, was, e.n, more))
}

// What happens in a room is told, in its order, and nothing else.
func TestTells(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	e := w.listen(service, "all")
	e.tells(`<complete />`)
	w.open()
	e.tells(fmt.Sprintf(`<room jid='%s' public_jids='1'><occupant nick='focus' jid='%s/usher' role='moderator' affiliation='owner'/>`+
		`<affiliation jid='%s' affiliation='owner'/></room>`, room, usher, usher))
	host, guest := w.client(), w.client()
	e.give(host.BareJID(), "owner", "none", "")
	e.give(guest.BareJID(), "member", "none", "")
	e.alive()
	w.enter(host, room, "host", "")
	e.tells(fmt.Sprintf(`<joined room='%s' nick='host' jid='%s' role='moderator' affiliation='owner'/>`, room, host.JID()))
	w.enter(guest, room, "guest", "")
	e.tells(fmt.Sprintf(`<joined room='%s' nick='guest' jid='%s' role='participant' affiliation='member'/>`, room, guest.JID()))
	w.membersOnly(host, "1")
	e.tells(fmt.Sprintf(`<settings room='%s' public_jids='1' members_only='1'/>`, room))
}
