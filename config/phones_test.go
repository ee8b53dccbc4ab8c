package config_test

import (
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// phones is what docker-jitsi-meet's image makes of its variables without guests, as far as it decides who enters.
const phones = `admins = { "jigasi@auth.meet.jitsi", "focus@auth.meet.jitsi", "jvb@auth.meet.jitsi" }
unlimited_jids = { "focus@auth.meet.jitsi", "jvb@auth.meet.jitsi" }
` + image + `VirtualHost "jigasi.meet.jitsi"
  authentication = "token"
  app_id = "jitsi"
  asap_key_server = "https://jaas-public-keys.jitsi.net/jitsi-components/prod-8x8"
  asap_accepted_issuers = { "jaas-components" }
VirtualHost "meet.jitsi"
  authentication = "token"
  app_id = "my_app"
  app_secret = "` + secretB + `"
  main_muc = "muc.meet.jitsi"
VirtualHost "auth.meet.jitsi"
  authentication = "internal_hashed"
Component "muc.meet.jitsi" "muc"
Component "focus.meet.jitsi"
  component_secret = "` + secretA + `"
`

// TestPhones checks which virtual hosts of gateways are services by Prosody's files: those of JaaS if Prosody verifies their tokens, and
// Jicofo's if Jigasi enters from there. Nobody else may come in that way.
func TestPhones(t *testing.T) {
	for _, test := range []struct {
		name       string
		old, new   string
		jaas, auth config.Kind // of the two virtual hosts; "" where there is none
	}{
		{name: "both", jaas: config.KindService, auth: config.KindService},
		{name: "a token can be left out", old: `app_id = "jitsi"`, new: `app_id = "jitsi" allow_empty_token = true`,
			jaas: config.KindToken, auth: config.KindService},
		{name: "a token can be left out everywhere", old: "unlimited_jids", new: "allow_empty_token = true\nunlimited_jids",
			jaas: config.KindToken, auth: config.KindService},
		{name: "keys of customers", old: "jitsi-components/prod-8x8", new: "vpaas-magic-cookie", jaas: config.KindToken, auth: config.KindService},
		{name: "keys of somebody else", old: "https://jaas-public-keys.jitsi.net", new: "https://jaas-public-keys.jitsi.net.example.com",
			jaas: config.KindToken, auth: config.KindService},
		{name: "tokens not looked at", old: `authentication = "token"` + "\n" + `  app_id = "jitsi"`,
			new: `authentication = "anonymous"` + "\n" + `  app_id = "jitsi"`, jaas: config.KindToken, auth: config.KindService},
		{name: "no account of Jigasi's", old: `"jigasi@auth.meet.jitsi", `, jaas: config.KindService},
		{name: "another account's name", old: `"jigasi@auth`, new: `"phone@auth`, jaas: config.KindService, auth: config.KindService},
		{name: "guests", old: `VirtualHost "auth.meet.jitsi"`, new: `VirtualHost "guest.meet.jitsi" authentication = "anonymous" main_muc = "muc.meet.jitsi"
VirtualHost "auth.meet.jitsi"`, jaas: config.KindService},
		{name: "all are guests", old: `authentication = "token"` + "\n" + `  app_id = "my_app"`,
			new: `authentication = "jitsi-anonymous"` + "\n" + `  app_secret = ""`, jaas: config.KindService},
		{name: "passwords", old: `authentication = "token"` + "\n" + `  app_id = "my_app"`, new: `authentication = "internal_hashed"`,
			jaas: config.KindService, auth: config.KindService},
		{name: "no image", old: image, jaas: config.KindService},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := strings.Replace(phones, test.old, test.new, 1)
			if test.old != "" && text == phones {
				t.Fatal("nothing is changed")
			}
			inFolder(t, "prosody.cfg.lua", text)
			c, err := config.Load([]string{"prosody.cfg.lua"}, []string{"USHER_VHOSTS=other.example.com", "USHER_VHOSTS_OTHER_EXAMPLE_COM_KIND=guest"})
			if err != nil {
				t.Fatal(err)
			}
			kinds := map[string]config.Kind{}
			for _, v := range c.VHosts {
				kinds[v.Domain.String()] = v.Kind
			}
			if got := kinds["jigasi.meet.jitsi"]; got != test.jaas {
				t.Errorf("JaaS' phones are %q, want %q", got, test.jaas)
			}
			if got := kinds["auth.meet.jitsi"]; got != test.auth {
				t.Errorf("Jigasi's are %q, want %q", got, test.auth)
			}
			noted := false
			for _, n := range c.Notes {
				noted = noted || strings.Contains(n.String(), "auth.meet.jitsi is kind: service")
			}
			if noted != (test.auth != "") {
				t.Errorf("notes %v", c.Notes)
			}
		})
	}
}

// TestPhonesAlike checks that docker-jitsi-meet's variables and the files that its image makes of them mean the same.
func TestPhonesAlike(t *testing.T) {
	inFolder(t, "prosody.cfg.lua", phones)
	files, err := config.Load([]string{"prosody.cfg.lua"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	variables := loadDocker(t, "XMPP_DOMAIN=meet.jitsi", "ENABLE_AUTH=1", "AUTH_TYPE=jwt", "ENABLE_JAAS_COMPONENTS=1", "JIGASI_XMPP_PASSWORD=x")
	for _, c := range []*config.Config{files, variables} {
		got := map[string]config.Kind{}
		for _, v := range c.VHosts {
			got[v.Domain.String()] = v.Kind
		}
		if len(got) != 3 || got["meet.jitsi"] != config.KindToken || got["auth.meet.jitsi"] != config.KindService ||
			got["jigasi.meet.jitsi"] != config.KindService || c.XMPP.Server != "xmpp.meet.jitsi:5347" {
			t.Errorf("virtual hosts %v, server %s", got, c.XMPP.Server)
		}
	}
}
