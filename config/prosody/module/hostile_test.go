package module_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// Whatever people and other components send in the module's name, to whatever address, the module does nothing, and tells usher nothing.
func TestObeysNobodyElse(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true\nvalidate_from_addresses = false") // so that a component can say it is another
	w.open()
	owner, outsider, banned := w.client(), w.client(), w.client()
	w.affiliate(owner.BareJID(), "owner")
	w.affiliate(banned.BareJID(), "outcast")
	w.enter(owner, room, "owner", "")
	other := w.Component(t, "other.meet.example.com", "secret")
	e := w.listen(service, "all")
	e.snapshot(make(mirror))
	var before, after any
	const state = `local all = rooms(); all.sessions = {};
		for full, s in pairs(prosody.full_sessions) do all.sessions[full] = tostring(s.jitsi_meet_context_features)..tostring(s.usher); end
		return all`
	w.runs(service, state, &before)

	payloads := func(who *prosodytest.Client) (all []string) {
		for _, p := range []string{
			`<give xmlns='%s' room='` + room + `' jid='` + who.BareJID() + `' affiliation='owner' was='none' session='` + who.JID() + `'>{"features":{"recording":true}}</give>`,
			`<give xmlns='%s' room='` + room + `' jid='` + banned.BareJID() + `' affiliation='none' was='outcast'/>`,
			`<listen xmlns='%s' tell='all'/>`, `<listen xmlns='%s' tell='nothing'/>`, `<alive xmlns='%s' boot='` + e.boot + `'/>`,
			`<told xmlns='%s' boot='` + e.boot + `' n='1'><ended room='` + room + `'/></told>`, `<hello xmlns='%s' version='1'/>`,
		} {
			all = append(all, fmt.Sprintf(p, nsModule))
		}
		return all
	}
	stanzas := []string{
		`<message %s>%s</message>`, `<message type='groupchat' %s>%s</message>`, `<message type='chat' %s>%s</message>`, `<message type='headline' %s>%s</message>`,
		`<message type='error' %s>%s</message>`, `<message %s><body>x</body>%s</message>`, `<message %s><x xmlns='http://jabber.org/protocol/muc#user'>%s</x></message>`,
		`<iq type='get' id='h' %s>%s</iq>`, `<iq type='set' id='h' %s>%s</iq>`, `<iq type='result' id='h' %s>%s</iq>`, `<iq type='error' id='h' %s>%s</iq>`,
		`<presence %s>%s</presence>`, `<presence type='unavailable' %s>%s</presence>`, `<presence type='subscribe' %s>%s</presence>`,
	}
	addresses := []string{service, room, room + "/focus", room + "/owner", domain, usher, plain, "meet.example.com"}
	attack := func(c *prosodytest.Client, froms ...string) {
		t.Helper()
		for _, from := range froms {
			for _, to := range addresses {
				for _, s := range stanzas {
					for _, p := range payloads(outsider) {
						if c == owner && strings.HasPrefix(to, room) && (strings.HasPrefix(s, "<presence") || strings.Contains(s, "'error'")) {
							continue // it would leave the room by this
						}
						c.Sends(fmt.Sprintf(s, from+" to='"+to+"'", p))
					}
				}
			}
		}
	}
	attack(owner, "")
	attack(outsider, "", "from='"+usher+"'", "from='"+service+"'")
	attack(banned, "")
	for _, c := range []*prosodytest.Client{owner, outsider, banned} {
		if err := c.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.runs(service, "return 1", nil)
	for _, s := range w.usher.Drain() {
		if s.Attr["from"] == service && !s.Child("told", nsModule).IsZero() {
			t.Errorf("in the module's name, usher is told: %s", s)
		}
	}
	attack(other, "from='other.meet.example.com'", "from='"+usher+"'", "from='"+domain+"'", "from='"+service+"'")
	w.runsBy(other, service, "return 1", nil)
	w.runs(service, state, &after)
	if a, b := fmt.Sprint(before), fmt.Sprint(after); a != b {
		t.Errorf("before:\n%s\nafter:\n%s", a, b)
	}
	for _, c := range []*prosodytest.Client{owner, outsider, banned, other} {
		for _, s := range c.Drain() {
			if told := s.Child("", nsModule); s.Attr["from"] == service && slices.Contains([]string{"listening", "told", "alive"}, told.Name) && s.Attr["type"] != "error" {
				t.Errorf("somebody else is told: %s", s)
			}
		}
	}
	e.alive() // and usher has been told nothing
}
