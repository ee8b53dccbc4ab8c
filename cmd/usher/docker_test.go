package main

import (
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

// opposite is a file in conf.d, beside the image's own, with the opposite of the lines that usher needs.
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
// beside the main one, and GLOBAL_CONFIG makes Prosody read it last. Without that variable no component can connect. Two other
// files in conf.d say the opposite, one sorted before and one after the image's own, so that no order of the folder helps.
func TestDockerLive(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "127.0.0.2"} { // by default Prosody listens for components on the first
		t.Run(host, func(t *testing.T) { dockerLive(t, host) })
	}
}

func dockerLive(t *testing.T, host string) {
	source := field(t, "docker")
	here := workingDir(t)
	write(t, "conf.d/aa.cfg.lua", opposite)
	write(t, "conf.d/zz.cfg.lua", opposite)
	stock, err := os.ReadFile(filepath.Join(source, "prosody.cfg.lua"))
	if err != nil {
		t.Fatal(err)
	}
	// The template puts the lines of GLOBAL_CONFIG before its Include.
	const include = "Include \"conf.d/*.cfg.lua\"\n"
	withLine := strings.Replace(string(stock), include, config.DockerGlobalConfig+"\n"+include, 1)
	if withLine == string(stock) {
		t.Fatal("the file has no Include as in the template")
	}
	options := func(global string) prosodytest.Options {
		return prosodytest.Options{
			Configure: func(s *prosodytest.Server) string {
				_, port, _ := net.SplitHostPort(s.ComponentAddr)
				t.Setenv("USHER_XMPP_SERVER", net.JoinHostPort(host, port))
				write(t, "prosody.cfg.lua", string(stock))
				write(t, "usher.cfg.lua", prosodyLines(t, "--authentication", "jitsi-anonymous"))
				write(t, "prosody.cfg.lua", global)
				return fmt.Sprintf("Include %q\n", filepath.Join(here, "prosody.cfg.lua"))
			},
			Users: map[string]string{dockerScene.account: jicofoPassword},
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
	playThrough(t, st, "jicofo", os.Getenv("USHER_XMPP_SERVER"))

	// usher reads the result, misses nothing in it, and prints the same lines again.
	if r := configProsodyCommand(t, "prosody.cfg.lua"); r.status != 0 {
		t.Errorf("with its own lines, usher still misses something:\n%s%s", r.stdout, r.stderr)
	}
	lines, err := os.ReadFile("usher.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	if again := prosodyLines(t, "--authentication", "jitsi-anonymous"); again != string(lines) {
		t.Errorf("with its own lines, usher writes\n%s\nbefore\n%s", again, lines)
	}
}
