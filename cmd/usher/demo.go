package main

import (
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/spf13/cobra"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
)

// The demo's configurations. What is in braces is put in at the start.
var (
	//go:embed demo/prosody.cfg.lua
	demoProsody string
	//go:embed demo/usher.yaml
	demoUsher string
	//go:embed demo/usher-jicofo.yaml
	demoUsherJicofo string
)

// scene is what a configuration calls those who play in it.
type scene struct {
	focus, service        string
	issuer, audience      string // of its tokens
	tokens, guests, users string // virtual hosts; users is empty if nobody has a password
	user                  string
	account               string // Jicofo's bare JID; empty if usher is the focus itself
	lobby, breakout       string // MUC services; empty if there are none
	module                bool   // usher's module is what keeps out people who do not ask
}

// room is where everybody wants to go.
func (s scene) room() string { return "standup@" + s.service }

// demoScene has the names in the two configurations.
var demoScene = scene{
	focus: "focus.meet.example.com", service: "conference.meet.example.com", issuer: "demo", audience: "jitsi",
	tokens: "meet.example.com", guests: "guest.meet.example.com", users: "users.example.com", user: "romeo",
}

func demo() *cobra.Command {
	var once, asJSON, jicofo bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show all of it on this machine, with a private Prosody",
		Long: `Start a private Prosody in a temporary folder, usher beside it, and let a cast of XMPP clients try to enter a room over
WebSocket, each in another way. The table shows what was expected and what really happened. Nothing outside 127.0.0.1 is
touched, and nothing stays behind.

With --jicofo, usher stands before a focus, as in a Jitsi install: before a stand-in for Jicofo, which behaves as Jicofo
does towards the server and has no video bridge, and beside stand-ins for Jitsi's lobby and breakout rooms.

After the table everything stays up, to be tried by hand, until Ctrl-C.

Exit status: 0 if all went as expected, 1 if not.`,
		Example: `  usher demo
  usher demo --jicofo
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
			if jicofo {
				scene = jicofoScene
			}
			err := runDemo(ctx, scene, words, rows, once)
			if errors.Is(err, prosodytest.ErrNotFound) {
				return fmt.Errorf("the demo needs Prosody 0.12 or 13 on this machine, and there is none: in usher's source, make deps; "+
					"on Debian or Ubuntu, apt-get install prosody. One that is not on PATH is named by PROSODYTEST_PROSODY (%w)", err)
			}
			if ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return errors.New("interrupted")
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "end after the table")
	cmd.Flags().BoolVar(&jicofo, "jicofo", false, "before a stand-in for Jicofo, with lobby and breakout rooms")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object a line on standard output instead of the table")
	return cmd
}

// runDemo starts Prosody and usher, plays the cast, and stays until the context ends unless it is to run only once.
func runDemo(ctx context.Context, scene scene, words io.Writer, rows rowWriter, once bool) (err error) {
	fmt.Fprintln(words, "Starting a private Prosody in a temporary folder, and usher beside it ...")
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
	fmt.Fprintf(words, "A private Prosody %s with %s; nothing outside 127.0.0.1.\n", s.Version(), s.present())
	fmt.Fprintf(words, "A cast of XMPP clients, over WebSocket, now tries to enter %s.\n\n", s.room())

	wrong, err := s.play(ctx, rows)
	if err != nil {
		return err
	}
	switch {
	case wrong == 0:
		fmt.Fprintln(words, "\nAll as expected.")
	case once:
		err = fmt.Errorf("%d of the cast met something else than expected; usher's log:\n%s", wrong, s.log())
	default:
		err = fmt.Errorf("%d of the cast met something else than expected", wrong)
		fmt.Fprintf(words, "\n%v; see usher's log.\n", err)
	}
	if !once {
		s.invite(words)
		<-ctx.Done()
	}
	return err
}

// stage is the private Prosody with the secrets of all who take part.
type stage struct {
	*prosodytest.Server
	scene
	componentSecret, appSecret, password string
	logFile                              *os.File
	store                                store.Store
	jicofo                               *prosodytest.Jicofo // nil if usher is the focus itself
}

func newStage(ctx context.Context, scene scene) (*stage, error) {
	s := &stage{scene: scene, componentSecret: newSecret(), appSecret: newSecret(), password: newSecret()}
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
		return s, err
	}
	if s.jicofo, err = s.DialJicofo(ctx, s.jitsi().Jicofo()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// present names who is on the stage, for a sentence.
func (s *stage) present() string {
	if s.account != "" {
		return fmt.Sprintf("a stand-in for Jicofo, %s, and others for Jitsi's\nlobby and breakout rooms; usher is before it as the component %s", s.account, s.focus)
	}
	return "usher as its component " + s.focus
}

// newSecret is long enough for HS256: each character holds five bits of chance.
func newSecret() string { return rand.Text() + rand.Text() }

// write writes usher.yaml and its secrets.
func (s *stage) write() error {
	config := demoUsher
	if s.account != "" {
		config = demoUsherJicofo
	}
	for name, content := range map[string]string{
		"component.secret": s.componentSecret,
		"app.secret":       s.appSecret,
		"usher.yaml":       strings.ReplaceAll(config, "{server}", s.ComponentAddr),
	} {
		if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// usher makes of a configuration what "usher serve" makes.
func (s *stage) usher(file string, environ ...string) (*component.Component, error) {
	c, p, err := load([]string{file}, environ, new(keys.Cache))
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
	// What names no store has one in the folder of the stage, and leaves nothing on the machine.
	if s.store, err = kept(c, append(slices.Clone(environ), "STATE_DIRECTORY="+s.Dir), log); err != nil {
		return nil, err
	}
	return component.New(options(c, p, s.store, log))
}

// serve runs usher, and returns when it answers.
func (s *stage) serve(ctx context.Context, file string, environ ...string) (stop func() error, err error) {
	usher, err := s.usher(file, environ...)
	if err != nil {
		return nil, err
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- usher.Run(running) }()
	stop = func() error { end(); return errors.Join(<-done, s.store.Close()) }
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

// connected returns when usher answers a client, and knows of Jicofo if there is one.
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
	// This is for Jicofo, which answers it with an error of its own.
	err = answered("<login-url xmlns='"+nsFocus+"'/>", func(a prosodytest.Stanza) bool { return a.ErrorCondition() == "feature-not-implemented" })
	if err != nil {
		return fmt.Errorf("usher has not found Jicofo: %w", err)
	}
	return nil
}

// mint returns a token for the room, good for an hour, as the change makes it.
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

// invite tells how to try it by hand.
func (s *stage) invite(w io.Writer) {
	owner, _ := s.mint(s.appSecret, nil)
	member, _ := s.mint(s.appSecret, asMember)
	yaml := s.path("usher.yaml")
	jicofo := ""
	if s.jicofo != nil {
		jicofo = ", before a stand-in for Jicofo, " + s.jicofo.JID()
	}
	fmt.Fprintf(w, `
Now it is yours, until Ctrl-C. All of this is gone afterwards.

  WebSocket    %s
  login        anonymous on %s and %s;
               on %s as %s with the password %s
  usher        %s, connected to %s%s
  room         %s
  usher.yaml   %s
  its log      %s

  owner token  %s

  member token %s

A client first asks usher, with its token or without, and then joins the room:

  <iq type='set' to='%s' id='1'>
    <conference xmlns='http://jitsi.org/protocol/focus' room='%s' token='...'/></iq>

Why is somebody let in, or not? Another terminal tells:

  %s token explain -c %s --room standup %s

`, s.WebSocketURL, s.tokens, s.guests, s.users, s.user, s.password, s.focus, s.ComponentAddr, jicofo, s.room(),
		yaml, s.path("usher.log"), owner, member, s.focus, s.room(), os.Args[0], yaml, owner)
}
