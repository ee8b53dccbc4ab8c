package prosody

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Host is the virtual host or component of that domain, or nil.
func (c *Configuration) Host(domain string) *Section {
	domain, _ = canonical(domain)
	return c.byName[domain]
}

// Own is an option that is set for the section itself.
func (s *Section) Own(name string) (Option, bool) {
	option, ok := s.Options[name]
	return option, ok
}

// Option is an option as the section's modules see it: its own, else the one that is set for all hosts.
func (s *Section) Option(name string) (Option, bool) {
	option, ok := s.Options[name]
	if !ok && s.global != nil {
		return s.global.Own(name)
	}
	return option, ok
}

// Global are the options that are set for all hosts; of these themselves, they are it.
func (s *Section) Global() *Section {
	if s.global == nil {
		return s
	}
	return s.global
}

// problem is that an option is of the wrong type.
func (o Option) problem(format string, args ...any) error {
	return Problem{At: o.At, Text: o.Name + " " + fmt.Sprintf(format, args...)}
}

// scalar is an option that is one value. Prosody takes the first of a list, too (core/moduleapi.lua, get_option_scalar),
// and logs an error if there are more, or if there are none but names; here, that is a Problem.
func (s *Section) scalar(name string) (o Option, ok bool, err error) {
	if o, ok = s.Option(name); !ok {
		return o, false, nil
	}
	switch value := o.Value.(type) {
	case []any:
		if len(value) == 0 {
			return o, false, nil
		}
		if len(value) > 1 {
			return o, true, o.problem("takes one value, not a list of %d", len(value))
		}
		o.Value = value[0]
	}
	switch o.Value.(type) {
	case []any, map[string]any:
		return o, true, o.problem("takes one value, not a table: remove the braces")
	}
	return o, true, nil
}

// String is an option that is a text. Numbers and booleans are texts to Prosody, too (get_option_string). ok tells
// whether it is set, at where; err is a Problem.
func (s *Section) String(name string) (value string, at Position, ok bool, err error) {
	o, ok, err := s.scalar(name)
	if !ok || err != nil {
		return "", o.At, ok, err
	}
	switch v := o.Value.(type) {
	case string:
		return v, o.At, true, nil
	case float64:
		return lua.LNumber(v).String(), o.At, true, nil
	}
	return fmt.Sprint(o.Value), o.At, true, nil
}

// Bool is an option that is true or false, which are also "true" and "false", 1 and 0 (get_option_boolean). ok tells
// whether it is set, at where; err is a Problem.
func (s *Section) Bool(name string) (value bool, at Position, ok bool, err error) {
	o, ok, err := s.scalar(name)
	if !ok || err != nil {
		return false, o.At, ok, err
	}
	switch o.Value {
	case true, "true", 1.0:
		return true, o.At, true, nil
	case false, "false", 0.0:
		return false, o.At, true, nil
	}
	return false, o.At, true, o.problem("is neither true nor false, without quotes")
}

// Number is an option that is a number, or a text that is one (get_option_number). ok tells whether it is set, at
// where; err is a Problem.
func (s *Section) Number(name string) (value float64, at Position, ok bool, err error) {
	o, ok, err := s.scalar(name)
	if !ok || err != nil {
		return 0, o.At, ok, err
	}
	switch v := o.Value.(type) {
	case float64:
		return v, o.At, true, nil
	case string:
		// As Lua's tonumber: spaces around do not matter, and 0x10 is a number, but neither inf nor 1_000.
		v = strings.TrimSpace(v)
		if n, err := strconv.ParseUint(v, 0, 53); err == nil && strings.HasPrefix(strings.ToLower(v), "0x") && !strings.Contains(v, "_") {
			return float64(n), o.At, true, nil
		}
		if n, err := strconv.ParseFloat(v, 64); err == nil && !strings.ContainsAny(v, "_iInN") {
			return n, o.At, true, nil
		}
	}
	return 0, o.At, true, o.problem("is no number")
}

// Strings is an option that is a list of texts. A single one counts as a list of one (get_option_array). ok tells
// whether it is set, at where; err is a Problem.
func (s *Section) Strings(name string) (values []string, at Position, ok bool, err error) {
	o, ok := s.Option(name)
	if !ok {
		return nil, o.At, false, nil
	}
	if text, isText := o.Value.(string); isText {
		return []string{text}, o.At, true, nil
	}
	values, err = stringList(o.Value)
	if err != nil {
		return nil, o.At, true, o.problem("%v", err)
	}
	return values, o.At, true, nil
}

func stringList(value any) ([]string, error) {
	list, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf(`is no list: write { "…", "…" }`)
	}
	texts := make([]string, len(list))
	for i, v := range list {
		if texts[i], ok = v.(string); !ok {
			return nil, fmt.Errorf("has an entry %d that is no text: put quotes around it", i+1)
		}
	}
	return texts, nil
}

// inheritable are the modules that a component takes over from those enabled for all hosts
// (core/modulemanager.lua, component_inheritable_modules).
var inheritable = strings.Fields("tls saslauth dialback iq s2s s2s_bidi smacks server_contact_info")

// Modules are the modules enabled for the section, as core/modulemanager.lua computes them (get_modules_for_host): those
// enabled for all hosts, of which a component takes over but a few that serve any host, without those disabled for all
// hosts; and its own; without those that it disables. A component's own module is not among them, and neither are those
// that Prosody loads unasked, such as presence.
func (s *Section) Modules() []Module {
	var modules []Module
	add := func(from *Section, wanted func(name string) bool) {
		option, ok := from.Own("modules_enabled")
		if !ok {
			return
		}
		names, _ := stringList(option.Value) // Read has refused what is no list
		for _, name := range names {
			if wanted(name) && !slices.ContainsFunc(modules, func(m Module) bool { return m.Name == name }) {
				modules = append(modules, Module{name, option.At})
			}
		}
	}
	disabled := func(by *Section) []string {
		option, _ := by.Own("modules_disabled")
		names, _ := stringList(option.Value)
		return names
	}
	off := disabled(s)
	if s.global != nil {
		offForAll := disabled(s.global)
		add(s.global, func(name string) bool {
			return !slices.Contains(offForAll, name) && !slices.Contains(off, name) && (!s.Component || slices.Contains(inheritable, name))
		})
	}
	add(s, func(name string) bool { return !slices.Contains(off, name) })
	return modules
}
