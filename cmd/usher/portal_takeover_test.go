//go:build linux

package main

import (
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestPortalTakesOver has two ushers on one Redis, each with a portal. The one that stands by sends hosts away for a moment. When it has
// taken over, a session of the other one counts, as do its tokens, and a logout puts the host out.
func TestPortalTakesOver(t *testing.T) {
	p := newPair(t, shared, shared)
	users(t, juliet)
	var portals [2]string
	for n, c := range p.ushers {
		portals[n] = freePort(t)
		is, err := os.ReadFile(c.yaml)
		if err != nil {
			t.Fatal(err)
		}
		write(t, c.yaml, string(is)+fmt.Sprintf(portalYAML, portals[n], ""))
	}
	first, second := p.standsBy(byLease)
	first.has("usher answers the portal at ", 1)
	second.has("usher answers the portal at ", 1)
	b := newBrowser(t, portals[0])
	there := newBrowser(t, portals[1])
	there.client.Jar = b.client.Jar // a browser knows hosts, and no ports
	compact := b.logsIn("juliet", juliet.Hash, "standup")
	host := p.host()
	if got := enters(t, host.Client, demoScene.room(), compact, host.nick()); got != hostStanding {
		t.Errorf("Juliet is %s", got)
	}
	if got := there.get("/login?room=standup"); got.status != http.StatusServiceUnavailable {
		t.Errorf("standing by: %+v", got)
	}
	if got := there.post("/login", "name", "juliet", "password", juliet.Hash, "room", "standup"); got.status != http.StatusServiceUnavailable {
		t.Errorf("standing by: %+v", got)
	}
	first.ends(syscall.SIGKILL)
	second.has(isConnect, 1)
	for late := time.Now().Add(time.Minute); there.get("/").status == http.StatusServiceUnavailable; {
		if time.Now().After(late) {
			t.Fatal("the portal of the active usher sends hosts away")
		}
		<-time.After(50 * time.Millisecond)
	}
	there.get("/login?room=standup").token(t, "standup")
	p.host().gets("ready", demoScene.room(), "token='"+compact+"'")
	host.stays(demoScene.room())
	if got := there.post("/logout"); got.status >= http.StatusBadRequest {
		t.Errorf("%+v", got)
	}
	isOut(t, host.Client, demoScene.room(), host.nick())
	p.host().gets("token-revoked", demoScene.room(), "token='"+compact+"'")
	silent(t, b.said.String()+there.said.String())
}
