package deploy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/deploytest"
)

// TestPortalNginx has a real nginx, as Jitsi's, with portal.nginx.conf: the portal's pages lead to usher, rooms do not.
func TestPortalNginx(t *testing.T) {
	deploytest.Need(t, "nginx")
	snippet, err := os.ReadFile("portal.nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	portal := newPortal(t)
	// As in Jitsi's own server: what is included comes first.
	at := nginx(t, portal, "server { listen LISTEN;\n"+string(snippet)+`
		location ~ ^/(libs|css|static|images|fonts|lang|sounds|.well-known)/(.*)$ { return 200 "jitsi"; }
		location ~ ^/([^/?&:'"]+)$ { return 200 "jitsi"; }
		location ~ ^/([^/?&:'"]+)/(.*)$ { return 200 "jitsi"; }
		location = / { return 200 "jitsi"; } }`)
	for path, want := range map[string]string{
		"/login": "portal", "/login?room=x&state=%7B%22a%22%3A1%7D": "portal", "/login/with/keycloak": "portal", "/logout": "portal", "/rooms": "portal",
		"/rooms/lock": "portal", "/wait/standup": "portal", "/wait/acme/standup/events": "portal", "/join/?room=x": "portal", "/style.css": "portal",
		"/portal.js": "portal", "/.well-known/jwks.json": "portal", "/.well-known/assetlinks.json": "jitsi", "/": "jitsi", "/standup": "jitsi",
		"/loginx": "jitsi", "/acme/login": "jitsi", "/css/all.css": "jitsi", "/roomsandmore": "jitsi",
	} {
		if got := fetched(t, "http://"+at+path); !strings.HasPrefix(got, want) || want == "portal" && !strings.Contains(got, " "+path+" ") {
			t.Errorf("%s leads to %q", path, got)
		}
	}
	forwards(t, "http://"+at, at)
}

// TestPortalOwnName has real proxies with the examples of the README for a host name of its own.
func TestPortalOwnName(t *testing.T) {
	deploytest.Need(t, "nginx", "caddy")
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	example := func(language string) string {
		_, after, ok := strings.Cut(string(readme), "```"+language+"\n")
		text, _, _ := strings.Cut(after, "```")
		if !ok {
			t.Fatalf("no example for %s", language)
		}
		return text
	}
	portal := newPortal(t)
	t.Run("nginx", func(t *testing.T) {
		text := strings.NewReplacer("listen 443 ssl;", "listen LISTEN;", "ssl_certificate", "# ssl_certificate").Replace(example("nginx"))
		at := nginx(t, portal, text)
		forwards(t, "http://"+at, at)
	})
	t.Run("caddy", func(t *testing.T) {
		at := freeAddress(t)
		text := strings.NewReplacer("login.example.com", "http://"+at, "127.0.0.1:8087", portal).Replace(example("caddyfile"))
		file := filepath.Join(t.TempDir(), "Caddyfile")
		if err := os.WriteFile(file, []byte("{\n\tadmin off\n}\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		begin(t, at, "caddy", "run", "--config", file, "--adapter", "caddyfile")
		forwards(t, "http://"+at, at)
	})
}

// newPortal is a stand-in for usher: it says what it was asked, and sends events without an end below /wait.
func newPortal(t *testing.T) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "portal %s from %s host %s\n", r.RequestURI, r.Header.Get("X-Forwarded-For"), r.Host)
		if strings.HasSuffix(r.URL.Path, "/events") && r.URL.Query().Has("last") {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.Listener.Addr().String()
}

// forwards checks what a proxy says of the client, and that events come at once.
func forwards(t *testing.T, base, host string) {
	t.Helper()
	got := fetched(t, base+"/login")
	if !strings.Contains(got, " from 127.0.0.1 ") || !strings.Contains(got, "host "+host) {
		t.Errorf("the portal hears %q", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/wait/standup/events?last", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "portal") {
		t.Errorf("the first event is %q, %v", line, err)
	}
}

// fetched asks as a client that says that it is somebody else.
func fetched(t *testing.T, url string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Forwarded-For", "203.0.113.9")
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	return string(body)
}

// nginx starts a private nginx with a server, in which LISTEN stands for its address and 127.0.0.1:8087 for the portal's.
func nginx(t *testing.T, portal, server string) (address string) {
	t.Helper()
	at, folder := freeAddress(t), t.TempDir()
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s/%s;\n", kind, folder, kind)
	}
	text := "daemon off; master_process off; pid " + folder + "/pid; error_log stderr;\nevents { }\nhttp { access_log off;\n" + temporary.String() +
		strings.NewReplacer("LISTEN", at, "127.0.0.1:8087", portal).Replace(server) + "\n}\n"
	file := filepath.Join(folder, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	begin(t, at, "nginx", "-c", file)
	return at
}

// begin starts a program that listens on an address, until the end of the test.
func begin(t *testing.T, at, program string, args ...string) {
	t.Helper()
	path, err := deploytest.Program(program)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for end := time.After(time.Minute); ; {
		c, err := net.Dial("tcp", at)
		if err == nil {
			c.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended:\n%s", program, said.String())
		case <-end:
			t.Fatalf("%s does not listen: %v", program, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
