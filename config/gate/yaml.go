package gate

import (
	"fmt"
	"net"
	"strings"
)

// YAML returns the configuration for ejabberd instead, to be included in its ejabberd.yml; the real lines are those of package config.
// component is the address at which ejabberd listens for usher. There must be an anonymous virtual host, which has the rooms. Module
// does not count: ejabberd has none of that kind.
func (s Server) YAML(component string) string {
	host, port, _ := net.SplitHostPort(component)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	lines := func(indent string, all []YAMLLine) {
		for _, l := range all {
			line("%s%s", indent, l.Text)
		}
	}
	line("hosts:")
	for _, v := range s.VHosts {
		line("  - %s", QuoteYAML(v.Domain))
	}
	line("listen:")
	line("  - module: ejabberd_service")
	line("    port: %s", port)
	line("    ip: %s", QuoteYAML(host))
	line("    global_routes: false")
	line("    hosts:")
	line("      %s: {password: %s}", QuoteYAML(s.Domain), QuoteYAML(s.Secret))
	lines("", EjabberdAccess("focus@"+s.Domain, s.Admins...))
	line("host_config:")
	rooms := EjabberdRooms(s.Service)
	for _, v := range s.VHosts {
		line("  %s:", QuoteYAML(v.Domain))
		if v.Authentication != "anonymous" {
			line("    auth_method: internal")
			continue
		}
		line("    auth_method: anonymous")
		line("    anonymous_protocol: sasl_anon")
		line("    modules:")
		for _, module := range []string{"disco", "ping", "stream_mgmt", "time", "version"} {
			line("      mod_%s: {}", module)
		}
		lines("      ", rooms)
		rooms = nil
	}
	return b.String()
}
