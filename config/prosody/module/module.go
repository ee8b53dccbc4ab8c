// Package module has the one module that usher has for Prosody, mod_muc_affiliated_only, as a file to be written where
// Prosody finds it.
//
// usher needs no module if rooms are members-only for life. If Jitsi's lobby is in use, members-only is the switch of the lobby, and
// belongs to the moderators. The module keeps out people without an affiliation while it is off.
package module

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/pkg/smallfile"
)

// Name is the module's name in modules_enabled.
const Name = gate.Module

// Source is the module, for Prosody 0.12 and 13.
//
//go:embed mod_muc_affiliated_only.lua
var Source []byte

// mark begins the file in every version of it.
var mark = []byte("-- mod_" + Name + ", which comes with usher:")

// Write writes the module into a folder, which it makes if needed, and returns the name of the file. It replaces a file of that name
// only if that is the module, in any version. The file is complete or not there at all, because Prosody may read it at any time.
func Write(folder string) (string, error) {
	if err := makeFolder(folder); err != nil {
		return "", err
	}
	file := filepath.Join(folder, "mod_"+Name+".lua")
	switch there, err := smallfile.Read(file, 1<<20); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	case bytes.Equal(there, Source):
		return file, nil
	case !bytes.HasPrefix(there, mark):
		return "", fmt.Errorf("%s exists and is not usher's: name another folder, or move it away", file)
	}
	part, err := os.CreateTemp(folder, ".mod_"+Name+"-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(part.Name()) // it has its new name if all went well
	_, err = part.Write(Source)
	err = errors.Join(err, part.Chmod(0o644), part.Close()) // Prosody is another user
	if err == nil {
		err = os.Rename(part.Name(), file)
	}
	if err != nil {
		return "", err
	}
	return file, nil
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
