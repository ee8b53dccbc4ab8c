package prosody

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// Host returns the virtual host or component of that domain, or nil.
func (c *Configuration) Host(domain string) *Section {
	domain, _ = canonical(domain)
	return c.byName[domain]
}

// Own returns an option that is set for the section itself.
func (s *Section) Own(name string) (Option, bool) {
	option, ok := s.Options[name]
	return option, ok
}

// Option returns an option as the section's modules see it: its own, else the one for all hosts.
func (s *Section) Option(name string) (Option, bool) {
	option, ok := s.Options[name]
	if !ok && s.global != nil {
		return s.global.Own(name)
	}
	return option, ok
}

// Global returns the section with the options for all hosts, which is the section itself if it has no name.
func (s *Section) Global() *Section {
	if s.global == nil {
		return s
	}
	return s.global
}

// problem returns an error about the type of an option.
func (o Option) problem(format string, args ...any) error {
	return Problem{At: o.At, Text: o.Name + " " + fmt.Sprintf(format, args...)}
}

// scalar returns an option that is one value. Prosody also accepts a list, and takes its first entry (core/moduleapi.lua,
// get_option_scalar). It logs an error if there are more entries, or only names; here that is a Problem.
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

// String returns an option that is a text. To Prosody, numbers and booleans are texts as well (get_option_string). ok reports
// whether it is set, at is where; err is a Problem.
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

// Bool returns an option that is true or false, or "true", "false", 1 or 0 (get_option_boolean). ok reports whether it is set, at is
// where; err is a Problem.
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

// Number returns an option that is a number, or a text that is one (get_option_number). ok reports whether it is set, at is where; err
// is a Problem.
func (s *Section) Number(name string) (value float64, at Position, ok bool, err error) {
	o, ok, err := s.scalar(name)
	if !ok || err != nil {
		return 0, o.At, ok, err
	}
	switch v := o.Value.(type) {
	case float64:
		return v, o.At, true, nil
	case string:
		// As in Lua's tonumber: spaces around do not matter, and 0x10 is a number, but inf and 1_000 are not.
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

// Strings returns an option that is a list of texts. A single text counts as a list of one (get_option_array). ok reports whether it
// is set, at is where; err is a Problem.
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

// inheritable are the modules for all hosts that a component loads as well (core/modulemanager.lua,
// component_inheritable_modules).
var inheritable = strings.Fields("tls saslauth dialback iq s2s s2s_bidi smacks server_contact_info")

// Modules returns the modules that are enabled for the section, as core/modulemanager.lua computes them (get_modules_for_host). These
// are the modules for all hosts that are not disabled there (a component loads only a few of them) and the section's own, less those
// that the section disables. A component's own module is not among them, nor are modules that Prosody always loads, such as presence.
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
