package config_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/config/prosody/module"
)

// butFeatures returns the findings without the hint that features in tokens are not enforced, which says that Jitsi's plugins are there.
func butFeatures(findings []config.Finding) []config.Finding {
	return slices.DeleteFunc(findings, func(f config.Finding) bool {
		return f.Level == config.Hint && strings.Contains(f.Text, "context.features")
	})
}

// TestFeaturesNotEnforced checks what usher says of features that nothing enforces: without its module, without its address there, and
// without Jitsi's plugins that refuse.
func TestFeaturesNotEnforced(t *testing.T) {
	const (
		service = "Component \"conference.meet.example.com\" \"muc\"\n"
		ours    = "  usher_component = \"focus.meet.example.com\"\n"
		rules   = ";, rules: [{match: a, features: {flip: token}}, {match: b, features: {recording: owners}}, {match: c, features: {livestreaming: never, outbound-call: never}}]"

		unloaded = "are not enforced, because conference.meet.example.com does not load usher's module"
		jibri    = "nothing refuses livestreaming on meet.example.com: add Jitsi's plugin \"filter_iq_jibri\""
		rayo     = "nothing refuses outbound-call on meet.example.com: add Jitsi's plugin \"filter_iq_rayo\""
		tokens   = "meet.example.com: context.features in tokens are not enforced, and owners may do everything"
	)
	loaded := "  modules_enabled = { \"" + module.Name + "\" }\n"
	people := func(provider, modules string) string {
		return "VirtualHost \"meet.example.com\"\n  authentication = \"" + provider + "\"\n  modules_enabled = { " + modules + " }\n"
	}
	for name, test := range map[string]struct {
		rules, prosody string
		want           []string
	}{
		"neither":                  {"", people("jitsi-anonymous", "") + service, []string{tokens}},
		"no Jitsi":                 {"", people("anonymous", "") + service, nil},
		"by the provider":          {"", people("token", "") + service, nil},
		"by the module":            {"", people("jitsi-anonymous", "") + service + loaded + ours, nil},
		"rules, neither":           {rules, people("jitsi-anonymous", "") + service, []string{tokens, "rooms.rules[1].features: " + unloaded, "rooms.rules[2].features: " + unloaded}},
		"rules, provider":          {rules, people("token", "") + service, []string{"rooms.rules[1].features: " + unloaded, "rooms.rules[2].features: " + unloaded}},
		"rules, nothing refuses":   {rules, people("jitsi-anonymous", "") + service + loaded + ours, []string{"rooms.rules[2].features: " + jibri, "rooms.rules[2].features: " + rayo}},
		"rules, filter":            {rules, people("jitsi-anonymous", `"filter_iq_jibri"`) + service + loaded + ours, []string{"rooms.rules[2].features: " + rayo}},
		"rules, filters":           {rules, people("token", `"filter_iq_jibri", "filter_iq_rayo"`) + service + loaded + ours, nil},
		"rules that leave it be":   {";, rules: [{match: a, features: {recording: token}}]", people("token", "") + service + loaded + ours, nil},
		"rules of other features":  {";, rules: [{match: a, features: {flip: never}}]", people("token", "") + service + loaded + ours, nil},
		"recorders need no filter": {rules, people("token", `"filter_iq_jibri", "filter_iq_rayo"`) + "VirtualHost \"recorder.meet.example.com\"\n" + service + loaded + ours, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", doubtful("conference.meet.example.com"+test.rules, "  recorder.meet.example.com: {kind: service}\n"), "prosody.cfg.lua", test.prosody)
			findings, err := load(t, "usher.yaml").Doubts(config.Lines{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, f := range findings {
				if strings.Contains(f.Text, "features") {
					got = append(got, f.Text)
				}
			}
			if len(got) != len(test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
			for _, want := range test.want {
				if !slices.ContainsFunc(got, func(text string) bool { return strings.HasPrefix(text, want) }) {
					t.Errorf("nothing says %s, but\n%s", want, strings.Join(got, "\n"))
				}
			}
		})
	}
}

// TestLimitNobodyLifts checks that usher says where Jitsi's limit of messages looks for a token that no session has.
func TestLimitNobodyLifts(t *testing.T) {
	const (
		limited = "  modules_enabled = { \"muc_limit_messages\" }\n  muc_limit_messages_count = 10\n"
		lifted  = limited + "  muc_limit_messages_check_token = true\n"
		hint    = "conference.meet.example.com: muc_limit_messages_check_token finds no token in sessions of meet.example.com, "
	)
	people := func(provider string) string { return strings.Replace(tokensOf, `"token"`, `"`+provider+`"`, 1) }
	for name, test := range map[string]struct {
		prosody string
		said    bool
	}{
		"no token in sessions": {people("jitsi-anonymous") + roomsOf + lifted, true},
		"for all hosts":        {"muc_limit_messages_check_token = true\n" + people("jitsi-anonymous") + roomsOf + limited, true},
		"by the provider":      {people("token") + roomsOf + lifted, false},
		"nobody lifts it":      {people("jitsi-anonymous") + roomsOf + limited, false},
		"not loaded":           {people("jitsi-anonymous") + roomsOf + "  muc_limit_messages_check_token = true\n", false},
		"of another service":   {people("jitsi-anonymous") + roomsOf + "Component \"visitors.meet.example.com\" \"muc\"\n" + lifted, false},
	} {
		t.Run(name, func(t *testing.T) {
			inFolder(t, "usher.yaml", doubtful("conference.meet.example.com", ""), "prosody.cfg.lua", test.prosody)
			findings, err := load(t, "usher.yaml").Doubts(config.Lines{})
			if err != nil {
				t.Fatal(err)
			}
			said := slices.ContainsFunc(findings, func(f config.Finding) bool {
				return f.Level == config.Hint && strings.HasPrefix(f.Text, hint) && strings.HasPrefix(f.Source, "prosody prosody.cfg.lua:")
			})
			if said != test.said {
				t.Errorf("said: %t, want %t:\n%+v", said, test.said, findings)
			}
		})
	}
}
