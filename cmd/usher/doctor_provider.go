package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
)

// providerAnswers is how long an OpenID provider may take to be examined.
const providerAnswers = 15 * time.Second

// examineProviders reports for each OpenID provider of the portal whether people can log in there, and what it lacks.
func examineProviders(ctx context.Context, c *config.Config, report func(doctor.Check)) {
	all := peopleOf(c, zap.NewNop()).providers
	if c.Portal.Listen == "" || all == nil {
		return
	}
	for _, p := range all.List() {
		within, cancel := context.WithTimeout(ctx, providerAnswers)
		lacks, err := all.Check(within, p.Name)
		cancel()
		check := doctor.Check{Code: "provider", Of: p.Name, Status: doctor.OK, Says: "it answers, and has keys that can verify logins"}
		if err != nil {
			check.Status, check.Says = doctor.Fail, err.Error()
			check.Mend = "compare issuer in portal.providers with the provider; until it answers, nobody can log in there"
		}
		if len(lacks) == 0 {
			report(check)
		}
		for _, lack := range lacks {
			report(doctor.Check{Code: check.Code, Of: p.Name, Status: doctor.Warn, Says: lack})
		}
	}
}
