package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// inMemory is the store.path of a store that ends with the process. A file of that name is ./memory.
const inMemory = "memory"

// buildStore makes the Store.
func (l *loader) buildStore(r *raw) Store {
	if size := r.Store.MaxSize; l.given("store/max_size") && (size < 8*mib || size > 1024*gib) {
		l.fault("store/max_size", "is %s, but must be between 8MiB and 1024GiB", size)
	}
	switch r.Store.Path {
	case "":
		return Store{MaxSize: r.Store.MaxSize}
	case inMemory:
		l.warn("store/path", "memory: when usher ends, people show their tokens again. Requests of people who wait are refused, and not "+
			"held (rooms.wait_hold and wait_hold_jitsi have no effect). What was granted stays in rooms until usher sees them again")
		return Store{Memory: true, MaxSize: r.Store.MaxSize}
	}
	file := l.resolve(r.Store.Path)
	l.checkStore(file)
	return Store{Path: file, MaxSize: r.Store.MaxSize}
}

// checkStore records what is wrong with the file of the store.
func (l *loader) checkStore(file string) {
	folder := filepath.Dir(file)
	switch stat, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		l.fault("store/path", "the folder %s does not exist: make it, so that usher, and nobody else, can write there", folder)
		return
	case err != nil:
		l.fault("store/path", "the folder %s cannot be looked at: %s", folder, why(err))
		return
	case !stat.IsDir():
		l.fault("store/path", "%s is no folder", folder)
		return
	}
	switch stat, err := os.Stat(file); {
	case err == nil && stat.IsDir():
		l.fault("store/path", "%s is a folder: name a file in it", file)
	case err == nil && !stat.Mode().IsRegular():
		l.fault("store/path", "%s is not a regular file", file)
	case worldReadable(file):
		l.warn("store/path", "%s has the sessions of people in it, and everybody on this machine can read it: chmod 600 it", file)
	}
}

// StoreFile returns the absolute path of the store's file for a process with this environment (as of [os.Environ]); "" if the
// store is in memory. By default the file is named after usher's domain and lies in the folder for state: systemd's STATE_DIRECTORY
// (systemd.exec(5), StateDirectory=), else /var/lib/usher for root, else $XDG_STATE_HOME/usher, which is ~/.local/state/usher by
// default (XDG Base Directory Specification). The folder need not exist. It fails if no folder is known.
func (c *Config) StoreFile(environ []string) (string, error) {
	if c.Store.Memory {
		return "", nil
	}
	if c.Store.Path != "" {
		return filepath.Abs(c.Store.Path)
	}
	find := lookup(environ)
	getenv := func(name string) string { value, _ := find(name); return value }
	folder, err := stateFolder(getenv, os.Geteuid() == 0)
	if err != nil {
		return "", err
	}
	return filepath.Abs(filepath.Join(folder, c.XMPP.Domain.String()+".db"))
}

func stateFolder(getenv func(string) string, root bool) (string, error) {
	// systemd lists several folders with colons between them, in the order of the unit.
	if folder, _, _ := strings.Cut(getenv("STATE_DIRECTORY"), ":"); folder != "" {
		return folder, nil
	}
	if root {
		return "/var/lib/usher", nil
	}
	if base := getenv("XDG_STATE_HOME"); filepath.IsAbs(base) { // a relative one must be ignored
		return filepath.Join(base, "usher"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "usher"), nil
	}
	return "", errors.New("no folder for the store is known, because neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set: name a file in store.path, or memory")
}
