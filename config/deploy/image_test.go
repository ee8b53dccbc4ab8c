package deploy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/xmpp-usher/usher/pkg/deploytest"
	"github.com/xmpp-usher/usher/pkg/prosodytest"
)

// said collects what a program prints.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.String()
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for late := time.Now().Add(2 * time.Minute); !so(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("it never happens that %s", what)
		}
	}
}

// freeAddress returns an address of 127.0.0.1 where nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// refusal asks for a room with a token that is none, until usher answers, and returns the code of the reason.
func refusal(t *testing.T, server *prosodytest.Server, host, focus, room string) (code string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	eventually(t, "usher answers", func() bool {
		c, err := server.Dial(ctx, prosodytest.ClientOptions{Host: host})
		if err != nil {
			return false // Prosody is only starting
		}
		defer c.Close()
		s, err := c.IQ(ctx, "set", focus, "<conference xmlns='http://jitsi.org/protocol/focus' room='"+room+"' token='not.a.token'/>")
		if err != nil {
			t.Fatal(err)
		}
		code = s.Child("error", "jabber:client").Child("reason", "urn:usher:0").Attr["code"]
		return code != ""
	})
	return code
}

// TestImage builds the image, and runs it in a chroot, as the user of the image, beside a Prosody.
func TestImage(t *testing.T) {
	deploytest.Need(t, "buildah", "chroot")
	folder := unpacked(t)
	context := filepath.Join(folder, "deploy", "docker")
	if err := os.Rename(filepath.Join(folder, "usher"), filepath.Join(context, "usher")); err != nil {
		t.Fatal(err)
	}
	store := t.TempDir()
	buildah := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("buildah", append([]string{"--storage-driver", "vfs", "--root", store + "/root", "--runroot", store + "/run"}, args...)...)
		cmd.Env = append(os.Environ(), "BUILDAH_ISOLATION=chroot")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("buildah %v: %v\n%s", args, err, stderr.String())
		}
		return strings.TrimSpace(string(out))
	}
	buildah("bud", "--format", "docker", "--quiet", "--tag", "usher", context)
	var image struct {
		Docker struct {
			Config struct {
				User        string
				WorkingDir  string
				Entrypoint  []string
				Cmd         []string
				Healthcheck struct{ Test []string }
			} `json:"config"`
		}
	}
	if err := json.Unmarshal([]byte(buildah("inspect", "--type", "image", "usher")), &image); err != nil {
		t.Fatal(err)
	}
	config := image.Docker.Config
	if got := fmt.Sprint(config); got != "{1000:1000 /etc/usher [/usher] [serve -c usher.yaml] {[CMD /usher health -c usher.yaml]}}" {
		t.Errorf("the image: %s", got)
	}
	container := buildah("from", "usher")
	t.Cleanup(func() { buildah("rm", container) })
	root := buildah("mount", container)

	server := prosodytest.Start(t, prosodytest.Options{Config: `
component_admins_as_room_owners = true
VirtualHost "example.com"
	authentication = "anonymous"
Component "conference.example.com" "muc"
	restrict_room_creation = true
	muc_room_default_members_only = true
	muc_room_default_public_jids = true
	muc_room_locking = false
	admins = { "focus@focus.example.com" }
Component "focus.example.com"
	component_secret = "` + componentSecret + `"
`})
	inImage := func(name, content string) {
		path := filepath.Join(root, "etc", "usher", name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 1000, 1000); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "etc", "usher"), 0o755); err != nil {
		t.Fatal(err)
	}
	inImage("usher.yaml", minimal+fmt.Sprintf("ops: {listen: %q}\nstore: {path: memory}\n", freeAddress(t)))
	inImage("component.secret", componentSecret)
	inImage("app.secret", appSecret)
	var log said
	run := func(args ...string) *exec.Cmd {
		program, err := deploytest.Program("chroot")
		if err != nil {
			t.Fatal(err)
		}
		// chroot's own Chdir is /, and the image's is the folder of the configuration.
		args = append(append([]string{"--userspec=" + config.User, "--groups=", root}, config.Entrypoint...), args...)
		for i, arg := range args {
			if arg == "usher.yaml" {
				args[i] = config.WorkingDir + "/" + arg
			}
		}
		cmd := exec.Command(program, args...)
		cmd.Env = []string{"USHER_XMPP_SERVER=" + server.ComponentAddr}
		cmd.Stdout, cmd.Stderr = &log, &log
		return cmd
	}
	health := config.Healthcheck.Test[2:]
	if err := run(health...).Run(); err == nil {
		t.Error("the health check does not miss usher")
	}
	usher := run(config.Cmd...)
	if err := usher.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = usher.Process.Signal(os.Interrupt)
		_ = usher.Wait()
		if t.Failed() {
			t.Logf("usher:\n%s", log.String())
		}
	}()
	eventually(t, "the health check succeeds", func() bool { return run(health...).Run() == nil })
	if code := refusal(t, server, "example.com", "focus.example.com", "standup@conference.example.com"); code != "token-malformed" {
		t.Errorf("refused with %q", code)
	}
}
