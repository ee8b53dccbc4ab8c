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

// defaultPort is where Prosody listens for components by default (mod_component.lua).
const defaultPort = 5347

// listener says where a Prosody listens for components, in the order of its configuration.
type listener struct {
	ports      []int
	interfaces []string // addresses, names, or "*" for all of IPv4 and "::" for all of IPv6
	// portsAt and interfacesAt are where that is set; zero if it is the default.
	portsAt, interfacesAt prosody.Position
	ipv6                  bool // whether Prosody uses IPv6 at all
}

// components returns where a Prosody, 0.12 or 13, listens for components (core/portmanager.lua, activate). component_ports
// counts, and never component_port. Of the interfaces, the first of three options that is set counts, and never interfaces, because
// mod_component.lua is a private service. An empty list means that Prosody listens nowhere. The error is a [prosody.Problem].
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

// listOf returns the entries of an option that is a list, or one value (util/set.lua ignores named entries).
func listOf(value any) []any {
	switch value := value.(type) {
	case []any:
		return value
	case map[string]any:
		return nil
	}
	return []any{value}
}

// portNumber returns the port that an entry of component_ports means to Prosody: a number, or a text that is one.
func portNumber(entry any) (int, bool) {
	number, ok := entry.(float64)
	if text, isText := entry.(string); isText {
		n, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		number, ok = n, err == nil
	}
	return int(number), ok && number == math.Trunc(number) && number >= 1 && number <= math.MaxUint16
}

// address returns where a program on the same machine connects to; "" if Prosody listens nowhere.
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

// named reports whether an interface is a name of which usher does not know the address.
func named(at string) bool {
	_, err := netip.ParseAddr(strings.Trim(at, "[]"))
	return err != nil && at != "*" && !strings.EqualFold(at, "localhost")
}

// hears reports whether a connection to a host, a name or an address of Prosody's machine, arrives at one of the
// interfaces. usher does not resolve names: a host that is a name counts as one of another machine, and an interface that is a
// name counts as the right one.
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

// with returns the interfaces on which Prosody has to listen so that a host can be reached, beside the present ones.
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

// opening says where Prosody listens for components, and where it must.
type opening struct {
	now              listener
	host             string // where usher connects to
	port             int
	ports, addresses string // the two options as lines
}

// portShut and hostShut report whether Prosody has to listen on another port, or on another address.
func (o opening) portShut() bool { return !slices.Contains(o.now.ports, o.port) }
func (o opening) hostShut() bool { return !o.now.hears(o.host) }

// opening returns where a Prosody must listen so that usher reaches it at xmpp.server, if that can be known. Without a
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
		ports = nil // nobody has chosen the default
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

// openingLines returns the lines by which Prosody listens where usher connects to, each with why. There are none if its files,
// without usher's own lines, say so already.
func (c *Config) openingLines(e *existing) (lines [][2]string) {
	var p *prosody.Configuration
	if e != nil {
		p = e.rest
	}
	o, ok := c.opening(p)
	if !ok {
		return nil
	}
	// Files that are not known may shut the port, as those of docker-jitsi-meet do.
	if o.portShut() || e == nil && o.hostShut() {
		lines = append(lines, [2]string{o.ports, "where usher connects to (xmpp.server)"})
	}
	if o.hostShut() {
		why := "other machines can reach it, and only the secret protects it"
		if loopback(o.host) {
			why = ""
		}
		lines = append(lines, [2]string{o.addresses, why})
	}
	return lines
}

// opening finds that Prosody does not listen for components where usher connects to.
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
			"usher connects to %s (xmpp.server), where only programs in Prosody's container reach it", o.host)
	}
}
