package smallfile_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/xmpp-usher/usher/pkg/smallfile"
)

func TestRead(t *testing.T) {
	folder := t.TempDir()
	at := func(name string) string { return filepath.Join(folder, name) }
	put := func(name, content string) {
		if err := os.WriteFile(at(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("empty", "")
	put("full", strings.Repeat("x", 1<<10))
	put("long", strings.Repeat("x", 1<<10+1))
	if err := errors.Join(os.Symlink("full", at("link")), os.Symlink("/dev/zero", at("endless")), os.Symlink("nothing", at("dangling")),
		os.Symlink("loop", at("loop")), syscall.Mkfifo(at("pipe"), 0o600)); err != nil {
		t.Fatal(err)
	}
	// Sparse: as long as a disk, and without a byte on it.
	put("huge", "")
	if err := os.Truncate(at("huge"), 1<<40); err != nil {
		t.Log(err)
	}
	socket, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	const tooLong = "it has more than 1 kB, the most that usher reads of such a file"
	for name, want := range map[string]string{
		"empty": "", "full": "", "link": "", "/proc/self/status": "",
		"long": tooLong, "huge": tooLong,
		"pipe": "it is a pipe, which can be read only once: write it to a file and name that", "socket": "it is a socket, not a file",
		".": "it is a folder, not a file", "/dev/zero": "it is a device, not a file", "endless": "it is a device, not a file",
		"dangling": "no such file or directory", "nothing": "no such file or directory", "loop": "too many levels of symbolic links",
	} {
		path, most := name, 1<<20
		if !strings.HasPrefix(name, "/") {
			path, most = at(name), 1<<10
		}
		content, err := smallfile.Read(path, most)
		if want == "" {
			if err != nil || strings.HasSuffix(name, "full") && len(content) != most || name == "/proc/self/status" && len(content) == 0 {
				t.Errorf("%s: %d bytes, %v", name, len(content), err)
			}
			continue
		}
		if p := (*fs.PathError)(nil); !errors.As(err, &p) || p.Path != path || p.Err.Error() != want {
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
	if _, err := smallfile.Read(at("nothing"), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	if _, err := smallfile.Read(at("long"), 1000); err == nil || !strings.Contains(err.Error(), "1000 bytes") {
		t.Error(err)
	}
}

func TestReadFS(t *testing.T) {
	fsys := fstest.MapFS{
		"full":   {Data: []byte("xxxx")},
		"long":   {Data: []byte("xxxxx")},
		"zero":   {Mode: fs.ModeDevice | fs.ModeCharDevice},
		"pipe":   {Mode: fs.ModeNamedPipe},
		"odd":    {Mode: fs.ModeIrregular},
		"folder": {Mode: fs.ModeDir},
	}
	for name, want := range map[string]string{
		"full": "", "long": "more than 4 bytes", "zero": "a device", "pipe": "a pipe", "odd": "not a regular file", "folder": "a folder",
		"nothing": "not exist",
	} {
		content, err := smallfile.ReadFS(fsys, name, 4)
		switch {
		case want == "" && (err != nil || len(content) != 4):
			t.Errorf("%s: %d bytes, %v", name, len(content), err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", name, err, want)
		}
	}
}
