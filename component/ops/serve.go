package ops

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
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// unixPrefix begins the address of a Unix socket.
	unixPrefix = "unix:"
	// socketMode is who may connect to it: usher's user and group.
	socketMode = 0o660
	// closeWithin is how long requests may take that are under way at the end.
	closeWithin = 2 * time.Second
	// probeWithin is how long somebody may take to accept who listens on the socket already.
	probeWithin = time.Second
)

// listenEvery is the interval at which Run tries an address again that is taken. Tests change it.
var listenEvery = 5 * time.Second

// Run serves until ctx ends. usher itself goes on without it: an address that cannot be had is logged, and tried again.
func Run(ctx context.Context, o Options) {
	handler := Handler(o)
	for said := ""; ctx.Err() == nil; {
		l, err := listen(ctx, o.Listen)
		if err == nil {
			said = ""
			o.Log.Info("metrics, health and the live page are at ops.listen", zap.String("listen", shownAddress(o.Listen, l)))
			err = serve(ctx, handler, l, o.Log)
		}
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			o.Log.Warn("metrics, health and the live page are not served: ops.listen cannot be had, and is tried again. Name another address, or off",
				zap.String("listen", o.Listen), zap.Error(err))
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenEvery):
		}
	}
}

// shownAddress is where the server is, with the port that the system chose if none was named.
func shownAddress(listen string, l net.Listener) string {
	if strings.HasPrefix(listen, unixPrefix) {
		return listen
	}
	return "http://" + l.Addr().String()
}

// serve serves until ctx ends. Requests under way are told by their own contexts, and then have closeWithin.
func serve(ctx context.Context, handler http.Handler, l net.Listener, log *zap.Logger) error {
	// No WriteTimeout, and none for the body: the live page follows what happens, and a profile takes as long as it is asked to.
	s := &http.Server{
		Handler: handler, ErrorLog: zap.NewStdLog(log),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	ctx, cancelAll := context.WithCancel(ctx)
	defer cancelAll()
	s.BaseContext = func(net.Listener) context.Context { return ctx }
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	var lost error
	select {
	case err := <-ended:
		return err
	case lost = <-gone(ctx, l):
		cancelAll() // streams would go on for ever
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	if s.Shutdown(closing) != nil {
		_ = s.Close()
	}
	<-ended
	return lost
}

// gone returns a channel that says when a Unix socket has lost its place: somebody has removed it, as systemd does with a RuntimeDirectory
// that another unit has, too, or another usher made its own at the same moment. Nobody could connect any more.
func gone(ctx context.Context, l net.Listener) <-chan error {
	lost := make(chan error, 1)
	s, ok := l.(*socket)
	if !ok {
		return lost
	}
	go func() {
		tick := time.NewTicker(listenEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if !s.has() {
					lost <- fmt.Errorf("%s was removed or replaced", s.path)
					return
				}
			}
		}
	}()
	return lost
}

// listen takes the address.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		return listenUnix(ctx, path)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

// listenUnix makes a socket, in the place of one that a killed process left behind. It is made under another name and takes its place in
// one step, with its mode.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := abandoned(ctx, path); err != nil {
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

// abandoned returns an error unless nobody listens on the path.
func abandoned(ctx context.Context, path string) error {
	is, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case is.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is there and is no socket: remove it, or name another file", path)
	}
	c, err := (&net.Dialer{Timeout: probeWithin}).DialContext(ctx, "unix", path)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		c.Close()
		return fmt.Errorf("%s: %w", path, syscall.EADDRINUSE)
	}
	return err
}

// socket is a listening Unix socket, which is removed in the end unless another one has its place by then.
type socket struct {
	net.Listener
	path string
	file fs.FileInfo
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
