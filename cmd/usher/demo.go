package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/pkg/ejabberdtest"
	"github.com/xmpp-usher/usher/pkg/passhash"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// The demo's configurations. Names in braces are replaced at the start.
var (
	demoGate = gate.Server{
		Domain: demoScene.focus, Secret: "{component.secret}", Service: demoScene.service,
		VHosts: []gate.VHost{
			{Domain: demoScene.tokens, Authentication: "anonymous", Why: "people with a token"},
			{Domain: demoScene.guests, Authentication: "anonymous", Why: "guests"},
			{Domain: "recorder.meet.example.com", Authentication: "anonymous", Why: "recorders and gateways"},
			{Domain: demoScene.users, Why: "people with a password, who are hosts"},
		},
	}
	demoProsody = "network_settings = { nagle = false } -- otherwise a second stanza waits up to 40 ms for an acknowledgement\n" + demoGate.Lua()
	//go:embed demo/usher.yaml
	demoUsher string
	//go:embed demo/usher-jicofo.yaml
	demoUsherJicofo string
)

// scene holds the names that one configuration uses.
type scene struct {
	ejabberd              bool // instead of Prosody
	focus, service        string
	issuer, audience      string // of its tokens
	tokens, guests, users string // virtual hosts; users is empty if nobody has a password
	user                  string
	account               string // Jicofo's bare JID; empty if usher is the focus itself
	lobby, breakout       string // MUC services; empty if there are none
	module                bool   // usher's module, not members-only, keeps out clients that do not ask
}

// server is the name of the server.
func (s scene) server() string {
	if s.ejabberd {
		return "ejabberd"
	}
	return "Prosody"
}

// room is the room that the cast tries to enter.
func (s scene) room() string { return "standup@" + s.service }

// demoScene has the names of demoProsody and demo/usher.yaml.
var demoScene = scene{
	focus: "focus.meet.example.com", service: "conference.meet.example.com", issuer: "demo", audience: "jitsi",
	tokens: "meet.example.com", guests: "guest.meet.example.com", users: "users.example.com", user: "romeo",
}

func demo() *cobra.Command {
	var once, asJSON, jicofo bool
	var server string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show usher at work on this machine, with a private Prosody or ejabberd",
		Long: `Start a private Prosody in a temporary folder, and usher beside it. XMPP clients then try to enter a room over WebSocket,
each in a different way. The table shows what happened to each, and whether that was expected. The demo touches nothing
outside 127.0.0.1 and leaves nothing behind.

With --jicofo, usher stands before a focus, as in a Jitsi install. A stand-in for Jicofo behaves towards the server as
Jicofo does, without a video bridge. Other stand-ins play Jitsi's lobby and breakout rooms. With --server ejabberd, the same cast
meets an ejabberd.

After the table everything keeps running until Ctrl-C, for you to try by hand.

Exit status: 0 if all went as expected, 1 if not.`,
		Example: `  usher demo
  usher demo --jicofo
  usher demo --server ejabberd
  usher demo --once --json`,
		Args: arguments(0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context(), nil)
			defer stop()
			words, rows := cmd.OutOrStdout(), rowWriter(newTable(cmd.OutOrStdout()))
			if asJSON {
				words, rows = cmd.ErrOrStderr(), jsonRows{cmd.OutOrStdout()}
			}
			scene := demoScene
			switch {
			case server == "ejabberd" && jicofo:
				return misused("--jicofo needs Prosody: Jitsi's modules are for Prosody")
			case server == "ejabberd":
				scene.ejabberd = true
			case server != "prosody":
				return misused("--server is %q: it must be prosody or ejabberd", server)
			case jicofo:
				scene = jicofoScene
			}
			err := runDemo(ctx, scene, words, rows, once)
			switch {
			case errors.Is(err, prosodytest.ErrNotFound) && scene.ejabberd:
				return fmt.Errorf("the demo needs Debian's ejabberd 23.01 or later: %w. Install it with make deps in usher's source, or with "+
					"apt-get install ejabberd, which also starts it", err)
			case errors.Is(err, prosodytest.ErrNotFound):
				return fmt.Errorf("the demo needs Prosody 0.12 or 13: %w. Install it with make deps in usher's source, or with "+
					"apt-get install prosody on Debian or Ubuntu; if it is not on PATH, name the program in PROSODYTEST_PROSODY", err)
			}
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return errors.New("interrupted")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the table")
	cmd.Flags().StringVar(&server, "server", "prosody", "run this server: prosody or ejabberd")
	cmd.Flags().BoolVar(&jicofo, "jicofo", false, "put usher before a stand-in for Jicofo, with lobby and breakout rooms")
	cmd.Flags().BoolVar(&asJSON, "json", false, "write one JSON object a line to standard output instead of the table")
	return cmd
}

// demoStory tells before the table what the table shows.
const demoStory = `
usher decides who may enter a conference room. Here it runs beside a private %s %s,
%s. Nothing leaves 127.0.0.1.

Clients now try to enter %s. Each asks usher first; if usher allows it, the
client joins the room. A host may always enter. A guest waits until a host is inside. A bad token is refused, and so is a
client that joins without asking. The table shows after "allow" the affiliation and role in the room, and after "wait" and
"deny" usher's reason.

`

// runDemo starts the server and usher and plays the cast. Unless once is true, it then stays until the context ends.
func runDemo(ctx context.Context, scene scene, words io.Writer, rows rowWriter, once bool) (err error) {
	fmt.Fprintf(words, "Starting a private %s in a temporary folder, and usher beside it ...\n", scene.server())
	s, err := newStage(ctx, scene)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.write(); err != nil {
		return err
	}
	stop, err := s.serve(ctx, s.path("usher.yaml"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	fmt.Fprintf(words, demoStory, s.server(), s.Version(), s.present(), s.room())
	if !once {
		fmt.Fprintf(words, "Watch it happen: http://%s/\n\n", s.ops)
	}

	played, wrong, err := s.play(ctx, rows)
	if err != nil {
		return err
	}
	switch {
	case wrong == 0:
		fmt.Fprintln(words, "\nAll as expected.")
	case once:
		err = fmt.Errorf("%d of %d did not go as expected; usher's log:\n%s", wrong, played, s.log())
	default:
		err = fmt.Errorf("%d of %d did not go as expected", wrong, played)
		fmt.Fprintf(words, "\n%v; see usher's log.\n", err)
	}
	if !once {
		s.invite(words)
		<-ctx.Done()
	}
	return err
}

// stage is the private server with usher and Jicofo beside it, and their secrets.
type stage struct {
	*prosodytest.Server
	scene
	componentSecret, appSecret, password string
	ops, api, portal                     string // where usher shows what it does, answers the API, and has hosts log in; empty for nowhere
	key, hostPassword                    string // for the API, and of demoHost
	logFile                              *os.File
	unwritten                            error               // why usher's module could not be written
	jicofo                               *prosodytest.Jicofo // nil if usher is the focus itself
}

func newStage(ctx context.Context, scene scene) (*stage, error) {
	s := &stage{scene: scene, componentSecret: newSecret(), appSecret: newSecret(), password: newSecret()}
	if s.ejabberd {
		var err error
		s.Server, err = ejabberdtest.Run(ctx, ejabberdtest.Options{
			Configure: func(server *prosodytest.Server) string {
				return strings.ReplaceAll(demoGate.YAML(server.ComponentAddr), "{component.secret}", s.componentSecret)
			},
			Users: map[string]string{s.user + "@" + s.users: s.password},
		})
		return s, err
	}
	o := prosodytest.Options{
		Config:   strings.ReplaceAll(demoProsody, "{component.secret}", s.componentSecret),
		Users:    map[string]string{s.user + "@" + s.users: s.password},
		LogLevel: "info",
	}
	if s.account != "" {
		o = s.beforeJicofo(o)
	}
	var err error
	s.Server, err = prosodytest.Run(ctx, o)
	if err != nil || s.account == "" {
		return s, errors.Join(err, s.unwritten)
	}
	if s.jicofo, err = s.DialJicofo(ctx, s.jitsi().Jicofo()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// present says how usher stands beside the server, as a part of demoStory.
func (s *stage) present() string {
	if s.account != "" {
		return "as the component " + s.focus + ", before a stand-in for Jicofo, " + s.account + ",\nwith stand-ins for Jitsi's lobby and breakout rooms"
	}
	return "as its component " + s.focus
}

// newSecret returns 52 random characters of five bits each: enough for HS256 (RFC 7518 §3.2).
func newSecret() string { return rand.Text() + rand.Text() }

// write writes usher.yaml and the files with its secrets.
func (s *stage) write() (err error) {
	yaml := demoUsher
	if s.account != "" {
		yaml = demoUsherJicofo
	}
	if err = freePorts(&s.ops, &s.api, &s.portal); err != nil {
		return err
	}
	yaml += fmt.Sprintf(demoOutside, s.ops, s.api, s.portal)
	s.hostPassword = strings.ToLower(rand.Text())
	users, err := demoUsers(s.hostPassword)
	if err != nil {
		return err
	}
	for name, content := range map[string]string{
		"component.secret": s.componentSecret,
		"app.secret":       s.appSecret,
		"users.yaml":       users,
		"usher.yaml":       strings.ReplaceAll(yaml, "{server}", s.ComponentAddr),
	} {
		if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	s.key, err = addKeyTo(s.path("api-keys.yaml"), demoKey)
	return err
}

// demoOutside is what the demo adds to usher.yaml.
const demoOutside = `ops: {listen: "%[1]s"}
api: {listen: "%[2]s", public_url: "http://%[2]s", meet_url: "https://meet.example.com"}
portal: {listen: "%[3]s", public_url: "http://%[3]s", meet_urls: ["https://meet.example.com"], users_file: users.yaml}
admin: {socket: usher.sock}
audit: {to: audit.jsonl}
`

// demoHost logs in at the portal.
const demoHost = "host"

// demoUsers is the file with the account of demoHost.
func demoUsers(password string) (string, error) {
	hash, err := passhash.New(password)
	if err != nil {
		return "", err
	}
	content, err := config.PutUser(nil, config.User{Name: demoHost, Hash: hash.String(), Display: "The Host", Rooms: []string{"*"}})
	return string(content), err
}

// demoKey may do everything.
var demoKey = config.APIKey{Name: "demo", Scopes: config.APIScopes}

// freePorts sets addresses of this machine at which nobody listens.
func freePorts(all ...*string) error {
	for _, address := range all {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close() // when all are chosen
		*address = l.Addr().String()
	}
	return nil
}

// usher returns what "usher serve" would run with this configuration.
func (s *stage) usher(file string, environ ...string) (*serving, error) {
	remote := new(keys.Cache)
	c, p, err := load([]string{file}, environ, remote)
	if err != nil {
		return nil, err
	}
	if s.logFile, err = os.OpenFile(s.path("usher.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return nil, err
	}
	log, _, err := logger(c.Log, s.logFile)
	if err != nil {
		return nil, err
	}
	// Without store.path the store goes to STATE_DIRECTORY: the folder of the stage, so that nothing stays on the machine.
	return newServing(c, p, append(slices.Clone(environ), "STATE_DIRECTORY="+s.Dir), remote, log)
}

// serve runs usher, and returns once usher answers.
func (s *stage) serve(ctx context.Context, file string, environ ...string) (stop func() error, err error) {
	usher, err := s.usher(file, environ...)
	if err != nil {
		return nil, err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- usher.serveAll(running) }()
	stop = func() error { end(); defer usher.close(); return <-done }
	if err := s.connected(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%w; usher's log:\n%s", err, s.log()), stop())
	}
	return stop, nil
}

func (s *stage) path(name string) string { return filepath.Join(s.Dir, name) }

func (s *stage) log() string {
	log, _ := os.ReadFile(s.path("usher.log"))
	return string(log)
}

func (s *stage) close() error {
	if s.logFile != nil {
		s.logFile.Close()
	}
	if s.jicofo != nil {
		s.jicofo.Close()
	}
	return s.Server.Close()
}

// connected returns once usher answers a client, and has found Jicofo if there is one.
func (s *stage) connected(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	c, err := s.Dial(ctx, prosodytest.ClientOptions{Host: s.guests, Transport: prosodytest.WebSocket})
	if err != nil {
		return err
	}
	defer c.Close()
	answered := func(payload string, enough func(prosodytest.Stanza) bool) error {
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for {
			answer, err := c.IQ(ctx, "get", s.focus, payload)
			if err != nil {
				return err
			}
			if enough(answer) {
				return nil
			}
			select {
			case <-again.C:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	err = answered("<ping xmlns='urn:xmpp:ping'/>", func(a prosodytest.Stanza) bool { return a.Attr["type"] == "result" })
	if err != nil {
		return fmt.Errorf("usher did not come up: %w", err)
	}
	if s.jicofo == nil {
		return nil
	}
	// usher forwards this to Jicofo, which answers with an error of its own.
	err = answered("<login-url xmlns='"+nsFocus+"'/>", func(a prosodytest.Stanza) bool { return a.ErrorCondition() == "feature-not-implemented" })
	if err != nil {
		return fmt.Errorf("usher has not found Jicofo: %w", err)
	}
	return nil
}

// mint returns an owner's token for the room, valid for an hour. change, if not nil, changes the claims first.
func (s *stage) mint(secret string, change func(*token.Claims)) (string, error) {
	c := token.Claims{
		Issuer: s.issuer, Audience: []string{s.audience}, Subject: s.tokens, Room: "standup", ID: rand.Text(),
		Expires: time.Now().Add(time.Hour), User: token.User{ID: "juliet", Name: "Juliet", Affiliation: "owner"},
	}
	if change != nil {
		change(&c)
	}
	return token.Mint(c, token.MintOptions{Algorithm: jwa.HS256, Key: []byte(secret)})
}

// invite says how to try the running demo by hand.
func (s *stage) invite(w io.Writer) {
	owner, _ := s.mint(s.appSecret, nil)
	member, _ := s.mint(s.appSecret, asMember)
	yaml := s.path("usher.yaml")
	jicofo := ""
	if s.jicofo != nil {
		jicofo = ", before a stand-in for Jicofo, " + s.jicofo.JID()
	}
	fmt.Fprintf(w, `
Everything keeps running until Ctrl-C, for you to try by hand. Then nothing stays behind.

  WebSocket    %s
  login        anonymous on %s and %s;
               on %s as %s with the password %s
  usher        %s, connected to %s%s
  room         %s
  portal       http://%s/
               where hosts log in: %s, with the password %s. It leads to
               https://meet.example.com/ROOM?jwt=TOKEN, where no jitsi-meet is
  live page    http://%s/
  metrics      http://%s/metrics
  API          http://%s/api/v1/openapi.json
               curl -H 'Authorization: Bearer %s' http://%s/api/v1/rooms
  usher.yaml   %s, read at the start only: usher serve follows changes, the demo does not
  its logs     %s, and of all decisions %s

  owner token  %s

  member token %s

A client first asks usher, with or without a token, and then joins the room:

  <iq type='set' to='%s' id='1'>
    <conference xmlns='http://jitsi.org/protocol/focus' room='%s' token='...'/></iq>

In another terminal: who is inside, and why usher allows or refuses a token:

  %s rooms -c %s
  %s token explain -c %s --room standup %s

`, s.WebSocketURL, s.tokens, s.guests, s.users, s.user, s.password, s.focus, s.ComponentAddr, jicofo, s.room(),
		s.portal, demoHost, s.hostPassword, s.ops, s.ops, s.api, s.key, s.api, yaml, s.path("usher.log"), s.path("audit.jsonl"), owner, member, s.focus, s.room(), os.Args[0], yaml, os.Args[0], yaml, owner)
}
