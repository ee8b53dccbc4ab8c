package serve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// UnixPrefix begins the address of a Unix socket.
const UnixPrefix = "unix:"

const (
	// socketMode is who may connect to a socket: usher's user and group.
	socketMode = 0o660
	// probeWithin is how long somebody may take to accept or answer who listens on the socket already.
	probeWithin = time.Second
)

// errPlace means that the socket is no longer there: somebody has removed it, as systemd does with a RuntimeDirectory that another unit
// has, too, or another usher made its own at the same moment. Nobody could connect any more.
var errPlace = errors.New("the socket was removed or replaced")

// socket is a listening Unix socket, which is removed in the end unless another one has its place by then.
type socket struct {
	net.Listener
	path string
	file fs.FileInfo
}

// listenUnix makes a socket, in the place of one that a killed process left behind. It is made under another name and takes its place in
// one step, with its mode.
func (o Options) listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := o.free(ctx, path); err != nil {
		return nil, err
	}
	made := filepath.Join(filepath.Dir(path), "."+rand.Text()[:8]) // the names of sockets must be short
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(made, socketMode)
	var file fs.FileInfo
	if err == nil {
		file, err = os.Lstat(made)
	}
	if err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		_, _ = l.Close(), os.Remove(made)
		return nil, err
	}
	return &socket{l, path, file}, nil
}

// free returns an error if the path cannot be taken.
func (o Options) free(ctx context.Context, path string) error {
	is, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case is.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: remove it, or name another file", path)
	}
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	c, err := new(net.Dialer).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // its process was killed
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to another user: name another file", path)
	case err == nil:
		c.Close()
	}
	switch {
	case o.Others != nil:
		return o.Others(ctx)
	case err == nil:
		err = syscall.EADDRINUSE
	}
	return fmt.Errorf("%s: %w", path, err)
}

// Close implements net.Listener.
func (s *socket) Close() error {
	if s.has() {
		_ = os.Remove(s.path)
	}
	return s.Listener.Close()
}

// has reports whether the socket at the path is still this one. Another file may have its number.
func (s *socket) has() bool {
	is, err := os.Lstat(s.path)
	return err == nil && os.SameFile(is, s.file) && is.ModTime().Equal(s.file.ModTime())
}
