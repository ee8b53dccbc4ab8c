package api

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Server offers the API on a local socket. Users other than usher's own user and group cannot connect.
type Server struct {
	// Path is the socket's. Its folder must exist.
	Path string
	// Options are those of Local.
	Options
}

const (
	// socketMode is who may connect: usher's user and group.
	socketMode = 0o660
	// socketEvery is the interval at which a Server looks whether it has its socket.
	socketEvery = 500 * time.Millisecond
	// probeWithin is how long an usher may take to say whether it is active.
	probeWithin = time.Second
	// closeWithin is how long requests may take that are under way at the end.
	closeWithin = 2 * time.Second
)

// Run offers the API until ctx ends. Several ushers may share one path: the active one has it, and one that stands by waits for it, or
// has it only while no other has. The socket of an usher that was killed is replaced, and never that of an active one.
func (s *Server) Run(ctx context.Context) {
	var l *listening
	defer func() {
		if l != nil {
			l.end()
		}
	}()
	tick := time.NewTicker(socketEvery)
	defer tick.Stop()
	for said := ""; ; {
		if l != nil && !l.has() {
			l.end()
			l = nil
		}
		if l == nil {
			var err error
			switch l, err = s.listen(ctx); {
			case err == nil:
				said = ""
				s.Log.Info("usher's commands are answered", zap.String("socket", s.Path))
			case ctx.Err() == nil && err.Error() != said:
				said = err.Error()
				level := zap.WarnLevel
				if errors.Is(err, errOthers) && s.Active() == nil {
					level = zap.InfoLevel // as it should be
				}
				s.Log.Log(level, "usher's commands (rooms, grants, revoke, revocations) are not answered here", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// listening is a socket and what listens on it.
type listening struct {
	path   string
	file   fs.FileInfo
	server *http.Server
	done   chan struct{}
	hangUp func() // ends calls under way: streams do not end by themselves
}

// listen makes the socket, unless another usher has it.
func (s *Server) listen(ctx context.Context) (*listening, error) {
	if err := s.free(ctx); err != nil {
		return nil, err
	}
	// It is made under another name and takes its place in one step, with its mode. That name is short, as the names of sockets must be.
	made := filepath.Join(filepath.Dir(s.Path), "."+rand.Text()[:8])
	on, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, err
	}
	on.SetUnlinkOnClose(false)
	var file fs.FileInfo
	err = os.Chmod(made, socketMode)
	if err == nil {
		file, err = os.Lstat(made)
	}
	if err == nil {
		err = os.Rename(made, s.Path)
	}
	if err != nil {
		_, _ = on.Close(), os.Remove(made)
		return nil, err
	}
	calls, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	l := &listening{path: s.Path, file: file, done: make(chan struct{}), hangUp: hangUp, server: &http.Server{
		Handler: Local(s.Options), ErrorLog: zap.NewStdLog(s.Log), BaseContext: func(net.Listener) context.Context { return calls },
		ReadHeaderTimeout: headersWithin, IdleTimeout: idleFor, MaxHeaderBytes: 16 << 10,
	}}
	go func() {
		defer close(l.done)
		_ = l.server.Serve(on) // until end
	}()
	return l, nil
}

// errOthers means that another usher of this domain answers on the socket.
var errOthers = errors.New("another usher has")

// free reports why the path cannot be taken.
func (s *Server) free(ctx context.Context) error {
	is, err := os.Lstat(s.Path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case is.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: remove it, or name another file in admin.socket", s.Path)
	}
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	other, err := Client{s.Path}.Status(ctx)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil // its usher was killed
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s belongs to another user: name another file in admin.socket", s.Path)
	case err == nil && other.Domain != s.Status.Domain:
		return fmt.Errorf("the usher of %s has the socket %s: name another file in admin.socket", printable(other.Domain), s.Path)
	case err == nil && other.Active:
		return fmt.Errorf("%w the socket %s", errOthers, s.Path)
	case s.Active() != nil:
		return nil // the other one stands by, or is frozen
	case err != nil:
		return fmt.Errorf("what has the socket %s does not answer: %w", s.Path, err)
	}
	return fmt.Errorf("%w the socket %s, and stands by, too", errOthers, s.Path)
}

// has reports whether the socket at the path is still this one.
func (l *listening) has() bool {
	now, err := os.Lstat(l.path)
	return err == nil && os.SameFile(now, l.file) && now.ModTime().Equal(l.file.ModTime()) // another file may have its number again
}

// end answers what is under way, and removes the socket.
func (l *listening) end() {
	if l.has() {
		_ = os.Remove(l.path)
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	defer l.hangUp()
	time.AfterFunc(closeWithin/2, l.hangUp)
	if l.server.Shutdown(ctx) != nil {
		_ = l.server.Close()
	}
	<-l.done
}
