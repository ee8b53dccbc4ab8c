package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/netutil"
)

const (
	// headersWithin and requestWithin are how long a client may take to send its headers, and its body.
	headersWithin, requestWithin = 5 * time.Second, 10 * time.Second
	// idleFor is how long a connection without a request is kept.
	idleFor = time.Minute
	// listenEvery is the interval at which a port is tried that is taken.
	listenEvery = 5 * time.Second
)

// maxConnections is how many clients may be connected at once: more of them wait to be accepted.
const maxConnections = 1024

// Run offers a handler on a port of the network until ctx ends. A port that is taken is logged and tried again.
func Run(ctx context.Context, listen string, h http.Handler, log *zap.Logger) {
	for said := ""; ctx.Err() == nil; {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", listen)
		if err == nil {
			log.Info("the API is answered", zap.Stringer("address", l.Addr()))
			answer(ctx, l, h, log)
			said = ""
			continue
		}
		if ctx.Err() == nil && err.Error() != said {
			said = err.Error()
			log.Warn("the API is not answered here; this is tried again", zap.String("address", listen), zap.Error(err))
		}
		select {
		case <-time.After(listenEvery):
		case <-ctx.Done():
		}
	}
}

// answer serves on a listener until ctx ends or the listener fails.
func answer(ctx context.Context, l net.Listener, h http.Handler, log *zap.Logger) {
	calls, hangUp := context.WithCancel(context.WithoutCancel(ctx))
	defer hangUp()
	var connected atomic.Int64
	server := &http.Server{
		Handler: brief(h, &connected), ConnState: counting(&connected), ErrorLog: zap.NewStdLog(log), BaseContext: func(net.Listener) context.Context { return calls },
		ReadHeaderTimeout: headersWithin, IdleTimeout: idleFor, MaxHeaderBytes: 16 << 10,
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		// Streams never end by themselves.
		time.AfterFunc(closeWithin/2, hangUp)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	err := server.Serve(netutil.LimitListener(l, maxConnections))
	if !stop() {
		<-ended
	}
	if !errors.Is(err, http.ErrServerClosed) {
		log.Warn("the API is no longer answered; this is tried again", zap.Error(err))
	}
}

// counting counts connections.
func counting(connected *atomic.Int64) func(net.Conn, http.ConnState) {
	return func(_ net.Conn, is http.ConnState) {
		switch is {
		case http.StateNew:
			connected.Add(1)
		case http.StateClosed, http.StateHijacked:
			connected.Add(-1)
		}
	}
}

// brief keeps no connection after its answer while more than half of those that may be are there. Otherwise clients that ask once and
// stay would keep everybody else out for as long as idleFor, and need no key for it.
func brief(h http.Handler, connected *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if connected.Load() > int64(maxConnections/2) {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}
