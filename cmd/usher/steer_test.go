package main

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// TestAPISteers has a back end steer a room beside a real Prosody: a link lets somebody in, the room is locked and unlocked, somebody is put
// out, and the room ends. A key for other rooms sees and does nothing of it.
func TestAPISteers(t *testing.T) {
	o := startOutside(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	room := demoScene.room()
	r := command(t, "", "api", "key", "add", "some", "--scope", "tokens,rooms:read,rooms:write,links", "--rooms", "class-*,[acme]*", "--max-ttl", "10m", "-c", "usher.yaml")
	if r.status != 0 {
		t.Fatalf("%+v", r)
	}
	some := strings.TrimSpace(r.stdout)
	secrets.PlantRandom("a key of the API", some[len("usher_some_"):])
	o.log.until(t, "is in force", 1)

	token := o.redeems(`{"room":"standup","affiliation":"owner","name":"Juliet"}`)
	host := o.server.Client(t, prosodytest.ClientOptions{Host: demoScene.tokens})
	guest := o.server.Client(t, prosodytest.ClientOptions{Host: demoScene.guests})
	late := o.server.Client(t, prosodytest.ClientOptions{Host: demoScene.guests})
	enters := func(c *prosodytest.Client, machine, attr, nick string) {
		t.Helper()
		if got, err := asksFrom(ctx, c, machine, room, attr); err != nil || got != "ready" {
			t.Fatalf("%s, %v", got, err)
		}
		if _, err := c.Join(ctx, room, nick); err != nil {
			t.Fatal(err)
		}
	}
	leaves := func(c *prosodytest.Client, nick string) {
		t.Helper()
		if _, err := c.Await(ctx, func(s prosodytest.Stanza) bool {
			return s.Name == "presence" && s.Attr["type"] == "unavailable" && s.Attr["from"] == room+"/"+nick
		}); err != nil {
			t.Fatalf("%s is not put out: %v", nick, err)
		}
	}
	enters(host, "the-machine-of-the-host", "token='"+token+"'", "Juliet")
	enters(guest, "the-machine-of-the-guest", "", "Romeo")
	o.until("both inside", func() string { return o.asks("GET", "/rooms/standup", "", http.StatusOK, nil) }, has(`"hosts":1`, `"guests":1`, guest.BareJID()))

	mine := o.key
	o.key = some
	if rooms := o.asks("GET", "/rooms", "", http.StatusOK, nil); strings.Contains(rooms, "standup") {
		t.Errorf("a key for other rooms is shown %s", rooms)
	}
	for _, call := range [][3]string{
		{"GET", "/rooms/standup", ""}, {"DELETE", "/rooms/" + room, ""}, {"POST", "/rooms/Standup/lock", ""}, {"DELETE", "/rooms/standup/occupants/" + guest.BareJID(), ""},
		{"POST", "/tokens", `{"room":"standup"}`}, {"POST", "/tokens", `{"room":"*"}`}, {"POST", "/links", `{"room":"standup"}`}, {"POST", "/tokens", `{"room":"class-1","ttl":601}`},
	} {
		o.asks(call[0], call[1], call[2], http.StatusForbidden, nil)
	}
	o.asks("POST", "/tokens", `{"room":"class-1"}`, http.StatusCreated, nil)
	o.asks("POST", "/tokens", `{"room":"[acme]any"}`, http.StatusCreated, nil)
	o.key = mine

	o.asks("POST", "/rooms/standup/lock", "", http.StatusNoContent, nil)
	if got, err := asksFrom(ctx, late, "the-machine-of-the-late", room, ""); err != nil || got != "room-locked" {
		t.Errorf("into a locked room: %s, %v", got, err)
	}
	o.until("the lock", func() string { return o.asks("GET", "/rooms/standup", "", http.StatusOK, nil) }, has(`"locked":true`))
	o.asks("DELETE", "/rooms/standup/lock", "", http.StatusNoContent, nil)
	enters(late, "the-machine-of-the-late", "", "Paris")

	o.asks("DELETE", "/rooms/standup/occupants/"+late.BareJID()+"?reason=Enough.", "", http.StatusNoContent, nil)
	leaves(late, "Paris")
	o.asks("DELETE", "/rooms/standup?reason=The+hour+is+over.", "", http.StatusNoContent, nil)
	leaves(host, "Juliet")
	leaves(guest, "Romeo")
	o.until("no room", func() string { return o.asks("GET", "/rooms", "", http.StatusOK, nil) }, func(rooms string) bool { return !strings.Contains(rooms, "standup") })
	o.asks("DELETE", "/rooms/standup", "", http.StatusNotFound, nil)
	o.until("lines of the calls", o.audited, has(`"key":"some"`, `"status":403`, `"method":"DELETE","path":"/api/v1/rooms/{room}/occupants/{id}"`, `"who":"`+late.BareJID()+`"`))
	if status := o.end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	o.heard(o.audited())
	o.heard(o.log.String())
	silent(t, o.said.String())
}

// redeems makes a link, redeems it, and returns the token.
func (o *outside) redeems(body string) string {
	o.Helper()
	var link struct{ URL string }
	o.asks("POST", "/links", body, http.StatusCreated, &link)
	answer, err := o.client.Post(link.URL, "application/x-www-form-urlencoded", nil)
	if err != nil {
		o.Fatal(err)
	}
	answer.Body.Close()
	_, token, ok := strings.Cut(answer.Header.Get("Location"), "#jwt=%22")
	if !ok {
		o.Fatalf("%d %s", answer.StatusCode, answer.Header.Get("Location"))
	}
	token = strings.TrimSuffix(token, "%22")
	secrets.PlantTokens(token)
	return token
}
