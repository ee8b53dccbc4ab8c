package component_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	prosodygate "github.com/xmpp-usher/usher/config/gate"
	usherModule "github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/ejabberdtest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
	"github.com/xmpp-usher/usher/pkg/secrettest"
	"github.com/xmpp-usher/usher/pkg/token"
	"github.com/xmpp-usher/usher/pkg/token/tokentest"
)

// What the tests against a real Prosody share: usher beside a server (gate), and the people who come (person).

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	domain      = "focus.meet.example.com"
	service     = "conference.meet.example.com"
	room        = "standup@" + service
	other       = "retro@" + service
	lobbyRoom   = "standup@lobby.meet.example.com"
	breakoutMUC = "breakout.meet.example.com"
	jicofoJID   = "focus@auth.meet.example.com"

	componentSecret = "a secret of the component, not short"
	machine         = "0123456789abcdef0123456789abcdef" // the machine-uid of all clients

	// Answers, as outcome says them.
	absent  = "not-authorized host-absent"
	invalid = "not-acceptable session-invalid"

	nsFocus = "http://jitsi.org/protocol/focus"

	// patience is the time in which something must happen that a test waits for, on a machine with much else to do.
	patience = time.Minute
	// waitHold is the time for which requests are held, by usher's clock. It is longer than any test takes: see clock.
	waitHold = 10 * time.Minute
	// toJoin is the time, by usher's clock, in which somebody who is let in may come; muc has it as joinWithin. Whatever usher
	// does from time to time in a room is due within it.
	toJoin = 30 * time.Second
)

var secret = []byte("a secret for tests, long enough!")

// clock is the clock of usher and of its store. It is the machine's, which a test sets forward when something is to end. So nothing
// ends because the machine is slow.
type clock struct {
	ahead   atomic.Int64
	stopped atomic.Pointer[time.Time] // nil while it runs
}

func (c *clock) now() time.Time {
	at := time.Now()
	if stopped := c.stopped.Load(); stopped != nil {
		at = stopped.Add(at.Sub(*stopped) / 100)
	}
	return at.Add(time.Duration(c.ahead.Load()))
}

// stands all but stops the clock: from here on nothing becomes due unless forward moves it, but for pauses of some milliseconds, after
// which usher does again at once what has failed.
func (c *clock) stands() {
	now := time.Now()
	c.stopped.Store(&now)
}

// runs has the clock go on.
func (c *clock) runs() { c.stopped.Store(nil) }

func (c *clock) forward(d time.Duration) { c.ahead.Add(int64(d)) }

// gateServer is the server's side of the gate, as operators are told to write it, and config is that for Prosody.
var (
	gateServer = prosodygate.Server{
		Domain: "focus.meet.example.com", Secret: componentSecret, Service: service,
		VHosts: []prosodygate.VHost{
			{Domain: "meet.example.com", Authentication: "anonymous"},
			{Domain: "guest.meet.example.com", Authentication: "anonymous"},
			{Domain: "recorder.meet.example.com", Authentication: "anonymous"},
			{Domain: "users.example.com"},
		},
	}
	config = gateServer.Lua()
)

// mode is one of the ways in which usher works.
type mode string

const (
	own      mode = "own"      // usher is the focus itself
	ejabberd mode = "ejabberd" // the same, on an ejabberd
	relay    mode = "relay"    // before a Jicofo
	module   mode = "module"   // before a Jicofo, and Prosody's module keeps strangers out of rooms that are open
)

// alone reports whether usher is the focus itself.
func (m mode) alone() bool { return m == own || m == ejabberd }

// uncreated is the condition with which the server refuses to create a room for people.
func (m mode) uncreated() string {
	if m == ejabberd {
		return "forbidden"
	}
	return "not-allowed"
}

// unserved is the condition with which the server answers for a component that is away. Prosody says so by itself. This ejabberd
// talks to no other servers.
func (m mode) unserved() string {
	if m == ejabberd {
		return "forbidden"
	}
	return "remote-server-timeout"
}

// alone runs a test of usher as the focus itself on each server.
func alone(t *testing.T, test func(t *testing.T, m mode)) {
	t.Helper()
	eachMode(t, test, own, ejabberd)
}

// eachMode runs a test in each mode, or in those that are named.
func eachMode(t *testing.T, test func(t *testing.T, m mode), only ...mode) {
	t.Helper()
	if len(only) == 0 {
		only = []mode{own, ejabberd, relay, module}
	}
	for _, m := range only {
		t.Run(string(m), func(t *testing.T) {
			t.Parallel()
			test(t, m)
		})
	}
}

// eachStore runs a test of usher that can crash, as its own focus and before a Jicofo, with each kind of store. ejabberd is beside one of
// them only: it takes the longest to start, and does not know the store.
func eachStore(t *testing.T, test func(t *testing.T, m mode, s setup)) {
	t.Helper()
	for name, file := range map[string]bool{"memory": false, "file": true} {
		modes := []mode{own, relay}
		if !file {
			modes = append(modes, ejabberd)
		}
		for _, m := range modes {
			t.Run(string(m)+", "+name, func(t *testing.T) {
				t.Parallel()
				test(t, m, setup{file: file, crashes: true})
			})
		}
	}
}

// setup is what a test changes of a gate. The zero value is a server as it is under a Jitsi Meet.
type setup struct {
	prosodytest.JitsiOptions
	config string // the server's, instead of what JitsiOptions say
	away   bool   // Jicofo is not there yet
	// accounts are more accounts, on virtual hosts of their own, with the password "secret". admins own all rooms of the MUC service.
	accounts, admins []string
	file             bool        // the store is a file
	crashes          bool        // usher can crash, and what is in its store outlives it
	shared           store.Store // instead of a store of its own

	server  func(*prosodytest.Options)
	jicofo  func(*prosodytest.JicofoOptions)
	options func(*component.Options)
	policy  func(*auth.Policy)
	tune    func(*component.Component)
}

// gate is a server with usher beside it.
type gate struct {
	*prosodytest.Server
	clock
	t        *testing.T
	mode     mode
	setup    setup
	policy   auth.Policy
	store    store.Store // usher's, which goes on when usher stops
	jicofo   *prosodytest.Jicofo
	observer *prosodytest.Observer // nil beside the server of the README
	reports  *reports

	// Of the usher that runs, or ran last.
	usher *component.Component
	log   *observer.ObservedLogs
	stop  context.CancelFunc
	// replaced stops it because another usher is the active one.
	replaced context.CancelFunc
	done     chan error
	cable    *prosodytest.Cable // if it can crash
	mortal   *mortal            // if it can crash: its view of the store

	people  atomic.Int64
	secrets *secrettest.Secrets // what neither logs nor answers may have
}

// conference is a server with usher as the focus itself, and a host and a guest in the room.
func (m mode) conference(t *testing.T) (g *gate, host, guest *person) {
	t.Helper()
	g = m.begin(t)
	host, guest = g.person("meet.example.com"), g.person("guest.meet.example.com")
	host.enters(room, mint(t, nil))
	guest.enters(room, "")
	return g, host, guest
}

// begin begins with the server of the README, and usher as the focus itself.
func (m mode) begin(t *testing.T, change ...func(*auth.Policy)) *gate {
	t.Helper()
	return m.start(t, setup{config: config, policy: func(p *auth.Policy) {
		for _, c := range change {
			c(p)
		}
	}})
}

// start is begin on Prosody.
func start(t *testing.T, change ...func(*auth.Policy)) *gate {
	t.Helper()
	return own.begin(t, change...)
}

// startWith is start with another configuration of the server.
func startWith(t *testing.T, config string) *gate {
	t.Helper()
	return own.start(t, setup{config: config})
}

// beforeJicofo begins with Jicofo on a server as it is under a Jitsi Meet.
func beforeJicofo(t *testing.T, s setup) *gate {
	t.Helper()
	return relay.start(t, s)
}

// opened is a server with usher, which may crash, and a host in the room.
func (m mode) opened(t *testing.T) (*gate, *person) {
	t.Helper()
	g := m.start(t, setup{crashes: true})
	host := g.person("meet.example.com")
	host.enters(room, mint(t, nil))
	return g, host
}

// start begins with a server and usher, and before Jicofo returns when a request would be answered.
func (m mode) start(t *testing.T, s setup) *gate {
	t.Helper()
	s.Secret = componentSecret
	if m.alone() {
		s.Breakout = false // which only Jicofo makes
	}
	if m == module {
		s.JitsiOptions = keptOutByModule(t, s.JitsiOptions)
	}
	g := &gate{t: t, mode: m, setup: s, reports: newReports()}
	if g.store = s.shared; g.store == nil {
		g.store = g.newStore()
	}
	g.startServer()
	g.policy = policy(func(p *auth.Policy) {
		p.Lobby, p.LobbyBypass = s.Lobby, []auth.Affiliation{auth.Owner, auth.Member}
		if s.Breakout {
			p.Breakout = breakoutMUC
		}
		if s.policy != nil {
			s.policy(p)
		}
	})
	g.run()
	if !m.alone() && !s.away {
		g.comes()
	}
	return g
}

// startServer starts the server, and the observer beside it.
func (g *gate) startServer() {
	g.t.Helper()
	if g.mode == ejabberd {
		g.Server = ejabberdtest.Start(g.t, ejabberdtest.Options{
			Configure: func(s *prosodytest.Server) string { return g.ejabberdConfig(s.ComponentAddr) },
			Users:     g.users(map[string]string{"romeo@users.example.com": "wherefore", observerJID: "secret"}),
		})
		g.observer = ejabberdtest.Observe(g.Server)
		return
	}
	server := g.setup.Options()
	if g.setup.config != "" {
		server = prosodytest.Options{Config: g.setup.config, Users: map[string]string{"romeo@users.example.com": "wherefore"}}
	}
	if g.setup.server != nil {
		g.setup.server(&server)
	}
	g.addAccounts(&server)
	g.Server = prosodytest.Start(g.t, server)
	if g.setup.config == "" {
		g.observer = g.Observe(g.t, g.setup.Observer())
	}
}

// users adds the accounts of the setup to others.
func (g *gate) users(others map[string]string) map[string]string {
	for _, account := range g.setup.accounts {
		others[account] = "secret"
	}
	return others
}

// hostsOfAccounts are the virtual hosts of the accounts of the setup.
func (g *gate) hostsOfAccounts() (hosts []string) {
	for _, account := range g.setup.accounts {
		_, host, _ := strings.Cut(account, "@")
		hosts = append(hosts, host)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// addAccounts adds the accounts and admins of the setup to a Prosody.
func (g *gate) addAccounts(o *prosodytest.Options) {
	if len(g.setup.admins) > 0 {
		o.Config = "admins = " + prosodygate.List(g.setup.admins...) + "\n" + o.Config
	}
	for _, host := range g.hostsOfAccounts() {
		o.Config += fmt.Sprintf("\nVirtualHost %q\nauthentication = \"internal_hashed\"\n", host)
	}
	o.Users = g.users(o.Users)
}

// observerJID is the account of JitsiOptions that is an admin of the MUC service.
const observerJID = "observer@auth.meet.example.com"

// ejabberdConfig is that of gateServer with more accounts, and with the crowd. Owners may make rooms persistent, as they may under a
// Jitsi Meet.
func (g *gate) ejabberdConfig(component string) string {
	s := gateServer
	s.VHosts = append(slices.Clone(s.VHosts), prosodygate.VHost{Domain: "auth.meet.example.com"})
	for _, host := range g.hostsOfAccounts() {
		s.VHosts = append(s.VHosts, prosodygate.VHost{Domain: host})
	}
	s.Admins = append(slices.Clone(g.setup.admins), observerJID)
	yaml := strings.Replace(s.YAML(component), "access_persistent: usher", "access_persistent: all  ", 1)
	return strings.Replace(yaml, "    hosts:\n", fmt.Sprintf("    hosts:\n      %q: {password: %q}\n", folk, componentSecret), 1)
}

func (g *gate) newStore() store.Store {
	g.t.Helper()
	return openStore(g.t, g.setup.file, store.Options{Now: g.now})
}

// openStore opens a store, in memory or in a file, for the time of the test.
func openStore(t *testing.T, file bool, o store.Options) store.Store {
	t.Helper()
	s := store.Store(store.Memory(o))
	if file {
		var err error
		if s, err = store.Open(filepath.Join(t.TempDir(), "usher.db"), o); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// forgets has the next usher know nothing of what this one did.
func (g *gate) forgets() {
	g.t.Helper()
	g.store = g.newStore()
}

// policy is that of the tests. It panics where it cannot be made, since a process without a test makes it, too.
func policy(change ...func(*auth.Policy)) auth.Policy {
	source, err := keys.Secrets(secret)
	if err != nil {
		panic(err)
	}
	p := auth.Policy{
		Services: []string{service},
		VHosts: map[string]auth.VHost{
			"meet.example.com": {Kind: auth.KindToken, DefaultAffiliation: auth.Owner, Issuers: []auth.Issuer{{
				Name: "my_app", Accepted: []string{"my_app"}, Audiences: []string{"*"},
				Algorithms: []jwa.SignatureAlgorithm{jwa.HS256}, Keys: source,
				RequireRoom: true, RequireExp: true, DomainVerification: true, Leeway: 10 * time.Second,
			}}},
			"guest.meet.example.com":    {Kind: auth.KindGuest},
			"recorder.meet.example.com": {Kind: auth.KindService},
			"users.example.com":         {Kind: auth.KindTrusted},
		},
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

// options are those of usher beside the server with that component port.
func options(server string, p auth.Policy, log *zap.Logger) component.Options {
	return component.Options{
		Server: server, Domain: jid.MustParse(domain), Secret: []byte(componentSecret),
		Services: []jid.JID{jid.MustParse(service)}, Authorizer: auth.New(p), MembersOnly: true, WaitHold: waitHold, WaitHoldJitsi: waitHold,
		Store: store.Memory(store.Options{}), Version: "test", Log: log,
	}
}

// run starts usher and waits until it is connected.
func (g *gate) run() {
	g.t.Helper()
	g.begins()
	g.logged("connected")
}

// begins starts usher.
func (g *gate) begins() {
	g.t.Helper()
	core, log := observer.New(zap.DebugLevel)
	g.log = log
	g.plants()
	g.policy.Sessions, g.policy.Refusals = store.Sessions{Store: g.store}, store.Refusals{Store: g.store, Now: g.now}
	o := options(g.ComponentAddr, g.policy, zap.New(core))
	o.Now, o.Store, o.MembersOnly = g.now, g.store, !g.setup.Open
	g.reports.restarts()
	o.Report, o.Explain = g.reports.add, true
	if !g.mode.alone() {
		o.Jicofo, o.GuardInterval = jid.MustParse(jicofoJID), 500*time.Millisecond
	}
	if g.setup.Lobby {
		o.Lobby = jid.MustParse("lobby.meet.example.com")
	}
	if g.setup.crashes {
		g.cable, g.mortal = prosodytest.NewCable(g.t, g.ComponentAddr), &mortal{Store: g.store}
		o.Server, o.Store, o.Outlives = g.cable.Addr(), g.mortal, true
	}
	if g.setup.options != nil {
		g.setup.options(&o)
	}
	c, err := component.New(o)
	if err != nil {
		g.t.Fatal(err)
	}
	g.usher = c
	if g.setup.tune != nil {
		g.setup.tune(c)
	}
	ctx, end := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	g.stop, g.done = func() { end(nil) }, done
	g.replaced = func() { end(component.ErrReplaced) }
	g.t.Cleanup(func() {
		g.halt()
		g.keepsSecrets(log)
		g.reports.inOrder(g.t)
		if g.t.Failed() {
			g.t.Logf("the end of usher's log:\n%s", prosodytest.Tail(inWords(log)))
		}
	})
}

// halt stops usher in good order, if it runs.
func (g *gate) halt() {
	g.stop()
	select {
	case err, ok := <-g.done:
		if ok && err != nil {
			g.t.Errorf("Run returned %v", err)
		}
		if ok {
			close(g.done)
		}
	case <-time.After(patience):
		g.t.Error("Run did not return")
	}
}

// comesBack is the next usher.
func (g *gate) comesBack() {
	g.t.Helper()
	g.run()
	if g.jicofo != nil {
		g.logged("Jicofo is online")
	}
}

// crashes ends usher as far as the server and the store can tell: its connection is cut, and it is never heard of again.
func (g *gate) crashes() {
	g.t.Helper()
	g.mortal.dies()
	g.cable.Cut()
	g.logged("no connection")
	g.halt()
}

// mortal is a process's view of a store that others use after it: when it dies, nothing that it writes is kept.
type mortal struct {
	store.Store
	mu   sync.Mutex
	dead error
}

func (m *mortal) dies() { m.is(errors.New("the process is dead")) }

func (m *mortal) lives() { m.is(nil) }

func (m *mortal) is(dead error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = dead
}

func (m *mortal) alive() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

func (m *mortal) Put(ctx context.Context, records ...store.Record) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Store.Put(ctx, records...)
}

func (m *mortal) Add(ctx context.Context, r store.Record) (store.Record, bool, error) {
	if err := m.alive(); err != nil {
		return store.Record{}, false, err
	}
	return m.Store.Add(ctx, r)
}

func (m *mortal) Swap(ctx context.Context, old, new store.Record) (bool, error) {
	if err := m.alive(); err != nil {
		return false, err
	}
	return m.Store.Swap(ctx, old, new)
}

func (m *mortal) Delete(ctx context.Context, k store.Kind, keys ...string) error {
	if err := m.alive(); err != nil {
		return err
	}
	return m.Store.Delete(ctx, k, keys...)
}

// comes has Jicofo come, and returns when usher knows.
func (g *gate) comes() {
	g.t.Helper()
	o := g.setup.Jicofo()
	if g.setup.jicofo != nil {
		g.setup.jicofo(&o)
	}
	g.jicofo = g.Jicofo(g.t, o)
	g.logged("Jicofo is online")
}

// eventually waits until ok, and fails the test if that takes too long.
func (g *gate) eventually(what string, ok func() bool) {
	g.t.Helper()
	deadline := time.After(patience)
	for pause := 5 * time.Millisecond; !ok(); pause = min(2*pause, 50*time.Millisecond) { // each look costs time, too
		select {
		case <-time.After(pause):
		case <-deadline:
			g.t.Fatalf("did not happen: %s", what)
		}
	}
}

// inTime waits until ok, as eventually does, while usher's clock runs fast: it is for what usher does after some time. Nobody may be
// on the way into a room meanwhile, since the time to join passes, too.
func (g *gate) inTime(what string, ok func() bool) {
	g.t.Helper()
	g.eventually(what, func() bool { g.forward(5 * time.Second); return ok() })
}

// logged waits for a log entry and returns the newest.
func (g *gate) logged(message string) observer.LoggedEntry {
	g.t.Helper()
	g.eventually("log entry "+message, func() bool { return g.log.FilterMessage(message).Len() > 0 })
	all := g.log.FilterMessage(message).All()
	return all[len(all)-1]
}

// within is the context of what must happen in time.
func (g *gate) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(g.t.Context(), patience)
}

// sees is what the observer sees of a room.
func (g *gate) sees(room string) prosodytest.RoomView {
	g.t.Helper()
	ctx, cancel := g.within()
	defer cancel()
	v, err := g.observer.Room(ctx, room)
	if err != nil {
		g.t.Fatal(err)
	}
	return v
}

// count is the number of records of a kind in the store that have of at the beginning of the key, or in the value.
func (g *gate) count(kind store.Kind, of string) (n int) {
	g.t.Helper()
	for r, err := range g.store.All(context.Background(), kind) {
		if err != nil {
			g.t.Fatal(err)
		}
		if strings.HasPrefix(r.Key, of) || strings.Contains(string(r.Value), of) {
			n++
		}
	}
	return n
}

// grants is the number of grants that are written down, without what is written down of rooms themselves.
func (g *gate) grants() (n int) {
	g.t.Helper()
	for r, err := range g.store.All(context.Background(), store.KindGrant) {
		if err != nil {
			g.t.Fatal(err)
		}
		if room, who, _ := strings.Cut(r.Key, " "); room != who {
			n++
		}
	}
	return n
}

// nothingLeft fails the test unless everybody with an affiliation in the room is one of those.
func (g *gate) nothingLeft(room string, inside ...*person) {
	g.t.Helper()
	view := g.sees(room)
	for who, affiliation := range view.Affiliations {
		known := strings.HasPrefix(who, "focus@") || slices.ContainsFunc(inside, func(p *person) bool { return p.BareJID() == who })
		if !known {
			g.t.Errorf("%s is %s: %s", who, affiliation, view)
		}
	}
	for _, o := range view.Occupants {
		if who, _, _ := strings.Cut(o.JID, "/"); view.Affiliations[who] == "" && !strings.HasPrefix(who, "focus@") {
			g.t.Errorf("%s is inside with nothing: %s", o.JID, view)
		}
	}
}

// roomEnds waits until the room has ended.
func (g *gate) roomEnds() {
	g.t.Helper()
	g.inTime("the room ends", func() bool { return !g.sees(room).Exists })
}

// nothingWritten waits until no grant is written down, nor anything of a room.
func (g *gate) nothingWritten() {
	g.t.Helper()
	g.inTime("nothing is written down", func() bool { return g.count(store.KindGrant, "") == 0 })
}

// keptOutByModule adds usher's module, which also tells usher what happens, to a server with open rooms.
func keptOutByModule(t *testing.T, o prosodytest.JitsiOptions) prosodytest.JitsiOptions {
	t.Helper()
	folder := t.TempDir()
	if _, err := usherModule.Write(folder); err != nil {
		t.Fatal(err)
	}
	o.Open, o.PluginPaths, o.Modules = true, append(o.PluginPaths, folder), append(o.Modules, usherModule.Name)
	o.BreakoutModules = append(o.BreakoutModules, usherModule.Name)
	o.Global += "\nusher_component = \"" + domain + "\"\n" // for both services
	return o
}

// withLobby is a server with Jitsi's lobby and usher's module: its rooms are open, and the switch for members-only is the
// lobby's.
func withLobby(t *testing.T) prosodytest.JitsiOptions {
	t.Helper()
	return keptOutByModule(t, prosodytest.JitsiOptions{Lobby: true, HideAll: true})
}

var withBreakouts = prosodytest.JitsiOptions{Breakout: true}

// prosodyModule writes a module for Prosody, and returns the folder in which it lies.
func prosodyModule(t *testing.T, name, lua string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "mod_"+name+".lua"), []byte(lua), 0o644); err != nil {
		t.Fatal(err)
	}
	return folder
}

// passwords has romeo@users.example.com on the server, with a password.
func passwords(o *prosodytest.Options) {
	if !strings.Contains(o.Config, `VirtualHost "users.example.com"`) {
		o.Config += "\nVirtualHost \"users.example.com\"\nauthentication = \"internal_hashed\"\n"
	}
	o.Users["romeo@users.example.com"] = "wherefore"
}

// folk is the domain of a crowd: a component of the server, with as many people on it as a test wants. To usher and to rooms they
// are what clients are, as only their addresses count.
const folk = "folk.meet.example.com"

// withFolk adds the domain of the crowd to a server, which then logs little.
func withFolk(o *prosodytest.Options) {
	o.Config += fmt.Sprintf("\nComponent %q\ncomponent_secret = %q\n", folk, componentSecret)
	o.LogLevel = "error"
}

// folkPolicy has people of the crowd come with and without tokens.
func folkPolicy(p *auth.Policy) {
	v := p.VHosts["meet.example.com"]
	v.AllowEmptyToken = true
	p.VHosts[folk] = v
}

// mint makes a token: of a host of the room, or as changed.
func mint(t testing.TB, change func(*token.Claims)) string {
	t.Helper()
	return tokentest.Mint(t, secret, claims(), change)
}

// claims are those of a host of the room.
func claims() token.Claims {
	return token.Claims{
		Issuer: "my_app", Audience: []string{"jitsi"}, Subject: "meet.example.com", Room: "standup",
		Expires: time.Now().Add(time.Hour), User: token.User{ID: "u1", Affiliation: "owner"},
	}
}

func member(c *token.Claims) { c.User.Affiliation = "member" }

func forRoom(name string) func(*token.Claims) {
	return func(c *token.Claims) { c.Room = name }
}
