package prosody

import (
	"fmt"
	"testing/fstest"
)

// files returns a file system of these names and texts.
func files(pairs ...string) fstest.MapFS {
	tree := fstest.MapFS{}
	for i := 0; i < len(pairs); i += 2 {
		tree[pairs[i]] = &fstest.MapFile{Data: []byte(pairs[i+1])}
	}
	return tree
}

func read(tree fstest.MapFS) (*Configuration, error) {
	env := map[string]string{"DOMAIN": "meet.example.com", "CREDENTIALS_DIRECTORY": "/run/credentials"}
	return Read(Source{FS: tree, Names: []string{"etc/prosody/prosody.cfg.lua"}, Getenv: func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}})
}

func readText(text string) (*Configuration, error) {
	return read(files("etc/prosody/prosody.cfg.lua", text))
}

// lines returns all options, each as section/name=value at place.
func lines(c *Configuration) (found []string) {
	for _, s := range append([]*Section{c.Global}, c.Hosts...) {
		for _, o := range s.Options {
			found = append(found, fmt.Sprintf("%s/%s=%v at %s", s.Name, o.Name, o.Value, o.At))
		}
	}
	return found
}
