package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
)

// configFlag gives a command the flag that names the configuration file.
func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "configuration `file`; without one, the environment alone counts")
}

// load reads the configuration from file and environment, and the keys that it names. The error tells all that is wrong.
func load(file string, environ []string) (*config.Config, auth.Policy, error) {
	// The variable of "usher token mint" is no part of the configuration, which knows no others.
	environ = slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, mintSecret+"=") })
	c, err := config.Load(file, environ)
	if err != nil && file == "" {
		err = fmt.Errorf("%w\nThere is no configuration file, so the environment alone counts. To name one: -c usher.yaml", err)
	}
	if err != nil {
		return nil, auth.Policy{}, err
	}
	p, err := policy(c)
	return c, p, err
}

// policy turns a configuration into the rules of who may enter.
func policy(c *config.Config) (auth.Policy, error) {
	p := auth.Policy{
		VHosts:          make(map[string]auth.VHost, len(c.VHosts)),
		WaitForHost:     auth.WaitForHost(c.Rooms.WaitForHost),
		GuestRooms:      c.Rooms.GuestRooms,
		HostAffiliation: auth.Affiliation(c.Rooms.HostAffiliation),
	}
	for _, service := range c.Rooms.Services {
		p.Services = append(p.Services, service.String())
	}
	var problems config.Problems
	for _, v := range c.VHosts {
		vhost := auth.VHost{
			Kind:               auth.Kind(v.Kind),
			AllowEmptyToken:    v.AllowEmptyToken,
			DefaultAffiliation: auth.Affiliation(v.DefaultAffiliation),
		}
		for _, i := range v.Issuers {
			issuer, err := issuer(i)
			if err != nil {
				at := fmt.Sprintf("vhosts.%s, issuer %s", v.Domain, i.AppID)
				problems.List = append(problems.List, config.Problem{Source: at, Text: err.Error()})
			}
			vhost.Issuers = append(vhost.Issuers, issuer)
		}
		p.VHosts[v.Domain.String()] = vhost
	}
	if len(problems.List) > 0 {
		return auth.Policy{}, &problems
	}
	return p, nil
}

func issuer(c config.Issuer) (auth.Issuer, error) {
	i := auth.Issuer{
		Name:               c.AppID,
		Accepted:           c.AcceptedIssuers,
		Audiences:          c.AcceptedAudiences,
		RequireRoom:        c.RequireRoom,
		RequireExp:         c.RequireExp,
		DomainVerification: c.DomainVerification,
		NoWildcard:         c.NoWildcard,
		Leeway:             c.Leeway,
	}
	for _, name := range c.Algorithms {
		i.Algorithms = append(i.Algorithms, jwa.SignatureAlgorithm(name))
	}
	var err error
	if len(c.PublicKeyFiles) > 0 {
		i.Keys, err = keys.PEMFiles(c.PublicKeyFiles...)
	} else {
		var secrets [][]byte
		for _, s := range c.AppSecrets {
			secrets = append(secrets, []byte(s.Reveal()))
		}
		i.Keys, err = keys.Secrets(secrets...)
	}
	if err != nil {
		return i, err
	}
	all, err := i.Keys.Keys(context.Background(), "")
	if err != nil {
		return i, err
	}
	var usable []jwa.SignatureAlgorithm
	for _, k := range all {
		usable = append(usable, k.Algorithms...)
	}
	fits := func(a jwa.SignatureAlgorithm) bool { return slices.Contains(usable, a) }
	if !slices.ContainsFunc(i.Algorithms, fits) {
		return i, fmt.Errorf("no token would be accepted, for no key is of the kind that %s needs: "+
			"set algorithms to what the issuer uses of %s", names(i.Algorithms), names(usable))
	}
	return i, nil
}

// names lists algorithms for a sentence.
func names(algorithms []jwa.SignatureAlgorithm) string {
	var list []string
	for _, a := range algorithms {
		if !slices.Contains(list, a.String()) {
			list = append(list, a.String())
		}
	}
	return strings.Join(list, ", ")
}

// options turns a configuration into what the connection needs.
func options(c *config.Config, p auth.Policy, log *zap.Logger) component.Options {
	return component.Options{
		Server:     c.XMPP.Server,
		Domain:     c.XMPP.Domain,
		Secret:     []byte(c.XMPP.Secret.Reveal()),
		Services:   c.Rooms.Services,
		Authorizer: auth.New(p),
		Version:    release(),
		Log:        log,
	}
}

// examination turns a configuration into what the doctor needs.
func examination(c *config.Config, p auth.Policy) doctor.Options {
	o := doctor.Options{
		Server:   c.XMPP.Server,
		Domain:   c.XMPP.Domain,
		Secret:   []byte(c.XMPP.Secret.Reveal()),
		Services: c.Rooms.Services,
		Lobby:    c.Rooms.Lobby,
		Breakout: c.Rooms.Breakout,
		Jicofo:   c.Jicofo,
	}
	for _, v := range c.VHosts {
		o.VHosts = append(o.VHosts, v.Domain)
		for n, i := range v.Issuers {
			issuer := doctor.Issuer{Name: i.AppID + " of " + v.Domain.String(), Keys: p.VHosts[v.Domain.String()].Issuers[n].Keys}
			for _, s := range i.AppSecrets {
				issuer.Secrets = append(issuer.Secrets, len(s.Reveal()))
			}
			// The strictest issuer is the first to refuse.
			if len(o.Issuers) == 0 || i.Leeway < o.Leeway {
				o.Leeway = i.Leeway
			}
			o.Issuers = append(o.Issuers, issuer)
		}
	}
	return o
}

// logger returns a logger that writes to w. What is said more than a hundred times in one second is then said every
// hundredth time only, so that a flood of requests fills no disk; warnings are never left out.
func logger(c config.Log, w io.Writer) (*zap.Logger, error) {
	least, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	e.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(e)
	if c.Format == "console" {
		e.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(e)
	}
	out := zapcore.Lock(zapcore.AddSync(w))
	below := zap.LevelEnablerFunc(func(l zapcore.Level) bool { return least <= l && l < zap.WarnLevel })
	above := zap.LevelEnablerFunc(func(l zapcore.Level) bool { return least <= l && l >= zap.WarnLevel })
	return zap.New(zapcore.NewTee(
		zapcore.NewSamplerWithOptions(zapcore.NewCore(encoder, out, below), time.Second, 100, 100),
		zapcore.NewCore(encoder, out, above),
	)), nil
}
