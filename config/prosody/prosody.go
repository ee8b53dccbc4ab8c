// Package prosody reads Prosody's configuration, prosody.cfg.lua and everything it includes, as Prosody 0.12 and 13 read it. It
// returns each option with the file and line that set it. Package config knows what the options mean for usher.
//
// The configuration is a Lua program and runs as one (github.com/yuin/gopher-lua), in a sandbox. It can read files of one file system
// and variables of one environment, and nothing else. It can neither run nor grow without end.
package prosody

import (
	"fmt"
	"io/fs"
)

// Source says where to read a configuration.
type Source struct {
	// FS has all files that may be read. Names in it have no slash at their beginning: /etc/prosody/prosody.cfg.lua is
	// etc/prosody/prosody.cfg.lua in os.DirFS("/").
	FS fs.FS
	// Names are the main files, as names in FS. They are read one after the other into one configuration.
	Names []string
	// Getenv looks up a variable for ENV_…, and CREDENTIALS_DIRECTORY for Credential. Nil means that none is set.
	Getenv func(name string) (value string, ok bool)
	// Texts are texts of files by their names in FS. They are read instead of those files.
	Texts map[string]string
	// Mark begins the text of the files that [Configuration.Marked] lists. Empty for no such file.
	Mark string
}

// Unsure is an option with a value that depends on the order in which Prosody reads the files of a wildcard Include. That is the
// order of the folder (core/configmanager.lua, env.Include: lfs.dir, which does not sort).
type Unsure struct {
	Section *Section
	// Option is its name. [Read] has taken the value at At, but the one at Other may count as well.
	Option    string
	At, Other Position
}

// Position is a place in a configuration. It is printed as conf.d/meet.cfg.lua:14.
type Position struct {
	// File is the file's name relative to the folder of the first main file, or with a slash before it if it lies elsewhere.
	File string
	Line int
}

// String implements fmt.Stringer.
func (p Position) String() string { return fmt.Sprintf("%s:%d", p.File, p.Line) }

// Configuration is what a configuration says.
type Configuration struct {
	// Global has the options set before the first host. It has no name.
	Global *Section
	// Hosts are the virtual hosts and components, in the order in which they first appear.
	Hosts []*Section
	// Files are the files that were read, as names in the file system, and the folders that a wildcard searched, with a slash at the
	// end: watch them for changes.
	Files []string
	// Marked are the files that begin with [Source.Mark], as names in the file system.
	Marked []string
	// Warnings say what Prosody would accept, but probably not as it was meant, such as an option that is set twice.
	Warnings []Problem
	// Unsure are options that two files of one wildcard Include set differently, and that no later line sets. The Warnings name each
	// of them as well.
	Unsure []Unsure
	// NeedsProsody13 are the lines that Prosody 0.12 refuses, or understands differently from 13 and [Read], such as FileContents,
	// and options that are read or added to.
	NeedsProsody13 []Position

	byName map[string]*Section // of Hosts
}

// Section is a virtual host or a component, with what is set for it. A host that is opened again is one section.
type Section struct {
	Name string // the domain, in canonical form
	// Component reports that it is a Component and no VirtualHost. Module is its module, such as muc; "component" for an external one.
	Component bool
	Module    string
	At        Position // of the line that opens it first
	// Options are those of the section itself, by name. See also [Section.Option].
	Options map[string]Option

	global *Section
}

// Option is a value with the place where it was set, or added to last.
type Option struct {
	Name string
	// Value is a string, bool, float64, []any, or map[string]any of such values. A Lua table is a list if it has an entry 1, as for
	// Prosody, and an empty table is an empty list.
	Value any
	At    Position
}

// Module is an entry of modules_enabled, with the place of the option.
type Module struct {
	Name string
	At   Position
}

// Problem is something wrong at a place.
type Problem struct {
	At   Position // Line is 0 for the whole file
	Text string   // one sentence, with what to do; contains no option's value
}

// Error implements error.
func (p Problem) Error() string {
	if p.At.Line == 0 {
		return p.At.File + ": " + p.Text
	}
	return p.At.String() + ": " + p.Text
}
