package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	prefix = "USHER_"
	// vhostsVariable names vhosts, so that no file is needed.
	vhostsVariable = prefix + "VHOSTS"
)

// variable returns the name of the environment variable of a path.
func variable(path string) string { return prefix + strings.ToUpper(inVariable.Replace(path)) }

var inVariable = strings.NewReplacer("/", "_", ".", "_", "-", "_")

var (
	// number matches the number of an entry of a list in the name of a variable, such as that of an issuer.
	number = regexp.MustCompile(`(_ISSUERS|^` + variable("rooms/rules") + `|^` + variable("webhooks") + `|^` + variable("portal/users") + `|^` +
		variable("portal/providers") + `(?:_\*_RULES)?)_(0|[1-9]\d?)_`)
	// kubernetes matches the variables that Kubernetes makes in every container for a service called usher or usher-….
	kubernetes = regexp.MustCompile(`^\w+_(SERVICE_HOST=|SERVICE_PORT(_\w+)?=|PORT=\w+://|PORT_\d+_[A-Z]+(_[A-Z]+)?=)`)
)

// ownVariables returns those variables of an environment that are usher's, by name.
func ownVariables(environ []string) map[string]string {
	variables := map[string]string{}
	for _, entry := range environ {
		if strings.HasPrefix(entry, prefix) && !kubernetes.MatchString(entry) {
			name, value, _ := strings.Cut(entry, "=")
			variables[name] = value
		}
	}
	return variables
}

// readEnvironment sets what usher's variables say.
func (l *loader) readEnvironment(variables map[string]string) {
	if names := variables[vhostsVariable]; names != "" {
		for name := range strings.SplitSeq(names, ",") {
			l.addVHost(strings.TrimSpace(name), fromVariable(vhostsVariable))
		}
	}
	delete(variables, vhostsVariable)

	known, names := map[string][]variableKey{}, slices.Sorted(maps.Keys(variables))
	l.variablesOf("", table, known, names)
	for _, name := range names {
		l.readVariable(name, variables[name], known)
	}
	l.numbered()
}

// suggested is the most vhosts of which all variables are listed, so that a variable with a typing mistake in its domain finds the
// right one. Of more vhosts, only those count that the environment names.
const suggested = 100

// variableKey is the key of a variable. A * in its path stands for the number in the variable's name.
type variableKey struct {
	path  string
	shape *shape
}

// variablesOf adds the variables of all keys below a path, with * for a number. names are the variables that are set, in order.
func (l *loader) variablesOf(path string, s *shape, known map[string][]variableKey, names []string) {
	switch s.form {
	case formSection:
		for name, key := range s.keys {
			l.variablesOf(join(path, name), key, known, names)
		}
	case formVHosts:
		for _, domain := range l.vhosts {
			vhost := join(path, domain.String())
			first := variable(vhost) + "_"
			i, _ := slices.BinarySearch(names, first)
			if len(l.vhosts) <= suggested || i < len(names) && strings.HasPrefix(names[i], first) {
				l.variablesOf(vhost, s.each, known, names)
			}
		}
	case formSections:
		l.variablesOf(join(path, "*"), s.each, known, names)
	default:
		name := variable(path)
		known[name] = append(known[name], variableKey{path, s})
	}
}

// readVariable sets the key of a variable.
func (l *loader) readVariable(name, value string, known map[string][]variableKey) {
	at := fromVariable(name)
	pattern, numbers := unnumbered(name)
	keys := known[pattern]
	switch {
	case len(keys) == 0 && l.garbled && strings.HasPrefix(name, vhostsVariable+"_"): // a source may have that vhost
		return
	case len(keys) == 0:
		l.problem(at, "", "is not a variable of usher"+l.meant(pattern, numbers, known))
		return
	case len(keys) > 1:
		l.problem(at, "", fmt.Sprintf("is ambiguous, because it stands for both %s and %s: set them in the file",
			typed(keys[0].path), typed(keys[1].path)))
		return
	case value == "":
		return
	}
	path := renumbered(keys[0].path, numbers)
	l.override(path, keys[0].shape, at)
	l.set(path, keys[0].shape, value)
}

// unnumbered returns the name of a variable with a * for each number in it that is one of a list, and these numbers.
func unnumbered(name string) (pattern string, numbers []string) {
	for {
		m := number.FindStringSubmatch(name)
		if m == nil {
			return name, numbers
		}
		name, numbers = strings.Replace(name, m[0], m[1]+"_*_", 1), append(numbers, m[2])
	}
}

// renumbered returns a path or the name of a variable with these numbers in place of each *.
func renumbered(text string, numbers []string) string {
	for _, n := range numbers {
		text = strings.Replace(text, "*", n, 1)
	}
	return text
}

// override makes a variable the place of a path, of its entries if it is a list or table, and of the sections around it that no
// file has.
func (l *loader) override(path string, s *shape, at place) {
	if (s.form == formTexts || s.form == formTable) && l.given(path) {
		maps.DeleteFunc(l.places, func(p string, _ place) bool { return parent(p) == path })
	}
	l.places[path] = at
	for path = parent(path); path != ""; path = parent(path) {
		if !l.given(path) {
			l.places[path] = at
		}
	}
}

// numbered records issuers and rules with numbers that do not follow each other from 0 on.
func (l *loader) numbered() {
	counts := map[string]int{}
	for _, path := range slices.Sorted(maps.Keys(l.places)) {
		list := parent(path)
		index, err := strconv.Atoi(last(path))
		if err != nil || !isSections(list) {
			continue
		}
		n, counted := counts[list]
		if !counted {
			n = l.count(list)
			counts[list] = n
		}
		if index > n {
			l.fault(path, "is there, but %s[%d] is not: number them from 0 on", typed(list), n)
		}
	}
}

// meant guesses what an unknown variable was meant to be, for the end of a sentence.
func (l *loader) meant(pattern string, numbers []string, known map[string][]variableKey) string {
	if meant := Closest(pattern, slices.Sorted(maps.Keys(known))); meant != "" {
		return "; did you mean " + renumbered(meant, numbers) + "?"
	}
	if strings.HasPrefix(pattern, vhostsVariable+"_") {
		return ", or not one of a known vhost: name the vhost in the file or in " + vhostsVariable
	}
	return ""
}

// fromVariable returns the place of a variable.
func fromVariable(name string) place {
	return place{source: "environment " + name, layer: layerEnvironment}
}
