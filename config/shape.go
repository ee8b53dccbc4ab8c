package config

import (
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// shape says what may stand at a path of the configuration.
type shape struct {
	form  form
	keys  map[string]*shape // of a section: its keys
	order []string          // of a section: its keys, in the order of the table
	each  *shape            // of vhosts: a vhost; of a list of sections: one of them

	def string // of a value: its default, as in the environment; "" for none
}

type form int

const (
	formSection  form = iota // keys
	formVHosts               // sections, by domain
	formSections             // a list of sections
	formTexts                // a list of texts
	formTable                // a table of texts by text
	formText
	formBool
	formDuration // a duration
	formSize     // a number of bytes
	formNumber   // a number of things
	formRate     // a number, perhaps with a fraction
)

// table is the shape of the whole configuration, apiKeysTable that of a file with keys of the API, and usersTable that of one with
// accounts. issuerKeys are the keys of one
// issuer.
var (
	table        = shapeOf(reflect.TypeFor[raw](), "")
	apiKeysTable = shapeOf(reflect.TypeFor[rawAPIKeys](), "")
	usersTable   = shapeOf(reflect.TypeFor[rawUsers](), "")
	issuerKeys   = slices.Sorted(maps.Keys(shapeOf(reflect.TypeFor[rawIssuer](), issuersName).keys))
)

// issuersName begins the names of the keys of an issuer in the table.
const issuersName = "vhosts.DOMAIN.issuers"

// forms are the forms of values, by type.
var forms = map[reflect.Type]form{
	reflect.TypeFor[string]():            formText,
	reflect.TypeFor[bool]():              formBool,
	reflect.TypeFor[time.Duration]():     formDuration,
	reflect.TypeFor[Size]():              formSize,
	reflect.TypeFor[int]():               formNumber,
	reflect.TypeFor[float64]():           formRate,
	reflect.TypeFor[[]string]():          formTexts,
	reflect.TypeFor[map[string]string](): formTable,
}

// shapeOf returns the shape of a type of raw, which stands at a name of the table.
func shapeOf(t reflect.Type, name string) *shape {
	if form, value := forms[t]; value {
		rows := slices.Concat(keys, apiKeyRows, userKeys)
		i := slices.IndexFunc(rows, func(k key) bool { return k.name == name })
		if i < 0 {
			panic("config: the table of keys has no row for " + name)
		}
		return &shape{form: form, def: rows[i].def}
	}
	if t == reflect.TypeFor[map[string]rawVHost]() {
		return &shape{form: formVHosts, each: shapeOf(t.Elem(), name+".DOMAIN")}
	}
	if t.Kind() == reflect.Map { // by number
		return &shape{form: formSections, each: shapeOf(t.Elem(), name)}
	}
	s := &shape{form: formSection, keys: map[string]*shape{}}
	for i := range t.NumField() {
		field := t.Field(i)
		key := field.Tag.Get("mapstructure")
		if key == ",squash" {
			squashed := shapeOf(field.Type, issuersName)
			maps.Copy(s.keys, squashed.keys)
			s.order = append(s.order, squashed.order...)
			continue
		}
		s.keys[key] = shapeOf(field.Type, strings.TrimPrefix(name+"."+key, "."))
		s.order = append(s.order, key)
	}
	return s
}

// parse turns text into the value of a key, or says what is wrong with it.
func (s *shape) parse(value string) (_ any, fault string) {
	switch s.form {
	case formBool:
		// on and off are booleans of YAML 1.1, which many editors and habits still follow.
		switch value {
		case "true", "on":
			return true, ""
		case "false", "off":
			return false, ""
		}
		return nil, "is neither true nor false"
	case formDuration:
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, "is no duration: write it with its unit, such as 10s; the longest unit is h"
		}
		return d, ""
	case formSize:
		size, ok := parseSize(value)
		if !ok {
			return nil, "is no size: write a whole number and MiB or GiB, such as 512MiB"
		}
		return size, ""
	case formNumber:
		n, err := strconv.Atoi(value)
		if err != nil {
			return nil, "is no whole number: write it with digits, such as 30"
		}
		return n, ""
	case formRate:
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(n) || math.IsInf(n, 0) {
			return nil, "is no number: write it with digits, such as 10 or 0.5"
		}
		return n, ""
	case formTexts:
		list := strings.Split(value, ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		return list, ""
	case formTable:
		entries := map[string]string{}
		for entry := range strings.SplitSeq(value, ",") {
			key, meaning, ok := strings.Cut(entry, "=")
			if !ok {
				return nil, "is no table: write it as value=meaning,value=meaning"
			}
			entries[strings.TrimSpace(key)] = strings.TrimSpace(meaning)
		}
		return entries, ""
	}
	return value, ""
}

// A path is the keys that lead to a place of the configuration, joined by slashes. A slash is the one character that no domain
// contains (RFC 7622 §3.2): vhosts have dots in their names, and an IPv6 address has "::".

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "/" + key
}

// entryOf returns the path of an entry of the table at a path. It is no key, so nothing can be set there.
func entryOf(path, entry string) string {
	return join(path, strings.ReplaceAll(entry, "/", "∕"))
}

// isSections reports whether a list of sections stands at a path.
func isSections(path string) bool {
	s := table
	for key := range strings.SplitSeq(path, "/") {
		below := s.keys[key]
		if s.each != nil {
			below = s.each
		}
		if s = below; s == nil {
			return false
		}
	}
	return s.form == formSections
}

// parent returns the path of the section or list around a path; "" for the whole configuration.
func parent(path string) string {
	return path[:max(strings.LastIndexByte(path, '/'), 0)]
}

// last returns the last key of a path.
func last(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// typed returns a path as the operator writes it: vhosts.meet.example.com.issuers[0].app_id.
func typed(path string) string {
	var b strings.Builder
	all := strings.Split(path, "/")
	for i, key := range all {
		switch {
		case (i >= 2 || i == 1 && all[0] != "vhosts") && strings.Trim(key, "0123456789") == "": // below vhosts is a domain
			b.WriteString("[" + key + "]")
		case i > 0:
			b.WriteString("." + key)
		default:
			b.WriteString(key)
		}
	}
	return b.String()
}

// Closest returns which of the names was probably meant, or "": one that differs by a few typing mistakes, or one that is part of
// the other.
func Closest(name string, names []string) string {
	most := min(3, max(1, len(name)/3)) // typing mistakes
	best, least := "", len(name)
	for _, candidate := range names {
		d := distance(name, candidate)
		if d < least && (d <= most || strings.Contains(name, candidate) || strings.Contains(candidate, name)) {
			best, least = candidate, d
		}
	}
	return best
}

// distance returns how many characters must be added, removed, replaced, or exchanged with the next one, to turn a into b (Levenshtein,
// with exchanges as Damerau has them).
func distance(a, b string) int {
	before, above := make([]int, len(b)+1), make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before, above, row = above, row, before
		row[0] = i + 1
		for j := range len(b) {
			replaced := above[j]
			if a[i] != b[j] {
				replaced++
			}
			row[j+1] = min(replaced, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
	}
	return row[len(b)]
}
