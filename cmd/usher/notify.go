package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/config"
)

// What usher tells systemd when it runs as a unit of Type=notify: sd_notify(3). Elsewhere nobody listens, and nothing is sent.

// statusEvery is the interval of new status texts where systemd asks for no sign of life.
const statusEvery = 10 * time.Second

// supervised reports whether somebody listens to what usher tells.
func supervised() bool { return os.Getenv("NOTIFY_SOCKET") != "" }

// tell tells systemd one or more assignments. systemd sees for itself if the socket is gone, so a failure is nothing to report.
func tell(assignments ...string) {
	_, _ = daemon.SdNotify(false, strings.Join(assignments, "\n"))
}

// ready tells that usher does its work, which may be to stand by. "systemctl start" waits for that. It does not wait for the
// XMPP server, as a boot would hang without it.
func (u *serving) ready(status string) {
	u.readyOnce.Do(func() { tell(daemon.SdNotifyReady, "STATUS="+status) })
}

// tellReload tells that usher reads its configuration again. The caller calls done when it has.
func tellReload() (done func()) {
	tell(daemon.SdNotifyReloading, daemon.SdNotifyMonotonicUsec())
	return func() { tell(daemon.SdNotifyReady) }
}

// supervise tells systemd what usher does, that it is alive, and when it stops. It ends with the function that it returns.
func (u *serving) supervise(ctx context.Context) (stop func()) {
	if !supervised() {
		return func() {}
	}
	every := statusEvery
	watchdog, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		u.log.Warn("no sign of life for systemd", zap.Error(err))
	} else if watchdog > 0 {
		every = watchdog / 4 // sd_watchdog_enabled(3) says half; a busy machine needs more
	}
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() { u.signs(ctx, ended, every) })
	return func() { close(ended); telling.Wait() }
}

// signs gives a sign of life at the interval, as long as usher is alive. When ctx has ended, usher is stopping: that has a limit of its
// own (TimeoutStopSec=).
func (u *serving) signs(ctx context.Context, ended <-chan struct{}, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	stopping := ctx.Done()
	for {
		select {
		case <-ended:
			return
		case <-stopping:
			stopping = nil
			tell(daemon.SdNotifyStopping, "STATUS=stopping")
		case <-tick.C:
			if stopping == nil {
				tell(daemon.SdNotifyWatchdog)
			} else if err := u.alive(every); err != nil {
				u.log.Error("usher has come to a halt; systemd starts it again", zap.Error(err))
			} else {
				tell(daemon.SdNotifyWatchdog, "STATUS="+u.doing())
			}
		}
	}
}

var errHalted = errors.New("the state of the component is locked")

// alive returns an error if usher has come to a halt, which shows within that time.
func (u *serving) alive(within time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	said := make(chan error, 1)
	go func() { // never ends if usher has come to a halt, and then systemd ends the process
		u.mu.Lock()
		usher := u.usher
		u.mu.Unlock()
		if usher == nil { // it stands by: waiting is all it does
			said <- nil
			return
		}
		usher.Status() // takes the locks that requests take
		said <- usher.Alive(ctx)
	}()
	select {
	case err := <-said:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-said: // Alive's own words
		return err
	case <-time.After(within / 4):
		return errHalted
	}
}

// doing says in one line what usher does, for "systemctl status".
func (u *serving) doing() string {
	u.mu.Lock()
	usher := u.usher
	u.mu.Unlock()
	switch {
	case usher == nil:
		return "standing by for another usher"
	case usher.Status().Connected:
		return "connected to " + u.began.XMPP.Server + " as " + u.began.XMPP.Domain.String()
	default:
		return "not connected to " + u.began.XMPP.Server
	}
}

// misconfigured returns the error with the exit status by which usher.service knows that another start changes nothing
// (RestartPreventExitStatus=), if it is one of the configuration.
func misconfigured(err error) error {
	if _, ok := errors.AsType[*config.Problems](err); ok {
		return failure{statusMisconfigured, err}
	}
	return err
}
