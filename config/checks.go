package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"mellium.im/xmpp/jid"
)

// oneOf returns value, to which a path was set, and records a problem if it is none of those known.
func oneOf[T ~string](l *loader, at string, value T, known ...T) T {
	if !slices.Contains(known, value) {
		names := make([]string, len(known))
		for i := range known {
			names[i] = string(known[i])
		}
		hint := ""
		if meant := Closest(strings.ToLower(string(value)), names); meant != "" {
			hint = fmt.Sprintf(" (did you mean %s?)", meant)
		}
		last := len(names) - 1
		l.fault(at, "%q is not known: it must be %s or %s%s", string(value), strings.Join(names[:last], ", "), names[last], hint)
	}
	return value
}

// domain parses the domain that a path was set to; it returns the zero JID if it is none.
func (l *loader) domain(at, name string) jid.JID {
	domain, err := parseDomain(name)
	if err != nil {
		l.fault(at, "%s", err)
	}
	return domain
}

// checkTexts records a list that is empty or has an empty entry.
func (l *loader) checkTexts(at string, list []string) {
	for i, text := range list {
		if text == "" {
			l.fault(join(at, strconv.Itoa(i)), "is empty: write a text, or take it out")
		}
	}
	if len(list) == 0 {
		l.fault(at, `is empty, so no token would be accepted: take it out for the default, or write ["*"] for any`)
	}
}

// contradict records that more than one of these paths is set, which exclude each other.
func (l *loader) contradict(paths ...string) {
	paths = slices.DeleteFunc(paths, func(path string) bool { return !l.given(path) })
	slices.SortStableFunc(paths, func(a, b string) int { return l.place(a).compare(l.place(b)) })
	for _, second := range paths[min(1, len(paths)):] {
		if !l.faulty[second] { // this makes it not faulty: what it says can be wrong, too
			l.problem(l.place(second), typed(second), fmt.Sprintf("contradicts %s (%s): keep one of them", typed(paths[0]), l.place(paths[0]).source))
		}
	}
}
