// Package smallfile reads files that a configuration or a command line names: key, secret and configuration files. A wrong name may
// be that of a device without an end, of a pipe that nobody writes to, or of something huge. So the package reads only regular
// files, and only up to a limit.
//
// It refuses pipes, such as /dev/stdin or <(…) of a shell, because usher reads its files again when they change, and a pipe can be
// read only once. A symbolic link counts as the file that it leads to, and /dev/stdin as the file that is redirected to it.
package smallfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Read returns the content of a file of at most this many bytes. The error is an *[fs.PathError] that names the file; its Err says
// what is wrong. Goroutines may call Read at the same time.
func Read(name string, most int) ([]byte, error) {
	// Stat before open, because opening a device can have an effect, such as rewinding a tape.
	info, err := os.Stat(name)
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, refuse(name, err)
	}
	// The file may have been replaced since. Without O_NONBLOCK, opening a pipe waits for its writer (open(2)).
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, refuse(name, err)
	}
	return read(f, name, most)
}

// ReadFS is Read for a file in fsys.
func ReadFS(fsys fs.FS, name string, most int) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, refuse(name, err)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, refuse(name, err)
	}
	return read(f, name, most)
}

// read returns the content of an open file, and closes it.
func read(f fs.File, name string, most int) ([]byte, error) {
	defer f.Close()
	info, err := f.Stat()
	if err == nil {
		err = regular(info)
	}
	if err != nil {
		return nil, refuse(name, err)
	}
	// The size of the file does not count: files of /proc have none, and others grow.
	content, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	switch {
	case err != nil:
		return nil, refuse(name, err)
	case len(content) > most:
		return nil, refuse(name, fmt.Errorf("it has more than %s, the most that usher reads of such a file", size(most)))
	}
	return content, nil
}

// refuse turns any error into that of a file.
func refuse(name string, err error) error {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return &fs.PathError{Op: "read", Path: name, Err: err}
}

// regular returns an error unless a file is a regular one.
func regular(info fs.FileInfo) error {
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
	case mode.IsDir():
		return errors.New("it is a folder, not a file")
	case mode&fs.ModeNamedPipe != 0:
		return errors.New("it is a pipe, which can be read only once: write it to a file and name that")
	case mode&fs.ModeDevice != 0:
		return errors.New("it is a device, not a file")
	case mode&fs.ModeSocket != 0:
		return errors.New("it is a socket, not a file")
	}
	return errors.New("it is not a regular file")
}

func size(n int) string {
	switch {
	case n%(1<<20) == 0:
		return fmt.Sprintf("%d MB", n>>20)
	case n%(1<<10) == 0:
		return fmt.Sprintf("%d kB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
