package config

import (
	"slices"
	"strconv"
	"strings"
)

// inEnvironment is the name of a source of variables if that is usher's own environment, and not a .env file.
const inEnvironment = "environment"

// envSource is a source of settings that are variables, in a .env file or in usher's environment.
type envSource struct {
	l         *loader
	of        string // the program that the variables are for
	at        place  // of the whole
	variables map[string]assignment
	settings  []setting
}

// open reads the variables from a file of this name, or from the environment, and reports whether it could. at is where it is named.
func (e *envSource) open(name string, at place, environ []string, expanded bool) bool {
	e.variables = map[string]assignment{}
	if name == inEnvironment {
		for _, entry := range environ {
			name, value, _ := strings.Cut(entry, "=")
			e.variables[name] = assignment{value: value}
		}
		return true
	}
	content, ok := e.l.open(name, at)
	if !ok {
		return false
	}
	e.at.source, e.at.file = e.of+" "+shown(name), name
	var mistakes []mistake
	e.variables, mistakes = parseDotenv(string(content), expanded)
	for _, m := range mistakes {
		e.l.garble(e.line(m.line), m.text)
	}
	return !e.l.garbled
}

// line returns the place of a line of the .env file.
func (e *envSource) line(n int) place {
	at := e.at
	if at.line = n; n > 0 {
		at.source += ":" + strconv.Itoa(n)
	}
	return at
}

// place returns where a variable is set, or says that it has its default.
func (e *envSource) place(name string) place {
	v, set := e.variables[name]
	at := e.line(v.line)
	if !set {
		at.source = e.of + " default of " + name
	} else {
		at.source += " " + name
	}
	return at
}

// given reports whether a variable is set. An empty one counts as not set, as in docker-jitsi-meet's templates and in MiroTalk.
func (e *envSource) given(name string) bool { return e.variables[name].value != "" }

// set sets a key to what a variable says.
func (e *envSource) set(path string, value any, name string) {
	e.settings = append(e.settings, setting{path, value, e.place(name)})
}

func (e *envSource) warn(name, text string) { e.l.warnAt(e.place(name), text) }

// envKinds says which programs the .env file of a name is for: MiroTalk, docker-jitsi-meet, or both. No variable of the one is one of the
// other. A file that cannot be read, or that says nothing of either, counts as docker-jitsi-meet's.
func envKinds(content string) (miroTalk, docker bool) {
	variables, _ := parseDotenv(content, true)
	has := func(names ...string) bool {
		return slices.ContainsFunc(names, func(name string) bool { _, ok := variables[name]; return ok })
	}
	miroTalk = has(miroTalkMarks...)
	docker = has(dockerElsewhere...) || slices.ContainsFunc(DockerVariables, func(v DockerVariable) bool { return has(v.Name) })
	return miroTalk, docker || !miroTalk
}
