package prosody

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

const (
	maxFile    = 1 << 20
	maxFiles   = 10_000
	maxInclude = 16 // of files that include files
	maxTables  = 16 // of tables in tables in an option
)

// Read reads a configuration as Prosody's core/configmanager.lua does. An error is a [Problem], or several joined. Nothing is skipped
// silently: what usher cannot evaluate is an error, even if the program would catch it.
func Read(src Source) (*Configuration, error) {
	hosts := map[string]*Section{}
	r := &reading{
		src:      src,
		config:   &Configuration{Global: &Section{Options: map[string]Option{}}, byName: hosts},
		settings: map[*Section]map[string]*setting{},
		byName:   hosts,
		seen:     map[any]bool{},
		texts:    map[string]string{},
	}
	if len(src.Names) == 0 {
		return nil, Problem{Text: "no configuration file is named"}
	}
	L := r.open()
	defer L.Close()
	for _, name := range src.Names {
		if err := r.main(L, name); err != nil {
			return nil, r.hush(err)
		}
	}
	if err := r.finish(L); err != nil {
		return nil, err
	}
	for i, w := range r.config.Warnings {
		r.config.Warnings[i] = r.hush(w).(Problem)
	}
	return r.config, nil
}

var (
	// secretLine matches a line that sets a secret, and what stands behind the = in it.
	secretLine = regexp.MustCompile(`(?i)(?:secret|passw(?:or)?d)\w*["']?\]?\s*=(.*)`)
	inQuotes   = regexp.MustCompile(`"[^"]*"|'[^']*'|--.*`)
	bareWord   = regexp.MustCompile(`\w{5,}`)
)

// hush removes from a problem what may be a secret without quotes. No problem has a text in quotes.
func (r *reading) hush(err error) error {
	p, ok := err.(Problem)
	lines := strings.Split(r.texts[p.At.File], "\n")
	if !ok || p.At.Line < 1 || p.At.Line > len(lines) {
		return err
	}
	if m := secretLine.FindStringSubmatch(lines[p.At.Line-1]); m != nil {
		for _, word := range bareWord.FindAllString(inQuotes.ReplaceAllString(m[1], ""), -1) {
			p.Text = strings.ReplaceAll(p.Text, word, "…")
		}
	}
	return p
}

// reading is one evaluation. It runs on one goroutine.
type reading struct {
	src      Source
	config   *Configuration
	settings map[*Section]map[string]*setting
	byName   map[string]*Section
	texts    map[string]string // of the files that have run, by what show makes of their names
	seen     map[any]bool      // the files, warnings and positions that are recorded
	running  []string          // the files that run, each included by the one before it
	found    wildcard          // the one that led to the running file
	globs    int               // wildcards so far

	machine   *lua.LState
	libs      *lua.LTable // Lua's own functions, as far as the program may call them
	operators map[string]lua.LGFunction
	spent     int      // of budget
	fatal     *Problem // why the evaluation has ended; nothing runs after it
	done      chan struct{}
	raised    Problem // the last error that the program could have caught
	unknown   unknown // the last name without a meaning
}

// setting is an option while the program runs. Its tables stay Lua's until the end, because the program may still fill them.
type setting struct {
	value lua.LValue
	at    Position
	found wildcard
	other *Position // in another file of the same wildcard, where the option was set differently
}

// wildcard is the number of a wildcard, and a file that it found.
type wildcard struct {
	id   int
	file string
}

type unknown struct {
	name string
	at   Position
}

// file is one run of a file. It begins in global scope, with functions of its own.
type file struct {
	name    string // in the file system
	section *Section
	set     map[string]Position // where an option was set in this file
	words   map[string]lua.LGFunction
	own     map[string]*lua.LFunction // the program's own functions in the place of words
}

// show returns a file's name for people.
func (r *reading) show(name string) string {
	folder := path.Dir(r.src.Names[0])
	if folder == "." {
		return name
	}
	if rest, ok := strings.CutPrefix(name, folder+"/"); ok {
		return rest
	}
	return "/" + name
}

// at returns the line that runs.
func (r *reading) at(L *lua.LState) Position {
	for level := 0; ; level++ {
		frame, ok := L.GetStack(level)
		if !ok {
			break
		}
		if _, err := L.GetInfo("Sl", frame, nil); err == nil && frame.CurrentLine > 0 {
			return Position{File: frame.Source, Line: frame.CurrentLine}
		}
	}
	if len(r.running) > 0 {
		return Position{File: r.show(r.running[len(r.running)-1])}
	}
	return Position{File: r.show(r.src.Names[0])}
}

// raise ends the program with an error that pcall can catch.
func (r *reading) raise(L *lua.LState, format string, args ...any) {
	r.throw(L, Problem{At: r.at(L), Text: fmt.Sprintf(format, args...)})
}

func (r *reading) throw(L *lua.LState, p Problem) {
	r.raised = p
	L.Error(lua.LString(p.Error()), 0)
}

// refuse ends the evaluation. pcall catches the error, but the next instruction fails again.
func (r *reading) refuse(L *lua.LState, format string, args ...any) {
	r.stop(Problem{At: r.at(L), Text: fmt.Sprintf(format, args...)})
	L.Error(lua.LString(r.fatal.Error()), 0)
}

func (r *reading) stop(p Problem) {
	if r.fatal == nil {
		r.fatal = &p
		close(r.done)
	}
}

// main runs a main file.
func (r *reading) main(L *lua.LState, name string) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = Problem{At: Position{File: r.show(name)}, Text: fmt.Sprintf("usher cannot evaluate this file (%v)", v)}
		}
	}()
	var caught Problem
	handler := L.NewFunction(func(L *lua.LState) int {
		caught = r.explain(L, L.Get(1))
		L.SetTop(1)
		return 1
	})
	L.Push(L.NewFunction(func(L *lua.LState) int {
		r.run(L, path.Clean("/" + name)[1:])
		return 0
	}))
	err = L.PCall(0, 0, handler)
	switch {
	case r.fatal != nil:
		return *r.fatal
	case err != nil && caught != Problem{}:
		return caught
	case err != nil: // not even the handler could be called
		var reason *lua.ApiError
		errors.As(err, &reason)
		return r.explain(L, reason.Object)
	}
	return nil
}

var placed = regexp.MustCompile(`(?s)^([^\n]+):(\d+): *(.*)$`)

// explain returns the problem behind an error of the program.
func (r *reading) explain(L *lua.LState, value lua.LValue) Problem {
	text, isText := value.(lua.LString)
	if string(text) == r.raised.Error() {
		return r.raised
	}
	p := Problem{At: r.at(L), Text: strings.ToValidUTF8(string(text), "?")}
	if m := placed.FindStringSubmatch(p.Text); m != nil {
		p.Text = m[3]
		if line, err := strconv.Atoi(m[2]); err == nil && line > 0 {
			p.At = Position{File: m[1], Line: line}
		}
	}
	switch {
	case strings.HasPrefix(p.Text, "stack overflow"):
		p.Text = "functions call each other too deep in this line"
	case !isText:
		p.Text = "the configuration ends itself here with an error"
	case strings.HasPrefix(p.Text, "attempt to call a non-function") && r.unknown.at == p.At:
		p.Text = fmt.Sprintf("%s is no function of Prosody's: to set an option, write %[1]s = and the value", r.unknown.name)
	case strings.HasPrefix(p.Text, "attempt to") && r.unknown.at == p.At:
		p.Text = fmt.Sprintf("%s is not set here (Lua says: %s)", r.unknown.name, p.Text)
	default:
		p.Text = "Lua stops here: " + p.Text
	}
	return p
}

// content reads a file for the line that runs.
func (r *reading) content(L *lua.LState, name string) []byte {
	text, err := r.readFile(name)
	if err != nil {
		var reason *fs.PathError
		if errors.As(err, &reason) {
			err = reason.Err
		}
		shown := r.show(name)
		if slices.Contains(r.src.Names, name) && path.Dir(name) != "." {
			shown = "/" + name // show leaves out the folder of the main file, which may be what is wrong
		}
		r.throw(L, Problem{At: r.at(L), Text: fmt.Sprintf("cannot read %s: %v", shown, err)})
	}
	r.spend(L, 20+len(text)/16)
	return text
}

func (r *reading) readFile(name string) ([]byte, error) {
	if !fs.ValidPath(name) || name == "." {
		return nil, errors.New("this is no name of a file")
	}
	if text, ok := r.src.Texts[name]; ok {
		r.watch(name)
		return []byte(text), nil
	}
	if len(r.config.Files) >= maxFiles {
		return nil, fmt.Errorf("more than %d files", maxFiles)
	}
	text, err := smallfile.ReadFS(r.src.FS, name, maxFile)
	if err == nil {
		r.watch(name)
	}
	return text, err
}

// first reports whether a thing comes for the first time. In a loop, it may come again and again.
func (r *reading) first(thing any) bool {
	before := r.seen[thing]
	r.seen[thing] = true
	return !before
}

func (r *reading) watch(name string) {
	if r.first(name) {
		r.config.Files = append(r.config.Files, name)
	}
}

// run runs a file inside the file that runs.
func (r *reading) run(L *lua.LState, name string) {
	if slices.Contains(r.running, name) {
		r.refuse(L, "%s includes itself: remove this Include", r.show(name))
	}
	if len(r.running) >= maxInclude {
		r.refuse(L, "files include files more than %d deep here", maxInclude)
	}
	text := r.content(L, name)
	if r.src.Mark != "" && strings.HasPrefix(string(text), r.src.Mark) && !slices.Contains(r.config.Marked, name) {
		r.config.Marked = append(r.config.Marked, name)
	}
	r.texts[r.show(name)] = string(text)
	proto, problem := compile(string(text), r.show(name))
	if problem != nil {
		r.throw(L, *problem)
	}
	r.running = append(r.running, name)
	defer func() { r.running = r.running[:len(r.running)-1] }()
	f := &file{name: name, section: r.config.Global, set: map[string]Position{}, own: map[string]*lua.LFunction{}}
	f.words = r.words(f)
	meta, env := L.NewTable(), L.NewTable()
	meta.RawSetString("__index", L.NewFunction(func(L *lua.LState) int {
		L.Push(r.get(L, f, L.CheckString(2)))
		return 1
	}))
	meta.RawSetString("__newindex", L.NewFunction(func(L *lua.LState) int {
		r.assign(L, f, L.CheckString(2), L.Get(3))
		return 0
	}))
	env.Metatable = meta
	fn := L.NewFunctionFromProto(proto)
	fn.Env = env
	L.Push(fn)
	L.Call(0, 0)
}

// resolve returns the file that a name in the configuration means, as in util/paths.lua: relative to the file that has the name.
func resolve(base, name string) string {
	if !strings.HasPrefix(name, "/") {
		name = base + "/" + name
	}
	return path.Clean("/" + name)[1:]
}

// needs13 records that the line that runs needs Prosody 13.
func (r *reading) needs13(L *lua.LState) {
	if at := r.at(L); r.first(at) {
		r.config.NeedsProsody13 = append(r.config.NeedsProsody13, at)
	}
}

// get returns what a name means, apart from local variables.
func (r *reading) get(L *lua.LState, f *file, name string) lua.LValue {
	if own := f.own[name]; own != nil {
		return own
	}
	if word := f.words[name]; word != nil {
		return L.NewFunction(word)
	}
	if variable, ok := strings.CutPrefix(name, "ENV_"); ok {
		return r.getenv(variable)
	}
	// Prosody 0.12 does not look at the options.
	if s := r.settings[f.section][name]; s != nil {
		r.needs13(L)
		if _, ok := s.value.(*lua.LTable); ok {
			return r.listOption(L, f.section, name)
		}
		return s.value
	}
	if name == "Lua" {
		r.needs13(L)
		all, meta := L.NewTable(), L.NewTable()
		meta.RawSetString("__index", L.NewFunction(func(L *lua.LState) int {
			L.Push(r.library(L, L.CheckString(2)))
			return 1
		}))
		all.Metatable = meta
		return all
	}
	value := r.library(L, name)
	if value == lua.LNil {
		r.unknown = unknown{name, r.at(L)}
	}
	return value
}

func (r *reading) getenv(name string) lua.LValue {
	if r.src.Getenv != nil {
		if value, ok := r.src.Getenv(name); ok {
			return lua.LString(value)
		}
	}
	return lua.LNil
}

// assign sets an option in a line of its own.
func (r *reading) assign(L *lua.LState, f *file, name string, value lua.LValue) {
	at := r.at(L)
	if f.words[name] != nil {
		// Prosody keeps its words in the environment of the file, so a function can take the place of one, in this file only
		// (core/configmanager.lua, env). Another value would be no option, and the word would be lost.
		own, ok := value.(*lua.LFunction)
		if !ok || slices.Contains(words13, name) {
			r.refuse(L, "%s is a word of Prosody's: give the option or variable another name", name)
		}
		f.own[name] = own
		return
	}
	path := f.section.Name + "/" + name
	if before, ok := f.set[path]; ok {
		r.warn(at, "%s was set in line %d already; this line replaces it", name, before.Line)
	}
	f.set[path] = at
	if value == lua.LNil && r.unknown.at == at {
		r.warn(at, "%s is not set, because %s is nothing here: a text needs quotes around it", name, r.unknown.name)
	}
	r.set(L, f.section, name, value)
}

func (r *reading) warn(at Position, format string, args ...any) {
	if p := (Problem{At: at, Text: fmt.Sprintf(format, args...)}); r.first(p) {
		r.config.Warnings = append(r.config.Warnings, p)
	}
}

func (r *reading) set(L *lua.LState, section *Section, name string, value lua.LValue) {
	switch name {
	case "component_module", "defined", "__currenthost": // Prosody keeps its own values there
		r.refuse(L, "%s is not for configurations to set: write Component or VirtualHost", name)
	}
	options := r.settings[section]
	if options == nil {
		options = map[string]*setting{}
		r.settings[section] = options
	}
	s := &setting{value: value, at: r.at(L), found: r.found}
	// Either of two files of one wildcard may be the last. A line that Prosody certainly reads after both decides.
	if before := options[name]; before != nil && s.found.id != 0 && before.found.id == s.found.id {
		s.other = before.other
		if before.found.file != s.found.file && !r.same(L, before.value, value) {
			s.other = &before.at
		}
	}
	if value == lua.LNil {
		delete(options, name)
		return
	}
	options[name] = s
}

func (r *reading) same(L *lua.LState, a, b lua.LValue) bool {
	v, errA := r.value(L, a, 0)
	w, errB := r.value(L, b, 0)
	return errA == nil && errB == nil && reflect.DeepEqual(v, w)
}

// words13 are the words that Prosody 0.12 does not have. There, setting one of them sets an option.
var words13 = []string{"FileContents", "FileLine", "FileLines", "Credential"}

// words returns the functions that Prosody gives a configuration beside Lua's own.
func (r *reading) words(f *file) map[string]lua.LGFunction {
	host := func(L *lua.LState) int { return r.virtualHost(L, f) }
	component := func(L *lua.LState) int { return r.component(L, f) }
	include := func(L *lua.LState) int { r.include(L, f, L.CheckString(1)); return 0 }
	folder := path.Dir(f.name)
	words := map[string]lua.LGFunction{
		"VirtualHost": host, "Host": host, "host": host,
		"Component": component, "component": component,
		"Include": include, "include": include,
		"RunScript": func(L *lua.LState) int {
			r.refuse(L, "RunScript runs a program, and usher does not: write the options themselves, or Include a file")
			return 0
		},
		"FileContents": func(L *lua.LState) int { r.needs13(L); return r.fileText(L, folder, "a") },
		"FileLine":     func(L *lua.LState) int { r.needs13(L); return r.fileText(L, folder, "l") },
		"FileLines":    func(L *lua.LState) int { r.needs13(L); return r.fileLines(L, folder) },
		"Credential": func(L *lua.LState) int {
			r.needs13(L)
			folder, ok := r.getenv("CREDENTIALS_DIRECTORY").(lua.LString)
			if !ok {
				r.raise(L, "Credential needs the variable CREDENTIALS_DIRECTORY, which is not set: systemd sets it for LoadCredential=")
			}
			return r.fileText(L, string(folder), "a")
		},
	}
	maps.Copy(words, r.operators)
	return words
}

// fileText returns to the program the text of a file, or its first line (mode l).
func (r *reading) fileText(L *lua.LState, folder, mode string) int {
	content := string(r.content(L, resolve(folder, L.CheckString(1))))
	switch mode = L.OptString(2, mode); strings.TrimPrefix(mode, "*") {
	case "a":
	case "l":
		line, _, more := strings.Cut(content, "\n")
		if line == "" && !more {
			r.raise(L, "the file %s is empty", L.CheckString(1))
		}
		content = line
	default:
		r.refuse(L, "usher does not read files in this mode (%q)", mode)
	}
	return r.text(L, content)
}

// fileLines returns to the program the lines of a file.
func (r *reading) fileLines(L *lua.LState, folder string) int {
	content := string(r.content(L, resolve(folder, L.CheckString(1))))
	lines := L.NewTable()
	for line := range strings.Lines(content) {
		r.spend(L, 10)
		lines.RawSet(lua.LNumber(border(lines)+1), lua.LString(strings.TrimSuffix(line, "\n")))
	}
	L.Push(lines)
	return 1
}

// host returns the section that the first argument names, and whether it is new. kind is for messages.
func (r *reading) host(L *lua.LState, kind string) (s *Section, opened bool) {
	name, ok := L.Get(1).(lua.LString)
	if !ok {
		r.raise(L, `%s must have a name: write %[1]s "meet.example.com"`, kind)
	}
	domain, ok := canonical(string(name))
	if !ok {
		r.raise(L, "%q is no domain, as the name of a %s must be", string(name), kind)
	}
	if s := r.byName[domain]; s != nil {
		return s, false
	}
	s = &Section{Name: domain, At: r.at(L), Options: map[string]Option{}, global: r.config.Global}
	r.config.Hosts = append(r.config.Hosts, s)
	r.byName[domain] = s
	return s, true
}

// canonical returns a domain in canonical form.
func canonical(name string) (string, bool) {
	domain, err := jid.Parse(name)
	if err != nil || !domain.Equal(domain.Domain()) || strings.Contains(domain.String(), "..") || strings.HasPrefix(domain.String(), ".") {
		return "", false
	}
	return domain.String(), true
}

func (r *reading) virtualHost(L *lua.LState, f *file) int {
	s, _ := r.host(L, "VirtualHost")
	if s.Component {
		r.raise(L, "VirtualHost %q clashes with the Component of this name, see %s: give services a name of their own, such as conference.%[1]s", s.Name, s.At)
	}
	f.section = s
	L.Push(L.NewFunction(func(L *lua.LState) int {
		f.section = r.config.Global
		switch L.Get(1).(type) {
		case lua.LString:
			r.raise(L, "a VirtualHost takes no module: write Component, or remove the text after %q", s.Name)
		case *lua.LTable:
		default:
			r.raise(L, "after VirtualHost %q only options in braces can follow, but there is a %s", s.Name, L.Get(1).Type())
		}
		r.options(L, s)
		return 0
	}))
	return 1
}

func (r *reading) component(L *lua.LState, f *file) int {
	s, opened := r.host(L, "Component")
	if !opened && !s.Component {
		r.raise(L, "Component %q clashes with the VirtualHost of this name, see %s: give services a name of their own, such as conference.%[1]s", s.Name, s.At)
	}
	s.Component, s.Module = true, "component"
	f.section = s
	options := func(L *lua.LState) int {
		f.section = r.config.Global
		r.options(L, s)
		return 0
	}
	L.Push(L.NewFunction(func(L *lua.LState) int {
		module, ok := L.Get(1).(lua.LString)
		if !ok {
			return options(L)
		}
		s.Module = string(module)
		L.Push(L.NewFunction(options))
		return 1
	}))
	return 1
}

// options sets the options of a table after a host.
func (r *reading) options(L *lua.LState, s *Section) {
	table, ok := L.Get(1).(*lua.LTable)
	if !ok {
		r.raise(L, "after %q only options in braces can follow, but there is a %s", s.Name, L.Get(1).Type())
	}
	for k, v := table.Next(lua.LNil); k != lua.LNil; k, v = table.Next(k) {
		r.spend(L, 1)
		if name, ok := k.(lua.LString); ok {
			r.set(L, s, string(name), v)
		} else {
			r.warn(r.at(L), "an entry without a name does nothing among the options of %s: write a name and = before it", s.Name)
		}
	}
}

var globLiterals = strings.NewReplacer(`\`, `\\`, `[`, `\[`)

func (r *reading) include(L *lua.LState, f *file, name string) {
	if !strings.ContainsAny(name, "*?") {
		r.run(L, resolve(path.Dir(f.name), name))
		return
	}
	folder, glob := path.Split(name)
	if glob == "" {
		r.raise(L, "Include %q names a folder: write which files in it, such as *.cfg.lua", name)
	}
	if folder == "/" {
		folder = "" // as for Prosody
	}
	folder = resolve(path.Dir(f.name), folder)
	if folder == "" {
		folder = "."
	}
	entries, err := fs.ReadDir(r.src.FS, folder)
	if err != nil {
		r.raise(L, "cannot read the folder %s of this Include: does it exist? A wildcard can only stand in the last part", r.show(folder))
	}
	r.watch(folder + "/")
	r.globs++
	defer func(found wildcard) { r.found = found }(r.found)
	id := r.globs
	for _, entry := range entries { // sorted by name; Prosody's have the order of the file system
		r.spend(L, 1)
		if matched, _ := path.Match(globLiterals.Replace(glob), entry.Name()); matched && entry.Name()[0] != '.' {
			r.found = wildcard{id, entry.Name()}
			// Prosody includes each by its word Include. The program may have its own function there by now.
			L.Push(r.get(L, f, "Include"))
			L.Push(lua.LString("/" + path.Join(folder, entry.Name())))
			L.Call(1, 0)
		}
	}
}

// finish turns the settings into options.
func (r *reading) finish(L *lua.LState) error {
	var problems []error
	for _, s := range append([]*Section{r.config.Global}, r.config.Hosts...) {
		for _, name := range slices.Sorted(maps.Keys(r.settings[s])) {
			set := r.settings[s][name]
			value, err := r.convert(L, set.value)
			option := Option{Name: name, Value: value, At: set.at}
			if err == nil && (name == "modules_enabled" || name == "modules_disabled") {
				_, err = stringList(value)
			}
			if n := hole(set.value); n > 0 && r.fatal == nil {
				r.warn(set.at, "%s has nothing as its entry %d, so Prosody ignores the entries after it: a text needs quotes around it", name, n)
			}
			if err != nil {
				problems = append(problems, option.problem("%v", err))
				if r.fatal != nil {
					return errors.Join(problems...)
				}
				continue
			}
			s.Options[name] = option
			if set.other != nil {
				r.config.Unsure = append(r.config.Unsure, Unsure{Section: s, Option: name, At: set.at, Other: *set.other})
				r.warn(set.at, "%s is set differently at %s; which of the two files Prosody reads last is not certain, because it does not "+
					"sort what a wildcard Include finds: set it in a file that is included by name, after these", name, *set.other)
			}
		}
	}
	return errors.Join(problems...)
}
