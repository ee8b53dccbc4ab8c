package component_test

import (
	"fmt"
	"strings"
	"testing"

	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
)

// Clients cannot hide that they leave by what they put into their presence: nobody counts as a host for ever, or keeps an
// affiliation.
func TestUnreadablePresence(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{
		"an error with an address that is none": "<error by='@'/>",
		"too deep":                              strings.Repeat("<a xmlns='b'>", 70) + strings.Repeat("</a>", 70),
		"too large":                             "<status>" + strings.Repeat("'", 100<<10) + "</status>",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			host, guest := g.person("meet.example.com"), g.person("guest.meet.example.com")
			host.enters(room, mint(t, nil))
			guest.enters(room, "")
			observer := g.person("meet.example.com")
			observer.enters(room, mint(t, nil))
			for _, p := range []*person{guest, host} {
				p.Sends(fmt.Sprintf("<presence type='unavailable' to='%s/%s'>%s</presence>", room, p.nick, content))
				p.Receives(fmt.Sprintf("<presence type='unavailable' from='%s/%s'/>", room, p.nick))
			}
			// Owners are usher and the observer.
			for affiliation, want := range map[string]int{"owner": 2, "member": 0} {
				g.inTime("what they had is taken back", func() bool { return g.affiliations(observer, room, affiliation) == want })
			}
			observer.leaves(room)
			late := g.person("guest.meet.example.com")
			g.eventually("the host counts as gone", func() bool { return late.asks(room, "") == "not-authorized host-absent" })
		})
	}
}

// usher still looks after a service that is taken out of the configuration for a while: nobody is a host there for ever.
func TestServiceTakenOut(t *testing.T) {
	t.Parallel()
	g := start(t)
	host, guest, late := g.person("meet.example.com"), g.person("guest.meet.example.com"), g.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	guest.enters(room, "")
	g.usher.Use(auth.New(policy(func(p *auth.Policy) { p.Services = []string{"rooms.example.com"} })), []jid.JID{jid.MustParse("rooms.example.com")})
	late.must("asks where nobody is let in", late.asks(room, ""), "forbidden room-unknown")
	host.leaves(room)
	guest.leaves(room)
	g.usher.Use(auth.New(policy()), []jid.JID{jid.MustParse(service)})
	g.eventually("the host counts as gone", func() bool { return late.asks(room, "") == "not-authorized host-absent" })
}
