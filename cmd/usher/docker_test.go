package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// dockerScene is testdata/vhosts/docker.
var dockerScene = scene{
	focus: "focus.meet.jitsi", service: "muc.meet.jitsi", issuer: "my_web_client", audience: "my_server2",
	tokens: "meet.jitsi", guests: "guest.meet.jitsi", account: "focus@auth.meet.jitsi",
}

// opposite is a file beside that of the image in conf.d that says the opposite of what usher needs.
const opposite = `component_ports = { }
component_interfaces = { }
Component "muc.meet.jitsi" "muc"
	restrict_room_creation = false
	muc_room_default_members_only = false
	muc_room_default_public_jids = false
	muc_room_locking = true
	admins = { "root@auth.meet.jitsi" }
`

// TestDockerLive follows the steps that "usher config prosody" prints for docker-jitsi-meet's Prosody: the lines become a file
// beside the main one, and GLOBAL_CONFIG has it read last. Before and behind the image's own file in conf.d there are others
// that say the opposite, so that no order of the folder can help. Without that variable, no component can connect.
func TestDockerLive(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} { // Prosody listens for components on the former by default
		t.Run(host, func(t *testing.T) { dockerLive(t, host) })
	}
}

func dockerLive(t *testing.T, host string) {
	source := field(t, "docker")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	write(t, "conf.d/aa.cfg.lua", opposite)
	write(t, "conf.d/zz.cfg.lua", opposite)
	stock, err := os.ReadFile(filepath.Join(source, "prosody.cfg.lua"))
	if err != nil {
		t.Fatal(err)
	}
	// The template has GLOBAL_CONFIG's lines before its Include.
	const include = "Include \"conf.d/*.cfg.lua\"\n"
	withLine := strings.Replace(string(stock), include, config.DockerGlobalConfig+"\n"+include, 1)
	if withLine == string(stock) {
		t.Fatal("there is no Include as in the template")
	}
	options := func(global string) prosodytest.Options {
		return prosodytest.Options{
			Configure: func(s *prosodytest.Server) string {
				_, port, _ := net.SplitHostPort(s.ComponentAddr)
				t.Setenv("USHER_XMPP_SERVER", net.JoinHostPort(host, port))
				write(t, "prosody.cfg.lua", string(stock))
				var lines, stderr bytes.Buffer
				if status := run(t.Context(), []string{"config", "prosody", "-c", "usher.yaml", "--authentication", "jitsi-anonymous"}, strings.NewReader(""), &lines, &stderr); status != 0 {
					t.Error(stderr.String())
				}
				write(t, "usher.cfg.lua", lines.String())
				write(t, "prosody.cfg.lua", global)
				return fmt.Sprintf("Include %q\n", filepath.Join(here, "prosody.cfg.lua"))
			},
			Users: map[string]string{dockerScene.account: "jicofo's"},
		}
	}
	closed := prosodytest.Start(t, options(string(stock)))
	if conn, err := net.Dial("tcp", os.Getenv("USHER_XMPP_SERVER")); err == nil {
		t.Errorf("without GLOBAL_CONFIG, components can connect to %s", conn.RemoteAddr())
		_ = conn.Close()
	}
	closed.Kill()

	st := &stage{scene: dockerScene, appSecret: appSecret}
	st.Server = prosodytest.Start(t, options(withLine))
	user, domain, _ := strings.Cut(st.account, "@")
	st.jicofo = st.Jicofo(t, prosodytest.JicofoOptions{
		Host: domain, User: user, Password: "jicofo's", Resource: "jicofo", Proxy: st.focus, Service: st.service, AcceptSubscriptions: true,
	})
	playThrough(t, st, os.Getenv("USHER_XMPP_SERVER"))

	// What is rendered can be compared, and made into the same lines again.
	if r := command(t, "", "config", "prosody", "-c", "usher.yaml", "prosody.cfg.lua"); r.status != 0 {
		t.Errorf("with its own lines, usher still misses something:\n%s%s", r.stdout, r.stderr)
	}
	lines, err := os.ReadFile("usher.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	var again, stderr bytes.Buffer
	if status := run(t.Context(), []string{"config", "prosody", "-c", "usher.yaml", "--authentication", "jitsi-anonymous"}, strings.NewReader(""), &again, &stderr); status != 0 || again.String() != string(lines) {
		t.Errorf("with its own lines, usher writes\n%s%s\nbefore\n%s", again.String(), stderr.String(), lines)
	}
}
