package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/deploytest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// freeAddress returns an address of this machine at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestLivePage looks at the live page of an usher beside Prosody while a guest waits, a host comes and the guest is let in.
func TestLivePage(t *testing.T) {
	deploytest.Need(t, "chromium", "node")
	server := served(t, componentSecret)
	address := freeAddress(t)
	t.Setenv(opsListen, address)
	stderr := newLive()
	end := begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	stderr.until(t, "connected", 1)
	stderr.until(t, "usher answers metrics, health and the live page at ", 1)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()

	b := deploytest.Browse(t, "http://"+address, deploytest.BrowserOptions{Width: 1440})
	b.See("h1", "All is well")
	b.See("#checks .good", "Store")
	b.See("#checks .good", "Keys")
	b.See("#checks .good", server.ComponentAddr)
	b.See("#rooms-none", "No room is open, and nobody waits.")
	// lags are the milliseconds from each decision to its row.
	b.Run(`window.lags = {}, new MutationObserver(all => {
		for (const tr of all.flatMap(m => [...m.addedNodes])) {
			if (tr.dataset?.key && !(tr.dataset.key in lags)) lags[tr.dataset.key] = Date.now() - Date.parse(tr.querySelector('time').dateTime);
		}
	}).observe(document.querySelector('#decisions tbody'), { childList: true })`)

	const rounds = 3
	soon := 0
	for n := range rounds {
		soon += guestIsLetIn(ctx, t, b, server, fmt.Sprintf("room-%d", n))
	}
	// Each round says what it has to. That it is said within a second may fail now and then on a machine with much else to do.
	if soon == 0 {
		t.Errorf("in none of %d rounds the page said within a second that a guest waits, and that the guest is let in: %v", rounds, b.Run(`lags`))
	}

	stranger := server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})
	if got, err := asks(ctx, stranger, demoScene.room(), tokenOf(t, strings.Repeat("another secret ", 3))); got != "token-signature" {
		t.Fatal(got, err)
	}
	b.Do("select", "css", "#decisions-show", "text", "deny")
	b.See("#decisions tr.row:first-child", "token-signature")
	b.Click("#decisions .opener")
	b.See("#decisions .detail .step.bad", "signature")
	b.Shot("usher-explained")
	for _, path := range []string{"/", "/page/rooms", "/page/decisions"} {
		answer, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(answer.Body)
		answer.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		silent(t, string(said))
	}
	silent(t, b.Run(`document.documentElement.outerHTML`).(string))

	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	b.See("h1", "usher does not answer")
	stderr = newLive()
	begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
	b.See("h1", "All is well")
	server.Stop()
	b.See("h1", "Trouble: connection")
	b.Shot("usher-trouble")
	for _, complaint := range b.Complaints() {
		t.Error(complaint)
	}
}

// guestIsLetIn has a guest wait for a host and enter after them, while the page shows each step. It returns 1 if the page was quick.
func guestIsLetIn(ctx context.Context, t *testing.T, b *deploytest.Browser, server *prosodytest.Server, name string) int {
	t.Helper()
	room := name + "@" + demoScene.service
	row := "#rooms tr[data-key='" + room + "']"
	guest := server.Client(t, prosodytest.ClientOptions{Host: demoScene.guests})
	if got, err := asks(ctx, guest, room, ""); got != "host-absent" {
		t.Fatal(got, err)
	}
	guest.Sends(fmt.Sprintf("<iq type='set' id='held' to='%s'><conference xmlns='http://jitsi.org/protocol/focus' room='%s' machine-uid='%s'/></iq>",
		demoScene.focus, room, machine))
	bare, _, _ := strings.Cut(guest.JID(), "/")
	b.See("#decisions tr.row:first-child", "host-absent")
	waits := b.Run(`document.querySelector('#decisions tr.row').dataset.key`)
	b.See("#count-waiting .count", "1")
	b.See(row, "not open")
	b.Click(row + " .opener")
	b.See("#rooms .detail", bare)
	b.See("#rooms .detail", "Waiting: 1")
	b.Shot("usher-waiting")

	host := server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})
	if got, err := asks(ctx, host, room, tokenOf(t, appSecret)); got != "ready" {
		t.Fatal(got, err)
	}
	if s, err := host.Join(ctx, room, "host"); err != nil || s.Attr["type"] == "error" {
		t.Fatal(s, err)
	}
	if s, err := guest.Await(ctx, func(s prosodytest.Stanza) bool { return s.Attr["id"] == "held" }); err != nil || s.Attr["type"] != "result" {
		t.Fatal(s, err)
	}
	let := `#decisions tr.row:has(.allow):has-text("` + bare + `")`
	b.See(let, "guest")
	in := b.Run(`[...document.querySelectorAll('#decisions tr.row')].find(e => e.querySelector('.allow') && e.textContent.includes('` + bare + `')).dataset.key`)
	b.See("#count-waiting .count", "0")
	if s, err := guest.Join(ctx, room, "guest"); err != nil || s.Attr["type"] == "error" {
		t.Fatal(s, err)
	}
	b.See("#rooms .detail", "People: 2")
	b.Gone(row, "not open")
	b.Shot("usher-let-in")
	b.Click(row + " .opener")
	if lag := func(id any) float64 { return b.Run(fmt.Sprintf(`lags[%q]`, id)).(float64) }; lag(waits) <= 1000 && lag(in) <= 1000 {
		return 1
	}
	return 0
}

// TestLivePageStandsBy looks at the pages of two ushers with one store, of which one takes over from the other.
func TestLivePageStandsBy(t *testing.T) {
	deploytest.Need(t, "chromium", "node")
	p := newPair(t, shared, shared)
	for _, c := range p.ushers {
		c.ops = freeAddress(t)
	}
	first, second := p.standsBy(byLease)
	active := deploytest.Browse(t, "http://"+first.ops, deploytest.BrowserOptions{})
	active.See("h1", "All is well")
	standby := deploytest.Browse(t, "http://"+second.ops, deploytest.BrowserOptions{})
	standby.See("h1", "Standing by: another usher is active")
	standby.See("#checks .good", "Store")
	standby.See("#rooms-none", "The active usher knows the rooms.")
	guest := p.guest()
	guest.waits(demoScene.room())
	active.See("#count-waiting .count", "1")
	standby.See("#count-waiting .count", "–")
	standby.Shot("usher-standby")
	first.ends(syscall.SIGKILL)
	active.See("h1", "usher does not answer")
	standby.See("h1", "All is well")
	host := p.host()
	host.enters(demoScene.room(), p.token)
	standby.See("#rooms", "standup")
	standby.See("#decisions tr.row:has(.allow)", "host")
	for _, b := range []*deploytest.Browser{active, standby} {
		for _, complaint := range b.Complaints() {
			t.Error(complaint)
		}
	}
}
