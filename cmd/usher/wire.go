package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"mellium.im/xmpp/jid"

	"github.com/xmpp-usher/usher/auth"
	"github.com/xmpp-usher/usher/auth/keys"
	"github.com/xmpp-usher/usher/auth/store"
	"github.com/xmpp-usher/usher/component"
	"github.com/xmpp-usher/usher/component/doctor"
	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/prosody/module"
	"github.com/xmpp-usher/usher/pkg/token"
)

// configFlag adds the flag that names the configuration files.
func configFlag(cmd *cobra.Command, files *[]string) {
	cmd.Flags().StringArrayVarP(files, "config", "c", nil, "configuration `file`: usher.yaml, a .cfg.lua of Prosody, or a .env of\n"+
		"docker-jitsi-meet or MiroTalk. Repeat it for more files. The environment counts, too")
}

// load reads the configuration from files and environment, and the keys that it names. The error lists every mistake. Keys of
// servers are fetched later, into the cache.
func load(files, environ []string, remote *keys.Cache) (*config.Config, auth.Policy, error) {
	made := newIssuers(remote)
	c, err := config.Load(files, configEnviron(environ), made.add)
	if err != nil && len(files) == 0 {
		err = fmt.Errorf("%w\nNo configuration file was named, so only the environment counts. To name one: -c usher.yaml", err)
	}
	if err != nil {
		return nil, auth.Policy{}, err
	}
	p := policy(c, made)
	if problems := slices.Concat(unreachable(c, p), unreadable(c), withPortal(c, environ, p)); len(problems) > 0 {
		return nil, auth.Policy{}, &config.Problems{List: problems, Files: c.Files}
	}
	return c, p, nil
}

// unreadable returns a problem if the client library of the shared store does not understand its address. It connects to nothing.
func unreadable(c *config.Config) []config.Problem {
	if !c.Store.Shared() {
		return nil
	}
	s, err := store.Redis(store.Options{}, redisOptions(c.Store))
	if err == nil {
		err = s.Close()
	}
	if err == nil {
		return nil
	}
	return []config.Problem{{Key: "store.url", Text: err.Error(), Source: sourceOf(c, "store.url")}}
}

// sourceOf returns where a key of the configuration is set.
func sourceOf(c *config.Config, key string) string {
	for _, s := range c.Settings {
		if s.Key == key {
			return s.Origin
		}
	}
	return ""
}

// redisOptions turns the shared store of a configuration into the options of package store.
func redisOptions(s config.Store) store.RedisOptions {
	return store.RedisOptions{URL: s.URL.Reveal(), Password: s.Password.Reveal(), CA: s.CA, Prefix: s.Prefix}
}

// unreachable returns a problem for each rule of rooms that never holds, because the rules before it leave it no room.
func unreachable(c *config.Config, p auth.Policy) (problems []config.Problem) {
	hidden := auth.Shadowed(p.Rules)
	for _, n := range slices.Sorted(maps.Keys(hidden)) {
		by := hidden[n]
		problems = append(problems, config.Problem{Source: c.Rooms.Rules[n].Source, Key: ruleKey(n),
			Text: fmt.Sprintf("never holds, because %s (%s) is before it and fits all its rooms: move it up, or take it out", ruleKey(by), c.Rooms.Rules[by].Source)})
	}
	return problems
}

// ruleKey is the key of a rule of rooms.
func ruleKey(n int) string { return fmt.Sprintf("rooms.rules[%d]", n) }

// configEnviron returns an environment without the variable of "usher token mint", which is not part of the configuration.
func configEnviron(environ []string) []string {
	return slices.DeleteFunc(environ, func(v string) bool { return strings.HasPrefix(v, mintSecret+"=") })
}

// policy turns a configuration, and the issuers that were made while it was loaded, into the policy of package auth.
func policy(c *config.Config, made *issuers) auth.Policy {
	p := auth.Policy{
		VHosts:          make(map[string]auth.VHost, len(c.VHosts)),
		WaitForHost:     auth.WaitForHost(c.Rooms.WaitForHost),
		GuestRooms:      c.Rooms.GuestRooms,
		HostAffiliation: auth.Affiliation(c.Rooms.HostAffiliation),
		Login:           auth.Login(c.Login),
		Lobby:           !c.Rooms.Lobby.Equal(jid.JID{}),
		LobbyAutostart:  c.Lobby.Autostart == config.AutostartHost,
		LobbyBypass:     affiliations(c.Lobby.Bypass),
		AfterKick:       afterKick(c.Rooms.AfterKick),
	}
	if !c.Rooms.Breakout.Equal(jid.JID{}) {
		p.Breakout = c.Rooms.Breakout.String()
	}
	for _, r := range c.Rooms.Rules {
		p.Rules = append(p.Rules, rule(r))
	}
	for _, service := range c.Rooms.Services {
		p.Services = append(p.Services, service.String())
	}
	for _, v := range c.VHosts {
		p.VHosts[v.Domain.String()] = auth.VHost{
			Kind:               auth.Kind(v.Kind),
			AllowEmptyToken:    v.AllowEmptyToken,
			DefaultAffiliation: auth.Affiliation(v.DefaultAffiliation),
			Issuers:            made.of[v.Domain.String()],
		}
	}
	return p
}

// rule turns a rule of rooms into one of package auth.
func rule(r config.Rule) auth.Rule {
	to := auth.Rule{
		Match:          cmp.Or(r.Match, "*"),
		Tenant:         r.Tenant,
		WaitForHost:    auth.WaitForHost(r.WaitForHost),
		Guests:         auth.Guests(r.Guests),
		MaxOccupants:   r.MaxOccupants,
		MaxDuration:    r.MaxDuration,
		OnHostLeft:     auth.OnHostLeft(r.OnHostLeft),
		HostGrace:      r.HostGrace,
		FirstIsHost:    auth.FirstIsHost(r.FirstIsHost),
		LobbyBypass:    affiliations(r.Bypass),
		HasLobbyBypass: r.HasBypass,
	}
	if h := r.Hours; h != nil {
		to.Hours = &auth.Hours{Days: h.Days, From: h.From, Until: h.Until, Zone: h.Zone}
		if len(h.Days) == 7 {
			to.Hours.Days = nil // "every day" reads better
		}
	}
	for name, who := range r.Features {
		if to.Features == nil {
			to.Features = make(map[string]auth.FeatureRule, len(r.Features))
		}
		to.Features[name] = auth.FeatureRule(who)
	}
	if r.Autostart != "" {
		on := r.Autostart == config.AutostartHost
		to.LobbyAutostart = &on
	}
	return to
}

func affiliations(from []config.Affiliation) (to []auth.Affiliation) {
	for _, a := range from {
		to = append(to, auth.Affiliation(a))
	}
	return to
}

func afterKick(a config.AfterKick) auth.AfterKick {
	switch {
	case a.Bar:
		return auth.AfterKick{Then: auth.KickBar}
	case a.Wait > 0:
		return auth.AfterKick{Then: auth.KickWait, Wait: a.Wait}
	}
	return auth.AfterKick{Then: auth.KickAsk}
}

// issuers collects the issuers of package auth while a configuration is loaded. An issuer that cannot be made is a fault of the
// configuration.
type issuers struct {
	remote *keys.Cache
	of     map[string][]auth.Issuer // by virtual host
}

func newIssuers(remote *keys.Cache) *issuers {
	return &issuers{remote: remote, of: map[string][]auth.Issuer{}}
}

// add is a config.Check.
func (m *issuers) add(vhost jid.JID, c config.Issuer) (faults []config.Fault) {
	i := auth.Issuer{
		Name:               c.AppID,
		Accepted:           c.AcceptedIssuers,
		Audiences:          c.AcceptedAudiences,
		RequireRoom:        c.RequireRoom,
		RequireExp:         c.RequireExp,
		DomainVerification: c.DomainVerification,
		NoWildcard:         c.NoWildcard,
		Leeway:             c.Leeway,
		DefaultAffiliation: auth.Affiliation(c.DefaultAffiliation),
		OnExpiry:           auth.OnExpiry(c.OnExpiry),
		ExpiryGrace:        c.ExpiryGrace,
		OneTime:            c.OneTime,
		Reuse:              auth.Reuse(c.Reuse),
		ReuseOf:            auth.ReuseOf(c.ReuseOf),
	}
	for _, name := range c.Algorithms {
		i.Algorithms = append(i.Algorithms, jwa.SignatureAlgorithm(name))
	}
	i.Claims, faults = claims(c.Claims)
	if c.Tenant != "" {
		var err error
		if i.Tenant, err = auth.CanonicalName(c.Tenant); err != nil {
			faults = append(faults, config.Fault{Key: "tenant", Text: fmt.Sprintf("%q is no name that a room can have", c.Tenant)})
		}
	}
	source, failed := sources(c, i.Algorithms, m.remote)
	i.Keys = source
	m.of[vhost.String()] = append(m.of[vhost.String()], i)
	return append(faults, failed...)
}

// claims turns a claim map of the configuration into one of package token.
func claims(c config.ClaimMap) (m token.ClaimMap, faults []config.Fault) {
	for _, claim := range []struct {
		name string
		from config.Claim
		to   *token.Claim
	}{
		{"affiliation", c.Affiliation, &m.Affiliation}, {"id", c.ID, &m.ID}, {"name", c.Name, &m.Name},
		{"group", c.Group, &m.Group}, {"room", c.Room, &m.Room}, {"tenant", c.Tenant, &m.Tenant},
	} {
		key := "claims/" + claim.name
		if _, err := token.NewClaim(claim.from.Path, nil); err != nil {
			faults = append(faults, config.Fault{Key: key, Text: err.Error()})
		}
		for _, value := range slices.Sorted(maps.Keys(claim.from.Values)) {
			meaning := claim.from.Values[value]
			_, err := token.NewClaim("", map[string]string{value: meaning})
			if err == nil && claim.to == &m.Affiliation && token.Affiliation(meaning) == "" {
				err = fmt.Errorf("%q is no affiliation: it must be owner, admin or member", meaning)
			}
			if err != nil {
				faults = append(faults, config.Fault{Key: key + "_values", Entry: value, Text: err.Error()})
			}
		}
		*claim.to, _ = token.NewClaim(claim.from.Path, claim.from.Values) // zero if there is a fault
	}
	return m, faults
}

// sources returns the source of an issuer's keys. It does not ask servers. Without a source there are no keys, and no token
// counts.
func sources(c config.Issuer, algorithms []jwa.SignatureAlgorithm, remote *keys.Cache) (auth.KeySource, []config.Fault) {
	var k keySources
	if len(c.AppSecrets) > 0 {
		var secrets [][]byte
		for _, s := range c.AppSecrets {
			secrets = append(secrets, []byte(s.Reveal()))
		}
		source, err := keys.Secrets(secrets...)
		k.add("app_secrets", source, err)
	}
	for n, file := range c.PublicKeyFiles {
		source, err := keys.PEMFiles(file)
		k.addFile(fmt.Sprintf("public_key_files/%d", n), file, source, err)
	}
	if c.JWKSFile != "" {
		source, err := keys.JWKSFile(c.JWKSFile)
		k.addFile("jwks_file", c.JWKSFile, source, errors.Join(err))
	}
	remotes := servers(c, remote)
	for _, server := range remotes {
		source, err := server.source()
		k.add(server.key, source, err)
	}
	// Keys that are fetched later, or that cannot be read, may be of any kind.
	if len(k.all) > 0 && len(k.faults) == 0 && len(remotes) == 0 {
		if text := unfitting(keys.Join(k.all...), algorithms); text != "" {
			k.faults = append(k.faults, config.Fault{Key: "algorithms", Text: text})
		}
	}
	return keys.Join(k.all...), k.faults
}

// keySources collects the sources of an issuer's keys, and what is wrong with them.
type keySources struct {
	all    []auth.KeySource
	faults []config.Fault
}

// add adds the source that a key of the configuration names, or the error why there is none.
func (k *keySources) add(key string, source auth.KeySource, err error) {
	if err == nil {
		k.all = append(k.all, source)
		return
	}
	k.faults = append(k.faults, config.Fault{Key: key, Text: err.Error()})
}

// addFile is add for a source that is a file or folder. Each file in a folder can have an error of its own. The place of a problem
// names the file already, but not a file in a folder.
func (k *keySources) addFile(key, name string, source auth.KeySource, err error) {
	all, joined := err.(interface{ Unwrap() []error })
	if !joined {
		k.add(key, source, err)
		return
	}
	for _, err := range all.Unwrap() {
		f := config.Fault{Key: key, Text: err.Error()}
		if wrong, ok := errors.AsType[*fs.PathError](err); ok {
			if f.Text = wrong.Err.Error(); wrong.Path != name {
				f.Entry = filepath.Base(wrong.Path)
			}
		}
		k.faults = append(k.faults, f)
	}
}

// server is a server with keys of an issuer.
type server struct {
	key, address string
	source       func() (keys.Remote, error)
}

// servers returns the servers with keys of an issuer.
func servers(c config.Issuer, remote *keys.Cache) []server {
	var all []server
	for _, s := range []struct {
		key, address string
		source       func(string, time.Duration) (keys.Remote, error)
	}{
		{"jwks_url", c.JWKSURL, remote.JWKS}, {"asap_key_server", c.ASAPKeyServer, remote.ASAP}, {"cache_keys_url", c.CacheKeysURL, remote.KeyMap},
	} {
		if s.address != "" {
			all = append(all, server{s.key, s.address, func() (keys.Remote, error) { return s.source(s.address, c.KeysMaxStale) }})
		}
	}
	return all
}

// unfitting says that no key fits any of the algorithms, or returns "".
func unfitting(source auth.KeySource, algorithms []jwa.SignatureAlgorithm) string {
	all, _ := source.Keys(context.Background(), "") // cannot fail for keys that are here already
	var usable []jwa.SignatureAlgorithm
	for _, k := range all {
		usable = append(usable, k.Algorithms...)
	}
	if slices.ContainsFunc(algorithms, func(a jwa.SignatureAlgorithm) bool { return slices.Contains(usable, a) }) {
		return ""
	}
	return fmt.Sprintf("no token would be accepted, because no key fits %s: "+
		"set algorithms to what the issuer uses of %s", names(algorithms), names(usable))
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

// openStore opens the store, for a process with this environment. Only here the default folder is made, and readable by usher's
// user alone.
func openStore(c *config.Config, environ []string, log *zap.Logger) (store.Store, error) {
	o := store.Options{MaxBytes: int64(c.Store.MaxSize), Patience: standbyEvery, Warn: func(k store.Kind, bytes, of int64) {
		log.Warn("the store is nearly full; raise store.max_size", zap.String("kind", string(k)),
			zap.Int64("mib", bytes>>20), zap.Int64("of", of>>20))
	}, Late: func(err error) {
		log.Warn("the store's journal cannot be written into its file; usher tries again each second, and lets people in until the journal is full",
			zap.Error(err))
	}}
	if c.Store.Shared() {
		return openShared(c, o)
	}
	file, err := c.StoreFile(environ)
	switch {
	case err != nil:
		return nil, fmt.Errorf("store.path: %w", err)
	case file == "":
		return store.Memory(o), nil
	}
	if c.Store.Path == "" {
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			return nil, fmt.Errorf("store.path: could not make the folder for the store (%w): name a file in a folder that usher may "+
				"write to, or memory", err)
		}
	}
	s, err := store.Open(file, o)
	if err != nil {
		return nil, fmt.Errorf("store.path: %w", err)
	}
	return s, nil
}

// openShared opens the store that several ushers share. It does not fail when the Redis is away.
func openShared(c *config.Config, o store.Options) (store.Store, error) {
	s, err := store.Redis(o, redisOptions(c.Store))
	if err != nil {
		return nil, fmt.Errorf("store.url: %w", err)
	}
	return s, nil
}

// storeInWords says where the store is.
func storeInWords(c *config.Config, environ []string) string {
	file, err := c.StoreFile(environ)
	switch {
	case err != nil:
		return "store.path: " + err.Error()
	case c.Store.Shared():
		return fmt.Sprintf("Sessions, grants and waiting requests are kept in the Redis at %s, which several ushers may share.", c.Store.InWords())
	case file == "":
		return "Sessions, grants and waiting requests end with usher."
	}
	return fmt.Sprintf("Sessions, grants and waiting requests are kept in %s.", file)
}

// authorizer returns the authorizer of a configuration, with the sessions of the store.
func authorizer(c *config.Config, p auth.Policy, s store.Store) *auth.Authorizer {
	if c.Sessions {
		p.Sessions = store.Sessions{Store: s}
	}
	p.Refusals = store.Refusals{Store: s}
	return auth.New(p)
}

// options turns a configuration into the options of package component.
func options(c *config.Config, p auth.Policy, s store.Store, log *zap.Logger) component.Options {
	hold, holdJitsi := c.Rooms.WaitHold, c.Rooms.WaitHoldJitsi
	if c.Store.Memory {
		hold, holdJitsi = 0, 0 // the next usher could not answer held requests
	}
	return component.Options{
		Server:        c.XMPP.Server,
		Domain:        c.XMPP.Domain,
		Secret:        []byte(c.XMPP.Secret.Reveal()),
		Services:      c.Rooms.Services,
		Authorizer:    authorizer(c, p, s),
		MembersOnly:   c.Rooms.Enforcement == config.MembersOnly,
		Jicofo:        c.Jicofo.JID,
		ForwardToken:  c.Jicofo.ForwardToken,
		EnforceRoles:  c.Jicofo.EnforceRoles,
		GuardInterval: c.Rooms.GuardInterval,
		Lobby:         c.Rooms.Lobby,
		WaitHold:      hold,
		WaitHoldJitsi: holdJitsi,
		Store:         s,
		Outlives:      !c.Store.Memory,
		Now:           time.Now,
		Version:       release(),
		Log:           log,
	}
}

// examination turns a configuration into the options of package doctor.
func examination(c *config.Config, p auth.Policy, remote *keys.Cache) doctor.Options {
	o := doctor.Options{
		Server:   c.XMPP.Server,
		Domain:   c.XMPP.Domain,
		Secret:   []byte(c.XMPP.Secret.Reveal()),
		Services: c.Rooms.Services,
		Lobby:    c.Rooms.Lobby,
		Breakout: c.Rooms.Breakout,
		Jicofo:   c.Jicofo.JID,

		Module:        c.Rooms.Enforcement == config.Module,
		ModuleVersion: module.Version,
		Autostart:     c.Lobby.Autostart == config.AutostartHost,

		EnforceRoles: c.Jicofo.EnforceRoles,
		Shared:       c.Store.Shared(),
	}
	for _, v := range c.VHosts {
		o.VHosts = append(o.VHosts, v.Domain)
		for n, i := range v.Issuers {
			issuer := doctor.Issuer{Name: i.AppID + " of " + v.Domain.String()}
			for _, s := range i.AppSecrets {
				issuer.Secrets = append(issuer.Secrets, len(s.Reveal()))
			}
			// The strictest issuer is the first to refuse.
			if len(o.Issuers) == 0 || i.Leeway < o.Leeway {
				o.Leeway = i.Leeway
			}
			o.Issuers = append(o.Issuers, issuer)
			o.Sources = append(o.Sources, checkable(i, issuer.Name, p.VHosts[v.Domain.String()].Issuers[n].Keys, remote)...)
		}
	}
	return o
}

// checkable returns the sources of an issuer's keys for the doctor: each server, or the keys that are here if there is no server.
func checkable(i config.Issuer, name string, here auth.KeySource, remote *keys.Cache) []doctor.Source {
	var all []doctor.Source
	for _, s := range servers(i, remote) {
		source, err := s.source()
		if err == nil { // there was no error when the policy was made, either
			all = append(all, doctor.Source{Name: name + ", " + s.key, Check: source.Check, Unlisted: s.key == "asap_key_server"})
		}
	}
	if len(all) == 0 {
		all = append(all, doctor.Source{Name: name, Check: func(ctx context.Context) ([]auth.Key, []error, error) {
			keys, err := here.Keys(ctx, "")
			return keys, nil, err
		}})
	}
	return all
}

// logger returns a logger that writes to w, and the level, which can be changed later. It drops nothing; package component keeps
// a flood of requests from filling the disk.
func logger(c config.Log, w io.Writer) (*zap.Logger, zap.AtomicLevel, error) {
	least, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, least, fmt.Errorf("log.level: %w", err)
	}
	e := zap.NewProductionEncoderConfig()
	e.EncodeTime = zapcore.ISO8601TimeEncoder
	e.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(e)
	if c.Format == "console" {
		e.EncodeLevel = zapcore.CapitalLevelEncoder
		encoder = zapcore.NewConsoleEncoder(e)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), least)), least, nil
}
