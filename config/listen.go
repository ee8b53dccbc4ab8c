package config

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody"
)

// defaultPort is where Prosody listens for components if nobody says otherwise (mod_component.lua).
const defaultPort = 5347

// listener is where a Prosody listens for components, in the order of its configuration.
type listener struct {
	ports      []int
	interfaces []string // addresses, names, or "*" for all of IPv4 and "::" for all of IPv6
	// portsAt and interfacesAt are the options that say so; zero where nobody does, and the default counts.
	portsAt, interfacesAt prosody.Position
	ipv6                  bool // whether Prosody uses IPv6 at all
}

// components returns where a Prosody listens for components, as 0.12 and 13 do (core/portmanager.lua, activate):
// component_ports counts, and never component_port; of the interfaces the first of three options that is set, and never
// interfaces, because mod_component.lua is a private service. An empty list means that Prosody listens nowhere. The error
// is a [prosody.Problem].
func components(p *prosody.Configuration) (listener, error) {
	set := func(name string) (prosody.Option, bool) {
		o, ok := p.Global.Own(name)
		return o, ok && o.Value != false
	}
	off := func(name string) bool {
		o, ok := p.Global.Own(name)
		return ok && o.Value == false
	}
	l := listener{ports: []int{defaultPort}, ipv6: !off("use_ipv6")}
	if !off("use_ipv4") {
		l.interfaces = append(l.interfaces, "127.0.0.1")
	}
	if l.ipv6 {
		l.interfaces = append(l.interfaces, "::1")
	}
	if o, ok := set("component_ports"); ok {
		l.ports, l.portsAt = nil, o.At
		for _, entry := range listOf(o.Value) {
			port, ok := portNumber(entry)
			if !ok {
				return l, prosody.Problem{At: o.At, Text: "component_ports is no list of port numbers"}
			}
			l.ports = append(l.ports, port)
		}
	}
	for _, name := range []string{"component_interfaces", "component_interface", "local_interfaces"} {
		o, ok := set(name)
		if !ok {
			continue
		}
		l.interfaces, l.interfacesAt = nil, o.At
		for _, entry := range listOf(o.Value) {
			text, ok := entry.(string)
			if !ok {
				return l, prosody.Problem{At: o.At, Text: name + ` is no list of addresses: write { "127.0.0.1" }`}
			}
			l.interfaces = append(l.interfaces, text)
		}
		break
	}
	return l, nil
}

// listOf returns the entries of an option that is a list, or one value (util/set.lua takes no named entries).
func listOf(value any) []any {
	switch value := value.(type) {
	case []any:
		return value
	case map[string]any:
		return nil
	}
	return []any{value}
}

// portNumber returns the number that an entry of component_ports is to Prosody: a number, or a text that is one.
func portNumber(entry any) (int, bool) {
	number, ok := entry.(float64)
	if text, isText := entry.(string); isText {
		n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		number, ok = n, err == nil
	}
	return int(number), ok && number == math.Trunc(number) && number >= 1 && number <= math.MaxUint16
}

// address returns what a program on the same machine connects to. It is empty if Prosody listens nowhere.
func (l listener) address() string {
	if len(l.ports) == 0 || len(l.interfaces) == 0 {
		return ""
	}
	host := strings.Trim(l.interfaces[0], "[]")
	known := listener{interfaces: slices.DeleteFunc(slices.Clone(l.interfaces), named)}
	for _, near := range []string{"127.0.0.1", "::1"} {
		if known.hears(near) {
			host = near
			break
		}
	}
	return net.JoinHostPort(host, strconv.Itoa(l.ports[0]))
}

// named reports whether an interface is a name of which nobody here knows what it stands for.
func named(at string) bool {
	_, err := netip.ParseAddr(strings.Trim(at, "[]"))
	return err != nil && at != "*" && !strings.EqualFold(at, "localhost")
}

// hears reports whether a connection to a host, a name or an address of Prosody's machine, arrives at one of the
// interfaces. It takes a name for one of another machine, and an interface that is a name for the right one: what they
// stand for cannot be known here.
func (l listener) hears(host string) bool {
	address, err := netip.ParseAddr(host)
	return slices.ContainsFunc(l.interfaces, func(at string) bool {
		bound, _ := netip.ParseAddr(strings.Trim(at, "[]"))
		if at == "*" {
			bound = netip.IPv4Unspecified()
		}
		switch {
		case named(at):
			return true
		case strings.EqualFold(at, "localhost"):
			return loopback(host)
		case err != nil && strings.EqualFold(host, "localhost"):
			return bound.IsLoopback() || bound.IsUnspecified()
		case err != nil:
			return !bound.IsLoopback()
		case bound.IsUnspecified():
			return bound.Is4() == address.Unmap().Is4()
		}
		return bound.Unmap() == address.Unmap()
	})
}

// with returns the interfaces on which Prosody has to listen for a host to be reached, beside those there are.
func (l listener) with(host string) []string {
	_, err := netip.ParseAddr(host)
	switch {
	case l.hears(host):
		return l.interfaces
	case err == nil:
		return append(slices.Clone(l.interfaces), host)
	case strings.EqualFold(host, "localhost"):
		return append(slices.Clone(l.interfaces), "127.0.0.1")
	case !l.ipv6:
		return []string{"*"}
	}
	// Instead of the others: a port cannot be bound to an address and to all of them.
	return []string{"*", "::"}
}

// opening is what Prosody must say of where it listens for components.
type opening struct {
	now              listener
	host             string // where usher connects to
	port             int
	ports, addresses string // the two options as lines
}

// portShut and hostShut report whether Prosody has to listen elsewhere, too.
func (o opening) portShut() bool { return !slices.Contains(o.now.ports, o.port) }
func (o opening) hostShut() bool { return !o.now.hears(o.host) }

// opening returns what a Prosody must say for usher to reach it at xmpp.server, if that can be told. Without a
// configuration, it listens as by default.
func (c *Config) opening(p *prosody.Configuration) (opening, bool) {
	host, service, err := net.SplitHostPort(c.XMPP.Server)
	port, portErr := strconv.Atoi(service)
	if err != nil || portErr != nil {
		return opening{}, false
	}
	o := opening{host: host, port: port}
	switch {
	case p != nil:
		if o.now, err = components(p); err != nil {
			return opening{}, false
		}
	default:
		o.now = listener{ports: []int{defaultPort}, interfaces: []string{"127.0.0.1", "::1"}, ipv6: true}
	}
	ports := o.now.ports
	if p == nil && port != defaultPort {
		ports = nil // the default is what nobody has chosen
	}
	var numbers []string
	for _, n := range ports {
		numbers = append(numbers, strconv.Itoa(n))
	}
	if !slices.Contains(ports, port) {
		numbers = append(numbers, strconv.Itoa(port))
	}
	o.ports = "component_ports = { " + strings.Join(numbers, ", ") + " }"
	o.addresses = "component_interfaces = " + gate.List(o.now.with(host)...)
	return o, true
}

// openingLines returns the lines by which Prosody listens where usher connects to, each with why, if what its files say without
// usher's own lines does not have it do so.
func (c *Config) openingLines(e *existing) (lines [][2]string) {
	var p *prosody.Configuration
	if e != nil {
		p = e.rest
	}
	o, ok := c.opening(p)
	if !ok {
		return nil
	}
	// Files that are not known may have shut the port, as docker-jitsi-meet's have.
	if o.portShut() || e == nil && o.hostShut() {
		lines = append(lines, [2]string{o.ports, "where usher connects to (xmpp.server)"})
	}
	if o.hostShut() {
		why := "other machines can reach it, and the secret is all that protects it"
		if loopback(o.host) {
			why = ""
		}
		lines = append(lines, [2]string{o.addresses, why})
	}
	return lines
}

// opening looks whether Prosody listens for components where usher connects to.
func (g *comparison) opening() {
	if _, err := components(g.p); err != nil {
		p, _ := err.(prosody.Problem)
		g.find(Missing, p.At, fmt.Sprintf("component_ports = { %d }", defaultPort), "%s", p.Text)
		return
	}
	o, ok := g.c.opening(g.p)
	if !ok {
		return
	}
	switch {
	case len(o.now.ports) == 0:
		g.find(Missing, o.now.portsAt, o.ports, "component_ports is empty, so Prosody listens for no component and usher cannot connect")
	case o.portShut():
		g.find(Missing, o.now.portsAt, o.ports, "Prosody listens for components on port %s, but usher connects to %d (xmpp.server)",
			strings.Trim(strings.ReplaceAll(fmt.Sprint(o.now.ports), " ", ", "), "[]"), o.port)
	}
	on := strings.Join(o.now.interfaces, ", ")
	if on == "" {
		on = "no address"
	}
	_, image := dockerImage(g.p)
	switch {
	case o.hostShut():
		g.find(Missing, o.now.interfacesAt, o.addresses, "Prosody listens for components on %s only, but usher connects to %s (xmpp.server)", on, o.host)
	case image && loopback(o.host) && !o.now.hears(dockerServer):
		g.find(Hint, o.now.interfacesAt, "xmpp.server: "+net.JoinHostPort(dockerServer, strconv.Itoa(o.port)),
			"usher connects to %s (xmpp.server), where Prosody's container hears only what runs in it", o.host)
	}
}
