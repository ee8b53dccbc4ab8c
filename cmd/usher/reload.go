package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// quiet is how long files must have been left alone before they are read again: an editor writes in several steps.
const quiet = 250 * time.Millisecond

// reloader reads the configuration, and reads it again on SIGHUP and when one of its files changes. A configuration that is
// not valid changes nothing: the one before stays in force as a whole.
type reloader struct {
	files   []string    // as named on the command line
	remote  *keys.Cache // keeps what key servers said across reloads
	watcher *fsnotify.Watcher

	watched []string        // all files and folders that the configuration consists of
	paths   map[string]bool // where they are, and the links to there
	seen    [sha256.Size]byte
	blind   error // what of them cannot be watched

	current *config.Config
	usher   *component.Component
	store   store.Store
	level   zap.AtomicLevel
	log     *zap.Logger
}

// load reads the configuration. No change of its files goes unnoticed, for they are watched, and their fingerprint is
// taken, before they are read. Which files there are shows by reading only, so a new one has all read once more.
func (r *reloader) load() (*config.Config, auth.Policy, error) {
	for {
		r.watch()
		c, p, err := load(r.files, os.Environ(), r.remote)
		files := r.watched
		if problems, ok := errors.AsType[*config.Problems](err); ok {
			// What is faulty may be mended in a file that the configuration in force does not have.
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

// watch watches the folders in which the files of the configuration lie, for files are replaced more often than written.
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
			// Not what a link leads to: that is on the trail, too, and the watcher has one name for a folder.
			if stat, err := os.Lstat(path); err == nil && stat.IsDir() {
				add(path)
			}
		}
	}
	r.blind = errors.Join(failed...)
	r.seen = fingerprint(r.watched)
}

// concerns tells whether a change of the path may change the configuration. Other files in the same folders do not: the store
// writes several times a second.
func (r *reloader) concerns(path string) bool { return r.paths[path] || r.paths[filepath.Dir(path)] }

// trail returns the absolute paths whose change may change the content of a file or folder: each symbolic link on the way to it, and
// where they end.
func trail(path string) (all []string) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil // there is no working directory, so nothing could be read, either
	}
	const separator = string(filepath.Separator)
	at, rest := separator, strings.Split(path, separator)
	for len(rest) > 0 {
		if len(all) == 40 { // Linux follows no more (path_resolution(7))
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
	still := time.NewTimer(0) // there may have been changes already
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

// complain logs what cannot be watched.
func (r *reloader) complain() {
	if r.blind != nil {
		r.log.Warn("the configuration files cannot be watched as they should: after a change, send SIGHUP", zap.Error(r.blind))
	}
}

// fingerprint tells whether the content of files, or the names in folders, have changed. What else happens in their
// folders is of no concern.
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

// reload reads the configuration and uses what can change while usher runs.
func (r *reloader) reload(why string) {
	c, p, err := r.load()
	r.complain()
	if err != nil {
		r.log.Error("the configuration has problems, so nothing of it is used; the one before stays", zap.String("because", why))
		for problem := range strings.Lines(err.Error()) {
			r.log.Error(strings.TrimSuffix(problem, "\n"))
		}
		return
	}
	for _, key := range restarts(r.current, c) {
		r.log.Warn("a changed key takes effect only when usher is restarted", zap.String("key", key))
	}
	announce(r.log, c, p)
	level, _ := zap.ParseAtomicLevel(c.Log.Level) // config has checked it
	r.level.SetLevel(level.Level())
	r.usher.Use(authorizer(c, p, r.store), c.Rooms.Services)
	r.log.Info("the configuration was read again and is in force", zap.String("because", why))
	r.current = c
	r.remote.Sweep()
}

// restarts returns the keys in which two configurations differ and which cannot change while usher runs.
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
	} {
		if !k.same {
			keys = append(keys, k.key)
		}
	}
	return keys
}

// announce logs what a configuration means.
func announce(log *zap.Logger, c *config.Config, p auth.Policy) {
	for _, n := range c.Notes {
		log.Info(n.String())
	}
	for _, w := range c.Warnings {
		log.Warn(w.String())
	}
	for _, sentence := range p.Words() {
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
