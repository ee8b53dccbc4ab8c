package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/xmpp-usher/usher/config/gate"
	"github.com/xmpp-usher/usher/config/prosody"
)

// filters are Jitsi's plugins of virtual hosts that refuse people what their features forbid, with the features that they read.
// docker-jitsi-meet loads neither. What else reads features is loaded wherever it is used.
var filters = []struct {
	module   string
	features []string
}{
	{"filter_iq_jibri", []string{"livestreaming", "recording"}},
	{"filter_iq_rayo", []string{"outbound-call", "transcription"}},
}

// features finds features that nothing enforces: those of the rules of rooms, and those of tokens.
func (d *doubts) features() {
	without := d.withoutModule()
	named := map[string]string{} // where a feature is asked for first
	for n, rule := range d.c.Rooms.Rules {
		key := fmt.Sprintf("rooms.rules[%d].features", n)
		narrows := false
		for feature, who := range rule.Features {
			if who != FeatureToken {
				named[feature] = cmp.Or(named[feature], key)
				narrows = true
			}
		}
		if narrows && without != "" {
			d.doubt(key, "are not enforced, because %s", without)
		}
	}
	for _, v := range d.c.VHosts {
		d.featuresOfTokens(v, without)
	}
	for _, f := range filters {
		for _, feature := range f.features {
			if key := named[feature]; key != "" && without == "" {
				d.unfiltered(key, feature, f.module)
				break
			}
		}
	}
}

// withoutModule says which guarded MUC service lacks usher's module; "" if none does. That the module does not know usher is found
// elsewhere.
func (d *doubts) withoutModule() string {
	for _, m := range d.c.mucs() {
		s := d.p.Host(m.service.String())
		if !m.annex && isMUC(s) && !loadsModule(s) {
			return fmt.Sprintf("%s does not load usher's module, which writes them into the sessions of clients: add %s to modules_enabled, and %s",
				s.Name, gate.Quote(gate.Module), d.c.tellsTo().Line())
		}
	}
	return ""
}

// featuresOfTokens finds a virtual host where context.features in tokens have no effect, although Jitsi's plugins are there that would heed
// them. If the module is missing that must be there, that is found elsewhere.
func (d *doubts) featuresOfTokens(v VHost, without string) {
	s := d.p.Host(v.Domain.String())
	if without == "" || d.c.Rooms.Enforcement == Module || !hasJitsi(d.rest) || !isVHost(s) || !d.c.TakesTokens(v) {
		return
	}
	if provider, at, _ := authentication(s); provider != ProviderToken {
		d.find(Hint, at, "", "%s: context.features in tokens are not enforced, and owners may do everything, because %s", s.Name, without)
	}
}

// unfiltered finds virtual hosts of people on which nothing refuses a feature that a rule takes away.
func (d *doubts) unfiltered(key, feature, filter string) {
	var bare []string
	for _, v := range d.c.VHosts {
		if s := d.p.Host(v.Domain.String()); isVHost(s) && v.Kind != KindService && !loads(s, filter) {
			bare = append(bare, s.Name)
		}
	}
	if len(bare) > 0 {
		d.doubt(key, "nothing refuses %s on %s: add Jitsi's plugin %s to modules_enabled there", feature, strings.Join(bare, ", "), gate.Quote(filter))
	}
}

// messages finds a limit of messages that somebody with a token is to lift, and nobody does: Jitsi's plugin looks for the token of the
// connection (mod_muc_limit_messages.lua), and jitsi-anonymous leaves none in the session (mod_auth_jitsi-anonymous.lua).
func (d *doubts) messages() {
	const option = "muc_limit_messages_check_token"
	bare := slices.IndexFunc(d.c.VHosts, func(v VHost) bool {
		s := d.p.Host(v.Domain.String())
		if !isVHost(s) || !d.c.TakesTokens(v) {
			return false
		}
		provider, _, _ := authentication(s)
		return provider == ProviderJitsi
	})
	for _, m := range d.c.mucs() {
		s := d.p.Host(m.service.String())
		if bare < 0 || m.annex || !isMUC(s) || !loads(s, "muc_limit_messages") {
			continue
		}
		if lifts, at, _, _ := s.Bool(option); lifts {
			d.find(Hint, at, "", "%s: %s finds no token in sessions of %s, because authentication = %q leaves none there, so people with a token do not "+
				"lift the limit. With usher config prosody --authentication %s they do", s.Name, option, d.c.VHosts[bare].Domain, ProviderJitsi, ProviderToken)
		}
	}
}

// loads reports whether a host loads a module.
func loads(s *prosody.Section, name string) bool {
	return slices.ContainsFunc(s.Modules(), func(m prosody.Module) bool { return m.Name == name })
}
