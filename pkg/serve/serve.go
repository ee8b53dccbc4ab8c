// Package serve runs an HTTP server for as long as usher runs. An address that is taken is logged and tried again, connections are
// bounded, clients that send or read too slowly are hung up on, and in the end requests that are under way are answered.
package serve

import (
	"context"
	"errors"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Options is what a server needs.
type Options struct {
	// Name is what the log calls it: "the API", "the portal".
	Name string
	// Key is the key of the configuration that names the address, such as "api.listen".
	Key string
	// Listen is host:port, or unix:/path.
	Listen  string
	Handler http.Handler
	// CertFile and KeyFile switch TLS on, and are read again when they change.
	CertFile, KeyFile string
	// MaxConnections is how many clients may be connected at once, 1024 by default: more of them wait to be accepted. One network (see
	// [Network]) may have an eighth of them: more of its connections are closed at once.
	MaxConnections int
	// Proxies are not bound by the share of one network, and nor is this machine.
	Proxies []netip.Prefix
	// Others is asked when somebody listens on the Unix socket already, and returns why they keep it; nil takes it from them. Without
	// Others they always keep it.
	Others func(context.Context) error
	// Expected reports whether an error of Others is as it should be, so that it is no warning. Nil expects none.
	Expected func(error) bool
	Log      *zap.Logger
}

const (
	// headersWithin and bodyWithin are how long a client may take to send its headers (with the handshake of TLS), and its body.
	headersWithin, bodyWithin = 5 * time.Second, 10 * time.Second
	// takenWithin is how long a client may take to read a part of an answer, unless the handler sets a deadline of its own.
	takenWithin = 30 * time.Second
	// idleFor is how long a connection without a request is kept.
	idleFor = 2 * time.Minute
	// closeWithin is how long requests may take that are under way at the end.
	closeWithin = 2 * time.Second
	// again is the interval at which an address is tried that is taken, and at which a socket is looked for that should be there.
	again = 500 * time.Millisecond
	// maxConnections is the default of Options.MaxConnections.
	maxConnections = 1024
	// maxStreams is how many requests one connection of HTTP/2 may have at once, the least that RFC 9113 §6.5.2 recommends.
	maxStreams = 100
)

// Run serves until ctx ends. usher itself goes on without it: what fails is logged once, and tried again.
func Run(ctx context.Context, o Options) {
	if o.MaxConnections <= 0 {
		o.MaxConnections = maxConnections
	}
	for said := ""; ctx.Err() == nil; {
		err := o.serve(ctx, func() { said = "" })
		if err != nil && ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			o.warn(err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(again):
		}
	}
}

// warn logs that the server is not there.
func (o Options) warn(err error) {
	level := zap.WarnLevel
	if o.Expected != nil && o.Expected(err) {
		level = zap.InfoLevel
	}
	fields := []zap.Field{zap.String("listen", o.Listen), zap.Error(err)}
	if o.Key != "" {
		fields = append(fields, zap.String("key", o.Key))
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		fields = append(fields, zap.String("hint", "another program listens there, or another usher: stop it, or choose another address"))
	}
	o.Log.Log(level, o.Name+" cannot be answered at "+o.Listen+" yet; usher tries again", fields...)
}

// serve listens and serves until ctx ends, the listener fails, or a socket has lost its place. It calls up when it listens.
func (o Options) serve(ctx context.Context, up func()) error {
	certificate, err := o.certificate()
	if err != nil {
		return err
	}
	l, err := o.listen(ctx)
	if err != nil {
		return err
	}
	up()
	o.Log.Info("usher answers "+o.Name+" at "+o.shown(l), zap.String("listen", o.shown(l)))
	requests, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	bound := newBound(l, o)
	s := &http.Server{
		Handler: bound.brief(timed(o.Handler, bodyWithin)), ErrorLog: log.New(complaints{o.Log}, "", 0), BaseContext: func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headersWithin, IdleTimeout: idleFor, MaxHeaderBytes: 16 << 10, HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
	}
	ended := make(chan error, 1)
	go func() {
		if certificate == nil {
			ended <- s.Serve(bound)
			return
		}
		s.TLSConfig = certificate.config()
		ended <- s.ServeTLS(bound, "", "")
	}()
	lost := place(ctx, l, ended)
	if lost != nil && !errors.Is(lost, errPlace) {
		_ = s.Close()
		return lost
	}
	time.AfterFunc(closeWithin/2, hangUp) // streams do not end by themselves
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	if s.Shutdown(last) != nil {
		_ = s.Close()
	}
	<-ended
	return lost
}

// place waits until ctx ends, the server ends (and returns its error), or a socket has lost its place (and returns errPlace).
func place(ctx context.Context, l net.Listener, ended <-chan error) error {
	s, _ := l.(*socket)
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if s != nil && !s.has() {
				return errPlace
			}
		}
	}
}

// listen takes the address.
func (o Options) listen(ctx context.Context) (net.Listener, error) {
	if path, ok := strings.CutPrefix(o.Listen, UnixPrefix); ok {
		return o.listenUnix(ctx, path)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
}

// shown is where the server is, with the port that the system chose if none was named.
func (o Options) shown(l net.Listener) string {
	switch {
	case strings.HasPrefix(o.Listen, UnixPrefix):
		return o.Listen
	case o.CertFile != "":
		return "https://" + l.Addr().String()
	}
	return "http://" + l.Addr().String()
}

// complaints takes what net/http logs. Handshakes of TLS that fail are what strangers do, and fill no log.
type complaints struct{ log *zap.Logger }

// Write implements io.Writer.
func (c complaints) Write(b []byte) (int, error) {
	text, level := strings.TrimSpace(string(b)), zap.WarnLevel
	if strings.HasPrefix(text, "http: TLS handshake error") {
		level = zap.DebugLevel
	}
	c.log.Log(level, text)
	return len(b), nil
}
