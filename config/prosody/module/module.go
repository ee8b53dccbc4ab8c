// Package module has the one module that usher has for Prosody, mod_usher, as files to be written where Prosody finds them. README.md
// has its options and the stanzas that it exchanges with usher.
//
// usher needs no module if rooms are members-only for life. If Jitsi's lobby is in use, members-only is the switch of the lobby, and
// belongs to the moderators. The module keeps out people without an affiliation while it is off. It also tells usher what happens in
// rooms, so that usher need not ask, and puts the features of tokens where Jitsi's plugins read them.
package module

import (
	"bytes"
	_ "embed" // the files of the module
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// Name is the module's name in modules_enabled. Alias is the name that it had before, which still loads it.
const (
	Name  = gate.Module
	Alias = gate.ModuleAlias
)

// Version is the version of what the module and usher say to each other: an attribute of <listening/> and <hello/>.
const Version = "1"

// Source is the module, for Prosody 0.12 and 13, and AliasSource is the module of the old name, which loads it.
var (
	//go:embed mod_usher.lua
	Source []byte
	//go:embed mod_muc_affiliated_only.lua
	AliasSource []byte
)

// File is a file of the module.
type File struct {
	Name   string // without a folder
	Source []byte
}

// Files returns what Write writes, the module itself first.
func Files() []File {
	return []File{{"mod_" + Name + ".lua", Source}, {"mod_" + Alias + ".lua", AliasSource}}
}

// Write writes the module and its alias into a folder, which it makes if needed, and returns the name of the module's file. It
// replaces a file only if that is usher's, in any version. If one is not, it writes neither. A file is complete or not there at all,
// because Prosody may read it at any time.
func Write(folder string) (string, error) {
	if err := makeFolder(folder); err != nil {
		return "", err
	}
	files := Files()
	for _, f := range files {
		if _, err := f.isIn(folder); err != nil {
			return "", err
		}
	}
	for _, f := range files {
		if err := f.write(folder); err != nil {
			return "", err
		}
	}
	return filepath.Join(folder, files[0].Name), nil
}

// IsOurs reports whether a content is that of the module's file of a name, without a folder, in any version.
func IsOurs(name string, content []byte) bool {
	return slices.ContainsFunc(Files(), func(f File) bool { return f.Name == name }) &&
		bytes.HasPrefix(content, []byte("-- "+strings.TrimSuffix(name, ".lua")+", which comes with usher:")) // begins it in every version
}

// isIn reports whether the file is in the folder as it must be. It is an error if a file of that name is not usher's.
func (f File) isIn(folder string) (bool, error) {
	name := filepath.Join(folder, f.Name)
	there, err := smallfile.Read(name, 1<<20)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !IsOurs(f.Name, there):
		return false, fmt.Errorf("%s exists and is not usher's: name another folder, or move it away", name)
	}
	return bytes.Equal(there, f.Source), nil
}

func (f File) write(folder string) error {
	if is, err := f.isIn(folder); is || err != nil {
		return err
	}
	part, err := os.CreateTemp(folder, "."+f.Name+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name()) // it has its new name if all went well
	_, err = part.Write(f.Source)
	err = errors.Join(err, part.Chmod(0o644), part.Close()) // Prosody is another user
	if err == nil {
		err = os.Rename(part.Name(), filepath.Join(folder, f.Name))
	}
	return err
}

// makeFolder makes a folder and those above it, readable for everybody in spite of the umask, because Prosody is another user.
func makeFolder(folder string) error {
	if stat, err := os.Stat(folder); err == nil && stat.IsDir() {
		return nil
	}
	if above := filepath.Dir(folder); above != folder {
		if err := makeFolder(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return err
	}
	return os.Chmod(folder, 0o755)
}
