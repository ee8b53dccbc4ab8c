package config_test

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/xmpp-usher/usher/config"
)

// besideEjabberd is a usher.yaml for ejabberd, with virtual hosts of all kinds.
const besideEjabberd = `xmpp: {domain: focus.meet.example.com, secret: ` + secretA + `, server: "127.0.0.1:5348"}
rooms: {services: [conference.meet.example.com, class.meet.example.com]}
vhosts:
  staff.meet.example.com: {kind: trusted}
  meet.example.com: {kind: token, app_id: my_app, app_secret: ` + secretB + `}
  guest.meet.example.com: {kind: guest}
  recorder.meet.example.com: {kind: service}
`

// TestEjabberdLines checks what ejabberd reads in usher's lines.
func TestEjabberdLines(t *testing.T) {
	inFolder(t, "usher.yaml", besideEjabberd)
	text := ejabberdLines(t)
	if !config.IsEjabberdLines(text) {
		t.Error("usher does not know its own lines")
	}
	type options = map[string]any
	var got options
	if err := yaml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	modules := func(more options) options {
		all := options{"mod_bosh": options{}, "mod_disco": options{}, "mod_ping": options{}, "mod_stream_mgmt": options{}, "mod_time": options{}, "mod_version": options{}}
		for name, o := range more {
			all[name] = o
		}
		return options{"auth_method": "anonymous", "anonymous_protocol": "sasl_anon", "modules": all}
	}
	want := options{
		// The others have passwords, which are ejabberd's own affair.
		"hosts": []any{"meet.example.com", "guest.meet.example.com"},
		"listen": []any{options{"module": "ejabberd_service", "port": 5348, "ip": "127.0.0.1", "global_routes": false,
			"hosts": options{"focus.meet.example.com": options{"password": secretA}}}},
		"acl": options{"usher": options{"user": []any{"focus@focus.meet.example.com"}}},
		"access_rules": options{"usher": options{"allow": "usher"},
			"usher_creates": []any{options{"allow": options{"user": "focus@focus.meet.example.com", "resource": "usher"}}}},
		"host_config": options{
			// One host has all the rooms: two cannot serve the same domain.
			"meet.example.com": modules(options{"mod_muc": options{
				"hosts": []any{"conference.meet.example.com", "class.meet.example.com"}, "access_admin": "usher", "access_create": "usher_creates",
				"access_persistent": "usher", "access_register": "none", "default_room_options": options{
					"members_only": true, "moderated": false, "anonymous": false, "persistent": false, "allow_user_invites": false, "allow_subscription": false,
				},
			}}),
			"guest.meet.example.com": modules(nil),
		},
	}
	is, _ := yaml.Marshal(got)
	should, _ := yaml.Marshal(want)
	if string(is) != string(should) {
		t.Errorf("got\n%s\nwant\n%s", is, should)
	}
}

func ejabberdLines(t *testing.T, environ ...string) string {
	t.Helper()
	c, err := config.Load([]string{"usher.yaml"}, environ)
	if err != nil {
		t.Fatal(err)
	}
	text, err := c.EjabberdLines()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestEjabberdListener checks where ejabberd listens for usher, and that any secret survives YAML.
func TestEjabberdListener(t *testing.T) {
	inFolder(t, "usher.yaml", strings.Replace(besideEjabberd, "secret: "+secretA+", ", "", 1))
	for server, ip := range map[string]string{"[::1]:5347": "::1", "localhost:5347": "127.0.0.1", "ejabberd:5347": "0.0.0.0"} {
		secret := `"': #\` + "\t<&>" + secretA
		var got struct {
			Listen []struct {
				IP    string `yaml:"ip"`
				Hosts map[string]struct{ Password string }
			}
		}
		if err := yaml.Unmarshal([]byte(ejabberdLines(t, "USHER_XMPP_SERVER="+server, "USHER_XMPP_SECRET="+secret)), &got); err != nil {
			t.Fatal(err)
		}
		if l := got.Listen[0]; l.IP != ip || l.Hosts["focus.meet.example.com"].Password != secret {
			t.Errorf("%s: %+v", server, l)
		}
	}
}

// TestNotForEjabberd checks which configurations have no lines for ejabberd.
func TestNotForEjabberd(t *testing.T) {
	for add, want := range map[string]string{
		"USHER_JICOFO_JID=focus@auth.meet.example.com": "take out jicofo.jid",
		"USHER_ROOMS_LOBBY=lobby.meet.example.com":     "take out rooms.lobby",
		"USHER_ROOMS_BREAKOUT=breakout.example.com":    "take out rooms.breakout",
		"USHER_ROOMS_ENFORCEMENT=module":               "take out rooms.enforcement: module",
	} {
		inFolder(t, "usher.yaml", besideEjabberd)
		c, err := config.Load([]string{"usher.yaml"}, []string{add})
		if err != nil {
			t.Fatal(err)
		}
		if text, err := c.EjabberdLines(); err == nil || text != "" || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: %q, %v", add, text, err)
		}
	}
	inFolder(t, "usher.yaml", `xmpp: {domain: focus.example.com, secret: `+secretA+`}
rooms: {services: [conference.example.com]}
vhosts: {example.com: {kind: trusted}}
`)
	c, err := config.Load([]string{"usher.yaml"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.EjabberdLines(); err == nil || !strings.Contains(err.Error(), "no virtual host is of the kind token or guest") {
		t.Error(err)
	}
}
