package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// told is an api.Usher that does as the test says.
type told struct {
	grants, spared []component.LiveGrant
	all            []auth.Revocation
	err            error
	asked          auth.Revocation
	room, lifted   string
	rooms          []component.RoomSummary
	view           component.RoomView
	did            string
}

func (u *told) Grants(room string) ([]component.LiveGrant, error) {
	u.room = room
	return u.grants, u.err
}

func (u *told) Revoke(_ context.Context, r auth.Revocation) (component.Revoked, error) {
	u.asked = r
	r.ID, r.At = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", noon
	return component.Revoked{Revocation: r, Out: u.grants, Spared: u.spared}, u.err
}

func (u *told) Revocations(context.Context) ([]auth.Revocation, error) { return u.all, u.err }

func (u *told) Issuers() []string { return []string{"my_app", "portal"} }

func (u *told) Unrevoke(_ context.Context, id string) error { u.lifted = id; return u.err }

func (u *told) Address(room string) (jid.JID, error) {
	if u.err != nil {
		return jid.JID{}, u.err
	}
	return jid.Parse(room)
}

func (u *told) Rooms() []component.RoomSummary { return u.rooms }

func (u *told) Room(context.Context, string) (component.RoomView, error) { return u.view, u.err }

func (u *told) EndRoom(_ context.Context, room, reason string) error {
	u.did = fmt.Sprintf("end %s %q", room, reason)
	return u.err
}

func (u *told) RemoveOccupant(_ context.Context, room, who, reason string, bar bool) error {
	u.did = fmt.Sprintf("remove %s %s %q %t", room, who, reason, bar)
	return u.err
}

func (u *told) LockRoom(_ context.Context, room string, lock bool) error {
	u.did = fmt.Sprintf("lock %s %t", room, lock)
	return u.err
}

// listens has an usher listen on a socket, and returns its path.
func listens(t *testing.T, u api.Usher) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "usher.sock")
	s := api.Server{Path: path, Options: api.Options{Active: func() api.Usher { return u }, Status: api.Status{Version: "v1"}, Log: zap.NewNop()}}
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); done.Wait() })
	for end := time.Now().Add(time.Minute); ; {
		if _, err := (api.Client{Path: path}).Status(t.Context()); err == nil {
			return path
		}
		if time.Now().After(end) {
			t.Fatal("nobody listens")
		}
		<-time.After(10 * time.Millisecond)
	}
}

func TestAdminCommands(t *testing.T) {
	room := jid.MustParse("standup@conference.meet.example.com")
	romeo := component.LiveGrant{Room: room, Who: jid.MustParse("romeo@meet.example.com"), Affiliation: "owner", Issuer: "my_app",
		JTI: "j1", User: "u1", At: noon, Expires: noon.Add(time.Hour), RemoveAt: noon.Add(2 * time.Hour)}
	juliet := component.LiveGrant{Room: room, Who: jid.MustParse("juliet@guest.example.com"), Affiliation: "member", At: noon}
	long := romeo
	long.User, long.RemoveAt = strings.Repeat("n", 64), time.Time{}
	for name, tt := range map[string]struct {
		u      told
		args   string
		status int
		stdout string
		stderr string
		check  func(u *told) bool
	}{
		"grants": {u: told{grants: []component.LiveGrant{romeo, juliet}}, args: "grants --room a@b", stdout: `
ROOM                                 WHO                       AS      ISSUER  JTI  USER  SINCE                 UNTIL
standup@conference.meet.example.com  romeo@meet.example.com    owner   my_app  j1   u1    2030-01-31T12:00:00Z  out at 2030-01-31T14:00:00Z
standup@conference.meet.example.com  juliet@guest.example.com  member  -       -    -     2030-01-31T12:00:00Z  -
`, check: func(u *told) bool { return u.room == "a@b" }},
		"grants of no room": {u: told{err: component.ErrRoom}, args: "grants --room a@b", status: statusFailed, stderr: component.ErrRoom.Error()},
		"grants of long names": {u: told{grants: []component.LiveGrant{
			{Room: room, Who: jid.MustParse("u@meet.example.com"), Affiliation: "member", JTI: strings.Repeat("j", 128), User: strings.Repeat("u", 500), At: noon},
		}}, args: "grants", stdout: "\n" +
			"ROOM                                 WHO                 AS      ISSUER  " + fmt.Sprintf("%-128s  %-160s  %-20s  UNTIL\n", "JTI", "USER", "SINCE") +
			"standup@conference.meet.example.com  u@meet.example.com  member  -       " + strings.Repeat("j", 128) + "  " + strings.Repeat("u", 159) + "…  2030-01-31T12:00:00Z  -\n"},
		"nobody": {args: "grants", stdout: "\nNobody is let in.\n"},
		"grants for programs": {u: told{grants: []component.LiveGrant{juliet}}, args: "grants --json", stdout: `
{"grants":[{"room":"standup@conference.meet.example.com","who":"juliet@guest.example.com","affiliation":"member","at":"2030-01-31T12:00:00Z"}]}
`},
		"nobody, for programs": {args: "grants --json", stdout: "\n{\"grants\":[]}\n"},
		"revoke": {u: told{grants: []component.LiveGrant{romeo}, spared: []component.LiveGrant{long}},
			args: "revoke --issuer my_app --user u1 --before 2030-01-31T11:00:00Z --room " + room.String() + " --reason fired", stdout: `
Taken back in standup@conference.meet.example.com, until it is lifted: tokens with user=u1 issuer=my_app
issued until 2030-01-31T11:05:00Z: five minutes are added for clocks, and tokens without iat are taken back, too
To lift it: usher revocations --lift ABCDEFGHIJKLMNOPQRSTUVWXYZ

Put out:
ROOM                                 WHO                     AS     ISSUER  JTI  USER  SINCE                 UNTIL
standup@conference.meet.example.com  romeo@meet.example.com  owner  my_app  j1   u1    2030-01-31T12:00:00Z  out at 2030-01-31T14:00:00Z

Spared, because their tokens were issued later:
ROOM                                 WHO                     AS     ISSUER  JTI  USER                                                              SINCE                 UNTIL
standup@conference.meet.example.com  romeo@meet.example.com  owner  my_app  j1   nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn  2030-01-31T12:00:00Z  2030-01-31T13:00:00Z
`, check: func(u *told) bool {
				return u.asked == auth.Revocation{Issuer: "my_app", User: "u1", Before: noon.Add(-time.Hour), Room: room.String(), Reason: "fired"}
			}},
		"revoke, nobody": {args: "revoke --jti j\x1b[2J", stdout: `
Taken back in all rooms, until it is lifted: tokens with jti=j�[2J
To lift it: usher revocations --lift ABCDEFGHIJKLMNOPQRSTUVWXYZ

Nobody is let in by such a token here.
`},
		"revoke of nobody": {args: "revoke --issuer my_ap --before 2999-01-31T09:00:00Z", stdout: `
Taken back in all rooms, until it is lifted: tokens with issuer=my_ap
issued until 2999-01-31T09:05:00Z: five minutes are added for clocks, and tokens without iat are taken back, too
To lift it: usher revocations --lift ABCDEFGHIJKLMNOPQRSTUVWXYZ

warning: no issuer of the configuration has the name my_ap (app_id); it has my_app, portal. Lift this revocation if it is a mistake
warning: the time lies in the future, so tokens that are issued until then are refused, too

Nobody is let in by such a token here.
`},
		"revoke for days": {args: "revoke --jti j1 --for 7d12h --json", check: func(u *told) bool {
			return time.Until(u.asked.Until) > 179*time.Hour && time.Until(u.asked.Until) <= 180*time.Hour
		}},
		"revoke by days": {args: "revoke --sub s --before -2d --json", check: func(u *told) bool {
			return time.Since(u.asked.Before) >= 48*time.Hour && time.Since(u.asked.Before) < 49*time.Hour
		}},
		"revoke for a time": {args: "revoke --jti j1 --for 24h --json", check: func(u *told) bool {
			return u.asked.JTI == "j1" && time.Until(u.asked.Until) > 23*time.Hour && time.Until(u.asked.Until) <= 24*time.Hour
		}},
		"revoke by now": {args: "revoke --sub s --before now --json", check: func(u *told) bool {
			return u.asked.Subject == "s" && time.Since(u.asked.Before) < time.Hour && !u.asked.Before.After(time.Now())
		}},
		"revoke by day": {args: "revoke --sub s --before 2030-01-31 --json", check: func(u *told) bool {
			return u.asked.Before.Equal(time.Date(2030, 1, 31, 0, 0, 0, 0, time.Local))
		}},
		"revoke, others not told": {u: told{err: store.ErrUntold}, args: "revoke --jti j1 --json", stdout: `
{"revocation":{"id":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","jti":"j1","at":"2030-01-31T12:00:00Z"},"out":[],"spared":[],"warning":"` + store.ErrUntold.Error() + `"}
`},
		"revoke nothing":       {args: "revoke --room a@b", status: statusUsage, stderr: "say which tokens: --jti, --sub, --user or --issuer"},
		"revoke a token":       {args: "revoke --jti eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmVk", status: statusUsage, stderr: "that looks like a token"},
		"revoke a link":        {args: "revoke --jti https://meet.example.com/standup?jwt=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJzZWNyZXQifQ.c2lnbmVk", status: statusUsage, stderr: "that looks like a token, or a link with one"},
		"revoke for weeks":     {args: "revoke --jti j --for 2w", status: statusUsage, stderr: "write how long, such as 24h or 7d"},
		"revoke without zone":  {args: "revoke --jti j --before 2026-11-26T09:00", status: statusUsage, stderr: "the day or the time zone is missing: write 2030-01-31T09:00:00Z for UTC"},
		"revoke without day":   {args: "revoke --jti j --before 09:00", status: statusUsage, stderr: "the day or the time zone is missing"},
		"revoke, no store":     {u: told{err: errors.New("the store does not answer")}, args: "revoke --jti j", status: statusFailed, stderr: "Nothing was taken back, as far as is known: repeat the command"},
		"revoke for nothing":   {args: "revoke --jti j --for 0s", status: statusUsage, stderr: "--for 0s: write how long"},
		"revoke at some time":  {args: "revoke --jti j --before yesterday", status: statusUsage, stderr: "--before yesterday: write now, a day such as"},
		"revoke in future":     {args: "revoke --jti j --before 20m", status: statusUsage, stderr: "--before 20m: that lies in the future; for 20m ago write -20m"},
		"revoke no jti":        {args: "revoke --issuer my_app --jti=", status: statusUsage, stderr: "--jti is empty"},
		"revoke no user":       {args: "revoke --issuer my_app --user=", status: statusUsage, stderr: "--user is empty"},
		"revoke no room":       {args: "revoke --jti j --room=", status: statusUsage, stderr: "--room is empty"},
		"revoke no time":       {args: "revoke --jti j --before=", status: statusUsage, stderr: "--before is empty"},
		"revoke what is wrong": {u: told{err: store.ErrTooManyRevocations}, args: "revoke --jti j", status: statusFailed, stderr: "Nothing was taken back\n"},
		"revocations": {u: told{all: []auth.Revocation{
			{ID: "ABC", JTI: "j1", User: "u1\x1b[2J", At: noon},
			{ID: "DEF", Issuer: "my_app", Before: noon, At: noon, Until: noon.Add(time.Hour), Room: room.String(), Reason: "the key was lost"},
		}}, args: "revocations", stdout: `
ID   TOKENS              ROOM                                 BEFORE                SINCE                 UNTIL                 REASON
ABC  jti=j1 user=u1�[2J  -                                    -                     2030-01-31T12:00:00Z  -                     -
DEF  issuer=my_app       standup@conference.meet.example.com  2030-01-31T12:00:00Z  2030-01-31T12:00:00Z  2030-01-31T13:00:00Z  the key was lost
`},
		"no revocations":        {args: "revocations", stdout: "\nNo token is taken back.\n"},
		"revocations, some bad": {u: told{err: store.ErrUnreadableRevocation}, args: "revocations", status: statusFailed, stdout: "\nNo token is taken back.\n", stderr: "some revocations cannot be listed"},
		"revocations for programs": {u: told{all: []auth.Revocation{{ID: "ABC", JTI: "j1", At: noon}}}, args: "revocations --json", stdout: `
{"revocations":[{"id":"ABC","jti":"j1","at":"2030-01-31T12:00:00Z"}]}
`},
		"lift": {args: "revocations --lift ABC", check: func(u *told) bool { return u.lifted == "ABC" }, stdout: `
The revocation has ended. Its tokens and sessions count again, each until its own end.
`},
		"lift one of several": {u: told{all: []auth.Revocation{
			{ID: "ABC", JTI: "j1", User: "u1", At: noon}, {ID: "DEF", User: "u1", At: noon}, {ID: "GHI", User: "u2", At: noon}, {ID: "JKL", JTI: "j2", User: "u1", At: noon},
		}}, args: "revocations --lift ABC", check: func(u *told) bool { return u.lifted == "ABC" }, stdout: `
The revocation has ended. Its tokens and sessions count again, unless these revocations fit them, too:

ID   TOKENS   ROOM  BEFORE  SINCE                 UNTIL  REASON
DEF  user=u1  -     -       2030-01-31T12:00:00Z  -      -
`},
		"lift nothing": {args: "revocations --lift=", status: statusUsage, stderr: "--lift wants the id of a revocation"},
		"lift unknown": {u: told{err: store.ErrNoRevocation}, args: "revocations --lift ABC", status: statusFailed, stderr: "no such revocation"},
		"no store":     {u: told{err: errors.New("the store does not answer")}, args: "revocations", status: statusFailed, stderr: "the store does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append(strings.Fields(tt.args), "--socket", listens(t, &tt.u))
			got := command(t, "", args...)
			if got.status != tt.status || !strings.Contains(got.stderr, tt.stderr) || tt.stderr == "" && got.stderr != "" {
				t.Errorf("status %d, stderr %q", got.status, got.stderr)
			}
			if want := strings.TrimPrefix(tt.stdout, "\n"); tt.stdout != "" && got.stdout != want {
				t.Errorf("got:\n%s\nwant:\n%s", got.stdout, want)
			}
			if tt.status == statusUsage && tt.u.asked != (auth.Revocation{}) {
				t.Errorf("usher was asked %+v", tt.u.asked)
			}
			if tt.check != nil && !tt.check(&tt.u) {
				t.Errorf("usher was asked %+v", tt.u)
			}
			if strings.Contains(got.stdout+got.stderr, "\x1b") || strings.Contains(got.stderr, "eyJ") {
				t.Errorf("harms the terminal, or repeats a token: %q %q", got.stdout, got.stderr)
			}
		})
	}
}

// The socket is the flag's, the configuration's, systemd's, or the usual one; errors say where usher was looked for.
func TestAdminSocket(t *testing.T) {
	staged(t)
	configured, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write(t, "with.yaml", string(configured)+"\nadmin: {socket: "+folder+"/configured.sock}\n")
	for name, tt := range map[string]struct {
		args, runtime, want string
		guessed             bool
	}{
		"flag":          {args: "grants --socket /nowhere/x.sock -c with.yaml", runtime: "/nowhere/run", want: "/nowhere/x.sock"},
		"configuration": {args: "grants -c with.yaml", runtime: "/nowhere/run", want: folder + "/configured.sock"},
		"none there":    {args: "revocations -c usher.yaml", runtime: "/nowhere/run:/other", want: "/nowhere/run/usher.sock"},
		"systemd":       {args: "revoke --jti j", runtime: "/nowhere/run", want: "/nowhere/run/usher.sock"},
		"usual":         {args: "grants", want: usualSocket, guessed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("RUNTIME_DIRECTORY", tt.runtime)
			got := command(t, "", strings.Fields(tt.args)...)
			if want := "usher: no usher runs with the socket " + tt.want; got.status != statusFailed || !strings.Contains(got.stderr, want) {
				t.Errorf("status %d: %s, want %s", got.status, got.stderr, want)
			}
			if hinted := strings.Contains(got.stderr, "usher has a socket if"); hinted != tt.guessed {
				t.Errorf("a hint: %t: %s", hinted, got.stderr)
			}
		})
	}
	write(t, "bad.yaml", "vhosts: 1\n")
	if got := command(t, "", "grants", "-c", "bad.yaml"); got.status != statusFailed || !strings.Contains(got.stderr, "To do without it: --socket PATH") {
		t.Errorf("%+v", got)
	}
}

// A token is taken back while its bearer is inside: they are put out, and refused, also by the next usher, until that is lifted.
func TestRevokeStory(t *testing.T) {
	server := served(t, componentSecret)
	socket := filepath.Join(t.TempDir(), "usher.sock")
	configured, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", string(configured)+"\nadmin: {socket: "+socket+"}\n")
	const room = "standup@conference.meet.example.com"
	mint := func(id string) string {
		return tokentest.Mint(t, []byte(appSecret), token.Claims{
			Issuer: demoScene.issuer, Audience: []string{"jitsi"}, Subject: demoScene.tokens, Room: "standup", ID: id,
			Expires: time.Now().Add(time.Hour), User: token.User{ID: id, Affiliation: "owner"},
		}, nil)
	}
	serves := func() (end func() int, stderr *live) {
		stderr = newLive()
		end = begin(t, stderr, stderr, "serve", "-c", "usher.yaml")
		stderr.until(t, "connected", 1)
		stderr.until(t, "usher answers the commands at ", 1)
		return end, stderr
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	asks := func(c *prosodytest.Client, show string) prosodytest.Stanza {
		t.Helper()
		s, err := c.IQ(ctx, "set", demoScene.focus, "<conference xmlns='http://jitsi.org/protocol/focus' room='"+room+"' machine-uid='0123456789abcdef' "+show+"/>")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	refused := func(c *prosodytest.Client, show, code string) {
		t.Helper()
		if got := asks(c, show).Find("reason", "urn:usher:0").Attr["code"]; got != code {
			t.Errorf("refused with %q, want %q", got, code)
		}
	}
	enters := func(c *prosodytest.Client, tok, nick string) (session string) {
		t.Helper()
		s := asks(c, "token='"+tok+"'")
		if conference := s.Find("conference", "http://jitsi.org/protocol/focus"); conference.Attr["ready"] != "true" {
			t.Fatalf("%s is not let in: %s", nick, s)
		} else {
			session = conference.Attr["session-id"]
		}
		if s, err := c.Join(ctx, room, nick); err != nil || s.Attr["type"] == "error" {
			t.Fatalf("%s cannot join: %s, %v", nick, s, err)
		}
		return session
	}
	usher := func(args ...string) string {
		t.Helper()
		r := command(t, "", append(args, "-c", "usher.yaml")...)
		if r.status != 0 {
			t.Fatalf("%s: %+v", args, r)
		}
		return r.stdout
	}

	end, stderr := serves()
	romeo, juliet := server.Client(t, prosodytest.ClientOptions{Host: "meet.example.com"}), server.Client(t, prosodytest.ClientOptions{Host: "meet.example.com"})
	lost := mint("lost")
	session := enters(romeo, lost, "romeo")
	enters(juliet, mint("kept"), "juliet")
	if out := usher("grants", "--room", room); !strings.Contains(out, romeo.BareJID()) || !strings.Contains(out, "lost") || strings.Count(out, "\n") != 3 {
		t.Errorf("grants:\n%s", out)
	}

	began := time.Now()
	if out := usher("revoke", "--jti", "lost", "--reason", "phone stolen"); !strings.Contains(out, romeo.BareJID()) || strings.Contains(out, juliet.BareJID()) {
		t.Errorf("revoke:\n%s", out)
	}
	for who, c := range map[string]*prosodytest.Client{"the bearer": romeo, "somebody else": juliet} {
		gone, err := c.Await(ctx, func(s prosodytest.Stanza) bool {
			return s.Name == "presence" && s.Attr["type"] == "unavailable" && s.Attr["from"] == room+"/romeo"
		})
		if err != nil || !gone.HasStatus("321") {
			t.Fatalf("%s is told %s, %v", who, gone, err)
		}
	}
	t.Logf("put out after %s", time.Since(began))
	refused(romeo, "token='"+lost+"'", "token-revoked")
	refused(romeo, "session-id='"+session+"'", "session-invalid")
	if s, err := romeo.Join(ctx, room, "romeo"); err != nil || s.Attr["type"] != "error" {
		t.Errorf("joins all the same: %s, %v", s, err)
	}
	if out := usher("grants"); strings.Contains(out, romeo.BareJID()) || !strings.Contains(out, juliet.BareJID()) {
		t.Errorf("grants:\n%s", out)
	}

	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	if _, err := os.Lstat(socket); err == nil {
		t.Error("the socket is left")
	}
	silent(t, stderr.String(), lost)
	end, stderr = serves()
	refused(romeo, "token='"+lost+"'", "token-revoked")
	list := usher("revocations")
	if !strings.Contains(list, "jti=lost") || !strings.Contains(list, "phone stolen") {
		t.Fatalf("revocations:\n%s", list)
	}
	id, _, _ := strings.Cut(strings.Split(list, "\n")[1], " ")
	usher("revocations", "--lift", id)
	if out := usher("revocations"); out != "No token is taken back.\n" {
		t.Errorf("revocations:\n%s", out)
	}
	enters(romeo, lost, "romeo")
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	silent(t, stderr.String(), lost)
}

// Of two ushers with one socket, the active one answers: a second one that stands by leaves it the socket, and then takes it over.
func TestCommandsFindTheActiveUsher(t *testing.T) {
	served(t, componentSecret)
	socket := filepath.Join(t.TempDir(), "usher.sock")
	configured, err := os.ReadFile("usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", string(configured)+"\nadmin: {socket: "+socket+"}\n")
	answers := func() {
		t.Helper()
		if r := command(t, "", "grants", "-c", "usher.yaml"); r.status != 0 || r.stdout != "Nobody is let in.\n" {
			t.Errorf("%+v", r)
		}
	}
	first, second := newLive(), newLive()
	end := begin(t, first, first, "serve", "-c", "usher.yaml")
	first.until(t, "connected", 1)
	first.until(t, "usher answers the commands at ", 1)
	begin(t, second, second, "serve", "-c", "usher.yaml")
	second.until(t, "another usher has the socket", 1)
	answers()
	if status := end(); status != 0 {
		t.Errorf("ended with %d", status)
	}
	second.until(t, "connected", 1)
	second.until(t, "usher answers the commands at ", 1)
	answers()
}

// An usher that stands by says so.
func TestStandsBy(t *testing.T) {
	r := command(t, "", "revoke", "--jti", "j", "--socket", listens(t, nil))
	if r.status != statusFailed || !strings.Contains(r.stderr, "this usher stands by for another one") {
		t.Errorf("%+v", r)
	}
}

func TestRoomCommands(t *testing.T) {
	standup := component.RoomSummary{Room: jid.MustParse("standup@conference.meet.example.com"), Name: "standup", Open: true, HostInside: true, Since: noon, Hosts: 1, Guests: 2, Waiting: 1}
	view := component.RoomView{RoomSummary: standup, Text: "guests wait for a host", Ends: noon.Add(time.Hour),
		Occupants: []component.Occupant{{Who: jid.MustParse("romeo@meet.example.com"), As: "host", Affiliation: "owner", Issuer: "my_app", JTI: "j1", User: "u\x1b[2J", Since: noon, Inside: true}},
		Waits:     []component.Waiter{{Who: jid.MustParse("juliet@guest.example.com"), Since: noon, Reason: auth.ReasonHostAbsent}},
	}
	const head = `
ROOM                                 OPEN  HOST  LOCKED  HOSTS  MEMBERS  GUESTS  WAITING  SINCE
standup@conference.meet.example.com  yes   yes   no      1      0        2       1        2030-01-31T12:00:00Z
`
	const address = "standup@conference.meet.example.com"
	for name, tt := range map[string]struct {
		u              told
		args           string
		status         int
		stdout, stderr string
		did            string
	}{
		"rooms":    {u: told{rooms: []component.RoomSummary{standup}}, args: "rooms", stdout: head},
		"none":     {args: "rooms", stdout: "\nNo room is open, and nobody waits.\n"},
		"for json": {args: "rooms --json", stdout: "\n{\"rooms\":[]}\n"},
		"one": {u: told{view: view}, args: "rooms " + address, stdout: head + `
Rule: guests wait for a host
Ends: 2030-01-31T13:00:00Z

WHO                     IS    AS     INSIDE  ISSUER  JTI  USER   SINCE
romeo@meet.example.com  host  owner  yes     my_app  j1   u�[2J  2030-01-31T12:00:00Z

WAITING                   REASON       SINCE
juliet@guest.example.com  host-absent  2030-01-31T12:00:00Z
`},
		"not open":    {u: told{err: component.ErrRoom}, args: "rooms a@b", status: statusFailed, stderr: component.ErrRoom.Error()},
		"end":         {args: "rooms end " + address + " --reason Over.", stdout: "\n" + address + " has ended.\n", did: "end " + address + ` "Over."`},
		"end nothing": {args: "rooms end", status: statusUsage, stderr: "missing: usher rooms end ROOM"},
		"lock":        {args: "rooms lock " + address, stdout: "\n" + address + " is locked: only hosts can enter.\n", did: "lock " + address + " true"},
		"unlock":      {args: "rooms unlock " + address, stdout: "\n" + address + " is unlocked.\n", did: "lock " + address + " false"},
		"remove":      {args: "rooms remove " + address + " romeo@meet.example.com --bar", stdout: "\nromeo@meet.example.com is put out.\n", did: "remove " + address + ` romeo@meet.example.com "" true`},
		"remove who":  {args: "rooms remove " + address, status: statusUsage, stderr: "missing: usher rooms remove ROOM JID"},
	} {
		t.Run(name, func(t *testing.T) {
			u := tt.u
			path := listens(t, &u)
			r := command(t, "", append(strings.Fields(tt.args), "--socket", path)...)
			if r.status != tt.status || "\n"+r.stdout != tt.stdout && tt.stdout != "" || !strings.Contains(r.stderr, tt.stderr) || u.did != tt.did {
				t.Errorf("%d %s%s\nwant %d %s%s, did %s", r.status, r.stdout, r.stderr, tt.status, tt.stdout, tt.stderr, u.did)
			}
		})
	}
}
