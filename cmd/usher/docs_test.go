package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// unplain are words that nobody should have to read twice, and what to write instead. Wherever a person reads, they are not
// used: in code, help, messages and documents.
var unplain = []struct{ words, instead string }{
	{"whoever", `"everybody who", "anybody who", or name them: "people without a token"`},
	{"whom", `"that", or turn the sentence round: "people that usher let in", "the client asked by usher"`},
	{"whose", `"with", "of which", or a sentence of its own: "a host with a token", "a file of which the name ..."`},
	{"what there is", `name it: "the answers", "everything that is kept"`},
	{"what befell", `"what happened to"`},
	{"has something from us", `"has a grant from usher"`},
	{"said again", `"repeated", "restored", "sent again"`},
	{"could not be had", `"could not be fetched", "could not be read"`},
	{"for otherwise", `"otherwise" in a sentence of its own, or "because"`},
	{"for else", `"otherwise" in a sentence of its own, or "because"`},
	{"nothing of it is", `"none of it is", or say what happens: "keeping the previous one"`},
	{"looked for in vain", `"not found"`},
	{"is no length of time", `"is not a duration"`},
}

// unwritten are the folders with nothing that people wrote for people: what is fetched and built, and the inputs of fuzzers.
var unwritten = []string{".git", ".go", ".prosody", "bin", "node_modules", "fuzz", "rapid"}

// TestWords looks for these words in the whole module.
func TestWords(t *testing.T) {
	root := filepath.Join("..", "..")
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		t.Fatal(err)
	}
	// A line may end between two words, also one of a comment.
	const gap = `(?:[ \t]+|[ \t]*\r?\n[ \t]*(?://|--|#|-)?[ \t]*)`
	var patterns []*regexp.Regexp
	for _, u := range unplain {
		patterns = append(patterns, regexp.MustCompile(`\b`+strings.Join(strings.Fields(u.words), gap)+`\b`))
	}
	read := 0
	written(t, func(path string) bool {
		name := filepath.Base(path)
		return name != "docs_test.go" &&
			(slices.Contains([]string{".go", ".md", ".lua", ".yaml", ".yml", ".txt", ".golden", ".jsonl"}, filepath.Ext(name)) ||
				slices.Contains([]string{"Makefile", "Dockerfile", "README"}, name) || filepath.Base(filepath.Dir(path)) == ".ci")
	}, func(path, content string) {
		read++
		text := strings.ToLower(content)
		for n, p := range patterns {
			if slices.ContainsFunc(strings.Fields(unplain[n].words), func(word string) bool { return !strings.Contains(text, word) }) {
				continue // which is found faster than that the pattern does not fit
			}
			for _, at := range p.FindAllStringIndex(text, -1) {
				line := strings.Count(text[:at[0]], "\n") + 1
				place, _ := filepath.Rel(root, path)
				t.Errorf("%s:%d: %q: write %s", place, line, unplain[n].words, unplain[n].instead)
			}
		}
	})
	if read < 200 {
		t.Errorf("read %d files", read)
	}
}

// written calls visit with each file of the module that is asked for.
func written(t *testing.T, asked func(path string) bool, visit func(path, content string)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(unwritten, d.Name()):
			return fs.SkipDir
		case d.IsDir() || !asked(path):
			return nil
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		visit(path, string(content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// documents calls visit with each Markdown file of the module.
func documents(t *testing.T, visit func(path, content string)) {
	t.Helper()
	written(t, func(path string) bool { return filepath.Ext(path) == ".md" }, visit)
}

// TestLinks checks that the links within the documents lead to files, and to headings, that exist.
func TestLinks(t *testing.T) {
	links := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	documents(t, func(path, content string) {
		for _, m := range links.FindAllStringSubmatch(content, -1) {
			target, heading, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, ":") {
				continue
			}
			to := path
			if target != "" {
				to = filepath.Join(filepath.Dir(path), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: %s: %v", path, m[1], err)
				continue
			}
			if text, _ := os.ReadFile(to); heading != "" && !slices.Contains(headings(string(text)), heading) {
				t.Errorf("%s: there is no heading #%s in %s", path, heading, to)
			}
		}
	})
}

// headings returns the headings of a document as links name them: in lower case, without punctuation, with a dash for each space.
func headings(text string) (all []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		heading := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		all = append(all, strings.ReplaceAll(heading, " ", "-"))
	}
	return all
}

// TestPaths checks that the files and folders of this module that the documents name exist.
func TestPaths(t *testing.T) {
	paths := regexp.MustCompile("`((?:auth|cmd|component|config|muc|pkg|testdata)/[\\w./-]+)`")
	documents(t, func(path, content string) {
		for _, m := range paths.FindAllStringSubmatch(content, -1) {
			if _, err := os.Stat(filepath.Join("..", "..", m[1])); err != nil {
				t.Errorf("%s names %s, which does not exist", path, m[1])
			}
		}
	})
}
