package config_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/config"
)

// TestRules checks what the example of the rules means.
func TestRules(t *testing.T) {
	stage(t)
	c := load(t, "good-rules.yaml")
	want := `rule = {Match:class-* Tenant: WaitForHost:members Guests:deny MaxOccupants:30 Hours:<nil> MaxDuration:2h0m0s OnHostLeft:lock ` +
		`HostGrace:5m0s FirstIsHost:token Autostart:host Bypass:[owner] HasBypass:true Features:map[a/b:token livestreaming:never recording:owners] Source:}
  hours = [Monday Tuesday Wednesday Thursday Friday] 8h0m0s-18h0m0s Europe/Berlin
rule = {Match:night-* Tenant:* WaitForHost: Guests: MaxOccupants:0 Hours:<nil> MaxDuration:0s OnHostLeft:end ` +
		`HostGrace:0s FirstIsHost:never Autostart: Bypass:[] HasBypass:false Features:map[] Source:}
  hours = [Monday Tuesday Wednesday Thursday Friday Saturday Sunday] 22h0m0s-6h0m0s UTC
rule = {Match: Tenant:acme WaitForHost: Guests: MaxOccupants:0 Hours:<nil> MaxDuration:0s OnHostLeft:lock ` +
		`HostGrace:0s FirstIsHost:never Autostart: Bypass:[] HasBypass:true Features:map[] Source:}
  hours = [Saturday Sunday] 0s-24h0m0s America/New_York
`
	if got := reveal(c); !strings.Contains(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if at := c.Rooms.Rules[0].Source; at != "good-rules.yaml:10" {
		t.Errorf("the first rule is at %s", at)
	}
	if c.Rooms.AfterKick != (config.AfterKick{Wait: 10 * time.Minute}) {
		t.Errorf("after a kick %+v", c.Rooms.AfterKick)
	}
}

// TestEnding checks that an issuer's own keys go before those of its virtual host.
func TestEnding(t *testing.T) {
	stage(t)
	c := load(t, "good-ending.yaml")
	is := c.VHosts[0].Issuers
	a := config.Ending{OnExpiry: config.ExpiryRemove, ExpiryGrace: 5 * time.Minute, Reuse: config.ReuseRefuse, ReuseOf: config.ReuseOfToken}
	b := config.Ending{OnExpiry: config.ExpiryKeep, Reuse: config.ReuseReplace, ReuseOf: config.ReuseOfSub}
	if is[0].Ending != a || !is[0].OneTime || is[1].Ending != b || is[1].OneTime {
		t.Errorf("%+v, %+v", is[0], is[1])
	}
	if !c.Rooms.AfterKick.Bar || c.VHosts[1].Issuers[0].Reuse != config.ReuseReplace {
		t.Errorf("%+v, %+v", c.Rooms.AfterKick, c.VHosts[1])
	}
}

// TestShown checks that "config show" writes a usher.yaml that means the same, lists of sections included.
func TestShown(t *testing.T) {
	stage(t)
	for _, name := range []string{"good-rules.yaml", "good-ending.yaml"} {
		c, err := config.Load([]string{name}, []string{"USHER_LOGIN=password"}) // nobody says it, so it is shown as password
		if err != nil {
			t.Fatal(err)
		}
		write(t, "shown.yaml", c.YAML())
		if got, want := reveal(load(t, "shown.yaml")), reveal(c); got != want {
			t.Errorf("%s is shown as\n%s\nwhich means\n%s\nand not\n%s", name, c.YAML(), got, want)
		}
	}
}

// TestRulesByEnvironment checks that the environment can say the same as the file, and change a rule of it.
func TestRulesByEnvironment(t *testing.T) {
	stage(t)
	environ := append([]string{
		"USHER_ROOMS_LOBBY=lobby.meet.example.com", "USHER_ROOMS_ENFORCEMENT=module", "USHER_ROOMS_AFTER_KICK=bar",
		"USHER_ROOMS_RULES_0_MATCH=class-*", "USHER_ROOMS_RULES_0_WAIT_FOR_HOST=members", "USHER_ROOMS_RULES_0_GUESTS=deny",
		"USHER_ROOMS_RULES_0_MAX_OCCUPANTS=30", "USHER_ROOMS_RULES_0_HOURS_DAYS=mon, tue", "USHER_ROOMS_RULES_0_HOURS_FROM=08:00",
		"USHER_ROOMS_RULES_0_HOURS_UNTIL=18:00", "USHER_ROOMS_RULES_0_HOURS_ZONE=Europe/Berlin", "USHER_ROOMS_RULES_0_MAX_DURATION=2h",
		"USHER_ROOMS_RULES_0_ON_HOST_LEFT=end", "USHER_ROOMS_RULES_0_HOST_GRACE=5m", "USHER_ROOMS_RULES_0_FIRST_IS_HOST=token",
		"USHER_ROOMS_RULES_0_LOBBY_AUTOSTART=host", "USHER_ROOMS_RULES_0_LOBBY_BYPASS=owner",
		"USHER_ROOMS_RULES_0_FEATURES=recording=owners,livestreaming=never", "USHER_ROOMS_RULES_1_TENANT=*",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_ON_EXPIRY=remove", "USHER_VHOSTS_MEET_EXAMPLE_COM_EXPIRY_GRACE=1m",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_TOKEN_REUSE=refuse", "USHER_VHOSTS_MEET_EXAMPLE_COM_TOKEN_REUSE_OF=sub",
		"USHER_VHOSTS_MEET_EXAMPLE_COM_DOMAIN_VERIFICATION=false", "USHER_VHOSTS_MEET_EXAMPLE_COM_ONE_TIME=true",
	}, least...)
	byEnvironment, err := config.Load(nil, environ)
	if err != nil {
		t.Fatal(err)
	}
	write(t, "usher.yaml", []byte(`xmpp: {domain: focus.meet.example.com, secret: `+secretA+`}
rooms:
  services: [conference.meet.example.com]
  lobby: lobby.meet.example.com
  enforcement: module
  after_kick: bar
  rules:
    - match: class-*
      wait_for_host: members
      guests: deny
      max_occupants: 30
      hours: {days: [mon, tue], from: 08:00, until: 18:00, zone: Europe/Berlin}
      max_duration: 2h
      on_host_left: end
      host_grace: 5m
      first_is_host: token
      lobby: {autostart: host, bypass: [owner]}
      features: {recording: owners, livestreaming: never}
    - tenant: "*"
vhosts:
  meet.example.com:
    {kind: token, app_id: my_app, app_secret: `+secretB+`, on_expiry: remove, expiry_grace: 1m, token_reuse: refuse, token_reuse_of: sub,
      domain_verification: false, one_time: true}
`))
	byFile := load(t, "usher.yaml")
	if got, want := reveal(byEnvironment), reveal(byFile); got != want {
		t.Errorf("environment says\n%s\nfile says\n%s", got, want)
	}
	if at := byEnvironment.Rooms.Rules[0].Source; !strings.HasPrefix(at, "environment USHER_ROOMS_RULES_0_") {
		t.Errorf("the first rule is at %s", at)
	}
	c, err := config.Load([]string{"usher.yaml"}, []string{"USHER_ROOMS_RULES_1_MAX_OCCUPANTS=5", "USHER_ROOMS_RULES_0_HOURS_DAYS=sun"})
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Rooms.Rules; r[1].MaxOccupants != 5 || len(r[0].Hours.Days) != 1 || r[0].Hours.Days[0] != time.Sunday || r[0].Source != "usher.yaml:8" {
		t.Errorf("%+v", r)
	}
	c, err = config.Load([]string{"usher.yaml"}, []string{"USHER_ROOMS_RULES_3_MATCH=a", "USHER_ROOMS_RULES_0_MATHC=b"})
	got, _ := texts(t, c, err)
	compareTexts(t, got, []string{
		"environment USHER_ROOMS_RULES_0_MATHC: is not a variable of usher; did you mean USHER_ROOMS_RULES_0_MATCH?",
		"environment USHER_ROOMS_RULES_3_MATCH: rooms.rules[3]: is there, but rooms.rules[2] is not: number them from 0 on",
	})
}

// TestFeatureNames checks that a feature which looks misspelled is warned of, in a rule of rooms and in one of a provider of the portal, and
// that a feature that only others know is not.
func TestFeatureNames(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "usher.yaml", []byte("xmpp: {domain: focus.meet.example.com, secret: "+secretA+"}\n"+
		"rooms:\n  services: [conference.meet.example.com]\n  rules:\n    - match: a\n      features:\n        recording: never\n"+
		"        recoding: never\n        Live-Streaming: owners\n        whiteboard: never\n"+
		"vhosts: {meet.example.com: {kind: token, app_id: a, app_secret: "+secretB+"}}\n"))
	c, err := config.Load([]string{"usher.yaml"}, nil)
	_, got := texts(t, c, err)
	compareTexts(t, got, []string{
		"usher.yaml:9: rooms.rules[0].features.Live-Streaming: is no feature of Jitsi; did you mean livestreaming?",
		"usher.yaml:8: rooms.rules[0].features.recoding: is no feature of Jitsi; did you mean recording?",
	})
}

// TestFirstIsHostNeedsMembers checks the warning that first_is_host changes nothing where each token makes a host.
func TestFirstIsHostNeedsMembers(t *testing.T) {
	t.Chdir(t.TempDir())
	for more, warned := range map[string]bool{
		"":                              true,
		", default_affiliation: owner":  true,
		", default_affiliation: member": false,
		", claims: {affiliation: role}": false,
	} {
		write(t, "usher.yaml", []byte("xmpp: {domain: focus.meet.example.com, secret: "+secretA+"}\n"+
			"rooms: {services: [conference.meet.example.com], rules: [{match: equals, first_is_host: token}]}\n"+
			"vhosts: {meet.example.com: {kind: token, app_id: my_app, app_secret: "+secretB+more+"}}\n"))
		c, err := config.Load([]string{"usher.yaml"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(c.Warnings, func(p config.Problem) bool {
			return p.Key == "rooms.rules[0].first_is_host" && strings.Contains(p.Text, "set default_affiliation: member with it")
		})
		if got != warned {
			t.Errorf("%q: warned is %t: %v", more, got, c.Warnings)
		}
	}
}

// TestNumbersInDomains checks that a domain that looks like a numbered rule is none.
func TestNumbersInDomains(t *testing.T) {
	c, err := config.Load(nil, append([]string{
		"USHER_VHOSTS_ROOMS_RULES_0_EXAMPLE_COM_KIND=guest", "USHER_VHOSTS=meet.example.com,rooms.rules.0.example.com",
	}, least[:3]...))
	if err == nil || !strings.Contains(err.Error(), "vhosts.meet.example.com.kind: is missing") || strings.Contains(err.Error(), "RULES") {
		t.Errorf("%v, %v", c, err)
	}
}

// TestDocumentedRules checks that the rules of README.md and usher.example.yaml load.
func TestDocumentedRules(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(readme), "## Rules for rooms\n\n```yaml\nrooms:\n")
	block, _, _ = strings.Cut(block, "```")
	_, example, _ := strings.Cut(string(config.Example), "  #\n  #   rules:\n")
	example, _, _ = strings.Cut(example, "\n\n")
	for name, rules := range map[string]string{"README.md": block, "usher.example.yaml": "  rules:\n" + regexp.MustCompile(`(?m)^  #   `).ReplaceAllString(example, "  ") + "\n"} {
		inFolder(t, "usher.yaml", `xmpp: {domain: focus.meet.example.com, secret: `+secretA+`}
vhosts: {meet.example.com: {kind: token, app_id: my_app, app_secret: `+secretB+`}}
jicofo: {jid: focus@auth.meet.example.com}
rooms:
  services: [conference.meet.example.com]
  lobby: lobby.meet.example.com
  enforcement: module
`+rules)
		c, err := config.Load([]string{"usher.yaml"}, nil)
		if err != nil {
			t.Errorf("%s: %v in\n%s", name, err, rules)
		} else if len(c.Rooms.Rules) == 0 || c.Rooms.Rules[0].MaxOccupants != 30 {
			t.Errorf("%s: %+v in\n%s", name, c.Rooms.Rules, rules)
		}
	}
}
