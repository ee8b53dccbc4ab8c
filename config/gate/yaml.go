package gate

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// YAML returns the configuration for ejabberd instead, to be included in its ejabberd.yml. component is the address at which
// ejabberd listens for usher. Module does not count: ejabberd has none of that kind.
func (s Server) YAML(component string) string {
	host, port, _ := net.SplitHostPort(component)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("hosts:")
	for _, v := range s.VHosts {
		line("  - %q", v.Domain)
	}
	line("host_config:")
	for _, v := range s.VHosts {
		line("  %q:", v.Domain)
		if v.Authentication == "anonymous" {
			line("    auth_method: [anonymous]")
			line("    anonymous_protocol: sasl_anon")
			line("    allow_multiple_connections: true")
		} else {
			line("    auth_method: [internal]")
		}
	}
	line("listen:")
	line("  - port: %s", port)
	line("    ip: %q", host)
	line("    module: ejabberd_service")
	line("    global_routes: false      # otherwise each component gets stanzas for all hosts of the listener")
	line("    hosts:")
	line("      %q:", s.Domain)
	line("        password: %s", strconv.Quote(s.Secret))
	line("acl:")
	line("  usher:")
	line("    user:")
	for _, admin := range append([]string{"focus@" + s.Domain}, s.Admins...) {
		line("      - %q", admin)
	}
	line("access_rules:")
	line("  usher:")
	line("    allow: usher")
	line("  usher_creates:")
	line("    - allow:                  # by its bare JID usher asks about rooms, which must not create them")
	line("        user: %q", "focus@"+s.Domain)
	line("        resource: usher")
	for _, admin := range s.Admins {
		line("    - allow: {user: %q}", admin)
	}
	line("modules:")
	line("  mod_version: {}")
	line("  mod_time: {}")
	line("  mod_muc:")
	line("    host: %q", s.Service)
	line("    access_admin: usher       # usher owns all rooms")
	line("    access_create: usher_creates  # only usher creates rooms")
	line("    access_persistent: usher  # no owner makes a room outlive the people in it")
	line("    default_room_options:")
	line("      members_only: true      # nobody enters without an affiliation")
	line("      moderated: false        # otherwise ejabberd lets people in again by the role that they had")
	line("      anonymous: false        # clients know each other by their real JIDs")
	return b.String()
}
