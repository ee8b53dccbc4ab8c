package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/component/audit"
	"github.com/xmpp-usher/usher/component/history"
	"github.com/xmpp-usher/usher/component/ops"
	"github.com/xmpp-usher/usher/component/ops/metrics"
	"github.com/xmpp-usher/usher/component/ops/page"
	"github.com/xmpp-usher/usher/component/webhook"
	"github.com/xmpp-usher/usher/config"
)

// remembered is how many reports the live page and the API have at hand.
const remembered = 2000

// listeners are all that hear of what happens: the history, the metrics, the audit log and the webhooks. They outlive tenures.
type listeners struct {
	history *history.History
	metrics *metrics.Metrics
	audit   *audit.Log // nil if it is off
	hooks   *webhook.Outbox
}

// newListeners returns the listeners of an usher. The caller closes their audit log at the end.
func newListeners(u *serving, remote *keys.Cache) (*listeners, error) {
	hooks, err := webhook.New(webhook.Options{Hooks: webhooks(u.began), Breakout: u.began.Rooms.Breakout.String(), Log: u.log})
	if err != nil {
		return nil, err
	}
	log, err := audit.Open(auditOptions(u.began, u.log))
	if err != nil {
		return nil, fmt.Errorf("audit.to: %w", err)
	}
	o := &listeners{history: history.New(remembered), audit: log, hooks: hooks}
	o.metrics = metrics.New(metrics.Options{
		Version: release(),
		Active: func() metrics.Component {
			if c := u.component(); c != nil {
				return c
			}
			return nil
		},
		Store:    u.sizes,
		Keys:     remote.Status,
		Audit:    func() metrics.Audit { return metrics.Audit{Dropped: log.Dropped()} },
		Webhooks: o.webhooks,
	})
	remote.Fetched = o.metrics.Fetched
	return o, nil
}

// report takes a report of the component. It never blocks.
func (o *listeners) report(r component.Report) {
	o.history.Add(r)
	o.metrics.Report(r)
	o.audit.Report(r)
	o.hooks.Report(r)
}

// called takes a call of the API. It never blocks.
func (o *listeners) called(c api.Call) {
	o.metrics.Called(c.Method, c.Path, c.Status, c.Took)
	o.audit.Call(audit.Call(c))
}

// webhooks is what the metrics have of the webhooks.
func (o *listeners) webhooks() []metrics.Webhook {
	stats := o.hooks.Stats()
	all := make([]metrics.Webhook, len(stats))
	for i, s := range stats {
		all[i] = metrics.Webhook{Name: s.Name, Queued: int64(s.Queued), Sent: s.Sent, Failed: s.Failed, Dead: s.Dead, Stopped: s.Gone}
	}
	return all
}

// auditOptions turns a configuration into the options of package audit.
func auditOptions(c *config.Config, log *zap.Logger) audit.Options {
	a := c.Audit
	return audit.Options{To: a.To, MaxSize: a.MaxSize, MaxAge: a.MaxAge, Keep: a.Keep, Log: log}
}

// webhooks turns the webhooks of a configuration into those of package webhook.
func webhooks(c *config.Config) []webhook.Hook {
	var all []webhook.Hook
	for _, h := range c.Webhooks {
		secrets, _ := webhook.ParseSecrets(h.Secret.Reveal()) // config has checked them
		hook := webhook.Hook{Name: h.Name, URL: h.URL, Secrets: secrets, Rooms: h.Rooms, Timeout: h.Timeout}
		for _, event := range h.Events {
			hook.Events = append(hook.Events, webhook.Type(event))
		}
		all = append(all, hook)
	}
	return all
}

// apiKeys turns the keys of a configuration into those of package api.
func apiKeys(c *config.Config) []api.Key {
	all := make([]api.Key, len(c.API.Keys))
	for i, k := range c.API.Keys {
		all[i] = api.Key{Name: k.Name, Hash: k.Hash, Rooms: k.Rooms, MaxTTL: k.MaxTTL, Expires: k.Expires}
		for _, scope := range k.Scopes {
			all[i].Scopes = append(all[i].Scopes, api.Scope(scope))
		}
	}
	return all
}

// answerOps answers at ops.listen until ctx ends, also while this usher stands by.
func (u *serving) answerOps(ctx context.Context) {
	if u.began.Ops.Listen != "" {
		ops.Run(ctx, u.opsOptions())
	}
}

func (u *serving) opsOptions() ops.Options {
	active := func() ops.Source {
		if c := u.component(); c != nil {
			return c
		}
		return nil // not a nil *component.Component
	}
	return ops.Options{
		Listen: u.began.Ops.Listen, Active: active, Ready: u.checks, Metrics: u.listeners.metrics,
		Page:  page.New(page.Options{Active: active, Ready: u.checks, History: u.listeners.history, Version: release()}),
		Pprof: u.began.Ops.Pprof, Version: release(), Domain: u.began.XMPP.Domain.String(), Log: u.log,
	}
}

// answerAPI answers calls at api.listen until ctx ends, also while this usher stands by.
func (u *serving) answerAPI(ctx context.Context) {
	if u.began.API.Listen != "" {
		api.Run(ctx, u.began.API.Listen, u.apiHandler(), u.log)
	}
}

func (u *serving) apiHandler() http.Handler { return api.New(u.apiOptions()) }

// explains reports whether somebody can see the explanations of decisions, which cost time to make.
func explains(c *config.Config) bool { return c.Ops.Listen != "" || c.API.Listen != "" }

// checks reports on what usher needs beside the connection.
func (u *serving) checks(ctx context.Context) []ops.Check {
	return []ops.Check{u.storeReady(ctx), u.keysReady(ctx)}
}

// storeReady reports whether the store answers.
func (u *serving) storeReady(ctx context.Context) ops.Check {
	check := ops.Check{Name: "store", OK: true}
	u.mu.Lock()
	s := u.opened
	u.mu.Unlock()
	if s == nil {
		check.Says = "another usher has its file"
		return check
	}
	if _, err := s.Get(ctx, store.KindSession, "is the store there?"); err != nil && !errors.Is(err, store.ErrNotFound) {
		check.OK, check.Says = false, "nobody new is let in, because the store does not answer: "+err.Error()
	}
	return check
}

// keysReady reports whether the keys of all issuers are at hand.
func (u *serving) keysReady(ctx context.Context) ops.Check {
	check := ops.Check{Name: "keys", OK: true}
	if err := u.remote.Ready(ctx); err != nil {
		check.OK, check.Says = false, "tokens are refused as long as their keys cannot be fetched: "+err.Error()
	}
	return check
}

// sizes returns how much room the store takes.
func (u *serving) sizes() []store.Size {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.opened == nil {
		return nil
	}
	return store.Sizes(u.opened)
}

// deliver sends the events of webhooks from the store until the caller calls end, which writes down what is left.
func (o *listeners) deliver(ctx context.Context, s store.Store) (end func()) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.hooks.Run(ctx, s)
	}()
	return func() { stop(); <-done }
}

// sameHooks reports whether two configurations have the same webhooks.
func sameHooks(a, b *config.Config) bool {
	return slices.EqualFunc(a.Webhooks, b.Webhooks, func(x, y config.Webhook) bool {
		return x.Name == y.Name && x.URL == y.URL && x.Secret.Reveal() == y.Secret.Reveal() && slices.Equal(x.Events, y.Events) &&
			slices.Equal(x.Rooms, y.Rooms) && x.Timeout == y.Timeout
	})
}
