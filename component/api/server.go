package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/pkg/printable"
	"github.com/xmpp-usher/usher/pkg/serve"
)

// Run offers a handler on a port of the network until ctx ends; see [serve.Run].
func Run(ctx context.Context, listen string, h http.Handler, log *zap.Logger) {
	serve.Run(ctx, serve.Options{Name: "the API", Key: "api.listen", Listen: listen, Handler: h, Log: log})
}

// Server offers the API on a local socket. Users other than usher's own user and group cannot connect.
type Server struct {
	// Path is the socket's. Its folder must exist.
	Path string
	// Options are those of Local.
	Options
}

// Run offers the API until ctx ends. Several ushers may share one path: the active one has it, and one that stands by waits for it, or
// has it only while no other has. The socket of an usher that was killed is replaced, and never that of an active one.
func (s *Server) Run(ctx context.Context) {
	serve.Run(ctx, serve.Options{
		Name: "the commands", Key: "admin.socket", Listen: serve.UnixPrefix + s.Path, Handler: Local(s.Options), Log: s.Log,
		Others: s.others, Expected: func(err error) bool { return errors.Is(err, errOthers) && s.Active() == nil },
	})
}

// errOthers means that another usher of this domain answers on the socket.
var errOthers = errors.New("another usher has")

// others reports why those keep the socket who have it.
func (s *Server) others(ctx context.Context) error {
	other, err := Client{s.Path}.Status(ctx)
	switch {
	case err == nil && other.Domain != s.Status.Domain:
		return fmt.Errorf("the usher of %s has the socket %s: name another file in admin.socket", printable.Text(other.Domain), s.Path)
	case err == nil && other.Active:
		return fmt.Errorf("%w the socket %s", errOthers, s.Path)
	case s.Active() != nil:
		return nil // the other one stands by, or is frozen
	case err != nil:
		return fmt.Errorf("what has the socket %s does not answer: %w", s.Path, err)
	}
	return fmt.Errorf("%w the socket %s, and stands by, too", errOthers, s.Path)
}
