package prosodytest

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTokenProvider(t *testing.T) {
	t.Parallel()
	o := tokens(JitsiOptions{})
	s := Start(t, o.Options())
	empty := o
	empty.AllowEmptyToken = true
	lenient := Start(t, empty.Options())
	at := func(offset time.Duration) int64 { return time.Now().Add(offset).Unix() }
	for name, tt := range map[string]struct {
		server *Server
		token  string
		want   string // in the error
	}{
		"good":               {s, sign(t, "app secret", "HS256", map[string]any{"exp": at(time.Hour), "nbf": at(-time.Hour)}), ""},
		"without an end":     {s, sign(t, "app secret", "HS256", nil), ""},
		"none":               {s, "", "token required"},
		"none, allowed":      {lenient, "", ""},
		"bad, none allowed":  {lenient, "e.y.J", "Invalid token"},
		"another secret":     {s, sign(t, "other", "HS256", nil), "Invalid signature"},
		"another algorithm":  {s, sign(t, "app secret", "none", nil), "Invalid or incorrect alg"},
		"expired":            {s, sign(t, "app secret", "HS256", map[string]any{"exp": at(-time.Hour)}), "Not acceptable by exp"},
		"not yet":            {s, sign(t, "app secret", "HS256", map[string]any{"nbf": at(time.Hour)}), "Not acceptable by nbf"},
		"another issuer":     {s, sign(t, "app secret", "HS256", map[string]any{"iss": "other"}), "invalid 'iss' claim"},
		"without issuer":     {s, sign(t, "app secret", "HS256", map[string]any{"iss": nil}), "'iss' claim is missing"},
		"without audience":   {s, sign(t, "app secret", "HS256", map[string]any{"aud": nil}), "'aud' claim is missing"},
		"without room":       {s, sign(t, "app secret", "HS256", map[string]any{"room": nil}), "room claim is missing"},
		"without sub":        {s, sign(t, "app secret", "HS256", map[string]any{"sub": nil}), "sub claim is missing"},
		"padding of a third": {s, sign(t, "app secret", "HS256", map[string]any{"x": "<<???>>"}), ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := tt.server.Dial(timeout(t, defaultTimeout), ClientOptions{Host: "meet.example.com", Token: tt.token, Transport: WebSocket})
			if err == nil {
				_ = c.Close()
			}
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), escaper.Replace(tt.want)) {
				t.Errorf("logging in: %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := s.Dial(timeout(t, defaultTimeout), ClientOptions{Host: "meet.example.com", Token: "e.y.J"}); err == nil {
		t.Error("a token over TCP is no error")
	}
	// The virtual host of guests does not verify tokens.
	if c, err := s.Dial(timeout(t, defaultTimeout), ClientOptions{Host: "guest.meet.example.com", Token: "e.y.J", Transport: WebSocket}); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
}

// TestResumption shows with which providers a client can resume its session, unnoticed by others.
func TestResumption(t *testing.T) {
	for provider, resumes := range map[string]bool{"anonymous": false, "token": true, "jitsi-anonymous": true} {
		t.Run(provider, func(t *testing.T) {
			o := tokens(JitsiOptions{Open: true, AllowEmptyToken: true})
			o.Auth = provider
			j := startJitsi(t, o)
			j.opens(room)
			token := sign(t, "app secret", "HS256", nil)
			romeo := j.Server.Client(t, ClientOptions{Host: "meet.example.com", Token: token, Transport: WebSocket, Resumable: true})
			juliet := j.Server.Client(t, ClientOptions{Host: "guest.meet.example.com", Transport: WebSocket})
			for nick, c := range map[string]*Client{"romeo": romeo, "juliet": juliet} {
				if refused, _ := j.enters(c, room, nick); refused != "" {
					t.Fatal(refused)
				}
			}
			was := romeo.JID()
			for range 2 { // the session can be resumed more than once
				romeo.Kill()
				juliet.Sends("<message to='" + room + "' type='groupchat'><body>Hello</body></message>")
				juliet.Receives("<message from='" + room + "/juliet'><body>Hello</body></message>")
				err := romeo.Resume(timeout(t, defaultTimeout), "")
				if !resumes {
					if err == nil || !strings.Contains(err.Error(), "item-not-found") {
						t.Fatalf("resuming: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				romeo.Receives("<message from='" + room + "/juliet'><body>Hello</body></message>")
			}
			romeo.Sends("<message to='" + room + "' type='groupchat'><body>Farewell</body></message>")
			juliet.Receives("<message from='" + room + "/romeo'><body>Farewell</body></message>")
			juliet.ReceivesNot("<presence from='" + room + "/romeo' type='unavailable'/>")
			if view := j.sees(room); romeo.JID() != was || view.Occupant(was).Nick != "romeo" {
				t.Errorf("now %s in %v", romeo.JID(), view)
			}
		})
	}
}

// TestResumptionLosesNothing shows that a resumed session loses no stanza of either side.
func TestResumptionLosesNothing(t *testing.T) {
	t.Parallel()
	s := Start(t, JitsiOptions{Hibernation: time.Hour, GuestAuth: "jitsi-anonymous"}.Options())
	juliet := s.Client(t, ClientOptions{Host: "guest.meet.example.com", Transport: WebSocket, Resumable: true})
	nurse := s.Client(t, ClientOptions{Host: "guest.meet.example.com"})
	if err := nurse.Resume(t.Context(), ""); err == nil {
		t.Error("resumed a session that cannot be resumed")
	}
	calls := func(bodies ...string) {
		t.Helper()
		for _, body := range bodies { // after five stanzas the server asks for an acknowledgement
			nurse.Sends("<message to='" + juliet.JID() + "'><body>" + body + "</body></message>")
		}
		if err := nurse.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	calls("1", "2", "3", "4", "5", "6", "7", "8")
	juliet.Receives("<message><body>8</body></message>")
	juliet.Kill()
	if err := juliet.Send("<message to='" + nurse.JID() + "'><body>Anon</body></message>"); err == nil {
		t.Error("sent without a connection")
	}
	calls("9")
	if err := juliet.Resume(timeout(t, defaultTimeout), ""); err != nil {
		t.Fatal(err)
	}
	nurse.Receives("<message from='" + juliet.JID() + "'><body>Anon</body></message>")
	var got []string
	for len(got) < 8 {
		m, err := juliet.Await(timeout(t, defaultTimeout), func(s Stanza) bool { return s.Name == "message" })
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.Child("body", nsClient).Text)
	}
	if want := []string{"1", "2", "3", "4", "5", "6", "7", "9"}; !slices.Equal(got, want) {
		t.Errorf("received %v, want %v", got, want)
	}
}

// TestResumptionEnds shows that a session cannot be resumed after its time.
func TestResumptionEnds(t *testing.T) {
	t.Parallel()
	s := Start(t, JitsiOptions{Hibernation: time.Second, GuestAuth: "jitsi-anonymous"}.Options())
	juliet := s.Client(t, ClientOptions{Host: "guest.meet.example.com", Transport: WebSocket, Resumable: true})
	nurse := s.Client(t, ClientOptions{Host: "guest.meet.example.com"})
	juliet.Sends("<presence to='" + nurse.JID() + "'/>") // so that the nurse is told of her end
	nurse.Receives("<presence from='" + juliet.JID() + "'/>")
	juliet.Kill()
	nurse.Receives("<presence type='unavailable' from='" + juliet.JID() + "'/>")
	if err := juliet.Resume(timeout(t, defaultTimeout), ""); err == nil || !strings.Contains(err.Error(), "item-not-found") {
		t.Errorf("resumed too late: %v", err)
	}
}

// TestFeatures shows with which providers the features of a token reach the client and Jitsi's modules.
func TestFeatures(t *testing.T) {
	forbids := sign(t, "app secret", "HS256", map[string]any{"context": map[string]any{"features": map[string]any{"recording": false}}})
	for provider, kept := range map[string]bool{"anonymous": false, "token": true, "jitsi-anonymous": false} {
		t.Run(provider, func(t *testing.T) {
			o := tokens(JitsiOptions{AllowEmptyToken: true, Permissions: true, Metadata: true, Breakout: true, Jibri: true})
			o.Auth = provider
			j := startJitsi(t, o)
			j.opens(room)
			enters := func(c *Client, nick, affiliation string) Stanza {
				t.Helper()
				j.affiliate(j.observer.client, room, c.BareJID(), affiliation)
				refused, presence := j.enters(c, room, nick)
				if refused != "" {
					t.Fatal(refused)
				}
				if before := c.Drain(); !slices.ContainsFunc(before, func(s Stanza) bool {
					m := s.Child("json-message", nsJitmeet)
					return s.Attr["from"] == "metadata.meet.example.com" && m.Attr["room"] == room &&
						strings.Contains(m.Text, "room_metadata") && strings.Contains(m.Text, "services")
				}) {
					t.Errorf("%s gets no metadata of the room before entering", nick)
				}
				return presence
			}
			romeo := j.Server.Client(t, ClientOptions{Host: "meet.example.com", Token: forbids, Room: "standup", Transport: WebSocket})
			got := may(enters(romeo, "romeo", "owner"))
			if kept && got != nil || !kept && got["recording"] != "true" {
				t.Errorf("permissions of the owner with a token that forbids recording: %v", got)
			}
			j.records(romeo, "of the owner with that token", !kept)
			paris := j.someone("meet.example.com")
			if got := may(enters(paris, "paris", "owner")); got["recording"] != "true" || len(got) != 9 {
				t.Errorf("permissions of the owner without a token: %v", got)
			}
			// An occupant that a moderator promotes gets no more permissions than the moderator has.
			juliet := j.someone("guest.meet.example.com")
			if got := may(enters(juliet, "juliet", "member")); got != nil {
				t.Errorf("permissions of the member: %v", got)
			}
			j.records(paris, "of the owner without a token", true)
			j.records(juliet, "of the member", false)
			j.affiliate(romeo, room, juliet.BareJID(), "owner")
			own, err := juliet.Await(timeout(t, defaultTimeout), func(s Stanza) bool { return s.Name == "presence" && s.HasStatus("110") })
			if got := may(own); err != nil || (got["recording"] == "false") != kept {
				t.Errorf("permissions of the occupant that this owner promotes: %v %v", got, err)
			}
			j.records(juliet, "of the occupant that this owner promotes", !kept)
		})
	}
}

// TestUpgrade shows that a guest who resumes with a token must have a good one. Prosody 0.12 has no event for this and verifies
// nothing.
func TestUpgrade(t *testing.T) {
	o := tokens(JitsiOptions{})
	t.Parallel()
	s := Start(t, o.Options())
	guest := func() *Client {
		return s.Client(t, ClientOptions{Host: "guest.meet.example.com", Transport: WebSocket, Resumable: true})
	}
	good, bad := guest(), guest()
	if err := good.Resume(timeout(t, defaultTimeout), sign(t, "app secret", "HS256", nil)); err != nil {
		t.Fatal(err)
	}
	if err := good.Sync(timeout(t, defaultTimeout)); err != nil {
		t.Error(err)
	}
	err := bad.Resume(timeout(t, defaultTimeout), "e.y.J")
	if err == nil {
		err = bad.Sync(timeout(t, defaultTimeout))
	}
	if refused := err != nil; refused == strings.HasPrefix(s.Version(), "0.12") {
		t.Errorf("with a bad token: %v", err)
	}
}
