package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/gate"
)

// listens is a Prosody's configuration with what usher needs beside the options about where it listens.
var listens = gate.Server{
	Domain: "focus.example.com", Secret: secretA, Service: "rooms.example.com",
	VHosts: []gate.VHost{{Domain: "guest.example.com", Authentication: "anonymous"}},
}.Lua()

// optionsOf returns the lines about where Prosody listens, without their comments.
func optionsOf(text string) string {
	var options []string
	for line := range strings.Lines(text) {
		if line, _, _ = strings.Cut(line, " -- "); strings.HasPrefix(line, "component_ports") || strings.HasPrefix(line, "component_interfaces") {
			options = append(options, strings.TrimSpace(line))
		}
	}
	return strings.Join(options, "; ")
}

// openings are ways of Prosody to listen for components (core/portmanager.lua).
var openings = []struct {
	name    string
	options string // of Prosody, from line 1 on
	server  string // USHER_XMPP_SERVER
	address string // xmpp.server without it
	lines   string
	note    string // of the source
	find    []string
}{
	{name: "default", address: "127.0.0.1:5347"},
	{name: "default, IPv6", server: "[::1]:5347", address: "127.0.0.1:5347"},
	{name: "default, localhost", server: "localhost:5347", address: "127.0.0.1:5347"},
	{name: "no port", options: "component_ports = { }", address: "127.0.0.1:5347", lines: "component_ports = { 5347 }",
		note: "prosody prosody.cfg.lua:1: component_ports is empty, so Prosody listens for no component",
		find: []string{"prosody prosody.cfg.lua:1: component_ports is empty, so Prosody listens for no component and usher cannot connect"}},
	{name: "no port, another", options: "component_ports = { }", server: "127.0.0.1:5999", address: "127.0.0.1:5347",
		lines: "component_ports = { 5999 }", note: "component_ports is empty", find: []string{"component_ports is empty"}},
	{name: "another port", options: "component_ports = { 5999 }", address: "127.0.0.1:5999"},
	{name: "a port as text, and alone", options: `component_ports = "5999"`, address: "127.0.0.1:5999"},
	{name: "no list", options: `component_ports = false`, address: "127.0.0.1:5347"},
	{name: "other ports", options: "component_ports = { 5999, 6000 }", server: "127.0.0.1:5347", address: "127.0.0.1:5999",
		lines: "component_ports = { 5999, 6000, 5347 }",
		find:  []string{"prosody prosody.cfg.lua:1: Prosody listens for components on port 5999, 6000, but usher connects to 5347 (xmpp.server)"}},
	{name: "an option of no effect", options: "component_port = 5999", address: "127.0.0.1:5347",
		note: "prosody prosody.cfg.lua:1: component_port has no effect: Prosody reads component_ports"},
	{name: "interfaces of public services", options: `interfaces = { "192.0.2.1" }` + "\n" + `interface = "192.0.2.1"`, address: "127.0.0.1:5347"},
	{name: "one interface", options: `component_interfaces = { "10.0.0.5" }`, address: "10.0.0.5:5347"},
	{name: "one interface, older name", options: `component_interface = "10.0.0.5"`, address: "10.0.0.5:5347"},
	{name: "the newer name first", options: `component_interface = "10.0.0.6"` + "\n" + `component_interfaces = "10.0.0.5"`,
		address: "10.0.0.5:5347"},
	{name: "interface of private services", options: `local_interfaces = { "10.0.0.5" }`, address: "10.0.0.5:5347"},
	{name: "interfaces, the near one second", options: `component_interfaces = { "10.0.0.5", "127.0.0.1" }`, address: "127.0.0.1:5347"},
	{name: "everywhere", options: `component_interfaces = { "*", "::" }`, address: "127.0.0.1:5347"},
	{name: "everywhere, by name", options: `component_interfaces = { "*", "::" }`, server: "xmpp.example.internal:5347",
		address: "127.0.0.1:5347"},
	{name: "everywhere by IPv6", options: `component_interfaces = { "::" }`, address: "[::1]:5347"},
	{name: "no interface", options: `component_interfaces = { }`, address: "127.0.0.1:5347", lines: `component_interfaces = { "127.0.0.1" }`,
		note: "prosody prosody.cfg.lua:1: Prosody listens for components on no address",
		find: []string{"prosody prosody.cfg.lua:1: Prosody listens for components on no address only, but usher connects to 127.0.0.1 (xmpp.server)"}},
	{name: "no IPv4", options: `use_ipv4 = false`, address: "[::1]:5347"},
	{name: "no IPv4, by hand", options: `use_ipv4 = false`, server: "127.0.0.1:5347", address: "[::1]:5347",
		lines: `component_interfaces = { "::1", "127.0.0.1" }`, find: []string{"prosody: Prosody listens for components on ::1 only"}},
	{name: "no IPv6", options: `use_ipv6 = false`, server: "xmpp.example.internal:5347", address: "127.0.0.1:5347",
		lines: `component_interfaces = { "*" }`, find: []string{"Prosody listens for components on 127.0.0.1 only"}},
	{name: "by hand, a name", server: "xmpp.example.internal:5347", address: "127.0.0.1:5347", lines: `component_interfaces = { "*", "::" }`,
		find: []string{"prosody: Prosody listens for components on 127.0.0.1, ::1 only, but usher connects to xmpp.example.internal (xmpp.server)"}},
	{name: "by hand, an address", server: "10.0.0.5:5999", address: "127.0.0.1:5347",
		lines: `component_ports = { 5347, 5999 }; component_interfaces = { "127.0.0.1", "::1", "10.0.0.5" }`,
		find:  []string{"on port 5347, but usher connects to 5999", "on 127.0.0.1, ::1 only, but usher connects to 10.0.0.5"}},
	{name: "by hand, another loopback", server: "127.0.0.2:5347", address: "127.0.0.1:5347",
		lines: `component_interfaces = { "127.0.0.1", "::1", "127.0.0.2" }`, find: []string{"only, but usher connects to 127.0.0.2"}},
	{name: "by hand, localhost", options: `component_interfaces = { "10.0.0.5" }`, server: "localhost:5347", address: "10.0.0.5:5347",
		lines: `component_interfaces = { "10.0.0.5", "127.0.0.1" }`, find: []string{"on 10.0.0.5 only, but usher connects to localhost"}},
	{name: "an interface by name", options: `component_interfaces = { "xmpp-internal" }`, server: "10.0.0.5:5347",
		address: "xmpp-internal:5347"},
	{name: "localhost as interface", options: `component_interfaces = { "localhost" }`, address: "127.0.0.1:5347"},
	{name: "localhost as interface, a name", options: `component_interfaces = { "localhost" }`, server: "xmpp.example.internal:5347",
		address: "127.0.0.1:5347", lines: `component_interfaces = { "*", "::" }`, find: []string{"on localhost only"}},

	{name: "docker", options: image + "component_ports = { }", address: "xmpp.meet.jitsi:5347",
		lines: `component_ports = { 5347 }; component_interfaces = { "*", "::" }`,
		note:  "prosody prosody.cfg.lua:1: this is the Prosody of docker-jitsi-meet, which other containers reach as xmpp.meet.jitsi",
		find: []string{"prosody prosody.cfg.lua:2: component_ports is empty",
			"on 127.0.0.1, ::1 only, but usher connects to xmpp.meet.jitsi"}},
	{name: "docker, older", options: strings.ReplaceAll(image, "custom", "custom/") + `component_interface = { "*" }`, address: "xmpp.meet.jitsi:5347", note: "this is the Prosody of docker-jitsi-meet"},
	{name: "docker, another port", options: image + `component_ports = { 5999 }` + "\n" + `component_interfaces = { "*" }`,
		address: "xmpp.meet.jitsi:5999",
		note:    "this is the Prosody of docker-jitsi-meet"},
	{name: "docker, by hand", options: image + "component_ports = { }", server: "prosody:5347", address: "xmpp.meet.jitsi:5347",
		lines: `component_ports = { 5347 }; component_interfaces = { "*", "::" }`, note: "this is the Prosody of docker-jitsi-meet",
		find: []string{"component_ports is empty", "only, but usher connects to prosody"}},
}

// TestOpening checks for each way of Prosody to listen for components where usher connects to, and what is missing. With the lines
// nothing is missing, and making them again changes nothing.
func TestOpening(t *testing.T) {
	for _, test := range openings {
		t.Run(test.name, func(t *testing.T) {
			text := test.options + "\n" + listens
			inFolder(t, "prosody.cfg.lua", text)
			c, err := config.Load([]string{"prosody.cfg.lua"}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.XMPP.Server != test.address {
				t.Errorf("xmpp.server is %s, want %s", c.XMPP.Server, test.address)
			}
			noted := slices.ContainsFunc(slices.Concat(c.Notes, c.Warnings), func(p config.Problem) bool { return strings.Contains(p.String(), test.note) })
			if test.note != "" && !noted {
				t.Errorf("notes %v, warnings %v", c.Notes, c.Warnings)
			}
			if test.server != "" {
				if c, err = config.Load([]string{"prosody.cfg.lua"}, []string{"USHER_XMPP_SERVER=" + test.server}); err != nil {
					t.Fatal(err)
				}
			}
			var got []string
			findings, err := c.CompareProsody(nil)
			for _, f := range findings {
				got = append(got, f.Source+": "+f.Text)
				if f.Level != config.Missing || f.Mend == "" || !strings.Contains(optionsOf(linesOf(t, c)), f.Mend) {
					t.Errorf("finding %+v with the lines %s", f, optionsOf(linesOf(t, c)))
				}
			}
			if err != nil || !slices.EqualFunc(got, test.find, strings.Contains) {
				t.Errorf("found %q, want %q (%v)", got, test.find, err)
			}
			lines := linesOf(t, c)
			if got := optionsOf(lines); got != test.lines {
				t.Errorf("the lines are %s\nwant %s", got, test.lines)
			}

			// With the lines it is open. Made again they are the same, so that nobody loses them.
			write(t, "usher.cfg.lua", []byte(lines))
			write(t, "prosody.cfg.lua", []byte(text+"Include \"usher.cfg.lua\"\n"))
			again, err := config.Load([]string{"prosody.cfg.lua"}, []string{"USHER_XMPP_SERVER=" + c.XMPP.Server})
			if err != nil {
				t.Fatal(err)
			}
			if findings, err := again.CompareProsody(nil); err != nil || len(findings) > 0 {
				t.Errorf("with its own lines: %v, %v", findings, err)
			}
			if got := optionsOf(linesOf(t, again)); got != test.lines {
				t.Errorf("again, the lines are %s", got)
			}
		})
	}
}

// TestOpeningUnknown checks the same if Prosody's files are not known: then Prosody's default counts.
func TestOpeningUnknown(t *testing.T) {
	for _, test := range []struct {
		name    string
		environ []string
		want    string
	}{
		{name: "default"},
		{name: "default, IPv6", environ: []string{"USHER_XMPP_SERVER=[::1]:5347"}},
		{name: "another port", environ: []string{"USHER_XMPP_SERVER=127.0.0.1:5999"}, want: "component_ports = { 5999 }"},
		{name: "another address", environ: []string{"USHER_XMPP_SERVER=10.0.0.5:5347"},
			want: `component_ports = { 5347 }; component_interfaces = { "127.0.0.1", "::1", "10.0.0.5" }`},
		{name: "docker's name by hand", environ: []string{"USHER_XMPP_SERVER=xmpp.meet.jitsi:5347"},
			want: `component_ports = { 5347 }; component_interfaces = { "*", "::" }`},
	} {
		t.Run(test.name, func(t *testing.T) {
			inFolder(t, "usher.yaml", "xmpp: {domain: focus.example.com, secret: "+secretA+"}\nrooms: {services: [rooms.example.com]}\n"+
				"vhosts: {guest.example.com: {kind: guest}}\n")
			c, err := config.Load([]string{"usher.yaml"}, test.environ)
			if err != nil {
				t.Fatal(err)
			}
			if got := optionsOf(linesOf(t, c)); got != test.want {
				t.Errorf("the lines are %s\nwant %s", got, test.want)
			}
		})
	}
}

// TestOpeningProblems checks that a port or address that Prosody does not understand is told of, and defeats no comparison.
func TestOpeningProblems(t *testing.T) {
	for option, want := range map[string]string{
		`component_ports = { "x" }`:          "component_ports is no list of port numbers",
		`component_ports = { 1.5 }`:          "component_ports is no list of port numbers",
		`component_ports = { 70000 }`:        "component_ports is no list of port numbers",
		`component_ports = true`:             "component_ports is no list of port numbers",
		`component_interfaces = { 5347 }`:    "component_interfaces is no list of addresses",
		`local_interfaces = { { "x" } }`:     "local_interfaces is no list of addresses",
		`component_interface = 127.1`:        "component_interface is no list of addresses",
		`component_ports = { [1] = "5347x"}`: "component_ports is no list of port numbers",
	} {
		inFolder(t, "prosody.cfg.lua", option+"\n"+listens, "usher.yaml", guarded)
		_, err := config.Load([]string{"prosody.cfg.lua"}, nil)
		if err == nil || !strings.Contains(err.Error(), "prosody prosody.cfg.lua:1: "+want) {
			t.Errorf("%s: %v", option, err)
		}
		c, err := config.Load([]string{"usher.yaml"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		findings, err := c.CompareProsody(nil, "prosody.cfg.lua")
		if err != nil || !slices.ContainsFunc(findings, func(f config.Finding) bool { return strings.Contains(f.Text, want) }) {
			t.Errorf("%s: findings %v, %v", option, findings, err)
		}
	}
}

// TestOpeningBesideDocker checks that somebody who connects to the loopback of docker-jitsi-meet's Prosody is told that it is
// the container's own.
func TestOpeningBesideDocker(t *testing.T) {
	inFolder(t, "prosody.cfg.lua", image+listens)
	c, err := config.Load([]string{"prosody.cfg.lua"}, []string{"USHER_XMPP_SERVER=127.0.0.1:5347"})
	if err != nil {
		t.Fatal(err)
	}
	findings, err := c.CompareProsody(nil)
	if err != nil || len(findings) != 1 || findings[0].Level != config.Hint || findings[0].Mend != "xmpp.server: xmpp.meet.jitsi:5347" {
		t.Errorf("findings %v, %v", findings, err)
	}
}
