package config

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	// Time zones must be known on machines and in containers without the tz database, too.
	_ "time/tzdata"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// rules is the path of the list of rules.
const rules = "rooms/rules"

// anyTenant is the tenant of a rule for the rooms of every tenant, and for those of none.
const anyTenant = "*"

// buildRules makes the rules of rooms that have all else already.
func (l *loader) buildRules(r map[int]rawRule, rooms Rooms) []Rule {
	var all []Rule
	for i := range l.count(rules) {
		all = append(all, l.buildRule(join(rules, strconv.Itoa(i)), r[i], rooms))
	}
	return all
}

// buildRule makes the rule that stands at a path.
func (l *loader) buildRule(at string, r rawRule, rooms Rooms) Rule {
	rule := Rule{
		Match:        r.Match,
		Tenant:       r.Tenant,
		MaxOccupants: r.MaxOccupants,
		MaxDuration:  r.MaxDuration,
		HostGrace:    r.HostGrace,
		OnHostLeft:   oneOf(l, at+"/on_host_left", OnHostLeft(r.OnHostLeft), LeftKeep, LeftLock, LeftEnd),
		FirstIsHost:  oneOf(l, at+"/first_is_host", FirstIsHost(r.FirstIsHost), FirstNever, FirstToken),
		Source:       l.place(at).source,
	}
	l.checkFits(at, rule)
	if path := at + "/wait_for_host"; l.given(path) {
		rule.WaitForHost = oneOf(l, path, WaitForHost(r.WaitForHost), WaitGuests, WaitMembers, WaitNever)
	}
	if path := at + "/guests"; l.given(path) {
		rule.Guests = oneOf(l, path, Guests(r.Guests), GuestsAllow, GuestsDeny)
	}
	if path := at + "/max_occupants"; l.given(path) && (r.MaxOccupants < 1 || r.MaxOccupants > 100_000) {
		l.fault(path, "is %d, but must be between 1 and 100000; for no limit, take it out", r.MaxOccupants)
	}
	if path := at + "/max_duration"; l.given(path) && (r.MaxDuration < time.Second || r.MaxDuration > month) {
		l.fault(path, "is %s, but must be between 1s and 720h; for no limit, take it out", PlainDuration(r.MaxDuration))
	}
	if l.given(at + "/hours") {
		rule.Hours = l.buildHours(at+"/hours", r.Hours)
	}
	if path := at + "/lobby/autostart"; l.given(path) {
		rule.Autostart = oneOf(l, path, LobbyAutostart(r.Lobby.Autostart), AutostartHost, AutostartNever)
	}
	if path := at + "/lobby/bypass"; l.given(path) {
		rule.Bypass, rule.HasBypass = l.buildBypass(path, r.Lobby.Bypass), true
	}
	if path := at + "/features"; l.given(path) {
		rule.Features = l.buildFeatures(path, r.Features)
	}
	l.checkHostLeft(at, rule, rooms)
	return rule
}

// month is the longest time that a room, or what is kept for it, may have a limit of.
const month = 30 * 24 * time.Hour

// checkFits records what is wrong with the rooms that a rule names.
func (l *loader) checkFits(at string, rule Rule) {
	match, tenant := at+"/match", at+"/tenant"
	if l.given(match) {
		l.checkPattern(match, rule.Match)
	}
	named := canonical(rule.Tenant)
	switch {
	case !l.given(match) && !l.given(tenant):
		l.missing(match, `the names of the rooms, such as "class-*", or "*" for all; or tenant`)
	case !l.given(tenant), rule.Tenant == anyTenant:
	case rule.Tenant == "":
		l.fault(tenant, `is empty: name the tenant, or write "*" for any, or take it out for rooms without a tenant`)
	case strings.ContainsAny(rule.Tenant, "*?[]@/"):
		l.fault(tenant, `%q is no tenant: it is one name, or "*" for any`, rule.Tenant)
	case rule.Tenant != named:
		l.fault(tenant, "%q fits no room: tenants are compared in lower case and in Unicode's form NFKC; write %q", rule.Tenant, named)
	}
}

// canonical returns a name as auth.CanonicalName has those that it is compared with.
func canonical(name string) string { return cases.Lower(language.Und).String(norm.NFKC.String(name)) }

// checkHostLeft records what has no effect when the last host leaves.
func (l *loader) checkHostLeft(at string, rule Rule, rooms Rooms) {
	left, grace := at+"/on_host_left", at+"/host_grace"
	wait := rule.WaitForHost
	if wait == "" {
		wait = rooms.WaitForHost
	}
	switch {
	case wait == WaitNever && rule.OnHostLeft != LeftEnd && l.given(left):
		l.fault(left, "has no effect with wait_for_host: never, where nobody waits: take it out")
	case rule.HostGrace < 0 || rule.HostGrace > 24*time.Hour:
		l.fault(grace, "is %s, but must be between 0s and 24h", PlainDuration(rule.HostGrace))
	case !l.given(grace):
	case rule.OnHostLeft == LeftKeep:
		l.fault(grace, "has no effect with on_host_left: keep, where nothing happens when a host leaves: take it out")
	case wait == WaitNever && rule.OnHostLeft == LeftLock:
		l.fault(grace, "has no effect with wait_for_host: never, where nobody waits: take it out, or write on_host_left: end")
	}
}

// weekdays are the days as the configuration writes them, in the order of [time.Weekday].
var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

// buildHours makes the hours that stand at a path.
func (l *loader) buildHours(at string, r rawHours) *Hours {
	h := &Hours{Until: 24 * time.Hour, Zone: time.UTC}
	if days := at + "/days"; l.given(days) {
		h.Days = l.buildDays(days, r.Days)
	} else {
		h.Days = []time.Weekday{time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday, time.Saturday, time.Sunday}
	}
	from, until := at+"/from", at+"/until"
	if l.given(from) {
		h.From = l.timeOfDay(from, r.From)
		if h.From == 24*time.Hour {
			l.fault(from, `is the end of the day: write "00:00" for its begin`)
		}
	}
	if l.given(until) {
		h.Until = l.timeOfDay(until, r.Until)
	}
	if !l.faulty[from] && !l.faulty[until] && h.From == h.Until {
		l.fault(until, `is the same as from: for the whole day, write from: "00:00" and until: "24:00", or take both out`)
	}
	zone := at + "/zone"
	if !l.given(zone) {
		l.missing(zone, "the time zone of the hours, such as Europe/Berlin or UTC")
		return h
	}
	// The zone of this machine may be another one tomorrow, or in the next container.
	if loaded, err := time.LoadLocation(r.Zone); err != nil || r.Zone == "" || r.Zone == "Local" {
		l.fault(zone, "%q is no time zone: write it as the tz database does, such as Europe/Berlin or UTC", r.Zone)
	} else {
		h.Zone = loaded
	}
	return h
}

// buildDays makes the days that a path lists.
func (l *loader) buildDays(at string, names []string) (days []time.Weekday) {
	for i, name := range names {
		here := join(at, strconv.Itoa(i))
		day := time.Weekday(slices.Index(weekdays, name))
		switch {
		case day < 0:
			oneOf(l, here, name, slices.Concat(weekdays[1:], weekdays[:1])...)
		case slices.Contains(days, day):
			l.fault(here, "names %s again: once is enough", name)
		default:
			days = append(days, day)
		}
	}
	if len(names) == 0 {
		l.fault(at, "is empty, so the room would never open: name the days, or take it out for every day")
	}
	return days
}

// timeOfDay reads a time between 00:00 and 24:00.
func (l *loader) timeOfDay(at, text string) time.Duration {
	if text == "24:00" {
		return 24 * time.Hour
	}
	clock, err := time.Parse("15:04", text)
	if err != nil {
		l.fault(at, `%q is no time of day: write it like "08:00"`, text)
		return 0
	}
	return time.Duration(clock.Hour())*time.Hour + time.Duration(clock.Minute())*time.Minute
}

// buildAfterKick reads what becomes of people that a moderator has put out.
func (l *loader) buildAfterKick(at, text string) (a AfterKick) {
	word, rest, _ := strings.Cut(text, " ")
	switch {
	case text == "ask":
	case text == "bar":
		a.Bar = true
	case word == "wait":
		d, err := time.ParseDuration(strings.TrimSpace(rest))
		if err != nil || d < time.Second || d > month {
			l.fault(at, "%q needs a duration between 1s and 720h: write it like wait 10m", text)
		}
		a.Wait = d
	default:
		l.fault(at, "%q is not known: it must be ask, bar, or wait and a duration, such as wait 10m", text)
	}
	return a
}

// checkAfterKick records that nobody could be kept out after a kick.
func (l *loader) checkAfterKick(c *Config) {
	known := func(v VHost) bool { return v.Kind == KindTrusted || c.TakesTokens(v) }
	if c.Rooms.AfterKick != (AfterKick{}) && len(c.VHosts) > 0 && !l.garbled && !slices.ContainsFunc(c.VHosts, known) {
		l.fault("rooms/after_kick", "has no effect, because all are guests, and usher cannot tell one from another: take it out")
	}
}

// checkFirstIsHost records rules that make hosts of people with tokens where nobody has one.
func (l *loader) checkFirstIsHost(c *Config) {
	for i, rule := range c.Rooms.Rules {
		at := join(join(rules, strconv.Itoa(i)), "first_is_host")
		if rule.FirstIsHost == FirstToken && !l.garbled && !slices.ContainsFunc(c.VHosts, c.TakesTokens) {
			l.fault(at, "has no effect, because no virtual host has an issuer of tokens: take it out")
		} else if rule.FirstIsHost == FirstToken && !l.garbled && c.allOwners() {
			l.warn(at, "default_affiliation is owner everywhere, so each token that names no role makes a host, the first one or not: set "+
				"default_affiliation: member with it")
		}
	}
}

// allOwners reports whether the tokens of all issuers make owners of people if they name no role.
func (c *Config) allOwners() bool {
	if c.Portal.Sign == SignKey { // its tokens name a role
		return false
	}
	for _, v := range c.VHosts {
		for _, i := range v.Issuers {
			named := i.Claims.Affiliation.Path != "" || len(i.Claims.Affiliation.Values) > 0 // then a token without one makes a member
			if named || cmp.Or(i.DefaultAffiliation, v.DefaultAffiliation) != Owner {
				return false
			}
		}
	}
	return true
}

// buildEnding makes how rights end that tokens of the section at a path give: a virtual host, or an issuer in its list. What the section
// does not say is as in general.
func (l *loader) buildEnding(at string, r, general Ending) Ending {
	e := general
	onExpiry, grace, reuse, of := at+"/on_expiry", at+"/expiry_grace", at+"/token_reuse", at+"/token_reuse_of"
	if l.given(onExpiry) {
		e.OnExpiry = oneOf(l, onExpiry, r.OnExpiry, ExpiryKeep, ExpiryRemove)
	}
	if l.given(grace) {
		e.ExpiryGrace = r.ExpiryGrace
	}
	if l.given(reuse) {
		e.Reuse = oneOf(l, reuse, r.Reuse, ReuseAllow, ReuseReplace, ReuseRefuse)
	}
	if l.given(of) {
		e.ReuseOf = oneOf(l, of, r.ReuseOf, ReuseOfToken, ReuseOfSub)
	}
	if e.ExpiryGrace < 0 || e.ExpiryGrace > 24*time.Hour {
		l.fault(grace, "is %s, but must be between 0s and 24h", PlainDuration(e.ExpiryGrace))
	}
	return e
}

// checkEnding records keys of the section at a path, a virtual host or an issuer in its list, that have no effect on the issuers that it is
// for, or that contradict them.
func (l *loader) checkEnding(at string, issuers ...Issuer) {
	if len(issuers) == 0 {
		return
	}
	none := func(is func(Issuer) bool) bool { return !l.garbled && !slices.ContainsFunc(issuers, is) }
	if grace := at + "/expiry_grace"; l.given(grace) && none(func(i Issuer) bool { return i.OnExpiry == ExpiryRemove }) {
		l.fault(grace, "has no effect without on_expiry: remove: take it out, or write that")
	}
	of := at + "/token_reuse_of"
	if !l.given(of) {
		return
	}
	if none(func(i Issuer) bool { return i.Reuse != ReuseAllow }) {
		l.fault(of, "has no effect without token_reuse: replace or refuse: take it out, or write one of them")
	}
	for n, i := range issuers {
		own := join(join(at+"/issuers", strconv.Itoa(n)), "token_reuse_of")
		if i.ReuseOf == ReuseOfSub && i.DomainVerification && !l.given(own) {
			l.fault(of, "sub contradicts domain_verification of the issuer %s: the claim sub is then the name of a domain or tenant, which all its "+
				"people have, so they would all be the same person. Write domain_verification: false if sub names a person, or token_reuse_of: token", i.AppID)
		}
	}
}
