package module_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	service = "conference.meet.example.com"
	room    = "standup@" + service
	plain   = "plain.meet.example.com" // a MUC service where the module tells nobody
	domain  = "focus.meet.example.com"
	usher   = "focus@" + domain
	focus   = "focus@auth.meet.example.com"
	xMUC    = `<x xmlns='http://jabber.org/protocol/muc'/>`
)

// world is a Prosody with the module, and usher connected to it.
type world struct {
	*prosodytest.Server
	t     *testing.T
	usher *prosodytest.Client
	asked int // questions to services
}

// start starts a Prosody with the module on the MUC service, and on another one that has no component to tell. Options are lines in
// front of all others.
func start(t *testing.T, options string) *world {
	t.Helper()
	t.Parallel()
	return startWith(t, prosodytest.Options{
		Config: options + fmt.Sprintf(`
VirtualHost "auth.meet.example.com"
  authentication = "internal_hashed"
VirtualHost "meet.example.com"
  authentication = "anonymous"
Component %q "muc"
  modules_enabled = { "usher", "usher_test" }
  storage = "memory"
  usher_component = "focus.meet.example.com"
%[2]s  admins = { %[3]q, %[4]q }
Component %[5]q "muc"
  modules_enabled = { "usher", "usher_test" }
  storage = "memory"
%[2]s  admins = { %[3]q, %[4]q }
Component "focus.meet.example.com"
  component_secret = "secret"
Component "other.meet.example.com"
  component_secret = "secret"
`, service, gate.Lines(gate.Rooms(true)), usher, focus, plain),
		Users:    map[string]string{focus: "pass"},
		LogLevel: "info", // debug takes half of the time
	})
}

// startWith starts a Prosody that finds the module, and the one of testdata.
func startWith(t *testing.T, o prosodytest.Options) *world {
	t.Helper()
	folder := t.TempDir()
	if _, err := module.Write(folder); err != nil {
		t.Fatal(err)
	}
	tests, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	o.Config = fmt.Sprintf("plugin_paths = { %q, %q }\n", folder, tests) + o.Config
	s := prosodytest.Start(t, o)
	return &world{Server: s, t: t, usher: s.Component(t, domain, "secret")}
}

func (w *world) client() *prosodytest.Client {
	w.t.Helper()
	return w.Client(w.t, prosodytest.ClientOptions{Host: "meet.example.com"})
}

// jicofo logs in as Jitsi's focus, an admin that is no component.
func (w *world) jicofo() *prosodytest.Client {
	w.t.Helper()
	return w.Client(w.t, prosodytest.ClientOptions{Host: "auth.meet.example.com", User: "focus", Password: "pass"})
}

// enter has somebody ask to enter a room, and checks the condition of the error; "" for being let in.
func (w *world) enter(c *prosodytest.Client, room, nick, want string) prosodytest.Stanza {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	answer, err := c.Join(ctx, room, nick)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := answer.ErrorCondition(); got != want {
		w.t.Fatalf("%s as %s: %q, want %q: %s", room, nick, got, want, answer)
	}
	if typ := answer.Child("error", "").Attr["type"]; want == "registration-required" && typ != "auth" {
		w.t.Errorf("the error is of type %q: %s", typ, answer)
	}
	return answer
}

// asks sends a request of somebody to the room, and checks its answer.
func (w *world) asks(c *prosodytest.Client, typ, payload, want string) prosodytest.Stanza {
	w.t.Helper()
	answer, err := c.IQ(w.t.Context(), typ, room, payload)
	if err != nil {
		w.t.Fatal(err)
	}
	if got := answer.ErrorCondition(); got != want {
		w.t.Fatalf("%s: %q, want %q", payload, got, want)
	}
	return answer
}

// open has usher create the room.
func (w *world) open() {
	w.t.Helper()
	w.usher.Sends(`<presence from='` + usher + `/usher' to='` + room + `/focus'>` + xMUC + `</presence>`)
	w.usher.Receives(`<presence from='` + room + `/focus'><x xmlns='http://jabber.org/protocol/muc#user'><status code='110'/></x></presence>`)
}

// affiliate has usher give somebody an affiliation.
func (w *world) affiliate(bare, affiliation string) {
	w.t.Helper()
	w.usher.Sends(fmt.Sprintf(`<iq type='set' id='a' from='%s' to='%s'><query xmlns='http://jabber.org/protocol/muc#admin'>
		<item jid='%s' affiliation='%s'/></query></iq>`, usher, room, bare, affiliation))
	w.usher.Receives(`<iq type='result' id='a' from='` + room + `'/>`)
}

// membersOnly has an owner switch members-only.
func (w *world) membersOnly(owner *prosodytest.Client, on string) {
	w.t.Helper()
	w.asks(owner, "set", `<query xmlns='http://jabber.org/protocol/muc#owner'><x xmlns='jabber:x:data' type='submit'>
		<field var='FORM_TYPE'><value>http://jabber.org/protocol/muc#roomconfig</value></field>
		<field var='muc#roomconfig_membersonly'><value>`+on+`</value></field></x></query>`, "")
}

const out = `<presence type='unavailable'><x xmlns='http://jabber.org/protocol/muc#user'><status code='321'/></x></presence>`

// People who never asked usher stay out, whatever an owner does with the switch. People with an affiliation enter.
func TestKeepsOut(t *testing.T) {
	w := start(t, "component_admins_as_room_owners = true")
	w.open()
	host, guest, stranger := w.client(), w.client(), w.client()
	w.enter(stranger, room, "stranger", "registration-required")
	w.affiliate(host.BareJID(), "owner")
	w.affiliate(guest.BareJID(), "member")
	w.enter(host, room, "host", "")
	w.enter(guest, room, "guest", "")
	for _, on := range []string{"1", "0", "1", "0"} {
		w.membersOnly(host, on)
		w.enter(stranger, room, "stranger", "registration-required")
	}
	guest.ReceivesNot(`<presence type='unavailable'/>`)

	// It makes no difference if the nick is taken, or the person's own.
	w.enter(stranger, room, "guest", "registration-required")
	guest.Sends(`<presence to='` + room + `/other'/>`)
	guest.Receives(`<presence from='` + room + `/other'><x xmlns='http://jabber.org/protocol/muc#user'><item affiliation='member' role='participant'/></x></presence>`)

	// From outside the stranger may neither ask nor invite.
	w.asks(stranger, "get", `<query xmlns='http://jabber.org/protocol/muc#admin'><item affiliation='member'/></query>`, "forbidden")
	w.asks(stranger, "get", `<query xmlns='jabber:iq:register'/>`, "registration-required")
	stranger.Sends(`<message to='` + room + `'><x xmlns='http://jabber.org/protocol/muc#user'><invite to='` + stranger.JID() + `'/></x></message>`)
	if err := stranger.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.enter(stranger, room, "stranger", "registration-required")

	// People who lose the affiliation are out, also in an open room, and do not come back.
	w.affiliate(guest.BareJID(), "none")
	guest.Receives(out)
	guest.Drain() // what became of the nick, which looks like an answer
	w.enter(guest, room, "again", "registration-required")
	w.affiliate(guest.BareJID(), "outcast")
	w.enter(guest, room, "again", "forbidden")
	host.ReceivesNot(`<presence from='` + room + `/stranger'/>`)
}

// The module does not decide who makes rooms, or who may enter a room that an admin made for itself.
func TestAdmins(t *testing.T) {
	for name, options := range map[string]string{
		"owners":    "component_admins_as_room_owners = true",
		"no owners": "component_admins_as_room_owners = false",
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, options)
			stranger, jicofo := w.client(), w.jicofo()
			w.enter(stranger, room, "stranger", "not-allowed")
			w.open()
			entered := w.enter(jicofo, room, "jicofo", "")
			role := entered.Find("item", "").Attr["role"]
			if want := map[string]string{"owners": "moderator", "no owners": "participant"}[name]; role != want {
				t.Errorf("an admin enters as %q, want %s: %s", role, want, entered)
			}
			jicofo.Sends(`<message type='groupchat' to='` + room + `'><body>Hello</body></message>`)
			jicofo.Receives(`<message type='groupchat' from='` + room + `/jicofo'><body>Hello</body></message>`)
			const check = "__jicofo-health-check-1@" + service
			if !w.enter(jicofo, check, "focus", "").HasStatus("201") {
				t.Error("an admin's room is not new")
			}
			w.enter(stranger, check, "stranger", "registration-required")
		})
	}
}

// The module says the version that usher takes it for, and stays small.
func TestSource(t *testing.T) {
	if n := bytes.Count(module.Source, []byte("\n")); n >= 200 {
		t.Errorf("%d lines", n)
	}
	if said := bytes.Count(module.Source, []byte(`version = "`+module.Version+`"`)); said != 2 {
		t.Errorf("it says version %s %d times", module.Version, said)
	}
}

// Write leaves a file of that name alone unless it is the module. It replaces older versions of the module.
func TestWrite(t *testing.T) {
	folder := t.TempDir()
	file := filepath.Join(folder, "mod_"+module.Name+".lua")
	alias := func() string { return filepath.Join(folder, "mod_"+module.Alias+".lua") }
	written := func(wantErr string) {
		t.Helper()
		got, err := module.Write(folder)
		if wantErr != "" {
			if err == nil || !strings.Contains(err.Error(), wantErr) {
				t.Fatalf("got %v, want %s", err, wantErr)
			}
			return
		}
		content, readErr := os.ReadFile(file)
		stat, statErr := os.Stat(file)
		if err != nil || readErr != nil || statErr != nil || got != file || !bytes.Equal(content, module.Source) || stat.Mode().Perm() != 0o644 {
			t.Fatal(got, err, readErr, stat)
		}
		if content, err := os.ReadFile(alias()); err != nil || !bytes.Equal(content, module.AliasSource) {
			t.Errorf("the old name: %q (%v)", content, err)
		}
		if all, _ := os.ReadDir(folder); len(all) != 2 {
			t.Errorf("more than the module is left: %v", all)
		}
	}
	put := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	written("")
	written("")
	first, _, _ := strings.Cut(string(module.Source), "\n")
	put(first + "\n-- an older one\n")
	written("")
	for _, other := range []string{"", "-- mine", " " + first} {
		put(other)
		written("is not usher's")
		if content, err := os.ReadFile(file); err != nil || string(content) != other {
			t.Errorf("%q has become %q (%v)", other, content, err)
		}
	}
	// The same holds for the old name, where the module itself was before. If that is somebody else's, nothing is written.
	put(string(module.Source))
	if err := os.WriteFile(alias(), []byte("-- mod_"+module.Alias+", which comes with usher: an older one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	written("")
	put(first + "\n-- an older one\n")
	if err := os.WriteFile(alias(), []byte("-- mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	written("mod_muc_affiliated_only.lua exists and is not usher's")
	if content, err := os.ReadFile(file); err != nil || string(content) != first+"\n-- an older one\n" {
		t.Errorf("the module has become %q (%v)", content, err)
	}

	// Prosody is another user, and can look into a folder that was made for it in spite of the umask.
	defer syscall.Umask(syscall.Umask(0o077))
	folder = filepath.Join(folder, "new", "deep", "er")
	file = filepath.Join(folder, "mod_"+module.Name+".lua")
	written("")
	for made := folder; filepath.Base(made) != "new"; made = filepath.Dir(made) {
		if stat, err := os.Stat(made); err != nil || stat.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v %v", made, stat.Mode(), err)
		}
	}
	folder = filepath.Join(file, "below")
	written("file exists")
}
