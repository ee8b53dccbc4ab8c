package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/xmpp-usher/usher/config"
)

// In the shell of a test of the README, this program is usher.
func init() {
	if os.Getenv("README_USHER") == "1" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
}

// deployed is the document about installations.
const deployed = "config/deploy/README.md"

// readme returns the README's fenced blocks of this language below a heading; those of the beginning for "".
func readme(t *testing.T, heading, language string) []string {
	t.Helper()
	return blocks(t, "README.md", heading, language)
}

// blocks is readme for another document.
func blocks(t *testing.T, document, heading, language string) []string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", document))
	if err != nil {
		t.Fatal(err)
	}
	section := string(content)
	if heading != "" {
		_, after, ok := strings.Cut(section, "\n## "+heading+"\n")
		if !ok {
			t.Fatalf("%s has no section %q", document, heading)
		}
		section = after
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var all []string
	for n, part := range strings.Split("\n"+section, "\n```") { // every second one is inside a fence
		if first, rest, ok := strings.Cut(part, "\n"); ok && n%2 == 1 && first == language {
			all = append(all, rest+"\n")
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s has no block of %q below %q", document, language, heading)
	}
	return all
}

// TestReadmeDemo checks that the README shows what the demo prints, but for the times.
func TestReadmeDemo(t *testing.T) {
	needsProsody(t)
	r := command(t, "", "demo", "--once")
	times := regexp.MustCompile(` +\d+\.\d  `)
	printed := times.ReplaceAllString(r.stdout, "  ")
	shown := readme(t, "", "")
	for line := range strings.Lines(shown[len(shown)-1]) {
		if line == "…\n" {
			continue
		}
		_, after, ok := strings.Cut("\n"+printed, "\n"+times.ReplaceAllString(line, "  "))
		if !ok {
			t.Fatalf("the demo does not print, here or in this order: %sIt prints\n%s", line, r.stdout)
		}
		printed = after
	}
}

// shell runs a block of the README, with the machine's folders below root. Of programs that act on services there are only
// stand-ins, and usher neither serves nor examines a server.
func shell(t *testing.T, root, folder, script string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// adopt gets the root, and restarts nothing. A dry run with something to do has an exit status of its own.
	adopts := "adopt) shift; for a; do shift; [ \"$a\" = --restart ] || set -- \"$@\" \"$a\"; done; [ -e docker-compose.yml ] || set -- --root " + root +
		" \"$@\"\n\tREADME_USHER=1 " + self + " adopt \"$@\" || [ $? = 2 ]; exit ;;"
	usher := "#!/bin/sh\ncase $1 in serve|doctor) exit ;; " + adopts + " esac\nREADME_USHER=1 exec " + self + " \"$@\"\n"
	for name, content := range map[string]string{
		"usr/local/bin/usher": usher,
		"src/bin/usher":       usher,
		"bin/openssl":         "#!/bin/sh\necho 46effa74aa89c4dcd43dc7ca395f5a27886aa61f0a43f6d267d0828e31e4c5da\n",
		"bin/systemctl":       "#!/bin/sh\n",
		"bin/nginx":           "#!/bin/sh\n",
		"bin/prosodyctl":      "#!/bin/sh\n",
		"bin/editor":          "#!/bin/sh\n",
		"bin/docker":          "#!/bin/sh\ncase \"$*\" in \"compose exec \"*) exec tar -cC " + root + "/image . ;; esac\n",
	} {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	script = regexp.MustCompile(`(^|[\s"\[])/(etc|usr/local|usr/share)/`).ReplaceAllString(script, "${1}"+root+"/$2/")
	if rest := strings.ReplaceAll(script, root+"/", ""); strings.Contains(rest, "/etc/") || strings.Contains(rest, "/usr/local/") {
		t.Fatalf("this would write into the machine's own folders:\n%s", script)
	}
	cmd := exec.Command("sh", "-eu", "-c", script)
	cmd.Dir = folder
	cmd.Stdin = strings.NewReader(readmePassword + "\n")
	cmd.Env = append(os.Environ(), "HOME="+root+"/home", "PATH="+root+"/usr/local/bin:"+root+"/bin:"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// made fails the test if Prosody's files do not make the gate.
func made(t *testing.T, args ...string) {
	t.Helper()
	if r := command(t, "", append([]string{"config", "prosody"}, args...)...); r.status != 0 || !strings.Contains(r.stdout, "makes the gate") {
		t.Errorf("%+v", r)
	}
}

// copied copies a folder of this repository.
func copied(t *testing.T, from, to string) {
	t.Helper()
	if err := os.MkdirAll(to, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestReadmeAdopt types the README's commands for a Jitsi that is there already: what is adopted makes the gate, and is put back.
func TestReadmeAdopt(t *testing.T) {
	typed := strings.SplitAfter(readme(t, "You have a Jitsi already", "sh")[0], "\n")
	if len(typed) != 4 || !strings.HasPrefix(typed[2], "usher adopt --undo") {
		t.Fatalf("%q", typed)
	}
	root := jitsiOnDebian(t)
	here, _ := jitsiInDocker(t)
	before := filed(t, here+"/meet", here+"/config")
	for _, line := range typed {
		shell(t, here, here+"/meet", line)
	}
	unchanged(t, before, filed(t, here+"/meet", here+"/config"))

	before = filed(t, root+"/etc")
	shell(t, root, root, typed[0])
	unchanged(t, before, filed(t, root+"/etc"))
	shell(t, root, root, typed[1])
	t.Chdir(t.TempDir())
	moved(t, root, "etc/prosody")
	moved(t, root, "etc/usher")
	made(t, "-c", "usher.yaml", "prosody.cfg.lua")
	shell(t, root, root, typed[2])
	unchanged(t, before, filed(t, root+"/etc"))
}

// TestReadmeDebian types the commands for Jitsi on Debian, by hand.
func TestReadmeDebian(t *testing.T) {
	root := t.TempDir()
	copied(t, "../../testdata/vhosts/debian-guests", root+"/etc/prosody")
	if err := os.MkdirAll(root+"/etc/jitsi/jicofo", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, root+"/etc/jitsi/jicofo/jicofo.conf", "jicofo { }\n")
	shell(t, root, root+"/src", blocks(t, deployed, "You run Jitsi on Debian", "sh")[0])
	made(t, "-c", root+"/etc/usher/usher.yaml", root+"/etc/prosody/prosody.cfg.lua")
	if _, err := os.Stat(root + "/usr/local/lib/prosody/modules/mod_usher.lua"); err != nil {
		t.Error(err)
	}
}

// TestReadmeProsody types the README's commands for Prosody without Jitsi, and those for a token.
func TestReadmeProsody(t *testing.T) {
	root := t.TempDir()
	for _, folder := range []string{"/src", "/etc/prosody"} {
		if err := os.MkdirAll(root+folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, root+"/etc/prosody/prosody.cfg.lua", "admins = { }\nmodules_enabled = { \"disco\"; \"saslauth\" }\nauthentication = \"internal_hashed\"\n")
	shell(t, root, root+"/src", readme(t, "You run Prosody rooms without Jitsi", "sh")[0])
	made(t, "-c", root+"/etc/usher/usher.yaml", root+"/etc/prosody/prosody.cfg.lua")

	content, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	var typed []string
	for _, m := range regexp.MustCompile("`usher (token (?:mint|explain) [^`]*)`").FindAllStringSubmatch(string(content), -1) {
		typed = append(typed, m[1])
	}
	if len(typed) != 2 {
		t.Fatal(typed)
	}
	shell(t, root, root+"/etc/usher", "TOKEN=$(usher "+typed[0]+")\nusher "+strings.Replace(typed[1], "TOKEN", "$TOKEN", 1))
}

// dockerTyped types the commands for docker-jitsi-meet, by hand, and returns the root. The stand-in for its image is testdata/vhosts/docker.
func dockerTyped(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	copied(t, "../../testdata/vhosts/docker", root+"/image")
	copied(t, "../../config/deploy", root+"/home/usher/config/deploy")
	for _, folder := range []string{"/meet", "/home/usher/bin", "/home/.jitsi-meet-cfg/prosody/config", "/home/.jitsi-meet-cfg/prosody/prosody-plugins-custom"} {
		if err := os.MkdirAll(root+folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	env, err := os.ReadFile(root + "/image/.env")
	if err != nil {
		t.Fatal(err)
	}
	write(t, root+"/meet/.env", string(env))
	typed := blocks(t, deployed, "You run docker-jitsi-meet", "sh")
	if len(typed) != 3 || !strings.Contains(typed[1], config.DockerGlobalConfig) {
		t.Fatalf("there are %d blocks", len(typed))
	}
	shell(t, root, root+"/meet", "cp "+root+"/src/bin/usher "+root+"/home/usher/bin/\n"+typed[0])
	write(t, root+"/meet/.env", string(env)+typed[1])
	shell(t, root, root+"/meet", typed[2])
	return root
}

// TestReadmeDocker checks that the commands for docker-jitsi-meet make the gate.
func TestReadmeDocker(t *testing.T) {
	root := dockerTyped(t)
	// The image copies what is mounted beside its own files, and puts GLOBAL_CONFIG before its Include.
	main, err := os.ReadFile(root + "/meet/usher/prosody/prosody.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	const include = "Include \"conf.d/*.cfg.lua\"\n"
	write(t, root+"/meet/usher/prosody/prosody.cfg.lua", strings.Replace(string(main), include, config.DockerGlobalConfig+"\n"+include, 1))
	lines, err := os.ReadFile(root + "/home/.jitsi-meet-cfg/prosody/config/usher.cfg.lua")
	if err != nil {
		t.Fatal(err)
	}
	write(t, root+"/meet/usher/prosody/usher.cfg.lua", string(lines))
	made(t, "-c", root+"/meet/.env", "-c", root+"/meet/usher/usher.yaml", root+"/meet/usher/prosody/prosody.cfg.lua")
	if _, err := os.Stat(filepath.Join(root, "/home/.jitsi-meet-cfg/prosody/prosody-plugins-custom/mod_usher.lua")); err != nil {
		t.Error(err)
	}
}

// readmePassword is what a person types who is asked for a password.
const readmePassword = "the swallows of verona"

// leads fails the test unless the portal of a configuration has juliet as the README's commands made her, and nothing keeps the web page
// from leading there.
func leads(t *testing.T, usersFile string, files ...string) {
	t.Helper()
	var args []string
	for _, f := range files {
		args = append(args, "-c", f)
	}
	r := command(t, "", append([]string{"config", "check"}, args...)...)
	if r.status != 0 || !strings.Contains(r.stdout, "https://meet.example.com") {
		t.Errorf("%+v", r)
	}
	for line := range strings.Lines(r.stdout + r.stderr) {
		if strings.Contains(line, "portal") && strings.Contains(line, "warning:") {
			t.Error(line)
		}
	}
	users, err := os.ReadFile(usersFile)
	if err != nil || !strings.Contains(string(users), "juliet") || !strings.Contains(string(users), "$argon2id$") || strings.Contains(string(users), readmePassword) {
		t.Errorf("%s, %v", users, err)
	}
	if is, err := os.Stat(usersFile); err != nil || is.Mode().Perm()&0o007 != 0 {
		t.Errorf("everybody can read the accounts: %v, %v", is, err)
	}
}

// holds fails the test unless a file has a text.
func holds(t *testing.T, file, text string) {
	t.Helper()
	if content, err := os.ReadFile(file); err != nil || !strings.Contains(string(content), text) {
		t.Errorf("%s lacks %q: %v\n%s", file, text, err, content)
	}
}

const leadsToLogin = "config.tokenAuthUrl = 'https://meet.example.com/login?state={state}&room={room}';"

// TestReadmePortalDebian types the README's commands for the portal, with Jitsi on Debian: one that verifies tokens, and one that has had
// none so far, with the lines that the README names for it.
func TestReadmePortalDebian(t *testing.T) {
	for name, tokens := range map[string]bool{"with tokens": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			copied(t, "../../testdata/vhosts/debian-guests", root+"/etc/prosody")
			copied(t, "../../config/deploy", root+"/usr/share/doc/usher/deploy")
			for _, folder := range []string{"/etc/jitsi/jicofo", "/etc/jitsi/meet/jaas", "/src"} {
				if err := os.MkdirAll(root+folder, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			write(t, root+"/etc/jitsi/jicofo/jicofo.conf", "jicofo { }\n")
			write(t, root+"/etc/jitsi/meet/meet.example.com-config.js", "var config = {};\n")
			if !tokens {
				anonymized(t, root+"/etc/prosody/conf.d/meet.example.com.cfg.lua")
			}
			shell(t, root, root+"/src", blocks(t, deployed, "You run Jitsi on Debian", "sh")[0])
			if !tokens {
				withoutTokens(t, root)
			}
			shell(t, root, root, readme(t, "Hosts log in", "sh")[0])
			leads(t, root+"/etc/usher/users.yaml", root+"/etc/usher/usher.yaml")
			holds(t, root+"/etc/jitsi/meet/meet.example.com-config.js", leadsToLogin)
			holds(t, root+"/etc/jitsi/meet/jaas/usher.conf", "http://127.0.0.1:8087;")
		})
	}
}

// anonymized makes Debian's Jitsi one that verifies no tokens: everybody is a guest.
func anonymized(t *testing.T, file string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, regexp.MustCompile(`authentication = "token"\n.*app_id.*\n.*app_secret.*`).ReplaceAllString(string(content), `authentication = "jitsi-anonymous"`))
}

// withoutTokens does what the README says of a Jitsi that has had no tokens so far, as usher itself says of a portal there.
func withoutTokens(t *testing.T, root string) {
	t.Helper()
	secret, line := tokenLines(t)
	without, _ := os.ReadFile(root + "/etc/usher/usher.yaml")
	write(t, root+"/etc/usher/without.yaml", string(without)+
		"portal: {listen: 127.0.0.1:8087, public_url: https://meet.example.com, meet_urls: [https://meet.example.com], trusted_proxies: [127.0.0.1]}\n")
	if r := command(t, "", "config", "check", "-c", root+"/etc/usher/without.yaml"); r.status != 1 || !strings.Contains(r.stderr, line) {
		t.Errorf("usher names other lines than %s: %+v", line, r)
	}
	ownTokens(t, root, secret, line)
}

// tokenLines returns the README's command that makes a secret for tokens, and the line of usher.yaml for them.
func tokenLines(t *testing.T) (secret, line string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(content), "\n## Hosts log in\n")
	command := regexp.MustCompile(`(?s)\*\*If your Jitsi has had no tokens so far\*\*.*?\x60(\(umask 027; openssl [^\x60]*)\x60`).FindStringSubmatch(section)
	vhosts, line, ok := strings.Cut(readme(t, "Hosts log in", "yaml")[0], "\n")
	line = strings.TrimSpace(line)
	if command == nil || !ok || vhosts != "vhosts:" {
		t.Fatal("the README does not say what to do without tokens")
	}
	return command[1], line
}

// ownTokens has usher make and verify tokens on a Debian where everybody was a guest.
func ownTokens(t *testing.T, root, secret, line string) {
	t.Helper()
	shell(t, root, root+"/etc/usher", secret)
	yaml, err := os.ReadFile(root + "/etc/usher/usher.yaml")
	if err != nil {
		t.Fatal(err)
	}
	write(t, root+"/etc/usher/usher.yaml", regexp.MustCompile(`(?m)^  meet\.example\.com:\n    kind: guest.*$`).ReplaceAllString(string(yaml), "  "+line))
}

// TestReadmePortalDocker types the README's commands for the portal, with docker-jitsi-meet, after those for usher.
func TestReadmePortalDocker(t *testing.T) {
	root := dockerTyped(t)
	if err := os.MkdirAll(root+"/home/.jitsi-meet-cfg/web", 0o700); err != nil {
		t.Fatal(err)
	}
	shell(t, root, root+"/meet", readme(t, "Hosts log in", "sh")[1])
	leads(t, root+"/meet/usher/users.yaml", root+"/meet/.env", root+"/meet/usher/usher.yaml")
	holds(t, root+"/home/.jitsi-meet-cfg/web/custom-config.js", leadsToLogin)
	holds(t, root+"/home/.jitsi-meet-cfg/web/nginx-custom/usher.conf", "http://usher:8087;")
}
