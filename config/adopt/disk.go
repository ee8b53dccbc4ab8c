package adopt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// maxFile is the limit of a file that usher reads or writes here: one of them is usher itself.
const maxFile = 256 << 20

// content returns what is in a file; nil if it is not there.
func (r root) content(name string) ([]byte, error) {
	content, err := smallfile.Read(r.at(name), maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && content == nil {
		content = []byte{}
	}
	return content, err
}

// disk writes the files of an adoption.
type disk struct {
	root root
	// step, if not nil, is called before each change of the disk. If it returns an error, as if the process were killed there, nothing more is
	// written.
	step func() error
}

func (d disk) before() error {
	if d.step == nil {
		return nil
	}
	return d.step()
}

// partOf is the name of a file that is not yet complete.
func partOf(name string) string {
	return filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".usher-part")
}

// owner is who a file belongs to, and who may do what with it. -1 leaves the user or group as the system sets it.
type owner struct {
	mode     fs.FileMode
	uid, gid int
	at       time.Time // when it was changed last; zero for now
}

// ownerOf returns the owner of a file or folder.
func (r root) ownerOf(name string) (owner, error) {
	stat, err := os.Stat(r.at(name))
	if err != nil {
		return owner{}, err
	}
	o := owner{mode: stat.Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky), uid: -1, gid: -1, at: stat.ModTime()}
	if sys, ok := stat.Sys().(*syscall.Stat_t); ok {
		o.uid, o.gid = int(sys.Uid), int(sys.Gid)
	}
	return o, nil
}

// write writes a file whole or not at all, and to the disk before it returns.
func (d disk) write(name string, content []byte, o owner) error {
	if err := d.before(); err != nil {
		return err
	}
	part := d.root.at(partOf(name))
	_ = os.Remove(part) // of an earlier run, or a link that somebody has put there
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil && (o.uid >= 0 || o.gid >= 0) {
		err = f.Chown(o.uid, o.gid)
	}
	err = errors.Join(err, f.Chmod(o.mode), f.Sync(), f.Close())
	if err == nil && !o.at.IsZero() {
		err = os.Chtimes(part, o.at, o.at)
	}
	if err == nil {
		if err = d.before(); err != nil {
			return err // killed before the rename: the part is left
		}
		err = os.Rename(part, d.root.at(name))
	}
	if err != nil {
		_ = os.Remove(part)
		return err
	}
	return d.sync(filepath.Dir(name))
}

// sync writes the names in a folder to the disk.
func (d disk) sync(folder string) error {
	f, err := os.Open(d.root.at(folder))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// remove removes a file, if it is there.
func (d disk) remove(name string) error {
	if _, err := os.Lstat(d.root.at(name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := d.before(); err != nil {
		return err
	}
	if err := os.Remove(d.root.at(name)); err != nil {
		return err
	}
	return d.sync(filepath.Dir(name))
}

// mkdir makes a folder with an owner, or nothing if it is there. It appears with its owner and mode, never without.
func (d disk) mkdir(name string, o owner) error {
	if _, err := os.Stat(d.root.at(name)); err == nil {
		return nil
	}
	if err := d.before(); err != nil {
		return err
	}
	part := d.root.at(partOf(name))
	_ = os.Remove(part)
	if err := os.Mkdir(part, 0o700); err != nil {
		return err
	}
	if o.uid >= 0 || o.gid >= 0 {
		if err := os.Chown(part, o.uid, o.gid); err != nil {
			return err
		}
	}
	if err := os.Chmod(part, o.mode); err != nil {
		return err
	}
	if err := d.before(); err != nil {
		return err
	}
	if err := os.Rename(part, d.root.at(name)); err != nil {
		return err
	}
	return d.sync(filepath.Dir(name))
}

// lock keeps other adoptions of the same files away until unlock is called. Nothing is written for that.
func (d disk) lock(journal string) (unlock func(), err error) {
	folder := filepath.Dir(filepath.Dir(journal))
	f, err := hold(d.root.at(folder))
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("another \"usher adopt\" is changing these files: it has locked %s", folder)
	}
	return func() { _ = f.Close() }, err
}

// hold locks a folder until it is closed, or the process ends.
func hold(folder string) (*os.File, error) {
	f, err := os.Open(folder)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
