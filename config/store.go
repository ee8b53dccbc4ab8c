package config

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// inMemory is the store.path of a store that ends with the process. A file of that name is ./memory.
const inMemory = "memory"

// buildStore makes the Store.
func (l *loader) buildStore(r *raw) Store {
	l.contradict("store/path", "store/url")
	if l.given("store/url") {
		if !l.garbled {
			l.idle("has no effect with store.url, because the Redis has limits of its own: take it out", "store/max_size")
		}
		return l.buildShared(r)
	}
	if !l.garbled {
		l.idle("has no effect without store.url: take it out, or name the Redis there", "store/password_file", "store/ca_file", "store/prefix", "store/shard")
	}
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
	l.checkFile("store/path", file, "the sessions of people")
	return Store{Path: file, MaxSize: r.Store.MaxSize}
}

// buildShared makes the Store that several ushers share.
func (l *loader) buildShared(r *raw) Store {
	s := Store{URL: NewSecret(r.Store.URL), Prefix: r.Store.Prefix}
	if strings.Trim(s.Prefix, plainNames) != "" || s.Prefix == "" {
		l.fault("store/prefix", "%q is no prefix: write letters, digits, dots, dashes and underscores", s.Prefix)
	}
	if s.Shard = r.Store.Shard; strings.Trim(s.Shard, plainNames) != "" {
		l.fault("store/shard", "%q is no name of a shard: write letters, digits, dots, dashes and underscores", s.Shard)
	}
	// The parser's own error quotes the address, which may have a password in it.
	u, err := url.Parse(r.Store.URL)
	switch {
	case err == nil && splitPassword(u):
		l.fault("store/url", "has a # or an @ where none can be: in a password, write %% and two hexadecimal digits for characters other than "+
			"letters and digits")
		u = &url.URL{}
	case err == nil && (u.Scheme == "redis" || u.Scheme == "rediss") && u.Host != "":
	case err == nil && u.Scheme == "unix" && u.Path != "":
	default:
		l.fault("store/url", "is no address of a Redis: write it like rediss://redis.example.com:6379/0, redis:// without TLS, or "+
			"unix:///path/to/socket (in a password, write %% and two hexadecimal digits for characters other than letters and digits)")
		u = &url.URL{}
	}
	within := passwords(u)
	for _, password := range within {
		l.secret("store/url", password, 0)
	}
	for _, address := range slices.Concat([]string{u.Host}, u.Query()["addr"]) {
		if host := hostOf(address); u.Scheme == "redis" && host != "" && !nearby(host) {
			l.warn("store/url", "%s may be beyond this machine and its private network, but redis:// is not encrypted: somebody who listens "+
				"there reads sessions, and can admit people. Write rediss://", host)
		}
	}
	if file := "store/password_file"; l.given(file) {
		// In front of a Sentinel stands the user of the sentinels, and the file has the password of the Redis.
		if _, has := u.User.Password(); has && !u.Query().Has("master_name") {
			l.fault(file, "contradicts the password in store.url (%s): keep one of them", l.place("store/url").source)
		}
		s.Password = l.secretFile(file, r.Store.PasswordFile, 0)
	}
	if file := "store/ca_file"; l.given(file) {
		if u.Scheme != "rediss" && !l.faulty["store/url"] {
			l.fault(file, "has no effect without TLS: write rediss:// in store.url, or take it out")
		}
		var ok bool
		if s.CA, _, ok = l.readNamed(file, r.Store.CAFile, maxKeys); ok && !x509.NewCertPool().AppendCertsFromPEM(s.CA) {
			l.fault(file, "has no certificate in it: it must contain -----BEGIN CERTIFICATE-----")
		}
	}
	return s
}

// splitPassword reports whether an address seems to end in the middle of a password, at a slash, question mark or number sign there. Then
// the rest of the password is in a part that people see.
func splitPassword(u *url.URL) bool {
	return u.Fragment != "" || u.Scheme != "unix" && strings.Contains(u.Path, "@") || u.User == nil && strings.Contains(u.RawQuery, "@")
}

// plainNames are the characters of a prefix and of the name of a shard. Braces would choose another node of a cluster (redis.io, Cluster specification, hash tags).
const plainNames = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"

// hostOf returns the host of an address with or without port.
func hostOf(address string) string {
	if host, _, err := net.SplitHostPort(address); err == nil {
		return host
	}
	return strings.Trim(address, "[]")
}

// passwords returns the passwords in the address of a Redis: that of the Redis, and those of its sentinels and others, which are options.
func passwords(u *url.URL) (all []string) {
	if password, has := u.User.Password(); has {
		all = append(all, password)
	}
	for name, values := range u.Query() {
		if strings.Contains(strings.ToLower(name), "password") {
			all = append(all, values...)
		}
	}
	return all
}

// withoutPassword returns the address of a Redis for people to read, with its passwords masked.
func withoutPassword(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Opaque != "" {
		return masked
	}
	if len(passwords(u)) == 0 {
		return address
	}
	if _, has := u.User.Password(); has {
		u.User = url.UserPassword(u.User.Username(), "")
	}
	query := u.Query()
	for name := range query {
		if strings.Contains(strings.ToLower(name), "password") {
			query[name] = []string{masked}
		}
	}
	u.RawQuery = strings.ReplaceAll(query.Encode(), url.QueryEscape(masked), masked)
	return strings.Replace(u.String(), ":@", ":"+masked+"@", 1)
}

// InWords returns the address of the Redis that several ushers share, without its passwords.
func (s Store) InWords() string { return withoutPassword(s.URL.Reveal()) }

// checkFile records what is wrong with a file at a path that usher writes. What it holds nobody else may read.
func (l *loader) checkFile(at, file, holds string) {
	folder := filepath.Dir(file)
	switch stat, err := os.Stat(folder); {
	case errors.Is(err, fs.ErrNotExist):
		l.fault(at, "the folder %s does not exist: make it, so that usher, and nobody else, can write there", folder)
		return
	case err != nil:
		l.fault(at, "the folder %s cannot be looked at: %s", folder, why(err))
		return
	case !stat.IsDir():
		l.fault(at, "%s is no folder", folder)
		return
	}
	switch stat, err := os.Stat(file); {
	case err == nil && stat.IsDir():
		l.fault(at, "%s is a folder: name a file in it", file)
	case err == nil && !stat.Mode().IsRegular():
		l.fault(at, "%s is not a regular file", file)
	case worldReadable(file):
		l.warn(at, "%s has %s in it, and everybody on this machine can read it: chmod 600 it", file, holds)
	}
}

// StoreFile returns the absolute path of the store's file for a process with this environment (as of [os.Environ]); "" if the
// store is in memory, or shared. By default the file is named after usher's domain and lies in the folder for state: systemd's STATE_DIRECTORY
// (systemd.exec(5), StateDirectory=), else /var/lib/usher for root, else $XDG_STATE_HOME/usher, which is ~/.local/state/usher by
// default (XDG Base Directory Specification). The folder need not exist. It fails if no folder is known.
func (c *Config) StoreFile(environ []string) (string, error) {
	if c.Store.Memory || c.Store.Shared() {
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

// buildSocket returns the path of the socket for usher's commands, or "".
func (l *loader) buildSocket(r *raw) string {
	const at = "admin/socket"
	if !l.given(at) {
		return ""
	}
	if r.Admin.Socket == "" {
		l.fault(at, "is empty: name a file in a folder that exists, such as /run/usher/usher.sock")
		return ""
	}
	return l.checkSocket(at, r.Admin.Socket)
}

// longestSocket is how many bytes the name of a socket can have (unix(7), sun_path with its last zero).
const longestSocket = 107

// Socket returns the path of the socket by which usher's commands talk to the running usher, for a process with this environment (as of
// [os.Environ]): admin.socket, or usher.sock in systemd's RUNTIME_DIRECTORY (systemd.exec(5), RuntimeDirectory=); "" if neither is set.
func (c *Config) Socket(environ []string) string {
	if c.AdminSocket != "" {
		return c.AdminSocket
	}
	folders, _ := lookup(environ)("RUNTIME_DIRECTORY")
	if folder, _, _ := strings.Cut(folders, ":"); folder != "" {
		return filepath.Join(folder, "usher.sock")
	}
	return ""
}
