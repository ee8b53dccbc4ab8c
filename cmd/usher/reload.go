package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/portal/account"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// quiet is how long files must be unchanged before they are read again, because an editor writes in several steps.
const quiet = 250 * time.Millisecond

// reloader reads the configuration, and reads it again on SIGHUP and when one of its files changes. An invalid configuration
// changes nothing: the previous one stays in force as a whole.
type reloader struct {
	files   []string    // as named on the command line
	remote  *keys.Cache // keeps fetched keys across reloads
	watcher *fsnotify.Watcher

	watched []string        // all files and folders of the configuration
	paths   map[string]bool // their paths, and the links that lead there
	seen    [sha256.Size]byte
	blind   error // why some of them cannot be watched

	started *config.Config // what usher has begun with: keys that need a restart are in force as they stand there
	current *config.Config
	policy  auth.Policy                       // of current
	use     func(*config.Config, auth.Policy) // puts a configuration in force
	tell    func(error)                       // is told of each reload, and why it changed nothing
	level   zap.AtomicLevel
	log     *zap.Logger
}

// load reads the configuration. It misses no change, because files are watched, and their fingerprint is taken, before they are
// read. Reading shows which files belong to the configuration; if there is a new one, load reads everything again.
func (r *reloader) load() (*config.Config, auth.Policy, error) {
	for {
		r.watch()
		c, p, err := load(r.files, os.Environ(), r.remote)
		files := r.watched
		if problems, ok := errors.AsType[*config.Problems](err); ok {
			// The mistake may be corrected in a file that the configuration in force does not use.
			files = union(files, problems.Files)
		} else if err == nil {
			files = c.Files
		}
		if slices.Equal(files, r.watched) {
			return c, p, err
		}
		r.watched = files
	}
}

// watch watches the folders of the configuration's files, because files are replaced more often than written.
func (r *reloader) watch() {
	var failed []error
	add := func(folder string) {
		if err := r.watcher.Add(folder); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", folder, err))
		}
	}
	r.paths = make(map[string]bool)
	for _, file := range r.watched {
		for _, path := range trail(file) {
			r.paths[path] = true
			add(filepath.Dir(path))
			// A link's target is on the trail, too, and the watcher knows only one name for a folder, so Lstat and not Stat.
			if stat, err := os.Lstat(path); err == nil && stat.IsDir() {
				add(path)
			}
		}
	}
	r.blind = errors.Join(failed...)
	r.seen = fingerprint(r.watched)
}

// concerns reports whether a change of the path can change the configuration. Other files in the same folders cannot; the store,
// for example, writes several times a second.
func (r *reloader) concerns(path string) bool { return r.paths[path] || r.paths[filepath.Dir(path)] }

// trail returns each absolute path at which a change can change the content of a file or folder: all symbolic links on the way to
// it, and the path where they end.
func trail(path string) (all []string) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil // there is no working directory, so the file cannot be read, either
	}
	const separator = string(filepath.Separator)
	at, rest := separator, strings.Split(path, separator)
	for len(rest) > 0 {
		if len(all) == 40 { // Linux follows at most 40 links (path_resolution(7))
			return all
		}
		next := filepath.Join(at, rest[0])
		rest = rest[1:]
		target, err := os.Readlink(next)
		if err != nil {
			at = next
			continue
		}
		all = append(all, next)
		if filepath.IsAbs(target) {
			at = separator
		}
		rest = append(strings.Split(target, separator), rest...)
	}
	return append(all, at)
}

// run reloads until the context ends.
func (r *reloader) run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	still := time.NewTimer(0) // files may have changed already
	defer still.Stop()
	r.complain()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			r.reload("SIGHUP")
		case change, open := <-r.watcher.Events:
			if !open {
				return errors.New("watching the configuration files ended")
			}
			if r.concerns(change.Name) {
				still.Reset(quiet)
			}
		case err := <-r.watcher.Errors:
			r.blind = err
			r.complain()
		case <-still.C:
			if fingerprint(r.watched) != r.seen {
				r.reload("a file changed")
			}
		}
	}
}

// complain warns if some files cannot be watched.
func (r *reloader) complain() {
	if r.blind != nil {
		r.log.Warn("could not watch all configuration files: send SIGHUP after a change", zap.Error(r.blind))
	}
}

// fingerprint is a hash of the content of files and of the names in folders. It changes when they change, and only then.
func fingerprint(files []string) [sha256.Size]byte {
	sum := sha256.New()
	for _, file := range files {
		fmt.Fprintf(sum, "%q\n", file)
		if entries, err := os.ReadDir(file); err == nil {
			for _, e := range entries {
				fmt.Fprintf(sum, "%q\n", e.Name())
			}
			continue
		}
		content, err := smallfile.Read(file, config.MaxSize)
		fmt.Fprintln(sum, len(content), err)
		sum.Write(content)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// reload reads the configuration again, and applies everything that can change while usher runs.
func (r *reloader) reload(why string) {
	defer tellReload()()
	c, p, err := r.load()
	r.complain()
	r.tell(err)
	if err != nil {
		r.log.Error("invalid configuration; keeping the previous one", zap.String("because", why))
		for problem := range strings.Lines(err.Error()) {
			r.log.Error(strings.TrimSuffix(problem, "\n"))
		}
		r.reloadAlone()
		return
	}
	for _, key := range restarts(r.started, c) {
		r.log.Warn("a changed key needs a restart", zap.String("key", key))
	}
	announce(r.log, c, p)
	level, _ := zap.ParseAtomicLevel(c.Log.Level) // config has checked it
	r.level.SetLevel(level.Level())
	r.use(c, p)
	r.log.Info("the new configuration is in force", zap.String("because", why))
	r.current, r.policy = c, p
	r.remote.Sweep()
}

// reloadAlone puts the keys of the API and the accounts of the portal in force while something else in the configuration is wrong: somebody
// who removes a key, or disables an account, must not find out later that it has gone on to count. A file that is wrong changes nothing.
func (r *reloader) reloadAlone() {
	c := *r.current
	var files []string
	if all := r.newKeys(); all != nil {
		c.API.Keys, files = all, append(files, c.API.KeysFile)
	}
	if all := r.newUsers(); all != nil {
		c.Portal.Users, files = all, append(files, c.Portal.UsersFile)
	}
	if len(files) == 0 {
		return
	}
	r.current = &c
	r.use(r.current, r.policy)
	r.log.Warn("of the new configuration, only keys of the API and accounts are in force", zap.Strings("files", files))
}

// newKeys returns the keys of the API, if they have changed and can be read; otherwise nil.
func (r *reloader) newKeys() []config.APIKey {
	now := r.current.API
	if now.Listen == "" {
		return nil
	}
	_, all, err := readKeys(now.KeysFile)
	if err != nil || reflect.DeepEqual(all, now.Keys) || len(all)+len(now.Keys) == 0 {
		return nil
	}
	return slices.Concat([]config.APIKey{}, all) // none is not nil
}

// newUsers returns the accounts of the portal, if those of its file have changed and can be read; otherwise nil.
func (r *reloader) newUsers() []config.User {
	now := r.current.Portal
	if now.Listen == "" {
		return nil
	}
	content, err := smallfile.Read(now.UsersFile, config.MaxUsers)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	more, err := config.ParseUsers(now.UsersFile, content)
	if err != nil {
		return nil
	}
	all := []config.User{}
	for _, u := range now.Users {
		if !strings.HasPrefix(u.Source, now.UsersFile+":") {
			all = append(all, u)
		}
	}
	named := map[string]bool{}
	for _, u := range slices.Concat(all, more) {
		name, _ := account.Canonical(u.Name)
		if named[name] {
			return nil
		}
		named[name] = true
	}
	if all = append(all, more...); slices.EqualFunc(all, now.Users, func(a, b config.User) bool {
		a.Source, b.Source = "", ""
		return reflect.DeepEqual(a, b)
	}) {
		return nil
	}
	return all
}

// restarts returns the keys that differ between two configurations and cannot change while usher runs.
func restarts(old, new *config.Config) []string {
	var keys []string
	for _, k := range []struct {
		key  string
		same bool
	}{
		{"xmpp.server", old.XMPP.Server == new.XMPP.Server},
		{"xmpp.domain", old.XMPP.Domain.Equal(new.XMPP.Domain)},
		{"xmpp.secret", old.XMPP.Secret.Reveal() == new.XMPP.Secret.Reveal()},
		{"log.format", old.Log.Format == new.Log.Format},
		{"rooms.enforcement", old.Rooms.Enforcement == new.Rooms.Enforcement},
		{"rooms.guard_interval", old.Rooms.GuardInterval == new.Rooms.GuardInterval},
		{"rooms.wait_hold", old.Rooms.WaitHold == new.Rooms.WaitHold},
		{"rooms.wait_hold_jitsi", old.Rooms.WaitHoldJitsi == new.Rooms.WaitHoldJitsi},
		{"rooms.lobby", old.Rooms.Lobby.Equal(new.Rooms.Lobby)},
		{"jicofo.jid", old.Jicofo.JID.Equal(new.Jicofo.JID)},
		{"jicofo.forward_token", old.Jicofo.ForwardToken == new.Jicofo.ForwardToken},
		{"jicofo.enforce_roles", old.Jicofo.EnforceRoles == new.Jicofo.EnforceRoles},
		{"store.path", old.Store.Path == new.Store.Path && old.Store.Memory == new.Store.Memory},
		{"store.max_size", old.Store.MaxSize == new.Store.MaxSize},
		{"store.url", old.Store.URL.Reveal() == new.Store.URL.Reveal()},
		{"store.password_file", old.Store.Password.Reveal() == new.Store.Password.Reveal()},
		{"store.ca_file", bytes.Equal(old.Store.CA, new.Store.CA)},
		{"store.prefix", old.Store.Prefix == new.Store.Prefix},
		{"store.shard", old.Store.Shard == new.Store.Shard},
		{"admin.socket", old.AdminSocket == new.AdminSocket},
		{"ops.listen", old.Ops.Listen == new.Ops.Listen},
		{"ops.pprof", old.Ops.Pprof == new.Ops.Pprof},
		{"api.listen", old.API.Listen == new.API.Listen},
		{"api.rate", old.API.Rate == new.API.Rate},
		{"api.burst", old.API.Burst == new.API.Burst},
		{"api.public_url", old.API.PublicURL == new.API.PublicURL},
		{"api.meet_url", old.API.MeetURL == new.API.MeetURL},
		{"portal.listen", old.Portal.Listen == new.Portal.Listen},
		{"portal.public_url", old.Portal.PublicURL == new.Portal.PublicURL},
		{"portal.meet_urls", slices.Equal(old.Portal.MeetURLs, new.Portal.MeetURLs)},
		{"portal.tls_cert_file", old.Portal.CertFile == new.Portal.CertFile},
		{"portal.tls_key_file", old.Portal.KeyFile == new.Portal.KeyFile},
		{"portal.trusted_proxies", slices.Equal(old.Portal.Proxies, new.Portal.Proxies)},
		{"portal.token_ttl", old.Portal.TokenTTL == new.Portal.TokenTTL},
		{"portal.session", old.Portal.Session == new.Portal.Session && old.Portal.UntilHostLeft == new.Portal.UntilHostLeft},
		{"portal.users_url", old.Portal.UsersURL == new.Portal.UsersURL},
		{"portal.users_secret", old.Portal.UsersSecret.Reveal() == new.Portal.UsersSecret.Reveal()},
		{"portal.mirotalk_api", old.Portal.MiroTalkAPI == new.Portal.MiroTalkAPI},
		{"audit.to", old.Audit.To == new.Audit.To},
		{"audit.max_size", old.Audit.MaxSize == new.Audit.MaxSize},
		{"audit.max_age", old.Audit.MaxAge == new.Audit.MaxAge},
		{"audit.keep", old.Audit.Keep == new.Audit.Keep},
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// announce logs notes, warnings and the rules in words.
func announce(log *zap.Logger, c *config.Config, p auth.Policy) {
	for _, n := range c.Notes {
		log.Info(n.String())
	}
	for _, w := range c.Warnings {
		log.Warn(w.String())
	}
	for _, sentence := range words(c, p) {
		log.Info(sentence)
	}
}

// union returns the files of both lists, each once.
func union(a, b []string) []string {
	var all []string
	seen := map[string]bool{}
	for _, file := range slices.Concat(a, b) {
		if !seen[file] {
			seen[file] = true
			all = append(all, file)
		}
	}
	return all
}
