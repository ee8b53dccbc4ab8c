package adopt

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/config/prosody/module"
)

// journal says what an adoption has changed, so that it can be put back. It is written before the first change, and has no content of
// files: only what tells their versions apart.
type journal struct {
	// Applied reports that the last Apply has ended. Otherwise it was interrupted, or an Undo was, and each file is as it was or as it
	// was to be.
	Applied bool `json:"applied"`
	// Folders are those that Apply has made, the outer ones first.
	Folders []string `json:"folders"`
	Files   []*entry `json:"files"`
}

// entry is a file of a journal.
type entry struct {
	File string `json:"file"`
	// Before is the version at the beginning, as of digest; empty if the file was not there. Backup has its content.
	Before string `json:"before"`
	Backup string `json:"backup,omitempty"`
	// Wrote are the versions that Apply has written, or was about to write; empty for a file that it removes.
	Wrote []string `json:"wrote"`
	// Edited are backups of versions that somebody else has made between two runs.
	Edited []string `json:"edited,omitempty"`
}

// digest returns what tells the versions of a file apart; empty for a file that is not there.
func digest(content []byte) string {
	if content == nil {
		return ""
	}
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

// readJournal returns the journal of a file, or nil if there is none.
func readJournal(r root, file string) (*journal, error) {
	content, err := r.content(file)
	if content == nil || err != nil {
		return nil, err
	}
	j := new(journal)
	if err := json.Unmarshal(content, j); err != nil {
		return nil, fmt.Errorf("%s, in which \"usher adopt\" keeps what it has changed, cannot be read: %w", file, err)
	}
	return j, nil
}

// save writes the journal. The folder of the very first journal appears together with it, so that a folder without one is never usher's.
func (d disk) save(j *journal, file string, o owner) error {
	content, err := json.MarshalIndent(j, "", "  ")
	if err != nil {
		return err
	}
	content = append(content, '\n')
	folder := filepath.Dir(file)
	if _, err := os.Stat(d.root.at(folder)); err == nil {
		o.mode = 0o600
		return d.write(file, content, o)
	}
	part := partOf(folder)
	if err := errors.Join(d.before(), os.RemoveAll(d.root.at(part)), os.Mkdir(d.root.at(part), 0o700)); err != nil {
		return err
	}
	inside := o
	inside.mode = 0o600
	if err := d.write(filepath.Join(part, filepath.Base(file)), content, inside); err != nil {
		return err
	}
	if o.uid >= 0 || o.gid >= 0 {
		if err := os.Chown(d.root.at(part), o.uid, o.gid); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod(d.root.at(part), o.mode), d.before()); err != nil {
		return err
	}
	if err := os.Rename(d.root.at(part), d.root.at(folder)); err != nil {
		return err
	}
	return d.sync(filepath.Dir(folder))
}

// of returns the entry of a file, or nil.
func (j *journal) of(file string) *entry {
	i := slices.IndexFunc(j.Files, func(e *entry) bool { return e.File == file })
	if i < 0 {
		return nil
	}
	return j.Files[i]
}

// record notes a change that is about to be made. It returns the name of a backup that must be made of the content before, or "".
func (d disk) record(j *journal, c Change, backup string) (string, error) {
	old, e := digest(c.Old), j.of(c.File)
	if e == nil {
		e = &entry{File: c.File, Before: old}
		j.Files = append(j.Files, e)
	}
	known := slices.Contains(e.Wrote, old) || e.renewed(c.Old)
	if untouched, err := d.untouched(j, e, old); err != nil {
		return "", err
	} else if untouched {
		e.Before, e.Wrote = old, nil
	}
	e.Wrote = append(slices.DeleteFunc(e.Wrote, func(w string) bool { return w == digest(c.New) }), digest(c.New))
	switch {
	case old == e.Before && old != "":
		e.Backup = either(e.Backup, backup)
		return e.Backup, nil
	case old == e.Before, known:
		return "", nil
	}
	e.Edited = append(e.Edited, backup)
	return backup, nil
}

// untouched reports whether somebody has edited a file that was to be changed, but never was, or that was put back already: an Apply or
// an Undo was interrupted, and there is no backup. now is the version that the file has.
func (d disk) untouched(j *journal, e *entry, now string) (bool, error) {
	if j.Applied || e.Before == "" || now == e.Before || slices.Contains(e.Wrote, now) || len(e.Edited) > 0 {
		return false, nil
	}
	backup, err := d.root.content(e.Backup)
	return backup == nil, err
}

// renewed reports whether a content of a file that was not there before is usher's module, in any version: a package or a command of usher
// has renewed it, and nobody's work is lost with it.
func (e *entry) renewed(content []byte) bool {
	return e.Before == "" && module.IsOurs(filepath.Base(e.File), content)
}

// Undoable is the error of [Undo] where files are no longer as Apply has left them. Nothing was changed then.
type Undoable struct {
	// Files are these files, each with what to do about it.
	Files []string
}

// Error implements error.
func (u *Undoable) Error() string {
	return "these files have changed since, so nothing was put back:\n" + strings.Join(u.Files, "\n") + "\nAfter that, run --undo again."
}

// undo puts everything back. It can be interrupted and called again.
func (d disk) undo(j *journal, file string) error {
	var changed []string
	var restore []*entry
	for _, e := range slices.Backward(j.Files) {
		does, hint, err := d.look(j, e)
		switch {
		case err != nil:
			return err
		case hint != "":
			changed = append(changed, hint)
		case does:
			restore = append(restore, e)
		}
	}
	if len(changed) > 0 {
		return &Undoable{changed}
	}
	j.Applied = false
	o, err := d.root.ownerOf(file)
	if err != nil {
		return err
	}
	if err := d.save(j, file, owner{uid: o.uid, gid: o.gid}); err != nil {
		return err
	}
	for _, e := range restore {
		if err := d.putBack(e); err != nil {
			return err
		}
	}
	return d.clear(j, file)
}

// look reports whether a file has to be put back. hint says what is to be done by hand, if it cannot be.
func (d disk) look(j *journal, e *entry) (does bool, hint string, err error) {
	content, err := d.root.content(e.File)
	if err != nil {
		return false, "", err
	}
	now := digest(content)
	if untouched, err := d.untouched(j, e, now); now == e.Before || untouched || err != nil {
		return false, "", err
	}
	edited := strings.Join(e.Edited, ", ")
	switch {
	case edited != "" && e.Before == "":
		return false, fmt.Sprintf("  %s: usher made it, somebody edited it (%s), and usher wrote it again. Move it away (mv), because it was not there "+
			"before", e.File, edited), nil
	// If it is none of usher's versions, it is somebody's work, and perhaps the only copy: the backup may never have been made.
	case edited != "" && slices.Contains(e.Wrote, now):
		return false, fmt.Sprintf("  %s: somebody edited it after usher (%s has that), and usher changed it again. Put the original back: cp -p %s %s",
			e.File, edited, e.Backup, e.File), nil
	case e.renewed(content):
		return true, "", nil
	case !slices.Contains(e.Wrote, now) && e.Before == "":
		return false, fmt.Sprintf("  %s: usher made it, and somebody has edited it since. Move it away (mv), because it was not there before", e.File), nil
	case !slices.Contains(e.Wrote, now):
		return false, fmt.Sprintf("  %s: somebody has edited it since. Keep a copy of it, and put the original back: cp -p %s %s", e.File, e.Backup, e.File), nil
	case e.Before == "":
		return true, "", nil
	}
	backup, err := d.root.content(e.Backup)
	if err == nil && digest(backup) != e.Before {
		hint = fmt.Sprintf("  %s: its backup %s is gone, or is not what it was. Put the original back by hand", e.File, e.Backup)
	}
	return true, hint, err
}

func either(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// putBack makes a file what it was before.
func (d disk) putBack(e *entry) error {
	if e.Before == "" {
		return d.remove(e.File)
	}
	if err := errors.Join(d.before(), os.MkdirAll(d.root.at(filepath.Dir(e.File)), 0o755)); err != nil {
		return err
	}
	if err := os.Rename(d.root.at(e.Backup), d.root.at(e.File)); err != nil {
		return err
	}
	return d.sync(filepath.Dir(e.File))
}

// clear removes what is left of an adoption when all files are as before: backups, incomplete files, folders if they are empty, and
// the journal, which goes last.
func (d disk) clear(j *journal, file string) error {
	for _, e := range j.Files {
		names := []string{partOf(e.File)}
		if e.Backup != "" {
			names = append(names, e.Backup, partOf(e.Backup))
		}
		for _, edited := range e.Edited { // itself it stays: it is somebody's work
			names = append(names, partOf(edited))
		}
		for _, name := range names {
			if err := d.remove(name); err != nil {
				return err
			}
		}
	}
	for _, folder := range slices.Backward(j.Folders) {
		if err := d.rmdir(partOf(folder)); err != nil {
			return err
		}
		if folder == filepath.Dir(file) {
			continue
		}
		if err := d.rmdir(folder); err != nil {
			return err
		}
	}
	return d.end(j, file)
}

// rmdir removes a folder if it is there and empty.
func (d disk) rmdir(name string) error {
	entries, err := os.ReadDir(d.root.at(name))
	if err != nil || len(entries) > 0 {
		return nil
	}
	return d.remove(name)
}

// end removes the journal, and its folder with it if Apply has made that and nothing else is in it.
func (d disk) end(j *journal, file string) error {
	folder := filepath.Dir(file)
	entries, err := os.ReadDir(d.root.at(folder))
	if err != nil {
		return err
	}
	if !slices.Contains(j.Folders, folder) || len(entries) > 1 {
		return d.remove(file)
	}
	if err := d.before(); err != nil {
		return err
	}
	// In one step: otherwise a folder without a journal could be left, of which nobody knows that it is usher's.
	part := partOf(folder)
	if err := os.Rename(d.root.at(folder), d.root.at(part)); err != nil {
		return err
	}
	return d.sweep(file)
}

// sweep removes what is left where a journal was being made, or removed.
func (d disk) sweep(file string) error {
	if err := d.remove(partOf(file)); err != nil {
		return err
	}
	part := partOf(filepath.Dir(file))
	if _, err := os.Stat(d.root.at(part)); err != nil {
		return nil
	}
	if err := d.before(); err != nil {
		return err
	}
	return os.RemoveAll(d.root.at(part))
}
