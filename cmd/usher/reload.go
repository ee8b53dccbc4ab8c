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
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/config"
)

// quiet is how long files must have been left alone before they are read again: an editor writes in several steps.
const quiet = 250 * time.Millisecond

// reloader reads the configuration again on SIGHUP and when one of its files changes. A configuration that is not valid
// changes nothing: the one before stays in force as a whole.
type reloader struct {
	files   []string    // as named on the command line
	remote  *keys.Cache // keeps what key servers said across reloads
	current *config.Config
	usher   *component.Component
	level   zap.AtomicLevel
	log     *zap.Logger
}

// run reloads until the context ends.
func (r *reloader) run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watching the configuration files: %w", err)
	}
	defer watcher.Close()
	seen := r.watch(watcher)

	still := time.NewTimer(0)
	<-still.C
	defer still.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hangup:
			seen = r.again("SIGHUP", watcher)
		case _, open := <-watcher.Events:
			if !open {
				return errors.New("watching the configuration files ended")
			}
			still.Reset(quiet)
		case err := <-watcher.Errors:
			r.log.Warn("the configuration files cannot be watched as they should: after a change, send SIGHUP", zap.Error(err))
		case <-still.C:
			if now := fingerprint(r.current.Files); now != seen {
				seen = r.again("a file changed", watcher)
			}
		}
	}
}

// again reloads, and returns the fingerprint of what it read: taken before, so that a file which changes meanwhile is read
// once more.
func (r *reloader) again(why string, watcher *fsnotify.Watcher) [sha256.Size]byte {
	files := r.current.Files
	before := fingerprint(files)
	r.reload(why)
	if after := r.watch(watcher); !slices.Equal(files, r.current.Files) {
		return after
	}
	return before
}

// watch watches the folders of all files of the configuration, for files are replaced more often than written, and
// returns their fingerprint.
func (r *reloader) watch(watcher *fsnotify.Watcher) [sha256.Size]byte {
	seen := fingerprint(r.current.Files)
	for _, file := range r.current.Files {
		folder := filepath.Dir(file)
		if stat, err := os.Stat(file); err == nil && stat.IsDir() {
			folder = file
		}
		if err := watcher.Add(folder); err != nil {
			r.log.Warn("a folder of the configuration cannot be watched: after a change, send SIGHUP",
				zap.String("folder", folder), zap.Error(err))
		}
	}
	return seen
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
		content, err := os.ReadFile(file)
		fmt.Fprintln(sum, len(content), err)
		sum.Write(content)
	}
	return [sha256.Size]byte(sum.Sum(nil))
}

// reload reads the configuration and uses what can change while usher runs.
func (r *reloader) reload(why string) {
	c, p, err := load(r.files, os.Environ(), r.remote)
	if err != nil {
		r.log.Error("the configuration has problems, so nothing of it is used; the one before stays", zap.String("because", why))
		for problem := range strings.Lines(err.Error()) {
			r.log.Error(strings.TrimSuffix(problem, "\n"))
		}
		// What was faulty may be mended in a file that the one before does not have.
		if problems, ok := errors.AsType[*config.Problems](err); ok {
			r.current.Files = union(r.current.Files, problems.Files)
		}
		return
	}
	for _, key := range restarts(r.current, c) {
		r.log.Warn("a changed key takes effect only when usher is restarted", zap.String("key", key))
	}
	announce(r.log, c, p)
	level, _ := zap.ParseAtomicLevel(c.Log.Level) // config has checked it
	r.level.SetLevel(level.Level())
	r.usher.Use(auth.New(p), c.Rooms.Services)
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
	for _, file := range b {
		if !slices.Contains(a, file) {
			a = append(a, file)
		}
	}
	return a
}
