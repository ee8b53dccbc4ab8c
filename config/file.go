package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/xmpp-usher/usher/config/prosody"
)

// readFile sets what a YAML document says.
func (l *loader) readFile(content []byte) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) { // nothing but comments
		return
	}
	if err == nil {
		if err = decoder.Decode(&second); err == nil {
			l.garble(l.at(second.Line), "a second document begins here: take out the --- before it")
			return
		}
		if errors.Is(err, io.EOF) {
			l.section("", l.root, document.Content[0])
			return
		}
	}
	line := lineOfError(content, err)
	l.garble(l.at(line), "is not YAML: "+syntaxError(err, textOfLine(content, line)))
}

// syntaxError describes an error of the YAML parser in a line. The words contain nothing of the file, so no secret.
func syntaxError(err error, line string) string {
	message := yamlLine.ReplaceAllString(err.Error(), "")
	begin := strings.TrimLeftFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || foreign(r) })
	indent := line[:len(line)-len(begin)]
	strange := strings.IndexFunc(line, func(r rune) bool { return typographic(r) || noBreak(r) })
	switch {
	case strings.HasPrefix(message, "unknown anchor"):
		return "a text that begins with * must stand in quotes"
	case strings.HasPrefix(message, "did not find expected alphabetic or numeric character"): // an anchor's name, or one that refers to it
		return "a text that begins with * or & must stand in quotes"
	case strings.Contains(message, "UTF-8"):
		return message + ": save the file as UTF-8"
	case strings.Contains(indent, "\t"):
		return "a tab cannot indent a line: type spaces instead"
	case strange >= 0:
		r, _ := utf8.DecodeRuneInString(line[strange:])
		return message + "; in this line, " + foreignCharacter(r)
	}
	return message
}

// textOfLine returns a line, by its number, of a text.
func textOfLine(content []byte, number int) string {
	for line := range bytes.Lines(content) {
		if number--; number == 0 {
			return string(line)
		}
	}
	return ""
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// lineOfError returns the line of a syntax error. The parser often names the line where the section around the error begins, or
// the one before. Better is the first line after which the file cannot be parsed, wherever it is cut.
func lineOfError(content []byte, err error) int {
	const most = 8 << 20 // bytes to parse, because of the time that takes: a file of 400 lines
	lines := bytes.SplitAfter(content, []byte("\n"))
	if len(lines)*len(content) > most {
		n, _ := strconv.Atoi(yamlLine.FindStringSubmatch(err.Error())[1])
		return max(n, 1)
	}
	n, end := len(lines), len(content)
	for n > 1 {
		end -= len(lines[n-1])
		if yaml.Unmarshal(content[:end], &yaml.Node{}) == nil {
			break
		}
		n--
	}
	return n
}

// value sets a path to what a node of the YAML document says. The path has its place already.
func (l *loader) value(path string, s *shape, n *yaml.Node) {
	if fault := odd(n); fault != "" {
		l.fault(path, "%s", fault)
		return
	}
	switch s.form {
	case formSection, formVHosts:
		l.section(path, s, n)
	case formSections:
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" { // all of it commented out
			return
		}
		if n.Kind != yaml.SequenceNode {
			l.fault(path, "must be a list: begin each of its entries with a dash")
			return
		}
		for i, item := range n.Content {
			itemPath := join(path, strconv.Itoa(i))
			l.places[itemPath] = l.at(item.Line)
			l.value(itemPath, s.each, item)
		}
	case formTexts:
		if n.Kind != yaml.SequenceNode {
			l.fault(path, "must be a list: write [first, second]")
			return
		}
		list := make([]string, 0, len(n.Content))
		for i, item := range n.Content {
			itemPath := join(path, strconv.Itoa(i))
			l.places[itemPath] = l.at(item.Line)
			l.scalar(itemPath, item)
			list = append(list, item.Value)
		}
		l.viper.Set(path, list)
	case formTable:
		l.table(path, n)
	default:
		if l.scalar(path, n) {
			l.set(path, s, n.Value)
		}
	}
}

// table sets a table of texts by text.
func (l *loader) table(path string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		l.fault(path, "is a table: write its entries below it, indented, each as value: meaning")
		return
	}
	entries := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, meaning := n.Content[i], n.Content[i+1]
		entry := entryOf(path, key.Value)
		if _, twice := entries[key.Value]; twice {
			l.problem(l.at(key.Line), typed(entry), fmt.Sprintf("stands here again after line %d: keep one", l.place(entry).line))
			continue
		}
		l.places[entry] = l.at(key.Line)
		entries[key.Value] = meaning.Value
		if l.scalar(entry, key) {
			l.scalar(entry, meaning)
		}
	}
	l.viper.Set(path, entries)
}

// scalar reports whether a node is a single value, and records a problem if not.
func (l *loader) scalar(path string, n *yaml.Node) bool {
	fault := odd(n)
	switch {
	case fault != "":
	case n.Kind != yaml.ScalarNode:
		fault = "takes a single value"
	case n.ShortTag() == "!!null":
		fault = "has no value: write one, or take the line out"
	default:
		return true
	}
	l.fault(path, "%s", fault)
	return false
}

// section sets what a section says: its keys, or in the section vhosts, its vhosts.
func (l *loader) section(path string, s *shape, n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" { // all of it commented out
		return
	}
	if n.Kind != yaml.MappingNode {
		l.fault(path, "is a section: write its keys below it, indented, each as key: value")
		return
	}
	lines := map[string]int{} // by path
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i], n.Content[i+1]
		at := l.at(name.Line)
		if name.Kind != yaml.ScalarNode || name.ShortTag() == "!!merge" {
			l.problem(at, typed(path), "has a key that is no plain text")
			continue
		}
		if fault := pasted(name); fault != "" {
			l.problem(at, typed(path), "has a key that "+fault)
			// What stands below it can be wrong as well.
			if name.Value = strings.TrimFunc(name.Value, foreign); pasted(name) != "" {
				continue
			}
		}
		key, keyShape := join(path, name.Value), s.each
		if s.form == formVHosts && besideVHosts(s, name, value) {
			l.outdented(name.Value, at, n.Content[:i])
			continue
		}
		if s.form == formVHosts {
			if key = l.addVHost(name.Value, at); key == "" {
				key = entryOf(path, strings.ToLower(name.Value)) // as viper has it
				l.misnamed = append(l.misnamed, last(key))
			}
		} else if keyShape = s.keys[name.Value]; keyShape == nil {
			l.problem(at, typed(key), "is not a known key"+l.misplaced(path, s, name.Value))
			continue
		}
		if first, twice := lines[key]; twice {
			l.problem(at, typed(key), fmt.Sprintf("stands here again after line %d: keep one", first))
			continue
		}
		lines[key] = name.Line
		if l.places[key].layer == layerCommand { // the command line names sources, which count instead
			continue
		}
		l.places[key] = at
		l.value(key, keyShape, value)
	}
}

// besideVHosts reports whether an entry of the section vhosts is a key of a virtual host, which stands there by a wrong indent. Some of
// the keys could be domains, but each virtual host has a kind.
func besideVHosts(s *shape, name, value *yaml.Node) bool {
	if s.each.keys[name.Value] == nil {
		return false
	}
	for i := 0; value.Kind == yaml.MappingNode && i < len(value.Content); i += 2 {
		if value.Content[i].Value == "kind" {
			return false
		}
	}
	return true
}

// outdented records a key of a virtual host that stands beside the virtual hosts, below these entries.
func (l *loader) outdented(key string, at place, above []*yaml.Node) {
	host := "the host that it is for"
	for i := 0; i < len(above); i += 2 {
		if domain, err := parseDomain(above[i].Value); err == nil && l.given(join("vhosts", domain.String())) {
			host = above[i].Value
			l.faulty[join("vhosts", domain.String())] = true // what it misses may stand here
		}
	}
	l.badVHost = true
	l.problem(at, "vhosts."+key, "is a key of a virtual host, and stands beside them: indent it below "+host)
}

// misplaced guesses what an unknown key was meant to be, for the end of a sentence.
func (l *loader) misplaced(path string, s *shape, name string) string {
	if meant := Closest(name, slices.Sorted(maps.Keys(s.keys))); meant != "" {
		return "; did you mean " + meant + "?"
	}
	for _, place := range placesOf(name, "", l.root) {
		if place != typed(path) {
			return "; does it belong in " + place + "?"
		}
	}
	return ""
}

// placesOf returns the sections with a key of that name, as the operator writes them, in the shape at a path.
func placesOf(name, path string, s *shape) []string {
	var places []string
	for _, key := range slices.Sorted(maps.Keys(s.keys)) {
		if key == name && path != "" {
			places = append(places, path)
		}
		places = append(places, placesOf(name, strings.TrimPrefix(path+"."+key, "."), s.keys[key])...)
	}
	if s.form == formVHosts {
		places = append(places, placesOf(name, path+".DOMAIN", s.each)...)
	}
	return places
}

// odd returns what is wrong with a kind of node that has no use in a configuration, or "".
func odd(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return "uses an anchor (&) or alias (*): write the value out, or put it in quotes if it begins so"
	case n.Style&yaml.TaggedStyle != 0:
		return "uses a tag (!): write the value without it, or put it in quotes if it begins so"
	}
	return pasted(n)
}

// pasted returns what word processors and web pages have left in a text, or "". In quotes it is meant.
func pasted(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.Style != 0 {
		return ""
	}
	first, _ := utf8.DecodeRuneInString(n.Value)
	last, _ := utf8.DecodeLastRuneInString(n.Value)
	switch {
	case typographic(first):
		return "begins with a typographic quote: " + foreignCharacter(first)
	case typographic(last):
		return "ends with a typographic quote: " + foreignCharacter(last)
	}
	// A joiner within a word is a letter of it.
	if i := strings.IndexFunc(n.Value, noBreak); i >= 0 {
		r, _ := utf8.DecodeRuneInString(n.Value[i:])
		return "has an invisible character in it: " + foreignCharacter(r)
	}
	for _, r := range []rune{first, last} {
		if foreign(r) {
			return "begins or ends with an invisible character: " + foreignCharacter(r)
		}
	}
	return ""
}

// typographic reports whether a character is a quote in texts for people.
func typographic(r rune) bool { return strings.ContainsRune(prosody.TypographicQuotes, r) }

// noBreak reports whether a character is a space in texts for people that YAML takes for a letter.
func noBreak(r rune) bool { return strings.ContainsRune("\u00a0\u2007\u202f\ufeff", r) }

// foreign reports whether a character is a quote or space in texts for people, or invisible.
func foreign(r rune) bool {
	return typographic(r) || noBreak(r) || r > 127 && r != utf8.RuneError && (unicode.IsSpace(r) || unicode.Is(unicode.Cf, r))
}

// foreignCharacter says which character YAML does not know, and what to do.
func foreignCharacter(r rune) string {
	if typographic(r) {
		return fmt.Sprintf("%c is none of YAML's. Type \" or nothing instead, or put the whole text in \" if %[1]c belongs to it", r)
	}
	return fmt.Sprintf("U+%04X, perhaps copied from a web page. Type a plain space or nothing instead, or put the whole text in \" if it "+
		"belongs to it", r)
}
