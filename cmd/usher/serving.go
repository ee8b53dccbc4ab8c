package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
)

// standbyEvery is the interval at which an usher tries to get a store that another usher has, or that cannot be read.
const standbyEvery = 500 * time.Millisecond

// serving is an usher that is active, or stands by until it may be. Each time that it becomes active it runs a new Component, because
// what another usher has done meanwhile is known only from the store and from the rooms.
//
// With a store that several ushers share, the active one holds the lease of the domain, see [store.Lease]. Without one it is the usher
// that has the file of the store open, and that the server lets connect.
type serving struct {
	began     *config.Config // as it was at the start: keys that need a restart do not change when another tenure begins
	environ   []string       // as of os.Environ
	remote    *keys.Cache
	listeners *listeners
	portal    *entrance // nil if there is none
	log       *zap.Logger

	mu      sync.Mutex
	current *config.Config
	policy  auth.Policy
	opened  store.Store          // nil as long as another usher has its file
	usher   *component.Component // nil while it stands by
	store   store.Store          // the usher's
	hurried bool

	readyOnce sync.Once
}

// newServing returns a usher with this configuration for a process with this environment, as of [os.Environ]. The caller closes it at the
// end.
func newServing(c *config.Config, p auth.Policy, environ []string, remote *keys.Cache, log *zap.Logger) (u *serving, err error) {
	u = &serving{began: c, current: c, policy: p, environ: environ, remote: remote, log: log}
	if u.listeners, err = newListeners(u, remote); err != nil {
		return nil, err
	}
	if u.portal, err = newEntrance(u); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

// close writes down what waits for the audit log.
func (u *serving) close() {
	if err := u.listeners.audit.Close(); err != nil {
		u.log.Error("the audit log", zap.Error(err))
	}
}

// serveAll serves people, and answers those who ask about it, until ctx ends.
func (u *serving) serveAll(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return u.run(ctx) })
	for _, answer := range []func(context.Context){u.answerCommands, u.answerOps, u.answerAPI, u.portal.run} {
		g.Go(func() error { answer(ctx); return nil })
	}
	return g.Wait()
}

// component returns the Component of this usher, nil while it stands by.
func (u *serving) component() *component.Component {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.usher
}

// use puts a configuration in force, now or when this usher becomes the active one.
func (u *serving) use(c *config.Config, p auth.Policy) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if !sameHooks(u.current, c) {
		if err := u.listeners.hooks.Configure(webhooks(c)); err != nil {
			u.log.Error("the webhooks stay as they were", zap.Error(err))
		}
	}
	if err := u.portal.use(c); err != nil {
		u.log.Error("the portal stays as it was", zap.Error(err))
	}
	u.current, u.policy = c, p
	if u.usher != nil {
		u.usher.Use(authorizer(c, p, u.store), c.Rooms.Services)
	}
}

// report takes a report of the component. It never blocks.
func (u *serving) report(r component.Report) {
	u.listeners.report(r)
	u.portal.report(r)
}

// hurry makes an usher that is stopping wait for nothing any more.
func (u *serving) hurry() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hurried = true
	if u.usher != nil {
		u.usher.Hurry()
	}
}

// run serves and stands by in turns until ctx ends.
func (u *serving) run(ctx context.Context) error {
	s, err := u.open(ctx)
	if s == nil {
		return err
	}
	defer s.Close()
	s = store.Measured(s, u.listeners.metrics.Store)
	u.mu.Lock()
	u.opened = s
	u.mu.Unlock()
	u.log.Info(storeInWords(u.began, u.environ))
	if !u.began.Store.Shared() {
		usher, end, err := u.begin(s, func(*component.Options) {})
		if err != nil {
			return err
		}
		defer u.listeners.deliver(ctx, s)()
		defer end()
		return usher.Run(ctx)
	}
	examineShared(ctx, u.began, func(c doctor.Check) {
		if c.Status == doctor.Warn {
			u.log.Warn(c.Says)
		}
	})
	lease := &store.Lease{Store: s, Name: shard(u.began), Self: self(), Waits: u.waits, Away: u.away}
	for {
		t, err := lease.Take(ctx)
		if err != nil {
			return nil
		}
		u.log.Info("this usher is the active one", zap.Uint64("tenure", t.Number))
		if err = u.tenure(ctx, s, t); err != nil || ctx.Err() != nil {
			return err
		}
		u.log.Warn("this usher is not the active one any more: another one may have taken over", zap.Uint64("tenure", t.Number))
	}
}

// shard names the server beside which usher is, among all that share a store. Others may have the same name for one of their shards, so the
// domain is part of it.
func shard(c *config.Config) string {
	name := c.XMPP.Domain.String() // however it is spelled in the configuration
	if c.Store.Shard != "" {
		name += "/" + c.Store.Shard
	}
	return name
}

// self names this process to the operators of others.
func self() string {
	host, _ := os.Hostname() // without one the number must do
	return fmt.Sprintf("%s, process %d", host, os.Getpid())
}

// waits logs for what this usher stands by.
func (u *serving) waits(active string, err error) {
	u.ready("standing by")
	domain := zap.Stringer("domain", u.began.XMPP.Domain)
	switch {
	case err != nil:
		u.log.Warn("standing by: the shared store cannot be reached", domain, zap.Error(err))
	case active != "":
		u.log.Info("standing by: another usher is the active one", domain, zap.String("active", active))
	default:
		u.log.Info("standing by until it is certain that no other usher is the active one", domain)
	}
}

// away logs that the active usher cannot reach the shared store, or can again.
func (u *serving) away(err error) {
	if err != nil {
		u.log.Error("the shared store cannot be reached: nobody new is admitted until it answers", zap.Error(err))
		return
	}
	u.log.Info("the shared store answers again: people are admitted")
}

// open opens the store. While another usher has its file, it stands by. It returns none if ctx ends.
func (u *serving) open(ctx context.Context) (store.Store, error) {
	for stands := false; ctx.Err() == nil; stands = true {
		s, err := openStore(u.began, u.environ, u.log) // which waits for standbyEvery
		if err == nil || !errors.Is(err, store.ErrInUse) {
			return s, err
		}
		u.ready("standing by")
		if !stands {
			// It may be the usher of another component, with the same file by mistake.
			u.log.Warn("standing by until the other usher ends: it uses this one's store", zap.Error(err))
		}
	}
	return nil, nil
}

// tenure serves as the active usher until ctx ends, and then gives the lease back, or until another usher has the lease.
func (u *serving) tenure(ctx context.Context, s store.Store, t *store.Tenure) error {
	serving, lose := context.WithCancelCause(ctx)
	defer lose(nil)
	keeping, giveBack := context.WithCancel(context.WithoutCancel(ctx))
	var kept sync.WaitGroup
	defer kept.Wait()
	defer giveBack() // when usher has stopped, so that the next one begins after that
	kept.Go(func() {
		if err := t.Keep(keeping); err != nil {
			lose(component.ErrReplaced)
		}
	})
	own := store.Own(store.Fenced(s, t.Held), shard(u.began))
	defer u.listeners.deliver(ctx, own)()
	for serving.Err() == nil {
		usher, end, err := u.begin(own, func(o *component.Options) { o.Holds, o.Gone = t.Held, t.Gone })
		if err != nil {
			return err
		}
		err = usher.Run(serving)
		end()
		if err == nil {
			break
		}
		u.log.Warn("not connecting yet", zap.Error(err), zap.Duration("again in", standbyEvery))
		select {
		case <-time.After(standbyEvery):
		case <-serving.Done():
		}
	}
	return nil
}

// begin returns a new Component. The caller calls end when it has run.
func (u *serving) begin(s store.Store, active func(*component.Options)) (usher *component.Component, end func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	o := options(u.began, u.policy, s, u.log)
	o.Authorizer, o.Services = authorizer(u.current, u.policy, s), u.current.Rooms.Services
	o.Report, o.Explain = u.report, explains(u.began)
	active(&o)
	if usher, err = component.New(o); err != nil {
		return nil, nil, err
	}
	u.usher, u.store = usher, s
	u.portal.activates()
	if u.hurried {
		usher.Hurry()
	}
	u.ready("connecting to " + u.began.XMPP.Server)
	return usher, func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.usher = nil
	}, nil
}
