package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"
)

// languages has the words of the pages in each language. A file of the folder languages is an object of JSON: from keys to texts, or to
// an object with a text for each plural form ("one", "other", …; Unicode's CLDR names them) of the number in it.
type languages struct {
	catalog *catalog.Builder
	tags    []language.Tag // English first: for those who read none of them
	matcher language.Matcher
}

// maxAccept caps Accept-Language, in bytes. Browsers send less than 200.
const maxAccept = 1000

// loadLanguages reads the files. Those are part of the program and its tests read them, so a broken one panics.
func loadLanguages() languages {
	files, err := languageFiles.ReadDir("languages")
	must(err)
	l := languages{catalog: catalog.NewBuilder(catalog.Fallback(language.English)), tags: []language.Tag{language.English}}
	for _, file := range files {
		tag := language.MustParse(strings.TrimSuffix(file.Name(), ".json"))
		content, err := languageFiles.ReadFile(path.Join("languages", file.Name()))
		must(err)
		var words map[string]json.RawMessage
		must(json.Unmarshal(content, &words))
		for key, word := range words {
			must(l.add(tag, key, word))
		}
		if tag != language.English {
			l.tags = append(l.tags, tag)
		}
	}
	l.matcher = language.NewMatcher(l.tags)
	return l
}

func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("page: languages: %v", err))
	}
}

func (l languages) add(tag language.Tag, key string, word json.RawMessage) error {
	var text string
	if json.Unmarshal(word, &text) == nil {
		return l.catalog.SetString(tag, key, text)
	}
	var forms map[string]string
	if err := json.Unmarshal(word, &forms); err != nil {
		return fmt.Errorf("%s: %s: %w", tag, key, err)
	}
	var cases []any
	for _, form := range []string{"zero", "one", "two", "few", "many", "other"} {
		if text, ok := forms[form]; ok {
			cases = append(cases, form, text)
		}
	}
	return l.catalog.Set(tag, key, plural.Selectf(1, "%d", cases...))
}

// of returns the words for the reader of a request.
func (l languages) of(r *http.Request) speech {
	accept := r.Header.Get("Accept-Language")
	if len(accept) > maxAccept {
		accept = ""
	}
	_, n := language.MatchStrings(l.matcher, accept)
	return speech{Language: l.tags[n].String(), Direction: direction(l.tags[n]), printer: message.NewPrinter(l.tags[n], message.Catalog(l.catalog))}
}

// direction returns in which direction a language is written, as HTML says it.
func direction(tag language.Tag) string {
	if written, _ := tag.Script(); slices.Contains([]string{"Arab", "Hebr", "Syrc", "Thaa", "Nkoo", "Adlm"}, written.String()) {
		return "rtl"
	}
	return "ltr"
}

// speech is a language for one page. It belongs to one goroutine.
type speech struct {
	Language, Direction string
	printer             *message.Printer
}

// Say returns the text of a key, with what it has places for.
func (s speech) Say(key string, with ...any) string {
	return s.printer.Sprintf(message.Key(key, key), with...)
}

// Span returns a duration in words: hours from two hours on, minutes from two minutes on, else seconds. It rounds up, because people wait
// for it to be over.
func (s speech) Span(d time.Duration) string {
	up := func(unit time.Duration) int { return int((d + unit - 1) / unit) }
	switch {
	case d >= 2*time.Hour:
		return s.Say("span.hours", up(time.Hour))
	case d >= 2*time.Minute:
		return s.Say("span.minutes", up(time.Minute))
	}
	return s.Say("span.seconds", max(up(time.Second), 1))
}

// Ago returns how long something has lasted, in words. It rounds down.
func (s speech) Ago(since time.Time) string {
	d := time.Since(since).Truncate(time.Minute)
	switch {
	case d < 2*time.Minute:
		return s.Say("rooms.just")
	case d >= 2*time.Hour:
		d = d.Truncate(time.Hour)
	}
	return s.Say("rooms.since", s.Span(d))
}
