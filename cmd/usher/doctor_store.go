package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component/api"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
)

// storeAnswers is how long the shared store may take to be examined.
const storeAnswers = 5 * time.Second

// examineShared reports whether the Redis that several ushers share can keep what they put there. Without one it reports nothing.
func examineShared(ctx context.Context, c *config.Config, report func(doctor.Check)) {
	if !c.Store.Shared() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, storeAnswers)
	defer cancel()
	check := doctor.Check{Code: "store", Status: doctor.OK, Says: c.Store.InWords() + " keeps what ushers share"}
	warnings, err := checkShared(ctx, c)
	if err != nil {
		check.Status, check.Says, check.Mend = doctor.Fail, err.Error(), "compare store.url and what belongs to it with the Redis; until it answers, nobody is admitted"
	}
	if len(warnings) == 0 {
		report(check)
	}
	for _, w := range warnings {
		report(doctor.Check{Code: check.Code, Status: doctor.Warn, Says: w})
	}
}

// runningUsher says that an usher of the domain runs, as far as its socket and the shared store tell; "" if none is known.
func runningUsher(ctx context.Context, c *config.Config, environ []string) string {
	ctx, cancel := context.WithTimeout(ctx, storeAnswers)
	defer cancel()
	socket := cmp.Or(c.Socket(environ), usualSocket)
	if is, err := (api.Client{Path: socket}).Status(ctx); err == nil && is.Domain == c.XMPP.Domain.String() {
		return "an usher of this domain runs: it answers on " + socket
	}
	if !c.Store.Shared() {
		return ""
	}
	s, err := store.Redis(store.Options{}, redisOptions(c.Store))
	if err != nil {
		return "" // the check of the store has said it
	}
	defer s.Close()
	self, held, err := (&store.Lease{Store: s, Name: shard(c)}).Holder(ctx)
	if err != nil || !held {
		return ""
	}
	return "an usher of this domain runs: " + self + " is the active one in the shared store"
}

// checkShared asks the Redis of a configuration.
func checkShared(ctx context.Context, c *config.Config) (warnings []string, err error) {
	s, err := store.Redis(store.Options{}, redisOptions(c.Store))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if checks, ok := s.(store.Checker); ok {
		return checks.Check(ctx)
	}
	return nil, nil
}
