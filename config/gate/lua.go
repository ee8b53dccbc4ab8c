package gate

import (
	"cmp"
	"fmt"
	"strings"
)

// Quote writes a text as Lua does. What is not plain is written as decimal escapes, which have no special cases.
func Quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c == 0x7f {
			fmt.Fprintf(&b, `\%03d`, c)
		} else {
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// List writes a list of texts as Lua does.
func List(texts ...string) string {
	if len(texts) == 0 {
		return "{ }"
	}
	quoted := make([]string, len(texts))
	for i := range texts {
		quoted[i] = Quote(texts[i])
	}
	return "{ " + strings.Join(quoted, ", ") + " }"
}

// Line returns a line with a comment beside it; without one if why is empty. It ends with a new line.
func Line(text, why string) string {
	if why != "" {
		text = fmt.Sprintf("%-49s -- %s", text, why)
	}
	return text + "\n"
}

// Server is a whole Prosody that is a gate and nothing else, for examples, the demo and tests. The real lines, which go by
// what an operator's files say, are those of package config.
type Server struct {
	// Domain is usher's, Secret that of its component.
	Domain, Secret string
	VHosts         []VHost
	// Service is the MUC service that usher guards. Its admins are usher in rooms, focus@ its domain, and Admins.
	Service string
	Admins  []string
	// Module loads usher's module, which must be in plugin_paths, instead of making rooms members-only.
	Module bool
	// Standby lets one usher take the place of another; they share a store.
	Standby bool
}

// VHost is a virtual host. Authentication is empty for Prosody's own passwords.
type VHost struct{ Domain, Authentication, Why string }

// Lua returns the configuration.
func (s Server) Lua() string {
	var b strings.Builder
	b.WriteString(Line(AdminsOwn.Line(), AdminsOwn.Why))
	for _, v := range s.VHosts {
		b.WriteString(Line("VirtualHost "+Quote(v.Domain), v.Why))
		b.WriteString(Line("  authentication = "+Quote(cmp.Or(v.Authentication, "internal_hashed")), ""))
	}
	b.WriteString(Line("Component "+Quote(s.Service)+` "muc"`, "the rooms"))
	b.WriteString(Line("  admins = "+List(append([]string{"focus@" + s.Domain}, s.Admins...)...), "usher, in rooms"))
	b.WriteString(Lines(Rooms(s.Module)))
	if s.Module {
		tells := TellsTo(s.Domain)
		b.WriteString(Line("  modules_enabled = "+List(Module), "keeps out people without an affiliation"))
		b.WriteString(Line("  "+tells.Line(), tells.Why))
	}
	b.WriteString(Line("Component "+Quote(s.Domain), "usher"))
	b.WriteString(Line("  component_secret = "+Quote(s.Secret), ""))
	if s.Standby {
		b.WriteString(Line("  "+KickOld.Line(), KickOld.Why))
	}
	return b.String()
}

// Lines returns the lines of options below a host.
func Lines(options []Option) string {
	var b strings.Builder
	for _, o := range options {
		b.WriteString(Line("  "+o.Line(), o.Why))
	}
	return b.String()
}
