package prosodytest

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"runtime"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config/gate"
)

const small = `
VirtualHost "meet.example.com"
  authentication = "anonymous"
VirtualHost "users.example.com"
VirtualHost "plain.example.com"
  authentication = "internal_plain"
  storage = "memory"
Component "focus.meet.example.com"
  component_secret = "secret"
`

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// gateConfig is the configuration of a server with the lines of config/gate and nothing else.
var gateConfig = gate.Server{
	Domain: bot, Secret: "secret", Service: "conference.meet.example.com",
	VHosts: []gate.VHost{
		{Domain: "meet.example.com", Authentication: "anonymous"},
		{Domain: "guest.meet.example.com", Authentication: "anonymous"},
	},
}.Lua()

const (
	room     = "standup@conference.meet.example.com"
	focusJID = "focus@focus.meet.example.com/usher"
)

// createRoom makes the component join the room, which creates it.
func createRoom(t *testing.T, focus *Client) {
	t.Helper()
	focus.Sends(`<presence from='` + focusJID + `' to='` + room + `/focus'><x xmlns='http://jabber.org/protocol/muc'/></presence>`)
	focus.Receives(`<presence from='` + room + `/focus'><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='owner'/><status code='110'/></x></presence>`)
}

func setAffiliation(t *testing.T, focus *Client, jid, affiliation string) {
	t.Helper()
	focus.Sends(fmt.Sprintf(`<iq type='set' id='affiliation' from='%s' to='%s'><query xmlns='http://jabber.org/protocol/muc#admin'>
		<item jid='%s' affiliation='%s'/></query></iq>`, focusJID, room, jid, affiliation))
	focus.Receives(`<iq type='result' id='affiliation' from='` + room + `'/>`)
}

const (
	lobbyRoom = "standup@lobby.meet.example.com"
	breakout  = "breakout.meet.example.com"
	bot       = "focus.meet.example.com" // the component: usher's domain
)

// jitsi is a server of [JitsiOptions], with a Jicofo and an observer.
type jitsi struct {
	*testing.T
	*Server
	jicofo   *Jicofo
	observer *Observer
}

// startJitsi starts them in parallel with other tests. Each tune changes Jicofo's options.
func startJitsi(t *testing.T, o JitsiOptions, tune ...func(*JicofoOptions)) *jitsi {
	t.Helper()
	t.Parallel()
	s := Start(t, o.Options())
	jo := o.Jicofo()
	for _, change := range tune {
		change(&jo)
	}
	return &jitsi{t, s, s.Jicofo(t, jo), s.Observe(t, o.Observer())}
}

// someone connects an anonymous client to the virtual host.
func (j *jitsi) someone(host string) *Client { return j.Server.Client(j.T, ClientOptions{Host: host}) }

// ask sends a conference request directly to Jicofo.
func (j *jitsi) ask(c *Client, room string) Stanza {
	j.Helper()
	answer, err := c.IQ(timeout(j.T, defaultTimeout), "set", j.jicofo.JID(), "<conference xmlns='"+nsFocus+"' room='"+room+"' machine-uid='1'/>")
	if err != nil {
		j.Fatal(err)
	}
	return answer
}

// opens makes Jicofo enter the room.
func (j *jitsi) opens(room string) {
	j.Helper()
	if answer := j.ask(j.someone("meet.example.com"), room); answer.Child("conference", nsFocus).Attr["ready"] != "true" {
		j.Fatalf("Jicofo did not open %s: %s", room, answer)
	}
}

// enters joins as Jitsi's client does, with a display name. It returns the condition of the error, or "", and the answer.
func (j *jitsi) enters(c *Client, room, nick string) (string, Stanza) {
	j.Helper()
	c.Sends("<presence to='" + room + "/" + nick + "'><x xmlns='" + nsMUC + "'/><nick xmlns='http://jabber.org/protocol/nick'>" + nick + "</nick></presence>")
	answer, err := c.Await(timeout(j.T, defaultTimeout), func(s Stanza) bool {
		return s.Name == "presence" && bare(s.Attr["from"]) == room && (s.Attr["type"] == "error" || s.HasStatus("110"))
	})
	if err != nil {
		j.Fatalf("%s enters %s: %v", nick, room, err)
	}
	return answer.ErrorCondition(), answer
}

// records checks whether the stand-in for Jitsi's filter lets somebody in the room start and stop recordings and streams. Questions pass.
func (j *jitsi) records(c *Client, of string, may bool) {
	j.Helper()
	for _, mode := range []string{"file", "FILE", "stream", "other"} {
		for _, action := range []string{"start", "Stop", "status"} {
			jibri := "<jibri xmlns='http://jitsi.org/protocol/jibri' action='" + action + "' recording_mode='" + mode + "'/>"
			answer, err := c.IQ(timeout(j.T, defaultTimeout), "set", room+"/focus", jibri)
			if passed := answer.ErrorCondition() != "forbidden"; err != nil || passed != (may || action == "status") {
				j.Errorf("%s %s %s: %s, %v", action, mode, of, answer, err)
			}
		}
	}
	answer, err := c.IQ(timeout(j.T, defaultTimeout), "set", "nowhere@conference.meet.example.com/focus", "<jibri xmlns='http://jitsi.org/protocol/jibri' action='status'/>")
	if err != nil || answer.ErrorCondition() != "item-not-found" {
		j.Errorf("in no room: %s, %v", answer, err)
	}
}

// affiliate sets an affiliation, which must succeed.
func (j *jitsi) affiliate(by *Client, room, jid, affiliation string) {
	j.Helper()
	answer, err := by.IQ(timeout(j.T, defaultTimeout), "set", room, "<query xmlns='"+nsMUCAdmin+"'><item affiliation='"+affiliation+"' jid='"+jid+"'/></query>")
	if err != nil || answer.Attr["type"] != "result" {
		j.Fatalf("making %s %s: %s %v", jid, affiliation, answer, err)
	}
}

// submits sets one field of the room's configuration, and returns the answer.
func (j *jitsi) submits(by *Client, room, field, value string) Stanza {
	j.Helper()
	answer, err := by.IQ(timeout(j.T, defaultTimeout), "set", room, "<query xmlns='"+nsMUCOwner+"'><x xmlns='"+nsData+"' type='submit'>"+
		"<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>"+
		"<field var='"+field+"'><value>"+value+"</value></field></x></query>")
	if err != nil {
		j.Fatal(err)
	}
	return answer
}

// sees returns what the observer sees of the room.
func (j *jitsi) sees(room string) RoomView {
	j.Helper()
	view, err := j.observer.Room(timeout(j.T, defaultTimeout), room)
	if err != nil {
		j.Fatal(err)
	}
	return view
}

// disco sends a disco#info request, and returns the condition of the error, or "".
func (j *jitsi) disco(c *Client, to string) string {
	j.Helper()
	answer, err := c.IQ(timeout(j.T, defaultTimeout), "get", to, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
	if err != nil {
		j.Fatal(err)
	}
	return answer.ErrorCondition()
}

// host brings an owner into the room.
func (j *jitsi) host(room, nick string) *Client {
	j.Helper()
	c := j.someone("meet.example.com")
	j.affiliate(j.observer.client, room, c.BareJID(), "owner")
	if refused, _ := j.enters(c, room, nick); refused != "" {
		j.Fatalf("the host is refused: %s", refused)
	}
	return c
}

// forwards makes the component ask in a user's name, as usher does.
func forwards(t *testing.T, component *Client, j *Jicofo, user, conference string) Stanza {
	t.Helper()
	component.from = bot + "/" + user
	answer, err := component.IQ(timeout(t, defaultTimeout), "set", j.JID(), conference)
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// conference is the payload of a conference request.
func conference(room, attributes string) string {
	return "<conference xmlns='" + nsFocus + "' room='" + room + "' " + attributes + "/>"
}

// attribute returns an attribute of the answer to a conference request, or the condition of its error.
func attribute(answer Stanza, name string) string {
	if e := answer.ErrorCondition(); e != "" {
		return e
	}
	return answer.Child("conference", nsFocus).Attr[name]
}

// isIn waits until Jicofo's rooms are as wanted.
func (j *jitsi) isIn(wanted func(rooms []string) bool) {
	j.Helper()
	if err := j.jicofo.Await(timeout(j.T, defaultTimeout), func(_ []JicofoRequest, rooms []string) bool { return wanted(rooms) }); err != nil {
		j.Error(err)
	}
}

func none(rooms []string) bool { return len(rooms) == 0 }

// throws waits until Jicofo has failed to enter a room.
func (j *jitsi) throws() {
	j.Helper()
	thrown := func(_ []JicofoRequest, rooms []string) bool {
		return len(j.jicofo.Exceptions()) == 1 && len(rooms) == 0
	}
	if err := j.jicofo.Await(timeout(j.T, defaultTimeout), thrown); err != nil {
		j.Fatal(err)
	}
}

// becomes waits until an occupant's presence shows the affiliation.
func becomes(c *Client, room, nick, affiliation string) {
	c.t.Helper()
	c.Receives("<presence from='" + room + "/" + nick + "'><x xmlns='" + nsMUCUser + "'><item affiliation='" + affiliation + "'/></x></presence>")
}

// sign returns a token (RFC 7515) with the default claims as changed; a nil value removes a claim.
func sign(t *testing.T, secret, alg string, changed map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": "my_app", "aud": "jitsi", "sub": "meet.example.com", "room": "standup"}
	maps.Copy(claims, changed)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(map[string]string{"typ": "JWT", "alg": alg}) + "." + part(claims)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// tokens changes the options to those of a server that verifies the tokens of sign.
func tokens(o JitsiOptions) JitsiOptions {
	o.Auth, o.GuestAuth, o.AppID, o.AppSecret = "token", "jitsi-anonymous", "my_app", "app secret"
	return o
}

// may returns the <permissions/> of a presence, or nil.
func may(presence Stanza) map[string]string {
	var all map[string]string
	for _, p := range presence.Child("permissions", nsJitmeet).Children {
		if all == nil {
			all = map[string]string{}
		}
		all[p.Attr["name"]] = p.Attr["val"]
	}
	return all
}

// fake is a TB that records its outcome. Fatalf and Skipf end the goroutine, as those of a test do.
type fake struct {
	*testing.T
	outcome, said string
	failed        bool
	cleanups      []func()
}

func (f *fake) Helper() {}

func (f *fake) Failed() bool { return f.failed }

func (f *fake) Cleanup(fun func()) { f.cleanups = append(f.cleanups, fun) }

func (f *fake) Logf(format string, args ...any) {
	f.said += fmt.Sprintf(format, args...)
}

func (f *fake) Fatalf(format string, args ...any) {
	f.outcome, f.failed = "failed", true
	f.Logf(format, args...)
	runtime.Goexit()
}

func (f *fake) Skipf(format string, args ...any) {
	f.outcome = "skipped"
	f.Logf(format, args...)
	runtime.Goexit()
}

// during runs a test with a fake, and then the fake's cleanups.
func during(t *testing.T, test func(*fake)) *fake {
	f := &fake{T: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(f.cleanups) - 1; i >= 0; i-- {
				f.cleanups[i]()
			}
		}()
		test(f)
	}()
	<-done
	return f
}
