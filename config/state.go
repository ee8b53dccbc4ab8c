package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// StoreFile returns the absolute path of the store's file for a process with this environment (as of [os.Environ]); "" if the
// store is in memory. Where store.path names none, the file is named after usher's domain and lies in the folder for state:
// systemd's STATE_DIRECTORY (systemd.exec(5), StateDirectory=), else /var/lib/usher for root, else $XDG_STATE_HOME/usher, which is
// ~/.local/state/usher by default (XDG Base Directory Specification). The folder need not be there. It fails if no folder is known.
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
	if base := getenv("XDG_STATE_HOME"); filepath.IsAbs(base) { // a relative one is to be ignored
		return filepath.Join(base, "usher"), nil
	}
	if home := getenv("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "state", "usher"), nil
	}
	return "", errors.New("no folder for the store is known, for neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set: name a file, or memory")
}
