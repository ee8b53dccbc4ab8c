package main

import (
	"context"
	"errors"
	"time"

	"github.com/xmpp-usher/usher/auth/store"
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
