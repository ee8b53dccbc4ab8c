package deploy_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/deploytest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

const (
	componentSecret = "0f8e4c1b6a2d7935e0c4b8a1f6d2937c"
	appSecret       = "c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f7"
)

// jitsi puts the configuration of Debian's Jitsi into a Debian, with Prosody at free ports. It returns the addresses for clients and
// components.
func jitsi(t *testing.T, d *deploytest.Debian) (clients, components string) {
	t.Helper()
	scene := filepath.Join("..", "..", "testdata", "vhosts", "debian-guests")
	clients, components = freeAddress(t), freeAddress(t)
	ports := ""
	for name, addr := range map[string]string{"c2s": clients, "component": components} {
		_, port, _ := net.SplitHostPort(addr)
		ports += fmt.Sprintf("%s_ports = { %s }\n", name, port)
	}
	for _, name := range []string{"prosody.cfg.lua", "conf.d/meet.example.com.cfg.lua"} {
		content, err := os.ReadFile(filepath.Join(scene, name))
		if err != nil {
			t.Fatal(err)
		}
		text := string(content)
		if name == "prosody.cfg.lua" {
			text = "http_ports = { }\nhttps_ports = { }\ns2s_ports = { }\nc2s_direct_tls_ports = { }\ninterfaces = { \"127.0.0.1\" }\n" + ports + text
		}
		d.Write("etc/prosody/"+name, text)
	}
	d.Write("etc/jitsi/jicofo/jicofo.conf", "jicofo {\n  xmpp: { client: { client-proxy: \"focus.meet.example.com\", password: \"aVeryLongPasswordOfJicofo\" } }\n}\n")
	d.Write("etc/jitsi/meet/meet.example.com-config.js", "var config = {\n    conferenceRequestUrl: 'https://meet.example.com/conference-request/v1',\n};\n")
	d.Must("rm -f /etc/prosody/conf.d/localhost.cfg.lua /etc/prosody/conf.d/example.com.cfg.lua; chown -R root:prosody /etc/prosody; chmod -R o= /etc/prosody")
	return clients, components
}

// started starts usher as its unit does: as its user, with its folders and its credential, and waits until it is ready.
func started(t *testing.T, d *deploytest.Debian, log *said) {
	t.Helper()
	unit := d.Read("lib/systemd/system/usher.service")
	d.Must("install -d -o usher -g usher -m 0700 /var/lib/usher /run/usher /run/credentials")
	name, from, _ := strings.Cut(setting(t, unit, "LoadCredential"), ":")
	d.Must("install -o usher -m 0400 " + from + " /run/credentials/" + name)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: d.Path("run/usher/notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	d.Must("chown usher /run/usher/notify")
	serve := strings.Fields(setting(t, unit, "ExecStart"))
	d.Start(setting(t, unit, "User"), []string{"STATE_DIRECTORY=/var/lib/usher", "RUNTIME_DIRECTORY=/run/usher",
		"CREDENTIALS_DIRECTORY=/run/credentials", "NOTIFY_SOCKET=/run/usher/notify", "USHER_OPS_LISTEN=" + freeAddress(t)}, log, serve[0], serve[1:]...)
	if err := conn.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	message := make([]byte, 1<<12)
	n, err := conn.Read(message)
	if err != nil || !strings.HasPrefix(string(message[:n]), "READY=1") {
		t.Fatalf("usher says %q, %v\n%s", message[:n], err, log)
	}
}

// TestFirstRefusal measures how long it takes from a Debian with Prosody and Jitsi's configuration to the first right refusal, by package
// and "usher adopt".
func TestFirstRefusal(t *testing.T) {
	deploytest.Need(t, "chroot")
	deb, d := debFile(t), deploytest.NewDebian(t)
	clients, components := jitsi(t, d)
	given(t, d, deb, "root/usher.deb")

	began := time.Now()
	step := func(line string, args ...any) {
		t.Helper()
		line = fmt.Sprintf(line, args...)
		at := time.Now()
		said, status := d.Run(line)
		t.Logf("# %s\n%s(%.1f s)", line, said, time.Since(at).Seconds())
		if status != 0 {
			t.Fatalf("exit status %d", status)
		}
	}
	step("dpkg -i /root/usher.deb")
	// Jitsi's own provider of logins is not in this Debian, and so Prosody's own is used.
	step("usher adopt --authentication anonymous || [ $? = 2 ]")
	step("usher adopt --authentication anonymous --apply")
	step("usher config check -c /etc/usher/usher.yaml")
	// What adopt names for now, and "usher adopt --apply --restart" does: systemctl restart prosody; systemctl start usher.
	var prosody, usher said
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("usher:\n%s\nProsody:\n%s", usher.String(), prosody.String())
		}
	})
	d.Must("install -d -o prosody -g prosody /run/prosody")
	d.Start("prosody", nil, &prosody, "prosody", "-F")
	started(t, d, &usher)
	server := &prosodytest.Server{C2SAddr: clients, ComponentAddr: components}
	code := refusal(t, server, "meet.example.com", "focus.meet.example.com", "standup@conference.meet.example.com")
	took := time.Since(began)
	t.Logf("the first refusal: %s, %.1f s after the beginning. The log of usher:\n%s", code, took.Seconds(), usher.String())
	if code != "token-malformed" {
		t.Errorf("refused with %q", code)
	}
	if took > 5*time.Minute {
		t.Errorf("it took %s", took)
	}
}
