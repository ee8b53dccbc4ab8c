package config_test

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/xmpp-usher/usher/config"
)

// reveal returns all that a Config says, a value a line, secrets included.
func reveal(c *config.Config) string {
	var b strings.Builder
	line := func(key string, value any) { fmt.Fprintf(&b, "%s = %v\n", key, value) }
	line("server", c.XMPP.Server)
	line("domain", c.XMPP.Domain)
	line("secret", c.XMPP.Secret.Reveal())
	line("rooms", c.Rooms)
	line("lobby", c.Lobby)
	line("jicofo", c.Jicofo)
	line("sessions", c.Sessions)
	line("login", c.Login)
	line("store", c.Store)
	for _, v := range c.VHosts {
		line("vhost", v.Domain)
		line("  kind", v.Kind)
		line("  allow_empty_token", v.AllowEmptyToken)
		line("  default_affiliation", v.DefaultAffiliation)
		for _, i := range v.Issuers {
			line("  issuer", i.AppID)
			for _, secret := range i.AppSecrets {
				line("    secret", secret.Reveal())
			}
			i.AppSecrets = nil
			line("    ", fmt.Sprintf("%+v", i))
		}
	}
	line("log", c.Log)
	return b.String()
}

var defaultLine = regexp.MustCompile(`(?m)^( *)# ([a-z_]+: (?:\[.*\]|[a-z0-9.:-]+))$`)

// uncommented returns the example with the defaults that it shows in comments.
func uncommented(example []byte) []byte {
	return defaultLine.ReplaceAll(example, []byte("$1$2"))
}

// named returns the list of files with that name; none if it is empty.
func named(file string) []string {
	if file == "" {
		return nil
	}
	return []string{file}
}
