package ejabberdtest

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// libraries is where Debian has ejabberd and the Erlang libraries that it needs, below a folder of the machine's architecture.
const libraries = "/usr/lib/*/ejabberd-*/ebin/ejabberd.app"

//go:embed start.erl
var start string

// Options say how to run ejabberd.
type Options struct {
	// Configure returns YAML as in ejabberd.yml, once the addresses are chosen. It must make ejabberd listen for components at
	// ComponentAddr. This package writes the listeners for clients, the log, and the general modules mod_disco and mod_ping; others go
	// into host_config.
	Configure func(s *prosodytest.Server) string

	// Users are the passwords of accounts by bare JID. They are made at each start, with the authentication of their virtual host.
	Users map[string]string

	// LogLevel is debug, info, warning or error. Empty means info.
	LogLevel string
}

// Start runs an ejabberd until the test ends. Without one it skips the test, or fails it if PROSODYTEST_REQUIRED is 1 in the
// environment. With PROSODYTEST_EJABBERD=none it always skips. If the test fails, the end of the log goes to the test's log.
func Start(t prosodytest.TB, o Options) *prosodytest.Server {
	t.Helper()
	p, err := find(o)
	switch {
	case err == nil:
		return prosodytest.StartProgram(t, p)
	case errors.Is(err, errNotWanted), errors.Is(err, prosodytest.ErrNotFound) && os.Getenv("PROSODYTEST_REQUIRED") != "1":
		t.Skipf("ejabberdtest: %v", err)
	default:
		t.Fatalf("ejabberdtest: %v", err)
	}
	return nil
}

// Run is [Start] outside of a test: the caller closes the server. The context bounds the start only. Without an ejabberd the error
// is [prosodytest.ErrNotFound].
func Run(ctx context.Context, o Options) (*prosodytest.Server, error) {
	p, err := find(o)
	if err != nil {
		return nil, err
	}
	return prosodytest.RunProgram(ctx, p)
}

// errNotWanted means that the environment says to do without ejabberd.
var errNotWanted = fmt.Errorf("no ejabberd: %w: PROSODYTEST_EJABBERD is none", prosodytest.ErrNotFound)

// program is the prosodytest.Program.
type program struct {
	o         Options
	erl, libs string
}

func find(o Options) (program, error) {
	if os.Getenv("PROSODYTEST_EJABBERD") == "none" || os.Getenv("PROSODYTEST_PROSODY") == "none" {
		return program{}, errNotWanted
	}
	erl, err := exec.LookPath("erl")
	if err != nil {
		return program{}, fmt.Errorf("no ejabberd: %w: %w", prosodytest.ErrNotFound, err)
	}
	found, err := filepath.Glob(libraries)
	if err != nil || len(found) == 0 {
		return program{}, fmt.Errorf("no ejabberd: %w: %s does not exist", prosodytest.ErrNotFound, libraries)
	}
	return program{o: o, erl: erl, libs: filepath.Dir(filepath.Dir(filepath.Dir(found[0])))}, nil
}

// Name implements prosodytest.Program.
func (program) Name() string { return "ejabberd" }

// Log implements prosodytest.Program.
func (program) Log() string { return "ejabberd.log" }

// Configure implements prosodytest.Program.
func (p program) Configure(s *prosodytest.Server) error {
	var users strings.Builder
	for _, jid := range slices.Sorted(maps.Keys(p.o.Users)) {
		user, host, _ := strings.Cut(jid, "@")
		fmt.Fprintf(&users, "{<<%q>>, <<%q>>, <<%q>>}.\n", user, host, p.o.Users[jid])
	}
	c2s, component, http := prosodytest.Port(s.C2SAddr), prosodytest.Port(s.ComponentAddr), prosodytest.Port(s.URL)
	return errors.Join(
		s.Write("start.erl", start),
		s.Write("ports.term", c2s+".\n"+component+".\n"+http+".\n"),
		s.Write("users.term", users.String()),
		s.Write("inetrc", "{lookup, [file]}.\n"), // no DNS
		s.Write("test.yml", p.o.Configure(s)),
		s.Write("ejabberd.yml", strings.NewReplacer("{level}", cmp.Or(p.o.LogLevel, "info"), "{c2s}", c2s, "{http}", http,
			"{test}", strconv.Quote(filepath.Join(s.Dir, "test.yml")), "{host}", prosodytest.OwnHost).Replace(private)),
	)
}

// private is the part of the configuration that no test may change. ejabberd puts lists and maps of several files together, but takes
// no module twice.
const private = `loglevel: {level}
hosts: ["{host}"]
s2s_access: none
host_config:
  "{host}":
    auth_method: [anonymous]
    anonymous_protocol: sasl_anon
    modules:
      mod_ping: {}
      mod_muc: {host: "rooms.{host}"}
      mod_muc_admin: {}
listen:
  - port: {c2s}
    ip: "127.0.0.1"
    module: ejabberd_c2s
  - port: {http}
    ip: "127.0.0.1"
    module: ejabberd_http
    request_handlers:
      /xmpp-websocket: ejabberd_http_ws
      /api: mod_http_api
api_permissions:
  observer:
    who: {ip: "127.0.0.1/8"}
    what: [get_room_affiliations, get_room_occupants, get_room_options]
modules:
  mod_disco: {}
  mod_ping: {}
include_config_file: {test}
`

// Command implements prosodytest.Program. Without a node name Erlang needs no epmd, and nothing outside can reach the node. Threads
// that wait do not spin, because tests share a machine. ejabberdctl is left aside: it would run ejabberd as Debian's user ejabberd,
// who cannot read the folder of the test.
func (p program) Command(s *prosodytest.Server) *exec.Cmd {
	data := filepath.Join(s.Dir, "data")
	cmd := exec.Command(p.erl, "-noinput", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none",
		"-mnesia", "dir", strconv.Quote(data), "-ejabberd", "quiet", "true", "-eval", `ok = file:eval("start.erl").`)
	in := func(name string) string { return filepath.Join(s.Dir, name) }
	cmd.Env = append(os.Environ(), "HOME="+data, "ERL_LIBS="+p.libs, "ERL_INETRC="+in("inetrc"), "ERL_CRASH_DUMP="+in("crash.dump"), "ERL_CRASH_DUMP_SECONDS=0",
		"EJABBERD_CONFIG_PATH="+in("ejabberd.yml"), "EJABBERD_LOG_PATH="+in("ejabberd.log"))
	return cmd
}
