package prosodytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
)

var (
	sourceDir = regexp.MustCompile(`(?m)^CFG_SOURCEDIR='(.*)'`)
	luaName   = regexp.MustCompile(`\A#!\s*(?:/usr/bin/env\s+)?(\S+)`)
)

// Source returns the Lua program that runs Prosody and the folder of Prosody's own libraries, so that a test can call them
// without a server. Lua finds them with source+"/?.lua" in package.path and source+"/?.so" in package.cpath. Source finds
// Prosody, and skips the test without one, as [Start] does.
func Source(t TB) (lua, source string) {
	t.Helper()
	lua, source, err := findSource()
	mustHave(t, err)
	return lua, source
}

func findSource() (lua, source string, err error) {
	path, err := find("")
	if err != nil {
		return "", "", err
	}
	script, err := os.ReadFile(path)
	if err != nil {
		return "", "", err
	}
	dir, name := sourceDir.FindSubmatch(script), luaName.FindSubmatch(script)
	if dir == nil || name == nil {
		return "", "", fmt.Errorf("%s does not look like Prosody's start script", path)
	}
	if lua, err = exec.LookPath(string(name[1])); err != nil {
		return "", "", fmt.Errorf("%w: its Lua: %w", ErrNotFound, err)
	}
	source = string(dir[1])
	if _, err := os.Stat(source); err != nil {
		// A Prosody that was unpacked into another folder than it was built for has its libraries beside the script.
		source = filepath.Join(filepath.Dir(path), "..", "lib", "prosody")
	}
	return lua, source, nil
}
