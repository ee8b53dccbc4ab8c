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

// documents calls visit with each Markdown file of the module.
func documents(t *testing.T, visit func(path, content string)) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(unwritten, d.Name()):
			return fs.SkipDir
		case filepath.Ext(path) != ".md":
			return nil
		}
		content, err := os.ReadFile(path)
		visit(path, string(content))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
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
